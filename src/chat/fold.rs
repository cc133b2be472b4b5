//! From a stream's events to the answer they add up to.

use std::borrow::Cow;

use super::{
    Block, Choice, Delta, Dialect, Event, Extra, ExtraMember, Logprob, Open, Response, Start, Text, Thinking, Thought,
    ToolCall,
};
use crate::error::Error;
use crate::json::At;

/// Collects events. Events of a block that was never opened, and a second opening, are faults of the decoder and are told.
#[derive(Debug)]
pub struct Fold {
    response: Response<'static>,
    /// Per choice: its blocks in order of opening, and which are still open.
    open: Vec<Vec<bool>>,
    pub ended: bool,
    pub error: Option<Error>,
    /// Breaches of the order that `chat::event` promises.
    pub faults: Vec<String>,
}

// === impl Fold ===

impl Fold {
    pub fn new(dialect: Dialect) -> Self {
        Fold { response: Response::new(dialect), open: Vec::new(), ended: false, error: None, faults: Vec::new() }
    }

    pub fn push(&mut self, event: Event<'_>) {
        if self.ended || self.error.is_some() {
            self.faults.push("an event behind the end".to_owned());
            return;
        }
        match event {
            Event::Start(Start { id, model, created, service_tier }) => {
                self.response.id = id.map(own);
                self.response.model = model.map(own);
                self.response.created = created;
                self.response.service_tier = service_tier.map(own);
            }
            Event::Open { choice, block, open } => self.opened(choice as usize, block as usize, open),
            Event::Delta { choice, block, delta } => {
                let is_open = self.open.get(choice as usize).and_then(|c| c.get(block as usize)) == Some(&true);
                let found = self.response.choices.get_mut(choice as usize).filter(|_| is_open);
                match found {
                    Some(choice) => {
                        if let Err(fault) = grow(choice, block as usize, delta) {
                            self.faults.push(fault);
                        }
                    }
                    None => self.faults.push(format!("a piece of block {block}, which is not open")),
                }
            }
            Event::Close { choice, block } => {
                match self.open.get_mut(choice as usize).and_then(|c| c.get_mut(block as usize)) {
                    Some(open @ true) => *open = false,
                    _ => self.faults.push(format!("block {block} closed, which is not open")),
                }
            }
            Event::Stop { choice, stop } => {
                let at = choice as usize;
                self.reach(at);
                if self.open[at].contains(&true) {
                    self.faults.push("a stop with a block still open".to_owned());
                }
                let choice = &mut self.response.choices[at];
                if choice.stop.is_some() {
                    self.faults.push("a second stop".to_owned());
                }
                choice.stop = Some(super::Stop {
                    reason: reason(stop.reason),
                    sequence: stop.sequence.map(own),
                    detail: stop.detail.map(own),
                });
            }
            Event::Usage(usage) => self.response.usage = Some(usage),
            Event::Extra { dialect: _, name, json } => {
                self.response.extra.0.push(ExtraMember { name: own(name), json: own(json), at: At::NOWHERE });
            }
            Event::Ping => {}
            Event::Error(error) => self.error = Some(error),
            Event::End => self.ended = true,
        }
    }

    /// What has been said so far.
    pub fn finish(self) -> Response<'static> {
        self.response
    }

    fn reach(&mut self, choice: usize) {
        while self.response.choices.len() <= choice {
            self.response.choices.push(Choice::default());
            self.open.push(Vec::new());
        }
    }

    fn opened(&mut self, choice: usize, block: usize, open: Open<'_>) {
        // no provider answers more often than it was asked; a bound for what comes from outside
        if choice > 1024 {
            self.faults.push("a choice out of range".to_owned());
            return;
        }
        self.reach(choice);
        if self.open[choice].len() != block {
            self.faults.push(format!("block {block} opened out of order"));
            return;
        }
        self.open[choice].push(true);
        let at = At::NOWHERE;
        self.response.choices[choice].blocks.push(match open {
            Open::Text => Block::Text(Text::new("")),
            Open::Refusal => Block::Refusal(super::block::Refusal { text: Cow::Borrowed(""), at }),
            Open::Thinking { redacted, id } => Block::Thinking(Thinking {
                thoughts: Vec::new(),
                seal: None,
                redacted,
                id: id.map(own),
                at,
                extra: Extra::default(),
            }),
            Open::ToolCall { id, name, kind, item_id } => Block::ToolCall(ToolCall {
                id: own(id),
                name: own(name),
                kind,
                arguments: Cow::Borrowed(""),
                cache: None,
                seal: None,
                item_id: item_id.map(own),
                at,
                extra: Extra::default(),
            }),
            Open::Whole(block) => block.into_owned(),
        });
    }
}

fn grow(choice: &mut Choice<'static>, at: usize, delta: Delta<'_>) -> Result<(), String> {
    let Choice { blocks, logprobs, .. } = choice;
    let block = blocks.get_mut(at).ok_or("no such block")?;
    match (delta, block) {
        (Delta::Text(more), Block::Text(block)) => block.text.to_mut().push_str(&more),
        (Delta::Refusal(more), Block::Refusal(block)) => block.text.to_mut().push_str(&more),
        (Delta::Arguments(more), Block::ToolCall(call)) => call.arguments.to_mut().push_str(&more),
        (Delta::Citation(citation), Block::Text(block)) => block.citations.push(citation.into_owned()),
        (Delta::Logprobs(more), Block::Text(_) | Block::Refusal(_)) => {
            logprobs.extend(more.into_iter().map(Logprob::into_owned));
        }
        (Delta::Seal(seal), Block::Text(Text { seal: place, .. }))
        | (Delta::Seal(seal), Block::ToolCall(ToolCall { seal: place, .. })) => *place = Some(seal.into_owned()),
        (Delta::Seal(seal), Block::Thinking(block)) => match &mut block.seal {
            Some(before) if before.issuer == seal.issuer => before.raw.to_mut().push_str(&seal.raw),
            place => *place = Some(seal.into_owned()),
        },
        (Delta::Thought { part, summary, text }, Block::Thinking(block)) => {
            while block.thoughts.len() <= part.min(1024) as usize {
                block.thoughts.push(Thought { text: Cow::Borrowed(""), summary });
            }
            if let Some(thought) = block.thoughts.get_mut(part as usize) {
                thought.text.to_mut().push_str(&text);
            }
        }
        (delta, _) => return Err(format!("a piece of another kind of block: {delta:?}")),
    }
    Ok(())
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn reason(reason: super::StopReason<'_>) -> super::StopReason<'static> {
    use super::StopReason as R;
    match reason {
        R::End => R::End,
        R::Length => R::Length,
        R::Sequence => R::Sequence,
        R::ToolUse => R::ToolUse,
        R::ContentFilter => R::ContentFilter,
        R::Refusal => R::Refusal,
        R::Pause => R::Pause,
        R::ContextWindow => R::ContextWindow,
        R::MalformedCall => R::MalformedCall,
        R::Other(word) => R::Other(own(word)),
    }
}
