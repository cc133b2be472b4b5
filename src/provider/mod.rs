//! How a provider is addressed: the path of an operation, and the headers that go with it. No JSON, no I/O.

use std::borrow::Cow;

use crate::config::snapshot::Provider;
use crate::dialect::Operation;
use crate::error::{Error, Kind, Result};

/// Path and query of an operation at this provider.
pub fn target(provider: &Provider, operation: Operation, model: &str, _stream: bool) -> Result<String> {
    let Some(path) = provider.paths.get(&operation) else {
        return Err(Error::new(
            Kind::Unsupported,
            format!("Provider \"{}\" does not offer {}.", provider.name, operation.name()),
        )
        .param("model"));
    };
    let path: Cow<'_, str> =
        if path.contains("{model}") { path.replace("{model}", &encode(model)).into() } else { Cow::Borrowed(path) };
    Ok(join(provider, &path))
}

/// A path (with or without a query of its own) below the provider's base URL, with the provider's fixed query.
pub fn join(provider: &Provider, path: &str) -> String {
    let base = &provider.base.path;
    let mut target = String::with_capacity(base.len() + path.len() + 32);
    target.push_str(base);
    target.push_str(path);
    if let Some(query) = &provider.query
        && !has_query(&target, query)
    {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(query);
    }
    target
}

/// Whether the target already names the first parameter of the provider's fixed query.
fn has_query(target: &str, query: &str) -> bool {
    let name = query.split('=').next().unwrap_or_default();
    target.split_once('?').is_some_and(|(_, q)| q.split('&').any(|pair| pair.split('=').next() == Some(name)))
}

/// Percent-encode everything outside RFC 3986's unreserved characters: one path segment stays one.
fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    // a lone dot segment would be resolved away
    if out == "." || out == ".." { out.replace('.', "%2E") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_name_stays_one_path_segment() {
        assert_eq!(encode("gpt-4o"), "gpt-4o");
        assert_eq!(encode("a/b?c#d%e\r\n"), "a%2Fb%3Fc%23d%25e%0D%0A");
        assert_eq!(encode(".."), "%2E%2E");
    }
}
