//! The record of a call: one line in the access log, one step of each metric. Exactly one per call, however it ended.

use std::time::Duration;

use serde::Serialize;

use super::log::AccessWriter;
use super::metrics::{Metrics, OTHER_MODEL};
use crate::call::{Call, Lane};
use crate::error::Blame;
use crate::units::{NanoUsd, PicoUsd};

/// A line of the access log. Never content, never a key.
#[derive(Serialize)]
struct Line<'a> {
    time: jiff::Timestamp,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<std::net::IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Tags::is_empty")]
    tags: Tags<'a>,
    method: &'a str,
    route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<&'a str>,
    attempts: u32,
    /// Targets that failed before the one that answered: `openai/gpt-5;503`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tried: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_position: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_ms: Option<f64>,
    stream: bool,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blame: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write_tokens: Option<u64>,
    /// Exact, in decimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<String>,
    /// The numbers are ours, by the size of what came.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    estimated: bool,
    /// What a translation could not carry, by JSON path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dropped: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_ms: Option<f64>,
    duration_ms: f64,
    overhead_us: u64,
    generation: u64,
}

/// Tags as an object, in the order of the config.
struct Tags<'a>(&'a [(std::sync::Arc<str>, std::sync::Arc<str>)]);

/// Write the record. `at` is when the call ended.
pub fn write(call: &Call, at: jiff::Timestamp, metrics: &Metrics, log: &AccessWriter) {
    let duration = call.started.elapsed();
    let overhead = duration.saturating_sub(call.waited);
    count(call, duration, overhead, metrics);
    if log.is_off() {
        return;
    }
    let line = Line {
        time: at,
        request_id: call.id.as_str(),
        client: call.client,
        key: call.key.as_ref().map(|k| k.name.as_str()),
        tags: Tags(call.tags()),
        method: call.method.as_str(),
        route: call.operation_name(),
        model: call.model.as_deref(),
        provider: call.provider.as_ref().map(|p| p.as_str()),
        upstream_model: call.upstream_model.as_deref(),
        upstream_request_id: call.upstream_request_id.as_deref(),
        lane: call.lane.map(Lane::name),
        attempts: call.attempts,
        tried: call.tried.iter().map(|t| format!("{}/{};{}", t.provider, t.model, t.what)).collect(),
        queue_position: call.queued.map(|(position, _)| position),
        queued_ms: call.queued.map(|(_, waited)| milliseconds(waited)),
        stream: call.stream,
        status: call.status,
        error: call.error.as_ref().map(|e| e.kind.label()),
        blame: call.error.as_ref().map(|e| match e.kind.blame() {
            Blame::Client => "client",
            Blame::Upstream => "upstream",
            Blame::Gateway => "gateway",
        }),
        detail: call.error.as_ref().map(|e| e.detail.as_str()),
        bytes_in: call.bytes_in,
        bytes_out: call.bytes_out,
        input_tokens: call.usage.map(|u| u.input.0),
        cached_tokens: call.usage.map(|u| u.cache_read.0),
        output_tokens: call.usage.map(|u| u.output.0),
        reasoning_tokens: call.usage.map(|u| u.reasoning.0),
        cache_write_tokens: call.usage.map(|u| u.cache_write_5m.0 + u.cache_write_1h.0).filter(|t| *t > 0),
        cost_usd: call.spent.cost().map(|cost| PicoUsd::from(cost).to_string()),
        estimated: call.estimated || call.spent.is_estimated(),
        dropped: call.losses.places.iter().map(|(place, _)| place.as_str()).collect(),
        first_byte_ms: call.first_byte.map(milliseconds),
        first_token_ms: call.first_token.map(milliseconds),
        duration_ms: milliseconds(duration),
        overhead_us: overhead.as_micros().try_into().unwrap_or(u64::MAX),
        generation: call.snapshot.generation,
    };
    let mut text = Vec::with_capacity(768);
    if serde_json::to_writer(&mut text, &line).is_ok() {
        text.push(b'\n');
        if log.line(&text).is_err() {
            metrics.log_lines_dropped.inc();
        }
    }
}

fn count(call: &Call, duration: Duration, overhead: Duration, metrics: &Metrics) {
    let model = match &call.model {
        Some(model) if call.model_listed => model,
        Some(_) => OTHER_MODEL,
        None => "",
    };
    let provider = call.provider.as_ref().map_or("", |p| p.as_str());
    let operation = call.operation_name();
    metrics.requests.with_label_values(&[operation, model, provider, status(call.status)]).inc();
    if call.lane.is_some() {
        metrics.request_duration.with_label_values(&[operation, model, provider]).observe(duration.as_secs_f64());
        let lane = call.lane.map_or("", Lane::name);
        metrics.overhead.with_label_values(&[lane]).observe(overhead.as_secs_f64());
    }
    if let Some(first) = call.first_token {
        metrics.time_to_first_token.with_label_values(&[model, provider]).observe(first.as_secs_f64());
        if call.output_frames > 1 {
            let each = duration.saturating_sub(first).as_secs_f64() / (call.output_frames - 1) as f64;
            metrics.time_per_output_token.with_label_values(&[model, provider]).observe(each);
        }
    }
    if call.losses.count > 0 {
        metrics.losses.with_label_values(&[provider]).inc_by(call.losses.count as u64);
    }
    if let Some(usage) = call.usage {
        for (kind, tokens) in [
            ("input", usage.input),
            ("cache_read", usage.cache_read),
            ("cache_write_5m", usage.cache_write_5m),
            ("cache_write_1h", usage.cache_write_1h),
            ("output", usage.output),
            ("reasoning", usage.reasoning),
        ] {
            if tokens.0 > 0 {
                metrics.tokens.with_label_values(&[kind, model, provider]).inc_by(tokens.0);
            }
        }
    }
    if call.spent.is_unpriced() {
        metrics.unpriced.with_label_values(&[model]).inc();
    }
    if let Some(NanoUsd(cost @ 1..)) = call.spent.cost() {
        metrics.cost.with_label_values(&[model, provider]).inc_by(cost as f64 / 1e9);
    }
}

/// A closed set: the statuses we send or pass on by name, the rest by class.
fn status(status: u16) -> &'static str {
    match status {
        200 => "200",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        413 => "413",
        415 => "415",
        429 => "429",
        499 => "499",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        529 => "529",
        100..=199 => "1xx",
        201..=299 => "2xx",
        300..=399 => "3xx",
        402..=499 => "4xx",
        501..=599 => "5xx",
        _ => "none",
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

impl Tags<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Tags<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (&**name, &**value)))
    }
}
