//! The ledger on real databases: SQLite in temporary folders, PostgreSQL on a free port. What both must do is one body, run on each.

mod crash;
mod faults;
mod ledger;
#[path = "../../../tests/it/support/postgres.rs"]
pub(super) mod postgres;
mod reports;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::db::on_reader;
use super::entry::{Entry, Reservation};
use super::ledger::{Health, Ledger};
use super::writer::Tuning;
use crate::chat::Usage;
use crate::config::Secret;
use crate::config::store::{LedgerPlace, StoreConfig};
use crate::id::RequestId;
use crate::units::{NanoUsd, Tokens};

/// Generous: machines are slow, and nothing is measured here.
const SOON: Duration = Duration::from_secs(60);

/// A test of the same name for each database: `on_both!(body)` with `async fn body(config: StoreConfig)`.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(crate::store::tests::sqlite(folder.path())).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(crate::store::tests::postgres(folder.path())).await;
            })*
        }
    };
}

use on_both;

fn sqlite(folder: &Path) -> StoreConfig {
    StoreConfig {
        ledger: LedgerPlace::Sqlite(folder.join("tollgate.db")),
        journal: folder.join("tollgate.journal"),
        ..StoreConfig::default()
    }
}

fn postgres(folder: &Path) -> StoreConfig {
    StoreConfig {
        ledger: LedgerPlace::Postgres(Secret::new(postgres::database())),
        journal: folder.join("tollgate.journal"),
        ..StoreConfig::default()
    }
}

/// Everything at once.
fn hasty() -> Tuning {
    Tuning {
        gather: Duration::from_millis(5),
        longest_backoff: Duration::from_millis(200),
        show_after: Duration::ZERO,
        ..Tuning::default()
    }
}

async fn open(config: &StoreConfig) -> Ledger {
    Ledger::open_tuned(config, hasty()).await.unwrap()
}

/// In 2096: too young to be pruned.
fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(4_000_000_000_000_000 + micros).unwrap()
}

/// The `n`th call of a key and a team, at its own microsecond.
pub(super) fn reservation(n: i64) -> Reservation {
    Reservation {
        call: RequestId::from_client(format!("call-{n}").as_bytes()).unwrap(),
        attempt: 1,
        at: at(n),
        key: Some("ci".into()),
        tags: vec![("team".into(), "search".into()), ("cost.center".into(), "4711".into())],
        model: Some("gpt".into()),
        provider: "openai".into(),
        upstream_model: Some("gpt-5".into()),
        operation: "chat".into(),
        stream: false,
        hold: Some(NanoUsd(1000)),
        price_version: Some("2026-11".into()),
    }
}

pub(super) fn entry(n: i64) -> Entry {
    Entry {
        ended: at(n + 5),
        status: 200,
        outcome: "ok".into(),
        answered: true,
        usage: Some(Usage { input: Tokens(10), cache_read: Tokens(4), output: Tokens(3), ..Usage::default() }),
        service_tier: None,
        images: 0,
        searches: 0,
        cost: Some(NanoUsd(n)),
        estimated: false,
        rates: Some(rates()),
        first_token_ms: Some(7),
        duration_ms: 9,
        reservation: reservation(n),
    }
}

fn rates() -> Arc<str> {
    r#"{"input":"2.50","output":"10"}"#.into()
}

/// Both states of each row: `(call, state, cost, outcome)`, by time.
async fn rows(ledger: &Ledger) -> Vec<(String, i64, Option<i64>, Option<String>)> {
    let sql = "SELECT call, state, cost, outcome FROM entries ORDER BY at, call, attempt";
    on_reader!(ledger.db().unwrap(), pool => sqlx::query_as(sql).fetch_all(pool).await).unwrap()
}

/// Within [`SOON`].
async fn eventually<F: Future<Output = bool>>(what: &str, mut found: impl FnMut() -> F) {
    let begun = std::time::Instant::now();
    while !found().await {
        assert!(begun.elapsed() < SOON, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Files of the journal.
fn files(config: &StoreConfig) -> Vec<String> {
    let entries = std::fs::read_dir(&config.journal).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
