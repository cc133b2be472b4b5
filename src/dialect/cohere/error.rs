//! Cohere's errors: `{"message"}`, `{"id","message"}`, sometimes `error_type`.
//!
//! Truth: the Cohere API reference, "Errors"; recorded traffic.

use std::borrow::Cow;

use crate::dialect::codec::Refusal;
use crate::error::{Error, Kind, Refused};
use crate::json::Node;

/// Longest message that is passed on, in characters.
const MAX_MESSAGE: usize = 2_000;

pub fn decode(status: u16, body: &[u8]) -> Refusal {
    let node = Node::parse_reply(body).ok();
    let member = |name: &str| Some(node.as_ref()?.as_object()?.get(name)?.as_str()?.to_owned());
    let message = member("message").unwrap_or_default();
    let code = member("error_type");
    let reason = reason(status, code.as_deref().unwrap_or_default(), &message);
    let message = match reason {
        // it speaks of the operator's key
        Refused::Auth => String::new(),
        _ => message.chars().take(MAX_MESSAGE).collect(),
    };
    Refusal { reason, message: Cow::Owned(message), retry_after: None, param: None, code }
}

/// An answer that broke off.
pub fn in_stream(message: Cow<'_, str>) -> Error {
    let (status, reason) = match reason(500, "", &message) {
        Refused::ContextLength => (400, Refused::ContextLength),
        _ => (500, Refused::ServerError),
    };
    let say: String = message.chars().take(MAX_MESSAGE).collect();
    Error::new(Kind::UpstreamRefused { status, reason, retry_after: None }, say)
}

fn reason(status: u16, kind: &str, message: &str) -> Refused {
    let message = message.to_ascii_lowercase();
    if kind == "TOO_MANY_TOKENS" || message.contains("too many tokens") {
        return Refused::ContextLength;
    }
    match status {
        // "blocked input or output"
        498 => Refused::ContentFilter,
        400 if message.contains("model") && message.contains("not found") => Refused::NotFound,
        status => Refused::of_status(status),
    }
}
