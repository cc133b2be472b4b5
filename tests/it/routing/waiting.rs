//! A stream's client waits while one target after the other fails: it hears that we are there, and then one stream, or one error, in its own
//! dialect.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate::simulator::{Part, Reply};

use super::{Answer, ask, calls, chunk, completion, error, events, gateway, hang, model, post, said, some, stream};
use crate::support::{Gateway, Upstream};

async fn with(upstreams: &[&Upstream], rest: &str) -> Gateway {
    let names: Vec<String> = ('a'..).zip(upstreams).map(|(name, _)| format!("{name}/x")).collect();
    let targets: Vec<&str> = names.iter().map(String::as_str).collect();
    gateway(
        upstreams,
        &format!(
            "server:\n  heartbeat: 200ms\n{}",
            model(&targets, &format!(", timeouts: {{first_token: 700ms}}{rest}"))
        ),
    )
    .await
}

fn beats(text: &str) -> usize {
    text.matches(": keep-alive\n\n").count()
}

/// Beats first, then the stream: none of them inside an event.
fn waited(answer: &Answer) -> String {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type").get(..17), Some("text/event-stream"));
    assert!(answer.text.starts_with(": keep-alive\n\n"), "{}", answer.text);
    said(&answer.text)
}

#[tokio::test]
async fn a_failover_is_waited_for_with_heartbeats_and_then_comes_one_stream() {
    let [a, b, c] = &some().await;
    let gateway = with(&[a, b, c], "").await;
    a.simulator.reply("x", hang());
    b.simulator
        .reply("x", Reply::events().bytes(chunk(json!({ "role": "assistant", "content": "" }), None)).part(Part::Hang));
    c.simulator.reply("x", stream("from c"));
    let answer = ask(&gateway, "m", true).await;
    assert_eq!(waited(&answer), "from c");
    assert!((4..=9).contains(&beats(&answer.text)), "{}", answer.text);
    let line = &gateway.log_of(1).await[0];
    assert_eq!(
        (&line["attempts"], &line["status"], &line["provider"]),
        (&json!(3), &json!(200), &json!("c")),
        "{line}"
    );
    assert_eq!(line["tried"], json!(["a/x;timeout", "b/x;timeout"]));
    assert!(line["first_token_ms"].as_f64().is_some_and(|first| first > 1390.0), "since the call began: {line}");
    assert_eq!((calls(a), calls(b), calls(c)), (1, 1, 1));
}

#[tokio::test]
async fn a_wait_before_the_same_target_again_is_heard_too() {
    let [a] = &some().await;
    let gateway = with(&[a], ", retry: {attempts: 2}").await;
    a.simulator.replies("x", [error(503, "").header("retry-after", "1"), stream("at last")]);
    let answer = ask(&gateway, "m", true).await;
    assert_eq!(waited(&answer), "at last");
    assert!((3..=6).contains(&beats(&answer.text)), "{}", answer.text);
}

#[tokio::test]
async fn an_error_after_all_is_told_within_the_stream() {
    let [a, b] = &some().await;
    let gateway = with(&[a, b], "").await;
    a.simulator.reply("x", hang());
    for (reply, code) in
        [(error(503, "down"), None), (error(400, "invalid_value"), None), (hang(), Some("upstream_timeout"))]
    {
        b.simulator.reply("x", reply);
        let answer = ask(&gateway, "m", true).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text.starts_with(": keep-alive\n\n"), "{}", answer.text);
        let told: Vec<Value> = events(&answer.text);
        assert_eq!(told.len(), 1, "one error and nothing else: {}", answer.text);
        assert!(told[0]["error"]["message"].is_string(), "{}", answer.text);
        assert!(code.is_none_or(|code| told[0]["error"]["code"] == code), "{}", answer.text);
    }
    for line in gateway.log_of(3).await {
        assert!(line["error"].is_string() && line["attempts"] == 2, "{line}");
    }
}

#[tokio::test]
async fn a_client_of_another_dialect_waits_in_its_own_way() {
    let [a, b] = &some().await;
    let gateway = with(&[a, b], "").await;
    a.simulator.reply("x", hang());
    b.simulator.replies("x", []);
    let body = json!({ "model": "m", "stream": true, "max_tokens": 50, "messages": [{ "role": "user", "content": "Hello there" }] });
    let answer = post(&gateway, "/v1/messages", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let kinds: Vec<String> =
        events(&answer.text).iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(kinds.first().map(String::as_str), Some("ping"), "{}", answer.text);
    let rest: Vec<&String> = kinds.iter().skip_while(|kind| *kind == "ping").collect();
    assert_eq!(
        (rest.first().map(|k| k.as_str()), rest.last().map(|k| k.as_str())),
        (Some("message_start"), Some("message_stop"))
    );
    assert_eq!(rest.iter().filter(|kind| **kind == "message_start").count(), 1);
    // and an error in its own words
    b.simulator.reply("x", error(503, "down"));
    let answer = post(&gateway, "/v1/messages", &body).await;
    let told = events(&answer.text);
    assert!(answer.text.contains("event: error\n"), "{}", answer.text);
    assert_eq!(
        told.last().map(|event| (&event["type"], event["error"]["message"].is_string())),
        Some((&json!("error"), true))
    );
}

#[tokio::test]
async fn a_provider_that_answers_whole_after_beats_is_told_as_a_stream_or_an_error() {
    let [a, b] = &some().await;
    let gateway = with(&[a, b], "").await;
    a.simulator.reply("x", hang());
    b.simulator.reply("x", completion("whole"));
    let answer = ask(&gateway, "m", true).await;
    let told = events(&answer.text);
    assert!(!told.is_empty(), "{}", answer.text);
    for event in &told {
        // never a whole completion in a place where a client reads chunks
        assert!(
            event["error"].is_object() || event["object"] == "chat.completion.chunk" || *event == json!("[DONE]"),
            "{event}"
        );
    }
    let text = answer.text.replace(": keep-alive\n\n", "");
    assert!(text.starts_with("data: "), "{text}");
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_noticed_and_nobody_else_is_asked() {
    let [a, b] = &some().await;
    let gateway = with(&[a, b], "").await;
    a.simulator.reply("x", hang());
    let mut answer = gateway.chat(&crate::support::client(), "m", true).send().await.expect("an answer");
    assert!(answer.chunk().await.expect("unbroken").is_some_and(|beat| beat.starts_with(b": keep-alive")));
    drop(answer);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!((calls(a), calls(b)), (1, 0));
    let line = &gateway.log_of(1).await[0];
    assert_eq!((&line["error"], &line["blame"]), (&json!("client_gone"), &json!("client")), "{line}");
}
