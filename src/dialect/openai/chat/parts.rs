//! The parts a message's content is made of, read.

use std::borrow::Cow;

use super::rest;
use crate::chat::block::{Native, Refusal};
use crate::chat::{Block, Cache, Dialect, Extra, Issuer, Media, MediaKind, Seal, Source, Text, Thinking, Thought, Ttl};
use crate::json::{At, Members, Node, Value, Wrong};

/// A `content`: a string, or parts. An empty string is no block.
pub(super) fn read(content: Node<'_>) -> Result<Vec<Block<'_>>, Wrong> {
    let at = content.at;
    match content.value {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Block::Text(Text { at, ..Text::new(text) })]),
        Value::Array(parts) => parts.into_iter().map(part).collect(),
        Value::Null => Ok(Vec::new()),
        _ => Err(Wrong::new(at, "expected a string or an array of content parts")),
    }
}

fn part(node: Node<'_>) -> Result<Block<'_>, Wrong> {
    let (at, raw) = (node.at, node.raw);
    let mut members = node.object()?;
    let kind = members.take_string("type")?.unwrap_or_else(|| {
        // some clients leave it out where the rest says it
        Cow::Borrowed(if members.get("text").is_some() { "text" } else { "" })
    });
    let cache = cache(&mut members);
    let block = match &*kind {
        "text" => {
            let text = members.take_string("text")?.ok_or(Wrong::new(at, "expected a member `text`"))?;
            Block::Text(Text { text, citations: Vec::new(), cache, seal: None, at, extra: Extra::rest(members) })
        }
        "refusal" => Block::Refusal(Refusal { text: members.take_string("refusal")?.unwrap_or_default(), at }),
        "thinking" => Block::Thinking(thinking(members, at)?),
        "image_url" | "video_url" => {
            let kind = if kind == "image_url" { MediaKind::Image } else { MediaKind::Video };
            Block::Media(by_url(members, kind, cache, at)?)
        }
        "input_audio" => Block::Media(audio(members, cache, at)?),
        "file" => Block::Media(file(members, cache, at)?),
        _ => Block::Native(Native { dialect: Dialect::OpenAiChat, kind, json: Cow::Borrowed(raw), at }),
    };
    Ok(block)
}

/// `{"type":"image_url","image_url":{"url","detail"}}`; Mistral writes the address itself for the object.
fn by_url<'a>(mut members: Members<'a>, kind: MediaKind, cache: Option<Cache>, at: At) -> Result<Media<'a>, Wrong> {
    let name = if kind == MediaKind::Image { "image_url" } else { "video_url" };
    let node = members.take(name).ok_or_else(|| Wrong::new(at, format!("expected a member `{name}`")))?;
    let inner_at = node.at;
    let mut inner = match node.value {
        Value::String(_) => Members::default(),
        _ => node.clone().object()?,
    };
    let url = match node.value {
        Value::String(url) => Some(url),
        _ => inner.take_string("url")?,
    };
    let detail = inner.take_string("detail")?;
    let format = inner.take_string("format")?;
    let source = match Source::from_url(url.ok_or(Wrong::new(inner_at, "expected a member `url`"))?) {
        Source::Url { url, media_type: None } => Source::Url { url, media_type: format },
        source => source,
    };
    let kind = match &source {
        Source::Base64 { media_type, .. } if !media_type.is_empty() => MediaKind::of(media_type),
        _ => kind,
    };
    let mut extra = Extra::rest(members);
    rest::keep(&mut extra, name, inner_at, &inner);
    Ok(Media { detail, ..media(kind, source, cache, at, extra) })
}

/// `{"type":"input_audio","input_audio":{"data","format"}}`.
fn audio<'a>(mut members: Members<'a>, cache: Option<Cache>, at: At) -> Result<Media<'a>, Wrong> {
    let node = members.take("input_audio").ok_or(Wrong::new(at, "expected a member `input_audio`"))?;
    let inner_at = node.at;
    let mut inner = node.object()?;
    let data = inner.take_string("data")?.ok_or(Wrong::new(inner_at, "expected a member `data`"))?;
    let format = inner.take_string("format")?;
    let source = match Source::from_url(data) {
        // no address: the bytes themselves
        Source::Url { url, .. } if !url.contains("://") => {
            Source::Base64 { media_type: audio_type(format.as_deref().unwrap_or("wav")), data: url }
        }
        source => source,
    };
    let mut extra = Extra::rest(members);
    rest::keep(&mut extra, "input_audio", inner_at, &inner);
    Ok(media(MediaKind::Audio, source, cache, at, extra))
}

fn audio_type(format: &str) -> Cow<'static, str> {
    match format {
        "wav" => Cow::Borrowed("audio/wav"),
        "mp3" => Cow::Borrowed("audio/mpeg"),
        other => Cow::Owned(format!("audio/{other}")),
    }
}

/// `{"type":"file","file":{"file_data","file_id","filename"}}`. The data is a `data:` URL; vendors take an address, or the base64 alone.
fn file<'a>(mut members: Members<'a>, cache: Option<Cache>, at: At) -> Result<Media<'a>, Wrong> {
    let node = members.take("file").ok_or(Wrong::new(at, "expected a member `file`"))?;
    let inner_at = node.at;
    let mut inner = node.object()?;
    let name = inner.take_string("filename")?;
    let format = inner.take_string("format")?;
    let source = if let Some(id) = inner.take_string("file_id")? {
        Source::File { id, dialect: Dialect::OpenAiChat, media_type: format }
    } else {
        let data = inner.take_string("file_data")?;
        match Source::from_url(data.ok_or(Wrong::new(inner_at, "expected a member `file_data` or `file_id`"))?) {
            Source::Url { url, .. } if !url.contains(':') => {
                Source::Base64 { media_type: format.unwrap_or(Cow::Borrowed("application/pdf")), data: url }
            }
            Source::Url { url, .. } => Source::Url { url, media_type: format },
            source => source,
        }
    };
    let kind = match &source {
        Source::Base64 { media_type, .. } => MediaKind::of(media_type),
        _ => MediaKind::Document,
    };
    let mut extra = Extra::rest(members);
    rest::keep(&mut extra, "file", inner_at, &inner);
    Ok(Media { name, ..media(kind, source, cache, at, extra) })
}

/// Mistral's `{"type":"thinking","thinking":[{"type":"text","text"}]}`, and Anthropic's block of that name.
fn thinking<'a>(mut members: Members<'a>, at: At) -> Result<Thinking<'a>, Wrong> {
    let mut thoughts = Vec::new();
    let thought = |text| Thought { text, summary: false };
    match members.take("thinking").map(|node| node.value) {
        Some(Value::String(text)) => thoughts.push(thought(text)),
        Some(Value::Array(items)) => {
            for item in items {
                let text = item.object()?.take_string("text")?;
                thoughts.extend(text.map(thought));
            }
        }
        _ => {}
    }
    let seal = members.take_string("signature")?.map(|raw| Seal::unpack(raw, Issuer::Anthropic));
    // whether more of it follows: only within a stream
    members.take("closed");
    Ok(Thinking { thoughts, seal, redacted: false, id: None, at, extra: Extra::rest(members) })
}

fn media<'a>(kind: MediaKind, source: Source<'a>, cache: Option<Cache>, at: At, extra: Extra<'a>) -> Media<'a> {
    Media { kind, source, name: None, context: None, detail: None, citations: None, cache, seal: None, at, extra }
}

/// Anthropic's `cache_control`, as OpenRouter and LiteLLM take it in chat completions.
pub(super) fn cache(members: &mut Members<'_>) -> Option<Cache> {
    let node = members.take("cache_control")?;
    let ttl = node.as_object().and_then(|o| o.get("ttl")).and_then(Node::as_str);
    let ttl = match ttl {
        Some("1h") => Some(Ttl::OneHour),
        Some("5m") => Some(Ttl::FiveMinutes),
        _ => None,
    };
    Some(Cache { ttl, at: node.at })
}
