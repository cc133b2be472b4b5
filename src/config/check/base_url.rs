//! `https://host:port/path`, split once, with every reason why a text is none.

use http::HeaderValue;
use url::Url;

use crate::config::snapshot::BaseUrl;
use crate::dialect::Operation;

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
