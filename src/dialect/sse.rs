//! Server-sent events as frames of bytes (WHATWG HTML, "9.2.5 Parsing an event stream").
//!
//! [`Frames`] cuts a byte stream behind each blank line and hands out the frames as they came, terminators included: what is
//! forwarded is what was received. [`Event`] reads one frame. Any split of the bytes gives the same frames.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2_iter};

/// Longest frame. A whole reply with base64 images comes in one frame at the end of a responses stream.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// Cuts a stream into frames. Holds only the unfinished one.
#[derive(Debug, Default)]
pub struct Frames {
    carry: BytesMut,
    /// Of the carry: bytes since the last line end.
    line: usize,
    /// The last byte was a CR: an LF right behind it belongs to the same line end.
    after_cr: bool,
    /// A frame ended at the CR that was the last byte: it is held until we know whether an LF follows.
    held: bool,
}

/// The frame is longer than [`MAX_FRAME`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameTooLong;

/// One event, read from a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The last `event:` field, or empty.
    pub name: &'a str,
    /// The `data:` lines, joined with LF. `None` for a frame without one (a comment).
    pub data: Option<Cow<'a, [u8]>>,
}

// === impl Frames ===

impl Frames {
    /// Take the next bytes of the stream and hand out each frame they complete.
    pub fn push(&mut self, chunk: Bytes, mut frame: impl FnMut(Bytes)) -> Result<(), FrameTooLong> {
        let mut start = 0; // of the unfinished frame, in `chunk`
        let mut line_start = 0; // in `chunk`; with `self.line` bytes before it in the carry
        let mut before = self.line;
        if self.held {
            match chunk.first() {
                None => return Ok(()),
                // the LF of the CR LF that ended the frame
                Some(b'\n') => {
                    self.emit(&chunk, 0, 1, &mut frame);
                    (start, line_start, before) = (1, 1, 0);
                    self.after_cr = false;
                }
                Some(_) => {
                    self.emit(&chunk, 0, 0, &mut frame);
                    before = 0;
                }
            }
            self.held = false;
        }
        for at in memchr2_iter(b'\n', b'\r', &chunk) {
            if at < line_start {
                continue;
            }
            let byte = chunk[at];
            let joined = if at == 0 { self.after_cr } else { chunk[at - 1] == b'\r' };
            if byte == b'\n' && joined && at == line_start && before == 0 {
                // second half of CR LF: the line already ended at the CR
                line_start = at + 1;
                continue;
            }
            let empty = at == line_start && before == 0;
            let mut end = at + 1;
            (line_start, before) = (end, 0);
            if empty {
                if byte == b'\r' {
                    match chunk.get(end) {
                        Some(b'\n') => {
                            end += 1;
                            line_start = end;
                        }
                        Some(_) => {}
                        None => {
                            self.held = true;
                            break;
                        }
                    }
                }
                self.emit(&chunk, start, end, &mut frame);
                start = end;
            }
        }
        if let Some(last) = chunk.last() {
            self.after_cr = *last == b'\r';
        }
        self.line = before + (chunk.len() - line_start.min(chunk.len()));
        if start < chunk.len() {
            if self.carry.len() + chunk.len() - start > MAX_FRAME {
                return Err(FrameTooLong);
            }
            self.carry.extend_from_slice(&chunk[start..]);
        }
        Ok(())
    }

    /// What is left when the stream ends: an unfinished frame, or nothing.
    pub fn finish(&mut self) -> Bytes {
        *self = Frames { carry: std::mem::take(&mut self.carry), ..Frames::default() };
        self.carry.split().freeze()
    }

    /// Whether the stream stands between two frames, where something may be put in.
    pub fn between(&self) -> bool {
        self.carry.is_empty()
    }

    fn emit(&mut self, chunk: &Bytes, start: usize, end: usize, frame: &mut impl FnMut(Bytes)) {
        if self.carry.is_empty() {
            frame(chunk.slice(start..end));
        } else {
            self.carry.extend_from_slice(&chunk[start..end]);
            frame(self.carry.split().freeze());
        }
    }
}

// === impl Event ===

impl<'a> Event<'a> {
    /// Read a frame. Borrows where the data is one line, which is nearly always.
    pub fn read(frame: &'a [u8]) -> Event<'a> {
        let mut event = Event { name: "", data: None };
        let mut rest = frame;
        while !rest.is_empty() {
            let end = memchr2_iter(b'\n', b'\r', rest).next().unwrap_or(rest.len());
            let line = &rest[..end];
            let crlf = rest.get(end) == Some(&b'\r') && rest.get(end + 1) == Some(&b'\n');
            rest = rest.get(end + if crlf { 2 } else { 1 }..).unwrap_or_default();
            let (field, value) = match memchr(b':', line) {
                Some(colon) => (&line[..colon], &line[colon + 1..]),
                None => (line, &line[line.len()..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"data" => {
                    event.data = Some(match event.data.take() {
                        None => Cow::Borrowed(value),
                        Some(data) => {
                            let mut data = data.into_owned();
                            data.push(b'\n');
                            data.extend_from_slice(value);
                            Cow::Owned(data)
                        }
                    });
                }
                b"event" => event.name = std::str::from_utf8(value).unwrap_or(""),
                _ => {}
            }
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut frames = Frames::default();
        let mut out = Vec::new();
        for piece in pieces {
            frames.push(Bytes::copy_from_slice(piece), |f| out.push(f.to_vec())).unwrap();
        }
        (out, frames.finish().to_vec())
    }

    #[test]
    fn frames_end_behind_a_blank_line_of_any_spelling() {
        let (frames, rest) = cut(&[b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d"]);
        assert_eq!(frames, [&b"data: a\n\n"[..], b"data: b\r\n\r\n", b"data: c\r\r"]);
        assert_eq!(rest, b"data: d");
    }

    #[test]
    fn a_frame_in_one_chunk_is_handed_out_at_once_and_uncopied() {
        let chunk = Bytes::from_static(b"data: a\n\n");
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        frames.push(chunk.clone(), |f| seen.push(f)).unwrap();
        assert_eq!(seen[0].as_ptr(), chunk.as_ptr());
        assert!(frames.between());
    }

    #[test]
    fn an_event_is_read_by_its_fields() {
        let event = Event::read(b": hi\nevent: delta\ndata: {\"a\":\ndata:1}\nid: 3\n\n");
        assert_eq!(event.name, "delta");
        assert_eq!(event.data.as_deref(), Some(&b"{\"a\":\n1}"[..]));
        assert_eq!(Event::read(b": ping\n\n").data, None);
        assert_eq!(Event::read(b"data\n\n").data.as_deref(), Some(&b""[..]));
        assert_eq!(Event::read(b"data: x\r\n\r\n").data.as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn a_frame_has_a_limit() {
        let mut frames = Frames::default();
        let chunk = Bytes::from(vec![b'x'; MAX_FRAME]);
        assert_eq!(frames.push(chunk, |_| {}), Ok(()));
        assert_eq!(frames.push(Bytes::from_static(b"y"), |_| {}), Err(FrameTooLong));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            text in "(data|event|:|: x|a|\\n|\\r|\\r\\n|\\n\\n|é|\\r\\n\\r\\n){0,40}",
            cuts in prop::collection::vec(0usize..200, 0..20),
        ) {
            let text = text.as_bytes();
            let whole = cut(&[text]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            prop_assert_eq!(&cut(&pieces), &whole);
            let every: Vec<&[u8]> = text.chunks(1).collect();
            prop_assert_eq!(&cut(&every), &whole);
            let joined: Vec<u8> = whole.0.concat().into_iter().chain(whole.1).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
