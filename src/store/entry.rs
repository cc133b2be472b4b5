//! What is written down of an attempt: before it begins, when it has ended, and as it is read back. Types only.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use crate::chat::Usage;
use crate::id::RequestId;
use crate::units::NanoUsd;

/// One try at one target, before its first byte goes out. `(call, attempt, at)` is its name: a client may send the same request id again and
/// again, so `call` and `attempt` alone are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub call: RequestId,
    /// From 1.
    pub attempt: u32,
    /// When it began; whole microseconds are kept. A budget's period is that of this moment.
    pub at: Timestamp,
    /// Name of the virtual key; `None` in open mode.
    pub key: Option<Arc<str>>,
    /// `team`, `project`, `agent`, `user` have columns of their own; all are kept.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// As the client asked for it; `None` where no model is named.
    pub model: Option<Arc<str>>,
    pub provider: Arc<str>,
    pub upstream_model: Option<Arc<str>>,
    pub operation: Cow<'static, str>,
    pub stream: bool,
    /// The worst case; what an orphan costs. `None`: unpriced.
    pub hold: Option<NanoUsd>,
    pub price_version: Option<Arc<str>>,
}

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it was reserved, to the letter.
    pub reservation: Reservation,
    pub ended: Timestamp,
    /// The attempt's own; 0 when there was none.
    pub status: u16,
    /// `ok`, `cancelled`, `503`, `timeout`, `broken_off`, ...
    pub outcome: Cow<'static, str>,
    /// This attempt was the client's answer.
    pub answered: bool,
    /// As reported, or as estimated when `estimated`.
    pub usage: Option<Usage>,
    pub service_tier: Option<Arc<str>>,
    pub images: u32,
    pub searches: u32,
    /// `None`: unpriced.
    pub cost: Option<NanoUsd>,
    pub estimated: bool,
    /// The rates the cost was made with, as JSON text. The same `Arc` for the same text costs least.
    pub rates: Option<Arc<str>>,
    pub first_token_ms: Option<u32>,
    pub duration_ms: u32,
}

/// How far a row has come. A later state replaces an earlier one, never the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It runs, or nobody has found out yet that it does not.
    Reserved = 0,
    /// Its process ended without settling it: it is billed at its worst case.
    Orphaned = 1,
    Settled = 2,
}

/// A row of the ledger. What only an end can tell is `None` while it is reserved, and where it was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    pub state: State,
    pub reservation: Reservation,
    pub ended: Option<Timestamp>,
    pub status: Option<u16>,
    pub outcome: Option<String>,
    pub answered: bool,
    pub usage: Option<Usage>,
    pub service_tier: Option<String>,
    pub images: u32,
    pub searches: u32,
    pub cost: Option<NanoUsd>,
    pub estimated: bool,
    /// Read with one call's rows; `None` in exports.
    pub rates: Option<Arc<str>>,
    /// Name of the rates among all that were used.
    pub tariff: Option<i64>,
    pub first_token_ms: Option<u32>,
    pub duration_ms: Option<u32>,
}

// === impl State ===

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Reserved => "reserved",
            State::Orphaned => "orphaned",
            State::Settled => "settled",
        }
    }

    pub(super) fn number(self) -> i64 {
        match self {
            State::Reserved => 0,
            State::Orphaned => 1,
            State::Settled => 2,
        }
    }

    pub(super) fn of(number: i64) -> State {
        match number {
            0 => State::Reserved,
            1 => State::Orphaned,
            _ => State::Settled,
        }
    }
}
