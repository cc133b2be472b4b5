//! Which target answers for a model: an entry of the config, or `provider/model` written out.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::config::Snapshot;
use crate::config::policy::{BreakerPolicy, Info, Policy, Price};
use crate::config::snapshot::{Key, OnLoss, Provider, Timeouts};
use crate::dialect::{Operation, count, task};
use crate::error::{Error, Kind, Result};

/// Near names shown for an unknown model.
const SUGGESTIONS: usize = 3;

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
    pub price: Option<Price>,
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

/// The targets for a call, in the order in which they are tried.
pub fn plan(ask: &Ask<'_>, _gauges: &dyn Gauges) -> Result<Plan> {
    let target = target(ask.snapshot, ask.key, ask.model)?;
    let policy = match ask.snapshot.models.get(ask.model) {
        Some(model) => Arc::clone(&model.policy),
        None => Arc::clone(&ask.snapshot.policy),
    };
    Ok(Plan {
        targets: vec![target],
        passed_over: Vec::new(),
        model: ask.model.into(),
        policy,
        rules: Vec::new(),
        affinity: None,
    })
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

/// The way of an operation to a target.
pub fn way(target: &Target, operation: Operation) -> Result<Way> {
    let lacking = || {
        Error::new(
            Kind::Unsupported,
            format!("Provider \"{}\" does not offer {}.", target.provider.name, operation.name()),
        )
        .param("model")
    };
    let offer = target.provider.offer(&target.model).ok_or_else(lacking)?;
    let offers = |operation: Operation| offer.paths.contains_key(&operation);
    // what is shaped like Cohere's rerank differs from it, and from itself in another version
    if offers(operation) && operation != Operation::Rerank {
        return Ok(Way::Splice);
    }
    let found = match operation {
        Operation::CountMessageTokens | Operation::CountContentTokens => {
            let counted = |to: &Operation| count::counts(*to).is_some_and(offers);
            Some(Way::Count(offer.bridge.first().copied().filter(counted)))
        }
        Operation::Embeddings | Operation::EmbedContent | Operation::Rerank => {
            offer.paths.keys().copied().find(|to| task::can(operation, *to)).map(Way::Task)
        }
        _ => offer.bridge.first().copied().map(Way::Bridge),
    };
    found.ok_or_else(lacking)
}

/// The target of a model for this key (`None`: open mode).
pub fn target(snapshot: &Snapshot, key: Option<&Key>, model: &str) -> Result<Target> {
    let target = find(snapshot, model);
    // A name outside the key's list gets the same answer whether it exists or not.
    if key.is_some_and(|k| !k.allows_model(model)) {
        return Err(Error::new(
            Kind::Forbidden,
            format!("This API key may not use the model `{model}`.{}", near(snapshot, key, model)),
        )
        .param("model")
        .code("model_not_allowed"));
    }
    let target = target.ok_or_else(|| {
        Error::new(
            Kind::UnknownModel,
            format!(
                "The model `{model}` does not exist or you do not have access to it.{}",
                near(snapshot, key, model)
            ),
        )
        .param("model")
    })?;
    if !target.provider.missing_env.is_empty() {
        return Err(Error::new(
            Kind::UpstreamFailed,
            format!("Provider \"{}\" is not set up: its credentials are missing.", target.provider.name),
        )
        .code("provider_not_configured")
        .why(format!("unset: {}", target.provider.missing_env.join(", "))));
    }
    Ok(target)
}

fn find(snapshot: &Snapshot, model: &str) -> Option<Target> {
    if let Some(found) = snapshot.models.get(model) {
        let target = found.targets.first()?;
        return Some(Target {
            provider: Arc::clone(&target.provider),
            model: Arc::clone(&target.upstream),
            timeouts: target.timeouts,
            on_loss: found.on_loss,
            breaker: target.breaker,
            priority: target.priority,
            weight: target.weight,
            info: target.info,
            price: target.price,
            listed: true,
            id: identity(&target.provider, &target.upstream),
        });
    }
    if snapshot.strict {
        return None;
    }
    let (provider, rest) = model.split_once('/')?;
    let provider = snapshot.providers.get(provider).filter(|_| !rest.is_empty())?;
    Some(Target {
        provider: Arc::clone(provider),
        model: rest.into(),
        timeouts: provider.timeouts,
        on_loss: snapshot.on_loss,
        breaker: provider.breaker,
        priority: 1,
        weight: 1,
        info: Info::default(),
        price: None,
        listed: false,
        id: identity(provider, rest),
    })
}

/// The same for the same provider, credential and model, in every generation of the configuration.
fn identity(provider: &Provider, model: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (provider.pool_key, model).hash(&mut hasher);
    hasher.finish()
}

/// ` Did you mean ...?`, from the names this key may see.
fn near(snapshot: &Snapshot, key: Option<&Key>, model: &str) -> String {
    let mut names: Vec<(f64, &str)> = snapshot
        .model_order
        .iter()
        .map(|name| name.as_str())
        .filter(|name| key.is_none_or(|k| k.allows_model(name)))
        .map(|name| (strsim::jaro_winkler(name, model), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .collect();
    names.sort_by(|a, b| b.0.total_cmp(&a.0));
    names.truncate(SUGGESTIONS);
    match names.as_slice() {
        [] => String::new(),
        names => {
            let names: Vec<String> = names.iter().map(|(_, n)| format!("`{n}`")).collect();
            format!(" Did you mean {}?", names.join(" or "))
        }
    }
}
