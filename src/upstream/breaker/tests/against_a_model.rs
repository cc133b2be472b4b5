//! Any trace of calls, verdicts, cooldowns and time, against a breaker that is written as simply as possible: it remembers every call
//! and counts anew each time.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{Breaker, Change, Era, Leave, PROBING, Phase, Verdict};
use crate::config::policy::{BreakerPolicy, FailureRate};

/// Times in milliseconds, the order of events in steps.
#[derive(Default)]
struct Model {
    open_until: Option<u64>,
    probed: bool,
    /// Verdicts that counted since the last change: when, and whether it failed.
    row: Vec<(u64, bool)>,
    /// The same since a policy with a rate was first seen, as far back as the longest window until then could ask for.
    rated: Vec<(u64, bool)>,
    /// When that was, and the longest window.
    rates: Option<(u64, u64)>,
    cool_until: u64,
    probing: u32,
    changed: usize,
}

impl Model {
    fn phase(&self, now: u64) -> (Phase, u64) {
        let cooling = self.cool_until.saturating_sub(now);
        match self.open_until {
            None => (Phase::Closed, cooling),
            Some(until) if !self.probed && until > now => (Phase::Open, cooling.max(until - now)),
            Some(_) => (Phase::HalfOpen, cooling),
        }
    }

    fn admit(&mut self, policy: &BreakerPolicy, now: u64, step: usize) -> Result<Leave, u64> {
        let off = policy.failures == 0 && policy.rate.is_none();
        let phase = if off { Phase::Closed } else { self.phase(now).0 };
        let open = match phase {
            Phase::Closed => 0,
            Phase::Open => self.open_until.unwrap() - now,
            Phase::HalfOpen => {
                if self.probing >= policy.probes {
                    PROBING.as_millis() as u64
                } else {
                    0
                }
            }
        };
        match (open.max(self.cool_until.saturating_sub(now)), phase) {
            (0, Phase::HalfOpen) => {
                if !self.probed {
                    (self.probed, self.changed, self.row) = (true, step, Vec::new());
                }
                self.probing += 1;
                Ok(Leave::Probe)
            }
            (0, _) => Ok(Leave::Pass),
            (left, _) => Err(left),
        }
    }

    fn record(
        &mut self,
        policy: &BreakerPolicy,
        begun: usize,
        leave: Leave,
        verdict: Verdict,
        now: u64,
        step: usize,
    ) -> Option<Change> {
        self.probing -= u32::from(leave == Leave::Probe);
        let probe = self.open_until.is_some();
        if begun < self.changed || verdict == Verdict::Neutral || probe != (leave == Leave::Probe) {
            return None;
        }
        let failed = verdict == Verdict::Failure;
        self.row.push((now, failed));
        if let Some(rate) = policy.rate {
            let (base, longest) = self.rates.unwrap_or((now, 0));
            self.rates = Some((base, longest.max(rate.window.as_millis() as u64)));
        }
        if let Some((base, longest)) = self.rates {
            self.rated.push((now, failed));
            self.rated.retain(|(t, _)| bucket(now, base, longest) - bucket(*t, base, longest) < 64);
        }
        let in_a_row = self.row.iter().rev().take_while(|(_, f)| *f == failed).count() as u32;
        let from = if probe { Phase::HalfOpen } else { Phase::Closed };
        let opens = failed && (probe || (policy.failures > 0 && in_a_row >= policy.failures) || self.rate(policy, now));
        let closes = probe && in_a_row >= policy.probes;
        if !opens && !closes {
            return None;
        }
        let to = if opens { Phase::Open } else { Phase::Closed };
        self.open_until = opens.then(|| now + policy.cooldown.as_millis() as u64);
        (self.probed, self.changed, self.row) = (false, step, Vec::new());
        (self.rated, self.rates) = (Vec::new(), None);
        Some(Change { from, to })
    }

    fn rate(&self, policy: &BreakerPolicy, now: u64) -> bool {
        let (Some(rate), Some((base, longest))) = (policy.rate, self.rates) else { return false };
        let age = |t: u64| bucket(now, base, longest) - bucket(t, base, longest);
        let count = (rate.window.as_millis() as u64).div_ceil(width(longest));
        let seen: Vec<_> = self.rated.iter().filter(|(t, _)| age(*t) < count).collect();
        let failures = seen.iter().filter(|(_, failed)| *failed).count();
        seen.len() >= rate.minimum as usize && failures * 100 >= seen.len() * usize::from(rate.percent)
    }
}

/// The finest buckets of which 64 hold the longest window.
fn width(longest: u64) -> u64 {
    (0..).map(|n| 125 << n).find(|width| width * 64 >= longest).unwrap()
}

fn bucket(t: u64, base: u64, longest: u64) -> u64 {
    (t - base) / width(longest)
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Begin { policy: usize },
    End { which: usize, verdict: Verdict },
    CoolDown { ms: u64 },
    Wait { ms: u64 },
}

/// From any number: strategies of enums would take most of the time of the test.
fn step(draw: u32) -> Step {
    let rest = u64::from(draw >> 5);
    match draw % 20 {
        0..8 => Step::Begin { policy: rest as usize % 3 },
        8..12 => Step::End { which: rest as usize, verdict: Verdict::Failure },
        12..15 => Step::End { which: rest as usize, verdict: Verdict::Success },
        15 => Step::End { which: rest as usize, verdict: Verdict::Neutral },
        16 => Step::CoolDown { ms: rest % 3_000 },
        _ => Step::Wait { ms: rest % 4_000 },
    }
}

fn policy() -> impl Strategy<Value = BreakerPolicy> {
    let rate = (10..=100u8, 500..20_000u64, 1..8u32).prop_map(|(percent, window, minimum)| FailureRate {
        percent,
        window: Duration::from_millis(window),
        minimum,
    });
    (0..5u32, prop::option::of(rate), 0..5_000u64, 1..4u32).prop_map(|(failures, rate, cooldown, probes)| {
        BreakerPolicy { failures, rate, cooldown: Duration::from_millis(cooldown), probes }
    })
}

/// One trace through both, step by step. Returns how often it changed its state.
fn run(policies: &[BreakerPolicy], steps: &[Step]) -> Result<usize, TestCaseError> {
    let base = Instant::now();
    let (breaker, mut model) = (Breaker::default(), Model::default());
    let mut out: Vec<(usize, usize, Era, Leave)> = Vec::new();
    let (mut now, mut changes) = (0, 0);
    for (n, step) in steps.iter().enumerate() {
        let at = base + Duration::from_millis(now);
        match *step {
            Step::Begin { policy } => {
                let refused = breaker.refuses(&policies[policy], at);
                let ours = breaker.admit(&policies[policy], at);
                prop_assert_eq!(refused, ours.err());
                prop_assert_eq!(ours, model.admit(&policies[policy], now, n).map_err(Duration::from_millis));
                out.extend(ours.ok().map(|leave| (policy, n, breaker.era(), leave)));
            }
            Step::End { which, verdict } if !out.is_empty() => {
                let (policy, begun, era, leave) = out.swap_remove(which % out.len());
                let policy = &policies[policy];
                let ours = breaker.record_since(era, policy, leave, verdict, at);
                prop_assert_eq!(ours, model.record(policy, begun, leave, verdict, now, n));
                changes += usize::from(ours.is_some());
            }
            Step::End { .. } => {}
            Step::CoolDown { ms } => {
                breaker.cool_down(at + Duration::from_millis(ms));
                model.cool_until = model.cool_until.max(now + ms);
            }
            Step::Wait { ms } => now += ms,
        }
        let (phase, left) = model.phase(now);
        prop_assert_eq!(breaker.phase(base + Duration::from_millis(now)), (phase, Duration::from_millis(left)));
    }
    Ok(changes)
}

#[test]
fn any_trace_goes_as_it_does_for_a_naive_breaker() {
    const TRACES: u32 = 10_000;
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: TRACES,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let traces = (prop::collection::vec(policy(), 3), prop::collection::vec(any::<u32>(), 1..80));
    let changes = std::cell::Cell::new(0);
    let result = runner.run(&traces, |(policies, draws)| {
        let steps: Vec<Step> = draws.into_iter().map(step).collect();
        let ran = run(&policies, &steps).map_err(|e| TestCaseError::fail(format!("{e}, in {steps:?}")));
        changes.set(changes.get() + ran?);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // else the traces would go nowhere
    assert!(changes.get() > TRACES as usize, "{} changes", changes.get());
}
