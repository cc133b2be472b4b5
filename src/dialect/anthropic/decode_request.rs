//! A request, read.
//!
//! `system` becomes a turn in front; turns of the role `system` inside `messages` stay where they are. `thinking` and
//! `output_config.effort` are one word, [`Reasoning`].

use std::borrow::Cow;

use super::blocks_in::{self, Side, cache, content, raw, required, tool_kind};
use super::leftover;
use crate::chat::{
    Block, CallKind, Dialect, Effort, ExtraMember, Format, Function, Param, Reasoning, Request, Role, Schema,
    ServerTool, Tool, ToolChoice, Turn,
};
use crate::json::{Members, Node, Wrong};

pub(super) fn request<'a>(body: Node<'a>) -> Result<Request<'a>, Wrong> {
    let at = body.at;
    let mut m = body.object()?;
    let mut inner = Vec::new();
    let mut request = Request::new(Dialect::Anthropic);
    request.model = m.take_string("model")?.unwrap_or_default();
    request.stream = m.take_bool("stream")?.unwrap_or(false);
    // a version stands in Vertex's and Bedrock's bodies: who sends the request on writes the one that is wanted there
    m.take("anthropic_version");
    request.turns.extend(system(&mut m)?);
    let messages = m.take("messages").ok_or(Wrong::new(at, "expected a member `messages`"))?;
    for message in messages.array()? {
        request.turns.push(turn(message)?);
    }
    for definition in m.take_array("tools")?.unwrap_or_default() {
        request.tools.push(tool(definition)?);
    }
    if let Some(choice) = m.take("tool_choice") {
        tool_choice(choice, &mut request, &mut inner)?;
    }
    reasoning_and_format(&mut m, &mut request, &mut inner)?;
    request.max_output = param(&mut m, "max_tokens", Node::whole_number)?;
    request.temperature = number(&mut m, "temperature")?;
    request.top_p = number(&mut m, "top_p")?;
    request.top_k = number(&mut m, "top_k")?;
    request.service_tier = param(&mut m, "service_tier", Node::string)?;
    request.stop = param(&mut m, "stop_sequences", |node| node.array()?.into_iter().map(Node::string).collect())?;
    if let Some(mut metadata) = m.take_object("metadata")? {
        request.user = param(&mut metadata, "user_id", Node::string)?;
        leftover::keep(&mut inner, leftover::METADATA, metadata);
    }
    request.cache = cache(&mut m, &mut inner)?;
    request.extra = leftover::extra(m, inner);
    Ok(request)
}

fn param<'a, T>(
    m: &mut Members<'a>,
    name: &str,
    read: impl FnOnce(Node<'a>) -> Result<T, Wrong>,
) -> Result<Option<Param<T>>, Wrong> {
    let Some(node) = m.take(name) else { return Ok(None) };
    let at = node.at;
    Ok(Some(Param { value: read(node)?, at }))
}

fn number<'a>(m: &mut Members<'a>, name: &str) -> Result<Option<Param<Cow<'a, str>>>, Wrong> {
    param(m, name, |node| node.number().map(Cow::Borrowed))
}

fn system<'a>(m: &mut Members<'a>) -> Result<Option<Turn<'a>>, Wrong> {
    let Some(node) = m.take("system") else { return Ok(None) };
    let at = node.at;
    if node.as_str() == Some("") {
        return Ok(None);
    }
    let blocks = content(node, Side::Request)?;
    Ok((!blocks.is_empty()).then(|| Turn { at, ..Turn::new(Role::System, blocks) }))
}

fn turn<'a>(node: Node<'a>) -> Result<Turn<'a>, Wrong> {
    let at = node.at;
    let mut m = node.object()?;
    let role = m.take("role").ok_or(Wrong::new(at, "expected a member `role`"))?;
    let role = match role.as_str() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(Wrong::new(role.at, "expected `user`, `assistant` or `system`")),
    };
    let blocks = m.take("content").ok_or(Wrong::new(at, "expected a member `content`"))?;
    let blocks: Vec<Block<'a>> = content(blocks, Side::Request)?;
    Ok(Turn { role, name: None, blocks, at, extra: leftover::extra(m, Vec::new()) })
}

fn tool<'a>(node: Node<'a>) -> Result<Tool<'a>, Wrong> {
    let (at, json) = (node.at, node.raw);
    let mut m = node.object()?;
    let kind = m.take_string("type")?;
    let mut inner = Vec::new();
    match kind.filter(|kind| kind != "custom") {
        None => Ok(Tool::Function(Function {
            name: required(&mut m, "name", at)?,
            description: m.take_string("description")?,
            kind: CallKind::Function,
            parameters: raw(m.take("input_schema")),
            strict: m.take_bool("strict")?,
            cache: cache(&mut m, &mut inner)?,
            at,
            extra: leftover::extra(m, inner),
        })),
        Some(kind) => Ok(Tool::Server(ServerTool {
            kind: tool_kind(&kind),
            name: m.take_string("name")?.unwrap_or(kind),
            allowed_domains: strings(&mut m, "allowed_domains")?,
            blocked_domains: strings(&mut m, "blocked_domains")?,
            max_uses: m.take_u64("max_uses")?,
            user_location: raw(m.take("user_location")),
            native: (Dialect::Anthropic, Cow::Borrowed(json)),
            cache: cache(&mut m, &mut inner)?,
            at,
            extra: leftover::extra(m, inner),
        })),
    }
}

fn strings<'a>(m: &mut Members<'a>, name: &str) -> Result<Vec<Cow<'a, str>>, Wrong> {
    m.take_array(name)?.unwrap_or_default().into_iter().map(Node::string).collect()
}

fn tool_choice<'a>(node: Node<'a>, request: &mut Request<'a>, inner: &mut Vec<ExtraMember<'a>>) -> Result<(), Wrong> {
    let at = node.at;
    let mut m = node.object()?;
    let kind = required(&mut m, "type", at)?;
    let value = match &*kind {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Tool(required(&mut m, "name", at)?),
        _ => return Err(Wrong::new(at, "expected a tool choice of type auto, any, tool or none")),
    };
    request.tool_choice = Some(Param { value, at });
    request.parallel_tool_calls = param(&mut m, "disable_parallel_tool_use", |node| Ok(!node.boolean()?))?;
    leftover::keep(inner, leftover::CHOICE, m);
    Ok(())
}

fn reasoning_and_format<'a>(
    m: &mut Members<'a>,
    request: &mut Request<'a>,
    inner: &mut Vec<ExtraMember<'a>>,
) -> Result<(), Wrong> {
    if let Some(node) = m.take("thinking") {
        thinking(node, request, inner)?;
    }
    if let Some(mut output) = m.take_object("output_config")? {
        if let Some(node) = output.take("effort") {
            let at = node.at;
            let effort = Effort::from_word(node.string()?);
            let reasoning = request.reasoning.get_or_insert(Param { value: Reasoning::default(), at });
            reasoning.value.effort = Some(effort);
        }
        if let Some(node) = output.take("format") {
            format(node, "output_config.format", request, inner)?;
        }
        leftover::keep(inner, leftover::OUTPUT, output);
    }
    // the beta's name for the same, before `output_config` was
    if let Some(node) = m.take("output_format") {
        format(node, "output_format", request, inner)?;
    }
    Ok(())
}

fn thinking<'a>(node: Node<'a>, request: &mut Request<'a>, inner: &mut Vec<ExtraMember<'a>>) -> Result<(), Wrong> {
    let at = node.at;
    let kind = node.as_object().and_then(|m| m.get("type")).and_then(Node::as_str);
    let mut reasoning = Reasoning::default();
    match kind {
        Some("enabled") => reasoning.enabled = Some(true),
        Some("adaptive") => (reasoning.enabled, reasoning.adaptive) = (Some(true), true),
        Some("disabled") => reasoning.enabled = Some(false),
        _ => {
            leftover::whole(inner, "thinking", &node);
            return Ok(());
        }
    }
    let mut m = node.object()?;
    m.take("type");
    if !reasoning.adaptive {
        reasoning.budget = m.take_u64("budget_tokens")?;
    }
    let display = m.get("display").and_then(Node::as_str);
    reasoning.summary = match display {
        Some("summarized") => Some(Cow::Borrowed("auto")),
        Some("omitted") => Some(Cow::Borrowed("none")),
        _ => None,
    };
    if reasoning.summary.is_some() {
        m.take("display");
    }
    leftover::keep(inner, leftover::THINKING, m);
    request.reasoning = Some(Param { value: reasoning, at });
    Ok(())
}

fn format<'a>(
    node: Node<'a>,
    name: &'static str,
    request: &mut Request<'a>,
    inner: &mut Vec<ExtraMember<'a>>,
) -> Result<(), Wrong> {
    let at = node.at;
    let known = node.as_object().is_some_and(|m| {
        m.len() == 2 && m.get("type").and_then(Node::as_str) == Some("json_schema") && m.get("schema").is_some()
    });
    if !known {
        leftover::whole(inner, name, &node);
        return Ok(());
    }
    let mut m = node.object()?;
    let schema = blocks_in::raw(m.take("schema")).ok_or(Wrong::new(at, "expected a schema"))?;
    let schema = Schema { name: None, description: None, schema, strict: None };
    request.format = Some(Param { value: Format::Schema(schema), at });
    Ok(())
}
