//! Models: other names, groups, wildcards, and what is merged into each target.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::policy::{
    Affinity, BreakerPolicy, Hedge, HedgeAfter, Info, Model, ModelTarget, Policy, Retry, RetryOn, Strategy,
};
use crate::config::snapshot::OnLoss;
use crate::units::PicoUsdPerToken;

const PROVIDERS: &str =
    "providers: {a: {kind: vllm}, b: {kind: vllm, timeouts: {idle: 9s}, breaker: {failures: 2}}, c: {kind: vllm}}\n";

fn load(models: &str) -> Snapshot {
    good(&format!("{PROVIDERS}{models}"))
}

fn one(model: &str) -> Arc<Model> {
    load(&format!("models: {{m: {model}}}")).models["m"].clone()
}

/// `provider/model`, priority, weight.
fn targets(model: &Model) -> Vec<(String, u32, u32)> {
    model.targets.iter().map(|t| (format!("{}/{}", t.provider.name, t.upstream), t.priority, t.weight)).collect()
}

fn listed(expected: &[(&str, u32, u32)]) -> Vec<(String, u32, u32)> {
    expected.iter().map(|(name, priority, weight)| ((*name).to_owned(), *priority, *weight)).collect()
}

#[test]
fn a_short_form_is_one_target_with_every_default() {
    let snapshot = load("models: {m: a/x}");
    let model = &snapshot.models["m"];
    assert_eq!(targets(model), listed(&[("a/x", 1, 1)]));
    assert_eq!((model.strategy, &model.affinity, model.listed), (Strategy::Priority, &Affinity::Off, true));
    assert_eq!(*model.policy, Policy::default());
    // one policy for all that say nothing of it
    assert!(Arc::ptr_eq(&model.policy, &snapshot.policy));
    let target = &model.targets[0];
    assert_eq!((target.info, &target.tariff), (Info::default(), &None));
    assert_eq!(target.breaker, BreakerPolicy::default());
}

#[test]
fn a_group_has_its_targets_in_the_order_of_the_file() {
    let model = one(
        "{strategy: least_busy, targets: [{model: a/x, priority: 3}, b/y, {model: c/z/w, weight: 7, priority: 9}]}",
    );
    assert_eq!(targets(&model), listed(&[("a/x", 3, 1), ("b/y", 1, 1), ("c/z/w", 9, 7)]));
    assert_eq!(model.strategy, Strategy::LeastBusy);
    assert_eq!(targets(&one("{targets: [{model: a/x, weight: 0}, a/y]}")), listed(&[("a/x", 1, 0), ("a/y", 1, 1)]));
}

#[test]
fn what_is_written_nearer_to_a_target_wins() {
    let text = "
timeouts: {connect: 1s, idle: 1s, write: 1s, total: 1s}
models:
  m:
    timeouts: {idle: 3s, write: 3s, total: 3s}
    breaker: {failures: 3, probes: 3}
    info: {context: 100, vision: true, tools: true}
    price: {input: 3, cached_input: 1, output: 3}
    targets:
      - a/x
      - {model: b/y, timeouts: {total: 4s}, breaker: {probes: 4}, info: {vision: false, audio: true}, price: {input: 0.01875, output: 4}}
      - {model: b/off, breaker: off}
  n: b/y
";
    let snapshot = load(text);
    let model = &snapshot.models["m"];
    let seconds = |t: &ModelTarget| {
        [t.timeouts.connect, t.timeouts.idle, t.timeouts.write, t.timeouts.total].map(|d| d.as_secs())
    };
    let breaker = |t: &ModelTarget| (t.breaker.failures, t.breaker.probes);
    let info = |t: &ModelTarget| (t.info.context, t.info.vision, t.info.audio, t.info.tools, t.info.documents);
    let [x, y, off] = model.targets.as_slice() else { panic!("{model:?}") };
    assert_eq!((seconds(x), breaker(x)), ([1, 3, 3, 3], (3, 3)));
    assert_eq!((seconds(y), breaker(y)), ([1, 3, 3, 4], (3, 4)));
    assert_eq!(off.breaker.failures, 0);
    assert_eq!(info(x), (Some(100), Some(true), None, Some(true), None));
    assert_eq!(info(y), (Some(100), Some(false), Some(true), Some(true), None));
    let pico = |micro| PicoUsdPerToken(micro);
    let price = |target: &ModelTarget| {
        let rates = target.tariff.as_ref().expect("has a price").standard.rates;
        (rates.input, rates.cached_input, rates.output)
    };
    assert_eq!(price(x), (Some(pico(3_000_000)), Some(pico(1_000_000)), Some(pico(3_000_000))));
    // a price is one thing: nothing of the model's stays in it
    assert_eq!(price(y), (Some(pico(18_750)), None, Some(pico(4_000_000))));
    assert_eq!(model.policy.total, Some(Duration::from_secs(3)));

    let n = &snapshot.models["n"];
    assert_eq!((seconds(&n.targets[0]), breaker(&n.targets[0]), n.policy.total), ([1, 9, 1, 1], (2, 1), None));
    assert_eq!(snapshot.policy.total, None);
}

#[test]
fn retry_is_laid_over_that_of_the_top() {
    let top = "retry: {attempts: 5, on: [connect, 429], backoff: 1s}\n";
    let snapshot = load(&format!(
        "{top}models: {{m: {{target: a/x, retry: {{on: [broken, timeout, 4xx, 503], budget: 0}}}}, n: a/y}}"
    ));
    let (first, longest) = (Duration::from_secs(1), Duration::from_secs(8));
    let of_top = Retry {
        attempts: Some(5),
        on: vec![RetryOn::Connect, RetryOn::Status(429)],
        backoff: first,
        max_backoff: longest,
        budget: 10,
    };
    assert_eq!(snapshot.policy.retry, of_top);
    assert_eq!(snapshot.models["n"].policy.retry, of_top);
    let on = vec![RetryOn::Broken, RetryOn::Timeout, RetryOn::Class(4), RetryOn::Status(503)];
    assert_eq!(snapshot.models["m"].policy.retry, Retry { on, budget: 0, ..of_top });
    // nothing is worth another try
    assert_eq!(one("{target: a/x, retry: {on: []}}").policy.retry.on, []);
    assert_eq!(one("a/x").policy.retry, Retry::default());
}

#[test]
fn hedges_affinities_and_fallbacks_have_short_and_long_forms() {
    let hedge = |text: &str| one(&format!("{{target: a/x, hedge: {text}}}")).policy.hedge;
    assert_eq!(hedge("p95"), Some(Hedge { after: HedgeAfter::P95 }));
    assert_eq!(hedge("{after: p95}"), hedge("p95"));
    assert_eq!(hedge("1500ms"), Some(Hedge { after: HedgeAfter::Fixed(Duration::from_millis(1500)) }));
    assert_eq!(hedge("off"), None);

    let affinity = |text: &str| one(&format!("{{target: a/x, affinity: {text}}}")).affinity.clone();
    assert_eq!(affinity("off"), Affinity::Off);
    assert_eq!(affinity("prefix"), Affinity::Prefix);
    assert_eq!(affinity("session"), Affinity::Session);
    assert_eq!(affinity("{header: X-Session-Id}"), Affinity::Header("x-session-id".parse().unwrap()));

    let text = "models: {m: {target: a/x, continue: true, fallback: {context_length: long, content_filter: c/z}}, long: a/long, \
                \"gpt-*\": a/*, n: {target: a/x, fallback: {context_length: gpt-5}}}";
    let snapshot = load(text);
    let policy = &snapshot.models["m"].policy;
    let names =
        [&policy.fallback.context_length, &policy.fallback.content_filter].map(|n| n.as_ref().unwrap().as_str());
    assert_eq!((names, policy.resume), (["long", "c/z"], true));
    assert_eq!(snapshot.models["n"].policy.fallback.context_length.as_ref().unwrap().as_str(), "gpt-5");
}

#[test]
fn another_name_is_all_that_the_other_entry_is_until_it_says_otherwise() {
    let text = "
models:
  best: smart
  smart:
    strategy: latency
    affinity: prefix
    retry: {attempts: 7}
    timeouts: {total: 5m}
    on_loss: refuse
    targets: [{model: a/x, priority: 2, weight: 3}, b/y]
  own: {target: smart, strategy: cost, on_loss: report, retry: {budget: 1%}, timeouts: {idle: 5s}, info: {tools: true}}
";
    let snapshot = load(text);
    let (best, smart, own) = (&snapshot.models["best"], &snapshot.models["smart"], &snapshot.models["own"]);
    assert_eq!(targets(best), listed(&[("a/x", 2, 3), ("b/y", 1, 1)]));
    assert_eq!((best.strategy, &best.affinity, best.on_loss), (Strategy::Latency, &Affinity::Prefix, OnLoss::Refuse));
    assert!(Arc::ptr_eq(&best.policy, &smart.policy));
    assert_eq!(targets(own), targets(smart));
    assert_eq!((own.strategy, &own.affinity, own.on_loss), (Strategy::Cost, &Affinity::Prefix, OnLoss::Report));
    assert_eq!((own.policy.retry.attempts, own.policy.retry.budget), (Some(7), 1));
    assert_eq!(own.policy.total, Some(Duration::from_secs(300)));
    assert_eq!((own.targets[0].timeouts.idle.as_secs(), own.targets[0].info.tools), (5, Some(true)));
    assert_eq!(own.targets[0].timeouts.total.as_secs(), 300);
    assert_eq!(smart.targets[0].timeouts.idle.as_secs(), 120);
}

#[test]
fn entries_among_the_targets_stand_for_their_targets_in_their_order() {
    let text = "
models:
  best: {targets: [{model: cheap, priority: 2, weight: 10, timeouts: {idle: 5s}}, c/z]}
  cheap:
    timeouts: {idle: 4s, write: 4s}
    targets: [{model: a/x, weight: 3}, {model: b/y, priority: 5, breaker: {failures: 8}}]
";
    let snapshot = load(text);
    let best = &snapshot.models["best"];
    // c/z first; within the priority of `cheap` its own order stays
    assert_eq!(targets(best), listed(&[("a/x", 2, 30), ("b/y", 3, 10), ("c/z", 1, 1)]));
    let (idle, write) = (best.targets[0].timeouts.idle.as_secs(), best.targets[0].timeouts.write.as_secs());
    assert_eq!((idle, write, best.targets[1].breaker.failures), (5, 4, 8));

    // where the inner entry has no order of its own, priorities stay as they are written
    let text = "models: {best: {targets: [{model: cheap, priority: 4}, {model: c/z, priority: 9}]}, \
                cheap: {strategy: weighted, targets: [{model: a/x, priority: 2}, b/y]}}";
    assert_eq!(targets(&load(text).models["best"]), listed(&[("a/x", 4, 1), ("b/y", 4, 1), ("c/z", 9, 1)]));

    // beside another target of the same priority, the first of the inner ones takes turns with it
    let text = "models: {best: {targets: [cheap, c/z]}, cheap: {targets: [a/x, {model: b/y, priority: 2}]}}";
    assert_eq!(targets(&load(text).models["best"]), listed(&[("a/x", 1, 1), ("b/y", 2, 1), ("c/z", 1, 1)]));
}

#[test]
fn a_place_that_comes_twice_is_asked_once_at_its_best_priority() {
    let text = "models: {m: {targets: [{model: one, priority: 2}, {model: two, priority: 1}]}, \
                one: {targets: [a/x, b/y]}, two: {targets: [b/y, c/z]}}";
    assert_eq!(targets(&load(text).models["m"]), listed(&[("a/x", 2, 1), ("b/y", 1, 1), ("c/z", 1, 1)]));
}

#[test]
fn a_providers_name_in_front_always_means_that_provider() {
    let text = "models: {a/x: {targets: [a/x, b/x]}, m: a/x, team/best: a/y, n: team/best}";
    let snapshot = load(text);
    assert_eq!(targets(&snapshot.models["a/x"]), listed(&[("a/x", 1, 1), ("b/x", 1, 1)]));
    assert_eq!(targets(&snapshot.models["m"]), listed(&[("a/x", 1, 1)]));
    assert_eq!(targets(&snapshot.models["n"]), listed(&[("a/y", 1, 1)]));
}

#[test]
fn wildcards_stand_apart_the_most_specific_first() {
    let text = "
models:
  \"*\": a/*
  \"gpt-*\": a/*
  \"*-mini\": b/small
  \"gpt-*-mini\": {targets: [\"b/ft:*:mini\", \"gpt-*\"]}
  \"gpt-5-*\": \"gpt-*\"
  gpt-5: c/five
";
    let snapshot = load(text);
    let names: Vec<&str> = snapshot.wildcards.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["gpt-*-mini", "gpt-5-*", "*-mini", "gpt-*", "*"]);
    assert!(snapshot.wildcards.iter().all(|m| !m.listed && m.pattern().is_some()));
    assert_eq!(snapshot.models.len(), 1);
    let order: Vec<&str> = snapshot.model_order.iter().map(|m| m.as_str()).collect();
    assert_eq!(order, ["gpt-5"]);
    assert_eq!(targets(&snapshot.wildcards[0]), listed(&[("b/ft:*:mini", 1, 1), ("a/*", 1, 1)]));
    assert_eq!(targets(&snapshot.wildcards[1]), listed(&[("a/*", 1, 1)]));
    assert_eq!(targets(&snapshot.wildcards[2]), listed(&[("b/small", 1, 1)]));
}

#[test]
fn entries_may_name_each_other_in_any_order_to_a_depth() {
    let chain = |length: usize, turned: bool| {
        let mut lines: Vec<String> = (0..length).map(|n| format!("  m{n}: m{}\n", n + 1)).collect();
        lines.push(format!("  m{length}: a/x\n"));
        if turned {
            lines.reverse();
        }
        format!("{PROVIDERS}models:\n{}", lines.concat())
    };
    for turned in [false, true] {
        assert_eq!(targets(&good(&chain(16, turned)).models["m0"]), listed(&[("a/x", 1, 1)]));
        assert!(bad(&chain(17, turned)).contains("more than 16 entries name each other in a row"));
        assert!(bad(&chain(20_000, turned)).contains("more than 16 entries name each other in a row"));
    }
}

#[test]
fn groups_of_groups_stay_bounded() {
    use std::fmt::Write;
    // each level names all entries of the one below: without dedup 10^16 targets
    let mut text = format!("{PROVIDERS}models:\n");
    for level in 0..16 {
        for n in 0..10 {
            let below: Vec<String> =
                (0..10).map(|k| if level == 0 { format!("a/x{k}") } else { format!("l{}-{k}", level - 1) }).collect();
            writeln!(text, "  l{level}-{n}: {{targets: [{}]}}", below.join(", ")).unwrap();
        }
    }
    let start = std::time::Instant::now();
    assert_eq!(good(&text).models["l15-9"].targets.len(), 10);
    assert!(start.elapsed() < Duration::from_secs(3));

    let many = |count: usize| {
        let names: Vec<String> = (0..count).map(|k| format!("a/x{k}")).collect();
        format!("{PROVIDERS}models: {{m: {{targets: [{}]}}}}", names.join(", "))
    };
    assert_eq!(good(&many(256)).models["m"].targets.len(), 256);
    assert!(bad(&many(257)).contains("models.m has 257 targets, more than 256"));
}

#[test]
fn a_thousand_groups_are_checked_in_no_time() {
    use std::fmt::Write;
    let mut text = format!("{PROVIDERS}models:\n");
    for i in 0..1000 {
        writeln!(
            text,
            "  m{i}: {{targets: [a/x{i}, {{model: b/y{i}, priority: 2, price: {{input: 1.5, output: 2}}}}, g{i}], hedge: p95}}\n  \
             g{i}: {{targets: [c/z{i}, c/w{i}], retry: {{attempts: 2}}}}"
        )
        .unwrap();
    }
    let start = std::time::Instant::now();
    let snapshot = good(&text);
    let taken = start.elapsed();
    assert_eq!((snapshot.models.len(), snapshot.models["m999"].targets.len()), (2000, 4));
    assert!(taken < Duration::from_secs(3), "{taken:?}");
}

#[test]
fn the_view_shows_every_word_of_routing() {
    let text = "
models:
  m:
    strategy: cost
    affinity: {header: x-session-id}
    hedge: 2s
    fallback: {context_length: n}
    continue: true
    timeouts: {total: 7m}
    breaker: {rate: {percent: 40%}}
    targets: [{model: a/x, weight: 3, info: {context: 1000}}, {model: b/y, priority: 2, price: {input: 0.5, output: 2}}]
  n: p/z
  \"w-*\": a/*
";
    let text = PROVIDERS.replace(
        "}}, c:",
        "}}, p: {kind: vllm, api_keys: [canary-1, canary-2], endpoints: [http://h:1, {url: http://i:1, weight: 4}], health: /up, \
         limits: {rpm: 9}, queue: off, breaker: off}, c:",
    ) + text;
    let snapshot = good(&text);
    let shown = view(&snapshot);
    let text = serde_json::to_string(&shown).unwrap();
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(shown["providers"]["p"]["api_keys"], serde_json::json!(["[secret]", "[secret]"]));
    assert!(shown["providers"]["p"].get("api_key").is_none() && shown["providers"]["p"].get("base_url").is_none());
    let keys = ["endpoints", "balance", "health", "ejection", "slow_start", "limits", "queue", "breaker"];
    let pool: serde_json::Map<_, _> =
        keys.iter().map(|key| ((*key).to_owned(), shown["providers"]["p"][key].clone())).collect();
    let models = &shown["models"];
    let shown = serde_json::json!({"m": models["m"], "w-*": models["w-*"], "retry": shown["retry"], "pool": pool});
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown).unwrap());
}
