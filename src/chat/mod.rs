//! The words in which every dialect's calls are said: the bridge between wire formats. Types, and the little that follows from them.
//!
//! A superset of what the dialects can say, nearest to content blocks. Nothing here knows a wire format; schemas, arguments and numbers
//! are the text they came in. Each word remembers where it was read (`at`), so that a loss can be named by its JSON path. Encoders take
//! these structs apart without `..`: a new field does not compile until every dialect carries it or books a loss.

pub mod block;
mod dialect;
pub mod event;
pub mod fold;
pub mod loss;
mod own;
pub mod request;
pub mod response;
pub mod seal;
pub mod tool;
mod unfold;
mod usage;

use std::borrow::Cow;

pub use block::{Block, Cache, Citation, Media, MediaKind, Source, Text, Thinking, Thought, ToolCall, ToolResult, Ttl};
pub use dialect::Dialect;
pub use event::{Delta, Event, Open, Start};
pub use fold::Fold;
pub use loss::{How, Loss, Losses};
pub use request::{Effort, Format, Reasoning, Request, Role, Schema, Turn};
pub use response::{Choice, Logprob, Response, Stop, StopReason};
pub use seal::{Issuer, Seal};
pub use tool::{CallKind, Function, ServerTool, ServerToolKind, Tool, ToolChoice};
pub use unfold::unfold;
pub use usage::Usage;

use crate::json::{At, Members};

/// A JSON text as it was received or made: key order, number spelling and white space kept. Never empty.
pub type Json<'a> = Cow<'a, str>;

/// A parameter and where it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<T> {
    pub value: T,
    pub at: At,
}

/// Members that only the dialect they were written in knows: it writes them again as they are, every other books them as lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra<'a>(pub Vec<ExtraMember<'a>>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraMember<'a> {
    pub name: Cow<'a, str>,
    pub json: Json<'a>,
    pub at: At,
}

// === impl Extra ===

impl<'a> Extra<'a> {
    /// What a decoder left of an object. Members that are `null` say nothing and are left out.
    pub fn rest(members: Members<'a>) -> Self {
        Extra(
            members
                .into_iter()
                .filter(|(_, node)| !node.is_null())
                .map(|(name, node)| ExtraMember { name, json: Cow::Borrowed(node.raw), at: node.at })
                .collect(),
        )
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&ExtraMember<'a>> {
        self.0.iter().find(|m| m.name == name)
    }
}
