//! Members nobody but this dialect knows: kept at decoding, written again at encoding.
//!
//! An `Extra` has one level, a part of a message has two (`{"type":"image_url","image_url":{..}}`). What is left of the inner object is
//! kept as one member under that object's name, and merged into it again.

use std::borrow::Cow;

use crate::chat::{Dialect, Extra, ExtraMember, Json, Losses};
use crate::json::{At, Members, Node, Value, Writer};

/// Keep what is left of the object that stood in a member.
pub(super) fn keep<'a>(extra: &mut Extra<'a>, name: &'static str, at: At, left: &Members<'a>) {
    if let Some(json) = object(left) {
        extra.0.push(ExtraMember { name: Cow::Borrowed(name), json, at });
    }
}

/// An object of these members; `None` when all of them are `null`.
pub(super) fn object(members: &Members<'_>) -> Option<Json<'static>> {
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object();
    let mut any = false;
    for (name, node) in members.iter().filter(|(_, node)| !node.is_null()) {
        any = true;
        w.name(name).raw(node.raw);
    }
    w.end_object();
    any.then(|| Cow::Owned(String::from_utf8(out).unwrap_or_default()))
}

/// Members kept for another place of the same dialect: written, when it is this one that wrote them, else booked. Those named in `merged`
/// have their own place.
pub(super) fn write(w: &mut Writer<'_>, extra: &Extra<'_>, from: Dialect, merged: &[&str], losses: &mut Losses) {
    if from != Dialect::OpenAiChat {
        losses.extra(extra);
        return;
    }
    for member in extra.0.iter().filter(|m| !merged.contains(&&*m.name)) {
        w.name(&member.name).raw(&member.json);
    }
}

/// The same, of members of which some were not understood although we write them too (`written`): these are booked.
pub(super) fn write_beside(
    w: &mut Writer<'_>,
    extra: &Extra<'_>,
    from: Dialect,
    written: &[&str],
    losses: &mut Losses,
) {
    write(w, extra, from, written, losses);
    if from == Dialect::OpenAiChat {
        extra.0.iter().filter(|m| written.contains(&&*m.name)).for_each(|m| losses.dropped(m.at, ""));
    }
}

/// What [`keep`] kept under a name, into the object of that name, which is open.
pub(super) fn merge(w: &mut Writer<'_>, extra: &Extra<'_>, from: Dialect, name: &str) {
    let kept = extra.get(name).filter(|_| from == Dialect::OpenAiChat);
    let inside = kept.and_then(|m| m.json.trim().strip_prefix('{')?.strip_suffix('}')).map_or("", str::trim);
    if !inside.is_empty() {
        w.raw(inside);
    }
}

// === a provider's reply, where a member of another type than its own says nothing ===

pub(super) fn text<'a>(members: &mut Members<'a>, name: &str) -> Option<Cow<'a, str>> {
    match members.get(name)?.value {
        Value::String(_) => members.take(name)?.string().ok(),
        _ => None,
    }
}

/// The same, when it is not empty.
pub(super) fn words<'a>(members: &mut Members<'a>, name: &str) -> Option<Cow<'a, str>> {
    text(members, name).filter(|text| !text.is_empty())
}

/// What is left of a reply's own members is of another type than theirs, and would stand beside what is written for it.
pub(super) fn forget(members: &mut Members<'_>, own: &[&str]) {
    for name in own {
        members.take_raw(name);
    }
}

pub(super) fn number(members: &mut Members<'_>, name: &str) -> Option<u64> {
    members.take(name)?.as_u64()
}

pub(super) fn list<'a>(members: &mut Members<'a>, name: &str) -> Vec<Node<'a>> {
    match members.get(name).map(|node| &node.value) {
        Some(Value::Array(_)) => members.take(name).and_then(|node| node.array().ok()).unwrap_or_default(),
        _ => Vec::new(),
    }
}

pub(super) fn inner<'a>(members: &mut Members<'a>, name: &str) -> Option<Members<'a>> {
    match members.get(name)?.value {
        Value::Object(_) => members.take(name)?.object().ok(),
        _ => None,
    }
}
