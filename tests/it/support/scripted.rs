//! A provider whose answers are computed: by who asks, how often, and how many at once. What can be said beforehand is the simulator's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use super::raw::UPSTREAM_REPLY;

/// A server on loopback that is gone with the test.
pub struct Scripted {
    pub address: SocketAddr,
    calls: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

/// A request as it came.
pub struct Asked {
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Scripted {
    pub async fn start<F: Future<Output = Response> + Send + 'static>(
        answer: impl Fn(Asked) -> F + Clone + Send + Sync + 'static,
    ) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let serve = move |request: Request| {
            counted.fetch_add(1, Relaxed);
            let answer = answer.clone();
            async move {
                // as a server does: it reads what it is asked before it answers
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 64 << 20).await.unwrap_or_default();
                answer(Asked { headers: head.headers, body }).await
            }
        };
        let router = axum::Router::new().fallback(serve);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Scripted { address, calls, task }
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
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

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
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
