//! The strict front door: what must hold of a request's header section before anything acts on it.
//!
//! Pingora 0.9.1 is lenient where a gateway in front of credentials must not be (two equal `Content-Length`, `gzip, chunked`, no `Host`, dot
//! segments, TRACE ...). Whatever two parties could read differently is refused. RFC 9110, 9112, 9113.

use http::{HeaderMap, Method, Version, header};
use pingora::http::RequestHeader;

use super::router::{Route, route};
use crate::error::{Error, Kind, Result};

/// Most header fields of a request.
const FIELDS: usize = 100;
/// Their names and values together, in bytes.
const FIELD_BYTES: usize = 64 * 1024;
/// Longest target.
const TARGET_BYTES: usize = 8 * 1024;

/// What the front door lets in.
#[derive(Debug)]
pub struct Admitted {
    pub route: Route,
    /// As declared; `None` for chunked and for HTTP/2 without it.
    pub content_length: Option<u64>,
    pub expects_continue: bool,
}

/// Check a header section. `raw` is the h1 header section as received: Pingora drops `Content-Length` beside
/// `Transfer-Encoding`, and a fragment from the target, before we could see them.
pub fn check(head: &RequestHeader, raw: Option<&[u8]>, hosts: &[String]) -> Result<Admitted> {
    sizes(head)?;
    host(head, hosts)?;
    let path = path(head, raw)?;
    let content_length = framing(head, raw)?;
    let expects_continue = expect(&head.headers)?;
    let route = route(&head.method, path)?;
    upgrade(head, &route)?;
    let bodiless = matches!(head.method, Method::GET | Method::HEAD | Method::DELETE);
    let declared = content_length.is_some_and(|n| n > 0) || head.headers.contains_key(header::TRANSFER_ENCODING);
    if bodiless && declared {
        return Err(Error::bad_request(format!("A {} request has no body here.", head.method)).code("unexpected_body"));
    }
    Ok(Admitted { route, content_length, expects_continue })
}

fn sizes(head: &RequestHeader) -> Result<()> {
    let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if head.headers.len() > FIELDS || bytes > FIELD_BYTES {
        return Err(Error::new(
            Kind::HeadersTooLarge,
            format!("The header section is too large: at most {FIELDS} fields and {FIELD_BYTES} bytes."),
        ));
    }
    Ok(())
}

/// `host[:port]`, exactly one, and one of `hosts` when those are named (RFC 9110 7.2).
fn host(head: &RequestHeader, hosts: &[String]) -> Result<()> {
    let bad = |say: &'static str| Error::bad_request(say).code("invalid_host");
    let mut values = head.headers.get_all(header::HOST).iter();
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let host = match (values.next(), values.next(), authority) {
        (Some(host), None, authority) => {
            let host = host.to_str().map_err(|_| bad("The Host header is malformed."))?;
            if authority.is_some_and(|a| !a.eq_ignore_ascii_case(host)) {
                return Err(bad("The Host header and the request target differ."));
            }
            host
        }
        (None, None, Some(authority)) if head.version == Version::HTTP_2 => authority,
        (None, _, _) => return Err(bad("The Host header is missing.")),
        (Some(_), Some(_), _) => return Err(bad("More than one Host header was sent.")),
    };
    let name = host_name(host).ok_or_else(|| bad("The Host header is malformed."))?;
    if !hosts.is_empty() && !hosts.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Err(Error::new(Kind::NotFound, "This gateway does not answer to that host name.").code("unknown_host"));
    }
    Ok(())
}

/// The name in `host[:port]`, when it is well formed.
fn host_name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            (host.get(..inner.len() + 2)?, after.strip_prefix(':').or(after.is_empty().then_some(""))?)
        }
        None => match host.split_once(':') {
            Some((name, port)) if !port.is_empty() => (name, port),
            Some(_) => return None,
            None => (host, ""),
        },
    };
    let plain = name.starts_with('[')
        || (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')));
    let port_ok = port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    (plain && port_ok).then_some(name)
}

/// The path, when all who read it read the same: no dot segments, no empty segments, no backslash, nothing that decodes to a
/// separator, a dot or a control character (RFC 3986 3.3, 6.2.2).
fn path<'a>(head: &'a RequestHeader, raw: Option<&[u8]>) -> Result<&'a str> {
    let bad = |say: &'static str| Error::bad_request(say).code("invalid_path");
    if head.version == Version::HTTP_2 && !matches!(head.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Error::bad_request("The scheme of the request is not http or https.").code("invalid_scheme"));
    }
    let target = head.raw_path();
    // a fragment is already gone from the target: only the request line itself shows it
    let line = raw.and_then(|raw| raw.split(|b| *b == b'\n').next()).unwrap_or_default();
    if target.len() > TARGET_BYTES || line.len() > TARGET_BYTES {
        return Err(bad("The request target is too long."));
    }
    if !target.iter().all(u8::is_ascii_graphic) || line.contains(&b'#') {
        return Err(bad("The request target holds characters it must not."));
    }
    let path = head.uri.path();
    if !path.starts_with('/') || path.contains('\\') || path.contains("//") {
        return Err(bad("The request path is not in its normal form."));
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(bad("The request path holds dot segments."));
    }
    let bytes = path.as_bytes();
    for (at, _) in path.match_indices('%') {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        let decoded = hex.and_then(|h| u8::from_str_radix(h, 16).ok());
        match decoded {
            None => return Err(bad("The request path holds a broken percent-encoding.")),
            Some(b'.' | b'/' | b'\\' | b'%' | 0..=0x1f | 0x7f) => {
                return Err(bad("The request path hides a separator, a dot or a control character."));
            }
            Some(_) => {}
        }
    }
    Ok(path)
}

/// How long the body is, said once and in one way (RFC 9112 6).
fn framing(head: &RequestHeader, raw: Option<&[u8]>) -> Result<Option<u64>> {
    let bad = |say: &'static str| Error::bad_request(say).code("invalid_framing");
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if head.version != Version::HTTP_11 {
            return Err(bad("Transfer-Encoding belongs to HTTP/1.1."));
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(bad("Transfer-Encoding must be exactly: chunked."));
        }
        if raw.is_some_and(|raw| has_field(raw, b"content-length")) {
            return Err(bad("Content-Length and Transfer-Encoding must not both be sent."));
        }
    }
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(bad("More than one Content-Length was sent."));
    }
    let digits = length.as_bytes();
    if !(1..=12).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad("Content-Length must be a decimal number."));
    }
    let length = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok());
    length.map(Some).ok_or_else(|| bad("Content-Length must be a decimal number."))
}

/// Whether a raw header section holds a field of this (lower-case) name.
fn has_field(raw: &[u8], name: &[u8]) -> bool {
    raw.split(|b| *b == b'\n').skip(1).any(|line| {
        line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && line.get(name.len()) == Some(&b':')
    })
}

fn expect(headers: &HeaderMap) -> Result<bool> {
    let mut values = headers.get_all(header::EXPECT).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        (Some(_), _) => Err(Error::new(Kind::UnknownExpectation, "Only Expect: 100-continue is known here.")),
    }
}

/// A connection changes its protocol on the realtime route alone, and only to WebSocket.
fn upgrade(head: &RequestHeader, route: &Route) -> Result<()> {
    let wanted = head.headers.get(header::UPGRADE);
    let websocket = wanted.is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"));
    match route {
        Route::Realtime if websocket && head.version == Version::HTTP_11 => Ok(()),
        Route::Realtime => Err(Error::bad_request("The realtime API is a WebSocket: connect with wss:// or ws://.")
            .code("upgrade_required")),
        // other upgrades are ignored, as RFC 9110 7.8 allows; Pingora passes none on
        Route::Llm(_) | Route::Models | Route::Model(_) | Route::Status | Route::Opaque { .. } | Route::Raw { .. } => {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, path: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build(method, path.as_bytes(), None).unwrap();
        head.set_version(Version::HTTP_11);
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn refused(head: &RequestHeader, raw: Option<&[u8]>) -> Option<&'static str> {
        check(head, raw, &[]).err().and_then(|e| e.code.or(Some(e.kind.label())))
    }

    #[test]
    fn hosts_are_names_or_addresses_with_an_optional_port() {
        for good in ["a", "a.b:1", "127.0.0.1:4000", "[::1]:80", "[::1]", "A_b-c.d"] {
            assert!(host_name(good).is_some(), "{good}");
        }
        for bad in ["", "a/?x=", "a@b", "a:b", "a:", ":1", "a:99999", "[::1", "[x]", "[::1]x", "a b", "a,b", "a:1:2"] {
            assert!(host_name(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn paths_two_readers_could_differ_on_are_refused() {
        for bad in [
            "/v1/../admin",
            "/v1/%2e%2e/admin",
            "//admin",
            "/v1\\admin",
            "/v1/%00",
            "/v1/%2fadmin",
            "/v1/%5c",
            "/v1/%zz",
            "/v1/%2",
            "/./v1",
            "/v1/%252e",
        ] {
            let head = head("POST", bad, &[("host", "a")]);
            assert_eq!(refused(&head, None), Some("invalid_path"), "{bad}");
        }
    }

    #[test]
    fn a_body_has_one_length_said_in_one_way() {
        let post = |fields: &[(&'static str, &str)]| {
            let mut all = vec![("host", "a")];
            all.extend(fields);
            refused(&head("POST", "/v1/embeddings", &all), None)
        };
        assert_eq!(post(&[("content-length", "2")]), None);
        for bad in ["2,2", "+2", "-1", "0x2", "", " ", "9999999999999", "2 2"] {
            assert_eq!(post(&[("content-length", bad)]), Some("invalid_framing"), "{bad}");
        }
        assert_eq!(post(&[("content-length", "2"), ("content-length", "2")]), Some("invalid_framing"));
        assert_eq!(post(&[("transfer-encoding", "Chunked")]), None);
        for bad in ["gzip, chunked", "identity", "chunked, chunked", "xchunked", ""] {
            assert_eq!(post(&[("transfer-encoding", bad)]), Some("invalid_framing"), "{bad}");
        }
        let both = head("POST", "/v1/embeddings", &[("host", "a"), ("transfer-encoding", "chunked")]);
        let raw = b"POST / HTTP/1.1\r\nContent-LENGTH: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(refused(&both, Some(raw)), Some("invalid_framing"));
    }

    #[test]
    fn methods_without_a_body_have_none() {
        assert_eq!(
            refused(&head("GET", "/v1/models", &[("host", "a"), ("content-length", "1")]), None),
            Some("unexpected_body")
        );
        assert_eq!(refused(&head("GET", "/v1/models", &[("host", "a"), ("content-length", "0")]), None), None);
        assert_eq!(refused(&head("TRACE", "/v1/models", &[("host", "a")]), None), Some("method_not_allowed"));
    }
}
