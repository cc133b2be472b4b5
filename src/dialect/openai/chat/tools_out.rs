//! `tools` and `tool_choice`, written.

use super::parts_out::Parts;
use super::tools_in::WEB_SEARCH_OPTIONS;
use super::{parts_out, rest};
use crate::chat::{CallKind, Dialect, Function, Losses, Param, Request, ServerTool, ServerToolKind, Tool, ToolChoice};
use crate::json::{Node, Writer};

/// Where a server tool goes.
enum Place {
    /// Into `tools`, as it came.
    Tools,
    /// A member of its own.
    WebSearch,
    Nowhere,
}

/// `tools`, and `web_search_options` behind them. Whether there are any of the former.
pub(super) fn write(w: &mut Writer<'_>, request: &Request<'_>, parts: &Parts<'_>, losses: &mut Losses) -> bool {
    let any = request.tools.iter().any(listed);
    if any {
        w.name("tools").array();
        for tool in request.tools.iter().filter(|tool| listed(tool)) {
            match tool {
                Tool::Function(tool) => function(w, tool, parts, losses),
                Tool::Server(tool) => w.raw(&tool.native.1),
            }
        }
        w.end_array();
    }
    let mut searches = false;
    for tool in &request.tools {
        let Tool::Server(tool) = tool else { continue };
        match place(tool) {
            Place::Tools => {}
            Place::WebSearch if !searches => {
                searches = true;
                web_search(w, tool, losses);
            }
            Place::WebSearch | Place::Nowhere if chosen(request, &tool.name) => losses.essential(tool.at, ""),
            Place::WebSearch | Place::Nowhere => losses.dropped(tool.at, ""),
        }
    }
    any
}

/// Whether it stands in `tools`.
fn listed(tool: &Tool<'_>) -> bool {
    match tool {
        Tool::Function(_) => true,
        Tool::Server(tool) => matches!(place(tool), Place::Tools),
    }
}

fn place(tool: &ServerTool<'_>) -> Place {
    let own = tool.native.0 == Dialect::OpenAiChat;
    match tool.kind {
        ServerToolKind::WebSearch if !own || tool.name == WEB_SEARCH_OPTIONS => Place::WebSearch,
        _ if own => Place::Tools,
        _ => Place::Nowhere,
    }
}

fn chosen(request: &Request<'_>, name: &str) -> bool {
    request.tool_choice.as_ref().is_some_and(|choice| matches!(&choice.value, ToolChoice::Tool(tool) if tool == name))
}

fn function(w: &mut Writer<'_>, tool: &Function<'_>, parts: &Parts<'_>, losses: &mut Losses) {
    let Function { name, description, kind, parameters, strict, cache, at: _, extra } = tool;
    let inner = if *kind == CallKind::Function { "function" } else { "custom" };
    w.object();
    w.name("type").string(inner);
    w.name(inner).object();
    w.name("name").string(name);
    w.string_if("description", description.as_deref());
    match (kind, parameters) {
        (CallKind::Function, parameters) => w.raw_if("parameters", parameters.as_deref()),
        (CallKind::Custom, Some(format)) => {
            w.name("format");
            grammar(w, format);
        }
        (CallKind::Custom, None) => {}
    }
    w.boolean_if("strict", *strict);
    rest::merge(w, extra, parts.from, inner);
    w.end_object();
    parts_out::cache_control(w, parts.mark(*cache, losses));
    rest::write(w, extra, parts.from, &[inner], losses);
    w.end_object();
}

/// `{"type":"grammar","grammar":{"syntax","definition"}}`; the responses API has it flat.
fn grammar(w: &mut Writer<'_>, format: &str) {
    let node = Node::parse(format.as_bytes()).ok();
    let flat = node.as_ref().and_then(Node::as_object).filter(|object| object.get("grammar").is_none());
    let part = |name| flat?.get(name);
    match (part("syntax"), part("definition")) {
        (Some(syntax), Some(definition)) => {
            w.object();
            w.name("type").string("grammar");
            w.name("grammar").object();
            w.name("syntax").raw(syntax.raw);
            w.name("definition").raw(definition.raw);
            w.end_object();
            w.end_object();
        }
        _ => w.raw(format),
    }
}

fn web_search(w: &mut Writer<'_>, tool: &ServerTool<'_>, losses: &mut Losses) {
    let ServerTool {
        kind: _,
        name: _,
        allowed_domains,
        blocked_domains,
        max_uses,
        user_location,
        native,
        cache,
        at,
        extra,
    } = tool;
    if let Some(cache) = cache {
        losses.dropped(cache.at, "");
    }
    if native.0 == Dialect::OpenAiChat {
        w.name(WEB_SEARCH_OPTIONS).raw(&native.1);
        return;
    }
    for (member, there) in [
        ("allowed_domains", !allowed_domains.is_empty()),
        ("blocked_domains", !blocked_domains.is_empty()),
        ("max_uses", max_uses.is_some()),
    ] {
        if there {
            losses.dropped(*at, member);
        }
    }
    w.name(WEB_SEARCH_OPTIONS).object();
    // the responses API shares the words of this one
    for member in &extra.0 {
        if member.name == "search_context_size" {
            w.name("search_context_size").raw(&member.json);
        } else {
            losses.dropped(member.at, "");
        }
    }
    if let Some(location) = user_location {
        w.name("user_location").object();
        w.name("type").string("approximate");
        w.name("approximate");
        place_of(w, location);
        w.end_object();
    }
    w.end_object();
}

/// City, region, country and timezone of a location, in an object of nothing else.
fn place_of(w: &mut Writer<'_>, location: &str) {
    let node = Node::parse(location.as_bytes()).ok();
    let object = node.as_ref().and_then(Node::as_object);
    w.object();
    for name in ["city", "region", "country", "timezone"] {
        if let Some(node) = object.and_then(|o| o.get(name)).filter(|node| !node.is_null()) {
            w.name(name).raw(node.raw);
        }
    }
    w.end_object();
}

pub(super) fn choice(w: &mut Writer<'_>, request: &Request<'_>, losses: &mut Losses) {
    let Some(Param { value, at }) = &request.tool_choice else { return };
    // a choice among nothing is refused; whoever writes one in this dialect is told so by the provider
    let asked = request.dialect == Dialect::OpenAiChat && request.tools.is_empty();
    if !asked && !request.tools.iter().any(listed) {
        if !matches!(value, ToolChoice::Auto | ToolChoice::None) {
            losses.dropped(*at, "");
        }
        return;
    }
    match value {
        ToolChoice::Auto => w.name("tool_choice").string("auto"),
        ToolChoice::Required => w.name("tool_choice").string("required"),
        ToolChoice::None => w.name("tool_choice").string("none"),
        ToolChoice::Tool(name) => match kind_of(request, name) {
            Some(kind) => {
                w.name("tool_choice");
                named(w, kind, name);
            }
            // a server tool: it has no name here
            None => losses.dropped(*at, ""),
        },
        ToolChoice::Allowed { names, required } => {
            w.name("tool_choice").object();
            w.name("type").string("allowed_tools");
            w.name("allowed_tools").object();
            w.name("mode").string(if *required { "required" } else { "auto" });
            w.name("tools").array();
            for name in names {
                match kind_of(request, name) {
                    Some(kind) => named(w, kind, name),
                    None => losses.dropped(*at, ""),
                }
            }
            w.end_array();
            w.end_object();
            w.end_object();
        }
    }
}

/// `None` for a server tool. A name that stands for no tool is a function's: the provider says what is wrong with it.
fn kind_of(request: &Request<'_>, name: &str) -> Option<CallKind> {
    let found = request.tools.iter().find_map(|tool| match tool {
        Tool::Function(tool) => (tool.name == name).then_some(Some(tool.kind)),
        Tool::Server(tool) => (tool.name == name).then_some(None),
    });
    found.unwrap_or(Some(CallKind::Function))
}

fn named(w: &mut Writer<'_>, kind: CallKind, name: &str) {
    let kind = if kind == CallKind::Function { "function" } else { "custom" };
    w.object();
    w.name("type").string(kind);
    w.name(kind).object();
    w.name("name").string(name);
    w.end_object();
    w.end_object();
}
