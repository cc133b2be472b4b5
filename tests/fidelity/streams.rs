//! Answers as a provider streams them.
//!
//! Bedrock's and Cohere's events are made here from the whole answer, as their references describe them (Amazon Bedrock API reference,
//! "ConverseStream"; Cohere API reference, "Chat with Streaming (v2)"). What clients speak too is streamed by its own encoder.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate::chat::{Event, Response, unfold};
use tollgate::dialect::frame::Cutter;
use tollgate::dialect::{Dialect, Frame, Origin, inbound, outbound};

use crate::answers::REPLY;
use crate::{CLIENTS, model_of};

/// An event's name and data.
type Told = (&'static str, Value);

/// Hand out every event that a provider streams this answer in.
pub fn stream(
    dialect: Dialect,
    whole: &[u8],
    response: Response<'_>,
    mut each: impl FnMut(Event<'_>),
) -> Result<(), String> {
    let mut decoder = outbound(dialect).stream_decoder(&Origin { model: model_of(dialect) });
    let mut read = |frame: Frame<'_>| {
        let mut events = Vec::new();
        let read = decoder.push(frame, &mut events);
        events.into_iter().for_each(&mut each);
        read
    };
    let events = match dialect {
        Dialect::Bedrock => bedrock(&serde_json::from_slice(whole).expect("JSON")),
        Dialect::Cohere => cohere(&serde_json::from_slice(whole).expect("JSON")),
        _ => Vec::new(),
    };
    for (name, data) in &events {
        let data = data.to_string();
        read(Frame { name, data: data.as_bytes(), exception: false }).map_err(|e| e.what.into_owned())?;
    }
    if events.is_empty() {
        let bytes = streamed(dialect, response);
        cut(dialect, bytes, read)?;
    }
    let mut events = Vec::new();
    decoder.finish(&mut events).map_err(|e| e.what.into_owned())?;
    events.into_iter().for_each(each);
    Ok(())
}

/// Cut a stream's bytes into its events.
pub fn cut(
    dialect: Dialect,
    bytes: Vec<u8>,
    mut read: impl FnMut(Frame<'_>) -> Result<(), tollgate::dialect::Garbled>,
) -> Result<(), String> {
    let mut cutter = Cutter::new(outbound(dialect).framing());
    cutter.push(Bytes::from(bytes), &mut read).map_err(|e| e.what.into_owned())?;
    cutter.finish(&mut read).map_err(|e| e.what.into_owned())
}

fn streamed(dialect: Dialect, response: Response<'_>) -> Vec<u8> {
    let operation = CLIENTS.map(|(operation, ..)| operation).into_iter().find(|o| o.dialect() == Some(dialect));
    let codec = operation.and_then(inbound).expect("a dialect of clients");
    let mut encoder = codec.stream_encoder(&REPLY);
    let mut out = Vec::new();
    unfold(response).into_iter().for_each(|event| encoder.push(event, &mut out));
    out
}

// === Bedrock ===

fn bedrock(whole: &Value) -> Vec<Told> {
    let mut told = vec![("messageStart", json!({"role": "assistant"}))];
    let contents = whole["output"]["message"]["content"].as_array().expect("content");
    for (index, content) in contents.iter().enumerate() {
        let (start, deltas) = bedrock_block(content);
        if let Some(start) = start {
            told.push(("contentBlockStart", json!({"contentBlockIndex": index, "start": start})));
        }
        for delta in deltas {
            told.push(("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta})));
        }
        told.push(("contentBlockStop", json!({"contentBlockIndex": index})));
    }
    let mut stop = json!({"stopReason": whole["stopReason"]});
    if let Some(fields) = whole.get("additionalModelResponseFields") {
        stop["additionalModelResponseFields"] = json!({"delta": fields});
    }
    told.push(("messageStop", stop));
    let mut metadata = json!({"usage": whole["usage"], "metrics": whole["metrics"]});
    let told_before = ["output", "stopReason", "additionalModelResponseFields"];
    for (name, value) in whole.as_object().expect("an object") {
        if !told_before.contains(&name.as_str()) {
            metadata[name] = value.clone();
        }
    }
    told.push(("metadata", metadata));
    told
}

/// How a block is announced, and its pieces.
fn bedrock_block(content: &Value) -> (Option<Value>, Vec<Value>) {
    let (kind, value) = content.as_object().and_then(|c| c.iter().next()).expect("a content is one of a union");
    match kind.as_str() {
        "text" => (None, vec![json!({"text": value})]),
        "toolUse" => {
            let mut start = value.clone();
            let input = start.as_object_mut().and_then(|start| start.remove("input")).expect("input").to_string();
            (Some(json!({"toolUse": start})), vec![json!({"toolUse": {"input": input}})])
        }
        "toolResult" => {
            let mut start = value.clone();
            let content = start.as_object_mut().and_then(|start| start.remove("content")).expect("content");
            (Some(json!({"toolResult": start})), vec![json!({"toolResult": content})])
        }
        "reasoningContent" => {
            let shown = &value["reasoningText"];
            let members = [
                ("text", &shown["text"]),
                ("signature", &shown["signature"]),
                ("redactedContent", &value["redactedContent"]),
            ];
            let there = members.into_iter().filter(|(_, value)| !value.is_null());
            (None, there.map(|(name, value)| json!({"reasoningContent": {name: value}})).collect())
        }
        "citationsContent" => {
            let texts =
                value["content"].as_array().expect("content").iter().map(|piece| json!({"text": piece["text"]}));
            let sources = value["citations"].as_array().expect("citations").iter().map(|one| json!({"citation": one}));
            (None, texts.chain(sources).collect())
        }
        "image" => {
            let start = json!({"image": {"format": value["format"]}});
            (Some(start), vec![json!({"image": {"source": value["source"]}})])
        }
        other => panic!("how is a {other} streamed?"),
    }
}

// === Cohere ===

fn cohere(whole: &Value) -> Vec<Told> {
    let message = &whole["message"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut told = vec![("message-start", json!({"id": whole["id"], "delta": {"message": {"role": "assistant"}}}))];
    if !message["tool_plan"].is_null() {
        told.push(("tool-plan-delta", json!({"delta": {"message": {"tool_plan": message["tool_plan"]}}})));
    }
    let mut logprobs = list(&whole["logprobs"]).into_iter();
    for (index, content) in list(&message["content"]).iter().enumerate() {
        let kind = content["type"].as_str().expect("type");
        let event = |content: Value| json!({"index": index, "delta": {"message": {"content": content}}});
        told.push(("content-start", event(json!({"type": kind, (kind): ""}))));
        let mut delta = event(json!({(kind): content[kind]}));
        if let Some(logprobs) = logprobs.next() {
            delta["logprobs"] = logprobs;
        }
        told.push(("content-delta", delta));
        told.push(("content-end", json!({"index": index})));
    }
    for (index, citation) in list(&message["citations"]).iter().enumerate() {
        told.push(("citation-start", json!({"index": index, "delta": {"message": {"citations": citation}}})));
        told.push(("citation-end", json!({"index": index})));
    }
    for (index, call) in list(&message["tool_calls"]).iter().enumerate() {
        let mut start = call.clone();
        let arguments = std::mem::replace(&mut start["function"]["arguments"], json!(""));
        let event = |call: Value| json!({"index": index, "delta": {"message": {"tool_calls": call}}});
        told.push(("tool-call-start", event(start)));
        told.push(("tool-call-delta", event(json!({"function": {"arguments": arguments}}))));
        told.push(("tool-call-end", json!({"index": index})));
    }
    let mut end = whole.clone();
    end.as_object_mut().expect("an object").retain(|name, _| !["id", "message", "logprobs"].contains(&name.as_str()));
    told.push(("message-end", json!({"id": whole["id"], "delta": end})));
    for (name, data) in &mut told {
        data["type"] = json!(name);
    }
    told
}
