//! An answer, written for a client of this dialect.
//!
//! Members stand as the official API writes them, so that the SDKs' strict models read them. What no block of an answer can hold is
//! replaced by a few words and booked.

use std::borrow::Cow;

use super::blocks_out::{input, placeholder};
use super::usage::{self, Form};
use super::{citation, leftover};
use crate::chat::block::{Native, Refusal, ServerCall, ServerResult};
use crate::chat::{
    Block, Choice, Dialect, Extra, Issuer, Losses, Media, Response, Seal, ServerToolKind, Stop, StopReason, Text,
    Thinking, ToolCall,
};
use crate::dialect::{Encoded, ReplyTo};
use crate::json::{At, Writer};

pub(super) fn response(response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded {
    // the time is not told in this dialect
    let Response { dialect, id, model, created: _, choices, usage, service_tier, extra } = response;
    let own = *dialect == Dialect::Anthropic;
    let mut losses = Losses::default();
    let (first, others) = match choices.split_first() {
        Some((first, others)) => (Cow::Borrowed(first), others),
        None => (Cow::Owned(Choice::default()), &[][..]),
    };
    if !others.is_empty() {
        losses.dropped(At::NOWHERE, "choices");
    }
    let Choice { blocks, stop, logprobs, extra: choice_extra } = &*first;
    if !logprobs.is_empty() {
        losses.dropped(At::NOWHERE, "logprobs");
    }
    let mut body = Vec::with_capacity(2048);
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("id").string(&message_id(id.as_deref(), to.id));
    w.name("type").string("message");
    w.name("role").string("assistant");
    w.name("model").string(model.as_deref().unwrap_or(to.model));
    w.name("content").array();
    for block in blocks {
        write_block(&mut w, block, own, &mut losses);
    }
    w.end_array();
    let called = blocks.iter().any(|block| matches!(block, Block::ToolCall(_)));
    let refused = blocks.iter().any(|block| matches!(block, Block::Refusal(_)));
    write_stop(&mut w, stop.as_ref(), called, refused, &mut losses);
    if !own || extra.get("stop_details").is_none() {
        stop_details(&mut w, stop.as_ref());
    }
    w.name("usage");
    usage.iter().for_each(|usage| usage::untold(usage, &mut losses));
    usage::write(&mut w, usage.unwrap_or_default(), service_tier.as_deref(), Form::Whole);
    rest(&mut w, extra, own, &mut losses);
    rest(&mut w, choice_extra, own, &mut losses);
    w.end_object();
    Encoded { body, losses }
}

fn rest(w: &mut Writer<'_>, extra: &Extra<'_>, own: bool, losses: &mut Losses) {
    if own {
        leftover::write_own(w, extra);
    } else {
        losses.extra(extra);
    }
}

/// The provider's id when it is one of this dialect.
pub(super) fn message_id<'s>(id: Option<&'s str>, call: &str) -> Cow<'s, str> {
    match id {
        Some(id) if id.starts_with("msg_") => Cow::Borrowed(id),
        _ => Cow::Owned(format!("msg_{call}")),
    }
}

/// `stop_reason` and `stop_sequence`.
pub(super) fn write_stop(
    w: &mut Writer<'_>,
    stop: Option<&Stop<'_>>,
    called: bool,
    refused: bool,
    losses: &mut Losses,
) {
    let reason = match stop.map(|stop| &stop.reason) {
        _ if refused => "refusal",
        // some vendors end so although a tool is to be called
        Some(StopReason::End) | None if called => "tool_use",
        Some(StopReason::End) | None => "end_turn",
        Some(StopReason::Length) => "max_tokens",
        Some(StopReason::Sequence) => "stop_sequence",
        Some(StopReason::ToolUse) => "tool_use",
        Some(StopReason::ContentFilter | StopReason::Refusal) => "refusal",
        Some(StopReason::Pause) => "pause_turn",
        Some(StopReason::ContextWindow) => "model_context_window_exceeded",
        Some(StopReason::MalformedCall) => {
            losses.changed(At::NOWHERE, "stop_reason");
            "end_turn"
        }
        Some(StopReason::Other(word)) => word,
    };
    w.name("stop_reason").string(reason);
    w.name("stop_sequence");
    match stop.and_then(|stop| stop.sequence.as_deref()) {
        Some(sequence) => w.string(sequence),
        None => w.null(),
    }
}

/// Why the answer was refused, where the provider said it.
pub(super) fn stop_details(w: &mut Writer<'_>, stop: Option<&Stop<'_>>) {
    let Some(Stop { reason: StopReason::Refusal | StopReason::ContentFilter, detail: Some(detail), .. }) = stop else {
        return;
    };
    w.name("stop_details").object();
    w.name("type").string("refusal");
    w.name("category").null();
    w.name("explanation").string(detail);
    w.end_object();
}

fn write_block(w: &mut Writer<'_>, block: &Block<'_>, own: bool, losses: &mut Losses) {
    match block {
        Block::Text(Text { text, citations, cache: _, seal, at: _, extra }) => {
            sealed(w, seal.as_ref());
            // an empty text is refused when it comes back
            if text.is_empty() && citations.is_empty() {
                return;
            }
            w.object();
            w.name("type").string("text");
            w.name("text").string(text);
            if !citations.is_empty() {
                w.name("citations").array();
                if citations.iter().filter(|citation| !citation::write(w, citation)).count() > 0 {
                    losses.dropped(At::NOWHERE, "citations");
                }
                w.end_array();
            }
            rest(w, extra, own, losses);
            w.end_object();
        }
        Block::Refusal(Refusal { text, at: _ }) => words(w, text),
        Block::Media(media) => {
            let Media { kind, seal, .. } = media;
            sealed(w, seal.as_ref());
            losses.dropped(At::NOWHERE, "media");
            words(w, placeholder(*kind));
        }
        Block::Thinking(thinking) => write_thinking(w, thinking, own, losses),
        Block::ToolCall(call) => write_call(w, call, own, losses),
        // never in an answer
        Block::ToolResult(_) => losses.dropped(At::NOWHERE, ""),
        Block::ServerCall(_) | Block::ServerResult(_) | Block::Native(_) => match whole(block) {
            Some(json) => w.raw(&json),
            None => losses.dropped(At::NOWHERE, ""),
        },
    }
}

fn words(w: &mut Writer<'_>, text: &str) {
    if !text.is_empty() {
        w.object();
        w.name("type").string("text");
        w.name("text").string(text);
        w.end_object();
    }
}

/// A seal that belongs to the next block, which has no place for it: a thought without words.
fn sealed(w: &mut Writer<'_>, seal: Option<&Seal<'_>>) {
    if let Some(seal) = seal {
        w.object();
        w.name("type").string("thinking");
        w.name("thinking").string("");
        w.name("signature").string(&seal.pack(Issuer::Anthropic));
        w.end_object();
    }
}

fn write_thinking(w: &mut Writer<'_>, thinking: &Thinking<'_>, own: bool, losses: &mut Losses) {
    let Thinking { thoughts, seal, redacted, id: _, at: _, extra } = thinking;
    let seal = seal.as_ref().map(|seal| seal.pack(Issuer::Anthropic)).unwrap_or_default();
    if thoughts.is_empty() && seal.is_empty() {
        return;
    }
    w.object();
    if *redacted {
        w.name("type").string("redacted_thinking");
        w.name("data").string(&seal);
    } else {
        let texts: Vec<&str> = thoughts.iter().map(|thought| &*thought.text).collect();
        w.name("type").string("thinking");
        w.name("thinking").string(&texts.join("\n\n"));
        w.name("signature").string(&seal);
    }
    rest(w, extra, own, losses);
    w.end_object();
}

fn write_call(w: &mut Writer<'_>, call: &ToolCall<'_>, own: bool, losses: &mut Losses) {
    let ToolCall { id, name, kind: _, arguments, cache: _, seal, item_id: _, at: _, extra } = call;
    sealed(w, seal.as_ref());
    w.object();
    w.name("type").string("tool_use");
    w.name("id").string(id);
    w.name("name").string(name);
    w.name("input");
    if !input(w, arguments) {
        losses.changed(At::NOWHERE, "input");
    }
    rest(w, extra, own, losses);
    w.end_object();
}

/// A block that comes at once, in this dialect's own words. `None`: it has none for it.
pub(super) fn whole<'b>(block: &'b Block<'_>) -> Option<Cow<'b, str>> {
    match block {
        Block::Native(Native { dialect: Dialect::Anthropic, json, kind: _, at: _ })
        | Block::ServerCall(ServerCall { native: Some((Dialect::Anthropic, json)), .. })
        | Block::ServerResult(ServerResult { native: Some((Dialect::Anthropic, json)), .. }) => {
            Some(Cow::Borrowed(json))
        }
        Block::ServerCall(call) => server_call(call).map(Cow::Owned),
        Block::ServerResult(result) => server_result(result).map(Cow::Owned),
        _ => None,
    }
}

fn server_call(call: &ServerCall<'_>) -> Option<String> {
    let ServerCall { id, tool, name: _, input, native: _, at: _ } = call;
    let name = server_name(*tool)?;
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object();
    w.name("type").string("server_tool_use");
    w.name("id").string(id);
    w.name("name").string(name);
    w.name("input");
    self::input(&mut w, input);
    w.end_object();
    String::from_utf8(out).ok()
}

fn server_result(result: &ServerResult<'_>) -> Option<String> {
    let ServerResult { id, tool, sources, output, native: _, at: _ } = result;
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object();
    match tool {
        ServerToolKind::WebSearch => {
            w.name("type").string("web_search_tool_result");
            w.name("tool_use_id").string(id);
            w.name("content").array();
            for (url, title) in sources {
                w.object();
                w.name("type").string("web_search_result");
                w.name("url").string(url);
                w.name("title").string(title.as_deref().unwrap_or_default());
                w.name("encrypted_content").string("");
                w.name("page_age").null();
                w.end_object();
            }
            w.end_array();
        }
        ServerToolKind::CodeExecution => {
            w.name("type").string("code_execution_tool_result");
            w.name("tool_use_id").string(id);
            w.name("content").object();
            w.name("type").string("code_execution_result");
            w.name("stdout").string(output.as_deref().unwrap_or_default());
            w.name("stderr").string("");
            w.name("return_code").number(0);
            w.name("content").array();
            w.end_array();
            w.end_object();
        }
        ServerToolKind::WebFetch | ServerToolKind::Other => return None,
    }
    w.end_object();
    String::from_utf8(out).ok()
}

fn server_name(tool: ServerToolKind) -> Option<&'static str> {
    match tool {
        ServerToolKind::WebSearch => Some("web_search"),
        ServerToolKind::CodeExecution => Some("code_execution"),
        ServerToolKind::WebFetch | ServerToolKind::Other => None,
    }
}
