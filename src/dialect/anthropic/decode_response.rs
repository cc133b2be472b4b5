//! An answer, read whole.

use std::borrow::Cow;

use super::blocks_in::{Side, block};
use super::usage::Reported;
use crate::chat::{Block, Choice, Dialect, Extra, Response, Stop, StopReason};
use crate::json::{Members, Node, Wrong};

pub(super) fn response<'a>(reply: Node<'a>) -> Result<Response<'a>, Wrong> {
    let at = reply.at;
    let mut m = reply.object()?;
    let content = m.take_array("content")?.ok_or(Wrong::new(at, "expected an array `content`"))?;
    let blocks: Result<Vec<Block<'a>>, Wrong> = content.into_iter().map(|node| block(node, Side::Reply)).collect();
    let stop = stop(&mut m)?;
    let usage = m.take("usage");
    let service_tier = usage.as_ref().and_then(tier).map(Cow::Owned);
    let choice = Choice { blocks: blocks?, stop, logprobs: Vec::new(), extra: Extra::default() };
    // what every message says of itself
    for plumbing in ["type", "role"] {
        m.take(plumbing);
    }
    Ok(Response {
        dialect: Dialect::Anthropic,
        id: m.take_string("id")?,
        model: m.take_string("model")?,
        created: None,
        choices: vec![choice],
        usage: usage.and_then(|node| Reported::read(node.raw)).and_then(|reported| reported.usage()),
        service_tier,
        extra: Extra::rest(m),
    })
}

/// `usage.service_tier`.
pub(super) fn tier(usage: &Node<'_>) -> Option<String> {
    usage.as_object()?.get("service_tier")?.as_str().map(str::to_owned)
}

/// `stop_reason` and what belongs to it. `stop_details` stays among the members, for who writes them again.
pub(super) fn stop<'a>(m: &mut Members<'a>) -> Result<Option<Stop<'a>>, Wrong> {
    let sequence = m.take_string("stop_sequence")?;
    let detail = m.get("stop_details").and_then(Node::as_object).and_then(|details| {
        let word = |name: &str| details.get(name).and_then(Node::as_str).map(str::to_owned);
        word("explanation").or_else(|| word("category"))
    });
    let Some(reason) = m.take_string("stop_reason")? else { return Ok(None) };
    Ok(Some(Stop { reason: reason_of(reason), sequence, detail: detail.map(Cow::Owned) }))
}

fn reason_of(word: Cow<'_, str>) -> StopReason<'_> {
    match &*word {
        "end_turn" => StopReason::End,
        "max_tokens" => StopReason::Length,
        "stop_sequence" => StopReason::Sequence,
        "tool_use" => StopReason::ToolUse,
        "pause_turn" => StopReason::Pause,
        "refusal" => StopReason::Refusal,
        "model_context_window_exceeded" => StopReason::ContextWindow,
        _ => StopReason::Other(word),
    }
}
