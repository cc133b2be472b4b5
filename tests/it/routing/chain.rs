//! Three providers of three dialects behind one model: whatever the first two do, the client reads one answer of its own dialect.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tollgate::simulator::{Call, Part, Reply};

use super::{Answer, any, events, only, post, said, some};
use crate::support::{Gateway, KEY, Upstream};

const GPT: &str = "gpt-5.1";
const CLAUDE: &str = "claude-sonnet-4-5";
const NOVA: &str = "amazon.nova-pro-v1:0";
const SECRETS: [&str; 3] = ["openai-secret-key", "anthropic-secret-key", "bedrock-secret-key"];

async fn chain([openai, anthropic, bedrock]: [&Upstream; 3]) -> Gateway {
    let yaml = format!(
        "keys: [{{name: test, key: {KEY}}}]\nproviders:\n\
         \x20 openai: {{base_url: 'http://{}/v1', api_key: openai-secret-key}}\n\
         \x20 anthropic: {{base_url: 'http://{}/v1', api_key: anthropic-secret-key}}\n\
         \x20 bedrock: {{base_url: 'http://{}', region: us-east-1, access_key_id: AKIDEXAMPLE, secret_access_key: bedrock-secret-key}}\n\
         models:\n  best:\n    timeouts: {{first_token: 600ms}}\n    targets:\n\
         \x20     - openai/{GPT}\n      - {{model: anthropic/{CLAUDE}, priority: 2}}\n      - {{model: 'bedrock/{NOVA}', priority: 3}}\n",
        openai.address, anthropic.address, bedrock.address
    );
    Gateway::start(&yaml, &[]).await
}

fn overloaded() -> Reply {
    let error =
        json!({ "message": "The engine is currently overloaded", "type": "server_error", "param": null, "code": null });
    Reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error }))
}

/// Life, but no word; then silence.
fn begins_and_hangs() -> Reply {
    Reply::events().bytes(START).bytes(PING).part(Part::Hang)
}

/// Life, but no word; then an error.
fn begins_with_an_error() -> Reply {
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    Reply::events().bytes(START).bytes(PING).bytes(format!("event: error\ndata: {error}\n\n"))
}

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_01\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n";
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

fn chat(stream: bool) -> Value {
    json!({
        "model": "best", "stream": stream, "max_tokens": 100, "temperature": 0.5,
        "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Hello there" }],
    })
}

fn messages(stream: bool) -> Value {
    json!({
        "model": "best", "stream": stream, "max_tokens": 100, "temperature": 0.5, "system": "Be brief.",
        "messages": [{ "role": "user", "content": "Hello there" }],
    })
}

fn responses(stream: bool) -> Value {
    json!({ "model": "best", "stream": stream, "max_output_tokens": 100, "instructions": "Be brief.", "input": "Hello there" })
}

/// The credential of each, in its own way, and nobody else's.
fn own_credential(call: &Call, provider: &str) {
    let headers = format!("{:?}", call.headers);
    assert!(!headers.contains(KEY), "{headers}");
    let (shown, mine) = match provider {
        "openai" => (call.header("authorization"), "Bearer openai-secret-key"),
        "anthropic" => (call.header("x-api-key"), "anthropic-secret-key"),
        _ => (call.header("authorization"), "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
    };
    assert!(shown.is_some_and(|shown| shown.starts_with(mine)), "{provider}: {headers}");
    for secret in SECRETS.iter().filter(|secret| !mine.contains(**secret)) {
        assert!(!headers.contains(secret), "{provider} was shown {secret}: {headers}");
    }
    assert!((call.header("x-api-key").is_some()) == (provider == "anthropic"), "{headers}");
}

/// Each was asked once, in its own dialect, for the same thing.
fn asked_in_their_own_words([openai, anthropic, bedrock]: [&Upstream; 3], stream: bool, own: &str) {
    let (one, two, three) = (only(openai), only(anthropic), only(bedrock));
    own_credential(&one, "openai");
    own_credential(&two, "anthropic");
    own_credential(&three, "bedrock");
    let body = one.json();
    assert_eq!((&one.path_and_query, &body["model"]), (&own.to_owned(), &json!(GPT)));
    let body = two.json();
    assert_eq!(
        (two.path_and_query.as_str(), &body["model"], &body["max_tokens"]),
        ("/v1/messages", &json!(CLAUDE), &json!(100))
    );
    assert_eq!(two.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(body["stream"].as_bool().unwrap_or(false), stream);
    assert!(body["system"].to_string().contains("Be brief."), "{body}");
    assert_eq!(body["messages"].as_array().map(Vec::len), Some(1), "{body}");
    let action = if stream { "converse-stream" } else { "converse" };
    assert!(three.path_and_query.starts_with("/model/amazon.nova-pro"), "{}", three.path_and_query);
    assert!(three.path_and_query.ends_with(action), "{}", three.path_and_query);
    let body = three.json();
    assert_eq!(body["system"], json!([{ "text": "Be brief." }]), "{body}");
    assert_eq!(body["messages"], json!([{ "role": "user", "content": [{ "text": "Hello there" }] }]), "{body}");
    assert_eq!(body["inferenceConfig"]["maxTokens"], 100, "{body}");
}

async fn told(gateway: &Gateway, answer: &Answer, second: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.way(), ("bedrock", "3"));
    let tried = [format!("openai/{GPT};503"), format!("anthropic/{CLAUDE};{second}")];
    assert_eq!(answer.header("x-tollgate-tried"), tried.join(", "));
    assert_eq!((answer.header("x-tollgate-model"), answer.header("x-tollgate-lane")), ("best", "bridge"));
    let line = &gateway.log_of(1).await[0];
    assert_eq!((&line["attempts"], &line["tried"]), (&json!(3), &json!(tried)), "{line}");
    assert_eq!(
        (&line["provider"], &line["upstream_model"], &line["status"]),
        (&json!("bedrock"), &json!(NOVA), &json!(200))
    );
    assert!(line["error"].is_null() && line["output_tokens"].as_u64() > Some(0), "{line}");
    let outcome = if second == "timeout" { "timeout" } else { "server_error" };
    for (provider, outcome) in [("openai", "server_error"), ("anthropic", outcome), ("bedrock", "ok")] {
        let labels = [&*format!("gen_ai_provider_name=\"{provider}\""), &*format!("outcome=\"{outcome}\"")];
        assert_eq!(gateway.metric("tollgate_upstream_attempts_total", &labels).await, 1.0, "{labels:?}");
        assert_eq!(gateway.metric("tollgate_upstream_attempts_total", &labels[..1]).await, 1.0, "{labels:?}");
    }
    for (provider, reason) in [("openai", "server_error"), ("anthropic", outcome)] {
        let labels = [&*format!("gen_ai_provider_name=\"{provider}\""), &*format!("reason=\"{reason}\"")];
        assert_eq!(gateway.metric("tollgate_failovers_total", &labels).await, 1.0, "{labels:?}");
    }
    assert_eq!(gateway.metric("tollgate_failovers_total", &[]).await, 2.0);
}

#[tokio::test]
async fn a_whole_answer_comes_from_the_third_dialect_and_reads_like_the_client_s_own() {
    for (path, body) in
        [("/v1/chat/completions", chat(false)), ("/v1/messages", messages(false)), ("/v1/responses", responses(false))]
    {
        let three: [Upstream; 3] = some().await;
        let [openai, anthropic, _] = &three;
        openai.simulator.reply(GPT, overloaded());
        anthropic.simulator.reply(CLAUDE, Reply::default().first(Part::Hang));
        let gateway = chain(three.each_ref()).await;
        let answer = post(&gateway, path, &body).await;
        told(&gateway, &answer, "timeout").await;
        assert!(answer.took > Duration::from_millis(550) && answer.took < Duration::from_secs(3), "{:?}", answer.took);
        let own = if path == "/v1/messages" { openai_s_own(&openai.record().calls()) } else { path.to_owned() };
        asked_in_their_own_words(three.each_ref(), false, &own);
        let json = answer.json();
        let (text, usage) = match path {
            "/v1/chat/completions" => {
                assert_eq!(
                    (&json["object"], &json["choices"][0]["finish_reason"]),
                    (&json!("chat.completion"), &json!("stop"))
                );
                (&json["choices"][0]["message"]["content"], &json["usage"]["completion_tokens"])
            }
            "/v1/messages" => {
                assert_eq!((&json["type"], &json["stop_reason"]), (&json!("message"), &json!("end_turn")));
                (&json["content"][0]["text"], &json["usage"]["output_tokens"])
            }
            _ => {
                assert_eq!((&json["object"], &json["status"]), (&json!("response"), &json!("completed")));
                (&json["output"][0]["content"][0]["text"], &json["usage"]["output_tokens"])
            }
        };
        assert!(text.as_str().is_some_and(|text| text.contains("Hello there")), "{json}");
        assert!(usage.as_u64() > Some(0), "{json}");
        assert!(!answer.text.contains("overloaded"), "nothing of the failed ones: {json}");
    }
}

/// A client of Anthropic's may be told in either of OpenAI's dialects.
fn openai_s_own(calls: &[Call]) -> String {
    let path = calls.first().map(|call| call.path_and_query.clone()).unwrap_or_default();
    assert!(path == "/v1/responses" || path == "/v1/chat/completions", "{path}");
    path
}

#[tokio::test]
async fn a_stream_comes_from_the_third_dialect_and_reads_like_the_client_s_own() {
    for (second, reply) in [("timeout", begins_and_hangs()), ("529", begins_with_an_error())] {
        for (path, body) in
            [("/v1/chat/completions", chat(true)), ("/v1/messages", messages(true)), ("/v1/responses", responses(true))]
        {
            let three: [Upstream; 3] = some().await;
            let [openai, anthropic, _] = &three;
            openai.simulator.reply(GPT, overloaded());
            anthropic.simulator.reply(CLAUDE, reply.clone());
            let gateway = chain(three.each_ref()).await;
            let answer = post(&gateway, path, &body).await;
            told(&gateway, &answer, second).await;
            let own = if path == "/v1/messages" { openai_s_own(&openai.record().calls()) } else { path.to_owned() };
            asked_in_their_own_words(three.each_ref(), true, &own);
            coherent(path, &answer.text);
        }
    }
}

/// One stream from its beginning to its end, with the answer in it and nothing of those that failed.
fn coherent(path: &str, text: &str) {
    let spoken = match path {
        "/v1/chat/completions" => said(text),
        "/v1/messages" => {
            let kinds: Vec<String> = kinds(text);
            let once = |kind: &str| assert_eq!(kinds.iter().filter(|k| *k == kind).count(), 1, "{kind}: {text}");
            ["message_start", "message_delta", "message_stop"].iter().for_each(|kind| once(kind));
            assert_eq!(kinds.first().map(String::as_str), Some("message_start"));
            assert_eq!(kinds.last().map(String::as_str), Some("message_stop"));
            assert!(!text.contains("\"msg_01\""), "of the one that failed: {text}");
            joined(text, "/delta/text")
        }
        _ => {
            let kinds = kinds(text);
            assert_eq!(kinds.first().map(String::as_str), Some("response.created"), "{text}");
            assert_eq!(kinds.last().map(String::as_str), Some("response.completed"), "{text}");
            joined(text, "/delta")
        }
    };
    assert!(spoken.contains("Hello there"), "{text}");
    assert!(!text.contains("verloaded"), "nothing of the failed ones: {text}");
}

fn kinds(text: &str) -> Vec<String> {
    events(text).iter().filter_map(|event| event["type"].as_str().map(str::to_owned)).collect()
}

fn joined(text: &str, path: &str) -> String {
    events(text).iter().filter_map(|event| event.pointer(path)?.as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn when_all_three_fail_one_error_is_told_in_the_client_s_words() {
    for (path, body) in [("/v1/chat/completions", chat(false)), ("/v1/messages", messages(true))] {
        let three: [Upstream; 3] = some().await;
        let [openai, anthropic, bedrock] = &three;
        openai.simulator.reply(GPT, overloaded());
        anthropic.simulator.reply(CLAUDE, Reply::default().first(Part::Cut));
        let broken = json!({ "message": "Internal." });
        bedrock.simulator.reply(NOVA, Reply::json(StatusCode::INTERNAL_SERVER_ERROR, &broken));
        let gateway = chain(three.each_ref()).await;
        let answer = post(&gateway, path, &body).await;
        assert!(answer.status >= 500, "{} {}", answer.status, answer.text);
        assert_eq!(answer.header("x-tollgate-attempts"), "3");
        assert_eq!(answer.header("content-type"), "application/json");
        let json = answer.json();
        assert_eq!(json["type"] == "error", path == "/v1/messages", "{json}");
        assert!(json["error"]["message"].is_string(), "{json}");
        let line = &gateway.log_of(1).await[0];
        assert_eq!(line["tried"].as_array().map(Vec::len), Some(3), "{line}");
        assert_eq!((&line["attempts"], &line["blame"]), (&json!(3), &json!("upstream")), "{line}");
        for upstream in [openai, anthropic, bedrock] {
            only(upstream);
        }
    }
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_costs_no_call() {
    let [openai, anthropic] = &some().await;
    let gone = any().await;
    let gateway = chain([&gone, anthropic, openai]).await;
    drop(gone);
    let answer = post(&gateway, "/v1/chat/completions", &chat(false)).await;
    assert_eq!((answer.status, answer.way()), (200, ("anthropic", "2")), "{}", answer.text);
    assert_eq!(answer.header("x-tollgate-tried"), format!("openai/{GPT};connect"));
}
