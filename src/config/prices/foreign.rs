//! What files of other projects have in common: objects whose members keep their text and their place, zeros that say nothing, and what our own
//! table knows beside them.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::catalogue;
use crate::config::error::Place;
use crate::config::tariff::{Rates, Tariff};
use crate::units::PicoUsdPerToken;

/// The members of an object in their order, each with its own text. What is no object has none.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(Vec<(String, &'a RawValue)>);

/// Line and column of a part of a text, counted from 1.
pub(super) fn place_of(text: &str, part: &RawValue) -> Place {
    let at = (part.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let before = text.get(..at).unwrap_or_default();
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: narrow(line), column: narrow(column) }
}

/// Whether a price says that nothing is paid. In these files that means as often that nobody wrote it down; who gets something for free says so
/// in the configuration.
pub(super) fn is_nothing(rates: &Rates) -> bool {
    let zero = |rate: Option<PicoUsdPerToken>| rate.is_none_or(|rate| rate.0 == 0);
    zero(rates.input) && zero(rates.output) && zero(rates.image_output) && zero(rates.audio_output)
}

/// Where our own table agrees on what both know, what only it knows counts as well.
pub(super) fn completed(mut tariff: Tariff, kind: &str, name: &str) -> Tariff {
    let Some(own) = catalogue::lookup(kind, name).and_then(|known| known.tariff) else { return tariff };
    let (rates, other) = (&mut tariff.standard.rates, &own.standard.rates);
    let differ = |a: Option<PicoUsdPerToken>, b: Option<PicoUsdPerToken>| a.zip(b).is_some_and(|(a, b)| a != b);
    if rates.input != other.input
        || rates.output != other.output
        || differ(rates.cached_input, other.cached_input)
        || differ(rates.cache_write_5m, other.cache_write_5m)
    {
        return tariff;
    }
    *rates = Rates {
        input: rates.input,
        cached_input: rates.cached_input.or(other.cached_input),
        cache_write_5m: rates.cache_write_5m.or(other.cache_write_5m),
        cache_write_1h: rates.cache_write_1h.or(other.cache_write_1h),
        output: rates.output,
        reasoning: rates.reasoning.or(other.reasoning),
        audio_input: rates.audio_input.or(other.audio_input),
        audio_output: rates.audio_output.or(other.audio_output),
        image_input: rates.image_input.or(other.image_input),
        image_output: rates.image_output.or(other.image_output),
        image: rates.image.or(other.image),
        request: rates.request.or(other.request),
        tool_call: rates.tool_call.or(other.tool_call),
        search: rates.search.or(other.search),
    };
    if tariff.standard.tiers.is_empty() {
        tariff.standard.tiers = own.standard.tiers.clone();
    }
    for (service, card) in &own.services {
        if tariff.services.iter().all(|(known, _)| known != service) {
            tariff.services.push((*service, card.clone()));
        }
    }
    tariff.in_region_percent = tariff.in_region_percent.or(own.in_region_percent);
    tariff
}

/// A tariff before its tiers and services are known.
pub(super) fn bare(rates: Rates, version: &Arc<str>, source: &str) -> Tariff {
    Tariff { version: Arc::clone(version), source: source.into(), ..Tariff::of_rates(rates) }
}

// === impl Members ===

impl<'a> Members<'a> {
    pub fn parse(text: &'a str) -> Option<Members<'a>> {
        serde_json::from_str(text).ok()
    }

    pub fn of(value: &'a RawValue) -> Members<'a> {
        Members::parse(value.get()).unwrap_or_default()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// The last of that name, as others would have it.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    pub fn object(&self, name: &str) -> Members<'a> {
        self.get(name).map(Members::of).unwrap_or_default()
    }

    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    pub fn flag(&self, name: &str) -> Option<bool> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// A whole number that is not 0.
    pub fn count(&self, name: &str) -> Option<u64> {
        serde_json::from_str::<u64>(self.get(name)?.get()).ok().filter(|count| *count > 0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}
