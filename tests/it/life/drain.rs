//! SIGTERM: what runs is finished, nothing new is taken, and then the process ends, by itself or at its deadline.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpStream;
use tollgate::simulator::{Part, Reply};

use super::readiness;
use crate::support::{Gateway, client, eventually, gateway_to, gateway_with, h2_client, upstream};

/// A stream that takes so long, in ten pieces.
fn stream_of(time: Duration) -> Reply {
    let frame = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let parts = (0..10).fold(Reply::events(), |reply, _| reply.bytes(frame).part(Part::Wait(time / 10)));
    parts.bytes("data: [DONE]\n\n")
}

async fn begin(gateway: &Gateway, client: &reqwest::Client) -> tokio::task::JoinHandle<Result<String, reqwest::Error>> {
    let mut answer = gateway.chat(client, "gpt-4o-mini", true).send().await.expect("an answer");
    let first = answer.chunk().await.expect("unbroken").expect("an event");
    tokio::spawn(async move { Ok(String::from_utf8_lossy(&first).into_owned() + &answer.text().await?) })
}

async fn refuses(gateway: &Gateway) -> bool {
    TcpStream::connect(gateway.data).await.is_err()
}

#[tokio::test]
async fn running_calls_end_whole_and_then_the_process_ends() {
    let upstream = upstream().await;
    let mut gateway = gateway_to(upstream.address).await;
    upstream.simulator.reply("gpt-4o-mini", stream_of(Duration::from_secs(2)));
    upstream.simulator.reply(
        "slow",
        Reply::json(http::StatusCode::OK, &json!({ "usage": null })).first(Part::Wait(Duration::from_millis(1500))),
    );
    let (kept, h2) = (client(), h2_client());
    let mut streams = Vec::new();
    for client in [&kept, &h2, &h2] {
        streams.push(begin(&gateway, client).await);
    }
    let whole = tokio::spawn(gateway.chat(&client(), "up/slow", false).send());
    let upload = TcpStream::connect(gateway.data).await.expect("an idle connection");
    let there = upstream.record().wait_for(Duration::from_secs(5), |calls| calls.len() == 4).await;
    assert!(there, "all calls have reached the provider");

    gateway.signal(libc::SIGTERM);
    let begun = Instant::now();
    eventually("it says that it is draining", || async { readiness(&gateway).await == Some(503) }).await;
    eventually("new connections are refused", || refuses(&gateway)).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "refused only after {:?}", begun.elapsed());
    assert_eq!(readiness(&gateway).await, Some(503));
    assert!(streams.iter().all(|stream| !stream.is_finished()), "the streams run on");

    for stream in streams {
        let got = stream.await.expect("no panic").expect("whole");
        assert!(got.ends_with("data: [DONE]\n\n"), "{got}");
    }
    let answer = whole.await.expect("no panic").expect("an answer");
    assert_eq!(answer.status(), 200);
    drop(upload);
    let last = Instant::now();
    assert!(gateway.ended(Duration::from_secs(5)).await.success());
    println!("ended {:?} after the last call", last.elapsed());
    assert!(last.elapsed() < Duration::from_secs(2));
    let log = gateway.log();
    assert_eq!(log.len(), 4, "every call has its line: {log:#?}");
    assert!(log.iter().all(|line| line["status"] == 200 && line.get("error").is_none()));
}

#[tokio::test]
async fn an_idle_process_ends_at_once() {
    let upstream = upstream().await;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut gateway = gateway_to(upstream.address).await;
        let kept = client();
        assert_eq!(gateway.chat(&kept, "gpt-4o-mini", false).send().await.expect("an answer").status(), 200);
        if signal == libc::SIGINT {
            // at once means without waiting for what comes after an answer: its record
            let recorded = async || gateway.metric("tollgate_requests_total", &["status=\"200\""]).await == 1.0;
            eventually("the call is recorded", recorded).await;
        }
        gateway.signal(signal);
        let begun = Instant::now();
        let status = gateway.ended(Duration::from_secs(5)).await;
        assert!(status.success(), "signal {signal}: {status}\n{}", gateway.stderr());
        println!("signal {signal}: ended after {:?}", begun.elapsed());
        assert_eq!(gateway.log().len(), 1, "the log is whole after signal {signal}");
    }
}

#[tokio::test]
async fn what_does_not_end_is_ended_by_the_deadline_and_logged() {
    let upstream = upstream().await;
    let mut gateway = gateway_with(upstream.address, "server:\n  drain_timeout: 1s\n").await;
    upstream.simulator.reply("gpt-4o-mini", stream_of(Duration::from_secs(60)));
    let stream = begin(&gateway, &client()).await;
    gateway.signal(libc::SIGTERM);
    let begun = Instant::now();
    gateway.ended(Duration::from_secs(10)).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    stream.await.expect("no panic").expect_err("a stream that was cut does not look whole");
    let log = gateway.log();
    assert_eq!(log.len(), 1, "a call that was cut has its line too: {log:#?}");
    assert_eq!((&log[0]["error"], &log[0]["blame"]), (&json!("shutting_down"), &json!("gateway")));
    assert!(log[0]["bytes_out"].as_u64() > Some(0));
}
