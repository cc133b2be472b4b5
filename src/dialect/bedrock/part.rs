//! Content blocks as Converse writes them: what the planning (`message`, `media`) decided on, and its JSON. No decisions here.

use std::borrow::Cow;

use crate::json::Writer;

/// One block of a message's, a system prompt's or a tool result's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'r> {
    Text(Cow<'r, str>),
    /// Text, and the citations it came with: each the JSON of a Converse citation.
    Cited {
        text: &'r str,
        citations: Vec<&'r str>,
    },
    Media(MediaPart<'r>),
    ToolUse {
        id: Cow<'r, str>,
        name: &'r str,
        input: Input<'r>,
    },
    ToolResult {
        id: Cow<'r, str>,
        parts: Vec<Part<'r>>,
        status: Option<&'static str>,
    },
    Reasoning {
        text: Cow<'r, str>,
        signature: Option<Cow<'r, str>>,
    },
    /// Base64.
    Redacted(Cow<'r, str>),
    SearchResult(SearchResult),
    CachePoint(Term),
    /// A block as Converse wrote it itself.
    Raw(Cow<'r, str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPart<'r> {
    /// `image`, `document`, `video` or `audio`.
    pub member: &'static str,
    pub format: &'static str,
    /// Documents only, and there always.
    pub name: Option<String>,
    pub source: MediaSource<'r>,
    pub context: Option<&'r str>,
    pub citations: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaSource<'r> {
    /// Base64.
    Bytes(Cow<'r, str>),
    S3(&'r str),
    Text(&'r str),
    /// The texts of a document in blocks.
    Content(Vec<&'r str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'r> {
    /// An object's text.
    Json(Cow<'r, str>),
    /// What is not an object, under this name.
    Wrapped(&'static str, &'r str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchResult {
    pub source: String,
    pub title: String,
    pub texts: Vec<String>,
    pub citations: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// The provider's, five minutes.
    Default,
    OneHour,
}

// === impl Part ===

impl Part<'_> {
    pub fn write(&self, w: &mut Writer<'_>) {
        if let Part::Raw(json) = self {
            return w.raw(json);
        }
        w.object();
        match self {
            Part::Text(text) => w.name("text").string(text),
            Part::Cited { text, citations } => write_cited(text, citations, w),
            Part::Media(media) => media.write(w),
            Part::ToolUse { id, name, input } => {
                w.name("toolUse").object();
                w.name("toolUseId").string(id);
                w.name("name").string(name);
                input.write(w.name("input"));
                w.end_object();
            }
            Part::ToolResult { id, parts, status } => {
                w.name("toolResult").object();
                w.name("toolUseId").string(id);
                write_all(parts, w.name("content"));
                w.string_if("status", *status);
                w.end_object();
            }
            Part::Reasoning { text, signature } => {
                w.name("reasoningContent").object();
                w.name("reasoningText").object();
                w.name("text").string(text);
                w.string_if("signature", signature.as_deref());
                w.end_object();
                w.end_object();
            }
            Part::Redacted(data) => {
                w.name("reasoningContent").object();
                w.name("redactedContent").string(data);
                w.end_object();
            }
            Part::SearchResult(result) => result.write(w),
            Part::CachePoint(term) => {
                w.name("cachePoint").object();
                w.name("type").string("default");
                w.string_if("ttl", (*term == Term::OneHour).then_some("1h"));
                w.end_object();
            }
            Part::Raw(_) => {}
        }
        w.end_object();
    }

    pub fn is_tool_result(&self) -> bool {
        matches!(self, Part::ToolResult { .. })
    }

    pub fn is_document(&self) -> bool {
        matches!(self, Part::Media(MediaPart { member: "document", .. }))
    }
}

/// An array of blocks.
pub fn write_all(parts: &[Part<'_>], w: &mut Writer<'_>) {
    w.array();
    for part in parts {
        part.write(w);
    }
    w.end_array();
}

fn write_cited(text: &str, citations: &[&str], w: &mut Writer<'_>) {
    w.name("citationsContent").object();
    write_texts("content", std::iter::once(text), w);
    w.name("citations").array();
    for citation in citations {
        w.raw(citation);
    }
    w.end_array();
    w.end_object();
}

/// `[{"text":..},..]`
fn write_texts<'t>(name: &str, texts: impl Iterator<Item = &'t str>, w: &mut Writer<'_>) {
    w.name(name).array();
    for text in texts {
        w.object();
        w.name("text").string(text);
        w.end_object();
    }
    w.end_array();
}

fn write_citations_switch(on: bool, w: &mut Writer<'_>) {
    if on {
        w.name("citations").object();
        w.name("enabled").boolean(true);
        w.end_object();
    }
}

// === impl MediaPart ===

impl MediaPart<'_> {
    fn write(&self, w: &mut Writer<'_>) {
        w.name(self.member).object();
        w.name("format").string(self.format);
        w.string_if("name", self.name.as_deref());
        w.name("source").object();
        match &self.source {
            MediaSource::Bytes(data) => w.name("bytes").string(data),
            MediaSource::S3(uri) => {
                w.name("s3Location").object();
                w.name("uri").string(uri);
                w.end_object();
            }
            MediaSource::Text(text) => w.name("text").string(text),
            MediaSource::Content(texts) => write_texts("content", texts.iter().copied(), w),
        }
        w.end_object();
        w.string_if("context", self.context);
        write_citations_switch(self.citations, w);
        w.end_object();
    }
}

// === impl Input ===

impl Input<'_> {
    fn write(&self, w: &mut Writer<'_>) {
        match self {
            Input::Json(json) => w.raw(json),
            Input::Wrapped(name, text) => {
                w.object();
                w.name(name).string(text);
                w.end_object();
            }
        }
    }
}

// === impl SearchResult ===

impl SearchResult {
    fn write(&self, w: &mut Writer<'_>) {
        w.name("searchResult").object();
        w.name("source").string(&self.source);
        w.name("title").string(&self.title);
        write_texts("content", self.texts.iter().map(String::as_str), w);
        write_citations_switch(self.citations, w);
        w.end_object();
    }
}
