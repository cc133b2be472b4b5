//! What limits and budgets cost a call on one node: a key with three limits and two budgets, admitted, tried and settled. It may take 2 us.

mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use tollgate::config::{Environment, Snapshot, load_str};
use tollgate::quota::{Attempt, Quotas, Want, Where, Who};
use tollgate::units::{NanoUsd, Tokens};

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

const KEYS: &str = "
providers: {a: {kind: vllm}}
keys:
  - {name: bare, key: sk-test-0123456789abcdef, tags: {team: search, user: ada}}
  - {name: own, key: sk-test-1123456789abcdef, limits: {rpm: 1000000000, tpm: 1000000000000, concurrency: 1000000},
     budget: [{usd: 900000000, per: month}, {usd: 900000000, per: day}]}
";
/// A thousand teams with rules of their own, and some for all.
const SHARED: &str = "
  - {match: {user: \"*\"}, usd: 900000000, per: month}
";

fn snapshot() -> Snapshot {
    let mut text = format!("{KEYS}budgets:{SHARED}");
    for n in 0..1_000 {
        text.push_str(&format!("  - {{match: {{team: t{n}}}, usd: 1, per: day}}\n"));
    }
    text.push_str("  - {match: {team: search}, usd: 900000000, per: day}\n");
    let checked = load_str("bench.yaml", &text, &Environment::of([("PATH", "/bin")])).expect("a configuration");
    checked.into_snapshot(1)
}

fn call(quotas: &Quotas, snapshot: &Snapshot, who: &Who<'_>) {
    let want = Want { tokens: Tokens(1_000) };
    let attempt = Attempt { provider: "a", tokens: Tokens(1_000), cost: Some(NanoUsd(10_000)) };
    let call = quotas.admit_call(&snapshot.quotas, who, want).now_or_never().expect("at once").expect("enough");
    let cost = quotas.admit_attempt(&snapshot.quotas, who, attempt).now_or_never().expect("at once").expect("enough");
    black_box(cost.settle(Some(NanoUsd(5_000)), Some(Tokens(500))));
    call.settle(Tokens(500));
}

fn quota(c: &mut Criterion) {
    let snapshot = snapshot();
    let quotas = Quotas::new(Where::Here).expect("counters");
    let mut group = c.benchmark_group("quota");
    for name in ["own", "bare"] {
        let key = snapshot.keys.by_hash.values().find(|key| key.name.as_str() == name).expect("a key");
        let who = Who { key: Some(key), tags: &key.tags, model: "gpt-5" };
        group.bench_function(name, |b| b.iter(|| call(&quotas, &snapshot, &who)));
        let counted = support::allocations(|| (0..1_000).for_each(|_| call(&quotas, &snapshot, &who)));
        println!("quota/{name}: {} allocations a call", counted / 1_000);
    }
    let nobody = Who { key: None, tags: &[], model: "gpt-5" };
    group.bench_function("no rule", |b| b.iter(|| call(&quotas, &snapshot, &nobody)));
    let key = snapshot.keys.by_hash.values().find(|key| key.name.as_str() == "own").expect("a key");
    let who = Who { key: Some(key), tags: &key.tags, model: "gpt-5" };
    group.bench_function("standing", |b| b.iter(|| black_box(quotas.standing(&snapshot.quotas, &who))));
    group.finish();
}

criterion_group!(benches, quota);
criterion_main!(benches);
