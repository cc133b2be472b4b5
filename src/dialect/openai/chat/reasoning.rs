//! What the model thought, in the members vendors have for it beside the content.
//!
//! Read: `reasoning_details` (OpenRouter), `thinking_blocks` (LiteLLM), `reasoning_content` (DeepSeek), `reasoning` (Groq, vLLM), and
//! Google's signatures in `extra_content`. Written: `reasoning_content`, and `reasoning_details` where there is a seal to carry.
//! Truth: OpenRouter, "Reasoning tokens"; Google, "OpenAI compatibility", thought signatures.

use std::borrow::Cow;

use super::rest;
use crate::chat::{Block, Extra, Issuer, Seal, Thinking, Thought};
use crate::json::{At, Members, Node, Writer};

/// Between two thoughts that are told as one text.
pub(super) const BREAK: &str = "\n\n";

/// One entry of `reasoning_details`, whole or a piece of one in a stream.
#[derive(Debug)]
pub(super) struct Detail<'a> {
    pub(super) text: Option<Cow<'a, str>>,
    pub(super) summary: bool,
    pub(super) seal: Option<Seal<'a>>,
    /// The seal is all there is: `reasoning.encrypted`.
    pub(super) encrypted: bool,
    /// Entries of one thought share it.
    pub(super) index: Option<u64>,
    pub(super) id: Option<Cow<'a, str>>,
}

/// Take the members that hold what was thought.
pub(super) fn take<'a>(message: &mut Members<'a>, at: At) -> Vec<Thinking<'a>> {
    let details = rest::list(message, "reasoning_details");
    let blocks = rest::list(message, "thinking_blocks");
    // the two mean the same; where both stand they are the same
    let plain = rest::words(message, "reasoning_content");
    let other = rest::words(message, "reasoning");
    let plain = plain.or(other);
    let mut thinking = if details.is_empty() { of_blocks(blocks) } else { of_details(details) };
    if let Some(text) = plain
        && thinking.iter().all(|t| t.thoughts.iter().all(|thought| thought.text.is_empty()))
    {
        let thought = Thought { text, summary: false };
        match thinking.first_mut() {
            // signed, and its text is beside it
            Some(first) if !first.redacted && first.seal.as_ref().is_some_and(|s| s.issuer == Issuer::Anthropic) => {
                first.thoughts = vec![thought];
            }
            _ => thinking.insert(0, Thinking { thoughts: vec![thought], ..empty(at) }),
        }
    }
    thinking
}

/// DeepSeek wants the member in each assistant message of a tool loop, also where nothing was thought: that it stood there, empty.
pub(super) fn take_empty<'a>(message: &mut Members<'a>, at: At) -> Option<Thinking<'a>> {
    let stands = message.get("reasoning_content").and_then(Node::as_str) == Some("");
    stands.then(|| {
        message.take("reasoning_content");
        Thinking { thoughts: vec![Thought { text: Cow::Borrowed(""), summary: false }], ..empty(at) }
    })
}

fn of_details(details: Vec<Node<'_>>) -> Vec<Thinking<'_>> {
    let mut all: Vec<Thinking<'_>> = Vec::new();
    let mut last: Option<u64> = None;
    for node in details {
        let at = node.at;
        let Some(detail) = detail(node) else { continue };
        let Detail { text, summary, seal, encrypted, index, id } = detail;
        let before = std::mem::replace(&mut last, index);
        let same = |thinking: &Thinking<'_>| {
            thinking.seal.is_none()
                && (index.is_some() && index == before || id.is_some() && id == thinking.id)
                && (!encrypted || thinking.thoughts.iter().any(|t| t.summary))
        };
        match all.last_mut().filter(|thinking| same(thinking)) {
            Some(thinking) => {
                thinking.thoughts.extend(text.map(|text| Thought { text, summary }));
                thinking.seal = seal;
                thinking.id = thinking.id.take().or(id);
            }
            None => {
                let redacted =
                    encrypted && text.is_none() && seal.as_ref().is_some_and(|s| s.issuer == Issuer::Anthropic);
                let thoughts = text.map(|text| Thought { text, summary }).into_iter().collect();
                all.push(Thinking { thoughts, seal, redacted, id, ..empty(at) });
            }
        }
    }
    all
}

/// One entry of `reasoning_details`; `None` for what is none.
pub(super) fn detail(node: Node<'_>) -> Option<Detail<'_>> {
    let mut members = node.object().ok()?;
    let format = rest::text(&mut members, "format").unwrap_or_default();
    let issuer = match &*format {
        "anthropic-claude-v1" => Issuer::Anthropic,
        "google-gemini-v1" => Issuer::Gemini,
        "openai-responses-v1" | "azure-openai-responses-v1" => Issuer::OpenAi,
        _ => Issuer::Other,
    };
    let kind = rest::text(&mut members, "type").unwrap_or_default();
    let (text, seal) = match &*kind {
        "reasoning.summary" => ("summary", "signature"),
        "reasoning.encrypted" => ("", "data"),
        "reasoning.text" => ("text", "signature"),
        _ => return None,
    };
    // the official SDKs join the entries of one index: a summary and its seal become one
    let joined = if text.is_empty() { rest::words(&mut members, "summary") } else { None };
    let summary = text == "summary" || joined.is_some();
    Some(Detail {
        text: rest::words(&mut members, text).or(joined),
        summary,
        seal: rest::words(&mut members, seal).map(|raw| Seal::unpack(raw, issuer)),
        encrypted: kind == "reasoning.encrypted",
        index: rest::number(&mut members, "index"),
        id: rest::words(&mut members, "id"),
    })
}

/// LiteLLM: Anthropic's blocks as they are.
fn of_blocks(blocks: Vec<Node<'_>>) -> Vec<Thinking<'_>> {
    fn one(node: Node<'_>) -> Option<Thinking<'_>> {
        let at = node.at;
        let mut block = node.object().ok()?;
        let redacted = block.get("type").and_then(Node::as_str) == Some("redacted_thinking");
        let raw = rest::words(&mut block, if redacted { "data" } else { "signature" });
        let thoughts = rest::words(&mut block, "thinking").map(|text| Thought { text, summary: false });
        Some(Thinking {
            thoughts: thoughts.into_iter().collect(),
            seal: raw.map(|raw| Seal::unpack(raw, Issuer::Anthropic)),
            redacted,
            ..empty(at)
        })
    }
    blocks.into_iter().filter_map(one).collect()
}

fn empty<'a>(at: At) -> Thinking<'a> {
    Thinking { thoughts: Vec::new(), seal: None, redacted: false, id: None, at, extra: Extra::default() }
}

/// Google's signature of a tool call or a message: `extra_content.google.thought_signature`. Other vendors' content in there stays.
pub(super) fn google_seal<'a>(members: &mut Members<'a>, extra: &mut Extra<'a>) -> Option<Seal<'a>> {
    let at = members.get("extra_content").map(|node| node.at);
    let mut signature = rest::words(members, "thought_signature");
    if let (Some(at), Some(mut content)) = (at, rest::inner(members, "extra_content")) {
        if let Some(mut google) = rest::inner(&mut content, "google") {
            signature = rest::words(&mut google, "thought_signature").or(signature);
        }
        rest::keep(extra, "extra_content", at, &content);
    }
    signature.map(|raw| Seal::unpack(raw, Issuer::Gemini))
}

// === writing ===

/// All thoughts as one text: `None` when none is shown.
pub(super) fn joined<'b>(thinking: impl Iterator<Item = &'b Thinking<'b>>) -> Option<String> {
    let texts: Vec<&str> = thinking.flat_map(|t| &t.thoughts).map(|t| &*t.text).filter(|t| !t.is_empty()).collect();
    (!texts.is_empty()).then(|| texts.join(BREAK))
}

/// What of a block goes into `reasoning_details`: thoughts, and seals for which this dialect has no other place.
pub(super) fn of_block<'b>(block: &'b Block<'b>) -> Option<Cow<'b, Thinking<'b>>> {
    let sealed = |seal: &'b Option<Seal<'b>>, at| {
        let seal = seal.as_ref()?;
        let seal = Some(Seal { issuer: seal.issuer, raw: Cow::Borrowed(&*seal.raw) });
        Some(Cow::Owned(Thinking { seal, ..empty(at) }))
    };
    match block {
        Block::Thinking(thinking) => Some(Cow::Borrowed(thinking)),
        Block::Text(text) => sealed(&text.seal, text.at),
        Block::Media(media) => sealed(&media.seal, media.at),
        Block::ToolCall(_)
        | Block::ToolResult(_)
        | Block::Refusal(_)
        | Block::ServerCall(_)
        | Block::ServerResult(_)
        | Block::Native(_) => None,
    }
}

/// The entries of one block, in an open array.
pub(super) fn write_details(w: &mut Writer<'_>, thinking: &Thinking<'_>, index: u64) {
    let Thinking { thoughts, seal, redacted, id, at: _, extra: _ } = thinking;
    // the last text bears the signature; a summary has no place for one
    let shown = thoughts.iter().filter(|t| !t.text.is_empty() && !redacted);
    let signed = shown.clone().next_back().filter(|last| !last.summary && seal.is_some());
    let count = shown.clone().count();
    for (n, thought) in shown.enumerate() {
        let seal = seal.as_ref().filter(|_| signed.is_some() && n + 1 == count);
        let (kind, name) = if thought.summary { ("reasoning.summary", "summary") } else { ("reasoning.text", "text") };
        w.object();
        w.name("type").string(kind);
        w.name(name).string(&thought.text);
        if let Some(seal) = seal {
            w.name("signature").string(&seal.pack(native(seal.issuer)));
        }
        end_entry(w, seal.map(|s| s.issuer), id.as_deref(), index);
    }
    if let Some(seal) = seal.as_ref().filter(|_| signed.is_none()) {
        // nothing is shown, yet it is no redacted thought: Anthropic's signature of a thought left out
        let text = !redacted && seal.issuer == Issuer::Anthropic;
        w.object();
        w.name("type").string(if text { "reasoning.text" } else { "reasoning.encrypted" });
        if text {
            w.name("text").string("");
        }
        w.name(if text { "signature" } else { "data" }).string(&seal.pack(native(seal.issuer)));
        end_entry(w, Some(seal.issuer), id.as_deref(), index);
    }
}

fn end_entry(w: &mut Writer<'_>, issuer: Option<Issuer>, id: Option<&str>, index: u64) {
    w.string_if("format", issuer.and_then(format));
    w.string_if("id", id);
    w.name("index").number(index);
    w.end_object();
}

/// OpenRouter's word for whose seal an entry bears.
fn format(issuer: Issuer) -> Option<&'static str> {
    match issuer {
        Issuer::Anthropic => Some("anthropic-claude-v1"),
        Issuer::Gemini => Some("google-gemini-v1"),
        Issuer::OpenAi => Some("openai-responses-v1"),
        Issuer::Bedrock | Issuer::Other => None,
    }
}

/// As whose an entry with that issuer's [`format`] is read.
fn native(issuer: Issuer) -> Issuer {
    if format(issuer).is_some() { issuer } else { Issuer::Other }
}

/// `"extra_content":{"google":{"thought_signature":..}}`, in an open object.
pub(super) fn write_google_seal(w: &mut Writer<'_>, seal: &Seal<'_>) {
    w.name("extra_content").object();
    w.name("google").object();
    w.name("thought_signature").string(&seal.pack(Issuer::Gemini));
    w.end_object();
    w.end_object();
}
