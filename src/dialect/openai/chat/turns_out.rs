//! The turns of a request, written as messages.
//!
//! Results of tools become messages of their own, right behind the calls they answer; what they hold beyond text follows in a user's
//! message after the last of a run, because a `tool` message takes text only.

use super::parts_out::{self, Part, Parts};
use super::{reasoning, rest, turns_in};
use crate::chat::{
    Block, Dialect, Issuer, Losses, Media, MediaKind, Request, Role, Source, Thinking, ToolCall, ToolResult, Turn,
};
use crate::dialect::{ThinkingForm, To};
use crate::json::Writer;

/// Stands for what a tool brought besides text.
const ATTACHED: &str = "The result is attached to the message that follows.";

pub(super) struct Turns<'r> {
    parts: Parts<'r>,
    to: &'r To<'r>,
    /// Media of results since the last message of another kind, each with the id of its call.
    attached: Vec<(&'r str, Vec<Part<'r>>)>,
}

/// The `messages` array.
pub(super) fn write<'r>(w: &mut Writer<'_>, request: &'r Request<'r>, to: &'r To<'r>, losses: &mut Losses) {
    let parts = Parts { from: request.dialect, manners: to.manners };
    let mut turns = Turns { parts, to, attached: Vec::new() };
    w.array();
    for turn in &request.turns {
        match turn.role {
            Role::System | Role::Developer => turns.system(w, turn, losses),
            Role::User => turns.user(w, turn, losses),
            Role::Assistant => turns.assistant(w, turn, losses),
        }
    }
    turns.attach(w);
    w.end_array();
}

impl<'r> Turns<'r> {
    fn system(&mut self, w: &mut Writer<'_>, turn: &'r Turn<'r>, losses: &mut Losses) {
        self.attach(w);
        let developer = turn.role == Role::Developer && self.to.manners.developer_role;
        let mut parts = Vec::new();
        let mut media = Vec::new();
        for block in &turn.blocks {
            match block {
                Block::Text(text) => parts.push(self.parts.text(text, losses)),
                Block::Media(one) => {
                    losses.changed(one.at, "");
                    media.extend(self.parts.media(one, losses));
                }
                Block::Native(native) => parts.extend(self.parts.native(native, losses)),
                other => parts_out::dropped(other, losses),
            }
        }
        self.message(w, if developer { "developer" } else { "system" }, turn, &parts, losses);
        // instructions are text: what is shown beside them is shown by the user
        if !media.is_empty() {
            self.user_message(w, &media);
        }
    }

    fn user(&mut self, w: &mut Writer<'_>, turn: &'r Turn<'r>, losses: &mut Losses) {
        let mut parts = Vec::new();
        let mut results = 0;
        for block in &turn.blocks {
            match block {
                Block::ToolResult(result) => {
                    if !parts.is_empty() {
                        losses.changed(result.at, "");
                    }
                    results += 1;
                    self.result(w, result, losses);
                }
                Block::Text(text) => parts.push(self.parts.text(text, losses)),
                Block::Media(media) => parts.extend(self.parts.media(media, losses)),
                Block::Native(native) => parts.extend(self.parts.native(native, losses)),
                other => parts_out::dropped(other, losses),
            }
        }
        if results == 0 || !parts.is_empty() {
            self.attach(w);
            self.message(w, "user", turn, &parts, losses);
        } else {
            if turn.name.is_some() {
                losses.dropped(turn.at, "name");
            }
            losses.extra(&turn.extra);
        }
    }

    /// A message of nothing but a content.
    fn message(&self, w: &mut Writer<'_>, role: &str, turn: &Turn<'_>, parts: &[Part<'_>], losses: &mut Losses) {
        let Turn { role: _, name, blocks: _, at: _, extra } = turn;
        w.object();
        w.name("role").string(role);
        w.string_if("name", name.as_deref());
        w.name("content");
        self.parts.write(w, parts);
        rest::write(w, extra, self.parts.from, &[], losses);
        w.end_object();
    }

    fn user_message(&self, w: &mut Writer<'_>, parts: &[Part<'_>]) {
        w.object();
        w.name("role").string("user");
        w.name("content");
        self.parts.write(w, parts);
        w.end_object();
    }

    /// The message that holds what tool messages cannot.
    fn attach(&mut self, w: &mut Writer<'_>) {
        let attached = std::mem::take(&mut self.attached);
        if attached.is_empty() {
            return;
        }
        let mut parts = Vec::new();
        for (id, media) in attached {
            parts.push(Part::plain(format!("Attached to the result of tool call {id}:")));
            parts.extend(media);
        }
        self.user_message(w, &parts);
    }

    fn result(&mut self, w: &mut Writer<'_>, result: &'r ToolResult<'r>, losses: &mut Losses) {
        // the kind is told by the call
        let ToolResult { id, name, kind: _, blocks, error, cache, at, extra } = result;
        let mut parts = Vec::new();
        let mut media = Vec::new();
        for block in blocks {
            match block {
                Block::Text(text) => parts.push(self.parts.text(text, losses)),
                Block::Media(one) if matches!(one.source, Source::Text { .. } | Source::Blocks(_)) => {
                    for part in self.parts.media(one, losses) {
                        match part {
                            Part::Media { .. } => media.push(part),
                            Part::Text { .. } | Part::Native(_) | Part::Thinking(_) => parts.push(part),
                        }
                    }
                }
                Block::Media(one) => self.result_media(one, &mut parts, &mut media, losses),
                Block::Native(native) => parts.extend(self.parts.native(native, losses)),
                other => parts_out::dropped(other, losses),
            }
        }
        if parts.is_empty() && !media.is_empty() {
            parts.push(Part::plain(ATTACHED));
        }
        if *error == Some(true) {
            losses.changed(*at, "is_error");
        }
        let own = self.parts.from == Dialect::OpenAiChat;
        w.object();
        w.name("role").string("tool");
        w.name("tool_call_id").string(id);
        // told by the call as well
        w.string_if("name", name.as_deref().filter(|_| own));
        w.name("content");
        self.parts.write(w, &parts);
        parts_out::cache_control(w, self.parts.mark(*cache, losses));
        rest::write_beside(w, extra, self.parts.from, &["tool_call_id"], losses);
        w.end_object();
        if !media.is_empty() {
            self.attached.push((id, media));
        }
    }

    /// Media of a result go into the message behind it; those with no place there leave a word.
    fn result_media(
        &self,
        one: &'r Media<'r>,
        parts: &mut Vec<Part<'r>>,
        media: &mut Vec<Part<'r>>,
        losses: &mut Losses,
    ) {
        let mut booked = Losses::default();
        let placed = self.parts.media(one, &mut booked);
        if placed.is_empty() {
            losses.dropped(one.at, "");
            parts.push(Part::plain(omitted(one.kind)));
        } else {
            losses.merge(booked);
            losses.changed(one.at, "");
            media.extend(placed);
        }
    }

    fn assistant(&mut self, w: &mut Writer<'_>, turn: &'r Turn<'r>, losses: &mut Losses) {
        self.attach(w);
        let Turn { role: _, name, blocks, at: _, extra } = turn;
        let mut parts = Vec::new();
        let mut refusal = String::new();
        let mut calls = Vec::new();
        let mut thinking = Vec::new();
        for block in blocks {
            match block {
                Block::Text(text) => {
                    if !calls.is_empty() {
                        losses.changed(text.at, "");
                    }
                    parts.push(self.parts.text(text, losses));
                }
                Block::Media(media) => {
                    losses.dropped(media.at, "");
                    parts.push(Part::plain(omitted(media.kind)));
                }
                Block::Thinking(one) if self.takes_back(one) => {
                    if self.to.manners.thinking == ThinkingForm::Parts {
                        if one.seal.is_some() {
                            losses.dropped(one.at, "signature");
                        }
                        parts.push(Part::Thinking(one));
                    } else {
                        thinking.push(one);
                    }
                    if self.parts.from != Dialect::OpenAiChat {
                        losses.extra(&one.extra);
                    }
                }
                Block::Refusal(one) => refusal.push_str(&one.text),
                Block::ToolCall(call) => calls.push(call),
                Block::Native(native) => parts.extend(self.parts.native(native, losses)),
                other => parts_out::dropped(other, losses),
            }
        }
        w.object();
        w.name("role").string("assistant");
        w.string_if("name", name.as_deref());
        // never left out: DeepSeek wants one beside tool calls too
        w.name("content");
        self.parts.write(w, &parts);
        w.string_if("refusal", (!refusal.is_empty()).then_some(&*refusal));
        let written = self.thinking(w, &thinking);
        self.calls(w, &calls, losses);
        rest::write_beside(w, extra, self.parts.from, &written, losses);
        w.end_object();
    }

    /// Thinking goes back to a vendor of this dialect only: another's was meant for another model.
    fn takes_back(&self, thinking: &Thinking<'_>) -> bool {
        let own = self.parts.from == Dialect::OpenAiChat;
        let issued = thinking.seal.as_ref().is_some_and(|seal| seal.issuer == Issuer::Other);
        self.to.manners.thinking != ThinkingForm::Nowhere && (own || issued)
    }

    /// Returns the names of the members that were written.
    fn thinking(&self, w: &mut Writer<'_>, thinking: &[&Thinking<'_>]) -> Vec<&'static str> {
        let mut written = Vec::new();
        let name = match self.to.manners.thinking {
            ThinkingForm::ReasoningContent => "reasoning_content",
            ThinkingForm::Reasoning => "reasoning",
            // written with the content, or not at all
            ThinkingForm::Parts | ThinkingForm::Nowhere => return written,
        };
        // an empty one stands for one that came empty
        let empty = thinking.iter().any(|one| !one.thoughts.is_empty()).then_some("");
        if let Some(text) = reasoning::joined(thinking.iter().copied()).as_deref().or(empty) {
            written.push(name);
            w.name(name).string(text);
        }
        if thinking.iter().any(|one| one.seal.is_some()) {
            written.push("reasoning_details");
            w.name("reasoning_details").array();
            for (index, one) in (0..).zip(thinking) {
                reasoning::write_details(w, one, index);
            }
            w.end_array();
        }
        written
    }

    fn calls(&self, w: &mut Writer<'_>, calls: &[&ToolCall<'_>], losses: &mut Losses) {
        if calls.is_empty() {
            return;
        }
        w.name("tool_calls").array();
        for call in calls {
            // an item's id is for items
            let ToolCall { id, name, kind, arguments, cache, seal, item_id: _, at, extra } = call;
            let (inner, member) = turns_in::inner_names(*kind);
            if let Some(cache) = cache {
                losses.dropped(cache.at, "");
            }
            w.object();
            w.name("id").string(id);
            w.name("type").string(inner);
            w.name(inner).object();
            w.name("name").string(name);
            w.name(member).string(if arguments.is_empty() && inner == "function" { "{}" } else { arguments });
            rest::merge(w, extra, self.parts.from, inner);
            w.end_object();
            match seal {
                Some(seal) if self.takes_google(seal.issuer) => reasoning::write_google_seal(w, seal),
                Some(_) => losses.dropped(*at, "signature"),
                None => {}
            }
            rest::write(w, extra, self.parts.from, &[inner], losses);
            w.end_object();
        }
        w.end_array();
    }

    /// Google's compatible endpoint wants its signatures back; others refuse them.
    fn takes_google(&self, issuer: Issuer) -> bool {
        let own = self.parts.from == Dialect::OpenAiChat && self.to.manners.thinking != ThinkingForm::Nowhere;
        issuer == Issuer::Gemini && (own || self.to.model.contains("gemini"))
    }
}

/// Stands for media that could not be sent.
fn omitted(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "[image omitted]",
        MediaKind::Document => "[document omitted]",
        MediaKind::Audio => "[audio omitted]",
        MediaKind::Video => "[video omitted]",
    }
}
