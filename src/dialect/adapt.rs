//! What the other end cannot do natively, said in words it knows, and undone again in its answer.
//!
//! - Output that follows a schema (or is any JSON object): a tool whose arguments are the answer, which the model must call.
//! - A custom tool: a function with one string.
//! - A tool name the other end refuses: a plain one that stands for it.
//!
//! Done once here, in words, so that no encoder has to. Nothing of it is a loss: the caller gets what it asked for.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::codec::Abilities;
use crate::chat::{
    Block, CallKind, Extra, Format, Function, Json, Losses, Param, Request, Schema, Tool, ToolCall, ToolChoice,
};
use crate::json::{At, Node, Writer};

/// Name of the tool that stands for a format.
const ANSWER: &str = "json_answer";
const ANSWER_DESCRIPTION: &str = "Gives the final answer. Call this tool exactly once, with the whole answer as its arguments, and write nothing else.";

/// What has to be undone in the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undo {
    pub(super) answer: Option<Answer>,
    /// Names, as sent, of functions that stand for custom tools.
    pub(super) custom: Vec<Box<str>>,
    /// `(as sent, as the caller named it)`.
    pub(super) renamed: Vec<(Box<str>, Box<str>)>,
}

/// The tool that stands for the answer's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub name: Box<str>,
    /// The schema's root is no object: the answer is the member `value` of the arguments.
    pub wrapped: bool,
}

// === impl Undo ===

impl Undo {
    pub fn is_empty(&self) -> bool {
        self.answer.is_none() && self.custom.is_empty() && self.renamed.is_empty()
    }
}

/// Say a request in words the other end knows.
pub fn adapt(request: &mut Request<'_>, abilities: &Abilities, losses: &mut Losses) -> Undo {
    let mut undo = Undo::default();
    if !abilities.custom_tools {
        custom_tools(request, losses, &mut undo);
    }
    tool_names(request, abilities, &mut undo);
    format(request, abilities, &mut undo);
    undo
}

// === custom tools ===

fn custom_tools(request: &mut Request<'_>, losses: &mut Losses, undo: &mut Undo) {
    for tool in &mut request.tools {
        let Tool::Function(tool) = tool else { continue };
        if tool.kind != CallKind::Custom {
            continue;
        }
        if tool.parameters.take().is_some() {
            losses.dropped(tool.at, "format");
        }
        tool.kind = CallKind::Function;
        tool.parameters = Some(Cow::Borrowed(
            r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#,
        ));
        undo.custom.push(Box::from(&*tool.name));
    }
    for block in request.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
        match block {
            Block::ToolCall(call) if call.kind == CallKind::Custom => {
                call.kind = CallKind::Function;
                call.arguments = Cow::Owned(object_of("input", &call.arguments));
            }
            Block::ToolResult(result) => result.kind = CallKind::Function,
            _ => {}
        }
    }
}

fn object_of(name: &str, text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut w = Writer::new(&mut out);
    w.object();
    w.name(name).string(text);
    w.end_object();
    String::from_utf8(out).unwrap_or_default()
}

// === tool names ===

fn tool_names(request: &mut Request<'_>, abilities: &Abilities, undo: &mut Undo) {
    let fits = |name: &str| {
        name.len() <= abilities.tool_name
            && !name.is_empty()
            && (!abilities.plain_names || name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'))
    };
    let mut taken: HashSet<Box<str>> = HashSet::new();
    let mut bad: Vec<Box<str>> = Vec::new();
    let mut known: HashSet<Box<str>> = HashSet::new();
    for name in names(request) {
        if fits(name) {
            taken.insert(Box::from(&**name));
        } else if !known.contains(&**name) {
            known.insert(Box::from(&**name));
            bad.push(Box::from(&**name));
        }
    }
    for name in bad {
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        // room for a number behind it
        let short = plain.get(..plain.len().min(abilities.tool_name.saturating_sub(4))).unwrap_or_default();
        let sent = (0..1000)
            .map(|n| if n == 0 && !short.is_empty() { short.to_owned() } else { format!("{short}_{n}") })
            .find(|sent| !taken.contains(&**sent));
        if let Some(sent) = sent {
            taken.insert(Box::from(&*sent));
            undo.renamed.push((sent.into(), name));
        }
    }
    if undo.renamed.is_empty() {
        return;
    }
    let sent: HashMap<Box<str>, Box<str>> =
        undo.renamed.iter().map(|(sent, original)| (original.clone(), sent.clone())).collect();
    for name in names(request) {
        if let Some(sent) = sent.get(&**name) {
            *name = Cow::Owned(sent.to_string());
        }
    }
    for custom in &mut undo.custom {
        if let Some(sent) = sent.get(custom) {
            custom.clone_from(sent);
        }
    }
}

/// Every place of a request where a function's name stands.
fn names<'r, 'a>(request: &'r mut Request<'a>) -> Vec<&'r mut Cow<'a, str>> {
    let mut found = Vec::new();
    for tool in &mut request.tools {
        if let Tool::Function(tool) = tool {
            found.push(&mut tool.name);
        }
    }
    match request.tool_choice.as_mut().map(|choice| &mut choice.value) {
        Some(ToolChoice::Tool(name)) => found.push(name),
        Some(ToolChoice::Allowed { names, .. }) => found.extend(names),
        Some(ToolChoice::Auto | ToolChoice::Required | ToolChoice::None) | None => {}
    }
    for block in request.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
        match block {
            Block::ToolCall(ToolCall { name, .. }) => found.push(name),
            Block::ToolResult(result) => found.extend(result.name.as_mut()),
            _ => {}
        }
    }
    found
}

// === a format ===

fn format(request: &mut Request<'_>, abilities: &Abilities, undo: &mut Undo) {
    let at = match &request.format {
        Some(Param { value: Format::Schema(_), at }) if !abilities.json_schema => *at,
        Some(Param { value: Format::Json, at }) if !abilities.json_object => *at,
        _ => return,
    };
    // The caller wants one certain tool called: there will be no text that could have a format.
    if let Some(Param { value: ToolChoice::Tool(_), .. }) = &request.tool_choice {
        request.format = None;
        return;
    }
    let schema = match request.format.take() {
        Some(Param { value: Format::Schema(schema), .. }) => schema,
        _ => Schema { name: None, description: None, schema: Cow::Borrowed(r#"{"type":"object"}"#), strict: None },
    };
    let name = (0..1000)
        .map(|n| if n == 0 { ANSWER.to_owned() } else { format!("{ANSWER}_{n}") })
        .find(|name| !request.tools.iter().any(|tool| matches!(tool, Tool::Function(f) if f.name == *name)))
        .unwrap_or_default();
    let wrapped = !is_object(&schema.schema);
    let parameters: Json<'_> = if wrapped {
        let schema = &schema.schema;
        Cow::Owned(format!(r#"{{"type":"object","properties":{{"value":{schema}}},"required":["value"]}}"#))
    } else {
        schema.schema
    };
    request.tools.push(Tool::Function(Function {
        name: Cow::Owned(name.clone()),
        description: Some(match schema.description {
            Some(description) => Cow::Owned(format!("{ANSWER_DESCRIPTION} {description}")),
            None => Cow::Borrowed(ANSWER_DESCRIPTION),
        }),
        kind: CallKind::Function,
        parameters: Some(parameters),
        strict: None,
        cache: None,
        at,
        extra: Extra::default(),
    }));
    let alone = request.tools.len() == 1 || matches!(request.tool_choice, Some(Param { value: ToolChoice::None, .. }));
    let choice = match request.tool_choice.take().map(|choice| choice.value) {
        _ if alone => ToolChoice::Tool(Cow::Owned(name.clone())),
        Some(ToolChoice::Allowed { mut names, .. }) => {
            names.push(Cow::Owned(name.clone()));
            ToolChoice::Allowed { names, required: true }
        }
        _ => ToolChoice::Required,
    };
    request.tool_choice = Some(Param { value: choice, at: At::NOWHERE });
    undo.answer = Some(Answer { name: name.into(), wrapped });
}

fn is_object(schema: &str) -> bool {
    let Ok(node) = Node::parse(schema.as_bytes()) else { return false };
    let Some(members) = node.as_object() else { return false };
    match members.get("type") {
        Some(kind) => kind.as_str() == Some("object"),
        None => members.get("properties").is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Dialect, Role, Turn};

    const NOTHING: Abilities =
        Abilities { json_schema: false, json_object: false, custom_tools: false, tool_name: 16, plain_names: true };

    fn tool(name: &'static str, kind: CallKind) -> Tool<'static> {
        Tool::Function(Function {
            name: name.into(),
            description: None,
            kind,
            parameters: Some("{}".into()),
            strict: None,
            cache: None,
            at: At::NOWHERE,
            extra: Extra::default(),
        })
    }

    fn schema(text: &'static str) -> Option<Param<Format<'static>>> {
        let schema = Schema { name: None, description: None, schema: text.into(), strict: None };
        Some(Param { value: Format::Schema(schema), at: At::NOWHERE })
    }

    #[test]
    fn a_schema_becomes_a_tool_that_must_be_called() {
        let mut request = Request::new(Dialect::OpenAiChat);
        request.format = schema(r#"{"type":"object","properties":{}}"#);
        let undo = adapt(&mut request, &NOTHING, &mut Losses::default());
        assert_eq!(undo.answer, Some(Answer { name: "json_answer".into(), wrapped: false }));
        assert_eq!(request.tool_choice.map(|c| c.value), Some(ToolChoice::Tool("json_answer".into())));
        assert!(request.format.is_none());
        // beside other tools the model may call them first
        let mut request = Request::new(Dialect::OpenAiChat);
        request.tools = vec![tool("json_answer", CallKind::Function)];
        request.format = schema(r#"{"type":"array","items":{}}"#);
        let undo = adapt(&mut request, &NOTHING, &mut Losses::default());
        assert_eq!(undo.answer, Some(Answer { name: "json_answer_1".into(), wrapped: true }));
        assert_eq!(request.tool_choice.map(|c| c.value), Some(ToolChoice::Required));
    }

    #[test]
    fn what_the_other_end_can_do_is_left_alone() {
        let able =
            Abilities { json_schema: true, json_object: true, custom_tools: true, tool_name: 64, plain_names: false };
        let mut request = Request::new(Dialect::OpenAiChat);
        request.tools = vec![tool("a.b", CallKind::Custom)];
        request.format = schema(r#"{"type":"object"}"#);
        let before = request.clone();
        assert!(adapt(&mut request, &able, &mut Losses::default()).is_empty());
        assert_eq!(request, before);
    }

    #[test]
    fn names_are_made_plain_and_stay_apart() {
        let mut request = Request::new(Dialect::OpenAiChat);
        request.tools = vec![
            tool("a.b", CallKind::Function),
            tool("a_b", CallKind::Function),
            tool("a/b", CallKind::Custom),
            tool("a_very_long_name_of_a_tool", CallKind::Function),
        ];
        let call = ToolCall {
            id: "1".into(),
            name: "a.b".into(),
            kind: CallKind::Function,
            arguments: "{}".into(),
            cache: None,
            seal: None,
            item_id: None,
            at: At::NOWHERE,
            extra: Extra::default(),
        };
        request.turns = vec![Turn::new(Role::Assistant, vec![Block::ToolCall(call)])];
        let undo = adapt(&mut request, &NOTHING, &mut Losses::default());
        let sent: Vec<String> = names(&mut request).into_iter().map(|n| n.to_string()).collect();
        assert_eq!(sent, ["a_b_1", "a_b", "a_b_2", "a_very_long_", "a_b_1"]);
        assert_eq!(undo.custom, [Box::from("a_b_2")]);
        assert_eq!(undo.renamed.len(), 3);
    }
}
