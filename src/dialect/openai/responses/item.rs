//! Items, read: of a request's `input`, of a reply's `output`, of a stream's `output_item.done`.

use std::borrow::Cow;

use super::seals::{self, Bearer};
use super::{content, turns};
use crate::chat::block::{Native, ServerCall, ServerResult};
use crate::chat::{
    Block, CallKind, Dialect, Extra, ExtraMember, MediaKind, Role, Seal, ServerToolKind, Source, Thinking, Thought,
    ToolCall, ToolResult,
};
use crate::json::{At, Members, Node, Value, Writer, Wrong};

/// What an item says.
#[derive(Debug)]
pub enum Item<'a> {
    Message {
        role: Role,
        blocks: Vec<Block<'a>>,
        at: At,
        /// `id`, `status`, `phase` and what else stands beside the content.
        extra: Extra<'a>,
    },
    /// Reasoning, a call, a result; a call and its result where the provider ran the tool itself.
    Blocks { role: Role, blocks: Vec<Block<'a>>, at: At },
    /// The seal of the block before it.
    SealBehind { seal: Seal<'a>, at: At },
    /// It stands for what the provider keeps.
    Stored(ExtraMember<'a>),
}

/// Read an item. `n` tells it from its neighbours where it has to be given an id.
pub fn read<'a>(node: Node<'a>, n: usize) -> Result<Item<'a>, Wrong> {
    let (raw, at) = (node.raw, node.at);
    let mut item = node.object()?;
    let kind = match item.take_string("type")? {
        Some(kind) => kind,
        None if item.get("role").is_some() => "message".into(),
        None if item.get("id").is_some() => "item_reference".into(),
        None => return Err(Wrong::new(at, "expected an item with a `type`")),
    };
    let assistant = |block| Item::Blocks { role: Role::Assistant, blocks: vec![block], at };
    Ok(match &*kind {
        "message" => message(item, at)?,
        "function_call" => assistant(Block::ToolCall(call(item, at, n, CallKind::Function)?)),
        "custom_tool_call" => assistant(Block::ToolCall(call(item, at, n, CallKind::Custom)?)),
        "function_call_output" => result(item, at, CallKind::Function)?,
        "custom_tool_call_output" => result(item, at, CallKind::Custom)?,
        "reasoning" => reasoning(item, at)?,
        "web_search_call" => Item::Blocks { role: Role::Assistant, blocks: search(item, at, n, raw), at },
        "code_interpreter_call" => Item::Blocks { role: Role::Assistant, blocks: program(item, at, n, raw), at },
        "image_generation_call" if item.get("result").is_some_and(|r| r.as_str().is_some()) => {
            assistant(image(item, at)?)
        }
        "item_reference" | "compaction" => Item::Stored(ExtraMember {
            name: if kind == "compaction" { kind } else { "item_reference".into() },
            json: raw.into(),
            at,
        }),
        _ => {
            let role = if turns::said_by_caller(&kind) { Role::User } else { Role::Assistant };
            let native = Native { dialect: Dialect::OpenAiResponses, kind, json: raw.into(), at };
            Item::Blocks { role, blocks: vec![Block::Native(native)], at }
        }
    })
}

fn message<'a>(mut item: Members<'a>, at: At) -> Result<Item<'a>, Wrong> {
    let role = item.take("role").ok_or(Wrong::new(at, "expected a message with a `role`"))?;
    let role = match role.as_str() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        _ => return Err(Wrong::new(role.at, "expected `user`, `assistant`, `system` or `developer`")),
    };
    let blocks = content::blocks(item.take("content"))?;
    Ok(Item::Message { role, blocks, at, extra: Extra::rest(item) })
}

fn call<'a>(mut item: Members<'a>, at: At, n: usize, kind: CallKind) -> Result<ToolCall<'a>, Wrong> {
    let item_id = item.take_string("id")?.filter(|id| !id.is_empty());
    let id = item.take_string("call_id")?.filter(|id| !id.is_empty());
    let id = id.or_else(|| item_id.clone()).unwrap_or_else(|| format!("call_{n}").into());
    let name = item.take_string("name")?.ok_or(Wrong::new(at, "expected a call with a `name`"))?;
    let arguments = item.take(if kind == CallKind::Function { "arguments" } else { "input" });
    let arguments = match arguments {
        None => Cow::Borrowed(""),
        // some vendors write the object itself
        Some(Node { value: Value::Object(_), raw, .. }) => Cow::Borrowed(raw),
        Some(node) => node.string()?,
    };
    Ok(ToolCall { id, name, kind, arguments, cache: None, seal: None, item_id, at, extra: Extra::rest(item) })
}

fn result<'a>(mut item: Members<'a>, at: At, kind: CallKind) -> Result<Item<'a>, Wrong> {
    let id = item.take_string("call_id")?.ok_or(Wrong::new(at, "expected a `call_id`"))?;
    let blocks = content::blocks(item.take("output"))?;
    let result = ToolResult { id, name: None, kind, blocks, error: None, cache: None, at, extra: Extra::rest(item) };
    Ok(Item::Blocks { role: Role::User, blocks: vec![Block::ToolResult(result)], at })
}

fn reasoning<'a>(mut item: Members<'a>, at: At) -> Result<Item<'a>, Wrong> {
    let id = item.take_string("id")?;
    let mut thoughts = thoughts(item.take("summary"), true)?;
    thoughts.extend(self::thoughts(item.take("content"), false)?);
    let sealed = item.take_string("encrypted_content")?.filter(|text| !text.is_empty()).map(seals::unpack);
    let (seal, bearer) = match sealed {
        Some((seal, Bearer::BlockBefore)) => return Ok(Item::SealBehind { seal, at }),
        Some((seal, bearer)) => (Some(seal), bearer),
        None => (None, Bearer::Thinking),
    };
    let redacted = bearer == Bearer::Redacted;
    let thinking = Thinking { thoughts, seal, redacted, id, at, extra: Extra::rest(item) };
    Ok(Item::Blocks { role: Role::Assistant, blocks: vec![Block::Thinking(thinking)], at })
}

fn thoughts<'a>(parts: Option<Node<'a>>, summary: bool) -> Result<Vec<Thought<'a>>, Wrong> {
    let Some(parts) = parts else { return Ok(Vec::new()) };
    let mut thoughts = Vec::new();
    for part in parts.array()? {
        if let Some(text) = part.object()?.take_string("text")? {
            thoughts.push(Thought { text, summary });
        }
    }
    Ok(thoughts)
}

/// A search, or a page opened by it: the call, and what it found where that is said.
fn search<'a>(mut item: Members<'a>, at: At, n: usize, raw: &'a str) -> Vec<Block<'a>> {
    let id = id(&mut item, "ws", n);
    let mut action = item.take_object("action").ok().flatten().unwrap_or_default();
    let opens = matches!(action.get("type").and_then(Node::as_str), Some("open_page" | "find_in_page" | "find"));
    let input = match item.take_string("arguments").ok().flatten() {
        Some(arguments) if Node::parse_reply(arguments.as_bytes()).is_ok_and(|n| n.as_object().is_some()) => arguments,
        _ => action_input(&action).into(),
    };
    let sources = action.take_array("sources").ok().flatten().unwrap_or_default();
    let sources: Vec<_> = sources
        .into_iter()
        .filter_map(|source| {
            let mut source = source.object().ok()?;
            let title = source.take_string("title").ok().flatten();
            Some((source.take_string("url").ok()??, title))
        })
        .collect();
    let tool = if opens { ServerToolKind::WebFetch } else { ServerToolKind::WebSearch };
    let native = Some((Dialect::OpenAiResponses, Cow::Borrowed(raw)));
    let call = ServerCall { id: id.clone(), tool, name: "web_search".into(), input, native, at };
    let mut blocks = vec![Block::ServerCall(call)];
    if !sources.is_empty() {
        blocks.push(Block::ServerResult(ServerResult { id, tool, sources, output: None, native: None, at }));
    }
    blocks
}

/// `{"query": ..}`, or `{"url": ..}`.
fn action_input(action: &Members<'_>) -> String {
    let queries = action.get("queries").and_then(Node::as_array);
    let query = action.get("query").or_else(|| queries.and_then(<[_]>::first)).and_then(Node::as_str);
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object();
    w.string_if("query", query);
    w.string_if("url", action.get("url").and_then(Node::as_str));
    w.string_if("pattern", action.get("pattern").and_then(Node::as_str));
    w.end_object();
    String::from_utf8(out).unwrap_or_else(|_| "{}".to_owned())
}

fn program<'a>(mut item: Members<'a>, at: At, n: usize, raw: &'a str) -> Vec<Block<'a>> {
    let id = id(&mut item, "ci", n);
    let mut input = Vec::new();
    let mut w = Writer::new(&mut input);
    w.object();
    w.string_if("code", item.get("code").and_then(Node::as_str));
    w.end_object();
    let input = String::from_utf8(input).unwrap_or_else(|_| "{}".to_owned()).into();
    let outputs = item.take_array("outputs").ok().flatten().unwrap_or_default();
    let logs: Vec<_> = outputs.iter().filter_map(|output| output.as_object()?.get("logs")?.as_str()).collect();
    let tool = ServerToolKind::CodeExecution;
    let native = Some((Dialect::OpenAiResponses, Cow::Borrowed(raw)));
    let call = ServerCall { id: id.clone(), tool, name: "code_interpreter".into(), input, native, at };
    let mut blocks = vec![Block::ServerCall(call)];
    if !logs.is_empty() {
        let output = Some(Cow::Owned(logs.join("\n")));
        blocks.push(Block::ServerResult(ServerResult { id, tool, sources: Vec::new(), output, native: None, at }));
    }
    blocks
}

fn image<'a>(mut item: Members<'a>, at: At) -> Result<Block<'a>, Wrong> {
    let data = item.take_string("result")?.unwrap_or_default();
    let media_type = match item.get("output_format").and_then(Node::as_str) {
        None => Cow::Borrowed("image/png"),
        Some("svg") => Cow::Borrowed("image/svg+xml"),
        Some(format) => Cow::Owned(format!("image/{format}")),
    };
    if FORMATS.iter().any(|format| media_type.strip_prefix("image/") == Some(format)) {
        item.take("output_format");
    }
    let source = Source::Base64 { media_type, data };
    Ok(Block::Media(content::media(MediaKind::Image, source, None, at, Extra::rest(item))))
}

/// Formats that a media type says, and so need not be kept beside it.
pub const FORMATS: [&str; 4] = ["png", "webp", "jpeg", "gif"];

fn id<'a>(item: &mut Members<'a>, prefix: &str, n: usize) -> Cow<'a, str> {
    let id = item.take_string("id").ok().flatten().filter(|id| !id.is_empty());
    id.unwrap_or_else(|| format!("{prefix}_{n}").into())
}
