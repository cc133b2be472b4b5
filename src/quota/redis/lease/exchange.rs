//! A lease's questions to the shared counter, and what follows from the answers.

use super::{
    DENIED, Denied, Lease, PATIENT, PAUSE, Pace, QUIET, RENEW, RENEW_ROLLING, REPORT, Seen, Tenure, is_rate, most,
};
use crate::config::quota::{Measure, Rule, Window};
use crate::quota::clock::Now;
use crate::quota::period::{SLICES, slice};
use crate::quota::refused::No;

/// A question to the shared counter.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Begin of the period; 0 where there is none.
    pub period: i64,
    pub ends: i64,
    pub sequence: u64,
    /// The shared counter should know this replica.
    pub met: bool,
    /// What the replica keeps whatever is said: beyond what is settled.
    pub floor: i64,
    /// Given back to a rate's bucket; below 0: used beyond what was taken.
    pub give: i64,
    /// To be granted whole, or nothing at all.
    pub need: i64,
    /// To be granted as far as there is plenty.
    pub want: i64,
    /// Less than this is of no use.
    pub least: i64,
    /// Known to be used, by whoever: for a counter that lost its memory.
    pub known: i64,
    pub settled: Vec<(i64, i64)>,
    total: i64,
}

/// What it said.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Of money and calls at once: the lease, beyond what is settled. Of rates: granted.
    pub granted: i64,
    pub spent: i64,
    pub used: i64,
    /// Still to be had.
    pub room: i64,
    /// Of a rate: microseconds until the need can be met.
    pub wait: i64,
    /// It has lost its memory, and waits for the replicas to tell what they know.
    pub quiet: bool,
    /// Of a rolling budget that has not enough: the slice with which enough leaves it.
    pub frees: Option<i64>,
    /// Soft percents that were passed.
    pub passed: Vec<u8>,
}

// === impl Lease ===

impl Lease {
    /// The next question that should be asked now, if any.
    pub fn ask(&mut self, rule: &Rule, now: Now) -> Option<Ask> {
        self.roll(rule, now);
        if self.flying {
            return None;
        }
        // what is over is said first, so that it can be forgotten
        if let Some(over) =
            self.past.iter_mut().find(|over| over.reported != over.settled || over.free != 0 || !over.met)
            && self.wanted == 0
        {
            self.flying = true;
            over.free = over.free.min(0);
            return Some(over.ask(rule, over.held, 0));
        }
        let target = self.target(rule);
        let free = self.now.free;
        let due = now.mono.saturating_sub(self.now.asked_at);
        let waiting = self.wanted > 0;
        let denied = self.denied.is_some_and(|denied| now.mono < denied.until) || now.mono < self.quiet_until;
        let low = free < target / 2 && !denied && due >= PAUSE;
        let plenty = free > target.saturating_mul(2);
        let report = self.now.settled != self.now.reported && due >= REPORT;
        let renew = self.now.held + free.max(0) > 0
            && match (&rule.window, rule.of) {
                (_, Measure::Concurrency) => due >= RENEW,
                (Window::Rolling(_), _) => due >= RENEW_ROLLING,
                (Window::Calendar { .. } | Window::Lifetime | Window::Rate { .. } | Window::Now, _) => false,
            };
        let debt = free < 0 && due >= REPORT;
        let curious = std::mem::take(&mut self.curious);
        if !(waiting || low || plenty || report || renew || debt || curious) {
            return None;
        }
        self.flying = true;
        let keep = if waiting { 0 } else { free.clamp(0, if plenty { target } else { i64::MAX }) };
        let mut ask = if is_rate(rule) {
            let mut ask = self.now.ask(rule, 0, free - keep);
            ask.want = if waiting { target.max(self.wanted) } else { target.saturating_sub(keep) };
            ask
        } else {
            let mut ask = self.now.ask(rule, self.now.held.saturating_add(keep), 0);
            ask.want = if waiting { target.max(self.wanted) } else { target.saturating_sub(keep) };
            ask
        };
        // out of our hands before it is out of theirs
        self.now.free = if is_rate(rule) || free > 0 { keep } else { free };
        self.now.asked_at = now.mono;
        ask.need = if waiting { self.need } else { 0 };
        if denied && !waiting {
            ask.want = 0;
        }
        ask.least = self.pace.last.max(1);
        ask.known = self.seen.used.max(self.known);
        if let Window::Rolling(time) = &rule.window
            && due > i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
            && self.now.met
        {
            // that was too long ago to count
            ask.known = 0;
        }
        (self.need, self.wanted) = (0, 0);
        Some(ask)
    }

    /// The soft percents that were passed.
    pub fn hear(&mut self, rule: &Rule, ask: &Ask, answer: &Answer, now: Now) -> Vec<u8> {
        self.flying = false;
        let Some(tenure) = self.tenure(ask.period) else { return Vec::new() };
        tenure.met = true;
        tenure.reported = ask.total;
        let overdrawn = tenure.free.min(0).saturating_neg();
        if is_rate(rule) {
            tenure.free = tenure.free.saturating_add(answer.granted);
        } else {
            // all that may be used since the beginning, less what is
            let entitled = ask.total.saturating_add(answer.granted);
            tenure.free = entitled.saturating_sub(tenure.settled).saturating_sub(tenure.held);
        }
        if ask.period == self.now.slip {
            self.carried = if answer.quiet { self.carried.saturating_add(overdrawn) } else { 0 };
            self.seen = Seen { spent: answer.spent, used: answer.used, settled: ask.total };
            self.pace.patience = if answer.room > most(rule) / 4 { PATIENT } else { 1 };
            self.quiet_until = if answer.quiet { now.mono.saturating_add(QUIET) } else { 0 };
            let met = ask.need == 0 || self.now.free >= ask.need;
            self.denied = (!met && !answer.quiet).then(|| self.denied(rule, ask, answer, now));
        }
        self.past.retain(|over| over.held > 0 || over.reported != over.settled || over.free != 0);
        answer.passed.clone()
    }

    fn denied(&self, rule: &Rule, ask: &Ask, answer: &Answer, now: Now) -> Denied {
        let resets = match &rule.window {
            // when enough of what was spent has left it
            Window::Rolling(time) => answer.frees.map(|begins| begins + slice(*time).saturating_mul(SLICES + 1)),
            _ => self.resets(rule),
        };
        let wait = if is_rate(rule) {
            Some(answer.wait.max(1))
        } else if answer.spent.saturating_add(ask.need) <= rule.amount || rule.of == Measure::Concurrency {
            Some(1_000_000)
        } else {
            resets.map(|at| at.saturating_sub(now.wall).max(0))
        };
        let pause = if is_rate(rule) { DENIED.min(answer.wait.max(1)) } else { DENIED };
        let no = No { wait, resets, ..self.no(rule) };
        Denied { until: now.mono.saturating_add(pause), room: answer.room.max(0), need: ask.need, no }
    }

    /// There was no answer.
    pub fn miss(&mut self, rule: &Rule, ask: &Ask) {
        self.flying = false;
        if is_rate(rule) && ask.give < 0 {
            // a debt does not go away because nobody heard of it
            self.now.free = self.now.free.saturating_add(ask.give);
        }
    }

    /// Once in a beat of the worker.
    pub fn beat(&mut self) {
        let pace = &mut self.pace;
        pace.idle = if pace.taken > 0 { 0 } else { pace.idle.saturating_add(1) };
        pace.rate = pace.rate.saturating_add(pace.taken) / 2;
        pace.taken = 0;
    }

    /// The shared counter has lost its memory: tell it all again.
    pub fn lost(&mut self, rule: &Rule) -> bool {
        let knows = !is_rate(rule) && self.now.met;
        self.curious |= knows;
        knows
    }

    /// Ask, if only to know how it stands.
    pub fn look(&mut self) {
        self.curious = true;
    }

    /// Give everything back but what running calls hold.
    pub fn close(&mut self) {
        self.pace = Pace::default();
        self.curious = true;
    }
}

// === impl Tenure ===

impl Tenure {
    fn ask(&mut self, rule: &Rule, floor: i64, give: i64) -> Ask {
        self.sequence += 1;
        let rolling = matches!(rule.window, Window::Rolling(_));
        Ask {
            period: self.slip,
            ends: self.period.ends,
            sequence: self.sequence,
            met: self.met,
            floor: floor.max(0),
            give,
            need: 0,
            want: 0,
            least: 1,
            known: 0,
            settled: if rolling { self.slices.clone() } else { vec![(0, self.settled)] },
            total: self.settled,
        }
    }
}
