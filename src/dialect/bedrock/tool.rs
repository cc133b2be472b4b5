//! `toolConfig`: the tools, marks between them, and how the model is told to use them.
//!
//! Truth: botocore's service model (`ToolConfiguration`, `ToolSpecification`, `ToolChoice`); Amazon Nova User Guide, "Built-in tools".

use std::borrow::Cow;
use std::collections::HashSet;

use super::block::Planner;
use super::message::Conversation;
use super::model::Family;
use super::part::{Part, Term};
use crate::chat::{
    Cache, CallKind, Dialect, Function, Param, Request, ServerTool, ServerToolKind, Tool, ToolChoice, Ttl,
};
use crate::json::{Node, Value, Writer};

const EMPTY_SCHEMA: &str = r#"{"type":"object","properties":{}}"#;
/// A custom tool's free text as a member.
const INPUT_SCHEMA: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;

#[derive(Debug)]
pub struct ToolConfig<'r> {
    entries: Vec<Entry<'r>>,
    choice: Option<Choice<'r>>,
}

#[derive(Debug)]
enum Entry<'r> {
    Spec { name: &'r str, description: Option<&'r str>, schema: Cow<'r, str>, strict: bool },
    System(&'static str),
    CachePoint(Term),
    Raw(&'r str),
}

#[derive(Debug, Clone, Copy)]
enum Choice<'r> {
    Auto,
    Any,
    Tool(&'r str),
}

/// `None`: no tools are sent.
pub fn plan<'r>(
    request: &'r Request<'_>,
    conversation: &Conversation<'r>,
    planner: &mut Planner<'_>,
) -> Option<ToolConfig<'r>> {
    let choice = request.tool_choice.as_ref();
    let used = conversation.uses_tools();
    if matches!(choice, Some(Param { value: ToolChoice::None, .. })) && !used {
        // a model that is shown no tool calls none
        return None;
    }
    let mut entries = Vec::new();
    for tool in &request.tools {
        if chosen(tool, choice) {
            match tool {
                Tool::Function(function) => spec(function, &mut entries, planner),
                Tool::Server(server) => server_tool(server, choice, &mut entries, planner),
            }
        }
    }
    if entries.is_empty() && used {
        // calls and results are refused when no tool is defined
        synthesise(request, &mut entries, planner);
    }
    if entries.is_empty() {
        return None;
    }
    let choice = choice.and_then(|choice| plan_choice(choice, planner));
    Some(ToolConfig { entries, choice })
}

/// "One of these" is said by showing no others.
fn chosen(tool: &Tool<'_>, choice: Option<&Param<ToolChoice<'_>>>) -> bool {
    let name = match tool {
        Tool::Function(function) => &function.name,
        Tool::Server(server) => &server.name,
    };
    match choice {
        Some(Param { value: ToolChoice::Allowed { names, .. }, .. }) => names.contains(name),
        _ => true,
    }
}

fn spec<'r>(function: &'r Function<'_>, entries: &mut Vec<Entry<'r>>, planner: &mut Planner<'_>) {
    let Function { name, description, kind, parameters, strict, cache, at, extra } = function;
    planner.losses.extra(extra);
    let schema = match kind {
        CallKind::Function => parameters.as_deref().map_or(Cow::Borrowed(EMPTY_SCHEMA), object_schema),
        CallKind::Custom => {
            planner.losses.changed(*at, "");
            Cow::Borrowed(INPUT_SCHEMA)
        }
    };
    let strict = *strict == Some(true);
    if strict && !planner.family.json_schema() {
        planner.losses.dropped(*at, "strict");
    }
    entries.push(Entry::Spec {
        name,
        description: description.as_deref().filter(|text| !text.is_empty()),
        schema,
        strict: strict && planner.family.json_schema(),
    });
    mark(*cache, entries, planner);
}

/// Converse wants `"type":"object"` at the top, which is what a schema of arguments without a type means.
fn object_schema(schema: &str) -> Cow<'_, str> {
    let Ok(Node { value: Value::Object(members), raw, .. }) = Node::parse(schema.as_bytes()) else {
        return Cow::Borrowed(EMPTY_SCHEMA);
    };
    let rest = raw.get(1..).unwrap_or_default();
    match members.get("type") {
        Some(kind) if !kind.is_null() => Cow::Borrowed(schema),
        Some(_) => Cow::Borrowed(EMPTY_SCHEMA),
        None if members.is_empty() => Cow::Borrowed(EMPTY_SCHEMA),
        None => Cow::Owned(format!(r#"{{"type":"object",{rest}"#)),
    }
}

fn server_tool<'r>(
    tool: &'r ServerTool<'_>,
    choice: Option<&Param<ToolChoice<'_>>>,
    entries: &mut Vec<Entry<'r>>,
    planner: &mut Planner<'_>,
) {
    let ServerTool { kind, name, allowed_domains, blocked_domains, max_uses, user_location, native, cache, at, extra } =
        tool;
    if let (Dialect::Bedrock, json) = native {
        entries.push(Entry::Raw(json));
        return mark(*cache, entries, planner);
    }
    let system = match (planner.family, kind) {
        (Family::Nova(2), ServerToolKind::WebSearch) => "nova_grounding",
        (Family::Nova(2), ServerToolKind::CodeExecution) => "nova_code_interpreter",
        _ => {
            let named = matches!(choice, Some(Param { value: ToolChoice::Tool(wanted), .. }) if wanted == name);
            return if named { planner.losses.essential(*at, "") } else { planner.losses.dropped(*at, "") };
        }
    };
    for (there, member) in [
        (!allowed_domains.is_empty(), "allowed_domains"),
        (!blocked_domains.is_empty(), "blocked_domains"),
        (max_uses.is_some(), "max_uses"),
        (user_location.is_some(), "user_location"),
    ] {
        if there {
            planner.losses.dropped(*at, member);
        }
    }
    planner.losses.extra(extra);
    entries.push(Entry::System(system));
    mark(*cache, entries, planner);
}

fn mark(cache: Option<Cache>, entries: &mut Vec<Entry<'_>>, planner: &mut Planner<'_>) {
    let Some(Cache { ttl, at }) = cache else { return };
    if planner.family.cache_tools() {
        entries.push(Entry::CachePoint(if ttl == Some(Ttl::OneHour) { Term::OneHour } else { Term::Default }));
    } else {
        planner.losses.dropped(at, "");
    }
}

/// A tool for each name in the history, with whatever arguments.
fn synthesise<'r>(request: &'r Request<'_>, entries: &mut Vec<Entry<'r>>, planner: &mut Planner<'_>) {
    use crate::chat::Block;
    let blocks = || request.turns.iter().flat_map(|turn| &turn.blocks);
    let called: HashSet<&str> = blocks()
        .filter_map(|block| match block {
            Block::ToolCall(call) => Some(&*call.id),
            _ => None,
        })
        .collect();
    let mut names: HashSet<&str> = HashSet::new();
    for block in blocks() {
        let (name, at) = match block {
            Block::ToolCall(call) => (&*call.name, call.at),
            Block::ToolResult(result) if !called.contains(&*result.id) => {
                (result.name.as_deref().unwrap_or("tool"), result.at)
            }
            _ => continue,
        };
        planner.losses.changed(at, "tools");
        if names.insert(name) {
            entries.push(Entry::Spec { name, description: None, schema: Cow::Borrowed(EMPTY_SCHEMA), strict: false });
        }
    }
}

fn plan_choice<'r>(choice: &'r Param<ToolChoice<'_>>, planner: &mut Planner<'_>) -> Option<Choice<'r>> {
    let Param { value, at } = choice;
    let wanted = match value {
        ToolChoice::Auto => Choice::Auto,
        ToolChoice::Required => Choice::Any,
        ToolChoice::Tool(name) => Choice::Tool(name),
        ToolChoice::Allowed { names: _, required } => {
            planner.losses.changed(*at, "");
            if *required { Choice::Any } else { Choice::Auto }
        }
        // the history needs the tools, and there is no word for none
        ToolChoice::None => {
            planner.losses.changed(*at, "");
            return None;
        }
    };
    if planner.family.forced_tools() {
        return Some(wanted);
    }
    if !matches!(wanted, Choice::Auto) {
        planner.losses.dropped(*at, "");
    }
    None
}

// === impl ToolConfig ===

impl ToolConfig<'_> {
    /// The model must call a tool.
    pub fn forces(&self) -> bool {
        matches!(self.choice, Some(Choice::Any | Choice::Tool(_)))
    }

    pub fn write(&self, w: &mut Writer<'_>) {
        w.name("toolConfig").object();
        w.name("tools").array();
        for entry in &self.entries {
            entry.write(w);
        }
        w.end_array();
        if let Some(choice) = self.choice {
            w.name("toolChoice").object();
            let name = match choice {
                Choice::Auto => "auto",
                Choice::Any => "any",
                Choice::Tool(_) => "tool",
            };
            w.name(name).object();
            if let Choice::Tool(name) = choice {
                w.name("name").string(name);
            }
            w.end_object();
            w.end_object();
        }
        w.end_object();
    }
}

impl Entry<'_> {
    fn write(&self, w: &mut Writer<'_>) {
        match self {
            Entry::Raw(json) => w.raw(json),
            Entry::CachePoint(term) => Part::CachePoint(*term).write(w),
            Entry::System(name) => {
                w.object();
                w.name("systemTool").object();
                w.name("name").string(name);
                w.end_object();
                w.end_object();
            }
            Entry::Spec { name, description, schema, strict } => {
                w.object();
                w.name("toolSpec").object();
                w.name("name").string(name);
                w.string_if("description", *description);
                w.name("inputSchema").object();
                w.name("json").raw(schema);
                w.end_object();
                w.boolean_if("strict", strict.then_some(true));
                w.end_object();
                w.end_object();
            }
        }
    }
}
