//! Rules: patterns, conditions, and whether the model they name is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::HeaderName;

use super::{Checker, is_model_name};
use crate::config::condition::{Condition, HIDDEN, Match, NoCondition, Rule};
use crate::config::error::{nearest, quote};
use crate::config::policy::Model;
use crate::config::raw::{self, At, Map, OneOrMany};
use crate::config::snapshot::{Pattern, Provider};
use crate::id::{ModelName, ProviderName};

/// What a rule's `model` may name.
pub(super) struct Known<'a> {
    pub models: &'a HashMap<ModelName, Arc<Model>>,
    pub wildcards: &'a [Arc<Model>],
    pub providers: &'a BTreeMap<ProviderName, Arc<Provider>>,
}

impl Checker<'_> {
    pub(super) fn rules(&mut self, typed: Vec<At<raw::Route>>, known: &Known<'_>) -> Vec<Rule> {
        let mut rules = Vec::with_capacity(typed.len());
        for (index, at) in typed.into_iter().enumerate() {
            let path = format!("routes[{index}]");
            let raw::Route { name, matches, when, model } = at.value;
            let name = name.map_or_else(|| path.clone(), |name| self.rule_name(&name, &path));
            let matches = self.matches(matches.unwrap_or_default(), &path);
            let when = when.and_then(|text| self.condition(&text, &path));
            let Some(model) = model.filter(|model| self.rule_model(model, known, &path)) else { continue };
            rules.push(Rule { name: name.into(), matches, when, model: ModelName::new(model.value) });
        }
        rules
    }

    fn rule_name(&mut self, name: &At<String>, path: &str) -> String {
        if !(1..=128).contains(&name.value.len()) || name.value.chars().any(char::is_control) {
            let message = format!("{path}.name: {}: use 1 to 128 characters, no control characters", name.quoted());
            self.faults.wrong(name.place, path, message);
        }
        name.value.clone()
    }

    fn matches(&mut self, typed: raw::RouteMatch, path: &str) -> Match {
        let raw::RouteMatch { model, key, header, tag, path: paths } = typed;
        let mut header_fields = Vec::new();
        for (name, values) in header.unwrap_or_default().0 {
            match name.value.parse::<HeaderName>() {
                Ok(field) if !HIDDEN.contains(&field.as_str()) => header_fields.push((field, patterns(Some(values)))),
                Ok(_) => {
                    let message = format!(
                        "{path}.match.header: {} holds a credential, which no rule may see: match the key's name or tags",
                        quote(&name.value)
                    );
                    self.faults.wrong(name.place, path, message);
                }
                Err(_) => {
                    let message = format!("{path}.match.header: {} is not a header's name", quote(&name.value));
                    self.faults.wrong(name.place, path, message);
                }
            }
        }
        let tags = |Map(tags): Map<OneOrMany<At<String>>>| {
            tags.into_iter().map(|(tag, values)| (tag.value.into(), patterns(Some(values)))).collect()
        };
        Match {
            model: patterns(model),
            key: patterns(key),
            header: header_fields,
            tag: tag.map(tags).unwrap_or_default(),
            path: patterns(paths),
        }
    }

    fn condition(&mut self, text: &At<String>, path: &str) -> Option<Condition> {
        match Condition::compile(&text.value) {
            Ok(condition) => Some(condition),
            Err(NoCondition { at, what }) => {
                let place = match at {
                    Some((1, column)) => format!(", column {column}"),
                    Some((line, column)) => format!(", line {line}, column {column}"),
                    None => String::new(),
                };
                self.faults.wrong(text.place, path, format!("{path}.when{place}: {what}"));
                None
            }
        }
    }

    /// Whether the name stands for something; else it is told.
    fn rule_model(&mut self, model: &At<String>, known: &Known<'_>, path: &str) -> bool {
        let name = model.value.as_str();
        let entry = known.models.contains_key(name);
        let fits = |wildcard: &Arc<Model>| wildcard.pattern().is_some_and(|pattern| pattern.matches(name));
        let written = name.split_once("/").filter(|(_, model)| !model.is_empty());
        let provider =
            written.is_some_and(|(provider, model)| known.providers.contains_key(provider) && !model.contains('*'));
        if entry || provider || (is_model_name(name) && known.wildcards.iter().any(fits)) {
            return true;
        }
        let names = known.models.keys().map(ModelName::as_str);
        let advice = match (nearest(name, names), written) {
            (Some(near), _) if !name.contains('*') => format!("did you mean \"{near}\"?"),
            _ if name.contains('*') => "write a name without \"*\"".to_owned(),
            (_, Some((provider, _))) => format!("there is no provider {} either", quote(provider)),
            (_, None) => "write a name under \"models\", or \"provider/model\"".to_owned(),
        };
        // not told when the models or providers themselves could not be read
        let message = format!("{path}.model: no model {} under \"models\": {advice}", model.quoted());
        let missing = if written.is_some() { "providers" } else { "models" };
        self.faults.missing(model.place, missing, message);
        false
    }
}

fn patterns(typed: Option<OneOrMany<At<String>>>) -> Vec<Pattern> {
    typed.map(|OneOrMany(list)| list.iter().map(|at| Pattern::new(&at.value)).collect()).unwrap_or_default()
}
