//! A whole answer of chat.
//!
//! Truth: the Cohere API reference, "Chat (v2)": `message`, `finish_reason`, `usage`, `logprobs`.

use std::borrow::Cow;

use super::citation;
use crate::chat::{
    Block, CallKind, Choice, Dialect, Extra, Logprob, Response, Stop, StopReason, Text, Thinking, Thought, ToolCall,
    Usage,
};
use crate::json::{At, Members, Node, Wrong};
use crate::units::Tokens;

pub fn decode<'a>(reply: Node<'a>) -> Result<Response<'a>, Wrong> {
    let at = reply.at;
    let mut members = reply.object()?;
    let mut message = members.take_object("message")?.ok_or(Wrong::new(at, "expected `message`"))?;
    let mut response = Response::new(Dialect::Cohere);
    response.id = members.take_string("id")?;
    response.usage = members.take("usage").as_ref().and_then(usage);
    let mut choice = Choice { blocks: blocks(&mut message, response.id.as_deref())?, ..Choice::default() };
    let called = choice.blocks.iter().any(|block| matches!(block, Block::ToolCall(_)));
    choice.stop = Some(Stop::new(match members.take_string("finish_reason")? {
        Some(word) => stop_reason(word),
        None if called => StopReason::ToolUse,
        None => StopReason::End,
    }));
    for node in members.take_array("logprobs")?.unwrap_or_default() {
        choice.logprobs.extend(logprob(node)?);
    }
    // of the message it says nothing
    message.take("role");
    choice.extra = Extra::rest(message);
    response.choices.push(choice);
    response.extra = Extra::rest(members);
    Ok(response)
}

/// The plan, the contents with their citations, the calls.
fn blocks<'a>(message: &mut Members<'a>, id: Option<&str>) -> Result<Vec<Block<'a>>, Wrong> {
    let mut blocks = Vec::new();
    if let Some(plan) = message.take("tool_plan") {
        let at = plan.at;
        push_thought(plan.string()?, at, &mut blocks);
    }
    // where each content's text went
    let mut places = Vec::new();
    for content in contents(message.take("content"))? {
        let at = content.at;
        let mut content = content.object()?;
        places.push(None);
        if let Some(text) = content.take_string("text")?.filter(|text| !text.is_empty()) {
            places.pop();
            places.push(Some(blocks.len()));
            blocks.push(Block::Text(Text { at, ..Text::new(text) }));
        } else if let Some(thought) = content.take_string("thinking")? {
            push_thought(thought, at, &mut blocks);
        }
    }
    for node in message.take_array("citations")?.unwrap_or_default() {
        let Some(cited) = citation::read(node)? else { continue };
        let named = cited.content.and_then(|content| usize::try_from(content).ok());
        let place = match named {
            Some(content) => places.get(content).copied().flatten(),
            None => places.iter().copied().flatten().next(),
        };
        if let Some(Block::Text(text)) = place.and_then(|place| blocks.get_mut(place)) {
            text.citations.extend(cited.citations);
        }
    }
    for (position, node) in message.take_array("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
        blocks.push(tool_call(node, position, id)?);
    }
    Ok(blocks)
}

fn contents(content: Option<Node<'_>>) -> Result<Vec<Node<'_>>, Wrong> {
    content.map_or(Ok(Vec::new()), Node::array)
}

fn push_thought<'a>(text: Cow<'a, str>, at: At, blocks: &mut Vec<Block<'a>>) {
    if !text.is_empty() {
        blocks.push(Block::Thinking(Thinking {
            thoughts: vec![Thought { text, summary: false }],
            seal: None,
            redacted: false,
            id: None,
            at,
            extra: Extra::default(),
        }));
    }
}

fn tool_call<'a>(node: Node<'a>, position: usize, response: Option<&str>) -> Result<Block<'a>, Wrong> {
    let at = node.at;
    let mut call = node.object()?;
    let mut function = call.take_object("function")?.unwrap_or_default();
    // `function`, always
    call.take("type");
    Ok(Block::ToolCall(ToolCall {
        id: call_id(call.take_string("id")?, position, response),
        name: function.take_string("name")?.unwrap_or_default(),
        kind: CallKind::Function,
        arguments: function.take_string("arguments")?.unwrap_or_default(),
        cache: None,
        seal: None,
        item_id: None,
        at,
        extra: Extra::rest(call),
    }))
}

/// Never empty, and not again in the next answer.
pub fn call_id<'a>(id: Option<Cow<'a, str>>, position: usize, response: Option<&str>) -> Cow<'a, str> {
    id.filter(|id| !id.is_empty()).unwrap_or_else(|| {
        let response: String = response.unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect();
        Cow::Owned(format!("call_{}{position}", response.get(..response.len().min(32)).unwrap_or_default()))
    })
}

pub fn stop_reason(word: Cow<'_, str>) -> StopReason<'_> {
    match &*word {
        "COMPLETE" => StopReason::End,
        "STOP_SEQUENCE" => StopReason::Sequence,
        "MAX_TOKENS" => StopReason::Length,
        "TOOL_CALL" => StopReason::ToolUse,
        "ERROR_TOXIC" => StopReason::ContentFilter,
        "ERROR_LIMIT" => StopReason::ContextWindow,
        _ => StopReason::Other(word),
    }
}

/// `tokens` counts all that the model read and wrote, Cohere's own template included; `billed_units` what is paid for, and that counts here. Images
/// stand beside the input.
pub fn usage(usage: &Node<'_>) -> Option<Usage> {
    let usage = usage.as_object()?;
    let billed = usage.get("billed_units").and_then(Node::as_object);
    let tokens = usage.get("tokens").and_then(Node::as_object);
    billed.or(tokens)?;
    let count = |members: &Members<'_>, name: &str| members.get(name).and_then(Node::as_u64).unwrap_or(0);
    let first = |name: &str| {
        let of = |members: Option<&Members<'_>>| members.and_then(|members| members.get(name)).and_then(Node::as_u64);
        of(billed).or_else(|| of(tokens)).unwrap_or(0)
    };
    let input = first("input_tokens").saturating_add(first("image_tokens"));
    let output = first("output_tokens");
    let searches = billed.map_or(0, |billed| count(billed, "search_units"));
    Some(Usage {
        input: Tokens(input),
        cache_read: Tokens(count(usage, "cached_tokens").min(input)),
        output: Tokens(output),
        reasoning: Tokens(first("reasoning_tokens").min(output)),
        server_tool_calls: u32::try_from(searches).unwrap_or(u32::MAX),
        ..Usage::default()
    })
}

/// A piece of text and the logarithm of each of its tokens, of which only the ids are told: together they are one.
pub fn logprob<'a>(node: Node<'a>) -> Result<Option<Logprob<'a>>, Wrong> {
    let mut members = node.object()?;
    let token = members.take_string("text")?.unwrap_or_default();
    let numbers = members.take_array("logprobs")?.unwrap_or_default();
    let logprob = match numbers.as_slice() {
        [] => return Ok(None),
        [one] => Cow::Borrowed(one.clone().number()?),
        several => Cow::Owned(several.iter().filter_map(Node::as_f64).sum::<f64>().to_string()),
    };
    Ok(Some(Logprob { token, logprob, bytes: None, top: Vec::new() }))
}
