//! The ways in which providers tell their limits. The values of the first test are those of recorded answers, a provider and a year each; the
//! others are from the guides that `rates.rs` names.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::rates::{Dim, Said, Span, read};
use super::super::{Gate, Rates, clock};

fn headers(text: &str) -> HeaderMap {
    let field = |line: &str| {
        let (name, value) = line.trim().split_once(": ").unwrap();
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(field).collect()
}

fn rates(text: &str) -> Rates {
    let (gate, now) = (Gate::default(), clock());
    gate.learn(&headers(text), 200, None, now);
    gate.rates(now)
}

fn one(text: &str) -> Said {
    let said = read(&headers(text));
    assert_eq!(said.len(), 1, "{said:?}");
    said[0]
}

fn reset(value: &str) -> Option<f64> {
    let date = "Mon, 05 Aug 2024 21:45:35 GMT";
    one(&format!("date: {date}\nx-ratelimit-reset-tokens: {value}")).reset.map(|reset| reset.as_secs_f64())
}

#[test]
fn recorded_answers_are_understood() {
    // requests: limit and left; tokens: limit and left; milliseconds until all is whole
    let recorded = [
        (
            // OpenAI, 2024
            "x-ratelimit-limit-requests: 500\nx-ratelimit-limit-tokens: 30000\nx-ratelimit-remaining-requests: 499
            x-ratelimit-remaining-tokens: 29979\nx-ratelimit-reset-requests: 120ms\nx-ratelimit-reset-tokens: 42ms",
            (500, 499, 30_000, 29_979, 120),
        ),
        (
            // OpenAI, 2025, with a limit of requests a day
            "x-ratelimit-limit-requests: 10000\nx-ratelimit-limit-tokens: 200000\nx-ratelimit-remaining-requests: 9999
            x-ratelimit-remaining-tokens: 199943\nx-ratelimit-reset-requests: 8.64s\nx-ratelimit-reset-tokens: 16ms",
            (10_000, 9_999, 200_000, 199_943, 8_640),
        ),
        (
            // OpenAI, 2025, with images
            "x-ratelimit-limit-input-images: 50000\nx-ratelimit-limit-requests: 500\nx-ratelimit-limit-tokens: 200000
            x-ratelimit-remaining-input-images: 49999\nx-ratelimit-remaining-requests: 499
            x-ratelimit-remaining-tokens: 199227\nx-ratelimit-reset-input-images: 1ms
            x-ratelimit-reset-requests: 120ms\nx-ratelimit-reset-tokens: 231ms",
            (500, 499, 200_000, 199_227, 231),
        ),
        (
            // OpenAI, 2023
            "x-ratelimit-limit-requests: 3000\nx-ratelimit-limit-tokens: 250000\nx-ratelimit-limit-tokens_usage_based: 250000
            x-ratelimit-remaining-requests: 2999\nx-ratelimit-remaining-tokens: 249850
            x-ratelimit-remaining-tokens_usage_based: 249850\nx-ratelimit-reset-requests: 20ms
            x-ratelimit-reset-tokens: 36ms\nx-ratelimit-reset-tokens_usage_based: 36ms",
            (3_000, 2_999, 250_000, 249_850, 36),
        ),
        (
            // Anthropic, 2025
            "date: Fri, 28 Mar 2025 18:52:29 GMT\nanthropic-ratelimit-input-tokens-limit: 400000
            anthropic-ratelimit-input-tokens-remaining: 400000\nanthropic-ratelimit-input-tokens-reset: 2025-03-28T18:52:28Z
            anthropic-ratelimit-output-tokens-limit: 80000\nanthropic-ratelimit-output-tokens-remaining: 80000
            anthropic-ratelimit-output-tokens-reset: 2025-03-28T18:52:28Z\nanthropic-ratelimit-requests-limit: 4000
            anthropic-ratelimit-requests-remaining: 3999\nanthropic-ratelimit-requests-reset: 2025-03-28T18:52:28Z
            anthropic-ratelimit-tokens-limit: 480000\nanthropic-ratelimit-tokens-remaining: 480000
            anthropic-ratelimit-tokens-reset: 2025-03-28T18:52:28Z",
            (4_000, 3_999, 480_000, 480_000, 15),
        ),
        (
            // Anthropic, 2024
            "date: Tue, 11 Jun 2024 16:22:18 GMT\nanthropic-ratelimit-requests-limit: 4000
            anthropic-ratelimit-requests-remaining: 3999\nanthropic-ratelimit-requests-reset: 2024-06-11T16:22:35Z
            anthropic-ratelimit-tokens-limit: 400000\nanthropic-ratelimit-tokens-remaining: 400000
            anthropic-ratelimit-tokens-reset: 2024-06-11T16:22:35Z",
            (4_000, 3_999, 400_000, 400_000, 15),
        ),
        (
            // Azure, 2025
            "x-ratelimit-limit-requests: 250\nx-ratelimit-limit-tokens: 250000\nx-ratelimit-remaining-requests: 248
            x-ratelimit-remaining-tokens: 249979",
            (250, 248, 250_000, 249_979, 480),
        ),
        (
            // Azure, 2026
            "x-ratelimit-abusepenalty-active: False\nx-ratelimit-key: gpt-5.2_2025-12-11\nx-ratelimit-limit-requests: 2500
            x-ratelimit-limit-tokens: 250000\nx-ratelimit-remaining-requests: 2499\nx-ratelimit-remaining-tokens: 249988
            x-ratelimit-renewalperiod-requests: 60\nx-ratelimit-renewalperiod-tokens: 60
            x-ratelimit-reset-requests: 0\nx-ratelimit-reset-tokens: 0",
            (2_500, 2_499, 250_000, 249_988, 24),
        ),
        (
            // Mistral, 2026
            "x-ratelimit-limit-tokens-minute: 75000\nx-ratelimit-remaining-tokens-minute: 74932
            x-ratelimit-tokens-query-cost: 68\nx-ratelimit-limit-req-minute: 5\nx-ratelimit-remaining-req-minute: 4",
            (5, 4, 75_000, 74_932, 12_000),
        ),
        (
            // xAI, 2026
            "x-ratelimit-limit-tokens: 10000000\nx-ratelimit-remaining-tokens: 9992949
            x-ratelimit-limit-requests: 1800\nx-ratelimit-remaining-requests: 1789",
            (1_800, 1_789, 10_000_000, 9_992_949, 366),
        ),
    ];
    for (text, (requests_limit, requests_left, tokens_limit, tokens_left, reset_ms)) in recorded {
        let seen = rates(text);
        let requests = (seen.requests_limit, seen.requests_left);
        assert_eq!(requests, (Some(requests_limit), Some(requests_left)), "{text}");
        assert_eq!((seen.tokens_limit, seen.tokens_left), (Some(tokens_limit), Some(tokens_left)), "{text}");
        // OpenAI rounds to milliseconds, and a rate that is taken from that is a little off
        let found = seen.reset_ms.unwrap();
        assert!(found.abs_diff(reset_ms) <= 1 + reset_ms / 50, "{found} {reset_ms} {text}");
    }
}

#[test]
fn resets_are_read_however_they_are_written() {
    for (text, seconds) in [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1h2m3.5s", 3723.5),
        ("2m59.56s", 179.56),
        ("7.66s", 7.66),
        ("1d", 86_400.0),
        ("250us", 0.000_25),
        ("0s", 0.0),
        ("60", 60.0),
        ("0.25", 0.25),
        ("33011.382867", 33_011.382_867),
        // of the date in the same answer
        ("1722894340", 5.0),
        ("1722894340000", 5.0),
        ("2024-08-05T21:46:35Z", 60.0),
        ("2024-08-05T23:45:36.5+02:00", 1.5),
        ("2024-08-05T21:45:30Z", 0.0),
    ] {
        let found = reset(text).unwrap_or_else(|| panic!("{text}"));
        assert!((found - seconds).abs() < 1e-6, "{text}: {found}");
    }
    for text in ["soon", "1x", "s", "-5", "1.2.3s", "5m3"] {
        assert_eq!(reset(text), None, "{text}");
    }
}

#[test]
fn limits_of_different_spans_stand_side_by_side() {
    // Cerebras, SambaNova
    let said = read(&headers(
        "x-ratelimit-limit-requests-day: 14400\nx-ratelimit-remaining-requests-day: 14399
        x-ratelimit-limit-tokens-minute: 60000\nx-ratelimit-remaining-tokens-minute: 59000
        x-ratelimit-reset-requests-day: 33011.38\nx-ratelimit-reset-tokens-minute: 11.38
        x-ratelimit-limit-requests: 40\nx-ratelimit-remaining-requests: 39",
    ));
    let dims: Vec<Dim> = said.iter().map(|said| said.dim).collect();
    assert_eq!(dims.len(), 3);
    for dim in [Dim::Requests(Span::Day), Dim::Requests(Span::Short), Dim::Tokens(Span::Short)] {
        assert!(dims.contains(&dim), "{dims:?}");
    }
}

#[test]
fn other_spellings_are_known() {
    let said = one("ratelimit-limit: 100, 100;w=30\nratelimit-remaining: 42\nratelimit-reset: 12");
    assert_eq!((said.limit, said.left, said.period), (Some(100.0), Some(42.0), Some(Duration::from_secs(30))));
    let said = read(&headers("x-ratelimit-limit: 60\nx-ratelimit-remaining: 9\nx-tokenlimit-limit: 5000"));
    assert_eq!(said.len(), 2, "{said:?}");
    let said = one("x-ratelimit-limit-tokens-prompt: 7\nx-ratelimit-remaining-input-tokens: 5");
    assert_eq!((said.dim, said.limit, said.left), (Dim::InputTokens, Some(7.0), Some(5.0)));
    assert_eq!(one("x-ratelimit-remaining-tokens-generated: 5").dim, Dim::OutputTokens);
    for text in [
        "x-request-id: 5",
        "x-ratelimit-over-limit: no",
        "anthropic-ratelimit-unified-status: allowed",
        "x-ratelimit-limit-images: 3",
    ] {
        assert_eq!(read(&headers(text)), [], "{text}");
    }
}

#[test]
fn an_empty_account_without_a_time_says_nothing() {
    let seen = rates("anthropic-ratelimit-requests-remaining: 0");
    assert_eq!((seen.requests_limit, seen.requests_left), (None, None));
}
