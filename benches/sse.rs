//! Cutting an event stream into frames: 2,000 chunks, once as whole frames, once in pieces the size of a network packet.

mod support;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tollgate::dialect::sse::Frames;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHUNKS: usize = 2_000;
/// What a TCP segment carries on an ordinary link, roughly.
const PIECE: usize = 1_400;

fn cut(pieces: &[Bytes]) -> usize {
    let mut frames = Frames::default();
    let mut seen = 0;
    for piece in pieces {
        let pushed = frames.push(piece.clone(), |frame| {
            black_box(frame);
            seen += 1;
        });
        pushed.expect("short frames");
    }
    seen
}

fn sse(c: &mut Criterion) {
    let (whole, frames) = support::stream(CHUNKS);
    let pieces: Vec<Bytes> =
        (0..whole.len()).step_by(PIECE).map(|at| whole.slice(at..whole.len().min(at + PIECE))).collect();
    assert_eq!(cut(&frames), frames.len());
    assert_eq!(cut(&pieces), frames.len());

    let mut group = c.benchmark_group("sse");
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function("whole frames", |b| b.iter(|| cut(black_box(&frames))));
    group.bench_function("1400-byte pieces", |b| b.iter(|| cut(black_box(&pieces))));
    group.finish();
}

criterion_group!(benches, sse);
criterion_main!(benches);
