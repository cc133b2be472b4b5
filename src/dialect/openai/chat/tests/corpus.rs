//! Every recorded exchange of chat completions, whoever recorded it.

use serde_json::{Value, json};

use super::Chat;
use super::{corpus, folded, manners, relayed, replied, request, response, sent};
use crate::chat::{Response, StopReason};
use crate::dialect::{Inbound, Manners, Outbound};
use crate::error::Refused;
use crate::json::Node;

struct Exchange {
    id: String,
    provider: String,
    value: Value,
}

fn exchanges() -> Vec<Exchange> {
    let Some(path) = corpus() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path.join("exchanges")).expect("a directory") {
        let text = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let value: Value = serde_json::from_slice(&text).expect("JSON");
        let word = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let (api, provider) = (word("api"), word("provider"));
        if (api.ends_with(".chat") || api.ends_with(".openai-chat")) && provider != "cohere" {
            found.push(Exchange { id: word("id"), provider, value });
        }
    }
    assert!(found.len() > 150, "{} exchanges", found.len());
    found
}

/// An image in a `tool` message, which OpenAI does not take: it follows in a message of its own, and that is told.
const MOVED: [&str; 1] = ["ollama.chat-017-4ac5c9"];

/// Two spellings of one request are one: what is listed here is written otherwise than it came, on purpose.
fn plain(value: &mut Value) {
    let Some(body) = value.as_object_mut() else { return };
    body.retain(|_, value| !value.is_null());
    // the length by its new name; `stop` as an array
    if let Some(max) = body.remove("max_tokens") {
        body.insert("max_completion_tokens".to_owned(), max);
    }
    if let Some(Value::String(stop)) = body.get("stop").cloned() {
        body.insert("stop".to_owned(), json!([stop]));
    }
    // no stream is what happens without the word; of a stream the usage is always asked for
    match body.get("stream") {
        Some(Value::Bool(true)) => {
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        _ => {
            body.remove("stream");
            body.remove("stream_options");
        }
    }
    if body.get("tools") == Some(&json!([])) {
        body.remove("tools");
    }
    // a tool without a type is a function
    for tool in body.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten() {
        tool.as_object_mut().expect("a tool").entry("type").or_insert(json!("function"));
    }
    // Mistral's older word
    if body.get("tool_choice") == Some(&json!("any")) {
        body.insert("tool_choice".to_owned(), json!("required"));
    }
    for message in body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten() {
        plain_message(message);
    }
}

fn plain_message(message: &mut Value) {
    let Some(message) = message.as_object_mut() else { return };
    message.retain(|_, value| !value.is_null());
    // nothing said is an empty text, and one plain text is a string; a mark on the message is one on its text
    let mark = message.get("cache_control").cloned().filter(|_| message["role"] != "tool");
    if mark.is_some() {
        message.remove("cache_control");
    }
    let content = match message.remove("content") {
        Some(Value::String(text)) if mark.is_none() => Value::String(text),
        Some(Value::String(text)) => json!([{"type": "text", "text": text, "cache_control": mark}]),
        Some(Value::Array(parts)) => match parts.as_slice() {
            [] => json!(""),
            [one] if one.as_object().is_some_and(|o| o.len() == 2) && one["type"] == "text" => one["text"].clone(),
            _ => Value::Array(parts),
        },
        _ => json!(""),
    };
    message.insert("content".to_owned(), content);
    for part in message.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
        // Mistral's address without an object
        if let Some(Value::String(url)) = part.get("image_url").cloned() {
            part["image_url"] = json!({"url": url});
        }
    }
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        call.as_object_mut().expect("a call").remove("index");
    }
    if message.get("tool_calls") == Some(&json!([])) {
        message.remove("tool_calls");
    }
    // unsealed details are told as text
    let unsealed = |d: &Value| d.get("signature").is_none() && d.get("data").is_none();
    if message.get("reasoning_details").and_then(Value::as_array).is_some_and(|d| d.iter().all(unsealed)) {
        let details = message.remove("reasoning_details").unwrap_or_default();
        let texts: Vec<&str> = details.as_array().expect("details").iter().filter_map(|d| d["text"].as_str()).collect();
        message.entry("reasoning_content").or_insert(texts.join("\n\n").into());
    }
    if let Some(text) = message.remove("reasoning") {
        message.entry("reasoning_content").or_insert(text);
    }
}

#[test]
fn every_recorded_request_comes_back_as_it_was() {
    let mut checked = 0;
    for exchange in exchanges() {
        let body = &exchange.value["request"]["body"];
        if !body.is_object() {
            continue;
        }
        let text = body.to_string();
        let (mut out, losses) = sent(&request(&text), &manners(&exchange.provider));
        let told: Vec<String> = losses
            .iter()
            .map(|loss| {
                format!("{} {} {:?}", crate::json::Paths::new(text.as_bytes()).of(loss.at), loss.member, loss.how)
            })
            .collect();
        if MOVED.contains(&&*exchange.id) {
            assert_eq!(told, ["messages[2].content[1]  Changed"], "{}", exchange.id);
            continue;
        }
        assert_eq!(told, Vec::<String>::new(), "{}", exchange.id);
        let mut body = body.clone();
        plain(&mut body);
        plain(&mut out);
        assert_eq!(out, body, "{}", exchange.id);
        checked += 1;
    }
    println!("{checked} requests");
}

/// What a client reads of an answer.
fn gist(response: &Response<'_>) -> Value {
    let mut value = replied(response);
    for choice in value["choices"].as_array_mut().expect("choices") {
        choice
            .as_object_mut()
            .expect("a choice")
            .retain(|name, _| ["index", "message", "finish_reason", "logprobs"].contains(&name.as_str()));
        // a stream numbers them
        for one in choice["message"]["annotations"].as_array_mut().into_iter().flatten() {
            one.as_object_mut().expect("an annotation").remove("index");
        }
    }
    value
}

#[test]
fn every_recorded_answer_is_read_and_written_again() {
    let mut checked = 0;
    for exchange in exchanges() {
        let reply = &exchange.value["response"];
        if reply["status"] != 200 || !reply["body_json"].is_object() {
            continue;
        }
        let body = &reply["body_json"];
        let text = body.to_string();
        let read = response(&text);
        let out = replied(&read);
        for name in ["id", "model", "created"].into_iter().filter(|name| body[name] != "") {
            assert_eq!(out[name], body[name], "{} {name}", exchange.id);
        }
        for (out, body) in out["choices"].as_array().unwrap().iter().zip(body["choices"].as_array().unwrap()) {
            let (out, body) = (&out["message"], &body["message"]);
            if let Some(content) = body["content"].as_str().filter(|content| !content.is_empty()) {
                assert_eq!(out["content"], content, "{}", exchange.id);
            }
            let names = |message: &Value| -> Vec<Value> {
                let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
                calls.iter().map(|call| json!([call["function"]["name"], call["function"]["arguments"]])).collect()
            };
            assert_eq!(names(out), names(body), "{}", exchange.id);
        }
        assert_eq!(out["usage"]["prompt_tokens"], body["usage"]["prompt_tokens"], "{}", exchange.id);
        assert!(read.usage.is_some(), "{}", exchange.id);
        // what was written is read as the same
        let again = out.to_string();
        let again = response(&again);
        assert_eq!(gist(&again), gist(&read), "{}", exchange.id);
        checked += 1;
    }
    println!("{checked} answers");
}

#[test]
fn every_recorded_stream_is_read_alike_however_it_is_cut() {
    let mut checked = 0;
    for exchange in exchanges() {
        let reply = &exchange.value["response"];
        let Some(stream) = reply["body_text"].as_str().filter(|_| reply["status"] == 200) else { continue };
        let (whole, error) =
            folded(stream.as_bytes(), stream.len()).unwrap_or_else(|e| panic!("{}: {e:?}", exchange.id));
        assert!(error.is_none(), "{}", exchange.id);
        for size in [1, 7, 1000] {
            let (cut, _) = folded(stream.as_bytes(), size).expect("the same stream");
            assert_eq!(cut, whole, "{} in pieces of {size}", exchange.id);
        }
        assert!(whole.choices.iter().all(|choice| choice.stop.is_some()), "{}", exchange.id);
        let odd = whole.choices.iter().any(|c| matches!(&c.stop, Some(s) if matches!(s.reason, StopReason::Other(_))));
        assert!(!odd, "{}: {:?}", exchange.id, whole.choices);
        // written for a client and read again
        let (out, losses) = relayed(stream.as_bytes(), &super::REPLY);
        assert!(losses.iter().all(|loss| loss.member == "service_tier"), "{}: {losses:?}", exchange.id);
        let (again, _) = folded(&out, out.len()).unwrap_or_else(|e| panic!("{}: {e:?}", exchange.id));
        assert_eq!(gist(&again), gist(&whole), "{}", exchange.id);
        checked += 1;
    }
    println!("{checked} streams");
}

#[test]
fn every_recorded_refusal_has_a_reason_and_no_key() {
    for exchange in exchanges() {
        let reply = &exchange.value["response"];
        let status = reply["status"].as_u64().unwrap_or_default() as u16;
        if status < 400 {
            continue;
        }
        let body = reply["body_json"].to_string();
        let refusal = crate::dialect::openai::refusal::decode_error(status, body.as_bytes());
        assert!(!refusal.message.is_empty(), "{}", exchange.id);
        assert!(!refusal.message.contains("sk-"), "{}", refusal.message);
        println!("{} {status} {:?} {}", exchange.id, refusal.reason, refusal.message);
    }
}

#[test]
fn every_request_of_other_gateways_tests_is_read_and_loses_nothing() {
    let Some(path) = corpus() else { return };
    let mut checked = 0;
    for entry in std::fs::read_dir(path.join("translation_pairs")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let pair: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
        let body = &pair["input"]["json"];
        if pair["inbound_api"] != "openai.chat" || pair["kind"] != "request" || !body["messages"].is_array() {
            continue;
        }
        let text = body.to_string();
        let Ok(read) = Chat.decode_request(Node::parse(text.as_bytes()).expect("JSON")) else {
            // a message without a role
            assert!(path.ends_with("envoy-gemini_helper-001.json"), "{}", path.display());
            continue;
        };
        let manners =
            Manners { cache_control: true, developer_role: true, reasoning_object: true, ..Manners::default() };
        let (out, losses) = sent(&read, &manners);
        let told: Vec<String> =
            losses.iter().map(|loss| crate::json::Paths::new(text.as_bytes()).of(loss.at) + &loss.member).collect();
        assert_eq!(told, Vec::<String>::new(), "{}", path.display());
        // read again, it asks for the same
        let again = out.to_string();
        let (again, _) = sent(&request(&again), &manners);
        assert_eq!(again, out, "{}", path.display());
        checked += 1;
    }
    println!("{checked} requests");
}

#[test]
fn every_reconstructed_error_has_the_reason_its_name_says() {
    let Some(path) = corpus() else { return };
    for (name, reason) in [
        ("azure-400-08", Refused::ContentFilter),
        ("deepseek-402-12", Refused::Billing),
        ("groq-413-10", Refused::RateLimit),
        ("groq-429-11", Refused::RateLimit),
        ("openai-429-06", Refused::RateLimit),
    ] {
        let text = std::fs::read(path.join(format!("error_shapes/{name}.json"))).expect("a file");
        let error: Value = serde_json::from_slice(&text).expect("JSON");
        let status = error["response"]["status"].as_u64().expect("a status") as u16;
        let refusal = Chat.decode_error(status, error["response"]["body_json"].to_string().as_bytes());
        assert_eq!(refusal.reason, reason, "{name}");
    }
}
