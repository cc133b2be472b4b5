//! What replies teach, one by one.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::{Claim, Gate, Ticket, clock};
use crate::config::policy::Admission;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let field =
        |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    pairs.iter().map(field).collect()
}

/// A minute's limit of requests.
fn left(limit: u64, left: u64) -> HeaderMap {
    headers(&[
        ("x-ratelimit-limit-requests", &limit.to_string()),
        ("x-ratelimit-remaining-requests", &left.to_string()),
        ("x-ratelimit-reset-requests", &format!("{}ms", (limit - left) * 60_000 / limit)),
    ])
}

async fn pass(gate: &Gate) -> Ticket {
    let claim = Claim { key: 1, weight: 1, tokens: 100, deadline: clock() + Duration::from_secs(60) };
    gate.enter(&Admission::default(), claim).await.unwrap()
}

fn seen(gate: &Gate) -> u64 {
    gate.rates(clock()).requests_left.unwrap()
}

fn wait(gate: &Gate) -> Duration {
    gate.wait(&Admission::default(), 100, clock())
}

async fn after(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_let_through_is_counted_down_and_time_fills_it_up() {
    let gate = Gate::default();
    gate.learn(&left(60, 10), 200, None, clock());
    let rates = gate.rates(clock());
    assert_eq!((rates.requests_limit, rates.requests_left, rates.reset_ms), (Some(60), Some(10), Some(50_000)));
    let tickets = [pass(&gate).await, pass(&gate).await, pass(&gate).await];
    assert_eq!(seen(&gate), 7);
    after(2_000).await;
    assert_eq!(seen(&gate), 9);
    after(100_000).await;
    assert_eq!((seen(&gate), gate.rates(clock()).reset_ms), (60, Some(0)));
    drop(tickets);
}

#[tokio::test(start_paused = true)]
async fn replies_that_overtake_one_another_give_nothing_back() {
    let gate = Gate::default();
    gate.learn(&left(60, 10), 200, None, clock());
    let mut tickets = Vec::new();
    for _ in 0..10 {
        tickets.push(pass(&gate).await);
    }
    assert_eq!(seen(&gate), 0);
    after(20).await;
    // the provider counted them in an order of its own, and that of the call it counted first comes last
    for (counted, at) in [(0, 9), (9, 0), (3, 5), (2, 4), (4, 8), (1, 1), (5, 3), (6, 6), (8, 2), (7, 7)].iter().rev() {
        tickets[*at].learn(&left(60, 9 - counted), 200, None, clock());
        assert_eq!(seen(&gate), 0, "{counted} {at}");
    }
    drop(tickets);
}

#[tokio::test(start_paused = true)]
async fn an_estimate_is_shared_between_input_and_output_where_they_are_limited_apart() {
    let gate = Gate::default();
    let told = headers(&[
        ("anthropic-ratelimit-tokens-limit", "480000"),
        ("anthropic-ratelimit-tokens-remaining", "480000"),
        ("anthropic-ratelimit-input-tokens-limit", "400000"),
        ("anthropic-ratelimit-input-tokens-remaining", "400000"),
        ("anthropic-ratelimit-output-tokens-limit", "80000"),
        ("anthropic-ratelimit-output-tokens-remaining", "80000"),
    ]);
    gate.learn(&told, 200, None, clock());
    let mut passed = 0;
    while gate.wait(&Admission::default(), 6_000, clock()).is_zero() && passed < 1000 {
        let claim = Claim { key: 1, weight: 1, tokens: 6_000, deadline: clock() };
        let _ = gate.enter(&Admission::default(), claim).await.unwrap();
        passed += 1;
    }
    assert_eq!(passed, 80);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_raises_nothing() {
    for exact in [true, false] {
        let gate = Gate::default();
        gate.learn(&left(600, 100), 200, None, clock());
        let (a, b, c) = (pass(&gate).await, pass(&gate).await, pass(&gate).await);
        assert_eq!(seen(&gate), 97);
        let learn = |ticket: &Ticket, headers: &HeaderMap| {
            if exact { ticket.learn(headers, 200, None, clock()) } else { gate.learn(headers, 200, None, clock()) }
        };
        learn(&c, &left(600, 97));
        assert_eq!(seen(&gate), 97, "exact: {exact}");
        // written before the other two were counted
        learn(&b, &left(600, 98));
        learn(&a, &left(600, 99));
        assert_eq!(seen(&gate), 97, "exact: {exact}");
        drop((a, b, c));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_does_not_take_what_has_filled_up_since() {
    let gate = Gate::default();
    gate.learn(&left(600, 10), 200, None, clock());
    let slow = pass(&gate).await;
    after(5_000).await;
    assert_eq!(seen(&gate), 59);
    // nine were left when it was asked, five seconds ago
    slow.learn(&left(600, 9), 200, None, clock());
    assert_eq!(seen(&gate), 59);
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn what_others_use_of_the_account_is_seen_and_what_was_estimated_too_high_comes_back() {
    let gate = Gate::default();
    gate.learn(&left(600, 500), 200, None, clock());
    let one = pass(&gate).await;
    one.learn(&left(600, 20), 200, None, clock());
    assert_eq!(seen(&gate), 20, "somebody else was there");
    drop(one);
    let one = pass(&gate).await;
    one.learn(&left(600, 400), 200, None, clock());
    assert_eq!(seen(&gate), 400, "nothing else was under way: it is so");
    drop(one);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_says_nothing_closes_for_a_second_then_for_longer() {
    let gate = Gate::default();
    for _ in 0..300 {
        pass(&gate).await.learn(&HeaderMap::new(), 200, None, clock());
        after(10).await;
    }
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let ticket = pass(&gate).await;
        ticket.learn(&HeaderMap::new(), 429, None, clock());
        pauses.push(wait(&gate).as_secs_f64().round());
        drop(ticket);
        after(wait(&gate).as_millis() as u64 + 1).await;
        drop(pass(&gate).await);
        assert!(!wait(&gate).is_zero(), "half open: one at a time");
        after(wait(&gate).as_millis() as u64 + 1).await;
    }
    assert_eq!(pauses, [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
    // one success, and it is soon as it was
    let since = clock();
    for _ in 0..500 {
        pass(&gate).await.learn(&HeaderMap::new(), 200, None, clock());
    }
    let passed = (clock() - since).as_secs();
    assert!((5..20).contains(&passed), "{passed}");
}

#[tokio::test(start_paused = true)]
async fn one_burst_of_refusals_is_one_refusal() {
    let gate = Gate::default();
    let mut tickets = Vec::new();
    for _ in 0..50 {
        tickets.push(pass(&gate).await);
    }
    for ticket in tickets {
        ticket.learn(&HeaderMap::new(), 429, None, clock());
    }
    assert!(wait(&gate) <= Duration::from_millis(2100), "{:?}", wait(&gate));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_of_what_was_let_through_before_lowers_the_room_only_once() {
    let gate = Gate::default();
    let mut tickets = Vec::new();
    for _ in 0..100 {
        tickets.push(pass(&gate).await);
    }
    for _ in 0..20 {
        gate.learn(&HeaderMap::new(), 503, None, clock());
        after(1_100).await;
    }
    drop(tickets);
    let mut passed = Vec::new();
    while gate.rates(clock()).in_flight < 200
        && tokio::time::timeout(Duration::ZERO, pass(&gate)).await.is_ok_and(|t| {
            passed.push(t);
            true
        })
    {}
    assert_eq!(passed.len(), 91);
}

#[tokio::test(start_paused = true)]
async fn the_wait_that_a_provider_asks_for_is_kept() {
    for status in [429, 503, 529] {
        let gate = Gate::default();
        let ticket = pass(&gate).await;
        ticket.learn(&HeaderMap::new(), status, Some(Duration::from_secs(7)), clock());
        drop(ticket);
        let waited = pass(&gate).await.waited;
        assert!((7.0..7.2).contains(&waited.as_secs_f64()), "{status}: {waited:?}");
        let ticket = pass(&gate).await;
        ticket.learn(&HeaderMap::new(), status, Some(Duration::from_secs(u64::MAX)), clock());
        assert!(wait(&gate) <= Duration::from_secs(600), "nothing closes it for ever");
        drop(ticket);
    }
    for status in [200, 400, 401, 404, 500, 502] {
        let gate = Gate::default();
        gate.learn(&HeaderMap::new(), status, Some(Duration::from_secs(7)), clock());
        assert_eq!(wait(&gate), Duration::ZERO, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_used_up_opens_at_its_end() {
    let gate = Gate::default();
    let used_up = headers(&[("ratelimit-limit", "50"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "8")]);
    gate.learn(&used_up, 200, None, clock());
    assert_eq!(wait(&gate).as_secs(), 8);
    after(7_900).await;
    assert!(!wait(&gate).is_zero());
    after(100).await;
    assert_eq!((wait(&gate), seen(&gate)), (Duration::ZERO, 50));
}

#[tokio::test(start_paused = true)]
async fn limits_that_are_told_no_more_are_forgotten() {
    let gate = Gate::default();
    let day = headers(&[
        ("x-ratelimit-limit-requests-day", "100"),
        ("x-ratelimit-remaining-requests-day", "0"),
        ("x-ratelimit-reset-requests-day", "40000.5"),
    ]);
    gate.learn(&day, 200, None, clock());
    assert_eq!(wait(&gate).as_secs(), 40_000);
    after(601_000).await;
    assert_eq!(wait(&gate), Duration::ZERO, "a call finds out");
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_survived() {
    let gate = Gate::default();
    for value in ["", "-1", "0", "NaN", "inf", "1e308", "99999999999999999999999", "x", ";;,", "1h1", "9999999999999d"]
    {
        for limit in ["", "0", "1", "1e308"] {
            gate.learn(
                &headers(&[
                    ("x-ratelimit-limit-requests", limit),
                    ("x-ratelimit-remaining-requests", value),
                    ("x-ratelimit-reset-requests", value),
                    ("anthropic-ratelimit-tokens-limit", limit),
                    ("anthropic-ratelimit-tokens-remaining", value),
                    ("anthropic-ratelimit-tokens-reset", value),
                    ("x-ratelimit-renewalperiod-requests", value),
                ]),
                429,
                Some(Duration::MAX),
                clock(),
            );
            let claim = Claim { key: 1, weight: 0, tokens: u64::MAX, deadline: clock() + Duration::from_secs(1) };
            let _ = gate.enter(&Admission::default(), claim).await;
            let _ = gate.rates(clock());
        }
    }
    after(700_000).await;
    after(700_000).await;
    let waited = pass(&gate).await.waited;
    assert!(waited <= Duration::from_secs(10), "{waited:?}");
}
