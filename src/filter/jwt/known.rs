//! Tokens that were verified before, so that a caller's next call costs a hash and a look. Bounded: the ones not shown lately are forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::issuer::Issuer;
use crate::config::snapshot::Key;

/// SHA-256 of a whole token: anything shorter could be another's.
pub type Fingerprint = [u8; 32];

/// Tokens remembered, about.
const MOST: usize = 32_768;
const SHARDS: usize = 16;

#[derive(Debug, Clone)]
pub struct Verified {
    pub key: Arc<Key>,
    /// By whose entry it was taken: after a reload its claims may mean something else.
    pub issuer: Arc<Issuer>,
    /// Of the set of keys that verified it.
    pub epoch: u64,
}

/// Two generations each: a full young one becomes the old one, and what was old is gone.
#[derive(Default)]
pub struct Known {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    young: HashMap<Fingerprint, Verified, ahash::RandomState>,
    old: HashMap<Fingerprint, Verified, ahash::RandomState>,
}

// === impl Known ===

impl Known {
    pub fn get(&self, token: &Fingerprint) -> Option<Verified> {
        let mut shard = self.shard(token);
        if let Some(found) = shard.young.get(token) {
            return Some(found.clone());
        }
        let found = shard.old.remove(token)?;
        shard.put(*token, found.clone());
        Some(found)
    }

    pub fn put(&self, token: Fingerprint, verified: Verified) {
        self.shard(&token).put(token, verified);
    }

    pub fn forget(&self, token: &Fingerprint) {
        let mut shard = self.shard(token);
        shard.young.remove(token);
        shard.old.remove(token);
    }

    fn shard(&self, token: &Fingerprint) -> MutexGuard<'_, Shard> {
        let [first, ..] = token;
        let shard = &self.shards[usize::from(*first) % SHARDS];
        // two maps, whole between any two statements
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Shard ===

impl Shard {
    fn put(&mut self, token: Fingerprint, verified: Verified) {
        if self.young.len() >= MOST / SHARDS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, verified);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::jwt::tests::{issuer, key_named};

    #[test]
    fn what_is_shown_again_and_again_stays_and_the_rest_is_bounded() {
        let known = Known::default();
        let issuer = Arc::new(issuer());
        let print = |n: u64| -> Fingerprint {
            sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), n.to_be_bytes())).into()
        };
        let verified =
            |n: u64| Verified { key: Arc::new(key_named(&n.to_string())), issuer: Arc::clone(&issuer), epoch: 0 };
        known.put(print(0), verified(0));
        for n in 1..200_000 {
            known.put(print(n), verified(n));
            if n % 500 == 0 {
                assert_eq!(known.get(&print(0)).expect("in use").key.name.as_str(), "0", "at {n}");
            }
        }
        let held: usize = known.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!((MOST / 4..=MOST).contains(&held), "{held}");
        assert!(known.get(&print(1)).is_none(), "not shown lately");
        known.forget(&print(0));
        assert!(known.get(&print(0)).is_none());
    }
}
