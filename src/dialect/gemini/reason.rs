//! Why an answer ended: Google's words, and ours. Truth: `Candidate.FinishReason` of both APIs.

use std::borrow::Cow;

use crate::chat::{Stop, StopReason};
use crate::json::Node;

/// What a finish reason means, and whether writing the meaning gives the same word again.
#[derive(Debug, PartialEq, Eq)]
pub struct Finish<'a> {
    pub reason: StopReason<'a>,
    pub exact: bool,
}

/// Read a `finishReason`; `None` when it says nothing. `calls`: the answer calls functions.
pub fn read<'a>(node: &Node<'a>, calls: bool) -> Option<Finish<'a>> {
    let word = match (node.as_str(), node.as_u64()) {
        (Some(word), _) => Cow::Owned(word.to_owned()),
        // with `enum-encoding=int`; beyond these the two APIs count differently
        (None, Some(0)) => return None,
        (None, Some(1)) => Cow::Borrowed("STOP"),
        (None, Some(2)) => Cow::Borrowed("MAX_TOKENS"),
        (None, Some(3)) => Cow::Borrowed("SAFETY"),
        (None, Some(4)) => Cow::Borrowed("RECITATION"),
        (None, Some(5)) => Cow::Borrowed("OTHER"),
        _ => Cow::Borrowed(node.raw),
    };
    let (reason, exact) = match &*word {
        "" | "FINISH_REASON_UNSPECIFIED" => return None,
        "STOP" if calls => (StopReason::ToolUse, true),
        "STOP" => (StopReason::End, true),
        "MAX_TOKENS" => (StopReason::Length, true),
        "SAFETY" => (StopReason::ContentFilter, true),
        "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => (StopReason::ContentFilter, false),
        "MALFORMED_FUNCTION_CALL" => (StopReason::MalformedCall, true),
        "UNEXPECTED_TOOL_CALL" => (StopReason::MalformedCall, false),
        // Vertex: to be gone on with, by `continuationToken`
        "CONTINUATION" => (StopReason::Pause, true),
        known => {
            let exact = KNOWN.contains(&known);
            (StopReason::Other(word), exact)
        }
    };
    Some(Finish { reason, exact })
}

/// The word for the client, which knows Google's only.
pub fn word<'s>(stop: &'s Stop<'_>) -> &'s str {
    match &stop.reason {
        StopReason::End | StopReason::Sequence | StopReason::ToolUse => "STOP",
        StopReason::Length | StopReason::ContextWindow => "MAX_TOKENS",
        StopReason::ContentFilter | StopReason::Refusal => "SAFETY",
        StopReason::Pause => "CONTINUATION",
        StopReason::MalformedCall => "MALFORMED_FUNCTION_CALL",
        StopReason::Other(word) if KNOWN.contains(&&**word) => word,
        StopReason::Other(_) => "OTHER",
    }
}

/// Words of Google's that have no other meaning with us.
const KNOWN: [&str; 6] = ["LANGUAGE", "OTHER", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE", "NO_IMAGE", "IMAGE_OTHER"];

/// A copy that borrows nothing.
pub fn owned(stop: Stop<'_>) -> Stop<'static> {
    let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
    let reason = match stop.reason {
        StopReason::End => StopReason::End,
        StopReason::Length => StopReason::Length,
        StopReason::Sequence => StopReason::Sequence,
        StopReason::ToolUse => StopReason::ToolUse,
        StopReason::ContentFilter => StopReason::ContentFilter,
        StopReason::Refusal => StopReason::Refusal,
        StopReason::Pause => StopReason::Pause,
        StopReason::ContextWindow => StopReason::ContextWindow,
        StopReason::MalformedCall => StopReason::MalformedCall,
        StopReason::Other(word) => StopReason::Other(own(word)),
    };
    Stop { reason, sequence: stop.sequence.map(own), detail: stop.detail.map(own) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_means_one_thing_comes_back() {
        for text in ["\"STOP\"", "\"MAX_TOKENS\"", "\"SAFETY\"", "\"CONTINUATION\"", "\"LANGUAGE\"", "\"NO_IMAGE\""] {
            let finish = read(&Node::parse(text.as_bytes()).unwrap(), false).unwrap();
            assert!(finish.exact);
            assert_eq!(format!("{:?}", word(&Stop::new(finish.reason))), text);
        }
    }

    #[test]
    fn numbers_are_read_where_both_apis_agree() {
        let of = |text: &str| {
            read(&Node::parse(text.as_bytes()).unwrap(), false).map(|finish| format!("{:?}", finish.reason))
        };
        assert_eq!(of("1").as_deref(), Some("End"));
        assert_eq!(of("2").as_deref(), Some("Length"));
        assert_eq!(of("0"), None);
        assert_eq!(of("9").as_deref(), Some("Other(\"9\")"));
    }
}
