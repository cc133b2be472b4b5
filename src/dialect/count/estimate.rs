//! How many tokens a conversation is likely to have, with OpenAI's o200k vocabulary.
//!
//! What surrounds text follows OpenAI's cookbook, "How to count tokens with tiktoken": the framing of messages, and what tool definitions
//! cost beyond their words. For models of other families this is an estimate of the right size, not more: Claude's vocabulary makes up to
//! a third more of the same text, and its tools come with an instruction of some 350 tokens (Anthropic, "Tool use", pricing).

use bpe_openai::o200k_base;

use super::Count;
use crate::chat::block::{Native, Refusal, ServerCall, ServerResult};
use crate::chat::{
    Block, Format, Function, Media, MediaKind, Param, Request, Schema, ServerTool, Source, Text, Thinking, Tool,
    ToolCall, ToolResult, Turn,
};
use crate::json::{Members, Node, Value};
use crate::units::Tokens;

/// A message's frame and its role's name (cookbook: three and one).
const MESSAGE: u64 = 4;
/// A participant's name, beside its words.
const NAME: u64 = 1;
/// The beginning of the answer.
const ANSWER: u64 = 3;
/// Around all tools; and for a tool, an object's properties, each of them, an enumeration, and each word of it, beside their words
/// (cookbook, figures for gpt-4o).
const TOOLS: u64 = 12;
const TOOL: u64 = 7;
const PROPERTIES: u64 = 3;
const PROPERTY: u64 = 3;
const ENUMERATED: u64 = 3;
/// A tool the provider runs itself: the definition the model reads is not known; this is about what one function costs.
const SERVER_TOOL: u64 = 100;
/// An image of 1024 x 1024 at full detail (OpenAI, "Images and vision": 85 and four tiles of 170). Anthropic says 1400 for it, Google 258.
const IMAGE: u64 = 765;
/// The same, looked at from afar.
const IMAGE_LOW: u64 = 85;
/// Two pages of a PDF (Anthropic, "PDF support": 1500 to 3000 tokens a page).
const DOCUMENT: u64 = 3_000;
/// A minute of sound (Gemini API, "Audio": 32 tokens a second).
const AUDIO: u64 = 1_920;
/// Half a minute of film (Gemini API, "Video": 263 tokens a second).
const VIDEO: u64 = 7_890;

/// Make the vocabulary ready, which takes a fifth of a second once.
pub fn warm() {
    let _ = o200k_base();
}

/// The tokens of a text.
pub fn text(text: &str) -> Tokens {
    Tokens(count(text))
}

pub fn estimate(request: &Request<'_>) -> Count {
    let Request { turns, tools, format, .. } = request;
    let mut sum = ANSWER;
    for turn in turns {
        let Turn { role: _, name, blocks: within, at: _, extra: _ } = turn;
        sum += MESSAGE + name.as_deref().map_or(0, |name| NAME + count(name)) + blocks(within);
    }
    if !tools.is_empty() {
        sum += TOOLS + tools.iter().map(tool).sum::<u64>();
    }
    if let Some(Param { value: Format::Schema(Schema { name: _, description, schema, strict: _ }), at: _ }) = format {
        sum += TOOL + description.as_deref().map_or(0, count) + parameters(schema);
    }
    Count { tokens: Tokens(sum), estimated: true }
}

fn count(text: &str) -> u64 {
    o200k_base().count(text) as u64
}

fn blocks(blocks: &[Block<'_>]) -> u64 {
    blocks.iter().map(block).sum()
}

/// Blocks within blocks end where the JSON they were read from ended.
fn block(block: &Block<'_>) -> u64 {
    match block {
        Block::Text(Text { text, citations: _, cache: _, seal: _, at: _, extra: _ }) => count(text),
        Block::Media(media) => self::media(media),
        // thoughts of turns before are not read again
        Block::Thinking(Thinking { .. }) => 0,
        Block::ToolCall(ToolCall { name, arguments, .. }) => MESSAGE + count(name) + count(arguments),
        Block::ToolResult(ToolResult { blocks: within, .. }) => MESSAGE + blocks(within),
        Block::Refusal(Refusal { text, at: _ }) => count(text),
        Block::ServerCall(ServerCall { name, input, .. }) => MESSAGE + count(name) + count(input),
        Block::ServerResult(ServerResult { sources, output, .. }) => {
            let listed = sources.iter().map(|(url, title)| count(url) + title.as_deref().map_or(0, count));
            MESSAGE + listed.sum::<u64>() + output.as_deref().map_or(0, count)
        }
        Block::Native(Native { json, .. }) => count(json),
    }
}

fn media(media: &Media<'_>) -> u64 {
    let Media { kind, source, name, context, detail, .. } = media;
    let words = name.as_deref().map_or(0, count) + context.as_deref().map_or(0, count);
    words
        + match (source, kind) {
            (Source::Text { media_type: _, text }, _) => count(text),
            (Source::Blocks(within), _) => blocks(within),
            (Source::Url { .. } | Source::Base64 { .. } | Source::File { .. }, kind) => match kind {
                MediaKind::Image if detail.as_deref() == Some("low") => IMAGE_LOW,
                MediaKind::Image => IMAGE,
                MediaKind::Document => DOCUMENT,
                MediaKind::Audio => AUDIO,
                MediaKind::Video => VIDEO,
            },
        }
}

fn tool(tool: &Tool<'_>) -> u64 {
    match tool {
        Tool::Function(Function { name, description, parameters: schema, .. }) => {
            let words = count(name) + description.as_deref().map_or(0, count);
            TOOL + words + schema.as_deref().map_or(0, parameters)
        }
        Tool::Server(ServerTool { .. }) => SERVER_TOOL,
    }
}

/// A schema, of which the model reads names, types, descriptions and what is allowed, not the JSON.
fn parameters(schema: &str) -> u64 {
    match Node::parse(schema.as_bytes()) {
        Ok(Node { value: Value::Object(members), .. }) => self::schema(&members),
        // the grammar of a custom tool, or nothing we know
        _ => count(schema),
    }
}

/// Bounded by the depth a text may have.
fn schema(members: &Members<'_>) -> u64 {
    members.iter().map(|(name, node)| keyword(name, node)).sum()
}

fn keyword(name: &str, node: &Node<'_>) -> u64 {
    match (name, &node.value) {
        ("properties" | "$defs" | "definitions", Value::Object(properties)) if !properties.is_empty() => {
            let property =
                |(name, node): (&str, &Node<'_>)| PROPERTY + count(name) + node.as_object().map_or(0, schema);
            PROPERTIES + properties.iter().map(property).sum::<u64>()
        }
        ("enum", Value::Array(words)) => {
            words.iter().map(|word| ENUMERATED + count(word.as_str().unwrap_or(word.raw))).sum()
        }
        ("anyOf" | "oneOf" | "allOf", Value::Array(schemas)) => {
            schemas.iter().filter_map(Node::as_object).map(schema).sum()
        }
        ("items" | "additionalProperties", Value::Object(inner)) => schema(inner),
        ("type" | "description" | "$ref", Value::String(text)) => count(text),
        ("default" | "const" | "examples", _) => count(node.raw),
        _ => 0,
    }
}
