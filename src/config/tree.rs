//! The file as a tree of located texts: YAML 1.2 (and so JSON) before anybody asks what a value means.
//!
//! Every scalar keeps its text as typed, so that `1.10` stays `1.10` and a key of digits stays a key. Aliases, depth and size
//! are bounded here (a "YAML bomb" ends in an error). Knows no key and no type of the configuration.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::{ConfigError, Place, quote};

/// Largest file that is read. A thousand models take about 100 KB.
pub(super) const LARGEST_FILE: usize = 8 << 20;

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing written (`key:`), `null` or `~`.
    Null,
    Text(Text),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub text: String,
    pub origin: Origin,
}

/// Where a text came from; one from the environment is never shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    File,
    Environment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub text: String,
    pub place: Place,
}

/// Parses one document.
pub(super) fn parse(file: &Arc<str>, text: &str) -> Result<Node, ConfigError> {
    let fault = |place, message: String| ConfigError { file: file.clone(), place, message };
    if text.len() > LARGEST_FILE {
        let message = format!("the file has {} bytes, more than the limit of {LARGEST_FILE}", text.len());
        return Err(fault(Place::default(), message));
    }
    // A byte order mark is not content (YAML 1.2 section 5.2).
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            flow_nesting_limit: 32,
            max_aliases: 10_000,
            max_documents: 1,
            max_total_scalar_bytes: LARGEST_FILE,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: LARGEST_FILE,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 8,
        },
        // `no` and `off` are texts here; what is a truth value decides the key's type.
        strict_booleans: true,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        // A snippet could show a secret of the line beside it.
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Ok(settle(raw, text)),
        Err(error) => {
            let place = error.location().map(place_of).unwrap_or_default();
            Err(fault(place, syntax_message(&error)))
        }
    }
}

fn syntax_message(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    if let serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } = error {
        return format!("key {} is written twice: remove one", quote(key));
    }
    let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    // The parser repeats the place at the end of its first line; ours is in front.
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line).trim();
    format!("not valid YAML: {line}")
}

fn place_of(location: serde_saphyr::Location) -> Place {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: narrow(location.line()), column: narrow(location.column()) }
}

/// What the parser gives; numbers and truth values are turned back into their text by their span.
enum Raw {
    Null,
    Text(String),
    /// A plain scalar that was taken for a number or a truth value.
    Plain(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn settle(raw: Spanned<Raw>, source: &str) -> Node {
    let place = place_of(raw.referenced);
    let text = |text| Value::Text(Text { text, origin: Origin::File });
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Text(t) => text(t),
        Raw::Plain(parsed) => {
            let span = raw.defined.span();
            let typed = span.byte_offset().zip(span.byte_len()).and_then(|(at, len)| {
                let (at, len) = (usize::try_from(at).ok()?, usize::try_from(len).ok()?);
                source.get(at..at.checked_add(len)?)
            });
            text(typed.map_or(parsed, |t| t.trim().to_owned()))
        }
        Raw::List(items) => Value::List(items.into_iter().map(|item| settle(item, source)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (Key { place: place_of(key.referenced), text: key.value }, settle(value, source)))
                .collect(),
        ),
    };
    Node { place, value }
}

// === impl Raw ===

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<String, String> {
        fn show(node: &Node) -> String {
            let at = format!("@{}:{}", node.place.line, node.place.column);
            match &node.value {
                Value::Null => format!("null{at}"),
                Value::Text(t) => format!("{:?}{at}", t.text),
                Value::List(items) => format!("[{}]{at}", items.iter().map(show).collect::<Vec<_>>().join(", ")),
                Value::Map(entries) => {
                    let shown: Vec<String> = entries
                        .iter()
                        .map(|(k, v)| format!("{}@{}:{}={}", k.text, k.place.line, k.place.column, show(v)))
                        .collect();
                    format!("{{{}}}{at}", shown.join(", "))
                }
            }
        }
        parse(&"c.yaml".into(), text).map(|node| show(&node)).map_err(|e| e.to_string())
    }

    #[test]
    fn scalars_keep_their_text_and_their_place() {
        let text = "a: 1.10\nb: 0123456789012345678901234\nc: off\nd:\ne: [0x1F, \"7\", 1e3]\nf: .inf\ng: true\n";
        assert_eq!(
            tree(text).unwrap(),
            "{a@1:1=\"1.10\"@1:4, b@2:1=\"0123456789012345678901234\"@2:4, c@3:1=\"off\"@3:4, d@4:1=null@4:2, \
             e@5:1=[\"0x1F\"@5:5, \"7\"@5:11, \"1e3\"@5:16]@5:4, f@6:1=\".inf\"@6:4, g@7:1=\"true\"@7:4}@1:1"
        );
    }

    #[test]
    fn json_is_read_tabs_included() {
        assert_eq!(
            tree("{\n\t\"a\": [1, null],\n\t\"b\": \"x\\u0041\"\n}").unwrap(),
            "{a@2:2=[\"1\"@2:8, null@2:11]@2:7, b@3:2=\"xA\"@3:7}@1:1"
        );
    }

    #[test]
    fn an_alias_shows_the_place_where_it_is_used() {
        assert_eq!(tree("a: &x 5s\nb: *x\n").unwrap(), "{a@1:1=\"5s\"@1:7, b@2:1=\"5s\"@2:4}@1:1");
    }

    #[test]
    fn the_same_key_twice_is_an_error() {
        assert_eq!(tree("a: 1\nb: 2\na: 3\n").unwrap_err(), "c.yaml:3:1: key \"a\" is written twice: remove one");
    }

    #[test]
    fn two_documents_are_an_error() {
        assert!(tree("a: 1\n---\nb: 2\n").unwrap_err().contains("c.yaml:"), "{:?}", tree("a: 1\n---\nb: 2\n"));
    }

    #[test]
    fn a_billion_laughs_end_in_an_error_and_not_in_memory() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let previous = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{previous}]\n"));
        }
        assert!(tree(&bomb).unwrap_err().starts_with("c.yaml:"), "{:?}", tree(&bomb).unwrap_err());
    }

    #[test]
    fn depth_and_size_are_bounded() {
        assert!(tree(&"[".repeat(100_000)).is_err());
        assert!(tree(&"- ".repeat(100_000)).is_err());
        let nested = (0..60).map(|i| format!("{}k:\n", " ".repeat(i))).collect::<String>();
        assert!(tree(&nested).is_err());
        let big = format!("a: {}", "x".repeat(LARGEST_FILE));
        assert_eq!(tree(&big).unwrap_err(), "c.yaml: the file has 8388611 bytes, more than the limit of 8388608");
    }
}
