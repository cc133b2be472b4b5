//! One vector of an answer, as JSON numbers or as base64.
//!
//! Base64 is that of the bytes of 32-bit floats, little-endian (OpenAI API reference, embeddings, `encoding_format`; its SDKs read it so).
//! Numbers are read as the nearest 32-bit float and written as the shortest text that reads as the same one.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::dialect::codec::Garbled;
use crate::json::{Numbers, Walk, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Vector<'a> {
    Numbers(Numbers<'a>),
    Base64(Cow<'a, str>),
}

// === impl Vector ===

impl<'a> Vector<'a> {
    pub(super) fn read(walk: &mut Walk<'a>) -> Result<Self, Garbled> {
        match walk.next() {
            Some(b'[') => Ok(Vector::Numbers(walk.numbers()?)),
            Some(b'"') => Ok(Vector::Base64(walk.string()?)),
            // in an object of its own, as Nova has it
            Some(b'{') => {
                let mut vector = None;
                walk.object(|name, walk| {
                    if name == "embedding" && walk.next() == Some(b'[') {
                        vector = Some(Vector::Numbers(walk.numbers()?));
                    }
                    Ok::<(), Garbled>(())
                })?;
                vector.ok_or(Garbled::new("an embedding without a vector"))
            }
            _ => Err(Garbled::new("expected a vector")),
        }
    }

    /// How many numbers.
    pub(super) fn len(&self) -> usize {
        match self {
            Vector::Numbers(numbers) => numbers.count,
            // four characters are three bytes, four bytes are a float
            Vector::Base64(text) => text.trim_end_matches('=').len() * 3 / 4 / 4,
        }
    }

    /// So many bytes it takes, about.
    pub(super) fn size(&self) -> usize {
        match self {
            Vector::Numbers(numbers) => numbers.raw.len(),
            Vector::Base64(text) => text.len(),
        }
    }

    /// As a JSON array.
    pub(super) fn write_numbers(&self, out: &mut Writer<'_>) -> Result<(), Garbled> {
        match self {
            Vector::Numbers(numbers) => out.raw(numbers.raw),
            Vector::Base64(text) => {
                let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| Garbled::new("expected base64"))?;
                let (floats, []) = bytes.as_chunks::<4>() else {
                    return Err(Garbled::new("expected base64 of 32-bit floats"));
                };
                out.array();
                for bytes in floats {
                    let float = f32::from_le_bytes(*bytes);
                    if !float.is_finite() {
                        return Err(Garbled::new("a number that is none"));
                    }
                    out.raw(&shortest(float));
                }
                out.end_array();
            }
        }
        Ok(())
    }

    /// As a JSON string.
    pub(super) fn write_base64(&self, out: &mut Writer<'_>) -> Result<(), Garbled> {
        match self {
            Vector::Base64(text) => out.string(text),
            Vector::Numbers(numbers) => {
                let mut bytes = Vec::with_capacity(numbers.count * 4);
                let inner = numbers.raw.trim_start_matches('[').trim_end_matches(']');
                for number in inner.split(',').map(str::trim).filter(|number| !number.is_empty()) {
                    let float: f32 = number.parse().map_err(|_| Garbled::new("expected a number"))?;
                    if !float.is_finite() {
                        return Err(Garbled::new("a number too large for a 32-bit float"));
                    }
                    bytes.extend_from_slice(&float.to_le_bytes());
                }
                out.string(&STANDARD.encode(bytes));
            }
        }
        Ok(())
    }
}

/// The shortest text that reads as this float, with an exponent where that is shorter than zeros.
fn shortest(float: f32) -> String {
    match float.abs() {
        0.0 | 1e-5..1e9 => float.to_string(),
        _ => format!("{float:e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(vector: &Vector<'_>) -> Result<String, Garbled> {
        let mut out = Vec::new();
        vector.write_numbers(&mut Writer::new(&mut out))?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn base64(vector: &Vector<'_>) -> Result<String, Garbled> {
        let mut out = Vec::new();
        vector.write_base64(&mut Writer::new(&mut out))?;
        Ok(serde_json::from_slice(&out).unwrap())
    }

    fn read(text: &str) -> Vector<'_> {
        Vector::read(&mut Walk::new(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn numbers_are_written_short_and_kept_when_they_stay_numbers() {
        let floats = [0.1f32, -0.0, 1.0, 1e-40, f32::MAX, 0.0063934326];
        let bytes: Vec<u8> = floats.iter().flat_map(|f| f.to_le_bytes()).collect();
        let encoded = format!("\"{}\"", STANDARD.encode(bytes));
        assert_eq!(numbers(&read(&encoded)).unwrap(), "[0.1,-0,1,1e-40,3.4028235e38,0.0063934326]");
        assert_eq!(numbers(&read("[0.10, 1E2]")).unwrap(), "[0.10, 1E2]");
        assert_eq!(base64(&read("[]")).unwrap(), "");
        assert_eq!((read("[0.10, 1E2]").len(), read(&encoded).len()), (2, 6));
    }

    #[test]
    fn what_no_float_can_say_is_refused() {
        assert!(base64(&read("[1e39]")).is_err());
        for bytes in [f32::NAN.to_le_bytes(), f32::INFINITY.to_le_bytes()] {
            assert!(numbers(&read(&format!("\"{}\"", STANDARD.encode(bytes)))).is_err());
        }
        for text in ["\"AAAA\"", "\"AAAAAA==x\"", "\"é\""] {
            assert!(numbers(&read(text)).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn floats_come_back_bit_for_bit(bits in prop::collection::vec(any::<u32>(), 0..40)) {
            let floats: Vec<f32> = bits.into_iter().map(f32::from_bits).filter(|f| f.is_finite()).collect();
            let bytes: Vec<u8> = floats.iter().flat_map(|f| f.to_le_bytes()).collect();
            let encoded = STANDARD.encode(&bytes);
            let text = numbers(&Vector::Base64(encoded.as_str().into())).unwrap();
            let theirs: Vec<f32> = serde_json::from_str(&text).unwrap();
            prop_assert!(theirs.iter().zip(&floats).all(|(a, b)| a.to_bits() == b.to_bits()));
            prop_assert_eq!(theirs.len(), floats.len());
            prop_assert_eq!(base64(&read(&text)).unwrap(), encoded);
        }
    }
}
