//! What a turn is made of.

use std::borrow::Cow;

use super::{CallKind, Dialect, Extra, Json, Seal, ServerToolKind};
use crate::json::At;

/// One piece of content, in the order the model reads or wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block<'a> {
    Text(Text<'a>),
    Media(Media<'a>),
    Thinking(Thinking<'a>),
    ToolCall(ToolCall<'a>),
    /// The answer to a tool call; stands in a turn of the user.
    ToolResult(ToolResult<'a>),
    /// The model's own words for why it does not answer.
    Refusal(Refusal<'a>),
    /// A tool the provider ran itself: the call, as the model made it.
    ServerCall(ServerCall<'a>),
    /// And what came of it.
    ServerResult(ServerResult<'a>),
    /// A block only its own dialect knows.
    Native(Native<'a>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a> {
    pub text: Cow<'a, str>,
    /// What the text rests on; in a reply.
    pub citations: Vec<Citation<'a>>,
    pub cache: Option<Cache>,
    /// Gemini signs parts of any kind.
    pub seal: Option<Seal<'a>>,
    pub at: At,
    pub extra: Extra<'a>,
}

/// An image, a document, a sound or a film.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media<'a> {
    pub kind: MediaKind,
    pub source: Source<'a>,
    /// File name or title.
    pub name: Option<Cow<'a, str>>,
    /// What a document is about, in words the model reads but does not cite.
    pub context: Option<Cow<'a, str>>,
    /// How closely an image is looked at: `low`, `high`, `auto`, ...
    pub detail: Option<Cow<'a, str>>,
    /// Whether the model may cite a document.
    pub citations: Option<bool>,
    pub cache: Option<Cache>,
    /// Gemini signs images it made.
    pub seal: Option<Seal<'a>>,
    pub at: At,
    pub extra: Extra<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    Image,
    Document,
    Audio,
    Video,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source<'a> {
    /// `https:`, also `gs:` and `s3:`. The provider fetches it, or cannot; we never do.
    Url {
        url: Cow<'a, str>,
        media_type: Option<Cow<'a, str>>,
    },
    Base64 {
        media_type: Cow<'a, str>,
        data: Cow<'a, str>,
    },
    /// A document that is plain text.
    Text {
        media_type: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    /// A document made of blocks.
    Blocks(Vec<Block<'a>>),
    /// A file stored at a provider, by the id it has there: means nothing to any other.
    File {
        id: Cow<'a, str>,
        dialect: Dialect,
        media_type: Option<Cow<'a, str>>,
    },
}

/// What the model thought before it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thinking<'a> {
    /// In parts, as shown to the caller; empty when it is not shown (redacted, encrypted).
    pub thoughts: Vec<Thought<'a>>,
    /// Proves to the issuer that the text is its own, or holds the text encrypted.
    pub seal: Option<Seal<'a>>,
    /// The seal holds a thought that may not be shown (Anthropic's `redacted_thinking`).
    pub redacted: bool,
    /// The item's id where items have one (responses).
    pub id: Option<Cow<'a, str>>,
    pub at: At,
    pub extra: Extra<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thought<'a> {
    pub text: Cow<'a, str>,
    /// A summary of the thought, not the thought itself.
    pub summary: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall<'a> {
    /// Pairs the call with its result. Never empty: a decoder makes one where its dialect has none.
    pub id: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub kind: CallKind,
    /// `Function`: JSON text as the model wrote it, possibly unfinished or empty. `Custom`: free text.
    pub arguments: Cow<'a, str>,
    pub cache: Option<Cache>,
    /// Gemini signs calls.
    pub seal: Option<Seal<'a>>,
    /// The item's id where it is apart from the call's (responses).
    pub item_id: Option<Cow<'a, str>>,
    pub at: At,
    pub extra: Extra<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult<'a> {
    /// Of the call it answers.
    pub id: Cow<'a, str>,
    /// The tool's name, where the dialect repeats it (Gemini).
    pub name: Option<Cow<'a, str>>,
    pub kind: CallKind,
    pub blocks: Vec<Block<'a>>,
    /// `Some(true)`: the tool failed, and the blocks say how.
    pub error: Option<bool>,
    pub cache: Option<Cache>,
    pub at: At,
    pub extra: Extra<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal<'a> {
    pub text: Cow<'a, str>,
    pub at: At,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCall<'a> {
    pub id: Cow<'a, str>,
    pub tool: ServerToolKind,
    /// The tool's name in its dialect (`web_search`, `code_execution`, ...).
    pub name: Cow<'a, str>,
    /// The arguments, a JSON object's text; `{}` when there are none. Of a search: `{"query": ..}`.
    pub input: Json<'a>,
    /// The block or item as its own dialect wrote it.
    pub native: Option<(Dialect, Json<'a>)>,
    pub at: At,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerResult<'a> {
    /// Of the call it answers.
    pub id: Cow<'a, str>,
    pub tool: ServerToolKind,
    /// Pages found, in a word every dialect has: url and title.
    pub sources: Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>,
    /// What a program printed (code execution).
    pub output: Option<Cow<'a, str>>,
    pub native: Option<(Dialect, Json<'a>)>,
    pub at: At,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native<'a> {
    pub dialect: Dialect,
    /// The block's `type` there.
    pub kind: Cow<'a, str>,
    pub json: Json<'a>,
    pub at: At,
}

/// A mark that what comes before it, and itself, should be kept in the provider's prompt cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// `None`: the provider's default, five minutes.
    pub ttl: Option<Ttl>,
    pub at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    FiveMinutes,
    OneHour,
}

/// One source of a statement. Every part is there only when the provider said it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Citation<'a> {
    pub url: Option<Cow<'a, str>>,
    pub title: Option<Cow<'a, str>>,
    /// The words in the source.
    pub cited_text: Option<Cow<'a, str>>,
    /// Which of the request's documents, counted from 0.
    pub document: Option<u64>,
    pub file_id: Option<Cow<'a, str>>,
    /// Where in the source.
    pub source_span: Option<SourceSpan>,
    /// Where in the answer's text: characters, from and to (not included).
    pub text_span: Option<(u64, u64)>,
    /// As its own dialect wrote it.
    pub native: Option<(Dialect, Json<'a>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceSpan {
    /// Characters of a text.
    Chars(u64, u64),
    /// Pages of a PDF, from 1; the end is not included.
    Pages(u64, u64),
    /// Blocks of a document, from 0.
    Blocks(u64, u64),
}

// === impl Block ===

impl<'a> Block<'a> {
    /// Plain text from nowhere in particular.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Block::Text(Text::new(text))
    }

    pub fn at(&self) -> At {
        match self {
            Block::Text(b) => b.at,
            Block::Media(b) => b.at,
            Block::Thinking(b) => b.at,
            Block::ToolCall(b) => b.at,
            Block::ToolResult(b) => b.at,
            Block::Refusal(b) => b.at,
            Block::ServerCall(b) => b.at,
            Block::ServerResult(b) => b.at,
            Block::Native(b) => b.at,
        }
    }
}

// === impl Text ===

impl<'a> Text<'a> {
    pub fn new(text: impl Into<Cow<'a, str>>) -> Self {
        Text {
            text: text.into(),
            citations: Vec::new(),
            cache: None,
            seal: None,
            at: At::NOWHERE,
            extra: Extra::default(),
        }
    }
}

// === impl MediaKind ===

impl MediaKind {
    /// By MIME type: what is neither image, audio nor video is a document.
    pub fn of(media_type: &str) -> Self {
        match media_type.split('/').next().unwrap_or_default() {
            "image" => MediaKind::Image,
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => MediaKind::Document,
        }
    }
}

// === impl Source ===

impl<'a> Source<'a> {
    /// A `data:` URL becomes its base64 (RFC 2397); every other URL stays one.
    pub fn from_url(url: Cow<'a, str>) -> Self {
        fn split(url: &str) -> Option<(usize, usize)> {
            let head = url.get(..5).filter(|s| s.eq_ignore_ascii_case("data:"))?.len();
            let comma = url.find(',')?;
            let kind = url.get(head..comma)?;
            kind.ends_with(";base64").then_some((head + kind.find(';')?, comma + 1))
        }
        let Some((kind_end, data)) = split(&url) else { return Source::Url { url, media_type: None } };
        match url {
            Cow::Borrowed(url) => Source::Base64 { media_type: url[5..kind_end].into(), data: url[data..].into() },
            Cow::Owned(mut url) => {
                let text = url.split_off(data);
                url.truncate(kind_end);
                Source::Base64 { media_type: url.split_off(5).into(), data: text.into() }
            }
        }
    }
}
