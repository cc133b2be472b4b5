//! Tools and the choice among them, written.
//!
//! Server tools of other dialects become Anthropic's own of the same kind, in the version every current model takes.
//! Truth: Anthropic API reference, `ToolUnion`, `ToolChoice`; "Define tools" (which models refuse a forced tool).

use std::borrow::Cow;

use super::blocks_out::Blocks;
use super::model::Model;
use super::{leftover, schema};
use crate::chat::{
    CallKind, Dialect, Extra, Function, How, Losses, Param, ServerTool, ServerToolKind, Tool, ToolChoice,
};
use crate::json::{At, Node, Writer};

/// Which tools are offered and how the model is told to use them.
pub(super) struct Offer<'r, 'a> {
    pub tools: Vec<&'r Tool<'a>>,
    pub choice: Option<Choice<'r>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice<'r> {
    Auto,
    Any,
    None,
    Tool(&'r str),
}

// === impl Offer ===

impl<'r, 'a> Offer<'r, 'a> {
    pub(super) fn of(
        tools: &'r [Tool<'a>],
        choice: Option<&'r Param<ToolChoice<'a>>>,
        model: Option<Model>,
        losses: &mut Losses,
    ) -> Self {
        let chosen = match choice {
            Some(Param { value: ToolChoice::Tool(name), at: _ }) => Some(&**name),
            _ => None,
        };
        let tools = tools.iter().filter(|tool| known(tool, chosen, losses)).collect();
        let mut offer = Offer { tools, choice: None };
        let Some(Param { value, at }) = choice else { return offer };
        offer.choice = Some(match value {
            ToolChoice::Auto => Choice::Auto,
            ToolChoice::Required => Choice::Any,
            ToolChoice::None => Choice::None,
            ToolChoice::Tool(name) => Choice::Tool(name),
            ToolChoice::Allowed { names, required } => {
                offer.tools.retain(|tool| names.iter().any(|name| name == name_of(tool)));
                losses.changed(*at, "");
                if *required { Choice::Any } else { Choice::Auto }
            }
        });
        if offer.forced() && !model.is_none_or(Model::forced_tool) {
            losses.changed(*at, "");
            offer.choice = Some(Choice::Auto);
        }
        if offer.tools.is_empty() {
            // a choice among nothing is refused
            if offer.forced() {
                losses.dropped(*at, "");
            }
            offer.choice = None;
        }
        offer
    }

    pub(super) fn forced(&self) -> bool {
        matches!(self.choice, Some(Choice::Any | Choice::Tool(_)))
    }
}

/// Whether a tool can be offered here at all.
fn known(tool: &Tool<'_>, chosen: Option<&str>, losses: &mut Losses) -> bool {
    match tool {
        Tool::Server(tool) if tool.kind == ServerToolKind::Other && tool.native.0 != Dialect::Anthropic => {
            losses.book(tool.at, "", if chosen == Some(&*tool.name) { How::Essential } else { How::Dropped });
            false
        }
        Tool::Server(_) | Tool::Function(_) => true,
    }
}

fn name_of<'r>(tool: &'r Tool<'_>) -> &'r str {
    match tool {
        Tool::Function(tool) => &tool.name,
        Tool::Server(tool) => &tool.name,
    }
}

/// `tool_choice`. `parallel`: whether several tools may be called at once.
pub(super) fn choice(
    w: &mut Writer<'_>,
    offer: &Offer<'_, '_>,
    parallel: Option<&Param<bool>>,
    extra: Option<&Extra<'_>>,
    losses: &mut Losses,
) {
    let serial = parallel.is_some_and(|parallel| !parallel.value);
    let choice = match offer.choice {
        Some(choice) => choice,
        None if serial && !offer.tools.is_empty() => Choice::Auto,
        None => {
            // nothing is called in parallel where there are no tools
            if serial && extra.is_some() {
                losses.dropped(parallel.map_or(At::NOWHERE, |parallel| parallel.at), "");
            }
            return;
        }
    };
    w.name("tool_choice").object();
    w.name("type").string(match choice {
        Choice::Auto => "auto",
        Choice::Any => "any",
        Choice::None => "none",
        Choice::Tool(_) => "tool",
    });
    if let Choice::Tool(name) = choice {
        w.name("name").string(name);
    }
    // `false` is the default: only a client of this dialect says it
    if choice != Choice::None && (serial || extra.is_some()) {
        w.boolean_if("disable_parallel_tool_use", parallel.map(|parallel| !parallel.value));
    }
    leftover::write(w, extra, leftover::CHOICE);
    w.end_object();
}

impl Blocks<'_, '_, '_> {
    /// One entry of `tools`.
    pub(super) fn tool(&mut self, tool: &Tool<'_>, model: Option<Model>) {
        match tool {
            Tool::Function(function) => self.function(function, model),
            Tool::Server(server) => self.server_tool(server),
        }
    }

    fn function(&mut self, function: &Function<'_>, model: Option<Model>) {
        let Function { name, description, kind, parameters, strict, cache, at, extra } = function;
        self.w.object();
        self.w.name("name").string(name);
        self.w.string_if("description", description.as_deref());
        self.w.name("input_schema");
        match (kind, parameters) {
            (CallKind::Function, Some(schema)) => self.w.raw(schema),
            (CallKind::Function, None) => self.w.raw(r#"{"type":"object","properties":{}}"#),
            (CallKind::Custom, _) => {
                self.losses.changed(*at, "");
                self.w.raw(r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#);
            }
        }
        if self.own {
            self.w.boolean_if("strict", *strict);
        } else if *strict == Some(true) {
            let fits = model.is_some_and(Model::json_schema) && parameters.as_deref().is_some_and(schema::fits_strict);
            if fits {
                self.w.name("strict").boolean(true);
            } else {
                self.losses.dropped(*at, "strict");
            }
        }
        self.cache(*cache, Some(extra));
        self.extra(extra);
        self.w.end_object();
    }

    fn server_tool(&mut self, tool: &ServerTool<'_>) {
        let ServerTool {
            kind,
            name: _,
            allowed_domains,
            blocked_domains,
            max_uses,
            user_location,
            native: (dialect, json),
            cache,
            at,
            extra,
        } = tool;
        if *dialect == Dialect::Anthropic {
            self.w.raw(json);
            return;
        }
        let (kind, name) = match kind {
            ServerToolKind::WebSearch => ("web_search_20250305", "web_search"),
            ServerToolKind::WebFetch => ("web_fetch_20250910", "web_fetch"),
            ServerToolKind::CodeExecution => ("code_execution_20250825", "code_execution"),
            // never offered
            ServerToolKind::Other => return self.losses.dropped(*at, ""),
        };
        self.w.object();
        self.w.name("type").string(kind);
        self.w.name("name").string(name);
        let searches = name != "code_execution";
        if searches {
            self.domains(allowed_domains, blocked_domains, *at);
            self.w.number_if("max_uses", *max_uses);
        } else if !allowed_domains.is_empty() || !blocked_domains.is_empty() || max_uses.is_some() {
            self.losses.dropped(*at, "");
        }
        if let Some(location) = user_location {
            self.location(location, name == "web_search", *at);
        }
        self.cache(*cache, None);
        self.losses.extra(extra);
        self.w.end_object();
    }

    fn domains(&mut self, allowed: &[Cow<'_, str>], blocked: &[Cow<'_, str>], at: At) {
        // one of them only
        if !allowed.is_empty() && !blocked.is_empty() {
            self.losses.dropped(at, "blocked_domains");
        }
        let (name, domains) =
            if allowed.is_empty() { ("blocked_domains", blocked) } else { ("allowed_domains", allowed) };
        if !domains.is_empty() {
            self.w.name(name).array();
            domains.iter().for_each(|domain| self.w.string(domain));
            self.w.end_array();
        }
    }

    /// Chat completions wrap the place in one more object (`approximate`).
    fn location(&mut self, location: &str, taken: bool, at: At) {
        let node = Node::parse_reply(location.as_bytes()).ok();
        let members = node.as_ref().and_then(Node::as_object);
        let inner = members.and_then(|m| m.get("approximate")).and_then(Node::as_object);
        let Some(members) = inner.or(members).filter(|_| taken) else {
            self.losses.dropped(at, "user_location");
            return;
        };
        self.w.name("user_location").object();
        self.w.name("type").string("approximate");
        for name in ["city", "region", "country", "timezone"] {
            self.w.string_if(name, members.get(name).and_then(Node::as_str));
        }
        self.w.end_object();
    }
}
