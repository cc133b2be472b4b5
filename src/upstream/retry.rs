//! When a call is tried again: how long it waits before, whether it may at all, and how long the provider asked for.
//!
//! It does not decide which failure is worth another try (`config::policy::Retry::on`), nor where (`route`). `Retry-After` is RFC 9110
//! 10.2.3, its dates 5.6.7; `retry-after-ms` is what OpenAI and Azure send beside it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderMap;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::Offset;

use crate::balance;
use crate::config::policy::Retry;

/// No provider is left alone for longer because of one header.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Retries that may be made beyond the share: rare calls are tried again too.
const RESERVE: u64 = 10;
/// One of them comes back in this time.
const REFILL: Duration = Duration::from_secs(1);
/// Retries that calls can have saved up for later ones. In hundredths, as all that is saved: a call saves a percentage.
const SAVED: u64 = 100 * RETRY;
const RETRY: u64 = 100;

/// Keeps the retries at targets that already failed their call to a share of the calls: when all is down, retries double the load on what
/// is left, and nobody gains. A token bucket without a lock, as Finagle's `RetryBudget`.
#[derive(Debug, Default)]
pub struct Budget {
    /// By calls.
    saved: AtomicU64,
    reserve: Reserve,
}

/// [`RESERVE`] retries, that come back with time.
#[derive(Debug, Default)]
struct Reserve {
    begun: OnceLock<Instant>,
    /// When it will be whole again, in nanoseconds since `begun`: each retry moves it on by [`REFILL`] (the generic cell rate algorithm).
    whole: AtomicU64,
}

/// How long to wait before the `nth` try at a target that failed the call already, from 1: `backoff`, then twice as long each time up to
/// `max_backoff`, drawn from the upper half by `seed`.
pub fn backoff(retry: &Retry, nth: u32, seed: u64) -> Duration {
    let doublings = nth.saturating_sub(1).min(31);
    let full = retry.backoff.saturating_mul(1 << doublings).min(retry.max_backoff);
    let full = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
    let half = full / 2;
    Duration::from_nanos(half + balance::below(seed, (full - half).saturating_add(1)))
}

/// How long the provider asks to be left alone, at most a day. `None`: it does not, or nobody can read it.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(number) {
        return Some(seconds(millis / 1000.0));
    }
    let text = text("retry-after")?;
    match number(text) {
        Some(found) => Some(seconds(found)),
        None => Some(until(date(text, now)?, now)),
    }
}

// === impl Budget ===

impl Budget {
    /// A call has begun, of whose kind so many percent may be tried again.
    pub fn deposit(&self, percent: u8) {
        let more = u64::from(percent.min(100));
        let add = |saved: u64| (saved < SAVED).then(|| (saved + more).min(SAVED));
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether one more retry may be made; if so, it counts. Where the policy's budget is 0 none may, and it is not asked.
    pub fn withdraw(&self, now: Instant) -> bool {
        let take = |saved: u64| saved.checked_sub(RETRY);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() || self.reserve.take(now)
    }
}

impl Reserve {
    fn take(&self, now: Instant) -> bool {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(*self.begun.get_or_init(|| now)));
        let refill = nanos(REFILL);
        let take = |whole: u64| Some(whole.max(now) + refill).filter(|whole| *whole <= now + refill * RESERVE);
        self.whole.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

// === reading Retry-After ===

/// Digits, with a sign or a point: more than RFC 9110 allows, and what is sent. No `inf`, no `1e9`.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+'));
    text.parse().ok().filter(|_| plain)
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number.clamp(0.0, LONGEST.as_secs_f64())).unwrap_or(LONGEST)
}

fn until(date: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(date.duration_since(now)).map_or(Duration::ZERO, |left| left.min(LONGEST))
}

/// The preferred form, and the two that are obsolete and must be understood.
fn date(text: &str, now: Timestamp) -> Option<Timestamp> {
    let (civil, two_digits) = match parse("%a, %d %b %Y %H:%M:%S GMT", text) {
        Some(found) => (found, false),
        None => match parse("%A, %d-%b-%y %H:%M:%S GMT", text) {
            Some(found) => (found, true),
            None => (parse("%a %b %e %H:%M:%S %Y", text)?, false),
        },
    };
    let at = |civil: DateTime| Offset::UTC.to_timestamp(civil).ok();
    let found = at(civil)?;
    if !two_digits {
        return Some(found);
    }
    // a year in two digits is the last one with them that is not more than 50 years ahead
    let ahead = |date: &Timestamp| date.duration_since(now).as_secs() <= 50 * 31_556_952;
    let later = civil.with().year(civil.year() + 100).build().ok().and_then(at).filter(ahead);
    let earlier = || civil.with().year(civil.year() - 100).build().ok().and_then(at);
    later.or(Some(found).filter(ahead)).or_else(earlier)
}

fn parse(format: &str, text: &str) -> Option<DateTime> {
    let mut parts = BrokenDownTime::parse(format, text).ok()?;
    // a day of the week that does not fit is no reason not to wait
    parts.set_weekday(None);
    parts.to_datetime().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        retry_after(&headers, "2026-03-01T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let retry = Retry::default();
        let longest = |nth| (0..2_000).map(|seed| backoff(&retry, nth, seed)).max().unwrap();
        let shortest = |nth| (0..2_000).map(|seed| backoff(&retry, nth, seed)).min().unwrap();
        for (nth, full) in [(0, 250), (1, 250), (2, 500), (3, 1000), (6, 8000), (7, 8000), (u32::MAX, 8000)] {
            let full = Duration::from_millis(full);
            assert!(longest(nth) <= full && longest(nth) > full * 99 / 100, "{nth}: {:?}", longest(nth));
            assert!(shortest(nth) >= full / 2 && shortest(nth) < full * 51 / 100, "{nth}: {:?}", shortest(nth));
        }
    }

    proptest! {
        #[test]
        fn a_wait_is_never_longer_than_its_limit(first in any::<Duration>(), most in any::<Duration>(), nth: u32, seed: u64) {
            let retry = Retry { backoff: first, max_backoff: most, ..Retry::default() };
            prop_assert!(backoff(&retry, nth, seed) <= most);
            prop_assert_eq!(backoff(&retry, nth, seed), backoff(&retry, nth, seed));
        }

        #[test]
        fn retries_are_a_share_of_the_calls_and_the_reserve(
            percent in 0..=100u8,
            steps in prop::collection::vec((0..6u32, 0..9u32, 0..400u64), 1..300),
        ) {
            let budget = Budget::default();
            let base = Instant::now();
            let (mut calls, mut retries, mut at, mut first) = (0u64, 0u64, 0, None);
            for (deposits, withdrawals, ms) in steps {
                at += ms;
                for _ in 0..deposits {
                    budget.deposit(percent);
                    calls += 1;
                }
                for _ in 0..withdrawals {
                    first.get_or_insert(at);
                    retries += u64::from(budget.withdraw(base + Duration::from_millis(at)));
                }
                let seconds = (at - first.unwrap_or(at)) / 1000;
                prop_assert!(retries * 100 <= calls * u64::from(percent) + (RESERVE + seconds) * 100);
            }
        }
    }

    #[test]
    fn a_tenth_of_many_calls_may_be_tried_again_when_all_fail() {
        let (budget, now) = (Budget::default(), Instant::now());
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.deposit(10);
            retries += u64::from(budget.withdraw(now));
        }
        assert!((1_000..=1_000 + RESERVE).contains(&retries), "{retries}");
    }

    #[test]
    fn rare_calls_are_tried_again_from_the_reserve_which_comes_back_slowly() {
        let (budget, now) = (Budget::default(), Instant::now());
        let granted = |at| (0..100).filter(|_| budget.withdraw(at)).count();
        assert_eq!(granted(now), 10);
        assert_eq!(granted(now + SECOND * 7 / 2), 3);
        assert_eq!(granted(now + SECOND * 4), 1);
        assert_eq!(granted(now + SECOND * 86_400), 10, "and never more than it was");
        assert_eq!(granted(now), 0, "a clock that was read earlier");
    }

    #[test]
    fn what_calls_saved_up_is_bounded() {
        let (budget, now) = (Budget::default(), Instant::now());
        (0..1_000_000).for_each(|_| budget.deposit(100));
        assert_eq!((0..1_000).filter(|_| budget.withdraw(now)).count() as u64, SAVED / RETRY + RESERVE);
    }

    #[test]
    fn threads_together_get_no_more_than_one_would() {
        let (budget, now, granted) = (Budget::default(), Instant::now(), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        budget.deposit(10);
                        granted.fetch_add(u32::from(budget.withdraw(now)), Ordering::Relaxed);
                    }
                });
            }
        });
        let granted = u64::from(granted.into_inner());
        let left = (0..1_000).filter(|_| budget.withdraw(now)).count() as u64;
        assert_eq!(granted + left, 1_600 + RESERVE);
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_in_milliseconds() {
        for (headers, wanted) in [
            (&[("retry-after", "7")][..], Some(7.0)),
            (&[("retry-after", " 0 ")], Some(0.0)),
            (&[("retry-after", "1.25")], Some(1.25)),
            (&[("retry-after", "-3")], Some(0.0)),
            (&[("retry-after", "-0.0")], Some(0.0)),
            (&[("retry-after", "99999999999999999999999999")], Some(86_400.0)),
            (&[("retry-after-ms", "1500"), ("retry-after", "2")], Some(1.5)),
            (&[("retry-after-ms", "12.5")], Some(0.0125)),
            (&[("retry-after-ms", "-1")], Some(0.0)),
            (&[("retry-after-ms", "soon"), ("retry-after", "2")], Some(2.0)),
            (&[("retry-after-ms", ""), ("retry-after", "")], None),
            (&[("retry-after", "inf")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "1e3")], None),
            (&[("retry-after", "1,5")], None),
            (&[("retry-after", "--1")], None),
            (&[("retry-after", ".")], None),
            (&[("retry-after", "5 seconds")], None),
            (&[("retry-after-ms", "later")], None),
            (&[], None),
        ] {
            assert_eq!(after(headers), wanted.map(Duration::from_secs_f64), "{headers:?}");
        }
    }

    #[test]
    fn retry_after_is_read_as_a_date_in_all_its_forms() {
        for (text, wanted) in [
            ("Sun, 01 Mar 2026 12:00:30 GMT", Some(30)),
            ("Sun, 01 Mar 2026 11:59:59 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 01 Mar 2036 12:00:00 GMT", Some(86_400)),
            ("Mon, 01 Mar 2026 12:00:30 GMT", Some(30)),
            ("Sunday, 01-Mar-26 12:01:00 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(0)),
            ("Sunday, 01-Mar-70 12:01:00 GMT", Some(86_400)),
            ("Sunday, 01-Mar-77 12:01:00 GMT", Some(0)),
            ("Sun Mar  1 12:00:05 2026", Some(5)),
            ("Sun Nov  6 08:49:37 1994", Some(0)),
            ("Sun, 01 Mar 2026 12:00:30", None),
            ("Sun, 01 Mar 2026 12:00:30 CET", None),
            ("Sun, 31 Feb 2026 12:00:30 GMT", None),
            ("2026-03-01T12:00:30Z", None),
            ("tomorrow", None),
        ] {
            assert_eq!(after(&[("retry-after", text)]), wanted.map(Duration::from_secs), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_not_but_never_beyond_a_day(bytes in prop::collection::vec(32u8..=255, 0..40), ms in any::<bool>()) {
            let name = if ms { "retry-after-ms" } else { "retry-after" };
            let headers: HeaderMap = HeaderValue::from_bytes(&bytes)
                .into_iter()
                .map(|value| (http::HeaderName::from_static(name), value))
                .collect();
            for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
                prop_assert!(retry_after(&headers, now).is_none_or(|wait| wait <= LONGEST));
            }
        }
    }
}
