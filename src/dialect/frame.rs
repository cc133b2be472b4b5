//! One event of a provider's stream, whatever it is framed in; and the cutter that makes events of bytes.

use bytes::Bytes;

use super::codec::Garbled;
use super::eventstream::Messages;
use super::sse::{Event, Frames};

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

/// Turns the bytes of a reply into frames. Any split of the bytes gives the same frames; of an unfinished one only its own bytes are
/// held. After an error it is of no more use.
#[derive(Debug)]
pub struct Cutter {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Sse(Frames),
    EventStream(Messages),
}

// === impl Cutter ===

impl Cutter {
    pub fn new(framing: Framing) -> Self {
        Cutter {
            kind: match framing {
                Framing::Sse => Kind::Sse(Frames::default()),
                Framing::EventStream => Kind::EventStream(Messages::default()),
            },
        }
    }

    /// Take the next bytes and hand out each frame they complete. The first error, of the bytes or of `see`, ends it: no frame behind it
    /// is handed out. Frames that hold no data (comments) are not handed out.
    pub fn push(&mut self, chunk: Bytes, mut see: impl FnMut(Frame<'_>) -> Result<(), Garbled>) -> Result<(), Garbled> {
        match &mut self.kind {
            Kind::Sse(frames) => {
                let mut result = Ok(());
                let cut = frames.push(chunk, |bytes| {
                    if result.is_ok() {
                        result = read_sse(&bytes, &mut see);
                    }
                });
                result?;
                cut.map_err(|_| Garbled::new("an event longer than the gateway holds"))
            }
            Kind::EventStream(messages) => messages.push(chunk, &mut see),
        }
    }

    /// The stream has ended. An SSE event that only lacks its blank line is still handed out, as some providers leave the last one off.
    /// `Err`: it ended within a message.
    pub fn finish(&mut self, mut see: impl FnMut(Frame<'_>) -> Result<(), Garbled>) -> Result<(), Garbled> {
        match &mut self.kind {
            Kind::Sse(frames) => read_sse(&frames.finish(), &mut see),
            Kind::EventStream(messages) if messages.unfinished() => {
                Err(Garbled::new("an event stream that ends within a message"))
            }
            Kind::EventStream(_) => Ok(()),
        }
    }
}

fn read_sse(bytes: &[u8], see: &mut impl FnMut(Frame<'_>) -> Result<(), Garbled>) -> Result<(), Garbled> {
    let event = Event::read(bytes);
    match event.data.as_deref() {
        Some(data) if !data.is_empty() => see(Frame { name: event.name, data, exception: false }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::eventstream::{MAX_MESSAGE, MessageKind, message};

    type Seen = Vec<(String, Vec<u8>, bool)>;

    fn cut(framing: Framing, pieces: &[&[u8]]) -> Result<Seen, (Seen, Garbled)> {
        let mut cutter = Cutter::new(framing);
        let mut seen = Seen::new();
        let mut see = |f: Frame<'_>| {
            seen.push((f.name.to_owned(), f.data.to_vec(), f.exception));
            Ok(())
        };
        let mut result = Ok(());
        for piece in pieces {
            result = result.and_then(|()| cutter.push(Bytes::copy_from_slice(piece), &mut see));
        }
        match result.and_then(|()| cutter.finish(&mut see)) {
            Ok(()) => Ok(seen),
            Err(garbled) => Err((seen, garbled)),
        }
    }

    fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|c| (*c).min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect()
    }

    #[test]
    fn an_sse_event_that_lacks_only_its_blank_line_is_handed_out_at_the_end() {
        let stream: &[u8] = b": hi\n\nevent: a\ndata: 1\n\ndata:\n\ndata: [DONE]\n";
        let seen = cut(Framing::Sse, &[stream]).unwrap();
        assert_eq!(seen, [("a".into(), b"1".to_vec(), false), (String::new(), b"[DONE]".to_vec(), false)]);
        assert_eq!(cut(Framing::Sse, &[b"data: x\r\r"]).unwrap().len(), 1);
    }

    #[test]
    fn no_frame_is_handed_out_behind_the_first_error() {
        let mut two = message("a", MessageKind::Event, b"{}").unwrap().to_vec();
        two.extend_from_slice(&message("b", MessageKind::Event, b"{}").unwrap());
        for (framing, stream) in [(Framing::Sse, b"data: a\n\ndata: b\n\n".to_vec()), (Framing::EventStream, two)] {
            let mut seen = 0;
            let result = Cutter::new(framing).push(Bytes::from(stream), |_| {
                seen += 1;
                Err(Garbled::new("no"))
            });
            assert_eq!((result, seen), (Err(Garbled::new("no")), 1));
        }
    }

    #[test]
    fn an_exception_is_told_from_an_event() {
        let bytes = message("throttlingException", MessageKind::Exception, br#"{"message":"slow"}"#).unwrap();
        let seen = cut(Framing::EventStream, &[&bytes]).unwrap();
        assert_eq!(seen, [("throttlingException".into(), br#"{"message":"slow"}"#.to_vec(), true)]);
    }

    #[test]
    fn a_message_that_declares_too_much_is_refused_before_it_is_held() {
        use aws_smithy_eventstream::frame::write_message_to;
        use aws_smithy_types::event_stream::Message;
        let mut bytes = Vec::new();
        write_message_to(&Message::new(vec![b'x'; MAX_MESSAGE]), &mut bytes).unwrap();
        let (seen, _) = cut(Framing::EventStream, &[&bytes[..12]]).unwrap_err();
        assert!(seen.is_empty());
    }

    #[test]
    fn a_stream_that_ends_within_a_message_is_told() {
        let bytes = message("a", MessageKind::Event, b"{}").unwrap();
        for end in 1..bytes.len() {
            assert!(cut(Framing::EventStream, &[&bytes[..end]]).is_err(), "{end}");
        }
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(("[a-z]{0,12}", any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), 1..6).prop_map(
            |messages| {
                let one = |(name, exception, payload): (String, bool, Vec<u8>)| {
                    let kind = if exception { MessageKind::Exception } else { MessageKind::Event };
                    message(&name, kind, &payload).unwrap()
                };
                messages.into_iter().flat_map(one).collect()
            },
        )
    }

    proptest! {
        #[test]
        fn any_split_of_an_event_stream_gives_the_same_frames(
            stream in stream(),
            cuts in prop::collection::vec(0usize..600, 0..20),
        ) {
            let whole = cut(Framing::EventStream, &[&stream]).unwrap();
            prop_assert_eq!(&cut(Framing::EventStream, &pieces(&stream, &cuts)).unwrap(), &whole);
            let every: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(&cut(Framing::EventStream, &every).unwrap(), &whole);
        }

        #[test]
        fn any_split_of_server_sent_events_gives_the_same_frames(
            text in "(data: |event: |: x|a|\\n|\\r|\\r\\n|\\n\\n|é){0,40}",
            cuts in prop::collection::vec(0usize..200, 0..20),
        ) {
            let text = text.as_bytes();
            let whole = cut(Framing::Sse, &[text]).unwrap();
            prop_assert_eq!(&cut(Framing::Sse, &pieces(text, &cuts)).unwrap(), &whole);
        }

        #[test]
        fn a_flipped_bit_anywhere_is_noticed(stream in stream(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut broken = stream.clone();
            let at = at.index(broken.len());
            broken[at] ^= 1 << bit;
            let whole = cut(Framing::EventStream, &[&stream]).unwrap();
            let (seen, _) = cut(Framing::EventStream, &[&broken]).unwrap_err();
            // what came before the damage is still good
            prop_assert_eq!(&whole[..seen.len()], &seen[..]);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = cut(Framing::EventStream, &[&bytes]);
            let _ = cut(Framing::Sse, &[&bytes]);
        }
    }
}
