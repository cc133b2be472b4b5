//! Simulated model providers that speak OpenAI's APIs, and the conversations of Anthropic, Gemini, Bedrock and Cohere: the ones
//! behind `tollgate demo`, so that the first request works without an account, and the scripted upstream of the integration tests.
//!
//! Owns a small HTTP/1.1 server, what it answers, and a [`Record`] of all it received. It stands alone: it uses nothing else of
//! this crate. It is no model: answers are deterministic, name themselves as simulated and repeat the end of the question. It
//! never calls out, and forgets everything when it is dropped. Shapes follow the OpenAI API reference
//! (platform.openai.com/docs/api-reference), the references named in `anthropic`, `gemini`, `bedrock` and `cohere`, and recorded
//! traffic; deliberately missing are fine-tuning, assistants, vector stores, uploads in parts and stored responses.
//!
//! Any model name works. With a few `tools` and a user's turn at the end it calls the first (or the chosen) function; when a schema is
//! given it answers in JSON that fits it; asked for thoughts it thinks first. Some names misbehave, each API in its own words:
//!
//! | model | what it does |
//! | --- | --- |
//! | `sim-429` | 429 with `retry-after: 1`, or what the API has for it |
//! | `sim-500`, `sim-503` | a server error; overloaded (Anthropic: 529) |
//! | `sim-400`, `sim-404` | an invalid parameter; no such model |
//! | `sim-401` | an error that repeats the credential and `host` it got: a leak, if it reaches a client |
//! | `sim-context` | the prompt is too long |
//! | `sim-filter` | 400 `content_filter`, or an answer that says it was filtered |
//! | `sim-flaky` | every second call is a 500, beginning with the second |
//! | `sim-hang` | takes the request and never answers |
//! | `sim-hang-stream` | a stream that falls silent after three chunks |
//! | `sim-cut` | the connection breaks in the middle of the answer |
//! | `sim-slow` | one chunk a second |
//! | `sim-think` | the head at once, then five seconds of silence before the first chunk; 64 reasoning tokens |
//! | `sim-error-event` | a 200 stream that turns into an error event half-way |
//! | `sim-no-usage` | never reports usage |
//! | `sim-long` | two thousand chunks, as fast as they go |
//!
//! OpenAI's APIs stand under `/v1` and the prefixes other vendors use, and Azure's under
//! `/openai/deployments/{model}/...?api-version=`; the others at `/v1/messages`, `/v1beta/models/{model}:{action}`,
//! `/model/{model}/{action}` and `/v2/chat`.

mod answer;
mod anthropic;
mod bedrock;
mod chat;
mod cohere;
mod completions;
mod embeddings;
mod eventstream;
mod fault;
mod files;
mod gemini;
mod grammar;
mod inquiry;
mod media;
mod models;
mod multipart;
mod realtime;
mod record;
mod reply;
mod responses;
mod router;
mod scenario;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::fault::Fault;
use self::inquiry::{Inquiry, Vendor};
use self::record::Ticket;
pub use self::record::{Call, Counters, Outcome, Record};
pub use self::reply::{Part, Reply};

/// Larger bodies are refused: OpenAI's own bound on a file.
const LARGEST_BODY: usize = 512 << 20;

/// How a simulator behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tells simulators apart: it comes back as `openai-organization`.
    pub name: String,
    /// When set, requests need `authorization: Bearer KEY`, or the key in the header of their API; Bedrock's may be signed.
    pub api_key: Option<String>,
    /// Between two chunks of a stream.
    pub pace: Duration,
    /// Calls the record keeps.
    pub most_calls: usize,
    /// Bytes of bodies the record keeps, over all calls.
    pub most_bytes: usize,
}

/// A simulated provider. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Simulator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    record: Arc<Record>,
    /// Canned replies, by model name.
    by_model: Scripts,
    /// Canned replies, by path without query.
    by_path: Scripts,
    files: files::Cabinet,
    identifiers: AtomicU64,
    flaky_calls: AtomicU64,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "simulated".to_owned(),
            api_key: None,
            pace: Duration::from_millis(30),
            most_calls: 10_000,
            most_bytes: 256 << 20,
        }
    }
}

// === impl Simulator ===

impl Simulator {
    pub fn new(options: Options) -> Self {
        let record = Arc::new(Record::new(options.most_calls, options.most_bytes));
        Self {
            shared: Arc::new(Shared {
                options,
                record,
                by_model: Mutex::default(),
                by_path: Mutex::default(),
                files: files::Cabinet::default(),
                identifiers: AtomicU64::new(0),
                flaky_calls: AtomicU64::new(0),
            }),
        }
    }

    /// What it has received.
    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.shared.record)
    }

    /// From now on, calls for this model get this reply.
    pub fn reply(&self, model: &str, reply: Reply) {
        self.replies(model, [reply]);
    }

    /// From now on, calls for this model get these replies one after another; the last one stays. None at all takes the
    /// script away.
    pub fn replies(&self, model: &str, replies: impl IntoIterator<Item = Reply>) {
        script(&self.shared.by_model, model, replies);
    }

    /// The same for a path (without query), whatever the method, the key and the body.
    pub fn replies_at(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        script(&self.shared.by_path, path, replies);
    }

    /// Serves until the future is dropped; then every connection is closed at once.
    pub async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let (_alive, gone) = watch::channel(());
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(self.clone().connection(stream, gone.clone()))),
                    // Out of file descriptors, or a peer that was gone at once: neither is cured by haste.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn connection(self, stream: TcpStream, gone: watch::Receiver<()>) {
        let number = self.shared.record.connected();
        drop(stream.set_nodelay(true));
        let service = service_fn(|request| self.call(request, number, gone.clone()));
        // An error here is the peer's disconnect or our own cut; both are in the record.
        drop(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await,
        );
    }

    /// One call from head to answer. An error closes the connection without one.
    async fn call(
        &self,
        request: http::Request<Incoming>,
        connection: u64,
        gone: watch::Receiver<()>,
    ) -> io::Result<Response<Body>> {
        let shared = &self.shared;
        let started = Instant::now();
        let (mut head, body) = request.into_parts();
        let ticket = shared.record.open(connection, &head);
        let inquiry = match read(body, &ticket).await? {
            Some(body) => Inquiry::new(&head, body),
            None => return Fault::too_large().reply(Vendor::OpenAi).play(ticket).await,
        };
        if let Some(reply) = shared.canned(&inquiry) {
            return reply.play(ticket).await;
        }
        let answer = match router::admit(shared, &inquiry) {
            Ok(()) if inquiry.is_realtime() => match realtime::handshake(&mut head).await {
                Ok(upgrade) => return Ok(realtime::accept(upgrade, &inquiry, gone, ticket)),
                Err(fault) => Err(fault),
            },
            Ok(()) => router::answer(shared, &inquiry),
            Err(fault) => Err(fault),
        };
        let reply = answer.unwrap_or_else(|fault| fault.reply(inquiry.vendor));
        shared.dressed(reply, inquiry.vendor, started).play(ticket).await
    }
}

/// The whole body; `None` when it is larger than anything the API takes.
async fn read(body: Incoming, ticket: &Ticket) -> io::Result<Option<Bytes>> {
    let mut stream = Body::new(body).into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(io::Error::other)?;
        if whole.len() + chunk.len() > LARGEST_BODY {
            return Ok(None);
        }
        ticket.received(chunk.len());
        whole.extend_from_slice(&chunk);
    }
    let whole = whole.freeze();
    ticket.body(whole.clone());
    Ok(Some(whole))
}

// === impl Shared ===

impl Shared {
    /// The scripted reply, by path first, then by model.
    fn canned(&self, inquiry: &Inquiry) -> Option<Reply> {
        next(&self.by_path, &inquiry.path).or_else(|| next(&self.by_model, inquiry.model.as_deref()?))
    }

    /// A fresh identifier: the same sequence for the same name, so that a run can be repeated.
    fn identifier(&self, prefix: &str) -> String {
        let number = self.identifiers.fetch_add(1, Ordering::Relaxed);
        let mut hasher = DefaultHasher::new();
        (&self.options.name, number).hash(&mut hasher);
        format!("{prefix}{:016x}{number:08x}", hasher.finish())
    }

    /// Every second call, beginning with the second.
    fn flaky_fails(&self) -> bool {
        self.flaky_calls.fetch_add(1, Ordering::Relaxed) % 2 == 1
    }

    /// With the headers that the API sends with every answer, where the reply has not its own.
    fn dressed(&self, mut reply: Reply, vendor: Vendor, started: Instant) -> Reply {
        let spent = started.elapsed().as_millis().to_string();
        let identifier = self.identifier("req_");
        let name = self.options.name.as_str();
        let common: &[(&str, &str)] = match vendor {
            Vendor::OpenAi | Vendor::Azure => &[
                ("openai-organization", name),
                ("openai-processing-ms", &spent),
                ("openai-version", "2020-10-01"),
                ("x-request-id", &identifier),
                ("x-ratelimit-limit-requests", "10000"),
                ("x-ratelimit-limit-tokens", "2000000"),
                ("x-ratelimit-remaining-requests", "9999"),
                ("x-ratelimit-remaining-tokens", "1999980"),
                ("x-ratelimit-reset-requests", "6ms"),
                ("x-ratelimit-reset-tokens", "0s"),
            ],
            Vendor::Anthropic => &[
                ("request-id", &identifier),
                ("anthropic-organization-id", name),
                ("anthropic-ratelimit-requests-limit", "4000"),
                ("anthropic-ratelimit-requests-remaining", "3999"),
                ("anthropic-ratelimit-tokens-limit", "480000"),
                ("anthropic-ratelimit-tokens-remaining", "480000"),
            ],
            Vendor::Gemini => &[("server", "scaffolding on HTTPServer2"), ("x-gemini-service-tier", "standard")],
            Vendor::Bedrock => &[("x-amzn-requestid", &identifier)],
            Vendor::Cohere => &[("server", "envoy"), ("x-debug-trace-id", &identifier)],
        };
        for (name, value) in common {
            if !reply.headers.iter().any(|(present, _)| present == name) {
                reply = reply.header(name, value);
            }
        }
        reply
    }
}

type Scripts = Mutex<HashMap<String, VecDeque<Reply>>>;

fn script(scripts: &Scripts, key: &str, replies: impl IntoIterator<Item = Reply>) {
    let replies: VecDeque<Reply> = replies.into_iter().collect();
    let mut scripts = scripts.lock().unwrap_or_else(PoisonError::into_inner);
    if replies.is_empty() {
        scripts.remove(key)
    } else {
        scripts.insert(key.to_owned(), replies)
    };
}

fn next(scripts: &Scripts, key: &str) -> Option<Reply> {
    let mut scripts = scripts.lock().unwrap_or_else(PoisonError::into_inner);
    let replies = scripts.get_mut(key)?;
    if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
