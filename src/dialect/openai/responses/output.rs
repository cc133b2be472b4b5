//! The items of an answer: what a whole reply and a stream's events are both written from. The object around them is `envelope`'s.

use std::borrow::Cow;

use super::seals::{self, Bearer};
use crate::chat::block::{ServerCall, ServerResult};
use crate::chat::{CallKind, Dialect, ExtraMember, Logprob, Media, Seal, ServerToolKind, Source};
use crate::dialect::ReplyTo;
use crate::json::{Node, Object, Writer};

/// One item of `output`.
#[derive(Debug)]
pub enum Item {
    Message {
        id: String,
        parts: Vec<Part>,
        phase: Option<String>,
    },
    Reasoning {
        id: String,
        summary: Vec<String>,
        content: Vec<String>,
        encrypted: Option<String>,
        extra: String,
    },
    Call {
        id: String,
        call_id: String,
        name: String,
        kind: CallKind,
        arguments: String,
        extra: String,
    },
    /// A search, or a page opened. `of` is the call's own id, `action` its JSON up to the sources.
    Search {
        id: String,
        of: String,
        action: String,
        sources: Vec<String>,
    },
    /// A program the provider ran.
    Program {
        id: String,
        of: String,
        code: String,
        logs: Option<String>,
    },
    Image {
        id: String,
        result: String,
        format: String,
        extra: String,
    },
    /// As its own dialect wrote it.
    Native {
        id: String,
        json: String,
    },
}

/// A text or a refusal.
#[derive(Debug, Default)]
pub struct Part {
    pub refusal: bool,
    pub text: String,
    /// Each as JSON.
    pub annotations: Vec<String>,
    pub logprobs: Vec<String>,
}

/// `status` of an item and of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
    Cancelled,
}

/// Makes ids that no other answer has: from the provider's own, else from the call's.
#[derive(Debug)]
pub struct Ids {
    base: String,
}

// === impl Ids ===

impl Ids {
    pub fn new(provider: Option<&str>, to: &ReplyTo<'_>) -> Self {
        Ids { base: base(provider.filter(|id| !id.is_empty()).unwrap_or(to.id)) }
    }

    pub fn make(&self, prefix: &str, n: usize) -> String {
        format!("{prefix}_{}_{n}", self.base)
    }
}

/// An id without the prefix that says whose it is; nothing in it that could not stand in an id here.
pub fn base(id: &str) -> String {
    let prefixes = ["resp_", "msg_", "chatcmpl-", "gen-", "cmpl-", "req_"];
    let id = prefixes.iter().find_map(|prefix| id.strip_prefix(prefix)).unwrap_or(id);
    id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect()
}

// === impl Status ===

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Incomplete => "incomplete",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }
}

// === impl Part ===

impl Part {
    pub fn write(&self, w: &mut Writer<'_>) {
        w.object();
        if self.refusal {
            w.name("type").string("refusal");
            w.name("refusal").string(&self.text);
        } else {
            w.name("type").string("output_text");
            w.name("annotations").array();
            self.annotations.iter().for_each(|json| w.raw(json));
            w.end_array();
            w.name("logprobs").array();
            self.logprobs.iter().for_each(|json| w.raw(json));
            w.end_array();
            w.name("text").string(&self.text);
        }
        w.end_object();
    }
}

// === impl Item ===

impl Item {
    pub fn id(&self) -> &str {
        match self {
            Item::Message { id, .. }
            | Item::Reasoning { id, .. }
            | Item::Call { id, .. }
            | Item::Search { id, .. }
            | Item::Program { id, .. }
            | Item::Image { id, .. }
            | Item::Native { id, .. } => id,
        }
    }

    /// The whole item. In progress, what comes in pieces is empty.
    pub fn write(&self, w: &mut Writer<'_>, status: Status) {
        let begun = status == Status::InProgress;
        if let Item::Native { json, .. } = self {
            return w.raw(json);
        }
        w.object();
        w.name("id").string(self.id());
        match self {
            Item::Message { parts, phase, .. } => {
                w.name("type").string("message");
                w.name("status").string(status.word());
                w.name("role").string("assistant");
                w.name("content").array();
                parts.iter().filter(|_| !begun).for_each(|part| part.write(w));
                w.end_array();
                w.raw_if("phase", phase.as_deref());
            }
            Item::Reasoning { summary, content, encrypted, extra, .. } => {
                w.name("type").string("reasoning");
                let (summary, content) = if begun { (&[][..], &[][..]) } else { (&summary[..], &content[..]) };
                texts(w, "summary", "summary_text", summary);
                if !content.is_empty() {
                    texts(w, "content", "reasoning_text", content);
                }
                w.string_if("encrypted_content", encrypted.as_deref().filter(|_| !begun));
                members(w, extra);
            }
            Item::Call { call_id, name, kind, arguments, extra, .. } => {
                let function = *kind == CallKind::Function;
                w.name("type").string(if function { "function_call" } else { "custom_tool_call" });
                w.name("status").string(status.word());
                let arguments = if begun { "" } else { arguments };
                w.name(if function { "arguments" } else { "input" }).string(arguments);
                w.name("call_id").string(call_id);
                w.name("name").string(name);
                members(w, extra);
            }
            Item::Search { action, sources, .. } => {
                w.name("type").string("web_search_call");
                w.name("status").string(status.word());
                w.name("action").object();
                members(w, action);
                if !sources.is_empty() {
                    w.name("sources").array();
                    sources.iter().for_each(|url| source(w, url));
                    w.end_array();
                }
                w.end_object();
            }
            Item::Program { code, logs, .. } => {
                w.name("type").string("code_interpreter_call");
                w.name("status").string(status.word());
                w.name("code").string(code);
                // the container is the provider's, who did not name it
                w.name("container_id").string("");
                w.name("outputs").array();
                if let Some(logs) = logs {
                    w.object();
                    w.name("type").string("logs");
                    w.name("logs").string(logs);
                    w.end_object();
                }
                w.end_array();
            }
            Item::Image { result, format, extra, .. } => {
                w.name("type").string("image_generation_call");
                w.name("status").string(status.word());
                w.name("result");
                if begun {
                    w.null()
                } else {
                    w.string(result)
                }
                if !format.is_empty() {
                    w.name("output_format").string(format);
                }
                members(w, extra);
            }
            Item::Native { .. } => {}
        }
        w.end_object();
    }

    /// A call the provider ran itself. `None`: there is no item for it here.
    pub fn of_server_call(call: &ServerCall<'_>, ids: &Ids, n: usize) -> Option<Item> {
        let ServerCall { id, tool, name: _, input, native, at: _ } = call;
        if let Some((Dialect::OpenAiResponses, json)) = native
            && (*tool == ServerToolKind::CodeExecution || has_action(json))
        {
            return Some(Item::Native { id: id.clone().into_owned(), json: json.clone().into_owned() });
        }
        let of = id.clone().into_owned();
        let id = |prefix: &str| {
            let own = id.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_'));
            if own { id.clone().into_owned() } else { ids.make(prefix, n) }
        };
        let read = Node::parse_reply(input.as_bytes()).ok();
        let input = read.as_ref().and_then(Node::as_object);
        let word = |name: &str| input.and_then(|input| input.get(name)).and_then(Node::as_str).unwrap_or_default();
        let item = match tool {
            ServerToolKind::WebSearch => {
                let action = action("search", "query", word("query"));
                Item::Search { id: id("ws"), of, action, sources: Vec::new() }
            }
            ServerToolKind::WebFetch => {
                let action = action("open_page", "url", word("url"));
                Item::Search { id: id("ws"), of, action, sources: Vec::new() }
            }
            ServerToolKind::CodeExecution => {
                let code = [word("code"), word("command")].into_iter().find(|code| !code.is_empty());
                Item::Program { id: id("ci"), of, code: code.unwrap_or_default().to_owned(), logs: None }
            }
            ServerToolKind::Other => return None,
        };
        Some(item)
    }

    /// Whether it is the call that a result belongs to.
    pub fn can_hold(&self, result: &ServerResult<'_>) -> bool {
        match self {
            Item::Native { id, .. } => *id == result.id,
            Item::Search { of, .. } | Item::Program { of, .. } => *of == result.id,
            Item::Message { .. } | Item::Reasoning { .. } | Item::Call { .. } | Item::Image { .. } => false,
        }
    }

    /// What came of it, put into its call.
    pub fn add_result(&mut self, result: &ServerResult<'_>) {
        match self {
            Item::Search { sources, action, .. } if action.contains(r#""search""#) => {
                sources.extend(result.sources.iter().map(|(url, _)| url.clone().into_owned()));
            }
            Item::Program { logs, .. } => *logs = result.output.as_ref().map(|text| text.clone().into_owned()),
            _ => {}
        }
    }

    /// An image the model made. `None`: what is not an image, or not here.
    pub fn of_media(media: &Media<'_>, own: bool, ids: &Ids, n: usize) -> Option<Item> {
        let Source::Base64 { media_type, data } = &media.source else { return None };
        let format = media_type.strip_prefix("image/")?;
        let format = if format == "svg+xml" { "svg" } else { format };
        let mut item = (ids.make("ig", n), String::new());
        let mut stated = false;
        for member in media.extra.0.iter().filter(|_| own) {
            match &*member.name {
                "id" => item.0 = member.json.trim_matches('"').to_owned(),
                "status" => {}
                name => {
                    stated |= name == "output_format";
                    push_member(&mut item.1, member);
                }
            }
        }
        let known = ["png", "webp", "jpeg", "gif", "svg"].contains(&format) && !stated;
        let format = if known { format.to_owned() } else { String::new() };
        Some(Item::Image { id: item.0, result: data.clone().into_owned(), format, extra: item.1 })
    }
}

/// `encrypted_content`, for any client.
pub fn encrypted(seal: &Seal<'_>, redacted: bool) -> String {
    seals::pack(seal, if redacted { Bearer::Redacted } else { Bearer::Thinking })
}

/// A search that says what it did; one vendor's older items do not.
fn has_action(json: &str) -> bool {
    Object::scan(json.as_bytes()).is_ok_and(|item| item.get("action").is_some())
}

fn action(kind: &str, name: &str, value: &str) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.name("type").string(kind);
    w.name(name).string(value);
    String::from_utf8(out).unwrap_or_default()
}

fn source(w: &mut Writer<'_>, url: &str) {
    w.object();
    w.name("type").string("url");
    w.name("url").string(url);
    w.end_object();
}

fn texts(w: &mut Writer<'_>, name: &str, kind: &str, texts: &[String]) {
    w.name(name).array();
    for text in texts {
        w.object();
        w.name("type").string(kind);
        w.name("text").string(text);
        w.end_object();
    }
    w.end_array();
}

/// Members as text, behind those already written.
fn members(w: &mut Writer<'_>, text: &str) {
    if !text.is_empty() {
        w.raw(text);
    }
}

/// One more member of an item's own: `"name":json,...`.
pub fn push_member(text: &mut String, member: &ExtraMember<'_>) {
    let mut name = Vec::new();
    Writer::new(&mut name).string(&member.name);
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(&String::from_utf8_lossy(&name));
    text.push(':');
    text.push_str(&member.json);
}

/// One token's probability, with all the official models want.
pub fn logprob(one: &Logprob<'_>) -> String {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object();
    token(&mut w, one);
    w.name("top_logprobs").array();
    for other in &one.top {
        w.object();
        token(&mut w, other);
        w.end_object();
    }
    w.end_array();
    w.end_object();
    String::from_utf8(out).unwrap_or_default()
}

fn token(w: &mut Writer<'_>, one: &Logprob<'_>) {
    w.name("token").string(&one.token);
    w.name("bytes");
    match &one.bytes {
        Some(bytes) => w.raw(bytes),
        None => {
            w.array();
            one.token.bytes().for_each(|byte| w.number(byte.into()));
            w.end_array();
        }
    }
    w.name("logprob").raw(&one.logprob);
}

/// What a refusal says when the provider gave no words.
pub const DECLINED: &str = "The model declined to answer.";

/// The id of a call's item.
pub fn call_item_id(item_id: Option<&str>, kind: CallKind, ids: &Ids, n: usize) -> String {
    let prefix = if kind == CallKind::Function { "fc" } else { "ctc" };
    item_id.map_or_else(|| Cow::Owned(ids.make(prefix, n)), Cow::Borrowed).into_owned()
}
