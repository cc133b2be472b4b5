//! The parts a message's content is made of, written.

use std::borrow::Cow;

use super::rest;
use crate::chat::block::Native;
use crate::chat::{Block, Cache, Dialect, Extra, Losses, Media, MediaKind, Source, Text, Thinking, Ttl};
use crate::dialect::Manners;
use crate::json::{At, Writer};

/// What is written of a block, decided before the first byte: a content of one plain text is a string, not an array.
#[derive(Debug)]
pub(super) enum Part<'r> {
    Text { text: Cow<'r, str>, cache: Option<Cache>, extra: Option<&'r Extra<'r>> },
    Media { media: &'r Media<'r>, cache: Option<Cache> },
    Thinking(&'r Thinking<'r>),
    Native(&'r str),
}

/// What all parts of a request have in common.
pub(super) struct Parts<'r> {
    pub(super) from: Dialect,
    pub(super) manners: &'r Manners,
}

// === impl Part ===

impl<'r> Part<'r> {
    pub(super) fn plain(text: impl Into<Cow<'r, str>>) -> Self {
        Part::Text { text: text.into(), cache: None, extra: None }
    }
}

// === impl Parts ===

impl<'r> Parts<'r> {
    pub(super) fn text(&self, text: &'r Text<'r>, losses: &mut Losses) -> Part<'r> {
        let Text { text, citations, cache, seal, at, extra } = text;
        if !citations.is_empty() {
            losses.dropped(*at, "citations");
        }
        if seal.is_some() {
            losses.dropped(*at, "signature");
        }
        let cache = self.mark(*cache, losses);
        let own = self.from == Dialect::OpenAiChat;
        if !own {
            losses.extra(extra);
        }
        Part::Text { text: Cow::Borrowed(text), cache, extra: Some(extra).filter(|e| own && !e.is_empty()) }
    }

    /// A mark that the vendor takes; else it is booked.
    pub(super) fn mark(&self, cache: Option<Cache>, losses: &mut Losses) -> Option<Cache> {
        let cache = cache?;
        if self.manners.cache_control {
            return Some(cache);
        }
        losses.dropped(cache.at, "");
        None
    }

    /// The parts that media of a user's turn become: one, or the texts of a document that is text. Empty where the dialect has no place for
    /// it, which is essential: the answer would be about something else.
    pub(super) fn media(&self, media: &'r Media<'r>, losses: &mut Losses) -> Vec<Part<'r>> {
        let cache = self.mark(media.cache, losses);
        if media.seal.is_some() {
            losses.dropped(media.at, "signature");
        }
        if media.citations == Some(true) {
            losses.dropped(media.at, "citations");
        }
        match &media.source {
            Source::Text { .. } | Source::Blocks(_) => {
                let mut texts = self.of_document(media, losses);
                if let Some(Part::Text { cache: place, .. }) = texts.last_mut() {
                    *place = cache;
                }
                return texts;
            }
            Source::Url { .. } | Source::Base64 { .. } | Source::File { .. } => {}
        }
        if media.context.is_some() {
            losses.dropped(media.at, "context");
        }
        if self.has_place(media) {
            if self.from != Dialect::OpenAiChat {
                losses.extra(&media.extra);
            }
            vec![Part::Media { media, cache }]
        } else {
            losses.essential(media.at, "");
            Vec::new()
        }
    }

    fn has_place(&self, media: &Media<'_>) -> bool {
        match &media.source {
            Source::File { dialect, .. } => matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses),
            Source::Url { .. } => match media.kind {
                MediaKind::Image | MediaKind::Video => true,
                // OpenRouter takes addresses of files, from those who know it
                MediaKind::Document => self.from == Dialect::OpenAiChat,
                MediaKind::Audio => false,
            },
            Source::Base64 { .. } => true,
            Source::Text { .. } | Source::Blocks(_) => false,
        }
    }

    /// A document that is text, or blocks of it, stands in the content as what it is.
    pub(super) fn of_document(&self, media: &'r Media<'r>, losses: &mut Losses) -> Vec<Part<'r>> {
        let Media { kind: _, source, name, context, detail: _, citations: _, cache: _, seal: _, at, extra } = media;
        losses.changed(*at, "");
        if self.from != Dialect::OpenAiChat {
            losses.extra(extra);
        }
        let mut parts = Vec::new();
        let about: Vec<&str> = [name, context].into_iter().flatten().map(|text| &**text).collect();
        if !about.is_empty() {
            parts.push(Part::plain(about.join("\n")));
        }
        match source {
            Source::Text { media_type: _, text } => parts.push(Part::plain(&**text)),
            Source::Blocks(blocks) => {
                for block in blocks {
                    match block {
                        Block::Text(text) => parts.push(self.text(text, losses)),
                        // a document in a document is not looked into
                        Block::Media(media) if !matches!(media.source, Source::Blocks(_)) => {
                            parts.extend(self.media(media, losses));
                        }
                        other => losses.dropped(other.at(), ""),
                    }
                }
            }
            Source::Url { .. } | Source::Base64 { .. } | Source::File { .. } => {}
        }
        parts
    }

    /// A block of this dialect's own, as it came.
    pub(super) fn native(&self, native: &'r Native<'r>, losses: &mut Losses) -> Option<Part<'r>> {
        let Native { dialect, kind: _, json, at } = native;
        if *dialect == Dialect::OpenAiChat {
            return Some(Part::Native(json));
        }
        losses.dropped(*at, "");
        None
    }

    /// The value of a `content`.
    pub(super) fn write(&self, w: &mut Writer<'_>, parts: &[Part<'_>]) {
        match parts {
            [] => w.string(""),
            [Part::Text { text, cache: None, extra: None }] => w.string(text),
            parts => {
                w.array();
                for part in parts {
                    self.part(w, part);
                }
                w.end_array();
            }
        }
    }

    fn part(&self, w: &mut Writer<'_>, part: &Part<'_>) {
        match part {
            Part::Native(json) => w.raw(json),
            Part::Text { text, cache, extra } => {
                w.object();
                w.name("type").string("text");
                w.name("text").string(text);
                cache_control(w, *cache);
                for member in extra.iter().flat_map(|extra| &extra.0) {
                    w.name(&member.name).raw(&member.json);
                }
                w.end_object();
            }
            Part::Thinking(thinking) => {
                w.object();
                w.name("type").string("thinking");
                w.name("thinking").array();
                for thought in &thinking.thoughts {
                    w.object();
                    w.name("type").string("text");
                    w.name("text").string(&thought.text);
                    w.end_object();
                }
                w.end_array();
                w.end_object();
            }
            Part::Media { media, cache } => self.media_part(w, media, *cache),
        }
    }

    fn media_part(&self, w: &mut Writer<'_>, media: &Media<'_>, cache: Option<Cache>) {
        let Media {
            kind,
            source,
            name,
            context: _, // booked in `media`
            detail,
            citations: _, // booked in `media`
            cache: _,     // `cache`
            seal: _,      // booked in `media`
            at: _,
            extra,
        } = media;
        let part = match (kind, source) {
            (_, Source::File { .. }) | (MediaKind::Document, _) => "file",
            (MediaKind::Image, _) => "image_url",
            (MediaKind::Video, _) => "video_url",
            (MediaKind::Audio, _) => "input_audio",
        };
        w.object();
        w.name("type").string(part);
        w.name(part).object();
        match (part, source) {
            ("file", Source::File { id, .. }) => w.name("file_id").string(id),
            ("file", _) => {
                let given = name.as_deref().or_else(|| (self.from != Dialect::OpenAiChat).then(|| file_name(source)));
                w.string_if("filename", given);
                w.name("file_data");
                address(w, source);
            }
            ("input_audio", Source::Base64 { media_type, data }) => {
                w.name("data").string(data);
                w.name("format").string(audio_format(media_type));
            }
            _ => {
                w.name("url");
                address(w, source);
                w.string_if("detail", detail.as_deref());
            }
        }
        rest::merge(w, extra, self.from, part);
        w.end_object();
        cache_control(w, cache);
        rest::write(w, extra, self.from, &[part], &mut Losses::default());
        w.end_object();
    }
}

/// The address, or a `data:` URL.
fn address(w: &mut Writer<'_>, source: &Source<'_>) {
    match source {
        Source::Url { url, media_type: _ } => w.string(url),
        Source::Base64 { media_type, data } => w.strings(&["data:", media_type, ";base64,", data]),
        // `media` lets no other by
        Source::Text { .. } | Source::Blocks(_) | Source::File { .. } => w.string(""),
    }
}

/// OpenAI wants one for data.
fn file_name(source: &Source<'_>) -> &'static str {
    match source {
        Source::Base64 { media_type, .. } => match &**media_type {
            "text/plain" => "document.txt",
            "text/markdown" => "document.md",
            "text/html" => "document.html",
            "text/csv" => "document.csv",
            "application/json" => "document.json",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "document.docx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "document.xlsx",
            _ => "document.pdf",
        },
        _ => "document",
    }
}

fn audio_format(media_type: &str) -> &str {
    let subtype = media_type.split(';').next().unwrap_or_default().trim().trim_start_matches("audio/");
    match subtype.trim_start_matches("x-").trim_start_matches("vnd.") {
        "wav" | "wave" => "wav",
        "mpeg" | "mp3" | "mpeg3" => "mp3",
        other => other,
    }
}

pub(super) fn cache_control(w: &mut Writer<'_>, cache: Option<Cache>) {
    let Some(Cache { ttl, at: _ }) = cache else { return };
    w.name("cache_control").object();
    w.name("type").string("ephemeral");
    w.string_if(
        "ttl",
        ttl.map(|ttl| match ttl {
            Ttl::FiveMinutes => "5m",
            Ttl::OneHour => "1h",
        }),
    );
    w.end_object();
}

/// The loss of a block that no message of this dialect can hold.
pub(super) fn dropped(block: &Block<'_>, losses: &mut Losses) {
    let at: At = block.at();
    losses.dropped(at, "");
}
