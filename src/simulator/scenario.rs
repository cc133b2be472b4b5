//! The magic model names: what goes wrong, and how the parts of an answer are laid out for it.
//!
//! The table for users is in the module's own documentation (`simulator`).

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{AUTHORIZATION, HOST};
use serde_json::Value;

use super::fault::Fault;
use super::grammar;
use super::reply::{Part, Reply};
use super::{Inquiry, Shared, Vendor};

/// Silence of `sim-think` before its first chunk.
const THINK: Duration = Duration::from_secs(5);
/// Pause of `sim-slow` between two chunks, and before a whole answer.
const SLOW: Duration = Duration::from_secs(1);

/// How a model behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scenario {
    Plain,
    RateLimited,
    ServerError,
    Overloaded,
    BadRequest,
    Unauthorized,
    NoSuchModel,
    ContextLength,
    ContentFilter,
    Hang,
    HangStream,
    Cut,
    Slow,
    Think,
    ErrorEvent,
    NoUsage,
    Long,
}

// === impl Scenario ===

impl Scenario {
    pub(super) fn of(model: &str, shared: &Shared) -> Self {
        match model {
            "sim-429" => Self::RateLimited,
            "sim-500" => Self::ServerError,
            "sim-503" => Self::Overloaded,
            "sim-400" => Self::BadRequest,
            "sim-401" => Self::Unauthorized,
            "sim-404" => Self::NoSuchModel,
            "sim-context" => Self::ContextLength,
            "sim-filter" => Self::ContentFilter,
            "sim-hang" => Self::Hang,
            "sim-hang-stream" => Self::HangStream,
            "sim-cut" => Self::Cut,
            "sim-slow" => Self::Slow,
            "sim-think" => Self::Think,
            "sim-error-event" => Self::ErrorEvent,
            "sim-no-usage" => Self::NoUsage,
            "sim-long" => Self::Long,
            "sim-flaky" if shared.flaky_fails() => Self::ServerError,
            _ => Self::Plain,
        }
    }

    /// The refusal this model gives instead of an answer.
    pub(super) fn refusal(self, model: &str, inquiry: &Inquiry) -> Option<Fault> {
        match inquiry.vendor {
            Vendor::OpenAi | Vendor::Azure => self.openai_refusal(model, inquiry),
            Vendor::Anthropic | Vendor::Gemini | Vendor::Bedrock | Vendor::Cohere => {
                grammar::refusal(self, model, inquiry)
            }
        }
    }

    fn openai_refusal(self, model: &str, inquiry: &Inquiry) -> Option<Fault> {
        let fault = match self {
            Self::RateLimited => {
                let message = format!(
                    "Rate limit reached for {model} in organization org-simulated on requests per min (RPM): Limit 500, Used \
                     500, Requested 1. Please try again in 120ms. Visit https://platform.openai.com/account/rate-limits to \
                     learn more."
                );
                Fault::new(StatusCode::TOO_MANY_REQUESTS, "requests", message)
                    .code("rate_limit_exceeded")
                    .header("retry-after", "1")
                    .header("retry-after-ms", "1000")
                    .header("x-ratelimit-limit-requests", "500")
                    .header("x-ratelimit-remaining-requests", "0")
                    .header("x-ratelimit-reset-requests", "1s")
            }
            Self::ServerError => Fault::server_error(),
            Self::Overloaded => {
                let message = "The engine is currently overloaded, please try again later";
                Fault::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
            }
            Self::BadRequest => {
                let message =
                    "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 99.0 instead.";
                Fault::bad(message).param("temperature").code("decimal_above_max_value")
            }
            Self::Unauthorized => {
                let shown =
                    |name: &str| inquiry.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
                let key = shown(AUTHORIZATION.as_str()).or_else(|| shown("api-key")).unwrap_or_default();
                let host = shown(HOST.as_str()).unwrap_or_default();
                let message =
                    format!("Incorrect API key provided: {key} (at {host}). You can find your API key there.");
                Fault::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message).code("invalid_api_key")
            }
            Self::NoSuchModel => Fault::no_such_model(model),
            Self::ContextLength => {
                let message = "This model's maximum context length is 8192 tokens. However, your messages resulted in 8273 \
                     tokens. Please reduce the length of the messages.";
                Fault::bad(message).param("messages").code("context_length_exceeded")
            }
            Self::ContentFilter => {
                let message = "The response was filtered due to the prompt triggering our content management policy. Please \
                     modify your prompt and retry.";
                Fault::bad(message).param("prompt").code("content_filter")
            }
            Self::Plain
            | Self::Hang
            | Self::HangStream
            | Self::Cut
            | Self::Slow
            | Self::Think
            | Self::ErrorEvent
            | Self::NoUsage
            | Self::Long => return None,
        };
        Some(fault)
    }

    pub(super) fn reports_usage(self) -> bool {
        self != Self::NoUsage
    }

    pub(super) fn reasoning_tokens(self) -> u64 {
        if self == Self::Think { 64 } else { 0 }
    }

    /// A whole answer, indented as OpenAI sends it.
    pub(super) fn whole(self, document: &Value) -> Reply {
        self.whole_text(format!("{document:#}\n"))
    }

    pub(super) fn whole_text(self, text: String) -> Reply {
        let text = Bytes::from(text);
        let reply = Reply::whole(StatusCode::OK, "application/json", text.clone());
        match self {
            Self::Hang | Self::HangStream => reply.first(Part::Hang),
            Self::Slow => reply.first(Part::Wait(SLOW)),
            Self::Think => reply.first(Part::Wait(THINK)),
            Self::Cut => {
                let half = text.slice(..text.len() / 2);
                Reply { body: vec![Part::Bytes(half), Part::Cut], ..reply }
            }
            Self::ErrorEvent => Fault::server_error().reply(Vendor::OpenAi),
            Self::Plain
            | Self::RateLimited
            | Self::ServerError
            | Self::Overloaded
            | Self::BadRequest
            | Self::Unauthorized
            | Self::NoSuchModel
            | Self::ContextLength
            | Self::ContentFilter
            | Self::NoUsage
            | Self::Long => reply,
        }
    }

    /// A stream of these frames, a frame a chunk; `error` is how this API says in mid-stream that it failed.
    pub(super) fn stream(self, mut frames: Vec<Bytes>, error: Vec<Bytes>, pace: Duration) -> Reply {
        let middle = (frames.len() / 2).max(1);
        let mut last = None;
        let mut pause = pace;
        let mut start = None;
        match self {
            Self::Hang => return Reply::events().first(Part::Hang),
            Self::HangStream => {
                frames.truncate(3);
                last = Some(Part::Hang);
            }
            Self::Cut => {
                frames.truncate(middle);
                last = Some(Part::Cut);
            }
            Self::ErrorEvent => {
                frames.truncate(middle);
                frames.extend(error);
            }
            Self::Slow => pause = SLOW,
            Self::Think => start = Some(Part::Wait(THINK)),
            Self::Long => pause = Duration::ZERO,
            Self::Plain
            | Self::RateLimited
            | Self::ServerError
            | Self::Overloaded
            | Self::BadRequest
            | Self::Unauthorized
            | Self::NoSuchModel
            | Self::ContextLength
            | Self::ContentFilter
            | Self::NoUsage => {}
        }
        let mut body: Vec<Part> = start.into_iter().collect();
        for (at, frame) in frames.into_iter().enumerate() {
            if at > 0 && !pause.is_zero() {
                body.push(Part::Wait(pause));
            }
            body.push(Part::Bytes(frame));
        }
        body.extend(last);
        Reply { body, ..Reply::events() }
    }
}
