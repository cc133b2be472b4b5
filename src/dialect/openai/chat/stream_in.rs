//! A stream of chat completion chunks, read.
//!
//! Vendors differ in nearly everything but the envelope: who repeats ids, where usage stands, whether `[DONE]` comes. A choice ends when
//! the stream does, because pieces may come behind its `finish_reason`. What the pieces of one choice are is `stream_choice`'s business.

use std::borrow::Cow;

use super::rest;
use super::stream_choice::Choice;
use crate::chat::{Dialect, Event, Start};
use crate::dialect::openai::{refusal, usage};
use crate::dialect::{Frame, Garbled, StreamDecoder};
use crate::json::{Members, Node, Value};

/// Nobody is asked for more answers at once than OpenAI gives.
const MOST_CHOICES: u64 = 128;

/// Facts of the answer as a whole are kept to its end: so many, and none longer.
const MOST_EXTRA: usize = 16;
const LONGEST_EXTRA: usize = 256 * 1024;

/// Members of a chunk that mean nothing: padding against those who count bytes on the wire.
const PADDING: [&str; 2] = ["obfuscation", "p"];

#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// `End` or `Error` was said.
    ended: bool,
    /// The answer's id: ids of calls are made from it where a vendor gives none.
    seed: String,
    choices: Vec<Choice>,
    /// The last of each member that only this dialect knows.
    extra: Vec<(String, String)>,
}

impl StreamDecoder for Decoder {
    fn push<'f>(&mut self, frame: Frame<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let data = frame.data.trim_ascii();
        if self.ended || data.is_empty() {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.end(out);
            return Ok(());
        }
        let node = Node::parse_reply(data)?;
        let alarm = frame.exception || frame.name == "error";
        match node.value {
            Value::Object(ref members) if !alarm && !is_error(members) => self.chunk(node, out),
            Value::Object(_) | Value::String(_) => {
                self.ended = true;
                out.push(Event::Error(refusal::event(node)));
                Ok(())
            }
            _ => Err(Garbled::new("a chunk that is no object")),
        }
    }

    fn finish(&mut self, out: &mut Vec<Event<'static>>) -> Result<(), Garbled> {
        if self.ended {
            return Ok(());
        }
        // some vendors leave `[DONE]` out
        let mut seen = self.choices.iter().filter(|choice| choice.seen()).peekable();
        if seen.peek().is_none() || !seen.all(Choice::finished) {
            return Err(Garbled::new("the stream ended before the answer did"));
        }
        self.end(out);
        Ok(())
    }
}

/// An error in place of a chunk, or beside an empty one.
fn is_error(chunk: &Members<'_>) -> bool {
    let says = |name: &str| chunk.get(name).is_some_and(|node| !node.is_null());
    says("error") || !says("choices") && (says("message") || says("detail"))
}

impl Decoder {
    fn chunk<'f>(&mut self, node: Node<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let mut chunk = node.object()?;
        let choices = rest::list(&mut chunk, "choices");
        self.start(&mut chunk, !choices.is_empty(), out);
        for node in choices {
            let Ok(mut choice) = node.object() else { continue };
            if let Some(error) = choice.take("error") {
                self.ended = true;
                out.push(Event::Error(refusal::event(error)));
                return Ok(());
            }
            // Moonshot: usage stands in the choice
            self.usage(&mut choice, out);
            let index = rest::number(&mut choice, "index").unwrap_or(0);
            if index >= MOST_CHOICES {
                return Err(Garbled::new("a choice out of range"));
            }
            let at = index as usize;
            while self.choices.len() <= at {
                self.choices.push(Choice::new(self.choices.len() as u32));
            }
            if let Some(state) = self.choices.get_mut(at) {
                state.read(choice, &self.seed, out)?;
            }
        }
        // Groq: usage stands in its own member
        if !self.usage(&mut chunk, out)
            && let Some(mut groq) = rest::inner(&mut chunk, "x_groq")
        {
            self.usage(&mut groq, out);
        }
        rest::forget(&mut chunk, &["id", "model", "choices", "service_tier"]);
        self.keep(chunk);
        Ok(())
    }

    /// Azure's first chunk, about the filters, says nothing of the answer.
    fn start<'f>(&mut self, chunk: &mut Members<'f>, has_choices: bool, out: &mut Vec<Event<'f>>) {
        chunk.take("object");
        let id = rest::words(chunk, "id");
        let model = rest::words(chunk, "model");
        let created = rest::number(chunk, "created");
        let service_tier = rest::words(chunk, "service_tier");
        if !self.started && (has_choices || id.is_some()) {
            self.started = true;
            self.seed = id.as_deref().unwrap_or_default().to_owned();
            let created = created.filter(|time| *time > 0);
            out.push(Event::Start(Start { id, model, created, service_tier }));
        }
    }

    fn usage<'f>(&mut self, members: &mut Members<'f>, out: &mut Vec<Event<'f>>) -> bool {
        let Some(node) = members.take("usage") else { return false };
        let (read, left) = usage::take(node);
        let Some(read) = read else { return false };
        out.push(Event::Usage(read));
        if let Some(left) = left {
            self.keep_one("usage", &left);
        }
        true
    }

    fn keep(&mut self, left: Members<'_>) {
        for (name, node) in left.iter().filter(|(name, node)| !node.is_null() && !PADDING.contains(name)) {
            self.keep_one(name, node.raw);
        }
    }

    fn keep_one(&mut self, name: &str, json: &str) {
        if json.len() > LONGEST_EXTRA {
            return;
        }
        let room = self.extra.len() < MOST_EXTRA;
        match self.extra.iter_mut().find(|(kept, _)| kept == name) {
            // most say the same in every chunk
            Some((_, before)) if before == json => {}
            Some((_, before)) => json.clone_into(before),
            None if room => self.extra.push((name.to_owned(), json.to_owned())),
            None => {}
        }
    }

    fn end(&mut self, out: &mut Vec<Event<'_>>) {
        self.ended = true;
        if !self.started {
            out.push(Event::Start(Start::default()));
        }
        for choice in self.choices.iter_mut().filter(|choice| choice.seen()) {
            choice.end(out);
        }
        for (name, json) in self.extra.drain(..) {
            out.push(Event::Extra { dialect: Dialect::OpenAiChat, name: Cow::Owned(name), json: Cow::Owned(json) });
        }
        out.push(Event::End);
    }
}
