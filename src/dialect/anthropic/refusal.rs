//! What a provider's error says, from its body or in the middle of a stream.
//!
//! Besides Anthropic's own shape: Google's around Vertex, AWS's around Bedrock, and what proxies answer (plain text, HTML, nothing). The
//! message is passed on without ids of requests, organisations and projects.
//! Truth: platform.claude.com/docs, "Errors"; Google's `google.rpc.Status`; reports of real bodies in public issue trackers.

use std::borrow::Cow;
use std::time::Duration;

use crate::dialect::Refusal;
use crate::error::{Error, Kind, Refused};
use crate::json::{Members, Node};

/// Longest message passed on, in bytes.
const MOST_SAID: usize = 2_000;

pub(super) fn read(status: u16, body: &[u8]) -> Refusal {
    let nothing = Refusal {
        reason: Refused::of_status(status),
        message: Cow::Borrowed(""),
        retry_after: None,
        param: None,
        code: None,
    };
    let Ok(node) = Node::parse_reply(body) else {
        return Refusal { message: plain(body).into(), ..nothing };
    };
    // Google streams wrap their errors in an array
    let object = match node.as_array() {
        Some(items) => items.first().and_then(Node::as_object),
        None => node.as_object(),
    };
    match object {
        Some(object) => parts(object).refusal(status),
        None => nothing,
    }
}

/// An `error` event.
pub(super) fn in_band(event: &Members<'_>) -> Error {
    let parts = parts(event);
    let status = parts.status();
    let refusal = parts.refusal(status);
    let kind = Kind::UpstreamRefused { status, reason: refusal.reason, retry_after: refusal.retry_after };
    let say = match refusal.message {
        Cow::Borrowed("") => Cow::Borrowed("The provider broke off."),
        said => said,
    };
    Error::new(kind, say)
}

/// What stands where in an error body of any shape.
#[derive(Default)]
struct Parts<'n> {
    kind: &'n str,
    message: &'n str,
    /// Google's.
    code: Option<u64>,
    retry_after: Option<Duration>,
}

fn parts<'n>(object: &'n Members<'_>) -> Parts<'n> {
    let word = |m: &'n Members<'_>, name: &str| m.get(name).and_then(Node::as_str).unwrap_or_default();
    match object.get("error").map(|error| &error.value) {
        Some(crate::json::Value::Object(error)) => Parts {
            kind: Some(word(error, "type")).filter(|kind| !kind.is_empty()).unwrap_or(word(error, "status")),
            message: word(error, "message"),
            code: error.get("code").and_then(Node::as_u64),
            retry_after: error.get("details").and_then(retry_after),
        },
        Some(crate::json::Value::String(message)) => Parts { message, ..Parts::default() },
        _ => {
            // AWS, and the frameworks of proxies
            let said = ["message", "Message", "detail"].into_iter().map(|name| word(object, name));
            Parts { message: said.into_iter().find(|said| !said.is_empty()).unwrap_or_default(), ..Parts::default() }
        }
    }
}

/// Google's `RetryInfo`: `{"retryDelay": "12.5s"}`.
fn retry_after(details: &Node<'_>) -> Option<Duration> {
    details.as_array()?.iter().find_map(|detail| {
        let seconds = detail.as_object()?.get("retryDelay")?.as_str()?.strip_suffix('s')?;
        Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
    })
}

// === impl Parts ===

impl Parts<'_> {
    /// The status an error would have had before the stream began.
    fn status(&self) -> u16 {
        match self.kind {
            "invalid_request_error" => 400,
            "authentication_error" => 401,
            "billing_error" => 402,
            "permission_error" => 403,
            "not_found_error" => 404,
            "request_too_large" => 413,
            "rate_limit_error" => 429,
            "timeout_error" => 504,
            "overloaded_error" => 529,
            "api_error" => 500,
            _ => self.code.and_then(|code| u16::try_from(code).ok()).filter(|c| (400..600).contains(c)).unwrap_or(500),
        }
    }

    fn refusal(&self, status: u16) -> Refusal {
        Refusal {
            reason: self.reason(status),
            message: clean(self.message).into(),
            retry_after: self.retry_after,
            param: param(self.message),
            code: Some(self.kind).filter(|kind| !kind.is_empty()).map(str::to_owned),
        }
    }

    fn reason(&self, status: u16) -> Refused {
        let by_status = Refused::of_status(status);
        let by_kind = match self.kind {
            "invalid_request_error" | "INVALID_ARGUMENT" | "FAILED_PRECONDITION" => Refused::BadRequest,
            "authentication_error" | "UNAUTHENTICATED" => Refused::Auth,
            "billing_error" => Refused::Billing,
            "permission_error" | "PERMISSION_DENIED" => Refused::Permission,
            "not_found_error" | "NOT_FOUND" => Refused::NotFound,
            "request_too_large" => Refused::TooLarge,
            "rate_limit_error" | "RESOURCE_EXHAUSTED" => Refused::RateLimit,
            "timeout_error" | "DEADLINE_EXCEEDED" => Refused::Timeout,
            "overloaded_error" | "UNAVAILABLE" => Refused::Overloaded,
            "api_error" | "INTERNAL" if by_status == Refused::BadRequest => Refused::ServerError,
            _ => by_status,
        };
        if matches!(by_kind, Refused::BadRequest | Refused::TooLarge | Refused::Permission) {
            by_words(self.message).unwrap_or(by_kind)
        } else {
            by_kind
        }
    }
}

/// What `invalid_request_error` is used for besides requests that are wrong.
fn by_words(message: &str) -> Option<Refused> {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if says(&["prompt is too long", "exceed context limit", "input is too long", "context window"]) {
        Some(Refused::ContextLength)
    } else if says(&["credit balance is too low", "api usage limits", "spend limit"]) {
        Some(Refused::Billing)
    } else if says(&["content filtering policy"]) {
        Some(Refused::ContentFilter)
    } else {
        None
    }
}

/// Members a message may begin with (`messages.0.content: ...`).
const MEMBERS: [&str; 17] = [
    "messages",
    "tools",
    "tool_choice",
    "system",
    "model",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "thinking",
    "stop_sequences",
    "metadata",
    "output_config",
    "output_format",
    "service_tier",
    "container",
    "mcp_servers",
];

fn param(message: &str) -> Option<String> {
    let (path, _) = message.split_once(": ")?;
    let first = path.split('.').next()?;
    let tidy = path.len() <= 200 && path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    (tidy && MEMBERS.contains(&first)).then(|| path.to_owned())
}

/// A body that is no JSON: its words when it is a line of text.
fn plain(body: &[u8]) -> String {
    match std::str::from_utf8(body).map(str::trim) {
        Ok(text) if text.len() <= 300 && !text.starts_with(['<', '{', '[']) && !text.contains('\n') => clean(text),
        _ => String::new(),
    }
}

/// Take out what names a request, an account or a project.
fn clean(message: &str) -> String {
    let mut end = message.len().min(MOST_SAID);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = String::with_capacity(end);
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut rest = &message[..end];
    while let Some(c) = rest.chars().next() {
        if !is_word(c) {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        let owned = out.ends_with("projects/");
        out.push_str(if owned || identifies(word) { "[redacted]" } else { word });
        rest = after;
    }
    out
}

/// An id of Anthropic's (`req_...`, `org-...`), a key, or a UUID.
fn identifies(word: &str) -> bool {
    const PREFIXES: [&str; 6] = ["req_", "org-", "org_", "wrkspc_", "sk-ant-", "acct_"];
    let uuid = word.len() == 36
        && word.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    uuid || PREFIXES.iter().any(|prefix| word.strip_prefix(prefix).is_some_and(|rest| rest.len() >= 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Refusal {
        read(status, body.as_bytes())
    }

    fn own(kind: &str, message: &str) -> String {
        serde_json::json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011CX"})
            .to_string()
    }

    #[test]
    fn each_error_is_told_apart() {
        for (status, kind, message, reason) in [
            (400, "invalid_request_error", "messages: at least one message is required", Refused::BadRequest),
            (
                400,
                "invalid_request_error",
                "prompt is too long: 1036683 tokens > 1000000 maximum",
                Refused::ContextLength,
            ),
            (
                400,
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 190000 + 64000 > 200000",
                Refused::ContextLength,
            ),
            (
                400,
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API.",
                Refused::Billing,
            ),
            (400, "invalid_request_error", "Output blocked by content filtering policy", Refused::ContentFilter),
            (401, "authentication_error", "invalid x-api-key", Refused::Auth),
            (403, "permission_error", "not allowed", Refused::Permission),
            (404, "not_found_error", "model: claude-x", Refused::NotFound),
            (413, "request_too_large", "Request exceeds the maximum size", Refused::TooLarge),
            (429, "rate_limit_error", "slow down", Refused::RateLimit),
            (500, "api_error", "Internal server error", Refused::ServerError),
            (529, "overloaded_error", "Overloaded", Refused::Overloaded),
            (200, "overloaded_error", "Overloaded", Refused::Overloaded),
        ] {
            let refusal = refused(status, &own(kind, message));
            assert_eq!((refusal.reason, refusal.code.as_deref()), (reason, Some(kind)), "{message}");
            assert_eq!(refusal.message, message);
        }
    }

    #[test]
    fn bodies_of_other_shapes_are_read_too() {
        let google = r#"[{"error":{"code":429,"message":"Quota exceeded for projects/my-project-1/locations/x","status":"RESOURCE_EXHAUSTED",
            "details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"12.5s"}]}}]"#;
        let refusal = refused(429, google);
        assert_eq!(refusal.reason, Refused::RateLimit);
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(12_500)));
        assert_eq!(refusal.message, "Quota exceeded for projects/[redacted]/locations/x");
        assert_eq!(refused(400, r#"{"message":"messages: field is required"}"#).message, "messages: field is required");
        assert_eq!(refused(403, "Forbidden").message, "Forbidden");
        for body in ["", "<html><body>502</body></html>", "{\"error\":", "null", "[]", "7"] {
            let refusal = refused(503, body);
            assert_eq!((refusal.reason, &*refusal.message), (Refused::Overloaded, ""), "{body}");
        }
    }

    #[test]
    fn ids_of_requests_and_accounts_stay_here() {
        let message = "This request would exceed the rate limit for your organization \
                       (8d1f3a55-1a2b-4c3d-9e8f-0123456789ab) of 50,000 tokens (req_011CQabcdef), key sk-ant-api03-xyz";
        let said = refused(429, &own("rate_limit_error", message)).message;
        for leak in ["8d1f3a55", "011CQ", "api03"] {
            assert!(!said.contains(leak), "{said}");
        }
        assert!(said.contains("of 50,000 tokens"));
    }

    #[test]
    fn the_member_at_fault_is_named() {
        let param = |message: &str| refused(400, &own("invalid_request_error", message)).param;
        assert_eq!(param("messages.0.content.1.text: Field required").as_deref(), Some("messages.0.content.1.text"));
        assert_eq!(param("temperature: must be at most 1").as_deref(), Some("temperature"));
        assert_eq!(param("prompt is too long: 5 tokens > 4"), None);
    }

    #[test]
    fn an_error_in_a_stream_has_the_status_it_would_have_had() {
        let node =
            Node::parse(br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#).unwrap();
        let error = in_band(node.as_object().unwrap());
        assert_eq!(error.kind, Kind::UpstreamRefused { status: 529, reason: Refused::Overloaded, retry_after: None });
        assert_eq!(error.say, "Overloaded");
    }
}
