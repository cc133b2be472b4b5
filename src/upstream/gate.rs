//! The gate in front of one target (provider, credential, model): what the provider says is left of its rate limits, and the queue of those
//! who wait for more. Fair between keys by their weight, bounded in depth and time.

use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::config::policy::Admission;

#[derive(Debug, Default)]
pub struct Gate {}

/// Who asks to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Calls of one key share their turn.
    pub key: u64,
    /// Keys get turns in this proportion.
    pub weight: u32,
    /// Estimate of input and output.
    pub tokens: u64,
    /// The call gives up then.
    pub deadline: Instant,
}

/// Leave to call. Dropped when the answer has ended.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    /// Place in the queue when the call came, from 1; 0: it did not wait.
    pub position: u32,
    pub waited: Duration,
}

/// No leave: the queue is full, or the wait would be longer than the call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// When it is worth asking again.
    pub retry_after: Duration,
    pub depth: u32,
}

/// What is known of a provider's limits, for status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rates {
    pub requests_limit: Option<u64>,
    pub requests_left: Option<u64>,
    pub tokens_limit: Option<u64>,
    pub tokens_left: Option<u64>,
    /// Milliseconds until what is left is whole again.
    pub reset_ms: Option<u64>,
    pub in_flight: u32,
    pub waiting: u32,
}

// === impl Gate ===

impl Gate {
    /// Wait for a turn.
    pub async fn enter(&self, _admission: &Admission, _claim: Claim) -> Result<Ticket, Full> {
        Ok(Ticket { position: 0, waited: Duration::ZERO })
    }

    /// How long a call of so many tokens would wait if it came now, roughly. Zero: it would not.
    pub fn wait(&self, _admission: &Admission, _tokens: u64, _now: Instant) -> Duration {
        Duration::ZERO
    }

    /// What a reply says of the limits: its header section, and the wait a refusal asked for.
    pub fn learn(&self, _headers: &HeaderMap, _status: u16, _retry_after: Option<Duration>, _now: Instant) {}

    pub fn rates(&self, _now: Instant) -> Rates {
        Rates::default()
    }
}
