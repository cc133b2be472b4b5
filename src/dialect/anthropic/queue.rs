//! Blocks that are said while another is still being written.
//!
//! In this dialect's streams one block ends before the next begins; in others several tool calls may be open at once. The first streams
//! through, the others wait here with all that is said of them. Bounded by bytes and by number.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::blocks_out::placeholder;
use super::encode_response::whole;
use crate::chat::{Block, Delta, Losses, Open};
use crate::json::At;

/// Most bytes that wait.
const MOST_HELD: usize = 16 * 1024 * 1024;
/// Most blocks that wait.
const MOST_WAITING: usize = 1_024;

/// What a block is in a stream of this dialect.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Text,
    Refusal,
    Thinking {
        redacted: bool,
    },
    ToolCall {
        id: String,
        name: String,
    },
    /// Written at once.
    Json(String),
    /// There is no form for it.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub block: u32,
    pub what: What,
    pub deltas: Vec<Delta<'static>>,
    pub closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    held: usize,
}

/// More waits than is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

// === impl Queue ===

impl Queue {
    pub(super) fn open(&mut self, block: u32, what: What, deltas: Vec<Delta<'_>>) -> Result<(), Full> {
        if self.waiting.len() >= MOST_WAITING {
            return Err(Full);
        }
        self.waiting.push_back(Waiting { block, what, deltas: Vec::new(), closed: false });
        deltas.into_iter().try_for_each(|delta| self.add(block, delta))
    }

    pub(super) fn add(&mut self, block: u32, delta: Delta<'_>) -> Result<(), Full> {
        let Some(waiting) = self.waiting.iter_mut().rev().find(|waiting| waiting.block == block) else {
            return Ok(());
        };
        self.held += match &delta {
            Delta::Text(text) | Delta::Refusal(text) | Delta::Arguments(text) | Delta::Thought { text, .. } => {
                text.len()
            }
            Delta::Seal(seal) => seal.raw.len(),
            Delta::Citation(_) | Delta::Logprobs(_) => 512,
        };
        if self.held > MOST_HELD {
            return Err(Full);
        }
        match (waiting.deltas.last_mut(), delta) {
            (Some(Delta::Text(before)), Delta::Text(more))
            | (Some(Delta::Arguments(before)), Delta::Arguments(more)) => before.to_mut().push_str(&more),
            (_, delta) => waiting.deltas.push(owned(delta)),
        }
        Ok(())
    }

    pub(super) fn close(&mut self, block: u32) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.block == block) {
            waiting.closed = true;
        }
    }

    pub(super) fn next(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front();
        if self.waiting.is_empty() {
            self.held = 0;
        }
        next
    }
}

fn owned(delta: Delta<'_>) -> Delta<'static> {
    let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
    match delta {
        Delta::Text(text) => Delta::Text(own(text)),
        Delta::Refusal(text) => Delta::Refusal(own(text)),
        Delta::Thought { part, summary, text } => Delta::Thought { part, summary, text: own(text) },
        Delta::Seal(seal) => Delta::Seal(seal.into_owned()),
        Delta::Arguments(text) => Delta::Arguments(own(text)),
        Delta::Citation(citation) => Delta::Citation(citation.into_owned()),
        // not written in this dialect
        Delta::Logprobs(_) => Delta::Logprobs(Vec::new()),
    }
}

// === impl What ===

impl What {
    /// What opens, and what is already said of it.
    pub(super) fn of<'a>(open: Open<'a>, losses: &mut Losses) -> (What, Vec<Delta<'a>>) {
        match open {
            Open::Text => (What::Text, Vec::new()),
            Open::Refusal => (What::Refusal, Vec::new()),
            Open::Thinking { redacted, id: _ } => (What::Thinking { redacted }, Vec::new()),
            Open::ToolCall { id, name, kind: _, item_id: _ } => {
                (What::ToolCall { id: id.into_owned(), name: name.into_owned() }, Vec::new())
            }
            Open::Whole(block) => What::of_whole(block, losses),
        }
    }

    fn of_whole<'a>(block: Block<'a>, losses: &mut Losses) -> (What, Vec<Delta<'a>>) {
        match block {
            Block::Text(block) => {
                let citations = block.citations.into_iter().map(Delta::Citation);
                let seal = block.seal.map(Delta::Seal).into_iter();
                (What::Text, seal.chain([Delta::Text(block.text)]).chain(citations).collect())
            }
            Block::Refusal(block) => (What::Refusal, vec![Delta::Refusal(block.text)]),
            Block::Media(media) => {
                losses.dropped(At::NOWHERE, "media");
                let seal = media.seal.map(Delta::Seal).into_iter();
                (What::Text, seal.chain([Delta::Text(placeholder(media.kind).into())]).collect())
            }
            Block::Thinking(block) => {
                let thoughts = (0..).zip(block.thoughts);
                let thoughts = thoughts.map(|(part, t)| Delta::Thought { part, summary: t.summary, text: t.text });
                let deltas = thoughts.chain(block.seal.map(Delta::Seal)).collect();
                (What::Thinking { redacted: block.redacted }, deltas)
            }
            Block::ToolCall(call) => {
                let seal = call.seal.map(Delta::Seal).into_iter();
                let what = What::ToolCall { id: call.id.into_owned(), name: call.name.into_owned() };
                (what, seal.chain([Delta::Arguments(call.arguments)]).collect())
            }
            Block::ToolResult(_) | Block::ServerCall(_) | Block::ServerResult(_) | Block::Native(_) => {
                match whole(&block) {
                    Some(json) => (What::Json(json.into_owned()), Vec::new()),
                    None => {
                        losses.dropped(At::NOWHERE, "");
                        (What::Nothing, Vec::new())
                    }
                }
            }
        }
    }
}
