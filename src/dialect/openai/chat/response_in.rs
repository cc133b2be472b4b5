//! A chat completion, read.

use super::{annotations, finish, message_in, rest};
use crate::chat::{Block, Choice, Dialect, Extra, ExtraMember, Response};
use crate::dialect::openai::usage;
use crate::json::{Node, Wrong};

pub(super) fn read(reply: Node<'_>) -> Result<Response<'_>, Wrong> {
    let at = reply.at;
    let mut members = reply.object()?;
    if members.get("choices").is_none_or(|choices| choices.as_array().is_none()) {
        let error = members.get("error").is_some_and(|error| !error.is_null());
        return Err(Wrong::new(at, if error { "an error in place of an answer" } else { "expected `choices`" }));
    }
    let mut response = Response::new(Dialect::OpenAiChat);
    response.id = rest::words(&mut members, "id");
    response.model = rest::words(&mut members, "model");
    response.created = rest::number(&mut members, "created");
    response.service_tier = rest::words(&mut members, "service_tier");
    members.take("object");
    let seed = response.id.clone().unwrap_or_default();
    let list = rest::list(&mut members, "choices");
    // OpenRouter: the provider behind it broke off
    if let Some(broken) = list.iter().find(|node| failed(node)) {
        return Err(Wrong::new(broken.at, "an error in place of an answer"));
    }
    let mut choices: Vec<(u64, Choice<'_>)> = list.into_iter().filter_map(|node| choice(node, &seed)).collect();
    choices.sort_by_key(|(index, _)| *index);
    response.choices = choices.into_iter().map(|(_, choice)| choice).collect();
    let mut extra = Extra::default();
    if let Some(node) = members.take("usage") {
        let at = node.at;
        let (read, left) = usage::take(node);
        response.usage = read;
        extra.0.extend(left.map(|json| ExtraMember { name: "usage".into(), json: json.into(), at }));
    }
    rest::forget(&mut members, &["id", "model", "choices", "service_tier"]);
    extra.0.extend(Extra::rest(members).0);
    response.extra = extra;
    Ok(response)
}

fn failed(choice: &Node<'_>) -> bool {
    choice.as_object().and_then(|choice| choice.get("error")).is_some_and(|error| !error.is_null())
}

fn choice<'a>(node: Node<'a>, seed: &str) -> Option<(u64, Choice<'a>)> {
    let at = node.at;
    let mut members = node.object().ok()?;
    let index = rest::number(&mut members, "index").unwrap_or(0);
    let mut extra = Extra::default();
    let message_at = members.get("message").map_or(at, |message| message.at);
    let mut message = rest::inner(&mut members, "message").unwrap_or_default();
    let blocks = message_in::blocks(&mut message, &mut extra, seed, message_at);
    rest::forget(&mut message, &message_in::OWN);
    rest::keep(&mut extra, "message", message_at, &message);
    let held = finish::Held {
        calls: blocks.iter().any(|block| matches!(block, Block::ToolCall(_))),
        refusal: blocks.iter().any(|block| matches!(block, Block::Refusal(_))),
    };
    let word = rest::text(&mut members, "finish_reason");
    let stop = Some(finish::read(word, rest::words(&mut members, "stop_reason"), held));
    let logprobs = annotations::logprobs(&mut members, &mut extra);
    rest::forget(&mut members, &["message", "finish_reason"]);
    extra.0.extend(Extra::rest(members).0);
    Some((index, Choice { blocks, stop, logprobs, extra }))
}
