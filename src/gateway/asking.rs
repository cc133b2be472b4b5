//! A call put in the words of one target: its lane, the request's path, header fields and body, and what of it could not be said. Made anew
//! for each target that is asked; nothing here waits for anybody.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;

use super::router::Inquiry;
use super::{bridge, reply, task};
use crate::call::{Lane, Lost};
use crate::chat::{How, Losses, Seal, Start};
use crate::config::snapshot::{OnLoss, Provider, StreamUsage};
use crate::dialect::envelope::{Envelope, usage_is_optional};
use crate::dialect::{Framing, Grammar, Manners, Operation, ReplyTo, StreamForm};
use crate::error::{Error, Result};
use crate::id::RequestId;
use crate::json::{Paths, ScanError, Spliced, Wrong};
use crate::provider::{self, Answer};
use crate::route::{self, Most, Target, Way};
use crate::upstream::AGENT;

/// Client fields that are sent on whatever the lane. All others stay here: an allow-list, since a provider may give meaning to any name.
const TRACED: [&str; 4] = ["x-client-request-id", "traceparent", "tracestate", "baggage"];
/// And those that belong to the OpenAI dialect, where it is spoken at both ends.
const OPENAI: [&str; 2] = ["idempotency-key", "openai-beta"];

const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const AWS_EVENTS: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// So many of a client's features in trial are told as lost.
const BETAS: usize = 32;

/// What a client wants, whoever answers.
pub struct Question<'a> {
    pub inquiry: &'a Inquiry,
    pub id: RequestId,
    /// As the client wrote it.
    pub model: Box<str>,
    pub stream: bool,
    pub form: StreamForm,
    /// Unix seconds.
    pub created: u64,
    pub started: Instant,
    /// When the caller itself gives up.
    pub deadline: Option<Instant>,
    /// Drawn at random.
    pub seed: u64,
    /// A stream that breaks is taken up by another target (`continue: true`).
    pub resume: bool,
    /// What the client has of an answer that broke.
    pub said: Option<Said>,
    /// What it can use at most, where that is put aside or written down.
    pub most: Option<Most>,
}

/// The beginning of an answer, as another target must know it to go on.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub text: String,
    /// How the client knows the answer.
    pub start: Start<'static>,
}

/// The question, put to one target.
pub struct Asked {
    pub target: Target,
    pub lane: Lane,
    pub speech: Speech,
    pub asking: Asking,
    /// What could not be said.
    pub lost: Lost,
    /// Of what stays the same from turn to turn.
    pub affinity: Option<u64>,
}

/// How it is put, and what its answer needs to be said back.
pub enum Speech {
    Splice {
        body: Spliced,
        /// Usage was asked for by us: what that adds is taken out again.
        added_usage: bool,
    },
    Bridge(bridge::Speech),
    Task(task::Questions),
    /// Counted by the provider, or here.
    Count(task::Counting),
}

/// What is asked of a provider, beside the body.
#[derive(Default)]
pub struct Asking {
    /// Path and query.
    pub path: String,
    pub accept: Option<HeaderValue>,
    /// The client's header fields that are sent on.
    pub sent_on: Vec<(HeaderName, HeaderValue)>,
}

/// Gemini's clients get an array unless they ask for events.
pub fn form(inquiry: &Inquiry, query: Option<&str>) -> StreamForm {
    let events = query.is_some_and(|q| q.split('&').any(|pair| pair == "alt=sse"));
    if inquiry.operation == Operation::GenerateContent && !events { StreamForm::Array } else { StreamForm::Sse }
}

// === impl Speech ===

impl Speech {
    /// What the provider is asked for, when the client asks for `operation`. `None`: it is not asked.
    pub fn operation(&self, operation: Operation) -> Option<Operation> {
        match self {
            Speech::Splice { .. } => Some(operation),
            Speech::Bridge(speech) => Some(speech.to),
            Speech::Task(questions) => Some(questions.to),
            Speech::Count(counting) => counting.asked_of(),
        }
    }
}

// === impl Question ===

impl<'a> Question<'a> {
    /// The same, of which the client has the beginning of an answer.
    pub fn with(&self, said: Said) -> Question<'a> {
        Question { id: self.id.clone(), model: self.model.clone(), said: Some(said), most: self.most.clone(), ..*self }
    }

    /// What an answer needs that no provider said.
    pub fn reply_to(&self) -> ReplyTo<'_> {
        ReplyTo {
            id: self.id.as_str(),
            model: &self.model,
            created: self.created,
            stream_usage: false,
            form: self.form,
            echo: "",
        }
    }
}

// === impl Asked ===

impl Asked {
    /// Put a question to a target. `packed`: the body holds what another provider signed.
    pub fn new(
        question: &Question<'_>,
        headers: &HeaderMap,
        envelope: &Envelope,
        target: &Target,
        packed: bool,
        affinity: Option<u64>,
    ) -> Result<Self> {
        let operation = question.inquiry.operation;
        let mut way = route::way(target, operation)?;
        if way == Way::Splice && (packed || question.resume) && operation.dialect().is_some() {
            // what another provider signed would be refused: said again in the same dialect, without it; and a stream that may go on
            // elsewhere must be one that can be said in our words
            way = Way::Bridge(operation);
        }
        let mut lost = Lost::default();
        betas(headers, &mut lost, operation, target, way);
        let (lane, speech, asking) = match way {
            Way::Splice => {
                let (body, added_usage) = spliced(envelope, operation, target);
                let asking = Asking::splice(question, headers, target)?;
                (Lane::Splice, Speech::Splice { body, added_usage }, asking)
            }
            Way::Bridge(to) => {
                let speech = bridge::Speech::new(question, envelope, to, target, &mut lost)?;
                (Lane::Bridge, Speech::Bridge(speech), Asking::bridge(headers, to, target, question.stream)?)
            }
            Way::Task(to) => {
                let questions = task::Questions::new(question, envelope, to, target, &mut lost)?;
                (Lane::Bridge, Speech::Task(questions), Asking::bridge(headers, to, target, false)?)
            }
            Way::Count(to) => {
                let counting = task::Counting::new(question, envelope, to, target, &mut lost)?;
                let asking = match counting.asked_of() {
                    Some(counts) => Asking::bridge(headers, counts, target, false)?,
                    None => Asking::default(),
                };
                let lane = if counting.asked_of().is_some() { Lane::Bridge } else { Lane::Local };
                (lane, Speech::Count(counting), asking)
            }
        };
        Ok(Asked { target: target.clone(), lane, speech, asking, lost, affinity })
    }
}

/// Whether a body may hold what another provider signed.
pub fn may_be_packed(envelope: &Envelope) -> bool {
    Seal::may_hold_packed(&envelope.body)
}

/// Features in trial that the client asks for and the provider is not told of: in the ledger, but never a reason to refuse, since they come
/// with every call of some clients.
fn betas(headers: &HeaderMap, lost: &mut Lost, operation: Operation, target: &Target, way: Way) {
    if operation.grammar() != Grammar::Anthropic {
        return;
    }
    let Some(offer) = target.provider.offer(&target.model) else { return };
    let provider::Betas { kept, dropped } = provider::betas(offer, headers);
    let told = if way == Way::Splice { Vec::new() } else { kept };
    for beta in dropped.into_iter().chain(told).take(BETAS) {
        lost.places.push((format!("anthropic-beta:{beta}"), How::Dropped));
        lost.count += 1;
    }
}

/// The body of the splice lane, and whether usage was asked for by us.
fn spliced(envelope: &Envelope, operation: Operation, target: &Target) -> (Spliced, bool) {
    let ask_usage = envelope.stream && usage_is_optional(operation) && target.provider.stream_usage == StreamUsage::Ask;
    let manners = target.provider.offer(&target.model).map(|offer| &offer.manners);
    let version = manners.and_then(|m| m.anthropic_version.as_deref()).filter(|_| operation == Operation::Messages);
    let patches = match version {
        Some(version) => envelope.without_model(version),
        None => envelope.patches(&target.model, ask_usage),
    };
    (Spliced::new(&envelope.body, &patches), ask_usage && !envelope.wants_usage())
}

/// How a provider spells the dialect in which this target is asked.
pub fn manners(target: &Target) -> Result<&Manners> {
    target
        .provider
        .offer(&target.model)
        .map(|offer| &offer.manners)
        .ok_or_else(|| Error::internal("The provider offers nothing for this model."))
}

/// One body.
pub fn in_one_piece(body: Vec<u8>) -> Spliced {
    let body = Bytes::from(body);
    Spliced { len: body.len(), pieces: vec![body] }
}

// === what cannot be said ===

/// A body that is no JSON, or more of it than is read.
pub fn unreadable(error: ScanError) -> Error {
    Error::bad_request(format!("We could not parse the JSON body of your request: {error}."))
}

/// A member that is not what its place asks for.
pub fn misfit(body: &[u8], wrong: &Wrong) -> Error {
    let path = Paths::new(body).of(wrong.at);
    let what = &wrong.what;
    if path.is_empty() {
        return Error::bad_request(format!("The request cannot be used: {what}."));
    }
    Error::bad_request(format!("Invalid value at '{path}': {what}.")).param(path)
}

/// Put losses into the ledger, or refuse the call for them.
pub fn book(lost: &mut Lost, text: &[u8], losses: &Losses, prefix: &str, on_loss: OnLoss) -> Result<()> {
    if losses.is_empty() {
        return Ok(());
    }
    let mut paths = Paths::new(text);
    for loss in losses.iter() {
        let place = paths.of(loss.at);
        let dot = if place.is_empty() || loss.member.is_empty() { "" } else { "." };
        let place = format!("{prefix}{place}{dot}{}", loss.member);
        if on_loss == OnLoss::Refuse || loss.how == How::Essential {
            return Err(Error::bad_request(format!(
                "'{place}' cannot be carried to the provider of this model, and the request must not be sent without it."
            ))
            .param(place)
            .code("not_carried"));
        }
        lost.places.push((place, loss.how));
    }
    lost.count += losses.count;
    Ok(())
}

// === impl Asking ===

impl Asking {
    fn splice(question: &Question<'_>, headers: &HeaderMap, target: &Target) -> Result<Self> {
        let operation = question.inquiry.operation;
        let mut path = provider::target(&target.provider, operation, &target.model, answer(question.stream))?;
        if let Some(in_path) = &question.inquiry.in_path {
            // one operation, two actions: the client's own is asked for
            path = path.replacen(":batchEmbedContents", &format!(":{}", in_path.action), 1);
            if question.form == StreamForm::Array {
                path = path.replacen("?alt=sse", "", 1);
            }
        }
        let mut sent_on = fields(headers, TRACED.iter());
        if operation.grammar() == Grammar::OpenAi {
            sent_on.extend(fields(headers, OPENAI.iter()));
        }
        sent_on.extend(provider::headers(&target.provider, Some(&target.model), headers));
        Ok(Asking { path, accept: Some(accept(Framing::Sse, question.stream)), sent_on })
    }

    fn bridge(headers: &HeaderMap, to: Operation, target: &Target, stream: bool) -> Result<Self> {
        let path = provider::target(&target.provider, to, &target.model, answer(stream))?;
        let framing = to.dialect().map_or(Framing::Sse, |dialect| crate::dialect::outbound(dialect).framing());
        let mut sent_on = fields(headers, TRACED.iter());
        // the client's own headers of a dialect say nothing in another
        sent_on.extend(provider::headers(&target.provider, Some(&target.model), &HeaderMap::new()));
        Ok(Asking { path, accept: Some(accept(framing, stream)), sent_on })
    }

    /// The header section of the provider's request, from nothing: what is in it was put in here.
    pub fn head(
        &self,
        authority: &HeaderValue,
        shown: &[(HeaderName, HeaderValue)],
        id: &RequestId,
        provider: &Provider,
        length: usize,
    ) -> pingora::Result<RequestHeader> {
        let mut head = RequestHeader::build_no_case("POST", self.path.as_bytes(), Some(16))?;
        head.insert_header(http::header::HOST, authority.clone())?;
        head.insert_header(http::header::CONTENT_TYPE, reply::JSON)?;
        head.insert_header(http::header::CONTENT_LENGTH, HeaderValue::from(length))?;
        if let Some(accept) = &self.accept {
            head.insert_header(http::header::ACCEPT, accept.clone())?;
        }
        // what passes through must be readable on the way
        head.insert_header(http::header::ACCEPT_ENCODING, IDENTITY)?;
        identify(&mut head, id, provider)?;
        for (name, value) in self.sent_on.iter().chain(shown) {
            head.insert_header(name.clone(), value.clone())?;
        }
        Ok(head)
    }
}

/// Credentials and ids, the same in every lane.
pub fn identify(head: &mut RequestHeader, id: &RequestId, provider: &Provider) -> pingora::Result<()> {
    head.insert_header(http::header::USER_AGENT, AGENT)?;
    head.insert_header(reply::REQUEST_ID, id.as_str())?;
    for (name, value) in &provider.headers {
        head.insert_header(name.clone(), value.clone())?;
    }
    if let Some((name, value)) = &provider.credential_header {
        head.insert_header(name.clone(), value.clone())?;
    }
    Ok(())
}

fn answer(stream: bool) -> Answer {
    if stream { Answer::Stream } else { Answer::Whole }
}

fn accept(framing: Framing, stream: bool) -> HeaderValue {
    match framing {
        _ if !stream => reply::JSON,
        Framing::Sse => EVENTS,
        Framing::EventStream => AWS_EVENTS,
    }
}

fn fields<'n>(headers: &HeaderMap, names: impl Iterator<Item = &'n &'static str>) -> Vec<(HeaderName, HeaderValue)> {
    names.filter_map(|name| Some((HeaderName::from_static(name), headers.get(*name)?.clone()))).collect()
}
