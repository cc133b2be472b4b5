//! The heart: one LLM call from the client's body to its answer.
//!
//! ```text
//! read body -> scan -> plan -> [ target: breaker -> gate -> words -> attempt, until one has output ] -> commit -> stream the rest
//! ```
//!
//! The steps stand in this order in [`run`]; each is in the module it names: `route` (plan), `failover` (the loop), `asking` (words), `attempt`
//! (one try), `splice`, `bridge` and `task` (the lanes).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::asking::{self, Question, Said};
use super::attempt::{Beginning, Begun, Whole};
use super::billing::{self, Bill, End};
use super::failover::{self, Chase, Client, Known, Pursued};
use super::flow::{self, Pace};
use super::front::Admitted;
use super::intake;
use super::proxy::Shared;
use super::reply;
use super::router::Inquiry;
use crate::balance;
use crate::call::{Call, Tried};
use crate::chat::Event;
use crate::config::policy::Fallback;
use crate::dialect::envelope::Envelope;
use crate::dialect::{self, Operation};
use crate::error::{Blame, Error, Kind, Refused, Result};
use crate::filter::tags;
use crate::id::ModelName;
use crate::route::{self, Ask, Plan};
use crate::units::Tokens;

/// Answer an LLM call. An `Err` has not been answered yet, unless the answer had begun.
pub async fn run(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    admitted: &Admitted,
    inquiry: &Inquiry,
) -> Result<()> {
    call.operation = Some(inquiry.operation);
    let mut share = shared.buffered.share();
    let envelope = read(session, call, admitted, inquiry, &mut share).await.inspect_err(|error| {
        if matches!(error.kind, Kind::Overloaded { .. }) {
            shared.metrics.limited.with_label_values(&["buffered_bytes"]).inc();
        }
    })?;
    call.model = Some(envelope.model.clone());
    call.stream = envelope.stream;
    call.own_tags = tags::tags(call.key.as_deref(), &session.req_header().headers, envelope.labels())?.map(Into::into);

    let mut question = question(session, call, inquiry, &envelope);
    let plan = plan(shared, session, call, &question, &envelope, None)?;
    call.disconnect = plan.policy.disconnect;
    question.resume = plan.policy.resume && question.stream && inquiry.operation == Operation::ChatCompletions;
    question.most =
        (!shared.ledger.is_off() || billing::is_limited(call)).then(|| route::most(inquiry.operation, &envelope.body));
    let hold = billing::admit(shared, call, &question, &plan).await?;
    let done = pursue(shared, session, call, &question, envelope, plan, share).await;
    if let Some(hold) = hold {
        hold.settle(call.usage.map_or(Tokens(0), |usage| Tokens(usage.input.0.saturating_add(usage.output.0))));
    }
    done
}

/// From the plan to the end of the answer.
async fn pursue(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    question: &Question<'_>,
    envelope: Envelope,
    mut plan: Plan,
    share: intake::Share,
) -> Result<()> {
    let mut client = Client::new(question, call.snapshot.server.heartbeat);
    let mut fell_back = false;
    let begun = loop {
        let pursued = Chase::new(shared, question, &envelope, &plan).run(session, call, &mut client).await;
        let error = match &pursued {
            Ok(Pursued::Begun(_)) => None,
            Ok(Pursued::Refused(_, _, error)) | Err(error) => Some(error),
        };
        // some refusals have a model of their own that is asked instead, once
        if let Some(model) = error.and_then(|error| instead(&plan.policy.fallback, error)).filter(|_| !fell_back) {
            fell_back = true;
            match self::plan(shared, session, call, question, &envelope, Some(model.as_str())) {
                Ok(instead) => {
                    plan = instead;
                    continue;
                }
                // the refusal itself is told then
                Err(error) => tracing::warn!("fallback model {}: {error}", model.as_str()),
            }
        }
        match pursued {
            Ok(Pursued::Begun(begun)) => break begun,
            Ok(Pursued::Refused(head, body, error)) if !client.opened => {
                return refuse(session, call, *head, body, &error).await;
            }
            Ok(Pursued::Refused(_, _, error)) => return broken_off(session, call, question, error).await,
            Err(error) if client.opened && error.kind != Kind::ClientGone => {
                return broken_off(session, call, question, error).await;
            }
            Err(error) => return Err(error),
        }
    };
    if question.resume {
        return Box::pin(go_on(shared, session, call, question, &envelope, plan, begun, client.opened)).await;
    }
    drop(envelope);
    drop(share);
    commit(shared, session, call, question, begun, client.opened).await.map(|_| ())
}

/// Stream an answer that another target may take up when it breaks.
#[expect(clippy::too_many_arguments, reason = "all that is known of a call meets here")]
async fn go_on(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    question: &Question<'_>,
    envelope: &Envelope,
    mut plan: Plan,
    mut begun: Box<Begun>,
    mut opened: bool,
) -> Result<()> {
    loop {
        let broken = begun.asked.target.id;
        let Some(said) = commit(shared, session, call, question, begun, opened).await? else { return Ok(()) };
        opened = true;
        plan.targets.retain(|target| target.id != broken);
        if let (Some(provider), Some(model)) = (&call.provider, &call.upstream_model) {
            call.tried.push(Tried::new(provider, model, "broken_off".to_owned()));
        }
        if plan.targets.is_empty() {
            let error = Error::new(Kind::UpstreamFailed, "The provider broke off its answer.");
            return broken_off(session, call, question, error).await;
        }
        let again = question.with(said);
        let mut client = Client::new(&again, call.snapshot.server.heartbeat);
        client.opened = true;
        begun = match Chase::new(shared, &again, envelope, &plan).run(session, call, &mut client).await {
            Ok(Pursued::Begun(begun)) => begun,
            Ok(Pursued::Refused(_, _, told)) | Err(told) if told.kind != Kind::ClientGone => {
                return broken_off(session, call, question, told).await;
            }
            Ok(Pursued::Refused(_, _, told)) | Err(told) => return Err(told),
        };
    }
}

/// What the client wants.
fn question<'a>(session: &Session, call: &Call, inquiry: &'a Inquiry, envelope: &Envelope) -> Question<'a> {
    let head = session.req_header();
    Question {
        inquiry,
        id: call.id.clone(),
        model: envelope.model.clone(),
        stream: envelope.stream,
        form: asking::form(inquiry, head.uri.query()),
        created: u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default(),
        started: call.started,
        deadline: failover::callers_deadline(&head.headers).map(|after| call.started + after),
        seed: seed(&call.id),
        resume: false,
        said: None,
        most: None,
    }
}

/// A number that looks random and differs from call to call.
fn seed(id: &crate::id::RequestId) -> u64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let mut hash = balance::Hash::new(u64::from(nanos));
    hash.bytes(id.as_str().as_bytes());
    hash.finish()
}

/// The targets, in order. `instead`: a model that the configuration puts in the place of the one that was asked for.
fn plan(
    shared: &Shared,
    session: &Session,
    call: &mut Call,
    question: &Question<'_>,
    envelope: &Envelope,
    instead: Option<&str>,
) -> Result<Plan> {
    let head = session.req_header();
    let snapshot = Arc::clone(&call.snapshot);
    let ask = Ask {
        snapshot: &snapshot,
        key: call.key.as_deref(),
        model: &envelope.model,
        operation: question.inquiry.operation,
        path: head.uri.path(),
        headers: &head.headers,
        body: &envelope.body,
        stream: envelope.stream,
        seed: question.seed,
    };
    let known = Known { tracks: &shared.tracks, tokens: failover::estimate(envelope), now: Instant::now() };
    let plan = match instead {
        None => route::plan(&ask, &known)?,
        Some(model) => route::plan_instead(&ask, model, &known)?,
    };
    if let Some(first) = plan.targets.first() {
        call.model_listed = first.listed;
        call.provider = Some(first.provider.name.clone());
        call.upstream_model = Some(Arc::clone(&first.model));
    }
    Ok(plan)
}

fn instead(fallback: &Fallback, error: &Error) -> Option<ModelName> {
    match error.kind {
        Kind::UpstreamRefused { reason: Refused::ContextLength, .. } => fallback.context_length.clone(),
        Kind::UpstreamRefused { reason: Refused::ContentFilter, .. } => fallback.content_filter.clone(),
        _ => None,
    }
}

/// The body, within its bounds, and where the parts we read lie in it.
async fn read(
    session: &mut Session,
    call: &mut Call,
    admitted: &Admitted,
    inquiry: &Inquiry,
    share: &mut intake::Share,
) -> Result<Envelope> {
    if let Some(encoding) = session.req_header().headers.get(http::header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(Error::new(Kind::UnsupportedEncoding, "Request bodies must be sent without Content-Encoding."));
    }
    let begun = Instant::now();
    let snapshot = Arc::clone(&call.snapshot);
    let body = intake::read(session, &snapshot.server, admitted.content_length, admitted.expects_continue, share).await;
    call.waited += begun.elapsed();
    if body.is_err() {
        // after broken framing nothing on this connection can be trusted
        session.set_keepalive(None);
    }
    let body = body?;
    call.bytes_in = body.len() as u64;
    match &inquiry.in_path {
        Some(path) => Envelope::read_below(body, &path.model, path.stream),
        None => Envelope::read(body, inquiry.operation),
    }
}

// === the answer ===

/// There is output: from here on the client has this target's answer, and no other.
async fn commit(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    question: &Question<'_>,
    begun: Box<Begun>,
    opened: bool,
) -> Result<Option<Said>> {
    let Begun { asked, mut flight, ticket, bill, seen, answer } = *begun;
    let since_start = flight.begun.saturating_duration_since(call.started);
    call.provider = Some(asked.target.provider.name.clone());
    call.upstream_model = Some(Arc::clone(&asked.target.model));
    call.lane = Some(asked.lane);
    call.losses = asked.lost;
    call.waited += seen.waited;
    call.first_byte = seen.first_byte.map(|after| since_start + after);
    call.first_token = seen.first_token.map(|after| since_start + after);
    call.upstream_request_id = seen.upstream_request_id;
    let timeouts = asked.target.timeouts;
    let pace = Pace { idle: timeouts.idle, deadline: call.started + timeouts.total };
    call.output_estimate = Tokens(0);
    let mut bill = Some(bill);
    let sent = match answer {
        Beginning::Whole(_) if opened => {
            let error = Error::new(Kind::UpstreamFailed, "The provider answered whole where a stream was asked for.");
            broken_off(session, call, question, error).await.map(|()| None)
        }
        Beginning::Whole(whole) => {
            // all is known: its price can be told with it
            take_usage(call, &whole);
            book(call, bill.take(), "ok", true);
            send(session, call, *whole).await.map(|()| None)
        }
        Beginning::Passing(passing) => {
            passing.finish(shared, session, call, question.inquiry.operation, pace, opened).await.map(|()| None)
        }
        Beginning::Events(events) => events.finish(shared, session, call, pace, opened).await.map(|()| None),
        Beginning::Saying(saying) => saying.finish(shared, session, call, pace, opened).await,
    };
    match (&sent, call.error.as_ref().map(|failed| failed.kind)) {
        // it broke behind its first output, whether the client was told or another target goes on
        (Ok(Some(_)), _) => drop(flight.failed("broken_off")),
        (_, Some(kind)) if kind.blame() == Blame::Upstream => drop(flight.failed(kind.label())),
        (Ok(None), _) => drop(flight.succeeded()),
        (Err(_), _) => {}
    }
    drop((flight, ticket));
    match &sent {
        Ok(Some(_)) => book(call, bill, "broken_off", false),
        Ok(None) => {
            let outcome = call.error.as_ref().map_or("ok", |failed| failed.kind.label());
            book(call, bill, outcome, true);
        }
        Err(error) => {
            book(call, bill, if error.kind == Kind::ClientGone { "cancelled" } else { error.kind.label() }, true)
        }
    }
    sent
}

/// An answer that began when its client had left: read on, for what it costs.
pub async fn unheard(call: &mut Call, begun: Begun) {
    let Begun { asked, flight: _, ticket: _, bill, seen: _, answer } = begun;
    let timeouts = asked.target.timeouts;
    let pace = Pace { idle: timeouts.idle, deadline: call.started + timeouts.total };
    match answer {
        Beginning::Whole(whole) => take_usage(call, &whole),
        Beginning::Events(mut events) => events.unheard(call, pace).await,
        Beginning::Saying(mut saying) => saying.unheard(call, pace).await,
        // what came of it is not known: booked at its worst
        Beginning::Passing(_) => {}
    }
    book(call, Some(bill), "cancelled", false);
}

fn take_usage(call: &mut Call, whole: &Whole) {
    call.usage = whole.usage;
    call.estimated = whole.estimated;
    if whole.usage.is_none() {
        call.output_estimate = billing::tokens_of(whole.body.len() as u64);
    }
}

/// A try whose answer had begun has ended. With `None` it was booked before.
fn book(call: &mut Call, bill: Option<Bill>, outcome: &'static str, answered: bool) {
    let Some(bill) = bill else { return };
    let booked = bill.book(&End {
        outcome: outcome.into(),
        status: 200,
        answered,
        sent: true,
        usage: call.usage.as_ref(),
        estimated: call.estimated,
        output: call.output_estimate,
        first_token: call.first_token,
    });
    call.usage = booked.usage;
    call.estimated |= booked.estimated;
}

async fn send(session: &mut Session, call: &mut Call, whole: Whole) -> Result<()> {
    let Whole { mut head, body, usage: _, lost, estimated: _ } = whole;
    call.losses.places.extend(lost.places);
    call.losses.count += lost.count;
    reply::ours(&mut head, call).map_err(flow::broken_head)?;
    call.status = head.status.as_u16();
    flow::write_head(session, call, head).await?;
    flow::write(session, call, Some(body), true).await
}

/// A provider's refusal, in its own words.
async fn refuse(
    session: &mut Session,
    call: &mut Call,
    mut head: ResponseHeader,
    body: Bytes,
    error: &Error,
) -> Result<()> {
    call.fail(error);
    call.status = head.status.as_u16();
    reply::ours(&mut head, call).map_err(flow::broken_head)?;
    flow::write_head(session, call, head).await?;
    flow::write(session, call, Some(body), true).await
}

/// An error told to a client whose stream is open already.
async fn broken_off(session: &mut Session, call: &mut Call, question: &Question<'_>, error: Error) -> Result<()> {
    call.fail(&error);
    let operation = question.inquiry.operation;
    let text = match dialect::inbound(operation) {
        Some(inbound) => {
            let mut text = Vec::new();
            inbound.stream_encoder(&question.reply_to()).push(Event::Error(error), &mut text);
            Bytes::from(text)
        }
        None => dialect::tap(operation, false).broken(&error),
    };
    flow::write(session, call, Some(text), true).await
}

/// What the end of a client's connection means for its call.
pub fn client_gone(seen: pingora::Result<Option<Bytes>>) -> Error {
    let error = Error::new(Kind::ClientGone, "The client closed the connection.");
    match seen {
        Ok(_) => error,
        Err(why) => error.why(why),
    }
}
