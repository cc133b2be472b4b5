//! Usage as Converse reports it: cached tokens stand beside the input, and the writes are split by their term.
//!
//! Truth: botocore's service model (`TokenUsage`, `CacheDetail`).

use crate::chat::Usage;
use crate::json::{Members, Node};
use crate::units::Tokens;

pub fn read(usage: &Node<'_>) -> Option<Usage> {
    let usage = usage.as_object()?;
    let count = |name: &str| usage.get(name).and_then(Node::as_u64).unwrap_or(0);
    let read = count("cacheReadInputTokens");
    let written = count("cacheWriteInputTokens");
    let hour = written_for_an_hour(usage).min(written);
    Some(Usage {
        input: Tokens(count("inputTokens").saturating_add(read).saturating_add(written)),
        cache_read: Tokens(read),
        cache_write_5m: Tokens(written - hour),
        cache_write_1h: Tokens(hour),
        output: Tokens(count("outputTokens")),
        server_tool_calls: server_tool_calls(usage),
        ..Usage::default()
    })
}

fn written_for_an_hour(usage: &Members<'_>) -> u64 {
    let details = usage.get("cacheDetails").and_then(Node::as_array).unwrap_or_default();
    let tokens = |detail: &Node<'_>| {
        let detail = detail.as_object()?;
        detail.get("ttl").filter(|ttl| ttl.as_str() == Some("1h"))?;
        detail.get("inputTokens")?.as_u64()
    };
    details.iter().filter_map(tokens).fold(0, u64::saturating_add)
}

/// `serverToolUsage` counts each kind of them by its name.
fn server_tool_calls(usage: &Members<'_>) -> u32 {
    let Some(kinds) = usage.get("serverToolUsage").and_then(Node::as_object) else { return 0 };
    let calls = kinds.iter().filter_map(|(_, count)| count.as_u64()).fold(0, u64::saturating_add);
    u32::try_from(calls).unwrap_or(u32::MAX)
}
