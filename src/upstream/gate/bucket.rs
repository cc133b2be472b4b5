//! One limit and what is left of it, counted down by us and filled up again as time goes by.
//!
//! Knows no headers and no clock. Most providers fill continuously (a token bucket: OpenAI's, Anthropic's and Groq's rate limit guides); some
//! count within a window and begin anew at its end.

use std::time::{Duration, Instant};

/// No wait and no reset is believed to be longer: what a provider says is not ours to trust with a duration's overflow.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    limit: f64,
    /// At `at`. Below 0 when something passed that is larger than the limit.
    level: f64,
    at: Instant,
    refill: Refill,
    /// When a window last ended.
    renewed: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Refill {
    /// So much a second.
    Steady { rate: f64 },
    /// Whole again at `end`, and every `period` from then on.
    Window { end: Instant, period: Duration },
}

// === impl Bucket ===

impl Bucket {
    pub fn new(limit: f64, level: f64, refill: Refill, now: Instant) -> Self {
        Bucket { limit, level: level.min(limit), at: now, refill, renewed: None }
    }

    pub fn limit(&self) -> f64 {
        self.limit
    }

    pub fn refill(&self) -> Refill {
        self.refill
    }

    pub fn level(&self, now: Instant) -> f64 {
        match self.refill {
            Refill::Steady { rate } => {
                let grown = rate * now.saturating_duration_since(self.at).as_secs_f64();
                (self.level + grown).min(self.limit)
            }
            Refill::Window { end, .. } if now >= end => self.limit,
            Refill::Window { .. } => self.level,
        }
    }

    /// Another limit or pace from now on; what is used stays used.
    pub fn become_of(&mut self, limit: f64, refill: Refill, now: Instant) {
        self.settle(now);
        if limit > self.limit {
            self.level += limit - self.limit;
        }
        self.limit = limit;
        self.level = self.level.min(limit);
        self.refill = refill;
    }

    pub fn take(&mut self, cost: f64, now: Instant) {
        self.settle(now);
        // a debt beyond the limit would be an estimate gone mad
        self.level = (self.level - cost).max(-self.limit);
    }

    /// What was taken was not used.
    pub fn give(&mut self, cost: f64, now: Instant) {
        self.settle(now);
        self.level = (self.level + cost).min(self.limit);
    }

    /// How long until `cost` can be taken, when `ahead` is taken before it. What is larger than the limit waits for a full bucket.
    pub fn wait(&self, ahead: f64, cost: f64, now: Instant) -> Duration {
        let missing = ahead + cost.min(self.limit) - self.level(now);
        if missing <= self.limit * 1e-9 + 1e-6 {
            return Duration::ZERO;
        }
        match self.refill {
            Refill::Steady { rate } => seconds(missing / rate),
            Refill::Window { end, period } => {
                let after = ((missing / self.limit).ceil() - 1.0).max(0.0);
                end.saturating_duration_since(now).saturating_add(seconds(after * period.as_secs_f64()))
            }
        }
    }

    /// Until it is whole.
    pub fn reset(&self, now: Instant) -> Duration {
        self.wait(0.0, self.limit, now)
    }

    /// The provider says that `left` was left, after a call that we let through `age` ago. Since then it can have become more by what
    /// fills up in that time, and less by `missing`: what was let through that the provider may not have counted yet (`None`: not
    /// known, then nothing is raised). What we count ourselves stays as long as it lies between the two.
    pub fn hear(&mut self, left: f64, missing: Option<f64>, age: Duration, now: Instant) {
        self.settle(now);
        let most = match self.refill {
            Refill::Steady { rate } => left + rate * age.as_secs_f64(),
            // said of a window that has ended
            Refill::Window { .. } if self.renewed.is_some_and(|at| now.saturating_duration_since(at) < age) => {
                self.limit
            }
            Refill::Window { .. } => left,
        };
        let least = missing.map_or(-self.limit, |missing| left - missing);
        self.level = self.level.min(most).max(least).min(self.limit);
    }

    fn settle(&mut self, now: Instant) {
        self.level = self.level(now);
        if let Refill::Window { end, period } = self.refill
            && now >= end
        {
            let period = period.max(Duration::from_millis(100));
            let past = now.saturating_duration_since(end).as_secs_f64() / period.as_secs_f64();
            let begun = end + seconds(past.floor() * period.as_secs_f64());
            self.renewed = Some(begun);
            self.refill = Refill::Window { end: begun + period, period };
        }
        self.at = self.at.max(now);
    }
}

/// Seconds as a duration, whatever they are.
pub fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or(LONGEST, |found| found.min(LONGEST))
}
