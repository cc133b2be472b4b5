//! Credentials that are fetched and renewed, or made for each call: AWS, Google, Microsoft Entra.
//!
//! A key that is sent as it is stands in the snapshot (`Provider::credential_header`) and is none of this. What is fetched is kept
//! under its `AuthScheme`, so that a reload keeps what it did not change. It is renewed beside the calls before it ends; only the first
//! call, or one after a long pause, waits for it. Secrets are in no log line and no error.

mod aws;
mod entra;
mod google;
mod held;
mod http;

use std::sync::Arc;
use std::time::SystemTime;

use ::http::{HeaderName, HeaderValue};
use aws_credential_types::Credentials as AwsKeys;
use dashmap::DashMap;

use self::held::{Entry, Fetched, Material};
use self::http::Http;
use super::attempt::{Failure, FailureKind};
use crate::config::snapshot::{AuthScheme, AwsSource, Provider};
use crate::json::Spliced;

/// Headers that show the provider who asks.
pub type Proof = Vec<(HeaderName, HeaderValue)>;

/// What a proof is made for. Only a signature looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    pub method: &'a str,
    /// Path and query, as they are sent.
    pub target: &'a str,
    pub body: Body<'a>,
}

#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    Empty,
    Whole(&'a Spliced),
    /// Comes while it is sent: it cannot be signed.
    Streamed,
}

/// The credentials of one process.
pub struct Credentials {
    entries: DashMap<AuthScheme, Arc<Entry>>,
    http: Arc<Http>,
}

// === impl Credentials ===

impl Default for Credentials {
    fn default() -> Self {
        Credentials { entries: DashMap::new(), http: Arc::new(Http::default()) }
    }
}

impl Credentials {
    pub fn new() -> Self {
        Self::default()
    }

    /// The headers to add to one attempt. None for a key that is sent as it is. A new attempt needs a new proof.
    pub async fn authorize(&self, provider: &Provider, sent: &Sent<'_>) -> Result<Proof, Failure> {
        match &provider.auth {
            AuthScheme::Bearer | AuthScheme::Header(_) | AuthScheme::None => Ok(Proof::new()),
            AuthScheme::Google(_) | AuthScheme::Entra(_) => match &self.held(provider).await?.material {
                Material::Headers(headers) => Ok(headers.clone()),
                Material::Aws(_) => Err(failed("keys where a token was to be")),
            },
            AuthScheme::Aws(aws) => {
                let host = provider.base.authority.to_str().map_err(failed)?;
                let held;
                let given;
                let keys = match given_keys(&aws.source) {
                    Some(keys) => {
                        given = keys;
                        &given
                    }
                    None => {
                        held = self.held(provider).await?;
                        match &held.material {
                            Material::Aws(keys) => keys,
                            Material::Headers(_) => return Err(failed("a token where keys were to be")),
                        }
                    }
                };
                aws::sign(keys, &aws.region, SystemTime::now(), host, sent)
            }
        }
    }

    /// What is sent at present to show who asks, to be taken out of what a provider says. Nothing for a key that stands in the
    /// snapshot.
    pub fn secrets(&self, provider: &Provider) -> Vec<String> {
        if let AuthScheme::Aws(aws) = &provider.auth
            && let Some(keys) = given_keys(&aws.source)
        {
            return aws_secrets(&keys);
        }
        let Some(held) = self.entries.get(&provider.auth).and_then(|entry| entry.last()) else { return Vec::new() };
        match &held.material {
            Material::Aws(keys) => aws_secrets(keys),
            Material::Headers(headers) => {
                let secret = headers.iter().filter(|(_, value)| value.is_sensitive());
                let texts = secret.filter_map(|(_, value)| value.to_str().ok());
                texts.map(|text| text.strip_prefix("Bearer ").unwrap_or(text).to_owned()).collect()
            }
        }
    }

    /// Forget the credentials of providers that are no longer configured.
    pub fn retain(&self, providers: &[Arc<Provider>]) {
        self.entries.retain(|auth, _| providers.iter().any(|provider| provider.auth == *auth));
    }

    async fn held(&self, provider: &Provider) -> Result<Arc<Fetched>, Failure> {
        let known = self.entries.get(&provider.auth).map(|entry| Arc::clone(&entry));
        let entry = match known {
            Some(entry) => entry,
            None => {
                let entry = self.entries.entry(provider.auth.clone());
                Arc::clone(
                    &entry.or_insert_with(|| Arc::new(Entry::new(provider.auth.clone(), Arc::clone(&self.http)))),
                )
            }
        };
        entry.get(provider.name.as_str()).await.map_err(failed)
    }
}

fn given_keys(source: &AwsSource) -> Option<AwsKeys> {
    match source {
        AwsSource::Keys { access_key_id, secret_access_key, session_token } => Some(AwsKeys::from_keys(
            access_key_id.expose(),
            secret_access_key.expose(),
            session_token.as_ref().map(|token| token.expose().to_owned()),
        )),
        AwsSource::Profile(_) | AwsSource::Chain => None,
    }
}

fn aws_secrets(keys: &AwsKeys) -> Vec<String> {
    // the secret itself is never sent
    let sent = [Some(keys.access_key_id()), keys.session_token()];
    sent.into_iter().flatten().map(str::to_owned).collect()
}

fn failed(why: impl Into<crate::error::BoxError>) -> Failure {
    Failure::new(FailureKind::Credentials, why)
}

#[cfg(test)]
mod tests;
