//! What is known of each target (provider, credential, model) from the calls it had: load, speed, failures. Kept by identity, so that a
//! reload changes nothing of it.
//!
//! It owns the numbers, their decay, their bound (at most [`LIMIT`] targets: a client can name endless ones), and the log line of a
//! breaker that opens or closes. It does not choose a target (`route`), and does not judge an answer (`gateway`).

mod sanitise;
mod speed;
mod tracks;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::speed::Speed;
pub use self::tracks::{LIMIT, Tracks};
use super::breaker::window::Window;
use super::breaker::{Breaker, Change, Era, Leave, Phase, Verdict};
use super::gate::{Gate, Rates};
use super::retry::Budget;
use crate::config::policy::BreakerPolicy;

/// Over which the error rate is taken.
const LATELY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Track {
    /// Of the target, the same over reloads.
    pub id: u64,
    /// For status: provider, account, model.
    pub name: Name,
    pub breaker: Breaker,
    pub gate: Gate,
    /// Tries at it that follow one it failed.
    pub retries: Budget,
    in_flight: AtomicU32,
    /// Of those, the ones that have not heard anything yet.
    waiting: AtomicU32,
    calls: AtomicU64,
    failures: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// When a try last began or ended.
    used: Instant,
    speed: Speed,
    ended: Window,
    last_error: Option<LastError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub provider: Box<str>,
    /// Which of the provider's credentials, from 0.
    pub account: usize,
    pub model: Arc<str>,
}

/// Sanitised: holds no secret and no content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    pub at: jiff::Timestamp,
    /// At most 300 characters on one line.
    pub what: Box<str>,
}

/// One try under way. Dropped without a word it counts as cancelled.
#[derive(Debug)]
pub struct Flight {
    pub track: Arc<Track>,
    policy: BreakerPolicy,
    leave: Leave,
    era: Era,
    pub begun: Instant,
    waiting: AtomicBool,
    measured: AtomicBool,
    told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    /// And it may still fail: an answer can break on its way.
    Success,
    End,
}

/// A target as status shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    pub provider: Box<str>,
    pub account: usize,
    pub model: Arc<str>,
    /// `closed`, `half_open`, `open`.
    pub state: &'static str,
    /// Milliseconds until calls are let through again: it is open, or the provider asked to be left alone.
    pub reopens_in_ms: Option<u64>,
    pub in_flight: u32,
    pub calls: u64,
    pub failures: u64,
    /// Share of the tries that failed within the last minute, 0 to 1. `None`: there were none.
    pub error_rate: Option<f64>,
    pub first_token_ms: FirstToken,
    pub last_error: Option<LastError>,
    pub rates: Rates,
}

/// Milliseconds. `None`: not known, or not any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FirstToken {
    pub mean: Option<u64>,
    pub p95: Option<u64>,
}

// === impl Track ===

impl Track {
    fn new(id: u64, name: Name, now: Instant) -> Self {
        let mut ended = Window::new(now);
        ended.widen(LATELY);
        Track {
            id,
            name,
            breaker: Breaker::default(),
            gate: Gate::default(),
            retries: Budget::default(),
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            seen: Mutex::new(Seen { used: now, speed: Speed::default(), ended, last_error: None }),
        }
    }

    /// Begin a try if the breaker lets it; `Err`: how long it does not. Nothing is left behind when the flight is dropped.
    pub fn admit(self: &Arc<Self>, policy: &BreakerPolicy, now: Instant) -> Result<Flight, Duration> {
        let leave = self.breaker.admit(policy, now)?;
        Ok(self.begin(*policy, leave, now))
    }

    /// Begin a try, with the breaker's leave, right after it was given. `Leave::Pass` without one: a forced call, which an open breaker
    /// does not hear.
    pub fn begin(self: &Arc<Self>, policy: BreakerPolicy, leave: Leave, now: Instant) -> Flight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.seen().used = now;
        Flight {
            track: Arc::clone(self),
            policy,
            leave,
            era: self.breaker.era(),
            begun: now,
            waiting: AtomicBool::new(true),
            measured: AtomicBool::new(false),
            told: Told::Nothing,
        }
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

    /// Time to first token (of a whole answer: to its header section), as an exponentially weighted mean. It fades when no call comes:
    /// see [`speed`].
    pub fn first_token(&self) -> Option<Duration> {
        self.first_token_at(Instant::now())
    }

    pub fn first_token_at(&self, now: Instant) -> Option<Duration> {
        // a call under way asks anew how fast it is: until it knows, the old value stands, lest all calls follow it
        let waiting = self.waiting.load(Ordering::Relaxed) > 0;
        let seen = self.seen();
        let idle = if waiting { Duration::ZERO } else { now.saturating_duration_since(seen.used) };
        seen.speed.mean(idle)
    }

    /// The 95th percentile of the same, once enough are known.
    pub fn first_token_p95(&self) -> Option<Duration> {
        self.first_token_p95_at(Instant::now())
    }

    pub fn first_token_p95_at(&self, now: Instant) -> Option<Duration> {
        self.seen().speed.percentile(0.95, now)
    }

    /// Share of the tries that failed within the last minute, 0 to 1. `None`: there were none.
    pub fn error_rate(&self, now: Instant) -> Option<f64> {
        let seen = self.seen().ended.sum(now, LATELY);
        // a try may succeed in one minute and break in the next
        let calls = seen.calls.max(seen.failures);
        (calls > 0).then(|| seen.failures as f64 / calls as f64)
    }

    pub fn last_error(&self) -> Option<LastError> {
        self.seen().last_error.clone()
    }

    pub fn shown(&self, now: Instant) -> Shown {
        let (phase, left) = self.breaker.phase(now);
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Shown {
            provider: self.name.provider.clone(),
            account: self.name.account,
            model: Arc::clone(&self.name.model),
            state: phase.label(),
            reopens_in_ms: Some(left).filter(|left| !left.is_zero()).map(|left| millis(left).max(1)),
            in_flight: self.in_flight(),
            calls: self.calls(),
            failures: self.failures(),
            error_rate: self.error_rate(now).map(|rate| (rate * 1000.0).round() / 1000.0),
            first_token_ms: FirstToken {
                mean: self.first_token_at(now).map(millis),
                p95: self.first_token_p95_at(now).map(millis),
            },
            last_error: self.last_error(),
            rates: self.gate.rates(now),
        }
    }

    /// How long ago a try last began or ended.
    pub fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.used())
    }

    fn used(&self) -> Instant {
        self.seen().used
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, change: Change, policy: &BreakerPolicy) {
        let Name { provider, account, model } = &self.name;
        match change.to {
            Phase::Closed => tracing::info!(%provider, account, %model, "breaker closed: the target answers again"),
            Phase::HalfOpen => {}
            // each cooldown while a target is down: told once
            Phase::Open if change.from == Phase::HalfOpen => {
                tracing::debug!(%provider, account, %model, "breaker opened anew: the probe failed");
            }
            Phase::Open => {
                let last = self.last_error();
                let error = last.as_ref().map_or("", |last| &*last.what);
                let cooldown_ms = u64::try_from(policy.cooldown.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(%provider, account, %model, cooldown_ms, error, "breaker opened: the target is left alone");
            }
        }
    }
}

// === impl Flight ===

impl Flight {
    /// One of the few calls that find out whether the target works again.
    pub fn is_probe(&self) -> bool {
        self.leave == Leave::Probe
    }

    /// The first output has come. What is said of it a second time is not heard.
    pub fn first_token(&self, after: Duration) {
        self.heard(after, Instant::now());
    }

    /// The try worked: said once its answer has begun. Returned: what it did to the breaker, already logged.
    pub fn succeeded(&mut self) -> Option<Change> {
        self.tell(Verdict::Success, "", Instant::now())
    }

    /// It failed, and the caller is not to blame. `what` is kept for status, sanitised. Also after it `succeeded`: its answer broke off.
    pub fn failed(&mut self, what: &str) -> Option<Change> {
        self.tell(Verdict::Failure, what, Instant::now())
    }

    /// It says nothing of the target: the caller's fault, or the caller left.
    pub fn neutral(&mut self) {
        self.tell(Verdict::Neutral, "", Instant::now());
    }

    fn heard(&self, after: Duration, now: Instant) {
        self.wait_is_over();
        if !self.measured.swap(true, Ordering::Relaxed) {
            let mut seen = self.track.seen();
            seen.used = now;
            seen.speed.add(after, now);
        }
    }

    fn tell(&mut self, verdict: Verdict, what: &str, now: Instant) -> Option<Change> {
        let (leave, calls) = match (self.told, verdict) {
            (Told::Nothing, _) => (self.leave, 1),
            // its leave was given back when it succeeded
            (Told::Success, Verdict::Failure) => (Leave::Pass, 0),
            (Told::Success | Told::End, _) => return None,
        };
        self.told = if verdict == Verdict::Success { Told::Success } else { Told::End };
        self.wait_is_over();
        self.note(verdict, calls, what, now);
        let change = self.track.breaker.record_since(self.era, &self.policy, leave, verdict, now)?;
        self.track.log(change, &self.policy);
        Some(change)
    }

    fn note(&self, verdict: Verdict, calls: u32, what: &str, now: Instant) {
        let error = (verdict == Verdict::Failure).then(|| {
            self.track.failures.fetch_add(1, Ordering::Relaxed);
            LastError { at: jiff::Timestamp::now(), what: sanitise::clean(what) }
        });
        let mut seen = self.track.seen();
        seen.used = seen.used.max(now);
        if verdict != Verdict::Neutral {
            seen.ended.add(now, calls, u32::from(error.is_some()));
        }
        if verdict != Verdict::Success && !self.measured.load(Ordering::Relaxed) {
            seen.speed.at_least(now.saturating_duration_since(self.begun), now);
        }
        if error.is_some() {
            seen.last_error = error;
        }
    }

    fn wait_is_over(&self) {
        if self.waiting.swap(false, Ordering::Relaxed) {
            self.track.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.neutral();
        self.track.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
