//! Databases that are locked or away, disks that are full, files that are torn: nothing is lost, and who cannot be served is told at once.

use std::io::{BufRead, BufReader};

use sqlx::{ConnectOptions, Connection, Executor};

use super::*;
use crate::config::store::Durability;
use crate::store::db::StoreError;
use crate::store::ledger::Unavailable;

fn work(ledger: &Ledger, numbers: std::ops::Range<i64>) {
    for n in numbers {
        ledger.reserve(&reservation(n)).unwrap();
        ledger.settle(entry(n));
    }
}

#[tokio::test]
async fn a_locked_database_delays_no_call_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let config = sqlite(folder.path());
    let ledger = open(&config).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("tollgate.db"));
    let mut other = options.connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    work(&ledger, 0..500);
    eventually("it is told that the database is locked", || async {
        ledger.health().error.is_some_and(|error| error.contains("locked"))
    })
    .await;
    let health = ledger.health();
    assert_eq!((health.behind, health.lost, health.in_memory), (500, 0, 0));
    assert!(health.oldest.is_some() && health.journal_bytes > 100_000, "{health:?}");
    // reports are answered meanwhile
    assert_eq!(rows(&ledger).await.len(), 0);
    work(&ledger, 500..600);
    other.execute("COMMIT").await.unwrap();
    other.close().await.unwrap();
    assert!(ledger.flush(SOON).await);
    assert_eq!(rows(&ledger).await.len(), 600);
    assert_eq!(ledger.health(), Health::default());
}

#[tokio::test]
async fn a_stopped_postgres_delays_no_call_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = postgres::Postgres::start();
    let config = StoreConfig {
        ledger: LedgerPlace::Postgres(Secret::new(server.database())),
        journal: folder.path().join("j"),
        ..StoreConfig::default()
    };
    let ledger = open(&config).await;
    work(&ledger, 0..100);
    assert!(ledger.flush(SOON).await);
    server.stop();
    work(&ledger, 100..300);
    eventually("it is told that the database is away", || async { ledger.health().error.is_some() }).await;
    assert_eq!(ledger.health().behind, 200);
    assert!(matches!(ledger.call("call-1").await, Err(StoreError::Unavailable(_))));

    // another process begins while it is away
    let tuning = Tuning { patience: Duration::from_millis(100), ..hasty() };
    let second = Ledger::open_tuned(&config, tuning).await.unwrap();
    work(&second, 300..400);
    server.resume();
    assert!(ledger.flush(SOON).await && second.flush(SOON).await);
    assert_eq!(rows(&ledger).await.len(), 400);
    assert_eq!((ledger.health().error, second.health().error), (None, None));
}

#[tokio::test]
async fn a_wrong_database_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let url = postgres::database();
    let config = |ledger| StoreConfig { ledger, journal: folder.path().join("j"), ..StoreConfig::default() };
    let no_such = config(LedgerPlace::Postgres(Secret::new(url.replace("/t", "/nowhere"))));
    let error = Ledger::open_tuned(&no_such, hasty()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(why) if why.contains("does not exist")), "{error}");
    let no_folder = config(LedgerPlace::Sqlite(folder.path().join("no/such.db")));
    assert!(matches!(Ledger::open_tuned(&no_folder, hasty()).await, Err(StoreError::Refused(_))));
    std::fs::write(folder.path().join("text.db"), "no database".repeat(1000)).unwrap();
    let text = config(LedgerPlace::Sqlite(folder.path().join("text.db")));
    assert!(matches!(Ledger::open_tuned(&text, hasty()).await, Err(StoreError::Refused(_))));
    // where no folder can be made, whoever asks
    let journal = StoreConfig { journal: "/proc/tollgate".into(), ..sqlite(folder.path()) };
    let error = Ledger::open_tuned(&journal, hasty()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(why) if why.contains("/proc/tollgate")), "{error}");
}

#[tokio::test]
async fn a_full_journal_refuses_reservations_and_takes_settlements() {
    let folder = tempfile::tempdir().unwrap();
    // nobody listens there
    let config = StoreConfig {
        ledger: LedgerPlace::Postgres(Secret::new("postgres://u@127.0.0.1:1/x")),
        journal: folder.path().join("j"),
        journal_limit: 20_000,
        ..StoreConfig::default()
    };
    let tuning = Tuning { patience: Duration::from_millis(10), ..hasty() };
    let ledger = Ledger::open_tuned(&config, tuning).await.unwrap();
    let mut taken = 0;
    while ledger.reserve(&reservation(taken)).is_ok() {
        taken += 1;
    }
    assert!(taken > 50, "{taken}");
    assert_eq!(ledger.reserve(&reservation(taken)), Err(Unavailable::Full));
    for n in 0..taken {
        ledger.settle(entry(n));
    }
    let health = ledger.health();
    assert_eq!((health.behind, health.in_memory), (u64::try_from(taken).unwrap(), 0));
    drop(ledger);
    // all of it is there for the next one
    eventually("the journal is free", || async { files(&config).iter().any(|name| name.ends_with(".log")) }).await;
    let next = StoreConfig { ledger: sqlite(folder.path()).ledger, ..config };
    eventually("the writer ended", || async {
        let ledger = open(&next).await;
        rows(&ledger).await.len() == usize::try_from(taken).unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_is_told_at_once_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let config = sqlite(folder.path());
    // no file may be larger than this many half kilobytes (or kilobytes, by shell)
    let mut child = super::crash::child(&config, 0, "trap '' XFSZ; ulimit -f 600; ");
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success(), "{lines:#?}");
    let number = |word: &str| {
        let line =
            lines.iter().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("{word}: {lines:#?}"));
        line.trim().parse::<usize>().unwrap()
    };
    let (reserved, settled) = (number("reserved:"), number("settled:"));
    assert!(reserved > 100 && settled == 10, "{lines:#?}");
    let ledger = open(&config).await;
    let rows = rows(&ledger).await;
    assert_eq!(rows.len(), reserved);
    assert_eq!(rows.iter().filter(|row| row.1 == 2).count(), settled);
}

/// In the child: reserve until the disk is full; what is settled then goes past the journal.
pub(super) async fn fill(config: &StoreConfig) {
    let tuning = Tuning { show_after: Duration::from_secs(3600), ..hasty() };
    let ledger = Ledger::open_tuned(config, tuning).await.unwrap();
    let mut taken = 0;
    let error = loop {
        match ledger.reserve(&reservation(taken)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Unavailable::Disk);
    assert_eq!(ledger.reserve(&reservation(taken)), Err(Unavailable::Disk));
    for n in 0..10 {
        ledger.settle(entry(n));
    }
    assert!(ledger.health().error.is_some());
    assert!(ledger.flush(SOON).await);
    println!("\nreserved: {taken}\nsettled: 10");
    // as killed: what it holds open stays behind
    std::process::exit(0);
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_and_what_stands_before_it_counts() {
    let folder = tempfile::tempdir().unwrap();
    let config = sqlite(folder.path());
    let path = |name: &str| config.journal.join(name);
    std::fs::create_dir(&config.journal).unwrap();
    let mut bytes = crate::store::codec::MAGIC.to_vec();
    for n in 0..3 {
        crate::store::codec::put_reservation(&mut bytes, &reservation(n)).unwrap();
    }
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path("a-00000001.log"), &bytes).unwrap();
    std::fs::write(path("b-00000001.log"), "of another version").unwrap();
    std::fs::write(path("c-00000001.log"), &bytes[..5]).unwrap();
    std::fs::write(path("d-00000001.log"), [&bytes[..8], &[0; 4096]].concat()).unwrap();
    let ledger = open(&config).await;
    assert_eq!(rows(&ledger).await, [("call-0".to_owned(), 1, Some(1000), Some("orphaned".to_owned()))]);
    let mut names = files(&config);
    names.retain(|name| !name.starts_with('0'));
    assert_eq!(names, ["a-00000001.damaged", "b-00000001.damaged"]);
    assert_eq!(std::fs::read(path("a-00000001.damaged")).unwrap(), bytes);
}

#[tokio::test]
async fn who_waits_for_the_disk_waits_together() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { durability: Durability::Disk, ..sqlite(folder.path()) };
    let tuning = Tuning { segment_size: 20_000, ..hasty() };
    let ledger = Ledger::open_tuned(&config, tuning).await.unwrap();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let ledger = ledger.clone();
            std::thread::spawn(move || work(&ledger, thread * 50..thread * 50 + 50))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(ledger.flush(SOON).await);
    assert_eq!(rows(&ledger).await.len(), 400);
}
