//! The stream of ConverseStream.
//!
//! Only tool calls announce their blocks: a text or a thought begins with its first piece. Sources may stand in a block of their own
//! behind the text they are of (Nova's grounding), or before the text of their own block (Claude's documents): so a text is closed when
//! the next block opens, and sources wait for what comes. Truth: botocore's service model (`ConverseStreamOutput`).

use std::borrow::Cow;

use super::whole::Collected;
use super::{citation, error, response, usage};
use crate::chat::{CallKind, Citation, Delta, Dialect, Event, Issuer, Open, Seal, Start, Stop, StopReason};
use crate::dialect::codec::{Garbled, StreamDecoder};
use crate::dialect::frame::Frame;
use crate::json::{Members, Node};

/// Most blocks open at once, and most bytes that are held of those told whole.
const MAX_OPEN: usize = 256;
const MAX_HELD: usize = 32 * 1024 * 1024;

#[derive(Debug)]
pub struct Decoder {
    issuer: Issuer,
    started: bool,
    /// `messageStop` has come.
    stopped: bool,
    /// `End` or `Error` was said.
    ended: bool,
    /// The number of the next block.
    next: u32,
    called: bool,
    open: Vec<OpenBlock>,
    /// A text that is at its end, open for sources that may follow.
    lingering: Option<u32>,
    held: usize,
}

#[derive(Debug)]
struct OpenBlock {
    /// `contentBlockIndex`
    index: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Text(u32),
    Thinking(u32),
    Call(u32),
    /// Sources whose text has not begun.
    Sources(Vec<Citation<'static>>),
    Collected(Collected),
    /// Of a kind we do not know.
    Unknown,
}

// === impl Decoder ===

impl StreamDecoder for Decoder {
    fn push<'f>(&mut self, frame: Frame<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        if self.ended {
            return Ok(());
        }
        if frame.exception {
            self.ended = true;
            out.push(Event::Error(error::of_exception(frame.name, frame.data)));
            return Ok(());
        }
        match frame.name {
            // there is nothing to say behind the end of the message
            name if self.stopped && name.starts_with("contentBlock") => {}
            "messageStart" => self.start(out),
            "contentBlockStart" => self.block_start(payload(frame)?, out)?,
            "contentBlockDelta" => self.block_delta(payload(frame)?, out)?,
            "contentBlockStop" => {
                let index = index(&mut payload(frame)?)?;
                self.block_stop(index, out);
            }
            "messageStop" => self.message_stop(payload(frame)?, out)?,
            "metadata" => self.metadata(payload(frame)?, out),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Event<'static>>) -> Result<(), Garbled> {
        if self.ended {
            return Ok(());
        }
        if !self.stopped {
            return Err(Garbled::new("the stream ended before `messageStop`"));
        }
        self.ended = true;
        out.push(Event::End);
        Ok(())
    }
}

fn payload<'f>(frame: Frame<'f>) -> Result<Members<'f>, Garbled> {
    Ok(Node::parse_reply(frame.data)?.object()?)
}

fn index(members: &mut Members<'_>) -> Result<u64, Garbled> {
    members.take_u64("contentBlockIndex")?.ok_or(Garbled::new("an event without `contentBlockIndex`"))
}

impl Decoder {
    pub fn new(issuer: Issuer) -> Self {
        Decoder {
            issuer,
            started: false,
            stopped: false,
            ended: false,
            next: 0,
            called: false,
            open: Vec::new(),
            lingering: None,
            held: 0,
        }
    }

    fn start(&mut self, out: &mut Vec<Event<'_>>) {
        if !self.started {
            self.started = true;
            out.push(Event::Start(Start::default()));
        }
    }

    fn block_start<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let index = index(&mut event)?;
        self.block_stop(index, out);
        for (kind, node) in event.take_object("start")?.unwrap_or_default() {
            let state = match &*kind {
                "toolUse" => {
                    let mut call = node.object()?;
                    let position = usize::try_from(index).unwrap_or(usize::MAX);
                    let id = response::call_id(call.take_string("toolUseId")?, position);
                    let name = call.take_string("name")?.unwrap_or_default();
                    if call.take_string("type")?.as_deref() == Some("server_tool_use") {
                        State::Collected(Collected::call(id, name))
                    } else {
                        self.called = true;
                        let open = Open::ToolCall { id, name, kind: CallKind::Function, item_id: None };
                        State::Call(self.open_block(open, out))
                    }
                }
                "toolResult" => State::Collected(Collected::result(node.object()?)?),
                "image" => State::Collected(Collected::image(node.object()?)?),
                _ => State::Unknown,
            };
            self.keep(index, state)?;
        }
        Ok(())
    }

    fn block_delta<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let index = index(&mut event)?;
        for (kind, node) in event.take_object("delta")?.unwrap_or_default() {
            match &*kind {
                "text" => self.text(index, node.string()?, out)?,
                "citation" => self.citation(index, node, out)?,
                "reasoningContent" => self.reasoning(index, node.object()?, out)?,
                _ => self.piece(index, &kind, node, out)?,
            }
        }
        Ok(())
    }

    fn text<'f>(&mut self, index: u64, text: Cow<'f, str>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        // some models begin with an empty text, which is none
        if text.is_empty() {
            return Ok(());
        }
        let block = match self.state(index) {
            Some(State::Text(block)) => *block,
            Some(State::Sources(sources)) => {
                let sources = std::mem::take(sources);
                let block = self.open_block(Open::Text, out);
                cite(block, sources, out);
                self.replace(index, State::Text(block));
                block
            }
            Some(_) => return Ok(()),
            None => {
                let block = self.open_block(Open::Text, out);
                self.keep(index, State::Text(block))?;
                block
            }
        };
        out.push(Event::Delta { choice: 0, block, delta: Delta::Text(text) });
        Ok(())
    }

    fn citation<'f>(&mut self, index: u64, node: Node<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let size = node.raw.len();
        let citation = citation::read(node)?;
        if let Some(State::Text(block)) = self.state(index) {
            let block = *block;
            out.push(Event::Delta { choice: 0, block, delta: Delta::Citation(citation) });
            return Ok(());
        }
        self.hold(size)?;
        match self.state(index) {
            Some(State::Sources(sources)) => sources.push(citation.into_owned()),
            Some(_) => {}
            None => self.keep(index, State::Sources(vec![citation.into_owned()]))?,
        }
        Ok(())
    }

    fn reasoning<'f>(&mut self, index: u64, mut content: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let text = content.take_string("text")?.filter(|text| !text.is_empty());
        let signature = content.take_string("signature")?.filter(|signature| !signature.is_empty());
        let hidden = content.take_string("redactedContent")?;
        let block = match self.state(index) {
            Some(State::Thinking(block)) => *block,
            Some(_) => return Ok(()),
            None if text.is_none() && signature.is_none() && hidden.is_none() => return Ok(()),
            None => {
                let block = self.open_block(Open::Thinking { redacted: hidden.is_some(), id: None }, out);
                self.keep(index, State::Thinking(block))?;
                block
            }
        };
        let thought = text.map(|text| Delta::Thought { part: 0, summary: false, text });
        let signature = signature.map(|signature| Delta::Seal(Seal::new(self.issuer, signature)));
        let hidden = hidden.map(|data| Delta::Seal(response::redacted_seal(data, self.issuer)));
        for delta in [thought, signature, hidden].into_iter().flatten() {
            out.push(Event::Delta { choice: 0, block, delta });
        }
        Ok(())
    }

    fn piece<'f>(&mut self, index: u64, kind: &str, node: Node<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        self.hold(node.raw.len())?;
        match self.state(index) {
            Some(State::Call(block)) if kind == "toolUse" => {
                let block = *block;
                self.held -= node.raw.len();
                let arguments = node.object()?.take_string("input")?.unwrap_or_default();
                if !arguments.is_empty() {
                    out.push(Event::Delta { choice: 0, block, delta: Delta::Arguments(arguments) });
                }
                Ok(())
            }
            Some(State::Collected(collected)) => collected.grow(kind, node),
            _ => {
                self.held -= node.raw.len();
                Ok(())
            }
        }
    }

    fn block_stop(&mut self, index: u64, out: &mut Vec<Event<'_>>) {
        let Some(at) = self.open.iter().position(|open| open.index == index) else { return };
        match self.open.remove(at).state {
            State::Text(block) => {
                self.close_lingering(out);
                self.lingering = Some(block);
            }
            State::Thinking(block) | State::Call(block) => out.push(Event::Close { choice: 0, block }),
            State::Sources(sources) => {
                let block = self.lingering.unwrap_or_else(|| self.open_block(Open::Text, out));
                self.lingering = Some(block);
                cite(block, sources, out);
            }
            State::Collected(collected) => {
                let block = self.open_block(Open::Whole(collected.block()), out);
                out.push(Event::Close { choice: 0, block });
            }
            State::Unknown => {}
        }
    }

    fn message_stop<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        if self.stopped {
            return Ok(());
        }
        self.start(out);
        while let Some(first) = self.open.first() {
            self.block_stop(first.index, out);
        }
        self.close_lingering(out);
        self.stopped = true;
        let reason = match event.take_string("stopReason")? {
            Some(word) => response::stop_reason(word),
            None if self.called => StopReason::ToolUse,
            None => StopReason::End,
        };
        let mut stop = Stop::new(reason);
        let fields = event.take("additionalModelResponseFields");
        if let Some(fields) = &fields {
            stop.sequence = response::stop_sequence(fields).map(|sequence| Cow::Owned(sequence.to_owned()));
        }
        out.push(Event::Stop { choice: 0, stop });
        if let Some(fields) = fields.filter(|fields| !response::says_only_the_sequence(fields)) {
            out.push(extra("additionalModelResponseFields", &fields));
        }
        Ok(())
    }

    /// Comes last.
    fn metadata<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) {
        self.start(out);
        if let Some(usage) = event.take("usage").as_ref().and_then(usage::read) {
            out.push(Event::Usage(usage));
        }
        // the time it took, which the gateway measures itself
        event.take("metrics");
        for (name, node) in event.into_iter().filter(|(_, node)| !node.is_null()) {
            out.push(extra(name, &node));
        }
        if self.stopped {
            self.ended = true;
            out.push(Event::End);
        }
    }

    fn open_block<'f>(&mut self, open: Open<'f>, out: &mut Vec<Event<'f>>) -> u32 {
        self.start(out);
        self.close_lingering(out);
        let block = self.next;
        self.next = self.next.saturating_add(1);
        out.push(Event::Open { choice: 0, block, open });
        block
    }

    fn close_lingering(&mut self, out: &mut Vec<Event<'_>>) {
        if let Some(block) = self.lingering.take() {
            out.push(Event::Close { choice: 0, block });
        }
    }

    fn state(&mut self, index: u64) -> Option<&mut State> {
        self.open.iter_mut().find(|open| open.index == index).map(|open| &mut open.state)
    }

    fn replace(&mut self, index: u64, state: State) {
        if let Some(place) = self.state(index) {
            *place = state;
        }
    }

    fn keep(&mut self, index: u64, state: State) -> Result<(), Garbled> {
        if self.open.len() >= MAX_OPEN {
            return Err(Garbled::new("more blocks open at once than are held"));
        }
        self.open.push(OpenBlock { index, state });
        Ok(())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Garbled> {
        self.held += bytes;
        if self.held > MAX_HELD { Err(Garbled::new("blocks longer than are held")) } else { Ok(()) }
    }
}

fn cite(block: u32, sources: Vec<Citation<'static>>, out: &mut Vec<Event<'_>>) {
    for citation in sources {
        out.push(Event::Delta { choice: 0, block, delta: Delta::Citation(citation) });
    }
}

fn extra<'f>(name: impl Into<Cow<'f, str>>, node: &Node<'f>) -> Event<'f> {
    Event::Extra { dialect: Dialect::Bedrock, name: name.into(), json: Cow::Borrowed(node.raw) }
}
