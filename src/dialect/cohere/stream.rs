//! The stream of chat.
//!
//! Contents and calls are counted apart. A text is closed when the next block opens, as its citations may come behind it.
//! Truth: the Cohere API reference, "Chat with Streaming (v2)".

use std::borrow::Cow;

use super::{citation, error, response};
use crate::chat::{CallKind, Delta, Dialect, Event, Open, Start, Stop, StopReason};
use crate::dialect::codec::{Garbled, StreamDecoder};
use crate::dialect::frame::Frame;
use crate::json::{Members, Node};

/// Most blocks open at once.
const MAX_OPEN: usize = 256;

#[derive(Debug, Default)]
pub struct Decoder {
    id: Option<String>,
    started: bool,
    /// `End` or `Error` was said.
    ended: bool,
    /// The number of the next block.
    next: u32,
    called: bool,
    open: Vec<OpenBlock>,
    /// A text that is at its end, open for citations that may follow, and its number among the contents.
    lingering: Option<(u64, u32)>,
}

#[derive(Debug)]
struct OpenBlock {
    kind: Kind,
    index: u64,
    block: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Plan,
    Call,
}

// === impl Decoder ===

impl StreamDecoder for Decoder {
    fn push<'f>(&mut self, frame: Frame<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        if self.ended || frame.data == b"[DONE]" {
            return Ok(());
        }
        let mut event = Node::parse_reply(frame.data)?.object()?;
        let kind = event.take_string("type")?.unwrap_or(Cow::Borrowed(frame.name));
        match &*kind {
            "message-start" => {
                let id = event.take_string("id")?;
                self.id = id.as_deref().map(str::to_owned);
                self.start(id, out);
            }
            "content-start" | "content-delta" => self.content(event, out)?,
            "content-end" => {
                let index = index(&mut event)?;
                self.close(index, |kind| matches!(kind, Kind::Text | Kind::Thinking), out);
            }
            "tool-plan-delta" => {
                if let Some(plan) = message(&mut event)?.take_string("tool_plan")? {
                    self.piece(Kind::Plan, 0, plan, out)?;
                }
            }
            "tool-call-start" => self.call_start(event, out)?,
            "tool-call-delta" => self.call_delta(event, out)?,
            "tool-call-end" => {
                let index = index(&mut event)?;
                self.close(index, |kind| kind == Kind::Call, out);
            }
            "citation-start" => self.citation(event, out)?,
            "message-end" => self.end(event, out)?,
            // an error in place of an event
            "" if event.get("message").is_some() => {
                self.ended = true;
                out.push(Event::Error(error::in_stream(event.take_string("message")?.unwrap_or_default())));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<Event<'static>>) -> Result<(), Garbled> {
        if self.ended { Ok(()) } else { Err(Garbled::new("the stream ended before `message-end`")) }
    }
}

fn index(event: &mut Members<'_>) -> Result<u64, Garbled> {
    Ok(event.take_u64("index")?.unwrap_or(0))
}

/// `delta.message`
fn message<'f>(event: &mut Members<'f>) -> Result<Members<'f>, Garbled> {
    let mut delta = event.take_object("delta")?.unwrap_or_default();
    Ok(delta.take_object("message")?.unwrap_or_default())
}

impl Decoder {
    fn start<'f>(&mut self, id: Option<Cow<'f, str>>, out: &mut Vec<Event<'f>>) {
        if !self.started {
            self.started = true;
            out.push(Event::Start(Start { id, ..Start::default() }));
        }
    }

    fn content<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let index = index(&mut event)?;
        let logprobs = event.take("logprobs");
        let mut content = message(&mut event)?.take_object("content")?.unwrap_or_default();
        if let Some(thought) = content.take_string("thinking")? {
            self.piece(Kind::Thinking, index, thought, out)?;
        }
        if let Some(text) = content.take_string("text")? {
            self.piece(Kind::Text, index, text, out)?;
        }
        let open = self.open.iter().find(|open| open.kind == Kind::Text && open.index == index);
        if let (Some(logprobs), Some(block)) = (logprobs, open.map(|open| open.block))
            && let Some(logprob) = response::logprob(logprobs)?
        {
            out.push(Event::Delta { choice: 0, block, delta: Delta::Logprobs(vec![logprob]) });
        }
        Ok(())
    }

    /// A piece of a text or a thought, which begins with its first.
    fn piece<'f>(
        &mut self,
        kind: Kind,
        index: u64,
        text: Cow<'f, str>,
        out: &mut Vec<Event<'f>>,
    ) -> Result<(), Garbled> {
        if text.is_empty() {
            return Ok(());
        }
        let open = self.open.iter().find(|open| open.kind == kind && open.index == index);
        let block = match open.map(|open| open.block) {
            Some(block) => block,
            None if kind == Kind::Text => self.open(kind, index, Open::Text, out)?,
            None => self.open(kind, index, Open::Thinking { redacted: false, id: None }, out)?,
        };
        let delta = match kind {
            Kind::Text => Delta::Text(text),
            _ => Delta::Thought { part: 0, summary: false, text },
        };
        out.push(Event::Delta { choice: 0, block, delta });
        Ok(())
    }

    fn call_start<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let index = index(&mut event)?;
        self.close(index, |kind| kind == Kind::Call, out);
        let mut call = message(&mut event)?.take_object("tool_calls")?.unwrap_or_default();
        let mut function = call.take_object("function")?.unwrap_or_default();
        let position = usize::try_from(index).unwrap_or(usize::MAX);
        let id = response::call_id(call.take_string("id")?, position, self.id.as_deref());
        let name = function.take_string("name")?.unwrap_or_default();
        self.called = true;
        let open = Open::ToolCall { id, name, kind: CallKind::Function, item_id: None };
        let block = self.open(Kind::Call, index, open, out)?;
        arguments(block, function, out)
    }

    fn call_delta<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let index = index(&mut event)?;
        let mut call = message(&mut event)?.take_object("tool_calls")?.unwrap_or_default();
        let function = call.take_object("function")?.unwrap_or_default();
        match self.open.iter().find(|open| open.kind == Kind::Call && open.index == index) {
            Some(open) => arguments(open.block, function, out),
            None => Ok(()),
        }
    }

    fn citation<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let Some(node) = message(&mut event)?.take("citations") else { return Ok(()) };
        let Some(cited) = citation::read(node)? else { return Ok(()) };
        let open = self.open.iter().filter(|open| open.kind == Kind::Text).map(|open| (open.index, open.block));
        let mut texts = open.chain(self.lingering);
        let place = match cited.content {
            Some(content) => texts.find(|(index, _)| *index == content),
            None => texts.next(),
        };
        if let Some((_, block)) = place {
            for citation in cited.citations {
                out.push(Event::Delta { choice: 0, block, delta: Delta::Citation(citation) });
            }
        }
        Ok(())
    }

    fn end<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        self.start(None, out);
        self.ended = true;
        let mut delta = event.take_object("delta")?.unwrap_or_default();
        if let Some(error) = delta.take_string("error")?.filter(|error| !error.is_empty()) {
            out.push(Event::Error(error::in_stream(error)));
            return Ok(());
        }
        for open in std::mem::take(&mut self.open) {
            out.push(Event::Close { choice: 0, block: open.block });
        }
        self.close_lingering(out);
        let reason = match delta.take_string("finish_reason")? {
            Some(word) => response::stop_reason(word),
            None if self.called => StopReason::ToolUse,
            None => StopReason::End,
        };
        out.push(Event::Stop { choice: 0, stop: Stop::new(reason) });
        if let Some(usage) = delta.take("usage").as_ref().and_then(response::usage) {
            out.push(Event::Usage(usage));
        }
        for (name, node) in delta.into_iter().filter(|(_, node)| !node.is_null()) {
            out.push(Event::Extra { dialect: Dialect::Cohere, name, json: Cow::Borrowed(node.raw) });
        }
        out.push(Event::End);
        Ok(())
    }

    fn open<'f>(&mut self, kind: Kind, index: u64, open: Open<'f>, out: &mut Vec<Event<'f>>) -> Result<u32, Garbled> {
        self.start(None, out);
        self.close_lingering(out);
        // nothing ends a plan but what comes next
        self.close(0, |kind| kind == Kind::Plan, out);
        if self.open.len() >= MAX_OPEN {
            return Err(Garbled::new("more blocks open at once than are held"));
        }
        let block = self.next;
        self.next = self.next.saturating_add(1);
        self.open.push(OpenBlock { kind, index, block });
        out.push(Event::Open { choice: 0, block, open });
        Ok(block)
    }

    fn close(&mut self, index: u64, of: impl Fn(Kind) -> bool, out: &mut Vec<Event<'_>>) {
        let Some(at) = self.open.iter().position(|open| of(open.kind) && open.index == index) else { return };
        let open = self.open.remove(at);
        if open.kind == Kind::Text {
            self.close_lingering(out);
            self.lingering = Some((open.index, open.block));
        } else {
            out.push(Event::Close { choice: 0, block: open.block });
        }
    }

    fn close_lingering(&mut self, out: &mut Vec<Event<'_>>) {
        if let Some((_, block)) = self.lingering.take() {
            out.push(Event::Close { choice: 0, block });
        }
    }
}

fn arguments<'f>(block: u32, mut function: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
    let arguments = function.take_string("arguments")?.unwrap_or_default();
    if !arguments.is_empty() {
        out.push(Event::Delta { choice: 0, block, delta: Delta::Arguments(arguments) });
    }
    Ok(())
}
