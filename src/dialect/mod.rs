//! How a protocol is spoken: pure functions from bytes to words (`chat`) and back. No I/O, no clock, no provider.
//!
//! A dialect that clients speak is an [`Inbound`]; one that providers speak is an [`Outbound`]. N decoders and M encoders, never a pair.

pub mod adapt;
pub mod anthropic;
pub mod bedrock;
pub mod codec;
pub mod count;
mod embeddings;
pub mod envelope;
pub mod eventstream;
pub mod frame;
pub mod openai;
mod operation;
mod rerank;
pub mod sse;
pub mod task;
pub mod undo;

pub use crate::chat::Dialect;
pub use codec::{
    Abilities, Encoded, Garbled, Inbound, Manners, Origin, Outbound, Refusal, ReplyTo, Seen, StreamDecoder,
    StreamEncoder, StreamForm, Tap, ThinkingForm, To,
};
pub use frame::{Cutter, Frame, Framing};
pub use operation::{Grammar, Operation};

/// How clients speak an operation; `None` for what is no conversation.
pub fn inbound(operation: Operation) -> Option<&'static dyn Inbound> {
    let _ = operation;
    None
}

/// How providers speak a dialect.
pub fn outbound(dialect: Dialect) -> &'static dyn Outbound {
    let _ = dialect;
    unreachable!()
}

/// Status and body of an error, so that the SDKs of its grammar raise their own exception classes.
pub fn error(grammar: Grammar, error: &crate::error::Error) -> (u16, bytes::Bytes) {
    match grammar {
        Grammar::OpenAi | Grammar::Anthropic | Grammar::Google => (error.kind.status(), openai::error::body(error)),
    }
}
