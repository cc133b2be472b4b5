//! What must hold for any bytes at all. Used by the fuzz targets and by the replay in `tests/fuzz.rs`; either has `chat`, `dialect`,
//! `error` and `json` at its root, and `mutate` beside this.
//!
//! A rule takes what a stranger sends and panics when it is broken. Where its first byte is a choice, the digits `0`, `1`, .. are the first
//! choices, so that a seed can be read.

mod framing;
mod request;
mod response;
mod round_trip;
mod scan;
mod tree;

pub use framing::{event_stream, sse_frames};
pub use request::decode_request;
pub use response::decode_response;
pub use round_trip::round_trip;
pub use scan::json_scan;
pub use tree::json_tree;

use crate::chat::Dialect;
use crate::dialect::{Operation, ReplyTo, StreamForm};
use crate::json::Node;

/// Dialects that clients speak and providers too.
const CLIENTS: [Operation; 4] =
    [Operation::ChatCompletions, Operation::Responses, Operation::Messages, Operation::GenerateContent];

const REPLY: ReplyTo<'static> = ReplyTo {
    id: "0190a1b2-0000-7000-8000-000000000000",
    model: "some-model",
    created: 1_700_000_000,
    stream_usage: true,
    form: StreamForm::Sse,
    echo: "",
};

/// A model of each dialect's own.
fn model_of(dialect: Dialect, old: bool) -> &'static str {
    match (dialect, old) {
        (Dialect::OpenAiChat | Dialect::OpenAiResponses, false) => "gpt-5.1",
        (Dialect::OpenAiChat | Dialect::OpenAiResponses, true) => "gpt-4o",
        (Dialect::Anthropic, false) => "claude-sonnet-4-5",
        (Dialect::Anthropic, true) => "claude-3-5-haiku-20241022",
        (Dialect::Gemini, false) => "gemini-3-pro-preview",
        (Dialect::Gemini, true) => "gemini-2.0-flash",
        (Dialect::Bedrock, false) => "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        (Dialect::Bedrock, true) => "us.amazon.nova-pro-v1:0",
        (Dialect::Cohere, false) => "command-a-reasoning-08-2025",
        (Dialect::Cohere, true) => "command-r-08-2024",
    }
}

/// The first byte as one of `choices`, and which of the further rounds through them it is.
fn chosen(byte: u8, choices: usize) -> (usize, usize) {
    let number = usize::from(byte.wrapping_sub(b'0'));
    (number % choices, number / choices)
}

/// That a body of ours is JSON, as strict as we are with others and as others read it.
fn read<'b>(body: &'b [u8], what: &str) -> Node<'b> {
    let node = Node::parse(body).unwrap_or_else(|e| panic!("{what}: {e}: {}", shown(body)));
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        panic!("{what}: {error}: {}", shown(body));
    }
    node
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
