//! Questions and answers by hand, and estimates against what providers counted.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{Count, answer, conversation, counts, estimate, question, read_answer};
use crate::chat::{
    Block, CallKind, Dialect, Extra, Format, Function, Media, MediaKind, Param, Request, Role, Schema, Source, Tool,
    ToolCall, ToolResult, Turn,
};
use crate::dialect::codec::{Manners, To};
use crate::dialect::operation::Operation::{
    self, Converse, CountContentTokens, CountConverseTokens, CountMessageTokens, GenerateContent, Messages,
};
use crate::dialect::task::tests::{Body, exchanges};
use crate::json::{At, Node};
use crate::units::Tokens;

// === asking and answering ===

fn asked(to: Operation, body: &Value, vertex: bool) -> Value {
    let manners = Manners { vertex, ..Manners::default() };
    let body = question(to, body.to_string().as_bytes(), &To { model: "m-1", manners: &manners }).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_provider_is_asked_with_what_its_question_may_hold() {
    let messages = json!({"model": "m-1", "max_tokens": 9, "temperature": 1, "stream": false, "system": "s",
        "messages": [{"role": "user", "content": "a"}], "tools": []});
    assert_eq!(
        asked(CountMessageTokens, &messages, false),
        json!({"model": "m-1", "messages": [{"role": "user", "content": "a"}], "system": "s", "tools": []})
    );
    let content = json!({"contents": [], "safetySettings": [], "generationConfig": {"topK": 1}});
    assert_eq!(asked(CountContentTokens, &content, true), json!({"contents": [], "generationConfig": {"topK": 1}}));
    assert_eq!(
        asked(CountContentTokens, &content, false),
        json!({"generateContentRequest": {"model": "models/m-1", "contents": [], "safetySettings": [],
            "generationConfig": {"topK": 1}}})
    );
    let converse = json!({"messages": [], "system": [], "inferenceConfig": {"maxTokens": 1}, "toolConfig": {}});
    assert_eq!(
        asked(CountConverseTokens, &converse, false),
        json!({"input": {"converse": {"messages": [], "system": [], "toolConfig": {}}}})
    );
    let manners = Manners::default();
    assert!(question(Messages, b"{}", &To { model: "m", manners: &manners }).is_err());
    assert!(question(CountMessageTokens, b"[", &To { model: "m", manners: &manners }).is_err());
    let pairs = [Messages, GenerateContent, Converse].map(counts);
    assert_eq!(pairs, [CountMessageTokens, CountContentTokens, CountConverseTokens].map(Some));
}

#[test]
fn a_count_is_read_and_written_in_every_grammar() {
    for (operation, body) in [
        (CountMessageTokens, r#"{"input_tokens":7}"#),
        (CountContentTokens, r#"{"totalTokens":7}"#),
        (CountConverseTokens, r#"{"inputTokens":7}"#),
    ] {
        let count = Count { tokens: Tokens(7), estimated: false };
        assert_eq!(read_answer(operation, body.as_bytes()), Ok(count));
        assert_eq!(answer(operation, count), body.as_bytes());
        for garbled in ["", "[]", "{", r#"{"input_tokens":"7","totalTokens":-1}"#] {
            assert!(read_answer(operation, garbled.as_bytes()).is_err(), "{garbled}");
        }
    }
    assert!(read_answer(CountMessageTokens, b"{}").is_err());
    assert_eq!(read_answer(CountContentTokens, b"{}").unwrap().tokens, Tokens(0));
}

#[test]
fn the_conversation_is_found_in_either_of_gemini_s_forms() {
    let found = |from, text: &'static str| conversation(from, Node::parse(text.as_bytes()).unwrap()).map(|n| n.raw);
    let plain = r#"{"contents":[]}"#;
    assert_eq!(found(CountContentTokens, plain), Ok(plain));
    assert_eq!(found(CountContentTokens, r#"{"generateContentRequest":{"contents":[]}}"#), Ok(plain));
    assert_eq!(found(CountMessageTokens, r#"{"messages":[]}"#), Ok(r#"{"messages":[]}"#));
    assert!(found(CountContentTokens, "{}").is_err());
}

#[test]
fn recorded_counts_are_read() {
    let operation = |api: &str| match api {
        "anthropic.count_tokens" => Some(CountMessageTokens),
        "gemini.countTokens" => Some(CountContentTokens),
        "bedrock.count-tokens" => Some(CountConverseTokens),
        _ => None,
    };
    for exchange in exchanges(|api| operation(api).is_some()) {
        let Body::Json(body) = exchange.body else { panic!("{}: no JSON", exchange.id) };
        let count = read_answer(operation(&exchange.api).unwrap(), body.to_string().as_bytes());
        // an error's body is no count, but Google leaves zeros out
        assert!(exchange.status != 200 || count.unwrap().tokens.0 > 0, "{}", exchange.id);
    }
}

// === estimates against what was counted ===

/// What these tests need of a conversation; the dialects' own decoders are tested where they are.
fn read(body: &Value) -> Request<'_> {
    let mut request = Request::new(Dialect::OpenAiChat);
    let gemini = body["contents"].as_array();
    for place in ["system", "systemInstruction"] {
        let blocks = blocks(&body[place]);
        if !blocks.is_empty() {
            request.turns.push(Turn::new(Role::System, blocks));
        }
    }
    for message in gemini.or(body["messages"].as_array()).into_iter().flatten() {
        let mut within = blocks(&message["content"]);
        within.extend(blocks(&message["parts"]));
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            within.push(call_of(&call["function"]["name"], call["function"]["arguments"].as_str().unwrap().into()));
        }
        if message["role"] == "tool" {
            within = vec![result_of(within)];
        }
        request.turns.push(Turn::new(Role::User, within));
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        let listed = tool["functionDeclarations"].as_array().cloned().unwrap_or_default();
        let one = if tool["function"].is_object() { tool["function"].clone() } else { tool.clone() };
        for tool in if listed.is_empty() { vec![one] } else { listed } {
            request.tools.push(function_of(&tool));
        }
    }
    if let Some(schema) = body.pointer("/response_format/json_schema/schema") {
        let schema = Schema { name: None, description: None, schema: schema.to_string().into(), strict: None };
        request.format = Some(Param { value: Format::Schema(schema), at: At::NOWHERE });
    }
    request
}

fn text(value: &Value) -> Option<Cow<'_, str>> {
    value.as_str().map(Cow::Borrowed)
}

fn blocks(content: &Value) -> Vec<Block<'_>> {
    let parts = content["parts"].as_array().or(content.as_array());
    let part = |part| -> Block<'_> {
        let part: &Value = part;
        match (part["text"].as_str(), part["type"].as_str()) {
            (Some(text), _) => Block::text(text),
            (None, Some("tool_use")) => call_of(&part["name"], part["input"].to_string().into()),
            (None, Some("tool_result")) => result_of(blocks(&part["content"])),
            (None, Some("tool_reference")) => Block::text(""),
            _ => Block::Media(Media {
                kind: MediaKind::Image,
                source: Source::Url { url: "".into(), media_type: None },
                name: None,
                context: None,
                detail: part.pointer("/image_url/detail").and_then(text),
                citations: None,
                cache: None,
                seal: None,
                at: At::NOWHERE,
                extra: Extra::default(),
            }),
        }
    };
    let parts = parts.into_iter().flatten().map(part);
    content.as_str().map(Block::text).into_iter().chain(parts).collect()
}

fn call_of<'a>(name: &'a Value, arguments: Cow<'a, str>) -> Block<'a> {
    Block::ToolCall(ToolCall {
        id: "x".into(),
        name: text(name).unwrap(),
        kind: CallKind::Function,
        arguments,
        cache: None,
        seal: None,
        item_id: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    })
}

fn result_of(blocks: Vec<Block<'_>>) -> Block<'_> {
    Block::ToolResult(ToolResult {
        id: "x".into(),
        name: None,
        kind: CallKind::Function,
        blocks,
        error: None,
        cache: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    })
}

fn function_of(tool: &Value) -> Tool<'static> {
    let own = |value: &Value| value.as_str().map(|text| Cow::Owned(text.to_owned()));
    let schema = [&tool["parameters"], &tool["input_schema"]].into_iter().find(|schema| schema.is_object());
    Tool::Function(Function {
        name: own(&tool["name"]).unwrap_or_default(),
        description: own(&tool["description"]),
        kind: CallKind::Function,
        parameters: schema.map(|schema| schema.to_string().into()),
        strict: None,
        cache: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    })
}

/// The prompt tokens a recorded answer of chat completions reports.
fn counted(body: &Body) -> Option<u64> {
    let of = |value: &Value| value.pointer("/usage/prompt_tokens").and_then(Value::as_u64);
    match body {
        Body::Json(body) => of(body),
        Body::Text(text) => {
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            data.filter_map(|data| of(&serde_json::from_str(data).ok()?)).next_back()
        }
        Body::None => None,
    }
}

/// Told apart because what OpenAI adds to them is its own affair.
fn plain(request: &Value) -> bool {
    ["tools", "response_format", "web_search_options", "audio"].iter().all(|name| request[*name].is_null())
        && !request["messages"].to_string().contains("image_url")
}

#[test]
fn estimates_of_recorded_openai_conversations_are_near() {
    let mut seen = 0;
    for exchange in exchanges(|api| api == "openai.chat") {
        let Some(counted) = counted(&exchange.body).filter(|_| exchange.status == 200) else { continue };
        let estimated = estimate(&read(&exchange.request)).tokens.0;
        let off = estimated.abs_diff(counted);
        let kind = if plain(&exchange.request) { "text" } else { "more" };
        println!("{kind} {}: counted {counted}, estimated {estimated}", exchange.id);
        match kind {
            "text" => assert!(off <= 10.max(counted / 10), "{}: {counted} {estimated}", exchange.id),
            // the size of an image and the words around tools and schemas are not known
            _ => assert!(estimated <= 2 * counted + 765 && counted <= 2 * estimated + 765, "{}", exchange.id),
        }
        seen += 1;
    }
    println!("{seen} conversations");
}

#[test]
fn estimates_for_others_are_of_the_right_size() {
    for exchange in exchanges(|api| api == "anthropic.count_tokens" || api == "gemini.countTokens") {
        let Body::Json(body) = exchange.body else { continue };
        let counted = body["input_tokens"].as_u64().or(body["totalTokens"].as_u64());
        let Some(counted) = counted else { continue };
        let estimated = estimate(&read(&exchange.request)).tokens.0;
        println!("{}: counted {counted}, estimated {estimated}", exchange.id);
        // what Anthropic adds to the first tool is more than all of these conversations
        assert!(estimated <= 2 * counted && counted <= 2 * estimated + 1_600, "{}", exchange.id);
    }
}
