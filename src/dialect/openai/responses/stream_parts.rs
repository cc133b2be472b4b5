//! The pieces that a stream's items are made of, and how much of each was said.

use std::borrow::Cow;

use crate::chat::{Citation, Delta, Event, Logprob};

/// A part of a message: a block of its own.
#[derive(Debug)]
pub struct Part {
    pub index: u64,
    pub block: u32,
    pub refusal: bool,
    /// Bytes of the text said.
    pub sent: usize,
    pub citations: usize,
    pub logprobs: bool,
    pub open: bool,
    pub done: bool,
}

#[derive(Debug)]
pub struct Thought {
    /// Of a summary or not, and where in it.
    pub of: (bool, u64),
    pub sent: usize,
}

/// Say a piece of a thought; a new one when it is the first of it.
pub fn push_thought<'f>(
    block: u32,
    thoughts: &mut Vec<Thought>,
    of: (bool, u64),
    text: Cow<'f, str>,
    out: &mut Vec<Event<'f>>,
) {
    let at = match thoughts.iter().position(|thought| thought.of == of) {
        Some(at) => at,
        // what goes beyond is said with the last
        None if thoughts.len() >= 1024 => thoughts.len() - 1,
        None => {
            thoughts.push(Thought { of, sent: 0 });
            thoughts.len() - 1
        }
    };
    if let Some(thought) = thoughts.get_mut(at) {
        thought.sent += text.len();
    }
    let delta = Delta::Thought { part: u32::try_from(at).unwrap_or(u32::MAX), summary: of.0, text };
    out.push(Event::Delta { choice: 0, block, delta });
}

// === impl Part ===

impl Part {
    pub fn new(index: u64, block: u32, refusal: bool) -> Self {
        Part { index, block, refusal, sent: 0, citations: 0, logprobs: false, open: true, done: false }
    }

    pub fn say<'f>(&mut self, text: Cow<'f, str>, out: &mut Vec<Event<'f>>) {
        self.sent += text.len();
        if !text.is_empty() {
            let delta = if self.refusal { Delta::Refusal(text) } else { Delta::Text(text) };
            out.push(Event::Delta { choice: 0, block: self.block, delta });
        }
    }

    pub fn say_rest<'f>(&mut self, text: Cow<'f, str>, out: &mut Vec<Event<'f>>) {
        if let Some(rest) = rest(text, self.sent) {
            self.say(rest, out);
        }
    }

    /// `whole`: these are those of the whole text, which says nothing new if some were said.
    pub fn say_logprobs<'f>(&mut self, list: Vec<Logprob<'f>>, whole: bool, out: &mut Vec<Event<'f>>) {
        if list.is_empty() || (whole && self.logprobs) {
            return;
        }
        self.logprobs = true;
        out.push(Event::Delta { choice: 0, block: self.block, delta: Delta::Logprobs(list) });
    }

    pub fn say_citation<'f>(&mut self, citation: Citation<'f>, out: &mut Vec<Event<'f>>) {
        self.citations += 1;
        if !self.refusal {
            out.push(Event::Delta { choice: 0, block: self.block, delta: Delta::Citation(citation) });
        }
    }

    pub fn close(&mut self, out: &mut Vec<Event<'_>>) {
        if std::mem::replace(&mut self.open, false) {
            out.push(Event::Close { choice: 0, block: self.block });
        }
    }
}

/// The end of a text of which so many bytes were said.
pub fn rest(text: Cow<'_, str>, sent: usize) -> Option<Cow<'_, str>> {
    if sent == 0 {
        return Some(text).filter(|text| !text.is_empty());
    }
    let rest = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(sent..)?),
        Cow::Owned(text) => Cow::Owned(text.get(sent..)?.to_owned()),
    };
    Some(rest).filter(|rest| !rest.is_empty())
}
