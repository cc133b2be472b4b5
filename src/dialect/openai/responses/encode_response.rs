//! A reply, written: a complete `response` object.

use super::envelope::{Ending, Envelope};
use super::output::{self, DECLINED, Ids, Item, Part};
use super::usage::untold;
use super::{citation, seals};
use crate::chat::block::{Native, Refusal};
use crate::chat::{
    Block, CallKind, Choice, Dialect, Extra, Losses, Response, Seal, StopReason, Text, Thinking, ToolCall,
};
use crate::dialect::{Encoded, ReplyTo};
use crate::json::{At, Writer};

/// Write a reply to a client.
pub fn write(response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded {
    let Response { dialect, id, model, created, choices, usage, service_tier, extra } = response;
    let mut encoded = Encoded::default();
    let losses = &mut encoded.losses;
    let mut envelope = Envelope::new(id.as_deref(), model.as_deref(), *created, service_tier.as_deref(), to, losses);
    let own = *dialect == Dialect::OpenAiResponses;
    if own {
        extra.0.iter().for_each(|member| envelope.keep(&member.name, &member.json));
    } else {
        losses.extra(extra);
    }
    let none = Choice::default();
    let Choice { blocks, stop, logprobs, extra } = choices.first().unwrap_or(&none);
    losses.extra(extra);
    for further in choices.iter().skip(1) {
        losses.dropped(further.blocks.first().map_or(At::NOWHERE, Block::at), "choices");
    }
    let mut output = Output { items: Vec::new(), ids: Ids::new(id.as_deref(), to), own, losses };
    blocks.iter().for_each(|block| output.push(block));
    let refused = stop.as_ref().filter(|stop| stop.reason == StopReason::Refusal);
    if let Some(stop) = refused
        && !blocks.iter().any(|block| matches!(block, Block::Refusal(_)))
    {
        let text = stop.detail.as_deref().unwrap_or(DECLINED).into();
        output.push(&Block::Refusal(Refusal { text, at: At::NOWHERE }));
    }
    output.logprobs(logprobs.iter().map(output::logprob).collect());
    let items = output.items;
    let ending = Ending::of(stop.as_ref(), losses);
    let last = items.len().saturating_sub(1);
    let items: Vec<_> = (0..).zip(items).map(|(n, item)| (item, ending.of_item(n == last))).collect();
    usage.iter().for_each(|usage| untold(usage, losses));
    envelope.write(&mut Writer::new(&mut encoded.body), Some(&ending), &items, usage.as_ref());
    encoded
}

/// Blocks on their way to items.
struct Output<'l> {
    items: Vec<Item>,
    ids: Ids,
    /// The answer was given in this dialect.
    own: bool,
    losses: &'l mut Losses,
}

// === impl Output ===

impl Output<'_> {
    fn push(&mut self, block: &Block<'_>) {
        let n = self.items.len();
        match block {
            Block::Text(text) => self.text(text),
            Block::Refusal(Refusal { text, at: _ }) => {
                self.part(Part { refusal: true, text: text.clone().into_owned(), ..Part::default() }, None);
            }
            Block::Thinking(thinking) => self.thinking(thinking),
            Block::ToolCall(call) => self.call(call),
            Block::Media(media) => {
                self.seal_in_front(media.seal.as_ref());
                let n = self.items.len();
                match Item::of_media(media, self.own, &self.ids, n) {
                    Some(item) => {
                        self.items.push(item);
                        if !self.own {
                            self.losses.extra(&media.extra);
                        }
                    }
                    None => self.losses.dropped(media.at, ""),
                }
            }
            Block::ServerCall(call) => match Item::of_server_call(call, &self.ids, n) {
                Some(item) => self.items.push(item),
                None => self.losses.dropped(call.at, ""),
            },
            Block::ServerResult(result) => {
                let call = self.items.iter_mut().rev().find(|item| item.can_hold(result));
                match call {
                    Some(item) => item.add_result(result),
                    None => self.losses.dropped(result.at, ""),
                }
            }
            Block::Native(Native { dialect: Dialect::OpenAiResponses, kind, json, at: _ }) => {
                let json = json.clone().into_owned();
                if kind.starts_with(super::content::PART) {
                    self.losses.dropped(block.at(), "");
                } else {
                    self.items.push(Item::Native { id: String::new(), json });
                }
            }
            // a tool's result has no place in an answer
            Block::ToolResult(_) | Block::Native(_) => self.losses.dropped(block.at(), ""),
        }
    }

    /// Add a part to the message at the end; with `phase` begin a new one.
    fn part(&mut self, part: Part, phase: Option<String>) {
        match self.items.last_mut() {
            Some(Item::Message { parts, .. }) if phase.is_none() => parts.push(part),
            _ => {
                let id = self.ids.make("msg", self.items.len());
                self.items.push(Item::Message { id, parts: vec![part], phase });
            }
        }
    }

    fn text(&mut self, text: &Text<'_>) {
        // there are no marks in answers
        let Text { text, citations, cache: _, seal, at, extra } = text;
        self.seal_in_front(seal.as_ref());
        let mut part = Part { text: text.clone().into_owned(), ..Part::default() };
        let length = text.chars().count() as u64;
        for citation in citations {
            if citation::loses(citation) {
                self.losses.dropped(*at, "citations");
            }
            match citation::write(citation, length) {
                Some(json) => part.annotations.push(json),
                None => self.losses.dropped(*at, "citations"),
            }
        }
        let phase = extra.get("phase").filter(|_| self.own).map(|member| member.json.clone().into_owned());
        if !self.own {
            self.losses.extra(extra);
        }
        self.part(part, phase);
    }

    fn thinking(&mut self, thinking: &Thinking<'_>) {
        let Thinking { thoughts, seal, redacted, id, at: _, extra } = thinking;
        // only this dialect's items have ids, and only it tells a summary from the thought itself
        let apart = id.is_some();
        let all = |summary: bool| -> Vec<String> {
            let wanted = thoughts.iter().filter(|thought| !apart || thought.summary == summary);
            wanted.map(|thought| thought.text.clone().into_owned()).collect()
        };
        self.items.push(Item::Reasoning {
            id: id.as_deref().map_or_else(|| self.ids.make("rs", self.items.len()), str::to_owned),
            summary: all(true),
            content: if apart { all(false) } else { Vec::new() },
            encrypted: seal.as_ref().map(|seal| output::encrypted(seal, *redacted)),
            extra: own_members(extra, self.own, self.losses),
        });
    }

    fn call(&mut self, call: &ToolCall<'_>) {
        let ToolCall { id, name, kind, arguments, cache: _, seal, item_id, at: _, extra } = call;
        self.seal_in_front(seal.as_ref());
        let own_id = item_id.as_deref().filter(|id| !id.is_empty());
        let empty = arguments.is_empty() && *kind == CallKind::Function;
        self.items.push(Item::Call {
            id: output::call_item_id(own_id, *kind, &self.ids, self.items.len()),
            call_id: id.clone().into_owned(),
            name: name.clone().into_owned(),
            kind: *kind,
            arguments: if empty { "{}".to_owned() } else { arguments.clone().into_owned() },
            extra: own_members(extra, self.own, self.losses),
        });
    }

    /// The seal of a block that has no place for one.
    fn seal_in_front(&mut self, seal: Option<&Seal<'_>>) {
        let Some(seal) = seal else { return };
        let id = self.ids.make("rs", self.items.len());
        let encrypted = Some(seals::pack(seal, seals::Bearer::Thinking));
        let (summary, content, extra) = (Vec::new(), Vec::new(), String::new());
        self.items.push(Item::Reasoning { id, summary, content, encrypted, extra });
    }

    /// The answer's log probabilities go to its texts, to each as many as it has; which token is whose is no longer known, so the first
    /// text takes them all.
    fn logprobs(&mut self, logprobs: Vec<String>) {
        let mut parts = self.items.iter_mut().filter_map(|item| match item {
            Item::Message { parts, .. } => parts.first_mut(),
            _ => None,
        });
        match parts.next() {
            Some(part) if !part.refusal => part.logprobs = logprobs,
            _ if logprobs.is_empty() => {}
            _ => self.losses.dropped(At::NOWHERE, "logprobs"),
        }
    }
}

fn own_members(extra: &Extra<'_>, own: bool, losses: &mut Losses) -> String {
    let mut text = String::new();
    if own {
        extra.0.iter().for_each(|member| output::push_member(&mut text, member));
    } else {
        losses.extra(extra);
    }
    text
}
