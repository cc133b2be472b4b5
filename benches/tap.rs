//! What a frame of a stream costs in the splice lane: cut out, looked at, handed on. It must not allocate; `tests/allocations.rs`
//! says the same of every build.

mod support;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tollgate::dialect::openai::stream::Tap;
use tollgate::dialect::sse::Frames;
use tollgate::dialect::{Operation, Tap as _};

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

const CHUNKS: usize = 2_000;

/// A tap behind the first frame: from here on a frame is searched, not parsed.
fn begun(added_usage: bool) -> Tap {
    let mut tap = Tap::new(Operation::ChatCompletions, added_usage);
    tap.see(Bytes::from(support::delta(0)));
    assert!(tap.seen().output_began);
    tap
}

fn tap(c: &mut Criterion) {
    let (_, frames) = support::stream(CHUNKS);
    let deltas = &frames[..CHUNKS];
    let mut cut = Frames::default();
    let mut seeing = begun(true);
    let counted = support::allocations(|| {
        for chunk in deltas {
            let pushed = cut.push(chunk.clone(), |frame| {
                black_box(seeing.see(frame));
            });
            pushed.expect("short frames");
        }
    });
    assert_eq!(counted, 0, "allocations over {CHUNKS} frames of the splice lane");

    let mut group = c.benchmark_group("tap");
    let frame = &frames[1];
    group.throughput(Throughput::Elements(1));
    let mut tap = begun(false);
    group.bench_function("see", |b| b.iter(|| tap.see(black_box(frame).clone())));
    let mut tap = begun(true);
    group.bench_function("see, usage asked for by us", |b| b.iter(|| tap.see(black_box(frame).clone())));
    group.bench_function("see the first frame", |b| {
        b.iter(|| Tap::new(Operation::ChatCompletions, false).see(black_box(frame).clone()));
    });
    let (mut cut, mut tap) = (Frames::default(), begun(true));
    group.bench_function("cut and see", |b| {
        b.iter(|| {
            let pushed = cut.push(black_box(frame).clone(), |frame| {
                black_box(tap.see(frame));
            });
            pushed.expect("a short frame");
        });
    });
    group.finish();
}

criterion_group!(benches, tap);
criterion_main!(benches);
