//! Seals in `encrypted_content`, and the two facts about them that a reasoning item has no member for.
//!
//! A seal of another family stands there packed ([`Seal::pack`]). That it hides a redacted thought, or that it belongs to the block
//! before the item, is said in a word in front of the packed text: only this codec writes it and only this codec reads it.

use std::borrow::Cow;

use crate::chat::{Issuer, Seal};

const REDACTED: &str = "redacted:";
const BEHIND: &str = "behind:";

/// What a seal stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer {
    /// The thinking it came with.
    Thinking,
    /// Thinking that may not be shown.
    Redacted,
    /// The text, call or image before the item.
    BlockBefore,
}

/// The text of `encrypted_content`.
pub fn pack(seal: &Seal<'_>, bearer: Bearer) -> String {
    let word = match bearer {
        Bearer::Thinking => return seal.pack(Issuer::OpenAi).into_owned(),
        Bearer::Redacted => REDACTED,
        Bearer::BlockBefore => BEHIND,
    };
    if seal.issuer == Issuer::OpenAi {
        // its own models redact nothing and sign nothing but reasoning: there is nobody to read the word
        return seal.pack(Issuer::OpenAi).into_owned();
    }
    Seal::new(seal.issuer, format!("{word}{}", seal.raw)).pack(Issuer::OpenAi).into_owned()
}

pub fn unpack(text: Cow<'_, str>) -> (Seal<'_>, Bearer) {
    let seal = Seal::unpack(text, Issuer::OpenAi);
    if seal.issuer == Issuer::OpenAi {
        return (seal, Bearer::Thinking);
    }
    for (word, bearer) in [(REDACTED, Bearer::Redacted), (BEHIND, Bearer::BlockBefore)] {
        if let Some(raw) = seal.raw.strip_prefix(word) {
            return (Seal::new(seal.issuer, raw.to_owned()), bearer);
        }
    }
    (seal, Bearer::Thinking)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_comes_back_with_what_it_stands_for() {
        for issuer in [Issuer::Anthropic, Issuer::Gemini, Issuer::Bedrock, Issuer::Other] {
            for bearer in [Bearer::Thinking, Bearer::Redacted, Bearer::BlockBefore] {
                let seal = Seal::new(issuer, "Eq+/");
                assert_eq!(unpack(pack(&seal, bearer).into()), (seal, bearer));
            }
        }
        assert_eq!(pack(&Seal::new(Issuer::OpenAi, "gAAA"), Bearer::Thinking), "gAAA");
    }
}
