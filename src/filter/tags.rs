//! The tags of a call: those of its key, and those that come with the request, within what the key allows. Limits, budgets and reports go by
//! them; what a key has fixed no request changes.

use std::sync::Arc;

use http::HeaderMap;

use crate::config::snapshot::Key;
use crate::error::{Error, Result};

/// A tag and its value.
pub type Tag = (Arc<str>, Arc<str>);

const HEADER: &str = "x-tollgate-tags";
/// With those of the key.
const MOST: usize = 32;
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 256;

/// The tags of a call: `labels` are what its body says. `None`: those of its key, and no other.
///
/// In the header a tag that cannot be one, or that the key does not allow, is an error: who writes it counts on it. A body's labels were not
/// written for us; what is none is passed over.
pub fn tags(key: Option<&Key>, headers: &HeaderMap, labels: Vec<(String, String)>) -> Result<Option<Vec<Tag>>> {
    let fixed = key.map_or(&[][..], |key| &key.tags);
    let mut tags: Vec<Tag> = Vec::new();
    for value in headers.get_all(HEADER) {
        let text = value.to_str().map_err(|_| wrong("it holds characters no tag has".to_owned()))?;
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| wrong(format!("{pair:?} is not name=value")))?;
            let (name, value) = (name.trim(), value.trim());
            if !is_name(name) || !is_value(value) {
                return Err(wrong(format!(
                    "{pair:?}: names are 1 to 64 letters, digits and . _ -, values 1 to 256 characters"
                )));
            }
            if is_fixed(fixed, name, value) {
                continue;
            }
            if !allowed(key, name) {
                return Err(Error::new(
                    crate::error::Kind::Forbidden,
                    format!("Your API key does not allow the tag {name:?}."),
                )
                .code("tag_not_allowed"));
            }
            put(&mut tags, name, value);
        }
    }
    for (name, value) in labels {
        let known = tags.iter().any(|(tag, _)| **tag == *name);
        if !known && is_name(&name) && is_value(&value) && allowed(key, &name) {
            put(&mut tags, &name, &value);
        }
    }
    if tags.is_empty() {
        return Ok(None);
    }
    tags.splice(0..0, fixed.iter().cloned());
    tags.truncate(MOST.max(fixed.len()));
    Ok(Some(tags))
}

/// Whether a request may bring this tag: not one that the key has, and of the others those it allows.
fn allowed(key: Option<&Key>, name: &str) -> bool {
    let Some(key) = key else { return true };
    key.tags.iter().all(|(tag, _)| **tag != *name)
        && key.request_tags.as_ref().is_none_or(|names| names.iter().any(|pattern| pattern.matches(name)))
}

/// A request that says what is so anyway.
fn is_fixed(fixed: &[Tag], name: &str, value: &str) -> bool {
    fixed.iter().any(|(tag, own)| **tag == *name && **own == *value)
}

fn put(tags: &mut Vec<Tag>, name: &str, value: &str) {
    match tags.iter_mut().find(|(tag, _)| **tag == *name) {
        Some((_, old)) => *old = value.into(),
        None => tags.push((name.into(), value.into())),
    }
}

fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_value(value: &str) -> bool {
    (1..=LONGEST_VALUE).contains(&value.len()) && !value.chars().any(char::is_control)
}

fn wrong(what: String) -> Error {
    Error::bad_request(format!("The header {HEADER} cannot be read: {what}.")).code("invalid_tags")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::snapshot::Pattern;
    use crate::id::KeyName;

    fn key(fixed: &[(&str, &str)], request_tags: Option<&[&str]>) -> Key {
        Key {
            name: KeyName::new("k"),
            models: None,
            opaque: true,
            weight: 1,
            revoked: false,
            expires: None,
            tags: fixed.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            request_tags: request_tags.map(|names| names.iter().map(|name| Pattern::new(name)).collect()),
            own: None,
        }
    }

    fn said(key: Option<&Key>, header: &str, labels: &[(&str, &str)]) -> Result<String> {
        let mut headers = HeaderMap::new();
        if !header.is_empty() {
            headers.insert(HEADER, HeaderValue::from_str(header).unwrap());
        }
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let tags = tags(key, &headers, labels)?.unwrap_or_default();
        Ok(tags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn a_request_adds_tags_and_changes_none_of_its_key() {
        let key = key(&[("team", "search")], None);
        assert_eq!(said(Some(&key), "", &[]).unwrap(), "");
        assert_eq!(said(Some(&key), "project=ranker, agent=a b", &[]).unwrap(), "team=search,project=ranker,agent=a b");
        assert_eq!(said(Some(&key), "team=search", &[]).unwrap(), "");
        assert_eq!(said(Some(&key), "team=ads", &[]).unwrap_err().code, Some("tag_not_allowed"));
        assert_eq!(said(Some(&key), "", &[("team", "ads"), ("user", "ada")]).unwrap(), "team=search,user=ada");
        assert_eq!(said(None, "user=ada", &[("user", "bob"), ("x", "")]).unwrap(), "user=ada");
    }

    #[test]
    fn a_key_may_allow_only_some() {
        let some = key(&[], Some(&["project", "x-*"]));
        assert_eq!(said(Some(&some), "project=p,x-run=7", &[("user", "ada")]).unwrap(), "project=p,x-run=7");
        assert_eq!(said(Some(&some), "user=ada", &[]).unwrap_err().code, Some("tag_not_allowed"));
        let none = key(&[], Some(&[]));
        assert_eq!(said(Some(&none), "", &[("user", "ada")]).unwrap(), "");
    }

    #[test]
    fn a_header_that_cannot_be_read_is_an_error() {
        for bad in ["x", "=1", "a b=1", "a=", &format!("a={}", "x".repeat(257))] {
            assert_eq!(said(None, bad, &[]).unwrap_err().code, Some("invalid_tags"), "{bad}");
        }
        assert_eq!(said(None, "", &[("a b", "1"), ("n", &"x".repeat(300))]).unwrap(), "");
    }
}
