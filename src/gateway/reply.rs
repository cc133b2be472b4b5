//! The header section of answers: what of the provider's passes, and what is ours.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use pingora::http::ResponseHeader;

use crate::call::{Call, Lost, Tried};
use crate::chat::How;
use crate::units::PicoUsd;
use crate::upstream::{Reply, retry};

/// Fields of a provider's reply that reach the client. Everything else (cookies, server names, CORS, ...) is the provider's own
/// business with us.
const PASSED: [HeaderName; 9] = [
    http::header::CONTENT_TYPE,
    http::header::CONTENT_ENCODING,
    http::header::CONTENT_DISPOSITION,
    http::header::CONTENT_RANGE,
    http::header::ACCEPT_RANGES,
    http::header::RETRY_AFTER,
    http::header::CACHE_CONTROL,
    http::header::ETAG,
    http::header::LAST_MODIFIED,
];

/// And those that begin like this: how much of a provider's quota is left, and how long it took.
const PASSED_PREFIXES: [&str; 5] =
    ["x-ratelimit-", "retry-after-", "openai-", "x-should-retry", "anthropic-ratelimit-"];

/// Names the provider's account: never passed, whatever it begins with.
const WITHHELD: [&str; 2] = ["openai-organization", "openai-project"];

pub fn passes(name: &HeaderName) -> bool {
    PASSED.contains(name)
        || (PASSED_PREFIXES.iter().any(|p| name.as_str().starts_with(p)) && !WITHHELD.contains(&name.as_str()))
}

/// Start an answer from a provider's header section, without its framing.
pub fn from_upstream(upstream: &Reply) -> pingora::Result<ResponseHeader> {
    let Some(upstream) = upstream.session.response_header() else {
        return Err(pingora::Error::explain(pingora::ErrorType::InvalidHTTPHeader, "no header section"));
    };
    let mut head = ResponseHeader::build_no_case(upstream.status, Some(upstream.headers.len() + 8))?;
    for (name, value) in &upstream.headers {
        if passes(name) {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    Ok(head)
}

/// Of those, what says something whatever the dialect of the answer.
pub const QUOTA: [&str; 8] = [
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
];

/// The provider's own id of its answer, for the log.
pub fn upstream_request_id(upstream: &Reply) -> Option<Box<str>> {
    ["x-request-id", "request-id", "apim-request-id", "x-amzn-requestid"]
        .iter()
        .find_map(|name| upstream.header(*name)?.to_str().ok())
        .map(|id| Box::from(id.get(..128).unwrap_or(id)))
}

/// How long the provider asks to be left alone.
pub fn retry_after(upstream: &Reply) -> Option<Duration> {
    let head = upstream.session.response_header()?;
    retry::retry_after(&head.headers, jiff::Timestamp::now())
}

// Made once: a name or value that is parsed at each call costs an allocation each time.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MODEL: HeaderName = HeaderName::from_static("x-tollgate-model");
const PROVIDER: HeaderName = HeaderName::from_static("x-tollgate-provider");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-tollgate-attempts");
const LANE: HeaderName = HeaderName::from_static("x-tollgate-lane");
const TRIED: HeaderName = HeaderName::from_static("x-tollgate-tried");
const QUEUE: HeaderName = HeaderName::from_static("x-tollgate-queue");
const DROPPED: HeaderName = HeaderName::from_static("x-tollgate-dropped");
const ESTIMATED: HeaderName = HeaderName::from_static("x-tollgate-estimated");
const COST: HeaderName = HeaderName::from_static("x-tollgate-cost-usd");
const OVERHEAD: HeaderName = HeaderName::from_static("x-tollgate-overhead-us");
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Our own fields: who answered, how, and what it cost us in time.
pub fn ours(head: &mut ResponseHeader, call: &Call) -> pingora::Result<()> {
    head.insert_header(REQUEST_ID, call.id.as_str())?;
    if let Some(model) = &call.model
        && let Ok(value) = HeaderValue::from_bytes(model.as_bytes())
    {
        head.insert_header(MODEL, value)?;
    }
    if let Some(provider) = &call.provider {
        head.insert_header(PROVIDER, provider.as_str())?;
    }
    if call.attempts > 0 {
        head.insert_header(ATTEMPTS, HeaderValue::from(call.attempts))?;
    }
    if !call.tried.is_empty() {
        head.insert_header(TRIED, tried(&call.tried))?;
    }
    if let Some((position, waited)) = call.queued {
        head.insert_header(QUEUE, format!("position={position}, waited_ms={}", waited.as_millis()))?;
    }
    if let Some(lane) = call.lane {
        head.insert_header(LANE, HeaderValue::from_static(lane.name()))?;
        let overhead = u64::try_from(call.overhead().as_micros()).unwrap_or(u64::MAX);
        head.insert_header(OVERHEAD, HeaderValue::from(overhead))?;
    }
    if call.estimated {
        head.insert_header(ESTIMATED, HeaderValue::from_static("tokens"))?;
    }
    // of a stream only its end tells
    if let Some(cost) = call.spent.cost().filter(|_| !call.stream) {
        head.insert_header(COST, PicoUsd::from(cost).to_string())?;
    }
    for (name, value) in &call.limit_fields {
        head.insert_header(name.clone(), value.clone())?;
    }
    if call.losses.count > 0 {
        head.insert_header(DROPPED, dropped(&call.losses))?;
    }
    Ok(())
}

/// So many failed tries are told in a header.
const TRIED_SHOWN: usize = 8;

/// `openai/gpt-5;503, anthropic/claude-opus-4-5;timeout`.
fn tried(tried: &[Tried]) -> String {
    let shown = tried.iter().take(TRIED_SHOWN).map(|t| {
        let model = t.model.replace(|c: char| !c.is_ascii_graphic() || c == ',' || c == ';', "?");
        format!("{}/{model};{}", t.provider, t.what)
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Longest list of losses in a header.
const DROPPED_BYTES: usize = 1024;

/// `messages[0].name, temperature;changed, and 3 more`.
fn dropped(lost: &Lost) -> String {
    let mut text = String::new();
    let mut told = 0;
    for (place, how) in &lost.places {
        if text.len() + place.len() > DROPPED_BYTES {
            break;
        }
        if told > 0 {
            text.push_str(", ");
        }
        // a path holds the caller's own names: what a header cannot hold is left out
        text.extend(place.chars().map(|c| if c.is_ascii_graphic() && c != ',' && c != ';' { c } else { '?' }));
        if *how != How::Dropped {
            text.push(';');
            text.push_str(how.label());
        }
        told += 1;
    }
    if told < lost.count {
        text.push_str(&format!("{}and {} more", if told > 0 { ", " } else { "" }, lost.count - told));
    }
    text
}
