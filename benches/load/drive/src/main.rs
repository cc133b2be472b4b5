//! Opens many event streams at once and measures each chunk's way from the mock to here.
//!
//! `bench-drive URL KEY BODY-FILE STREAMS RAMP-MS DEADLINE-S`
//!
//! Each stream is one connection and one request; the ramp spreads their beginnings. A stream is complete when its `[DONE]` came.
//! One line of JSON comes out, times in microseconds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use memchr::memmem;

static OPEN: AtomicU64 = AtomicU64::new(0);
static OPEN_MAX: AtomicU64 = AtomicU64::new(0);
static CHUNKS: AtomicU64 = AtomicU64::new(0);
static COMPLETE: AtomicU64 = AtomicU64::new(0);
static WITH_USAGE: AtomicU64 = AtomicU64::new(0);

struct Job {
    host: String,
    path: String,
    key: String,
    body: Bytes,
}

/// What all streams measured.
#[derive(Default)]
struct Times {
    first_chunk: Vec<u64>,
    total: Vec<u64>,
    way: Vec<u64>,
    gap: Vec<u64>,
    errors: BTreeMap<String, u64>,
}

/// What one stream measured. Handed in when it is dropped, so that a stream cut by the deadline counts as far as it came.
struct Measured {
    all: Arc<Mutex<Times>>,
    first_chunk: Option<u64>,
    way: Vec<u64>,
    gap: Vec<u64>,
}

struct OpenStream;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, key, file, streams, ramp_ms, deadline_s] = arguments.as_slice() else {
        panic!("usage: bench-drive URL KEY BODY-FILE STREAMS RAMP-MS DEADLINE-S");
    };
    let rest = url.strip_prefix("http://").expect("the URL begins with http://");
    let (host, path) = rest.split_at(rest.find('/').expect("the URL has a path"));
    let body = Bytes::from(std::fs::read(file).expect("the body file can be read"));
    let job = Arc::new(Job { host: host.into(), path: path.into(), key: format!("Bearer {key}"), body });
    let streams: u32 = streams.parse().expect("STREAMS is a number");
    let ramp = Duration::from_millis(ramp_ms.parse().expect("RAMP-MS is a number"));
    let deadline = Duration::from_secs_f64(deadline_s.parse().expect("DEADLINE-S is a number"));

    let times = Arc::new(Mutex::new(Times::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cut = runtime.block_on(all(&job, &times, streams, ramp, deadline));

    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
    let errors: Vec<String> = times.errors.iter().map(|(what, n)| format!("\"{what}\":{n}")).collect();
    println!(
        "{{\"complete\":{},\"cut\":{cut},\"errors\":{{{}}},\"open_max\":{},\"chunks\":{},\"with_usage\":{},{},{},{},{}}}",
        COMPLETE.load(Relaxed),
        errors.join(","),
        OPEN_MAX.load(Relaxed),
        CHUNKS.load(Relaxed),
        WITH_USAGE.load(Relaxed),
        quantiles("first_chunk", &mut times.first_chunk),
        quantiles("total", &mut times.total),
        quantiles("way", &mut times.way),
        quantiles("gap", &mut times.gap),
    );
}

/// Run every stream; returns how many the deadline cut.
async fn all(job: &Arc<Job>, times: &Arc<Mutex<Times>>, streams: u32, ramp: Duration, deadline: Duration) -> u64 {
    let begun = Instant::now();
    let mut running = Vec::with_capacity(streams as usize);
    for index in 0..streams {
        let (job, times) = (Arc::clone(job), Arc::clone(times));
        let at = begun + ramp * index / streams.max(1);
        running.push(tokio::spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            tokio::time::timeout_at((begun + deadline).into(), one(&job, &times)).await
        }));
    }
    let mut cut = 0;
    for stream in running {
        let error = match stream.await {
            Ok(Ok(Ok(()))) => continue,
            Ok(Err(_)) => {
                cut += 1;
                continue;
            }
            Ok(Ok(Err(error))) => error,
            Err(_) => "panic".into(),
        };
        *times.lock().unwrap_or_else(PoisonError::into_inner).errors.entry(error).or_default() += 1;
    }
    cut
}

async fn one(job: &Job, times: &Arc<Mutex<Times>>) -> Result<(), String> {
    let begun = Instant::now();
    let socket = tokio::net::TcpStream::connect(&job.host).await.map_err(|e| format!("connect: {}", e.kind()))?;
    let _ = socket.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|_| "handshake")?;
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let request = Request::post(&job.path)
        .header("host", &job.host)
        .header("content-type", "application/json")
        .header("authorization", &job.key)
        .body(Full::new(job.body.clone()))
        .map_err(|_| "request")?;
    let reply = sender.send_request(request).await.map_err(|_| "no reply")?;
    if reply.status() != 200 {
        return Err(format!("status {}", reply.status().as_u16()));
    }
    let _open = OpenStream::new();
    let mut measured = Measured { all: Arc::clone(times), first_chunk: None, way: vec![], gap: vec![] };
    let ended = read(reply.into_body(), begun, &mut measured).await;
    connection.abort();
    ended?;
    COMPLETE.fetch_add(1, Relaxed);
    drop(measured);
    times.lock().unwrap_or_else(PoisonError::into_inner).total.push(us(begun.elapsed()));
    Ok(())
}

async fn read(mut body: hyper::body::Incoming, begun: Instant, measured: &mut Measured) -> Result<(), &'static str> {
    let mut buffer: Vec<u8> = Vec::with_capacity(1024);
    let mut last: Option<Instant> = None;
    let mut done = false;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err("the body broke off") };
        let Some(data) = frame.data_ref() else { continue };
        buffer.extend_from_slice(data);
        let mut from = 0;
        while let Some(len) = memmem::find(&buffer[from..], b"\n\n") {
            let event = &buffer[from..from + len];
            from += len + 2;
            if let Some(sent) = sending_time(event) {
                let now = Instant::now();
                measured.first_chunk.get_or_insert(us(now - begun));
                measured.gap.extend(last.map(|last| us(now - last)));
                measured.way.push(now_us().saturating_sub(sent));
                last = Some(now);
                CHUNKS.fetch_add(1, Relaxed);
            } else if memmem::find(event, b"[DONE]").is_some() {
                done = true;
            } else if memmem::find(event, b"\"usage\":{").is_some() {
                WITH_USAGE.fetch_add(1, Relaxed);
            }
        }
        buffer.drain(..from);
    }
    if done { Ok(()) } else { Err("no end marker") }
}

/// The time that the mock put into a chunk.
fn sending_time(event: &[u8]) -> Option<u64> {
    let mark = b"\"content\":\"t";
    let at = memmem::find(event, mark)? + mark.len();
    std::str::from_utf8(event.get(at..at + 16)?).ok()?.parse().ok()
}

fn us(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, us)
}

fn quantiles(name: &str, values: &mut [u64]) -> String {
    values.sort_unstable();
    let at = |q: f64| values.get((values.len().saturating_sub(1) as f64 * q).round() as usize).copied().unwrap_or(0);
    format!("\"{name}\":{{\"p50\":{},\"p99\":{},\"max\":{}}}", at(0.5), at(0.99), at(1.0))
}

// === impl Measured, OpenStream ===

impl Drop for Measured {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.first_chunk.extend(self.first_chunk);
        all.way.append(&mut self.way);
        all.gap.append(&mut self.gap);
    }
}

impl OpenStream {
    fn new() -> Self {
        OPEN_MAX.fetch_max(OPEN.fetch_add(1, Relaxed) + 1, Relaxed);
        OpenStream
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Relaxed);
    }
}
