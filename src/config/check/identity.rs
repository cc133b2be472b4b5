//! What tells one provider's connections from another's.

use sha2::{Digest, Sha256};

use crate::config::Secret;
use crate::config::snapshot::{AuthScheme, AwsSource, EntraProof, EntraSource, Google, HttpVersion, Provider};

/// Two providers share connections only when all of this is the same. Pingora's own key has neither authorities nor
/// credentials in it (PeerOptions::group_key is there for that). Endpoints of a pool are left out: one that comes or goes must not
/// part the others from what is known of them.
pub(super) fn pool_key(provider: &Provider) -> u64 {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // The length first, so that no two lists of parts look alike.
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(provider.name.as_str().as_bytes());
    part(&[u8::from(provider.base.tls)]);
    if provider.pool.is_some() {
        part(b"endpoints");
    } else {
        part(provider.base.host.as_bytes());
        part(&provider.base.port.to_be_bytes());
    }
    part(provider.ca.as_deref().unwrap_or_default());
    part(provider.credential.as_ref().map_or("", Secret::expose).as_bytes());
    for text in who_asks(&provider.auth) {
        part(text.as_bytes());
    }
    part(match provider.http {
        HttpVersion::Http1 => b"1",
        HttpVersion::Http2 => b"2",
        HttpVersion::Auto => b"auto",
    });
    if let Some(proxy) = &provider.proxy {
        part(proxy.host.as_bytes());
        part(&proxy.port.to_be_bytes());
        part(proxy.authorization.as_ref().map_or("", Secret::expose).as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let (first, _) = digest.split_first_chunk::<8>().expect("32 bytes hold 8");
    u64::from_be_bytes(*first)
}

/// The identity behind credentials that are fetched.
fn who_asks(auth: &AuthScheme) -> Vec<&str> {
    match auth {
        AuthScheme::Bearer | AuthScheme::Header(_) | AuthScheme::None => Vec::new(),
        AuthScheme::Aws(aws) => match &aws.source {
            AwsSource::Keys { access_key_id, secret_access_key, session_token } => {
                let token = session_token.as_ref().map_or("", Secret::expose);
                vec!["keys", access_key_id.expose(), secret_access_key.expose(), token]
            }
            AwsSource::Profile(name) => vec!["profile", name],
            AwsSource::Chain => vec!["chain"],
        },
        AuthScheme::Google(Google::Key(key)) => vec!["key", key.expose()],
        AuthScheme::Google(Google::Default) => vec!["default"],
        AuthScheme::Entra(entra) => match &entra.source {
            EntraSource::Application { token_url, client_id, proof } => {
                let proof = match proof {
                    EntraProof::Secret(secret) => secret.expose(),
                    EntraProof::TokenFile(path) => path.to_str().unwrap_or_default(),
                };
                vec!["application", token_url, client_id, proof, &entra.scope]
            }
            EntraSource::ManagedIdentity { client_id } => {
                vec!["identity", client_id.as_deref().unwrap_or_default(), &entra.scope]
            }
        },
    }
}
