//! Bytes of HTTP/1.1, of AWS's event stream and of gzip, right and wrong, made by hand.
//!
//! Nothing here is the gateway's own code: an upstream that misbehaves must not be built with what is to be tested. Truth: RFC 9112
//! (framing), RFC 1952 (gzip), AWS, "Event stream encoding".

/// One chunk of a chunked body.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// A chunk each, without the last one.
pub fn chunks(pieces: &[Vec<u8>]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| chunk(piece)).collect()
}

pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A message of AWS's event stream with these headers (strings).
pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).expect("a short name"));
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&u16::try_from(value.len()).expect("a short value").to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let length = |n: usize| u32::try_from(n).expect("a small message").to_be_bytes();
    let mut bytes = [length(16 + head.len() + payload.len()), length(head.len())].concat();
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    bytes
}

/// `data` as gzip that compresses nothing: one stored block.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("below 64 KiB");
    let mut bytes = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&(!length).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(&crc32(data).to_le_bytes());
    bytes.extend_from_slice(&u32::from(length).to_le_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn checksums_are_those_of_the_recorded_messages() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    // the prelude of a recorded `messageStart`
    assert_eq!(crc32(&[0, 0, 0, 0x9a, 0, 0, 0, 0x52]), 0x7bf1_d000);
}
