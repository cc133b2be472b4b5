//! Who may issue tokens that stand in the place of a key (`auth.jwt`), and what their claims mean here. Checked; how a token is verified is
//! `filter::jwt`'s business, and no key of an issuer is known here.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use jsonwebtoken::Algorithm;

use super::quota::Own;
use super::snapshot::Pattern;

/// All that is taken where nothing is written. Whoever can verify a symmetric signature can make one: they never are.
pub const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// An entry of `auth.jwt`.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Stands before a caller's name: `NAME:ada`. The same for two entries only when they have the same issuer.
    pub name: Arc<str>,
    pub source: KeySource,
    /// One of them must stand in `aud`. Never empty.
    pub audiences: Vec<Box<str>>,
    /// Never empty, never symmetric.
    pub algorithms: Vec<Algorithm>,
    /// Its tokens are looked for there and nowhere else.
    pub header: Option<HeaderName>,
    pub caller: ClaimPath,
    /// Tags that come from claims.
    pub claims: Vec<(Arc<str>, ClaimPath)>,
    /// Fixed ones.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    pub required: Vec<(ClaimPath, Vec<Pattern>)>,
    /// `None`: every model.
    pub models: Option<Vec<Pattern>>,
    pub models_claim: Option<ClaimPath>,
    pub opaque: bool,
    pub weight: u32,
    /// Limits, budgets and caps: each caller has counters of its own.
    pub own: Option<Arc<Own>>,
    pub leeway: Duration,
    pub refresh: Duration,
    pub stale: Duration,
}

/// Whose keys, and where they are: what is fetched is kept over a reload under this.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeySource {
    /// `iss`, compared as it is.
    pub issuer: Arc<str>,
    /// `None`: told by the issuer's own document (OpenID Connect Discovery 1.0, section 4).
    pub jwks: Option<Arc<str>>,
}

/// The way to a value among the claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath {
    text: Box<str>,
    steps: Vec<Box<str>>,
}

/// Why an address is not asked for keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAddress {
    NotUrl,
    /// Whoever stands between us and the issuer could put keys of their own in.
    Plain,
    Credentials,
}

// === impl Issuer ===

impl Issuer {
    /// Whether one of its callers could have this name.
    pub fn is_name_of_caller(&self, name: &str) -> bool {
        name.strip_prefix(&*self.name).is_some_and(|rest| rest.starts_with(':'))
    }
}

// === impl ClaimPath ===

impl ClaimPath {
    /// `None`: it is empty, or a JSON pointer (RFC 6901) that is none.
    pub fn parse(text: &str) -> Option<ClaimPath> {
        let unescaped = |step: &str| {
            let mut parts = step.split('~');
            let mut out = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                out.push(match part.bytes().next() {
                    Some(b'0') => '~',
                    Some(b'1') => '/',
                    _ => return None,
                });
                out.push_str(part.get(1..)?);
            }
            Some(out.into_boxed_str())
        };
        let steps = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(unescaped).collect::<Option<Vec<_>>>()?,
            // the names of claims that are URLs (OpenID Connect Core 1.0, section 5.1.2)
            None if text.contains("://") => vec![text.into()],
            None => text.split('.').map(Box::from).collect(),
        };
        let whole = steps.iter().all(|step| !step.is_empty());
        whole.then(|| ClaimPath { text: text.into(), steps })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| &**step)
    }
}

// === addresses ===

/// Whether keys may be fetched there: over TLS, or from this machine.
pub fn fetchable(text: &str) -> Result<url::Url, BadAddress> {
    let url = url::Url::parse(text).map_err(|_| BadAddress::NotUrl)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadAddress::Credentials);
    }
    match url.scheme() {
        "https" if url.host().is_some() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(BadAddress::Plain),
        _ => Err(BadAddress::NotUrl),
    }
}

pub fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Option<Vec<String>> {
        Some(ClaimPath::parse(text)?.steps().map(str::to_owned).collect())
    }

    #[test]
    fn a_claims_path_is_dots_a_pointer_or_a_url() {
        let list = |steps: &[&str]| Some(steps.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(steps("sub"), list(&["sub"]));
        assert_eq!(steps("groups.0"), list(&["groups", "0"]));
        assert_eq!(steps("realm_access.roles.1"), list(&["realm_access", "roles", "1"]));
        assert_eq!(steps("https://example.com/team"), list(&["https://example.com/team"]));
        assert_eq!(steps("/https:~1~1example.com~1teams/0"), list(&["https://example.com/teams", "0"]));
        assert_eq!(steps("/a~0b/c.d"), list(&["a~b", "c.d"]));
        for wrong in ["", ".", "a.", ".a", "a..b", "/", "/a/", "/a~", "/a~2"] {
            assert_eq!(steps(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn keys_are_fetched_over_tls_or_from_this_machine() {
        for good in ["https://a.example/k?p=1", "http://127.0.0.1:1/k", "http://[::1]/k", "http://localhost:8080/k"] {
            assert!(fetchable(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("http://a.example/k", BadAddress::Plain),
            ("http://127.0.0.1.example/k", BadAddress::Plain),
            ("http://169.254.169.254/k", BadAddress::Plain),
            ("https://u:p@a.example/k", BadAddress::Credentials),
            ("file:///etc/passwd", BadAddress::NotUrl),
            ("a.example/k", BadAddress::NotUrl),
        ] {
            assert_eq!(fetchable(bad), Err(why), "{bad}");
        }
    }
}
