//! A whole answer of Converse.
//!
//! Truth: botocore's service model (`ConverseResponse`, `ContentBlock`, `StopReason`).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{citation, usage};
use crate::chat::block::{Native, ServerCall, ServerResult};
use crate::chat::{
    Block, CallKind, Choice, Dialect, Extra, Issuer, Media, MediaKind, Response, Seal, ServerToolKind, Source, Stop,
    StopReason, Text, Thinking, Thought, ToolCall,
};
use crate::json::{At, Members, Node, Wrong};

pub fn decode<'a>(reply: Node<'a>, issuer: Issuer) -> Result<Response<'a>, Wrong> {
    let at = reply.at;
    let mut members = reply.object()?;
    let mut output = members.take_object("output")?.ok_or(Wrong::new(at, "expected `output`"))?;
    let mut message = output.take_object("message")?.ok_or(Wrong::new(at, "expected `output.message`"))?;
    let mut blocks = Vec::new();
    for (position, node) in message.take_array("content")?.unwrap_or_default().into_iter().enumerate() {
        block(node, position, issuer, &mut blocks)?;
    }
    let mut response = Response::new(Dialect::Bedrock);
    response.usage = members.take("usage").as_ref().and_then(usage::read);
    response.service_tier = match members.take_object("serviceTier")? {
        Some(mut tier) => tier.take_string("type")?,
        None => None,
    };
    let called = blocks.iter().any(|block| matches!(block, Block::ToolCall(_)));
    let mut stop = Stop::new(match members.take_string("stopReason")? {
        Some(word) => stop_reason(word),
        None if called => StopReason::ToolUse,
        None => StopReason::End,
    });
    if let Some(fields) = members.get("additionalModelResponseFields") {
        stop.sequence = stop_sequence(fields).map(|sequence| Cow::Owned(sequence.to_owned()));
        if says_only_the_sequence(fields) {
            members.take("additionalModelResponseFields");
        }
    }
    // the time it took, which the gateway measures itself
    members.take("metrics");
    response.choices.push(Choice { blocks, stop: Some(stop), logprobs: Vec::new(), extra: Extra::default() });
    response.extra = Extra::rest(members);
    Ok(response)
}

pub fn stop_reason(word: Cow<'_, str>) -> StopReason<'_> {
    match &*word {
        "end_turn" => StopReason::End,
        "tool_use" => StopReason::ToolUse,
        "max_tokens" => StopReason::Length,
        "stop_sequence" => StopReason::Sequence,
        "guardrail_intervened" | "content_filtered" => StopReason::ContentFilter,
        "refusal" => StopReason::Refusal,
        "pause_turn" => StopReason::Pause,
        "malformed_tool_use" => StopReason::MalformedCall,
        "model_context_window_exceeded" => StopReason::ContextWindow,
        _ => StopReason::Other(word),
    }
}

/// Where it was asked for: `{"stop_sequence":..}`, in a stream within `delta`.
pub fn stop_sequence<'n>(fields: &'n Node<'_>) -> Option<&'n str> {
    let fields = fields.as_object()?;
    let within = fields.get("delta").and_then(Node::as_object).unwrap_or(fields);
    within.get("stop_sequence")?.as_str()
}

/// Nothing else was asked for.
pub fn says_only_the_sequence(fields: &Node<'_>) -> bool {
    let only = |node: &Node<'_>, name: &str| node.as_object().is_some_and(|m| m.iter().all(|(other, _)| other == name));
    match fields.as_object().and_then(|m| m.get("delta")) {
        Some(delta) => only(fields, "delta") && only(delta, "stop_sequence"),
        None => only(fields, "stop_sequence"),
    }
}

/// Each member of a block is one of a union; the empty text that some models begin with is none.
fn block<'a>(node: Node<'a>, position: usize, issuer: Issuer, blocks: &mut Vec<Block<'a>>) -> Result<(), Wrong> {
    let (raw, at) = (node.raw, node.at);
    for (kind, value) in node.object()? {
        if value.is_null() {
            continue;
        }
        match &*kind {
            "text" => push_text(value.string()?, at, blocks),
            "toolUse" => blocks.push(tool_use(value.object()?, raw, at, position)?),
            "toolResult" => blocks.push(server_result(value.object()?, raw, at)?),
            "reasoningContent" => blocks.push(thinking(value.object()?, at, issuer)?),
            "citationsContent" => cited(value.object()?, at, blocks)?,
            "image" => blocks.push(image(value, raw, at)?),
            _ => blocks.push(native(kind, raw, at)),
        }
    }
    Ok(())
}

fn native<'a>(kind: Cow<'a, str>, raw: &'a str, at: At) -> Block<'a> {
    Block::Native(Native { dialect: Dialect::Bedrock, kind, json: Cow::Borrowed(raw), at })
}

fn push_text<'a>(text: Cow<'a, str>, at: At, blocks: &mut Vec<Block<'a>>) {
    if !text.is_empty() {
        blocks.push(Block::Text(Text { at, ..Text::new(text) }));
    }
}

fn tool_use<'a>(mut call: Members<'a>, raw: &'a str, at: At, position: usize) -> Result<Block<'a>, Wrong> {
    let id = call_id(call.take_string("toolUseId")?, position);
    let name = call.take_string("name")?.unwrap_or_default();
    let input = call.take("input").map_or("{}", |input| input.raw);
    if call.take_string("type")?.as_deref() == Some("server_tool_use") {
        return Ok(Block::ServerCall(ServerCall {
            id,
            tool: server_tool_kind(&name),
            name,
            input: Cow::Borrowed(input),
            native: Some((Dialect::Bedrock, Cow::Borrowed(raw))),
            at,
        }));
    }
    Ok(Block::ToolCall(ToolCall {
        id,
        name,
        kind: CallKind::Function,
        arguments: Cow::Borrowed(input),
        cache: None,
        seal: None,
        item_id: None,
        at,
        extra: Extra::rest(call),
    }))
}

pub fn call_id(id: Option<Cow<'_, str>>, position: usize) -> Cow<'_, str> {
    id.filter(|id| !id.is_empty()).unwrap_or_else(|| Cow::Owned(format!("call_{position}")))
}

/// By its name (`nova_grounding`), or the type of its result (`nova_grounding_result`).
pub fn server_tool_kind(name: &str) -> ServerToolKind {
    match name.strip_suffix("_result").unwrap_or(name) {
        "nova_grounding" => ServerToolKind::WebSearch,
        "nova_code_interpreter" => ServerToolKind::CodeExecution,
        _ => ServerToolKind::Other,
    }
}

fn server_result<'a>(mut result: Members<'a>, raw: &'a str, at: At) -> Result<Block<'a>, Wrong> {
    let id = result.take_string("toolUseId")?.unwrap_or_default();
    let tool = server_tool_kind(&result.take_string("type")?.unwrap_or_default());
    let content = result.take_array("content")?.unwrap_or_default();
    let output = (tool == ServerToolKind::CodeExecution).then(|| printed(&content)).flatten().map(Cow::Owned);
    let native = Some((Dialect::Bedrock, Cow::Borrowed(raw)));
    Ok(Block::ServerResult(ServerResult { id, tool, sources: Vec::new(), output, native, at }))
}

/// What a program printed: texts, or the `stdOut` of a JSON object.
pub fn printed(content: &[Node<'_>]) -> Option<String> {
    let text = |item: &Node<'_>| {
        let item = item.as_object()?;
        let json = item.get("json").and_then(Node::as_object);
        let out = json.and_then(|json| json.get("stdOut").or(json.get("stdout")));
        Some(item.get("text").or(out)?.as_str()?.to_owned())
    };
    let texts: Vec<String> = content.iter().filter_map(text).collect();
    (!texts.is_empty()).then(|| texts.concat())
}

fn thinking<'a>(mut content: Members<'a>, at: At, issuer: Issuer) -> Result<Block<'a>, Wrong> {
    let mut thinking =
        Thinking { thoughts: Vec::new(), seal: None, redacted: false, id: None, at, extra: Extra::default() };
    if let Some(mut shown) = content.take_object("reasoningText")? {
        if let Some(text) = shown.take_string("text")?.filter(|text| !text.is_empty()) {
            thinking.thoughts.push(Thought { text, summary: false });
        }
        let signature = shown.take_string("signature")?.filter(|signature| !signature.is_empty());
        thinking.seal = signature.map(|signature| Seal::new(issuer, signature));
    }
    if let Some(data) = content.take_string("redactedContent")? {
        thinking.seal = Some(redacted_seal(data, issuer));
        thinking.redacted = true;
    }
    thinking.extra = Extra::rest(content);
    Ok(Block::Thinking(thinking))
}

/// The bytes of Claude's redacted content are the text that Anthropic's own API has in `redacted_thinking.data`. What is no such text
/// stays as Converse wrote it.
pub fn redacted_seal(data: Cow<'_, str>, issuer: Issuer) -> Seal<'_> {
    let text = STANDARD.decode(data.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match text {
        Some(text) if issuer == Issuer::Anthropic => Seal::new(issuer, text),
        _ => Seal::new(Issuer::Bedrock, data),
    }
}

/// Text with its sources. Where there is no text, the sources are of the text before (Nova's grounding).
fn cited<'a>(mut content: Members<'a>, at: At, blocks: &mut Vec<Block<'a>>) -> Result<(), Wrong> {
    let mut text: Cow<'a, str> = Cow::Borrowed("");
    for piece in content.take_array("content")?.unwrap_or_default() {
        if let Some(more) = piece.object()?.take_string("text")? {
            if text.is_empty() { text = more } else { text.to_mut().push_str(&more) }
        }
    }
    let nodes = content.take_array("citations")?.unwrap_or_default();
    let citations = nodes.into_iter().map(citation::read).collect::<Result<Vec<_>, _>>()?;
    match blocks.last_mut() {
        Some(Block::Text(before)) if text.is_empty() => before.citations.extend(citations),
        _ => blocks.push(Block::Text(Text { citations, at, ..Text::new(text) })),
    }
    Ok(())
}

fn image<'a>(value: Node<'a>, raw: &'a str, at: At) -> Result<Block<'a>, Wrong> {
    let mut image = value.object()?;
    let format = image.take_string("format")?.unwrap_or_default();
    let data = match image.take_object("source")? {
        Some(mut source) => source.take_string("bytes")?,
        None => None,
    };
    Ok(match data {
        Some(data) => Block::Media(image_of(&format, data, at)),
        None => native(Cow::Borrowed("image"), raw, at),
    })
}

pub fn image_of<'a>(format: &str, data: Cow<'a, str>, at: At) -> Media<'a> {
    Media {
        kind: MediaKind::Image,
        source: Source::Base64 { media_type: Cow::Owned(format!("image/{format}")), data },
        name: None,
        context: None,
        detail: None,
        citations: None,
        cache: None,
        seal: None,
        at,
        extra: Extra::default(),
    }
}
