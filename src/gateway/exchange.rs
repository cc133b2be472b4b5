//! The heart: one LLM call from the client's body to its answer.
//!
//! ```text
//! read body -> scan -> target -> patch -> attempt -> reply (forward + tap)
//! ```
//!
//! The steps stand in this order in [`run`]; each is a function of its own further down or in the module it names.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::front::Admitted;
use super::proxy::Shared;
use super::{fault, intake, reply, splice};
use crate::call::{Call, Lane};
use crate::config::snapshot::{Provider, StreamUsage};
use crate::dialect::Operation;
use crate::dialect::openai::request::{Envelope, usage_is_optional};
use crate::error::{Error, Kind, Result};
use crate::json::Spliced;
use crate::provider::{self, Answer};
use crate::route::{self, Target};
use crate::upstream::{Body, Reply, Sent};

/// Client fields that are sent on. All others stay here: an allow-list, since a provider may give meaning to any name.
const SENT_ON: [HeaderName; 6] = [
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("x-client-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION")));

/// Answer an LLM call. An `Err` has not been answered yet, unless the answer had begun.
pub async fn run(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    admitted: &Admitted,
    operation: Operation,
) -> Result<()> {
    call.operation = Some(operation);
    let mut share = shared.buffered.share();
    let envelope = read(session, call, admitted, &mut share).await.inspect_err(|error| {
        if matches!(error.kind, Kind::Overloaded { .. }) {
            shared.metrics.limited.with_label_values(&["buffered_bytes"]).inc();
        }
    })?;
    call.model = Some(envelope.model.clone());
    call.stream = envelope.stream;

    let target = route::target(&call.snapshot, call.key.as_deref(), &envelope.model)?;
    call.lane = Some(Lane::Splice);
    call.model_listed = target.listed;
    call.provider = Some(target.provider.name.clone());
    call.upstream_model = Some(Arc::clone(&target.model));

    let ask_usage = envelope.stream && usage_is_optional(operation) && target.provider.stream_usage == StreamUsage::Ask;
    let body = Spliced::new(&envelope.body, &envelope.patches(&target.model, ask_usage));
    let added_usage = ask_usage && !envelope.wants_usage();
    drop(envelope);

    let reply = attempt(shared, session, call, operation, &target, &body).await?;
    drop(body);
    drop(share);
    splice::forward(shared, session, call, operation, &target, reply, added_usage).await
}

/// The body, within its bounds, and where the parts we read lie in it.
async fn read(
    session: &mut Session,
    call: &mut Call,
    admitted: &Admitted,
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
    Envelope::read(body)
}

/// One try at one target, given up at once when the client leaves.
async fn attempt(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    operation: Operation,
    target: &Target,
    body: &Spliced,
) -> Result<Reply> {
    let answer = if call.stream { Answer::Stream } else { Answer::Whole };
    let path = provider::target(&target.provider, operation, &target.model, answer)?;
    call.attempts += 1;
    let deadline = call.started + target.timeouts.total;
    let headers = &session.req_header().headers;
    let mut sent_on = provider::headers(&target.provider, Some(&target.model), headers);
    sent_on.extend(SENT_ON.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))));
    let begun = Instant::now();
    // made in its place: a future that is moved in would be held twice, and this is the largest of the call
    let sent = tokio::select! {
        biased;
        sent = async {
            let asked = Sent { method: "POST", target: &path, body: Body::Whole(body) };
            sent_on.extend(shared.credentials.authorize(&target.provider, &asked).await?);
            let head = || request_head(&sent_on, call, &target.provider, &path, body.len);
            shared.upstreams.send(&target.provider, &target.timeouts, head, body, deadline).await
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
    sent_on: &[(HeaderName, HeaderValue)],
    call: &Call,
    provider: &Provider,
    path: &str,
    length: usize,
) -> pingora::Result<RequestHeader> {
    let mut head = RequestHeader::build_no_case("POST", path.as_bytes(), Some(16))?;
    head.insert_header(http::header::HOST, provider.base.authority.clone())?;
    head.insert_header(http::header::CONTENT_TYPE, reply::JSON)?;
    head.insert_header(http::header::CONTENT_LENGTH, HeaderValue::from(length))?;
    head.insert_header(http::header::ACCEPT, if call.stream { EVENTS } else { reply::JSON })?;
    // what passes through must be readable on the way
    head.insert_header(http::header::ACCEPT_ENCODING, IDENTITY)?;
    identify(&mut head, call, provider)?;
    for (name, value) in sent_on {
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
