//! A real server as the issuer: what it is asked, how often, and what becomes of calls while it fails.

use std::sync::atomic::AtomicUsize;

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::*;

/// An issuer that does as it is told.
struct Server {
    address: std::net::SocketAddr,
    script: Arc<Script>,
    task: tokio::task::JoinHandle<()>,
}

struct Script {
    mode: Mutex<Mode>,
    asked: AtomicUsize,
}

#[derive(Clone)]
enum Mode {
    Keys(String),
    /// Discovery with this document; keys at `/keys`.
    Document(String, String),
    Fails,
    Hangs,
    Floods,
    Redirects(String),
}

impl Server {
    async fn start(mode: Mode) -> Server {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Script { mode: Mutex::new(mode), asked: AtomicUsize::new(0) });
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&script));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Server { address, script, task }
    }

    fn set(&self, mode: Mode) {
        *self.script.mode.lock().unwrap() = mode;
    }

    fn asked(&self) -> usize {
        self.script.asked.load(Ordering::SeqCst)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Configured with where its keys are.
    fn issuers(&self) -> Vec<Arc<Issuer>> {
        issuers(&entry(&format!(", jwks_url: \"{}\"", self.url("/keys"))))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(script): State<Arc<Script>>, uri: Uri) -> Response {
    let mode = script.mode.lock().unwrap().clone();
    let discovery = uri.path().ends_with("/.well-known/openid-configuration");
    script.asked.fetch_add(usize::from(!discovery), Ordering::SeqCst);
    match mode {
        Mode::Document(document, _) if discovery => document.into_response(),
        Mode::Keys(keys) | Mode::Document(_, keys) if !discovery => keys.into_response(),
        Mode::Redirects(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Mode::Hangs => std::future::pending().await,
        Mode::Floods => vec![b' '; 10 << 20].into_response(),
        Mode::Fails | Mode::Keys(_) | Mode::Document(..) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn keys(signers: &[&Signer]) -> Mode {
    Mode::Keys(set(signers).to_string())
}

/// Watched as the program does.
fn watched(issuers: &[Arc<Issuer>], pace: Pace) -> Arc<Issuers> {
    let all = Arc::new(Issuers::new(pace));
    all.follow(issuers);
    let watching = Arc::clone(&all);
    tokio::spawn(async move { watching.watch().await });
    all
}

/// Patient with a server on this machine, and quick with one that never answers.
fn quick() -> Pace {
    let short = Duration::from_millis(50);
    Pace { pause: short, most_pause: short, patience: Duration::from_secs(20), ..Pace::default() }
}

fn token(signer: &Signer) -> String {
    let mut claims = claims();
    claims["exp"] = (Timestamp::now().as_second() + 600).into();
    claims["iat"] = Timestamp::now().as_second().into();
    signer.token(&claims)
}

async fn call(all: &Issuers, issuers: &[Arc<Issuer>], token: &str) -> Result<Arc<Key>, Refusal> {
    all.caller(issuers, None, token, Timestamp::now()).await
}

#[tokio::test]
async fn the_first_calls_wait_for_one_fetch_and_later_ones_for_none() {
    let signer = Signer::p256("a");
    let server = Server::start(keys(&[&signer])).await;
    let issuers = server.issuers();
    let all = watched(&issuers, quick());
    let tokens: Vec<String> = (0..100).map(|_| token(&signer)).collect();
    let calls = tokens.iter().map(|token| call(&all, &issuers, token));
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(outcome.unwrap().name.as_str(), "main:ada");
    }
    assert_eq!(server.asked(), 1);
    server.set(Mode::Hangs);
    for token in &tokens {
        assert!(call(&all, &issuers, token).await.is_ok());
    }
    assert!(call(&all, &issuers, &token(&signer)).await.is_ok(), "a new token with a known key");
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_new_key_is_taken_at_once_and_an_old_one_no_more() {
    let (old, new) = (Signer::p256("old"), Signer::ed25519("new"));
    let server = Server::start(keys(&[&old])).await;
    let issuers = server.issuers();
    let all = watched(&issuers, quick());
    let of_old = token(&old);
    assert!(call(&all, &issuers, &of_old).await.is_ok());
    server.set(keys(&[&new]));
    assert!(call(&all, &issuers, &of_old).await.is_ok(), "until somebody reads the keys again");
    assert!(call(&all, &issuers, &token(&new)).await.is_ok());
    assert_eq!(server.asked(), 2);
    assert_eq!(call(&all, &issuers, &of_old).await.unwrap_err(), Refusal::UnknownKey);
}

#[tokio::test]
async fn ten_thousand_unknown_keys_are_one_fetch() {
    let (signer, stranger) = (Signer::p256("a"), Signer::ed25519("x"));
    let server = Server::start(keys(&[&signer])).await;
    let issuers = server.issuers();
    let all = watched(&issuers, quick());
    assert!(call(&all, &issuers, &token(&signer)).await.is_ok());
    let text = claims().to_string();
    for round in 0..100 {
        let tokens: Vec<String> = (0..100)
            .map(|n| stranger.sign(&json!({"alg": "EdDSA", "kid": format!("{round}-{n}")}).to_string(), &text))
            .collect();
        for outcome in futures_util::future::join_all(tokens.iter().map(|token| call(&all, &issuers, token))).await {
            assert_eq!(outcome.unwrap_err(), Refusal::UnknownKey);
        }
    }
    assert_eq!(server.asked(), 2, "the first one, and one for all of them");
    assert!(call(&all, &issuers, &token(&signer)).await.is_ok());
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_again_when_the_floor_is_over() {
    let (signer, new) = (Signer::p256("a"), Signer::p256("b"));
    let server = Server::start(keys(&[&signer])).await;
    let issuers = server.issuers();
    let all = watched(&issuers, Pace { floor: Duration::from_millis(200), ..quick() });
    assert_eq!(call(&all, &issuers, &token(&new)).await.unwrap_err(), Refusal::UnknownKey);
    server.set(keys(&[&signer, &new]));
    let begun = std::time::Instant::now();
    while call(&all, &issuers, &token(&new)).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_last_keys_serve_while_the_issuer_fails_in_any_way() {
    let (signer, stranger) = (Signer::p256("a"), Signer::p256("b"));
    let elsewhere = Server::start(keys(&[&stranger])).await;
    let bad = [
        Mode::Fails,
        Mode::Hangs,
        Mode::Floods,
        Mode::Redirects(elsewhere.url("/keys")),
        Mode::Keys("not JSON".to_owned()),
        Mode::Keys("{\"keys\":[]}".to_owned()),
        Mode::Keys(json!({"keys": [{"kty": "oct", "k": "AAAA", "kid": "b"}]}).to_string()),
    ];
    for mode in bad {
        let server = Server::start(keys(&[&signer])).await;
        let issuers = server.issuers();
        let all = Issuers::new(Pace { fetch: Duration::from_millis(300), ..quick() });
        all.follow(&issuers);
        all.refresh().await;
        assert!(call(&all, &issuers, &token(&signer)).await.is_ok());
        server.set(mode);
        all.entry(&issuers[0]).flight().next = Instant::now();
        all.refresh().await;
        assert_eq!((server.asked(), all.entry(&issuers[0]).flight().failures), (2, 1));
        assert!(call(&all, &issuers, &token(&signer)).await.is_ok(), "the last good keys");
        assert_eq!(call(&all, &issuers, &token(&stranger)).await.unwrap_err(), Refusal::UnknownKey);
        assert_eq!(server.asked(), 2, "while it fails, calls ask nothing");
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect is not followed");
}

#[tokio::test]
async fn an_issuer_that_was_down_at_the_start_serves_once_it_is_up() {
    let signer = Signer::p256("a");
    let server = Server::start(Mode::Fails).await;
    let issuers = server.issuers();
    let all = watched(&issuers, quick());
    let token = token(&signer);
    assert_eq!(call(&all, &issuers, &token).await.unwrap_err(), Refusal::Unavailable);
    server.set(keys(&[&signer]));
    let begun = std::time::Instant::now();
    while let Err(refusal) = call(&all, &issuers, &token).await {
        assert_eq!(refusal, Refusal::Unavailable);
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn keys_are_found_by_the_issuers_own_document() {
    let signer = Signer::p256("a");
    let server = Server::start(Mode::Fails).await;
    let (name, keys) = (server.url("/main"), set(&[&signer]).to_string());
    let issuers = issuers(&format!("{{issuer: \"{name}\", audience: tollgate}}"));
    let document = |issuer: &str, keys_at: &str| json!({"issuer": issuer, "jwks_uri": keys_at}).to_string();
    let own = server.url("/k");
    let signed = || {
        let mut claims = claims();
        claims["iss"] = name.clone().into();
        claims["iat"] = Value::Null;
        signer.token(&claims)
    };
    for (document, good) in [
        (document(&name, &own), true),
        (document(&format!("{name}/"), &own), false),
        (document(ISSUER, &own), false),
        (document(&name, "http://keys.example.com/k"), false),
        (document(&name, "file:///etc/hostname"), false),
        (json!({"issuer": name}).to_string(), false),
        (format!("{{\"issuer\":\"{name}\",\"jwks_uri\":\"{own}\",\"jwks_uri\":\"{own}\"}}"), false),
        ("nothing".to_owned(), false),
    ] {
        let before = server.asked();
        server.set(Mode::Document(document.clone(), keys.clone()));
        let all = Issuers::new(quick());
        all.follow(&issuers);
        all.refresh().await;
        assert_eq!(server.asked() - before, usize::from(good), "{document}");
        let outcome = call(&all, &issuers, &signed()).await;
        assert_eq!(outcome.is_ok(), good, "{document}: {:?}", outcome.err());
    }
}

#[tokio::test]
async fn keys_stay_over_a_reload_that_did_not_change_where_they_are() {
    let signer = Signer::p256("a");
    let server = Server::start(keys(&[&signer])).await;
    let url = server.url("/keys");
    let all = watched(&server.issuers(), quick());
    assert!(call(&all, &server.issuers(), &token(&signer)).await.is_ok());
    let second = issuers(&entry(&format!(", jwks_url: \"{url}\", tags: {{a: b}}, refresh: 1h")));
    all.follow(&second);
    assert!(call(&all, &second, &token(&signer)).await.is_ok());
    assert_eq!(server.asked(), 1);
    all.follow(&[]);
    assert!(all.entries.load().is_empty());
}
