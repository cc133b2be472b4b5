//! From a name to its targets: an entry of the configuration, a wildcard, or `provider/model` written out. And who may use the name.
//!
//! Who can take the call, and in which order, is decided elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use super::strategy::Candidate;
use super::{Gauge, Target};
use crate::balance::Hash;
use crate::config::Snapshot;
use crate::config::policy::Model;
use crate::config::snapshot::{Key, Provider};
use crate::error::{Error, Kind, Result};

/// Near names shown for an unknown model.
const SUGGESTIONS: usize = 3;

/// Whose word a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    ByClient,
    /// By a rule or a fallback: `strict` is for clients.
    ByOperator,
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Entry(&'a Arc<Model>),
    /// And what its `*` stands for.
    Wildcard(&'a Arc<Model>, &'a str),
    /// A provider, and its own name for the model.
    Written(&'a Arc<Provider>, &'a str),
}

/// A target that the configuration names.
#[derive(Debug, Clone)]
pub struct Listed {
    pub provider: Arc<Provider>,
    pub model: Arc<str>,
}

/// What stands under a name: an entry of that very name; else the wildcard that fits with the most other characters; else `provider/model`.
///
/// A name that begins with a provider's always means that provider, whatever groups there are: a wildcard takes it only if it is written with
/// a slash itself (`openai/*`), or if `strict` leaves it no other meaning.
pub(super) fn find<'a>(snapshot: &'a Snapshot, name: &'a str, asked: Asked) -> Option<Found<'a>> {
    if let Some(model) = snapshot.models.get(name) {
        return Some(Found::Entry(model));
    }
    let written = written(snapshot, name, asked);
    for model in &snapshot.wildcards {
        let pattern = model.name.as_str();
        if (written.is_none() || pattern.contains('/'))
            && let Some(run) = run(pattern, name)
        {
            return Some(Found::Wildcard(model, run));
        }
    }
    written
}

fn written<'a>(snapshot: &'a Snapshot, name: &'a str, asked: Asked) -> Option<Found<'a>> {
    if snapshot.strict && asked == Asked::ByClient {
        return None;
    }
    let (provider, rest) = name.split_once('/')?;
    let provider = snapshot.providers.get(provider).filter(|_| !rest.is_empty())?;
    Some(Found::Written(provider, rest))
}

/// What the `*` of a pattern stands for in a name. Never empty: `gpt-*` is not `gpt-`.
fn run<'a>(pattern: &str, name: &'a str) -> Option<&'a str> {
    let (before, after) = pattern.split_once('*')?;
    name.strip_prefix(before)?.strip_suffix(after).filter(|run| !run.is_empty())
}

/// A name outside the key's list gets the same answer whether it exists or not.
pub(super) fn permit(snapshot: &Snapshot, key: Option<&Key>, model: &str) -> Result<()> {
    if key.is_none_or(|k| k.allows_model(model)) {
        return Ok(());
    }
    let say = format!("This API key may not use the model `{model}`.{}", near(snapshot, key, model));
    Err(Error::new(Kind::Forbidden, say).param("model").code("model_not_allowed"))
}

pub(super) fn unknown(snapshot: &Snapshot, key: Option<&Key>, model: &str) -> Error {
    let near = near(snapshot, key, model);
    let say = format!("The model `{model}` does not exist or you do not have access to it.{near}");
    Error::new(Kind::UnknownModel, say).param("model")
}

pub(super) fn not_set_up(target: &Target) -> Error {
    let say = format!("Provider \"{}\" is not set up: its credentials are missing.", target.provider.name);
    Error::new(Kind::UpstreamFailed, say)
        .code("provider_not_configured")
        .why(format!("unset: {}", target.provider.missing_env.join(", ")))
}

/// ` Did you mean ...?`, from the names this key may see.
fn near(snapshot: &Snapshot, key: Option<&Key>, model: &str) -> String {
    let shown = |name: &&str| snapshot.models.get(*name).is_some_and(|m| m.listed) && !name.contains('*');
    let mut names: Vec<(f64, &str)> = snapshot
        .model_order
        .iter()
        .map(|name| name.as_str())
        .filter(|name| key.is_none_or(|k| k.allows_model(name)))
        .map(|name| (strsim::jaro_winkler(name, model), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .filter(|(_, name)| shown(name))
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

// === impl Found ===

impl<'a> Found<'a> {
    /// The entry of the configuration that rules over the call.
    pub fn entry(&self) -> Option<&'a Model> {
        match self {
            Found::Entry(model) | Found::Wildcard(model, _) => Some(model),
            Found::Written(..) => None,
        }
    }

    /// Every target with every credential of its provider, in the order of the file.
    pub fn candidates(&self, snapshot: &Snapshot) -> Vec<Candidate> {
        match self {
            Found::Entry(model) => of_model(snapshot, model, None),
            Found::Wildcard(model, run) => of_model(snapshot, model, Some(run)),
            Found::Written(provider, model) => {
                let (info, tariff) = snapshot.prices.known(provider, model);
                let target = |provider: &Arc<Provider>| Target {
                    provider: Arc::clone(provider),
                    model: Arc::from(*model),
                    timeouts: provider.timeouts,
                    on_loss: snapshot.on_loss,
                    breaker: provider.breaker,
                    priority: 1,
                    weight: 1,
                    info,
                    tariff: tariff.clone(),
                    listed: false,
                    id: identity(provider, model),
                };
                accounts(provider).map(|provider| Candidate::new(target(provider), 0)).collect()
            }
        }
    }
}

fn of_model(snapshot: &Snapshot, model: &Model, run: Option<&str>) -> Vec<Candidate> {
    let mut candidates = Vec::with_capacity(model.targets.iter().map(|t| 1 + t.provider.accounts.len()).sum());
    for (group, target) in model.targets.iter().enumerate() {
        let (upstream, info, tariff): (Arc<str>, _, _) = match run {
            // only now is it known which model it is; what is written of it counts first
            Some(run) if target.upstream.contains('*') => {
                let upstream = target.upstream.replacen('*', run, 1);
                let (info, tariff) = snapshot.prices.known(&target.provider, &upstream);
                (upstream.into(), target.info.over(info), target.tariff.clone().or(tariff))
            }
            Some(_) | None => (Arc::clone(&target.upstream), target.info, target.tariff.clone()),
        };
        for provider in accounts(&target.provider) {
            let target = Target {
                provider: Arc::clone(provider),
                timeouts: target.timeouts,
                on_loss: model.on_loss,
                breaker: target.breaker,
                priority: target.priority,
                weight: target.weight,
                info,
                tariff: tariff.clone(),
                // what a wildcard was asked for is the caller's own text
                listed: run.is_none(),
                id: identity(provider, &upstream),
                model: Arc::clone(&upstream),
            };
            candidates.push(Candidate::new(target, group));
        }
    }
    candidates
}

/// Every target that an entry names, with each credential of its provider, by identity. Of wildcards, those that are written out.
pub fn listed(snapshot: &Snapshot) -> HashMap<u64, Listed> {
    let targets = snapshot.models.values().chain(&snapshot.wildcards).flat_map(|model| &model.targets);
    let targets = targets.filter(|target| !target.upstream.contains('*'));
    let each = targets.flat_map(|target| accounts(&target.provider).map(move |provider| (provider, &target.upstream)));
    each.map(|(provider, model)| {
        (identity(provider, model), Listed { provider: Arc::clone(provider), model: Arc::clone(model) })
    })
    .collect()
}

/// A provider with each of its credentials.
fn accounts(provider: &Arc<Provider>) -> impl Iterator<Item = &Arc<Provider>> {
    std::iter::once(provider).chain(&provider.accounts)
}

/// The same for the same provider, credential and model, in every generation of the configuration.
pub fn identity(provider: &Provider, model: &str) -> u64 {
    let mut hash = Hash::new(provider.pool_key);
    hash.bytes(model.as_bytes());
    hash.finish()
}

impl Candidate {
    fn new(target: Target, group: usize) -> Self {
        Candidate { target, gauge: Gauge::default(), group, rank: super::strategy::Rank::default() }
    }
}
