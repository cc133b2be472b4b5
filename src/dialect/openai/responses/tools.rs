//! Tools and the choice of them, read and written.

use std::borrow::Cow;

use crate::chat::{
    CallKind, Dialect, Extra, Function, How, Json, Losses, Param, Request, ServerTool, ServerToolKind, Tool, ToolChoice,
};
use crate::json::{Members, Node, Writer, Wrong};

/// What a function without parameters takes.
const NOTHING: &str = r#"{"type":"object","properties":{}}"#;

/// Read one definition.
pub fn read<'a>(node: Node<'a>) -> Result<Tool<'a>, Wrong> {
    let (raw, at) = (node.raw, node.at);
    let mut tool = node.object()?;
    let kind = tool.take_string("type")?.ok_or(Wrong::new(at, "expected a tool with a `type`"))?;
    let call = match &*kind {
        "function" => CallKind::Function,
        "custom" => CallKind::Custom,
        _ => return server(kind, raw, at, tool),
    };
    let name = tool.take_string("name")?.ok_or(Wrong::new(at, "expected a tool with a `name`"))?;
    let description = tool.take_string("description")?;
    let parameters = tool.take(if call == CallKind::Function { "parameters" } else { "format" });
    let parameters = match parameters {
        Some(node) if node.as_object().is_none() => return Err(Wrong::new(node.at, "expected an object")),
        Some(node) => Some(Json::Borrowed(node.raw)),
        None => None,
    };
    let strict = tool.take_bool("strict")?;
    let extra = Extra::rest(tool);
    Ok(Tool::Function(Function { name, description, kind: call, parameters, strict, cache: None, at, extra }))
}

fn server<'a>(name: Cow<'a, str>, raw: &'a str, at: crate::json::At, mut tool: Members<'a>) -> Result<Tool<'a>, Wrong> {
    let kind = match &*name {
        search if search.starts_with("web_search") => ServerToolKind::WebSearch,
        "code_interpreter" => ServerToolKind::CodeExecution,
        _ => ServerToolKind::Other,
    };
    let domains = |filters: &mut Members<'a>, name: &str| -> Result<Vec<Cow<'a, str>>, Wrong> {
        filters.take_array(name)?.unwrap_or_default().into_iter().map(Node::string).collect()
    };
    let (mut allowed_domains, mut blocked_domains, mut user_location) = (Vec::new(), Vec::new(), None);
    if kind == ServerToolKind::WebSearch {
        if let Some(mut filters) = tool.take_object("filters")? {
            allowed_domains = domains(&mut filters, "allowed_domains")?;
            blocked_domains = domains(&mut filters, "blocked_domains")?;
        }
        user_location = tool.take("user_location").map(|node| Json::Borrowed(node.raw));
    }
    // a new container is what every provider gives
    if kind == ServerToolKind::CodeExecution && tool.get("container").is_some_and(is_new_container) {
        tool.take("container");
    }
    Ok(Tool::Server(ServerTool {
        kind,
        name,
        allowed_domains,
        blocked_domains,
        max_uses: None,
        user_location,
        native: (Dialect::OpenAiResponses, raw.into()),
        cache: None,
        at,
        extra: Extra::rest(tool),
    }))
}

/// `{"type":"auto"}` and nothing that would be in it.
fn is_new_container(node: &Node<'_>) -> bool {
    let Some(container) = node.as_object() else { return false };
    container.len() == 1 && container.get("type").and_then(Node::as_str) == Some("auto")
}

/// `None`: a form that is in no word.
pub fn read_choice<'a>(node: &Node<'a>) -> Option<ToolChoice<'a>> {
    if let Some(word) = node.as_str() {
        return match word {
            "auto" => Some(ToolChoice::Auto),
            "required" => Some(ToolChoice::Required),
            "none" => Some(ToolChoice::None),
            _ => None,
        };
    }
    let mut choice = node.as_object()?.clone();
    let kind = choice.take_string("type").ok()??;
    if kind != "allowed_tools" {
        return named(kind, choice).map(ToolChoice::Tool);
    }
    let required = match choice.take_string("mode").ok()?.as_deref() {
        None | Some("auto") => false,
        Some("required") => true,
        Some(_) => return None,
    };
    let names: Option<Vec<_>> = choice
        .take_array("tools")
        .ok()??
        .into_iter()
        .map(|tool| {
            let mut tool = tool.object().ok()?;
            named(tool.take_string("type").ok()??, tool)
        })
        .collect();
    choice.is_empty().then_some(ToolChoice::Allowed { names: names?, required })
}

/// A function by its name, a server tool by its type.
fn named<'a>(kind: Cow<'a, str>, mut tool: Members<'a>) -> Option<Cow<'a, str>> {
    let name = match &*kind {
        "function" | "custom" => tool.take_string("name").ok()??,
        _ => kind,
    };
    tool.is_empty().then_some(name)
}

/// Which of the request's tools can be said here.
fn sayable(tool: &Tool<'_>) -> bool {
    match tool {
        Tool::Function(_) => true,
        Tool::Server(tool) => {
            tool.native.0 == Dialect::OpenAiResponses
                || matches!(tool.kind, ServerToolKind::WebSearch | ServerToolKind::CodeExecution)
        }
    }
}

/// `tools`, when there are any.
pub fn write_list(w: &mut Writer<'_>, request: &Request<'_>, losses: &mut Losses) {
    let mut any = false;
    for tool in &request.tools {
        let cache = match tool {
            Tool::Function(tool) => tool.cache,
            Tool::Server(tool) => tool.cache,
        };
        if let Some(mark) = cache {
            losses.dropped(mark.at, "");
        }
        if !sayable(tool) {
            losses.book(tool.at(), "", if chosen(request, tool) { How::Essential } else { How::Dropped });
            continue;
        }
        if !std::mem::replace(&mut any, true) {
            w.name("tools").array();
        }
        match tool {
            Tool::Function(tool) => function(w, tool, request.dialect, losses),
            Tool::Server(tool) => server_tool(w, tool, losses),
        }
    }
    if any {
        w.end_array();
    }
}

/// The choice names this very tool.
fn chosen(request: &Request<'_>, tool: &Tool<'_>) -> bool {
    let Tool::Server(tool) = tool else { return false };
    matches!(&request.tool_choice, Some(Param { value: ToolChoice::Tool(name), .. }) if *name == tool.name)
}

/// One function or custom tool. A request of another dialect means `strict: false` when it says nothing; here that would be true.
pub fn function(w: &mut Writer<'_>, tool: &Function<'_>, dialect: Dialect, losses: &mut Losses) {
    // the mark was booked by the caller
    let Function { name, description, kind, parameters, strict, cache: _, at, extra } = tool;
    let own = dialect == Dialect::OpenAiResponses;
    w.object();
    match kind {
        CallKind::Function => {
            w.name("type").string("function");
            w.name("name").string(name);
            w.string_if("description", description.as_deref());
            w.name("parameters").raw(parameters.as_deref().unwrap_or(NOTHING));
            w.boolean_if("strict", if own { *strict } else { Some(strict.unwrap_or(false)) });
        }
        CallKind::Custom => {
            w.name("type").string("custom");
            w.name("name").string(name);
            w.string_if("description", description.as_deref());
            w.raw_if("format", parameters.as_deref());
            if strict.is_some() {
                losses.dropped(*at, "strict");
            }
        }
    }
    if own {
        for member in &extra.0 {
            w.name(&member.name).raw(&member.json);
        }
    } else {
        losses.extra(extra);
    }
    w.end_object();
}

fn server_tool(w: &mut Writer<'_>, tool: &ServerTool<'_>, losses: &mut Losses) {
    let ServerTool {
        kind,
        name: _, // of the other dialect: here the type says it
        allowed_domains,
        blocked_domains,
        max_uses,
        user_location,
        native,
        cache: _, // booked by the caller
        at,
        extra,
    } = tool;
    if native.0 == Dialect::OpenAiResponses {
        w.raw(&native.1);
        return;
    }
    w.object();
    if *kind == ServerToolKind::CodeExecution {
        w.name("type").string("code_interpreter");
        w.name("container").raw(r#"{"type":"auto"}"#);
    } else {
        w.name("type").string("web_search");
        if !allowed_domains.is_empty() {
            w.name("filters").object();
            w.name("allowed_domains").array();
            allowed_domains.iter().for_each(|domain| w.string(domain));
            w.end_array();
            w.end_object();
        }
        if let Some(place) = user_location {
            location(w, place);
        }
        if !blocked_domains.is_empty() {
            losses.dropped(*at, "blocked_domains");
        }
    }
    if max_uses.is_some() {
        losses.dropped(*at, "max_uses");
    }
    losses.extra(extra);
    w.end_object();
}

fn location(w: &mut Writer<'_>, place: &str) {
    let Ok(place) = Node::parse_reply(place.as_bytes()) else { return };
    let Some(place) = place.as_object() else { return };
    w.name("user_location").object();
    w.name("type").string("approximate");
    for name in ["city", "region", "country", "timezone"] {
        w.string_if(name, place.get(name).and_then(Node::as_str));
    }
    w.end_object();
}

/// `tool_choice`.
pub fn write_choice(w: &mut Writer<'_>, request: &Request<'_>, losses: &mut Losses) {
    let Some(Param { value: choice, at }) = &request.tool_choice else { return };
    let own = request.dialect == Dialect::OpenAiResponses;
    if !own && !matches!(choice, ToolChoice::Tool(_)) && !request.tools.iter().any(sayable) {
        // a choice of nothing is refused
        if matches!(choice, ToolChoice::Required | ToolChoice::Allowed { .. }) {
            losses.dropped(*at, "");
        }
        return;
    }
    if let ToolChoice::Tool(name) = choice
        && unsayable(request, name)
    {
        return losses.essential(*at, "");
    }
    if let ToolChoice::Allowed { names, .. } = choice {
        for _ in names.iter().filter(|name| unsayable(request, name)) {
            losses.dropped(*at, "");
        }
    }
    w.name("tool_choice");
    choice_value(w, request, choice);
}

/// The value of `tool_choice`.
pub fn choice_value(w: &mut Writer<'_>, request: &Request<'_>, choice: &ToolChoice<'_>) {
    match choice {
        ToolChoice::Auto => w.string("auto"),
        ToolChoice::Required => w.string("required"),
        ToolChoice::None => w.string("none"),
        ToolChoice::Tool(name) => reference(w, request, name),
        ToolChoice::Allowed { names, required } => {
            w.object();
            w.name("type").string("allowed_tools");
            w.name("mode").string(if *required { "required" } else { "auto" });
            w.name("tools").array();
            names.iter().filter(|name| !unsayable(request, name)).for_each(|name| reference(w, request, name));
            w.end_array();
            w.end_object();
        }
    }
}

fn unsayable(request: &Request<'_>, name: &str) -> bool {
    request.tools.iter().any(|tool| !sayable(tool) && matches!(tool, Tool::Server(tool) if tool.name == name))
}

/// A tool as a choice names it.
fn reference(w: &mut Writer<'_>, request: &Request<'_>, name: &str) {
    let found = request.tools.iter().find(|tool| match tool {
        Tool::Function(tool) => tool.name == name,
        Tool::Server(tool) => tool.name == name,
    });
    w.object();
    match found {
        Some(Tool::Server(tool)) => {
            let own = tool.native.0 == Dialect::OpenAiResponses;
            w.name("type").string(match tool.kind {
                _ if own => &tool.name,
                ServerToolKind::CodeExecution => "code_interpreter",
                _ => "web_search",
            });
        }
        Some(Tool::Function(Function { kind: CallKind::Custom, .. })) => {
            w.name("type").string("custom");
            w.name("name").string(name);
        }
        Some(Tool::Function(_)) | None => {
            w.name("type").string("function");
            w.name("name").string(name);
        }
    }
    w.end_object();
}
