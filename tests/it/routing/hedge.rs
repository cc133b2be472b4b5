//! A second target is asked when the first takes long: the one that begins first answers, the other is given up.

use std::time::Duration;

use tollgate::simulator::{Outcome, Part, Reply};

use super::{ask, ask_often, calls, completion, error, gateway, hang, model, said, some, stream};
use crate::support::{Gateway, Upstream};

async fn hedged(upstreams: [&Upstream; 2]) -> Gateway {
    gateway(&upstreams, &model(&["a/x", "b/x"], ", hedge: 200ms")).await
}

async fn given_up(upstream: &Upstream) {
    let record = upstream.record();
    let cancelled = |calls: &[tollgate::simulator::Call]| {
        !calls.is_empty() && calls.iter().all(|call| matches!(call.outcome, Outcome::Cancelled(_)))
    };
    assert!(record.wait_for(Duration::from_secs(1), cancelled).await, "{:?}", record.calls());
}

async fn hedges(gateway: &Gateway, answered: &str) -> f64 {
    gateway.metric("tollgate_hedges_total", &[&format!("answered=\"{answered}\"")]).await
}

async fn outcomes(gateway: &Gateway, provider: &str, outcome: &str) -> f64 {
    let labels = [&*format!("gen_ai_provider_name=\"{provider}\""), &*format!("outcome=\"{outcome}\"")];
    gateway.metric("tollgate_upstream_attempts_total", &labels).await
}

#[tokio::test]
async fn the_second_answers_when_the_first_is_slow_and_the_first_is_cancelled() {
    for streamed in [false, true] {
        let [a, b] = &some().await;
        let gateway = hedged([a, b]).await;
        a.simulator.reply("x", if streamed { Reply::events().part(Part::Hang) } else { hang() });
        b.simulator.reply("x", if streamed { stream("from b") } else { completion("from b") });
        let answer = ask(&gateway, "m", streamed).await;
        assert_eq!((answer.status, answer.way()), (200, ("b", "2")), "{}", answer.text);
        assert!(
            answer.took >= Duration::from_millis(195) && answer.took < Duration::from_millis(900),
            "{:?}",
            answer.took
        );
        if streamed {
            assert_eq!(said(&answer.text), "from b");
        }
        given_up(a).await;
        assert_eq!((calls(a), calls(b)), (1, 1));
        assert_eq!((hedges(&gateway, "second").await, hedges(&gateway, "first").await), (1.0, 0.0));
        assert_eq!((outcomes(&gateway, "a", "cancelled").await, outcomes(&gateway, "b", "ok").await), (1.0, 1.0));
        let line = &gateway.log_of(1).await[0];
        assert_eq!((&line["attempts"], &line["provider"]), (&2.into(), &"b".into()), "{line}");
    }
}

#[tokio::test]
async fn the_first_answers_when_it_is_slow_and_the_second_slower() {
    let [a, b] = &some().await;
    let gateway = hedged([a, b]).await;
    a.simulator.reply("x", completion("from a").first(Part::Wait(Duration::from_millis(500))));
    b.simulator.reply("x", hang());
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way()), (200, ("a", "2")), "{}", answer.text);
    given_up(b).await;
    assert_eq!((hedges(&gateway, "second").await, hedges(&gateway, "first").await), (0.0, 1.0));
}

#[tokio::test]
async fn a_fast_first_one_is_asked_alone() {
    let [a, b] = &some().await;
    let gateway = hedged([a, b]).await;
    assert!(ask_often(&gateway, "m", 20).await.iter().all(|answer| answer.way() == ("a", "1")));
    // one that fails fast is no hedge, but a failover
    a.simulator.reply("x", error(503, ""));
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way()), (200, ("b", "2")), "{}", answer.text);
    assert_eq!((calls(a), calls(b)), (21, 1));
    assert_eq!(gateway.metric("tollgate_hedges_total", &[]).await, 0.0);
}

#[tokio::test]
async fn when_one_of_the_two_fails_the_other_still_answers() {
    let slow = |reply: Reply, milliseconds| reply.first(Part::Wait(Duration::from_millis(milliseconds)));
    for (first, second, answers) in [
        (slow(error(503, ""), 350), slow(completion("b"), 400), "b"),
        (slow(completion("a"), 600), error(500, ""), "a"),
    ] {
        let [a, b] = &some().await;
        let gateway = hedged([a, b]).await;
        a.simulator.reply("x", first);
        b.simulator.reply("x", second);
        let answer = ask(&gateway, "m", false).await;
        assert_eq!((answer.status, answer.way()), (200, (answers, "2")), "{}", answer.text);
        assert!(answer.header("x-tollgate-tried").ends_with(if answers == "a" { "b/x;500" } else { "a/x;503" }));
        assert_eq!((calls(a), calls(b)), (1, 1));
    }
}

#[tokio::test]
async fn when_both_fail_one_error_is_told() {
    let [a, b] = &some().await;
    let gateway = hedged([a, b]).await;
    a.simulator.reply("x", error(503, "").first(Part::Wait(Duration::from_millis(400))));
    b.simulator.reply("x", error(500, ""));
    for stream in [false, true] {
        let answer = ask(&gateway, "m", stream).await;
        assert!(answer.status == 503 || answer.status == 500, "{} {}", answer.status, answer.text);
        assert!(answer.json()["error"]["message"].is_string(), "{}", answer.text);
        assert_eq!(answer.header("x-tollgate-tried"), "b/x;500, a/x;503");
    }
    assert_eq!((calls(a), calls(b)), (2, 2));
}

#[tokio::test]
async fn a_client_that_leaves_frees_both() {
    let [a, b] = &some().await;
    let gateway = hedged([a, b]).await;
    for upstream in [a, b] {
        upstream.simulator.reply("x", hang());
    }
    let waiting = tokio::spawn(gateway.chat(&crate::support::client(), "m", true).send());
    assert!(b.record().wait_for(Duration::from_secs(5), |calls| calls.len() == 1).await);
    waiting.abort();
    given_up(a).await;
    given_up(b).await;
}
