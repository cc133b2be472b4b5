//! The opaque lane: files, audio, raw mounts and realtime. Bytes in, bytes out, nothing held, and no header that is not on a list.

mod realtime;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde_json::{Value, json};
use tollgate::simulator::{Outcome, Part, Reply};

use crate::support::{Gateway, KEY, UPSTREAM_KEY, client, gateway_to, gateway_with, h2_client, upstream};

const NARROW: &str = "sk-narrow-0123456789abcdef";
const NARROW_BUT_OPAQUE: &str = "sk-trusted-0123456789abcdef";

/// A gateway with a key that is held to some models, and one that is and may use opaque paths all the same.
async fn gateway_with_keys(upstream: std::net::SocketAddr) -> Gateway {
    let yaml = format!(
        "providers:\n  up: {{kind: openai, base_url: \"http://{upstream}/v1\", api_key: {UPSTREAM_KEY}}}\n\
         models: {{gpt-4o-mini: up/gpt-4o-mini, voice: \"up/gpt-realtime\", other: up/other}}\n\
         keys:\n  - {{name: test, key: {KEY}}}\n\
         \x20 - {{name: narrow, key: {NARROW}, models: [gpt-4o-mini, voice]}}\n\
         \x20 - {{name: trusted, key: {NARROW_BUT_OPAQUE}, models: [gpt-4o-mini], opaque: true}}\n"
    );
    Gateway::start(&yaml, &[]).await
}

/// A form with one file, around this content.
fn form(content: &[u8]) -> Vec<u8> {
    let head = "--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xyz\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n";
    [head.as_bytes(), content, b"\r\n--xyz--\r\n"].concat()
}

fn upload(gateway: &Gateway, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    let request = client().post(gateway.url("/v1/files")).bearer_auth(KEY);
    request.header("content-type", "multipart/form-data; boundary=xyz").body(body)
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

#[tokio::test]
async fn an_upload_reaches_the_provider_while_it_is_still_coming() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let whole = Bytes::from(form(&noise(300_000)));
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (Ok::<_, std::io::Error>(chunk), receiver))
    });
    let request = tokio::spawn(upload(&gateway, reqwest::Body::wrap_stream(stream)).send());
    let record = upstream.record();
    for (from, to) in [(0, 100_000), (100_000, 100_001), (100_001, 200_000)] {
        sender.send(whole.slice(from..to)).await.expect("the client takes it");
        let there =
            record.wait_for(Duration::from_secs(5), |calls| calls.iter().any(|c| c.received == to as u64)).await;
        assert!(there, "{to} bytes have not arrived: {:?}", record.calls());
        assert!(!request.is_finished());
    }
    sender.send(whole.slice(200_000..)).await.expect("the client takes it");
    drop(sender);
    let answer = request.await.expect("no panic").expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(record.last().expect("a call").body, whole, "byte for byte");
    let line = &gateway.log_of(1).await[0];
    assert_eq!(
        (&line["route"], &line["lane"], &line["bytes_in"]),
        (&json!("files"), &json!("opaque"), &json!(whole.len()))
    );
}

#[tokio::test]
async fn large_files_pass_both_ways_without_being_held() {
    let upstream = upstream().await;
    // the limit on bodies is for those that are read
    let gateway = gateway_with(upstream.address, "server:\n  body_limit: 1MB\n  buffer_limit: 1MB\n").await;
    let content = noise(40 << 20);
    let warm = upload(&gateway, form(b"x")).send().await.expect("an answer");
    assert_eq!(warm.status(), 200);
    let before = gateway.resident();
    let answer = upload(&gateway, form(&content)).send().await.expect("an answer");
    let document: Value = answer.json().await.expect("JSON");
    assert_eq!(document["bytes"], content.len());
    let path = format!("/v1/files/{}/content", document["id"].as_str().expect("an id"));
    let mut most = gateway.resident();
    let mut answer = client().get(gateway.url(&path)).bearer_auth(KEY).send().await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    assert_eq!(answer.headers()["content-length"], content.len().to_string().as_str());
    let mut got = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.expect("unbroken") {
        got.extend_from_slice(&chunk);
        most = most.max(gateway.resident());
    }
    assert!(got == content, "byte for byte");
    let grown = most.saturating_sub(before);
    assert!(grown < 16 << 20, "the gateway grew by {} KB", grown >> 10);
}

#[tokio::test]
async fn other_paths_of_the_api_and_a_providers_own_paths_are_carried() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let client = client();
    let ask = |method: &str, path: &str, body: &'static str| {
        let request = client.request(method.parse().expect("a method"), gateway.url(path)).bearer_auth(KEY);
        if body.is_empty() { request } else { request.header("content-type", "application/json").body(body) }
    };
    upstream.simulator.replies_at("/v1/what/ever", [Reply::whole(StatusCode::CREATED, "text/x-own", "own words")]);
    upstream.simulator.replies_at("/v1/a%20b/c:d@e", [Reply::whole(StatusCode::OK, "text/plain", "odd")]);
    let cases = [
        ("POST", "/v1/moderations", r#"{"input": "hi"}"#, "/v1/moderations", 200),
        ("POST", "/openai/v1/moderations", r#"{"input": "hi"}"#, "/v1/moderations", 200),
        ("POST", "/v1/audio/speech", r#"{"model":"tts-1","input":"one two","voice":"x"}"#, "/v1/audio/speech", 200),
        ("POST", "/v1/images/generations", r#"{"model":"dall-e-3","prompt":"x"}"#, "/v1/images/generations", 200),
        ("GET", "/v1/files?limit=2&after=file-%2F1", "", "/v1/files?limit=2&after=file-%2F1", 200),
        ("GET", "/v1/batches", "", "/v1/batches", 200),
        ("GET", "/raw/up/models?x=1&y=%20&x=2", "", "/v1/models?x=1&y=%20&x=2", 200),
        ("PUT", "/raw/up/what/ever?q", "{}", "/v1/what/ever?q", 201),
        ("PATCH", "/raw/up/what/ever", "{}", "/v1/what/ever", 201),
        ("DELETE", "/raw/up/what/ever", "", "/v1/what/ever", 201),
        ("GET", "/raw/up/a%20b/c:d@e", "", "/v1/a%20b/c:d@e", 200),
        (
            "POST",
            "/raw/up/chat/completions",
            r#"{"model":"x","messages":[{"role":"user","content":"a"}]}"#,
            "/v1/chat/completions",
            200,
        ),
    ];
    for (method, path, body, wanted, status) in cases {
        let answer = ask(method, path, body).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.headers()["x-tollgate-lane"], "opaque");
        assert_eq!(answer.headers()["x-tollgate-provider"], "up");
        assert!(!answer.bytes().await.expect("a body").is_empty());
        let call = upstream.record().last().expect("a call");
        assert_eq!((call.method.as_str(), call.path_and_query.as_str()), (method, wanted));
        assert_eq!(call.body, body);
        assert_eq!(call.header("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));
    }
    let before = upstream.record().counters().calls;
    for (path, code) in
        [("/raw/nobody/models", "unknown_provider"), ("/raw/up", "unknown_url"), ("/raw//models", "invalid_path")]
    {
        let answer = ask("GET", path, "").send().await.expect("an answer");
        let status = answer.status();
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(body["error"]["code"], code, "{path} {status}");
    }
    assert_eq!(upstream.record().counters().calls, before);
    let routes: Vec<Value> = gateway.log_of(cases.len()).await.iter().map(|line| line["route"].clone()).collect();
    assert_eq!(
        routes[..7],
        ["moderations", "moderations", "audio", "images", "files", "batches", "raw"].map(Value::from)
    );
}

#[tokio::test]
async fn only_listed_headers_pass_in_either_direction() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let passed_up = [
        ("accept", "audio/mpeg"),
        ("accept-language", "de"),
        ("if-none-match", "\"e1\""),
        ("range", "bytes=0-9"),
        ("idempotency-key", "once"),
        ("openai-beta", "assistants=v2"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let kept_back = [
        ("cookie", "session=1"),
        ("x-api-key", KEY),
        ("x-goog-api-key", KEY),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("origin", "https://page.example"),
        ("referer", "https://page.example/x"),
        ("openai-organization", "org-other"),
        ("openai-project", "proj-other"),
        ("x-unknown", "1"),
        ("proxy-authorization", "Basic eA=="),
        ("te", "trailers"),
        ("via", "1.1 other"),
        ("user-agent", "client/1.0"),
    ];
    let passed_down = [
        ("content-type", "audio/mpeg"),
        ("content-disposition", "attachment; filename=\"a.mp3\""),
        ("etag", "\"e2\""),
        ("cache-control", "no-store"),
        ("retry-after", "3"),
        ("x-ratelimit-remaining-requests", "41"),
        ("openai-processing-ms", "12"),
    ];
    let kept_down = [
        ("set-cookie", "__cf_bm=1"),
        ("server", "cloudflare"),
        ("via", "1.1 internal"),
        ("x-internal-host", "pod-7"),
        ("access-control-allow-origin", "*"),
        ("strict-transport-security", "max-age=1"),
        ("alt-svc", "h3=\":443\""),
        ("openai-organization", "org-ours"),
        ("openai-project", "proj-ours"),
        ("www-authenticate", "Bearer"),
        ("location", "http://internal/"),
        ("proxy-authenticate", "Basic"),
    ];
    let reply = Reply::whole(StatusCode::OK, "audio/mpeg", "sounds");
    let reply = passed_down[1..].iter().chain(&kept_down).fold(reply, |reply, (name, value)| reply.header(name, value));
    let document = Reply { headers: reply.headers.clone(), ..Reply::json(StatusCode::OK, &json!({})) };
    upstream.simulator.replies_at("/v1/audio/x", [reply]);
    upstream.simulator.reply("gpt-4o-mini", Reply { body: vec![Part::Bytes("{\"\":1}".into())], ..document });
    // the same lists hold, as far as they go, in the lane that reads
    for path in ["/v1/audio/x", "/raw/up/audio/x", "/v1/chat/completions"] {
        let request = client().post(gateway.url(path)).bearer_auth(KEY).body(r#"{"model":"gpt-4o-mini"}"#);
        let both = passed_up.iter().chain(&kept_back);
        let request = both.fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.header("connection", "x-unknown").send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let call = upstream.record().last().expect("a call");
        for (name, value) in kept_back {
            assert!(!call.headers.iter().any(|(n, v)| n == name && v == value), "{path}: {name} went upstream");
        }
        for (name, value) in passed_up {
            let listed = !path.contains("chat") || ["idempotency-key", "openai-beta", "traceparent"].contains(&name);
            assert!(!listed || call.header(name) == Some(value), "{path}: {name} was lost");
        }
        assert!(!call.headers.iter().any(|(_, v)| v.contains(KEY)));
        for (name, value) in passed_down {
            // an answer that was read is JSON, whatever it is called
            let value = if path.contains("chat") && name == "content-type" { "application/json" } else { value };
            assert_eq!(
                answer.headers().get(name).map(|v| v.as_bytes()),
                Some(value.as_bytes()),
                "{path}: {name} was lost"
            );
        }
        for (name, _) in kept_down {
            assert!(!answer.headers().contains_key(name), "{path}: {name} reached the client");
        }
        assert_eq!(answer.bytes().await.expect("a body"), if path.contains("chat") { "{\"\":1}" } else { "sounds" });
    }
}

#[tokio::test]
async fn a_key_held_to_some_models_may_not_use_paths_where_the_model_is_not_seen() {
    let upstream = upstream().await;
    let gateway = gateway_with_keys(upstream.address).await;
    for (method, path) in [
        ("POST", "/v1/moderations"),
        ("GET", "/v1/files"),
        ("GET", "/raw/up/models"),
        ("POST", "/raw/up/chat/completions"),
    ] {
        let ask = |key: &str| {
            let request = client().request(method.parse().expect("a method"), gateway.url(path)).bearer_auth(key);
            if method == "POST" { request.body(r#"{"model":"x","input":"x","messages":[]}"#) } else { request }
        };
        let answer = ask(NARROW).send().await.expect("an answer");
        assert_eq!(answer.status(), 403, "{path}");
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(body["error"]["code"], "path_not_allowed");
        assert_eq!(upstream.record().counters().calls, 0, "{path}");
    }
    for key in [NARROW_BUT_OPAQUE, KEY] {
        let answer = client().get(gateway.url("/v1/files")).bearer_auth(key).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn a_providers_errors_pass_without_its_credential_and_host() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let client = client();
    let answer = client.get(gateway.url("/v1/files/file-none")).bearer_auth(KEY).send().await.expect("an answer");
    assert_eq!(answer.status(), 404);
    let own = client.get(format!("http://{}/v1/files/file-none", upstream.address)).bearer_auth(UPSTREAM_KEY);
    let own = own.send().await.expect("an answer").bytes().await.expect("a body");
    assert_eq!(answer.bytes().await.expect("a body"), own, "in the provider's own words");

    let body = json!({ "model": "sim-401", "messages": [{ "role": "user", "content": "x" }] });
    let request = client.post(gateway.url("/raw/up/chat/completions")).bearer_auth(KEY).json(&body);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let text = answer.text().await.expect("a whole body");
    for leak in [UPSTREAM_KEY, "127.0.0.1", &upstream.address.port().to_string()] {
        assert!(!text.contains(leak), "{leak} in {text}");
    }
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON")["error"]["code"], "invalid_api_key");

    let page = Reply::whole(StatusCode::BAD_GATEWAY, "text/html", "<html>origin.internal.example</html>");
    let squeezed = Reply::whole(StatusCode::BAD_REQUEST, "application/json", &b"\x1f\x8b\x08 not for us"[..]);
    let long = format!("{{\"error\":\"{}\"}}", "x".repeat(200_000));
    for (reply, status) in [
        (page, 502),
        (squeezed.header("content-encoding", "gzip"), 400),
        (Reply::whole(StatusCode::INTERNAL_SERVER_ERROR, "application/json", long), 500),
    ] {
        upstream.simulator.replies_at("/v1/audio/x", [reply]);
        for client in [&client, &h2_client()] {
            let request = client.post(gateway.url("/v1/audio/x")).bearer_auth(KEY).body("{}");
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), status);
            assert!(!answer.headers().contains_key("content-encoding"));
            let body: Value = answer.json().await.expect("JSON that an SDK can read");
            let kind = if status == 400 { "invalid_request_error" } else { "upstream_error" };
            assert_eq!(body["error"]["type"], kind);
        }
    }
    let log = gateway.log_of(8).await;
    assert!(log.iter().all(|l| l["error"] == "upstream_refused" && l["blame"] == "upstream"), "{log:#?}");
}

#[tokio::test]
async fn a_provider_that_falls_silent_or_breaks_off_is_told_apart() {
    let upstream = upstream().await;
    let gateway = gateway_with(upstream.address, "timeouts: {first_byte: 400ms, idle: 400ms}\n").await;
    let ask = || client().post(gateway.url("/v1/audio/x")).bearer_auth(KEY).body("{}").send();
    upstream.simulator.replies_at("/v1/audio/x", [Reply::new(StatusCode::OK).first(Part::Hang)]);
    let begun = Instant::now();
    let answer = ask().await.expect("an answer");
    assert_eq!(answer.status(), 504);
    assert!(begun.elapsed() < Duration::from_secs(3));
    upstream.simulator.replies_at("/v1/audio/x", [Reply::new(StatusCode::OK).first(Part::Cut)]);
    assert_eq!(ask().await.expect("an answer").status(), 502);
    upstream.simulator.replies_at("/v1/audio/x", [Reply::new(StatusCode::OK).bytes("half").part(Part::Cut)]);
    let answer = ask().await.expect("a head");
    answer.bytes().await.expect_err("half a body must not look whole");
    let log = gateway.log_of(3).await;
    let errors: Vec<&Value> = log.iter().map(|line| &line["error"]).collect();
    assert_eq!(errors, ["upstream_timeout", "upstream_failed", "upstream_failed"]);
}

#[tokio::test]
async fn a_client_that_leaves_a_download_frees_the_provider() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    upstream.simulator.replies_at("/v1/audio/x", [Reply::new(StatusCode::OK).bytes("begin").part(Part::Hang)]);
    let mut answer =
        client().post(gateway.url("/v1/audio/x")).bearer_auth(KEY).body("{}").send().await.expect("a head");
    assert_eq!(answer.chunk().await.expect("unbroken").as_deref(), Some(&b"begin"[..]));
    drop(answer);
    let record = upstream.record();
    let gone = |calls: &[tollgate::simulator::Call]| matches!(calls[0].outcome, Outcome::Cancelled(_));
    assert!(record.wait_for(Duration::from_secs(1), gone).await, "{:?}", record.calls());
    let log = gateway.log_of(1).await;
    assert_eq!((log.len(), &log[0]["error"]), (1, &json!("client_gone")));
}
