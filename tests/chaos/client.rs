//! A client that reads every byte: the request it sends, and what HTTP says of the answer. Grammar: RFC 9112, and no more lenient.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::family::{Family, Mode};
use crate::support::KEY;
use crate::support::raw::{parse_chunks, parse_head};

/// What clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Chat,
    Responses,
    Messages,
    Gemini,
}

/// What makes a request large.
pub const PADDING: u8 = b'~';

/// What came back.
#[derive(Debug, Default)]
pub struct Heard {
    pub raw: Vec<u8>,
    /// How the connection ended: `closed`, `reset`, `silent`.
    pub ended: &'static str,
    pub took: Duration,
}

/// An answer that is whole in its framing.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

// === impl Client ===

impl Client {
    pub fn name(self) -> &'static str {
        match self {
            Client::Chat => "chat",
            Client::Responses => "responses",
            Client::Messages => "messages",
            Client::Gemini => "gemini",
        }
    }

    /// Who is asked in the client's own dialect.
    pub fn family(self) -> Family {
        match self {
            Client::Chat => Family::Chat,
            Client::Responses => Family::Responses,
            Client::Messages => Family::Anthropic,
            Client::Gemini => Family::Gemini,
        }
    }

    /// A request, whole. `padding`: so many bytes more in its text.
    pub fn request(self, model: &str, id: &str, mode: Mode, padding: usize) -> Vec<u8> {
        let stream = mode == Mode::Streamed;
        let text = format!("Hello there{}", char::from(PADDING));
        let (path, body) = match self {
            Client::Chat => (
                "/v1/chat/completions".to_owned(),
                json!({"model": model, "stream": stream, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}),
            ),
            Client::Responses => ("/v1/responses".to_owned(), json!({"model": model, "stream": stream, "input": text})),
            Client::Messages => (
                "/v1/messages".to_owned(),
                json!({"model": model, "stream": stream, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}),
            ),
            Client::Gemini => (
                match mode {
                    Mode::Whole => format!("/v1beta/models/{model}:generateContent"),
                    Mode::Streamed => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
                },
                json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
            ),
        };
        // not through the serializer, which takes its time
        let body = body.to_string().replacen(char::from(PADDING), &char::from(PADDING).to_string().repeat(padding), 1);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: gateway.example\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n\
             x-client-request-id: {id}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head, body].concat().into_bytes()
    }
}

/// Send a request and read until the gateway closes the connection, or until `patience` is over.
pub async fn ask(gateway: SocketAddr, request: &[u8], patience: Duration) -> Heard {
    let begun = Instant::now();
    let mut heard = Heard { ended: "silent", ..Heard::default() };
    let asking = async {
        let mut socket = TcpStream::connect(gateway).await.expect("the gateway listens");
        let _ = socket.set_nodelay(true);
        socket.write_all(request).await.expect("it is taken");
        loop {
            match socket.read_buf(&mut heard.raw).await {
                Ok(0) => return "closed",
                Ok(_) => {}
                Err(_) => return "reset",
            }
        }
    };
    if let Ok(ended) = timeout(patience, asking).await {
        heard.ended = ended;
    }
    heard.took = begun.elapsed();
    heard
}

// === impl Heard ===

impl Heard {
    /// The answer, or why it is none.
    pub fn answer(&self) -> Result<Answer, String> {
        let Some((line, headers, head)) = parse_head(&self.raw)? else {
            return Err("no whole header section".to_owned());
        };
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse::<u16>().ok())
            .filter(|status| (200..600).contains(status))
            .ok_or_else(|| format!("status line {line:?}"))?;
        let values =
            |name: &str| headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
        let rest = &self.raw[head..];
        let (body, length) = match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
            ([length], []) => {
                let length: usize = length.parse().map_err(|_| format!("content-length {length:?}"))?;
                let body = rest.get(..length).ok_or_else(|| format!("torn: {} of {length} bytes", rest.len()))?;
                (body.to_vec(), length)
            }
            ([], ["chunked"]) => parse_chunks(rest)?.ok_or("torn: no last chunk")?,
            (lengths, codings) => return Err(format!("framing: length {lengths:?}, coding {codings:?}")),
        };
        match rest.len() - length {
            0 => Ok(Answer { status, headers, body }),
            more => Err(format!("{more} bytes behind the end of the answer")),
        }
    }

    /// For a report: the bytes, as they are, within reason.
    pub fn shown(&self) -> String {
        let text = self.raw.escape_ascii().to_string().replace("\\r\\n", "\r\n").replace("\\n", "\n");
        match text.char_indices().nth(2_000) {
            Some((at, _)) => format!("{}... ({} bytes)", &text[..at], self.raw.len()),
            None => text,
        }
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}
