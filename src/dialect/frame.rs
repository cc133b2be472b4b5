//! One event of a provider's stream, whatever it is framed in.

/// How a dialect's stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// AWS event stream: binary messages with checksums (`application/vnd.amazon.eventstream`).
    EventStream,
}

/// One event, as its dialect's decoder reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'f> {
    /// The `event:` field, or `:event-type`; of an exception its `:exception-type`. May be empty.
    pub name: &'f str,
    pub data: &'f [u8],
    /// AWS `:message-type` is `exception` or `error`.
    pub exception: bool,
}
