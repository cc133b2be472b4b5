//! The opaque lane: paths we do not model, carried through Pingora's own upstream phases. Bytes in, bytes out, nothing held but
//! the body of an error, which is looked through for what must not be repeated.
//!
//! Where a call goes and whether its key may go there is decided in [`plan`]; the header sections of both directions are built from allow-lists.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::Session;

use super::proxy::Shared;
use super::router::Route;
use super::{asking, billing, fault, reply, splice};
use crate::call::{Call, Lane};
use crate::config::snapshot::{AuthScheme, Key, Provider};
use crate::dialect::openai;
use crate::error::{Error, Kind, Result};
use crate::provider;
use crate::route;
use crate::upstream::{Body, Place, Proof, Sent};

/// Client fields that are sent on, beside content and range.
const SENT_ON: [&str; 18] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "content-type",
    "content-encoding",
    "content-length",
    "content-disposition",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "range",
    "openai-beta",
    "x-client-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "expect",
];

/// The handshake of a WebSocket (RFC 6455 4.1).
const WEBSOCKET: [&str; 4] =
    ["sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "sec-websocket-extensions"];

/// The realtime API takes a key as a subprotocol where a browser cannot set headers. Ours is never sent on.
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// Where an opaque call goes.
#[derive(Debug)]
pub struct Plan {
    pub provider: Arc<Provider>,
    /// Path and query at the provider.
    pub target: String,
    pub websocket: bool,
    /// What shows the provider who asks, where that is fetched or made.
    pub proof: Proof,
    /// Where it is asked, once that is chosen.
    pub place: Option<Place>,
    /// Endpoints of a pool where no connection came about.
    pub tried: Vec<u64>,
}

/// The body of a provider's error on its way to the client.
#[derive(Debug)]
pub struct Refusal {
    body: BytesMut,
    /// JSON as it stands, and not too much of it.
    readable: bool,
}

/// Decide where the call goes, or refuse it.
pub fn plan(call: &mut Call, route: &Route, query: Option<&str>) -> Result<Plan> {
    let snapshot = Arc::clone(&call.snapshot);
    let key = call.key.clone();
    let with_query = |path: &str| match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let (provider, target, websocket) = match route {
        Route::Raw { provider, path } => {
            let found = snapshot.providers.get(&**provider).ok_or_else(|| {
                Error::new(Kind::NotFound, format!("There is no provider \"{provider}\".")).code("unknown_provider")
            })?;
            may_pass(key.as_deref())?;
            (Arc::clone(found), with_query(path), false)
        }
        Route::Opaque { path, .. } => {
            may_pass(key.as_deref())?;
            (default_provider(&snapshot)?, with_query(path), false)
        }
        Route::Realtime => match model_of(query) {
            Some((model, rest)) => {
                let target = route::target(&snapshot, key.as_deref(), &model)?;
                call.model_listed = target.listed;
                call.upstream_model = Some(Arc::clone(&target.model));
                call.model = Some(model.into());
                let model = encode_query(&target.model);
                (target.provider, format!("/realtime?model={model}{rest}"), true)
            }
            None => {
                may_pass(key.as_deref())?;
                (default_provider(&snapshot)?, with_query("/realtime"), true)
            }
        },
        Route::Llm(_) | Route::Models | Route::Model(_) | Route::Status => {
            return Err(Error::internal("This path is not carried opaquely."));
        }
    };
    billing::opaque(call, provider.name.as_str())?;
    if !provider.missing_env.is_empty() {
        return Err(Error::new(
            Kind::UpstreamFailed,
            format!("Provider \"{}\" is not set up: its credentials are missing.", provider.name),
        )
        .code("provider_not_configured"));
    }
    call.lane = Some(Lane::Opaque);
    call.provider = Some(provider.name.clone());
    let target = provider::join(&provider, &target);
    Ok(Plan { provider, target, websocket, proof: Proof::new(), place: None, tried: Vec::new() })
}

/// Get what shows the provider who asks.
pub async fn authorize(shared: &Shared, session: &mut Session, plan: &mut Plan) -> Result<()> {
    let body = if session.is_body_empty() { Body::Empty } else { Body::Streamed };
    if let (AuthScheme::Aws(_), Body::Streamed) = (&plan.provider.auth, body) {
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "Provider \"{}\" is sent signed requests, and a signature needs the whole body, which this path does not hold. \
                 With an API key (`api_key`) instead of AWS credentials it would work.",
                plan.provider.name
            ),
        )
        .code("body_not_signed"));
    }
    let sent = Sent { method: session.req_header().method.as_str(), target: &plan.target, body };
    plan.proof = shared.credentials.authorize(&plan.provider, &sent).await.map_err(fault::of_attempt)?;
    Ok(())
}

/// A key that is held to certain models may not use paths where the model cannot be seen.
fn may_pass(key: Option<&Key>) -> Result<()> {
    if key.is_none_or(|k| k.opaque) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Forbidden,
        "This API key is limited to certain models and may not use this path; `opaque: true` on the key would allow it.",
    )
    .code("path_not_allowed"))
}

fn default_provider(snapshot: &crate::config::Snapshot) -> Result<Arc<Provider>> {
    snapshot.opaque.clone().ok_or_else(|| {
        Error::new(Kind::Unsupported, "No provider is configured for this path (`opaque.provider`).")
            .code("no_provider")
    })
}

/// The `model` parameter of a query, decoded, and the rest of the query with a leading `&`. Given twice, it is not one we can judge.
fn model_of(query: Option<&str>) -> Option<(String, String)> {
    let query = query?;
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let mut models: Vec<String> =
        pairs.filter(|(name, _)| name == "model").map(|(_, value)| value.into_owned()).collect();
    let model = if models.len() == 1 { models.pop()? } else { return None };
    let is_model = |part: &str| url::form_urlencoded::parse(part.as_bytes()).any(|(name, _)| name == "model");
    let rest: String = query.split('&').filter(|part| !is_model(part)).flat_map(|part| ["&", part]).collect();
    (!model.is_empty()).then_some((model, rest))
}

fn encode_query(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

pub async fn peer(shared: &Shared, plan: &mut Plan) -> Result<Box<HttpPeer>> {
    let timeouts = &plan.provider.timeouts;
    let found = shared.upstreams.peer(&plan.provider, timeouts, &plan.tried).await;
    let (peer, place) = found.map_err(fault::of_attempt)?;
    plan.place = Some(place);
    let mut peer = Box::new((*peer).clone());
    peer.options.write_timeout = Some(timeouts.write);
    // Pingora has one timeout for the first byte and the gaps after it
    peer.options.read_timeout = Some(timeouts.first_byte.max(timeouts.idle));
    if plan.websocket {
        // an upgrade exists in HTTP/1.1 alone
        peer.options.set_http_version(1, 1);
        peer.options.read_timeout = Some(timeouts.total);
    }
    Ok(peer)
}

/// Turn the header section Pingora would send into ours: nothing of the client's that is not on the list.
pub fn request(head: &mut RequestHeader, session: &Session, call: &Call, plan: &Plan) -> pingora::Result<()> {
    let client = &session.req_header().headers;
    let mut keep: HashSet<&str> = SENT_ON.into_iter().collect();
    // framing and upgrade are Pingora's: it has made them fit the connection
    keep.extend(["transfer-encoding", "connection", "upgrade"]);
    if plan.websocket {
        keep.extend(WEBSOCKET);
    }
    let names: Vec<http::HeaderName> = head.headers.keys().filter(|n| !keep.contains(n.as_str())).cloned().collect();
    for name in names {
        head.remove_header(&name);
    }
    if let Some(protocols) =
        client.get("sec-websocket-protocol").and_then(|v| v.to_str().ok()).filter(|_| plan.websocket)
    {
        let kept: Vec<&str> = protocols.split(',').map(str::trim).filter(|p| !p.starts_with(KEY_PROTOCOL)).collect();
        head.remove_header("sec-websocket-protocol");
        if !kept.is_empty() {
            head.insert_header("sec-websocket-protocol", kept.join(", "))?;
        }
    }
    let uri = plan
        .target
        .parse::<http::Uri>()
        .map_err(|e| pingora::Error::because(pingora::ErrorType::InvalidHTTPHeader, "the provider's target", e))?;
    head.set_uri(uri);
    let authority = plan.place.as_ref().map_or(&plan.provider.base.authority, Place::authority);
    head.insert_header(http::header::HOST, authority.clone())?;
    asking::identify(head, &call.id, &plan.provider)?;
    let dialect = provider::headers(&plan.provider, None, client);
    for (name, value) in dialect.into_iter().chain(plan.proof.iter().cloned()) {
        head.insert_header(name, value)?;
    }
    Ok(())
}

/// The same on the way back. A refusal is what the body of an error has to go through.
pub fn response(head: &mut ResponseHeader, call: &mut Call) -> pingora::Result<Option<Refusal>> {
    strip(head);
    if head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    call.status = head.status.as_u16();
    if call.first_byte.is_none() {
        call.first_byte = Some(call.started.elapsed());
    }
    call.upstream_request_id =
        head.headers.get("x-request-id").and_then(|v| v.to_str().ok()).map(|v| v.chars().take(128).collect());
    if call.status >= 400 {
        call.fail(&Error::new(
            Kind::refused(call.status),
            format!("The provider answered with status {}.", call.status),
        ));
    }
    reply::ours(head, call)?;
    if call.status >= 400 { Refusal::begin(head) } else { Ok(None) }
}

/// Take out what is not on the list.
fn strip(head: &mut ResponseHeader) {
    let framing = ["content-length", "transfer-encoding", "connection", "upgrade", "date"];
    let names: Vec<http::HeaderName> = head
        .headers
        .keys()
        .filter(|n| !reply::passes(n) && !framing.contains(&n.as_str()) && !n.as_str().starts_with("sec-websocket-"))
        .cloned()
        .collect();
    for name in names {
        head.remove_header(&name);
    }
}

// === impl Refusal ===

impl Refusal {
    /// The body will have another length; what is not plain JSON is replaced.
    fn begin(head: &mut ResponseHeader) -> pingora::Result<Option<Refusal>> {
        let value = |name| head.headers.get(name).map_or(&b""[..], |v: &http::HeaderValue| v.as_bytes());
        if value(http::header::CONTENT_LENGTH) == b"0" {
            return Ok(None);
        }
        let json = value(http::header::CONTENT_TYPE).windows(4).any(|w| w.eq_ignore_ascii_case(b"json"));
        let readable = json && matches!(value(http::header::CONTENT_ENCODING), b"" | b"identity");
        head.remove_header(&http::header::CONTENT_LENGTH);
        head.remove_header(&http::header::CONTENT_ENCODING);
        head.insert_header(http::header::TRANSFER_ENCODING, "chunked")?;
        head.insert_header(http::header::CONTENT_TYPE, "application/json")?;
        Ok(Some(Refusal { body: BytesMut::new(), readable }))
    }

    /// Hold the body back until its end, then give it without our secrets and the provider's address.
    pub fn pass(
        &mut self,
        chunk: Option<Bytes>,
        end: bool,
        provider: &Provider,
        secrets: &[String],
        status: u16,
    ) -> Option<Bytes> {
        let chunk = chunk.unwrap_or_default();
        if self.body.len() + chunk.len() > super::flow::ERROR_LIMIT {
            self.readable = false;
        }
        if self.readable {
            self.body.extend_from_slice(&chunk);
        }
        if !end {
            return None;
        }
        if self.readable && !self.body.is_empty() {
            return Some(splice::scrubbed(&self.body, provider, secrets));
        }
        let say = format!("The provider answered with status {status}.");
        Some(openai::error::body(&Error::new(Kind::refused(status), say)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_a_realtime_url_is_read_once() {
        assert_eq!(model_of(Some("model=gpt%2Drt&x=1")), Some(("gpt-rt".into(), "&x=1".into())));
        assert_eq!(model_of(Some("x=1&model=a")), Some(("a".into(), "&x=1".into())));
        assert_eq!(model_of(Some("model=a&model=b")), None);
        assert_eq!(model_of(Some("mod%65l=a&model=b")), None);
        assert_eq!(model_of(Some("mod%65l=a&x")), Some(("a".into(), "&x".into())));
        assert_eq!(model_of(Some("model=")), None);
        assert_eq!(model_of(None), None);
    }
}
