//! Documents put in order by how well they answer a query: Cohere's grammar for clients; Cohere's, what is shaped like it, and Bedrock's for
//! providers.
//!
//! Answers are in Cohere's shape, best first, whoever gave them.

mod bedrock;
mod cohere;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Ordering;

use super::codec::{Garbled, ReplyTo, To};
use super::operation::Operation;
use super::task::Answered;
use crate::chat::{Losses, Param, Usage};
use crate::json::{Node, Wrong};
use crate::units::Tokens;

/// Most documents in a call; Cohere recommends 1000 and takes 10 000 (API reference, rerank, "documents").
const MAX_DOCUMENTS: usize = 10_000;

/// A question, in no grammar.
#[derive(Debug)]
struct Wanted<'a> {
    query: Cow<'a, str>,
    /// At least one.
    documents: Vec<Document<'a>>,
    top: Option<Param<u64>>,
    /// Longer documents are cut.
    max_tokens_per_document: Option<Param<u64>>,
}

#[derive(Debug)]
struct Document<'a> {
    content: Content<'a>,
    /// As the client wrote it, a JSON text: a string or an object.
    raw: &'a str,
}

#[derive(Debug)]
enum Content<'a> {
    Text(Cow<'a, str>),
    /// The members that count, in the order in which they count, each with its JSON text.
    Fields(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// What of a question its answer needs.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Who answers.
    of: Operation,
    documents: usize,
    top: Option<u64>,
    /// Cohere's version, as the client's members tell.
    version: &'static str,
    /// Documents stand again in the answer: JSON texts of objects.
    again: Option<Vec<String>>,
}

/// An answer, in no grammar.
#[derive(Debug, Default)]
struct Found<'a> {
    id: Option<Cow<'a, str>>,
    results: Vec<Placed<'a>>,
    input_tokens: Option<u64>,
    /// Cohere's `billed_units`, as they stand.
    billed_units: Option<&'a str>,
}

#[derive(Debug)]
struct Placed<'a> {
    index: usize,
    score: f64,
    /// The score's own text.
    text: &'a str,
}

pub(super) fn can(from: Operation, to: Operation) -> bool {
    from == Operation::Rerank && matches!(to, Operation::Rerank | Operation::BedrockRerank)
}

pub(super) fn translate(to: Operation, body: Node<'_>, whom: &To<'_>) -> Result<(Vec<u8>, Losses, Asked), Wrong> {
    let mut losses = Losses::default();
    let cohere::Question { wanted, extra, version, again } = cohere::read_question(body, &mut losses)?;
    let asked = Asked {
        of: to,
        documents: wanted.documents.len(),
        top: wanted.top.as_ref().map(|p| p.value),
        version,
        again: again.then(|| wanted.documents.iter().map(Document::again).collect()),
    };
    let body = match to {
        Operation::BedrockRerank => {
            losses.extra(&extra);
            bedrock::question(&wanted, whom)?
        }
        _ => cohere::question(&wanted, &extra, whom, &mut losses),
    };
    Ok((body, losses, asked))
}

pub(super) fn answer(
    asked: &Asked,
    reply: &[u8],
    to: &ReplyTo<'_>,
    usage_hint: Option<u64>,
) -> Result<Answered, Garbled> {
    let node = Node::parse_reply(reply)?;
    let mut found = match asked.of {
        Operation::BedrockRerank => bedrock::read_answer(node)?,
        _ => cohere::read_answer(node)?,
    };
    found.input_tokens = found.input_tokens.or(usage_hint);
    found.check(asked)?;
    let body = cohere::answer(&found, asked, to);
    let usage = found.input_tokens.map(|input| Usage { input: Tokens(input), ..Usage::default() });
    Ok(Answered { body, usage, losses: Losses::default() })
}

// === impl Document ===

impl Document<'_> {
    /// As it stands in an answer.
    fn again(&self) -> String {
        if self.raw.starts_with('"') { format!("{{\"text\":{}}}", self.raw) } else { self.raw.to_owned() }
    }
}

// === impl Found ===

impl Found<'_> {
    /// Best first, no document twice, and not more than were asked for.
    fn check(&mut self, asked: &Asked) -> Result<(), Garbled> {
        let mut seen = vec![false; asked.documents];
        for placed in &self.results {
            match seen.get_mut(placed.index) {
                Some(seen @ false) => *seen = true,
                _ => return Err(Garbled::new("a result that is none of the documents, or comes twice")),
            }
        }
        let top = asked.top.map_or(asked.documents, |top| usize::try_from(top).unwrap_or(usize::MAX));
        self.results.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
        self.results.truncate(top);
        Ok(())
    }
}

// === impl Placed ===

impl<'a> Placed<'a> {
    fn read(result: Node<'a>, names: &[&str]) -> Result<Self, Wrong> {
        let at = result.at;
        let mut members = result.object()?;
        let index = members.take_u64("index")?.and_then(|index| usize::try_from(index).ok());
        let score = names.iter().find_map(|name| members.take(name));
        let (Some(index), Some(score)) = (index, score) else {
            return Err(Wrong::new(at, "a result without an index or a score"));
        };
        let value = score.as_f64().ok_or(Wrong::new(score.at, "expected a number"))?;
        Ok(Placed { index, score: value, text: score.raw })
    }
}
