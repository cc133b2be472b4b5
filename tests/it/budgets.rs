//! Ceilings of money, judged by what the provider was asked for: never passed, whatever runs at once and however calls end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::scripted::Scripted;
use crate::support::{Gateway, KEY, client, eventually};

/// Of a call with `max_tokens: 100` and an answer of 100 tokens: 0.10 USD, and the prompt is free.
const PRICE: &str = "price: {input: 0, output: 1000}";

fn completion(output: u64) -> Response {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": output, "total_tokens": 3 + output},
    });
    let head = Response::builder().header("content-type", "application/json");
    head.body(Body::from(body.to_string())).expect("a reply")
}

async fn provider(output: u64, takes: Duration) -> Scripted {
    Scripted::start(move |_| async move {
        tokio::time::sleep(takes).await;
        completion(output)
    })
    .await
}

/// A gateway whose one key has `rest`, with `top` beside.
async fn gateway(provider: &Scripted, rest: &str, model: &str, top: &str) -> Gateway {
    let yaml = format!(
        "keys: [{{name: test, key: {KEY}, tags: {{team: search}}{rest}}}]\nmodels: {{m: {{target: up/x, {model}}}, other: up/other}}\n\
         providers:\n  up: {{kind: openai, base_url: 'http://{}/v1', api_key: k, queue: off}}\n{top}",
        provider.address
    );
    Gateway::start(&yaml, &[]).await
}

fn body(stream: bool) -> Value {
    json!({"model": "m", "max_tokens": 100, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]})
}

fn call(gateway: &Gateway, client: &reqwest::Client, body: &Value) -> reqwest::RequestBuilder {
    client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).json(body)
}

async fn race(gateway: &Gateway, calls: usize) -> Vec<u16> {
    let client = client();
    let all = (0..calls).map(|_| async {
        let answer = call(gateway, &client, &body(false)).send().await.expect("an answer");
        let status = answer.status().as_u16();
        answer.bytes().await.expect("whole");
        status
    });
    futures_util::future::join_all(all).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_calls_at_once_on_a_budget_for_ten_are_ten() {
    let provider = provider(100, Duration::from_millis(100)).await;
    let gateway = gateway(&provider, ", budget: {usd: 1, per: day}", PRICE, "").await;
    let statuses = race(&gateway, 200).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 190);
    assert_eq!(provider.calls(), 10);
    // and says whose, how much, and until when
    let answer = call(&gateway, &client(), &body(false)).send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers()["x-should-retry"].to_str().ok()), (429, Some("false")));
    assert!(answer.headers().contains_key("retry-after"));
    let error = answer.json::<Value>().await.expect("JSON")["error"].clone();
    assert_eq!(
        (error["type"].as_str(), error["code"].as_str()),
        (Some("insufficient_quota"), Some("insufficient_quota"))
    );
    let message = error["message"].as_str().expect("a message");
    assert!(
        message.contains("budget of key=test per day") && message.contains("$1") && message.contains("resets at"),
        "{message}"
    );
    assert!((gateway.metric("tollgate_cost_usd_total", &[]).await - 1.0).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_aside_and_not_used_is_there_for_others() {
    // a hundredth of what each may cost
    let provider = provider(1, Duration::from_millis(5)).await;
    let gateway = gateway(&provider, ", budget: {usd: 0.15, per: {rolling: 24h}}", PRICE, "").await;
    let client = client();
    let mut served = 0;
    for _ in 0..60 {
        let answer = call(&gateway, &client, &body(false)).send().await.expect("an answer");
        served += u64::from(answer.status() == 200);
        if answer.status() == 200 {
            assert_eq!(answer.headers()["x-tollgate-cost-usd"], "0.001");
        }
        answer.bytes().await.expect("whole");
    }
    // while a whole call could still be paid
    assert_eq!((served, provider.calls()), (51, 51));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_budget_holds_for_everyone_under_its_tag() {
    let provider = provider(100, Duration::from_millis(20)).await;
    let second = "sk-second-0123456789abcdef";
    let yaml = format!(
        "keys:\n  - {{name: a, key: {KEY}, tags: {{team: search}}}}\n  - {{name: b, key: {second}, tags: {{team: search}}}}\n\
         models: {{m: {{target: up/x, {PRICE}}}}}\nbudgets: [{{match: {{team: search}}, usd: 0.5, per: month}}]\n\
         providers:\n  up: {{kind: openai, base_url: 'http://{}/v1', api_key: k, queue: off}}\n",
        provider.address
    );
    let gateway = Gateway::start(&yaml, &[]).await;
    let client = client();
    let all = (0..40).map(|n| {
        let key = if n % 2 == 0 { KEY } else { second };
        let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(key).json(&body(false));
        async move { request.send().await.expect("an answer").status().as_u16() }
    });
    let statuses = futures_util::future::join_all(all).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5, "{statuses:?}");
    assert_eq!(provider.calls(), 5);
}

#[tokio::test]
async fn a_model_without_a_price_is_not_for_those_under_a_budget() {
    let provider = provider(1, Duration::ZERO).await;
    let gateway = gateway(&provider, ", budget: {usd: 1, per: day}", PRICE, "").await;
    let mut other = body(false);
    other["model"] = json!("other");
    let answer = call(&gateway, &client(), &other).send().await.expect("an answer");
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.json::<Value>().await.expect("JSON")["error"]["code"], "model_has_no_price");
    assert_eq!(provider.calls(), 0);
    // the raw lane tells nobody what it costs
    let answer = client().get(gateway.url("/raw/up/models")).bearer_auth(KEY).send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), provider.calls()), (403, 0));
}

#[tokio::test]
async fn a_provider_that_refuses_costs_nothing() {
    let provider = Scripted::start(|_| async { crate::support::scripted::reply(500, &[]) }).await;
    let gateway = gateway(&provider, ", budget: {usd: 1, per: day}", PRICE, "").await;
    assert_eq!(race(&gateway, 1).await, [500]);
    for _ in 0..20 {
        assert_eq!(race(&gateway, 1).await, [500], "the budget is whole");
    }
    assert_eq!(gateway.metric("tollgate_cost_usd_total", &[]).await, 0.0);
}

// === limits ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_s_limits_hold_and_are_told() {
    let provider = provider(1, Duration::from_millis(20)).await;
    let gateway = gateway(&provider, ", limits: {rpm: 5, tpm: 100000}", PRICE, "").await;
    let statuses = race(&gateway, 40).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5, "{statuses:?}");
    assert_eq!(provider.calls(), 5);
    let answer = call(&gateway, &client(), &body(false)).send().await.expect("an answer");
    assert_eq!(answer.status(), 429);
    let after: u64 = answer.headers()["retry-after"].to_str().ok().and_then(|text| text.parse().ok()).expect("seconds");
    assert!((1..=12).contains(&after), "{after}");
    assert_eq!(answer.headers()["x-ratelimit-limit-requests"], "5");
    assert_eq!(answer.headers()["x-ratelimit-remaining-requests"], "0");
    assert_eq!(answer.headers()["x-ratelimit-limit-tokens"], "100000");
    assert_eq!(answer.json::<Value>().await.expect("JSON")["error"]["code"], "rate_limit_exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_limited_by_what_calls_really_use() {
    // 23 of the prompt by its size and 100 asked for are held; 103 are used
    let provider = provider(100, Duration::from_millis(20)).await;
    let gateway = gateway(&provider, ", limits: {tpm: 1400}", PRICE, "").await;
    let statuses = race(&gateway, 120).await;
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!((11..=15).contains(&served), "{served}: {statuses:?}");
    assert_eq!(provider.calls(), served as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_are_never_more_than_allowed() {
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counted = (Arc::clone(&now), Arc::clone(&most));
    let provider = Scripted::start(move |_| {
        let (now, most) = (Arc::clone(&counted.0), Arc::clone(&counted.1));
        async move {
            most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
            now.fetch_sub(1, Relaxed);
            completion(1)
        }
    })
    .await;
    let gateway = gateway(&provider, ", limits: {concurrency: 3}", PRICE, "").await;
    let statuses = race(&gateway, 30).await;
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 3, "{statuses:?}");
    assert_eq!(most.load(Relaxed), 3);
    // and the places are free again
    assert_eq!(race(&gateway, 3).await, [200; 3]);
}

// === clients that leave ===

/// A stream of twenty chunks of a word each, the last of which tells the usage.
async fn streaming() -> (Scripted, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let provider = Scripted::start(move |_| {
        let sent = Arc::clone(&counted);
        async move {
            let chunks = futures_util::stream::unfold(0u32, move |n| {
                let sent = Arc::clone(&sent);
                async move {
                    if n > 0 {
                        tokio::time::sleep(Duration::from_millis(30)).await;
                    }
                    let chunk = |choices: Value, usage: Value| {
                        let event = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, "usage": usage});
                        Bytes::from(format!("data: {event}\n\n"))
                    };
                    let bytes = match n {
                        0..20 => {
                            sent.fetch_add(1, Relaxed);
                            chunk(json!([{"index": 0, "delta": {"content": "word "}, "finish_reason": null}]), Value::Null)
                        }
                        20 => chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), Value::Null),
                        21 => chunk(json!([]), json!({"prompt_tokens": 3, "completion_tokens": 20, "total_tokens": 23})),
                        22 => Bytes::from_static(b"data: [DONE]\n\n"),
                        _ => return None,
                    };
                    Some((Ok::<_, std::io::Error>(bytes), n + 1))
                }
            });
            let head = Response::builder().header("content-type", "text/event-stream");
            head.body(Body::from_stream(chunks)).expect("a reply")
        }
    })
    .await;
    (provider, sent)
}

/// Read so many chunks and leave. The line of the access log.
async fn leave_after(gateway: &Gateway, chunks: usize, log: usize) -> Value {
    let client = client();
    let answer = call(gateway, &client, &body(true)).send().await.expect("an answer");
    let mut bytes = answer.bytes_stream();
    let mut text = String::new();
    while text.matches("word ").count() < chunks {
        let Some(Ok(some)) = bytes.next().await else { break };
        text.push_str(&String::from_utf8_lossy(&some));
    }
    drop((bytes, client));
    gateway.log_of(log).await[log - 1].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_pays_by_the_policy_of_the_model() {
    for (policy, least, most) in [("cancel", 0.001f64, 0.02), ("drain", 0.02, 0.02), ("estimate", 0.1, 0.1)] {
        let (provider, sent) = streaming().await;
        let rest = format!("{PRICE}, disconnect: {policy}");
        let gateway = gateway(&provider, ", budget: {usd: 100, per: day}", &rest, "").await;
        for (n, chunks) in [1usize, 2, 5, 10, 19].into_iter().enumerate() {
            sent.store(0, Relaxed);
            let line = leave_after(&gateway, chunks, n + 1).await;
            let cost: f64 = line["cost_usd"].as_str().expect("a cost").parse().expect("a number");
            let read = chunks as f64 * 0.001;
            println!("{policy}, left after {chunks}: {cost} USD, {} chunks sent", sent.load(Relaxed));
            assert!(cost >= least.max(read) - 1e-9 && cost <= most + 1e-9, "{policy} {chunks}: {cost}");
            match policy {
                "cancel" => {
                    assert!(cost <= sent.load(Relaxed) as f64 * 0.002 + 1e-9, "no more than what came");
                    assert_eq!(line["estimated"], true);
                }
                "drain" => assert!(line.get("estimated").is_none() && line["output_tokens"] == 20, "{line}"),
                _ => assert_eq!(line["estimated"], true),
            }
        }
        // one that stays pays what the provider says
        let line = leave_after(&gateway, 100, 6).await;
        assert_eq!((line["cost_usd"].as_str(), line.get("estimated")), (Some("0.02"), None), "{policy}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_before_a_whole_answer_pays_for_it_all_the_same() {
    for (policy, cost) in [("cancel", "0.1"), ("drain", "0.007"), ("estimate", "0.1")] {
        let provider = provider(7, Duration::from_millis(300)).await;
        let rest = format!("{PRICE}, disconnect: {policy}");
        let gateway = gateway(&provider, ", budget: {usd: 100, per: day}", &rest, "").await;
        let client = client();
        let early =
            tokio::time::timeout(Duration::from_millis(100), call(&gateway, &client, &body(false)).send()).await;
        assert!(early.is_err(), "it takes longer");
        drop(client);
        let line = gateway.log_of(1).await[0].clone();
        assert_eq!((line["cost_usd"].as_str(), line["status"].as_u64()), (Some(cost), Some(499)), "{policy}: {line}");
        eventually("the provider was asked once", || async { provider.calls() == 1 }).await;
    }
}
