//! The shell: Pingora's phases, in the order in which a request meets them. Each phase says what happens; how is in the module it names.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error as PingoraError, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use super::connections::{Connection, Connections};
use super::front::{self, Admitted};
use super::intake::Buffered;
use super::opaque::{self, Plan, Refusal};
use super::router::{self, Route};
use super::{exchange, fault, local};
use crate::call::{Call, Lane};
use crate::config::keyring::Keyring;
use crate::config::watch::Live;
use crate::error::{Error, Kind, Result};
use crate::event::Events;
use crate::filter::auth::{self, Caller, Failures, Known};
use crate::filter::jwt::Issuers;
use crate::id::RequestId;
use crate::quota::Quotas;
use crate::store::Ledger;
use crate::store::keys::KeyTable;
use crate::telemetry::{AccessWriter, Metrics, record};
use crate::upstream::track::Tracks;
use crate::upstream::{Credentials, Upstreams};

/// What all calls share.
pub struct Shared {
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub access: AccessWriter,
    pub connections: Connections,
    pub buffered: Arc<Buffered>,
    pub failures: ArcSwap<Failures>,
    pub issuers: Issuers,
    /// Keys that were made while running.
    pub keyring: Keyring,
    /// Where they are kept, once that is open.
    pub key_table: OnceLock<KeyTable>,
    pub upstreams: Upstreams,
    pub credentials: Credentials,
    pub tracks: Tracks,
    pub ledger: Ledger,
    pub quotas: Quotas,
    pub events: Events,
    pub started: Instant,
}

/// The `ProxyHttp` of the data port.
pub struct Gateway {
    shared: Arc<Shared>,
}

/// One request's state across the phases.
pub struct Context {
    shared: Arc<Shared>,
    call: Call,
    connection: Option<Arc<Connection>>,
    /// `begin` was told to `Connections`, and `end` was not.
    counted: bool,
    /// Set when the request goes through Pingora's own upstream phases.
    plan: Option<Plan>,
    /// Set when its provider answers with an error.
    refusal: Option<Refusal>,
}

// === impl Context ===

impl Context {
    /// Write the record and take the call off the books, once.
    fn close(&mut self) {
        if !std::mem::take(&mut self.counted) {
            return;
        }
        record::write(&self.call, jiff::Timestamp::now(), &self.shared.metrics, &self.shared.access);
        let server = &self.call.snapshot.server;
        self.shared.connections.end(self.connection.as_deref(), server.keepalive_timeout + server.header_timeout);
    }
}

impl Drop for Context {
    /// A call whose task was dropped has its record too: its time to drain was over, or it panicked.
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        let error = if self.shared.connections.draining() {
            Error::new(Kind::ShuttingDown, "The gateway shut down before the answer had ended.")
        } else {
            Error::internal("The call was dropped before its answer had ended.")
        };
        self.call.fail(&error);
        self.close();
    }
}

// === impl Gateway ===

impl Gateway {
    pub fn new(shared: Arc<Shared>) -> Self {
        Gateway { shared }
    }

    /// Everything up to the answer, or up to the choice of an upstream (`true`: answered).
    async fn serve(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        let call = &mut context.call;
        call.grammar = router::grammar(session.req_header());
        let admitted = admit(session, call)?;
        call.route = admitted.route.name();
        self.authenticate(session, call).await?;
        match &admitted.route {
            Route::Llm(inquiry) => {
                exchange::run(&self.shared, session, call, &admitted, inquiry).await?;
                Ok(true)
            }
            Route::Models => {
                call.model_listed = false;
                local::models(session, call).await?;
                Ok(true)
            }
            Route::Model(id) => {
                local::model(session, call, id).await?;
                Ok(true)
            }
            Route::Status => {
                local::status(&self.shared, session, call).await?;
                Ok(true)
            }
            route @ (Route::Opaque { .. } | Route::Realtime | Route::Raw { .. }) => {
                let query = session.req_header().uri.query().map(str::to_owned);
                let mut plan = opaque::plan(call, route, query.as_deref())?;
                opaque::authorize(&self.shared, session, &mut plan).await?;
                context.plan = Some(plan);
                Ok(false)
            }
        }
    }

    async fn authenticate(&self, session: &Session, call: &mut Call) -> Result<()> {
        let snapshot = &call.snapshot;
        let (failures, headers) = (self.shared.failures.load_full(), &session.req_header().headers);
        let known = Known { keys: &snapshot.keys, keyring: &self.shared.keyring, issuers: &self.shared.issuers };
        match auth::caller(&known, &failures, headers, call.client, jiff::Timestamp::now).await {
            Ok(Caller::Key(key)) => {
                call.key = Some(key);
                Ok(())
            }
            Ok(Caller::Open) => Ok(()),
            Err(error) => {
                if matches!(error.kind, Kind::RateLimited { .. }) {
                    self.shared.metrics.limited.with_label_values(&["address_failures"]).inc();
                }
                Err(error)
            }
        }
    }
}

/// The front door: the header section is checked before anything acts on it.
fn admit(session: &Session, call: &mut Call) -> Result<Admitted> {
    let head = session.req_header();
    call.method = head.method.clone();
    let raw = session.as_http1().map(|h1| h1.get_headers_raw_bytes());
    front::check(head, raw.as_deref(), &call.snapshot.server.hosts)
}

/// The client's address: the peer's, or what a trusted proxy says of it.
fn client_address(session: &Session, call: &Call) -> Option<IpAddr> {
    let peer = peer_address(session)?.ip();
    let trusted = &call.snapshot.server.trusted_proxies;
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address.to_canonical()));
    if trusted.is_empty() || !is_trusted(peer) {
        return Some(peer);
    }
    // from the right: the first address that is not one of our own proxies
    let forwarded: Vec<&str> = session
        .req_header()
        .headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .collect();
    let mut client = peer;
    for hop in forwarded.iter().rev() {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    Some(client)
}

fn peer_address(session: &Session) -> Option<SocketAddr> {
    session.client_addr().and_then(|a| a.as_inet()).copied()
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context {
            shared: Arc::clone(&self.shared),
            call: Call::new(self.shared.live.load()),
            connection: None,
            counted: false,
            plan: None,
            refusal: None,
        }
    }

    /// The connection's clock stops: its header section is here.
    async fn early_request_filter(&self, session: &mut Session, context: &mut Context) -> pingora::Result<()> {
        let shared = &self.shared;
        context.connection = shared.connections.begin(peer_address(session));
        context.counted = true;
        let call = &mut context.call;
        call.client = client_address(session, call);
        if let Some(id) = session.req_header().headers.get("x-request-id")
            && let Some(id) = RequestId::from_client(id.as_bytes())
        {
            call.id = id;
        }
        let server = &call.snapshot.server;
        session.set_write_timeout(Some(server.write_timeout));
        session.set_read_timeout(Some(server.body_timeout));
        let old = context.connection.as_ref().is_some_and(|c| c.age() > server.connection_age);
        if old || shared.connections.draining() {
            session.set_keepalive(None);
        } else {
            session.set_keepalive(Some(server.keepalive_timeout.as_secs().max(1)));
        }
        // So that bytes behind the request do not look like its end while we watch for the client to leave; see `logging`.
        session.set_pipelining_enabled(true);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> pingora::Result<bool> {
        match self.serve(session, context).await {
            Ok(answered) => Ok(answered),
            Err(error) => {
                let begun = session.response_written().is_some_and(|head| !head.status.is_informational());
                fault::answer(session, &mut context.call, &error).await;
                if begun || error.kind == Kind::ClientGone {
                    // the answer is cut: it must not look whole
                    return Err(PingoraError::explain(ErrorType::ConnectionClosed, "answer cut").into_down());
                }
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, context: &mut Context) -> pingora::Result<Box<HttpPeer>> {
        let Some(plan) = &mut context.plan else {
            return Err(PingoraError::explain(ErrorType::InternalError, "no plan"));
        };
        // another connection for the same attempt, when a kept one was dead, is not another attempt
        context.call.attempts = 1;
        opaque::peer(&self.shared, plan)
            .await
            .map_err(|error| PingoraError::because(ErrorType::ConnectError, "resolving the provider", error).into_up())
    }

    /// Nothing was sent: another address of the provider may do.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Context,
        mut error: Box<PingoraError>,
    ) -> Box<PingoraError> {
        let slow = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
        let elsewhere = context.plan.as_mut().is_some_and(|plan| {
            let Some(place) = plan.place.take() else { return false };
            place.failed(&error);
            place.another(&mut plan.tried, slow)
        });
        error.set_retry(elsewhere);
        error
    }

    /// As in the splice lane, a kept connection that the provider had closed meanwhile costs nobody a call: whatever the method, as long
    /// as the body so far is still there to be sent again.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<PingoraError>,
        context: &mut Context,
        reused: bool,
    ) -> Box<PingoraError> {
        if !reused
            && *error.esource() == ErrorSource::Upstream
            && let Some(place) = context.plan.as_ref().and_then(|plan| plan.place.as_ref())
        {
            place.failed(&error);
        }
        if session.as_ref().retry_buffer_truncated() {
            error.set_retry(false);
        } else {
            error.retry.decide_reuse(reused);
        }
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        match &context.plan {
            Some(plan) => opaque::request(head, session, &context.call, plan),
            None => Ok(()),
        }
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        head: &mut ResponseHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        if let Some(plan) = &context.plan {
            if let Some(place) = plan.place.as_ref().filter(|_| !head.status.is_informational()) {
                place.answered(head.status.as_u16(), None);
            }
            context.refusal = opaque::response(head, &mut context.call)?;
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut Context,
    ) -> pingora::Result<Option<Duration>> {
        if let (Some(plan), Some(refusal)) = (&context.plan, &mut context.refusal) {
            let secrets = if end { context.shared.credentials.secrets(&plan.provider) } else { Vec::new() };
            *body = refusal.pass(body.take(), end, &plan.provider, &secrets, context.call.status);
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &PingoraError, context: &mut Context) -> FailToProxy {
        if context.call.error.is_none() {
            let error = fault::of_pingora(error);
            fault::answer(session, &mut context.call, &error).await;
        }
        FailToProxy { error_code: context.call.status, can_reuse_downstream: false }
    }

    /// The record: exactly one per call.
    async fn logging(&self, session: &mut Session, _error: Option<&PingoraError>, context: &mut Context) {
        let shared = &self.shared;
        let call = &mut context.call;
        // Pipelined requests are not served: the connection ends behind this answer. Nobody sends them but smugglers.
        session.set_pipelining_enabled(false);
        if let Some(plan) = &context.plan {
            call.bytes_in = session.body_bytes_read() as u64;
            call.bytes_out = session.body_bytes_sent() as u64;
            let outcome = match &call.error {
                None => "ok",
                Some(failed) => match failed.kind {
                    Kind::UpstreamRefused { status: 429, .. } => "rate_limited",
                    Kind::UpstreamRefused { status, .. } if status < 500 => "client_error",
                    Kind::UpstreamRefused { .. } => "server_error",
                    Kind::UpstreamTimeout => "timeout",
                    Kind::ClientGone => "cancelled",
                    _ => "failed",
                },
            };
            if call.attempts > 0 {
                shared.metrics.attempts.with_label_values(&[plan.provider.name.as_str(), outcome]).inc();
            }
            // carried by Pingora between the phases: nearly all of it is waiting, and none of it is counted as ours
            call.waited = call.started.elapsed();
        }
        if call.lane == Some(Lane::Local) {
            call.waited = Duration::ZERO;
        }
        context.close();
    }

    fn suppress_error_log(&self, _session: &Session, _context: &Context, _error: &PingoraError) -> bool {
        // every failure has its line in the access log
        true
    }

    fn request_summary(&self, _session: &Session, context: &Context) -> String {
        format!("request {}", context.call.id)
    }
}
