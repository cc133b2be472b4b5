//! The binary frames Bedrock streams in (Smithy specification, "Amazon Event Stream"): written here only, never read.
//!
//! A message is a prelude of its length, the length of its headers and a checksum, then headers, payload and a checksum of all.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

pub(super) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";
/// A header's value is a text.
const TEXT: u8 = 7;
const TABLE: [u32; 256] = table();

/// An event of the answer.
pub(super) fn event(kind: &str, payload: &Value) -> Bytes {
    message([(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")], payload)
}

/// The end of a stream that failed.
pub(super) fn exception(kind: &str, payload: &Value) -> Bytes {
    message([(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")], payload)
}

fn message(headers: [(&str, &str); 3], payload: &Value) -> Bytes {
    let mut heads = BytesMut::new();
    for (name, value) in headers {
        heads.put_u8(name.len() as u8);
        heads.put_slice(name.as_bytes());
        heads.put_u8(TEXT);
        heads.put_u16(value.len() as u16);
        heads.put_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let mut whole = BytesMut::new();
    // two lengths and two checksums besides
    whole.put_u32((heads.len() + payload.len() + 16) as u32);
    whole.put_u32(heads.len() as u32);
    whole.put_u32(checksum(&whole));
    whole.put_slice(&heads);
    whole.put_slice(payload.as_bytes());
    whole.put_u32(checksum(&whole));
    whole.freeze()
}

/// CRC-32 as in gzip (RFC 1952 8).
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, byte| (sum >> 8) ^ TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut entry = at as u32;
        let mut bit = 0;
        while bit < 8 {
            entry = if entry & 1 == 1 { (entry >> 1) ^ 0xedb8_8320 } else { entry >> 1 };
            bit += 1;
        }
        table[at] = entry;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_gzip() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
        assert_eq!(checksum(b""), 0);
    }

    #[test]
    fn a_message_says_how_long_it_is() {
        let message = event("messageStop", &json!({ "stopReason": "end_turn" }));
        let number = |at: usize| u32::from_be_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
        assert_eq!(number(0) as usize, message.len());
        assert_eq!(number(8), checksum(&message[..8]));
        assert_eq!(number(message.len() - 4), checksum(&message[..message.len() - 4]));
        let payload = &message[12 + number(4) as usize..message.len() - 4];
        assert_eq!(payload, br#"{"stopReason":"end_turn"}"#);
    }
}
