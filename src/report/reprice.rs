//! A period at other prices: what its calls would have cost, beside what they were booked with. Changes nothing.
//!
//! Only what was booked from usage is reckoned anew. What was booked at its worst case, or for nothing, stays as it is: nobody knows what was
//! used. Days of which only sums are left are not among the rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::explain::{Basis, arithmetic, used};
use super::usd;
use crate::config::tariff::{Applied, Tariff};
use crate::meter;
use crate::store::query::Period;
use crate::store::{Reader, State, StoreError, StoredEntry};
use crate::units::{NanoUsd, PicoUsd};

/// Models told apart; names come from clients.
const MODELS: usize = 1000;
const OTHERS: &str = "(others)";
/// Tariffs remembered.
const TARIFFS: usize = 4096;

#[derive(Debug, Clone, Serialize)]
pub struct Repriced {
    pub since: Timestamp,
    pub until: Timestamp,
    /// Of the prices it was reckoned with.
    pub version: String,
    /// By model.
    pub models: Vec<Change>,
    pub total: Change,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    pub model: String,
    /// Attempts that have ended.
    pub attempts: u64,
    /// Of these, reckoned with the other prices.
    pub repriced: u64,
    /// Booked at their worst case or for nothing: as they were.
    pub kept: u64,
    /// Without a price among the others: they count for nothing there.
    pub unpriced: u64,
    pub before_usd: PicoUsd,
    pub before_nano_usd: NanoUsd,
    pub after_usd: PicoUsd,
    pub after_nano_usd: NanoUsd,
    pub difference_usd: PicoUsd,
    pub difference_nano_usd: NanoUsd,
}

/// `tariff`: what a provider's model costs by the other prices, by the names of both.
pub async fn reprice(
    reader: &Reader,
    period: Period,
    version: String,
    tariff: impl Fn(&str, &str) -> Option<Arc<Tariff>>,
) -> Result<Repriced, StoreError> {
    let (since, until) = (period.from, period.to);
    let mut models: BTreeMap<String, Change> = BTreeMap::new();
    let mut total = Change::default();
    let mut booked: HashMap<i64, Option<Applied<'static>>> = HashMap::new();
    let mut pages = reader.pages(period);
    while let Some(page) = pages.next().await? {
        for entry in page.iter().filter(|entry| entry.state != State::Reserved) {
            if let Some(id) = entry.tariff
                && !booked.contains_key(&id)
            {
                if booked.len() >= TARIFFS {
                    booked.clear();
                }
                let text = reader.rates(id).await?;
                booked.insert(id, text.as_deref().and_then(Applied::read));
            }
            let applied = entry.tariff.and_then(|id| booked.get(&id)).and_then(Option::as_ref);
            let r = &entry.reservation;
            let other = r.upstream_model.as_deref().and_then(|model| tariff(&r.provider, model));
            let name = r.model.as_deref().or(r.upstream_model.as_deref()).unwrap_or("-");
            let name = if models.len() < MODELS || models.contains_key(name) { name } else { OTHERS };
            let change = models.entry(name.to_owned()).or_default();
            for change in [change, &mut total] {
                change.add(entry, applied, other.as_deref());
            }
        }
    }
    let named = |(model, change): (String, Change)| Change { model, ..change.told() };
    Ok(Repriced {
        since,
        until,
        version,
        models: models.into_iter().map(named).collect(),
        total: named(("total".to_owned(), total)),
    })
}

// === impl Change ===

impl Change {
    fn add(&mut self, entry: &StoredEntry, applied: Option<&Applied<'_>>, other: Option<&Tariff>) {
        self.attempts += 1;
        let before = entry.cost.unwrap_or_default();
        let (basis, _) = arithmetic(entry, applied);
        let after = match basis {
            Basis::WorstCase | Basis::Nothing | Basis::Unknown | Basis::Running => {
                self.kept += 1;
                before
            }
            Basis::Usage | Basis::Unpriced => {
                let used = used(entry, applied.map(|applied| applied.place).unwrap_or_default());
                match other.zip(used).and_then(|(tariff, used)| meter::cost(tariff, &used)) {
                    Some(cost) => {
                        self.repriced += 1;
                        cost
                    }
                    None => {
                        self.unpriced += 1;
                        NanoUsd(0)
                    }
                }
            }
        };
        self.before_nano_usd.0 = self.before_nano_usd.0.saturating_add(before.0);
        self.after_nano_usd.0 = self.after_nano_usd.0.saturating_add(after.0);
    }

    /// With what follows from the sums.
    fn told(mut self) -> Change {
        self.difference_nano_usd = NanoUsd(self.after_nano_usd.0.saturating_sub(self.before_nano_usd.0));
        self.before_usd = usd(self.before_nano_usd);
        self.after_usd = usd(self.after_nano_usd);
        self.difference_usd = usd(self.difference_nano_usd);
        self
    }
}
