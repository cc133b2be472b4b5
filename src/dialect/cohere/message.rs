//! Turns as Cohere's messages, and the documents that stand beside them.
//!
//! Truth: the Cohere API reference, "Chat (v2)", `messages` and `documents`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::chat::block::{Native, Refusal, ServerCall, ServerResult};
use crate::chat::{
    Block, Cache, CallKind, Losses, Media, MediaKind, Request, Role, Source, Text, Thinking, ToolCall, ToolResult, Turn,
};
use crate::json::Writer;

/// What is sent of a request's turns.
#[derive(Debug, Default)]
pub struct Conversation<'r> {
    messages: Vec<Message<'r>>,
    documents: Vec<Document<'r>>,
}

#[derive(Debug)]
enum Message<'r> {
    System(Vec<Item<'r>>),
    User(Vec<Item<'r>>),
    Assistant { content: Vec<Item<'r>>, plan: Option<Cow<'r, str>>, calls: Vec<Call<'r>> },
    Tool { id: &'r str, content: Vec<Item<'r>> },
}

/// One of a message's contents.
#[derive(Debug)]
enum Item<'r> {
    Text(Cow<'r, str>),
    Thinking(Cow<'r, str>),
    Image { address: Address<'r>, detail: Option<&'r str> },
    Document(Document<'r>),
}

#[derive(Debug)]
enum Address<'r> {
    Url(&'r str),
    Data { media_type: &'r str, data: &'r str },
}

#[derive(Debug)]
struct Document<'r> {
    title: Option<&'r str>,
    context: Option<&'r str>,
    text: Cow<'r, str>,
}

#[derive(Debug)]
struct Call<'r> {
    id: &'r str,
    name: &'r str,
    arguments: Arguments<'r>,
}

#[derive(Debug)]
enum Arguments<'r> {
    Json(&'r str),
    /// Of a custom tool.
    Text(&'r str),
}

/// Sorts blocks into messages, and keeps the book.
struct Planner<'r, 'l> {
    out: Conversation<'r>,
    losses: &'l mut Losses,
}

pub fn plan<'r>(request: &'r Request<'_>, losses: &mut Losses) -> Conversation<'r> {
    let mut planner = Planner { out: Conversation::default(), losses };
    for turn in &request.turns {
        planner.turn(turn);
    }
    planner.out
}

// === impl Planner ===

impl<'r> Planner<'r, '_> {
    fn turn(&mut self, turn: &'r Turn<'_>) {
        let Turn { role, name, blocks, at, extra } = turn;
        if name.is_some() {
            self.losses.dropped(*at, "name");
        }
        self.losses.extra(extra);
        match role {
            Role::System | Role::Developer => {
                let mut content = Vec::new();
                blocks.iter().for_each(|block| self.common(block, &mut content));
                if !content.is_empty() {
                    self.out.messages.push(Message::System(content));
                }
            }
            Role::User => self.user(turn),
            Role::Assistant => self.assistant(blocks),
        }
    }

    /// Results are messages of their own, and must follow the calls at once.
    fn user(&mut self, turn: &'r Turn<'_>) {
        let mut content = Vec::new();
        let (mut moved, mut documents) = (false, false);
        for block in &turn.blocks {
            match block {
                Block::ToolResult(result) => {
                    moved |= !content.is_empty();
                    self.tool_result(result);
                }
                Block::Media(media) => match self.media(media) {
                    Some(Item::Document(document)) => {
                        // documents stand beside the messages
                        self.losses.changed(media.at, "");
                        self.out.documents.push(document);
                        documents = true;
                    }
                    Some(item) => content.push(item),
                    None => self.losses.essential(media.at, ""),
                },
                other => self.common(other, &mut content),
            }
        }
        if moved {
            self.losses.changed(turn.at, "");
        }
        if content.is_empty() && documents {
            self.losses.changed(turn.at, "");
            content.push(Item::Text(Cow::Borrowed("(see documents)")));
        }
        if !content.is_empty() {
            self.out.messages.push(Message::User(content));
        }
    }

    fn assistant(&mut self, blocks: &'r [Block<'_>]) {
        let (mut content, mut calls) = (Vec::new(), Vec::new());
        for block in blocks {
            match block {
                Block::ToolCall(call) => calls.push(self.tool_call(call)),
                Block::Thinking(thinking) => self.thinking(thinking, &mut content),
                Block::Media(media) => self.omitted(media, &mut content),
                other => self.common(other, &mut content),
            }
        }
        if content.is_empty() && calls.is_empty() {
            return;
        }
        // thoughts before calls are what Cohere calls a plan
        let mut plan: Option<Cow<'r, str>> = None;
        if !calls.is_empty() {
            content.retain_mut(|item| match item {
                Item::Thinking(text) => {
                    let text = std::mem::take(text);
                    plan = Some(match plan.take() {
                        None => text,
                        Some(before) => Cow::Owned(format!("{before}\n\n{text}")),
                    });
                    false
                }
                _ => true,
            });
        }
        self.out.messages.push(Message::Assistant { content, plan, calls });
    }

    /// Blocks that mean the same whoever says them.
    fn common(&mut self, block: &'r Block<'_>, content: &mut Vec<Item<'r>>) {
        match block {
            Block::Text(Text { text, citations, cache, seal, at, extra }) => {
                if !citations.is_empty() {
                    self.losses.dropped(*at, "citations");
                }
                if seal.is_some() {
                    self.losses.dropped(*at, "thoughtSignature");
                }
                self.losses.extra(extra);
                self.unmarked(*cache);
                if !text.is_empty() {
                    content.push(Item::Text(Cow::Borrowed(text)));
                }
            }
            Block::Refusal(Refusal { text, at }) => {
                self.losses.changed(*at, "");
                if !text.is_empty() {
                    content.push(Item::Text(Cow::Borrowed(text)));
                }
            }
            Block::ServerCall(ServerCall { id: _, tool: _, name: _, input: _, native: _, at })
            | Block::ServerResult(ServerResult { id: _, tool: _, sources: _, output: _, native: _, at })
            | Block::Native(Native { dialect: _, kind: _, json: _, at }) => self.losses.dropped(*at, ""),
            Block::Media(_) | Block::Thinking(_) | Block::ToolCall(_) | Block::ToolResult(_) => {
                self.losses.dropped(block.at(), "");
            }
        }
    }

    /// Cohere seals nothing: what is sealed is another's.
    fn thinking(&mut self, block: &'r Thinking<'_>, content: &mut Vec<Item<'r>>) {
        // an item's id is of use to responses only
        let Thinking { thoughts, seal, redacted, id: _, at, extra } = block;
        self.losses.extra(extra);
        if seal.is_some() || *redacted {
            return self.losses.dropped(*at, "");
        }
        let text = match thoughts.as_slice() {
            [one] => Cow::Borrowed(&*one.text),
            several => {
                let texts: Vec<&str> = several.iter().map(|thought| &*thought.text).collect();
                Cow::Owned(texts.join("\n\n"))
            }
        };
        if !text.is_empty() {
            content.push(Item::Thinking(text));
        }
    }

    fn tool_call(&mut self, call: &'r ToolCall<'_>) -> Call<'r> {
        // an item's own id is of use to responses only
        let ToolCall { id, name, kind, arguments, cache, seal, item_id: _, at, extra } = call;
        if seal.is_some() {
            self.losses.dropped(*at, "thoughtSignature");
        }
        self.losses.extra(extra);
        self.unmarked(*cache);
        let arguments = match kind {
            CallKind::Function if arguments.trim().is_empty() => Arguments::Json("{}"),
            CallKind::Function => Arguments::Json(arguments),
            CallKind::Custom => {
                self.losses.changed(*at, "arguments");
                Arguments::Text(arguments)
            }
        };
        Call { id, name, arguments }
    }

    fn tool_result(&mut self, result: &'r ToolResult<'_>) {
        // the call has the name and the kind
        let ToolResult { id, name: _, kind: _, blocks, error, cache, at, extra } = result;
        self.losses.extra(extra);
        self.unmarked(*cache);
        if *error == Some(true) {
            self.losses.dropped(*at, "error");
        }
        let mut content = Vec::new();
        for block in blocks {
            match block {
                Block::Media(media) => match self.media(media) {
                    Some(document @ Item::Document(_)) => content.push(document),
                    _ => self.omitted(media, &mut content),
                },
                other => self.common(other, &mut content),
            }
        }
        if content.is_empty() {
            self.losses.changed(*at, "content");
            content.push(Item::Text(Cow::Borrowed("(no output)")));
        }
        self.out.messages.push(Message::Tool { id, content });
    }

    /// An image, or a document whose text can be read. `None` books nothing: what is lost depends on the place.
    fn media(&mut self, media: &'r Media<'_>) -> Option<Item<'r>> {
        let Media { kind, source, name, context, detail, citations: _, cache, seal, at, extra } = media;
        let item = match kind {
            MediaKind::Image => {
                let detail = detail.as_deref().filter(|detail| matches!(*detail, "auto" | "low" | "high"));
                Item::Image { address: address(source)?, detail }
            }
            // whether it is cited is for the whole request, and is the rule
            MediaKind::Document => {
                Item::Document(Document { title: name.as_deref(), context: context.as_deref(), text: text_of(source)? })
            }
            MediaKind::Audio | MediaKind::Video => return None,
        };
        let is_image = *kind == MediaKind::Image;
        let detail_lost = !matches!(item, Item::Image { detail: Some(_), .. }) && detail.is_some();
        for (lost, member) in [
            (detail_lost, "detail"),
            (seal.is_some(), "thoughtSignature"),
            (is_image && name.is_some(), "name"),
            (is_image && context.is_some(), "context"),
        ] {
            if lost {
                self.losses.dropped(*at, member);
            }
        }
        self.losses.extra(extra);
        self.unmarked(*cache);
        Some(item)
    }

    /// A medium where none may be: its place is kept, the message is not empty.
    fn omitted(&mut self, media: &Media<'_>, content: &mut Vec<Item<'r>>) {
        self.losses.dropped(media.at, "");
        let words = match media.kind {
            MediaKind::Image => "[image omitted]",
            MediaKind::Document => "[document omitted]",
            MediaKind::Audio => "[audio omitted]",
            MediaKind::Video => "[video omitted]",
        };
        content.push(Item::Text(Cow::Borrowed(words)));
    }

    /// Cohere caches by itself.
    fn unmarked(&mut self, cache: Option<Cache>) {
        if let Some(Cache { ttl: _, at }) = cache {
            self.losses.dropped(at, "");
        }
    }
}

fn address<'r>(source: &'r Source<'_>) -> Option<Address<'r>> {
    match source {
        Source::Url { url, media_type: _ } if url.starts_with("https://") || url.starts_with("http://") => {
            Some(Address::Url(url))
        }
        Source::Base64 { media_type, data } => Some(Address::Data { media_type, data }),
        Source::Url { .. } | Source::Text { .. } | Source::Blocks(_) | Source::File { .. } => None,
    }
}

/// The text of a document, where it is one.
fn text_of<'r>(source: &'r Source<'_>) -> Option<Cow<'r, str>> {
    match source {
        Source::Text { media_type: _, text } => Some(Cow::Borrowed(text)),
        Source::Base64 { media_type, data } if is_text(media_type) => {
            let bytes = STANDARD.decode(data.as_bytes()).ok()?;
            String::from_utf8(bytes).ok().map(Cow::Owned)
        }
        Source::Blocks(blocks) => {
            let text = |block: &'r Block<'_>| match block {
                Block::Text(text) => Some(&*text.text),
                _ => None,
            };
            let texts: Vec<&str> = blocks.iter().filter_map(text).collect();
            (texts.len() == blocks.len()).then(|| Cow::Owned(texts.join("\n\n")))
        }
        Source::Base64 { .. } | Source::Url { .. } | Source::File { .. } => None,
    }
}

fn is_text(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.starts_with("text/")
        || matches!(essence, "application/json" | "application/xml" | "application/yaml" | "application/x-yaml")
}

// === impl Conversation ===

impl Conversation<'_> {
    pub fn has_documents(&self) -> bool {
        !self.documents.is_empty()
    }

    pub fn write(&self, w: &mut Writer<'_>) {
        w.name("messages").array();
        for message in &self.messages {
            message.write(w);
        }
        w.end_array();
        if self.documents.is_empty() {
            return;
        }
        w.name("documents").array();
        for (number, document) in self.documents.iter().enumerate() {
            w.object();
            // by this name citations speak of it
            w.name("id").string(&format!("doc:{number}"));
            document.write_data(w);
            w.end_object();
        }
        w.end_array();
    }
}

impl Message<'_> {
    fn write(&self, w: &mut Writer<'_>) {
        w.object();
        match self {
            Message::System(content) => {
                w.name("role").string("system");
                write_content(content, w);
            }
            Message::User(content) => {
                w.name("role").string("user");
                write_content(content, w);
            }
            Message::Assistant { content, plan, calls } => {
                w.name("role").string("assistant");
                if !content.is_empty() {
                    write_content(content, w);
                }
                w.string_if("tool_plan", plan.as_deref());
                if !calls.is_empty() {
                    w.name("tool_calls").array();
                    calls.iter().for_each(|call| call.write(w));
                    w.end_array();
                }
            }
            Message::Tool { id, content } => {
                w.name("role").string("tool");
                w.name("tool_call_id").string(id);
                write_content(content, w);
            }
        }
        w.end_object();
    }
}

/// One text is a string.
fn write_content(content: &[Item<'_>], w: &mut Writer<'_>) {
    w.name("content");
    if let [Item::Text(text)] = content {
        return w.string(text);
    }
    w.array();
    for item in content {
        w.object();
        match item {
            Item::Text(text) => {
                w.name("type").string("text");
                w.name("text").string(text);
            }
            Item::Thinking(text) => {
                w.name("type").string("thinking");
                w.name("thinking").string(text);
            }
            Item::Image { address, detail } => {
                w.name("type").string("image_url");
                w.name("image_url").object();
                match address {
                    Address::Url(url) => w.name("url").string(url),
                    Address::Data { media_type, data } => {
                        w.name("url").strings(&["data:", media_type, ";base64,", data]);
                    }
                }
                w.string_if("detail", *detail);
                w.end_object();
            }
            Item::Document(document) => {
                w.name("type").string("document");
                w.name("document").object();
                document.write_data(w);
                w.end_object();
            }
        }
        w.end_object();
    }
    w.end_array();
}

impl Document<'_> {
    fn write_data(&self, w: &mut Writer<'_>) {
        w.name("data").object();
        w.string_if("title", self.title);
        w.string_if("context", self.context);
        w.name("text").string(&self.text);
        w.end_object();
    }
}

impl Call<'_> {
    fn write(&self, w: &mut Writer<'_>) {
        w.object();
        w.name("id").string(self.id);
        w.name("type").string("function");
        w.name("function").object();
        w.name("name").string(self.name);
        match self.arguments {
            Arguments::Json(json) => w.name("arguments").string(json),
            Arguments::Text(text) => {
                let json = serde_json::json!({ "input": text }).to_string();
                w.name("arguments").string(&json);
            }
        }
        w.end_object();
        w.end_object();
    }
}
