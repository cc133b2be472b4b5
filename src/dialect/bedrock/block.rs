//! Blocks of the words as blocks of Converse.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::media::{self, Names};
use super::model::Family;
use super::part::{Input, Part, SearchResult, Term};
use crate::chat::block::{Native, Refusal, ServerCall, ServerResult};
use crate::chat::{
    Block, Cache, CallKind, Dialect, Issuer, Json, Losses, Media, MediaKind, Text, Thinking, ToolCall, ToolResult, Ttl,
    Turn,
};
use crate::json::Node;

/// Longest id of a tool's call (`ToolUseId`).
const MAX_ID: usize = 64;

/// Turns blocks into parts, and keeps the book.
#[derive(Debug)]
pub struct Planner<'l> {
    pub family: Family,
    /// Whose seals the model reads.
    pub issuer: Issuer,
    pub names: Names,
    pub losses: &'l mut Losses,
}

// === impl Planner ===

impl Planner<'_> {
    /// What of a turn is not its blocks.
    pub fn turn(&mut self, turn: &Turn<'_>) {
        let Turn { role: _, name, blocks: _, at, extra } = turn;
        if name.is_some() {
            self.losses.dropped(*at, "name");
        }
        self.losses.extra(extra);
    }

    pub fn user_blocks<'r>(&mut self, blocks: &'r [Block<'_>], parts: &mut Vec<Part<'r>>) {
        for block in blocks {
            match block {
                Block::Media(media) => match media::plan(media, &mut self.names, self.losses) {
                    Some(part) => {
                        parts.push(Part::Media(part));
                        self.cache_point(media.cache, parts);
                    }
                    // the answer would be about something else
                    None => self.losses.essential(media.at, ""),
                },
                Block::ToolResult(result) => self.tool_result(result, parts),
                other => self.common(other, parts),
            }
        }
    }

    pub fn assistant_blocks<'r>(&mut self, blocks: &'r [Block<'_>], parts: &mut Vec<Part<'r>>) {
        for block in blocks {
            match block {
                Block::ToolCall(call) => self.tool_call(call, parts),
                Block::Thinking(thinking) => self.thinking(thinking, parts),
                // "You can only include images and documents if the role is user."
                Block::Media(media) => self.omitted(media, parts),
                other => self.common(other, parts),
            }
        }
    }

    /// Blocks that mean the same whoever says them.
    fn common<'r>(&mut self, block: &'r Block<'_>, parts: &mut Vec<Part<'r>>) {
        match block {
            Block::Text(text) => self.text(text, parts),
            Block::Refusal(Refusal { text, at }) => {
                self.losses.changed(*at, "");
                if !text.is_empty() {
                    parts.push(Part::Text(Cow::Borrowed(text)));
                }
            }
            Block::ServerCall(ServerCall { id: _, tool: _, name: _, input: _, native, at })
            | Block::ServerResult(ServerResult { id: _, tool: _, sources: _, output: _, native, at }) => match native {
                Some((Dialect::Bedrock, json)) => parts.push(Part::Raw(Cow::Borrowed(json))),
                _ => self.losses.dropped(*at, ""),
            },
            Block::Native(native) => self.native(native, parts),
            Block::Media(_) | Block::Thinking(_) | Block::ToolCall(_) | Block::ToolResult(_) => {
                self.losses.dropped(block.at(), "");
            }
        }
    }

    pub fn text<'r>(&mut self, block: &'r Text<'_>, parts: &mut Vec<Part<'r>>) {
        let Text { text, citations, cache, seal, at, extra } = block;
        if seal.is_some() {
            self.losses.dropped(*at, "thoughtSignature");
        }
        self.losses.extra(extra);
        let own: Vec<&str> = citations
            .iter()
            .filter_map(|citation| match &citation.native {
                Some((Dialect::Bedrock, json)) => Some(&**json),
                _ => None,
            })
            .collect();
        if own.len() < citations.len() {
            self.losses.dropped(*at, "citations");
        }
        // an empty text is refused
        if !text.is_empty() {
            parts.push(match own.is_empty() {
                true => Part::Text(Cow::Borrowed(text)),
                false => Part::Cited { text, citations: own },
            });
        }
        self.cache_point(*cache, parts);
    }

    fn thinking<'r>(&mut self, block: &'r Thinking<'_>, parts: &mut Vec<Part<'r>>) {
        // an item's id is of use to responses only
        let Thinking { thoughts, seal, redacted, id: _, at, extra } = block;
        self.losses.extra(extra);
        match seal {
            Some(seal) if *redacted && seal.issuer == Issuer::Bedrock => {
                parts.push(Part::Redacted(Cow::Borrowed(&seal.raw)));
            }
            Some(seal) if *redacted && seal.issuer == self.issuer => {
                parts.push(Part::Redacted(Cow::Owned(STANDARD.encode(&*seal.raw))));
            }
            Some(seal) if seal.issuer == self.issuer => {
                let text = match thoughts.as_slice() {
                    [one] => Cow::Borrowed(&*one.text),
                    several => Cow::Owned(several.iter().map(|thought| &*thought.text).collect()),
                };
                parts.push(Part::Reasoning { text, signature: Some(seal.pack(self.issuer)) });
            }
            // of no use to another model, and refused by Claude without its seal
            _ => self.losses.dropped(*at, ""),
        }
    }

    fn tool_call<'r>(&mut self, call: &'r ToolCall<'_>, parts: &mut Vec<Part<'r>>) {
        // an item's own id is of use to responses only
        let ToolCall { id, name, kind, arguments, cache, seal, item_id: _, at, extra } = call;
        if seal.is_some() {
            self.losses.dropped(*at, "thoughtSignature");
        }
        self.losses.extra(extra);
        let input = match input(arguments, *kind) {
            Input::Wrapped(name, text) => {
                self.losses.changed(*at, "arguments");
                Input::Wrapped(name, text)
            }
            json => json,
        };
        let id = self.tool_id(id, *at);
        parts.push(Part::ToolUse { id, name, input });
        self.cache_point(*cache, parts);
    }

    fn tool_result<'r>(&mut self, result: &'r ToolResult<'_>, parts: &mut Vec<Part<'r>>) {
        // the call has the name and the kind
        let ToolResult { id, name: _, kind: _, blocks, error, cache, at, extra } = result;
        self.losses.extra(extra);
        let mut inner = Vec::new();
        for block in blocks {
            match block {
                Block::Media(media) if media.kind != MediaKind::Audio => {
                    match media::plan(media, &mut self.names, self.losses) {
                        Some(part) => inner.push(Part::Media(part)),
                        None => self.omitted(media, &mut inner),
                    }
                }
                Block::Media(media) => self.omitted(media, &mut inner),
                other => self.common(other, &mut inner),
            }
        }
        if inner.is_empty() {
            self.losses.changed(*at, "content");
            inner.push(Part::Text(Cow::Borrowed("(no output)")));
        }
        let before = inner.len();
        // a result's content has no place for marks and citations
        inner.retain(|part| !matches!(part, Part::CachePoint(_)));
        let marked = inner.len() < before;
        let status = match error {
            Some(failed) if self.family.tool_status() => Some(if *failed { "error" } else { "success" }),
            Some(true) => {
                self.losses.dropped(*at, "status");
                None
            }
            _ => None,
        };
        let id = self.tool_id(id, *at);
        parts.push(Part::ToolResult { id, parts: inner, status });
        if marked && cache.is_none() {
            self.losses.changed(*at, "cache_control");
            parts.push(Part::CachePoint(Term::Default));
        }
        self.cache_point(*cache, parts);
    }

    /// A medium where none may be: its place is kept, the block is not empty.
    fn omitted(&mut self, media: &Media<'_>, parts: &mut Vec<Part<'_>>) {
        self.losses.dropped(media.at, "");
        let words = match media.kind {
            MediaKind::Image => "[image omitted]",
            MediaKind::Document => "[document omitted]",
            MediaKind::Audio => "[audio omitted]",
            MediaKind::Video => "[video omitted]",
        };
        parts.push(Part::Text(Cow::Borrowed(words)));
    }

    pub fn native<'r>(&mut self, native: &'r Native<'_>, parts: &mut Vec<Part<'r>>) {
        let Native { dialect, kind, json, at } = native;
        match (dialect, &**kind) {
            (Dialect::Bedrock, _) => parts.push(Part::Raw(Cow::Borrowed(json))),
            (Dialect::Anthropic, "search_result") if self.family.is_claude() => match search_result(json) {
                Some(result) => parts.push(Part::SearchResult(result)),
                None => self.losses.dropped(*at, ""),
            },
            _ => self.losses.dropped(*at, ""),
        }
    }

    /// A mark behind what stands there.
    pub fn cache_point(&mut self, cache: Option<Cache>, parts: &mut Vec<Part<'_>>) {
        let Some(Cache { ttl, at }) = cache else { return };
        if !self.family.cache() {
            return self.losses.dropped(at, "");
        }
        let term = match ttl {
            Some(Ttl::OneHour) if self.family.cache_tools() => Term::OneHour,
            Some(Ttl::OneHour) => {
                self.losses.changed(at, "ttl");
                Term::Default
            }
            Some(Ttl::FiveMinutes) | None => Term::Default,
        };
        match parts.last_mut() {
            None => self.losses.dropped(at, ""),
            Some(Part::CachePoint(_)) => {}
            // a mark right behind a file is refused
            Some(Part::Media(media)) if media.member != "image" => {
                parts.push(Part::Text(Cow::Borrowed("\n")));
                parts.push(Part::CachePoint(term));
            }
            Some(_) => parts.push(Part::CachePoint(term)),
        }
    }

    fn tool_id<'r>(&mut self, id: &'r str, at: crate::json::At) -> Cow<'r, str> {
        let plain = plain_id(id);
        if matches!(plain, Cow::Owned(_)) {
            self.losses.changed(at, "id");
        }
        plain
    }
}

/// The same for a call and its result, and never the same for two: what is left of the id, and a hash of all of it.
fn plain_id(id: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if (1..=MAX_ID).contains(&id.len()) && id.bytes().all(plain) {
        return Cow::Borrowed(id);
    }
    let kept: String = id.bytes().filter(|b| plain(*b)).map(char::from).take(MAX_ID - 17).collect();
    Cow::Owned(format!("{kept}_{:016x}", fnv1a(id.as_bytes())))
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn input<'r>(arguments: &'r str, kind: CallKind) -> Input<'r> {
    match kind {
        CallKind::Custom => Input::Wrapped("input", arguments),
        // some models write `null` for nothing
        CallKind::Function if matches!(arguments.trim(), "" | "null") => Input::Json(Cow::Borrowed("{}")),
        CallKind::Function => match Node::parse(arguments.as_bytes()) {
            Ok(node) if node.as_object().is_some() => Input::Json(Cow::Borrowed(node.raw)),
            _ => Input::Wrapped("INVALID_JSON", arguments),
        },
    }
}

/// Anthropic's `search_result` block, which Converse has too.
fn search_result(json: &Json<'_>) -> Option<SearchResult> {
    let mut block = Node::parse(json.as_bytes()).ok()?.object().ok()?;
    let text = |node: Node<'_>| {
        let text = node.object().ok()?.take_string("text").ok()??;
        Some(text.into_owned())
    };
    let enabled = block.take_object("citations").ok()?.and_then(|mut c| c.take_bool("enabled").ok()?);
    Some(SearchResult {
        source: block.take_string("source").ok()??.into_owned(),
        title: block.take_string("title").ok()??.into_owned(),
        texts: block.take_array("content").ok()??.into_iter().filter_map(text).collect(),
        citations: enabled == Some(true),
    })
}
