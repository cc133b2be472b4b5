//! How a protocol is spoken: pure functions from bytes to words and back. No I/O, no clock, no provider.

pub mod openai;
mod operation;
pub mod sse;

pub use operation::Operation;
