//! What goes wrong, and what each side is told of it: the caller in OpenAI's grammar, the operator in the log, a stranger nothing.

use std::time::{Duration, Instant};

use http::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tollgate::simulator::{Outcome, Reply};

use crate::support::{Gateway, KEY, UPSTREAM_KEY, client, free_port, gateway_to, gateway_with, one_provider, upstream};

const HELLO: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: bytes::Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn send(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    Answer { status, headers, body: answer.bytes().await.expect("a whole body") }
}

async fn post(gateway: &Gateway, body: impl Into<reqwest::Body>) -> Answer {
    let request = client().post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
    send(request.header("content-type", "application/json").body(body)).await
}

async fn ask(gateway: &Gateway, model: &str) -> Answer {
    send(gateway.chat(&client(), model, false)).await
}

#[tokio::test]
async fn a_body_that_is_not_understood_is_refused_and_goes_nowhere() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let deep = format!(r#"{{"model":"gpt-4o-mini","x":{}1{}}}"#, "[".repeat(2000), "]".repeat(2000));
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(300));
    let cases: [(&str, &[u8], Option<&str>); 21] = [
        ("nothing", b"", None),
        ("an open brace", b"{", None),
        ("half an object", br#"{"model":"gpt-4o-mini","#, None),
        ("an array", br#"["model"]"#, None),
        ("a string", br#""gpt-4o-mini""#, None),
        ("null", b"null", None),
        ("two documents", br#"{"model":"gpt-4o-mini"}{"model":"gpt-4o-mini"}"#, None),
        ("a form", b"model=gpt-4o-mini", None),
        ("a trailing comma", br#"{"model":"gpt-4o-mini",}"#, None),
        ("a comment", br#"{"model":"gpt-4o-mini"/*x*/}"#, None),
        ("single quotes", b"{'model':'gpt-4o-mini'}", None),
        ("invalid UTF-8", b"{\"model\":\"gpt-4o-mini\",\"x\":\"\xff\"}", None),
        ("two models", br#"{"model":"gpt-4o-mini","messages":[],"model":"gpt-4o"}"#, None),
        ("two models, one of them escaped", br#"{"model":"gpt-4o-mini","mod\u0065l":"gpt-4o"}"#, None),
        ("another spelling of model", br#"{"model":"gpt-4o-mini","Model":"gpt-4o"}"#, None),
        ("no model", br#"{"messages":[]}"#, Some("model")),
        ("a model that is null", br#"{"model":null}"#, Some("model")),
        ("a model that is a number", br#"{"model":4}"#, Some("model")),
        ("an empty model", br#"{"model":""}"#, Some("model")),
        ("a model that is too long", long.as_bytes(), Some("model")),
        ("too deep", deep.as_bytes(), None),
    ];
    for (name, body, param) in cases {
        let answer = post(&gateway, body.to_vec()).await;
        let error = &answer.json()["error"];
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        assert_eq!(error["type"], "invalid_request_error", "{name}");
        assert!(error["message"].as_str().is_some_and(|m| m.len() > 10), "{name}: {error}");
        assert_eq!(error["param"], param.map_or(Value::Null, Value::from), "{name}: {error}");
        assert!(error.as_object().is_some_and(|e| e.contains_key("code")), "{name}");
        assert!(!answer.headers.contains_key("retry-after"), "{name}: repeating it does not help");
    }
    assert_eq!(upstream.record().counters().calls, 0);
    let log = gateway.log_of(cases.len()).await;
    assert!(log.iter().all(|line| line["error"] == "bad_request" && line["blame"] == "client"), "{log:#?}");
    assert_eq!(post(&gateway, HELLO).await.status, 200, "and it serves on");
}

#[tokio::test]
async fn an_unknown_model_is_named_with_its_neighbours() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let answer = ask(&gateway, "gpt-4o-mnii").await;
    let error = &answer.json()["error"];
    assert_eq!(answer.status, 404);
    assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("`gpt-4o-mnii`") && message.contains("Did you mean `gpt-4o-mini`"), "{message}");
    let answer = ask(&gateway, "zzz").await;
    assert!(!answer.text().contains("Did you mean"), "{}", answer.text());
    assert_eq!(ask(&gateway, "nobody/gpt-4o-mini").await.status, 404, "no such provider");
    assert_eq!(upstream.record().counters().calls, 0);
}

#[tokio::test]
async fn paths_methods_and_encodings_it_does_not_know_have_their_own_answers() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let client = client();
    for path in
        ["/", "/v1", "/v1/chat", "/v1/chat/completions/", "/v2/models", "/metrics", "/api/config", "/v1/assistants"]
    {
        let answer = send(client.post(gateway.url(path)).bearer_auth(KEY).body(HELLO)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (404, &json!("unknown_url")), "{path}");
    }
    for (method, path, allow) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("PUT", "/v1/files", "GET, POST, DELETE"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("OPTIONS", "/raw/up/x", "GET, POST, PUT, PATCH, DELETE"),
    ] {
        let answer = send(client.request(method.parse().expect("a method"), gateway.url(path)).bearer_auth(KEY)).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status.as_u16(), &error["code"]), (405, &json!("method_not_supported")), "{method} {path}");
        assert!(error["message"].as_str().is_some_and(|m| m.contains(method) && m.contains("use")), "{error}");
        assert_eq!(answer.headers["allow"], allow, "{method} {path}");
    }
    for encoding in ["gzip", "br", "deflate", "zstd", "gzip, identity"] {
        let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
        let answer = send(request.header("content-encoding", encoding).body(HELLO)).await;
        assert_eq!(answer.status, 415, "{encoding}");
        assert_eq!(answer.json()["error"]["code"], "unsupported_content_encoding");
    }
    assert_eq!(upstream.record().counters().calls, 0);
    let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
    assert_eq!(send(request.header("content-encoding", "identity").body(HELLO)).await.status, 200);
}

#[tokio::test]
async fn a_provider_that_is_down_is_a_502_that_says_nothing_of_where_it_is() {
    let port = free_port();
    let gateway = gateway_to(([127, 0, 0, 1], port).into()).await;
    let begun = Instant::now();
    let answer = ask(&gateway, "gpt-4o-mini").await;
    assert!(begun.elapsed() < Duration::from_secs(3), "at once");
    let error = &answer.json()["error"];
    assert_eq!((answer.status.as_u16(), &error["type"]), (502, &json!("upstream_error")));
    assert_eq!(error["code"], "upstream_connect");
    assert!(!answer.text().contains("127.0.0.1") && !answer.text().contains(&port.to_string()), "{}", answer.text());
    let log = gateway.log_of(1).await;
    assert_eq!(
        (&log[0]["status"], &log[0]["blame"], &log[0]["attempts"]),
        (&502.into(), &"upstream".into(), &1.into())
    );
    assert_eq!(log[0]["error"], "upstream_failed");
    // the opaque lane answers in the same words
    let answer = send(client().get(gateway.url("/v1/files")).bearer_auth(KEY)).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["type"]), (502, &json!("upstream_error")));
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
}

#[tokio::test]
async fn a_provider_that_never_answers_is_a_504_after_its_time() {
    let upstream = upstream().await;
    let gateway = gateway_with(upstream.address, "timeouts: {first_byte: 300ms}\n").await;
    for stream in [false, true] {
        let begun = Instant::now();
        let answer = send(gateway.chat(&client(), "up/sim-hang", stream)).await;
        let took = begun.elapsed();
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (504, &json!("upstream_timeout")));
        assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(3), "{took:?}");
    }
    let record = upstream.record();
    let cancelled = record.wait_for(Duration::from_secs(2), |calls| {
        calls.len() == 2 && calls.iter().all(|call| matches!(call.outcome, Outcome::Cancelled(_)))
    });
    assert!(cancelled.await, "the provider is not kept busy: {:?}", record.calls());
    let log = gateway.log_of(2).await;
    assert!(log.iter().all(|l| l["error"] == "upstream_timeout" && l["blame"] == "upstream" && l["attempts"] == 1));
}

#[tokio::test]
async fn the_whole_call_has_a_deadline_too() {
    let upstream = upstream().await;
    let gateway = gateway_with(upstream.address, "timeouts: {total: 500ms}\n").await;
    let begun = Instant::now();
    let answer = send(gateway.chat(&client(), "up/sim-hang", false)).await;
    assert_eq!(answer.status, 504);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_providers_own_errors_pass_in_its_own_words() {
    let upstream = upstream().await;
    let gateway = Gateway::start(&one_provider(upstream.address), &[]).await;
    let direct = |model: &str| {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }] });
        client().post(format!("http://{}/v1/chat/completions", upstream.address)).bearer_auth(UPSTREAM_KEY).json(&body)
    };
    for (model, status) in [
        ("sim-400", 400),
        ("sim-404", 404),
        ("sim-429", 429),
        ("sim-500", 500),
        ("sim-503", 503),
        ("sim-context", 400),
        ("sim-filter", 400),
    ] {
        let own = send(direct(model)).await;
        let passed = ask(&gateway, &format!("up/{model}")).await;
        assert_eq!((own.status.as_u16(), passed.status.as_u16()), (status, status), "{model}");
        assert_eq!(passed.text(), own.text(), "{model}");
        for (name, value) in &own.headers {
            let passes =
                name == "content-type" || ["retry-after", "x-ratelimit-"].iter().any(|p| name.as_str().starts_with(p));
            assert_eq!(passed.headers.get(name).filter(|_| passes), Some(value).filter(|_| passes), "{model}: {name}");
        }
        assert!(
            !passed.headers.contains_key("openai-organization"),
            "the provider's account is not the caller's business"
        );
    }
    // what was told to wait is asked again after its time
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let limited = ask(&gateway, "up/sim-429").await;
    assert_eq!(limited.headers["retry-after"], "1");
    assert_eq!(limited.headers["x-ratelimit-remaining-requests"], "0");
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    let log = gateway.log_of(8).await;
    assert!(log.iter().all(|l| l["error"] == "upstream_refused" && l["blame"] == "upstream" && l["provider"] == "up"));
}

#[tokio::test]
async fn a_provider_that_repeats_its_credential_and_host_does_not_give_them_away() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let answer = ask(&gateway, "up/sim-401").await;
    let text = answer.text();
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["error"]["code"], "invalid_api_key", "{text}");
    for leak in [UPSTREAM_KEY, "upstream", "127.0.0.1", &upstream.address.port().to_string(), KEY, "Bearer"] {
        assert!(!text.contains(leak), "{leak} in {text}");
    }
    for (name, value) in &answer.headers {
        let value = value.to_str().expect("ASCII");
        assert!(!value.contains(UPSTREAM_KEY) && !value.contains("127.0.0.1"), "{name}: {value}");
    }
    let log = std::fs::read_to_string(gateway.folder().join("access.log")).expect("a log");
    assert!(!log.contains(UPSTREAM_KEY));
}

#[tokio::test]
async fn an_error_page_is_turned_into_an_error_an_sdk_can_read() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let page = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>origin.internal.example: cloudflare</body></html>";
    let big = format!("<html>{}</html>", "x".repeat(200_000));
    let cases = [
        (502, "text/html; charset=UTF-8", page.to_owned()),
        (503, "text/html", big),
        (520, "text/plain", "error code: 520".to_owned()),
        (429, "text/html", page.to_owned()),
        (500, "application/json", String::new()),
        (500, "application/json", "{\"error\": {\"message\": \"cut off".to_owned()),
        (400, "application/json", "\"just a string\"".to_owned()),
    ];
    for (n, (status, kind, body)) in cases.into_iter().enumerate() {
        let reply = Reply::whole(StatusCode::from_u16(status).expect("a status"), kind, body.clone());
        let reply = reply.header("retry-after", "7").header("server", "cloudflare");
        for stream in [false, true] {
            // a model of its own: what was told to wait is not asked again at once
            let model = format!("page-{n}-{stream}");
            upstream.simulator.reply(&model, reply.clone());
            let answer = send(gateway.chat(&client(), &format!("up/{model}"), stream)).await;
            let error = &answer.json()["error"];
            assert_eq!(answer.status.as_u16(), status);
            assert_eq!(answer.headers["content-type"], "application/json");
            assert_eq!(answer.headers["retry-after"], "7");
            assert!(!answer.headers.contains_key("server"));
            let kind = match status {
                400 => "invalid_request_error",
                429 => "rate_limit_error",
                503 | 529 => "overloaded_error",
                _ => "upstream_error",
            };
            assert_eq!(error["type"], kind, "{body}");
            assert!(error["message"].as_str().is_some_and(|m| m.contains(&status.to_string())), "{error}");
            assert!(!answer.text().contains("internal.example") && !answer.text().contains("html"));
        }
    }
}

#[tokio::test]
async fn every_answer_has_one_request_id_known_to_all_three_sides() {
    let upstream = upstream().await;
    let gateway = gateway_to(upstream.address).await;
    let client = client();
    let chat = |id: Option<&'static str>| {
        let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).body(HELLO);
        id.map(|id| request.try_clone().expect("a body of bytes").header("x-request-id", id)).unwrap_or(request)
    };
    let mut wanted = Vec::new();
    let long = Box::leak("a".repeat(129).into_boxed_str()) as &'static str;
    for (sent, kept) in [
        (None, false),
        (Some("my-own.id:42_A"), true),
        (Some("has space"), false),
        (Some("<script>"), false),
        (Some(long), false),
        (Some(""), false),
    ] {
        let answer = send(chat(sent)).await;
        assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1);
        let id = answer.headers["x-request-id"].to_str().expect("ASCII").to_owned();
        assert_eq!(Some(&*id) == sent, kept, "sent {sent:?}, got {id}");
        assert!(kept || id.len() == 36, "one of ours is a UUID: {id}");
        let call = upstream.record().last().expect("a call");
        assert_eq!(call.header("x-request-id"), Some(&*id));
        wanted.push(id);
    }
    // and where no provider is asked
    for request in [
        client.get(gateway.url("/nowhere")),
        client.get(gateway.url("/v1/models")),
        client.get(gateway.url("/v1/models")).bearer_auth(KEY),
        client.get(gateway.url("/v1/files")).bearer_auth(KEY),
        client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY).body("{"),
        client
            .post(gateway.url("/v1/chat/completions"))
            .bearer_auth(KEY)
            .body(HELLO.replace("gpt-4o-mini", "up/sim-500")),
    ] {
        let answer = send(request).await;
        wanted.push(answer.headers["x-request-id"].to_str().expect("ASCII").to_owned());
    }
    let log = gateway.log_of(wanted.len()).await;
    let logged: Vec<&str> = log.iter().map(|line| line["request_id"].as_str().expect("an id")).collect();
    assert_eq!(logged, wanted, "one line per call, in order");
    let unique: std::collections::BTreeSet<_> = wanted.iter().collect();
    assert_eq!(unique.len(), wanted.len());
}

#[tokio::test]
async fn no_secret_and_no_prompt_is_ever_written_down() {
    const VIRTUAL: &str = "canary-virtual-key-7f3a9c";
    const PROVIDER: &str = "canary-provider-key-51be02";
    const HEADER: &str = "canary-provider-header-d41d8c";
    const TOKEN: &str = "canary-admin-token-a94a8f";
    const PEPPER: &str = "canary-pepper-0beec7b5ea3f";
    const PROMPT: &str = "canary-prompt-9e107d9d372b";
    const WRONG: &str = "canary-wrong-key-e4d909c290";
    const QUERY: &str = "canary-query-d9de1a3c";
    let upstream = crate::support::upstream_with(tollgate::simulator::Options {
        api_key: Some(PROVIDER.to_owned()),
        pace: Duration::from_millis(1),
        ..Default::default()
    })
    .await;
    let yaml = format!(
        "listen: LISTEN\nadmin: {{listen: \"ADMIN\", token: {TOKEN}}}\nauth: {{pepper: {PEPPER}}}\n\
         providers:\n  up: {{kind: openai, base_url: \"http://{}/v1\", api_key: {PROVIDER}, headers: {{x-team: {HEADER}}}}}\n\
         \x20 down: {{kind: openai, base_url: \"http://127.0.0.1:9/v1\", api_key: {PROVIDER}}}\n\
         models: {{gpt-4o-mini: up/gpt-4o-mini}}\nkeys: [{{name: test, key: {VIRTUAL}}}]\n",
        upstream.address
    );
    let gateway = Gateway::start(&yaml, &[("RUST_LOG", "trace")]).await;
    let client = client();
    let mut calls = 0;
    for model in ["gpt-4o-mini", "up/sim-401", "up/sim-500", "up/sim-cut", "up/sim-error-event", "down/x", "unknown"] {
        for stream in [false, true] {
            let body = json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": PROMPT }] });
            let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(VIRTUAL).json(&body);
            if let Ok(answer) = request.send().await {
                let _ = answer.bytes().await;
            }
            calls += 1;
        }
    }
    for (path, key, body) in [
        ("/v1/chat/completions", WRONG, format!(r#"{{"model":"gpt-4o-mini","messages":["{PROMPT}"]}}"#)),
        ("/v1/chat/completions", VIRTUAL, format!(r#"{{"model":"gpt-4o-mini","x":{PROMPT}}}"#)),
        ("/v1/chat/completions", VIRTUAL, format!(r#"{{"{PROMPT}":1,"{PROMPT}":2,"model":"gpt-4o-mini"}}"#)),
        ("/v1/chat/completions", VIRTUAL, format!(r#"{{"model":["{PROMPT}"]}}"#)),
        ("/v1/chat/completions", VIRTUAL, format!(r#"{{"model":"gpt-4o-mini","stream":"{PROMPT}"}}"#)),
        ("/v1/responses", VIRTUAL, format!(r#"{{"model":"gpt-4o-mini","input":"{PROMPT}"}}"#)),
        ("/v1/moderations", VIRTUAL, format!(r#"{{"input":"{PROMPT}"}}"#)),
        ("/raw/up/chat/completions", VIRTUAL, format!(r#"{{"model":"sim-401","messages":["{PROMPT}"]}}"#)),
        ("/raw/down/x?token=canary-query-d9de1a3c", VIRTUAL, PROMPT.to_owned()),
        ("/v1/nowhere?token=canary-query-d9de1a3c", VIRTUAL, PROMPT.to_owned()),
    ] {
        send(client.post(gateway.url(path)).header("x-api-key", key).body(body)).await;
        calls += 1;
    }
    // an operator's slip: secrets where they are refused
    let path = gateway.config_path();
    let good = std::fs::read_to_string(&path).expect("the configuration");
    let bad = good.replace(&format!("api_key: {PROVIDER}"), &format!("api_key: \"{PROVIDER} with a space\""));
    std::fs::write(&path, bad.replace(&format!("key: {VIRTUAL}"), &format!("key: \"{VIRTUAL}\\u00e9\"")))
        .expect("written");
    let admin = |path: &str| format!("http://{}{path}", gateway.admin);
    let refused = send(client.post(admin("/api/config/reload")).bearer_auth(TOKEN)).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    std::fs::write(&path, good).expect("written");
    let reloaded = send(client.post(admin("/api/config/reload")).bearer_auth(TOKEN)).await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    let wrong_token = send(client.get(admin("/api/config")).bearer_auth(WRONG)).await;
    assert_eq!(wrong_token.status, 401);
    let config = send(client.get(admin("/api/config")).bearer_auth(TOKEN)).await;
    assert_eq!(config.status, 200);

    gateway.log_of(calls).await;
    let log = std::fs::read_to_string(gateway.folder().join("access.log")).expect("a log");
    let stderr = gateway.stderr();
    assert!(stderr.contains("TRACE"), "the log is at its most talkative");
    let places = [
        ("the access log", log),
        ("stderr", stderr),
        ("/metrics", gateway.metrics().await),
        ("/api/config", config.text()),
        ("a refused reload", refused.text()),
        ("a reload", reloaded.text()),
        ("a wrong token", wrong_token.text()),
    ];
    let mut found = Vec::new();
    for (place, text) in &places {
        assert!(!text.is_empty(), "{place} is empty: the test is blind");
        for canary in [VIRTUAL, PROVIDER, HEADER, TOKEN, PEPPER, PROMPT, WRONG, QUERY] {
            if let Some(line) = text.lines().find(|line| line.contains(canary)) {
                found.push(format!("{canary} in {place}: {line}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
