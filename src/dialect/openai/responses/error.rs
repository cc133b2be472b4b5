//! What a provider's error says: of a refused call, of a failed answer, of an event in a stream.

use std::borrow::Cow;

use crate::dialect::Refusal;
use crate::error::{Error, Kind, Refused};
use crate::json::{Members, Node};

/// Read the body of a reply of status 400 and up.
pub fn read(status: u16, body: &[u8]) -> Refusal {
    let mut refusal = Refusal {
        reason: Refused::of_status(status),
        message: Cow::Borrowed(""),
        retry_after: None,
        param: None,
        code: None,
    };
    let Ok(node) = Node::parse_reply(body) else { return refusal };
    let Some(body) = node.as_object() else { return refusal };
    let error = body.get("error");
    // xAI: {"code", "error": "..."}; the ChatGPT backend: {"detail": "..."}
    let inner = error.and_then(Node::as_object).unwrap_or(body);
    let text = |name: &str| inner.get(name).and_then(Node::as_str).map(str::to_owned);
    let said = text("message").or_else(|| error.and_then(Node::as_str).map(str::to_owned)).or_else(|| text("detail"));
    refusal.message = said.unwrap_or_default().into();
    refusal.param = text("param");
    refusal.code = text("code").or_else(|| text("type"));
    refusal.reason = reason(refusal.code.as_deref().unwrap_or_default(), &refusal.message).unwrap_or(refusal.reason);
    refusal
}

/// An error said within a stream: the event's or the failed answer's own object.
pub fn in_stream(error: &Members<'_>) -> Error {
    let text = |name: &str| error.get(name).and_then(Node::as_str);
    let code = text("code").or_else(|| text("type")).unwrap_or_default();
    let message = text("message").unwrap_or("The provider reported an error.");
    let reason = reason(code, message).unwrap_or(Refused::ServerError);
    let kind = Kind::UpstreamRefused { status: status(reason), reason, retry_after: None };
    Error::new(kind, message.to_owned())
}

/// What the machine-readable word means, or failing that the sentence.
fn reason(code: &str, message: &str) -> Option<Refused> {
    Some(match code {
        "context_length_exceeded" => Refused::ContextLength,
        "insufficient_quota" | "billing_hard_limit_reached" => Refused::Billing,
        "rate_limit_exceeded" | "rate_limit_error" => Refused::RateLimit,
        "model_not_found" => Refused::NotFound,
        "invalid_api_key" | "authentication_error" => Refused::Auth,
        "content_filter" | "content_policy_violation" | "image_content_policy_violation" | "bio_policy" => {
            Refused::ContentFilter
        }
        "server_is_overloaded" | "slow_down" | "overloaded_error" => Refused::Overloaded,
        "server_error" | "vector_store_timeout" => Refused::ServerError,
        "invalid_prompt" | "invalid_request_error" | "invalid_value" => Refused::BadRequest,
        code if code.starts_with("invalid_") || code.contains("image") => Refused::BadRequest,
        _ if message.contains("context window") => Refused::ContextLength,
        _ => return None,
    })
}

/// The status such an error has when it is said before a stream.
fn status(reason: Refused) -> u16 {
    match reason {
        Refused::BadRequest | Refused::ContextLength | Refused::ContentFilter => 400,
        Refused::Auth => 401,
        Refused::Permission => 403,
        Refused::NotFound => 404,
        Refused::TooLarge => 413,
        Refused::RateLimit | Refused::Billing => 429,
        Refused::Timeout => 504,
        Refused::Overloaded => 503,
        Refused::ServerError => 500,
    }
}
