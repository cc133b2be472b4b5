//! The order in which targets are tried: by priority, weight, price, latency or load, as `config::policy::Strategy` tells.
//!
//! Every candidate gets a rank, and one sort does the rest. The accounts of a target share its rank, so they follow each other; what cannot be
//! asked now, or only when nothing else is left, has a rank behind all others whatever the strategy.

use std::cmp::Ordering;

use super::needs::Body;
use super::{Gauge, Target};
use crate::balance::{draw, mix, two};
use crate::config::policy::Strategy;
use crate::config::tariff::Tariff;
use crate::units::{NanoUsd, Tokens};

/// A target that could be asked, with one of its provider's credentials.
#[derive(Debug)]
pub(super) struct Candidate {
    pub target: Target,
    pub gauge: Gauge,
    /// The place of its target in the model's list; the accounts of one share it.
    pub group: usize,
    pub rank: Rank,
}

/// The place of a candidate; the least is tried first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rank {
    pub class: Class,
    /// Those of one tier are as good as each other, but for load and chance: its priority, or its price. Of [`Class::Busy`]: for how long it is.
    pub tier: u64,
    score: f64,
    draw: f64,
    /// Among the accounts of its target.
    account: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    #[default]
    Free,
    /// Weight 0: only when nothing else is left.
    Spare,
    /// Its breaker refuses, or a call would wait.
    Busy,
}

/// Put the candidates, which have been measured, in the order in which they are tried.
pub(super) fn order(candidates: &mut [Candidate], strategy: Strategy, body: &Body<'_>, seed: u64) {
    let mut seed = seed;
    accounts(candidates, seed);
    let latency = Latency::of(candidates);
    let size = (strategy == Strategy::Cost).then(|| body.about());
    each_group(candidates, |group| {
        seed = mix(seed);
        let Some(Candidate { target, gauge, .. }) = group.iter().min_by_key(|c| c.rank.account) else { return };
        let rank = Rank {
            class: Class::Free,
            tier: match strategy {
                Strategy::Priority | Strategy::LeastBusy => u64::from(target.priority),
                Strategy::Weighted | Strategy::Latency => 0,
                Strategy::Cost => size.zip(target.tariff.as_deref()).and_then(cost).unwrap_or(u64::MAX),
            },
            score: match strategy {
                Strategy::Priority | Strategy::Weighted | Strategy::Cost => 0.0,
                Strategy::LeastBusy => f64::from(gauge.in_flight),
                Strategy::Latency => latency.score(gauge),
            },
            draw: draw(target.weight, seed),
            account: 0,
        };
        for candidate in group {
            let busy = candidate.gauge.busy();
            let class = match (busy.is_zero(), candidate.target.weight) {
                (false, _) => Class::Busy,
                (true, 0) => Class::Spare,
                (true, _) => Class::Free,
            };
            let nanos = || u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
            let tier = if class == Class::Busy { nanos() } else { rank.tier };
            candidate.rank = Rank { class, tier, account: candidate.rank.account, ..rank };
        }
    });
    candidates.sort_by(by_rank);
    if strategy == Strategy::Latency {
        best_of_two(candidates, seed);
    }
}

fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    let (x, y) = (&a.rank, &b.rank);
    (x.class, x.tier)
        .cmp(&(y.class, y.tier))
        .then_with(|| x.score.total_cmp(&y.score))
        .then_with(|| x.draw.total_cmp(&y.draw))
        .then_with(|| (a.group, x.account).cmp(&(b.group, y.account)))
}

/// The accounts of a target among themselves: those that can be asked now, then the one with the most left of its rate limit, then with the
/// fewest calls in flight; equal ones by turns. Of what is left of a limit nobody has told us yet, all is.
fn accounts(candidates: &mut [Candidate], seed: u64) {
    each_group(candidates, |group| {
        let count = u64::try_from(group.len()).unwrap_or(1);
        if count < 2 {
            return;
        }
        let turn = |n: usize| mix(seed).wrapping_add(n as u64) % count;
        let mut order: Vec<usize> = (0..group.len()).collect();
        let by = |a: &usize, b: &usize| {
            let (x, y) = (&group[*a].gauge, &group[*b].gauge);
            let left = |gauge: &Gauge| gauge.left.unwrap_or(1.0);
            (x.busy().cmp(&y.busy()))
                .then_with(|| left(y).total_cmp(&left(x)))
                .then_with(|| (x.in_flight, turn(*a)).cmp(&(y.in_flight, turn(*b))))
        };
        order.sort_by(by);
        for (place, n) in order.into_iter().enumerate() {
            group[n].rank.account = u32::try_from(place).unwrap_or(u32::MAX);
        }
    });
}

/// The candidates of each target, which stand side by side.
fn each_group(candidates: &mut [Candidate], work: impl FnMut(&mut [Candidate])) {
    candidates.chunk_by_mut(|a, b| a.group == b.group).for_each(work);
}

// === cost ===

/// What the call would cost in all likelihood, in 1e-9 USD: its input as estimated, and as much output as it asks for at most; where it does not
/// say, a quarter of the input. Nothing counts as cached: where the prefix lies is the affinity's business. `None`: nobody knows.
fn cost(((input, output), tariff): ((Tokens, Option<Tokens>), &Tariff)) -> Option<u64> {
    let (_, NanoUsd(whole)) = tariff.estimate(input, output.unwrap_or(Tokens(input.0 / 4)))?;
    u64::try_from(whole).ok()
}

// === latency ===

/// What a target without a time counts as.
struct Latency {
    unknown: f64,
}

impl Latency {
    /// Twice as fast as the fastest that is known, so that a new one is tried soon; yet its calls in flight count, so that not all calls go
    /// there before the first has answered.
    fn of(candidates: &[Candidate]) -> Self {
        let known = candidates.iter().filter_map(|c| c.gauge.first_token).min();
        Latency { unknown: known.map_or(1.0, |least| (least.as_secs_f64() / 2.0).max(0.001)) }
    }

    fn score(&self, gauge: &Gauge) -> f64 {
        gauge.first_token.map_or(self.unknown, |mean| mean.as_secs_f64()) * (f64::from(gauge.in_flight) + 1.0)
    }
}

/// Of two targets drawn at random the better one goes in front. `candidates` are in the order of their score, so it is the one that stands
/// before the other. Not simply the best of all: between two measurements every call would go there.
fn best_of_two(candidates: &mut [Candidate], seed: u64) {
    let free = candidates.iter().take_while(|c| c.rank.class == Class::Free).count();
    let Some(free) = candidates.get_mut(..free) else { return };
    let targets = free.chunk_by(|a, b| a.group == b.group).count();
    if targets < 2 {
        return;
    }
    let (one, other) = two(targets, seed);
    let mut runs = free.chunk_by(|a, b| a.group == b.group).map(<[Candidate]>::len);
    let before: usize = runs.by_ref().take(one.min(other)).sum();
    let chosen = runs.next().unwrap_or(0);
    if let Some(part) = free.get_mut(..before + chosen) {
        part.rotate_right(chosen);
    }
}
