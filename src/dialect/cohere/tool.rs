//! Tools, and how the model is told to use them.
//!
//! Truth: the Cohere API reference, "Chat (v2)", `tools`, `strict_tools`, `tool_choice` (`REQUIRED`, `NONE`; absent: the model decides).

use crate::chat::{Cache, CallKind, Function, Losses, Param, Request, ServerTool, Tool, ToolChoice};
use crate::json::Writer;

const NO_ARGUMENTS: &str = r#"{"type":"object","properties":{}}"#;
/// A custom tool's free text as a member.
const INPUT_SCHEMA: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;

/// Writes what there is. True when tools were sent.
pub fn write(request: &Request<'_>, w: &mut Writer<'_>, losses: &mut Losses) -> bool {
    let choice = request.tool_choice.as_ref();
    let mut functions = Vec::new();
    for tool in &request.tools {
        match tool {
            Tool::Function(function) if allowed(&function.name, choice) => functions.push(function),
            // not to be called: not shown
            Tool::Function(_) => {}
            Tool::Server(server) => server_tool(server, choice, losses),
        }
    }
    if functions.is_empty() {
        if let Some(Param { value: ToolChoice::Required | ToolChoice::Tool(_), at }) = choice {
            losses.dropped(*at, "");
        }
        return false;
    }
    w.name("tools").array();
    functions.iter().for_each(|function| write_function(function, w, losses));
    w.end_array();
    write_strictness(&functions, w, losses);
    write_choice(choice, w, losses);
    true
}

/// One of several is said by showing no others.
fn allowed(name: &str, choice: Option<&Param<ToolChoice<'_>>>) -> bool {
    match choice.map(|choice| &choice.value) {
        Some(ToolChoice::Tool(only)) => only == name,
        Some(ToolChoice::Allowed { names, .. }) => names.iter().any(|one| one == name),
        Some(ToolChoice::Auto | ToolChoice::Required | ToolChoice::None) | None => true,
    }
}

fn write_function(function: &Function<'_>, w: &mut Writer<'_>, losses: &mut Losses) {
    let Function { name, description, kind, parameters, strict: _, cache, at, extra } = function;
    losses.extra(extra);
    if let Some(Cache { ttl: _, at }) = cache {
        losses.dropped(*at, "");
    }
    let schema = match kind {
        CallKind::Function => parameters.as_deref().unwrap_or(NO_ARGUMENTS),
        CallKind::Custom => {
            losses.changed(*at, "");
            INPUT_SCHEMA
        }
    };
    w.object();
    w.name("type").string("function");
    w.name("function").object();
    w.name("name").string(name);
    w.string_if("description", description.as_deref());
    w.name("parameters").raw(schema);
    w.end_object();
    w.end_object();
}

/// All tools, or none.
fn write_strictness(functions: &[&Function<'_>], w: &mut Writer<'_>, losses: &mut Losses) {
    let strict = |function: &&&Function<'_>| function.strict == Some(true);
    let count = functions.iter().filter(strict).count();
    if count == functions.len() {
        w.name("strict_tools").boolean(true);
    } else {
        functions.iter().filter(strict).for_each(|function| losses.dropped(function.at, "strict"));
    }
}

fn write_choice(choice: Option<&Param<ToolChoice<'_>>>, w: &mut Writer<'_>, losses: &mut Losses) {
    let Some(Param { value, at }) = choice else { return };
    match value {
        ToolChoice::Auto => {}
        ToolChoice::Required => w.name("tool_choice").string("REQUIRED"),
        ToolChoice::None => w.name("tool_choice").string("NONE"),
        ToolChoice::Tool(_) => {
            losses.changed(*at, "");
            w.name("tool_choice").string("REQUIRED");
        }
        ToolChoice::Allowed { names: _, required } => {
            losses.changed(*at, "");
            if *required {
                w.name("tool_choice").string("REQUIRED");
            }
        }
    }
}

/// Chat has none.
fn server_tool(tool: &ServerTool<'_>, choice: Option<&Param<ToolChoice<'_>>>, losses: &mut Losses) {
    let ServerTool {
        kind: _,
        name,
        allowed_domains: _,
        blocked_domains: _,
        max_uses: _,
        user_location: _,
        native: _,
        cache: _,
        at,
        extra: _,
    } = tool;
    match choice.map(|choice| &choice.value) {
        Some(ToolChoice::Tool(wanted)) if wanted == name => losses.essential(*at, ""),
        _ => losses.dropped(*at, ""),
    }
}
