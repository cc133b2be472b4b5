//! What every lane does with a provider's reply: read it at its pace, write it to the client, keep a silent stream open.

use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pingora_proxy::Session;
use tokio::time::Sleep;

use super::exchange::client_gone;
use super::proxy::Shared;
use super::reply;
use crate::call::Call;
use crate::error::{Error, Kind, Result};
use crate::upstream::Reply;

/// Most of a provider's error body that is read; the rest says nothing a client needs.
pub const ERROR_LIMIT: usize = 64 * 1024;

/// So much of an answer is held back until it is whole, or its first output has come.
pub const HELD: usize = 256 * 1024;

/// A provider that has ended its stream gets this long to end its reply.
const AFTER_END: Duration = Duration::from_secs(1);

/// An answer nobody waits for is read on for so long.
pub const FOR_NOBODY: Duration = Duration::from_secs(60);

/// What became of the provider's connection.
pub enum Ended {
    /// Its reply was read to the end.
    Whole,
    /// It broke, and the client has been told within the stream.
    Broken,
}

/// How long the provider may take: between two reads, and in all.
#[derive(Clone, Copy)]
pub struct Pace {
    pub idle: Duration,
    pub deadline: Instant,
}

/// The next heartbeat of a silent stream. One timer a stream: it is not moved with each chunk but looks back when it fires.
pub struct Heartbeat {
    every: Duration,
    last_write: Instant,
    pub timer: Pin<Box<Sleep>>,
}

/// Counts an open stream for as long as it lives.
pub struct OpenStream<'a>(&'a Shared);

// === impl Pace ===

impl Pace {
    /// Behind the end of a stream only its framing can come.
    pub fn shortly(self) -> Self {
        Pace { idle: self.idle.min(AFTER_END), ..self }
    }

    /// For an answer that is read on although its client has left.
    pub fn for_nobody(self) -> Self {
        Pace { deadline: self.deadline.min(Instant::now() + FOR_NOBODY), ..self }
    }

    /// How long the next read may take. Pingora's timer on the read serves for both limits.
    pub fn next(self, now: Instant) -> Result<Duration> {
        match self.deadline.checked_duration_since(now) {
            Some(left) if !left.is_zero() => Ok(left.min(self.idle)),
            _ => Err(Error::new(Kind::UpstreamTimeout, "The call took longer than it may.")),
        }
    }
}

// === impl Heartbeat ===

impl Heartbeat {
    pub fn new(every: Duration) -> Self {
        Heartbeat { every, last_write: Instant::now(), timer: Box::pin(tokio::time::sleep(every)) }
    }

    /// Something else went out: the next heartbeat is an interval away.
    pub fn wrote(&mut self) {
        self.last_write = Instant::now();
    }

    /// The timer has fired: whether nothing was written for a whole interval. Sets the timer anew.
    pub fn due(&mut self) -> bool {
        let now = Instant::now();
        let due = now.duration_since(self.last_write) >= self.every;
        if due {
            self.last_write = now;
        }
        self.timer.as_mut().reset((self.last_write + self.every).into());
        due
    }
}

// === impl OpenStream ===

impl<'a> OpenStream<'a> {
    pub fn new(shared: &'a Shared) -> Self {
        shared.metrics.streams_open.inc();
        OpenStream(shared)
    }
}

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        self.0.metrics.streams_open.dec();
    }
}

// === reading and writing ===

/// The next bytes of the reply; gives up when the client leaves or the call's time is over.
pub async fn read_chunk(
    session: &mut Session,
    call: &mut Call,
    upstream: &mut Reply,
    pace: Pace,
) -> Result<Option<Bytes>> {
    let begun = Instant::now();
    upstream.session.set_read_timeout(Some(pace.next(begun)?));
    let chunk = tokio::select! {
        biased;
        chunk = upstream.session.read_response_body() => chunk.map_err(broken),
        gone = session.downstream_session.read_body_or_idle(true) => Err(client_gone(gone)),
    };
    call.waited += begun.elapsed();
    chunk
}

/// The same, with a word for the client whenever it has heard nothing for a while.
pub async fn read_chunk_alive(
    session: &mut Session,
    call: &mut Call,
    upstream: &mut Reply,
    pace: Pace,
    heartbeat: &mut Heartbeat,
    alive: &Bytes,
) -> Result<Option<Bytes>> {
    let begun = Instant::now();
    upstream.session.set_read_timeout(Some(pace.next(begun)?));
    let mut reading = std::pin::pin!(upstream.session.read_response_body());
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = &mut reading => chunk.map_err(broken),
            gone = session.downstream_session.read_body_or_idle(true) => Err(client_gone(gone)),
            () = &mut heartbeat.timer => {
                if heartbeat.due() {
                    write(session, call, Some(alive.clone()), false).await?;
                }
                continue;
            }
        };
        call.waited += begun.elapsed();
        return chunk;
    }
}

/// The next bytes of the reply, for a try that the client knows nothing of.
pub async fn next_chunk(upstream: &mut Reply, pace: Pace) -> Result<Option<Bytes>> {
    upstream.session.set_read_timeout(Some(pace.next(Instant::now())?));
    upstream.session.read_response_body().await.map_err(broken)
}

/// A reply's body up to `limit`. What is larger is an error: it cannot be kept.
pub async fn read_up_to(upstream: &mut Reply, pace: Pace, limit: usize) -> Result<Bytes> {
    let mut first = None;
    let mut body = BytesMut::new();
    while let Some(chunk) = next_chunk(upstream, pace).await? {
        if body.len() + chunk.len() + first.as_ref().map_or(0, Bytes::len) > limit {
            return Err(Error::new(Kind::UpstreamFailed, "The provider's answer is too large to be translated."));
        }
        // nearly all come in one piece, which need not be copied
        match first.take() {
            None if body.is_empty() => first = Some(chunk),
            None => body.extend_from_slice(&chunk),
            Some(before) => {
                body.extend_from_slice(&before);
                body.extend_from_slice(&chunk);
            }
        }
    }
    Ok(first.unwrap_or_else(|| body.freeze()))
}

/// What the end of an answer means for the provider's connection.
pub async fn close(shared: &Shared, mut upstream: Reply, done: Result<Ended>) -> Result<()> {
    match done {
        Ok(Ended::Whole) => {
            shared.upstreams.release(upstream).await;
            Ok(())
        }
        Ok(Ended::Broken) => {
            upstream.session.shutdown().await;
            Ok(())
        }
        Err(error) => {
            upstream.session.shutdown().await;
            Err(error)
        }
    }
}

pub async fn write_head(session: &mut Session, call: &mut Call, head: pingora::http::ResponseHeader) -> Result<()> {
    let begun = Instant::now();
    let written = session.downstream_session.write_response_header(Box::new(head)).await;
    call.waited += begun.elapsed();
    written.map_err(|e| client_gone(Err(e)))
}

/// The header section of a stream's answer.
pub async fn stream_head(
    session: &mut Session,
    call: &mut Call,
    mut head: pingora::http::ResponseHeader,
) -> Result<()> {
    if !session.is_http2() {
        head.insert_header(http::header::TRANSFER_ENCODING, "chunked").map_err(broken_head)?;
    }
    // nginx and others in front of us must not gather what is meant to flow
    head.insert_header("x-accel-buffering", "no").map_err(broken_head)?;
    reply::ours(&mut head, call).map_err(broken_head)?;
    call.status = head.status.as_u16();
    write_head(session, call, head).await
}

pub async fn write(session: &mut Session, call: &mut Call, bytes: Option<Bytes>, end: bool) -> Result<()> {
    let begun = Instant::now();
    call.bytes_out += bytes.as_ref().map_or(0, |b| b.len() as u64);
    let written = session.downstream_session.write_response_body(bytes.unwrap_or_default(), end).await;
    call.waited += begun.elapsed();
    written.map_err(|e| client_gone(Err(e)))
}

fn broken(error: Box<pingora::Error>) -> Error {
    match error.etype() {
        pingora::ErrorType::ReadTimedout => {
            Error::new(Kind::UpstreamTimeout, "The provider fell silent in the middle of its answer.")
        }
        _ => Error::new(Kind::UpstreamFailed, "The provider broke off its answer."),
    }
    .why(error)
}

pub fn broken_head(error: Box<pingora::Error>) -> Error {
    Error::new(Kind::UpstreamFailed, "The provider's answer has a malformed header section.").why(error)
}
