//! A JSON text read in one pass by somebody who knows what he is looking for: nothing is kept, so nothing grows with the text.
//!
//! For replies too large for a tree (thousands of vectors): what is wanted is taken as a slice of the text, the rest is stepped over.
//! Every byte is checked against RFC 8259, what is stepped over included; names that come twice are handed out twice.

use std::borrow::Cow;

use super::scan::{Escaped, Fault, MAX_DEPTH, ScanError, Scanner, unquote};

/// Stands in front of a value, or behind the last one.
pub struct Walk<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
    depth: usize,
}

/// An array of numbers as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers<'a> {
    /// With its brackets.
    pub raw: &'a str,
    pub count: usize,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    pub fn new(text: &'a [u8]) -> Result<Self, ScanError> {
        let text = std::str::from_utf8(text).map_err(|e| ScanError { at: e.valid_up_to(), what: Fault::NotUtf8 })?;
        let mut walk = Walk { text, scanner: Scanner::new(text), depth: 0 };
        walk.scanner.space();
        Ok(walk)
    }

    /// The first byte of the next value: what kind it is.
    pub fn next(&self) -> Option<u8> {
        self.scanner.peek()
    }

    /// Go through an object. A value that `member` leaves alone is stepped over.
    pub fn object<E: From<ScanError>>(
        &mut self,
        mut member: impl FnMut(&str, &mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.enter(b'{', b'}')? {
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.scanner.space();
            self.scanner.expect(b':')?;
            self.scanner.space();
            let start = self.scanner.at;
            member(&name, self)?;
            if self.scanner.at == start {
                self.value()?;
            }
            if !self.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// Go through an array. An item that `item` leaves alone is stepped over.
    pub fn array<E: From<ScanError>>(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        if !self.enter(b'[', b']')? {
            return Ok(());
        }
        loop {
            let start = self.scanner.at;
            item(self)?;
            if self.scanner.at == start {
                self.value()?;
            }
            if !self.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    /// An array of nothing but numbers.
    pub fn numbers(&mut self) -> Result<Numbers<'a>, ScanError> {
        let start = self.scanner.at;
        let mut count = 0;
        if self.enter(b'[', b']')? {
            loop {
                self.scanner.number()?;
                count += 1;
                if !self.goes_on(b']')? {
                    break;
                }
            }
        }
        Ok(Numbers { raw: &self.text[start..self.scanner.at], count })
    }

    /// A value of any kind, as it stands in the text.
    pub fn value(&mut self) -> Result<&'a str, ScanError> {
        let start = self.scanner.at;
        self.scanner.value()?;
        Ok(&self.text[start..self.scanner.at])
    }

    pub fn string(&mut self) -> Result<Cow<'a, str>, ScanError> {
        let start = self.scanner.at;
        let escaped = self.scanner.string()?;
        let quoted = &self.text[start..self.scanner.at];
        match escaped {
            Escaped::No => Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1])),
            Escaped::Yes => unquote(quoted).ok_or(ScanError { at: start, what: Fault::BadEscape }),
        }
    }

    /// Behind the value that is the whole text there must be nothing.
    pub fn end(mut self) -> Result<(), ScanError> {
        self.scanner.space();
        match self.scanner.at == self.text.len() {
            true => Ok(()),
            false => Err(self.scanner.fault(Fault::TrailingData)),
        }
    }

    /// Over an opening bracket. `false`: it is closed at once.
    fn enter(&mut self, open: u8, close: u8) -> Result<bool, ScanError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.scanner.fault(Fault::TooDeep));
        }
        self.scanner.expect(open)?;
        self.scanner.space();
        if self.scanner.peek() == Some(close) {
            self.scanner.at += 1;
            return Ok(false);
        }
        self.depth += 1;
        Ok(true)
    }

    /// Over a comma, or over the closing bracket: `false`.
    fn goes_on(&mut self, close: u8) -> Result<bool, ScanError> {
        self.scanner.space();
        match self.scanner.next()? {
            b',' => {
                self.scanner.space();
                Ok(true)
            }
            byte if byte == close => {
                self.depth -= 1;
                Ok(false)
            }
            byte => {
                self.scanner.at -= 1;
                Err(self.scanner.fault(Fault::Unexpected(byte)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wanted_is_taken_and_the_rest_stepped_over() {
        let text = br#" {"x":{"y":[1,{}]},"v" : [ [1, -2.5e3] , [] ], "n\u0061me":"a\n", "z":null} "#;
        let mut walk = Walk::new(text).unwrap();
        let (mut vectors, mut names) = (Vec::new(), Vec::new());
        walk.object(|name, walk| {
            match name {
                "v" => walk.array(|walk| {
                    vectors.push(walk.numbers()?);
                    Ok::<(), ScanError>(())
                })?,
                "name" => names.push(walk.string()?),
                _ => {}
            }
            Ok::<(), ScanError>(())
        })
        .unwrap();
        walk.end().unwrap();
        assert_eq!(vectors, [Numbers { raw: "[1, -2.5e3]", count: 2 }, Numbers { raw: "[]", count: 0 }]);
        assert_eq!(names, ["a\n"]);
    }

    #[test]
    fn numbers_are_nothing_but_numbers() {
        for text in ["[1,null]", "[1,]", "[1 2]", "[01]", "1", "[[1]]", "[1", "[\"1\"]"] {
            assert!(Walk::new(text.as_bytes()).unwrap().numbers().is_err(), "{text}");
        }
    }

    fn through(walk: &mut Walk<'_>) -> Result<(), ScanError> {
        match walk.next() {
            Some(b'{') => walk.object(|_, walk| through(walk)),
            Some(b'[') => walk.array(through),
            Some(b'"') => walk.string().map(drop),
            _ => walk.value().map(drop),
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(through(&mut Walk::new(deep(MAX_DEPTH).as_bytes()).unwrap()).is_ok());
        assert!(through(&mut Walk::new(deep(MAX_DEPTH + 2).as_bytes()).unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn it_accepts_what_serde_json_accepts(text in r#"[\[\]{}",:a0-9.eE+\- \\u]{0,24}"#) {
            let mut walk = Walk::new(text.as_bytes()).unwrap();
            let ours = through(&mut walk).and_then(|()| walk.end());
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(_) => prop_assert!(ours.is_ok()),
                Err(e) => prop_assert!(ours.is_err() || e.to_string().contains("number out of range")),
            }
        }
    }
}
