//! Streams no recording has: every vendor's way to cut an answer into chunks, and what is written of other dialects' events.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{REPLY, decoded, folded, relayed, replied};
use crate::chat::block::Native;
use crate::chat::{
    Block, CallKind, Delta, Dialect, Event, Issuer, Open, Response, Seal, Start, Stop, StopReason, Usage,
};
use crate::dialect::{Inbound, ReplyTo};
use crate::error::{Error, Kind, Refused};
use crate::json::At;
use crate::units::Tokens;

/// A stream of these chunks, with `[DONE]` behind them.
fn sse(chunks: &[Value]) -> String {
    let events = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
    events.chain(["data: [DONE]\n\n".to_owned()]).collect()
}

/// A chunk of the first choice.
fn delta(delta: &Value) -> Value {
    json!({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(word: &str) -> Value {
    json!({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": word}]})
}

fn answer(chunks: &[Value]) -> Response<'static> {
    let stream = sse(chunks);
    let (whole, error) = folded(stream.as_bytes(), stream.len()).expect("a whole stream");
    assert!(error.is_none(), "{error:?}");
    whole
}

/// Names, ids and arguments of the calls.
fn calls(response: &Response<'_>) -> Vec<(String, String, String)> {
    let one = |block: &Block<'_>| match block {
        Block::ToolCall(call) => Some((call.id.to_string(), call.name.to_string(), call.arguments.to_string())),
        _ => None,
    };
    response.choices.iter().flat_map(|choice| &choice.blocks).filter_map(one).collect()
}

fn called(list: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    list.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
}

fn pieces(list: &[Value]) -> Vec<Value> {
    let mut chunks: Vec<Value> = list.iter().map(|calls| delta(&json!({"tool_calls": calls}))).collect();
    chunks.push(finish("tool_calls"));
    chunks
}

#[test]
fn pieces_of_calls_find_their_call_however_a_vendor_marks_them() {
    let two = called(&[("a", "f", "{\"x\":1}"), ("b", "g", "{}")]);
    let f = |more: &str| json!({"arguments": more});
    for (habit, list) in [
        (
            "by index",
            vec![
                json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]),
                json!([{"index": 1, "id": "b", "function": {"name": "g", "arguments": ""}}]),
                json!([{"index": 0, "function": f("{\"x\"")}, {"index": 1, "function": f("{}")}]),
                json!([{"index": 0, "function": f(":1}")}]),
            ],
        ),
        (
            "whole, in one chunk",
            vec![json!([
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}])],
        ),
        (
            "all with index 0",
            vec![
                json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\":1}"}}]),
                json!([{"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}}]),
            ],
        ),
        (
            "id on every piece, no index",
            vec![
                json!([{"id": "a", "function": {"name": "f", "arguments": "{\"x\""}}]),
                json!([{"id": "b", "function": {"name": "g", "arguments": "{}"}}]),
                json!([{"id": "a", "function": {"name": "f", "arguments": ":1}"}}]),
            ],
        ),
        (
            "neither on later pieces",
            vec![
                json!([{"id": "a", "function": {"name": "f"}}]),
                json!([{"function": f("{\"x\"")}]),
                json!([{"function": f(":1}")}]),
                json!([{"id": "b", "function": {"name": "g", "arguments": "{}"}}]),
            ],
        ),
        (
            "the name later than the id",
            vec![
                json!([{"index": 0, "id": "a"}]),
                json!([{"index": 0, "function": f("{\"x\"")}]),
                json!([{"index": 0, "function": {"name": "f", "arguments": ":1}"}}]),
                json!([{"index": 1, "id": "b", "function": {"name": "g", "arguments": {}}}]),
            ],
        ),
    ] {
        let whole = answer(&pieces(&list));
        assert_eq!(calls(&whole), two, "{habit}");
        assert_eq!(whole.choices[0].stop, Some(Stop::new(StopReason::ToolUse)), "{habit}");
    }
}

#[test]
fn calls_without_ids_and_legacy_calls_are_calls() {
    let none = answer(&pieces(&[
        json!([{"index": 0, "function": {"name": "f", "arguments": "{}"}}]),
        json!([{"index": 1, "function": {"name": "f"}}]),
    ]));
    let ids: Vec<String> = calls(&none).into_iter().map(|(id, _, _)| id).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| id.starts_with("call_")), "{ids:?}");
    let legacy = answer(&[
        delta(&json!({"function_call": {"name": "f", "arguments": ""}})),
        delta(&json!({"function_call": {"arguments": "{}"}})),
        finish("function_call"),
    ]);
    assert_eq!(calls(&legacy), called(&[("call_x_0", "f", "{}")]));
    let custom = answer(&pieces(&[
        json!([{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "fr"}}]),
        json!([{"index": 0, "custom": {"input": "ee"}}]),
    ]));
    assert_eq!(calls(&custom), called(&[("a", "f", "free")]));
    assert!(matches!(&custom.choices[0].blocks[0], Block::ToolCall(call) if call.kind == CallKind::Custom));
}

#[test]
fn texts_thoughts_and_calls_alternate() {
    let whole = answer(&[
        delta(&json!({"role": "assistant", "content": ""})),
        delta(&json!({"reasoning_content": "h", "content": null})),
        delta(&json!({"reasoning": "m", "reasoning_content": "m"})),
        delta(&json!({"content": "a"})),
        delta(&json!({"reasoning_content": "again"})),
        delta(&json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f"}}]})),
        delta(&json!({"content": "b"})),
        delta(&json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})),
        delta(&json!({"content": "c"})),
        finish("tool_calls"),
    ]);
    let told: Vec<String> = whole.choices[0]
        .blocks
        .iter()
        .map(|block| match block {
            Block::Text(text) => format!("text {}", text.text),
            Block::Thinking(thinking) => format!("thought {}", thinking.thoughts[0].text),
            Block::ToolCall(call) => format!("call {}", call.arguments),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["thought hm", "text a", "thought again", "call {}", "text bc"]);
}

#[test]
fn signatures_seal_the_thought_they_belong_to() {
    let detail = |more: Value| delta(&json!({"reasoning_details": [more]}));
    let claude = "anthropic-claude-v1";
    let whole = answer(&[
        detail(json!({"type": "reasoning.text", "text": "a", "format": claude, "index": 0})),
        detail(json!({"type": "reasoning.text", "signature": "s", "format": claude, "index": 0})),
        detail(json!({"type": "reasoning.encrypted", "data": "r", "format": claude, "index": 1})),
        detail(json!({"type": "reasoning.summary", "summary": "b", "format": "openai-responses-v1", "index": 2})),
        detail(json!({"type": "reasoning.encrypted", "data": "e", "format": "openai-responses-v1", "index": 2})),
        delta(&json!({"content": "x"})),
        delta(&json!({"extra_content": {"google": {"thought_signature": "g"}}})),
        delta(
            &json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f"}, "extra_content": {"google": {"thought_signature": "c"}}}]}),
        ),
        finish("stop"),
    ]);
    let told: Vec<_> = whole.choices[0]
        .blocks
        .iter()
        .map(|block| match block {
            Block::Thinking(t) => {
                (t.seal.clone().map(|s| (s.issuer, s.raw.into_owned())), t.redacted, t.thoughts.len())
            }
            Block::Text(t) => (t.seal.clone().map(|s| (s.issuer, s.raw.into_owned())), false, 0),
            Block::ToolCall(t) => (t.seal.clone().map(|s| (s.issuer, s.raw.into_owned())), false, 0),
            other => panic!("{other:?}"),
        })
        .collect();
    let seal = |issuer, raw: &str| Some((issuer, raw.to_owned()));
    assert_eq!(
        told,
        [
            (seal(Issuer::Anthropic, "s"), false, 1),
            (seal(Issuer::Anthropic, "r"), true, 0),
            (seal(Issuer::OpenAi, "e"), false, 1),
            (seal(Issuer::Gemini, "g"), false, 0),
            (seal(Issuer::Gemini, "c"), false, 0)
        ]
    );
}

#[test]
fn usage_is_found_wherever_it_stands() {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    for chunk in [
        json!({"id": "x", "choices": [], "usage": usage}),
        json!({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}),
        json!({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}]}),
        json!({"id": "x", "choices": [], "x_groq": {"id": "r", "usage": usage}}),
    ] {
        let whole = answer(&[delta(&json!({"content": "a"})), finish("stop"), chunk.clone()]);
        assert_eq!(whole.usage.map(|u| (u.input, u.output)), Some((Tokens(3), Tokens(2))), "{chunk}");
    }
}

#[test]
fn a_stream_without_done_is_whole_when_every_choice_has_ended() {
    let body = |chunks: &[Value]| sse(chunks).replace("data: [DONE]\n\n", "");
    let whole = body(&[delta(&json!({"content": "a"})), finish("stop")]);
    assert!(folded(whole.as_bytes(), 9).is_ok());
    for broken in [body(&[delta(&json!({"content": "a"}))]), String::new(), ": comment\n\n".to_owned()] {
        assert!(folded(broken.as_bytes(), 9).is_err(), "{broken}");
    }
    let second = json!({"id": "x", "choices": [{"index": 1, "delta": {"content": "b"}}]});
    assert!(folded(body(&[second, delta(&json!({"content": "a"})), finish("stop")]).as_bytes(), 9).is_err());
    assert!(folded(sse(&[delta(&json!({"content": "a"}))]).as_bytes(), 9).is_ok());
}

#[test]
fn an_error_in_the_stream_ends_it() {
    for (chunk, reason) in [
        (json!({"error": {"message": "slow down", "code": 429}}), Refused::RateLimit),
        (
            json!({"id": "x", "error": {"code": 502, "message": "gone"}, "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}),
            Refused::ServerError,
        ),
        (
            json!({"id": "x", "choices": [{"index": 0, "delta": {}, "error": {"code": 503, "message": "full"}}]}),
            Refused::Overloaded,
        ),
        (
            json!({"object": "error", "message": "This model's maximum context length is 5", "code": 400}),
            Refused::ContextLength,
        ),
    ] {
        let stream = sse(&[delta(&json!({"content": "a"})), chunk.clone(), delta(&json!({"content": "b"}))]);
        let (_, error) = folded(stream.as_bytes(), 11).expect("an error is said");
        assert!(matches!(error.unwrap().kind, Kind::UpstreamRefused { reason: told, .. } if told == reason), "{chunk}");
    }
}

#[test]
fn what_cannot_be_a_chunk_is_garbled() {
    for stream in ["data: {\n\n", "data: [1]\n\n", "data: {\"choices\":[{\"index\":4000000000,\"delta\":{}}]}\n\n"] {
        assert!(folded(stream.as_bytes(), 5).is_err(), "{stream}");
    }
    let many: Vec<Value> =
        (0..1_025).map(|n| json!([{"index": n, "id": n.to_string(), "function": {"name": "f"}}])).collect();
    let stream = sse(&pieces(&many));
    assert!(folded(stream.as_bytes(), stream.len()).is_err());
    let nameless = json!([{"index": 0, "id": "a", "function": {"arguments": "x".repeat(70_000)}}]);
    let stream = sse(&pieces(&[nameless]));
    assert!(folded(stream.as_bytes(), stream.len()).is_err());
}

#[test]
fn odd_chunks_say_nothing_and_harm_nothing() {
    let whole = answer(&[
        json!({"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
        json!({"type": "ping"}),
        json!({"id": "x", "model": "m", "created": 5, "service_tier": "default", "choices": [7, {"index": 0, "delta": null}]}),
        delta(&json!({"content": 5, "tool_calls": [5], "refusal": [], "annotations": {}})),
        json!({"id": "x", "choices": [{"index": 0, "delta": {"content": "a"}, "message": {"content": "all of it"}}]}),
        finish("stop"),
        finish("stop"),
    ]);
    assert_eq!((whole.id.as_deref(), whole.model.as_deref(), whole.created), (Some("x"), Some("m"), Some(5)));
    assert_eq!(replied(&whole)["choices"][0]["message"]["content"], "a");
    assert_eq!(whole.extra.0.iter().map(|m| &*m.name).collect::<Vec<_>>(), ["prompt_filter_results", "type"]);
}

#[test]
fn a_spoken_answer_is_put_together() {
    let audio = |more: Value| delta(&json!({"audio": more}));
    let whole = answer(&[
        audio(json!({"id": "audio_1", "transcript": "h"})),
        audio(json!({"data": "AQ=="})),
        audio(json!({"data": "AgM=", "transcript": "i"})),
        audio(json!({"expires_at": 9})),
        finish("stop"),
    ]);
    let out = &replied(&whole)["choices"][0]["message"];
    assert_eq!(out["audio"], json!({"id": "audio_1", "data": "AQID", "expires_at": 9, "transcript": "hi"}));
    let broken = sse(&[audio(json!({"data": "A"}))]);
    assert!(folded(broken.as_bytes(), broken.len()).is_err());
}

#[test]
fn sources_before_and_behind_the_text_are_its_own() {
    let cite = |url: &str| {
        delta(
            &json!({"annotations": [{"type": "url_citation", "url_citation": {"url": url, "title": "t", "start_index": 0, "end_index": 1}}]}),
        )
    };
    let whole = answer(&[cite("u"), delta(&json!({"content": "a"})), cite("v"), finish("stop")]);
    let Block::Text(text) = &whole.choices[0].blocks[0] else { panic!("{whole:?}") };
    assert_eq!(text.citations.iter().filter_map(|c| c.url.as_deref()).collect::<Vec<_>>(), ["u", "v"]);
    let stream = sse(&[cite("u"), delta(&json!({"content": "a"})), cite("v"), finish("stop")]);
    let out = String::from_utf8(relayed(stream.as_bytes(), &REPLY).0).unwrap();
    assert!(out.contains(r#"},"index":0}]"#) && out.contains(r#"},"index":1}]"#), "{out}");
}

// === writing ===

/// The events of another dialect's answer, written: the chunks, and whether `[DONE]` came.
fn written(events: Vec<Event<'_>>, to: &ReplyTo<'_>) -> (Vec<Value>, bool, usize) {
    let mut encoder = super::Chat.stream_encoder(to);
    let mut out = Vec::new();
    for event in events {
        encoder.push(event, &mut out);
    }
    let text = String::from_utf8(out).expect("UTF-8");
    let mut done = false;
    let mut chunks = Vec::new();
    for frame in text.split_terminator("\n\n") {
        let data = frame.strip_prefix("data: ").expect("a frame");
        assert!(!done);
        match data {
            "[DONE]" => done = true,
            json => chunks.push(serde_json::from_str(json).expect("JSON")),
        }
    }
    (chunks, done, encoder.losses().count)
}

fn piece(block: u32, delta: Delta<'_>) -> Event<'_> {
    Event::Delta { choice: 0, block, delta }
}

fn open(block: u32, open: Open<'_>) -> Event<'_> {
    Event::Open { choice: 0, block, open }
}

fn close(block: u32) -> Event<'static> {
    Event::Close { choice: 0, block }
}

fn stop(reason: StopReason<'static>) -> Event<'static> {
    Event::Stop { choice: 0, stop: Stop::new(reason) }
}

#[test]
fn a_stream_begins_with_the_role_and_ends_with_reason_usage_and_done() {
    let events = || {
        vec![
            Event::Start(Start { id: Some("msg".into()), ..Start::default() }),
            open(0, Open::Text),
            piece(0, Delta::Text("a".into())),
            Event::Ping,
            close(0),
            Event::Usage(Usage { input: Tokens(3), output: Tokens(2), ..Usage::default() }),
            stop(StopReason::End),
            Event::End,
        ]
    };
    let (chunks, done, losses) = written(events(), &REPLY);
    assert!(done && losses == 0);
    assert_eq!(
        chunks[0],
        json!({"id": "msg", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [
            {"index": 0, "delta": {"role": "assistant", "content": "", "refusal": null}, "logprobs": null, "finish_reason": null}],
            "usage": null})
    );
    assert_eq!(chunks[1]["choices"][0]["delta"], json!({"content": "a"}));
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], "stop");
    assert_eq!((&chunks[3]["choices"], &chunks[3]["usage"]["total_tokens"]), (&json!([]), &json!(5)));
    let (chunks, done, _) = written(events(), &ReplyTo { stream_usage: false, ..REPLY });
    assert!(done && chunks.len() == 3 && chunks.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[test]
fn parallel_calls_are_numbered_and_one_without_arguments_gets_an_empty_object() {
    let call = |id: &'static str, kind| Open::ToolCall { id: id.into(), name: "f".into(), kind, item_id: None };
    let (chunks, _, _) = written(
        vec![
            Event::Start(Start::default()),
            open(0, Open::Text),
            close(0),
            open(1, call("a", CallKind::Function)),
            open(2, call("b", CallKind::Custom)),
            piece(1, Delta::Arguments("".into())),
            piece(2, Delta::Arguments("fr\"ee".into())),
            piece(1, Delta::Seal(Seal::new(Issuer::Gemini, "g"))),
            close(1),
            close(2),
            stop(StopReason::ToolUse),
            Event::End,
        ],
        &REPLY,
    );
    let calls: Vec<&Value> =
        chunks.iter().map(|c| &c["choices"][0]["delta"]["tool_calls"][0]).filter(|c| !c.is_null()).collect();
    assert_eq!(
        calls,
        [
            &json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}),
            &json!({"index": 1, "id": "b", "type": "custom", "custom": {"name": "f", "input": ""}}),
            &json!({"index": 1, "custom": {"input": "fr\"ee"}}),
            &json!({"index": 0, "extra_content": {"google": {"thought_signature": "g"}}}),
            &json!({"index": 0, "function": {"arguments": "{}"}}),
        ]
    );
}

#[test]
fn thoughts_are_shown_at_once_and_given_again_whole_with_their_seal() {
    let thought = |part, text: &'static str| Delta::Thought { part, summary: false, text: text.into() };
    let thinking = || Open::Thinking { redacted: false, id: None };
    let (chunks, _, _) = written(
        vec![
            open(0, thinking()),
            piece(0, thought(0, "a")),
            piece(0, thought(0, "b")),
            piece(0, thought(1, "c")),
            piece(0, Delta::Seal(Seal::new(Issuer::Anthropic, "s"))),
            close(0),
            open(1, thinking()),
            piece(1, thought(0, "d")),
            close(1),
            stop(StopReason::End),
            Event::End,
        ],
        &REPLY,
    );
    let deltas: Vec<&Value> = chunks.iter().map(|c| &c["choices"][0]["delta"]).collect();
    let shown: String = deltas.iter().filter_map(|d| d["reasoning_content"].as_str()).collect();
    assert_eq!(shown, "ab\n\nc\n\nd");
    let details: Vec<&Value> = deltas.iter().filter_map(|d| d.get("reasoning_details")).collect();
    assert_eq!(
        details,
        [&json!([{"type": "reasoning.text", "text": "ab", "index": 0},
            {"type": "reasoning.text", "text": "c", "signature": "s", "format": "anthropic-claude-v1", "index": 0}])]
    );
}

#[test]
fn an_error_is_the_last_word() {
    let refused = Kind::UpstreamRefused { status: 529, reason: Refused::Overloaded, retry_after: None };
    let (chunks, done, _) = written(
        vec![
            Event::Start(Start::default()),
            Event::Error(Error::new(refused, "full")),
            stop(StopReason::End),
            Event::End,
        ],
        &REPLY,
    );
    assert!(!done && chunks.len() == 2);
    assert_eq!(chunks[1]["error"]["type"], "overloaded_error");
}

#[test]
fn what_has_no_place_in_a_stream_is_booked_and_odd_orders_harm_nothing() {
    let native = Native { dialect: Dialect::Anthropic, kind: "x".into(), json: "{}".into(), at: At::NOWHERE };
    let (chunks, done, losses) = written(
        vec![
            piece(3, Delta::Text("lost".into())),
            close(9),
            open(0, Open::Whole(Block::Native(native))),
            close(0),
            Event::Extra { dialect: Dialect::Gemini, name: "grounding".into(), json: "{}".into() },
            Event::Open { choice: 2, block: 0, open: Open::Text },
            piece(0, Delta::Arguments("{}".into())),
            Event::Stop {
                choice: 2,
                stop: Stop { reason: StopReason::Refusal, sequence: None, detail: Some(Cow::Borrowed("no")) },
            },
            Event::End,
            Event::End,
        ],
        &REPLY,
    );
    assert!(done);
    assert_eq!(losses, 2);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "content_filter");
}

#[test]
fn a_relayed_stream_keeps_several_choices_apart() {
    let chunk = |index: u32, more: Value| json!({"id": "x", "choices": [{"index": index, "delta": more}]});
    let ends = |index: u32| json!({"id": "x", "choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]});
    let stream = sse(&[
        chunk(1, json!({"content": "b"})),
        chunk(0, json!({"content": "a"})),
        chunk(1, json!({"content": "B"})),
        ends(1),
        ends(0),
    ]);
    let (out, _) = relayed(stream.as_bytes(), &REPLY);
    let (again, _) = folded(&out, 13).unwrap();
    let out = replied(&again);
    let contents: Vec<&Value> = out["choices"].as_array().unwrap().iter().map(|c| &c["message"]["content"]).collect();
    assert_eq!(contents, ["a", "bB"]);
}

proptest::proptest! {
    /// Whatever comes, nothing panics, and what is said keeps the order of events.
    #[test]
    fn any_chunks_keep_the_order(chunks in proptest::collection::vec(chunk(), 0..12), cut in 1usize..40) {
        let stream = sse(&chunks);
        let mut fold = crate::chat::Fold::new(Dialect::OpenAiChat);
        if decoded(stream.as_bytes(), cut, &mut |event| fold.push(event)).is_ok() {
            proptest::prop_assert_eq!(&fold.faults, &Vec::<String>::new());
            let (out, _) = relayed(stream.as_bytes(), &REPLY);
            proptest::prop_assert!(fold.error.is_some() || folded(&out, cut).is_ok());
        }
    }
}

fn chunk() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let call = (prop::option::of(0u32..3), prop::option::of("[ab]"), prop::option::of("[fg]"), "[x{}]{0,3}")
        .prop_map(|(index, id, name, arguments)| json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}}));
    let detail = (0u32..3, prop::option::of("[st]"), prop::option::of("[xy]"), prop::bool::ANY).prop_map(
        |(index, seal, text, encrypted)| {
            if encrypted {
                json!({"type": "reasoning.encrypted", "data": seal, "index": index, "format": "anthropic-claude-v1"})
            } else {
                json!({"type": "reasoning.text", "signature": seal, "text": text, "index": index})
            }
        },
    );
    let delta = prop_oneof![
        "[ab]{0,2}".prop_map(|text| json!({"content": text})),
        "[ab]{0,2}".prop_map(|text| json!({"refusal": text})),
        "[ab]{0,2}".prop_map(|text| json!({"reasoning": text})),
        prop::collection::vec(call, 1..3).prop_map(|calls| json!({"tool_calls": calls})),
        prop::collection::vec(detail, 1..3).prop_map(|details| json!({"reasoning_details": details})),
        Just(json!({"annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]})),
        Just(json!({"images": [{"image_url": {"url": "data:image/png;base64,AA=="}}]})),
        Just(json!({"extra_content": {"google": {"thought_signature": "g"}}})),
    ];
    (0u32..3, delta, prop::option::of("stop|tool_calls")).prop_map(|(index, delta, finish)| {
        json!({"id": "x", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]})
    })
}
