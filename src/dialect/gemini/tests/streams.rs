//! Recorded streams: read, added up, compared with the same answer whole, and written for a client.

use std::borrow::Cow;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Exchange, exchanges, json, placeless, reply_to};
use crate::chat::{Block, Dialect, Event, Fold, Response, StopReason};
use crate::dialect::codec::{Inbound, Origin, Outbound, StreamDecoder, StreamForm, Tap as _};
use crate::dialect::frame::Frame;
use crate::dialect::gemini::{Gemini, tap::Tap};
use crate::dialect::sse;
use crate::error::{Kind, Refused};
use crate::json::Node;

/// The data of a recording's events: of server-sent ones, or of one array.
fn events(exchange: &Exchange) -> Vec<String> {
    if exchange.reply.trim_start().starts_with('[') {
        let chunks = json(exchange.reply.as_bytes());
        return chunks.as_array().unwrap().iter().map(Value::to_string).collect();
    }
    data(exchange.reply.as_bytes(), exchange.reply.len())
}

/// Cut a stream into events, a piece at a time.
fn data(stream: &[u8], piece: usize) -> Vec<String> {
    let mut frames = sse::Frames::default();
    let mut events = Vec::new();
    for piece in stream.chunks(piece.max(1)) {
        frames
            .push(Bytes::copy_from_slice(piece), |frame| {
                let data = sse::Event::read(&frame).data.map(|data| String::from_utf8(data.into_owned()).unwrap());
                events.extend(data);
            })
            .unwrap();
    }
    events
}

fn decoder() -> Box<dyn StreamDecoder> {
    Gemini.stream_decoder(&Origin { model: "gemini-2.5-flash" })
}

/// Read events one by one and look at what they say.
fn each(data: &[String], mut look: impl FnMut(Event<'_>)) -> Result<(), crate::dialect::codec::Garbled> {
    let mut decoder = decoder();
    for data in data {
        let mut out = Vec::new();
        decoder.push(Frame { name: "", data: data.as_bytes(), exception: false }, &mut out)?;
        out.into_iter().for_each(&mut look);
    }
    let mut out = Vec::new();
    decoder.finish(&mut out)?;
    out.into_iter().for_each(&mut look);
    Ok(())
}

fn folded(data: &[String]) -> Response<'static> {
    let mut fold = Fold::new(Dialect::Gemini);
    each(data, |event| fold.push(event)).unwrap();
    assert_eq!(fold.faults, Vec::<String>::new());
    assert!(fold.ended && fold.error.is_none());
    fold.finish()
}

/// The same answer as one reply: parts joined as the API joins them.
fn whole(data: &[String]) -> Value {
    let mut answer = json!({ "candidates": [{ "content": { "parts": [], "role": "model" } }] });
    let mut open = false;
    for chunk in data.iter().map(|data| json(data.as_bytes())) {
        for (name, value) in chunk.as_object().unwrap() {
            if name != "candidates" {
                answer[name] = value.clone();
            }
        }
        let candidate = &chunk["candidates"][0];
        for (name, value) in candidate.as_object().into_iter().flatten().filter(|(name, _)| *name != "content") {
            answer["candidates"][0][name] = value.clone();
        }
        let parts = answer["candidates"][0]["content"]["parts"].as_array_mut().unwrap();
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            let text = part["text"].as_str();
            if text == Some("") && part.get("thoughtSignature").is_none() {
                continue;
            }
            match parts.last_mut().filter(|last| open && text.is_some() && last["thought"] == part["thought"]) {
                Some(last) => {
                    last["text"] = Value::from(format!("{}{}", last["text"].as_str().unwrap(), text.unwrap()));
                    if let Some(seal) = part.get("thoughtSignature") {
                        last["thoughtSignature"] = seal.clone();
                    }
                }
                None => parts.push(part.clone()),
            }
            open = text.is_some() && part.get("thoughtSignature").is_none();
        }
    }
    answer
}

/// Whole answers and folded streams keep Gemini's own facts in different places; white space in JSON means nothing, and a stream we
/// write tells its tier at the end.
fn together(mut response: Response<'_>) -> (String, Vec<(String, String)>) {
    let compact = |text: &mut Cow<'_, str>| *text = Cow::Owned(json(text.as_bytes()).to_string());
    response.service_tier = None;
    for block in response.choices.iter_mut().flat_map(|choice| &mut choice.blocks) {
        match block {
            Block::ToolCall(call) => compact(&mut call.arguments),
            Block::ServerCall(call) => {
                compact(&mut call.input);
                call.native.iter_mut().for_each(|(_, native)| compact(native));
            }
            Block::ServerResult(result) => result.native.iter_mut().for_each(|(_, native)| compact(native)),
            _ => {}
        }
    }
    let mut facts = std::mem::take(&mut response.extra.0);
    for choice in &mut response.choices {
        facts.append(&mut choice.extra.0);
    }
    let mut facts: Vec<_> =
        facts.into_iter().map(|fact| (fact.name.into_owned(), json(fact.json.as_bytes()).to_string())).collect();
    facts.sort();
    (placeless(&response), facts)
}

fn streams() -> Vec<Exchange> {
    exchanges("gemini.streamGenerateContent").into_iter().filter(|exchange| exchange.status == 200).collect()
}

#[test]
fn every_recorded_stream_adds_up_to_the_answer_as_a_whole() {
    let streams = streams();
    for exchange in &streams {
        let data = events(exchange);
        let from_stream = folded(&data);
        let text = whole(&data).to_string();
        let node = Node::parse_reply(text.as_bytes()).unwrap();
        let from_whole = Gemini.decode_response(node, &Origin { model: "" }).unwrap();
        assert_eq!(together(from_stream), together(from_whole), "{}", exchange.id);
    }
    println!("{} streams", streams.len());
}

#[test]
fn any_split_of_a_recorded_stream_says_the_same() {
    for exchange in streams().iter().filter(|exchange| !exchange.is_json && !exchange.reply.starts_with('[')) {
        let stream = exchange.reply.as_bytes();
        let expected = folded(&events(exchange));
        let mut split = |at: usize| {
            let (head, tail) = stream.split_at(at);
            let mut frames = sse::Frames::default();
            let mut all = Vec::new();
            for piece in [head, tail] {
                let read = |frame: Bytes| {
                    all.extend(sse::Event::read(&frame).data.map(|d| String::from_utf8(d.into_owned()).unwrap()))
                };
                frames.push(Bytes::copy_from_slice(piece), read).unwrap();
            }
            assert_eq!(folded(&all), expected, "{} at {at}", exchange.id);
        };
        let step = (stream.len() / 200).max(1);
        (0..stream.len()).step_by(step).for_each(&mut split);
        for piece in [1, 2, 7, 1024] {
            assert_eq!(folded(&data(stream, piece)), expected, "{}", exchange.id);
        }
    }
}

#[test]
fn a_recorded_stream_is_written_for_a_client_and_says_the_same() {
    for exchange in streams() {
        let data = events(&exchange);
        let expected = together(folded(&data));
        for form in [StreamForm::Sse, StreamForm::Array] {
            let mut encoder = Gemini.stream_encoder(&reply_to(form));
            let mut out = Vec::new();
            each(&data, |event| {
                encoder.push(event, &mut out);
                if form == StreamForm::Array {
                    out.extend_from_slice(encoder.heartbeat());
                }
            })
            .unwrap();
            assert!(encoder.losses().is_empty(), "{}: {:?}", exchange.id, encoder.losses());
            let written: Vec<String> = match form {
                StreamForm::Sse => self::data(&out, out.len()),
                StreamForm::Array => json(&out).as_array().unwrap().iter().map(Value::to_string).collect(),
            };
            assert_eq!(together(folded(&written)), expected, "{}", exchange.id);
        }
    }
}

#[test]
fn both_lanes_count_a_stream_alike() {
    for exchange in streams().iter().filter(|exchange| !exchange.reply.starts_with('[')) {
        let mut tap = Tap::default();
        let mut frames = sse::Frames::default();
        frames
            .push(Bytes::copy_from_slice(exchange.reply.as_bytes()), |frame| {
                assert_eq!(tap.see(frame.clone()), Some(frame));
            })
            .unwrap();
        let seen = tap.seen();
        assert_eq!(seen.usage, folded(&events(exchange)).usage, "{}", exchange.id);
        assert!(seen.ended && seen.output_began && !seen.failed, "{}", exchange.id);
    }
}

fn owned(chunks: &[&str]) -> Vec<String> {
    chunks.iter().map(|chunk| (*chunk).to_owned()).collect()
}

#[test]
fn an_error_in_the_stream_is_its_end() {
    let error = r#"{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"2s"}]}}"#;
    for data in [error.to_owned(), format!("[{error}]")] {
        let chunks =
            owned(&[r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#, &data, r#"{"candidates":[]}"#]);
        let mut fold = Fold::new(Dialect::Gemini);
        each(&chunks, |event| fold.push(event)).unwrap();
        let Some(Kind::UpstreamRefused { status: 429, reason: Refused::RateLimit, retry_after: Some(after) }) =
            fold.error.as_ref().map(|error| error.kind)
        else {
            panic!("{fold:?}")
        };
        assert_eq!(after.as_secs(), 2);
        assert!(fold.faults.is_empty());
    }
}

#[test]
fn a_stream_that_just_stops_is_broken() {
    for chunks in [&[][..], &["{}"], &[r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#]] {
        assert!(each(&owned(chunks), |_| {}).is_err(), "{chunks:?}");
    }
    let blocked = folded(&owned(&[r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#]));
    assert_eq!(blocked.choices[0].stop.as_ref().map(|stop| &stop.reason), Some(&StopReason::ContentFilter));
    for bad in [
        r#"{"candidates":[{"index":99999}]}"#,
        "[1]",
        "x",
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}"#,
    ] {
        assert!(each(&owned(&[bad]), |_| {}).is_err(), "{bad}");
    }
}

#[test]
fn signatures_stand_with_the_part_they_came_behind() {
    let response = folded(&owned(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"c2ln"},{"text":"b"}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"},"thoughtSignature":"c2ln"},{"text":"","thoughtSignature":"bGFzdA=="}]},"finishReason":"STOP"}]}"#,
    ]));
    let seals: Vec<(String, bool)> = response.choices[0]
        .blocks
        .iter()
        .map(|block| match block {
            Block::Text(text) => (text.text.to_string(), text.seal.is_some()),
            Block::ToolCall(call) => (call.name.to_string(), call.seal.is_some()),
            Block::Thinking(thinking) => (thinking.thoughts[0].text.to_string(), thinking.seal.is_some()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [("hm", false), ("a", true), ("b", false), ("f", true), ("", true)];
    assert_eq!(seals, expected.map(|(text, sealed)| (text.to_owned(), sealed)));
    assert_eq!(response.choices[0].stop.as_ref().map(|stop| &stop.reason), Some(&StopReason::ToolUse));
}

proptest! {
    #[test]
    fn nothing_from_outside_breaks_the_decoder(
        chunks in prop::collection::vec(
            "\\{\"candidates\":\\[\\{\"index\":[0-3],\"content\":\\{\"parts\":\\[(\\{\"text\":\"(a|)\"(,\"thought\":true)?(,\"thoughtSignature\":\"s\")?\\}|\\{\"functionCall\":\\{\"name\":\"f\"\\}\\}|\\{\"x\":1\\})\\]\\}(,\"finishReason\":\"STOP\")?\\}\\]\\}|[\\[\\]{}\":,a-z0-9]{0,20}",
            0..12,
        )
    ) {
        let mut fold = Fold::new(Dialect::Gemini);
        let ended = each(&chunks, |event| fold.push(event));
        prop_assert_eq!(&fold.faults, &Vec::<String>::new());
        prop_assert_eq!(ended.is_ok(), fold.ended || fold.error.is_some());
    }
}
