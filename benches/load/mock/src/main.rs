//! A provider that costs next to nothing, OpenAI-compatible and Anthropic's, so that a gateway in front of it is always the expensive part.
//!
//! `bench-mock [ADDRESS [THREADS]]`, by default `127.0.0.1:9000` and 2.
//!
//! - `POST /v1/chat/completions`: a fixed reply, or an event stream when the body says `"stream": true`
//! - `POST /v1/messages`: the same text in Anthropic's words, in as many chunks and at the same pace
//! - `GET /config?delay_ms=&chunks=&gap_ms=`: how requests from now on are answered
//! - `GET /stats`: counters since the last `?reset=1`
//!
//! Every streamed chunk carries the time of its sending (`t` and 16 digits, microseconds since the epoch), so that the client can
//! measure each chunk's own way.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use memchr::memmem;
use tokio::time::{Instant, Sleep};

static DELAY_MS: AtomicU64 = AtomicU64::new(0);
static CHUNKS: AtomicU64 = AtomicU64::new(100);
static GAP_MS: AtomicU64 = AtomicU64::new(0);

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static BODY_BYTES: AtomicU64 = AtomicU64::new(0);
static STREAMS: AtomicU64 = AtomicU64::new(0);
static OPEN: AtomicU64 = AtomicU64::new(0);
static OPEN_MAX: AtomicU64 = AtomicU64::new(0);
static UPSTREAM_KEY_SEEN: AtomicU64 = AtomicU64::new(0);
static CLIENT_KEY_SEEN: AtomicU64 = AtomicU64::new(0);

const UPSTREAM_KEY: &[u8] = b"upstream-key";
const CLIENT_KEY: &[u8] = b"sk-bench";

const REPLY: &str = concat!(
    r#"{"id":"chatcmpl-mock0000000000000000000000","object":"chat.completion","created":1760000000,"#,
    r#""model":"gpt-4o-mini","service_tier":"default","system_fingerprint":"fp_mock000000","choices":[{"index":0,"#,
    r#""message":{"role":"assistant","content":"This is a fixed answer of a mock upstream, long enough to look like "#,
    r#"a short completion that a user would read in a chat window, and always the same.","refusal":null,"annotations":[]},"#,
    r#""logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":231,"completion_tokens":34,"total_tokens":265,"#,
    r#""prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"#,
    r#""audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}"#
);
const TAIL: &str = concat!(
    r#"data: {"id":"chatcmpl-mock0000000000000000000000","object":"chat.completion.chunk","created":1760000000,"#,
    r#""model":"gpt-4o-mini","system_fingerprint":"fp_mock000000","choices":[{"index":0,"delta":{},"logprobs":null,"#,
    r#""finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-mock0000000000000000000000","object":"chat.completion.chunk","created":1760000000,"#,
    r#""model":"gpt-4o-mini","system_fingerprint":"fp_mock000000","choices":[],"#,
    r#""usage":{"prompt_tokens":231,"completion_tokens":100,"total_tokens":331}}"#,
    "\n\ndata: [DONE]\n\n"
);

const MESSAGE: &str = concat!(
    r#"{"id":"msg_mock0000000000000000000000","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","#,
    r#""text":"This is a fixed answer of a mock upstream, long enough to look like "#,
    r#"a short completion that a user would read in a chat window, and always the same."}],"stop_reason":"end_turn","#,
    r#""stop_sequence":null,"usage":{"input_tokens":231,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"#,
    r#""cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":34,"service_tier":"standard"}}"#
);
const MESSAGE_HEAD: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_mock0000000000000000000000","type":"message","role":"assistant","#,
    r#""model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":231,"#,
    r#""cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1,"service_tier":"standard"}}}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    "\n\n"
);
const MESSAGE_TAIL: &str = concat!(
    "event: content_block_stop\n",
    r#"data: {"type":"content_block_stop","index":0}"#,
    "\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":100}}"#,
    "\n\nevent: message_stop\n",
    r#"data: {"type":"message_stop"}"#,
    "\n\n"
);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    OpenAi,
    Anthropic,
}

/// The body of a stream: a chunk every `gap`, then the end.
struct Stream {
    speaks: Speaks,
    sent: u64,
    chunks: u64,
    gap: Duration,
    next: Instant,
    wait: Option<Pin<Box<Sleep>>>,
    done: bool,
}

type Reply = Response<Either<Full<Bytes>, Stream>>;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments
        .next()
        .map_or_else(|| ([127, 0, 0, 1], 9000).into(), |a| a.parse().expect("the first argument is an address"));
    let threads = arguments.next().map_or(2, |n| n.parse().expect("the second argument is a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    runtime.expect("a runtime").block_on(serve(address)).expect("the address is free");
}

async fn serve(address: SocketAddr) -> std::io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(8192)?;
    socket.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(socket.into())?;
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        let _ = connection.set_nodelay(true);
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(connection), service_fn(answer))
                .await;
        });
    }
}

async fn answer(request: Request<hyper::body::Incoming>) -> Result<Reply, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    match request.uri().path() {
        "/v1/chat/completions" => Ok(complete(request, Speaks::OpenAi).await),
        "/v1/messages" => Ok(complete(request, Speaks::Anthropic).await),
        "/config" => {
            for (name, setting) in [("delay_ms", &DELAY_MS), ("chunks", &CHUNKS), ("gap_ms", &GAP_MS)] {
                if let Some(value) = parameter(query, name) {
                    setting.store(value, Relaxed);
                }
            }
            Ok(text(StatusCode::OK, "text/plain", "ok\n"))
        }
        "/stats" => {
            let stats = text(StatusCode::OK, "application/json", stats());
            if parameter(query, "reset") == Some(1) {
                for counter in [&REQUESTS, &BODY_BYTES, &STREAMS, &OPEN_MAX, &UPSTREAM_KEY_SEEN, &CLIENT_KEY_SEEN] {
                    counter.store(0, Relaxed);
                }
            }
            Ok(stats)
        }
        _ => Ok(text(StatusCode::NOT_FOUND, "text/plain", "no such path\n")),
    }
}

async fn complete(request: Request<hyper::body::Incoming>, speaks: Speaks) -> Reply {
    REQUESTS.fetch_add(1, Relaxed);
    let header = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
    let (bearer, key) = (header(AUTHORIZATION.as_str()), header("x-api-key"));
    let ours = match speaks {
        Speaks::OpenAi => bearer.and_then(|value| value.strip_prefix(b"Bearer ")),
        Speaks::Anthropic => key,
    };
    if ours == Some(UPSTREAM_KEY) {
        UPSTREAM_KEY_SEEN.fetch_add(1, Relaxed);
    }
    if [bearer, key].into_iter().flatten().any(|value| memmem::find(value, CLIENT_KEY).is_some()) {
        CLIENT_KEY_SEEN.fetch_add(1, Relaxed);
    }
    let Ok(body) = request.into_body().collect().await else {
        return text(StatusCode::BAD_REQUEST, "text/plain", "the body broke off\n");
    };
    let body = body.to_bytes();
    BODY_BYTES.fetch_add(body.len() as u64, Relaxed);
    let delay = DELAY_MS.load(Relaxed);
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    if !wants_stream(&body) {
        let reply = if speaks == Speaks::OpenAi { REPLY } else { MESSAGE };
        return text(StatusCode::OK, "application/json", reply);
    }
    let mut reply = Response::new(Either::Right(Stream::new(speaks, CHUNKS.load(Relaxed), GAP_MS.load(Relaxed))));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

/// Found from the end, where clients put it: parsing a body of a megabyte would cost more than some gateways do.
fn wants_stream(body: &[u8]) -> bool {
    memmem::rfind(body, b"\"stream\"").is_some_and(|at| {
        let rest = &body[at + b"\"stream\"".len()..];
        rest.trim_ascii_start().strip_prefix(b":").is_some_and(|v| v.trim_ascii_start().starts_with(b"true"))
    })
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Either::Left(Full::new(body.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn parameter(query: &str, name: &str) -> Option<u64> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

fn stats() -> String {
    let counters = [
        ("requests", &REQUESTS),
        ("body_bytes", &BODY_BYTES),
        ("streams", &STREAMS),
        ("open", &OPEN),
        ("open_max", &OPEN_MAX),
        ("upstream_key_seen", &UPSTREAM_KEY_SEEN),
        ("client_key_seen", &CLIENT_KEY_SEEN),
    ];
    let members: Vec<String> = counters.iter().map(|(name, n)| format!("\"{name}\":{}", n.load(Relaxed))).collect();
    format!("{{{}}}\n", members.join(","))
}

fn now_us() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros())
}

// === impl Stream ===

impl Stream {
    fn new(speaks: Speaks, chunks: u64, gap_ms: u64) -> Self {
        STREAMS.fetch_add(1, Relaxed);
        OPEN_MAX.fetch_max(OPEN.fetch_add(1, Relaxed) + 1, Relaxed);
        let gap = Duration::from_millis(gap_ms);
        Stream { speaks, sent: 0, chunks, gap, next: Instant::now(), wait: None, done: false }
    }

    /// The next chunk, stamped.
    fn chunk(&self) -> String {
        let now = now_us();
        match self.speaks {
            Speaks::OpenAi => {
                let role = if self.sent == 0 { r#""role":"assistant","# } else { "" };
                format!(
                    "data: {{\"id\":\"chatcmpl-mock0000000000000000000000\",\"object\":\"chat.completion.chunk\",\
                     \"created\":1760000000,\"model\":\"gpt-4o-mini\",\"system_fingerprint\":\"fp_mock000000\",\
                     \"choices\":[{{\"index\":0,\"delta\":{{{role}\"content\":\"t{now:016} token\"}},\"logprobs\":null,\
                     \"finish_reason\":null}}]}}\n\n"
                )
            }
            Speaks::Anthropic => {
                let head = if self.sent == 0 { MESSAGE_HEAD } else { "" };
                format!(
                    "{head}event: content_block_delta\n\
                     data: {{\"type\":\"content_block_delta\",\"index\":0,\
                     \"delta\":{{\"type\":\"text_delta\",\"text\":\"t{now:016} token\"}}}}\n\n"
                )
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Relaxed);
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let me = &mut *self;
        if me.done {
            return Poll::Ready(None);
        }
        if let Some(wait) = me.wait.as_mut()
            && wait.as_mut().poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        if me.sent >= me.chunks {
            me.done = true;
            let tail = if me.speaks == Speaks::OpenAi { TAIL } else { MESSAGE_TAIL };
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(tail.as_bytes())))));
        }
        let chunk = me.chunk();
        me.sent += 1;
        if !me.gap.is_zero() {
            me.next += me.gap;
            match me.wait.as_mut() {
                Some(wait) => wait.as_mut().reset(me.next),
                None => me.wait = Some(Box::pin(tokio::time::sleep_until(me.next))),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))))
    }
}
