//! SIGQUIT: the listeners go to a successor while clients connect all the time, and none is turned away.

use std::process::Child;
use std::time::{Duration, Instant};

use tollgate::simulator::{Part, Reply};

use super::{Load, generations_only_grow, readiness};
use crate::support::{client, eventually, gateway_to, upstream};

/// Ended when dropped.
struct Successor(Child);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_takes_over_under_load_and_no_call_fails() {
    let upstream = upstream().await;
    let mut gateway = gateway_to(upstream.address).await;
    let frame = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let pause = Part::Wait(Duration::from_millis(200));
    let long = (0..45).fold(Reply::events(), |reply, _| reply.bytes(frame).part(pause.clone()));
    upstream.simulator.reply("long", long.bytes("data: [DONE]\n\n"));
    let stream = tokio::spawn(gateway.chat(&client(), "up/long", true).send());
    let stream = stream.await.expect("no panic").expect("an answer");
    let stream = tokio::spawn(stream.text());

    let load = Load::start(&gateway, 4);
    let successor = Successor(gateway.start_successor());
    gateway.signal(libc::SIGQUIT);
    let begun = Instant::now();
    let status = gateway.ended(Duration::from_secs(30)).await;
    let took = begun.elapsed();
    assert!(status.success(), "{status}: {}", gateway.stderr());
    let old = stream.await.expect("no panic").expect("whole");
    assert!(old.ends_with("data: [DONE]\n\n") && old.matches("data: {").count() == 45, "the old stream ended whole");

    // by now every call is the successor's
    let before = gateway.log().len();
    eventually("the successor serves", || async { gateway.log().len() > before + 20 }).await;
    eventually("the successor is ready", || async { readiness(&gateway).await == Some(200) }).await;
    let served = load.end().await;
    println!("handed over in {took:?}: {served} calls, none failed");
    assert!(served > 100, "only {served} calls: no load");
    assert!(
        gateway.metric("tollgate_requests_total", &["status=\"200\""]).await > 20.0,
        "on the successor's admin port"
    );
    let log = gateway.log_of(served + 1).await;
    generations_only_grow(&log);
    assert!(log.iter().all(|line| line["status"] == 200), "{log:#?}");
    drop(successor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_successor_a_hand_over_is_refused_and_it_serves_on() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    gateway.signal(libc::SIGQUIT);
    eventually("the refusal is logged", || async { gateway.stderr().contains("no process waits") }).await;
    let answer = gateway.chat(&client(), "gpt-4o-mini", false).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
}
