//! Calls that are one question and one answer (embeddings, rerank, counts of tokens), asked in the grammar that the provider has.

use bytes::Bytes;
use pingora::http::ResponseHeader;

use super::asking::{Asking, Question, book, in_one_piece, manners, misfit, unreadable};
use super::attempt::{Failed, How, Line, Seen, Whole};
use super::bridge::{self, REPLY_LIMIT, garbled};
use super::{flow, reply};
use crate::call::Lost;
use crate::config::snapshot::OnLoss;
use crate::dialect::envelope::Envelope;
use crate::dialect::{self, Dialect, Operation, To, count, task};
use crate::error::{Error, Result};
use crate::json::{Node, Spliced};
use crate::route::Target;

/// Where Bedrock tells the input's tokens of a model whose body does not.
const BEDROCK_TOKENS: &str = "x-amzn-bedrock-input-token-count";

/// A question in a provider's grammar; several where it takes fewer inputs in a call than were given.
pub struct Questions {
    pub to: Operation,
    bodies: Vec<Spliced>,
    asked: task::Asked,
}

/// Who counts tokens.
pub enum Counting {
    /// The provider, asked by this operation.
    There { counts: Operation, body: Spliced },
    /// We, already.
    Here(count::Count),
}

// === impl Questions ===

impl Questions {
    pub fn new(
        question: &Question<'_>,
        envelope: &Envelope,
        to: Operation,
        target: &Target,
        lost: &mut Lost,
    ) -> Result<Self> {
        let body = &envelope.body;
        let node = Node::parse(body).map_err(unreadable)?;
        let whom = To { model: &target.model, manners: manners(target)? };
        let from = question.inquiry.operation;
        let translated = task::translate(from, to, node, &whom).map_err(|wrong| misfit(body, &wrong))?;
        book(lost, body, &translated.losses, "", target.on_loss)?;
        let bodies = translated.bodies.into_iter().map(in_one_piece).collect();
        Ok(Questions { to, bodies, asked: translated.asked })
    }
}

/// Carry a question to a provider.
pub async fn carry(
    line: &Line<'_>,
    asking: &Asking,
    questions: &Questions,
    seen: &mut Seen,
) -> Result<Whole, Box<Failed>> {
    let mut replies = Vec::with_capacity(questions.bodies.len());
    let mut tokens: Option<u64> = None;
    for body in &questions.bodies {
        let (reply, counted) = ask(line, asking, questions.to, body, seen).await?;
        tokens = counted.map_or(tokens, |counted| Some(tokens.unwrap_or(0).saturating_add(counted)));
        replies.push(reply);
    }
    let texts: Vec<&[u8]> = replies.iter().map(|reply| &**reply).collect();
    let reply_to = line.question.reply_to();
    let answered = task::answer(&questions.asked, &texts, &reply_to, tokens).map_err(|e| Failed::of(garbled(e)))?;
    let mut lost = Lost::default();
    book(&mut lost, b"", &answered.losses, "reply.", OnLoss::Report).map_err(Failed::of)?;
    whole(answered.body, answered.usage, lost, false)
}

// === impl Counting ===

impl Counting {
    pub fn new(
        question: &Question<'_>,
        envelope: &Envelope,
        to: Option<Operation>,
        target: &Target,
        lost: &mut Lost,
    ) -> Result<Self> {
        let body = &envelope.body;
        let operation = question.inquiry.operation;
        let node = Node::parse(body).map_err(unreadable)?;
        let node = count::conversation(operation, node).map_err(|wrong| misfit(body, &wrong))?;
        let conversation = match operation {
            Operation::CountContentTokens => Operation::GenerateContent,
            _ => Operation::Messages,
        };
        let Some(inbound) = dialect::inbound(conversation) else {
            return Err(Error::internal("No dialect reads this conversation."));
        };
        let mut request = inbound.decode_request(node).map_err(|wrong| misfit(body, &wrong))?;
        let Some((outbound, counts)) = to.and_then(|to| Some((dialect::outbound(to.dialect()?), count::counts(to)?)))
        else {
            return Ok(Counting::Here(count::estimate(&request)));
        };
        let whom = To { model: &target.model, manners: manners(target)? };
        let abilities = outbound.abilities(whom.model, whom.manners);
        let mut losses = crate::chat::Losses::default();
        dialect::adapt::adapt(&mut request, &abilities, &mut losses);
        let encoded = outbound.encode_request(&request, &whom);
        losses.merge(encoded.losses);
        book(lost, body, &losses, "", target.on_loss)?;
        let body = count::question(counts, &encoded.body, &whom).map_err(garbled)?;
        Ok(Counting::There { counts, body: in_one_piece(body) })
    }

    /// The operation that the provider is asked for.
    pub fn asked_of(&self) -> Option<Operation> {
        match self {
            Counting::There { counts, .. } => Some(*counts),
            Counting::Here(_) => None,
        }
    }
}

/// Count the tokens of a conversation: asked of the provider where it counts in its own way, else estimated here.
pub async fn count(
    line: &Line<'_>,
    asking: &Asking,
    counting: &Counting,
    seen: &mut Seen,
) -> Result<Whole, Box<Failed>> {
    let counted = match counting {
        Counting::Here(counted) => *counted,
        Counting::There { counts, body } => {
            let (reply, _) = ask(line, asking, *counts, body, seen).await?;
            count::read_answer(*counts, &reply).map_err(|e| Failed::of(garbled(e)))?
        }
    };
    whole(count::answer(line.operation(), counted), None, Lost::default(), counted.estimated)
}

/// One question, and its whole answer; with it the tokens that its header section tells.
async fn ask(
    line: &Line<'_>,
    asking: &Asking,
    to: Operation,
    body: &Spliced,
    seen: &mut Seen,
) -> Result<(Bytes, Option<u64>), Box<Failed>> {
    let mut upstream = line.send(asking, body, seen).await?;
    if !matches!(upstream.status(), 200..=203) {
        return Err(bridge::refused(line, dialect::outbound(grammar(to)), upstream, seen).await);
    }
    let tokens = upstream.header(BEDROCK_TOKENS).and_then(|v| v.to_str().ok()?.parse().ok());
    let reply = line.read_whole(&mut upstream, REPLY_LIMIT, seen).await?;
    line.release(upstream).await;
    Ok((reply, tokens))
}

/// Whose errors an operation's provider speaks.
pub fn grammar(of: Operation) -> Dialect {
    match of {
        Operation::EmbedContent | Operation::CountContentTokens | Operation::GenerateContent | Operation::Predict => {
            Dialect::Gemini
        }
        Operation::Invoke | Operation::BedrockRerank | Operation::CountConverseTokens | Operation::Converse => {
            Dialect::Bedrock
        }
        Operation::CohereEmbed | Operation::CohereChat | Operation::Rerank => Dialect::Cohere,
        Operation::Messages | Operation::CountMessageTokens => Dialect::Anthropic,
        Operation::ChatCompletions
        | Operation::Completions
        | Operation::Embeddings
        | Operation::Responses
        | Operation::OllamaEmbed => Dialect::OpenAiChat,
    }
}

fn whole(body: Vec<u8>, usage: Option<crate::chat::Usage>, lost: Lost, estimated: bool) -> Result<Whole, Box<Failed>> {
    let body = Bytes::from(body);
    let head = || -> pingora::Result<ResponseHeader> {
        let mut head = ResponseHeader::build_no_case(200, Some(12))?;
        head.insert_header(http::header::CONTENT_TYPE, reply::JSON)?;
        head.insert_header(http::header::CONTENT_LENGTH, body.len())?;
        Ok(head)
    };
    let head = head().map_err(|e| Failed::new(How::Broken, flow::broken_head(e)))?;
    Ok(Whole { head, body, usage, lost, estimated })
}
