//! Which endpoint of a pool takes a call. Knows no clock and no chance: load, speed and a number drawn at random come in.
//!
//! An endpoint whose share still grows takes part with part of its weight. Where weight decides (turns, hash) that is all there is to it;
//! where load decides, an endpoint that has nothing to do would take every call at once, so it gets its share by lot until it is whole.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::balance;
use crate::config::policy::Balance;

/// Milliseconds. Below it, differences between endpoints say nothing.
const LATENCY_FLOOR: f64 = 5.0;
/// Endpoints whose latencies differ by less are held to be equally fast, and only what they have to do counts.
const SIMILAR: f64 = 1.25;

/// Calls above the mean that a key's endpoint may always have: among a few calls chance alone brings as many together, and to leave the
/// place where a prefix is cached costs more than to share it.
const SLACK: u32 = 4;

/// An endpoint that may be chosen.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// Where it stands in the pool.
    pub place: usize,
    /// What keys are hashed with: the same in every process.
    pub key: u64,
    /// As configured, in thousandths; less while its share grows.
    pub weight: u32,
    pub growing: bool,
    pub in_flight: u32,
    /// Milliseconds; `None`: not known.
    pub latency: Option<f64>,
    /// What turns owe it.
    pub credit: &'a AtomicI64,
}

/// One of `among`. `None` only when there is none. Under `Balance::RoundRobin` calls must not overlap.
pub fn choose<'c, 'a>(
    how: Balance,
    among: &'c [Candidate<'a>],
    affinity: Option<u64>,
    seed: u64,
) -> Option<&'c Candidate<'a>> {
    if among.len() < 2 {
        return among.first();
    }
    match (how, affinity) {
        (Balance::RoundRobin, _) => by_turn(among),
        (Balance::Hash, Some(key)) => by_key(among, key),
        (Balance::LeastBusy, _) => by_load(among, seed, least_busy),
        (Balance::P2c | Balance::Hash, _) => by_load(among, seed, less_loaded_of_two),
    }
}

/// Smooth weighted round robin: everyone is owed its weight in each turn, and who is owed most pays for all.
fn by_turn<'c, 'a>(among: &'c [Candidate<'a>]) -> Option<&'c Candidate<'a>> {
    let total: i64 = among.iter().map(|c| i64::from(c.weight)).sum();
    let mut chosen: Option<(&Candidate<'_>, i64)> = None;
    for candidate in among {
        let owed = candidate.credit.load(Ordering::Relaxed) + i64::from(candidate.weight);
        candidate.credit.store(owed, Ordering::Relaxed);
        if chosen.is_none_or(|(_, most)| owed > most) {
            chosen = Some((candidate, owed));
        }
    }
    let (candidate, owed) = chosen?;
    candidate.credit.store(owed - total, Ordering::Relaxed);
    Some(candidate)
}

/// The first in the key's own order that has not far more to do than the others.
fn by_key<'c, 'a>(among: &'c [Candidate<'a>], key: u64) -> Option<&'c Candidate<'a>> {
    let places: Vec<(u64, u32)> = among.iter().map(|c| (c.key, c.weight)).collect();
    let all = among.iter().fold(0u32, |sum, c| sum.saturating_add(c.in_flight));
    let order = balance::rendezvous(key, &places);
    let ordered = || order.iter().filter_map(|n| among.get(*n));
    let mean = all / u32::try_from(among.len()).unwrap_or(u32::MAX).max(1);
    let may = |c: &&Candidate<'_>| {
        c.in_flight < mean.saturating_add(SLACK) || balance::within_bound(c.in_flight, all, among.len())
    };
    ordered().find(may).or_else(|| ordered().next())
}

/// By lot for those whose share grows, by `rule` among the others. The rule gets them with the one that was drawn.
fn by_load<'c, 'a>(
    among: &'c [Candidate<'a>],
    seed: u64,
    rule: fn(&[&'c Candidate<'a>], usize, u64) -> Option<&'c Candidate<'a>>,
) -> Option<&'c Candidate<'a>> {
    let all: Vec<&Candidate<'_>> = among.iter().collect();
    let growing = among.iter().filter(|c| c.growing).count();
    if growing == 0 || growing == among.len() {
        return rule(&all, draw(&all, None, seed), seed);
    }
    let whole: Vec<&Candidate<'_>> = among.iter().filter(|c| !c.growing).collect();
    let drawn = all.get(draw(&all, None, seed))?;
    // a lot does not see that an endpoint has too much to do
    if drawn.growing && whole.iter().any(|c| c.in_flight >= drawn.in_flight) {
        return Some(drawn);
    }
    let again = balance::mix(seed);
    rule(&whole, draw(&whole, None, again), again)
}

fn less_loaded_of_two<'c, 'a>(among: &[&'c Candidate<'a>], first: usize, seed: u64) -> Option<&'c Candidate<'a>> {
    let one = *among.get(first)?;
    if among.len() < 2 {
        return Some(one);
    }
    let other = *among.get(draw(among, Some(first), balance::mix(seed)))?;
    Some(if is_less_loaded(other, one) { other } else { one })
}

/// Whether `a` would answer clearly sooner than `b`.
fn is_less_loaded(a: &Candidate<'_>, b: &Candidate<'_>) -> bool {
    // by what each can take: for the same weight, the calls in flight
    let load = |c: &Candidate<'_>, other: &Candidate<'_>| {
        let mean = (f64::from(c.weight) + f64::from(other.weight)) / 2.0;
        f64::from(c.in_flight) * mean / f64::from(c.weight.max(1))
    };
    let (load_a, load_b) = (load(a, b), load(b, a));
    if let (Some(latency_a), Some(latency_b)) = (a.latency, b.latency) {
        let (latency_a, latency_b) = (latency_a.max(LATENCY_FLOOR), latency_b.max(LATENCY_FLOOR));
        if latency_a > latency_b * SIMILAR || latency_b > latency_a * SIMILAR {
            return latency_a * (load_a + 1.0) < latency_b * (load_b + 1.0);
        }
    }
    load_a < load_b
}

fn least_busy<'c, 'a>(among: &[&'c Candidate<'a>], first: usize, _seed: u64) -> Option<&'c Candidate<'a>> {
    let is_less = |a: &Candidate<'_>, b: &Candidate<'_>| {
        u64::from(a.in_flight) * u64::from(b.weight) < u64::from(b.in_flight) * u64::from(a.weight)
    };
    // from the one that was drawn on, so that of equals each gets its turn
    let (before, from) = among.split_at_checked(first)?;
    from.iter().chain(before).copied().reduce(|best, next| if is_less(next, best) { next } else { best })
}

/// One by weight, other than `except`. Where all weigh nothing, any.
fn draw(among: &[&Candidate<'_>], except: Option<usize>, seed: u64) -> usize {
    let weight = |n: usize, c: &Candidate<'_>| if Some(n) == except { 0 } else { u64::from(c.weight) };
    let total: u64 = among.iter().enumerate().map(|(n, c)| weight(n, c)).sum();
    if total == 0 {
        let any = balance::below(seed, among.len().max(1) as u64) as usize;
        return if Some(any) == except { (any + 1) % among.len().max(1) } else { any };
    }
    let mut at = balance::below(seed, total);
    for (n, candidate) in among.iter().enumerate() {
        match at.checked_sub(weight(n, candidate)) {
            Some(rest) => at = rest,
            None => return n,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints for a simulation: weight, milliseconds a call takes.
    struct Bench {
        credits: Vec<AtomicI64>,
        weights: Vec<u32>,
        growing: Vec<bool>,
        in_flight: Vec<u32>,
        latency: Vec<Option<f64>>,
        seed: u64,
    }

    impl Bench {
        fn new(weights: &[u32]) -> Bench {
            let count = weights.len();
            Bench {
                credits: (0..count).map(|_| AtomicI64::new(0)).collect(),
                weights: weights.iter().map(|w| w * 1000).collect(),
                growing: vec![false; count],
                in_flight: vec![0; count],
                latency: vec![None; count],
                seed: 7,
            }
        }

        fn choose(&mut self, how: Balance, affinity: Option<u64>) -> usize {
            let among: Vec<Candidate<'_>> = (0..self.weights.len())
                .map(|n| Candidate {
                    place: n,
                    key: balance::mix(n as u64),
                    weight: self.weights[n],
                    growing: self.growing[n],
                    in_flight: self.in_flight[n],
                    latency: self.latency[n],
                    credit: &self.credits[n],
                })
                .collect();
            self.seed += 1;
            choose(how, &among, affinity, balance::mix(self.seed)).unwrap().place
        }

        /// So many calls, each over before the next.
        fn shares(&mut self, how: Balance, calls: usize) -> Vec<f64> {
            let mut counts = vec![0u32; self.weights.len()];
            for _ in 0..calls {
                counts[self.choose(how, None)] += 1;
            }
            counts.iter().map(|count| f64::from(*count) / calls as f64).collect()
        }

        /// A call comes every millisecond and takes `takes` of the endpoint that gets it.
        fn under_load(&mut self, how: Balance, takes: &[u64], calls: u64) -> (Vec<u32>, Vec<u32>) {
            let mut ends: Vec<(u64, usize)> = Vec::new();
            let (mut counts, mut most) = (vec![0u32; takes.len()], vec![0u32; takes.len()]);
            for now in 0..calls {
                ends.retain(|(end, n)| {
                    let over = *end <= now;
                    if over {
                        self.in_flight[*n] -= 1;
                        let took = takes[*n] as f64;
                        self.latency[*n] = Some(self.latency[*n].map_or(took, |mean| mean + (took - mean) / 8.0));
                    }
                    !over
                });
                let n = self.choose(how, None);
                counts[n] += 1;
                self.in_flight[n] += 1;
                most[n] = most[n].max(self.in_flight[n]);
                ends.push((now + takes[n], n));
            }
            (counts, most)
        }
    }

    #[test]
    fn turns_are_taken_by_weight_and_smoothly() {
        let mut bench = Bench::new(&[5, 1, 1]);
        let seen: Vec<usize> = (0..14).map(|_| bench.choose(Balance::RoundRobin, None)).collect();
        assert_eq!(seen, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
        let mut even = Bench::new(&[1, 1, 1]);
        let seen: Vec<usize> = (0..6).map(|_| even.choose(Balance::RoundRobin, None)).collect();
        assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn idle_endpoints_get_calls_by_weight_whatever_the_noise_in_their_speed() {
        for how in [Balance::P2c, Balance::LeastBusy, Balance::Hash] {
            let mut bench = Bench::new(&[1, 1, 1, 1]);
            bench.latency = vec![Some(100.0), Some(120.0), Some(110.0), Some(101.0)];
            for share in bench.shares(how, 20_000) {
                assert!((0.23..0.27).contains(&share), "{how:?}: {share}");
            }
        }
        let shares = Bench::new(&[1, 3]).shares(Balance::P2c, 20_000);
        assert!((0.73..0.77).contains(&shares[1]), "{shares:?}");
        let shares = Bench::new(&[1, 3]).shares(Balance::LeastBusy, 20_000);
        assert!((0.73..0.77).contains(&shares[1]), "{shares:?}");
    }

    #[test]
    fn a_slow_endpoint_gets_less_and_is_never_piled_upon() {
        // four replicas, one of them ten times as slow
        let takes = [40, 40, 40, 400];
        let (counts, most) = Bench::new(&[1; 4]).under_load(Balance::P2c, &takes, 20_000);
        assert!(counts[3] * 8 < counts[0], "{counts:?}");
        assert!(most[3] < most[0], "{most:?}");
        let (turns, piled) = Bench::new(&[1; 4]).under_load(Balance::RoundRobin, &takes, 20_000);
        assert!(turns[3] == 5000 && piled[3] >= 100, "what turns would do: {turns:?} {piled:?}");
        let (counts, most) = Bench::new(&[1; 4]).under_load(Balance::LeastBusy, &takes, 20_000);
        assert!(counts[3] < counts[0] / 4 && most[3] <= most[0] + 1, "{counts:?} {most:?}");
    }

    #[test]
    fn equal_endpoints_are_loaded_equally_and_by_weight() {
        for how in [Balance::P2c, Balance::LeastBusy, Balance::RoundRobin] {
            let (counts, most) = Bench::new(&[1; 8]).under_load(how, &[200; 8], 40_000);
            for (n, count) in counts.iter().enumerate() {
                assert!((4_500..5_500).contains(count), "{how:?}: {n}: {counts:?}");
            }
            // 25 each on the mean; drawn at random it would be up to 45
            assert!(most.iter().all(|most| *most <= 31), "{how:?}: {most:?}");
        }
        let (counts, _) = Bench::new(&[1, 3]).under_load(Balance::P2c, &[100; 2], 20_000);
        assert!((14_500..15_500).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn a_growing_endpoint_gets_its_share_and_no_more_under_every_rule() {
        for how in [Balance::P2c, Balance::LeastBusy, Balance::RoundRobin, Balance::Hash] {
            for part in [100, 500, 900] {
                let mut bench = Bench::new(&[1; 4]);
                bench.weights[2] = part;
                bench.growing[2] = true;
                let expected = f64::from(part) / (3000.0 + f64::from(part));
                let share = bench.shares(how, 20_000)[2];
                assert!((share - expected).abs() < 0.012, "{how:?}, idle: {share}, not {expected}");
                // the others are busy: all that is measured by load would go to it
                let (counts, _) = bench.under_load(how, &[50; 4], 20_000);
                let share = f64::from(counts[2]) / 20_000.0;
                // less where its lot would have made it the busiest
                let right = share < expected + 0.012 && share > expected * 0.85;
                assert!(right, "{how:?}, under load: {share}, not {expected}");
            }
        }
        // by lot, but not when it is already the busiest
        let mut bench = Bench::new(&[1; 3]);
        (bench.growing[0], bench.in_flight) = (true, vec![9, 2, 3]);
        assert_eq!(bench.shares(Balance::P2c, 1000)[0], 0.0);
        // and when all have come back at once, the rule is all there is
        bench.growing = vec![true; 3];
        assert!(bench.shares(Balance::LeastBusy, 1000)[1] > 0.99);
    }

    #[test]
    fn keys_stay_where_they_are_when_others_come_and_go() {
        let among = |count: usize, weight: &dyn Fn(usize) -> u32| -> Vec<usize> {
            let credit = AtomicI64::new(0);
            let candidates: Vec<Candidate<'_>> = (0..count)
                .map(|n| Candidate {
                    place: n,
                    key: balance::mix(n as u64),
                    weight: weight(n),
                    growing: false,
                    in_flight: 0,
                    latency: None,
                    credit: &credit,
                })
                .filter(|c| c.weight > 0)
                .collect();
            (0..10_000).map(|key| choose(Balance::Hash, &candidates, Some(key), 0).unwrap().place).collect()
        };
        let before = among(20, &|_| 1000);
        // a fifth of them leaves: nobody else's key moves
        let without = among(20, &|n| if n % 5 == 0 { 0 } else { 1000 });
        let staying: Vec<usize> = (0..10_000).filter(|key| before[*key] % 5 != 0).collect();
        let kept = staying.iter().filter(|key| before[**key] == without[**key]).count();
        assert_eq!(kept, staying.len());
        // and when they come back, slowly at first, they take back only what was theirs
        for part in [100, 500, 1000] {
            let back = among(20, &|n| if n % 5 == 0 { part } else { 1000 });
            assert!((0..10_000).all(|key| back[key] == without[key] || back[key] == before[key]));
        }
        assert_eq!(before, among(20, &|_| 1000));
    }

    #[test]
    fn a_key_s_endpoint_that_has_far_too_much_to_do_is_passed_over() {
        let mut bench = Bench::new(&[1; 4]);
        bench.in_flight = vec![10; 4];
        let home = bench.choose(Balance::Hash, Some(42));
        bench.in_flight[home] = 13;
        assert_eq!(bench.choose(Balance::Hash, Some(42)), home, "a little more is borne");
        bench.in_flight[home] = 40;
        let other = bench.choose(Balance::Hash, Some(42));
        assert_ne!(other, home);
        assert_eq!(bench.choose(Balance::Hash, Some(42)), other, "and the next in line is the same each time");
    }

    #[test]
    fn weights_of_nothing_choose_all_the_same() {
        for how in [Balance::P2c, Balance::LeastBusy, Balance::RoundRobin, Balance::Hash] {
            let mut bench = Bench::new(&[0, 0, 0]);
            for n in 0..300 {
                assert!(bench.choose(how, Some(n)) < 3);
            }
        }
        assert!(choose(Balance::P2c, &[], None, 1).is_none());
    }
}
