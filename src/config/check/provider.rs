//! One provider: the vendor's row of `conf/providers.yaml` with the entry's own words on top.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};
use url::Url;

use super::auth::{self, Entry};
use super::{Checker, offer, proxy};
use crate::config::Secret;
use crate::config::error::{Place, nearest, quote};
use crate::config::policy::{Admission, BreakerPolicy};
use crate::config::raw::{self, At};
use crate::config::snapshot::{
    AuthScheme, AwsSource, BaseUrl, EntraProof, EntraSource, Google, HttpVersion, Provider, ProxyServer, StreamUsage,
    Timeouts,
};
use crate::config::vendors::{self, Vendor};
use crate::dialect::Operation;
use crate::id::ProviderName;

/// Headers that Tollgate sets itself, or that belong to one connection (RFC 9110 7.6.1).
const OWN_HEADERS: [HeaderName; 10] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
];

impl Checker<'_> {
    pub(super) fn provider(&mut self, name: &At<String>, mut typed: raw::Provider, base: Timeouts) -> Option<Provider> {
        let path = format!("providers.{}", name.value);
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !(1..=64).contains(&name.value.len()) || !name.value.bytes().all(word) {
            let message = format!("provider name {}: use 1 to 64 letters, digits and . _ -", quote(&name.value));
            self.faults.wrong(name.place, &path, message);
        }
        // Everything below is checked even when something above was wrong.
        let timeouts = self.timeouts(base, typed.timeouts.as_ref(), &format!("{path}.timeouts"));
        let headers = self.headers(typed.headers.take().unwrap_or_default(), &path);
        let ca = typed.ca.as_ref().and_then(|at| self.authority_file(at, &format!("{path}.ca")));
        let missing_env: Vec<String> = typed
            .required_env
            .iter()
            .flatten()
            .map(|at| at.value.clone())
            .filter(|variable| self.environment.get(variable).is_none_or(|v| v.is_empty()))
            .collect();
        let own_url = typed.base_url.as_ref().map(|at| (at.place, base_url(&at.value)));
        let (kind, vendor) = self.kind(name, typed.kind.as_ref(), own_url.is_some(), &path)?;

        let entry = Entry {
            path: &path,
            place: name.place,
            kind: &kind,
            own_url: own_url.is_some(),
            missing_env: !missing_env.is_empty(),
        };
        let slots = self.slots(&typed, vendor, &entry);
        let url = match own_url {
            Some((_, Ok(url))) => Some(url),
            Some((place, Err(why))) => {
                self.faults.wrong(place, &path, format!("{path}.base_url {why}"));
                None
            }
            None => match slots.base_url(vendor) {
                // a slot that could not be filled has been told
                Some(url) => base_url(&url).ok(),
                None => {
                    let message = format!(
                        "{path} has no \"base_url\": {kind} has an address per customer, write it, e.g. \
                         https://RESOURCE.openai.azure.com"
                    );
                    self.faults.missing(name.place, &path, message);
                    None
                }
            },
        };
        let auth = auth::Typed {
            auth: typed.auth,
            api_key: typed.api_key,
            profile: typed.profile,
            access_key_id: typed.access_key_id,
            secret_access_key: typed.secret_access_key,
            session_token: typed.session_token,
            credentials: typed.credentials,
        };
        let auth = self.auth(auth, vendor, &slots, &entry);
        if let Some((header, _)) = &auth.header
            && headers.iter().any(|(name, _)| name == header)
        {
            let message = format!("{path}.headers: {header} already carries the api_key: remove one of them");
            self.faults.wrong(name.place, &path, message);
        }
        let offer = offer::Typed {
            paths: typed.paths.unwrap_or_default(),
            stream_paths: typed.stream_paths.unwrap_or_default(),
            bridge: typed.bridge,
            manners: typed.manners.unwrap_or_default(),
            betas: typed.betas,
        };
        let offers = self.offers(offer, vendor, url.as_ref(), &slots, &path);
        let query = self.query(typed.api_version.as_ref(), &kind, vendor, &path);
        let http = match typed.http {
            None | Some(raw::Http::Auto) => HttpVersion::Auto,
            Some(raw::Http::One) => HttpVersion::Http1,
            Some(raw::Http::Two) => HttpVersion::Http2,
        };
        let url = url?;
        let proxy = self.proxy(typed.proxy.as_ref(), &url, name.place, &path);
        // the entry's own headers win over the vendor's
        let default_headers = vendor_headers(vendor).filter(|(name, _)| headers.iter().all(|(own, _)| own != name));
        let mut provider = Provider {
            name: ProviderName::new(name.value.as_str()),
            kind: kind.into(),
            base: url,
            auth: auth.scheme,
            credential: auth.credential,
            credential_header: auth.header,
            offers,
            query,
            default_headers: default_headers.collect(),
            forward: vendor.forward.iter().filter_map(|name| name.parse().ok()).collect(),
            headers,
            stream_usage: match typed.stream_usage.unwrap_or(vendor.stream_usage) {
                raw::StreamUsage::Ask => StreamUsage::Ask,
                raw::StreamUsage::Always => StreamUsage::Always,
                raw::StreamUsage::Never => StreamUsage::Never,
            },
            http,
            ca,
            proxy,
            timeouts,
            breaker: BreakerPolicy::default(),
            admission: Admission::default(),
            pool: None,
            account: 0,
            accounts: Vec::new(),
            missing_env,
            pool_key: 0,
        };
        provider.pool_key = pool_key(&provider);
        Some(provider)
    }

    /// The keys that have a place in the vendor's addresses.
    fn slots(&mut self, typed: &raw::Provider, vendor: &Vendor, entry: &Entry<'_>) -> Slots {
        let Entry { path, place, kind, .. } = *entry;
        let from_environment = |name: &str| self.environment.get(name).filter(|value| !value.trim().is_empty());
        let region = from_environment("AWS_REGION").or_else(|| from_environment("AWS_DEFAULT_REGION"));
        let keys = [
            ("region", typed.region.as_ref(), region, "the AWS region, e.g. \"region: us-east-1\", or set AWS_REGION"),
            ("project", typed.project.as_ref(), None, "the Google Cloud project"),
            ("location", typed.location.as_ref(), Some("global".to_owned()), "e.g. \"location: global\""),
        ];
        let [region, project, location] = keys.map(|(name, at, default, advice)| {
            match (vendor.has_slot(name), at) {
                (true, Some(at)) if is_slot(name, &at.value) => return at.value.clone(),
                (true, Some(at)) => {
                    let message = format!("{path}.{name}: {}: use letters, digits and -", at.quoted());
                    self.faults.wrong(at.place, path, message);
                }
                (true, None) => match default.filter(|value| is_slot(name, value.trim())) {
                    Some(value) => return value.trim().to_owned(),
                    // such a provider is shown, not used
                    None if entry.missing_env => return "unset".to_owned(),
                    None => self.faults.missing(place, path, format!("{path} has no \"{name}\": write {advice}")),
                },
                (false, Some(at)) => {
                    let message = format!("{path}.{name}: {kind} has none: remove it");
                    self.faults.wrong(at.place, path, message);
                }
                (false, None) => {}
            }
            String::new()
        });
        Slots { region, project, location }
    }

    fn kind(
        &mut self,
        name: &At<String>,
        typed: Option<&At<String>>,
        has_url: bool,
        path: &str,
    ) -> Option<(String, &'static Vendor)> {
        let all = vendors::all();
        let text = typed.map_or(&name.value, |at| &at.value);
        if let Some(vendor) = all.get(text) {
            return Some((text.clone(), vendor));
        }
        let place = typed.map_or(name.place, |at| at.place);
        let names = || all.keys().map(String::as_str);
        let message = match typed {
            Some(at) => match nearest(text, names()) {
                Some(near) => format!("{path}.kind: {} is not known: did you mean \"{near}\"?", at.quoted()),
                None => format!(
                    "{path}.kind: {} is not known: write \"openai\" with a \"base_url\" for anything OpenAI-compatible, or \
                     one of {}",
                    at.quoted(),
                    names().collect::<Vec<_>>().join(", ")
                ),
            },
            None => match nearest(text, names()).filter(|_| !has_url) {
                Some(near) => format!(
                    "{path}: no vendor has this name: did you mean \"{near}\"? If not, write \"kind\", e.g. \"kind: openai\""
                ),
                None => format!(
                    "{path}: no vendor has this name: write \"kind\", e.g. \"kind: openai\" with a \"base_url\" for anything \
                     OpenAI-compatible"
                ),
            },
        };
        self.faults.wrong(place, path, message);
        None
    }

    fn headers(&mut self, typed: raw::Map<At<Secret>>, path: &str) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(typed.0.len());
        for (name, value) in typed.0 {
            let below = format!("{path}.headers");
            let Some(header) = self.header_name(&name, &below) else { continue };
            if headers.iter().any(|(other, _)| *other == header) {
                let message = format!("{below}: {} is written twice: remove one", name.quoted());
                self.faults.wrong(name.place, &below, message);
            }
            match HeaderValue::from_str(value.value.expose()) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    headers.push((header, value));
                }
                Err(_) => {
                    let message =
                        format!("{below}.{}: a header holds printable ASCII on one line: remove the rest", name.value);
                    self.faults.wrong(value.place, &below, message);
                }
            }
        }
        headers
    }

    pub(super) fn header_name(&mut self, at: &At<String>, path: &str) -> Option<HeaderName> {
        let message = match at.value.parse::<HeaderName>() {
            Ok(name) if OWN_HEADERS.contains(&name) => {
                format!("{path}: {} is set by Tollgate itself: remove it", at.quoted())
            }
            Ok(name) => return Some(name),
            Err(_) => format!("{path}: {} is not a header name: use letters, digits and -", at.quoted()),
        };
        self.faults.wrong(at.place, path, message);
        None
    }

    fn query(&mut self, typed: Option<&At<String>>, kind: &str, vendor: &Vendor, path: &str) -> Option<Arc<str>> {
        let version = match (typed, &vendor.api_version) {
            (Some(at), None) => {
                let message = format!("{path}.api_version is for azure; {kind} has none: remove it");
                self.faults.wrong(at.place, path, message);
                return None;
            }
            (Some(at), Some(_)) => {
                let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
                if at.value.is_empty() || !at.value.bytes().all(fit) {
                    let message = format!("{path}.api_version: {}: write for example \"2024-10-21\"", at.quoted());
                    self.faults.wrong(at.place, path, message);
                }
                &at.value
            }
            (None, version) => version.as_ref()?,
        };
        Some(format!("api-version={version}").into())
    }

    fn proxy(&mut self, typed: Option<&At<Secret>>, url: &BaseUrl, place: Place, path: &str) -> Option<ProxyServer> {
        let (place, found) = match typed {
            Some(at) if at.value.expose() == "off" => return None,
            Some(at) => (at.place, proxy::parse(at.value.expose()).map(Some).map_err(|why| format!("it {why}"))),
            None => (place, proxy::from_environment(url, self.environment)),
        };
        found.unwrap_or_else(|why| {
            self.faults.wrong(place, path, format!("{path}.proxy: {why}"));
            None
        })
    }
}

/// What stands in the place of `{region}`, `{project}` and `{location}`; empty where the vendor has no such place.
pub(super) struct Slots {
    pub region: String,
    pub project: String,
    pub location: String,
}

impl Slots {
    pub(super) fn fill(&self, text: &str) -> String {
        let Slots { region, project, location } = self;
        text.replace("{region}", region).replace("{project}", project).replace("{location}", location)
    }

    /// The vendor's own address; `None` where each customer has one.
    fn base_url(&self, vendor: &Vendor) -> Option<String> {
        let url = vendor.base_urls.get(&self.location).or(vendor.base_url.as_ref())?;
        Some(self.fill(url))
    }
}

/// One label of a host name, and one segment of a path. Old projects have a domain in front (`example.com:name`).
fn is_slot(name: &str, text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || (name == "project" && matches!(b, b'.' | b':')))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn vendor_headers(vendor: &Vendor) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    vendor.headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
}

/// Splits a base URL. The error reads after the key's name and does not repeat the URL, which may hold a secret.
pub(super) fn base_url(text: &str) -> Result<BaseUrl, String> {
    let url = Url::parse(text.trim())
        .map_err(|_| "is not a URL: write for example \"https://api.example.com/v1\"".to_owned())?;
    let tls = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err("has an unknown scheme: write \"https://...\" or \"http://...\"".to_owned()),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds credentials: move them to \"api_key\" or \"headers\"".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment: end it at the path".to_owned());
    }
    let host =
        host_text(&url).ok_or_else(|| "has no host: write for example \"https://api.example.com/v1\"".to_owned())?;
    let path = url.path().trim_end_matches('/');
    if let Some(operation) = Operation::ALL.iter().find(|operation| path.ends_with(operation.path())) {
        return Err(format!("ends with \"{}\", which Tollgate adds itself: leave it out", operation.path()));
    }
    let shown_host = url.host_str().unwrap_or_default();
    let authority = match url.port() {
        Some(port) => format!("{shown_host}:{port}"),
        None => shown_host.to_owned(),
    };
    Ok(BaseUrl {
        tls,
        host: host.into(),
        port: url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 }),
        authority: HeaderValue::from_str(&authority).map_err(|_| "has an unusual host name".to_owned())?,
        path: path.into(),
    })
}

/// The host, without the brackets of an IPv6 address; never empty.
pub(super) fn host_text(url: &Url) -> Option<String> {
    let host = match url.host()? {
        url::Host::Domain(name) => name.to_ascii_lowercase(),
        url::Host::Ipv4(ip) => ip.to_string(),
        url::Host::Ipv6(ip) => ip.to_string(),
    };
    (!host.is_empty()).then_some(host)
}

/// Two providers share connections only when all of this is the same. Pingora's own key has neither authorities nor
/// credentials in it (PeerOptions::group_key is there for that).
fn pool_key(provider: &Provider) -> u64 {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // The length first, so that no two lists of parts look alike.
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(provider.name.as_str().as_bytes());
    part(&[u8::from(provider.base.tls)]);
    part(provider.base.host.as_bytes());
    part(&provider.base.port.to_be_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_vendor_has_a_good_base_url_and_header() {
        let slots = Slots { region: "r-1".to_owned(), project: "p".to_owned(), location: "l".to_owned() };
        for (name, vendor) in vendors::all() {
            for url in vendor.base_url.iter().chain(vendor.base_urls.values()) {
                let filled = slots.fill(url);
                assert!(base_url(&filled).is_ok() && !filled.contains('{'), "{name}");
            }
            for header in vendor.header.iter().chain(&vendor.forward).chain(vendor.headers.keys()) {
                assert!(header.parse::<HeaderName>().is_ok(), "{name}");
            }
            assert_eq!(vendor_headers(vendor).count(), vendor.headers.len(), "{name}");
            for path in vendor.rows().flat_map(|row| row.paths.values().chain(row.stream_paths.values())) {
                let filled = slots.fill(path).replace("{model}", "").replace("{name}", "");
                assert!((path.starts_with('/') || path.starts_with("../")) && !filled.contains('{'), "{name}");
            }
        }
    }

    #[test]
    fn a_base_url_is_split_once() {
        let url = base_url("https://API.Example.com/v1/").unwrap();
        assert_eq!((url.tls, &*url.host, url.port, &*url.path), (true, "api.example.com", 443, "/v1"));
        assert_eq!(url.authority, "api.example.com");
        let url = base_url("http://[::1]:11434").unwrap();
        assert_eq!((url.tls, &*url.host, url.port, &*url.path), (false, "::1", 11434, ""));
        assert_eq!(url.authority, "[::1]:11434");
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_repeating_it() {
        for text in [
            "",
            "api.example.com/v1",
            "ftp://example.com",
            "https://",
            "https://user:canary@example.com",
            "https://example.com/v1?key=canary",
            "https://example.com/#canary",
            "https://exa mple.com/canary",
            "https://example.com/v1/chat/completions",
            "file:///etc/canary",
        ] {
            let why = base_url(text).unwrap_err();
            assert!(!why.contains("canary"), "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_base_url_with_a_host_or_refused(text in "(https?://)?[a-z0-9:/@?#\\[\\]. %-]{0,30}") {
            if let Ok(url) = base_url(&text) {
                prop_assert!(!url.host.is_empty());
                prop_assert!(!url.path.ends_with('/'));
            }
        }
    }
}
