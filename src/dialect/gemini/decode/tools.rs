//! Tools and how the model is told to use them.

use std::borrow::Cow;

use super::{keep, keep_one, list, take, take_list, take_string};
use crate::chat::{CallKind, Dialect, Extra, Function, Param, Request, ServerTool, ServerToolKind, Tool, ToolChoice};
use crate::dialect::gemini::schema::to_json_schema;
use crate::json::{Node, Wrong};

/// One of the request's `tools`: declarations, tools of the provider, or both.
pub fn tools<'a>(node: Node<'a>, tools: &mut Vec<Tool<'a>>) -> Result<(), Wrong> {
    let (raw, at) = (node.raw, node.at);
    let mut members = node.object()?;
    let alone = members.len() == 1;
    for declaration in take_list(&mut members, "functionDeclarations").unwrap_or_default() {
        tools.push(Tool::Function(declared(declaration)?));
    }
    for (name, node) in members {
        if node.is_null() {
            continue;
        }
        let native = if alone {
            Cow::Borrowed(raw)
        } else {
            // one of several in one object
            Cow::Owned(format!("{{{}:{}}}", serde_json::Value::from(&*name), node.raw))
        };
        tools.push(Tool::Server(ServerTool {
            kind: kind_of(&name),
            blocked_domains: blocked(&node),
            name,
            allowed_domains: Vec::new(),
            max_uses: None,
            user_location: None,
            native: (Dialect::Gemini, native),
            cache: None,
            at,
            extra: beyond(node),
        }));
    }
    Ok(())
}

fn kind_of(name: &str) -> ServerToolKind {
    match name {
        "googleSearch"
        | "google_search"
        | "googleSearchRetrieval"
        | "google_search_retrieval"
        | "enterpriseWebSearch"
        | "enterprise_web_search" => ServerToolKind::WebSearch,
        "urlContext" | "url_context" => ServerToolKind::WebFetch,
        "codeExecution" | "code_execution" => ServerToolKind::CodeExecution,
        _ => ServerToolKind::Other,
    }
}

fn blocked<'a>(definition: &Node<'a>) -> Vec<Cow<'a, str>> {
    let Some(members) = definition.as_object() else { return Vec::new() };
    let domains = members.get("excludeDomains").or(members.get("exclude_domains"));
    let domains = domains.cloned().map(list).unwrap_or_default();
    domains.into_iter().filter_map(|domain| domain.string().ok()).collect()
}

fn beyond(definition: Node<'_>) -> Extra<'_> {
    let Ok(mut members) = definition.object() else { return Extra::default() };
    take(&mut members, "excludeDomains");
    Extra::rest(members)
}

fn declared(node: Node<'_>) -> Result<Function<'_>, Wrong> {
    let at = node.at;
    let mut members = node.object()?;
    let name = take_string(&mut members, "name")?.ok_or(Wrong::new(at, "expected a function's `name`"))?;
    let description = take_string(&mut members, "description")?;
    let parameters = match take(&mut members, "parametersJsonSchema") {
        Some(schema) => Some(Cow::Borrowed(schema.raw)),
        None => take(&mut members, "parameters").map(|schema| to_json_schema(&schema)),
    };
    Ok(Function {
        name,
        description,
        kind: CallKind::Function,
        parameters,
        strict: None,
        cache: None,
        at,
        extra: Extra::rest(members),
    })
}

/// `toolConfig`: the choice; the rest is Gemini's own.
pub fn config<'a>(node: Node<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    const WITHIN: &str = "toolConfig.functionCallingConfig";
    let mut members = node.object()?;
    if let Some(calling) = take(&mut members, "functionCallingConfig") {
        let at = calling.at;
        let mut calling = calling.object()?;
        let mode = take(&mut calling, "mode");
        let names: Vec<Cow<'a, str>> = match take_list(&mut calling, "allowedFunctionNames") {
            Some(names) => names.into_iter().map(Node::string).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let word = mode.as_ref().and_then(mode_word);
        let choice = match (word.as_deref(), names.len()) {
            (Some("NONE"), _) => Some(ToolChoice::None),
            (Some("ANY"), 0) => Some(ToolChoice::Required),
            (Some("ANY"), 1) => names.into_iter().next().map(ToolChoice::Tool),
            (Some("ANY"), _) => Some(ToolChoice::Allowed { names, required: true }),
            (Some("AUTO" | "VALIDATED"), 1..) => Some(ToolChoice::Allowed { names, required: false }),
            (Some("AUTO"), 0) => Some(ToolChoice::Auto),
            (other, _) => {
                if let Some(mode) = &mode {
                    keep_one(&mut request.extra, WITHIN, "mode", mode);
                }
                (other == Some("VALIDATED")).then_some(ToolChoice::Auto)
            }
        };
        request.tool_choice = choice.map(|value| Param { value, at });
        keep(&mut request.extra, WITHIN, calling);
    }
    keep(&mut request.extra, "toolConfig", members);
    Ok(())
}

/// The mode, which may be a number. `MODE_UNSPECIFIED` says nothing.
fn mode_word(mode: &Node<'_>) -> Option<String> {
    match (mode.as_str(), mode.as_u64()) {
        (Some(word), _) => Some(word.to_ascii_uppercase()),
        (None, Some(1)) => Some("AUTO".to_owned()),
        (None, Some(2)) => Some("ANY".to_owned()),
        (None, Some(3)) => Some("NONE".to_owned()),
        (None, _) => None,
    }
}
