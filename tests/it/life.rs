//! The life of the process: start, reload, certificates, drain, hand-over. While it changes, nobody's call fails.

mod drain;
mod hand_over;
mod reload;
mod reroute;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Gateway, KEY};

/// Clients that ask one thing after the other, for as long as they are let.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<tokio::task::JoinHandle<Outcome>>,
}

#[derive(Default)]
struct Outcome {
    served: usize,
    failures: Vec<String>,
}

impl Load {
    /// Every third call is a stream, every third one goes over a new connection.
    pub(crate) fn start(gateway: &Gateway, workers: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let url = gateway.url("/v1/chat/completions");
        let workers = (0..workers).map(|number| tokio::spawn(work(number, url.clone(), Arc::clone(&stop)))).collect();
        Load { stop, workers }
    }

    /// How many calls were served, all of them whole.
    pub(crate) async fn end(self) -> usize {
        self.stop.store(true, Ordering::Release);
        let mut all = Outcome::default();
        for worker in self.workers {
            let outcome = worker.await.expect("a worker does not panic");
            all.served += outcome.served;
            all.failures.extend(outcome.failures);
        }
        let Outcome { served, failures } = all;
        assert!(failures.is_empty(), "{} of {served} calls failed:\n{}", failures.len(), failures.join("\n"));
        served
    }
}

async fn work(number: usize, url: String, stop: Arc<AtomicBool>) -> Outcome {
    let kept = crate::support::client();
    let fresh = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let mut outcome = Outcome::default();
    let mut turn = 0;
    while !stop.load(Ordering::Acquire) {
        let (client, stream) = match (number + turn) % 3 {
            0 => (&kept, false),
            1 => (&kept, true),
            _ => (&fresh, turn % 2 == 0),
        };
        let id = format!("w{number}:{turn}");
        if let Err(why) = ask(client, &url, &id, stream).await {
            outcome.failures.push(format!("{id}, stream {stream}: {why}"));
        }
        outcome.served += 1;
        turn += 1;
    }
    outcome
}

async fn ask(client: &reqwest::Client, url: &str, id: &str, stream: bool) -> Result<(), String> {
    let body =
        json!({ "model": "gpt-4o-mini", "stream": stream, "messages": [{ "role": "user", "content": "Hello" }] });
    let request = client.post(url).bearer_auth(KEY).header("x-request-id", id).json(&body);
    let answer = request.send().await.map_err(|e| format!("{e:?}"))?;
    let status = answer.status();
    let got = answer.text().await.map_err(|e| format!("cut: {e:?}"))?;
    let whole = if stream { got.ends_with("data: [DONE]\n\n") } else { serde_json::from_str::<Value>(&got).is_ok() };
    if status == 200 && whole { Ok(()) } else { Err(format!("{status}: {got}")) }
}

/// Whether each client saw the generations only grow, by the lines of the access log.
fn generations_only_grow(log: &[Value]) {
    let mut calls: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
    for line in log {
        let Some((worker, turn)) = line["request_id"].as_str().and_then(|id| id.split_once(':')) else { continue };
        let generation = line["generation"].as_u64().expect("a number");
        let turn = turn.parse().expect("a number");
        assert_eq!(calls.entry(worker).or_default().insert(turn, generation), None, "{worker}:{turn} is logged twice");
    }
    assert!(!calls.is_empty());
    for (worker, turns) in calls {
        let generations: Vec<u64> = turns.into_values().collect();
        assert!(generations.is_sorted(), "{worker}: {generations:?}");
    }
}

/// The status of the admin port's `/readyz`; `None` when it cannot be reached.
async fn readiness(gateway: &Gateway) -> Option<u16> {
    let answer = crate::support::client().get(format!("http://{}/readyz", gateway.admin)).send().await.ok()?;
    Some(answer.status().as_u16())
}

#[tokio::test]
async fn it_is_ready_soon_and_tells_the_service_manager() {
    let upstream = crate::support::upstream().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify.sock");
    let socket = tokio::net::UnixDatagram::bind(&path).expect("a socket");
    let begun = Instant::now();
    let yaml = crate::support::one_provider(upstream.address);
    let mut gateway = Gateway::start(&yaml, &[("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))]).await;
    let took = begun.elapsed();
    println!("from start to ready: {took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    let mut buffer = [0; 256];
    let mut told = async || {
        let read = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await;
        let length = read.expect("a word within five seconds").expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(told().await.lines().any(|line| line == "READY=1"));
    gateway.signal(libc::SIGTERM);
    assert!(told().await.lines().any(|line| line == "STOPPING=1"));
    assert!(gateway.ended(Duration::from_secs(10)).await.success());
}

#[tokio::test]
async fn an_address_that_is_taken_is_said_at_once() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("its address");
    let yaml = format!(
        "listen: {address}\nadmin: off\nproviders:\n  up: {{kind: openai, base_url: \"http://127.0.0.1:9/v1\", api_key: x}}\n"
    );
    let (code, said) = crate::support::refused_start(&yaml).await;
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}
