//! What it costs to plan a call, in a configuration with 1,000 models: groups, wildcards, unknown names, rules, affinity, needs.
//!
//! The whole of routing may take 5 us; a group of three with a body of 1 KB shall be planned in 2 us.

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use tollgate::config::policy::{Affinity, Info, Model, ModelTarget, Strategy};
use tollgate::config::tariff::Tariff;
use tollgate::config::{Environment, Snapshot, load_str};
use tollgate::dialect::Operation;
use tollgate::id::ModelName;
use tollgate::route::{Ask, Gauge, Gauges, Target, plan};
use tollgate::units::PicoUsdPerToken;

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

const RULES: &str = r#"
routes:
  - {name: key, match: {key: [ci, "batch-*"]}, model: single-1}
  - {name: path, match: {model: [auto, "never-*"], path: "/v1/messages*"}, model: single-1}
  - {name: tools, when: 'request.stream && request.model == "nobody"', model: single-1}
"#;

/// What the targets show: some load, some speed.
struct Measured;

impl Gauges for Measured {
    fn gauge(&self, target: &Target) -> Gauge {
        let some = u32::try_from(target.id % 16).unwrap_or_default();
        Gauge {
            in_flight: some,
            first_token: Some(Duration::from_millis(u64::from(some) * 20 + 100)),
            ..Gauge::default()
        }
    }
}

fn snapshot(more: &str) -> Snapshot {
    let mut text = String::from("providers:\n");
    for name in ["a", "b", "c"] {
        text.push_str(&format!("  {name}: {{kind: openai, base_url: \"http://127.0.0.1:1/{name}\"}}\n"));
    }
    text.push_str("models:\n");
    for n in 0..1_000 {
        text.push_str(&format!("  single-{n}: a/model-{n}\n"));
    }
    text.push_str(more);
    let checked = load_str("bench.yaml", &text, &Environment::of([("PATH", "/bin")])).expect("a configuration");
    let mut snapshot = checked.into_snapshot(1);
    let known = Info { context: Some(200_000), max_output: Some(64_000), ..Info::default() };
    let blind = Info { vision: Some(false), ..known };
    for (name, strategy, affinity, info) in [
        ("group", Strategy::Priority, Affinity::Off, known),
        ("latency", Strategy::Latency, Affinity::Off, known),
        ("cost", Strategy::Cost, Affinity::Off, known),
        ("prefix", Strategy::Priority, Affinity::Prefix, known),
        ("session", Strategy::Priority, Affinity::Session, known),
        ("needs", Strategy::Priority, Affinity::Off, blind),
        ("small", Strategy::Priority, Affinity::Off, Info { context: Some(40_000), ..known }),
    ] {
        let model = group(&snapshot, name, strategy, affinity, info);
        snapshot.models.insert(model.name.clone(), Arc::new(model));
    }
    for n in 0..20 {
        let model = group(&snapshot, &format!("wild-{n}-*"), Strategy::Priority, Affinity::Off, known);
        snapshot.wildcards.push(Arc::new(model));
    }
    snapshot
}

fn group(snapshot: &Snapshot, name: &str, strategy: Strategy, affinity: Affinity, info: Info) -> Model {
    let target = |provider: &str| {
        let provider = Arc::clone(&snapshot.providers[provider]);
        Arc::new(ModelTarget {
            upstream: if name.contains('*') { "x-*".into() } else { "x".into() },
            priority: 1,
            weight: 1,
            timeouts: provider.timeouts,
            breaker: provider.breaker,
            info,
            tariff: Some(Arc::new(Tariff::of_tokens(PicoUsdPerToken(1_000_000), PicoUsdPerToken(2_000_000)))),
            provider,
        })
    };
    Model {
        name: ModelName::new(name),
        targets: ["a", "b", "c"].map(target).to_vec(),
        strategy,
        affinity,
        policy: Arc::default(),
        on_loss: snapshot.on_loss,
        listed: true,
    }
}

/// A body with a picture in it.
fn seen(len: usize) -> Bytes {
    let body = String::from_utf8(support::chat(len, true).to_vec()).expect("JSON is UTF-8");
    let part = r#""content":[{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]"#;
    Bytes::from(body.replacen(r#""content":"You are a careful engineer.""#, part, 1))
}

fn route(c: &mut Criterion) {
    let (plain, ruled) = (snapshot(""), snapshot(RULES));
    let headers = HeaderMap::from_iter([(http::header::USER_AGENT, "bench".parse().expect("a value"))]);
    let (small, large) = (support::chat(1 << 10, true), support::chat(100 << 10, true));
    let mut bench = c.benchmark_group("route");
    for (label, snapshot, model, body) in [
        ("single", &plain, "single-500", &small),
        ("group of 3", &plain, "group", &small),
        ("group of 3, latency", &plain, "latency", &small),
        ("group of 3, cost", &plain, "cost", &small),
        ("wildcard", &plain, "wild-19-large", &small),
        ("written out", &plain, "a/model", &small),
        ("unknown", &plain, "nobody-knows-it", &small),
        ("rules", &ruled, "group", &small),
        ("affinity, prefix", &plain, "prefix", &small),
        ("affinity, session", &plain, "session", &small),
        ("needs", &plain, "needs", &small),
        ("group of 3, 100KB", &plain, "group", &large),
        ("cost, 100KB", &plain, "cost", &large),
        ("affinity, prefix, 100KB", &plain, "prefix", &large),
        ("affinity, session, 100KB", &plain, "session", &large),
        ("needs, 100KB, none there", &plain, "needs", &large),
        ("needs, 100KB, context in doubt", &plain, "small", &large),
    ] {
        let mut seed = 0;
        let mut ask = || {
            seed += 1;
            let ask = Ask {
                snapshot,
                key: None,
                model,
                operation: Operation::ChatCompletions,
                path: "/v1/chat/completions",
                headers: &headers,
                body,
                stream: true,
                seed,
            };
            plan(black_box(&ask), &Measured).map(|plan| plan.targets.len())
        };
        let counted = support::allocations(|| {
            let _ = black_box(ask());
        });
        println!("{label}: {counted} allocations, {:?} targets", ask().map_err(|e| e.kind));
        bench.bench_function(label, |b| b.iter(|| black_box(ask()).is_ok()));
    }
    let picture = seen(100 << 10);
    bench.bench_function("needs, 100KB, a picture", |b| {
        let ask = Ask {
            snapshot: &plain,
            key: None,
            model: "needs",
            operation: Operation::ChatCompletions,
            path: "/v1/chat/completions",
            headers: &headers,
            body: &picture,
            stream: true,
            seed: 1,
        };
        b.iter(|| assert!(plan(black_box(&ask), &Measured).is_err()));
    });
    bench.finish();
}

criterion_group!(benches, route);
criterion_main!(benches);
