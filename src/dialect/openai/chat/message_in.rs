//! The message of an answer, read: whole, or the pieces of one that come at once.
//!
//! Lenient: of a reply, a member of another type than its own says nothing, and what is not understood is kept.

use std::borrow::Cow;

use super::turns_in::{inner_names, raw_text};
use super::{annotations, parts, reasoning, rest};
use crate::chat::block::Refusal;
use crate::chat::{Block, CallKind, Citation, Extra, Media, MediaKind, Source, Text, ToolCall};
use crate::json::{At, Members, Node, Value};

/// Members of a message that are written for what its blocks say.
pub(super) const OWN: [&str; 7] =
    ["refusal", "annotations", "reasoning_content", "reasoning_details", "images", "audio", "tool_calls"];

/// The blocks of a message. `seed` makes ids for calls that came without. What is left stays in `message`.
pub(super) fn blocks<'a>(message: &mut Members<'a>, extra: &mut Extra<'a>, seed: &str, at: At) -> Vec<Block<'a>> {
    message.take("role");
    let seal = reasoning::google_seal(message, extra);
    let thinking = reasoning::take(message, at);
    let mut blocks: Vec<Block<'a>> = thinking.into_iter().map(Block::Thinking).collect();
    let first = blocks.len();
    if let Some(content) = message.take("content") {
        blocks.extend(parts::read(content).unwrap_or_default());
    }
    cite(&mut blocks, message);
    if let Some(text) = rest::words(message, "refusal") {
        blocks.push(Block::Refusal(Refusal { text, at }));
    }
    blocks.extend(images(message).into_iter().map(Block::Media));
    blocks.extend(audio(message, at).map(Block::Media));
    for (n, node) in rest::list(message, "tool_calls").into_iter().enumerate() {
        blocks.extend(call(node, seed, n).map(Block::ToolCall));
    }
    if let Some(call) = message.take("function_call").and_then(|node| legacy_call(node, seed)) {
        blocks.push(Block::ToolCall(call));
    }
    // Google signs the message where it means its first part
    if let Some(seal) = seal {
        match blocks.iter_mut().skip(first).find(|b| matches!(b, Block::Text(_) | Block::ToolCall(_))) {
            Some(Block::ToolCall(call)) if call.seal.is_none() => call.seal = Some(seal),
            Some(Block::Text(text)) => text.seal = Some(seal),
            _ => {}
        }
    }
    blocks
}

/// The sources stand beside the whole content; they go to its last text.
fn cite<'a>(blocks: &mut [Block<'a>], message: &mut Members<'a>) {
    let last = blocks.iter().rposition(|block| matches!(block, Block::Text(_)));
    let Some((Block::Text(text), before)) = last.and_then(|at| blocks.get_mut(..=at)?.split_last_mut()) else {
        return;
    };
    let before: usize = before.iter().map(|b| if let Block::Text(t) = b { t.text.chars().count() } else { 0 }).sum();
    let citations = rest::list(message, "annotations").into_iter();
    text.citations = citations.map(|node| annotations::read(node, before as u64)).collect::<Vec<Citation<'a>>>();
}

/// Images a model made (OpenRouter): `{"type":"image_url","image_url":{"url"}}`.
pub(super) fn images<'a>(message: &mut Members<'a>) -> Vec<Media<'a>> {
    let one = |node: Node<'a>| {
        let at = node.at;
        let mut image = node.object().ok()?;
        let url = match image.take("image_url")?.value {
            Value::String(url) => url,
            Value::Object(mut inner) => rest::words(&mut inner, "url")?,
            _ => return None,
        };
        Some(media(MediaKind::Image, Source::from_url(url), at, Extra::default()))
    };
    rest::list(message, "images").into_iter().filter_map(one).collect()
}

/// A spoken answer: its id, its transcript and when it expires stay beside it.
fn audio<'a>(message: &mut Members<'a>, at: At) -> Option<Media<'a>> {
    let mut object = rest::inner(message, "audio")?;
    let data = rest::words(&mut object, "data")?;
    let source = Source::Base64 { media_type: Cow::Borrowed(sniffed(&data)), data };
    Some(media(MediaKind::Audio, source, at, Extra::rest(object)))
}

/// The reply does not say what was asked for: the first bytes, in base64, do.
fn sniffed(data: &str) -> &'static str {
    match data.get(..4).unwrap_or_default() {
        "UklG" => "audio/wav",
        "SUQz" => "audio/mpeg",
        "T2dn" => "audio/ogg",
        "ZkxhQ" | "Zkxh" => "audio/flac",
        begin if begin.starts_with("//") => "audio/mpeg",
        _ => "audio/wav",
    }
}

pub(super) fn media<'a>(kind: MediaKind, source: Source<'a>, at: At, extra: Extra<'a>) -> Media<'a> {
    Media { kind, source, name: None, context: None, detail: None, citations: None, cache: None, seal: None, at, extra }
}

/// `None` for one without a name, which some vendors write where there is no call.
fn call<'a>(node: Node<'a>, seed: &str, n: usize) -> Option<ToolCall<'a>> {
    let at = node.at;
    let mut members = node.object().ok()?;
    let mut extra = Extra::default();
    let seal = reasoning::google_seal(&mut members, &mut extra);
    let custom = rest::text(&mut members, "type").as_deref() == Some("custom");
    let kind = if custom { CallKind::Custom } else { CallKind::Function };
    let (inner, arguments) = inner_names(kind);
    let mut object = rest::inner(&mut members, inner)?;
    let name = rest::words(&mut object, "name")?;
    let arguments = object.take(arguments).map(raw_text).unwrap_or_default();
    let id = rest::words(&mut members, "id").unwrap_or_else(|| made_id(seed, n).into());
    members.take("index");
    // the other kind's object, empty (Snowflake)
    members.take(if custom { "function" } else { "custom" });
    rest::forget(&mut members, &["id", "type"]);
    extra.0.extend(Extra::rest(members).0);
    Some(ToolCall { id, name, kind, arguments, cache: None, seal, item_id: None, at, extra })
}

fn legacy_call<'a>(node: Node<'a>, seed: &str) -> Option<ToolCall<'a>> {
    let at = node.at;
    let mut object = node.object().ok()?;
    let name = rest::words(&mut object, "name")?;
    let arguments = object.take("arguments").map(raw_text).unwrap_or_default();
    Some(ToolCall {
        id: made_id(seed, 0).into(),
        name,
        kind: CallKind::Function,
        arguments,
        cache: None,
        seal: None,
        item_id: None,
        at,
        extra: Extra::rest(object),
    })
}

/// An id for a call without one: unlike those of other answers in the same conversation.
pub(super) fn made_id(seed: &str, n: usize) -> String {
    let seed: String = seed.chars().filter(char::is_ascii_alphanumeric).collect();
    let tail = seed.get(seed.len().saturating_sub(16)..).unwrap_or_default();
    if tail.is_empty() { format!("call_{n}") } else { format!("call_{tail}_{n}") }
}

/// The text of a block, for those that count characters.
pub(super) fn characters(text: &Text<'_>) -> u64 {
    text.text.chars().count() as u64
}
