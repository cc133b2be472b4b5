//! What is answered, as it comes.
//!
//! The order every decoder keeps: `Start` once; then for each block `Open`, any number of `Delta`, `Close`; `Stop` once for each choice
//! after its last block; `Usage` whenever the provider says it (later ones replace earlier ones); `End` once, last. Blocks of one choice
//! are numbered from 0 in the order of their opening and may overlap in time (parallel tool calls do, in chat completions). `Ping` and
//! `Error` may come anywhere; after `Error` comes nothing.

use std::borrow::Cow;

use super::{Block, CallKind, Citation, Dialect, Json, Logprob, Seal, Stop, Usage};
use crate::error::Error;

#[derive(Debug)]
pub enum Event<'a> {
    Start(Start<'a>),
    Open {
        choice: u32,
        block: u32,
        open: Open<'a>,
    },
    Delta {
        choice: u32,
        block: u32,
        delta: Delta<'a>,
    },
    Close {
        choice: u32,
        block: u32,
    },
    Stop {
        choice: u32,
        stop: Stop<'a>,
    },
    Usage(Usage),
    /// A fact of the answer as a whole that comes with its end and that only its dialect knows (grounding metadata, traces).
    Extra {
        dialect: Dialect,
        name: Cow<'a, str>,
        json: Json<'a>,
    },
    /// The provider is alive.
    Ping,
    /// The provider broke off and said why.
    Error(Error),
    End,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start<'a> {
    pub id: Option<Cow<'a, str>>,
    pub model: Option<Cow<'a, str>>,
    /// Unix seconds.
    pub created: Option<u64>,
    pub service_tier: Option<Cow<'a, str>>,
}

/// What a block is, said when it opens. All that comes in pieces comes later as [`Delta`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open<'a> {
    Text,
    Refusal,
    Thinking {
        redacted: bool,
        id: Option<Cow<'a, str>>,
    },
    ToolCall {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        kind: CallKind,
        item_id: Option<Cow<'a, str>>,
    },
    /// A block that comes at once: media, server calls and results, native blocks. No delta follows.
    Whole(Block<'a>),
}

/// A piece of an open block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta<'a> {
    /// Of a text.
    Text(Cow<'a, str>),
    /// Of a refusal.
    Refusal(Cow<'a, str>),
    /// Of a thought. `part` counts the thoughts of the block.
    Thought { part: u32, summary: bool, text: Cow<'a, str> },
    /// Of any block that can be sealed; whole.
    Seal(Seal<'a>),
    /// Of a tool call's arguments.
    Arguments(Cow<'a, str>),
    /// Of a text; whole.
    Citation(Citation<'a>),
    /// Of a text; belongs to the tokens just sent.
    Logprobs(Vec<Logprob<'a>>),
} // === impl Delta ===

impl Delta<'_> {
    /// Bytes of what the model says in it.
    pub fn said(&self) -> usize {
        match self {
            Delta::Text(text) | Delta::Refusal(text) | Delta::Arguments(text) => text.len(),
            Delta::Thought { part: _, summary: _, text } => text.len(),
            Delta::Seal(_) | Delta::Citation(_) | Delta::Logprobs(_) => 0,
        }
    }
}
