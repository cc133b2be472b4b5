//! Converse's errors: as a reply of their own, and in the middle of a stream.
//!
//! The name of an exception stands in a header (`x-amzn-errortype`) of a reply and is not always in its body; status and words must do.
//! Messages name the operator's account and resources: those are taken out. Truth: botocore's service model (the `*Exception` shapes).

use std::borrow::Cow;

use crate::dialect::codec::Refusal;
use crate::error::{Error, Kind, Refused};
use crate::json::Node;

/// Longest message that is passed on.
const MAX_MESSAGE: usize = 2_000;

pub fn decode(status: u16, body: &[u8]) -> Refusal {
    let node = Node::parse_reply(body).ok();
    let member = |names: &[&str]| {
        let members = node.as_ref()?.as_object()?;
        names.iter().find_map(|name| members.get(name)?.as_str()).map(str::to_owned)
    };
    let message = member(&["message", "Message"]).unwrap_or_default();
    // `com.amazon.coral.service#ThrottlingException`, `ThrottlingException:http://internal.amazon.com/..`
    let code = member(&["__type", "code", "Code"]).map(|word| {
        let word = word.rsplit('#').next().unwrap_or_default();
        word.split(':').next().unwrap_or_default().to_owned()
    });
    Refusal {
        reason: reason(status, code.as_deref().unwrap_or_default(), &message),
        message: Cow::Owned(scrub(&message)),
        retry_after: None,
        param: None,
        code,
    }
}

/// An exception that ends a stream.
pub fn of_exception(name: &str, payload: &[u8]) -> Error {
    let node = Node::parse_reply(payload).ok();
    let member = |name: &str| node.as_ref()?.as_object()?.get(name).cloned();
    let message = member("message").and_then(|m| m.as_str().map(str::to_owned)).unwrap_or_default();
    let status = match exception_status(name) {
        // the model's own status, of a ModelStreamErrorException
        424 => member("originalStatusCode").and_then(|s| s.as_u64()).and_then(error_status).unwrap_or(424),
        status => status,
    };
    let reason = reason(status, name, &message);
    let say = match scrub(&message) {
        empty if empty.is_empty() => "The provider broke off its answer".to_owned(),
        message => message,
    };
    Error::new(Kind::UpstreamRefused { status, reason, retry_after: None }, say)
}

fn error_status(status: u64) -> Option<u16> {
    u16::try_from(status).ok().filter(|status| (400..600).contains(status))
}

fn exception_status(name: &str) -> u16 {
    match capitalised(name).as_str() {
        "ThrottlingException" | "ModelNotReadyException" => 429,
        "ValidationException" => 400,
        "AccessDeniedException" => 403,
        "ResourceNotFoundException" => 404,
        "ModelTimeoutException" => 408,
        "ModelStreamErrorException" | "ModelErrorException" => 424,
        "ServiceUnavailableException" => 503,
        _ => 500,
    }
}

/// A stream's exceptions begin with a small letter.
fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn reason(status: u16, code: &str, message: &str) -> Refused {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match capitalised(code).as_str() {
        "ThrottlingException" | "TooManyRequestsException" => return Refused::RateLimit,
        "ModelNotReadyException" | "ServiceUnavailableException" => return Refused::Overloaded,
        "ServiceQuotaExceededException" => return Refused::Billing,
        "ModelTimeoutException" => return Refused::Timeout,
        "ResourceNotFoundException" => return Refused::NotFound,
        "ModelErrorException" | "ModelStreamErrorException" | "InternalServerException" => return Refused::ServerError,
        "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException" => return Refused::Auth,
        _ => {}
    }
    match status {
        400 | 413 if says(&TOO_LONG) => Refused::ContextLength,
        400 if says(&["content filter", "blocked by our content"]) => Refused::ContentFilter,
        400 if says(&["model identifier is invalid"]) => Refused::NotFound,
        400 if says(&["service quota"]) => Refused::Billing,
        400 | 403 if says(&["security token", "signature", "api key", "token has expired"]) => Refused::Auth,
        424 => Refused::ServerError,
        429 if says(&["not ready"]) => Refused::Overloaded,
        status => Refused::of_status(status),
    }
}

/// How Bedrock and the models behind it say that a prompt is too long.
const TOO_LONG: [&str; 6] = [
    "input is too long",
    "prompt is too long",
    "input length and `max_tokens` exceed",
    "too many input tokens",
    "maximum context length",
    "exceeds the maximum number of tokens",
];

/// Without what names the operator's account: resource names, and account ids of twelve digits.
pub fn scrub(message: &str) -> String {
    let mut out = String::with_capacity(message.len().min(MAX_MESSAGE));
    for word in message.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ')' | '(')) {
        if out.len() + word.len() > MAX_MESSAGE {
            break;
        }
        match word.find("arn:") {
            Some(at) => {
                let (before, arn) = word.split_at(at);
                let end =
                    arn.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ')' | '('));
                out.push_str(before);
                out.push_str("[redacted]");
                out.push_str(arn.get(end.len()..).unwrap_or_default());
            }
            None => push_without_accounts(word, &mut out),
        }
    }
    out
}

fn push_without_accounts(word: &str, out: &mut String) {
    let mut digits = 0;
    let flush = |digits: usize, before: &str, out: &mut String| match digits {
        12 => out.push_str("[redacted]"),
        _ => out.push_str(before.get(before.len() - digits..).unwrap_or_default()),
    };
    for (at, c) in word.char_indices() {
        if c.is_ascii_digit() {
            digits += 1;
            continue;
        }
        flush(digits, word.get(..at).unwrap_or_default(), out);
        digits = 0;
        out.push(c);
    }
    flush(digits, word, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_resources_are_never_passed_on() {
        let message = "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: bedrock:InvokeModel on resource: \
            \"arn:aws:bedrock:us-east-1::foundation-model/x\" (account 123456789012), request 1234567890123";
        let clean = scrub(message);
        assert!(!clean.contains("arn:") && !clean.contains(" 123456789012)"), "{clean}");
        assert_eq!(
            clean,
            "User: [redacted] is not authorized to perform: bedrock:InvokeModel on resource: \"[redacted]\" (account \
             [redacted]), request 1234567890123"
        );
    }

    #[test]
    fn a_refusal_is_told_by_type_status_and_words() {
        use Refused as R;
        for (status, body, reason) in [
            (429, r#"{"message":"Too many tokens, please wait before trying again."}"#, R::RateLimit),
            (429, r#"{"message":"The model is not ready"}"#, R::Overloaded),
            (400, r#"{"message":"Input is too long for requested model."}"#, R::ContextLength),
            (400, r#"{"message":"The provided model identifier is invalid."}"#, R::NotFound),
            (400, r#"{"message":"Malformed input request"}"#, R::BadRequest),
            (403, r#"{"message":"The security token included in the request is invalid."}"#, R::Auth),
            (403, r#"{"Message":"You don't have access to the model with the specified model ID."}"#, R::Permission),
            (404, r#"{"message":"Could not resolve the foundation model"}"#, R::NotFound),
            (400, r#"{"__type":"com.amazon.coral.service#ServiceQuotaExceededException"}"#, R::Billing),
            (408, "", R::Timeout),
            (424, r#"{"message":"x","originalStatusCode":500}"#, R::ServerError),
            (503, "<html>", R::Overloaded),
        ] {
            assert_eq!(decode(status, body.as_bytes()).reason, reason, "{status} {body}");
        }
        let refusal = decode(400, br#"{"__type":"a.b#ValidationException:http://x","message":"no"}"#);
        assert_eq!((refusal.code.as_deref(), &*refusal.message), (Some("ValidationException"), "no"));
    }
}
