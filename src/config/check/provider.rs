//! One provider: the vendor's row of `conf/providers.yaml` with the entry's own words on top.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};

use super::auth::{self, Entry};
use super::base_url::base_url;
use super::identity::pool_key;
use super::{Checker, Defaults, offer, pool, proxy};
use crate::config::Secret;
use crate::config::error::{Place, nearest, quote};
use crate::config::policy::Pool;
use crate::config::raw::{self, At};
use crate::config::snapshot::{BaseUrl, HttpVersion, Provider, ProxyServer, StreamUsage};
use crate::config::vendors::{self, Vendor};
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
    /// `defaults`: what is written at the top.
    pub(super) fn provider(
        &mut self,
        name: &At<String>,
        mut typed: raw::Provider,
        defaults: Defaults,
    ) -> Option<Provider> {
        let path = format!("providers.{}", name.value);
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !(1..=64).contains(&name.value.len()) || !name.value.bytes().all(word) {
            let message = format!("provider name {}: use 1 to 64 letters, digits and . _ -", quote(&name.value));
            self.faults.wrong(name.place, &path, message);
        }
        // Everything below is checked even when something above was wrong.
        let timeouts = self.timeouts(defaults.timeouts, typed.timeouts.as_ref(), &format!("{path}.timeouts"));
        let breaker = self.breaker(defaults.breaker, typed.breaker.as_ref(), &format!("{path}.breaker"));
        let admission = self.admission(typed.limits.as_ref(), typed.queue.as_ref(), &format!("{path}.queue"));
        let headers = self.headers(typed.headers.take().unwrap_or_default(), &path);
        let ca = typed.ca.as_ref().and_then(|at| self.authority_file(at, &format!("{path}.ca")));
        let missing_env: Vec<String> = typed
            .required_env
            .iter()
            .flatten()
            .map(|at| at.value.clone())
            .filter(|variable| self.environment.get(variable).is_none_or(|v| v.is_empty()))
            .collect();
        // an address of the operator's own
        let own_url = typed.base_url.is_some() || typed.endpoints.is_some();
        let (kind, vendor) = self.kind(name, typed.kind.as_ref(), own_url, &path)?;

        let entry =
            Entry { path: &path, place: name.place, kind: &kind, own_url, missing_env: !missing_env.is_empty() };
        let slots = self.slots(&typed, vendor, &entry);
        let vendors_url = slots.base_url(vendor).and_then(|url| base_url(&url).ok());
        let pool = pool::Typed {
            endpoints: typed.endpoints.take(),
            balance: typed.balance.take(),
            health: typed.health.take(),
            ejection: typed.ejection.take(),
            slow_start: typed.slow_start.take(),
            base_url: typed.base_url.as_ref().map(|at| at.place),
        };
        let pool = self.pool(pool, vendors_url.as_ref(), &entry);
        let url = match (&pool, &typed.base_url) {
            (Some(pool), _) => pool.endpoints.first().map(|endpoint| endpoint.base.clone()),
            (None, Some(at)) => match base_url(&at.value) {
                Ok(url) => Some(url),
                Err(why) => {
                    self.faults.wrong(at.place, &path, format!("{path}.base_url {why}"));
                    None
                }
            },
            // a slot that could not be filled has been told
            (None, None) => vendors_url,
        };
        if url.is_none() && !own_url && slots.base_url(vendor).is_none() {
            let message = format!(
                "{path} has no \"base_url\": {kind} has an address per customer, write it, e.g. \
                 https://RESOURCE.openai.azure.com"
            );
            self.faults.missing(name.place, &path, message);
        }
        let auth = auth::Typed {
            auth: typed.auth,
            api_key: typed.api_key,
            api_keys: typed.api_keys,
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
        let proxy = match &pool {
            None => self.proxy(typed.proxy.as_ref(), &url, name.place, &path),
            Some(pool) => self.one_proxy(typed.proxy.as_ref(), pool, name.place, &path),
        };
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
            breaker,
            admission,
            at_vendor: !own_url,
            pool,
            account: 0,
            accounts: Vec::new(),
            missing_env,
            pool_key: 0,
        };
        provider.pool_key = pool_key(&provider);
        let accounts = auth.others.into_iter().enumerate().map(|(n, (credential, header))| {
            let mut other = Provider {
                credential: Some(credential),
                credential_header: Some(header),
                account: n + 1,
                ..provider.clone()
            };
            other.pool_key = pool_key(&other);
            Arc::new(other)
        });
        provider.accounts = accounts.collect();
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

    /// The same for all endpoints of a pool, since a provider has one.
    fn one_proxy(&mut self, typed: Option<&At<Secret>>, pool: &Pool, place: Place, path: &str) -> Option<ProxyServer> {
        let mut found = pool.endpoints.iter().map(|endpoint| self.proxy(typed, &endpoint.base, place, path));
        let first = found.next()?;
        if found.any(|other| other != first) {
            let message = format!(
                "{path}.proxy: by the variables of the environment some endpoints are reached through a proxy and others are \
                 not: write \"proxy: off\", or the proxy"
            );
            self.faults.wrong(place, path, message);
        }
        first
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
