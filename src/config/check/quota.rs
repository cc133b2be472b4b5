//! Limits, budgets and caps: what was typed becomes rules, one for each thing that is counted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::{Checker, MODEL_CHARACTERS, is_model_name};
use crate::config::error::{Place, nearest, quote};
use crate::config::quota::{Caps, Measure, Models, OnOutage, One, Own, Rule, Rules, Scope, Unit, Window};
use crate::config::raw::{self, At, Map, OneOrMany};
use crate::config::snapshot::Pattern;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The same rules are made once, however many keys they are written on.
#[derive(Debug, Default)]
pub(super) struct Owns(HashMap<String, Arc<Own>>);

/// What is written of limits, wherever it stands.
struct Limits<'a> {
    rates: [(Measure, Duration, Option<u64>); 6],
    concurrency: Option<u64>,
    burst: Option<&'a At<u64>>,
    on_outage: OnOutage,
    shadow: bool,
}

/// Which rules there are already, and in which line.
type Seen = HashMap<u64, Place>;

// === impl Checker ===

impl Checker<'_> {
    /// Those at the top. `providers`: the names there are.
    pub(super) fn quotas(
        &mut self,
        limits: Vec<At<raw::Limit>>,
        budgets: Vec<At<raw::Budget>>,
        providers: &[String],
    ) -> Rules {
        let mut all = Vec::new();
        let mut seen = Seen::new();
        for (index, at) in limits.into_iter().enumerate() {
            let path = format!("limits[{index}]");
            let (matches, typed) = split_limit(at.value);
            let scope = self.scope(matches, &path, providers);
            let made = self.limits(&typed, &scope, at.place, &path);
            self.add(made, &mut all, &mut seen, at.place, &path);
        }
        for (index, at) in budgets.into_iter().enumerate() {
            let path = format!("budgets[{index}]");
            let (matches, typed) = split_budget(at.value);
            let scope = self.scope(matches, &path, providers);
            let made = self.budget(&typed, &scope, &path).into_iter().collect();
            self.add(made, &mut all, &mut seen, at.place, &path);
        }
        Rules::new(all.into_iter().map(Arc::new).collect())
    }

    /// Those on a key. `None`: nothing is written.
    pub(super) fn own(
        &mut self,
        limits: Option<At<raw::KeyLimits>>,
        budgets: Option<OneOrMany<At<raw::KeyBudget>>>,
        caps: Option<raw::Caps>,
        path: &str,
        owns: &mut Owns,
    ) -> Option<Arc<Own>> {
        let scope = Scope::of_key();
        let mut own = Own::default();
        let mut seen = Seen::new();
        if let Some(at) = limits {
            let path = format!("{path}.limits");
            own.limits = self.limits(&at.value, &scope, at.place, &path).into_iter().map(Arc::new).collect();
        }
        let mut made = Vec::new();
        for (index, at) in budgets.map(|OneOrMany(list)| list).unwrap_or_default().into_iter().enumerate() {
            let path = format!("{path}.budget[{index}]");
            let budget = self.budget(&at.value, &scope, &path).into_iter().collect();
            self.add(budget, &mut made, &mut seen, at.place, &path);
        }
        own.budgets = made.into_iter().map(Arc::new).collect();
        if let Some(raw::Caps { tokens, usd }) = caps {
            own.caps = Caps { tokens, usd: usd.map(|at| at.value.0) };
        }
        (!own.limits.is_empty() || !own.budgets.is_empty() || own.caps != Caps::default()).then(|| owns.share(own))
    }

    /// A rule that counts the same as another would share its counter.
    fn add(&mut self, made: Vec<Rule>, all: &mut Vec<Rule>, seen: &mut Seen, place: Place, path: &str) {
        for rule in made {
            match seen.entry(rule.id) {
                Entry::Vacant(slot) => {
                    slot.insert(place);
                    all.push(rule);
                }
                Entry::Occupied(first) => {
                    let line = first.get().line;
                    let message =
                        format!("{path}: {} is written in line {line} already: remove one", quote(&rule.name));
                    self.faults.wrong(place, path, message);
                }
            }
        }
    }

    fn scope(&mut self, matches: Option<Map<At<String>>>, path: &str, providers: &[String]) -> Scope {
        let mut scope = Scope::default();
        let mut tags = Vec::new();
        for (name, value) in matches.unwrap_or_default().0 {
            let within = format!("{path}.match");
            let path = format!("{within}.{}", name.value);
            let one = if value.value == "*" { One::Each } else { One::Is(value.value.as_str().into()) };
            match name.value.as_str() {
                "key" => scope.key = Some(one),
                "provider" => {
                    if one != One::Each && !providers.contains(&value.value) {
                        self.unknown_provider(&value, &value.quoted(), &value.value, &path, providers);
                    }
                    scope.provider = Some(one);
                }
                "model" if one == One::Each => scope.model = Some(Models::Each),
                "model" => {
                    if !is_model_name(&value.value.replace('*', "x")) {
                        let message = format!("{path}: {}: use 1 to 256 {MODEL_CHARACTERS}, and *", value.quoted());
                        self.faults.wrong(value.place, &path, message);
                    }
                    scope.model = Some(Models::Like(Pattern::new(&value.value)));
                }
                _ => tags.push(self.tag(name, value, &within)),
            }
        }
        let mut tags: Vec<_> = tags.into_iter().map(|(name, value)| (name, one_of(&value))).collect();
        tags.sort_by(|(a, _), (b, _)| a.cmp(b));
        scope.tags = tags.into();
        scope
    }

    fn limits(&mut self, typed: &raw::KeyLimits, scope: &Scope, place: Place, path: &str) -> Vec<Rule> {
        let limits = Limits::of(typed);
        let mut made = Vec::new();
        let mut burst = limits.burst;
        for (of, every, amount) in limits.rates {
            let Some(amount) = amount else { continue };
            let amount = i64::try_from(amount).unwrap_or(i64::MAX);
            // it belongs to the shortest of them
            let size = if of == Measure::Requests { burst.take() } else { None };
            let size = size.map_or(amount, |at| i64::try_from(at.value).unwrap_or(i64::MAX));
            made.push(Rule::new(scope.clone(), of, amount, Window::Rate { every, burst: size }));
        }
        if let Some(amount) = limits.concurrency {
            let amount = i64::try_from(amount).unwrap_or(i64::MAX);
            made.push(Rule::new(scope.clone(), Measure::Concurrency, amount, Window::Now));
        }
        if made.is_empty() {
            let message =
                format!("{path} limits nothing: write one of rpm, rph, rpd, tpm, tph, tpd, concurrency, or remove it");
            self.faults.missing(place, path, message);
        } else if let Some(at) = burst {
            let message = format!("{path}.burst: there is no rpm, rph or rpd that it could belong to: write one");
            self.faults.wrong(at.place, path, message);
        }
        for rule in &mut made {
            (rule.on_outage, rule.shadow) = (limits.on_outage, limits.shadow);
        }
        made
    }

    fn budget(&mut self, typed: &raw::KeyBudget, scope: &Scope, path: &str) -> Option<Rule> {
        let zone = typed.zone.as_ref().map_or(Some(TimeZone::UTC), |at| self.zone(at, path));
        let (usd, per) = (typed.usd.as_ref()?, typed.per.as_ref()?);
        let calendar = |unit| zone.clone().map(|zone| Window::Calendar { unit, zone });
        let window = match (per.value.word.as_deref(), &per.value.rolling) {
            (Some("day"), _) => calendar(Unit::Day),
            (Some("week"), _) => calendar(Unit::Week),
            (Some("month"), _) => calendar(Unit::Month),
            (_, Some(time)) => Some(Window::Rolling(time.value.0)),
            (_, None) => Some(Window::Lifetime),
        };
        if let (Some(at), Some(Window::Rolling(_) | Window::Lifetime)) = (&typed.zone, &window) {
            let message = format!("{path}.zone means nothing here: only days, weeks and months begin by the clock");
            self.faults.wrong(at.place, path, message);
        }
        let mut rule = Rule::new(scope.clone(), Measure::Usd, usd.value.0.0, window?);
        rule.soft = match &typed.soft {
            None => Box::new([80, 95]),
            Some(OneOrMany(list)) => self.soft(list, path),
        };
        rule.on_outage = typed.on_outage.map_or(OnOutage::Closed, on_outage);
        match typed.allowance.as_ref().map(|at| at.value) {
            None => {}
            Some(raw::Allowance::Share(percent)) => {
                let share = i128::from(rule.amount) * i128::from(percent) / 100;
                rule.allowance = i64::try_from(share).unwrap_or(i64::MAX);
            }
            Some(raw::Allowance::Usd(usd)) => rule.allowance = usd.0,
        }
        rule.shadow = typed.shadow.unwrap_or(false);
        Some(rule)
    }

    fn soft(&mut self, list: &[At<raw::Percent>], path: &str) -> Box<[u8]> {
        let mut soft: Vec<u8> = list.iter().map(|at| at.value.0).collect();
        for at in list.iter().filter(|at| at.value.0 == 0) {
            let message = format!("{path}.soft: 0 % is passed before anything is spent: write 1% to 100%");
            self.faults.wrong(at.place, path, message);
        }
        soft.sort_unstable();
        soft.dedup();
        soft.into()
    }

    fn zone(&mut self, at: &At<String>, path: &str) -> Option<TimeZone> {
        if let Ok(zone) = TimeZone::get(&at.value) {
            return Some(zone);
        }
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
        let advice = match nearest(&at.value, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if names.is_empty() => "this machine knows none: install its time zones (tzdata)".to_owned(),
            None => "write for example \"Europe/Berlin\"".to_owned(),
        };
        self.faults.wrong(at.place, path, format!("{path}.zone: {} is not a time zone: {advice}", at.quoted()));
        None
    }
}

fn one_of(value: &Arc<str>) -> One {
    if &**value == "*" { One::Each } else { One::Is(Arc::clone(value)) }
}

fn on_outage(typed: raw::OnOutage) -> OnOutage {
    match typed {
        raw::OnOutage::Local => OnOutage::Local,
        raw::OnOutage::Open => OnOutage::Open,
        raw::OnOutage::Closed => OnOutage::Closed,
    }
}

fn split_limit(typed: raw::Limit) -> (Option<Map<At<String>>>, raw::KeyLimits) {
    let raw::Limit { matches, rpm, rph, rpd, tpm, tph, tpd, concurrency, burst, on_outage, shadow } = typed;
    (matches, raw::KeyLimits { rpm, rph, rpd, tpm, tph, tpd, concurrency, burst, on_outage, shadow })
}

fn split_budget(typed: raw::Budget) -> (Option<Map<At<String>>>, raw::KeyBudget) {
    let raw::Budget { matches, usd, per, soft, zone, on_outage, allowance, shadow } = typed;
    (matches, raw::KeyBudget { usd, per, soft, zone, on_outage, allowance, shadow })
}

// === impl Owns, Limits ===

impl Owns {
    fn share(&mut self, own: Own) -> Arc<Own> {
        let rules = own.limits.iter().chain(&own.budgets);
        let text: Vec<String> = rules
            .map(|rule| {
                let Rule { id, amount, window, soft, on_outage, allowance, shadow, .. } = &**rule;
                format!("{id} {amount} {window:?} {soft:?} {on_outage:?} {allowance} {shadow}")
            })
            .collect();
        let text = format!("{text:?} {:?}", own.caps);
        Arc::clone(self.0.entry(text).or_insert_with(|| Arc::new(own)))
    }
}

impl<'a> Limits<'a> {
    fn of(typed: &'a raw::KeyLimits) -> Self {
        let raw::KeyLimits { rpm, rph, rpd, tpm, tph, tpd, concurrency, burst, on_outage: outage, shadow } = typed;
        Limits {
            rates: [
                (Measure::Requests, MINUTE, *rpm),
                (Measure::Requests, HOUR, *rph),
                (Measure::Requests, DAY, *rpd),
                (Measure::Tokens, MINUTE, *tpm),
                (Measure::Tokens, HOUR, *tph),
                (Measure::Tokens, DAY, *tpd),
            ],
            concurrency: *concurrency,
            burst: burst.as_ref(),
            on_outage: outage.map_or(OnOutage::Local, on_outage),
            shadow: shadow.unwrap_or(false),
        }
    }
}
