//! Our errors in Anthropic's grammar, so that its SDKs raise their own exception classes and Claude Code knows what to do.
//!
//! Truth: platform.claude.com/docs, "Errors" (types and statuses); the SDK's `APIStatusError` classes, which go by the status.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::{Error, Kind, Refused};

/// `{"type":"error","error":{"type","message"}}`.
pub fn body(error: &Error) -> Bytes {
    Bytes::from(
        serde_json::json!({ "type": "error", "error": { "type": meaning(error.kind).1, "message": message(error) } })
            .to_string(),
    )
}

/// The HTTP status that goes with it.
pub fn status(error: &Error) -> u16 {
    meaning(error.kind).0
}

/// The event that ends a broken stream: SDKs raise an `APIStatusError` on it.
pub fn event(error: &Error) -> Bytes {
    let mut frame = b"event: error\ndata: ".to_vec();
    frame.extend_from_slice(&body(error));
    frame.extend_from_slice(b"\n\n");
    Bytes::from(frame)
}

/// Status and type.
fn meaning(kind: Kind) -> (u16, &'static str) {
    match kind {
        Kind::Unauthorized => (401, "authentication_error"),
        Kind::Forbidden => (403, "permission_error"),
        Kind::NotFound | Kind::UnknownModel => (404, "not_found_error"),
        Kind::TooLarge => (413, "request_too_large"),
        Kind::RateLimited { .. } | Kind::OverBudget { .. } => (429, "rate_limit_error"),
        Kind::Overloaded { .. } | Kind::ShuttingDown => (529, "overloaded_error"),
        Kind::RequestTimeout => (kind.status(), "timeout_error"),
        Kind::UpstreamTimeout => (504, "timeout_error"),
        Kind::BadRequest
        | Kind::MethodNotAllowed
        | Kind::HeadersTooLarge
        | Kind::UnknownExpectation
        | Kind::UnsupportedEncoding
        | Kind::Unsupported
        | Kind::ClientGone => (kind.status(), "invalid_request_error"),
        Kind::UpstreamFailed | Kind::Internal => (kind.status(), "api_error"),
        Kind::UpstreamRefused { status, reason, retry_after: _ } => refused(status, reason),
    }
}

fn refused(status: u16, reason: Refused) -> (u16, &'static str) {
    match reason {
        Refused::BadRequest => (if status == 422 { 422 } else { 400 }, "invalid_request_error"),
        Refused::ContextLength | Refused::ContentFilter => (400, "invalid_request_error"),
        // our credential, not the caller's
        Refused::Auth => (502, "api_error"),
        Refused::Billing => (402, "billing_error"),
        Refused::Permission => (403, "permission_error"),
        Refused::NotFound => (404, "not_found_error"),
        Refused::TooLarge => (413, "request_too_large"),
        Refused::RateLimit => (429, "rate_limit_error"),
        Refused::Overloaded => (529, "overloaded_error"),
        Refused::Timeout => (504, "timeout_error"),
        Refused::ServerError => (if (500..600).contains(&status) { status } else { 500 }, "api_error"),
    }
}

fn message(error: &Error) -> Cow<'_, str> {
    // clients make room (Claude Code compacts the conversation) when they read these words
    const TOO_LONG: &str = "prompt is too long";
    if let Kind::UpstreamRefused { reason: Refused::ContextLength, .. } = error.kind
        && !error.say.to_ascii_lowercase().contains(TOO_LONG)
    {
        return Cow::Owned(format!("{TOO_LONG}: {}", error.say));
    }
    match &error.param {
        // Anthropic names the member in front
        Some(param) if !error.say.contains(&**param) => Cow::Owned(format!("{param}: {}", error.say)),
        _ => Cow::Borrowed(&error.say),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(kind: Kind) -> (u16, String) {
        let error = Error::new(kind, "it did not work");
        let value: serde_json::Value = serde_json::from_slice(&body(&error)).unwrap();
        assert_eq!((value["type"].as_str(), value["error"]["message"].is_string()), (Some("error"), true));
        (status(&error), value["error"]["type"].as_str().unwrap().to_owned())
    }

    #[test]
    fn every_error_has_anthropic_s_status_and_type() {
        let retry_after = Duration::from_secs(1);
        let upstream = |status, reason| Kind::UpstreamRefused { status, reason, retry_after: None };
        for (kind, status, name) in [
            (Kind::BadRequest, 400, "invalid_request_error"),
            (Kind::Unauthorized, 401, "authentication_error"),
            (Kind::UnknownModel, 404, "not_found_error"),
            (Kind::TooLarge, 413, "request_too_large"),
            (Kind::RateLimited { retry_after }, 429, "rate_limit_error"),
            (Kind::Overloaded { retry_after }, 529, "overloaded_error"),
            (Kind::ShuttingDown, 529, "overloaded_error"),
            (Kind::UpstreamFailed, 502, "api_error"),
            (Kind::UpstreamTimeout, 504, "timeout_error"),
            (Kind::Internal, 500, "api_error"),
            (upstream(401, Refused::Auth), 502, "api_error"),
            (upstream(400, Refused::Billing), 402, "billing_error"),
            (upstream(503, Refused::Overloaded), 529, "overloaded_error"),
            (upstream(503, Refused::ServerError), 503, "api_error"),
            (upstream(400, Refused::ContextLength), 400, "invalid_request_error"),
        ] {
            assert_eq!(told(kind), (status, name.to_owned()), "{kind:?}");
        }
    }

    #[test]
    fn a_full_window_is_said_in_the_words_clients_look_for() {
        let kind = Kind::UpstreamRefused { status: 400, reason: Refused::ContextLength, retry_after: None };
        let error = Error::new(kind, "This model's maximum context length is 8192 tokens.");
        assert!(message(&error).starts_with("prompt is too long: This model's"));
        let error = Error::new(kind, "prompt is too long: 5 > 4");
        assert_eq!(message(&error), "prompt is too long: 5 > 4");
        let error = Error::bad_request("Field required").param("max_tokens");
        assert_eq!(message(&error), "max_tokens: Field required");
    }

    #[test]
    fn a_broken_stream_ends_with_an_error_event() {
        let frame = event(&Error::new(Kind::UpstreamFailed, "gone"));
        assert!(frame.starts_with(b"event: error\ndata: {") && frame.ends_with(b"}\n\n"));
    }
}
