//! Streams cut into frames: however the bytes come, the frames are the same.

use bytes::Bytes;

use crate::dialect::eventstream::{MessageKind, message};
use crate::dialect::sse::{Event, Frames};
use crate::dialect::{Cutter, Frame, Framing};

/// However a stream is cut into chunks, the frames are the same, and together they are the stream. The first eight bytes say where
/// to cut.
pub fn sse_frames(data: &[u8]) {
    let Some((seed, text)) = data.split_first_chunk::<8>() else { return };
    let whole = frames([text]);
    assert_eq!(whole.concat(), text, "a byte was lost or made up");
    assert_eq!(frames(text.chunks(1)), whole, "byte by byte");
    assert_eq!(frames(pieces(text, *seed)), whole, "in random pieces");
    for frame in &whole {
        let _ = Event::read(frame);
    }
}

/// However AWS's messages are cut into chunks, the frames are the same, up to the first that is broken, of which no split hides that it is.
/// The bytes as they came; and once more as the payloads of messages, so that checksums do not end it at the first byte.
pub fn event_stream(data: &[u8]) {
    let Some((seed, bytes)) = data.split_first_chunk::<8>() else { return };
    same_messages(bytes, *seed);
    let mut stream = Vec::new();
    let mut sent = 0;
    for payload in bytes.split(|b| *b == b'\n').take(64) {
        let kind = if payload.first() == Some(&b'!') { MessageKind::Exception } else { MessageKind::Event };
        let name: String = shown_name(payload);
        stream.extend_from_slice(&message(&name, kind, payload).expect("short enough for the format"));
        sent += 1;
    }
    let (seen, good) = same_messages(&stream, *seed);
    assert!(good && seen.len() == sent, "{} of {sent} messages", seen.len());
    // a break in the middle of it
    let middle = stream.len() / 2;
    if let Some(byte) = stream.get_mut(middle) {
        *byte ^= seed[0] | 1;
    }
    assert!(!same_messages(&stream, *seed).1, "a broken message was taken for whole");
}

fn shown_name(payload: &[u8]) -> String {
    payload.iter().take(12).map(|b| char::from(b'a' + b % 26)).collect()
}

/// The frames and whether the stream was whole, the same for each way to cut it.
fn same_messages(bytes: &[u8], seed: [u8; 8]) -> (Vec<(String, Vec<u8>, bool)>, bool) {
    let whole = messages([bytes]);
    assert_eq!(messages(bytes.chunks(1)), whole, "byte by byte");
    assert_eq!(messages(pieces(bytes, seed)), whole, "in random pieces");
    whole
}

fn messages<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<(String, Vec<u8>, bool)>, bool) {
    let mut cutter = Cutter::new(Framing::EventStream);
    let mut seen = Vec::new();
    let mut see = |frame: Frame<'_>| {
        seen.push((frame.name.to_owned(), frame.data.to_vec(), frame.exception));
        Ok(())
    };
    let mut good = true;
    for piece in pieces {
        good = good && cutter.push(Bytes::copy_from_slice(piece), &mut see).is_ok();
    }
    good = good && cutter.finish(&mut see).is_ok();
    (seen, good)
}

/// A text in pieces of up to 16 bytes, some of them empty.
fn pieces(text: &[u8], seed: [u8; 8]) -> Vec<&[u8]> {
    let mut seed = u64::from_le_bytes(seed) | 1;
    let mut rest = text;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        // xorshift64
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let (piece, after) = rest.split_at((seed % 17) as usize % (rest.len() + 1));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The frames of a stream that came in these pieces; last what is left at its end.
fn frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut frames = Frames::default();
    let mut out = Vec::new();
    for piece in pieces {
        frames
            .push(Bytes::copy_from_slice(piece), |frame| out.push(frame.to_vec()))
            .expect("shorter than a frame may be");
    }
    out.push(frames.finish().to_vec());
    out
}
