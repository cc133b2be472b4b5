//! The keys that were made while the gateway runs, as far as this process knows them: looked up beside those of the file.
//!
//! Owns the keys in memory and whether they can be trusted; where they are kept is `crate::store`'s business, which tells of each change
//! here. A change that is older than what is known changes nothing, so that a look at the store that was slow never brings back a key that
//! was revoked meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::snapshot::Key;

/// HMAC-SHA256 of a key under the pepper.
pub type Hash = [u8; 32];

pub struct Keyring {
    by_hash: DashMap<Hash, Arc<Key>, ahash::RandomState>,
    rows: DashMap<Box<str>, Row, ahash::RandomState>,
    born: Instant,
    /// Milliseconds after `born` when the store was last heard of; see [`OFF`] and [`SILENT`].
    heard: AtomicI64,
}

/// One key as the store has it now.
#[derive(Debug)]
pub struct Change {
    pub id: Box<str>,
    /// Counts up over all keys.
    pub version: i64,
    /// Each value it can be shown as; none when it is gone. All have one name.
    pub keys: Vec<(Hash, Arc<Key>)>,
}

struct Row {
    version: i64,
    hashes: Vec<Hash>,
}

/// What a hash that stands in no file means.
#[derive(Debug)]
pub enum Found {
    Key(Arc<Key>),
    Nobody,
    /// It cannot be said at present: the store has not been read yet, or not for long.
    Unknown,
}

/// There is no store.
const OFF: i64 = -2;
/// There is one, and it has not been read yet.
const SILENT: i64 = -1;

// === impl Keyring ===

impl Default for Keyring {
    fn default() -> Self {
        let (by_hash, rows) = (DashMap::default(), DashMap::default());
        Keyring { by_hash, rows, born: Instant::now(), heard: AtomicI64::new(OFF) }
    }
}

impl Keyring {
    /// There is a store: until it has been read nobody can say that a key is unknown.
    pub fn expect(&self) {
        let _ = self.heard.compare_exchange(OFF, SILENT, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// All that the store has is known, as of now.
    pub fn heard(&self) {
        self.heard.store(self.clock(), Ordering::Release);
    }

    /// Whether the store has been read, or there is none.
    pub fn is_ready(&self) -> bool {
        self.heard.load(Ordering::Acquire) != SILENT
    }

    /// `stale`: so old may be what is known.
    pub fn find(&self, hash: &Hash, stale: Duration) -> Found {
        let heard = self.heard.load(Ordering::Acquire);
        if heard == OFF {
            return Found::Nobody;
        }
        let age = self.clock().saturating_sub(heard);
        if heard == SILENT || age > i64::try_from(stale.as_millis()).unwrap_or(i64::MAX) {
            return Found::Unknown;
        }
        self.by_hash.get(hash).map_or(Found::Nobody, |key| Found::Key(Arc::clone(&key)))
    }

    /// By name; looks at all of them.
    pub fn named(&self, name: &str) -> Option<Arc<Key>> {
        self.by_hash.iter().find(|key| key.name.as_str() == name).map(|key| Arc::clone(&key))
    }

    pub fn apply(&self, change: Change) {
        let Change { id, version, keys } = change;
        let hashes = keys.iter().map(|(hash, _)| *hash).collect();
        let row = Row { version, hashes };
        // the entry is locked until the hashes are in: two changes of one key do not mix
        let (before, _locked) = match self.rows.entry(id) {
            Entry::Occupied(known) if known.get().version > version => return,
            Entry::Occupied(mut known) => (known.insert(row).hashes, known.into_ref()),
            Entry::Vacant(new) => (Vec::new(), new.insert(row)),
        };
        for old in before.iter().filter(|old| keys.iter().all(|(hash, _)| hash != *old)) {
            self.by_hash.remove(old);
        }
        for (hash, key) in keys {
            self.by_hash.insert(hash, key);
        }
    }

    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    fn clock(&self) -> i64 {
        i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::stored_key;

    const HOUR: Duration = Duration::from_secs(3600);

    fn change(id: &str, version: i64, hashes: &[u8]) -> Change {
        let key = Arc::new(stored_key(id, "{}").unwrap());
        Change { id: id.into(), version, keys: hashes.iter().map(|n| ([*n; 32], Arc::clone(&key))).collect() }
    }

    fn name(keyring: &Keyring, hash: u8) -> Option<String> {
        match keyring.find(&[hash; 32], HOUR) {
            Found::Key(key) => Some(key.name.to_string()),
            Found::Nobody => None,
            Found::Unknown => panic!("it was heard of"),
        }
    }

    #[test]
    fn a_key_can_be_shown_as_each_of_its_values_until_one_is_taken_away() {
        let keyring = Keyring::default();
        keyring.heard();
        keyring.apply(change("a", 1, &[1]));
        keyring.apply(change("b", 2, &[9]));
        keyring.apply(change("a", 3, &[1, 2]));
        assert_eq!((name(&keyring, 1), name(&keyring, 2)), (Some("a".into()), Some("a".into())));
        keyring.apply(change("a", 4, &[2]));
        assert_eq!((name(&keyring, 1), name(&keyring, 2)), (None, Some("a".into())));
        keyring.apply(change("a", 5, &[]));
        assert_eq!((name(&keyring, 2), name(&keyring, 9), keyring.len()), (None, Some("b".into()), 1));
    }

    #[test]
    fn what_is_older_than_what_is_known_changes_nothing() {
        let keyring = Keyring::default();
        keyring.heard();
        keyring.apply(change("a", 7, &[]));
        keyring.apply(change("a", 6, &[1]));
        assert_eq!(name(&keyring, 1), None);
        // the same version again is the same row
        keyring.apply(change("b", 8, &[2]));
        keyring.apply(change("b", 8, &[2]));
        assert_eq!(name(&keyring, 2), Some("b".into()));
    }

    #[test]
    fn nothing_is_said_of_a_key_before_the_store_was_read_nor_long_after() {
        let keyring = Keyring::default();
        assert!(matches!(keyring.find(&[1; 32], HOUR), Found::Nobody) && keyring.is_ready());
        keyring.expect();
        assert!(matches!(keyring.find(&[1; 32], HOUR), Found::Unknown) && !keyring.is_ready());
        keyring.heard();
        keyring.expect();
        assert!(matches!(keyring.find(&[1; 32], HOUR), Found::Nobody) && keyring.is_ready());
        // as if an hour had passed
        let keyring = Keyring { born: keyring.born - HOUR - Duration::from_secs(1), ..keyring };
        keyring.heard.store(0, Ordering::Relaxed);
        assert!(matches!(keyring.find(&[1; 32], HOUR), Found::Unknown));
        assert!(matches!(keyring.find(&[1; 32], HOUR * 2), Found::Nobody));
    }
}
