//! Beside a forwarded event stream: what it used, when output began, which frame we asked for ourselves.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{error, usage};
use crate::dialect::sse::Event;
use crate::dialect::{Operation, Seen};
use crate::error::Error;
use crate::json::Object;

/// Reads frames as they pass. Costs a search per frame; parses only the first few, and those that carry usage.
#[derive(Debug)]
pub struct Tap {
    operation: Operation,
    /// We asked for usage and the client did not: what that adds is taken out again.
    added_usage: bool,
    seen: Seen,
    /// The `sequence_number` that an event put behind the last one of a responses stream would have.
    next_sequence: u64,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default, borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default, borrow)]
    delta: Option<&'a RawValue>,
    #[serde(default, borrow)]
    text: Option<&'a RawValue>,
    #[serde(default, borrow)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ResponseEvent<'a> {
    #[serde(default, borrow)]
    response: Option<&'a RawValue>,
}

// === impl Tap ===

impl Tap {
    pub fn new(operation: Operation, added_usage: bool) -> Self {
        Tap { operation, added_usage, seen: Seen::default(), next_sequence: 0 }
    }

    fn see_chunk(&mut self, data: &[u8]) {
        self.seen.output_frames += 1;
        self.seen.finished = self.seen.finished || tells_a_finish(data);
        if !self.seen.output_began
            && let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data)
        {
            self.seen.output_began = chunk.choices.is_some_and(|c| c.iter().any(Choice::has_output));
            self.seen.failed |= chunk.error.is_some_and(|e| e.get() != "null");
        } else if !self.seen.failed && data.len() < 4096 && memmem::find(data, b"\"error\"").is_some() {
            self.seen.failed = Object::scan(data).is_ok_and(|o| o.get("error").is_some_and(|e| e != "null"));
        }
        if let Some(at) = memmem::rfind(data, b"\"usage\"")
            && memmem::find(&data[at..], b"{").is_some()
        {
            // x_groq and the like carry it one level down
            let found = usage::of_reply(data).or_else(|| usage::of_tail(data));
            self.seen.usage = found.or(self.seen.usage);
        }
    }

    fn see_response_event(&mut self, name: &str, data: &[u8]) {
        self.next_sequence = sequence_of(data).unwrap_or(self.next_sequence).saturating_add(1);
        match name {
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.seen.ended = true;
                self.seen.failed |= name == "response.failed";
                if let Ok(event) = serde_json::from_slice::<ResponseEvent<'_>>(data) {
                    let found = event.response.and_then(|r| usage::of_reply(r.get().as_bytes()));
                    self.seen.usage = found.or(self.seen.usage);
                }
            }
            "error" => self.seen.failed = true,
            // the life cycle's opening: nothing of the answer itself
            "response.created"
            | "response.queued"
            | "response.in_progress"
            | "response.output_item.added"
            | "response.content_part.added"
            | "response.reasoning_summary_part.added"
            | "" => {}
            _ => {
                self.seen.output_frames += u64::from(name.ends_with(".delta"));
                self.seen.output_began = true;
            }
        }
    }
}

impl crate::dialect::Tap for Tap {
    fn see(&mut self, frame: Bytes) -> Option<Bytes> {
        let event = Event::read(&frame);
        let Some(data) = event.data.as_deref() else { return Some(frame) };
        match self.operation {
            // some vendors leave the event's name to the data
            Operation::Responses if event.name.is_empty() => self.see_response_event(kind_of(data), data),
            Operation::Responses => self.see_response_event(event.name, data),
            _ => {
                if data == b"[DONE]" {
                    self.seen.ended = true;
                    return Some(frame);
                }
                self.see_chunk(data);
                if self.added_usage && memmem::find(data, b"\"usage\"").is_some() {
                    return without_usage(&frame, data);
                }
            }
        }
        Some(frame)
    }

    fn seen(&self) -> &Seen {
        &self.seen
    }

    fn broken(&self, error: &Error) -> Bytes {
        match self.operation {
            Operation::Responses => error::responses_event(error, self.next_sequence),
            _ => error::chat_event(error),
        }
    }
}

impl Choice<'_> {
    /// Anything but the role, of which nothing is known yet: vendors have members of their own.
    fn has_output(&self) -> bool {
        let some = |v: &str| !matches!(v, "null" | "\"\"" | "[]");
        self.text.is_some_and(|text| some(text.get()))
            || self.finish_reason.is_some_and(|reason| some(reason.get()))
            || self.delta.and_then(|delta| Object::scan(delta.get().as_bytes()).ok()).is_some_and(|delta| {
                delta.members.iter().any(|m| m.name != "role" && some(&delta.text[m.value.clone()]))
            })
    }
}

/// Whether a chunk says why it stopped.
fn tells_a_finish(data: &[u8]) -> bool {
    const NAME: &[u8] = b"\"finish_reason\"";
    let rest = memmem::rfind(data, NAME).and_then(|at| data.get(at + NAME.len()..)).unwrap_or_default();
    rest.trim_ascii_start().strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"\""))
}

/// The `type` of a responses event; nearly always its first member.
fn kind_of(data: &[u8]) -> &str {
    let quoted = match data.strip_prefix(b"{\"type\":") {
        Some(rest) => rest,
        None => match Object::scan(data).ok().and_then(|object| object.get("type")) {
            Some(kind) => kind.as_bytes(),
            None => return "",
        },
    };
    let kind = quoted.strip_prefix(b"\"").and_then(|rest| rest.split(|b| *b == b'"').next());
    kind.and_then(|kind| std::str::from_utf8(kind).ok()).unwrap_or_default()
}

/// The `sequence_number` of a responses event: its last member of that name, wherever it stands.
fn sequence_of(data: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"sequence_number\":";
    let rest = data.get(memmem::rfind(data, NAME)? + NAME.len()..)?.trim_ascii_start();
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

/// A frame as it would have come had we not asked for usage: the extra frame (no choices) vanishes, `"usage":null` is cut out of the
/// others.
fn without_usage(frame: &Bytes, data: &[u8]) -> Option<Bytes> {
    let Ok(object) = Object::scan(data) else { return Some(frame.clone()) };
    let Some(index) = object.members.iter().position(|m| m.name == "usage") else { return Some(frame.clone()) };
    let usage = &object.members[index];
    let value = &object.text[usage.value.clone()];
    if value != "null" {
        let extra = object.get("choices").is_some_and(|c| c.starts_with('[') && c[1..].trim_start().starts_with(']'));
        // usage beside choices is the vendor's own manner: it would have come anyway
        return if extra { None } else { Some(frame.clone()) };
    }
    // from the comma before it, or to the comma behind it when it comes first
    let cut = match index.checked_sub(1).map(|before| object.members[before].value.end) {
        Some(end) => end..usage.value.end,
        None => {
            let next = object.members.get(1)?;
            object.inside..object.text[..next.value.start].rfind('"').and_then(|q| object.text[..q].rfind('"'))?
        }
    };
    // data is one line of the frame unless it was joined from several; then leave it alone
    let Some(at) = memmem::find(frame, data) else { return Some(frame.clone()) };
    let mut out = BytesMut::with_capacity(frame.len());
    out.extend_from_slice(&frame[..at + cut.start]);
    out.extend_from_slice(&frame[at + cut.end..]);
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Tap as _;
    use crate::units::Tokens;

    fn run(operation: Operation, added: bool, frames: &[&str]) -> (Tap, String) {
        let mut tap = Tap::new(operation, added);
        let out: String = frames
            .iter()
            .filter_map(|f| tap.see(Bytes::copy_from_slice(f.as_bytes())))
            .map(|f| String::from_utf8(f.to_vec()).unwrap())
            .collect();
        (tap, out)
    }

    const CHAT: [&str; 4] = [
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"say \\\"usage\\\":null\"}}],\"usage\":null}\n\n",
        "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n",
        "data: [DONE]\n\n",
    ];

    #[test]
    fn a_stream_passes_unchanged_when_the_client_asked_for_usage() {
        let (tap, out) = run(Operation::ChatCompletions, false, &CHAT);
        assert_eq!(out, CHAT.concat());
        assert_eq!(tap.seen.usage.map(|u| (u.input, u.output)), Some((Tokens(3), Tokens(2))));
        assert!(tap.seen.ended && tap.seen.output_began && !tap.seen.failed);
    }

    #[test]
    fn what_we_asked_for_is_taken_out_again() {
        let (tap, out) = run(Operation::ChatCompletions, true, &CHAT);
        assert_eq!(
            out,
            "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
             data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"say \\\"usage\\\":null\"}}]}\n\ndata: [DONE]\n\n"
        );
        assert!(tap.seen.usage.is_some());
    }

    #[test]
    fn usage_in_front_is_cut_with_its_comma() {
        let (_, out) =
            run(Operation::ChatCompletions, true, &["data: {\"usage\":null, \"id\":\"1\",\"choices\":[1]}\n\n"]);
        assert_eq!(out, "data: {\"id\":\"1\",\"choices\":[1]}\n\n");
    }

    #[test]
    fn output_begins_with_the_first_text_not_with_the_role() {
        let mut tap = Tap::new(Operation::ChatCompletions, false);
        tap.see(Bytes::from_static(CHAT[0].as_bytes()));
        assert!(!tap.seen.output_began);
        tap.see(Bytes::from_static(CHAT[1].as_bytes()));
        assert!(tap.seen.output_began);
    }

    #[test]
    fn an_error_event_is_noticed() {
        let error = "data: {\"error\":{\"message\":\"boom\"}}\n\n";
        assert!(run(Operation::ChatCompletions, false, &[error]).0.seen.failed);
        assert!(run(Operation::ChatCompletions, false, &[CHAT[1], error]).0.seen.failed);
        assert!(
            !run(
                Operation::ChatCompletions,
                false,
                &[CHAT[1], "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\"\"}}]}\n\n"]
            )
            .0
            .seen
            .failed
        );
    }

    #[test]
    fn a_responses_stream_without_event_names_is_read_by_its_types() {
        let frames = [
            "data: {\"type\":\"response.created\",\"sequence_number\":0}\n\n",
            "data: {\"sequence_number\": 1, \"type\": \"response.output_text.delta\",\"delta\":\"\\\"sequence_number\\\":7\"}\n\n",
            "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":4,\"output_tokens\":6}},\"sequence_number\":2}\n\n",
            "data: [DONE]\n\n",
        ];
        let (tap, _) = run(Operation::Responses, false, &frames[..2]);
        assert!(tap.seen.output_began && !tap.seen.ended);
        assert_eq!(tap.next_sequence, 2);
        let (tap, out) = run(Operation::Responses, false, &frames);
        assert_eq!(out, frames.concat());
        assert_eq!(tap.seen.usage.map(|u| (u.input, u.output)), Some((Tokens(4), Tokens(6))));
        assert!(tap.seen.ended && !tap.seen.failed);
    }

    #[test]
    fn usage_of_a_responses_stream_comes_with_its_end() {
        let (tap, _) = run(
            Operation::Responses,
            false,
            &[
                "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}\n\n",
                "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n",
                "event: response.completed\ndata: {\"sequence_number\":9,\"response\":{\"usage\":{\"input_tokens\":4,\"output_tokens\":6}}}\n\n",
            ],
        );
        assert_eq!(tap.seen.usage.map(|u| (u.input, u.output)), Some((Tokens(4), Tokens(6))));
        assert!(tap.seen.ended && tap.seen.output_began);
        assert_eq!(tap.next_sequence, 10);
    }

    #[test]
    fn a_broken_stream_is_told_in_its_own_grammar() {
        let error = Error::new(crate::error::Kind::UpstreamFailed, "broke");
        let (tap, _) = run(Operation::ChatCompletions, false, &CHAT[..1]);
        assert!(tap.broken(&error).starts_with(b"data: {\"error\":"));
        let (tap, _) =
            run(Operation::Responses, false, &["data: {\"type\":\"response.created\",\"sequence_number\":4}\n\n"]);
        let event = tap.broken(&error);
        assert!(event.starts_with(b"event: error\n") && memmem::find(&event, b"\"sequence_number\":5").is_some());
    }
}
