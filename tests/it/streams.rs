//! Event streams: forwarded as they come, ended as streams end, given up when nobody listens.
//!
//! The upstream's record says when it was let go of; the client's bytes say what it got. What a broken stream ends with was chosen for
//! what the official SDKs make of it: an `error` member in a data frame (chat), an `error` event (responses).

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tollgate::simulator::{Outcome, Part, Reply};

use crate::support::{
    Gateway, KEY, UPSTREAM_KEY, Upstream, client, eventually, gateway_to, gateway_with, h2_client, upstream,
};

fn frame(text: &str) -> Bytes {
    let chunk = json!({ "id": "1", "choices": [{ "index": 0, "delta": { "content": text } }] });
    Bytes::from(format!("data: {chunk}\n\n"))
}

const DONE: &[u8] = b"data: [DONE]\n\n";

/// A request for usage as well, so that nothing is taken out.
fn body(model: &str) -> Value {
    json!({
        "model": model, "stream": true, "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": "Hello" }]
    })
}

async fn open(gateway: &Gateway, client: &reqwest::Client, path: &str, body: &Value) -> reqwest::Response {
    let answer = client.post(gateway.url(path)).bearer_auth(KEY).json(body).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"].to_str().ok().and_then(|t| t.get(..17)), Some("text/event-stream"));
    assert!(!answer.headers().contains_key("content-length"));
    answer
}

async fn chat(gateway: &Gateway, model: &str) -> reqwest::Response {
    open(gateway, &client(), "/v1/chat/completions", &body(model)).await
}

/// The next bytes, soon.
async fn next(answer: &mut reqwest::Response) -> Option<Bytes> {
    tokio::time::timeout(Duration::from_secs(5), answer.chunk()).await.expect("something comes").expect("unbroken")
}

/// The data of each frame, `[DONE]` as a string.
fn events(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).expect("UTF-8");
    let data = text.split("\n\n").filter_map(|frame| frame.split("\n").find_map(|line| line.strip_prefix("data: ")));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data))).collect()
}

async fn cancelled_within_a_second(upstream: &Upstream, why: &str) {
    let record = upstream.record();
    let all = |calls: &[tollgate::simulator::Call]| {
        !calls.is_empty() && calls.iter().all(|call| matches!(call.outcome, Outcome::Cancelled(_)))
    };
    assert!(record.wait_for(Duration::from_secs(1), all).await, "{why}: {:?}", record.calls());
}

#[tokio::test]
async fn the_first_event_arrives_before_the_second_is_sent() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    for client in [client(), h2_client()] {
        for path in ["/v1/chat/completions", "/v1/completions", "/v1/responses"] {
            let first = if path.ends_with("responses") {
                Bytes::from_static(b"data: {\"type\":\"response.output_text.delta\",\"delta\":\"one\"}\n\n")
            } else {
                frame("one")
            };
            upstream.simulator.reply("gpt-4o-mini", Reply::events().bytes(first.clone()).part(Part::Hang));
            let mut answer = open(&gateway, &client, path, &body("gpt-4o-mini")).await;
            assert_eq!(next(&mut answer).await.as_ref(), Some(&first), "{path}");
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_for_the_first_output_is_kept_alive_and_told_of_an_error_in_the_stream() {
    let upstream = upstream().await;
    let settings = "server:\n  heartbeat: 300ms\ntimeouts: {first_token: 1s}\n";
    let gateway = gateway_with(upstream.address, settings).await;
    upstream.simulator.reply("gpt-4o-mini", Reply::events().part(Part::Hang));
    let begun = Instant::now();
    let answer = chat(&gateway, "gpt-4o-mini").await;
    assert!(begun.elapsed() < Duration::from_millis(900));
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    let text = answer.text().await.expect("a whole body");
    assert!(text.starts_with(": keep-alive\n\n") && text.contains("upstream_timeout"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_byte_frees_the_provider_at_once() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    for (number, client) in [client(), h2_client()].into_iter().enumerate() {
        for stream in [false, true] {
            upstream.record().clear();
            let request = gateway.chat(&client, "up/sim-hang", stream).send();
            let waiting = tokio::spawn(request);
            let here = upstream.record().wait_for(Duration::from_secs(5), |calls| calls.len() == 1).await;
            assert!(here, "the call reaches the provider");
            waiting.abort();
            cancelled_within_a_second(&upstream, &format!("client {number}, stream {stream}")).await;
        }
    }
    let log = gateway.log_of(4).await;
    assert_eq!(log.len(), 4, "each is logged once: {log:#?}");
    for line in log {
        assert_eq!(
            (&line["error"], &line["blame"], &line["status"]),
            (&json!("client_gone"), &json!("client"), &json!(499))
        );
    }
    assert_eq!(gateway.metric("tollgate_upstream_attempts_total", &["outcome=\"cancelled\""]).await, 4.0);
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_frees_the_provider_at_once() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    for client in [client(), h2_client()] {
        // silent, and still talking
        for model in ["up/sim-hang-stream", "up/sim-slow"] {
            upstream.record().clear();
            let mut answer = open(&gateway, &client, "/v1/chat/completions", &body(model)).await;
            next(&mut answer).await.expect("an event");
            drop(answer);
            cancelled_within_a_second(&upstream, model).await;
        }
    }
    let log = gateway.log_of(4).await;
    assert_eq!(log.len(), 4, "each is logged once: {log:#?}");
    for line in log {
        assert_eq!(
            (&line["error"], &line["status"], &line["stream"]),
            (&json!("client_gone"), &json!(200), &json!(true))
        );
        assert!(line["bytes_out"].as_u64().is_some_and(|n| n > 0));
    }
    eventually("no stream is open", || async { gateway.metric("tollgate_streams_open", &[]).await == 0.0 }).await;
}

#[tokio::test]
async fn a_stream_that_breaks_at_the_provider_ends_with_an_error_event() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    for client in [client(), h2_client()] {
        let answer = open(&gateway, &client, "/v1/chat/completions", &body("up/sim-cut")).await;
        // whole in its framing: the last chunk is there, or reqwest would fail
        let got = answer.bytes().await.expect("a body with its proper end");
        let events = events(&got);
        assert!(events.len() > 2, "what came before is kept");
        let (last, before) = events.split_last().expect("some");
        assert!(before.iter().all(|event| event["choices"].is_array()));
        assert_eq!(
            (&last["error"]["type"], &last["error"]["code"]),
            (&json!("upstream_error"), &json!("upstream_failed"))
        );
        assert!(!String::from_utf8_lossy(&got).contains("[DONE]"), "a broken stream must not look done");
    }
    let log = gateway.log_of(2).await;
    assert_eq!(log.len(), 2);
    for line in log {
        assert_eq!(
            (&line["error"], &line["blame"], &line["status"]),
            (&json!("upstream_failed"), &json!("upstream"), &json!(200))
        );
    }
}

#[tokio::test]
async fn a_whole_answer_that_breaks_at_the_provider_is_an_error_and_a_large_one_does_not_look_whole() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let answer = gateway.chat(&client(), "up/sim-cut", false).send().await.expect("a head");
    assert_eq!(answer.status(), 502);
    let whole = Reply::whole(StatusCode::OK, "application/json", "x".repeat(400_000));
    let large = Reply { body: vec![Part::Bytes("x".repeat(300_000).into()), Part::Cut], ..whole };
    upstream.simulator.reply("gpt-4o-mini", large);
    let answer = gateway.chat(&h2_client(), "gpt-4o-mini", false).send().await.expect("a head");
    assert_eq!(answer.status(), 200);
    answer.bytes().await.expect_err("the body must not end as if it were whole");
    let log = gateway.log_of(2).await;
    assert!(log.iter().all(|l| l["error"] == "upstream_failed" && l["blame"] == "upstream"), "{log:#?}");
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends_with_an_error_event_after_its_time() {
    let upstream = upstream().await;
    let gateway = gateway_with(upstream.address, "timeouts: {idle: 400ms}\n").await;
    let begun = Instant::now();
    let got = chat(&gateway, "up/sim-hang-stream").await.bytes().await.expect("a whole body");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(390) && took < Duration::from_secs(3), "{took:?}");
    let events = events(&got);
    assert_eq!(events.len(), 4);
    assert_eq!(events[3]["error"]["code"], "upstream_timeout");
    cancelled_within_a_second(&upstream, "a silent stream is given up").await;
    let log = gateway.log_of(1).await;
    assert_eq!((&log[0]["error"], &log[0]["blame"]), (&json!("upstream_timeout"), &json!("upstream")));
}

#[tokio::test]
async fn a_stream_that_takes_too_long_in_all_ends_with_an_error_event() {
    let upstream = upstream().await;
    let gateway = gateway_with(upstream.address, "timeouts: {total: 700ms}\n").await;
    upstream.simulator.reply("gpt-4o-mini", Reply::events().bytes(frame("one")).part(Part::Hang));
    let begun = Instant::now();
    let got = chat(&gateway, "gpt-4o-mini").await.bytes().await.expect("a whole body");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(events(&got).last().expect("an event")["error"]["code"], "upstream_timeout");
}

#[tokio::test]
async fn a_broken_responses_stream_ends_with_the_next_numbered_error_event() {
    let upstream = upstream().await;
    let gateway = gateway_with(upstream.address, "timeouts: {idle: 400ms}\n").await;
    let begins = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"a\"}\n\n",
    );
    for (end, code) in [(Part::Cut, "upstream_failed"), (Part::Hang, "upstream_timeout")] {
        upstream.simulator.reply("gpt-4o-mini", Reply::events().bytes(Bytes::from_static(begins.as_bytes())).part(end));
        let body = json!({ "model": "gpt-4o-mini", "stream": true, "input": "Hello" });
        let got = open(&gateway, &client(), "/v1/responses", &body).await.bytes().await.expect("a whole body");
        let text = String::from_utf8_lossy(&got).into_owned();
        let events = events(&got);
        let (last, before) = events.split_last().expect("some");
        assert!(before.len() >= 2 && text.contains("event: response.created\n"), "{text}");
        assert!(text.contains("\n\nevent: error\ndata: "), "{text}");
        assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!(code)));
        assert!(last["message"].is_string() && last["param"].is_null());
        for (number, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], number, "{text}");
        }
    }
}

#[tokio::test]
async fn a_providers_own_error_event_passes_and_is_logged() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let got = chat(&gateway, "up/sim-error-event").await.bytes().await.expect("a whole body");
    let direct = client().post(format!("http://{}/v1/chat/completions", upstream.address)).bearer_auth(UPSTREAM_KEY);
    let direct = direct.json(&body("sim-error-event")).send().await.expect("an answer").bytes().await.expect("a body");
    let kinds = |bytes: &[u8]| -> Vec<bool> { events(bytes).iter().map(|event| event["error"].is_object()).collect() };
    assert_eq!(kinds(&got), kinds(&direct));
    assert_eq!(events(&got).last().expect("some")["error"]["type"], "server_error", "in the provider's own words");
    let log = gateway.log_of(1).await;
    assert_eq!((&log[0]["error"], &log[0]["status"]), (&json!("upstream_failed"), &json!(200)));
}

#[tokio::test]
async fn a_silent_stream_is_kept_open_with_comments_between_events_only() {
    let upstream = upstream().await;
    let gateway = gateway_with(upstream.address, "server:\n  heartbeat: 200ms\n").await;
    let wait = Part::Wait(Duration::from_millis(900));
    let (one, two) = (frame("eins"), frame("zw\u{f6}lf"));
    let plain = [&one[..], &two, DONE].concat();

    // before the first event and between two
    let reply = Reply::events().part(wait.clone()).bytes(one.clone()).part(wait.clone()).bytes(two.clone());
    upstream.simulator.reply("gpt-4o-mini", reply.bytes(DONE));
    for client in [client(), h2_client()] {
        let answer = open(&gateway, &client, "/v1/chat/completions", &body("gpt-4o-mini")).await;
        let got = String::from_utf8(answer.bytes().await.expect("a whole body").to_vec()).expect("UTF-8");
        let (before, rest) = got.split_once(std::str::from_utf8(&one).expect("UTF-8")).expect("the first event");
        let (between, rest) = rest.split_once(std::str::from_utf8(&two).expect("UTF-8")).expect("the second");
        for silence in [before, between] {
            let beats = silence.matches(": keep-alive\n\n").count();
            assert!((2..=5).contains(&beats), "{beats} comments in {got:?}");
            assert_eq!(silence.replace(": keep-alive\n\n", ""), "", "nothing else: {got:?}");
        }
        assert_eq!(rest.as_bytes(), DONE);
    }

    // never inside one, wherever it is torn apart: in a word, in a letter, in its end
    let umlaut = two.iter().position(|b| *b == 0xc3).expect("an umlaut") + 1;
    for at in [3, umlaut, two.len() - 1] {
        let reply = Reply::events().bytes(one.clone()).bytes(two.slice(..at)).part(wait.clone());
        upstream.simulator.reply("gpt-4o-mini", reply.bytes(two.slice(at..)).bytes(DONE));
        let got = chat(&gateway, "gpt-4o-mini").await.bytes().await.expect("a whole body");
        assert_eq!(got, plain, "torn at {at}");
    }
}

#[tokio::test]
async fn the_comments_do_not_keep_a_dead_provider_alive() {
    let upstream = upstream().await;
    let yaml = "server:\n  heartbeat: 100ms\ntimeouts: {idle: 600ms}\n";
    let gateway = gateway_with(upstream.address, yaml).await;
    let begun = Instant::now();
    let got = chat(&gateway, "up/sim-hang-stream").await.bytes().await.expect("a whole body");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(String::from_utf8_lossy(&got).contains(": keep-alive\n\n"));
    assert_eq!(events(&got).last().expect("some")["error"]["code"], "upstream_timeout");
}

#[tokio::test]
async fn usage_is_always_asked_for_and_shown_only_to_those_who_asked() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let request = |options: Option<Value>| {
            let mut body = body("gpt-4o-mini");
            body["prompt"] = "Hello".into();
            match options {
                Some(options) => body["stream_options"] = options,
                None => drop(body.as_object_mut().expect("an object").remove("stream_options")),
            }
            body
        };
        let asked = open(&gateway, &client(), path, &request(Some(json!({ "include_usage": true })))).await;
        let asked = events(&asked.bytes().await.expect("a body"));
        assert_eq!(
            asked.iter().filter(|e| e["usage"].is_object() && e["choices"] == json!([])).count(),
            1,
            "{asked:?}"
        );
        for options in [None, Some(Value::Null), Some(json!({})), Some(json!({ "include_usage": false }))] {
            let answer = open(&gateway, &client(), path, &request(options.clone())).await;
            let got = events(&answer.bytes().await.expect("a body"));
            let sent = upstream.record().last().expect("a call").json();
            assert_eq!(sent["stream_options"]["include_usage"], true, "{options:?}");
            assert_eq!(got.len(), asked.len() - 1, "{options:?}");
            assert!(got.iter().all(|event| event.get("usage").is_none()), "{options:?}: {got:?}");
            assert_eq!(got.last(), Some(&"[DONE]".into()));
        }
    }
    let log = gateway.log_of(10).await;
    assert!(
        log.iter().all(|l| l["input_tokens"].as_u64() > Some(0) && l["output_tokens"].as_u64() > Some(5)),
        "{log:#?}"
    );
    let got = chat(&gateway, "up/sim-no-usage").await.bytes().await.expect("a body");
    assert_eq!(events(&got).last(), Some(&"[DONE]".into()));
    let unknown = gateway.log_of(11).await[10].clone();
    assert!(
        unknown["estimated"] == true && unknown["output_tokens"].as_u64() > Some(0),
        "unknown is not zero: {unknown}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_at_once_all_end_whole() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let mut parts = Reply::events();
    let mut wanted = Vec::new();
    for number in 0..60 {
        let frame = frame(&format!("{number} "));
        wanted.extend_from_slice(&frame);
        parts = parts.bytes(frame).part(Part::Wait(Duration::from_millis(10)));
    }
    wanted.extend_from_slice(DONE);
    upstream.simulator.reply("gpt-4o-mini", parts.bytes(DONE));
    let clients = [client(), h2_client(), h2_client()];
    let running: Vec<_> = (0..200)
        .map(|number| {
            let request = clients[number % 3].post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
            let request = request.json(&body("gpt-4o-mini"));
            tokio::spawn(async move { request.send().await.expect("an answer").bytes().await.expect("a whole body") })
        })
        .collect();
    eventually("many are open at once", || async { gateway.metric("tollgate_streams_open", &[]).await > 150.0 }).await;
    for stream in running {
        assert_eq!(stream.await.expect("no panic"), wanted);
    }
    let log = gateway.log_of(200).await;
    assert!(log.iter().all(|l| l["status"] == 200 && l.get("error").is_none() && l["first_token_ms"].is_number()));
    assert_eq!(upstream.record().counters().completed, 200);
    eventually("no stream is open", || async { gateway.metric("tollgate_streams_open", &[]).await == 0.0 }).await;
}

#[tokio::test]
async fn a_reader_that_stops_reading_holds_nobody_else_up_and_fills_no_memory() {
    const FRAMES: usize = 400;
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    // 40 MB: more than the sockets on the way hold
    let big = frame(&"x".repeat(100_000));
    let reply = (0..FRAMES).fold(Reply::events(), |reply, _| reply.bytes(big.clone()));
    upstream.simulator.reply("big", reply.bytes(DONE));
    let before = gateway.resident();

    let text = body("up/big").to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let mut slow = tokio::net::TcpStream::connect(gateway.data).await.expect("it listens");
    slow.write_all(request.as_bytes()).await.expect("it is taken");
    let h2 = h2_client();
    let mut slow_h2 = open(&gateway, &h2, "/v1/chat/completions", &body("up/big")).await;
    next(&mut slow_h2).await.expect("a beginning");

    let begun = Instant::now();
    for number in 0..40 {
        // also on the very connection where one stream is stuck
        let client = if number % 2 == 0 { client() } else { h2.clone() };
        let answer = gateway.chat(&client, "gpt-4o-mini", number % 4 > 1).send().await.expect("an answer");
        assert!(answer.status() == 200 && !answer.bytes().await.expect("a body").is_empty());
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 24 << 20, "the gateway grew by {} KB", grown >> 10);
    let stuck = upstream.record().calls().iter().filter(|c| c.outcome == Outcome::Running).count();
    assert_eq!(stuck, 2, "the provider is held back too");

    let mut got = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut got)).await;
    read.expect("in time").expect("a whole answer");
    assert!(got.len() > FRAMES * big.len() && got.ends_with(b"\r\n0\r\n\r\n"));
    let mut rest = 0;
    while let Some(chunk) = next(&mut slow_h2).await {
        rest += chunk.len();
    }
    assert!(rest > (FRAMES - 20) * big.len());
}

#[tokio::test]
async fn text_may_be_torn_into_single_bytes() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let wanted = [
        &frame("Gr\u{fc}\u{df}e \u{6771}\u{4eac} \u{1f389}")[..],
        b"data: {\"choices\":[]}\r\n\r\n",
        b": c\r\n\r\n",
        DONE,
    ]
    .concat();
    let reply = wanted.iter().fold(Reply::events(), |reply, byte| reply.bytes(vec![*byte]));
    upstream.simulator.reply("gpt-4o-mini", reply);
    for client in [client(), h2_client()] {
        let answer = open(&gateway, &client, "/v1/chat/completions", &body("gpt-4o-mini")).await;
        assert_eq!(answer.bytes().await.expect("a whole body"), wanted);
    }
}

#[tokio::test]
async fn a_stream_over_http2_ends_where_its_connection_serves_on() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let client = h2_client();
    for model in ["gpt-4o-mini", "up/sim-cut", "up/sim-long", "gpt-4o-mini"] {
        let answer = open(&gateway, &client, "/v1/chat/completions", &body(model)).await;
        assert_eq!(answer.version(), http::Version::HTTP_2);
        let got = answer.bytes().await.expect("a whole body");
        let done = got.ends_with(DONE);
        assert_eq!(done, model != "up/sim-cut", "{model}");
    }
}
