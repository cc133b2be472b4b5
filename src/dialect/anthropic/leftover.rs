//! Members of small inner objects (`thinking`, `cache_control`, `source`, ...) that no word has a place for.
//!
//! They are kept in the `extra` of the object around them under a dotted name (`thinking.block_binding`), so that the same dialect writes
//! them where they stood and every other books each of them as lost.

use std::borrow::Cow;

use crate::chat::{Extra, ExtraMember};
use crate::json::{Members, Node, Writer};

/// The inner objects this is done for.
pub(super) const THINKING: &str = "thinking.";
pub(super) const OUTPUT: &str = "output_config.";
pub(super) const CHOICE: &str = "tool_choice.";
pub(super) const METADATA: &str = "metadata.";
pub(super) const CACHE: &str = "cache_control.";
pub(super) const SOURCE: &str = "source.";
pub(super) const CITATIONS: &str = "citations.";

const ALL: [&str; 7] = [THINKING, OUTPUT, CHOICE, METADATA, CACHE, SOURCE, CITATIONS];

/// Keep what was not understood of an inner object.
pub(super) fn keep<'a>(into: &mut Vec<ExtraMember<'a>>, place: &str, members: Members<'a>) {
    for (name, node) in members {
        if !node.is_null() {
            into.push(ExtraMember {
                name: format!("{place}{name}").into(),
                json: Cow::Borrowed(node.raw),
                at: node.at,
            });
        }
    }
}

/// Keep a whole member as it was written.
pub(super) fn whole<'a>(into: &mut Vec<ExtraMember<'a>>, name: &'static str, node: &Node<'a>) {
    into.push(ExtraMember { name: name.into(), json: Cow::Borrowed(node.raw), at: node.at });
}

/// What is left of an object, and what was kept of the objects in it.
pub(super) fn extra<'a>(members: Members<'a>, inner: Vec<ExtraMember<'a>>) -> Extra<'a> {
    let mut extra = Extra::rest(members);
    extra.0.extend(inner);
    extra
}

/// Whether anything was kept of an inner object.
pub(super) fn has(extra: Option<&Extra<'_>>, place: &str) -> bool {
    extra.is_some_and(|extra| extra.0.iter().any(|member| member.name.starts_with(place)))
}

/// Write again what was kept of an inner object.
pub(super) fn write(w: &mut Writer<'_>, extra: Option<&Extra<'_>>, place: &str) {
    for member in extra.into_iter().flat_map(|extra| &extra.0) {
        if let Some(name) = member.name.strip_prefix(place) {
            w.name(name).raw(&member.json);
        }
    }
}

/// Write again the members of the object itself.
pub(super) fn write_own(w: &mut Writer<'_>, extra: &Extra<'_>) {
    write_own_but(w, extra, "");
}

/// The same, without one that stands already.
pub(super) fn write_own_but(w: &mut Writer<'_>, extra: &Extra<'_>, written: &str) {
    for member in &extra.0 {
        if member.name != written && !ALL.iter().any(|place| member.name.starts_with(place)) {
            w.name(&member.name).raw(&member.json);
        }
    }
}
