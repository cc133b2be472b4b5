//! JSON written straight into a buffer: no tree in between, commas by themselves, raw texts put in as they are.

use super::scan::plain;

/// Writes one JSON value behind what the buffer already holds.
///
/// Every `object` and `array` must be ended, every `name` be followed by one value.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

// === impl Writer ===

impl<'o> Writer<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Writer { start: out.len(), out }
    }

    pub fn object(&mut self) {
        self.comma();
        self.out.push(b'{');
    }

    pub fn end_object(&mut self) {
        self.out.push(b'}');
    }

    pub fn array(&mut self) {
        self.comma();
        self.out.push(b'[');
    }

    pub fn end_array(&mut self) {
        self.out.push(b']');
    }

    /// A member's name; its value comes next.
    pub fn name(&mut self, name: &str) -> &mut Self {
        self.string(name);
        self.out.push(b':');
        self
    }

    pub fn string(&mut self, text: &str) {
        self.strings(&[text]);
    }

    /// One string from several pieces, so that they need not be joined before.
    pub fn strings(&mut self, pieces: &[&str]) {
        self.comma();
        self.out.push(b'"');
        for piece in pieces {
            escape(piece, self.out);
        }
        self.out.push(b'"');
    }

    /// A JSON text that somebody has checked. Line ends in it, which can only be white space, become blanks: what is written is one line,
    /// and may stand in an event.
    pub fn raw(&mut self, json: &str) {
        debug_assert!(!json.is_empty());
        self.comma();
        let start = self.out.len();
        self.out.extend_from_slice(json.as_bytes());
        if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_some()
            && let Some(written) = self.out.get_mut(start..)
        {
            written.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        }
    }

    pub fn number(&mut self, number: u64) {
        self.comma();
        self.out.extend_from_slice(number.to_string().as_bytes());
    }

    pub fn signed(&mut self, number: i64) {
        self.comma();
        self.out.extend_from_slice(number.to_string().as_bytes());
    }

    pub fn boolean(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    pub fn null(&mut self) {
        self.raw("null");
    }

    // members, when they are there

    pub fn string_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.name(name).string(value);
        }
    }

    pub fn number_if(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.name(name).number(value);
        }
    }

    pub fn boolean_if(&mut self, name: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.name(name).boolean(value);
        }
    }

    pub fn raw_if(&mut self, name: &str, json: Option<&str>) {
        if let Some(json) = json {
            self.name(name).raw(json);
        }
    }

    /// A comma, unless this is the first value here. In JSON the byte before says so: no value ends in one of these three.
    fn comma(&mut self) {
        if self.out.len() > self.start && !matches!(self.out.last(), Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }
}

/// Escape what RFC 8259 section 7 wants escaped; all else goes as it is, in runs.
fn escape(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    loop {
        let run = plain(rest);
        out.extend_from_slice(&rest[..run]);
        let Some(byte) = rest.get(run) else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
        rest = &rest[run + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commas_stand_where_they_must() {
        let mut out = b"data: ".to_vec();
        let mut w = Writer::new(&mut out);
        w.object();
        w.name("a").string("x:");
        w.name("b").array();
        w.number(1);
        w.raw("{\"k\":\n[]}");
        w.object();
        w.end_object();
        w.strings(&["{", "["]);
        w.boolean(true);
        w.end_array();
        w.string_if("no", None);
        w.raw_if("c", Some("1.50"));
        w.name("d").null();
        w.end_object();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"data: {"a":"x:","b":[1,{"k": []},{},"{[",true],"c":1.50,"d":null}"#
        );
    }

    proptest! {
        #[test]
        fn any_string_comes_back(text in "\\PC{0,20}|[\\x00-\\x7f]{0,20}") {
            let mut out = Vec::new();
            Writer::new(&mut out).string(&text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
