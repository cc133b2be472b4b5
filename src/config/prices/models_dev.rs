//! models.dev's `api.json`: an object with a member per provider, each with its models; prices in USD per million tokens.
//!
//! What its members mean is told by `packages/core/src/schema.ts` of its repository (read July 2026). A tier counts from its size on; so that a
//! bill is never too low it is taken to begin at that very size. The price of an hour's writing to Anthropic's cache is not told there: it is
//! twice that of input, as Anthropic's price list has it for every model whose five minutes cost one and a quarter of it.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::decimal;
use super::foreign::{Members, bare, completed, is_nothing, place_of};
use super::own_name;
use super::table::{Form, Kind, Priced, Row, Skipped, Table};
use crate::config::error::Faults;
use crate::config::policy::Info;
use crate::config::tariff::{Card, Rates, ServiceTier, Tariff, Tier};
use crate::units::{PicoUsdPerToken, Tokens};

/// Its names of providers, and ours of kinds.
const KINDS: [(&str, &str); 18] = [
    ("openai", "openai"),
    ("azure", "azure"),
    ("anthropic", "anthropic"),
    ("google", "gemini"),
    ("google-vertex", "vertex"),
    ("google-vertex-anthropic", "vertex"),
    ("amazon-bedrock", "bedrock"),
    ("cohere", "cohere"),
    ("xai", "xai"),
    ("groq", "groq"),
    ("deepseek", "deepseek"),
    ("mistral", "mistral"),
    ("openrouter", "openrouter"),
    ("togetherai", "together"),
    ("fireworks-ai", "fireworks"),
    ("perplexity", "perplexity"),
    ("cerebras", "cerebras"),
    ("nvidia", "nvidia"),
];

/// The file: who sells, and what.
pub(super) struct Sellers<'a> {
    text: &'a str,
    sellers: Vec<(String, Members<'a>)>,
}

// === impl Sellers ===

impl<'a> Sellers<'a> {
    /// `None`: the text is of another form.
    pub fn of(text: &'a str) -> Option<Sellers<'a>> {
        if !text.trim_start().starts_with('{') {
            return None;
        }
        let all = Members::parse(text)?;
        let sellers: Vec<_> = all.iter().map(|(name, seller)| (name.to_owned(), Members::of(seller))).collect();
        let has_models = sellers.iter().any(|(_, seller)| !seller.object("models").is_empty());
        has_models.then_some(Sellers { text, sellers })
    }

    pub fn read(&self, version: Arc<str>, faults: &mut Faults) -> Option<Table> {
        let mut table = Table::new(version, Form::ModelsDev);
        for (id, seller) in &self.sellers {
            let kind = KINDS.iter().find(|(theirs, _)| theirs == id).map(|(_, ours)| *ours);
            let source = seller.text("doc").unwrap_or_else(|| "models.dev".to_owned());
            for (key, model) in seller.object("models").iter() {
                let key = key.to_ascii_lowercase();
                let name = own_name(kind.unwrap_or_default(), &key);
                let built = match build(&Members::of(model), kind.unwrap_or_default(), name, &source, &table.version) {
                    Ok(built) => built,
                    Err(why) => {
                        let name = format!("{id}/{key}");
                        table.skipped.push(Skipped { at: place_of(self.text, model), name, why });
                        continue;
                    }
                };
                let sold = match kind {
                    Some(kind) => table.kinds.entry(kind.to_owned()),
                    // perhaps an entry of the configuration
                    None => table.providers.entry(id.clone()),
                };
                let sold = sold.or_insert_with(|| Kind::new(source.as_str().into()));
                if !name.contains('*') && !sold.has(name) {
                    // it is not there yet
                    let _ = sold.add([name], built);
                }
            }
        }
        if table.kinds.is_empty() && table.providers.is_empty() {
            faults.wrong(Default::default(), "", "no model of it can be used: is it models.dev's api.json?");
            return None;
        }
        Some(table)
    }
}

fn build(model: &Members<'_>, kind: &str, name: &str, source: &str, version: &Arc<str>) -> Result<Row, String> {
    let limit = model.object("limit");
    let takes: Option<Vec<String>> =
        model.object("modalities").get("input").and_then(|list| serde_json::from_str(list.get()).ok());
    let takes = |what: &str| takes.as_ref().map(|list| list.iter().any(|one| one == what));
    let info = Info {
        context: limit.count("context"),
        max_output: limit.count("output"),
        vision: takes("image"),
        audio: takes("audio"),
        documents: takes("pdf"),
        tools: model.flag("tool_call").or_else(|| model.object("tool_call").flag("supported")),
        json_schema: model.flag("structured_output"),
        reasoning: model.flag("reasoning"),
    };
    let tariff = tariff(model, kind, name, source, version)?.map(|tariff| completed(tariff, kind, name));
    let priced = tariff.map(Priced::everywhere);
    Ok(Row { checked: None, info, context_at_least: None, prices: priced.into_iter().collect() })
}

/// `None`: it has no price that we can reckon with.
fn tariff(
    model: &Members<'_>,
    kind: &str,
    name: &str,
    source: &str,
    version: &Arc<str>,
) -> Result<Option<Tariff>, String> {
    let cost = model.object("cost");
    let anthropic = matches!(kind, "anthropic" | "vertex" | "bedrock") && name.contains("claude");
    let rates = |cost: &Members<'_>| rates(cost, anthropic);
    let base = rates(&cost)?;
    if is_nothing(&base) {
        return Ok(None);
    }
    let mut tariff = bare(base, version, source);
    let tiers: Vec<&RawValue> =
        cost.get("tiers").map(|list| serde_json::from_str(list.get())).transpose().ok().flatten().unwrap_or_default();
    for step in tiers {
        let step = Members::of(step);
        let tier = step.object("tier");
        let by_context = tier.text("type").is_none_or(|by| by == "context");
        let Some(size) = tier.count("size").filter(|_| by_context) else {
            return Err("a tier is not one of the size of the context".to_owned());
        };
        let rates = rates(&step)?.in_proportion(&base);
        tariff.standard.tiers.push(Tier { above: Tokens(size - 1), rates });
    }
    let long = cost.object("context_over_200k");
    if tariff.standard.tiers.is_empty() && !long.is_empty() {
        tariff.standard.tiers.push(Tier { above: Tokens(200_000), rates: rates(&long)?.in_proportion(&base) });
    }
    tariff.standard.tiers.sort_by_key(|tier| tier.above);
    for (_, mode) in model.object("experimental").object("modes").iter() {
        let mode = Members::of(mode);
        let body = mode.object("provider").object("body");
        let word = body.text("service_tier").or_else(|| body.text("speed"));
        let Some(service) = word.map(|word| ServiceTier::from_word(&word)) else { continue };
        let own = rates(&mode.object("cost"))?.in_proportion(&base);
        let known = tariff.services.iter().any(|(other, _)| *other == service);
        if own.input.is_some() && !known && !matches!(service, ServiceTier::Default | ServiceTier::Other) {
            tariff.services.push((service, Card { rates: own, tiers: Vec::new() }));
        }
    }
    Ok(Some(tariff))
}

fn rates(cost: &Members<'_>, anthropic: bool) -> Result<Rates, String> {
    let rate = |name: &str| -> Result<Option<PicoUsdPerToken>, String> {
        let value = cost.get(name).map(|value| value.get()).filter(|text| *text != "null");
        value.map(decimal::per_million).transpose().map_err(|why| format!("cost.{name} {why}"))
    };
    let mut rates = Rates {
        input: rate("input")?,
        cached_input: rate("cache_read")?,
        cache_write_5m: rate("cache_write")?,
        output: rate("output")?,
        reasoning: rate("reasoning")?,
        audio_input: rate("input_audio")?,
        audio_output: rate("output_audio")?,
        ..Rates::default()
    };
    // a zero beside a price is one that nobody wrote down
    for beside in [&mut rates.cached_input, &mut rates.cache_write_5m, &mut rates.reasoning] {
        *beside = beside.filter(|rate| rate.0 > 0);
    }
    if let (true, Some(input), Some(five)) = (anthropic, rates.input, rates.cache_write_5m)
        && i128::from(five.0) * 4 == i128::from(input.0) * 5
    {
        rates.cache_write_1h = Some(PicoUsdPerToken(input.0.saturating_mul(2)));
    }
    Ok(rates)
}
