//! `store`: its short forms, its defaults, and what is said of what cannot be.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::store::{Counters, Durability, LedgerPlace, StoreConfig};

fn store(text: &str) -> StoreConfig {
    let environment = Environment::of([("OPENAI_API_KEY", "x"), ("STATE_DIRECTORY", "/var/lib/tollgate:/other")]);
    let checked = load_str("/etc/t/c.yaml", &format!("{SMALL}{text}\n"), &environment);
    (*checked.unwrap_or_else(|errors| panic!("{}", show(&errors))).into_snapshot(1).store).clone()
}

#[test]
fn without_a_store_nothing_is_kept() {
    let found = store("");
    assert_eq!((&found.ledger, &found.counters), (&LedgerPlace::Off, &Counters::Local));
    assert_eq!(store("store: off").ledger, LedgerPlace::Off);
}

#[test]
fn a_word_says_where_the_ledger_is_or_the_counters_are() {
    let default = LedgerPlace::Sqlite("/etc/t/tollgate.db".into());
    let found = store("store: sqlite:tollgate.db");
    assert_eq!((&found.ledger, found.journal), (&default, PathBuf::from("/etc/t/tollgate.journal")));
    assert_eq!((found.keep, found.durability), (Duration::from_secs(30 * 86_400), Durability::Process));
    assert_eq!(store("store: sqlite:///data/x.db").journal, PathBuf::from("/data/x.journal"));

    let found = store("store: postgres://u:p@db/tollgate");
    assert!(matches!(&found.ledger, LedgerPlace::Postgres(url) if url.expose() == "postgres://u:p@db/tollgate"));
    assert_eq!(found.journal, PathBuf::from("/var/lib/tollgate/tollgate.journal"));

    let found = store("store: redis://:p@r:6379/1");
    assert!(matches!(&found.counters, Counters::Redis(url) if url.expose() == "redis://:p@r:6379/1"));
    assert_eq!(found.ledger, default);
}

#[test]
fn a_map_says_everything_apart() {
    let found = store(
        "store: {ledger: \"postgres://db/t\", counters: \"rediss+cluster://u:p@a:1,b:2\", journal: j, journal_limit: 64MB, \
         durability: disk, keep: 90d}",
    );
    let Counters::RedisCluster(nodes) = &found.counters else { panic!("{found:?}") };
    let nodes: Vec<&str> = nodes.iter().map(Secret::expose).collect();
    assert_eq!(nodes, ["rediss://u:p@a:1", "rediss://u:p@b:2"]);
    assert_eq!((found.journal, found.journal_limit), (PathBuf::from("/etc/t/j"), 64_000_000));
    assert_eq!((found.keep, found.durability), (Duration::from_secs(90 * 86_400), Durability::Disk));
    assert_eq!(store("store: {counters: local}").ledger, LedgerPlace::Sqlite("/etc/t/tollgate.db".into()));
}

#[test]
fn what_cannot_be_is_told_without_its_secrets() {
    let text = [
        "store: {ledger: \"redis://:canary@h\", keep: 30, journal_limit: 1MB}",
        "store: mysql://u:canary@h/x",
        "store: \"sqlite:\"",
        "store: {counters: \"redis+cluster://u:canary@a,,b\"}",
        "store: redis://",
    ]
    .map(|line| bad(&format!("{SMALL}{line}\n")))
    .join("\n");
    assert!(!text.contains("canary"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn the_store_is_shown_without_its_secrets_and_changes_at_a_restart() {
    let snapshot = |text: &str| good(&format!("{SMALL}{text}\n"));
    let one = snapshot("store: {ledger: \"postgres://u:canary-one@db/t\", counters: \"redis://:canary-r@h\"}");
    let two = snapshot("store: {ledger: \"postgres://u:canary-two@db/t\", counters: \"redis://:canary-r@h\"}");
    let shown = view(&one).to_string();
    assert!(shown.contains(r#""ledger":"[secret]""#) && !shown.contains("canary"), "{shown}");
    let changes = diff::diff(&one, &two);
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((change.path.as_str(), change.takes_effect), ("store.ledger", diff::TakesEffect::Restart));
    let shown = view(&snapshot("store: sqlite:a.db")).to_string();
    assert!(shown.contains(r#""ledger":"sqlite:a.db""#), "{shown}");
}
