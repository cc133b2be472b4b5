//! An event stream, written for a client of this dialect.
//!
//! `message_start` waits for the first event behind `Start`, so that it can tell the input's usage where the provider says it in front;
//! `message_delta` waits for the end, since usage and stop come in either order. A block begins with its first piece: one that stays
//! empty is not written (an empty text is refused when it comes back), and a seal that comes before the block it belongs to still finds
//! its place in front of it.
//! Truth: Anthropic, "Streaming messages"; the accumulator of the official SDK (`lib/streaming`).

use std::borrow::Cow;

use super::encode_response::{message_id, stop_details, write_stop};
use super::queue::{Full, Queue, Waiting, What};
use super::usage::{self, Form};
use super::{citation, error};
use crate::chat::{Citation, Delta, Dialect, Event, Issuer, Losses, Open, Seal, Start, Stop, StopReason, Usage};
use crate::dialect::{ReplyTo, StreamEncoder};
use crate::error::{Error, Kind};
use crate::json::{At, Node, Writer};

const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// Most members kept for `message_delta`.
const MOST_EXTRA: usize = 32;

#[derive(Debug)]
pub(super) struct Encoder {
    id: String,
    model: String,
    tier: Option<String>,
    losses: Losses,
    began: bool,
    over: bool,
    usage: Option<Usage>,
    stop: Option<Stop<'static>>,
    extras: Vec<(String, String)>,
    called: bool,
    refused: bool,
    /// Number of the block that is written next.
    index: u64,
    /// The signature of a text that has ended: it goes in front of the next block. Behind the last one it would be the end of the answer,
    /// and some clients show nothing but that; Gemini does not insist on it.
    late: Option<Seal<'static>>,
    front: Option<Front>,
    queue: Queue,
}

/// The block that is being written.
#[derive(Debug)]
struct Front {
    block: u32,
    what: What,
    /// `content_block_start` is out.
    begun: bool,
    /// Of a thought.
    part: u32,
    /// Came too late to stand in front.
    seal: Option<Seal<'static>>,
}

// === impl Encoder ===

impl StreamEncoder for Encoder {
    fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        let done = match event {
            Event::Start(start) => {
                self.start(start);
                Ok(())
            }
            Event::Ping => {
                out.extend_from_slice(PING);
                Ok(())
            }
            Event::Usage(usage) => {
                usage::untold(&usage, &mut self.losses);
                self.usage = Some(usage);
                Ok(())
            }
            Event::Error(error) => {
                self.fail(&error, out);
                Ok(())
            }
            Event::Open { choice: 1.., .. }
            | Event::Delta { choice: 1.., .. }
            | Event::Close { choice: 1.., .. }
            | Event::Stop { choice: 1.., .. } => {
                self.losses.dropped(At::NOWHERE, "choices");
                Ok(())
            }
            Event::Open { choice: _, block, open } => self.open(block, open, out),
            Event::Delta { choice: _, block, delta } => self.delta(block, delta, out),
            Event::Close { choice: _, block } => {
                self.close(block, out);
                Ok(())
            }
            Event::Stop { choice: _, stop } => {
                self.begin(out);
                self.stop.get_or_insert_with(|| owned(stop));
                Ok(())
            }
            Event::Extra { dialect, name, json } => {
                self.extra(dialect, &name, &json);
                Ok(())
            }
            Event::End => {
                self.end(out);
                Ok(())
            }
        };
        if let Err(Full) = done {
            self.fail(&Error::new(Kind::UpstreamFailed, "The answer is too large to be put in order."), out);
        }
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }

    fn heartbeat(&self) -> &'static [u8] {
        PING
    }
}

impl Encoder {
    pub(super) fn new(to: &ReplyTo<'_>) -> Self {
        Encoder {
            id: message_id(None, to.id).into_owned(),
            model: to.model.to_owned(),
            tier: None,
            losses: Losses::default(),
            began: false,
            over: false,
            usage: None,
            stop: None,
            extras: Vec::new(),
            called: false,
            refused: false,
            index: 0,
            front: None,
            late: None,
            queue: Queue::default(),
        }
    }

    fn start(&mut self, start: Start<'_>) {
        // the time is not told in this dialect
        let Start { id, model, created: _, service_tier } = start;
        if let Some(id) = id.filter(|id| id.starts_with("msg_")) {
            self.id = id.into_owned();
        }
        if let Some(model) = model {
            self.model = model.into_owned();
        }
        self.tier = service_tier.map(Cow::into_owned);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.began, true) {
            return;
        }
        let usage = Usage { reasoning: Default::default(), ..self.usage.unwrap_or_default() };
        frame(out, "message_start", |w| {
            w.name("message").object();
            w.name("id").string(&self.id);
            w.name("type").string("message");
            w.name("role").string("assistant");
            w.name("model").string(&self.model);
            w.name("content").array();
            w.end_array();
            w.name("stop_reason").null();
            w.name("stop_sequence").null();
            w.name("usage");
            usage::write(w, usage, self.tier.as_deref(), Form::Whole);
            w.end_object();
        });
        out.extend_from_slice(PING);
    }

    fn open(&mut self, block: u32, open: Open<'_>, out: &mut Vec<u8>) -> Result<(), Full> {
        self.begin(out);
        let (what, deltas) = What::of(open, &mut self.losses);
        self.called |= matches!(what, What::ToolCall { .. });
        self.refused |= what == What::Refusal;
        if self.front.is_some() {
            return self.queue.open(block, what, deltas);
        }
        self.advance(block, what, out);
        deltas.into_iter().for_each(|delta| self.piece(delta, out));
        Ok(())
    }

    fn delta(&mut self, block: u32, delta: Delta<'_>, out: &mut Vec<u8>) -> Result<(), Full> {
        match &self.front {
            Some(front) if front.block == block => {
                self.piece(delta, out);
                Ok(())
            }
            _ => self.queue.add(block, delta),
        }
    }

    fn close(&mut self, block: u32, out: &mut Vec<u8>) {
        if self.front.as_ref().is_none_or(|front| front.block != block) {
            self.queue.close(block);
            return;
        }
        self.finish_front(out);
        while let Some(Waiting { block, what, deltas, closed }) = self.queue.next() {
            self.advance(block, what, out);
            deltas.into_iter().for_each(|delta| self.piece(delta, out));
            if !closed {
                break;
            }
            self.finish_front(out);
        }
    }

    /// The next block comes to the front.
    fn advance(&mut self, block: u32, what: What, out: &mut Vec<u8>) {
        if let Some(seal) = self.late.take() {
            seal_block(&seal, &mut self.index, out);
        }
        if let What::Json(json) = &what {
            self.json(json, out);
        }
        self.front = Some(Front { block, what, begun: false, part: 0, seal: None });
    }

    /// A piece of the block in front.
    fn piece(&mut self, delta: Delta<'_>, out: &mut Vec<u8>) {
        let Some(front) = &mut self.front else { return };
        let index = &mut self.index;
        match (&front.what, delta) {
            (_, Delta::Logprobs(_)) => self.losses.dropped(At::NOWHERE, "logprobs"),
            (What::Thinking { redacted }, delta) => front.thought(*redacted, delta, *index, out),
            (What::Text | What::ToolCall { .. }, Delta::Seal(seal)) => {
                if front.begun {
                    front.seal = Some(seal.into_owned());
                } else {
                    seal_block(&seal, index, out);
                }
            }
            (What::Text, Delta::Citation(citation)) => match line(&citation) {
                Some(json) => {
                    front.begin(*index, out);
                    delta_of(out, *index, "citations_delta", |w| w.name("citation").raw(&json));
                }
                None => self.losses.dropped(At::NOWHERE, "citations"),
            },
            (What::Text, Delta::Text(text)) | (What::Refusal, Delta::Refusal(text) | Delta::Text(text)) => {
                front.add("text_delta", "text", &text, *index, out);
            }
            (What::ToolCall { .. }, Delta::Arguments(text)) => {
                front.add("input_json_delta", "partial_json", &text, *index, out);
            }
            // a piece that its kind of block does not have
            _ => {}
        }
    }

    fn finish_front(&mut self, out: &mut Vec<u8>) {
        let Some(mut front) = self.front.take() else { return };
        if matches!(front.what, What::ToolCall { .. }) {
            front.begin(self.index, out);
        }
        if front.begun {
            stop_frame(&mut self.index, out);
        }
        match front.seal {
            Some(seal) if front.what == What::Text => self.late = Some(seal),
            Some(seal) => seal_block(&seal, &mut self.index, out),
            None => {}
        }
    }

    /// A block that comes at once: a call's input follows as a piece, as the official API has it.
    fn json(&mut self, json: &str, out: &mut Vec<u8>) {
        let Ok(members) = Node::parse_reply(json.as_bytes()).map(Node::object) else { return };
        let Ok(members) = members else { return };
        let input = members.get("input").filter(|node| node.as_object().is_some_and(|input| !input.is_empty()));
        frame(out, "content_block_start", |w| {
            w.name("index").number(self.index);
            w.name("content_block").object();
            for (name, node) in members.iter() {
                match name {
                    "input" if input.is_some() => w.name(name).raw("{}"),
                    _ => w.name(name).raw(&one_line(node.raw)),
                }
            }
            w.end_object();
        });
        if let Some(input) = input {
            delta_frame(out, self.index, "input_json_delta", "partial_json", input.raw);
        }
        stop_frame(&mut self.index, out);
    }

    fn extra(&mut self, dialect: Dialect, name: &str, json: &str) {
        if dialect != Dialect::Anthropic || self.extras.len() >= MOST_EXTRA {
            self.losses.dropped(At::NOWHERE, name.to_owned());
        } else {
            self.extras.push((name.to_owned(), one_line(json).into_owned()));
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.finish_front(out);
        while let Some(Waiting { block, what, deltas, closed: _ }) = self.queue.next() {
            self.advance(block, what, out);
            deltas.into_iter().for_each(|delta| self.piece(delta, out));
            self.finish_front(out);
        }
        if self.late.take().is_some() {
            self.losses.dropped(At::NOWHERE, "signature");
        }
        self.over = true;
        let (inside, beside): (Vec<_>, Vec<_>) =
            self.extras.drain(..).partition(|(name, _)| matches!(&**name, "stop_details" | "container"));
        frame(out, "message_delta", |w| {
            w.name("delta").object();
            write_stop(w, self.stop.as_ref(), self.called, self.refused, &mut self.losses);
            if inside.iter().all(|(name, _)| name != "stop_details") {
                stop_details(w, self.stop.as_ref());
            }
            inside.iter().for_each(|(name, json)| w.name(name).raw(json));
            w.end_object();
            w.name("usage");
            usage::write(w, self.usage.unwrap_or_default(), None, Form::Delta);
            beside.iter().for_each(|(name, json)| w.name(name).raw(json));
        });
        frame(out, "message_stop", |_| {});
    }

    fn fail(&mut self, error: &Error, out: &mut Vec<u8>) {
        self.over = true;
        out.extend_from_slice(&error::event(error));
    }
}

// === impl Front ===

impl Front {
    fn begin(&mut self, index: u64, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            start_frame(&self.what, index, out);
        }
    }

    fn add(&mut self, kind: &str, member: &str, text: &str, index: u64, out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.begin(index, out);
            delta_frame(out, index, kind, member, text);
        }
    }

    fn thought(&mut self, redacted: bool, delta: Delta<'_>, index: u64, out: &mut Vec<u8>) {
        match delta {
            Delta::Thought { part, summary: _, text } if !redacted && !text.is_empty() => {
                if self.begun && part != self.part {
                    delta_frame(out, index, "thinking_delta", "thinking", "\n\n");
                }
                self.part = part;
                self.add("thinking_delta", "thinking", &text, index, out);
            }
            Delta::Seal(seal) if !redacted => {
                self.begin(index, out);
                delta_frame(out, index, "signature_delta", "signature", &seal.pack(Issuer::Anthropic));
            }
            Delta::Seal(seal) if !std::mem::replace(&mut self.begun, true) => {
                frame(out, "content_block_start", |w| {
                    w.name("index").number(index);
                    w.name("content_block").object();
                    w.name("type").string("redacted_thinking");
                    w.name("data").string(&seal.pack(Issuer::Anthropic));
                    w.end_object();
                });
            }
            _ => {}
        }
    }
}

// === frames ===

fn frame(out: &mut Vec<u8>, name: &str, members: impl FnOnce(&mut Writer<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    let mut w = Writer::new(out);
    w.object();
    w.name("type").string(name);
    members(&mut w);
    w.end_object();
    out.extend_from_slice(b"\n\n");
}

fn start_frame(what: &What, index: u64, out: &mut Vec<u8>) {
    frame(out, "content_block_start", |w| {
        w.name("index").number(index);
        w.name("content_block").object();
        match what {
            What::ToolCall { id, name } => {
                w.name("type").string("tool_use");
                w.name("id").string(id);
                w.name("name").string(name);
                w.name("input").object();
                w.end_object();
            }
            What::Thinking { .. } => {
                w.name("type").string("thinking");
                w.name("thinking").string("");
                w.name("signature").string("");
            }
            What::Text | What::Refusal | What::Json(_) | What::Nothing => {
                w.name("type").string("text");
                w.name("text").string("");
            }
        }
        w.end_object();
    });
}

fn delta_of(out: &mut Vec<u8>, index: u64, kind: &str, members: impl FnOnce(&mut Writer<'_>)) {
    frame(out, "content_block_delta", |w| {
        w.name("index").number(index);
        w.name("delta").object();
        w.name("type").string(kind);
        members(w);
        w.end_object();
    });
}

fn delta_frame(out: &mut Vec<u8>, index: u64, kind: &str, member: &str, text: &str) {
    delta_of(out, index, kind, |w| w.name(member).string(text));
}

fn stop_frame(index: &mut u64, out: &mut Vec<u8>) {
    frame(out, "content_block_stop", |w| w.name("index").number(*index));
    *index += 1;
}

/// A seal that belongs to the next block: a thought without words.
fn seal_block(seal: &Seal<'_>, index: &mut u64, out: &mut Vec<u8>) {
    start_frame(&What::Thinking { redacted: false }, *index, out);
    delta_frame(out, *index, "signature_delta", "signature", &seal.pack(Issuer::Anthropic));
    stop_frame(index, out);
}

fn line(citation: &Citation<'_>) -> Option<String> {
    let mut out = Vec::new();
    citation::write(&mut Writer::new(&mut out), citation).then_some(())?;
    String::from_utf8(out).ok().map(|json| one_line(&json).into_owned())
}

/// JSON without line ends, which would end the field of an event. In JSON they are white space: strings have them escaped.
fn one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) { Cow::Owned(json.replace(['\n', '\r'], " ")) } else { Cow::Borrowed(json) }
}

fn owned(stop: Stop<'_>) -> Stop<'static> {
    let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
    let Stop { reason, sequence, detail } = stop;
    let reason = match reason {
        StopReason::End => StopReason::End,
        StopReason::Length => StopReason::Length,
        StopReason::Sequence => StopReason::Sequence,
        StopReason::ToolUse => StopReason::ToolUse,
        StopReason::ContentFilter => StopReason::ContentFilter,
        StopReason::Refusal => StopReason::Refusal,
        StopReason::Pause => StopReason::Pause,
        StopReason::ContextWindow => StopReason::ContextWindow,
        StopReason::MalformedCall => StopReason::MalformedCall,
        StopReason::Other(word) => StopReason::Other(own(word)),
    };
    Stop { reason, sequence: sequence.map(own), detail: detail.map(own) }
}
