//! What operators read: `/metrics`, held to the names that were promised and to Prometheus' own rules, and the access log's lines.
//!
//! Rules: prometheus.io/docs/practices/naming and the text format 0.0.4 (`promtool check metrics` checks the same things).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tollgate::simulator::Reply;

use crate::support::{Gateway, KEY, UPSTREAM_KEY, Upstream, client, gateway_to, upstream};

/// Names of the contract. Those of features to come are declared without samples.
const PROMISED: [&str; 20] = [
    "gen_ai_client_token_usage_total",
    "gen_ai_server_request_duration_seconds",
    "gen_ai_server_time_to_first_token_seconds",
    "gen_ai_server_time_per_output_token_seconds",
    "tollgate_requests_total",
    "tollgate_cost_usd_total",
    "tollgate_overhead_seconds",
    "tollgate_upstream_attempts_total",
    "tollgate_breaker_state",
    "tollgate_target_in_flight",
    "tollgate_queue_waiting",
    "tollgate_endpoint_up",
    "tollgate_limited_total",
    "tollgate_budget_remaining_usd",
    "tollgate_losses_total",
    "tollgate_unpriced_total",
    "tollgate_config_generation",
    "tollgate_mcp_calls_total",
    "tollgate_mcp_server_up",
    "tollgate_streams_open",
];

#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The text format, strictly: HELP, TYPE, then the family's samples, each family once.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'), "the last line has its end");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("HELP without a text: {line}"));
            let family = Family { help: help.to_owned(), ..Family::default() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} stands twice");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, current, "TYPE behind its HELP");
            families.get_mut(name).expect("HELP came first").kind = kind.to_owned();
        } else {
            let sample = sample(line).unwrap_or_else(|| panic!("not a sample: {line}"));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| sample.name.strip_suffix(end));
            let histogram = families[&current].kind == "histogram";
            assert!(sample.name == current || (histogram && base == Some(&current)), "{line} under {current}");
            families.get_mut(&current).expect("the current one").samples.push(sample);
        }
    }
    families
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = if value == "+Inf" { f64::INFINITY } else { value.parse().ok()? };
    let Some((name, rest)) = series.split_once('{') else {
        return Some(Sample { name: series.to_owned(), labels: BTreeMap::new(), value });
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}')?;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        let (text, after) = after.split_once('"')?;
        labels.insert(label.to_owned(), text.to_owned()).is_none().then_some(())?;
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(Sample { name: name.to_owned(), labels, value })
}

/// What is wrong with a family by the rules.
fn lint(name: &str, family: &Family) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |holds: bool, rule: &str| {
        if !holds {
            wrong.push(format!("{name}: {rule}"));
        }
    };
    let letters = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    must(letters(name) && !name.starts_with(|c: char| c.is_ascii_digit()), "lower case, digits and _ only");
    must(family.help.len() > 10, "a help text that helps");
    must(["counter", "gauge", "histogram"].contains(&family.kind.as_str()), "a known type");
    must((family.kind == "counter") == name.ends_with("_total"), "counters, and they alone, end in _total");
    must(!["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)), "no reserved ending");
    must(!name.contains(&family.kind), "no type in the name");
    let odd = ["_milliseconds", "_ms", "_microseconds", "_minutes", "_hours", "_percent", "_kb", "_mb", "_megabytes"];
    must(!odd.iter().any(|unit| name.contains(unit)), "base units: seconds, bytes, ratios");
    if family.kind == "histogram" {
        must(name.ends_with("_seconds") || name.ends_with("_bytes"), "a histogram has a unit");
    }
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        must(seen.insert((&sample.name, &sample.labels)), "each series once");
        must(sample.labels.keys().all(|label| letters(label) && !label.starts_with("__")), "label names");
        must(family.kind == "gauge" || sample.value >= 0.0, "counts do not fall below zero");
        must(!sample.value.is_nan(), "a number");
    }
    if family.kind == "histogram" {
        for count in family.samples.iter().filter(|s| s.name.ends_with("_count")) {
            let mut before = 0.0;
            let mut last = None;
            for bucket in family.samples.iter().filter(|s| s.name.ends_with("_bucket")) {
                let mut labels = bucket.labels.clone();
                let bound = labels.remove("le");
                if labels == count.labels {
                    must(bucket.value >= before, "buckets grow");
                    (before, last) = (bucket.value, bound);
                }
            }
            must(last.as_deref() == Some("+Inf") && before == count.value, "the last bucket holds all");
        }
    }
    wrong
}

/// A few of everything.
async fn some_calls(gateway: &Gateway, upstream: &Upstream) -> usize {
    let details = json!({ "reasoning_tokens": 64 });
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 70, "completion_tokens_details": details });
    upstream.simulator.reply("think", Reply::json(http::StatusCode::OK, &json!({ "usage": usage })));
    let client = client();
    let mut calls = 0;
    for (model, stream) in [
        ("gpt-4o-mini", false),
        ("gpt-4o-mini", true),
        ("alias", true),
        ("up/sim-429", false),
        ("up/sim-500", true),
        ("up/think", false),
        ("unknown", false),
    ] {
        let answer = gateway.chat(&client, model, stream).send().await.expect("an answer");
        answer.bytes().await.expect("whole");
        calls += 1;
    }
    for (path, body) in [
        ("/v1/embeddings", json!({ "model": "gpt-4o-mini", "input": "x" })),
        ("/v1/responses", json!({ "model": "gpt-4o-mini", "input": "x", "stream": true })),
        ("/v1/moderations", json!({ "input": "x" })),
    ] {
        let answer = client.post(gateway.url(path)).bearer_auth(KEY).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.expect("whole");
        calls += 1;
    }
    client.get(gateway.url("/v1/models")).send().await.expect("an answer");
    gateway.log_of(calls + 1).await;
    calls + 1
}

#[tokio::test]
async fn the_metrics_have_the_promised_names_and_keep_prometheus_rules() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let fresh = parse(&gateway.metrics().await);
    for name in PROMISED {
        assert!(fresh.contains_key(name), "{name} is not there from the start");
    }
    some_calls(&gateway, &upstream).await;
    let answer = client().get(format!("http://{}/metrics", gateway.admin)).send().await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let families = parse(&answer.text().await.expect("text"));
    for name in PROMISED {
        assert!(families.contains_key(name), "{name} is gone");
    }
    let wrong: Vec<String> = families.iter().flat_map(|(name, family)| lint(name, family)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(families.contains_key("process_resident_memory_bytes"), "and the process' own");

    let sum = |name: &str, labels: &[(&str, &str)]| -> f64 {
        let fits = |sample: &&Sample| labels.iter().all(|(l, v)| sample.labels.get(*l).is_some_and(|got| got == v));
        families[name]
            .samples
            .iter()
            .filter(|s| !s.name.ends_with("_bucket") && !s.name.ends_with("_sum"))
            .filter(fits)
            .map(|s| s.value)
            .sum()
    };
    let mini = ("gen_ai_request_model", "gpt-4o-mini");
    assert_eq!(sum("tollgate_requests_total", &[]), 11.0, "each call once");
    assert_eq!(sum("tollgate_requests_total", &[("status", "200"), mini]), 4.0);
    assert_eq!(sum("tollgate_requests_total", &[("status", "429")]), 1.0);
    assert_eq!(sum("tollgate_requests_total", &[("status", "401")]), 1.0);
    assert_eq!(
        sum("tollgate_requests_total", &[("gen_ai_request_model", "other")]),
        4.0,
        "three of `up/...`, one unknown"
    );
    assert_eq!(sum("tollgate_upstream_attempts_total", &[("outcome", "ok")]), 7.0);
    assert_eq!(sum("tollgate_upstream_attempts_total", &[("outcome", "rate_limited")]), 1.0);
    assert_eq!(sum("tollgate_upstream_attempts_total", &[("outcome", "server_error")]), 1.0);
    assert_eq!(sum("gen_ai_server_time_to_first_token_seconds", &[]), 3.0, "the streams that were served");
    assert_eq!(sum("gen_ai_server_request_duration_seconds", &[("gen_ai_operation_name", "embeddings")]), 1.0);
    assert!(sum("tollgate_unpriced_total", &[]) >= 5.0);
    for kind in ["input", "output", "reasoning"] {
        assert!(sum("gen_ai_client_token_usage_total", &[("gen_ai_token_type", kind)]) > 0.0, "{kind}");
    }
    // the log and the metrics count the same tokens
    let log = gateway.log();
    let logged: u64 = log.iter().filter_map(|line| line["output_tokens"].as_u64()).sum();
    assert_eq!(sum("gen_ai_client_token_usage_total", &[("gen_ai_token_type", "output")]), logged as f64);
}

#[tokio::test]
async fn no_text_of_a_caller_becomes_a_label_and_the_series_stay_few() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    some_calls(&gateway, &upstream).await;
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let rude = |number: usize| format!("rude{number}canary");
    let client = client();
    let mut calls = 11;
    let mut before = 0;
    for number in 0..120 {
        let word = rude(number);
        for (method, path, body) in [
            ("POST", "/v1/chat/completions".to_owned(), json!({ "model": word, "messages": [] })),
            (
                "POST",
                "/v1/chat/completions".to_owned(),
                json!({ "model": format!("up/{word}"), "messages": [{ "role": "user", "content": "x" }] }),
            ),
            ("POST", format!("/v1/{word}"), json!({})),
            ("GET", format!("/v1/models/{word}"), Value::Null),
            ("GET", format!("/raw/{word}/x"), Value::Null),
            ("GET", format!("/v1/files/{word}"), Value::Null),
        ] {
            let request = client.request(method.parse().expect("a method"), gateway.url(&path)).bearer_auth(KEY);
            let request = request.header("user-agent", &word).header("x-request-id", &word);
            let request = if body.is_null() { request } else { request.json(&body) };
            request.send().await.expect("an answer").bytes().await.expect("whole");
            calls += 1;
        }
        if number == 9 {
            gateway.log_of(calls).await;
            before = series(&gateway.metrics().await);
        }
    }
    let wrong_method = client.request("BREW".parse().expect("a token"), gateway.url("/v1/models")).bearer_auth(KEY);
    wrong_method.send().await.expect("an answer");
    gateway.log_of(calls + 1).await;
    let text = gateway.metrics().await;
    assert!(
        !text.contains("canary") && !text.contains("BREW"),
        "{}",
        text.lines().find(|l| l.contains("canary")).unwrap_or("BREW")
    );
    assert_eq!(series(&text), before + 1, "110 more of each made no new series, the unknown method one");
    assert!(before < 600, "{before} series");
}

#[tokio::test]
async fn every_call_has_one_line_with_every_documented_field() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let client = client();
    let before = jiff::Timestamp::now();
    let request = gateway.chat(&client, "alias", true).header("x-request-id", "one");
    let sent = request.try_clone().and_then(|r| r.build().ok()).expect("a request");
    let sent = sent.body().and_then(|body| body.as_bytes()).map_or(0, <[u8]>::len);
    let got = request.send().await.expect("an answer").bytes().await.expect("whole").len();
    let refused = client.post(gateway.url("/v1/chat/completions")).header("x-request-id", "two");
    assert_eq!(refused.send().await.expect("an answer").status(), 401);
    let limited = gateway.chat(&client, "up/sim-429", false).header("x-request-id", "three");
    assert_eq!(limited.send().await.expect("an answer").status(), 429);
    let listed = client.get(gateway.url("/v1/models")).bearer_auth(KEY).header("x-request-id", "four");
    assert_eq!(listed.send().await.expect("an answer").status(), 200);

    let log = gateway.log_of(4).await;
    assert_eq!(log.len(), 4);
    let [served, refused, limited, listed] = log.as_slice() else { panic!("{log:#?}") };
    let names = |line: &Value| -> BTreeSet<String> { line.as_object().expect("an object").keys().cloned().collect() };
    let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let always = [
        "time",
        "request_id",
        "client",
        "method",
        "route",
        "attempts",
        "stream",
        "status",
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "overhead_us",
        "generation",
    ];
    let key = ["key", "tags"];
    let target = ["model", "provider", "upstream_model", "upstream_request_id", "lane"];
    let tokens = ["input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"];
    let failed = ["error", "blame", "detail"];
    assert_eq!(
        names(served),
        set(&[&always[..], &key, &target, &tokens, &["first_byte_ms", "first_token_ms"]].concat())
    );
    assert_eq!(names(refused), set(&[&always[..], &failed].concat()));
    assert_eq!(
        names(limited),
        set(&[&always[..], &key, &target, &failed, &["first_byte_ms", "tried", "cost_usd"]].concat())
    );
    assert_eq!(names(listed), set(&[&always[..], &key, &["lane"]].concat()));

    for (name, wanted) in [
        ("request_id", json!("one")),
        ("client", json!("127.0.0.1")),
        ("key", json!("test")),
        ("tags", json!({ "team": "search" })),
        ("method", json!("POST")),
        ("route", json!("chat_completions")),
        ("model", json!("alias")),
        ("provider", json!("up")),
        ("upstream_model", json!("gpt-4o-mini")),
        ("lane", json!("splice")),
        ("attempts", json!(1)),
        ("stream", json!(true)),
        ("status", json!(200)),
        ("bytes_in", json!(sent)),
        ("bytes_out", json!(got)),
        ("generation", json!(1)),
    ] {
        assert_eq!(served[name], wanted, "{name}");
    }
    let time: jiff::Timestamp = served["time"].as_str().and_then(|t| t.parse().ok()).expect("RFC 3339");
    assert!(time >= before && time <= jiff::Timestamp::now());
    let of = |name: &str| served[name].as_f64().expect("a number");
    assert!(of("first_byte_ms") <= of("first_token_ms") && of("first_token_ms") <= of("duration_ms"), "{served}");
    assert!(of("overhead_us") <= of("duration_ms") * 1000.0 + 1.0 && of("overhead_us") > 0.0);
    assert!(served["upstream_request_id"].as_str().is_some_and(|id| id.starts_with("req_")));
    assert_eq!((&refused["error"], &refused["blame"]), (&json!("unauthorized"), &json!("client")));
    assert_eq!((&limited["error"], &limited["blame"]), (&json!("upstream_refused"), &json!("upstream")));
    assert_eq!((&listed["lane"], &listed["route"]), (&json!("local"), &json!("models")));
    let text = std::fs::read_to_string(gateway.folder().join("access.log")).expect("a log");
    assert!(!text.contains(KEY) && !text.contains(UPSTREAM_KEY) && !text.contains("Hello"));
}

#[tokio::test]
async fn the_answers_headers_say_who_answered_and_how() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    for stream in [false, true] {
        let answer = gateway.chat(&client(), "alias", stream).send().await.expect("an answer");
        let header =
            |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let names = ["x-tollgate-model", "x-tollgate-provider", "x-tollgate-attempts", "x-tollgate-lane"];
        assert_eq!(names.map(header), ["alias", "up", "1", "splice"]);
        let overhead: u64 = header("x-tollgate-overhead-us").parse().expect("microseconds");
        assert!(overhead < 1_000_000, "{overhead}");
    }
}
