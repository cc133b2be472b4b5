//! Asking an issuer for its keys: over TLS or on this machine, no redirects, bounded in time and size. It is shown nothing.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Client, StatusCode};

use crate::config::issuer::{KeySource, fetchable, is_loopback};
use crate::json::Node;

/// Thirty keys with their certificates have some 60 KB.
const LARGEST: usize = 512 * 1024;
const CONNECT: Duration = Duration::from_secs(3);

/// HTTP clients, made when they are first needed.
#[derive(Default)]
pub struct Http {
    outside: OnceLock<Option<Client>>,
    machine: OnceLock<Option<Client>>,
}

// === impl Http ===

impl Http {
    /// The text of the set of keys.
    pub async fn keys(&self, source: &KeySource) -> Result<Vec<u8>, String> {
        match &source.jwks {
            Some(url) => self.get(url, "the set of keys").await,
            None => {
                let url = self.discover(&source.issuer).await?;
                self.get(&url, "the set of keys").await
            }
        }
    }

    /// OpenID Connect Discovery 1.0, section 4.
    async fn discover(&self, issuer: &str) -> Result<String, String> {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let text = self.get(&url, "its discovery document").await?;
        let root = Node::parse(&text).map_err(|_| "its discovery document is not JSON, or can be read in two ways")?;
        let member = |name: &str| root.as_object().and_then(|root| root.get(name)).and_then(Node::as_str);
        // section 4.3: else anybody's document would do
        if member("issuer") != Some(issuer) {
            return Err("its discovery document is that of another issuer".to_owned());
        }
        let keys = member("jwks_uri").ok_or("its discovery document does not name its keys")?;
        let there = fetchable(keys).map_err(|_| "its discovery document names keys at an address that is not asked")?;
        let from_here = fetchable(issuer).is_ok_and(|issuer| is_loopback(&issuer));
        // an issuer elsewhere has no business with this machine
        if is_loopback(&there) && !from_here {
            return Err("its discovery document names keys at an address that is not asked".to_owned());
        }
        Ok(keys.to_owned())
    }

    async fn get(&self, url: &str, what: &str) -> Result<Vec<u8>, String> {
        let url = fetchable(url).map_err(|_| format!("{what} is at an address that is not asked"))?;
        let client = self.client(is_loopback(&url))?;
        let request = client.get(url).header(reqwest::header::ACCEPT, "application/jwk-set+json, application/json");
        let mut answer = request.send().await.map_err(|error| reason(what, error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("{what}: answered {}", answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| reason(what, error))? {
            if body.len() + chunk.len() > LARGEST {
                return Err(format!("{what}: longer than {LARGEST} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn client(&self, machine: bool) -> Result<&Client, String> {
        let base = || {
            // reqwest takes the process' provider; a second call changes nothing
            let _ = rustls::crypto::ring::default_provider().install_default();
            Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(CONNECT)
        };
        let client = match machine {
            false => self.outside.get_or_init(|| base().https_only(true).build().ok()),
            true => self.machine.get_or_init(|| base().no_proxy().build().ok()),
        };
        client
            .as_ref()
            .ok_or_else(|| "no HTTP client could be made: are the system's CA certificates installed?".to_owned())
    }
}

/// The whole chain of causes, without the address.
fn reason(what: &str, error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = format!("{what}: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
