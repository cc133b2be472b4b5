//! An event stream, read.
//!
//! Text, thoughts and arguments pass on as they come, borrowed from their frame. Blocks that other dialects know only whole (server
//! tools, blocks of this dialect alone) are held until they are complete; signatures until their block ends. What is held is bounded.
//! Truth: Anthropic, "Streaming messages"; the SDK's `RawMessageStreamEvent`. Unknown events and deltas are passed over, as it demands.

use std::borrow::Cow;

use super::blocks_in::{Side, block};
use super::decode_response::{stop, tier};
use super::usage::Reported;
use super::{citation, refusal};
use crate::chat::{Block, CallKind, Delta, Dialect, Event, Issuer, Open, Seal, Start, Stop, StopReason};
use crate::dialect::{Frame, Garbled, StreamDecoder};
use crate::json::{Members, Node, Writer};

/// Most bytes held of blocks that are not complete.
const MOST_HELD: usize = 16 * 1024 * 1024;
/// Most blocks open at once: Anthropic opens one after another.
const MOST_OPEN: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    stopped: bool,
    /// `End` or `Error` has been said.
    over: bool,
    open: Vec<OpenBlock>,
    /// Blocks opened so far.
    blocks: u32,
    held: usize,
    usage: Reported,
}

#[derive(Debug)]
struct OpenBlock {
    /// Anthropic's number, and ours.
    index: u64,
    block: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Text,
    Thinking {
        seal: String,
    },
    /// `input`: what stood at the start, until a piece comes.
    ToolCall {
        input: Option<String>,
    },
    /// Not said before it is complete.
    Held {
        json: String,
        input: String,
        /// Members that deltas replaced.
        content: Vec<(String, String)>,
    },
}

// === impl Decoder ===

impl StreamDecoder for Decoder {
    fn push<'f>(&mut self, frame: Frame<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let data = frame.data.trim_ascii();
        if self.over || data.is_empty() || data == b"[DONE]" {
            return Ok(());
        }
        let mut event = Node::parse_reply(data)?.object()?;
        let kind = event.take_string("type")?.unwrap_or(Cow::Borrowed(frame.name));
        match &*kind {
            "message_start" => self.start(event, out),
            "content_block_start" => self.open(event, out),
            "content_block_delta" => self.delta(event, out),
            "content_block_stop" => match event.take_u64("index")? {
                Some(index) => self.close(index, out),
                None => Err(Garbled::new("content_block_stop without an index")),
            },
            "message_delta" => self.message_delta(event, out),
            "message_stop" => self.end(out),
            "ping" => {
                out.push(Event::Ping);
                Ok(())
            }
            _ if kind == "error" || event.get("error").is_some_and(|error| error.as_object().is_some()) => {
                self.over = true;
                out.push(Event::Error(refusal::in_band(&event)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, out: &mut Vec<Event<'static>>) -> Result<(), Garbled> {
        if self.over {
            return Ok(());
        }
        if !self.stopped {
            return Err(Garbled::new("the stream ended before message_stop"));
        }
        self.end(out)
    }
}

impl Decoder {
    fn start<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        if std::mem::replace(&mut self.started, true) {
            return Err(Garbled::new("a second message_start"));
        }
        let mut message = event.take_object("message")?.unwrap_or_default();
        let usage = message.take("usage");
        out.push(Event::Start(Start {
            id: message.take_string("id")?,
            model: message.take_string("model")?,
            created: None,
            service_tier: usage.as_ref().and_then(tier).map(Cow::Owned),
        }));
        self.used(usage, out);
        Ok(())
    }

    fn used(&mut self, usage: Option<Node<'_>>, out: &mut Vec<Event<'_>>) {
        if let Some(reported) = usage.and_then(|node| Reported::read(node.raw)) {
            self.usage.merge(reported);
            out.extend(self.usage.usage().map(Event::Usage));
        }
    }

    fn open<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        if !std::mem::replace(&mut self.started, true) {
            out.push(Event::Start(Start::default()));
        }
        let index = event.take_u64("index")?.ok_or(Garbled::new("content_block_start without an index"))?;
        let node = event.take("content_block").ok_or(Garbled::new("content_block_start without a block"))?;
        if self.stopped || self.open.len() >= MOST_OPEN || self.open.iter().any(|open| open.index == index) {
            return Err(Garbled::new("a block opened out of order"));
        }
        let json = node.raw;
        let number = self.blocks;
        let say = |out: &mut Vec<Event<'f>>, open| out.push(Event::Open { choice: 0, block: number, open });
        let more = |out: &mut Vec<Event<'f>>, delta| out.push(Event::Delta { choice: 0, block: number, delta });
        let kind = match block(node, Side::Reply)? {
            Block::Text(text) => {
                say(out, Open::Text);
                if !text.text.is_empty() {
                    more(out, Delta::Text(text.text));
                }
                text.citations.into_iter().for_each(|citation| more(out, Delta::Citation(citation)));
                Kind::Text
            }
            Block::Thinking(thinking) => {
                say(out, Open::Thinking { redacted: thinking.redacted, id: None });
                for thought in thinking.thoughts {
                    more(out, Delta::Thought { part: 0, summary: thought.summary, text: thought.text });
                }
                let seal = thinking.seal.map(|seal| seal.pack(Issuer::Anthropic).into_owned()).unwrap_or_default();
                Kind::Thinking { seal: self.hold(seal)? }
            }
            Block::ToolCall(call) => {
                let input = call.arguments;
                say(
                    out,
                    Open::ToolCall { id: call.id, name: call.name, kind: CallKind::Function, item_id: call.item_id },
                );
                Kind::ToolCall { input: Some(self.hold(input.into_owned())?) }
            }
            _ => Kind::Held { json: self.hold(json.to_owned())?, input: String::new(), content: Vec::new() },
        };
        // of a held block the number is taken when it is said
        let block = if matches!(kind, Kind::Held { .. }) { u32::MAX } else { self.take_number() };
        self.open.push(OpenBlock { index, block, kind });
        Ok(())
    }

    fn take_number(&mut self) -> u32 {
        let number = self.blocks;
        self.blocks = self.blocks.saturating_add(1);
        number
    }

    fn hold(&mut self, text: String) -> Result<String, Garbled> {
        self.held += text.len();
        if self.held > MOST_HELD {
            return Err(Garbled::new("a block too large to hold"));
        }
        Ok(text)
    }

    fn delta<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let index = event.take_u64("index")?.ok_or(Garbled::new("content_block_delta without an index"))?;
        let mut delta = event.take_object("delta")?.ok_or(Garbled::new("content_block_delta without a delta"))?;
        let kind = delta.take_string("type")?.unwrap_or_default();
        let Some(at) = self.open.iter().position(|open| open.index == index) else {
            return Err(Garbled::new("a piece of a block that is not open"));
        };
        // what a piece adds to what is held
        let text = match &*kind {
            "text_delta" => delta.take_string("text")?,
            "thinking_delta" => delta.take_string("thinking")?,
            "input_json_delta" => delta.take_string("partial_json")?,
            "signature_delta" => delta.take_string("signature")?,
            _ => None,
        }
        .unwrap_or_default();
        let Some(OpenBlock { block, kind: open, .. }) = self.open.get_mut(at) else { return Ok(()) };
        let block = *block;
        let mut say = |delta| out.push(Event::Delta { choice: 0, block, delta });
        match (open, &*kind) {
            (Kind::Text, "text_delta") if !text.is_empty() => say(Delta::Text(text)),
            (Kind::Text, "citations_delta") => {
                if let Some(citation) = delta.take("citation").and_then(citation::read) {
                    say(Delta::Citation(citation));
                }
            }
            (Kind::Thinking { .. }, "thinking_delta") if !text.is_empty() => {
                say(Delta::Thought { part: 0, summary: false, text });
            }
            (Kind::Thinking { seal }, "signature_delta") => {
                self.held += text.len();
                seal.push_str(&text);
            }
            (Kind::ToolCall { input }, "input_json_delta") if !text.is_empty() => {
                *input = None;
                say(Delta::Arguments(text));
            }
            (Kind::Held { input, .. }, "input_json_delta") => {
                self.held += text.len();
                input.push_str(&text);
            }
            // replaces members of its block
            (Kind::Held { content, .. }, "compaction_delta") => {
                for (name, node) in delta {
                    self.held += name.len() + node.raw.len();
                    content.retain(|(before, _)| *before != name);
                    content.push((name.into_owned(), node.raw.to_owned()));
                }
            }
            _ => {}
        }
        if self.held > MOST_HELD {
            return Err(Garbled::new("a block too large to hold"));
        }
        Ok(())
    }

    fn close(&mut self, index: u64, out: &mut Vec<Event<'_>>) -> Result<(), Garbled> {
        let Some(at) = self.open.iter().position(|open| open.index == index) else {
            return Err(Garbled::new("a block closed that is not open"));
        };
        let OpenBlock { mut block, kind, .. } = self.open.remove(at);
        let say = |out: &mut Vec<Event<'_>>, delta| out.push(Event::Delta { choice: 0, block, delta });
        match kind {
            Kind::Text => {}
            Kind::Thinking { seal } => {
                self.held = self.held.saturating_sub(seal.len());
                if !seal.is_empty() {
                    say(out, Delta::Seal(Seal::unpack(Cow::Owned(seal), Issuer::Anthropic)));
                }
            }
            Kind::ToolCall { input } => {
                // no piece came: the call is what stood at the start
                if let Some(input) = input {
                    self.held = self.held.saturating_sub(input.len());
                    say(out, Delta::Arguments(Cow::Owned(input)));
                }
            }
            Kind::Held { json, input, content } => {
                self.held = self.held.saturating_sub(json.len() + input.len());
                block = self.take_number();
                let open = Open::Whole(completed(&json, &input, &content)?);
                out.push(Event::Open { choice: 0, block, open });
            }
        }
        out.push(Event::Close { choice: 0, block });
        Ok(())
    }

    fn message_delta<'f>(&mut self, mut event: Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        if !std::mem::replace(&mut self.started, true) {
            out.push(Event::Start(Start::default()));
        }
        self.used(event.take("usage"), out);
        let mut delta = event.take_object("delta")?.unwrap_or_default();
        if let Some(stop) = stop(&mut delta)? {
            self.stop(stop, out)?;
        }
        for (name, node) in delta.into_iter().chain(event) {
            if !node.is_null() {
                out.push(Event::Extra { dialect: Dialect::Anthropic, name, json: Cow::Borrowed(node.raw) });
            }
        }
        Ok(())
    }

    fn stop<'f>(&mut self, stop: Stop<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        while let Some(open) = self.open.first() {
            self.close(open.index, out)?;
        }
        if !std::mem::replace(&mut self.stopped, true) {
            out.push(Event::Stop { choice: 0, stop });
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Event<'_>>) -> Result<(), Garbled> {
        if !std::mem::replace(&mut self.started, true) {
            out.push(Event::Start(Start::default()));
        }
        if !self.stopped {
            self.stop(Stop::new(StopReason::End), out)?;
        }
        self.over = true;
        out.push(Event::End);
        Ok(())
    }
}

/// A held block with what its deltas said, as it would stand in a whole answer.
fn completed(json: &str, input: &str, content: &[(String, String)]) -> Result<Block<'static>, Garbled> {
    let mut out = Vec::with_capacity(json.len() + input.len());
    let mut w = Writer::new(&mut out);
    w.object();
    let input = Some(input).filter(|input| Node::parse_reply(input.as_bytes()).is_ok());
    for (name, node) in Node::parse_reply(json.as_bytes())?.object()? {
        let replaced = content.iter().any(|(other, _)| *other == name);
        match input {
            _ if replaced => {}
            Some(input) if name == "input" => w.name("input").raw(input.trim()),
            _ => w.name(&name).raw(node.raw),
        }
    }
    for (name, json) in content {
        w.name(name).raw(json);
    }
    w.end_object();
    Ok(block(Node::parse_reply(&out)?, Side::Reply)?.into_owned())
}
