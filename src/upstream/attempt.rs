//! One try at one target: send a request whole, read the reply's header section.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType};

use super::peers::{Place, Upstreams, Within};
use crate::config::snapshot::{Provider, Timeouts};
use crate::error::BoxError;
use crate::json::Spliced;

/// Stale connections and refused addresses tried in one attempt before it counts as failed.
const CONNECTS: usize = 4;
/// An upstream that answers before it has read everything (413, 401) gets this long to say so after our write failed.
const EARLY_ANSWER: Duration = Duration::from_millis(200);
/// Of an upstream's informational replies (1xx), so many at most.
const INFORMATIONAL: usize = 8;

/// A reply whose header section has come. Until it is dropped or given back its endpoint has it in flight.
pub struct Reply {
    /// Boxed: it is handed on through many futures, each of which would hold it twice.
    pub session: Box<HttpSession>,
    peer: Arc<HttpPeer>,
    place: Place,
    /// The request was written to its end: the connection can serve another.
    reusable: bool,
}

/// Why an attempt came to nothing.
#[derive(Debug)]
pub struct Failure {
    pub kind: FailureKind,
    pub why: BoxError,
}

/// No connection came about.
struct Missed {
    failure: Failure,
    /// It took all the time there was.
    slow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Nothing was sent: there is nothing to show who asks.
    Credentials,
    /// Nothing was sent.
    Connect,
    /// The connection broke, or spoke no HTTP.
    Broken,
    /// No header section within `first_byte`, or within `total`.
    Timeout,
}

// === impl Upstreams ===

impl Upstreams {
    /// Send a request and wait for the reply's header section. `head` makes the request's, for the authority it is given: Pingora keeps
    /// the one it sends. `affinity`: calls with the same go to the same endpoint, where a pool goes by it. Cancel-safe: dropping the
    /// future drops the connection.
    pub async fn send(
        &self,
        provider: &Arc<Provider>,
        timeouts: &Timeouts,
        affinity: Option<u64>,
        head: impl Fn(&HeaderValue) -> pingora::Result<RequestHeader>,
        body: &Spliced,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let mut tried = Vec::new();
        let mut kept: Option<Place> = None;
        let mut last = None;
        for _ in 0..CONNECTS {
            let Some(place) = kept.take().or_else(|| self.place(provider, affinity, &tried)) else { break };
            let (peer, mut session, reused) = match self.connect(&place, provider, timeouts, deadline).await {
                Ok(connected) => connected,
                Err(missed) => {
                    let again = place.another(&mut tried, missed.slow) && Instant::now() < deadline;
                    last = Some(missed.failure);
                    if again { continue } else { break }
                }
            };
            let begun = Instant::now();
            let left = deadline.saturating_duration_since(begun);
            session.set_write_timeout(Some(timeouts.write.min(left)));
            session.set_read_timeout(Some(timeouts.first_byte.min(left)));
            let head = head(place.authority()).map_err(|e| Failure::new(FailureKind::Broken, e))?;
            match exchange(&mut session, head, body, timeouts.first_byte.min(left)).await {
                Ok(reusable) => {
                    let reply = Reply { session, peer, place, reusable };
                    reply.place.answered(reply.status(), Some(begun));
                    return Ok(reply);
                }
                Err(error) => {
                    session.shutdown().await;
                    // A pooled connection that the provider had closed meanwhile: normal. It may have read the request all the
                    // same; that risk is taken, since refusing the call would be worse and far more frequent.
                    let stale = reused && is_closed(&error);
                    let failure = Failure::from(error);
                    // a call whose own time was up says nothing of who was to answer it
                    let cut = failure.kind == FailureKind::Timeout && Instant::now() >= deadline;
                    if !stale && !cut {
                        place.failed(&failure);
                    }
                    last = Some(failure);
                    if !stale {
                        break;
                    }
                    kept = Some(place);
                }
            }
        }
        Err(last.unwrap_or_else(|| Failure::new(FailureKind::Connect, "no connection")))
    }

    /// A connection, kept or new, and whether it was kept.
    async fn connect(
        &self,
        place: &Place,
        provider: &Arc<Provider>,
        timeouts: &Timeouts,
        deadline: Instant,
    ) -> Result<(Arc<HttpPeer>, Box<HttpSession>, bool), Missed> {
        let within = Within::from(timeouts);
        let peer = match place.origin.peer(provider, within).await {
            Ok(peer) => peer,
            Err(failure) => {
                place.failed(&failure);
                return Err(Missed { failure, slow: false });
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        // boxed: it is nine kilobytes, of which nothing is left once there is a connection
        let connecting = Box::pin(self.connector.get_http_session(&*peer));
        let connected = if left >= within.total() {
            connecting.await
        } else {
            match tokio::time::timeout(left, connecting).await {
                Ok(connected) => connected,
                Err(late) => return Err(Missed { failure: Failure::new(FailureKind::Timeout, late), slow: true }),
            }
        };
        match connected {
            Ok((session, reused)) => Ok((peer, Box::new(session), reused)),
            Err(error) => {
                let slow = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
                let failure = Failure::new(FailureKind::Connect, error);
                place.failed(&failure);
                Err(Missed { failure, slow })
            }
        }
    }

    /// Give a connection back whose reply was read to the end.
    pub async fn release(&self, reply: Reply) {
        let idle = reply.peer.idle_timeout();
        let Reply { mut session, peer, place, reusable } = reply;
        if reusable {
            Box::pin(self.connector.release_http_session(*session, &*peer, idle)).await;
        } else {
            session.shutdown().await;
        }
        drop(place);
    }
}

/// Send a request and read the header section of the answer, which must be whole within `first_byte` of the request's end. Whether the
/// request was written to its end.
pub(super) async fn exchange(
    session: &mut HttpSession,
    head: RequestHeader,
    body: &Spliced,
    first_byte: Duration,
) -> pingora::Result<bool> {
    let head = match session {
        HttpSession::H2(_) => for_http2(head)?,
        HttpSession::H1(_) | HttpSession::Custom(_) => head,
    };
    session.write_request_header(Box::new(head)).await?;
    if let Err(error) = write_body(session, body).await {
        session.set_read_timeout(Some(EARLY_ANSWER));
        return read_head(session, EARLY_ANSWER).await.map(|()| false).map_err(|_| error);
    }
    read_head(session, first_byte).await.map(|()| true)
}

async fn write_body(session: &mut HttpSession, body: &Spliced) -> Result<(), Box<Error>> {
    let last = body.pieces.len().saturating_sub(1);
    for (n, piece) in body.pieces.iter().enumerate() {
        session.write_request_body(piece.clone(), n == last).await?;
    }
    session.finish_request_body().await
}

/// Pingora's own timer is set anew with each byte: one that drips would never be late.
async fn read_head(session: &mut HttpSession, within: Duration) -> pingora::Result<()> {
    let late = |_| Error::explain(ErrorType::ReadTimedout, "the header section did not end in time");
    tokio::time::timeout(within, final_head(session)).await.map_err(late)?
}

async fn final_head(session: &mut HttpSession) -> pingora::Result<()> {
    for _ in 0..INFORMATIONAL {
        session.read_response_header().await?;
        match session.response_header() {
            Some(head) if head.status.is_informational() => {}
            Some(_) => return Ok(()),
            None => break,
        }
    }
    Err(Error::explain(ErrorType::InvalidHTTPHeader, "no final status"))
}

/// HTTP/2 carries the authority in the URI (RFC 9113 8.3.1).
fn for_http2(mut head: RequestHeader) -> pingora::Result<RequestHeader> {
    head.set_version(http::Version::HTTP_2);
    let authority = head.headers.get(http::header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    let uri = http::Uri::builder()
        .scheme("https")
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|e| Error::because(ErrorType::InvalidHTTPHeader, "building the HTTP/2 target", e))?;
    head.set_uri(uri);
    head.remove_header(&http::header::HOST);
    Ok(head)
}

// === impl Reply ===

impl Reply {
    pub fn status(&self) -> u16 {
        self.session.response_header().map_or(0, |head| head.status.as_u16())
    }

    /// Whether the body is of this type, whatever its parameters.
    pub fn is_type(&self, media_type: &str) -> bool {
        let found = self.header(http::header::CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
        found.get(..media_type.len()).is_some_and(|t| t.eq_ignore_ascii_case(media_type.as_bytes()))
    }

    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&HeaderValue> {
        self.session.response_header().and_then(|head| head.headers.get(name))
    }
}

fn is_closed(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError | ErrorType::H2Error
    )
}

// === impl Failure ===

impl Failure {
    pub fn new(kind: FailureKind, why: impl Into<BoxError>) -> Self {
        Failure { kind, why: why.into() }
    }
}

impl From<Box<Error>> for Failure {
    fn from(error: Box<Error>) -> Self {
        let kind = match error.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => FailureKind::Timeout,
            _ => FailureKind::Broken,
        };
        Failure { kind, why: error.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FailureKind::Credentials => "credentials",
            FailureKind::Connect => "connect",
            FailureKind::Broken => "broken",
            FailureKind::Timeout => "timeout",
        };
        write!(f, "{kind}: {}", self.why)
    }
}

impl std::error::Error for Failure {}
