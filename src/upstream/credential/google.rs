//! Tokens of Google Cloud: a service account's key, a user's refresh token, or the metadata server.
//!
//! Truth: Google Cloud, "How Application Default Credentials works" (the order of places), "Using OAuth 2.0 for Server to Server
//! Applications" (the assertion), "Access tokens" of the metadata server.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ::http::{HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Proof;
use super::held::Fetched;
use super::http::Http;
use crate::config::snapshot::Google;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// RFC 7523 section 2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// An assertion may live an hour.
const ASSERTION_SECONDS: u64 = 3600;
/// Whose project a user's calls are counted for.
const USER_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");

/// A key file: of a service account (made in the console), or of a user (`gcloud auth application-default login`).
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Key {
    ServiceAccount {
        client_email: String,
        #[serde(default)]
        private_key_id: Option<String>,
        #[serde(default)]
        token_uri: Option<String>,
    },
    AuthorizedUser {
        client_id: String,
        client_secret: String,
        refresh_token: String,
        #[serde(default)]
        token_uri: Option<String>,
        #[serde(default)]
        quota_project_id: Option<String>,
    },
    #[serde(other)]
    Other,
}

#[derive(Serialize)]
struct Head<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

pub async fn fetch(source: &Google, http: &Http) -> Result<Fetched, String> {
    match source {
        Google::Key(key) => of_key(key.expose(), http).await,
        Google::Default => match default_key().await? {
            Some(key) => of_key(&key, http).await,
            None => of_machine(http).await,
        },
    }
}

/// The file the environment names, else gcloud's, where it is there.
async fn default_key() -> Result<Option<String>, String> {
    if let Some(path) = variable("GOOGLE_APPLICATION_CREDENTIALS") {
        let text = tokio::fs::read_to_string(path).await;
        return text
            .map(Some)
            .map_err(|e| format!("the file named by GOOGLE_APPLICATION_CREDENTIALS cannot be read: {}", e.kind()));
    }
    let folder = match variable("CLOUDSDK_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => match variable("HOME") {
            Some(home) => PathBuf::from(home).join(".config/gcloud"),
            None => return Ok(None),
        },
    };
    Ok(tokio::fs::read_to_string(folder.join("application_default_credentials.json")).await.ok())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

async fn of_key(text: &str, http: &Http) -> Result<Fetched, String> {
    let key: Key = serde_json::from_str(text).map_err(|_| "the key file is not one of Google's".to_owned())?;
    match key {
        Key::ServiceAccount { client_email, private_key_id, token_uri } => {
            let url = token_uri.as_deref().unwrap_or(TOKEN_URL);
            let assertion = assertion(text, &client_email, private_key_id.as_deref(), url)?;
            let form = [("grant_type", JWT_BEARER), ("assertion", &assertion)];
            http.token(url, &form, &[&assertion]).await?.fetched(Proof::new())
        }
        Key::AuthorizedUser { client_id, client_secret, refresh_token, token_uri, quota_project_id } => {
            let form = [
                ("grant_type", "refresh_token"),
                ("client_id", &client_id),
                ("client_secret", &client_secret),
                ("refresh_token", &refresh_token),
            ];
            let url = token_uri.as_deref().unwrap_or(TOKEN_URL);
            let token = http.token(url, &form, &[&client_secret, &refresh_token]).await?;
            let project = quota_project_id.and_then(|project| HeaderValue::try_from(project).ok());
            token.fetched(project.map(|project| (USER_PROJECT, project)).into_iter().collect())
        }
        Key::Other => Err("the key file is neither a service account's nor a user's".to_owned()),
    }
}

/// A signed statement of who asks (RFC 7519, RS256).
fn assertion(key: &str, email: &str, id: Option<&str>, audience: &str) -> Result<String, String> {
    let wrong = || "the service account's private key cannot be used".to_owned();
    let account = gcp_auth::CustomServiceAccount::from_json(key).map_err(|_| wrong())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock stands before 1970".to_owned())?;
    let iat = now.as_secs();
    let claims = Claims { iss: email, scope: SCOPE, aud: audience, iat, exp: iat + ASSERTION_SECONDS };
    let head = Head { alg: "RS256", typ: "JWT", kid: id };
    let (head, claims) = (serde_json::to_vec(&head), serde_json::to_vec(&claims));
    let (Ok(head), Ok(claims)) = (head, claims) else { return Err(wrong()) };
    let mut text = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
    let signature = account.signer().sign(text.as_bytes()).map_err(|_| wrong())?;
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(text)
}

async fn of_machine(http: &Http) -> Result<Fetched, String> {
    let host = variable("GCE_METADATA_HOST").unwrap_or_else(|| "metadata.google.internal".to_owned());
    let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
    let token = http.machine_token(&url, &[("scopes", SCOPE)], "metadata-flavor", "Google").await;
    token
        .map_err(|why| {
            format!(
                "no key file of Google's was found (GOOGLE_APPLICATION_CREDENTIALS, gcloud), and on this machine {why}"
            )
        })?
        .fetched(Proof::new())
}
