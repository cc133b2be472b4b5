//! The ledger against what the provider was asked for: every try is in it once, whatever becomes of the gateway, and budgets go on from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use serde_json::json;
use tollgate::config::store::{LedgerPlace, StoreConfig};
use tollgate::store::Ledger;
use tollgate::store::query::{Dimension, Period, UsageQuery};

use crate::support::scripted::Scripted;
use crate::support::{Gateway, KEY, client};

/// 0.001 USD a token of output.
const PRICE: &str = "price: {input: 0, output: 1000}";

const KILLS: u64 = 50;

/// The ids of the calls the provider was asked for, as it saw them.
type Seen = Arc<Mutex<Vec<String>>>;

async fn provider(takes: Duration) -> (Scripted, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let scripted = Scripted::start(move |asked| {
        noted.lock().expect("no holder panics").push(asked.header("x-request-id").to_owned());
        async move {
            tokio::time::sleep(takes).await;
            let body = json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 10, "total_tokens": 13},
            });
            let head = Response::builder().header("content-type", "application/json");
            head.body(Body::from(body.to_string())).expect("a reply")
        }
    })
    .await;
    (scripted, seen)
}

fn yaml(provider: &Scripted, folder: &std::path::Path, rest: &str) -> String {
    format!(
        "store: 'sqlite:{}/tollgate.db'\nkeys: [{{name: test, key: {KEY}, tags: {{team: search}}{rest}}}]\n\
         models: {{m: {{target: up/x, {PRICE}}}}}\nproviders:\n  up: {{kind: openai, base_url: 'http://{}/v1', api_key: k, queue: off}}\n",
        folder.display(),
        provider.address
    )
}

async fn call(gateway: &Gateway, client: &reqwest::Client) -> Option<u16> {
    let body = json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]});
    let answer = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).json(&body).send().await.ok()?;
    let status = answer.status().as_u16();
    answer.bytes().await.ok()?;
    Some(status)
}

/// The rows of the database: for each call how many, and their cost. What is left in the journal is recovered first.
async fn rows(folder: &std::path::Path) -> BTreeMap<String, (u64, i64)> {
    let place = LedgerPlace::Sqlite(folder.join("tollgate.db"));
    let store = StoreConfig { ledger: place, journal: folder.join("tollgate.journal"), ..StoreConfig::default() };
    let ledger = Ledger::open(&store).await.expect("the ledger opens");
    assert!(ledger.flush(Duration::from_secs(10)).await);
    let period = Period { from: jiff::Timestamp::UNIX_EPOCH, to: jiff::Timestamp::MAX, filter: Vec::new() };
    let query = UsageQuery { by: vec![Dimension::Call], period, limit: 100_000 };
    let mut rows = BTreeMap::new();
    for row in ledger.usage(&query).await.expect("rows") {
        let call = row.by[0].clone().expect("a call has an id");
        let id = call.split(['#', '/']).next().unwrap_or_default().to_owned();
        let at: &mut (u64, i64) = rows.entry(id).or_default();
        *at = (at.0 + row.attempts, at.1 + row.cost.0);
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_again_and_again_loses_no_try_and_books_none_twice() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (provider, seen) = provider(Duration::from_millis(5)).await;
    let mut gateway = Gateway::start(&yaml(&provider, folder.path(), ""), &[]).await;
    for round in 0..KILLS {
        let client = client();
        let load = (0..8).map(|_| {
            let (gateway, client) = (&gateway, &client);
            async move { while call(gateway, client).await.is_some() {} }
        });
        let kill = async {
            tokio::time::sleep(Duration::from_millis(30 + (round * 37) % 110)).await;
            gateway.signal(libc::SIGKILL);
        };
        tokio::join!(futures_util::future::join_all(load), kill);
        gateway.restart().await;
    }
    assert_eq!(call(&gateway, &client()).await, Some(200));
    gateway.signal(libc::SIGTERM);
    gateway.ended(Duration::from_secs(10)).await;
    let rows = rows(folder.path()).await;
    let seen = seen.lock().expect("no holder panics").clone();
    assert!(seen.len() > 300, "only {} calls: the machine is too slow for this test", seen.len());
    let lost: Vec<&String> = seen.iter().filter(|id| !rows.contains_key(*id)).collect();
    assert_eq!(lost, Vec::<&String>::new(), "of {} the ledger has not", seen.len());
    let twice: Vec<_> = rows.iter().filter(|(_, (count, _))| *count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    // what the provider never saw was put down just before the end: at most one for each that was running
    assert!(rows.len() <= seen.len() + KILLS as usize * 8, "{} rows for {} tries", rows.len(), seen.len());
    let whole = rows.values().filter(|(_, cost)| *cost == 10_000_000).count();
    let worst = rows.values().filter(|(_, cost)| *cost == 100_000_000).count();
    println!("{} tries seen, {} rows: {whole} by usage, {worst} at their worst case", seen.len(), rows.len());
    assert_eq!(whole + worst, rows.len());
    assert!(worst <= KILLS as usize * 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_goes_on_where_it_was_after_a_restart_and_after_a_crash() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (provider, seen) = provider(Duration::ZERO).await;
    // pays for a whole call beside ten
    let mut gateway = Gateway::start(&yaml(&provider, folder.path(), ", budget: {usd: 0.2, per: month}"), &[]).await;
    let client = client();
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        for _ in 0..5 {
            assert_eq!(call(&gateway, &client).await, Some(200));
        }
        gateway.signal(signal);
        gateway.ended(Duration::from_secs(10)).await;
        gateway.restart().await;
    }
    assert_eq!(call(&gateway, &client).await, Some(200), "0.10 are left");
    assert_eq!(call(&gateway, &client).await, Some(429));
    assert_eq!(seen.lock().expect("no holder panics").len(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_of_a_try_says_all_that_was_booked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (provider, _) = provider(Duration::ZERO).await;
    let mut gateway = Gateway::start(&yaml(&provider, folder.path(), ""), &[]).await;
    let answer = client()
        .post(gateway.url("/v1/chat/completions"))
        .bearer_auth(KEY)
        .header("x-request-id", "row-1")
        .header("x-tollgate-tags", "project=ranker")
        .json(&json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}], "user": "ada"}))
        .send()
        .await
        .expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers()["x-tollgate-cost-usd"].to_str().ok()), (200, Some("0.01")));
    let line = gateway.log_of(1).await[0].clone();
    assert_eq!(line["tags"], json!({"team": "search", "project": "ranker", "user": "ada"}));
    assert_eq!(line["cost_usd"], "0.01");
    gateway.signal(libc::SIGTERM);
    gateway.ended(Duration::from_secs(10)).await;
    let place = LedgerPlace::Sqlite(folder.path().join("tollgate.db"));
    let journal = folder.path().join("tollgate.journal");
    let ledger =
        Ledger::open(&StoreConfig { ledger: place, journal, ..StoreConfig::default() }).await.expect("it opens");
    let attempts = ledger.call("row-1").await.expect("rows");
    assert_eq!(attempts.len(), 1);
    let row = &attempts[0];
    assert_eq!((row.cost.map(|cost| cost.0), row.estimated, row.answered), (Some(10_000_000), false, true));
    assert_eq!((row.outcome.as_deref(), row.status), (Some("ok"), Some(200)));
    let usage = row.usage.expect("as reported");
    assert_eq!((usage.input.0, usage.output.0), (3, 10));
    let tags: Vec<String> = row.reservation.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(tags, ["project=ranker", "team=search", "user=ada"]);
    assert_eq!(row.reservation.key.as_deref(), Some("test"));
}
