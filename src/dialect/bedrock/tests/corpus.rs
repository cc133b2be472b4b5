//! Recorded traffic: every answer is read, every request can be written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{booked, encode, items, model_of, reader};
use crate::chat::{Block, Dialect, Event, Fold, Response, StopReason};
use crate::dialect::bedrock::Bedrock;
use crate::dialect::codec::{Origin, Outbound};
use crate::dialect::frame::{Cutter, Framing};
use crate::error::Refused;
use crate::json::Node;

/// Folds a stream given in pieces; a fault of the order is a failure.
pub fn fold(pieces: &[&[u8]], model: &str) -> Response<'static> {
    let mut cutter = Cutter::new(Framing::EventStream);
    let mut decoder = Bedrock.stream_decoder(&Origin { model });
    let mut fold = Fold::new(Dialect::Bedrock);
    let mut see = |frame: crate::dialect::Frame<'_>| {
        let mut events = Vec::new();
        decoder.push(frame, &mut events)?;
        events.into_iter().for_each(|event| fold.push(event));
        Ok(())
    };
    for piece in pieces {
        cutter.push(Bytes::copy_from_slice(piece), &mut see).unwrap();
    }
    cutter.finish(&mut see).unwrap();
    let mut events: Vec<Event<'static>> = Vec::new();
    decoder.finish(&mut events).unwrap();
    events.into_iter().for_each(|event| fold.push(event));
    assert!(fold.faults.is_empty() && fold.error.is_none(), "{:?} {:?}", fold.faults, fold.error);
    assert!(fold.ended);
    fold.finish()
}

fn kinds(response: &Response<'_>) -> Vec<&'static str> {
    response.choices[0]
        .blocks
        .iter()
        .map(|block| match block {
            Block::Text(text) if text.citations.is_empty() => "text",
            Block::Text(_) => "cited",
            Block::Thinking(thinking) if thinking.seal.is_some() => "sealed",
            Block::Thinking(_) => "thinking",
            Block::ToolCall(_) => "call",
            Block::ServerCall(_) => "server call",
            Block::ServerResult(_) => "server result",
            Block::Media(_) | Block::ToolResult(_) | Block::Refusal(_) | Block::Native(_) => "other",
        })
        .collect()
}

fn text(response: &Response<'_>) -> String {
    let text = |block: &Block<'_>| match block {
        Block::Text(text) => text.text.to_string(),
        _ => String::new(),
    };
    response.choices[0].blocks.iter().map(text).collect()
}

#[test]
fn every_recorded_answer_is_read() {
    let (mut answers, mut errors) = (0, 0);
    for (id, item) in items("exchanges", "bedrock.converse-0") {
        let body = item["response"]["body_json"].to_string();
        let status = item["response"]["status"].as_u64().unwrap() as u16;
        if status >= 400 {
            errors += 1;
            let refusal = Bedrock.decode_error(status, body.as_bytes());
            assert_eq!(refusal.message, item["response"]["body_json"]["message"].as_str().unwrap(), "{id}");
            let reason = if status == 403 { Refused::Auth } else { Refused::BadRequest };
            assert_eq!(refusal.reason, reason, "{id}");
            continue;
        }
        answers += 1;
        let model = model_of(&item);
        let node = Node::parse_reply(body.as_bytes()).unwrap();
        let response = Bedrock.decode_response(node, &Origin { model: &model }).expect(&id);
        let kinds = kinds(&response);
        assert!(!kinds.is_empty() && !kinds.contains(&"other"), "{id} {kinds:?}");
        let called = kinds.contains(&"call");
        let stop = &response.choices[0].stop.as_ref().unwrap().reason;
        assert_eq!(*stop == StopReason::ToolUse, called, "{id}");
        assert!(!matches!(stop, StopReason::Other(_)), "{id}");
        let usage = response.usage.unwrap();
        let total = item["response"]["body_json"]["usage"]["totalTokens"].as_u64().unwrap();
        assert_eq!(usage.input.0 + usage.output.0, total, "{id}");
        let recorded = item["response"]["body_json"]["output"]["message"]["content"].as_array().unwrap();
        let recorded: String = recorded
            .iter()
            .map(|b| b["text"].as_str().or(b["citationsContent"]["content"][0]["text"].as_str()).unwrap_or_default())
            .collect();
        assert_eq!(text(&response), recorded, "{id}");
    }
    println!("{answers} answers and {errors} errors read");
}

#[test]
fn every_recorded_stream_is_read_however_it_is_split() {
    let mut streams = 0;
    for (id, item) in items("exchanges", "bedrock.converse-stream-") {
        streams += 1;
        let bytes = STANDARD.decode(item["response"]["body_base64"].as_str().unwrap()).unwrap();
        let model = model_of(&item);
        let whole = fold(&[&bytes], &model);
        for size in [1, 7, 100, 1_000] {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(fold(&pieces, &model), whole, "{id} {size}");
        }
        let events = item["response"]["decoded_events"].as_array().unwrap();
        let recorded: String = events.iter().filter_map(|event| event["payload"]["delta"]["text"].as_str()).collect();
        assert_eq!(text(&whole), recorded, "{id}");
        let total = events.last().unwrap()["payload"]["usage"]["totalTokens"].as_u64().unwrap();
        let usage = whole.usage.unwrap();
        assert_eq!(usage.input.0 + usage.output.0, total, "{id}");
        let kinds = kinds(&whole);
        assert!(!kinds.is_empty() && !kinds.contains(&"other"), "{id} {kinds:?}");
        for block in &whole.choices[0].blocks {
            if let Block::ToolCall(call) = block {
                assert!(serde_json::from_str::<Value>(&call.arguments).unwrap().is_object(), "{id}");
            }
        }
        assert!(whole.extra.get("metrics").is_none(), "{id}");
    }
    println!("{streams} streams read");
}

#[test]
fn frames_are_those_that_were_recorded() {
    for (id, item) in items("exchanges", "bedrock.converse-stream-") {
        let bytes = STANDARD.decode(item["response"]["body_base64"].as_str().unwrap()).unwrap();
        let mut frames = Vec::new();
        let mut cutter = Cutter::new(Framing::EventStream);
        let see = |frame: crate::dialect::Frame<'_>| {
            let payload: Value = serde_json::from_slice(frame.data).unwrap();
            frames.push(json!({ "event": frame.name, "payload": payload }));
            Ok(())
        };
        cutter.push(Bytes::from(bytes), see).unwrap();
        assert_eq!(&frames, item["response"]["decoded_events"].as_array().unwrap(), "{id}");
    }
}

/// What encoding changes on purpose: empty members are left out, neighbours of one role are one message, a document's name keeps to the
/// documented alphabet, a plain text that may not be cited goes as bytes.
fn normal(mut body: Value) -> Value {
    strip_nulls(&mut body);
    let members = body.as_object_mut().unwrap();
    members.retain(|name, value| match name.as_str() {
        "inferenceConfig" | "additionalModelRequestFields" => value.as_object().is_some_and(|o| !o.is_empty()),
        "system" => value.as_array().is_some_and(|a| !a.is_empty()),
        "additionalModelResponseFieldPaths" => false,
        _ => true,
    });
    if let Some(config) = members.get_mut("inferenceConfig").and_then(Value::as_object_mut) {
        config.retain(|name, value| name != "stopSequences" || value.as_array().is_some_and(|a| !a.is_empty()));
    }
    let mut merged: Vec<Value> = Vec::new();
    for message in members["messages"].as_array().unwrap() {
        match merged.last_mut() {
            Some(last) if last["role"] == message["role"] => {
                let more = message["content"].as_array().unwrap().clone();
                last["content"].as_array_mut().unwrap().extend(more);
            }
            _ => merged.push(message.clone()),
        }
    }
    for block in merged.iter_mut().flat_map(|message| message["content"].as_array_mut().unwrap()) {
        if let Some(name) = block.pointer_mut("/document/name") {
            *name = name.as_str().unwrap().replace('_', "-").into();
        }
    }
    members.insert("messages".to_owned(), merged.into());
    body
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[test]
fn every_recorded_request_can_be_written_again() {
    let mut requests = 0;
    for (id, item) in items("exchanges", "bedrock.converse-") {
        let Some(recorded) = item["request"].get("body") else { continue };
        requests += 1;
        let model = model_of(&item);
        let request = reader::request(recorded, &model);
        let (body, losses) = encode(&request, &model);
        assert_eq!(normal(body), normal(recorded.clone()), "{id}");
        let booked = booked(&losses);
        let expected: &[&str] = match id.as_str() {
            // `company_policy`
            "bedrock.converse-039-f28f9a" | "bedrock.converse-stream-022-eb2896" => &["changed name"],
            _ => &[],
        };
        assert_eq!(booked, expected, "{id}");
    }
    println!("{requests} requests written again");
}

/// Where another gateway's golden body is not what we write, and why.
fn intended(id: &str) -> Option<&'static str> {
    Some(match id {
        id if id.starts_with("envoy-openai_awsbedrock-006") => "`inputSchema` without `json` is no schema",
        id if id.starts_with("envoy-openai_awsbedrock-007") => "as above",
        id if id.starts_with("envoy-openai_awsbedrock-008") => "as above",
        id if id.starts_with("envoy-openai_awsbedrock-012") => "calls in the history need a tool configuration",
        id if id.starts_with("envoy-openai_awsbedrock-016") => "as above; and its signature is nobody's",
        id if id.starts_with("envoy-openai_awsbedrock-021") => "the first message must be the user's",
        id if id.starts_with("litellm-bedrock-openai.chat-042") => "`serviceTier` is no member of `inferenceConfig`",
        id if id.starts_with("agw-3550325c") => "a stop of white space is refused by Claude",
        _ => return None,
    })
}

#[test]
fn other_gateways_bodies_are_what_we_would_write() {
    let mut pairs = 0;
    for (id, item) in items("translation_pairs", "") {
        let ours = item["upstream_api"].as_str().is_some_and(|api| api.starts_with("bedrock.converse"));
        if !ours || item["kind"] != "request" {
            continue;
        }
        pairs += 1;
        let expected = &item["expected"]["json"];
        let request = reader::request(expected, super::CLAUDE);
        let (body, _) = encode(&request, super::CLAUDE);
        if intended(&id).is_some() {
            assert_ne!(normal(body), normal(expected.clone()), "{id} is no longer different");
        } else {
            assert_eq!(normal(body), normal(expected.clone()), "{id}");
        }
    }
    println!("{pairs} bodies of other gateways compared");
}
