//! Streams: read, folded, written again.

use bytes::Bytes;
use serde_json::{Value, json};

use super::corpus::exchanges;
use super::replies::{bare, read};
use super::*;
use crate::chat::{
    Block, CallKind, Delta, Dialect, Event, Fold, Issuer, Open, Response, Seal, Start, Stop, StopReason, Usage,
};
use crate::dialect::sse::{self, Frames};
use crate::dialect::{Frame, Garbled, Origin};
use crate::error::{Error, Kind};
use crate::units::Tokens;

/// Read the pieces of a stream and hand each event to `see`.
pub fn decode(pieces: &[&[u8]], mut see: impl FnMut(Event<'_>)) -> Result<(), Garbled> {
    let mut decoder = Responses.stream_decoder(&Origin { model: "asked" });
    let mut frames = Frames::default();
    let mut result = Ok(());
    let mut frame = |decoder: &mut Box<dyn crate::dialect::StreamDecoder>, frame: &[u8]| {
        let event = sse::Event::read(frame);
        let Some(data) = event.data.as_deref() else { return Ok(()) };
        let mut events = Vec::new();
        let done = decoder.push(Frame { name: event.name, data, exception: false }, &mut events);
        events.into_iter().for_each(&mut see);
        done
    };
    for piece in pieces {
        let chunk = Bytes::copy_from_slice(piece);
        frames
            .push(chunk, |bytes| {
                if result.is_ok() {
                    result = frame(&mut decoder, &bytes);
                }
            })
            .unwrap();
    }
    let rest = frames.finish();
    if result.is_ok() && !rest.is_empty() {
        result = frame(&mut decoder, &rest);
    }
    result?;
    let mut events = Vec::new();
    decoder.finish(&mut events)?;
    events.into_iter().for_each(see);
    Ok(())
}

fn folded(pieces: &[&[u8]]) -> Fold {
    let mut fold = Fold::new(Dialect::OpenAiResponses);
    decode(pieces, |event| fold.push(event)).unwrap();
    fold
}

/// The blocks of an answer with every seal blank, for a thought is encrypted anew each time it is said; and items that come whole in
/// front, for they may come late.
fn unsealed(response: &Response<'_>) -> Vec<Block<'static>> {
    let mut blocks = bare(&response.choices[0].blocks);
    for block in &mut blocks {
        if let Block::Thinking(thinking) = block
            && let Some(seal) = &mut thinking.seal
        {
            seal.raw = "".into();
        }
        // one stream's image was cut short by hand in one of its two places
        if let Block::Media(crate::chat::Media { source: crate::chat::Source::Base64 { data, .. }, .. }) = block {
            *data = "".into();
        }
    }
    blocks.sort_by_key(|block| !matches!(block, Block::Native(_) | Block::ServerCall(_) | Block::ServerResult(_)));
    blocks
}

/// A stream read and written again for a client.
fn through(stream: &str) -> String {
    let mut encoder = Responses.stream_encoder(&TO);
    let mut out = Vec::new();
    decode(&[stream.as_bytes()], |event| encoder.push(event, &mut out)).unwrap();
    assert!(encoder.losses().is_empty(), "{:?}", encoder.losses());
    String::from_utf8(out).unwrap()
}

pub fn events(stream: &str) -> Vec<Value> {
    stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[test]
fn every_recorded_stream_adds_up_to_its_final_answer() {
    let mut seen = 0;
    for exchange in exchanges() {
        let Some(stream) = exchange.stream else { continue };
        let fold = folded(&[stream.as_bytes()]);
        assert_eq!(fold.faults, Vec::<String>::new(), "{}", exchange.id);
        assert!(fold.ended, "{}", exchange.id);
        let streamed = fold.finish();
        // one recording holds two answers: the first end is the end
        let ends = ["response.completed", "response.incomplete"];
        let mut events = events(&stream.replace("data: [DONE]", "")).into_iter();
        let last = events.find(|event| ends.contains(&event["type"].as_str().unwrap_or_default())).unwrap();
        let last = last["response"].to_string();
        let whole = read(&last);
        if !whole.choices[0].blocks.is_empty() {
            assert_eq!(unsealed(&streamed), unsealed(&whole), "{}", exchange.id);
            assert_eq!(streamed.choices[0].stop, whole.choices[0].stop, "{}", exchange.id);
            // at the end the numbers are rounded
            let tokens = |response: &Response<'_>| {
                response.choices[0].logprobs.iter().map(|one| one.token.clone().into_owned()).collect::<Vec<_>>()
            };
            assert_eq!(tokens(&streamed), tokens(&whole), "{}", exchange.id);
        }
        assert!(!streamed.choices[0].blocks.is_empty(), "{}", exchange.id);
        assert_eq!(
            (streamed.usage, &streamed.id, &streamed.model),
            (whole.usage, &whole.id, &whole.model),
            "{}",
            exchange.id
        );
        seen += 1;
    }
    println!("{seen} streams");
}

#[test]
fn any_split_of_the_bytes_gives_the_same_answer() {
    for exchange in exchanges() {
        let Some(stream) = exchange.stream.filter(|stream| stream.len() < 60_000) else { continue };
        let whole = folded(&[stream.as_bytes()]).finish();
        for size in [1, 7, 100] {
            let pieces: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
            assert_eq!(folded(&pieces).finish(), whole, "{}", exchange.id);
        }
    }
}

#[test]
fn every_recorded_stream_comes_back_as_a_stream() {
    for exchange in exchanges() {
        let Some(stream) = exchange.stream else { continue };
        let again = through(&stream);
        let (first, second) = (folded(&[stream.as_bytes()]).finish(), folded(&[again.as_bytes()]).finish());
        let blocks = |response: &Response<'_>| bare(&response.choices[0].blocks);
        assert_eq!(blocks(&second), blocks(&first), "{}", exchange.id);
        assert_eq!(second.choices[0].stop, first.choices[0].stop, "{}", exchange.id);
        lawful(&again);
        // and the answer at its end says what the events said
        let last = events(&again).pop().unwrap()["response"].to_string();
        assert_eq!(bare(&read(&last).choices[0].blocks), blocks(&second), "{}", exchange.id);
    }
}

/// What holds for every stream: numbers that rise by one, items that begin and end once, at the end the whole.
pub fn lawful(stream: &str) {
    let events = events(stream);
    let kind = |event: &Value| event["type"].as_str().unwrap().to_owned();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], n, "{event}");
    }
    assert_eq!((kind(&events[0]), kind(&events[1])), ("response.created".into(), "response.in_progress".into()));
    let of = |name: &str| events.iter().filter(|event| kind(event) == name).collect::<Vec<_>>();
    let (added, mut done) = (of("response.output_item.added"), of("response.output_item.done"));
    for (n, event) in added.iter().enumerate() {
        assert_eq!(event["output_index"], n);
    }
    done.sort_by_key(|event| event["output_index"].as_u64());
    let finished: Vec<&Value> = done.iter().map(|event| &event["item"]).collect();
    let last = events.last().unwrap();
    assert_eq!(finished, last["response"]["output"].as_array().unwrap().iter().collect::<Vec<_>>());
    let ids = |events: &[&Value]| events.iter().map(|event| event["item"]["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&added), ids(&done));
    for (begun, ended) in
        [("content_part.added", "content_part.done"), ("reasoning_summary_part.added", "reasoning_summary_part.done")]
    {
        assert_eq!(of(&format!("response.{begun}")).len(), of(&format!("response.{ended}")).len());
    }
}

fn written(events: Vec<Event<'_>>) -> String {
    let mut encoder = Responses.stream_encoder(&TO);
    let mut out = Vec::new();
    events.into_iter().for_each(|event| encoder.push(event, &mut out));
    String::from_utf8(out).unwrap()
}

fn open(block: u32, open: Open<'_>) -> Event<'_> {
    Event::Open { choice: 0, block, open }
}

fn delta(block: u32, delta: Delta<'_>) -> Event<'_> {
    Event::Delta { choice: 0, block, delta }
}

fn close(block: u32) -> Event<'static> {
    Event::Close { choice: 0, block }
}

fn stop(reason: StopReason<'_>) -> Event<'_> {
    Event::Stop { choice: 0, stop: Stop::new(reason) }
}

fn call(id: &str) -> Open<'_> {
    Open::ToolCall { id: id.into(), name: "f".into(), kind: CallKind::Function, item_id: None }
}

#[test]
fn the_life_cycle_is_the_official_one() {
    let stream = written(vec![
        Event::Start(Start { id: Some("msg_01".into()), ..Start::default() }),
        open(0, Open::Thinking { redacted: false, id: None }),
        delta(0, Delta::Thought { part: 0, summary: false, text: "hm".into() }),
        delta(0, Delta::Seal(Seal::new(Issuer::Anthropic, "si"))),
        delta(0, Delta::Seal(Seal::new(Issuer::Anthropic, "g"))),
        close(0),
        open(1, Open::Text),
        delta(1, Delta::Text("a".into())),
        close(1),
        open(2, call("toolu_1")),
        delta(2, Delta::Arguments("{}".into())),
        close(2),
        Event::Usage(Usage { input: Tokens(3), output: Tokens(2), ..Usage::default() }),
        stop(StopReason::ToolUse),
        Event::End,
    ]);
    lawful(&stream);
    let kinds: Vec<String> = events(&stream)
        .iter()
        .map(|event| event["type"].as_str().unwrap().trim_start_matches("response.").to_owned())
        .collect();
    assert_eq!(
        kinds,
        [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "completed",
        ]
    );
    let last = &events(&stream)[18]["response"];
    assert_eq!((&last["usage"]["total_tokens"], &last["status"]), (&json!(5), &json!("completed")));
    let Block::Thinking(thinking) =
        &decoded(&json!({"input": last["output"]}).to_string()).turns[0].blocks[0].clone().into_owned()
    else {
        panic!()
    };
    assert_eq!(thinking.seal, Some(Seal::new(Issuer::Anthropic, "sig")));
}

#[test]
fn a_cut_answer_s_last_item_is_incomplete() {
    let stream = written(vec![
        open(0, Open::Text),
        delta(0, Delta::Text("a".into())),
        close(0),
        open(1, call("c")),
        delta(1, Delta::Arguments("{\"a".into())),
        close(1),
        stop(StopReason::Length),
        Event::End,
    ]);
    lawful(&stream);
    let last = events(&stream).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["incomplete_details"]["reason"]),
        (&json!("response.incomplete"), &json!("max_output_tokens"))
    );
    assert_eq!(
        (&last["response"]["output"][0]["status"], &last["response"]["output"][1]["status"]),
        (&json!("completed"), &json!("incomplete"))
    );
}

#[test]
fn blocks_may_overlap() {
    let stream = written(vec![
        open(0, Open::Text),
        delta(0, Delta::Text("a".into())),
        open(1, call("c1")),
        open(2, call("c2")),
        delta(1, Delta::Arguments("{".into())),
        delta(2, Delta::Arguments("{}".into())),
        delta(0, Delta::Text("b".into())),
        delta(1, Delta::Arguments("}".into())),
        close(2),
        close(0),
        close(1),
        stop(StopReason::ToolUse),
        Event::End,
    ]);
    lawful(&stream);
    let last = &events(&stream).pop().unwrap()["response"]["output"];
    assert_eq!(
        (&last[0]["content"][0]["text"], &last[1]["arguments"], &last[2]["arguments"]),
        (&json!("ab"), &json!("{}"), &json!("{}"))
    );
}

#[test]
fn a_call_s_seal_stands_before_it_or_right_behind() {
    for late in [false, true] {
        let seal = || delta(0, Delta::Seal(Seal::new(Issuer::Gemini, "g==")));
        let mut told = vec![
            open(0, call("c1")),
            delta(0, Delta::Arguments("{}".into())),
            close(0),
            stop(StopReason::ToolUse),
            Event::End,
        ];
        told.insert(if late { 2 } else { 1 }, seal());
        let stream = written(told);
        lawful(&stream);
        let text = json!({"input": events(&stream).pop().unwrap()["response"]["output"]}).to_string();
        let blocks = &decoded(&text).turns[0].blocks;
        match (late, &blocks[..]) {
            (false, [Block::Thinking(thinking), Block::ToolCall(_)]) => assert!(thinking.seal.is_some()),
            (true, [Block::ToolCall(call)]) => assert_eq!(call.seal.as_ref().map(|s| &*s.raw), Some("g==")),
            _ => panic!("{blocks:?}"),
        }
    }
}

#[test]
fn after_an_error_comes_nothing() {
    let stream = written(vec![
        open(0, Open::Text),
        Event::Error(Error::new(Kind::UpstreamFailed, "broke off")),
        delta(0, Delta::Text("x".into())),
        Event::End,
    ]);
    let last = events(&stream).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["message"], &last["sequence_number"]),
        (&json!("error"), &json!("broke off"), &json!(4))
    );
}

#[test]
fn a_refusal_without_words_is_said_in_a_stream() {
    let stream = written(vec![
        open(0, Open::Text),
        delta(0, Delta::Text("so".into())),
        close(0),
        stop(StopReason::Refusal),
        Event::End,
    ]);
    lawful(&stream);
    let content = &events(&stream).pop().unwrap()["response"]["output"][0]["content"];
    assert_eq!((content.as_array().unwrap().len(), &content[1]["type"]), (2, &json!("refusal")));
}

#[test]
fn schemas_with_line_ends_stay_in_one_line_of_a_stream() {
    let echo = "\"parallel_tool_calls\":true,\n\"tools\":[]\r\n,\"tool_choice\":\"auto\"";
    let mut encoder = Responses.stream_encoder(&ReplyTo { echo, ..TO });
    let mut out = Vec::new();
    encoder.push(Event::End, &mut out);
    let stream = String::from_utf8(out).unwrap();
    assert_eq!(events(&stream).len(), 3);
    assert!(stream.lines().all(|line| line.is_empty() || line.starts_with("event: ") || line.starts_with("data: ")));
}

fn sse(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[test]
fn what_only_comes_at_the_end_is_not_lost() {
    let message = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello", "annotations":
        [{"type": "url_citation", "url": "https://x.test"}]}]});
    let call = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}"});
    let completed = |output: Value| json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": output}});
    let deltas = json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "hel"});
    let added = json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ""}});
    let done = json!({"type": "response.output_item.done", "output_index": 0, "item": message});
    for stream in [
        sse(&[completed(json!([message, call]))]),
        sse(&[deltas.clone(), added.clone(), completed(json!([message, call]))]),
        sse(&[deltas, added, done.clone(), completed(json!([message, call]))]),
        sse(&[done, completed(json!([message, call]))]),
    ] {
        let fold = folded(&[stream.as_bytes()]);
        assert_eq!(fold.faults, Vec::<String>::new(), "{stream}");
        let response = fold.finish();
        let [Block::Text(text), Block::ToolCall(call)] = &response.choices[0].blocks[..] else {
            panic!("{response:?}")
        };
        assert_eq!((&*text.text, text.citations.len(), &*call.arguments), ("hello", 1, "{\"a\":1}"), "{stream}");
        assert_eq!(response.choices[0].stop.as_ref().map(|s| &s.reason), Some(&StopReason::ToolUse));
    }
}

#[test]
fn a_stream_that_breaks_off_is_garbled_and_one_that_fails_says_why() {
    let begun = json!({"type": "response.output_text.delta", "output_index": 0, "delta": "x"});
    assert!(decode(&[sse(&[begun]).as_bytes()], |_| {}).is_err());
    for event in [
        json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "m"}}}),
        json!({"type": "error", "code": "rate_limit_exceeded", "message": "m", "sequence_number": 1}),
        json!({"type": "error", "error": {"type": "rate_limit_error", "message": "m"}}),
        json!({"error": {"code": "rate_limit_exceeded", "message": "m"}}),
    ] {
        let error = folded(&[sse(&[event]).as_bytes()]).error.unwrap();
        assert_eq!((error.kind.status(), &*error.say), (429, "m"));
    }
}

#[test]
fn what_vendors_send_beside_the_events_is_passed_over() {
    let stream = format!(
        ": hello\n\nevent: keepalive\ndata: {}\n\ndata: {}\n\n{}data: [DONE]\n\n",
        json!({"type": "keepalive", "sequence_number": 7}),
        json!({"type": "response.something_new.delta", "delta": 3}),
        sse(&[json!({"type": "response.completed", "response": {"output": []}})]),
    );
    let fold = folded(&[stream.as_bytes()]);
    assert!(fold.ended && fold.faults.is_empty());
}
