//! What a provider signed or encrypted: never read, carried through any dialect, given back only to its issuer.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A signature, or encrypted reasoning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal<'a> {
    pub issuer: Issuer,
    /// As the issuer wrote it in its own dialect's field.
    pub raw: Cow<'a, str>,
}

/// Whose models can read a seal. A family, not an address: Anthropic's signatures are good at Bedrock and Vertex too
/// (Anthropic, "Building with extended thinking", signatures are compatible across platforms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Issuer {
    Anthropic,
    OpenAi,
    Gemini,
    /// Bedrock's other models.
    Bedrock,
    /// An OpenAI-compatible vendor's own.
    Other,
}

/// `tollgate:` in base64: nine bytes, so that what follows does not change it.
const MARK: &str = "dG9sbGdhdGU6";

// === impl Seal ===

impl<'a> Seal<'a> {
    pub fn new(issuer: Issuer, raw: impl Into<Cow<'a, str>>) -> Self {
        Seal { issuer, raw: raw.into() }
    }

    /// How it stands in a field of a dialect whose own issuer is `native`: as it is when it comes from there, else packed in base64 (some
    /// clients decode the field and encode it again) together with its issuer's name.
    pub fn pack(&self, native: Issuer) -> Cow<'_, str> {
        if self.issuer == native && !self.raw.starts_with(MARK) {
            return Cow::Borrowed(&self.raw);
        }
        Cow::Owned(STANDARD.encode(format!("tollgate:{}:{}", self.issuer.name(), self.raw)))
    }

    /// The reverse of [`Seal::pack`]. URL-safe base64 without padding is understood too.
    pub fn unpack(text: Cow<'a, str>, native: Issuer) -> Self {
        if text.starts_with(MARK)
            && let Some(seal) = Self::opened(&text)
        {
            return seal;
        }
        Seal { issuer: native, raw: text }
    }

    /// Whether a text may hold a packed seal, which only we can read.
    pub fn may_hold_packed(text: &[u8]) -> bool {
        memchr::memmem::find(text, MARK.as_bytes()).is_some()
    }

    fn opened(text: &str) -> Option<Seal<'static>> {
        let standard = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
        let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(standard).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (issuer, raw) = text.strip_prefix("tollgate:")?.split_once(':')?;
        Some(Seal { issuer: Issuer::from_name(issuer)?, raw: Cow::Owned(raw.to_owned()) })
    }
}

// === impl Issuer ===

impl Issuer {
    const ALL: [Issuer; 5] = [Issuer::Anthropic, Issuer::OpenAi, Issuer::Gemini, Issuer::Bedrock, Issuer::Other];

    pub fn name(self) -> &'static str {
        match self {
            Issuer::Anthropic => "anthropic",
            Issuer::OpenAi => "openai",
            Issuer::Gemini => "gemini",
            Issuer::Bedrock => "bedrock",
            Issuer::Other => "other",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|issuer| issuer.name() == name)
    }

    /// Of a model served through Bedrock, by its id or ARN.
    pub fn of_bedrock_model(model: &str) -> Self {
        if model.contains("anthropic") || model.contains("claude") { Issuer::Anthropic } else { Issuer::Bedrock }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_comes_back_from_any_dialect_and_any_alphabet() {
        for raw in ["EqQBCkgIBRAB+/8=", "", "a:b:c", MARK, "gAAAA_-x"] {
            for issuer in Issuer::ALL {
                let seal = Seal::new(issuer, raw);
                for native in Issuer::ALL {
                    let packed = seal.pack(native).into_owned();
                    assert_eq!(packed == raw, issuer == native && raw != MARK, "{raw} {issuer:?} {native:?}");
                    assert_eq!(Seal::unpack(packed.clone().into(), native), seal);
                    if packed != raw {
                        let url = packed.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
                        assert_eq!(Seal::unpack(url.into(), native), seal);
                    }
                }
            }
        }
    }

    #[test]
    fn what_only_looks_packed_stays_what_it_is() {
        let seal = Seal::unpack(Cow::Borrowed("dG9sbGdhdGU6!!"), Issuer::Gemini);
        assert_eq!((seal.issuer, &*seal.raw), (Issuer::Gemini, "dG9sbGdhdGU6!!"));
    }
}
