//! Content blocks of a request, written.
//!
//! What a place cannot hold is replaced by a few words, so that nothing is empty, and booked: in the user's own words as essential, since
//! the model would answer something else; elsewhere as dropped.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{citation, leftover};
use crate::chat::block::{Native, Refusal, ServerCall, ServerResult};
use crate::chat::{
    Block, Cache, Citation, Dialect, Extra, Issuer, Losses, Media, MediaKind, Seal, Source, Text, Thinking, ToolCall,
    ToolResult, Ttl,
};
use crate::json::{At, Object, Writer};

/// Writes blocks and keeps the book.
pub(super) struct Blocks<'w, 'o, 'l> {
    pub w: &'w mut Writer<'o>,
    pub losses: &'l mut Losses,
    /// The request was written in this dialect: its `extra` members are ours.
    pub own: bool,
}

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    System,
    User,
    Assistant,
    Result,
    Document,
}

// === impl Blocks ===

impl Blocks<'_, '_, '_> {
    /// Recursion (results, documents) is bounded by the depth of the text the blocks were read from.
    pub(super) fn block(&mut self, block: &Block<'_>, place: Place) {
        match block {
            Block::Text(text) => self.text(text, place),
            Block::Media(media) => self.media(media, place),
            Block::Thinking(thinking) => self.thinking(thinking),
            Block::ToolCall(call) => self.tool_use(call),
            Block::ToolResult(result) => self.tool_result(result),
            Block::Refusal(Refusal { text, at }) => {
                self.losses.changed(*at, "");
                self.words(text, None);
            }
            Block::ServerCall(ServerCall { native, at, id: _, tool: _, name: _, input: _ }) => self.native(native, *at),
            Block::ServerResult(ServerResult { native, at, id: _, tool: _, sources: _, output: _ }) => {
                self.native(native, *at);
            }
            Block::Native(Native { dialect, json, at, kind: _ }) => match dialect {
                Dialect::Anthropic => self.w.raw(json),
                _ => self.losses.dropped(*at, ""),
            },
        }
    }

    /// A text block of these words.
    pub(super) fn words(&mut self, text: &str, cache: Option<Cache>) {
        self.w.object();
        self.w.name("type").string("text");
        self.w.name("text").string(text);
        self.cache(cache, None);
        self.w.end_object();
    }

    /// `content`: a string where one text says it all.
    pub(super) fn content(&mut self, blocks: &[Block<'_>], place: Place) {
        if let [Block::Text(only)] = blocks
            && plain(only)
        {
            self.w.string(&only.text);
            return;
        }
        self.w.array();
        for block in blocks {
            self.block(block, place);
        }
        self.w.end_array();
    }

    pub(super) fn cache(&mut self, cache: Option<Cache>, extra: Option<&Extra<'_>>) {
        let extra = extra.filter(|_| self.own);
        let Some(Cache { ttl, at: _ }) = cache else { return };
        self.w.name("cache_control").object();
        self.w.name("type").string("ephemeral");
        self.w.string_if(
            "ttl",
            ttl.map(|ttl| match ttl {
                Ttl::FiveMinutes => "5m",
                Ttl::OneHour => "1h",
            }),
        );
        leftover::write(self.w, extra, leftover::CACHE);
        self.w.end_object();
    }

    /// Members of the object itself that no word has a place for.
    pub(super) fn extra(&mut self, extra: &Extra<'_>) {
        if self.own {
            leftover::write_own(self.w, extra);
        } else {
            self.losses.extra(extra);
        }
    }

    fn native(&mut self, native: &Option<(Dialect, Cow<'_, str>)>, at: At) {
        match native {
            Some((Dialect::Anthropic, json)) => self.w.raw(json),
            _ => self.losses.dropped(at, ""),
        }
    }

    fn text(&mut self, text: &Text<'_>, place: Place) {
        let Text { text, citations, cache, seal, at, extra } = text;
        // in results and documents: turns have been cleared of blank texts before
        if !self.own && text.trim().is_empty() {
            return;
        }
        self.unsealed(seal, *at);
        self.w.object();
        self.w.name("type").string("text");
        self.w.name("text").string(text);
        self.citations(citations, *at, place);
        self.cache(*cache, Some(extra));
        self.extra(extra);
        self.w.end_object();
    }

    fn citations(&mut self, citations: &[Citation<'_>], at: At, place: Place) {
        let native: Vec<&str> = citations.iter().filter_map(citation::native).collect();
        if native.len() < citations.len() || (place == Place::System && !native.is_empty()) {
            self.losses.dropped(at, "citations");
        }
        if !native.is_empty() && place != Place::System {
            self.w.name("citations").array();
            native.iter().for_each(|json| self.w.raw(json));
            self.w.end_array();
        }
    }

    fn thinking(&mut self, thinking: &Thinking<'_>) {
        let Thinking { thoughts, seal, redacted, id: _, at, extra } = thinking;
        let seal = seal.as_ref().map(|seal| seal.pack(Issuer::Anthropic)).unwrap_or_default();
        self.w.object();
        if *redacted {
            self.w.name("type").string("redacted_thinking");
            self.w.name("data").string(&seal);
            if !thoughts.is_empty() {
                self.losses.dropped(*at, "");
            }
        } else {
            let texts: Vec<&str> = thoughts.iter().map(|thought| &*thought.text).collect();
            self.w.name("type").string("thinking");
            self.w.name("thinking").string(&texts.join("\n\n"));
            self.w.name("signature").string(&seal);
        }
        self.extra(extra);
        self.w.end_object();
    }

    fn tool_use(&mut self, call: &ToolCall<'_>) {
        let ToolCall { id, name, kind: _, arguments, cache, seal, item_id: _, at, extra } = call;
        self.unsealed(seal, *at);
        self.w.object();
        self.w.name("type").string("tool_use");
        self.tool_id("id", id, *at);
        self.w.name("name").string(name);
        self.w.name("input");
        if !input(self.w, arguments) {
            self.losses.changed(*at, "input");
        }
        self.cache(*cache, Some(extra));
        self.extra(extra);
        self.w.end_object();
    }

    fn tool_result(&mut self, result: &ToolResult<'_>) {
        // results are found by the call's id; free-text tools have plain results too
        let ToolResult { id, name: _, kind: _, blocks, error, cache, at, extra } = result;
        self.w.object();
        self.w.name("type").string("tool_result");
        self.tool_id("tool_use_id", id, *at);
        if !blocks.is_empty() {
            self.w.name("content");
            self.content(blocks, Place::Result);
        }
        self.w.boolean_if("is_error", *error);
        self.cache(*cache, Some(extra));
        self.extra(extra);
        self.w.end_object();
    }

    fn tool_id(&mut self, member: &'static str, id: &str, at: At) {
        let plain = plain_id(id);
        if plain != id {
            self.losses.changed(at, member);
        }
        self.w.name(member).string(&plain);
    }

    fn unsealed(&mut self, seal: &Option<Seal<'_>>, at: At) {
        if seal.is_some() {
            self.losses.dropped(at, "");
        }
    }

    fn media(&mut self, media: &Media<'_>, place: Place) {
        let Media { kind, source, name, context, detail, citations, cache, seal, at, extra } = media;
        let kind = match source {
            Source::Base64 { media_type, .. } if media_type.starts_with("image/") => MediaKind::Image,
            _ => *kind,
        };
        let spoken = place == Place::System || (place == Place::Assistant && !self.own);
        let form = if spoken { Form::None } else { form(kind, source) };
        if matches!(form, Form::None) {
            self.omitted(kind, place, *cache, *at);
            return;
        }
        self.unsealed(seal, *at);
        if detail.as_ref().is_some_and(|detail| detail != "auto") {
            self.losses.dropped(*at, "detail");
        }
        self.w.object();
        let found = extra.get("source").filter(|_| self.own);
        if let (Some(found), Source::Blocks(blocks)) = (found, source) {
            self.w.name("type").string("search_result");
            self.w.name("source").raw(&found.json);
            self.w.name("title").string(name.as_deref().unwrap_or_default());
            self.w.name("content").array();
            blocks.iter().for_each(|block| self.block(block, Place::Document));
            self.w.end_array();
        } else {
            self.w.name("type").string(if kind == MediaKind::Image { "image" } else { "document" });
            self.source(&form, extra, *at);
            if kind == MediaKind::Image {
                if name.is_some() || context.is_some() {
                    self.losses.dropped(*at, "");
                }
            } else {
                self.w.string_if("title", name.as_deref());
                self.w.string_if("context", context.as_deref());
            }
        }
        let cites = citations.is_some() || (self.own && leftover::has(Some(extra), leftover::CITATIONS));
        if cites && kind != MediaKind::Image {
            self.w.name("citations").object();
            self.w.boolean_if("enabled", *citations);
            leftover::write(self.w, Some(extra).filter(|_| self.own), leftover::CITATIONS);
            self.w.end_object();
        }
        self.cache(*cache, Some(extra));
        match found {
            Some(_) => leftover::write_own_but(self.w, extra, "source"),
            None => self.extra(extra),
        }
        self.w.end_object();
    }

    fn omitted(&mut self, kind: MediaKind, place: Place, cache: Option<Cache>, at: At) {
        match place {
            Place::User | Place::Document => self.losses.essential(at, ""),
            Place::System | Place::Assistant | Place::Result => self.losses.dropped(at, ""),
        }
        self.words(placeholder(kind), cache);
    }

    fn source(&mut self, form: &Form<'_, '_>, extra: &Extra<'_>, at: At) {
        self.w.name("source").object();
        match form {
            Form::Base64(media_type, data) => {
                self.w.name("type").string("base64");
                self.w.name("media_type").string(media_type);
                self.w.name("data").string(data);
            }
            Form::Text(media_type, text) => {
                if *media_type != "text/plain" {
                    self.losses.changed(at, "");
                }
                self.w.name("type").string("text");
                self.w.name("media_type").string("text/plain");
                self.w.name("data").string(text);
            }
            Form::Url(url) => {
                self.w.name("type").string("url");
                self.w.name("url").string(url);
            }
            Form::File(id) => {
                self.w.name("type").string("file");
                self.w.name("file_id").string(id);
            }
            Form::Blocks(blocks) => {
                self.w.name("type").string("content");
                self.w.name("content");
                self.content(blocks, Place::Document);
            }
            Form::None => {}
        }
        if self.own {
            leftover::write(self.w, Some(extra), leftover::SOURCE);
        }
        self.w.end_object();
    }
}

/// A source as this dialect has it.
enum Form<'s, 'a> {
    Base64(&'s str, &'s str),
    /// The type it had, and the text.
    Text(&'s str, Cow<'s, str>),
    Url(&'s str),
    File(&'s str),
    Blocks(&'s [Block<'a>]),
    /// There is none for it.
    None,
}

fn form<'s, 'a>(kind: MediaKind, source: &'s Source<'a>) -> Form<'s, 'a> {
    match (kind, source) {
        (MediaKind::Audio | MediaKind::Video, _) => Form::None,
        (_, Source::Url { url, media_type: _ }) if url.starts_with("http") => Form::Url(url),
        (_, Source::Url { .. }) => Form::None,
        (_, Source::File { id, dialect: Dialect::Anthropic, media_type: _ }) => Form::File(id),
        (_, Source::File { .. }) => Form::None,
        (MediaKind::Image, Source::Base64 { media_type, data }) => Form::Base64(media_type, data),
        (MediaKind::Image, Source::Text { .. } | Source::Blocks(_)) => Form::None,
        (MediaKind::Document, Source::Base64 { media_type, data }) if media_type == "application/pdf" => {
            Form::Base64(media_type, data)
        }
        // of documents in base64 only PDF is taken: text is sent as text
        (MediaKind::Document, Source::Base64 { media_type, data }) if textual(media_type) => {
            match STANDARD.decode(&**data).map(String::from_utf8) {
                Ok(Ok(text)) => Form::Text(media_type, Cow::Owned(text)),
                _ => Form::None,
            }
        }
        (MediaKind::Document, Source::Base64 { .. }) => Form::None,
        (MediaKind::Document, Source::Text { media_type, text }) => Form::Text(media_type, Cow::Borrowed(text)),
        (MediaKind::Document, Source::Blocks(blocks)) => Form::Blocks(blocks),
    }
}

fn textual(media_type: &str) -> bool {
    media_type.starts_with("text/") || matches!(media_type, "application/json" | "application/xml" | "application/yaml")
}

/// What stands where a picture, a document, ... cannot.
pub(super) fn placeholder(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "[image omitted]",
        MediaKind::Document => "[document omitted]",
        MediaKind::Audio => "[audio omitted]",
        MediaKind::Video => "[video omitted]",
    }
}

/// A text that is nothing but its words.
pub(super) fn plain(text: &Text<'_>) -> bool {
    let Text { text: _, citations, cache, seal, at: _, extra } = text;
    citations.is_empty() && cache.is_none() && seal.is_none() && extra.is_empty()
}

/// Arguments as the object this dialect wants. `false`: they were none, and stand in one.
pub(super) fn input(w: &mut Writer<'_>, arguments: &str) -> bool {
    let text = arguments.trim();
    // some models write `null` for nothing
    if matches!(text, "" | "null") {
        w.raw("{}");
        return true;
    }
    let is_object = Object::scan(text.as_bytes()).is_ok();
    if is_object {
        w.raw(text);
    } else {
        w.object();
        w.name("INVALID_JSON").string(arguments);
        w.end_object();
    }
    is_object
}

/// An id of letters, digits, `_` and `-`, the same for the call and its result; ids that differ stay different.
fn plain_id(id: &str) -> Cow<'_, str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !id.is_empty() && id.chars().all(allowed) {
        return Cow::Borrowed(id);
    }
    // FNV-1a, 64 bits (draft-eastlake-fnv)
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let plain: String = id.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    Cow::Owned(format!("{plain}_{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_plain_and_stay_apart() {
        assert_eq!(plain_id("call_1-A"), "call_1-A");
        let (a, b) = (plain_id("functions.get:0"), plain_id("functions:get.0"));
        assert!(a.starts_with("functions_get_0_") && a != b);
        assert_eq!(plain_id("functions.get:0"), a);
        assert!(!plain_id("").is_empty());
    }

    #[test]
    fn arguments_become_an_object() {
        for (arguments, expected, kept) in [
            ("", "{}", true),
            (" {\"a\": 1.0}\n", "{\"a\": 1.0}", true),
            ("{\"a\":", r#"{"INVALID_JSON":"{\"a\":"}"#, false),
            ("[1]", r#"{"INVALID_JSON":"[1]"}"#, false),
        ] {
            let mut out = Vec::new();
            assert_eq!(input(&mut Writer::new(&mut out), arguments), kept);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
