//! Client connections: how many, how old, how slow.
//!
//! Pingora's read timeout is per read and HTTP/2 has none, so a client that drips one byte a second holds its slot for ever. Here every
//! connection has a state and an absolute deadline; a sweeper ends those that overstay. On the data path that is one store per request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dashmap::DashMap;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::sync::Notify;

use super::proxy::{Gateway, Shared};

/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(100);

/// All open client connections of the data port.
#[derive(Debug)]
pub struct Connections {
    epoch: Instant,
    open: AtomicUsize,
    by_peer: DashMap<SocketAddr, Arc<Connection>, ahash::RandomState>,
    by_address: DashMap<IpAddr, AtomicUsize, ahash::RandomState>,
    /// Calls being answered, over all connections.
    calls: AtomicI64,
    draining: AtomicBool,
    handing_over: AtomicBool,
}

/// One client connection.
#[derive(Debug)]
pub struct Connection {
    /// Milliseconds since the epoch at which it is ended; `u64::MAX` while a request is being answered.
    deadline: AtomicU64,
    opened: Instant,
    /// Requests being answered: one on HTTP/1, many on HTTP/2.
    active: AtomicU32,
    expired: Notify,
}

/// The door in front of Pingora's proxy: counts connections, waits for the first byte, ends what overstays.
pub struct Door {
    proxy: Arc<HttpProxy<Gateway>>,
    shared: Arc<Shared>,
}

/// Takes a connection off the books when it ends, however it ends.
struct Entry<'a> {
    connections: &'a Connections,
    shared: &'a Shared,
    peer: SocketAddr,
}

// === impl Connections ===

impl Connections {
    pub fn new() -> Self {
        Connections {
            epoch: Instant::now(),
            open: AtomicUsize::new(0),
            by_peer: DashMap::default(),
            by_address: DashMap::default(),
            calls: AtomicI64::new(0),
            draining: AtomicBool::new(false),
            handing_over: AtomicBool::new(false),
        }
    }

    /// Calls being answered now.
    pub fn calls(&self) -> i64 {
        self.calls.load(Ordering::Acquire)
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// From now on each connection is closed after its current answer.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The listeners go to another process, which takes the new connections.
    pub fn hand_over(&self) {
        self.handing_over.store(true, Ordering::Release);
        self.drain();
    }

    pub fn handing_over(&self) -> bool {
        self.handing_over.load(Ordering::Acquire)
    }

    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn after(&self, wait: Duration) -> u64 {
        self.now().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    /// A request has come in whole up to its body. Returns the connection, to be told when the answer is out.
    pub fn begin(&self, peer: Option<SocketAddr>) -> Option<Arc<Connection>> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        let connection = peer.and_then(|p| self.by_peer.get(&p).map(|c| Arc::clone(&c)))?;
        connection.active.fetch_add(1, Ordering::AcqRel);
        connection.deadline.store(u64::MAX, Ordering::Release);
        Some(connection)
    }

    /// The answer is out: the next request is due within `idle`.
    pub fn end(&self, connection: Option<&Connection>, idle: Duration) {
        self.calls.fetch_sub(1, Ordering::AcqRel);
        let Some(connection) = connection else { return };
        if connection.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            connection.deadline.store(self.after(idle), Ordering::Release);
        }
    }

    /// End connections whose deadline has passed, for ever.
    pub async fn sweep(&self) {
        let mut tick = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = self.now();
            for connection in &self.by_peer {
                if connection.deadline.load(Ordering::Acquire) <= now {
                    connection.expired.notify_one();
                }
            }
        }
    }

    fn enter(&self, peer: SocketAddr, connection: &Arc<Connection>) {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.by_address.entry(peer.ip()).or_default().fetch_add(1, Ordering::AcqRel);
        self.by_peer.insert(peer, Arc::clone(connection));
    }

    fn open_from(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).map_or(0, |n| n.load(Ordering::Acquire))
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Connection ===

impl Connection {
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.connections.by_peer.remove(&self.peer);
        self.connections.open.fetch_sub(1, Ordering::AcqRel);
        self.shared.metrics.connections_open.dec();
        self.connections.by_address.remove_if(&self.peer.ip(), |_, n| n.fetch_sub(1, Ordering::AcqRel) == 1);
    }
}

// === impl Door ===

impl Door {
    pub fn new(proxy: HttpProxy<Gateway>, shared: Arc<Shared>) -> Self {
        Door { proxy: Arc::new(proxy), shared }
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let snapshot = self.shared.live.load();
        let server = &snapshot.server;
        let connections = &self.shared.connections;
        let peer = stream.get_socket_digest().and_then(|d| d.peer_addr().and_then(|a| a.as_inet().copied()));
        let Some(peer) = peer else { return self.proxy.process_new(stream, shutdown).await };

        let limit = if connections.open() >= server.connections {
            Some("connections")
        } else if connections.open_from(peer.ip()) >= server.connections_per_address {
            Some("connections_per_address")
        } else {
            None
        };
        if let Some(limit) = limit {
            self.shared.metrics.limited.with_label_values(&[limit]).inc();
            return None;
        }
        let connection = Arc::new(Connection {
            deadline: AtomicU64::new(connections.after(server.first_byte_timeout)),
            opened: Instant::now(),
            active: AtomicU32::new(0),
            expired: Notify::new(),
        });
        connections.enter(peer, &connection);
        self.shared.metrics.connections_open.inc();
        let _entry = Entry { connections, shared: &self.shared, peer };

        let serve = async {
            // One byte, then put back: TLS and some test streams cannot, and then the header deadline serves for both.
            stream.try_peek(&mut [0u8; 1]).await.ok()?;
            let due = connections.after(server.header_timeout);
            // a request may already have begun on another task (HTTP/2)
            let first = connection.deadline.load(Ordering::Acquire);
            let _ = connection.deadline.compare_exchange(first, due, Ordering::AcqRel, Ordering::Acquire);
            self.proxy.process_new(stream, shutdown).await
        };
        tokio::select! {
            biased;
            ended = serve => ended,
            () = connection.expired.notified() => None,
        }
    }

    async fn cleanup(&self) {
        self.proxy.cleanup().await;
    }
}
