//! `tools`, `tool_choice` and their legacy forms, read.

use std::borrow::Cow;

use super::{parts, rest};
use crate::chat::{CallKind, Dialect, Extra, Function, ServerTool, ServerToolKind, Tool, ToolChoice};
use crate::json::{Members, Node, Value, Wrong};

/// The member that is a server tool without standing in `tools`.
pub(super) const WEB_SEARCH_OPTIONS: &str = "web_search_options";

pub(super) fn tool(node: Node<'_>) -> Result<Tool<'_>, Wrong> {
    let (at, raw) = (node.at, node.raw);
    let mut members = node.object()?;
    let kind = members.take_string("type")?.unwrap_or(Cow::Borrowed("function"));
    let (kind, inner) = match &*kind {
        "function" => (CallKind::Function, "function"),
        "custom" => (CallKind::Custom, "custom"),
        _ => return Ok(Tool::Server(server_tool(kind, members, at, raw))),
    };
    let cache = parts::cache(&mut members);
    // the flat form of the responses API is understood too
    let nested = members.take(inner);
    let inner_at = nested.as_ref().map(|node| node.at);
    let mut object = match nested {
        Some(node) => node.object()?,
        None => std::mem::take(&mut members),
    };
    let cache = cache.or_else(|| parts::cache(&mut object));
    let name = object.take_string("name")?.ok_or(Wrong::new(inner_at.unwrap_or(at), "expected a member `name`"))?;
    let description = object.take_string("description")?;
    let parameters = object.take(if kind == CallKind::Function { "parameters" } else { "format" });
    let strict = object.take_bool("strict")?;
    let mut extra = Extra::rest(members);
    rest::keep(&mut extra, inner, inner_at.unwrap_or(at), &object);
    let parameters = parameters.map(|node| Cow::Borrowed(node.raw));
    Ok(Tool::Function(Function { name, description, kind, parameters, strict, cache, at, extra }))
}

/// An entry of the legacy `functions`.
pub(super) fn legacy(node: Node<'_>) -> Result<Tool<'_>, Wrong> {
    let at = node.at;
    let mut object = node.object()?;
    let name = object.take_string("name")?.ok_or(Wrong::new(at, "expected a member `name`"))?;
    let description = object.take_string("description")?;
    let parameters = object.take("parameters").map(|node| Cow::Borrowed(node.raw));
    let mut extra = Extra::default();
    rest::keep(&mut extra, "function", at, &object);
    let kind = CallKind::Function;
    Ok(Tool::Function(Function { name, description, kind, parameters, strict: None, cache: None, at, extra }))
}

fn server_tool<'a>(name: Cow<'a, str>, mut members: Members<'a>, at: crate::json::At, raw: &'a str) -> ServerTool<'a> {
    let kind = if name.contains("web_search") || name == "browser_search" {
        ServerToolKind::WebSearch
    } else if name.contains("web_fetch") || name == "url_context" {
        ServerToolKind::WebFetch
    } else if name.contains("code_execution") || name == "code_interpreter" {
        ServerToolKind::CodeExecution
    } else {
        ServerToolKind::Other
    };
    let cache = parts::cache(&mut members);
    // OpenRouter keeps them one level down
    let mut settings = rest::inner(&mut members, "parameters").unwrap_or_default();
    let mut list = |name: &str| {
        let items = match rest::list(&mut members, name) {
            items if items.is_empty() => rest::list(&mut settings, name),
            items => items,
        };
        items.into_iter().filter_map(|item| item.string().ok()).collect::<Vec<_>>()
    };
    let allowed_domains = list("allowed_domains");
    let blocked_domains = match list("blocked_domains") {
        blocked if blocked.is_empty() => list("excluded_domains"),
        blocked => blocked,
    };
    let max_uses = rest::number(&mut members, "max_uses").or_else(|| rest::number(&mut settings, "max_uses"));
    let user_location = members.take("user_location").or_else(|| settings.take("user_location"));
    let mut extra = Extra::rest(members);
    rest::keep(&mut extra, "parameters", at, &settings);
    ServerTool {
        kind,
        name,
        allowed_domains,
        blocked_domains,
        max_uses,
        user_location: user_location.map(location),
        native: (Dialect::OpenAiChat, Cow::Borrowed(raw)),
        cache,
        at,
        extra,
    }
}

/// `{"search_context_size", "user_location":{"type":"approximate","approximate":{..}}}`.
pub(super) fn web_search_options(node: Node<'_>) -> Result<Tool<'_>, Wrong> {
    let (at, raw) = (node.at, node.raw);
    let mut members = node.object()?;
    let user_location = members.take("user_location").map(location);
    Ok(Tool::Server(ServerTool {
        kind: ServerToolKind::WebSearch,
        name: Cow::Borrowed(WEB_SEARCH_OPTIONS),
        allowed_domains: Vec::new(),
        blocked_domains: Vec::new(),
        max_uses: None,
        user_location,
        native: (Dialect::OpenAiChat, Cow::Borrowed(raw)),
        cache: None,
        at,
        extra: Extra::rest(members),
    }))
}

/// The place itself, which chat completions keep one level down.
fn location(node: Node<'_>) -> Cow<'_, str> {
    let inner = node.as_object().and_then(|o| o.get("approximate")).filter(|inner| inner.as_object().is_some());
    Cow::Borrowed(inner.map_or(node.raw, |inner| inner.raw))
}

/// `None`: a form that only its vendor knows.
pub(super) fn choice<'a>(node: &Node<'a>) -> Option<ToolChoice<'a>> {
    let name_in = |object: &Members<'a>| match object.get("name").map(|node| &node.value) {
        Some(Value::String(name)) => Some(name.clone()),
        _ => None,
    };
    let members = match &node.value {
        Value::String(word) => return word_choice(word),
        Value::Object(members) => members,
        _ => return None,
    };
    match members.get("type").and_then(Node::as_str).unwrap_or("function") {
        kind @ ("function" | "custom" | "tool") => {
            let nested = members.get(kind).and_then(Node::as_object);
            nested.and_then(name_in).or_else(|| name_in(members)).map(ToolChoice::Tool)
        }
        "allowed_tools" => {
            let inner = members.get("allowed_tools").and_then(Node::as_object).unwrap_or(members);
            let tools = inner.get("tools").and_then(Node::as_array).unwrap_or_default();
            let name = |tool: &Node<'a>| {
                let tool = tool.as_object()?;
                let nested = ["function", "custom"].iter().find_map(|kind| tool.get(kind)?.as_object());
                nested.and_then(name_in).or_else(|| name_in(tool))
            };
            let names = tools.iter().map(name).collect::<Option<Vec<_>>>()?;
            let required = inner.get("mode").and_then(Node::as_str) == Some("required");
            Some(ToolChoice::Allowed { names, required })
        }
        word => word_choice(word),
    }
}

fn word_choice<'a>(word: &str) -> Option<ToolChoice<'a>> {
    match word {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        // Mistral's word is `any`
        "required" | "any" => Some(ToolChoice::Required),
        _ => None,
    }
}
