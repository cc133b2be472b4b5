//! The parts that messages and tool results are made of, read into blocks.

use std::borrow::Cow;

use super::citation;
use crate::chat::block::{Native, Refusal};
use crate::chat::{Block, Cache, Dialect, Extra, Logprob, Media, MediaKind, Source, Text, Ttl};
use crate::json::{At, Members, Node, Value, Writer, Wrong};

/// Parts that nobody knows are kept under their type with this in front: an item of the same type is another thing.
pub const PART: &str = "content.";

/// `content` of a message, `output` of a tool: a text, or parts.
pub fn blocks<'a>(content: Option<Node<'a>>) -> Result<Vec<Block<'a>>, Wrong> {
    let Some(content) = content else { return Ok(Vec::new()) };
    let at = content.at;
    match content.value {
        Value::String(text) => Ok(vec![Block::Text(Text { at, ..Text::new(text) })]),
        Value::Array(parts) => parts.into_iter().map(part).collect(),
        Value::Null => Ok(Vec::new()),
        Value::Bool(_) | Value::Number | Value::Object(_) => {
            Err(Wrong::new(at, "expected a string or an array of content parts"))
        }
    }
}

/// One part. Of one that is not known, `Native`.
pub fn part<'a>(node: Node<'a>) -> Result<Block<'a>, Wrong> {
    let (raw, at) = (node.raw, node.at);
    let mut part = node.object()?;
    let kind = part.take_string("type")?.ok_or(Wrong::new(at, "expected a content part with a `type`"))?;
    Ok(match &*kind {
        "input_text" | "output_text" | "text" => Block::Text(text(part, at)?),
        "refusal" => Block::Refusal(Refusal { text: part.take_string("refusal")?.unwrap_or_default(), at }),
        "input_image" => Block::Media(image(part, at)?),
        "input_file" => Block::Media(file(part, at)?),
        "input_audio" => Block::Media(audio(part, at)?),
        _ => Block::Native(Native {
            dialect: Dialect::OpenAiResponses,
            kind: format!("{PART}{kind}").into(),
            json: raw.into(),
            at,
        }),
    })
}

/// `prompt_cache_breakpoint`. One that says more than a mark does stays as it is.
fn cache(part: &mut Members<'_>) -> Option<Cache> {
    let node = part.get("prompt_cache_breakpoint")?;
    let mark = node.as_object()?;
    let ttl = match mark.get("ttl").and_then(Node::as_str) {
        None => None,
        Some("30m") => Some(Ttl::FiveMinutes),
        Some("12h") => Some(Ttl::OneHour),
        Some(_) => return None,
    };
    let known = mark.iter().all(|(name, value)| match name {
        "mode" => value.as_str() == Some("explicit"),
        "ttl" => true,
        _ => false,
    });
    let cache = known.then_some(Cache { ttl, at: node.at })?;
    part.take("prompt_cache_breakpoint");
    Some(cache)
}

/// The reverse: the shorter of the two terms is the short one, the longer the long one.
pub fn write_cache(w: &mut Writer<'_>, cache: Option<Cache>) {
    if let Some(Cache { ttl, at: _ }) = cache {
        w.name("prompt_cache_breakpoint").object();
        w.name("mode").string("explicit");
        match ttl {
            Some(Ttl::FiveMinutes) => w.name("ttl").string("30m"),
            Some(Ttl::OneHour) => w.name("ttl").string("12h"),
            None => {}
        }
        w.end_object();
    }
}

fn text<'a>(mut part: Members<'a>, at: At) -> Result<Text<'a>, Wrong> {
    let text = part.take_string("text")?.unwrap_or_default();
    let cache = cache(&mut part);
    let citations = part.take_array("annotations")?.unwrap_or_default();
    if part.get("logprobs").is_some_and(|l| l.as_array().is_some_and(<[_]>::is_empty)) {
        part.take("logprobs");
    }
    Ok(Text {
        citations: citations.into_iter().map(citation::read).collect(),
        cache,
        at,
        extra: Extra::rest(part),
        ..Text::new(text)
    })
}

fn image<'a>(mut part: Members<'a>, at: At) -> Result<Media<'a>, Wrong> {
    let source = match (part.take_string("image_url")?, part.get("file_id")) {
        // whichever else stands beside the address is kept as it is
        (Some(url), _) => Source::from_url(url),
        (None, _) => stored(&mut part, at, "expected `image_url` or `file_id`")?,
    };
    let detail = part.take_string("detail")?;
    let cache = cache(&mut part);
    Ok(Media { detail, cache, ..media(MediaKind::Image, source, None, at, Extra::rest(part)) })
}

fn file<'a>(mut part: Members<'a>, at: At) -> Result<Media<'a>, Wrong> {
    let name = part.take_string("filename")?;
    let source = if let Some(data) = part.take_string("file_data")? {
        match Source::from_url(data) {
            // base64 alone, as some clients have it
            Source::Url { url, .. } if !url.contains(':') => {
                Source::Base64 { media_type: of_name(name.as_deref().unwrap_or_default()).into(), data: url }
            }
            source => source,
        }
    } else if let Some(url) = part.take_string("file_url")? {
        Source::Url { url, media_type: None }
    } else {
        stored(&mut part, at, "expected `file_data`, `file_url` or `file_id`")?
    };
    let kind = match &source {
        Source::Base64 { media_type, .. } => MediaKind::of(media_type),
        _ => MediaKind::Document,
    };
    let detail = part.take_string("detail")?;
    let cache = cache(&mut part);
    Ok(Media { detail, cache, ..media(kind, source, name, at, Extra::rest(part)) })
}

/// The media type a file's name promises.
fn of_name(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "txt" | "log" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => "application/pdf",
    }
}

fn audio<'a>(mut part: Members<'a>, at: At) -> Result<Media<'a>, Wrong> {
    // `data` and `format` have stood in the part itself in earlier descriptions
    let mut inner = part.take_object("input_audio")?.unwrap_or_else(|| std::mem::take(&mut part));
    let data = inner.take_string("data")?.ok_or(Wrong::new(at, "expected `input_audio.data`"))?;
    let media_type = match inner.take_string("format")?.as_deref() {
        None | Some("mp3") => Cow::Borrowed("audio/mpeg"),
        Some(format) => Cow::Owned(format!("audio/{format}")),
    };
    Ok(media(MediaKind::Audio, Source::Base64 { media_type, data }, None, at, Extra::rest(part)))
}

fn stored<'a>(part: &mut Members<'a>, at: At, or: &'static str) -> Result<Source<'a>, Wrong> {
    let id = part.take_string("file_id")?.ok_or(Wrong::new(at, or))?;
    Ok(Source::File { id, dialect: Dialect::OpenAiResponses, media_type: None })
}

pub fn media<'a>(
    kind: MediaKind,
    source: Source<'a>,
    name: Option<Cow<'a, str>>,
    at: At,
    extra: Extra<'a>,
) -> Media<'a> {
    Media { kind, source, name, context: None, detail: None, citations: None, cache: None, seal: None, at, extra }
}

/// `logprobs` of a text. What is not a log probability is passed over: it is an ornament of the answer.
pub fn logprobs<'a>(node: Node<'a>) -> Vec<Logprob<'a>> {
    let Ok(list) = node.array() else { return Vec::new() };
    list.into_iter().filter_map(|one| logprob(one, 0)).collect()
}

fn logprob(node: Node<'_>, depth: u8) -> Option<Logprob<'_>> {
    let mut one = node.object().ok()?;
    let top = match one.take("top_logprobs").map(Node::array) {
        Some(Ok(top)) if depth == 0 => top.into_iter().filter_map(|one| logprob(one, 1)).collect(),
        _ => Vec::new(),
    };
    Some(Logprob {
        token: one.take_string("token").ok()??,
        logprob: one.take("logprob")?.number().ok()?.into(),
        bytes: one.take("bytes").filter(|b| b.as_array().is_some()).map(|b| b.raw.into()),
        top,
    })
}
