//! What the simulator sends: a head and a list of parts, played one after another onto the connection.
//!
//! Owns how bytes, pauses, cuts and silences reach the wire, and tells the record how it ended. It does not know what the
//! bytes mean. Every part becomes its own HTTP/1.1 chunk in a write of its own (RFC 9112 7.1), so a test may split a recorded
//! body wherever it likes.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::record::Ticket;

/// One step of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Sent as one chunk of its own.
    Bytes(Bytes),
    /// Silence, then the next part.
    Wait(Duration),
    /// The connection is closed without a clean end: no last chunk, or fewer bytes than promised. Nothing after it is played.
    Cut,
    /// Silence until the other side gives up.
    Hang,
}

/// An answer, byte for byte. Nothing is added to it but `date` and the framing: without a `content-length` among its headers
/// the body is chunked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: Vec<(String, String)>,
    /// Played before the head is sent; bytes in it are ignored. `Hang` here is a provider that accepts and never answers,
    /// `Cut` one that closes the connection without a word.
    pub before: Vec<Part>,
    pub body: Vec<Part>,
}

// === impl Reply ===

impl Reply {
    pub fn new(status: StatusCode) -> Self {
        Self { status, ..Self::default() }
    }

    /// A whole JSON document with its length, compact.
    pub fn json(status: StatusCode, document: &Value) -> Self {
        Self::whole(status, "application/json", document.to_string())
    }

    /// A whole body with its length.
    pub fn whole(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::new(status)
            .header(CONTENT_TYPE.as_str(), content_type)
            .header(CONTENT_LENGTH.as_str(), &body.len().to_string())
            .bytes(body)
    }

    /// The head of a stream of server-sent events; parts follow with [`Reply::bytes`] and [`Reply::part`].
    pub fn events() -> Self {
        Self::new(StatusCode::OK).header(CONTENT_TYPE.as_str(), "text/event-stream; charset=utf-8")
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bytes(self, bytes: impl Into<Bytes>) -> Self {
        self.part(Part::Bytes(bytes.into()))
    }

    pub fn part(mut self, part: Part) -> Self {
        self.body.push(part);
        self
    }

    /// Holds the head back: see [`Reply::before`].
    pub fn first(mut self, part: Part) -> Self {
        self.before.push(part);
        self
    }

    /// Plays the parts before the head, then hands the rest to the connection. An error closes the connection unanswered.
    pub(super) async fn play(self, mut ticket: Ticket) -> Result<Response<Body>, io::Error> {
        for part in self.before {
            match part {
                Part::Bytes(_) => {}
                Part::Wait(time) => tokio::time::sleep(time).await,
                Part::Cut => return Err(ticket.cut()),
                Part::Hang => std::future::pending().await,
            }
        }
        ticket.answered(self.status);
        let mut response = Response::new(play_body(self.body, ticket));
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => drop(response.headers_mut().append(name, value)),
                (Err(_), _) | (_, Err(_)) => {
                    log::warn!("simulator: a reply's header is not valid HTTP and was left out")
                }
            }
        }
        Ok(response)
    }
}

/// Between two parts the task yields once, so that the connection flushes what it has (hyper flushes when a body is pending).
fn play_body(parts: Vec<Part>, mut ticket: Ticket) -> Body {
    let parts = VecDeque::from(parts);
    if parts.is_empty() {
        ticket.complete();
        return Body::empty();
    }
    Body::from_stream(stream::unfold((parts, ticket, false), |(mut parts, mut ticket, started)| async move {
        if started {
            tokio::task::yield_now().await;
        }
        loop {
            match parts.pop_front() {
                Some(Part::Bytes(bytes)) => {
                    if parts.is_empty() {
                        ticket.complete();
                    }
                    return Some((Ok(bytes), (parts, ticket, true)));
                }
                Some(Part::Wait(time)) => tokio::time::sleep(time).await,
                Some(Part::Cut) => {
                    let error = ticket.cut();
                    return Some((Err(error), (VecDeque::new(), ticket, true)));
                }
                Some(Part::Hang) => std::future::pending().await,
                None => {
                    ticket.complete();
                    return None;
                }
            }
        }
    }))
}
