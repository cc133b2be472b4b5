//! How a protocol is spoken: pure functions from bytes to words (`chat`) and back. No I/O, no clock, no provider.
//!
//! A dialect that clients speak is an [`Inbound`]; one that providers speak is an [`Outbound`]. N decoders and M encoders, never a pair.

pub mod bedrock;
pub mod codec;
pub mod cohere;
pub mod eventstream;
pub mod frame;
pub mod openai;
mod operation;
pub mod sse;

pub use crate::chat::Dialect;
pub use codec::{
    Abilities, Encoded, Garbled, Inbound, Manners, Origin, Outbound, Refusal, ReplyTo, Seen, StreamDecoder,
    StreamEncoder, StreamForm, Tap, To,
};
pub use frame::{Cutter, Frame, Framing};
pub use operation::{Grammar, Operation};
