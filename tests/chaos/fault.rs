//! What an upstream can do wrong: a row each, with what the client has to make of it.
//!
//! A new one is one row: its name, the class of its outcome for whole answers and for streams, and its script. The rows stand in
//! `fault::http` (the connection, the head, the framing) and in `fault::answer` (status, body, stream).

mod answer;
mod http;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::family::{FIRST, Family, KEY, Mode, PRIVATE, Parts, Words};
use super::upstream::Step;
use super::wire;

/// What has to come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The whole answer.
    Served,
    /// An error, for nothing had been said: another target is asked where there is one.
    Error,
    /// This status, and another target is asked.
    Next(u16),
    /// This status, and nobody else is asked: it is the request's fault.
    Final(u16),
    /// Some text, and behind it an error event.
    Cut,
    /// The whole text; then the proper end, or an error event.
    Ended,
    /// The whole answer, or an error as if nothing had been said.
    Lenient,
}

/// What is done to whoever connects.
type Script = Arc<dyn Fn(&Scene) -> Vec<Step> + Send + Sync>;

/// A row.
#[derive(Clone)]
pub struct Fault {
    pub name: String,
    /// `None`: makes no sense there.
    pub whole: Option<Class>,
    pub streamed: Option<Class>,
    pub play: Script,
    /// Only where events are text.
    pub sse_only: bool,
    /// The port is bound and does not listen.
    pub refuses: bool,
    /// Bytes more in the request.
    pub padding: usize,
    /// A field that the client must be shown with this value.
    pub shows: Option<(&'static str, &'static str)>,
    /// It asked to be left alone for longer than a call may take.
    pub rests: bool,
}

/// Who misbehaves, and towards which wish.
#[derive(Debug, Clone)]
pub struct Scene {
    pub family: Family,
    pub mode: Mode,
    pub address: SocketAddr,
    pub words: Words,
}

pub fn all() -> Vec<Fault> {
    let mut rows = http::rows();
    rows.extend(answer::rows());
    rows
}

// === impl Fault ===

impl Fault {
    fn new(name: impl Into<String>, play: impl Fn(&Scene) -> Vec<Step> + Send + Sync + 'static) -> Fault {
        Fault {
            name: name.into(),
            whole: None,
            streamed: None,
            play: Arc::new(play),
            sse_only: false,
            refuses: false,
            padding: 0,
            shows: None,
            rests: false,
        }
    }

    fn both(self, class: Class) -> Fault {
        Fault { whole: Some(class), streamed: Some(class), ..self }
    }

    fn of(self, whole: Class, streamed: Class) -> Fault {
        Fault { whole: Some(whole), streamed: Some(streamed), ..self }
    }

    fn whole(self, class: Class) -> Fault {
        Fault { whole: Some(class), ..self }
    }

    fn streamed(self, class: Class) -> Fault {
        Fault { streamed: Some(class), ..self }
    }

    pub fn class(&self, mode: Mode) -> Option<Class> {
        match mode {
            Mode::Whole => self.whole,
            Mode::Streamed => self.streamed,
        }
    }
}

// === impl Scene ===

impl Scene {
    pub fn new(family: Family, mode: Mode) -> Scene {
        Scene { family, mode, address: SocketAddr::from(([127, 0, 0, 1], 0)), words: FIRST }
    }

    /// Status line and fields, without framing and without the blank line. It holds what must not reach a client.
    pub fn head(&self, status: &str, content_type: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nServer: {PRIVATE}\r\nSet-Cookie: a={PRIVATE}\r\nVia: 1.1 {}\r\nContent-Type: {content_type}\r\n",
            self.address
        )
    }

    /// The head of an answer as it should be.
    pub fn ok(&self) -> String {
        self.head("200 OK", self.family.content_type(self.mode))
    }

    /// A reply with its length.
    pub fn sized(&self, status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("{}Content-Length: {}\r\n\r\n", self.head(status, content_type), body.len());
        [head.as_bytes(), body].concat()
    }

    /// The answer in parts; a whole one is cut into some as well.
    pub fn parts(&self) -> Parts {
        if self.mode == Mode::Streamed {
            return self.family.stream(&self.words);
        }
        let body = self.family.whole(&self.words);
        let piece = |from: usize, to: usize| body[body.len() * from / 8..body.len() * to / 8].to_vec();
        Parts {
            opening: vec![piece(0, 1)],
            output: vec![piece(1, 3), piece(3, 5), piece(5, 6)],
            finish: vec![piece(6, 7)],
            end: vec![piece(7, 8)],
        }
    }

    pub fn body(&self) -> Vec<u8> {
        self.parts().all().concat()
    }

    /// A reply whose body comes in these chunks, and no last one.
    pub fn chunked(&self, pieces: &[Vec<u8>]) -> Vec<u8> {
        let head = format!("{}Transfer-Encoding: chunked\r\n\r\n", self.ok());
        [head.into_bytes(), wire::chunks(pieces)].concat()
    }

    /// All as it should be, and the connection is kept.
    pub fn good(&self) -> Vec<u8> {
        match self.mode {
            Mode::Whole => self.sized("200 OK", "application/json", &self.body()),
            Mode::Streamed => [&self.chunked(&self.parts().all()), wire::LAST_CHUNK].concat(),
        }
    }

    /// A stream as it should be, but for these frames.
    pub fn ended(&self, pieces: &[Vec<u8>]) -> Vec<u8> {
        [&self.chunked(pieces), wire::LAST_CHUNK].concat()
    }

    /// An error's body; it names the provider's address and the credential.
    pub fn error(&self, status: u16, word: &str, say: &str) -> Vec<u8> {
        let key = if self.family == Family::Bedrock { "AWS" } else { KEY };
        self.family
            .error(status, word, &format!("{say} ({key} at http://{}/v1)", self.address))
            .to_string()
            .into_bytes()
    }
}

/// A reply to a request, and the next request is awaited.
fn reply(bytes: Vec<u8>) -> Vec<Step> {
    vec![Step::Request, Step::Write(bytes)]
}

/// A reply to a request, then this.
fn then(bytes: Vec<u8>, last: Step) -> Vec<Step> {
    vec![Step::Request, Step::Write(bytes), SETTLE, last]
}

/// So that what was written is not lost in a reset.
const SETTLE: Step = Step::Wait(Duration::from_millis(40));
