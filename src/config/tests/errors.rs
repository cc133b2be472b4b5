//! Each class of fault, word for word: the reviewed list is the snapshot beside this file.

use std::fmt::Write;

use super::*;

/// A small good configuration under the text; lines count from the text's own.
fn with(text: &str) -> String {
    format!("{text}\n{SMALL}")
}

fn provider(entry: &str) -> String {
    format!("providers: {{p: {entry}}}")
}

fn key(entry: &str) -> String {
    with(&format!("keys: [{entry}]"))
}

fn bare(text: &str) -> String {
    text.to_owned()
}

#[test]
fn every_fault_says_where_it_is_what_is_wrong_and_what_to_write() {
    let cases = [
        with("modles: {}"),
        with("xyzzy: 1"),
        with("mcp: {}"),
        key("{name: k, key: canary-0123456789, limits: {}, budget: {usd: much, per: year}, caps: {tokens: 0}}"),
        key("{name: k, key: canary-0123456789, limits: {tpm: 1, burst: 5}, budget: [{usd: 1}, {per: day}]}"),
        key("{name: k, key: canary-0123456789, budget: [{usd: 1, per: day}, {usd: 2, per: day, zone: Berlin/Europe}]}"),
        key(
            "{name: k, key: canary-0123456789, budget: {usd: 1, per: {rolling: 5m}, zone: Europe/Berlin, soft: [0, 80], allowance: lots}}",
        ),
        with("limits: [{match: {model: \"a b\", provider: opnai, \"te am\": x}, rpm: 1}, {rpm: 0}]"),
        with(
            "budgets: [{usd: 1, per: day}, {match: {team: a}, usd: 1, per: week, on_outage: maybe}, {usd: 2, per: day}]",
        ),
        bare("providers: {openai: {api_key: x, apikey: y, region: eu}}"),
        bare("models: {m: {targets: [], strategy: cost}}\nproviders: {ollama: }"),
        bare("- a\n- b\n"),
        bare("just a text"),
        with("server: {threads: many, body_limit: 5 potatoes, header_timeout: 30, connections: 0, heartbeat: [1]}"),
        with("server: 7"),
        bare("providers: {openai: sk-canary}"),
        with("keys: [sk-canary]"),
        with("strict: maybe"),
        with("log: {format: xml, level: \"a=b=c\"}"),
        with("listen: {adress: 127.0.0.1:1}"),
        with("listen: 0.0.0.0:4000"),
        with("listen: 4000"),
        with("listen: [\"example.com:80\", 127.0.0.1:1, 127.0.0.1:1]"),
        with("listen: []"),
        with("admin: {listen: 0.0.0.0:4001}"),
        with("admin: {token: short}"),
        with("admin: {listen: 127.0.0.1:4000}"),
        with("listen: {address: 127.0.0.1:1, tls: {cert: nowhere.pem}}"),
        with("server: {body_timeout: 0, body_limit: 1GB, trusted_proxies: [ten], hosts: [\"http://x\"]}"),
        with("timeouts: {total: 0s}"),
        bare("providers: {openai: }"),
        bare("providers: {opnai: {api_key: x}}"),
        bare("providers: {mine: {api_key: x}}"),
        bare("providers: {anthropic: }"),
        bare("providers: {azure: {api_key: x}}"),
        bare("providers: {bedrock: , vertex: }"),
        provider("{kind: bedrock, region: \"eu west\", api_key: canary, profile: b}"),
        provider("{kind: bedrock, region: eu-west-1, secret_access_key: canary, session_token: canary}"),
        provider("{kind: bedrock, region: eu-west-1, access_key_id: canary}"),
        provider("{kind: bedrock, region: eu-west-1, auth: none, profile: b}"),
        provider("{kind: vllm, region: x, profile: y, project: z, credentials: c}"),
        provider("{kind: vertex, project: p, api_key: canary, credentials: nowhere.json}"),
        provider("{kind: vertex, project: \"a/b\", location: \"-\"}"),
        provider("{kind: vllm, auth: {}}"),
        provider("{kind: vllm, auth: {entra: {tenant: \"a b\", client_id: c}}}"),
        provider("{kind: vllm, auth: {entra: somebody}}"),
        provider("{kind: vllm, auth: {entra: managed_identity, header: x}}"),
        provider("{kind: vllm, auth: {entra: {identity: managed_identity, tenant: t}}, api_key: canary}"),
        provider("{kind: vllm, auth: {entra: {tenant: t, client_id: c, client_secret: canary, authority: x}}}"),
        provider("{kind: vllm, bridge: [chat, embeddings], betas: [\"a,b\"], manners: {vertex: perhaps}}"),
        with("on_loss: ignore\nmodels: {m: {target: openai/x, on_loss: maybe}}"),
        bare("providers: {\"a b\": {kind: vllm}}"),
        provider("{kind: opnai}"),
        provider("{kind: somethingelse}"),
        provider("{kind: vllm, base_url: 127.0.0.1}"),
        provider("{kind: vllm, base_url: \"https://u:canary@h\"}"),
        provider("{kind: vllm, headers: {\"a b\": x, host: y, ok: \"a\\nb\"}}"),
        provider("{kind: vllm, api_key: \"a b\"}"),
        provider("{kind: vllm, api_key: a, auth: none}"),
        provider("{kind: vllm, auth: basic}"),
        provider("{kind: vllm, auth: bearer}"),
        provider("{kind: vllm, http: 3, stream_usage: sometimes}"),
        provider("{kind: vllm, paths: {chat: /x, embeddings: x}}"),
        provider("{kind: vllm, api_version: x}"),
        provider("{kind: vllm, proxy: \"socks5://canary:1\"}"),
        provider("{kind: vllm, ca: nowhere.pem}"),
        provider("{kind: vllm, api_key: a, headers: {Authorization: b}}"),
        with("models: {m: gpt-5, n: opnai/gpt, \"o p\": openai/x, q: \"openai/a b\"}"),
        with(
            "models: {m: {}, n: {target: openai/x, targets: [openai/x]}, o: {targets: []}, p: {targets: [{priority: 1}]}}",
        ),
        with(
            "models: {m: {target: openai/x, strategy: priorty, affinity: prefx, on_loss: maybe, hedge: p59, continue: perhaps}}",
        ),
        with("models: {m: {targets: [openai/x, {model: openai/y, weight: -1, priority: 0}, openai/x]}}"),
        with("models: {m: {targets: [{model: openai/x, weight: 0}, {model: openai/y, weight: 0}]}}"),
        with("models: {smart: openai/x, m: smrt, n: nowhere, o: {targets: [opnai/x, smart]}}"),
        with("models: {a: b, b: {targets: [openai/x, c]}, c: a, d: d, e: a}"),
        with(
            "models: {\"a*b*\": openai/x, \"a *\": openai/x, b: openai/*, c: \"d-*\", \"d-*\": openai/*, \"e-*\": openai/*-*}",
        ),
        with("models: {m: {target: openai/x, fallback: {context_length: lnog, content_filter: m}}, long: openai/y}"),
        with(
            "models: {m: {target: openai/x, fallback: {context_length: n}}, n: {target: openai/y, fallback: {context_length: m}}}",
        ),
        with("models: {\"g-*\": {target: openai/*, fallback: {context_length: g-long, content_filter: \"g-*\"}}}"),
        with(
            "strict: true\nmodels: {m: {target: openai/x, fallback: {context_length: openai/y, content_filter: nobody/z}}}",
        ),
        with(
            "models: {m: {target: openai/x, affinity: {header: \"a b\"}, hedge: 0s, timeouts: {tls: 0}}, n: {target: openai/x, affinity: {heder: x}}}",
        ),
        with(
            "models: {m: {target: openai/x, price: {input: -1, cached_input: 0.0000001, output: 1e3}}, n: {target: openai/x, price: {input: 1}}}",
        ),
        with("models: {m: {target: openai/x, info: {context: 0, vision: perhaps, colour: true}}}"),
        with("retry: {attempts: 0, on: [conect, 42, 6xx, 200, timeout], budget: 101%, backoff: 9s}"),
        with(
            "breaker: {failures: -1, cooldown: 0, probes: 0, rate: {percent: 0%, window: 0}}\nmodels: {m: {target: openai/x, breaker: of}}",
        ),
        with("auth: {jwt: [{audience: a}, {issuer: https://a.example}, {issuer: https://a.example, audience: []}]}"),
        with("auth: {jwt: [{issuer: https://a.example, audience: a, algorithms: [HS256, none, RS265]}]}"),
        with("auth: {jwt: [{issuer: house, audience: a}, {issuer: http://a.example, audience: a}]}"),
        with("auth: {jwt: [{issuer: house, name: \"a b\", audience: a, jwks_url: \"https://u:canary@a.example/k\"}]}"),
        with("auth: {jwt: [{issuer: https://a.example/1, audience: a}, {issuer: https://a.example/2, audience: a}]}"),
        with(
            "auth: {jwt: [{issuer: https://a.example, audience: a, claims: {team: a..b, \"x y\": sub}, tags: {team: a}, caller: \"\", required: {sub: []}, header: authorization}]}",
        ),
        with(
            "auth: {jwt: [{issuer: https://a.example, audience: a, leeway: 1h, refresh: 1s, stale: 1m, algorithms: []}]}",
        ),
        with(
            "auth: {jwt: [{issuer: https://a.example, audience: a, claims: {team: sub}, tags: {team: a}}]}\nkeys: [{name: \"a.example:ada\", key: 0123456789abcdef}]",
        ),
        provider("{kind: vllm, endpoints: []}"),
        provider("{kind: vllm, endpoints: [canary, \"https://u:canary@h\", ftp://h]}"),
        provider("{kind: vllm, endpoints: [http://a:1, https://b:1, http://c:1/v2, http://a:1/v1]}"),
        provider(
            "{kind: vllm, endpoints: [{url: http://a:1, weight: 0}, {weight: 1}], base_url: http://a:1, balance: p2, health: {interval: 5s}}",
        ),
        provider("{kind: vllm, balance: hash, health: /x, ejection: off, slow_start: 1s}"),
        provider(
            "{kind: vllm, endpoints: [http://a:1], health: {path: x, timeout: 0}, ejection: {max: 150%, time: 0}}",
        ),
        provider("{kind: vllm, limits: {rpm: 0, tokens: 1}, queue: none}"),
        provider("{kind: vllm, api_key: canary-a, api_keys: [canary-b]}"),
        provider("{kind: openai, api_keys: []}"),
        provider("{kind: openai, api_keys: [canary, \"canary b\", canary]}"),
        provider(
            "{kind: bedrock, region: eu-west-1, api_keys: [canary], access_key_id: canary-a, secret_access_key: canary-b}",
        ),
        provider("{kind: vertex, project: p, api_keys: [canary]}"),
        provider("{kind: vllm, auth: none, api_keys: [canary]}"),
        provider("{kind: vllm, auth: {entra: managed_identity}, api_keys: [canary]}"),
        with("opaque: {provider: x}"),
        key("{key: 0123456789abcdef}"),
        key("{name: a}"),
        key("{name: a, key: short}"),
        key("{name: a, key: 0123456789abcdef, weight: 0}"),
        key("{name: a, key: \"0123456789 abcdef\"}"),
        key("{name: a, key: sk-tg-0123456789abcdef}"),
        key("{name: a, hash: \"hmac-sha256:00\"}"),
        key("{name: a, key: 0123456789abcdef, hash: x}"),
        key("{name: a, key: 0123456789abcdef}, {name: a, key: 0123456789abcdeg}, {name: b, key: 0123456789abcdef}"),
        key("{name: \"a b\", key: 0123456789abcdef, models: [\"x y\"], expires: soon, tags: {\"t t\": \"\"}}"),
        with("auth: {pepper: short, jwt: []}"),
        with("log: {access: \"${NOPE}/${NADA}\", level: \"${\"}"),
        bare("providers: {openai: {api_key: \"${NOPE}\"}}"),
        with("log: {access: \"${NOPE:?set it}\"}"),
        with("log: {level: [a\nb: c"),
        with("log: {}\nlog: {}"),
        with("server: {threads: \"${OPENAI_API_KEY}\"}\nmodels: {m: \"${OPENAI_API_KEY}\"}"),
        with("admin: {token: !!int canary}"),
    ];
    let mut report = String::new();
    for case in cases {
        let said = bad(&case);
        assert!(!said.contains("canary"), "{said}");
        assert!(said.lines().all(|line| line.starts_with("c.yaml:")), "{said}");
        let shown = case.strip_suffix(SMALL).unwrap_or(&case).trim_end();
        writeln!(report, "{shown}\n{said}\n").expect("a String takes everything");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn all_faults_of_all_steps_are_told_at_once() {
    let text = "\
modles: {}
listen: 0.0.0.0:80
providers:
  openai: {api_key: \"${NOPE}\"}
  groq: {api_key: x, http: 7}
  mine: {kind: opnai}
models:
  a: nobody/b
  c: [x]
keys:
  - {name: a, key: short}
";
    assert_eq!(
        bad(text),
        "\
c.yaml:1:1: unknown key \"modles\" under the top level: did you mean \"models\"?
c.yaml:4:21: environment variable NOPE is not set: set it, write \"${NOPE:-default}\", or add \"required_env: [NOPE]\" to \
start without this provider
c.yaml:5:28: providers.groq.http: \"7\" is not known: write one of auto, 1, 2
c.yaml:6:16: providers.mine.kind: \"opnai\" is not known: did you mean \"openai\"?
c.yaml:9:6: models.c: expected a text or a map, found a list
c.yaml:11:20: keys[0].key is too short: use 16 or more characters, e.g. from \"openssl rand -hex 32\""
    );
}

#[test]
fn a_missing_file_and_one_that_is_not_text_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no.yaml");
    let said = show(&load(&path, &environment()).unwrap_err());
    assert_eq!(said, format!("{}: cannot be read: No such file or directory (os error 2)", path.display()));
    std::fs::write(&path, b"a: \xff\n").unwrap();
    let said = show(&load(&path, &environment()).unwrap_err());
    assert_eq!(said, format!("{}: is not UTF-8 text (byte 3): save it as UTF-8", path.display()));
}

#[test]
fn certificates_are_read_and_matched_with_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let make = || rcgen::generate_simple_self_signed(vec!["llm.example.com".to_owned()]).unwrap();
    let (one, two) = (make(), make());
    write("one.pem", &one.cert.pem());
    write("one.key", &one.signing_key.serialize_pem());
    write("two.key", &two.signing_key.serialize_pem());
    write("empty.pem", "nothing here");
    let name = folder.path().join("c.yaml").display().to_string();
    let run = |tls: &str| {
        let text = format!("listen: {{address: \"127.0.0.1:1\", tls: {tls}}}\n{SMALL}");
        load_str(&name, &text, &environment()).map_err(|errors| show(&errors).replace(&name, "c.yaml"))
    };
    let checked = run("{cert: one.pem, key: one.key, client_ca: one.pem}").unwrap();
    assert_eq!(checked.files.len(), 3);
    let tls = checked.snapshot().listen[0].tls.clone().unwrap();
    assert_eq!(tls.client_ca, Some(folder.path().join("one.pem")));

    let said = |tls: &str| run(tls).unwrap_err();
    assert!(
        said("{cert: one.pem, key: two.key}")
            .contains("listen.tls: certificate and private key cannot be used together")
    );
    assert!(said("{cert: one.key, key: one.key}").contains("\"one.key\" holds no certificate in PEM form"));
    assert!(said("{cert: one.pem, key: one.pem}").contains("\"one.pem\" holds no unencrypted private key in PEM form"));
    assert!(said("{cert: one.pem, key: one.key, client_ca: empty.pem}").contains("holds no certificate in PEM form"));

    let text = "providers: {p: {kind: vllm, ca: one.pem}}";
    assert!(load_str(&name, text, &environment()).unwrap().snapshot().providers["p"].ca.is_some());
}

#[test]
fn a_proxy_of_the_environment_that_cannot_be_used_is_an_error_with_a_way_out() {
    let environment = Environment::of([("HTTPS_PROXY", "socks5://canary:1")]);
    let said = show(&load_str("c.yaml", "providers: {openai: {api_key: x}}", &environment).unwrap_err());
    assert!(said.contains("write \"proxy: off\" to go without it") && !said.contains("canary"), "{said}");
    assert!(load_str("c.yaml", "providers: {openai: {api_key: x, proxy: off}}", &environment).is_ok());
}
