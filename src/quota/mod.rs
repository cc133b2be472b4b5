//! Limits and budgets: what is used, and whether there is enough for one more.
//!
//! **Hold, then settle.** Before a call begins it takes a request, its estimate of tokens and a place among the calls at once (`admit_call`);
//! before each attempt the worst case of its cost is put aside in every budget that pays for it (`admit_attempt`). All of it or nothing. When the real
//! numbers are known they take the place of what was held. So a ceiling holds whatever runs at once: `spent + held + want <= ceiling`, judged under the
//! counter's lock.
//!
//! Counters are found by rule and by whom it counts (`counters.rs`), each has one lock (`counter.rs`), and those that have nothing to remember are forgotten.
//! Rates are buckets (`bucket.rs`), money is in purses (`purse.rs`) by period (`period.rs`). Where several replicas share the counters, each has a
//! lease of them (`redis/`). Which rules there are is the configuration's business; what things cost, the meter's; what is kept for good, the ledger's.

mod bucket;
pub mod clock;
mod counter;
mod counters;
mod hold;
mod period;
mod purse;
mod redis;
mod refused;
mod shown;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use self::clock::{Clock, Now};
use self::counter::{Counter, Taken, Took};
use self::counters::{Counters, Whom};
use self::hold::Claim;
use self::redis::Shared;
use crate::config::quota::{Measure, Own, Rule, Rules};
use crate::units::{NanoUsd, Tokens};

pub use self::hold::{Booked, CallHold, CostHold};
pub use self::redis::{NoUrl, Settings as SharedSettings};
pub use self::refused::{Refused, Why};
pub use self::shown::{Left, Shown, Standing};
pub use crate::config::quota::Who;

/// Events that wait to be fetched; more are lost, and counted.
const EVENTS: usize = 1024;
/// Tokens of an answer whose length the request leaves open.
const USUAL_OUTPUT: i64 = 1_000;
/// How often counters that have nothing to remember are forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// All counters. They outlive reloads: a rule's id does not change with how much it allows.
#[derive(Debug, Clone)]
pub struct Quotas {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    counters: Counters,
    shared: Option<Shared>,
    events: mpsc::Sender<Event>,
    unheard: Mutex<Option<mpsc::Receiver<Event>>>,
    lost_events: AtomicU64,
}

/// Where counters are.
#[derive(Debug)]
pub enum Where {
    /// In this process alone.
    Here,
    /// In Redis or Valkey, for all replicas.
    Shared(SharedSettings),
}

/// What a call may use at most, estimated.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    pub input: Tokens,
    /// As much of it as the request allows; `None`: it says nothing.
    pub output: Option<Tokens>,
}

/// One try at one provider.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    pub provider: &'a str,
    pub tokens: Tokens,
    /// In the worst case. `None`: there is no price, and then nobody under a budget may try it.
    pub cost: Option<NanoUsd>,
}

/// A budget has passed one of its soft percents: once in its period, by whichever replica saw it first.
#[derive(Debug, Clone)]
pub struct Event {
    /// `budget of user=ada per month`.
    pub budget: String,
    pub rule: Arc<Rule>,
    pub percent: u8,
    pub spent: NanoUsd,
    pub ceiling: NanoUsd,
    pub resets_at: Option<Timestamp>,
}

// === impl Want ===

impl Want {
    /// What is held of a limit. More output than the limit lets through at once counts as all of it: clients ask for far more than they get, and
    /// what is used is settled at the end. Where a request says nothing, a tenth of the limit is held at most.
    fn within(self, limit: i64) -> i64 {
        let number = |tokens: Tokens| i64::try_from(tokens.0).unwrap_or(i64::MAX);
        let input = number(self.input);
        match self.output {
            Some(output) => input.saturating_add(number(output)).min(limit.max(input)),
            None => input.saturating_add(USUAL_OUTPUT.min(limit / 10)),
        }
    }
}

// === impl Quotas ===

impl Quotas {
    /// Nothing is connected and no task runs before [`Quotas::keep`] does.
    pub fn new(counters: Where) -> Result<Self, NoUrl> {
        Self::with_clock(counters, Clock::system())
    }

    pub fn with_clock(counters: Where, clock: Clock) -> Result<Self, NoUrl> {
        let (events, unheard) = mpsc::channel(EVENTS);
        let shared = match counters {
            Where::Here => None,
            Where::Shared(settings) => Some(Shared::new(settings)?),
        };
        let inner = Inner {
            clock,
            counters: Counters::new(),
            shared,
            events,
            unheard: Mutex::new(Some(unheard)),
            lost_events: AtomicU64::new(0),
        };
        Ok(Quotas { inner: Arc::new(inner) })
    }

    /// What must go on beside the calls: forgetting, and talking to the shared counters. Does not end; dropped, it stops.
    pub async fn keep(&self) {
        let sweep = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                self.sweep();
            }
        };
        match &self.inner.shared {
            None => sweep.await,
            Some(shared) => {
                tokio::join!(sweep, redis::worker::run(&self.inner, shared));
            }
        }
    }

    /// Gives back to the other replicas what this one holds and does not use. Takes a second at most.
    pub async fn close(&self) {
        if let Some(shared) = &self.inner.shared {
            redis::worker::close(&self.inner, shared).await;
        }
    }

    /// Forgets counters that have nothing to remember; [`Quotas::keep`] does it now and then.
    pub fn sweep(&self) {
        self.inner.counters.sweep(self.inner.clock.now());
    }

    /// Counters in memory.
    pub fn len(&self) -> usize {
        self.inner.counters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the shared counters can be reached. Always, where they are in this process.
    pub fn is_connected(&self) -> bool {
        self.inner.shared.as_ref().is_none_or(Shared::is_up)
    }

    /// Soft percents that are passed. There is one receiver: the second asks in vain.
    pub fn events(&self) -> Option<mpsc::Receiver<Event>> {
        self.inner.unheard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Events that nobody fetched in time.
    pub fn lost_events(&self) -> u64 {
        self.inner.lost_events.load(Ordering::Relaxed)
    }

    // --- calls ---

    /// Requests, tokens and calls at once, of the key, its tags and the model; and the cap of tokens.
    pub async fn admit_call(&self, rules: &Rules, who: &Who<'_>, want: Want) -> Result<CallHold, Refused> {
        let tokens = want.within(i64::MAX);
        let own = own(who);
        if let Some(cap) = own.and_then(|own| own.caps.tokens).and_then(|cap| i64::try_from(cap).ok())
            && tokens > cap
        {
            return Err(capped(who, Measure::Tokens, cap, tokens));
        }
        let found = rules.of_call(who);
        let mut claim = Claim::new(&self.inner, found.len());
        for (n, rule) in found.iter().enumerate() {
            let whom = Whom { who, provider: None };
            let amount = if rule.of == Measure::Tokens { want.within(rule.amount) } else { 1 };
            if let Err(refused) = self.inner.claim(&mut claim, rule, whom, amount).await {
                return Err(self.inner.longest(claim, refused, found.get(n + 1..), whom, tokens, 0));
            }
        }
        Ok(claim.into_call())
    }

    /// The budgets of the key, its tags, the model and the provider; the limits of the provider; and the cap of cost.
    pub async fn admit_attempt(&self, rules: &Rules, who: &Who<'_>, attempt: Attempt<'_>) -> Result<CostHold, Refused> {
        let tokens = i64::try_from(attempt.tokens.0).unwrap_or(i64::MAX);
        let cost = attempt.cost.map(|cost| cost.0.max(0));
        if let Some(NanoUsd(cap)) = own(who).and_then(|own| own.caps.usd)
            && cost.is_none_or(|cost| cost > cap)
        {
            return Err(match cost {
                Some(cost) => capped(who, Measure::Usd, cap, cost),
                None => Refused { why: Why::Unpriced, ..capped(who, Measure::Usd, cap, 0) },
            });
        }
        let found = rules.of_attempt(who, attempt.provider);
        let whom = Whom { who, provider: Some(attempt.provider) };
        let mut claim = Claim::new(&self.inner, found.len());
        for (n, rule) in found.iter().enumerate() {
            let amount = match (rule.of, cost) {
                (Measure::Usd, Some(cost)) => cost,
                (Measure::Usd, None) if rule.shadow => 0,
                (Measure::Usd, None) => return Err(self.inner.unpriced(rule, whom)),
                (Measure::Tokens, _) => tokens.min(rule.amount),
                (Measure::Requests | Measure::Concurrency, _) => 1,
            };
            if let Err(refused) = self.inner.claim(&mut claim, rule, whom, amount).await {
                return Err(self.inner.longest(claim, refused, found.get(n + 1..), whom, tokens, cost.unwrap_or(0)));
            }
        }
        Ok(claim.into_cost(attempt.cost))
    }

    /// What the ledger says was spent in a running period before this process began. `values` are those that the rule's scope leaves open, in the
    /// order of [`crate::config::quota::Scope::values`]; `at` is any moment of the period, or of the slice of a rolling time. Before the first call.
    pub fn restore(&self, rule: &Arc<Rule>, values: &[&str], at: Timestamp, spent: NanoUsd) {
        let now = self.inner.clock.now();
        let counter = self.inner.of_values(rule, values, now);
        counter.restore(at.as_microsecond(), spent.0.max(0), now);
    }

    /// From when on the ledger must be asked for [`Quotas::restore`]: the first moment that still counts. `None`: from the beginning.
    pub fn since(&self, rule: &Rule) -> Option<Timestamp> {
        use crate::config::quota::Window;
        let now = self.inner.clock.now();
        let running = period::period(&rule.window, now.wall);
        match &rule.window {
            Window::Rolling(time) => Timestamp::from_microsecond(redis::lease::oldest(*time, running)).ok(),
            Window::Calendar { .. } => Timestamp::from_microsecond(running.begins).ok(),
            Window::Rate { .. } | Window::Now | Window::Lifetime => None,
        }
    }
}

fn own<'a>(who: &Who<'a>) -> Option<&'a Own> {
    who.key.and_then(|key| key.own.as_deref())
}

fn capped(who: &Who<'_>, of: Measure, cap: i64, wanted: i64) -> Refused {
    let key = who.key.map_or("", |key| key.name.as_str());
    Refused::never(Why::Cap, format!("caps of key={key}"), &"caps of key=*".into(), of, cap, wanted)
}

// === impl Inner ===

impl Inner {
    /// Takes `amount` of one counter, or says why not.
    async fn claim(
        self: &Arc<Self>,
        claim: &mut Claim,
        rule: &Arc<Rule>,
        whom: Whom<'_>,
        amount: i64,
    ) -> Result<(), Refused> {
        let now = self.clock.now();
        let counter = self.counters.get(rule, whom, |subject| self.counter(rule, subject, now));
        if rule.shadow && counter.would_refuse(rule, amount, now) {
            self.shadowed(claim, rule, &counter, now);
        }
        let slip = match counter.take(rule, amount, now, self.link(&counter)) {
            Took::Taken(slip) => slip,
            Took::No(no) => return Err(Refused::by(rule, &counter.subject_text(rule), amount, no)),
            // the only thing here that waits, and so not part of every call's future
            Took::Ask => match Box::pin(redis::worker::wait(self, &counter, rule, amount, &mut claim.deadline)).await {
                Ok(slip) => slip,
                Err(no) => return Err(Refused::by(rule, &counter.subject_text(rule), amount, no)),
            },
        };
        self.changed(&counter, now);
        claim.taken.push(Taken::new(counter, rule.of, amount, slip));
        Ok(())
    }

    /// Of all rules that refuse, the one that does so longest: a shorter wait would not be true.
    fn longest(
        self: &Arc<Self>,
        mut claim: Claim,
        mut refused: Refused,
        others: Option<&[&Arc<Rule>]>,
        whom: Whom<'_>,
        tokens: i64,
        cost: i64,
    ) -> Refused {
        let now = self.clock.now();
        for rule in others.unwrap_or_default().iter().filter(|rule| !rule.shadow) {
            let amount = match rule.of {
                Measure::Usd => cost,
                Measure::Tokens => tokens,
                Measure::Requests | Measure::Concurrency => 1,
            };
            let Some(counter) = self.counters.find(rule, whom) else { continue };
            match counter.take(rule, amount, now, self.link(&counter)) {
                // given back with the claim
                Took::Taken(slip) => claim.taken.push(Taken::new(counter, rule.of, amount, slip)),
                Took::No(no) => {
                    let other = Refused::by(rule, &counter.subject_text(rule), amount, no);
                    let wait = |refused: &Refused| refused.retry_after.unwrap_or(Duration::MAX);
                    if wait(&other) > wait(&refused) {
                        refused = other;
                    }
                }
                Took::Ask => {}
            }
        }
        refused
    }

    fn unpriced(&self, rule: &Rule, whom: Whom<'_>) -> Refused {
        let mut values = Vec::new();
        rule.scope.values(whom.who, whom.provider, |value| values.push(value));
        let name = rule.name_for(&rule.scope.text_with(values.into_iter()));
        Refused::never(Why::Unpriced, name, &rule.name, Measure::Usd, rule.amount, 0)
    }

    fn shadowed(&self, claim: &mut Claim, rule: &Arc<Rule>, counter: &Counter, now: Now) {
        claim.shadowed.push(Arc::clone(&rule.name));
        if counter.may_tell(now) {
            tracing::info!("{} would refuse calls (shadow)", counter.name());
        }
    }

    fn of_values(&self, rule: &Arc<Rule>, values: &[&str], now: Now) -> Arc<Counter> {
        self.counters.get_of(rule, values, |subject| self.counter(rule, subject, now))
    }

    fn counter(&self, rule: &Arc<Rule>, subject: Box<str>, now: Now) -> Counter {
        let line = self.shared.as_ref().map(|shared| shared.line(rule.id, &subject));
        Counter::new(rule, subject, line, now)
    }

    fn link(&self, counter: &Counter) -> redis::lease::Link {
        match (&self.shared, &counter.line) {
            (Some(shared), Some(line)) => shared.link(line),
            (None, _) | (_, None) => redis::lease::NOBODY,
        }
    }

    /// Something of the counter has changed that the shared ones must hear of.
    fn changed(&self, counter: &Arc<Counter>, now: Now) {
        if let Some(shared) = &self.shared {
            shared.changed(counter, now);
        }
    }

    fn tell(&self, counter: &Counter, passed: &[u8], now: Now) {
        if passed.is_empty() {
            return;
        }
        let stand = counter.stand(now);
        for percent in passed {
            let event = Event {
                budget: counter.name(),
                rule: Arc::clone(&stand.rule),
                percent: *percent,
                spent: NanoUsd(stand.used),
                ceiling: NanoUsd(stand.rule.amount),
                resets_at: stand.resets.and_then(|at| Timestamp::from_microsecond(at).ok()),
            };
            if self.events.try_send(event).is_err() {
                self.lost_events.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
