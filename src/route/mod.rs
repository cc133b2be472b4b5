//! Where a call goes: from the model's name to the targets that can take it, in the order in which they are tried.
//!
//! ```text
//! rules -> find (name -> targets) -> able (who can take it) -> strategy (order) -> affinity (who had the conversation)
//! ```
//!
//! [`plan`] decides; the exchange loop tries, and asks breakers and gates itself. Nothing here knows a clock, does I/O or draws by chance:
//! load and seed come in as arguments, so the same arguments give the same plan. Names, strategies and what a model can do are the
//! configuration's (`config::policy`); how requests look is written in the API references of OpenAI, Anthropic and Google.

mod able;
mod affinity;
mod find;
mod most;
mod needs;
mod rules;
mod strategy;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::config::Snapshot;
use crate::config::policy::{BreakerPolicy, Info, Policy, Strategy};
use crate::config::snapshot::{Key, OnLoss, Provider, Timeouts};
use crate::config::tariff::Tariff;
use crate::dialect::{Operation, count, task};
use crate::error::{Error, Kind, Result};
use crate::units::Tokens;

pub use find::{Listed, identity, listed};
pub use most::{Most, most};

use find::Asked;
use needs::Body;

/// One place where a call can go, with one credential.
#[derive(Debug, Clone)]
pub struct Target {
    pub provider: Arc<Provider>,
    /// The provider's own name for the model.
    pub model: Arc<str>,
    pub timeouts: Timeouts,
    pub on_loss: OnLoss,
    pub breaker: BreakerPolicy,
    pub priority: u32,
    pub weight: u32,
    pub info: Info,
    /// What it costs. `None`: nobody knows.
    pub tariff: Option<Arc<Tariff>>,
    /// The name is an entry of `models`, so it may be a metric's label.
    pub listed: bool,
    /// Provider, credential and model: the same over reloads.
    pub id: u64,
}

/// What is known of a call when it is routed.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub snapshot: &'a Snapshot,
    /// `None`: open mode.
    pub key: Option<&'a Key>,
    /// As the client wrote it.
    pub model: &'a str,
    pub operation: Operation,
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    /// The whole request: what it needs of a model is read from it, where a target may lack it.
    pub body: &'a [u8],
    pub stream: bool,
    /// Drawn at random for this call: routing itself knows no chance.
    pub seed: u64,
}

/// What is known of targets from earlier calls.
pub trait Gauges {
    fn gauge(&self, target: &Target) -> Gauge;
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gauge {
    pub in_flight: u32,
    /// Mean time to first token.
    pub first_token: Option<Duration>,
    /// Its breaker refuses calls, for so long.
    pub refused: Option<Duration>,
    /// A call would wait for its rate limit, for so long.
    pub wait: Duration,
    /// Share of its rate limit that is left, 0 to 1.
    pub left: Option<f32>,
}

/// Where a call goes, in order.
///
/// A target that cannot take the call is not in it, and `passed_over` says why. One that could, but not now (its breaker refuses, or the call
/// would wait for its rate limit), stands behind the others, the one that is free first in front: whoever tries them asks the breaker and the
/// gate anyway, and by then things may have changed. A target of weight 0 comes behind those with a weight. The other credentials of a
/// target's provider follow it directly, as targets of their own.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Never empty.
    pub targets: Vec<Target>,
    pub passed_over: Vec<PassedOver>,
    /// The model that was asked for, or the one that a rule or a fallback put in its place.
    pub model: Box<str>,
    pub policy: Arc<Policy>,
    /// The rules that matched, by name.
    pub rules: Vec<Box<str>>,
    /// Rules whose condition could not be evaluated, and so did not match.
    pub unclear: Vec<Unclear>,
    /// Of what stays the same from turn to turn: for pools that balance by it.
    pub affinity: Option<u64>,
}

/// A target that is not asked.
#[derive(Debug, Clone, PartialEq)]
pub struct PassedOver {
    /// `provider/model`.
    pub target: String,
    pub why: Cow<'static, str>,
}

/// A rule that could not be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclear {
    pub rule: Box<str>,
    /// For the operator: may quote header fields of the call.
    pub why: String,
}

/// How a call reaches its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The target speaks the client's dialect.
    Splice,
    /// It is asked for this conversation instead.
    Bridge(Operation),
    /// It is asked this one question instead.
    Task(Operation),
    /// Tokens are counted: by the provider that would answer with this conversation, or here.
    Count(Option<Operation>),
}

/// The targets for a call, in the order in which they are tried.
///
/// The key must allow the name the client wrote, whether such a model exists or not. Then the first rule that matches may put another name in
/// its place: the operator's word, so the key is not asked about that one, and no rule is applied to it again.
pub fn plan(ask: &Ask<'_>, gauges: &dyn Gauges) -> Result<Plan> {
    find::permit(ask.snapshot, ask.key, ask.model)?;
    let body = Body::new(ask.operation, ask.body);
    let mut unclear = Vec::new();
    let rule = rules::first(ask, &body, &mut unclear);
    let (name, asked) = match rule {
        Some(rule) => (rule.model.as_str(), Asked::ByOperator),
        None => (ask.model, Asked::ByClient),
    };
    let mut plan = plan_for(ask, name, asked, &body, gauges)?;
    plan.rules.extend(rule.map(|rule| Box::from(&*rule.name)));
    plan.unclear = unclear;
    Ok(plan)
}

/// The same for a model that the configuration names in place of the client's (a fallback): the key is not asked, and no rule is applied.
pub fn plan_instead(ask: &Ask<'_>, model: &str, gauges: &dyn Gauges) -> Result<Plan> {
    plan_for(ask, model, Asked::ByOperator, &Body::new(ask.operation, ask.body), gauges)
}

fn plan_for(ask: &Ask<'_>, name: &str, asked: Asked, body: &Body<'_>, gauges: &dyn Gauges) -> Result<Plan> {
    let snapshot = ask.snapshot;
    let found = find::find(snapshot, name, asked).ok_or_else(|| find::unknown(snapshot, ask.key, name))?;
    let mut candidates = found.candidates(snapshot);
    let mut passed_over = Vec::new();
    able::retain(&mut candidates, &mut passed_over, name, body)?;
    let model = found.entry();
    // alone, it need not be measured
    if candidates.len() > 1 {
        for candidate in &mut candidates {
            candidate.gauge = gauges.gauge(&candidate.target);
        }
        strategy::order(&mut candidates, model.map_or(Strategy::default(), |m| m.strategy), body, ask.seed);
    }
    let (affinity, holds) = affinity::key(ask, model.map(|m| &m.affinity), &candidates, body);
    if let Some(key) = affinity.filter(|_| holds) {
        affinity::prefer(&mut candidates, key);
    }
    Ok(Plan {
        targets: candidates.into_iter().map(|candidate| candidate.target).collect(),
        passed_over,
        model: name.into(),
        policy: Arc::clone(model.map_or(&snapshot.policy, |m| &m.policy)),
        rules: Vec::new(),
        unclear: Vec::new(),
        affinity,
    })
}

/// Estimated tokens of a request's input, and as many of output as it asks for at most.
pub fn size(operation: Operation, body: &[u8]) -> (Tokens, Option<Tokens>) {
    let body = Body::new(operation, body);
    let needs = body.needs();
    (needs.input, needs.max_output)
}

/// The way of an operation to a target.
pub fn way(target: &Target, operation: Operation) -> Result<Way> {
    find_way(target, operation).ok_or_else(|| no_way(target, operation))
}

fn find_way(target: &Target, operation: Operation) -> Option<Way> {
    let offer = target.provider.offer(&target.model)?;
    let offers = |operation: Operation| offer.paths.contains_key(&operation);
    // what is shaped like Cohere's rerank differs from it, and from itself in another version
    if offers(operation) && operation != Operation::Rerank {
        return Some(Way::Splice);
    }
    match operation {
        Operation::CountMessageTokens | Operation::CountContentTokens => {
            let counted = |to: &Operation| count::counts(*to).is_some_and(offers);
            Some(Way::Count(offer.bridge.first().copied().filter(counted)))
        }
        Operation::Embeddings | Operation::EmbedContent | Operation::Rerank => {
            offer.paths.keys().copied().find(|to| task::can(operation, *to)).map(Way::Task)
        }
        _ => offer.bridge.first().copied().map(Way::Bridge),
    }
}

fn no_way(target: &Target, operation: Operation) -> Error {
    let say = format!("Provider \"{}\" does not offer {}.", target.provider.name, operation.name());
    Error::new(Kind::Unsupported, say).param("model")
}

/// The first target of a model for this key (`None`: open mode), whatever it is asked: for what is not planned, such as paths that are not
/// read. No rule is applied.
pub fn target(snapshot: &Snapshot, key: Option<&Key>, model: &str) -> Result<Target> {
    find::permit(snapshot, key, model)?;
    let found = find::find(snapshot, model, Asked::ByClient).ok_or_else(|| find::unknown(snapshot, key, model))?;
    let mut candidates = found.candidates(snapshot).into_iter().map(|candidate| candidate.target);
    let first = candidates.next().ok_or_else(|| find::unknown(snapshot, key, model))?;
    if first.provider.missing_env.is_empty() {
        return Ok(first);
    }
    candidates.find(|target| target.provider.missing_env.is_empty()).ok_or_else(|| find::not_set_up(&first))
}

// === impl Target ===

impl Target {
    /// `provider/model`, for people.
    fn shown(&self) -> String {
        format!("{}/{}", self.provider.name, self.model)
    }
}

// === impl Gauge ===

impl Gauge {
    /// How long a call could not go there. Zero: it can go now.
    fn busy(&self) -> Duration {
        self.refused.unwrap_or_default().max(self.wait)
    }
}
