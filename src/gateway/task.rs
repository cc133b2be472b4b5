//! Calls that are one question and one answer (embeddings, rerank, counts of tokens), asked in the grammar that the provider has.

use bytes::Bytes;
use pingora_proxy::Session;

use super::bridge::{self, REPLY_LIMIT, book, garbled, misfit, refused, unreadable};
use super::exchange::{Asking, attempt};
use super::flow::{self, Ended, Pace};
use super::proxy::Shared;
use super::reply;
use super::router::Inquiry;
use crate::call::Call;
use crate::config::snapshot::OnLoss;
use crate::dialect::envelope::Envelope;
use crate::dialect::{self, Dialect, Manners, Operation, ReplyTo, StreamForm, To, count, task};
use crate::error::{Error, Result};
use crate::json::{Node, Spliced};
use crate::route::Target;

/// Where Bedrock tells the input's tokens of a model whose body does not.
const BEDROCK_TOKENS: &str = "x-amzn-bedrock-input-token-count";

/// Carry a question to a provider that offers `to`.
pub async fn carry(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    envelope: &Envelope,
    inquiry: &Inquiry,
    to: Operation,
    target: &Target,
) -> Result<()> {
    let body = &envelope.body;
    let node = Node::parse(body).map_err(unreadable)?;
    let whom = To { model: &target.model, manners: manners(target)? };
    let translated = task::translate(inquiry.operation, to, node, &whom).map_err(|wrong| misfit(body, &wrong))?;
    book(call, body, &translated.losses, "", target.on_loss)?;
    let mut replies = Vec::with_capacity(translated.bodies.len());
    let mut tokens: Option<u64> = None;
    for body in translated.bodies {
        let (reply, counted) = ask(shared, session, call, to, target, body).await?;
        tokens = counted.map_or(tokens, |counted| Some(tokens.unwrap_or(0).saturating_add(counted)));
        replies.push(reply);
    }
    let texts: Vec<&[u8]> = replies.iter().map(|reply| &**reply).collect();
    let model = call.model.clone().unwrap_or_default();
    let reply_to = ReplyTo {
        id: call.id.as_str(),
        model: &model,
        created: bridge::created(),
        stream_usage: false,
        form: StreamForm::Sse,
        echo: "",
    };
    let answered = task::answer(&translated.asked, &texts, &reply_to, tokens).map_err(garbled)?;
    call.usage = answered.usage;
    book(call, b"", &answered.losses, "reply.", OnLoss::Report)?;
    say(session, call, answered.body).await
}

/// Count the tokens of a conversation: asked of the provider where it counts in its own way, else estimated here.
pub async fn count(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    envelope: &Envelope,
    inquiry: &Inquiry,
    to: Option<Operation>,
    target: &Target,
) -> Result<()> {
    let body = &envelope.body;
    let node = Node::parse(body).map_err(unreadable)?;
    let node = count::conversation(inquiry.operation, node).map_err(|wrong| misfit(body, &wrong))?;
    let conversation = match inquiry.operation {
        Operation::CountContentTokens => Operation::GenerateContent,
        _ => Operation::Messages,
    };
    let Some(inbound) = dialect::inbound(conversation) else {
        return Err(Error::internal("No dialect reads this conversation."));
    };
    let mut request = inbound.decode_request(node).map_err(|wrong| misfit(body, &wrong))?;
    let asked = to.and_then(|to| Some((dialect::outbound(to.dialect()?), count::counts(to)?)));
    let counted = match asked {
        None => count::estimate(&request),
        Some((outbound, counts)) => {
            let whom = To { model: &target.model, manners: manners(target)? };
            let abilities = outbound.abilities(whom.model, whom.manners);
            let mut losses = crate::chat::Losses::default();
            dialect::adapt::adapt(&mut request, &abilities, &mut losses);
            let encoded = outbound.encode_request(&request, &whom);
            losses.merge(encoded.losses);
            book(call, body, &losses, "", target.on_loss)?;
            let question = count::question(counts, &encoded.body, &whom).map_err(garbled)?;
            let (reply, _) = ask(shared, session, call, counts, target, question).await?;
            count::read_answer(counts, &reply).map_err(garbled)?
        }
    };
    call.estimated = counted.estimated;
    say(session, call, count::answer(inquiry.operation, counted)).await
}

fn manners(target: &Target) -> Result<&Manners> {
    target
        .provider
        .offer(&target.model)
        .map(|offer| &offer.manners)
        .ok_or_else(|| Error::internal("The provider offers nothing for this model."))
}

/// One question, and its whole answer; with it the tokens that its header section tells.
async fn ask(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    to: Operation,
    target: &Target,
    body: Vec<u8>,
) -> Result<(Bytes, Option<u64>)> {
    let asking = Asking::bridge(session, to, target, false)?;
    let body = Bytes::from(body);
    let body = Spliced { len: body.len(), pieces: vec![body] };
    let mut upstream = attempt(shared, session, call, target, &asking, &body).await?;
    call.first_byte.get_or_insert(call.started.elapsed());
    call.upstream_request_id = reply::upstream_request_id(&upstream);
    let pace = Pace::new(call, target);
    if upstream.status() >= 400 {
        let outbound = dialect::outbound(grammar(to));
        let error = refused(shared, outbound, &target.provider, session, call, &mut upstream, pace).await;
        flow::close(shared, upstream, Err(error)).await?;
        return Err(Error::internal("A refusal was no error."));
    }
    let tokens = upstream.header(BEDROCK_TOKENS).and_then(|v| v.to_str().ok()?.parse().ok());
    match flow::read_whole(session, call, &mut upstream, pace, REPLY_LIMIT).await {
        Ok(reply) => {
            flow::close(shared, upstream, Ok(Ended::Whole)).await?;
            Ok((reply, tokens))
        }
        Err(error) => {
            upstream.session.shutdown().await;
            Err(error)
        }
    }
}

/// Whose errors an operation's provider speaks.
fn grammar(of: Operation) -> Dialect {
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

async fn say(session: &mut Session, call: &mut Call, body: Vec<u8>) -> Result<()> {
    let body = Bytes::from(body);
    let mut head = pingora::http::ResponseHeader::build_no_case(200, Some(12)).map_err(flow::broken_head)?;
    head.insert_header(http::header::CONTENT_TYPE, reply::JSON).map_err(flow::broken_head)?;
    head.insert_header(http::header::CONTENT_LENGTH, body.len()).map_err(flow::broken_head)?;
    reply::ours(&mut head, call).map_err(flow::broken_head)?;
    call.status = 200;
    flow::write_head(session, call, head).await?;
    flow::write(session, call, Some(body), true).await
}
