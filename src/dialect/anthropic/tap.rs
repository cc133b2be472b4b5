//! Beside a forwarded event stream: what it used, when output began, how it ended.

use bytes::Bytes;
use memchr::memmem;

use super::usage::Reported;
use crate::dialect::sse::Event;
use crate::dialect::{Seen, Tap as Watch};
use crate::error::Error;
use crate::json::Object;

/// Reads frames as they pass. Costs a look at the event's name; parses only the two frames that carry usage.
#[derive(Debug, Default)]
pub struct Tap {
    seen: Seen,
    usage: Reported,
}

// === impl Tap ===

impl Watch for Tap {
    fn see(&mut self, frame: Bytes) -> Option<Bytes> {
        let event = Event::read(&frame);
        if let Some(data) = event.data.as_deref() {
            // some vendors leave the event's name to the data
            let name = if event.name.is_empty() { kind_of(data) } else { event.name };
            match name {
                "content_block_delta" => {
                    self.seen.output_frames += 1;
                    self.seen.output_began = true;
                }
                "message_start" => self.read_usage(data),
                "message_delta" => {
                    self.read_usage(data);
                    self.seen.output_began = true;
                    self.seen.finished = true;
                }
                "message_stop" => self.seen.ended = true,
                "error" => self.seen.failed = true,
                // a text that begins says nothing yet, a tool that is called does
                "content_block_start" => {
                    let empty = [
                        &b"\"type\":\"text\""[..],
                        b"\"type\":\"thinking\"",
                        b"\"type\": \"text\"",
                        b"\"type\": \"thinking\"",
                    ];
                    self.seen.output_began |= empty.iter().all(|kind| memmem::find(data, kind).is_none());
                }
                "ping" | "" => {}
                _ => self.seen.output_began = true,
            }
        }
        Some(frame)
    }

    fn seen(&self) -> &Seen {
        &self.seen
    }

    fn broken(&self, error: &Error) -> Bytes {
        super::error::event(error)
    }
}

impl Tap {
    fn read_usage(&mut self, data: &[u8]) {
        if memmem::find(data, b"\"usage\"").is_none() {
            return;
        }
        let Ok(event) = Object::scan(data) else { return };
        // of the message that starts, or of the event itself
        let usage = match event.get("message") {
            Some(message) => Object::scan(message.as_bytes()).ok().and_then(|message| message.get("usage")),
            None => event.get("usage"),
        };
        if let Some(reported) = usage.and_then(Reported::read) {
            self.usage.merge(reported);
            self.seen.usage = self.usage.usage().or(self.seen.usage);
        }
    }
}

/// The `type` of an event; nearly always its first member.
fn kind_of(data: &[u8]) -> &str {
    let quoted = match data.strip_prefix(b"{\"type\":") {
        Some(rest) => rest.trim_ascii_start(),
        None => match Object::scan(data).ok().and_then(|object| object.get("type")) {
            Some(kind) => kind.as_bytes(),
            None => return "",
        },
    };
    let kind = quoted.strip_prefix(b"\"").and_then(|rest| rest.split(|b| *b == b'"').next());
    kind.and_then(|kind| std::str::from_utf8(kind).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::units::Tokens;

    const FRAMES: [&str; 5] = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":7,\"output_tokens\":1}}}\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a \\\"usage\\\"\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ];

    fn run(frames: &[String]) -> Seen {
        let mut tap = Tap::default();
        for frame in frames {
            let frame = Bytes::copy_from_slice(frame.as_bytes());
            assert_eq!(tap.see(frame.clone()), Some(frame));
        }
        *tap.seen()
    }

    #[test]
    fn usage_is_gathered_from_both_ends_of_a_stream() {
        let named = FRAMES.map(str::to_owned);
        let unnamed = named.clone().map(|frame| frame.split_once('\n').unwrap().1.to_owned());
        for frames in [named, unnamed] {
            let seen = run(&frames);
            let usage = seen.usage.unwrap();
            assert_eq!((usage.input, usage.cache_read, usage.output), (Tokens(12), Tokens(7), Tokens(9)));
            assert!(seen.ended && seen.output_began && !seen.failed);
            assert_eq!(seen.output_frames, 1);
            assert!(!run(&frames[..2]).output_began && !run(&frames[..4]).ended);
        }
    }

    #[test]
    fn an_error_event_is_noticed() {
        let error =
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"\"}}\n\n";
        assert!(run(&[error.to_owned()]).failed);
        let broken = Tap::default().broken(&Error::new(Kind::UpstreamFailed, "gone"));
        assert!(run(&[String::from_utf8(broken.to_vec()).unwrap()]).failed);
    }
}
