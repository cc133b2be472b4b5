//! Every recorded exchange of this dialect. Skipped, in one line, where the corpus is not there.

use std::path::PathBuf;

use base64::Engine;
use serde_json::{Value, json};

use super::{Anthropic, encoded, reply_to};
use crate::chat::{Block, Dialect, Fold, Losses, Response};
use crate::dialect::sse::{Event, Frames};
use crate::dialect::{Frame, Inbound, Manners, Origin, Outbound, StreamDecoder, To};
use crate::error::Refused;
use crate::json::Node;

fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus");
    let folder = PathBuf::from(std::env::var("TOLLGATE_CORPUS").unwrap_or_else(|_| beside.to_owned()));
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no corpus at {}", folder.display());
    None
}

fn items(kind: &str) -> Vec<(String, Value)> {
    let Some(folder) = folder() else { return Vec::new() };
    let mut items: Vec<(String, Value)> = std::fs::read_dir(folder.join(kind))
        .unwrap()
        .map(|file| {
            let item: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
            (item["id"].as_str().unwrap().to_owned(), item)
        })
        .collect();
    items.sort_by(|a, b| a.0.cmp(&b.0));
    items
}

/// Exchanges whose bodies are of this dialect, also where another API carries them.
fn exchanges() -> Vec<(String, Value)> {
    items("exchanges")
        .into_iter()
        .filter(|(_, item)| match item["api"].as_str().unwrap() {
            "anthropic.messages" | "vertex.anthropic-rawPredict" => true,
            "bedrock.invoke" | "bedrock.invoke-stream" => item["request"]["body"]["anthropic_version"].is_string(),
            _ => false,
        })
        .collect()
}

/// What two spellings of one request have in common: no `null`, one text as a string, no member that says its default.
fn same(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(same),
        Value::Object(members) => {
            if let Some(format) = members.remove("output_format") {
                members.entry("output_config").or_insert(json!({}))["format"] = format;
            }
            members.retain(|name, value| {
                !(value.is_null()
                    || (name == "stream" && value == false)
                    || (name == "caller" && *value == json!({"type": "direct"}))
                    || (name == "type" && value == "custom")
                    || (name == "anthropic_version")
                    || (name == "content" && (*value == json!([]) || value == "")))
            });
            for (name, value) in members.iter_mut() {
                same(value);
                if matches!(&**name, "content" | "system")
                    && let [one] = value.as_array().map(Vec::as_slice).unwrap_or_default()
                    && let Some(text) = one.as_object().filter(|o| o.len() == 2 && o["type"] == "text")
                {
                    *value = text["text"].clone();
                }
            }
        }
        _ => {}
    }
}

fn comparable(mut value: Value) -> Value {
    same(&mut value);
    value
}

#[test]
fn every_recorded_request_is_written_again_as_it_was() {
    let mut walked = 0;
    // a request to count is one without `max_tokens`
    let counts = items("exchanges").into_iter().filter(|(_, item)| item["api"] == "anthropic.count_tokens");
    for (id, item) in exchanges().into_iter().chain(counts) {
        let Some(body) = item["request"].get("body").filter(|body| body.is_object()) else { continue };
        let text = body.to_string();
        let request =
            Anthropic.decode_request(Node::parse(text.as_bytes()).unwrap()).unwrap_or_else(|e| panic!("{id}: {e:?}"));
        let version = body["anthropic_version"].as_str().map(Box::from);
        let manners = Manners { anthropic_version: version, ..Manners::default() };
        let again = Anthropic.encode_request(&request, &To { model: &request.model, manners: &manners });
        assert_eq!(again.losses, Losses::default(), "{id}");
        let mut again: Value = serde_json::from_slice(&again.body).unwrap();
        if body.get("max_tokens").is_none() {
            assert!(again.as_object_mut().unwrap().remove("max_tokens").is_some());
        }
        assert_eq!(again.get("anthropic_version"), body.get("anthropic_version"), "{id}");
        assert_eq!(comparable(again), comparable(body.clone()), "{id}");
        walked += 1;
    }
    println!("{walked} requests");
}

#[test]
fn requests_that_other_gateways_pass_through_are_the_same_here() {
    let mut walked = 0;
    for (id, item) in items("translation_pairs") {
        let inbound = item["inbound_api"] == "anthropic.messages" && item["kind"] == "request";
        // some pairs are only pieces of requests
        if !inbound || !item["input"]["json"]["messages"].is_array() {
            continue;
        }
        let text = item["input"]["json"].to_string();
        let request = Anthropic.decode_request(Node::parse(text.as_bytes()).unwrap());
        let request = request.unwrap_or_else(|e| panic!("{id}: {e:?}"));
        if item["upstream_api"] == "anthropic.messages" {
            let (again, losses) = encoded(&request, &request.model);
            assert_eq!(losses, Losses::default(), "{id}");
            assert_eq!(comparable(again), comparable(item["expected"]["json"].clone()), "{id}");
        }
        walked += 1;
    }
    println!("{walked} requests of pairs");
}

fn whole(item: &Value) -> Option<String> {
    let ok = item["response"]["status"] == 200;
    item["response"].get("body_json").filter(|body| ok && body["type"] == "message").map(Value::to_string)
}

/// What an answer says, without what only its own dialect or only a whole answer has.
fn said(response: &Response<'_>) -> Value {
    let choice = &response.choices[0];
    let blocks: Vec<Value> = choice
        .blocks
        .iter()
        .filter(|block| !matches!(block, Block::Text(text) if text.text.is_empty()))
        .map(|block| match block {
            Block::Text(text) => json!(["text", text.text, format!("{:?}", text.citations)]),
            Block::Thinking(t) => json!(["thinking", format!("{:?} {:?} {}", t.thoughts, t.seal, t.redacted)]),
            Block::ToolCall(call) => {
                json!(["call", call.id, call.name, serde_json::from_str::<Value>(&call.arguments).unwrap()])
            }
            Block::ServerCall(call) => json!(["server", call.id, call.name, native(&call.native)]),
            Block::ServerResult(result) => json!(["result", result.id, native(&result.native)]),
            Block::Native(block) => json!(["native", serde_json::from_str::<Value>(&block.json).unwrap()]),
            other => panic!("{other:?}"),
        })
        .collect();
    let stop = choice.stop.as_ref().map(|stop| format!("{:?} {:?}", stop.reason, stop.sequence));
    json!([response.id, response.model, blocks, stop, format!("{:?}", response.usage)])
}

fn native(native: &Option<(Dialect, std::borrow::Cow<'_, str>)>) -> Value {
    let (dialect, json) = native.as_ref().expect("a provider's block has its own words");
    assert_eq!(*dialect, Dialect::Anthropic);
    serde_json::from_str(json).unwrap()
}

#[test]
fn every_recorded_answer_is_read_and_written_again() {
    let mut walked = 0;
    let origin = Origin { model: "m" };
    for (id, item) in exchanges() {
        let Some(text) = whole(&item) else { continue };
        let response = Anthropic.decode_response(Node::parse_reply(text.as_bytes()).unwrap(), &origin);
        let response = response.unwrap_or_else(|e| panic!("{id}: {e:?}"));
        assert!(response.usage.is_some() && response.choices[0].stop.is_some(), "{id}");
        let again = Anthropic.encode_response(&response, &reply_to(true));
        assert_eq!(again.losses, Losses::default(), "{id}");
        let read = Anthropic.decode_response(Node::parse_reply(&again.body).unwrap(), &origin).unwrap();
        assert_eq!(said(&read), said(&response), "{id}");
        let (again, before): (Value, Value) =
            (serde_json::from_slice(&again.body).unwrap(), serde_json::from_str(&text).unwrap());
        assert_eq!(comparable(again["content"].clone()), comparable(before["content"].clone()), "{id}");
        for (name, value) in before.as_object().unwrap() {
            if !matches!(&**name, "content" | "usage") && !value.is_null() {
                assert_eq!(&again[name], value, "{id} {name}");
            }
        }
        for count in ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"] {
            assert_eq!(
                again["usage"][count].as_u64(),
                Some(before["usage"][count].as_u64().unwrap_or(0)),
                "{id} {count}"
            );
        }
        walked += 1;
    }
    println!("{walked} answers");
}

/// Frames of a recorded stream: server-sent events, or the chunks of AWS's event stream.
fn stream(item: &Value) -> Option<Vec<u8>> {
    let response = &item["response"];
    if response["status"] != 200 {
        return None;
    }
    if let Some(text) = response["body_text"].as_str() {
        return Some(text.as_bytes().to_vec());
    }
    let events = response["decoded_events"].as_array()?;
    let mut out = Vec::new();
    for event in events {
        let bytes = event["payload"]["bytes"].as_str()?;
        out.extend_from_slice(b"data: ");
        out.extend(base64::engine::general_purpose::STANDARD.decode(bytes).ok()?);
        out.extend_from_slice(b"\n\n");
    }
    Some(out)
}

fn streams() -> Vec<(String, Vec<u8>)> {
    exchanges().into_iter().filter_map(|(id, item)| Some((id, stream(&item)?))).collect()
}

/// Decode what comes in pieces, and hand every event on.
fn each_event(pieces: &[&[u8]], mut hand: impl FnMut(crate::chat::Event<'_>)) {
    let mut decoder = Anthropic.stream_decoder(&Origin { model: "m" });
    let mut frames = Frames::default();
    let mut read = |decoder: &mut Box<dyn StreamDecoder>, frame: &[u8]| {
        let event = Event::read(frame);
        let Some(data) = event.data.as_deref() else { return };
        let mut out = Vec::new();
        decoder.push(Frame { name: event.name, data, exception: false }, &mut out).unwrap();
        out.into_iter().for_each(&mut hand);
    };
    for piece in pieces {
        frames.push(bytes::Bytes::copy_from_slice(piece), |frame| read(&mut decoder, &frame)).unwrap();
    }
    read(&mut decoder, &frames.finish());
    let mut out = Vec::new();
    decoder.finish(&mut out).unwrap();
    out.into_iter().for_each(&mut hand);
}

fn fold(pieces: &[&[u8]]) -> Response<'static> {
    let mut fold = Fold::new(Dialect::Anthropic);
    each_event(pieces, |event| fold.push(event));
    assert_eq!(fold.faults, Vec::<String>::new());
    assert!(fold.ended && fold.error.is_none());
    fold.finish()
}

#[test]
fn every_recorded_stream_folds_to_one_answer_however_it_is_cut() {
    let mut walked = 0;
    for (id, bytes) in streams() {
        let whole = fold(&[&bytes]);
        assert!(whole.usage.is_some() && whole.choices[0].stop.is_some(), "{id}");
        // every byte alone, and cut in two at many places
        assert_eq!(fold(&bytes.chunks(1).collect::<Vec<_>>()), whole, "{id}");
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(200).max(1)) {
            let (front, back) = bytes.split_at(at);
            assert_eq!(fold(&[front, back]), whole, "{id} at {at}");
        }
        walked += 1;
    }
    println!("{walked} streams");
}

#[test]
fn every_recorded_stream_is_written_again() {
    for (id, bytes) in streams() {
        let mut encoder = Anthropic.stream_encoder(&reply_to(true));
        let mut out = Vec::new();
        each_event(&[&bytes], |event| encoder.push(event, &mut out));
        assert_eq!(*encoder.losses(), Losses::default(), "{id}");
        let (again, before) = (fold(&[&out]), fold(&[&bytes]));
        let (mut again, mut before) = (said(&again), said(&before));
        // the provider's own id stays only where it has this dialect's form
        if !before[0].as_str().unwrap().starts_with("msg_") {
            (again[0], before[0]) = (Value::Null, Value::Null);
        }
        assert_eq!(again, before, "{id}");
    }
}

#[test]
fn a_stream_and_a_whole_answer_say_the_same_words() {
    // an answer told as a stream by our own encoder, read back, is the answer
    for (id, item) in exchanges() {
        let Some(text) = whole(&item) else { continue };
        let response =
            Anthropic.decode_response(Node::parse_reply(text.as_bytes()).unwrap(), &Origin { model: "m" }).unwrap();
        let mut encoder = Anthropic.stream_encoder(&reply_to(true));
        let mut out = Vec::new();
        for event in super::streams::events(&response) {
            encoder.push(event, &mut out);
        }
        assert_eq!(said(&fold(&[&out])), said(&response), "{id}");
    }
}

#[test]
fn every_recorded_error_is_understood() {
    let mut walked = 0;
    let errors = exchanges().into_iter().chain(items("error_shapes").into_iter().filter(|i| i.0.contains("anthropic")));
    for (id, item) in errors {
        let status = item["response"]["status"].as_u64().unwrap() as u16;
        if status == 200 {
            continue;
        }
        let body = item["response"]["body_json"].to_string();
        let refusal = Anthropic.decode_error(status, body.as_bytes());
        let expected = match status {
            400 if refusal.message.starts_with("prompt is too long") => Refused::ContextLength,
            400 => Refused::BadRequest,
            401 => Refused::Auth,
            404 => Refused::NotFound,
            413 => Refused::TooLarge,
            429 => Refused::RateLimit,
            500 => Refused::ServerError,
            529 => Refused::Overloaded,
            other => panic!("{id}: {other}"),
        };
        assert_eq!(refusal.reason, expected, "{id}");
        assert!(!refusal.message.is_empty() && !refusal.message.contains("req_"), "{id}");
        walked += 1;
    }
    println!("{walked} errors");
}

#[test]
fn answers_in_other_gateways_pairs_are_read() {
    let origin = Origin { model: "m" };
    let mut walked = 0;
    for (id, item) in items("translation_pairs") {
        let kind = item["kind"].as_str().unwrap_or_default();
        for (side, api) in [("input", "upstream_api"), ("expected", "inbound_api")] {
            if item[api] != "anthropic.messages" || !kind.starts_with("response") || kind == "response_error" {
                continue;
            }
            if let Some(events) = item[side]["text"].as_str().filter(|text| text.contains("message_start")) {
                fold(&[events.as_bytes()]);
            } else if item[side]["json"]["content"].is_array() {
                let text = item[side]["json"].to_string();
                let response = Anthropic.decode_response(Node::parse_reply(text.as_bytes()).unwrap(), &origin);
                assert!(response.unwrap_or_else(|e| panic!("{id}: {e:?}")).choices[0].stop.is_some(), "{id}");
            } else {
                continue;
            }
            walked += 1;
        }
    }
    println!("{walked} answers of pairs");
}

#[test]
fn other_gateways_read_the_same_usage() {
    for (id, item) in items("translation_pairs") {
        let wanted = &item["expected"]["json"];
        let Some(events) = item["input"]["json"]["events"].as_str().filter(|_| id.contains("anthropic_helper")) else {
            continue;
        };
        let usage = fold(&[events.as_bytes()]).usage.unwrap();
        assert_eq!(Some(usage.input.0), wanted["expectedInputTokens"].as_u64(), "{id}");
        assert_eq!(Some(usage.output.0), wanted["expectedOutputTokens"].as_u64(), "{id}");
        assert_eq!(Some(usage.cache_read.0), wanted["expectedCachedTokens"].as_u64(), "{id}");
    }
}
