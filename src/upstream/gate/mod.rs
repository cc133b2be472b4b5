//! The gate in front of one target (provider, credential, model): what the provider says is left of its rate limits, and the queue of those
//! who wait for more. Fair between keys by their weight, bounded in depth and time.
//!
//! What is said of limits is read in `rates.rs`, counted in `limits.rs`; what refusals mean is in `adapt.rs`; turns are in `queue.rs`;
//! `state.rs` puts them together. Here is what has a lock, a task and a future.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use tokio::sync::{Notify, oneshot};

use self::flights::Number;
use self::state::{Asked, Outcome, State};
use crate::config::policy::Admission;

mod adapt;
mod bucket;
mod flights;
mod limits;
mod queue;
mod rates;
mod state;
#[cfg(test)]
mod tests;

#[derive(Debug, Default)]
pub struct Gate {
    shared: Arc<Shared>,
}

/// Who asks to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Calls of one key share their turn.
    pub key: u64,
    /// Keys get turns in this proportion.
    pub weight: u32,
    /// Estimate of input and output.
    pub tokens: u64,
    /// The call gives up then.
    pub deadline: Instant,
}

/// Leave to call. Dropped when the answer has ended.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    /// Place in the queue when the call came, from 1; 0: it did not wait.
    pub position: u32,
    pub waited: Duration,
    number: Number,
    shared: Arc<Shared>,
}

/// No leave: the queue is full, or the wait would be longer than the call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// When it is worth asking again.
    pub retry_after: Duration,
    pub depth: u32,
}

/// What is known of a provider's limits, for status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rates {
    pub requests_limit: Option<u64>,
    pub requests_left: Option<u64>,
    pub tokens_limit: Option<u64>,
    pub tokens_left: Option<u64>,
    /// Milliseconds until what is left is whole again.
    pub reset_ms: Option<u64>,
    pub in_flight: u32,
    pub waiting: u32,
}

#[derive(Debug, Default)]
struct Shared {
    /// Changed under the lock once `bound`, so that nobody takes a place twice.
    in_flight: AtomicU32,
    /// Something holds calls back, or may: the lock is taken. While it is not, a call passes without.
    bound: AtomicBool,
    state: Mutex<State>,
    /// The keeper of time must look again.
    bell: Notify,
}

/// One who stands in the queue. Dropped, it leaves it and passes its turn on.
struct Waiter {
    shared: Arc<Shared>,
    key: u64,
    tokens: u64,
    id: u64,
    position: u32,
    since: Instant,
    told: oneshot::Receiver<Outcome>,
    done: bool,
}

/// Sees to it that a keeper of time that is ended from outside is known to be gone.
struct Keeper {
    shared: Arc<Shared>,
    done: bool,
}

// === impl Gate ===

impl Gate {
    /// Wait for a turn.
    pub async fn enter(&self, admission: &Admission, claim: Claim) -> Result<Ticket, Full> {
        if !holds(admission) && !self.shared.bound.load(Ordering::Acquire) {
            self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
            return Ok(Ticket::new(&self.shared, 0, 0, Duration::ZERO));
        }
        match self.shared.ask(admission, claim) {
            Ok(found) => found,
            Err((waiter, until)) => waiter.wait(until).await,
        }
    }

    /// How long a call of so many tokens would wait if it came now, roughly. Zero: it would not.
    pub fn wait(&self, admission: &Admission, tokens: u64, now: Instant) -> Duration {
        if !holds(admission) && !self.shared.bound.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let in_flight = self.shared.in_flight.load(Ordering::Relaxed);
        self.shared.lock().wait(admission, tokens, in_flight, now)
    }

    /// What a reply says of the limits: its header section, and the wait a refusal asked for. Where the ticket is at hand, `Ticket::learn` is
    /// more exact: it knows which call is answered.
    pub fn learn(&self, headers: &HeaderMap, status: u16, retry_after: Option<Duration>, now: Instant) {
        self.shared.learn(headers, status, retry_after, None, now);
    }

    pub fn rates(&self, now: Instant) -> Rates {
        let in_flight = self.shared.in_flight.load(Ordering::Relaxed);
        let mut rates = Rates { in_flight, ..Rates::default() };
        self.shared.lock().show(&mut rates, now);
        rates
    }
}

/// Whether the configuration alone holds calls back.
fn holds(admission: &Admission) -> bool {
    admission.rpm.is_some() || admission.tpm.is_some() || admission.concurrency.is_some()
}

/// The clock of the timers, which tests can hold.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

// === impl Ticket ===

impl Ticket {
    fn new(shared: &Arc<Shared>, number: Number, position: u32, waited: Duration) -> Self {
        Ticket { position, waited, number, shared: Arc::clone(shared) }
    }

    /// What the reply to this very call says of the limits.
    pub fn learn(&self, headers: &HeaderMap, status: u16, retry_after: Option<Duration>, now: Instant) {
        self.shared.learn(headers, status, retry_after, Some(self.number), now);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.number == 0 && !self.shared.bound.load(Ordering::Acquire) {
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let now = clock();
        let mut state = self.shared.lock();
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        state.ended(self.number, now);
        self.shared.turns(&mut state, now);
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(self: &Arc<Self>, admission: &Admission, claim: Claim) -> Result<Result<Ticket, Full>, (Waiter, Instant)> {
        let now = clock();
        let mut state = self.lock();
        let asked = self.counted(|in_flight| state.ask(admission, &claim, in_flight, now));
        let (id, position, until, told) = match asked {
            Asked::Go(number) => return Ok(Ok(Ticket::new(self, number, 0, Duration::ZERO))),
            Asked::No(full) => return Ok(Err(full)),
            Asked::Wait { id, position, until, told } => (id, position, until, told),
        };
        self.bound.store(true, Ordering::Release);
        self.turns(&mut state, now);
        if state.keeper.is_none() && state.waiting() > 0 {
            state.keeper = Some(Some(now));
            drop(state);
            tokio::spawn(keep_time(Keeper { shared: Arc::clone(self), done: false }));
        }
        let (key, tokens, shared) = (claim.key, claim.tokens, Arc::clone(self));
        Err((Waiter { shared, key, tokens, id, position, since: now, told, done: false }, until))
    }

    fn learn(
        &self,
        headers: &HeaderMap,
        status: u16,
        retry_after: Option<Duration>,
        number: Option<Number>,
        now: Instant,
    ) {
        let said = rates::read(headers);
        let mut state = self.lock();
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        state.learn(&said, status, retry_after, number, in_flight, now);
        if !self.bound.load(Ordering::Relaxed) && !state.is_open() {
            state.flights.begin_with(in_flight.saturating_sub(1), now);
            self.bound.store(true, Ordering::Release);
        }
        self.turns(&mut state, now);
    }

    /// Let go whose turn has come, and ring for the keeper of time if it would look too late, or need not look any more.
    fn turns(&self, state: &mut State, now: Instant) {
        if state.waiting() == 0 && state.keeper.is_none() {
            return;
        }
        let next = self.counted(|in_flight| state.turns(in_flight, now));
        let Some(planned) = state.keeper else { return };
        let sooner = next.is_some_and(|next| planned.is_none_or(|planned| next < planned));
        if sooner || state.waiting() == 0 {
            self.bell.notify_one();
        }
    }

    /// Run what changes the count of calls under way; only under the lock.
    fn counted<T>(&self, run: impl FnOnce(&mut u32) -> T) -> T {
        let before = self.in_flight.load(Ordering::Relaxed);
        let mut after = before;
        let result = run(&mut after);
        if after > before {
            self.in_flight.fetch_add(after - before, Ordering::Relaxed);
        } else if after < before {
            self.in_flight.fetch_sub(before - after, Ordering::Relaxed);
        }
        result
    }
}

/// Looks when time alone lets somebody go. Runs as long as somebody waits.
async fn keep_time(mut keeper: Keeper) {
    let shared = Arc::clone(&keeper.shared);
    loop {
        let next = {
            let now = clock();
            let mut state = shared.lock();
            let next = shared.counted(|in_flight| state.turns(in_flight, now));
            if state.waiting() == 0 {
                state.keeper = None;
                keeper.done = true;
                return;
            }
            state.keeper = Some(next);
            next
        };
        match next {
            Some(at) => {
                let _ = tokio::time::timeout_at(at.into(), shared.bell.notified()).await;
            }
            None => shared.bell.notified().await,
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if !self.done {
            self.shared.lock().keeper = None;
        }
    }
}

// === impl Waiter ===

impl Waiter {
    async fn wait(mut self, until: Instant) -> Result<Ticket, Full> {
        let outcome = match tokio::time::timeout_at(until.into(), &mut self.told).await {
            Ok(told) => told.ok(),
            Err(_elapsed) => None,
        };
        match outcome.or_else(|| self.give_up()) {
            Some(Ok(number)) => {
                self.done = true;
                let waited = clock().saturating_duration_since(self.since);
                Ok(Ticket::new(&self.shared, number, self.position, waited))
            }
            Some(Err(full)) => {
                self.done = true;
                Err(full)
            }
            None => {
                let in_flight = self.shared.in_flight.load(Ordering::Relaxed);
                Err(self.shared.lock().behind(self.tokens, in_flight, clock()))
            }
        }
    }

    /// Leave the queue; what came meanwhile, if something did.
    fn give_up(&mut self) -> Option<Outcome> {
        let now = clock();
        let mut state = self.shared.lock();
        self.done = true;
        if state.leave(self.key, self.id) {
            self.shared.turns(&mut state, now);
            return None;
        }
        self.told.try_recv().ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(Ok(number)) = self.give_up() {
            let now = clock();
            let mut state = self.shared.lock();
            self.shared.counted(|in_flight| state.unused(number, self.tokens, in_flight, now));
            self.shared.turns(&mut state, now);
        }
    }
}
