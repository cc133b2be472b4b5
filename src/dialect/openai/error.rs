//! Our errors in OpenAI's grammar, so that its SDKs raise their own exception classes; and what of a provider's error may pass.

use bytes::Bytes;

use crate::error::{Error, Kind, Refused};

/// The HTTP status of an error for a client of this grammar: the kind's own, but for a provider's refusal that would say the wrong thing.
pub fn status(error: &Error) -> u16 {
    match error.kind {
        // the gateway's credential is not good there: the client must not doubt its own key
        Kind::UpstreamRefused { reason: Refused::Auth | Refused::Permission, .. } => 502,
        // Anthropic's word for "no room"; the SDKs retry 503 too
        Kind::UpstreamRefused { status: 529, .. } => 503,
        Kind::UpstreamRefused { status, .. } if !(400..=599).contains(&status) => 502,
        kind => kind.status(),
    }
}

/// `{"error":{"message","type","param","code"}}`.
pub fn body(error: &Error) -> Bytes {
    Bytes::from(
        serde_json::json!({ "error": {
            "message": error.say,
            "type": kind(error.kind),
            "param": error.param,
            "code": code(error),
        }})
        .to_string(),
    )
}

/// The event that ends a broken stream: official SDKs raise `APIError` on it.
pub fn chat_event(error: &Error) -> Bytes {
    let mut frame = b"data: ".to_vec();
    frame.extend_from_slice(&body(error));
    frame.extend_from_slice(b"\n\n");
    Bytes::from(frame)
}

/// The same in a responses stream (`ResponseErrorEvent`). `sequence` is the number behind the last event's.
pub fn responses_event(error: &Error, sequence: u64) -> Bytes {
    let event = serde_json::json!({
        "type": "error",
        "code": code(error).unwrap_or(kind(error.kind)),
        "message": error.say,
        "param": error.param,
        "sequence_number": sequence,
    });
    Bytes::from(format!("event: error\ndata: {event}\n\n"))
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::BadRequest
        | Kind::NotFound
        | Kind::UnknownModel
        | Kind::MethodNotAllowed
        | Kind::TooLarge
        | Kind::HeadersTooLarge
        | Kind::UnknownExpectation
        | Kind::UnsupportedEncoding
        | Kind::RequestTimeout
        | Kind::Unsupported
        | Kind::ClientGone => "invalid_request_error",
        Kind::Unauthorized => "authentication_error",
        Kind::Forbidden => "permission_error",
        Kind::RateLimited { .. } => "rate_limit_error",
        Kind::OverBudget { .. } => "insufficient_quota",
        Kind::Overloaded { .. } | Kind::ShuttingDown => "overloaded_error",
        Kind::UpstreamRefused { reason, .. } => refused_kind(reason),
        Kind::UpstreamFailed | Kind::UpstreamTimeout => "upstream_error",
        Kind::Internal => "server_error",
    }
}

fn code(error: &Error) -> Option<&'static str> {
    error.code.or(match error.kind {
        Kind::Unauthorized => Some("invalid_api_key"),
        Kind::Forbidden => Some("permission_denied"),
        Kind::NotFound => Some("unknown_url"),
        Kind::UnknownModel => Some("model_not_found"),
        Kind::MethodNotAllowed => Some("method_not_supported"),
        Kind::TooLarge => Some("request_too_large"),
        Kind::HeadersTooLarge => Some("headers_too_large"),
        Kind::UnknownExpectation => Some("unknown_expectation"),
        Kind::UnsupportedEncoding => Some("unsupported_content_encoding"),
        Kind::RequestTimeout => Some("request_timeout"),
        Kind::RateLimited { .. } => Some("rate_limit_exceeded"),
        Kind::OverBudget { .. } => Some("insufficient_quota"),
        Kind::Overloaded { .. } => Some("overloaded"),
        Kind::Unsupported => Some("unsupported_operation"),
        Kind::UpstreamRefused { reason, .. } => refused_code(reason),
        Kind::UpstreamFailed => Some("upstream_failed"),
        Kind::UpstreamTimeout => Some("upstream_timeout"),
        Kind::ShuttingDown => Some("shutting_down"),
        Kind::BadRequest | Kind::ClientGone | Kind::Internal => None,
    })
}

/// The type of a provider's refusal. What is the operator's fault, or the provider's, is no error of the request.
fn refused_kind(reason: Refused) -> &'static str {
    match reason {
        Refused::BadRequest
        | Refused::NotFound
        | Refused::TooLarge
        | Refused::ContextLength
        | Refused::ContentFilter => "invalid_request_error",
        Refused::RateLimit => "rate_limit_error",
        Refused::Overloaded => "overloaded_error",
        Refused::Billing => "insufficient_quota",
        Refused::Auth | Refused::Permission | Refused::Timeout | Refused::ServerError => "upstream_error",
    }
}

fn refused_code(reason: Refused) -> Option<&'static str> {
    match reason {
        Refused::BadRequest => None,
        Refused::Auth | Refused::Permission => Some("upstream_auth"),
        Refused::NotFound => Some("model_not_found"),
        Refused::TooLarge => Some("request_too_large"),
        Refused::RateLimit => Some("rate_limit_exceeded"),
        Refused::Overloaded => Some("overloaded"),
        Refused::ContextLength => Some("context_length_exceeded"),
        Refused::ContentFilter => Some("content_filter"),
        Refused::Billing => Some("insufficient_quota"),
        Refused::Timeout => Some("upstream_timeout"),
        Refused::ServerError => Some("upstream_error"),
    }
}

/// A provider's own error body with what must not be repeated taken out: each of `secrets` (the credential, the host), also where it was
/// cut or masked in the middle (`sk-ab***wxyz`), becomes `[redacted]`.
pub fn scrub(body: &[u8], secrets: &[&str]) -> Bytes {
    let mut text = String::from_utf8_lossy(body).into_owned();
    for secret in secrets.iter().filter(|s| s.len() >= 4) {
        if text.contains(*secret) {
            text = text.replace(*secret, "[redacted]");
        }
    }
    Bytes::from(mask_keys(&text))
}

/// Providers echo a wrong key with its middle starred out. What is left still names it: take any word out that starts like a key
/// (`sk-`, `Bearer `) and holds a star, or is long.
fn mask_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("sk-") {
        let starts_word = rest[..at].chars().next_back().is_none_or(|c| !c.is_ascii_alphanumeric());
        let word = rest[at..]
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*' | '.')))
            .map_or(rest.len(), |n| at + n);
        let key = &rest[at..word];
        out.push_str(&rest[..at]);
        if starts_word && (key.contains('*') || key.len() >= 20) {
            out.push_str("[redacted]")
        } else {
            out.push_str(key)
        }
        rest = &rest[word..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_hosts_never_pass() {
        let body = br#"{"error":{"message":"Incorrect API key provided: sk-proj-*****abcd at api.example.test; used Bearer topsecret-123"}}"#;
        let clean = scrub(body, &["topsecret-123", "api.example.test"]);
        let clean = std::str::from_utf8(&clean).unwrap();
        for leak in ["topsecret", "api.example", "sk-proj", "abcd"] {
            assert!(!clean.contains(leak), "{clean}");
        }
        assert!(serde_json::from_str::<serde_json::Value>(clean).is_ok());
        assert_eq!(scrub(b"task-force on a risk-free disk-", &[]), "task-force on a risk-free disk-");
    }

    #[test]
    fn an_error_has_every_member_the_sdks_read() {
        let error = Error::new(Kind::UnknownModel, "The model `x` does not exist").param("model");
        let value: serde_json::Value = serde_json::from_slice(&body(&error)).unwrap();
        assert_eq!(value["error"]["type"], "invalid_request_error");
        assert_eq!(value["error"]["code"], "model_not_found");
        assert_eq!(value["error"]["param"], "model");
    }

    #[test]
    fn a_provider_s_refusal_is_told_by_its_reason_not_by_its_status() {
        let refused = |status, reason| {
            let error = Error::new(Kind::UpstreamRefused { status, reason, retry_after: None }, "said");
            let value: serde_json::Value = serde_json::from_slice(&body(&error)).unwrap();
            let word = |name: &str| value["error"][name].as_str().unwrap_or_default().to_owned();
            (super::status(&error), word("type"), word("code"))
        };
        let told = |status, kind: &str, code: &str| (status, kind.to_owned(), code.to_owned());
        for (status, reason, expected) in [
            (400, Refused::BadRequest, told(400, "invalid_request_error", "")),
            (401, Refused::Auth, told(502, "upstream_error", "upstream_auth")),
            (403, Refused::Permission, told(502, "upstream_error", "upstream_auth")),
            (403, Refused::ContentFilter, told(403, "invalid_request_error", "content_filter")),
            (404, Refused::NotFound, told(404, "invalid_request_error", "model_not_found")),
            (413, Refused::RateLimit, told(413, "rate_limit_error", "rate_limit_exceeded")),
            (429, Refused::Billing, told(429, "insufficient_quota", "insufficient_quota")),
            (500, Refused::ContextLength, told(500, "invalid_request_error", "context_length_exceeded")),
            (529, Refused::Overloaded, told(503, "overloaded_error", "overloaded")),
            (200, Refused::ServerError, told(502, "upstream_error", "upstream_error")),
        ] {
            assert_eq!(refused(status, reason), expected, "{status} {reason:?}");
        }
    }
}
