//! Keys in a real database: what a change does, in which order others see it, and what is never in the file.

use std::time::Duration;

use super::*;
use crate::config::keyring::{Found, Keyring};
use crate::config::store::{Durability, LedgerPlace};
use crate::config::{Secret, keys};
use crate::store::tests::postgres;

const WORDS: &str =
    r#"{"models":["gpt-*"],"tags":{"team":"search"},"limits":{"rpm":5},"budget":{"usd":"2","per":"day"}}"#;
const STALE: Duration = Duration::from_secs(60);

/// A test of the same name for each database.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(&super::LedgerPlace::Sqlite(folder.path().join("keys.db"))).await;
            })*
        }
        mod postgres_too {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::LedgerPlace::Postgres(super::Secret::new(super::postgres::database()))).await;
            })*
        }
    };
}

on_both!(
    a_key_is_kept_with_what_it_may_do_and_found_by_all_it_is_known_by,
    a_name_and_a_value_belong_to_one_key_until_it_is_deleted,
    of_two_who_change_a_key_at_once_one_is_told,
    another_replica_sees_each_change_once_it_looks,
    a_second_rotation_does_not_prolong_the_first,
    pages_lose_no_key_and_lists_are_in_the_order_of_names,
    a_key_that_cannot_be_read_opens_nothing,
    no_change_is_missed_while_many_write
);

async fn table(place: &LedgerPlace) -> KeyTable {
    let db = Db::new(place, Durability::Process).unwrap().unwrap();
    db.migrate().await.unwrap();
    KeyTable::new(db)
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn act(act: &'static str, subject: &str) -> Act {
    let (actor, became) = ("admin".to_owned(), Some("{}".to_owned()));
    Act { at: now(), actor, act, subject: subject.to_owned(), was: None, became }
}

fn new(name: &str, hash: u8) -> Write {
    Write::Create {
        id: format!("id-{name}"),
        name: name.to_owned(),
        words: WORDS.to_owned(),
        note: "{}".to_owned(),
        expires: None,
        hash: [hash; 32],
        shown: "sk-tg-...wxyz".to_owned(),
    }
}

async fn create(table: &KeyTable, name: &str, hash: u8) -> i64 {
    table.write(act("key.create", name), new(name, hash)).await.unwrap()
}

/// A keyring as it is after one look.
async fn look(table: &KeyTable) -> Keyring {
    let keyring = Keyring::default();
    follow_once(table, &keyring).await;
    keyring
}

async fn follow_once(table: &KeyTable, keyring: &Keyring) {
    keyring.expect();
    tokio::select! {
        () = follow(table, keyring, Duration::from_secs(3600)) => {}
        () = async { while !keyring.is_ready() { tokio::time::sleep(Duration::from_millis(1)).await } } => {}
    }
}

fn name(keyring: &Keyring, hash: u8) -> Option<String> {
    match keyring.find(&[hash; 32], STALE) {
        Found::Key(key) => Some(key.name.to_string()),
        Found::Nobody => None,
        Found::Unknown => panic!("it was read"),
    }
}

async fn a_key_is_kept_with_what_it_may_do_and_found_by_all_it_is_known_by(place: &LedgerPlace) {
    let table = table(place).await;
    assert_eq!(create(&table, "ci", 1).await, 1);
    let stored = table.find(Find::Name("ci")).await.unwrap().unwrap();
    assert_eq!((stored.id.as_str(), stored.words.as_str(), stored.version), ("id-ci", WORDS, 1));
    assert_eq!((stored.created, stored.created_by.as_str(), stored.hashes.len()), (now(), "admin", 1));
    for find in [Find::Id("id-ci"), Find::Hash(&[1; 32])] {
        assert_eq!(table.find(find).await.unwrap().as_ref(), Some(&stored));
    }
    for find in [Find::Id("ci"), Find::Hash(&[2; 32]), Find::Name("CI"), Find::Name("' OR 1=1 --")] {
        assert_eq!(table.find(find).await.unwrap(), None);
    }
    let keyring = look(&table).await;
    let Found::Key(key) = keyring.find(&[1; 32], STALE) else { panic!("it is known") };
    assert!(key.allows_model("gpt-4o") && !key.allows_model("claude") && !key.opaque);
    assert_eq!((&*key.tags[0].0, &*key.tags[0].1), ("team", "search"));
    let own = key.own.as_ref().unwrap();
    assert_eq!((own.limits.len(), own.budgets.len(), own.budgets[0].amount), (1, 1, 2_000_000_000));
}

async fn a_name_and_a_value_belong_to_one_key_until_it_is_deleted(place: &LedgerPlace) {
    let table = table(place).await;
    create(&table, "a", 1).await;
    let same_name = table.write(
        act("key.create", "a"),
        Write::Create {
            id: "other".to_owned(),
            name: "a".to_owned(),
            words: "{}".to_owned(),
            note: "{}".to_owned(),
            expires: None,
            hash: [2; 32],
            shown: String::new(),
        },
    );
    assert_eq!(same_name.await.unwrap_err(), WriteError::Taken);
    assert_eq!(table.write(act("key.create", "b"), new("b", 1)).await.unwrap_err(), WriteError::Taken);
    // what failed left nothing behind: neither a number nor a row of the audit
    assert_eq!((table.version().await.unwrap(), table.audit(None, 10).await.unwrap().len()), (1, 1));
    table.write(act("key.delete", "a"), Write::Delete { id: "id-a".to_owned(), version: 1 }).await.unwrap();
    let again = Write::Create {
        id: "id-a2".to_owned(),
        name: "a".to_owned(),
        words: "{}".to_owned(),
        note: "{}".to_owned(),
        expires: None,
        hash: [1; 32],
        shown: String::new(),
    };
    assert_eq!(table.write(act("key.create", "a"), again).await.unwrap(), 3);
    assert_eq!(table.find(Find::Name("a")).await.unwrap().unwrap().id, "id-a2");
}

async fn of_two_who_change_a_key_at_once_one_is_told(place: &LedgerPlace) {
    let table = table(place).await;
    let version = create(&table, "a", 1).await;
    let update = |words: &str| Write::Update {
        id: "id-a".to_owned(),
        version,
        name: "a".to_owned(),
        words: words.to_owned(),
        note: "{}".to_owned(),
        expires: None,
    };
    let (one, two) = tokio::join!(
        table.write(act("key.update", "a"), update("{\"weight\":2}")),
        table.write(act("key.update", "a"), update("{\"weight\":3}"))
    );
    let conflicts = [&one, &two].iter().filter(|done| ***done == Err(WriteError::Conflict)).count();
    assert_eq!((conflicts, one.is_ok() || two.is_ok()), (1, true), "{one:?} {two:?}");
    for write in [Write::Revoke { id: "id-x".to_owned(), version: 1 }, Write::Delete { id: "id-a".to_owned(), version }]
    {
        assert_eq!(table.write(act("key.revoke", "a"), write).await.unwrap_err(), WriteError::Conflict);
    }
}

async fn another_replica_sees_each_change_once_it_looks(place: &LedgerPlace) {
    let (here, there) = (table(place).await, table(place).await);
    let keyring = Keyring::default();
    let mut known = None;
    let mut look = async |keyring: &Keyring| follow::catch_up(&there, keyring, &mut known).await.unwrap();
    look(&keyring).await;
    assert_eq!(name(&keyring, 1), None);
    let mut version = create(&here, "a", 1).await;
    create(&here, "b", 2).await;
    look(&keyring).await;
    assert_eq!((name(&keyring, 1), name(&keyring, 2)), (Some("a".into()), Some("b".into())));

    // rotated: both values, the old one with an end
    let until = now() + Duration::from_secs(3600);
    let rotate = Write::Rotate { id: "id-a".to_owned(), version, hash: [3; 32], shown: "new".to_owned(), until };
    version = here.write(act("key.rotate", "a"), rotate).await.unwrap();
    look(&keyring).await;
    let ends = |hash: u8| match keyring.find(&[hash; 32], STALE) {
        Found::Key(key) => (key.name.to_string(), key.expires),
        other => panic!("{other:?}"),
    };
    assert_eq!((ends(1), ends(3)), (("a".into(), Some(until)), ("a".into(), None)));
    assert_eq!(here.find(Find::Hash(&[1; 32])).await.unwrap().unwrap().hashes.len(), 2);

    version = here.write(act("key.revoke", "a"), Write::Revoke { id: "id-a".to_owned(), version }).await.unwrap();
    look(&keyring).await;
    for hash in [1, 3] {
        assert!(matches!(keyring.find(&[hash; 32], STALE), Found::Key(key) if key.revoked));
    }
    version = here.write(act("key.restore", "a"), Write::Restore { id: "id-a".to_owned(), version }).await.unwrap();
    here.write(act("key.delete", "a"), Write::Delete { id: "id-a".to_owned(), version }).await.unwrap();
    look(&keyring).await;
    assert_eq!((name(&keyring, 1), name(&keyring, 3), name(&keyring, 2)), (None, None, Some("b".into())));
    assert_eq!(look_again(&there).await, (None, Some("b".into())));
}

async fn look_again(table: &KeyTable) -> (Option<String>, Option<String>) {
    let keyring = look(table).await;
    (name(&keyring, 3), name(&keyring, 2))
}

async fn a_second_rotation_does_not_prolong_the_first(place: &LedgerPlace) {
    let table = table(place).await;
    let mut version = create(&table, "a", 1).await;
    let at = |hours: u64| now() + Duration::from_secs(hours * 3600);
    for (hash, until) in [(2, at(1)), (3, at(24)), (4, now())] {
        let rotate = Write::Rotate { id: "id-a".to_owned(), version, hash: [hash; 32], shown: String::new(), until };
        version = table.write(act("key.rotate", "a"), rotate).await.unwrap();
        let stored = table.find(Find::Id("id-a")).await.unwrap().unwrap();
        let ends: Vec<_> = stored.hashes.iter().map(|hash| (hash.hash[0], hash.until)).collect();
        let get = |hash: u8| ends.iter().find(|(h, _)| *h == hash).map(|(_, until)| *until);
        match hash {
            2 => assert_eq!((get(1), get(2)), (Some(Some(at(1))), Some(None))),
            3 => assert_eq!((get(1), get(2), get(3)), (Some(Some(at(1))), Some(Some(at(24))), Some(None))),
            // without overlap the ones before are gone at once
            _ => assert_eq!(ends, [(4, None)]),
        }
    }
}

async fn pages_lose_no_key_and_lists_are_in_the_order_of_names(place: &LedgerPlace) {
    let table = table(place).await;
    let count = PAGE + 203;
    for n in 0..count {
        let write = Write::Create {
            id: format!("id-{n}"),
            name: format!("key-{:05}", (n * 7919) % count),
            words: "{}".to_owned(),
            note: "{}".to_owned(),
            expires: None,
            hash: keys::hash(&Secret::new("pepper"), &n.to_string()),
            shown: String::new(),
        };
        table.write(act("key.create", "x"), write).await.unwrap();
    }
    let keyring = look(&table).await;
    assert_eq!(keyring.len() as i64, count);
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = table.list(&after, 100).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 100 && page.iter().all(|key| key.hashes.len() == 1));
        after.clone_from(&last.name);
        seen.extend(page.into_iter().map(|key| key.name));
    }
    assert_eq!(seen.len() as i64, count);
    assert!(seen.is_sorted());
    let audit = table.audit(Some(50), 10).await.unwrap();
    assert_eq!(audit.iter().map(|row| row.id).collect::<Vec<_>>(), (40..50).rev().collect::<Vec<i64>>());
}

async fn a_key_that_cannot_be_read_opens_nothing(place: &LedgerPlace) {
    let table = table(place).await;
    let write = Write::Create {
        id: "id".to_owned(),
        name: "of-the-future".to_owned(),
        words: r#"{"hovers": true}"#.to_owned(),
        note: "{}".to_owned(),
        expires: None,
        hash: [1; 32],
        shown: String::new(),
    };
    table.write(act("key.create", "x"), write).await.unwrap();
    create(&table, "a", 2).await;
    let keyring = look(&table).await;
    assert_eq!((name(&keyring, 1), name(&keyring, 2)), (None, Some("a".into())));
}

async fn no_change_is_missed_while_many_write(place: &LedgerPlace) {
    const COUNT: u8 = 60;
    let (one, two, there) = (table(place).await, table(place).await, table(place).await);
    let tables = [&one, &two];
    let writes = (1..=COUNT).map(|n| async move {
        let table = tables[usize::from(n) % 2];
        let name = format!("k{n}");
        create(table, &name, n).await
    });
    let keyring = Keyring::default();
    let reading = async {
        let mut known = None;
        while keyring.len() < usize::from(COUNT) {
            follow::catch_up(&there, &keyring, &mut known).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let reading = tokio::time::timeout(Duration::from_secs(60), reading);
    let (mut numbers, seen) = tokio::join!(futures_util::future::join_all(writes), reading);
    assert!(seen.is_ok(), "{} of {COUNT} were seen", keyring.len());
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=i64::from(COUNT)).collect::<Vec<_>>());
}
