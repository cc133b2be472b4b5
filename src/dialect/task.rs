//! Calls that are one question and one answer, carried from one grammar to another: embeddings and rerank.
//!
//! The one entry the gateway calls; what the grammars are is known by [`super::embeddings`] and [`super::rerank`]. Counting tokens needs a
//! conversation and is not here ([`super::count`]); legacy completions are a conversation ([`super::openai::completions`]).

use super::codec::{Garbled, ReplyTo, To};
use super::operation::Operation;
use super::{embeddings, rerank};
use crate::chat::{Losses, Usage};
use crate::json::{Node, Wrong};

#[cfg(test)]
pub(super) mod tests;

/// A question in the provider's grammar.
#[derive(Debug)]
pub struct Translated {
    /// In order. More than one where the provider takes fewer inputs in a call than were given.
    pub bodies: Vec<Vec<u8>>,
    pub losses: Losses,
    pub asked: Asked,
}

/// What of a question its answer needs. Borrows from nothing.
#[derive(Debug, Clone)]
pub struct Asked(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Embeddings(embeddings::Asked),
    Rerank(rerank::Asked),
}

/// An answer in the client's grammar.
#[derive(Debug)]
pub struct Answered {
    pub body: Vec<u8>,
    /// `None`: the provider did not say.
    pub usage: Option<Usage>,
    pub losses: Losses,
}

/// Whether a call of `from` can be carried to a provider that offers `to`. Rerank goes to rerank too: Cohere's two versions and what is
/// shaped like them differ in what they take and give.
pub fn can(from: Operation, to: Operation) -> bool {
    embeddings::can(from, to) || rerank::can(from, to)
}

/// Write a client's question for a provider. `Err` says what of it cannot be asked there, or is no question at all.
pub fn translate(from: Operation, to: Operation, body: Node<'_>, whom: &To<'_>) -> Result<Translated, Wrong> {
    if rerank::can(from, to) {
        let (body, losses, asked) = rerank::translate(to, body, whom)?;
        return Ok(Translated { bodies: vec![body], losses, asked: Asked(Kind::Rerank(asked)) });
    }
    let (bodies, losses, asked) = embeddings::translate(from, to, body, whom)?;
    Ok(Translated { bodies, losses, asked: Asked(Kind::Embeddings(asked)) })
}

/// Write the provider's answer for the client. `replies` answer the bodies of [`Translated`], in their order; `usage_hint` is the number
/// of input tokens that all of them together reported beside their bodies (Bedrock's `x-amzn-bedrock-input-token-count`).
pub fn answer(
    asked: &Asked,
    replies: &[&[u8]],
    to: &ReplyTo<'_>,
    usage_hint: Option<u64>,
) -> Result<Answered, Garbled> {
    match &asked.0 {
        Kind::Embeddings(asked) => embeddings::answer(asked, replies, to, usage_hint),
        Kind::Rerank(asked) => match replies {
            [reply] => rerank::answer(asked, reply, to, usage_hint),
            _ => Err(Garbled::new("one reply expected")),
        },
    }
}
