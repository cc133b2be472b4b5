//! Our errors in Google's grammar, so that its SDKs raise their own exception classes.
//!
//! `{"error":{"code","message","status","details"}}` with the codes of google.rpc (cloud.google.com/apis/design/errors).

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::error::{Error, Kind, Refused};

/// The body.
pub fn body(error: &Error) -> Bytes {
    let (code, status) = said(error.kind);
    let mut details = Vec::new();
    if let Some(after) = retry_after(error.kind) {
        let delay = seconds(after);
        details.push(json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay }));
    }
    if let Some(param) = &error.param {
        let violation = json!({ "field": param, "description": error.say });
        details.push(json!({ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation] }));
    }
    let mut inner = serde_json::Map::new();
    inner.insert("code".to_owned(), Value::from(code));
    inner.insert("message".to_owned(), Value::from(message(error)));
    inner.insert("status".to_owned(), Value::from(status));
    if !details.is_empty() {
        inner.insert("details".to_owned(), Value::from(details));
    }
    Bytes::from(json!({ "error": inner }).to_string())
}

/// The HTTP status that goes with it.
pub fn status(error: &Error) -> u16 {
    said(error.kind).0
}

/// The event that ends a broken stream.
pub fn event(error: &Error) -> Bytes {
    let mut frame = b"data: ".to_vec();
    frame.extend_from_slice(&body(error));
    frame.extend_from_slice(b"\r\n\r\n");
    Bytes::from(frame)
}

/// A provider that does not know the gateway is the operator's trouble: the caller must not look at its own key.
fn message(error: &Error) -> &str {
    match error.kind {
        Kind::UpstreamRefused { reason: Refused::Auth, .. } => {
            "The gateway could not authenticate to the provider. Its operator has to see to it."
        }
        _ => &error.say,
    }
}

fn said(kind: Kind) -> (u16, &'static str) {
    let word = match kind {
        Kind::BadRequest
        | Kind::TooLarge
        | Kind::HeadersTooLarge
        | Kind::UnknownExpectation
        | Kind::UnsupportedEncoding => "INVALID_ARGUMENT",
        Kind::Unsupported => "FAILED_PRECONDITION",
        Kind::Unauthorized => "UNAUTHENTICATED",
        Kind::Forbidden => "PERMISSION_DENIED",
        Kind::NotFound | Kind::UnknownModel => "NOT_FOUND",
        Kind::MethodNotAllowed => "UNIMPLEMENTED",
        Kind::RequestTimeout | Kind::UpstreamTimeout => "DEADLINE_EXCEEDED",
        Kind::RateLimited { .. } | Kind::OverBudget { .. } => "RESOURCE_EXHAUSTED",
        Kind::Overloaded { .. } | Kind::ShuttingDown | Kind::UpstreamFailed => "UNAVAILABLE",
        Kind::ClientGone => "CANCELLED",
        Kind::Internal => "INTERNAL",
        Kind::UpstreamRefused { status, reason, retry_after: _ } => return refused(status, reason),
    };
    (kind.status(), word)
}

fn refused(status: u16, reason: Refused) -> (u16, &'static str) {
    match reason {
        Refused::BadRequest | Refused::ContextLength | Refused::ContentFilter => (400, "INVALID_ARGUMENT"),
        Refused::Auth => (502, "INTERNAL"),
        Refused::Permission => (403, "PERMISSION_DENIED"),
        Refused::NotFound => (404, "NOT_FOUND"),
        Refused::TooLarge => (413, "INVALID_ARGUMENT"),
        Refused::RateLimit | Refused::Billing => (429, "RESOURCE_EXHAUSTED"),
        Refused::Overloaded => (503, "UNAVAILABLE"),
        Refused::Timeout => (504, "DEADLINE_EXCEEDED"),
        Refused::ServerError if (500..600).contains(&status) => (status, "INTERNAL"),
        Refused::ServerError => (500, "INTERNAL"),
    }
}

fn retry_after(kind: Kind) -> Option<Duration> {
    match kind {
        Kind::RateLimited { retry_after } | Kind::Overloaded { retry_after } => Some(retry_after),
        Kind::UpstreamRefused { retry_after, .. } => retry_after,
        _ => None,
    }
}

/// google.protobuf.Duration in JSON.
fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        millis => format!("{}.{millis:03}s", duration.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(error: &Error) -> Value {
        serde_json::from_slice(&body(error)).unwrap()
    }

    #[test]
    fn an_error_speaks_google() {
        let error = Error::bad_request("`contents` is missing").param("contents");
        let value = read(&error);
        assert_eq!(value["error"]["code"], 400);
        assert_eq!(value["error"]["status"], "INVALID_ARGUMENT");
        assert_eq!(value["error"]["details"][0]["fieldViolations"][0]["field"], "contents");
        assert_eq!(status(&error), 400);
        assert!(event(&error).starts_with(b"data: {\"error\":{") && event(&error).ends_with(b"}\r\n\r\n"));
    }

    #[test]
    fn waiting_is_said_as_google_says_it() {
        let error = Error::new(Kind::RateLimited { retry_after: Duration::from_millis(34_400) }, "slow down");
        let value = read(&error);
        assert_eq!(value["error"]["status"], "RESOURCE_EXHAUSTED");
        assert_eq!(value["error"]["details"][0]["retryDelay"], "34.400s");
    }

    #[test]
    fn the_operators_credential_is_not_the_callers() {
        let kind = Kind::UpstreamRefused { status: 400, reason: Refused::Auth, retry_after: None };
        let error = Error::new(kind, "API key not valid. Please pass a valid API key.");
        let value = read(&error);
        assert_eq!((status(&error), &value["error"]["status"]), (502, &Value::from("INTERNAL")));
        assert!(!value["error"]["message"].as_str().unwrap().contains("API key"));
    }

    #[test]
    fn status_and_code_agree() {
        for reason in [Refused::Overloaded, Refused::Timeout, Refused::Billing, Refused::ServerError] {
            let error = Error::new(Kind::UpstreamRefused { status: 529, reason, retry_after: None }, "x");
            assert_eq!(read(&error)["error"]["code"], status(&error));
        }
    }
}
