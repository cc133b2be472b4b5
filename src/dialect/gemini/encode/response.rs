//! A whole answer for a client that speaks Gemini.

use std::borrow::Cow;

use super::grounding::Grounding;
use super::part::{Data, Fit, Part, arguments, own, packed, packed_thought, thoughts};
use crate::chat::block::{Native, Refusal, ServerCall, ServerResult};
use crate::chat::{
    Block, CallKind, Choice, Dialect, ExtraMember, Logprob, Losses, Media, Response, ServerToolKind, Source, Stop,
    StopReason, Text, Thinking, ToolCall, Usage,
};
use crate::dialect::codec::{Encoded, ReplyTo};
use crate::dialect::gemini::{NAMELESS, reason};
use crate::json::{At, Node, Writer};

/// Facts of an answer that stand in its candidate, where a stream told them of the whole.
const OF_CANDIDATE: [&str; 9] = [
    "groundingMetadata",
    "citationMetadata",
    "urlContextMetadata",
    "safetyRatings",
    "avgLogprobs",
    "finishReason",
    "finishMessage",
    "tokenCount",
    "continuationToken",
];

pub fn encode(response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded {
    let Response { dialect, id, model, created, choices, usage, service_tier, extra } = response;
    let mut losses = Losses::default();
    let native = *dialect == Dialect::Gemini;
    if !native {
        losses.extra(extra);
    }
    let facts: &[ExtraMember<'_>] = if native { &extra.0 } else { &[] };
    let mut body = Vec::with_capacity(1024);
    let mut w = Writer::new(&mut body);
    w.object();
    if !(facts.iter().any(|fact| fact.name == "promptFeedback") && choices.iter().all(is_blocked)) {
        w.name("candidates").array();
        for (index, choice) in choices.iter().enumerate() {
            let told = facts.iter().filter(|fact| index == 0 && is_of_candidate(&fact.name));
            candidate(choice, index, native, told, &mut w, &mut losses);
        }
        w.end_array();
    }
    for fact in facts.iter().filter(|fact| !is_of_candidate(&fact.name)) {
        w.name(&fact.name).raw(&fact.json);
    }
    let tier = tier(service_tier.as_deref(), native);
    if tier.is_none() && service_tier.is_some() {
        losses.dropped(At::NOWHERE, "service_tier");
    }
    if let Some(usage) = usage {
        write_usage(usage, tier, &mut w);
        untold(usage, &mut losses);
    }
    w.name("modelVersion").string(model.as_deref().unwrap_or(to.model));
    if let Some(time) = created.and_then(time) {
        w.name("createTime").string(&time);
    }
    w.name("responseId").string(id.as_deref().unwrap_or(to.id));
    w.end_object();
    Encoded { body, losses }
}

pub fn is_of_candidate(name: &str) -> bool {
    OF_CANDIDATE.contains(&name)
}

/// The prompt was refused: there is no candidate.
fn is_blocked(choice: &Choice<'_>) -> bool {
    choice.blocks.is_empty() && choice.stop.as_ref().is_none_or(|stop| matches!(stop.reason, StopReason::ContentFilter))
}

fn candidate<'r>(
    choice: &'r Choice<'_>,
    index: usize,
    native: bool,
    told: impl Iterator<Item = &'r ExtraMember<'r>>,
    w: &mut Writer<'_>,
    losses: &mut Losses,
) {
    let Choice { blocks, stop, logprobs, extra } = choice;
    let mut parts = Vec::new();
    let mut grounding = Grounding::default();
    for block in blocks {
        self::parts(block, native, &mut parts, &mut grounding, losses);
    }
    let own = own(extra, native, losses);
    let facts: Vec<&ExtraMember<'_>> = own.into_iter().flat_map(|extra| &extra.0).chain(told).collect();
    w.object();
    w.name("content").object();
    if !parts.is_empty() {
        w.name("parts").array();
        for part in &parts {
            part.write(w);
        }
        w.end_array();
    }
    w.name("role").string("model");
    w.end_object();
    let known = facts.iter().any(|fact| fact.name == "finishReason");
    finish(stop.as_ref().filter(|_| !known), w, losses);
    if let Some(detail) = stop.as_ref().filter(|_| known).and_then(|stop| stop.detail.as_deref()) {
        w.name("finishMessage").string(detail);
    }
    w.name("index").number(index as u64);
    if !logprobs.is_empty() {
        write_logprobs(logprobs, w);
    }
    for fact in &facts {
        w.name(&fact.name).raw(&fact.json);
    }
    // Gemini's own metadata says more than what was read from it
    if !grounding.is_empty() && !facts.iter().any(|fact| fact.name == "groundingMetadata") {
        w.name("groundingMetadata");
        grounding.write(w);
    }
    w.end_object();
}

/// `finishReason` and `finishMessage`.
pub fn finish(stop: Option<&Stop<'_>>, w: &mut Writer<'_>, losses: &mut Losses) {
    let Some(stop) = stop else { return };
    w.name("finishReason").string(reason::word(stop));
    let Stop { reason: _, sequence, detail } = stop;
    if sequence.is_some() {
        losses.dropped(At::NOWHERE, "stop_sequence");
    }
    w.string_if("finishMessage", detail.as_deref());
}

/// The parts that a block becomes.
pub fn parts<'r>(
    block: &'r Block<'_>,
    native: bool,
    parts: &mut Vec<Part<'r>>,
    grounding: &mut Grounding,
    losses: &mut Losses,
) {
    match block {
        Block::Text(Text { text, citations, cache: _, seal, at: _, extra }) => {
            for citation in citations {
                grounding.rests(citation, text, parts.len(), 0, losses);
            }
            let signature = seal.as_ref().map(packed);
            let extra = own(extra, native, losses);
            if !text.is_empty() || signature.is_some() {
                parts.push(Part { signature, extra, ..Part::text(&**text) });
            }
        }
        Block::Thinking(thinking) => {
            let Thinking { thoughts: _, seal, redacted, id: _, at: _, extra } = thinking;
            let extra = own(extra, native, losses);
            thoughts(thinking, seal.as_ref().map(|seal| packed_thought(seal, *redacted)), extra, parts);
        }
        Block::ToolCall(call) => {
            let ToolCall { id, name, kind, arguments, cache: _, seal, item_id: _, at, extra } = call;
            let (arguments, fit) = written(*kind, arguments);
            if fit == Fit::Changed {
                losses.changed(*at, "arguments");
            }
            let data = Data::Call { name, arguments, id: said_id(id), pair: id };
            let extra = own(extra, native, losses);
            parts.push(Part { signature: seal.as_ref().map(packed), extra, ..Part::new(data) });
        }
        Block::Media(media) => self::media(media, native, parts, losses),
        Block::Refusal(Refusal { text, at: _ }) => parts.push(Part::text(&**text)),
        Block::ServerCall(call) => {
            if let Some((Dialect::Gemini, json)) = &call.native {
                parts.push(Part::new(Data::Raw(Cow::Borrowed(json))));
            } else if !grounding.called(call) {
                match code(call) {
                    Some(json) => parts.push(Part::new(Data::Raw(Cow::Owned(json)))),
                    None => losses.dropped(call.at, ""),
                }
            }
        }
        Block::ServerResult(result) => {
            if let Some((Dialect::Gemini, json)) = &result.native {
                parts.push(Part::new(Data::Raw(Cow::Borrowed(json))));
            } else if !grounding.found(result) {
                match output(result) {
                    Some(json) => parts.push(Part::new(Data::Raw(Cow::Owned(json)))),
                    None => losses.dropped(result.at, ""),
                }
            }
        }
        Block::Native(Native { dialect: Dialect::Gemini, kind: _, json, at: _ }) => {
            parts.push(Part::new(Data::Raw(Cow::Borrowed(json))));
        }
        // results stand in requests
        Block::Native(Native { dialect: _, kind: _, json: _, at }) => losses.dropped(*at, ""),
        Block::ToolResult(result) => losses.dropped(result.at, ""),
    }
}

/// A call's arguments for this dialect.
pub fn written(kind: CallKind, text: &str) -> (Cow<'_, str>, Fit) {
    match kind {
        CallKind::Function => arguments(text),
        CallKind::Custom => (Cow::Owned(serde_json::json!({ "input": text }).to_string()), Fit::Changed),
    }
}

/// The id, unless it was made because Gemini gave none.
pub fn said_id(id: &str) -> Option<&str> {
    (!id.starts_with(NAMELESS)).then_some(id)
}

fn media<'r>(media: &'r Media<'_>, native: bool, parts: &mut Vec<Part<'r>>, losses: &mut Losses) {
    let Media { kind: _, source, name, context: _, detail: _, citations: _, cache: _, seal, at, extra } = media;
    let data = match source {
        Source::Base64 { media_type, data } => {
            Data::Inline { media_type: Cow::Borrowed(media_type), data, name: name.as_deref() }
        }
        Source::Url { url, media_type } => {
            let media_type = media_type.as_deref().map(Cow::Borrowed);
            Data::File { uri: url, media_type, name: name.as_deref() }
        }
        Source::Text { media_type: _, text } => Data::Text(Cow::Borrowed(text)),
        Source::File { id, dialect: Dialect::Gemini, media_type } => {
            let media_type = media_type.as_deref().map(Cow::Borrowed);
            Data::File { uri: id, media_type, name: name.as_deref() }
        }
        Source::File { id: _, dialect: _, media_type: _ } | Source::Blocks(_) => return losses.dropped(*at, ""),
    };
    let extra = own(extra, native, losses);
    parts.push(Part { signature: seal.as_ref().map(packed), extra, ..Part::new(data) });
}

/// A program the model ran, where it is told.
fn code(call: &ServerCall<'_>) -> Option<String> {
    if call.tool != ServerToolKind::CodeExecution {
        return None;
    }
    let input = Node::parse(call.input.as_bytes()).ok()?;
    let code = input.as_object()?.get("code")?.as_str()?;
    let part = serde_json::json!({ "executableCode": { "language": "PYTHON", "code": code } });
    Some(part.to_string())
}

fn output(result: &ServerResult<'_>) -> Option<String> {
    let output = result.output.as_deref().filter(|_| result.tool == ServerToolKind::CodeExecution)?;
    let part = serde_json::json!({ "codeExecutionResult": { "outcome": "OUTCOME_OK", "output": output } });
    Some(part.to_string())
}

/// `logprobsResult`.
pub fn write_logprobs(logprobs: &[Logprob<'_>], w: &mut Writer<'_>) {
    let one = |logprob: &Logprob<'_>, w: &mut Writer<'_>| {
        // the bytes are the token's own, which is text
        let Logprob { token, logprob, bytes: _, top: _ } = logprob;
        w.object();
        w.name("token").string(token);
        w.name("logProbability").raw(logprob);
        w.end_object();
    };
    w.name("logprobsResult").object();
    w.name("chosenCandidates").array();
    logprobs.iter().for_each(|logprob| one(logprob, w));
    w.end_array();
    if logprobs.iter().any(|logprob| !logprob.top.is_empty()) {
        w.name("topCandidates").array();
        for logprob in logprobs {
            w.object();
            w.name("candidates").array();
            logprob.top.iter().for_each(|logprob| one(logprob, w));
            w.end_array();
            w.end_object();
        }
        w.end_array();
    }
    w.end_object();
}

/// `usageMetadata`. What tools brought in is part of the prompt here.
pub fn write_usage(usage: &Usage, tier: Option<&str>, w: &mut Writer<'_>) {
    let Usage {
        input,
        cache_read,
        cache_write_5m: _, // booked, see `untold`
        cache_write_1h: _,
        input_audio,
        output,
        reasoning,
        output_audio,
        server_tool_calls: _,
    } = usage;
    let shown = output.0.saturating_sub(reasoning.0);
    w.name("usageMetadata").object();
    w.name("promptTokenCount").number(input.0);
    w.name("candidatesTokenCount").number(shown);
    w.name("totalTokenCount").number(input.0.saturating_add(output.0));
    w.number_if("cachedContentTokenCount", (cache_read.0 > 0).then_some(cache_read.0));
    w.number_if("thoughtsTokenCount", (reasoning.0 > 0).then_some(reasoning.0));
    modalities("promptTokensDetails", input.0, input_audio.0, w);
    modalities("candidatesTokensDetails", shown, output_audio.0, w);
    w.string_if("serviceTier", tier);
    w.end_object();
}

/// What of a usage has no word here. Searches are counted by their queries, which stand in the grounding.
pub fn untold(usage: &Usage, losses: &mut Losses) {
    losses.untold(&[("usage.cache_write", usage.cache_write_5m), ("usage.cache_write", usage.cache_write_1h)]);
}

fn modalities(name: &str, all: u64, audio: u64, w: &mut Writer<'_>) {
    if audio == 0 {
        return;
    }
    w.name(name).array();
    for (modality, tokens) in [("TEXT", all.saturating_sub(audio)), ("AUDIO", audio)] {
        w.object();
        w.name("modality").string(modality);
        w.name("tokenCount").number(tokens);
        w.end_object();
    }
    w.end_array();
}

/// The tier in Google's words.
pub fn tier(tier: Option<&str>, native: bool) -> Option<&str> {
    match tier? {
        word if native => Some(word),
        "default" | "standard" => Some("standard"),
        word @ ("flex" | "priority") => Some(word),
        _ => None,
    }
}

/// RFC 3339.
pub fn time(seconds: u64) -> Option<String> {
    Some(jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?.to_string())
}
