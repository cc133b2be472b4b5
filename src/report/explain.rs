//! One call's attempts, and the arithmetic of what each was booked with, done again with the tariff that was kept beside it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::usd;
use crate::config::tariff::{Applied, Place};
use crate::meter::{self, Line, ServiceTier, Used};
use crate::store::{Reader, State, StoreError, StoredEntry};
use crate::units::{NanoUsd, PicoUsd, Tokens};

/// All attempts of a call. A client may give many calls the same id: then they are those of all.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    pub call: String,
    /// Of the attempts that have a price.
    pub cost_usd: PicoUsd,
    pub cost_nano_usd: NanoUsd,
    /// Attempts without a price.
    pub unpriced: u64,
    /// The oldest first.
    pub attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    pub attempt: u32,
    pub at: Timestamp,
    pub ended: Option<Timestamp>,
    /// `reserved`, `orphaned`, `settled`.
    pub state: &'static str,
    pub key: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub model: Option<String>,
    pub provider: String,
    pub upstream_model: Option<String>,
    pub operation: String,
    pub stream: bool,
    /// The provider's own; 0: none came.
    pub status: Option<u16>,
    pub outcome: Option<String>,
    /// It was the client's answer.
    pub answered: bool,
    pub first_token_ms: Option<u32>,
    pub duration_ms: Option<u32>,
    pub usage: Option<Counts>,
    /// The numbers are ours, not the provider's.
    pub estimated: bool,
    /// Put aside before it was made: the worst case. `None`: it had no price.
    pub hold_usd: Option<PicoUsd>,
    pub hold_nano_usd: Option<NanoUsd>,
    /// `None`: nobody knows what it cost, or it runs.
    pub cost_usd: Option<PicoUsd>,
    pub cost_nano_usd: Option<NanoUsd>,
    pub basis: Basis,
    pub price: Option<Price>,
    /// They sum up to the cost, exactly. None where there is no cost.
    pub lines: Vec<Line>,
}

/// What the cost was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Usage, by the tariff.
    Usage,
    /// What had been put aside, since nobody knows what was used.
    WorstCase,
    /// The provider did nothing for it.
    Nothing,
    /// There is no price.
    Unpriced,
    /// It has not ended.
    Running,
    /// The tariff it was booked with is not in the ledger: the amount is as it was booked.
    Unknown,
}

/// Tokens, and what is paid by the piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Cached tokens included.
    pub input_tokens: Tokens,
    pub cache_read_tokens: Tokens,
    pub cache_write_5m_tokens: Tokens,
    pub cache_write_1h_tokens: Tokens,
    pub input_audio_tokens: Tokens,
    pub output_tokens: Tokens,
    pub reasoning_tokens: Tokens,
    pub output_audio_tokens: Tokens,
    pub server_tool_calls: u32,
    pub images: u32,
    pub searches: u32,
}

/// Which tariff it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Price {
    /// The state of the table it is from.
    pub version: String,
    /// Where the numbers are published, or who wrote them down.
    pub source: Option<String>,
    /// The day they were last read there.
    pub checked: Option<String>,
    pub service_tier: &'static str,
    /// The call asked to stay in a region.
    pub in_region: bool,
}

/// `None`: no call has this id.
pub async fn explain(reader: &Reader, call: &str) -> Result<Option<Explained>, StoreError> {
    let found = reader.call(call).await?;
    if found.is_empty() {
        return Ok(None);
    }
    let cost = found.iter().filter_map(|entry| entry.cost).fold(0i64, |sum, cost| sum.saturating_add(cost.0));
    let unpriced = found.iter().filter(|entry| entry.state != State::Reserved && entry.cost.is_none()).count();
    Ok(Some(Explained {
        call: call.to_owned(),
        cost_usd: usd(NanoUsd(cost)),
        cost_nano_usd: NanoUsd(cost),
        unpriced: u64::try_from(unpriced).unwrap_or(u64::MAX),
        attempts: found.iter().map(Attempt::of).collect(),
    }))
}

/// What an attempt used, as it was priced. `None`: nobody knows.
pub(super) fn used(entry: &StoredEntry, place: Place) -> Option<Used> {
    Some(Used {
        usage: entry.usage?,
        service_tier: entry.service_tier.as_deref().map_or(ServiceTier::Default, ServiceTier::from_word),
        place,
        images: entry.images,
        searches: entry.searches,
        ..Used::default()
    })
}

/// How a cost came about, and its lines. `applied`: the tariff it was booked with.
pub(super) fn arithmetic(entry: &StoredEntry, applied: Option<&Applied<'_>>) -> (Basis, Vec<Line>) {
    let Some(cost) = entry.cost else {
        let basis = if entry.state == State::Reserved { Basis::Running } else { Basis::Unpriced };
        return (basis, Vec::new());
    };
    let used = used(entry, applied.map(|applied| applied.place).unwrap_or_default());
    if let (Some(applied), Some(used)) = (applied, used) {
        let lines = meter::lines(&applied.tariff, &used);
        let sum = lines.iter().fold(0i128, |sum, line| sum.saturating_add(line.amount.0));
        if !lines.is_empty() && PicoUsd(sum) == usd(cost) {
            return (Basis::Usage, lines);
        }
    }
    let whole = |what| Line { what, count: 1, rate: usd(cost), billed_as: None, amount: usd(cost) };
    match entry.reservation.hold {
        Some(hold) if hold == cost && (entry.estimated || entry.state == State::Orphaned) => {
            (Basis::WorstCase, vec![whole("worst_case")])
        }
        _ if cost.0 == 0 => (Basis::Nothing, Vec::new()),
        Some(_) | None => (Basis::Unknown, vec![whole("booked")]),
    }
}

// === impl Attempt ===

impl Attempt {
    fn of(entry: &StoredEntry) -> Attempt {
        let r = &entry.reservation;
        let applied = entry.rates.as_deref().and_then(Applied::read);
        let (basis, lines) = arithmetic(entry, applied.as_ref());
        let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
        Attempt {
            attempt: r.attempt,
            at: r.at,
            ended: entry.ended,
            state: entry.state.name(),
            key: text(&r.key),
            tags: r.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            model: text(&r.model),
            provider: r.provider.to_string(),
            upstream_model: text(&r.upstream_model),
            operation: r.operation.to_string(),
            stream: r.stream,
            status: entry.status,
            outcome: entry.outcome.clone(),
            answered: entry.answered,
            first_token_ms: entry.first_token_ms,
            duration_ms: entry.duration_ms,
            usage: Counts::of(entry),
            estimated: entry.estimated,
            hold_usd: r.hold.map(usd),
            hold_nano_usd: r.hold,
            cost_usd: entry.cost.map(usd),
            cost_nano_usd: entry.cost,
            basis,
            price: Price::of(entry, applied.as_ref()),
            lines,
        }
    }
}

// === impl Counts ===

impl Counts {
    fn of(entry: &StoredEntry) -> Option<Counts> {
        let usage = entry.usage?;
        Some(Counts {
            input_tokens: usage.input,
            cache_read_tokens: usage.cache_read,
            cache_write_5m_tokens: usage.cache_write_5m,
            cache_write_1h_tokens: usage.cache_write_1h,
            input_audio_tokens: usage.input_audio,
            output_tokens: usage.output,
            reasoning_tokens: usage.reasoning,
            output_audio_tokens: usage.output_audio,
            server_tool_calls: usage.server_tool_calls,
            images: entry.images,
            searches: entry.searches,
        })
    }
}

// === impl Price ===

impl Price {
    fn of(entry: &StoredEntry, applied: Option<&Applied<'_>>) -> Option<Price> {
        let tariff = applied.map(|applied| &applied.tariff);
        let version = entry.reservation.price_version.as_deref().or(tariff.map(|tariff| &*tariff.version))?;
        Some(Price {
            version: version.to_owned(),
            source: tariff.map(|tariff| tariff.source.to_string()),
            checked: tariff.and_then(|tariff| tariff.checked.as_deref()).map(str::to_owned),
            service_tier: entry.service_tier.as_deref().map_or(ServiceTier::Default, ServiceTier::from_word).name(),
            in_region: applied.is_some_and(|applied| applied.place == Place::Regional),
        })
    }
}
