//! Which target a call goes to: strategies, affinity, rules, names, and what a model can do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tollgate::simulator::Part;

use super::{Answer, answered, ask, ask_often, calls, completion, error, gateway, model, only, post, some};
use crate::support::{Gateway, KEY, Upstream, client};

/// So many calls by eight at once.
async fn ask_by_eight(gateway: &Gateway, times: usize) -> Vec<Answer> {
    let client = client();
    let worker = || async {
        let mut answers = Vec::new();
        for _ in 0..times / 8 {
            answers.push(answered(gateway.chat(&client, "m", false)).await);
        }
        answers
    };
    futures_util::future::join_all((0..8).map(|_| worker())).await.into_iter().flatten().collect()
}

// === strategies ===

#[tokio::test]
async fn weighted_three_to_one() {
    let [a, b, spare] = &some().await;
    let rest = "models:\n  m: {strategy: weighted, targets: [{model: a/x, weight: 3}, {model: b/x, priority: 7}, {model: c/x, weight: 0}]}\n";
    let gateway = gateway(&[a, b, spare], rest).await;
    let answers = ask_by_eight(&gateway, 400).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let (a, b) = (calls(a), calls(b));
    println!("400 calls, three to one: {a} and {b}");
    // five standard deviations
    assert!(a + b == 400 && (257..=343).contains(&a), "{a} and {b}");
    assert_eq!(calls(spare), 0, "weight 0 is only for when nothing else is left");
}

#[tokio::test]
async fn weight_0_is_asked_when_nothing_else_is_left() {
    let [a, spare] = &some().await;
    let gateway =
        gateway(&[a, spare], "models:\n  m: {strategy: weighted, targets: [{model: b/x, weight: 0}, a/x]}\n").await;
    a.simulator.reply("x", error(503, ""));
    assert_eq!(ask(&gateway, "m", false).await.way(), ("b", "2"));
    assert_eq!(calls(spare), 1);
}

#[tokio::test]
async fn cost_asks_the_cheapest_for_this_very_call() {
    let [short, long, unknown] = &some().await;
    let rest = "models:\n  m:\n    strategy: cost\n    targets:\n      - c/x\n\
                \x20     - {model: b/x, price: {input: 4, output: 1}}\n      - {model: a/x, price: {input: 1, output: 10}}\n";
    let gateway = gateway(&[short, long, unknown], rest).await;
    let call = |words: usize, max: u64| json!({ "model": "m", "max_tokens": max, "messages": [{ "role": "user", "content": "word ".repeat(words) }] });
    for _ in 0..5 {
        // much to read and little to say
        assert_eq!(post(&gateway, "/v1/chat/completions", &call(2000, 10)).await.way(), ("a", "1"));
        // little to read and much to say
        assert_eq!(post(&gateway, "/v1/chat/completions", &call(10, 2000)).await.way(), ("b", "1"));
    }
    // one without a price comes last
    for upstream in [short, long] {
        upstream.simulator.reply("x", error(503, ""));
    }
    assert_eq!(
        post(&gateway, "/v1/chat/completions", &call(2000, 10)).await.header("x-tollgate-tried"),
        "a/x;503, b/x;503"
    );
}

#[tokio::test]
async fn latency_avoids_the_slow_one() {
    let [a, b, c] = &some().await;
    let rest = "models:\n  m: {strategy: latency, targets: [a/x, b/x, c/x]}\n";
    let gateway = gateway(&[a, b, c], rest).await;
    a.simulator.reply("x", completion("slow").first(Part::Wait(Duration::from_millis(150))));
    for upstream in [b, c] {
        upstream.simulator.reply("x", completion("fast").first(Part::Wait(Duration::from_millis(10))));
    }
    ask_often(&gateway, "m", 90).await;
    let counts = [calls(a), calls(b), calls(c)];
    println!("90 calls, the first target 15 times as slow: {counts:?}");
    assert!(counts[0] <= 8, "{counts:?}");
    assert!(counts[1] >= 15 && counts[2] >= 15, "and the fast ones share: {counts:?}");
}

#[tokio::test]
async fn least_busy_spreads() {
    let [a, b] = &some().await;
    let gateway = gateway(&[a, b], "models:\n  m: {strategy: least_busy, targets: [a/x, b/x]}\n").await;
    for (upstream, milliseconds) in [(a, 40), (b, 120)] {
        upstream.simulator.reply("x", completion("x").first(Part::Wait(Duration::from_millis(milliseconds))));
    }
    ask_by_eight(&gateway, 160).await;
    let (a, b) = (calls(a), calls(b));
    println!("160 calls by eight, one target three times as fast: {a} and {b}");
    // with as many calls at each, the fast one gets three times as many
    assert!(a > b * 2 && a < b * 5, "{a} and {b}");
}

#[tokio::test]
async fn priority_asks_the_second_only_when_the_first_fails() {
    let [a, b, c] = &some().await;
    let rest = "models:\n  m: {targets: [{model: c/x, priority: 3}, {model: a/x}, {model: b/x, priority: 2}]}\n";
    let gateway = gateway(&[a, b, c], rest).await;
    ask_often(&gateway, "m", 10).await;
    assert_eq!((calls(a), calls(b), calls(c)), (10, 0, 0));
    a.simulator.reply("x", error(503, ""));
    let answer = ask(&gateway, "m", false).await;
    assert_eq!((answer.way(), calls(c)), (("b", "2"), 0));
}

// === affinity ===

fn turn(system: &str, turns: usize, session: Option<&str>) -> Value {
    let mut messages = vec![json!({ "role": "system", "content": system })];
    for n in 0..turns {
        messages.push(json!({ "role": "user", "content": if n == 0 { format!("first of {system}") } else { format!("turn {n}") } }));
        messages.push(json!({ "role": "assistant", "content": "yes" }));
    }
    messages.pop();
    match session {
        Some(session) => json!({ "model": "m", "messages": messages, "prompt_cache_key": session }),
        None => json!({ "model": "m", "messages": messages }),
    }
}

#[tokio::test]
async fn a_conversation_stays_where_it_began() {
    for affinity in ["prefix", "session", "{header: x-thread}"] {
        let [a, b, c] = &some().await;
        let rest = format!("models:\n  m: {{affinity: {affinity}, strategy: weighted, targets: [a/x, b/x, c/x]}}\n");
        let gateway = gateway(&[a, b, c], &rest).await;
        let client = client();
        let mut homes: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for turns in 1..=4 {
            for conversation in 0..12 {
                let name = format!("thread-{conversation}");
                // what is not the key differs from turn to turn
                let system = if affinity == "prefix" { name.clone() } else { format!("{name} at {turns}") };
                let body = turn(&system, turns, (affinity == "session").then_some(&*name));
                let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).json(&body);
                let request = if affinity.contains("header") { request.header("x-thread", &name) } else { request };
                let answer = answered(request).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                homes.entry(conversation).or_default().insert(answer.header("x-tollgate-provider").to_owned());
            }
        }
        assert!(homes.values().all(|homes| homes.len() == 1), "{affinity}: {homes:?}");
        let used: BTreeSet<&String> = homes.values().flatten().collect();
        assert!(used.len() >= 2, "{affinity}: all at one: {homes:?}");
        // its home fails: another answers, and it comes back afterwards
        let home = homes[&0].first().expect("one").clone();
        let upstream = [a, b, c]["abc".find(&*home).expect("one of three")];
        let body =
            turn(if affinity == "prefix" { "thread-0" } else { "x" }, 3, (affinity == "session").then_some("thread-0"));
        let again = || {
            let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).json(&body);
            answered(request.header("x-thread", "thread-0"))
        };
        upstream.simulator.reply("x", error(503, ""));
        let answer = again().await;
        assert_eq!((answer.status, answer.header("x-tollgate-attempts")), (200, "2"), "{affinity}: {}", answer.text);
        upstream.simulator.replies("x", []);
        assert_eq!(again().await.way(), (&*home, "1"), "{affinity}");
    }
}

// === rules and names ===

#[tokio::test]
async fn rules_send_calls_by_header_tag_key_and_condition() {
    let [a, b, c, d, e] = &some().await;
    let rules = format!(
        "keys:\n  - {{name: plain, key: {KEY}}}\n  - {{name: ci, key: sk-ci-0123456789abcdef}}\n\
         \x20 - {{name: tagged, key: sk-tagged-0123456789abcdef, tags: {{team: search}}}}\n  - {{name: narrow, key: sk-narrow-0123456789abcdef, models: [m]}}\n\
         models: {{m: a/x}}\nroutes:\n  - {{name: by-header, match: {{header: {{x-tier: gold}}}}, model: b/x}}\n\
         \x20 - {{name: by-key, match: {{key: \"c*\", model: \"m*\"}}, model: c/x}}\n  - {{name: by-tag, match: {{tag: {{team: search}}}}, model: d/x}}\n\
         \x20 - {{name: by-size, when: 'request.tokens > 2000 && !request.stream', model: e/x}}\n"
    );
    let mut yaml = String::from("providers:\n");
    for (name, upstream) in ('a'..).zip([a, b, c, d, e]) {
        yaml += &format!("  {name}: {{kind: openai, base_url: \"http://{}/v1\", api_key: k}}\n", upstream.address);
    }
    let gateway = Gateway::start(&format!("{yaml}{rules}"), &[]).await;
    let client = client();
    let ask = |key: &str, header: Option<&str>, words: usize, stream: bool| {
        let body = json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "word ".repeat(words) }] });
        let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(key).json(&body);
        answered(match header {
            Some(value) => request.header("x-tier", value),
            None => request,
        })
    };
    let (ci, tagged, narrow) = ("sk-ci-0123456789abcdef", "sk-tagged-0123456789abcdef", "sk-narrow-0123456789abcdef");
    for (key, header, words, stream, to) in [
        (KEY, None, 1, false, "a"),
        (KEY, Some("silver"), 1, false, "a"),
        (KEY, Some("gold"), 1, false, "b"),
        (ci, None, 1, false, "c"),
        (ci, Some("gold"), 1, false, "b"),
        (tagged, None, 1, true, "d"),
        (KEY, None, 3000, false, "e"),
        (KEY, None, 3000, true, "a"),
        // the operator's word: the key need not be allowed where the rule leads
        (narrow, Some("gold"), 1, false, "b"),
    ] {
        let answer = ask(key, header, words, stream).await;
        assert_eq!((answer.status, answer.way()), (200, (to, "1")), "{key} {header:?} {words}: {}", answer.text);
        assert_eq!(answer.header("x-tollgate-model"), "m");
    }
}

#[tokio::test]
async fn wildcards_and_written_names_find_their_way() {
    let [a, b] = &some().await;
    let rest = "models:\n  \"gpt-*\": a/openai-*\n  \"gpt-4*\": {targets: [{model: \"b/four*\"}]}\n  gpt-4o: b/exact\n";
    let gateway = gateway(&[a, b], rest).await;
    for (name, provider, model) in [
        ("gpt-5.1", "a", "openai-5.1"),
        ("gpt-4.1-mini", "b", "four.1-mini"),
        ("gpt-4o", "b", "exact"),
        ("a/gpt-4o", "a", "gpt-4o"),
        ("b/any/thing:free", "b", "any/thing:free"),
    ] {
        for upstream in [a, b] {
            upstream.record().clear();
        }
        let answer = ask(&gateway, name, false).await;
        assert_eq!((answer.status, answer.way()), (200, (provider, "1")), "{name}: {}", answer.text);
        assert_eq!(only(if provider == "a" { a } else { b }).json()["model"], model, "{name}");
    }
    for unknown in ["gpt-", "claude", "c/x", "a/"] {
        assert_eq!(ask(&gateway, unknown, false).await.status, 404, "{unknown}");
    }
}

// === what a model can do ===

fn picture(content: Value) -> Value {
    json!({ "model": "m", "max_tokens": 20, "messages": [{ "role": "user", "content": content }] })
}

#[tokio::test]
async fn a_picture_passes_over_a_target_that_cannot_see() {
    let [blind, sees]: [Upstream; 2] = some().await;
    let rest = "models:\n  m: {targets: [{model: a/x, info: {vision: false, context: 3000}}, {model: b/x, priority: 2}]}\n  blind: {targets: [a/x, a/y], info: {vision: false}}\n";
    let gateway = gateway(&[&blind, &sees], rest).await;
    let url = "data:image/png;base64,iVBORw0KGgo=";
    let parts =
        json!([{ "type": "text", "text": "What is it?" }, { "type": "image_url", "image_url": { "url": url } }]);
    let answer = post(&gateway, "/v1/chat/completions", &picture(parts.clone())).await;
    assert_eq!((answer.status, answer.way()), (200, ("b", "1")), "{}", answer.text);
    assert_eq!((answer.header("x-tollgate-tried"), calls(&blind)), ("", 0));
    let answer = post(&gateway, "/v1/chat/completions", &picture(json!("a picture of image_url"))).await;
    assert_eq!((answer.status, answer.way()), (200, ("a", "1")), "{}", answer.text);
    // too long for the first
    let answer = post(&gateway, "/v1/chat/completions", &picture(json!("word ".repeat(8000)))).await;
    assert_eq!((answer.status, answer.way()), (200, ("b", "1")), "{}", answer.text);
    // nobody can see: it is said, and nobody is asked
    let mut alone = picture(parts);
    alone["model"] = json!("blind");
    let before = calls(&blind);
    let answer = post(&gateway, "/v1/chat/completions", &alone).await;
    assert_eq!((answer.status, calls(&blind)), (400, before), "{}", answer.text);
    assert_eq!(answer.json()["error"]["code"], "no_capable_target");
}

#[tokio::test]
async fn one_name_for_another_takes_its_targets_along() {
    let [a, b] = &some().await;
    let rest = format!("{}  best: m\n  all: {{targets: [m, {{model: b/y, priority: 9}}]}}\n", model(&["a/x"], ""));
    let gateway = gateway(&[a, b], &rest).await;
    assert_eq!(ask(&gateway, "best", false).await.way(), ("a", "1"));
    a.simulator.reply("x", error(503, ""));
    assert_eq!(ask(&gateway, "all", false).await.way(), ("b", "2"));
}
