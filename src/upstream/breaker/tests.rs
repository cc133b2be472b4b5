//! The rules of the breaker, one by one, and from many threads. Against a naive one: `against_a_model`.

use std::sync::atomic::{AtomicU32, AtomicU64};

use super::*;
use crate::config::policy::FailureRate;

mod against_a_model;

const SECOND: Duration = Duration::from_secs(1);
const IN_A_ROW: BreakerPolicy = BreakerPolicy { failures: 3, rate: None, cooldown: Duration::from_secs(30), probes: 1 };
const BY_SHARE: BreakerPolicy = BreakerPolicy {
    failures: 0,
    rate: Some(FailureRate { percent: 50, window: Duration::from_secs(10), minimum: 4 }),
    cooldown: Duration::from_secs(30),
    probes: 1,
};
const NEVER: BreakerPolicy = BreakerPolicy { failures: 0, rate: None, cooldown: Duration::from_secs(30), probes: 1 };

/// One call, from its leave to its verdict.
fn call(breaker: &Breaker, policy: &BreakerPolicy, verdict: Verdict, now: Instant) -> Option<Change> {
    let leave = breaker.admit(policy, now).expect("leave");
    breaker.record(policy, leave, verdict, now)
}

/// Opened at `now`.
fn open(policy: &BreakerPolicy, now: Instant) -> Breaker {
    let breaker = Breaker::default();
    for _ in 1..policy.failures {
        assert_eq!(call(&breaker, policy, Verdict::Failure, now), None);
    }
    assert_eq!(call(&breaker, policy, Verdict::Failure, now), Some(Change { from: Phase::Closed, to: Phase::Open }));
    breaker
}

#[test]
fn it_opens_after_so_many_failures_in_a_row() {
    let now = Instant::now();
    let breaker = Breaker::default();
    for verdict in [Verdict::Failure, Verdict::Failure, Verdict::Success, Verdict::Failure, Verdict::Failure] {
        assert_eq!(call(&breaker, &IN_A_ROW, verdict, now), None);
    }
    assert_eq!(breaker.phase(now), (Phase::Closed, Duration::ZERO));
    assert!(call(&breaker, &IN_A_ROW, Verdict::Failure, now).is_some());
    assert_eq!(breaker.phase(now), (Phase::Open, IN_A_ROW.cooldown));
    assert_eq!(breaker.admit(&IN_A_ROW, now + SECOND), Err(29 * SECOND));
    assert_eq!(breaker.refuses(&IN_A_ROW, now + SECOND), Some(29 * SECOND));
}

#[test]
fn neutral_ends_neither_break_a_row_nor_add_to_it() {
    let now = Instant::now();
    let breaker = Breaker::default();
    for verdict in [Verdict::Failure, Verdict::Neutral, Verdict::Failure, Verdict::Neutral, Verdict::Neutral] {
        assert_eq!(call(&breaker, &IN_A_ROW, verdict, now), None);
    }
    assert!(call(&breaker, &IN_A_ROW, Verdict::Failure, now).is_some());
}

#[test]
fn it_opens_when_the_share_of_failures_within_the_window_is_reached() {
    let now = Instant::now();
    let breaker = Breaker::default();
    for (n, verdict) in [Verdict::Failure, Verdict::Success, Verdict::Failure].into_iter().enumerate() {
        assert_eq!(call(&breaker, &BY_SHARE, verdict, now + n as u32 * SECOND), None, "fewer than the minimum");
    }
    assert_eq!(call(&breaker, &BY_SHARE, Verdict::Success, now + 3 * SECOND), None, "a success opens nothing");
    assert!(call(&breaker, &BY_SHARE, Verdict::Failure, now + 4 * SECOND).is_some());
}

#[test]
fn failures_that_are_older_than_the_window_are_forgotten() {
    let now = Instant::now();
    let breaker = Breaker::default();
    for n in 0..100 {
        // one of three, then one of four within any 10 s
        let verdict = if n % 4 == 0 { Verdict::Failure } else { Verdict::Success };
        assert_eq!(call(&breaker, &BY_SHARE, verdict, now + n * SECOND), None);
    }
    for n in 0..3 {
        let later = now + (200 + n * 11) * SECOND;
        assert_eq!(call(&breaker, &BY_SHARE, Verdict::Failure, later), None, "alone in its window");
    }
}

#[test]
fn without_a_threshold_it_never_opens() {
    let now = Instant::now();
    let breaker = Breaker::default();
    for _ in 0..1000 {
        assert_eq!(call(&breaker, &NEVER, Verdict::Failure, now), None);
    }
    assert_eq!(breaker.phase(now), (Phase::Closed, Duration::ZERO));
}

#[test]
fn who_switched_the_breaker_off_is_not_refused_by_one_that_others_opened() {
    let now = Instant::now();
    let breaker = open(&IN_A_ROW, now);
    assert_eq!(breaker.admit(&NEVER, now), Ok(Leave::Pass));
    assert_eq!(breaker.record(&NEVER, Leave::Pass, Verdict::Success, now), None);
    assert_eq!(breaker.phase(now).0, Phase::Open, "and what it meets is not heard");
    breaker.cool_down(now + SECOND);
    assert_eq!(breaker.admit(&NEVER, now), Err(SECOND), "but the provider's word counts for all");
}

#[test]
fn the_thresholds_are_those_of_the_caller_and_the_state_is_shared() {
    let now = Instant::now();
    let patient = BreakerPolicy { failures: 10, ..IN_A_ROW };
    let breaker = Breaker::default();
    for _ in 0..5 {
        assert_eq!(call(&breaker, &patient, Verdict::Failure, now), None);
    }
    assert!(call(&breaker, &IN_A_ROW, Verdict::Failure, now).is_some());
    assert!(breaker.admit(&patient, now).is_err());
}

#[test]
fn half_open_lets_so_many_probes_through_and_closes_after_as_many_successes() {
    let policy = BreakerPolicy { probes: 2, ..IN_A_ROW };
    let now = Instant::now();
    let breaker = open(&policy, now);
    let later = now + policy.cooldown;
    assert_eq!(breaker.phase(later), (Phase::HalfOpen, Duration::ZERO));
    assert_eq!(breaker.admit(&policy, later), Ok(Leave::Probe));
    assert_eq!(breaker.admit(&policy, later), Ok(Leave::Probe));
    assert_eq!(breaker.admit(&policy, later), Err(PROBING));
    assert_eq!(breaker.refuses(&policy, later), Some(PROBING));
    assert_eq!(breaker.record(&policy, Leave::Probe, Verdict::Success, later), None);
    assert_eq!(breaker.admit(&policy, later), Ok(Leave::Probe), "its place is free again");
    let closed = Some(Change { from: Phase::HalfOpen, to: Phase::Closed });
    assert_eq!(breaker.record(&policy, Leave::Probe, Verdict::Success, later), closed);
    assert_eq!(breaker.phase(later), (Phase::Closed, Duration::ZERO));
    assert_eq!(breaker.admit(&policy, later), Ok(Leave::Pass));
}

#[test]
fn a_probe_that_fails_opens_it_anew() {
    let policy = BreakerPolicy { probes: 3, ..IN_A_ROW };
    let now = Instant::now();
    let breaker = open(&policy, now);
    let later = now + policy.cooldown;
    for _ in 0..2 {
        assert_eq!(call(&breaker, &policy, Verdict::Success, later), None);
    }
    let opened = Some(Change { from: Phase::HalfOpen, to: Phase::Open });
    assert_eq!(call(&breaker, &policy, Verdict::Failure, later), opened);
    assert_eq!(breaker.admit(&policy, later + 29 * SECOND), Err(SECOND));
    // and the successes from before count no more
    let again = later + policy.cooldown;
    assert_eq!(call(&breaker, &policy, Verdict::Success, again), None);
    assert_eq!(call(&breaker, &policy, Verdict::Success, again), None);
    assert!(call(&breaker, &policy, Verdict::Success, again).is_some());
}

#[test]
fn a_probe_that_says_nothing_gives_its_place_back() {
    let now = Instant::now();
    let breaker = open(&IN_A_ROW, now);
    let later = now + IN_A_ROW.cooldown;
    for _ in 0..5 {
        assert_eq!(breaker.admit(&IN_A_ROW, later), Ok(Leave::Probe));
        assert_eq!(breaker.admit(&IN_A_ROW, later), Err(PROBING));
        assert_eq!(breaker.record(&IN_A_ROW, Leave::Probe, Verdict::Neutral, later), None);
        assert_eq!(breaker.phase(later), (Phase::HalfOpen, Duration::ZERO));
    }
}

#[test]
fn a_policy_without_probes_has_one_since_it_could_never_close_again() {
    let policy = BreakerPolicy { probes: 0, ..IN_A_ROW };
    let now = Instant::now();
    let breaker = open(&policy, now);
    let later = now + policy.cooldown;
    assert_eq!(breaker.admit(&policy, later), Ok(Leave::Probe));
    assert_eq!(breaker.admit(&policy, later), Err(PROBING));
    assert!(breaker.record(&policy, Leave::Probe, Verdict::Success, later).is_some());
}

#[test]
fn failures_from_before_it_opened_do_not_open_it_again_after_it_closed() {
    let now = Instant::now();
    let breaker = Breaker::default();
    let era = breaker.era();
    let slow = [(); 20].map(|()| breaker.admit(&IN_A_ROW, now).expect("leave"));
    for _ in 0..3 {
        call(&breaker, &IN_A_ROW, Verdict::Failure, now);
    }
    let later = now + IN_A_ROW.cooldown;
    assert!(call(&breaker, &IN_A_ROW, Verdict::Success, later).is_some(), "closed by a probe");
    for leave in slow {
        assert_eq!(breaker.record_since(era, &IN_A_ROW, leave, Verdict::Failure, later), None);
    }
    assert_eq!(breaker.phase(later), (Phase::Closed, Duration::ZERO));
    // nor do they stand in the row that others begin
    assert_eq!(call(&breaker, &IN_A_ROW, Verdict::Failure, later), None);
    assert_eq!(call(&breaker, &IN_A_ROW, Verdict::Failure, later), None);
    assert!(call(&breaker, &IN_A_ROW, Verdict::Failure, later).is_some());
}

#[test]
fn a_try_from_before_it_opened_neither_closes_nor_reopens_it() {
    let now = Instant::now();
    let breaker = Breaker::default();
    let era = breaker.era();
    for _ in 0..3 {
        call(&breaker, &IN_A_ROW, Verdict::Failure, now);
    }
    let half_open = now + IN_A_ROW.cooldown;
    for at in [now, half_open] {
        for verdict in [Verdict::Success, Verdict::Failure] {
            assert_eq!(breaker.record_since(era, &IN_A_ROW, Leave::Pass, verdict, at), None);
            assert_eq!(breaker.record(&IN_A_ROW, Leave::Pass, verdict, at), None, "a forced call is not heard either");
        }
    }
    assert_eq!(breaker.phase(half_open), (Phase::HalfOpen, Duration::ZERO));
}

#[test]
fn a_probe_of_an_earlier_time_only_gives_its_place_back() {
    let policy = BreakerPolicy { probes: 2, ..IN_A_ROW };
    let now = Instant::now();
    let breaker = open(&policy, now);
    let first = now + policy.cooldown;
    assert_eq!(breaker.admit(&policy, first), Ok(Leave::Probe));
    let era = breaker.era();
    assert!(call(&breaker, &policy, Verdict::Failure, first).is_some(), "another probe fails");
    let second = first + policy.cooldown;
    assert_eq!(breaker.admit(&policy, second), Ok(Leave::Probe));
    assert_eq!(breaker.admit(&policy, second), Err(PROBING), "the slow one still holds its place");
    assert_eq!(breaker.record_since(era, &policy, Leave::Probe, Verdict::Failure, second), None);
    assert_eq!(breaker.phase(second).0, Phase::HalfOpen);
    assert_eq!(breaker.admit(&policy, second), Ok(Leave::Probe));
}

#[test]
fn a_cooldown_refuses_calls_without_being_a_failure_and_ends_by_itself() {
    let now = Instant::now();
    let breaker = Breaker::default();
    breaker.cool_down(now + 5 * SECOND);
    breaker.cool_down(now + 2 * SECOND);
    assert_eq!(breaker.admit(&IN_A_ROW, now), Err(5 * SECOND), "the longer one counts");
    assert_eq!(breaker.phase(now), (Phase::Closed, 5 * SECOND));
    let later = now + 5 * SECOND;
    assert_eq!(breaker.phase(later), (Phase::Closed, Duration::ZERO));
    assert_eq!(breaker.admit(&IN_A_ROW, later), Ok(Leave::Pass));
    assert!(!breaker.wary.load(Ordering::Relaxed), "and leaves no trace");
}

#[test]
fn a_cooldown_that_is_longer_than_the_open_time_goes_before_the_probe() {
    let now = Instant::now();
    let breaker = open(&IN_A_ROW, now);
    breaker.cool_down(now + 60 * SECOND);
    assert_eq!(breaker.admit(&IN_A_ROW, now), Err(60 * SECOND));
    assert_eq!(breaker.phase(now + 40 * SECOND), (Phase::HalfOpen, 20 * SECOND));
    assert_eq!(breaker.admit(&IN_A_ROW, now + 40 * SECOND), Err(20 * SECOND));
    assert_eq!(breaker.admit(&IN_A_ROW, now + 60 * SECOND), Ok(Leave::Probe));
}

#[test]
fn an_endless_cooldown_does_not_overflow() {
    let policy = BreakerPolicy { failures: 1, cooldown: Duration::MAX, ..IN_A_ROW };
    let now = Instant::now();
    let breaker = open(&policy, now);
    assert_eq!(breaker.phase(now), (Phase::Open, LONGEST));
}

#[test]
fn from_many_threads_half_open_never_lets_more_than_its_probes_through() {
    const PROBES: u32 = 3;
    let policy = BreakerPolicy { failures: 2, probes: PROBES, cooldown: Duration::from_millis(1), rate: None };
    let base = Instant::now();
    let (breaker, clock) = (Breaker::default(), AtomicU64::new(0));
    let (out, most, probes, passes) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (breaker, clock, out, most, probes, passes) = (&breaker, &clock, &out, &most, &probes, &passes);
            scope.spawn(move || {
                for n in 0..20_000 {
                    let draw = crate::balance::mix(thread << 32 | n);
                    let now = base + Duration::from_micros(clock.fetch_add(draw % 50, Ordering::Relaxed));
                    let Ok(leave) = breaker.admit(&policy, now) else { continue };
                    let era = breaker.era();
                    if leave == Leave::Probe {
                        probes.fetch_add(1, Ordering::Relaxed);
                        most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        if draw.is_multiple_of(3) {
                            std::thread::yield_now();
                        }
                        out.fetch_sub(1, Ordering::SeqCst);
                    } else {
                        passes.fetch_add(1, Ordering::Relaxed);
                    }
                    let verdict = match (draw >> 8) % 4 {
                        0 => Verdict::Failure,
                        1 => Verdict::Neutral,
                        _ => Verdict::Success,
                    };
                    breaker.record_since(era, &policy, leave, verdict, now);
                }
            });
        }
    });
    let (most, probes, passes) = (most.into_inner(), probes.into_inner(), passes.into_inner());
    assert!(most <= PROBES, "{most} at once");
    assert!(probes > 100 && passes > 100, "both states were met: {probes} probes, {passes} others");
    assert_eq!(breaker.lock().probing, 0);
}
