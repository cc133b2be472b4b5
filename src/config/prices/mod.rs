//! Where prices come from: the files that `prices.files` names, the last one first, then the table that is compiled in.
//!
//! A row that names a provider's entry counts before one of its kind, and those of a kind only where the provider's address is the vendor's own:
//! another's may serve another's models under the same names. What a target says itself is laid over all of this by `check`. Formats are in
//! `file` (our own), `litellm` and `models_dev`; which one a file has is seen from what is in it. `view` tells what came of it.

mod decimal;
mod file;
mod foreign;
mod litellm;
mod models_dev;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod written;

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::catalogue;
use super::error::{ConfigError, Faults, Place as At};
use super::policy::Info;
use super::snapshot::Provider;
use super::tariff::{Place, Tariff};

pub(super) use file::read as read_own;
pub use table::Form;
pub(super) use table::{Found, Table};
pub(super) use view::words;
pub use view::{Overview, overview};
pub(super) use written::{judge, own};

/// LiteLLM's file has 2 MB, that of models.dev 4 (November 2026).
const LARGEST_FILE: u64 = 32 << 20;

/// What happens to calls whose price is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unpriced {
    #[default]
    Allow,
    Warn,
    Refuse,
}

/// Every table there is. The compiled-in one is behind all others.
#[derive(Debug, Default)]
pub struct Prices {
    /// In the order of the configuration.
    files: Vec<Table>,
}

/// Whose model it is.
#[derive(Debug, Clone, Copy)]
pub struct Seller<'a> {
    /// The provider's entry.
    pub provider: &'a str,
    pub kind: &'a str,
    pub at_vendor: bool,
    pub place: Place,
}

// === impl Prices ===

impl Prices {
    /// One file alone, with the compiled-in table behind it: to reckon again what was reckoned.
    pub fn load(path: &Path) -> Result<Prices, Vec<ConfigError>> {
        let name = path.display().to_string();
        let fault = |message: String| vec![ConfigError { file: name.as_str().into(), place: At::default(), message }];
        let bytes = read_bytes(path).map_err(fault)?;
        Prices::of(&bytes, &name)
    }

    /// The same of what is in the file. `name`: what it is called in errors and in its version.
    pub fn of(bytes: &[u8], name: &str) -> Result<Prices, Vec<ConfigError>> {
        Ok(Prices { files: vec![read(bytes, name)?] })
    }

    pub(super) fn new(files: Vec<Table>) -> Prices {
        Prices { files }
    }

    /// What is known of a provider's model, by the provider's own name for it. Nothing for a pattern.
    pub fn known(&self, provider: &Provider, model: &str) -> (Info, Option<Arc<Tariff>>) {
        self.known_of(Seller::of(provider), model)
    }

    /// What a model of a provider costs; `None` also for one of a provider that is configured no more and that no table names.
    pub fn of_provider(&self, provider: Option<&Arc<Provider>>, name: &str, model: &str) -> Option<Arc<Tariff>> {
        let gone = Seller { provider: name, kind: "", at_vendor: false, place: Place::Global };
        self.known_of(provider.map_or(gone, |provider| Seller::of(provider)), model).1
    }

    pub fn known_of(&self, seller: Seller<'_>, model: &str) -> (Info, Option<Arc<Tariff>>) {
        if model.contains('*') {
            return (Info::default(), None);
        }
        let name = lower(model);
        let name = own_name(seller.kind, &name);
        let named = self.files.iter().rev().filter_map(|table| table.find_at(seller.provider, name));
        let of_kind = self.files.iter().rev().filter(|_| seller.at_vendor).filter_map(|t| t.find(seller.kind, name));
        let (mut info, mut tariff, mut window) = (Info::default(), None, None);
        for found in named.chain(of_kind) {
            info = info.over(found.row.info);
            window = window.or(found.row.context_at_least);
            tariff = tariff.or_else(|| found.tariff(seller.place).map(Arc::clone));
        }
        if seller.at_vendor
            && let Some(known) = catalogue::lookup_at(seller.kind, model, seller.place)
        {
            info = info.over(known.info);
            tariff = tariff.or(known.tariff);
        }
        info.context = info.context.or(window);
        (info, tariff)
    }

    /// Of all tables together: `2026-11-21`, `2026-11-21+local.yaml:5f3a09c1`.
    pub fn version(&self) -> String {
        let mut version = catalogue::version().to_owned();
        for table in &self.files {
            version.push('+');
            version.push_str(&table.version);
        }
        version
    }
}

// === impl Seller ===

impl<'a> Seller<'a> {
    pub fn of(provider: &'a Provider) -> Seller<'a> {
        // Vertex' global endpoint has this name, those of regions and groups of regions others
        let regional = &*provider.kind == "vertex" && &*provider.base.host != "aiplatform.googleapis.com";
        Seller {
            provider: provider.name.as_str(),
            kind: &provider.kind,
            at_vendor: provider.at_vendor,
            place: if regional { Place::Regional } else { Place::Global },
        }
    }
}

// === names ===

pub(super) fn lower(model: &str) -> Cow<'_, str> {
    match model.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(model.to_ascii_lowercase()),
        false => Cow::Borrowed(model),
    }
}

/// Without what may stand before a model in a path.
pub(super) fn own_name<'a>(kind: &str, model: &'a str) -> &'a str {
    match kind {
        "gemini" | "vertex" | "bedrock" => model.rsplit_once('/').map_or(model, |(_, name)| name),
        _ => model,
    }
}

// === reading ===

/// The bytes of a file, bounded. `Err`: why not.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > LARGEST_FILE => Err(format!("is larger than {} MiB", LARGEST_FILE >> 20)),
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("cannot be read: {}", error.kind())),
    }
}

/// `name`: as it stands in errors; its last part is that of the version.
pub(super) fn read(bytes: &[u8], name: &str) -> Result<Table, Vec<ConfigError>> {
    let mut faults = Faults::new(name);
    let table = match std::str::from_utf8(bytes) {
        Ok(text) => {
            let short = name.rsplit(['/', '\\']).next().unwrap_or(name);
            read_text(text, name, written::version(short, bytes), &mut faults)
        }
        Err(error) => {
            faults.wrong(
                At::default(),
                "",
                format!("is not UTF-8 text (byte {}): save it as UTF-8", error.valid_up_to()),
            );
            None
        }
    };
    match table {
        Some(table) if faults.is_empty() => Ok(table),
        Some(_) | None => Err(faults.into_errors()),
    }
}

fn read_text(text: &str, name: &str, version: Arc<str>, faults: &mut Faults) -> Option<Table> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (litellm, models_dev) = (litellm::Rows::of(text), models_dev::Sellers::of(text));
    match (litellm, models_dev) {
        (Some(rows), _) => rows.read(version, faults),
        (None, Some(sellers)) => sellers.read(version, faults),
        (None, None) => read_own(text, name, version, &|kind, name| Some(catalogue::lookup(kind, name)?.info), faults),
    }
}
