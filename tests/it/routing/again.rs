//! The same target again: how often, after which wait, for how long, and how much of it in all.

use std::time::{Duration, Instant};

use tollgate::simulator::{Part, Reply};

use super::{Answer, answered, ask, calls, completion, error, gateway, hang, model, some};
use crate::support::{Gateway, Upstream, client};

/// Between the tries, as the provider saw them.
fn gaps(upstream: &Upstream) -> Vec<Duration> {
    let at: Vec<Instant> = upstream.record().calls().iter().map(|call| call.at).collect();
    at.windows(2).map(|two| two[1] - two[0]).collect()
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[tokio::test]
async fn tries_are_counted_and_the_wait_between_them_grows() {
    let [a] = &some().await;
    let gateway = gateway(&[a], &model(&["a/x"], ", retry: {attempts: 4, backoff: 200ms}")).await;
    a.simulator.replies("x", [error(500, ""), error(503, ""), error(502, ""), completion("at last")]);
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way()), (200, ("a", "4")), "{}", answer.text);
    assert_eq!(answer.header("x-tollgate-tried"), "a/x;500, a/x;503, a/x;502");
    let gaps = gaps(a);
    println!("between the tries: {gaps:?}");
    for (gap, full) in gaps.iter().zip([200, 400, 800]) {
        assert!(*gap >= ms(full / 2) && *gap < ms(full + 150), "{full}: {gaps:?}");
    }
    // and one that never recovers is asked as often as was written, and no oftener
    a.record().clear();
    a.simulator.reply("x", error(500, ""));
    let before = calls(a);
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way(), calls(a) - before), (500, ("a", "4"), 4), "{}", answer.text);
}

#[tokio::test]
async fn without_a_word_of_tries_each_target_has_one() {
    let [a] = &some().await;
    let gateway = gateway(&[a], &format!("{}retry: {{backoff: 10ms}}\n", model(&["a/x"], ""))).await;
    a.simulator.replies("x", [error(500, ""), completion("at last")]);
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.header("x-tollgate-attempts"), calls(a)), (500, "1", 1), "{}", answer.text);
}

#[tokio::test]
async fn a_target_is_tried_again_only_after_all_others() {
    let [a, b] = &some().await;
    let gateway = gateway(&[a, b], &model(&["a/x", "b/x"], ", retry: {attempts: 4, backoff: 100ms}")).await;
    for upstream in [a, b] {
        upstream.simulator.reply("x", error(503, ""));
    }
    let answer = ask(&gateway, "m", false).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.header("x-tollgate-attempts"), "4");
    let tried: Vec<&str> = answer.header("x-tollgate-tried").split(", ").collect();
    assert_eq!(tried[..2], ["a/x;503", "b/x;503"], "{tried:?}");
    assert_eq!((calls(a), calls(b)), (2, 2));
}

#[tokio::test]
async fn only_what_is_listed_is_tried_again() {
    let [a, b] = &some().await;
    let gateway =
        gateway(&[a, b], &model(&["a/x", "b/x"], ", retry: {attempts: 3, on: [connect, 503], backoff: 10ms}")).await;
    a.simulator.reply("x", error(500, ""));
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.header("x-tollgate-attempts")), (500, "1"), "{}", answer.text);
    a.simulator.reply("x", error(503, ""));
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way()), (200, ("b", "2")), "{}", answer.text);
}

// === Retry-After ===

/// An HTTP date so many seconds from now, and when that is.
fn date_in(seconds: i64) -> (String, Instant) {
    let (now, here) = (jiff::Timestamp::now(), Instant::now());
    let then = jiff::Timestamp::from_second(now.as_second() + seconds).expect("soon");
    let until = Duration::try_from(then.duration_since(now)).expect("ahead");
    (then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(), here + until)
}

#[tokio::test]
async fn what_the_provider_asks_for_is_waited() {
    for status in [503, 429] {
        for (name, seconds) in [("retry-after", Some(1.0)), ("retry-after-ms", Some(0.7)), ("retry-after", None)] {
            // another gateway each time: what is learned of a target stays with it
            let [a] = &some().await;
            let rest = model(&["a/x"], ", retry: {attempts: 2, backoff: 10ms, max_backoff: 4s}");
            let gateway = gateway(&[a], &rest).await;
            let (value, date) = match seconds {
                Some(seconds) if name == "retry-after" => (seconds.to_string(), None),
                Some(seconds) => ((seconds * 1000.0).to_string(), None),
                None => Some(date_in(3)).map(|(value, date)| (value, Some(date))).expect("a date"),
            };
            a.simulator.replies("x", [error(status, "").header(name, &value), completion("at last")]);
            let answer = ask(&gateway, "m", false).await;
            assert_eq!((answer.status, answer.way()), (200, ("a", "2")), "{status} {value}: {}", answer.text);
            let calls = a.record().calls();
            let asked_for = date.unwrap_or_else(|| calls[0].at + Duration::from_secs_f64(seconds.unwrap_or_default()));
            let late = calls[1].at.saturating_duration_since(asked_for);
            println!("{status}, {name}: {value}: again {late:?} after that");
            assert!(calls[1].at + ms(20) >= asked_for && late < ms(600), "{status} {value}: {late:?}, {calls:?}");
        }
    }
}

#[tokio::test]
async fn a_wait_longer_than_the_longest_is_told_to_the_caller() {
    for status in [503, 429] {
        let [a] = &some().await;
        let gateway = gateway(&[a], &model(&["a/x"], ", retry: {attempts: 3, max_backoff: 2s}")).await;
        a.simulator.reply("x", error(status, "").header("retry-after", "30"));
        for stream in [false, true] {
            a.record().clear();
            let answer = ask(&gateway, "m", stream).await;
            // the second call finds what the first has learned: where it does, it is told what is left
            assert!(answer.status == status || answer.status == 429, "{} {}", answer.status, answer.text);
            assert!(answer.retry_after().is_some_and(|seconds| (29..=30).contains(&seconds)), "{:?}", answer.headers);
            assert!(answer.took < ms(1500), "{:?}", answer.took);
            assert!(a.record().calls().len() <= 1);
        }
    }
}

#[tokio::test]
async fn another_target_does_not_wait_for_the_first_one_s_retry_after() {
    let [a, b] = &some().await;
    let gateway = gateway(&[a, b], &model(&["a/x", "b/x"], "")).await;
    a.simulator.reply("x", error(429, "").header("retry-after", "5"));
    for _ in 0..3 {
        let answer = ask(&gateway, "m", false).await;
        assert_eq!((answer.status, answer.header("x-tollgate-provider")), (200, "b"), "{}", answer.text);
        assert!(answer.took < ms(1000), "{:?}", answer.took);
    }
    assert_eq!((calls(a), calls(b)), (1, 3), "it was not asked again while it waits");
}

// === the end of all tries ===

fn in_time(answer: &Answer, from: u64, to: u64) {
    assert!(answer.took >= ms(from) && answer.took <= ms(to), "{:?} is not {from} to {to} ms", answer.took);
}

#[tokio::test]
async fn no_try_begins_or_lasts_beyond_the_call_s_own_time() {
    let [a] = &some().await;
    let rest = model(
        &["a/x"],
        ", timeouts: {total: 1s}, retry: {attempts: 50, backoff: 150ms, max_backoff: 150ms, budget: 100%}",
    );
    let gateway = gateway(&[a], &rest).await;
    a.simulator.reply("x", error(503, ""));
    let answer = ask(&gateway, "m", false).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    in_time(&answer, 500, 1150);
    assert!((4..=14).contains(&calls(a)), "{}", calls(a));
    // one that hangs
    a.simulator.reply("x", hang());
    for stream in [false, true] {
        let answer = ask(&gateway, "m", stream).await;
        assert_eq!(answer.status, 504, "{}", answer.text);
        in_time(&answer, 950, 1400);
    }
    // a wait that would end after it is not begun
    a.simulator.reply("x", error(503, "").header("retry-after", "2"));
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.retry_after()), (503, Some(2)), "{}", answer.text);
    in_time(&answer, 0, 500);
}

async fn ask_within(gateway: &Gateway, header: &str, seconds: &str, stream: bool) -> Answer {
    answered(gateway.chat(&client(), "m", stream).header(header, seconds)).await
}

#[tokio::test]
async fn the_sdk_s_own_time_limit_ends_the_tries() {
    let [a, b] = &some().await;
    let rest =
        model(&["a/x", "b/x"], ", timeouts: {first_token: 700ms}, retry: {attempts: 20, backoff: 100ms, budget: 100%}");
    let gateway = gateway(&[a, b], &rest).await;
    for upstream in [a, b] {
        upstream.simulator.reply("x", hang());
    }
    for header in ["x-stainless-timeout", "x-stainless-read-timeout"] {
        for stream in [false, true] {
            let answer = ask_within(&gateway, header, "1", stream).await;
            assert_eq!((answer.status, answer.header("x-tollgate-attempts")), (504, "2"), "{}", answer.text);
            in_time(&answer, 900, 1300);
        }
    }
    // an SDK that waits for ever, or says nonsense
    b.simulator.reply("x", Reply::default().first(Part::Wait(ms(300))).bytes("{\"id\":\"1\",\"choices\":[]}"));
    for nonsense in ["0", "-1", "never", "1e400", ""] {
        let answer = ask_within(&gateway, "x-stainless-timeout", nonsense, false).await;
        assert_eq!((answer.status, answer.way()), (200, ("b", "2")), "{nonsense:?}: {}", answer.text);
    }
}

// === the budget ===

#[tokio::test]
async fn when_a_target_always_fails_retries_are_a_tenth_of_the_calls() {
    let [a] = &some().await;
    let gateway = gateway(&[a], &model(&["a/x"], ", retry: {attempts: 3, backoff: 1ms, max_backoff: 2ms}")).await;
    a.simulator.reply("x", error(500, ""));
    let (client, begun) = (client(), Instant::now());
    let worker = || async {
        for _ in 0..50 {
            let answer = answered(gateway.chat(&client, "m", false)).await;
            assert_eq!(answer.status, 500, "{}", answer.text);
        }
    };
    futures_util::future::join_all((0..6).map(|_| worker())).await;
    let seconds = begun.elapsed().as_secs() + 1;
    let asked = calls(a);
    println!("300 calls that failed, {asked} tries in {:?}", begun.elapsed());
    // ten in reserve, of which one comes back each second
    assert!(asked <= 330 + 10 + seconds, "{asked} tries of 300 calls");
    assert!(asked >= 325, "some are tried again: {asked}");
}

#[tokio::test]
async fn a_retry_that_the_budget_forbids_costs_no_time_either() {
    let [a] = &some().await;
    let gateway =
        gateway(&[a], &model(&["a/x"], ", retry: {attempts: 2, backoff: 2s, max_backoff: 2s, budget: 0%}")).await;
    a.simulator.reply("x", error(500, ""));
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way()), (500, ("a", "1")), "{}", answer.text);
    assert!(answer.took < ms(700), "it waited {:?} for a try that it may not make", answer.took);
}
