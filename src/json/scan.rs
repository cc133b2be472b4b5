//! A strict, shallow scan of a JSON object (RFC 8259): where each top-level member lies, and proof that all readers agree.
//!
//! We authorise on what we parse and the provider acts on what it parses, so a text two parsers could read differently is refused:
//! the same name twice (also spelled with escapes, `"mod\u0065l"`), invalid UTF-8, a byte order mark, trailing data, control
//! characters in strings, numbers outside the grammar, nesting beyond [`MAX_DEPTH`]. Nothing is converted and nothing below the
//! first level is kept: a nested object that is read gets a scan of its own.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// Deepest nesting accepted. Real requests stay under 30; serde_json's own limit is 128.
pub const MAX_DEPTH: usize = 128;
/// Most members of one scanned object.
pub const MAX_MEMBERS: usize = 1024;

/// Byte range in the scanned text.
pub type Span = Range<usize>;

/// One member of the scanned object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// With escapes undone.
    pub name: Cow<'a, str>,
    /// The value without surrounding white space; a string with its quotes.
    pub value: Span,
}

/// The members of an object, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<'a> {
    pub text: &'a str,
    pub members: Vec<Member<'a>>,
    /// Just behind the opening brace: where a member can be put in front.
    pub inside: usize,
}

/// Why a text was refused, and at which byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanError {
    pub at: usize,
    pub what: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    NotUtf8,
    NotAnObject,
    Unexpected(u8),
    UnexpectedEnd,
    ControlCharacter,
    BadEscape,
    BadNumber,
    TrailingData,
    TooDeep,
    TooManyMembers,
    Duplicate(String),
}

// === impl Object ===

impl<'a> Object<'a> {
    /// Scan a whole text that must be one object.
    pub fn scan(text: &'a [u8]) -> Result<Object<'a>, ScanError> {
        let text = std::str::from_utf8(text).map_err(|e| ScanError { at: e.valid_up_to(), what: Fault::NotUtf8 })?;
        let mut scanner = Scanner::new(text);
        scanner.space();
        if scanner.peek() != Some(b'{') {
            return Err(scanner.fault(Fault::NotAnObject));
        }
        scanner.at += 1;
        let inside = scanner.at;
        let mut members = Vec::with_capacity(16);
        let mut seen = Seen::default();
        scanner.space();
        if scanner.peek() == Some(b'}') {
            scanner.at += 1;
        } else {
            loop {
                let start = scanner.at;
                let escaped = scanner.string()?;
                let quoted = &text[start..scanner.at];
                let name = match escaped {
                    Escaped::No => Cow::Borrowed(&quoted[1..quoted.len() - 1]),
                    Escaped::Yes => {
                        Cow::Owned(unquote(quoted).ok_or(ScanError { at: start, what: Fault::BadEscape })?.into_owned())
                    }
                };
                if members.len() >= MAX_MEMBERS {
                    return Err(scanner.fault(Fault::TooManyMembers));
                }
                if seen.contains(&members, &name) {
                    return Err(ScanError { at: start, what: Fault::Duplicate(name.into_owned()) });
                }
                scanner.space();
                scanner.expect(b':')?;
                scanner.space();
                let value = scanner.at;
                scanner.value()?;
                seen.note(&members, &name);
                members.push(Member { name, value: value..scanner.at });
                scanner.space();
                match scanner.next()? {
                    b',' => scanner.space(),
                    b'}' => break,
                    other => {
                        scanner.at -= 1;
                        return Err(scanner.fault(Fault::Unexpected(other)));
                    }
                }
            }
        }
        scanner.space();
        if scanner.at != text.len() {
            return Err(scanner.fault(Fault::TrailingData));
        }
        Ok(Object { text, members, inside })
    }

    /// The text of a member's value.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.member(name).map(|m| &self.text[m.value.clone()])
    }

    pub fn member(&self, name: &str) -> Option<&Member<'a>> {
        self.members.iter().find(|m| m.name == name)
    }

    /// A member whose name another parser could take for `name`: equal but for case. Go's `encoding/json` matches `MODEL`
    /// to a field `model`, and folds U+017F to `s` and U+212A to `k`.
    pub fn near(&self, names: &[&str]) -> Option<&Member<'a>> {
        self.members.iter().find(|m| names.iter().any(|known| m.name != *known && folds_to(&m.name, known)))
    }
}

/// Undo the escapes of a JSON string given with its quotes. `None` for a lone surrogate or a broken escape.
pub fn unquote(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(quoted).ok().map(Cow::Owned)
}

fn folds_to(name: &str, known: &str) -> bool {
    let mut known = known.chars();
    for c in name.chars() {
        let folded = match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        };
        if known.next() != Some(folded) {
            return false;
        }
    }
    known.next().is_none()
}

// === names seen ===

/// Linear for the few members of a real request, a set for the many of a hostile one.
#[derive(Default)]
struct Seen(HashSet<String>);

impl Seen {
    const LINEAR: usize = 32;

    fn contains(&self, members: &[Member<'_>], name: &str) -> bool {
        if members.len() <= Self::LINEAR { members.iter().any(|m| m.name == name) } else { self.0.contains(name) }
    }

    fn note(&mut self, members: &[Member<'_>], name: &str) {
        if members.len() < Self::LINEAR {
            return;
        }
        if self.0.is_empty() {
            self.0.extend(members.iter().map(|m| m.name.clone().into_owned()));
        }
        self.0.insert(name.to_owned());
    }
}

// === the scanner ===

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Escaped {
    Yes,
    No,
}

pub(super) struct Scanner<'a> {
    text: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Scanner { text: text.as_bytes(), at: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn fault(&self, what: Fault) -> ScanError {
        ScanError { at: self.at, what }
    }

    pub(super) fn next(&mut self) -> Result<u8, ScanError> {
        match self.peek() {
            Some(byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => Err(self.fault(Fault::UnexpectedEnd)),
        }
    }

    pub(super) fn expect(&mut self, want: u8) -> Result<(), ScanError> {
        match self.next()? {
            byte if byte == want => Ok(()),
            byte => {
                self.at -= 1;
                Err(self.fault(Fault::Unexpected(byte)))
            }
        }
    }

    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Over a string, from quote to quote.
    pub(super) fn string(&mut self) -> Result<Escaped, ScanError> {
        self.expect(b'"')?;
        let mut escaped = Escaped::No;
        loop {
            self.plain();
            match self.next()? {
                b'"' => return Ok(escaped),
                b'\\' => {
                    escaped = Escaped::Yes;
                    match self.next()? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            for _ in 0..4 {
                                if !self.next()?.is_ascii_hexdigit() {
                                    self.at -= 1;
                                    return Err(self.fault(Fault::BadEscape));
                                }
                            }
                        }
                        _ => {
                            self.at -= 1;
                            return Err(self.fault(Fault::BadEscape));
                        }
                    }
                }
                _ => {
                    self.at -= 1;
                    return Err(self.fault(Fault::ControlCharacter));
                }
            }
        }
    }

    /// Over bytes that end no string and need no thought.
    fn plain(&mut self) {
        self.at += plain(self.text.get(self.at..).unwrap_or_default());
    }

    /// Over one value of any kind. No recursion: one bit a level says whether it is an object.
    pub(super) fn value(&mut self) -> Result<(), ScanError> {
        let mut objects: u128 = 0;
        let mut depth = 0usize;
        loop {
            // a value starts here
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    // the scanned object itself is the first level
                    if depth + 1 >= MAX_DEPTH {
                        return Err(self.fault(Fault::TooDeep));
                    }
                    self.at += 1;
                    depth += 1;
                    objects = (objects << 1) | u128::from(open == b'{');
                    self.space();
                    match (open, self.peek()) {
                        (b'{', Some(b'}')) | (b'[', Some(b']')) => {}
                        (b'{', _) => {
                            self.name()?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(other) => return Err(self.fault(Fault::Unexpected(other))),
                None => return Err(self.fault(Fault::UnexpectedEnd)),
            }
            // a value ended here: close what closes
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.space();
                let object = objects & 1 == 1;
                match (self.next()?, object) {
                    (b',', true) => {
                        self.space();
                        self.name()?;
                        break;
                    }
                    (b',', false) => {
                        self.space();
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        depth -= 1;
                        objects >>= 1;
                    }
                    (other, _) => {
                        self.at -= 1;
                        return Err(self.fault(Fault::Unexpected(other)));
                    }
                }
            }
        }
    }

    /// Over `"name" :` and the space behind it.
    fn name(&mut self) -> Result<(), ScanError> {
        self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }

    pub(super) fn word(&mut self, word: &[u8]) -> Result<(), ScanError> {
        for want in word {
            self.expect(*want)?;
        }
        Ok(())
    }

    pub(super) fn number(&mut self) -> Result<(), ScanError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.fault(Fault::BadNumber)),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        self.digits();
        if self.at == start { Err(self.fault(Fault::BadNumber)) } else { Ok(()) }
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }
}

/// How many bytes come before the first quote, backslash or control character: whole blocks while nothing special is in them (the
/// compiler turns the fold into vector code), then eight bytes at a time to the very place.
pub(super) fn plain(text: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let special = |b: u8| (b == b'"') | (b == b'\\') | (b < 0x20);
    let mut over = 0;
    for block in text.chunks_exact(BLOCK) {
        if block.iter().fold(false, |found, b| found | special(*b)) {
            break;
        }
        over += BLOCK;
    }
    for word in text[over..].chunks_exact(8) {
        let Ok(word) = <[u8; 8]>::try_from(word) else { break };
        let found = special_bytes(u64::from_le_bytes(word));
        if found != 0 {
            return over + (found.trailing_zeros() / 8) as usize;
        }
        over += 8;
    }
    over + text[over..].iter().take_while(|b| !special(**b)).count()
}

/// The top bit of each byte that is a quote, a backslash or a control character. Exact up to the lowest one found; above it a borrow may
/// mark more ("Bit Twiddling Hacks", S. E. Anderson: hasless, haszero).
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = u64::from_le_bytes([0x80; 8]);
    let zero = |w: u64| w.wrapping_sub(ONES) & !w & TOPS;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
    zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | below_space
}

// === impl ScanError ===

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Fault::NotUtf8 => write!(f, "invalid UTF-8"),
            Fault::NotAnObject => write!(f, "expected a JSON object"),
            Fault::Unexpected(byte) if byte.is_ascii_graphic() => write!(f, "unexpected `{}`", char::from(*byte)),
            Fault::Unexpected(byte) => write!(f, "unexpected byte 0x{byte:02x}"),
            Fault::UnexpectedEnd => write!(f, "the text ends too early"),
            Fault::ControlCharacter => write!(f, "control character inside a string"),
            Fault::BadEscape => write!(f, "invalid escape in a string"),
            Fault::BadNumber => write!(f, "invalid number"),
            Fault::TrailingData => write!(f, "data after the end of the object"),
            Fault::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} levels"),
            Fault::TooManyMembers => write!(f, "more than {MAX_MEMBERS} members in one object"),
            // the name is the caller's text, and this goes into the log: the position must do
            Fault::Duplicate(_) => write!(f, "duplicate member"),
        }?;
        write!(f, " at byte {}", self.at)
    }
}

impl std::error::Error for ScanError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(text: &[u8]) -> Fault {
        Object::scan(text).expect_err("must be refused").what
    }

    #[test]
    fn members_are_found_where_they_lie() {
        let text = br#" {"model" : "gpt-4o", "n":1, "messages":[{"role":"user","content":"}]\""}], "stream":true } "#;
        let object = Object::scan(text).unwrap();
        assert_eq!(object.get("model"), Some(r#""gpt-4o""#));
        assert_eq!(object.get("n"), Some("1"));
        assert_eq!(object.get("stream"), Some("true"));
        assert_eq!(object.get("messages"), Some(r#"[{"role":"user","content":"}]\""}]"#));
        assert_eq!(object.get("tools"), None);
    }

    #[test]
    fn a_name_twice_is_refused_however_it_is_spelled() {
        assert_eq!(fault(br#"{"model":"a","model":"b"}"#), Fault::Duplicate("model".into()));
        assert_eq!(fault(br#"{"model":"a","mod\u0065l":"b"}"#), Fault::Duplicate("model".into()));
        let many: String = (0..100).map(|i| format!("\"m{i}\":{i},")).collect();
        assert_eq!(fault(format!("{{{many}\"m3\":1}}").as_bytes()), Fault::Duplicate("m3".into()));
        assert_eq!(fault(format!("{{{many}\"m99\":1}}").as_bytes()), Fault::Duplicate("m99".into()));
    }

    #[test]
    fn a_name_that_another_parser_would_fold_is_noticed() {
        for name in ["Model", "MODEL", "mOdel"] {
            let text = format!("{{\"{name}\":1}}");
            assert!(Object::scan(text.as_bytes()).unwrap().near(&["model", "stream"]).is_some(), "{name}");
        }
        let text = "{\"\u{17f}tream\":1}";
        assert!(Object::scan(text.as_bytes()).unwrap().near(&["model", "stream"]).is_some());
        assert!(Object::scan(br#"{"model":1,"models":2}"#).unwrap().near(&["model"]).is_none());
    }

    #[test]
    fn texts_that_parsers_read_differently_are_refused() {
        assert_eq!(fault(b"\xef\xbb\xbf{}"), Fault::NotAnObject);
        assert_eq!(fault(b"{} {}"), Fault::TrailingData);
        assert_eq!(fault(b"{\"a\":\"\xff\"}"), Fault::NotUtf8);
        assert_eq!(fault(b"{\"a\":\"\n\"}"), Fault::ControlCharacter);
        assert_eq!(fault(br#"{"a":01}"#), Fault::Unexpected(b'1'));
        assert_eq!(fault(br#"{"a":1.}"#), Fault::BadNumber);
        assert_eq!(fault(br#"{"a":NaN}"#), Fault::Unexpected(b'N'));
        assert_eq!(fault(br#"{"a":1,}"#), Fault::Unexpected(b'}'));
        assert_eq!(fault(br#"{"a":[1,]}"#), Fault::Unexpected(b']'));
        assert_eq!(fault(br#"{"a":{"b":1,}}"#), Fault::Unexpected(b'}'));
        assert_eq!(fault(br#"{"a":[1}}"#), Fault::Unexpected(b'}'));
        assert_eq!(fault(br#"{"a":"\x"}"#), Fault::BadEscape);
        assert_eq!(fault(br#"{"\ud800":1}"#), Fault::BadEscape);
        assert_eq!(fault(b"[]"), Fault::NotAnObject);
        assert_eq!(fault(b""), Fault::NotAnObject);
        assert_eq!(fault(b"{\"a\":1"), Fault::UnexpectedEnd);
        assert_eq!(fault(b"{/**/}"), Fault::Unexpected(b'/'));
    }

    #[test]
    fn depth_has_a_limit_and_no_stack_is_at_risk() {
        let deep = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(Object::scan(deep(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert_eq!(fault(deep(MAX_DEPTH).as_bytes()), Fault::TooDeep);
        assert_eq!(fault(deep(1_000_000).as_bytes()), Fault::TooDeep);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_filter("JSON has no NaN", |f| f.is_finite()).prop_map(serde_json::Value::from),
            ".{0,40}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::vec((".{0,12}", inner), 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_object_serde_writes_is_accepted_and_sliced_right(value in json(), pretty in any::<bool>()) {
            let object = serde_json::json!({ "first": value.clone(), "second": [value] });
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
            let scanned = Object::scan(text.as_bytes()).unwrap();
            let object: serde_json::Value = serde_json::from_str(&text).unwrap();
            for member in &scanned.members {
                let part: serde_json::Value = serde_json::from_str(&text[member.value.clone()]).unwrap();
                prop_assert_eq!(&part, &object[&*member.name]);
            }
        }

        #[test]
        fn what_is_accepted_serde_accepts_too(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut object = b"{\"a\":".to_vec();
            object.extend(&text);
            object.push(b'}');
            if Object::scan(&object).is_ok() {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&object).is_ok() || text.contains(&b'\\') || text.contains(&b'e') || text.contains(&b'E'));
            }
        }

        #[test]
        fn eight_bytes_at_a_time_find_what_one_by_one_does(word in any::<[u8; 8]>(), plain in any::<bool>()) {
            let word = if plain { word.map(|b| b | 0x20) } else { word };
            let first = word.iter().position(|b| *b == b'"' || *b == b'\\' || *b < 0x20);
            let found = special_bytes(u64::from_le_bytes(word));
            prop_assert_eq!((found != 0).then(|| (found.trailing_zeros() / 8) as usize), first);
        }

        #[test]
        fn near_json_never_panics(text in r#"[\{\}\[\]",:0-9a-z\\ue\. \-]{0,60}"#) {
            let _ = Object::scan(text.as_bytes());
        }
    }
}
