//! A request is explained: who may send it, where it would go and how. Nothing is sent, whoever asks.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{Gateway, KEY, UPSTREAM_KEY, Upstream, client, upstream};

const NARROW: &str = "sk-narrow-0123456789abcdef";
const REVOKED: &str = "sk-revoked-0123456789abcdef";

fn config(upstream: &Upstream) -> String {
    let up = upstream.address;
    format!(
        "breaker: {{failures: 1, cooldown: 60s}}\n\
         providers:\n\
         \x20 up: {{kind: openai, base_url: \"http://{up}/v1\", api_key: {UPSTREAM_KEY}, queue: off}}\n\
         \x20 claude: {{kind: anthropic, base_url: \"http://{up}/v1\", api_key: {UPSTREAM_KEY}, queue: off}}\n\
         \x20 later: {{kind: openai, base_url: \"http://{up}/v1\", api_key: \"${{LATER_KEY}}\", required_env: [LATER_KEY]}}\n\
         models:\n\
         \x20 smart:\n\
         \x20   targets:\n\
         \x20     - {{model: claude/house-model, priority: 1, timeouts: {{connect: 2s, first_byte: 20s}}}}\n\
         \x20     - {{model: up/gpt-4o-mini, priority: 2, weight: 3, price: {{input: 2.5, output: 10}}}}\n\
         \x20     - {{model: up/blind, priority: 3, info: {{vision: false}}}}\n\
         \x20     - {{model: later/m, priority: 4}}\n\
         \x20   retry: {{attempts: 2, on: [connect, 429, 5xx]}}\n\
         \x20   hedge: {{after: p95}}\n\
         \x20   fallback: {{context_length: small}}\n\
         \x20 strictly: {{targets: [claude/house-model], on_loss: refuse}}\n\
         \x20 small: up/sim-fast\n\
         \x20 \"wild-*\": up/gpt-*\n\
         routes:\n\
         \x20 - {{name: broken-rule, when: \"request.headers['x-none'] == 'x'\", model: small}}\n\
         \x20 - {{name: to-small, match: {{header: {{x-size: small}}}}, model: small}}\n\
         keys:\n\
         \x20 - {{name: full, key: {KEY}}}\n\
         \x20 - {{name: narrow, key: {NARROW}, models: [small]}}\n\
         \x20 - {{name: gone, key: {REVOKED}, revoked: true}}\n"
    )
}

fn request(model: &str) -> Value {
    let image = json!({ "type": "image_url", "image_url": { "url": "https://e.example/x.png" } });
    let text = json!({ "type": "text", "text": "What is in the picture of the CANARY?" });
    json!({
        "model": model, "max_tokens": 1000, "seed": 7,
        "messages": [{ "role": "user", "content": [text, image] }],
    })
}

async fn live(gateway: &Gateway, envelope: &Value) -> Value {
    let asked = client().post(format!("http://{}/api/explain", gateway.admin)).json(envelope);
    let answer = asked.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("JSON")
}

/// The command, with the request in a file.
fn cli(gateway: &Gateway, request: &Value, options: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("request.json");
    std::fs::write(&file, request.to_string()).expect("a file");
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["explain", "-c"])
        .arg(gateway.config_path())
        .args(options)
        .arg(file)
        .env_clear()
        .output()
        .expect("the program")
}

fn told(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// What does not depend on who was asked.
fn timeless(mut told: Value) -> Value {
    for member in ["live", "generation"] {
        told[member] = Value::Null;
    }
    for target in told["targets"].as_array_mut().into_iter().flatten() {
        target["gauge"] = Value::Null;
    }
    told
}

#[tokio::test]
async fn a_plan_is_told_in_its_order_with_what_is_lost_and_who_is_passed_over() {
    let upstream = upstream().await;
    let gateway = Gateway::start(&config(&upstream), &[]).await;
    let told = live(&gateway, &json!({ "request": request("smart"), "key": "full" })).await;
    assert_eq!(
        (&told["live"], &told["generation"], &told["path"], &told["path_guessed"], &told["operation"]),
        (&json!(true), &json!(1), &json!("/v1/chat/completions"), &json!(true), &json!("chat_completions"))
    );
    assert_eq!(
        (&told["key"], &told["model"], &told["used_model"], &told["error"], &told["max_output_tokens"]),
        (&json!("full"), &json!("smart"), &json!("smart"), &Value::Null, &json!(1000))
    );
    let [first, second] = told["targets"].as_array().expect("a list").as_slice() else { panic!("{told:#}") };
    assert_eq!(
        (&first["provider"], &first["model"], &first["lane"], &first["operation"], &first["dialect"], &first["path"]),
        (
            &json!("claude"),
            &json!("house-model"),
            &json!("bridge"),
            &json!("messages"),
            &json!("anthropic"),
            &json!("/v1/messages")
        )
    );
    assert_eq!((&first["losses"], &first["losses_count"]), (&json!([{ "path": "seed", "how": "dropped" }]), &json!(1)));
    assert_eq!((&first["cost"], &first["priority"]), (&Value::Null, &json!(1)));
    assert_eq!((&first["timeouts_ms"]["connect"], &first["timeouts_ms"]["first_byte"]), (&json!(2000), &json!(20_000)));
    assert_eq!(
        (&second["provider"], &second["lane"], &second["path"], &second["weight"], &second["losses"]),
        (&json!("up"), &json!("splice"), &json!("/v1/chat/completions"), &json!(3), &json!([]))
    );
    // 2.5 and 10 USD a million
    let input = told["input_tokens"].as_f64().expect("a number");
    assert!((765.0..800.0).contains(&input), "{input}: an image, and a few words");
    let usd = second["cost"]["usd"].as_f64().expect("a number");
    assert!((usd - (input * 2.5 + 1000.0 * 10.0) / 1e6).abs() < 1e-9, "{usd}");
    assert_eq!(second["cost"]["output_tokens"], 1000);
    let free = json!({
        "in_flight": 0, "breaker": "closed", "refused_for_ms": null, "wait_ms": 0, "first_token_ms": null, "rate_left": null,
    });
    assert_eq!(first["gauge"], free);
    assert_eq!(
        told["passed_over"],
        json!([
            { "target": "up/blind", "why": "has no image input" },
            { "target": "later/m", "why": "not configured: LATER_KEY unset" },
        ])
    );
    let policy = &told["policy"];
    assert_eq!(
        (&policy["attempts"], &policy["retry_on"], &policy["hedge_after"], &policy["fallback_context_length"]),
        (&json!(2), &json!(["connect", "429", "5xx"]), &json!("p95"), &json!("small"))
    );
    assert_eq!(told["unclear_rules"][0]["rule"], "broken-rule");
    let text = told.to_string();
    for foreign in ["CANARY", UPSTREAM_KEY, KEY, "127.0.0.1"] {
        assert!(!text.contains(foreign), "{foreign} in {text}");
    }
    assert!(upstream.record().calls().is_empty(), "nothing was sent");
    assert!(gateway.log().is_empty(), "and nothing counted");
    assert_eq!(gateway.metric("tollgate_breaker_state", &[]).await, 0.0);
}

#[tokio::test]
async fn the_command_without_a_gateway_says_the_same_as_the_running_one() {
    let upstream = upstream().await;
    let gateway = Gateway::start(&config(&upstream), &[]).await;
    let gemini = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] });
    let envelopes = [
        json!({ "request": request("smart"), "key": "full" }),
        json!({ "request": request("smart"), "key": "narrow" }),
        json!({ "request": request("smart"), "key": "gone" }),
        json!({ "request": request("smart"), "headers": { "x-size": "small", "x-stainless-timeout": "30" } }),
        json!({ "request": request("wild-5") }),
        json!({ "request": request("strictly") }),
        json!({ "request": request("smrat") }),
        json!({ "request": { "model": 7, "messages": [] } }),
        json!({ "request": { "model": "small", "input": "x" }, "path": "/v1/embeddings" }),
        json!({ "request": { "model": "smart", "messages": [] }, "path": "/v1/messages/count_tokens" }),
        json!({ "request": gemini, "path": "/v1beta/models/smart:streamGenerateContent?alt=sse" }),
        json!({ "request": {}, "path": "/v1/files" }),
        json!({ "request": {}, "path": "/v1/nonsense" }),
    ];
    for envelope in &envelopes {
        let running = live(&gateway, envelope).await;
        let offline = cli(&gateway, envelope, &["--format", "json"]);
        let code = offline.status.code();
        let alone = told(&offline);
        assert_eq!((&alone["live"], &alone["generation"]), (&json!(false), &Value::Null));
        assert_eq!(code, Some(i32::from(!alone["error"].is_null())), "{alone:#}");
        assert_eq!(timeless(alone), timeless(running.clone()), "{envelope}");
        let asked = cli(&gateway, envelope, &["--format", "json", "--live"]);
        assert_eq!((told(&asked), asked.status.code()), (running, code), "{envelope}");
        let table = cli(&gateway, envelope, &[]);
        let text = String::from_utf8_lossy(&table.stdout).into_owned();
        assert!(text.lines().all(|line| line.chars().count() <= 100) && text.contains("Nothing was sent"), "{text}");
        assert_eq!(table.status.code(), code);
    }
    assert!(upstream.record().calls().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn what_a_client_would_be_refused_is_told_in_its_own_words() {
    let upstream = upstream().await;
    let gateway = Gateway::start(&config(&upstream), &[]).await;
    let client = client();
    // the refusal of a real call, and its explanation
    let anthropic = json!({ "model": "smart", "max_tokens": 5, "messages": [{ "role": "user", "content": "hi" }] });
    for (key, name, path, body) in [
        (NARROW, "narrow", "/v1/chat/completions", request("smart")),
        (NARROW, "narrow", "/v1/messages", anthropic),
        (REVOKED, "gone", "/v1/chat/completions", request("small")),
        (KEY, "full", "/v1/chat/completions", request("smrat")),
        (KEY, "full", "/v1/chat/completions", request("strictly")),
        (KEY, "full", "/v1/chat/completions", json!({ "model": "small", "stream": 1, "messages": [] })),
        (KEY, "full", "/v1/rerank", json!({ "model": "small", "query": "q", "documents": ["d"] })),
    ] {
        let answer = client.post(gateway.url(path)).bearer_auth(key).json(&body).send().await.expect("an answer");
        let status = answer.status().as_u16();
        let real: Value = answer.json().await.expect("JSON");
        let told = live(&gateway, &json!({ "request": body, "key": name, "path": path })).await;
        assert!(status >= 400, "{real}");
        assert_eq!((&told["error"]["status"], &told["error"]["body"]), (&json!(status), &real), "{told:#}");
    }
    assert!(upstream.record().calls().is_empty(), "nothing was sent");
    let narrow = live(&gateway, &json!({ "request": request("smart"), "key": "narrow" })).await;
    assert_eq!((&narrow["error"]["kind"], &narrow["targets"]), (&json!("forbidden"), &json!([])));

    // a question that nobody understands is another matter
    for (envelope, said) in [
        (json!({ "request": request("smart"), "key": "nobody" }), "no key named"),
        (json!({ "request": { "contents": [] } }), "name it"),
        (json!({ "request": {}, "headers": { "a b": "c" } }), "no name of a header"),
        (json!({ "request": {}, "kye": "full" }), "kye"),
    ] {
        let asked = client.post(format!("http://{}/api/explain", gateway.admin)).json(&envelope);
        let answer = asked.send().await.expect("an answer");
        assert_eq!(answer.status(), 400);
        let problem: Value = answer.json().await.expect("JSON");
        assert!(problem["error"].as_str().is_some_and(|error| error.contains(said)), "{problem}");
        for options in [&[][..], &["--live"]] {
            let output = cli(&gateway, &envelope, options);
            assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true));
            assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
        }
    }
}

#[tokio::test]
async fn rules_wildcards_and_options_of_the_command_are_seen() {
    let upstream = upstream().await;
    let gateway = Gateway::start(&config(&upstream), &[]).await;
    let json =
        |request: &Value, options: &[&str]| told(&cli(&gateway, request, &[&["--format", "json"], options].concat()));
    let ruled = json(&request("smart"), &["-H", "X-Size: small", "-k", "full"]);
    assert_eq!(
        (&ruled["model"], &ruled["used_model"], &ruled["rules"], &ruled["targets"][0]["model"]),
        (&json!("smart"), &json!("small"), &json!(["to-small"]), &json!("sim-fast"))
    );
    let wild = json(&request("wild-5"), &[]);
    assert_eq!((&wild["used_model"], &wild["targets"][0]["model"]), (&json!("wild-5"), &json!("gpt-5")));
    assert_eq!((&wild["key"], &wild["error"]), (&Value::Null, &Value::Null));
    // the options count more than the envelope
    let envelope = json!({ "request": request("smart"), "key": "narrow", "path": "/v1/nonsense" });
    let over = json(&envelope, &["-k", "full", "--path", "/v1/chat/completions"]);
    assert_eq!((&over["key"], &over["error"], &over["path_guessed"]), (&json!("full"), &Value::Null, &json!(false)));
    let text = String::from_utf8_lossy(&cli(&gateway, &request("smart"), &["-k", "full"]).stdout).into_owned();
    for part in [
        "1. claude/house-model",
        "dropped: seed",
        "2. up/gpt-4o-mini",
        "passed over: up/blind: has no image input",
        "unclear   rule broken-rule",
        "2 at most, after connect, 429, 5xx",
        "a second target is asked after p95",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn the_running_gateway_tells_of_a_breaker_that_the_file_cannot_know() {
    let upstream = upstream().await;
    let gateway = Gateway::start(&config(&upstream).replace("claude/house-model", "claude/sim-500"), &[]).await;
    let answer = gateway.chat(&client(), "smart", false).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "the second target answered");
    let sent = upstream.record().calls().len();
    let body = json!({ "model": "smart", "messages": [{ "role": "user", "content": "hi" }] });
    let models = |told: &Value| -> Vec<String> {
        let targets = told["targets"].as_array().expect("a list").iter();
        targets.filter_map(|target| target["model"].as_str().map(str::to_owned)).collect()
    };
    let alone = told(&cli(&gateway, &body, &["--format", "json"]));
    assert_eq!(models(&alone), ["sim-500", "gpt-4o-mini", "blind"]);
    let running = told(&cli(&gateway, &body, &["--format", "json", "--live"]));
    assert_eq!(models(&running), ["gpt-4o-mini", "blind", "sim-500"], "it stands behind the others");
    let gauge = &running["targets"][2]["gauge"];
    assert_eq!(gauge["breaker"], "open");
    assert!(gauge["refused_for_ms"].as_u64().is_some_and(|ms| (1..=60_000).contains(&ms)), "{gauge}");
    assert!(running["targets"][0]["gauge"]["first_token_ms"].is_u64());
    assert_eq!(upstream.record().calls().len(), sent, "nothing was sent");
}
