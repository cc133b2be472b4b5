//! The shallow scan of a request body, beside serde_json reading the same members of the same bytes.
//!
//! serde_json checks less: it takes a second `model` under `flatten`-free structs as an error only for fields it knows, and skips
//! the others without looking at their names.

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate::json::Object;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The least a gateway could ask serde_json for.
#[derive(Deserialize)]
struct Request<'a> {
    model: &'a str,
    #[serde(default)]
    stream: bool,
    #[serde(borrow)]
    messages: &'a RawValue,
}

fn scan(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    for (label, len) in support::SIZES {
        let body = support::chat(len, true);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("tollgate", label), &body, |b, body| {
            b.iter(|| {
                let object = Object::scan(black_box(body)).expect("the body is JSON");
                assert_eq!(object.get("stream"), Some("true"));
                object.members.len()
            });
        });
        group.bench_with_input(BenchmarkId::new("serde_json", label), &body, |b, body| {
            b.iter(|| {
                let request: Request<'_> = serde_json::from_slice(black_box(body)).expect("the body is JSON");
                assert!(request.stream);
                request.model.len() + request.messages.get().len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scan);
criterion_main!(benches);
