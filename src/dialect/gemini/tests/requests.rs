//! Recorded requests: read, and written as they were.

use serde_json::{Map, Value, json};

use super::{exchanges, files, json, manners};
use crate::chat::Dialect;
use crate::dialect::codec::{Inbound, Outbound, To};
use crate::dialect::gemini::Gemini;
use crate::json::Node;

/// Names in their other spelling, where they are protobuf's own.
const SPELLINGS: [(&str, &str); 31] = [
    ("candidate_count", "candidateCount"),
    ("top_k", "topK"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
    ("response_logprobs", "responseLogprobs"),
    ("response_modalities", "responseModalities"),
    ("service_tier", "serviceTier"),
    ("inline_data", "inlineData"),
    ("mime_type", "mimeType"),
    ("file_data", "fileData"),
    ("file_uri", "fileUri"),
    ("function_call", "functionCall"),
    ("function_response", "functionResponse"),
    ("function_declarations", "functionDeclarations"),
    ("thought_signature", "thoughtSignature"),
    ("system_instruction", "systemInstruction"),
    ("generation_config", "generationConfig"),
    ("tool_config", "toolConfig"),
    ("function_calling_config", "functionCallingConfig"),
    ("allowed_function_names", "allowedFunctionNames"),
    ("response_mime_type", "responseMimeType"),
    ("response_schema", "responseSchema"),
    ("response_json_schema", "responseJsonSchema"),
    ("parameters_json_schema", "parametersJsonSchema"),
    ("max_output_tokens", "maxOutputTokens"),
    ("stop_sequences", "stopSequences"),
    ("thinking_config", "thinkingConfig"),
    ("include_thoughts", "includeThoughts"),
    ("thinking_budget", "thinkingBudget"),
    ("thinking_level", "thinkingLevel"),
    ("top_p", "topP"),
];

/// What a request says, without the liberties this codec takes on purpose: official spellings, `null` and empty objects left out,
/// `thought: false` and the role of the system instruction left out, schemas as JSON Schema, one tool an object, base64 in the standard
/// alphabet, levels in capitals, arguments of a call without any as an empty object.
fn meaning(value: &Value) -> Value {
    let Value::Object(members) = value else { return value.clone() };
    let mut out = Map::new();
    for (name, value) in members {
        let official =
            SPELLINGS.iter().find(|(other, _)| other == name).map_or(name.as_str(), |(_, official)| official);
        let value = match (official, value) {
            (_, Value::Null) => continue,
            ("thought", Value::Bool(false)) => continue,
            ("systemInstruction", Value::String(text)) => json!({ "parts": [{ "text": text }] }),
            ("systemInstruction", content) => {
                let mut content = meaning(content);
                content.as_object_mut().map(|members| members.remove("role"));
                content
            }
            ("contents", Value::Array(contents)) => contents.iter().map(content).collect(),
            ("contents", one) => Value::Array(vec![content(one)]),
            ("parts", Value::Array(parts)) => parts.iter().map(meaning).collect(),
            ("tools", Value::Array(tools)) => each_tool(tools),
            ("parameters", schema) => {
                out.insert("parametersJsonSchema".to_owned(), schema_meaning(schema));
                continue;
            }
            ("responseSchema", schema) => {
                out.insert("responseJsonSchema".to_owned(), schema_meaning(schema));
                continue;
            }
            ("data", Value::String(data)) => {
                Value::from(data.replace('-', "+").replace('_', "/").trim_end_matches('='))
            }
            ("thinkingLevel", Value::String(level)) => Value::from(level.to_ascii_uppercase()),
            ("generationConfig" | "toolConfig" | "functionCallingConfig" | "thinkingConfig", value) => {
                let value = meaning(value);
                if value == json!({}) {
                    continue;
                }
                value
            }
            ("functionCall", call) => {
                let mut call = meaning(call);
                call.as_object_mut().map(|members| members.entry("args").or_insert(json!({})));
                call
            }
            // blocks of the provider's own tools are carried as they are; arguments and schemas are not protobuf's
            ("functionResponse" | "inlineData" | "fileData" | "functionDeclarations", value) => meaning(value),
            (_, value) => value.clone(),
        };
        out.insert(official.to_owned(), value);
    }
    Value::Object(out)
}

fn content(value: &Value) -> Value {
    let mut value = meaning(value);
    let role = value["role"].as_str().filter(|role| *role != "function").unwrap_or("user").to_owned();
    value["role"] = Value::from(role);
    value
}

fn each_tool(tools: &[Value]) -> Value {
    let mut all = Vec::new();
    for (name, value) in tools.iter().filter_map(Value::as_object).flatten() {
        let name = SPELLINGS.iter().find(|(other, _)| other == name).map_or(name.as_str(), |(_, official)| official);
        match value {
            Value::Array(declarations) if name == "functionDeclarations" => {
                all.extend(declarations.iter().map(meaning))
            }
            Value::Null => {}
            value => all.push(json!({ name: value })),
        }
    }
    all.sort_by_key(Value::to_string);
    Value::Array(all)
}

fn schema_meaning(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| match value {
                Value::String(word) if name == "type" => (name.clone(), Value::from(word.to_ascii_lowercase())),
                value => (name.clone(), schema_meaning(value)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(schema_meaning).collect(),
        other => other.clone(),
    }
}

/// There and back; what is lost or different on the way.
fn round(body: &Value, model: &str, vertex: bool) -> Result<(), String> {
    let text = body.to_string();
    let node = Node::parse(text.as_bytes()).map_err(|e| e.to_string())?;
    let request = Gemini.decode_request(node).map_err(|e| format!("{e:?}"))?;
    assert_eq!(request.dialect, Dialect::Gemini);
    let encoded = Gemini.encode_request(&request, &To { model, manners: &manners(vertex) });
    if !encoded.losses.is_empty() {
        return Err(format!("losses: {:?}", encoded.losses));
    }
    let (before, after) = (meaning(body), meaning(&json(&encoded.body)));
    if before != after {
        return Err(format!("before: {before}\n after: {after}"));
    }
    Ok(())
}

#[test]
fn every_recorded_request_is_written_as_it_was_read() {
    let mut rounds = 0;
    for exchange in exchanges("gemini.") {
        let Some(body) = exchange.request.filter(|_| exchange.api.ends_with("enerateContent")) else { continue };
        if exchange.status == 400 && body["contents"][0]["role"] == "invalid_role" {
            // Google refuses it too
            continue;
        }
        round(&body, &exchange.model, exchange.vertex).unwrap_or_else(|e| panic!("{}: {e}", exchange.id));
        rounds += 1;
    }
    println!("{rounds} requests");
}

#[test]
fn what_other_gateways_write_is_read_and_written_alike() {
    let mut rounds = 0;
    for pair in files("translation_pairs") {
        let expected = &pair["expected"]["json"];
        if pair["upstream_api"] != "gemini.generateContent"
            || pair["kind"] != "request"
            || !expected["contents"].is_array()
        {
            continue;
        }
        let mut body = expected.clone();
        body.as_object_mut().map(|members| members.remove("url"));
        round(&body, "gemini-2.5-flash", false).unwrap_or_else(|e| panic!("{}: {e}", pair["id"]));
        rounds += 1;
    }
    println!("{rounds} requests");
}

#[test]
fn everything_the_api_knows_comes_back() {
    let body = json!({
        "contents": [
            { "role": "user", "parts": [
                { "fileData": { "fileUri": "gs://bucket/film.mp4", "mimeType": "video/mp4", "displayName": "film" },
                  "videoMetadata": { "startOffset": "1s", "fps": 0.5 }, "mediaResolution": { "level": "MEDIA_RESOLUTION_LOW" } },
                { "fileData": { "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc" },
                  "mediaResolution": { "level": "MEDIA_RESOLUTION_ULTRA_HIGH" } },
                { "text": "x", "partMetadata": { "a": 1 } },
                { "somethingNew": { "a": [1, 2] }, "thoughtSignature": "c2ln" }
            ], "note": 1 },
            { "role": "model", "parts": [
                { "text": "thinking", "thought": true, "thoughtSignature": "c2ln" },
                { "text": "", "thoughtSignature": "c2ln" },
                { "executableCode": { "language": "PYTHON", "code": "1" } },
                { "codeExecutionResult": { "outcome": "OUTCOME_OK", "output": "1\n" } },
                { "functionCall": { "name": "f", "args": { "b": 1, "a": 1.50 }, "x": 1 }, "thoughtSignature": "c2ln" },
                { "functionCall": { "name": "f", "args": {}, "id": "id-2" } },
                { "inlineData": { "mimeType": "image/png", "data": "aGk=" }, "thought": true }
            ] },
            { "role": "user", "parts": [
                { "functionResponse": { "name": "f", "response": { "error": "no" }, "scheduling": "SILENT" } },
                { "functionResponse": { "name": "f", "id": "id-2", "response": { "result": "{\"a\":1}" }, "willContinue": false,
                  "parts": [{ "inlineData": { "mimeType": "image/png", "data": "aGk=", "displayName": "i.png" } }] } }
            ] }
        ],
        "systemInstruction": { "parts": [{ "text": "a" }, { "text": "b" }] },
        "tools": [
            { "functionDeclarations": [
                { "name": "f", "description": "", "parametersJsonSchema": { "type": "object", "$defs": {} }, "behavior": "NON_BLOCKING",
                  "responseJsonSchema": { "type": "string" } },
                { "name": "g" }
            ] },
            { "googleSearch": { "excludeDomains": ["a.example"], "timeRangeFilter": {} } },
            { "urlContext": {} }, { "googleMaps": { "enableWidget": true } }, { "fileSearch": { "file_search_store_names": ["s"] } },
            { "computerUse": { "environment": "ENVIRONMENT_BROWSER" } }, { "googleSearchRetrieval": { "dynamicRetrievalConfig": {} } }
        ],
        "toolConfig": {
            "functionCallingConfig": { "mode": "VALIDATED", "streamFunctionCallArguments": false },
            "retrievalConfig": { "latLng": { "latitude": 1.5 } }, "includeServerSideToolInvocations": true
        },
        "generationConfig": {
            "temperature": 0.70, "topP": 0.9, "topK": 40, "candidateCount": 2, "maxOutputTokens": 100, "stopSequences": ["a"], "seed": 1,
            "presencePenalty": -1.5, "frequencyPenalty": 1, "responseLogprobs": true, "logprobs": 3,
            "responseMimeType": "application/json", "responseJsonSchema": { "type": "object" }, "responseModalities": ["TEXT", "IMAGE"],
            "thinkingConfig": { "thinkingBudget": -1, "includeThoughts": true, "more": 1 },
            "speechConfig": { "voiceConfig": {} }, "imageConfig": { "aspectRatio": "1:1" }, "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "audioTimestamp": true, "enableAffectiveDialog": false
        },
        "safetySettings": [{ "category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF" }],
        "cachedContent": "cachedContents/x", "labels": { "team": "a b" }, "serviceTier": "flex"
    });
    round(&body, "gemini-2.5-flash", false).unwrap();
}

#[test]
fn choices_of_tools_come_back() {
    for calling in [
        json!({ "mode": "AUTO" }),
        json!({ "mode": "NONE" }),
        json!({ "mode": "ANY" }),
        json!({ "mode": "ANY", "allowedFunctionNames": ["f"] }),
        json!({ "mode": "ANY", "allowedFunctionNames": ["f", "g"] }),
        json!({ "mode": "VALIDATED" }),
        json!({ "mode": "VALIDATED", "allowedFunctionNames": ["f"] }),
        json!({ "mode": "SOMETHING_NEW" }),
        json!({ "streamFunctionCallArguments": true }),
    ] {
        let body =
            json!({ "contents": [{ "parts": [{ "text": "x" }] }], "toolConfig": { "functionCallingConfig": calling } });
        round(&body, "gemini-3-pro-preview", true).unwrap();
    }
}

#[test]
fn levels_enums_and_formats_come_back() {
    for config in [
        json!({ "thinkingConfig": { "thinkingBudget": 0 } }),
        json!({ "thinkingConfig": { "thinkingLevel": "low", "includeThoughts": false } }),
        json!({ "responseMimeType": "text/x.enum", "responseSchema": { "type": "STRING", "enum": ["a", "b"] } }),
        json!({ "responseMimeType": "text/plain" }),
        json!({ "responseMimeType": "application/json" }),
        json!({ "responseFormat": [{ "text": { "mimeType": "APPLICATION_JSON" } }] }),
    ] {
        let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": "x" }] }], "generationConfig": config });
        round(&body, "gemini-2.5-flash", false).unwrap();
    }
}

#[test]
fn what_cannot_be_a_request_is_refused() {
    for body in [
        "[]",
        "{}",
        r#"{"contents":[{"role":"assistant","parts":[]}]}"#,
        r#"{"contents":[{"parts":[{"functionCall":{"args":[]}}]}]}"#,
        r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png"}}]}]}"#,
        r#"{"contents":[],"tools":[{"functionDeclarations":[{"description":"x"}]}]}"#,
        r#"{"contents":[],"generationConfig":{"maxOutputTokens":"many"}}"#,
    ] {
        assert!(Gemini.decode_request(Node::parse(body.as_bytes()).unwrap()).is_err(), "{body}");
    }
}

#[test]
fn many_calls_are_paired_in_little_time() {
    let calls: Vec<Value> =
        (0..20_000).map(|n| json!({ "functionCall": { "name": "f", "id": format!("id-{n}") } })).collect();
    let results: Vec<Value> = (0..20_000)
        .rev()
        .map(|n| json!({ "functionResponse": { "name": "f", "id": format!("id-{n}"), "response": {} } }))
        .collect();
    let body = json!({ "contents": [{ "role": "model", "parts": calls }, { "parts": results }] }).to_string();
    let request = Gemini.decode_request(Node::parse(body.as_bytes()).unwrap()).unwrap();
    assert_eq!(request.turns[1].blocks.len(), 20_000);
}

proptest::proptest! {
    #[test]
    fn whatever_is_read_can_be_written(
        part in "(\"text\":\"a\"|\"inlineData\":\\{\"data\":\"a_\"\\}|\"functionCall\":\\{\"name\":\"f\"(,\"id\":\"i\"|,\"x\":1)?\\}|\"functionResponse\":\\{\"name\":\"f\"(,\"response\":\\{\"(result|error|x)\":(1|\"a\"|\"\\{\\}\")\\})?\\}|\"fileData\":\\{\"fileUri\":\"data:a;base64,b\"\\}|\"x\":\\{\\}|\"toolCall\":\\{\\})(,\"thought\":(true|false))?(,\"thoughtSignature\":\"s\")?(,\"y\":2)?",
        role in "user|model",
        config in "(\"topK\":\"4\"|\"thinkingConfig\":\\{\"thinkingBudget\":(-1|0|5)\\}|\"a\\.b\":1|\"stopSequences\":\"x\")?",
        dialect in 0usize..6,
        model in "gemini-(3|2\\.5|2\\.0)-(pro|flash)",
    ) {
        let body = format!("{{\"contents\":[{{\"role\":\"{role}\",\"parts\":[{{{part}}},{{{part}}}]}}],\"generationConfig\":{{{config}}},\"a.b\":1}}");
        let mut request = Gemini.decode_request(Node::parse(body.as_bytes()).unwrap()).unwrap();
        request.dialect = Dialect::ALL[dialect];
        let encoded = Gemini.encode_request(&request, &To { model: &model, manners: &manners(false) });
        let again = json(&encoded.body);
        proptest::prop_assert!(again["contents"].is_array());
        if request.dialect == Dialect::Gemini {
            proptest::prop_assert_eq!(&again["a.b"], &json!(1));
            if config.contains("a.b") {
                proptest::prop_assert_eq!(&again["generationConfig"]["a.b"], &json!(1));
            }
            proptest::prop_assert!(encoded.losses.is_empty());
        }
    }
}
