//! From a provider to peers that can be connected to.
//!
//! Host names are resolved here, never by Pingora (`HttpPeer::new` blocks on DNS and panics when it fails). An answer is used for
//! [`FRESH`] and refreshed beside the calls; when a refresh fails the last good answer stays. The SNI is never empty: Pingora would
//! skip verification (rustls connector, `VerificationMode::SkipAll`). Where a provider has several endpoints, `upstream::pool` chooses.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use http::HeaderValue;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::protocols::ALPN;
use pingora::server::configuration::ServerConf;
use pingora::tls::RootCertStore;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::Notify;

use super::attempt::{Failure, FailureKind};
use super::dial::{Dial, Way};
use super::pool::health::Checks;
use super::pool::{EndpointShown, Pool, Seat};
use super::tunnel::Tunnel;
use crate::config::snapshot::{BaseUrl, HttpVersion, Provider, Timeouts};

/// How long an answer of the resolver is used before it is asked again.
const FRESH: Duration = Duration::from_secs(30);
/// Idle connections are kept this long. Large providers close theirs after a minute or more.
const IDLE: Duration = Duration::from_secs(55);
/// Streams on one HTTP/2 connection; Pingora's default is 1.
const H2_STREAMS: usize = 100;
/// Different deadlines for which an origin's peers are kept. A configuration that goes by has a few.
const DEADLINES: usize = 16;

/// Every provider's connections.
pub struct Upstreams {
    pub(super) connector: Arc<Connector>,
    /// Of providers with one base URL, by their pool key.
    origins: DashMap<u64, Arc<Origin>>,
    /// Of those with several, by the same.
    pools: DashMap<u64, Arc<Pool>>,
    /// What is configured has changed.
    changed: Notify,
}

/// Where an attempt goes. Dropped when its answer has ended: until then it counts as a call in flight.
pub struct Place {
    pub(super) origin: Arc<Origin>,
    /// Where it is one of several endpoints.
    seat: Option<Seat>,
}

/// One host and port: its addresses, which take turns, and the peers made of them.
pub struct Origin {
    base: BaseUrl,
    /// Only what has the same shares connections.
    group: u64,
    /// An address was given, not a name: nothing to refresh.
    literal: bool,
    found: ArcSwap<Found>,
    turn: AtomicUsize,
    /// `None`: not yet.
    resolved: Mutex<Option<Instant>>,
    refreshing: AtomicBool,
}

/// An answer of the resolver.
#[derive(Default)]
struct Found {
    addresses: Vec<SocketAddr>,
    /// One for each address, by the deadlines that are set in them.
    peers: Vec<(Within, Vec<Arc<HttpPeer>>)>,
}

/// How long making a connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    /// TCP, and the answer of a proxy.
    pub connect: Duration,
    pub tls: Duration,
}

// === impl Upstreams ===

impl Upstreams {
    pub fn new(conf: &ServerConf) -> Self {
        Upstreams {
            connector: Arc::new(Connector::new(Some(ConnectorOptions::from_server_conf(conf)))),
            origins: DashMap::new(),
            pools: DashMap::new(),
            changed: Notify::new(),
        }
    }

    /// A peer of this provider and where it is, other than at the endpoints `tried`.
    pub async fn peer(
        &self,
        provider: &Arc<Provider>,
        timeouts: &Timeouts,
        tried: &[u64],
    ) -> Result<(Arc<HttpPeer>, Place), Failure> {
        let place = self.place(provider, None, tried);
        let place = place.ok_or_else(|| Failure::new(FailureKind::Connect, "no endpoint is left"))?;
        let peer = place.origin.peer(provider, Within::from(timeouts)).await.inspect_err(|why| place.failed(why))?;
        Ok((peer, place))
    }

    /// Where the next try goes. `None`: no endpoint of the pool is left beside those `tried`.
    pub(super) fn place(&self, provider: &Arc<Provider>, affinity: Option<u64>, tried: &[u64]) -> Option<Place> {
        let Some(policy) = &provider.pool else {
            let known = self.origins.get(&provider.pool_key).map(|origin| Arc::clone(&origin));
            let origin = known.unwrap_or_else(|| {
                let origin = || Arc::new(Origin::new(provider, &provider.base, provider.pool_key));
                Arc::clone(&self.origins.entry(provider.pool_key).or_insert_with(origin))
            });
            return Some(Place { origin, seat: None });
        };
        let now = Instant::now();
        let known = self.pools.get(&provider.pool_key).map(|pool| Arc::clone(&pool));
        let pool = known.unwrap_or_else(|| {
            let pool = || Arc::new(Pool::new(provider, policy, now));
            Arc::clone(&self.pools.entry(provider.pool_key).or_insert_with(pool))
        });
        let seat = pool.seat(affinity, tried, now)?;
        Some(Place { origin: Arc::clone(&seat.endpoint.origin), seat: Some(seat) })
    }

    /// What is configured from now on. What is known of providers and endpoints that are no longer is forgotten; what is known of the
    /// others stays.
    pub fn watch(&self, providers: &[Arc<Provider>]) {
        let all = || providers.iter().flat_map(|provider| std::iter::once(provider).chain(&provider.accounts));
        let pooled: HashMap<u64, bool> = all().map(|provider| (provider.pool_key, provider.pool.is_some())).collect();
        self.origins.retain(|key, _| pooled.get(key) == Some(&false));
        self.pools.retain(|key, _| pooled.get(key) == Some(&true));
        let now = Instant::now();
        for provider in all() {
            let Some(policy) = &provider.pool else { continue };
            let known = self.pools.get(&provider.pool_key).map(|pool| Arc::clone(&pool));
            match known {
                Some(pool) => pool.reshape(provider, policy, now),
                None => drop(self.pools.insert(provider.pool_key, Arc::new(Pool::new(provider, policy, now)))),
            }
        }
        self.changed.notify_one();
    }

    /// Ask the endpoints that are to be asked for their health. Once in a process; until it is dropped.
    pub async fn check_health(&self) {
        let mut checks = Checks::default();
        loop {
            checks.follow(&self.pools, &self.connector);
            tokio::select! {
                () = self.changed.notified() => {}
                () = checks.ended() => {}
            }
        }
    }

    /// The endpoints of a provider, in the order of the configuration. Empty where it has one base URL.
    pub fn shown(&self, provider: &Provider) -> Vec<EndpointShown> {
        let pool = self.pools.get(&provider.pool_key).map(|pool| Arc::clone(&pool));
        pool.map_or_else(Vec::new, |pool| pool.shown(Instant::now()))
    }
}

// === impl Place ===

impl Place {
    /// What the request says it is for (`Host`).
    pub fn authority(&self) -> &HeaderValue {
        self.origin.authority()
    }

    /// An answer began, so long after the request; `None`: that says nothing of how fast it is.
    pub fn answered(&self, status: u16, since: Option<Instant>) {
        if let Some(seat) = &self.seat {
            seat.answered(status, since.map(|since| since.elapsed()));
        }
    }

    /// No connection, no answer, or a broken one.
    pub fn failed(&self, why: &dyn fmt::Display) {
        if let Some(seat) = &self.seat {
            seat.failed(why);
        }
    }

    /// No connection came about here: whether another try may go elsewhere. `slow`: it took all its time.
    pub fn another(&self, tried: &mut Vec<u64>, slow: bool) -> bool {
        let several = !slow && self.origin.count() > 1;
        let Some(seat) = &self.seat else { return several };
        tried.push(seat.endpoint.id);
        if seat.has_beside(tried) {
            return true;
        }
        // the last one may have another address
        tried.pop();
        several
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin.name())
    }
}

// === impl Within ===

impl From<&Timeouts> for Within {
    fn from(timeouts: &Timeouts) -> Self {
        Within { connect: timeouts.connect, tls: timeouts.tls }
    }
}

impl Within {
    pub fn total(self) -> Duration {
        self.connect.saturating_add(self.tls)
    }
}

// === impl Origin ===

impl Origin {
    /// `base`: the provider's own, or one of its endpoints.
    pub fn new(provider: &Provider, base: &BaseUrl, group: u64) -> Self {
        Origin {
            base: base.clone(),
            group,
            literal: provider.proxy.is_none() && base.host.parse::<IpAddr>().is_ok(),
            found: ArcSwap::default(),
            turn: AtomicUsize::new(0),
            resolved: Mutex::new(None),
            refreshing: AtomicBool::new(false),
        }
    }

    pub fn authority(&self) -> &HeaderValue {
        &self.base.authority
    }

    /// `host:port`.
    pub fn name(&self) -> String {
        match self.base.host.contains(':') {
            true => format!("[{}]:{}", self.base.host, self.base.port),
            false => format!("{}:{}", self.base.host, self.base.port),
        }
    }

    /// How many addresses it has, so that a refused connection can be tried elsewhere.
    fn count(&self) -> usize {
        self.found.load().addresses.len()
    }

    /// A peer, addresses taking turns.
    pub async fn peer(self: &Arc<Self>, provider: &Arc<Provider>, within: Within) -> Result<Arc<HttpPeer>, Failure> {
        if self.count() == 0 {
            let answer = self.resolve(provider, within.connect).await;
            self.learn(answer, Instant::now())?;
        } else {
            self.refresh(provider, within.connect);
        }
        let found = self.found.load();
        match found.peers.iter().find(|(deadlines, _)| *deadlines == within) {
            Some((_, peers)) => self.next(peers),
            None => self.next(&self.make(provider, within)?),
        }
    }

    fn next(&self, peers: &[Arc<HttpPeer>]) -> Result<Arc<HttpPeer>, Failure> {
        let turn = if peers.len() > 1 { self.turn.fetch_add(1, Ordering::Relaxed) % peers.len() } else { 0 };
        peers.get(turn).cloned().ok_or_else(|| Failure::new(FailureKind::Connect, "no address"))
    }

    /// The peers with these deadlines, for all addresses.
    fn make(&self, provider: &Provider, within: Within) -> Result<Vec<Arc<HttpPeer>>, Failure> {
        let before = self.found.load_full();
        let authorities = match &provider.ca {
            Some(pem) => Some(authorities(pem)?),
            None => None,
        };
        let peer = |address: &SocketAddr| self.make_one(provider, *address, within, authorities.as_ref()).map(Arc::new);
        let made = before.addresses.iter().map(peer).collect::<Result<Vec<_>, _>>()?;
        let mut peers = before.peers.clone();
        if peers.len() >= DEADLINES {
            peers.clear();
        }
        peers.push((within, made.clone()));
        // a newer answer stays, and then they are made again
        self.found.compare_and_swap(&before, Arc::new(Found { addresses: before.addresses.clone(), peers }));
        Ok(made)
    }

    fn make_one(
        &self,
        provider: &Provider,
        address: SocketAddr,
        within: Within,
        authorities: Option<&Arc<[WrappedX509]>>,
    ) -> Result<HttpPeer, Failure> {
        let base = &self.base;
        if base.host.is_empty() {
            return Err(Failure::new(FailureKind::Connect, "no host name: certificates could not be verified"));
        }
        // through a tunnel the address is the proxy's business; the pool tells peers apart by `group_key`
        let target =
            if provider.proxy.is_some() { SocketAddr::from((Ipv4Addr::UNSPECIFIED, base.port)) } else { address };
        let mut peer = HttpPeer::new(target, base.tls, base.host.to_string());
        peer.group_key = self.group;
        let options = &mut peer.options;
        // Pingora takes the same for TCP and for the handshake; where they differ TCP is ours
        options.connection_timeout = Some(if base.tls { within.tls } else { within.connect });
        options.total_connection_timeout = Some(within.total());
        options.idle_timeout = Some(IDLE);
        options.max_h2_streams = H2_STREAMS;
        options.alpn = match (provider.http, base.tls) {
            (HttpVersion::Http1, _) | (HttpVersion::Auto, false) => ALPN::H1,
            (HttpVersion::Http2, _) => ALPN::H2,
            (HttpVersion::Auto, true) => ALPN::H2H1,
        };
        options.ca = authorities.cloned();
        let way = match &provider.proxy {
            Some(proxy) => Some(Way::Through(Tunnel::new(proxy, address, &base.host, base.port))),
            None if base.tls && within.tls != within.connect => Some(Way::Direct(address)),
            None => None,
        };
        if let Some(way) = way {
            options.custom_l4 = Some(Arc::new(Dial { way, within: within.connect }));
        }
        Ok(peer)
    }

    /// Ask the resolver again when the answer is old, beside the call.
    fn refresh(self: &Arc<Self>, provider: &Arc<Provider>, patience: Duration) {
        if self.literal || !self.is_due(Instant::now()) || self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (origin, provider) = (Arc::clone(self), Arc::clone(provider));
        tokio::spawn(async move {
            let answer = origin.resolve(&provider, patience).await;
            if let Err(failure) = origin.learn(answer, Instant::now()) {
                tracing::warn!("provider {}: addresses not refreshed: {failure}", provider.name);
            }
            origin.refreshing.store(false, Ordering::Release);
        });
    }

    pub fn is_due(&self, now: Instant) -> bool {
        let resolved = *self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.is_none_or(|at| now.saturating_duration_since(at) > FRESH)
    }

    /// The resolver's answer: in force from now on, or, when it failed, the one before until the next.
    pub fn learn(&self, answer: Result<Vec<SocketAddr>, Failure>, now: Instant) -> Result<(), Failure> {
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        let addresses = answer?;
        if self.found.load().addresses != addresses {
            self.found.store(Arc::new(Found { addresses, peers: Vec::new() }));
        }
        Ok(())
    }

    /// Look the host (or the proxy) up.
    async fn resolve(&self, provider: &Provider, patience: Duration) -> Result<Vec<SocketAddr>, Failure> {
        let (host, port) = match &provider.proxy {
            Some(proxy) => (&*proxy.host, proxy.port),
            None => (&*self.base.host, self.base.port),
        };
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => tokio::time::timeout(patience, tokio::net::lookup_host((host, port)))
                .await
                .map_err(|_| Failure::new(FailureKind::Connect, "the name was not resolved in time"))?
                .map_err(|e| Failure::new(FailureKind::Connect, e))?
                .collect(),
        };
        if found.is_empty() {
            return Err(Failure::new(FailureKind::Connect, "the name has no address"));
        }
        Ok(found)
    }
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
