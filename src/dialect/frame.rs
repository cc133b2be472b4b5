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

/// Cuts a reply's bytes into frames.
pub struct Cutter(super::sse::Frames);

impl Cutter {
    pub fn new(_framing: Framing) -> Self {
        Cutter(super::sse::Frames::default())
    }

    pub fn push(
        &mut self,
        chunk: bytes::Bytes,
        mut each: impl FnMut(Frame<'_>) -> Result<(), super::Garbled>,
    ) -> Result<(), super::Garbled> {
        let mut failed = Ok(());
        self.0
            .push(chunk, |frame| {
                let event = super::sse::Event::read(&frame);
                if let (Some(data), Ok(())) = (&event.data, &failed) {
                    failed = each(Frame { name: event.name, data, exception: false });
                }
            })
            .map_err(|_| super::Garbled::new("an event is too large"))?;
        failed
    }

    pub fn finish(&mut self) -> Result<(), super::Garbled> {
        Ok(())
    }
}
