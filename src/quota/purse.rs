//! The money of one budget on one node: what was spent in its period, and what running calls hold. Knows no clock.
//!
//! `spent + held + want <= ceiling`, always. A call's money belongs to the period in which it was put aside: a hold that outlives its period
//! is settled into nothing, since that period is over. Of a rolling time, into the slice in which it is settled.

use super::period::{Period, SLICES, period, slice};
use super::refused::No;
use crate::config::quota::{Rule, Window};

#[derive(Debug, Clone)]
pub struct Purse {
    period: Period,
    spent: i64,
    held: i64,
    /// The highest of the rule's soft percents that was told.
    told: u8,
    /// Of a rolling time: what was spent in each of the last slices, by their number modulo their count. `spent` is their sum.
    slices: Option<Box<[i64; RING]>>,
}

/// The running slice and all that may still count.
const RING: usize = SLICES as usize + 1;

/// What of the money of a call belongs where.
pub type Slip = i64;

// === impl Purse ===

impl Purse {
    pub fn new(window: &Window, wall: i64) -> Self {
        let slices = matches!(window, Window::Rolling(_)).then(|| Box::new([0; RING]));
        Purse { period: period(window, wall), spent: 0, held: 0, told: 0, slices }
    }

    pub fn take(&mut self, rule: &Rule, want: i64, wall: i64) -> Result<Slip, No> {
        self.roll(&rule.window, wall);
        match self.refuses(rule, want, wall) {
            Some(no) => Err(no),
            None => Ok(self.force(rule, want, wall)),
        }
    }

    /// Whether there is enough or not.
    pub fn force(&mut self, rule: &Rule, want: i64, wall: i64) -> Slip {
        self.roll(&rule.window, wall);
        self.held = self.held.saturating_add(want);
        self.slip()
    }

    /// The real cost in the place of what was held.
    pub fn settle(&mut self, rule: &Rule, slip: Slip, held: i64, used: i64, wall: i64) {
        self.roll(&rule.window, wall);
        if slip == self.slip() {
            self.held = self.held.saturating_sub(held);
            self.add(&rule.window, wall, used);
        }
    }

    /// What was spent already at a moment before.
    pub fn restore(&mut self, rule: &Rule, at: i64, spent: i64, wall: i64) {
        self.roll(&rule.window, wall);
        let oldest = match &rule.window {
            Window::Rolling(time) => self.period.begins.saturating_sub(slice(*time).saturating_mul(SLICES)),
            _ => self.period.begins,
        };
        if (oldest..self.period.ends).contains(&at) {
            self.add(&rule.window, at, spent);
        }
    }

    /// Why there is not enough, if there is not.
    pub fn refuses(&self, rule: &Rule, want: i64, wall: i64) -> Option<No> {
        let used = self.spent.saturating_add(self.held);
        if used.saturating_add(want) <= rule.amount {
            return None;
        }
        let resets = self.resets(rule, want);
        let wait = if want > rule.amount {
            None
        } else if self.spent.saturating_add(want) <= rule.amount {
            // running calls hold it, and mostly more than they will cost
            Some(1_000_000)
        } else {
            resets.map(|at| at.saturating_sub(wall).max(0))
        };
        Some(No { wait, used: self.spent, held: self.held, resets, outage: false })
    }

    /// The soft percents that have been passed since this was last asked.
    pub fn passed(&mut self, rule: &Rule) -> Vec<u8> {
        let reached = |percent: &u8| {
            i128::from(self.spent) * 100 >= i128::from(rule.amount) * i128::from(*percent) && self.spent > 0
        };
        let highest = rule.soft.iter().copied().filter(|percent| reached(percent)).max().unwrap_or(0);
        let passed = rule.soft.iter().copied().filter(|p| (self.told + 1..=highest).contains(p)).collect();
        // of a rolling time it may fall below, and be passed again
        self.told = highest;
        passed
    }

    pub fn spent(&mut self, rule: &Rule, wall: i64) -> i64 {
        self.roll(&rule.window, wall);
        self.spent
    }

    pub fn held(&self) -> i64 {
        self.held
    }

    /// When the period ends, or the next sum leaves a rolling time. `None`: never.
    pub fn resets(&self, rule: &Rule, want: i64) -> Option<i64> {
        let Window::Rolling(time) = &rule.window else {
            return (self.period.ends < i64::MAX).then_some(self.period.ends);
        };
        let slice = slice(*time);
        let mut left = self.spent;
        for back in (0..=SLICES).rev() {
            let begins = self.period.begins - back * slice;
            left -= self.slices.as_ref().and_then(|slices| slices.get(place(begins, slice))).copied().unwrap_or(0);
            if left < self.spent && left.saturating_add(want) <= rule.amount {
                return Some(begins + (SLICES + 1) * slice);
            }
        }
        None
    }

    /// Another time zone: the period ends when it ends there; what was spent stays spent.
    pub fn become_of(&mut self, window: &Window, wall: i64) {
        if matches!(window, Window::Calendar { .. }) {
            self.roll(window, wall);
            self.period.ends = period(window, wall).ends;
        }
    }

    pub fn is_empty(&mut self, rule: &Rule, wall: i64) -> bool {
        self.spent(rule, wall) == 0 && self.held == 0
    }

    fn slip(&self) -> Slip {
        if self.slices.is_some() { 0 } else { self.period.begins }
    }

    fn add(&mut self, window: &Window, at: i64, spent: i64) {
        self.spent = self.spent.saturating_add(spent);
        if let (Some(slices), Window::Rolling(time)) = (&mut self.slices, window)
            && let Some(place) = slices.get_mut(place(at, slice(*time)))
        {
            *place = place.saturating_add(spent);
        }
    }

    fn roll(&mut self, window: &Window, wall: i64) {
        if wall < self.period.ends {
            return;
        }
        let before = std::mem::replace(&mut self.period, period(window, wall));
        let (Some(slices), Window::Rolling(time)) = (&mut self.slices, window) else {
            (self.spent, self.held, self.told) = (0, 0, 0);
            return;
        };
        // the slices that have begun since take the places of those that no longer count
        let slice = slice(*time);
        let begun = (self.period.begins - before.begins) / slice;
        for n in 1..=begun.min(SLICES + 1) {
            if let Some(place) = slices.get_mut(place(self.period.begins - (n - 1) * slice, slice)) {
                self.spent = self.spent.saturating_sub(std::mem::take(place));
            }
        }
    }
}

fn place(at: i64, slice: i64) -> usize {
    usize::try_from(at.div_euclid(slice).rem_euclid(SLICES + 1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::quota::{Measure, Scope, Unit};
    use jiff::tz::TimeZone;
    use std::time::Duration;

    const HOUR: i64 = 3_600_000_000;

    fn rule(amount: i64, window: Window) -> Rule {
        let mut rule = Rule::new(Scope::default(), Measure::Usd, amount, window);
        rule.soft = Box::new([50, 80, 100]);
        rule
    }

    fn daily(amount: i64) -> Rule {
        rule(amount, Window::Calendar { unit: Unit::Day, zone: TimeZone::UTC })
    }

    #[test]
    fn what_is_held_counts_until_it_is_settled() {
        let rule = daily(100);
        let mut purse = Purse::new(&rule.window, 0);
        let a = purse.take(&rule, 60, 0).unwrap();
        let no = purse.take(&rule, 41, 0).unwrap_err();
        assert_eq!((no.used, no.held, no.wait), (0, 60, Some(1_000_000)));
        let b = purse.take(&rule, 40, 0).unwrap();
        purse.settle(&rule, a, 60, 10, 0);
        purse.settle(&rule, b, 40, 0, 0);
        assert_eq!((purse.spent(&rule, 0), purse.held()), (10, 0));
        assert_eq!(purse.take(&rule, 101, 0).unwrap_err().wait, None);
        assert_eq!(purse.take(&rule, 91, HOUR).unwrap_err().wait, Some(23 * HOUR));
    }

    #[test]
    fn money_belongs_to_the_period_in_which_it_was_put_aside() {
        let rule = daily(100);
        let mut purse = Purse::new(&rule.window, 0);
        let late = purse.take(&rule, 100, 23 * HOUR).unwrap();
        assert!(purse.take(&rule, 1, 23 * HOUR).is_err());
        // midnight: nothing of it weighs on the next day
        let next = purse.take(&rule, 100, 24 * HOUR).unwrap();
        purse.settle(&rule, late, 100, 70, 24 * HOUR);
        assert_eq!((purse.spent(&rule, 24 * HOUR), purse.held()), (0, 100));
        purse.settle(&rule, next, 100, 30, 24 * HOUR);
        assert_eq!(purse.spent(&rule, 24 * HOUR), 30);
    }

    #[test]
    fn a_rolling_budget_gets_back_what_was_spent_so_long_ago() {
        let rule = rule(100, Window::Rolling(Duration::from_secs(24 * 3600)));
        let mut purse = Purse::new(&rule.window, 0);
        let mut spend = |sum, wall| {
            let slip = purse.take(&rule, sum, wall)?;
            purse.settle(&rule, slip, sum, sum, wall);
            Ok::<_, No>(())
        };
        spend(60, 0).unwrap();
        spend(40, 12 * HOUR).unwrap();
        let no = spend(30, 20 * HOUR).unwrap_err();
        let slice = 24 * HOUR / SLICES;
        assert_eq!(no.resets, Some(24 * HOUR + slice));
        assert!(spend(30, 24 * HOUR).is_err());
        spend(60, 24 * HOUR + slice).unwrap();
        let no = spend(1, 25 * HOUR).unwrap_err();
        assert_eq!(no.resets, Some(36 * HOUR + slice));
        // after a long silence it is whole
        spend(100, 1_000 * HOUR).unwrap();
    }

    #[test]
    fn a_lifetime_budget_never_comes_back() {
        let rule = rule(10, Window::Lifetime);
        let mut purse = Purse::new(&rule.window, 0);
        let slip = purse.take(&rule, 10, 0).unwrap();
        purse.settle(&rule, slip, 10, 10, 0);
        let no = purse.take(&rule, 1, i64::MAX / 2).unwrap_err();
        assert_eq!((no.wait, no.resets), (None, None));
    }

    #[test]
    fn each_soft_percent_is_told_once_a_period() {
        let rule = daily(100);
        let mut purse = Purse::new(&rule.window, 0);
        let mut spend = |sum, wall| {
            let slip = purse.force(&rule, sum, wall);
            purse.settle(&rule, slip, sum, sum, wall);
            purse.passed(&rule)
        };
        assert!(spend(49, 0).is_empty());
        assert_eq!(spend(1, 0), [50]);
        assert!(spend(1, 0).is_empty());
        assert_eq!(spend(60, 0), [80, 100]);
        assert!(spend(10, 0).is_empty());
        assert_eq!(spend(80, 24 * HOUR), [50, 80]);
    }

    #[test]
    fn what_was_spent_before_the_start_counts() {
        let rule = daily(100);
        let mut purse = Purse::new(&rule.window, 30 * HOUR);
        purse.restore(&rule, 25 * HOUR, 40, 30 * HOUR);
        // yesterday's
        purse.restore(&rule, 23 * HOUR, 40, 30 * HOUR);
        assert_eq!(purse.spent(&rule, 30 * HOUR), 40);
        let rolling = self::rule(100, Window::Rolling(Duration::from_secs(24 * 3600)));
        let mut purse = Purse::new(&rolling.window, 30 * HOUR);
        purse.restore(&rolling, 7 * HOUR, 40, 30 * HOUR);
        purse.restore(&rolling, HOUR, 40, 30 * HOUR);
        assert_eq!(purse.spent(&rolling, 30 * HOUR), 40);
        assert_eq!(purse.spent(&rolling, 32 * HOUR), 0);
    }
}
