//! From a provider to peers that can be connected to.
//!
//! Host names are resolved here, never by Pingora (`HttpPeer::new` blocks on DNS and panics when it fails). An answer is used for
//! [`FRESH`] and refreshed beside the calls; when a refresh fails the last good answer stays. The SNI is never empty: Pingora would
//! skip verification (rustls connector, `VerificationMode::SkipAll`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::protocols::ALPN;
use pingora::server::configuration::ServerConf;
use pingora::tls::RootCertStore;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::attempt::{Failure, FailureKind};
use super::tunnel::Tunnel;
use crate::config::snapshot::{HttpVersion, Provider};

/// How long an answer of the resolver is used before it is asked again.
const FRESH: Duration = Duration::from_secs(30);
/// Idle connections are kept this long. Large providers close theirs after a minute or more.
const IDLE: Duration = Duration::from_secs(55);
/// An upstream that stops reading our request.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams on one HTTP/2 connection; Pingora's default is 1.
const H2_STREAMS: usize = 100;

/// Every provider's connections.
pub struct Upstreams {
    pub(super) connector: Connector,
    endpoints: DashMap<(u64, Duration), Arc<Endpoint>>,
}

/// The addresses of one provider.
struct Endpoint {
    peers: ArcSwap<Vec<Arc<HttpPeer>>>,
    next: AtomicUsize,
    /// `None`: an address was given, nothing to refresh.
    resolved: Option<Mutex<Instant>>,
    refreshing: AtomicBool,
}

// === impl Upstreams ===

impl Upstreams {
    pub fn new(conf: &ServerConf) -> Self {
        Upstreams {
            connector: Connector::new(Some(ConnectorOptions::from_server_conf(conf))),
            endpoints: DashMap::new(),
        }
    }

    /// A peer of this provider, addresses taking turns.
    pub async fn peer(&self, provider: &Arc<Provider>, connect: Duration) -> Result<Arc<HttpPeer>, Failure> {
        let key = (provider.pool_key, connect);
        let known = self.endpoints.get(&key).map(|e| Arc::clone(&e));
        let endpoint = match known {
            Some(endpoint) => endpoint,
            None => {
                let peers = resolve(provider, connect).await?;
                let literal = provider.proxy.is_none() && provider.base.host.parse::<IpAddr>().is_ok();
                let endpoint = Arc::new(Endpoint {
                    peers: ArcSwap::from_pointee(peers),
                    next: AtomicUsize::new(0),
                    resolved: (!literal).then(|| Mutex::new(Instant::now())),
                    refreshing: AtomicBool::new(false),
                });
                self.endpoints.insert(key, Arc::clone(&endpoint));
                endpoint
            }
        };
        endpoint.refresh(provider, connect);
        let peers = endpoint.peers.load();
        let turn = if peers.len() > 1 { endpoint.next.fetch_add(1, Ordering::Relaxed) % peers.len() } else { 0 };
        peers.get(turn).cloned().ok_or_else(|| Failure::new(FailureKind::Connect, "no address"))
    }

    /// Forget the addresses of providers that are no longer configured.
    pub fn retain(&self, providers: &[Arc<Provider>]) {
        self.endpoints.retain(|(key, _), _| providers.iter().any(|p| p.pool_key == *key));
    }

    /// How many addresses a provider has, so that a refused connection can be tried elsewhere.
    pub fn addresses(&self, provider: &Provider, connect: Duration) -> usize {
        self.endpoints.get(&(provider.pool_key, connect)).map_or(1, |e| e.peers.load().len())
    }
}

impl Endpoint {
    /// Ask the resolver again when the answer is old, beside the call.
    fn refresh(self: &Arc<Self>, provider: &Arc<Provider>, connect: Duration) {
        let Some(resolved) = &self.resolved else { return };
        let due = resolved.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > FRESH;
        if !due || self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (endpoint, provider) = (Arc::clone(self), Arc::clone(provider));
        tokio::spawn(async move {
            match resolve(&provider, connect).await {
                Ok(peers) => endpoint.peers.store(Arc::new(peers)),
                Err(failure) => tracing::warn!("provider {}: addresses not refreshed: {failure}", provider.name),
            }
            if let Some(resolved) = &endpoint.resolved {
                *resolved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            endpoint.refreshing.store(false, Ordering::Release);
        });
    }
}

/// Look the provider (or its proxy) up and make its peers.
async fn resolve(provider: &Arc<Provider>, connect: Duration) -> Result<Vec<Arc<HttpPeer>>, Failure> {
    let base = &provider.base;
    let (host, port) = match &provider.proxy {
        Some(proxy) => (&*proxy.host, proxy.port),
        None => (&*base.host, base.port),
    };
    let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => tokio::time::timeout(connect, tokio::net::lookup_host((host, port)))
            .await
            .map_err(|_| Failure::new(FailureKind::Connect, "the name was not resolved in time"))?
            .map_err(|e| Failure::new(FailureKind::Connect, e))?
            .collect(),
    };
    if found.is_empty() {
        return Err(Failure::new(FailureKind::Connect, "the name has no address"));
    }
    let authorities = match &provider.ca {
        Some(pem) => Some(authorities(pem)?),
        None => None,
    };
    found.into_iter().map(|address| peer(provider, address, connect, authorities.as_ref()).map(Arc::new)).collect()
}

fn peer(
    provider: &Provider,
    address: SocketAddr,
    connect: Duration,
    authorities: Option<&Arc<[WrappedX509]>>,
) -> Result<HttpPeer, Failure> {
    let base = &provider.base;
    if base.host.is_empty() {
        return Err(Failure::new(FailureKind::Connect, "no host name: certificates could not be verified"));
    }
    // through a tunnel the address is the proxy's business; the pool tells peers apart by `group_key`
    let target = if provider.proxy.is_some() { SocketAddr::from((Ipv4Addr::UNSPECIFIED, base.port)) } else { address };
    let mut peer = HttpPeer::new(target, base.tls, base.host.to_string());
    peer.group_key = provider.pool_key;
    let options = &mut peer.options;
    options.connection_timeout = Some(connect);
    options.total_connection_timeout = Some(connect * 2);
    options.write_timeout = Some(WRITE_TIMEOUT);
    options.idle_timeout = Some(IDLE);
    options.max_h2_streams = H2_STREAMS;
    options.alpn = match (provider.http, base.tls) {
        (HttpVersion::Http1, _) | (HttpVersion::Auto, false) => ALPN::H1,
        (HttpVersion::Http2, _) => ALPN::H2,
        (HttpVersion::Auto, true) => ALPN::H2H1,
    };
    options.ca = authorities.cloned();
    if let Some(proxy) = &provider.proxy {
        options.custom_l4 = Some(Arc::new(Tunnel::new(proxy, address, &base.host, base.port)));
    }
    Ok(peer)
}

/// A PEM bundle as Pingora wants it. Each certificate is parsed by rustls first: Pingora's own parser panics on a bad one.
fn authorities(pem: &[u8]) -> Result<Arc<[WrappedX509]>, Failure> {
    let broken = |e: &dyn std::fmt::Display| Failure::new(FailureKind::Connect, format!("the CA file is broken: {e}"));
    let mut store = RootCertStore::empty();
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| broken(&e))?;
        store.add(certificate.clone()).map_err(|e| broken(&e))?;
        certificates.push(WrappedX509::new(certificate.to_vec(), parse_x509));
    }
    if certificates.is_empty() {
        return Err(Failure::new(FailureKind::Connect, "the CA file holds no certificate"));
    }
    Ok(certificates.into())
}
