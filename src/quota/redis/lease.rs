//! What one replica holds of a counter that all share: credit it may use without asking. Pure: neither a clock nor a connection.
//!
//! Of **money** and **calls at once**, a replica has a lease: what its running calls hold, and what is free. The shared counter knows the lease, and
//! all that was settled; it never gives out more than the ceiling. All that is exchanged are sums since the beginning, never differences, so that
//! an answer that was lost, and a question that is asked twice, change nothing. Before anything is given back it is taken out of `free`: at
//! every moment the shared counter believes in at least as much as the replica uses. A replica that dies leaves its lease as spent.
//!
//! Of **rates**, a replica takes credit out of the shared bucket. What it gives back is said once: when that is lost, it is lost.

mod exchange;

use std::time::Duration;

pub use self::exchange::{Answer, Ask};

use super::super::bucket::{Bucket, Rate};
use super::super::clock::Now;
use super::super::counter::Took;
use super::super::period::{Period, SLICES, period, slice};
use super::super::purse::Slip;
use super::super::refused::No;
use crate::config::quota::{Measure, OnOutage, Rule, Window};

/// After a no, nobody is asked again for so long (microseconds): others may have given back, but a spent budget must not cost a question a call.
const DENIED: i64 = 25_000;
/// A counter that was just made anew, after data was lost, is asked again after so long.
const QUIET: i64 = 100_000;
/// Money is reported at least once in this time, with a beat of the worker to spare.
const REPORT: i64 = 400_000;
/// Marks what was taken of a rate while nobody could be asked.
const ALONE: Slip = -1;
/// Beats after which an idle replica gives back what it has, though there is plenty.
const PATIENT: u32 = 10;
/// Leases of calls at once must be renewed, or they are taken for those of a dead replica.
const RENEW: i64 = 5_000_000;
/// And those of rolling budgets, long before they would have left them.
const RENEW_ROLLING: i64 = 60_000_000;
/// Between two questions for which nobody waits.
const PAUSE: i64 = 20_000;

#[derive(Debug)]
pub struct Lease {
    now: Tenure,
    /// Periods that have ended, with something left to report.
    past: Vec<Tenure>,
    /// A question is under way.
    flying: bool,
    /// What those who wait want: the least of them, and all together.
    need: i64,
    wanted: i64,
    denied: Option<Denied>,
    quiet_until: i64,
    pace: Pace,
    /// A rate's share of the limit while nobody can be asked.
    spare: Option<Box<Bucket>>,
    pub seen: Seen,
    /// What the ledger says was spent before the start.
    known: i64,
    /// There is something to hear even if there is nothing to say.
    curious: bool,
    /// Used without a lease, and told since to a server that could not grant one yet.
    carried: i64,
    replicas: i64,
}

/// The part of a lease that belongs to one period.
#[derive(Debug, Clone)]
struct Tenure {
    /// Begin of the period; 0 where one lease goes on through all of them.
    slip: Slip,
    period: Period,
    /// Credit. Below 0: used without a lease, when nobody could be asked.
    free: i64,
    held: i64,
    /// By this replica, since the beginning of the period.
    settled: i64,
    /// Of a rolling time: the same by slice; those that still count.
    slices: Vec<(i64, i64)>,
    /// `settled` as the shared counter knows it.
    reported: i64,
    sequence: u64,
    /// The shared counter has answered once.
    met: bool,
    asked_at: i64,
}

/// What the last answer said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Of money: settled, by all, and in its period so far; of rates: left.
    pub spent: i64,
    /// The same and all leases.
    pub used: i64,
    /// What of `spent` is ours.
    settled: i64,
}

#[derive(Debug, Clone, Copy)]
struct Denied {
    until: i64,
    room: i64,
    /// What was asked for.
    need: i64,
    no: No,
}

/// How much is used, for the size of the next slice.
#[derive(Debug, Default)]
struct Pace {
    taken: i64,
    /// In a beat of the worker.
    rate: i64,
    last: i64,
    /// Beats in which nothing was used.
    idle: u32,
    /// So many of them, and all is given back: few, where others may need it.
    patience: u32,
}

/// Whether the shared counters can be asked, and how many replicas share them.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub up: bool,
    pub replicas: i64,
}

/// Where counters are not shared, nobody is asked.
pub const NOBODY: Link = Link { up: false, replicas: 1 };

// === impl Lease ===

impl Lease {
    pub fn new(rule: &Rule, now: Now) -> Self {
        Lease {
            now: Tenure::new(rule, now.wall),
            past: Vec::new(),
            flying: false,
            need: 0,
            wanted: 0,
            denied: None,
            quiet_until: 0,
            pace: Pace::default(),
            spare: None,
            seen: Seen::default(),
            known: 0,
            curious: false,
            carried: 0,
            replicas: 1,
        }
    }

    pub fn take(&mut self, rule: &Rule, want: i64, now: Now, link: Link) -> Took {
        self.roll(rule, now);
        self.replicas = link.replicas.max(1);
        if want <= self.now.free || rule.shadow {
            return Took::Taken(self.use_up(rule, want));
        }
        if want > most(rule) {
            return Took::No(No { wait: None, ..self.no(rule) });
        }
        if link.up && now.mono >= self.quiet_until {
            // kept until it is whole: thrown away sooner it would be whole at once, for each of many calls that wait in vain
            if self.spare.as_mut().is_some_and(|spare| spare.is_full(now.mono)) {
                self.spare = None;
            }
            if let Some(denied) = self.denied
                && now.mono < denied.until
                && want > self.now.free.saturating_add(denied.room)
            {
                return Took::No(denied.no(rule, want));
            }
            self.need = if self.wanted == 0 { want } else { self.need.min(want) };
            self.wanted = self.wanted.saturating_add(want);
            return Took::Ask;
        }
        self.take_alone(rule, want, now)
    }

    /// Nobody can be asked.
    fn take_alone(&mut self, rule: &Rule, want: i64, now: Now) -> Took {
        let replicas = self.replicas;
        let overdraft = match (rule.on_outage, rule.of) {
            // nothing of it is owed to the shared bucket
            (OnOutage::Open, Measure::Requests | Measure::Tokens) => return Took::Taken(ALONE),
            (OnOutage::Open, _) => i64::MAX,
            (OnOutage::Closed, Measure::Usd) => rule.allowance / replicas,
            (OnOutage::Closed, _) => 0,
            (OnOutage::Local, Measure::Usd) => (rule.amount - self.seen.used).max(0) / replicas,
            (OnOutage::Local, Measure::Concurrency) => {
                let share = (rule.amount / replicas).max(1);
                return if self.now.held < share {
                    Took::Taken(self.use_up(rule, want))
                } else {
                    Took::No(No { outage: true, wait: Some(1_000_000), ..self.no(rule) })
                };
            }
            (OnOutage::Local, Measure::Requests | Measure::Tokens) => {
                return self.take_spare(rule, want, now);
            }
        };
        let after = want.saturating_sub(self.now.free).saturating_add(self.carried);
        // what is known to be gone is gone, allowance or not
        let within = rule.of != Measure::Usd
            || rule.on_outage == OnOutage::Open
            || self.seen.used.saturating_add(after.max(0)) <= rule.amount;
        if after <= overdraft && within {
            Took::Taken(self.use_up(rule, want))
        } else {
            Took::No(No { outage: true, wait: Some(1_000_000), ..self.no(rule) })
        }
    }

    fn take_spare(&mut self, rule: &Rule, want: i64, now: Now) -> Took {
        let replicas = self.replicas;
        let Some(whole) = Rate::of(rule) else { return Took::Taken(ALONE) };
        let share =
            Rate { amount: (whole.amount / replicas).max(1), every: whole.every, size: (whole.size / replicas).max(1) };
        let spare = self.spare.get_or_insert_with(|| Box::new(Bucket::full(share, now.mono)));
        if spare.rate() != share {
            spare.become_of(share, now.mono);
        }
        match spare.take(want, now.mono) {
            // not out of the shared bucket
            Ok(()) => Took::Taken(ALONE),
            Err(wait) => {
                Took::No(No { wait, used: share.size - spare.level(now.mono), held: 0, resets: None, outage: false })
            }
        }
    }

    /// Takes it, be it there or not.
    fn use_up(&mut self, rule: &Rule, want: i64) -> Slip {
        self.now.free = self.now.free.saturating_sub(want);
        if !is_rate(rule) {
            self.now.held = self.now.held.saturating_add(want);
        }
        self.pace.taken = self.pace.taken.saturating_add(want);
        self.pace.last = want;
        self.now.slip
    }

    /// What was really used in the place of what was held.
    pub fn settle(&mut self, rule: &Rule, slip: Slip, held: i64, used: i64, now: Now) {
        self.roll(rule, now);
        if is_rate(rule) {
            match (slip, &mut self.spare) {
                (ALONE, Some(spare)) if used <= held => spare.give(held - used, now.mono),
                (ALONE, Some(spare)) => spare.force(used - held, now.mono),
                (ALONE, None) => {}
                _ => self.now.free = self.now.free.saturating_add(held).saturating_sub(used),
            }
            return;
        }
        let Some(tenure) = self.tenure(slip) else { return };
        tenure.held = tenure.held.saturating_sub(held);
        if rule.of == Measure::Usd {
            tenure.free = tenure.free.saturating_add(held).saturating_sub(used);
            tenure.settled = tenure.settled.saturating_add(used);
            tenure.book(rule, used, now.wall);
        } else {
            tenure.free = tenure.free.saturating_add(held);
        }
    }

    pub fn restore(&mut self, rule: &Rule, at: i64, spent: i64, now: Now) {
        self.roll(rule, now);
        let begins = match &rule.window {
            Window::Rolling(time) => oldest(*time, self.now.period),
            _ => self.now.period.begins,
        };
        if at >= begins && at < self.now.period.ends {
            self.known = self.known.saturating_add(spent);
            self.seen.spent = self.seen.spent.max(self.known);
            self.seen.used = self.seen.used.max(self.known);
        }
    }

    // --- looking ---

    /// Worth a question now: there is little left.
    pub fn is_low(&self, rule: &Rule, now: Now) -> bool {
        let denied = self.denied.is_some_and(|denied| now.mono < denied.until);
        let due = now.mono.saturating_sub(self.now.asked_at);
        !self.flying && !denied && due >= PAUSE && self.now.free < self.target(rule) / 2
    }

    /// Nothing is left to say.
    pub fn is_quiet(&mut self, rule: &Rule, now: Now) -> bool {
        self.roll(rule, now);
        let Tenure { free, held, settled, reported, .. } = &self.now;
        *free == 0
            && *held == 0
            && settled == reported
            && self.past.is_empty()
            && !self.flying
            && self.wanted == 0
            && !self.curious
    }

    /// Nothing is left to remember.
    pub fn is_idle(&mut self, rule: &Rule, now: Now) -> bool {
        let remembers = rule.of == Measure::Usd && (self.now.settled != 0 || self.known != 0 || self.now.met);
        let spare = self.spare.as_mut().is_none_or(|spare| spare.is_full(now.mono));
        self.is_quiet(rule, now) && !remembers && spare
    }

    /// Used, held and when it begins anew, by all and as far as is known; see [`super::super::counter::Stand`].
    pub fn stand(&mut self, rule: &Rule, now: Now) -> (i64, i64, Option<i64>) {
        self.roll(rule, now);
        let Seen { spent, used, settled } = self.seen;
        match Rate::of(rule) {
            Some(rate) => {
                let left = if self.now.met { spent.saturating_add(self.now.free) } else { rate.size };
                let taken = rate.size.saturating_sub(left).clamp(0, rate.size);
                let whole = i128::from(taken) * i128::from(rate.every) / i128::from(rate.amount.max(1));
                (taken, 0, Some(i64::try_from(whole).unwrap_or(i64::MAX)))
            }
            None if rule.of == Measure::Concurrency => (used.max(self.now.held), 0, None),
            None => {
                // the free parts of others' leases are theirs to spend, and look like holds
                let held = used.saturating_sub(spent).saturating_sub(self.now.free.max(0)).max(self.now.held);
                (spent.saturating_add(self.now.settled.saturating_sub(settled)), held, self.resets(rule))
            }
        }
    }

    /// Of a rule that is only watched, as far as is known.
    pub fn would_refuse(&mut self, rule: &Rule, want: i64, now: Now) -> bool {
        let (used, held, _) = self.stand(rule, now);
        used.saturating_add(held).saturating_add(want) > most(rule)
    }

    pub fn resets(&self, rule: &Rule) -> Option<i64> {
        match &rule.window {
            // the first slice that counts may leave it then
            Window::Rolling(time) => Some(self.now.period.begins.saturating_add(slice(*time))),
            _ => (self.now.period.ends < i64::MAX).then_some(self.now.period.ends),
        }
    }

    fn no(&self, rule: &Rule) -> No {
        let (used, held) = match rule.of {
            Measure::Usd => (self.seen.spent, self.seen.used.saturating_sub(self.seen.spent)),
            Measure::Concurrency => (self.seen.used, 0),
            Measure::Requests | Measure::Tokens => (most(rule).saturating_sub(self.seen.spent), 0),
        };
        No { wait: Some(1_000_000), used, held, resets: self.resets(rule), outage: false }
    }

    /// How much should be at hand: what is used in two beats, four calls at least. Of a rate, all replicas together have no more than an eighth.
    fn target(&self, rule: &Rule) -> i64 {
        let Pace { taken, rate, last, idle, patience } = self.pace;
        if taken == 0 && (idle >= patience || last == 0) {
            return 0;
        }
        let used = rate.max(taken).saturating_mul(2);
        let part = if is_rate(rule) { 8 } else { 2 };
        used.max(last.saturating_mul(4)).min(most(rule) / (part * self.replicas))
    }

    fn tenure(&mut self, slip: Slip) -> Option<&mut Tenure> {
        std::iter::once(&mut self.now).chain(&mut self.past).find(|tenure| tenure.slip == slip)
    }

    fn roll(&mut self, rule: &Rule, now: Now) {
        if now.wall < self.now.period.ends {
            return;
        }
        if let Window::Rolling(time) = &rule.window {
            self.now.period = period(&rule.window, now.wall);
            let oldest = oldest(*time, self.now.period);
            self.now.slices.retain(|(begins, _)| *begins >= oldest);
            return;
        }
        let over = std::mem::replace(&mut self.now, Tenure::new(rule, now.wall));
        if over.held > 0 || over.reported != over.settled || over.free != 0 {
            self.past.push(over);
        }
        (self.denied, self.seen, self.known, self.carried) = (None, Seen::default(), 0, 0);
    }
}

/// The first slice of a rolling time that still counts.
pub fn oldest(time: Duration, running: Period) -> i64 {
    running.begins.saturating_sub(slice(time).saturating_mul(SLICES))
}

fn is_rate(rule: &Rule) -> bool {
    matches!(rule.of, Measure::Requests | Measure::Tokens)
}

/// What can never be had at once.
fn most(rule: &Rule) -> i64 {
    match rule.window {
        Window::Rate { burst, .. } => burst,
        Window::Now | Window::Calendar { .. } | Window::Rolling(_) | Window::Lifetime => rule.amount,
    }
}

// === impl Denied ===

impl Denied {
    /// The same no, to somebody else.
    fn no(&self, rule: &Rule, want: i64) -> No {
        match (Rate::of(rule), self.no.wait) {
            (Some(rate), Some(wait)) => {
                let more = i128::from(want - self.need) * i128::from(rate.every) / i128::from(rate.amount.max(1));
                No { wait: Some(wait.saturating_add(i64::try_from(more).unwrap_or(0)).max(1)), ..self.no }
            }
            (_, _) => self.no,
        }
    }
}

// === impl Tenure ===

impl Tenure {
    fn new(rule: &Rule, wall: i64) -> Self {
        let period = period(&rule.window, wall);
        Tenure {
            slip: if matches!(rule.window, Window::Rolling(_)) { 0 } else { period.begins },
            period,
            free: 0,
            held: 0,
            settled: 0,
            slices: Vec::new(),
            reported: 0,
            sequence: 0,
            met: false,
            asked_at: i64::MIN / 2,
        }
    }

    fn book(&mut self, rule: &Rule, used: i64, wall: i64) {
        let Window::Rolling(time) = &rule.window else { return };
        let slice = slice(*time);
        let begins = wall.div_euclid(slice) * slice;
        match self.slices.iter_mut().find(|(slice, _)| *slice == begins) {
            Some((_, sum)) => *sum = sum.saturating_add(used),
            None => self.slices.push((begins, used)),
        }
    }
}
