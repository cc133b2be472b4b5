//! A target that fails again and again is left alone, the others take its calls, and one call finds out when it works again.

use std::time::{Duration, Instant};

use tollgate::simulator::{Part, Reply};

use super::{Answer, answered, ask, ask_often, calls, completion, error, gateway, model, some};
use crate::support::{Gateway, client};

/// Until the breaker of a target that opened at `since` lets a probe through.
async fn cooled(since: Instant, cooldown: Duration) {
    tokio::time::sleep((cooldown + Duration::from_millis(50)).saturating_sub(since.elapsed())).await;
}

fn left_alone(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (503, Some("breaker_open")),
        "{}",
        answer.text
    );
    assert!(answer.took < Duration::from_millis(200), "{:?}", answer.took);
    assert_eq!(answer.header("x-tollgate-attempts"), "", "nobody was asked");
}

/// Another configuration, in force when this returns.
async fn change(gateway: &Gateway, from: &str, to: &str) {
    let text = std::fs::read_to_string(gateway.config_path()).expect("the configuration");
    assert!(text.contains(from), "{from} in {text}");
    std::fs::write(gateway.config_path(), text.replace(from, to)).expect("written");
    let url = format!("http://{}/api/config/reload", gateway.admin);
    let answer = client().post(url).send().await.expect("the admin port answers");
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap_or_default());
}

#[tokio::test]
async fn five_failures_open_it_and_the_next_call_is_answered_at_once() {
    let [a] = &some().await;
    let rest = model(&["a/x"], ", retry: {attempts: 1}, breaker: {failures: 5, cooldown: 20s}");
    let gateway = gateway(&[a], &rest).await;
    a.simulator.reply("x", error(500, ""));
    for answer in ask_often(&gateway, "m", 5).await {
        assert_eq!((answer.status, answer.header("x-tollgate-attempts")), (500, "1"), "{}", answer.text);
    }
    for stream in [false, true] {
        let answer = ask(&gateway, "m", stream).await;
        left_alone(&answer);
        assert!(answer.retry_after().is_some_and(|seconds| (18..=20).contains(&seconds)), "{:?}", answer.headers);
    }
    assert_eq!(calls(a), 5);
    // the caller's own faults and successes between them never open it
    a.simulator.reply("y", error(400, "invalid_value"));
    assert!(ask_often(&gateway, "a/y", 8).await.iter().all(|answer| answer.status == 400));
    a.simulator.replies("y", (0..8).map(|n| if n % 4 == 3 { completion("well") } else { error(500, "") }));
    let statuses: Vec<u16> = ask_often(&gateway, "a/y", 8).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert!(gateway.stderr().contains("open"), "the operator is told: {}", gateway.stderr());
}

#[tokio::test]
async fn meanwhile_the_other_target_takes_all_and_nobody_pays_a_try() {
    let [a, b] = &some().await;
    let rest = model(&["a/x", "b/x"], ", breaker: {failures: 5, cooldown: 30s}");
    let gateway = gateway(&[a, b], &rest).await;
    a.simulator.reply("x", error(503, ""));
    let answers = ask_often(&gateway, "m", 30).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let attempts: Vec<&str> = answers.iter().map(|answer| answer.header("x-tollgate-attempts")).collect();
    assert!(attempts[..5].iter().all(|n| *n == "2") && attempts[5..].iter().all(|n| *n == "1"), "{attempts:?}");
    assert_eq!((calls(a), calls(b)), (5, 30));
}

#[tokio::test]
async fn one_probe_finds_out_and_closes_it() {
    const COOLDOWN: Duration = Duration::from_millis(700);
    let [a, b] = &some().await;
    let rest = model(&["a/x", "b/x"], ", breaker: {failures: 3, cooldown: 700ms}");
    let gateway = gateway(&[a, b], &rest).await;
    a.simulator.reply("x", error(503, ""));
    ask_often(&gateway, "m", 4).await;
    assert_eq!(calls(a), 3);
    let mut opened = Instant::now();
    // still ill: one probe, which costs its call a try, and it is open anew
    cooled(opened, COOLDOWN).await;
    let answers = ask_often(&gateway, "m", 5).await;
    opened = Instant::now();
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!((calls(a), answers[0].way()), (4, ("b", "2")));
    // well, but slow: while the probe is out all others go elsewhere
    cooled(opened, COOLDOWN).await;
    let wait = Part::Wait(Duration::from_millis(500));
    a.simulator.replies("x", [completion("slow").first(wait), completion("well")]);
    let client = client();
    let at_once = (0..8).map(|_| answered(gateway.chat(&client, "m", false)));
    let answers = futures_util::future::join_all(at_once).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let probes = answers.iter().filter(|answer| answer.header("x-tollgate-provider") == "a").count();
    assert_eq!((probes, calls(a)), (1, 5), "one probe at a time");
    // closed
    let answers = ask_often(&gateway, "m", 6).await;
    assert!(answers.iter().all(|answer| answer.way() == ("a", "1")));
}

#[tokio::test]
async fn an_open_breaker_outlives_a_reload() {
    let [a, b] = &some().await;
    let rest = model(&["a/x", "b/x"], ", breaker: {failures: 3, cooldown: 60s}");
    let gateway = gateway(&[a, b], &rest).await;
    a.simulator.reply("x", error(503, ""));
    ask_often(&gateway, "m", 4).await;
    change(&gateway, "failures: 3", "failures: 4").await;
    change(&gateway, "models:\n", "models:\n  other: b/x\n").await;
    let answers = ask_often(&gateway, "m", 4).await;
    assert!(answers.iter().all(|answer| answer.way() == ("b", "1")));
    assert_eq!(calls(a), 3);
    // whoever switches it off means it
    change(&gateway, "breaker: {failures: 4, cooldown: 60s}", "breaker: off").await;
    ask(&gateway, "m", false).await;
    assert_eq!(calls(a), 4);
}

#[tokio::test]
async fn a_target_that_asks_to_be_left_alone_is() {
    let [a, b] = &some().await;
    let rest = model(&["a/x", "b/x"], ", breaker: {failures: 5, cooldown: 1s}") + "  alone: a/x\n";
    let gateway = gateway(&[a, b], &rest).await;
    a.simulator.replies("x", [error(503, "").header("retry-after", "2"), completion("well")]);
    let begun = Instant::now();
    assert_eq!(ask(&gateway, "m", false).await.way(), ("b", "2"));
    for answer in ask_often(&gateway, "m", 5).await {
        assert_eq!(answer.way(), ("b", "1"), "one failure, and it said for how long");
    }
    let answer = ask(&gateway, "alone", false).await;
    left_alone(&answer);
    assert!(matches!(answer.retry_after(), Some(1 | 2)), "{:?}", answer.headers);
    assert_eq!(calls(a), 1);
    cooled(begun, Duration::from_secs(2)).await;
    assert_eq!(ask(&gateway, "m", false).await.way(), ("a", "1"));
}

#[tokio::test]
async fn silence_and_a_broken_connection_open_it_too() {
    let silent = || Reply::events().first(Part::Hang);
    let cut = || Reply::default().first(Part::Cut);
    for (name, reply) in [("silent", silent()), ("cut", cut())] {
        let [a] = &some().await;
        let rest = model(
            &["a/x"],
            ", retry: {attempts: 1}, timeouts: {first_token: 150ms}, breaker: {failures: 3, cooldown: 30s}",
        );
        let gateway = gateway(&[a], &rest).await;
        a.simulator.reply("x", reply);
        for _ in 0..3 {
            ask(&gateway, "m", true).await;
        }
        let answer = ask(&gateway, "m", true).await;
        assert_eq!((answer.status, calls(a)), (503, 3), "{name}: {}", answer.text);
        left_alone(&answer);
    }
}

#[tokio::test]
async fn streams_that_break_off_open_it_although_they_began_well() {
    let [a] = &some().await;
    let gateway =
        gateway(&[a], &model(&["a/x"], ", retry: {attempts: 1}, breaker: {failures: 3, cooldown: 30s}")).await;
    let broken = Reply::events().bytes(super::chunk(serde_json::json!({ "content": "Once" }), None)).part(Part::Cut);
    a.simulator.reply("x", broken);
    for _ in 0..3 {
        let answer = ask(&gateway, "m", true).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text.contains("upstream_failed"), "{}", answer.text);
    }
    let answer = ask(&gateway, "m", true).await;
    assert_eq!((answer.status, calls(a)), (503, 3), "{}", answer.text);
    left_alone(&answer);
}

#[tokio::test]
async fn clients_that_leave_never_open_it() {
    let [a] = &some().await;
    let rest = model(&["a/x"], ", breaker: {failures: 2, cooldown: 30s}");
    let gateway = gateway(&[a], &rest).await;
    a.simulator.reply("x", super::hang());
    for n in 1..=6 {
        let waiting = tokio::spawn(gateway.chat(&client(), "m", n % 2 == 0).send());
        assert!(a.record().wait_for(Duration::from_secs(5), |calls| calls.len() == n).await);
        waiting.abort();
    }
    a.simulator.reply("x", completion("well"));
    assert_eq!(ask(&gateway, "m", false).await.status, 200);
}
