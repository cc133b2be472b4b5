//! Tools, and how the model is told to use them.

use std::borrow::Cow;
use std::collections::HashSet;

use super::contents::Terms;
use super::part::{kept, own};
use crate::chat::{
    CallKind, Dialect, Extra, Function, Losses, Param, Request, ServerTool, ServerToolKind, Tool, ToolChoice,
};
use crate::json::Writer;

/// What a tool with free text for arguments becomes, where nobody has seen to it before.
const FREE_TEXT: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;

/// Which kinds of tools were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    pub functions: bool,
    /// Run by the provider.
    pub server: bool,
}

pub fn write(request: &Request<'_>, terms: Terms, w: &mut Writer<'_>, losses: &mut Losses) -> Written {
    let functions = request.tools.iter().filter_map(|tool| match tool {
        Tool::Function(function) => Some(function),
        Tool::Server(_) => None,
    });
    let servers: Vec<Cow<'_, str>> = request
        .tools
        .iter()
        .filter_map(|tool| match tool {
            Tool::Server(server) => defined(server, request.tool_choice.as_ref(), terms, losses),
            Tool::Function(_) => None,
        })
        .collect();
    let written = Written { functions: functions.clone().next().is_some(), server: !servers.is_empty() };
    if written == Written::default() {
        return written;
    }
    w.name("tools").array();
    if written.functions {
        w.object();
        w.name("functionDeclarations").array();
        for function in functions {
            declare(function, terms, w, losses);
        }
        w.end_array();
        w.end_object();
    }
    for server in servers {
        w.raw(&server);
    }
    w.end_array();
    written
}

fn declare(function: &Function<'_>, terms: Terms, w: &mut Writer<'_>, losses: &mut Losses) {
    let Function { name, description, kind, parameters, strict, cache, at, extra } = function;
    w.object();
    w.name("name").string(name);
    w.string_if("description", description.as_deref());
    match kind {
        CallKind::Function => {
            // a schema that says nothing is refused
            let said = |schema: &&str| terms.native || !matches!(schema.trim(), "{}" | "null");
            w.raw_if("parametersJsonSchema", parameters.as_deref().filter(said));
        }
        CallKind::Custom => {
            losses.changed(*at, "");
            w.name("parametersJsonSchema").raw(FREE_TEXT);
        }
    }
    if let Some(extra) = own(extra, terms.native, losses) {
        kept(w, extra, "");
    }
    w.end_object();
    if *strict == Some(true) {
        losses.dropped(*at, "strict");
    }
    if let Some(cache) = cache {
        losses.dropped(cache.at, "");
    }
}

/// A tool of the provider in Google's words.
fn defined<'r>(
    tool: &'r ServerTool<'_>,
    choice: Option<&Param<ToolChoice<'_>>>,
    terms: Terms,
    losses: &mut Losses,
) -> Option<Cow<'r, str>> {
    let ServerTool {
        kind,
        name,
        allowed_domains,
        blocked_domains,
        max_uses,
        user_location,
        native: (dialect, native),
        cache,
        at,
        extra,
    } = tool;
    if let Some(cache) = cache {
        losses.dropped(cache.at, "");
    }
    if *dialect == Dialect::Gemini {
        return Some(Cow::Borrowed(native));
    }
    let demanded = choice.is_some_and(|choice| matches!(&choice.value, ToolChoice::Tool(chosen) if chosen == name));
    let written = match kind {
        ServerToolKind::WebSearch if terms.vertex && !blocked_domains.is_empty() => {
            Cow::Owned(serde_json::json!({ "googleSearch": { "excludeDomains": blocked_domains } }).to_string())
        }
        ServerToolKind::WebSearch => Cow::Borrowed(r#"{"googleSearch":{}}"#),
        ServerToolKind::WebFetch => Cow::Borrowed(r#"{"urlContext":{}}"#),
        ServerToolKind::CodeExecution => Cow::Borrowed(r#"{"codeExecution":{}}"#),
        ServerToolKind::Other => {
            if demanded {
                losses.essential(*at, "");
            } else {
                losses.dropped(*at, "");
            }
            return None;
        }
    };
    losses.extra(extra);
    for (member, lost) in [
        ("allowed_domains", !allowed_domains.is_empty()),
        ("blocked_domains", !blocked_domains.is_empty() && written.len() < 24),
        ("max_uses", max_uses.is_some()),
        ("user_location", user_location.is_some()),
    ] {
        if lost {
            losses.dropped(*at, member);
        }
    }
    Some(written)
}

/// `toolConfig`.
pub fn config(request: &Request<'_>, terms: Terms, written: Written, w: &mut Writer<'_>, losses: &mut Losses) {
    let mut out = Vec::new();
    let mut c = Writer::new(&mut out);
    c.object();
    let together = !terms.native && terms.third && !terms.vertex && written.functions && written.server;
    if terms.native {
        native_calling(request, &mut c);
        kept(&mut c, &request.extra, "toolConfig.");
    } else {
        let choice = request.tool_choice.as_ref();
        if let Some((mode, names)) = choice.and_then(|choice| foreign_mode(choice, request, written, losses))
            // beside tools of the provider only VALIDATED is taken for it, which is the default
            && !(together && mode == "AUTO")
        {
            calling(mode, &names, None, &mut c);
        }
        if together {
            c.name("includeServerSideToolInvocations").boolean(true);
        }
    }
    c.end_object();
    if out.len() > 2 {
        w.name("toolConfig").raw(std::str::from_utf8(&out).unwrap_or("{}"));
    }
}

fn calling(mode: &str, names: &[&str], extra: Option<&Extra<'_>>, w: &mut Writer<'_>) {
    w.name("functionCallingConfig").object();
    if !mode.is_empty() {
        w.name("mode").string(mode);
    }
    if !names.is_empty() {
        w.name("allowedFunctionNames").array();
        for name in names {
            w.string(name);
        }
        w.end_array();
    }
    if let Some(extra) = extra {
        kept(w, extra, "toolConfig.functionCallingConfig.");
    }
    w.end_object();
}

/// As it was read: a mode that is no choice of ours stands in `extra`.
fn native_calling(request: &Request<'_>, w: &mut Writer<'_>) {
    const WITHIN: &str = "toolConfig.functionCallingConfig.";
    let of_its_own = request.extra.0.iter().any(|member| member.name.starts_with(WITHIN));
    let (mode, names) = match request.tool_choice.as_ref().map(|choice| &choice.value) {
        Some(choice) => said(choice),
        None if of_its_own => ("", Vec::new()),
        None => return,
    };
    let kept_mode = request.extra.get("toolConfig.functionCallingConfig.mode").is_some();
    calling(if kept_mode { "" } else { mode }, &names, Some(&request.extra), w);
}

fn said<'r>(choice: &'r ToolChoice<'_>) -> (&'static str, Vec<&'r str>) {
    match choice {
        ToolChoice::Auto => ("AUTO", Vec::new()),
        ToolChoice::Required => ("ANY", Vec::new()),
        ToolChoice::None => ("NONE", Vec::new()),
        ToolChoice::Tool(name) => ("ANY", vec![&**name]),
        ToolChoice::Allowed { names, required } => {
            // names are refused beside AUTO
            let mode = if *required { "ANY" } else { "VALIDATED" };
            (mode, names.iter().map(|name| &**name).collect())
        }
    }
}

/// A choice among functions; others cannot be chosen here, and without functions nothing can.
fn foreign_mode<'r>(
    choice: &'r Param<ToolChoice<'_>>,
    request: &Request<'_>,
    written: Written,
    losses: &mut Losses,
) -> Option<(&'static str, Vec<&'r str>)> {
    let (mode, mut names) = said(&choice.value);
    if !written.functions {
        if mode == "ANY" {
            losses.dropped(choice.at, "");
        }
        return None;
    }
    let named = names.len();
    let functions: HashSet<&str> = request
        .tools
        .iter()
        .filter_map(|tool| match tool {
            Tool::Function(function) => Some(&*function.name),
            Tool::Server(_) => None,
        })
        .collect();
    names.retain(|name| functions.contains(name));
    if names.len() < named {
        losses.changed(choice.at, "");
        if names.is_empty() {
            return Some(("AUTO", names));
        }
    }
    Some((mode, names))
}
