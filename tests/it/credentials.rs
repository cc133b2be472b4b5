//! Credentials that are fetched, renewed or made for each call: what the provider is shown, how often an issuer is asked, what a caller
//! gets when it is down, and that no secret stands anywhere.

mod issuer;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Gateway, KEY, client, eventually};
use issuer::{Issuer, Mode, Upstream};

const TOKEN: &str = "admin-token-0123456789";

/// A gateway with this provider, called `p`, whose chat completions go to `/chat/{model}`.
async fn gateway(upstream: &Upstream, entry: &str, environment: &[(&str, &str)]) -> Gateway {
    let yaml = format!(
        "listen: LISTEN\nadmin: {{listen: \"ADMIN\", token: {TOKEN}}}\nkeys: [{{name: test, key: {KEY}}}]\n\
         providers:\n  p: {{base_url: \"http://{}\", paths: {{chat_completions: \"/chat/{{model}}\"}}, {entry}}}\n",
        upstream.address
    );
    Gateway::start(&yaml, environment).await
}

async fn ask(gateway: &Gateway, model: &str) -> (u16, Value) {
    let answer = gateway.chat(&client(), &format!("p/{model}"), false).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// Many calls at once; each must succeed.
async fn burst(gateway: &Gateway, count: usize) {
    let client = client();
    let calls = (0..count).map(|_| gateway.chat(&client, "p/some/model", false).send());
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.expect("an answer").status(), 200);
    }
}

/// None of these stands in a log, in the answer of the admin port, or in the metrics.
async fn silent(gateway: &Gateway, secrets: &[&str]) {
    let admin = client().get(format!("http://{}/api/config", gateway.admin)).bearer_auth(TOKEN);
    let config = admin.send().await.expect("the admin port").text().await.expect("JSON");
    assert!(config.contains("\"providers\""), "{config}");
    let access = std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    for (place, text) in [
        ("stderr", gateway.stderr()),
        ("access.log", access),
        ("/api/config", config),
        ("/metrics", gateway.metrics().await),
    ] {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {place}: {text}");
        }
    }
}

// === AWS ===

const KEYS: &str = "kind: bedrock, region: eu-west-1, access_key_id: AKIDEXAMPLE, secret_access_key: canary-secret, \
                    session_token: canary-session";

#[tokio::test]
async fn a_call_to_bedrock_is_signed_with_its_whole_body_and_path() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream, KEYS, &[]).await;
    let arn = "arn:aws:bedrock:eu-west-1:012345678901:inference-profile/eu.anthropic.claude-v1:0";
    let (status, answer) = ask(&gateway, arn).await;
    assert_eq!(status, 200, "{answer}");
    let call = upstream.last();
    let encoded = "arn%3Aaws%3Abedrock%3Aeu-west-1%3A012345678901%3Ainference-profile%2Feu.anthropic.claude-v1%3A0";
    assert_eq!(call.path_and_query, format!("/chat/{encoded}"));
    let authorization = call.header("authorization");
    let today = call.header("x-amz-date")[..8].to_owned();
    let wanted = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{today}/eu-west-1/bedrock/aws4_request, \
         SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature="
    );
    assert!(authorization.starts_with(&wanted), "{authorization}");
    assert_eq!(call.header("x-amz-content-sha256"), hex::encode(Sha256::digest(&call.body)));
    assert_eq!(call.header("x-amz-security-token"), "canary-session");
    assert_eq!(call.header("host"), upstream.address.to_string());

    // what it says of a call it refuses has neither the key's id nor the token in it
    let (status, answer) = ask(&gateway, "some/deny").await;
    assert_eq!(status, 403);
    let text = answer.to_string();
    assert!(text.contains("[redacted]") && !text.contains("canary") && !text.contains("AKIDEXAMPLE"), "{text}");
    silent(&gateway, &["canary", "AKIDEXAMPLE"]).await;
}

#[tokio::test]
async fn a_body_that_streams_is_refused_where_it_would_have_to_be_signed() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream, KEYS, &[]).await;
    let get = client().get(gateway.url("/raw/p/async-invoke?maxResults=2&a=b%20c")).bearer_auth(KEY);
    assert_eq!(get.send().await.expect("an answer").status(), 200);
    let call = upstream.last();
    assert_eq!(call.path_and_query, "/async-invoke?maxResults=2&a=b%20c");
    assert!(call.header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
    assert_eq!(call.header("x-amz-content-sha256"), hex::encode(Sha256::digest(b"")));

    let count = upstream.count();
    let post = client().post(gateway.url("/raw/p/model/m/converse")).bearer_auth(KEY).body("{}");
    let answer = post.send().await.expect("an answer");
    assert_eq!(answer.status(), 400);
    let error: Value = answer.json().await.expect("JSON");
    assert!(error["error"]["message"].as_str().expect("a text").contains("api_key"), "{error}");
    assert_eq!(upstream.count(), count, "nothing was sent");

    // a key of Bedrock's is sent as it is, whatever the body
    let keyed = self::gateway(&upstream, "kind: bedrock, region: eu-west-1, api_key: canary-key", &[]).await;
    let post = client().post(keyed.url("/raw/p/model/m/converse")).bearer_auth(KEY).body("{}");
    assert_eq!(post.send().await.expect("an answer").status(), 200);
    assert_eq!(upstream.last().header("authorization"), "Bearer canary-key");
}

#[tokio::test]
async fn keys_of_a_container_are_fetched_once_for_all_and_kept_over_a_reload() {
    let (upstream, issuer) = (Upstream::start().await, Issuer::start().await);
    issuer.set(Mode::Slow(Duration::from_millis(300)));
    let url = format!("http://{}/container", issuer.address);
    let environment = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary-container"),
        ("AWS_REGION", "ap-southeast-2"),
    ];
    let gateway = gateway(&upstream, "kind: bedrock", &environment).await;
    burst(&gateway, 20).await;
    let asked = issuer.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].header("authorization"), "canary-container");
    let call = upstream.last();
    assert!(call.header("authorization").contains("Credential=AKID1/"), "{call:?}");
    assert!(call.header("authorization").contains("/ap-southeast-2/bedrock/"), "{call:?}");
    assert_eq!(call.header("x-amz-security-token"), "issued-1");

    let text = std::fs::read_to_string(gateway.config_path()).expect("the configuration");
    std::fs::write(gateway.config_path(), text.replace("paths:", "timeouts: {idle: 9s}, paths:")).expect("written");
    let reload = client().post(format!("http://{}/api/config/reload", gateway.admin)).bearer_auth(TOKEN);
    assert_eq!(reload.send().await.expect("an answer").status(), 200);
    burst(&gateway, 3).await;
    assert_eq!(issuer.asked().len(), 1, "the reload kept them");
    silent(&gateway, &["canary", "issued-1", "secret-of-1"]).await;
}

#[tokio::test]
async fn keys_of_an_instance_and_of_a_profile_are_found() {
    let (upstream, issuer) = (Upstream::start().await, Issuer::start().await);
    let url = format!("http://{}", issuer.address);
    let instance =
        gateway(&upstream, "kind: bedrock, region: us-east-1", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]).await;
    burst(&instance, 5).await;
    assert!(upstream.last().header("authorization").contains("Credential=AKID"), "{:?}", upstream.last());
    let paths: Vec<String> = issuer.asked().iter().map(|call| call.path_and_query.clone()).collect();
    assert!(paths.iter().any(|path| path.starts_with("/latest/api/token")), "{paths:?}");
    assert!(paths.len() <= 4, "once for all: {paths:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("credentials");
    let write = |id: &str| {
        let text = format!("[work]\naws_access_key_id = {id}\naws_secret_access_key = canary-file\n");
        std::fs::write(&file, text).expect("written");
    };
    write("AKIDPROFILE");
    let environment = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().expect("text"))];
    let profile = gateway(&upstream, "kind: bedrock, region: us-east-1, profile: work", &environment).await;
    burst(&profile, 2).await;
    assert!(upstream.last().header("authorization").contains("Credential=AKIDPROFILE/"));
    silent(&profile, &["canary"]).await;

    // a profile that is not there is told to the operator, not to the caller
    let missing = gateway(&upstream, "kind: bedrock, region: us-east-1, profile: other", &environment).await;
    let (status, answer) = ask(&missing, "some/model").await;
    assert_eq!((status, &answer["error"]["code"]), (502, &json!("provider_credentials")), "{answer}");
    assert!(!answer.to_string().contains("other"), "{answer}");
    assert!(missing.stderr().contains("credentials could not be had"), "{}", missing.stderr());
}

// === Google ===

fn service_account(issuer: &Issuer) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/google/service-account.json");
    let text = std::fs::read_to_string(fixture).expect("the fixture");
    let path = folder.path().join("key.json");
    std::fs::write(&path, text.replace("ISSUER", &issuer.address.to_string())).expect("written");
    let path = path.to_str().expect("text").to_owned();
    (folder, path)
}

#[tokio::test]
async fn a_service_account_shows_a_token_for_its_signed_statement() {
    let (upstream, issuer) = (Upstream::start().await, Issuer::start().await);
    let (_folder, key) = service_account(&issuer);
    let entry = format!("kind: vertex, project: test, credentials: \"{key}\"");
    let gateway = gateway(&upstream, &entry, &[]).await;
    issuer.set(Mode::Slow(Duration::from_millis(200)));
    burst(&gateway, 20).await;
    let asked = issuer.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let form = asked[0].form();
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let parts: Vec<&str> = form["assertion"].split('.').collect();
    let read =
        |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON") };
    assert_eq!(read(parts[0]), json!({"alg": "RS256", "typ": "JWT", "kid": "key-1"}));
    let claims = read(parts[1]);
    assert_eq!(claims["iss"], "gateway@test.iam.gserviceaccount.com");
    assert_eq!(claims["aud"], format!("http://{}/google", issuer.address));
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
    assert_eq!(claims["exp"].as_u64().expect("a time") - claims["iat"].as_u64().expect("a time"), 3600);
    assert_eq!(URL_SAFE_NO_PAD.decode(parts[2]).expect("base64").len(), 256, "an RSA signature");
    assert_eq!(upstream.last().header("authorization"), "Bearer issued-1");

    // the opaque lane shows the same
    let raw = client().post(gateway.url("/raw/p/v1/anything")).bearer_auth(KEY).body("{}").send().await;
    assert_eq!(raw.expect("an answer").status(), 200);
    assert_eq!(upstream.last().header("authorization"), "Bearer issued-1");
    assert_eq!(issuer.asked().len(), 1);
    let (status, answer) = ask(&gateway, "some/deny").await;
    assert!(status == 403 && !answer.to_string().contains("issued-1"), "{answer}");
    let denied = client().get(gateway.url("/raw/p/chat/deny")).bearer_auth(KEY).send().await.expect("an answer");
    assert_eq!(denied.status(), 403);
    let text = denied.text().await.expect("text");
    assert!(text.contains("[redacted]") && !text.contains("issued-1"), "{text}");
    silent(&gateway, &["issued-1", "PRIVATE KEY", parts[2]]).await;
}

#[tokio::test]
async fn the_default_credentials_are_a_users_file_or_the_metadata_server() {
    let (upstream, issuer) = (Upstream::start().await, Issuer::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().to_str().expect("text").to_owned();
    let host = issuer.address.to_string();
    let entry = "kind: vertex, project: test";
    let metadata = gateway(&upstream, entry, &[("GCE_METADATA_HOST", &host), ("HOME", &home)]).await;
    burst(&metadata, 2).await;
    let call = issuer.asked().remove(0);
    assert_eq!(call.header("metadata-flavor"), "Google");
    assert!(call.path_and_query.starts_with("/computeMetadata/v1/instance/service-accounts/default/token"), "{call:?}");
    assert_eq!(upstream.last().header("authorization"), "Bearer issued-1");

    let user = json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "canary-client", "refresh_token": "canary-refresh",
        "quota_project_id": "billed", "token_uri": format!("http://{host}/google"),
    });
    let gcloud = folder.path().join(".config/gcloud");
    std::fs::create_dir_all(&gcloud).expect("a folder");
    std::fs::write(gcloud.join("application_default_credentials.json"), user.to_string()).expect("written");
    let of_user = gateway(&upstream, entry, &[("HOME", &home)]).await;
    burst(&of_user, 2).await;
    let form = issuer.asked().last().expect("asked").form();
    assert_eq!((&*form["grant_type"], &*form["refresh_token"]), ("refresh_token", "canary-refresh"));
    let call = upstream.last();
    assert_eq!((call.header("authorization"), call.header("x-goog-user-project")), ("Bearer issued-2", "billed"));
    silent(&of_user, &["canary", "issued-2"]).await;
}

// === Entra ===

#[tokio::test]
async fn an_application_of_entra_shows_its_secret_to_entra_alone() {
    let (upstream, issuer) = (Upstream::start().await, Issuer::start().await);
    let entry = format!(
        "kind: azure, auth: {{entra: {{tenant: my-tenant, client_id: my-app, client_secret: canary-secret, \
         authority: \"http://{}\"}}}}",
        issuer.address
    );
    let gateway = gateway(&upstream, &entry, &[]).await;
    burst(&gateway, 20).await;
    let asked = issuer.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path_and_query, "/my-tenant/oauth2/v2.0/token");
    let form = asked[0].form();
    assert_eq!((&*form["grant_type"], &*form["client_id"]), ("client_credentials", "my-app"));
    assert_eq!(form["client_secret"], "canary-secret");
    assert_eq!(form["scope"], "https://cognitiveservices.azure.com/.default");
    let call = upstream.last();
    assert_eq!((call.header("authorization"), call.header("api-key")), ("Bearer issued-1", ""));
    silent(&gateway, &["canary", "issued-1"]).await;

    // an issuer that repeats the secret in its refusal does not get it into the log
    let other = Issuer::start().await;
    other.set(Mode::Refuse(401));
    let entry = entry.replace(&issuer.address.to_string(), &other.address.to_string());
    let refused = self::gateway(&upstream, &entry, &[]).await;
    let (status, answer) = ask(&refused, "some/model").await;
    assert_eq!((status, &answer["error"]["code"]), (502, &json!("provider_credentials")), "{answer}");
    let said = refused.stderr();
    assert!(said.contains("the token endpoint answered 401: invalid_client: wrong secret [secret]"), "{said}");
    assert_eq!(other.asked().len(), 1, "a refusal is not tried again");
    silent(&refused, &["canary"]).await;
}

#[tokio::test]
async fn a_federated_token_is_read_from_its_file_and_a_managed_identity_asked_on_the_machine() {
    let (upstream, issuer) = (Upstream::start().await, Issuer::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "canary-federated\n").expect("written");
    let entry = format!(
        "kind: azure, auth: {{entra: {{tenant: t, client_id: c, federated_token_file: \"{}\", authority: \"http://{}\"}}}}",
        file.display(),
        issuer.address
    );
    let federated = gateway(&upstream, &entry, &[]).await;
    burst(&federated, 1).await;
    let form = issuer.asked().last().expect("asked").form();
    assert_eq!(form["client_assertion"], "canary-federated");
    assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    silent(&federated, &["canary"]).await;

    let url = format!("http://{}", issuer.address);
    let entry = "kind: azure, auth: {entra: {identity: managed_identity, client_id: which}}";
    let machine = gateway(&upstream, entry, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &url)]).await;
    burst(&machine, 1).await;
    let call = issuer.asked().pop().expect("asked");
    assert_eq!(call.header("metadata"), "true");
    assert_eq!(
        call.path_and_query,
        "/metadata/identity/oauth2/token?resource=https%3A%2F%2Fcognitiveservices.azure.com&client_id=which\
         &api-version=2018-02-01"
    );
    let service = format!("{url}/msi/token");
    let environment = [("IDENTITY_ENDPOINT", service.as_str()), ("IDENTITY_HEADER", "canary-header")];
    let app = gateway(&upstream, "kind: azure, auth: {entra: managed_identity}", &environment).await;
    burst(&app, 1).await;
    let call = issuer.asked().pop().expect("asked");
    assert_eq!(call.header("x-identity-header"), "canary-header");
    assert!(call.path_and_query.starts_with("/msi/token?resource="), "{call:?}");
    silent(&app, &["canary", "issued-"]).await;
}

// === over time ===

fn entra(issuer: &Issuer) -> String {
    let authority = issuer.address;
    format!(
        "kind: azure, auth: {{entra: {{tenant: t, client_id: c, client_secret: canary, authority: \"http://{authority}\"}}}}"
    )
}

#[tokio::test]
async fn a_token_is_renewed_beside_the_calls_before_its_end() {
    let (upstream, issuer) = (Upstream::start().await, Issuer::start().await);
    issuer.lives(4);
    let gateway = gateway(&upstream, &entra(&issuer), &[]).await;
    burst(&gateway, 1).await;
    // from now on the issuer is slow; a call that waited for it would show
    issuer.set(Mode::Slow(Duration::from_millis(700)));
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while upstream.last().header("authorization") == "Bearer issued-1" {
        assert!(begun.elapsed() < Duration::from_secs(8), "not renewed");
        let call = Instant::now();
        burst(&gateway, 4).await;
        slowest = slowest.max(call.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(upstream.last().header("authorization"), "Bearer issued-2");
    assert_eq!(issuer.asked().len(), 2, "once, however many called meanwhile");
    assert!(slowest < Duration::from_millis(600), "a call waited for the renewal: {slowest:?}");
}

#[tokio::test]
async fn while_a_renewal_fails_the_old_token_serves_until_its_end() {
    let (upstream, issuer) = (Upstream::start().await, Issuer::start().await);
    issuer.lives(6);
    let gateway = gateway(&upstream, &entra(&issuer), &[]).await;
    burst(&gateway, 1).await;
    issuer.set(Mode::Refuse(400));
    eventually("a renewal is tried", || async {
        burst(&gateway, 1).await;
        issuer.asked().len() > 1
    })
    .await;
    let (status, _) = ask(&gateway, "some/model").await;
    assert_eq!((status, upstream.last().header("authorization")), (200, "Bearer issued-1"));
    assert!(gateway.stderr().contains("the old ones still serve"), "{}", gateway.stderr());
    eventually("the token ends", || async { ask(&gateway, "some/model").await.0 == 502 }).await;
    // callers do not make the gateway hammer an issuer that fails
    let count = issuer.asked().len();
    for _ in 0..10 {
        assert_eq!(ask(&gateway, "some/model").await.0, 502);
    }
    assert!(issuer.asked().len() <= count + 2, "{}", issuer.asked().len());
    issuer.set(Mode::Issue);
    eventually("it is back", || async { ask(&gateway, "some/model").await.0 == 200 }).await;
}

#[tokio::test]
async fn an_issuer_that_is_down_or_hangs_gives_502_in_time() {
    let (upstream, issuer) = (Upstream::start().await, Issuer::start().await);
    issuer.set(Mode::Hang);
    let hanging = gateway(&upstream, &entra(&issuer), &[]).await;
    let down = gateway(&upstream, &entra(&issuer).replace(&issuer.address.to_string(), "127.0.0.1:1"), &[]).await;
    let timed = async |gateway: &Gateway| {
        let begun = Instant::now();
        let (status, answer) = ask(gateway, "some/model").await;
        assert_eq!((status, &answer["error"]["code"]), (502, &json!("provider_credentials")), "{answer}");
        begun.elapsed()
    };
    let (hung, refused) = tokio::join!(timed(&hanging), timed(&down));
    assert!(hung > Duration::from_secs(5) && hung < Duration::from_secs(12), "{hung:?}");
    assert!(refused < Duration::from_secs(3), "{refused:?}");
    assert_eq!(upstream.count(), 0, "nothing was sent without a credential");
    let line = down.log_of(1).await.remove(0);
    assert_eq!((&line["status"], &line["provider"]), (&json!(502), &json!("p")), "{line}");
    silent(&down, &["canary"]).await;
}
