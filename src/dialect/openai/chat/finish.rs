//! `finish_reason`: OpenAI's five words, and the ones vendors made up.

use std::borrow::Cow;

use crate::chat::{Stop, StopReason};

/// What a choice holds, as far as it bears on why it ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    pub(super) calls: bool,
    pub(super) refusal: bool,
}

/// `sequence`: the stop sequence that was met, where the vendor says it (vLLM's `stop_reason`).
pub(super) fn read<'a>(word: Option<Cow<'a, str>>, sequence: Option<Cow<'a, str>>, held: Held) -> Stop<'a> {
    let word = word.unwrap_or_default();
    let reason = match &*word.to_ascii_lowercase() {
        "stop" | "" | "eos" | "eos_token" | "end_turn" | "complete" | "completed" | "stop_token" => StopReason::End,
        "stop_sequence" => StopReason::Sequence,
        "length" | "max_tokens" | "max_output_tokens" => StopReason::Length,
        "model_length" | "context_length" | "model_context_window_exceeded" => StopReason::ContextWindow,
        "tool_calls" | "function_call" | "tool_use" | "tool_call" => StopReason::ToolUse,
        "content_filter" | "safety" | "recitation" | "blocklist" | "prohibited_content" | "spii" | "sensitive" => {
            StopReason::ContentFilter
        }
        "refusal" => StopReason::Refusal,
        "malformed_function_call" => StopReason::MalformedCall,
        _ => StopReason::Other(word),
    };
    let reason = match reason {
        // a call the client itself forced ends with `stop`, and so do the calls of some vendors
        StopReason::End if held.calls => StopReason::ToolUse,
        StopReason::End if held.refusal => StopReason::Refusal,
        StopReason::End if sequence.is_some() => StopReason::Sequence,
        reason => reason,
    };
    Stop { reason, sequence, detail: None }
}

/// OpenAI's word, and whether it says what the reason says.
pub(super) fn word(reason: &StopReason<'_>, held: Held) -> (&'static str, bool) {
    match reason {
        StopReason::End | StopReason::Sequence => ("stop", true),
        StopReason::Length | StopReason::ContextWindow => ("length", true),
        StopReason::ToolUse => ("tool_calls", true),
        StopReason::ContentFilter => ("content_filter", true),
        StopReason::Refusal if held.refusal => ("stop", true),
        StopReason::Refusal => ("content_filter", true),
        StopReason::Pause | StopReason::MalformedCall | StopReason::Other(_) => ("stop", false),
    }
}
