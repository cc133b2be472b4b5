//! What a token's claims say, once its issuer has vouched for them: for whom it is, how long it holds, who calls, with which tags and models.
//!
//! Knows no clock: the time is an argument. A claim that has the wrong form refuses the token; it is never taken for absent, since a budget may
//! hang on the tag it would have been.

use std::sync::Arc;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::refusal::Refusal;
use crate::config::issuer::{ClaimPath, Issuer};
use crate::config::snapshot::{Key, Pattern};
use crate::id::KeyName;
use crate::json::{Members, Node, Value};

/// The end of the year 9999.
const LATEST: f64 = 253_402_300_799.0;
/// Longest name of a key.
const LONGEST_NAME: usize = 128;
/// Longest value of a tag.
const LONGEST_TAG: usize = 256;
/// Models that a claim may name.
const MOST_MODELS: usize = 256;
/// What a name of a key does not hold, and the sign that escapes it.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'\\').add(b'%');

/// Who may call with it; its `expires` is when it no longer counts.
pub fn caller(claims: &Members<'_>, issuer: &Issuer, now: Timestamp) -> Result<Key, Refusal> {
    if !is_for_us(claims, issuer)? {
        return Err(Refusal::unfit("it is for another audience"));
    }
    let expires = times(claims, issuer, now)?;
    // RFC 7800: it counts only together with a key that the caller would have to show
    if claims.get("cnf").is_some_and(|cnf| !cnf.is_null()) {
        return Err(Refusal::unfit("it is bound to a key that cannot be shown here"));
    }
    for (path, values) in &issuer.required {
        if !lookup(claims, path).is_some_and(|found| texts(found).any(|text| values.iter().any(|v| v.matches(&text)))) {
            return Err(Refusal::unfit("a claim that is required is missing or has another value"));
        }
    }
    let name = name(claims, issuer)?;
    let mut tags = issuer.tags.clone();
    for (tag, path) in &issuer.claims {
        if let Some(value) = tag_value(lookup(claims, path))? {
            tags.push((Arc::clone(tag), value));
        }
    }
    Ok(Key {
        name,
        models: models(claims, issuer)?,
        opaque: issuer.opaque,
        weight: issuer.weight,
        revoked: false,
        expires: Some(expires),
        tags,
        request_tags: None,
        own: issuer.own.clone(),
    })
}

/// RFC 7519 section 4.1.3.
fn is_for_us(claims: &Members<'_>, issuer: &Issuer) -> Result<bool, Refusal> {
    let wrong = Refusal::unfit("its audience is neither a text nor a list of texts");
    let ours = |text: &str| issuer.audiences.iter().any(|audience| **audience == *text);
    match claims.get("aud").map(|node| &node.value) {
        None | Some(Value::Null) => Err(Refusal::unfit("it names no audience")),
        Some(Value::String(text)) => Ok(ours(text)),
        Some(Value::Array(list)) => {
            let texts: Option<Vec<&str>> = list.iter().map(Node::as_str).collect();
            Ok(texts.ok_or(wrong)?.into_iter().any(ours))
        }
        Some(Value::Bool(_) | Value::Number | Value::Object(_)) => Err(wrong),
    }
}

/// When it no longer counts, with what clocks may be apart.
fn times(claims: &Members<'_>, issuer: &Issuer, now: Timestamp) -> Result<Timestamp, Refusal> {
    let leeway = i64::try_from(issuer.leeway.as_secs()).unwrap_or(0);
    let now = now.as_second();
    let not_before = date(claims, "nbf")?;
    let issued = date(claims, "iat")?;
    let ends = date(claims, "exp")?.ok_or(Refusal::unfit("it has no end"))?;
    let end = ends.saturating_add(leeway);
    if now >= end {
        return Err(Refusal::Expired);
    }
    if [not_before, issued].into_iter().flatten().any(|time| time > now.saturating_add(leeway)) {
        return Err(Refusal::NotYet);
    }
    Timestamp::from_second(end).map_err(|_| Refusal::unfit("one of its times is none"))
}

/// Seconds since 1970 (RFC 7519 section 2, NumericDate; it may have a fraction).
fn date(claims: &Members<'_>, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(node) = claims.get(name).filter(|node| !node.is_null()) else { return Ok(None) };
    let seconds = node.as_f64().filter(|seconds| (0.0..=LATEST).contains(seconds));
    let seconds = seconds.ok_or(Refusal::unfit("one of its times is none"))?;
    Ok(Some(seconds.floor() as i64))
}

/// `ISSUER:SUB`, with what no name holds escaped, so that two callers never get the same one.
fn name(claims: &Members<'_>, issuer: &Issuer) -> Result<KeyName, Refusal> {
    let missing = Refusal::unfit("it does not say who calls");
    let caller = lookup(claims, &issuer.caller).and_then(scalar).filter(|text| !text.is_empty()).ok_or(missing)?;
    let name = format!("{}:{}", issuer.name, utf8_percent_encode(&caller, ESCAPED));
    if name.len() <= LONGEST_NAME {
        return Ok(KeyName::new(name));
    }
    // `%` stands only before two hexadecimal digits in the names above
    let digest = Sha256::digest(caller.as_bytes());
    Ok(KeyName::new(format!("{}:%sha256-{}", issuer.name, hex::encode(&digest[..16]))))
}

fn tag_value(found: Option<&Node<'_>>) -> Result<Option<Arc<str>>, Refusal> {
    let Some(node) = found.filter(|node| !node.is_null()) else { return Ok(None) };
    let text = scalar(node).ok_or(Refusal::unfit("a claim that is to be a tag is a list or an object"))?;
    if text.len() > LONGEST_TAG || text.chars().any(char::is_control) {
        return Err(Refusal::unfit("a claim that is to be a tag is too long, or holds control characters"));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

/// What both the claim and the configuration allow.
fn models(claims: &Members<'_>, issuer: &Issuer) -> Result<Option<Vec<Pattern>>, Refusal> {
    let Some(path) = &issuer.models_claim else { return Ok(issuer.models.clone()) };
    let named: Vec<Pattern> = match lookup(claims, path) {
        None => Vec::new(),
        Some(node) => texts(node)
            .flat_map(|text| {
                text.split([' ', ',']).filter(|name| !name.is_empty()).map(Pattern::new).collect::<Vec<_>>()
            })
            .take(MOST_MODELS + 1)
            .collect(),
    };
    if named.len() > MOST_MODELS {
        return Err(Refusal::unfit("it names more than 256 models"));
    }
    let Some(ceiling) = &issuer.models else { return Ok(Some(named)) };
    let mut both = Vec::new();
    for pattern in &named {
        for most in ceiling {
            if most.covers(pattern) {
                both.push(pattern.clone());
                break;
            }
            if pattern.covers(most) {
                both.push(most.clone());
            }
        }
    }
    Ok(Some(both))
}

// === reading claims ===

fn lookup<'c, 'a>(claims: &'c Members<'a>, path: &ClaimPath) -> Option<&'c Node<'a>> {
    let mut steps = path.steps();
    let mut node = claims.get(steps.next()?)?;
    for step in steps {
        node = match &node.value {
            Value::Object(members) => members.get(step)?,
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            Value::Null | Value::Bool(_) | Value::Number | Value::String(_) => return None,
        };
    }
    Some(node)
}

/// The text of what is one value.
fn scalar(node: &Node<'_>) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone().into_owned()),
        Value::Bool(_) | Value::Number => Some(node.raw.to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Its own text, or those of its items.
fn texts(node: &Node<'_>) -> impl Iterator<Item = String> {
    let items = match node.as_array() {
        Some(items) => items,
        None => std::slice::from_ref(node),
    };
    items.iter().filter_map(scalar).collect::<Vec<_>>().into_iter()
}
