//! What was spent and used, exported and pruned: sums against sums made by hand.

use futures_util::TryStreamExt;

use super::*;
use crate::store::entry::State;
use crate::store::prune::{Pruned, prune};
use crate::store::query::{Condition, Dimension, Format, Period, Spending, UsageQuery, UsageRow};

on_both! {
    spending_counts_what_the_conditions_fit,
    usage_is_summed_by_whatever_is_asked,
    pruned_rows_are_still_in_every_sum,
    an_export_holds_every_row_once,
    pages_are_all_rows_of_the_period_in_order,
}

/// Noon of a day in 2020, 30 calls an hour apart: keys a and b in turns, every third of a team.
const DAY: i64 = 86_400_000_000;
const NOON: i64 = 1_600_000_000_000_000 / DAY * DAY + DAY / 2;

fn moment(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap()
}

fn made(n: i64) -> Entry {
    let mut entry = entry(n);
    entry.reservation.at = moment(NOON + n * 3_600_000_000);
    entry.ended = entry.reservation.at;
    entry.reservation.key = Some(if n % 2 == 0 { "a" } else { "b" }.into());
    entry.reservation.tags =
        if n % 3 == 0 { vec![("team".into(), "x".into()), ("k.1".into(), "v".into())] } else { vec![] };
    entry.answered = n % 5 != 0;
    entry.cost = if n == 7 { None } else { Some(NanoUsd(n)) };
    entry
}

async fn thirty(config: &StoreConfig) -> Ledger {
    // rows from 2020 stay rows
    let config = StoreConfig { keep: Duration::from_secs(3660 * 86_400), ..config.clone() };
    let ledger = open(&config).await;
    for n in 0..30 {
        ledger.reserve(&made(n).reservation).unwrap();
        ledger.settle(made(n));
    }
    assert!(ledger.flush(SOON).await);
    ledger
}

fn always(filter: &[(Dimension, &str)]) -> Period {
    let filter = filter.iter().map(|(what, is)| Condition { what: what.clone(), is: (*is).to_owned() }).collect();
    Period { from: moment(0), to: at(0), filter }
}

fn total(numbers: impl Iterator<Item = i64> + Clone) -> (i64, u64) {
    (numbers.clone().filter(|n| *n != 7).sum(), u64::try_from(numbers.count()).unwrap())
}

async fn spending_counts_what_the_conditions_fit(config: StoreConfig) {
    let ledger = thirty(&config).await;
    for (filter, numbers) in [
        (always(&[]), (0..30).collect::<Vec<i64>>()),
        (always(&[(Dimension::Key, "a")]), (0..30).step_by(2).collect()),
        (always(&[(Dimension::Team, "x"), (Dimension::Key, "b")]), (3..30).step_by(6).collect()),
        (always(&[(Dimension::Tag("k.1".into()), "v")]), (0..30).step_by(3).collect()),
        (always(&[(Dimension::Key, "nobody")]), vec![]),
        (always(&[(Dimension::Call, "call-4")]), vec![4]),
        (always(&[(Dimension::Day, "2020-09-13")]), (0..12).collect()),
        (always(&[(Dimension::Hour, "2020-09-14T01:00:00Z")]), vec![13]),
        (
            Period { from: moment(NOON + 3_600_000_000), to: moment(NOON + 3 * 3_600_000_000), filter: vec![] },
            vec![1, 2],
        ),
    ] {
        let (cost, count) = total(numbers.into_iter());
        assert_eq!(
            ledger.spent(&filter).await,
            Ok(Spending { cost: NanoUsd(cost), count, held: NanoUsd(0) }),
            "{filter:?}"
        );
    }
    // what is running is held, not spent
    let mut running = made(40).reservation;
    running.key = Some("c".into());
    ledger.reserve(&running).unwrap();
    eventually("it is shown", || async {
        let spent = ledger.spent(&always(&[(Dimension::Key, "c")])).await.unwrap();
        spent == Spending { cost: NanoUsd(0), count: 0, held: NanoUsd(1000) }
    })
    .await;
}

async fn usage_is_summed_by_whatever_is_asked(config: StoreConfig) {
    let ledger = thirty(&config).await;
    check_usage(&ledger).await;
    let by = vec![Dimension::Call, Dimension::Hour];
    let rows = ledger.usage(&UsageQuery { by, period: always(&[]), limit: 7 }).await.unwrap();
    assert_eq!(rows.len(), 7);
    assert_eq!(rows[0].by, [Some("call-29".to_owned()), Some("2020-09-14T17:00:00Z".to_owned())]);
}

async fn check_usage(ledger: &Ledger) {
    let all = ledger.usage(&UsageQuery { by: vec![], period: always(&[]), limit: 10 }).await.unwrap();
    let expected = UsageRow {
        by: vec![],
        calls: 30,
        attempts: 30,
        failed: 6,
        estimated: 0,
        unpriced: 1,
        input_tokens: 300,
        cache_read_tokens: 120,
        output_tokens: 90,
        cost: NanoUsd(total(0..30).0),
        ..UsageRow::default()
    };
    assert_eq!(all, [expected]);
    let by = vec![Dimension::Day, Dimension::Key, Dimension::Team, Dimension::Tag("k.1".into())];
    let rows = ledger.usage(&UsageQuery { by, period: always(&[]), limit: 100 }).await.unwrap();
    let mut found: Vec<(String, i64, u64)> = rows
        .iter()
        .map(|row| {
            let by: Vec<&str> = row.by.iter().map(|text| text.as_deref().unwrap_or("-")).collect();
            (by.join(" "), row.cost.0, row.attempts)
        })
        .collect();
    found.sort();
    let mut expected = Vec::new();
    for (day, hours) in [("2020-09-13", 0..12), ("2020-09-14", 12..30)] {
        for (key, odd) in [("a", 0), ("b", 1)] {
            for (tags, third) in [("x v", true), ("- -", false)] {
                let numbers = hours.clone().filter(move |n| n % 2 == odd && (n % 3 == 0) == third);
                let (cost, count) = total(numbers);
                expected.push((format!("{day} {key} {tags}"), cost, count));
            }
        }
    }
    expected.sort();
    assert_eq!(found, expected);
    let nothing = always(&[(Dimension::Model, "no such")]);
    assert_eq!(ledger.usage(&UsageQuery { by: vec![Dimension::Key], period: nothing, limit: 9 }).await.unwrap(), []);
}

async fn pruned_rows_are_still_in_every_sum(config: StoreConfig) {
    let ledger = thirty(&config).await;
    let before = ledger.spent(&always(&[(Dimension::Team, "x")])).await;
    let midnight = NOON - DAY / 2 + DAY;
    assert_eq!(prune(ledger.db().unwrap(), midnight).await, Ok(Pruned::Some));
    assert_eq!(prune(ledger.db().unwrap(), midnight).await, Ok(Pruned::All));
    assert_eq!(rows(&ledger).await.len(), 18);
    check_usage(&ledger).await;
    assert_eq!(ledger.spent(&always(&[(Dimension::Team, "x")])).await, before);
    // more of a day that is a sum already
    let mut late = made(2);
    late.reservation.at = moment(NOON + 1);
    ledger.settle(late);
    assert!(ledger.flush(SOON).await);
    assert_eq!(prune(ledger.db().unwrap(), midnight).await, Ok(Pruned::Some));
    let (cost, count) = total((0..12).chain([2]));
    let day = always(&[(Dimension::Day, "2020-09-13")]);
    assert_eq!(ledger.spent(&day).await, Ok(Spending { cost: NanoUsd(cost), count, held: NanoUsd(0) }));
    // the writer prunes what is older than it may be
    drop(ledger);
    let ledger = open(&config).await;
    eventually("all are sums", || async { rows(&ledger).await.is_empty() }).await;
    let spent = ledger.spent(&always(&[])).await.unwrap();
    assert_eq!((spent.cost.0, spent.count), (total(0..30).0 + 2, 31));
}

async fn an_export_holds_every_row_once(config: StoreConfig) {
    let ledger = thirty(&config).await;
    let mut odd = made(31);
    odd.reservation.key = Some("=1+\"2\",\n".into());
    odd.usage = None;
    odd.reservation.tags = vec![("team".into(), "a\"b".into())];
    ledger.settle(odd);
    assert!(ledger.flush(SOON).await);
    let lines: String = ledger.export(always(&[]), Format::JsonLines).unwrap().try_collect().await.unwrap();
    assert_eq!(lines.lines().count(), 31);
    let csv: String = ledger.export(always(&[]), Format::Csv).unwrap().try_collect().await.unwrap();
    assert_eq!(csv.lines().count(), 33, "a header, and one with a line break in it");
    let shown = [lines.lines().next().unwrap(), lines.lines().last().unwrap(), ""];
    let shown =
        [shown.join("\n"), csv.lines().take(2).collect::<Vec<_>>().join("\n"), csv.lines().last().unwrap().into()];
    insta::assert_snapshot!("an_export", shown.join("\n"));
    let none = Period { to: moment(1), ..always(&[]) };
    let csv: String = ledger.export(none.clone(), Format::Csv).unwrap().try_collect().await.unwrap();
    assert_eq!(csv.lines().count(), 1);
    let lines: String = ledger.export(none, Format::JsonLines).unwrap().try_collect().await.unwrap();
    assert_eq!(lines, "");
}

async fn pages_are_all_rows_of_the_period_in_order(config: StoreConfig) {
    let ledger = thirty(&config).await;
    let period = Period { from: moment(NOON + 3_600_000_000), ..always(&[]) };
    for size in [1, 7, 29, 1000] {
        let mut pages = crate::store::stored::Pages::new(ledger.db().unwrap().clone(), period.clone(), size);
        let mut calls = Vec::new();
        while let Some(page) = pages.next().await.unwrap() {
            assert!(page.iter().all(|entry| entry.state == State::Settled && entry.tariff.is_some()));
            calls.extend(page.into_iter().map(|entry| entry.reservation.call.to_string()));
        }
        let expected: Vec<String> = (1..30).map(|n| format!("call-{n}")).collect();
        assert_eq!(calls, expected, "{size}");
    }
}
