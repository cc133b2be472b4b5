//! The way to a provider: connections kept and never mixed, TLS that is verified, proxies, names, and vendors' own paths.

mod tunnels;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::raw::UPSTREAM_REPLY;
use crate::support::{Gateway, KEY, UPSTREAM_KEY, client, gateway_to, upstream};

/// A gateway with these providers; models are asked for as `provider/model`.
async fn gateway(providers: &str, environment: &[(&str, &str)]) -> Gateway {
    let yaml = format!("timeouts: {{connect: 2s}}\nkeys: [{{name: test, key: {KEY}}}]\nproviders:\n{providers}");
    Gateway::start(&yaml, environment).await
}

async fn ask(gateway: &Gateway, model: &str, stream: bool) -> (u16, String) {
    let answer = gateway.chat(&client(), model, stream).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("whole"))
}

/// A server that plays this to every connection, and is gone with the test.
struct Server {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start<F: Future<Output = ()> + Send + 'static>(play: impl Fn(TcpStream) -> F + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(play(stream));
            }
        });
        Server { address, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request, head and body; `None` at the end of the connection.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        if let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) {
            let head = String::from_utf8_lossy(&seen[..end]).into_owned();
            let length = head
                .to_ascii_lowercase()
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
            if seen.len() >= end + length.unwrap_or(0) {
                return Some((head, seen.split_off(end)));
            }
        }
        let n = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        seen.extend_from_slice(&buffer[..n]);
    }
}

fn reply() -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{UPSTREAM_REPLY}",
        UPSTREAM_REPLY.len()
    )
}

#[tokio::test]
async fn a_connection_is_used_again_after_every_whole_answer() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    for model in ["gpt-4o-mini", "up/sim-400", "up/sim-429", "up/sim-500", "gpt-4o-mini"] {
        for stream in [false, true, false] {
            ask(&gateway, model, stream).await;
        }
    }
    let connections: BTreeSet<u64> = upstream.record().calls().iter().map(|call| call.connection).collect();
    assert_eq!(connections.len(), 1, "{connections:?}");
    // one that broke is not
    ask(&gateway, "up/sim-cut", true).await;
    assert_eq!(ask(&gateway, "gpt-4o-mini", false).await.0, 200);
    let calls = upstream.record().calls();
    assert_ne!(calls[calls.len() - 2].connection, calls[calls.len() - 1].connection);
    // nor one whose answer nobody waited for
    let mut left = gateway.chat(&client(), "up/sim-slow", true).send().await.expect("an answer");
    left.chunk().await.expect("unbroken");
    let given_up = upstream.record().last().expect("a call").connection;
    drop(left);
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "gpt-4o-mini", false).await.0, 200);
        assert_ne!(upstream.record().last().expect("a call").connection, given_up);
    }
}

#[tokio::test]
async fn a_kept_connection_that_turns_out_dead_costs_nobody_a_call() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = Server::start({
        let seen = Arc::clone(&seen);
        move |mut stream| {
            let seen = Arc::clone(&seen);
            async move {
                // answers one request, and closes on the next without a word
                for turn in 0..2 {
                    let Some((_, body)) = request(&mut stream).await else { return };
                    seen.lock().expect("no panic holds it").push((turn, body));
                    if turn == 0 && stream.write_all(reply().as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
    .await;
    let gateway = gateway_to(server.address).await;
    for size in [10, 10, 3_000_000, 3_000_000] {
        let body = format!(r#"{{"model":"gpt-4o-mini","x":"{}"}}"#, "y".repeat(size));
        let request = client().post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).body(body.clone());
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.expect("whole"), UPSTREAM_REPLY);
        let seen = seen.lock().expect("no panic holds it");
        let (turn, last) = seen.last().expect("a request");
        assert!(*turn == 0 && *last == body.as_bytes(), "the whole body, on a new connection");
    }
    let turns: Vec<i32> = seen.lock().expect("no panic holds it").iter().map(|(turn, _)| *turn).collect();
    assert_eq!(turns, [0, 1, 0, 1, 0, 1, 0], "each was tried on the kept connection first");
    let log = gateway.log_of(4).await;
    assert!(log.iter().all(|line| line["status"] == 200 && line["attempts"] == 1), "{log:#?}");
    // the same in the opaque lane
    for turn in 0..4 {
        let answer = client().get(gateway.url("/v1/files")).bearer_auth(KEY).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "turn {turn}");
    }
    let upload =
        client().post(gateway.url("/v1/files")).bearer_auth(KEY).body("small").send().await.expect("an answer");
    assert_eq!(upload.status(), 200);
}

#[tokio::test]
async fn a_call_on_a_new_connection_is_not_repeated() {
    let count = Arc::new(Mutex::new(0));
    let server = Server::start({
        let count = Arc::clone(&count);
        move |mut stream| {
            let count = Arc::clone(&count);
            async move {
                // reads the request, which may have cost money, and breaks off
                if request(&mut stream).await.is_some() {
                    *count.lock().expect("no panic holds it") += 1;
                }
            }
        }
    })
    .await;
    let gateway = gateway_to(server.address).await;
    let (status, text) = ask(&gateway, "gpt-4o-mini", false).await;
    assert_eq!(status, 502, "{text}");
    assert_eq!(*count.lock().expect("no panic holds it"), 1);
    let opaque =
        client().post(gateway.url("/v1/moderations")).bearer_auth(KEY).body("{}").send().await.expect("an answer");
    assert_eq!(opaque.status(), 502);
    assert_eq!(*count.lock().expect("no panic holds it"), 2);
}

#[tokio::test]
async fn providers_at_one_address_never_share_a_connection() {
    let upstream = upstream().await;
    upstream.simulator.reply("x", tollgate::simulator::Reply::json(http::StatusCode::OK, &json!({"id": "x"})));
    let base = format!("kind: openai, base_url: \"http://{}/v1\"", upstream.address);
    let gateway = gateway(
        &format!(
            "  a: {{{base}, api_key: key-of-a}}\n  b: {{{base}, api_key: key-of-b}}\n  c: {{{base}, api_key: key-of-a, headers: {{x-tenant: c}}}}\n"
        ),
        &[],
    )
    .await;
    for _ in 0..6 {
        for provider in ["a", "b", "c"] {
            assert_eq!(ask(&gateway, &format!("{provider}/x"), false).await.0, 200);
        }
    }
    let mut users: BTreeMap<u64, BTreeSet<(String, Option<String>)>> = BTreeMap::new();
    for call in upstream.record().calls() {
        let user =
            (call.header("authorization").expect("a key").to_owned(), call.header("x-tenant").map(str::to_owned));
        users.entry(call.connection).or_default().insert(user);
    }
    assert!(users.values().all(|users| users.len() == 1), "{users:?}");
    assert!(users.len() <= 4, "and each keeps its own: {users:?}");
}

#[tokio::test]
async fn a_host_name_is_looked_up_and_informational_answers_are_skipped() {
    let upstream = upstream().await;
    let port = upstream.address.port();
    // the simulator is on 127.0.0.1 alone; `localhost` may be ::1 first
    let gateway = gateway(
        &format!("  up: {{kind: openai, base_url: \"http://LocalHost:{port}/v1\", api_key: {UPSTREAM_KEY}}}\n"),
        &[],
    )
    .await;
    for stream in [false, true, false] {
        assert_eq!(ask(&gateway, "up/gpt-4o-mini", stream).await.0, 200);
    }
    assert_eq!(upstream.record().last().expect("a call").header("host"), Some(&*format!("localhost:{port}")));
    let files = client().get(gateway.url("/v1/files")).bearer_auth(KEY).send().await.expect("an answer");
    assert_eq!(files.status(), 200, "in the opaque lane as well");

    let server = Server::start(|mut stream| async move {
        while request(&mut stream).await.is_some() {
            let early =
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\nSet-Cookie: a=b\r\n\r\n";
            if stream.write_all((early.to_owned() + &reply()).as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await;
    let gateway = gateway_to(server.address).await;
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "gpt-4o-mini", false).await, (200, UPSTREAM_REPLY.to_owned()));
    }
}

#[tokio::test]
async fn azure_is_spoken_to_by_deployment_with_its_own_header() {
    let upstream = upstream().await;
    let gateway = gateway(
        &format!(
            "  azure: {{base_url: \"http://{0}\", api_key: {UPSTREAM_KEY}}}\n\
             \x20 dated: {{kind: azure, base_url: \"http://{0}/\", api_key: {UPSTREAM_KEY}, api_version: 2025-01-01-preview}}\n",
            upstream.address
        ),
        &[],
    )
    .await;
    let client = client();
    for (path, model, body, wanted) in [
        (
            "/v1/chat/completions",
            "azure/gpt-4o-mini",
            json!({ "messages": [{ "role": "user", "content": "x" }] }),
            "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21",
        ),
        (
            "/v1/completions",
            "azure/davinci",
            json!({ "prompt": "x" }),
            "/openai/deployments/davinci/completions?api-version=2024-10-21",
        ),
        (
            "/v1/embeddings",
            "dated/ada",
            json!({ "input": "x" }),
            "/openai/deployments/ada/embeddings?api-version=2025-01-01-preview",
        ),
        ("/v1/responses", "azure/gpt-4o-mini", json!({ "input": "x" }), "/openai/v1/responses?api-version=preview"),
    ] {
        let mut body = body;
        body["model"] = model.into();
        let answer = client.post(gateway.url(path)).bearer_auth(KEY).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text().await.unwrap_or_default());
        let call = upstream.record().last().expect("a call");
        assert_eq!(call.path_and_query, wanted);
        assert_eq!((call.header("api-key"), call.header("authorization")), (Some(UPSTREAM_KEY), None));
        assert_eq!(call.json()["model"], model.split_once('/').expect("two parts").1);
    }
    // a name stays one segment of the path, whatever is in it
    let (_, _) = ask(&gateway, "azure/a/../b?c#d", false).await;
    let path = upstream.record().last().expect("a call").path_and_query;
    assert_eq!(path, "/openai/deployments/a%2F..%2Fb%3Fc%23d/chat/completions?api-version=2024-10-21");
    // and an error in azure's own words passes
    let (status, text) = ask(&gateway, "azure/sim-404", false).await;
    assert_eq!(
        (status, &serde_json::from_str::<Value>(&text).expect("JSON")["error"]["code"]),
        (404, &json!("DeploymentNotFound"))
    );
}

#[tokio::test]
async fn what_a_provider_lacks_is_said_without_asking_it() {
    let upstream = upstream().await;
    let base = format!("kind: openai, base_url: \"http://{}/v1\"", upstream.address);
    let gateway = gateway(
        &format!(
            "  bare: {{{base}, api_key: x, paths: {{chat_completions: off, responses: off}}}}\n  unset: {{{base}, api_key: \"${{NOPE:-}}\", required_env: [NOPE]}}\n"
        ),
        &[],
    )
    .await;
    for (model, status, code) in [("bare/x", 400, "unsupported_operation"), ("unset/x", 502, "provider_not_configured")]
    {
        let (got, text) = ask(&gateway, model, false).await;
        let error = serde_json::from_str::<Value>(&text).expect("JSON");
        assert_eq!((got, &error["error"]["code"]), (status, &json!(code)), "{text}");
        assert!(!text.contains("NOPE"), "{text}");
    }
    assert_eq!(upstream.record().counters().calls, 0);
}
