//! A provider whose answers are computed: by who asks, how often, and how many at once. What can be said beforehand is the simulator's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;

use super::raw::UPSTREAM_REPLY;

/// A server on loopback that is gone with the test.
pub struct Scripted {
    pub address: SocketAddr,
    counted: Arc<Counted>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Counted {
    connections: AtomicU64,
    calls: AtomicU64,
}

/// A request as it came.
pub struct Asked {
    /// From 1.
    pub number: u64,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Scripted {
    pub async fn start<F: Future<Output = Response> + Send + 'static>(
        answer: impl Fn(Asked) -> F + Clone + Send + Sync + 'static,
    ) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let counted = Arc::new(Counted::default());
        let connections = Arc::clone(&counted);
        let listener = listener.tap_io(move |socket| {
            connections.connections.fetch_add(1, Relaxed);
            let _ = socket.set_nodelay(true);
        });
        let calls = Arc::clone(&counted);
        let serve = move |request: Request| {
            let (answer, number) = (answer.clone(), calls.calls.fetch_add(1, Relaxed) + 1);
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 64 << 20).await.unwrap_or_default();
                answer(Asked { number, headers: head.headers, body }).await
            }
        };
        let router = axum::Router::new().fallback(serve);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Scripted { address, counted, task }
    }

    pub fn calls(&self) -> u64 {
        self.counted.calls.load(Relaxed)
    }

    /// TCP connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.counted.connections.load(Relaxed)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A chat completion, or as an error what stands under `error`.
pub fn reply(status: u16, headers: &[(&str, &str)]) -> Response {
    let error = r#"{"error":{"message":"scripted","type":"scripted","param":null,"code":null}}"#;
    let body = if status == 200 { UPSTREAM_REPLY } else { error };
    let head = Response::builder().status(status).header("content-type", "application/json");
    let head = headers.iter().fold(head, |head, (name, value)| head.header(*name, *value));
    head.body(Body::from(body)).expect("a reply")
}
