//! Content blocks, read: the same grammar in requests and answers.
//!
//! A block of a type that is not known, or that no word fits, is kept whole as [`Block::Native`].

use std::borrow::Cow;

use super::{citation, leftover};
use crate::chat::block::{Native, ServerCall, ServerResult};
use crate::chat::{
    Block, Cache, CallKind, Dialect, Extra, ExtraMember, Issuer, Json, Media, MediaKind, Seal, ServerToolKind, Source,
    Text, Thinking, Thought, ToolCall, ToolResult, Ttl,
};
use crate::json::{At, Members, Node, Value, Wrong};

/// Whose blocks they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A client's: among them may be some that a gateway made from another provider's answer.
    Request,
    /// A provider's.
    Reply,
}

/// `content`: a string, or blocks. Recursion is bounded by the depth of the text.
pub(super) fn content<'a>(node: Node<'a>, side: Side) -> Result<Vec<Block<'a>>, Wrong> {
    let at = node.at;
    match node.value {
        Value::String(text) => Ok(vec![Block::Text(Text { at, ..Text::new(text) })]),
        Value::Array(items) => items.into_iter().map(|item| block(item, side)).collect(),
        _ => Err(Wrong::new(at, "expected a string or an array of content blocks")),
    }
}

pub(super) fn block<'a>(node: Node<'a>, side: Side) -> Result<Block<'a>, Wrong> {
    let (raw, at) = (node.raw, node.at);
    let mut m = node.object()?;
    let kind = m.take("type").ok_or(Wrong::new(at, "expected a content block with a `type`"))?.string()?;
    match &*kind {
        "text" => text(m, at),
        "image" => media(m, at, MediaKind::Image, side),
        "document" => media(m, at, MediaKind::Document, side),
        "search_result" => search_result(m, at, side),
        "thinking" | "redacted_thinking" => thinking(m, at, kind == "redacted_thinking"),
        "tool_use" => tool_use(m, at),
        "tool_result" => tool_result(m, at, side),
        "server_tool_use" => Ok(server_call(m, raw, at, side)),
        "web_search_tool_result"
        | "web_fetch_tool_result"
        | "code_execution_tool_result"
        | "bash_code_execution_tool_result"
        | "text_editor_code_execution_tool_result"
        | "tool_search_tool_result"
        | "advisor_tool_result" => Ok(server_result(m, &kind, raw, at, side)),
        _ => Ok(Block::Native(Native { dialect: Dialect::Anthropic, kind, json: Cow::Borrowed(raw), at })),
    }
}

fn text<'a>(mut m: Members<'a>, at: At) -> Result<Block<'a>, Wrong> {
    let mut inner = Vec::new();
    Ok(Block::Text(Text {
        text: required(&mut m, "text", at)?,
        citations: m.take_array("citations")?.unwrap_or_default().into_iter().filter_map(citation::read).collect(),
        cache: cache(&mut m, &mut inner)?,
        seal: None,
        at,
        extra: leftover::extra(m, inner),
    }))
}

fn media<'a>(mut m: Members<'a>, at: At, kind: MediaKind, side: Side) -> Result<Block<'a>, Wrong> {
    let mut inner = Vec::new();
    let node = m.take("source").ok_or(Wrong::new(at, "expected a `source`"))?;
    Ok(Block::Media(Media {
        kind,
        source: source(node, side, &mut inner)?,
        name: m.take_string("title")?,
        context: m.take_string("context")?,
        detail: None,
        citations: citable(&mut m, &mut inner)?,
        cache: cache(&mut m, &mut inner)?,
        seal: None,
        at,
        extra: leftover::extra(m, inner),
    }))
}

fn source<'a>(node: Node<'a>, side: Side, inner: &mut Vec<ExtraMember<'a>>) -> Result<Source<'a>, Wrong> {
    let at = node.at;
    let mut m = node.object()?;
    let kind = required(&mut m, "type", at)?;
    let source = match &*kind {
        "base64" => {
            Source::Base64 { media_type: required(&mut m, "media_type", at)?, data: required(&mut m, "data", at)? }
        }
        "text" => Source::Text {
            media_type: m.take_string("media_type")?.unwrap_or(Cow::Borrowed("text/plain")),
            text: required(&mut m, "data", at)?,
        },
        "url" => Source::Url { url: required(&mut m, "url", at)?, media_type: None },
        "file" => Source::File { id: required(&mut m, "file_id", at)?, dialect: Dialect::Anthropic, media_type: None },
        "content" => {
            let node = m.take("content").ok_or(Wrong::new(at, "expected `content`"))?;
            Source::Blocks(content(node, side)?)
        }
        _ => return Err(Wrong::new(at, "expected a source of type base64, text, url, file or content")),
    };
    leftover::keep(inner, leftover::SOURCE, m);
    Ok(source)
}

/// A search result is a document of text blocks; the address it was found at stays in `extra` as `source`, which also tells it from one.
fn search_result<'a>(mut m: Members<'a>, at: At, side: Side) -> Result<Block<'a>, Wrong> {
    let mut inner = Vec::new();
    if let Some(source) = m.take("source") {
        leftover::whole(&mut inner, "source", &source);
    }
    let node = m.take("content").ok_or(Wrong::new(at, "expected `content`"))?;
    Ok(Block::Media(Media {
        kind: MediaKind::Document,
        source: Source::Blocks(content(node, side)?),
        name: m.take_string("title")?,
        context: None,
        detail: None,
        citations: citable(&mut m, &mut inner)?,
        cache: cache(&mut m, &mut inner)?,
        seal: None,
        at,
        extra: leftover::extra(m, inner),
    }))
}

/// `citations: {enabled}` of a document.
fn citable<'a>(m: &mut Members<'a>, inner: &mut Vec<ExtraMember<'a>>) -> Result<Option<bool>, Wrong> {
    let Some(mut citations) = m.take_object("citations")? else { return Ok(None) };
    let enabled = citations.take_bool("enabled")?;
    leftover::keep(inner, leftover::CITATIONS, citations);
    Ok(enabled)
}

fn thinking<'a>(mut m: Members<'a>, at: At, redacted: bool) -> Result<Block<'a>, Wrong> {
    let text = m.take_string("thinking")?.filter(|text| !text.is_empty());
    let seal = m.take_string(if redacted { "data" } else { "signature" })?.filter(|seal| !seal.is_empty());
    Ok(Block::Thinking(Thinking {
        thoughts: text.map(|text| Thought { text, summary: false }).into_iter().collect(),
        seal: seal.map(|seal| Seal::unpack(seal, Issuer::Anthropic)),
        redacted,
        id: None,
        at,
        extra: Extra::rest(m),
    }))
}

fn tool_use<'a>(mut m: Members<'a>, at: At) -> Result<Block<'a>, Wrong> {
    let mut inner = Vec::new();
    // called by the model itself: what is meant when nothing is said
    let direct =
        |caller: &Node<'_>| caller.as_object().is_some_and(|m| m.get("type").and_then(Node::as_str) == Some("direct"));
    if m.get("caller").is_some_and(direct) {
        m.take("caller");
    }
    Ok(Block::ToolCall(ToolCall {
        id: required(&mut m, "id", at)?,
        name: required(&mut m, "name", at)?,
        kind: CallKind::Function,
        arguments: m.take("input").map_or(Cow::Borrowed("{}"), |input| match input.value {
            // a call that was cut off, as some gateways tell it
            Value::String(text) => text,
            _ => Cow::Borrowed(input.raw),
        }),
        cache: cache(&mut m, &mut inner)?,
        seal: None,
        item_id: None,
        at,
        extra: leftover::extra(m, inner),
    }))
}

fn tool_result<'a>(mut m: Members<'a>, at: At, side: Side) -> Result<Block<'a>, Wrong> {
    let mut inner = Vec::new();
    let mut blocks = m.take("content").map(|node| content(node, side)).transpose()?.unwrap_or_default();
    // `content: ""` is no content
    if matches!(&blocks[..], [Block::Text(only)] if only.text.is_empty() && only.cache.is_none() && only.extra.is_empty())
    {
        blocks.clear();
    }
    Ok(Block::ToolResult(ToolResult {
        id: required(&mut m, "tool_use_id", at)?,
        name: None,
        kind: CallKind::Function,
        blocks,
        error: m.take_bool("is_error")?,
        cache: cache(&mut m, &mut inner)?,
        at,
        extra: leftover::extra(m, inner),
    }))
}

/// Anthropic's own calls have ids that begin so; one that does not was made elsewhere, and Anthropic would not take it back.
const SERVER_ID: &str = "srvtoolu_";

fn server_call<'a>(mut m: Members<'a>, raw: &'a str, at: At, side: Side) -> Block<'a> {
    let id = m.take_string("id").ok().flatten().unwrap_or_default();
    let name = m.take_string("name").ok().flatten().unwrap_or_default();
    let own = side == Side::Reply || id.starts_with(SERVER_ID);
    Block::ServerCall(ServerCall {
        tool: tool_kind(&name),
        input: m.take("input").map_or(Cow::Borrowed("{}"), |input| Cow::Borrowed(input.raw)),
        native: own.then_some((Dialect::Anthropic, Cow::Borrowed(raw))),
        id,
        name,
        at,
    })
}

fn server_result<'a>(mut m: Members<'a>, kind: &str, raw: &'a str, at: At, side: Side) -> Block<'a> {
    let id = m.take_string("tool_use_id").ok().flatten().unwrap_or_default();
    let own = side == Side::Reply || id.starts_with(SERVER_ID);
    let mut sources = Vec::new();
    let mut output = None;
    match m.take("content").map(|node| node.value) {
        Some(Value::Array(pages)) => {
            for mut page in pages.into_iter().filter_map(|page| page.object().ok()) {
                if let Ok(Some(url)) = page.take_string("url") {
                    sources.push((url, page.take_string("title").ok().flatten()));
                }
            }
        }
        Some(Value::Object(mut result)) => {
            if let Ok(Some(url)) = result.take_string("url") {
                let document = result.take_object("content").ok().flatten();
                sources.push((url, document.and_then(|mut d| d.take_string("title").ok().flatten())));
            }
            output = result.take_string("stdout").ok().flatten();
        }
        _ => {}
    }
    Block::ServerResult(ServerResult {
        id,
        tool: tool_kind(kind.trim_end_matches("_tool_result")),
        sources,
        output,
        native: own.then_some((Dialect::Anthropic, Cow::Borrowed(raw))),
        at,
    })
}

/// By a server tool's name, or the first part of its type.
pub(super) fn tool_kind(name: &str) -> ServerToolKind {
    match name {
        _ if name.starts_with("web_search") => ServerToolKind::WebSearch,
        _ if name.starts_with("web_fetch") => ServerToolKind::WebFetch,
        "bash_code_execution" | "text_editor_code_execution" => ServerToolKind::CodeExecution,
        _ if name.starts_with("code_execution") => ServerToolKind::CodeExecution,
        _ => ServerToolKind::Other,
    }
}

/// `cache_control`. What is not a plain mark is kept as it was written.
pub(super) fn cache<'a>(m: &mut Members<'a>, inner: &mut Vec<ExtraMember<'a>>) -> Result<Option<Cache>, Wrong> {
    let Some(node) = m.take("cache_control") else { return Ok(None) };
    let at = node.at;
    let mark = node.as_object().ok_or(Wrong::new(at, "expected an object"))?;
    let word = |name: &str| mark.get(name).filter(|node| !node.is_null()).map(|node| node.as_str().unwrap_or_default());
    let ttl = match (word("type"), word("ttl")) {
        (Some("ephemeral"), None) => None,
        (Some("ephemeral"), Some("5m")) => Some(Ttl::FiveMinutes),
        (Some("ephemeral"), Some("1h")) => Some(Ttl::OneHour),
        _ => {
            leftover::whole(inner, "cache_control", &node);
            return Ok(None);
        }
    };
    let mut mark = node.object()?;
    mark.take("type");
    mark.take("ttl");
    leftover::keep(inner, leftover::CACHE, mark);
    Ok(Some(Cache { ttl, at }))
}

pub(super) fn required<'a>(m: &mut Members<'a>, name: &str, at: At) -> Result<Cow<'a, str>, Wrong> {
    m.take_string(name)?.ok_or_else(|| Wrong::new(at, format!("expected a member `{name}`")))
}

/// What a server tool is defined with, beside its type: see [`super::decode_request`].
pub(super) fn raw<'a>(node: Option<Node<'a>>) -> Option<Json<'a>> {
    node.map(|node| Cow::Borrowed(node.raw))
}
