//! Routing is changed a hundred times under load: endpoints, targets and strategies come and go, and what is known of those that stay is kept.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;
use tollgate::simulator::Reply;

use super::Load;
use crate::support::{Gateway, KEY, UPSTREAM_KEY, Upstream, client, upstream};

const STRATEGIES: [&str; 5] = ["priority", "weighted", "latency", "least_busy", "cost"];

/// The configuration of a round: endpoint 0 of the pool and the broken target are always in it.
fn config(round: usize, pool: &[Upstream], extra: &Upstream, broken: &Upstream) -> String {
    let members: Vec<String> = (0..pool.len())
        .filter(|n| *n == 0 || (round >> (n - 1)) & 1 == 1)
        .map(|n| format!("{{url: \"http://{}\", weight: {}}}", pool[n].address, 1 + (round + n) % 3))
        .collect();
    let balance = ["p2c", "round_robin", "least_busy", "hash"][round % 4];
    let extra_target =
        if round % 3 == 1 { ", {model: extra/gpt-4o-mini, priority: 2, price: {input: 1, output: 2}}" } else { "" };
    let affinity = ["off", "prefix", "session"][round % 3];
    format!(
        "providers:\n  pool: {{kind: vllm, endpoints: [{}], balance: {balance}, slow_start: 0s, api_key: {UPSTREAM_KEY}}}\n\
         \x20 extra: {{kind: openai, base_url: 'http://{}/v1', api_key: {UPSTREAM_KEY}}}\n\
         \x20 broken: {{kind: openai, base_url: 'http://{}/v1', api_key: {UPSTREAM_KEY}, breaker: {{failures: 5, cooldown: 10m}}}}\n\
         models:\n  gpt-4o-mini:\n    strategy: {}\n    affinity: {affinity}\n    targets: [broken/gpt-4o-mini, {{model: pool/gpt-4o-mini, priority: 2}}{extra_target}]\n\
         \x20 turn-{round}: pool/gpt-4o-mini\nkeys: [{{name: test, key: {KEY}}}]\n",
        members.join(", "),
        extra.address,
        broken.address,
        STRATEGIES[round % STRATEGIES.len()]
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_changes_of_routing_fail_no_call_and_forget_nothing() {
    let begun = Instant::now();
    let mut pool = Vec::new();
    for _ in 0..4 {
        pool.push(upstream().await);
    }
    let (extra, broken) = (upstream().await, upstream().await);
    let down = json!({ "error": { "message": "down", "type": "server_error", "param": null, "code": null } });
    broken.simulator.reply("gpt-4o-mini", Reply::json(StatusCode::INTERNAL_SERVER_ERROR, &down));
    let first = config(0, &pool, &extra, &broken);
    let gateway = Gateway::start(&first, &[]).await;
    let client = client();
    for _ in 0..6 {
        let answer = gateway.chat(&client, "gpt-4o-mini", false).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
    let asked = |upstream: &Upstream| upstream.record().counters().calls;
    assert_eq!(asked(&broken), 5, "its breaker is open");

    let text = std::fs::read_to_string(gateway.config_path()).expect("the configuration");
    let load = Load::start(&gateway, 6);
    let changing = Instant::now();
    for round in 1..=100 {
        let next = text.replace(&first, &config(round, &pool, &extra, &broken));
        assert_ne!(next, text);
        let new = gateway.folder().join("tollgate.yaml.new");
        std::fs::write(&new, next).expect("written");
        std::fs::rename(&new, gateway.config_path()).expect("in place");
        let url = format!("http://{}/api/config/reload", gateway.admin);
        let answer = client.post(url).send().await.expect("the admin port answers");
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(asked(&broken), 5, "round {round}: what is known of it outlives the change");
    }
    let changed = changing.elapsed();
    let served = load.end().await;
    let connections: Vec<u64> = pool.iter().chain([&extra]).map(|u| u.record().counters().connections).collect();
    let calls: Vec<u64> = pool.iter().chain([&extra]).map(&asked).collect();
    println!(
        "100 changes in {changed:?} under load: {served} calls, none failed; calls {calls:?} over connections {connections:?}; {:?} in all",
        begun.elapsed()
    );
    assert!(served > 300, "only {served} calls: no load");
    assert!(calls.iter().all(|calls| *calls > 10), "all had a part of it: {calls:?}");
    // the one that is always there: at most a connection for each client, and a few that replaced one that was about to be closed
    assert!(connections[0] <= 20, "{connections:?}");
    assert!(connections.iter().all(|n| *n <= 6 * 30), "{connections:?}");
}
