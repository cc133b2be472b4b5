//! An answer for a client that speaks Gemini, as it comes: text at once, calls when they are whole, reasons and usage at the end.

use std::borrow::Cow;
use std::collections::HashMap;

use super::grounding::Grounding;
use super::part::{Data, Fit, Part, packed, packed_thought};
use super::response::{
    finish, is_of_candidate, parts, said_id, tier, time, untold, write_logprobs, write_usage, written,
};
use crate::chat::{CallKind, Citation, Delta, Dialect, Event, Losses, Open, Seal, Start, Stop, StopReason, Usage};
use crate::dialect::codec::{ReplyTo, StreamEncoder, StreamForm};
use crate::dialect::gemini::{error, reason};
use crate::json::{At, Writer};

/// So much text of a block is kept to measure citations in it.
const KEPT: usize = 256 * 1024;

#[derive(Debug)]
pub struct Encoder {
    form: StreamForm,
    id: String,
    model: String,
    created: Option<u64>,
    tier: Option<String>,
    choices: Vec<Side>,
    usage: Option<Usage>,
    /// Gemini's own facts, told at the end.
    facts: Vec<(String, String)>,
    began: bool,
    over: bool,
    losses: Losses,
}

/// Members of the last chunk that are written for what the events say.
const OWN: [&str; 9] = [
    "candidates",
    "usageMetadata",
    "modelVersion",
    "createTime",
    "responseId",
    "content",
    "finishReason",
    "finishMessage",
    "index",
];

/// One of the answers.
#[derive(Debug, Default)]
struct Side {
    open: HashMap<u32, Block>,
    /// Bytes of text in closed blocks: clients join what comes.
    said: usize,
    grounding: Grounding,
    stop: Option<Stop<'static>>,
}

/// What is held of an open block.
#[derive(Debug)]
enum Block {
    Text {
        text: String,
        citations: Vec<Citation<'static>>,
        seal: Option<Seal<'static>>,
    },
    Thinking {
        redacted: bool,
        part: u32,
        seal: Option<Seal<'static>>,
    },
    Call {
        id: String,
        name: String,
        kind: CallKind,
        arguments: String,
        seal: Option<Seal<'static>>,
    },
    Refusal,
    /// Written when it opened.
    Whole,
}

// === impl Encoder ===

impl Encoder {
    pub fn new(to: &ReplyTo<'_>) -> Self {
        Encoder {
            form: to.form,
            id: to.id.to_owned(),
            model: to.model.to_owned(),
            created: None,
            tier: None,
            choices: Vec::new(),
            usage: None,
            facts: Vec::new(),
            began: false,
            over: false,
            losses: Losses::default(),
        }
    }
}

impl StreamEncoder for Encoder {
    fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        match event {
            Event::Start(Start { id, model, created, service_tier }) => {
                self.id = id.map_or_else(|| std::mem::take(&mut self.id), Cow::into_owned);
                self.model = model.map_or_else(|| std::mem::take(&mut self.model), Cow::into_owned);
                self.created = created;
                self.tier = tier(service_tier.as_deref(), false).map(str::to_owned);
                if self.tier.is_none() && service_tier.is_some() {
                    self.losses.dropped(At::NOWHERE, "service_tier");
                }
            }
            Event::Open { choice, block, open } => self.open(choice, block, open, out),
            Event::Delta { choice, block, delta } => self.delta(choice, block, delta, out),
            Event::Close { choice, block } => self.close(choice, block, out),
            Event::Stop { choice, stop } => {
                if let Some(side) = self.side(choice) {
                    side.stop = Some(reason::owned(stop));
                }
            }
            Event::Usage(usage) => {
                untold(&usage, &mut self.losses);
                self.usage = Some(usage);
            }
            Event::Extra { dialect: Dialect::Gemini, name, json } if !OWN.contains(&&*name) => {
                self.facts.push((name.into_owned(), json.into_owned()));
            }
            Event::Extra { dialect: _, name, json: _ } => self.losses.dropped(At::NOWHERE, name.into_owned()),
            Event::Ping => {}
            Event::Error(error) => {
                self.over = true;
                self.frame(&error::body(&error), out);
                self.end(out);
            }
            Event::End => {
                self.over = true;
                self.last(out);
                self.end(out);
            }
        }
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }

    fn heartbeat(&self) -> &'static [u8] {
        match self.form {
            StreamForm::Sse => b": keep-alive\r\n\r\n",
            // white space between values
            StreamForm::Array => b"\n",
        }
    }
}

impl Encoder {
    fn side(&mut self, choice: u32) -> Option<&mut Side> {
        // no provider answers more often than it was asked
        if choice >= 1024 {
            return None;
        }
        while self.choices.len() <= choice as usize {
            self.choices.push(Side::default());
        }
        self.choices.get_mut(choice as usize)
    }

    fn open(&mut self, choice: u32, block: u32, open: Open<'_>, out: &mut Vec<u8>) {
        let held = match open {
            Open::Text => Block::Text { text: String::new(), citations: Vec::new(), seal: None },
            Open::Refusal => Block::Refusal,
            // an item's id means nothing here
            Open::Thinking { redacted, id: _ } => Block::Thinking { redacted, part: 0, seal: None },
            Open::ToolCall { id, name, kind, item_id: _ } => {
                Block::Call { id: id.into_owned(), name: name.into_owned(), kind, arguments: String::new(), seal: None }
            }
            Open::Whole(whole) => {
                let mut written = Vec::new();
                let mut losses = std::mem::take(&mut self.losses);
                if let Some(side) = self.side(choice) {
                    parts(&whole, false, &mut written, &mut side.grounding, &mut losses);
                }
                self.losses = losses;
                for part in &written {
                    self.part(choice, part, out);
                }
                Block::Whole
            }
        };
        if let Some(side) = self.side(choice) {
            side.open.insert(block, held);
        }
    }

    fn delta(&mut self, choice: u32, block: u32, delta: Delta<'_>, out: &mut Vec<u8>) {
        let Some(held) = self.side(choice).and_then(|side| side.open.get_mut(&block)) else { return };
        match (delta, held) {
            (Delta::Text(more), Block::Text { text, .. }) => {
                if text.len() + more.len() <= KEPT {
                    text.push_str(&more);
                }
                self.part(choice, &Part::text(more), out);
            }
            (Delta::Refusal(more), Block::Refusal) => self.part(choice, &Part::text(more), out),
            (Delta::Thought { part, summary: _, text }, Block::Thinking { part: last, .. }) => {
                // clients join what comes: thoughts stay apart
                let next = part > std::mem::replace(last, part);
                let text = if next { Cow::Owned(format!("\n\n{text}")) } else { text };
                self.part(choice, &Part { thought: true, ..Part::text(text) }, out);
            }
            (Delta::Arguments(more), Block::Call { arguments, .. }) => arguments.push_str(&more),
            (Delta::Citation(citation), Block::Text { citations, .. }) => citations.push(citation.into_owned()),
            (
                Delta::Seal(seal),
                Block::Text { seal: place, .. } | Block::Thinking { seal: place, .. } | Block::Call { seal: place, .. },
            ) => match place {
                Some(before) if before.issuer == seal.issuer => before.raw.to_mut().push_str(&seal.raw),
                place => *place = Some(seal.into_owned()),
            },
            (Delta::Logprobs(logprobs), Block::Text { .. } | Block::Refusal) => {
                self.chunk(choice, out, |w| {
                    contents(&[Part::text("")], w);
                    write_logprobs(&logprobs, w);
                });
            }
            // a piece of another kind of block: the decoder's fault, told by `chat::Fold`
            (
                Delta::Text(_)
                | Delta::Refusal(_)
                | Delta::Thought { .. }
                | Delta::Arguments(_)
                | Delta::Citation(_)
                | Delta::Seal(_)
                | Delta::Logprobs(_),
                _,
            ) => {}
        }
    }

    fn close(&mut self, choice: u32, block: u32, out: &mut Vec<u8>) {
        let Some(held) = self.side(choice).and_then(|side| side.open.remove(&block)) else { return };
        match held {
            Block::Text { text, citations, seal } => {
                let mut losses = std::mem::take(&mut self.losses);
                if let Some(side) = self.side(choice) {
                    for citation in &citations {
                        side.grounding.rests(citation, &text, 0, side.said, &mut losses);
                    }
                    side.said += text.len();
                }
                self.losses = losses;
                if let Some(seal) = &seal {
                    self.part(choice, &Part::signature(packed(seal)), out);
                }
            }
            Block::Thinking { redacted, part: _, seal } => {
                if let Some(seal) = &seal {
                    let signature = packed_thought(seal, redacted);
                    self.part(choice, &Part { thought: true, ..Part::signature(signature) }, out);
                }
            }
            Block::Call { id, name, kind, arguments, seal } => {
                let (arguments, fit) = written(kind, &arguments);
                if fit == Fit::Changed {
                    self.losses.changed(At::NOWHERE, "arguments");
                }
                let data = Data::Call { name: &name, arguments, id: said_id(&id), pair: &id };
                self.part(choice, &Part { signature: seal.as_ref().map(packed), ..Part::new(data) }, out);
            }
            Block::Refusal | Block::Whole => {}
        }
    }

    fn part(&mut self, choice: u32, part: &Part<'_>, out: &mut Vec<u8>) {
        self.chunk(choice, out, |w| contents(std::slice::from_ref(part), w));
    }

    /// One event with a piece of one answer.
    fn chunk(&mut self, choice: u32, out: &mut Vec<u8>, candidate: impl FnOnce(&mut Writer<'_>)) {
        let mut body = Vec::with_capacity(256);
        let mut w = Writer::new(&mut body);
        w.object();
        w.name("candidates").array();
        w.object();
        candidate(&mut w);
        w.name("index").number(u64::from(choice));
        w.end_object();
        w.end_array();
        self.name(&mut w);
        w.end_object();
        self.frame(&body, out);
    }

    /// Why each answer ended, and what it all used.
    fn last(&mut self, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(512);
        let mut w = Writer::new(&mut body);
        w.object();
        let known = |name: &str| self.facts.iter().any(|(fact, _)| fact == name);
        let blocked = known("promptFeedback")
            && self.choices.iter().all(|side| {
                let filtered = side.stop.as_ref().is_none_or(|stop| stop.reason == StopReason::ContentFilter);
                filtered && side.said == 0
            });
        if !blocked {
            w.name("candidates").array();
            for (index, side) in self.choices.iter().enumerate() {
                w.object();
                contents(&[Part::text("")], &mut w);
                let told = index == 0 && known("finishReason");
                finish(side.stop.as_ref().filter(|_| !told), &mut w, &mut self.losses);
                if told && !known("finishMessage") {
                    w.string_if("finishMessage", side.stop.as_ref().and_then(|stop| stop.detail.as_deref()));
                }
                w.name("index").number(index as u64);
                for (name, json) in self.facts.iter().filter(|(name, _)| index == 0 && is_of_candidate(name)) {
                    w.name(name).raw(json);
                }
                let told = index == 0 && known("groundingMetadata");
                if !told && !side.grounding.is_empty() {
                    w.name("groundingMetadata");
                    side.grounding.write(&mut w);
                }
                w.end_object();
            }
            w.end_array();
        }
        for (name, json) in self.facts.iter().filter(|(name, _)| !is_of_candidate(name)) {
            w.name(name).raw(json);
        }
        if let Some(usage) = &self.usage {
            write_usage(usage, self.tier.as_deref(), &mut w);
        }
        self.name(&mut w);
        w.end_object();
        self.frame(&body, out);
    }

    fn name(&self, w: &mut Writer<'_>) {
        w.name("modelVersion").string(&self.model);
        if let Some(time) = self.created.and_then(time) {
            w.name("createTime").string(&time);
        }
        w.name("responseId").string(&self.id);
    }

    fn frame(&mut self, json: &[u8], out: &mut Vec<u8>) {
        match (self.form, self.began) {
            (StreamForm::Sse, _) => out.extend_from_slice(b"data: "),
            (StreamForm::Array, false) => out.push(b'['),
            (StreamForm::Array, true) => out.extend_from_slice(b",\n"),
        }
        self.began = true;
        out.extend_from_slice(json);
        out.extend_from_slice(match self.form {
            StreamForm::Sse => b"\r\n\r\n",
            StreamForm::Array => b"\n",
        });
    }

    fn end(&self, out: &mut Vec<u8>) {
        if self.form == StreamForm::Array {
            out.extend_from_slice(b"]");
        }
    }
}

fn contents(parts: &[Part<'_>], w: &mut Writer<'_>) {
    w.name("content").object();
    w.name("parts").array();
    for part in parts {
        part.write(w);
    }
    w.end_array();
    w.name("role").string("model");
    w.end_object();
}
