//! AWS event stream: binary messages with headers, a payload and two checksums.
//!
//! Owns cutting a byte stream into messages and writing a message. What a message means is its dialect's business.
//! Truth: AWS, "Event stream encoding" (prelude of total length, headers length and their CRC-32; headers; payload; CRC-32 of all before),
//! and the Smithy specification, "Amazon Event Stream" (`:message-type`, `:event-type`, `:exception-type`, `:error-code`).

use std::borrow::Cow;

use aws_smithy_eventstream::frame::{read_message_from, write_message_to};
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{Buf, Bytes, BytesMut};

use super::codec::Garbled;
use super::frame::Frame;

/// Longest message. AWS allows 16 MiB of payload; a reply's events are far smaller.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Total length, headers length, checksum of both.
const PRELUDE: usize = 12;
/// A message with neither headers nor payload: the prelude and the checksum at the end.
const SHORTEST: usize = PRELUDE + 4;

/// Cuts a stream into messages. Holds only the unfinished one: memory for bytes that came, not for those announced.
#[derive(Debug, Default)]
pub struct Messages {
    carry: BytesMut,
}

// === impl Messages ===

impl Messages {
    /// Take the next bytes of the stream and hand out each message they complete. Stops at the first error.
    pub fn push(
        &mut self,
        mut chunk: Bytes,
        see: &mut impl FnMut(Frame<'_>) -> Result<(), Garbled>,
    ) -> Result<(), Garbled> {
        while !chunk.is_empty() {
            let whole = if self.carry.is_empty() { take_whole(&mut chunk)? } else { None };
            let message = match whole {
                Some(message) => message,
                None if self.fill(&mut chunk)? => self.carry.split().freeze(),
                None => return Ok(()),
            };
            read(message, see)?;
        }
        Ok(())
    }

    /// Whether bytes of an unfinished message are left.
    pub fn unfinished(&self) -> bool {
        !self.carry.is_empty()
    }

    /// Move what the unfinished message still wants. True when it is whole.
    fn fill(&mut self, chunk: &mut Bytes) -> Result<bool, Garbled> {
        let prelude = PRELUDE.saturating_sub(self.carry.len()).min(chunk.len());
        self.carry.extend_from_slice(&chunk.split_to(prelude));
        let Some(length) = declared_length(&self.carry)? else { return Ok(false) };
        let wanted = length.saturating_sub(self.carry.len()).min(chunk.len());
        self.carry.extend_from_slice(&chunk.split_to(wanted));
        Ok(self.carry.len() == length)
    }
}

/// A message that lies whole in the chunk, uncopied.
fn take_whole(chunk: &mut Bytes) -> Result<Option<Bytes>, Garbled> {
    match declared_length(chunk)? {
        Some(length) if chunk.len() >= length => Ok(Some(chunk.split_to(length))),
        _ => Ok(None),
    }
}

/// The length that a prelude declares, believed only when its checksum holds. `None`: the prelude is not whole yet.
fn declared_length(bytes: &[u8]) -> Result<Option<usize>, Garbled> {
    let Some(mut prelude) = bytes.get(..PRELUDE) else { return Ok(None) };
    let checked = crc32(prelude.get(..8).unwrap_or_default());
    let (length, _headers, crc) = (prelude.get_u32() as usize, prelude.get_u32(), prelude.get_u32());
    if crc != checked {
        return Err(Garbled::new("an event stream message whose prelude has a wrong checksum"));
    }
    if !(SHORTEST..=MAX_MESSAGE).contains(&length) {
        return Err(Garbled::new("an event stream message of a length out of bounds"));
    }
    Ok(Some(length))
}

fn read(message: Bytes, see: &mut impl FnMut(Frame<'_>) -> Result<(), Garbled>) -> Result<(), Garbled> {
    let message =
        read_message_from(message).map_err(|e| Garbled::new(format!("an event stream message that is broken: {e}")))?;
    let header = |name: &str| {
        let found = message.headers().iter().find(|header| header.name().as_str() == name)?;
        found.value().as_string().ok().map(|text| text.as_str())
    };
    let mut data = Cow::Borrowed(message.payload().as_ref());
    let (name, exception) = match header(":message-type") {
        Some("error") => {
            // an unmodelled error has no payload, its words are in a header
            if data.is_empty() {
                let words = header(":error-message").unwrap_or_default();
                data = Cow::Owned(serde_json::json!({ "message": words }).to_string().into_bytes());
            }
            (header(":error-code"), true)
        }
        Some("exception") => (header(":exception-type"), true),
        _ => (header(":event-type"), false),
    };
    see(Frame { name: name.unwrap_or_default(), data: &data, exception })
}

/// CRC-32 of a few bytes (IEEE 802.3, reflected); the crate that checks whole messages does not check a prelude alone.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Whether a message carries an event or an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    Event,
    Exception,
}

/// One message with a JSON payload, as a provider sends it. `name` is the `:event-type` or `:exception-type`; `None` when a part is too
/// long for the format.
pub fn message(name: &str, kind: MessageKind, payload: &[u8]) -> Option<Bytes> {
    let (type_header, message_type) = match kind {
        MessageKind::Event => (":event-type", "event"),
        MessageKind::Exception => (":exception-type", "exception"),
    };
    let text = |value: &str| HeaderValue::String(value.to_owned().into());
    let message = Message::new(Bytes::copy_from_slice(payload))
        .add_header(Header::new(type_header, text(name)))
        .add_header(Header::new(":content-type", text("application/json")))
        .add_header(Header::new(":message-type", text(message_type)));
    let mut out = BytesMut::new();
    write_message_to(&message, &mut out).ok()?;
    Some(out.freeze())
}
