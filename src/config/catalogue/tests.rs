//! The table itself is tested: form, order, sane numbers. What stands in it is tested by hand for the models that people use most.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::config::raw::price::{PriceFile, PriceKind, PriceRow};
use crate::config::tariff::{ServiceTier, Tier};
use crate::config::{decode, tree};
use crate::units::{NanoUsd, PicoUsdPerToken, Tokens};

fn file() -> PriceFile {
    let root = tree::parse(&NAME.into(), include_str!("../../../conf/models.yaml")).expect("conf/models.yaml is read");
    decode::decode(&root).expect("conf/models.yaml has the form of a file of prices")
}

fn kinds() -> Vec<(String, PriceKind)> {
    file().kinds.expect("kinds").0.into_iter().map(|(name, kind)| (name.value, kind)).collect()
}

/// Every row of the file: its kind, its place there, itself.
fn rows() -> Vec<(String, usize, PriceRow)> {
    let each = kinds().into_iter().flat_map(|(name, kind)| {
        kind.rows.into_iter().flatten().enumerate().map(move |(at, row)| (name.clone(), at, row.value))
    });
    each.collect()
}

fn patterns(row: &PriceRow) -> Vec<String> {
    row.patterns.iter().flat_map(|names| &names.0).map(|at| at.value.clone()).collect()
}

/// Of each price of a row, the names it holds for.
fn names(row: &PriceRow) -> Vec<Vec<String>> {
    row.prices
        .iter()
        .flat_map(|prices| &prices.0)
        .map(|price| price.value.0.names.clone().unwrap_or_default())
        .collect()
}

/// A name that fits a pattern and nothing else that one would think of.
fn example(pattern: &str) -> String {
    pattern.replace('*', "0")
}

fn place(kind: &str, name: &str) -> Option<usize> {
    let kind = TABLE.kinds.get(kind)?;
    let row = kind.find(name)?.row;
    kind.rows.iter().position(|other| std::ptr::eq(other, row))
}

/// USD per million tokens, as people say it.
fn usd(known: Option<Known>) -> Option<(f64, Option<f64>, f64)> {
    let dollars = |rate: PicoUsdPerToken| rate.0 as f64 / 1e6;
    let rates = known?.tariff?.standard.rates;
    Some((dollars(rates.input?), rates.cached_input.map(dollars), dollars(rates.output?)))
}

#[test]
fn every_row_is_read_and_says_where_it_is_from_and_when() {
    let version: jiff::civil::Date = version().parse().expect("the version is a date");
    let kinds = kinds();
    for (name, kind) in &kinds {
        assert!(kind.source.as_deref().is_some_and(|source| source.starts_with("https://")), "{name}");
    }
    assert!(rows().len() >= 150);
    for (kind, at, row) in rows() {
        let names = patterns(&row).join(" ");
        let checked = row.checked.as_deref().unwrap_or_default();
        let checked: jiff::civil::Date = checked.parse().unwrap_or_else(|e| panic!("{kind} {names}: {e}"));
        assert!(checked <= version && checked.year() >= 2026, "{kind} {names}");
        assert!(!names.is_empty(), "{kind} {at}");
        for name in patterns(&row) {
            assert!(
                !name.is_empty() && !name.contains(|c: char| c.is_ascii_uppercase() || c.is_whitespace()),
                "{name}"
            );
        }
        assert!(row.like.is_some() || row.info.is_some() || row.prices.is_some(), "{kind} {names}");
    }
}

#[test]
fn no_row_and_no_price_hides_another() {
    let mut seen = HashSet::new();
    for (kind, at, row) in rows() {
        for pattern in &patterns(&row) {
            assert!(seen.insert((kind.clone(), pattern.clone())), "{kind}: {pattern} is there twice");
            assert_eq!(place(&kind, &example(pattern)), Some(at), "{kind}: {pattern} is hidden by another row");
        }
        let built = &TABLE.kinds[&kind].rows[at];
        for (nth, names) in names(&row).iter().enumerate() {
            let examples: Vec<String> = match names.as_slice() {
                [] => patterns(&row).iter().map(|pattern| example(pattern)).collect(),
                // a Bedrock prefix, before what the row says behind its star
                names if kind == "bedrock" => {
                    let ids: Vec<String> =
                        patterns(&row).iter().map(|id| id.trim_start_matches('*').replace('*', "0")).collect();
                    let before = |id: &str, name: &String| match name.strip_suffix('*') {
                        Some(prefix) if id.starts_with(prefix) => id.to_owned(),
                        Some(prefix) => format!("{prefix}{id}"),
                        None => name.clone(),
                    };
                    ids.iter().flat_map(|id| names.iter().map(|name| before(id, name))).collect()
                }
                names => names.to_vec(),
            };
            for name in examples {
                assert_eq!(place(&kind, &name), Some(at), "{kind}: a price is for {name}, which is not of its row");
                let found = built.prices.iter().position(|priced| priced.holds_for(&name));
                assert_eq!(found, Some(nth), "{kind}: another price stands before that of {name}");
            }
        }
    }
}

#[test]
fn a_pattern_prices_nothing_that_does_not_exist_yet() {
    for (kind, _, row) in rows() {
        let patterns = patterns(&row);
        let open = patterns.iter().any(|pattern| pattern.contains('*') && !pattern.starts_with("ft:"));
        for names in names(&row) {
            let prefixes = kind == "bedrock";
            assert!(!open || !names.is_empty(), "{kind} {patterns:?}: say `for`");
            assert!(prefixes || names.iter().all(|name| !name.contains('*')), "{kind} {names:?}");
        }
    }
}

#[test]
fn the_numbers_are_sane() {
    let ordered = |what: &str, rates: &[Option<PicoUsdPerToken>]| {
        let rates: Vec<_> = rates.iter().flatten().collect();
        assert!(rates.is_sorted(), "{what}: {rates:?}");
        assert!(rates.iter().all(|rate| rate.0 < 1_000_000_000), "{what}: more than $1000 a million");
    };
    for (kind, table) in &TABLE.kinds {
        for (at, row) in table.rows.iter().enumerate() {
            let what = format!("{kind}, row {at} ({:?})", row.checked);
            let Info { context, max_output, .. } = row.info;
            assert!(context.zip(max_output).is_none_or(|(context, output)| output <= context), "{what}");
            assert!(context.is_none_or(|tokens| (512..=4_000_000).contains(&tokens)), "{what}");
            for priced in &row.prices {
                let tariff = &priced.tariff;
                let rates = tariff.standard.rates;
                assert!(rates.input.is_some() != rates.search.is_some(), "{what}: a price of tokens, or of searches");
                assert_eq!(rates.input.is_some(), rates.output.is_some(), "{what}");
                let Some((input, output)) = rates.input.zip(rates.output) else { continue };
                assert!(input.0 > 0, "{what}");
                let embeds = output.0 == 0;
                assert!(embeds || input <= output, "{what}");
                ordered(&what, &[rates.cached_input, rates.input, rates.cache_write_5m, rates.cache_write_1h]);
                assert!(rates.audio_input.is_none_or(|audio| audio > input), "{what}");
                assert!(priced.regional.as_ref().is_none_or(|tariff| tariff.regional_percent <= 20), "{what}");
                let mut before = (Tokens(0), rates.input, rates.output);
                for tier in &tariff.standard.tiers {
                    let Tier { above, rates: tier } = tier;
                    assert!(*above > before.0 && context.is_none_or(|context| above.0 <= context), "{what}");
                    assert!(tier.input.is_none_or(|rate| Some(rate) > before.1), "{what}");
                    assert!(tier.output.is_none_or(|rate| Some(rate) > before.2), "{what}");
                    ordered(&what, &[tier.cached_input, tier.input, tier.cache_write_5m, tier.cache_write_1h]);
                    assert_eq!(tier.input.is_some(), tier.output.is_some(), "{what}");
                    before = (*above, tier.input, tier.output);
                }
            }
        }
    }
}

#[test]
fn well_known_models_have_their_list_prices() {
    for (kind, model, price) in [
        ("openai", "gpt-4o", (2.5, Some(1.25), 10.0)),
        ("openai", "gpt-4o-mini", (0.15, Some(0.075), 0.6)),
        ("openai", "gpt-4.1-nano", (0.1, Some(0.025), 0.4)),
        ("openai", "gpt-5", (1.25, Some(0.125), 10.0)),
        ("openai", "gpt-5-nano", (0.05, Some(0.005), 0.4)),
        ("openai", "o3", (2.0, Some(0.5), 8.0)),
        ("openai", "o1-pro", (150.0, None, 600.0)),
        ("openai", "text-embedding-3-small", (0.02, None, 0.0)),
        ("anthropic", "claude-3-haiku-20240307", (0.25, Some(0.03), 1.25)),
        ("anthropic", "claude-sonnet-4-5", (3.0, Some(0.3), 15.0)),
        ("anthropic", "claude-opus-4-1", (15.0, Some(1.5), 75.0)),
        ("anthropic", "claude-opus-5-5", (4.0, Some(0.2), 20.0)),
        ("gemini", "gemini-2.5-pro", (1.25, Some(0.125), 10.0)),
        ("gemini", "gemini-2.5-flash-lite", (0.1, Some(0.01), 0.4)),
        ("mistral", "mistral-large-2512", (0.5, None, 1.5)),
        ("cohere", "command-a-03-2025", (2.5, None, 10.0)),
        ("groq", "llama-3.3-70b-versatile", (0.59, None, 0.79)),
        ("xai", "grok-4.3", (1.25, Some(0.2), 2.5)),
        ("bedrock", "amazon.nova-micro-v1:0", (0.035, Some(0.00875), 0.14)),
    ] {
        assert_eq!(usd(lookup(kind, model)), Some(price), "{kind} {model}");
    }
    let tariff = |kind, model| lookup(kind, model).and_then(|known| known.tariff).expect("has a price");
    let rates = |kind, model| tariff(kind, model).standard.rates;
    let million = |usd: f64| Some(PicoUsdPerToken((usd * 1e6).round() as i64));
    let sonnet = rates("anthropic", "claude-sonnet-4-5");
    assert_eq!((sonnet.cache_write_5m, sonnet.cache_write_1h), (million(3.75), million(6.0)));
    let pro = &tariff("gemini", "gemini-2.5-pro").standard.tiers[0];
    assert_eq!((pro.above, pro.rates.input, pro.rates.output), (Tokens(200_000), million(2.5), million(15.0)));
    assert_eq!(rates("openai", "gpt-audio").audio_output, million(64.0));
    // $2 for a thousand
    assert_eq!(rates("cohere", "rerank-v3.5").search, Some(NanoUsd(2_000_000)));
    // $1 and $5, a tenth more in a region
    let haiku = "claude-haiku-4-5@20251001";
    assert_eq!(usd(lookup_at("vertex", haiku, Place::Global)), Some((1.0, Some(0.1), 5.0)));
    assert_eq!(usd(lookup_at("vertex", haiku, Place::Regional)), Some((1.1, Some(0.11), 5.5)));
    assert_eq!(usd(lookup_at("gemini", "gemini-2.5-pro", Place::Regional)), Some((1.25, Some(0.125), 10.0)));
}

#[test]
fn well_known_models_can_what_they_can() {
    let info = |kind, model| lookup(kind, model).expect("is known").info;
    let gpt = info("openai", "gpt-5");
    assert_eq!((gpt.context, gpt.max_output), (Some(400_000), Some(128_000)));
    assert_eq!(
        (gpt.vision, gpt.tools, gpt.json_schema, gpt.reasoning),
        (Some(true), Some(true), Some(true), Some(true))
    );
    let old = info("openai", "gpt-3.5-turbo");
    assert_eq!((old.vision, old.json_schema, old.reasoning), (Some(false), Some(false), Some(false)));
    let claude = info("anthropic", "claude-sonnet-4-5-20250929");
    assert_eq!((claude.context, claude.documents, claude.audio), (Some(200_000), Some(true), Some(false)));
    assert_eq!(info("vertex", "claude-sonnet-4-5@20250929"), claude);
    assert_eq!(info("bedrock", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"), claude);
    assert_eq!(info("gemini", "gemini-2.5-flash").audio, Some(true));
    assert_eq!(info("azure", "gpt-4o"), info("openai", "gpt-4o"));
    assert_eq!(info("azure", "gpt-35-turbo").context, Some(16_385));
    // not known, not denied
    assert_eq!(info("mistral", "mistral-large-latest").context, None);
}

#[test]
fn dated_and_prefixed_names_are_the_same_model() {
    let price = |kind: &str, model: &str| usd(lookup(kind, model)).map(|(input, _, output)| (input, output));
    // a snapshot that is listed has a price, and one of its own where it differs
    assert_eq!(price("openai", "gpt-5-2025-08-07"), price("openai", "gpt-5"));
    assert_eq!(price("openai", "gpt-4o-2024-05-13"), Some((5.0, 15.0)));
    // one that is not listed can what the others can, at a price that nobody knows
    let later = lookup("openai", "gpt-5-2029-01-01").expect("is known");
    assert_eq!((later.info, later.tariff), (lookup("openai", "gpt-5").unwrap().info, None));
    assert_ne!(lookup("openai", "gpt-5-mini").unwrap(), lookup("openai", "gpt-5").unwrap());

    assert_eq!(price("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc"), Some((0.3, 1.2)));
    assert_eq!(price("gemini", "models/gemini-2.5-pro"), Some((1.25, 10.0)));
    assert_eq!(price("vertex", "google/gemini-2.5-pro"), Some((1.25, 10.0)));
    assert_eq!(price("vertex", "publishers/anthropic/models/claude-opus-4-6@default"), Some((5.0, 25.0)));
    assert_eq!(price("azure", "GPT-4o"), Some((2.5, 10.0)));

    let sonnet = "anthropic.claude-sonnet-4-5-20250929-v1:0";
    assert_eq!(price("bedrock", &format!("global.{sonnet}")), Some((3.0, 15.0)));
    for prefix in ["us", "eu", "jp", "au"] {
        assert_eq!(price("bedrock", &format!("{prefix}.{sonnet}")), Some((3.3, 16.5)), "{prefix}");
    }
    for unpriced in [sonnet.to_owned(), format!("us-gov.{sonnet}")] {
        assert_eq!(lookup("bedrock", &unpriced).expect("is known").tariff, None, "{unpriced}");
    }
    let arn = format!("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{sonnet}");
    assert_eq!(lookup("bedrock", &arn), lookup("bedrock", &format!("us.{sonnet}")));
    assert_eq!(price("bedrock", "amazon.nova-lite-v1:0"), price("bedrock", "us.amazon.nova-lite-v1:0"));
    assert_eq!(price("bedrock", "eu.amazon.nova-lite-v1:0"), None);
}

#[test]
fn tools_and_service_tiers_have_the_prices_of_who_serves_them() {
    let tariff = |kind, model| lookup(kind, model).and_then(|known| known.tariff).expect("has a price");
    let gpt = tariff("openai", "gpt-5");
    // $10 a thousand
    assert_eq!(gpt.standard.rates.tool_call, Some(NanoUsd(10_000_000)));
    let at =
        |tier, tokens| gpt.rates(tier, Tokens(tokens)).map(|rates| (rates.input.unwrap().0, rates.output.unwrap().0));
    assert_eq!(at(ServiceTier::Flex, 1), Some((625_000, 5_000_000)));
    assert_eq!(at(ServiceTier::Priority, 1), Some((2_500_000, 20_000_000)));
    assert_eq!(at(ServiceTier::Fast, 1), None);
    // Azure has the prices of tokens, and tools of its own
    let azure = tariff("azure", "gpt-5");
    assert_eq!((azure.standard.rates.input, azure.standard.rates.tool_call), (gpt.standard.rates.input, None));
    assert_eq!(azure.rates(ServiceTier::Priority, Tokens(1)), None);
    let opus = tariff("anthropic", "claude-opus-4-6");
    assert_eq!((opus.standard.rates.tool_call, opus.in_region_percent), (Some(NanoUsd(10_000_000)), Some(10)));
    let fast = opus.rates(ServiceTier::Fast, Tokens(1)).unwrap();
    assert_eq!(
        (fast.input, fast.output, fast.tool_call),
        (Some(PicoUsdPerToken(30_000_000)), Some(PicoUsdPerToken(150_000_000)), opus.standard.rates.tool_call)
    );
    // a rerank has no tools
    assert_eq!(tariff("cohere", "rerank-v3.5").standard.rates.tool_call, None);
}

#[test]
fn what_is_not_in_the_table_is_not_known() {
    for (kind, model) in [
        ("openai", "gpt-99"),
        ("openai", "gpt-5-20*"),
        ("openai", "my-gpt-5"),
        ("openai", ""),
        ("nobody", "gpt-5"),
        ("nobody", "openai/gpt-5"),
        ("anthropic", "gpt-5"),
        ("gemini", "tunedModels/mine"),
        ("bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"),
        ("vertex", "endpoints/1234567890"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    ] {
        assert_eq!(lookup(kind, model), None, "{kind} {model}");
    }
}

#[test]
fn elsewhere_a_vendor_s_model_can_the_same_and_costs_what_that_one_says() {
    for (model, own) in [
        ("openai/gpt-4o-mini", ("openai", "gpt-4o-mini")),
        ("openai/gpt-4o:extended", ("openai", "gpt-4o")),
        ("anthropic/claude-sonnet-4.5", ("anthropic", "claude-sonnet-4-5")),
        ("anthropic/claude-3.7-sonnet:thinking", ("anthropic", "claude-3-7-sonnet-20250219")),
        ("google/gemini-2.5-pro", ("gemini", "gemini-2.5-pro")),
        ("x-ai/grok-4.3", ("xai", "grok-4.3")),
        ("mistralai/mistral-large-2512", ("mistral", "mistral-large-2512")),
    ] {
        let known = lookup("openrouter", model).unwrap_or_else(|| panic!("{model} is not known"));
        assert_eq!(known.info, lookup(own.0, own.1).expect("is known").info, "{model}");
        assert_eq!(known.tariff, None, "{model}");
    }
    // an entry of kind `openai` may be anybody's
    assert_eq!(lookup("openai", "anthropic/claude-opus-4.6").expect("is known").info.context, Some(1_000_000));
    // a row of its own counts first, with its price
    assert!(lookup("groq", "openai/gpt-oss-120b").expect("is known").tariff.is_some());
    for local in ["ollama", "vllm", "llamacpp", "lmstudio"] {
        assert_eq!(lookup(local, "openai/gpt-4o"), None, "{local}: the operator sets the limits there");
    }
}

#[test]
fn a_thousand_models_are_looked_up_at_once() {
    lookup("openai", "gpt-5");
    let names = ["gpt-5", "gpt-5-2029-01-01", "nothing-of-the-kind", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"];
    let round = || {
        let started = Instant::now();
        for n in 0..1_000 {
            lookup(["openai", "bedrock"][n % 2], names[n % names.len()]);
        }
        started.elapsed()
    };
    let best = (0..5).map(|_| round()).min().unwrap();
    println!("1000 look-ups: {best:?}");
    assert!(best < Duration::from_millis(50), "{best:?}");
}

#[test]
fn a_table_with_a_slip_is_refused() {
    let read = |row: &str| {
        let text = format!("version: 2026-01-01\nkinds:\n  openai:\n    source: https://x\n    rows:\n      - {row}\n");
        super::read(&text).map(|_| ())
    };
    assert_eq!(read("{match: [a], checked: 2026-01-01}"), Ok(()));
    for slip in [
        "{checked: 2026-01-01}",
        "{match: [a, a], checked: 2026-01-01}",
        "{match: [a], checked: 2026-01-01, info: {visions: true}}",
        "{match: [a], checked: 2026-01-01, like: openai/b}",
        "{match: [a], checked: 2026-01-01, prices: [{input: \"1,50\", output: \"3\"}]}",
        "{match: [a], checked: 2026-01-01, prices: [{inputs: \"1\", output: \"3\"}]}",
    ] {
        assert!(read(slip).is_err(), "{slip}");
    }
}

proptest! {
    #[test]
    fn any_name_is_known_or_not_and_never_a_panic(kind in "openai|bedrock|vertex|openrouter|\\PC{0,6}", model in "\\PC{0,40}") {
        let _ = lookup(&kind, &model);
    }
}
