//! HTTP/2 frames by hand: a client that may break any rule, with prior knowledge and without TLS.
//!
//! Source: RFC 9113 (frames, section 6), RFC 7541 (HPACK: literals without indexing and without Huffman coding on our side;
//! of the gateway's header blocks only the first field, `:status`, is read).

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout_at};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types, RFC 9113 6.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// What the gateway did with a stream.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// Statuses of the stream's header blocks, interim ones included. 0: not readable.
    pub statuses: Vec<u16>,
    pub body: Vec<u8>,
    pub ended: bool,
    /// Error code of a RST_STREAM.
    pub reset: Option<u32>,
    /// Error code of a GOAWAY.
    pub goaway: Option<u32>,
    /// The connection was ended.
    pub closed: bool,
}

pub struct Connection {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    buffer: BytesMut,
}

#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

// === writing ===

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a test's frame is below 16 MiB").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals without indexing.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name.as_bytes());
        text(&mut bytes, value.as_bytes());
    }
    bytes
}

/// A string literal without Huffman coding, RFC 7541 5.2.
fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        bytes.push(u8::try_from(text.len()).expect("below 127"));
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).expect("below 128") | 128);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).expect("below 128"));
    }
    bytes.extend_from_slice(text);
}

/// HEADERS, with CONTINUATION where the block is larger than the frame size every peer accepts (16 KiB).
pub fn headers(stream: u32, fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    let block = block(fields);
    let parts: Vec<_> = block.chunks(16_384).collect();
    let mut bytes = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let end = if i + 1 == parts.len() { flag::END_HEADERS } else { 0 };
        bytes.extend(match i {
            0 => frame(kind::HEADERS, flags | end, stream, part),
            _ => frame(kind::CONTINUATION, end, stream, part),
        });
    }
    bytes
}

pub fn data(stream: u32, body: &[u8], flags: u8) -> Vec<u8> {
    frame(kind::DATA, flags, stream, body)
}

// === impl Connection ===

impl Connection {
    /// Preface and empty SETTINGS, and the acknowledgement of the gateway's own.
    pub async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("the gateway listens");
        socket.set_nodelay(true).expect("TCP_NODELAY can be set");
        let (reader, writer) = socket.into_split();
        let mut connection = Connection { reader, writer, buffer: BytesMut::new() };
        connection.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat()).await;
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Some(frame) = connection.next(deadline).await.expect("the gateway speaks HTTP/2") {
            if frame.kind == kind::SETTINGS && frame.flags & flag::ACK == 0 {
                break;
            }
        }
        connection.send(&frame(kind::SETTINGS, flag::ACK, 0, &[])).await;
        connection
    }

    /// Whether it could still be sent.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout_at(Instant::now() + Duration::from_secs(5), self.writer.write_all(bytes)).await, Ok(Ok(())))
    }

    /// The next frame, `None` at the end of the connection, an error at the deadline.
    pub async fn next(&mut self, deadline: Instant) -> Result<Option<Frame>, tokio::time::error::Elapsed> {
        loop {
            if let Some(frame) = self.parse() {
                return Ok(Some(frame));
            }
            match timeout_at(deadline, self.reader.read_buf(&mut self.buffer)).await? {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.buffer.get(..9)?.try_into().expect("nine bytes");
        let [a, b, c, kind, flags, s @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.advance(9 + length);
        Some(Frame { kind, flags, stream: u32::from_be_bytes(s) & 0x7fff_ffff, payload })
    }

    /// Listens until the stream ended or was reset, the connection was given up, or the time is over. After a GOAWAY with
    /// an error nothing more is waited for.
    pub async fn outcome(&mut self, stream: u32, patience: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        let deadline = Instant::now() + patience;
        while let Ok(next) = self.next(deadline).await {
            let Some(frame) = next else {
                outcome.closed = true;
                break;
            };
            if outcome.take(&frame, stream) {
                break;
            }
        }
        outcome
    }
}

// === impl Outcome ===

impl Outcome {
    /// The first status that is not interim.
    pub fn status(&self) -> Option<u16> {
        self.statuses.iter().copied().find(|status| !(100..200).contains(status))
    }

    /// Refused at the level of the protocol.
    pub fn broken_off(&self) -> bool {
        self.reset.is_some() || self.closed || self.goaway.is_some_and(|code| code != 0)
    }

    /// Takes a frame into account; `true`: nothing more will come for this stream.
    fn take(&mut self, frame: &Frame, stream: u32) -> bool {
        match frame.kind {
            kind::GOAWAY => {
                let code = frame.payload.get(4..8).map(|c| c.try_into().expect("four bytes"));
                self.goaway = code.map(u32::from_be_bytes);
                return self.goaway != Some(0);
            }
            _ if frame.stream != stream || stream == 0 => return false,
            kind::RST_STREAM => {
                let code = frame.payload.get(..4).map(|c| c.try_into().expect("four bytes"));
                self.reset = code.map(u32::from_be_bytes);
                return true;
            }
            kind::HEADERS => self.statuses.extend(status_of(&frame.payload)),
            kind::DATA => self.body.extend_from_slice(&frame.payload),
            _ => {}
        }
        self.ended = frame.flags & flag::END_STREAM != 0;
        self.ended
    }
}

/// `:status`, which comes first, in any form RFC 7541 6 allows (static table entries 8-14); `None` for trailers.
fn status_of(mut block: &[u8]) -> Option<u16> {
    while let [0x20..=0x3f, rest @ ..] = block {
        block = rest; // a dynamic table size update below 31
    }
    match block {
        [entry @ 0x88..=0x8e, ..] => Some([200, 204, 206, 304, 400, 404, 500][usize::from(entry - 0x88)]),
        // a literal whose name is entry 8, with incremental indexing or without
        [0x48 | 0x08 | 0x18, length, value @ ..] => {
            let value = value.get(..usize::from(length & 0x7f))?;
            let digits = if length & 0x80 == 0 { value.to_vec() } else { huffman_digits(value) };
            Some(std::str::from_utf8(&digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0))
        }
        _ => None,
    }
}

/// Digits in RFC 7541's Huffman code (appendix B): 0, 1, 2 take five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> Vec<u8> {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut digits, mut rest) = (Vec::new(), bits.as_str());
    loop {
        let short = rest.get(..5).and_then(|code| u8::from_str_radix(code, 2).ok());
        let long = rest.get(..6).and_then(|code| u8::from_str_radix(code, 2).ok());
        match (short, long) {
            (Some(digit @ 0..=2), _) => {
                digits.push(b'0' + digit);
                rest = &rest[5..];
            }
            (_, Some(code @ 0b01_1001..=0b01_1111)) => {
                digits.push(b'3' + code - 0b01_1001);
                rest = &rest[6..];
            }
            _ => return digits,
        }
    }
}

#[test]
fn statuses_are_read_in_every_form_the_gateway_may_send() {
    assert_eq!(status_of(&[0x88]), Some(200));
    assert_eq!(status_of(&[0x20, 0x8c]), Some(400));
    assert_eq!(status_of(&[0x48, 3, b'4', b'0', b'5']), Some(405));
    // 302 as in RFC 7541 C.6.1, 307 as in C.6.2
    assert_eq!(status_of(&[0x48, 0x82, 0x64, 0x02]), Some(302));
    assert_eq!(status_of(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
    assert_eq!(status_of(&[0x40]), None);
}
