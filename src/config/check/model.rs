//! What clients may ask for: names, other names for the same, and groups of targets. A target that names another entry is replaced by
//! that entry's targets here, so that routing meets nothing but places where a model can be had. What is merged into a target: `target`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::target::{Candidate, Written, copy, leaf, merge, rank, ranks, settle};
use super::{Checker, MODEL_CHARACTERS, is_model_name};
use crate::config::error::{Place, nearest, quote};
use crate::config::policy::{Affinity, Disconnect, Model, Policy, Strategy};
use crate::config::prices::{self, Prices};
use crate::config::raw::{self, At};
use crate::config::snapshot::{OnLoss, Provider};
use crate::id::{ModelName, ProviderName};

/// An entry names an entry that names an entry ..: more than this is a slip of the pen.
const MOST_NESTED: usize = 16;
const MOST_TARGETS: usize = 256;

/// What the entries stand on.
pub(super) struct Ground<'a> {
    /// Names as typed, also of those that could not be read.
    pub order: &'a [String],
    pub providers: &'a BTreeMap<ProviderName, Arc<Provider>>,
    /// What is written at the top.
    pub policy: Arc<Policy>,
    pub on_loss: OnLoss,
    pub strict: bool,
    pub prices: &'a Prices,
}

/// What goes into the snapshot.
#[derive(Default)]
pub(super) struct Models {
    pub by_name: HashMap<ModelName, Arc<Model>>,
    pub wildcards: Vec<Arc<Model>>,
    pub order: Vec<ModelName>,
}

/// Entries name each other in any order, so each is resolved when it is first needed.
struct Resolver<'a, 'c> {
    checker: &'a mut Checker<'c>,
    ground: &'a Ground<'a>,
    providers: HashSet<&'a str>,
    entries: &'a [(At<String>, raw::Model)],
    by_name: HashMap<&'a str, usize>,
    found: Vec<State>,
    /// The entries that are being resolved, the outermost first.
    trail: Vec<usize>,
}

#[derive(Clone)]
enum State {
    Untouched,
    Open,
    /// `None`: it is at fault, which has been told.
    Done(Option<Resolved>),
}

#[derive(Clone)]
struct Resolved {
    model: Arc<Model>,
    /// Levels of names below it.
    depth: usize,
}

/// What a target's text means.
enum Meaning {
    Place(Arc<Provider>, Arc<str>),
    Entry(Resolved),
}

impl Checker<'_> {
    pub(super) fn models(&mut self, entries: &[(At<String>, raw::Model)], ground: &Ground<'_>) -> Models {
        let mut resolver = Resolver {
            checker: self,
            ground,
            providers: ground.order.iter().map(String::as_str).collect(),
            entries,
            by_name: entries.iter().enumerate().map(|(n, (name, _))| (name.value.as_str(), n)).collect(),
            found: vec![State::Untouched; entries.len()],
            trail: Vec::new(),
        };
        let mut models = Models::default();
        for n in 0..entries.len() {
            let Some(Resolved { model, .. }) = resolver.entry(n) else { continue };
            if model.listed {
                models.order.push(model.name.clone());
                models.by_name.insert(model.name.clone(), model);
            } else {
                models.wildcards.push(model);
            }
        }
        // the most specific first; the sort keeps the order of the file among equals
        models.wildcards.sort_by_key(|model| std::cmp::Reverse(model.name.as_str().len()));
        self.fallbacks(entries, &models, ground);
        models
    }

    fn model_name(&mut self, name: &At<String>, path: &str) {
        let stars = name.value.matches('*').count();
        if stars > 1 {
            let message = format!("{path}: {} has {stars} \"*\": keep one", quote(&name.value));
            self.faults.wrong(name.place, path, message);
        } else if name.value != "*" && !is_model_name(&name.value.replace('*', "x")) {
            let message = format!("model name {}: use 1 to 256 {MODEL_CHARACTERS}, and one *", quote(&name.value));
            self.faults.wrong(name.place, path, message);
        }
    }

    fn affinity(&mut self, typed: &raw::Affinity, path: &str) -> Affinity {
        if let Some(at) = &typed.header {
            return match at.value.parse() {
                Ok(name) => Affinity::Header(name),
                Err(_) => {
                    let message = format!("{path}: {} is not a header name: use letters, digits and -", at.quoted());
                    self.faults.wrong(at.place, path, message);
                    Affinity::Off
                }
            };
        }
        match typed.word.as_deref() {
            Some("prefix") => Affinity::Prefix,
            Some("session") => Affinity::Session,
            _ => Affinity::Off,
        }
    }

    /// `base`, with what the entry says on top; the same one when it says nothing.
    fn policy(&mut self, base: &Arc<Policy>, typed: &raw::Model, path: &str) -> Arc<Policy> {
        let total = typed.timeouts.as_ref().and_then(|timeouts| timeouts.total.as_ref());
        if typed.retry.is_none()
            && typed.hedge.is_none()
            && typed.fallback.is_none()
            && typed.resume.is_none()
            && typed.disconnect.is_none()
            && total.is_none()
        {
            return Arc::clone(base);
        }
        let mut fallback = base.fallback.clone();
        if let Some(typed) = &typed.fallback {
            let name = |at: &At<String>| ModelName::new(at.value.as_str());
            fallback.context_length = typed.context_length.as_ref().map(name).or(fallback.context_length);
            fallback.content_filter = typed.content_filter.as_ref().map(name).or(fallback.content_filter);
        }
        Arc::new(Policy {
            retry: self.retry(&base.retry, typed.retry.as_ref(), &format!("{path}.retry")),
            hedge: match &typed.hedge {
                Some(hedge) => self.hedge(hedge, &format!("{path}.hedge")),
                None => base.hedge,
            },
            fallback,
            resume: typed.resume.unwrap_or(base.resume),
            disconnect: match typed.disconnect {
                None => base.disconnect,
                Some(raw::Disconnect::Cancel) => Disconnect::Cancel,
                Some(raw::Disconnect::Drain) => Disconnect::Drain,
                Some(raw::Disconnect::Estimate) => Disconnect::Estimate,
            },
            total: total.map(|at| at.value.0).or(base.total),
        })
    }
}

// === impl Resolver ===

impl<'a> Resolver<'a, '_> {
    fn entry(&mut self, n: usize) -> Option<Resolved> {
        if let Some(State::Done(found)) = self.found.get(n) {
            return found.clone();
        }
        let (name, typed) = self.entries.get(n)?;
        self.set(n, State::Open);
        self.trail.push(n);
        let found = self.resolve(name, typed);
        self.trail.pop();
        self.set(n, State::Done(found.clone()));
        found
    }

    fn set(&mut self, n: usize, state: State) {
        if let Some(slot) = self.found.get_mut(n) {
            *slot = state;
        }
    }

    fn resolve(&mut self, name: &'a At<String>, typed: &'a raw::Model) -> Option<Resolved> {
        let path = format!("models.{}", name.value);
        self.checker.model_name(name, &path);
        self.checker.judge_timeouts(typed.timeouts.as_ref(), &format!("{path}.timeouts"));
        self.checker.judge_breaker(typed.breaker.as_ref(), &format!("{path}.breaker"));
        self.judge_price(typed.price.as_ref(), &path);
        let written = self.written(name.place, typed, &path)?;
        let has_star = name.value.contains('*');
        let (mut candidates, mut depth, mut whole) = (Vec::new(), 0, true);
        // `target: other` makes another name of the other one: what is not written is as there
        let mut other: Option<Arc<Model>> = None;
        for target in &written {
            self.judge_target(target);
            match self.meaning(target) {
                None => whole = false,
                Some(Meaning::Place(provider, upstream)) => {
                    self.judge_upstream(target, &upstream, &name.value, has_star);
                    let base = leaf(provider, upstream, self.ground.prices);
                    candidates.push(Candidate { rank: rank(target, 1), target: merge(base, typed, target) });
                }
                Some(Meaning::Entry(found)) => {
                    depth = depth.max(found.depth + 1);
                    self.judge_nested(target, &found.model, &name.value, has_star);
                    let ranks = ranks(&found.model);
                    for (nested, own) in found.model.targets.iter().zip(ranks) {
                        let mut candidate =
                            Candidate { rank: rank(target, own), target: merge(copy(nested), typed, target) };
                        if target.typed.is_none() {
                            candidate.rank = (nested.priority, 1);
                        }
                        candidates.push(candidate);
                    }
                    if target.typed.is_none() {
                        other = Some(found.model);
                    }
                }
            }
        }
        let ground = self.ground;
        let base = other.as_ref();
        let policy = self.checker.policy(base.map_or(&ground.policy, |model| &model.policy), typed, &path);
        let affinity = match &typed.affinity {
            Some(affinity) => self.checker.affinity(affinity, &format!("{path}.affinity")),
            None => base.map_or_else(Affinity::default, |model| model.affinity.clone()),
        };
        let targets = settle(candidates);
        if !whole || targets.is_empty() {
            return None;
        }
        if targets.len() > MOST_TARGETS {
            let message = format!("{path} has {} targets, more than {MOST_TARGETS}: make it smaller", targets.len());
            self.checker.faults.wrong(name.place, &path, message);
            return None;
        }
        let model = Model {
            name: ModelName::new(name.value.as_str()),
            targets,
            strategy: typed.strategy.map_or(base.map_or_else(Strategy::default, |model| model.strategy), strategy),
            affinity,
            policy,
            on_loss: typed.on_loss.map_or(base.map_or(ground.on_loss, |model| model.on_loss), super::on_loss),
            listed: !has_star,
        };
        Some(Resolved { model: Arc::new(model), depth })
    }

    /// The targets as typed; `None`: there is none, which has been told.
    fn written(&mut self, place: Place, typed: &'a raw::Model, path: &str) -> Option<Vec<Written<'a>>> {
        let faults = &mut self.checker.faults;
        let list = match (&typed.target, &typed.targets) {
            (Some(at), None) => return Some(vec![Written { at, typed: None, path: path.to_owned() }]),
            (None, Some(list)) => list,
            (Some(_), Some(list)) => {
                let message = format!("{path} has both \"target\" and \"targets\": remove one");
                faults.wrong(list.place, path, message);
                return None;
            }
            (None, None) => {
                let message = format!(
                    "{path} has neither \"target\" nor \"targets\": write one, for example \"target: openai/gpt-5\""
                );
                faults.missing(place, path, message);
                return None;
            }
        };
        let path = format!("{path}.targets");
        if list.value.is_empty() {
            faults.missing(list.place, &path, format!("{path} is empty: write for example \"[openai/gpt-5]\""));
        }
        let mut seen = HashSet::with_capacity(list.value.len());
        for target in list.value.iter().filter_map(|target| target.value.model.as_ref()) {
            if !seen.insert(target.value.as_str()) {
                let message = format!("{path}: {} is written twice: remove one", target.quoted());
                faults.wrong(target.place, &path, message);
            }
        }
        let weights = || list.value.iter().map(|target| target.value.weight.as_ref());
        if let Some(Some(first)) = weights().next()
            && weights().all(|weight| weight.is_some_and(|at| at.value == 0))
        {
            let message = format!("{path}: every weight is 0, so that no target has a share: write 1 or more for one");
            faults.wrong(first.place, &path, message);
        }
        let written = list.value.iter().enumerate().filter_map(|(n, target)| {
            let at = target.value.model.as_ref()?;
            Some(Written { at, typed: Some(&target.value), path: format!("{path}[{n}]") })
        });
        Some(written.collect())
    }

    fn judge_target(&mut self, target: &Written<'_>) {
        let Some(typed) = target.typed else { return };
        self.checker.judge_timeouts(typed.timeouts.as_ref(), &format!("{}.timeouts", target.path));
        self.checker.judge_breaker(typed.breaker.as_ref(), &format!("{}.breaker", target.path));
        self.judge_price(typed.price.as_ref(), &target.path);
    }

    fn judge_price(&mut self, typed: Option<&At<raw::Price>>, path: &str) {
        if let Some(price) = typed {
            prices::judge(price, &format!("{path}.price"), &mut self.checker.faults);
        }
    }

    /// `provider/model` where there is such a provider, else the name of an entry. `None`: neither, or at fault itself; told.
    fn meaning(&mut self, target: &Written<'_>) -> Option<Meaning> {
        let Written { at, path, .. } = target;
        let split = at.value.split_once('/').filter(|(provider, model)| !provider.is_empty() && !model.is_empty());
        if let Some((provider, upstream)) = split
            && self.providers.contains(provider)
        {
            // one that could not be read has been told
            let provider = self.ground.providers.get(provider)?;
            return Some(Meaning::Place(Arc::clone(provider), upstream.into()));
        }
        if let Some(&n) = self.by_name.get(at.value.as_str()) {
            return self.named(n, at, path).map(Meaning::Entry);
        }
        match split {
            Some((provider, _)) => {
                let quoted = if at.quoted().starts_with('"') { quote(provider) } else { at.quoted() };
                self.checker.unknown_provider(at, &quoted, provider, path, self.ground.order);
            }
            None => {
                let advice = match nearest(&at.value, self.by_name.keys().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "write for example \"openai/gpt-5\"".to_owned(),
                };
                let message =
                    format!("{path}: {} is neither \"provider/model\" nor the name of an entry: {advice}", at.quoted());
                // an entry of this name may be there, and could not be read
                self.checker.faults.missing(at.place, format!("models.{}", at.value), message);
            }
        }
        None
    }

    /// Another entry, resolved.
    fn named(&mut self, n: usize, at: &At<String>, path: &str) -> Option<Resolved> {
        if let Some(from) = self.trail.iter().position(|open| *open == n) {
            let round = self.trail.iter().skip(from).chain([&n]);
            let names: Vec<&str> =
                round.filter_map(|n| self.entries.get(*n)).map(|(name, _)| name.value.as_str()).collect();
            let message =
                format!("{path}: the entries name each other in a circle ({}): take one out", names.join(" -> "));
            self.checker.faults.wrong(at.place, path, message);
            return None;
        }
        let found = if self.trail.len() > MOST_NESTED { None } else { Some(self.entry(n)) };
        match found {
            Some(found) if found.as_ref().is_none_or(|found| found.depth < MOST_NESTED) => found,
            Some(_) | None => {
                let message =
                    format!("{path}: more than {MOST_NESTED} entries name each other in a row: write the targets here");
                self.checker.faults.wrong(at.place, path, message);
                None
            }
        }
    }

    fn judge_upstream(&mut self, target: &Written<'_>, upstream: &str, name: &str, has_star: bool) {
        let Written { at, path, .. } = target;
        let stars = upstream.matches('*').count();
        let message =
            if upstream.len() > 256 || !upstream.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\')) {
                format!("{path}: the model in {} has a space or an unusual character: use printable ASCII", at.quoted())
            } else if stars > 1 {
                format!("{path}: {} has {stars} \"*\": keep one", at.quoted())
            } else if stars == 1 && !has_star {
                no_star(path, at, name)
            } else {
                return;
            };
        self.checker.faults.wrong(at.place, path, message);
    }

    fn judge_nested(&mut self, target: &Written<'_>, found: &Model, name: &str, has_star: bool) {
        if !has_star && found.targets.iter().any(|nested| nested.upstream.contains('*')) {
            let message = no_star(&target.path, target.at, name);
            self.checker.faults.wrong(target.at.place, &target.path, message);
        }
    }
}

fn no_star(path: &str, at: &At<String>, name: &str) -> String {
    format!(
        "{path}: nothing takes the place of the \"*\" in {}, since {} has none: write one there, or the model's whole name",
        at.quoted(),
        quote(name)
    )
}

fn strategy(typed: raw::Strategy) -> Strategy {
    match typed {
        raw::Strategy::Priority => Strategy::Priority,
        raw::Strategy::Weighted => Strategy::Weighted,
        raw::Strategy::Cost => Strategy::Cost,
        raw::Strategy::Latency => Strategy::Latency,
        raw::Strategy::LeastBusy => Strategy::LeastBusy,
    }
}
