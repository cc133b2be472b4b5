//! The arithmetic, by hand and by property.

use proptest::prelude::*;

use super::*;
use crate::config::tariff::{Card, Rates, Tier};
use crate::units::PicoUsdPerToken;

/// USD per million tokens.
fn usd(text: &str) -> Option<PicoUsdPerToken> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number = format!("{whole}{fraction:0<6}");
    Some(PicoUsdPerToken(number.parse().expect("a price with six decimals at most")))
}

fn rates(input: &str, output: &str) -> Rates {
    Rates { input: usd(input), output: usd(output), ..Rates::default() }
}

fn tokens(input: u64, output: u64) -> Used {
    let usage = Usage { input: Tokens(input), output: Tokens(output), ..Usage::default() };
    Used { usage, ..Used::default() }
}

/// Thousandths of a thousandth of a cent: 1e-9 USD.
fn nano(amount: i64) -> Option<NanoUsd> {
    Some(NanoUsd(amount))
}

// === by hand ===

#[test]
fn each_token_is_billed_once_at_the_rate_of_its_kind() {
    let full = Rates {
        cached_input: usd("0.3"),
        cache_write_5m: usd("3.75"),
        cache_write_1h: usd("6"),
        reasoning: usd("20"),
        audio_input: usd("40"),
        audio_output: usd("80"),
        ..rates("3", "15")
    };
    let usage = Usage {
        input: Tokens(1000),
        cache_read: Tokens(400),
        cache_write_5m: Tokens(200),
        cache_write_1h: Tokens(100),
        input_audio: Tokens(50),
        output: Tokens(100),
        reasoning: Tokens(60),
        output_audio: Tokens(10),
        server_tool_calls: 0,
    };
    let used = Used { usage, ..Used::default() };
    // 400 x 0.3 + 200 x 3.75 + 100 x 6 + 50 x 40 + 250 x 3 = 4220; 60 x 20 + 10 x 80 + 30 x 15 = 2450 (1e-6 USD)
    assert_eq!(cost(&Tariff::of_rates(full), &used), nano(6_670_000));
    // what has no rate of its own is part of what has one: 1000 x 3 + 100 x 15
    assert_eq!(cost(&Tariff::of_rates(rates("3", "15")), &used), nano(4_500_000));
    // an hour's writing without a rate of its own costs what five minutes do: 1000 x 3 + 300 x 1 more
    let five = Rates { cache_write_5m: usd("4"), ..rates("3", "15") };
    assert_eq!(cost(&Tariff::of_rates(five), &used), nano(4_800_000));
}

#[test]
fn what_has_no_price_is_not_free() {
    let input_only = Tariff::of_rates(Rates { output: None, ..rates("0.02", "0") });
    assert_eq!(cost(&input_only, &tokens(1000, 0)), nano(20_000));
    assert_eq!(cost(&input_only, &tokens(1000, 1)), None);
    assert_eq!(worst(&input_only, &Worst { input: Tokens(1), output: Tokens(1), ..Worst::default() }), None);
    assert_eq!(lines(&input_only, &tokens(1000, 1)), []);
    assert_eq!(cost(&Tariff::of_rates(Rates::default()), &tokens(0, 0)), nano(0));

    let mut searched = tokens(1000, 0);
    searched.usage.server_tool_calls = 2;
    assert_eq!(cost(&input_only, &searched), None);
    let priced = Rates { tool_call: Some(NanoUsd(10_000_000)), ..rates("0.02", "0") };
    assert_eq!(cost(&Tariff::of_rates(priced), &searched), nano(20_020_000));
    // free of charge is something that is known
    assert_eq!(cost(&Tariff::of_rates(rates("0", "0")), &tokens(9, 9)), nano(0));
}

#[test]
fn pieces_are_billed_by_the_piece_or_by_their_tokens() {
    let rerank = Tariff::of_rates(Rates { search: Some(NanoUsd(2_000_000)), ..Rates::default() });
    let searched = Used { searches: 3, ..tokens(5000, 0) };
    assert_eq!(cost(&rerank, &searched), nano(6_000_000));
    // reported as a tool of the provider's
    let mut reported = tokens(5000, 0);
    reported.usage.server_tool_calls = 3;
    assert_eq!(cost(&rerank, &reported), nano(6_000_000));
    // nothing says how many there were
    assert_eq!(cost(&rerank, &tokens(5000, 0)), None);
    // by the token
    assert_eq!(cost(&Tariff::of_rates(rates("0.05", "0")), &searched), nano(250_000));

    let by_piece = Tariff::of_rates(Rates { image: Some(NanoUsd(40_000_000)), ..Rates::default() });
    assert_eq!(cost(&by_piece, &Used { images: 2, ..tokens(0, 0) }), nano(80_000_000));
    let by_token = Tariff::of_rates(Rates { image_output: usd("30"), ..rates("0.3", "2.5") });
    // 10 x 0.3 + 1290 x 30 + 10 x 2.5
    let drawn = Used { images: 1, output_image: Tokens(1290), ..tokens(10, 1300) };
    assert_eq!(cost(&by_token, &drawn), nano(38_728_000));
    assert_eq!(cost(&by_token, &Used { images: 1, ..tokens(10, 0) }), None);

    let with_fee = Tariff::of_rates(Rates { request: Some(NanoUsd(5_000_000)), ..rates("1", "1") });
    assert_eq!(cost(&with_fee, &tokens(1000, 1000)), nano(7_000_000));
}

#[test]
fn a_long_prompt_has_the_rates_of_its_tier_from_the_first_token_on() {
    let mut tariff = Tariff::of_rates(Rates { cached_input: usd("0.125"), ..rates("1.25", "10") });
    let long = Rates { cached_input: usd("0.25"), ..rates("2.5", "15") };
    tariff.standard.tiers = vec![Tier { above: Tokens(200_000), rates: long }];
    assert_eq!(cost(&tariff, &tokens(200_000, 100)), nano(251_000_000));
    assert_eq!(cost(&tariff, &tokens(200_001, 100)), nano(501_502_500));
    let ask = Worst { input: Tokens(200_000), output: Tokens(100), ..Worst::default() };
    assert_eq!(worst(&tariff, &ask), nano(251_000_000));
    assert_eq!(worst(&tariff, &Worst { input: Tokens(200_001), ..ask }), nano(501_502_500));
    // beyond it nobody knows the rates
    tariff.standard.tiers[0].rates = Rates::default();
    assert_eq!(cost(&tariff, &tokens(200_001, 100)), None);
    assert_eq!(worst(&tariff, &Worst { input: Tokens(200_001), ..ask }), None);
    assert_eq!(worst(&tariff, &ask), nano(251_000_000));
}

#[test]
fn a_service_tier_has_its_own_rates_and_an_unknown_one_has_none() {
    let mut tariff = Tariff::of_rates(rates("2", "10"));
    let on = |tariff: &Tariff, service_tier| cost(tariff, &Used { service_tier, ..tokens(1000, 1000) });
    assert_eq!(on(&tariff, ServiceTier::Flex), nano(12_000_000));
    for dearer in [ServiceTier::Priority, ServiceTier::Fast, ServiceTier::Other] {
        assert_eq!(on(&tariff, dearer), None, "{dearer:?}");
    }
    let card = |input, output| Card { rates: rates(input, output), tiers: Vec::new() };
    tariff.services = vec![(ServiceTier::Flex, card("1", "5")), (ServiceTier::Priority, card("4", "20"))];
    assert_eq!(on(&tariff, ServiceTier::Flex), nano(6_000_000));
    assert_eq!(on(&tariff, ServiceTier::Priority), nano(24_000_000));
    assert_eq!(on(&tariff, ServiceTier::Default), nano(12_000_000));
    let asks = |service_tier| {
        let ask = Worst { input: Tokens(1000), output: Tokens(500), choices: 2, service_tier, ..Worst::default() };
        worst(&tariff, &ask)
    };
    assert_eq!(asks(ServiceTier::Default), nano(12_000_000));
    assert_eq!(asks(ServiceTier::Priority), nano(24_000_000));
    // who asks for less may be served as all others are
    assert_eq!(asks(ServiceTier::Flex), nano(12_000_000));
    assert_eq!(asks(ServiceTier::Other), None);
    // beyond the size from which the standard rates are others, nothing is known of a dearer tier
    let long = Tier { above: Tokens(500), rates: rates("4", "15") };
    tariff.standard.tiers = vec![long];
    assert_eq!(on(&tariff, ServiceTier::Priority), None);
    assert_eq!(on(&tariff, ServiceTier::Flex), nano(19_000_000));
}

#[test]
fn a_call_that_stays_in_a_region_costs_more_or_nobody_knows_what() {
    let mut tariff = Tariff::of_rates(Rates { tool_call: Some(NanoUsd(10_000_000)), ..rates("5", "25") });
    let mut used = Used { place: Place::Regional, ..tokens(1001, 100) };
    used.usage.server_tool_calls = 1;
    let ask = Worst { input: Tokens(1001), output: Tokens(100), place: Place::Regional, ..Worst::default() };
    assert_eq!((cost(&tariff, &used), worst(&tariff, &ask)), (None, None));
    tariff.in_region_percent = Some(10);
    // 1001 x 5.50 + 100 x 27.50 (1e-6 USD), and a search that costs the same everywhere
    assert_eq!(cost(&tariff, &used), nano(18_255_500));
    assert_eq!(worst(&tariff, &Worst { server_tool_calls: 1, ..ask }), nano(18_255_500));
}

#[test]
fn the_words_of_service_tiers_are_known() {
    for (word, tier) in [
        ("auto", ServiceTier::Default),
        ("default", ServiceTier::Default),
        ("standard", ServiceTier::Default),
        ("standard_only", ServiceTier::Default),
        ("on_demand", ServiceTier::Default),
        ("flex", ServiceTier::Flex),
        ("FLEX", ServiceTier::Flex),
        ("priority", ServiceTier::Priority),
        ("batch", ServiceTier::Batch),
        ("fast", ServiceTier::Fast),
        ("ultra", ServiceTier::Other),
    ] {
        assert_eq!(ServiceTier::from_word(word), tier, "{word}");
    }
}

#[test]
fn the_worst_case_rules_out_what_the_request_cannot_do() {
    let full = Rates {
        cached_input: usd("0.3"),
        cache_write_5m: usd("3.75"),
        cache_write_1h: usd("6"),
        audio_input: usd("40"),
        tool_call: Some(NanoUsd(10_000_000)),
        ..rates("3", "15")
    };
    let tariff = Tariff::of_rates(full);
    let ask = Worst { input: Tokens(1000), output: Tokens(100), ..Worst::default() };
    let with = |without| worst(&tariff, &Worst { without, ..ask });
    assert_eq!(with(Without::default()), nano(41_500_000));
    let audio = Without { audio: true, ..Without::default() };
    assert_eq!(with(audio), nano(7_500_000));
    assert_eq!(with(Without { cache_hour: true, ..audio }), nano(5_250_000));
    assert_eq!(with(Without { cache_write: true, ..audio }), nano(4_500_000));
    let searches = Worst { server_tool_calls: 5, without: Without { cache_write: true, ..audio }, ..ask };
    assert_eq!(worst(&tariff, &searches), nano(54_500_000));
}

#[test]
fn a_bill_is_told_line_by_line_in_exact_dollars() {
    let tariff = Tariff::of_rates(Rates { cached_input: usd("0.01875"), ..rates("0.075", "0.3") });
    let mut used = tokens(1001, 7);
    used.usage.cache_read = Tokens(3);
    used.usage.reasoning = Tokens(2);
    // 998 x 75000 + 3 x 18750 + 7 x 300000 (1e-12 USD) = 77_006_250
    assert_eq!(cost(&tariff, &used), nano(77_007));
    let shown = serde_json::to_string(&lines(&tariff, &used)).unwrap();
    assert_eq!(
        shown,
        "[{\"what\":\"cached_input\",\"count\":3,\"rate_usd\":\"0.00000001875\",\"amount_usd\":\"0.00000005625\"},\
         {\"what\":\"input\",\"count\":998,\"rate_usd\":\"0.000000075\",\"amount_usd\":\"0.00007485\"},\
         {\"what\":\"reasoning\",\"count\":2,\"rate_usd\":\"0.0000003\",\"billed_as\":\"output\",\"amount_usd\":\"0.0000006\"},\
         {\"what\":\"output\",\"count\":5,\"rate_usd\":\"0.0000003\",\"amount_usd\":\"0.0000015\"},\
         {\"what\":\"rounding\",\"count\":1,\"rate_usd\":\"0.00000000075\",\"amount_usd\":\"0.00000000075\"}]"
    );
}

#[test]
fn absurd_numbers_saturate() {
    let most = Some(PicoUsdPerToken(i64::MAX));
    let dear =
        Tariff::of_rates(Rates { input: most, output: most, tool_call: Some(NanoUsd(i64::MAX)), ..Rates::default() });
    let max = Tokens(u64::MAX);
    let usage = Usage {
        input: max,
        cache_read: max,
        cache_write_5m: max,
        cache_write_1h: max,
        input_audio: max,
        output: max,
        reasoning: max,
        output_audio: max,
        server_tool_calls: u32::MAX,
    };
    let used = Used { usage, input_image: max, output_image: max, images: u32::MAX, ..Used::default() };
    assert_eq!(cost(&dear, &used), nano(i64::MAX));
    let ask = Worst { input: max, output: max, choices: u32::MAX, server_tool_calls: u32::MAX, ..Worst::default() };
    assert_eq!(worst(&dear, &ask), nano(i64::MAX));
    // more was read from the cache than there was: no token is billed twice
    let mut odd = tokens(100, 0);
    odd.usage.cache_read = Tokens(5000);
    let tariff = Tariff::of_rates(Rates { cached_input: usd("0.5"), ..rates("5", "25") });
    assert_eq!(cost(&tariff, &odd), nano(50_000));
    // a rate below nothing is no refund
    assert_eq!(cost(&Tariff::of_tokens(PicoUsdPerToken(-5), PicoUsdPerToken(i64::MIN)), &tokens(9, 9)), nano(0));
}

// === by property ===

fn a_rate() -> impl Strategy<Value = Option<PicoUsdPerToken>> {
    prop_oneof![
        2 => Just(None),
        6 => (0i64..200_000_000).prop_map(|rate| Some(PicoUsdPerToken(rate))),
        1 => any::<i64>().prop_map(|rate| Some(PicoUsdPerToken(rate))),
    ]
}

fn a_piece() -> impl Strategy<Value = Option<NanoUsd>> {
    prop_oneof![1 => Just(None), 2 => (0i64..100_000_000).prop_map(|rate| Some(NanoUsd(rate)))]
}

prop_compose! {
    fn some_rates()(
        tokens in proptest::array::uniform10(a_rate()),
        pieces in proptest::array::uniform4(a_piece()),
    ) -> Rates {
        let [input, cached_input, cache_write_5m, cache_write_1h, output, reasoning, audio_input, audio_output, image_input,
            image_output] = tokens;
        let [image, request, tool_call, search] = pieces;
        Rates {
            input, cached_input, cache_write_5m, cache_write_1h, output, reasoning, audio_input, audio_output, image_input,
            image_output, image, request, tool_call, search,
        }
    }
}

fn a_card() -> impl Strategy<Value = Card> {
    let tier = (0u64..300_000, some_rates()).prop_map(|(above, rates)| Tier { above: Tokens(above), rates });
    (some_rates(), proptest::collection::vec(tier, 0..3)).prop_map(|(rates, mut tiers)| {
        tiers.sort_by_key(|tier| tier.above);
        tiers.dedup_by_key(|tier| tier.above);
        Card { rates, tiers }
    })
}

fn a_service() -> impl Strategy<Value = ServiceTier> {
    use ServiceTier::*;
    proptest::sample::select(vec![Default, Flex, Priority, Batch, Fast, Other])
}

prop_compose! {
    fn a_tariff()(
        standard in a_card(),
        services in proptest::collection::vec((a_service(), a_card()), 0..3),
        in_region_percent in proptest::option::of(0u8..100),
    ) -> Tariff {
        Tariff { standard, services, in_region_percent, ..Tariff::of_rates(Rates::default()) }
    }
}

fn a_count() -> impl Strategy<Value = Tokens> {
    prop_oneof![4 => 0u64..400_000, 1 => any::<u64>(), 1 => Just(0)].prop_map(Tokens)
}

fn a_few() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0), 2 => 0u32..5, 1 => any::<u32>()]
}

prop_compose! {
    fn some_use()(
        counts in proptest::array::uniform10(a_count()),
        pieces in proptest::array::uniform3(a_few()),
        service_tier in a_service(),
        stays in any::<bool>(),
    ) -> Used {
        let [input, cache_read, cache_write_5m, cache_write_1h, input_audio, output, reasoning, output_audio, input_image,
            output_image] = counts;
        let [server_tool_calls, images, searches] = pieces;
        let usage = Usage {
            input, cache_read, cache_write_5m, cache_write_1h, input_audio, output, reasoning, output_audio, server_tool_calls,
        };
        let place = if stays { Place::Regional } else { Place::Global };
        Used { usage, service_tier, place, input_image, output_image, images, searches }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_was_used_the_lines_make_the_cost(tariff in a_tariff(), used in some_use()) {
        let lines = lines(&tariff, &used);
        match cost(&tariff, &used) {
            Some(cost) => {
                prop_assert!(cost.0 >= 0);
                let sum = lines.iter().fold(0i128, |sum, line| sum.saturating_add(line.amount.0));
                prop_assert_eq!(sum, PicoUsd::from(cost).0);
                let counted: u128 = lines.iter().filter(|l| l.what.contains("input") || l.what.contains("cache")).map(|l| u128::from(l.count)).sum();
                prop_assert!(counted <= used.usage.input.0.into());
            }
            None => prop_assert!(lines.is_empty()),
        }
    }

    #[test]
    fn no_call_within_its_bounds_costs_more_than_the_worst_case(
        tariff in a_tariff(),
        used in some_use(),
        spare in (0u64..1000, 0u64..1000, 0u32..3, 1u32..4),
        asked_for_it in any::<bool>(),
    ) {
        let usage = used.usage;
        // what cannot be asked for: a tier that nobody knows
        let ask = Worst {
            input: Tokens(usage.input.0.saturating_add(spare.0)),
            output: Tokens(usage.output.0.div_ceil(spare.3.into()).saturating_add(spare.1)),
            choices: spare.3,
            service_tier: used.service_tier,
            place: used.place,
            server_tool_calls: usage.server_tool_calls.saturating_add(spare.2),
            images: used.images,
            searches: used.searches,
            without: Without {
                cache_hour: usage.cache_write_1h.0 == 0,
                cache_write: usage.cache_write_1h.0 == 0 && usage.cache_write_5m.0 == 0,
                audio: usage.input_audio.0 == 0 && usage.output_audio.0 == 0,
                images: used.input_image.0 == 0 && used.output_image.0 == 0,
            },
        };
        let service_tier = if asked_for_it { used.service_tier } else { ServiceTier::Default };
        if let (Some(most), Some(cost)) = (worst(&tariff, &ask), cost(&tariff, &Used { service_tier, ..used })) {
            prop_assert!(cost <= most, "{cost:?} > {most:?}");
        }
    }

    #[test]
    fn more_of_anything_never_costs_less(standard in some_rates(), used in some_use(), more in 0u64..1000) {
        let tariff = Tariff::of_rates(standard);
        let used = Used { service_tier: ServiceTier::Default, place: Place::Global, ..used };
        let before = cost(&tariff, &used);
        let plus = |tokens: Tokens| Tokens(tokens.0.saturating_add(more));
        let others = [
            Used { usage: Usage { input: plus(used.usage.input), ..used.usage }, ..used },
            Used { usage: Usage { output: plus(used.usage.output), ..used.usage }, ..used },
            Used { usage: Usage { server_tool_calls: used.usage.server_tool_calls.saturating_add(1), ..used.usage }, ..used },
        ];
        for other in others {
            // it may become unknown
            if let (Some(before), Some(after)) = (before, cost(&tariff, &other)) {
                prop_assert!(before <= after, "{before:?} > {after:?}");
            }
        }
    }

    #[test]
    fn any_word_is_a_service_tier(word in "\\PC{0,12}") {
        let tier = ServiceTier::from_word(&word);
        prop_assert!(tier == ServiceTier::Other || ServiceTier::from_word(tier.name()) == tier || tier == ServiceTier::Default);
    }
}
