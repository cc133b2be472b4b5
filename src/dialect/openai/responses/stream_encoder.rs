//! A stream of events, written: the life cycle of an answer and of its items, in the order the API keeps.
//!
//! The last event repeats the whole answer, so everything said is held until then, up to [`MOST_HELD`].

use std::collections::HashMap;

use super::citation;
use super::envelope::{Ending, Envelope};
use super::output::{self, DECLINED, Ids, Item, Part, Status};
use super::seals::{self, Bearer};
use super::stream_frames::Frames;
use super::usage::untold;
use crate::chat::block::{Native, ServerResult};
use crate::chat::{Block, CallKind, Delta, Dialect, Event, Losses, Media, Open, Seal, Start, Stop, StopReason, Usage};
use crate::dialect::openai::error::responses_event;
use crate::dialect::{ReplyTo, StreamEncoder, StreamForm};
use crate::error::{Error, Kind};
use crate::json::At;

/// Most bytes of an answer: texts, images and 64 for each block.
const MOST_HELD: usize = 48 * 1024 * 1024;

/// Writes the events of one answer.
pub struct Encoder {
    to: Told,
    envelope: Option<Envelope>,
    ids: Ids,
    /// Each with its status: in progress until its last event is written.
    items: Vec<(Item, Status)>,
    /// Where the blocks that are open stand.
    blocks: HashMap<u32, Place>,
    /// A call that is open but not announced: a seal may come yet, which goes in front.
    held_call: Option<u32>,
    /// A call whose end was not announced: whether it was cut is known with the stop.
    closed_call: Option<usize>,
    held: usize,
    ending: Option<Ending>,
    usage: Option<Usage>,
    frames: Frames,
    losses: Losses,
    ended: bool,
}

/// [`ReplyTo`], kept.
struct Told {
    id: String,
    model: String,
    created: u64,
    echo: String,
}

enum Place {
    Part {
        item: usize,
        part: usize,
        late: Option<Seal<'static>>,
    },
    Thinking {
        item: usize,
        redacted: bool,
        apart: bool,
        current: Option<(u32, bool)>,
        seal: Option<Seal<'static>>,
    },
    /// Not announced.
    HeldCall {
        call: Item,
    },
    Call {
        item: usize,
        late: Option<Seal<'static>>,
    },
    /// It was said at once.
    Whole,
}

// === impl Encoder ===

impl Encoder {
    pub fn new(to: &ReplyTo<'_>) -> Self {
        // usage always comes with the end, and there is one form only
        let ReplyTo { id, model, created, stream_usage: _, form: _, echo } = *to;
        Encoder {
            to: Told { id: id.to_owned(), model: model.to_owned(), created, echo: echo.to_owned() },
            envelope: None,
            ids: Ids::new(None, to),
            items: Vec::new(),
            blocks: HashMap::new(),
            held_call: None,
            closed_call: None,
            held: 0,
            ending: None,
            usage: None,
            frames: Frames::default(),
            losses: Losses::default(),
            ended: false,
        }
    }

    fn start(&mut self, start: &Start<'_>, out: &mut Vec<u8>) {
        if self.envelope.is_some() {
            return;
        }
        let Start { id, model, created, service_tier } = start;
        let Told { id: call, model: asked, created: now, echo } = &self.to;
        let form = StreamForm::Sse;
        let to = ReplyTo { id: call, model: asked, created: *now, stream_usage: true, form, echo };
        let envelope =
            Envelope::new(id.as_deref(), model.as_deref(), *created, service_tier.as_deref(), &to, &mut self.losses);
        self.ids = Ids::new(id.as_deref(), &to);
        for name in ["response.created", "response.in_progress"] {
            self.frames.response(out, name, |w| envelope.write(w, None, &[], None));
        }
        self.envelope = Some(envelope);
    }

    fn add(&mut self, item: Item, out: &mut Vec<u8>) -> usize {
        let n = self.items.len();
        self.frames.item(out, "response.output_item.added", n, &item, Status::InProgress);
        self.items.push((item, Status::InProgress));
        n
    }

    /// Write an item's last event, once.
    fn finish(&mut self, n: usize, status: Status, out: &mut Vec<u8>) {
        let Some((item, now @ Status::InProgress)) = self.items.get_mut(n) else { return };
        *now = status;
        self.frames.before_done(out, n, item);
        self.frames.item(out, "response.output_item.done", n, item, status);
    }

    /// Another item is about to come: a message without open parts has ended, and so has a call that was closed.
    fn leave(&mut self, out: &mut Vec<u8>) {
        if let Some(n) = self.closed_call.take() {
            self.finish(n, Status::Completed, out);
        }
        let Some(n) = self.items.len().checked_sub(1) else { return };
        if matches!(self.items.get(n), Some((Item::Message { .. }, _))) && !self.has_open_part(n) {
            self.finish(n, Status::Completed, out);
        }
    }

    fn has_open_part(&self, n: usize) -> bool {
        self.blocks.values().any(|place| matches!(place, Place::Part { item, .. } if *item == n))
    }

    /// Announce the call that was held back.
    fn release(&mut self, out: &mut Vec<u8>) {
        let Some(block) = self.held_call.take() else { return };
        if let Some(Place::HeldCall { call }) = self.blocks.remove(&block) {
            self.leave(out);
            let item = self.add(call, out);
            self.blocks.insert(block, Place::Call { item, late: None });
        }
    }

    fn open(&mut self, block: u32, open: Open<'_>, out: &mut Vec<u8>) {
        let place = match open {
            Open::Text => self.open_part(false, out),
            Open::Refusal => self.open_part(true, out),
            Open::Thinking { redacted, id } => {
                self.leave(out);
                let apart = id.is_some();
                let item = self.add_reasoning(id.map(|id| id.into_owned()), None, out);
                Place::Thinking { item, redacted, apart, current: None, seal: None }
            }
            Open::ToolCall { id, name, kind, item_id } => {
                // not announced before what closed has ended, so that its number is the next
                self.leave(out);
                let own = item_id.as_deref().filter(|id| !id.is_empty());
                // a seal in front would take this number
                let n = self.items.len();
                let call = Item::Call {
                    id: output::call_item_id(own, kind, &self.ids, n),
                    call_id: id.into_owned(),
                    name: name.into_owned(),
                    kind,
                    arguments: String::new(),
                    extra: String::new(),
                };
                self.held_call = Some(block);
                Place::HeldCall { call }
            }
            Open::Whole(whole) => {
                self.whole(&whole, out);
                Place::Whole
            }
        };
        self.blocks.insert(block, place);
    }

    fn open_part(&mut self, refusal: bool, out: &mut Vec<u8>) -> Place {
        if let Some(n) = self.closed_call.take() {
            self.finish(n, Status::Completed, out);
        }
        let last = self.items.len().saturating_sub(1);
        let joins = matches!(self.items.last(), Some((Item::Message { .. }, Status::InProgress)));
        let item = if joins {
            last
        } else {
            let id = self.ids.make("msg", self.items.len());
            self.add(Item::Message { id, parts: Vec::new(), phase: None }, out)
        };
        let mut number = 0;
        if let Some((Item::Message { id, parts, .. }, _)) = self.items.get_mut(item) {
            number = parts.len();
            let part = Part { refusal, ..Part::default() };
            self.frames.part(out, "response.content_part.added", (item, id), number, &part);
            parts.push(part);
        }
        Place::Part { item, part: number, late: None }
    }

    fn add_reasoning(&mut self, id: Option<String>, encrypted: Option<String>, out: &mut Vec<u8>) -> usize {
        let id = id.unwrap_or_else(|| self.ids.make("rs", self.items.len()));
        let (summary, content, extra) = (Vec::new(), Vec::new(), String::new());
        self.add(Item::Reasoning { id, summary, content, encrypted, extra }, out)
    }

    /// A seal as an item of its own.
    fn add_seal(&mut self, seal: &Seal<'_>, bearer: Bearer, out: &mut Vec<u8>) {
        self.leave(out);
        let n = self.add_reasoning(None, Some(seals::pack(seal, bearer)), out);
        self.finish(n, Status::Completed, out);
    }

    fn whole(&mut self, whole: &Block<'_>, out: &mut Vec<u8>) {
        let n = self.items.len();
        match whole {
            Block::Text(text) => {
                let Place::Part { item, part, .. } = self.open_part(false, out) else { return };
                self.text(item, part, &text.text, out);
                self.close_part(item, part, out);
            }
            Block::Refusal(refusal) => {
                let Place::Part { item, part, .. } = self.open_part(true, out) else { return };
                self.text(item, part, &refusal.text, out);
                self.close_part(item, part, out);
            }
            Block::Media(media) => self.image(media, out),
            Block::ServerCall(call) => {
                self.leave(out);
                match Item::of_server_call(call, &self.ids, n) {
                    Some(item) => {
                        self.add(item, out);
                        if let Some((item @ (Item::Search { .. } | Item::Program { .. }), _)) = self.items.get(n) {
                            return self.frames.server_call(out, n, item);
                        }
                        self.finish(n, Status::Completed, out);
                    }
                    None => self.losses.dropped(call.at, ""),
                }
            }
            Block::ServerResult(result) => self.server_result(result, out),
            Block::Native(Native { dialect: Dialect::OpenAiResponses, json, .. }) => {
                self.leave(out);
                self.add(Item::Native { id: String::new(), json: json.clone().into_owned() }, out);
                self.finish(n, Status::Completed, out);
            }
            Block::Native(_) | Block::ToolResult(_) | Block::Thinking(_) | Block::ToolCall(_) => {
                self.losses.dropped(whole.at(), "");
            }
        }
    }

    fn server_result(&mut self, result: &ServerResult<'_>, out: &mut Vec<u8>) {
        let Some(n) = self.items.iter().rposition(|(item, _)| item.can_hold(result)) else {
            return self.losses.dropped(result.at, "");
        };
        if let Some((item, _)) = self.items.get_mut(n) {
            item.add_result(result);
        }
        self.finish(n, Status::Completed, out);
    }

    fn image(&mut self, media: &Media<'_>, out: &mut Vec<u8>) {
        if let Some(seal) = &media.seal {
            self.add_seal(seal, Bearer::Thinking, out);
        }
        let own = media.extra.get("id").is_some();
        match Item::of_media(media, own, &self.ids, self.items.len()) {
            Some(item) => {
                self.leave(out);
                let n = self.add(item, out);
                self.finish(n, Status::Completed, out);
            }
            None => self.losses.dropped(media.at, ""),
        }
    }

    fn text(&mut self, item: usize, part: usize, text: &str, out: &mut Vec<u8>) {
        if let Some((Item::Message { id, parts, .. }, _)) = self.items.get_mut(item)
            && let Some(place) = parts.get_mut(part)
        {
            place.text.push_str(text);
            self.frames.text(out, (item, id), part, place.refusal, text, &[]);
        }
    }

    fn close_part(&mut self, item: usize, part: usize, out: &mut Vec<u8>) {
        if let Some((Item::Message { id, parts, .. }, _)) = self.items.get(item)
            && let Some(place) = parts.get(part)
        {
            self.frames.text_done(out, (item, id), part, place);
            self.frames.part(out, "response.content_part.done", (item, id), part, place);
        }
    }

    fn delta(&mut self, block: u32, delta: Delta<'_>, out: &mut Vec<u8>) {
        let Some(mut place) = self.blocks.remove(&block) else { return };
        match (&mut place, delta) {
            (Place::Part { item, part, .. }, Delta::Text(text) | Delta::Refusal(text)) => {
                self.text(*item, *part, &text, out);
            }
            (Place::Part { item, part, .. }, Delta::Citation(citation)) => {
                if citation::loses(&citation) {
                    self.losses.dropped(At::NOWHERE, "citations");
                }
                if let Some((Item::Message { id, parts, .. }, _)) = self.items.get_mut(*item)
                    && let Some(place) = parts.get_mut(*part)
                {
                    match citation::write(&citation, place.text.chars().count() as u64) {
                        Some(json) => {
                            self.frames.annotation(out, (*item, id), *part, place.annotations.len(), &json);
                            place.annotations.push(json);
                        }
                        None => self.losses.dropped(At::NOWHERE, "citations"),
                    }
                }
            }
            (Place::Part { item, part, .. }, Delta::Logprobs(list)) => {
                let list: Vec<String> = list.iter().map(output::logprob).collect();
                if let Some((Item::Message { id, parts, .. }, _)) = self.items.get_mut(*item)
                    && let Some(place) = parts.get_mut(*part).filter(|part| !part.refusal)
                {
                    // they belong to the text just sent
                    self.frames.text(out, (*item, id), *part, false, "", &list);
                    place.logprobs.extend(list);
                }
            }
            (Place::Part { late, .. } | Place::Call { late, .. }, Delta::Seal(seal)) => *late = Some(seal.into_owned()),
            (Place::Thinking { seal, .. }, Delta::Seal(more)) => match seal {
                Some(before) if before.issuer == more.issuer => before.raw.to_mut().push_str(&more.raw),
                place => *place = Some(more.into_owned()),
            },
            (Place::Thinking { item, apart, current, .. }, Delta::Thought { part, summary, text }) => {
                let summary = summary || !*apart;
                if *current != Some((part, summary)) {
                    self.close_thought(*item, current.take(), out);
                    self.open_thought(*item, summary, out);
                    *current = Some((part, summary));
                }
                self.thought(*item, summary, &text, out);
            }
            (Place::HeldCall { .. }, Delta::Seal(seal)) => self.add_seal(&seal, Bearer::Thinking, out),
            (Place::Call { item, .. }, Delta::Arguments(text)) => {
                if let Some((Item::Call { id, kind, arguments, .. }, _)) = self.items.get_mut(*item) {
                    arguments.push_str(&text);
                    self.frames.arguments(out, (*item, id), *kind, &text);
                }
            }
            // a piece of another kind of block: the order forbids it
            _ => {}
        }
        self.blocks.insert(block, place);
    }

    fn open_thought(&mut self, item: usize, summary: bool, out: &mut Vec<u8>) {
        if let Some((Item::Reasoning { id, summary: shown, content, .. }, _)) = self.items.get_mut(item) {
            let list = if summary { shown } else { content };
            list.push(String::new());
            self.frames.thought_part(out, "added", (item, id), summary, list.len() - 1, "");
        }
    }

    fn thought(&mut self, item: usize, summary: bool, text: &str, out: &mut Vec<u8>) {
        if let Some((Item::Reasoning { id, summary: shown, content, .. }, _)) = self.items.get_mut(item) {
            let list = if summary { shown } else { content };
            let n = list.len().saturating_sub(1);
            if let Some(last) = list.last_mut() {
                last.push_str(text);
            }
            self.frames.thought(out, (item, id), summary, n, text);
        }
    }

    fn close_thought(&mut self, item: usize, current: Option<(u32, bool)>, out: &mut Vec<u8>) {
        let Some((_, summary)) = current else { return };
        if let Some((Item::Reasoning { id, summary: shown, content, .. }, _)) = self.items.get(item) {
            let list = if summary { shown } else { content };
            let text = list.last().map(String::as_str).unwrap_or_default();
            let n = list.len().saturating_sub(1);
            self.frames.thought_done(out, (item, id), summary, n, text);
            self.frames.thought_part(out, "done", (item, id), summary, n, text);
        }
    }

    fn close(&mut self, block: u32, out: &mut Vec<u8>) {
        match self.blocks.remove(&block) {
            Some(Place::Part { item, part, late }) => {
                self.close_part(item, part, out);
                if item + 1 < self.items.len() && !self.has_open_part(item) {
                    self.finish(item, Status::Completed, out);
                }
                self.seal_behind(item, late, out);
            }
            Some(Place::Thinking { item, redacted, apart: _, current, seal }) => {
                self.close_thought(item, current, out);
                if let (Some((Item::Reasoning { encrypted, .. }, _)), Some(seal)) = (self.items.get_mut(item), seal) {
                    *encrypted = Some(output::encrypted(&seal, redacted));
                }
                self.finish(item, Status::Completed, out);
            }
            Some(Place::Call { item, late }) => {
                self.close_call(item, out);
                if let Some(before) = self.closed_call.replace(item) {
                    self.finish(before, Status::Completed, out);
                }
                self.seal_behind(item, late, out);
            }
            Some(Place::HeldCall { .. } | Place::Whole) | None => {}
        }
    }

    fn close_call(&mut self, item: usize, out: &mut Vec<u8>) {
        if let Some((Item::Call { id, kind, arguments, .. }, _)) = self.items.get_mut(item) {
            if arguments.is_empty() && *kind == CallKind::Function {
                arguments.push_str("{}");
                self.frames.arguments(out, (item, id), *kind, "{}");
            }
            self.frames.arguments_done(out, (item, id), *kind, arguments);
        }
    }

    /// A seal that came when its block had been announced stands in the next item; of an earlier one it could not be told.
    fn seal_behind(&mut self, item: usize, seal: Option<Seal<'_>>, out: &mut Vec<u8>) {
        let Some(seal) = seal else { return };
        if item + 1 == self.items.len() {
            self.add_seal(&seal, Bearer::BlockBefore, out);
        } else {
            self.losses.dropped(At::NOWHERE, "signature");
        }
    }

    fn stop(&mut self, stop: &Stop<'_>, out: &mut Vec<u8>) {
        let says_no =
            |item: &(Item, Status)| matches!(&item.0, Item::Message { parts, .. } if parts.iter().any(|p| p.refusal));
        if stop.reason == StopReason::Refusal && !self.items.iter().any(says_no) {
            let Place::Part { item, part, .. } = self.open_part(true, out) else { return };
            self.text(item, part, stop.detail.as_deref().unwrap_or(DECLINED), out);
            self.close_part(item, part, out);
        }
        self.ending = Some(Ending::of(Some(stop), &mut self.losses));
    }

    /// The whole answer.
    fn end(&mut self, out: &mut Vec<u8>) {
        let mut open: Vec<u32> = self.blocks.keys().copied().collect();
        open.sort_unstable();
        for block in open {
            self.close(block, out);
        }
        let ending = match self.ending.take() {
            Some(ending) => ending,
            None => Ending::of(None, &mut self.losses),
        };
        for n in 0..self.items.len() {
            self.finish(n, ending.of_item(n + 1 == self.items.len()), out);
        }
        let name = match ending.status {
            Status::Completed => "response.completed",
            Status::Failed => "response.failed",
            Status::InProgress | Status::Incomplete | Status::Cancelled => "response.incomplete",
        };
        if let Some(envelope) = &self.envelope {
            let (items, usage) = (&self.items, self.usage.as_ref());
            self.frames.response(out, name, |w| envelope.write(w, Some(&ending), items, usage));
        }
        self.ended = true;
    }

    fn fail(&mut self, error: &Error, out: &mut Vec<u8>) {
        out.extend_from_slice(&responses_event(error, self.frames.sequence));
        self.ended = true;
    }
}

impl StreamEncoder for Encoder {
    fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        if let Event::Ping = event {
            out.extend_from_slice(self.heartbeat());
            return;
        }
        if self.envelope.is_none() && !matches!(event, Event::Start(_) | Event::Error(_)) {
            self.start(&Start::default(), out);
        }
        let waits = matches!(&event, Event::Delta { choice: 0, block, delta: Delta::Seal(_) } if self.held_call == Some(*block));
        if !waits && !matches!(event, Event::Usage(_) | Event::Extra { .. } | Event::Error(_)) {
            self.release(out);
        }
        self.held = self.held.saturating_add(size(&event));
        if self.held > MOST_HELD {
            let error = Error::new(Kind::UpstreamFailed, "The answer is too long to be streamed in this dialect.");
            return self.fail(&error, out);
        }
        match event {
            Event::Start(start) => self.start(&start, out),
            Event::Open { choice: 0, block, open } => self.open(block, open, out),
            Event::Delta { choice: 0, block, delta } => self.delta(block, delta, out),
            Event::Close { choice: 0, block } => self.close(block, out),
            Event::Stop { choice: 0, stop } => self.stop(&stop, out),
            Event::Open { .. } => self.losses.dropped(At::NOWHERE, "choices"),
            Event::Delta { .. } | Event::Close { .. } | Event::Stop { .. } | Event::Ping => {}
            Event::Usage(usage) => {
                untold(&usage, &mut self.losses);
                self.usage = Some(usage);
            }
            Event::Extra { dialect: Dialect::OpenAiResponses, name, json } => {
                if let Some(envelope) = &mut self.envelope {
                    envelope.keep(&name, &json);
                }
            }
            Event::Extra { name, .. } => self.losses.dropped(At::NOWHERE, name.into_owned()),
            Event::Error(error) => self.fail(&error, out),
            Event::End => self.end(out),
        }
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }
}

/// About what an event adds to the answer.
fn size(event: &Event<'_>) -> usize {
    match event {
        Event::Delta { delta, .. } => match delta {
            Delta::Text(text) | Delta::Refusal(text) | Delta::Arguments(text) => text.len(),
            Delta::Thought { text, .. } => text.len(),
            Delta::Seal(seal) => seal.raw.len(),
            Delta::Citation(_) => 512,
            Delta::Logprobs(list) => list.iter().map(|one| 128 * (1 + one.top.len())).sum(),
        },
        Event::Open { open: Open::Whole(block), .. } => match block {
            Block::Media(Media { source: crate::chat::Source::Base64 { data, .. }, .. }) => data.len(),
            Block::Native(native) => native.json.len(),
            Block::ServerCall(call) => 64 + call.input.len() + call.native.as_ref().map_or(0, |(_, json)| json.len()),
            Block::Text(text) => text.text.len(),
            _ => 1024,
        },
        Event::Open { .. } => 64,
        Event::Extra { json, .. } => json.len(),
        _ => 0,
    }
}
