//! What is known of one endpoint of a pool, kept over reloads: calls in flight, how fast it answers, whether it is well. It is told the
//! time, and a clock is looked at nowhere but in [`Endpoint::shown`].

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::policy::{Ejection, Health};
use crate::upstream::peers::Origin;
use crate::upstream::track::LastError;

/// An endpoint that is asked nothing forgets how slow it was: half of it in this time, two thirds in twice of it.
const FORGET: Duration = Duration::from_secs(10);
/// Repeated ejections last longer, up to so many times as long.
const LONGEST: u32 = 10;
/// Thousandths of its weight that an endpoint begins with.
const FIRST_SHARE: u64 = 100;
pub const WHOLE_SHARE: u32 = 1000;
/// What is kept of an error.
const ERROR_LENGTH: usize = 200;

pub struct Endpoint {
    /// The same in every generation of the configuration; connections are kept apart by it.
    pub id: u64,
    /// What keys are hashed with: the same in every process.
    pub key: u64,
    pub origin: Arc<Origin>,
    pub credit: AtomicI64,
    /// Times below are nanoseconds since then, and 0 is never.
    epoch: Instant,
    in_flight: AtomicU32,
    /// Nanoseconds from a request to the header section of its answer, as an exponentially weighted mean; 0: not known.
    latency: AtomicU64,
    /// Since when nothing is in flight.
    idle_since: AtomicU64,
    /// In a row.
    failures: AtomicU32,
    ejections: AtomicU32,
    ejected_at: AtomicU64,
    ejected_until: AtomicU64,
    /// Since when its share grows.
    grows_from: AtomicU64,
    health: AtomicU8,
    notes: Mutex<Notes>,
}

struct Notes {
    /// Checks of its health in a row.
    good: u32,
    bad: u32,
    health_since: u64,
    last_error: Option<LastError>,
}

/// What an endpoint shows.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct EndpointShown {
    /// `host:port`.
    pub endpoint: String,
    pub state: Condition,
    pub in_flight: u32,
    /// Milliseconds from a request to the header section of its answer, as a mean. `None`: not known.
    pub ewma_ms: Option<u64>,
    /// How long it is still left out. Zero: it is not.
    pub ejected_for_ms: u64,
    pub last_error: Option<String>,
    pub last_error_at: Option<jiff::Timestamp>,
    /// When it came into this state.
    pub since: jiff::Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    Healthy,
    /// By its health checks.
    Unhealthy,
    /// For what calls met there.
    Ejected,
    /// No check has told yet; it is used.
    Unknown,
}

impl Condition {
    /// The word in status.
    pub fn label(self) -> &'static str {
        match self {
            Condition::Healthy => "healthy",
            Condition::Unhealthy => "unhealthy",
            Condition::Ejected => "ejected",
            Condition::Unknown => "unknown",
        }
    }
}

const UNKNOWN: u8 = 0;
const HEALTHY: u8 = 1;
const UNHEALTHY: u8 = 2;

/// A change that is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Out,
    Back,
}

// === impl Endpoint ===

impl Endpoint {
    pub fn new(id: u64, key: u64, origin: Arc<Origin>, now: Instant) -> Self {
        Endpoint {
            id,
            key,
            origin,
            credit: AtomicI64::new(0),
            epoch: now,
            in_flight: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            idle_since: AtomicU64::new(1),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_at: AtomicU64::new(0),
            ejected_until: AtomicU64::new(0),
            grows_from: AtomicU64::new(0),
            health: AtomicU8::new(UNKNOWN),
            notes: Mutex::new(Notes { good: 0, bad: 0, health_since: 1, last_error: None }),
        }
    }

    // --- load and speed ---

    pub fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub fn leave(&self, now: Instant) {
        if self.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.idle_since.store(self.at(now), Ordering::Relaxed);
        }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Milliseconds. Long idle it looks faster and faster, until it is tried again.
    pub fn latency(&self, now: Instant) -> Option<f64> {
        let mean = self.latency.load(Ordering::Relaxed);
        if mean == 0 {
            return None;
        }
        let mean = mean as f64 / 1e6;
        if self.in_flight() > 0 {
            return Some(mean);
        }
        let idle = self.at(now).saturating_sub(self.idle_since.load(Ordering::Relaxed));
        Some(mean / (1.0 + idle as f64 / FORGET.as_nanos() as f64))
    }

    /// A call was answered.
    pub fn succeeded(&self, took: Option<Duration>) {
        self.failures.store(0, Ordering::Relaxed);
        if let Some(took) = took {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
            let before = self.latency.load(Ordering::Relaxed);
            let mean = if before == 0 { nanos } else { before - before / 8 + nanos / 8 };
            self.latency.store(mean.max(1), Ordering::Relaxed);
        }
    }

    // --- ejection ---

    /// A call failed here: how many in a row now.
    pub fn failed(&self, why: &str) -> u32 {
        let at = jiff::Timestamp::now();
        self.notes().last_error = Some(LastError { at, what: cut(why).into() });
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    pub fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > self.at(now)
    }

    /// Leave it out for a while, longer each time. Whoever calls makes sure that nobody else does at once.
    pub fn eject(&self, policy: &Ejection, now: Instant) -> Duration {
        let at = self.at(now);
        let base = u64::try_from(policy.time.as_nanos()).unwrap_or(u64::MAX).max(1);
        // one ejection is forgiven for each such time that it did well
        let well = at.saturating_sub(self.ejected_until.load(Ordering::Relaxed)) / base;
        let before = self.ejections.load(Ordering::Relaxed);
        let count = before.saturating_sub(u32::try_from(well).unwrap_or(u32::MAX)).saturating_add(1).min(LONGEST);
        let time = base.saturating_mul(u64::from(count));
        let until = at.saturating_add(time);
        self.ejections.store(count, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.ejected_at.store(at, Ordering::Relaxed);
        // its share grows from the moment it is back
        self.grows_from.store(until, Ordering::Relaxed);
        self.ejected_until.store(until, Ordering::Relaxed);
        Duration::from_nanos(time)
    }

    // --- health ---

    pub fn is_unhealthy(&self) -> bool {
        self.health.load(Ordering::Relaxed) == UNHEALTHY
    }

    /// What a check found.
    pub fn checked(&self, policy: &Health, found: Result<(), &str>, now: Instant) -> Option<Turn> {
        let before = self.health.load(Ordering::Relaxed);
        let mut notes = self.notes();
        match found {
            Ok(()) => {
                notes.bad = 0;
                notes.good = notes.good.saturating_add(1);
                if before == HEALTHY || notes.good < policy.healthy {
                    return None;
                }
                notes.health_since = self.at(now);
                self.health.store(HEALTHY, Ordering::Relaxed);
                if before == UNKNOWN {
                    return None;
                }
                self.grow(now);
                self.failures.store(0, Ordering::Relaxed);
                Some(Turn::Back)
            }
            Err(why) => {
                notes.good = 0;
                notes.bad = notes.bad.saturating_add(1);
                let what = format!("health check: {}", cut(why));
                notes.last_error = Some(LastError { at: jiff::Timestamp::now(), what: what.into() });
                if before == UNHEALTHY || notes.bad < policy.unhealthy {
                    return None;
                }
                notes.health_since = self.at(now);
                self.health.store(UNHEALTHY, Ordering::Relaxed);
                Some(Turn::Out)
            }
        }
    }

    /// Nobody asks for its health any more: what was found counts no longer.
    pub fn forget_health(&self, now: Instant) {
        if self.health.swap(UNKNOWN, Ordering::Relaxed) != UNKNOWN {
            let since = self.at(now);
            let mut notes = self.notes();
            (notes.good, notes.bad, notes.health_since) = (0, 0, since);
        }
    }

    // --- share ---

    /// Its share grows from now on.
    pub fn grow(&self, now: Instant) {
        self.grows_from.store(self.at(now), Ordering::Relaxed);
    }

    /// Thousandths of its weight.
    pub fn share(&self, slow_start: Duration, now: Instant) -> u32 {
        let from = self.grows_from.load(Ordering::Relaxed);
        let whole = u64::try_from(slow_start.as_nanos()).unwrap_or(u64::MAX);
        if from == 0 || whole == 0 {
            return WHOLE_SHARE;
        }
        let elapsed = self.at(now).saturating_sub(from).min(whole);
        let rest = u64::from(WHOLE_SHARE) - FIRST_SHARE;
        let grown = u128::from(rest) * u128::from(elapsed) / u128::from(whole);
        (FIRST_SHARE + u64::try_from(grown).unwrap_or(rest)) as u32
    }

    /// Neither checks nor calls have put it out.
    pub fn is_usable(&self, now: Instant) -> bool {
        !self.is_unhealthy() && !self.is_ejected(now)
    }

    pub fn shown(&self, now: Instant) -> EndpointShown {
        let at = self.at(now);
        let until = self.ejected_until.load(Ordering::Relaxed);
        let notes = self.notes();
        let (state, since) = match self.health.load(Ordering::Relaxed) {
            UNHEALTHY => (Condition::Unhealthy, notes.health_since),
            _ if until > at => (Condition::Ejected, self.ejected_at.load(Ordering::Relaxed)),
            // from the end of an ejection on it is what it was before
            HEALTHY => (Condition::Healthy, notes.health_since.max(until)),
            _ => (Condition::Unknown, notes.health_since.max(until)),
        };
        let ago = Duration::from_nanos(at.saturating_sub(since));
        let now_on_the_wall = jiff::Timestamp::now();
        EndpointShown {
            endpoint: self.origin.name(),
            state,
            in_flight: self.in_flight(),
            ewma_ms: match self.latency.load(Ordering::Relaxed) {
                0 => None,
                nanos => Some(nanos / 1_000_000),
            },
            ejected_for_ms: until.saturating_sub(at) / 1_000_000,
            last_error: notes.last_error.as_ref().map(|error| error.what.to_string()),
            last_error_at: notes.last_error.as_ref().map(|error| error.at),
            since: now_on_the_wall.checked_sub(ago).unwrap_or(now_on_the_wall),
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never 0.
    fn at(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(ERROR_LENGTH).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
