//! Counters that replicas share, in Redis or Valkey (7 or later; one server, Sentinel or Cluster).
//!
//! **Leases.** A replica takes credit in slices and admits from them without asking (`lease.rs`); a call waits for one round trip only when the slice
//! is used up, and [`Settings::patience`] at most. What is granted, settled and given back is judged by atomic scripts on the server, by its time
//! (`lua/`); near a ceiling a slice is a single hold. One task talks to the server (`worker.rs`); calls ring, and wait for the answer.
//!
//! **Outages.** An error or an answer that is late takes the server out at once: calls follow their rule's `on_outage` and do not wait, until a
//! write of the worker's has gone through again (`connection.rs` has the pauses in between). Read-only, out of memory, loading, slow: all the same.
//!
//! **Lost data.** A server that lost its memory is known by a marker. It gives out no money for [`Settings::quarantine`], so that all replicas can tell what
//! they know; what one of them knew of and nobody tells counts as spent.

pub mod connection;
pub mod lease;
mod script;
#[cfg(test)]
mod tests;
pub mod worker;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Notify, mpsc};

use self::connection::Target;
use self::lease::Link;
use super::clock::Now;
use super::counter::Counter;
use crate::config::Secret;

pub use self::connection::NoUrl;

/// Lanes of a cluster: each is in one slot, and so on one server. A lane whose server is out does not hold up the others.
const LANES: usize = 32;

#[derive(Debug, Clone)]
pub struct Settings {
    /// `redis://`, `rediss://`, `redis+cluster://a:1,b:2`, `redis+sentinel://a:1,b:2/MASTER`; see [`Target::parse`].
    pub url: Secret,
    /// The longest that a call waits for the server.
    pub patience: Duration,
    /// So many replicas there are at least: for their share of a limit before they have found each other.
    pub replicas: u32,
    /// How long a server that has lost its memory waits for what the replicas know.
    pub quarantine: Duration,
    /// In front of every name on the server.
    pub prefix: String,
}

/// What calls and the worker share.
#[derive(Debug)]
pub struct Shared {
    settings: Settings,
    target: Target,
    /// This replica, drawn anew by each process.
    me: String,
    lanes: Box<[Lane]>,
    /// Counters that want to be looked at.
    ring: mpsc::UnboundedSender<Arc<Counter>>,
    rings: Mutex<Option<mpsc::UnboundedReceiver<Arc<Counter>>>>,
}

#[derive(Debug)]
struct Lane {
    up: AtomicBool,
    replicas: AtomicI64,
    /// As the server last said: when it is another, it has lost its memory.
    generation: Mutex<Option<String>>,
}

/// What a shared counter has beside its count.
#[derive(Debug)]
pub struct Line {
    /// Its name on the server, without the period.
    name: Box<str>,
    lane: usize,
    /// Rings when the server has answered, or has not.
    bell: Notify,
    /// The worker has it on its list.
    listed: AtomicBool,
    /// It is on its way to the worker: at most once.
    ringing: AtomicBool,
}

// === impl Settings ===

impl Settings {
    pub fn new(url: Secret) -> Self {
        Settings {
            url,
            patience: Duration::from_millis(50),
            replicas: 1,
            quarantine: Duration::from_secs(2),
            prefix: "tollgate".to_owned(),
        }
    }
}

// === impl Shared ===

impl Shared {
    pub fn new(settings: Settings) -> Result<Self, NoUrl> {
        let target = Target::parse(settings.url.expose())?;
        let lanes = if target.is_cluster() { LANES } else { 1 };
        let lane = || Lane { up: AtomicBool::new(false), replicas: AtomicI64::new(1), generation: Mutex::new(None) };
        let (ring, rings) = mpsc::unbounded_channel();
        Ok(Shared {
            target,
            me: format!("{:016x}", getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))),
            lanes: (0..lanes).map(|_| lane()).collect(),
            settings,
            ring,
            rings: Mutex::new(Some(rings)),
        })
    }

    /// Whether all of it can be reached.
    pub fn is_up(&self) -> bool {
        self.lanes.iter().all(|lane| lane.up.load(Ordering::Acquire))
    }

    /// Where a counter is on the server: the same for all replicas.
    pub fn line(&self, rule: u64, subject: &str) -> Box<Line> {
        let digest = Sha256::digest(format!("{rule:016x}{subject}").as_bytes());
        let name = hex::encode(digest.get(..16).unwrap_or_default());
        let first = digest.first().copied().unwrap_or_default();
        let lane = usize::from(first) % self.lanes.len().max(1);
        Box::new(Line {
            name: name.into(),
            lane,
            bell: Notify::new(),
            listed: AtomicBool::new(false),
            ringing: AtomicBool::new(false),
        })
    }

    pub fn link(&self, line: &Line) -> Link {
        let least = i64::from(self.settings.replicas);
        self.lanes.get(line.lane).map_or(lease::NOBODY, |lane| Link {
            up: lane.up.load(Ordering::Acquire),
            replicas: lane.replicas.load(Ordering::Relaxed).max(least),
        })
    }

    /// The worker hears of a counter that is new to it, or has little left.
    pub fn changed(&self, counter: &Arc<Counter>, now: Now) {
        let Some(line) = &counter.line else { return };
        let low = || counter.with_lease(|rule, lease| lease.is_low(rule, now)).unwrap_or(false);
        if !line.listed.load(Ordering::Acquire) || low() {
            self.ring(counter);
        }
    }

    pub fn ring(&self, counter: &Arc<Counter>) {
        if let Some(line) = &counter.line
            && !line.ringing.swap(true, Ordering::AcqRel)
        {
            // without a worker nobody listens, and nobody is up
            let _ = self.ring.send(Arc::clone(counter));
        }
    }

    /// The hash that all counters of a lane share.
    fn mark(&self, lane: usize) -> String {
        format!("{{{}:{lane}}}:replicas", self.settings.prefix)
    }

    fn name(&self, line: &Line, period: i64) -> String {
        let Line { name, lane, .. } = line;
        let prefix = &self.settings.prefix;
        if period == 0 {
            format!("{{{prefix}:{lane}}}:{name}")
        } else {
            format!("{{{prefix}:{lane}}}:{name}:{}", period / 1_000_000)
        }
    }
}

// === impl Line ===

impl Line {
    pub fn bell(&self) -> &Notify {
        &self.bell
    }

    /// Off the worker's list.
    pub fn unlist(&self) {
        self.listed.store(false, Ordering::Release);
    }
}
