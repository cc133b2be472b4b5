//! How the ledger and the counters are, and what is left of budgets: for `GET /api/status` and as gauges.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::proxy::Shared;
use super::status::millis;
use crate::telemetry::Metrics;

/// The ledger's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// `false`: there is none (`store: off`).
    pub on: bool,
    /// Attempts that have ended and are not in the database yet, and how long the oldest has been waiting.
    pub behind: u64,
    pub oldest_ms: Option<u64>,
    /// Attempts that run.
    pub open: u64,
    pub journal_bytes: u64,
    /// Ended, and neither in the journal nor in the database.
    pub in_memory: u64,
    pub lost: u64,
    /// Found since the start: what a process that died had reserved.
    pub orphans: u64,
    /// Why the database or the journal failed last; `null` once it works again.
    pub last_error: Option<String>,
}

pub(super) fn ledger(shared: &Shared) -> LedgerStatus {
    let health = shared.ledger.health();
    LedgerStatus {
        on: !shared.ledger.is_off(),
        behind: health.behind,
        oldest_ms: health.oldest.map(millis),
        open: health.open,
        journal_bytes: health.journal_bytes,
        in_memory: health.in_memory,
        lost: health.lost,
        orphans: health.orphans,
        last_error: health.error,
    }
}

/// Of budgets that share a label (one for each user), the one with the least left: a label holds no caller's words.
pub(super) fn set_gauges(shared: &Shared, metrics: &Metrics) {
    let mut left: HashMap<String, i64> = HashMap::new();
    for shown in shared.quotas.show() {
        let remaining = shown.ceiling.0.saturating_sub(shown.spent.0).saturating_sub(shown.held.0).max(0);
        let least = left.entry(shown.label).or_insert(remaining);
        *least = remaining.min(*least);
    }
    for (label, nano) in left {
        // a gauge is a float; the ledger is exact
        metrics.budget_remaining.with_label_values(&[&label]).set(nano as f64 / 1e9);
    }
    metrics.events.reset();
    for counts in shared.events.counts() {
        for (outcome, count) in [("sent", &counts.sent), ("dropped", &counts.dropped), ("failed", &counts.failed)] {
            metrics.events.with_label_values(&[counts.to, outcome]).inc_by(count.load(Ordering::Relaxed));
        }
    }
    let health = shared.ledger.health();
    metrics.ledger_behind.set(i64::try_from(health.behind).unwrap_or(i64::MAX));
    metrics.ledger_oldest.set(health.oldest.unwrap_or_default().as_secs_f64());
    metrics.ledger_journal.set(i64::try_from(health.journal_bytes).unwrap_or(i64::MAX));
}
