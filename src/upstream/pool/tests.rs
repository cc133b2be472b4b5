//! A pool over time: the clock is an argument.

use std::collections::BTreeMap;

use super::*;
use crate::config::{Environment, load_str};

const NOTHING_TRIED: &[u64] = &[];

fn provider(entry: &str) -> Arc<Provider> {
    let checked = load_str("c.yaml", &format!("providers: {{p: {entry}}}"), &Environment::of([("", "")])).unwrap();
    checked.into_snapshot(1).providers.pop_first().unwrap().1
}

/// A pool of so many, and what else is written.
fn configured(count: usize, rest: &str) -> Arc<Provider> {
    let endpoints: Vec<String> = (1..=count).map(|n| format!("http://10.0.0.{n}:8000")).collect();
    provider(&format!("{{kind: vllm, endpoints: [{}]{rest}}}", endpoints.join(", ")))
}

struct Bench {
    pool: Arc<Pool>,
    now: Instant,
}

impl Bench {
    fn new(count: usize, rest: &str) -> Bench {
        let provider = configured(count, rest);
        let now = Instant::now();
        Bench { pool: Arc::new(Pool::new(&provider, provider.pool.as_ref().unwrap(), now)), now }
    }

    fn reload(&self, count: usize, rest: &str) {
        let provider = configured(count, rest);
        self.pool.reshape(&provider, provider.pool.as_ref().unwrap(), self.now);
    }

    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
    }

    fn endpoint(&self, n: usize) -> Arc<Endpoint> {
        Arc::clone(&self.pool.shape.load().members[n].endpoint)
    }

    fn fail(&self, n: usize, times: usize) {
        for _ in 0..times {
            self.pool.failed(&self.endpoint(n), "connect: refused", self.now);
        }
    }

    /// By the last digit of its address.
    fn call(&self, affinity: Option<u64>) -> String {
        let seat = self.pool.seat(affinity, NOTHING_TRIED, self.now).unwrap();
        digit(&seat.endpoint)
    }

    fn shares(&self, calls: u32) -> BTreeMap<String, f64> {
        let mut shares = BTreeMap::new();
        for _ in 0..calls {
            *shares.entry(self.call(None)).or_insert(0.0) += 1.0 / f64::from(calls);
        }
        shares
    }

    fn check(&self, n: usize, found: Result<(), &str>) {
        let policy = self.pool.shape.load().health.clone().unwrap();
        self.pool.checked(&self.endpoint(n), &policy, found, self.now);
    }

    fn states(&self) -> Vec<Condition> {
        self.pool.shown(self.now).iter().map(|shown| shown.state).collect()
    }
}

fn digit(endpoint: &Endpoint) -> String {
    endpoint.origin.name().trim_end_matches(":8000").rsplit('.').next().unwrap().to_owned()
}

use Condition::{Ejected, Healthy, Unhealthy, Unknown};

// === ejection ===

#[test]
fn failures_in_a_row_put_an_endpoint_out_for_a_while() {
    let mut bench = Bench::new(2, ", ejection: {failures: 3, time: 10s}, slow_start: 0s");
    bench.fail(0, 2);
    // one that works in between: the row begins anew
    bench.endpoint(0).succeeded(None);
    bench.fail(0, 2);
    assert_eq!(bench.states(), [Unknown, Unknown]);
    bench.fail(0, 1);
    assert_eq!(bench.states(), [Ejected, Unknown]);
    assert_eq!(bench.shares(100), BTreeMap::from([("2".to_owned(), bench.shares(100)["2"])]));
    let shown = &bench.pool.shown(bench.now)[0];
    assert_eq!((shown.ejected_for_ms, shown.last_error.as_deref()), (10_000, Some("connect: refused")));
    // what ends badly there meanwhile began before
    bench.fail(0, 10);
    bench.pass(9.99);
    assert_eq!(bench.states(), [Ejected, Unknown]);
    bench.pass(0.02);
    assert_eq!(bench.states(), [Unknown, Unknown]);
    assert!(bench.shares(1000)["1"] > 0.4);
}

#[test]
fn an_answer_of_the_server_s_own_fault_is_a_failure_and_no_other_is() {
    let bench = Bench::new(2, ", ejection: {failures: 2, time: 10s}");
    let seat = || loop {
        let seat = bench.pool.seat(None, NOTHING_TRIED, bench.now).unwrap();
        if digit(&seat.endpoint) == "1" {
            break seat;
        }
    };
    for status in [429, 404, 400, 200, 307] {
        for _ in 0..5 {
            seat().answered(status, None);
        }
        assert_eq!(bench.endpoint(0).shown(bench.now).state, Unknown, "{status}");
    }
    for status in [503, 429, 500, 200, 529] {
        seat().answered(status, None);
    }
    assert_eq!(bench.endpoint(0).shown(bench.now).state, Unknown, "never two in a row");
    seat().answered(500, None);
    assert_eq!(bench.pool.shown(Instant::now())[0].state, Ejected);
    assert_eq!(bench.pool.shown(Instant::now())[0].last_error.as_deref(), Some("status 500"));
}

#[test]
fn an_endpoint_that_fails_again_and_again_is_out_longer_and_good_time_is_counted() {
    let mut bench = Bench::new(2, ", ejection: {failures: 1, time: 10s}");
    let mut times = Vec::new();
    for _ in 0..12 {
        bench.fail(0, 1);
        let out = bench.pool.shown(bench.now)[0].ejected_for_ms.div_ceil(1000);
        times.push(out);
        bench.pass(out as f64 + 0.1);
    }
    assert_eq!(times, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100, 100]);
    // 35 seconds without a failure: three of ten are forgiven
    bench.pass(35.0);
    bench.fail(0, 1);
    assert_eq!(bench.pool.shown(bench.now)[0].ejected_for_ms.div_ceil(1000), 80);
    bench.pass(1000.0);
    bench.fail(0, 1);
    assert_eq!(bench.pool.shown(bench.now)[0].ejected_for_ms.div_ceil(1000), 10);
}

#[test]
fn no_more_than_the_given_share_is_put_out() {
    let bench = Bench::new(10, ", ejection: {failures: 1, time: 10s, max: 30%}");
    for n in 0..10 {
        bench.fail(n, 3);
    }
    assert_eq!(bench.states().iter().filter(|state| **state == Ejected).count(), 3);
    // those whose checks fail are out as well
    let bench = Bench::new(4, ", health: /health, ejection: {failures: 1, time: 10s, max: 50%}");
    for _ in 0..3 {
        bench.check(0, Err("status 503"));
        bench.check(1, Err("status 503"));
    }
    bench.fail(2, 5);
    assert_eq!(bench.states(), [Unhealthy, Unhealthy, Unknown, Unknown]);
    // the only one never is, and none at all when that is what was written
    let only = Bench::new(1, ", ejection: {failures: 1, time: 10s}");
    only.fail(0, 5);
    assert_eq!(only.states(), [Unknown]);
    let off = Bench::new(2, ", ejection: off");
    off.fail(0, 50);
    assert_eq!(off.states(), [Unknown, Unknown]);
}

#[test]
fn when_all_are_out_all_are_used() {
    let bench = Bench::new(3, ", ejection: {failures: 1, time: 10s, max: 100%}");
    for n in 0..3 {
        bench.fail(n, 1);
    }
    assert_eq!(bench.states(), [Ejected; 3]);
    assert_eq!(bench.shares(300).len(), 3);
    let bench = Bench::new(2, ", health: {path: /health, unhealthy: 1}");
    bench.check(0, Err("status 500"));
    bench.check(1, Err("status 500"));
    assert_eq!(bench.states(), [Unhealthy; 2]);
    assert_eq!(bench.shares(300).len(), 2);
}

#[test]
fn a_try_goes_where_none_was_and_first_to_who_is_well() {
    let bench = Bench::new(3, ", ejection: {failures: 1, time: 10s}");
    bench.fail(2, 1);
    for _ in 0..50 {
        let first = bench.pool.seat(None, NOTHING_TRIED, bench.now).unwrap();
        let mut tried = vec![first.endpoint.id];
        let second = bench.pool.seat(None, &tried, bench.now).unwrap();
        tried.push(second.endpoint.id);
        let mut seen = [digit(&first.endpoint), digit(&second.endpoint)];
        seen.sort();
        assert_eq!(seen, ["1", "2"]);
        assert!(bench.pool.has_beside(&tried));
        // better one that is out than none
        let third = bench.pool.seat(None, &tried, bench.now).unwrap();
        assert_eq!(digit(&third.endpoint), "3");
        tried.push(third.endpoint.id);
        assert!(!bench.pool.has_beside(&tried) && bench.pool.seat(None, &tried, bench.now).is_none());
    }
}

// === health ===

#[test]
fn checks_put_an_endpoint_out_and_bring_it_back_after_so_many_in_a_row() {
    let mut bench = Bench::new(2, ", health: {path: /health, healthy: 2, unhealthy: 3}, slow_start: 10s");
    assert_eq!(bench.states(), [Unknown, Unknown]);
    assert_eq!(bench.shares(100).len(), 2, "it is used before anything is known");
    bench.check(0, Err("status 503"));
    bench.check(0, Err("status 503"));
    bench.check(0, Ok(()));
    bench.check(0, Err("status 503"));
    bench.check(0, Err("status 503"));
    assert_eq!(bench.states(), [Unknown, Unknown]);
    bench.check(0, Err("no answer within 2s"));
    bench.check(1, Ok(()));
    bench.check(1, Ok(()));
    assert_eq!(bench.states(), [Unhealthy, Healthy]);
    assert_eq!(bench.shares(100).keys().collect::<Vec<_>>(), ["2"]);
    assert_eq!(bench.pool.shown(bench.now)[0].last_error.as_deref(), Some("health check: no answer within 2s"));
    bench.pass(30.0);
    bench.check(0, Ok(()));
    assert_eq!(bench.states(), [Unhealthy, Healthy]);
    bench.check(0, Ok(()));
    assert_eq!(bench.states(), [Healthy, Healthy]);
    // and its share grows: a tenth of an endpoint's at first
    let share = bench.shares(10_000)["1"];
    assert!((0.07..0.11).contains(&share), "{share}");
    bench.pass(5.0);
    let share = bench.shares(10_000)["1"];
    assert!((0.33..0.38).contains(&share), "{share}");
    bench.pass(5.0);
    let share = bench.shares(10_000)["1"];
    assert!((0.47..0.53).contains(&share), "{share}");
    // one that was well from the start has its whole share from the start
    bench.check(0, Err("status 503"));
    assert_eq!(bench.states(), [Healthy, Healthy]);
}

#[test]
fn what_checks_found_counts_no_longer_when_there_are_none() {
    let bench = Bench::new(2, ", health: {path: /health, unhealthy: 1}");
    bench.check(0, Err("status 503"));
    bench.reload(2, ", health: {path: /ready, unhealthy: 1}");
    assert_eq!(bench.states(), [Unhealthy, Unknown]);
    bench.reload(2, "");
    assert_eq!(bench.states(), [Unknown, Unknown]);
}

// === reload ===

#[test]
fn what_is_known_of_an_endpoint_outlives_a_reload_and_comes_back_with_a_new_one_only_slowly() {
    let mut bench = Bench::new(3, ", ejection: {failures: 1, time: 60s}, slow_start: 10s");
    bench.pass(100.0);
    bench.fail(1, 1);
    let held = loop {
        let seat = bench.pool.seat(None, NOTHING_TRIED, bench.now).unwrap();
        if digit(&seat.endpoint) == "3" {
            break seat;
        }
    };
    bench.reload(4, ", balance: least_busy, ejection: {failures: 2, time: 60s}, slow_start: 10s");
    let shown = bench.pool.shown(bench.now);
    assert_eq!(shown.iter().map(|s| s.state).collect::<Vec<_>>(), [Unknown, Ejected, Unknown, Unknown]);
    assert_eq!(shown.iter().map(|s| s.in_flight).collect::<Vec<_>>(), [0, 0, 1, 0]);
    assert_eq!(shown[3].endpoint, "10.0.0.4:8000");
    let share = bench.shares(10_000)["4"];
    assert!((0.03..0.06).contains(&share), "a tenth, beside two whole ones: {share}");
    // it goes with a call at it, and nothing is left of it
    bench.reload(2, "");
    assert_eq!(bench.pool.shown(bench.now).len(), 2);
    assert!(!bench.shares(200).contains_key("3"));
    held.answered(500, None);
    drop(held);
    assert_eq!(bench.pool.shown(bench.now).iter().map(|s| s.in_flight).sum::<u32>(), 0);
}

// === load ===

#[test]
fn a_seat_counts_until_it_is_dropped_and_a_slow_endpoint_is_tried_again_when_it_was_idle() {
    let mut bench = Bench::new(2, "");
    let seats: Vec<Seat> = (0..10).map(|_| bench.pool.seat(None, NOTHING_TRIED, bench.now).unwrap()).collect();
    assert_eq!(bench.pool.shown(bench.now).iter().map(|s| s.in_flight).collect::<Vec<_>>(), [5, 5]);
    for seat in &seats {
        let took = if digit(&seat.endpoint) == "1" { 50 } else { 2000 };
        seat.answered(200, Some(Duration::from_millis(took)));
    }
    // a refusal comes at once, and says nothing of how fast it answers
    seats.iter().for_each(|seat| seat.answered(400, Some(Duration::from_micros(1))));
    drop(seats);
    let shown = bench.pool.shown(bench.now);
    assert_eq!((shown[0].ewma_ms, shown[1].ewma_ms), (Some(50), Some(2000)));
    assert_eq!(shown[0].in_flight + shown[1].in_flight, 0);
    assert_eq!(bench.shares(100).len(), 1);
    // the fast one is busy all the time
    let fast = bench.endpoint(0);
    fast.enter();
    bench.pass(60.0);
    assert!(bench.endpoint(1).latency(bench.now).unwrap() < 300.0);
    assert_eq!(fast.latency(bench.now), Some(50.0), "what is busy forgets nothing");
    bench.pass(600.0);
    assert!(bench.shares(100).contains_key("2"));
}

#[test]
fn turns_and_keys_go_by_the_configuration() {
    let bench = Bench::new(4, ", balance: round_robin");
    let seen: Vec<String> = (0..8).map(|_| bench.call(None)).collect();
    assert_eq!(seen, ["1", "2", "3", "4", "1", "2", "3", "4"]);
    let bench = Bench::new(20, ", balance: hash, ejection: {failures: 1, time: 60s}");
    let before: Vec<String> = (0..2000).map(|key| bench.call(Some(key))).collect();
    assert_eq!(before, (0..2000).map(|key| bench.call(Some(key))).collect::<Vec<_>>());
    // a fifth of them goes, and four are out
    bench.reload(16, ", balance: hash, ejection: {failures: 1, time: 60s}");
    (0..4).for_each(|n| bench.fail(n, 1));
    let gone = |digit: &String| matches!(digit.parse::<u32>().unwrap(), 1..=4 | 17..=20);
    let staying: Vec<u64> = (0..2000).filter(|key| !gone(&before[*key as usize])).collect();
    let kept = staying.iter().filter(|key| bench.call(Some(**key)) == before[**key as usize]).count();
    assert!(kept * 100 > staying.len() * 95, "{kept} of {}", staying.len());
    assert!(staying.len() > 1000);
    // the same in another process
    let other = Bench::new(20, ", balance: hash, api_key: another");
    assert_eq!(before, (0..2000).map(|key| other.call(Some(key))).collect::<Vec<_>>());
    // without a key there is no order
    assert!(other.shares(500).len() > 15);
}

#[test]
fn keys_are_kept_under_load_while_endpoints_come_and_go() {
    let bench = Bench::new(20, ", balance: hash, slow_start: 0s");
    // 200 conversations of 20 turns, 40 calls in flight
    let mut held: std::collections::VecDeque<Seat> = std::collections::VecDeque::new();
    let mut homes: BTreeMap<u64, String> = BTreeMap::new();
    let (mut kept, mut calls) = (0u32, 0u32);
    for turn in 0..20u64 {
        // a fifth comes and goes
        let count = if turn % 2 == 0 { 20 } else { 16 };
        bench.reload(count, ", balance: hash, slow_start: 0s");
        for key in 0..200 {
            let seat = bench.pool.seat(Some(balance::mix(key)), NOTHING_TRIED, bench.now).unwrap();
            let at = digit(&seat.endpoint);
            if let Some(home) = homes.get(&key)
                && home.parse::<u32>().unwrap() <= 16
            {
                calls += 1;
                kept += u32::from(*home == at);
            }
            if turn == 0 {
                homes.insert(key, at);
            }
            held.push_back(seat);
            if held.len() > 40 {
                held.pop_front();
            }
        }
    }
    let share = f64::from(kept) / f64::from(calls);
    println!("{share:.3} of {calls} calls stayed where their prefix is");
    assert!(calls > 2000 && share > 0.95, "{share}");
}

#[test]
fn choosing_is_quick() {
    let bench = Bench::new(10, "");
    let begun = Instant::now();
    for _ in 0..10_000 {
        drop(bench.pool.seat(None, NOTHING_TRIED, bench.now));
    }
    // a debug build; what counts is that it is not a hundred times as much
    println!("{:?} for a seat of ten", begun.elapsed() / 10_000);
    assert!(begun.elapsed() < Duration::from_secs(3));
}
