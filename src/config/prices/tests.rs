//! Files of prices as they are found in the world, and which of several counts.

use proptest::prelude::*;

use super::*;
use crate::config::snapshot::Snapshot;
use crate::config::tariff::{Rates, ServiceTier};
use crate::config::{Environment, load};
use crate::units::{NanoUsd, PicoUsdPerToken, Tokens};

/// In the form of LiteLLM's file: the example it begins with, and models of every way to be billed.
const LITELLM: &str = r#"{
    "sample_spec": {
        "input_cost_per_token": 0.0,
        "litellm_provider": "one of https://docs.litellm.ai/docs/providers",
        "max_input_tokens": "max input tokens, if the provider specifies it. if not default to max_tokens",
        "mode": "one of: chat, embedding, completion"
    },
    "gpt-9": {
        "cache_read_input_token_cost": 2.5e-07,
        "cache_read_input_token_cost_above_272k_tokens": 5e-07,
        "cache_read_input_token_cost_flex": 1.3e-07,
        "cache_read_input_token_cost_priority": 5e-07,
        "input_cost_per_token": 2.5e-06,
        "input_cost_per_token_above_272k_tokens": 5e-06,
        "input_cost_per_token_batches": 1.25e-06,
        "input_cost_per_token_flex": 1.25e-06,
        "input_cost_per_token_priority": 5e-06,
        "litellm_provider": "openai",
        "max_input_tokens": 922000,
        "max_output_tokens": 128000,
        "max_tokens": 128000,
        "mode": "chat",
        "output_cost_per_token": 1.5e-05,
        "output_cost_per_token_above_272k_tokens": 2.25e-05,
        "output_cost_per_token_batches": 7.5e-06,
        "output_cost_per_token_flex": 7.5e-06,
        "output_cost_per_token_priority": 3e-05,
        "aliases": ["gpt-9-2027-01-01"],
        "search_context_cost_per_query": {
            "search_context_size_high": 0.05,
            "search_context_size_low": 0.03,
            "search_context_size_medium": 0.035
        },
        "supports_function_calling": true,
        "supports_vision": true,
        "supports_audio_input": false
    },
    "claude-new-9": {
        "cache_creation_input_token_cost": 6.25e-06,
        "cache_creation_input_token_cost_above_1hr": 1e-05,
        "cache_creation_input_token_cost_above_200k_tokens": 1.25e-05,
        "cache_read_input_token_cost": 5e-07,
        "input_cost_per_token": 5e-06,
        "input_cost_per_token_above_200k_tokens": 1e-05,
        "litellm_provider": "anthropic",
        "mode": "chat",
        "output_cost_per_token": 2.5e-05,
        "output_cost_per_token_above_200k_tokens": 3.75e-05,
        "provider_specific_entry": {"fast": 6.0, "us": 1.1}
    },
    "vertex_ai/gemini-9-image": {
        "input_cost_per_audio_token": 1e-06,
        "input_cost_per_token": 3e-07,
        "litellm_provider": "vertex_ai-language-models",
        "mode": "image_generation",
        "output_cost_per_image": 0.039,
        "output_cost_per_image_token": 3e-05,
        "output_cost_per_reasoning_token": 2.5e-06,
        "output_cost_per_token": 2.5e-06
    },
    "dall-e-9": {"litellm_provider": "openai", "mode": "image_generation", "output_cost_per_image": 0.04},
    "together_ai/Meta/Llama-9": {"input_cost_per_token": 8.8e-07, "litellm_provider": "together_ai", "mode": "chat",
        "output_cost_per_token": 8.8e-07},
    "rerank-v9": {"input_cost_per_query": 0.002, "input_cost_per_token": 0.0, "litellm_provider": "cohere", "mode": "rerank",
        "output_cost_per_token": 0.0},
    "embed-v9": {"input_cost_per_token": 1.2e-07, "litellm_provider": "cohere", "mode": "embedding", "output_cost_per_token": 0.0},
    "bedrock/us-gov-west-1/amazon.nova-9": {"input_cost_per_token": 9e-06, "litellm_provider": "bedrock", "mode": "chat",
        "output_cost_per_token": 9e-06},
    "amazon.nova-9": {"input_cost_per_token": 6e-08, "litellm_provider": "bedrock_converse", "mode": "chat",
        "output_cost_per_token": 2.4000000000000003e-07},
    "whisper-9": {"input_cost_per_second": 0.0001, "litellm_provider": "openai", "mode": "audio_transcription"},
    "unknown-9": {"input_cost_per_token": 0.0, "litellm_provider": "openai", "mode": "chat", "output_cost_per_token": 0.0},
    "broken-9": {"input_cost_per_token": -1.0, "litellm_provider": "openai", "mode": "chat", "output_cost_per_token": 1e-06},
    "own-9": {"input_cost_per_token": 1e-06, "litellm_provider": "house", "mode": "chat", "output_cost_per_token": 2e-06}
}"#;

/// In the form of models.dev's `api.json`.
const MODELS_DEV: &str = r#"{
  "anthropic": {
    "id": "anthropic", "env": ["ANTHROPIC_API_KEY"], "npm": "@ai-sdk/anthropic", "name": "Anthropic",
    "doc": "https://docs.anthropic.com/en/docs/about-claude/models",
    "models": {
      "claude-new-9": {
        "id": "claude-new-9", "name": "Claude New 9", "attachment": true, "reasoning": true, "temperature": true, "tool_call": true,
        "release_date": "2026-12-01", "last_updated": "2026-12-01",
        "modalities": {"input": ["text", "image", "pdf"], "output": ["text"]}, "open_weights": false,
        "limit": {"context": 1000000, "output": 128000},
        "cost": {"input": 5, "output": 25, "cache_read": 0.5, "cache_write": 6.25},
        "experimental": {"modes": {"fast": {
          "cost": {"input": 30, "output": 150, "cache_read": 3, "cache_write": 37.5},
          "provider": {"body": {"speed": "fast"}, "headers": {"anthropic-beta": "fast-mode-2026-02-01"}}
        }}}
      }
    }
  },
  "openai": {
    "id": "openai", "env": ["OPENAI_API_KEY"], "npm": "@ai-sdk/openai", "name": "OpenAI",
    "doc": "https://platform.openai.com/docs/models",
    "models": {
      "gpt-9": {
        "id": "gpt-9", "name": "GPT-9", "reasoning": true, "tool_call": {"supported": true}, "structured_output": true,
        "modalities": {"input": ["text", "image"], "output": ["text"]},
        "limit": {"context": 1050000, "input": 922000, "output": 128000},
        "cost": {"input": 2.5, "output": 15, "cache_read": 0.25, "cache_write": 0, "input_audio": 40,
          "tiers": [{"tier": {"type": "context", "size": 272000}, "input": 5, "output": 22.5, "cache_read": 0.5}],
          "context_over_200k": {"input": 99, "output": 99}},
        "experimental": {"modes": {"fast": {
          "cost": {"input": 5, "output": 30}, "provider": {"body": {"service_tier": "priority"}}}}}
      },
      "gpt-free": {"id": "gpt-free", "limit": {"context": 1000, "output": 100}, "cost": {"input": 0, "output": 0}},
      "gpt-odd": {"id": "gpt-odd", "limit": {"context": 1000, "output": 100}, "cost": {"input": "much", "output": 0}}
    }
  },
  "google": {"id": "google", "name": "Google", "models": {
    "gemini-9": {"id": "gemini-9", "limit": {"context": 2000000, "output": 65536},
      "cost": {"input": 1.25, "output": 10, "cache_read": 0.31, "context_over_200k": {"input": 2.5, "output": 15, "cache_read": 0.625}}}
  }},
  "some-cloud": {"id": "some-cloud", "name": "Some Cloud", "models": {
    "own-9": {"id": "own-9", "limit": {"context": 32000, "output": 8000}, "cost": {"input": 0.1, "output": 0.2}}
  }}
}"#;

const OWN: &str = r#"
version: 2026-12-01
kinds:
  openai:
    source: https://example.com/prices
    tool_calls: "10"
    rows:
      - match: [gpt-9, "gpt-9-20*"]
        info: {context: 1000, vision: false}
        prices:
          - {for: [gpt-9], input: 2, cached_input: 0.2, cache_write_5m: 2.5, output: 10, reasoning: 12,
             above: [{tokens: 1000, input: 4, output: 15}],
             services: [{tier: flex, input: 1, output: 5}, {tier: flex, tokens: 1000, input: 2, output: 7.5}]}
        checked: 2026-12-01
      - {match: [picture-9], prices: {images: 40, requests: 0.5}}
providers:
  house:
    rows:
      - {match: "*", like: openai/gpt-5, prices: {input: 0, output: 0}}
"#;

fn table(name: &str, text: &str) -> Table {
    read(text.as_bytes(), name).unwrap_or_else(|errors| panic!("{}", shown(&errors)))
}

fn shown(errors: &[ConfigError]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}

fn seller<'a>(provider: &'a str, kind: &'a str) -> Seller<'a> {
    Seller { provider, kind, at_vendor: true, place: Place::Global }
}

/// What is known by these files alone (and the compiled-in table).
fn known(files: &[(&str, &str)], kind: &str, model: &str) -> (Info, Option<Arc<Tariff>>) {
    let prices = Prices::new(files.iter().map(|(name, text)| table(name, text)).collect());
    prices.known_of(seller("anybody", kind), model)
}

fn tariff(text: &str, kind: &str, model: &str) -> Tariff {
    let (_, tariff) = known(&[("f", text)], kind, model);
    Tariff::clone(&tariff.unwrap_or_else(|| panic!("{kind} {model} has no price")))
}

/// USD per million tokens.
fn usd(rate: f64) -> Option<PicoUsdPerToken> {
    Some(PicoUsdPerToken((rate * 1e6).round() as i64))
}

fn rates(input: f64, cached: Option<f64>, output: f64) -> Rates {
    Rates { input: usd(input), cached_input: cached.and_then(usd), output: usd(output), ..Rates::default() }
}

// === the forms ===

#[test]
fn the_form_of_a_file_is_seen_from_its_content() {
    for (text, form, priced) in [(LITELLM, Form::LiteLlm, 9), (MODELS_DEV, Form::ModelsDev, 4), (OWN, Form::Own, 3)] {
        let table = table("prices.json", text);
        assert_eq!((table.form, table.priced()), (form, priced));
    }
    // our own may be written as JSON as well
    let json = r#"{"kinds": {"openai": {"rows": [{"match": ["a"], "prices": [{"input": "1.5", "output": 2}]}]}}}"#;
    assert_eq!(table("own.json", json).form, Form::Own);
    assert_eq!(tariff(json, "openai", "a").standard.rates, rates(1.5, None, 2.0));
}

#[test]
fn litellm_s_prices_are_read_with_their_tiers_and_services() {
    let gpt = tariff(LITELLM, "openai", "gpt-9");
    let base = Rates { tool_call: Some(NanoUsd(50_000_000)), ..rates(2.5, Some(0.25), 15.0) };
    assert_eq!(gpt.standard.rates, base);
    let [tier] = gpt.standard.tiers.as_slice() else { panic!("{gpt:?}") };
    assert_eq!((tier.above, tier.rates), (Tokens(272_000), rates(5.0, Some(0.5), 22.5)));
    let at = |service, prompt| gpt.rates(service, Tokens(prompt)).map(|rates| Rates { tool_call: None, ..rates });
    assert_eq!(at(ServiceTier::Flex, 1), Some(rates(1.25, Some(0.13), 7.5)));
    assert_eq!(at(ServiceTier::Batch, 1), Some(rates(1.25, None, 7.5)));
    assert_eq!(at(ServiceTier::Priority, 1), Some(rates(5.0, Some(0.5), 30.0)));
    // nothing is told of long prompts there
    assert_eq!(at(ServiceTier::Priority, 300_000), None);
    assert_eq!(at(ServiceTier::Flex, 300_000), Some(rates(5.0, Some(0.5), 22.5)));
    assert_eq!(tariff(LITELLM, "openai", "gpt-9-2027-01-01"), gpt);

    let claude = tariff(LITELLM, "anthropic", "claude-new-9");
    let base = Rates { cache_write_5m: usd(6.25), cache_write_1h: usd(10.0), ..rates(5.0, Some(0.5), 25.0) };
    assert_eq!(claude.standard.rates, base);
    // an hour's writing is twice the input there too; what was read from the cache is not told, and billed as input
    let long = Rates { cache_write_5m: usd(12.5), cache_write_1h: usd(20.0), ..rates(10.0, None, 37.5) };
    assert_eq!(claude.standard.tiers[0].rates, long);
    let fast = Rates { cache_write_5m: usd(37.5), cache_write_1h: usd(60.0), ..rates(30.0, Some(3.0), 150.0) };
    assert_eq!(claude.rates(ServiceTier::Fast, Tokens(1)), Some(fast));
    assert_eq!(claude.in_region_percent, Some(10));

    let image = tariff(LITELLM, "vertex", "publishers/google/models/gemini-9-image").standard.rates;
    assert_eq!((image.image_output, image.image, image.audio_input), (usd(30.0), None, usd(1.0)));
    assert_eq!(tariff(LITELLM, "openai", "dall-e-9").standard.rates.image, Some(NanoUsd(40_000_000)));
    assert_eq!(tariff(LITELLM, "together", "meta/llama-9").standard.rates, rates(0.88, None, 0.88));
    let rerank = Rates { search: Some(NanoUsd(2_000_000)), ..Rates::default() };
    assert_eq!(tariff(LITELLM, "cohere", "rerank-v9").standard.rates, rerank);
    assert_eq!(tariff(LITELLM, "cohere", "embed-v9").standard.rates, rates(0.12, None, 0.0));
    // the float's last digit is put right, and the price of one region is nobody else's
    assert_eq!(tariff(LITELLM, "bedrock", "amazon.nova-9").standard.rates, rates(0.06, None, 0.24));
}

#[test]
fn litellm_s_abilities_are_read_and_its_largest_prompt_is_no_window() {
    let (info, _) = known(&[("l", LITELLM)], "openai", "gpt-9");
    assert_eq!((info.vision, info.audio, info.tools, info.documents), (Some(true), Some(false), Some(true), None));
    assert_eq!((info.context, info.max_output), (Some(922_000), Some(128_000)));
    // where somebody knows the window, that counts
    let (info, _) = known(&[("m", MODELS_DEV), ("l", LITELLM)], "openai", "gpt-9");
    assert_eq!(info.context, Some(1_050_000));
}

#[test]
fn models_dev_s_prices_are_read_with_their_tiers_and_modes() {
    let claude = tariff(MODELS_DEV, "anthropic", "claude-new-9");
    // twice the input for an hour, as Anthropic has it
    let base = Rates { cache_write_5m: usd(6.25), cache_write_1h: usd(10.0), ..rates(5.0, Some(0.5), 25.0) };
    assert_eq!(claude.standard.rates, base);
    let fast = Rates { cache_write_5m: usd(37.5), cache_write_1h: usd(60.0), ..rates(30.0, Some(3.0), 150.0) };
    assert_eq!(claude.rates(ServiceTier::Fast, Tokens(1)), Some(fast));
    assert_eq!(&*claude.source, "https://docs.anthropic.com/en/docs/about-claude/models");

    let gpt = tariff(MODELS_DEV, "openai", "gpt-9");
    assert_eq!(gpt.standard.rates, Rates { audio_input: usd(40.0), ..rates(2.5, Some(0.25), 15.0) });
    let [tier] = gpt.standard.tiers.as_slice() else { panic!("{gpt:?}") };
    // audio is dearer by as much as it is otherwise
    let long = Rates { audio_input: usd(80.0), ..rates(5.0, Some(0.5), 22.5) };
    assert_eq!((tier.above, tier.rates), (Tokens(271_999), long));
    let priority = gpt.rates(ServiceTier::Priority, Tokens(1)).unwrap();
    assert_eq!((priority.input, priority.output, priority.cached_input), (usd(5.0), usd(30.0), None));

    let gemini = tariff(MODELS_DEV, "gemini", "models/gemini-9");
    assert_eq!(
        (gemini.standard.tiers[0].above, gemini.standard.tiers[0].rates),
        (Tokens(200_000), rates(2.5, Some(0.625), 15.0))
    );

    let (info, _) = known(&[("m", MODELS_DEV)], "openai", "gpt-9");
    assert_eq!((info.context, info.max_output, info.tools), (Some(1_050_000), Some(128_000), Some(true)));
    assert_eq!((info.vision, info.audio, info.json_schema), (Some(true), Some(false), Some(true)));
}

#[test]
fn nothing_is_never_a_price_but_where_somebody_means_it() {
    for (text, model) in [(LITELLM, "unknown-9"), (LITELLM, "whisper-9"), (MODELS_DEV, "gpt-free")] {
        assert_eq!(known(&[("f", text)], "openai", model).1, None, "{model}");
    }
    let prices = Prices::new(vec![table("own.yaml", OWN)]);
    let (info, tariff) = prices.known_of(Seller { at_vendor: false, ..seller("house", "vllm") }, "qwen");
    assert_eq!(tariff.unwrap().standard.rates, rates(0.0, None, 0.0));
    assert_eq!(info.context, Some(400_000));
}

#[test]
fn a_row_that_cannot_be_used_is_left_out_and_told() {
    let skipped = |text| {
        let table = table("f", text);
        table.skipped.iter().map(|s| format!("{} {}: {}", s.at.line, s.name, s.why)).collect::<Vec<_>>()
    };
    let line = |text: &str, what| 1 + text[..text.find(what).unwrap()].matches('\n').count();
    let broken = line(LITELLM, "broken-9");
    assert_eq!(skipped(LITELLM), [format!("{broken} broken-9: input_cost_per_token is less than nothing")]);
    let odd = line(MODELS_DEV, "\"gpt-odd\"");
    assert_eq!(skipped(MODELS_DEV), [format!("{odd} openai/gpt-odd: cost.input is not a price")]);
    assert_eq!(skipped(OWN), Vec::<String>::new());
}

#[test]
fn our_own_form_has_every_kind_of_rate() {
    let gpt = tariff(OWN, "openai", "gpt-9");
    let base = Rates {
        cache_write_5m: usd(2.5),
        reasoning: usd(12.0),
        tool_call: Some(NanoUsd(10_000_000)),
        ..rates(2.0, Some(0.2), 10.0)
    };
    assert_eq!(gpt.standard.rates, base);
    // what is not told of a step is dearer by as much as it is otherwise
    let long = Rates { cache_write_5m: usd(5.0), reasoning: usd(18.0), ..rates(4.0, None, 15.0) };
    assert_eq!(gpt.standard.tiers[0].rates, long);
    let flex = gpt.rates(ServiceTier::Flex, Tokens(1001)).unwrap();
    assert_eq!((flex.input, flex.output, flex.tool_call), (usd(2.0), usd(7.5), base.tool_call));
    assert_eq!((&*gpt.source, gpt.checked.as_deref()), ("https://example.com/prices", Some("2026-12-01")));
    let picture = tariff(OWN, "openai", "picture-9").standard.rates;
    assert_eq!((picture.image, picture.request), (Some(NanoUsd(40_000_000)), Some(NanoUsd(500_000))));
    // a pattern's names have what the row says of them, and no price that is for another
    let (info, price) = known(&[("own.yaml", OWN)], "openai", "gpt-9-2029-01-01");
    assert_eq!((info.context, price), (Some(1000), None));
}

// === which counts ===

#[test]
fn the_last_file_counts_then_the_one_before_then_the_compiled_in_table() {
    let other = "kinds: {openai: {rows: [{match: [gpt-9, gpt-5], prices: {input: 7, output: 8}}]}}";
    let of = |files: &[(&str, &str)], model| {
        known(files, "openai", model).1.map(|t| (t.standard.rates.input, t.version.to_string()))
    };
    let (own, litellm) = (("a/own.yaml", OWN), ("litellm.json", LITELLM));
    let version = |name: &str, text: &str| written::version(name, text.as_bytes()).to_string();
    assert_eq!(of(&[litellm, own], "gpt-9"), Some((usd(2.0), version("own.yaml", OWN))));
    assert_eq!(of(&[own, litellm], "gpt-9"), Some((usd(2.5), version("litellm.json", LITELLM))));
    assert_eq!(of(&[litellm, own, ("o", other)], "gpt-9"), Some((usd(7.0), version("o", other))));
    assert_eq!(of(&[litellm, own, ("o", other)], "gpt-5"), Some((usd(7.0), version("o", other))));
    assert_eq!(of(&[litellm, own], "gpt-5"), Some((usd(1.25), catalogue::version().to_owned())));
    assert_eq!(of(&[litellm, own], "nobody-knows"), None);
    // a row without a price hides none
    let info = "kinds: {openai: {rows: [{match: [gpt-9], info: {context: 5}}]}}";
    let (info, tariff) = known(&[litellm, ("info", info)], "openai", "gpt-9");
    assert_eq!((info.context, tariff.unwrap().standard.rates.input), (Some(5), usd(2.5)));
}

#[test]
fn a_row_of_a_provider_counts_before_one_of_its_kind_and_at_any_address() {
    let text = "kinds: {openai: {rows: [{match: [m], prices: {input: 1, output: 1}}]}}\n\
                providers: {house: {rows: [{match: [m], prices: {input: 2, output: 2}}]}}\n";
    let kind = "kinds: {openai: {rows: [{match: [m], prices: {input: 3, output: 3}}]}}";
    let prices = Prices::new(vec![table("a", text), table("b", kind), table("c", LITELLM)]);
    let input = |seller: Seller<'_>, model| prices.known_of(seller, model).1.and_then(|t| t.standard.rates.input);
    let elsewhere = |provider| Seller { at_vendor: false, ..seller(provider, "openai") };
    assert_eq!(input(seller("openai", "openai"), "m"), usd(3.0));
    assert_eq!(input(seller("house", "openai"), "m"), usd(2.0));
    assert_eq!(input(elsewhere("house"), "m"), usd(2.0));
    // another's address may serve another's models under the same names
    assert_eq!(input(elsewhere("openai"), "m"), None);
    assert_eq!(input(elsewhere("openai"), "gpt-5"), None);
    // LiteLLM's word for a seller may be the name of an entry
    assert_eq!(input(elsewhere("house"), "own-9"), usd(1.0));
    assert_eq!(input(seller("openai", "openai"), "own-9"), None);
}

#[test]
fn where_our_table_agrees_with_another_s_file_what_only_it_knows_counts_too() {
    let row = |output: &str| {
        format!(
            "{{\"claude-sonnet-4-5\": {{\"litellm_provider\": \"anthropic\", \"mode\": \"chat\", \"input_cost_per_token\": 3e-06, \
                 \"output_cost_per_token\": {output}}}}}"
        )
    };
    let rates = |text: &str| tariff(text, "anthropic", "claude-sonnet-4-5").standard.rates;
    assert_eq!((rates(&row("1.5e-05")).cache_write_1h, rates(&row("1.5e-05")).cached_input), (usd(6.0), usd(0.3)));
    assert_eq!(rates(&row("1.6e-05")), super::tests::rates(3.0, None, 16.0));
}

#[test]
fn at_endpoints_of_a_region_the_compiled_in_prices_are_those_of_regions() {
    let prices = Prices::default();
    let at = |place| prices.known_of(Seller { place, ..seller("v", "vertex") }, "claude-haiku-4-5@20251001").1.unwrap();
    assert_eq!((at(Place::Global).standard.rates.input, at(Place::Global).regional_percent), (usd(1.0), 0));
    assert_eq!((at(Place::Regional).standard.rates.input, at(Place::Regional).regional_percent), (usd(1.1), 10));
}

// === in a configuration ===

fn configured(
    files: &[(&str, &str)],
    rest: &str,
) -> (tempfile::TempDir, Result<crate::config::Checked, Vec<ConfigError>>) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let text = format!(
        "providers: {{openai: {{api_key: sk-x}}, house: {{kind: vllm, base_url: http://127.0.0.1:1}}}}\n\
         prices: {{files: [{}], unpriced: refuse}}\n{rest}",
        names.join(", ")
    );
    let path = folder.path().join("c.yaml");
    std::fs::write(&path, text).expect("a file");
    let checked = load(&path, &Environment::of([] as [(&str, &str); 0]));
    (folder, checked)
}

fn loaded(files: &[(&str, &str)], rest: &str) -> (Vec<String>, Snapshot) {
    let (_folder, checked) = configured(files, rest);
    let checked = checked.unwrap_or_else(|errors| panic!("{}", shown(&errors)));
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    (checked.files.iter().map(name).collect(), checked.into_snapshot(1))
}

#[test]
fn a_target_s_own_price_counts_before_every_file_and_files_before_the_table() {
    let rest = "models:\n  a: openai/gpt-9\n  b: {target: openai/gpt-9, price: {input: 9, output: 9, tool_calls: 5}}\n  c: openai/gpt-5\n  \
                d: house/any\n  \"w-*\": openai/gpt-*\n";
    let (files, snapshot) = loaded(&[("litellm.json", LITELLM), ("own.yaml", OWN)], rest);
    assert_eq!(files, ["litellm.json", "own.yaml"]);
    assert_eq!(snapshot.unpriced, Unpriced::Refuse);
    let tariff = |name: &str| snapshot.models[name].targets[0].tariff.clone();
    assert_eq!(tariff("a").unwrap().standard.rates.input, usd(2.0));
    let b = tariff("b").unwrap();
    let own = Rates { tool_call: Some(NanoUsd(5_000_000)), ..rates(9.0, None, 9.0) };
    assert_eq!((b.standard.rates, b.version.starts_with("configuration:")), (own, true));
    assert_eq!(tariff("c").unwrap().standard.rates.input, usd(1.25));
    assert_eq!(tariff("d").unwrap().standard.rates, rates(0.0, None, 0.0));

    let overview = overview(&snapshot);
    let version = snapshot.prices.version();
    assert_eq!(overview.version, version);
    assert!(version.starts_with(&format!("{}+litellm.json:", catalogue::version())), "{version}");
    let tables: Vec<_> = overview.tables.iter().map(|table| (table.form, table.skipped.len())).collect();
    assert_eq!(tables, [("tollgate", 0), ("litellm", 1), ("tollgate", 0)]);
    let shown = serde_json::to_value(&overview).unwrap();
    assert_eq!(shown["unpriced"], "refuse");
    assert_eq!(
        shown["models"][1],
        serde_json::json!({"model": "b", "target": "openai/gpt-9", "price": {"input": "9", "output": "9", "tool_calls": "5"},
            "version": &*b.version, "source": "configuration", "checked": null})
    );
    assert_eq!(shown["models"][4]["model"], "w-*");
    assert_eq!(shown["models"][4]["price"], serde_json::Value::Null);
}

#[test]
fn a_price_that_is_shown_can_be_written() {
    for (text, kind, model) in [
        (LITELLM, "openai", "gpt-9"),
        (LITELLM, "anthropic", "claude-new-9"),
        (MODELS_DEV, "openai", "gpt-9"),
        (OWN, "openai", "gpt-9"),
        (OWN, "openai", "picture-9"),
    ] {
        let tariff = tariff(text, kind, model);
        let price = serde_json::to_string(&words(&tariff)).unwrap();
        let (_, snapshot) = loaded(&[], &format!("models: {{m: {{target: house/any, price: {price}}}}}"));
        let read = snapshot.models["m"].targets[0].tariff.clone().unwrap();
        assert_eq!((&read.standard, &read.services), (&tariff.standard, &tariff.services), "{price}");
        assert_eq!(read.in_region_percent, tariff.in_region_percent);
    }
}

#[test]
fn faults_of_a_file_name_it_and_the_place() {
    let slips = "kinds:\n  opnai: {rows: [{match: [a], prices: {input: 1, output: 1}}]}\n  openai:\n    rows:\n      \
                 - {match: [a, A], prices: {input: 1}}\n      - {match: [b], prices: {inputs: 1}}\n      \
                 - {match: [c], like: openai/nobody, prices: {input: -1, output: 1e3}}\n      \
                 - {match: [d], prices: {input: 1, output: 1, above: [{tokens: 5, input: 1, output: 1}, {tokens: 4}, {tier: flex}],\n                 \
                 services: [{tier: slow}, {input: 1}, {tier: flex, input: 1, output: 1}, {tier: flex, input: 2, output: 2}]}}\n";
    let (_folder, checked) = configured(&[("p.yaml", slips), ("none.json", "{\"a\": 1}")], "");
    let errors = checked.expect_err("it is at fault");
    insta::assert_snapshot!(shown(&errors));
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_a_fault_of_the_configuration() {
    let (_folder, checked) = configured(&[], "models: {m: openai/gpt-5}\n");
    assert!(checked.is_ok());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.yaml");
    std::fs::write(folder.path().join("b.yaml"), [0xff, 0xfe, 0x00]).expect("a file");
    let text = "providers: {openai: {api_key: sk-x}}\nprices: {files: [none.yaml, b.yaml], unpriced: sometimes}\n";
    std::fs::write(&path, text).expect("a file");
    let errors = load(&path, &Environment::of([] as [(&str, &str); 0])).expect_err("it is at fault");
    let shown = shown(&errors).replace(&folder.path().display().to_string(), "");
    assert_eq!(
        shown,
        "/c.yaml:2:18: prices.files[0]: \"none.yaml\" cannot be read: entity not found (paths begin at this file's folder)\n\
         /c.yaml:2:48: prices.unpriced: \"sometimes\" is not known: write one of allow, warn, refuse\n\
         b.yaml: is not UTF-8 text (byte 0): save it as UTF-8\n"
    );
}

proptest! {
    #[test]
    fn any_text_is_a_table_or_a_fault_and_never_a_panic(text in "\\PC{0,80}|[{}\\[\\]\":,a-z0-9.e-]{0,80}") {
        let _ = read(text.as_bytes(), "f");
    }

    #[test]
    fn a_file_that_was_cut_or_spoiled_is_a_table_or_a_fault(which in 0usize..3, at in 0usize..6000, byte in any::<u8>()) {
        let mut text = [LITELLM, MODELS_DEV, OWN][which].as_bytes().to_vec();
        let place = at % text.len();
        text[place] = byte;
        let _ = read(&text, "f");
        let _ = read(&text[..place], "f");
    }

    #[test]
    fn any_name_has_a_price_or_none_and_never_a_panic(model in "\\PC{0,40}", kind in "openai|bedrock|vertex|\\PC{0,6}") {
        let prices = Prices::new(vec![table("l", LITELLM), table("o", OWN)]);
        let _ = prices.known_of(seller("house", &kind), &model);
    }
}
