//! Keys that are made while the gateway runs: in force with the answer that tells of them, gone as fast, and nowhere but as hashes.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::auth::answer;
use crate::support::{Gateway, KEY, UPSTREAM_KEY, Upstream, client, eventually, upstream};

const TOKEN: &str = "admin-token-0123456789";
const PEPPER: &str = "pepper-of-the-tests-0123456789";

fn yaml(upstream: &Upstream, store: &Path) -> String {
    format!(
        "listen: LISTEN\nadmin: {{listen: \"ADMIN\", token: {TOKEN}}}\nstore: \"sqlite:{}\"\n\
         auth: {{pepper: {PEPPER}, failures_per_minute: 0}}\nkeys: [{{name: test, key: {KEY}}}]\n\
         providers:\n  up: {{kind: openai, base_url: \"http://{}/v1\", api_key: {UPSTREAM_KEY}}}\n\
         models:\n  gpt-4o-mini: {{target: up/gpt-4o-mini, price: {{input: 0.15, output: 0.6}}}}\n  gpt-4o: {{target: up/gpt-4o, price: {{input: 2.5, output: 10}}}}\n",
        store.display(),
        upstream.address
    )
}

/// A gateway with a store of its own.
async fn gateway(upstream: &Upstream) -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Gateway::start(&yaml(upstream, &folder.path().join("keys.db")), &[]).await;
    (gateway, folder)
}

async fn ask(gateway: &Gateway, method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = client().request(method, format!("http://{}{path}", gateway.admin)).bearer_auth(TOKEN);
    let request = if body.is_null() { request } else { request.json(&body) };
    let (status, _, body) = answer(request).await;
    (status.as_u16(), body)
}

/// A new key with these words: its value.
async fn made(gateway: &Gateway, words: Value) -> String {
    let (status, key) = ask(gateway, Method::POST, "/api/keys", words).await;
    assert_eq!(status, 201, "{key}");
    key["key"].as_str().expect("its value").to_owned()
}

/// Status and code of a call.
async fn call(gateway: &Gateway, client: &reqwest::Client, key: &str, model: &str) -> (u16, Value) {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]});
    let (status, _, body) = answer(client.post(gateway.url("/v1/chat/completions")).bearer_auth(key).json(&body)).await;
    (status.as_u16(), body["error"]["code"].clone())
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    call(gateway, &client(), key, "gpt-4o-mini").await.0
}

#[tokio::test]
async fn a_key_is_in_force_when_it_is_told_and_holds_its_caller_to_what_it_may() {
    let upstream = upstream().await;
    let (gateway, _folder) = gateway(&upstream).await;
    let words = json!({"name": "ci", "models": ["gpt-4o-*"], "tags": {"team": "search", "user": "ada"}, "weight": 2});
    let key = made(&gateway, words).await;
    assert_eq!(call(&gateway, &client(), &key, "gpt-4o-mini").await.0, 200);
    assert_eq!(call(&gateway, &client(), &key, "gpt-4o").await, (403, json!("model_not_allowed")));
    let line = &gateway.log_of(1).await[0];
    assert_eq!((&line["key"], &line["tags"]), (&json!("ci"), &json!({"team": "search", "user": "ada"})));
    assert_eq!(upstream.record().calls()[0].header("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));

    // a change is too
    let (changed, _) =
        ask(&gateway, Method::PATCH, "/api/keys/ci", json!({"models": null, "tags": {"team": "ads"}})).await;
    assert_eq!(changed, 200);
    assert_eq!(call(&gateway, &client(), &key, "gpt-4o").await.0, 200);
    assert_eq!(gateway.log_of(3).await[2]["tags"], json!({"team": "ads"}));
    let (_, shown) = ask(&gateway, Method::GET, "/api/keys/ci", Value::Null).await;
    assert_eq!((&shown["state"], &shown["weight"], shown.get("models")), (&json!("active"), &json!(2), None));
    assert!(shown.get("key").is_none() && !shown.to_string().contains(&key), "its value is told once");
    // keys of the file are as before
    assert_eq!(status(&gateway, KEY).await, 200);
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_from_the_next_request_on() {
    let upstream = upstream().await;
    let (gateway, _folder) = gateway(&upstream).await;
    let key = made(&gateway, json!({"name": "a"})).await;
    // one connection for all of them
    let client = client();
    for _ in 0..3 {
        assert_eq!(call(&gateway, &client, &key, "gpt-4o").await.0, 200);
        assert_eq!(ask(&gateway, Method::POST, "/api/keys/a/revoke", Value::Null).await.0, 200);
        assert_eq!(call(&gateway, &client, &key, "gpt-4o").await, (401, json!("key_revoked")));
        assert_eq!(ask(&gateway, Method::POST, "/api/keys/a/restore", Value::Null).await.0, 200);
    }
    assert_eq!(call(&gateway, &client, &key, "gpt-4o").await.0, 200);
    assert_eq!(ask(&gateway, Method::DELETE, "/api/keys/a", Value::Null).await.0, 200);
    assert_eq!(call(&gateway, &client, &key, "gpt-4o").await, (401, json!("invalid_api_key")));
    assert_eq!(ask(&gateway, Method::GET, "/api/keys/a", Value::Null).await.0, 404);
    assert_eq!(upstream.record().calls().len(), 4);
    // its name is free again, its value is not given twice
    assert_ne!(made(&gateway, json!({"name": "a"})).await, key);
}

#[tokio::test]
async fn a_rotated_keys_old_value_goes_on_for_the_overlap() {
    let upstream = upstream().await;
    let (gateway, _folder) = gateway(&upstream).await;
    let rotate = async |body: Value| {
        let (status, key) = ask(&gateway, Method::POST, "/api/keys/a/rotate", body).await;
        assert_eq!(status, 200, "{key}");
        key["key"].as_str().expect("its value").to_owned()
    };
    let first = made(&gateway, json!({"name": "a"})).await;
    let second = rotate(json!({"overlap": "24h"})).await;
    assert_eq!((status(&gateway, &first).await, status(&gateway, &second).await), (200, 200));
    let log = gateway.log_of(2).await;
    assert_eq!((&log[0]["key"], &log[1]["key"]), (&json!("a"), &json!("a")), "they are one key");
    let third = rotate(json!({"overlap": "1s"})).await;
    assert_eq!(status(&gateway, &third).await, 200);
    eventually("the overlap ends", || async { status(&gateway, &second).await == 401 }).await;
    assert_eq!(call(&gateway, &client(), &second, "gpt-4o").await.1, "key_expired");
    let fourth = rotate(Value::Null).await;
    let all = [&first, &second, &third, &fourth];
    let mut found = Vec::new();
    for key in all {
        found.push(status(&gateway, key).await);
    }
    assert_eq!(found, [401, 401, 401, 200], "without overlap all before it end");
}

#[tokio::test]
async fn a_key_ends_when_it_was_to_end() {
    let upstream = upstream().await;
    let (gateway, _folder) = gateway(&upstream).await;
    let key = made(&gateway, json!({"name": "a", "expires_in": "30d"})).await;
    assert_eq!(status(&gateway, &key).await, 200);
    let (_, shown) = ask(&gateway, Method::POST, "/api/keys/a/expire", json!({"in": "1s"})).await;
    assert!(shown["expires"].is_string(), "{shown}");
    eventually("it expires", || async { status(&gateway, &key).await == 401 }).await;
    assert_eq!(ask(&gateway, Method::GET, "/api/keys/a", Value::Null).await.1["state"], "expired");
    assert_eq!(ask(&gateway, Method::PATCH, "/api/keys/a", json!({"expires": null})).await.0, 200);
    assert_eq!(status(&gateway, &key).await, 200);
    assert_eq!(ask(&gateway, Method::POST, "/api/keys/a/expire", Value::Null).await.0, 200);
    assert_eq!(call(&gateway, &client(), &key, "gpt-4o").await, (401, json!("key_expired")));
}

#[tokio::test]
async fn keys_outlive_the_process_and_are_kept_as_hashes_alone() {
    let (upstream, folder) = (upstream().await, tempfile::tempdir().expect("a temporary folder"));
    let store = folder.path().join("keys.db");
    let mut values = Vec::new();
    {
        let mut gateway = Gateway::start(&yaml(&upstream, &store), &[]).await;
        for n in 0..3 {
            values.push(made(&gateway, json!({"name": format!("key-{n}"), "tags": {"canary": "tag-canary"}})).await);
        }
        let (_, rotated) = ask(&gateway, Method::POST, "/api/keys/key-0/rotate", json!({"overlap": "1h"})).await;
        values.push(rotated["key"].as_str().expect("its value").to_owned());
        assert_eq!(ask(&gateway, Method::POST, "/api/keys/key-2/revoke", Value::Null).await.0, 200);
        let logs = format!("{}{:?}", gateway.stderr(), gateway.log());
        assert!(values.iter().all(|value| !logs.contains(value)), "{logs}");
        gateway.signal(libc::SIGTERM);
        gateway.ended(Duration::from_secs(20)).await;
    }
    let bytes: Vec<u8> = std::fs::read_dir(folder.path())
        .expect("the folder")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_file()))
        .flat_map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a file"))
        .collect();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("key-1") && holds("tag-canary"), "the right files were read");
    for value in &values {
        assert!(!holds(value) && !holds(&value[6..30]), "a key's value is in the file");
        assert!(holds(&value[value.len() - 4..]), "its end is, to know it again");
    }
    assert!(!holds(PEPPER) && !holds(TOKEN) && !holds(KEY));

    let gateway = Gateway::start(&yaml(&upstream, &store), &[]).await;
    let mut found = Vec::new();
    for value in &values {
        found.push(status(&gateway, value).await);
    }
    assert_eq!(found, [200, 200, 401, 200]);
}

#[tokio::test]
async fn another_replica_knows_within_moments() {
    let (upstream, folder) = (upstream().await, tempfile::tempdir().expect("a temporary folder"));
    let yaml = yaml(&upstream, &folder.path().join("keys.db"));
    let (here, there) = (Gateway::start(&yaml, &[]).await, Gateway::start(&yaml, &[]).await);
    let key = made(&here, json!({"name": "a"})).await;
    assert_eq!(status(&here, &key).await, 200);
    eventually("it is known there", || async { status(&there, &key).await == 200 }).await;
    assert_eq!(ask(&there, Method::POST, "/api/keys/a/revoke", Value::Null).await.0, 200);
    assert_eq!(status(&there, &key).await, 401);
    eventually("it is revoked here", || async { status(&here, &key).await == 401 }).await;
    // both write
    for (n, gateway) in [&here, &there, &here, &there].into_iter().enumerate() {
        made(gateway, json!({"name": format!("b{n}")})).await;
    }
    let (_, listed) = ask(&here, Method::GET, "/api/keys?limit=3", Value::Null).await;
    let names: Vec<&str> =
        listed["keys"].as_array().expect("a list").iter().filter_map(|k| k["name"].as_str()).collect();
    assert_eq!((names, &listed["next"]), (vec!["a", "b0", "b1"], &json!("b1")));
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let upstream = upstream().await;
    let (gateway, _folder) = gateway(&upstream).await;
    made(&gateway, json!({"name": "a", "key": "sk-of-my-own-0123456789"})).await;
    for (body, status, word) in [
        (json!({}), 400, "name"),
        (json!({"name": "a"}), 409, "another key"),
        (json!({"name": "test"}), 409, "of the configuration"),
        (json!({"name": "b", "key": "sk-of-my-own-0123456789"}), 409, "this value"),
        (json!({"name": "b", "key": KEY}), 409, "this value"),
        (json!({"name": "b", "key": "short"}), 400, "16 to 1024"),
        (json!({"name": "b c"}), 400, "no spaces"),
        (json!({"name": "b", "hash": "hmac-sha256:00"}), 400, "hash"),
        (json!({"name": "b", "revoked": false}), 400, "unknown member"),
        (json!({"name": "b", "models": "gpt"}), 400, "models"),
        (json!({"name": "b", "limits": {"rpm": 0}}), 400, "rpm"),
        (json!({"name": "b", "budget": {"usd": -1, "per": "day"}}), 400, "usd"),
        (json!({"name": "b", "budget": {"usd": 1, "per": "fortnight"}}), 400, "per"),
        (json!({"name": "b", "tags": {"a b": "c"}}), 400, "tags"),
        (json!({"name": "b", "expires": "tomorrow"}), 400, "RFC 3339"),
        (json!({"name": "b", "expires_in": "30"}), 400, "30d"),
        (json!({"name": "b", "metadata": []}), 400, "metadata"),
        (json!({"name": "b", "metadata": {"a": "x".repeat(20_000)}}), 400, "16 KB"),
        (json!(["b"]), 400, "JSON object"),
    ] {
        let (found, told) = ask(&gateway, Method::POST, "/api/keys", body.clone()).await;
        assert_eq!(found, status, "{body}: {told}");
        assert!(told["error"].as_str().is_some_and(|error| error.contains(word)), "{body}: {told}");
    }
    let twice = client().post(format!("http://{}/api/keys", gateway.admin)).bearer_auth(TOKEN);
    let (status, _, told) = answer(twice.body(r#"{"name":"b","name":"c"}"#)).await;
    assert_eq!(status, 400, "{told}");
    let (_, listed) = ask(&gateway, Method::GET, "/api/keys", Value::Null).await;
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(1), "{listed}");
    for path in ["/api/keys", "/api/keys/a", "/api/audit", "/key/info?key=x", "/key/list"] {
        let nobody = client().get(format!("http://{}{path}", gateway.admin));
        assert_eq!(answer(nobody).await.0, 401, "{path}");
        let key = client().get(format!("http://{}{path}", gateway.admin)).bearer_auth(KEY);
        assert_eq!(answer(key).await.0, 401, "{path}: a key of the data port is none here");
    }
}

#[tokio::test]
async fn without_a_pepper_or_a_store_it_is_said_what_is_missing() {
    let upstream = upstream().await;
    let head = format!(
        "listen: LISTEN\nadmin: {{listen: \"ADMIN\", token: {TOKEN}}}\nkeys: [{{name: test, key: {KEY}}}]\n\
         providers:\n  up: {{kind: openai, base_url: \"http://{}/v1\", api_key: {UPSTREAM_KEY}}}\nmodels: {{gpt-4o-mini: up/gpt-4o-mini}}\n",
        upstream.address
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = format!("store: \"sqlite:{}\"\n", folder.path().join("keys.db").display());
    for (more, word) in [(store.clone(), "pepper"), (format!("store: off\nauth: {{pepper: {PEPPER}}}\n"), "store")] {
        let gateway = Gateway::start(&format!("{head}{more}"), &[]).await;
        let (status, told) = ask(&gateway, Method::POST, "/api/keys", json!({"name": "a"})).await;
        assert_eq!(status, 501, "{told}");
        assert!(told["error"].as_str().is_some_and(|error| error.contains(word)), "{told}");
        assert_eq!(self::status(&gateway, KEY).await, 200);
        assert_eq!(self::status(&gateway, "sk-unknown-0123456789").await, 401);
    }
}

#[tokio::test]
async fn while_the_store_is_away_keys_of_the_file_serve_and_of_others_nothing_is_said() {
    let (upstream, folder) = (upstream().await, tempfile::tempdir().expect("a temporary folder"));
    let yaml = yaml(&upstream, &folder.path().join("keys.db"));
    let nowhere = format!("postgres://tollgate@127.0.0.1:{}/nowhere", crate::support::free_port());
    let line = yaml.lines().find(|line| line.starts_with("store:")).expect("a store").to_owned();
    let gateway = Gateway::start(&yaml.replace(&line, &format!("store: \"{nowhere}\"")), &[]).await;
    assert_eq!(status(&gateway, KEY).await, 200);
    let known = tollgate::config::keys::generate();
    assert_eq!(call(&gateway, &client(), known.expose(), "gpt-4o").await, (503, json!("keys_unavailable")));
    let (status, told) = ask(&gateway, Method::POST, "/api/keys", json!({"name": "a"})).await;
    assert!(status == 501 || status == 503, "{status}: {told}");
}

#[tokio::test]
async fn the_audit_tells_who_did_what_and_no_secret() {
    let upstream = upstream().await;
    let (gateway, _folder) = gateway(&upstream).await;
    let key = made(&gateway, json!({"name": "a", "models": ["gpt-4o"]})).await;
    let patch = client().patch(format!("http://{}/api/keys/a", gateway.admin)).bearer_auth(TOKEN);
    let patch =
        patch.header("x-tollgate-actor", "ada").json(&json!({"models": ["gpt-4o", "gpt-4o-mini"], "name": "b"}));
    assert_eq!(answer(patch).await.0, 200);
    let (_, rotated) = ask(&gateway, Method::POST, "/api/keys/b/rotate", json!({"overlap": "1h"})).await;
    assert_eq!(ask(&gateway, Method::POST, "/api/keys/b/revoke", Value::Null).await.0, 200);
    assert_eq!(ask(&gateway, Method::DELETE, "/api/keys/b", Value::Null).await.0, 200);
    // what was refused was not done
    assert_eq!(ask(&gateway, Method::POST, "/api/keys", json!({"name": "x y"})).await.0, 400);
    let (_, told) = ask(&gateway, Method::GET, "/api/audit", Value::Null).await;
    let rows = told["audit"].as_array().expect("a list");
    let acts: Vec<(&str, &str, &str)> = rows
        .iter()
        .rev()
        .map(|row| {
            (
                row["act"].as_str().unwrap_or_default(),
                row["actor"].as_str().unwrap_or_default(),
                row["subject"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let expected = [
        ("key.create", "admin", "a"),
        ("key.update", "admin: ada", "b"),
        ("key.rotate", "admin", "b"),
        ("key.revoke", "admin", "b"),
        ("key.delete", "admin", "b"),
    ];
    assert_eq!(acts, expected);
    assert_eq!(rows[3]["was"]["may"]["models"], json!(["gpt-4o"]));
    assert_eq!(rows[3]["became"]["may"]["models"], json!(["gpt-4o", "gpt-4o-mini"]));
    assert_eq!((&rows[0]["became"], &rows[4]["was"]), (&Value::Null, &Value::Null));
    let text = told.to_string();
    let new = rotated["key"].as_str().expect("its value");
    for value in [&key, new] {
        assert!(!text.contains(value) && text.contains(&value[value.len() - 4..]), "{text}");
    }
    let (_, page) = ask(&gateway, Method::GET, "/api/audit?limit=2", Value::Null).await;
    let next = page["next"].as_i64().expect("more");
    let (_, page) = ask(&gateway, Method::GET, &format!("/api/audit?limit=2&before={next}"), Value::Null).await;
    assert_eq!(page["audit"][0]["act"], "key.rotate");
}

fn tollgate(gateway: &Gateway, arguments: &[&str]) -> Output {
    let config = gateway.config_path();
    let (verb, rest) = arguments.split_first().expect("a command");
    let command = ["keys", verb, "-c", config.to_str().expect("UTF-8")];
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(command.iter().chain(rest))
        .env_clear()
        .env("USER", "ada")
        .output()
        .expect("the gateway's binary")
}

#[tokio::test]
async fn the_command_line_makes_lists_changes_and_ends_keys() {
    let upstream = upstream().await;
    let (gateway, _folder) = gateway(&upstream).await;
    let good = |arguments: &[&str]| {
        let output = tollgate(&gateway, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let words = [
        "new",
        "ci",
        "--model",
        "gpt-4o-mini",
        "--tag",
        "team=search",
        "--rpm",
        "60",
        "--budget",
        "50/month",
        "--in",
        "30d",
    ];
    let key = good(&words).trim().to_owned();
    assert_eq!(status(&gateway, &key).await, 200);
    assert_eq!(call(&gateway, &client(), &key, "gpt-4o").await.0, 403);
    let shown: Value = serde_json::from_str(&good(&["show", "ci", "--format", "json"])).expect("JSON");
    assert_eq!((&shown["limits"], &shown["created_by"]), (&json!({"rpm": 60}), &json!("admin: ada")));
    assert_eq!(shown["budget"], json!([{"usd": "50", "per": "month"}]));

    good(&["update", "ci", "--tpm", "1000", "--tag", "user=ada", "--clear", "models,expires"]);
    let shown: Value = serde_json::from_str(&good(&["show", "ci", "--format", "json"])).expect("JSON");
    assert_eq!(
        (&shown["limits"], &shown["tags"]),
        (&json!({"rpm": 60, "tpm": 1000}), &json!({"team": "search", "user": "ada"}))
    );
    assert_eq!((&shown["expires"], shown.get("models")), (&Value::Null, None));
    assert_eq!(call(&gateway, &client(), &key, "gpt-4o").await.0, 200);

    let new = good(&["rotate", "ci", "--overlap", "1h"]).trim().to_owned();
    assert_eq!((status(&gateway, &key).await, status(&gateway, &new).await), (200, 200));
    let table = good(&["list"]);
    assert!(table.contains("ci") && table.contains("active") && table.contains(&new[new.len() - 4..]), "{table}");
    assert!(!table.contains(&new), "{table}");
    good(&["revoke", "ci"]);
    assert_eq!(status(&gateway, &new).await, 401);
    good(&["restore", "ci"]);
    good(&["expire", "ci"]);
    assert_eq!(status(&gateway, &new).await, 401);
    good(&["delete", "ci"]);
    let audit = good(&["audit"]);
    assert!(audit.contains("key.delete") && audit.contains("admin: ada"), "{audit}");
    let list: Value = serde_json::from_str(&good(&["list", "--format", "json"])).expect("JSON");
    assert_eq!(list, json!([]));

    for (arguments, code, word) in [
        (&["show", "nobody"][..], 1, "no such key"),
        (&["new", "a b"], 1, "no spaces"),
        (&["new", "x", "--budget", "50"], 2, "USD/PERIOD"),
        (&["new", "x", "--words", "{\"hovers\": 1}"], 1, "hovers"),
    ] {
        let output = tollgate(&gateway, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(word), "{arguments:?}: {error}");
    }
    let offline = tollgate(&gateway, &["new", "--offline", "x"]);
    assert!(
        String::from_utf8_lossy(&offline.stderr).contains("In the configuration")
            || String::from_utf8_lossy(&offline.stderr).contains("in the configuration")
    );
}

#[tokio::test]
async fn scripts_for_litellms_proxy_work_as_they_do_there() {
    let upstream = upstream().await;
    let (gateway, _folder) = gateway(&upstream).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/keys/litellm.py");
    let (admin, data) = (format!("http://{}", gateway.admin), format!("http://{}", gateway.data));
    let output = tokio::task::spawn_blocking(move || {
        Command::new("python3").arg(script).args([&admin, &data, TOKEN, "gpt-4o-mini"]).output().expect("python3")
    });
    let output = output.await.expect("it ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
