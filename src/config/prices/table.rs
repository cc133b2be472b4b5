//! A table of models as it is searched: by kind of provider or by a provider's name, then by the model's name, written out or by a pattern.
//!
//! Owns how a name finds its row. Knows no file format (`file`, `litellm`, `models_dev`) and no order between tables (`prices`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::config::error::Place as At;
use crate::config::policy::Info;
use crate::config::snapshot::Pattern;
use crate::config::tariff::{Place, Tariff};

/// One file, read.
#[derive(Debug)]
pub(in crate::config) struct Table {
    /// `2026-11-21`, `local.yaml:5f3a09c1`.
    pub version: Arc<str>,
    pub form: Form,
    pub kinds: HashMap<String, Kind>,
    /// By the name of a provider's entry.
    pub providers: HashMap<String, Kind>,
    /// The kind behind the name of a vendor that stands before a slash.
    pub vendors: HashMap<String, String>,
    /// Rows that could not be used.
    pub skipped: Vec<Skipped>,
}

/// What a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Own,
    LiteLlm,
    ModelsDev,
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Skipped {
    pub at: At,
    pub name: String,
    pub why: String,
}

/// The models of one vendor.
#[derive(Debug, Default)]
pub(in crate::config) struct Kind {
    pub source: Arc<str>,
    /// What is not found here is looked up there.
    pub like: Option<String>,
    pub rows: Vec<Row>,
    /// Of names that stand written out, the place in `rows`.
    names: HashMap<String, usize>,
    /// The one with the most other characters than `*` first.
    patterns: Vec<(Pattern, usize)>,
}

#[derive(Debug, Default)]
pub(in crate::config) struct Row {
    pub checked: Option<Arc<str>>,
    pub info: Info,
    /// The window is not known, but it holds so many tokens: what one prompt may have.
    pub context_at_least: Option<u64>,
    /// The first that fits counts.
    pub prices: Vec<Priced>,
}

#[derive(Debug)]
pub(in crate::config) struct Priced {
    /// None: every name of the row.
    pub names: Vec<Pattern>,
    pub tariff: Arc<Tariff>,
    /// At endpoints of a region, where these cost something else.
    pub regional: Option<Arc<Tariff>>,
    /// At another vendor's with the same prices of tokens, whose tools and service tiers are its own.
    pub borrowed: Option<Arc<Tariff>>,
}

/// A row, by one of its names.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Found<'a> {
    pub kind: &'a Kind,
    pub row: &'a Row,
    pub priced: Option<&'a Priced>,
    /// It was found in the kind that the one asked for is like.
    pub is_borrowed: bool,
}

// === impl Table ===

impl Table {
    pub fn new(version: Arc<str>, form: Form) -> Table {
        Table {
            version,
            form,
            kinds: HashMap::new(),
            providers: HashMap::new(),
            vendors: HashMap::new(),
            skipped: Vec::new(),
        }
    }

    /// `name` in lower case, without what may stand before it in a path.
    pub fn find(&self, kind: &str, name: &str) -> Option<Found<'_>> {
        let own = self.kinds.get(kind)?;
        let like = || self.kinds.get(own.like.as_deref()?)?.find(name);
        own.find(name).or_else(|| like().map(|found| Found { is_borrowed: true, ..found }))
    }

    pub fn find_at(&self, provider: &str, name: &str) -> Option<Found<'_>> {
        self.providers.get(provider)?.find(name)
    }

    /// Models that have a price.
    pub fn priced(&self) -> usize {
        let rows = self.kinds.values().chain(self.providers.values()).flat_map(|kind| &kind.rows);
        rows.filter(|row| !row.prices.is_empty()).count()
    }
}

// === impl Kind ===

impl Kind {
    pub fn new(source: Arc<str>) -> Kind {
        Kind { source, ..Kind::default() }
    }

    /// `Err`: a name that another row has.
    pub fn add<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, row: Row) -> Result<(), String> {
        let at = self.rows.len();
        self.rows.push(row);
        for name in names {
            let name = name.to_ascii_lowercase();
            if name.contains('*') {
                self.patterns.push((Pattern::new(&name), at));
                continue;
            }
            match self.names.entry(name) {
                Entry::Occupied(other) => return Err(other.key().clone()),
                Entry::Vacant(slot) => {
                    slot.insert(at);
                }
            }
        }
        let others = |pattern: &Pattern| pattern.as_str().bytes().filter(|b| *b != b'*').count();
        self.patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(others(pattern)));
        Ok(())
    }

    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub fn find(&self, name: &str) -> Option<Found<'_>> {
        let at = self.names.get(name).copied();
        let fitting = || self.patterns.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, at)| *at);
        let row = self.rows.get(at.or_else(fitting)?)?;
        Some(Found {
            kind: self,
            row,
            priced: row.prices.iter().find(|priced| priced.holds_for(name)),
            is_borrowed: false,
        })
    }
}

// === impl Found ===

impl<'a> Found<'a> {
    pub fn tariff(&self, place: Place) -> Option<&'a Arc<Tariff>> {
        let priced = self.priced?;
        match (place, &priced.borrowed, &priced.regional) {
            (_, Some(borrowed), _) if self.is_borrowed => Some(borrowed),
            (Place::Regional, _, Some(regional)) => Some(regional),
            (Place::Regional | Place::Global, _, _) => Some(&priced.tariff),
        }
    }
}

// === impl Priced ===

impl Priced {
    /// For every name of its row, everywhere.
    pub fn everywhere(tariff: Tariff) -> Priced {
        Priced { names: Vec::new(), tariff: Arc::new(tariff), regional: None, borrowed: None }
    }

    pub fn holds_for(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|pattern| pattern.matches(name))
    }
}

// === impl Form ===

impl Form {
    pub fn name(self) -> &'static str {
        match self {
            Form::Own => "tollgate",
            Form::LiteLlm => "litellm",
            Form::ModelsDev => "models.dev",
        }
    }
}
