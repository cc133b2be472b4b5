//! Providers with several credentials or several endpoints, their limits and their breakers.

use std::time::Duration;

use super::*;
use crate::config::policy::{Balance, BreakerPolicy, Ejection, FailureRate, Health};
use crate::config::snapshot::Provider;

fn provider(entry: &str) -> std::sync::Arc<Provider> {
    good(&format!("providers: {{p: {entry}}}")).providers["p"].clone()
}

#[test]
fn every_credential_becomes_a_whole_provider() {
    let first =
        provider("{kind: openai, api_keys: [canary-1, canary-2, canary-3], timeouts: {idle: 7s}, limits: {rpm: 5}}");
    assert_eq!((first.account, first.accounts.len()), (0, 2));
    let all: Vec<&Provider> = std::iter::once(&*first).chain(first.accounts.iter().map(|other| &**other)).collect();
    for (n, account) in all.iter().enumerate() {
        let key = format!("canary-{}", n + 1);
        assert_eq!((account.account, account.name.as_str()), (n, "p"));
        assert_eq!(account.credential.as_ref().unwrap().expose(), key);
        assert_eq!(account.credential_header.as_ref().unwrap().1, format!("Bearer {key}"));
        assert!(account.credential_header.as_ref().unwrap().1.is_sensitive());
        assert_eq!(account.timeouts.idle.as_secs(), 7);
        assert_eq!(account.admission.rpm, Some(5));
        assert_eq!(account.offers, first.offers);
        assert!(n == 0 || account.accounts.is_empty());
    }
    let mut keys: Vec<u64> = all.iter().map(|account| account.pool_key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 3);

    // by what they are, not by their place
    let turned = provider("{kind: openai, api_keys: [canary-2, canary-1]}");
    assert_eq!(turned.pool_key, first.accounts[0].pool_key);
    let one = provider("{kind: openai, api_key: canary-1}");
    assert!(one.accounts.is_empty() && one.pool_key == first.pool_key);
    let azure = provider("{kind: azure, base_url: https://x.example, api_keys: [canary-1, canary-2]}");
    assert_eq!(azure.accounts[0].credential_header.as_ref().unwrap().0, "api-key");
    let bedrock = provider("{kind: bedrock, region: eu-west-1, api_keys: [canary-1, canary-2]}");
    assert_eq!((&bedrock.auth, bedrock.accounts.len()), (&AuthScheme::Bearer, 1));
}

#[test]
fn credentials_that_may_be_missing_are_left_out_and_the_others_stay() {
    let text = "providers: {p: {kind: openai, api_keys: [\"${NOPE}\", \"${OPENAI_API_KEY}\"], required_env: [NOPE]}}";
    let p = good(text).providers["p"].clone();
    assert_eq!(p.credential.as_ref().unwrap().expose(), "sk-canary-openai");
    assert_eq!((p.accounts.len(), p.missing_env.as_slice()), (0, ["NOPE".to_owned()].as_slice()));
    let none = good("providers: {p: {kind: openai, api_keys: [\"${NOPE}\"], required_env: [NOPE]}}");
    assert_eq!(none.providers["p"].missing_env, ["NOPE"]);
}

#[test]
fn a_pool_has_its_endpoints_and_the_documented_defaults() {
    let p = provider("{kind: vllm, endpoints: [http://10.0.0.1:8000, {url: \"http://10.0.0.2:8001/\", weight: 2}]}");
    let pool = p.pool.as_ref().unwrap();
    let endpoints: Vec<(String, &str, u32)> = pool
        .endpoints
        .iter()
        .map(|e| (e.base.authority.to_str().unwrap().to_owned(), &*e.base.path, e.weight))
        .collect();
    assert_eq!(endpoints, [("10.0.0.1:8000".to_owned(), "/v1", 1), ("10.0.0.2:8001".to_owned(), "/v1", 2)]);
    assert_eq!(p.base, pool.endpoints[0].base);
    assert_eq!(&*p.offers[0].paths[&crate::dialect::Operation::ChatCompletions], "/v1/chat/completions");
    assert_eq!(p.auth, AuthScheme::None);
    assert_eq!((pool.balance, &pool.health, pool.ejection), (Balance::P2c, &None, Ejection::default()));
    assert_eq!(pool.slow_start, Duration::from_secs(30));

    let p = provider(
        "{kind: vllm, api_key: k, endpoints: [\"https://a.example/x/v1\", \"https://b.example/x/v1\"], balance: hash, \
         health: {path: /health, interval: 3s, timeout: 1s, healthy: 1, unhealthy: 9}, \
         ejection: {failures: 2, time: 1m, max: 10%}, slow_start: 0}",
    );
    let pool = p.pool.as_ref().unwrap();
    assert_eq!(&*p.base.path, "/x/v1");
    assert_eq!(pool.balance, Balance::Hash);
    let health = Health {
        path: "/health".into(),
        interval: Duration::from_secs(3),
        timeout: Duration::from_secs(1),
        healthy: 1,
        unhealthy: 9,
    };
    assert_eq!(pool.health.as_ref(), Some(&health));
    assert_eq!(pool.ejection, Ejection { failures: 2, time: Duration::from_secs(60), max_percent: 10 });
    assert!(pool.slow_start.is_zero());

    let p = provider("{kind: vllm, endpoints: [http://h:1], health: /ready, ejection: off}");
    let pool = p.pool.as_ref().unwrap();
    let health = pool.health.as_ref().unwrap();
    assert_eq!((&*health.path, health.interval.as_secs(), health.timeout.as_secs()), ("/ready", 10, 2));
    assert_eq!((health.healthy, health.unhealthy, pool.ejection.failures), (2, 3, 0));
}

#[test]
fn what_is_known_of_a_pool_stays_known_when_an_endpoint_comes_or_goes() {
    let key = |entry: &str| provider(entry).pool_key;
    let base = key("{kind: vllm, endpoints: [http://a:1, http://b:1]}");
    assert_eq!(base, key("{kind: vllm, endpoints: [http://c:2, http://a:1, http://b:1], balance: hash}"));
    for other in [
        "{kind: vllm, base_url: http://a:1/v1}",
        "{kind: vllm, endpoints: [https://a:1, https://b:1]}",
        "{kind: vllm, endpoints: [http://a:1, http://b:1], api_key: k}",
        "{kind: vllm, endpoints: [http://a:1, http://b:1], proxy: h:1}",
        "{kind: vllm, endpoints: [http://a:1, http://b:1], http: 2}",
    ] {
        assert_ne!(base, key(other), "{other}");
    }
    let two = good("providers: {p: {kind: vllm, endpoints: [http://a:1]}, q: {kind: vllm, endpoints: [http://a:1]}}");
    assert_ne!(two.providers["p"].pool_key, two.providers["q"].pool_key);
}

#[test]
fn endpoints_on_both_sides_of_a_proxy_of_the_environment_are_a_fault() {
    let environment = Environment::of([("HTTP_PROXY", "http://proxy:1"), ("NO_PROXY", "10.0.0.1")]);
    let load = |proxy: &str| {
        let text =
            format!("providers: {{p: {{kind: vllm, endpoints: [http://10.0.0.1:1, http://10.0.0.2:1]{proxy}}}}}");
        load_str("c.yaml", &text, &environment).map(|c| c.snapshot().providers["p"].clone()).map_err(|e| show(&e))
    };
    assert!(load("").unwrap_err().contains("some endpoints are reached through a proxy and others are not"));
    assert_eq!(load(", proxy: off").unwrap().proxy, None);
    assert_eq!(load(", proxy: h:1").unwrap().proxy.as_ref().unwrap().port, 1);
}

#[test]
fn limits_and_queues_have_the_documented_defaults() {
    let plain = provider("{kind: vllm}").admission;
    assert_eq!(
        (plain.rpm, plain.tpm, plain.concurrency, plain.depth, plain.timeout.as_secs()),
        (None, None, None, 100, 10)
    );
    let full =
        provider("{kind: vllm, limits: {rpm: 600, tpm: 100000, concurrency: 50}, queue: {depth: 7, timeout: 3s}}");
    let full = full.admission;
    assert_eq!((full.rpm, full.tpm, full.concurrency), (Some(600), Some(100_000), Some(50)));
    assert_eq!((full.depth, full.timeout.as_secs()), (7, 3));
    assert_eq!(provider("{kind: vllm, queue: off}").admission.depth, 0);
}

#[test]
fn deadlines_and_breakers_are_laid_over_those_of_the_top() {
    let top = "timeouts: {connect: 1s, first_token: 3m}\nbreaker: {failures: 9, rate: {percent: 25%}}\n";
    let of = |entry: &str| good(&format!("{top}providers: {{p: {entry}}}")).providers["p"].clone();
    let plain = of("{kind: vllm}");
    let seconds = |p: &Provider| {
        let t = p.timeouts;
        [t.connect, t.tls, t.first_byte, t.first_token, t.idle, t.write, t.total].map(|d| d.as_secs())
    };
    // `connect` counts for TLS as well, where nothing else is said beside it
    assert_eq!(seconds(&plain), [1, 1, 300, 180, 120, 30, 600]);
    let own = of("{kind: vllm, timeouts: {connect: 2s, tls: 4s, write: 5s}}");
    assert_eq!(seconds(&own), [2, 4, 300, 180, 120, 5, 600]);

    let minute = Duration::from_secs(60);
    let rate = FailureRate { percent: 25, window: minute, minimum: 20 };
    let expected = BreakerPolicy { failures: 9, rate: Some(rate), ..BreakerPolicy::default() };
    assert_eq!(plain.breaker, expected);
    let own = of("{kind: vllm, breaker: {cooldown: 1m, probes: 2, rate: {minimum: 5}}}").breaker;
    let rate = FailureRate { minimum: 5, ..rate };
    assert_eq!(own, BreakerPolicy { failures: 9, rate: Some(rate), cooldown: minute, probes: 2 });
    assert_eq!(of("{kind: vllm, breaker: {rate: off}}").breaker.rate, None);
    let off = of("{kind: vllm, breaker: off}").breaker;
    assert_eq!((off.failures, off.rate), (0, None));
}
