//! Sockets without manners: a client that sends any bytes, and an upstream that records every byte it is sent.
//!
//! Owns the byte-level view of both sides of the gateway, so that a test judges by what really crossed the wire. It
//! deliberately uses no HTTP library: one would repair, or refuse to send, just what these tests are about. HTTP/2 frames are
//! in `raw::h2`. Grammar: RFC 9112 (messages), RFC 9110 5 (fields).

pub mod h2;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

/// What the upstream answers to every complete request.
pub const UPSTREAM_REPLY: &str = concat!(
    r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"#,
    r#""message":{"role":"assistant","content":"hello","refusal":null},"logprobs":null,"finish_reason":"stop"}],"#,
    r#""usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#
);

/// A value the upstream puts into headers that must not reach a client.
pub const UPSTREAM_SECRET: &str = "upstream-private";

/// The longest any single exchange may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A listener on loopback that records what it is sent and answers complete requests, on kept-alive connections.
pub struct RawUpstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    accept: tokio::task::JoinHandle<()>,
}

/// What the upstream was sent since the last `take`.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every byte, over all connections, in the order of arrival.
    pub bytes: Vec<u8>,
    /// The complete requests among them.
    pub requests: Vec<RawRequest>,
    /// What could not be understood as a request, in words.
    pub broken: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct RawRequest {
    /// `POST /v1/chat/completions HTTP/1.1`
    pub line: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// Decoded, if it came in chunks.
    pub body: Vec<u8>,
    /// Length on the wire, head and framing included.
    pub length: usize,
}

/// One reply as the client got it.
#[derive(Debug, Clone)]
pub struct RawReply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What came back for some bytes.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Interim (1xx) and final replies, in order.
    pub replies: Vec<RawReply>,
    /// The gateway ended the connection.
    pub closed: bool,
    pub raw: Vec<u8>,
}

/// How long to listen for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// A complete final reply.
    Reply,
    /// The end of the connection.
    Close,
}

// === impl RawUpstream ===

impl RawUpstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        let accept = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, shared.clone()));
            }
        });
        RawUpstream { address, seen, accept }
    }

    /// What arrived since the last call.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().expect("no holder of this lock panics"))
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn serve(mut socket: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut buffer = BytesMut::new();
    loop {
        let before = buffer.len();
        match socket.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let mut answers = 0;
        {
            let mut seen = seen.lock().expect("no holder of this lock panics");
            seen.bytes.extend_from_slice(&buffer[before..]);
            loop {
                match parse_request(&buffer) {
                    Ok(None) => break,
                    Ok(Some(request)) => {
                        let _ = buffer.split_to(request.length);
                        seen.requests.push(request);
                        answers += 1;
                    }
                    Err(why) => {
                        seen.broken.push(why);
                        return;
                    }
                }
            }
        }
        for _ in 0..answers {
            if socket.write_all(reply().as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn reply() -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nServer: {UPSTREAM_SECRET}\r\n\
         Set-Cookie: session={UPSTREAM_SECRET}\r\nAccess-Control-Allow-Origin: {UPSTREAM_SECRET}\r\n\
         X-Internal-Host: {UPSTREAM_SECRET}\r\n\r\n{UPSTREAM_REPLY}",
        UPSTREAM_REPLY.len()
    )
}

// === impl RawRequest ===

impl RawRequest {
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
}

// === impl Exchange ===

impl Exchange {
    /// The first reply that is not interim.
    pub fn last(&self) -> Option<&RawReply> {
        self.replies.iter().find(|reply| reply.status >= 200)
    }
}

/// Sends the bytes on a new connection and listens. Never longer than `PATIENCE`.
pub async fn exchange(address: SocketAddr, send: &[u8], until: Until) -> Exchange {
    let socket = TcpStream::connect(address).await.expect("the gateway listens");
    socket.set_nodelay(true).expect("TCP_NODELAY can be set");
    let (mut reader, mut writer) = socket.into_split();
    let send = send.to_vec();
    // Beside the reading: the gateway may answer, and stop reading, before it has all. The half is kept open to the end.
    let writing = tokio::spawn(async move {
        let _ = writer.write_all(&send).await;
        std::future::pending::<()>().await;
        drop(writer);
    });
    let mut exchange = Exchange::default();
    let mut buffer = BytesMut::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answered = exchange.last().is_some();
        let wait = match until {
            Until::Reply if answered => deadline.min(Instant::now() + Duration::from_millis(20)),
            Until::Reply | Until::Close => deadline,
        };
        match timeout_at(wait, reader.read_buf(&mut buffer)).await {
            Err(_) => break,
            Ok(Ok(0) | Err(_)) => {
                exchange.closed = true;
                break;
            }
            Ok(Ok(_)) => {}
        }
        exchange.raw = buffer.to_vec();
        exchange.replies = parse_replies(&buffer);
    }
    writing.abort();
    exchange
}

/// Reads from an open connection until a complete reply (interim or final) is there.
pub async fn next_reply(socket: &mut TcpStream, buffer: &mut BytesMut) -> Option<RawReply> {
    timeout(PATIENCE, async {
        loop {
            if let Some((reply, length)) = parse_reply(buffer) {
                let _ = buffer.split_to(length);
                return Some(reply);
            }
            match socket.read_buf(buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    })
    .await
    .ok()
    .flatten()
}

// === parsing, strict on purpose ===

/// `None`: more bytes are needed. An error: no request at all.
pub fn parse_request(bytes: &[u8]) -> Result<Option<RawRequest>, String> {
    let Some((line, headers, head)) = parse_head(bytes)? else { return Ok(None) };
    let lengths = values(&headers, "content-length");
    let body = match (lengths.as_slice(), values(&headers, "transfer-encoding").as_slice()) {
        ([], []) => Some((Vec::new(), 0)),
        ([length], []) => {
            let length: usize = length.parse().map_err(|_| format!("content-length {length:?}"))?;
            bytes.get(head..head + length).map(|body| (body.to_vec(), length))
        }
        ([], ["chunked"]) => parse_chunks(&bytes[head..])?,
        (lengths, codings) => return Err(format!("content-length {lengths:?} with transfer-encoding {codings:?}")),
    };
    Ok(body.map(|(body, length)| RawRequest { line, headers, body, length: head + length }))
}

pub type Head = (String, Vec<(String, String)>, usize);

pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is not UTF-8".to_owned())?;
    let mut lines = head.split("\r\n");
    let first = lines.next().expect("split gives at least one part").to_owned();
    let mut headers = Vec::new();
    for line in lines {
        match line.split_once(':') {
            Some((name, value)) if is_token(name) && !value.contains(['\r', '\n', '\0']) => {
                headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
            }
            Some(_) | None => return Err(format!("header line {line:?}")),
        }
    }
    Ok(Some((first, headers, end + 4)))
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The decoded body and its length on the wire.
pub fn parse_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = bytes[at..].windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + line]).map_err(|_| "chunk size is not text".to_owned())?;
        let size = usize::from_str_radix(size, 16).map_err(|_| format!("chunk size {size:?}"))?;
        at += line + 2;
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if &chunk[size..] != b"\r\n" {
            return Err("a chunk without its line end, or trailers".to_owned());
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

fn parse_replies(mut bytes: &[u8]) -> Vec<RawReply> {
    let mut replies = Vec::new();
    while !bytes.is_empty()
        && let Some((reply, length)) = parse_reply(bytes)
    {
        replies.push(reply);
        bytes = &bytes[length..];
    }
    replies
}

/// A reply that is no HTTP/1.1 has status 0, which no test expects.
fn parse_reply(bytes: &[u8]) -> Option<(RawReply, usize)> {
    let garbage = || (RawReply { status: 0, headers: Vec::new(), body: bytes.to_vec() }, bytes.len());
    let (line, headers, head) = match parse_head(bytes) {
        Ok(head) => head?,
        Err(_) => return Some(garbage()),
    };
    let Some(status) = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()) else {
        return Some(garbage());
    };
    let chunked = values(&headers, "transfer-encoding") == ["chunked"];
    let (body, length) = match values(&headers, "content-length").first() {
        _ if chunked => match parse_chunks(&bytes[head..]) {
            Ok(chunks) => chunks?,
            Err(_) => return Some(garbage()),
        },
        Some(length) => {
            let Ok(length) = length.parse::<usize>() else { return Some(garbage()) };
            (bytes.get(head..head + length)?.to_vec(), length)
        }
        None => (Vec::new(), 0),
    };
    Some((RawReply { status, headers, body }, head + length))
}
