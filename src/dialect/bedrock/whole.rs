//! Blocks of a stream that are collected and told at once: server tools' calls and results, images.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::response;
use crate::chat::block::{ServerCall, ServerResult};
use crate::chat::{Block, Dialect, ServerToolKind};
use crate::dialect::codec::Garbled;
use crate::json::{At, Members, Node, Writer, Wrong};

#[derive(Debug)]
pub enum Collected {
    Call { id: String, name: String, input: String },
    Result { id: String, kind: String, status: Option<String>, items: Vec<String> },
    Image { format: String, bytes: Vec<u8> },
}

// === impl Collected ===

impl Collected {
    pub fn call(id: Cow<'_, str>, name: Cow<'_, str>) -> Self {
        Collected::Call { id: id.into_owned(), name: name.into_owned(), input: String::new() }
    }

    pub fn result(mut start: Members<'_>) -> Result<Self, Wrong> {
        Ok(Collected::Result {
            id: start.take_string("toolUseId")?.unwrap_or_default().into_owned(),
            kind: start.take_string("type")?.unwrap_or_default().into_owned(),
            status: start.take_string("status")?.map(Cow::into_owned),
            items: Vec::new(),
        })
    }

    pub fn image(mut start: Members<'_>) -> Result<Self, Wrong> {
        let format = start.take_string("format")?.unwrap_or_default().into_owned();
        Ok(Collected::Image { format, bytes: Vec::new() })
    }

    /// A piece. What belongs to another kind of block is not kept.
    pub fn grow(&mut self, kind: &str, piece: Node<'_>) -> Result<(), Garbled> {
        match (self, kind) {
            (Collected::Call { input, .. }, "toolUse") => {
                input.push_str(&piece.object()?.take_string("input")?.unwrap_or_default());
            }
            (Collected::Result { items, .. }, "toolResult") => {
                items.extend(piece.array()?.into_iter().map(|item| item.raw.to_owned()));
            }
            (Collected::Image { bytes, .. }, "image") => {
                let Some(mut source) = piece.object()?.take_object("source")? else { return Ok(()) };
                // each piece is base64 in its own right
                let more = source.take_string("bytes")?.unwrap_or_default();
                let more = STANDARD.decode(more.as_bytes()).map_err(|_| Garbled::new("an image that is not base64"))?;
                bytes.extend_from_slice(&more);
            }
            _ => {}
        }
        Ok(())
    }

    pub fn block(self) -> Block<'static> {
        match self {
            Collected::Call { id, name, input } => server_call(id, name, input),
            Collected::Result { id, kind, status, items } => server_result(id, &kind, status, &items),
            Collected::Image { format, bytes } => {
                let data = Cow::Owned(STANDARD.encode(bytes));
                Block::Media(response::image_of(&format, data, At::NOWHERE))
            }
        }
    }
}

fn server_call(id: String, name: String, input: String) -> Block<'static> {
    let input = if Node::parse(input.as_bytes()).is_ok() { input } else { "{}".to_owned() };
    let mut json = Vec::new();
    let mut w = Writer::new(&mut json);
    w.object();
    w.name("toolUse").object();
    w.name("toolUseId").string(&id);
    w.name("name").string(&name);
    w.name("input").raw(&input);
    w.name("type").string("server_tool_use");
    w.end_object();
    w.end_object();
    Block::ServerCall(ServerCall {
        tool: response::server_tool_kind(&name),
        id: Cow::Owned(id),
        name: Cow::Owned(name),
        input: Cow::Owned(input),
        native: native(json),
        at: At::NOWHERE,
    })
}

fn server_result(id: String, kind: &str, status: Option<String>, items: &[String]) -> Block<'static> {
    let content = format!("[{}]", items.join(","));
    let tool = response::server_tool_kind(kind);
    let output = match Node::parse_reply(content.as_bytes()) {
        Ok(node) if tool == ServerToolKind::CodeExecution => response::printed(node.as_array().unwrap_or_default()),
        _ => None,
    };
    let mut json = Vec::new();
    let mut w = Writer::new(&mut json);
    w.object();
    w.name("toolResult").object();
    w.name("toolUseId").string(&id);
    w.name("content").raw(&content);
    w.string_if("status", status.as_deref());
    w.string_if("type", Some(kind).filter(|kind| !kind.is_empty()));
    w.end_object();
    w.end_object();
    Block::ServerResult(ServerResult {
        id: Cow::Owned(id),
        tool,
        sources: Vec::new(),
        output: output.map(Cow::Owned),
        native: native(json),
        at: At::NOWHERE,
    })
}

fn native(json: Vec<u8>) -> Option<(Dialect, Cow<'static, str>)> {
    Some((Dialect::Bedrock, Cow::Owned(String::from_utf8(json).ok()?)))
}
