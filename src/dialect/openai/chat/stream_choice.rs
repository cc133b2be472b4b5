//! One choice of a stream: its pieces, sorted into blocks.
//!
//! One text, refusal or thought flows at a time and ends where another begins; tool calls stay open to the end, because their pieces may
//! come in turns.

use std::borrow::Cow;

use super::finish::{self, Held};
use super::reasoning::{self, Detail};
use super::stream_audio::Audio;
use super::turns_in::{inner_names, raw_text};
use super::{annotations, message_in, parts, rest};
use crate::chat::{Block, CallKind, Citation, Delta, Event, Extra, Open, Seal, Stop};
use crate::dialect::Garbled;
use crate::json::{Members, Node};

/// More tool calls than any model makes in one answer.
const MOST_CALLS: usize = 1_024;

/// Citations that came before the text they belong to.
const MOST_EARLY: usize = 256;

/// Thought kept to know it again, in bytes.
const LONGEST_UNSIGNED: usize = 1024 * 1024;

/// Arguments that came before the call's name, in bytes.
const LONGEST_EARLY: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Choice {
    number: u32,
    /// Blocks opened so far.
    opened: u32,
    flow: Option<Flow>,
    calls: Vec<Call>,
    audio: Option<Audio>,
    early: Vec<Citation<'static>>,
    /// Thought that came in pieces of text, and not again with its signature yet: some say it twice.
    unsigned: String,
    /// Characters of content so far.
    characters: u64,
    seen: bool,
    refused: bool,
    finish: Option<String>,
    sequence: Option<String>,
}

/// The block that is open, tool calls aside.
#[derive(Debug, Clone, Copy)]
struct Flow {
    kind: Kind,
    block: u32,
    /// Of the content: characters before this block.
    before: u64,
    /// Of a thought: the number its entries share, and whether its seal has come.
    index: Option<u64>,
    sealed: bool,
    summary: bool,
    encrypted: bool,
    /// Its text came as plain text: entries that come later repeat it.
    plain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Thought,
}

#[derive(Debug)]
struct Call {
    index: Option<u64>,
    id: String,
    /// `None` until its name has come.
    block: Option<u32>,
    kind: CallKind,
    early: String,
}

// === impl Choice ===

impl Choice {
    pub(super) fn new(number: u32) -> Self {
        Choice {
            number,
            opened: 0,
            flow: None,
            calls: Vec::new(),
            audio: None,
            early: Vec::new(),
            unsigned: String::new(),
            characters: 0,
            seen: false,
            refused: false,
            finish: None,
            sequence: None,
        }
    }

    pub(super) fn seen(&self) -> bool {
        self.seen
    }

    pub(super) fn finished(&self) -> bool {
        self.finish.is_some()
    }

    /// One entry of a chunk's `choices`.
    pub(super) fn read<'f>(
        &mut self,
        mut choice: Members<'f>,
        seed: &str,
        out: &mut Vec<Event<'f>>,
    ) -> Result<(), Garbled> {
        self.seen = true;
        let whole = rest::inner(&mut choice, "message");
        let delta = rest::inner(&mut choice, "delta");
        // beside a delta the message repeats what was said; alone it is the answer
        if let Some(delta) = delta.or_else(|| whole.filter(|_| self.opened == 0)) {
            self.delta(delta, seed, out)?;
        }
        let logprobs = annotations::logprobs(&mut choice, &mut Extra::default());
        if !logprobs.is_empty()
            && let Some(flow) = self.flow.filter(|flow| flow.kind != Kind::Thought)
        {
            self.piece(flow.block, Delta::Logprobs(logprobs), out);
        }
        if self.finish.is_none() {
            self.finish = rest::words(&mut choice, "finish_reason").map(Cow::into_owned);
            self.sequence = rest::words(&mut choice, "stop_reason").map(Cow::into_owned);
        }
        Ok(())
    }

    /// The stream is over: close what is open, and say why.
    pub(super) fn end(&mut self, out: &mut Vec<Event<'_>>) {
        if !self.early.is_empty() {
            self.flow(Kind::Text, out);
        }
        self.close_flow(out);
        for at in 0..self.calls.len() {
            if let Some(block) = self.calls.get(at).and_then(|call| call.block) {
                out.push(Event::Close { choice: self.number, block });
            }
        }
        if let Some(media) = self.audio.take().and_then(Audio::finish) {
            self.whole(Block::Media(media), out);
        }
        let called = self.calls.iter().any(|call| call.block.is_some());
        let held = Held { calls: called, refusal: self.refused };
        let word = self.finish.take().map(Cow::Owned);
        let stop: Stop<'static> = finish::read(word, self.sequence.take().map(Cow::Owned), held);
        out.push(Event::Stop { choice: self.number, stop });
    }

    fn delta<'f>(&mut self, mut delta: Members<'f>, seed: &str, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let signed = reasoning::google_seal(&mut delta, &mut Extra::default());
        self.thoughts(&mut delta, out);
        if let Some(content) = delta.take("content") {
            self.content(content, out);
        }
        if let Some(text) = rest::words(&mut delta, "refusal") {
            self.refused = true;
            let block = self.flow(Kind::Refusal, out);
            self.piece(block, Delta::Refusal(text), out);
        }
        for node in rest::list(&mut delta, "annotations") {
            self.cite(node, out);
        }
        for media in message_in::images(&mut delta) {
            self.close_flow(out);
            self.whole(Block::Media(media), out);
        }
        if let Some(piece) = rest::inner(&mut delta, "audio") {
            self.audio.get_or_insert_default().add(piece)?;
        }
        let calls = self.calls.len();
        for node in rest::list(&mut delta, "tool_calls") {
            self.tool_call(node, seed, out)?;
        }
        if let Some(node) = delta.take("function_call") {
            self.legacy_call(node, seed, out)?;
        }
        if let Some(seal) = signed {
            self.sign(seal, calls, out);
        }
        Ok(())
    }

    // === texts and thoughts ===

    fn content<'f>(&mut self, content: Node<'f>, out: &mut Vec<Event<'f>>) {
        // a piece of content is a string; Mistral's may be parts
        for block in parts::read(content).unwrap_or_default() {
            match block {
                Block::Text(text) if text.text.is_empty() => {}
                Block::Text(text) => {
                    let block = self.flow(Kind::Text, out);
                    self.characters += message_in::characters(&text);
                    self.piece(block, Delta::Text(text.text), out);
                }
                Block::Thinking(thinking) => {
                    for thought in thinking.thoughts {
                        self.thought(Detail::plain(thought.text), out);
                    }
                    if let Some(seal) = thinking.seal {
                        self.thought(Detail { seal: Some(seal), ..Detail::plain("".into()) }, out);
                    }
                }
                // pieces only their vendor knows
                _ => {}
            }
        }
    }

    fn thoughts<'f>(&mut self, delta: &mut Members<'f>, out: &mut Vec<Event<'f>>) {
        let details = rest::list(delta, "reasoning_details").into_iter();
        let details: Vec<Detail<'f>> = details.filter_map(reasoning::detail).collect();
        let plain = rest::words(delta, "reasoning_content");
        let plain = plain.or(rest::words(delta, "reasoning"));
        // OpenRouter says each piece twice
        if let Some(text) = plain.filter(|_| details.iter().all(|detail| detail.text.is_none())) {
            if self.unsigned.len() + text.len() <= LONGEST_UNSIGNED {
                self.unsigned.push_str(&text);
            }
            self.thought(Detail::plain(text), out);
        }
        for mut detail in details {
            // the whole of it again, now with its signature
            if let Some(again) = detail.text.take_if(|text| !text.is_empty() && self.unsigned.starts_with(&**text)) {
                self.unsigned.drain(..again.len());
                let rest = self.unsigned.trim_start().len();
                self.unsigned.drain(..self.unsigned.len() - rest);
            }
            self.thought(detail, out);
        }
    }

    fn thought<'f>(&mut self, detail: Detail<'f>, out: &mut Vec<Event<'f>>) {
        let Detail { text, summary, seal, encrypted, index, id } = detail;
        let text = text.filter(|text| !text.is_empty());
        if text.is_none() && seal.is_none() {
            return;
        }
        let same = self.flow.filter(|flow| {
            flow.kind == Kind::Thought
                && (index.is_none() || flow.index.is_none() || index == flow.index)
                && match (encrypted, flow.encrypted) {
                    (true, true) => index.is_some(),
                    (true, false) => flow.summary && !flow.sealed,
                    (false, true) => false,
                    (false, false) => !flow.sealed,
                }
        });
        let block = match same {
            Some(flow) => flow.block,
            None => {
                let redacted = encrypted && seal.as_ref().is_some_and(reasoning::hides);
                self.open_flow(Kind::Thought, Open::Thinking { redacted, id }, out)
            }
        };
        let told = same.is_some_and(|flow| flow.plain) && index.is_some();
        if let Some(flow) = &mut self.flow {
            flow.plain |= same.is_none() && index.is_none();
            flow.index = index.or(flow.index);
            flow.summary |= summary;
            flow.encrypted |= encrypted && same.is_none();
            flow.sealed |= seal.is_some();
        }
        if let Some(text) = text.filter(|_| !told) {
            self.piece(block, Delta::Thought { part: 0, summary, text }, out);
        }
        if let Some(seal) = seal {
            self.piece(block, Delta::Seal(seal), out);
        }
    }

    fn cite<'f>(&mut self, node: Node<'f>, out: &mut Vec<Event<'f>>) {
        match self.flow.filter(|flow| flow.kind == Kind::Text) {
            Some(flow) => {
                let citation = annotations::read(node, flow.before);
                self.piece(flow.block, Delta::Citation(citation), out);
            }
            None if self.early.len() < MOST_EARLY => {
                self.early.push(annotations::read(node, self.characters).into_owned())
            }
            None => {}
        }
    }

    /// Google signs a piece as a whole: it means the call, or else the text.
    fn sign<'f>(&mut self, seal: Seal<'f>, calls_before: usize, out: &mut Vec<Event<'f>>) {
        let call = self.calls.get(calls_before).and_then(|call| call.block);
        let text = self.flow.filter(|flow| flow.kind == Kind::Text).map(|flow| flow.block);
        match call.or(text) {
            Some(block) => self.piece(block, Delta::Seal(seal), out),
            None => self.thought(Detail { seal: Some(seal), encrypted: true, ..Detail::plain("".into()) }, out),
        }
    }

    // === tool calls ===

    fn tool_call<'f>(&mut self, node: Node<'f>, seed: &str, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let Ok(mut members) = node.object() else { return Ok(()) };
        let seal = reasoning::google_seal(&mut members, &mut Extra::default());
        let index = rest::number(&mut members, "index");
        let id = rest::words(&mut members, "id");
        let custom = rest::text(&mut members, "type").as_deref() == Some("custom") || members.get("function").is_none();
        let kind = if custom && members.get("custom").is_some() { CallKind::Custom } else { CallKind::Function };
        let (inner, arguments) = inner_names(kind);
        let mut object = rest::inner(&mut members, inner).unwrap_or_default();
        let name = rest::words(&mut object, "name");
        let arguments = object.take(arguments).map(raw_text).unwrap_or_default();
        let at = match self.find_call(index, id.as_deref(), name.is_some()) {
            Some(at) => at,
            None => self.new_call(index, id, kind, seed)?,
        };
        self.name_call(at, name, out);
        if let (Some(seal), Some(block)) = (seal, self.calls.get(at).and_then(|call| call.block)) {
            self.piece(block, Delta::Seal(seal), out);
        }
        self.arguments(at, arguments, out)
    }

    fn legacy_call<'f>(&mut self, node: Node<'f>, seed: &str, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let Ok(mut object) = node.object() else { return Ok(()) };
        let name = rest::words(&mut object, "name");
        let arguments = object.take("arguments").map(raw_text).unwrap_or_default();
        // there is one at most
        let at = match self.calls.len().checked_sub(1) {
            Some(at) => at,
            None if name.is_none() && arguments.is_empty() => return Ok(()),
            None => self.new_call(None, None, CallKind::Function, seed)?,
        };
        self.name_call(at, name, out);
        self.arguments(at, arguments, out)
    }

    /// The call a piece belongs to. By its index, unless id and name say that it is another one: some vendors give all calls the same index.
    /// Without an index by its id, and without either it goes on with the last.
    fn find_call(&self, index: Option<u64>, id: Option<&str>, named: bool) -> Option<usize> {
        let other = |call: &Call| named && call.block.is_some() && id.is_some_and(|id| id != call.id);
        if index.is_some() {
            let at = self.calls.iter().rposition(|call| call.index == index)?;
            return Some(at).filter(|at| self.calls.get(*at).is_some_and(|call| !other(call)));
        }
        match id {
            Some(id) => self.calls.iter().position(|call| call.id == id),
            None if named => None,
            None => self.calls.len().checked_sub(1),
        }
    }

    fn new_call(
        &mut self,
        index: Option<u64>,
        id: Option<Cow<'_, str>>,
        kind: CallKind,
        seed: &str,
    ) -> Result<usize, Garbled> {
        let at = self.calls.len();
        if at >= MOST_CALLS {
            return Err(Garbled::new("too many tool calls"));
        }
        let made = || message_in::made_id(seed, at + MOST_CALLS * self.number as usize);
        let id = id.map_or_else(made, Cow::into_owned);
        self.calls.push(Call { index, id, block: None, kind, early: String::new() });
        Ok(at)
    }

    /// Open the block of a call once its name is there. One that never gets a name is none.
    fn name_call<'f>(&mut self, at: usize, name: Option<Cow<'f, str>>, out: &mut Vec<Event<'f>>) {
        let Some(call) = self.calls.get(at).filter(|call| call.block.is_none()) else { return };
        let Some(name) = name else { return };
        let (id, kind) = (Cow::Owned(call.id.clone()), call.kind);
        self.close_flow(out);
        let block = self.open(Open::ToolCall { id, name, kind, item_id: None }, out);
        if let Some(call) = self.calls.get_mut(at) {
            call.block = Some(block);
            let early = std::mem::take(&mut call.early);
            if !early.is_empty() {
                self.piece(block, Delta::Arguments(Cow::Owned(early)), out);
            }
        }
    }

    fn arguments<'f>(&mut self, at: usize, more: Cow<'f, str>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let Some(call) = self.calls.get_mut(at).filter(|_| !more.is_empty()) else { return Ok(()) };
        match call.block {
            Some(block) => self.piece(block, Delta::Arguments(more), out),
            None if call.early.len() + more.len() > LONGEST_EARLY => {
                return Err(Garbled::new("a tool call without a name"));
            }
            None => call.early.push_str(&more),
        }
        Ok(())
    }

    // === blocks ===

    /// The open block of this kind; another kind ends for it.
    fn flow<'f>(&mut self, kind: Kind, out: &mut Vec<Event<'f>>) -> u32 {
        if let Some(flow) = self.flow.filter(|flow| flow.kind == kind) {
            return flow.block;
        }
        let open = if kind == Kind::Refusal { Open::Refusal } else { Open::Text };
        let block = self.open_flow(kind, open, out);
        if kind == Kind::Text {
            for citation in std::mem::take(&mut self.early) {
                self.piece(block, Delta::Citation(citation), out);
            }
        }
        block
    }

    fn open_flow<'f>(&mut self, kind: Kind, open: Open<'f>, out: &mut Vec<Event<'f>>) -> u32 {
        self.close_flow(out);
        let block = self.open(open, out);
        let before = self.characters;
        self.flow = Some(Flow {
            kind,
            block,
            before,
            index: None,
            sealed: false,
            summary: false,
            encrypted: false,
            plain: false,
        });
        block
    }

    fn close_flow(&mut self, out: &mut Vec<Event<'_>>) {
        if let Some(flow) = self.flow.take() {
            out.push(Event::Close { choice: self.number, block: flow.block });
        }
    }

    fn open<'f>(&mut self, open: Open<'f>, out: &mut Vec<Event<'f>>) -> u32 {
        let block = self.opened;
        self.opened += 1;
        out.push(Event::Open { choice: self.number, block, open });
        block
    }

    fn whole<'f>(&mut self, whole: Block<'f>, out: &mut Vec<Event<'f>>) {
        let block = self.open(Open::Whole(whole), out);
        out.push(Event::Close { choice: self.number, block });
    }

    fn piece<'f>(&self, block: u32, delta: Delta<'f>, out: &mut Vec<Event<'f>>) {
        out.push(Event::Delta { choice: self.number, block, delta });
    }
}

// === impl Detail ===

impl<'a> Detail<'a> {
    fn plain(text: Cow<'a, str>) -> Self {
        Detail { text: Some(text), summary: false, seal: None, encrypted: false, index: None, id: None }
    }
}
