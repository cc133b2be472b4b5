//! A TCP connection, or one through a proxy, with a deadline of its own: Pingora knows one for both TCP and TLS, and none for what is
//! dialled here.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::net::TcpStream;

use super::tunnel::Tunnel;

#[derive(Debug)]
pub struct Dial {
    pub way: Way,
    pub within: Duration,
}

#[derive(Debug)]
pub enum Way {
    Direct(SocketAddr),
    Through(Tunnel),
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, peer: &PeerAddr) -> Result<Stream> {
        let dialled = async {
            match &self.way {
                Way::Direct(address) => TcpStream::connect(address)
                    .await
                    .map(Stream::from)
                    .or_err_with(ErrorType::ConnectError, || format!("connecting to {address}")),
                Way::Through(tunnel) => tunnel.connect(peer).await,
            }
        };
        match tokio::time::timeout(self.within, dialled).await {
            Ok(dialled) => dialled,
            Err(_) => Error::e_explain(ErrorType::ConnectTimedout, format!("no connection within {:?}", self.within)),
        }
    }
}
