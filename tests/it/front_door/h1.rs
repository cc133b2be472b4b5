//! The HTTP/1.1 table: framing, Host, target, method, header and body cases, each on its own connection.
//!
//! Source: RFC 9112 (message framing, sections 2-7), RFC 9110 7.2 (Host), 9.1 (methods), 10.1.1 (Expect), 15.5 (statuses);
//! request smuggling and parser confusion as published for other proxies. Where the RFC leaves a choice the strict one is
//! taken, and the case's name says so (`table`).

mod table;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use self::table::{body_cases, chunked, framing_cases, header_cases, host_and_target_cases, post};
use super::Expect::{Closed, Forwarded, ForwardedAs, Refused, RefusedAndClosed, RefusedOrForwarded};
use super::{BODY, Case, Expect, no_private_header, nothing_upstream, one_clean_request, plain, report, seen_of};
use crate::support::raw::{Exchange, RawUpstream, Seen, UPSTREAM_REPLY, Until, exchange, next_reply};
use crate::support::{gateway_to, gateway_with};

fn judge(expect: Expect, exchange: &Exchange, seen: &Seen, key: &str) -> Result<(), String> {
    let status = exchange.last().map(|reply| reply.status);
    let refused = |allowed: &[u16]| match status {
        Some(status) if allowed.contains(&status) => nothing_upstream(seen),
        other => Err(format!("status {other:?} instead of one of {allowed:?}")),
    };
    let forwarded = || match (status, exchange.last()) {
        (Some(200), Some(reply)) => {
            no_private_header(reply)?;
            if reply.body != UPSTREAM_REPLY.as_bytes() {
                return Err(format!("the client's body is {}", String::from_utf8_lossy(&reply.body)));
            }
            one_clean_request(seen, BODY, key)
        }
        (other, _) => Err(format!("status {other:?} instead of 200")),
    };
    if let Some((name, _)) = exchange.last().and_then(|r| r.headers.iter().find(|(name, _)| name == "x-injected")) {
        return Err(format!("the reply has a header {name}"));
    }
    match expect {
        Refused(allowed) => refused(allowed),
        RefusedAndClosed(_) if !exchange.closed => Err(format!("status {status:?}, and the connection stayed open")),
        RefusedAndClosed(allowed) => refused(allowed),
        Closed if !exchange.closed => {
            Err(format!("the connection stayed open: {}", String::from_utf8_lossy(&exchange.raw)))
        }
        Closed if status == Some(200) => Err("it was served".to_owned()),
        Closed => nothing_upstream(seen),
        Forwarded => forwarded().map(drop),
        ForwardedAs(check) => forwarded().map(check),
        RefusedOrForwarded(allowed) => match status {
            Some(200) => forwarded().map(drop),
            Some(_) | None => refused(allowed),
        },
    }
}

async fn run(cases: Vec<Case>, at_least: usize) {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let (mut failures, ran) = (Vec::new(), cases.len());
    for Case { name, send, expect } in cases {
        let until = match expect {
            RefusedAndClosed(_) | Closed => Until::Close,
            Refused(_) | Forwarded | ForwardedAs(_) | RefusedOrForwarded(_) => Until::Reply,
        };
        let answer = exchange(gateway.data, &fill_in(&send, gateway.key), until).await;
        let judged = match seen_of(gateway.data, gateway.key, &upstream).await {
            Ok(seen) => judge(expect, &answer, &seen, gateway.key),
            Err(why) => Err(why),
        };
        if let Err(why) = judged {
            failures.push((name, why));
        }
    }
    report(failures, ran, at_least);
}

/// The bytes with every `{KEY}` replaced.
fn fill_in(send: &[u8], key: &str) -> Vec<u8> {
    let mut filled = Vec::with_capacity(send.len() + key.len());
    let mut rest = send;
    while let Some(at) = rest.windows(5).position(|w| w == b"{KEY}") {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(key.as_bytes());
        rest = &rest[at + 5..];
    }
    filled.extend_from_slice(rest);
    filled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_framing_never_reaches_a_provider() {
    run(framing_cases(), 45).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_or_private_headers_never_reach_a_provider() {
    run(header_cases(), 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confusing_host_target_or_method_never_reaches_a_provider() {
    run(host_and_target_cases(), 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_two_readers_read_differently_never_reaches_a_provider() {
    run(body_cases(), 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_with(upstream.address, "server:\n  body_limit: 64KB\n").await;
    // Not a byte of the body is sent: only a gateway that does not wait for it can answer.
    let declared = fill_in(post("Content-Length: 900000000\r\n", "").as_bytes(), gateway.key);
    let answer = exchange(gateway.data, &declared, Until::Close).await;
    assert_eq!(answer.last().map(|reply| reply.status), Some(413));
    assert!(answer.closed, "what follows on this connection would be the body");

    // Never ended: only a gateway that counts while reading can answer.
    let endless = format!("10000\r\n{}\r\n", "a".repeat(0x10000)).repeat(4);
    let endless = fill_in(chunked(&endless).as_bytes(), gateway.key);
    let answer = exchange(gateway.data, &endless, Until::Reply).await;
    assert_eq!(answer.last().map(|reply| reply.status), Some(413));

    nothing_upstream(&seen_of(gateway.data, gateway.key, &upstream).await.expect("it goes on serving"))
        .expect("nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_for_100_continue_gets_it_at_once() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let head = post(&format!("Content-Length: {}\r\nExpect: 100-continue\r\n", BODY.len()), "");
    let mut socket = TcpStream::connect(gateway.data).await.expect("the gateway listens");
    let mut buffer = BytesMut::new();
    socket.write_all(&fill_in(head.as_bytes(), gateway.key)).await.expect("the head is taken");
    let interim = next_reply(&mut socket, &mut buffer).await.expect("an interim reply");
    assert_eq!(interim.status, 100);
    socket.write_all(BODY.as_bytes()).await.expect("the body is taken");
    let reply = next_reply(&mut socket, &mut buffer).await.expect("a final reply");
    assert_eq!(reply.status, 200);
    drop(socket);
    let seen = seen_of(gateway.data, gateway.key, &upstream).await.expect("it goes on serving");
    one_clean_request(&seen, BODY, gateway.key).expect("one clean request, without Expect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_would_be_refused_is_not_told_to_continue() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let head = post("Content-Length: 90\r\nExpect: 100-continue\r\n", "").replace("{KEY}", "sk-wrong");
    let answer = exchange(gateway.data, head.as_bytes(), Until::Reply).await;
    let statuses: Vec<_> = answer.replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [401]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_one_after_the_other_on_one_connection_are_kept_apart() {
    let upstream = RawUpstream::start().await;
    let gateway = gateway_to(upstream.address).await;
    let mut socket = TcpStream::connect(gateway.data).await.expect("the gateway listens");
    let mut buffer = BytesMut::new();
    for turn in 0..20 {
        let body = format!(r#"{{"model":"gpt-4o-mini","messages":[],"turn":{turn}}}"#);
        socket.write_all(&plain(gateway.key, &body)).await.expect("the connection is kept alive");
        let reply = next_reply(&mut socket, &mut buffer).await.expect("a reply");
        assert_eq!(reply.status, 200);
        let seen = upstream.take();
        one_clean_request(&seen, &body, gateway.key).expect("one clean request");
    }
}
