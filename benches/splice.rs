//! A request body on its way: read, patched with the provider's model name and the wish for usage, put together again.

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tollgate::dialect::Operation;
use tollgate::dialect::envelope::Envelope;
use tollgate::json::Spliced;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn splice(c: &mut Criterion) {
    let mut group = c.benchmark_group("splice");
    for (label, len) in support::SIZES {
        let body = support::chat(len, true);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("read", label), &body, |b, body| {
            b.iter(|| Envelope::read(black_box(body).clone(), Operation::ChatCompletions).expect("a chat request"));
        });
        let envelope = Envelope::read(body.clone(), Operation::ChatCompletions).expect("a chat request");
        group.bench_with_input(BenchmarkId::new("patch", label), &envelope, |b, envelope| {
            b.iter(|| Spliced::new(&envelope.body, &envelope.patches(black_box("gpt-4o-mini"), true)));
        });
        group.bench_with_input(BenchmarkId::new("whole", label), &body, |b, body| {
            b.iter(|| {
                let envelope =
                    Envelope::read(black_box(body).clone(), Operation::ChatCompletions).expect("a chat request");
                let spliced = Spliced::new(&envelope.body, &envelope.patches("gpt-4o-mini", true));
                assert!(spliced.len > body.len());
                spliced
            });
        });
    }
    group.finish();
}

criterion_group!(benches, splice);
criterion_main!(benches);
