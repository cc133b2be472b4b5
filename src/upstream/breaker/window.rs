//! How many calls ended lately and how many of them failed: counters in buckets of time, as many whatever the traffic.
//!
//! Spans of different length may be asked for: the buckets are as fine as the longest of them allows, and a span is met to within one of
//! them. What was already forgotten when a longer span is first asked for stays forgotten.

use std::time::{Duration, Instant};

const BUCKETS: u64 = 64;
/// Milliseconds. Up to 8 s fit into such buckets.
const FINEST: u64 = 125;
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone)]
pub struct Window {
    base: Instant,
    /// Of a bucket, in milliseconds.
    width: u64,
    /// The newest bucket, counted from `base`. Bucket `n` lies at `n % BUCKETS`.
    newest: u64,
    buckets: [Bucket; BUCKETS as usize],
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    calls: u32,
    failures: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    pub calls: u64,
    pub failures: u64,
}

impl Window {
    pub fn new(now: Instant) -> Self {
        Window { base: now, width: FINEST, newest: 0, buckets: [Bucket::default(); BUCKETS as usize] }
    }

    /// From now on so long a span can be asked for.
    pub fn widen(&mut self, span: Duration) {
        let span = millis(span.min(LONGEST));
        while self.width * BUCKETS < span {
            let mut wider = [Bucket::default(); BUCKETS as usize];
            for n in self.oldest()..=self.newest {
                let (from, to) = (self.buckets[place(n)], &mut wider[place(n / 2)]);
                to.calls = to.calls.saturating_add(from.calls);
                to.failures = to.failures.saturating_add(from.failures);
            }
            self.buckets = wider;
            self.newest /= 2;
            self.width *= 2;
        }
    }

    pub fn add(&mut self, now: Instant, calls: u32, failures: u32) {
        // two threads may read the clock in one order and come here in the other
        let at = self.bucket(now).max(self.newest);
        for n in self.newest + 1..=at.min(self.newest + BUCKETS) {
            self.buckets[place(n)] = Bucket::default();
        }
        self.newest = at;
        let bucket = &mut self.buckets[place(at)];
        bucket.calls = bucket.calls.saturating_add(calls);
        bucket.failures = bucket.failures.saturating_add(failures);
    }

    /// What was added within the `span` before now.
    pub fn sum(&self, now: Instant, span: Duration) -> Seen {
        let count = millis(span).div_ceil(self.width).clamp(1, BUCKETS);
        let first = (self.bucket(now).max(self.newest) + 1).saturating_sub(count);
        (first.max(self.oldest())..=self.newest).map(|n| self.buckets[place(n)]).fold(
            Seen::default(),
            |seen, bucket| Seen {
                calls: seen.calls + u64::from(bucket.calls),
                failures: seen.failures + u64::from(bucket.failures),
            },
        )
    }

    fn bucket(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.base)) / self.width
    }

    fn oldest(&self) -> u64 {
        (self.newest + 1).saturating_sub(BUCKETS)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn place(bucket: u64) -> usize {
    (bucket % BUCKETS) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_what_is_within_the_span_give_or_take_a_bucket(
            steps in prop::collection::vec((0u64..3_000, any::<bool>()), 1..300),
            spans in prop::collection::vec(1u64..100_000, 1..4),
        ) {
            let base = Instant::now();
            let mut window = Window::new(base);
            for span in &spans {
                window.widen(Duration::from_millis(*span));
            }
            let longest = spans.iter().copied().max().unwrap_or(0);
            prop_assert!(window.width <= FINEST.max(longest / (BUCKETS / 2)));
            let mut at = 0;
            let mut all = Vec::new();
            for (step, failed) in steps {
                at += step;
                window.add(base + Duration::from_millis(at), 1, u32::from(failed));
                all.push((at, failed));
            }
            for span in spans {
                let seen = window.sum(base + Duration::from_millis(at), Duration::from_millis(span));
                let within = |span: u64| all.iter().filter(|(t, _)| at - t < span).count() as u64;
                prop_assert!(seen.calls >= within(span.saturating_sub(window.width)));
                prop_assert!(seen.calls <= within(span + window.width));
                prop_assert!(seen.failures <= seen.calls);
            }
        }
    }

    #[test]
    fn a_longer_span_keeps_what_was_counted_before_it_was_asked_for() {
        let base = Instant::now();
        let at = |ms| base + Duration::from_millis(ms);
        let mut window = Window::new(base);
        for ms in (0..8_000).step_by(10) {
            window.add(at(ms), 1, u32::from(ms % 20 == 0));
        }
        window.widen(Duration::from_secs(600));
        let seen = window.sum(at(8_000), Duration::from_secs(600));
        assert_eq!(seen, Seen { calls: 800, failures: 400 });
    }

    #[test]
    fn after_a_long_silence_nothing_is_left() {
        let base = Instant::now();
        let mut window = Window::new(base);
        window.add(base, 7, 7);
        let later = base + Duration::from_secs(3600);
        assert_eq!(window.sum(later, Duration::from_secs(1)), Seen::default());
        window.add(later, 1, 0);
        assert_eq!(window.sum(later, Duration::from_secs(8)), Seen { calls: 1, failures: 0 });
        // a clock read earlier, told later
        window.add(base, 1, 1);
        assert_eq!(window.sum(base, Duration::from_secs(8)), Seen { calls: 2, failures: 1 });
    }
}
