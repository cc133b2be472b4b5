//! A stream of chat completion chunks, written for a client.
//!
//! The first chunk of a choice names the role, its last the reason it ended; then, for who asked, one with the usage and no choice; then
//! `[DONE]`. An error is an event of its own and the last one: the official SDKs raise on it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::finish::{self, Held};
use super::response_out::{self, AUDIO_KEPT};
use super::{annotations, reasoning, turns_in};
use crate::chat::{
    Block, CallKind, Delta, Dialect, Event, Extra, Losses, Media, MediaKind, Open, Seal, Source, Start, Stop,
    StopReason, Text, Thinking, Thought, ToolCall, Usage,
};
use crate::dialect::openai::{error, usage};
use crate::dialect::{ReplyTo, StreamEncoder};
use crate::json::{At, Writer};

/// A thought is kept until its seal comes, because the two are given back together; of one longer than this only the seal is.
const LONGEST_THOUGHT: usize = 1024 * 1024;

/// Members of a chunk that no fact of a provider's may stand beside. `usage` may: what it holds beside the counts is written within.
const OWN: [&str; 6] = ["id", "object", "created", "model", "choices", "service_tier"];

/// Facts of the answer as a whole, kept for its last chunk.
const MOST_EXTRA: usize = 16;

pub(super) struct Encoder {
    /// The call's id, time and model, where the provider gives none.
    id: String,
    created: u64,
    model: String,
    stream_usage: bool,
    /// A chunk up to its choices; made when the stream starts.
    head: Vec<u8>,
    choices: BTreeMap<u32, Choice>,
    usage: Option<Usage>,
    /// Members of a provider that speaks this dialect.
    extra: Vec<(String, String)>,
    losses: Losses,
    ended: bool,
}

/// What was said of one choice.
#[derive(Default)]
struct Choice {
    /// Blocks that are open.
    open: BTreeMap<u32, Said>,
    calls: u64,
    images: u64,
    citations: u64,
    /// Entries of `reasoning_details`.
    details: u64,
    thought: bool,
    refused: bool,
    /// Of the content.
    characters: u64,
}

/// An open block.
enum Said {
    /// Where in the content it begins.
    Text {
        begin: u64,
        seal: Option<Seal<'static>>,
    },
    Refusal,
    Thought(Thinking<'static>),
    /// Its place among the calls of the choice.
    Call {
        index: u64,
        kind: CallKind,
        empty: bool,
    },
    Nothing,
}

// === impl Encoder ===

impl Encoder {
    pub(super) fn new(to: &ReplyTo<'_>) -> Self {
        Encoder {
            id: to.id.to_owned(),
            created: to.created,
            model: to.model.to_owned(),
            stream_usage: to.stream_usage,
            head: Vec::new(),
            choices: BTreeMap::new(),
            usage: None,
            extra: Vec::new(),
            losses: Losses::default(),
            ended: false,
        }
    }

    fn start(&mut self, start: Start<'_>, out: &mut Vec<u8>) {
        let Start { id, model, created, service_tier } = start;
        let mut head = b"data: ".to_vec();
        let mut w = Writer::new(&mut head);
        w.object();
        w.name("id").string(id.as_deref().unwrap_or(&self.id));
        w.name("object").string("chat.completion.chunk");
        w.name("created").number(created.unwrap_or(self.created));
        w.name("model").string(model.as_deref().unwrap_or(&self.model));
        let served = service_tier.as_deref().and_then(response_out::tier);
        if served.is_none() && service_tier.is_some() {
            self.losses.dropped(At::NOWHERE, "service_tier");
        }
        w.string_if("service_tier", served);
        w.name("choices").array();
        self.head = head;
        self.begin(0, out);
    }

    /// The first chunk of a choice, once.
    fn begin(&mut self, number: u32, out: &mut Vec<u8>) {
        if self.head.is_empty() {
            self.start(Start::default(), out);
        }
        if self.choices.contains_key(&number) {
            return;
        }
        self.choices.insert(number, Choice::default());
        self.delta(number, out, |w| {
            w.name("role").string("assistant");
            w.name("content").string("");
            w.name("refusal").null();
        });
    }

    /// A chunk whose only choice has a delta, written by `inside`.
    fn delta(&self, number: u32, out: &mut Vec<u8>, inside: impl FnOnce(&mut Writer<'_>)) {
        self.choice(number, out, inside, |w| {
            w.name("logprobs").null();
            w.name("finish_reason").null();
        });
    }

    fn choice(
        &self,
        number: u32,
        out: &mut Vec<u8>,
        delta: impl FnOnce(&mut Writer<'_>),
        behind: impl FnOnce(&mut Writer<'_>),
    ) {
        out.extend_from_slice(&self.head);
        let mut w = Writer::new(out);
        w.object();
        w.name("index").number(number.into());
        w.name("delta").object();
        delta(&mut w);
        w.end_object();
        behind(&mut w);
        w.end_object();
        out.extend_from_slice(if self.stream_usage { b"],\"usage\":null}\n\n" } else { b"]}\n\n" });
    }

    // === blocks ===

    fn open(&mut self, number: u32, block: u32, open: Open<'_>, out: &mut Vec<u8>) {
        let Some(choice) = self.choices.get_mut(&number) else { return };
        let said = match open {
            Open::Text => Said::Text { begin: choice.characters, seal: None },
            Open::Refusal => Said::Refusal,
            Open::Thinking { redacted, id } => Said::Thought(Thinking {
                thoughts: Vec::new(),
                seal: None,
                redacted,
                id: id.map(|id| Cow::Owned(id.into_owned())),
                at: At::NOWHERE,
                extra: Extra::default(),
            }),
            // an item's id is for items
            Open::ToolCall { id, name, kind, item_id: _ } => {
                let index = choice.calls;
                choice.calls += 1;
                choice.open.insert(block, Said::Call { index, kind, empty: true });
                return self.call(number, index, kind, &id, &name, out);
            }
            Open::Whole(whole) => {
                choice.open.insert(block, Said::Nothing);
                return self.whole(number, block, whole, out);
            }
        };
        choice.open.insert(block, said);
    }

    fn call(&self, number: u32, index: u64, kind: CallKind, id: &str, name: &str, out: &mut Vec<u8>) {
        let (inner, arguments) = turns_in::inner_names(kind);
        self.delta(number, out, |w| {
            w.name("tool_calls").array();
            w.object();
            w.name("index").number(index);
            w.name("id").string(id);
            w.name("type").string(inner);
            w.name(inner).object();
            w.name("name").string(name);
            w.name(arguments).string("");
            w.end_object();
            w.end_object();
            w.end_array();
        });
    }

    fn piece(&mut self, number: u32, block: u32, delta: Delta<'_>, out: &mut Vec<u8>) {
        let Some(choice) = self.choices.get_mut(&number) else { return };
        let Some(said) = choice.open.get_mut(&block) else { return };
        match (delta, said) {
            (Delta::Text(text), Said::Text { .. }) => {
                choice.characters += text.chars().count() as u64;
                self.delta(number, out, |w| w.name("content").string(&text));
            }
            (Delta::Refusal(text), _) => {
                choice.refused = true;
                self.delta(number, out, |w| w.name("refusal").string(&text));
            }
            (Delta::Thought { part, summary, text }, Said::Thought(thinking)) => {
                let begins = grow(thinking, part, summary, &text);
                let apart = if begins && choice.thought { reasoning::BREAK } else { "" };
                choice.thought = true;
                self.delta(number, out, |w| w.name("reasoning_content").strings(&[apart, &text]));
            }
            (Delta::Seal(seal), Said::Thought(Thinking { seal: place, .. }) | Said::Text { seal: place, .. }) => {
                *place = Some(seal.into_owned());
            }
            (Delta::Seal(seal), Said::Call { index, .. }) => {
                let index = *index;
                self.call_piece(number, index, out, |w| {
                    // OpenAI's own SDK wants a function in each piece of a call
                    w.name("function").object();
                    w.name("arguments").string("");
                    w.end_object();
                    reasoning::write_google_seal(w, &seal);
                });
            }
            (Delta::Arguments(more), Said::Call { index, kind, empty }) if !more.is_empty() => {
                *empty = false;
                let (index, kind) = (*index, *kind);
                self.arguments(number, index, kind, &more, out);
            }
            (Delta::Citation(citation), Said::Text { begin, .. }) => {
                let block = (*begin, choice.characters);
                let index = choice.citations;
                choice.citations += 1;
                if !annotations::is_said(&citation) {
                    self.losses.dropped(At::NOWHERE, "citations");
                    return;
                }
                self.delta(number, out, |w| {
                    w.name("annotations").array();
                    annotations::write(w, &citation, block, Some(index));
                    w.end_array();
                });
            }
            (Delta::Logprobs(logprobs), said) => {
                let refusal = matches!(said, Said::Refusal);
                self.choice(
                    number,
                    out,
                    |_| {},
                    |w| {
                        w.name("logprobs");
                        annotations::write_logprobs(w, &logprobs, refusal);
                        w.name("finish_reason").null();
                    },
                );
            }
            // a piece of another kind of block, or an empty one
            (Delta::Text(_) | Delta::Thought { .. } | Delta::Seal(_) | Delta::Arguments(_) | Delta::Citation(_), _) => {
            }
        }
    }

    fn arguments(&self, number: u32, index: u64, kind: CallKind, more: &str, out: &mut Vec<u8>) {
        let (inner, arguments) = turns_in::inner_names(kind);
        self.call_piece(number, index, out, |w| {
            w.name(inner).object();
            w.name(arguments).string(more);
            w.end_object();
        });
    }

    fn call_piece(&self, number: u32, index: u64, out: &mut Vec<u8>, inside: impl FnOnce(&mut Writer<'_>)) {
        self.delta(number, out, |w| {
            w.name("tool_calls").array();
            w.object();
            w.name("index").number(index);
            inside(w);
            w.end_object();
            w.end_array();
        });
    }

    fn close(&mut self, number: u32, block: u32, out: &mut Vec<u8>) {
        let Some(said) = self.choices.get_mut(&number).and_then(|choice| choice.open.remove(&block)) else { return };
        match said {
            Said::Thought(thinking) => self.details(number, &thinking, out),
            Said::Text { begin: _, seal: Some(seal) } => self.details(number, &sealed(seal), out),
            // clients parse the arguments: none is an empty object
            Said::Call { index, kind: CallKind::Function, empty: true } => {
                self.arguments(number, index, CallKind::Function, "{}", out);
            }
            Said::Text { .. } | Said::Refusal | Said::Call { .. } | Said::Nothing => {}
        }
    }

    /// A sealed thought once more, with its seal: what the client gives back.
    fn details(&mut self, number: u32, thinking: &Thinking<'_>, out: &mut Vec<u8>) {
        let Some(choice) = self.choices.get_mut(&number).filter(|_| thinking.seal.is_some()) else { return };
        if length(thinking) > LONGEST_THOUGHT {
            self.losses.dropped(At::NOWHERE, "signature");
            return;
        }
        let index = choice.details;
        choice.details += 1;
        self.delta(number, out, |w| {
            w.name("reasoning_details").array();
            reasoning::write_details(w, thinking, index);
            w.end_array();
        });
    }

    fn whole(&mut self, number: u32, block: u32, whole: Block<'_>, out: &mut Vec<u8>) {
        match whole {
            Block::Media(media) => self.media(number, &media, out),
            // decoders open these in pieces; one that does not is understood too
            Block::Text(Text { text, citations, cache: _, seal, at: _, extra: _ }) => {
                self.open(number, block, Open::Text, out);
                self.piece(number, block, Delta::Text(text), out);
                for citation in citations {
                    self.piece(number, block, Delta::Citation(citation), out);
                }
                if let Some(seal) = seal {
                    self.piece(number, block, Delta::Seal(seal), out);
                }
            }
            Block::Refusal(refusal) => {
                self.open(number, block, Open::Refusal, out);
                self.piece(number, block, Delta::Refusal(refusal.text), out);
            }
            Block::Thinking(Thinking { thoughts, seal, redacted, id, at: _, extra: _ }) => {
                self.open(number, block, Open::Thinking { redacted, id }, out);
                for (part, Thought { text, summary }) in (0..).zip(thoughts) {
                    self.piece(number, block, Delta::Thought { part, summary, text }, out);
                }
                if let Some(seal) = seal {
                    self.piece(number, block, Delta::Seal(seal), out);
                }
            }
            Block::ToolCall(ToolCall { id, name, kind, arguments, cache: _, seal, item_id, at: _, extra: _ }) => {
                self.open(number, block, Open::ToolCall { id, name, kind, item_id }, out);
                self.piece(number, block, Delta::Arguments(arguments), out);
                if let Some(seal) = seal {
                    self.piece(number, block, Delta::Seal(seal), out);
                }
            }
            Block::ToolResult(_) | Block::ServerCall(_) | Block::ServerResult(_) | Block::Native(_) => {
                self.losses.dropped(whole.at(), "");
            }
        }
    }

    fn media(&mut self, number: u32, media: &Media<'_>, out: &mut Vec<u8>) {
        let Some(choice) = self.choices.get_mut(&number) else { return };
        match (media.kind, &media.source) {
            (MediaKind::Image, Source::Url { .. } | Source::Base64 { .. }) => {
                let index = choice.images;
                choice.images += 1;
                self.delta(number, out, |w| {
                    w.name("images").array();
                    response_out::image(w, media, index);
                    w.end_array();
                });
            }
            (MediaKind::Audio, Source::Base64 { media_type: _, data }) => {
                let said = |name, w: &mut Writer<'_>| media.extra.get(name).map(|m| w.name(name).raw(&m.json));
                self.delta(number, out, |w| {
                    w.name("audio").object();
                    if said("id", w).is_none() {
                        w.name("id").strings(&["audio_", &self.id]);
                    }
                    w.name("data").string(data);
                    said("transcript", w);
                    if said("expires_at", w).is_none() {
                        w.name("expires_at").number(self.created.saturating_add(AUDIO_KEPT));
                    }
                    w.end_object();
                });
            }
            _ => self.losses.dropped(media.at, ""),
        }
        if let Some(seal) = &media.seal {
            self.details(number, &sealed(seal.clone().into_owned()), out);
        }
    }

    // === the end ===

    fn stop(&mut self, number: u32, stop: Stop<'_>, out: &mut Vec<u8>) {
        let Stop { reason, sequence, detail } = stop;
        let Some(choice) = self.choices.get_mut(&number) else { return };
        if sequence.is_some() {
            self.losses.dropped(At::NOWHERE, "stop_sequence");
        }
        match detail {
            Some(detail) if reason == StopReason::Refusal && !choice.refused => {
                self.delta(number, out, |w| w.name("refusal").string(&detail));
            }
            Some(_) => self.losses.dropped(At::NOWHERE, "stop_detail"),
            None => {}
        }
        let Some(choice) = self.choices.get(&number) else { return };
        let held = Held { calls: choice.calls > 0, refusal: choice.refused };
        let (word, said) = finish::word(&reason, held);
        if !said {
            self.losses.changed(At::NOWHERE, "stop_reason");
        }
        self.choice(
            number,
            out,
            |_| {},
            |w| {
                w.name("logprobs").null();
                w.name("finish_reason").string(word);
                if let StopReason::Other(native) = &reason {
                    w.name("native_finish_reason").string(native);
                }
            },
        );
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.ended = true;
        if self.head.is_empty() {
            self.start(Start::default(), out);
        }
        match self.usage.filter(|_| self.stream_usage) {
            Some(used) => {
                let left = self.extra.iter().find(|(name, _)| name == "usage").map(|(_, json)| &**json);
                out.extend_from_slice(&self.head);
                out.extend_from_slice(b"],");
                let mut w = Writer::new(out);
                w.name("usage");
                usage::write(&mut w, &used, left);
                for (name, json) in self.extra.iter().filter(|(name, _)| name != "usage") {
                    w.name(name).raw(json);
                }
                w.end_object();
                out.extend_from_slice(b"\n\n");
            }
            None => {
                for (name, _) in self.extra.drain(..) {
                    self.losses.dropped(At::NOWHERE, name);
                }
            }
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

impl StreamEncoder for Encoder {
    fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start(start) => {
                if self.head.is_empty() {
                    self.start(start, out);
                }
            }
            Event::Open { choice, block, open } => {
                self.begin(choice, out);
                self.open(choice, block, open, out);
            }
            Event::Delta { choice, block, delta } => self.piece(choice, block, delta, out),
            Event::Close { choice, block } => self.close(choice, block, out),
            Event::Stop { choice, stop } => {
                self.begin(choice, out);
                self.stop(choice, stop, out);
            }
            Event::Usage(usage) => self.usage = Some(usage),
            // a chunk's own members are written by us
            Event::Extra { dialect: Dialect::OpenAiChat, name, json }
                if self.extra.len() < MOST_EXTRA
                    && !OWN.contains(&&*name)
                    && !self.extra.iter().any(|(known, _)| *known == *name) =>
            {
                self.extra.push((name.into_owned(), json.into_owned()));
            }
            Event::Extra { dialect: _, name, json: _ } => self.losses.dropped(At::NOWHERE, name.into_owned()),
            // the gateway keeps silent streams open by itself
            Event::Ping => {}
            Event::Error(error) => {
                self.ended = true;
                out.extend_from_slice(&error::chat_event(&error));
            }
            Event::End => self.end(out),
        }
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }
}

/// Add a piece to a thought; whether a new part begins with it.
fn grow(thinking: &mut Thinking<'static>, part: u32, summary: bool, text: &str) -> bool {
    let begins = thinking.thoughts.len() <= part as usize;
    if length(thinking) > LONGEST_THOUGHT {
        return begins;
    }
    if begins {
        thinking.thoughts.push(Thought { text: Cow::Borrowed(""), summary });
    }
    if let Some(thought) = thinking.thoughts.last_mut() {
        thought.text.to_mut().push_str(text);
    }
    begins
}

fn length(thinking: &Thinking<'_>) -> usize {
    thinking.thoughts.iter().map(|thought| thought.text.len()).sum()
}

/// A seal that is of no thought: this dialect has no other place for it.
fn sealed(seal: Seal<'_>) -> Thinking<'_> {
    Thinking {
        thoughts: Vec::new(),
        seal: Some(seal),
        redacted: false,
        id: None,
        at: At::NOWHERE,
        extra: Extra::default(),
    }
}
