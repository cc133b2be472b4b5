//! `usage` of a reply, both ways.

use crate::chat::{Losses, Usage};
use crate::json::{Members, Node, Writer};
use crate::units::Tokens;

/// `None` where the provider says nothing we understand.
pub fn read(reply: &Members<'_>) -> Option<Usage> {
    let usage = reply.get("usage")?.as_object()?;
    let number = |name: &str| usage.get(name).and_then(Node::as_u64);
    let within = |details: &str, name: &str| {
        usage.get(details).and_then(Node::as_object).and_then(|d| d.get(name)).and_then(Node::as_u64).unwrap_or(0)
    };
    let input = number("input_tokens")?;
    let output = number("output_tokens").unwrap_or(0);
    let cache_read = within("input_tokens_details", "cached_tokens").min(input);
    let cache_write = within("input_tokens_details", "cache_write_tokens").min(input - cache_read);
    let searches = reply.get("tool_usage").and_then(Node::as_object).and_then(|t| t.get("web_search"));
    let searches = searches.and_then(Node::as_object).and_then(|s| s.get("num_requests")).and_then(Node::as_u64);
    // xAI's word for it
    let calls = searches.or_else(|| number("num_server_side_tools_used")).unwrap_or(0);
    Some(Usage {
        input: Tokens(input),
        cache_read: Tokens(cache_read),
        cache_write_5m: Tokens(cache_write),
        input_audio: Tokens(within("input_tokens_details", "audio_tokens").min(input)),
        output: Tokens(output),
        reasoning: Tokens(within("output_tokens_details", "reasoning_tokens").min(output)),
        output_audio: Tokens(within("output_tokens_details", "audio_tokens").min(output)),
        server_tool_calls: u32::try_from(calls).unwrap_or(u32::MAX),
        ..Usage::default()
    })
}

/// What of a usage has no word here.
pub fn untold(usage: &Usage, losses: &mut Losses) {
    losses.untold(&[("usage.input_audio", usage.input_audio), ("usage.output_audio", usage.output_audio)]);
}

/// The member `usage`, `null` where nothing is known.
pub fn write(w: &mut Writer<'_>, usage: Option<&Usage>) {
    w.name("usage");
    let Some(usage) = usage else { return w.null() };
    let Usage {
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        input_audio: _, // booked, see `untold`
        output,
        reasoning,
        output_audio: _,
        server_tool_calls: _, // the calls are items of the answer
    } = usage;
    w.object();
    w.name("input_tokens").number(input.0);
    w.name("input_tokens_details").object();
    w.name("cached_tokens").number(cache_read.0);
    w.name("cache_write_tokens").number(cache_write_5m.0.saturating_add(cache_write_1h.0));
    w.end_object();
    w.name("output_tokens").number(output.0);
    w.name("output_tokens_details").object();
    w.name("reasoning_tokens").number(reasoning.0);
    w.end_object();
    w.name("total_tokens").number(input.0.saturating_add(output.0));
    w.end_object();
}
