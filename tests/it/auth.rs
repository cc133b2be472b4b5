//! Who is let in: virtual keys in every spelling, and nobody else on any route.
//!
//! Judged by the answer and by the upstream's record: a refused call never reaches a provider, and the caller's key never goes there.

use std::net::{IpAddr, Ipv4Addr};

use http::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tollgate::config::keys;

use crate::support::{Gateway, UPSTREAM_KEY, Upstream, client, refused_start, upstream};

const PEPPER: &str = "pepper-of-the-tests-0123456789";
const FULL: &str = "sk-full-0123456789abcdef";
const NARROW: &str = "sk-narrow-0123456789abcdef";
const HASHED: &str = "sk-hashed-0123456789abcdef";
const REVOKED: &str = "sk-revoked-0123456789abcdef";
const EXPIRED: &str = "sk-expired-0123456789abcdef";

/// Every kind of route, with a body that would be served.
pub const ROUTES: [(&str, &str, &str); 13] = [
    ("POST", "/v1/chat/completions", r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#),
    ("POST", "/v1/completions", r#"{"model":"gpt-4o-mini","prompt":"hi"}"#),
    ("POST", "/v1/embeddings", r#"{"model":"gpt-4o-mini","input":"hi"}"#),
    ("POST", "/v1/responses", r#"{"model":"gpt-4o-mini","input":"hi"}"#),
    ("POST", "/openai/v1/chat/completions", r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#),
    ("GET", "/v1/models", ""),
    ("GET", "/v1/models/gpt-4o-mini", ""),
    ("GET", "/api/v1/status", ""),
    ("GET", "/v1/files", ""),
    ("POST", "/v1/moderations", r#"{"input":"hi"}"#),
    ("GET", "/raw/up/models", ""),
    ("POST", "/raw/up/chat/completions", r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#),
    ("GET", "/v1/responses/resp_1", ""),
];

/// A gateway with one key of each kind.
async fn gateway(upstream: &Upstream, failures_per_minute: u32) -> Gateway {
    let hash = hex::encode(hmac_sha256(PEPPER.as_bytes(), HASHED.as_bytes()));
    let yaml = format!(
        "providers:\n  up: {{kind: openai, base_url: \"http://{}/v1\", api_key: {UPSTREAM_KEY}}}\n\
         models:\n  gpt-4o-mini: up/gpt-4o-mini\n  gpt-4o: up/gpt-4o\n  other: up/other\n\
         auth: {{pepper: {PEPPER}, failures_per_minute: {failures_per_minute}}}\n\
         keys:\n\
         \x20 - {{name: full, key: {FULL}}}\n\
         \x20 - {{name: narrow, key: {NARROW}, models: [\"gpt-4o*\"]}}\n\
         \x20 - {{name: hashed, hash: \"hmac-sha256:{hash}\"}}\n\
         \x20 - {{name: revoked, key: {REVOKED}, revoked: true}}\n\
         \x20 - {{name: expired, key: {EXPIRED}, expires: 2020-01-01T00:00:00Z}}\n",
        upstream.address
    );
    Gateway::start(&yaml, &[]).await
}

/// RFC 2104, by another library's hands than the gateway's.
fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

pub fn call(gateway: &Gateway, route: (&str, &str, &str), headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let (method, path, body) = route;
    let request = client().request(method.parse().expect("a method"), gateway.url(path));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    if body.is_empty() { request } else { request.header("content-type", "application/json").body(body.to_owned()) }
}

pub async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, HeaderMap, Value) {
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.expect("a body");
    (status, headers, serde_json::from_slice(&body).unwrap_or_default())
}

pub fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// A key of ours, and the same with two neighbours swapped.
fn mistyped() -> String {
    let key = keys::generate().expose().to_owned();
    let at = (10..40).find(|at| key.as_bytes()[*at] != key.as_bytes()[at + 1]).expect("not all alike");
    let mut bytes = key.into_bytes();
    bytes.swap(at, at + 1);
    String::from_utf8(bytes).expect("ASCII")
}

#[tokio::test]
async fn no_route_lets_a_bad_credential_in() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream, 0).await;
    let (wrong, basic, padded) =
        (bearer("sk-wrong-0123456789abcdef"), format!("Basic {FULL}"), format!("Bearer x{FULL}"));
    let (revoked, expired, slip, good) = (bearer(REVOKED), bearer(EXPIRED), bearer(&mistyped()), bearer(FULL));
    let (cut, upper) = (bearer(&FULL[..FULL.len() - 1]), bearer(&FULL.to_uppercase()));
    let bad: [(&str, Vec<(&str, &str)>); 17] = [
        ("no key", vec![]),
        ("a wrong key", vec![("authorization", &wrong)]),
        ("no scheme", vec![("authorization", FULL)]),
        ("another scheme", vec![("authorization", &basic)]),
        ("a scheme alone", vec![("authorization", "Bearer")]),
        ("an empty key", vec![("authorization", "Bearer ")]),
        ("a letter before", vec![("authorization", &padded)]),
        ("a letter less", vec![("authorization", &cut)]),
        ("another case", vec![("authorization", &upper)]),
        ("a wrong x-api-key", vec![("x-api-key", "sk-wrong-0123456789abcdef")]),
        ("an empty x-api-key", vec![("x-api-key", "")]),
        ("a wrong x-goog-api-key", vec![("x-goog-api-key", "sk-wrong-0123456789abcdef")]),
        ("two keys that differ", vec![("authorization", &good), ("x-api-key", HASHED)]),
        ("a right key beside a wrong one", vec![("authorization", &good), ("x-goog-api-key", "x")]),
        ("a revoked key", vec![("authorization", &revoked)]),
        ("an expired key", vec![("authorization", &expired)]),
        ("a mistyped key of ours", vec![("authorization", &slip)]),
    ];
    let mut failures = Vec::new();
    for route in ROUTES {
        for (name, headers) in &bad {
            let (status, seen, body) = answer(call(&gateway, route, headers)).await;
            let error = &body["error"];
            let fine = status == 401
                && error["type"] == "authentication_error"
                && error["message"].as_str().is_some_and(|m| !m.is_empty())
                && seen.get("www-authenticate").is_some_and(|v| v == "Bearer")
                && seen.contains_key("x-request-id");
            if !fine {
                failures.push(format!("{} {} with {name}: {status} {body}", route.0, route.1));
            }
        }
        // a path's own parameter is no credential
        let asked = format!("{}?key={FULL}&api_key={FULL}", route.1);
        let (status, _, _) = answer(call(&gateway, (route.0, &asked, route.2), &[])).await;
        if status != 401 {
            failures.push(format!("{} {asked}: {status}", route.0));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(upstream.record().calls().len(), 0, "a refused call reached the provider");
}

#[tokio::test]
async fn a_key_is_taken_in_three_headers_and_never_sent_upstream() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream, 60).await;
    let (full, lower, wide) = (bearer(FULL), format!("bearer {FULL}"), format!("Bearer   {FULL}"));
    let good: [Vec<(&str, &str)>; 6] = [
        vec![("authorization", &full)],
        vec![("authorization", &lower)],
        vec![("authorization", &wide)],
        vec![("x-api-key", FULL)],
        vec![("x-goog-api-key", FULL)],
        vec![("authorization", &full), ("x-api-key", FULL), ("x-goog-api-key", FULL)],
    ];
    let mut served = 0;
    for headers in &good {
        for route in [ROUTES[0], ROUTES[3], ROUTES[8], ROUTES[10]] {
            let (status, _, body) = answer(call(&gateway, route, headers)).await;
            assert_eq!(status, 200, "{} with {headers:?}: {body}", route.1);
            served += 1;
        }
    }
    let calls = upstream.record().calls();
    assert_eq!(calls.len(), served);
    for call in calls {
        assert_eq!(call.header("authorization"), Some(&*bearer(UPSTREAM_KEY)), "{}", call.path_and_query);
        for (name, value) in &call.headers {
            assert!(!value.contains(FULL), "the key went upstream in {name}");
            assert!(!["x-api-key", "x-goog-api-key"].contains(&name.as_str()), "{name} went upstream");
        }
        assert!(!call.path_and_query.contains(FULL));
    }
    let names: Vec<Value> = gateway.log_of(served).await.iter().map(|line| line["key"].clone()).collect();
    assert!(names.iter().all(|name| name == "full"), "{names:?}");
}

#[tokio::test]
async fn a_key_kept_as_a_hash_is_as_good_as_the_key() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream, 60).await;
    let (status, _, _) = answer(call(&gateway, ROUTES[0], &[("authorization", &bearer(HASHED))])).await;
    assert_eq!(status, 200);
    assert_eq!(gateway.log_of(1).await[0]["key"], "hashed");
    let hash = hex::encode(hmac_sha256(PEPPER.as_bytes(), HASHED.as_bytes()));
    let (status, _, _) = answer(call(&gateway, ROUTES[0], &[("authorization", &bearer(&hash))])).await;
    assert_eq!(status, 401, "the hash itself is no key");
}

#[tokio::test]
async fn a_refused_key_is_told_why_only_when_it_is_known() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream, 60).await;
    for (key, code, word) in [
        (REVOKED.to_owned(), "key_revoked", "revoked"),
        (EXPIRED.to_owned(), "key_expired", "expired"),
        ("sk-unknown-0123456789abcdef".to_owned(), "invalid_api_key", "Incorrect"),
        (mistyped(), "invalid_api_key", "Incorrect"),
    ] {
        let (status, _, body) = answer(call(&gateway, ROUTES[0], &[("authorization", &bearer(&key))])).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::UNAUTHORIZED, &Value::from(code)), "{key}");
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(message.contains(word) && !message.contains(&key), "{message}");
    }
}

#[tokio::test]
async fn a_key_held_to_some_models_gets_403_for_others_and_does_not_see_them() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream, 60).await;
    let narrow = bearer(NARROW);
    let chat = |model: &str| format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    for model in ["gpt-4o-mini", "gpt-4o"] {
        let body = chat(model);
        let route = ("POST", "/v1/chat/completions", body.as_str());
        let (status, _, _) = answer(call(&gateway, route, &[("authorization", &narrow)])).await;
        assert_eq!(status, 200, "{model}");
    }
    let before = upstream.record().calls().len();
    // one that exists, one that does not, one spelled out: the same answer, so that nothing is learnt from it
    let mut messages = Vec::new();
    for model in ["other", "nowhere", "up/gpt-4o", "up/other"] {
        let body = chat(model);
        let route = ("POST", "/v1/chat/completions", body.as_str());
        let (status, _, body) = answer(call(&gateway, route, &[("authorization", &narrow)])).await;
        let error = &body["error"];
        assert_eq!(status, 403, "{model}: {body}");
        assert_eq!((&error["code"], &error["type"]), (&"model_not_allowed".into(), &"permission_error".into()));
        assert_eq!(error["param"], "model");
        messages.push(error["message"].as_str().expect("a message").replace(model, "M"));
    }
    assert_eq!(messages[0], messages[1]);
    // near names are of the key's own list
    let route = ("POST", "/v1/chat/completions", r#"{"model":"gtp-4o","messages":[]}"#);
    let (_, _, body) = answer(call(&gateway, route, &[("authorization", &narrow)])).await;
    let message = body["error"]["message"].as_str().expect("a message");
    assert!(message.contains("`gpt-4o`") && !message.contains("other"), "{message}");
    assert_eq!(upstream.record().calls().len(), before);

    let names = |body: &Value| -> Vec<String> {
        let data = body["data"].as_array().expect("a list").iter();
        data.map(|model| model["id"].as_str().expect("an id").to_owned()).collect()
    };
    let (_, _, all) = answer(call(&gateway, ROUTES[5], &[("authorization", &bearer(FULL))])).await;
    assert_eq!(names(&all), ["gpt-4o-mini", "gpt-4o", "other"]);
    let (_, _, some) = answer(call(&gateway, ROUTES[5], &[("authorization", &narrow)])).await;
    assert_eq!(names(&some), ["gpt-4o-mini", "gpt-4o"]);
    for (model, expected) in [("gpt-4o", 200), ("other", 404), ("nowhere", 404)] {
        let path = format!("/v1/models/{model}");
        let (status, _, _) = answer(call(&gateway, ("GET", &path, ""), &[("authorization", &narrow)])).await;
        assert_eq!(status, expected, "{model}");
    }
}

#[tokio::test]
async fn an_address_that_guesses_keys_must_wait_even_with_the_right_one() {
    let upstream = upstream().await;
    let gateway = gateway(&upstream, 5).await;
    let from = |address: [u8; 4]| {
        reqwest::Client::builder()
            .no_proxy()
            .local_address(IpAddr::from(Ipv4Addr::from(address)))
            .build()
            .expect("a client")
    };
    let (here, there) = (from([127, 0, 0, 1]), from([127, 0, 0, 9]));
    let ask = |client: &reqwest::Client, key: &str| client.get(gateway.url("/v1/models")).bearer_auth(key);
    let (mut refused, mut blocked) = (0, 0);
    for number in 0..20 {
        let (status, headers, body) = answer(ask(&here, &format!("sk-guess-{number:016}"))).await;
        match status.as_u16() {
            401 if blocked == 0 => refused += 1,
            429 => {
                blocked += 1;
                let wait: u64 = headers["retry-after"].to_str().expect("ASCII").parse().expect("whole seconds");
                assert!((1..=60).contains(&wait), "Retry-After: {wait}");
                assert_eq!(body["error"]["code"], "too_many_failures");
            }
            other => panic!("status {other} for guess {number}"),
        }
    }
    assert!((5..=7).contains(&refused), "{refused} guesses were looked at");
    let (status, headers, _) = answer(ask(&here, FULL)).await;
    assert_eq!(status, 429, "the right key from the same address");
    assert!(headers.contains_key("retry-after"));
    let (status, _, _) = answer(ask(&there, FULL)).await;
    assert_eq!(status, 200, "another address is not held to account");
    assert!(gateway.metric("tollgate_limited_total", &["limit=\"address_failures\""]).await >= 13.0);
}

#[tokio::test]
async fn an_expired_key_was_good_until_its_time() {
    let upstream = upstream().await;
    let soon = jiff::Timestamp::now() + std::time::Duration::from_secs(3);
    let yaml = format!(
        "providers:\n  up: {{kind: openai, base_url: \"http://{}/v1\", api_key: {UPSTREAM_KEY}}}\n\
         keys: [{{name: short, key: {FULL}, expires: {soon}}}]\n",
        upstream.address
    );
    let gateway = Gateway::start(&yaml, &[]).await;
    let ask = || client().get(gateway.url("/v1/models")).bearer_auth(FULL);
    let (mut good, begun) = (0, std::time::Instant::now());
    loop {
        let before = jiff::Timestamp::now();
        let (status, _, body) = answer(ask()).await;
        if status == 401 {
            assert_eq!(body["error"]["code"], "key_expired");
            assert!(jiff::Timestamp::now() >= soon, "refused before its time");
            break;
        }
        assert!(status == 200 && before < soon, "{status} after its time");
        good += 1;
        assert!(begun.elapsed().as_secs() < 10);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(good > 0, "never good");
}

#[tokio::test]
async fn without_keys_everybody_on_this_machine_is_let_in() {
    let upstream = upstream().await;
    let yaml = format!(
        "providers:\n  up: {{kind: openai, base_url: \"http://{}/v1\", api_key: {UPSTREAM_KEY}}}\n\
         models: {{gpt-4o-mini: up/gpt-4o-mini}}\n",
        upstream.address
    );
    let gateway = Gateway::start(&yaml, &[]).await;
    for headers in [vec![], vec![("authorization", "Bearer anything")], vec![("x-api-key", "anything")]] {
        for route in [ROUTES[0], ROUTES[5], ROUTES[8]] {
            let (status, _, body) = answer(call(&gateway, route, &headers)).await;
            assert_eq!(status, 200, "{} with {headers:?}: {body}", route.1);
        }
    }
    for call in upstream.record().calls() {
        assert_eq!(call.header("authorization"), Some(&*bearer(UPSTREAM_KEY)));
        assert_eq!(call.header("x-api-key"), None);
    }
    assert!(gateway.log_of(9).await.iter().all(|line| line.get("key").is_none()));
}

#[tokio::test]
async fn without_keys_it_does_not_start_where_others_could_reach_it() {
    let provider = "providers:\n  up: {kind: openai, base_url: \"http://127.0.0.1:9/v1\", api_key: upstream-key}\n";
    for address in ["0.0.0.0:0", "\"[::]:0\""] {
        let (code, said) = refused_start(&format!("listen: {address}\nadmin: off\n{provider}")).await;
        assert_eq!(code, Some(1), "{address}: {said}");
        assert!(said.contains("there are no keys") && said.contains("tollgate.yaml:1:"), "{said}");
    }
    let key = mistyped();
    let yaml = format!("listen: 127.0.0.1:0\nadmin: off\n{provider}keys: [{{name: slip, key: {key}}}]\n");
    let (code, said) = refused_start(&yaml).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("checksum is wrong") && !said.contains(&key), "{said}");
    let yaml =
        format!("listen: 127.0.0.1:0\nadmin: {{listen: \"0.0.0.0:0\"}}\n{provider}keys: [{{name: a, key: {FULL}}}]\n");
    let (code, said) = refused_start(&yaml).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no token") && !said.contains(FULL), "{said}");
}
