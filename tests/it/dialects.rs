//! Every client to every provider, with nothing scripted: the simulated providers of the demo, each strict about its own grammar, behind
//! a gateway that has a model of each.

use serde_json::{Value, json};

use crate::support::{Gateway, KEY, UPSTREAM_KEY, Upstream, client, upstream};

const MODELS: [&str; 5] = ["gpt", "claude", "gemini", "nova", "command"];
/// Those that show their thoughts when asked.
const THINKERS: [&str; 4] = ["claude", "gemini-3", "bedrock-claude", "command"];

async fn gateway(upstream: &Upstream) -> Gateway {
    let at = format!("http://{}", upstream.address);
    let yaml = format!(
        "keys: [{{name: test, key: {KEY}}}]\nproviders:\n\
         \x20 openai: {{base_url: '{at}/v1', api_key: {UPSTREAM_KEY}, bridge: [chat_completions]}}\n\
         \x20 anthropic: {{base_url: '{at}/v1', api_key: {UPSTREAM_KEY}}}\n\
         \x20 gemini: {{base_url: '{at}/v1beta', api_key: {UPSTREAM_KEY}}}\n\
         \x20 bedrock: {{base_url: '{at}', region: us-east-1, access_key_id: AKIDEXAMPLE, secret_access_key: secret-access-key}}\n\
         \x20 cohere: {{base_url: '{at}', api_key: {UPSTREAM_KEY}}}\n\
         models:\n\
         \x20 gpt: openai/gpt-4o-mini\n\
         \x20 claude: anthropic/claude-sonnet-4-5\n\
         \x20 gemini: gemini/gemini-2.5-flash\n\
         \x20 gemini-3: gemini/gemini-3-pro-preview\n\
         \x20 nova: 'bedrock/us.amazon.nova-lite-v1:0'\n\
         \x20 bedrock-claude: 'bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0'\n\
         \x20 command: cohere/command-a-03-2025\n"
    );
    Gateway::start(&yaml, &[]).await
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> (u16, String) {
    let answer = client().post(gateway.url(path)).bearer_auth(KEY).json(body).send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.text().await.expect("whole"))
}

async fn asked(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let (status, text) = post(gateway, path, body).await;
    assert_eq!(status, 200, "{path} {body}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The documents of an event stream.
async fn streamed(gateway: &Gateway, path: &str, body: &Value) -> Vec<Value> {
    let (status, text) = post(gateway, path, body).await;
    assert_eq!(status, 200, "{path} {body}: {text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"))).collect()
}

fn chat(model: &str, more: Value) -> Value {
    let mut body = json!({ "model": model, "messages": [
        { "role": "system", "content": "Be brief." }, { "role": "user", "content": "Say hi" }
    ] });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

fn tools() -> Value {
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    json!([{ "type": "function", "function": { "name": "f", "description": "Counts.", "parameters": schema } }])
}

/// The pieces at this place of a stream's documents.
fn joined(events: &[Value], pointer: &str) -> String {
    events.iter().filter_map(|event| event.pointer(pointer)).filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn a_chat_client_hears_the_same_of_every_provider_whole_and_streamed() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream).await;
    for model in MODELS {
        let whole = asked(&gateway, "/v1/chat/completions", &chat(model, json!({}))).await;
        let text = whole["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        assert!(text.contains("simulated") && text.contains("\"Say hi\""), "{model}: {whole}");
        assert_eq!(whole["choices"][0]["finish_reason"], "stop", "{model}");
        let options = json!({ "stream": true, "stream_options": { "include_usage": true } });
        let events = streamed(&gateway, "/v1/chat/completions", &chat(model, options)).await;
        assert_eq!(joined(&events, "/choices/0/delta/content"), text, "{model}");
        let usage = &events.last().expect("events")["usage"];
        assert!(usage["prompt_tokens"].as_u64() > Some(0), "{model}: {usage}");
        for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(usage[count], whole["usage"][count], "{model} {count}");
        }
    }
}

#[tokio::test]
async fn a_chat_client_s_tools_are_called_by_every_provider_and_the_result_goes_back() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream).await;
    for model in MODELS {
        for stream in [false, true] {
            let body = chat(model, json!({ "tools": tools(), "stream": stream }));
            let (id, arguments, finish) = if stream {
                let events = streamed(&gateway, "/v1/chat/completions", &body).await;
                let id = joined(&events, "/choices/0/delta/tool_calls/0/id");
                assert_eq!(joined(&events, "/choices/0/delta/tool_calls/0/function/name"), "f", "{model}");
                let arguments = joined(&events, "/choices/0/delta/tool_calls/0/function/arguments");
                (id, arguments, joined(&events, "/choices/0/finish_reason"))
            } else {
                let choice = asked(&gateway, "/v1/chat/completions", &body).await["choices"][0].clone();
                let call = &choice["message"]["tool_calls"][0];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (text(&call["id"]), text(&call["function"]["arguments"]), text(&choice["finish_reason"]))
            };
            let arguments: Value =
                serde_json::from_str(&arguments).unwrap_or_else(|e| panic!("{model}: {e}: {arguments}"));
            assert_eq!((arguments, finish.as_str()), (json!({ "n": 1 }), "tool_calls"), "{model} {stream}");
            let call = json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{\"n\":1}" } });
            let mut body = chat(model, json!({ "tools": tools(), "stream": stream }));
            body["messages"].as_array_mut().expect("a list").extend([
                json!({ "role": "assistant", "content": null, "tool_calls": [call] }),
                json!({ "role": "tool", "tool_call_id": id, "content": "42 degrees" }),
            ]);
            let (status, text) = post(&gateway, "/v1/chat/completions", &body).await;
            assert_eq!(status, 200, "{model} {stream}: {text}");
            let said = if stream {
                joined(&streamed(&gateway, "/v1/chat/completions", &body).await, "/choices/0/delta/content")
            } else {
                text
            };
            assert!(said.contains("42 degrees"), "{model} {stream}: {said}");
        }
    }
}

#[tokio::test]
async fn thoughts_go_to_a_chat_client_and_come_back_with_their_seal() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream).await;
    for model in THINKERS {
        let thinking = json!({ "tools": tools(), "reasoning_effort": "medium", "max_completion_tokens": 30_000 });
        let mut body = chat(model, thinking);
        let message = asked(&gateway, "/v1/chat/completions", &body).await["choices"][0]["message"].clone();
        let thought = message["reasoning_content"].as_str().unwrap_or_default();
        assert!(thought.contains("I am a simulation"), "{model}: {message}");
        let id = message["tool_calls"][0]["id"].clone();
        let result = json!({ "role": "tool", "tool_call_id": id, "content": "42 degrees" });
        body["messages"].as_array_mut().expect("a list").extend([message, result]);
        let answer = asked(&gateway, "/v1/chat/completions", &body).await;
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        assert!(text.contains("42 degrees"), "{model}: {answer}");
    }
}

#[tokio::test]
async fn every_provider_answers_a_chat_client_in_its_schema() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream).await;
    let schema = json!({
        "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"], "additionalProperties": false
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": schema } });
    for model in MODELS {
        let answer = asked(&gateway, "/v1/chat/completions", &chat(model, json!({ "response_format": format }))).await;
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        let answer: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{model}: {e}: {answer}"));
        assert_eq!(answer, json!({ "n": 1 }), "{model}");
    }
}

#[tokio::test]
async fn the_other_clients_reach_every_provider() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream).await;
    for model in MODELS {
        let turn = json!([{ "role": "user", "content": "Say hi" }]);
        let body = json!({ "model": model, "max_tokens": 500, "messages": turn });
        let text = asked(&gateway, "/v1/messages", &body).await["content"][0]["text"].clone();
        assert!(text.as_str().is_some_and(|text| text.contains("\"Say hi\"")), "{model}: {text}");
        let body = json!({ "model": model, "max_tokens": 500, "messages": turn, "stream": true });
        let events = streamed(&gateway, "/v1/messages", &body).await;
        assert_eq!(json!(joined(&events, "/delta/text")), text, "{model}");

        let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": "Say hi" }] }] });
        let answer = asked(&gateway, &format!("/v1beta/models/{model}:generateContent"), &body).await;
        assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], text, "{model}: {answer}");
        let path = format!("/v1beta/models/{model}:streamGenerateContent?alt=sse");
        let events = streamed(&gateway, &path, &body).await;
        assert_eq!(json!(joined(&events, "/candidates/0/content/parts/0/text")), text, "{model}");

        let body = json!({ "model": model, "input": "Say hi" });
        let answer = asked(&gateway, "/v1/responses", &body).await;
        assert_eq!(answer["output"][0]["content"][0]["text"], text, "{model}: {answer}");
        let events =
            streamed(&gateway, "/v1/responses", &json!({ "model": model, "input": "Say hi", "stream": true })).await;
        assert_eq!(json!(joined(&events, "/delta")), text, "{model}");
    }
}

#[tokio::test]
async fn what_a_provider_refuses_a_chat_client_reads_in_its_own_words() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream).await;
    for provider in ["anthropic", "gemini", "bedrock", "cohere"] {
        for (model, status, code) in [
            ("sim-429", &[429][..], Some("rate_limit_exceeded")),
            ("sim-503", &[503, 529][..], None),
            ("sim-500", &[500, 502][..], None),
            ("sim-context", &[400][..], Some("context_length_exceeded")),
        ] {
            let (got, text) =
                post(&gateway, "/v1/chat/completions", &chat(&format!("{provider}/{model}"), json!({}))).await;
            let error: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(status.contains(&got), "{provider}/{model}: {got} {text}");
            assert!(code.is_none_or(|code| error["error"]["code"] == code), "{provider}/{model}: {text}");
        }
        let model = format!("{provider}/sim-401");
        let (_, leak) = post(&gateway, "/v1/chat/completions", &chat(&model, json!({}))).await;
        assert!(!leak.contains(UPSTREAM_KEY) && !leak.contains("AKIDEXAMPLE"), "{provider}: {leak}");
        assert!(!leak.contains(&upstream.address.to_string()), "{provider}: {leak}");
        for model in ["sim-error-event", "sim-cut"] {
            let body = chat(&format!("{provider}/{model}"), json!({ "stream": true }));
            let events = streamed(&gateway, "/v1/chat/completions", &body).await;
            assert!(!joined(&events, "/choices/0/delta/content").is_empty(), "{provider}/{model}");
            let last = events.last().expect("events");
            assert!(last["error"]["message"].is_string(), "{provider}/{model}: {last}");
        }
    }
}
