//! Addresses, deadlines, seats and checks, against sockets on loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use pingora::http::RequestHeader;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::Peer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::peers::{Origin, Within};
use super::pool::health::Checks;
use super::*;
use crate::config::snapshot::{Provider, Timeouts};
use crate::config::{Environment, load_str};
use crate::json::Spliced;

fn provider(entry: &str) -> Arc<Provider> {
    let checked = load_str("c.yaml", &format!("providers: {{p: {entry}}}"), &Environment::of([("", "")]));
    let mut snapshot = checked.unwrap_or_else(|faults| panic!("{entry}: {faults:?}")).into_snapshot(1);
    snapshot.providers.pop_first().unwrap().1
}

fn pool(endpoints: &[SocketAddr], rest: &str) -> Arc<Provider> {
    let urls: Vec<String> = endpoints.iter().map(|address| format!("http://{address}")).collect();
    provider(&format!("{{kind: vllm, endpoints: [{}]{rest}}}", urls.join(", ")))
}

fn upstreams() -> Arc<Upstreams> {
    Arc::new(Upstreams::new(&ServerConf::default()))
}

fn timeouts(connect: u64, tls: u64) -> Timeouts {
    Timeouts { connect: Duration::from_millis(connect), tls: Duration::from_millis(tls), ..Timeouts::default() }
}

async fn send(upstreams: &Upstreams, provider: &Arc<Provider>, timeouts: &Timeouts) -> Result<Reply, Failure> {
    send_within(upstreams, provider, timeouts, Duration::from_secs(20)).await
}

async fn send_within(
    upstreams: &Upstreams,
    provider: &Arc<Provider>,
    timeouts: &Timeouts,
    total: Duration,
) -> Result<Reply, Failure> {
    send_for(upstreams, provider, timeouts, None, total).await
}

async fn send_for(
    upstreams: &Upstreams,
    provider: &Arc<Provider>,
    timeouts: &Timeouts,
    affinity: Option<u64>,
    total: Duration,
) -> Result<Reply, Failure> {
    let head = |authority: &HeaderValue| {
        let mut head = RequestHeader::build("POST", b"/", None)?;
        head.insert_header("host", authority.clone())?;
        head.insert_header("content-length", "2")?;
        Ok(head)
    };
    let body = Spliced { pieces: vec![Bytes::from_static(b"{}")], len: 2 };
    upstreams.send(provider, timeouts, affinity, head, &body, Instant::now() + total).await
}

/// Answers every request with this status, on kept connections. What it was sent.
async fn server(status: u16) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, status, Arc::clone(&record)));
        }
    });
    (address, seen)
}

async fn serve(mut stream: TcpStream, status: u16, seen: Arc<Mutex<Vec<String>>>) {
    let mut buffer = vec![0; 4096];
    while let Ok(n) = stream.read(&mut buffer).await {
        if n == 0 {
            return;
        }
        // a head, or a head with its body, or the body alone
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        if text == "{}" {
            continue;
        }
        seen.lock().unwrap().push(text);
        let reply = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A port nobody listens on, and nobody will: it is held.
fn closed() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}

/// Accepts and never says a word. The connections it holds.
async fn mute() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address
}

/// An address where no connection comes about: the kernel's queue is full, and it drops what asks for more.
async fn unreachable() -> (SocketAddr, tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    for _ in 0..20 {
        match tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            Ok(stream) => held.push(stream.unwrap()),
            Err(_) => return (address, listener, held),
        }
    }
    panic!("the queue is never full");
}

// === deadlines ===

/// How long it took to fail, in milliseconds, and how.
async fn fails(provider: &Arc<Provider>, timeouts: &Timeouts) -> (u128, FailureKind) {
    let begun = Instant::now();
    let failure = send(&upstreams(), provider, timeouts).await.err().expect("there is nobody");
    (begun.elapsed().as_millis(), failure.kind)
}

#[tokio::test]
async fn a_handshake_that_is_never_answered_fails_after_its_own_time() {
    let address = mute().await;
    let provider = provider(&format!("{{kind: openai, base_url: \"https://{address}\", api_key: k}}"));
    for (connect, tls) in [(5000, 300), (300, 300), (100, 600)] {
        let (took, kind) = fails(&provider, &timeouts(connect, tls)).await;
        println!("tls {tls} ms, connect {connect} ms: failed after {took} ms");
        assert_eq!(kind, FailureKind::Connect);
        assert!((u128::from(tls)..u128::from(tls) + 1500).contains(&took), "{took} ms");
    }
}

#[tokio::test]
async fn an_address_that_does_not_answer_fails_after_the_time_for_tcp() {
    let (address, _listener, _held) = unreachable().await;
    for scheme in ["http", "https"] {
        let provider = provider(&format!("{{kind: openai, base_url: \"{scheme}://{address}\", api_key: k}}"));
        for (connect, tls) in [(300, 5000), (600, 100)] {
            let (took, kind) = fails(&provider, &timeouts(connect, tls)).await;
            println!("{scheme}, connect {connect} ms, tls {tls} ms: failed after {took} ms");
            assert_eq!(kind, FailureKind::Connect);
            assert!((u128::from(connect)..u128::from(connect) + 1500).contains(&took), "{took} ms");
        }
    }
    // nor is a proxy that does not answer waited for longer
    let provider =
        provider(&format!("{{kind: openai, base_url: \"https://h.test\", api_key: k, proxy: \"{address}\"}}"));
    let (took, kind) = fails(&provider, &timeouts(300, 5000)).await;
    assert_eq!(kind, FailureKind::Connect);
    assert!((300..2000).contains(&took), "{took} ms");
    // and the call's own deadline is shorter than all of them
    let begun = Instant::now();
    let total = Duration::from_millis(200);
    let failure = send_within(&upstreams(), &provider, &timeouts(5000, 5000), total).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(begun.elapsed() < Duration::from_millis(2000));
}

#[tokio::test]
async fn a_provider_that_does_not_read_fails_after_the_time_for_a_write() {
    let address = mute().await;
    let provider = provider(&format!("{{kind: openai, base_url: \"http://{address}\", api_key: k}}"));
    let timeouts = Timeouts { write: Duration::from_millis(300), ..timeouts(1000, 1000) };
    let piece = Bytes::from(vec![b'x'; 32 << 20]);
    let body = Spliced { len: piece.len(), pieces: vec![piece] };
    let head = |_: &HeaderValue| {
        let mut head = RequestHeader::build("POST", b"/", None)?;
        head.insert_header("content-length", (32 << 20).to_string())?;
        Ok(head)
    };
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(20);
    let failure = upstreams().send(&provider, &timeouts, None, head, &body, deadline).await.err().unwrap();
    println!("write 300 ms: failed after {:?}", begun.elapsed());
    assert_eq!(failure.kind, FailureKind::Timeout);
    // and a moment for an early answer
    assert!((300..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

// === addresses ===

#[tokio::test]
async fn addresses_take_turns_and_a_resolver_that_fails_changes_nothing() {
    let provider = provider("{kind: openai, base_url: \"https://name.invalid:4433\", api_key: k}");
    let origin = Arc::new(Origin::new(&provider, &provider.base, provider.pool_key));
    let within = Within::from(&timeouts(1000, 1000));
    let found = |addresses: &[&str]| Ok(addresses.iter().map(|a| format!("{a}:4433").parse().unwrap()).collect());
    let now = Instant::now();
    let seen = async |count: usize| {
        let mut seen = Vec::new();
        for _ in 0..count {
            let peer = origin.peer(&provider, within).await.unwrap();
            assert_eq!((peer.sni.as_str(), peer.is_tls()), ("name.invalid", true));
            seen.push(peer.address().to_string());
        }
        seen.sort();
        seen.dedup();
        seen
    };
    origin.learn(found(&["192.0.2.1", "192.0.2.2"]), now).unwrap();
    assert_eq!(seen(4).await, ["192.0.2.1:4433", "192.0.2.2:4433"]);
    assert!(!origin.is_due(now + Duration::from_secs(30)) && origin.is_due(now + Duration::from_secs(31)));
    let failed = || Err(Failure::new(FailureKind::Connect, "the name was not resolved in time"));
    assert!(origin.learn(failed(), now + Duration::from_secs(31)).is_err());
    assert_eq!(seen(4).await, ["192.0.2.1:4433", "192.0.2.2:4433"], "the last good answer");
    assert!(!origin.is_due(now + Duration::from_secs(60)), "and it is not asked at every call");
    // one that is gone from the answer is not used any more, a new one is
    origin.learn(found(&["192.0.2.2", "192.0.2.3"]), now + Duration::from_secs(62)).unwrap();
    assert_eq!(seen(4).await, ["192.0.2.2:4433", "192.0.2.3:4433"]);
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_a_failed_connection() {
    let provider = provider("{kind: openai, base_url: \"http://name.invalid:1\", api_key: k}");
    let failure = send(&upstreams(), &provider, &timeouts(2000, 2000)).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Connect);
}

#[tokio::test]
async fn other_deadlines_are_other_peers_but_the_same_connections() {
    let (address, seen) = server(200).await;
    let provider = provider(&format!("{{kind: openai, base_url: \"http://{address}\", api_key: k}}"));
    let upstreams = upstreams();
    let mut hashes = Vec::new();
    for connect in [100, 200, 100, 5000] {
        let (peer, _) = upstreams.peer(&provider, &timeouts(connect, 7), &[]).await.unwrap();
        assert_eq!(peer.connection_timeout(), Some(Duration::from_millis(connect)));
        hashes.push(peer.reuse_hash());
        let mut reply = send(&upstreams, &provider, &timeouts(connect, 7)).await.unwrap();
        while reply.session.read_response_body().await.unwrap().is_some() {}
        upstreams.release(reply).await;
    }
    hashes.dedup();
    assert_eq!((hashes.len(), seen.lock().unwrap().len()), (1, 4));
    // in any number of deadlines
    for connect in 1..100 {
        let (peer, _) = upstreams.peer(&provider, &timeouts(connect, 7), &[]).await.unwrap();
        assert_eq!(peer.connection_timeout(), Some(Duration::from_millis(connect)));
    }
}

// === pools ===

#[tokio::test]
async fn each_endpoint_has_connections_and_an_authority_of_its_own() {
    let ((a, seen_a), (b, seen_b)) = (server(200).await, server(200).await);
    let provider = pool(&[a, b], ", balance: round_robin");
    let upstreams = upstreams();
    let mut hashes = std::collections::BTreeSet::new();
    for _ in 0..6 {
        drop(send(&upstreams, &provider, &timeouts(1000, 1000)).await.unwrap());
        let (peer, place) = upstreams.peer(&provider, &timeouts(1000, 1000), &[]).await.unwrap();
        hashes.insert((place.authority().clone().to_str().unwrap().to_owned(), peer.group_key));
    }
    assert_eq!(hashes.len(), 1, "turns: the calls got the other one");
    for (address, seen) in [(a, seen_a), (b, seen_b)] {
        let seen = seen.lock().unwrap();
        let host = format!("host: {address}");
        assert!(seen.iter().all(|head| head.to_ascii_lowercase().contains(&host)), "{seen:?}");
    }
}

#[tokio::test]
async fn calls_of_one_affinity_go_to_one_endpoint_and_to_the_next_when_it_is_gone() {
    let servers = [server(200).await, server(200).await, server(200).await, server(200).await];
    let addresses: Vec<SocketAddr> = servers.iter().map(|(address, _)| *address).collect();
    let counts = || servers.iter().map(|(_, seen)| seen.lock().unwrap().len()).collect::<Vec<_>>();
    let upstreams = upstreams();
    let hash = ", balance: hash, slow_start: 0s";
    // where the calls of each of these go, five of each
    let homes = async |provider: &Arc<Provider>| {
        let mut homes = Vec::new();
        for key in 0..20u64 {
            let before = counts();
            for _ in 0..5 {
                let total = Duration::from_secs(20);
                let sent = send_for(&upstreams, provider, &timeouts(1000, 1000), Some(key), total).await;
                assert_eq!(sent.unwrap().status(), 200);
            }
            let grown: Vec<usize> = counts().iter().zip(before).map(|(after, before)| after - before).collect();
            let home = grown.iter().position(|grown| *grown == 5);
            homes.push(home.unwrap_or_else(|| panic!("{key} went to several: {grown:?}")));
        }
        homes
    };
    let all = pool(&addresses, hash);
    let before = homes(&all).await;
    let less = pool(&addresses[..3], hash);
    upstreams.watch(&[Arc::clone(&less)]);
    let after = homes(&less).await;
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == 3), "{before:?} {after:?}");
    assert!(before.contains(&3) && !after.contains(&3));
    upstreams.watch(&[Arc::clone(&all)]);
    assert_eq!(homes(&all).await, before);
}

#[tokio::test]
async fn a_call_is_in_flight_until_its_reply_is_given_back_or_dropped() {
    let (address, _) = server(200).await;
    let provider = pool(&[address], "");
    let upstreams = upstreams();
    let in_flight = || upstreams.shown(&provider)[0].in_flight;
    let mut one = send(&upstreams, &provider, &timeouts(1000, 1000)).await.unwrap();
    let two = send(&upstreams, &provider, &timeouts(1000, 1000)).await.unwrap();
    assert_eq!(in_flight(), 2);
    while one.session.read_response_body().await.unwrap().is_some() {}
    assert_eq!(in_flight(), 2);
    upstreams.release(one).await;
    assert_eq!(in_flight(), 1);
    drop(two);
    assert_eq!(in_flight(), 0);
    // nor does one that was given up leave anything behind
    let (silent, upstreams) = (pool(&[mute().await], ""), self::upstreams());
    let timeouts = timeouts(1000, 1000);
    let given_up = tokio::time::timeout(Duration::from_millis(100), send(&upstreams, &silent, &timeouts));
    assert!(given_up.await.is_err());
    let shown = &upstreams.shown(&silent)[0];
    assert_eq!((shown.in_flight, &shown.last_error), (0, &None), "the caller left: nobody's failure");
}

#[tokio::test]
async fn what_cannot_be_reached_is_tried_elsewhere_in_the_same_attempt() {
    let (good, _) = server(200).await;
    let (slow, _listener, _held) = unreachable().await;
    let provider = pool(&[closed(), slow, good], ", balance: round_robin, ejection: {failures: 3, time: 60s}");
    let upstreams = upstreams();
    let timeouts = timeouts(100, 100);
    for _ in 0..12 {
        assert_eq!(send(&upstreams, &provider, &timeouts).await.unwrap().status(), 200);
    }
    let shown = upstreams.shown(&provider);
    let states: Vec<Condition> = shown.iter().map(|shown| shown.state).collect();
    assert_eq!(
        states.iter().filter(|state| **state == Condition::Ejected).count(),
        1,
        "half of three is one: {shown:?}"
    );
    assert!(shown[0].last_error.as_ref().is_some_and(|error| error.starts_with("connect: ")), "{shown:?}");
    assert_eq!(shown[2].last_error, None);
    // and when there is nowhere to go, it is said at once
    let (nowhere, upstreams) = (pool(&[closed(), closed()], ""), self::upstreams());
    let begun = Instant::now();
    let failure = send(&upstreams, &nowhere, &timeouts).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Connect);
    assert!(begun.elapsed() < Duration::from_secs(1));
    let failures = upstreams.shown(&nowhere).iter().filter(|shown| shown.last_error.is_some()).count();
    assert_eq!(failures, 2, "both were tried");
}

#[tokio::test]
async fn a_call_whose_own_time_is_up_puts_no_endpoint_out() {
    let provider = pool(&[mute().await, mute().await], ", ejection: {failures: 1, time: 60s}");
    let upstreams = upstreams();
    let total = Duration::from_millis(100);
    let failure = send_within(&upstreams, &provider, &timeouts(1000, 1000), total).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Timeout);
    let out = || upstreams.shown(&provider).iter().filter(|s| s.state == Condition::Ejected).count();
    assert_eq!(out(), 0);
    let patience = Timeouts { first_byte: Duration::from_millis(50), ..timeouts(1000, 1000) };
    let failure = send(&upstreams, &provider, &patience).await.err().unwrap();
    assert_eq!((failure.kind, out()), (FailureKind::Timeout, 1), "its own time was up");
}

// === checks ===

#[tokio::test]
async fn checks_run_as_long_as_the_pool_is_configured_and_send_no_credential() {
    let ((good, seen), (bad, _)) = (server(200).await, server(503).await);
    let health = ", api_key: canary, headers: {x-tenant: canary}, health: {path: /health?x=1, interval: 50ms, timeout: 500ms, healthy: 1, unhealthy: 2}";
    let provider = pool(&[good, bad, closed()], health);
    let upstreams = upstreams();
    upstreams.watch(&[Arc::clone(&provider)]);
    let checks = tokio::spawn({
        let upstreams = Arc::clone(&upstreams);
        async move { upstreams.check_health().await }
    });
    let states = || upstreams.shown(&provider).iter().map(|shown| shown.state).collect::<Vec<_>>();
    let wanted = [Condition::Healthy, Condition::Unhealthy, Condition::Unhealthy];
    for _ in 0..100 {
        if states() == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(states(), wanted, "{:?}", upstreams.shown(&provider));
    let errors: Vec<_> = upstreams.shown(&provider).into_iter().map(|shown| shown.last_error).collect();
    assert_eq!((errors[0].as_deref(), errors[1].as_deref()), (None, Some("health check: status 503")));
    for head in seen.lock().unwrap().iter() {
        assert!(head.starts_with("GET /health?x=1 HTTP/1.1\r\n"), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains(&format!("host: {good}\r\n")) && head.contains("connection: close"), "{head}");
        assert!(!head.contains("canary") && !head.contains("authorization"), "{head}");
    }
    // a reload that changes nothing of it leaves it running; one that takes it away ends it
    upstreams.watch(&[Arc::clone(&provider)]);
    let before = seen.lock().unwrap().len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = seen.lock().unwrap().len();
    assert!((before + 3..=before + 8).contains(&after), "{before} {after}");
    upstreams.watch(&[pool(&[good, bad], "")]);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let before = seen.lock().unwrap().len();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(seen.lock().unwrap().len(), before);
    assert_eq!(states(), Vec::<Condition>::new(), "another credential is another pool");
    checks.abort();
    assert!(checks.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn there_is_one_check_for_each_endpoint_and_none_is_left_over() {
    let upstreams = upstreams();
    let pools = dashmap::DashMap::new();
    let now = Instant::now();
    let mut checks = Checks::default();
    for (ports, health, expected) in [
        (vec![1, 2, 3], ", health: /health", 3),
        (vec![1, 2, 3], ", health: /health", 3),
        (vec![2, 3, 4, 5], ", health: /health", 4),
        (vec![2, 3, 4, 5], ", health: {path: /health, interval: 1s}", 4),
        (vec![2], "", 0),
        (vec![2], ", health: /health", 1),
    ] {
        let endpoints: Vec<SocketAddr> = ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
        let provider = pool(&endpoints, health);
        let policy = provider.pool.as_ref().unwrap();
        let pool =
            Arc::clone(&pools.entry(1).or_insert_with(|| Arc::new(super::pool::Pool::new(&provider, policy, now))));
        pool.reshape(&provider, policy, now);
        checks.follow(&pools, &upstreams.connector);
        assert_eq!(checks.count(), expected, "{ports:?}{health}");
        while checks.alive() > expected {
            checks.ended().await;
        }
        assert_eq!(checks.alive(), expected);
    }
    pools.clear();
    checks.follow(&pools, &upstreams.connector);
    assert_eq!(checks.count(), 0);
}
