//! Texts become vectors: the question and the answer in the grammars that clients and providers use for it.
//!
//! Clients speak OpenAI's or Gemini's; each is read into [`Wanted`], which is written for any provider. Answers may hold millions of
//! numbers: they are walked through once, and numbers that stay numbers keep their text ([`vector`]).
//! Each file below names the reference it follows.

mod bedrock;
mod cohere;
mod gemini;
mod ollama;
mod openai;
mod predict;
mod purpose;
#[cfg(test)]
mod tests;
mod vector;

use std::borrow::Cow;

use self::purpose::Purpose;
use self::vector::Vector;
use super::codec::{Garbled, ReplyTo, To};
use super::operation::Operation;
use super::task::Answered;
use crate::chat::{Losses, Param, Usage};
use crate::json::{At, Node, Walk, Wrong};
use crate::units::Tokens;

/// Most texts in a call (OpenAI API reference, embeddings, `input`).
const MAX_INPUTS: usize = 2048;

/// A question, in no grammar.
#[derive(Debug)]
struct Wanted<'a> {
    /// At least one.
    inputs: Vec<Input<'a>>,
    dimensions: Option<Param<u64>>,
    /// What becomes of a text that is too long.
    truncate: Option<Param<Truncate>>,
    /// Whether vectors have length 1.
    normalize: Option<Param<bool>>,
}

#[derive(Debug)]
struct Input<'a> {
    text: Cow<'a, str>,
    purpose: Option<Param<Purpose>>,
    title: Option<Param<Cow<'a, str>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truncate {
    /// Too long is an error.
    Never,
    Start,
    End,
}

/// What of a question its answer needs.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Who answers.
    of: Operation,
    form: Form,
    inputs: usize,
    /// In each body but the last.
    per_call: usize,
    dimensions: Option<(u64, At)>,
}

/// How the client reads its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OpenAi {
        base64: bool,
    },
    /// Gemini's `embedContent`: one vector, not a list.
    GeminiOne,
    GeminiMany,
}

/// An answer, in no grammar. Borrows from the replies.
#[derive(Debug)]
struct Found<'a> {
    vectors: Vec<Vector<'a>>,
    /// So many are expected; more are an error.
    most: usize,
    model: Option<Cow<'a, str>>,
    input_tokens: Option<u64>,
    /// A text was cut short by the provider.
    truncated: bool,
}

pub(super) fn can(from: Operation, to: Operation) -> bool {
    let offered = matches!(
        to,
        Operation::Embeddings
            | Operation::EmbedContent
            | Operation::CohereEmbed
            | Operation::Invoke
            | Operation::OllamaEmbed
            | Operation::Predict
    );
    matches!(from, Operation::Embeddings | Operation::EmbedContent) && offered && from != to
}

pub(super) fn translate(
    from: Operation,
    to: Operation,
    body: Node<'_>,
    whom: &To<'_>,
) -> Result<(Vec<Vec<u8>>, Losses, Asked), Wrong> {
    let at = body.at;
    if !can(from, to) {
        return Err(Wrong::new(at, "the provider of this model has no embeddings"));
    }
    let mut losses = Losses::default();
    let (wanted, form) = match from {
        Operation::Embeddings => openai::read_question(body, &mut losses)?,
        _ => gemini::read_question(body, &mut losses)?,
    };
    if wanted.inputs.len() > MAX_INPUTS {
        return Err(Wrong::new(at, format!("at most {MAX_INPUTS} texts can be embedded in one call")));
    }
    let per_call = match to {
        Operation::EmbedContent => gemini::PER_CALL,
        Operation::CohereEmbed => cohere::PER_CALL,
        Operation::Invoke => bedrock::per_call(whom.model),
        Operation::Predict => predict::per_call(whom.model),
        _ => MAX_INPUTS,
    };
    let mut bodies = Vec::with_capacity(wanted.inputs.len().div_ceil(per_call));
    for inputs in wanted.inputs.chunks(per_call) {
        bodies.push(match to {
            Operation::EmbedContent => gemini::question(&wanted, inputs, whom, &mut losses),
            Operation::CohereEmbed => cohere::question(&wanted, inputs, whom, &mut losses),
            Operation::Invoke => bedrock::question(&wanted, inputs, whom, &mut losses)?,
            Operation::OllamaEmbed => ollama::question(&wanted, inputs, whom, &mut losses),
            Operation::Predict => predict::question(&wanted, inputs, &mut losses),
            _ => openai::question(&wanted, inputs, whom, &mut losses),
        });
    }
    let dimensions = wanted.dimensions.as_ref().map(|p| (p.value, p.at));
    let asked = Asked { of: to, form, inputs: wanted.inputs.len(), per_call, dimensions };
    Ok((bodies, losses, asked))
}

pub(super) fn answer(
    asked: &Asked,
    replies: &[&[u8]],
    to: &ReplyTo<'_>,
    usage_hint: Option<u64>,
) -> Result<Answered, Garbled> {
    if replies.len() != asked.inputs.div_ceil(asked.per_call) {
        return Err(Garbled::new("not as many replies as questions"));
    }
    let mut whole = Found::new(asked.inputs);
    let mut left = asked.inputs;
    let mut tokens = Some(0u64);
    for reply in replies {
        let mut found = Found::new(left.min(asked.per_call));
        let mut walk = Walk::new(reply)?;
        match asked.of {
            Operation::EmbedContent => gemini::read_answer(&mut walk, &mut found)?,
            Operation::CohereEmbed => cohere::read_answer(&mut walk, &mut found)?,
            Operation::Invoke => bedrock::read_answer(&mut walk, &mut found)?,
            Operation::OllamaEmbed => ollama::read_answer(&mut walk, &mut found)?,
            Operation::Predict => predict::read_answer(&mut walk, &mut found)?,
            _ => openai::read_answer(&mut walk, &mut found)?,
        }
        walk.end()?;
        if found.vectors.len() != found.most {
            let what = format!("{} vectors for {} texts", found.vectors.len(), found.most);
            return Err(Garbled::new(what));
        }
        left -= found.most;
        tokens = tokens.zip(found.input_tokens).map(|(sum, more)| sum.saturating_add(more));
        whole.vectors.append(&mut found.vectors);
        whole.model = whole.model.or(found.model);
        whole.truncated |= found.truncated;
    }
    whole.input_tokens = tokens.or(usage_hint);
    let losses = whole.losses(asked);
    let body = match asked.form {
        Form::OpenAi { base64 } => openai::answer(&whole, base64, to)?,
        Form::GeminiOne => gemini::answer_one(&whole)?,
        Form::GeminiMany => gemini::answer_many(&whole)?,
    };
    let usage = whole.input_tokens.map(|input| Usage { input: Tokens(input), ..Usage::default() });
    Ok(Answered { body, usage, losses })
}

// === impl Wanted ===

impl Wanted<'_> {
    /// The one purpose of several texts, for providers that take one a call: the first text's. Texts with another are booked.
    fn one_purpose(inputs: &[Input<'_>], losses: &mut Losses) -> Option<Param<Purpose>> {
        let first = inputs.first().and_then(|input| input.purpose);
        for other in inputs.iter().filter_map(|input| input.purpose) {
            if Some(other.value) != first.map(|p| p.value) {
                losses.changed(other.at, "");
            }
        }
        first
    }

    /// For models whose vectors have one length only: any other that is asked for would be in vain.
    fn fixed_dimensions(&self, fixed: u64, losses: &mut Losses) {
        if let Some(asked) = self.dimensions.filter(|asked| asked.value != fixed) {
            losses.essential(asked.at, "");
        }
    }
}

// === impl Input ===

impl Input<'_> {
    /// For providers that have no word for either.
    fn drop_hints(inputs: &[Input<'_>], losses: &mut Losses) {
        for Input { text: _, purpose, title } in inputs {
            if let Some(purpose) = purpose {
                losses.dropped(purpose.at, "");
            }
            if let Some(title) = title {
                losses.dropped(title.at, "");
            }
        }
    }

    fn drop_titles(inputs: &[Input<'_>], losses: &mut Losses) {
        for title in inputs.iter().filter_map(|input| input.title.as_ref()) {
            losses.dropped(title.at, "");
        }
    }
}

// === impl Found ===

impl<'a> Found<'a> {
    fn new(most: usize) -> Self {
        Found { vectors: Vec::new(), most, model: None, input_tokens: None, truncated: false }
    }

    fn push(&mut self, vector: Vector<'a>) -> Result<(), Garbled> {
        if self.vectors.len() >= self.most {
            return Err(Garbled::new(format!("more vectors than the {} texts", self.most)));
        }
        self.vectors.push(vector);
        Ok(())
    }

    /// A list of vectors.
    fn push_all(&mut self, walk: &mut Walk<'a>) -> Result<(), Garbled> {
        walk.array(|walk| self.push(Vector::read(walk)?))
    }

    /// What is not as it was asked for.
    fn losses(&self, asked: &Asked) -> Losses {
        let mut losses = Losses::default();
        let other = |dimensions| self.vectors.iter().any(|vector| vector.len() as u64 != dimensions);
        if let Some((_, at)) = asked.dimensions.filter(|(dimensions, _)| other(*dimensions)) {
            losses.changed(at, "");
        }
        if self.truncated {
            losses.changed(At::NOWHERE, "truncated");
        }
        losses
    }
}

/// A number that counts something; `None` where there is something else.
fn count(walk: &mut Walk<'_>) -> Result<Option<u64>, Garbled> {
    Ok(walk.value()?.parse().ok())
}

/// Go through an object where there may be something else, which says nothing.
fn object_if<'a>(
    walk: &mut Walk<'a>,
    member: impl FnMut(&str, &mut Walk<'a>) -> Result<(), Garbled>,
) -> Result<(), Garbled> {
    match walk.next() {
        Some(b'{') => walk.object(member),
        _ => Ok(()),
    }
}

/// A string where there may be something else.
fn string_if<'a>(walk: &mut Walk<'a>) -> Result<Option<Cow<'a, str>>, Garbled> {
    match walk.next() {
        Some(b'"') => Ok(Some(walk.string()?)),
        _ => Ok(None),
    }
}
