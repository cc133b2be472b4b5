//! Models that are asked when every target must refuse: whether there are such, and whether they lead anywhere.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Checker;
use super::model::{Ground, Models};
use crate::config::error::nearest;
use crate::config::policy::Model;
use crate::config::raw::{self, At};

type Entries = [(At<String>, raw::Model)];
type Of = fn(&raw::Fallback) -> Option<&At<String>>;

const REASONS: [(&str, Of); 2] = [
    ("context_length", |fallback| fallback.context_length.as_ref()),
    ("content_filter", |fallback| fallback.content_filter.as_ref()),
];

impl Checker<'_> {
    pub(super) fn fallbacks(&mut self, entries: &Entries, models: &Models, ground: &Ground<'_>) {
        let names = Names {
            entries,
            by_name: entries.iter().enumerate().map(|(n, (name, _))| (name.value.as_str(), n)).collect(),
            wildcards: &models.wildcards,
            providers: ground.order.iter().map(String::as_str).collect(),
        };
        for (n, (name, typed)) in entries.iter().enumerate() {
            let Some(fallback) = &typed.fallback else { continue };
            for (reason, of) in REASONS {
                let Some(at) = of(fallback) else { continue };
                let path = format!("models.{}.fallback.{reason}", name.value);
                if !self.exists(at, &names, ground.strict, &path) {
                    continue;
                }
                if let Some(round) = names.round(n, of) {
                    let message =
                        format!("{path}: this leads back to where it began ({}): write another", round.join(" -> "));
                    self.faults.wrong(at.place, &path, message);
                }
            }
        }
    }

    /// An entry, a name that fits one, or a provider's model.
    fn exists(&mut self, at: &At<String>, names: &Names<'_>, strict: bool, path: &str) -> bool {
        let text = at.value.as_str();
        let of_provider = names.is_providers(text);
        if !text.contains('*') && (names.entry(text).is_some() || (of_provider && !strict)) {
            return true;
        }
        let message = if of_provider && strict {
            format!("{path}: {} is no entry under \"models\", and \"strict\" serves no other: add one", at.quoted())
        } else {
            let whole = names.by_name.keys().copied().filter(|name| !name.contains('*'));
            let advice = match nearest(text, whole) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "write the name of an entry under \"models\", or \"provider/model\"".to_owned(),
            };
            format!("{path}: no model {}: {advice}", at.quoted())
        };
        // an entry of this name may be there, and could not be read
        self.faults.missing(at.place, format!("models.{text}"), message);
        false
    }
}

/// What a name can mean.
struct Names<'a> {
    entries: &'a Entries,
    by_name: HashMap<&'a str, usize>,
    wildcards: &'a [Arc<Model>],
    providers: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    fn is_providers(&self, text: &str) -> bool {
        text.split_once('/').is_some_and(|(provider, model)| self.providers.contains(provider) && !model.is_empty())
    }

    /// Of this name, or with a `*` that stands for a part of it.
    fn entry(&self, text: &str) -> Option<usize> {
        let fitting = || self.wildcards.iter().find(|model| model.pattern().is_some_and(|p| p.matches(text)));
        self.by_name.get(text).or_else(|| self.by_name.get(fitting()?.name.as_str())).copied()
    }

    /// The names from an entry back to itself, told at the first entry of the circle only.
    fn round(&self, start: usize, of: Of) -> Option<Vec<&'a str>> {
        let (mut at, mut names) = (start, Vec::new());
        loop {
            let (name, typed) = self.entries.get(at)?;
            names.push(name.value.as_str());
            at = self.entry(&of(typed.fallback.as_ref()?)?.value)?;
            if at == start {
                names.extend(names.first().copied());
                return Some(names);
            }
            // another circle, or one that began earlier in the file
            if at < start || names.len() > self.entries.len() {
                return None;
            }
        }
    }
}
