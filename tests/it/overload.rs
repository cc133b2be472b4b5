//! Three times as many calls as a provider takes: it serves as many as it can, the rest is refused at once, and keys are served by weight.
//!
//! The provider is a token bucket with the headers and the `Retry-After` of real ones; calls come at a fixed pace, whatever became of those
//! before (an open loop).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::support::scripted::{Scripted, reply};
use crate::support::{Gateway, client};

const HEAVY: &str = "sk-heavy-0123456789abcdef";
const LIGHT: &str = "sk-light-0123456789abcdef";
const HELLO: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;
/// Calls a second that the provider takes, and as many at once after a pause.
const RATE: f64 = 50.0;
/// A refusal may take so long.
const AT_ONCE: Duration = Duration::from_millis(50);
/// Where the gateway's simplest answers take longer than this, times say nothing of it.
const BUSY: Duration = Duration::from_millis(25);
/// What is measured begins after the first moments and ends before the load does.
const WARM_UP: Duration = Duration::from_millis(2500);
const MEASURED: Duration = Duration::from_millis(5000);

/// One call as its client saw it.
struct Seen {
    heavy: bool,
    status: u16,
    /// By the gateway, without asking anybody.
    ours: bool,
    took: Duration,
    /// Since the load began.
    ended: Duration,
}

struct Bucket {
    level: f64,
    at: Instant,
}

async fn gateway(provider: &Scripted, rest: &str) -> Gateway {
    let yaml = format!(
        "keys:\n  - {{name: heavy, key: {HEAVY}, weight: 3}}\n  - {{name: light, key: {LIGHT}}}\nmodels: {{m: up/x}}\nproviders:\n\
         \x20 up: {{kind: openai, base_url: 'http://{}/v1', api_key: k, queue: {{depth: 50, timeout: 2s}}{rest}}}\n",
        provider.address
    );
    Gateway::start(&yaml, &[]).await
}

/// So many calls a second of each key, until what is measured has passed. And how long other answers took meanwhile: the machine's own share.
async fn load(gateway: &Gateway, each: f64) -> (Vec<Seen>, Vec<Duration>) {
    let (client, begun) = (client(), Instant::now());
    let end = WARM_UP + MEASURED + Duration::from_millis(200);
    let admin = watch(&client, format!("http://{}/metrics", gateway.admin), Duration::from_millis(250), begun + end);
    let others = watch(&client, gateway.url("/v1/models"), Duration::from_millis(20), begun + end);
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / each));
    let mut calls = Vec::new();
    while begun.elapsed() < end {
        ticks.tick().await;
        for (key, heavy) in [(HEAVY, true), (LIGHT, false)] {
            let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(key).body(HELLO);
            calls.push(tokio::spawn(one(request.header("content-type", "application/json"), heavy, begun)));
        }
    }
    let mut seen = Vec::new();
    for call in calls {
        seen.push(call.await.expect("a call does not panic"));
    }
    let admin = admin.await.expect("it does not panic");
    println!("slowest answer of the admin port: {:?} of {}", at(&admin, 1.0), admin.len());
    assert!(admin.len() > 15 && at(&admin, 1.0) < Duration::from_millis(500), "{admin:?}");
    (seen, others.await.expect("it does not panic"))
}

/// Ask for this at a fixed pace: how long each answer took, in order.
fn watch(client: &reqwest::Client, url: String, pause: Duration, end: Instant) -> JoinHandle<Vec<Duration>> {
    let request = client.get(url).bearer_auth(LIGHT);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(pause);
        let mut answers = Vec::new();
        while Instant::now() < end {
            ticks.tick().await;
            let request = request.try_clone().expect("no body");
            answers.push(tokio::spawn(async move {
                let asked = Instant::now();
                let answer = request.send().await.expect("an answer");
                assert_eq!(answer.status(), 200);
                answer.bytes().await.expect("whole");
                asked.elapsed()
            }));
        }
        let mut took = Vec::new();
        for answer in answers {
            took.push(answer.await.expect("it does not panic"));
        }
        took.sort();
        took
    })
}

/// Of some times in order, the one that so many are not longer than.
fn at(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

async fn one(request: reqwest::RequestBuilder, heavy: bool, begun: Instant) -> Seen {
    let asked = Instant::now();
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let ours = !answer.headers().contains_key("x-tollgate-attempts");
    if status == 429 {
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        assert!(after.is_some_and(|seconds| (1..=30).contains(&seconds)), "{:?}", answer.headers());
    }
    answer.bytes().await.expect("whole");
    Seen { heavy, status, ours, took: asked.elapsed(), ended: begun.elapsed() }
}

/// What became of the calls, against what the provider could have served.
fn judge((seen, others): &(Vec<Seen>, Vec<Duration>), capacity: f64) {
    let offered = seen.len() as f64 / (WARM_UP + MEASURED).as_secs_f64();
    let measured = || seen.iter().filter(|call| call.ended >= WARM_UP && call.ended < WARM_UP + MEASURED);
    let served = |heavy: bool| measured().filter(|call| call.status == 200 && call.heavy == heavy).count() as f64;
    let (heavy, light) = (served(true), served(false));
    let goodput = (heavy + light) / MEASURED.as_secs_f64();
    let refused = |heavy: bool| {
        let ours = measured().filter(|call| call.status == 429 && call.ours && call.heavy == heavy);
        let mut took: Vec<Duration> = ours.map(|call| call.took).collect();
        took.sort();
        took
    };
    let (refused_heavy, refused_light) = (refused(true), refused(false));
    let theirs = measured().filter(|call| call.status == 429 && !call.ours).count();
    let strange: Vec<u16> = seen.iter().map(|call| call.status).filter(|status| ![200, 429].contains(status)).collect();
    println!(
        "offered {offered:.0}/s to a provider of {capacity:.0}/s: {goodput:.1}/s served, {heavy} to {light}; {theirs} refused by it"
    );
    for (name, took) in
        [("heavy refused", &refused_heavy), ("light refused", &refused_light), ("other answers", others)]
    {
        println!(
            "{name}: {}, median {:?}, p95 {:?}, p99 {:?}, {:?}",
            took.len(),
            at(took, 0.5),
            at(took, 0.95),
            at(took, 0.99),
            at(took, 1.0)
        );
    }
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(seen.iter().filter(|call| call.status == 429 && call.took > Duration::from_secs(6)).count(), 0);
    if at(others, 0.95) > BUSY {
        println!("not judged: the machine has other things to do");
        return;
    }
    assert!(offered > capacity * 2.7, "the machine is too slow to offer enough: {offered}/s");
    assert!(goodput >= capacity * 0.8, "{goodput}/s of {capacity}/s");
    assert!((2.7..=3.3).contains(&(heavy / light)), "{heavy} to {light}");
    assert!(theirs as f64 <= (heavy + light) * 0.05, "{theirs} learned it from the provider");
    for took in [refused_heavy, refused_light] {
        // at once, but for what the machine takes for any answer
        assert!(at(&took, 0.99) < AT_ONCE + at(others, 0.99), "{:?}", at(&took, 0.99));
    }
}

// === a provider that refuses ===

impl Bucket {
    /// Take one, or be told how long until there is one.
    fn take(&mut self) -> (bool, f64) {
        let now = Instant::now();
        self.level = (self.level + (now - self.at).as_secs_f64() * RATE).min(RATE);
        self.at = now;
        let enough = self.level >= 1.0;
        if enough {
            self.level -= 1.0;
        }
        (enough, self.level)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_times_what_a_provider_takes_is_served_to_its_limit_and_refused_at_once_beyond() {
    let bucket = Arc::new(Mutex::new(Bucket { level: RATE, at: Instant::now() }));
    let refused = Arc::new(AtomicU64::new(0));
    let provider = Scripted::start({
        let (bucket, refused) = (Arc::clone(&bucket), Arc::clone(&refused));
        move |_| {
            let (enough, level) = bucket.lock().expect("no holder panics").take();
            refused.fetch_add(u64::from(!enough), Relaxed);
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let (limit, left) = (RATE.to_string(), level.floor().to_string());
                let reset = format!("{}ms", ((RATE - level) / RATE * 1000.0).ceil());
                let limits = [
                    ("x-ratelimit-limit-requests", &*limit),
                    ("x-ratelimit-remaining-requests", &*left),
                    ("x-ratelimit-reset-requests", &*reset),
                ];
                if enough { reply(200, &limits) } else { reply(429, &[&limits[..], &[("retry-after", "1")]].concat()) }
            }
        }
    })
    .await;
    let gateway = gateway(&provider, "").await;
    let seen = load(&gateway, RATE * 1.5).await;
    println!("the provider was asked {} times and refused {}", provider.calls(), refused.load(Relaxed));
    judge(&seen, RATE);
    let share = refused.load(Relaxed) as f64 / provider.calls() as f64;
    assert!(share < 0.15, "the provider refused {share}");
}

// === a limit that is written ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_calls_at_once_are_never_nine_and_the_rest_waits_its_turn_or_is_refused() {
    const EACH: Duration = Duration::from_millis(160);
    let at_once = Arc::new(AtomicU64::new(0));
    let most = Arc::new(AtomicU64::new(0));
    let provider = Scripted::start({
        let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
        move |_| {
            let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
            async move {
                most.fetch_max(at_once.fetch_add(1, Relaxed) + 1, Relaxed);
                tokio::time::sleep(EACH).await;
                at_once.fetch_sub(1, Relaxed);
                reply(200, &[])
            }
        }
    })
    .await;
    let gateway = gateway(&provider, ", limits: {concurrency: 8}").await;
    let capacity = 8.0 / EACH.as_secs_f64();
    let seen = load(&gateway, capacity * 1.5).await;
    judge(&seen, capacity);
    assert_eq!(most.load(Relaxed), 8);
}
