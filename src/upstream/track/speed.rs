//! How long a target takes to its first token: a mean that follows the last calls, and a sketch of their distribution.
//!
//! The mean weighs a call by the time since the one before it ([`MEMORY`]), and the first ones evenly, so that a slow start does not stand
//! for long. It holds for [`FRESH`] without a call, fades, and is gone after [`STALE`]: a target that was slow once is asked again. A call
//! that ended before its first token took at least as long as it took: it counts where that is more than the mean, else a target that
//! hangs, or whose slow calls are hedged and cancelled, would look fast.

use std::time::{Duration, Instant};

/// Time constant of the mean.
const MEMORY: Duration = Duration::from_secs(10);
/// A call weighs one in so many at least.
const CALLS: u32 = 32;
const FRESH: Duration = Duration::from_secs(10);
const STALE: Duration = Duration::from_secs(30);
/// A call that ended without a first token is not held for slow below this, where nothing else is known.
const SLOW: Duration = Duration::from_secs(1);

/// Four buckets to a doubling of time, from 1 ms to a quarter of an hour.
const BUCKETS: usize = 80;
const PER_DOUBLING: f64 = 4.0;
/// What is known loses half of its weight in this time, and when it is more than [`FULL`].
const HALF_LIFE: Duration = Duration::from_secs(300);
const FULL: f32 = 1024.0;
/// Fewer calls than these have no percentile.
const ENOUGH: f32 = 20.0;

#[derive(Debug, Default)]
pub struct Speed {
    /// Seconds.
    mean: f64,
    /// Calls in it, up to [`CALLS`].
    calls: u32,
    last: Option<Instant>,
    sketch: Sketch,
}

/// A histogram whose buckets grow by a constant factor: a percentile is right to within 10 %.
#[derive(Debug)]
struct Sketch {
    counts: [f32; BUCKETS],
    total: f32,
    /// The half-lives before are taken off.
    aged: Option<Instant>,
}

// === impl Speed ===

impl Speed {
    pub fn add(&mut self, took: Duration, now: Instant) {
        let since = self.last.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        let by_time = 1.0 - (-since.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.calls = (self.calls + 1).min(CALLS);
        let weight = by_time.max(1.0 / f64::from(self.calls));
        self.mean += weight * (took.as_secs_f64() - self.mean);
        self.last = Some(now);
        self.sketch.add(took, now);
    }

    /// A call ended after so long without a first token.
    pub fn at_least(&mut self, took: Duration, now: Instant) {
        let known = self.last.map_or(SLOW, |_| Duration::from_secs_f64(self.mean.max(0.0)));
        if took > known {
            self.add(took, now);
        }
    }

    /// When the target has been without a call for so long.
    pub fn mean(&self, idle: Duration) -> Option<Duration> {
        self.last?;
        let left = STALE.saturating_sub(idle).as_secs_f64() / (STALE - FRESH).as_secs_f64();
        (left > 0.0).then(|| Duration::from_secs_f64((self.mean * left.min(1.0)).max(0.0)))
    }

    pub fn percentile(&self, share: f32, now: Instant) -> Option<Duration> {
        self.sketch.percentile(share, now)
    }
}

// === impl Sketch ===

impl Sketch {
    fn add(&mut self, took: Duration, now: Instant) {
        let lives = self.half_lives(now);
        self.aged = Some(self.aged.map_or(now, |aged| aged + HALF_LIFE * lives));
        if lives > 0 {
            self.scale(weight(lives));
        }
        if self.total >= FULL {
            self.scale(0.5);
        }
        self.counts[bucket(took)] += 1.0;
        self.total += 1.0;
    }

    fn percentile(&self, share: f32, now: Instant) -> Option<Duration> {
        if self.total * weight(self.half_lives(now)) < ENOUGH {
            return None;
        }
        let mut left = share * self.total;
        for (n, count) in self.counts.iter().enumerate() {
            if *count > 0.0 && left <= *count {
                return Some(edge(n as f64 + f64::from(left / count)));
            }
            left -= count;
        }
        // what rounding left over belongs to the last one
        let last = self.counts.iter().rposition(|count| *count > 0.0)?;
        Some(edge(last as f64 + 1.0))
    }

    fn half_lives(&self, now: Instant) -> u32 {
        let age = self.aged.map_or(Duration::ZERO, |aged| now.saturating_duration_since(aged));
        u32::try_from(age.as_secs() / HALF_LIFE.as_secs()).unwrap_or(u32::MAX)
    }

    fn scale(&mut self, by: f32) {
        self.counts.iter_mut().for_each(|count| *count *= by);
        self.total = self.counts.iter().sum();
    }
}

impl Default for Sketch {
    fn default() -> Self {
        Sketch { counts: [0.0; BUCKETS], total: 0.0, aged: None }
    }
}

fn weight(half_lives: u32) -> f32 {
    0.5f32.powi(i32::try_from(half_lives).unwrap_or(i32::MAX))
}

fn bucket(took: Duration) -> usize {
    let doublings = (took.as_secs_f64() * 1000.0).max(1.0).log2();
    ((doublings * PER_DOUBLING) as usize).min(BUCKETS - 1)
}

/// Where a bucket begins; between two of them for a part of one.
fn edge(bucket: f64) -> Duration {
    Duration::from_secs_f64((bucket / PER_DOUBLING).exp2() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn near(found: Option<Duration>, wanted: Duration, share: f64) -> bool {
        found.is_some_and(|found| (found.as_secs_f64() / wanted.as_secs_f64() - 1.0).abs() <= share)
    }

    #[test]
    fn the_first_calls_weigh_the_same_so_a_cold_start_does_not_stand() {
        let now = Instant::now();
        let mut speed = Speed::default();
        assert_eq!(speed.mean(Duration::ZERO), None);
        speed.add(20 * SECOND, now);
        assert_eq!(speed.mean(Duration::ZERO), Some(20 * SECOND));
        for _ in 0..9 {
            speed.add(ms(200), now);
        }
        assert!(near(speed.mean(Duration::ZERO), ms(2_180), 0.001), "{:?}", speed.mean(Duration::ZERO));
        for _ in 0..200 {
            speed.add(ms(200), now);
        }
        assert!(near(speed.mean(Duration::ZERO), ms(200), 0.05), "{:?}", speed.mean(Duration::ZERO));
    }

    #[test]
    fn after_a_while_one_call_says_more_than_all_before_it() {
        let mut now = Instant::now();
        let mut speed = Speed::default();
        for _ in 0..100 {
            speed.add(ms(100), now);
        }
        now += 30 * SECOND;
        speed.add(SECOND, now);
        assert!(speed.mean(Duration::ZERO) > Some(ms(900)));
    }

    #[test]
    fn without_calls_it_holds_then_fades_then_is_gone() {
        let now = Instant::now();
        let mut speed = Speed::default();
        speed.add(20 * SECOND, now);
        assert_eq!(speed.mean(10 * SECOND), Some(20 * SECOND));
        assert!(near(speed.mean(20 * SECOND), 10 * SECOND, 0.001));
        assert!(near(speed.mean(29 * SECOND), SECOND, 0.001));
        assert_eq!(speed.mean(30 * SECOND), None);
        assert_eq!(speed.mean(Duration::MAX), None);
    }

    #[test]
    fn a_call_that_ended_early_counts_only_where_it_shows_the_target_slower() {
        let now = Instant::now();
        let mut speed = Speed::default();
        speed.at_least(ms(5), now);
        assert_eq!(speed.mean(Duration::ZERO), None, "a connection refused is not fast");
        speed.at_least(30 * SECOND, now);
        assert_eq!(speed.mean(Duration::ZERO), Some(30 * SECOND), "but a target that hangs is slow");
        speed.at_least(SECOND, now);
        assert_eq!(speed.mean(Duration::ZERO), Some(30 * SECOND));
    }

    #[test]
    fn the_95th_percentile_is_right_to_within_a_tenth() {
        let now = Instant::now();
        for (low, high) in [(10, 1_000), (200, 60_000), (1, 4)] {
            let mut speed = Speed::default();
            for n in 0..1_000u64 {
                assert_eq!(speed.percentile(0.95, now).is_some(), n >= 20, "known from 20 on");
                // in no order
                let at = n * 617 % 1_000;
                speed.add(Duration::from_micros(low * 1_000 + (high - low) * at), now);
            }
            let wanted = Duration::from_micros(low * 1_000 + (high - low) * 950);
            let found = speed.percentile(0.95, now);
            assert!(near(found, wanted, 0.1), "{found:?}, not {wanted:?}");
        }
    }

    #[test]
    fn any_length_of_time_has_a_place_in_the_sketch() {
        let now = Instant::now();
        for took in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(86_400), Duration::MAX] {
            let mut speed = Speed::default();
            for _ in 0..20 {
                speed.add(took, now);
            }
            let found = speed.percentile(0.95, now).expect("20 are enough");
            assert!(found >= ms(1) && found <= 1_100 * SECOND, "{found:?}");
        }
    }

    #[test]
    fn the_percentile_follows_what_changed_and_is_forgotten_in_silence() {
        let mut now = Instant::now();
        let mut speed = Speed::default();
        for _ in 0..100_000 {
            speed.add(ms(100), now);
        }
        for _ in 0..200 {
            speed.add(SECOND, now);
        }
        assert!(speed.percentile(0.95, now) > Some(ms(800)), "the last ones count though there were many before");
        assert!(speed.sketch.total <= FULL + 1.0);
        now += 10 * HALF_LIFE;
        assert_eq!(speed.percentile(0.95, now), None);
        for _ in 0..19 {
            speed.add(ms(100), now);
        }
        assert!(near(speed.percentile(0.5, now).or(Some(ms(100))), ms(100), 0.2));
    }
}
