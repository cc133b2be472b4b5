//! Reading a prompt as a conversation.
//!
//! `suffix`, `echo` and `best_of` have no word in a conversation ([`unsaid`]). All other members that are not read here are those of chat
//! completions too (`logit_bias`, vendors' own), and go to providers of that dialect as they are. The reference's default of 16 tokens is
//! not filled in: it would cut the answers of models made for conversations.

use std::borrow::Cow;

use crate::chat::{Block, Dialect, Extra, Losses, Param, Request, Role, Text, Turn};
use crate::json::{At, Members, Node, Value, Wrong};

pub(super) fn read(body: Node<'_>) -> Result<Request<'_>, Wrong> {
    let at = body.at;
    let mut members = body.object()?;
    let mut request = Request::new(Dialect::OpenAiChat);
    request.model = members.take_string("model")?.unwrap_or_default();
    request.turns.push(prompt(&mut members, at)?);
    request.stream = members.take_bool("stream")?.unwrap_or(false);
    let mut options = members.take_object("stream_options")?.unwrap_or_default();
    request.stream_usage = options.take_bool("include_usage")?.unwrap_or(false);
    request.max_output = param(&mut members, "max_tokens", Node::whole_number)?;
    request.temperature = param(&mut members, "temperature", number)?;
    request.top_p = param(&mut members, "top_p", number)?;
    request.top_k = param(&mut members, "top_k", number)?;
    request.presence_penalty = param(&mut members, "presence_penalty", number)?;
    request.frequency_penalty = param(&mut members, "frequency_penalty", number)?;
    request.seed = param(&mut members, "seed", number)?;
    request.stop = param(&mut members, "stop", stop)?;
    request.n = param(&mut members, "n", Node::whole_number)?;
    request.user = param(&mut members, "user", Node::string)?;
    if let Some(top) = param(&mut members, "logprobs", Node::whole_number)? {
        request.logprobs = Some(Param { value: true, at: top.at });
        request.top_logprobs = Some(top);
    }
    for name in UNSAID {
        members.take(name);
    }
    if members.get("logit_bias").and_then(Node::as_object).is_some_and(Members::is_empty) {
        members.take("logit_bias");
    }
    request.extra = Extra::rest(members);
    Ok(request)
}

const UNSAID: [&str; 3] = ["suffix", "echo", "best_of"];

/// Booked when they ask for something: a completion in the middle of a text is another question without its `suffix`.
pub(super) fn unsaid(body: &Node<'_>) -> Losses {
    let mut losses = Losses::default();
    let Some(members) = body.as_object() else { return losses };
    let member = |name| members.get(name).filter(|node| !node.is_null());
    if let Some(suffix) = member("suffix").filter(|node| node.as_str() != Some("")) {
        losses.essential(suffix.at, "");
    }
    if let Some(echo) = member("echo").filter(|node| node.as_bool() != Some(false)) {
        losses.dropped(echo.at, "");
    }
    let answers = member("n").and_then(Node::as_u64).unwrap_or(1);
    if let Some(best_of) = member("best_of").filter(|node| node.as_u64().is_none_or(|best| best > answers)) {
        losses.dropped(best_of.at, "");
    }
    for (name, option) in member("stream_options").and_then(Node::as_object).into_iter().flat_map(Members::iter) {
        // padding against onlookers is put on by who writes the stream, or not at all
        if !matches!(name, "include_usage" | "include_obfuscation") {
            losses.dropped(option.at, "");
        }
    }
    losses
}

fn prompt<'a>(members: &mut Members<'a>, at: At) -> Result<Turn<'a>, Wrong> {
    let prompt = members.take("prompt").ok_or(Wrong::new(at, "\"prompt\" is missing"))?;
    let at = prompt.at;
    let text = match prompt.value {
        Value::String(text) => text,
        Value::Array(mut items) => match (items.pop(), items.is_empty()) {
            (Some(Node { value: Value::String(text), .. }), true) => text,
            (Some(Node { value: Value::String(_), at, .. }), false) => {
                return Err(Wrong::new(at, "this model takes one prompt a call"));
            }
            (Some(Node { value: Value::Number | Value::Array(_), at, .. }), _) => {
                return Err(Wrong::new(at, "tokens mean nothing to this model's provider: send the text"));
            }
            _ => return Err(Wrong::new(at, "expected a string")),
        },
        _ => return Err(Wrong::new(at, "expected a string or an array of one string")),
    };
    let block = Block::Text(Text { at, ..Text::new(text) });
    Ok(Turn { at, ..Turn::new(Role::User, vec![block]) })
}

fn param<'a, T>(
    members: &mut Members<'a>,
    name: &str,
    read: impl FnOnce(Node<'a>) -> Result<T, Wrong>,
) -> Result<Option<Param<T>>, Wrong> {
    let Some(node) = members.take(name) else { return Ok(None) };
    let at = node.at;
    Ok(Some(Param { value: read(node)?, at }))
}

fn number(node: Node<'_>) -> Result<Cow<'_, str>, Wrong> {
    node.number().map(Cow::Borrowed)
}

fn stop(node: Node<'_>) -> Result<Vec<Cow<'_, str>>, Wrong> {
    match node.value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) => items.into_iter().map(Node::string).collect(),
        _ => Err(Wrong::new(node.at, "expected a string or an array of strings")),
    }
}
