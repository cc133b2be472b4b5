//! LiteLLM's `model_prices_and_context_window.json`: an object with a member per model, prices in USD per unit as floats.
//!
//! What its members mean is told by its schema beside it in the same repository (read November 2026). A price's name is a base
//! (`input_cost_per_token`), then the size of the prompt it begins at (`_above_200k_tokens`), then the service tier (`_priority`). Members that
//! are not known are passed over, as that schema asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decimal;
use super::foreign::{Members, bare, completed, is_nothing, place_of};
use super::own_name;
use super::table::{Form, Kind, Priced, Row, Skipped, Table};
use crate::config::error::Faults;
use crate::config::policy::Info;
use crate::config::tariff::{Card, Rates, ServiceTier, Tariff, Tier};
use crate::units::{NanoUsd, PicoUsdPerToken, Tokens};

/// Its names of providers, and ours of kinds.
const KINDS: [(&str, &str); 27] = [
    ("openai", "openai"),
    ("text-completion-openai", "openai"),
    ("azure", "azure"),
    ("azure_text", "azure"),
    ("anthropic", "anthropic"),
    ("gemini", "gemini"),
    ("vertex_ai", "vertex"),
    ("bedrock", "bedrock"),
    ("bedrock_converse", "bedrock"),
    ("cohere", "cohere"),
    ("cohere_chat", "cohere"),
    ("xai", "xai"),
    ("groq", "groq"),
    ("deepseek", "deepseek"),
    ("mistral", "mistral"),
    ("text-completion-codestral", "mistral"),
    ("codestral", "mistral"),
    ("openrouter", "openrouter"),
    ("together_ai", "together"),
    ("fireworks_ai", "fireworks"),
    ("perplexity", "perplexity"),
    ("cerebras", "cerebras"),
    ("nvidia_nim", "nvidia"),
    ("ollama", "ollama"),
    ("ollama_chat", "ollama"),
    ("hosted_vllm", "vllm"),
    ("lm_studio", "lmstudio"),
];

/// What is billed in another way: by the second, by the character.
const OTHER_MODES: [&str; 8] = [
    "audio_transcription",
    "audio_speech",
    "moderation",
    "ocr",
    "realtime",
    "search",
    "vector_store",
    "video_generation",
];

const SERVICES: [(&str, ServiceTier); 4] = [
    ("_flex", ServiceTier::Flex),
    ("_priority", ServiceTier::Priority),
    ("_batches", ServiceTier::Batch),
    ("_batch", ServiceTier::Batch),
];

/// The file: its models.
pub(super) struct Rows<'a> {
    text: &'a str,
    rows: Members<'a>,
}

/// The prices of a model, by service tier and the size of the prompt from which on they count.
type Cards = BTreeMap<(u8, u64), Rates>;

// === impl Rows ===

impl<'a> Rows<'a> {
    /// `None`: the text is of another form.
    pub fn of(text: &'a str) -> Option<Rows<'a>> {
        if !text.trim_start().starts_with('{') {
            return None;
        }
        let rows = Members::parse(text)?;
        let is_row = rows.iter().any(|(_, row)| Members::of(row).get("litellm_provider").is_some());
        is_row.then_some(Rows { text, rows })
    }

    pub fn read(&self, version: Arc<str>, faults: &mut Faults) -> Option<Table> {
        let mut table = Table::new(version, Form::LiteLlm);
        for (key, value) in self.rows.iter() {
            let row = Members::of(value);
            // the example that the file begins with
            if key == "sample_spec" || row.is_empty() {
                continue;
            }
            let Some(seller) = row.text("litellm_provider") else { continue };
            let kind = kind_of(&seller);
            let Some(name) = name_of(kind, &seller, key) else { continue };
            let built = match build(&row, kind.unwrap_or_default(), &name, &table.version) {
                Ok(built) => built,
                Err(why) => {
                    table.skipped.push(Skipped { at: place_of(self.text, value), name: key.to_owned(), why });
                    continue;
                }
            };
            let sold = match kind {
                Some(kind) => table.kinds.entry(kind.to_owned()),
                // perhaps an entry of the configuration
                None => table.providers.entry(seller),
            };
            let sold = sold.or_insert_with(|| Kind::new("LiteLLM".into()));
            let aliases: Vec<String> =
                row.get("aliases").and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default();
            let mut names = vec![name];
            names.extend(aliases.iter().filter_map(|alias| name_of(kind, "", alias)));
            // the same model behind another path: the first counts
            names.retain(|name| !sold.has(name));
            names.dedup();
            // no name is there twice now
            let _ = sold.add(names.iter().map(String::as_str), built);
        }
        if table.kinds.is_empty() && table.providers.is_empty() {
            let message = "no model of it can be used: is it LiteLLM's model_prices_and_context_window.json?";
            faults.wrong(Default::default(), "", message);
            return None;
        }
        Some(table)
    }
}

/// `vertex_ai-anthropic_models` is Vertex' as well.
fn kind_of(seller: &str) -> Option<&'static str> {
    let of = |name: &str| KINDS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    of(seller).or_else(|| of(seller.split('-').next().unwrap_or_default()).filter(|_| seller.contains('-')))
}

/// The vendor's own name in lower case. `None`: prices of one region alone, or of an image's size.
fn name_of(kind: Option<&str>, seller: &str, key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase();
    if kind == Some("bedrock") && key.contains('/') {
        return None;
    }
    // a model is asked for there as `SELLER/MODEL`
    let name = match key.split_once('/') {
        Some((before, name)) if before == seller || kind_of(before).is_some_and(|other| kind == Some(other)) => name,
        Some(_) | None => &key,
    };
    if name.contains('*') {
        return None;
    }
    Some(own_name(kind.unwrap_or_default(), name).to_owned())
}

fn build(row: &Members<'_>, kind: &str, name: &str, version: &Arc<str>) -> Result<Row, String> {
    let info = Info {
        context: None,
        max_output: row.count("max_output_tokens"),
        vision: row.flag("supports_vision"),
        audio: row.flag("supports_audio_input"),
        documents: row.flag("supports_pdf_input"),
        tools: row.flag("supports_function_calling"),
        json_schema: row.flag("supports_response_schema"),
        reasoning: row.flag("supports_reasoning"),
    };
    let tariff = tariff(row, version)?.map(|tariff| completed(tariff, kind, name));
    let priced = tariff.map(Priced::everywhere);
    // what one prompt may have; the window holds its answer besides, with some vendors
    let context_at_least = row.count("max_input_tokens");
    Ok(Row { checked: None, info, context_at_least, prices: priced.into_iter().collect() })
}

/// `None`: it has no price that we can reckon with.
fn tariff(row: &Members<'_>, version: &Arc<str>) -> Result<Option<Tariff>, String> {
    let mode = row.text("mode").unwrap_or_default();
    if OTHER_MODES.contains(&mode.as_str()) {
        return Ok(None);
    }
    let mut cards = cards(row)?;
    let mut base = cards.remove(&(0, 0)).unwrap_or_default();
    pieces(row, &mode, &mut base)?;
    if is_nothing(&base) {
        if base.search.is_none() && base.image.is_none() {
            return Ok(None);
        }
        // what is paid by the piece has no tokens for nothing
        (base.input, base.output) = (None, None);
    } else if base.output.is_none() && (mode == "embedding" || mode == "rerank") {
        base.output = Some(PicoUsdPerToken(0));
    }
    let mut tariff = bare(base, version, &row.text("source").unwrap_or_else(|| "LiteLLM".to_owned()));
    for ((service, above), rates) in cards {
        let whole = rates.output.is_some() || base.output.is_none_or(|rate| rate.0 == 0);
        // of a tier, what is not told is as for short prompts; of a service, it is not known
        if service != 0 && (rates.input.is_none() || !whole) {
            continue;
        }
        let rates = Rates { input: rates.input.or(base.input), output: rates.output.or(base.output), ..rates };
        let step = Tier { above: Tokens(above), rates: rates.in_proportion(&base) };
        match service_of(service) {
            None => tariff.standard.tiers.push(step),
            Some(service) => {
                let at = tariff.services.iter().position(|(other, _)| *other == service);
                let at = at.unwrap_or_else(|| {
                    tariff.services.push((service, Card::default()));
                    tariff.services.len() - 1
                });
                let Some((_, card)) = tariff.services.get_mut(at) else { continue };
                if above == 0 { card.rates = step.rates } else { card.tiers.push(step) }
            }
        }
    }
    // one that is priced for long prompts alone says nothing of short ones
    tariff.services.retain(|(_, card)| card.rates.input.is_some());
    multiplied(row, &mut tariff)?;
    Ok(Some(tariff))
}

/// Every price of tokens.
fn cards(row: &Members<'_>) -> Result<Cards, String> {
    let mut cards = Cards::new();
    for (name, value) in row.iter() {
        let Some((service, above, base)) = parts(name) else { continue };
        if value.get() == "null" {
            continue;
        }
        let mut none = Rates::default();
        if slot(&mut none, base).is_none() {
            continue;
        }
        let rate = decimal::per_token(value.get()).map_err(|why| format!("{name} {why}"))?;
        // a zero beside a price is one that nobody wrote down
        let rate =
            Some(rate).filter(|rate| rate.0 > 0 || matches!(base, "input_cost_per_token" | "output_cost_per_token"));
        if let Some(slot) = slot(cards.entry((service, above)).or_default(), base) {
            *slot = rate;
        }
    }
    Ok(cards)
}

fn slot<'a>(rates: &'a mut Rates, base: &str) -> Option<&'a mut Option<PicoUsdPerToken>> {
    Some(match base {
        "input_cost_per_token" => &mut rates.input,
        "output_cost_per_token" => &mut rates.output,
        "cache_read_input_token_cost" | "input_cost_per_token_cache_hit" => &mut rates.cached_input,
        "cache_creation_input_token_cost" => &mut rates.cache_write_5m,
        "cache_creation_input_token_cost_above_1hr" => &mut rates.cache_write_1h,
        "output_cost_per_reasoning_token" => &mut rates.reasoning,
        "input_cost_per_audio_token" => &mut rates.audio_input,
        "output_cost_per_audio_token" => &mut rates.audio_output,
        "input_cost_per_image_token" => &mut rates.image_input,
        "output_cost_per_image_token" => &mut rates.image_output,
        _ => return None,
    })
}

/// `input_cost_per_token_above_200k_tokens_priority`: the service (0: the standard one), 200,000, and the base.
fn parts(name: &str) -> Option<(u8, u64, &str)> {
    let service = SERVICES.iter().position(|(suffix, _)| name.ends_with(suffix));
    let suffix = service.and_then(|at| SERVICES.get(at)).map_or("", |(suffix, _)| *suffix);
    let name = name.strip_suffix(suffix)?;
    let (base, above) = match name.strip_suffix("_tokens").and_then(|name| name.rsplit_once("_above_")) {
        Some((base, size)) => (base, size.strip_suffix('k')?.parse::<u64>().ok()?.checked_mul(1000)?),
        None => (name, 0),
    };
    Some((service.map_or(0, |at| u8::try_from(at + 1).unwrap_or(0)), above, base))
}

fn service_of(place: u8) -> Option<ServiceTier> {
    SERVICES.get(usize::from(place).checked_sub(1)?).map(|(_, service)| *service)
}

fn pieces(row: &Members<'_>, mode: &str, rates: &mut Rates) -> Result<(), String> {
    let piece = |members: &Members<'_>, name: &str| -> Result<Option<NanoUsd>, String> {
        let value = members.get(name).map(|value| value.get()).filter(|text| *text != "null");
        let piece = value.map(decimal::per_piece).transpose().map_err(|why| format!("{name} {why}"))?;
        Ok(piece.filter(|piece| piece.0 > 0))
    };
    // where both are there, one is what the other comes to
    if mode.starts_with("image") && rates.image_output.is_none() {
        rates.image = piece(row, "output_cost_per_image")?;
    }
    if mode == "rerank" {
        rates.search = piece(row, "input_cost_per_query")?;
    }
    rates.request = piece(row, "input_cost_per_request")?;
    let searches = row.object("search_context_cost_per_query");
    for (size, _) in searches.iter() {
        // which size it was is not told by answers: the dearest
        rates.tool_call = rates.tool_call.max(piece(&searches, size)?);
    }
    Ok(())
}

/// `provider_specific_entry`: what costs so many times the usual.
fn multiplied(row: &Members<'_>, tariff: &mut Tariff) -> Result<(), String> {
    let factors = row.object("provider_specific_entry");
    if let Some(factor) = factors.get("fast") {
        let rates = |rates: &Rates| -> Result<Rates, String> {
            let times = |rate: Option<PicoUsdPerToken>| rate.map(|r| decimal::times(r, factor.get())).transpose();
            Ok(Rates {
                input: times(rates.input)?,
                cached_input: times(rates.cached_input)?,
                cache_write_5m: times(rates.cache_write_5m)?,
                cache_write_1h: times(rates.cache_write_1h)?,
                output: times(rates.output)?,
                reasoning: times(rates.reasoning)?,
                audio_input: times(rates.audio_input)?,
                audio_output: times(rates.audio_output)?,
                image_input: times(rates.image_input)?,
                image_output: times(rates.image_output)?,
                ..Rates::default()
            })
        };
        let standard = &tariff.standard;
        let tiers = standard.tiers.iter().map(|t| Ok(Tier { above: t.above, rates: rates(&t.rates)? }));
        let card = Card { rates: rates(&standard.rates)?, tiers: tiers.collect::<Result<_, String>>()? };
        tariff.services.push((ServiceTier::Fast, card));
    }
    if let Some(factor) = factors.get("us") {
        let PicoUsdPerToken(hundredfold) = decimal::times(PicoUsdPerToken(100), factor.get())?;
        tariff.in_region_percent = u8::try_from(hundredfold - 100).ok().filter(|percent| *percent <= 100);
    }
    Ok(())
}
