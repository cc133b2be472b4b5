//! A whole answer: `GenerateContentResponse`.

use std::borrow::Cow;

use super::calls::Calls;
use super::{grounding, part, take, take_object, take_string};
use crate::chat::{
    Block, Choice, Citation, Dialect, Extra, ExtraMember, Logprob, Response, ServerToolKind, Stop, StopReason,
};
use crate::dialect::gemini::{reason, usage};
use crate::json::{Members, Node, Wrong};

pub fn decode(reply: Node<'_>) -> Result<Response<'_>, Wrong> {
    let at = reply.at;
    let mut members = reply.object()?;
    let mut response = Response::new(Dialect::Gemini);
    response.id = take_string(&mut members, "responseId")?;
    response.model = take_string(&mut members, "modelVersion")?;
    response.created = take_string(&mut members, "createTime")?.and_then(|time| seconds(&time));
    let mut calls = Calls::of_answer(response.id.as_deref());
    let mut searched = 0;
    let candidates = members.take_array("candidates")?.unwrap_or_default();
    if candidates.is_empty() && members.get("error").is_some() {
        return Err(Wrong::new(at, "expected an answer, found an error"));
    }
    for candidate in candidates {
        response.choices.push(choice(candidate, &mut calls, &mut searched)?);
    }
    if let Some(node) = take(&mut members, "usageMetadata") {
        response.service_tier = tier(&node);
        response.usage = usage::read(node.raw);
        if let Some(usage) = &mut response.usage {
            usage.server_tool_calls = searched;
        }
    }
    if response.choices.is_empty() {
        let stop = members.get("promptFeedback").and_then(blocked).unwrap_or(Stop::new(StopReason::End));
        response.choices.push(Choice { stop: Some(stop), ..Choice::default() });
    }
    response.extra = rest(members);
    Ok(response)
}

fn choice<'a>(candidate: Node<'a>, calls: &mut Calls, searched: &mut u32) -> Result<Choice<'a>, Wrong> {
    let mut members = candidate.object()?;
    let mut blocks = match take_object(&mut members, "content")?.and_then(|mut content| content.take("parts")) {
        Some(parts) => part::blocks(parts, calls)?,
        None => Vec::new(),
    };
    let logprobs = take(&mut members, "logprobsResult").map(logprobs).transpose()?.unwrap_or_default();
    let called = blocks.iter().any(|block| matches!(block, Block::ToolCall(_)));
    let finish = take(&mut members, "finishReason");
    let detail = take_string(&mut members, "finishMessage")?;
    members.take("index");
    cite(&mut blocks, &members);
    if let Some(metadata) = members.get("groundingMetadata") {
        *searched = searched.saturating_add(grounding::queries(metadata));
        if !shows_searches(&blocks) {
            blocks.extend(grounding::searches(metadata, || calls.search()));
        }
    }
    let mut extra = rest(members);
    let stop = finish.and_then(|node| {
        let reason::Finish { reason, exact } = reason::read(&node, called)?;
        if !exact {
            let (name, json) = (Cow::Borrowed("finishReason"), Cow::Borrowed(node.raw));
            extra.0.push(ExtraMember { name, json, at: node.at });
        }
        Some(Stop { reason, sequence: None, detail })
    });
    Ok(Choice { blocks, stop, logprobs, extra })
}

/// The provider showed its searches as parts.
fn shows_searches(blocks: &[Block<'_>]) -> bool {
    blocks.iter().any(|block| matches!(block, Block::ServerCall(call) if call.tool == ServerToolKind::WebSearch))
}

fn cite<'a>(blocks: &mut [Block<'a>], candidate: &Members<'a>) {
    let texts: Vec<&str> = blocks.iter().filter_map(text_of).collect();
    let mut cited: Vec<(usize, Citation<'a>)> = Vec::new();
    if let Some(metadata) = candidate.get("groundingMetadata") {
        cited.extend(grounding::grounded(metadata, &texts));
    }
    if let Some(metadata) = candidate.get("citationMetadata") {
        cited.extend(grounding::recited(metadata, &texts));
    }
    let mut places: Vec<&mut Vec<Citation<'a>>> = blocks
        .iter_mut()
        .filter_map(|block| match block {
            Block::Text(text) => Some(&mut text.citations),
            _ => None,
        })
        .collect();
    for (at, citation) in cited {
        if let Some(citations) = places.get_mut(at) {
            citations.push(citation);
        }
    }
}

fn text_of<'b>(block: &'b Block<'_>) -> Option<&'b str> {
    match block {
        Block::Text(text) => Some(&text.text),
        _ => None,
    }
}

/// Why a prompt was not answered at all.
pub fn blocked<'a>(feedback: &Node<'a>) -> Option<Stop<'a>> {
    let feedback = feedback.as_object()?;
    let reason = feedback.get("blockReason").filter(|node| !node.is_null())?;
    let message = feedback.get("blockReasonMessage").and_then(|node| node.clone().string().ok());
    let detail = message.or_else(|| reason.clone().string().ok());
    Some(Stop { reason: StopReason::ContentFilter, sequence: None, detail })
}

/// `usageMetadata.serviceTier`.
pub fn tier<'a>(usage: &Node<'a>) -> Option<Cow<'a, str>> {
    usage.as_object()?.get("serviceTier")?.clone().string().ok()
}

/// Unix seconds of RFC 3339.
pub fn seconds(time: &str) -> Option<u64> {
    u64::try_from(time.parse::<jiff::Timestamp>().ok()?.as_second()).ok()
}

pub fn logprobs(result: Node<'_>) -> Result<Vec<Logprob<'_>>, Wrong> {
    let mut result = result.object()?;
    let mut top = result.take_array("topCandidates")?.unwrap_or_default().into_iter();
    let chosen = result.take_array("chosenCandidates")?.unwrap_or_default();
    chosen
        .into_iter()
        .map(|node| {
            let mut logprob = logprob(node)?;
            if let Some(candidates) = top.next() {
                let candidates = candidates.object()?.take_array("candidates")?.unwrap_or_default();
                logprob.top = candidates.into_iter().map(self::logprob).collect::<Result<_, _>>()?;
            }
            Ok(logprob)
        })
        .collect()
}

fn logprob(node: Node<'_>) -> Result<Logprob<'_>, Wrong> {
    let mut members = node.object()?;
    let token = members.take_string("token")?.unwrap_or_default();
    // 0, which protobuf leaves out, is certainty
    let logprob = members.take("logProbability").map(Node::number).transpose()?.unwrap_or("0");
    Ok(Logprob { token, logprob: Cow::Borrowed(logprob), bytes: None, top: Vec::new() })
}

/// What only Gemini knows. Empty objects say nothing.
pub fn rest(members: Members<'_>) -> Extra<'_> {
    let mut extra = Extra::rest(members);
    extra.0.retain(|member| !matches!(&*member.json, "{}" | "[]"));
    extra
}
