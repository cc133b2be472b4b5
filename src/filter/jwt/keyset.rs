//! An issuer's keys: from a JWK set (RFC 7517) to those that can verify a signature, and which of them may verify a token.
//!
//! A key that cannot be used here is passed over, since issuers publish keys for other ends beside these. Each key is bound to the algorithms
//! it was made for: what a token says of itself only chooses among them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey};
use sha2::{Digest, Sha256};

use crate::json::{Members, Node};

/// Microsoft's common issuer has some thirty.
const MOST_KEYS: usize = 100;
/// Longest name of a key; SHA-256 thumbprints have 43 characters.
pub const LONGEST_KID: usize = 256;
/// Keys of one name, or of none, that are tried for a token.
const MOST_TRIES: usize = 8;
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// All that an issuer showed at one time.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
    digest: [u8; 32],
    pub fetched: Timestamp,
    /// Counts up whenever the keys become others: what they verified has to be verified again.
    pub epoch: u64,
}

#[derive(Debug)]
pub struct VerifyingKey {
    kid: Option<Box<str>>,
    algorithms: Vec<Algorithm>,
    pub key: DecodingKey,
}

/// By its name in a header or a key.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        // RFC 9864 calls it by its curve
        "Ed25519" => Some(Algorithm::EdDSA),
        name => name.parse().ok(),
    }
}

// === impl KeySet ===

impl KeySet {
    /// `before`: the set that this one takes the place of.
    pub fn read(text: &[u8], fetched: Timestamp, before: Option<&KeySet>) -> Result<KeySet, &'static str> {
        let root = Node::parse(text).map_err(|_| "the answer is not JSON, or can be read in two ways")?;
        let list = root.as_object().and_then(|root| root.get("keys")).and_then(Node::as_array);
        let list = list.ok_or("the answer is not a set of keys")?;
        if list.len() > MOST_KEYS {
            return Err("the answer has more than 100 keys");
        }
        let keys: Vec<VerifyingKey> = list.iter().filter_map(Node::as_object).filter_map(VerifyingKey::read).collect();
        if keys.is_empty() {
            return Err("none of its keys can verify a signature here");
        }
        let mut hash = Sha256::new();
        list.iter().for_each(|key| hash.update(key.raw));
        let digest = hash.finalize().into();
        let epoch = before.map_or(0, |before| before.epoch + u64::from(before.digest != digest));
        Ok(KeySet { keys, digest, fetched, epoch })
    }

    /// Those that may verify such a token, few.
    pub fn fitting(&self, algorithm: Algorithm, kid: Option<&str>) -> impl Iterator<Item = &VerifyingKey> {
        let fits = move |key: &&VerifyingKey| {
            key.algorithms.contains(&algorithm) && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))
        };
        self.keys.iter().filter(fits).take(MOST_TRIES)
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

// === impl VerifyingKey ===

impl VerifyingKey {
    /// `None`: it is for something else, or too weak.
    fn read(jwk: &Members<'_>) -> Option<VerifyingKey> {
        let text = |name: &str| jwk.get(name).and_then(Node::as_str);
        if text("use").is_some_and(|what| what != "sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops").and_then(Node::as_array)
            && !operations.iter().any(|operation| operation.as_str() == Some("verify"))
        {
            return None;
        }
        let (key, algorithms) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (n, e) = (bytes(text("n")?)?, bytes(text("e")?)?);
                let n = unpadded(&n);
                let fit = RSA_BYTES.contains(&n.len()) && (1..=4).contains(&unpadded(&e).len());
                (fit.then(|| DecodingKey::from_rsa_raw_components(n, unpadded(&e)))?, RSA.to_vec())
            }
            ("EC", Some("P-256")) => (point(text("x")?, text("y")?, 32)?, vec![Algorithm::ES256]),
            ("EC", Some("P-384")) => (point(text("x")?, text("y")?, 48)?, vec![Algorithm::ES384]),
            ("OKP", Some("Ed25519")) => {
                let x = bytes(text("x")?).filter(|x| x.len() == 32)?;
                (DecodingKey::from_ed_der(&x), vec![Algorithm::EdDSA])
            }
            _ => return None,
        };
        let algorithms = match text("alg") {
            None => algorithms,
            Some(name) => vec![algorithm(name).filter(|only| algorithms.contains(only))?],
        };
        let kid = match text("kid") {
            Some(kid) if kid.len() > LONGEST_KID => return None,
            kid => kid.map(Box::from),
        };
        Some(VerifyingKey { kid, algorithms, key })
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Some write a number with a zero in front (RFC 7518 section 6.3.1.1 forbids it).
fn unpadded(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// An uncompressed point (SEC 1, section 2.3.3).
fn point(x: &str, y: &str, size: usize) -> Option<DecodingKey> {
    let (x, y) = (bytes(x)?, bytes(y)?);
    (x.len() == size && y.len() == size).then(|| DecodingKey::from_ec_der(&[&[4], x.as_slice(), y.as_slice()].concat()))
}
