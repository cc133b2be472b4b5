//! A reply, read.

use std::borrow::Cow;

use super::item::{self, Item};
use super::{content, usage};
use crate::chat::block::Native;
use crate::chat::{Block, Choice, Dialect, Extra, Json, Logprob, Response, Stop, StopReason, Thinking};
use crate::dialect::Origin;
use crate::json::{Members, Node, Wrong};

/// Members of a reply that say again what was asked, or state what every reply states; `billing` is the operator's affair.
const REPEATED: [&str; 33] = [
    "object",
    "background",
    "billing",
    "completed_at",
    "conversation",
    "frequency_penalty",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "moderation",
    "output_text",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tool_usage",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
    "usage",
    "access_programs",
];

/// The facts of an answer beside its output: of a whole reply, and of a stream's last event.
pub struct Facts<'a> {
    pub status: Option<Cow<'a, str>>,
    pub incomplete: Option<Cow<'a, str>>,
    pub error: Option<Members<'a>>,
    pub usage: Option<crate::chat::Usage>,
    pub extra: Extra<'a>,
}

/// Read a whole reply.
pub fn read<'a>(reply: Node<'a>, from: &Origin<'_>) -> Result<Response<'a>, Wrong> {
    let mut reply = reply.object()?;
    let mut response = Response::new(Dialect::OpenAiResponses);
    response.id = reply.take_string("id")?;
    response.model = reply.take_string("model")?.or_else(|| Some(from.model.to_owned().into()));
    response.created = created(&mut reply);
    response.service_tier = reply.take_string("service_tier")?;
    let output = reply.take_array("output")?.unwrap_or_default();
    let facts = facts(reply)?;
    let mut choice = Choice::default();
    for (n, item) in output.into_iter().enumerate() {
        output_item(item, n, &mut choice.blocks, &mut choice.logprobs)?;
    }
    unique_ids(&mut choice.blocks, response.id.as_deref());
    choice.stop = Some(stop(&facts, &choice.blocks));
    response.usage = facts.usage;
    response.extra = facts.extra;
    response.choices.push(choice);
    Ok(response)
}

/// `created_at`; some vendors write a fraction.
pub fn created(reply: &mut Members<'_>) -> Option<u64> {
    let node = reply.take("created_at")?;
    node.as_u64().or_else(|| node.as_f64().filter(|at| *at >= 0.0).map(|at| at as u64))
}

/// What is left of a reply when its output is taken out.
pub fn facts<'a>(mut reply: Members<'a>) -> Result<Facts<'a>, Wrong> {
    let usage = usage::read(&reply);
    let status = reply.take_string("status")?;
    let incomplete = match reply.take_object("incomplete_details")? {
        Some(mut details) => details.take_string("reason")?,
        None => None,
    };
    let error = reply.take("error").and_then(|node| node.object().ok());
    for name in REPEATED {
        reply.take_raw(name);
    }
    Ok(Facts { status, incomplete, error, usage, extra: Extra::rest(reply) })
}

/// One item of the output.
pub fn output_item<'a>(
    node: Node<'a>,
    n: usize,
    blocks: &mut Vec<Block<'a>>,
    logprobs: &mut Vec<Logprob<'a>>,
) -> Result<(), Wrong> {
    match item::read(node, n)? {
        Item::Message { blocks: parts, extra, .. } => {
            let mut phase = extra.0.into_iter().filter(|member| member.name == "phase");
            for mut part in parts {
                if let Block::Text(text) = &mut part {
                    logprobs.extend(take_logprobs(&mut text.extra));
                    text.extra.0.extend(phase.next());
                }
                blocks.push(part);
            }
        }
        Item::Blocks { blocks: items, .. } => {
            for mut block in items {
                if let Block::ToolCall(crate::chat::ToolCall { extra, .. }) | Block::Thinking(Thinking { extra, .. }) =
                    &mut block
                {
                    extra.0.retain(|member| member.name != "status");
                }
                blocks.push(block);
            }
        }
        Item::SealBehind { seal, at } => blocks.push(Block::Thinking(Thinking {
            thoughts: Vec::new(),
            seal: Some(seal),
            redacted: false,
            id: None,
            at,
            extra: Extra::default(),
        })),
        Item::Stored(member) => blocks.push(Block::Native(Native {
            dialect: Dialect::OpenAiResponses,
            kind: member.name,
            json: member.json,
            at: member.at,
        })),
    }
    Ok(())
}

/// The log probabilities that a text part came with.
pub fn take_logprobs<'a>(extra: &mut Extra<'a>) -> Vec<Logprob<'a>> {
    let Some(at) = extra.0.iter().position(|member| member.name == "logprobs") else { return Vec::new() };
    let read = |json: Json<'a>| match json {
        Cow::Borrowed(json) => Node::parse_reply(json.as_bytes()).map(content::logprobs).unwrap_or_default(),
        Cow::Owned(_) => Vec::new(), // a decoder borrows what it keeps
    };
    read(extra.0.remove(at).json)
}

/// Ids that were made up from a position are told from those of other answers by the answer's own id.
fn unique_ids(blocks: &mut [Block<'_>], response: Option<&str>) {
    let Some(response) = response else { return };
    for block in blocks {
        if let Block::ToolCall(call) = block
            && is_made_up(&call.id)
        {
            call.id = made_up_id(&call.id, response).into();
        }
    }
}

/// `call_0`: the position of an item that came without an id.
pub fn is_made_up(id: &str) -> bool {
    id.strip_prefix("call_").is_some_and(|n| n.len() <= 4 && n.bytes().all(|b| b.is_ascii_digit()))
}

pub fn made_up_id(id: &str, response: &str) -> String {
    let tail: String = response.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{id}_{}", tail.get(tail.len().saturating_sub(24)..).unwrap_or_default())
}

/// Why the answer ended.
pub fn stop<'a>(facts: &Facts<'a>, blocks: &[Block<'_>]) -> Stop<'a> {
    let called = blocks.iter().any(|block| matches!(block, Block::ToolCall(_)));
    let refused = blocks.iter().any(|block| matches!(block, Block::Refusal(_)));
    stop_of(facts, called, refused)
}

pub fn stop_of<'a>(facts: &Facts<'a>, called: bool, refused: bool) -> Stop<'a> {
    let said = |name: &str| {
        let error = facts.error.as_ref()?;
        error.get(name).and_then(Node::as_str).map(str::to_owned)
    };
    let reason = match (facts.status.as_deref(), facts.incomplete.as_deref()) {
        (None | Some("completed"), None) if called => StopReason::ToolUse,
        (None | Some("completed"), None) if refused => StopReason::Refusal,
        (None | Some("completed"), None) => StopReason::End,
        (_, Some("max_output_tokens" | "max_tokens")) => StopReason::Length,
        (_, Some("content_filter")) => StopReason::ContentFilter,
        (_, Some(word)) => StopReason::Other(word.to_owned().into()),
        (Some(word), None) => StopReason::Other(word.to_owned().into()),
    };
    Stop { reason, sequence: None, detail: said("message").map(Cow::Owned) }
}
