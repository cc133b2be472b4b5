//! Embeddings, rerank, counts of tokens and legacy completions for providers of another grammar, through the front door.

use http::StatusCode;
use serde_json::{Value, json};
use tollgate::simulator::{Options, Reply};

use crate::support::{Gateway, KEY, Upstream, client, upstream_with};

async fn start() -> (Upstream, Gateway) {
    let upstream = upstream_with(Options::default()).await;
    let at = format!("http://{}", upstream.address);
    let yaml = format!(
        "keys: [{{name: test, key: {KEY}}}]\nproviders:\n\
         \x20 gemini: {{base_url: '{at}/gemini', api_key: gemini-secret-key}}\n\
         \x20 bedrock: {{base_url: '{at}/bedrock', region: us-east-1, access_key_id: AKIDEXAMPLE, secret_access_key: bedrock-secret-key}}\n\
         \x20 cohere: {{base_url: '{at}/cohere', api_key: cohere-secret-key}}\n\
         \x20 anthropic: {{base_url: '{at}/anthropic', api_key: anthropic-secret-key}}\n\
         \x20 local: {{kind: vllm, base_url: '{at}/local/v1'}}\n"
    );
    let gateway = Gateway::start(&yaml, &[]).await;
    (upstream, gateway)
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> (u16, http::HeaderMap, Value) {
    let request = client().post(gateway.url(path)).bearer_auth(KEY).body(body.to_string());
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.expect("whole");
    (status, headers, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

#[tokio::test]
async fn embeddings_are_asked_for_in_each_provider_s_own_way() {
    let (upstream, gateway) = start().await;
    let ok = |body: Value| Reply::json(StatusCode::OK, &body);
    upstream.simulator.replies_at(
        "/gemini/models/e:batchEmbedContents",
        [ok(json!({"embeddings": [{"values": [0.5, -1]}, {"values": [2, 0.25]}]}))],
    );
    upstream.simulator.replies_at(
        "/cohere/v2/embed",
        [ok(json!({"id": "1", "embeddings": {"float": [[0.5, -1], [2, 0.25]]}, "texts": ["a", "b"], "meta": {"billed_units": {"input_tokens": 2}}}))],
    );
    upstream.simulator.replies_at(
        "/bedrock/model/amazon.titan-embed-text-v2%3A0/invoke",
        [
            ok(json!({"embedding": [0.5, -1], "inputTextTokenCount": 1})),
            ok(json!({"embedding": [2, 0.25], "inputTextTokenCount": 1})),
        ],
    );
    for model in ["gemini/e", "cohere/e", "bedrock/amazon.titan-embed-text-v2:0"] {
        let body = json!({"model": model, "input": ["a", "b"]});
        let (status, headers, answer) = post(&gateway, "/v1/embeddings", &body).await;
        assert_eq!(status, 200, "{model}: {answer}");
        assert_eq!(headers["x-tollgate-lane"], "bridge");
        let vectors: Vec<Vec<f64>> = answer["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|d| d["embedding"].as_array().expect("numbers").iter().filter_map(Value::as_f64).collect())
            .collect();
        assert_eq!(vectors, [[0.5, -1.0], [2.0, 0.25]], "{model}");
    }
    let lines = gateway.log_of(3).await;
    assert_eq!(lines[1]["input_tokens"], 2);
    // two questions, one try
    assert_eq!((&lines[2]["input_tokens"], &lines[2]["attempts"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn rerank_reaches_cohere_and_what_is_shaped_like_it() {
    let (upstream, gateway) = start().await;
    let cohere = json!({"id": "1", "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}], "meta": {"billed_units": {"search_units": 1}}});
    let vllm = json!({"id": "2", "model": "r", "usage": {"total_tokens": 9}, "results": [{"index": 1, "document": {"text": "b"}, "relevance_score": 0.9}, {"index": 0, "document": {"text": "a"}, "relevance_score": 0.1}]});
    upstream.simulator.replies_at("/cohere/v2/rerank", [Reply::json(StatusCode::OK, &cohere)]);
    upstream.simulator.replies_at("/rerank", [Reply::json(StatusCode::OK, &vllm)]);
    upstream.simulator.replies_at("/local/rerank", [Reply::json(StatusCode::OK, &vllm)]);
    upstream.simulator.replies_at("/local/v1/rerank", [Reply::json(StatusCode::OK, &vllm)]);
    for (path, model) in [("/v2/rerank", "cohere/r"), ("/v1/rerank", "local/r")] {
        let body = json!({"model": model, "query": "q", "documents": ["a", "b"]});
        let (status, _, answer) = post(&gateway, path, &body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["results"][0]["index"], 1, "{answer}");
    }
}

#[tokio::test]
async fn tokens_are_counted_by_who_would_answer_or_estimated_and_said_so() {
    let (upstream, gateway) = start().await;
    let counted = Reply::json(StatusCode::OK, &json!({"totalTokens": 42}));
    upstream.simulator.replies_at("/gemini/models/g:countTokens", [counted]);
    upstream
        .simulator
        .replies_at("/anthropic/messages/count_tokens", [Reply::json(StatusCode::OK, &json!({"input_tokens": 43}))]);
    let messages =
        |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "Hello there, how are you?"}]});
    let (status, headers, answer) = post(&gateway, "/v1/messages/count_tokens", &messages("gemini/g")).await;
    assert_eq!((status, &answer), (200, &json!({"input_tokens": 42})));
    assert!(headers.get("x-tollgate-estimated").is_none());
    let (status, headers, answer) = post(&gateway, "/v1/messages/count_tokens", &messages("local/x")).await;
    assert_eq!((status, headers["x-tollgate-estimated"].to_str().ok()), (200, Some("tokens")));
    assert!(answer["input_tokens"].as_u64().is_some_and(|n| (6..30).contains(&n)), "{answer}");
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}]});
    let (status, _, answer) = post(&gateway, "/v1beta/models/anthropic/claude:countTokens", &body).await;
    assert_eq!((status, &answer), (200, &json!({"totalTokens": 43})));
    let sent = upstream.record().last().expect("a call").json();
    assert_eq!((sent.get("max_tokens"), &sent["model"]), (None, &json!("claude")));
}

#[tokio::test]
async fn a_legacy_completion_is_held_as_a_conversation() {
    let (upstream, gateway) = start().await;
    let answer = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
        "content": [{"type": "text", "text": " a time"}], "stop_reason": "max_tokens", "stop_sequence": null,
        "usage": {"input_tokens": 4, "output_tokens": 2},
    });
    upstream.simulator.replies_at("/anthropic/messages", [Reply::json(StatusCode::OK, &answer)]);
    let body = json!({"model": "anthropic/claude", "prompt": "Once upon", "max_tokens": 2, "echo": true});
    let (status, headers, answer) = post(&gateway, "/v1/completions", &body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(
        (&answer["choices"][0]["text"], &answer["choices"][0]["finish_reason"]),
        (&json!(" a time"), &json!("length"))
    );
    assert_eq!(headers["x-tollgate-dropped"], "echo");
}
