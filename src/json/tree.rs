//! A JSON text as a tree that borrows from it: one pass, strict, bounded, and every value still knows its own text.
//!
//! For the bridge lane, where a request is read whole. What a decoder does not take out of an object is still there to be booked as a
//! loss; schemas and arguments are carried as the text they came in ([`Node::raw`]), so key order and number spelling survive.
//! Refuses what [`super::scan`] refuses, at every level; of a reply, half a surrogate pair is read as U+FFFD instead
//! ([`Node::parse_reply`]).

use std::borrow::Cow;

use super::scan::{Escaped, Fault, MAX_DEPTH, ScanError, Scanner, unquote};

/// Most values in one text: about 20 MB of tree.
pub const MAX_NODES: usize = 250_000;

/// Byte offset of a value in the text it was read from. Becomes a JSON path only when somebody needs to read it ([`Paths`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At(u32);

/// One value and its own text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node<'a> {
    pub raw: &'a str,
    pub at: At,
    pub value: Value<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    /// Its text is `raw`: no number is converted before somebody asks.
    Number,
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Members<'a>),
}

/// The members of an object in the order of the text. What is taken is gone; what stays was not understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members<'a>(Vec<(Cow<'a, str>, Node<'a>)>);

/// A value that is not what its place asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub at: At,
    /// A sentence for the caller, without the path: `expected a string`.
    pub what: Cow<'static, str>,
}

// === impl At ===

impl At {
    /// Of what no text holds.
    pub const NOWHERE: At = At(u32::MAX);

    pub fn new(offset: usize) -> At {
        At(u32::try_from(offset).unwrap_or(u32::MAX))
    }

    pub fn offset(self) -> Option<usize> {
        (self != At::NOWHERE).then_some(self.0 as usize)
    }
}

// === impl Node ===

impl<'a> Node<'a> {
    /// Read a whole text.
    pub fn parse(text: &'a [u8]) -> Result<Node<'a>, ScanError> {
        Reader::new(text, Surrogates::Paired)?.whole()
    }

    /// Read a provider's text: half a surrogate pair becomes U+FFFD.
    pub fn parse_reply(text: &'a [u8]) -> Result<Node<'a>, ScanError> {
        Reader::new(text, Surrogates::Any)?.whole()
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A whole number that fits; `1e3` and `5.0` do too, as other parsers would have it.
    pub fn as_u64(&self) -> Option<u64> {
        match self.value {
            Value::Number => self.raw.parse().ok().or_else(|| whole(self.raw.parse().ok()?)),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self.value {
            Value::Number => self.raw.parse().ok(),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Node<'a>]> {
        match &self.value {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&Members<'a>> {
        match &self.value {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    pub fn string(self) -> Result<Cow<'a, str>, Wrong> {
        match self.value {
            Value::String(text) => Ok(text),
            _ => Err(Wrong::new(self.at, "expected a string")),
        }
    }

    pub fn boolean(self) -> Result<bool, Wrong> {
        self.as_bool().ok_or(Wrong::new(self.at, "expected a boolean"))
    }

    pub fn whole_number(self) -> Result<u64, Wrong> {
        self.as_u64().ok_or(Wrong::new(self.at, "expected a whole number that is not negative"))
    }

    /// The number's own text.
    pub fn number(self) -> Result<&'a str, Wrong> {
        match self.value {
            Value::Number => Ok(self.raw),
            _ => Err(Wrong::new(self.at, "expected a number")),
        }
    }

    pub fn array(self) -> Result<Vec<Node<'a>>, Wrong> {
        match self.value {
            Value::Array(items) => Ok(items),
            _ => Err(Wrong::new(self.at, "expected an array")),
        }
    }

    pub fn object(self) -> Result<Members<'a>, Wrong> {
        match self.value {
            Value::Object(members) => Ok(members),
            _ => Err(Wrong::new(self.at, "expected an object")),
        }
    }
}

fn whole(number: f64) -> Option<u64> {
    // 2^53: beyond it a double has no exact whole value
    (number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
}

// === impl Members ===

impl<'a> Members<'a> {
    pub fn get(&self, name: &str) -> Option<&Node<'a>> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, node)| node)
    }

    /// Take a member out; `null` is taken too and counts as absent.
    pub fn take(&mut self, name: &str) -> Option<Node<'a>> {
        self.take_raw(name).filter(|node| !node.is_null())
    }

    /// Take a member out, `null` included.
    pub fn take_raw(&mut self, name: &str) -> Option<Node<'a>> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(at).1)
    }

    pub fn take_string(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, Wrong> {
        self.take(name).map(Node::string).transpose()
    }

    pub fn take_bool(&mut self, name: &str) -> Result<Option<bool>, Wrong> {
        self.take(name).map(Node::boolean).transpose()
    }

    pub fn take_u64(&mut self, name: &str) -> Result<Option<u64>, Wrong> {
        self.take(name).map(Node::whole_number).transpose()
    }

    pub fn take_array(&mut self, name: &str) -> Result<Option<Vec<Node<'a>>>, Wrong> {
        self.take(name).map(Node::array).transpose()
    }

    pub fn take_object(&mut self, name: &str) -> Result<Option<Members<'a>>, Wrong> {
        self.take(name).map(Node::object).transpose()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node<'a>)> {
        self.0.iter().map(|(name, node)| (&**name, node))
    }
}

impl<'a> IntoIterator for Members<'a> {
    type Item = (Cow<'a, str>, Node<'a>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

// === impl Wrong ===

impl Wrong {
    pub fn new(at: At, what: impl Into<Cow<'static, str>>) -> Self {
        Wrong { at, what: what.into() }
    }
}

// === reading ===

#[derive(Clone, Copy, PartialEq, Eq)]
enum Surrogates {
    Paired,
    Any,
}

struct Reader<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
    nodes: usize,
    surrogates: Surrogates,
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8], surrogates: Surrogates) -> Result<Self, ScanError> {
        let text = std::str::from_utf8(text).map_err(|e| ScanError { at: e.valid_up_to(), what: Fault::NotUtf8 })?;
        Ok(Reader { text, scanner: Scanner::new(text), nodes: 0, surrogates })
    }

    fn whole(mut self) -> Result<Node<'a>, ScanError> {
        self.scanner.space();
        let node = self.value(0)?;
        self.scanner.space();
        if self.scanner.at != self.text.len() {
            return Err(self.scanner.fault(Fault::TrailingData));
        }
        Ok(node)
    }

    /// Recursion is bounded by [`MAX_DEPTH`].
    fn value(&mut self, depth: usize) -> Result<Node<'a>, ScanError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.scanner.fault(Fault::TooManyMembers));
        }
        let start = self.scanner.at;
        let value = match self.scanner.peek() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => return Err(self.scanner.fault(Fault::TooDeep)),
            Some(b'{') => Value::Object(self.object(depth)?),
            Some(b'[') => Value::Array(self.array(depth)?),
            Some(b'"') => Value::String(self.string()?),
            Some(b't') => {
                self.scanner.word(b"true")?;
                Value::Bool(true)
            }
            Some(b'f') => {
                self.scanner.word(b"false")?;
                Value::Bool(false)
            }
            Some(b'n') => {
                self.scanner.word(b"null")?;
                Value::Null
            }
            Some(b'-' | b'0'..=b'9') => {
                self.scanner.number()?;
                Value::Number
            }
            Some(other) => return Err(self.scanner.fault(Fault::Unexpected(other))),
            None => return Err(self.scanner.fault(Fault::UnexpectedEnd)),
        };
        Ok(Node { raw: &self.text[start..self.scanner.at], at: At::new(start), value })
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Node<'a>>, ScanError> {
        self.scanner.at += 1;
        self.scanner.space();
        let mut items = Vec::new();
        if self.scanner.peek() == Some(b']') {
            self.scanner.at += 1;
            return Ok(items);
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.scanner.space();
            match self.scanner.next()? {
                b',' => self.scanner.space(),
                b']' => return Ok(items),
                other => return Err(self.unexpected(other)),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Members<'a>, ScanError> {
        self.scanner.at += 1;
        self.scanner.space();
        let mut members = Members(Vec::new());
        if self.scanner.peek() == Some(b'}') {
            self.scanner.at += 1;
            return Ok(members);
        }
        // linear for the few members of a real object, a set for the many of a hostile one
        let mut many = std::collections::HashSet::new();
        loop {
            let start = self.scanner.at;
            let name = self.string()?;
            let twice = match members.0.len() {
                0..=32 => members.get(&name).is_some(),
                33 => {
                    many.extend(members.0.iter().map(|(n, _)| n.clone()));
                    many.contains(&name)
                }
                _ => many.contains(&name),
            };
            if twice {
                return Err(ScanError { at: start, what: Fault::Duplicate(name.into_owned()) });
            }
            if members.0.len() > 32 {
                many.insert(name.clone());
            }
            self.scanner.space();
            self.scanner.expect(b':')?;
            self.scanner.space();
            let value = self.value(depth + 1)?;
            members.0.push((name, value));
            self.scanner.space();
            match self.scanner.next()? {
                b',' => self.scanner.space(),
                b'}' => return Ok(members),
                other => return Err(self.unexpected(other)),
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, ScanError> {
        let start = self.scanner.at;
        let escaped = self.scanner.string()?;
        let quoted = &self.text[start..self.scanner.at];
        match (escaped, self.surrogates) {
            (Escaped::No, _) => Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1])),
            (Escaped::Yes, Surrogates::Paired) => {
                unquote(quoted).ok_or(ScanError { at: start, what: Fault::BadEscape })
            }
            (Escaped::Yes, Surrogates::Any) => Ok(match unquote(quoted) {
                Some(text) => text,
                // serde_json reads a string into bytes as WTF-8: what is not UTF-8 there is half a pair
                None => {
                    let mut read = serde_json::Deserializer::from_str(quoted);
                    let bytes: serde_bytes_of::Bytes = serde::Deserialize::deserialize(&mut read)
                        .map_err(|_| ScanError { at: start, what: Fault::BadEscape })?;
                    Cow::Owned(String::from_utf8_lossy(&bytes.0).into_owned())
                }
            }),
        }
    }

    fn unexpected(&mut self, byte: u8) -> ScanError {
        self.scanner.at -= 1;
        self.scanner.fault(Fault::Unexpected(byte))
    }
}

mod serde_bytes_of {
    //! A string as its bytes.
    use std::fmt;

    pub struct Bytes(pub Vec<u8>);

    impl<'de> serde::Deserialize<'de> for Bytes {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl serde::de::Visitor<'_> for Visitor {
                type Value = Bytes;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a string")
                }
                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                    Ok(Bytes(bytes.to_vec()))
                }
                fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
                    Ok(Bytes(text.as_bytes().to_vec()))
                }
            }
            from.deserialize_bytes(Visitor)
        }
    }
}

/// A text as a map from offsets to JSON paths. Reads the text once, and only when it is asked.
#[derive(Debug)]
pub struct Paths<'a> {
    text: &'a [u8],
    root: Option<Node<'a>>,
}

// === impl Paths ===

impl<'a> Paths<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Paths { text, root: None }
    }

    /// The path of the value that begins at an offset: `messages[3].content[1].cache_control`. Empty for the whole text, for
    /// [`At::NOWHERE`], and for a text that cannot be read.
    pub fn of(&mut self, at: At) -> String {
        let mut path = String::new();
        let Some(offset) = at.offset() else { return path };
        if self.root.is_none() {
            self.root = Node::parse_reply(self.text).ok();
        }
        let Some(mut node) = self.root.as_ref() else { return path };
        let holds = |node: &Node<'_>| node.at.offset().is_some_and(|at| (at..at + node.raw.len()).contains(&offset));
        while node.at != at {
            node = match &node.value {
                Value::Array(items) => {
                    let Some((n, item)) = items.iter().enumerate().find(|(_, item)| holds(item)) else { break };
                    path.push_str(&format!("[{n}]"));
                    item
                }
                Value::Object(members) => {
                    let Some((name, member)) = members.0.iter().find(|(_, member)| holds(member)) else { break };
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                    member
                }
                Value::Null | Value::Bool(_) | Value::Number | Value::String(_) => break,
            };
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_read_with_every_value_s_own_text() {
        let text = br#" {"a": [1e2, -0.50, "x\n", null], "b\u0062": {"z":1, "a" : {} }, "t":true} "#;
        let mut root = Node::parse(text).unwrap().object().unwrap();
        let a = root.take("a").unwrap();
        assert_eq!(a.raw, r#"[1e2, -0.50, "x\n", null]"#);
        let items = a.array().unwrap();
        assert_eq!((items[0].as_u64(), items[1].raw, items[2].as_str()), (Some(100), "-0.50", Some("x\n")));
        assert_eq!(root.get("bb").unwrap().raw, r#"{"z":1, "a" : {} }"#);
        assert_eq!(root.take_bool("t"), Ok(Some(true)));
        assert_eq!(root.len(), 1);
    }

    #[test]
    fn the_same_name_twice_is_refused_at_every_level() {
        for text in [r#"{"a":{"b":1,"\u0062":2}}"#, r#"[{"a":1,"a":1}]"#] {
            assert!(matches!(Node::parse(text.as_bytes()).unwrap_err().what, Fault::Duplicate(_)), "{text}");
        }
        let many: String = (0..100).map(|n| format!("\"k{n}\":1,")).collect();
        assert!(Node::parse(format!("{{{many}\"x\":1}}").as_bytes()).is_ok());
        for n in [0, 31, 32, 33, 34, 99] {
            assert!(Node::parse(format!("{{{many}\"k{n}\":1}}").as_bytes()).is_err(), "{n}");
        }
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(Node::parse(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(Node::parse(deep(MAX_DEPTH + 1).as_bytes()).unwrap_err().what, Fault::TooDeep);
        let wide = format!("[0{}]", ",0".repeat(MAX_NODES));
        assert_eq!(Node::parse(wide.as_bytes()).unwrap_err().what, Fault::TooManyMembers);
    }

    #[test]
    fn half_a_surrogate_pair_is_refused_in_a_request_and_replaced_in_a_reply() {
        let text = br#"["a\ud83d","\ud83d\ude00"]"#;
        assert_eq!(Node::parse(text).unwrap_err().what, Fault::BadEscape);
        let items = Node::parse_reply(text).unwrap().array().unwrap();
        assert!(items[0].as_str().unwrap().starts_with("a\u{fffd}"));
        assert_eq!(items[1].as_str(), Some("\u{1f600}"));
    }

    #[test]
    fn an_offset_becomes_a_path() {
        let text = br#"{"messages":[{"role":"user"},{"content":[{"x":1},{"cache_control":{"type":"e"}}]}]}"#;
        let root = Node::parse(text).unwrap();
        let turn = &root.as_object().unwrap().get("messages").unwrap().as_array().unwrap()[1];
        let block = &turn.as_object().unwrap().get("content").unwrap().as_array().unwrap()[1];
        let mut paths = Paths::new(text);
        assert_eq!(paths.of(block.at), "messages[1].content[1]");
        let mark = block.as_object().unwrap().get("cache_control").unwrap();
        assert_eq!(paths.of(mark.at), "messages[1].content[1].cache_control");
        assert_eq!(paths.of(root.at), "");
        assert_eq!(paths.of(At::NOWHERE), "");
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_reads(text in r#"[\[\]{}",:a0-9.eE+\- \\u]{0,24}"#) {
            let ours = Node::parse(text.as_bytes());
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            if ours.is_ok() {
                // a number too large for a double is text to us and an error there
                prop_assert!(theirs.is_ok() || theirs.unwrap_err().to_string().contains("number out of range"));
            } else if let Ok(value) = theirs {
                let twice = matches!(ours.unwrap_err().what, Fault::Duplicate(_));
                prop_assert!(twice, "refused {value}");
            }
        }
    }
}
