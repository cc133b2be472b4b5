//! Each deadline has its own clock: what one of them is about does not wear another out. Where a deadline passes before any output, the next
//! target answers.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpSocket;
use tollgate::simulator::{Part, Reply};

use super::{Answer, any, ask, calls, chunk, events, gateway, hang, model, said, some, stream};
use crate::support::{Gateway, KEY, Upstream};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn wait(milliseconds: u64) -> Part {
    Part::Wait(ms(milliseconds))
}

fn in_time(answer: &Answer, from: u64, to: u64) {
    assert!(answer.took >= ms(from) && answer.took <= ms(to), "{:?} is not {from} to {to} ms", answer.took);
}

async fn with(upstreams: [&Upstream; 2], timeouts: &str) -> Gateway {
    gateway(&upstreams, &model(&["a/x", "b/x"], &format!(", timeouts: {{{timeouts}}}"))).await
}

/// A frame that says nothing yet.
fn role() -> String {
    chunk(json!({ "role": "assistant", "content": "" }), None)
}

#[tokio::test]
async fn connect_the_kernel_s_queue_is_full_and_the_next_target_answers() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a loopback port");
    let full = socket.listen(1).expect("it listens");
    let address = full.local_addr().expect("its address");
    let mut held = Vec::new();
    while let Ok(stream) = tokio::time::timeout(ms(300), tokio::net::TcpStream::connect(address)).await {
        held.push(stream.expect("a connection"));
        assert!(held.len() < 20, "the queue is never full");
    }
    let b = any().await;
    let yaml = format!(
        "keys: [{{name: test, key: {KEY}}}]\nproviders:\n  a: {{kind: openai, base_url: 'http://{address}/v1', api_key: k}}\n\
         \x20 b: {{kind: openai, base_url: 'http://{}/v1', api_key: k}}\n{}",
        b.address,
        model(&["a/x", "b/x"], ", timeouts: {connect: 400ms, first_byte: 10s, first_token: 10s}")
    );
    let gateway = Gateway::start(&yaml, &[]).await;
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way()), (200, ("b", "2")), "{}", answer.text);
    assert_eq!(answer.header("x-tollgate-tried"), "a/x;connect");
    in_time(&answer, 390, 1500);
}

#[tokio::test]
async fn first_byte_is_about_the_header_section_alone() {
    let [a, b] = &some().await;
    let gateway = with([a, b], "first_byte: 400ms, first_token: 5s, idle: 5s").await;
    a.simulator.reply("x", hang());
    for stream in [false, true] {
        let answer = ask(&gateway, "m", stream).await;
        assert_eq!((answer.status, answer.way()), (200, ("b", "2")), "{}", answer.text);
        assert_eq!(answer.header("x-tollgate-tried"), "a/x;timeout");
        in_time(&answer, 390, 1200);
    }
    // headers in time, words later
    let late = stream("late").body.into_iter();
    a.simulator.reply("x", late.fold(Reply::events().part(wait(900)), Reply::part));
    let answer = ask(&gateway, "m", true).await;
    assert_eq!((said(&answer.text).as_str(), answer.way()), ("late", ("a", "1")));
}

#[tokio::test]
async fn first_token_is_not_put_off_by_signs_of_life() {
    let [a, b] = &some().await;
    let gateway = with([a, b], "first_byte: 5s, first_token: 600ms, idle: 5s").await;
    // pings, comments and a beginning without a word
    let lively = (0..30).fold(Reply::events().bytes(role()), |reply, n| {
        let sign = if n % 2 == 0 { ": still here\n\n".to_owned() } else { role() };
        reply.part(wait(100)).bytes(sign)
    });
    a.simulator.reply("x", lively);
    let answer = ask(&gateway, "m", true).await;
    assert_eq!((answer.status, answer.way()), (200, ("b", "2")), "{}", answer.text);
    assert_eq!(answer.header("x-tollgate-tried"), "a/x;timeout");
    in_time(&answer, 590, 1500);
    assert!(!answer.text.contains("still here"), "nothing of the first one is told: {}", answer.text);
    // of a whole answer it is the end
    a.simulator.reply(
        "x",
        Reply::default().header("content-type", "application/json").bytes("{\"id\":").part(wait(3000)).bytes("1}"),
    );
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way()), (200, ("b", "2")), "{}", answer.text);
    in_time(&answer, 590, 1500);
}

#[tokio::test]
async fn idle_is_about_the_pause_between_two_pieces() {
    let [a, b] = &some().await;
    let gateway = with([a, b], "first_byte: 5s, first_token: 5s, idle: 400ms").await;
    // many pauses that are short enough
    let words = (0..8).fold(Reply::events().bytes(role()), |reply, _| {
        reply.part(wait(200)).bytes(chunk(json!({ "content": "so " }), None))
    });
    a.simulator.reply("x", words.bytes(chunk(json!({}), Some("stop"))).bytes("data: [DONE]\n\n"));
    let answer = ask(&gateway, "m", true).await;
    assert_eq!((said(&answer.text).as_str(), answer.way()), ("so so so so so so so so ", ("a", "1")));
    // one that is not: after output, so the client is told and nobody else is asked
    a.simulator.reply("x", Reply::events().bytes(chunk(json!({ "content": "so" }), None)).part(Part::Hang));
    let answer = ask(&gateway, "m", true).await;
    assert_eq!((answer.status, answer.way()), (200, ("a", "1")));
    in_time(&answer, 390, 1200);
    assert!(events(&answer.text).iter().any(|event| event["error"]["code"] == "upstream_timeout"), "{}", answer.text);
    assert!(!answer.text.contains("[DONE]"), "{}", answer.text);
    assert_eq!(calls(b), 0);
    // and before any output the next target answers
    a.simulator.reply("x", Reply::events().bytes(role()).part(Part::Hang));
    let answer = ask(&gateway, "m", true).await;
    assert_eq!((said(&answer.text).is_empty(), answer.way()), (false, ("b", "2")));
    in_time(&answer, 390, 1200);
}

#[tokio::test]
async fn total_ends_a_stream_that_never_ends_and_never_pauses() {
    let [a, b] = &some().await;
    let gateway = with([a, b], "first_byte: 5s, first_token: 5s, idle: 5s, total: 1s").await;
    let words =
        (0..60).fold(Reply::events(), |reply, _| reply.bytes(chunk(json!({ "content": "so" }), None)).part(wait(100)));
    a.simulator.reply("x", words);
    let answer = ask(&gateway, "m", true).await;
    in_time(&answer, 950, 1500);
    assert!(events(&answer.text).iter().any(|event| event["error"]["code"] == "upstream_timeout"), "{}", answer.text);
    assert_eq!(calls(b), 0);
    // waits and tries are in it: nobody is asked when nothing is left
    a.simulator.reply("x", hang());
    b.simulator.reply("x", hang());
    let answer = ask(&gateway, "m", false).await;
    assert_eq!(answer.status, 504, "{}", answer.text);
    in_time(&answer, 950, 1500);
}

#[tokio::test]
async fn a_target_s_own_deadlines_come_before_its_model_s_and_its_provider_s() {
    let [a, b] = &some().await;
    let rest = format!(
        "timeouts: {{first_byte: 20s}}\nmodels:\n  m: {{timeouts: {{first_byte: 10s}}, targets: [{}, {}]}}\n",
        "{model: a/x, timeouts: {first_byte: 300ms}}", "{model: b/x, priority: 2}"
    );
    let gateway = gateway(&[a, b], &rest).await;
    a.simulator.reply("x", hang());
    b.simulator.reply("x", super::completion("b").first(wait(700)));
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.status, answer.way()), (200, ("b", "2")), "{}", answer.text);
    in_time(&answer, 990, 1800);
}
