//! The other sides: an issuer of credentials in every form there is, and a provider that records what it is shown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::support::raw::UPSTREAM_REPLY;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path_and_query: String,
    headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug, Clone, Copy)]
pub enum Mode {
    Issue,
    /// Issues after a while.
    Slow(Duration),
    /// Refuses with this status, and repeats what it was sent.
    Refuse(u16),
    /// Never answers.
    Hang,
}

/// Issues `issued-1`, `issued-2`, ..: tokens, or keys where AWS is spoken to.
pub struct Issuer {
    pub address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    asked: Mutex<Vec<Call>>,
    mode: Mutex<Mode>,
    issued: AtomicUsize,
    seconds: AtomicU64,
}

/// Answers everything; a path with `deny` in it with 403 and all it was shown.
pub struct Upstream {
    pub address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    task: tokio::task::JoinHandle<()>,
}

// === impl Call ===

impl Call {
    /// Empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    fn new(method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Self {
        Call {
            method,
            path_and_query: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            headers,
            body,
        }
    }
}

// === impl Issuer ===

impl Issuer {
    pub async fn start() -> Issuer {
        let state = Arc::new(State {
            asked: Mutex::new(Vec::new()),
            mode: Mutex::new(Mode::Issue),
            issued: AtomicUsize::new(0),
            seconds: AtomicU64::new(3600),
        });
        let own = Arc::clone(&state);
        let router = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let state = Arc::clone(&own);
            async move { state.answer(Call::new(method, &uri, headers, body)).await }
        });
        let (address, task) = serve(router).await;
        Issuer { address, state, task }
    }

    pub fn set(&self, mode: Mode) {
        *self.state.mode.lock().expect("no panic holds it") = mode;
    }

    /// How many seconds a token lives from now on.
    pub fn lives(&self, seconds: u64) {
        self.state.seconds.store(seconds, Ordering::Relaxed);
    }

    pub fn asked(&self) -> Vec<Call> {
        self.state.asked.lock().expect("no panic holds it").clone()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    async fn answer(&self, call: Call) -> Response {
        let mode = *self.mode.lock().expect("no panic holds it");
        self.asked.lock().expect("no panic holds it").push(call.clone());
        match mode {
            Mode::Issue => {}
            Mode::Slow(pause) => tokio::time::sleep(pause).await,
            Mode::Hang => std::future::pending().await,
            Mode::Refuse(status) => {
                let secret = call.form().remove("client_secret").unwrap_or_default();
                let said = json!({"error": "invalid_client", "error_description": format!("wrong secret {secret}\n")});
                let status = StatusCode::from_u16(status).expect("a status");
                return (status, axum::Json(said)).into_response();
            }
        }
        // steps of the instance's service that issue nothing themselves
        if call.method == Method::PUT {
            return ([("x-aws-ec2-metadata-token-ttl-seconds", "300")], "instance-token").into_response();
        }
        if call.path_and_query.ends_with("/security-credentials/") || call.path_and_query.ends_with("-extended/") {
            return "role".into_response();
        }
        let seconds = self.seconds.load(Ordering::Relaxed);
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        let token = format!("issued-{number}");
        let body = if call.path_and_query.starts_with("/container") || call.path_and_query.starts_with("/latest") {
            let end = jiff::Timestamp::now() + Duration::from_secs(seconds);
            json!({
                "Code": "Success", "AccessKeyId": format!("AKID{number}"), "SecretAccessKey": format!("secret-of-{number}"),
                "Token": token, "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            })
        } else if call.path_and_query.starts_with("/msi") || call.path_and_query.starts_with("/metadata") {
            json!({"access_token": token, "expires_in": seconds.to_string(), "token_type": "Bearer"})
        } else {
            json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer"})
        };
        axum::Json(body).into_response()
    }
}

// === impl Upstream ===

impl Upstream {
    pub async fn start() -> Upstream {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&calls);
        let router = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let call = Call::new(method, &uri, headers, body);
            let json = [("content-type", "application/json")];
            let answer = if call.path_and_query.contains("deny") {
                let said = format!("not with {} {}", call.header("authorization"), call.header("x-amz-security-token"));
                (StatusCode::FORBIDDEN, json, json!({"message": said}).to_string()).into_response()
            } else {
                (json, UPSTREAM_REPLY).into_response()
            };
            own.lock().expect("no panic holds it").push(call);
            async move { answer }
        });
        let (address, task) = serve(router).await;
        Upstream { address, calls, task }
    }

    pub fn last(&self) -> Call {
        self.calls.lock().expect("no panic holds it").last().expect("a call").clone()
    }

    pub fn count(&self) -> usize {
        self.calls.lock().expect("no panic holds it").len()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(router: Router) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("its address");
    let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
    (address, task)
}
