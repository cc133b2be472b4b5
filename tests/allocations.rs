//! The data path's promise: a frame of a stream in the splice lane costs no allocation. A test binary of its own, for its allocator.

#[path = "../benches/support/mod.rs"]
mod support;

use bytes::Bytes;
use tollgate::dialect::openai::stream::Tap;
use tollgate::dialect::sse::Frames;
use tollgate::dialect::{Operation, Tap as _};

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

const FRAMES: usize = 500;

/// The splice lane past the first frame with output, where it is for nearly all of a stream.
struct Lane {
    frames: Frames,
    tap: Tap,
    forwarded: usize,
}

impl Lane {
    fn begun(added_usage: bool) -> Self {
        let mut tap = Tap::new(Operation::ChatCompletions, added_usage);
        tap.see(Bytes::from(support::delta(0)));
        assert!(tap.seen().output_began, "the first frame has output");
        Lane { frames: Frames::default(), tap, forwarded: 0 }
    }

    /// Allocations made by forwarding these chunks.
    fn forward(&mut self, chunks: Vec<Bytes>) -> u64 {
        support::allocations(|| {
            for chunk in chunks {
                let (tap, forwarded) = (&mut self.tap, &mut self.forwarded);
                let pushed = self.frames.push(chunk, |frame| *forwarded += usize::from(tap.see(frame).is_some()));
                pushed.expect("short frames");
            }
        })
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(support::allocations(|| drop(std::hint::black_box(Box::new(1u64)))), 1);
    assert_eq!(support::allocations(|| {}), 0);
}

#[test]
fn a_whole_frame_is_forwarded_without_an_allocation() {
    for added_usage in [false, true] {
        let (_, frames) = support::stream(FRAMES);
        let mut lane = Lane::begun(added_usage);
        assert_eq!(lane.forward(frames[..FRAMES].to_vec()), 0);
        assert_eq!(lane.forwarded, FRAMES);
    }
}

#[test]
fn many_frames_in_one_chunk_are_forwarded_without_an_allocation() {
    let (whole, frames) = support::stream(FRAMES);
    let end: usize = frames[..FRAMES].iter().map(Bytes::len).sum();
    let mut lane = Lane::begun(false);
    assert_eq!(lane.forward(vec![whole.slice(..end)]), 0);
    assert_eq!(lane.forwarded, FRAMES);
}

/// The connector copies each read into a buffer of its own; sharing that buffer for the first time allocates its reference count.
#[test]
fn a_chunk_with_a_buffer_of_its_own_costs_one_allocation_at_most() {
    let (_, frames) = support::stream(FRAMES);
    let chunks: Vec<Bytes> = frames[..FRAMES].iter().map(|f| Bytes::copy_from_slice(f)).collect();
    let mut lane = Lane::begun(false);
    let counted = lane.forward(chunks);
    assert!(counted <= FRAMES as u64, "{counted} allocations for {FRAMES} chunks");
    assert_eq!(lane.forwarded, FRAMES);
}
