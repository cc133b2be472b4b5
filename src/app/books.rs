//! The ledger and the counters of limits and budgets, from the start to the end: opened before the first call, kept beside the calls on a thread
//! of their own, closed after the last. What the ledger says was spent is put back into the budgets whose period runs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::config::quota::{Measure, Models, One, Rule, Window};
use crate::config::store::Counters;
use crate::config::watch::Live;
use crate::config::{Secret, Snapshot};
use crate::event::{Budget, Event, Events};
use crate::id::RequestId;
use crate::quota::{self, Quotas, SharedSettings, Where};
use crate::store::query::{Condition, Dimension, Period, UsageQuery, UsageRow};
use crate::store::{Ledger, StoreError};

/// What is in memory at the end gets so long to reach the database. What does not is in the journal, and read from there at the next start.
const FLUSH: Duration = Duration::from_secs(2);
/// A start waits so long for the shared counters.
const PATIENCE: Duration = Duration::from_secs(2);
/// Counters of one budget that are restored.
const ROWS: u32 = 200_000;

pub struct Books {
    runtime: Runtime,
    pub ledger: Ledger,
    pub quotas: Quotas,
    pub events: Events,
    /// Rules that need not be restored any more.
    restored: Mutex<HashSet<u64>>,
    /// Counters are kept elsewhere, where others spend from them too.
    shared: bool,
}

impl Books {
    /// `Err`: in words for the operator.
    pub fn open(snapshot: &Snapshot) -> Result<Books, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("books")
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        let store = &snapshot.store;
        let ledger = match runtime.block_on(Ledger::open(store)) {
            Ok(ledger) => ledger,
            Err(StoreError::Off) => Ledger::off(),
            Err(error) => return Err(format!("the ledger cannot be opened: {error}")),
        };
        let place = match &store.counters {
            Counters::Local => Where::Here,
            Counters::Redis(url) => Where::Shared(SharedSettings::new(url.clone())),
            Counters::RedisCluster(urls) => Where::Shared(SharedSettings::new(cluster(urls))),
        };
        let shared = !matches!(place, Where::Here);
        let quotas = Quotas::new(place).map_err(|error| format!("the counters cannot be used: {error}"))?;
        let events = {
            let _entered = runtime.enter();
            Events::start(&snapshot.events)?
        };
        let books = Books { runtime, ledger, quotas, events, restored: Mutex::default(), shared };
        books.quotas.adopt(&snapshot.quotas);
        books.runtime.block_on(books.restore(snapshot));
        let keeper = books.quotas.clone();
        books.runtime.spawn(async move { keeper.keep().await });
        if let Some(passed) = books.quotas.events() {
            books.runtime.spawn(tell_budgets(passed, books.events.clone()));
        }
        books.runtime.block_on(books.connected());
        Ok(books)
    }

    /// Budgets that are new get what was spent before.
    pub fn on_reload(self: &Arc<Self>, live: Arc<Live>) {
        let books = Arc::clone(self);
        self.runtime.spawn(async move {
            let snapshot = live.load();
            books.quotas.adopt(&snapshot.quotas);
            books.restore(&snapshot).await;
        });
    }

    /// After the last call.
    pub fn close(&self) {
        self.runtime.block_on(async {
            let (sent, (), flushed) =
                tokio::join!(self.events.flush(FLUSH), self.quotas.close(), self.ledger.flush(FLUSH));
            if !sent {
                tracing::warn!("some events were not taken in time, and are lost");
            }
            if !flushed {
                tracing::warn!("the database is behind; what it lacks is in the journal");
            }
        });
    }

    /// The first calls should find the shared counters; but a gateway starts without them too.
    async fn connected(&self) {
        let begun = std::time::Instant::now();
        while !self.quotas.is_connected() {
            if begun.elapsed() > PATIENCE {
                tracing::error!("the shared counters are not reached; each rule does what it says for that");
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn restore(&self, snapshot: &Snapshot) {
        self.quotas.adopt(&snapshot.quotas);
        if self.shared || self.ledger.is_off() {
            return;
        }
        let keys = snapshot.keys.by_hash.values().filter_map(|key| key.own.as_ref());
        let own = keys.flat_map(|own| own.budgets.iter());
        for rule in snapshot.quotas.all.iter().chain(own).filter(|rule| rule.of == Measure::Usd) {
            if !self.restored.lock().unwrap_or_else(PoisonError::into_inner).insert(rule.id) {
                continue;
            }
            match self.ledger.usage(&spent(rule, self.quotas.since(rule))).await {
                Ok(rows) => rows.iter().for_each(|row| self.put_back(rule, row)),
                Err(error) => tracing::error!("{}: what was spent before cannot be read: {error}", rule.name),
            }
        }
    }

    fn put_back(&self, rule: &Arc<Rule>, row: &UsageRow) {
        let mut values = row.by.iter().map(|value| value.as_deref());
        let at = match rule.window {
            Window::Rolling(_) => values.next().flatten().and_then(|hour| hour.parse::<Timestamp>().ok()),
            _ => Some(Timestamp::now()),
        };
        // what is matched by a pattern was asked of the database for all
        let values: Option<Vec<&str>> = match &rule.scope.model {
            Some(Models::Like(pattern)) => match values.next_back().flatten() {
                Some(model) if pattern.matches(model) => values.collect(),
                _ => return,
            },
            _ => values.collect(),
        };
        if let (Some(at), Some(values)) = (at, values) {
            self.quotas.restore(rule, &values, at, row.cost);
        }
    }
}

/// Budgets that pass a soft percent, to whoever wants to hear of them.
async fn tell_budgets(mut passed: mpsc::Receiver<quota::Event>, events: Events) {
    while let Some(quota::Event { budget, rule: _, percent, spent, ceiling, resets_at }) = passed.recv().await {
        tracing::info!("{budget}: {percent}% of it is spent");
        events.tell(Event::Budget(Budget {
            id: RequestId::generate().as_str().to_owned(),
            at: Timestamp::now(),
            budget,
            percent,
            spent_usd: spent.into(),
            spent_nano_usd: spent,
            ceiling_usd: ceiling.into(),
            ceiling_nano_usd: ceiling,
            resets_at,
        }));
    }
}

/// The nodes as one URL: `redis+cluster://USER:PASSWORD@a:1,b:2`. They all have the same credentials.
fn cluster(urls: &[Secret]) -> Secret {
    let bare = |url: &Secret| url.expose().split_once("://").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    let urls: Vec<String> = urls.iter().map(bare).collect();
    let hosts = urls.iter().map(|url| url.rsplit_once('@').map_or(url.as_str(), |(_, host)| host));
    let user =
        urls.first().and_then(|url| url.rsplit_once('@')).map(|(user, _)| format!("{user}@")).unwrap_or_default();
    Secret::new(format!("redis+cluster://{user}{}", hosts.collect::<Vec<_>>().join(",")))
}

/// What the ledger is asked for: a row for each counter of the rule; of a rolling time, for each of its hours.
fn spent(rule: &Rule, since: Option<Timestamp>) -> UsageQuery {
    let (mut by, mut filter) = (Vec::new(), Vec::new());
    if matches!(rule.window, Window::Rolling(_)) {
        by.push(Dimension::Hour);
    }
    let mut one = |what: Dimension, one: &One| match one {
        One::Each => by.push(what),
        One::Is(value) => filter.push(Condition { what, is: value.to_string() }),
    };
    let scope = &rule.scope;
    if let Some(key) = &scope.key {
        one(Dimension::Key, key);
    }
    if let Some(Models::Each) = &scope.model {
        one(Dimension::Model, &One::Each);
    }
    if let Some(provider) = &scope.provider {
        one(Dimension::Provider, provider);
    }
    for (name, value) in &scope.tags {
        one(Dimension::tag(name), value);
    }
    if let Some(Models::Like(_)) = &scope.model {
        by.push(Dimension::Model);
    }
    let period = Period { from: since.unwrap_or(Timestamp::UNIX_EPOCH), to: Timestamp::MAX, filter };
    UsageQuery { by, period, limit: ROWS }
}
