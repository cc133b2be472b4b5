//! What is known of each target (provider, credential, model) from the calls it had: load, speed, failures. Kept by identity, so that a
//! reload changes nothing of it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::breaker::{Breaker, Leave, Verdict};
use super::gate::Gate;
use super::retry::Budget;
use crate::config::policy::BreakerPolicy;

/// Every target that has been asked.
#[derive(Debug, Default)]
pub struct Tracks(DashMap<u64, Arc<Track>, ahash::RandomState>);

#[derive(Debug)]
pub struct Track {
    /// For status: provider, account, model.
    pub name: Name,
    pub breaker: Breaker,
    pub gate: Gate,
    /// Tries at it that follow one it failed.
    pub retries: Budget,
    in_flight: AtomicU32,
    calls: AtomicU64,
    failures: AtomicU64,
    /// Nanoseconds; 0: none yet.
    first_token: AtomicU64,
    last_error: Mutex<Option<LastError>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub provider: Box<str>,
    /// Which of the provider's credentials, from 0.
    pub account: usize,
    pub model: Arc<str>,
}

/// Sanitised: holds no secret and no content.
#[derive(Debug, Clone)]
pub struct LastError {
    pub at: jiff::Timestamp,
    pub what: Box<str>,
}

/// One try under way. Dropped without a word it counts as cancelled.
#[derive(Debug)]
pub struct Flight {
    pub track: Arc<Track>,
    policy: BreakerPolicy,
    leave: Leave,
    pub begun: Instant,
    told: bool,
}

// === impl Tracks ===

impl Tracks {
    pub fn of(&self, id: u64, name: impl FnOnce() -> Name) -> Arc<Track> {
        if let Some(track) = self.0.get(&id) {
            return Arc::clone(&track);
        }
        Arc::clone(&self.0.entry(id).or_insert_with(|| Arc::new(Track::new(name()))))
    }

    /// Of a target that has been asked before.
    pub fn get(&self, id: u64) -> Option<Arc<Track>> {
        self.0.get(&id).map(|track| Arc::clone(&track))
    }

    pub fn all(&self) -> Vec<Arc<Track>> {
        self.0.iter().map(|entry| Arc::clone(&entry)).collect()
    }
}

// === impl Track ===

impl Track {
    fn new(name: Name) -> Self {
        Track {
            name,
            breaker: Breaker::default(),
            gate: Gate::default(),
            retries: Budget::default(),
            in_flight: AtomicU32::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            first_token: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    /// Begin a try, with the breaker's leave.
    pub fn begin(self: &Arc<Self>, policy: BreakerPolicy, leave: Leave, now: Instant) -> Flight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        Flight { track: Arc::clone(self), policy, leave, begun: now, told: false }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Time to first token (of a whole answer: to its header section), as an exponentially weighted mean.
    pub fn first_token(&self) -> Option<Duration> {
        match self.first_token.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// The 95th percentile of the same, once enough are known.
    pub fn first_token_p95(&self) -> Option<Duration> {
        None
    }

    pub fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl Flight ===

impl Flight {
    /// The first output has come.
    pub fn first_token(&self, after: Duration) {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX).max(1);
        let before = self.track.first_token.load(Ordering::Relaxed);
        let mean = if before == 0 { nanos } else { before - before / 8 + nanos / 8 };
        self.track.first_token.store(mean, Ordering::Relaxed);
    }

    /// The try worked: said once its answer has begun.
    pub fn succeeded(&mut self) {
        self.tell(Verdict::Success);
    }

    /// It failed. `what` is kept for status; `ours`: the caller is not to blame.
    pub fn failed(&mut self, what: &str) {
        self.track.failures.fetch_add(1, Ordering::Relaxed);
        let error = LastError { at: jiff::Timestamp::now(), what: what.into() };
        *self.track.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.tell(Verdict::Failure);
    }

    /// It says nothing of the target: the caller's fault, or the caller left.
    pub fn neutral(&mut self) {
        self.tell(Verdict::Neutral);
    }

    fn tell(&mut self, verdict: Verdict) {
        if !std::mem::replace(&mut self.told, true) {
            self.track.breaker.record(&self.policy, self.leave, verdict, Instant::now());
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.tell(Verdict::Neutral);
        self.track.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
