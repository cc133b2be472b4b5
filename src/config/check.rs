//! What was typed, judged: `raw` becomes a `Snapshot`, or a list of all that is wrong. Nothing else makes a snapshot.
//!
//! Every part is checked even when another failed, so that one run of `tollgate check` tells everything. The parts are in
//! files beside this one: `address` (listeners, admin, limits), `provider` (`auth`, `base_url`, `identity`, `offer`, `pool`), `proxy`, `policy`
//! (deadlines, tries, breakers), `model` (`target`, `fallback`), `access` (keys), `issuer` (whose tokens are taken), `quota` (limits, budgets),
//! `store`, `price`, `pem` (files).

mod access;
mod address;
mod auth;
mod base_url;
mod events;
mod fallback;
mod identity;
mod issuer;
mod model;
mod offer;
mod pem;
mod policy;
mod pool;
mod price;
mod provider;
mod proxy;
mod quota;
mod rule;
mod store;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::env::Environment;
use super::error::{ConfigError, Faults, Place, nearest};
use super::policy::{BreakerPolicy, Policy, Retry};
use super::quota::Own;
use super::raw::{self, At};
use super::snapshot::{Admin, Key, OnLoss, Provider, Snapshot, Timeouts};
use super::store::StoreConfig;
use crate::id::ProviderName;
use model::Ground;

/// A configuration without faults, ready to become the one that runs.
#[derive(Debug)]
pub struct Checked {
    snapshot: Snapshot,
    /// Certificates, keys, authorities and prices that were read: a change in one of them matters like a change in the file.
    pub files: Vec<PathBuf>,
}

/// What the checks share.
struct Checker<'a> {
    faults: Faults,
    environment: &'a Environment,
    /// Relative paths begin here: the folder of the file.
    folder: &'a Path,
    files: Vec<PathBuf>,
}

/// What is written at the top and counts where an entry says nothing else.
#[derive(Debug, Clone, Copy)]
struct Defaults {
    timeouts: Timeouts,
    breaker: BreakerPolicy,
}

/// `faults`: what was found so far; when any is left in the end, there is no snapshot.
pub(super) fn check(
    config: raw::Config,
    faults: Faults,
    environment: &Environment,
    folder: &Path,
) -> Result<Checked, Vec<ConfigError>> {
    let mut checker = Checker { faults, environment, folder, files: Vec::new() };
    let snapshot = checker.snapshot(config);
    if !checker.faults.is_empty() {
        return Err(checker.faults.into_errors());
    }
    Ok(Checked { snapshot, files: checker.files })
}

/// The admin port alone.
pub(super) fn admin(
    typed: Option<At<raw::Admin>>,
    faults: Faults,
    environment: &Environment,
) -> Result<Admin, Vec<ConfigError>> {
    let mut checker = Checker { faults, environment, folder: Path::new(""), files: Vec::new() };
    let admin = checker.admin(typed, &[]);
    if checker.faults.is_empty() { Ok(admin) } else { Err(checker.faults.into_errors()) }
}

/// Where the ledger is, alone.
pub(super) fn ledger(
    typed: Option<At<raw::Store>>,
    faults: Faults,
    environment: &Environment,
    folder: &Path,
) -> Result<StoreConfig, Vec<ConfigError>> {
    let mut checker = Checker { faults, environment, folder, files: Vec::new() };
    // of the rest of the file nothing is known here: with a budget it is where it is by default
    let store = checker.store(typed, true);
    if checker.faults.is_empty() { Ok(store) } else { Err(checker.faults.into_errors()) }
}

/// What is written on a key about what it may use, alone.
pub(super) fn own(typed: raw::KeyTerms, faults: Faults) -> Result<Option<Arc<Own>>, Vec<ConfigError>> {
    let environment = Environment::of::<String, String>([]);
    let mut checker = Checker { faults, environment: &environment, folder: Path::new(""), files: Vec::new() };
    let raw::KeyTerms { limits, budget, caps } = typed;
    let own = checker.own(limits, budget, caps, "key", &mut quota::Owns::default());
    if checker.faults.is_empty() { Ok(own) } else { Err(checker.faults.into_errors()) }
}

/// A key that does not stand in the file.
pub(super) fn stored_key(name: &str, typed: raw::KeyWords, faults: Faults) -> Result<Key, Vec<ConfigError>> {
    let environment = Environment::of::<String, String>([]);
    let mut checker = Checker { faults, environment: &environment, folder: Path::new(""), files: Vec::new() };
    let raw::KeyWords { models, opaque, weight, tags, limits, budget, caps } = typed;
    let name = At::nowhere(name.to_owned());
    checker.key_name(&name, "key", &mut HashMap::new());
    let typed = raw::Key { models, opaque, weight, tags, limits, budget, caps, ..raw::Key::default() };
    let key = checker.key(typed, &name.value, "key", &mut quota::Owns::default());
    if checker.faults.is_empty() { Ok(key) } else { Err(checker.faults.into_errors()) }
}

// === impl Checked ===

impl Checked {
    /// The generation it will be once it runs; see `Snapshot::generation`.
    pub fn into_snapshot(mut self, generation: u64) -> Snapshot {
        self.snapshot.generation = generation;
        self.snapshot.loaded_at = jiff::Timestamp::now();
        self.snapshot
    }

    /// To look at; its generation is 0.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

// === impl Checker ===

impl Checker<'_> {
    fn snapshot(&mut self, config: raw::Config) -> Snapshot {
        let auth = config.auth.as_ref();
        let open = config.keys.as_ref().is_none_or(Vec::is_empty)
            && auth.is_none_or(|auth| auth.pepper.is_none() && auth.jwt.as_ref().is_none_or(Vec::is_empty));
        let budgets = has_budgets(&config);
        let listen = self.listeners(config.listen, open);
        let admin = self.admin(config.admin, &listen);
        let server = self.server(config.server.unwrap_or_default());
        let log = self.log(config.log.unwrap_or_default());
        let defaults = Defaults {
            timeouts: self.timeouts(Timeouts::default(), config.timeouts.as_ref(), "timeouts"),
            breaker: self.breaker(BreakerPolicy::default(), config.breaker.as_ref(), "breaker"),
        };

        let entries = config.providers.unwrap_or_default();
        if entries.0.is_empty() {
            let place = Place { line: 1, column: 1 };
            let message = "no provider is configured, so there is nothing to forward to: write for example \
                           \"providers: {openai: {api_key: \"${OPENAI_API_KEY}\"}}\"";
            self.faults.missing(place, "providers", message);
        }
        let mut order = Vec::with_capacity(entries.0.len());
        let mut providers: BTreeMap<ProviderName, Arc<Provider>> = BTreeMap::new();
        for (name, entry) in entries.0 {
            order.push(name.value.clone());
            if let Some(provider) = self.provider(&name, entry, defaults) {
                providers.insert(provider.name.clone(), Arc::new(provider));
            }
        }
        let opaque = self.opaque(config.opaque, &order, &providers);
        let on_loss = config.on_loss.map_or_else(OnLoss::default, on_loss);
        let strict = config.strict.unwrap_or(false);
        let retry = self.retry(&Retry::default(), config.retry.as_ref(), "retry");
        let policy = Arc::new(Policy { retry, ..Policy::default() });
        let (prices, unpriced) = self.prices(config.prices);
        let ground = Ground {
            prices: &prices,
            order: &order,
            providers: &providers,
            policy: Arc::clone(&policy),
            on_loss,
            strict,
        };
        let models = self.models(&config.models.unwrap_or_default().0, &ground);
        let known = rule::Known { models: &models.by_name, wildcards: &models.wildcards, providers: &providers };
        let rules = self.rules(config.routes.unwrap_or_default(), &known);
        let store = Arc::new(self.store(config.store, budgets));
        let events = Arc::new(self.events(config.events.unwrap_or_default()));
        let keys = self.keys(config.keys.unwrap_or_default(), config.auth.unwrap_or_default());
        let quotas = self.quotas(config.limits.unwrap_or_default(), config.budgets.unwrap_or_default(), &order);
        Snapshot {
            generation: 0,
            loaded_at: jiff::Timestamp::UNIX_EPOCH,
            listen,
            admin,
            server,
            log,
            providers,
            opaque,
            models: models.by_name,
            wildcards: models.wildcards,
            policy,
            model_order: models.order,
            rules,
            strict,
            on_loss,
            store,
            events,
            prices: Arc::new(prices),
            unpriced,
            keys,
            quotas: Arc::new(quotas),
        }
    }

    fn opaque(
        &mut self,
        opaque: Option<raw::Opaque>,
        order: &[String],
        providers: &BTreeMap<ProviderName, Arc<Provider>>,
    ) -> Option<Arc<Provider>> {
        let Some(name) = opaque.and_then(|o| o.provider) else {
            return order.iter().filter_map(|n| providers.get(n.as_str())).find(|p| &*p.kind == "openai").cloned();
        };
        if !order.contains(&name.value) {
            self.unknown_provider(&name, &name.quoted(), &name.value, "opaque.provider", order);
        }
        providers.get(name.value.as_str()).cloned()
    }

    fn unknown_provider(&mut self, at: &At<String>, quoted: &str, name: &str, path: &str, order: &[String]) {
        let advice = match nearest(name, order.iter().map(String::as_str)) {
            _ if order.is_empty() => "there is none under \"providers\" yet".to_owned(),
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of {}, or add it", order.join(", ")),
        };
        self.faults.missing(
            at.place,
            "providers",
            format!("{path}: no provider {quoted} under \"providers\": {advice}"),
        );
    }

    /// A path of the file: relative ones begin at the file's folder.
    fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }
}

/// Whether anybody's spending has a ceiling.
fn has_budgets(config: &raw::Config) -> bool {
    let keys = config.keys.iter().flatten().any(|key| key.value.budget.is_some());
    let issuers = config.auth.iter().flat_map(|auth| auth.jwt.iter().flatten()).any(|jwt| jwt.value.budget.is_some());
    keys || issuers || config.budgets.as_ref().is_some_and(|budgets| !budgets.is_empty())
}

fn on_loss(typed: raw::OnLoss) -> OnLoss {
    match typed {
        raw::OnLoss::Report => OnLoss::Report,
        raw::OnLoss::Refuse => OnLoss::Refuse,
    }
}

const MODEL_CHARACTERS: &str = "ASCII letters, digits and . _ : / @ + - characters";

/// Names clients send and logs show: no spaces, no quotes, no control characters, no `*` (that is for patterns).
fn is_model_name(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'@' | b'+' | b'-'))
}

/// Printable ASCII without spaces: what fits unchanged into a header.
fn is_credential(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}
