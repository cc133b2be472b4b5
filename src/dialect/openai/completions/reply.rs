//! Writing an answer as a `text_completion`; and the parts a stream's chunks share with it.

use crate::chat::block::Refusal;
use crate::chat::{Block, Choice, Logprob, Losses, Response, Stop, StopReason, Text, Usage};
use crate::dialect::codec::{Encoded, ReplyTo};
use crate::json::{At, Writer};
use crate::units::Tokens;

pub(super) fn encode(response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded {
    let Response {
        dialect: _, // members of every dialect are foreign here
        id,
        model,
        created,
        choices,
        usage: used,
        service_tier,
        extra,
    } = response;
    let mut losses = Losses::default();
    tier(service_tier.as_deref(), &mut losses);
    losses.extra(extra);
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("id").string(id.as_deref().unwrap_or(to.id));
    w.name("object").string("text_completion");
    w.name("created").number(created.unwrap_or(to.created));
    w.name("model").string(model.as_deref().unwrap_or(to.model));
    w.name("choices").array();
    for (index, choice) in choices.iter().enumerate() {
        let Choice { blocks, stop, logprobs: tokens, extra } = choice;
        losses.extra(extra);
        let texts: Vec<&str> = blocks.iter().filter_map(|block| text(block, &mut losses)).collect();
        w.object();
        w.name("text").strings(&texts);
        w.name("index").number(index as u64);
        w.name("logprobs");
        logprobs(tokens, &mut 0, &mut w);
        w.name("finish_reason").string(stop.as_ref().map_or("stop", |stop| finish_reason(stop, &mut losses)));
        w.end_object();
    }
    w.end_array();
    if let Some(used) = used {
        w.name("usage");
        usage(used, &mut w);
        untold(used, &mut losses);
    }
    w.end_object();
    Encoded { body, losses }
}

/// Nobody can ask for one in this grammar, and an unusual one has its price.
pub(super) fn tier(tier: Option<&str>, losses: &mut Losses) {
    if tier.is_some_and(|tier| !matches!(tier, "default" | "standard" | "auto")) {
        losses.dropped(At::NOWHERE, "service_tier");
    }
}

/// What of a block is text.
pub(super) fn text<'b>(block: &'b Block<'_>, losses: &mut Losses) -> Option<&'b str> {
    let lost = match block {
        Block::Text(Text { text, citations, cache: _, seal: _, at: _, extra }) => {
            losses.extra(extra);
            if !citations.is_empty() {
                losses.dropped(At::NOWHERE, "citations");
            }
            return Some(text);
        }
        Block::Refusal(Refusal { text, at: _ }) => {
            losses.changed(At::NOWHERE, "refusal");
            return Some(text);
        }
        Block::Thinking(_) => "thinking",
        Block::Media(_) => "media",
        Block::ToolCall(_) | Block::ToolResult(_) => "tool_calls",
        Block::ServerCall(_) | Block::ServerResult(_) => "server_tools",
        Block::Native(_) => "native",
    };
    losses.dropped(At::NOWHERE, lost);
    None
}

/// One of the three words of this grammar.
pub(super) fn finish_reason(stop: &Stop<'_>, losses: &mut Losses) -> &'static str {
    let Stop { reason, sequence, detail } = stop;
    if sequence.is_some() {
        losses.dropped(At::NOWHERE, "stop_sequence");
    }
    if detail.is_some() {
        losses.dropped(At::NOWHERE, "stop_detail");
    }
    match reason {
        StopReason::End | StopReason::Sequence => "stop",
        StopReason::Length | StopReason::ContextWindow => "length",
        StopReason::ContentFilter | StopReason::Refusal => "content_filter",
        StopReason::ToolUse | StopReason::Pause | StopReason::MalformedCall | StopReason::Other(_) => {
            losses.changed(At::NOWHERE, "finish_reason");
            "stop"
        }
    }
}

/// `offset`: characters before the first token; moved behind the last.
pub(super) fn logprobs(tokens: &[Logprob<'_>], offset: &mut u64, w: &mut Writer<'_>) {
    if tokens.is_empty() {
        w.null();
        return;
    }
    w.object();
    w.name("tokens").array();
    for Logprob { token, .. } in tokens {
        w.string(token);
    }
    w.end_array();
    w.name("token_logprobs").array();
    for Logprob { logprob, .. } in tokens {
        w.raw(logprob);
    }
    w.end_array();
    w.name("top_logprobs").array();
    for Logprob { top, .. } in tokens {
        w.object();
        for (n, Logprob { token, logprob, .. }) in top.iter().enumerate() {
            // tokens that are pieces of a character may look the same
            if !top.iter().take(n).any(|before| before.token == *token) {
                w.name(token).raw(logprob);
            }
        }
        w.end_object();
    }
    w.end_array();
    w.name("text_offset").array();
    for Logprob { token, .. } in tokens {
        w.number(*offset);
        *offset += token.chars().count() as u64;
    }
    w.end_array();
    w.end_object();
}

/// What of a usage has no word here.
pub(super) fn untold(usage: &Usage, losses: &mut Losses) {
    losses.untold(&[
        ("usage.cache_write", usage.cache_write_5m),
        ("usage.cache_write", usage.cache_write_1h),
        ("usage.input_audio", usage.input_audio),
        ("usage.output_audio", usage.output_audio),
        ("usage.server_tool_calls", Tokens(usage.server_tool_calls.into())),
    ]);
}

pub(super) fn usage(usage: &Usage, w: &mut Writer<'_>) {
    let Usage {
        input,
        cache_read,
        cache_write_5m: _, // booked, see `untold`
        cache_write_1h: _,
        input_audio: _,
        output,
        reasoning,
        output_audio: _,
        server_tool_calls: _,
    } = usage;
    w.object();
    w.name("prompt_tokens").number(input.0);
    w.name("completion_tokens").number(output.0);
    w.name("total_tokens").number(input.0.saturating_add(output.0));
    w.name("prompt_tokens_details").object();
    w.name("cached_tokens").number(cache_read.0);
    w.end_object();
    w.name("completion_tokens_details").object();
    w.name("reasoning_tokens").number(reasoning.0);
    w.end_object();
    w.end_object();
}
