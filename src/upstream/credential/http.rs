//! Asking a token endpoint (RFC 6749 section 5): bounded in time and size, repeated where that helps, silent about what was sent.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use ::http::{HeaderValue, header};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;

use super::Proof;
use super::held::{Fetched, Material};

/// A token and its members; Entra's have some 3 KB.
const LARGEST_ANSWER: usize = 64 * 1024;
const CONNECT: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(8);
/// Before the second and the third try.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// Longest explanation of a token endpoint that is told to the operator.
const LONGEST_WHY: usize = 300;

/// Clients of token endpoints, made when they are first needed.
#[derive(Default)]
pub struct Http {
    outside: OnceLock<Option<Client>>,
    machine: OnceLock<Option<Client>>,
}

/// Where a token endpoint is.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// On the network, perhaps behind the proxy of the environment.
    Outside,
    /// A service of the machine or the cluster: never through a proxy.
    Machine,
}

/// What a token endpoint answers.
#[derive(Deserialize)]
pub struct Token {
    pub access_token: String,
    /// Seconds; Entra's managed identities write a text.
    expires_in: Seconds,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

/// What it answers otherwise (RFC 6749 section 5.2).
#[derive(Deserialize)]
struct Refusal {
    error: Word,
    #[serde(default)]
    error_description: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Other(serde::de::IgnoredAny),
}

/// A try that came to nothing.
struct Failed {
    why: String,
    again: bool,
}

// === impl Http ===

impl Http {
    pub fn client(&self, place: Place) -> Result<&Client, String> {
        let base = || {
            // reqwest takes the process' provider; a second call changes nothing
            let _ = rustls::crypto::ring::default_provider().install_default();
            let builder = Client::builder().redirect(reqwest::redirect::Policy::none());
            builder.connect_timeout(CONNECT).timeout(WHOLE)
        };
        let client = match place {
            Place::Outside => self.outside.get_or_init(|| base().build().ok()),
            // plain HTTP: the system's authorities are not even looked for
            Place::Machine => self.machine.get_or_init(|| base().no_proxy().tls_certs_only([]).build().ok()),
        };
        client
            .as_ref()
            .ok_or_else(|| "no HTTP client could be made: are the system's CA certificates installed?".to_owned())
    }

    /// Send a form and read a token. `secrets`: what must not stand in an error.
    pub async fn token(&self, url: &str, form: &[(&str, &str)], secrets: &[&str]) -> Result<Token, String> {
        let client = self.client(Place::Outside)?;
        ask(|| client.request(Method::POST, url).form(form), secrets).await
    }

    /// Ask a service of the machine.
    pub async fn machine_token(
        &self,
        url: &str,
        query: &[(&str, &str)],
        name: &'static str,
        value: &str,
    ) -> Result<Token, String> {
        let client = self.client(Place::Machine)?;
        let mut url = reqwest::Url::parse(url).map_err(|_| "its address is not a URL".to_owned())?;
        url.query_pairs_mut().extend_pairs(query);
        ask(|| client.request(Method::GET, url.clone()).header(name, value), &[value]).await
    }
}

async fn ask(request: impl Fn() -> RequestBuilder, secrets: &[&str]) -> Result<Token, String> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let failed = match once(request()).await {
            Ok(token) => return Ok(token),
            Err(failed) => failed,
        };
        match pauses.next().filter(|_| failed.again) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(without(failed.why, secrets)),
        }
    }
}

async fn once(request: RequestBuilder) -> Result<Token, Failed> {
    let mut answer = request.send().await.map_err(|error| Failed { again: !error.is_builder(), why: reason(error) })?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| Failed { again: true, why: reason(error) })? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(Failed { again: false, why: "the token endpoint's answer is too long".to_owned() });
        }
        body.extend_from_slice(&chunk);
    }
    if status != StatusCode::OK {
        let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        return Err(Failed { again, why: refusal(status, &body) });
    }
    serde_json::from_slice(&body)
        .map_err(|_| Failed { again: false, why: "the token endpoint's answer is not a token".to_owned() })
}

/// The endpoint's own words, cut to a line.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let mut why = format!("the token endpoint answered {}", status.as_u16());
    if let Ok(Refusal { error: Word::Text(error), error_description }) = serde_json::from_slice(body) {
        let words = format!(": {error}: {}", error_description.unwrap_or_default());
        why.extend(words.trim_end_matches([':', ' ']).chars().filter(|c| !c.is_control()).take(LONGEST_WHY));
    }
    why
}

/// The whole chain of causes; the URL stays out, since it may hold a tenant.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = format!("the token endpoint could not be asked: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn without(mut text: String, secrets: &[&str]) -> String {
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(secret, "[secret]");
    }
    text
}

// === impl Token ===

impl Token {
    /// As the header it is sent in, with `more`.
    pub fn fetched(self, more: Proof) -> Result<Fetched, String> {
        let now = SystemTime::now();
        let life = match self.expires_in {
            Seconds::Number(seconds) => Some(seconds),
            Seconds::Text(text) => text.parse().ok(),
        };
        let life = life.ok_or_else(|| "the token endpoint's answer has no lifetime".to_owned())?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.access_token))
            .map_err(|_| "the token endpoint's answer is not a token".to_owned())?;
        value.set_sensitive(true);
        let mut headers = more;
        headers.push((header::AUTHORIZATION, value));
        // a day at most: an issuer that says otherwise errs
        let end = now + Duration::from_secs(life.min(86_400));
        Ok(Fetched::new(Material::Headers(headers), now, Some(end)))
    }
}
