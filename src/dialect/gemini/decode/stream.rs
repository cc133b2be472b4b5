//! An answer as it comes: each event's data is a `GenerateContentResponse` with what is new, and the usage so far.
//!
//! Nothing marks the end but the end itself, so that blocks are closed, and `Stop` and `End` said, when there is nothing more to come.

use std::borrow::Cow;

use super::calls::Calls;
use super::response::{blocked, logprobs, rest, seconds, tier};
use super::{grounding, part, take, take_object, take_string};
use crate::chat::{
    Block, Delta, Dialect, Event, Open, Seal, ServerToolKind, Start, Stop, StopReason, Text, Thinking, Thought,
    ToolCall, Usage,
};
use crate::dialect::codec::{Garbled, StreamDecoder};
use crate::dialect::frame::Frame;
use crate::dialect::gemini::{reason, refusal, usage};
use crate::json::{Members, Node, Value};

/// More answers than anybody may ask for.
const MOST_CHOICES: u64 = 64;
/// So much text of a block is kept to find in it what citations speak of.
const KEPT: usize = 256 * 1024;
/// So many facts are kept until the end.
const MOST_FACTS: usize = 32;

#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    /// An error was said, or the end.
    over: bool,
    calls: Calls,
    choices: Vec<Side>,
    usage: Option<Usage>,
    /// Facts of the answer as a whole, the last of each name.
    facts: Vec<(String, String)>,
}

/// One of the answers.
#[derive(Debug, Default)]
struct Side {
    blocks: u32,
    open: Option<Opened>,
    /// Of the open text.
    text: String,
    called: bool,
    shows_searches: bool,
    stop: Option<Stop<'static>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opened {
    block: u32,
    thinking: bool,
    /// What comes behind a signature is another part.
    sealed: bool,
}

// === impl Decoder ===

impl StreamDecoder for Decoder {
    fn push<'f>(&mut self, frame: Frame<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let data = frame.data.trim_ascii();
        if self.over || data.is_empty() || data == b"[DONE]" {
            return Ok(());
        }
        let node = Node::parse_reply(data)?;
        match node.value {
            // Vertex wraps an error in an array
            Value::Array(chunks) => chunks.into_iter().try_for_each(|chunk| self.chunk(chunk, out)),
            _ => self.chunk(node, out),
        }
    }

    fn finish(&mut self, out: &mut Vec<Event<'static>>) -> Result<(), Garbled> {
        if self.over {
            return Ok(());
        }
        if self.choices.is_empty() || self.choices.iter().any(|side| side.stop.is_none()) {
            return Err(Garbled::new("the stream ended without a finishReason"));
        }
        self.over = true;
        let facts = std::mem::take(&mut self.facts);
        let mut searched = 0;
        for (choice, side) in (0..).zip(&mut self.choices) {
            // facts are told of the first answer only
            searched += side.finish(choice, if choice == 0 { &facts } else { &[] }, &mut self.calls, out);
        }
        for (name, json) in facts {
            out.push(Event::Extra { dialect: Dialect::Gemini, name: Cow::Owned(name), json: Cow::Owned(json) });
        }
        if let Some(usage) = self.usage.filter(|_| searched > 0) {
            out.push(Event::Usage(Usage { server_tool_calls: searched, ..usage }));
        }
        out.push(Event::End);
        Ok(())
    }
}

impl Decoder {
    fn chunk<'f>(&mut self, chunk: Node<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        if self.over {
            return Ok(());
        }
        let mut members = chunk.object()?;
        if let Some(error) = members.take("error") {
            let none = Members::default();
            out.push(Event::Error(refusal::in_stream(error.as_object().unwrap_or(&none))));
            self.over = true;
            return Ok(());
        }
        let id = take_string(&mut members, "responseId")?;
        let model = take_string(&mut members, "modelVersion")?;
        let created = take_string(&mut members, "createTime")?.and_then(|time| seconds(&time));
        let used = take(&mut members, "usageMetadata");
        if !self.started {
            self.started = true;
            self.calls = Calls::of_answer(id.as_deref());
            let service_tier = used.as_ref().and_then(tier);
            out.push(Event::Start(Start { id, model, created, service_tier }));
        }
        for candidate in members.take_array("candidates")?.unwrap_or_default() {
            self.candidate(candidate, out)?;
        }
        if let Some(stop) = members.get("promptFeedback").and_then(blocked)
            && self.choices.is_empty()
        {
            self.choices.push(Side { stop: Some(reason::owned(stop)), ..Side::default() });
        }
        for fact in rest(members).0 {
            self.keep(&fact.name, &fact.json);
        }
        if let Some(usage) = used.and_then(|node| usage::read(node.raw))
            && self.usage != Some(usage)
        {
            self.usage = Some(usage);
            out.push(Event::Usage(usage));
        }
        Ok(())
    }

    fn candidate<'f>(&mut self, candidate: Node<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let mut members = candidate.object()?;
        let index = members.take_u64("index")?.unwrap_or(0);
        if index >= MOST_CHOICES {
            return Err(Garbled::new("a candidate's index is out of range"));
        }
        let choice = u32::try_from(index).unwrap_or(0);
        while self.choices.len() <= choice as usize {
            self.choices.push(Side::default());
        }
        let Some(side) = self.choices.get_mut(choice as usize) else { return Ok(()) };
        let parts = take_object(&mut members, "content")?.and_then(|mut content| content.take("parts"));
        for part in parts.map(super::list).unwrap_or_default() {
            if let Some(block) = part::block(part, &mut self.calls)? {
                side.block(choice, block, out)?;
            }
        }
        if let Some(result) = take(&mut members, "logprobsResult") {
            side.logprobs(choice, result, out)?;
        }
        let detail = take_string(&mut members, "finishMessage")?;
        if let Some(node) = take(&mut members, "finishReason")
            && let Some(finish) = reason::read(&node, side.called)
        {
            side.stop = Some(reason::owned(Stop { reason: finish.reason, sequence: None, detail }));
            if !finish.exact && choice == 0 {
                self.keep("finishReason", node.raw);
            }
        }
        if choice == 0 {
            for fact in rest(members).0 {
                self.keep(&fact.name, &fact.json);
            }
        }
        Ok(())
    }

    fn keep(&mut self, name: &str, json: &str) {
        if let Some((_, last)) = self.facts.iter_mut().find(|(known, _)| known == name) {
            json.clone_into(last);
        } else if self.facts.len() < MOST_FACTS {
            self.facts.push((name.to_owned(), json.to_owned()));
        }
    }
}

// === impl Side ===

impl Side {
    fn block<'f>(&mut self, choice: u32, block: Block<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        match block {
            Block::Text(Text { text, seal, citations: _, cache: _, at: _, extra: _ }) => {
                // many a stream ends with an empty text
                if !text.is_empty() || seal.is_some() {
                    let at = self.opened(choice, false, out);
                    if self.text.len() + text.len() <= KEPT {
                        self.text.push_str(&text);
                    }
                    self.piece(choice, at, (!text.is_empty()).then_some(Delta::Text(text)), seal, out);
                }
            }
            Block::Thinking(Thinking { thoughts, seal, redacted: _, id: _, at: _, extra: _ }) => {
                let Thought { text, summary } =
                    thoughts.into_iter().next().unwrap_or(Thought { text: Cow::Borrowed(""), summary: true });
                if !text.is_empty() || seal.is_some() {
                    let at = self.opened(choice, true, out);
                    let delta = (!text.is_empty()).then_some(Delta::Thought { part: 0, summary, text });
                    self.piece(choice, at, delta, seal, out);
                }
            }
            Block::ToolCall(ToolCall { id, name, kind, arguments, cache: _, seal, item_id, at: _, extra }) => {
                // Vertex streams arguments only for those who ask (`streamFunctionCallArguments`), and we do not
                let more = extra.get("functionCall.willContinue").is_some_and(|member| member.json == "true");
                if name.is_empty() || more || extra.get("functionCall.partialArgs").is_some() {
                    return Err(Garbled::new("a function call in pieces"));
                }
                self.called = true;
                let block = self.next(choice, Open::ToolCall { id, name, kind, item_id }, out);
                self.piece(choice, block, Some(Delta::Arguments(arguments)), seal, out);
                out.push(Event::Close { choice, block });
            }
            whole => {
                self.shows_searches |=
                    matches!(&whole, Block::ServerCall(call) if call.tool == ServerToolKind::WebSearch);
                self.whole(choice, whole, out);
            }
        }
        Ok(())
    }

    fn piece<'f>(
        &mut self,
        choice: u32,
        block: u32,
        delta: Option<Delta<'f>>,
        seal: Option<Seal<'f>>,
        out: &mut Vec<Event<'f>>,
    ) {
        out.extend(delta.map(|delta| Event::Delta { choice, block, delta }));
        if let Some(seal) = seal {
            out.push(Event::Delta { choice, block, delta: Delta::Seal(seal) });
            if let Some(open) = &mut self.open {
                open.sealed = true;
            }
        }
    }

    /// The open text or thought, or a new one. A signature without text belongs to what came before it, of its kind.
    fn opened(&mut self, choice: u32, thinking: bool, out: &mut Vec<Event<'_>>) -> u32 {
        if let Some(open) = self.open
            && open.thinking == thinking
            && !open.sealed
        {
            return open.block;
        }
        let open = if thinking { Open::Thinking { redacted: false, id: None } } else { Open::Text };
        let block = self.next(choice, open, out);
        self.open = Some(Opened { block, thinking, sealed: false });
        block
    }

    fn whole<'f>(&mut self, choice: u32, whole: Block<'f>, out: &mut Vec<Event<'f>>) {
        let block = self.next(choice, Open::Whole(whole), out);
        out.push(Event::Close { choice, block });
    }

    fn next<'f>(&mut self, choice: u32, open: Open<'f>, out: &mut Vec<Event<'f>>) -> u32 {
        self.close(choice, out);
        let block = self.blocks;
        self.blocks = self.blocks.saturating_add(1);
        out.push(Event::Open { choice, block, open });
        block
    }

    fn close(&mut self, choice: u32, out: &mut Vec<Event<'_>>) {
        if let Some(open) = self.open.take() {
            out.push(Event::Close { choice, block: open.block });
        }
        self.text.clear();
    }

    fn logprobs<'f>(&mut self, choice: u32, result: Node<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let logprobs = logprobs(result)?;
        if let Some(Opened { block, thinking: false, .. }) = self.open
            && !logprobs.is_empty()
        {
            out.push(Event::Delta { choice, block, delta: Delta::Logprobs(logprobs) });
        }
        Ok(())
    }

    /// Citations, searches, the stop; how many searches there were.
    fn finish(
        &mut self,
        choice: u32,
        facts: &[(String, String)],
        calls: &mut Calls,
        out: &mut Vec<Event<'static>>,
    ) -> u32 {
        let fact = |name| facts.iter().find(|(known, _)| known == name).map(|(_, json)| json.as_str());
        let read = |name| fact(name).and_then(|json| Node::parse_reply(json.as_bytes()).ok());
        let (found, recited) = (read("groundingMetadata"), read("citationMetadata"));
        if let Some(Opened { block, thinking: false, .. }) = self.open {
            let texts = [self.text.as_str()];
            let grounded = found.iter().flat_map(|metadata| grounding::grounded(metadata, &texts));
            let recited = recited.iter().flat_map(|metadata| grounding::recited(metadata, &texts));
            for (_, citation) in grounded.chain(recited) {
                let delta = Delta::Citation(citation.into_owned());
                out.push(Event::Delta { choice, block, delta });
            }
        }
        self.close(choice, out);
        let mut searched = 0;
        if let Some(metadata) = &found {
            searched = grounding::queries(metadata);
            if !self.shows_searches {
                for block in grounding::searches(metadata, || calls.search()) {
                    self.whole(choice, block.into_owned(), out);
                }
            }
        }
        if let Some(mut stop) = self.stop.take() {
            // the call may have come behind its reason
            if self.called && stop.reason == StopReason::End {
                stop.reason = StopReason::ToolUse;
            }
            out.push(Event::Stop { choice, stop });
        }
        searched
    }
}
