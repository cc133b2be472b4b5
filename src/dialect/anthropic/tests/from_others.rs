//! Requests that were written in other dialects: what becomes of them, and what is booked.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Anthropic, encoded, node};
use crate::chat::block::{Native, ServerCall};
use crate::chat::{
    Block, CallKind, Dialect, Effort, Extra, Format, Function, How, Issuer, Losses, Media, MediaKind, Param, Reasoning,
    Request, Role, Schema, Seal, ServerTool, ServerToolKind, Source, Text, Thinking, Thought, Tool, ToolCall,
    ToolChoice, ToolResult, Turn,
};
use crate::dialect::{Inbound, Manners, Outbound};
use crate::json::At;

const MODEL: &str = "claude-sonnet-4-5";

fn at(n: usize) -> At {
    At::new(n)
}

fn asked(turns: Vec<Turn<'static>>) -> Request<'static> {
    Request { turns, ..Request::new(Dialect::OpenAiChat) }
}

fn turn(role: Role, blocks: Vec<Block<'static>>) -> Turn<'static> {
    Turn { at: at(5), ..Turn::new(role, blocks) }
}

fn says(role: Role, text: &'static str) -> Turn<'static> {
    turn(role, vec![Block::text(text)])
}

fn call(id: &'static str, arguments: &'static str) -> Block<'static> {
    Block::ToolCall(ToolCall {
        id: id.into(),
        name: "f".into(),
        kind: CallKind::Function,
        arguments: arguments.into(),
        cache: None,
        seal: None,
        item_id: None,
        at: at(6),
        extra: Extra::default(),
    })
}

fn result(id: &'static str, blocks: Vec<Block<'static>>) -> Block<'static> {
    Block::ToolResult(ToolResult {
        id: id.into(),
        name: None,
        kind: CallKind::Function,
        blocks,
        error: None,
        cache: None,
        at: at(7),
        extra: Extra::default(),
    })
}

fn media(kind: MediaKind, source: Source<'static>) -> Block<'static> {
    let place = if kind == MediaKind::Audio { at(8) } else { at(12) };
    Block::Media(Media {
        kind,
        source,
        name: None,
        context: None,
        detail: None,
        citations: None,
        cache: None,
        seal: None,
        at: place,
        extra: Extra::default(),
    })
}

fn thinking(seal: Option<Seal<'static>>) -> Block<'static> {
    Block::Thinking(Thinking {
        thoughts: vec![Thought { text: "hm".into(), summary: false }],
        seal,
        redacted: false,
        id: None,
        at: at(9),
        extra: Extra::default(),
    })
}

fn function(name: &'static str, strict: Option<bool>, schema: &'static str) -> Tool<'static> {
    Tool::Function(Function {
        name: name.into(),
        description: None,
        kind: CallKind::Function,
        parameters: Some(schema.into()),
        strict,
        cache: None,
        at: at(10),
        extra: Extra::default(),
    })
}

/// Each at a place of its own.
fn param<T>(value: T) -> Option<Param<T>> {
    static NEXT: AtomicUsize = AtomicUsize::new(1_000);
    Some(Param { value, at: at(NEXT.fetch_add(1, Ordering::Relaxed)) })
}

fn hows(losses: &Losses) -> Vec<How> {
    losses.iter().map(|loss| loss.how).collect()
}

#[test]
fn a_chat_becomes_a_conversation() {
    let request = Request {
        temperature: param("0.70".into()),
        user: param("u1".into()),
        max_output: param(100),
        stop: param(vec!["END".into()]),
        stream: true,
        ..asked(vec![
            says(Role::System, "Be brief."),
            says(Role::Developer, "And kind."),
            says(Role::User, "Hi"),
            says(Role::User, "there"),
            turn(Role::Assistant, vec![Block::text("  \n"), call("call_1", "")]),
            turn(Role::User, vec![Block::text("and?"), result("call_1", vec![Block::text("22")])]),
        ])
    };
    let (body, losses) = encoded(&request, MODEL);
    assert_eq!(
        body,
        json!({
            "model": MODEL, "max_tokens": 100, "temperature": 0.70, "stream": true,
            "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "And kind."}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "f", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "22"}, {"type": "text", "text": "and?"}]},
            ],
            "stop_sequences": ["END"], "metadata": {"user_id": "u1"},
        })
    );
    // the blank text, and the order of the last turn
    assert_eq!(hows(&losses), [How::Changed, How::Changed]);
}

#[test]
fn the_user_begins_and_has_the_last_word() {
    let ends = |model: &str, turns| {
        let (body, losses) = encoded(&asked(turns), model);
        let messages = body["messages"].as_array().unwrap().clone();
        let said: Vec<String> = messages.iter().map(|m| format!("{}: {}", m["role"], m["content"])).collect();
        (said.join(" | ").replace('"', ""), losses.count)
    };
    let go_on = "user: (continue)";
    for (model, turns, expected, count) in [
        (MODEL, vec![says(Role::System, "x")], go_on.to_owned(), 1),
        (
            MODEL,
            vec![says(Role::Assistant, "a"), says(Role::User, "b")],
            format!("{go_on} | assistant: a | user: b"),
            1,
        ),
        (MODEL, vec![says(Role::User, "a"), says(Role::Assistant, "b \n")], "user: a | assistant: b".to_owned(), 1),
        (
            "claude-opus-4-6",
            vec![says(Role::User, "a"), says(Role::Assistant, "b")],
            format!("user: a | assistant: b | {go_on}"),
            1,
        ),
    ] {
        assert_eq!(ends(model, turns), (expected, count), "{model}");
    }
}

#[test]
fn later_instructions_stay_where_they_were_said() {
    let (body, losses) = encoded(
        &asked(vec![
            says(Role::User, "a"),
            says(Role::Assistant, "b"),
            says(Role::Developer, "obey"),
            says(Role::User, "c"),
        ]),
        MODEL,
    );
    assert!(body.get("system").is_none());
    assert_eq!(body["messages"][2]["content"][0]["text"], "<system>\nobey\n</system>");
    assert_eq!(hows(&losses), [How::Changed]);

    let own = r#"{"messages":[{"role":"user","content":"a"},{"role":"system","content":"obey"}],"max_tokens":5}"#;
    for (model, role) in [("claude-opus-5", "system"), ("claude-sonnet-4-5", "user"), ("another-vendor", "system")] {
        let (body, losses) = encoded(&Anthropic.decode_request(node(own)).unwrap(), model);
        assert_eq!(body["messages"][1]["role"], role, "{model}");
        assert_eq!(losses.is_empty(), role == "system");
    }
}

#[test]
fn thoughts_go_back_only_to_who_sealed_them() {
    let sealed = |issuer| thinking(Some(Seal::new(issuer, "sig")));
    for (block, kept) in [(sealed(Issuer::Anthropic), true), (sealed(Issuer::OpenAi), false), (thinking(None), false)] {
        let turns =
            vec![says(Role::User, "a"), turn(Role::Assistant, vec![block, Block::text("b")]), says(Role::User, "c")];
        let (body, losses) = encoded(&asked(turns), MODEL);
        let first = &body["messages"][1]["content"];
        assert_eq!(first[0]["type"] == "thinking" && first[0]["signature"] == "sig", kept, "{first}");
        assert_eq!(losses.count, usize::from(!kept));
    }
    // a seal of another issuer that a client of this dialect carried
    let packed = Seal::new(Issuer::Gemini, "g").pack(Issuer::Anthropic).into_owned();
    let own = json!({"max_tokens": 5, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content":
        [{"type": "thinking", "thinking": "", "signature": packed}]}, {"role": "user", "content": "c"}]})
    .to_string();
    let (body, losses) = encoded(&Anthropic.decode_request(node(&own)).unwrap(), MODEL);
    assert_eq!((body["messages"].as_array().unwrap().len(), losses.count), (2, 1));
}

#[test]
fn ids_that_the_grammar_refuses_are_changed_alike_in_call_and_result() {
    let turns = vec![
        says(Role::User, "a"),
        turn(Role::Assistant, vec![call("functions.f:0", "{\"a\": 1.0}"), call("c2", "{\"a")]),
        turn(Role::User, vec![result("functions.f:0", vec![]), result("c2", vec![])]),
    ];
    let (body, losses) = encoded(&asked(turns), MODEL);
    let (calls, results) = (&body["messages"][1]["content"], &body["messages"][2]["content"]);
    assert_eq!(calls[0]["id"], results[0]["tool_use_id"]);
    assert!(calls[0]["id"].as_str().unwrap().starts_with("functions_f_0_"));
    assert_eq!(calls[1]["input"], json!({"INVALID_JSON": "{\"a"}));
    assert_eq!(hows(&losses), [How::Changed; 3]);
}

#[test]
fn media_has_its_form_or_is_booked() {
    let base64 = |media_type: &'static str, data: &'static str| Source::Base64 {
        media_type: media_type.into(),
        data: data.into(),
    };
    let url = |url: &'static str| Source::Url { url: url.into(), media_type: None };
    let file = |dialect| Source::File { id: "f1".into(), dialect, media_type: None };
    let (image, document) = (MediaKind::Image, MediaKind::Document);
    for (kind, source, expected, how) in [
        (image, base64("image/png", "AA"), json!({"type": "base64", "media_type": "image/png", "data": "AA"}), None),
        (image, url("https://e.test/a.png"), json!({"type": "url", "url": "https://e.test/a.png"}), None),
        (image, url("gs://b/a.png"), Value::Null, Some(How::Essential)),
        (image, file(Dialect::OpenAiChat), Value::Null, Some(How::Essential)),
        (image, file(Dialect::Anthropic), json!({"type": "file", "file_id": "f1"}), None),
        (
            document,
            base64("text/plain", "aGk="),
            json!({"type": "text", "media_type": "text/plain", "data": "hi"}),
            None,
        ),
        (
            document,
            base64("text/csv", "aGk="),
            json!({"type": "text", "media_type": "text/plain", "data": "hi"}),
            Some(How::Changed),
        ),
        (document, base64("application/msword", "aGk="), Value::Null, Some(How::Essential)),
        (MediaKind::Audio, base64("audio/wav", "AA"), Value::Null, Some(How::Essential)),
    ] {
        let (body, losses) =
            encoded(&asked(vec![turn(Role::User, vec![Block::text("see"), media(kind, source)])]), MODEL);
        let block = &body["messages"][0]["content"][1];
        assert_eq!(block.get("source").cloned().unwrap_or_default(), expected);
        assert_eq!(hows(&losses), Vec::from_iter(how));
        if expected.is_null() {
            assert!(block["text"].as_str().unwrap().ends_with("omitted]"));
        }
    }
    // what the model itself made, and what a tool returned
    let audio = || media(MediaKind::Audio, base64("audio/wav", "AA"));
    let drawn = media(image, base64("image/png", "AA"));
    let turns = vec![
        says(Role::User, "a"),
        turn(Role::Assistant, vec![drawn, call("c", "{}")]),
        turn(Role::User, vec![result("c", vec![audio()])]),
    ];
    let (body, losses) = encoded(&asked(turns), MODEL);
    assert_eq!(body["messages"][1]["content"][0]["text"], "[image omitted]");
    assert_eq!(body["messages"][2]["content"][0]["content"][0]["text"], "[audio omitted]");
    assert_eq!(hows(&losses), [How::Dropped; 2]);
}

#[test]
fn sampling_is_what_the_model_takes() {
    let sampled = |model: &str, temperature: &'static str, reasoning: Option<Param<Reasoning<'static>>>| {
        let request = Request {
            temperature: param(temperature.into()),
            top_p: param("0.5".into()),
            top_k: param("7".into()),
            reasoning,
            ..asked(vec![says(Role::User, "a")])
        };
        let (body, losses) = encoded(&request, model);
        (body["temperature"].clone(), body["top_p"].clone(), body["top_k"].clone(), losses.count)
    };
    let null = Value::Null;
    assert_eq!(sampled("claude-sonnet-4-0", "1.5", None), (json!(1), json!(0.5), json!(7), 1));
    assert_eq!(sampled(MODEL, "0.2", None), (json!(0.2), null.clone(), json!(7), 1));
    assert_eq!(sampled("claude-opus-4-7", "0.2", None), (null.clone(), null.clone(), null.clone(), 3));
    let high = param(Reasoning { effort: Some(Effort::High), ..Reasoning::default() });
    assert_eq!(sampled(MODEL, "1", high), (null.clone(), null.clone(), null, 2));
}

#[test]
fn thinking_gives_way_to_a_forced_tool_and_to_calls_without_thoughts() {
    let high = || param(Reasoning { effort: Some(Effort::High), ..Reasoning::default() });
    let forced = Request {
        reasoning: high(),
        tools: vec![function("f", None, "{\"type\":\"object\"}")],
        tool_choice: param(ToolChoice::Tool("f".into())),
        ..asked(vec![says(Role::User, "a")])
    };
    let (body, losses) = encoded(&forced, MODEL);
    assert_eq!((body.get("thinking"), &body["tool_choice"]["name"]), (None, &json!("f")));
    assert_eq!(hows(&losses), [How::Dropped]);
    let (body, losses) = encoded(&forced, "claude-opus-5");
    assert_eq!((&body["thinking"]["type"], &body["output_config"]["effort"]), (&json!("adaptive"), &json!("high")));
    assert!(losses.is_empty());
    // forcing is refused by some models outright
    let (body, losses) = encoded(&forced, "claude-opus-5-5");
    assert_eq!((&body["tool_choice"]["type"], hows(&losses)), (&json!("auto"), vec![How::Changed]));

    let waiting = vec![
        says(Role::User, "a"),
        turn(Role::Assistant, vec![call("c", "{}")]),
        turn(Role::User, vec![result("c", vec![Block::text("1")])]),
    ];
    let (body, _) = encoded(&Request { reasoning: high(), ..asked(waiting.clone()) }, MODEL);
    assert_eq!(body.get("thinking"), None);
    let (body, _) = encoded(&Request { reasoning: high(), ..asked(waiting) }, "claude-opus-4-6");
    assert_eq!(body["thinking"], json!({"type": "adaptive"}));
}

#[test]
fn max_tokens_is_always_there_and_within_the_model_s() {
    let with = |model: &str, max_output, effort: Option<Effort<'static>>| {
        let reasoning = effort.and_then(|effort| param(Reasoning { effort: Some(effort), ..Reasoning::default() }));
        let (body, losses) = encoded(&Request { max_output, reasoning, ..asked(vec![says(Role::User, "a")]) }, model);
        (body["max_tokens"].as_u64().unwrap(), body["thinking"]["budget_tokens"].as_u64(), losses.count)
    };
    assert_eq!(with(MODEL, None, None), (64_000, None, 0));
    assert_eq!(with(MODEL, param(100_000), None), (64_000, None, 1));
    assert_eq!(with("claude-3-haiku-20240307", param(100_000), None), (4_096, None, 1));
    assert_eq!(with("another-vendor", param(100_000), None), (100_000, None, 0));
    assert_eq!(with("claude-opus-4-1", None, Some(Effort::Max)), (32_000, Some(16_000), 0));
    assert_eq!(with("another-vendor", None, Some(Effort::Max)), (40_960, Some(32_768), 0));
    assert_eq!(with(MODEL, param(4_000), Some(Effort::High)), (4_000, Some(2_000), 0));
}

#[test]
fn tools_of_others_become_anthropic_s() {
    let server = |kind, name: &'static str| {
        Tool::Server(ServerTool {
            kind,
            name: name.into(),
            allowed_domains: vec!["e.test".into()],
            blocked_domains: Vec::new(),
            max_uses: None,
            user_location: Some(r#"{"type":"approximate","approximate":{"city":"Utrecht","country":"NL"}}"#.into()),
            native: (Dialect::OpenAiChat, "{}".into()),
            cache: None,
            at: at(11),
            extra: Extra::default(),
        })
    };
    let strict = r#"{"type":"object","properties":{},"additionalProperties":false}"#;
    let request = Request {
        tools: vec![
            function("a", Some(true), strict),
            function("b", Some(true), r#"{"type":"object"}"#),
            server(ServerToolKind::WebSearch, "web_search"),
            server(ServerToolKind::Other, "file_search"),
        ],
        parallel_tool_calls: param(false),
        ..asked(vec![says(Role::User, "a")])
    };
    let (body, losses) = encoded(&request, MODEL);
    assert_eq!(
        body["tools"],
        json!([
            {"name": "a", "input_schema": {"type": "object", "properties": {}, "additionalProperties": false}, "strict": true},
            {"name": "b", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["e.test"],
             "user_location": {"type": "approximate", "city": "Utrecht", "country": "NL"}},
        ])
    );
    assert_eq!(body["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!(hows(&losses), [How::Dropped; 2]);

    let chosen = Request { tool_choice: param(ToolChoice::Tool("file_search".into())), ..request.clone() };
    assert!(hows(&encoded(&chosen, MODEL).1).contains(&How::Essential));
    let allowed = ToolChoice::Allowed { names: vec!["a".into()], required: true };
    let (body, _) = encoded(&Request { tool_choice: param(allowed), ..request }, MODEL);
    assert_eq!((body["tools"].as_array().unwrap().len(), &body["tool_choice"]["type"]), (1, &json!("any")));
}

#[test]
fn what_has_no_place_is_booked() {
    let foreign = |block| turn(Role::Assistant, vec![Block::text("x"), block]);
    let server = ServerCall {
        id: "ws_1".into(),
        tool: ServerToolKind::WebSearch,
        name: "web_search".into(),
        input: "{}".into(),
        native: Some((Dialect::OpenAiResponses, "{}".into())),
        at: at(30),
    };
    let native = Native { dialect: Dialect::Gemini, kind: "x".into(), json: "{}".into(), at: at(31) };
    let request = Request {
        n: param(2),
        seed: param("1".into()),
        logprobs: param(true),
        presence_penalty: param("0.5".into()),
        frequency_penalty: param("0.0".into()),
        verbosity: param("low".into()),
        store: param(true),
        cache_key: param("k".into()),
        metadata: param("{}".into()),
        modalities: param(vec!["text".into(), "audio".into()]),
        service_tier: param("flex".into()),
        stop: param(vec![" ".into()]),
        ..asked(vec![
            says(Role::User, "a"),
            foreign(Block::ServerCall(server)),
            foreign(Block::Native(native)),
            says(Role::User, "b"),
        ])
    };
    let (body, losses) = encoded(&request, MODEL);
    assert_eq!(hows(&losses), vec![How::Dropped; losses.count]);
    // every parameter but the penalty of nothing is at one place
    assert_eq!(losses.count, 13, "{losses:?}");
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["max_tokens", "messages", "model"]);
}

#[test]
fn a_schema_is_native_output() {
    let schema = Schema {
        name: Some("n".into()),
        description: None,
        schema: "{\"type\":\"object\"}".into(),
        strict: Some(true),
    };
    let request = Request { format: param(Format::Schema(schema)), ..asked(vec![says(Role::User, "a")]) };
    let (body, losses) = encoded(&request, MODEL);
    assert_eq!(body["output_config"], json!({"format": {"type": "json_schema", "schema": {"type": "object"}}}));
    assert!(losses.is_empty());
    let able = |model: &str| Anthropic.abilities(model, &Manners::default()).json_schema;
    assert!(able("claude-opus-4-1") && able("claude-haiku-4-5@20251001") && able("claude-opus-5"));
    assert!(!able("claude-sonnet-4-0") && !able("claude-3-7-sonnet-latest") && !able("another-vendor"));
}

/// A request with something of everything.
fn full() -> Value {
    let mark = json!({"type": "ephemeral", "ttl": "1h", "scope": "global"});
    let text = |text: &str| json!({"type": "text", "text": text, "cache_control": mark});
    json!({
        "model": MODEL, "max_tokens": 64, "cache_control": {"type": "ephemeral"},
        "system": [text("s")],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": mark, "defer_loading": true},
            {"type": "bash_20250124", "name": "bash", "cache_control": mark}],
        "messages": [
            {"role": "user", "content": [text("u"),
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}, "title": "T",
                 "context": "C", "citations": {"enabled": true}, "cache_control": mark},
                {"type": "search_result", "source": "https://e.test", "title": "T", "content": [{"type": "text", "text": "x"}],
                 "citations": {"enabled": true}, "cache_control": mark}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}, "cache_control": mark}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "is_error": false, "content": [text("r"),
                {"type": "image", "source": {"type": "url", "url": "https://e.test/i"}, "cache_control": mark}],
                "cache_control": mark}]},
        ],
        "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted", "block_binding": {"x": 1}},
        "output_config": {"effort": "medium", "task_budget": {"type": "tokens", "total": 5}},
        "metadata": {"user_id": "u", "more": 1}, "context_management": {"edits": []}, "top_k": 5,
    })
}

/// The value at the `n`th place of a tree, counted in the order of the text.
fn nth<'v>(value: &'v mut Value, n: &mut usize) -> Option<&'v mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, n)),
        Value::Object(members) => members.values_mut().find_map(|member| nth(member, n)),
        _ => None,
    }
}

proptest! {
    #[test]
    fn no_request_makes_it_panic_or_write_nonsense(
        changes in prop::collection::vec((0usize..150, 0usize..8), 1..4),
        model in prop::sample::select(vec![MODEL, "claude-opus-5-5", "another-vendor", "claude-3-haiku-20240307"]),
        foreign in any::<bool>(),
    ) {
        let mut body = full();
        let others = [json!(null), json!(1.5), json!(""), json!("text"), json!([]), json!({}), json!([{"type": "text", "text": " "}]),
            json!([{"type": "tool_result", "tool_use_id": "a b"}])];
        for (mut place, other) in changes {
            if let Some(value) = nth(&mut body, &mut place) {
                *value = others[other].clone();
            }
        }
        let text = body.to_string();
        if let Ok(mut request) = Anthropic.decode_request(node(&text)) {
            if foreign {
                request.dialect = Dialect::Bedrock;
            }
            // `encoded` reads what was written
            prop_assert!(encoded(&request, model).0.is_object());
        }
    }
}

#[test]
fn cache_marks_survive_everywhere_they_can_stand() {
    let body = full();
    let text = body.to_string();
    let request = Anthropic.decode_request(node(&text)).unwrap();
    let (again, losses) = encoded(&request, MODEL);
    assert_eq!(again, body);
    assert!(losses.is_empty());
}

#[test]
fn a_wrong_request_is_refused_by_its_place() {
    for (body, wrong) in [
        (r#"{"max_tokens":1}"#, "{"),
        (r#"{"messages":[{"role":"tool","content":"x"}]}"#, "\"tool\""),
        (r#"{"messages":[{"role":"user"}]}"#, "{\"role\""),
        (r#"{"messages":[{"role":"user","content":[{"text":"x"}]}]}"#, "{\"text\""),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"magic"}}]}]}"#,
            "{\"type\":\"magic\"",
        ),
        (r#"{"messages":[],"max_tokens":-1}"#, "-1"),
        (r#"{"messages":[],"temperature":"hot"}"#, "\"hot\""),
    ] {
        let refused = Anthropic.decode_request(node(body)).unwrap_err();
        assert!(body[refused.at.offset().unwrap()..].starts_with(wrong), "{body} {refused:?}");
    }
}

#[test]
fn a_block_nobody_knows_stays_as_it_is() {
    let text = Text::new("x");
    assert!(text.extra.is_empty());
    let body = r#"{"max_tokens":1,"messages":[{"role":"user","content":[{"type":"container_upload","file_id":"f"},{"type":"later","x":[1.50]}]}]}"#;
    let request = Anthropic.decode_request(node(body)).unwrap();
    assert!(request.turns[0].blocks.iter().all(|block| matches!(block, Block::Native(_))));
    let (again, _) = encoded(&request, MODEL);
    assert_eq!(again["messages"], serde_json::from_str::<Value>(body).unwrap()["messages"]);
}
