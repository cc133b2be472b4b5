//! What the model may use, and how it is told to.

use std::borrow::Cow;

use super::{Cache, Dialect, Extra, Json};
use crate::json::At;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool<'a> {
    /// Run by the caller.
    Function(Function<'a>),
    /// Run by the provider.
    Server(ServerTool<'a>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function<'a> {
    pub name: Cow<'a, str>,
    pub description: Option<Cow<'a, str>>,
    /// `Function`: arguments are JSON. `Custom`: free text.
    pub kind: CallKind,
    /// JSON schema of the arguments, as it was written. `None`: no arguments. For `Custom`: the `format` (grammar), if any.
    pub parameters: Option<Json<'a>>,
    pub strict: Option<bool>,
    pub cache: Option<Cache>,
    pub at: At,
    pub extra: Extra<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallKind {
    #[default]
    Function,
    Custom,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTool<'a> {
    pub kind: ServerToolKind,
    /// Its name or type in the dialect it was written in.
    pub name: Cow<'a, str>,
    /// Search only in these domains.
    pub allowed_domains: Vec<Cow<'a, str>>,
    pub blocked_domains: Vec<Cow<'a, str>>,
    /// At most so many uses in one answer.
    pub max_uses: Option<u64>,
    /// `{city, region, country, timezone}` of the user, as JSON.
    pub user_location: Option<Json<'a>>,
    /// The whole definition as it was written.
    pub native: (Dialect, Json<'a>),
    pub cache: Option<Cache>,
    pub at: At,
    /// What is in the definition beyond the fields above.
    pub extra: Extra<'a>,
}

/// Server tools that more than one dialect knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerToolKind {
    WebSearch,
    WebFetch,
    CodeExecution,
    /// Only its own dialect knows it.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice<'a> {
    Auto,
    /// Any of them, but one.
    Required,
    None,
    Tool(Cow<'a, str>),
    /// One of these, or (`required: false`) none.
    Allowed {
        names: Vec<Cow<'a, str>>,
        required: bool,
    },
}

// === impl Tool ===

impl Tool<'_> {
    pub fn at(&self) -> At {
        match self {
            Tool::Function(tool) => tool.at,
            Tool::Server(tool) => tool.at,
        }
    }
}
