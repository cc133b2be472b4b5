//! What operators and keys are told of the gateway's state: at the admin port, at the data port, at the command line, as gauges and in the log.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tollgate::simulator::Reply;

use crate::support::{Gateway, KEY, UPSTREAM_KEY, Upstream, client, eventually, free_port, upstream};

const TOKEN: &str = "admin-token-0123456789";
const NARROW: &str = "sk-narrow-0123456789abcdef";
const OPENAI_ONLY: &str = "sk-openai-only-0123456789";

/// One that leaks credentials in its refusals, one that is not set up, a pool with a dead endpoint, one nobody asks.
fn config(upstream: &Upstream) -> String {
    let (up, dead) = (upstream.address, free_port());
    format!(
        "admin: {{listen: \"ADMIN\", token: {TOKEN}}}\n\
         breaker: {{failures: 2, cooldown: 60s}}\nretry: {{attempts: 1}}\n\
         providers:\n\
         \x20 up: {{kind: openai, base_url: \"http://{up}/v1\", api_key: {UPSTREAM_KEY}, queue: off}}\n\
         \x20 later: {{kind: openai, base_url: \"http://{up}/v1\", api_key: \"${{LATER_KEY}}\", required_env: [LATER_KEY]}}\n\
         \x20 pool: {{kind: openai, endpoints: [\"http://{up}/v1\", \"http://127.0.0.1:{dead}/v1\"], api_key: {UPSTREAM_KEY},\n\
         \x20   health: {{path: /health, interval: 50ms, unhealthy: 1}}}}\n\
         \x20 quiet: {{kind: openai, base_url: \"http://{up}/v1\", api_keys: [quiet-key-1, quiet-key-2]}}\n\
         models:\n\
         \x20 leaky: up/sim-401\n\
         \x20 good: up/gpt-4o-mini\n\
         \x20 pooled: pool/gpt-4o-mini\n\
         \x20 unset: later/gpt-4o\n\
         \x20 both: {{targets: [up/sim-401, up/gpt-4o-mini]}}\n\
         \x20 unasked: quiet/m\n\
         keys:\n\
         \x20 - {{name: test, key: {KEY}}}\n\
         \x20 - {{name: narrow, key: {NARROW}, models: [good, both]}}\n\
         \x20 - {{name: openai-only, key: {OPENAI_ONLY}, models: [\"quiet/*\"]}}\n"
    )
}

/// With a breaker that has opened, and a model that only a client has named.
async fn troubled(upstream: &Upstream) -> Gateway {
    upstream.simulator.replies_at("/health", [Reply::json(http::StatusCode::OK, &json!({}))]);
    let gateway = Gateway::start(&config(upstream), &[]).await;
    let client = client();
    for model in ["leaky", "leaky", "good", "up/unlisted"] {
        let answer = gateway.chat(&client, model, false).send().await.expect("an answer");
        answer.bytes().await.expect("whole");
    }
    eventually("one endpoint is well and the other is not", || async {
        let told = status(&gateway).await.to_string();
        told.contains("\"unhealthy\"") && told.contains("\"healthy\"")
    })
    .await;
    gateway
}

async fn status(gateway: &Gateway) -> Value {
    let request = client().get(format!("http://{}/api/status", gateway.admin)).bearer_auth(TOKEN);
    request.send().await.expect("an answer").json().await.expect("JSON")
}

async fn of_key(gateway: &Gateway, key: &str) -> Value {
    let request = client().get(gateway.url("/api/v1/status")).bearer_auth(key);
    request.send().await.expect("an answer").json().await.expect("JSON")
}

fn provider<'v>(status: &'v Value, name: &str) -> &'v Value {
    let providers = status["providers"].as_array().expect("a list");
    providers.iter().find(|provider| provider["name"] == name).unwrap_or_else(|| panic!("{name}: {status}"))
}

fn target<'v>(status: &'v Value, of: &str, model: &str) -> &'v Value {
    let targets = provider(status, of)["targets"].as_array().expect("a list");
    targets.iter().find(|target| target["model"] == model).unwrap_or_else(|| panic!("{of}/{model}: {status}"))
}

fn tollgate(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the program")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn status_shows_who_fails_and_why_and_who_was_never_asked() {
    let upstream = upstream().await;
    let gateway = troubled(&upstream).await;
    let told = status(&gateway).await;
    assert_eq!(
        (&told["state"], &told["version"], &told["generation"], &told["in_flight"]),
        (&json!("ready"), &json!(env!("CARGO_PKG_VERSION")), &json!(1), &json!(0))
    );
    assert!(told["uptime_s"].as_u64().is_some_and(|s| s < 60) && told["loaded_at"].is_string(), "{told}");
    let names: Vec<&Value> = told["providers"].as_array().expect("a list").iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["later", "pool", "quiet", "up"]);

    let leaky = target(&told, "up", "sim-401");
    assert_eq!(leaky["breaker"]["state"], "open");
    assert!(leaky["breaker"]["reopens_in_ms"].as_u64().is_some_and(|ms| (1..=60_000).contains(&ms)), "{leaky}");
    assert_eq!(
        (&leaky["calls"], &leaky["failures"], &leaky["error_rate"], &leaky["listed"], &leaky["in_flight"]),
        (&json!(2), &json!(2), &json!(1.0), &json!(true), &json!(0))
    );
    assert_eq!(leaky["last_error"]["what"], "status 401 (auth)");
    let at: jiff::Timestamp = leaky["last_error"]["at"].as_str().and_then(|t| t.parse().ok()).expect("RFC 3339");
    assert!((jiff::Timestamp::now().as_second() - at.as_second()).abs() < 60);

    let good = target(&told, "up", "gpt-4o-mini");
    assert_eq!(
        (&good["breaker"], &good["calls"], &good["failures"], &good["last_error"]),
        (&json!({ "state": "closed", "reopens_in_ms": null }), &json!(1), &json!(0), &Value::Null)
    );
    assert!(good["first_token_ms"]["mean"].is_u64(), "{good}");
    assert_eq!(good["rate_limit"]["waiting"], 0);
    assert_eq!(target(&told, "up", "unlisted")["listed"], false);

    let later = provider(&told, "later");
    assert_eq!((&later["configured"], &later["missing_env"]), (&json!(false), &json!(["LATER_KEY"])));
    let quiet = provider(&told, "quiet");
    let accounts: Vec<(&Value, &Value)> =
        quiet["targets"].as_array().expect("a list").iter().map(|t| (&t["account"], &t["calls"])).collect();
    assert_eq!((&quiet["accounts"], accounts), (&json!(2), vec![(&json!(0), &json!(0)), (&json!(1), &json!(0))]));

    let states: Vec<&Value> = provider(&told, "pool")["endpoints"].as_array().expect("a list").iter().collect();
    let of: Vec<&Value> = states.iter().map(|endpoint| &endpoint["state"]).collect();
    assert_eq!(of, ["healthy", "unhealthy"]);
    assert_eq!(states[0]["endpoint"], upstream.address.to_string());
    assert!(states[1]["last_error"]["what"].is_string());

    let text = told.to_string();
    for secret in [UPSTREAM_KEY, KEY, TOKEN, "quiet-key"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let refused = client().get(format!("http://{}/api/status", gateway.admin)).send().await.expect("an answer");
    assert_eq!(refused.status(), 401);
}

#[tokio::test]
async fn a_breaker_that_opens_has_its_line_in_the_log() {
    let upstream = upstream().await;
    let gateway = troubled(&upstream).await;
    let opened: Vec<Value> = gateway
        .stderr()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["fields"]["message"].as_str().is_some_and(|m| m.starts_with("breaker opened")))
        .collect();
    let [line] = opened.as_slice() else { panic!("one line: {opened:?}") };
    assert_eq!(line["level"], "WARN");
    assert_eq!(
        line["fields"],
        json!({
            "message": "breaker opened: the target is left alone", "provider": "up", "account": 0, "model": "sim-401",
            "cooldown_ms": 60_000, "error": "status 401 (auth)",
        })
    );
}

#[tokio::test]
async fn a_key_is_told_of_what_it_may_use_and_of_nothing_else() {
    let upstream = upstream().await;
    let gateway = troubled(&upstream).await;
    let model = |name: &str, health: &str, providers: &[&str]| json!({ "name": name, "health": health, "providers": providers });
    let shown = |told: &Value| -> Vec<Value> {
        let models = told["models"].as_array().expect("a list").iter();
        models.map(|m| json!({ "name": m["name"], "health": m["health"], "providers": m["providers"] })).collect()
    };
    let told = of_key(&gateway, NARROW).await;
    assert_eq!(shown(&told), [model("good", "up", &["up"]), model("both", "degraded", &["up"])]);
    assert_eq!((&told["key"], &told["state"]), (&json!("narrow"), &json!("ready")));
    assert_eq!(told["providers"], json!([{ "name": "up", "health": "degraded" }]));
    let text = told.to_string();
    for foreign in
        ["leaky", "sim-401", "pool", "later", "quiet", "test", "status 401", "LATER_KEY", "calls", "127.0.0.1"]
    {
        assert!(!text.contains(foreign), "{foreign} in {text}");
    }
    let told = of_key(&gateway, OPENAI_ONLY).await;
    assert_eq!((shown(&told), &told["providers"]), (vec![], &json!([{ "name": "quiet", "health": "up" }])));

    let told = of_key(&gateway, KEY).await;
    let health: Vec<(&str, &str)> = told["models"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|m| Some((m["name"].as_str()?, m["health"].as_str()?)))
        .collect();
    assert_eq!(
        health,
        [
            ("leaky", "down"),
            ("good", "up"),
            ("pooled", "up"),
            ("unset", "not_configured"),
            ("both", "degraded"),
            ("unasked", "up")
        ]
    );
    let leaky = &told["models"][0];
    assert!(leaky["retry_after_ms"].as_u64().is_some_and(|ms| (1..=60_000).contains(&ms)), "{leaky}");
    let nobody = client().get(gateway.url("/api/v1/status")).send().await.expect("an answer");
    assert_eq!(nobody.status(), 401);
    let log = gateway.log_of(8).await;
    assert!(log.iter().any(|line| line["route"] == "status" && line["lane"] == "local" && line["key"] == "narrow"));
}

#[tokio::test]
async fn the_command_line_finds_the_running_gateway_through_its_file() {
    let upstream = upstream().await;
    let gateway = troubled(&upstream).await;
    let path = gateway.config_path().display().to_string();
    let shown = tollgate(&["status", "-c", &path, "--format", "json"], &[]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let told: Value = serde_json::from_str(&out(&shown)).expect("JSON");
    assert_eq!(target(&told, "up", "sim-401")["breaker"]["state"], "open", "though LATER_KEY is unset here, too");

    let shown = tollgate(&["status", "-c", &path], &[]);
    let text = out(&shown);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour where nobody sees it");
    let line = |start: &str| {
        let found = text.lines().find(|line| line.trim_start().starts_with(start));
        found.unwrap_or_else(|| panic!("{start}: {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(line("sim-401").starts_with("sim-401 open "), "{text}");
    assert!(line("sim-401").contains(" s 2 2 100%"), "{text}");
    assert!(
        text.contains("status 401 (auth)") && text.contains("later (openai): not configured, LATER_KEY unset"),
        "{text}"
    );
    assert!(text.contains("  2 targets never asked"), "{text}");
    assert!(!text.contains(UPSTREAM_KEY));
    let all = out(&tollgate(&["status", "-c", &path, "--all"], &[]));
    assert!(all.contains("  m #0") && all.contains("  m #1"), "{all}");

    // another token than the running one, nobody there, no admin port at all
    let folder = tempfile::tempdir().expect("a folder");
    let other = |name: &str, yaml: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, yaml).expect("a file");
        path.display().to_string()
    };
    let wrong = other("wrong.yaml", format!("admin: {{listen: \"{}\", token: another-token-0123}}\n", gateway.admin));
    let gone = other("gone.yaml", format!("admin: \"127.0.0.1:{}\"\n", free_port()));
    let off = other("off.yaml", "admin: off\n".to_owned());
    for (path, said) in [(&wrong, "token"), (&gone, "no gateway could be asked"), (&off, "off")] {
        let shown = tollgate(&["status", "-c", path], &[]);
        let err = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert_eq!(shown.status.code(), Some(3), "{path}: {err}");
        assert!(err.contains(said) && out(&shown).is_empty(), "{path}: {err}");
    }
    let broken = other("broken.yaml", "admin: {listen: nonsense}\n".to_owned());
    assert_eq!(tollgate(&["status", "-c", &broken], &[]).status.code(), Some(1));
    // the token may come from the environment
    let from = other(
        "env.yaml",
        format!("admin: {{listen: \"{}\", token: \"${{THE_TOKEN}}\"}}\nproviders: 7\n", gateway.admin),
    );
    assert!(tollgate(&["status", "-c", &from], &[("THE_TOKEN", TOKEN)]).status.success());
}

#[tokio::test]
async fn gauges_follow_the_targets_and_go_with_them() {
    let upstream = upstream().await;
    let gateway = troubled(&upstream).await;
    let state = async |model: &str| -> Vec<f64> {
        let text = gateway.metrics().await;
        let lines = text.lines().filter(|line| line.starts_with("tollgate_breaker_state{"));
        let model = format!("gen_ai_request_model=\"{model}\"");
        lines.filter(|line| line.contains(&model)).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
    };
    assert_eq!((state("sim-401").await, state("gpt-4o-mini").await), (vec![2.0], vec![0.0]));
    assert_eq!((state("other").await, state("unlisted").await), (vec![0.0], vec![]), "a client's word is no label");
    let name = format!("endpoint=\"{}\"", upstream.address);
    assert_eq!(gateway.metric("tollgate_endpoint_up", &["pool", &name]).await, 1.0);
    let endpoints = gateway.metrics().await;
    let endpoints: Vec<&str> = endpoints.lines().filter(|line| line.starts_with("tollgate_endpoint_up{")).collect();
    assert!(endpoints.len() == 2 && endpoints.iter().any(|line| line.ends_with(" 0")), "{endpoints:?}");

    // a call under way is seen
    let hanging = gateway.chat(&client(), "up/sim-hang", false).timeout(std::time::Duration::from_secs(20));
    let hanging = tokio::spawn(hanging.send());
    eventually("it is in flight", || async {
        gateway.metric("tollgate_target_in_flight", &["\"up\"", "\"other\""]).await == 1.0
    })
    .await;
    hanging.abort();

    // no target of the configuration any more, but still open for those who type its name
    let change = async |from: &str, to: &str| {
        let text = std::fs::read_to_string(gateway.config_path()).expect("the configuration");
        assert!(text.contains(from));
        std::fs::write(gateway.config_path(), text.replace(from, to)).expect("the configuration");
        let request = client().post(format!("http://{}/api/config/reload", gateway.admin)).bearer_auth(TOKEN);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap_or_default());
    };
    change("sim-401", "sim-404").await;
    assert_eq!((state("sim-401").await, state("other").await), (vec![], vec![2.0]));
    // another credential: nothing that was known of the old one counts
    change(&format!("api_key: {UPSTREAM_KEY}, queue"), "api_key: another-upstream-key, queue").await;
    eventually("the old ones are forgotten", || async {
        gateway.metric("tollgate_breaker_state", &["\"up\""]).await == 0.0 && state("gpt-4o-mini").await.is_empty()
    })
    .await;
    let told = status(&gateway).await;
    assert_eq!(target(&told, "up", "gpt-4o-mini")["calls"], 0);
}
