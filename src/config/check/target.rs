//! One target: what was there about a place, with a model's words and its own over it; and the order of a group's targets.

use std::collections::HashMap;
use std::sync::Arc;

use super::policy::{lay_breaker, lay_timeouts};
use crate::config::policy::{Info, Model, ModelTarget, Strategy};
use crate::config::prices::{self, Prices};
use crate::config::raw::{self, At};
use crate::config::snapshot::Provider;
use crate::config::tariff::Tariff;
use crate::id::ProviderName;

/// One target as typed.
pub(super) struct Written<'a> {
    pub at: &'a At<String>,
    /// `None` in the form `target: x`.
    pub typed: Option<&'a raw::Target>,
    pub path: String,
}

/// A target before its priority is settled: by the group's own priorities, then by those of the entry it comes from.
pub(super) struct Candidate {
    pub rank: (u32, u32),
    pub target: ModelTarget,
}

/// A place, before anything is written about it. A model's words and a target's are laid over it.
pub(super) fn leaf(provider: Arc<Provider>, upstream: Arc<str>, prices: &Prices) -> ModelTarget {
    let (info, tariff) = prices.known(&provider, &upstream);
    ModelTarget {
        timeouts: provider.timeouts,
        breaker: provider.breaker,
        priority: 1,
        weight: 1,
        info,
        tariff,
        provider,
        upstream,
    }
}

pub(super) fn copy(target: &ModelTarget) -> ModelTarget {
    let ModelTarget { provider, upstream, priority, weight, timeouts, breaker, info, tariff } = target;
    ModelTarget {
        provider: Arc::clone(provider),
        upstream: Arc::clone(upstream),
        priority: *priority,
        weight: *weight,
        timeouts: *timeouts,
        breaker: *breaker,
        info: *info,
        tariff: tariff.clone(),
    }
}

/// The model's words over what was there, and the target's over those.
pub(super) fn merge(mut to: ModelTarget, model: &raw::Model, target: &Written<'_>) -> ModelTarget {
    to.timeouts = lay_timeouts(to.timeouts, model.timeouts.as_ref());
    to.breaker = lay_breaker(to.breaker, model.breaker.as_ref());
    to.info = lay_info(to.info, model.info.as_ref());
    to.tariff = lay_price(to.tariff, model.price.as_ref());
    if let Some(typed) = target.typed {
        to.timeouts = lay_timeouts(to.timeouts, typed.timeouts.as_ref());
        to.breaker = lay_breaker(to.breaker, typed.breaker.as_ref());
        to.info = lay_info(to.info, typed.info.as_ref());
        to.tariff = lay_price(to.tariff, typed.price.as_ref());
        to.weight = to.weight.saturating_mul(typed.weight.as_ref().map_or(1, |at| at.value));
    }
    to
}

fn lay_info(base: Info, typed: Option<&raw::Info>) -> Info {
    let Some(raw::Info { context, max_output, vision, audio, documents, tools, json_schema, reasoning }) = typed else {
        return base;
    };
    Info {
        context: context.or(base.context),
        max_output: max_output.or(base.max_output),
        vision: vision.or(base.vision),
        audio: audio.or(base.audio),
        documents: documents.or(base.documents),
        tools: tools.or(base.tools),
        json_schema: json_schema.or(base.json_schema),
        reasoning: reasoning.or(base.reasoning),
    }
}

/// A price is one thing: parts of two would make a third that nobody asks.
fn lay_price(base: Option<Arc<Tariff>>, typed: Option<&At<raw::Price>>) -> Option<Arc<Tariff>> {
    typed.and_then(|price| prices::own(&price.value)).map(Arc::new).or(base)
}

pub(super) fn rank(target: &Written<'_>, nested: u32) -> (u32, u32) {
    (target.typed.and_then(|typed| typed.priority).unwrap_or(1), nested)
}

/// The order of a model's targets among themselves, from 1. Where its strategy looks at all of them, there is none.
pub(super) fn ranks(model: &Model) -> Vec<u32> {
    match model.strategy {
        Strategy::Priority | Strategy::LeastBusy => dense(model.targets.iter().map(|target| target.priority)),
        Strategy::Weighted | Strategy::Cost | Strategy::Latency => vec![1; model.targets.len()],
    }
}

/// 1 for the least, 2 for the next, ..
fn dense<T: Ord + Copy>(values: impl Iterator<Item = T> + Clone) -> Vec<u32> {
    let mut sorted: Vec<T> = values.clone().collect();
    sorted.sort_unstable();
    sorted.dedup();
    values.map(|value| sorted.binary_search(&value).map_or(1, |at| u32::try_from(at + 1).unwrap_or(u32::MAX))).collect()
}

/// Each place once, at its best priority. Priorities stay as they are written, but where entries with an order of their own stand among
/// the targets: then they are counted anew, so that this order is kept within the priority that the entry has here.
pub(super) fn settle(candidates: Vec<Candidate>) -> Vec<Arc<ModelTarget>> {
    let mut kept: Vec<Candidate> = Vec::with_capacity(candidates.len());
    let mut places: HashMap<(ProviderName, Arc<str>), usize> = HashMap::with_capacity(candidates.len());
    for candidate in candidates {
        let place = (candidate.target.provider.name.clone(), Arc::clone(&candidate.target.upstream));
        match places.get(&place).and_then(|n| kept.get_mut(*n)) {
            Some(other) if other.rank <= candidate.rank => {}
            Some(other) => *other = candidate,
            None => {
                places.insert(place, kept.len());
                kept.push(candidate);
            }
        }
    }
    let mut within: HashMap<u32, u32> = HashMap::new();
    let ordered = kept.iter().any(|c| *within.entry(c.rank.0).or_insert(c.rank.1) != c.rank.1);
    let priorities: Vec<u32> =
        if ordered { dense(kept.iter().map(|c| c.rank)) } else { kept.iter().map(|c| c.rank.0).collect() };
    let targets = kept.into_iter().zip(priorities);
    targets.map(|(candidate, priority)| Arc::new(ModelTarget { priority, ..candidate.target })).collect()
}
