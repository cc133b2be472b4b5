//! The least that Pingora does as a gateway: one upstream, one header changed, everything else its default.
//!
//! What Tollgate costs above this is Tollgate's own; what this costs above nginx is Pingora's. Listens on `127.0.0.1:9102`.

use async_trait::async_trait;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

struct Bare;

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new("127.0.0.1:9000", false, String::new())))
    }

    async fn upstream_request_filter(&self, _: &mut Session, head: &mut RequestHeader, _: &mut ()) -> Result<()> {
        head.insert_header("authorization", "Bearer upstream-key")
    }
}

fn main() {
    let conf = ServerConf { threads: 2, upstream_keepalive_pool_size: 1024, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare);
    service.add_tcp("127.0.0.1:9102");
    server.add_service(service);
    server.run_forever();
}
