//! The messages of a request, read into turns.
//!
//! A `tool` message becomes a user's turn with one tool result. The legacy `function_call` and the role `function` are read as tool calls
//! and results; their ids are made from the place of the message.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{parts, reasoning, rest};
use crate::chat::block::Refusal;
use crate::chat::{Block, CallKind, Extra, Role, ToolCall, ToolResult, Turn};
use crate::json::{At, Members, Node, Value, Wrong};

/// What later messages refer to.
#[derive(Debug, Default)]
struct Reader<'a> {
    /// Ids of calls to custom tools: their results are of that kind too.
    custom: HashSet<Cow<'a, str>>,
    /// Legacy calls without an answer yet: the function's name and the id made for the call.
    unanswered: Vec<(Cow<'a, str>, String)>,
}

pub(super) fn read(messages: Vec<Node<'_>>) -> Result<Vec<Turn<'_>>, Wrong> {
    let mut reader = Reader::default();
    messages.into_iter().enumerate().map(|(n, message)| reader.message(n, message)).collect()
}

impl<'a> Reader<'a> {
    fn message(&mut self, n: usize, node: Node<'a>) -> Result<Turn<'a>, Wrong> {
        let at = node.at;
        let mut members = node.object()?;
        let role = members.take("role").ok_or(Wrong::new(at, "expected a member `role`"))?;
        let role_at = role.at;
        match &*role.string()? {
            "system" => plain(Role::System, members, at),
            "developer" => plain(Role::Developer, members, at),
            "user" => plain(Role::User, members, at),
            "assistant" => self.assistant(n, members, at),
            "tool" => self.tool(members, at),
            "function" => self.function(n, members, at),
            _ => Err(Wrong::new(
                role_at,
                "expected one of `system`, `developer`, `user`, `assistant`, `tool` and `function`",
            )),
        }
    }

    fn assistant(&mut self, n: usize, mut members: Members<'a>, at: At) -> Result<Turn<'a>, Wrong> {
        let name = members.take_string("name")?;
        let mut extra = Extra::default();
        let empty = reasoning::take_empty(&mut members, at);
        let mut thinking = reasoning::take(&mut members, at);
        if thinking.is_empty() {
            thinking.extend(empty);
        }
        let seal = reasoning::google_seal(&mut members, &mut extra);
        let mut blocks: Vec<Block<'a>> = thinking.into_iter().map(Block::Thinking).collect();
        blocks.extend(content(&mut members)?);
        if let Some(node) = members.take("refusal") {
            let at = node.at;
            let text = node.string()?;
            if !text.is_empty() {
                blocks.push(Block::Refusal(Refusal { text, at }));
            }
        }
        for (i, node) in members.take_array("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
            let mut call = self.call(node, n, i)?;
            if i == 0 && call.seal.is_none() {
                call.seal.clone_from(&seal);
            }
            blocks.push(Block::ToolCall(call));
        }
        if let Some(node) = members.take("function_call") {
            blocks.push(Block::ToolCall(self.legacy_call(node, n)?));
        }
        extra.0.extend(Extra::rest(members).0);
        Ok(Turn { role: Role::Assistant, name, blocks, at, extra })
    }

    fn call(&mut self, node: Node<'a>, n: usize, i: usize) -> Result<ToolCall<'a>, Wrong> {
        let at = node.at;
        let mut members = node.object()?;
        let mut extra = Extra::default();
        let seal = reasoning::google_seal(&mut members, &mut extra);
        let id = members.take_string("id")?.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| format!("call_{n}_{i}").into());
        let kind = match members.take_string("type")?.as_deref() {
            Some("custom") => CallKind::Custom,
            _ => CallKind::Function,
        };
        let (inner, arguments) = inner_names(kind);
        let node = members.take(inner).ok_or_else(|| Wrong::new(at, format!("expected a member `{inner}`")))?;
        let inner_at = node.at;
        let mut object = node.object()?;
        let name = object.take_string("name")?.ok_or(Wrong::new(inner_at, "expected a member `name`"))?;
        let arguments = object.take(arguments).map(raw_text).unwrap_or_default();
        // of a stream's piece that was kept as it came
        members.take("index");
        rest::keep(&mut extra, inner, inner_at, &object);
        extra.0.extend(Extra::rest(members).0);
        if kind == CallKind::Custom {
            self.custom.insert(id.clone());
        }
        Ok(ToolCall { id, name, kind, arguments, cache: None, seal, item_id: None, at, extra })
    }

    fn legacy_call(&mut self, node: Node<'a>, n: usize) -> Result<ToolCall<'a>, Wrong> {
        let at = node.at;
        let mut members = node.object()?;
        let name = members.take_string("name")?.ok_or(Wrong::new(at, "expected a member `name`"))?;
        let arguments = members.take("arguments").map(raw_text).unwrap_or_default();
        let id = format!("call_{n}");
        self.unanswered.push((name.clone(), id.clone()));
        Ok(ToolCall {
            id: id.into(),
            name,
            kind: CallKind::Function,
            arguments,
            cache: None,
            seal: None,
            item_id: None,
            at,
            extra: Extra::rest(members),
        })
    }

    fn tool(&mut self, mut members: Members<'a>, at: At) -> Result<Turn<'a>, Wrong> {
        let id = members.take_string("tool_call_id")?.ok_or(Wrong::new(at, "expected a member `tool_call_id`"))?;
        let kind = if self.custom.contains(&id) { CallKind::Custom } else { CallKind::Function };
        result(members, id, kind, at)
    }

    /// The legacy answer names the function, not the call.
    fn function(&mut self, n: usize, members: Members<'a>, at: At) -> Result<Turn<'a>, Wrong> {
        let name = members.get("name").and_then(Node::as_str);
        let call = self.unanswered.iter().position(|(function, _)| Some(&**function) == name);
        let id = match call {
            Some(call) => self.unanswered.remove(call).1,
            None => format!("call_{n}"),
        };
        result(members, id.into(), CallKind::Function, at)
    }
}

fn plain(role: Role, mut members: Members<'_>, at: At) -> Result<Turn<'_>, Wrong> {
    let name = members.take_string("name")?;
    let blocks = content(&mut members)?;
    Ok(Turn { role, name, blocks, at, extra: Extra::rest(members) })
}

fn result<'a>(mut members: Members<'a>, id: Cow<'a, str>, kind: CallKind, at: At) -> Result<Turn<'a>, Wrong> {
    let name = members.take_string("name")?;
    let cache = parts::cache(&mut members);
    let blocks = members.take("content").map(parts::read).transpose()?.unwrap_or_default();
    let extra = Extra::rest(members);
    let result = ToolResult { id, name, kind, blocks, error: None, cache, at, extra };
    Ok(Turn { role: Role::User, name: None, blocks: vec![Block::ToolResult(result)], at, extra: Extra::default() })
}

/// The content of a message; a mark on the message is one on its last part.
fn content<'a>(members: &mut Members<'a>) -> Result<Vec<Block<'a>>, Wrong> {
    let mark = parts::cache(members);
    let mut blocks = members.take("content").map(parts::read).transpose()?.unwrap_or_default();
    match blocks.last_mut() {
        Some(Block::Text(text)) => text.cache = text.cache.or(mark),
        Some(Block::Media(media)) => media.cache = media.cache.or(mark),
        _ => {}
    }
    Ok(blocks)
}

/// The member that holds a call of this kind, and the one in it that holds the arguments.
pub(super) fn inner_names(kind: CallKind) -> (&'static str, &'static str) {
    match kind {
        CallKind::Function => ("function", "arguments"),
        CallKind::Custom => ("custom", "input"),
    }
}

/// Arguments are a string; some clients and vendors write the object itself.
pub(super) fn raw_text(node: Node<'_>) -> Cow<'_, str> {
    match node.value {
        Value::String(text) => text,
        _ => Cow::Borrowed(node.raw),
    }
}
