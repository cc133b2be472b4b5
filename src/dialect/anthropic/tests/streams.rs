//! Streams that were not recorded: from dialects that keep several blocks open, broken ones, hostile ones.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::Value;

use super::{Anthropic, node, reply_to};
use crate::chat::block::{Native, Refusal};
use crate::chat::{
    Block, CallKind, Citation, Delta, Dialect, Event, Fold, Issuer, Open, Response, Seal, Start, Stop, StopReason,
    Usage,
};
use crate::dialect::sse::{self, Frames};
use crate::dialect::{Frame, Inbound, Origin, Outbound};
use crate::error::{Error, Kind};
use crate::json::At;
use crate::units::Tokens;

/// A whole answer as a provider would have streamed it.
pub(super) fn events<'r>(response: &'r Response<'_>) -> Vec<Event<'r>> {
    let mut events = vec![Event::Start(Start {
        id: response.id.as_deref().map(Cow::Borrowed),
        model: response.model.as_deref().map(Cow::Borrowed),
        ..Start::default()
    })];
    for (block, of) in (0..).zip(&response.choices[0].blocks) {
        events.push(Event::Open { choice: 0, block, open: Open::Whole(of.clone()) });
        events.push(Event::Close { choice: 0, block });
    }
    events.extend(response.choices[0].stop.clone().map(|stop| Event::Stop { choice: 0, stop }));
    events.extend(response.usage.map(Event::Usage));
    events.push(Event::End);
    events
}

fn written(events: Vec<Event<'_>>) -> (Vec<Value>, crate::chat::Losses) {
    let mut encoder = Anthropic.stream_encoder(&reply_to(true));
    let mut out = Vec::new();
    for event in events {
        encoder.push(event, &mut out);
    }
    let mut all = Vec::new();
    let mut frames = Frames::default();
    frames
        .push(out.into(), |frame| {
            let event = sse::Event::read(&frame);
            let value: Value = serde_json::from_slice(&event.data.unwrap()).unwrap();
            assert_eq!(value["type"], event.name);
            all.push(value);
        })
        .unwrap();
    assert!(frames.between());
    (all, encoder.losses().clone())
}

/// Frames in short: type, number, and what they carry.
fn short(frames: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    frames
        .iter()
        .filter(|frame| frame["type"] != "ping")
        .map(|frame| match frame["type"].as_str().unwrap() {
            "content_block_start" => format!("{}+{}", frame["index"], text(&frame["content_block"]["type"])),
            "content_block_delta" => {
                let delta = frame["delta"].as_object().unwrap();
                let said = delta.iter().find(|(name, _)| *name != "type").map(|(_, value)| text(value));
                format!("{}={}", frame["index"], said.unwrap_or_default())
            }
            "content_block_stop" => format!("{}-", frame["index"]),
            "message_delta" => text(&frame["delta"]["stop_reason"]),
            other => other.to_owned(),
        })
        .collect()
}

fn call(block: u32, id: &'static str) -> Event<'static> {
    let open = Open::ToolCall { id: id.into(), name: "f".into(), kind: CallKind::Function, item_id: None };
    Event::Open { choice: 0, block, open }
}

fn piece(block: u32, delta: Delta<'static>) -> Event<'static> {
    Event::Delta { choice: 0, block, delta }
}

fn arguments(block: u32, text: &'static str) -> Event<'static> {
    piece(block, Delta::Arguments(text.into()))
}

fn close(block: u32) -> Event<'static> {
    Event::Close { choice: 0, block }
}

fn stop(reason: StopReason<'static>) -> Event<'static> {
    Event::Stop { choice: 0, stop: Stop::new(reason) }
}

#[test]
fn calls_that_are_open_together_are_written_one_after_another() {
    let (frames, losses) = written(vec![
        Event::Start(Start::default()),
        Event::Open { choice: 0, block: 0, open: Open::Text },
        piece(0, Delta::Text("hi".into())),
        close(0),
        call(1, "a"),
        arguments(1, "{\"x\""),
        call(2, "b"),
        arguments(2, "{\"y\""),
        arguments(1, ":1}"),
        arguments(2, ":2}"),
        call(3, "c"),
        close(2),
        close(1),
        close(3),
        stop(StopReason::ToolUse),
        Event::End,
    ]);
    assert_eq!(
        short(&frames),
        [
            "message_start",
            "0+text",
            "0=hi",
            "0-",
            "1+tool_use",
            "1={\"x\"",
            "1=:1}",
            "1-",
            "2+tool_use",
            "2={\"y\":2}",
            "2-",
            "3+tool_use",
            "3-",
            "tool_use",
            "message_stop"
        ]
    );
    assert!(losses.is_empty());
    assert_eq!(frames[1]["type"], "ping");
    assert_eq!(frames[0]["message"]["id"], "msg_call1");
    assert_eq!(frames[0]["message"]["model"], "asked-model");
}

#[test]
fn usage_and_stop_may_come_in_either_order() {
    let usage = |input, output| {
        Event::Usage(Usage {
            input: Tokens(input),
            cache_read: Tokens(2),
            cache_write_1h: Tokens(3),
            output: Tokens(output),
            ..Usage::default()
        })
    };
    let body =
        || vec![Event::Open { choice: 0, block: 0, open: Open::Text }, piece(0, Delta::Text("x".into())), close(0)];
    let start = || vec![Event::Start(Start::default()), usage(10, 1)];
    for tail in [vec![usage(11, 4), stop(StopReason::Length)], vec![stop(StopReason::Length), usage(11, 4)]] {
        let (frames, _) = written(start().into_iter().chain(body()).chain(tail).chain([Event::End]).collect());
        assert_eq!(frames[0]["message"]["usage"]["input_tokens"], 5);
        assert_eq!(frames[0]["message"]["usage"]["cache_creation"]["ephemeral_1h_input_tokens"], 3);
        let last = &frames[frames.len() - 2];
        assert_eq!((&last["delta"]["stop_reason"], &last["usage"]["input_tokens"]), (&"max_tokens".into(), &6.into()));
        assert_eq!(
            (&last["usage"]["cache_read_input_tokens"], &last["usage"]["output_tokens"]),
            (&2.into(), &4.into())
        );
    }
}

#[test]
fn empty_texts_and_thoughts_are_not_written() {
    let (frames, _) = written(vec![
        Event::Start(Start::default()),
        Event::Open { choice: 0, block: 0, open: Open::Thinking { redacted: false, id: None } },
        close(0),
        Event::Open { choice: 0, block: 1, open: Open::Text },
        piece(1, Delta::Text("".into())),
        close(1),
        stop(StopReason::End),
        Event::End,
    ]);
    assert_eq!(short(&frames), ["message_start", "end_turn", "message_stop"]);
}

#[test]
fn seals_stand_in_front_of_what_they_belong_to_and_come_back() {
    let seal = || Delta::Seal(Seal::new(Issuer::Gemini, "sig"));
    let packed = Seal::new(Issuer::Gemini, "sig").pack(Issuer::Anthropic).into_owned();
    let (frames, _) = written(vec![
        Event::Start(Start::default()),
        call(0, "a"),
        piece(0, seal()),
        arguments(0, "{}"),
        close(0),
        Event::Open { choice: 0, block: 1, open: Open::Thinking { redacted: true, id: None } },
        piece(1, seal()),
        close(1),
        stop(StopReason::ToolUse),
        Event::End,
    ]);
    assert_eq!(
        short(&frames),
        [
            "message_start",
            "0+thinking",
            &format!("0={packed}"),
            "0-",
            "1+tool_use",
            "1={}",
            "1-",
            "2+redacted_thinking",
            "2-",
            "tool_use",
            "message_stop"
        ]
    );
    let start = frames.iter().find(|frame| frame["content_block"]["type"] == "redacted_thinking").unwrap();
    assert_eq!(start["content_block"]["data"], packed);
}

#[test]
fn refusals_citations_and_thoughts_in_parts_have_their_form() {
    let citation = Citation { url: Some("https://e.test".into()), title: Some("T".into()), ..Citation::default() };
    let thought = |part, text: &'static str| Delta::Thought { part, summary: true, text: text.into() };
    let (frames, losses) = written(vec![
        Event::Start(Start::default()),
        Event::Open { choice: 0, block: 0, open: Open::Thinking { redacted: false, id: None } },
        piece(0, thought(0, "a")),
        piece(0, thought(1, "b")),
        piece(0, Delta::Seal(Seal::new(Issuer::OpenAi, "enc"))),
        close(0),
        Event::Open { choice: 0, block: 1, open: Open::Text },
        piece(1, Delta::Text("x".into())),
        piece(1, Delta::Citation(citation)),
        close(1),
        Event::Open { choice: 0, block: 2, open: Open::Refusal },
        piece(2, Delta::Refusal("no".into())),
        close(2),
        Event::Open { choice: 1, block: 0, open: Open::Text },
        stop(StopReason::End),
        Event::End,
    ]);
    let short = short(&frames);
    assert_eq!(&short[..5], ["message_start", "0+thinking", "0=a", "0=\n\n", "0=b"]);
    assert_eq!(&short[short.len() - 5..], ["2+text", "2=no", "2-", "refusal", "message_stop"]);
    let cited = frames.iter().find(|frame| frame["delta"]["type"] == "citations_delta").unwrap();
    assert_eq!(cited["delta"]["citation"]["type"], "web_search_result_location");
    assert_eq!(losses.count, 1);
}

#[test]
fn blocks_of_this_dialect_alone_are_written_on_one_line() {
    let json = "{\"type\":\"mcp_tool_use\",\n \"id\":\"mcptoolu_1\",\"name\":\"n\",\"server_name\":\"s\",\"input\":{\"q\":\n1}}";
    let native =
        Native { dialect: Dialect::Anthropic, kind: "mcp_tool_use".into(), json: json.into(), at: At::NOWHERE };
    let (frames, _) = written(vec![
        Event::Start(Start::default()),
        Event::Open { choice: 0, block: 0, open: Open::Whole(Block::Native(native)) },
        close(0),
        stop(StopReason::End),
        Event::End,
    ]);
    assert_eq!(short(&frames)[1..4], ["0+mcp_tool_use", "0={\"q\":\n1}", "0-"]);
}

#[test]
fn an_error_ends_the_stream() {
    let error = Error::new(Kind::UpstreamFailed, "gone");
    let (frames, _) =
        written(vec![Event::Start(Start::default()), Event::Error(error), stop(StopReason::End), Event::End]);
    assert_eq!(frames.len(), 1);
    assert_eq!((&frames[0]["type"], &frames[0]["error"]["type"]), (&"error".into(), &"api_error".into()));
}

#[test]
fn what_waits_is_bounded() {
    let big = "x".repeat(1024 * 1024);
    let mut encoder = Anthropic.stream_encoder(&reply_to(true));
    let mut out = Vec::new();
    encoder.push(call(0, "a"), &mut out);
    encoder.push(call(1, "b"), &mut out);
    for _ in 0..64 {
        encoder.push(Event::Delta { choice: 0, block: 1, delta: Delta::Arguments(big.as_str().into()) }, &mut out);
    }
    assert!(String::from_utf8(out).unwrap().ends_with("\n\n"));
    let mut out = Vec::new();
    encoder.push(Event::End, &mut out);
    assert!(out.is_empty(), "it ended with the error");
}

fn decoded(frames: &[&str]) -> Result<Fold, String> {
    let mut decoder = Anthropic.stream_decoder(&Origin { model: "m" });
    let mut fold = Fold::new(Dialect::Anthropic);
    for data in frames {
        let mut out = Vec::new();
        let frame = Frame { name: "", data: data.as_bytes(), exception: false };
        decoder.push(frame, &mut out).map_err(|garbled| garbled.what.into_owned())?;
        out.into_iter().for_each(|event| fold.push(event));
    }
    let mut out = Vec::new();
    decoder.finish(&mut out).map_err(|garbled| garbled.what.into_owned())?;
    out.into_iter().for_each(|event| fold.push(event));
    assert_eq!(fold.faults, Vec::<String>::new());
    Ok(fold)
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"m","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}"#;
const DELTA: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#;

#[test]
fn a_stream_that_breaks_off_is_garbled_unless_it_had_stopped() {
    assert!(decoded(&[START]).is_err());
    assert!(decoded(&[]).is_err());
    let ended = decoded(&[START, DELTA]).unwrap();
    assert!(ended.ended);
    assert_eq!(ended.finish().usage.map(|u| (u.input, u.output)), Some((Tokens(3), Tokens(2))));
}

#[test]
fn an_error_in_the_stream_is_the_last_event() {
    let error =
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_0123456789"}"#;
    let fold = decoded(&[START, error, DELTA]).unwrap();
    let told = fold.error.unwrap();
    assert!(matches!(told.kind, Kind::UpstreamRefused { status: 529, .. }));
    let google = r#"{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}"#;
    let told = decoded(&[START, google]).unwrap().error.unwrap();
    assert!(matches!(told.kind, Kind::UpstreamRefused { status: 429, .. }), "{told}");
}

#[test]
fn unknown_events_and_pieces_are_passed_over() {
    let fold = decoded(&[
        START,
        r#"{"type":"news","x":1}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"hologram_delta","x":1}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        DELTA,
        r#"{"type":"message_stop"}"#,
        "[DONE]",
    ])
    .unwrap();
    let Block::Text(text) = &fold.finish().choices[0].blocks[0] else { panic!() };
    assert_eq!(text.text, "a");
}

#[test]
fn blocks_no_other_dialect_knows_come_whole() {
    let fold = decoded(&[
        START,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"compaction","content":null}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"compaction_delta","content":"summary"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"query\":"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"x\"}"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"a":1}}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        DELTA,
    ])
    .unwrap();
    let blocks = &fold.finish().choices[0].blocks;
    let (Block::Native(native), Block::ServerCall(server), Block::ToolCall(call)) =
        (&blocks[0], &blocks[1], &blocks[2])
    else {
        panic!("{blocks:?}")
    };
    assert_eq!(native.json, r#"{"type":"compaction","content":"summary"}"#);
    assert_eq!(server.input, r#"{"query":"x"}"#);
    assert_eq!(call.arguments, r#"{"a":1}"#);
}

#[test]
fn garbage_is_refused_and_never_panics() {
    let start = |index: &str| {
        format!(r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"text","text":""}}}}"#)
    };
    let (zero, huge) = (start("0"), start("18446744073709551615"));
    for frames in [
        &["{"][..],
        &["[]"],
        &[START, START],
        &[START, &zero, &zero],
        &[START, r#"{"type":"content_block_delta","index":7,"delta":{"type":"text_delta","text":"a"}}"#],
        &[START, r#"{"type":"content_block_stop","index":7}"#],
        &[START, DELTA, &zero],
        &[START, r#"{"type":"content_block_start","index":0,"content_block":7}"#],
    ] {
        assert!(decoded(frames).is_err(), "{frames:?}");
    }
    assert!(decoded(&[START, &huge, DELTA]).is_ok());
    let many: Vec<String> = (0..100).map(|n| start(&n.to_string())).collect();
    let frames: Vec<&str> = [START].into_iter().chain(many.iter().map(String::as_str)).collect();
    assert!(decoded(&frames).is_err());
}

const FRAMES: [&str; 12] = [
    START,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
    r#"{"type":"content_block_stop","index":1}"#,
    r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"a"}}"#,
    DELTA,
    r#"{"type":"message_stop"}"#,
];

proptest! {
    #[test]
    fn any_order_of_frames_is_read_in_order_or_refused(order in prop::collection::vec(0usize..FRAMES.len(), 0..24)) {
        let frames: Vec<&str> = order.into_iter().map(|n| FRAMES[n]).collect();
        // `decoded` checks that what is read keeps the order every decoder promises
        if let Ok(fold) = decoded(&frames) {
            prop_assert!(fold.ended || fold.error.is_some());
        }
    }

    #[test]
    fn any_event_order_is_written_as_a_stream_that_reads(
        steps in prop::collection::vec((0u32..4, 0u8..6), 0..40),
    ) {
        // blocks open in order, pieces and ends come as they like
        let mut events = vec![Event::Start(Start::default())];
        let (mut opened, mut open) = (0, Vec::new());
        for (block, step) in steps {
            match step {
                0 => { events.push(call(opened, "id")); open.push(opened); opened += 1; }
                1 => {
                    events.push(Event::Open { choice: 0, block: opened, open: Open::Text });
                    open.push(opened);
                    opened += 1;
                }
                2 if open.contains(&block) => { events.push(close(block)); open.retain(|b| *b != block); }
                3 => events.push(piece(block, Delta::Text("t".into()))),
                4 => events.push(piece(block, Delta::Seal(Seal::new(Issuer::Gemini, "s")))),
                _ => events.push(arguments(block, "{}")),
            }
        }
        events.extend(open.into_iter().map(close));
        events.extend([stop(StopReason::End), Event::End]);
        let (frames, _) = written(events);
        let frames: Vec<String> = frames.iter().map(Value::to_string).collect();
        let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
        prop_assert!(decoded(&frames).is_ok_and(|fold| fold.ended));
    }
}

#[test]
fn an_answer_of_another_provider_gets_this_dialect_s_ids_and_reasons() {
    let mut response = Response::new(Dialect::OpenAiChat);
    response.id = Some("chatcmpl-1".into());
    response.service_tier = Some("default".into());
    let refusal = Refusal { text: "no".into(), at: At::NOWHERE };
    response.choices.push(crate::chat::Choice {
        blocks: vec![Block::text(""), Block::Refusal(refusal)],
        stop: Some(Stop::new(StopReason::End)),
        ..Default::default()
    });
    let encoded = Anthropic.encode_response(&response, &reply_to(true));
    let body: Value = serde_json::from_slice(&encoded.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "id": "msg_call1", "type": "message", "role": "assistant", "model": "asked-model",
            "content": [{"type": "text", "text": "no"}], "stop_reason": "refusal", "stop_sequence": null,
            "usage": {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 0, "service_tier": "standard"}
        })
    );
    let again = node(std::str::from_utf8(&encoded.body).unwrap());
    assert!(Anthropic.decode_response(again, &Origin { model: "m" }).is_ok());
}
