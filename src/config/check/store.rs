//! Where the ledger, its journal and the counters are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Checker;
use crate::config::Secret;
use crate::config::raw::{self, At, StoreDurability};
use crate::config::store::{Counters, Durability, JOURNAL_LIMIT, KEEP, LedgerPlace, StoreConfig};

const DEFAULT: &str = "tollgate.db";
const JOURNAL: &str = "tollgate.journal";
/// Room for some segments.
const SMALLEST_JOURNAL: u64 = 32_000_000;
const DAY: Duration = Duration::from_secs(24 * 3600);
const LEDGERS: &str = "write \"sqlite:tollgate.db\", \"postgres://USER:PASSWORD@HOST/DATABASE\" or \"off\"";
const COUNTERS: &str =
    "write \"local\", \"redis://HOST:6379\", \"rediss://..\" or \"redis+cluster://HOST:6379,HOST:6379\"";

impl Checker<'_> {
    /// `budgets`: there are some, which would begin anew at each start if nothing were kept.
    pub(super) fn store(&mut self, typed: Option<At<raw::Store>>, budgets: bool) -> StoreConfig {
        let journal = self.path(JOURNAL);
        let Some(At {
            value: raw::Store { ledger, counters, journal: folder, journal_limit, durability, keep },
            place,
            ..
        }) = typed
        else {
            let ledger = if budgets { LedgerPlace::Sqlite(self.path(DEFAULT)) } else { LedgerPlace::Off };
            return StoreConfig { ledger, journal, ..StoreConfig::default() };
        };
        // `store: redis://..` says where the counters are; the ledger is where it is by default
        let short = ledger.as_ref().is_some_and(|at| at.place == place);
        let (ledger, counters) = match ledger {
            Some(at) if short && is_redis(at.value.expose()) => (None, Some(at)),
            ledger => (ledger, counters),
        };
        let path = if short { "store" } else { "store.ledger" };
        let ledger = match ledger {
            Some(at) => self.ledger(&at, path),
            None => LedgerPlace::Sqlite(self.path(DEFAULT)),
        };
        let counters =
            counters.map_or(Counters::Local, |at| self.counters(&at, if short { "store" } else { "store.counters" }));
        let journal = match (folder, &ledger) {
            (Some(at), _) => self.path(&at.value),
            (None, LedgerPlace::Sqlite(file)) => file.with_extension("journal"),
            (None, LedgerPlace::Postgres(_)) => self.state_folder().join(JOURNAL),
            (None, LedgerPlace::Off) => journal,
        };
        if let Some(at) = &journal_limit
            && at.value.0 < SMALLEST_JOURNAL
        {
            let message = "store.journal_limit: would soon be reached: write 32MB or more";
            self.faults.wrong(at.place, "store.journal_limit", message);
        }
        StoreConfig {
            ledger,
            counters,
            journal,
            journal_limit: journal_limit.map_or(JOURNAL_LIMIT, |at| at.value.0),
            durability: match durability {
                None | Some(StoreDurability::Process) => Durability::Process,
                Some(StoreDurability::Disk) => Durability::Disk,
            },
            keep: keep.map_or(KEEP, |at| self.days(&at)),
        }
    }

    fn ledger(&mut self, at: &At<Secret>, path: &str) -> LedgerPlace {
        let text = at.value.expose().trim();
        if text == "off" {
            return LedgerPlace::Off;
        }
        if let Some(file) = text.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            if !file.is_empty() && !file.contains(['?', ':']) && !file.ends_with('/') {
                return LedgerPlace::Sqlite(self.path(file));
            }
            let message = format!(
                "{path}: no file: write for example \"sqlite:tollgate.db\" or \"sqlite:/var/lib/tollgate/tollgate.db\""
            );
            self.faults.wrong(at.place, path, message);
            return LedgerPlace::Off;
        }
        if is_url(text, &["postgres", "postgresql"]) {
            return LedgerPlace::Postgres(Secret::new(text));
        }
        // not quoted: it may hold a password
        let message = match is_redis(text) {
            true => {
                format!("{path}: Redis keeps counters, not rows: write it as \"store.counters\", and here {LEDGERS}")
            }
            false => format!("{path}: is no place for the ledger: {LEDGERS}"),
        };
        self.faults.wrong(at.place, path, message);
        LedgerPlace::Off
    }

    fn counters(&mut self, at: &At<Secret>, path: &str) -> Counters {
        let text = at.value.expose().trim();
        if text == "local" {
            return Counters::Local;
        }
        let nodes = text.split_once("+cluster://").filter(|(scheme, _)| ["redis", "rediss"].contains(scheme));
        let found = match nodes {
            Some((scheme, nodes)) => {
                // credentials stand once, in front of the first
                let (user, nodes) = nodes.rsplit_once('@').map_or(("", nodes), |(user, nodes)| (user, nodes));
                let at_sign = if user.is_empty() { "" } else { "@" };
                let urls: Vec<String> = nodes
                    .trim_end_matches('/')
                    .split(',')
                    .map(|node| format!("{scheme}://{user}{at_sign}{}", node.trim()))
                    .collect();
                let whole = urls.iter().all(|url| is_url(url, &["redis", "rediss"]));
                whole.then(|| Counters::RedisCluster(urls.into_iter().map(Secret::new).collect()))
            }
            None => is_url(text, &["redis", "rediss"]).then(|| Counters::Redis(Secret::new(text))),
        };
        found.unwrap_or_else(|| {
            self.faults.wrong(at.place, path, format!("{path}: is no place for counters: {COUNTERS}"));
            Counters::Local
        })
    }

    fn days(&mut self, at: &At<String>) -> Duration {
        let days = at.value.trim().strip_suffix('d').and_then(|days| days.trim_end().parse::<u32>().ok());
        match days {
            Some(days @ 1..=3660) => DAY * days,
            Some(_) | None => {
                let message = format!("store.keep: {} is not a number of days: write 1d to 3660d", at.quoted());
                self.faults.wrong(at.place, "store.keep", message);
                KEEP
            }
        }
    }

    /// systemd may name several, separated by colons (systemd.exec(5), StateDirectory=).
    fn state_folder(&self) -> PathBuf {
        let named = self.environment.get("STATE_DIRECTORY").filter(|folder| !folder.is_empty());
        let first = named.as_deref().and_then(|folders| folders.split(':').next());
        first.map_or_else(|| self.folder.to_owned(), |folder| Path::new(folder).to_owned())
    }
}

fn is_redis(text: &str) -> bool {
    ["redis:", "rediss:", "redis+cluster:", "rediss+cluster:"].iter().any(|scheme| text.starts_with(scheme))
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    url::Url::parse(text)
        .is_ok_and(|url| schemes.contains(&url.scheme()) && url.host_str().is_some_and(|h| !h.is_empty()))
}
