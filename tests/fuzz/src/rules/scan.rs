//! What must hold of the parsers for any bytes at all. Used by the fuzz targets and by the replay in `tests/fuzz.rs`; either has
//! `scan` and `sse` at its root.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::scan::{Fault, MAX_MEMBERS, Object};
use crate::sse::{Event, Frames};

/// What our scan accepts serde_json reads the same: the same names, the same bytes for each value. What it refuses serde_json
/// refuses too, but for what we refuse on purpose: a name twice, more depth or members than we allow.
pub fn json_scan(data: &[u8]) {
    let read = serde_json::from_slice::<Members<'_>>(data);
    match (Object::scan(data), read) {
        (Ok(object), Ok(Members(members))) => {
            let ours: Vec<(&str, &str)> =
                object.members.iter().map(|m| (&*m.name, object.text.get(m.value.clone()).expect("a span"))).collect();
            let theirs: Vec<(&str, &str)> = members.iter().map(|(name, value)| (&**name, value.get())).collect();
            assert_eq!(ours, theirs);
            let names: HashSet<&str> = ours.iter().map(|(name, _)| *name).collect();
            assert_eq!(names.len(), ours.len(), "the same name twice");
        }
        (Ok(_), Err(error)) => panic!("accepted, and serde_json says: {error}"),
        (Err(error), Ok(Members(members))) => match error.what {
            Fault::Duplicate(name) => assert!(members.iter().filter(|(n, _)| *n == name).count() > 1, "{name}"),
            Fault::TooDeep => assert!(data.iter().filter(|b| matches!(b, b'{' | b'[')).count() > 100),
            Fault::TooManyMembers => assert!(members.len() > MAX_MEMBERS),
            what => panic!("refused for {what:?}, and serde_json accepts it"),
        },
        (Err(_), Err(_)) => {}
    }
}

/// However a stream is cut into chunks, the frames are the same, and together they are the stream. The first eight bytes say where
/// to cut.
pub fn sse_frames(data: &[u8]) {
    let Some((seed, text)) = data.split_first_chunk::<8>() else { return };
    let whole = frames([text]);
    assert_eq!(whole.concat(), text, "a byte was lost or made up");
    assert_eq!(frames(text.chunks(1)), whole, "byte by byte");
    let mut seed = u64::from_le_bytes(*seed) | 1;
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
    assert_eq!(frames(pieces), whole, "in random pieces");
    for frame in &whole {
        let _ = Event::read(frame);
    }
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

/// Every member of an object, in order, doubles too.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}
