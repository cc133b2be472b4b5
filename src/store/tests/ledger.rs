//! What is reserved and settled stands in the database, once, in its latest state.

use super::*;
use crate::store::entry::State;

on_both! {
    a_settled_attempt_is_one_row_with_all_it_was_told,
    the_same_entry_twice_is_one_row,
    the_same_request_id_again_is_another_row,
    a_later_state_replaces_an_earlier_one_and_never_the_other_way_round,
    a_reservation_that_lasts_stands_in_the_database,
    what_was_reserved_and_never_settled_is_an_orphan_at_its_worst_case,
    a_living_process_is_not_recovered,
    nothing_is_left_in_the_journal_of_a_process_that_ended_in_good_order,
    many_segments_are_written_and_taken_away,
    what_stays_open_is_carried_from_segment_to_segment,
    texts_and_numbers_no_database_would_take_are_made_fit,
}

async fn a_settled_attempt_is_one_row_with_all_it_was_told(config: StoreConfig) {
    let ledger = open(&config).await;
    let mut told = entry(1);
    told.service_tier = Some("flex".into());
    (told.images, told.searches, told.estimated) = (2, 3, true);
    ledger.reserve(&told.reservation).unwrap();
    ledger.settle(told.clone());
    assert!(ledger.flush(SOON).await);
    let stored = ledger.call("call-1").await.unwrap();
    let [row] = stored.as_slice() else { panic!("{stored:?}") };
    assert_eq!(row.state, State::Settled);
    // names are sorted in what is kept
    let mut reservation = told.reservation.clone();
    reservation.tags.sort();
    assert_eq!(row.reservation, reservation);
    assert_eq!((row.ended, row.status, row.answered), (Some(told.ended), Some(200), true));
    assert_eq!((row.outcome.as_deref(), row.service_tier.as_deref()), (Some("ok"), Some("flex")));
    assert_eq!((row.usage, row.cost, row.estimated), (told.usage, told.cost, true));
    assert_eq!((row.images, row.searches), (2, 3));
    assert_eq!((row.first_token_ms, row.duration_ms), (Some(7), Some(9)));
    assert_eq!(row.rates, Some(rates()));
}

async fn the_same_entry_twice_is_one_row(config: StoreConfig) {
    let ledger = open(&config).await;
    for n in 0..3 {
        ledger.reserve(&reservation(n)).unwrap();
        ledger.settle(entry(n));
        ledger.settle(entry(n));
    }
    assert!(ledger.flush(SOON).await);
    ledger.settle(entry(1));
    assert!(ledger.flush(SOON).await);
    let costs: Vec<_> = rows(&ledger).await.into_iter().map(|row| row.2).collect();
    assert_eq!(costs, [Some(0), Some(1), Some(2)]);
}

async fn the_same_request_id_again_is_another_row(config: StoreConfig) {
    let ledger = open(&config).await;
    for n in 0..2 {
        let mut entry = entry(n);
        entry.reservation.call = reservation(7).call;
        ledger.reserve(&entry.reservation).unwrap();
        ledger.settle(entry);
    }
    assert!(ledger.flush(SOON).await);
    assert_eq!(ledger.call("call-7").await.unwrap().len(), 2);
}

async fn a_later_state_replaces_an_earlier_one_and_never_the_other_way_round(config: StoreConfig) {
    let ledger = open(&config).await;
    ledger.reserve(&reservation(1)).unwrap();
    ledger.settle(entry(1));
    assert!(ledger.flush(SOON).await);
    // Reserved again, as by a journal that is recovered late: it lasts, it is shown, and changes nothing.
    ledger.reserve(&reservation(1)).unwrap();
    ledger.reserve(&reservation(2)).unwrap();
    eventually("the second is shown", || async { rows(&ledger).await.len() == 2 }).await;
    assert_eq!(rows(&ledger).await[0].1, 2);
    ledger.settle(entry(2));
    assert!(ledger.flush(SOON).await);
    assert_eq!(rows(&ledger).await[1].1, 2);
}

async fn a_reservation_that_lasts_stands_in_the_database(config: StoreConfig) {
    let ledger = open(&config).await;
    ledger.reserve(&reservation(1)).unwrap();
    eventually("it is shown", || async { rows(&ledger).await.len() == 1 }).await;
    assert_eq!(rows(&ledger).await, [("call-1".to_owned(), 0, None, None)]);
    let stored = ledger.call("call-1").await.unwrap();
    assert_eq!((stored[0].state, stored[0].ended, stored[0].usage), (State::Reserved, None, None));
    assert_eq!(ledger.health().open, 1);
}

async fn what_was_reserved_and_never_settled_is_an_orphan_at_its_worst_case(config: StoreConfig) {
    let first = open(&config).await;
    first.reserve(&reservation(1)).unwrap();
    first.reserve(&reservation(2)).unwrap();
    first.settle(entry(2));
    end(first).await;
    let second = open(&config).await;
    let orphan = ("call-1".to_owned(), 1, Some(1000), Some("orphaned".to_owned()));
    assert_eq!(rows(&second).await, [orphan, ("call-2".to_owned(), 2, Some(2), Some("ok".to_owned()))]);
    assert_eq!(second.health().orphans, 1);
    let stored = second.call("call-1").await.unwrap();
    assert!(stored[0].estimated && !stored[0].answered);
    // it was alive after all, in another place
    second.settle(entry(1));
    assert!(second.flush(SOON).await);
    assert_eq!(rows(&second).await[0].1, 2);
}

async fn a_living_process_is_not_recovered(config: StoreConfig) {
    let old = open(&config).await;
    old.reserve(&reservation(1)).unwrap();
    let new = Ledger::open_tuned(&config, Tuning { recover_every: Duration::ZERO, ..hasty() }).await.unwrap();
    assert_eq!(new.health().orphans, 0);
    new.reserve(&reservation(2)).unwrap();
    old.settle(entry(1));
    new.settle(entry(2));
    assert!(old.flush(SOON).await && new.flush(SOON).await);
    assert!(rows(&new).await.iter().all(|row| row.1 == 2));
    // once it has ended without settling, it is: without a restart
    old.reserve(&reservation(3)).unwrap();
    end(old).await;
    eventually("the old one's orphan is found", || async { new.health().orphans == 1 }).await;
}

async fn nothing_is_left_in_the_journal_of_a_process_that_ended_in_good_order(config: StoreConfig) {
    let ledger = open(&config).await;
    for n in 0..100 {
        ledger.reserve(&reservation(n)).unwrap();
        ledger.settle(entry(n));
    }
    assert!(ledger.flush(SOON).await);
    let left = files(&config);
    assert!(left.len() == 1 && left[0].ends_with(".lock"), "{left:?}");
    assert_eq!(ledger.health(), Health { ..Health::default() });
    end(ledger).await;
    assert_eq!(files(&config), Vec::<String>::new());
}

async fn many_segments_are_written_and_taken_away(config: StoreConfig) {
    let ledger = Ledger::open_tuned(&config, Tuning { segment_size: 10_000, ..hasty() }).await.unwrap();
    for n in 0..3000 {
        ledger.reserve(&reservation(n)).unwrap();
        ledger.settle(entry(n));
    }
    assert!(ledger.flush(SOON).await);
    assert_eq!(rows(&ledger).await.len(), 3000);
    assert_eq!(files(&config).len(), 1);
    let tariffs: i64 = on_reader!(ledger.db().unwrap(),
        pool => sqlx::query_scalar("SELECT COUNT(*) FROM tariffs").fetch_one(pool).await)
    .unwrap();
    assert_eq!(tariffs, 1);
}

async fn what_stays_open_is_carried_from_segment_to_segment(config: StoreConfig) {
    let ledger = Ledger::open_tuned(&config, Tuning { segment_size: 10_000, ..hasty() }).await.unwrap();
    ledger.reserve(&reservation(-1)).unwrap();
    ledger.reserve(&reservation(-2)).unwrap();
    for round in 0..20 {
        for n in round * 100..round * 100 + 100 {
            ledger.reserve(&reservation(n)).unwrap();
            ledger.settle(entry(n));
        }
        assert!(ledger.flush(SOON).await);
    }
    eventually("old segments go", || async { files(&config).len() < 10 }).await;
    ledger.settle(entry(-1));
    assert!(ledger.flush(SOON).await);
    end(ledger).await;
    let next = open(&config).await;
    assert_eq!(next.health().orphans, 1);
    let stored = rows(&next).await;
    assert_eq!(stored.len(), 2002);
    assert_eq!((stored[0].0.as_str(), stored[0].1), ("call--2", 1));
    assert!(stored.iter().skip(1).all(|row| row.1 == 2));
}

async fn texts_and_numbers_no_database_would_take_are_made_fit(config: StoreConfig) {
    let ledger = open(&config).await;
    let mut odd = entry(1);
    odd.reservation.model = Some(format!("a\0b{}", "\u{20ac}".repeat(5000)).into());
    odd.reservation.tags = vec![("team".into(), "\u{20ac}".repeat(5000).into()), ("x\0".into(), "y\0\"".into())];
    odd.cost = Some(NanoUsd(i64::MAX));
    odd.usage = Some(Usage { input: Tokens(u64::MAX), ..Usage::default() });
    odd.rates = Some("{\"a\": \"\0\"}".into());
    ledger.reserve(&odd.reservation).unwrap();
    ledger.settle(odd);
    for n in 2..10 {
        ledger.reserve(&reservation(n)).unwrap();
        ledger.settle(entry(n));
    }
    assert!(ledger.flush(SOON).await);
    assert_eq!(rows(&ledger).await.len(), 9);
    assert_eq!(ledger.health().lost, 0);
}

/// As a process ends: its writer does what it can, and the lock is free again.
async fn end(ledger: Ledger) {
    let journal = ledger.journal();
    drop(ledger);
    eventually("the writer ends", || async { journal.strong_count() == 0 }).await;
}
