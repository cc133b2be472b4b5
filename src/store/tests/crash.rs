//! A process is killed at random moments, fifty times: what it was told is reserved or settled is in the ledger, once.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

const CHILD: &str = "TOLLGATE_TEST_LEDGER_CHILD";
const THREADS: i64 = 4;

#[tokio::test]
async fn fifty_kills_lose_nothing_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    drill(&sqlite(folder.path()), 50).await;
}

#[tokio::test]
async fn kills_lose_nothing_on_postgres() {
    let folder = tempfile::tempdir().unwrap();
    drill(&postgres(folder.path()), 10).await;
}

async fn drill(config: &StoreConfig, kills: u32) {
    let mut told: HashMap<i64, bool> = HashMap::new();
    for round in 0..kills {
        let mut child = child(config, i64::from(round) * 1_000_000, "");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // its work has begun; from here on any moment will do
        lines.by_ref().find(|line| line.as_ref().unwrap().starts_with("reserved")).unwrap().unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(getrandom::u32().unwrap() % 80_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            // the last one may be torn
            match line.split_once(' ').map(|(word, n)| (word, n.strip_suffix('.').and_then(|n| n.parse().ok()))) {
                Some(("reserved", Some(n))) => drop(told.entry(n).or_insert(false)),
                Some(("settled", Some(n))) => drop(told.insert(n, true)),
                _ => {}
            }
        }
    }
    let ledger = open(config).await;
    let rows = rows(&ledger).await;
    let mut stored: HashMap<String, (i64, Option<i64>)> = HashMap::new();
    for (call, state, cost, _) in rows {
        assert_eq!(stored.insert(call.clone(), (state, cost)), None, "{call} twice");
    }
    for (n, settled) in &told {
        let (state, cost) = stored.get(&format!("call-{n}")).unwrap_or_else(|| panic!("call-{n} is lost"));
        match (settled, state) {
            (_, 2) => assert_eq!(*cost, Some(*n), "call-{n}"),
            (false, 1) => assert_eq!(*cost, Some(1000), "call-{n}"),
            (settled, state) => panic!("call-{n}: settled: {settled}, in the ledger: {state}"),
        }
    }
    let settled = told.values().filter(|settled| **settled).count();
    println!("{} told of, {settled} of them settled; {} rows", told.len(), stored.len());
    assert!(settled > 0 && settled < told.len());
    assert_eq!(files(config).iter().filter(|name| name.ends_with(".lock")).count(), 1, "dead ones were taken away");
}

/// This test's own binary, as the process that is killed. `limit`: put in front of it by a shell.
pub(super) fn child(config: &StoreConfig, first: i64, limit: &str) -> Child {
    let place = match &config.ledger {
        LedgerPlace::Sqlite(path) => path.display().to_string(),
        LedgerPlace::Postgres(url) => url.expose().to_owned(),
        LedgerPlace::Off => String::new(),
    };
    let binary = std::env::current_exe().unwrap();
    Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$@\""), "sh"])
        .arg(binary)
        .args(["store::tests::crash::the_process_that_is_killed_works_through_its_calls", "--exact", "--nocapture"])
        .env(CHILD, format!("{place}\n{}\n{first}\n{limit}", config.journal.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Alone, it works through some calls; as a child, through calls without end.
#[tokio::test]
async fn the_process_that_is_killed_works_through_its_calls() {
    let Ok(told) = std::env::var(CHILD) else {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&sqlite(folder.path())).await;
        work(&ledger, 0, 100);
        assert!(ledger.flush(SOON).await);
        assert_eq!(rows(&ledger).await.iter().filter(|row| row.1 == 2).count(), 75);
        return;
    };
    let parts: Vec<&str> = told.split('\n').collect();
    let [place, journal, first, limit] = parts.as_slice() else { panic!("{told:?}") };
    let ledger = match place.starts_with("postgres") {
        true => LedgerPlace::Postgres(Secret::new(*place)),
        false => LedgerPlace::Sqlite(place.into()),
    };
    let config = StoreConfig { ledger, journal: journal.into(), ..StoreConfig::default() };
    if !limit.is_empty() {
        return super::faults::fill(&config).await;
    }
    let ledger = Ledger::open_tuned(&config, Tuning { segment_size: 50_000, ..hasty() }).await.unwrap();
    let next = Arc::new(AtomicI64::new(first.parse().unwrap()));
    for _ in 0..THREADS {
        let (ledger, next) = (ledger.clone(), Arc::clone(&next));
        std::thread::spawn(move || {
            loop {
                work(&ledger, next.fetch_add(10, Ordering::Relaxed), 10);
            }
        });
    }
    tokio::time::sleep(SOON).await;
}

/// Of four, three are settled.
fn work(ledger: &Ledger, first: i64, count: i64) {
    for n in first..first + count {
        ledger.reserve(&reservation(n)).unwrap();
        println!("reserved {n}.");
        if n % 4 != 0 {
            ledger.settle(entry(n));
            println!("settled {n}.");
        }
    }
}
