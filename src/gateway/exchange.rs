//! The heart: one LLM call from the client's body to its answer.
//!
//! ```text
//! read body -> scan -> target -> lane -> patch, or say it in other words -> attempt -> reply (forward + tap, or say it back)
//! ```
//!
//! The steps stand in this order in [`run`]; each is a function of its own further down or in the module it names.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::front::Admitted;
use super::proxy::Shared;
use super::router::Inquiry;
use super::{bridge, fault, intake, reply, splice, task};
use crate::call::{Call, Lane};
use crate::chat::{How, Seal};
use crate::config::snapshot::{Provider, StreamUsage};
use crate::dialect::envelope::{Envelope, usage_is_optional};
use crate::dialect::{Framing, Grammar, Operation, StreamForm};
use crate::error::{Error, Kind, Result};
use crate::json::Spliced;
use crate::provider::{self, Answer};
use crate::route::{self, Target, Way};
use crate::upstream::{Body, Reply, Sent};

/// Client fields that are sent on whatever the lane. All others stay here: an allow-list, since a provider may give meaning to any name.
const TRACED: [&str; 4] = ["x-client-request-id", "traceparent", "tracestate", "baggage"];
/// And those that belong to the OpenAI dialect, where it is spoken at both ends.
const OPENAI: [&str; 2] = ["idempotency-key", "openai-beta"];

const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const AWS_EVENTS: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION")));

/// So many of a client's features in trial are told as lost.
const BETAS: usize = 32;

/// What is asked of a provider, beside the body.
pub struct Asking {
    /// Path and query.
    pub path: String,
    pub accept: HeaderValue,
    /// The client's header fields that are sent on.
    pub sent_on: Vec<(HeaderName, HeaderValue)>,
}

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

    let target = route::target(&call.snapshot, call.key.as_deref(), &envelope.model)?;
    call.model_listed = target.listed;
    call.provider = Some(target.provider.name.clone());
    call.upstream_model = Some(Arc::clone(&target.model));

    let mut way = route::way(&target, inquiry.operation)?;
    if way == Way::Splice && inquiry.operation.dialect().is_some() && Seal::may_hold_packed(&envelope.body) {
        // what another provider signed would be refused: said again in the same dialect, without it
        way = Way::Bridge(inquiry.operation);
    }
    betas(session, call, inquiry, &target, way);
    match way {
        Way::Splice => {
            call.lane = Some(Lane::Splice);
            let spliced = Splice::new(&envelope, inquiry.operation, &target);
            drop(envelope);
            let asking = Asking::splice(session, inquiry, &target, call.stream)?;
            let reply = attempt(shared, session, call, &target, &asking, &spliced.body).await?;
            drop(spliced.body);
            drop(share);
            splice::forward(shared, session, call, inquiry.operation, &target, reply, spliced.added_usage).await
        }
        Way::Bridge(to) => {
            call.lane = Some(Lane::Bridge);
            let asked = bridge::ask(call, &envelope, inquiry, to, &target)?;
            drop(envelope);
            let asking = Asking::bridge(session, to, &target, call.stream)?;
            let reply = attempt(shared, session, call, &target, &asking, &asked.body).await?;
            drop(share);
            bridge::forward(shared, session, call, inquiry, to, &target, asked, reply).await
        }
        Way::Task(to) => {
            call.lane = Some(Lane::Bridge);
            task::carry(shared, session, call, &envelope, inquiry, to, &target).await
        }
        Way::Count(to) => {
            call.lane = Some(if to.is_some() { Lane::Bridge } else { Lane::Local });
            task::count(shared, session, call, &envelope, inquiry, to, &target).await
        }
    }
}

/// Features in trial that the client asks for and the provider is not told of: in the ledger, but never a reason to refuse, since they come
/// with every call of some clients.
fn betas(session: &Session, call: &mut Call, inquiry: &Inquiry, target: &Target, way: Way) {
    if inquiry.operation.grammar() != Grammar::Anthropic {
        return;
    }
    let headers = &session.req_header().headers;
    let Some(offer) = target.provider.offer(&target.model) else { return };
    let provider::Betas { kept, dropped } = provider::betas(offer, headers);
    let told = if way == Way::Splice { Vec::new() } else { kept };
    for beta in dropped.into_iter().chain(told).take(BETAS) {
        call.losses.places.push((format!("anthropic-beta:{beta}"), How::Dropped));
        call.losses.count += 1;
    }
}

/// The body of the splice lane.
struct Splice {
    body: Spliced,
    /// Usage was asked for by us: what that adds is taken out again.
    added_usage: bool,
}

impl Splice {
    fn new(envelope: &Envelope, operation: Operation, target: &Target) -> Self {
        let ask_usage =
            envelope.stream && usage_is_optional(operation) && target.provider.stream_usage == StreamUsage::Ask;
        let manners = target.provider.offer(&target.model).map(|offer| &offer.manners);
        let version = manners.and_then(|m| m.anthropic_version.as_deref()).filter(|_| operation == Operation::Messages);
        let patches = match version {
            Some(version) => envelope.without_model(version),
            None => envelope.patches(&target.model, ask_usage),
        };
        Splice { body: Spliced::new(&envelope.body, &patches), added_usage: ask_usage && !envelope.wants_usage() }
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

// === asking ===

impl Asking {
    fn splice(session: &Session, inquiry: &Inquiry, target: &Target, stream: bool) -> Result<Self> {
        let mut path = provider::target(&target.provider, inquiry.operation, &target.model, answer(stream))?;
        if let Some(in_path) = &inquiry.in_path {
            // one operation, two actions: the client's own is asked for
            path = path.replacen(":batchEmbedContents", &format!(":{}", in_path.action), 1);
            if bridge::form(session, inquiry) == StreamForm::Array {
                path = path.replacen("?alt=sse", "", 1);
            }
        }
        let headers = &session.req_header().headers;
        let mut sent_on = fields(headers, TRACED.iter());
        if inquiry.operation.grammar() == Grammar::OpenAi {
            sent_on.extend(fields(headers, OPENAI.iter()));
        }
        sent_on.extend(provider::headers(&target.provider, Some(&target.model), headers));
        Ok(Asking { path, accept: accept(Framing::Sse, stream), sent_on })
    }

    pub fn bridge(session: &Session, to: Operation, target: &Target, stream: bool) -> Result<Self> {
        let path = provider::target(&target.provider, to, &target.model, answer(stream))?;
        let framing = to.dialect().map_or(Framing::Sse, |dialect| crate::dialect::outbound(dialect).framing());
        let mut sent_on = fields(&session.req_header().headers, TRACED.iter());
        // the client's own headers of a dialect say nothing in another
        sent_on.extend(provider::headers(&target.provider, Some(&target.model), &HeaderMap::new()));
        Ok(Asking { path, accept: accept(framing, stream), sent_on })
    }
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

/// One try at one target, given up at once when the client leaves.
pub async fn attempt(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    target: &Target,
    asking: &Asking,
    body: &Spliced,
) -> Result<Reply> {
    call.attempts += 1;
    let deadline = call.started + target.timeouts.total;
    let begun = Instant::now();
    // made in its place: a future that is moved in would be held twice, and this is the largest of the call
    let sent = tokio::select! {
        biased;
        sent = async {
            let asked = Sent { method: "POST", target: &asking.path, body: Body::Whole(body) };
            let shown = shared.credentials.authorize(&target.provider, &asked).await?;
            let head =
                |authority: &HeaderValue| request_head(authority, asking, &shown, call, &target.provider, body.len);
            shared.upstreams.send(&target.provider, &target.timeouts, None, head, body, deadline).await
        } => sent.map_err(fault::of_attempt),
        gone = session.downstream_session.read_body_or_idle(true) => Err(client_gone(gone)),
    };
    call.waited += begun.elapsed();
    let outcome = match &sent {
        Ok(reply) => match reply.status() {
            200..=399 => "ok",
            429 => "rate_limited",
            400..=499 => "client_error",
            _ => "server_error",
        },
        Err(error) => match error.kind {
            Kind::UpstreamTimeout => "timeout",
            Kind::ClientGone => "cancelled",
            _ => "failed",
        },
    };
    shared.metrics.attempts.with_label_values(&[target.provider.name.as_str(), outcome]).inc();
    sent
}

/// The header section of the provider's request, from nothing: what is in it was put in here.
fn request_head(
    authority: &HeaderValue,
    asking: &Asking,
    shown: &[(HeaderName, HeaderValue)],
    call: &Call,
    provider: &Provider,
    length: usize,
) -> pingora::Result<RequestHeader> {
    let mut head = RequestHeader::build_no_case("POST", asking.path.as_bytes(), Some(16))?;
    head.insert_header(http::header::HOST, authority.clone())?;
    head.insert_header(http::header::CONTENT_TYPE, reply::JSON)?;
    head.insert_header(http::header::CONTENT_LENGTH, HeaderValue::from(length))?;
    head.insert_header(http::header::ACCEPT, asking.accept.clone())?;
    // what passes through must be readable on the way
    head.insert_header(http::header::ACCEPT_ENCODING, IDENTITY)?;
    identify(&mut head, call, provider)?;
    for (name, value) in asking.sent_on.iter().chain(shown) {
        head.insert_header(name.clone(), value.clone())?;
    }
    Ok(head)
}

/// Credentials and ids, the same in every lane.
pub fn identify(head: &mut RequestHeader, call: &Call, provider: &Provider) -> pingora::Result<()> {
    head.insert_header(http::header::USER_AGENT, AGENT)?;
    head.insert_header(reply::REQUEST_ID, call.id.as_str())?;
    for (name, value) in &provider.headers {
        head.insert_header(name.clone(), value.clone())?;
    }
    if let Some((name, value)) = &provider.credential_header {
        head.insert_header(name.clone(), value.clone())?;
    }
    Ok(())
}

/// What the end of a client's connection means for its call.
pub fn client_gone(seen: pingora::Result<Option<Bytes>>) -> Error {
    let error = Error::new(Kind::ClientGone, "The client closed the connection.");
    match seen {
        Ok(_) => error,
        Err(why) => error.why(why),
    }
}
