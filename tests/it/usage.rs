//! What is told of spending, asserted on sums done by hand: at the admin port, at the command line, in exports, as gauges and as events.

use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use serde_json::{Value, json};
use tollgate::config::Secret;

use crate::support::redis::Redis;
use crate::support::scripted::Scripted;
use crate::support::{Gateway, KEY, client, eventually};

const OTHER: &str = "sk-other-0123456789abcdef";
const WEBHOOK_SECRET: &str = "webhook-secret-0123456789";

/// Of 1000 tokens of input 400 are read from the cache; 10 are output, or what `x` says.
async fn provider() -> Scripted {
    Scripted::start(|request| async move {
        let output: u64 = if request.text().contains("\"big\"") { 1000 } else { 10 };
        let body = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": output, "total_tokens": 1000 + output,
                "prompt_tokens_details": {"cached_tokens": 400}},
        });
        let head = Response::builder().header("content-type", "application/json");
        head.body(Body::from(body.to_string())).expect("a reply")
    })
    .await
}

/// `small`: 600 * 2 + 400 * 0.5 + 10 * 10 = 1500 millionths of a dollar; `big`: 600 * 3 + 400 * 3 + 1000 * 15 = 18000.
async fn gateway(provider: &Scripted, rest: &str) -> Gateway {
    let yaml = format!(
        "store: sqlite:books.db\n\
         keys:\n  - {{name: a, key: {KEY}, tags: {{team: search}}}}\n  - {{name: b, key: {OTHER}, tags: {{team: ads}}}}\n\
         models:\n  small: {{target: up/small, price: {{input: 2, cached_input: 0.5, output: 10}}}}\n\
         \x20 big: {{target: up/big, price: {{input: 3, output: 15}}}}\n  free: up/free\n\
         providers:\n  up: {{kind: openai, base_url: 'http://{}/v1', api_key: k, queue: off}}\n{rest}",
        provider.address
    );
    Gateway::start(&yaml, &[]).await
}

async fn call(gateway: &Gateway, key: &str, model: &str, id: &str) {
    let body = json!({"model": model, "max_tokens": 1000, "messages": [{"role": "user", "content": "Hello"}]});
    let request = client().post(gateway.url("/v1/chat/completions")).bearer_auth(key).header("x-request-id", id);
    let answer = request.json(&body).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.bytes().await.expect("whole");
}

/// Three small of `a`, one small and two big of `b`, one of `a` that has no price.
async fn spent(gateway: &Gateway) {
    for (n, (key, model)) in [
        (KEY, "small"),
        (KEY, "small"),
        (KEY, "small"),
        (OTHER, "small"),
        (OTHER, "big"),
        (OTHER, "big"),
        (KEY, "free"),
    ]
    .into_iter()
    .enumerate()
    {
        call(gateway, key, model, &format!("call-{n}")).await;
    }
}

async fn ask(gateway: &Gateway, path: &str) -> (u16, String) {
    let answer = client().get(format!("http://{}{path}", gateway.admin)).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("whole"))
}

async fn told(gateway: &Gateway, path: &str) -> Value {
    let (status, text) = ask(gateway, path).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

async fn tollgate(arguments: &[&str], gateway: &Gateway) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).arg("-c").arg(gateway.config_path()).env_clear();
    tokio::task::spawn_blocking(move || command.output().expect("the program")).await.expect("it ends")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn rows(told: &Value, names: &[&str]) -> Vec<Vec<String>> {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = told.as_array().expect("a list");
    rows.iter().map(|row| names.iter().map(|name| word(&row[*name])).collect()).collect()
}

const BY_BOTH: [[&str; 7]; 4] = [
    ["b", "big", "2", "2000", "800", "2000", "0.036"],
    ["a", "small", "3", "3000", "1200", "30", "0.0045"],
    ["b", "small", "1", "1000", "400", "10", "0.0015"],
    ["a", "free", "1", "1000", "400", "10", "0"],
];
const NAMES: [&str; 7] = ["key", "model", "calls", "input_tokens", "cache_read_tokens", "output_tokens", "cost_usd"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_are_exact_whoever_asks() {
    let provider = provider().await;
    let gateway = gateway(&provider, "").await;
    spent(&gateway).await;
    let usage = told(&gateway, "/api/usage?by=key,model&since=1d").await;
    assert_eq!(rows(&usage["rows"], &NAMES), BY_BOTH);
    assert_eq!((&usage["total"]["cost_usd"], &usage["total"]["cost_nano_usd"]), (&json!("0.042"), &json!(42_000_000)));
    assert_eq!(
        (&usage["total"]["unpriced"], &usage["behind"], &usage["truncated"]),
        (&json!(1), &json!(0), &json!(false))
    );
    // less of it
    let usage = told(&gateway, "/api/usage?by=model&filter=team:search&filter=model:small").await;
    assert_eq!(rows(&usage["rows"], &["model", "cost_usd"]), [["small", "0.0045"]]);
    assert_eq!(told(&gateway, "/api/usage?until=2020-01-01&since=2019-01-01&by=key").await["rows"], json!([]));
    let (status, csv) = ask(&gateway, "/api/usage?by=key,model&format=csv").await;
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((status, lines.len()), (200, 5));
    let column = |name: &str| lines[0].iter().position(|other| *other == name).expect("a column");
    let read: Vec<Vec<&str>> =
        lines[1..].iter().map(|line| NAMES.iter().map(|name| line[column(name)]).collect()).collect();
    assert_eq!(read, BY_BOTH);

    // the command line, while it runs
    let output = tollgate(&["usage", "--by", "key,model", "--format", "json"], &gateway).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(rows(&serde_json::from_str(&out(&output)).expect("JSON"), &NAMES), BY_BOTH);
    let table = out(&tollgate(&["usage"], &gateway).await);
    assert!(table.contains("big") && table.contains("0.042") && table.contains("1 tries have no price"), "{table}");
    let calls = out(&tollgate(&["usage", "--by", "call", "--format", "json"], &gateway).await);
    let calls: Value = serde_json::from_str(&calls).expect("JSON");
    assert_eq!(calls.as_array().map(Vec::len), Some(7), "a row per attempt");
    // and when it does not
    let config = gateway.config_path();
    let kept = tempfile::tempdir().expect("a folder");
    gateway.signal(libc::SIGTERM);
    let mut gateway = gateway;
    assert!(gateway.ended(Duration::from_secs(20)).await.success());
    let output = tollgate(&["usage", "--by", "key,model", "--format", "json"], &gateway).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no gateway runs"));
    assert_eq!(rows(&serde_json::from_str(&out(&output)).expect("JSON"), &NAMES), BY_BOTH);
    let output = tollgate(&["usage", "explain", "call-4", "--format", "json"], &gateway).await;
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).expect("JSON")["cost_usd"], "0.018");
    // nobody to ask
    std::fs::rename(config.with_file_name("books.db"), kept.path().join("books.db")).expect("moved");
    let output = tollgate(&["usage"], &gateway).await;
    assert_eq!(output.status.code(), Some(3), "{}", out(&output));
    assert!(!config.with_file_name("books.db").exists(), "nothing is made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_explained_to_its_last_digit() {
    let provider = provider().await;
    let gateway = gateway(&provider, "").await;
    spent(&gateway).await;
    let call = told(&gateway, "/api/usage/calls/call-0").await;
    let attempt = &call["attempts"][0];
    assert_eq!(
        (&call["cost_usd"], &attempt["basis"], &attempt["outcome"]),
        (&json!("0.0015"), &json!("usage"), &json!("ok"))
    );
    let lines = rows(&attempt["lines"], &["what", "count", "rate_usd", "amount_usd"]);
    assert_eq!(
        lines,
        [
            ["cached_input", "400", "0.0000005", "0.0002"],
            ["input", "600", "0.000002", "0.0012"],
            ["output", "10", "0.00001", "0.0001"]
        ]
    );
    let version = attempt["price"]["version"].as_str().expect("a version");
    assert!(!version.is_empty());
    // what has no rate of its own says whose it has
    let call = told(&gateway, "/api/usage/calls/call-4").await;
    let cached = &call["attempts"][0]["lines"][0];
    assert_eq!(
        (&cached["what"], &cached["billed_as"], &cached["amount_usd"]),
        (&json!("cached_input"), &json!("input"), &json!("0.0012"))
    );
    // every call's lines make its cost
    for n in 0..7 {
        let call = told(&gateway, &format!("/api/usage/calls/call-{n}")).await;
        let attempt = &call["attempts"][0];
        let sum: f64 =
            rows(&attempt["lines"], &["amount_usd"]).iter().map(|row| row[0].parse::<f64>().expect("a number")).sum();
        let cost = attempt["cost_usd"].as_str().map_or(0.0, |cost| cost.parse().expect("a number"));
        assert!((sum - cost).abs() < 1e-15, "{call}");
    }
    assert_eq!(told(&gateway, "/api/usage/calls/call-6").await["attempts"][0]["basis"], "unpriced");
    let output = tollgate(&["usage", "explain", "call-0"], &gateway).await;
    let table = out(&output);
    assert!(
        ["cached_input", "0.0000005", "0.0012", "booked", version].iter().all(|word| table.contains(word)),
        "{table}"
    );
    let output = tollgate(&["usage", "explain", "no-such-call"], &gateway).await;
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no call has this id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_has_a_row_per_try() {
    let provider = provider().await;
    let gateway = gateway(&provider, "").await;
    spent(&gateway).await;
    let (status, lines) = ask(&gateway, "/api/usage/export?format=jsonl").await;
    let exported: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((status, exported.len()), (200, 7));
    let sum: i64 = exported.iter().filter_map(|row| row["cost_nano_usd"].as_i64()).sum();
    assert_eq!(sum, 42_000_000);
    assert!(exported[..6].iter().all(|row| row["tariff"].is_string()) && exported[6]["tariff"].is_null());
    let (_, csv) = ask(&gateway, "/api/usage/export?format=csv&filter=key:b").await;
    assert_eq!(csv.lines().count(), 4);
    assert!(csv.starts_with("call,attempt,at,"));
    for path in
        ["/api/usage/export?format=xml", "/api/usage?by=weather", "/api/usage?since=soon", "/api/usage?team=search"]
    {
        let (status, text) = ask(&gateway, path).await;
        assert!(status == 400 && text.contains("write"), "{path}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_period_is_replayed_at_other_prices() {
    let provider = provider().await;
    let gateway = gateway(&provider, "").await;
    spent(&gateway).await;
    let prices = gateway.folder().join("other.yaml");
    std::fs::write(&prices, "providers: {up: {rows: [{match: [small], prices: {input: 4, output: 10}}, {match: [free], prices: {input: 1, output: 0}}]}}\n")
        .expect("a file");
    let arguments = ["usage", "reprice", "--prices", prices.to_str().expect("UTF-8"), "--format", "json"];
    let output = tollgate(&arguments, &gateway).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_str(&out(&output)).expect("JSON");
    let names = ["model", "attempts", "repriced", "unpriced", "before_usd", "after_usd", "difference_usd"];
    let expected = [
        // nobody prices it there
        ["big", "2", "0", "2", "0.036", "0", "-0.036"],
        ["free", "1", "1", "0", "0", "0.001", "0.001"],
        // 1000 * 4 + 10 * 10
        ["small", "4", "4", "0", "0.006", "0.0164", "0.0104"],
    ];
    assert_eq!(rows(&told["models"], &names), expected);
    assert_eq!(rows(&json!([told["total"]]), &names), [["total", "7", "5", "2", "0.042", "0.0174", "-0.0246"]]);
    // nothing has changed, and a file at fault is told
    assert_eq!(self::told(&gateway, "/api/usage").await["total"]["cost_usd"], "0.042");
    std::fs::write(&prices, "providers: {up: {rows: [{match: [small], prices: {input: four}}]}}\n").expect("a file");
    assert_eq!(tollgate(&arguments, &gateway).await.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_and_prices_are_shown() {
    let provider = provider().await;
    let gateway = gateway(&provider, "budgets: [{match: {team: search}, usd: 1, per: day}]\n").await;
    for n in 0..3 {
        call(&gateway, KEY, "small", &format!("call-{n}")).await;
    }
    let told_budgets = told(&gateway, "/api/budgets").await;
    let shown = rows(&told_budgets["budgets"], &["subject", "spent_usd", "held_usd", "remaining_nano_usd"]);
    assert_eq!(shown, [["team=search", "0.0045", "0", "995500000"]]);
    assert!((gateway.metric("tollgate_budget_remaining_usd", &["team=search"]).await - 0.9955).abs() < 1e-12);
    eventually("the ledger has them all", || async { gateway.metric("tollgate_ledger_behind_rows", &[]).await == 0.0 })
        .await;
    assert!(gateway.metrics().await.contains("tollgate_ledger_journal_bytes "));
    let status = told(&gateway, "/api/status").await;
    assert_eq!(
        (&status["ledger"]["on"], &status["ledger"]["last_error"], &status["counters_connected"]),
        (&json!(true), &Value::Null, &json!(true))
    );
    let prices = told(&gateway, "/api/prices").await;
    let models = rows(&prices["models"], &["model", "target"]);
    assert_eq!(models, [["small", "up/small"], ["big", "up/big"], ["free", "up/free"]]);
    assert!(prices["models"][0]["version"].is_string() && prices["models"][2]["price"].is_null(), "{prices}");
}

// === events ===

/// What came to the webhook: signatures and bodies. The first answer is a refusal.
type Got = Arc<Mutex<Vec<(String, String)>>>;

async fn receiver() -> (Scripted, Got) {
    let got = Got::default();
    let kept = Arc::clone(&got);
    let receiver = Scripted::start(move |request| {
        let kept = Arc::clone(&kept);
        async move {
            let signature = request.header("x-tollgate-signature").to_owned();
            let mut got = kept.lock().expect("nobody panicked");
            got.push((signature, request.text()));
            let status = if got.len() == 1 { 503 } else { 204 };
            Response::builder().status(status).body(Body::empty()).expect("a reply")
        }
    })
    .await;
    (receiver, got)
}

/// The `data` of every entry of a stream.
fn entries(server: &Redis, stream: &str) -> Vec<Value> {
    let client = redis::Client::open(server.url()).expect("a URL");
    let Ok(mut connection) = client.get_connection_with_timeout(Duration::from_secs(1)) else { return Vec::new() };
    type Entries = Vec<(String, Vec<(String, String)>)>;
    let read: Entries = redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(&mut connection).expect("a stream");
    let data = |(_, fields): (String, Vec<(String, String)>)| {
        fields.into_iter().find(|(name, _)| name == "data").map(|(_, data)| data)
    };
    read.into_iter().filter_map(data).map(|data| serde_json::from_str(&data).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_runs_low_is_told_once_and_signed() {
    let (provider, redis) = (provider().await, Redis::start());
    let (receiver, got) = receiver().await;
    // each call of `big` costs 0.018 of 0.1: the fifth passes 80 %
    let rest = format!(
        "budgets: [{{match: {{team: ads}}, usd: 0.1, per: day, soft: [80]}}]\n\
         events:\n  webhook: {{url: 'http://{}/hook', secret: {WEBHOOK_SECRET}, on: [budget]}}\n\
         \x20 redis: {{url: 'redis://127.0.0.1:{}', on: [budget, cost]}}\n",
        receiver.address, redis.port
    );
    let gateway = gateway(&provider, &rest).await;
    for n in 0..5 {
        call(&gateway, OTHER, "big", &format!("call-{n}")).await;
    }
    eventually("the webhook has it, the second time", || async { got.lock().expect("whole").len() >= 2 }).await;
    eventually("the stream has all", || async { entries(&redis, "tollgate:events").len() == 6 }).await;
    eventually("it is counted", || async {
        gateway.metric("tollgate_events_total", &["\"webhook\"", "\"sent\""]).await == 1.0
    })
    .await;
    let got = got.lock().expect("whole").clone();
    assert_eq!(got.len(), 2, "once, but for the refusal");
    let (signature, body) = &got[1];
    let seconds = signature.strip_prefix("t=").and_then(|rest| rest.split_once(',')).map(|(t, _)| t).expect("a time");
    let seconds: i64 = seconds.parse().expect("seconds");
    assert!((jiff::Timestamp::now().as_second() - seconds).abs() < 60);
    let secret = Secret::new(WEBHOOK_SECRET);
    assert_eq!(*signature, tollgate::event::signature(&secret, seconds, body.as_bytes()));
    let body: Value = serde_json::from_str(body).expect("JSON");
    let names = ["type", "percent", "spent_usd", "ceiling_usd"];
    assert_eq!(rows(&body["events"], &names), [["budget", "80", "0.09", "0.1"]]);
    assert!(body["events"][0]["budget"].as_str().is_some_and(|name| name.contains("team=ads")), "{body}");

    let told = Value::from(entries(&redis, "tollgate:events"));
    let costs: Vec<Value> = told.as_array().expect("a list").iter().filter(|e| e["type"] == "cost").cloned().collect();
    let calls: Vec<[&str; 2]> =
        vec![["call-0", "0.018"], ["call-1", "0.018"], ["call-2", "0.018"], ["call-3", "0.018"], ["call-4", "0.018"]];
    assert_eq!(rows(&Value::from(costs.clone()), &["call", "cost_usd"]), calls, "in their order");
    assert_eq!(costs[0]["tags"], json!({"team": "ads"}));
    // one that is gone holds nobody up
    drop(receiver);
    call(&gateway, KEY, "small", "after").await;
}
