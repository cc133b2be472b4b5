//! A token as it is shown (RFC 7519, in the compact form of RFC 7515): its three parts, its header, and the claims nobody has vouched for yet.
//!
//! Read as strictly as any JSON here: what two readers could read differently is no token. What a header says of where keys are (`jku`, `x5u`,
//! `jwk`, `x5c`) is not looked at.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

use super::keyset::{self, LONGEST_KID};
use super::refusal::Refusal;
use crate::json::{Members, Node, Value};

/// Entra's with many groups have some 10 KB; headers end at 64 KB.
pub const LONGEST: usize = 16 * 1024;

/// What `typ` a token may have (RFC 8725 section 3.11): one made for another end is none, though the same issuer signed it.
const TYPES: [&str; 4] = ["jwt", "at+jwt", "application/at+jwt", "application/jwt"];

/// A token cut in its parts.
pub struct Parts<'t> {
    /// What is signed: header and claims as they stand in the token.
    pub signed: &'t str,
    /// In base64url.
    pub signature: &'t str,
    header: Vec<u8>,
    claims: Vec<u8>,
}

/// What its header says, as far as it counts.
pub struct Header {
    pub algorithm: Algorithm,
    pub kid: Option<Box<str>>,
}

/// Whether a text has the shape of a token: it is then nothing else.
pub fn looks_like(text: &str) -> bool {
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    // the third is empty where there is no signature, and that is for us to refuse
    matches!(text.split('.').collect::<Vec<_>>().as_slice(), [header, claims, signature]
        if header.starts_with("ey") && word(header) && word(claims) && (signature.is_empty() || word(signature)))
}

// === impl Parts ===

impl<'t> Parts<'t> {
    pub fn cut(token: &'t str) -> Result<Self, Refusal> {
        if token.len() > LONGEST {
            return Err(Refusal::unreadable("it is longer than 16 KB"));
        }
        let cut = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (header, claims) = signed.split_once('.')?;
            let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
            Some(Parts { signed, signature, header: decode(header)?, claims: decode(claims)? })
        };
        cut().ok_or(Refusal::unreadable("it is not three parts in base64url"))
    }

    pub fn header(&self) -> Result<Header, Refusal> {
        let wrong = Refusal::unreadable("its header cannot be read, or can be read in two ways");
        let header = Node::parse(&self.header).map_err(|_| wrong)?.object().map_err(|_| wrong)?;
        // RFC 7515 section 4.1.11: whoever does not understand an extension must refuse
        if header.get("crit").is_some() {
            return Err(Refusal::untrusted("it asks for extensions that are not understood here"));
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(node) => node.as_str().map(Some).ok_or(wrong),
        };
        if let Some(kind) = text("typ")?
            && !TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known))
        {
            return Err(Refusal::untrusted("it was made for another end"));
        }
        if text("cty")?.is_some() {
            return Err(Refusal::untrusted("it holds another token"));
        }
        let algorithm = text("alg")?.and_then(keyset::algorithm);
        let algorithm = algorithm.ok_or(Refusal::untrusted("its signature is of a kind that is not taken"))?;
        let kid = text("kid")?.map(Box::from);
        if kid.as_ref().is_some_and(|kid: &Box<str>| kid.len() > LONGEST_KID) {
            return Err(wrong);
        }
        Ok(Header { algorithm, kid })
    }

    pub fn claims(&self) -> Result<Members<'_>, Refusal> {
        let wrong = Refusal::unreadable("its claims cannot be read, or can be read in two ways");
        match Node::parse(&self.claims).map_err(|_| wrong)?.value {
            Value::Object(claims) => Ok(claims),
            Value::Null | Value::Bool(_) | Value::Number | Value::String(_) | Value::Array(_) => Err(wrong),
        }
    }
}
