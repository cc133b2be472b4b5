//! Signatures against those of other programs, and the life of a fetched credential.

use std::path::Path;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::*;
use crate::config::snapshot::Aws;
use crate::config::{Environment, Secret, load_str};

fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sigv4").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn time(text: &str) -> SystemTime {
    SystemTime::from(text.parse::<jiff::Timestamp>().unwrap())
}

fn value<'a>(proof: &'a Proof, name: &str) -> Option<&'a str> {
    proof.iter().find(|(n, _)| n == name).map(|(_, value)| value.to_str().unwrap())
}

fn whole(body: &str) -> Spliced {
    // in two pieces, as a patched body is
    let (a, b) = body.as_bytes().split_at(body.len() / 3);
    Spliced { pieces: vec![Bytes::copy_from_slice(a), Bytes::copy_from_slice(b)], len: body.len() }
}

#[derive(serde::Deserialize)]
struct Botocore {
    cases: Vec<BotocoreCase>,
}

#[derive(serde::Deserialize)]
struct BotocoreCase {
    region: String,
    host: String,
    model: String,
    operation: String,
    target: String,
    session_token: Option<String>,
    body: String,
    time: String,
    authorization: String,
    date: String,
}

#[test]
fn a_signature_is_that_of_botocore_for_ids_and_arns() {
    let fixture: Botocore = fixture("botocore.json");
    assert_eq!(fixture.cases.len(), 8);
    for case in fixture.cases {
        let keys =
            AwsKeys::from_keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", case.session_token.clone());
        let body = whole(&case.body);
        let sent = Sent { method: "POST", target: &case.target, body: Body::Whole(&body) };
        let proof = aws::sign(&keys, &case.region, time(&case.time), &case.host, &sent).unwrap();
        assert_eq!(value(&proof, "authorization"), Some(&*case.authorization), "{}", case.model);
        assert_eq!(value(&proof, "x-amz-date"), Some(&*case.date));
        assert_eq!(value(&proof, "x-amz-security-token"), case.session_token.as_deref());
        assert!(proof.iter().all(|(_, value)| value.is_sensitive()));
        if case.body.is_empty() {
            let sent = Sent { body: Body::Empty, ..sent };
            let empty = aws::sign(&keys, &case.region, time(&case.time), &case.host, &sent).unwrap();
            assert_eq!(value(&empty, "authorization"), Some(&*case.authorization));
        }
        // the path is the one that is sent to Bedrock
        let text = format!("providers: {{p: {{kind: bedrock, region: {}}}}}", case.region);
        let checked = load_str("c.yaml", &text, &Environment::of([("", "")])).unwrap();
        let answer = match case.operation.as_str() {
            "converse-stream" => crate::provider::Answer::Stream,
            _ => crate::provider::Answer::Whole,
        };
        let provider = checked.snapshot().providers.values().next().unwrap();
        let operation = crate::dialect::Operation::Converse;
        assert_eq!(crate::provider::target(provider, operation, &case.model, answer).unwrap(), case.target);
    }
}

#[derive(serde::Deserialize)]
struct OpenAiSdk {
    cases: Vec<OpenAiSdkCase>,
}

#[derive(serde::Deserialize)]
struct OpenAiSdkCase {
    id: String,
    region: String,
    service: String,
    time: String,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    url: String,
    headers: std::collections::BTreeMap<String, String>,
    body: String,
    date: String,
    payload_sha256: String,
    authorization: String,
}

#[test]
fn a_signature_is_that_of_the_openai_sdk_for_bedrock() {
    use sha2::Digest;
    let fixture: OpenAiSdk = fixture("openai-sdk.json");
    assert_eq!(fixture.cases.len(), 3);
    for case in fixture.cases {
        let keys = AwsKeys::from_keys(case.access_key_id, case.secret_access_key, case.session_token.clone());
        let headers: Vec<(&str, &str)> = case.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let signed = aws::Signed {
            region: &case.region,
            service: &case.service,
            now: time(&case.time),
            method: "POST",
            url: case.url,
            headers: &headers,
            body_sha256: hex::encode(sha2::Sha256::digest(case.body.as_bytes())),
        };
        assert_eq!(signed.body_sha256, case.payload_sha256);
        let proof = aws::signed_headers(&keys, signed).unwrap();
        assert_eq!(value(&proof, "authorization"), Some(&*case.authorization), "{}", case.id);
        assert_eq!(value(&proof, "x-amz-content-sha256"), Some(&*case.payload_sha256));
        assert_eq!(value(&proof, "x-amz-date"), Some(&*case.date));
        assert_eq!(value(&proof, "x-amz-security-token"), case.session_token.as_deref());
    }
}

fn bedrock(source: AwsSource) -> Provider {
    let text = "providers: {p: {kind: bedrock, region: us-east-1}}";
    let checked = load_str("c.yaml", text, &Environment::of([("", "")])).unwrap();
    let mut snapshot = checked.into_snapshot(1);
    let provider = Arc::try_unwrap(snapshot.providers.pop_first().unwrap().1).unwrap();
    Provider { auth: AuthScheme::Aws(Aws { region: "us-east-1".into(), source }), ..provider }
}

#[tokio::test]
async fn each_attempt_is_signed_anew_and_a_streamed_body_is_not() {
    let provider = bedrock(AwsSource::Keys {
        access_key_id: Secret::new("AKIDEXAMPLE"),
        secret_access_key: Secret::new("canary-secret"),
        session_token: Some(Secret::new("canary-token")),
    });
    let credentials = Credentials::new();
    let body = whole("{}");
    let sent = |body| Sent { method: "POST", target: "/model/m/converse", body };
    let proof = credentials.authorize(&provider, &sent(Body::Whole(&body))).await.unwrap();
    let shown = value(&proof, "authorization").unwrap();
    assert!(shown.contains(
        "/us-east-1/bedrock/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"
    ));
    assert!(!format!("{proof:?}").contains("canary"));
    let refused = credentials.authorize(&provider, &sent(Body::Streamed)).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Credentials);
    assert_eq!(credentials.secrets(&provider), ["AKIDEXAMPLE", "canary-token"]);
}

#[tokio::test]
async fn a_key_of_the_configuration_needs_nothing_fetched() {
    let text = "providers: {p: {kind: openai, api_key: canary}}";
    let checked = load_str("c.yaml", text, &Environment::of([("", "")])).unwrap();
    let provider = &checked.snapshot().providers["p"];
    let credentials = Credentials::new();
    let sent = Sent { method: "POST", target: "/", body: Body::Streamed };
    assert!(credentials.authorize(provider, &sent).await.unwrap().is_empty());
    assert!(credentials.secrets(provider).is_empty() && credentials.entries.is_empty());
}

#[test]
fn a_token_is_renewed_before_its_end_and_not_sent_near_it() {
    use std::time::Duration;
    let now = time("2026-06-01T12:00:00Z");
    let at = |seconds| now + Duration::from_secs(seconds);
    let hour = Fetched::new(Material::Headers(Proof::new()), now, Some(at(3600)));
    assert_eq!((hour.renew, hour.end), (at(3300), Some(at(3590))));
    let short = Fetched::new(Material::Headers(Proof::new()), now, Some(at(40)));
    assert_eq!((short.renew, short.end), (at(30), Some(at(36))));
    let over = Fetched::new(Material::Headers(Proof::new()), now, Some(now - Duration::from_secs(9)));
    assert!(!over.serves(now));
    let endless = Fetched::new(Material::Headers(Proof::new()), now, None);
    assert!(endless.serves(at(1 << 30)) && endless.renew == at(900));
}
