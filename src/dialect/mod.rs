//! How a protocol is spoken: pure functions from bytes to words (`chat`) and back. No I/O, no clock, no provider.
//!
//! A dialect that clients speak is an [`Inbound`]; one that providers speak is an [`Outbound`]. N decoders and M encoders, never a pair.

pub mod adapt;
pub mod anthropic;
pub mod bedrock;
pub mod codec;
pub mod cohere;
pub mod count;
mod embeddings;
pub mod envelope;
pub mod eventstream;
pub mod frame;
pub mod gemini;
pub mod openai;
mod operation;
mod rerank;
pub mod sse;
pub mod task;
pub mod text;
pub mod undo;

use bytes::Bytes;

pub use crate::chat::Dialect;
use crate::chat::Usage;
use crate::error::Error;
pub use codec::{
    Abilities, Encoded, Garbled, Inbound, Manners, Origin, Outbound, Refusal, ReplyTo, Seen, StreamDecoder,
    StreamEncoder, StreamForm, Tap, ThinkingForm, To,
};
pub use frame::{Cutter, Frame, Framing};
pub use operation::{Grammar, Operation};

/// How clients speak an operation; `None` for what is no conversation.
pub fn inbound(operation: Operation) -> Option<&'static dyn Inbound> {
    match operation {
        Operation::ChatCompletions => Some(&openai::chat::Chat),
        Operation::Completions => Some(&openai::completions::Completions),
        Operation::Responses => Some(&openai::responses::Responses),
        Operation::Messages => Some(&anthropic::Anthropic),
        Operation::GenerateContent => Some(&gemini::Gemini),
        Operation::Embeddings
        | Operation::CountMessageTokens
        | Operation::CountContentTokens
        | Operation::CountConverseTokens
        | Operation::EmbedContent
        | Operation::Converse
        | Operation::Invoke
        | Operation::CohereChat
        | Operation::CohereEmbed
        | Operation::Rerank
        | Operation::BedrockRerank
        | Operation::OllamaEmbed
        | Operation::Predict => None,
    }
}

/// How providers speak a dialect.
pub fn outbound(dialect: Dialect) -> &'static dyn Outbound {
    match dialect {
        Dialect::OpenAiChat => &openai::chat::Chat,
        Dialect::OpenAiResponses => &openai::responses::Responses,
        Dialect::Anthropic => &anthropic::Anthropic,
        Dialect::Gemini => &gemini::Gemini,
        Dialect::Bedrock => &bedrock::Bedrock,
        Dialect::Cohere => &cohere::Cohere,
    }
}

/// Status and body of an error, so that the SDKs of its grammar raise their own exception classes.
pub fn error(grammar: Grammar, error: &Error) -> (u16, Bytes) {
    match grammar {
        Grammar::OpenAi => (openai::error::status(error), openai::error::body(error)),
        Grammar::Anthropic => (anthropic::error::status(error), anthropic::error::body(error)),
        Grammar::Google => (gemini::error::status(error), gemini::error::body(error)),
    }
}

/// Watches a stream that is forwarded as it is. `added_usage`: usage was asked for by us, and is taken out again.
pub fn tap(operation: Operation, added_usage: bool) -> Box<dyn Tap> {
    match operation.grammar() {
        Grammar::OpenAi => Box::new(openai::stream::Tap::new(operation, added_usage)),
        Grammar::Anthropic => Box::new(anthropic::tap::Tap::default()),
        Grammar::Google => Box::new(gemini::tap::Tap::default()),
    }
}

/// The usage in a whole reply.
pub fn usage_of(operation: Operation, reply: &[u8]) -> Option<Usage> {
    match operation.grammar() {
        Grammar::OpenAi => openai::usage::of_reply(reply),
        Grammar::Anthropic => anthropic::usage::of_reply(reply),
        Grammar::Google => gemini::usage::of_reply(reply),
    }
}

/// The usage in the last bytes of a reply too large to keep.
pub fn usage_of_tail(operation: Operation, tail: &[u8]) -> Option<Usage> {
    match operation.grammar() {
        Grammar::OpenAi => openai::usage::of_tail(tail),
        Grammar::Anthropic => anthropic::usage::of_tail(tail),
        Grammar::Google => gemini::usage::of_tail(tail),
    }
}
