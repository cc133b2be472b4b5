//! The admin port: what operators and their machines read and ask. A listener of its own, never on the data port.
//!
//! `/metrics`, `/healthz` and `/readyz` need no token; `/api/*` does. Requests that a browser sends for another site are refused, so that a
//! page cannot act on a loopback port.

mod keys;
mod usage;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use crate::config::view;
use crate::gateway::explain::{self, Knowledge, Query};
use crate::gateway::{Shared, status};

/// While one process hands over to the next both want the port; the new one waits this long for it.
const BIND_PATIENCE: Duration = Duration::from_secs(30);

/// So much more than a request may have its envelope.
const ENVELOPE: usize = 64 * 1024;

/// What the admin port needs.
#[derive(Clone)]
pub struct Admin {
    pub shared: Arc<Shared>,
    /// Whether the data port accepts calls.
    pub ready: Arc<std::sync::atomic::AtomicBool>,
}

/// Every path of the admin port.
pub fn router(admin: Admin) -> Router {
    let api = Router::new()
        .route("/api/config", get(config))
        .route("/api/config/reload", post(reload))
        .route("/api/status", get(status))
        .route("/api/explain", post(explain))
        .merge(keys::router())
        .merge(usage::routes())
        .route_layer(middleware::from_fn_with_state(admin.clone(), guard));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .merge(api)
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "unknown path") })
        .with_state(admin)
}

/// Bind the port, waiting for a predecessor to let go of it when `patient`.
pub async fn bind(address: SocketAddr, patient: bool) -> io::Result<TcpListener> {
    let begun = tokio::time::Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Err(e) if patient && e.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < BIND_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            bound => return bound,
        }
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let shared = &admin.shared;
    let snapshot = shared.live.load();
    shared.metrics.buffered_bytes.set(i64::try_from(shared.buffered.bytes()).unwrap_or(i64::MAX));
    shared.metrics.config_generation.set(i64::try_from(snapshot.generation).unwrap_or(i64::MAX));
    shared.metrics.config_loaded.set(snapshot.loaded_at.as_second());
    let text = shared.metrics.render_with(|metrics| status::set_gauges(shared, metrics));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn readyz(State(admin): State<Admin>) -> Response {
    if admin.shared.connections.draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if !admin.ready.load(std::sync::atomic::Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    }
    "ready\n".into_response()
}

/// How the gateway is, and all that is behind it.
async fn status(State(admin): State<Admin>) -> Response {
    let ready = admin.ready.load(std::sync::atomic::Ordering::Acquire);
    Json(status::status(&admin.shared, ready)).into_response()
}

/// What would become of a request; nothing is sent. 400: the question itself cannot be understood.
async fn explain(State(admin): State<Admin>, request: Request) -> Response {
    let limit = admin.shared.live.load().server.body_limit.saturating_add(ENVELOPE);
    let Ok(text) = axum::body::to_bytes(request.into_body(), limit).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large, or was broken off");
    };
    let told = move || {
        let query = Query::read(text)?;
        let shared = &admin.shared;
        explain::explain(&shared.live.load(), &Knowledge::Live(&shared.tracks), &query)
    };
    // a large body takes its time: not on the thread that keeps house
    match tokio::task::spawn_blocking(told).await {
        Ok(Ok(told)) => Json(told).into_response(),
        Ok(Err(why)) => problem(StatusCode::BAD_REQUEST, &why),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be explained"),
    }
}

/// The running configuration without its secrets, and what became of the last reload.
async fn config(State(admin): State<Admin>) -> Response {
    Json(report(&admin)).into_response()
}

fn report(admin: &Admin) -> serde_json::Value {
    json!({ "status": admin.shared.live.status(), "config": view(&admin.shared.live.load()) })
}

/// 200 with what changed, or 422 with every error while the old configuration serves on.
async fn reload(State(admin): State<Admin>) -> Response {
    let live = Arc::clone(&admin.shared.live);
    // reads files: not on a thread that serves
    match tokio::task::spawn_blocking(move || live.reload()).await {
        Ok(Ok(_)) => Json(report(&admin)).into_response(),
        Ok(Err(errors)) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                Json(json!({ "error": "the configuration was refused", "errors": errors })),
            )
                .into_response()
        }
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the reload failed"),
    }
}

/// The token, and no other site's page.
async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !same_site(headers) {
        return problem(StatusCode::FORBIDDEN, "requests from other sites are refused");
    }
    let snapshot = admin.shared.live.load();
    if let Some(token) = &snapshot.admin.token {
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer "))
            .unwrap_or_default();
        if !bool::from(shown.as_bytes().ct_eq(token.expose().as_bytes())) {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            return (
                challenge,
                problem(StatusCode::UNAUTHORIZED, "send the admin token as: Authorization: Bearer TOKEN"),
            )
                .into_response();
        }
    }
    next.run(request).await
}

/// No `Origin`, or this very host; and a `Host` that is no name someone else could point here (DNS rebinding).
fn same_site(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    match headers.get(header::ORIGIN).map(|o| o.to_str().unwrap_or("null")) {
        None => true,
        Some(origin) => origin.split_once("://").is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host)),
    }
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}
