//! Replies: read, and written for clients.

use serde_json::{Value, json};

use super::corpus::exchanges;
use super::*;
use crate::chat::block::{Refusal, ServerCall, ServerResult};
use crate::chat::{
    Block, CallKind, Choice, Dialect, Issuer, Response, Seal, ServerToolKind, Stop, StopReason, Text, Thinking,
    Thought, ToolCall,
};
use crate::dialect::Origin;
use crate::json::At;

pub fn read(text: &str) -> Response<'_> {
    let node = Node::parse_reply(text.as_bytes()).unwrap();
    Responses.decode_response(node, &Origin { model: "asked" }).unwrap()
}

/// Blocks without what tells one telling from another: offsets, ids that items have, the native form.
pub fn bare(blocks: &[Block<'_>]) -> Vec<Block<'static>> {
    let bare = |block: &Block<'_>| {
        let mut block = block.clone().into_owned();
        let at = At::NOWHERE;
        match &mut block {
            Block::Text(b) => {
                (b.at, b.extra) = (at, Default::default());
                b.citations.iter_mut().for_each(|citation| citation.native = None);
            }
            Block::Media(b) => (b.at, b.extra) = (at, Default::default()),
            Block::Thinking(b) => {
                (b.at, b.extra, b.id) = (at, Default::default(), None);
                b.thoughts.retain(|thought| !thought.text.is_empty());
            }
            Block::ToolCall(b) => (b.at, b.extra, b.item_id) = (at, Default::default(), None),
            Block::ToolResult(b) => (b.at, b.extra) = (at, Default::default()),
            Block::Refusal(b) => b.at = at,
            Block::ServerCall(b) => (b.at, b.native) = (at, None),
            Block::ServerResult(b) => (b.at, b.native) = (at, None),
            Block::Native(b) => (b.at, b.json) = (at, "{}".into()),
        }
        block
    };
    blocks.iter().map(bare).collect()
}

/// Citations as the official models want them, with a title and a span.
fn spanned(mut blocks: Vec<Block<'static>>) -> Vec<Block<'static>> {
    for block in &mut blocks {
        let Block::Text(text) = block else { continue };
        let length = text.text.chars().count() as u64;
        for citation in &mut text.citations {
            citation.text_span = citation.text_span.or(Some((0, length)));
            citation.title = citation.title.take().or(citation.url.clone());
        }
    }
    blocks
}

fn written(response: &Response<'_>) -> Value {
    serde_json::from_slice(&Responses.encode_response(response, &TO).body).unwrap()
}

#[test]
fn every_recorded_reply_is_read_and_comes_back() {
    let mut seen = 0;
    for exchange in exchanges() {
        let Some(reply) = exchange.reply.filter(|_| exchange.status == 200) else { continue };
        let text = reply.to_string();
        let response = read(&text);
        let encoded = Responses.encode_response(&response, &TO);
        // a tier the official models do not know
        let lost = encoded.losses.iter().find(|loss| loss.member != "service_tier");
        assert_eq!(lost, None, "{}", exchange.id);
        let body = String::from_utf8(encoded.body).unwrap();
        let again = read(&body);
        let (mut after, mut before) = (bare(&again.choices[0].blocks), spanned(bare(&response.choices[0].blocks)));
        // one vendor's older searches are written as the official ones
        let old = |item: &Value| item["type"] == "web_search_call" && item["action"].is_null();
        if reply["output"].as_array().unwrap().iter().any(old) {
            after.retain(|block| !matches!(block, Block::ServerCall(_)));
            before.retain(|block| !matches!(block, Block::ServerCall(_)));
        }
        assert_eq!(after, before, "{}", exchange.id);
        assert_eq!(again.choices[0].stop, response.choices[0].stop, "{}", exchange.id);
        let usage =
            |r: &Response<'_>| r.usage.map(|u| (u.input, u.cache_read, u.cache_write_5m, u.output, u.reasoning));
        assert_eq!(usage(&again), usage(&response), "{}", exchange.id);
        let again: Value = serde_json::from_str(&body).unwrap();
        for name in ["status", "incomplete_details", "model"] {
            assert_eq!(again[name], reply[name], "{} {name}", exchange.id);
        }
        let kinds = |value: &Value| -> Vec<Value> {
            value["output"].as_array().unwrap().iter().map(|item| item["type"].clone()).collect()
        };
        assert_eq!(kinds(&again), kinds(&reply), "{}", exchange.id);
        seen += 1;
    }
    println!("{seen} replies");
}

#[test]
fn an_answer_of_another_dialect_is_a_whole_response() {
    let at = At::NOWHERE;
    let thinking = Thinking {
        thoughts: vec![Thought { text: "hm".into(), summary: false }],
        seal: Some(Seal::new(Issuer::Anthropic, "sig")),
        redacted: false,
        id: None,
        at,
        extra: Default::default(),
    };
    let call = ToolCall {
        id: "toolu_1".into(),
        name: "f".into(),
        kind: CallKind::Function,
        arguments: "".into(),
        cache: None,
        seal: None,
        item_id: None,
        at,
        extra: Default::default(),
    };
    let mut response = Response::new(Dialect::Anthropic);
    response.id = Some("msg_01ab".into());
    response.model = Some("claude".into());
    response.choices.push(Choice {
        blocks: vec![
            Block::Thinking(thinking),
            Block::Text(Text::new("a")),
            Block::Text(Text::new("b")),
            Block::ToolCall(call),
        ],
        stop: Some(Stop::new(StopReason::ToolUse)),
        ..Choice::default()
    });
    let body = written(&response);
    assert_eq!(
        (&body["id"], &body["status"], &body["created_at"]),
        (&json!("resp_0199"), &json!("completed"), &json!(1_700_000_000))
    );
    let output = &body["output"];
    assert_eq!(output[0]["summary"], json!([{"type": "summary_text", "text": "hm"}]));
    assert_eq!(output[1]["content"].as_array().unwrap().len(), 2);
    assert_eq!((&output[1]["id"], &output[2]["id"]), (&json!("msg_01ab_1"), &json!("fc_01ab_2")));
    assert_eq!((&output[2]["call_id"], &output[2]["arguments"]), (&json!("toolu_1"), &json!("{}")));
    // and what the client sends back means the same
    let text = json!({"input": output}).to_string();
    let request = decoded(&text);
    let Block::Thinking(thinking) = &request.turns[0].blocks[0] else { panic!() };
    assert_eq!(thinking.seal, Some(Seal::new(Issuer::Anthropic, "sig")));
}

#[test]
fn a_signed_part_keeps_its_seal_through_the_client() {
    let seal = Seal::new(Issuer::Gemini, "g==");
    let mut response = Response::new(Dialect::Gemini);
    let text = Text { seal: Some(seal.clone()), ..Text::new("t") };
    response.choices.push(Choice { blocks: vec![Block::Text(text)], ..Choice::default() });
    let text = json!({"input": written(&response)["output"]}).to_string();
    let request = decoded(&text);
    let [Block::Thinking(thinking), Block::Text(_)] = &request.turns[0].blocks[..] else { panic!() };
    assert_eq!((thinking.seal.as_ref(), thinking.thoughts.is_empty()), (Some(&seal), true));
}

#[test]
fn every_stop_has_its_status() {
    for (reason, status, why) in [
        (StopReason::End, "completed", Value::Null),
        (StopReason::Sequence, "completed", Value::Null),
        (StopReason::Pause, "completed", Value::Null),
        (StopReason::Length, "incomplete", json!("max_output_tokens")),
        (StopReason::ContextWindow, "incomplete", json!("max_output_tokens")),
        (StopReason::ContentFilter, "incomplete", json!("content_filter")),
        (StopReason::MalformedCall, "failed", Value::Null),
        (StopReason::Other("failed".into()), "failed", Value::Null),
    ] {
        let mut response = Response::new(Dialect::Gemini);
        let blocks = vec![Block::text("x")];
        response.choices.push(Choice { blocks, stop: Some(Stop::new(reason)), ..Choice::default() });
        let body = written(&response);
        assert_eq!((&body["status"], &body["incomplete_details"]["reason"]), (&json!(status), &why));
        assert_eq!(body["error"].is_null(), status != "failed");
    }
}

#[test]
fn a_refusal_is_said_even_when_it_has_no_words() {
    let mut response = Response::new(Dialect::Anthropic);
    response.choices.push(Choice { stop: Some(Stop::new(StopReason::Refusal)), ..Choice::default() });
    assert_eq!(written(&response)["output"][0]["content"][0]["type"], "refusal");
    let refusal = Block::Refusal(Refusal { text: "no".into(), at: At::NOWHERE });
    response.choices[0].blocks.push(refusal);
    assert_eq!(written(&response)["output"][0]["content"], json!([{"type": "refusal", "refusal": "no"}]));
    let text = written(&response).to_string();
    assert_eq!(read(&text).choices[0].stop.as_ref().map(|stop| &stop.reason), Some(&StopReason::Refusal));
}

#[test]
fn a_search_and_its_pages_are_one_item() {
    let at = At::NOWHERE;
    let (id, tool) = ("srvtoolu_1", ServerToolKind::WebSearch);
    let input = r#"{"query":"q"}"#.into();
    let call = ServerCall { id: id.into(), tool, name: "web_search".into(), input, native: None, at };
    let sources = vec![("https://x.test".into(), None)];
    let result = ServerResult { id: id.into(), tool, sources, output: None, native: None, at };
    let mut response = Response::new(Dialect::Anthropic);
    let blocks = vec![Block::ServerCall(call), Block::ServerResult(result), Block::text("a")];
    response.choices.push(Choice { blocks, ..Choice::default() });
    let body = written(&response);
    let action = json!({"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://x.test"}]});
    assert_eq!((&body["output"][0]["action"], body["output"].as_array().unwrap().len()), (&action, 2));
}

#[test]
fn the_echo_repeats_the_request() {
    let body = r#"{"instructions":"i","temperature":0.70,"tools":[{"type":"function","name":"f","parameters":{"b":1,"a":2}}],
        "tool_choice":"required","metadata":{"k":"v"},"reasoning":{"effort":"low","context":"auto"},"input":"q",
        "text":{"verbosity":"low","format":{"type":"json_schema","name":"n","schema":{}}}}"#;
    let echo = Responses.echo(&decoded(body));
    let mut response = Response::new(Dialect::Anthropic);
    response.choices.push(Choice::default());
    let body = Responses.encode_response(&response, &ReplyTo { echo: &echo, ..TO }).body;
    assert!(std::str::from_utf8(&body).unwrap().contains(r#""temperature":0.70"#));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["instructions"], &body["tool_choice"]), (&json!("i"), &json!("required")));
    assert_eq!(body["reasoning"], json!({"effort": "low", "summary": null, "context": "auto"}));
    assert_eq!((&body["text"]["verbosity"], &body["text"]["format"]["name"]), (&json!("low"), &json!("n")));
    assert_eq!(
        (&body["tools"][0]["name"], &body["top_p"], &body["metadata"]["k"]),
        (&json!("f"), &json!(1.0), &json!("v"))
    );
}

#[test]
fn every_recorded_error_is_understood() {
    let mut seen = 0;
    for exchange in exchanges() {
        let Some(reply) = exchange.reply.filter(|_| exchange.status >= 400) else { continue };
        let status = u16::try_from(exchange.status).unwrap();
        let refusal = Responses.decode_error(status, reply.to_string().as_bytes());
        assert!(!refusal.message.is_empty(), "{}", exchange.id);
        seen += 1;
    }
    println!("{seen} errors");
    for body in [&b""[..], b"<html>", b"[1]", b"{\"error\":null}"] {
        assert_eq!(Responses.decode_error(500, body).message, "");
    }
}
