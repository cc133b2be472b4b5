//! Which rules a call falls under, found by what the call is: the work grows with the rules that apply, not with those there are.
//!
//! Each rule stands in one list, under the narrowest thing its scope names (a key, a tag's value, a provider, a model); the rest of the scope is
//! looked at when the rule is found. Patterns of model names are the one thing that is tried rule by rule.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Measure, Models, One, Rule, Scope, Who};

/// All rules but those written on a key itself ([`super::Own`]).
#[derive(Debug, Default)]
pub struct Rules {
    /// In the order of the file: limits, then budgets.
    pub all: Box<[Arc<Rule>]>,
    /// Limits in which no provider is named: judged once for a call.
    call: Index,
    /// Limits in which one is: judged for each attempt.
    attempt: Index,
    budgets: Index,
}

/// Places in `Rules::all`.
#[derive(Debug, Default)]
struct Index {
    key: HashMap<Arc<str>, Vec<u32>>,
    tag: HashMap<Arc<str>, Tag>,
    provider: HashMap<Arc<str>, Vec<u32>>,
    model: HashMap<Box<str>, Vec<u32>>,
    /// Whose scope names no value that could be looked up.
    others: Vec<u32>,
}

#[derive(Debug, Default)]
struct Tag {
    is: HashMap<Arc<str>, Vec<u32>>,
    each: Vec<u32>,
}

// === impl Rules ===

impl Rules {
    pub fn new(all: Vec<Arc<Rule>>) -> Self {
        let mut rules = Rules { all: all.into(), ..Rules::default() };
        for (place, rule) in (0..).zip(&rules.all) {
            match (rule.of, &rule.scope.provider) {
                (Measure::Usd, _) => rules.budgets.add(&rule.scope, place),
                (_, None) => rules.call.add(&rule.scope, place),
                (_, Some(_)) => rules.attempt.add(&rule.scope, place),
            }
        }
        rules
    }

    /// The limits that a call must keep, those of its key first.
    pub fn of_call<'a>(&'a self, who: &Who<'a>) -> Vec<&'a Arc<Rule>> {
        let mut found = Vec::new();
        if let Some(own) = who.key.and_then(|key| key.own.as_ref()) {
            found.extend(&own.limits);
        }
        self.find(&self.call, who, None, &mut found);
        found
    }

    /// The budgets that pay for an attempt, those of the key first, and the limits of its provider.
    pub fn of_attempt<'a>(&'a self, who: &Who<'a>, provider: &str) -> Vec<&'a Arc<Rule>> {
        let mut found = Vec::new();
        if let Some(own) = who.key.and_then(|key| key.own.as_ref()) {
            found.extend(&own.budgets);
        }
        self.find(&self.attempt, who, Some(provider), &mut found);
        self.find(&self.budgets, who, Some(provider), &mut found);
        found
    }

    /// Whether what the call costs must be known: a budget that is not just watched pays for it. `provider: None`: whichever is asked.
    pub fn has_budget(&self, who: &Who<'_>, provider: Option<&str>) -> bool {
        let own = who.key.and_then(|key| key.own.as_ref());
        if own.is_some_and(|own| own.budgets.iter().any(|rule| !rule.shadow)) {
            return true;
        }
        let mut found = Vec::new();
        if provider.is_some() {
            self.find(&self.budgets, who, provider, &mut found);
        } else {
            found.extend(self.all.iter().filter(|rule| rule.of == Measure::Usd && rule.scope.fits_somewhere(who)));
        }
        found.iter().any(|rule| !rule.shadow)
    }

    fn find<'a>(&'a self, index: &'a Index, who: &Who<'_>, provider: Option<&str>, found: &mut Vec<&'a Arc<Rule>>) {
        index.each(who, provider, |place| {
            let rule = usize::try_from(place).ok().and_then(|place| self.all.get(place));
            found.extend(rule.filter(|rule| rule.scope.fits(who, provider)));
        });
    }
}

// === impl Index ===

impl Index {
    fn add(&mut self, scope: &Scope, place: u32) {
        let exact = scope.tags.iter().find_map(|(name, one)| match one {
            One::Is(value) => Some((name, value)),
            One::Each => None,
        });
        let list = if let Some(One::Is(name)) = &scope.key {
            self.key.entry(Arc::clone(name)).or_default()
        } else if let Some((name, value)) = exact {
            self.tag.entry(Arc::clone(name)).or_default().is.entry(Arc::clone(value)).or_default()
        } else if let Some((name, _)) = scope.tags.first() {
            &mut self.tag.entry(Arc::clone(name)).or_default().each
        } else if let Some(One::Is(name)) = &scope.provider {
            self.provider.entry(Arc::clone(name)).or_default()
        } else if let Some(Models::Like(pattern)) = &scope.model
            && !pattern.as_str().contains('*')
        {
            self.model.entry(pattern.as_str().into()).or_default()
        } else {
            &mut self.others
        };
        list.push(place);
    }

    /// Every place that may apply, each once.
    fn each(&self, who: &Who<'_>, provider: Option<&str>, mut see: impl FnMut(u32)) {
        let mut all = |list: Option<&Vec<u32>>| list.into_iter().flatten().for_each(|place| see(*place));
        if !self.key.is_empty() {
            all(who.key.and_then(|key| self.key.get(key.name.as_str())));
        }
        if !self.tag.is_empty() {
            for (n, (name, value)) in who.tags.iter().enumerate() {
                // the first value of a tag counts
                if who.tags.iter().take(n).any(|(other, _)| other == name) {
                    continue;
                }
                let Some(tag) = self.tag.get(name) else { continue };
                all(tag.is.get(value));
                all(Some(&tag.each));
            }
        }
        if !self.provider.is_empty() {
            all(provider.and_then(|name| self.provider.get(name)));
        }
        if !self.model.is_empty() {
            all(self.model.get(who.model));
        }
        all(Some(&self.others));
    }
}
