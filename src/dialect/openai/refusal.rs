//! What an OpenAI-shaped error means: as a reply of status 400 and up, or as an event in a stream.
//!
//! Compatible vendors keep the envelope loosely (a string for the object, FastAPI's `detail`, a proxy's HTML page): everything is read that
//! says something, in the order code, type, status, words. Account ids and keys are taken out of the words. How the error is told to a
//! client is `openai::error`'s business.
//! Truth: OpenAI API reference, "Error codes"; the vendors' own replies.

use std::borrow::Cow;
use std::time::Duration;

use crate::dialect::Refusal;
use crate::error::{Error, Kind, Refused};
use crate::json::{Members, Node, Value};

mod scrub;

pub use scrub::scrub;

/// Longest message that is kept, in bytes.
const LONGEST: usize = 2_000;

/// Words that stand in `code` or `type` and decide alone. Words that every error of a vendor has (`invalid_request_error`, `api_error`) do
/// not stand here.
const CODES: [(&str, Refused); 57] = [
    ("insufficient_quota", Refused::Billing),
    ("billing_hard_limit_reached", Refused::Billing),
    ("billing_not_active", Refused::Billing),
    ("insufficient_balance", Refused::Billing),
    ("insufficient_credits", Refused::Billing),
    ("payment_required", Refused::Billing),
    ("arrearage", Refused::Billing),
    ("context_length_exceeded", Refused::ContextLength),
    ("context_window_exceeded", Refused::ContextLength),
    ("exceed_context_size_error", Refused::ContextLength),
    ("too_many_prompt_tokens", Refused::ContextLength),
    ("tokens_limit_reached", Refused::ContextLength),
    ("content_filter", Refused::ContentFilter),
    ("content_policy_violation", Refused::ContentFilter),
    ("responsibleaipolicyviolation", Refused::ContentFilter),
    ("data_inspection_failed", Refused::ContentFilter),
    ("moderation_blocked", Refused::ContentFilter),
    ("invalid_prompt", Refused::ContentFilter),
    ("rate_limit_exceeded", Refused::RateLimit),
    ("rate_limit_error", Refused::RateLimit),
    ("rate_limit_reached_error", Refused::RateLimit),
    ("rate_limited", Refused::RateLimit),
    ("too_many_requests", Refused::RateLimit),
    ("toomanyrequests", Refused::RateLimit),
    ("resource_exhausted", Refused::RateLimit),
    ("throttlingexception", Refused::RateLimit),
    ("model_not_found", Refused::NotFound),
    ("model_not_exist", Refused::NotFound),
    ("model_not_available", Refused::NotFound),
    ("invalid_model", Refused::NotFound),
    ("deploymentnotfound", Refused::NotFound),
    ("not_found_error", Refused::NotFound),
    ("not_found", Refused::NotFound),
    ("unknown_url", Refused::NotFound),
    ("invalid_api_key", Refused::Auth),
    ("invalid_authentication", Refused::Auth),
    ("invalid_authentication_error", Refused::Auth),
    ("authentication_error", Refused::Auth),
    ("unauthenticated", Refused::Auth),
    ("unauthorized", Refused::Auth),
    ("account_deactivated", Refused::Auth),
    ("permission_error", Refused::Permission),
    ("permission_denied", Refused::Permission),
    ("permissiondenied", Refused::Permission),
    ("forbidden", Refused::Permission),
    ("insufficient_permissions", Refused::Permission),
    ("unsupported_country_region_territory", Refused::Permission),
    ("overloaded_error", Refused::Overloaded),
    ("engine_overloaded_error", Refused::Overloaded),
    ("model_overloaded", Refused::Overloaded),
    ("server_is_overloaded", Refused::Overloaded),
    ("service_unavailable", Refused::Overloaded),
    ("unavailable", Refused::Overloaded),
    ("slow_down", Refused::Overloaded),
    ("timeout", Refused::Timeout),
    ("request_timeout", Refused::Timeout),
    ("request_too_large", Refused::TooLarge),
];

/// Phrases, in lower case, that decide when neither code nor status does.
const PHRASES: [(&str, Refused); 36] = [
    ("maximum context length", Refused::ContextLength),
    ("maximum prompt length", Refused::ContextLength),
    ("context length", Refused::ContextLength),
    ("context window", Refused::ContextLength),
    ("available context size", Refused::ContextLength),
    ("prompt is too long", Refused::ContextLength),
    ("input is too long", Refused::ContextLength),
    ("messages is too long", Refused::ContextLength),
    ("reduce the length of the", Refused::ContextLength),
    ("input token count exceeds", Refused::ContextLength),
    ("input token count (", Refused::ContextLength),
    ("exceeds the maximum number of tokens", Refused::ContextLength),
    ("exceeded your current quota", Refused::Billing),
    ("insufficient balance", Refused::Billing),
    ("insufficient credit", Refused::Billing),
    ("requires more credits", Refused::Billing),
    ("credit balance is too low", Refused::Billing),
    ("used all available credits", Refused::Billing),
    ("spending limit", Refused::Billing),
    ("content management policy", Refused::ContentFilter),
    ("content policy", Refused::ContentFilter),
    ("content filter", Refused::ContentFilter),
    ("content exists risk", Refused::ContentFilter),
    ("safety system", Refused::ContentFilter),
    ("requires moderation", Refused::ContentFilter),
    ("incorrect api key", Refused::Auth),
    ("invalid api key", Refused::Auth),
    ("api key not valid", Refused::Auth),
    ("rate limit", Refused::RateLimit),
    ("too many requests", Refused::RateLimit),
    ("is not a valid model id", Refused::NotFound),
    ("invalid model", Refused::NotFound),
    ("model not exist", Refused::NotFound),
    ("model not found", Refused::NotFound),
    ("overloaded", Refused::Overloaded),
    ("over capacity", Refused::Overloaded),
];

/// What an error object says, whatever its shape.
#[derive(Debug, Default)]
struct Said {
    message: String,
    /// Lower case: `code`, `type` and the codes of what is nested in it.
    words: Vec<String>,
    code: Option<String>,
    param: Option<String>,
    /// A status among the members; OpenRouter's `code` is one.
    status: Option<u16>,
    retry_after: Option<Duration>,
}

/// What a reply of status 400 and up means. `body` may be anything.
pub fn decode_error(status: u16, body: &[u8]) -> Refusal {
    let said = match Node::parse_reply(body) {
        Ok(node) => Said::read(node),
        Err(_) => Said { message: plain(body), ..Said::default() },
    };
    said.refusal(status)
}

/// An error object in the midst of a stream (or in place of an answer), as the error it means.
pub fn event(error: Node<'_>) -> Error {
    let said = Said::read(error);
    let told = said.status;
    let refusal = said.refusal(told.unwrap_or(0));
    let status = told.unwrap_or_else(|| usual_status(refusal.reason));
    let say = match (refusal.reason, refusal.message.is_empty()) {
        (Refused::Auth | Refused::Permission, _) | (_, true) => {
            Cow::Borrowed("The provider ended its answer with an error.")
        }
        (_, false) => refusal.message,
    };
    Error::new(Kind::UpstreamRefused { status, reason: refusal.reason, retry_after: refusal.retry_after }, say)
}

/// The status that usually comes with a reason.
fn usual_status(reason: Refused) -> u16 {
    match reason {
        Refused::BadRequest | Refused::ContextLength | Refused::ContentFilter => 400,
        Refused::Auth => 401,
        Refused::Billing => 402,
        Refused::Permission => 403,
        Refused::NotFound => 404,
        Refused::TooLarge => 413,
        Refused::RateLimit => 429,
        Refused::ServerError => 502,
        Refused::Overloaded => 503,
        Refused::Timeout => 504,
    }
}

/// A body that is no JSON: a short text is the message; a page, or half an object, is not.
fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.starts_with(['{', '[']) || text.contains('<') || text.len() > 500 { String::new() } else { text.to_owned() }
}

// === impl Said ===

impl Said {
    fn read(node: Node<'_>) -> Said {
        let mut said = Said::default();
        said.see(node, 0);
        said
    }

    /// The outermost words come first: they are the vendor's, those within are of whoever is behind it.
    fn see(&mut self, node: Node<'_>, depth: usize) {
        if depth > 4 {
            return;
        }
        match node.value {
            Value::String(text) => self.message(&text),
            Value::Array(items) => {
                if let Some(first) = items.into_iter().next() {
                    self.see(first, depth + 1);
                }
            }
            Value::Object(members) => self.members(members, depth),
            Value::Null | Value::Bool(_) | Value::Number => {}
        }
    }

    fn members(&mut self, mut members: Members<'_>, depth: usize) {
        for name in ["code", "type", "status", "object"] {
            let Some(node) = members.take(name) else { continue };
            if let Some(number) = node.as_u64().or_else(|| node.as_str()?.parse().ok()) {
                let status = u16::try_from(number).ok().filter(|s| (400..=599).contains(s));
                self.status = self.status.or(status);
            }
            if name != "object"
                && let Some(word) = node.as_str()
            {
                self.words.push(word.to_ascii_lowercase());
                if name == "code" && self.code.is_none() {
                    self.code = Some(bounded(word, 100));
                }
            }
        }
        if self.param.is_none()
            && let Ok(Some(param)) = members.take_string("param")
        {
            self.param = Some(bounded(&param, 200));
        }
        self.retry(&mut members);
        // OpenRouter: the words of the provider behind it say more than its own
        if let Some(raw) = members.take("metadata").and_then(|m| m.object().ok()?.take("raw")) {
            self.raw(raw, depth);
        }
        for name in ["error", "message", "detail", "msg", "errors", "innererror", "error_msg"] {
            if let Some(node) = members.take(name) {
                self.see(node, depth + 1);
            }
        }
    }

    fn raw(&mut self, raw: Node<'_>, depth: usize) {
        match &raw.value {
            Value::String(text) => match Node::parse_reply(text.as_bytes()) {
                Ok(inner) if inner.as_object().is_some() => self.see(inner, depth + 1),
                _ => self.message(text),
            },
            _ => self.see(raw, depth + 1),
        }
    }

    /// Google's `RetryInfo`, at its OpenAI-compatible door.
    fn retry(&mut self, members: &mut Members<'_>) {
        let details = members.get("details").and_then(Node::as_array).unwrap_or_default();
        let delay = details.iter().find_map(|d| d.as_object()?.get("retryDelay")?.as_str()?.strip_suffix('s'));
        let seconds = delay.and_then(|text| text.parse::<f64>().ok());
        self.retry_after = self.retry_after.or_else(|| Duration::try_from_secs_f64(seconds?).ok());
    }

    fn message(&mut self, text: &str) {
        if self.message.is_empty() {
            self.message = bounded(text.trim(), LONGEST);
        }
    }

    fn refusal(self, status: u16) -> Refusal {
        let status = if status < 400 { self.status.unwrap_or(0) } else { status };
        let words = self.message.to_ascii_lowercase();
        let reason = self.reason(status, &words);
        let waits = matches!(reason, Refused::RateLimit | Refused::Overloaded);
        Refusal {
            reason,
            retry_after: self.retry_after.or_else(|| if waits { try_again_in(&words) } else { None }),
            message: Cow::Owned(scrub(&self.message)),
            param: self.param,
            code: self.code.map(|code| scrub(&code)),
        }
    }

    fn reason(&self, status: u16, message: &str) -> Refused {
        let by_code =
            self.words.iter().find_map(|w| CODES.iter().find(|(code, _)| code == w).map(|(_, reason)| *reason));
        let by_phrase = PHRASES.iter().find(|(phrase, _)| message.contains(phrase)).map(|(_, reason)| *reason);
        match (by_code, status) {
            // a vendor's type may say "rate limit" where the quota is meant, and a provider's 401 has any code
            (Some(Refused::RateLimit), _) if by_phrase == Some(Refused::Billing) => Refused::Billing,
            (Some(reason), _) => reason,
            (None, 400 | 403 | 422 | 429 | 500 | 0) => by_phrase.unwrap_or(match status {
                0 => Refused::ServerError,
                _ => Refused::of_status(status),
            }),
            (None, 413) if by_phrase == Some(Refused::ContextLength) => Refused::ContextLength,
            (None, _) => Refused::of_status(status),
        }
    }
}

/// `try again in 1m2.5s`, `644ms`: in lower case.
fn try_again_in(message: &str) -> Option<Duration> {
    let (_, mut rest) = message.split_once("try again in ")?;
    let mut seconds = 0.0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let Ok(number) = number.parse::<f64>() else { break };
        let letters = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        seconds += number
            * match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return None,
            };
        rest = next;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|d| !d.is_zero())
}

fn bounded(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
