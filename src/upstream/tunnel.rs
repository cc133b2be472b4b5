//! An HTTP proxy on the way to a provider: `CONNECT host:port`, then the bytes are ours (RFC 9110 9.3.6).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::Secret;
use crate::config::snapshot::ProxyServer;

/// Longest answer of a proxy to `CONNECT`.
const ANSWER_LIMIT: usize = 8 * 1024;

pub struct Tunnel {
    proxy: SocketAddr,
    authorization: Option<Secret>,
    host: Arc<str>,
    port: u16,
}

impl Tunnel {
    pub fn new(proxy: &ProxyServer, address: SocketAddr, host: &Arc<str>, port: u16) -> Self {
        Tunnel { proxy: address, authorization: proxy.authorization.clone(), host: Arc::clone(host), port }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tunnel through {}", self.proxy)
    }
}

#[async_trait]
impl L4Connect for Tunnel {
    /// Bounded by the deadline around it (`upstream::dial`).
    async fn connect(&self, _peer: &PeerAddr) -> Result<Stream> {
        let failed = ErrorType::ConnectProxyFailure;
        let mut stream =
            TcpStream::connect(self.proxy).await.or_err(ErrorType::ConnectError, "connecting to the proxy")?;
        stream.set_nodelay(true).or_err(ErrorType::SocketError, "setting TCP_NODELAY")?;
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n", port = self.port);
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization.expose());
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.or_err(failed.clone(), "writing CONNECT")?;
        // byte by byte: what follows the empty line belongs to the tunnel
        let mut answer = Vec::with_capacity(256);
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= ANSWER_LIMIT {
                return Error::e_explain(failed, "the proxy's answer is too long");
            }
            answer.push(stream.read_u8().await.or_err(failed.clone(), "reading the proxy's answer")?);
        }
        let status = answer.split(|b| *b == b' ').nth(1).unwrap_or_default();
        if !status.starts_with(b"2") || status.len() != 3 {
            let status = String::from_utf8_lossy(&status[..status.len().min(3)]).into_owned();
            return Error::e_explain(failed, format!("the proxy refused the tunnel: {status}"));
        }
        Ok(stream.into())
    }
}
