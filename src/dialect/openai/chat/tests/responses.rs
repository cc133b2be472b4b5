//! Answers no recording has: of vendors' odd habits, and of other dialects on their way to a client.

use serde_json::{Value, json};

use super::{REPLY, replied, response};
use crate::chat::block::{Native, Refusal, ServerResult};
use crate::chat::{
    Block, CallKind, Choice, Citation, Dialect, Extra, Issuer, Logprob, Media, MediaKind, Response, Seal,
    ServerToolKind, Source, Stop, StopReason, Text, Thinking, Thought, ToolCall, Usage,
};
use crate::dialect::{Inbound, Origin, Outbound};
use crate::json::{At, Node};
use crate::units::Tokens;

fn foreign(blocks: Vec<Block<'static>>, stop: StopReason<'static>) -> Response<'static> {
    let choice = Choice { blocks, stop: Some(Stop::new(stop)), ..Choice::default() };
    Response { choices: vec![choice], ..Response::new(Dialect::Anthropic) }
}

fn thinking(text: &'static str, issuer: Issuer, redacted: bool) -> Block<'static> {
    let thoughts = if text.is_empty() { vec![] } else { vec![Thought { text: text.into(), summary: false }] };
    Block::Thinking(Thinking {
        thoughts,
        seal: Some(Seal::new(issuer, "sig")),
        redacted,
        id: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    })
}

fn call(seal: Option<Seal<'static>>) -> Block<'static> {
    Block::ToolCall(ToolCall {
        id: "toolu_1".into(),
        name: "f".into(),
        kind: CallKind::Function,
        arguments: "".into(),
        cache: None,
        seal,
        item_id: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    })
}

fn message(response: &Response<'_>) -> Value {
    replied(response)["choices"][0]["message"].clone()
}

/// A chat completion with this message and end.
fn chat(message: &Value, finish: &str) -> String {
    json!({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}).to_string()
}

fn stop_of(text: &str) -> StopReason<'_> {
    response(text).choices.into_iter().next().and_then(|choice| choice.stop).expect("a stop").reason
}

#[test]
fn a_reply_has_every_member_the_sdks_require() {
    let out = replied(&foreign(vec![Block::text("a")], StopReason::End));
    assert_eq!(
        out,
        json!({"id": "call-1", "object": "chat.completion", "created": 7, "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "a", "refusal": null}, "logprobs": null,
             "finish_reason": "stop"}]})
    );
}

#[test]
fn the_content_is_null_where_something_else_is_said() {
    assert_eq!(message(&foreign(vec![call(None)], StopReason::ToolUse))["content"], Value::Null);
    let refusal = Block::Refusal(Refusal { text: "no".into(), at: At::NOWHERE });
    let out = message(&foreign(vec![refusal], StopReason::Refusal));
    assert_eq!((&out["content"], &out["refusal"]), (&Value::Null, &json!("no")));
    assert_eq!(message(&foreign(vec![], StopReason::End))["content"], "");
    let texts = vec![Block::text("a"), Block::text("b")];
    assert_eq!(message(&foreign(texts, StopReason::End))["content"], "ab");
}

#[test]
fn thinking_is_shown_and_its_seals_come_back_from_the_client() {
    let blocks = vec![
        thinking("hm", Issuer::Anthropic, false),
        thinking("", Issuer::Anthropic, true),
        thinking("", Issuer::OpenAi, false),
        thinking("b", Issuer::Bedrock, false),
        Block::Text(Text { seal: Some(Seal::new(Issuer::Gemini, "g")), ..Text::new("x") }),
        call(Some(Seal::new(Issuer::Gemini, "c"))),
    ];
    let answer = foreign(blocks, StopReason::ToolUse);
    let out = message(&answer);
    assert_eq!(out["reasoning_content"], "hm\n\nb");
    assert_eq!(out["tool_calls"][0]["extra_content"], json!({"google": {"thought_signature": "c"}}));
    assert_eq!(out["tool_calls"][0]["function"]["arguments"], "{}");
    let text = json!({"messages": [out]}).to_string();
    let read = super::request(&text);
    let seals = read.turns[0].blocks.iter().filter_map(|block| match block {
        Block::Thinking(t) => t.seal.as_ref().map(|s| (s.issuer, t.redacted, t.thoughts.len())),
        Block::ToolCall(call) => call.seal.as_ref().map(|s| (s.issuer, false, 9)),
        _ => None,
    });
    let seals: Vec<_> = seals.collect();
    assert_eq!(
        seals,
        [
            (Issuer::Anthropic, false, 1),
            (Issuer::Anthropic, true, 0),
            (Issuer::OpenAi, false, 0),
            (Issuer::Bedrock, false, 1),
            (Issuer::Gemini, false, 0),
            (Issuer::Gemini, false, 9)
        ]
    );
}

#[test]
fn unsealed_thinking_has_no_details() {
    let Block::Thinking(plain) = thinking("hm", Issuer::Other, false) else { unreachable!() };
    let out = message(&foreign(vec![Block::Thinking(Thinking { seal: None, ..plain })], StopReason::End));
    assert_eq!((&out["reasoning_content"], out.get("reasoning_details")), (&json!("hm"), None));
}

#[test]
fn sources_are_placed_in_the_whole_content() {
    let cite = |url: Option<&'static str>, span| Citation {
        url: url.map(Into::into),
        text_span: span,
        document: Some(0),
        ..Citation::default()
    };
    let cited = Text {
        citations: vec![cite(Some("u"), Some((0, 1))), cite(Some("v"), None), cite(None, None)],
        ..Text::new("äb")
    };
    let answer = foreign(vec![Block::text("xyz"), Block::Text(cited)], StopReason::End);
    let encoded = super::Chat.encode_response(&answer, &REPLY);
    assert_eq!(encoded.losses.iter().map(|loss| &*loss.member).collect::<Vec<_>>(), ["citations"]);
    let annotation = |url, start, end| json!({"type": "url_citation", "url_citation": {"url": url, "title": "", "start_index": start, "end_index": end}});
    assert_eq!(message(&answer)["annotations"], json!([annotation("u", 3, 4), annotation("v", 3, 5)]));
}

#[test]
fn each_reason_to_end_has_openai_s_word() {
    for (reason, word, told) in [
        (StopReason::Length, "length", true),
        (StopReason::Sequence, "stop", true),
        (StopReason::ContentFilter, "content_filter", true),
        (StopReason::Refusal, "content_filter", true),
        (StopReason::ContextWindow, "length", true),
        (StopReason::Pause, "stop", false),
        (StopReason::Other("weird".into()), "stop", false),
    ] {
        let encoded = super::Chat.encode_response(&foreign(vec![Block::text("a")], reason), &REPLY);
        let out: Value = serde_json::from_slice(&encoded.body).unwrap();
        assert_eq!(out["choices"][0]["finish_reason"], word);
        assert_eq!(encoded.losses.is_empty(), told, "{word}");
    }
    let mut refused = foreign(vec![], StopReason::Refusal);
    refused.choices[0].stop.as_mut().unwrap().detail = Some("because".into());
    assert_eq!(message(&refused)["refusal"], "because");
}

#[test]
fn each_vendor_s_word_for_an_end_is_read() {
    let call = json!([{"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}]);
    for (message, word, reason) in [
        (json!({"content": "a"}), "stop", StopReason::End),
        (json!({"content": "a"}), "eos", StopReason::End),
        (json!({"content": "a"}), "model_length", StopReason::ContextWindow),
        (json!({"content": "a"}), "SAFETY", StopReason::ContentFilter),
        (
            json!({"content": "a"}),
            "insufficient_system_resource",
            StopReason::Other("insufficient_system_resource".into()),
        ),
        (json!({"tool_calls": call}), "stop", StopReason::ToolUse),
        (json!({"tool_calls": call}), "length", StopReason::Length),
        (json!({"refusal": "no"}), "stop", StopReason::Refusal),
        (
            json!({"content": "a", "function_call": {"name": "f", "arguments": "{}"}}),
            "function_call",
            StopReason::ToolUse,
        ),
    ] {
        assert_eq!(stop_of(&chat(&message, word)), reason, "{word}");
    }
    let met = r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop","stop_reason":"%%"}]}"#;
    let stop = response(met).choices[0].stop.clone().unwrap();
    assert_eq!((stop.reason, stop.sequence.as_deref()), (StopReason::Sequence, Some("%%")));
}

#[test]
fn a_spoken_answer_and_images_come_back() {
    let audio = json!({"id": "audio_1", "data": "SUQzBA==", "expires_at": 5, "transcript": "hi"});
    let images = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}, "index": 0}]);
    let text = chat(&json!({"content": null, "audio": audio, "images": images}), "stop");
    let read = response(&text);
    let kinds: Vec<_> = read.choices[0]
        .blocks
        .iter()
        .map(|block| match block {
            Block::Media(Media { kind, source: Source::Base64 { media_type, .. }, .. }) => (*kind, &**media_type),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [(MediaKind::Image, "image/png"), (MediaKind::Audio, "audio/mpeg")]);
    let out = message(&read);
    assert_eq!((&out["audio"], &out["images"], &out["content"]), (&audio, &images, &Value::Null));
}

#[test]
fn calls_without_ids_get_some_that_differ_between_answers() {
    let text = |id: &str| {
        json!({"id": id, "choices": [{"message": {"tool_calls": [
            {"id": "", "function": {"name": "f", "arguments": {"a": 1}}},
            {"function": {"name": "g"}}, {"custom": {"name": "", "input": ""}, "function": {"name": "", "arguments": ""}}]}}]})
        .to_string()
    };
    let calls = |id: &str| -> Vec<(String, String)> {
        let text = text(id);
        let blocks = response(&text).choices.remove(0).blocks;
        let call = |block: Block<'_>| match block {
            Block::ToolCall(call) => (call.id.into_owned(), call.arguments.into_owned()),
            other => panic!("{other:?}"),
        };
        blocks.into_iter().map(call).collect()
    };
    let first = calls("chatcmpl-AAA");
    assert_eq!(first.iter().map(|(_, a)| &**a).collect::<Vec<_>>(), [r#"{"a":1}"#, ""]);
    assert_ne!(first[0].0, first[1].0);
    assert_ne!(first[0].0, calls("chatcmpl-BBB")[0].0);
}

#[test]
fn choices_stand_in_their_order_with_what_only_the_vendor_knows() {
    let text = json!({"id": "x", "system_fingerprint": "fp", "citations": ["u"], "service_tier": "on_demand", "choices": [
        {"index": 1, "message": {"content": "b"}, "finish_reason": "stop"},
        {"index": 0, "message": {"content": "a", "executed_tools": [1]}, "finish_reason": "stop", "seed": 3,
         "logprobs": {"content": [{"token": "a", "logprob": -0.10, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -0.1, "bytes": null}]}], "refusal": null}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.5}})
    .to_string();
    let read = response(&text);
    assert_eq!(read.choices[0].logprobs[0].logprob, "-0.1");
    let out = replied(&read);
    let first = &out["choices"][0];
    assert_eq!((&first["message"]["content"], &first["message"]["executed_tools"]), (&json!("a"), &json!([1])));
    assert_eq!((&first["seed"], &first["logprobs"]["content"][0]["bytes"]), (&json!(3), &json!([97])));
    assert_eq!(
        (&out["system_fingerprint"], &out["citations"], &out["usage"]["cost"]),
        (&json!("fp"), &json!(["u"]), &json!(0.5))
    );
    // of another dialect, these mean nothing
    let foreign = Response { dialect: Dialect::Anthropic, ..read };
    let encoded = super::Chat.encode_response(&foreign, &REPLY);
    let out: Value = serde_json::from_slice(&encoded.body).unwrap();
    assert!(out.get("citations").is_none() && out["choices"][0].get("seed").is_none());
    assert_eq!(encoded.losses.count, 6);
}

#[test]
fn usage_is_told_in_openai_s_convention() {
    let usage = Usage {
        input: Tokens(100),
        cache_read: Tokens(30),
        cache_write_5m: Tokens(20),
        cache_write_1h: Tokens(10),
        output: Tokens(7),
        reasoning: Tokens(3),
        server_tool_calls: 2,
        ..Usage::default()
    };
    let answer = Response { usage: Some(usage), ..foreign(vec![], StopReason::End) };
    assert_eq!(
        replied(&answer)["usage"],
        json!({"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107,
            "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 0, "cache_write_tokens": 30},
            "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
            "server_tool_use_details": {"web_search_requests": 2}})
    );
}

#[test]
fn what_has_no_place_is_booked() {
    let ran = ServerResult {
        id: "1".into(),
        tool: ServerToolKind::WebSearch,
        sources: Vec::new(),
        output: None,
        native: None,
        at: At::new(3),
    };
    let native = Native { dialect: Dialect::Anthropic, kind: "x".into(), json: "{}".into(), at: At::new(4) };
    let answer = foreign(vec![Block::ServerResult(ran), Block::Native(native)], StopReason::End);
    assert_eq!(super::Chat.encode_response(&answer, &REPLY).losses.count, 2);
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    for text in [
        "{}",
        "[]",
        r#"{"error":{"message":"x"}}"#,
        r#"{"choices":{}}"#,
        r#"{"choices":[{"error":{"code":502},"message":{"content":"a"}}]}"#,
    ] {
        let node = Node::parse_reply(text.as_bytes()).unwrap();
        assert!(super::Chat.decode_response(node, &Origin { model: "m" }).is_err(), "{text}");
    }
    for text in [r#"{"choices":[]}"#, r#"{"choices":[1,{"message":5},{"index":-1,"message":{"content":{}}}]}"#] {
        replied(&response(text));
    }
}

#[test]
fn logprobs_of_a_refusal_stand_beside_the_refusal() {
    let logprob = Logprob { token: "n".into(), logprob: "-1".into(), bytes: None, top: Vec::new() };
    let refusal = Block::Refusal(Refusal { text: "no".into(), at: At::NOWHERE });
    let mut answer = foreign(vec![refusal], StopReason::Refusal);
    answer.choices[0].logprobs = vec![logprob];
    let out = replied(&answer);
    assert_eq!(out["choices"][0]["logprobs"]["refusal"][0]["token"], "n");
}
