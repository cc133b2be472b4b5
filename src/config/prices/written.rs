//! A price as typed becomes a tariff. Pure; what is wrong with one is told, but not repaired.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::error::{Faults, Place};
use crate::config::raw::{At, Price, PriceService, PriceStep, Usd};
use crate::config::tariff::{Card, Rates, ServiceTier, Tariff, Texts, Tier};
use crate::units::{NanoUsd, PicoUsdPerToken, Tokens};

/// Where a tariff comes from.
#[derive(Debug, Clone)]
pub(in crate::config) struct Origin {
    pub version: Arc<str>,
    pub source: Arc<str>,
    pub checked: Option<Arc<str>>,
}

/// A tariff of what is written in the configuration itself. `None`: it says nothing, which has been told.
pub(in crate::config) fn own(typed: &Price) -> Option<Tariff> {
    if is_empty(typed) {
        return None;
    }
    let source: Arc<str> = "configuration".into();
    let mut tariff = tariff(typed, &Origin { version: Arc::clone(&source), source, checked: None });
    // the same words give the same version, wherever they stand
    let words = format!("{:?} {:?} {:?}", tariff.standard, tariff.services, tariff.in_region_percent);
    tariff.version = version("configuration", words.as_bytes());
    Some(tariff)
}

/// `NAME:5f3a09c1`: which table, and which state of it.
pub(in crate::config) fn version(name: &str, content: &[u8]) -> Arc<str> {
    let digest: [u8; 32] = Sha256::digest(content).into();
    let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{name}:{short}").into()
}

/// A tariff of what is written, as it stands. Steps that do not say what they are for are left out.
pub(in crate::config) fn tariff(typed: &Price, origin: &Origin) -> Tariff {
    let base = base_rates(typed);
    let steps = |typed: &Option<At<Vec<At<PriceStep>>>>| -> Vec<PriceStep> {
        typed.iter().flat_map(|list| &list.value).map(|step| step.value.clone()).collect()
    };
    let mut tiers: Vec<Tier> = Vec::new();
    for step in steps(&typed.above) {
        tiers.extend(step.tokens.map(|tokens| tier(tokens, &step, &base)));
    }
    let mut services: Vec<(ServiceTier, Card)> = Vec::new();
    for step in steps(&typed.services) {
        let Some(service) = step.tier.map(service) else { continue };
        let at = services.iter().position(|(other, _)| *other == service).unwrap_or(services.len());
        if at == services.len() {
            services.push((service, Card::default()));
        }
        let Some((_, card)) = services.get_mut(at) else { continue };
        match step.tokens {
            Some(tokens) => card.tiers.push(tier(tokens, &step, &base)),
            None => card.rates = step_rates(&step, &base),
        }
    }
    tiers.sort_by_key(|tier| tier.above);
    services.iter_mut().for_each(|(_, card)| card.tiers.sort_by_key(|tier| tier.above));
    Tariff {
        standard: Card { rates: base, tiers },
        services,
        regional_percent: 0,
        in_region_percent: typed.in_region.and_then(|percent| u8::try_from(percent).ok()),
        version: Arc::clone(&origin.version),
        source: Arc::clone(&origin.source),
        checked: origin.checked.clone(),
        texts: Texts::default(),
    }
}

/// What is wrong with a price.
pub(in crate::config) fn judge(typed: &At<Price>, path: &str, faults: &mut Faults) {
    let place = typed.place;
    let price = &typed.value;
    if is_empty(price) {
        faults.missing(place, path, format!("{path} has no price: write for example {{input: 2.50, output: 10}}"));
    }
    pair(price.input, price.output, place, path, faults);
    if let Some(list) = &price.above {
        let path = format!("{path}.above");
        let mut last = 0;
        for (n, step) in list.value.iter().enumerate() {
            let path = format!("{path}[{n}]");
            if step.value.tier.is_some() {
                let message =
                    format!("{path}: \"tier\" belongs under \"services\": remove it, or write the step there");
                faults.wrong(step.place, &path, message);
            }
            match step.value.tokens {
                None => faults.missing(step.place, &path, format!("{path} has no \"tokens\": write it")),
                Some(tokens) if tokens <= last => {
                    let message = format!(
                        "{path}: {tokens} tokens are not more than the {last} before: write the steps in their order"
                    );
                    faults.wrong(step.place, &path, message);
                }
                Some(tokens) => last = tokens,
            }
            pair(step.value.input, step.value.output, step.place, &path, faults);
        }
    }
    if let Some(list) = &price.services {
        let mut seen = Vec::new();
        for (n, step) in list.value.iter().enumerate() {
            let path = format!("{path}.services[{n}]");
            match step.value.tier {
                None => faults.missing(step.place, &path, format!("{path} has no \"tier\": write it")),
                Some(tier) if seen.contains(&(tier, step.value.tokens)) => {
                    faults.wrong(step.place, &path, format!("{path}: this tier is written twice: remove one"));
                }
                Some(tier) => seen.push((tier, step.value.tokens)),
            }
            pair(step.value.input, step.value.output, step.place, &path, faults);
        }
    }
}

/// Who pays for input pays for output: half a price would leave the other half unpriced in silence.
fn pair(input: Option<Usd>, output: Option<Usd>, place: Place, path: &str, faults: &mut Faults) {
    let missing = match (input, output) {
        (Some(_), None) => "output",
        (None, Some(_)) => "input",
        (Some(_), Some(_)) | (None, None) => return,
    };
    faults.missing(place, path, format!("{path} has no \"{missing}\": write it"));
}

/// Whether it prices nothing.
fn is_empty(price: &Price) -> bool {
    base_rates(price) == Rates::default()
}

fn service(typed: PriceService) -> ServiceTier {
    match typed {
        PriceService::Flex => ServiceTier::Flex,
        PriceService::Priority => ServiceTier::Priority,
        PriceService::Batch => ServiceTier::Batch,
        PriceService::Fast => ServiceTier::Fast,
    }
}

fn tier(tokens: u64, step: &PriceStep, base: &Rates) -> Tier {
    Tier { above: Tokens(tokens), rates: step_rates(step, base) }
}

fn base_rates(typed: &Price) -> Rates {
    Rates {
        input: token(typed.input),
        cached_input: token(typed.cached_input),
        cache_write_5m: token(typed.cache_write_5m),
        cache_write_1h: token(typed.cache_write_1h),
        output: token(typed.output),
        reasoning: token(typed.reasoning),
        audio_input: token(typed.audio_input),
        audio_output: token(typed.audio_output),
        image_input: token(typed.image_input),
        image_output: token(typed.image_output),
        image: per_thousand(typed.images),
        request: per_thousand(typed.requests),
        tool_call: per_thousand(typed.tool_calls),
        search: per_thousand(typed.searches),
    }
}

fn step_rates(typed: &PriceStep, base: &Rates) -> Rates {
    let own = Rates {
        input: token(typed.input),
        cached_input: token(typed.cached_input),
        cache_write_5m: token(typed.cache_write_5m),
        cache_write_1h: token(typed.cache_write_1h),
        output: token(typed.output),
        reasoning: token(typed.reasoning),
        audio_input: token(typed.audio_input),
        audio_output: token(typed.audio_output),
        image_input: token(typed.image_input),
        image_output: token(typed.image_output),
        ..Rates::default()
    };
    own.in_proportion(base)
}

fn token(usd: Option<Usd>) -> Option<PicoUsdPerToken> {
    usd.map(|usd| usd.0)
}

/// A millionth of a dollar for a thousand is 1e-9 dollars for one.
pub(in crate::config) fn per_thousand(usd: Option<Usd>) -> Option<NanoUsd> {
    usd.map(|Usd(PicoUsdPerToken(rate))| NanoUsd(rate))
}
