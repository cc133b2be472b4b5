//! A bucket of calls or tokens that fills up evenly: what a rate limit has left. Knows no clock.
//!
//! Our own and not `governor`'s: a token limit takes an estimate and gives back what was not used, which a theoretical arrival time that only
//! moves forward cannot take back once others have been judged by it; and a call that one rule refuses must leave no trace in the others.
//!
//! All in whole numbers: `part` is what has filled up of the next unit, so that nothing is lost or made by looking often.

use crate::config::quota::{Rule, Window};

/// Never admits more than `size` at once, and no more than `size` and `amount` in any `every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub amount: i64,
    /// Microseconds.
    pub every: i64,
    pub size: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Below 0 when more was used than was taken.
    level: i64,
    /// Of the next unit, in `1 / every`.
    part: i64,
    /// When it was last filled up.
    at: i64,
    rate: Rate,
}

// === impl Rate ===

impl Rate {
    /// Of a rule that is one.
    pub fn of(rule: &Rule) -> Option<Self> {
        match rule.window {
            Window::Rate { every, burst } => {
                let every = i64::try_from(every.as_micros()).unwrap_or(i64::MAX);
                Some(Rate { amount: rule.amount, every, size: burst })
            }
            Window::Now | Window::Calendar { .. } | Window::Rolling(_) | Window::Lifetime => None,
        }
    }
}

// === impl Bucket ===

impl Bucket {
    pub fn full(rate: Rate, now: i64) -> Self {
        Bucket { level: rate.size, part: 0, at: now, rate }
    }

    /// How long until so much is there, in microseconds; `None`: it never will be.
    pub fn take(&mut self, want: i64, now: i64) -> Result<(), Option<i64>> {
        self.fill(now);
        match self.wait(want) {
            Some(0) => {
                self.level -= want;
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Whether there is enough or not. A debt larger than the bucket would be an estimate gone mad.
    pub fn force(&mut self, used: i64, now: i64) {
        self.fill(now);
        self.level = self.level.saturating_sub(used).max(-self.rate.size);
    }

    pub fn give(&mut self, back: i64, now: i64) {
        self.fill(now);
        self.level = self.level.saturating_add(back).min(self.rate.size);
        self.cap();
    }

    /// Another rate from now on; what is used stays used.
    pub fn become_of(&mut self, rate: Rate, now: i64) {
        self.fill(now);
        self.level = self.level.saturating_add(rate.size - self.rate.size).min(rate.size);
        self.part = 0;
        self.rate = rate;
    }

    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// What can be taken now.
    pub fn level(&mut self, now: i64) -> i64 {
        self.fill(now);
        self.level
    }

    pub fn is_full(&mut self, now: i64) -> bool {
        self.level(now) >= self.rate.size
    }

    /// Until it is whole.
    pub fn reset(&mut self, now: i64) -> i64 {
        self.fill(now);
        self.wait(self.rate.size).unwrap_or(0)
    }

    /// Until `want` can be taken, from the last filling.
    fn wait(&self, want: i64) -> Option<i64> {
        let missing = i128::from(want) - i128::from(self.level);
        if missing <= 0 {
            return Some(0);
        }
        if want > self.rate.size {
            return None;
        }
        let parts = missing * i128::from(self.rate.every) - i128::from(self.part);
        let amount = i128::from(self.rate.amount.max(1));
        Some(i64::try_from((parts + amount - 1).div_euclid(amount)).unwrap_or(i64::MAX))
    }

    fn fill(&mut self, now: i64) {
        let elapsed = now.saturating_sub(self.at);
        if elapsed <= 0 {
            return;
        }
        self.at = now;
        if self.level >= self.rate.size {
            return;
        }
        let every = i128::from(self.rate.every.max(1));
        let parts = i128::from(elapsed) * i128::from(self.rate.amount) + i128::from(self.part);
        let (whole, part) = match i64::try_from(parts) {
            // a division of small numbers costs a tenth
            Ok(parts) => (parts / self.rate.every.max(1), parts % self.rate.every.max(1)),
            Err(_) => {
                (i64::try_from(parts / every).unwrap_or(i64::MAX), i64::try_from(parts % every).unwrap_or_default())
            }
        };
        self.level = self.level.saturating_add(whole).min(self.rate.size);
        self.part = part;
        self.cap();
    }

    fn cap(&mut self) {
        if self.level >= self.rate.size {
            self.part = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: i64 = 60_000_000;

    fn rate(amount: i64) -> Rate {
        Rate { amount, every: MINUTE, size: amount }
    }

    #[test]
    fn a_bucket_holds_its_size_and_fills_up_evenly() {
        let mut bucket = Bucket::full(rate(600), 0);
        assert!((0..600).all(|_| bucket.take(1, 0).is_ok()));
        assert_eq!(bucket.take(1, 0), Err(Some(100_000)));
        assert_eq!(bucket.take(1, 99_999), Err(Some(1)));
        assert_eq!(bucket.take(1, 100_000), Ok(()));
        assert_eq!(bucket.level(MINUTE + 100_000), 600);
        assert_eq!(bucket.take(601, 10 * MINUTE), Err(None));
    }

    #[test]
    fn a_debt_is_paid_before_anything_is_let_through() {
        let mut bucket = Bucket::full(rate(60), 0);
        bucket.take(60, 0).unwrap();
        bucket.force(30, 0);
        assert_eq!(bucket.take(1, 0), Err(Some(31_000_000)));
        bucket.give(30, 0);
        assert_eq!(bucket.take(1, 0), Err(Some(1_000_000)));
        bucket.force(i64::MAX, 0);
        assert_eq!(bucket.reset(0), 2 * MINUTE);
    }

    #[test]
    fn another_rate_leaves_what_is_used_used() {
        let mut bucket = Bucket::full(rate(100), 0);
        bucket.take(40, 0).unwrap();
        bucket.become_of(rate(50), 0);
        assert_eq!(bucket.level(0), 10);
        bucket.become_of(rate(200), 0);
        assert_eq!(bucket.level(0), 160);
    }

    proptest! {
        /// Looked at in any steps, it holds what it would hold when looked at once.
        #[test]
        fn looking_often_makes_and_loses_nothing(
            amount in 1i64..2_000_000_000_000,
            every in prop::sample::select(vec![MINUTE, 60 * MINUTE, 1440 * MINUTE]),
            steps in prop::collection::vec(1i64..5_000_000, 1..40),
        ) {
            let rate = Rate { amount, every, size: amount };
            let mut often = Bucket::full(rate, 0);
            often.force(amount, 0);
            let mut once = often;
            let mut now = 0;
            for step in steps {
                now += step;
                often.level(now);
            }
            prop_assert_eq!(often.level(now), once.level(now));
        }

        /// The wait is true: then it passes, and not a microsecond before.
        #[test]
        fn a_wait_is_neither_short_nor_long(amount in 1i64..100_000, want in 1i64..100_000, at in 0i64..MINUTE) {
            let mut bucket = Bucket::full(rate(amount), 0);
            bucket.force(amount, 0);
            match bucket.take(want, at) {
                Ok(()) => {}
                Err(None) => prop_assert!(want > amount),
                Err(Some(wait)) => {
                    let mut early = bucket;
                    prop_assert!(early.take(want, at + wait - 1).is_err());
                    prop_assert_eq!(bucket.take(want, at + wait), Ok(()));
                }
            }
        }

        /// Whatever comes when: no minute sees more than the size and the rate.
        #[test]
        fn no_minute_sees_more_than_size_and_rate(
            amount in 1i64..50, size in 1i64..80, gaps in prop::collection::vec(0i64..4_000_000, 1..400),
        ) {
            let mut bucket = Bucket::full(Rate { amount, every: MINUTE, size }, 0);
            let mut now = 0;
            let mut passed = Vec::new();
            for gap in gaps {
                now += gap;
                if bucket.take(1, now).is_ok() {
                    passed.push(now);
                }
            }
            for from in &passed {
                let within = passed.iter().filter(|at| (*from..from + MINUTE).contains(*at)).count();
                prop_assert!(i64::try_from(within).unwrap() <= amount + size);
            }
        }
    }
}
