//! What the benches feed in: chat bodies as agents send them, a stream as a provider sends it, and a count of allocations.

#![allow(dead_code, reason = "each bench is a program of its own and uses a part of this")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use bytes::Bytes;

/// The allocator of the gateway itself, counting each allocation of the calling thread.
pub struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Allocations, re-allocations included, that `work` makes on this thread.
pub fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Sizes of request bodies, by the label they have in the tables.
pub const SIZES: [(&str, usize); 3] = [("1KB", 1 << 10), ("100KB", 100 << 10), ("1MB", 1 << 20)];

/// A chat request of about `len` bytes: a system prompt, then turns of a coding agent (text with line breaks and quotes, tool calls
/// whose arguments are JSON within JSON, tool results), then the options.
pub fn chat(len: usize, stream: bool) -> Bytes {
    let turns = [
        r#"{"role":"user","content":"Why does the test \"a lost lease is taken over\" fail?\nIt passes on its own; caf\u00e9 and naïve text too.\n\n```rust\nassert_eq!(lease.owner(), \"b\");\n```"}"#,
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_0b1c2d3e4f5a6b7c8d9e0f1a","type":"function","function":{"name":"read_file","arguments":"{\"path\":\"src/lease.rs\",\"from\":120,\"to\":180}"}}]}"#,
        r#"{"role":"tool","tool_call_id":"call_0b1c2d3e4f5a6b7c8d9e0f1a","content":"120\tpub fn take(&mut self, owner: &str) -> bool {\n121\t    if self.until > Instant::now() {\n122\t        return self.owner == owner;\n123\t    }\n124\t    self.owner = owner.to_owned();\n125\t    self.until = Instant::now() + self.ttl;\n126\t    true\n127\t}\n"}"#,
        r#"{"role":"assistant","content":"The lease is compared with the wall clock while the test runs on a paused one, so it never runs out. Use the clock that the struct was given, and the takeover happens in the test as it does in production.","refusal":null}"#,
    ];
    let mut text = String::with_capacity(len + 1024);
    text.push_str(
        r#"{"model":"fast","temperature":0.7,"messages":[{"role":"system","content":"You are a careful engineer."}"#,
    );
    let tail = format!(
        r#"],"max_completion_tokens":4096,"tools":[{{"type":"function","function":{{"name":"read_file","description":"Reads lines of a file","parameters":{{"type":"object","properties":{{"path":{{"type":"string"}},"from":{{"type":"integer"}},"to":{{"type":"integer"}}}},"required":["path"]}}}}}}],"stream":{stream}}}"#
    );
    for turn in turns.iter().cycle() {
        if text.len() + turn.len() + tail.len() > len {
            break;
        }
        text.push(',');
        text.push_str(turn);
    }
    text.push_str(&tail);
    Bytes::from(text)
}

/// A frame of a chat stream with some text.
pub fn delta(index: usize) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\
         \"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0123456789\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{index}\"}},\"logprobs\":null,\"finish_reason\":null}}],\
         \"obfuscation\":\"q7Rk2\"}}\n\n"
    )
}

/// A stream of `chunks` frames and its end, as whole frames. All share one buffer, as slices of one read do.
pub fn stream(chunks: usize) -> (Bytes, Vec<Bytes>) {
    let mut text = String::new();
    let mut ends = Vec::with_capacity(chunks + 2);
    for index in 0..chunks {
        text.push_str(&delta(index));
        ends.push(text.len());
    }
    text.push_str(
        "data: {\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx\",\"object\":\"chat.completion.chunk\",\"choices\":[],",
    );
    text.push_str("\"usage\":{\"prompt_tokens\":231,\"completion_tokens\":2000,\"total_tokens\":2231}}\n\n");
    ends.push(text.len());
    text.push_str("data: [DONE]\n\n");
    ends.push(text.len());
    let whole = Bytes::from(text);
    let mut from = 0;
    let frames = ends
        .into_iter()
        .map(|end| {
            let frame = whole.slice(from..end);
            from = end;
            frame
        })
        .collect();
    (whole, frames)
}

// === impl Counting ===

fn count() {
    // a thread that is ending has no counter any more, and nothing to measure
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call goes to mimalloc with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { mimalloc::MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { mimalloc::MiMalloc.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { mimalloc::MiMalloc.dealloc(block, layout) }
    }
}
