//! One part of a content: a block.

use std::borrow::Cow;

use super::calls::Calls;
use super::{keep, list, take, take_bool, take_list, take_object, take_string};
use crate::chat::block::{Native, ServerCall, ServerResult};
use crate::chat::{
    Block, CallKind, Dialect, Extra, ExtraMember, Issuer, Json, Media, MediaKind, Seal, ServerToolKind, Source, Text,
    Thinking, Thought, ToolCall, ToolResult,
};
use crate::dialect::gemini::REDACTED;
use crate::dialect::gemini::media_type::{is_youtube, media_type_of};
use crate::json::{At, Members, Node, Value, Wrong};

/// Read a part. `None`: there is nothing in it.
pub fn block<'a>(part: Node<'a>, calls: &mut Calls) -> Result<Option<Block<'a>>, Wrong> {
    let (raw, at) = (part.raw, part.at);
    let mut members = match part.value {
        // as the SDKs' users write it
        Value::String(text) => return Ok(Some(Block::Text(Text { at, ..Text::new(text) }))),
        _ => part.object()?,
    };
    let seal = take_string(&mut members, "thoughtSignature")?
        .filter(|text| !text.is_empty())
        .map(|text| Seal::unpack(text, Issuer::Gemini));
    let thought = take_bool(&mut members, "thought")?.unwrap_or(false);
    if let Some(call) = take_object(&mut members, "functionCall")? {
        return called(call, members, seal, at, calls).map(Some);
    }
    if let Some(result) = take_object(&mut members, "functionResponse")? {
        return answered(result, members, at, calls).map(Some);
    }
    if let Some(text) = take_string(&mut members, "text")? {
        let extra = Extra::rest(members);
        if thought {
            return Ok(Some(thinking(text, seal, at, extra)));
        }
        return Ok(Some(Block::Text(Text { seal, at, extra, ..Text::new(text) })));
    }
    if let Some(server) = server_block(&mut members, raw, at, calls)? {
        return Ok(Some(server));
    }
    let native = |kind: String| {
        let json: Json<'a> = Cow::Borrowed(raw);
        Ok(Some(Block::Native(Native { dialect: Dialect::Gemini, kind: Cow::Owned(kind), json, at })))
    };
    if thought && members.iter().any(|(_, node)| !node.is_null()) {
        // a picture drawn on the way to the answer
        return native("thought".to_owned());
    }
    if let Some(data) = take_object(&mut members, "inlineData")? {
        return inline(data, members, seal, at).map(Some);
    }
    if let Some(file) = take_object(&mut members, "fileData")? {
        return stored(file, members, seal, at).map(Some);
    }
    match members.iter().find(|(_, node)| !node.is_null()) {
        Some((name, _)) => native(name.to_owned()),
        None if thought && seal.is_some() => Ok(Some(thinking(Cow::Borrowed(""), seal, at, Extra::default()))),
        None => Ok(seal.map(|seal| Block::Text(Text { seal: Some(seal), at, ..Text::new("") }))),
    }
}

fn thinking<'a>(text: Cow<'a, str>, seal: Option<Seal<'a>>, at: At, extra: Extra<'a>) -> Block<'a> {
    let (seal, redacted) = match seal {
        Some(Seal { issuer, raw }) if issuer != Issuer::Gemini && raw.starts_with(REDACTED) => {
            let raw = raw.get(REDACTED.len()..).unwrap_or_default().to_owned();
            (Some(Seal::new(issuer, raw)), true)
        }
        seal => (seal, false),
    };
    let thoughts = if text.is_empty() { Vec::new() } else { vec![Thought { text, summary: true }] };
    Block::Thinking(Thinking { thoughts, seal, redacted, id: None, at, extra })
}

fn called<'a>(
    mut call: Members<'a>,
    part: Members<'a>,
    seal: Option<Seal<'a>>,
    at: At,
    calls: &mut Calls,
) -> Result<Block<'a>, Wrong> {
    let id = take_string(&mut call, "id")?;
    let name = take_string(&mut call, "name")?.unwrap_or_default();
    let arguments = match take(&mut call, "args") {
        Some(args) if args.as_object().is_none() => return Err(Wrong::new(args.at, "expected an object")),
        Some(args) => Cow::Borrowed(args.raw),
        None => Cow::Borrowed("{}"),
    };
    let mut extra = Extra::rest(part);
    keep(&mut extra, "functionCall", call);
    Ok(Block::ToolCall(ToolCall {
        id: calls.called(id, &name),
        name,
        kind: CallKind::Function,
        arguments,
        cache: None,
        seal,
        item_id: None,
        at,
        extra,
    }))
}

fn answered<'a>(mut result: Members<'a>, part: Members<'a>, at: At, calls: &mut Calls) -> Result<Block<'a>, Wrong> {
    let id = take_string(&mut result, "id")?;
    let name = take_string(&mut result, "name")?.filter(|name| !name.is_empty());
    let mut blocks = Vec::new();
    let mut error = None;
    if let Some(response) = take(&mut result, "response") {
        let (text, failed) = words_of(&response);
        error = failed;
        blocks.push(Block::Text(Text { at: response.at, ..Text::new(text) }));
    }
    for part in take_list(&mut result, "parts").unwrap_or_default() {
        // no part of a result is a call
        blocks.extend(block(part, &mut Calls::default())?);
    }
    let mut extra = Extra::rest(part);
    keep(&mut extra, "functionResponse", result);
    let id = calls.answered(id, name.as_deref());
    Ok(Block::ToolResult(ToolResult { id, name, kind: CallKind::Function, blocks, error, cache: None, at, extra }))
}

/// What a result says, so that writing it again says the same: `{"result": "words"}` is the words, `{"error": "words"}` a failure, all
/// else its own text.
fn words_of<'a>(response: &Node<'a>) -> (Cow<'a, str>, Option<bool>) {
    if let Some(members) = response.as_object()
        && members.len() == 1
        && let Some((name, Node { value: Value::String(words), .. })) = members.iter().next()
    {
        let is_object = || Node::parse(words.as_bytes()).is_ok_and(|n| n.as_object().is_some());
        match name {
            "error" => return (words.clone(), Some(true)),
            "result" if !is_object() => return (words.clone(), None),
            _ => {}
        }
    }
    (Cow::Borrowed(response.raw), None)
}

/// Calls to the provider's own tools and what came of them stand in the answer as parts.
fn server_block<'a>(
    members: &mut Members<'a>,
    raw: &'a str,
    at: At,
    calls: &mut Calls,
) -> Result<Option<Block<'a>>, Wrong> {
    let native = Some((Dialect::Gemini, Cow::Borrowed(raw)));
    if let Some(code) = take(members, "executableCode") {
        let (input, mut code) = (code.raw, code.object()?);
        let id = calls.server_called(take_string(&mut code, "id")?);
        let tool = ServerToolKind::CodeExecution;
        let name = Cow::Borrowed("code_execution");
        return Ok(Some(Block::ServerCall(ServerCall { id, tool, name, input: Cow::Borrowed(input), native, at })));
    }
    if let Some(mut result) = take_object(members, "codeExecutionResult")? {
        let id = calls.server_answered(take_string(&mut result, "id")?);
        let output = take_string(&mut result, "output")?;
        let tool = ServerToolKind::CodeExecution;
        return Ok(Some(Block::ServerResult(ServerResult { id, tool, sources: Vec::new(), output, native, at })));
    }
    if let Some(mut call) = take_object(members, "toolCall")? {
        let id = calls.server_called(take_string(&mut call, "id")?);
        let (tool, name) = tool_type(take(&mut call, "toolType"));
        let input = take(&mut call, "args").map_or(Cow::Borrowed("{}"), |args| input_of(tool, &args));
        return Ok(Some(Block::ServerCall(ServerCall { id, tool, name, input, native, at })));
    }
    if let Some(mut response) = take_object(members, "toolResponse")? {
        let id = calls.server_answered(take_string(&mut response, "id")?);
        let (tool, _) = tool_type(take(&mut response, "toolType"));
        return Ok(Some(Block::ServerResult(ServerResult { id, tool, sources: Vec::new(), output: None, native, at })));
    }
    Ok(None)
}

/// Several queries at once are one search.
fn input_of<'a>(tool: ServerToolKind, args: &Node<'a>) -> Json<'a> {
    let queries = args.as_object().and_then(|args| args.get("queries")).and_then(Node::as_array);
    let (ServerToolKind::WebSearch, Some(queries)) = (tool, queries) else { return Cow::Borrowed(args.raw) };
    let queries: Vec<&str> = queries.iter().filter_map(Node::as_str).collect();
    Cow::Owned(serde_json::json!({ "query": queries.join(", ") }).to_string())
}

fn tool_type(node: Option<Node<'_>>) -> (ServerToolKind, Cow<'_, str>) {
    let word = node.and_then(|node| node.string().ok()).unwrap_or_default();
    match &*word {
        "GOOGLE_SEARCH_WEB" => (ServerToolKind::WebSearch, Cow::Borrowed("web_search")),
        "URL_CONTEXT" => (ServerToolKind::WebFetch, Cow::Borrowed("web_fetch")),
        _ => (ServerToolKind::Other, Cow::Owned(word.to_ascii_lowercase())),
    }
}

fn inline<'a>(mut data: Members<'a>, part: Members<'a>, seal: Option<Seal<'a>>, at: At) -> Result<Block<'a>, Wrong> {
    let media_type = take_string(&mut data, "mimeType")?.unwrap_or(Cow::Borrowed("application/octet-stream"));
    let text = take(&mut data, "data").ok_or(Wrong::new(at, "expected `inlineData.data`"))?.string()?;
    let name = take_string(&mut data, "displayName")?;
    let kind = MediaKind::of(&media_type);
    let source = Source::Base64 { media_type, data: standard(text) };
    Ok(media(kind, source, name, seal, at, ("inlineData", data), part))
}

fn stored<'a>(mut file: Members<'a>, part: Members<'a>, seal: Option<Seal<'a>>, at: At) -> Result<Block<'a>, Wrong> {
    let uri = take(&mut file, "fileUri").ok_or(Wrong::new(at, "expected `fileData.fileUri`"))?.string()?;
    let media_type = take_string(&mut file, "mimeType")?.filter(|kind| !kind.is_empty());
    let name = take_string(&mut file, "displayName")?;
    let kind = match media_type.as_deref().or_else(|| media_type_of(&uri)) {
        Some(media_type) => MediaKind::of(media_type),
        None if is_youtube(&uri) => MediaKind::Video,
        None => MediaKind::Document,
    };
    // what was uploaded to AI Studio lives there only
    let source = if uri.starts_with("https://generativelanguage.googleapis.com/") || uri.starts_with("files/") {
        Source::File { id: uri, dialect: Dialect::Gemini, media_type }
    } else {
        match Source::from_url(uri) {
            Source::Url { url, .. } => Source::Url { url, media_type },
            data => data,
        }
    };
    Ok(media(kind, source, name, seal, at, ("fileData", file), part))
}

fn media<'a>(
    kind: MediaKind,
    source: Source<'a>,
    name: Option<Cow<'a, str>>,
    seal: Option<Seal<'a>>,
    at: At,
    (within, data): (&str, Members<'a>),
    mut part: Members<'a>,
) -> Block<'a> {
    let mut extra = Extra::default();
    let detail = take(&mut part, "mediaResolution").and_then(|node| {
        let level = node.as_object().filter(|m| m.len() == 1).and_then(|m| m.get("level")).and_then(Node::as_str);
        match level {
            Some("MEDIA_RESOLUTION_LOW") => Some(Cow::Borrowed("low")),
            Some("MEDIA_RESOLUTION_HIGH") => Some(Cow::Borrowed("high")),
            _ => {
                let name = Cow::Borrowed("mediaResolution");
                extra.0.push(ExtraMember { name, json: Cow::Borrowed(node.raw), at: node.at });
                None
            }
        }
    });
    extra.0.extend(Extra::rest(part).0);
    keep(&mut extra, within, data);
    Block::Media(Media { kind, source, name, context: None, detail, citations: None, cache: None, seal, at, extra })
}

/// Base64 in the alphabet that every dialect takes.
fn standard(data: Cow<'_, str>) -> Cow<'_, str> {
    if memchr::memchr2(b'-', b'_', data.as_bytes()).is_none() {
        return data;
    }
    let mut data = data.replace('-', "+").replace('_', "/");
    while !data.len().is_multiple_of(4) {
        data.push('=');
    }
    Cow::Owned(data)
}

/// The parts of a content, read one by one.
pub fn blocks<'a>(parts: Node<'a>, calls: &mut Calls) -> Result<Vec<Block<'a>>, Wrong> {
    let mut blocks = Vec::new();
    for part in list(parts) {
        blocks.extend(block(part, calls)?);
    }
    Ok(blocks)
}
