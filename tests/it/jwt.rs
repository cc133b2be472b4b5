//! Callers who show a token of an identity provider: who they are in the log, what they may ask for, and what happens when keys change or the
//! issuer is down. What a forger may try is a table beside `filter::jwt`; here it stands before every route.

use std::sync::{Arc, Mutex};

use axum::response::IntoResponse;
use http::StatusCode;
use serde_json::{Value, json};

use crate::auth::{ROUTES, answer, bearer, call};
use crate::support::scripted::Scripted;
use crate::support::tokens::{Signer, base64url, set};
use crate::support::{Gateway, KEY, UPSTREAM_KEY, Upstream, client, eventually, upstream};

const ISSUER: &str = "https://login.example.com/main";

/// An issuer that shows these keys, or none while it is down.
struct Issuer {
    shown: Arc<Mutex<Option<String>>>,
    server: Scripted,
}

impl Issuer {
    async fn start(signers: &[&Signer]) -> Issuer {
        let shown = Arc::new(Mutex::new(None));
        let keys = Arc::clone(&shown);
        let server = Scripted::start(move |_| {
            let keys: Option<String> = keys.lock().expect("whole").clone();
            async move {
                match keys {
                    Some(keys) => keys.into_response(),
                    None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                }
            }
        })
        .await;
        let issuer = Issuer { shown, server };
        issuer.show(signers);
        issuer
    }

    fn show(&self, signers: &[&Signer]) {
        *self.shown.lock().expect("whole") = (!signers.is_empty()).then(|| set(signers).to_string());
    }
}

fn yaml(upstream: &Upstream, issuer: &Issuer, more: &str) -> String {
    format!(
        "providers:\n  up: {{kind: openai, base_url: \"http://{}/v1\", api_key: {UPSTREAM_KEY}}}\n\
         models:\n  gpt-4o-mini: up/gpt-4o-mini\n  gpt-4o: up/gpt-4o\n\
         keys: [{{name: test, key: {KEY}}}]\n\
         auth: {{failures_per_minute: 0, jwt: [{{issuer: \"{ISSUER}\", name: main, audience: tollgate, \
         jwks_url: \"http://{}/keys\"{more}}}]}}\n",
        upstream.address, issuer.server.address
    )
}

fn claims(sub: &str) -> Value {
    let now = jiff::Timestamp::now().as_second();
    json!({"iss": ISSUER, "aud": ["tollgate"], "sub": sub, "iat": now, "exp": now + 600, "groups": ["search", "all"]})
}

#[tokio::test]
async fn a_token_is_taken_as_a_key_and_its_claims_stand_in_the_log() {
    let (upstream, signer) = (upstream().await, Signer::rsa("r1"));
    let issuer = Issuer::start(&[&signer]).await;
    let more = ", claims: {team: groups.0, user: sub}, tags: {via: sso}";
    let gateway = Gateway::start(&yaml(&upstream, &issuer, more), &[]).await;
    let token = signer.token(&claims("ada"));
    for (index, route) in ROUTES.into_iter().enumerate() {
        for (name, value) in [("authorization", bearer(&token)), ("x-api-key", token.clone())] {
            let (status, _, body) = answer(call(&gateway, route, &[(name, &value)])).await;
            assert!(status != 401 && status != 403 && status != 503, "{} with {name}: {status} {body}", route.1);
            if index == 0 {
                assert_eq!(status, 200, "{body}");
            }
        }
    }
    // keys go on as they were
    let (status, _, _) = answer(call(&gateway, ROUTES[0], &[("authorization", &bearer(KEY))])).await;
    assert_eq!(status, 200);
    let log = gateway.log_of(2 * ROUTES.len() + 1).await;
    for line in &log[..2 * ROUTES.len()] {
        assert_eq!(line["key"], "main:ada");
        assert_eq!(line["tags"], json!({"via": "sso", "team": "search", "user": "ada"}));
    }
    assert_eq!(log.last().expect("the last")["key"], "test");
    assert_eq!(issuer.server.calls(), 1, "the keys were read once for all of them");

    // nobody else gets to see it
    let [_, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    for call in upstream.record().calls() {
        assert_eq!(call.header("authorization"), Some(&*bearer(UPSTREAM_KEY)));
        assert_eq!(call.header("x-api-key"), None);
    }
    let access = std::fs::read_to_string(gateway.folder().join("access.log")).expect("a log");
    let config = client().get(format!("http://{}/api/config", gateway.admin)).send().await.expect("an answer");
    for text in [gateway.stderr(), access, gateway.metrics().await, config.text().await.expect("a text")] {
        assert!(!text.contains(payload) && !text.contains(signature), "{text}");
    }
}

#[tokio::test]
async fn no_route_lets_a_bad_token_in() {
    let (upstream, signer, stranger) = (upstream().await, Signer::p256("a"), Signer::p256("a"));
    let issuer = Issuer::start(&[&signer]).await;
    let gateway = Gateway::start(&yaml(&upstream, &issuer, ""), &[]).await;
    let with = |name: &str, value: Value| {
        let mut claims = claims("ada");
        claims[name] = value;
        claims
    };
    let text = claims("ada").to_string();
    let good = signer.token(&claims("ada"));
    let bad = [
        ("unsigned", format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(&text)), "invalid_token"),
        ("cut", good[..good.len() - 2].to_owned(), "invalid_token"),
        ("of a stranger", stranger.token(&claims("ada")), "invalid_token"),
        ("expired", signer.token(&with("exp", json!(1_700_000_000))), "token_expired"),
        ("not yet", signer.token(&with("nbf", json!(4_000_000_000_u64))), "token_not_yet_valid"),
        ("for others", signer.token(&with("aud", "billing".into())), "invalid_token"),
        ("of another issuer", signer.token(&with("iss", "https://login.example.com".into())), "invalid_token"),
        ("without a caller", signer.token(&with("sub", Value::Null)), "invalid_token"),
        ("critical", signer.sign(r#"{"alg":"ES256","kid":"a","crit":["x"]}"#, &text), "invalid_token"),
    ];
    for (what, token, code) in &bad {
        for route in ROUTES {
            for (name, value) in [("authorization", bearer(token)), ("x-api-key", token.clone())] {
                let (status, _, body) = answer(call(&gateway, route, &[(name, &value)])).await;
                assert_eq!(status, 401, "{what} at {}: {body}", route.1);
                assert_eq!(body["error"]["code"], **code, "{what}: {body}");
                assert!(!body.to_string().contains(&token[20..]), "{body}");
            }
        }
    }
    // with a key beside it, both count as what they are
    let own = bearer(KEY);
    let two = [("authorization", &*own), ("x-api-key", &*good)];
    let (status, _, body) = answer(call(&gateway, ROUTES[0], &two)).await;
    assert_eq!(status, 401, "{body}");
    assert_eq!(upstream.record().calls().len(), 0);
}

#[tokio::test]
async fn keys_are_rotated_without_a_restart() {
    let (upstream, old, new) = (upstream().await, Signer::p256("2026-01"), Signer::ed25519("2026-02"));
    let issuer = Issuer::start(&[&old]).await;
    let gateway = Gateway::start(&yaml(&upstream, &issuer, ""), &[]).await;
    let status = |signer: &Signer| {
        let request = client().get(gateway.url("/v1/models")).bearer_auth(signer.token(&claims("ada")));
        async move { answer(request).await.0 }
    };
    assert_eq!(status(&old).await, 200);
    // the new key is shown beside the old one first, then alone
    issuer.show(&[&old, &new]);
    assert_eq!((status(&new).await, status(&old).await), (StatusCode::OK, StatusCode::OK));
    assert_eq!(issuer.server.calls(), 2);
    assert_eq!(status(&Signer::p256("2026-03")).await, 401);
    assert_eq!(issuer.server.calls(), 2, "no more often than every half minute for unknown keys");
}

#[tokio::test]
async fn while_the_issuer_is_down_its_last_keys_serve_and_without_any_nobody_is_let_in() {
    let (upstream, signer) = (upstream().await, Signer::rsa("r1"));
    let issuer = Issuer::start(&[]).await;
    let gateway = Gateway::start(&yaml(&upstream, &issuer, ""), &[]).await;
    let ask = |token: String| {
        let body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]});
        answer(client().post(gateway.url("/v1/chat/completions")).bearer_auth(token).json(&body))
    };
    let token = signer.token(&claims("ada"));
    let (status, headers, body) = ask(token.clone()).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (503, &json!("issuer_unavailable")));
    assert!(headers.contains_key("retry-after"));
    let (status, _, _) = ask(KEY.to_owned()).await;
    assert_eq!(status, 200, "keys need no issuer");
    assert_eq!(upstream.record().calls().len(), 1);

    issuer.show(&[&signer]);
    eventually("the keys are read", || async { ask(token.clone()).await.0 == 200 }).await;
    issuer.show(&[]);
    for n in 0..5 {
        assert_eq!(ask(signer.token(&claims(&format!("user-{n}")))).await.0, 200, "with the last keys");
    }
    assert!(gateway.stderr().contains("its keys could not be had"), "{}", gateway.stderr());
}

#[tokio::test]
async fn claims_hold_a_caller_to_models() {
    let (upstream, signer) = (upstream().await, Signer::p384("a"));
    let issuer = Issuer::start(&[&signer]).await;
    let gateway =
        Gateway::start(&yaml(&upstream, &issuer, ", models_claim: llm, required: {groups: search}"), &[]).await;
    let mut narrow = claims("ada");
    narrow["llm"] = json!(["gpt-4o-mini"]);
    let mut other_group = claims("eve");
    other_group["groups"] = json!(["sales"]);
    let ask = |claims: &Value, model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]});
        answer(client().post(gateway.url("/v1/chat/completions")).bearer_auth(signer.token(claims)).json(&body))
    };
    assert_eq!(ask(&narrow, "gpt-4o-mini").await.0, 200);
    assert_eq!(ask(&narrow, "gpt-4o").await.0, 403);
    assert_eq!(ask(&claims("ada"), "gpt-4o-mini").await.0, 403, "the claim is missing");
    assert_eq!(ask(&other_group, "gpt-4o-mini").await.0, 401);
    let files = client().get(gateway.url("/v1/files")).bearer_auth(signer.token(&narrow));
    assert_eq!(answer(files).await.0, 403, "nor paths that are not read");
}

#[tokio::test]
async fn a_proxys_header_is_where_its_tokens_stand_and_nowhere_else() {
    let (upstream, signer) = (upstream().await, Signer::p256("a"));
    let issuer = Issuer::start(&[&signer]).await;
    let gateway = Gateway::start(&yaml(&upstream, &issuer, ", header: x-proxy-token"), &[]).await;
    let good = signer.token(&claims("ada"));
    let dummy = bearer("sk-whatever-the-sdk-wants");
    let (own, as_key) = (bearer(KEY), bearer(&good));
    let bad = format!("{}x", &good[..good.len() - 1]);
    for (headers, status) in [
        (vec![("x-proxy-token", &*good)], 200),
        // an SDK that must send some key
        (vec![("x-proxy-token", &*good), ("authorization", &*dummy)], 200),
        (vec![("x-proxy-token", &*bad), ("authorization", &*own)], 401),
        (vec![("x-proxy-token", ""), ("authorization", &*own)], 401),
        (vec![("x-proxy-token", &*good), ("x-proxy-token", &*good)], 401),
        (vec![("authorization", &*as_key)], 401),
        (vec![("authorization", &*own)], 200),
    ] {
        let (found, _, body) = answer(call(&gateway, ROUTES[0], &headers)).await;
        assert_eq!(found.as_u16(), status, "{headers:?}: {body}");
    }
    for call in upstream.record().calls() {
        assert_eq!(call.header("x-proxy-token"), None);
    }
}
