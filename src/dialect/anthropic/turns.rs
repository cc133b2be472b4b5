//! The conversation as Anthropic wants it: which turn goes where, what is left out, what has to stand in front.
//!
//! A request that was written in this dialect keeps its turns as they are; only thoughts that no Claude model can have signed are left
//! out. One from another dialect is arranged: instructions in front become `system`, later ones stay in place as the user's words,
//! neighbouring turns of one role become one message, results of tools come first in it, the user begins, and blank texts go.
//! Truth: Anthropic, "Messages", "Handle tool calls" (results first), "Errors" (prefill, empty text), "Extended thinking" (preserving
//! thinking blocks).

use std::borrow::Cow;

use super::model::Model;
use crate::chat::block::{Refusal, ServerCall, ServerResult};
use crate::chat::{Block, Cache, Dialect, Extra, Issuer, Losses, Role, Thinking, Turn};
use crate::json::At;

/// One entry of `messages`.
#[derive(Debug)]
pub(super) struct Message<'r, 'a> {
    pub role: Role,
    pub pieces: Vec<Piece<'r, 'a>>,
    pub at: At,
    /// Of a request that was written in this dialect.
    pub extra: Option<&'r Extra<'a>>,
}

#[derive(Debug)]
pub(super) enum Piece<'r, 'a> {
    Block(&'r Block<'a>),
    /// Words that stand for something else.
    Said(Cow<'r, str>, Option<Cache>),
}

#[derive(Debug, Default)]
pub(super) struct Arranged<'r, 'a> {
    pub system: Vec<Piece<'r, 'a>>,
    pub messages: Vec<Message<'r, 'a>>,
}

/// What the user says where the grammar wants the user to speak and nobody did.
const GO_ON: &str = "(continue)";

pub(super) fn arrange<'r, 'a>(
    turns: &'r [Turn<'a>],
    own: bool,
    model: Option<Model>,
    losses: &mut Losses,
) -> Arranged<'r, 'a> {
    let mut arranged = Arranged::default();
    for turn in turns {
        let Turn { role, name, blocks, at, extra } = turn;
        if name.is_some() {
            losses.dropped(*at, "name");
        }
        let instructs = matches!(role, Role::System | Role::Developer);
        let pieces: Vec<_> = blocks.iter().filter_map(|block| keep(block, own, model, losses)).collect();
        if instructs && arranged.messages.is_empty() {
            arranged.system.extend(pieces);
            losses.extra(extra);
            continue;
        }
        if pieces.is_empty() && !(own && blocks.is_empty()) {
            losses.extra(extra);
            continue;
        }
        let message = match instructs {
            true if own && model.is_none_or(Model::system_turns) => {
                Message { role: Role::System, pieces, at: *at, extra: Some(extra) }
            }
            true => {
                losses.changed(*at, "role");
                Message { role: Role::User, pieces: vec![quoted(&pieces)], at: *at, extra: own.then_some(extra) }
            }
            false => Message { role: *role, pieces, at: *at, extra: own.then_some(extra) },
        };
        if !own {
            losses.extra(extra);
        }
        match arranged.messages.last_mut() {
            Some(last) if !own && last.role == message.role => last.pieces.extend(message.pieces),
            _ => arranged.messages.push(message),
        }
    }
    if !own {
        for message in &mut arranged.messages {
            results_first(message, losses);
        }
        user_begins(&mut arranged.messages, losses);
    }
    arranged
}

/// Let the user have the last word, where the model does not go on from its own.
pub(super) fn user_ends(messages: &mut Vec<Message<'_, '_>>, prefill: bool, losses: &mut Losses) {
    let Some(last) = messages.last_mut().filter(|last| last.role == Role::Assistant) else { return };
    let at = last.at;
    if !prefill {
        losses.changed(at, "");
        messages.push(said_by_user(at));
        return;
    }
    // what the model goes on from may not end in white space
    let trimmed = match last.pieces.last() {
        Some(Piece::Block(Block::Text(text))) => Some((text.text.trim_end(), text.cache)).filter(|t| t.0 != text.text),
        _ => None,
    };
    if let (Some((text, cache)), Some(piece)) = (trimmed, last.pieces.last_mut()) {
        losses.changed(at, "");
        *piece = Piece::Said(Cow::Borrowed(text), cache);
    }
}

/// Whether the model waits for the results of tools it called without a thought in front: with a thinking budget that is refused.
pub(super) fn thoughtless_calls(messages: &[Message<'_, '_>]) -> bool {
    let is_result = |piece: &Piece<'_, '_>| matches!(piece, Piece::Block(Block::ToolResult(_)));
    let mut from_end = messages.iter().rev().filter(|message| message.role != Role::System).peekable();
    let mut answered = false;
    while let Some(message) = from_end.next_if(|message| message.role == Role::User) {
        answered |= message.pieces.iter().any(is_result);
    }
    // where the turn that called began
    let mut began = None;
    while let Some(message) = from_end.next_if(|message| message.role == Role::Assistant) {
        began = message.pieces.first().or(began);
    }
    answered && began.is_some_and(|piece| !matches!(piece, Piece::Block(Block::Thinking(_))))
}

fn said_by_user<'r, 'a>(at: At) -> Message<'r, 'a> {
    Message { role: Role::User, pieces: vec![Piece::Said(Cow::Borrowed(GO_ON), None)], at, extra: None }
}

fn user_begins(messages: &mut Vec<Message<'_, '_>>, losses: &mut Losses) {
    if messages.first().is_none_or(|first| first.role != Role::User) {
        let at = messages.first().map_or(At::NOWHERE, |first| first.at);
        losses.changed(at, "");
        messages.insert(0, said_by_user(at));
    }
}

fn results_first(message: &mut Message<'_, '_>, losses: &mut Losses) {
    let is_result = |piece: &Piece<'_, '_>| matches!(piece, Piece::Block(Block::ToolResult(_)));
    if message.role == Role::User && !message.pieces.is_sorted_by_key(|piece| !is_result(piece)) {
        message.pieces.sort_by_key(|piece| !is_result(piece));
        losses.changed(message.at, "");
    }
}

/// Instructions in the middle of a conversation, as the user's words.
fn quoted<'r, 'a>(pieces: &[Piece<'r, 'a>]) -> Piece<'r, 'a> {
    let mut cache = None;
    let texts: Vec<&str> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Block(Block::Text(text)) => {
                cache = text.cache.or(cache);
                Some(&*text.text)
            }
            Piece::Said(text, _) => Some(text),
            Piece::Block(_) => None,
        })
        .collect();
    Piece::Said(format!("<system>\n{}\n</system>", texts.join("\n\n")).into(), cache)
}

/// What is written of a block: itself, other words, or nothing.
fn keep<'r, 'a>(block: &'r Block<'a>, own: bool, model: Option<Model>, losses: &mut Losses) -> Option<Piece<'r, 'a>> {
    match block {
        Block::Text(text) if !own && text.text.trim().is_empty() => {
            if !text.text.is_empty() {
                losses.changed(text.at, "");
            }
            if let Some(Cache { at, ttl: _ }) = text.cache {
                losses.dropped(at, "");
            }
            None
        }
        Block::Thinking(thinking) if !acceptable(thinking, own, model) => {
            losses.dropped(thinking.at, "");
            None
        }
        Block::Refusal(Refusal { text, at }) => {
            losses.changed(*at, "");
            (!text.trim().is_empty()).then_some(Piece::Said(Cow::Borrowed(text), None))
        }
        Block::ServerCall(ServerCall { native, at, .. }) | Block::ServerResult(ServerResult { native, at, .. }) => {
            match native {
                Some((Dialect::Anthropic, _)) => Some(Piece::Block(block)),
                _ => {
                    losses.dropped(*at, "");
                    None
                }
            }
        }
        Block::Native(native) if native.dialect != Dialect::Anthropic => {
            losses.dropped(native.at, "");
            None
        }
        Block::Text(_)
        | Block::Thinking(_)
        | Block::Media(_)
        | Block::ToolCall(_)
        | Block::ToolResult(_)
        | Block::Native(_) => Some(Piece::Block(block)),
    }
}

/// Whether a thought can go back: it needs a seal of Anthropic's. Other vendors that speak this dialect do not all sign theirs.
fn acceptable(thinking: &Thinking<'_>, own: bool, model: Option<Model>) -> bool {
    match &thinking.seal {
        Some(seal) => seal.issuer == Issuer::Anthropic,
        None => own && model.is_none() && !thinking.redacted,
    }
}
