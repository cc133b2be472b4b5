//! Images, documents, films and sounds of a request: Converse's formats and sources, or a loss.
//!
//! Converse takes bytes and addresses in S3, and nothing else from outside. Truth: botocore's service model (`ImageBlock`,
//! `DocumentBlock`, `VideoBlock`, `AudioBlock`, `S3Location`).

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::part::{MediaPart, MediaSource};
use crate::chat::{Block, Losses, Media, MediaKind, Source};

/// Longest name of a document (`DocumentBlockNameString`).
const MAX_NAME: usize = 200;

/// The names given to documents so far: they must differ within a request.
#[derive(Debug, Default)]
pub struct Names {
    given: HashSet<String>,
    unnamed: usize,
}

/// The medium as a block, or `None` when Converse has none for it: then nothing is booked yet, for it depends on the place.
pub fn plan<'r>(media: &'r Media<'_>, names: &mut Names, losses: &mut Losses) -> Option<MediaPart<'r>> {
    let Media { kind, source, name, context, detail, citations, cache: _, seal, at, extra } = media;
    let (format, source, text_only) = format_and_source(*kind, source, name.as_deref())?;
    let member = match kind {
        MediaKind::Image => "image",
        MediaKind::Document => "document",
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    };
    let is_document = *kind == MediaKind::Document;
    if text_only {
        losses.changed(*at, "");
    }
    if detail.is_some() {
        losses.dropped(*at, "detail");
    }
    if seal.is_some() {
        losses.dropped(*at, "thoughtSignature");
    }
    if !is_document && name.is_some() {
        losses.dropped(*at, "name");
    }
    if !is_document && context.is_some() {
        losses.dropped(*at, "context");
    }
    losses.extra(extra);
    let cited = is_document && *citations == Some(true);
    let source = match source {
        // a text is cited by its characters, bytes are what every model takes
        MediaSource::Text(text) if !cited => MediaSource::Bytes(Cow::Owned(STANDARD.encode(text))),
        source => source,
    };
    Some(MediaPart {
        member,
        format,
        name: is_document.then(|| names.give(name.as_deref(), *at, losses)),
        source,
        context: context.as_deref().filter(|_| is_document),
        citations: cited,
    })
}

/// The third is true when the format given is only near the medium's own: a text of a kind without a word for it.
fn format_and_source<'r>(
    kind: MediaKind,
    source: &'r Source<'_>,
    name: Option<&str>,
) -> Option<(&'static str, MediaSource<'r>, bool)> {
    let format = |media_type: Option<&str>, path: Option<&str>| {
        let known = media_type.and_then(|t| format_of_type(kind, t));
        let extension = path.or(name).and_then(|path| format_of_extension(kind, path));
        let text = media_type.is_some_and(is_text) && kind == MediaKind::Document;
        known.or(extension).map(|f| (f, false)).or(text.then_some(("txt", true)))
    };
    match source {
        Source::Base64 { media_type, data } => {
            let (format, near) = format(Some(media_type), None)?;
            (!data.is_empty()).then_some((format, MediaSource::Bytes(Cow::Borrowed(data)), near))
        }
        Source::Url { url, media_type } => {
            let path = url.strip_prefix("s3://").filter(|path| is_s3_path(path) && url.len() <= 1024)?;
            let (format, near) = format(media_type.as_deref(), Some(path))?;
            Some((format, MediaSource::S3(url), near))
        }
        Source::Text { media_type, text } if kind == MediaKind::Document && !text.is_empty() => {
            let (format, near) = format(Some(media_type), None).unwrap_or(("txt", true));
            Some((format, MediaSource::Text(text), near))
        }
        Source::Blocks(blocks) if kind == MediaKind::Document => {
            let text = |block: &'r Block<'_>| match block {
                Block::Text(text) => Some(&*text.text),
                _ => None,
            };
            let texts: Vec<&str> = blocks.iter().filter_map(text).filter(|text| !text.is_empty()).collect();
            (texts.len() == blocks.len() && !texts.is_empty()).then_some(("txt", MediaSource::Content(texts), false))
        }
        Source::Text { .. } | Source::Blocks(_) | Source::File { .. } => None,
    }
}

fn format_of_type(kind: MediaKind, media_type: &str) -> Option<&'static str> {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Some(match (kind, essence.as_str()) {
        (MediaKind::Image, "image/png") => "png",
        (MediaKind::Image, "image/jpeg" | "image/jpg") => "jpeg",
        (MediaKind::Image, "image/gif") => "gif",
        (MediaKind::Image, "image/webp") => "webp",
        (MediaKind::Document, "application/pdf") => "pdf",
        (MediaKind::Document, "text/csv") => "csv",
        (MediaKind::Document, "application/msword") => "doc",
        (MediaKind::Document, "application/vnd.openxmlformats-officedocument.wordprocessingml.document") => "docx",
        (MediaKind::Document, "application/vnd.ms-excel") => "xls",
        (MediaKind::Document, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet") => "xlsx",
        (MediaKind::Document, "text/html") => "html",
        (MediaKind::Document, "text/plain") => "txt",
        (MediaKind::Document, "text/markdown" | "text/x-markdown") => "md",
        (MediaKind::Video, "video/x-matroska") => "mkv",
        (MediaKind::Video, "video/quicktime" | "video/mov") => "mov",
        (MediaKind::Video, "video/mp4") => "mp4",
        (MediaKind::Video, "video/webm") => "webm",
        (MediaKind::Video, "video/x-flv") => "flv",
        (MediaKind::Video, "video/mpeg") => "mpeg",
        (MediaKind::Video, "video/mpg") => "mpg",
        (MediaKind::Video, "video/x-ms-wmv" | "video/wmv") => "wmv",
        (MediaKind::Video, "video/3gpp") => "three_gp",
        (MediaKind::Audio, "audio/mpeg" | "audio/mp3") => "mp3",
        (MediaKind::Audio, "audio/wav" | "audio/x-wav" | "audio/wave") => "wav",
        (MediaKind::Audio, "audio/aac") => "aac",
        (MediaKind::Audio, "audio/flac" | "audio/x-flac") => "flac",
        (MediaKind::Audio, "audio/ogg") => "ogg",
        (MediaKind::Audio, "audio/opus") => "opus",
        (MediaKind::Audio, "audio/mp4") => "mp4",
        (MediaKind::Audio, "audio/m4a" | "audio/x-m4a") => "m4a",
        (MediaKind::Audio, "audio/webm") => "webm",
        (MediaKind::Audio, "audio/pcm" | "audio/l16") => "pcm",
        _ => return None,
    })
}

fn format_of_extension(kind: MediaKind, path: &str) -> Option<&'static str> {
    let (_, extension) = path.rsplit_once('.')?;
    Some(match (kind, extension.to_ascii_lowercase().as_str()) {
        (MediaKind::Image, "png") => "png",
        (MediaKind::Image, "jpg" | "jpeg") => "jpeg",
        (MediaKind::Image, "gif") => "gif",
        (MediaKind::Image, "webp") => "webp",
        (MediaKind::Document, "pdf") => "pdf",
        (MediaKind::Document, "csv") => "csv",
        (MediaKind::Document, "doc") => "doc",
        (MediaKind::Document, "docx") => "docx",
        (MediaKind::Document, "xls") => "xls",
        (MediaKind::Document, "xlsx") => "xlsx",
        (MediaKind::Document, "html" | "htm") => "html",
        (MediaKind::Document, "txt") => "txt",
        (MediaKind::Document, "md") => "md",
        (MediaKind::Video, "mkv") => "mkv",
        (MediaKind::Video, "mov") => "mov",
        (MediaKind::Video, "mp4") => "mp4",
        (MediaKind::Video, "webm") => "webm",
        (MediaKind::Video, "flv") => "flv",
        (MediaKind::Video, "mpeg") => "mpeg",
        (MediaKind::Video, "mpg") => "mpg",
        (MediaKind::Video, "wmv") => "wmv",
        (MediaKind::Video, "3gp") => "three_gp",
        (MediaKind::Audio, "mp3") => "mp3",
        (MediaKind::Audio, "wav") => "wav",
        (MediaKind::Audio, "aac") => "aac",
        (MediaKind::Audio, "flac") => "flac",
        (MediaKind::Audio, "ogg") => "ogg",
        (MediaKind::Audio, "opus") => "opus",
        (MediaKind::Audio, "m4a") => "m4a",
        _ => return None,
    })
}

/// Texts that have no word of their own: they are read as plain ones.
fn is_text(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.starts_with("text/")
        || matches!(essence, "application/json" | "application/xml" | "application/yaml" | "application/x-yaml")
}

/// `S3Uri` behind its scheme: a bucket of 3 to 63 small letters, digits, dots and hyphens, and perhaps a key.
fn is_s3_path(path: &str) -> bool {
    let bucket = path.split('/').next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| plain(b) || matches!(b, b'.' | b'-'))
        && bucket.bytes().next().is_some_and(plain)
        && bucket.bytes().next_back().is_some_and(plain)
}

// === impl Names ===

impl Names {
    /// Letters, digits, single spaces, hyphens, parentheses and brackets only (`DocumentBlock`); and no name twice.
    fn give(&mut self, wanted: Option<&str>, at: crate::json::At, losses: &mut Losses) -> String {
        let clean = wanted.map(clean).filter(|name| !name.is_empty());
        let base = clean.unwrap_or_else(|| {
            self.unnamed += 1;
            format!("document-{}", self.unnamed)
        });
        let mut name = base.clone();
        let mut copy = 1;
        while !self.given.insert(name.clone()) {
            copy += 1;
            name = format!("{} ({copy})", base.get(..MAX_NAME - 16).unwrap_or(&base));
        }
        if wanted.is_some_and(|wanted| wanted != name) {
            losses.changed(at, "name");
        }
        name
    }
}

/// Pure ASCII.
fn clean(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        let c = match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']') => c,
            c if c.is_whitespace() => ' ',
            _ => '-',
        };
        let again = matches!(c, ' ' | '-') && out.ends_with(c);
        if out.len() < MAX_NAME && !again {
            out.push(c);
        }
    }
    out.trim_matches([' ', '-']).to_owned()
}
