//! A request's body, read.
//!
//! `instructions` becomes a turn of the system in front, whose one text lies where the turn lies: by that it is told from an item of the
//! same role, which begins before its text. Members within `text` and `reasoning` that only this dialect knows are kept under their path
//! (`reasoning.context`).

use std::borrow::Cow;

use super::turns::Turns;
use super::{item, tools};
use crate::chat::{
    Block, Dialect, Effort, Extra, ExtraMember, Format, Param, Reasoning, Request, Role, Schema, Text, Turn,
};
use crate::json::{Members, Node, Value, Writer, Wrong};

/// `include`: reasoning comes back encrypted.
pub const ENCRYPTED: &str = "reasoning.encrypted_content";
/// `include`: the answer's tokens with their probabilities.
pub const LOGPROBS: &str = "message.output_text.logprobs";

/// Read a body.
pub fn read<'a>(body: Node<'a>) -> Result<Request<'a>, Wrong> {
    let mut body = body.object()?;
    let mut request = Request::new(Dialect::OpenAiResponses);
    request.model = body.take_string("model")?.unwrap_or_default();
    request.stream = body.take_bool("stream")?.unwrap_or(false);
    turns(&mut body, &mut request)?;
    tools(&mut body, &mut request)?;
    let mut kept = Vec::new();
    answer(&mut body, &mut request, &mut kept)?;
    sampling(&mut body, &mut request)?;
    account(&mut body, &mut request)?;
    for (name, node) in body.iter() {
        if name.starts_with("text.") || name.starts_with("reasoning.") {
            return Err(Wrong::new(node.at, "unknown parameter"));
        }
    }
    request.extra = Extra::rest(body);
    request.extra.0.extend(kept);
    Ok(request)
}

/// Whether a turn of the system is `instructions`, not an item.
pub fn is_instructions(turn: &Turn<'_>) -> bool {
    turn.role == Role::System && turn.blocks.first().is_some_and(|block| block.at() == turn.at)
}

fn turns<'a>(body: &mut Members<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    if let Some(instructions) = body.take("instructions") {
        let at = instructions.at;
        let text = Text { at, ..Text::new(instructions.string()?) };
        request.turns.push(Turn { at, ..Turn::new(Role::System, vec![Block::Text(text)]) });
    }
    let Some(input) = body.take("input") else { return Ok(()) };
    let at = input.at;
    match input.value {
        Value::String(text) => {
            let text = Text { at, ..Text::new(text) };
            request.turns.push(Turn { at, ..Turn::new(Role::User, vec![Block::Text(text)]) });
        }
        Value::Array(items) => {
            let mut turns = Turns::default();
            for (n, one) in items.into_iter().enumerate() {
                turns.push(item::read(one, n)?);
            }
            request.turns.extend(turns.into_turns());
        }
        Value::Null | Value::Bool(_) | Value::Number | Value::Object(_) => {
            return Err(Wrong::new(at, "expected a string or an array of items"));
        }
    }
    Ok(())
}

fn tools<'a>(body: &mut Members<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    for tool in body.take_array("tools")?.unwrap_or_default() {
        request.tools.push(tools::read(tool)?);
    }
    // a form that is in no word stays in the body and so among the extra members
    if let Some(choice) = body.get("tool_choice").and_then(tools::read_choice) {
        request.tool_choice = body.take("tool_choice").map(|node| Param { value: choice, at: node.at });
    }
    request.parallel_tool_calls = param(body, "parallel_tool_calls", Node::boolean)?;
    Ok(())
}

/// What the answer is to look like: `text`, `reasoning`, `include`.
fn answer<'a>(body: &mut Members<'a>, request: &mut Request<'a>, kept: &mut Vec<ExtraMember<'a>>) -> Result<(), Wrong> {
    if let Some(mut text) = body.take_object("text")? {
        let known = match text.get("format") {
            Some(node) => format(node)?,
            None => None,
        };
        if let Some(format) = known {
            request.format = text.take("format").map(|node| Param { value: format, at: node.at });
        }
        request.verbosity = param(&mut text, "verbosity", Node::string)?;
        keep("text", text, kept);
    }
    if let Some(node) = body.take("reasoning") {
        let at = node.at;
        let mut members = node.object()?;
        let effort = members.take_string("effort")?.map(Effort::from_word);
        let summary = members.take_string("summary")?;
        // the older name of the same
        let summary = summary.or(members.take_string("generate_summary")?);
        if effort.is_some() || summary.is_some() {
            request.reasoning = Some(Param { value: Reasoning { effort, summary, ..Reasoning::default() }, at });
        }
        keep("reasoning", members, kept);
    }
    let Some(node) = body.take("include") else { return Ok(()) };
    let at = node.at;
    let mut others = Vec::new();
    for word in node.array()? {
        match word.as_str() {
            Some(ENCRYPTED) => {
                let none = Param { value: Reasoning::default(), at: word.at };
                request.reasoning.get_or_insert(none).value.encrypted = true;
            }
            Some(LOGPROBS) => request.logprobs = Some(Param { value: true, at: word.at }),
            _ => others.push(word.raw),
        }
    }
    if !others.is_empty() {
        let json = Cow::Owned(format!("[{}]", others.join(",")));
        kept.push(ExtraMember { name: "include".into(), json, at });
    }
    Ok(())
}

/// `None`: a format that is in no word.
fn format<'a>(node: &Node<'a>) -> Result<Option<Format<'a>>, Wrong> {
    let Some(members) = node.as_object() else { return Err(Wrong::new(node.at, "expected an object")) };
    let known = |names: &[&str]| members.iter().all(|(name, node)| names.contains(&name) || node.is_null());
    let mut members = match members.get("type").and_then(Node::as_str) {
        Some("text") if known(&["type"]) => return Ok(Some(Format::Text)),
        Some("json_object") if known(&["type"]) => return Ok(Some(Format::Json)),
        Some("json_schema") if known(&["type", "name", "description", "schema", "strict"]) => members.clone(),
        _ => return Ok(None),
    };
    Ok(Some(Format::Schema(Schema {
        name: members.take_string("name")?,
        description: members.take_string("description")?,
        schema: members.take("schema").ok_or(Wrong::new(node.at, "expected a format with a `schema`"))?.raw.into(),
        strict: members.take_bool("strict")?,
    })))
}

fn sampling<'a>(body: &mut Members<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    fn number(node: Node<'_>) -> Result<Cow<'_, str>, Wrong> {
        node.number().map(Cow::Borrowed)
    }
    request.max_output = param(body, "max_output_tokens", Node::whole_number)?;
    request.temperature = param(body, "temperature", number)?;
    request.top_p = param(body, "top_p", number)?;
    request.top_logprobs = param(body, "top_logprobs", Node::whole_number)?;
    Ok(())
}

fn account<'a>(body: &mut Members<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    request.service_tier = param(body, "service_tier", Node::string)?;
    request.metadata = param(body, "metadata", |node| match node.value {
        Value::Object(_) => Ok(Cow::Borrowed(node.raw)),
        _ => Err(Wrong::new(node.at, "expected an object")),
    })?;
    request.store = param(body, "store", Node::boolean)?;
    request.cache_key = param(body, "prompt_cache_key", Node::string)?;
    // `safety_identifier` replaces `user`; where both stand, `user` stays among the extra members
    request.user = param(body, "safety_identifier", Node::string)?;
    if request.user.is_none() {
        request.user = param(body, "user", Node::string)?;
    }
    Ok(())
}

fn param<'a, T>(
    body: &mut Members<'a>,
    name: &str,
    read: impl FnOnce(Node<'a>) -> Result<T, Wrong>,
) -> Result<Option<Param<T>>, Wrong> {
    let Some(node) = body.take(name) else { return Ok(None) };
    let at = node.at;
    Ok(Some(Param { value: read(node)?, at }))
}

/// What is left of a member's object, each under its path.
fn keep<'a>(parent: &str, members: Members<'a>, kept: &mut Vec<ExtraMember<'a>>) {
    for member in Extra::rest(members).0 {
        kept.push(ExtraMember { name: format!("{parent}.{}", member.name).into(), ..member });
    }
}

/// The members kept from within `parent`, written into it.
pub fn write_kept(w: &mut Writer<'_>, extra: &Extra<'_>, parent: &str) {
    for member in &extra.0 {
        if let Some(name) = member.name.strip_prefix(parent).and_then(|name| name.strip_prefix('.')) {
            w.name(name).raw(&member.json);
        }
    }
}

/// Whether there are any.
pub fn has_kept(extra: &Extra<'_>, parent: &str) -> bool {
    extra.0.iter().any(|m| m.name.strip_prefix(parent).is_some_and(|name| name.starts_with('.')))
}
