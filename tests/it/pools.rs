//! Several endpoints behind one provider: calls are spread, one that is dead or ill costs nobody a call, and endpoints come and go while
//! calls run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::life::Load;
use crate::support::raw::UPSTREAM_REPLY;
use crate::support::{Gateway, KEY, UPSTREAM_KEY, client, eventually, upstream};

/// A server that does as it is told, and is gone with the test.
struct Replica {
    address: SocketAddr,
    told: Arc<Told>,
    task: tokio::task::JoinHandle<()>,
}

struct Told {
    address: SocketAddr,
    status: AtomicU16,
    health: AtomicU16,
    milliseconds: AtomicU64,
    calls: AtomicU64,
    checks: AtomicU64,
    /// Requests that were for somebody else, or checks that carried a credential.
    wrong: AtomicU64,
}

impl Replica {
    async fn start() -> Replica {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let told = Arc::new(Told {
            address,
            status: AtomicU16::new(200),
            health: AtomicU16::new(200),
            milliseconds: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            checks: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
        });
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&told));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Replica { address, told, task }
    }

    async fn some<const N: usize>() -> [Replica; N] {
        let mut started = Vec::new();
        for _ in 0..N {
            started.push(Replica::start().await);
        }
        started.try_into().ok().expect("as many as were started")
    }

    fn calls(&self) -> u64 {
        self.told.calls.load(Relaxed)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(told): State<Arc<Told>>, request: Request) -> Response {
    if header(&request, "host") != Some(&*told.address.to_string()) {
        told.wrong.fetch_add(1, Relaxed);
    }
    if request.uri().path() == "/health" {
        told.checks.fetch_add(1, Relaxed);
        if header(&request, "authorization").is_some() {
            told.wrong.fetch_add(1, Relaxed);
        }
        return reply(told.health.load(Relaxed), Body::from("ok"));
    }
    told.calls.fetch_add(1, Relaxed);
    // as a server does: it reads what it is asked before it answers
    let mut body = request.into_body().into_data_stream();
    while body.next().await.is_some() {}
    tokio::time::sleep(Duration::from_millis(told.milliseconds.load(Relaxed))).await;
    reply(told.status.load(Relaxed), Body::from(UPSTREAM_REPLY))
}

fn header<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

fn reply(status: u16, body: Body) -> Response {
    Response::builder().status(status).header("content-type", "application/json").body(body).expect("a reply")
}

/// A port nobody listens on, and nobody will.
fn dead() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a loopback port");
    (socket.local_addr().expect("its address"), socket)
}

fn config(endpoints: &[SocketAddr], rest: &str) -> String {
    let urls: Vec<String> = endpoints.iter().map(|address| format!("\"http://{address}\"")).collect();
    format!(
        "keys: [{{name: test, key: {KEY}}}]\nmodels: {{gpt-4o-mini: up/gpt-4o-mini, alias: up/gpt-4o-mini}}\n\
         breaker: off\nretry: {{attempts: 1}}\nproviders:\n  up: {{kind: vllm, endpoints: [{}], api_key: {UPSTREAM_KEY}{rest}}}\n",
        urls.join(", ")
    )
}

async fn gateway(replicas: &[&Replica], rest: &str) -> Gateway {
    let endpoints: Vec<SocketAddr> = replicas.iter().map(|replica| replica.address).collect();
    Gateway::start(&config(&endpoints, rest), &[]).await
}

/// So many calls one after the other by so many at once, each of another conversation: the statuses.
async fn calls(gateway: &Gateway, workers: usize, each: usize) -> Vec<u16> {
    let client = client();
    let work = (0..workers).map(|worker| {
        let client = &client;
        async move {
            let mut statuses = Vec::new();
            for turn in 0..each {
                let call =
                    gateway.chat(client, "gpt-4o-mini", false).header("x-session-id", format!("{worker}-{turn}"));
                let answer = call.send().await.expect("an answer");
                statuses.push(answer.status().as_u16());
                answer.bytes().await.expect("whole");
            }
            statuses
        }
    });
    futures_util::future::join_all(work).await.concat()
}

/// Other endpoints, in force when this returns.
async fn change(gateway: &Gateway, from: &str, to: &str) {
    let text = std::fs::read_to_string(gateway.config_path()).expect("the configuration");
    assert!(text.contains(from), "{from} in {text}");
    let new = gateway.folder().join("tollgate.yaml.new");
    std::fs::write(&new, text.replace(from, to)).expect("written");
    std::fs::rename(&new, gateway.config_path()).expect("in place");
    let url = format!("http://{}/api/config/reload", gateway.admin);
    let answer = client().post(url).send().await.expect("the admin port answers");
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap_or_default());
}

async fn says(gateway: &Gateway, what: &str) {
    eventually(what, || async { gateway.stderr().contains(what) }).await;
}

// === who gets a call ===

#[tokio::test]
async fn calls_are_spread_over_equal_endpoints_and_a_slow_one_gets_fewer() {
    let replicas: [Replica; 4] = Replica::some().await;
    replicas.iter().for_each(|replica| replica.told.milliseconds.store(20, Relaxed));
    let [a, b, c, slow] = &replicas;
    let gateway = gateway(&[a, b, c, slow], "").await;
    assert!(calls(&gateway, 12, 30).await.iter().all(|status| *status == 200));
    let even: Vec<u64> = replicas.iter().map(Replica::calls).collect();
    println!("360 calls over four equal endpoints: {even:?}");
    assert!(even.iter().all(|calls| (55..=130).contains(calls)), "{even:?}");
    slow.told.milliseconds.store(300, Relaxed);
    calls(&gateway, 12, 30).await;
    let after: Vec<u64> = replicas.iter().zip(&even).map(|(replica, before)| replica.calls() - before).collect();
    println!("and with the last one fifteen times as slow: {after:?}");
    assert!(after[3] * 2 < after[..3].iter().sum::<u64>() / 3, "{after:?}");
    assert!(replicas.iter().all(|replica| replica.told.wrong.load(Relaxed) == 0), "each is called by its own name");
}

#[tokio::test]
async fn turns_are_taken_by_weight() {
    let [a, b] = &Replica::some::<2>().await;
    let yaml = config(&[], "").replace(
        "endpoints: []",
        &format!(
            "endpoints: [{{url: \"http://{}\", weight: 3}}, \"http://{}\"], balance: round_robin",
            a.address, b.address
        ),
    );
    let gateway = Gateway::start(&yaml, &[]).await;
    calls(&gateway, 1, 40).await;
    assert_eq!((a.calls(), b.calls()), (30, 10));
}

// === who does not ===

#[tokio::test]
async fn an_endpoint_that_is_dead_costs_nobody_a_call() {
    let [a, b] = &Replica::some::<2>().await;
    let (nobody, _held) = dead();
    for balance in ["p2c", "round_robin", "least_busy", "hash"] {
        let rest = format!(", balance: {balance}, ejection: {{failures: 3, time: 1s}}");
        let gateway = Gateway::start(&config(&[a.address, nobody, b.address], &rest), &[]).await;
        let statuses = calls(&gateway, 6, 15).await;
        assert!(statuses.len() == 90 && statuses.iter().all(|status| *status == 200), "{statuses:?}");
        let log = gateway.log_of(90).await;
        assert!(log.iter().all(|line| line["attempts"] == 1), "and nobody an attempt");
        says(&gateway, &format!("endpoint {nobody} is left out for 1s")).await;
        // the opaque lane goes the same ways
        for _ in 0..12 {
            let path = gateway.url("/raw/up/models");
            let answer = client().get(path).bearer_auth(KEY).send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
        }
    }
    assert!(a.told.wrong.load(Relaxed) + b.told.wrong.load(Relaxed) == 0, "each is called by its own name");
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_out_for_a_while() {
    let replicas: [Replica; 3] = Replica::some().await;
    let [a, b, c] = &replicas;
    a.told.status.store(503, Relaxed);
    let rest = ", balance: round_robin, ejection: {failures: 3, time: 3s}, slow_start: 0s";
    let gateway = gateway(&[a, b, c], rest).await;
    let begun = Instant::now();
    let statuses = calls(&gateway, 1, 60).await;
    let failed = statuses.iter().filter(|status| **status != 200).count();
    assert!(begun.elapsed() < Duration::from_secs(3), "the machine is too slow for this test");
    assert_eq!((failed, a.calls()), (3, 3), "{statuses:?}");
    assert!((b.calls(), c.calls()) == (29, 28) || (b.calls(), c.calls()) == (28, 29));
    // it is well again, and gets its turns again
    a.told.status.store(200, Relaxed);
    tokio::time::sleep(Duration::from_millis(3100).saturating_sub(begun.elapsed())).await;
    assert!(calls(&gateway, 1, 30).await.iter().all(|status| *status == 200));
    assert!((12..=14).contains(&a.calls()), "{}", a.calls());
    // being told to slow down is no reason, and when all fail all are asked
    a.told.status.store(429, Relaxed);
    calls(&gateway, 1, 30).await;
    assert!((22..=24).contains(&a.calls()), "{}", a.calls());
    replicas.iter().for_each(|replica| replica.told.status.store(500, Relaxed));
    let before: Vec<u64> = replicas.iter().map(Replica::calls).collect();
    assert_eq!(calls(&gateway, 1, 30).await, [500; 30], "none is refused by us");
    assert!(replicas.iter().zip(before).filter(|(replica, before)| replica.calls() > *before + 5).count() >= 2);
}

#[tokio::test]
async fn health_checks_take_an_endpoint_out_and_bring_it_back() {
    let replicas: [Replica; 2] = Replica::some().await;
    let [a, b] = &replicas;
    let health = "health: {path: /health, interval: 100ms, timeout: 1s, healthy: 2, unhealthy: 2}";
    let gateway = gateway(&[a, b], &format!(", {health}, slow_start: 0s, balance: round_robin")).await;
    calls(&gateway, 1, 10).await;
    assert_eq!((a.calls(), b.calls()), (5, 5));
    a.told.health.store(503, Relaxed);
    says(&gateway, &format!("endpoint {} is unhealthy: status 503", a.address)).await;
    assert!(calls(&gateway, 2, 10).await.iter().all(|status| *status == 200));
    assert_eq!((a.calls(), b.calls()), (5, 25));
    a.told.health.store(204, Relaxed);
    says(&gateway, &format!("endpoint {} is healthy again", a.address)).await;
    calls(&gateway, 1, 10).await;
    assert_eq!((a.calls(), b.calls()), (10, 30));
    // all ill: all are asked, since calls may work all the same
    replicas.iter().for_each(|replica| replica.told.health.store(500, Relaxed));
    says(&gateway, &format!("endpoint {} is unhealthy: status 500", a.address)).await;
    says(&gateway, &format!("endpoint {} is unhealthy: status 500", b.address)).await;
    assert!(calls(&gateway, 1, 10).await.iter().all(|status| *status == 200));
    assert_eq!((a.calls(), b.calls()), (15, 35));
    // what is configured no longer is asked no longer
    assert!(a.told.checks.load(Relaxed) > 5);
    change(&gateway, &format!("{health}, "), "").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let checks = a.told.checks.load(Relaxed);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(a.told.checks.load(Relaxed), checks);
    assert!(replicas.iter().all(|replica| replica.told.wrong.load(Relaxed) == 0), "no credential went to /health");
}

// === endpoints that come and go ===

#[tokio::test]
async fn a_new_endpoint_s_share_grows() {
    let replicas: [Replica; 3] = Replica::some().await;
    let [a, b, new] = &replicas;
    let two = format!("\"http://{}\"]", b.address);
    let three = format!("\"http://{}\", \"http://{}\"]", b.address, new.address);
    for balance in ["p2c", "round_robin"] {
        let gateway = gateway(&[a, b], &format!(", balance: {balance}, slow_start: 3s")).await;
        calls(&gateway, 4, 10).await;
        change(&gateway, &two, &three).await;
        let mut shares = Vec::new();
        let begun = Instant::now();
        // in the first half second, around the middle, and after it
        for (from, to) in [(0, 500), (1250, 1750), (3100, 3600)] {
            tokio::time::sleep(Duration::from_millis(from).saturating_sub(begun.elapsed())).await;
            let (before, mut all) = (new.calls(), 0);
            while begun.elapsed() < Duration::from_millis(to) {
                all += calls(&gateway, 4, 5).await.len();
            }
            shares.push((new.calls() - before) as f64 / all as f64);
            assert!(all >= 40, "only {all} calls: the machine is too slow for this test");
        }
        println!("{balance}: the new one's share: {shares:.3?}");
        // a tenth to a quarter beside two whole ones; 0.475 to 0.625; a third
        assert!((0.01..0.18).contains(&shares[0]), "{balance}: {shares:?}");
        assert!((0.10..0.32).contains(&shares[1]), "{balance}: {shares:?}");
        assert!((0.22..0.45).contains(&shares[2]), "{balance}: {shares:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_come_and_go_under_load_and_no_call_fails() {
    let mut upstreams = Vec::new();
    for _ in 0..4 {
        upstreams.push(upstream().await);
    }
    let list = |members: &[usize]| {
        let urls: Vec<String> = members.iter().map(|n| format!("\"http://{}\"", upstreams[*n].address)).collect();
        format!("[{}]", urls.join(", "))
    };
    let yaml = config(&[], ", slow_start: 200ms, health: {path: /v1/models, interval: 50ms}");
    let mut at = list(&[0, 1]);
    let gateway = Gateway::start(&yaml.replace("endpoints: []", &format!("endpoints: {at}")), &[]).await;
    let load = Load::start(&gateway, 6);
    let count = |n: usize| upstreams[n].record().counters().calls;
    let rounds: [&[usize]; 5] = [&[0, 1, 2, 3], &[2, 3], &[3, 0], &[1], &[0, 1, 2]];
    for round in 0..25 {
        let members = rounds[round % rounds.len()];
        let to = list(members);
        change(&gateway, &at, &to).await;
        at = to;
        tokio::time::sleep(Duration::from_millis(80)).await;
        let before: Vec<_> = (0..4).map(count).collect();
        tokio::time::sleep(Duration::from_millis(120)).await;
        let gone = (0..4).filter(|n| !members.contains(n));
        let asked: Vec<usize> = gone.filter(|n| count(*n) > before[*n] + 1).collect();
        assert!(asked.is_empty(), "round {round}: {asked:?} are asked although they are gone");
        let asked = || async { members.iter().any(|n| count(*n) > before[*n]) };
        eventually(&format!("round {round}: somebody is asked"), asked).await;
    }
    let served = load.end().await;
    println!("25 changes of endpoints under load: {served} calls, none failed");
    assert!(served > 200, "only {served} calls: no load");
}

#[tokio::test]
async fn a_stream_at_an_endpoint_that_goes_runs_on_to_its_end() {
    let (old, new) = (upstream().await, upstream().await);
    let frame = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let wait = tollgate::simulator::Part::Wait(Duration::from_millis(600));
    let reply = tollgate::simulator::Reply::events().bytes(frame).part(wait).bytes(frame).bytes("data: [DONE]\n\n");
    old.simulator.reply("gpt-4o-mini", reply);
    let gateway = Gateway::start(&config(&[old.address], ""), &[]).await;
    let mut answer = gateway.chat(&client(), "gpt-4o-mini", true).send().await.expect("an answer");
    assert!(answer.chunk().await.expect("unbroken").is_some());
    change(&gateway, &old.address.to_string(), &new.address.to_string()).await;
    assert_eq!(calls(&gateway, 1, 5).await, [200; 5]);
    let mut rest = Vec::new();
    while let Some(chunk) = answer.chunk().await.expect("unbroken") {
        rest.extend_from_slice(&chunk);
    }
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
    assert_eq!((old.record().counters().calls, new.record().counters().calls), (1, 5));
}

// === deadlines ===

/// How long a call took to fail.
async fn failing(timeouts: &str, url: &str) -> Duration {
    let yaml = format!(
        "keys: [{{name: test, key: {KEY}}}]\nretry: {{attempts: 1}}\ntimeouts: {timeouts}\n\
         providers:\n  up: {{kind: openai, base_url: \"{url}\", api_key: {UPSTREAM_KEY}}}\n"
    );
    let gateway = Gateway::start(&yaml, &[]).await;
    let begun = Instant::now();
    let answer = gateway.chat(&client(), "up/x", false).send().await.expect("an answer");
    let took = begun.elapsed();
    assert_eq!(answer.status(), 502);
    let error: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!(error["error"]["code"], json!("upstream_connect"));
    took
}

#[tokio::test]
async fn tcp_and_the_handshake_have_times_of_their_own() {
    // accepts, and says nothing
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = mute.local_addr().expect("its address");
    let took = failing("{connect: 6s, tls: 400ms}", &format!("https://{address}/v1")).await;
    println!("a handshake without an answer, tls 400 ms: {took:?}");
    assert!((400..3000).contains(&took.as_millis()), "{took:?}");

    // accepts nothing: the kernel's queue is full
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a loopback port");
    let full = socket.listen(1).expect("it listens");
    let address = full.local_addr().expect("its address");
    let mut held = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        held.push(stream.expect("a connection"));
        assert!(held.len() < 20, "the queue is never full");
    }
    for scheme in ["http", "https"] {
        let took = failing("{connect: 400ms, tls: 6s}", &format!("{scheme}://{address}/v1")).await;
        println!("no connection over {scheme}, connect 400 ms: {took:?}");
        assert!((400..3000).contains(&took.as_millis()), "{took:?}");
    }
}
