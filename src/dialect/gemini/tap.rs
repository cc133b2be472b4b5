//! Beside a forwarded stream (`alt=sse`): what it used, when output began, whether it ended.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error;
use super::usage::{Filled, Gather, Grounding, List, Reported};
use crate::dialect::codec::{Seen, Tap as Watches};
use crate::dialect::sse::Event;
use crate::error::Error;

/// Reads frames as they pass. Every chunk carries the usage so far: the last one counts.
#[derive(Debug, Default)]
pub struct Tap {
    seen: Seen,
    searches: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    #[serde(default)]
    candidates: Option<List<Candidates>>,
    #[serde(default)]
    usage_metadata: Option<Reported>,
    #[serde(default)]
    prompt_feedback: Option<Feedback>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Feedback {
    #[serde(default, rename = "blockReason")]
    blocked: Option<IgnoredAny>,
}

#[derive(Debug, Default)]
struct Candidates {
    output: bool,
    finished: bool,
    searches: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    finish_reason: Option<IgnoredAny>,
    #[serde(default)]
    grounding_metadata: Option<Grounding>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    parts: Option<List<Parts>>,
}

#[derive(Debug, Default)]
struct Parts(bool);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(default)]
    text: Filled,
    #[serde(default)]
    function_call: Option<IgnoredAny>,
    #[serde(default)]
    inline_data: Option<IgnoredAny>,
    #[serde(default)]
    executable_code: Option<IgnoredAny>,
}

// === impl Tap ===

impl Watches for Tap {
    fn see(&mut self, frame: Bytes) -> Option<Bytes> {
        let event = Event::read(&frame);
        if let Some(data) = event.data.as_deref() {
            self.read(data);
        }
        Some(frame)
    }

    fn seen(&self) -> &Seen {
        &self.seen
    }

    fn broken(&self, error: &Error) -> Bytes {
        error::event(error)
    }
}

impl Tap {
    fn read(&mut self, data: &[u8]) {
        let Ok(chunk) = serde_json::from_slice::<Chunk>(data) else {
            // Vertex wraps an error in an array
            self.seen.failed |= data.trim_ascii_start().starts_with(b"[")
                && data.len() < 65_536
                && memchr::memmem::find(data, b"\"error\"").is_some();
            return;
        };
        self.seen.failed |= chunk.error.is_some();
        self.seen.ended |= chunk.prompt_feedback.is_some_and(|feedback| feedback.blocked.is_some());
        if let Some(List(candidates)) = chunk.candidates {
            self.seen.output_frames += u64::from(candidates.output);
            self.seen.output_began |= candidates.output;
            self.seen.ended |= candidates.finished;
            self.seen.finished |= candidates.finished;
            self.searches = self.searches.max(candidates.searches);
        }
        if let Some(mut usage) = chunk.usage_metadata.and_then(|reported| reported.usage()) {
            usage.server_tool_calls = self.searches;
            self.seen.usage = Some(usage);
        }
    }
}

impl Gather for Candidates {
    type Item = Candidate;
    fn add(&mut self, candidate: Candidate) {
        self.output |= candidate.content.and_then(|content| content.parts).is_some_and(|List(Parts(output))| output);
        self.finished |= candidate.finish_reason.is_some();
        self.searches += candidate.grounding_metadata.map_or(0, |grounding| grounding.searches());
    }
}

impl Gather for Parts {
    type Item = Part;
    fn add(&mut self, part: Part) {
        self.0 |=
            part.text.0 || part.function_call.is_some() || part.inline_data.is_some() || part.executable_code.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Usage;
    use crate::units::Tokens;

    fn tapped(frames: &[&str]) -> Seen {
        let mut tap = Tap::default();
        for frame in frames {
            let frame = Bytes::copy_from_slice(frame.as_bytes());
            assert_eq!(tap.see(frame.clone()), Some(frame));
        }
        *tap.seen()
    }

    const FIRST: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"\"}],\"role\": \"model\"},\"index\": 0}],\
        \"usageMetadata\": {\"promptTokenCount\": 16,\"totalTokenCount\": 16}}\r\n\r\n";
    const SECOND: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"functionCall\": {\"name\": \"f\",\"args\": {\"error\":1}}}]}}]}\r\n\r\n";
    const LAST: &str = "data: {\"candidates\": [{\"finishReason\": \"STOP\",\"groundingMetadata\":{\"webSearchQueries\":[\"a\"]}}],\
        \"usageMetadata\": {\"promptTokenCount\": 16,\"candidatesTokenCount\": 7,\"thoughtsTokenCount\": 3}}\r\n\r\n";

    #[test]
    fn the_last_usage_counts_and_output_begins_with_the_first_content() {
        assert!(!tapped(&[FIRST]).output_began);
        let seen = tapped(&[FIRST, SECOND]);
        assert!(seen.output_began && !seen.ended && !seen.failed);
        let seen = tapped(&[FIRST, SECOND, LAST]);
        let usage = Usage {
            input: Tokens(16),
            output: Tokens(10),
            reasoning: Tokens(3),
            server_tool_calls: 1,
            ..Usage::default()
        };
        assert_eq!(seen, Seen { usage: Some(usage), output_frames: 1, output_began: true, ended: true, ..seen });
    }

    #[test]
    fn errors_and_blocked_prompts_are_noticed() {
        let error = "{\"error\":{\"code\":503,\"message\":\"x\",\"status\":\"UNAVAILABLE\"}}";
        assert!(tapped(&[&format!("data: {error}\n\n")]).failed);
        assert!(tapped(&[&format!("data: [{error}]\n\n")]).failed);
        assert!(tapped(&["data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n"]).ended);
        assert!(!tapped(&[": ping\n\n", "data: {\"promptFeedback\":{}}\n\n"]).ended);
    }
}
