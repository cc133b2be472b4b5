//! What a provider's error says: of a refused call, of a failed answer, of an event in a stream.

use crate::error::{Error, Kind, Refused};
use crate::json::{Members, Node};

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
