//! Writing an answer as `text_completion` chunks.

use super::reply;
use crate::chat::{Delta, Event, Losses, Open, Start, Usage};
use crate::dialect::codec::{ReplyTo, StreamEncoder};
use crate::dialect::openai::error;
use crate::json::{At, Writer};

/// Choices whose tokens are counted; nobody asks for more (API reference, `n`).
const MAX_CHOICES: usize = 128;

#[derive(Debug)]
pub(super) struct Encoder {
    id: Box<str>,
    model: Box<str>,
    created: u64,
    /// The client wants the usage: a last chunk has it, all others say `null`.
    wants_usage: bool,
    usage: Option<Usage>,
    /// Of each choice: characters of the tokens whose probabilities were said.
    offsets: Vec<u64>,
    ended: bool,
    losses: Losses,
}

impl Encoder {
    pub(super) fn new(to: &ReplyTo<'_>) -> Self {
        Encoder {
            id: to.id.into(),
            model: to.model.into(),
            created: to.created,
            wants_usage: to.stream_usage,
            usage: None,
            offsets: Vec::new(),
            ended: false,
            losses: Losses::default(),
        }
    }

    /// One chunk; `choices` writes what is in the array.
    fn chunk(&self, out: &mut Vec<u8>, usage: Option<&Usage>, choices: impl FnOnce(&mut Writer<'_>)) {
        out.extend_from_slice(b"data: ");
        let mut w = Writer::new(out);
        w.object();
        w.name("id").string(&self.id);
        w.name("object").string("text_completion");
        w.name("created").number(self.created);
        w.name("choices").array();
        choices(&mut w);
        w.end_array();
        w.name("model").string(&self.model);
        match usage {
            Some(usage) => reply::usage(usage, w.name("usage")),
            None if self.wants_usage => w.name("usage").null(),
            None => {}
        }
        w.end_object();
        out.extend_from_slice(b"\n\n");
    }

    fn text(&self, choice: u32, text: &str, out: &mut Vec<u8>) {
        self.chunk(out, None, |w| {
            w.object();
            w.name("text").string(text);
            w.name("index").number(choice.into());
            w.name("logprobs").null();
            w.name("finish_reason").null();
            w.end_object();
        });
    }

    fn delta(&mut self, choice: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        match delta {
            Delta::Text(text) => self.text(choice, text, out),
            Delta::Refusal(text) => {
                self.losses.changed(At::NOWHERE, "refusal");
                self.text(choice, text, out);
            }
            // booked with their blocks; a seal is of use to a conversation only, which this is not
            Delta::Thought { .. } | Delta::Arguments(_) | Delta::Seal(_) => {}
            Delta::Citation(_) => self.losses.dropped(At::NOWHERE, "citations"),
            Delta::Logprobs(tokens) => {
                let at = (choice as usize).min(MAX_CHOICES);
                if self.offsets.len() <= at {
                    self.offsets.resize(at + 1, 0);
                }
                let mut offset = self.offsets.get(at).copied().unwrap_or_default();
                self.chunk(out, None, |w| {
                    w.object();
                    w.name("text").string("");
                    w.name("index").number(choice.into());
                    reply::logprobs(tokens, &mut offset, w.name("logprobs"));
                    w.name("finish_reason").null();
                    w.end_object();
                });
                if let Some(place) = self.offsets.get_mut(at) {
                    *place = offset;
                }
            }
        }
    }

    fn opened(&mut self, choice: u32, open: &Open<'_>, out: &mut Vec<u8>) {
        match open {
            Open::Text | Open::Refusal => {}
            Open::Thinking { .. } => self.losses.dropped(At::NOWHERE, "thinking"),
            Open::ToolCall { .. } => self.losses.dropped(At::NOWHERE, "tool_calls"),
            Open::Whole(block) => {
                if let Some(text) = reply::text(block, &mut self.losses) {
                    self.text(choice, text, out);
                }
            }
        }
    }
}

impl StreamEncoder for Encoder {
    fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start(Start { id, model, created, service_tier }) => {
                reply::tier(service_tier.as_deref(), &mut self.losses);
                // as in a whole reply: what the provider did not say is ours
                self.id = id.map_or_else(|| std::mem::take(&mut self.id), |id| id.into());
                self.model = model.map_or_else(|| std::mem::take(&mut self.model), |model| model.into());
                self.created = created.unwrap_or(self.created);
            }
            Event::Open { choice, block: _, open } => self.opened(choice, &open, out),
            Event::Delta { choice, block: _, delta } => self.delta(choice, &delta, out),
            Event::Close { .. } | Event::Ping => {}
            Event::Stop { choice, stop } => {
                let reason = reply::finish_reason(&stop, &mut self.losses);
                self.chunk(out, None, |w| {
                    w.object();
                    w.name("text").string("");
                    w.name("index").number(choice.into());
                    w.name("logprobs").null();
                    w.name("finish_reason").string(reason);
                    w.end_object();
                });
            }
            Event::Usage(usage) => {
                reply::untold(&usage, &mut self.losses);
                self.usage = Some(usage);
            }
            Event::Extra { dialect: _, name, json: _ } => self.losses.dropped(At::NOWHERE, name.into_owned()),
            Event::Error(error) => {
                self.ended = true;
                out.extend_from_slice(&error::chat_event(&error));
            }
            Event::End => {
                self.ended = true;
                if let Some(usage) = self.usage.filter(|_| self.wants_usage) {
                    self.chunk(out, Some(&usage), |_| {});
                }
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
        }
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }
}
