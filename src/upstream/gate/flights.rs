//! What was let through and has not ended: which call a reply belongs to, how old that is, and what the provider cannot have counted yet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::limits::{Asked, Load};

/// More are not remembered apart.
const MOST: usize = 1024;
/// A reply that comes so much later than the first one noted is to a call that was noted too.
const STRANGE: Duration = Duration::from_secs(3);
/// Where the age of a call is not known.
const OLD: Duration = Duration::from_secs(60);
/// An estimate of tokens is cut off here, so that sums stay sums.
pub const MOST_TOKENS: u64 = 1_000_000_000;

#[derive(Debug, Default)]
pub struct Flights {
    /// In the order in which they were let through, the numbers without a gap.
    open: VecDeque<Flight>,
    /// The number of the first of them.
    first: u64,
    /// No answer has come to those from here on.
    unanswered_from: u64,
    /// Of all that was ever let through.
    total: Load,
    unanswered: Load,
    /// Calls let through before anything was noted, that may still be answered, and until when that is likely.
    strangers: u32,
    strange_until: Option<Instant>,
}

#[derive(Debug)]
struct Flight {
    at: Instant,
    tokens: u64,
    /// All that was let through up to this one.
    through: Load,
    /// Of that, what had no answer then: the provider may have counted it later.
    before: Load,
    answered: bool,
    ended: bool,
}

/// A call's place in the order, from 1. 0: not noted.
pub type Number = u64;

// === impl Flights ===

impl Flights {
    /// So many were under way when we began to take notes of all.
    pub fn begin_with(&mut self, strangers: u32, now: Instant) {
        if self.open.is_empty() {
            (self.strangers, self.strange_until) = (strangers, Some(now + STRANGE));
        }
    }

    pub fn begin(&mut self, tokens: u64, now: Instant) -> Number {
        if self.open.len() >= MOST {
            self.mark(self.first(), true, true);
            self.open.pop_front();
            self.first = self.first() + 1;
        }
        let before = self.unanswered;
        self.total.add(tokens);
        self.unanswered.add(tokens);
        let through = self.total;
        self.open.push_back(Flight { at: now, tokens, through, before, answered: false, ended: false });
        self.first() + self.open.len() as u64 - 1
    }

    /// The number the next call will get.
    pub fn next(&self) -> Number {
        self.first() + self.open.len() as u64
    }

    /// A reply has come. Without a number it counts as that to the oldest call without one, and as if any call still under way had been it.
    pub fn answered(&mut self, number: Option<Number>, now: Instant) -> (Number, Asked) {
        let strange = self.strangers > 0 && self.strange_until.is_some_and(|until| now < until);
        if number == Some(0) || (number.is_none() && strange) {
            self.strangers = self.strangers.saturating_sub(1);
            return (0, Asked { age: OLD, missing: None, tokens: 0 });
        }
        let oldest = self.oldest_unanswered();
        let answered = number.unwrap_or(oldest);
        let (age, tokens) = match self.get(answered) {
            Some(flight) => (now.saturating_duration_since(flight.at), flight.tokens),
            None => (OLD, 0),
        };
        self.mark(answered, true, false);
        let since = if number.is_some() { Some(answered) } else { self.oldest_under_way().map(|n| n.min(answered)) };
        let missing = since.and_then(|since| self.get(since)).map(|flight| Load {
            calls: self.total.calls - flight.through.calls + flight.before.calls,
            tokens: self.total.tokens - flight.through.tokens + flight.before.tokens,
        });
        // nobody is under way: there is nothing that could be missing
        let missing = if self.open.is_empty() { Some(Load::default()) } else { missing };
        (answered, Asked { age, missing, tokens })
    }

    /// The call is over. For how long it was under way.
    pub fn end(&mut self, number: Number, now: Instant) -> Option<Duration> {
        let lasted = self.get(number).map(|flight| now.saturating_duration_since(flight.at));
        self.mark(number, true, true);
        self.tidy();
        lasted
    }

    fn mark(&mut self, number: Number, answered: bool, ended: bool) {
        let at = number.checked_sub(self.first()).and_then(|at| usize::try_from(at).ok());
        if let Some(flight) = at.and_then(|at| self.open.get_mut(at)) {
            if answered && !flight.answered {
                flight.answered = true;
                self.unanswered.calls -= 1;
                self.unanswered.tokens -= flight.tokens;
            }
            flight.ended |= ended;
        }
    }

    fn tidy(&mut self) {
        while self.open.front().is_some_and(|flight| flight.ended) {
            self.open.pop_front();
            self.first = self.first() + 1;
        }
    }

    fn get(&self, number: Number) -> Option<&Flight> {
        self.open.get(usize::try_from(number.checked_sub(self.first())?).ok()?)
    }

    fn oldest_unanswered(&mut self) -> Number {
        let mut at = self.unanswered_from.max(self.first());
        while self.get(at).is_some_and(|flight| flight.answered) {
            at += 1;
        }
        self.unanswered_from = at;
        at
    }

    fn oldest_under_way(&self) -> Option<Number> {
        let at = self.open.iter().position(|flight| !flight.ended)?;
        Some(self.first() + at as u64)
    }

    fn first(&self) -> Number {
        self.first.max(1)
    }
}

impl Load {
    fn add(&mut self, tokens: u64) {
        self.calls += 1;
        self.tokens = self.tokens.saturating_add(tokens);
    }
}
