//! Recorded traffic: every answer is read, every request can be written.

use std::path::PathBuf;

use serde_json::Value;

use super::{MODEL, booked, encode, reader, run};
use crate::chat::{Block, Response, StopReason};
use crate::dialect::codec::{Origin, Outbound};
use crate::dialect::cohere::Cohere;
use crate::error::Refused;
use crate::json::Node;

/// Items of a folder whose file name begins so, sorted; none where there is no recorded traffic, told in one line.
fn items(folder: &str, prefix: &str) -> Vec<(String, Value)> {
    let root = std::env::var_os("TOLLGATE_CORPUS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
        println!("skipped: no recorded traffic at {}", root.display());
        return Vec::new();
    };
    let mut items: Vec<(String, Value)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
        .map(|path| {
            let item = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), item)
        })
        .collect();
    items.sort_by(|a, b| a.0.cmp(&b.0));
    items
}

/// Texts, thoughts, calls and citations, each in one line.
fn told(response: &Response<'_>) -> Vec<String> {
    let mut told = Vec::new();
    for block in &response.choices[0].blocks {
        match block {
            Block::Text(text) => {
                told.push(format!("text {}", text.text));
                for citation in &text.citations {
                    let (start, end) = citation.text_span.unwrap();
                    let span: String = text.text.chars().skip(start as usize).take((end - start) as usize).collect();
                    let native: Value = serde_json::from_str(&citation.native.as_ref().unwrap().1).unwrap();
                    assert_eq!(native["text"], span);
                    told.push(format!("cited {span} {:?}", citation.title));
                }
            }
            Block::Thinking(thinking) => told.push(format!("thought {}", thinking.thoughts[0].text)),
            Block::ToolCall(call) => told.push(format!("call {} {}", call.name, call.arguments)),
            other => panic!("{other:?}"),
        }
    }
    told
}

#[test]
fn every_recorded_answer_is_read() {
    let (mut answers, mut errors) = (0, 0);
    for (id, item) in items("exchanges", "cohere.chat-0") {
        let Some(recorded) = item["response"].get("body_json") else { continue };
        let body = recorded.to_string();
        let status = item["response"]["status"].as_u64().unwrap() as u16;
        if status >= 400 {
            errors += 1;
            let refusal = Cohere.decode_error(status, body.as_bytes());
            let reason = if status == 401 { Refused::Auth } else { Refused::ContextLength };
            assert_eq!(refusal.reason, reason, "{id}");
            assert!(!refusal.message.contains("***"), "{id}");
            continue;
        }
        answers += 1;
        let node = Node::parse_reply(body.as_bytes()).unwrap();
        let response = Cohere.decode_response(node, &Origin { model: MODEL }).expect(&id);
        let told = told(&response);
        let message = &recorded["message"];
        let count = |word: &str| told.iter().filter(|line| line.starts_with(word)).count();
        let recorded_count = |name: &str| message[name].as_array().map_or(0, Vec::len);
        assert_eq!(count("call"), recorded_count("tool_calls"), "{id}");
        assert_eq!(count("cited"), recorded_count("citations"), "{id}");
        let plan = usize::from(message["tool_plan"].is_string());
        assert_eq!(count("text") + count("thought"), recorded_count("content") + plan, "{id}");
        let stop = &response.choices[0].stop.as_ref().unwrap().reason;
        assert_eq!(*stop == StopReason::ToolUse, count("call") > 0, "{id}");
        assert!(!matches!(stop, StopReason::Other(_)), "{id}");
        assert_eq!(response.usage.unwrap().output.0, recorded["usage"]["billed_units"]["output_tokens"], "{id}");
        assert!(response.extra.is_empty() && response.choices[0].extra.is_empty(), "{id}");
    }
    println!("{answers} answers and {errors} errors read");
}

#[test]
fn every_recorded_stream_is_read_however_it_is_split() {
    let mut streams = 0;
    for (id, item) in items("exchanges", "cohere.chat-0") {
        let Some(text) = item["response"]["body_text"].as_str() else { continue };
        streams += 1;
        let read = |pieces: &[&[u8]]| {
            let (fold, result) = run(pieces);
            assert!(result.is_ok() && fold.faults.is_empty() && fold.ended, "{id} {result:?} {:?}", fold.faults);
            fold.finish()
        };
        let whole = read(&[text.as_bytes()]);
        for size in [1, 13, 500] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(read(&pieces), whole, "{id} {size}");
        }
        let told = told(&whole);
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let events: Vec<Value> = events.collect();
        let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
        let lines = |word: &str| told.iter().filter(|line| line.starts_with(word)).count();
        assert_eq!(lines("call"), count("tool-call-start"), "{id}");
        assert_eq!(lines("cited"), count("citation-start"), "{id}");
        let plan = usize::from(count("tool-plan-delta") > 0);
        assert_eq!(lines("text") + lines("thought"), count("content-start") + plan, "{id}");
        assert!(whole.id.is_some() && whole.usage.is_some(), "{id}");
        let last = events.last().unwrap();
        assert_eq!(whole.usage.unwrap().output.0, last["delta"]["usage"]["billed_units"]["output_tokens"], "{id}");
    }
    println!("{streams} streams read");
}

/// What encoding changes on purpose: a single text is a string, an empty one is left out, `stream` is always said.
fn normal(body: &Value) -> Value {
    let mut body = body.clone();
    strip_nulls(&mut body);
    let members = body.as_object_mut().unwrap();
    members.entry("stream").or_insert(false.into());
    members.remove("model");
    for message in members["messages"].as_array_mut().unwrap() {
        let message = message.as_object_mut().unwrap();
        message.retain(|name, value| name != "content" || value != "");
        let Some(items) = message.get("content").and_then(Value::as_array) else { continue };
        let items: Vec<Value> = items.iter().filter(|item| item["text"] != "").cloned().collect();
        match items.as_slice() {
            [] => drop(message.remove("content")),
            [item] if item["type"] == "text" => drop(message.insert("content".into(), item["text"].clone())),
            _ => drop(message.insert("content".into(), items.into())),
        }
    }
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
    for (id, item) in items("exchanges", "cohere.chat-0") {
        let Some(recorded) = item["request"].get("body") else { continue };
        requests += 1;
        let (body, losses) = encode(&reader::request(recorded), MODEL);
        assert_eq!(normal(&body), normal(recorded), "{id}");
        assert_eq!(booked(&losses), Vec::<String>::new(), "{id}");
    }
    println!("{requests} requests written again");
}

/// Where another gateway's golden body is not what we write, and why.
fn intended(id: &str) -> Option<&'static str> {
    Some(match id {
        id if id.starts_with("litellm-cohere-openai.chat-047") => "a file of OpenAI's is no content of Cohere's",
        _ => return None,
    })
}

#[test]
fn other_gateways_bodies_are_what_we_would_write() {
    let mut pairs = 0;
    for (id, item) in items("translation_pairs", "litellm-cohere") {
        if item["upstream_api"] != "cohere.chat" || item["kind"] != "request" {
            continue;
        }
        pairs += 1;
        if intended(&id).is_some() {
            continue;
        }
        let mut expected = item["expected"]["json"].clone();
        // `strict` stands beside the tools, not in them
        for tool in expected.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten() {
            tool["function"].as_object_mut().unwrap().remove("strict");
        }
        let (body, _) = encode(&reader::request(&expected), MODEL);
        assert_eq!(normal(&body), normal(&expected), "{id}");
    }
    println!("{pairs} bodies of another gateway compared");
}
