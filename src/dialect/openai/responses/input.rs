//! Turns, written as items of a request.

use std::borrow::Cow;

use super::content::{self, PART};
use super::{citation, seals};
use crate::chat::block::{Native, ServerCall, ServerResult};
use crate::chat::{
    Block, Cache, CallKind, Dialect, Extra, Issuer, Losses, Media, MediaKind, Role, Source, Text, Thinking, ToolCall,
    ToolResult, Turn,
};
use crate::json::{At, Writer};

/// Writes items into an array that is open.
pub struct Items<'w, 'o> {
    pub w: &'w mut Writer<'o>,
    /// Who wrote the request.
    pub dialect: Dialect,
    pub losses: &'w mut Losses,
}

/// Whose content the parts are, which decides on what they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Of the user, the system, the developer.
    Asked,
    Answered,
    ToolOutput,
}

// === impl Items ===

impl Items<'_, '_> {
    pub fn turns(&mut self, turns: &[Turn<'_>]) {
        for turn in turns {
            self.turn(turn);
        }
    }

    fn own(&self) -> bool {
        self.dialect == Dialect::OpenAiResponses
    }

    /// Runs of what messages are made of become messages, everything else an item of its own.
    fn turn(&mut self, turn: &Turn<'_>) {
        let Turn { role, name, blocks, at, extra } = turn;
        if name.is_some() {
            self.losses.dropped(*at, "name");
        }
        let none = Extra::default();
        // the extra members belong to the turn's message
        let mut extra = extra;
        if !self.own() {
            self.losses.extra(extra);
            extra = &none;
        } else if let Some(stored) = extra.0.iter().find(|m| ["item_reference", "compaction"].contains(&&*m.name)) {
            return self.w.raw(&stored.json);
        } else if blocks.is_empty() {
            return self.message(*role, blocks, extra);
        }
        let mut rest = blocks.as_slice();
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|block| self.is_part(block, *role)).count();
            if run > 0 {
                let (parts, behind) = rest.split_at(run);
                self.message(*role, parts, std::mem::replace(&mut extra, &none));
                rest = behind;
            } else {
                self.item(first);
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }

    /// Whether a block stands within a message.
    fn is_part(&self, block: &Block<'_>, role: Role) -> bool {
        match block {
            Block::Text(_) | Block::Refusal(_) => true,
            Block::Media(media) => !(role == Role::Assistant && self.is_generated(media)),
            Block::Native(native) => native.kind.starts_with(PART) && native.dialect == Dialect::OpenAiResponses,
            Block::Thinking(_)
            | Block::ToolCall(_)
            | Block::ToolResult(_)
            | Block::ServerCall(_)
            | Block::ServerResult(_) => false,
        }
    }

    /// An image this dialect's own tool made.
    fn is_generated(&self, media: &Media<'_>) -> bool {
        self.own() && media.kind == MediaKind::Image && media.extra.get("id").is_some()
    }

    fn message(&mut self, role: Role, blocks: &[Block<'_>], extra: &Extra<'_>) {
        let (word, place) = match role {
            Role::System => ("system", Place::Asked),
            Role::Developer => ("developer", Place::Asked),
            Role::User => ("user", Place::Asked),
            Role::Assistant => ("assistant", Place::Answered),
        };
        self.w.object();
        self.w.name("type").string("message");
        self.w.name("role").string(word);
        self.w.name("content");
        match blocks {
            // the short form, where nothing speaks against it: an answer with an id is not an "easy" message
            [Block::Text(text)] if extra.is_empty() && self.is_plain(text) => {
                self.text_losses(text);
                self.w.string(&text.text);
            }
            _ => self.parts(blocks, place),
        }
        for member in &extra.0 {
            self.w.name(&member.name).raw(&member.json);
        }
        self.w.end_object();
    }

    fn parts(&mut self, blocks: &[Block<'_>], place: Place) {
        self.w.array();
        for block in blocks {
            match block {
                Block::Text(text) => self.text(text, place),
                Block::Refusal(refusal) => {
                    self.w.object();
                    let asked = place != Place::Answered;
                    self.w.name("type").string(if asked { "input_text" } else { "refusal" });
                    self.w.name(if asked { "text" } else { "refusal" }).string(&refusal.text);
                    self.w.end_object();
                }
                Block::Media(media) => self.media(media, place),
                Block::Native(native) if native.dialect == Dialect::OpenAiResponses => self.w.raw(&native.json),
                Block::Thinking(_)
                | Block::ToolCall(_)
                | Block::ToolResult(_)
                | Block::ServerCall(_)
                | Block::ServerResult(_)
                | Block::Native(_) => self.losses.dropped(block.at(), ""),
            }
        }
        self.w.end_array();
    }

    /// Nothing but its text; of marks and seals what cannot be written is booked.
    fn is_plain(&self, text: &Text<'_>) -> bool {
        text.citations.is_empty() && text.extra.is_empty() && !(self.own() && text.cache.is_some())
    }

    /// Another dialect's mark is not made one of ours: the providers of this one cache by themselves.
    fn own_mark(&mut self, cache: Option<Cache>) {
        if self.own() {
            content::write_cache(self.w, cache);
        }
    }

    fn text_losses(&mut self, text: &Text<'_>) {
        if let Some(mark) = text.cache.filter(|_| !self.own()) {
            self.losses.dropped(mark.at, "");
        }
        if text.seal.is_some() {
            self.losses.dropped(text.at, "signature");
        }
    }

    fn text(&mut self, text: &Text<'_>, place: Place) {
        self.text_losses(text);
        let Text { text, citations, cache, seal: _, at, extra } = text;
        self.w.object();
        self.w.name("type").string(if place == Place::Answered { "output_text" } else { "input_text" });
        self.w.name("text").string(text);
        let length = text.chars().count() as u64;
        let mut written = Vec::new();
        for citation in citations {
            if citation::loses(citation) {
                self.losses.dropped(*at, "citations");
            }
            match citation::write(citation, length) {
                Some(json) if place == Place::Answered => written.push(json),
                _ => self.losses.dropped(*at, "citations"),
            }
        }
        self.own_mark(*cache);
        if !written.is_empty() {
            self.w.name("annotations").array();
            written.iter().for_each(|json| self.w.raw(json));
            self.w.end_array();
        }
        self.extra(extra);
        self.w.end_object();
    }

    fn extra(&mut self, extra: &Extra<'_>) {
        if !self.own() {
            return self.losses.extra(extra);
        }
        for member in &extra.0 {
            self.w.name(&member.name).raw(&member.json);
        }
    }

    /// A part that holds nothing but this text.
    fn plain(&mut self, text: &str, place: Place) {
        self.w.object();
        self.w.name("type").string(if place == Place::Answered { "output_text" } else { "input_text" });
        self.w.name("text").string(text);
        self.w.end_object();
    }

    /// What cannot be said: without it the request asks about something else, unless it is history.
    fn omit(&mut self, kind: MediaKind, at: At, place: Place) {
        match place {
            Place::Asked => self.losses.essential(at, ""),
            Place::Answered | Place::ToolOutput => {
                self.losses.dropped(at, "");
                let word = match kind {
                    MediaKind::Image => "image",
                    MediaKind::Document => "document",
                    MediaKind::Audio => "audio",
                    MediaKind::Video => "video",
                };
                self.plain(&format!("[{word} omitted]"), place);
            }
        }
    }

    fn media(&mut self, media: &Media<'_>, place: Place) {
        let Media { kind, source, name, context, detail, citations, cache, seal, at, extra } = media;
        if let Some(mark) = cache.filter(|_| !self.own()) {
            self.losses.dropped(mark.at, "");
        }
        if seal.is_some() {
            self.losses.dropped(*at, "signature");
        }
        if *citations == Some(true) {
            self.losses.dropped(*at, "citations");
        }
        if let Some(context) = context {
            self.losses.changed(*at, "context");
            self.plain(context, place);
        }
        if place == Place::Answered {
            return self.omit(*kind, *at, place);
        }
        match (kind, source) {
            // a file of any kind, as only this dialect sends them
            (_, Source::Base64 { .. }) if self.own() && name.is_some() => self.file(media, detail.as_deref(), place),
            (MediaKind::Document, Source::Text { media_type: _, text }) => {
                self.losses.changed(*at, "");
                let title = name.as_deref().map(|name| format!("{name}\n\n")).unwrap_or_default();
                self.plain(&format!("{title}{text}"), place);
                self.losses.extra(extra);
            }
            (_, Source::Blocks(blocks)) => {
                self.losses.changed(*at, "");
                self.flattened(name.as_deref(), blocks, place);
                self.losses.extra(extra);
            }
            (MediaKind::Image, Source::Text { .. }) | (MediaKind::Video, _) => self.omit(*kind, *at, place),
            (MediaKind::Image, _) => self.image(media, detail.as_deref(), place),
            (MediaKind::Document, _) => self.file(media, detail.as_deref(), place),
            (MediaKind::Audio, Source::Base64 { media_type, data }) => match audio_format(media_type) {
                Some(format) => {
                    self.w.object();
                    self.w.name("type").string("input_audio");
                    self.w.name("input_audio").object();
                    self.w.name("data").string(data);
                    self.w.name("format").string(format);
                    self.w.end_object();
                    self.extra(extra);
                    self.w.end_object();
                }
                None => self.omit(*kind, *at, place),
            },
            (MediaKind::Audio, _) => self.omit(*kind, *at, place),
        }
    }

    /// A document's texts and images, in their order; what else it holds is lost.
    fn flattened(&mut self, name: Option<&str>, blocks: &[Block<'_>], place: Place) {
        if let Some(name) = name {
            self.plain(name, place);
        }
        for block in blocks {
            match block {
                Block::Text(text) => self.text(text, place),
                Block::Media(inner) if !matches!(inner.source, Source::Blocks(_)) => self.media(inner, place),
                _ => self.losses.dropped(block.at(), ""),
            }
        }
    }

    fn image(&mut self, media: &Media<'_>, detail: Option<&str>, place: Place) {
        if !self.is_ours(&media.source) {
            return self.omit(media.kind, media.at, place);
        }
        self.w.object();
        self.w.name("type").string("input_image");
        match &media.source {
            Source::Url { url, media_type: _ } => self.w.name("image_url").string(url),
            Source::Base64 { media_type, data } => {
                self.w.name("image_url").strings(&["data:", media_type, ";base64,", data]);
            }
            Source::File { id, .. } => self.w.name("file_id").string(id),
            Source::Text { .. } | Source::Blocks(_) => {}
        }
        match detail {
            Some(word) if self.own() || ["low", "high", "auto", "original"].contains(&word) => {
                self.w.name("detail").string(word);
            }
            Some(_) => self.losses.dropped(media.at, "detail"),
            None => {}
        }
        if media.name.is_some() {
            self.losses.dropped(media.at, "name");
        }
        self.own_mark(media.cache);
        self.extra(&media.extra);
        self.w.end_object();
    }

    fn file(&mut self, media: &Media<'_>, detail: Option<&str>, place: Place) {
        if !self.is_ours(&media.source) {
            return self.omit(media.kind, media.at, place);
        }
        self.w.object();
        self.w.name("type").string("input_file");
        let mut name = media.name.as_deref();
        match &media.source {
            Source::Base64 { media_type, data } => {
                // data without a name is refused
                let made = || file_name(media_type);
                self.w.name("filename").string(&name.take().map_or_else(made, Cow::Borrowed));
                self.w.name("file_data").strings(&["data:", media_type, ";base64,", data]);
            }
            Source::Url { url, media_type: _ } => self.w.name("file_url").string(url),
            Source::File { id, .. } => self.w.name("file_id").string(id),
            Source::Text { .. } | Source::Blocks(_) => {}
        }
        if self.own() {
            self.w.string_if("filename", name);
            self.w.string_if("detail", detail);
        } else {
            if name.is_some() {
                self.losses.dropped(media.at, "name");
            }
            if detail.is_some() {
                self.losses.dropped(media.at, "detail");
            }
        }
        self.own_mark(media.cache);
        self.extra(&media.extra);
        self.w.end_object();
    }

    /// Not a file stored elsewhere. OpenAI's two dialects share their files.
    fn is_ours(&self, source: &Source<'_>) -> bool {
        match source {
            Source::File { dialect, .. } => matches!(dialect, Dialect::OpenAiResponses | Dialect::OpenAiChat),
            Source::Url { url, .. } => !url.starts_with("gs:") && !url.starts_with("s3:"),
            Source::Base64 { .. } | Source::Text { .. } | Source::Blocks(_) => true,
        }
    }

    fn item(&mut self, block: &Block<'_>) {
        match block {
            Block::Thinking(thinking) => self.reasoning(thinking),
            Block::ToolCall(call) => self.call(call),
            Block::ToolResult(result) => self.result(result),
            Block::Media(media) => self.generated(media),
            Block::ServerCall(ServerCall { native: Some((Dialect::OpenAiResponses, json)), .. })
            | Block::ServerResult(ServerResult { native: Some((Dialect::OpenAiResponses, json)), .. })
            | Block::Native(Native { dialect: Dialect::OpenAiResponses, json, .. }) => self.w.raw(json),
            // its call is the whole item
            Block::ServerResult(_) if self.own() => {}
            // an item made up for a call the provider never made would not be found by it; the answer that rests on it stays
            Block::ServerCall(_) | Block::ServerResult(_) | Block::Native(_) => self.losses.dropped(block.at(), ""),
            Block::Text(_) | Block::Refusal(_) => {}
        }
    }

    fn reasoning(&mut self, thinking: &Thinking<'_>) {
        let Thinking { thoughts, seal, redacted: _, id, at, extra } = thinking;
        let readable = match seal {
            Some(seal) => seal.issuer == Issuer::OpenAi,
            None => self.own(),
        };
        if !readable {
            return self.losses.dropped(*at, "");
        }
        self.w.object();
        self.w.name("type").string("reasoning");
        self.w.string_if("id", id.as_deref());
        let write = |w: &mut Writer<'_>, summary: bool, kind: &str| {
            for thought in thoughts.iter().filter(|thought| thought.summary == summary) {
                w.object();
                w.name("type").string(kind);
                w.name("text").string(&thought.text);
                w.end_object();
            }
        };
        self.w.name("summary").array();
        write(self.w, true, "summary_text");
        self.w.end_array();
        // what another dialect showed in full is in the seal; only this one has a place for it
        if self.own() && thoughts.iter().any(|thought| !thought.summary) {
            self.w.name("content").array();
            write(self.w, false, "reasoning_text");
            self.w.end_array();
        }
        if let Some(seal) = seal {
            self.w.name("encrypted_content").string(&seals::pack(seal, seals::Bearer::Thinking));
        }
        self.extra(extra);
        self.w.end_object();
    }

    fn call(&mut self, call: &ToolCall<'_>) {
        let ToolCall { id, name, kind, arguments, cache, seal, item_id, at, extra } = call;
        if let Some(mark) = cache {
            self.losses.dropped(mark.at, "");
        }
        if seal.is_some() {
            self.losses.dropped(*at, "signature");
        }
        self.w.object();
        let function = *kind == CallKind::Function;
        self.w.name("type").string(if function { "function_call" } else { "custom_tool_call" });
        self.w.string_if("id", item_id.as_deref());
        self.w.name("call_id").string(id);
        self.w.name("name").string(name);
        let arguments = if function && arguments.is_empty() && !self.own() { "{}" } else { arguments };
        self.w.name(if function { "arguments" } else { "input" }).string(arguments);
        self.extra(extra);
        self.w.end_object();
    }

    fn result(&mut self, result: &ToolResult<'_>) {
        // the name stands in the call
        let ToolResult { id, name: _, kind, blocks, error, cache, at, extra } = result;
        if let Some(mark) = cache {
            self.losses.dropped(mark.at, "");
        }
        if *error == Some(true) {
            self.losses.dropped(*at, "is_error");
        }
        self.w.object();
        let function = *kind == CallKind::Function;
        self.w.name("type").string(if function { "function_call_output" } else { "custom_tool_call_output" });
        self.w.name("call_id").string(id);
        self.w.name("output");
        match blocks.as_slice() {
            [] => self.w.string(""),
            [Block::Text(text)] if self.is_plain(text) => {
                self.text_losses(text);
                self.w.string(&text.text);
            }
            blocks => self.parts(blocks, Place::ToolOutput),
        }
        self.extra(extra);
        self.w.end_object();
    }

    /// An image the provider made, as the item it came in.
    fn generated(&mut self, media: &Media<'_>) {
        self.w.object();
        self.w.name("type").string("image_generation_call");
        if let Source::Base64 { data, .. } = &media.source {
            self.w.name("result").string(data);
        }
        self.extra(&media.extra);
        self.w.end_object();
    }
}

fn audio_format(media_type: &str) -> Option<&'static str> {
    match media_type {
        "audio/wav" | "audio/x-wav" | "audio/wave" => Some("wav"),
        "audio/mp3" | "audio/mpeg" => Some("mp3"),
        _ => None,
    }
}

fn file_name(media_type: &str) -> Cow<'static, str> {
    match media_type.rsplit('/').next() {
        Some("plain") | None => Cow::Borrowed("document.txt"),
        Some(kind) if kind.len() <= 4 && kind.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Cow::Owned(format!("document.{kind}"))
        }
        Some("markdown") => Cow::Borrowed("document.md"),
        Some(kind) if kind.ends_with("wordprocessingml.document") => Cow::Borrowed("document.docx"),
        Some(kind) if kind.ends_with("spreadsheetml.sheet") => Cow::Borrowed("document.xlsx"),
        Some(_) => Cow::Borrowed("document.pdf"),
    }
}
