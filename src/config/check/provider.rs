//! One provider: the vendor's row of `conf/providers.yaml` with the entry's own words on top.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Checker, is_credential, proxy};
use crate::config::Secret;
use crate::config::error::{Place, nearest, quote};
use crate::config::raw::{self, At};
use crate::config::snapshot::{AuthScheme, BaseUrl, HttpVersion, Provider, ProxyServer, StreamUsage, Timeouts};
use crate::config::vendors::{self, Vendor, VendorAuth};
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
    pub(super) fn provider(&mut self, name: &At<String>, typed: raw::Provider, base: Timeouts) -> Option<Provider> {
        let path = format!("providers.{}", name.value);
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !(1..=64).contains(&name.value.len()) || !name.value.bytes().all(word) {
            let message = format!("provider name {}: use 1 to 64 letters, digits and . _ -", quote(&name.value));
            self.faults.wrong(name.place, &path, message);
        }
        // Everything below is checked even when something above was wrong.
        let timeouts = self.timeouts(base, typed.timeouts.as_ref(), &format!("{path}.timeouts"));
        let headers = self.headers(typed.headers.unwrap_or_default(), &path);
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

        let url = match (own_url, &vendor.base_url) {
            (Some((_, Ok(url))), _) => Some(url),
            (Some((place, Err(why))), _) => {
                self.faults.wrong(place, &path, format!("{path}.base_url {why}"));
                None
            }
            (None, Some(url)) => Some(base_url(url).expect("a test reads every base_url of conf/providers.yaml")),
            (None, None) => {
                let message = format!(
                    "{path} has no \"base_url\": {kind} has an address per customer, write it, e.g. \
                     https://RESOURCE.openai.azure.com"
                );
                self.faults.missing(name.place, &path, message);
                None
            }
        };
        let auth = self.auth(typed.auth.as_ref(), vendor, &path);
        // A server of one's own often needs no key; the vendor's always does.
        let needs_key = typed.auth.is_some() || typed.base_url.is_none() || vendor.base_url.is_none();
        let needs_key =
            needs_key && auth != AuthScheme::None && (vendor.auth != VendorAuth::None || typed.auth.is_some());
        let credential_header = typed.api_key.as_ref().and_then(|at| self.credential(at, &auth, &path));
        if typed.api_key.is_none() && needs_key && missing_env.is_empty() {
            let variable = vendor.env.first().map_or("API_KEY", String::as_str);
            let message = format!(
                "{path} has no \"api_key\": write for example \"api_key: ${{{variable}}}\", or \"auth: none\" if it needs none"
            );
            self.faults.missing(name.place, &path, message);
        }
        if let Some((header, _)) = &credential_header
            && headers.iter().any(|(name, _)| name == header)
        {
            let message = format!("{path}.headers: {header} already carries the api_key: remove one of them");
            self.faults.wrong(name.place, &path, message);
        }
        let paths = self.paths(typed.paths.unwrap_or_default(), vendor, &path);
        let query = self.query(typed.api_version.as_ref(), &kind, vendor, &path);
        let http = match typed.http {
            None | Some(raw::Http::Auto) => HttpVersion::Auto,
            Some(raw::Http::One) => HttpVersion::Http1,
            Some(raw::Http::Two) => HttpVersion::Http2,
        };
        let url = url?;
        let proxy = self.proxy(typed.proxy.as_ref(), &url, name.place, &path);
        let credential = typed.api_key.map(|at| at.value);
        let mut provider = Provider {
            name: ProviderName::new(name.value.as_str()),
            kind: kind.into(),
            base: url,
            // Without a credential there is nothing to send.
            auth: if credential.is_none() && missing_env.is_empty() { AuthScheme::None } else { auth },
            credential,
            credential_header,
            paths,
            query,
            headers,
            stream_usage: match typed.stream_usage.unwrap_or(vendor.stream_usage) {
                raw::StreamUsage::Ask => StreamUsage::Ask,
                raw::StreamUsage::Always => StreamUsage::Always,
                raw::StreamUsage::Never => StreamUsage::Never,
            },
            bridge: vec![Operation::ChatCompletions],
            manners: crate::dialect::Manners::default(),
            http,
            ca,
            proxy,
            timeouts,
            missing_env,
            pool_key: 0,
        };
        provider.pool_key = pool_key(&provider);
        Some(provider)
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
            _ if vendors::LATER.contains(&text.as_str()) => {
                format!("{path}: kind \"{text}\" is not available in this version: remove this provider")
            }
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

    fn auth(&mut self, typed: Option<&raw::ProviderAuth>, vendor: &Vendor, path: &str) -> AuthScheme {
        let Some(typed) = typed else {
            return match (vendor.auth, &vendor.header) {
                (VendorAuth::Header, Some(name)) => {
                    AuthScheme::Header(name.parse().expect("a test reads every header of conf/providers.yaml"))
                }
                (VendorAuth::Bearer | VendorAuth::None | VendorAuth::Header, _) => AuthScheme::Bearer,
            };
        };
        if let Some(at) = &typed.header {
            return match self.header_name(at, &format!("{path}.auth.header")) {
                Some(name) => AuthScheme::Header(name),
                None => AuthScheme::Bearer,
            };
        }
        match typed.scheme.as_ref().map(|at| at.value.as_str()) {
            Some("none") => AuthScheme::None,
            _ => AuthScheme::Bearer,
        }
    }

    fn credential(&mut self, at: &At<Secret>, auth: &AuthScheme, path: &str) -> Option<(HeaderName, HeaderValue)> {
        let text = at.value.expose();
        let (name, value) = match auth {
            AuthScheme::Bearer => (header::AUTHORIZATION, format!("Bearer {text}")),
            AuthScheme::Header(name) => (name.clone(), text.to_owned()),
            AuthScheme::None => {
                let message = format!("{path} has an \"api_key\" and \"auth: none\": remove one of them");
                self.faults.wrong(at.place, path, message);
                return None;
            }
        };
        match HeaderValue::from_str(&value) {
            Ok(mut value) if is_credential(text) => {
                value.set_sensitive(true);
                Some((name, value))
            }
            _ => {
                let message = format!(
                    "{path}.api_key has a space, a line break or an unusual character: a key is printable ASCII without spaces"
                );
                self.faults.wrong(at.place, path, message);
                None
            }
        }
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

    fn header_name(&mut self, at: &At<String>, path: &str) -> Option<HeaderName> {
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

    fn paths(&mut self, typed: raw::Map<At<String>>, vendor: &Vendor, path: &str) -> BTreeMap<Operation, Arc<str>> {
        let mut paths: BTreeMap<Operation, Arc<str>> = vendor
            .operations
            .iter()
            .filter_map(|name| {
                let operation = Operation::from_name(name)?;
                let own = vendor.paths.get(name).map(String::as_str);
                Some((operation, own.unwrap_or(operation.path()).into()))
            })
            .collect();
        for (name, value) in typed.0 {
            let below = format!("{path}.paths");
            let Some(operation) = Operation::from_name(&name.value) else {
                let names: Vec<&str> = Operation::ALL.iter().map(|o| o.name()).collect();
                let advice = match nearest(&name.value, names.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("write one of {}", names.join(", ")),
                };
                self.faults.wrong(name.place, &below, format!("{below}: no operation {}: {advice}", name.quoted()));
                continue;
            };
            let text = &value.value;
            if text == "off" {
                paths.remove(&operation);
            } else if text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
                paths.insert(operation, text.as_str().into());
            } else {
                let message = format!(
                    "{below}.{operation}: {} is not a path: begin it with \"/\", without spaces, or write \"off\"",
                    value.quoted()
                );
                self.faults.wrong(value.place, &below, message);
            }
        }
        paths
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_vendor_has_a_good_base_url_and_header() {
        for (name, vendor) in vendors::all() {
            if let Some(url) = &vendor.base_url {
                assert!(base_url(url).is_ok(), "{name}");
            }
            if let Some(header) = &vendor.header {
                assert!(header.parse::<HeaderName>().is_ok(), "{name}");
            }
            for path in vendor.paths.values() {
                assert!(path.starts_with('/'), "{name}");
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
