//! Prompts in, completions out; and what recorded traffic shows of both.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Completions;
use crate::chat::block::Refusal;
use crate::chat::{
    Block, Choice, Delta, Dialect, Event, How, Logprob, Open, Response, Role, Start, Stop, StopReason, Thinking,
    Thought, Usage,
};
use crate::dialect::codec::{Inbound, ReplyTo};
use crate::dialect::sse;
use crate::dialect::task::tests::{Body, exchanges, reply_to};
use crate::error::Error;
use crate::json::{At, Node, Paths};
use crate::units::Tokens;

// === requests ===

#[test]
fn a_prompt_is_a_turn_of_the_user() {
    let text = json!({"model": "m", "prompt": ["Say hi"], "max_tokens": 5, "temperature": 0.70, "top_p": 1, "n": 2,
        "stop": "\n", "seed": -3, "user": "u", "logprobs": 2, "presence_penalty": 0, "frequency_penalty": 0.5,
        "stream": true, "stream_options": {"include_usage": true}, "echo": false, "best_of": 1, "suffix": null,
        "logit_bias": {}, "min_p": 0.1})
    .to_string();
    let body = Node::parse(text.as_bytes()).unwrap();
    assert!(Completions.unsaid(&body).is_empty());
    let request = Completions.decode_request(body).unwrap();
    assert_eq!((&*request.model, request.stream, request.stream_usage), ("m", true, true));
    assert_eq!((request.turns.len(), request.turns[0].role), (1, Role::User));
    let Block::Text(prompt) = &request.turns[0].blocks[0] else { panic!("no text") };
    assert_eq!(prompt.text, "Say hi");
    assert_eq!(Paths::new(text.as_bytes()).of(prompt.at), "prompt");
    assert_eq!(request.max_output.unwrap().value, 5);
    assert_eq!(request.temperature.unwrap().value, "0.7");
    assert_eq!(request.n.unwrap().value, 2);
    assert_eq!(request.stop.unwrap().value, ["\n"]);
    assert_eq!(request.seed.unwrap().value, "-3");
    assert_eq!((request.logprobs.unwrap().value, request.top_logprobs.unwrap().value), (true, 2));
    let extra: Vec<&str> = request.extra.0.iter().map(|member| &*member.name).collect();
    assert_eq!(extra, ["min_p"]);
}

#[test]
fn what_no_conversation_can_say_is_booked() {
    let text = json!({"prompt": "a", "suffix": "z", "echo": true, "best_of": 3, "n": 2,
        "stream_options": {"include_usage": true, "odd": 1}})
    .to_string();
    let body = Node::parse(text.as_bytes()).unwrap();
    let lost: Vec<(How, String)> =
        Completions.unsaid(&body).iter().map(|loss| (loss.how, Paths::new(text.as_bytes()).of(loss.at))).collect();
    assert_eq!(
        lost,
        [
            (How::Essential, "suffix".into()),
            (How::Dropped, "echo".into()),
            (How::Dropped, "best_of".into()),
            (How::Dropped, "stream_options.odd".into())
        ]
    );
    assert!(Completions.decode_request(body).unwrap().extra.is_empty());
}

#[test]
fn a_prompt_that_is_no_text_or_more_than_one_is_refused_at_its_place() {
    for (text, path) in [
        (r#"{"prompt":[1,2]}"#, "prompt[1]"),
        (r#"{"prompt":[[1,2]]}"#, "prompt[0]"),
        (r#"{"prompt":["a","b"]}"#, "prompt[1]"),
        (r#"{"prompt":[]}"#, "prompt"),
        (r#"{"prompt":{}}"#, "prompt"),
        (r#"{"model":"m"}"#, ""),
        (r#"{"prompt":"a","stop":[1]}"#, "stop[0]"),
        (r#"{"prompt":"a","logprobs":true}"#, "logprobs"),
    ] {
        let wrong = Completions.decode_request(Node::parse(text.as_bytes()).unwrap()).unwrap_err();
        assert_eq!(Paths::new(text.as_bytes()).of(wrong.at), path, "{text}");
    }
}

// === replies ===

fn logprob<'a>(token: &'a str, logprob: &'a str, top: Vec<Logprob<'a>>) -> Logprob<'a> {
    Logprob { token: token.into(), logprob: logprob.into(), bytes: None, top }
}

fn tokens() -> Vec<Logprob<'static>> {
    let top = vec![logprob("Hé", "-0.50", vec![]), logprob("No", "-2", vec![]), logprob("No", "-3", vec![])];
    vec![logprob("Hé", "-0.50", top), logprob("!", "-1e-3", vec![])]
}

fn used() -> Usage {
    Usage { input: Tokens(5), output: Tokens(7), reasoning: Tokens(2), ..Usage::default() }
}

fn thinking() -> Block<'static> {
    Block::Thinking(Thinking {
        thoughts: vec![Thought { text: "hm".into(), summary: false }],
        seal: None,
        redacted: false,
        id: None,
        at: At::NOWHERE,
        extra: Default::default(),
    })
}

fn reply(response: &Response<'_>) -> (Value, Vec<String>) {
    let encoded = Completions.encode_response(response, &reply_to());
    let lost = encoded.losses.iter().map(|loss| format!("{} {}", loss.how.label(), loss.member)).collect();
    (serde_json::from_slice(&encoded.body).unwrap(), lost)
}

#[test]
fn an_answer_is_a_text_completion() {
    let mut response = Response::new(Dialect::Anthropic);
    response.usage = Some(used());
    response.choices = vec![
        Choice {
            blocks: vec![thinking(), Block::text("Hé"), Block::text("!")],
            stop: Some(Stop::new(StopReason::End)),
            logprobs: tokens(),
            ..Choice::default()
        },
        Choice {
            blocks: vec![Block::Refusal(Refusal { text: "no".into(), at: At::NOWHERE })],
            stop: Some(Stop::new(StopReason::Refusal)),
            ..Choice::default()
        },
        Choice::default(),
    ];
    let (body, lost) = reply(&response);
    assert_eq!(
        body,
        json!({"id": "id-1", "object": "text_completion", "created": 1, "model": "m", "choices": [
            {"text": "Hé!", "index": 0, "finish_reason": "stop", "logprobs": {"tokens": ["Hé", "!"],
                "token_logprobs": [-0.50, -1e-3], "top_logprobs": [{"Hé": -0.50, "No": -2}, {}], "text_offset": [0, 2]}},
            {"text": "no", "index": 1, "finish_reason": "content_filter", "logprobs": null},
            {"text": "", "index": 2, "finish_reason": "stop", "logprobs": null},
        ], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 2}}})
    );
    assert_eq!(lost, ["dropped thinking", "changed refusal"]);
}

#[test]
fn every_end_of_an_answer_is_one_of_three_words() {
    for (reason, word) in [
        (StopReason::Length, "length"),
        (StopReason::ContextWindow, "length"),
        (StopReason::Sequence, "stop"),
        (StopReason::ToolUse, "stop"),
        (StopReason::Pause, "stop"),
        (StopReason::ContentFilter, "content_filter"),
        (StopReason::Other("x".into()), "stop"),
    ] {
        let mut response = Response::new(Dialect::Gemini);
        response.choices = vec![Choice { stop: Some(Stop::new(reason)), ..Choice::default() }];
        assert_eq!(reply(&response).0["choices"][0]["finish_reason"], word);
    }
}

// === streams ===

fn streamed(events: Vec<Event<'_>>, to: &ReplyTo<'_>) -> (Vec<Value>, String, Vec<String>) {
    let mut encoder = Completions.stream_encoder(to);
    let mut out = Vec::new();
    for event in events {
        encoder.push(event, &mut out);
    }
    let lost = encoder.losses().iter().map(|loss| format!("{} {}", loss.how.label(), loss.member)).collect();
    let (chunks, last) = read(&out);
    (chunks, last, lost)
}

/// The chunks, and the last frame when it is none.
fn read(stream: &[u8]) -> (Vec<Value>, String) {
    let mut frames = sse::Frames::default();
    let (mut chunks, mut last) = (Vec::new(), String::new());
    frames
        .push(Bytes::copy_from_slice(stream), |frame| {
            let data = sse::Event::read(&frame).data.unwrap().into_owned();
            match serde_json::from_slice(&data) {
                Ok(chunk) => chunks.push(chunk),
                Err(_) => last = String::from_utf8(data).unwrap(),
            }
        })
        .unwrap();
    assert!(frames.finish().is_empty());
    (chunks, last)
}

fn text(choice: u32, text: &str) -> Event<'_> {
    Event::Delta { choice, block: 0, delta: Delta::Text(text.into()) }
}

#[test]
fn a_stream_is_chunks_of_text_completions() {
    let open = |block, open| Event::Open { choice: 0, block, open };
    let thought = Delta::Thought { part: 0, summary: false, text: "hm".into() };
    let events = || {
        vec![
            Event::Start(Start { id: Some("cmpl-1".into()), model: Some("x".into()), ..Start::default() }),
            Event::Ping,
            open(0, Open::Thinking { redacted: false, id: None }),
            Event::Delta { choice: 0, block: 0, delta: thought.clone() },
            Event::Close { choice: 0, block: 0 },
            open(1, Open::Text),
            text(0, "Hé"),
            text(0, "!"),
            Event::Delta { choice: 0, block: 1, delta: Delta::Logprobs(tokens()) },
            Event::Delta { choice: 0, block: 1, delta: Delta::Logprobs(tokens()) },
            Event::Close { choice: 0, block: 1 },
            Event::Stop { choice: 0, stop: Stop::new(StopReason::Length) },
            Event::Usage(used()),
            Event::End,
            text(0, "late"),
        ]
    };
    let (chunks, last, lost) = streamed(events(), &reply_to());
    assert_eq!((chunks.len(), last.as_str()), (6, "[DONE]"));
    assert_eq!(lost, ["dropped thinking"]);
    assert_eq!(
        chunks[0],
        json!({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "x", "usage": null,
        "choices": [{"text": "Hé", "index": 0, "logprobs": null, "finish_reason": null}]})
    );
    assert_eq!(chunks[3]["choices"][0]["logprobs"]["text_offset"], json!([3, 5]));
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "length");
    assert_eq!((&chunks[5]["choices"], &chunks[5]["usage"]["total_tokens"]), (&json!([]), &json!(12)));

    let (chunks, _, _) = streamed(events(), &ReplyTo { stream_usage: false, ..reply_to() });
    assert_eq!(chunks.len(), 5);
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[test]
fn a_stream_that_breaks_says_so_and_ends() {
    let (chunks, last, _) = streamed(vec![text(0, "a"), Event::Error(Error::internal("oh")), Event::End], &reply_to());
    assert_eq!((chunks.len(), last.as_str()), (2, ""));
    assert_eq!(chunks[1]["error"]["message"], "oh");
    assert_eq!(chunks[0]["id"], "id-1");
}

#[test]
fn any_order_of_events_is_written_without_a_panic() {
    let far = u32::MAX;
    let events = vec![
        Event::Stop { choice: far, stop: Stop::new(StopReason::End) },
        Event::Close { choice: 3, block: 9 },
        Event::Delta { choice: far, block: far, delta: Delta::Logprobs(tokens()) },
        Event::Open { choice: 1, block: 0, open: Open::Whole(Block::text("whole")) },
        Event::Extra { dialect: Dialect::Gemini, name: "grounding".into(), json: "{}".into() },
        Event::Start(Start::default()),
        Event::End,
    ];
    let (chunks, last, lost) = streamed(events, &reply_to());
    assert_eq!((chunks.len(), last.as_str(), lost.join(",").as_str()), (3, "[DONE]", "dropped grounding"));
}

// === recorded traffic ===

#[test]
fn recorded_prompts_are_read_or_refused_for_their_tokens() {
    let (mut read, mut refused) = (0, 0);
    for exchange in exchanges(|api| api.ends_with(".completions")) {
        let text = exchange.request.to_string();
        let body = Node::parse(text.as_bytes()).unwrap();
        let unsaid = Completions.unsaid(&body);
        assert_eq!(unsaid.is_empty(), exchange.request["suffix"].is_null(), "{}", exchange.id);
        match Completions.decode_request(body) {
            Ok(request) => {
                assert!(request.extra.is_empty(), "{}: {:?}", exchange.id, request.extra);
                read += 1;
            }
            Err(wrong) => {
                assert!(exchange.request["prompt"].is_array(), "{}: {wrong:?}", exchange.id);
                refused += 1;
            }
        }
    }
    println!("{read} read, {refused} refused");
}

/// Our replies have the members of the recorded ones, in every place.
#[test]
fn replies_have_the_shape_of_recorded_ones() {
    let mut response = Response::new(Dialect::OpenAiChat);
    response.usage = Some(used());
    response.choices = vec![Choice { blocks: vec![Block::text("a")], logprobs: tokens(), ..Choice::default() }; 4];
    let (whole, _) = reply(&response);
    let events = vec![
        text(0, "a"),
        Event::Stop { choice: 0, stop: Stop::new(StopReason::End) },
        Event::Usage(used()),
        Event::End,
    ];
    let (chunks, _, _) = streamed(events, &reply_to());
    let mut seen = 0;
    for exchange in exchanges(|api| api.ends_with(".completions")).into_iter().filter(|e| e.status == 200) {
        match exchange.body {
            Body::Json(body) => has(&whole, &body, &exchange.id),
            Body::Text(text) => {
                let (theirs, last) = self::read(text.as_bytes());
                assert_eq!(last, "[DONE]");
                for theirs in theirs {
                    let usage = theirs["usage"].is_object();
                    has(chunks.iter().find(|ours| ours["usage"].is_object() == usage).unwrap(), &theirs, &exchange.id);
                }
            }
            Body::None => panic!("{}: no body", exchange.id),
        }
        seen += 1;
    }
    println!("{seen} replies");
}

fn has(ours: &Value, theirs: &Value, id: &str) {
    match theirs {
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(name, _)| *name != "stop_reason") {
                let found = ours.get(name);
                if name == "top_logprobs" {
                    continue;
                }
                let found = found.unwrap_or_else(|| panic!("{id}: {name} is missing in {ours}"));
                if !found.is_null() && !value.is_null() {
                    assert_eq!(
                        std::mem::discriminant(found),
                        std::mem::discriminant(value),
                        "{id}: {name} is another kind of value"
                    );
                }
                has(found, value, id);
            }
        }
        Value::Array(items) => {
            if let (Some(ours), Some(theirs)) = (ours.get(0), items.first()) {
                has(ours, theirs, id);
            }
        }
        _ => {}
    }
}
