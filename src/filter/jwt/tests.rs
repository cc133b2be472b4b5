//! Which tokens are taken, and how often an issuer is asked. The issuer is a real server where that is what the test is about.

mod issuer_asked;
#[path = "../../../tests/it/support/tokens.rs"]
mod tokens;

use serde_json::{Value, json};

use super::*;
use crate::config::{Environment, load_str};
use crate::error::{Error, Kind};
use tokens::{Signer, base64url, set};

const ISSUER: &str = "https://login.example.com/main";
/// 2027-01-15T08:00:00Z
const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// Checked entries of `auth.jwt`.
fn issuers(yaml: &str) -> Vec<Arc<Issuer>> {
    let text = format!("providers: {{ollama: }}\nauth: {{jwt: [{yaml}]}}\n");
    let checked = load_str("c.yaml", &text, &Environment::of([("A", "b")])).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    checked.snapshot().keys.issuers.clone()
}

fn entry(more: &str) -> String {
    format!("{{issuer: \"{ISSUER}\", audience: [tollgate, other], name: main{more}}}")
}

pub(super) fn issuer() -> Issuer {
    Issuer::clone(&issuers(&entry(""))[0])
}

pub(super) fn key_named(name: &str) -> Key {
    let (models, tags, own) = (None, Vec::new(), None);
    Key {
        name: crate::id::KeyName::new(name),
        models,
        opaque: true,
        weight: 1,
        revoked: false,
        expires: None,
        tags,
        request_tags: None,
        own,
    }
}

/// Issuers whose keys are known, and that cannot be asked.
fn with_keys(issuers: &[Arc<Issuer>], keys: &Value) -> Issuers {
    let all = Issuers::default();
    show(&all, &issuers[0], keys, now());
    all
}

/// As if it had been fetched.
fn show(all: &Issuers, issuer: &Issuer, keys: &Value, at: Timestamp) {
    let entry = all.entry(issuer);
    let before = entry.set.load_full();
    entry.set.store(Some(Arc::new(KeySet::read(keys.to_string().as_bytes(), at, before.as_deref()).unwrap())));
    // and again: an unknown key makes nobody wait
    entry.flight().wanted = Some(Instant::now());
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "tollgate", "sub": "ada", "exp": NOW + 300, "iat": NOW - 10})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

async fn ask(all: &Issuers, issuers: &[Arc<Issuer>], token: &str) -> Result<Arc<Key>, Refusal> {
    all.caller(issuers, None, token, now()).await
}

#[tokio::test]
async fn every_asymmetric_algorithm_is_taken_with_the_key_it_is_for() {
    let issuers = issuers(&entry(""));
    let (rsa, p256, p384, ed) = (Signer::rsa("r"), Signer::p256("a"), Signer::p384("b"), Signer::ed25519("c"));
    let all = with_keys(&issuers, &set(&[&rsa, &p256, &p384, &ed]));
    let mut taken = Vec::new();
    for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        taken.push((alg, rsa.sign(&json!({"alg": alg, "kid": "r"}).to_string(), &claims().to_string())));
    }
    taken.extend([&p256, &p384, &ed].map(|signer| (signer.algorithm(), signer.token(&claims()))));
    taken.push(("Ed25519", ed.sign(r#"{"alg":"Ed25519","kid":"c"}"#, &claims().to_string())));
    for (alg, token) in &taken {
        assert!(looks_like(token));
        let key = ask(&all, &issuers, token).await.unwrap_or_else(|refusal| panic!("{alg}: {refusal:?}"));
        assert_eq!(key.name.as_str(), "main:ada", "{alg}");
    }
    assert_eq!(taken.len(), 10);
}

/// What a forger may try, with what each is: no row may be taken, and each must fail for its own reason.
#[tokio::test]
async fn no_forged_token_is_taken() {
    let issuers = issuers(&entry(", algorithms: [RS256, ES256]"));
    let (rsa, p256, p384) = (Signer::rsa("r"), Signer::p256("a"), Signer::p384("b"));
    let (stranger, twin) = (Signer::p256("stranger"), Signer::p256("a"));
    let symmetric = json!({"kty": "oct", "k": base64url("secret"), "kid": "h", "alg": "HS256"});
    let mut keys = set(&[&rsa, &p256, &p384]);
    keys["keys"].as_array_mut().unwrap().push(symmetric);
    let all = with_keys(&issuers, &keys);
    let text = claims().to_string();
    let good = p256.token(&claims());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let hmac = |key: &[u8], header: &str| {
        let message = format!("{}.{}", base64url(header), base64url(&text));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        format!("{message}.{}", base64url(ring::hmac::sign(&key, message.as_bytes())))
    };
    let unsigned = |header: &str| format!("{}.{}.", base64url(header), base64url(&text));
    let modulus = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let point = p256.jwk()["x"].as_str().unwrap().to_owned();
    let header_with = |name: &str, value: Value| {
        let mut header = p256.header();
        header[name] = value;
        p256.sign(&header.to_string(), &text)
    };
    let stranger_with = |name: &str, value: Value| {
        let mut header = stranger.header();
        header[name] = value;
        stranger.sign(&header.to_string(), &text)
    };
    let claims_text = |claims: &str| p256.sign(&p256.header().to_string(), claims);
    let kind = "its signature is of a kind that is not taken";
    let two_ways_header = "its header cannot be read, or can be read in two ways";
    let two_ways_claims = "its claims cannot be read, or can be read in two ways";
    let parts = "it is not three parts in base64url";
    let audience = "it is for another audience";
    let time = "one of its times is none";
    let rows = [
        ("alg none", unsigned(r#"{"alg":"none"}"#), Refusal::Untrusted(kind)),
        ("alg None", unsigned(r#"{"alg":"None","kid":"a"}"#), Refusal::Untrusted(kind)),
        ("alg NONE with a signature", p256.sign(r#"{"alg":"NONE","kid":"a"}"#, &text), Refusal::Untrusted(kind)),
        ("no alg", p256.sign(r#"{"kid":"a"}"#, &text), Refusal::Untrusted(kind)),
        ("alg is a list", p256.sign(r#"{"alg":["ES256"],"kid":"a"}"#, &text), Refusal::Unreadable(two_ways_header)),
        ("signature removed", format!("{header}.{payload}."), Refusal::Untrusted("its signature is wrong")),
        (
            "HS256 with the RSA modulus",
            hmac(modulus.as_bytes(), r#"{"alg":"HS256","kid":"r"}"#),
            Refusal::Untrusted(kind),
        ),
        ("HS256 with the EC point", hmac(point.as_bytes(), r#"{"alg":"HS256","kid":"a"}"#), Refusal::Untrusted(kind)),
        ("HS256 with a shown symmetric key", hmac(b"secret", r#"{"alg":"HS256","kid":"h"}"#), Refusal::Untrusted(kind)),
        ("RS256 with the EC key's name", rsa.sign(r#"{"alg":"RS256","kid":"a"}"#, &text), Refusal::UnknownKey),
        ("ES256 with the RSA key's name", p256.sign(r#"{"alg":"ES256","kid":"r"}"#, &text), Refusal::UnknownKey),
        ("an algorithm that is not listed", p384.token(&claims()), Refusal::Untrusted(kind)),
        ("PS256, not listed, by a good key", rsa.sign(r#"{"alg":"PS256","kid":"r"}"#, &text), Refusal::Untrusted(kind)),
        ("another key with the same name", twin.token(&claims()), Refusal::Untrusted("its signature is wrong")),
        ("a key nobody shows", stranger.token(&claims()), Refusal::UnknownKey),
        ("a kid that is a path", p256.sign(r#"{"alg":"ES256","kid":"../../dev/null"}"#, &text), Refusal::UnknownKey),
        ("a kid that is a query", p256.sign(r#"{"alg":"ES256","kid":"x' OR '1'='1"}"#, &text), Refusal::UnknownKey),
        (
            "a kid that is a number",
            p256.sign(r#"{"alg":"ES256","kid":1}"#, &text),
            Refusal::Unreadable(two_ways_header),
        ),
        ("a long kid", header_with("kid", "k".repeat(300).into()), Refusal::Unreadable(two_ways_header)),
        ("its own key in the header", stranger_with("jwk", stranger.jwk()), Refusal::UnknownKey),
        ("jku", stranger_with("jku", "http://127.0.0.1:1/keys".into()), Refusal::UnknownKey),
        ("x5u", stranger_with("x5u", "http://127.0.0.1:1/chain".into()), Refusal::UnknownKey),
        (
            "crit",
            header_with("crit", json!(["b64"])),
            Refusal::Untrusted("it asks for extensions that are not understood here"),
        ),
        (
            "an empty crit",
            header_with("crit", json!([])),
            Refusal::Untrusted("it asks for extensions that are not understood here"),
        ),
        (
            "typ of a logout token",
            header_with("typ", "logout+jwt".into()),
            Refusal::Untrusted("it was made for another end"),
        ),
        ("a nested token", header_with("cty", "JWT".into()), Refusal::Untrusted("it holds another token")),
        (
            "alg twice",
            p256.sign(r#"{"alg":"ES256","alg":"none","kid":"a"}"#, &text),
            Refusal::Unreadable(two_ways_header),
        ),
        (
            "alg twice, escaped",
            p256.sign(r#"{"alg":"ES256","\u0061lg":"none"}"#, &text),
            Refusal::Unreadable(two_ways_header),
        ),
        (
            "a changed claim",
            format!("{header}.{}.{signature}", base64url(with("sub", "eve".into()).to_string())),
            Refusal::Untrusted("its signature is wrong"),
        ),
        (
            "a changed header",
            format!("{}.{payload}.{signature}", base64url(r#"{"alg":"ES256","kid":"a","x":1}"#)),
            Refusal::Untrusted("its signature is wrong"),
        ),
        ("a cut signature", good[..good.len() - 4].to_owned(), Refusal::Untrusted("its signature is wrong")),
        ("a signature with a tail", format!("{good}AAAA"), Refusal::Untrusted("its signature is wrong")),
        (
            "an all-zero signature",
            format!("{header}.{payload}.{}", base64url([0; 64])),
            Refusal::Untrusted("its signature is wrong"),
        ),
        ("padding", format!("{header}=.{payload}.{signature}"), Refusal::Unreadable(parts)),
        ("two parts", format!("{header}.{payload}"), Refusal::Unreadable(parts)),
        ("four parts", format!("{good}.x"), Refusal::Unreadable(parts)),
        ("five parts, as an encrypted one has", format!("{header}.a.b.c.d"), Refusal::Unreadable(parts)),
        ("nothing in it", "..".to_owned(), Refusal::Unreadable(two_ways_header)),
        ("too long", p256.token(&with("x", "x".repeat(20_000).into())), Refusal::Unreadable("it is longer than 16 KB")),
        (
            "sub twice",
            claims_text(&text.replace("\"sub\":\"ada\"", "\"sub\":\"ada\",\"sub\":\"eve\"")),
            Refusal::Unreadable(two_ways_claims),
        ),
        (
            "exp twice",
            claims_text(&text.replacen('{', "{\"exp\":9999999999,", 1)),
            Refusal::Unreadable(two_ways_claims),
        ),
        ("claims that are a list", claims_text("[1]"), Refusal::Unreadable(two_ways_claims)),
        ("claims with a tail", claims_text(&format!("{text}{{}}")), Refusal::Unreadable(two_ways_claims)),
        (
            "deep claims",
            claims_text(&text.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(200), "]".repeat(200)), 1)),
            Refusal::Unreadable(two_ways_claims),
        ),
        ("no iss", p256.token(&without("iss")), Refusal::Untrusted("it does not say who issued it")),
        (
            "iss is a list",
            p256.token(&with("iss", json!([ISSUER]))),
            Refusal::Untrusted("it does not say who issued it"),
        ),
        (
            "another iss",
            p256.token(&with("iss", "https://login.example.com/other".into())),
            Refusal::Untrusted("its issuer is not known here"),
        ),
        (
            "iss with a slash more",
            p256.token(&with("iss", format!("{ISSUER}/").into())),
            Refusal::Untrusted("its issuer is not known here"),
        ),
        (
            "iss in other letters",
            p256.token(&with("iss", ISSUER.to_uppercase().into())),
            Refusal::Untrusted("its issuer is not known here"),
        ),
        ("no aud", p256.token(&without("aud")), Refusal::Unfit("it names no audience")),
        ("aud null", p256.token(&with("aud", Value::Null)), Refusal::Unfit("it names no audience")),
        ("another aud", p256.token(&with("aud", "billing".into())), Refusal::Unfit(audience)),
        ("aud as a part", p256.token(&with("aud", "tollgate2".into())), Refusal::Unfit(audience)),
        ("an empty list in aud", p256.token(&with("aud", json!([]))), Refusal::Unfit(audience)),
        ("a list with others in aud", p256.token(&with("aud", json!(["a", "b"]))), Refusal::Unfit(audience)),
        (
            "a list with a number in aud",
            p256.token(&with("aud", json!(["tollgate", 1]))),
            Refusal::Unfit("its audience is neither a text nor a list of texts"),
        ),
        ("no exp", p256.token(&without("exp")), Refusal::Unfit("it has no end")),
        ("exp is a text", p256.token(&with("exp", "9999999999".into())), Refusal::Unfit(time)),
        ("exp is endless", claims_text(&text.replace(&(NOW + 300).to_string(), "1e400")), Refusal::Unfit(time)),
        ("exp is huge", p256.token(&with("exp", json!(u64::MAX))), Refusal::Unfit(time)),
        ("exp is negative", p256.token(&with("exp", json!(-1))), Refusal::Unfit(time)),
        ("nbf is a text", p256.token(&with("nbf", "0".into())), Refusal::Unfit(time)),
        (
            "bound to a key",
            p256.token(&with("cnf", json!({"jkt": "x"}))),
            Refusal::Unfit("it is bound to a key that cannot be shown here"),
        ),
        ("no sub", p256.token(&without("sub")), Refusal::Unfit("it does not say who calls")),
        ("an empty sub", p256.token(&with("sub", "".into())), Refusal::Unfit("it does not say who calls")),
        ("sub is a list", p256.token(&with("sub", json!(["ada"]))), Refusal::Unfit("it does not say who calls")),
    ];
    for (what, token, expected) in &rows {
        assert_eq!(ask(&all, &issuers, token).await.map(|key| key.name.to_string()), Err(*expected), "{what}");
        let error = Error::from(*expected);
        assert_eq!(error.kind, Kind::Unauthorized, "{what}");
        assert!(!error.say.contains("ada") && error.why.is_none(), "{error}");
    }
    assert!(rows.len() >= 60);
    // and the one they were made from is good, also in a list of audiences
    assert_eq!(ask(&all, &issuers, &good).await.unwrap().name.as_str(), "main:ada");
    assert!(ask(&all, &issuers, &p256.token(&with("aud", json!(["x", "other"])))).await.is_ok());
    // a token without the name of a key is tried with those of its algorithm
    assert!(ask(&all, &issuers, &p256.sign(r#"{"alg":"ES256"}"#, &text)).await.is_ok());
    assert_eq!(
        ask(&all, &issuers, &twin.sign(r#"{"alg":"ES256"}"#, &text)).await.unwrap_err(),
        Refusal::Untrusted("its signature is wrong")
    );
}

#[tokio::test]
async fn a_token_holds_between_its_times_give_or_take_the_leeway() {
    let signer = Signer::p256("a");
    for (leeway, seconds) in [("60s", 60), ("0s", 0), ("5m", 300)] {
        let issuers = issuers(&entry(&format!(", leeway: {leeway}")));
        let all = with_keys(&issuers, &set(&[&signer]));
        for (claim, offset, expected) in [
            ("exp", 1 - seconds, None),
            ("exp", -seconds, Some(Refusal::Expired)),
            ("exp", -100_000, Some(Refusal::Expired)),
            ("nbf", seconds, None),
            ("nbf", seconds + 1, Some(Refusal::NotYet)),
            ("iat", seconds, None),
            ("iat", seconds + 1, Some(Refusal::NotYet)),
            ("iat", -100_000_000, None),
        ] {
            let token = signer.token(&with(claim, json!(NOW + offset)));
            assert_eq!(ask(&all, &issuers, &token).await.err(), expected, "{claim} {offset} with {leeway}");
        }
        let token = signer.token(&with("exp", json!(NOW as f64 + 0.5 - seconds as f64)));
        assert_eq!(ask(&all, &issuers, &token).await.err(), Some(Refusal::Expired), "part of a second");
    }
}

#[tokio::test]
async fn a_token_that_was_taken_ends_at_its_end() {
    let signer = Signer::p256("a");
    let issuers = issuers(&entry(", leeway: 0s"));
    let all = with_keys(&issuers, &set(&[&signer]));
    let token = signer.token(&claims());
    let at = |seconds: i64| Timestamp::from_second(NOW + seconds).unwrap();
    let first = all.caller(&issuers, None, &token, at(0)).await.unwrap();
    let again = all.caller(&issuers, None, &token, at(299)).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again), "it is remembered");
    assert_eq!(all.caller(&issuers, None, &token, at(300)).await.unwrap_err(), Refusal::Expired);
}

#[tokio::test]
async fn claims_become_a_name_tags_and_models() {
    let signer = Signer::ed25519("a");
    let issuers = issuers(
        "{issuer: \"https://login.example.com/main\", audience: tollgate, weight: 7, models: [\"gpt-*\", smart, \"gemini/a\"], \
         models_claim: may.use, claims: {team: groups.0, user: sub, org: \"https://example.com/org\", level: level, \
         deep: \"/a.b/c\"}, tags: {via: sso}, caller: sub}",
    );
    let all = with_keys(&issuers, &set(&[&signer]));
    let mut claims = claims();
    claims["sub"] = "ada lovelace\"%ü".into();
    claims["groups"] = json!(["search", "admins"]);
    claims["https://example.com/org"] = "acme".into();
    claims["level"] = 7.into();
    claims["a.b"] = json!({"c": true});
    claims["may"] = json!({"use": ["gpt-4o*", "g*", "smart", "claude"]});
    let key = ask(&all, &issuers, &signer.token(&claims)).await.unwrap();
    assert_eq!(key.name.as_str(), "login.example.com:ada%20lovelace%22%25%C3%BC");
    let tags: Vec<_> = key.tags.iter().map(|(tag, value)| (&**tag, &**value)).collect();
    let expected = [
        ("via", "sso"),
        ("team", "search"),
        ("user", "ada lovelace\"%ü"),
        ("org", "acme"),
        ("level", "7"),
        ("deep", "true"),
    ];
    assert_eq!(tags, expected);
    assert_eq!((key.weight, key.opaque, key.revoked), (7, false, false));
    assert_eq!(key.expires.map(|end| end.as_second()), Some(NOW + 360));
    for (model, allowed) in
        [("gpt-4o-mini", true), ("gpt-5", true), ("gemini/a", true), ("smart", true), ("claude", false), ("g", false)]
    {
        assert_eq!(key.allows_model(model), allowed, "{model}");
    }
    // names with spaces between, and none at all
    claims["may"] = json!({"use": "smart claude, other"});
    let key = ask(&all, &issuers, &signer.token(&claims)).await.unwrap();
    assert!(key.allows_model("smart") && !key.allows_model("claude") && !key.allows_model("gpt-5"));
    claims["may"] = json!({});
    let key = ask(&all, &issuers, &signer.token(&claims)).await.unwrap();
    assert!(!key.allows_model("smart"), "without the claim it may use none");
    // what is to be a tag and cannot be one is not taken for absent
    for wrong in [json!(["a"]), json!({"a": 1}), json!("x".repeat(257)), json!("a\nb")] {
        claims["level"] = wrong;
        assert!(matches!(ask(&all, &issuers, &signer.token(&claims)).await, Err(Refusal::Unfit(_))), "{claims}");
    }
    claims["level"] = Value::Null;
    assert_eq!(ask(&all, &issuers, &signer.token(&claims)).await.unwrap().tags.len(), 5);
}

#[tokio::test]
async fn two_callers_never_get_one_name() {
    let signer = Signer::ed25519("a");
    let issuers = issuers(&entry(""));
    let all = with_keys(&issuers, &set(&[&signer]));
    let long = "x".repeat(200);
    let subs = ["a b", "a%20b", "a%2520b", "%sha256-00", &long, &format!("{long}y"), "main:a", "a"];
    let mut names = std::collections::HashSet::new();
    for sub in subs {
        let key = ask(&all, &issuers, &signer.token(&with("sub", sub.into()))).await.unwrap();
        let name = key.name.as_str();
        assert!(name.len() <= 128 && name.starts_with("main:") && name.bytes().all(|b| b.is_ascii_graphic()), "{name}");
        assert!(names.insert(name.to_owned()), "{name}");
    }
}

#[tokio::test]
async fn required_claims_must_be_there_with_their_value() {
    let signer = Signer::p256("a");
    let issuers = issuers(&entry(", required: {hd: example.com, email_verified: \"true\", roles: [llm, \"llm-*\"]}"));
    let all = with_keys(&issuers, &set(&[&signer]));
    let mut good = claims();
    good["hd"] = "example.com".into();
    good["email_verified"] = true.into();
    good["roles"] = json!(["x", "llm-user"]);
    assert!(ask(&all, &issuers, &signer.token(&good)).await.is_ok());
    for (name, value) in [
        ("hd", json!("example.com.evil")),
        ("hd", Value::Null),
        ("email_verified", json!(false)),
        ("roles", json!(["x"])),
        ("roles", json!([])),
        ("roles", json!({"llm": true})),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        let refusal = ask(&all, &issuers, &signer.token(&claims)).await.unwrap_err();
        assert_eq!(refusal, Refusal::Unfit("a claim that is required is missing or has another value"), "{name}");
    }
}

#[tokio::test]
async fn of_two_entries_with_one_issuer_the_one_that_fits_is_taken() {
    let signer = Signer::p256("a");
    let issuers = issuers(&format!(
        "{}, {{issuer: \"{ISSUER}\", audience: ci, name: main, tags: {{kind: machine}}}}",
        entry(", tags: {kind: person}")
    ));
    let all = with_keys(&issuers, &set(&[&signer]));
    for (audience, kind) in [("tollgate", "person"), ("ci", "machine")] {
        let key = ask(&all, &issuers, &signer.token(&with("aud", audience.into()))).await.unwrap();
        assert_eq!(&*key.tags[0].1, kind);
    }
    let refusal = ask(&all, &issuers, &signer.token(&with("aud", "x".into()))).await.unwrap_err();
    assert_eq!(refusal, Refusal::Unfit("it is for another audience"));
}

#[tokio::test]
async fn a_token_is_taken_only_where_its_issuer_puts_it() {
    let signer = Signer::p256("a");
    let issuers = issuers(&entry(", header: x-proxy-token"));
    let all = with_keys(&issuers, &set(&[&signer]));
    let token = signer.token(&claims());
    let header = HeaderName::from_static("x-proxy-token");
    assert!(ask(&all, &issuers, &token).await.is_err());
    assert!(all.caller(&issuers, Some(&header), &token, now()).await.is_ok());
    assert!(ask(&all, &issuers, &token).await.is_err(), "also when it is remembered");
    assert!(all.caller(&issuers, Some(&HeaderName::from_static("x-other")), &token, now()).await.is_err());
}

#[tokio::test]
async fn tokens_that_begin_alike_are_told_apart() {
    let signer = Signer::ed25519("a");
    let issuers = issuers(&entry(""));
    let all = with_keys(&issuers, &set(&[&signer]));
    let (ada, eve) = (signer.token(&claims()), signer.token(&with("sub", "eve".into())));
    assert_eq!(ada[..40], eve[..40]);
    for _ in 0..2 {
        assert_eq!(ask(&all, &issuers, &ada).await.unwrap().name.as_str(), "main:ada");
        assert_eq!(ask(&all, &issuers, &eve).await.unwrap().name.as_str(), "main:eve");
    }
    // the same claims under another signature are another token
    let mut forged = ada.clone();
    forged.replace_range(ada.len() - 6..ada.len() - 2, if ada.contains("AAAA") { "BBBB" } else { "AAAA" });
    assert_eq!(ask(&all, &issuers, &forged).await.unwrap_err(), Refusal::Untrusted("its signature is wrong"));
}

#[tokio::test]
async fn a_remembered_token_does_not_outlive_its_key_nor_its_entry() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let yaml = entry(", tags: {v: one}");
    let first = issuers(&yaml);
    let all = with_keys(&first, &set(&[&old, &new]));
    let token = old.token(&claims());
    assert!(ask(&all, &first, &token).await.is_ok());
    // a reload that gives the tag another value
    let second = issuers(&entry(", tags: {v: two}"));
    all.follow(&second);
    assert_eq!(&*ask(&all, &second, &token).await.unwrap().tags[0].1, "two");
    // the same keys, read again
    show(&all, &second[0], &set(&[&old, &new]), now());
    let (before, again) = (ask(&all, &second, &token).await.unwrap(), ask(&all, &second, &token).await.unwrap());
    assert!(Arc::ptr_eq(&before, &again));
    // its key is withdrawn
    show(&all, &second[0], &set(&[&new]), now());
    assert_eq!(ask(&all, &second, &token).await.unwrap_err(), Refusal::UnknownKey);
    // the issuer is
    assert_eq!(ask(&all, &[], &token).await.unwrap_err(), Refusal::Untrusted("its issuer is not known here"));
}

#[tokio::test]
async fn the_last_keys_serve_for_a_bounded_time() {
    let signer = Signer::p256("a");
    let issuers = issuers(&entry(", stale: 1h"));
    let all = with_keys(&issuers, &set(&[&signer]));
    let token = signer.token(&with("exp", json!(NOW + 100_000)));
    let at = |seconds: i64| Timestamp::from_second(NOW + seconds).unwrap();
    all.entry(&issuers[0]).flight().failures = 1;
    for seconds in [0, 3_600] {
        assert!(all.caller(&issuers, None, &token, at(seconds)).await.is_ok(), "after {seconds} s");
    }
    assert_eq!(all.caller(&issuers, None, &token, at(3_601)).await.unwrap_err(), Refusal::Unavailable);
    let error = Error::from(Refusal::Unavailable);
    assert!(matches!(error.kind, Kind::Overloaded { .. }) && error.kind.status() == 503);
}

#[test]
fn only_what_has_the_shape_of_a_token_is_one() {
    for token in ["eyJhbGciOiJub25lIn0.e30.", "eyJ.e30.sig", "ey.a.b"] {
        assert!(looks_like(token), "{token}");
    }
    for other in [
        "",
        "sk-tg-abc",
        "eyJhbGciOiJub25lIn0",
        "eyJ.e30",
        "ey.a.b.c",
        "ey..c",
        ".a.b",
        "abc.def.ghi",
        "ey.a b.c",
        "ey.a.b=",
    ] {
        assert!(!looks_like(other), "{other}");
    }
}

#[test]
fn a_key_that_is_for_something_else_or_too_weak_is_passed_over() {
    let good = Signer::p256("a");
    let with = |name: &str, value: Value| {
        let mut jwk = good.jwk();
        jwk[name] = value;
        jwk
    };
    let mut short = Signer::rsa("r").jwk();
    short["n"] = base64url(&[0xff; 128]).into();
    let mut padded = Signer::rsa("p").jwk();
    let n = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, padded["n"].as_str().unwrap());
    padded["n"] = base64url([vec![0], n.unwrap()].concat()).into();
    let passed_over = [
        with("use", "enc".into()),
        with("key_ops", json!(["sign"])),
        with("alg", "ES384".into()),
        with("alg", "HS256".into()),
        with("kty", "oct".into()),
        with("crv", "secp256k1".into()),
        with("x", "AAAA".into()),
        with("y", "not base64!".into()),
        with("kid", "k".repeat(300).into()),
        short,
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        json!({"kty": "OKP", "crv": "X25519", "x": base64url([1; 32])}),
        json!({}),
        json!("text"),
    ];
    for key in &passed_over {
        let text = json!({"keys": [key]}).to_string();
        assert!(KeySet::read(text.as_bytes(), now(), None).is_err(), "{key}");
    }
    let all: Vec<Value> =
        passed_over.into_iter().chain([good.jwk(), padded, with("key_ops", json!(["verify"]))]).collect();
    let set = KeySet::read(json!({"keys": all}).to_string().as_bytes(), now(), None).unwrap();
    assert_eq!(set.len(), 3);
    for wrong in ["", "{}", "[]", "{\"keys\":{}}", "{\"keys\":[]}", "{\"keys\":[],\"keys\":[]}"] {
        assert!(KeySet::read(wrong.as_bytes(), now(), None).is_err(), "{wrong}");
    }
    let many = json!({"keys": vec![good.jwk(); 101]}).to_string();
    assert!(KeySet::read(many.as_bytes(), now(), None).is_err());
}
