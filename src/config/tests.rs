//! A whole file through the front door: what is accepted, and the wording of what is not.

use proptest::prelude::*;

use super::*;
use crate::config::snapshot::{AccessLog, AuthScheme, HttpVersion, StreamUsage};

mod errors;
mod models;
mod providers;
mod quotas;
mod rules;
mod store;

fn environment() -> Environment {
    Environment::of([("OPENAI_API_KEY", "sk-canary-openai"), ("CI_KEY", "canary-ci-key-0123456789"), ("EMPTY", "")])
}

fn good(text: &str) -> Snapshot {
    match load_str("c.yaml", text, &environment()) {
        Ok(checked) => checked.into_snapshot(1),
        Err(errors) => panic!("{}", show(&errors)),
    }
}

fn bad(text: &str) -> String {
    match load_str("c.yaml", text, &environment()) {
        Ok(checked) => panic!("accepted: {:?}", checked.snapshot()),
        Err(errors) => show(&errors),
    }
}

fn show(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

const SMALL: &str = "providers: {openai: {api_key: \"${OPENAI_API_KEY}\"}}\n";

/// A configuration with a bit of everything.
const RICH: &str = r#"
listen:
  - 127.0.0.1:4000
  - {address: "[::1]:4443"}
admin: {listen: 127.0.0.1:4001, token: canary-admin-token-1234}
server: {threads: 2, body_limit: 8MiB, heartbeat: 0, trusted_proxies: [10.1.2.3/8, "::1"], hosts: [LLM.example.com]}
log: {access: off, level: "tollgate=debug,warn", format: json}
timeouts: {connect: 2s, total: 1h}
providers:
  openai: {api_key: "${OPENAI_API_KEY}", timeouts: {idle: 30s}, headers: {OpenAI-Organization: canary-org}}
  local: {kind: openai, base_url: "http://127.0.0.1:11434/v1/"}
  ollama:
  azure:
    base_url: https://res.openai.azure.com
    api_key: canary-azure
    paths: {completions: off}
  gated: {kind: groq, api_key: "${GROQ_API_KEY}", required_env: [GROQ_API_KEY]}
  aws: {kind: bedrock, region: us-east-1, access_key_id: canary-id, secret_access_key: canary-aws, session_token: canary-session}
  entra: {kind: azure, base_url: "https://res.openai.azure.com", auth: {entra: {tenant: t, client_id: c, client_secret: canary-entra}}}
  own: {kind: openai, base_url: https://own.example/x, api_key: canary-own, auth: {header: X-Key}, http: 2, stream_usage: never,
        proxy: "http://u:canary@proxy.example:3128", paths: {embeddings: "/embed/{model}"}}
  pool: {kind: vllm, endpoints: [http://10.0.0.1:8000, {url: http://10.0.0.2:8000, weight: 2}], balance: hash, health: {path: /health},
         ejection: {max: 10%}, slow_start: 0, api_keys: [canary-pool-1, canary-pool-2], limits: {rpm: 600}, queue: off, breaker: off}
retry: {attempts: 4, on: [connect, 5xx]}
breaker: {rate: {percent: 30%}}
opaque: {provider: own}
models:
  smart:
    strategy: cost
    targets: [{model: openai/gpt-5.1, priority: 2, weight: 3, price: {input: 1.25, output: 10}}, dep]
    affinity: {header: x-session-id}
    hedge: p95
    fallback: {context_length: gpt}
    info: {vision: true}
  "q-*": pool/*
  gpt: openai/gpt-5
  llama: {target: local/meta/llama-3:8b, timeouts: {first_byte: 20s}}
  dep: azure/my-deployment
strict: true
keys:
  - {name: ci, key: "${CI_KEY}", models: [gpt, "dep*"], tags: {team: search, user: ada}, expires: "2030-01-01T00:00:00Z"}
  - {name: old, hash: "hmac-sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", revoked: true, opaque: true}
auth: {pepper: canary-pepper-0123456789, failures_per_minute: 5}
"#;

#[test]
fn the_smallest_configuration_has_the_documented_defaults() {
    let snapshot = good(SMALL);
    assert_eq!(snapshot.listen[0].address, "127.0.0.1:4000".parse().unwrap());
    assert_eq!(snapshot.admin.listen, Some("127.0.0.1:4001".parse().unwrap()));
    assert!(snapshot.keys.open && snapshot.keys.by_hash.is_empty());
    assert_eq!(snapshot.keys.failures_per_minute, 60);
    assert_eq!((snapshot.server.body_limit, snapshot.server.buffer_limit), (32_000_000, 512_000_000));
    assert_eq!((snapshot.server.connections, snapshot.server.connections_per_address), (20_000, 10_000));
    let seconds: Vec<u64> = [
        snapshot.server.first_byte_timeout,
        snapshot.server.header_timeout,
        snapshot.server.body_timeout,
        snapshot.server.write_timeout,
        snapshot.server.keepalive_timeout,
        snapshot.server.connection_age,
        snapshot.server.drain_timeout,
        snapshot.server.heartbeat,
    ]
    .map(|d| d.as_secs())
    .into();
    assert_eq!(seconds, [5, 10, 60, 60, 60, 3600, 300, 15]);
    assert_eq!(snapshot.log.access, AccessLog::Stdout);
    assert!(!snapshot.strict);
    let openai = &snapshot.providers["openai"];
    assert_eq!(openai.timeouts, snapshot::Timeouts::default());
    assert_eq!(openai.auth, AuthScheme::Bearer);
    assert_eq!(openai.credential_header.as_ref().unwrap().1, "Bearer sk-canary-openai");
    assert_eq!(openai.offers[0].paths.len(), 4);
    assert_eq!(snapshot.opaque.as_ref().unwrap().name.as_str(), "openai");
    assert_eq!(snapshot.generation, 1);
}

#[test]
fn a_rich_configuration_arrives_whole() {
    let snapshot = good(RICH);
    assert_eq!(snapshot.listen.len(), 2);
    assert_eq!(snapshot.server.body_limit, 8 << 20);
    assert!(snapshot.server.heartbeat.is_zero());
    let blocks: Vec<String> = snapshot.server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(blocks, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(snapshot.server.hosts, ["llm.example.com"]);
    assert_eq!(snapshot.log.access, AccessLog::Off);

    let openai = &snapshot.providers["openai"];
    let seconds = [openai.timeouts.connect, openai.timeouts.first_byte, openai.timeouts.idle, openai.timeouts.total];
    assert_eq!(seconds.map(|d| d.as_secs()), [2, 300, 30, 3600]);
    assert!(openai.headers[0].1.is_sensitive());

    let local = &snapshot.providers["local"];
    assert_eq!((&*local.kind, &local.auth, &local.credential_header), ("openai", &AuthScheme::None, &None));
    assert_eq!(&*local.base.path, "/v1");
    assert_eq!(snapshot.providers["ollama"].base.authority, "127.0.0.1:11434");

    let azure = &snapshot.providers["azure"];
    let paths: Vec<(&str, &str)> = azure.offers[0].paths.iter().map(|(o, p)| (o.name(), &**p)).collect();
    assert_eq!(
        paths,
        [
            ("chat_completions", "/openai/deployments/{model}/chat/completions"),
            ("embeddings", "/openai/deployments/{model}/embeddings"),
            ("responses", "/openai/v1/responses?api-version=preview"),
        ]
    );
    assert_eq!(azure.query.as_deref(), Some("api-version=2024-10-21"));
    let (name, value) = azure.credential_header.as_ref().unwrap();
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("api-key", "canary-azure"));
    assert!(value.is_sensitive());

    assert_eq!(snapshot.providers["gated"].missing_env, ["GROQ_API_KEY"]);
    let own = &snapshot.providers["own"];
    assert_eq!((own.http, own.stream_usage), (HttpVersion::Http2, StreamUsage::Never));
    assert_eq!(own.auth, AuthScheme::Header("x-key".parse().unwrap()));
    assert_eq!(&*own.proxy.as_ref().unwrap().host, "proxy.example");
    assert_eq!(snapshot.opaque.as_ref().unwrap().name.as_str(), "own");

    let order: Vec<&str> = snapshot.model_order.iter().map(|m| m.as_str()).collect();
    assert_eq!(order, ["smart", "gpt", "llama", "dep"]);
    let llama = &snapshot.models["llama"].targets[0];
    assert_eq!((&*llama.upstream, llama.timeouts.first_byte.as_secs()), ("meta/llama-3:8b", 20));

    let ci = &snapshot.keys.by_hash[&keys::hash(&snapshot.keys.pepper, "canary-ci-key-0123456789")];
    assert!(ci.allows_model("dep-1") && !ci.allows_model("llama") && !ci.opaque);
    assert_eq!(ci.expires.unwrap().to_string(), "2030-01-01T00:00:00Z");
    let old: [u8; 32] = std::array::from_fn(|i| i as u8);
    let old = &snapshot.keys.by_hash[&old];
    assert!(old.revoked && old.opaque && !snapshot.keys.open);
}

#[test]
fn credentials_are_chosen_in_the_order_of_the_vendors_own_programs() {
    let auth = |entry: &str, variables: &[(&str, &str)]| {
        let text = format!("providers: {{p: {entry}}}");
        let checked = load_str("c.yaml", &text, &Environment::of(variables.iter().copied())).map_err(|e| show(&e));
        let provider = checked.unwrap().into_snapshot(1).providers["p"].clone();
        (provider.auth.clone(), provider.credential.as_ref().map(|key| key.expose().to_owned()))
    };
    let bedrock = |keys: &str, token: &str| {
        auth(&format!("{{kind: bedrock, region: us-east-1{keys}}}"), &[("AWS_BEARER_TOKEN_BEDROCK", token)])
    };
    let aws = |source| (AuthScheme::Aws(snapshot::Aws { region: "us-east-1".into(), source }), None);
    let bearer = |key: &str| (AuthScheme::Bearer, Some(key.to_owned()));
    let keys = snapshot::AwsSource::Keys {
        access_key_id: Secret::new("AKIDEXAMPLE"),
        secret_access_key: Secret::new("s"),
        session_token: None,
    };
    assert_eq!(bedrock(", api_key: explicit", "environment"), bearer("explicit"));
    assert_eq!(bedrock(", access_key_id: AKIDEXAMPLE, secret_access_key: s", "environment"), aws(keys));
    assert_eq!(bedrock(", profile: work", "environment"), aws(snapshot::AwsSource::Profile("work".into())));
    assert_eq!(bedrock("", "environment\n"), bearer("environment"));
    assert_eq!(bedrock("", ""), aws(snapshot::AwsSource::Chain));
    assert_eq!(bedrock(", auth: none", "environment").0, AuthScheme::None);

    assert_eq!(auth("{kind: vertex, project: x}", &[]).0, AuthScheme::Google(snapshot::Google::Default));
    let express = auth("{kind: vertex, project: x, auth: {header: x-goog-api-key}, api_key: k}", &[]);
    assert_eq!(express, (AuthScheme::Header("x-goog-api-key".parse().unwrap()), Some("k".to_owned())));
    let entra = auth("{kind: azure, base_url: https://x.example, auth: {entra: managed_identity}}", &[]).0;
    let AuthScheme::Entra(entra) = entra else { panic!("{entra:?}") };
    assert_eq!(entra.source, snapshot::EntraSource::ManagedIdentity { client_id: None });
    assert_eq!(&*entra.scope, "https://cognitiveservices.azure.com/.default");
    let entra =
        "{entra: {tenant: t, client_id: c, federated_token_file: f, authority: https://login.microsoftonline.us/}}";
    let AuthScheme::Entra(entra) = auth(&format!("{{kind: vllm, auth: {entra}}}"), &[]).0 else { panic!() };
    let snapshot::EntraSource::Application { token_url, .. } = entra.source else { panic!() };
    assert_eq!(&*token_url, "https://login.microsoftonline.us/t/oauth2/v2.0/token");
}

#[test]
fn what_is_missing_in_the_environment_makes_a_provider_not_configured_whatever_it_is() {
    let text = r#"
providers:
  v: {kind: vertex, project: "${NOPE}", required_env: [NOPE]}
  b: {kind: bedrock, region: "${NOPE}", access_key_id: "${NOPE}", secret_access_key: "${NOPE}", required_env: [NOPE]}
  e: {kind: azure, base_url: "https://x.example", auth: {entra: {tenant: "${NOPE}", client_id: c, client_secret: "${NOPE}"}},
      required_env: [NOPE]}
"#;
    let snapshot = good(text);
    assert!(snapshot.providers.values().all(|p| p.missing_env == ["NOPE"]), "{:?}", snapshot.providers);
}

#[test]
fn what_happens_on_a_loss_is_inherited() {
    use snapshot::OnLoss;
    let models =
        "models: {a: openai/a, b: {target: openai/b, on_loss: report}, c: {target: openai/c, on_loss: refuse}}";
    let of = |snapshot: &Snapshot| (snapshot.on_loss, ["a", "b", "c"].map(|name| snapshot.models[name].on_loss));
    let report = good(&format!("{SMALL}{models}"));
    assert_eq!(of(&report), (OnLoss::Report, [OnLoss::Report, OnLoss::Report, OnLoss::Refuse]));
    let refuse = good(&format!("{SMALL}on_loss: refuse\n{models}"));
    assert_eq!(of(&refuse), (OnLoss::Refuse, [OnLoss::Refuse, OnLoss::Report, OnLoss::Refuse]));
}

#[test]
fn the_debug_form_of_a_snapshot_holds_no_secret() {
    let shown = format!("{:?}", good(RICH));
    assert!(shown.contains("own.example"));
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn json_is_accepted() {
    let json = "{\n\t\"providers\": {\"openai\": {\"api_key\": \"${OPENAI_API_KEY}\"}},\n\t\"models\": {\"a\": \"openai/b\"},\n\
                \t\"server\": {\"threads\": 3}, \"strict\": true\n}\n";
    let snapshot = good(json);
    assert_eq!((snapshot.server.threads, snapshot.strict, snapshot.models.len()), (3, true, 1));
}

#[test]
fn anchors_and_merge_keys_work() {
    let text =
        "providers:\n  a: &a {kind: vllm, timeouts: {connect: 7s}}\n  b: {<<: *a, base_url: http://127.0.0.1:9}\n";
    let snapshot = good(text);
    assert_eq!(snapshot.providers["b"].timeouts.connect.as_secs(), 7);
}

#[test]
fn admin_off_and_its_short_form() {
    assert_eq!(good(&format!("admin: off\n{SMALL}")).admin.listen, None);
    assert_eq!(good(&format!("admin: {{listen: off}}\n{SMALL}")).admin.listen, None);
    assert_eq!(good(&format!("admin: localhost:9\n{SMALL}")).admin.listen, Some("127.0.0.1:9".parse().unwrap()));
}

#[test]
fn connections_are_shared_only_by_like_providers() {
    let pool = |entry: &str| good(&format!("providers: {{p: {entry}}}")).providers["p"].pool_key;
    let base = pool("{kind: openai, base_url: https://x, api_key: a}");
    assert_eq!(base, pool("{kind: openai, base_url: https://x/other, api_key: a}"));
    for other in [
        "{kind: openai, base_url: https://x, api_key: b}",
        "{kind: openai, base_url: https://y, api_key: a}",
        "{kind: openai, base_url: http://x, api_key: a}",
        "{kind: openai, base_url: https://x, api_key: a, http: 2}",
        "{kind: openai, base_url: https://x, api_key: a, proxy: h:1}",
    ] {
        assert_ne!(base, pool(other), "{other}");
    }
}

#[test]
fn a_file_cut_at_any_byte_is_accepted_or_refused_and_never_a_panic() {
    for at in 0..RICH.len() {
        let _ = load_str("c.yaml", &RICH[..at], &environment());
    }
    // An editor that truncates before it writes must not leave a gateway without providers.
    assert!(bad("").starts_with("c.yaml:1:1: no provider is configured"));
}

#[test]
fn a_thousand_models_are_checked_in_no_time() {
    use std::fmt::Write;
    let mut text = format!("{SMALL}models:\n");
    for i in 0..1000 {
        writeln!(text, "  model-{i}: {{target: openai/gpt-{i}, timeouts: {{total: 5m}}}}").unwrap();
    }
    text.push_str("keys:\n");
    for i in 0..1000 {
        writeln!(text, "  - {{name: key-{i}, key: 0123456789-abcdef-{i}, models: [model-{i}]}}").unwrap();
    }
    let start = std::time::Instant::now();
    let snapshot = good(&text);
    let taken = start.elapsed();
    assert_eq!((snapshot.models.len(), snapshot.keys.by_hash.len()), (1000, 1000));
    // 0.2 s in a debug build; the bound is for a busy machine, and still far below anything quadratic.
    assert!(taken < std::time::Duration::from_secs(3), "{taken:?}");
}

#[test]
fn without_a_file_the_environment_gives_the_providers() {
    let key = keys::generate();
    let none = Environment::of([("PATH", "/bin"), ("OPENAI_API_KEY", " ")]);
    assert!(from_environment(&none, &key, None).unwrap().is_none());

    let some = Environment::of([
        ("GOOGLE_API_KEY", "canary-1\n"),
        ("XAI_API_KEY", "canary-2"),
        ("NVIDIA_API_KEY", "canary-3"),
    ]);
    let snapshot = from_environment(&some, &key, Some("http://127.0.0.1:11434/v1")).unwrap().unwrap().into_snapshot(1);
    let names: Vec<&str> = snapshot.providers.keys().map(|n| n.as_str()).collect();
    assert_eq!(names, ["gemini", "nvidia", "ollama", "xai"]);
    let (name, value) = snapshot.providers["gemini"].credential_header.as_ref().unwrap();
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-goog-api-key", "canary-1"));
    assert!(!snapshot.keys.open && snapshot.listen.iter().all(|l| l.address.ip().is_loopback()));
    let hash = keys::hash(&snapshot.keys.pepper, key.expose());
    assert_eq!(snapshot.keys.by_hash[&hash].name.as_str(), "default");
    assert!(!format!("{snapshot:?}").contains("canary"));

    let names = |variables: &[(&str, &str)]| -> Vec<String> {
        let checked = from_environment(&Environment::of(variables.iter().copied()), &key, None).unwrap();
        checked.map_or_else(Vec::new, |c| c.snapshot().providers.keys().map(ToString::to_string).collect())
    };
    let all = ["ANTHROPIC_API_KEY", "COHERE_API_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY"].map(|name| (name, "canary"));
    assert_eq!(names(&all), ["anthropic", "cohere", "gemini", "openai"]);
    for variable in ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"] {
        assert_eq!(names(&[("AWS_REGION", "eu-west-1"), (variable, "x")]), ["bedrock"], "{variable}");
        assert!(names(&[(variable, "x")]).is_empty(), "{variable}");
    }
    assert!(names(&[("AWS_DEFAULT_REGION", "eu-west-1"), ("AWS_PROFILE", " ")]).is_empty());

    let broken = Environment::of([("XAI_API_KEY", "canary with spaces")]);
    let errors = show(&from_environment(&broken, &key, None).unwrap_err());
    assert!(errors.starts_with("environment: providers.xai.api_key has a space"), "{errors}");
    assert!(!errors.contains("canary"));
}

#[test]
fn every_key_of_the_schema_is_described() {
    fn walk(value: &serde_json::Value, path: &str, missing: &mut Vec<String>) {
        let Some(map) = value.as_object() else { return };
        for (name, property) in map.get("properties").and_then(|p| p.as_object()).into_iter().flatten() {
            if property.get("description").is_none() {
                missing.push(format!("{path}.{name}"));
            }
        }
        for (name, below) in map {
            walk(below, &format!("{path}.{name}"), missing);
            for item in below.as_array().into_iter().flatten() {
                walk(item, &format!("{path}.{name}"), missing);
            }
        }
    }
    let mut missing = Vec::new();
    walk(&raw::schema().to_value(), "", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

/// The documented example needs these.
fn example_environment() -> Environment {
    Environment::of(
        [
            "OPENAI_API_KEY",
            "AZURE_OPENAI_API_KEY",
            "TOLLGATE_ADMIN_TOKEN",
            "CI_KEY",
            "TOLLGATE_PEPPER",
            "EVENTS_SECRET",
        ]
        .map(|name| (name, "canary-0123456789")),
    )
}

fn example(name: &str) -> (String, Snapshot) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    match load(&path, &example_environment()) {
        Ok(checked) => (text, checked.into_snapshot(1)),
        Err(errors) => panic!("{}", show(&errors)),
    }
}

#[test]
fn the_examples_load() {
    let (_, minimal) = example("minimal.yaml");
    assert!(minimal.keys.open);
    let (_, full) = example("tollgate.yaml");
    assert_eq!((full.providers.len(), full.keys.by_hash.len()), (10, 2));
    let order: Vec<&str> = full.model_order.iter().map(|m| m.as_str()).collect();
    assert_eq!(order, ["gpt-5", "best", "reasoning", "code", "fast", "vision", "embedding", "long"]);
    assert_eq!(full.wildcards.len(), 1);
    assert_eq!(full.providers["gemini"].missing_env, ["GEMINI_API_KEY"]);
}

#[test]
fn whoever_configures_a_way_to_be_let_in_is_not_open() {
    let pepper = "auth: {pepper: 0123456789abcdef}";
    let issuer = "auth: {jwt: [{issuer: \"https://login.example.com\", audience: a}]}";
    for (text, lasting) in [(pepper, true), (issuer, false)] {
        let snapshot = good(&format!("listen: 0.0.0.0:4000\n{text}\n{SMALL}"));
        assert_eq!((snapshot.keys.open, snapshot.keys.lasting), (false, lasting), "{text}");
        assert!(snapshot.keys.by_hash.is_empty());
    }
    let nobody = load_str("c.yaml", &format!("listen: 0.0.0.0:4000\nauth: {{jwt: []}}\n{SMALL}"), &environment());
    assert!(show(&nobody.unwrap_err()).contains("there are no keys"));
}

#[test]
fn an_issuer_is_read_with_its_defaults() {
    let snapshot = good(&format!("auth: {{jwt: [{{issuer: \"https://login.example.com/x\", audience: a}}]}}\n{SMALL}"));
    let issuer = &snapshot.keys.issuers[0];
    assert_eq!(
        (&*issuer.name, issuer.caller.as_str(), issuer.opaque, issuer.weight),
        ("login.example.com", "sub", true, 1)
    );
    assert_eq!(issuer.algorithms, issuer::ALGORITHMS);
    let seconds = [issuer.leeway, issuer.refresh, issuer.stale].map(|time| time.as_secs());
    assert_eq!(seconds, [60, 600, 24 * 3600]);
    assert_eq!((issuer.source.jwks.is_none(), &*issuer.source.issuer), (true, "https://login.example.com/x"));
}

#[test]
fn the_documented_defaults_are_the_real_ones() {
    let (_, full) = example("tollgate.yaml");
    let small = good(SMALL);
    assert_eq!(full.server, small.server);
    assert_eq!(full.log, small.log);
    assert_eq!(full.listen, small.listen);
    assert_eq!(full.admin.listen, small.admin.listen);
    assert_eq!(full.providers["openai"].timeouts, small.providers["openai"].timeouts);
    assert_eq!(full.keys.failures_per_minute, small.keys.failures_per_minute);
    assert_eq!(full.policy, small.policy);
    let (openai, gpus) = (&full.providers["openai"], &full.providers["gpus"]);
    assert_eq!((openai.breaker, openai.breaker), (small.providers["openai"].breaker, policy::BreakerPolicy::default()));
    let queue = |p: &snapshot::Provider| (p.admission.depth, p.admission.timeout);
    assert_eq!(queue(openai), queue(&small.providers["openai"]));
    let plain = good(
        "providers: {gpus: {kind: vllm, endpoints: [http://10.0.0.1:8000, {url: http://10.0.0.2:8000, weight: 2}], health: /health}}",
    );
    assert_eq!(gpus.pool, plain.providers["gpus"].pool);
}

#[test]
fn the_example_shows_every_option() {
    fn names(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
        if let Some(properties) = value.get("properties").and_then(|p| p.as_object()) {
            found.extend(properties.keys().cloned());
        }
        let below = value.as_object().into_iter().flat_map(|m| m.values());
        below.chain(value.as_array().into_iter().flatten()).for_each(|v| names(v, found));
    }
    let mut wanted = std::collections::BTreeSet::new();
    names(&raw::schema().to_value(), &mut wanted);
    assert!(wanted.len() > 50, "{wanted:?}");
    let (text, _) = example("tollgate.yaml");
    let missing: Vec<&String> = wanted.iter().filter(|name| !text.contains(&format!("{name}:"))).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_damaged_file_is_accepted_or_refused_and_never_a_panic(at in 0usize..4000, with in "\\PC{0,8}") {
        let at = (at % RICH.len()..).find(|i| RICH.is_char_boundary(*i)).unwrap_or(0);
        let end = (at + 3..=RICH.len()).find(|i| RICH.is_char_boundary(*i)).unwrap_or(RICH.len());
        let text = format!("{}{with}{}", &RICH[..at], &RICH[end.max(at)..]);
        let _ = load_str("c.yaml", &text, &environment());
    }

    #[test]
    fn a_value_of_the_environment_never_adds_structure(value in "\\PC{1,40}|[\\n:{}\\[\\],#&*!|>'\"%@`a ]{1,20}") {
        let environment = Environment::of([("V", value.as_str())]);
        let text = "providers: {ollama: }\nkeys: [{name: a, key: 0123456789abcdef, tags: {t: \"${V}\"}}, {name: b, key: 0123456789abcdeg, tags: {t: x${V}}}]\n";
        if let Ok(checked) = load_str("c.yaml", text, &environment) {
            let snapshot = checked.into_snapshot(1);
            prop_assert_eq!(snapshot.keys.by_hash.len(), 2);
            for key in snapshot.keys.by_hash.values() {
                let expected = if key.name.as_str() == "a" { value.clone() } else { format!("x{value}") };
                prop_assert_eq!(&*key.tags[0].1, expected.as_str());
            }
        }
    }
}
