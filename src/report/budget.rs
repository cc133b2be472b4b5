//! Budgets as they stand.

use jiff::Timestamp;
use serde::Serialize;

use super::usd;
use crate::quota::{Quotas, Shown};
use crate::units::{NanoUsd, PicoUsd};

#[derive(Debug, Clone, Serialize)]
pub struct Budgets {
    /// Whether the counters that replicas share can be reached; always, where they are in this process.
    pub connected: bool,
    /// By name.
    pub budgets: Vec<BudgetShown>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetShown {
    /// Of its rule, as sixteen hexadecimal digits: stable over reloads and replicas.
    pub id: String,
    /// `budget of user=ada per month`.
    pub name: String,
    /// The same for all that the rule holds for: `budget of user=* per month`.
    pub label: String,
    /// `key=ci`, `team=search`.
    pub subject: String,
    pub period: String,
    pub resets_at: Option<Timestamp>,
    /// It is only watched.
    pub shadow: bool,
    pub spent_usd: PicoUsd,
    pub spent_nano_usd: NanoUsd,
    /// Put aside for running calls.
    pub held_usd: PicoUsd,
    pub held_nano_usd: NanoUsd,
    pub ceiling_usd: PicoUsd,
    pub ceiling_nano_usd: NanoUsd,
    /// Neither spent nor put aside.
    pub remaining_usd: PicoUsd,
    pub remaining_nano_usd: NanoUsd,
}

// === impl Budgets ===

impl Budgets {
    pub fn of(quotas: &Quotas) -> Budgets {
        let budgets = quotas.show().into_iter().map(BudgetShown::from).collect();
        Budgets { connected: quotas.is_connected(), budgets }
    }
}

// === impl BudgetShown ===

impl From<Shown> for BudgetShown {
    fn from(shown: Shown) -> Self {
        let Shown { id, name, label, subject, spent, held, ceiling, period, resets_at, shadow } = shown;
        let remaining = NanoUsd(ceiling.0.saturating_sub(spent.0).saturating_sub(held.0).max(0));
        BudgetShown {
            id: format!("{id:016x}"),
            name,
            label,
            subject,
            period,
            resets_at,
            shadow,
            spent_usd: usd(spent),
            spent_nano_usd: spent,
            held_usd: usd(held),
            held_nano_usd: held,
            ceiling_usd: usd(ceiling),
            ceiling_nano_usd: ceiling,
            remaining_usd: usd(remaining),
            remaining_nano_usd: remaining,
        }
    }
}
