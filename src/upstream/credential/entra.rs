//! Tokens of Microsoft Entra ID: an application with a secret or a federated token, or a managed identity.
//!
//! Truth: Microsoft identity platform, "OAuth 2.0 client credentials flow"; "How to use managed identities" for virtual machines
//! (`169.254.169.254`) and App Service (`IDENTITY_ENDPOINT`).

use super::held::Fetched;
use super::http::Http;
use crate::config::snapshot::{Entra, EntraProof, EntraSource};

/// RFC 7523 section 2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const INSTANCE_METADATA: &str = "http://169.254.169.254";

pub async fn fetch(source: &Entra, http: &Http) -> Result<Fetched, String> {
    let scope = &*source.scope;
    let token = match &source.source {
        EntraSource::Application { token_url, client_id, proof } => {
            let mut form = vec![("grant_type", "client_credentials"), ("client_id", client_id), ("scope", scope)];
            let assertion;
            let secret = match proof {
                EntraProof::Secret(secret) => {
                    form.push(("client_secret", secret.expose()));
                    secret.expose()
                }
                EntraProof::TokenFile(path) => {
                    let text = tokio::fs::read_to_string(path).await;
                    assertion = text.map_err(|e| format!("the federated token cannot be read: {}", e.kind()))?;
                    form.push(("client_assertion_type", JWT_BEARER));
                    form.push(("client_assertion", assertion.trim()));
                    assertion.trim()
                }
            };
            http.token(token_url, &form, &[secret]).await?
        }
        EntraSource::ManagedIdentity { client_id } => {
            let resource = scope.strip_suffix("/.default").unwrap_or(scope);
            let mut query = vec![("resource", resource)];
            query.extend(client_id.as_deref().map(|id| ("client_id", id)));
            let of_service = std::env::var("IDENTITY_ENDPOINT").ok().zip(std::env::var("IDENTITY_HEADER").ok());
            match of_service {
                Some((url, secret)) => {
                    query.push(("api-version", "2019-08-01"));
                    http.machine_token(&url, &query, "x-identity-header", &secret).await?
                }
                None => {
                    // the variable of Microsoft's own SDKs
                    let host = std::env::var("AZURE_POD_IDENTITY_AUTHORITY_HOST");
                    let host = host.as_deref().unwrap_or(INSTANCE_METADATA).trim_end_matches('/');
                    query.push(("api-version", "2018-02-01"));
                    let url = format!("{host}/metadata/identity/oauth2/token");
                    http.machine_token(&url, &query, "metadata", "true").await?
                }
            }
        }
    };
    token.fetched(Vec::new())
}
