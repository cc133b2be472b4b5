//! What the simulator saw: every call with its headers, its body and how it ended, so that a test may assert on the upstream's
//! own account instead of the gateway's.
//!
//! Bounded by calls and by bytes: the oldest go first. It does not judge a call.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde_json::Value;
use tokio::sync::Notify;

/// One call as received.
#[derive(Debug, Clone)]
pub struct Call {
    /// Counts from 1, over all calls of this simulator.
    pub number: u64,
    /// The TCP connection it came over, counted from 1: two calls with the same number shared one.
    pub connection: u64,
    pub at: Instant,
    pub method: String,
    pub path_and_query: String,
    /// In the order of arrival, names in lower case; repeated names stand together. Bytes outside UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// Empty until the whole body has arrived.
    pub body: Bytes,
    /// Bytes of the body so far.
    pub received: u64,
    /// Of the answer, once its head was handed to the connection.
    pub status: Option<StatusCode>,
    pub outcome: Outcome,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Running,
    /// The whole answer was handed to the connection.
    Completed,
    /// The other side went away first, so long after the call's head had arrived.
    Cancelled(Duration),
    /// The simulator itself broke the connection off, as it was told to.
    Cut,
}

/// Totals since the start; they survive [`Record::clear`] and the bound on calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub connections: u64,
    pub calls: u64,
    pub completed: u64,
    pub cancelled: u64,
    pub cut: u64,
}

/// The simulator's memory.
#[derive(Debug)]
pub struct Record {
    ledger: Mutex<Ledger>,
    changed: Notify,
    connections: AtomicU64,
    most_calls: usize,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Ledger {
    calls: VecDeque<Call>,
    /// Bytes of all bodies in `calls`.
    bytes: usize,
    counters: Counters,
}

/// Writes one call's fate. Dropped without a word it means that the other side went away.
#[derive(Debug)]
pub(super) struct Ticket {
    record: Arc<Record>,
    number: u64,
    opened: Instant,
    settled: bool,
}

// === impl Call ===

impl Call {
    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

// === impl Record ===

impl Record {
    pub(super) fn new(most_calls: usize, most_bytes: usize) -> Self {
        Self {
            ledger: Mutex::default(),
            changed: Notify::new(),
            connections: AtomicU64::new(0),
            most_calls: most_calls.max(1),
            most_bytes,
        }
    }

    /// The calls still remembered, oldest first. Bodies are shared, not copied.
    pub fn calls(&self) -> Vec<Call> {
        self.ledger().calls.iter().cloned().collect()
    }

    /// The latest call.
    pub fn last(&self) -> Option<Call> {
        self.ledger().calls.back().cloned()
    }

    pub fn counters(&self) -> Counters {
        let connections = self.connections.load(Ordering::Relaxed);
        Counters { connections, ..self.ledger().counters }
    }

    /// Forgets the calls; numbers and counters go on.
    pub fn clear(&self) {
        let mut ledger = self.ledger();
        ledger.calls.clear();
        ledger.bytes = 0;
    }

    /// Waits until `test` holds of the remembered calls; false when it did not within the time.
    pub async fn wait_for(&self, within: Duration, test: impl Fn(&[Call]) -> bool) -> bool {
        let watch = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if test(self.ledger().calls.make_contiguous()) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(within, watch).await.is_ok()
    }

    pub(super) fn connected(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn open(self: &Arc<Self>, connection: u64, head: &Parts) -> Ticket {
        let opened = Instant::now();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut ledger = self.ledger();
        ledger.counters.calls += 1;
        let number = ledger.counters.calls;
        ledger.calls.push_back(Call {
            number,
            connection,
            at: opened,
            method: head.method.to_string(),
            path_and_query: head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: Bytes::new(),
            received: 0,
            status: None,
            outcome: Outcome::Running,
        });
        self.trim(&mut ledger);
        drop(ledger);
        self.changed.notify_waiters();
        Ticket { record: Arc::clone(self), number, opened, settled: false }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trim(&self, ledger: &mut Ledger) {
        while ledger.calls.len() > self.most_calls || (ledger.bytes > self.most_bytes && ledger.calls.len() > 1) {
            let Some(oldest) = ledger.calls.pop_front() else { return };
            ledger.bytes = ledger.bytes.saturating_sub(oldest.body.len());
        }
    }

    fn update(&self, number: u64, change: impl FnOnce(&mut Call, &mut usize)) {
        let mut ledger = self.ledger();
        let Ledger { calls, bytes, .. } = &mut *ledger;
        if let Some(call) = calls.iter_mut().rev().find(|call| call.number == number) {
            change(call, bytes);
        }
        self.trim(&mut ledger);
        drop(ledger);
        self.changed.notify_waiters();
    }
}

// === impl Ticket ===

impl Ticket {
    pub(super) fn received(&self, length: usize) {
        self.record.update(self.number, |call, _| call.received += length as u64);
    }

    pub(super) fn body(&self, body: Bytes) {
        self.record.update(self.number, |call, bytes| {
            *bytes += body.len();
            call.body = body;
        });
    }

    pub(super) fn answered(&self, status: StatusCode) {
        self.record.update(self.number, |call, _| call.status = Some(status));
    }

    pub(super) fn complete(&mut self) {
        self.settle(Outcome::Completed);
    }

    /// Notes the cut and gives the error that makes hyper break the connection off.
    pub(super) fn cut(&mut self) -> io::Error {
        self.settle(Outcome::Cut);
        io::Error::new(io::ErrorKind::ConnectionAborted, "the simulator cuts this connection, as told")
    }

    fn settle(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let mut ledger = self.record.ledger();
        match outcome {
            Outcome::Running => {}
            Outcome::Completed => ledger.counters.completed += 1,
            Outcome::Cancelled(_) => ledger.counters.cancelled += 1,
            Outcome::Cut => ledger.counters.cut += 1,
        }
        drop(ledger);
        self.record.update(self.number, |call, _| call.outcome = outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.settle(Outcome::Cancelled(self.opened.elapsed()));
    }
}
