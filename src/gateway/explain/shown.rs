//! What is told of a call that is not made.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::policy::{HedgeAfter, Policy, RetryOn};
use crate::config::snapshot::Timeouts;
use crate::dialect::{self, Grammar, Operation};
use crate::error::Error;
use crate::gateway::asking::Asked;
use crate::gateway::status::millis;
use crate::route::{Gauge, Plan, Target};
use crate::units::Tokens;
use crate::upstream::track::Track;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Explained {
    /// The state of a running gateway was looked at: load, breakers, queues.
    pub live: bool,
    /// Of the running configuration; only when `live`.
    pub generation: Option<u64>,
    /// Where the request would be sent to.
    pub path: String,
    /// By the shape of the body.
    pub path_guessed: bool,
    /// `chat_completions`, ...; `None` where it is not known.
    pub operation: Option<Cow<'static, str>>,
    /// The path is carried without being read: there is no plan.
    pub carried_unread: bool,
    pub stream: bool,
    /// The virtual key's name. `None`: none was named, so none was asked.
    pub key: Option<String>,
    /// As the client asked for it.
    pub model: Option<String>,
    /// The model whose targets are used: the same, or what a rule put in its place.
    pub used_model: Option<String>,
    /// The rule that matched.
    pub rules: Vec<String>,
    /// Rules that could not be judged, and so did not match.
    pub unclear_rules: Vec<UnclearRule>,
    /// Estimated.
    pub input_tokens: Option<u64>,
    /// As the request asks for at most.
    pub max_output_tokens: Option<u64>,
    /// In the order in which they are tried.
    pub targets: Vec<TargetPlan>,
    pub passed_over: Vec<PassedOver>,
    pub policy: Option<PolicyShown>,
    /// When the client itself stops waiting, as its SDK says.
    pub client_gives_up_ms: Option<u64>,
    /// What the client would get instead of an answer.
    pub error: Option<ErrorShown>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnclearRule {
    pub rule: String,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// `provider/model`.
    pub target: String,
    pub why: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TargetPlan {
    pub provider: String,
    /// Which of its credentials, from 0.
    pub account: usize,
    /// The provider's own name for it.
    pub model: String,
    pub priority: u32,
    pub weight: u32,
    /// `splice`, `bridge`, or `local` for what is answered here.
    pub lane: Option<Cow<'static, str>>,
    /// What the provider is asked for: `messages`, ...
    pub operation: Option<Cow<'static, str>>,
    /// The grammar of that, where it is a conversation.
    pub dialect: Option<Cow<'static, str>>,
    /// Path and query at the provider.
    pub path: Option<String>,
    /// What the provider is not told, or is told otherwise.
    pub losses: Vec<LossShown>,
    /// All of them; some may have no place in the list.
    pub losses_count: usize,
    /// `None`: no price is known.
    pub cost: Option<Cost>,
    pub timeouts_ms: TimeoutsShown,
    /// Only when `live`.
    pub gauge: Option<GaugeShown>,
    /// It cannot be put to this target: the next one is asked.
    pub error: Option<ErrorShown>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LossShown {
    /// JSON path in the request; `header:value` for a feature asked for in a header.
    pub path: String,
    /// `dropped`, `changed`.
    pub how: Cow<'static, str>,
}

/// By the list price.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Of the input as estimated and of `output_tokens`.
    pub usd: f64,
    pub input_usd: f64,
    /// As asked for at most, else the most the model gives. `None`: not known, and not in `usd`.
    pub output_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutsShown {
    pub connect: u64,
    pub tls: u64,
    pub first_byte: u64,
    pub first_token: u64,
    pub idle: u64,
    pub write: u64,
    pub total: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GaugeShown {
    pub in_flight: u32,
    /// `closed`, `half_open`, `open`.
    pub breaker: Cow<'static, str>,
    /// A call now would be refused, for so long.
    pub refused_for_ms: Option<u64>,
    /// A call now would wait for the rate limit, for so long.
    pub wait_ms: u64,
    pub first_token_ms: Option<u64>,
    /// Share of the rate limit that is left, 0 to 1.
    pub rate_left: Option<f32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyShown {
    /// Tries in all.
    pub attempts: u32,
    pub retry_on: Vec<String>,
    pub backoff_ms: u64,
    pub max_backoff_ms: u64,
    /// Share of the calls that may be tried again at the same target.
    pub retry_budget_percent: u8,
    /// `p95`, or milliseconds such as `250 ms`. `None`: no second target is asked meanwhile.
    pub hedge_after: Option<String>,
    pub fallback_context_length: Option<String>,
    pub fallback_content_filter: Option<String>,
    /// A stream that breaks is taken up by the next target.
    pub resume: bool,
    /// For all tries and waits together.
    pub total_ms: u64,
}

/// An error as the client would read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorShown {
    pub status: u16,
    /// As in the log.
    pub kind: Cow<'static, str>,
    pub message: String,
    /// The whole body, in the client's grammar.
    pub body: Box<RawValue>,
}

// === impl Explained ===

impl Explained {
    pub(super) fn planned(&mut self, plan: &Plan, (input, max_output): (Tokens, Option<Tokens>)) {
        self.used_model = Some(plan.model.to_string());
        self.rules = plan.rules.iter().map(ToString::to_string).collect();
        let unclear = plan.unclear.iter();
        self.unclear_rules =
            unclear.map(|rule| UnclearRule { rule: rule.rule.to_string(), why: rule.why.clone() }).collect();
        let passed = plan.passed_over.iter();
        self.passed_over =
            passed.map(|over| PassedOver { target: over.target.clone(), why: over.why.to_string() }).collect();
        // each account of a target is passed over for the same reason
        self.passed_over.dedup();
        self.input_tokens = Some(input.0);
        self.max_output_tokens = max_output.map(|tokens| tokens.0);
        self.policy = Some(PolicyShown::new(&plan.policy, plan));
    }
}

// === impl TargetPlan ===

impl TargetPlan {
    pub(super) fn new(target: &Target, cost: Option<Cost>) -> Self {
        TargetPlan {
            provider: target.provider.name.to_string(),
            account: target.provider.account,
            model: target.model.to_string(),
            priority: target.priority,
            weight: target.weight,
            lane: None,
            operation: None,
            dialect: None,
            path: None,
            losses: Vec::new(),
            losses_count: 0,
            cost,
            timeouts_ms: TimeoutsShown::from(&target.timeouts),
            gauge: None,
            error: None,
        }
    }

    /// `operation`: the client's.
    pub(super) fn asked(&mut self, asked: &Asked, operation: Operation) {
        let to = asked.speech.operation(operation);
        self.lane = Some(asked.lane.name().into());
        self.operation = to.map(|to| to.name().into());
        self.dialect = to.and_then(Operation::dialect).map(|dialect| dialect.name().into());
        self.path = Some(asked.asking.path.clone()).filter(|path| !path.is_empty());
        let losses = asked.lost.places.iter();
        self.losses = losses.map(|(path, how)| LossShown { path: path.clone(), how: how.label().into() }).collect();
        self.losses_count = asked.lost.count;
    }
}

// === impl the parts ===

impl From<&Timeouts> for TimeoutsShown {
    fn from(timeouts: &Timeouts) -> Self {
        let Timeouts { connect, tls, first_byte, first_token, idle, write, total } = *timeouts;
        TimeoutsShown {
            connect: millis(connect),
            tls: millis(tls),
            first_byte: millis(first_byte),
            first_token: millis(first_token),
            idle: millis(idle),
            write: millis(write),
            total: millis(total),
        }
    }
}

impl GaugeShown {
    pub(super) fn new(gauge: Gauge, track: Option<Arc<Track>>, now: Instant) -> Self {
        let phase = track.map_or(crate::upstream::breaker::Phase::Closed, |track| track.breaker.phase(now).0);
        GaugeShown {
            in_flight: gauge.in_flight,
            breaker: phase.label().into(),
            refused_for_ms: gauge.refused.map(millis),
            wait_ms: millis(gauge.wait),
            first_token_ms: gauge.first_token.map(millis),
            rate_left: gauge.left,
        }
    }
}

impl PolicyShown {
    fn new(policy: &Policy, plan: &Plan) -> Self {
        let Policy { retry, hedge, fallback, resume, disconnect: _, total } = policy;
        let targets = u32::try_from(plan.targets.len()).unwrap_or(u32::MAX);
        let own = plan.targets.first().map_or(Duration::ZERO, |target| target.timeouts.total);
        PolicyShown {
            attempts: retry.attempts.unwrap_or(targets),
            retry_on: retry.on.iter().map(|on| word(*on)).collect(),
            backoff_ms: millis(retry.backoff),
            max_backoff_ms: millis(retry.max_backoff),
            retry_budget_percent: retry.budget,
            hedge_after: hedge.map(|hedge| match hedge.after {
                HedgeAfter::P95 => "p95".to_owned(),
                HedgeAfter::Fixed(after) => format!("{} ms", millis(after)),
            }),
            fallback_context_length: fallback.context_length.as_ref().map(ToString::to_string),
            fallback_content_filter: fallback.content_filter.as_ref().map(ToString::to_string),
            resume: *resume,
            total_ms: millis(total.unwrap_or(own)),
        }
    }
}

/// As it is written in the configuration.
fn word(on: RetryOn) -> String {
    match on {
        RetryOn::Connect => "connect".to_owned(),
        RetryOn::Timeout => "timeout".to_owned(),
        RetryOn::Broken => "broken".to_owned(),
        RetryOn::Status(status) => status.to_string(),
        RetryOn::Class(class) => format!("{class}xx"),
    }
}

impl ErrorShown {
    pub(super) fn new(grammar: Grammar, error: &Error) -> Self {
        let (status, body) = dialect::error(grammar, error);
        // our own words, so it is JSON
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| RawValue::NULL.to_owned());
        ErrorShown { status, kind: error.kind.label().into(), message: error.say.to_string(), body }
    }
}
