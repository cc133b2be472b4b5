//! The circuit breaker of one target (provider, credential, model): a state machine that is told the time.
//!
//! Closed until `failures` in a row (or a share of failures within a window), then open for `cooldown`, then half open: so many probes at
//! once, whose successes close it and whose failure opens it anew. A cooldown that the provider asked for (`Retry-After`) refuses calls
//! without being a failure.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::policy::BreakerPolicy;

#[derive(Debug, Default)]
pub struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    probing: u32,
    cool_until: Option<Instant>,
}

/// What a breaker shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Closed,
    HalfOpen,
    Open,
}

/// Leave to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    Pass,
    /// One of the few calls that find out whether it works again.
    Probe,
}

/// How a try ended, for the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Success,
    Failure,
    /// Says nothing of the target: the caller's own fault, or the caller left.
    Neutral,
}

// === impl Breaker ===

impl Breaker {
    /// Whether a call may be tried now; `Err`: how long it may not. A `Leave` that was given must be followed by one `record`.
    pub fn admit(&self, policy: &BreakerPolicy, now: Instant) -> Result<Leave, Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = state.cool_until.filter(|until| *until > now) {
            return Err(until - now);
        }
        match state.open_until {
            None => Ok(Leave::Pass),
            Some(until) if until > now => Err(until - now),
            Some(_) if state.probing < policy.probes => {
                state.probing += 1;
                Ok(Leave::Probe)
            }
            Some(_) => Err(Duration::from_secs(1)),
        }
    }

    pub fn record(&self, policy: &BreakerPolicy, leave: Leave, verdict: Verdict, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if leave == Leave::Probe {
            state.probing = state.probing.saturating_sub(1);
        }
        match verdict {
            Verdict::Success => {
                state.failures = 0;
                state.open_until = None;
            }
            Verdict::Failure => {
                state.failures += 1;
                if leave == Leave::Probe || (policy.failures > 0 && state.failures >= policy.failures) {
                    state.open_until = Some(now + policy.cooldown);
                }
            }
            Verdict::Neutral => {}
        }
    }

    /// The provider asked to be left alone.
    pub fn cool_down(&self, until: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.cool_until = state.cool_until.max(Some(until));
    }

    /// What it shows, and how long it refuses. Changes nothing.
    pub fn phase(&self, now: Instant) -> (Phase, Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let cooling = state.cool_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        match state.open_until {
            None => (Phase::Closed, cooling),
            Some(until) if until > now => (Phase::Open, cooling.max(until - now)),
            Some(_) => (Phase::HalfOpen, cooling),
        }
    }
}

impl Phase {
    /// Log field, metric label, status.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Closed => "closed",
            Phase::HalfOpen => "half_open",
            Phase::Open => "open",
        }
    }
}
