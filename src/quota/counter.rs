//! One rule's count for somebody: what is used, under one lock.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bucket::{Bucket, Rate};
use super::clock::Now;
use super::counters::BETWEEN;
use super::purse::{Purse, Slip};
use super::redis::Line;
use super::redis::lease::{Answer, Ask, Lease, Link};
use super::refused::No;
use crate::config::quota::{Measure, Rule};

#[derive(Debug)]
pub struct Counter {
    /// Of its rule.
    pub id: u64,
    /// The values that the rule's scope leaves open.
    pub subject: Box<str>,
    /// Shown even when nothing is counted.
    pub pinned: AtomicBool,
    /// Where it is on the server that replicas share.
    pub line: Option<Box<Line>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// As it was when it was last asked: how much is allowed may change.
    rule: Arc<Rule>,
    tally: Tally,
    /// When a refusal that is only counted was last told.
    told: Option<i64>,
}

#[derive(Debug)]
enum Tally {
    Bucket(Bucket),
    /// Calls at once.
    Slots(i64),
    Purse(Purse),
    /// Shared with other replicas.
    Lease(Box<Lease>),
}

/// What became of a claim.
#[derive(Debug)]
pub enum Took {
    Taken(Slip),
    No(No),
    /// The shared counter must be asked.
    Ask,
}

/// What was taken of a counter.
#[derive(Debug)]
pub struct Taken {
    pub counter: Arc<Counter>,
    pub of: Measure,
    pub amount: i64,
    pub slip: Slip,
}

/// A counter as it stands.
#[derive(Debug, Clone)]
pub struct Stand {
    pub rule: Arc<Rule>,
    /// Of a budget: spent. Of a rate or of calls at once: in use.
    pub used: i64,
    pub held: i64,
    /// Of a budget: when it begins anew, in microseconds since 1970. Of a rate: until it is whole, in microseconds.
    pub resets: Option<i64>,
}

// === impl Counter ===

impl Counter {
    pub fn new(rule: &Arc<Rule>, subject: Box<str>, line: Option<Box<Line>>, now: Now) -> Self {
        let tally = match (rule.of, Rate::of(rule)) {
            _ if line.is_some() => Tally::Lease(Box::new(Lease::new(rule, now))),
            (Measure::Usd, _) => Tally::Purse(Purse::new(&rule.window, now.wall)),
            (_, Some(rate)) => Tally::Bucket(Bucket::full(rate, now.mono)),
            (_, None) => Tally::Slots(0),
        };
        Counter {
            id: rule.id,
            subject,
            pinned: AtomicBool::new(false),
            line,
            state: Mutex::new(State { rule: Arc::clone(rule), tally, told: None }),
        }
    }

    pub fn take(&self, rule: &Arc<Rule>, want: i64, now: Now, link: Link) -> Took {
        let mut state = self.state(rule, now);
        match &mut state.tally {
            Tally::Lease(lease) => lease.take(rule, want, now, link),
            Tally::Purse(purse) if rule.shadow => Took::Taken(purse.force(rule, want, now.wall)),
            Tally::Purse(purse) => match purse.take(rule, want, now.wall) {
                Ok(slip) => Took::Taken(slip),
                Err(no) => Took::No(no),
            },
            Tally::Bucket(bucket) if rule.shadow => {
                bucket.force(want, now.mono);
                Took::Taken(0)
            }
            Tally::Bucket(bucket) => match bucket.take(want, now.mono) {
                Ok(()) => Took::Taken(0),
                Err(wait) => {
                    let used = bucket.rate().size - bucket.level(now.mono);
                    Took::No(No { wait, used, held: 0, resets: None, outage: false })
                }
            },
            Tally::Slots(held) if rule.shadow || held.saturating_add(want) <= rule.amount => {
                *held = held.saturating_add(want);
                Took::Taken(0)
            }
            Tally::Slots(held) => {
                Took::No(No { wait: Some(1_000_000), used: *held, held: 0, resets: None, outage: false })
            }
        }
    }

    /// Whether a rule that is only watched would refuse.
    pub fn would_refuse(&self, rule: &Arc<Rule>, want: i64, now: Now) -> bool {
        let mut state = self.state(rule, now);
        match &mut state.tally {
            Tally::Purse(purse) => {
                purse.spent(rule, now.wall);
                purse.refuses(rule, want, now.wall).is_some()
            }
            Tally::Bucket(bucket) => bucket.level(now.mono) < want,
            Tally::Slots(held) => held.saturating_add(want) > rule.amount,
            Tally::Lease(lease) => lease.would_refuse(rule, want, now),
        }
    }

    /// The rule as it is now.
    pub fn adopt(&self, rule: &Arc<Rule>, now: Now) {
        drop(self.state(rule, now));
    }

    pub fn rule(&self) -> Arc<Rule> {
        Arc::clone(&self.lock().rule)
    }

    /// At most once a minute: whether to tell of what is only counted.
    pub fn may_tell(&self, now: Now) -> bool {
        let mut state = self.lock();
        let tell = state.told.is_none_or(|told| now.mono.saturating_sub(told) >= 60_000_000);
        if tell {
            state.told = Some(now.mono);
        }
        tell
    }

    /// What was really used in the place of what was taken. The soft percents that were passed by it.
    fn settle(&self, slip: Slip, held: i64, used: i64, now: Now) -> Vec<u8> {
        let mut state = self.lock();
        let State { rule, tally, .. } = &mut *state;
        match tally {
            Tally::Lease(lease) => lease.settle(rule, slip, held, used, now),
            Tally::Purse(purse) => {
                purse.settle(rule, slip, held, used, now.wall);
                return purse.passed(rule);
            }
            Tally::Bucket(bucket) if used <= held => bucket.give(held - used, now.mono),
            Tally::Bucket(bucket) => bucket.force(used - held, now.mono),
            Tally::Slots(count) => *count = count.saturating_sub(held),
        }
        Vec::new()
    }

    pub fn restore(&self, at: i64, spent: i64, now: Now) {
        let mut state = self.lock();
        let State { rule, tally, .. } = &mut *state;
        match tally {
            Tally::Purse(purse) => {
                purse.restore(rule, at, spent, now.wall);
                // told before the restart
                purse.passed(rule);
            }
            Tally::Lease(lease) => lease.restore(rule, at, spent, now),
            Tally::Bucket(_) | Tally::Slots(_) => {}
        }
    }

    pub fn stand(&self, now: Now) -> Stand {
        let mut state = self.lock();
        let State { rule, tally, .. } = &mut *state;
        let (used, held, resets) = match tally {
            Tally::Purse(purse) => (purse.spent(rule, now.wall), purse.held(), purse.resets(rule, 0)),
            Tally::Slots(held) => (*held, 0, None),
            Tally::Bucket(bucket) => (bucket.rate().size - bucket.level(now.mono), 0, Some(bucket.reset(now.mono))),
            Tally::Lease(lease) => lease.stand(rule, now),
        };
        Stand { rule: Arc::clone(rule), used, held, resets }
    }

    /// Nothing would be lost if it were forgotten.
    pub fn is_idle(&self, now: Now) -> bool {
        let mut state = self.lock();
        let State { rule, tally, .. } = &mut *state;
        match tally {
            Tally::Purse(purse) => purse.is_empty(rule, now.wall),
            Tally::Bucket(bucket) => bucket.is_full(now.mono),
            Tally::Slots(held) => *held == 0,
            Tally::Lease(lease) => lease.is_idle(rule, now),
        }
    }

    pub fn name(&self) -> String {
        let rule = self.rule();
        rule.name_for(&self.subject_text(&rule))
    }

    pub fn subject_text(&self, rule: &Rule) -> String {
        rule.scope.text_with(self.subject.split(BETWEEN))
    }

    // --- shared ---

    /// The next question to the shared counter, and the rule it is about.
    pub fn ask(&self, now: Now) -> Option<(Arc<Rule>, Ask)> {
        let mut state = self.lock();
        let State { rule, tally, .. } = &mut *state;
        match tally {
            Tally::Lease(lease) => lease.ask(rule, now).map(|ask| (Arc::clone(rule), ask)),
            Tally::Purse(_) | Tally::Bucket(_) | Tally::Slots(_) => None,
        }
    }

    /// `None`: there was no answer. The soft percents that were passed.
    pub fn hear(&self, ask: &Ask, answer: Option<&Answer>, now: Now) -> Vec<u8> {
        let mut state = self.lock();
        let State { rule, tally, .. } = &mut *state;
        let passed = match (tally, answer) {
            (Tally::Lease(lease), Some(answer)) => lease.hear(rule, ask, answer, now),
            (Tally::Lease(lease), None) => {
                lease.miss(rule, ask);
                Vec::new()
            }
            (Tally::Purse(_) | Tally::Bucket(_) | Tally::Slots(_), _) => Vec::new(),
        };
        drop(state);
        if let Some(line) = &self.line {
            line.bell().notify_waiters();
        }
        passed
    }

    /// Runs on the lease, where there is one.
    pub fn with_lease<T>(&self, run: impl FnOnce(&Rule, &mut Lease) -> T) -> Option<T> {
        let mut state = self.lock();
        let State { rule, tally, .. } = &mut *state;
        match tally {
            Tally::Lease(lease) => Some(run(rule, lease)),
            Tally::Purse(_) | Tally::Bucket(_) | Tally::Slots(_) => None,
        }
    }

    /// Takes it off the worker's list, if nothing is left to say.
    pub fn unlist(&self, now: Now) -> bool {
        self.with_lease(|rule, lease| {
            // under the lock, so that whoever changes something behind it lists it again
            let quiet = lease.is_quiet(rule, now);
            if let Some(line) = self.line.as_ref().filter(|_| quiet) {
                line.unlist();
            }
            quiet
        })
        .unwrap_or(true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the rule as it is now.
    fn state(&self, rule: &Arc<Rule>, now: Now) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if !Arc::ptr_eq(&state.rule, rule) {
            match &mut state.tally {
                Tally::Bucket(bucket) => {
                    if let Some(rate) = Rate::of(rule).filter(|rate| *rate != bucket.rate()) {
                        bucket.become_of(rate, now.mono);
                    }
                }
                Tally::Purse(purse) => purse.become_of(&rule.window, now.wall),
                Tally::Slots(_) | Tally::Lease(_) => {}
            }
            state.rule = Arc::clone(rule);
        }
        state
    }
}

// === impl Taken ===

impl Taken {
    pub fn new(counter: Arc<Counter>, of: Measure, amount: i64, slip: Slip) -> Self {
        Taken { counter, of, amount, slip }
    }

    pub fn settle(&self, used: i64, now: Now) -> Vec<u8> {
        self.counter.settle(self.slip, self.amount, used, now)
    }

    /// As if it had not been taken.
    pub fn give(&self, now: Now) {
        self.counter.settle(self.slip, self.amount, 0, now);
    }
}
