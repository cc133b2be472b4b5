//! Well-known models: what each can do, and its list price.
//!
//! The truth is `conf/models.yaml`, compiled in; its head says what each key means and where the numbers are from. Owned here are the
//! form of the table and how a name finds its row. It knows nothing of the configuration: that an entry's own words count first, and
//! that a price holds only at the vendor's own address, is the caller's business.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::policy::Info;
use super::snapshot::Pattern;
use super::tariff::{Card, Rates, Tariff, Tier};
use super::vendors::{self, VendorAuth};
use crate::units::{NanoUsd, PicoUsdPerToken, Tokens};

/// Of USD per million tokens: as many decimals as `PicoUsdPerToken` has.
const DECIMALS: usize = 6;

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub info: Info,
    pub tariff: Option<Arc<Tariff>>,
    /// Where the vendor publishes its prices.
    pub source: &'static str,
    /// The day of the newest source that was read: `2026-11-18`.
    pub checked: &'static str,
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    kinds: HashMap<String, FileKind>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKind {
    like: Option<String>,
    #[serde(default)]
    also: Vec<String>,
    source: String,
    rows: Vec<FileRow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRow {
    #[serde(rename = "match")]
    patterns: Vec<String>,
    like: Option<String>,
    #[serde(default)]
    info: FileInfo,
    #[serde(default)]
    prices: Vec<FilePrice>,
    #[serde(default)]
    regional: u8,
    checked: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileInfo {
    context: Option<u64>,
    max_output: Option<u64>,
    vision: Option<bool>,
    audio: Option<bool>,
    documents: Option<bool>,
    tools: Option<bool>,
    json_schema: Option<bool>,
    reasoning: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePrice {
    #[serde(default, rename = "for")]
    names: Vec<String>,
    input: Option<Decimal>,
    cached_input: Option<Decimal>,
    cache_write_5m: Option<Decimal>,
    cache_write_1h: Option<Decimal>,
    output: Option<Decimal>,
    audio_input: Option<Decimal>,
    audio_output: Option<Decimal>,
    searches: Option<Decimal>,
    #[serde(default)]
    above: Vec<FileTier>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTier {
    tokens: u64,
    input: Option<Decimal>,
    cached_input: Option<Decimal>,
    cache_write_5m: Option<Decimal>,
    cache_write_1h: Option<Decimal>,
    output: Option<Decimal>,
}

/// A decimal number as text, in millionths: USD per million tokens are 1e-12 USD a token, USD per thousand are 1e-9 USD each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Decimal(i64);

/// The table, as it is searched.
struct Table {
    version: Arc<str>,
    kinds: HashMap<String, Kind>,
    /// The kind behind the name of a vendor that stands before a slash.
    vendors: HashMap<String, String>,
}

struct Kind {
    source: Arc<str>,
    like: Option<String>,
    rows: Vec<Row>,
    /// Of names that stand written out, the place in `rows`.
    names: HashMap<String, usize>,
    /// The one with the most other characters than `*` first.
    patterns: Vec<(Pattern, usize)>,
}

struct Row {
    checked: Arc<str>,
    info: Info,
    /// The first that fits counts.
    prices: Vec<Priced>,
}

struct Priced {
    /// None: every name of the row.
    names: Vec<Pattern>,
    tariff: Arc<Tariff>,
}

/// What the prices of a row have in common.
struct Origin<'a> {
    version: &'a Arc<str>,
    source: &'a Arc<str>,
    checked: &'a Arc<str>,
    regional_percent: u8,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let text = include_str!("../../conf/models.yaml");
    serde_saphyr::from_str(text)
        .map_err(|error| error.to_string())
        .and_then(Table::build)
        .expect("conf/models.yaml is compiled in, and a test reads it")
});

/// What is known of a vendor's model, by the vendor's own name for it: dated, with a Bedrock prefix, behind a path (`models/..`, an
/// ARN). Elsewhere, `vendor/model` is known as that vendor's, but not its price, which is the other one's to make. `None` for a
/// pattern.
pub fn lookup(kind: &str, model: &str) -> Option<Known> {
    if model.contains('*') {
        return None;
    }
    let model = match model.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(model.to_ascii_lowercase()),
        false => Cow::Borrowed(model),
    };
    TABLE.known(kind, own_name(kind, &model)).or_else(|| TABLE.elsewhere(kind, &model))
}

/// The id of this state of the catalogue: a date.
pub fn version() -> &'static str {
    &TABLE.version
}

/// Without what may stand before a model in a path.
fn own_name<'a>(kind: &str, model: &'a str) -> &'a str {
    match kind {
        "gemini" | "vertex" | "bedrock" => model.rsplit_once('/').map_or(model, |(_, name)| name),
        _ => model,
    }
}

// === impl Table ===

impl Table {
    fn build(file: File) -> Result<Table, String> {
        let mut table = Table { version: file.version.into(), kinds: HashMap::new(), vendors: HashMap::new() };
        let mut borrowed = Vec::new();
        for (name, kind) in file.kinds {
            for vendor in kind.also {
                table.vendors.insert(vendor, name.clone());
            }
            for (at, row) in kind.rows.iter().enumerate() {
                if let Some(like) = &row.like {
                    borrowed.push((name.clone(), at, like.clone(), row.info));
                }
            }
            table.kinds.insert(name, Kind::build(&table.version, kind.source.into(), kind.like, kind.rows)?);
        }
        for (kind, at, like, own) in borrowed {
            let found = like.split_once('/').and_then(|(kind, name)| table.row(kind, name)).map(|(_, row)| row.info);
            let info = found.ok_or_else(|| format!("there is no {like}"))?;
            if let Some(row) = table.kinds.get_mut(&kind).and_then(|kind| kind.rows.get_mut(at)) {
                row.info = own.over(info);
            }
        }
        Ok(table)
    }

    fn row(&self, kind: &str, name: &str) -> Option<(&Kind, &Row)> {
        let own = self.kinds.get(kind)?;
        match (own.row(name), &own.like) {
            (Some(row), _) => Some((own, row)),
            (None, Some(like)) => self.kinds.get(like).and_then(|kind| Some((kind, kind.row(name)?))),
            (None, None) => None,
        }
    }

    fn known(&'static self, kind: &str, name: &str) -> Option<Known> {
        let (kind, row) = self.row(kind, name)?;
        let priced = row.prices.iter().find(|priced| priced.holds_for(name));
        Some(Known {
            info: row.info,
            tariff: priced.map(|priced| Arc::clone(&priced.tariff)),
            source: &kind.source,
            checked: &row.checked,
        })
    }

    /// `vendor/model`, perhaps with a variant behind a colon and dots in its version (`anthropic/claude-sonnet-4.5:beta`).
    fn elsewhere(&'static self, kind: &str, model: &str) -> Option<Known> {
        // what runs on this machine has the limits that its operator gave it
        if vendors::all().get(kind)?.auth == VendorAuth::None {
            return None;
        }
        let (vendor, name) = model.split_once('/')?;
        let kind = self.vendors.get(vendor)?;
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        let known = self.known(kind, name).or_else(|| self.known(kind, &name.replace('.', "-")))?;
        Some(Known { tariff: None, ..known })
    }
}

// === impl Kind ===

impl Kind {
    fn build(version: &Arc<str>, source: Arc<str>, like: Option<String>, rows: Vec<FileRow>) -> Result<Kind, String> {
        let mut kind = Kind { source, like, rows: Vec::new(), names: HashMap::new(), patterns: Vec::new() };
        for (at, row) in rows.into_iter().enumerate() {
            for text in &row.patterns {
                if text.contains('*') {
                    kind.patterns.push((Pattern::new(text), at));
                } else if kind.names.insert(text.clone(), at).is_some() {
                    return Err(format!("{text} is there twice"));
                }
            }
            let checked: Arc<str> = row.checked.into();
            let origin = Origin { version, source: &kind.source, checked: &checked, regional_percent: row.regional };
            let prices = row.prices.into_iter().map(|price| Priced::build(price, &origin)).collect();
            kind.rows.push(Row { checked, info: row.info.over(Info::default()), prices });
        }
        let others = |pattern: &Pattern| pattern.as_str().bytes().filter(|b| *b != b'*').count();
        kind.patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(others(pattern)));
        Ok(kind)
    }

    fn row(&self, name: &str) -> Option<&Row> {
        let at = self.names.get(name).copied();
        let fitting = || self.patterns.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, at)| *at);
        self.rows.get(at.or_else(fitting)?)
    }
}

// === impl Priced ===

impl Priced {
    fn build(file: FilePrice, origin: &Origin<'_>) -> Priced {
        let rates = Rates {
            input: file.input.map(Decimal::per_token),
            cached_input: file.cached_input.map(Decimal::per_token),
            cache_write_5m: file.cache_write_5m.map(Decimal::per_token),
            cache_write_1h: file.cache_write_1h.map(Decimal::per_token),
            output: file.output.map(Decimal::per_token),
            audio_input: file.audio_input.map(Decimal::per_token),
            audio_output: file.audio_output.map(Decimal::per_token),
            search: file.searches.map(|thousand| NanoUsd(thousand.0)),
            ..Rates::default()
        };
        let tariff = Tariff {
            standard: Card { rates, tiers: file.above.into_iter().map(tier).collect() },
            services: Vec::new(),
            regional_percent: origin.regional_percent,
            version: Arc::clone(origin.version),
            source: Arc::clone(origin.source),
            checked: Some(Arc::clone(origin.checked)),
        };
        Priced { names: file.names.iter().map(|text| Pattern::new(text)).collect(), tariff: Arc::new(tariff) }
    }

    fn holds_for(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|pattern| pattern.matches(name))
    }
}

fn tier(file: FileTier) -> Tier {
    let rates = Rates {
        input: file.input.map(Decimal::per_token),
        cached_input: file.cached_input.map(Decimal::per_token),
        cache_write_5m: file.cache_write_5m.map(Decimal::per_token),
        cache_write_1h: file.cache_write_1h.map(Decimal::per_token),
        output: file.output.map(Decimal::per_token),
        ..Rates::default()
    };
    Tier { above: Tokens(file.tokens), rates }
}

// === impl FileInfo ===

impl FileInfo {
    /// What it says, and where it says nothing, the other one's.
    fn over(self, other: Info) -> Info {
        Info {
            context: self.context.or(other.context),
            max_output: self.max_output.or(other.max_output),
            vision: self.vision.or(other.vision),
            audio: self.audio.or(other.audio),
            documents: self.documents.or(other.documents),
            tools: self.tools.or(other.tools),
            json_schema: self.json_schema.or(other.json_schema),
            reasoning: self.reasoning.or(other.reasoning),
        }
    }
}

// === impl Decimal ===

impl Decimal {
    fn per_token(self) -> PicoUsdPerToken {
        PicoUsdPerToken(self.0)
    }
}

impl TryFrom<String> for Decimal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no price: write for example \"2.50\", with at most {DECIMALS} decimals");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
        let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !number(whole) || !number(fraction) || fraction.len() > DECIMALS {
            return Err(wrong());
        }
        format!("{whole}{fraction:0<DECIMALS$}").parse().map(Decimal).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests;
