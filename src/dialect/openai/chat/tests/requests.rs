//! Requests no recording has: every form a member can take, and what came from another dialect.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{manners, request, sent};
use crate::chat::block::ServerCall;
use crate::chat::loss::How;
use crate::chat::{
    Block, Cache, CallKind, Citation, Dialect, Effort, Extra, Format, Function, Issuer, Media, MediaKind, Param,
    Reasoning, Request, Role, Schema, Seal, ServerTool, ServerToolKind, Source, Text, Thinking, Thought, Tool,
    ToolCall, ToolChoice, ToolResult, Turn,
};
use crate::dialect::{Inbound, Manners, ThinkingForm};
use crate::json::{At, Node};

/// Read and written again for OpenAI; what was lost as `path member how`.
fn through(body: &Value, manners: &Manners) -> (Value, Vec<String>) {
    let text = body.to_string();
    let (out, losses) = sent(&request(&text), manners);
    let told = losses.iter().map(|loss| {
        let path = crate::json::Paths::new(text.as_bytes()).of(loss.at);
        format!("{path} {} {}", loss.member, loss.how.label()).replace("  ", " ").trim().to_owned()
    });
    (out, told.collect())
}

fn unchanged(body: &Value) {
    let (out, losses) = through(body, &manners("openai"));
    assert_eq!(losses, Vec::<String>::new());
    assert_eq!(&out, body);
}

/// A request of another dialect, with these turns.
fn foreign(turns: Vec<Turn<'static>>) -> Request<'static> {
    Request { model: "m".into(), turns, ..Request::new(Dialect::Anthropic) }
}

fn lost(request: &Request<'_>, manners: &Manners) -> (Value, Vec<(String, How)>) {
    let (out, losses) = sent(request, manners);
    (out, losses.iter().map(|loss| (loss.member.to_string(), loss.how)).collect())
}

fn param<T>(value: T) -> Option<Param<T>> {
    Some(Param { value, at: At::NOWHERE })
}

fn media(kind: MediaKind, source: Source<'static>) -> Media<'static> {
    Media {
        kind,
        source,
        name: None,
        context: None,
        detail: None,
        citations: None,
        cache: None,
        seal: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    }
}

fn png() -> Source<'static> {
    Source::Base64 { media_type: "image/png".into(), data: "iVBO".into() }
}

fn result(blocks: Vec<Block<'static>>) -> Block<'static> {
    Block::ToolResult(ToolResult {
        id: "call_1".into(),
        name: None,
        kind: CallKind::Function,
        blocks,
        error: None,
        cache: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    })
}

fn call(seal: Option<Seal<'static>>) -> Block<'static> {
    Block::ToolCall(ToolCall {
        id: "call_1".into(),
        name: "f".into(),
        kind: CallKind::Function,
        arguments: Cow::Borrowed(""),
        cache: None,
        seal,
        item_id: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    })
}

#[test]
fn every_parameter_comes_back_with_its_number_s_own_text() {
    let text = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"parallel_tool_calls":false,
        "response_format":{"type":"json_schema","json_schema":{"name":"s","description":"d","schema":{"b":1,"a":1.0},"strict":true,"x":1}},
        "reasoning_effort":"low","verbosity":"high","max_completion_tokens":5,"temperature":0.70,"top_p":1.0,"top_k":3,
        "presence_penalty":-0.5,"frequency_penalty":0,"seed":-1,"stop":["a","b"],"n":2,"logprobs":true,"top_logprobs":2,
        "modalities":["text"],"safety_identifier":"u","service_tier":"flex","metadata":{"k":"v"},"store":true,
        "prompt_cache_key":"p","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},
        "audio":{"voice":"v"},"prediction":{"type":"content","content":"x"},"logit_bias":{"1":2},"prompt_cache_retention":"24h"}"#;
    let (out, losses) = sent(&request(text), &manners("openai"));
    assert!(losses.is_empty(), "{losses:?}");
    assert_eq!(out, serde_json::from_str::<Value>(text).unwrap());
    let encoded = crate::dialect::Outbound::encode_request(
        &super::Chat,
        &request(text),
        &crate::dialect::To { model: "m", manners: &manners("openai") },
    );
    let written = String::from_utf8(encoded.body).unwrap();
    assert!(written.contains(r#""temperature":0.70,"#) && written.contains(r#"{"b":1,"a":1.0}"#), "{written}");
}

#[test]
fn tools_and_choices_of_every_form_come_back() {
    for choice in [
        json!("none"),
        json!("required"),
        json!({"type": "function", "function": {"name": "f"}}),
        json!({"type": "custom", "custom": {"name": "c"}}),
        json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}]}}),
        json!({"type": "of_a_vendor", "x": 1}),
    ] {
        unchanged(&json!({"model": "m", "messages": [], "tool_choice": choice, "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true, "x": 1}},
            {"type": "custom", "custom": {"name": "c", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}}},
            {"type": "openrouter:web_search", "parameters": {"max_uses": 1}}],
            "web_search_options": {"search_context_size": "low", "user_location": {"type": "approximate", "approximate": {"city": "U"}}}}));
    }
}

#[test]
fn legacy_functions_become_tools() {
    let body = json!({"model": "m", "functions": [{"name": "f", "parameters": {}}], "function_call": {"name": "f"}, "messages": [
        {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "r"}]});
    let (out, losses) = through(&body, &manners("openai"));
    assert_eq!(losses, Vec::<String>::new());
    let call = json!([{"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    assert_eq!(
        out,
        json!({"model": "m", "messages": [
            {"role": "assistant", "content": "", "tool_calls": call},
            {"role": "tool", "tool_call_id": "call_0", "name": "f", "content": "r"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}}})
    );
}

#[test]
fn parts_of_every_kind_come_back() {
    unchanged(&json!({"model": "m", "messages": [
        {"role": "developer", "content": "d"},
        {"role": "user", "name": "n", "content": [
            {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low", "x": 1}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "video_url", "video_url": {"url": "https://x.test/v.mp4"}},
            {"type": "of_a_vendor", "x": [1]}]},
        {"role": "assistant", "content": "a", "refusal": "no", "audio": {"id": "audio_1"}},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "1", "type": "custom", "custom": {"name": "c", "input": "free"}},
            {"id": "2", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1.0"}}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "tool", "tool_call_id": "2", "content": ""}]}));
}

#[test]
fn what_was_read_is_what_was_meant() {
    let text = r#"{"model":"m","max_tokens":9,"stop":"s","user":"u","reasoning":{"max_tokens":99,"exclude":true},
        "cache_control":{"type":"ephemeral"},"messages":[{"role":"user","content":"x","cache_control":{"type":"ephemeral","ttl":"1h"}},
        {"role":"user","content":[{"type":"image_url","image_url":"data:application/pdf;base64,JVBE"}]}]}"#;
    let read = request(text);
    assert_eq!(read.max_output.map(|p| p.value), Some(9));
    assert_eq!(read.stop.map(|p| p.value), Some(vec!["s".into()]));
    let reasoning = read.reasoning.map(|p| p.value).unwrap();
    assert_eq!((reasoning.budget, reasoning.summary.as_deref()), (Some(99), Some("none")));
    assert!(read.cache.is_some() && !read.stream_usage);
    let blocks: Vec<&Block<'_>> = read.turns.iter().flat_map(|turn| &turn.blocks).collect();
    assert!(matches!(
        blocks[0],
        Block::Text(Text { cache: Some(Cache { ttl: Some(crate::chat::Ttl::OneHour), .. }), .. })
    ));
    assert!(matches!(blocks[1], Block::Media(Media { kind: MediaKind::Document, source: Source::Base64 { .. }, .. })));
}

#[test]
fn cache_marks_go_only_to_vendors_that_take_them() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let body = json!({"model": "m", "cache_control": mark, "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": mark}]},
            {"role": "tool", "tool_call_id": "1", "content": "r", "cache_control": mark}],
        "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": mark}]});
    assert_eq!(through(&body, &manners("openrouter")), (body.clone(), Vec::new()));
    let (out, losses) = through(&body, &manners("openai"));
    assert!(!out.to_string().contains("cache_control"));
    assert_eq!(
        losses,
        [
            "messages[0].content[0].cache_control dropped",
            "messages[1].cache_control dropped",
            "tools[0].cache_control dropped",
            "cache_control dropped"
        ]
    );
}

#[test]
fn a_vendor_gets_the_length_and_the_developer_in_its_own_words() {
    let body = json!({"model": "m", "max_completion_tokens": 5, "messages": [{"role": "developer", "content": "d"}]});
    let (out, losses) = through(&body, &Manners::default());
    assert_eq!(out, json!({"model": "m", "max_tokens": 5, "messages": [{"role": "system", "content": "d"}]}));
    assert_eq!(losses, Vec::<String>::new());
}

#[test]
fn a_wrong_request_is_refused_where_it_is_wrong() {
    for (text, path) in [
        (r#"{"model":"m"}"#, ""),
        (r#"{"model":1,"messages":[]}"#, "model"),
        (r#"{"messages":{}}"#, "messages"),
        (r#"{"messages":[{"role":"boss","content":"x"}]}"#, "messages[0].role"),
        (r#"{"messages":[{"role":"user","content":5}]}"#, "messages[0].content"),
        (r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#, "messages[0].content[0]"),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}"#,
            "messages[0].content[0].image_url",
        ),
        (r#"{"messages":[{"role":"tool","content":"x"}]}"#, "messages[0]"),
        (r#"{"messages":[],"temperature":"hot"}"#, "temperature"),
        (r#"{"messages":[],"tools":[{"type":"function","function":{}}]}"#, "tools[0].function"),
        (r#"{"messages":[],"stop":[1]}"#, "stop[0]"),
    ] {
        let wrong = super::Chat.decode_request(Node::parse(text.as_bytes()).unwrap()).unwrap_err();
        assert_eq!(crate::json::Paths::new(text.as_bytes()).of(wrong.at), path, "{text}: {}", wrong.what);
    }
}

#[test]
fn results_of_tools_come_before_what_the_user_says_and_their_images_behind_them() {
    let request = foreign(vec![
        Turn::new(Role::Assistant, vec![call(None)]),
        Turn::new(
            Role::User,
            vec![
                Block::text("look"),
                result(vec![Block::text("text"), Block::Media(media(MediaKind::Image, png()))]),
                result(vec![Block::Media(media(MediaKind::Image, png()))]),
            ],
        ),
    ]);
    let (out, losses) = lost(&request, &manners("openai"));
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}});
    let about = json!({"type": "text", "text": "Attached to the result of tool call call_1:"});
    assert_eq!(
        out["messages"],
        json!([
            {"role": "assistant", "content": "", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "text"},
            {"role": "tool", "tool_call_id": "call_1", "content": "The result is attached to the message that follows."},
            {"role": "user", "content": [about, image, about, image]},
            {"role": "user", "content": "look"}])
    );
    // all of them were read nowhere, so they are one
    assert_eq!(losses, [(String::new(), How::Changed)]);
}

#[test]
fn a_failed_tool_is_told_as_a_loss() {
    let Block::ToolResult(mut failed) = result(vec![Block::text("boom")]) else { unreachable!() };
    failed.error = Some(true);
    let request = foreign(vec![Turn::new(Role::User, vec![Block::ToolResult(failed)])]);
    assert_eq!(lost(&request, &manners("openai")).1, [("is_error".to_owned(), How::Changed)]);
}

#[test]
fn media_without_a_place_are_essential_in_what_the_user_says_and_dropped_elsewhere() {
    let stranger = || Source::File { id: "file_1".into(), dialect: Dialect::Anthropic, media_type: None };
    let says = foreign(vec![Turn::new(Role::User, vec![Block::Media(media(MediaKind::Document, stranger()))])]);
    assert_eq!(lost(&says, &manners("openai")).1, [(String::new(), How::Essential)]);
    let address = Source::Url { url: "https://x.test/a.pdf".into(), media_type: None };
    let says = foreign(vec![Turn::new(Role::User, vec![Block::Media(media(MediaKind::Document, address))])]);
    assert_eq!(lost(&says, &manners("openai")).1, [(String::new(), How::Essential)]);
    let brings =
        foreign(vec![Turn::new(Role::User, vec![result(vec![Block::Media(media(MediaKind::Document, stranger()))])])]);
    let (out, losses) = lost(&brings, &manners("openai"));
    assert_eq!(out["messages"][0]["content"], "[document omitted]");
    assert_eq!(losses, [(String::new(), How::Dropped)]);
    let made = foreign(vec![Turn::new(Role::Assistant, vec![Block::Media(media(MediaKind::Image, png()))])]);
    let (out, losses) = lost(&made, &manners("openai"));
    assert_eq!(out["messages"][0]["content"], "[image omitted]");
    assert_eq!(losses, [(String::new(), How::Dropped)]);
}

#[test]
fn a_document_that_is_text_stands_among_the_texts() {
    let source = Source::Text { media_type: "text/plain".into(), text: "body".into() };
    let document = Media { name: Some("title".into()), ..media(MediaKind::Document, source) };
    let request = foreign(vec![Turn::new(Role::User, vec![Block::Media(document)])]);
    let (out, losses) = lost(&request, &manners("openai"));
    assert_eq!(
        out["messages"][0]["content"],
        json!([{"type": "text", "text": "title"}, {"type": "text", "text": "body"}])
    );
    assert_eq!(losses, [(String::new(), How::Changed)]);
}

#[test]
fn another_s_thinking_stays_out_and_a_vendor_s_own_goes_back_in_its_form() {
    let thinking = |issuer| {
        Block::Thinking(Thinking {
            thoughts: vec![Thought { text: "hm".into(), summary: false }],
            seal: Some(Seal::new(issuer, "sig")),
            redacted: false,
            id: None,
            at: At::NOWHERE,
            extra: Extra::default(),
        })
    };
    let request = foreign(vec![Turn::new(Role::Assistant, vec![thinking(Issuer::Anthropic), Block::text("a")])]);
    let (out, losses) = lost(&request, &Manners::default());
    assert_eq!(out["messages"][0], json!({"role": "assistant", "content": "a"}));
    assert_eq!(losses, [(String::new(), How::Dropped)]);

    let request = foreign(vec![Turn::new(Role::Assistant, vec![thinking(Issuer::Other), Block::text("a")])]);
    let (out, losses) = lost(&request, &Manners::default());
    assert_eq!(out["messages"][0]["reasoning_content"], "hm");
    assert_eq!(losses, []);

    let body = json!({"model": "m", "messages": [{"role": "assistant", "content": "a", "reasoning_content": "hm"}]});
    for (form, expected) in [
        (ThinkingForm::ReasoningContent, json!({"role": "assistant", "content": "a", "reasoning_content": "hm"})),
        (ThinkingForm::Reasoning, json!({"role": "assistant", "content": "a", "reasoning": "hm"})),
        (
            ThinkingForm::Parts,
            json!({"role": "assistant", "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]}),
        ),
        (ThinkingForm::Nowhere, json!({"role": "assistant", "content": "a"})),
    ] {
        let (out, losses) = through(&body, &Manners { thinking: form, ..Manners::default() });
        assert_eq!(out["messages"][0], expected);
        assert_eq!(losses.is_empty(), form != ThinkingForm::Nowhere);
    }
}

#[test]
fn sealed_thinking_of_a_client_is_read_in_each_form_and_goes_back_to_its_vendor() {
    let details = json!([
        {"type": "reasoning.text", "text": "a", "signature": "s1", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "s2", "format": "anthropic-claude-v1", "index": 1},
        {"type": "reasoning.summary", "summary": "b", "index": 2},
        {"type": "reasoning.encrypted", "data": "s3", "format": "openai-responses-v1", "id": "rs_1", "index": 2}]);
    let body = json!({"model": "m", "messages": [
        {"role": "assistant", "content": "x", "reasoning_content": "a\n\nb", "reasoning_details": details}]});
    let text = body.to_string();
    let read = request(&text);
    let thinking: Vec<&Thinking<'_>> =
        read.turns[0].blocks.iter().filter_map(|b| if let Block::Thinking(t) = b { Some(t) } else { None }).collect();
    let seals: Vec<_> =
        thinking.iter().map(|t| (t.seal.clone().unwrap().issuer, t.redacted, t.thoughts.len())).collect();
    assert_eq!(seals, [(Issuer::Anthropic, false, 1), (Issuer::Anthropic, true, 0), (Issuer::OpenAi, false, 1)]);
    let (out, _) = sent(&read, &Manners::default());
    let out = &out["messages"][0]["reasoning_details"];
    assert_eq!((&out[0], &out[1]), (&details[0], &details[1]));
    assert_eq!((&out[2]["summary"], &out[3]["data"]), (&json!("b"), &json!("s3")));

    let text = r#"{"messages":[{"role":"assistant","content":"x","reasoning_content":"a","thinking_blocks":[
        {"type":"thinking","thinking":"a","signature":"s"},{"type":"redacted_thinking","data":"d"}]}]}"#;
    let read = request(text);
    let Block::Thinking(first) = &read.turns[0].blocks[0] else { panic!("{read:?}") };
    assert_eq!((first.seal.clone(), &*first.thoughts[0].text), (Some(Seal::new(Issuer::Anthropic, "s")), "a"));
    let Block::Thinking(second) = &read.turns[0].blocks[1] else { panic!("{read:?}") };
    assert!(second.redacted && second.thoughts.is_empty());
}

#[test]
fn google_s_signatures_go_back_to_google() {
    let seal = || Some(Seal::new(Issuer::Gemini, "sig"));
    let request = foreign(vec![Turn::new(Role::Assistant, vec![call(seal())])]);
    let (out, losses) = lost(&request, &Manners::default());
    assert!(!out.to_string().contains("sig"));
    assert_eq!(losses, [("signature".to_owned(), How::Dropped)]);
    let request = Request { model: "gemini-3-pro".into(), ..request };
    let (out, losses) = lost(&request, &Manners::default());
    let content = &out["messages"][0]["tool_calls"][0]["extra_content"];
    assert_eq!(content, &json!({"google": {"thought_signature": "sig"}}));
    assert_eq!(losses, []);
}

#[test]
fn how_much_to_think_is_said_in_the_target_s_words() {
    let reasoning = Reasoning::default;
    for (value, object, effort) in [
        (Reasoning { budget: Some(2_000), ..reasoning() }, json!({"max_tokens": 2_000}), Some("low")),
        (Reasoning { effort: Some(Effort::Max), ..reasoning() }, json!({"effort": "max"}), Some("max")),
        (Reasoning { adaptive: true, ..reasoning() }, json!({"enabled": true}), None),
        (Reasoning { enabled: Some(false), ..reasoning() }, json!({"enabled": false}), None),
        (Reasoning { enabled: Some(true), ..reasoning() }, json!({"enabled": true}), None),
    ] {
        let request = Request { reasoning: param(value), ..foreign(Vec::new()) };
        let (out, _) = lost(&request, &manners("openrouter"));
        assert_eq!(out["reasoning"], object);
        let (out, _) = lost(&request, &manners("openai"));
        assert_eq!(out.get("reasoning_effort").and_then(Value::as_str), effort);
    }
    let said = Request {
        reasoning: param(Reasoning { enabled: Some(false), ..reasoning() }),
        ..request(r#"{"messages":[]}"#)
    };
    assert_eq!(lost(&said, &manners("openai")).0["reasoning_effort"], "none");
}

#[test]
fn what_only_the_other_dialect_knows_is_booked() {
    let search = ServerTool {
        kind: ServerToolKind::WebSearch,
        name: "web_search".into(),
        allowed_domains: vec!["x.test".into()],
        blocked_domains: Vec::new(),
        max_uses: Some(3),
        user_location: Some(r#"{"type":"approximate","city":"U"}"#.into()),
        native: (Dialect::Anthropic, "{}".into()),
        cache: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    };
    let code = ServerTool { kind: ServerToolKind::CodeExecution, name: "code".into(), ..search.clone() };
    let cited = Text { citations: vec![Citation::default()], ..Text::new("a") };
    let ran = ServerCall {
        id: "s".into(),
        tool: ServerToolKind::WebSearch,
        name: "web_search".into(),
        input: "{}".into(),
        native: None,
        at: At::NOWHERE,
    };
    let request = Request {
        tools: vec![Tool::Server(search), Tool::Server(code)],
        tool_choice: param(ToolChoice::Tool("code".into())),
        top_k: param("5".into()),
        metadata: param("{}".into()),
        service_tier: param("standard_only".into()),
        ..foreign(vec![Turn::new(Role::Assistant, vec![Block::Text(cited), Block::ServerCall(ran)])])
    };
    let (out, losses) = lost(&request, &manners("openai"));
    assert_eq!(
        out["web_search_options"],
        json!({"user_location": {"type": "approximate", "approximate": {"city": "U"}}})
    );
    assert_eq!(out["service_tier"], "default");
    for gone in ["tool_choice", "top_k", "metadata", "tools"] {
        assert!(out.get(gone).is_none(), "{gone}");
    }
    let books = |member: &str, how| losses.contains(&(member.to_owned(), how));
    assert!(
        books("citations", How::Dropped) && books("allowed_domains", How::Dropped) && books("max_uses", How::Dropped)
    );
    assert!(books("", How::Essential) && books("", How::Changed) && books("", How::Dropped));
}

#[test]
fn a_choice_among_no_tools_is_not_made() {
    let request =
        Request { tool_choice: param(ToolChoice::Auto), parallel_tool_calls: param(false), ..foreign(Vec::new()) };
    let (out, losses) = lost(&request, &manners("openai"));
    assert_eq!(out, json!({"model": "m", "messages": []}));
    assert_eq!(losses, [(String::new(), How::Dropped)]);
}

#[test]
fn a_schema_without_a_name_gets_one_and_a_flat_grammar_is_wrapped() {
    let schema = Schema { name: None, description: None, schema: "{}".into(), strict: None };
    let tool = Function {
        name: "c".into(),
        description: None,
        kind: CallKind::Custom,
        parameters: Some(r#"{"type":"grammar","syntax":"regex","definition":"a+"}"#.into()),
        strict: None,
        cache: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    };
    let request =
        Request { format: param(Format::Schema(schema)), tools: vec![Tool::Function(tool)], ..foreign(Vec::new()) };
    let (out, losses) = lost(&request, &manners("openai"));
    assert_eq!(losses, []);
    assert_eq!(out["response_format"]["json_schema"], json!({"name": "response", "schema": {}}));
    assert_eq!(out["tools"][0]["custom"]["format"]["grammar"], json!({"syntax": "regex", "definition": "a+"}));
}
