//! Images, documents, sounds and films as parts.

use std::borrow::Cow;

use super::contents::Terms;
use super::part::{Data, Part, own};
use crate::chat::{Block, Dialect, Issuer, Losses, Media, MediaKind, Source, Text};
use crate::dialect::gemini::media_type::{is_youtube, media_type_of};
use crate::json::At;

/// It cannot be sent: a file of another provider, an address only another cloud knows.
#[derive(Debug)]
pub struct Unreachable;

/// A document may become several parts. Whoever calls books what is unreachable: it depends on where it stood.
pub fn parts<'r>(media: &'r Media<'_>, terms: Terms, losses: &mut Losses) -> Result<Vec<Part<'r>>, Unreachable> {
    let Media { kind, source, name, context, detail, citations, cache, seal, at, extra } = media;
    let mut parts = Vec::new();
    if let Some(context) = context {
        losses.changed(*at, "context");
        parts.push(Part::text(&**context));
    }
    let is_text = matches!(source, Source::Text { .. } | Source::Blocks(_));
    match name {
        Some(name) if *kind == MediaKind::Document && !is_text && !terms.native => parts.push(Part::text(&**name)),
        Some(_) if !is_text && !terms.native => losses.dropped(*at, "name"),
        _ => {}
    }
    let start = parts.len();
    match source {
        Source::Text { media_type: _, text } => {
            losses.changed(*at, "");
            parts.push(Part::text(titled(name.as_deref(), text)));
        }
        Source::Blocks(blocks) => {
            losses.changed(*at, "");
            parts.extend(name.as_deref().map(Part::text));
            within(blocks, terms, losses, &mut parts)?;
        }
        Source::Url { url, media_type } => {
            if url.starts_with("s3:") {
                return Err(Unreachable);
            }
            let media_type = named_type(media_type.as_deref(), url, *kind, terms, *at, losses);
            parts.push(Part::new(Data::File { uri: url, media_type, name: shown(name, terms.native) }));
        }
        Source::Base64 { media_type, data } => {
            let media_type = official(media_type);
            parts.push(Part::new(Data::Inline { media_type, data, name: shown(name, terms.native) }));
        }
        Source::File { id, dialect: Dialect::Gemini, media_type } => {
            let media_type = media_type.as_deref().map(official);
            parts.push(Part::new(Data::File { uri: id, media_type, name: shown(name, terms.native) }));
        }
        Source::File { id: _, dialect: _, media_type: _ } => return Err(Unreachable),
    }
    if let Some(first) = parts.get_mut(start) {
        first.resolution = resolution(detail.as_deref(), terms, *at, losses).filter(|_| !is_text);
        first.extra = own(extra, terms.native, losses);
        first.signature = match seal {
            Some(seal) if seal.issuer == Issuer::Gemini => Some(Cow::Borrowed(&*seal.raw)),
            Some(_) => {
                losses.dropped(*at, "signature");
                None
            }
            None => None,
        };
    }
    if *citations == Some(true) {
        losses.dropped(*at, "citations");
    }
    if let Some(cache) = cache {
        losses.dropped(cache.at, "");
    }
    Ok(parts)
}

/// The blocks of a document made of blocks. They nest no deeper than the text they were read from.
fn within<'r>(
    blocks: &'r [Block<'_>],
    terms: Terms,
    losses: &mut Losses,
    parts: &mut Vec<Part<'r>>,
) -> Result<(), Unreachable> {
    for block in blocks {
        match block {
            Block::Text(Text { text, citations: _, cache, seal: _, at: _, extra }) => {
                if let Some(cache) = cache {
                    losses.dropped(cache.at, "");
                }
                own(extra, terms.native, losses);
                parts.push(Part::text(&**text));
            }
            Block::Media(media) => parts.extend(self::parts(media, terms, losses)?),
            other => losses.dropped(other.at(), ""),
        }
    }
    Ok(())
}

fn titled<'r>(name: Option<&str>, text: &'r str) -> Cow<'r, str> {
    match name {
        Some(name) => Cow::Owned(format!("{name}\n\n{text}")),
        None => Cow::Borrowed(text),
    }
}

/// What the client called it, where the client is Gemini's. Others' models read a document's name: here it is said before.
fn shown<'r>(name: &'r Option<Cow<'_, str>>, native: bool) -> Option<&'r str> {
    name.as_deref().filter(|_| native)
}

/// Vertex demands a media type. What nobody said is read from the address, or guessed.
fn named_type<'r>(
    given: Option<&'r str>,
    url: &str,
    kind: MediaKind,
    terms: Terms,
    at: At,
    losses: &mut Losses,
) -> Option<Cow<'r, str>> {
    if let Some(given) = given {
        return Some(official(given));
    }
    if terms.native {
        return None;
    }
    let known = media_type_of(url).filter(|found| MediaKind::of(found) == kind);
    Some(Cow::Borrowed(match (known, kind) {
        (Some(known), _) => known,
        (None, MediaKind::Video) if is_youtube(url) => "video/mp4",
        (None, _) => {
            losses.changed(at, "media_type");
            match kind {
                MediaKind::Image => "image/jpeg",
                MediaKind::Document => "application/pdf",
                MediaKind::Audio => "audio/mp3",
                MediaKind::Video => "video/mp4",
            }
        }
    }))
}

/// `image/jpg` is often written and never meant.
fn official(media_type: &str) -> Cow<'_, str> {
    Cow::Borrowed(if media_type == "image/jpg" { "image/jpeg" } else { media_type })
}

/// How closely it is looked at can be said of one part since Gemini 3.
fn resolution(detail: Option<&str>, terms: Terms, at: At, losses: &mut Losses) -> Option<&'static str> {
    let level = match detail? {
        "auto" => return None,
        "low" => "MEDIA_RESOLUTION_LOW",
        "medium" => "MEDIA_RESOLUTION_MEDIUM",
        "high" => "MEDIA_RESOLUTION_HIGH",
        _ => "",
    };
    if level.is_empty() || !(terms.native || terms.third) {
        losses.dropped(at, "detail");
        return None;
    }
    Some(level)
}
