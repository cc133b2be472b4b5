//! The circuit breaker of one target (provider, credential, model): a state machine that is told the time.
//!
//! Closed until `failures` in a row, or a share of failures within a window; then open for `cooldown`; then half open: so many probes at
//! once, whose successes close it and whose failure opens it anew. A cooldown that the provider asked for (`Retry-After`) refuses calls
//! without being a failure, and ends by itself.
//!
//! - The state is shared by all who call the target, the thresholds are the caller's own. A policy that never opens a breaker is not
//!   refused by an open one either: whoever switches the breaker off means it.
//! - A try counts in the [`Era`] in which it began. The breaker opens, a probe works, it closes, and only then a try from before fails: that
//!   says nothing of the target as it is now, and is not counted. It gives its place back, if it was a probe, and no more.
//! - Only a failure opens it. A success that brings the calls of the window up to the policy's minimum does not.
//! - While it is not closed only probes count: what a forced call meets is not heard.
//!
//! It knows no clock, logs nothing and counts nothing: [`Breaker::record`] returns the change, and `upstream::track` tells of it.

pub(super) mod window;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::window::Window;
use crate::config::policy::BreakerPolicy;

/// When all probes are out, nobody knows for how long. It is worth asking again after this.
const PROBING: Duration = Duration::from_secs(1);
/// The longest time it stays open: an `Instant` further away may not exist.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

#[derive(Debug, Default)]
pub struct Breaker {
    /// Not set: closed, no failure in a row, not cooling down, nothing counted. Then most calls need no lock. Written under the lock.
    wary: AtomicBool,
    /// Counts the changes of state. Written under the lock.
    era: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stance: Stance,
    /// Probes under way, from this era or an earlier one.
    probing: u32,
    cool_until: Option<Instant>,
    /// Made by the first call whose policy wants it, gone with the next change of state.
    window: Option<Box<Window>>,
}

#[derive(Debug, Clone, Copy)]
enum Stance {
    Closed {
        /// In a row.
        failures: u32,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        /// Of probes, in a row.
        successes: u32,
    },
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

/// The time between two changes of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Era(u32);

/// A verdict changed the state: it opened, opened anew, or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub from: Phase,
    pub to: Phase,
}

// === impl Breaker ===

impl Breaker {
    /// Whether a call may be tried now; `Err`: how long it may not. A `Leave` that was given must be followed by one `record`:
    /// `Track::admit` sees to it.
    pub fn admit(&self, policy: &BreakerPolicy, now: Instant) -> Result<Leave, Duration> {
        if !self.wary.load(Ordering::Acquire) {
            return Ok(Leave::Pass);
        }
        let mut state = self.lock();
        if let Some(left) = state.refuses(policy, now) {
            return Err(left);
        }
        state.cool_until = None;
        let leave = match state.stance {
            Stance::Closed { .. } => Leave::Pass,
            _ if never_opens(policy) => Leave::Pass,
            Stance::Open { .. } => {
                self.turn(&mut state, Stance::HalfOpen { successes: 0 });
                Leave::Probe
            }
            Stance::HalfOpen { .. } => Leave::Probe,
        };
        if leave == Leave::Probe {
            state.probing += 1;
        }
        self.note(&state);
        Ok(leave)
    }

    /// How long a call that came now would be refused. Changes nothing.
    pub fn refuses(&self, policy: &BreakerPolicy, now: Instant) -> Option<Duration> {
        if !self.wary.load(Ordering::Acquire) {
            return None;
        }
        self.lock().refuses(policy, now)
    }

    /// The era of a try that begins now.
    pub fn era(&self) -> Era {
        Era(self.era.load(Ordering::Acquire))
    }

    /// The end of a try that began in this era: one that ended as it began. See [`Breaker::record_since`].
    pub fn record(&self, policy: &BreakerPolicy, leave: Leave, verdict: Verdict, now: Instant) -> Option<Change> {
        self.record_since(self.era(), policy, leave, verdict, now)
    }

    /// The end of a try that began in `era`.
    pub fn record_since(
        &self,
        era: Era,
        policy: &BreakerPolicy,
        leave: Leave,
        verdict: Verdict,
        now: Instant,
    ) -> Option<Change> {
        if leave == Leave::Pass && !self.matters(policy, verdict) {
            return None;
        }
        let mut state = self.lock();
        if leave == Leave::Probe {
            state.probing = state.probing.saturating_sub(1);
        }
        if era != self.era() {
            return None;
        }
        let (from, next) = match (state.stance, leave) {
            (Stance::Closed { failures }, Leave::Pass) => (Phase::Closed, state.hear(policy, failures, verdict, now)),
            (Stance::HalfOpen { successes }, Leave::Probe) => {
                (Phase::HalfOpen, probed(policy, successes, verdict, now))
            }
            (Stance::Closed { .. } | Stance::Open { .. } | Stance::HalfOpen { .. }, _) => return None,
        };
        let change = match (from, next) {
            (_, Stance::Open { .. }) => Some(Change { from, to: Phase::Open }),
            (Phase::HalfOpen, Stance::Closed { .. }) => Some(Change { from, to: Phase::Closed }),
            _ => None,
        };
        match change {
            Some(_) => self.turn(&mut state, next),
            None => state.stance = next,
        }
        self.note(&state);
        change
    }

    /// The provider asked to be left alone.
    pub fn cool_down(&self, until: Instant) {
        let mut state = self.lock();
        state.cool_until = state.cool_until.max(Some(until));
        self.note(&state);
    }

    /// What it shows, and how long it refuses. Changes nothing.
    pub fn phase(&self, now: Instant) -> (Phase, Duration) {
        if !self.wary.load(Ordering::Acquire) {
            return (Phase::Closed, Duration::ZERO);
        }
        let state = self.lock();
        let cooling = state.cooling(now);
        match state.stance {
            Stance::Closed { .. } => (Phase::Closed, cooling),
            Stance::Open { until } if until > now => (Phase::Open, cooling.max(until - now)),
            Stance::Open { .. } | Stance::HalfOpen { .. } => (Phase::HalfOpen, cooling),
        }
    }

    /// Whether the verdict on a call that was no probe can change anything.
    fn matters(&self, policy: &BreakerPolicy, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Failure => true,
            Verdict::Success => policy.rate.is_some() || self.wary.load(Ordering::Acquire),
            Verdict::Neutral => false,
        }
    }

    /// A new era begins: what was counted in the last one is forgotten.
    fn turn(&self, state: &mut State, stance: Stance) {
        state.stance = stance;
        state.window = None;
        self.era.fetch_add(1, Ordering::AcqRel);
    }

    fn note(&self, state: &State) {
        let calm = matches!(state.stance, Stance::Closed { failures: 0 });
        let wary = !calm || state.cool_until.is_some() || state.window.is_some();
        self.wary.store(wary, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn cooling(&self, now: Instant) -> Duration {
        self.cool_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    fn refuses(&self, policy: &BreakerPolicy, now: Instant) -> Option<Duration> {
        let open = match self.stance {
            Stance::Closed { .. } => Duration::ZERO,
            _ if never_opens(policy) => Duration::ZERO,
            Stance::Open { until } if until > now => until - now,
            Stance::Open { .. } | Stance::HalfOpen { .. } if self.probing >= policy.probes.max(1) => PROBING,
            Stance::Open { .. } | Stance::HalfOpen { .. } => Duration::ZERO,
        };
        Some(open.max(self.cooling(now))).filter(|left| !left.is_zero())
    }

    /// A verdict while closed, after so many failures in a row.
    fn hear(&mut self, policy: &BreakerPolicy, failures: u32, verdict: Verdict, now: Instant) -> Stance {
        let failed = match verdict {
            Verdict::Success => false,
            Verdict::Failure => true,
            Verdict::Neutral => return Stance::Closed { failures },
        };
        if policy.rate.is_some() && self.window.is_none() {
            self.window = Some(Box::new(Window::new(now)));
        }
        if let Some(window) = &mut self.window {
            if let Some(rate) = &policy.rate {
                window.widen(rate.window);
            }
            window.add(now, 1, u32::from(failed));
        }
        if !failed {
            return Stance::Closed { failures: 0 };
        }
        let failures = failures.saturating_add(1);
        let too_many = policy.failures > 0 && failures >= policy.failures;
        match too_many || self.too_large_a_share(policy, now) {
            true => opened(policy, now),
            false => Stance::Closed { failures },
        }
    }

    fn too_large_a_share(&self, policy: &BreakerPolicy, now: Instant) -> bool {
        let (Some(rate), Some(window)) = (&policy.rate, &self.window) else { return false };
        let seen = window.sum(now, rate.window);
        seen.calls >= u64::from(rate.minimum) && seen.failures * 100 >= seen.calls * u64::from(rate.percent)
    }
}

impl Default for Stance {
    fn default() -> Self {
        Stance::Closed { failures: 0 }
    }
}

/// The verdict of a probe, after so many successes of others.
fn probed(policy: &BreakerPolicy, successes: u32, verdict: Verdict, now: Instant) -> Stance {
    match verdict {
        Verdict::Success if successes.saturating_add(1) >= policy.probes => Stance::Closed { failures: 0 },
        Verdict::Success => Stance::HalfOpen { successes: successes + 1 },
        Verdict::Failure if !never_opens(policy) => opened(policy, now),
        Verdict::Failure | Verdict::Neutral => Stance::HalfOpen { successes },
    }
}

fn opened(policy: &BreakerPolicy, now: Instant) -> Stance {
    Stance::Open { until: now + policy.cooldown.min(LONGEST) }
}

fn never_opens(policy: &BreakerPolicy) -> bool {
    policy.failures == 0 && policy.rate.is_none()
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

#[cfg(test)]
mod tests;
