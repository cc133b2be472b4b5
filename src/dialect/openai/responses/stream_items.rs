//! The items of a stream as far as they have come: which blocks they are, and how much of each was said.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::decode_response::{is_made_up, made_up_id, output_item, take_logprobs};
use super::stream_parts::{Part, Thought, push_thought, rest};
use super::{citation, content, item};
use crate::chat::{Block, Delta, Event, Logprob, Open, Text, Thinking, ToolCall};
use crate::dialect::Garbled;
use crate::json::Node;

/// Most items of one answer, and most parts of one item.
const MOST: usize = 4096;

/// Which item an event is of, as far as the event says it.
#[derive(Debug, Default)]
pub struct Key {
    pub index: Option<u64>,
    pub id: Option<String>,
}

#[derive(Debug, Default)]
pub struct Items {
    /// By `output_index`.
    items: BTreeMap<u64, Item>,
    blocks: u32,
    /// Of the answer, for ids that have to be made.
    pub response_id: String,
    /// There was a call to a tool of the caller.
    pub called: bool,
    pub refused: bool,
}

#[derive(Debug)]
struct Item {
    id: Option<String>,
    kind: String,
    done: bool,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Message(Vec<Part>),
    Thinking {
        block: u32,
        thoughts: Vec<Thought>,
    },
    Call {
        block: u32,
        sent: usize,
    },
    /// It comes whole.
    Other,
}

// === impl Items ===

impl Items {
    /// An item has begun.
    pub fn added<'f>(&mut self, key: &Key, node: Node<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let kind = kind_of(&node);
        let id = id_of(&node);
        let n = self.number(&Key { index: key.index, id: id.clone() });
        if self.items.contains_key(&n) {
            return Ok(());
        }
        let shape = match &*kind {
            "message" => Shape::Message(Vec::new()),
            "reasoning" => self.open_thinking(id.clone(), out),
            "function_call" | "custom_tool_call" => {
                let read = item::read(node, usize::try_from(n).unwrap_or(usize::MAX))?;
                let item::Item::Blocks { blocks, .. } = read else { return Ok(()) };
                let Some(Block::ToolCall(call)) = blocks.into_iter().next() else { return Ok(()) };
                self.open_call(call, out)
            }
            _ => Shape::Other,
        };
        self.insert(n, Item { id, kind, done: false, shape })
    }

    /// An item has ended, and comes whole.
    pub fn done<'f>(&mut self, key: &Key, node: Node<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let id = id_of(&node);
        let n = self.number(&Key { index: key.index, id: id.clone().or(key.id.clone()) });
        self.whole(n, node, out)
    }

    fn whole<'f>(&mut self, n: u64, node: Node<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let (kind, id) = (kind_of(&node), id_of(&node));
        let position = usize::try_from(n).unwrap_or(usize::MAX);
        let known = match self.items.get(&n) {
            Some(item) if item.done => return Ok(()),
            Some(item) => item.kind == kind && !matches!(item.shape, Shape::Other),
            None => {
                self.insert(n, Item { id, kind, done: true, shape: Shape::Other })?;
                false
            }
        };
        if !known {
            self.close(n, out);
            return self.fresh(node, position, out);
        }
        let mut logprobs = Vec::new();
        let mut blocks = Vec::new();
        if let Some(Item { shape: Shape::Message(_), .. }) = self.items.get(&n) {
            return self.message(n, node, out);
        }
        output_item(node, position, &mut blocks, &mut logprobs)?;
        match blocks.into_iter().next() {
            Some(Block::Thinking(Thinking { thoughts, seal, .. })) => {
                let (mut summaries, mut contents) = (0, 0);
                for thought in thoughts {
                    let index = if thought.summary { &mut summaries } else { &mut contents };
                    self.rest_of_thought(n, (thought.summary, *index), thought.text, out)?;
                    *index += 1;
                }
                if let (Some(seal), Some(Item { shape: Shape::Thinking { block, .. }, .. })) =
                    (seal, self.items.get(&n))
                {
                    out.push(Event::Delta { choice: 0, block: *block, delta: Delta::Seal(seal) });
                }
            }
            Some(Block::ToolCall(call)) => self.rest_of_arguments(n, call.arguments, out),
            _ => {}
        }
        self.close(n, out);
        Ok(())
    }

    /// A message's parts, as far as they were not said.
    fn message<'f>(&mut self, n: u64, node: Node<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let parts = node.object()?.take_array("content").unwrap_or_default().unwrap_or_default();
        for (index, part) in parts.into_iter().enumerate() {
            self.part_of(n, index as u64, part, true, out)?;
        }
        self.close(n, out);
        Ok(())
    }

    /// An item nothing was streamed of.
    fn fresh<'f>(&mut self, node: Node<'f>, n: usize, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let (mut blocks, mut logprobs) = (Vec::new(), Vec::new());
        output_item(node, n, &mut blocks, &mut logprobs)?;
        for block in blocks {
            self.say(block, &mut logprobs, out);
        }
        Ok(())
    }

    fn say<'f>(&mut self, whole: Block<'f>, logprobs: &mut Vec<Logprob<'f>>, out: &mut Vec<Event<'f>>) {
        let choice = 0;
        let block = match whole {
            Block::Text(text) => {
                let block = self.open(Open::Text, out);
                out.push(Event::Delta { choice, block, delta: Delta::Text(text.text) });
                for citation in text.citations {
                    out.push(Event::Delta { choice, block, delta: Delta::Citation(citation) });
                }
                if !logprobs.is_empty() {
                    out.push(Event::Delta { choice, block, delta: Delta::Logprobs(std::mem::take(logprobs)) });
                }
                block
            }
            Block::Refusal(refusal) => {
                self.refused = true;
                let block = self.open(Open::Refusal, out);
                out.push(Event::Delta { choice, block, delta: Delta::Refusal(refusal.text) });
                block
            }
            Block::Thinking(Thinking { thoughts, seal, redacted, id, .. }) => {
                let block = self.open(Open::Thinking { redacted, id }, out);
                for (part, thought) in (0..).zip(thoughts) {
                    let delta = Delta::Thought { part, summary: thought.summary, text: thought.text };
                    out.push(Event::Delta { choice, block, delta });
                }
                out.extend(seal.map(|seal| Event::Delta { choice, block, delta: Delta::Seal(seal) }));
                block
            }
            Block::ToolCall(call) => match self.open_call(call, out) {
                Shape::Call { block, .. } => block,
                _ => return,
            },
            other => self.open(Open::Whole(other), out),
        };
        out.push(Event::Close { choice, block });
    }

    /// A part of a message has begun, or is whole.
    pub fn part<'f>(
        &mut self,
        key: &Key,
        index: u64,
        part: Node<'f>,
        done: bool,
        out: &mut Vec<Event<'f>>,
    ) -> Result<(), Garbled> {
        let n = self.number(key);
        if matches!(part.as_object().and_then(|p| p.get("type")).and_then(Node::as_str), Some("reasoning_text")) {
            let text = part.object()?.take_string("text")?.unwrap_or_default();
            return if text.is_empty() { Ok(()) } else { self.thought_done(key, (false, index), text, out) };
        }
        self.part_of(n, index, part, done, out)
    }

    fn part_of<'f>(
        &mut self,
        n: u64,
        index: u64,
        part: Node<'f>,
        done: bool,
        out: &mut Vec<Event<'f>>,
    ) -> Result<(), Garbled> {
        match content::part(part)? {
            Block::Text(Text { text, citations, mut extra, .. }) => {
                let logprobs = take_logprobs(&mut extra);
                let Some(part) = self.reach(n, index, false, out)? else { return Ok(()) };
                part.say_rest(text, out);
                for citation in citations.into_iter().skip(part.citations) {
                    part.say_citation(citation, out);
                }
                part.say_logprobs(logprobs, done, out);
                part.done |= done;
            }
            Block::Refusal(refusal) => {
                if let Some(part) = self.reach(n, index, true, out)? {
                    part.say_rest(refusal.text, out);
                    part.done |= done;
                }
            }
            other if done => {
                let known = match self.items.get(&n) {
                    Some(Item { shape: Shape::Message(parts), .. }) => parts.iter().any(|part| part.index == index),
                    _ => false,
                };
                if !known {
                    let block = self.open(Open::Whole(other), out);
                    out.push(Event::Close { choice: 0, block });
                    if let Some(Item { shape: Shape::Message(parts), .. }) = self.items.get_mut(&n) {
                        parts.push(Part { done: true, open: false, ..Part::new(index, block, false) });
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub fn text<'f>(
        &mut self,
        key: &Key,
        index: u64,
        refusal: bool,
        text: Cow<'f, str>,
        logprobs: Option<Node<'f>>,
        out: &mut Vec<Event<'f>>,
    ) -> Result<(), Garbled> {
        let n = self.number(key);
        let Some(part) = self.reach(n, index, refusal, out)? else { return Ok(()) };
        part.say(text, out);
        part.say_logprobs(logprobs.map(content::logprobs).unwrap_or_default(), false, out);
        Ok(())
    }

    pub fn text_done<'f>(
        &mut self,
        key: &Key,
        index: u64,
        refusal: bool,
        text: Cow<'f, str>,
        logprobs: Option<Node<'f>>,
        out: &mut Vec<Event<'f>>,
    ) -> Result<(), Garbled> {
        let n = self.number(key);
        let Some(part) = self.reach(n, index, refusal, out)? else { return Ok(()) };
        part.say_rest(text, out);
        part.say_logprobs(logprobs.map(content::logprobs).unwrap_or_default(), true, out);
        Ok(())
    }

    pub fn annotation<'f>(
        &mut self,
        key: &Key,
        index: u64,
        node: Node<'f>,
        out: &mut Vec<Event<'f>>,
    ) -> Result<(), Garbled> {
        let n = self.number(key);
        let Some(part) = self.reach(n, index, false, out)? else { return Ok(()) };
        part.say_citation(citation::read(node), out);
        Ok(())
    }

    pub fn thought<'f>(
        &mut self,
        key: &Key,
        of: (bool, u64),
        text: Cow<'f, str>,
        out: &mut Vec<Event<'f>>,
    ) -> Result<(), Garbled> {
        let n = self.number(key);
        if !self.items.contains_key(&n) {
            let shape = self.open_thinking(key.id.clone(), out);
            self.insert(n, Item { id: key.id.clone(), kind: "reasoning".to_owned(), done: false, shape })?;
        }
        self.say_thought(n, of, text, out);
        Ok(())
    }

    pub fn thought_done<'f>(
        &mut self,
        key: &Key,
        of: (bool, u64),
        text: Cow<'f, str>,
        out: &mut Vec<Event<'f>>,
    ) -> Result<(), Garbled> {
        let n = self.number(key);
        match self.items.contains_key(&n) {
            true => self.rest_of_thought(n, of, text, out),
            false => self.thought(key, of, text, out),
        }
    }

    fn rest_of_thought<'f>(
        &mut self,
        n: u64,
        of: (bool, u64),
        text: Cow<'f, str>,
        out: &mut Vec<Event<'f>>,
    ) -> Result<(), Garbled> {
        let Some(Item { shape: Shape::Thinking { thoughts, .. }, .. }) = self.items.get(&n) else { return Ok(()) };
        let sent = thoughts.iter().find(|thought| thought.of == of).map_or(0, |thought| thought.sent);
        if let Some(rest) = rest(text, sent) {
            self.say_thought(n, of, rest, out);
        }
        Ok(())
    }

    fn say_thought<'f>(&mut self, n: u64, of: (bool, u64), text: Cow<'f, str>, out: &mut Vec<Event<'f>>) {
        if let Some(Item { shape: Shape::Thinking { block, thoughts }, done: false, .. }) = self.items.get_mut(&n) {
            push_thought(*block, thoughts, of, text, out);
        }
    }

    pub fn arguments<'f>(&mut self, key: &Key, text: Cow<'f, str>, out: &mut Vec<Event<'f>>) {
        let n = self.number(key);
        if let Some(Item { shape: Shape::Call { block, sent }, done: false, .. }) = self.items.get_mut(&n) {
            *sent += text.len();
            if !text.is_empty() {
                out.push(Event::Delta { choice: 0, block: *block, delta: Delta::Arguments(text) });
            }
        }
    }

    pub fn arguments_done<'f>(&mut self, key: &Key, text: Cow<'f, str>, out: &mut Vec<Event<'f>>) {
        let n = self.number(key);
        if matches!(self.items.get(&n), Some(Item { done: false, .. })) {
            self.rest_of_arguments(n, text, out);
        }
    }

    fn rest_of_arguments<'f>(&mut self, n: u64, text: Cow<'f, str>, out: &mut Vec<Event<'f>>) {
        if let Some(Item { shape: Shape::Call { block, sent }, .. }) = self.items.get_mut(&n)
            && let Some(rest) = rest(text, *sent)
        {
            *sent += rest.len();
            out.push(Event::Delta { choice: 0, block: *block, delta: Delta::Arguments(rest) });
        }
    }

    /// The finished answer: what of it was not said. An item is found again by its id, else as the n-th of its kind: vendors give other
    /// ids at the end, and count otherwise.
    pub fn compare<'f>(&mut self, output: Vec<Node<'f>>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let before: Vec<(u64, String, Option<String>)> =
            self.items.iter().map(|(n, item)| (*n, item.kind.clone(), item.id.clone())).collect();
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (position, node) in output.into_iter().enumerate() {
            let (kind, id) = (kind_of(&node), id_of(&node));
            let nth = seen.entry(kind.clone()).or_default();
            let by_id = before.iter().find(|(_, k, i)| *k == kind && id.is_some() && *i == id);
            let found = by_id.or_else(|| before.iter().filter(|(_, k, _)| *k == kind).nth(*nth));
            *nth += 1;
            match found {
                Some((n, ..)) => self.whole(*n, node, out)?,
                None => self.fresh(node, position, out)?,
            }
        }
        Ok(())
    }

    /// Close what is open still.
    pub fn close_all(&mut self, out: &mut Vec<Event<'_>>) {
        let open: Vec<u64> = self.items.iter().filter(|(_, item)| !item.done).map(|(n, _)| *n).collect();
        for n in open {
            self.close(n, out);
        }
    }

    fn close(&mut self, n: u64, out: &mut Vec<Event<'_>>) {
        let Some(item) = self.items.get_mut(&n) else { return };
        item.done = true;
        match &mut item.shape {
            Shape::Message(parts) => parts.iter_mut().for_each(|part| part.close(out)),
            Shape::Thinking { block, .. } | Shape::Call { block, .. } => {
                out.push(Event::Close { choice: 0, block: *block });
            }
            Shape::Other => {}
        }
    }

    /// The item's number: the one said, else that of the item with this id, else a new one.
    fn number(&self, key: &Key) -> u64 {
        let by_id = || self.items.iter().find(|(_, item)| key.id.is_some() && item.id == key.id).map(|(n, _)| *n);
        let last = self.items.keys().next_back().copied();
        let behind = || last.map_or(0, |n| n.saturating_add(1));
        match (key.index, &key.id) {
            (Some(n), _) => n,
            (None, Some(_)) => by_id().unwrap_or_else(behind),
            (None, None) => last.unwrap_or(0),
        }
    }

    fn insert(&mut self, n: u64, item: Item) -> Result<(), Garbled> {
        if self.items.len() >= MOST {
            return Err(Garbled::new("more output items than any answer has"));
        }
        self.items.insert(n, item);
        Ok(())
    }

    fn open<'f>(&mut self, open: Open<'f>, out: &mut Vec<Event<'f>>) -> u32 {
        let block = self.blocks;
        self.blocks += 1;
        out.push(Event::Open { choice: 0, block, open });
        block
    }

    fn open_thinking(&mut self, id: Option<String>, out: &mut Vec<Event<'_>>) -> Shape {
        let block = self.open(Open::Thinking { redacted: false, id: id.map(Cow::Owned) }, out);
        Shape::Thinking { block, thoughts: Vec::new() }
    }

    fn open_call<'f>(&mut self, call: ToolCall<'f>, out: &mut Vec<Event<'f>>) -> Shape {
        let ToolCall { id, name, kind, arguments, item_id, .. } = call;
        self.called = true;
        let id = if is_made_up(&id) { made_up_id(&id, &self.response_id).into() } else { id };
        let block = self.open(Open::ToolCall { id, name, kind, item_id }, out);
        let sent = arguments.len();
        if sent > 0 {
            out.push(Event::Delta { choice: 0, block, delta: Delta::Arguments(arguments) });
        }
        Shape::Call { block, sent }
    }

    /// The part of a message, opened if it is new. `None`: it is closed, or there is no message there.
    fn reach<'f>(
        &mut self,
        n: u64,
        index: u64,
        refusal: bool,
        out: &mut Vec<Event<'f>>,
    ) -> Result<Option<&mut Part>, Garbled> {
        if !self.items.contains_key(&n) {
            let shape = Shape::Message(Vec::new());
            self.insert(n, Item { id: None, kind: "message".to_owned(), done: false, shape })?;
        }
        let Some(Item { shape: Shape::Message(parts), done: false, .. }) = self.items.get(&n) else { return Ok(None) };
        let mut at = parts.iter().position(|part| part.index == index);
        if at.is_none() {
            if parts.len() >= MOST {
                return Err(Garbled::new("more parts than any message has"));
            }
            at = Some(parts.len());
            if let Some(Item { shape: Shape::Message(parts), .. }) = self.items.get_mut(&n) {
                parts.iter_mut().filter(|part| part.done).for_each(|part| part.close(out));
            }
            self.refused |= refusal;
            let block = self.open(if refusal { Open::Refusal } else { Open::Text }, out);
            if let Some(Item { shape: Shape::Message(parts), .. }) = self.items.get_mut(&n) {
                parts.push(Part::new(index, block, refusal));
            }
        }
        let Some(Item { shape: Shape::Message(parts), .. }) = self.items.get_mut(&n) else { return Ok(None) };
        Ok(at.and_then(|at| parts.get_mut(at)).filter(|part| part.open))
    }
}

fn kind_of(node: &Node<'_>) -> String {
    word(node, "type")
}

fn id_of(node: &Node<'_>) -> Option<String> {
    Some(word(node, "id")).filter(|id| !id.is_empty())
}

fn word(node: &Node<'_>, name: &str) -> String {
    let word = node.as_object().and_then(|item| item.get(name)).and_then(Node::as_str);
    word.unwrap_or_default().to_owned()
}
