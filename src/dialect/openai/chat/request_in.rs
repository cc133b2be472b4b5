//! A chat completions request, read.

use std::borrow::Cow;

use super::{parts, rest, tools_in, turns_in};
use crate::chat::{Dialect, Effort, Extra, ExtraMember, Format, Param, Reasoning, Request, Schema, Tool, ToolChoice};
use crate::json::{Members, Node, Value, Wrong};

pub(super) fn read(body: Node<'_>) -> Result<Request<'_>, Wrong> {
    let at = body.at;
    let mut m = body.object()?;
    let mut request = Request::new(Dialect::OpenAiChat);
    request.model = m.take_string("model")?.unwrap_or_default();
    request.stream = m.take_bool("stream")?.unwrap_or(false);
    let messages = m.take_array("messages")?.ok_or(Wrong::new(at, "expected a member `messages`"))?;
    request.turns = turns_in::read(messages)?;
    let mut extra = Extra::default();
    request.stream_usage = stream_usage(&mut m, &mut extra)?;
    request.tools = tools(&mut m)?;
    request.tool_choice = tool_choice(&mut m, &mut extra);
    request.parallel_tool_calls = param(&mut m, "parallel_tool_calls", Node::boolean)?;
    request.format = format(&mut m, &mut extra)?;
    request.verbosity = param(&mut m, "verbosity", Node::string)?;
    request.reasoning = reasoning(&mut m, &mut extra)?;
    request.max_output = max_output(&mut m)?;
    request.temperature = number(&mut m, "temperature")?;
    request.top_p = number(&mut m, "top_p")?;
    request.top_k = number(&mut m, "top_k")?;
    request.presence_penalty = number(&mut m, "presence_penalty")?;
    request.frequency_penalty = number(&mut m, "frequency_penalty")?;
    request.seed = number(&mut m, "seed")?;
    request.stop = param(&mut m, "stop", strings)?;
    request.n = param(&mut m, "n", Node::whole_number)?;
    request.logprobs = param(&mut m, "logprobs", Node::boolean)?;
    request.top_logprobs = param(&mut m, "top_logprobs", Node::whole_number)?;
    request.modalities = param(&mut m, "modalities", strings)?;
    request.service_tier = param(&mut m, "service_tier", Node::string)?;
    request.user = user(&mut m)?;
    request.metadata = param(&mut m, "metadata", |node| {
        let raw = node.raw;
        node.object().map(|_| Cow::Borrowed(raw))
    })?;
    request.store = param(&mut m, "store", Node::boolean)?;
    request.cache_key = param(&mut m, "prompt_cache_key", Node::string)?;
    request.cache = parts::cache(&mut m);
    extra.0.extend(Extra::rest(m).0);
    request.extra = extra;
    Ok(request)
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

fn number<'a>(members: &mut Members<'a>, name: &str) -> Result<Option<Param<Cow<'a, str>>>, Wrong> {
    param(members, name, |node| node.number().map(Cow::Borrowed))
}

/// A string or an array of strings.
fn strings(node: Node<'_>) -> Result<Vec<Cow<'_, str>>, Wrong> {
    match node.value {
        Value::String(one) => Ok(vec![one]),
        Value::Array(items) => items.into_iter().map(Node::string).collect(),
        _ => Err(Wrong::new(node.at, "expected a string or an array of strings")),
    }
}

fn stream_usage<'a>(members: &mut Members<'a>, extra: &mut Extra<'a>) -> Result<bool, Wrong> {
    let Some(node) = members.take("stream_options") else { return Ok(false) };
    let at = node.at;
    let mut options = node.object()?;
    let wanted = options.take_bool("include_usage")?.unwrap_or(false);
    rest::keep(extra, "stream_options", at, &options);
    Ok(wanted)
}

fn tools<'a>(members: &mut Members<'a>) -> Result<Vec<Tool<'a>>, Wrong> {
    let mut tools = Vec::new();
    for node in members.take_array("tools")?.unwrap_or_default() {
        tools.push(tools_in::tool(node)?);
    }
    for node in members.take_array("functions")?.unwrap_or_default() {
        tools.push(tools_in::legacy(node)?);
    }
    if let Some(node) = members.take(tools_in::WEB_SEARCH_OPTIONS) {
        tools.push(tools_in::web_search_options(node)?);
    }
    Ok(tools)
}

fn tool_choice<'a>(members: &mut Members<'a>, extra: &mut Extra<'a>) -> Option<Param<ToolChoice<'a>>> {
    let (name, node) = match members.take("tool_choice") {
        Some(node) => ("tool_choice", node),
        None => ("function_call", members.take("function_call")?),
    };
    let at = node.at;
    match tools_in::choice(&node) {
        Some(value) => Some(Param { value, at }),
        None => {
            extra.0.push(ExtraMember { name: name.into(), json: node.raw.into(), at });
            None
        }
    }
}

fn format<'a>(members: &mut Members<'a>, extra: &mut Extra<'a>) -> Result<Option<Param<Format<'a>>>, Wrong> {
    let Some(node) = members.take("response_format") else { return Ok(None) };
    let (at, raw) = (node.at, node.raw);
    let mut object = node.object()?;
    let kind = object.take_string("type")?.unwrap_or_default();
    let value = match &*kind {
        "text" => Format::Text,
        // llama.cpp and Together keep the schema beside the type
        "json_object" if object.get("schema").is_some_and(|s| !s.is_null()) => {
            Format::Schema(Schema { name: None, description: None, schema: schema(&mut object), strict: None })
        }
        "json_object" => Format::Json,
        "json_schema" => {
            let inner_at = object.get("json_schema").map_or(at, |inner| inner.at);
            let mut inner = object.take_object("json_schema")?.unwrap_or_default();
            let value = Format::Schema(Schema {
                name: inner.take_string("name")?,
                description: inner.take_string("description")?,
                schema: schema(&mut inner),
                strict: inner.take_bool("strict")?,
            });
            rest::keep(extra, "response_format", inner_at, &inner);
            value
        }
        _ => {
            extra.0.push(ExtraMember { name: "response_format".into(), json: raw.into(), at });
            return Ok(None);
        }
    };
    Ok(Some(Param { value, at }))
}

fn schema<'a>(members: &mut Members<'a>) -> Cow<'a, str> {
    members.take("schema").map_or(Cow::Borrowed("{}"), |node| Cow::Borrowed(node.raw))
}

/// `reasoning_effort`, and OpenRouter's `reasoning`.
fn reasoning<'a>(members: &mut Members<'a>, extra: &mut Extra<'a>) -> Result<Option<Param<Reasoning<'a>>>, Wrong> {
    let effort = param(members, "reasoning_effort", |node| node.string().map(Effort::from_word))?;
    let node = match members.get("reasoning").map(|node| &node.value) {
        Some(Value::Object(_)) => members.take("reasoning"),
        _ => None,
    };
    let Some(node) = node else {
        return Ok(effort.map(|effort| Param {
            value: Reasoning { effort: Some(effort.value), ..Reasoning::default() },
            at: effort.at,
        }));
    };
    let at = node.at;
    let mut object = node.object()?;
    let own = object.take_string("effort")?.map(Effort::from_word);
    let hidden = object.take_bool("exclude")?.unwrap_or(false);
    let summary = object.take_string("summary")?;
    let value = Reasoning {
        enabled: object.take_bool("enabled")?,
        effort: own.or(effort.map(|effort| effort.value)),
        budget: object.take_u64("max_tokens")?,
        adaptive: false,
        summary: if hidden { Some(Cow::Borrowed("none")) } else { summary },
        encrypted: false,
    };
    rest::keep(extra, "reasoning", at, &object);
    Ok(Some(Param { value, at }))
}

/// `max_tokens` is the older word for `max_completion_tokens`, which counts where both stand.
fn max_output(members: &mut Members<'_>) -> Result<Option<Param<u64>>, Wrong> {
    let old = param(members, "max_tokens", Node::whole_number)?;
    Ok(param(members, "max_completion_tokens", Node::whole_number)?.or(old))
}

/// `safety_identifier` says the same as `user`. It stays where it is too, for the way back.
fn user<'a>(members: &mut Members<'a>) -> Result<Option<Param<Cow<'a, str>>>, Wrong> {
    if let Some(user) = param(members, "user", Node::string)? {
        return Ok(Some(user));
    }
    let Some(node) = members.get("safety_identifier").filter(|node| !node.is_null()) else { return Ok(None) };
    Ok(Some(Param { value: node.clone().string()?, at: node.at }))
}
