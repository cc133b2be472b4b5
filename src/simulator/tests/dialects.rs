//! The APIs that are not OpenAI's: whole and streamed, there and back, in error.

use super::*;

const PROMPT: &str = "Say hi";

/// A way to each API: how to ask, what was said, how it says that it failed.
struct Api {
    name: &'static str,
    /// `MODEL` stands for the model.
    path: &'static str,
    stream_path: &'static str,
    body: fn() -> Value,
    text: fn(&Value) -> Option<&Value>,
    /// The text in an event of a stream.
    piece: fn(&Value) -> Option<&Value>,
    usage: fn(&Value) -> Option<&Value>,
    refusal: fn(&Value) -> Option<&Value>,
}

const APIS: [Api; 4] = [
    Api {
        name: "anthropic",
        path: "/v1/messages",
        stream_path: "/anthropic/v1/messages",
        body: || json!({ "model": "MODEL", "max_tokens": 2000, "messages": [{ "role": "user", "content": PROMPT }] }),
        text: |answer| answer.pointer("/content/0/text"),
        piece: |event| event.pointer("/delta/text"),
        usage: |answer| answer.get("usage"),
        refusal: |answer| answer.pointer("/error/type"),
    },
    Api {
        name: "gemini",
        path: "/v1beta/models/MODEL:generateContent",
        stream_path: "/v1beta/models/MODEL:streamGenerateContent?alt=sse",
        body: || json!({ "contents": [{ "role": "user", "parts": [{ "text": PROMPT }] }] }),
        text: |answer| answer.pointer("/candidates/0/content/parts/0/text"),
        piece: |event| event.pointer("/candidates/0/content/parts/0/text"),
        usage: |answer| answer.get("usageMetadata"),
        refusal: |answer| answer.pointer("/error/status"),
    },
    Api {
        name: "bedrock",
        path: "/model/MODEL/converse",
        stream_path: "/model/MODEL/converse-stream",
        body: || json!({ "messages": [{ "role": "user", "content": [{ "text": PROMPT }] }] }),
        text: |answer| answer.pointer("/output/message/content/0/text"),
        piece: |event| event.pointer("/delta/text"),
        usage: |answer| answer.get("usage"),
        refusal: |answer| answer.get("message"),
    },
    Api {
        name: "cohere",
        path: "/v2/chat",
        stream_path: "/v2/chat",
        body: || json!({ "model": "MODEL", "messages": [{ "role": "user", "content": PROMPT }] }),
        text: |answer| answer.pointer("/message/content/0/text"),
        piece: |event| event.pointer("/delta/message/content/text"),
        usage: |answer| answer.get("usage").or_else(|| answer.pointer("/delta/usage")),
        refusal: |answer| answer.get("message"),
    },
];

impl Api {
    fn of(name: &str) -> &'static Api {
        APIS.iter().find(|api| api.name == name).expect("it is in the table")
    }

    async fn ask(&self, bench: &Bench, model: &str, more: Value) -> Heard {
        self.ask_with(bench, model, more, "").await
    }

    async fn ask_with(&self, bench: &Bench, model: &str, more: Value, headers: &str) -> Heard {
        let stream = more.get("stream") == Some(&json!(true));
        let path = if stream { self.stream_path } else { self.path };
        let mut body = (self.body)();
        for (name, value) in more.as_object().expect("more members are an object") {
            // only these say it in the body
            if name != "stream" || matches!(self.name, "anthropic" | "cohere") {
                body[name] = value.clone();
            }
        }
        let body = body.to_string().replace("MODEL", model);
        let head = format!("POST {} HTTP/1.1\r\nhost: sim.example\r\n{headers}", path.replace("MODEL", model));
        bench.raw(&format!("{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await
    }

    /// The events of a stream.
    fn events(&self, heard: &Heard) -> Vec<Value> {
        if self.name == "bedrock" { messages(&unchunked(&heard.wire)) } else { heard.events() }
    }

    fn said(&self, events: &[Value]) -> String {
        events.iter().filter_map(self.piece).filter_map(Value::as_str).collect()
    }
}

/// A chunked body without the chunks.
fn unchunked(mut wire: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = memchr::memmem::find(wire, b"\r\n") {
        let size = std::str::from_utf8(&wire[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("a chunk begins with its size");
        whole.extend_from_slice(&wire[end + 2..end + 2 + size]);
        wire = wire.get(end + size + 4..).unwrap_or_default();
    }
    whole
}

/// The payloads of an event stream; each with its kind as `:type`.
fn messages(mut bytes: &[u8]) -> Vec<Value> {
    let mut payloads = Vec::new();
    while let [a, b, c, d, e, f, g, h, ..] = *bytes {
        let (length, heads) = (u32::from_be_bytes([a, b, c, d]) as usize, u32::from_be_bytes([e, f, g, h]) as usize);
        let kind = &bytes[12..12 + heads];
        let mut payload: Value = serde_json::from_slice(&bytes[12 + heads..length - 4]).expect("the payload is JSON");
        // the first header: a length, the name, what sort of value, two bytes of length, the value
        let start = 1 + usize::from(kind[0]) + 3;
        let size = u16::from_be_bytes([kind[start - 2], kind[start - 1]]) as usize;
        payload[":type"] = json!(String::from_utf8_lossy(&kind[start..start + size]));
        payloads.push(payload);
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty(), "nothing is left over");
    payloads
}

fn tools(name: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    match name {
        "anthropic" => json!({ "tools": [{ "name": "f", "input_schema": schema }] }),
        "gemini" => {
            let google = json!({ "type": "OBJECT", "properties": { "n": { "type": "INTEGER" } }, "required": ["n"] });
            json!({ "tools": [{ "functionDeclarations": [{ "name": "f", "parameters": google }] }] })
        }
        "bedrock" => {
            json!({ "toolConfig": { "tools": [{ "toolSpec": { "name": "f", "inputSchema": { "json": schema } } }] } })
        }
        _ => json!({ "tools": [{ "type": "function", "function": { "name": "f", "parameters": schema } }] }),
    }
}

fn thinking(name: &str) -> Value {
    match name {
        "gemini" => json!({ "generationConfig": { "thinkingConfig": { "includeThoughts": true } } }),
        "bedrock" => {
            json!({ "additionalModelRequestFields": { "thinking": { "type": "enabled", "budget_tokens": 1024 } } })
        }
        "cohere" => json!({ "thinking": { "type": "enabled" } }),
        _ => json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 } }),
    }
}

fn with(mut object: Value, more: Value) -> Value {
    for (name, value) in more.as_object().expect("more members are an object") {
        object[name] = value.clone();
    }
    object
}

#[tokio::test]
async fn every_api_says_the_same_whole_and_streamed() {
    let bench = Bench::new().await;
    for api in &APIS {
        for model in ["m", "us.vendor.model-1:0"] {
            let whole = api.ask(&bench, model, json!({})).await;
            assert_eq!(whole.status, 200, "{}: {}", api.name, String::from_utf8_lossy(&whole.wire));
            let whole = whole.json();
            let text = (api.text)(&whole).and_then(Value::as_str).unwrap_or_default().to_owned();
            assert!(text.contains("simulated") && text.contains("\"Say hi\""), "{}: {whole}", api.name);
            let stream = api.ask(&bench, model, json!({ "stream": true })).await;
            let kind = if api.name == "bedrock" { "application/vnd.amazon.eventstream" } else { "text/event-stream" };
            assert!(stream.head.contains(&format!("content-type: {kind}")), "{}", stream.head);
            let events = api.events(&stream);
            assert_eq!(api.said(&events), text, "{}", api.name);
            let last = events.iter().rev().find_map(api.usage).expect("it tells usage");
            let (all, mut told) = (api.usage)(&whole).map(|usage| (usage.clone(), last.clone())).expect("usage");
            for (name, value) in all.as_object().expect("an object") {
                // Anthropic tells some only at the start
                if told.get(name).is_none() && api.name == "anthropic" {
                    told[name] = value.clone();
                }
            }
            assert_eq!(told, all, "{}", api.name);
        }
    }
}

#[tokio::test]
async fn events_come_in_the_order_of_the_real_apis() {
    let bench = Bench::new().await;
    let order = async |name: &str, more: Value| {
        let api = Api::of(name);
        let more = with(with(more, thinking(name)), json!({ "stream": true }));
        let events = api.events(&api.ask(&bench, "m", more).await);
        let kind = |event: &Value| event[if name == "bedrock" { ":type" } else { "type" }].as_str().map(str::to_owned);
        let mut kinds: Vec<String> = events.iter().filter_map(kind).collect();
        kinds.dedup();
        kinds.join(" ")
    };
    let text = "message_start content_block_start ping content_block_delta content_block_stop content_block_start \
         content_block_delta content_block_stop message_delta message_stop";
    assert_eq!(order("anthropic", json!({})).await, text);
    assert_eq!(order("anthropic", tools("anthropic")).await, text);
    let text =
        "messageStart contentBlockDelta contentBlockStop contentBlockDelta contentBlockStop messageStop metadata";
    assert_eq!(order("bedrock", json!({})).await, text);
    let call = "messageStart contentBlockDelta contentBlockStop contentBlockStart contentBlockDelta contentBlockStop \
         messageStop metadata";
    assert_eq!(order("bedrock", tools("bedrock")).await, call);
    let text =
        "message-start content-start content-delta content-end content-start content-delta content-end message-end";
    assert_eq!(order("cohere", json!({})).await, text);
    let call = "message-start content-start content-delta content-end tool-plan-delta tool-call-start tool-call-delta \
         tool-call-end message-end";
    assert_eq!(order("cohere", tools("cohere")).await, call);
}

#[tokio::test]
async fn gemini_streams_a_list_to_those_who_do_not_ask_for_events() {
    let bench = Bench::new().await;
    let body = (Api::of("gemini").body)();
    let heard = bench.post("/v1beta/models/m:streamGenerateContent", &body).await;
    assert!(heard.head.contains("content-type: application/json"), "{}", heard.head);
    let list: Vec<Value> = serde_json::from_slice(&unchunked(&heard.wire)).expect("a list");
    let whole = Api::of("gemini").ask(&bench, "m", json!({})).await.json();
    assert_eq!(json!(Api::of("gemini").said(&list)), whole["candidates"][0]["content"]["parts"][0]["text"]);
}

/// How each API says a call, and how its result is told.
#[tokio::test]
async fn every_api_calls_a_tool_with_its_thoughts_and_takes_the_result() {
    let bench = Bench::new().await;
    let turn = |role: &str, content: Value| json!({ "role": role, "content": content });
    for api in &APIS {
        let more = with(tools(api.name), thinking(api.name));
        let answer = api.ask(&bench, "gemini-3-x", more.clone()).await.json();
        let (said, call, back) = match api.name {
            "anthropic" => {
                let result = json!({ "type": "tool_result", "tool_use_id": answer["content"][1]["id"], "content": "42 degrees" });
                (
                    turn("assistant", answer["content"].clone()),
                    &answer["content"][1]["input"],
                    turn("user", json!([result])),
                )
            }
            "gemini" => {
                let content = &answer["candidates"][0]["content"];
                let result = json!({ "functionResponse": { "name": "f", "response": { "result": "42 degrees" } } });
                let call = &content["parts"][1]["functionCall"];
                assert!(call["id"].is_string() && content["parts"][1]["thoughtSignature"].is_string(), "{content}");
                (content.clone(), &call["args"], json!({ "role": "user", "parts": [result] }))
            }
            "bedrock" => {
                let message = &answer["output"]["message"];
                let call = &message["content"][1]["toolUse"];
                let result = json!({ "toolUseId": call["toolUseId"], "content": [{ "text": "42 degrees" }] });
                (message.clone(), &call["input"], turn("user", json!([{ "toolResult": result }])))
            }
            _ => {
                let call = &answer["message"]["tool_calls"][0];
                assert_eq!(call["function"]["arguments"], "{\"n\":1}");
                let mut back = turn("tool", json!("42 degrees"));
                back["tool_call_id"] = call["id"].clone();
                (answer["message"].clone(), &Value::Null, back)
            }
        };
        assert!(call.is_null() || *call == json!({ "n": 1 }), "{}: {answer}", api.name);
        let field = if api.name == "gemini" { "contents" } else { "messages" };
        let mut all = (api.body)()[field].clone();
        all.as_array_mut().expect("a list").extend([said.clone(), back.clone()]);
        let heard = api.ask(&bench, "gemini-3-x", with(more.clone(), json!({ field: all }))).await;
        assert_eq!(heard.status, 200, "{}: {}", api.name, String::from_utf8_lossy(&heard.wire));
        let text = String::from_utf8_lossy(&heard.wire).into_owned();
        assert!(text.contains("42 degrees"), "{}: {text}", api.name);
        // a result without its call, and a call without its result
        let mut torn = (api.body)()[field].clone();
        torn.as_array_mut().expect("a list").push(if api.name == "bedrock" { said.clone() } else { back });
        let heard = api.ask(&bench, "m", with(more.clone(), json!({ field: torn }))).await;
        assert_eq!(heard.status, 400, "{}: {}", api.name, String::from_utf8_lossy(&heard.wire));
    }
}

#[tokio::test]
async fn thoughts_must_come_back_as_they_were_given() {
    let bench = Bench::new().await;
    let api = Api::of("anthropic");
    let more = with(tools("anthropic"), thinking("anthropic"));
    let mut content = api.ask(&bench, "m", more.clone()).await.json()["content"].clone();
    let result = json!([{ "type": "tool_result", "tool_use_id": content[1]["id"], "content": "42" }]);
    let ask = async |content: &Value| {
        let messages = json!([
            { "role": "user", "content": PROMPT },
            { "role": "assistant", "content": content },
            { "role": "user", "content": result }
        ]);
        let heard = api.ask(&bench, "m", with(more.clone(), json!({ "messages": messages }))).await;
        (heard.status, String::from_utf8_lossy(&heard.wire).into_owned())
    };
    assert_eq!(ask(&content).await.0, 200);
    let (status, text) = ask(&json!([content[1]])).await;
    assert!(status == 400 && text.contains("Expected `thinking` or `redacted_thinking`"), "{text}");
    content[0]["thinking"] = json!("something else");
    let (status, text) = ask(&content).await;
    assert!(status == 400 && text.contains("Invalid `signature`"), "{text}");
    // Gemini's third wants the signature of a call back
    let call = json!({ "role": "model", "parts": [{ "functionCall": { "name": "f", "args": {} } }] });
    let result = json!({ "role": "user", "parts": [{ "functionResponse": { "name": "f", "response": {} } }] });
    let contents = json!([{ "role": "user", "parts": [{ "text": PROMPT }] }, call, result]);
    let gemini = Api::of("gemini");
    assert_eq!(gemini.ask(&bench, "gemini-2.5-flash", json!({ "contents": contents })).await.status, 200);
    assert_eq!(gemini.ask(&bench, "gemini-3-pro", json!({ "contents": contents })).await.status, 400);
}

#[tokio::test]
async fn every_api_answers_in_a_schema_and_counts_what_a_cache_held() {
    let bench = Bench::new().await;
    let schema = json!({
        "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"], "additionalProperties": false
    });
    let marked = |text: &str| json!({ "type": "text", "text": text, "cache_control": { "type": "ephemeral" } });
    let table = [
        (
            "anthropic",
            json!({ "output_config": { "format": { "type": "json_schema", "schema": schema } }, "system": [marked("Be brief")] }),
            "/cache_read_input_tokens",
        ),
        (
            "gemini",
            json!({
                "generationConfig": { "responseMimeType": "application/json", "responseJsonSchema": schema },
                "cachedContent": "cachedContents/x"
            }),
            "/cachedContentTokenCount",
        ),
        (
            "bedrock",
            json!({
                "outputConfig": { "textFormat": {
                    "type": "json_schema", "structure": { "jsonSchema": { "schema": schema.to_string() } }
                } },
                "system": [{ "text": "Be brief" }, { "cachePoint": { "type": "default" } }]
            }),
            "/cacheReadInputTokens",
        ),
        ("cohere", json!({ "response_format": { "type": "json_object", "json_schema": schema } }), ""),
    ];
    for (name, more, cached) in table {
        let api = Api::of(name);
        let answer = api.ask(&bench, "m", more).await.json();
        assert_eq!((api.text)(&answer), Some(&json!("{\"n\":1}")), "{answer}");
        let usage = (api.usage)(&answer).expect("usage");
        assert!(cached.is_empty() || usage.pointer(cached).and_then(Value::as_u64) > Some(0), "{usage}");
    }
}

#[tokio::test]
async fn every_misbehaving_model_misbehaves_in_the_words_of_its_api() {
    let bench = Bench::new().await;
    let table = [
        ("anthropic", "sim-429", 429, "rate_limit_error"),
        ("anthropic", "sim-503", 529, "overloaded_error"),
        ("anthropic", "sim-500", 500, "api_error"),
        ("anthropic", "sim-404", 404, "not_found_error"),
        ("anthropic", "sim-context", 400, "invalid_request_error"),
        ("gemini", "sim-429", 429, "RESOURCE_EXHAUSTED"),
        ("gemini", "sim-503", 503, "UNAVAILABLE"),
        ("gemini", "sim-500", 500, "INTERNAL"),
        ("gemini", "sim-404", 404, "NOT_FOUND"),
        ("gemini", "sim-context", 400, "INVALID_ARGUMENT"),
        ("bedrock", "sim-429", 429, "Too many requests, please wait before trying again."),
        ("bedrock", "sim-404", 400, "The provided model identifier is invalid."),
        ("cohere", "sim-400", 400, "invalid request: temperature must be between 0 and 1.0 inclusive."),
    ];
    for (name, model, status, words) in table {
        let api = Api::of(name);
        for stream in [false, true] {
            let heard = api.ask(&bench, model, json!({ "stream": stream })).await;
            let answer = heard.json();
            assert_eq!(
                (heard.status, (api.refusal)(&answer)),
                (status, Some(&json!(words))),
                "{name} {model}: {answer}"
            );
            if name == "bedrock" {
                assert!(heard.head.contains("x-amzn-errortype: "), "{}", heard.head);
            }
            if (name, model) == ("gemini", "sim-429") {
                assert_eq!(answer["error"]["details"][1]["retryDelay"], "1s");
            }
            if (name, model) == ("anthropic", "sim-429") {
                assert!(heard.head.contains("retry-after: 1\r\n"), "{}", heard.head);
            }
        }
    }
    for api in &APIS {
        let leak = api.ask_with(&bench, "sim-401", json!({}), "authorization: Bearer sk-leak\r\n").await;
        let text = String::from_utf8_lossy(&leak.wire).into_owned();
        assert!(text.contains("sk-leak") && text.contains("sim.example"), "{}: {text}", api.name);
        assert_ne!(leak.status, 200);
        let silent = api.ask(&bench, "sim-no-usage", json!({})).await.json();
        assert_eq!((api.usage)(&silent), None, "{}", api.name);
        let statuses = [
            api.ask(&bench, "sim-flaky", json!({})).await.status,
            api.ask(&bench, "sim-flaky", json!({})).await.status,
        ];
        assert_eq!(statuses, [200, 500], "{}", api.name);
    }
}

#[tokio::test]
async fn a_stream_that_fails_says_so_in_the_words_of_its_api() {
    let bench = Bench::new().await;
    for (name, pointer, words) in [
        ("anthropic", "/error/type", "overloaded_error"),
        ("gemini", "/error/status", "UNAVAILABLE"),
        ("bedrock", "/:type", "serviceUnavailableException"),
        ("cohere", "/delta/finish_reason", "ERROR"),
    ] {
        let api = Api::of(name);
        let heard = api.ask(&bench, "sim-error-event", json!({ "stream": true })).await;
        let events = api.events(&heard);
        assert!(!api.said(&events).is_empty(), "{name} said something before");
        assert_eq!(events.last().and_then(|event| event.pointer(pointer)), Some(&json!(words)), "{name}");
        assert!(api.ask(&bench, "sim-error-event", json!({})).await.status >= 500, "{name}");
        let cut = api.ask(&bench, "sim-cut", json!({ "stream": true })).await;
        assert_eq!(cut.status, 200);
        assert!(!cut.wire.ends_with(b"0\r\n\r\n"), "{name}: no proper end");
    }
}

#[tokio::test]
async fn a_malformed_request_is_refused_by_its_api() {
    let bench = Bench::new().await;
    let table = [
        ("anthropic", json!({ "surprise": 1 }), "surprise: Extra inputs are not permitted"),
        ("anthropic", json!({ "max_tokens": null }), "max_tokens: Field required"),
        ("anthropic", json!({ "messages": [] }), "at least one message is required"),
        ("anthropic", json!({ "temperature": 1.5 }), "temperature: range: 0..1"),
        ("anthropic", json!({ "tool_choice": { "type": "auto" } }), "may only be specified while providing tools"),
        (
            "anthropic",
            json!({ "tools": [{ "name": "a b", "input_schema": { "type": "object" } }] }),
            "should match pattern",
        ),
        ("anthropic", json!({ "thinking": { "type": "enabled", "budget_tokens": 2000 } }), "must be greater than"),
        ("gemini", json!({ "surprise": 1 }), "Unknown name"),
        ("gemini", json!({ "contents": [] }), "contents is not specified"),
        (
            "gemini",
            json!({ "contents": [{ "role": "assistant", "parts": [{ "text": "x" }] }] }),
            "valid role: user, model",
        ),
        ("gemini", json!({ "contents": [{ "role": "user", "parts": [] }] }), "must not be empty"),
        ("gemini", json!({ "contents": [{ "role": "user", "parts": [{ "thought": true }] }] }), "oneof field 'data'"),
        ("gemini", json!({ "generationConfig": { "responseSchema": {} } }), "response_mime_type"),
        ("bedrock", json!({ "surprise": 1 }), "extraneous key [surprise]"),
        ("bedrock", json!({ "messages": [] }), "must start with a user message"),
        ("bedrock", json!({ "messages": [{ "role": "user", "content": [{ "text": "" }] }] }), "is blank"),
        ("bedrock", json!({ "inferenceConfig": { "topK": 1 } }), "extraneous key [topK]"),
        ("bedrock", json!({ "toolConfig": { "tools": [] } }), "at least one tool"),
        ("cohere", json!({ "surprise": 1 }), "unknown field"),
        ("cohere", json!({ "messages": [] }), "at least one message"),
        ("cohere", json!({ "messages": [{ "role": "developer", "content": "x" }] }), "invalid role"),
        ("cohere", json!({ "tool_choice": "AUTO" }), "tool_choice must be one of"),
    ];
    for (name, more, words) in table {
        let api = Api::of(name);
        let heard = api.ask(&bench, "m", more.clone()).await;
        let answer = heard.json();
        let text = answer.to_string();
        assert!((400..=422).contains(&heard.status) && text.contains(words), "{name} {more}: {} {text}", heard.status);
        assert!((api.refusal)(&answer).is_some(), "{name}: {text}");
    }
    let beta = "anthropic-beta: something-2026\r\n";
    assert_eq!(Api::of("anthropic").ask_with(&bench, "m", json!({ "surprise": 1 }), beta).await.status, 200);
}

#[tokio::test]
async fn every_api_takes_its_own_kind_of_key() {
    let bench = Bench::with(Options { api_key: Some("k".to_owned()), ..Options::default() }).await;
    let signed =
        "authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/bedrock/aws4_request, Signature=0\r\n";
    for (name, good, bad) in [
        ("anthropic", "x-api-key: k\r\n", "x-goog-api-key: k\r\n"),
        ("gemini", "x-goog-api-key: k\r\n", "x-api-key: k\r\n"),
        ("bedrock", signed, "x-api-key: k\r\n"),
        ("cohere", "authorization: Bearer k\r\n", signed),
    ] {
        let api = Api::of(name);
        assert_eq!(api.ask_with(&bench, "m", json!({}), good).await.status, 200, "{name}");
        assert_eq!(api.ask_with(&bench, "m", json!({}), "authorization: Bearer k\r\n").await.status, 200, "{name}");
        for wrong in [bad, "", "authorization: Bearer no\r\n"] {
            let heard = api.ask_with(&bench, "m", json!({}), wrong).await;
            assert!([400, 401, 403].contains(&heard.status), "{name} {wrong}: {}", heard.status);
            assert!((api.refusal)(&heard.json()).is_some(), "{name}");
        }
    }
}

#[tokio::test]
async fn tokens_are_counted_and_texts_embedded() {
    let bench = Bench::new().await;
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": PROMPT }] });
    let counted = bench.post("/v1/messages/count_tokens", &body).await.json();
    let whole = Api::of("anthropic").ask(&bench, "m", json!({})).await.json();
    assert_eq!(counted["input_tokens"], whole["usage"]["input_tokens"]);
    let body = (Api::of("gemini").body)();
    let counted = bench.post("/v1beta/models/m:countTokens", &body).await.json();
    let whole = Api::of("gemini").ask(&bench, "m", json!({})).await.json();
    assert_eq!(counted["totalTokens"], whole["usageMetadata"]["promptTokenCount"]);
    let body = json!({ "input": { "converse": (Api::of("bedrock").body)() } });
    let counted = bench.post("/model/m/count-tokens", &body).await.json();
    let whole = Api::of("bedrock").ask(&bench, "m", json!({})).await.json();
    assert_eq!(counted["inputTokens"], whole["usage"]["inputTokens"]);

    let one = json!({ "content": { "parts": [{ "text": "one two" }] }, "outputDimensionality": 8 });
    let single = bench.post("/v1beta/models/m:embedContent", &one).await.json();
    let batch = bench.post("/v1beta/models/m:batchEmbedContents", &json!({ "requests": [one] })).await.json();
    assert_eq!(single["embedding"]["values"].as_array().map(Vec::len), Some(8));
    assert_eq!(batch["embeddings"][0], single["embedding"]);
}

#[tokio::test]
async fn a_script_wins_over_every_api() {
    let bench = Bench::new().await;
    for api in &APIS {
        bench.simulator.reply("scripted", Reply::whole(StatusCode::OK, "text/plain", "mine"));
        assert_eq!(api.ask(&bench, "scripted", json!({})).await.wire, b"mine", "{}", api.name);
        bench.simulator.replies("scripted", []);
    }
    bench.simulator.replies_at("/v1/messages", [Reply::new(StatusCode::NO_CONTENT)]);
    assert_eq!(Api::of("anthropic").ask(&bench, "m", json!({})).await.status, 204);
}
