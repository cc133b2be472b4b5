//! The bridge lane through the front door: what a provider of another dialect is sent, what the client reads, and what becomes of garbage.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use tollgate::simulator::{Options, Part, Reply};

use crate::support::{Gateway, KEY, Upstream, client, upstream_with};

async fn upstream() -> Upstream {
    upstream_with(Options::default()).await
}

/// A gateway with a provider of each dialect, all of them the one scripted upstream.
async fn gateway(upstream: &Upstream) -> Gateway {
    gateway_with(upstream, "").await
}

async fn gateway_with(upstream: &Upstream, extra: &str) -> Gateway {
    let at = format!("http://{}", upstream.address);
    let yaml = format!(
        "timeouts: {{connect: 2s, first_byte: 3s, idle: 2s, total: 20s}}\nkeys: [{{name: test, key: {KEY}}}]\nproviders:\n\
         \x20 anthropic: {{base_url: '{at}/anthropic', api_key: anthropic-secret-key}}\n\
         \x20 gemini: {{base_url: '{at}/gemini', api_key: gemini-secret-key}}\n\
         \x20 bedrock: {{base_url: '{at}/bedrock', region: us-east-1, access_key_id: AKIDEXAMPLE, secret_access_key: bedrock-secret-key}}\n\
         \x20 cohere: {{base_url: '{at}/cohere', api_key: cohere-secret-key}}\n\
         \x20 chat: {{kind: openai, base_url: '{at}/c', api_key: chat-secret-key, bridge: [chat_completions], paths: {{responses: off}}}}\n\
         \x20 responses: {{kind: openai, base_url: '{at}/r', api_key: responses-secret-key, bridge: [responses], paths: {{chat_completions: off}}}}\n\
         {extra}"
    );
    Gateway::start(&yaml, &[]).await
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> (u16, http::HeaderMap, String) {
    let answer = client()
        .post(gateway.url(path))
        .bearer_auth(KEY)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.text().await.expect("whole"))
}

fn chat(model: &str, stream: bool) -> Value {
    json!({
        "model": model, "stream": stream, "max_tokens": 100,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}],
    })
}

fn messages(model: &str, stream: bool) -> Value {
    json!({
        "model": model, "stream": stream, "max_tokens": 100, "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hello there"}],
    })
}

fn message() -> Value {
    json!({
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "Good day."}],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 7, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 0, "output_tokens": 3},
    })
}

const MESSAGE_EVENTS: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_01\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n\
event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
event: ping\ndata: {\"type\":\"ping\"}\n\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Gr\u{fc}\u{df} \u{1f600}\"}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":3}}\n\n\
event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

fn completion() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5.1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Good day.", "refusal": null}, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    })
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

// === there and back ===

#[tokio::test]
async fn a_chat_client_reaches_anthropic_s_messages() {
    let upstream = upstream().await;
    upstream.simulator.replies_at("/anthropic/messages", [Reply::json(StatusCode::OK, &message())]);
    let gateway = gateway(&upstream).await;
    let (status, headers, text) =
        post(&gateway, "/v1/chat/completions", &chat("anthropic/claude-sonnet-4-5", false)).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(headers["x-tollgate-lane"], "bridge");
    assert_eq!(headers["x-tollgate-provider"], "anthropic");
    assert!(headers.get("x-tollgate-dropped").is_none(), "{headers:?}");
    let answer = parsed(&text);
    assert_eq!(answer["choices"][0]["message"]["content"], "Good day.");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["prompt_tokens"], 12);
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 5);
    let sent = upstream.record().last().expect("a call");
    assert_eq!(sent.header("x-api-key"), Some("anthropic-secret-key"));
    assert_eq!(sent.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(sent.header("authorization"), None);
    assert_eq!(sent.json()["model"], "claude-sonnet-4-5");
    assert_eq!(sent.json()["system"].as_str().or(sent.json()["system"][0]["text"].as_str()), Some("Be brief."));
    let line = &gateway.log_of(1).await[0];
    assert_eq!(
        (&line["lane"], &line["input_tokens"], &line["cached_tokens"]),
        (&json!("bridge"), &json!(12), &json!(5))
    );
}

#[tokio::test]
async fn a_stream_comes_in_the_client_s_own_life_cycle_however_it_is_cut() {
    let upstream = upstream().await;
    let bytes = MESSAGE_EVENTS.as_bytes();
    let cut = |size: usize| bytes.chunks(size).fold(Reply::events(), |reply, piece| reply.bytes(piece.to_vec()));
    upstream.simulator.replies_at("/anthropic/messages", [cut(1), cut(7), cut(bytes.len())]);
    let gateway = gateway(&upstream).await;
    for _ in 0..3 {
        let (status, headers, text) =
            post(&gateway, "/v1/chat/completions", &chat("anthropic/claude-sonnet-4-5", true)).await;
        assert_eq!((status, headers["content-type"].to_str().unwrap_or("")), (200, "text/event-stream; charset=utf-8"));
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let chunks: Vec<Value> = text
            .split("\n\n")
            .filter_map(|f| f.strip_prefix("data: "))
            .filter(|d| *d != "[DONE]")
            .map(parsed)
            .collect();
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        let said: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(said, "Gr\u{fc}\u{df} \u{1f600}");
    }
    let lines = gateway.log_of(3).await;
    assert!(lines.iter().all(|line| line["output_tokens"] == 3 && line["input_tokens"] == 7), "{lines:?}");
}

#[tokio::test]
async fn an_anthropic_client_reaches_chat_completions() {
    let upstream = upstream().await;
    upstream.simulator.replies_at("/c/chat/completions", [Reply::json(StatusCode::OK, &completion())]);
    let gateway = gateway(&upstream).await;
    let (status, _, text) = post(&gateway, "/v1/messages", &messages("chat/gpt-5.1", false)).await;
    assert_eq!(status, 200, "{text}");
    let answer = parsed(&text);
    assert_eq!((&answer["type"], &answer["content"][0]["text"]), (&json!("message"), &json!("Good day.")));
    assert_eq!((&answer["stop_reason"], &answer["usage"]["input_tokens"]), (&json!("end_turn"), &json!(7)));
    assert_eq!(upstream.record().last().expect("a call").json()["messages"][1]["content"], "Hello there");
}

#[tokio::test]
async fn anthropic_to_anthropic_is_the_client_s_own_bytes() {
    let upstream = upstream().await;
    upstream.simulator.replies_at("/anthropic/messages", [Reply::events().bytes(MESSAGE_EVENTS)]);
    let gateway = gateway_with(&upstream, "models: {claude-x: anthropic/claude-x}\n").await;
    let body = "{ \"model\" : \"claude-x\",\"max_tokens\":1.0e1, \"stream\":true,\"unknown\":[1,2 ],\"messages\":[]}";
    let answer = client()
        .post(gateway.url("/v1/messages?beta=true"))
        .header("x-api-key", KEY)
        .header("anthropic-version", "2099-01-01")
        .header("anthropic-beta", "context-1m-2025-08-07,other")
        .body(body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.headers()["x-tollgate-lane"], "splice");
    assert_eq!(answer.text().await.expect("whole"), MESSAGE_EVENTS);
    let sent = upstream.record().last().expect("a call");
    assert_eq!(sent.body, body.as_bytes());
    assert_eq!(sent.header("x-api-key"), Some("anthropic-secret-key"));
    assert_eq!(sent.header("anthropic-version"), Some("2099-01-01"));
    assert_eq!(sent.header("anthropic-beta"), Some("context-1m-2025-08-07,other"));
    let line = &gateway.log_of(1).await[0];
    assert_eq!((&line["input_tokens"], &line["output_tokens"]), (&json!(7), &json!(3)));
}

#[tokio::test]
async fn a_signature_of_another_provider_s_is_not_sent_to_who_cannot_read_it() {
    let upstream = upstream().await;
    upstream.simulator.replies_at("/anthropic/messages", [Reply::json(StatusCode::OK, &message())]);
    let gateway = gateway(&upstream).await;
    let packed = tollgate::chat::Seal::new(tollgate::chat::Issuer::Gemini, "c2lnbmVk");
    let packed = packed.pack(tollgate::chat::Issuer::Anthropic);
    let mut body = messages("anthropic/claude-sonnet-4-5", false);
    body["messages"] = json!([
        {"role": "user", "content": "Hello there"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": packed}, {"type": "text", "text": "Hello."}]},
        {"role": "user", "content": "And now?"},
    ]);
    let (status, headers, text) = post(&gateway, "/v1/messages", &body).await;
    assert_eq!((status, headers["x-tollgate-lane"].to_str().ok()), (200, Some("bridge")), "{text}");
    let sent = upstream.record().last().expect("a call");
    assert!(!String::from_utf8_lossy(&sent.body).contains(&*packed));
    let content = &sent.json()["messages"][1]["content"];
    assert_eq!(content.as_str().or(content[0]["text"].as_str()), Some("Hello."));
    assert!(headers["x-tollgate-dropped"].to_str().is_ok_and(|d| d.contains("messages[1].content[0]")), "{headers:?}");
}

// === losses ===

#[tokio::test]
async fn what_cannot_be_carried_is_told_by_its_path() {
    let upstream = upstream().await;
    upstream.simulator.replies_at("/anthropic/messages", [Reply::json(StatusCode::OK, &message())]);
    let gateway = gateway(&upstream).await;
    let mut body = chat("anthropic/claude-sonnet-4-5", false);
    body["seed"] = json!(7);
    body["messages"][1]["name"] = json!("ada");
    let (status, headers, _) = post(&gateway, "/v1/chat/completions", &body).await;
    assert_eq!(status, 200);
    let dropped = headers["x-tollgate-dropped"].to_str().expect("text");
    assert!(dropped.contains("seed") && dropped.contains("messages[1].name"), "{dropped}");
    let line = &gateway.log_of(1).await[0];
    assert_eq!(line["dropped"].as_array().map(Vec::len), Some(2), "{line}");
    assert_eq!(gateway.metric("tollgate_losses_total", &["anthropic"]).await, 2.0);
}

#[tokio::test]
async fn a_beta_that_the_provider_is_not_told_of_is_in_the_ledger() {
    let upstream = upstream().await;
    upstream.simulator.replies_at("/c/chat/completions", [Reply::json(StatusCode::OK, &completion())]);
    let gateway = gateway_with(&upstream, "on_loss: refuse\n").await;
    let answer = client()
        .post(gateway.url("/v1/messages"))
        .header("x-api-key", KEY)
        .header("anthropic-beta", "claude-code-20250219, context-1m-2025-08-07")
        .body(messages("chat/gpt-5.1", false).to_string())
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    let dropped = answer.headers()["x-tollgate-dropped"].to_str().expect("text").to_owned();
    assert_eq!(dropped, "anthropic-beta:claude-code-20250219, anthropic-beta:context-1m-2025-08-07");
    assert_eq!(upstream.record().last().expect("a call").header("anthropic-beta"), None);
}

#[tokio::test]
async fn a_route_that_refuses_losses_sends_nothing() {
    let upstream = upstream().await;
    let gateway =
        gateway_with(&upstream, "models: {careful: {target: anthropic/claude-sonnet-4-5, on_loss: refuse}}\n").await;
    let mut body = chat("careful", false);
    body["seed"] = json!(7);
    let (status, _, text) = post(&gateway, "/v1/chat/completions", &body).await;
    assert_eq!(status, 400, "{text}");
    assert_eq!(parsed(&text)["error"]["param"], "seed");
    // what stands for state elsewhere is refused on every route
    let body = json!({"model": "anthropic/claude-sonnet-4-5", "input": "go on", "previous_response_id": "resp_1"});
    let (status, _, text) = post(&gateway, "/v1/responses", &body).await;
    assert_eq!((status, &parsed(&text)["error"]["param"]), (400, &json!("previous_response_id")), "{text}");
    assert!(upstream.record().calls().is_empty());
}

// === errors ===

#[tokio::test]
async fn a_provider_s_error_is_told_in_the_client_s_grammar() {
    let upstream = upstream().await;
    let overloaded = || {
        Reply::json(
            StatusCode::from_u16(529).expect("a status"),
            &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        )
    };
    let quota = || {
        Reply::json(
            StatusCode::TOO_MANY_REQUESTS,
            &json!({"error": {"message": "Rate limit reached", "type": "requests", "param": null, "code": "rate_limit_exceeded"}}),
        )
        .header("retry-after", "7")
    };
    upstream.simulator.replies_at("/anthropic/messages", [overloaded(), overloaded()]);
    upstream.simulator.replies_at("/c/chat/completions", [quota(), quota()]);
    let gateway = gateway(&upstream).await;
    let (status, _, text) = post(&gateway, "/v1/chat/completions", &chat("anthropic/x", false)).await;
    assert_eq!(status, 503, "{text}");
    let (status, _, text) = post(
        &gateway,
        "/v1beta/models/anthropic/x:generateContent",
        &json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
    )
    .await;
    assert_eq!((status, &parsed(&text)["error"]["status"]), (503, &json!("UNAVAILABLE")), "{text}");
    let (status, headers, text) = post(&gateway, "/v1/messages", &messages("chat/x", true)).await;
    assert_eq!((status, &parsed(&text)["error"]["type"]), (429, &json!("rate_limit_error")), "{text}");
    assert_eq!(headers["retry-after"], "7");
    let (status, _, text) = post(
        &gateway,
        "/v1beta/models/chat/x:streamGenerateContent?alt=sse",
        &json!({"contents": [{"parts": [{"text": "hi"}]}]}),
    )
    .await;
    assert_eq!((status, &parsed(&text)["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")), "{text}");
}

#[tokio::test]
async fn our_own_errors_are_told_in_the_client_s_grammar() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream).await;
    let (status, _, text) = post(&gateway, "/v1/messages", &json!({"model": "nobody", "messages": []})).await;
    assert_eq!(
        (status, &parsed(&text)["type"], &parsed(&text)["error"]["type"]),
        (404, &json!("error"), &json!("not_found_error"))
    );
    let (status, _, text) = post(&gateway, "/v1beta/models/nobody:generateContent", &json!({})).await;
    assert_eq!((status, &parsed(&text)["error"]["status"]), (404, &json!("NOT_FOUND")));
    let (status, _, text) =
        post(&gateway, "/v1/messages", &json!({"model": "gemini/x", "messages": [{"role": "user", "content": 5}]}))
            .await;
    assert_eq!(status, 400);
    assert!(parsed(&text)["error"]["message"].as_str().is_some_and(|m| m.contains("messages[0].content")), "{text}");
}

#[tokio::test]
async fn a_stream_that_begins_with_an_error_is_answered_with_its_status() {
    let upstream = upstream().await;
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let start = MESSAGE_EVENTS.split_inclusive("\n\n").next().expect("a frame");
    let late: String = MESSAGE_EVENTS.split_inclusive("\n\n").take(4).collect();
    upstream.simulator.replies_at(
        "/anthropic/messages",
        [Reply::events().bytes(format!("{start}{error}")), Reply::events().bytes(format!("{late}{error}"))],
    );
    let gateway = gateway(&upstream).await;
    let (status, _, text) = post(&gateway, "/v1/chat/completions", &chat("anthropic/x", true)).await;
    assert_eq!(status, 503, "{text}");
    let (status, _, text) = post(&gateway, "/v1/chat/completions", &chat("anthropic/x", true)).await;
    assert_eq!(status, 200);
    assert!(text.contains("Gr\u{fc}\u{df}") && text.contains("\"error\""), "{text}");
}

/// What a provider may send instead of an answer.
fn garbage() -> Vec<(&'static str, Reply)> {
    let json = |body: &'static str| Reply::whole(StatusCode::OK, "application/json", body);
    vec![
        ("half a JSON", json("{\"id\":\"x\",\"choices\":[{\"mess")),
        ("another JSON", json("[1,2,3]")),
        ("a number", json("7")),
        ("nothing", json("")),
        ("not UTF-8", Reply::whole(StatusCode::OK, "application/json", vec![0xff, 0xfe, b'{'])),
        ("an error page", Reply::whole(StatusCode::OK, "text/html", "<html><body>502 Bad Gateway</body></html>")),
        (
            "an error page with its status",
            Reply::whole(StatusCode::BAD_GATEWAY, "text/html", "<html>Bad Gateway</html>"),
        ),
        ("events of no kind", Reply::events().bytes("data: hello\n\ndata: {}\n\n")),
        ("half an event", Reply::events().bytes("data: {\"id\":\"x\",\"choi")),
        ("an end at once", Reply::events()),
        ("a cut", Reply::events().bytes("data: {").part(Part::Cut)),
        ("no event stream of AWS", Reply::whole(StatusCode::OK, "application/vnd.amazon.eventstream", vec![0; 64])),
        (
            "half a message of AWS",
            Reply::whole(StatusCode::OK, "application/vnd.amazon.eventstream", vec![0, 0, 1, 0, 0, 0]),
        ),
        ("silence", Reply::events().bytes(": hi\n\n").part(Part::Hang)),
    ]
}

#[tokio::test]
async fn garbage_of_any_provider_becomes_a_clear_error_in_time() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream).await;
    let targets = [
        ("anthropic/x", "/anthropic/messages", "/anthropic/messages"),
        ("gemini/x", "/gemini/models/x:generateContent", "/gemini/models/x:streamGenerateContent"),
        ("bedrock/x", "/bedrock/model/x/converse", "/bedrock/model/x/converse-stream"),
        ("cohere/x", "/cohere/v2/chat", "/cohere/v2/chat"),
        ("responses/x", "/r/responses", "/r/responses"),
    ];
    for (model, unary, streamed) in targets {
        for (what, reply) in garbage() {
            for (stream, path) in [(false, unary), (true, streamed)] {
                upstream.simulator.replies_at(path, [reply.clone()]);
                let begun = Instant::now();
                let (status, _, text) = post(&gateway, "/v1/chat/completions", &chat(model, stream)).await;
                let place = format!("{what} of {model}, stream {stream}: {status} {text}");
                assert!(begun.elapsed() < Duration::from_secs(8), "{place}");
                // told by the status, or by an event when the answer had begun
                assert!(matches!(status, 502 | 504) || (status == 200 && text.contains("\"error\"")), "{place}");
                let error = if status == 200 { text.clone() } else { parsed(&text)["error"]["message"].to_string() };
                assert!(!error.contains("Bad Gateway</") && !error.contains("127.0.0.1"), "{place}");
            }
        }
    }
}

// === Gemini's forms ===

#[tokio::test]
async fn gemini_s_clients_get_an_array_unless_they_ask_for_events() {
    let upstream = upstream().await;
    let reply = || Reply::events().bytes(MESSAGE_EVENTS);
    upstream.simulator.replies_at("/anthropic/messages", [reply(), reply()]);
    let gateway = gateway(&upstream).await;
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let path = "/v1beta/models/anthropic/claude:streamGenerateContent";
    let (status, headers, text) = post(&gateway, path, &body).await;
    assert_eq!(status, 200, "{text}");
    assert!(headers["content-type"].to_str().is_ok_and(|t| t.starts_with("application/json")));
    let said = |parts: &[Value]| -> String {
        parts.iter().filter_map(|p| p["candidates"][0]["content"]["parts"][0]["text"].as_str()).collect()
    };
    assert_eq!(said(parsed(&text).as_array().expect("an array")), "Gr\u{fc}\u{df} \u{1f600}");
    let (_, _, text) = post(&gateway, &format!("{path}?alt=sse"), &body).await;
    let events: Vec<Value> = text.split('\n').filter_map(|l| l.trim_end().strip_prefix("data: ")).map(parsed).collect();
    assert_eq!(said(&events), "Gr\u{fc}\u{df} \u{1f600}");
    assert_eq!(events.last().expect("one")["candidates"][0]["finishReason"], "STOP");
}

#[tokio::test]
async fn models_are_listed_in_the_client_s_grammar() {
    let upstream = upstream().await;
    let gateway = gateway_with(&upstream, "models: {smart: anthropic/claude-sonnet-4-5}\n").await;
    let get = async |path: &str, header: (&'static str, &'static str)| -> Value {
        let answer =
            client().get(gateway.url(path)).bearer_auth(KEY).header(header.0, header.1).send().await.expect("one");
        parsed(&answer.text().await.expect("whole"))
    };
    assert_eq!(get("/v1/models", ("x", "y")).await["data"][0]["object"], "model");
    assert_eq!(get("/v1/models", ("anthropic-version", "2023-06-01")).await["data"][0]["type"], "model");
    assert_eq!(get("/v1beta/models", ("x", "y")).await["models"][0]["name"], "models/smart");
    assert_eq!(get("/v1beta/models/smart", ("x", "y")).await["name"], "models/smart");
}
