//! What a call and an attempt hold while they run. Settled at the end, or dropped: then it is as if they had used nothing.

use std::sync::Arc;

use super::Inner;
use super::counter::Taken;
use crate::config::quota::Measure;
use crate::units::{NanoUsd, Tokens};

/// Requests, tokens and a place among the calls at once. Dropped unsettled it gives back the tokens; the request was one all the same.
#[derive(Debug)]
#[must_use]
pub struct CallHold {
    taken: Vec<Taken>,
    /// Rules that are only watched and would have refused; their names are fit for a metric's label.
    pub shadowed: Vec<Arc<str>>,
    inner: Arc<Inner>,
}

/// The worst case of an attempt, put aside in every budget that pays for it, and its place in its provider's limits. Dropped unsettled it gives back
/// all: nothing was sent.
#[derive(Debug)]
#[must_use]
pub struct CostHold {
    taken: Vec<Taken>,
    cost: Option<NanoUsd>,
    /// See [`CallHold::shadowed`].
    pub shadowed: Vec<Arc<str>>,
    inner: Arc<Inner>,
}

/// What an attempt was booked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booked {
    /// `None`: there is no price, and no budget that would need one.
    pub cost: Option<NanoUsd>,
    /// The real cost is not known: the worst case stands for it.
    pub worst_case: bool,
}

/// Taken of several counters, all or none: dropped, it gives all back.
#[derive(Debug)]
pub(super) struct Claim {
    pub taken: Vec<Taken>,
    pub shadowed: Vec<Arc<str>>,
    /// Of all that is waited for.
    pub deadline: Option<tokio::time::Instant>,
    inner: Arc<Inner>,
}

// === impl CallHold ===

impl CallHold {
    /// The tokens that were really used. The request is counted, and the call is no longer one at once.
    pub fn settle(mut self, used: Tokens) {
        self.end(i64::try_from(used.0).unwrap_or(i64::MAX));
    }

    fn end(&mut self, tokens: i64) {
        if self.taken.is_empty() {
            return;
        }
        let now = self.inner.clock.now();
        for taken in std::mem::take(&mut self.taken) {
            match taken.of {
                Measure::Tokens => drop(taken.settle(tokens, now)),
                Measure::Concurrency => taken.give(now),
                Measure::Requests | Measure::Usd => continue,
            }
            self.inner.changed(&taken.counter, now);
        }
    }
}

impl Drop for CallHold {
    fn drop(&mut self) {
        self.end(0);
    }
}

// === impl CostHold ===

impl CostHold {
    /// The real cost in the place of the worst case; `None`: it is not known, and the worst case stays. `tokens` for the limits of the provider;
    /// `None`: as estimated.
    pub fn settle(mut self, cost: Option<NanoUsd>, tokens: Option<Tokens>) -> Booked {
        let booked = Booked { cost: cost.or(self.cost), worst_case: cost.is_none() };
        let money = booked.cost.map_or(0, |cost| cost.0.max(0));
        let tokens = tokens.map(|tokens| i64::try_from(tokens.0).unwrap_or(i64::MAX));
        if self.taken.is_empty() {
            return booked;
        }
        let now = self.inner.clock.now();
        for taken in std::mem::take(&mut self.taken) {
            match taken.of {
                Measure::Usd => {
                    let passed = taken.settle(money, now);
                    self.inner.tell(&taken.counter, &passed, now);
                }
                Measure::Tokens => drop(taken.settle(tokens.unwrap_or(taken.amount), now)),
                Measure::Concurrency => taken.give(now),
                Measure::Requests => continue,
            }
            self.inner.changed(&taken.counter, now);
        }
        booked
    }

    /// What is put aside.
    pub fn cost(&self) -> Option<NanoUsd> {
        self.cost
    }
}

impl Drop for CostHold {
    fn drop(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let now = self.inner.clock.now();
        for taken in &self.taken {
            taken.give(now);
            self.inner.changed(&taken.counter, now);
        }
    }
}

// === impl Claim ===

impl Claim {
    pub fn new(inner: &Arc<Inner>, room: usize) -> Self {
        Claim { taken: Vec::with_capacity(room), shadowed: Vec::new(), deadline: None, inner: Arc::clone(inner) }
    }

    pub fn into_call(mut self) -> CallHold {
        CallHold {
            taken: std::mem::take(&mut self.taken),
            shadowed: std::mem::take(&mut self.shadowed),
            inner: Arc::clone(&self.inner),
        }
    }

    pub fn into_cost(mut self, cost: Option<NanoUsd>) -> CostHold {
        CostHold {
            taken: std::mem::take(&mut self.taken),
            cost,
            shadowed: std::mem::take(&mut self.shadowed),
            inner: Arc::clone(&self.inner),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let now = self.inner.clock.now();
        for taken in &self.taken {
            taken.give(now);
            self.inner.changed(&taken.counter, now);
        }
    }
}
