//! Virtual keys as texts: how one is made, checked and hashed. Who may do what with a key is `snapshot::Key`'s business.
//!
//! A made key is `sk-tg-`, 43 characters of base 62 (256 random bits), and 6 more that are a checksum of the rest, so that a
//! slip of the pen is told from an unknown key, and a scanner for leaked secrets can be sure of what it found.

use std::sync::OnceLock;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::secret::Secret;

pub const PREFIX: &str = "sk-tg-";
/// log(2^256) / log(62) = 42.99.
const RANDOM: usize = 43;
const CHECKSUM: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// HMAC-SHA256 (RFC 2104) of a key under the pepper: all that is ever kept of a key.
pub fn hash(pepper: &Secret, key: &str) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(pepper.expose().as_bytes()).expect("HMAC takes keys of every length (RFC 2104)");
    mac.update(key.as_bytes());
    mac.finalize().into_bytes().into()
}

/// A new key.
pub fn generate() -> Secret {
    let random: [u8; 32] = random_bytes();
    let mut text = String::with_capacity(PREFIX.len() + RANDOM + CHECKSUM);
    text.push_str(PREFIX);
    base62(&random, RANDOM, &mut text);
    let checksum = checksum(&text);
    text.push_str(&checksum);
    Secret::new(text)
}

/// Whether a key with our prefix is spelled as it was made; `None` when it is not one of ours.
pub fn checksum_ok(key: &str) -> Option<bool> {
    key.strip_prefix(PREFIX)?;
    let ok = key.len() == PREFIX.len() + RANDOM + CHECKSUM
        && key.split_at_checked(PREFIX.len() + RANDOM).is_some_and(|(body, sum)| checksum(body) == sum);
    Some(ok)
}

/// The pepper of a process whose configuration has none. The same for its whole life, so that a reload keeps the hashes.
pub(super) fn process_pepper() -> Secret {
    static PEPPER: OnceLock<Secret> = OnceLock::new();
    PEPPER.get_or_init(|| Secret::new(hex::encode(random_bytes::<32>()))).clone()
}

fn checksum(body: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(body.as_bytes()).into();
    let mut text = String::with_capacity(CHECKSUM);
    base62(&digest, CHECKSUM, &mut text);
    text
}

/// The lowest `digits` digits of a big-endian number, least significant first.
fn base62(number: &[u8; 32], digits: usize, out: &mut String) {
    let mut number = *number;
    for _ in 0..digits {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(value / 62).expect("rest < 62, so the quotient is below 256");
            rest = value % 62;
        }
        out.push(char::from(BASE62[rest as usize]));
    }
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("Linux gives random bytes once it has booted (getrandom(2))");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_has_its_prefix_its_length_and_a_good_checksum() {
        let key = generate();
        assert_eq!(key.expose().len(), 55);
        assert!(key.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        assert_eq!(checksum_ok(key.expose()), Some(true));
        assert_ne!(key.expose(), generate().expose());
    }

    #[test]
    fn every_slip_in_one_character_is_seen() {
        let key = generate().expose().to_owned();
        for at in PREFIX.len()..key.len() {
            let mut other = key.clone().into_bytes();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(checksum_ok(std::str::from_utf8(&other).unwrap()), Some(false), "{at}");
        }
        assert_eq!(checksum_ok(&key[..54]), Some(false));
        assert_eq!(checksum_ok("sk-proj-whatever"), None);
        assert_eq!(checksum_ok("sk-tg-é"), Some(false));
    }

    #[test]
    fn the_hash_is_the_hmac_of_rfc_4231() {
        // RFC 4231 section 4.3, test case 2.
        let hash = hash(&Secret::new("Jefe"), "what do ya want for nothing?");
        assert_eq!(hex::encode(hash), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn the_pepper_of_a_process_stays_the_same() {
        assert_eq!(process_pepper(), process_pepper());
        assert_eq!(process_pepper().expose().len(), 64);
    }
}
