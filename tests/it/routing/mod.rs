//! Where calls go, and what becomes of them when a target fails: the whole way through the real process. Each provider is a server of its
//! own, and what it was asked is judged by its own record.

mod again;
mod breaker;
mod chain;
mod choice;
mod credentials;
mod deadlines;
mod hedge;
mod refusals;
mod waiting;

use std::time::{Duration, Instant};

use http::HeaderMap;
use http::StatusCode;
use serde_json::{Value, json};
use tollgate::simulator::{Call, Options, Part, Reply};

use crate::support::{Gateway, KEY, Upstream, client, upstream_with};

/// An answer, whole.
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
    took: Duration,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// Provider, and number of tries.
    fn way(&self) -> (&str, &str) {
        (self.header("x-tollgate-provider"), self.header("x-tollgate-attempts"))
    }

    /// Seconds of `Retry-After`.
    fn retry_after(&self) -> Option<u64> {
        self.headers.get("retry-after")?.to_str().ok()?.parse().ok()
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Answer {
    let begun = Instant::now();
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.expect("a whole answer");
    Answer { status, headers, text, took: begun.elapsed() }
}

/// A chat of this model.
async fn ask(gateway: &Gateway, model: &str, stream: bool) -> Answer {
    answered(gateway.chat(&client(), model, stream)).await
}

/// The same, one after the other.
async fn ask_often(gateway: &Gateway, model: &str, times: usize) -> Vec<Answer> {
    let client = client();
    let mut answers = Vec::new();
    for _ in 0..times {
        answers.push(answered(gateway.chat(&client, model, false)).await);
    }
    answers
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    answered(client().post(gateway.url(path)).bearer_auth(KEY).json(body)).await
}

/// A simulator that takes any credential.
async fn any() -> Upstream {
    upstream_with(Options { pace: Duration::from_millis(1), ..Options::default() }).await
}

async fn some<const N: usize>() -> [Upstream; N] {
    let mut started = Vec::new();
    for _ in 0..N {
        started.push(any().await);
    }
    started.try_into().ok().expect("as many as were started")
}

/// Providers `a`, `b`, ... that speak OpenAI's dialect, and whatever else `rest` says (whole top-level sections).
async fn gateway(upstreams: &[&Upstream], rest: &str) -> Gateway {
    let mut yaml = format!("keys: [{{name: test, key: {KEY}}}]\nproviders:\n");
    for (name, upstream) in ('a'..).zip(upstreams) {
        yaml += &format!(
            "  {name}: {{kind: openai, base_url: \"http://{}/v1\", api_key: key-of-{name}}}\n",
            upstream.address
        );
    }
    Gateway::start(&format!("{yaml}{rest}"), &[]).await
}

/// `m`: these targets, one after the other, and whatever else `rest` says of the model.
fn model(targets: &[&str], rest: &str) -> String {
    let targets = targets.iter().zip(1..).map(|(target, n)| format!("{{model: {target}, priority: {n}}}"));
    format!("models:\n  m: {{targets: [{}]{rest}}}\n", targets.collect::<Vec<_>>().join(", "))
}

fn calls(upstream: &Upstream) -> u64 {
    upstream.record().counters().calls
}

/// The only call there was.
fn only(upstream: &Upstream) -> Call {
    let calls = upstream.record().calls();
    assert_eq!(calls.len(), 1, "{calls:#?}");
    calls.into_iter().next().expect("one")
}

/// An error of OpenAI's.
fn error(status: u16, code: &str) -> Reply {
    let status = StatusCode::from_u16(status).expect("a status");
    let body = json!({ "error": { "message": format!("scripted {status}"), "type": "scripted", "param": null, "code": code } });
    Reply::json(status, &body)
}

fn hang() -> Reply {
    Reply::events().first(Part::Hang)
}

/// A whole completion that says this.
fn completion(text: &str) -> Reply {
    Reply::json(
        StatusCode::OK,
        &json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text, "refusal": null }, "logprobs": null, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10 },
        }),
    )
}

/// A frame of a chat stream.
fn chunk(delta: Value, finish: Option<&str>) -> String {
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
    });
    format!("data: {chunk}\n\n")
}

/// A whole chat stream that says this.
fn stream(text: &str) -> Reply {
    Reply::events()
        .bytes(chunk(json!({ "role": "assistant", "content": "" }), None))
        .bytes(chunk(json!({ "content": text }), None))
        .bytes(chunk(json!({}), Some("stop")))
        .bytes("data: [DONE]\n\n")
}

/// The data of each frame, `[DONE]` as a string.
fn events(text: &str) -> Vec<Value> {
    let data = text.split("\n\n").filter_map(|frame| frame.lines().find_map(|line| line.strip_prefix("data: ")));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data))).collect()
}

/// What a chat stream says. It must be one: a beginning, one id, one end, `[DONE]`.
fn said(text: &str) -> String {
    let events = events(text);
    assert_eq!(events.last(), Some(&json!("[DONE]")), "{text}");
    let chunks: Vec<&Value> = events.iter().filter(|event| event.is_object()).collect();
    assert_eq!(events.len(), chunks.len() + 1, "one end: {text}");
    let all = |path: &str| -> Vec<&Value> {
        chunks.iter().filter_map(|chunk| chunk.pointer(path)).filter(|value| !value.is_null()).collect()
    };
    let mut ids = all("/id");
    ids.dedup();
    assert_eq!(ids.len(), 1, "one id: {text}");
    assert_eq!(all("/choices/0/delta/role").len(), 1, "one beginning: {text}");
    assert_eq!(all("/choices/0/finish_reason").len(), 1, "one finish: {text}");
    assert!(all("/error").is_empty(), "{text}");
    all("/choices/0/delta/content").into_iter().filter_map(Value::as_str).collect()
}
