//! HTTP proxies, from the configuration or from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).
//!
//! There is no standard; this follows curl's manual ("ENVIRONMENT") where the programs differ, with Go's two additions: a
//! loopback host never goes through a proxy of the environment, and `NO_PROXY` may hold CIDR blocks.

use std::net::IpAddr;

use url::Url;

use crate::config::Secret;
use crate::config::env::Environment;
use crate::config::snapshot::{BaseUrl, ProxyServer};

/// The proxy of the environment for this address. The error says what to do and never holds the URL.
pub(super) fn from_environment(base: &BaseUrl, environment: &Environment) -> Result<Option<ProxyServer>, String> {
    // HTTP_PROXY in capitals is not trusted by CGI programs ("httpoxy"); this is not one.
    let names = if base.tls { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
    let found = names.into_iter().chain(["ALL_PROXY", "all_proxy"]).find_map(|name| {
        let value = environment.get(name)?;
        (!value.trim().is_empty()).then_some((name, value))
    });
    let Some((name, value)) = found else { return Ok(None) };
    let ip: Option<IpAddr> = base.host.parse().ok();
    let loopback = ip.map_or(&*base.host == "localhost", |ip| ip.to_canonical().is_loopback());
    let except = environment.get("NO_PROXY").or_else(|| environment.get("no_proxy")).unwrap_or_default();
    if loopback || excepted(base, ip, &except) {
        return Ok(None);
    }
    parse(&value).map(Some).map_err(|why| {
        format!("the proxy in the environment variable {name} {why}; write \"proxy: off\" to go without it")
    })
}

/// `http://[user:password@]host[:port]`; the scheme may be left out.
pub(super) fn parse(text: &str) -> Result<ProxyServer, String> {
    let text = text.trim();
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let wrong = "is not a proxy: write \"http://host:port\"";
    let url = Url::parse(&with_scheme).map_err(|_| wrong.to_owned())?;
    if url.scheme() != "http" {
        return Err("is not an HTTP proxy: only \"http://host:port\" is supported".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong.to_owned());
    }
    let host = super::base_url::host_text(&url).ok_or_else(|| wrong.to_owned())?;
    let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
        // RFC 7617: the user's name and password, decoded, joined by a colon.
        let mut pair = percent_decoded(url.username());
        pair.push(b':');
        pair.extend(percent_decoded(url.password().unwrap_or_default()));
        Secret::new(format!("Basic {}", base64(&pair)))
    });
    Ok(ProxyServer { host: host.into(), port: url.port_or_known_default().unwrap_or(80), authorization })
}

fn excepted(base: &BaseUrl, ip: Option<IpAddr>, list: &str) -> bool {
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some(ip) = ip
            && (entry.parse::<ipnet::IpNet>().is_ok_and(|block| block.contains(&ip)) || entry.parse() == Ok(ip))
        {
            return true;
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') => (name, port.parse::<u16>().ok()),
            _ => (entry, None),
        };
        if port.is_some_and(|port| port != base.port) {
            return false;
        }
        let name = name.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
        let host = base.host.trim_end_matches('.');
        !name.is_empty() && (host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.')))
    })
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        let mut value = [*byte];
        rest = match after.split_at_checked(2) {
            Some((pair, after)) if *byte == b'%' && hex::decode_to_slice(pair, &mut value).is_ok() => after,
            Some(_) | None => after,
        };
        out.extend(value);
    }
    out
}

/// RFC 4648 section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (number >> (18 - 6 * digit)) as usize & 63;
            out.push(if digit <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str) -> BaseUrl {
        crate::config::check::base_url::base_url(url).unwrap()
    }

    fn chosen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let environment = Environment::of(variables.iter().copied());
        from_environment(&base(url), &environment).unwrap().map(|p| format!("{}:{}", p.host, p.port))
    }

    #[test]
    fn the_variable_of_the_scheme_is_used_and_then_all_proxy() {
        let both = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "h:2"), ("ALL_PROXY", "http://a:3")];
        assert_eq!(chosen("https://x.com", &both).as_deref(), Some("s:1"));
        assert_eq!(chosen("http://x.com", &both).as_deref(), Some("h:2"));
        assert_eq!(chosen("http://x.com", &both[2..]).as_deref(), Some("a:3"));
        assert_eq!(chosen("https://x.com", &[("https_proxy", " ")]), None);
    }

    #[test]
    fn no_proxy_excepts_hosts_domains_blocks_and_loopback() {
        let through = |url, except| chosen(url, &[("ALL_PROXY", "http://p:8"), ("NO_PROXY", except)]).is_some();
        assert!(through("https://api.x.com", ""));
        assert!(!through("https://api.x.com", "a.b, x.com"));
        assert!(!through("https://api.x.com", ".x.com"));
        assert!(!through("https://api.x.com", "*.X.com"));
        assert!(!through("https://api.x.com", "*"));
        assert!(through("https://apix.com", "x.com"));
        assert!(!through("https://x.com:8443", "x.com:8443"));
        assert!(through("https://x.com", "x.com:8443"));
        assert!(!through("http://10.1.2.3", "10.0.0.0/8"));
        assert!(!through("http://[fd00::1]:9", "fd00::1"));
        assert!(!through("http://127.0.0.1:11434", ""));
        assert!(!through("http://localhost:11434", ""));
    }

    #[test]
    fn credentials_of_a_proxy_become_a_header() {
        // RFC 7617 section 2: the example of "Aladdin" and "open sesame".
        let proxy = parse("http://Aladdin:open%20sesame@proxy.example:3128/").unwrap();
        assert_eq!(proxy.authorization.unwrap().expose(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!((&*proxy.host, proxy.port), ("proxy.example", 3128));
        assert_eq!(parse("proxy.example").unwrap().port, 80);
        assert_eq!(&*parse("http://[::1]:3128").unwrap().host, "::1");
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let shown: Vec<String> = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes())).into();
        assert_eq!(shown, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn other_proxies_are_refused_without_repeating_the_url() {
        let environment = Environment::of([("HTTPS_PROXY", "socks5://user:canary@h:1")]);
        let message = from_environment(&base("https://x.com"), &environment).unwrap_err();
        assert_eq!(
            message,
            "the proxy in the environment variable HTTPS_PROXY is not an HTTP proxy: only \"http://host:port\" is \
             supported; write \"proxy: off\" to go without it"
        );
        for text in ["http://", "http://h/path", "http://h?q", "http://h:99999", "https://h:1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
