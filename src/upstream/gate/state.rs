//! What one gate knows and decides, told the time: the limits, the refusals, what is under way and who waits. No lock and no task of its own.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::adapt::{Adapt, Refused};
use super::bucket::seconds;
use super::flights::{Flights, MOST_TOKENS, Number};
use super::limits::{Limits, Load};
use super::queue::{Place, Queue, USUAL};
use super::rates::Said;
use super::{Claim, Full, Rates};
use crate::config::policy::Admission;

/// Said with a refusal when nothing tells how long it will be.
const UNKNOWN: Duration = Duration::from_secs(1);

/// How a wait ended.
pub type Outcome = Result<Number, Full>;

#[derive(Debug, Default)]
pub struct State {
    limits: Limits,
    adapt: Adapt,
    pub flights: Flights,
    queue: Queue<oneshot::Sender<Outcome>>,
    admission: Option<Admission>,
    /// How long a call holds its place, in seconds, as a mean; 0: not known.
    held: f64,
    /// Tokens of a call, as a mean.
    usual: f64,
    /// The keeper of time runs, and will look again then (`None`: when it is told to).
    pub keeper: Option<Option<Instant>>,
}

/// What becomes of a claim.
#[derive(Debug)]
pub enum Asked {
    Go(Number),
    Wait { id: u64, position: u32, until: Instant, told: oneshot::Receiver<Outcome> },
    No(Full),
}

/// When the one whose turn it is may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Now,
    In(Duration),
    /// When another call ends.
    Place,
}

// === impl State ===

impl State {
    pub fn ask(&mut self, admission: &Admission, claim: &Claim, in_flight: &mut u32, now: Instant) -> Asked {
        self.configure(admission, now);
        let tokens = claim.tokens.min(MOST_TOKENS);
        self.usual = if self.usual > 0.0 { self.usual * 0.95 + tokens as f64 * 0.05 } else { tokens as f64 };
        if self.queue.is_empty() && self.turn(tokens, *in_flight, now) == Turn::Now {
            return Asked::Go(self.go(tokens, in_flight, now));
        }
        let ahead = self.queue.ahead(claim.key, claim.weight);
        let wait = self.estimate(ahead, tokens, *in_flight, now);
        let budget = admission.timeout.min(claim.deadline.saturating_duration_since(now));
        if wait > budget || admission.depth == 0 || budget.is_zero() {
            return Asked::No(self.full(wait));
        }
        match self.queue.place(claim.key, claim.weight, admission.depth, now) {
            Place::Free => {}
            Place::Of(other) => {
                let behind = self.estimate(self.queue.load(), other.tokens, *in_flight, now);
                // who has left meanwhile need not know
                let _ = other.waiter.send(Err(self.full(behind)));
            }
            Place::None => return Asked::No(self.full(wait)),
        }
        let (tell, told) = oneshot::channel();
        let cost = self.cost(tokens, now);
        let id = self.queue.push(claim.key, claim.weight, tokens, cost, tell, now);
        let position = u32::try_from(ahead.calls + 1).unwrap_or(u32::MAX);
        Asked::Wait { id, position, until: now + budget.min(Duration::from_secs(24 * 3600)), told }
    }

    /// Let all go whose turn has come. When to look again; `None`: when something happens, or never, with nobody waiting.
    pub fn turns(&mut self, in_flight: &mut u32, now: Instant) -> Option<Instant> {
        while let Some(tokens) = self.queue.next_tokens() {
            match self.turn(tokens, *in_flight, now) {
                Turn::Now => {
                    let Some(next) = self.queue.pop() else { break };
                    let number = self.go(tokens, in_flight, now);
                    if next.waiter.send(Ok(number)).is_err() {
                        self.unused(number, tokens, in_flight, now);
                    }
                }
                Turn::In(wait) => return Some(now + wait),
                Turn::Place => return None,
            }
        }
        None
    }

    /// Leave the queue. False: it was left already, with an outcome.
    pub fn leave(&mut self, key: u64, id: u64) -> bool {
        self.queue.remove(key, id).is_some()
    }

    /// A turn that was given and not taken.
    pub fn unused(&mut self, number: Number, tokens: u64, in_flight: &mut u32, now: Instant) {
        self.limits.give(tokens.min(MOST_TOKENS), now);
        self.adapt.give(now);
        self.flights.end(number, now);
        *in_flight = in_flight.saturating_sub(1);
    }

    pub fn ended(&mut self, number: Number, now: Instant) {
        if let Some(lasted) = self.flights.end(number, now) {
            let lasted = lasted.as_secs_f64();
            self.held = if self.held > 0.0 { self.held * 0.9 + lasted * 0.1 } else { lasted };
        }
    }

    pub fn learn(
        &mut self,
        said: &[Said],
        status: u16,
        retry_after: Option<Duration>,
        number: Option<Number>,
        in_flight: u32,
        now: Instant,
    ) {
        let refused = matches!(status, 429 | 503 | 529);
        let (number, asked) = self.flights.answered(number, now);
        let explained = self.limits.hear(said, &asked, refused, now);
        if refused {
            let next = self.flights.next();
            self.adapt.refused(Refused { status, number, explained, retry_after, in_flight, next }, now);
        } else if (200..400).contains(&status) {
            self.adapt.succeeded(number, now);
        }
    }

    /// What a call would wait that came now and stood behind all who wait.
    pub fn wait(&mut self, admission: &Admission, tokens: u64, in_flight: u32, now: Instant) -> Duration {
        self.configure(admission, now);
        self.estimate(self.queue.load(), tokens.min(MOST_TOKENS), in_flight, now)
    }

    /// Whether there is nothing to be held to, and nobody who waits.
    pub fn is_open(&self) -> bool {
        self.limits.is_empty() && self.adapt.is_empty() && self.queue.is_empty()
    }

    pub fn waiting(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    pub fn show(&self, rates: &mut Rates, now: Instant) {
        self.limits.show(rates, now);
        rates.waiting = self.waiting();
    }

    pub fn full(&self, wait: Duration) -> Full {
        Full { retry_after: if wait.is_zero() { UNKNOWN } else { wait }, depth: self.waiting() }
    }

    /// Behind all who wait: for one that has waited in vain.
    pub fn behind(&self, tokens: u64, in_flight: u32, now: Instant) -> Full {
        self.full(self.estimate(self.queue.load(), tokens, in_flight, now))
    }

    fn configure(&mut self, admission: &Admission, now: Instant) {
        if self.admission.as_ref() != Some(admission) {
            self.limits.configure(admission, now);
            self.admission = Some(*admission);
        }
    }

    fn go(&mut self, tokens: u64, in_flight: &mut u32, now: Instant) -> Number {
        self.limits.take(tokens, now);
        self.adapt.take(now);
        *in_flight += 1;
        self.flights.begin(tokens, now)
    }

    fn turn(&mut self, tokens: u64, in_flight: u32, now: Instant) -> Turn {
        if self.places().is_some_and(|places| in_flight >= places) {
            self.adapt.crowded(now);
            return Turn::Place;
        }
        let wait = self.adapt.hold(now).max(self.limits.wait(Load::default(), tokens, now));
        if wait.is_zero() { Turn::Now } else { Turn::In(wait) }
    }

    fn estimate(&self, ahead: Load, tokens: u64, in_flight: u32, now: Instant) -> Duration {
        let rates = self.adapt.wait(ahead.calls, now).max(self.limits.wait(ahead, tokens, now));
        let Some(places) = self.places() else { return rates };
        let free = u64::from(places.saturating_sub(in_flight));
        let before = (ahead.calls + 1).saturating_sub(free) as f64;
        // the calls under way have been so for a while: the next of them ends in half the time
        rates.max(seconds((before - 0.5).max(0.0) * self.held / f64::from(places)))
    }

    /// Calls at once: what is configured, or less where that is refused.
    fn places(&self) -> Option<u32> {
        let configured = self.admission.and_then(|admission| admission.concurrency);
        match (configured, self.adapt.room()) {
            (Some(configured), Some(found)) => Some(configured.min(found)),
            (one, other) => one.or(other),
        }
    }

    /// Of a turn: as many as the call is large where tokens are what runs out, else all alike.
    fn cost(&self, tokens: u64, now: Instant) -> u64 {
        if self.usual < 1.0 || !self.limits.bound_by_tokens(self.usual, now) {
            return USUAL;
        }
        let times = (tokens as f64 / self.usual).clamp(0.01, 100.0);
        ((USUAL as f64 * times) as u64).max(1)
    }
}
