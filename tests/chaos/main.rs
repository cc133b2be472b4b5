//! Upstreams that misbehave in every way we know of, in every dialect, and what their clients are told.
//!
//! A cell is one misbehaviour (`fault`) of a provider of one dialect (`family`) towards one client, whole or streamed. It is judged by the
//! bytes the client got (`client`, `judge`) and by what the upstream was sent (`upstream`), never by what the gateway says of itself.
//! A bug that is known stands in `known`, and must leave it when it is gone.

mod again;
mod alone;
mod client;
mod crowd;
mod family;
mod fault;
mod group;
mod judge;
mod known;
mod upstream;
mod wire;

#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use the rest")]
mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;

use self::client::{Client, Heard, PADDING};
use self::family::{FAMILIES, Family, KEY, MODEL, Mode, PRIVATE};
use self::fault::{Class, Fault, Scene};
use self::judge::Told;
use self::upstream::{Plays, Record, Upstream};
use crate::support::raw::RawRequest;

/// All of a call, as configured; and what a busy machine may add.
const TOTAL: Duration = Duration::from_secs(8);
const GRACE: Duration = Duration::from_secs(2);
const TIMEOUTS: &str = "connect: 2s, first_byte: 2s, first_token: 3s, write: 2s, idle: 2s, total: 8s";

/// One misbehaviour, one client, one provider.
struct Cell {
    fault: Fault,
    class: Class,
    client: Client,
    family: Family,
    mode: Mode,
    upstream: Upstream,
    /// As the client asks for it, and the name of its provider.
    model: String,
    /// How often it was played before.
    turn: AtomicUsize,
}

/// What is wrong with a cell, and what its client heard.
struct Finding {
    wrong: Vec<String>,
    heard: Heard,
}

/// The setups run one after the other: each is a crowd of its own.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Room for a port and its connections for every cell.
fn raise_the_limit_of_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a limit that lives here.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    assert!(raised, "the limit of open files: {}", std::io::Error::last_os_error());
}

/// Every cell, each with its upstream.
fn cells(all: &[Fault], plays: Plays) -> Vec<Cell> {
    raise_the_limit_of_files();
    let mut pairs: Vec<(Client, Family)> = FAMILIES.iter().map(|family| (Client::Chat, *family)).collect();
    pairs.extend([Client::Responses, Client::Messages, Client::Gemini].map(|client| (client, client.family())));
    let mut cells = Vec::new();
    for fault in all {
        for (client, family) in &pairs {
            for mode in [Mode::Whole, Mode::Streamed] {
                let Some(class) = fault.class(mode) else { continue };
                if fault.sse_only && !family.is_sse() {
                    continue;
                }
                let upstream = Upstream::start(Scene::new(*family, mode), Some(fault.clone()), plays);
                let model = format!("m{}", cells.len());
                let fault = fault.clone();
                let turn = AtomicUsize::new(0);
                cells.push(Cell { fault, class, client: *client, family: *family, mode, upstream, model, turn });
            }
        }
    }
    cells
}

// === impl Finding ===

impl Finding {
    /// Wrong, and perhaps for want of time.
    fn is_late(&self) -> bool {
        let late = |what: &str| self.wrong.iter().any(|wrong| wrong.contains(what));
        late("took") || late("(504)") || late("silent")
    }
}

// === impl Cell ===

impl Cell {
    fn name(&self) -> String {
        let mode = match self.mode {
            Mode::Whole => "whole",
            Mode::Streamed => "streamed",
        };
        format!("{} | {} > {} | {mode}", self.fault.name, self.client.name(), self.family.name())
    }

    /// Of its requests, wherever they go.
    fn id(&self) -> String {
        format!("{}-{}", self.model, self.turn.load(Ordering::SeqCst))
    }

    /// The provider speaks the client's dialect.
    fn spliced(&self) -> bool {
        self.client.family() == self.family
    }

    async fn ask(&self, gateway: SocketAddr, padding: usize) -> Heard {
        let request = self.client.request(&self.model, &self.id(), self.mode, padding);
        client::ask(gateway, &request, TOTAL + GRACE * 2).await
    }

    /// What of the framing, the form and the time is wrong; what was told, where it can be read.
    fn told(&self, heard: &Heard, wrong: &mut Vec<String>) -> Option<Told> {
        if heard.took > TOTAL + GRACE {
            wrong.push(format!("took {:.1} s", heard.took.as_secs_f32()));
        }
        if heard.ended != "closed" {
            wrong.push(format!("the connection ended: {}", heard.ended));
        }
        let address = self.upstream.address.to_string();
        for secret in [KEY, PRIVATE, &address, "POISON"] {
            if memchr::memmem::find(&heard.raw, secret.as_bytes()).is_some() {
                wrong.push(format!("{secret:?} reached the client"));
            }
        }
        let answer = match heard.answer() {
            Ok(answer) => answer,
            Err(why) => {
                wrong.push(why);
                return None;
            }
        };
        if let Some((name, value)) = self.fault.shows.filter(|_| answer.status >= 400)
            && answer.header(name) != Some(value)
        {
            wrong.push(format!("{name} is {:?}, not {value:?}", answer.header(name)));
        }
        judge::told(self.client, self.mode, &answer).map_err(|why| wrong.push(why)).ok()
    }

    /// What the upstream was sent must be whole, its own and true.
    fn sent(&self, record: &Record, wrong: &mut Vec<String>) {
        wrong.extend(record.broken.iter().map(|broken| format!("the upstream got {broken}")));
        if record.drowned {
            wrong.push("all of the flood was taken".to_owned());
        }
        for request in &record.requests {
            if let Err(why) = self.request(request) {
                wrong.push(format!("the upstream got {} with {why}", request.line));
            }
        }
    }

    fn request(&self, request: &RawRequest) -> Result<(), String> {
        request_of(self.family, self.mode, self.upstream.address, request)
    }
}

/// Whether a request is what a provider of this family should get.
fn request_of(family: Family, mode: Mode, address: SocketAddr, request: &RawRequest) -> Result<(), String> {
    let values =
        |name: &str| request.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    let streamed = mode == Mode::Streamed;
    if !request.line.starts_with(&format!("POST /at-{}/", family.name())) {
        return Err("another path".to_owned());
    }
    if values("host") != [address.to_string()] {
        return Err(format!("host {:?}", values("host")));
    }
    let shown = match family {
        Family::Chat | Family::Responses | Family::Cohere => values("authorization") == [format!("Bearer {KEY}")],
        Family::Anthropic => values("x-api-key") == [KEY],
        Family::Gemini => values("x-goog-api-key") == [KEY],
        Family::Bedrock => matches!(values("authorization").as_slice(), [v] if v.starts_with("AWS4-HMAC-SHA256 ")),
    };
    if !shown {
        return Err("no credential, or another one".to_owned());
    }
    let mut text = request.body.clone();
    if text.len() > 100_000 {
        text.retain(|byte| *byte != PADDING);
    }
    let body: Value = serde_json::from_slice(&text).map_err(|e| format!("no JSON: {e}"))?;
    match family {
        Family::Chat | Family::Responses | Family::Anthropic | Family::Cohere => {
            if body["model"] != MODEL || body["stream"].as_bool().unwrap_or_default() != streamed {
                return Err(format!("model {}, stream {}", body["model"], body["stream"]));
            }
        }
        Family::Gemini | Family::Bedrock => {
            let line = request.line.to_ascii_lowercase();
            if !line.contains(MODEL) || line.contains("stream") != streamed {
                return Err("another path".to_owned());
            }
        }
    }
    Ok(())
}
