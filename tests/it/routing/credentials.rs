//! Several credentials of one provider: calls go where most is left, and a key that is refused costs nobody a call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{ask, ask_often};
use crate::support::scripted::{Scripted, reply};
use crate::support::{Gateway, KEY};

/// Calls by credential.
type Ledger = Arc<Mutex<BTreeMap<String, usize>>>;

fn note(ledger: &Ledger, key: &str) {
    *ledger.lock().expect("no holder panics").entry(key.to_owned()).or_default() += 1;
}

fn count(ledger: &Ledger, key: &str) -> usize {
    ledger.lock().expect("no holder panics").get(&format!("Bearer {key}")).copied().unwrap_or(0)
}

async fn gateway(provider: &Scripted, rest: &str) -> Gateway {
    let yaml = format!(
        "keys: [{{name: test, key: {KEY}}}]\nmodels: {{m: up/x}}\nproviders:\n\
         \x20 up: {{kind: openai, base_url: 'http://{}/v1', api_keys: [first-key, second-key]{rest}}}\n",
        provider.address
    );
    Gateway::start(&yaml, &[]).await
}

#[tokio::test]
async fn the_key_with_more_of_its_quota_left_is_used() {
    let ledger = Ledger::default();
    let provider = Scripted::start({
        let ledger = Arc::clone(&ledger);
        move |asked| {
            let ledger = Arc::clone(&ledger);
            async move {
                note(&ledger, asked.header("authorization"));
                let left = if asked.header("authorization").ends_with("first-key") { "40" } else { "900" };
                let limits = [
                    ("x-ratelimit-limit-requests", "1000"),
                    ("x-ratelimit-remaining-requests", left),
                    ("x-ratelimit-reset-requests", "60s"),
                ];
                reply(200, &limits)
            }
        }
    })
    .await;
    let gateway = gateway(&provider, "").await;
    let answers = ask_often(&gateway, "m", 40).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.header("x-tollgate-attempts") == "1"));
    let (first, second) = (count(&ledger, "first-key"), count(&ledger, "second-key"));
    println!("40 calls: {first} with the key that has 4% left, {second} with the one that has 90%");
    assert!(first + second == 40 && (1..=3).contains(&first), "{first} and {second}");
}

#[tokio::test]
async fn a_key_that_is_refused_is_passed_over_and_in_the_end_left_alone_without_the_other() {
    let ledger = Ledger::default();
    let provider = Scripted::start({
        let ledger = Arc::clone(&ledger);
        move |asked| {
            let ledger = Arc::clone(&ledger);
            async move {
                note(&ledger, asked.header("authorization"));
                reply(if asked.header("authorization").ends_with("first-key") { 401 } else { 200 }, &[])
            }
        }
    })
    .await;
    let gateway = gateway(&provider, ", breaker: {failures: 3, cooldown: 60s}").await;
    let answers = ask_often(&gateway, "m", 60).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "nobody pays for the bad key");
    assert_eq!((count(&ledger, "first-key"), count(&ledger, "second-key")), (3, 60), "a breaker of its own");
    assert!(answers[40..].iter().all(|answer| answer.header("x-tollgate-attempts") == "1"));
}

#[tokio::test]
async fn a_key_that_is_out_of_quota_rests_while_the_other_works() {
    let ledger = Ledger::default();
    let provider = Scripted::start({
        let ledger = Arc::clone(&ledger);
        move |asked| {
            let ledger = Arc::clone(&ledger);
            async move {
                note(&ledger, asked.header("authorization"));
                match asked.header("authorization").ends_with("first-key") {
                    true => reply(429, &[("retry-after", "20")]),
                    false => reply(200, &[]),
                }
            }
        }
    })
    .await;
    let gateway = gateway(&provider, "").await;
    let answers = ask_often(&gateway, "m", 30).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!((count(&ledger, "first-key"), count(&ledger, "second-key")), (1, 30));
}

#[tokio::test]
async fn equal_keys_take_turns() {
    let ledger = Ledger::default();
    let provider = Scripted::start({
        let ledger = Arc::clone(&ledger);
        move |asked| {
            note(&ledger, asked.header("authorization"));
            async move { reply(200, &[]) }
        }
    })
    .await;
    let gateway = gateway(&provider, "").await;
    ask_often(&gateway, "m", 60).await;
    let first = count(&ledger, "first-key");
    assert!((15..=45).contains(&first), "{first} of 60");
    // and no key is ever shown to the client
    let answer = ask(&gateway, "m", false).await;
    assert!(!format!("{:?}{}", answer.headers, answer.text).contains("-key"));
}
