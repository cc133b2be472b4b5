//! One try at one target, up to its first output. Nothing reaches the client before: a try that fails here leaves no trace in its answer, and
//! another target can be asked. It does not know the client's connection, so that two tries can run side by side.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use pingora::http::ResponseHeader;

use super::asking::{Asked, Asking, Question, Speech};
use super::billing::{Bill, End};
use super::flow::{self, Pace};
use super::proxy::Shared;
use super::{bridge, fault, reply, splice, task};
use crate::call;
use crate::chat::Usage;
use crate::dialect::Operation;
use crate::error::{Error, Kind, Refused};
use crate::json::Spliced;
use crate::route::Target;
use crate::telemetry::Metrics;
use crate::upstream::gate::Ticket;
use crate::upstream::track::Flight;
use crate::upstream::{Body, FailureKind, Reply, Sent};

/// What a read may take beyond its deadline before the whole try is given up.
const SLACK: Duration = Duration::from_millis(50);

/// A question that may be asked now.
pub struct Ready {
    /// Its place in the plan.
    pub index: usize,
    pub asked: Asked,
    pub flight: Flight,
    pub ticket: Ticket,
    pub bill: Bill,
}

/// A try whose answer has begun.
pub struct Begun {
    pub asked: Asked,
    pub flight: Flight,
    pub ticket: Ticket,
    pub bill: Bill,
    pub seen: Seen,
    pub answer: Beginning,
}

/// What is there of an answer.
pub enum Beginning {
    /// All of it.
    Whole(Box<Whole>),
    /// A reply that is too large to be held, or that comes piece by piece without being events.
    Passing(Box<splice::Passing>),
    /// Events in the client's dialect, the first output among them.
    Events(Box<splice::Events>),
    /// Events that are said again, the first output among them.
    Saying(Box<bridge::Saying>),
}

/// A whole answer, in the client's words.
pub struct Whole {
    pub head: ResponseHeader,
    pub body: Bytes,
    pub usage: Option<Usage>,
    /// What of the reply could not be said.
    pub lost: call::Lost,
    pub estimated: bool,
}

/// What a try has seen of the provider so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Since the try began.
    pub first_byte: Option<Duration>,
    pub first_token: Option<Duration>,
    /// Spent waiting for the provider.
    pub waited: Duration,
    pub upstream_request_id: Option<Box<str>>,
}

/// A try that came to nothing.
pub struct Failed {
    pub error: Error,
    pub how: How,
    /// The provider's own refusal, for a client that speaks its dialect.
    pub verbatim: Option<(ResponseHeader, Bytes)>,
    pub seen: Seen,
    pub begun: Option<Instant>,
}

/// A try that failed.
pub struct Lost {
    /// Its place in the plan.
    pub index: usize,
    pub failed: Box<Failed>,
    pub target: Target,
}

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The question cannot be put to this target.
    Unasked,
    /// No connection, no credential: nothing was sent.
    Connect,
    Timeout,
    /// The connection broke, or what came was no answer.
    Broken,
    /// The provider refused, with this status or in the place of its answer.
    Refused(u16),
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It would be the same anywhere: the caller is told.
    Caller,
    /// It would be the same here, but may be another elsewhere.
    Target,
    /// It may pass.
    Transient,
}

/// Counts a try by its outcome, once; one that is dropped was cancelled.
struct Outcome<'a> {
    metrics: &'a Metrics,
    target: &'a Target,
    label: &'static str,
}

/// Ask. `Ok` once there is something to send to the client.
pub async fn begin(
    shared: &Shared,
    question: &Question<'_>,
    ready: Ready,
    deadline: Instant,
) -> Result<Begun, Box<Lost>> {
    let Ready { index, asked, mut flight, ticket, bill } = ready;
    let mut seen = Seen::default();
    let deadline = deadline.min(flight.begun + asked.target.timeouts.total);
    let mut outcome = Outcome { metrics: &shared.metrics, target: &asked.target, label: "cancelled" };
    // each read has a deadline of its own; this one is for what drips
    let first_token = deadline.min(flight.begun + asked.target.timeouts.first_token);
    let answer = {
        // pinned where it stands: handed over by value it would be there twice
        let answer = std::pin::pin!(answer(shared, question, &asked, &flight, &ticket, &mut seen, first_token));
        tokio::time::timeout_at((first_token + SLACK).into(), answer).await
    };
    let answer = answer.unwrap_or_else(|_elapsed| {
        Err(Failed::of(Error::new(Kind::UpstreamTimeout, "The provider did not answer in time.")))
    });
    match answer {
        Ok(answer) => {
            outcome.label = "ok";
            drop(outcome);
            let first = seen.first_token.or(seen.first_byte).unwrap_or_else(|| flight.begun.elapsed());
            flight.first_token(first);
            // a stream can still break; but a probe's place is needed
            if flight.is_probe() || matches!(answer, Beginning::Whole(_)) {
                flight.succeeded();
            }
            Ok(Begun { asked, flight, ticket, bill, seen, answer })
        }
        Err(mut failed) => {
            outcome.label = failed.label();
            drop(outcome);
            failed.seen = seen;
            failed.begun = Some(flight.begun);
            match failed.class() {
                // a rate limit is the gate's business: it says nothing of the target's health
                Class::Transient if failed.how == How::Refused(429) => flight.neutral(),
                Class::Transient | Class::Target if failed.how != How::Unasked => {
                    flight.failed(&failed.report());
                    let breaks = asked.target.breaker.failures > 0 || asked.target.breaker.rate.is_some();
                    if let Some(after) = failed.retry_after().filter(|_| breaks) {
                        flight.track.breaker.cool_down(Instant::now() + after);
                    }
                }
                Class::Caller | Class::Target | Class::Transient => flight.neutral(),
            }
            bill.book(&End::failed(failed.how, failed.short().into()));
            Err(Box::new(Lost { index, failed, target: asked.target }))
        }
    }
}

async fn answer(
    shared: &Shared,
    question: &Question<'_>,
    asked: &Asked,
    flight: &Flight,
    ticket: &Ticket,
    seen: &mut Seen,
    deadline: Instant,
) -> Result<Beginning, Box<Failed>> {
    let target = &asked.target;
    let pace = Pace { idle: target.timeouts.idle, deadline };
    let line = Line { shared, question, target, flight, pace, affinity: asked.affinity, ticket };
    match &asked.speech {
        Speech::Splice { body, added_usage } => {
            let reply = line.send(&asked.asking, body, seen).await?;
            splice::begin(&line, reply, *added_usage, seen).await
        }
        Speech::Bridge(speech) => {
            let reply = line.send(&asked.asking, &speech.body, seen).await?;
            bridge::begin(&line, reply, speech, seen).await
        }
        // boxed: they are rare, and larger than the others
        Speech::Task(questions) => {
            let whole = Box::pin(task::carry(&line, &asked.asking, questions, seen)).await?;
            Ok(Beginning::Whole(Box::new(whole)))
        }
        Speech::Count(counting) => {
            let whole = Box::pin(task::count(&line, &asked.asking, counting, seen)).await?;
            Ok(Beginning::Whole(Box::new(whole)))
        }
    }
}

/// The way to one target, for one try.
pub struct Line<'a> {
    pub shared: &'a Shared,
    pub question: &'a Question<'a>,
    pub target: &'a Target,
    pub flight: &'a Flight,
    /// Until the first output.
    pub pace: Pace,
    pub affinity: Option<u64>,
    pub ticket: &'a Ticket,
}

// === impl Line ===

impl Line<'_> {
    pub fn operation(&self) -> Operation {
        self.question.inquiry.operation
    }

    /// Send a request and wait for the reply's header section.
    pub async fn send(&self, asking: &Asking, body: &Spliced, seen: &mut Seen) -> Result<Reply, Box<Failed>> {
        let (shared, target) = (self.shared, self.target);
        let begun = Instant::now();
        let asked = Sent { method: "POST", target: &asking.path, body: Body::Whole(body) };
        let sent = match shared.credentials.authorize(&target.provider, &asked).await {
            Ok(shown) => {
                let head = |authority: &HeaderValue| {
                    asking.head(authority, &shown, &self.question.id, &target.provider, body.len)
                };
                let deadline = self.pace.deadline;
                shared.upstreams.send(&target.provider, &target.timeouts, self.affinity, head, body, deadline).await
            }
            Err(failure) => Err(failure),
        };
        seen.waited += begun.elapsed();
        match sent {
            Ok(reply) => {
                seen.first_byte.get_or_insert_with(|| self.flight.begun.elapsed());
                seen.upstream_request_id = reply::upstream_request_id(&reply);
                if let Some(head) = reply.session.response_header() {
                    let status = head.status.as_u16();
                    // what an overloaded provider asks for is the breaker's business
                    let asked_for = if status == 429 { reply::retry_after(&reply) } else { None };
                    self.ticket.learn(&head.headers, status, asked_for, Instant::now());
                }
                Ok(reply)
            }
            Err(failure) => {
                let how = match failure.kind {
                    FailureKind::Credentials | FailureKind::Connect => How::Connect,
                    FailureKind::Broken => How::Broken,
                    FailureKind::Timeout => How::Timeout,
                };
                Err(Failed::new(how, fault::of_attempt(failure)))
            }
        }
    }

    /// The next bytes of a reply.
    pub async fn read_chunk(&self, reply: &mut Reply, seen: &mut Seen) -> Result<Option<Bytes>, Box<Failed>> {
        let begun = Instant::now();
        let read = flow::next_chunk(reply, self.pace).await;
        seen.waited += begun.elapsed();
        read.map_err(Failed::of)
    }

    /// The rest of a reply, which is small enough to be held.
    pub async fn read_whole(&self, reply: &mut Reply, limit: usize, seen: &mut Seen) -> Result<Bytes, Box<Failed>> {
        let begun = Instant::now();
        let read = flow::read_up_to(reply, self.pace, limit).await;
        seen.waited += begun.elapsed();
        read.map_err(Failed::of)
    }

    /// Give a connection back whose reply was read to its end.
    pub async fn release(&self, reply: Reply) {
        self.shared.upstreams.release(reply).await;
    }
}

// === impl Failed ===

impl Failed {
    pub fn new(how: How, error: Error) -> Box<Self> {
        Box::new(Failed { error, how, verbatim: None, seen: Seen::default(), begun: None })
    }

    /// What went wrong between a provider and us.
    pub fn of(error: Error) -> Box<Self> {
        let how = match error.kind {
            Kind::UpstreamTimeout => How::Timeout,
            Kind::UpstreamRefused { status, .. } => How::Refused(status),
            Kind::UpstreamFailed => How::Broken,
            _ => How::Unasked,
        };
        Failed::new(how, error)
    }

    pub fn class(&self) -> Class {
        match self.error.kind {
            // a conflict passes, whatever its body says
            Kind::UpstreamRefused { status: 409, .. } => Class::Transient,
            Kind::UpstreamRefused { reason, .. } => match reason {
                Refused::BadRequest | Refused::TooLarge | Refused::ContextLength | Refused::ContentFilter => {
                    Class::Caller
                }
                Refused::Auth | Refused::Permission | Refused::NotFound | Refused::Billing => Class::Target,
                Refused::RateLimit | Refused::Overloaded | Refused::Timeout | Refused::ServerError => Class::Transient,
            },
            Kind::UpstreamFailed | Kind::UpstreamTimeout => Class::Transient,
            // what this target cannot be told another may; a fault of ours may lie in the way to it
            _ => Class::Target,
        }
    }

    /// Of several failures the one that says most is told: the caller's own fault, then what may pass, then the rest.
    pub fn worse(worst: Option<Box<Failed>>, failed: Box<Failed>) -> Box<Failed> {
        let weight = |failed: &Failed| match failed.class() {
            Class::Caller => 2,
            Class::Transient => 1,
            Class::Target => 0,
        };
        match worst {
            Some(worst) if weight(&worst) > weight(&failed) => worst,
            Some(_) | None => failed,
        }
    }

    pub fn reason(&self) -> Option<Refused> {
        match self.error.kind {
            Kind::UpstreamRefused { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// How long the provider asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.error.kind {
            Kind::UpstreamRefused { retry_after, .. } => retry_after,
            _ => None,
        }
    }

    /// Metric label.
    pub fn label(&self) -> &'static str {
        match self.how {
            How::Unasked => "unasked",
            How::Connect => "connect",
            How::Timeout => "timeout",
            How::Broken => "broken",
            How::Refused(429) => "rate_limited",
            How::Refused(400..=499) => "client_error",
            How::Refused(_) => "server_error",
        }
    }

    /// For the log and for headers: `503`, `timeout`.
    pub fn short(&self) -> String {
        match self.how {
            How::Refused(status) => status.to_string(),
            How::Unasked | How::Connect | How::Timeout | How::Broken => self.label().to_owned(),
        }
    }

    /// For status: nothing of the content.
    fn report(&self) -> String {
        match (self.how, self.reason()) {
            (How::Refused(status), Some(reason)) => format!("status {status} ({})", reason.label()),
            _ => match self.error.code {
                Some(code) => format!("{}: {code}", self.label()),
                None => self.label().to_owned(),
            },
        }
    }
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        self.metrics.attempts.with_label_values(&[self.target.provider.name.as_str(), self.label]).inc();
    }
}
