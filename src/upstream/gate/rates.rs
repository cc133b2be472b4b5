//! What a reply's header section says of the provider's limits.
//!
//! Owns the spellings; what follows from them is decided in `limits.rs`. Sources: OpenAI and Groq rate limit guides (`x-ratelimit-limit-requests`,
//! resets as `6m0s`), Anthropic's API reference (`anthropic-ratelimit-*`, RFC 3339), Azure (`renewalperiod`, in seconds), Mistral and Cerebras
//! (`..-tokens-minute`, `..-requests-day`), Together (`x-tokenlimit-*`), `draft-ietf-httpapi-ratelimit-headers-06` (`ratelimit-remaining`, `;w=60`).

use std::time::Duration;

use http::HeaderMap;
use http::header::DATE;
use jiff::Timestamp;

use super::bucket::seconds;

/// What is counted, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    Requests(Span),
    Tokens(Span),
    InputTokens,
    OutputTokens,
    /// Those that our own configuration sets.
    OwnRequests,
    OwnTokens,
}

/// Limits that stand side by side for one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// A minute or a second, or not named.
    Short,
    Hour,
    Day,
}

/// One limit, as far as it was told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said {
    pub dim: Dim,
    pub limit: Option<f64>,
    pub left: Option<f64>,
    /// Until it is whole again.
    pub reset: Option<Duration>,
    /// What the limit is for, where that is named.
    pub period: Option<Duration>,
    /// It fills up continuously over a minute, whatever the reset: that is cut to whole seconds.
    pub steady: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Limit,
    Left,
    Reset,
    Period,
}

/// Every limit that the headers tell of, each thing once.
pub fn read(headers: &HeaderMap) -> Vec<Said> {
    let mut found: Vec<Said> = Vec::new();
    for (name, value) in headers {
        let Some(field) = Field::of(name.as_str()) else { continue };
        let Some(text) = value.to_str().ok() else { continue };
        let said = match found.iter().position(|said| said.dim == field.dim) {
            Some(at) => found.get_mut(at),
            None => {
                found.push(Said::new(field));
                found.last_mut()
            }
        };
        if let Some(said) = said {
            said.add(field, text.trim(), headers);
        }
    }
    found
}

// === fields ===

#[derive(Debug, Clone, Copy)]
struct Field {
    dim: Dim,
    what: What,
    period: Option<Duration>,
    steady: bool,
}

impl Field {
    fn of(name: &str) -> Option<Field> {
        if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
            let (thing, what) = rest.rsplit_once('-')?;
            let dim = match thing {
                "requests" => Dim::Requests(Span::Short),
                "tokens" => Dim::Tokens(Span::Short),
                "input-tokens" => Dim::InputTokens,
                "output-tokens" => Dim::OutputTokens,
                _ => return None,
            };
            return Some(Field { dim, what: what_of(what)?, period: None, steady: true });
        }
        if let Some(what) = name.strip_prefix("x-tokenlimit-") {
            return Some(Field { dim: Dim::Tokens(Span::Short), what: what_of(what)?, period: None, steady: false });
        }
        let rest = ["x-ratelimit-", "ratelimit-", "x-rate-limit-"].iter().find_map(|p| name.strip_prefix(p))?;
        let mut words = rest.split('-');
        let what = what_of(words.next()?)?;
        let (mut tokens, mut part, mut span, mut period) = (false, None, Span::Short, None);
        for word in words {
            match word {
                "requests" | "request" | "req" => tokens = false,
                "tokens" | "token" => tokens = true,
                "input" | "prompt" => part = Some(Dim::InputTokens),
                "output" | "generated" | "completion" => part = Some(Dim::OutputTokens),
                "second" | "sec" => period = Some(1),
                "minute" | "min" => period = Some(60),
                "hour" => (span, period) = (Span::Hour, Some(3600)),
                "day" => (span, period) = (Span::Day, Some(24 * 3600)),
                // images, projects, what a query cost: not what we count
                _ => return None,
            }
        }
        let dim = match (tokens, part) {
            (true, Some(part)) => part,
            (true, None) => Dim::Tokens(span),
            (false, None) => Dim::Requests(span),
            (false, Some(_)) => return None,
        };
        Some(Field { dim, what, period: period.map(Duration::from_secs), steady: false })
    }
}

fn what_of(word: &str) -> Option<What> {
    Some(match word {
        "limit" => What::Limit,
        "remaining" => What::Left,
        "reset" => What::Reset,
        "renewalperiod" => What::Period,
        _ => return None,
    })
}

// === impl Said ===

impl Said {
    fn new(field: Field) -> Self {
        Said { dim: field.dim, limit: None, left: None, reset: None, period: field.period, steady: field.steady }
    }

    fn add(&mut self, field: Field, text: &str, headers: &HeaderMap) {
        match field.what {
            What::Limit => {
                self.limit = number(text);
                self.period = self.period.or_else(|| window(text));
            }
            What::Left => self.left = number(text),
            What::Reset => self.reset = reset(text, || wall(headers)),
            What::Period => self.period = number(text).filter(|s| *s >= 1.0).map(seconds),
        }
    }
}

/// The provider's own clock where it shows it: resets are told by that.
fn wall(headers: &HeaderMap) -> Timestamp {
    let date = headers.get(DATE).and_then(|value| value.to_str().ok());
    let said = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
    said.unwrap_or_else(Timestamp::now)
}

/// `250`, and the first of `100, 100;w=60`.
fn number(text: &str) -> Option<f64> {
    let first = text.split([',', ';']).next()?.trim();
    first.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)
}

/// The 60 of `100;w=60`.
fn window(text: &str) -> Option<Duration> {
    let after = text.split(';').find_map(|part| {
        let part = part.trim();
        part.strip_prefix("w=").or_else(|| part.strip_prefix("window="))
    })?;
    number(after).filter(|s| *s >= 1.0).map(seconds)
}

/// `120ms`, `1s`, `6m0s`, `1h2m3.5s`, plain seconds, seconds or milliseconds since 1970, RFC 3339.
fn reset(text: &str, wall: impl FnOnce() -> Timestamp) -> Option<Duration> {
    if let Some(plain) = number(text) {
        return Some(match plain {
            ..1e9 => seconds(plain),
            // an hour of the past is a window that has just ended, not one of 1970
            1e9..1e11 => seconds(plain - wall().as_millisecond() as f64 / 1e3),
            _ => seconds((plain - wall().as_millisecond() as f64) / 1e3),
        });
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(seconds((at.as_millisecond() - wall().as_millisecond()) as f64 / 1e3));
    }
    lasting(text)
}

fn lasting(mut text: &str) -> Option<Duration> {
    let mut total = 0.0;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, rest) = text.split_at_checked(digits)?;
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at_checked(unit)?;
        let unit = match unit {
            "d" => 24.0 * 3600.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += count.parse::<f64>().ok()? * unit;
        text = rest;
    }
    Some(seconds(total))
}
