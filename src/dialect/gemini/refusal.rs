//! What Google's errors mean. Truth: google.rpc's codes and details, and the messages seen at AI Studio and Vertex.

use std::borrow::Cow;
use std::time::Duration;

use crate::dialect::codec::Refusal;
use crate::error::{Error, Kind, Refused};
use crate::json::{Members, Node, Value};

/// Longest message passed on.
const LONGEST: usize = 4096;
/// Longest wait believed.
const DAY: Duration = Duration::from_secs(86_400);

/// The body of a reply of status 400 and up, or of an event with an `error` in it.
pub fn decode(status: u16, body: &[u8]) -> Refusal {
    let Ok(node) = Node::parse_reply(body) else { return unknown(status) };
    let node = match node.value {
        // a stream that was asked for as an array
        Value::Array(items) => items.into_iter().next(),
        _ => Some(node),
    };
    match node.and_then(|node| node.object().ok()).and_then(|mut members| members.take("error")) {
        Some(Node { value: Value::Object(error), .. }) => read(status, &error),
        Some(error) => {
            let message = error.string().unwrap_or_default();
            Refusal { message: clean(&message), ..unknown(status) }
        }
        None => unknown(status),
    }
}

/// The same as our own error, for the middle of a stream.
pub fn in_stream(error: &Members<'_>) -> Error {
    let status = error.get("code").and_then(Node::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = status.filter(|status| (400..600).contains(status)).unwrap_or(500);
    let Refusal { reason, message, retry_after, param, code: _ } = read(status, error);
    let said = match &*message {
        "" => Cow::Borrowed("The provider broke off with an error"),
        _ => message,
    };
    let error = Error::new(Kind::UpstreamRefused { status, reason, retry_after }, said);
    match param {
        Some(param) => error.param(param),
        None => error,
    }
}

fn unknown(status: u16) -> Refusal {
    let reason = Refused::of_status(status);
    Refusal { reason, message: Cow::Borrowed(""), retry_after: None, param: None, code: None }
}

fn read(status: u16, error: &Members<'_>) -> Refusal {
    let message = error.get("message").and_then(Node::as_str).unwrap_or_default();
    let word = error.get("status").and_then(Node::as_str).unwrap_or_default();
    let details = Details::of(error);
    Refusal {
        reason: reason(status, word, message, &details),
        message: clean(message),
        retry_after: details.retry_after,
        param: details.field,
        code: (!word.is_empty()).then(|| word.to_owned()),
    }
}

/// What we read of `details`.
#[derive(Debug, Default)]
struct Details {
    retry_after: Option<Duration>,
    /// `BadRequest.fieldViolations[].field`.
    field: Option<String>,
    /// `ErrorInfo.reason`: `API_KEY_INVALID`, ...
    info: Option<String>,
    /// `QuotaFailure.violations[].quotaId` names a quota of a whole day.
    daily: bool,
}

// === impl Details ===

impl Details {
    fn of(error: &Members<'_>) -> Details {
        let mut details = Details::default();
        for detail in error.get("details").and_then(Node::as_array).unwrap_or_default() {
            let Some(members) = detail.as_object() else { continue };
            let kind = members.get("@type").and_then(Node::as_str).unwrap_or_default();
            match kind.rsplit('.').next().unwrap_or_default() {
                "RetryInfo" => details.retry_after = members.get("retryDelay").and_then(delay).or(details.retry_after),
                "ErrorInfo" => details.info = members.get("reason").and_then(Node::as_str).map(str::to_owned),
                "BadRequest" => {
                    let field = first(members, "fieldViolations", "field").map(str::to_owned);
                    details.field = details.field.or(field);
                }
                "QuotaFailure" => {
                    details.daily |= first(members, "violations", "quotaId").is_some_and(|id| id.contains("PerDay"));
                }
                _ => {}
            }
        }
        details
    }
}

fn first<'n>(members: &'n Members<'_>, list: &str, name: &str) -> Option<&'n str> {
    members.get(list)?.as_array()?.first()?.as_object()?.get(name)?.as_str()
}

/// `"34.4s"`, or `{"seconds":34,"nanos":400000000}`.
fn delay(node: &Node<'_>) -> Option<Duration> {
    let seconds = match &node.value {
        Value::String(text) => text.strip_suffix('s')?.parse::<f64>().ok()?,
        Value::Object(members) => {
            let part = |name| members.get(name).and_then(Node::as_f64).unwrap_or(0.0);
            part("seconds") + part("nanos") / 1e9
        }
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok().map(|delay| delay.min(DAY))
}

fn reason(status: u16, word: &str, message: &str, details: &Details) -> Refused {
    let says = |words: &[&str]| {
        let message = message.to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    };
    let info = details.info.as_deref().unwrap_or_default();
    if info.starts_with("API_KEY_") || says(&["api key not valid", "api key expired", "api key was reported as leaked"])
    {
        return Refused::Auth;
    }
    if info == "BILLING_DISABLED"
        || says(&["billing account", "enable billing", "credits are depleted", "spending cap"])
    {
        return Refused::Billing;
    }
    match (word, status) {
        ("INVALID_ARGUMENT" | "OUT_OF_RANGE", _) | ("", 400) => {
            if says(&["token count"]) && says(&["exceed"]) {
                Refused::ContextLength
            } else if says(&["payload size exceeds"]) {
                Refused::TooLarge
            } else {
                Refused::BadRequest
            }
        }
        // "User location is not supported for the API use."
        ("FAILED_PRECONDITION", _) if says(&["location is not supported"]) => Refused::Permission,
        ("FAILED_PRECONDITION", _) => Refused::BadRequest,
        ("UNAUTHENTICATED", _) => Refused::Auth,
        ("PERMISSION_DENIED", _) if says(&["unregistered callers"]) => Refused::Auth,
        ("PERMISSION_DENIED", _) => Refused::Permission,
        ("NOT_FOUND", _) => Refused::NotFound,
        // a quota of a day or of the plan does not come back by waiting a little
        ("RESOURCE_EXHAUSTED", _) if details.daily => Refused::Billing,
        ("RESOURCE_EXHAUSTED", _) if details.retry_after.is_none() && says(&["billing details"]) => Refused::Billing,
        ("RESOURCE_EXHAUSTED", _) => Refused::RateLimit,
        ("UNAVAILABLE", _) => Refused::Overloaded,
        ("DEADLINE_EXCEEDED", _) => Refused::Timeout,
        ("INTERNAL" | "UNKNOWN" | "ABORTED" | "DATA_LOSS", _) => Refused::ServerError,
        _ => Refused::of_status(status),
    }
}

/// The message without the operator's project and key.
fn clean(message: &str) -> Cow<'static, str> {
    const MARKS: [&str; 5] = ["projects/", "project_number:", "api_key:", "AIza", "project "];
    let mut out = String::with_capacity(message.len().min(LONGEST));
    let mut rest = message;
    while out.len() < LONGEST {
        let found = MARKS.iter().filter_map(|mark| rest.find(mark).map(|at| (at, *mark))).min();
        let Some((at, mark)) = found else { break };
        let (before, behind) = rest.split_at(at + if mark == "AIza" { 0 } else { mark.len() });
        let word = behind.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).unwrap_or(behind.len());
        let (named, after) = behind.split_at(word);
        out.push_str(before);
        // "project " is a word of the language, unless a number follows
        let hidden = mark != "project " || named.bytes().all(|b| b.is_ascii_digit());
        out.push_str(if hidden && !named.is_empty() { "[redacted]" } else { named });
        rest = after;
    }
    out.push_str(rest);
    if out.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
        out.truncate(end);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> (Refused, Option<u64>) {
        let refusal = decode(status, body.as_bytes());
        (refusal.reason, refusal.retry_after.map(|after| after.as_millis() as u64))
    }

    #[test]
    fn messages_tell_what_the_code_does_not() {
        let invalid =
            |message: &str| format!(r#"{{"error":{{"code":400,"message":"{message}","status":"INVALID_ARGUMENT"}}}}"#);
        for (message, reason) in [
            ("API key not valid. Please pass a valid API key.", Refused::Auth),
            (
                "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).",
                Refused::ContextLength,
            ),
            ("Request payload size exceeds the limit: 20971520 bytes.", Refused::TooLarge),
            ("Please use a valid role: user, model.", Refused::BadRequest),
        ] {
            assert_eq!(of(400, &invalid(message)), (reason, None), "{message}");
        }
        assert_eq!(of(400, &format!("[{}]", invalid("x"))), (Refused::BadRequest, None));
    }

    #[test]
    fn a_rate_is_not_a_quota() {
        let exhausted = |quota: &str, retry: &str| {
            format!(
                r#"{{"error":{{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.",
                "status":"RESOURCE_EXHAUSTED","details":[{{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[
                {{"quotaId":"{quota}"}}]}}{retry}]}}}}"#
            )
        };
        let retry = r#",{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.4s"}"#;
        assert_eq!(of(429, &exhausted("RequestsPerMinute", retry)), (Refused::RateLimit, Some(34_400)));
        assert_eq!(of(429, &exhausted("RequestsPerDay", retry)), (Refused::Billing, Some(34_400)));
        assert_eq!(of(429, &exhausted("x", "")), (Refused::Billing, None));
        let vertex = r#"[{"error":{"code":429,"message":"Resource exhausted. Please try again later.","status":"RESOURCE_EXHAUSTED"}}]"#;
        assert_eq!(of(429, vertex), (Refused::RateLimit, None));
    }

    #[test]
    fn anything_is_read() {
        for body in ["", "<html>", "{", "[]", "null", "{\"error\":null}", "{\"error\":{\"details\":[1,{}]}}", "[[]]"] {
            assert_eq!(of(503, body), (Refused::Overloaded, None), "{body}");
        }
        assert_eq!(decode(500, br#"{"error":"boom"}"#).message, "boom");
    }

    #[test]
    fn the_operators_project_is_not_named() {
        let body = r#"{"error":{"message":"Permission denied on projects/my-prod-1/locations/x for project 123456; api_key:AIzaSyA-b_c of this project are gone","status":"PERMISSION_DENIED"}}"#;
        assert_eq!(
            decode(403, body.as_bytes()).message,
            "Permission denied on projects/[redacted]/locations/x for project [redacted]; api_key:[redacted] of this project are gone"
        );
    }
}
