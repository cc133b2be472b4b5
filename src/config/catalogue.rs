//! Well-known models: what each can do, and its list price.
//!
//! The truth is `conf/models.yaml`, compiled in; its head says what each key means and where the numbers are from. Its form is that of every file
//! of prices (`prices::file`). It knows nothing of the configuration: that an entry's own words count first, and that a price holds only at the
//! vendor's own address, is the caller's business.

use std::sync::{Arc, LazyLock};

use super::error::Faults;
use super::policy::Info;
use super::prices::{Found, Table, lower, own_name, read_own};
use super::tariff::{Place, Tariff};
use super::vendors::{self, VendorAuth};

const NAME: &str = "conf/models.yaml";

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub info: Info,
    pub tariff: Option<Arc<Tariff>>,
    /// Where the vendor publishes its prices.
    pub source: Arc<str>,
    /// The day of the newest source that was read: `2026-11-18`.
    pub checked: Option<Arc<str>>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| read(include_str!("../../conf/models.yaml")).expect("it is compiled in, and a test reads it"));

/// What is known of a vendor's model at the vendor's global endpoint, by the vendor's own name for it: dated, with a Bedrock prefix, behind a
/// path (`models/..`, an ARN). Elsewhere, `vendor/model` is known as that vendor's, but not its price, which is the other one's to make. `None`
/// for a pattern.
pub fn lookup(kind: &str, model: &str) -> Option<Known> {
    lookup_at(kind, model, Place::Global)
}

/// The same at the vendor's endpoints of a region.
pub fn lookup_at(kind: &str, model: &str, place: Place) -> Option<Known> {
    if model.contains('*') {
        return None;
    }
    let model = lower(model);
    let own = TABLE.find(kind, own_name(kind, &model)).map(|found| known(found, place));
    own.or_else(|| elsewhere(kind, &model))
}

/// The id of this state of the catalogue: a date.
pub fn version() -> &'static str {
    &TABLE.version
}

/// Rows with a price.
pub fn priced() -> usize {
    TABLE.priced()
}

fn read(text: &str) -> Result<Table, String> {
    let version = text.lines().find_map(|line| line.strip_prefix("version: ")).ok_or("it has no version")?;
    let mut faults = Faults::new(NAME);
    let table = read_own(text, NAME, version.trim().into(), &|_, _| None, &mut faults);
    match table {
        Some(table) if faults.is_empty() => Ok(table),
        Some(_) | None => Err(faults.into_errors().iter().map(|e| format!("{e}\n")).collect()),
    }
}

fn known(found: Found<'_>, place: Place) -> Known {
    Known {
        info: found.row.info,
        tariff: found.tariff(place).map(Arc::clone),
        source: Arc::clone(&found.kind.source),
        checked: found.row.checked.clone(),
    }
}

/// `vendor/model`, perhaps with a variant behind a colon and dots in its version (`anthropic/claude-sonnet-4.5:beta`).
fn elsewhere(kind: &str, model: &str) -> Option<Known> {
    // what runs on this machine has the limits that its operator gave it
    if vendors::all().get(kind)?.auth == VendorAuth::None {
        return None;
    }
    let (vendor, name) = model.split_once('/')?;
    let kind = TABLE.vendors.get(vendor)?;
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    let found = TABLE.find(kind, name).or_else(|| TABLE.find(kind, &name.replace('.', "-")))?;
    Some(Known { tariff: None, ..known(found, Place::Global) })
}

#[cfg(test)]
mod tests;
