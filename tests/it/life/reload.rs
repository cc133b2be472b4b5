//! A changed configuration is loaded while calls run: all of it or nothing, by request, by signal, or because the file changed.

use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Load, generations_only_grow};
use crate::support::{Gateway, KEY, UPSTREAM_KEY, client, eventually, one_provider, upstream};

const TOKEN: &str = "admin-token-0123456789";

async fn gateway(upstream: std::net::SocketAddr) -> Gateway {
    let yaml = format!("listen: LISTEN\nadmin: {{listen: \"ADMIN\", token: {TOKEN}}}\n{}", one_provider(upstream));
    Gateway::start(&yaml, &[]).await
}

fn text(gateway: &Gateway) -> String {
    std::fs::read_to_string(gateway.config_path()).expect("the configuration")
}

/// As an editor saves: another file in its place.
fn save(gateway: &Gateway, text: &str) {
    let new = gateway.folder().join("tollgate.yaml.new");
    std::fs::write(&new, text).expect("written");
    std::fs::rename(&new, gateway.config_path()).expect("in place");
}

async fn admin(gateway: &Gateway, method: &str, path: &str, token: Option<&str>) -> (u16, Value) {
    let url = format!("http://{}{path}", gateway.admin);
    let request = client().request(method.parse().expect("a method"), url);
    let request = token.map_or(request.try_clone().expect("no body"), |token| request.bearer_auth(token));
    let answer = request.send().await.expect("the admin port answers");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn reload(gateway: &Gateway) -> (u16, Value) {
    admin(gateway, "POST", "/api/config/reload", Some(TOKEN)).await
}

async fn models(gateway: &Gateway) -> Vec<String> {
    let answer = client().get(gateway.url("/v1/models")).bearer_auth(KEY).send().await.expect("an answer");
    let list: Value = answer.json().await.expect("JSON");
    let data = list["data"].as_array().expect("a list").iter();
    data.map(|model| model["id"].as_str().expect("an id").to_owned()).collect()
}

async fn offers(gateway: &Gateway, model: &str) -> bool {
    models(gateway).await.iter().any(|name| name == model)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_no_call() {
    let upstream = upstream().await;
    let gateway = gateway(upstream.address).await;
    let good = text(&gateway);
    let load = Load::start(&gateway, 6);
    let (mut accepted, mut refused) = (0u64, 0);
    for number in 0..100 {
        let broken = number % 10 == 7;
        let mut next = good.replace("models:\n", &format!("models:\n  extra-{number}: up/gpt-4o-mini\n"));
        if number % 3 == 1 {
            // another credential's worth of header: other connections
            next = next.replace("api_key: up", &format!("headers: {{x-turn: \"{number}\"}}, api_key: up"));
        }
        if broken {
            next = next.replace("kind: openai", "kind: opnai");
        }
        save(&gateway, &next);
        let (status, answer) = reload(&gateway).await;
        match status {
            200 => accepted += 1,
            422 => refused += 1,
            other => panic!("{other}: {answer}"),
        }
        assert_eq!(status == 422, broken, "{answer}");
        assert_eq!(offers(&gateway, &format!("extra-{number}")).await, !broken, "in force at once, or not at all");
    }
    let served = load.end().await;
    println!("{accepted} reloads and {refused} refused ones under load: {served} calls, none failed");
    assert_eq!((accepted, refused), (90, 10));
    assert!(served > 200, "only {served} calls: no load");
    let (_, report) = admin(&gateway, "GET", "/api/config", Some(TOKEN)).await;
    let generation = report["status"]["generation"].as_u64().expect("a number");
    assert!(generation >= 91, "{generation}");
    assert_eq!(gateway.metric("tollgate_config_generation", &[]).await, generation as f64);
    assert!(gateway.metric("tollgate_config_reloads_total", &["outcome=\"refused\""]).await >= 10.0);
    let log = gateway.log_of(served + 100).await;
    generations_only_grow(&log);
    let seen = log.iter().filter_map(|line| line["generation"].as_u64()).max();
    assert!(seen > Some(80), "calls saw the new generations");
}

#[tokio::test]
async fn the_admin_api_wants_its_token_and_no_other_site() {
    let upstream = upstream().await;
    let gateway = gateway(upstream.address).await;
    for (method, path) in [("GET", "/api/config"), ("POST", "/api/config/reload")] {
        for token in [None, Some("wrong-token-0123456789"), Some(KEY), Some(UPSTREAM_KEY), Some("")] {
            assert_eq!(admin(&gateway, method, path, token).await.0, 401, "{method} {path} with {token:?}");
        }
        let url = format!("http://{}{path}", gateway.admin);
        let request = client().request(method.parse().expect("a method"), url).bearer_auth(TOKEN);
        let other = request.header("origin", "https://evil.example").send().await.expect("an answer");
        assert_eq!(other.status(), 403);
        assert_eq!(admin(&gateway, method, path, Some(TOKEN)).await.0, 200);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(admin(&gateway, "GET", path, None).await.0, 200, "{path}");
    }
    assert_eq!(admin(&gateway, "GET", "/v1/models", Some(TOKEN)).await.0, 404, "it is not the data port");
    let answer = client().get(gateway.url("/api/config")).bearer_auth(TOKEN).send().await.expect("an answer");
    assert_eq!(answer.status(), 404, "nor the other way round");
    assert_eq!(gateway.metric("tollgate_config_generation", &[]).await, 2.0, "one reload was let through");
}

#[tokio::test]
async fn a_refused_reload_tells_every_fault_and_the_old_configuration_serves_on() {
    let upstream = upstream().await;
    let gateway = gateway(upstream.address).await;
    let good = text(&gateway);
    let bad = good
        .replace("kind: openai", "kind: opnai")
        .replace("gpt-4o-mini: up/gpt-4o-mini", "gpt-4o-mini: nowhere")
        .replace(&format!("key: {KEY}"), "key: short-canary");
    save(&gateway, &bad);
    let (status, answer) = reload(&gateway).await;
    assert_eq!(status, 422);
    let errors: Vec<&str> = answer["errors"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for part in ["opnai", "nor the name of an entry", "too short"] {
        let error = errors.iter().find(|error| error.contains(part)).unwrap_or_else(|| panic!("{part} in {errors:?}"));
        let place = error.split("tollgate.yaml:").nth(1).expect("a file");
        assert!(place.starts_with(|c: char| c.is_ascii_digit()), "a line: {error}");
    }
    assert!(!answer.to_string().contains("short-canary"), "{answer}");
    assert_eq!(gateway.chat(&client(), "gpt-4o-mini", false).send().await.expect("an answer").status(), 200);
    let (_, report) = admin(&gateway, "GET", "/api/config", Some(TOKEN)).await;
    assert_eq!(
        (&report["status"]["generation"], &report["status"]["last_reload"]["accepted"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(report["status"]["last_reload"]["errors"].as_array().map(Vec::len), Some(errors.len()));
}

#[tokio::test]
async fn the_report_says_what_runs_and_what_changed_without_secrets() {
    let upstream = upstream().await;
    let gateway = gateway(upstream.address).await;
    let good = text(&gateway);
    let next = good
        .replace("alias: up/gpt-4o-mini", "alias: up/gpt-4o")
        .replace(&format!("api_key: {UPSTREAM_KEY}"), "api_key: upstream-key-rotated")
        .replace("team: search", "team: ads")
        .replace("level: info", "level: debug");
    save(&gateway, &next);
    let (status, report) = reload(&gateway).await;
    assert_eq!(status, 200, "{report}");
    let again = admin(&gateway, "GET", "/api/config", Some(TOKEN)).await.1;
    assert_eq!(again["status"], report["status"]);
    let changes = report["status"]["last_reload"]["changes"].as_array().expect("a list");
    let change = |path: &str| {
        let found = changes.iter().find(|change| change["path"].as_str().is_some_and(|p| p.contains(path)));
        found.unwrap_or_else(|| panic!("{path} in {changes:?}"))
    };
    let alias = change("models.alias");
    assert_eq!((&alias["from"], &alias["to"]), (&json!("up/gpt-4o-mini"), &json!("up/gpt-4o")));
    assert_eq!(change("providers.up.api_key")["takes_effect"], "now");
    assert_eq!(change("team")["to"], "ads");
    assert_eq!(change("log.level")["takes_effect"], "restart");
    assert_eq!(report["status"]["pending_restart"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&report["status"]["generation"], &report["config"]["models"]["alias"]["target"]),
        (&json!(2), &json!("up/gpt-4o"))
    );
    for secret in [KEY, UPSTREAM_KEY, TOKEN] {
        assert!(!report.to_string().contains(secret), "{report}");
    }
    // and the rotated credential is the one that is sent
    let _refused = gateway.chat(&client(), "gpt-4o-mini", false).send().await.expect("an answer");
    assert_eq!(upstream.record().last().expect("a call").header("authorization"), Some("Bearer upstream-key-rotated"));
}

#[tokio::test]
async fn a_hangup_signal_reloads() {
    let upstream = upstream().await;
    let gateway = gateway(upstream.address).await;
    for wanted in [2.0, 3.0] {
        // the bytes are the same: only the signal can have done it
        gateway.signal(libc::SIGHUP);
        eventually("another generation", || async {
            gateway.metric("tollgate_config_generation", &[]).await == wanted
        })
        .await;
    }
    assert_eq!(gateway.chat(&client(), "gpt-4o-mini", false).send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_changed_file_is_loaded_however_it_was_changed() {
    let upstream = upstream().await;
    let gateway = gateway(upstream.address).await;
    let good = text(&gateway);
    let with = |model: &str| good.replace("models:\n", &format!("models:\n  {model}: up/gpt-4o-mini\n"));
    let path = gateway.config_path();

    std::fs::write(&path, with("written")).expect("written in place");
    eventually("a file that is written", || offers(&gateway, "written")).await;
    save(&gateway, &with("renamed"));
    eventually("a file that is replaced", || offers(&gateway, "renamed")).await;

    // broken, then repaired, without a word from us
    save(&gateway, "models: [");
    eventually("a refusal", || async {
        gateway.metric("tollgate_config_reloads_total", &["outcome=\"refused\""]).await >= 1.0
    })
    .await;
    assert!(offers(&gateway, "renamed").await, "the old one serves on");

    // as Kubernetes mounts it: file -> ..data/file, ..data -> a folder, and the link is swapped
    let folder = gateway.folder();
    for (version, model) in [("v1", "mounted"), ("v2", "swapped"), ("v3", "swapped-again")] {
        std::fs::create_dir(folder.join(version)).expect("a folder");
        std::fs::write(folder.join(version).join("tollgate.yaml"), with(model)).expect("written");
        symlink(version, folder.join("..data.new")).expect("a link");
        std::fs::rename(folder.join("..data.new"), folder.join("..data")).expect("swapped");
        if version == "v1" {
            symlink("..data/tollgate.yaml", folder.join("tollgate.yaml.new")).expect("a link");
            std::fs::rename(folder.join("tollgate.yaml.new"), &path).expect("swapped");
        }
        eventually(version, || offers(&gateway, model)).await;
    }
    assert!(
        models(&gateway).await.iter().all(|model| !["written", "renamed", "mounted", "swapped"].contains(&&**model))
    );
}

#[tokio::test]
async fn a_stream_runs_on_under_the_configuration_it_began_with() {
    let upstream = upstream().await;
    let gateway = gateway(upstream.address).await;
    let frame = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let wait = tollgate::simulator::Part::Wait(Duration::from_millis(500));
    let reply = tollgate::simulator::Reply::events().bytes(frame).part(wait).bytes(frame).bytes("data: [DONE]\n\n");
    upstream.simulator.reply("gpt-4o-mini", reply);
    let mut answer = gateway.chat(&client(), "gpt-4o-mini", true).send().await.expect("an answer");
    assert!(answer.chunk().await.expect("unbroken").is_some());
    // the provider, the model and the key it uses are gone
    let elsewhere = crate::support::upstream().await;
    let other = text(&gateway).replace(&upstream.address.to_string(), &elsewhere.address.to_string());
    save(
        &gateway,
        &other.replace("gpt-4o-mini: up/gpt-4o-mini", "only: up/x").replace("alias: up/gpt-4o-mini", "b: up/x"),
    );
    assert_eq!(reload(&gateway).await.0, 200);
    assert!(offers(&gateway, "only").await && !offers(&gateway, "gpt-4o-mini").await);
    let mut rest = Vec::new();
    while let Some(chunk) = answer.chunk().await.expect("unbroken") {
        rest.extend_from_slice(&chunk);
    }
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
    let log = gateway.log_of(3).await;
    let stream = log.iter().find(|line| line["stream"] == true).expect("its line");
    assert_eq!((&stream["generation"], &stream["status"]), (&json!(1), &json!(200)));
}
