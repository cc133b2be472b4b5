//! Several gateways as one: what they share in a real Redis is a ceiling for all of them, and what becomes of calls while it is out.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use serde_json::json;

use crate::support::redis::Redis;
use crate::support::scripted::Scripted;
use crate::support::{Gateway, KEY, client, eventually};

async fn provider() -> Scripted {
    Scripted::start(|_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let body = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 100, "total_tokens": 103},
        });
        let head = Response::builder().header("content-type", "application/json");
        head.body(Body::from(body.to_string())).expect("a reply")
    })
    .await
}

/// So many gateways that share one Redis, and whose key has `rest`. A call costs 0.10 USD.
async fn replicas<const N: usize>(provider: &Scripted, redis: &Redis, rest: &str) -> [Gateway; N] {
    let yaml = format!(
        "store: {{counters: '{}'}}\nkeys: [{{name: test, key: {KEY}{rest}}}]\n\
         models: {{m: {{target: up/x, price: {{input: 0, output: 1000}}}}}}\n\
         providers:\n  up: {{kind: openai, base_url: 'http://{}/v1', api_key: k, queue: off}}\n",
        redis.url(),
        provider.address
    );
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Gateway::start(&yaml, &[]).await);
    }
    // a server that knows nothing yet could have lost it: it gives out no money for two seconds
    tokio::time::sleep(Duration::from_millis(2300)).await;
    all.try_into().ok().expect("as many as were started")
}

async fn call(gateway: &Gateway, client: &reqwest::Client) -> (u16, Duration) {
    let body = json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]});
    let begun = Instant::now();
    let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).json(&body);
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    answer.bytes().await.expect("whole");
    (status, begun.elapsed())
}

async fn race(gateways: &[Gateway], calls: usize) -> Vec<u16> {
    let client = client();
    let all = (0..calls).map(|n| call(&gateways[n % gateways.len()], &client));
    futures_util::future::join_all(all).await.into_iter().map(|(status, _)| status).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_calls_at_once_over_three_gateways_on_a_budget_for_ten_are_at_most_ten() {
    let (provider, redis) = (provider().await, Redis::start());
    let gateways: [Gateway; 3] =
        replicas(&provider, &redis, ", budget: {usd: 1, per: day, on_outage: closed, allowance: 0}").await;
    let statuses = race(&gateways, 200).await;
    let served = statuses.iter().filter(|status| **status == 200).count();
    println!("{served} served of 200, {} reached the provider", provider.calls());
    assert!(served <= 10 && provider.calls() <= 10, "{served} served, {} reached the provider", provider.calls());
    // nothing is stranded: what one has put aside and does not need, another gets
    let client = client();
    let begun = Instant::now();
    while provider.calls() < 10 && begun.elapsed() < Duration::from_secs(20) {
        for gateway in &gateways {
            call(gateway, &client).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(provider.calls(), 10);
    for gateway in &gateways {
        assert_eq!(call(gateway, &client).await.0, 429);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_requests_and_tokens_hold_over_three_gateways() {
    for rest in [", limits: {rpm: 12}", ", limits: {tpm: 1400}"] {
        let (provider, redis) = (provider().await, Redis::start());
        let gateways: [Gateway; 3] = replicas(&provider, &redis, rest).await;
        let begun = Instant::now();
        let statuses = race(&gateways, 120).await;
        let served = statuses.iter().filter(|status| **status == 200).count() as f64;
        // a bucket that fills up evenly: what it holds, and what came since; a call is about 120 tokens
        let allowed = 12.0 + begun.elapsed().as_secs_f64() / 5.0 + 1.0;
        println!("{rest}: {served} of {allowed}");
        assert!(served >= 3.0 && served <= allowed, "{rest}: {served} served, {allowed} allowed");
        assert_eq!(provider.calls() as f64, served);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_counters_hang_limits_go_on_locally_budgets_close_and_nobody_waits() {
    let (provider, redis) = (provider().await, Redis::start());
    let rest = ", limits: {rpm: 100000}, budget: {usd: 1000, per: day, on_outage: closed, allowance: 0}";
    let [gateway] = &replicas::<1>(&provider, &redis, rest).await;
    let client = client();
    eventually("the counters are reached", || async { call(gateway, &client).await.0 == 200 }).await;
    let mut usual: Vec<Duration> = Vec::new();
    for _ in 0..20 {
        usual.push(call(gateway, &client).await.1);
    }
    redis.signal(libc::SIGSTOP);
    let (mut refused, mut slowest) = (0, Duration::ZERO);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        let (status, took) = call(gateway, &client).await;
        assert!(matches!(status, 200 | 429 | 503), "{status}");
        slowest = slowest.max(took);
        refused += u64::from(status != 200);
    }
    redis.signal(libc::SIGCONT);
    usual.sort();
    let typical = usual[usual.len() / 2];
    println!("usually {typical:?}, at most {slowest:?} while the counters hang; {refused} refused");
    assert!(refused > 0, "a budget that is closed is closed at last");
    assert!(slowest < typical + Duration::from_millis(500), "{slowest:?}");
    eventually("it goes on", || async { call(gateway, &client).await.0 == 200 }).await;
}
