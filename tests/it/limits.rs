//! What the gateway holds at most: bodies, bytes over all calls, connections. Whoever exceeds it is told so; everybody else is served.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::raw::{Until, exchange};
use crate::support::{Gateway, KEY, client, eventually, gateway_with, h2_client, upstream};

/// A chat body of exactly so many bytes.
fn body_of(bytes: usize) -> String {
    let empty = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":""}]}"#;
    let (before, after) = empty.split_at(empty.len() - 4);
    format!("{before}{}{after}", "x".repeat(bytes - empty.len()))
}

fn head(framing: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\n{framing}\r\n\r\n"
    )
}

async fn post(client: &reqwest::Client, gateway: &Gateway, body: impl Into<reqwest::Body>) -> reqwest::Response {
    let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
    request.header("content-type", "application/json").body(body).send().await.expect("an answer")
}

fn in_chunks(body: String) -> reqwest::Body {
    let chunks: Vec<_> = body.as_bytes().chunks(50_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    reqwest::Body::wrap_stream(futures_util::stream::iter(chunks))
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_is_framed() {
    const LIMIT: usize = 1_000_000;
    let upstream = upstream().await;
    let gateway = gateway_with(upstream.address, "server:\n  body_limit: 1MB\n").await;
    for client in [client(), h2_client()] {
        for whole in [true, false] {
            let body = |bytes| if whole { body_of(bytes).into() } else { in_chunks(body_of(bytes)) };
            upstream.record().clear();
            let answer = post(&client, &gateway, body(LIMIT)).await;
            assert_eq!(answer.status(), 200, "exactly at the limit, whole {whole}");
            assert_eq!(upstream.record().last().expect("a call").body.len(), LIMIT);
            for bytes in [LIMIT + 1, 3 * LIMIT] {
                let answer = post(&client, &gateway, body(bytes)).await;
                assert_eq!(answer.status(), 413, "{bytes} bytes, whole {whole}");
                let error: Value = answer.json().await.expect("JSON");
                assert_eq!(error["error"]["code"], "request_too_large");
                assert!(error["error"]["message"].as_str().is_some_and(|m| m.contains("1000000")), "{error}");
            }
            assert_eq!(upstream.record().calls().len(), 1, "nothing of the others went upstream");
        }
    }
    // the declared length is enough, also for a client that waits to be asked
    for framing in
        ["Content-Length: 1000001", "Content-Length: 99999999999", "Content-Length: 1000001\r\nExpect: 100-continue"]
    {
        let begun = Instant::now();
        let got = exchange(gateway.data, head(framing).as_bytes(), Until::Reply).await;
        assert_eq!(got.replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [413], "{framing}");
        assert!(begun.elapsed() < Duration::from_secs(2), "at once");
    }
    let log = gateway.log_of(15).await;
    assert_eq!(log.iter().filter(|l| l["error"] == "too_large" && l["blame"] == "client").count(), 11, "{log:#?}");
    eventually("nothing is held", || async { gateway.metric("tollgate_buffered_bytes", &[]).await == 0.0 }).await;
}

#[tokio::test]
async fn when_the_memory_for_bodies_is_taken_others_are_asked_to_come_back() {
    let upstream = upstream().await;
    let gateway = gateway_with(upstream.address, "server:\n  body_limit: 2MB\n  buffer_limit: 2MB\n").await;
    // one client announces 1.5 MB and sends all but the last byte
    let large = body_of(1_500_000);
    let mut slow = TcpStream::connect(gateway.data).await.expect("it listens");
    let begin = head("Content-Length: 1500000") + &large[..large.len() - 1];
    slow.write_all(begin.as_bytes()).await.expect("it is taken");
    eventually("its bytes are held", || async { gateway.metric("tollgate_buffered_bytes", &[]).await >= 1_499_999.0 })
        .await;

    for (client, body) in [(client(), body_of(1_000_000).into()), (h2_client(), in_chunks(body_of(1_000_000)))] {
        let answer = post(&client, &gateway, body).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(answer.headers()["x-should-retry"], "true");
        let error: Value = answer.json().await.expect("JSON");
        assert_eq!(
            (&error["error"]["type"], &error["error"]["code"]),
            (&json!("overloaded_error"), &json!("overloaded"))
        );
    }
    for _ in 0..20 {
        assert_eq!(post(&client(), &gateway, body_of(10_000)).await.status(), 200, "there is room for small ones");
    }
    assert_eq!(gateway.metric("tollgate_limited_total", &["limit=\"buffered_bytes\""]).await, 2.0);

    slow.write_all(&large.as_bytes()[large.len() - 1..]).await.expect("it is taken");
    let mut buffer = bytes::BytesMut::new();
    let reply = crate::support::raw::next_reply(&mut slow, &mut buffer).await.expect("the slow one is served as well");
    assert_eq!(reply.status, 200);
    assert_eq!(post(&client(), &gateway, body_of(1_900_000)).await.status(), 200, "and then there is room again");
    eventually("nothing is held", || async { gateway.metric("tollgate_buffered_bytes", &[]).await == 0.0 }).await;
    let log = gateway.log_of(24).await;
    assert_eq!(log.iter().filter(|l| l["error"] == "overloaded" && l["blame"] == "gateway").count(), 2);
}

/// A connection from this loopback address.
async fn connect_from(address: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((IpAddr::from(address), 0).into()).expect("Linux has the whole of 127/8");
    socket.connect(to).await.expect("it listens")
}

/// Whether the gateway serves on this connection, or has closed it.
async fn served(stream: &mut TcpStream) -> bool {
    let request = format!("GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n\r\n");
    // a closed connection may take the bytes or refuse them
    let _ = stream.write_all(request.as_bytes()).await;
    let mut buffer = [0; 16];
    match tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.expect("an answer or an end") {
        Ok(0) | Err(_) => false,
        Ok(_) => buffer.starts_with(b"HTTP/1.1 200"),
    }
}

#[tokio::test]
async fn connections_are_counted_in_all_and_by_address() {
    let upstream = upstream().await;
    let yaml = "server:\n  connections: 5\n  connections_per_address: 3\n";
    let gateway = gateway_with(upstream.address, yaml).await;
    eventually("its own knock is gone", || async { gateway.metric("tollgate_connections_open", &[]).await == 0.0 })
        .await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = connect_from([127, 0, 0, 2], gateway.data).await;
        assert!(served(&mut stream).await);
        open.push(stream);
    }
    assert!(!served(&mut connect_from([127, 0, 0, 2], gateway.data).await).await, "a fourth from one address");
    for _ in 0..2 {
        let mut stream = connect_from([127, 0, 0, 3], gateway.data).await;
        assert!(served(&mut stream).await, "another address");
        open.push(stream);
    }
    assert!(!served(&mut connect_from([127, 0, 0, 4], gateway.data).await).await, "a sixth in all");
    assert_eq!(gateway.metric("tollgate_connections_open", &[]).await, 5.0);
    for limit in ["connections", "connections_per_address"] {
        let label = format!("limit=\"{limit}\"");
        assert_eq!(gateway.metric("tollgate_limited_total", &[&label]).await, 1.0, "{limit}");
    }
    open.remove(0);
    eventually("one is gone", || async { gateway.metric("tollgate_connections_open", &[]).await == 4.0 }).await;
    let mut stream = connect_from([127, 0, 0, 4], gateway.data).await;
    assert!(served(&mut stream).await, "its place is free");
    drop(open);
    drop(stream);
    eventually("all are gone", || async { gateway.metric("tollgate_connections_open", &[]).await == 0.0 }).await;
}

/// A provider that reads requests, keeps nothing, and answers slowly enough for many to be there at once.
async fn sink() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("its address");
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(swallow(stream));
        }
    });
    (address, task)
}

async fn swallow(mut stream: TcpStream) -> Option<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut seen = Vec::new();
        let end = loop {
            if let Some(at) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let n = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
            seen.extend_from_slice(&buffer[..n]);
        };
        let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
        let length: usize = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
        let mut left = length - (seen.len() - end);
        while left > 0 {
            left -= stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let reply = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        stream.write_all(reply.as_bytes()).await.ok()?;
    }
}

/// The most memory the gateway has held so far, in bytes.
fn peak(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_large_bodies_at_once_stay_within_the_bound() {
    const BODY: usize = 10_000_000;
    const BOUND: usize = 120_000_000;
    let (address, sink) = sink().await;
    let gateway = gateway_with(address, "server:\n  body_limit: 16MB\n  buffer_limit: 120MB\n").await;
    let before = peak(&gateway);
    let body = bytes::Bytes::from(body_of(BODY));
    let gateway = Arc::new(gateway);
    let deadline = Instant::now() + Duration::from_secs(60);
    let running: Vec<_> = (0..50)
        .map(|_| {
            let (gateway, body) = (Arc::clone(&gateway), body.clone());
            tokio::spawn(async move {
                let mut refused = 0;
                loop {
                    let answer = post(&client(), &gateway, body.clone()).await;
                    match answer.status().as_u16() {
                        200 => return refused,
                        503 => refused += 1,
                        other => panic!("status {other}"),
                    }
                    assert!(Instant::now() < deadline, "never served");
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            })
        })
        .collect();
    let mut refused = 0;
    for call in running {
        refused += call.await.expect("every one is served in the end");
    }
    let grown = peak(&gateway) - before;
    println!("50 bodies of 10 MB: grown by {} MB at most, {refused} times told to come back", grown / 1_000_000);
    assert!(refused > 0, "the bound was never reached: the test is blind");
    assert!(grown < 2 * BOUND, "the gateway grew by {} MB", grown / 1_000_000);
    eventually("nothing is held", || async { gateway.metric("tollgate_buffered_bytes", &[]).await == 0.0 }).await;
    sink.abort();
}
