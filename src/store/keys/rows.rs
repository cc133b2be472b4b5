//! The statements, and rows as they come back. Every text of a statement is a constant: values are bound, never put in.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{StoredHash, StoredKey};

macro_rules! keys {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, words, note, created, created_by, expires, revoked, deleted, version FROM keys ",
            $rest
        )
    };
}

macro_rules! hashes {
    ($rest:literal) => {
        concat!("SELECT h.hash, h.key_id, h.shown, h.made, h.until FROM key_hashes h ", $rest, " ORDER BY h.made DESC")
    };
}

pub const SINCE: &str = keys!("WHERE version > $1 ORDER BY version LIMIT $2");
pub const LIST: &str = keys!("WHERE deleted IS NULL AND name > $1 ORDER BY name LIMIT $2");
pub const BY_ID: &str = keys!("WHERE id = $1");
pub const BY_NAME: &str = keys!("WHERE name = $1 AND deleted IS NULL");
pub const BY_HASH: &str = keys!("WHERE id = (SELECT key_id FROM key_hashes WHERE hash = $1)");
pub const HASHES_OF: &str = hashes!("WHERE h.key_id = $1");
pub const HASHES_SINCE: &str = hashes!("JOIN keys k ON k.id = h.key_id WHERE k.version > $1 AND k.version <= $2");
pub const HASHES_LIST: &str =
    hashes!("JOIN keys k ON k.id = h.key_id WHERE k.deleted IS NULL AND k.name >= $1 AND k.name <= $2");

pub const INSERT: &str = "INSERT INTO keys (id, name, words, note, created, created_by, expires, version) \
                          VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
pub const INSERT_HASH: &str = "INSERT INTO key_hashes (hash, key_id, shown, made) VALUES ($1, $2, $3, $4)";
pub const UPDATE: &str = "UPDATE keys SET name = $1, words = $2, note = $3, expires = $4, version = $5 \
                          WHERE id = $6 AND version = $7 AND deleted IS NULL";
pub const TOUCH: &str = "UPDATE keys SET version = $1 WHERE id = $2 AND version = $3 AND deleted IS NULL";
pub const END_HASHES: &str = "UPDATE key_hashes SET until = $2 WHERE key_id = $1 AND (until IS NULL OR until > $2)";
pub const DROP_ENDED: &str = "DELETE FROM key_hashes WHERE key_id = $1 AND until <= $2";
pub const REVOKE: &str =
    "UPDATE keys SET revoked = $1, version = $2 WHERE id = $3 AND version = $4 AND deleted IS NULL";
pub const RESTORE: &str =
    "UPDATE keys SET revoked = NULL, version = $1 WHERE id = $2 AND version = $3 AND deleted IS NULL";
pub const DELETE: &str =
    "UPDATE keys SET deleted = $1, version = $2 WHERE id = $3 AND version = $4 AND deleted IS NULL";
pub const DROP_HASHES: &str = "DELETE FROM key_hashes WHERE key_id = $1";

/// id, name, words, note, created, created_by, expires, revoked, deleted, version
pub type KeyRow = (String, String, String, String, i64, String, Option<i64>, Option<i64>, Option<i64>, i64);

/// hash, key_id, shown, made, until
pub type HashRow = (String, String, String, i64, Option<i64>);

/// A time that no year has becomes the nearest one that has.
pub fn time(microseconds: i64) -> Timestamp {
    let nearest = if microseconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(microseconds).unwrap_or(nearest)
}

/// Keys with their hashes. A hash that is none is left out: it opens nothing.
pub fn join(keys: Vec<KeyRow>, hashes: Vec<HashRow>) -> Vec<StoredKey> {
    let mut of: HashMap<String, Vec<StoredHash>> = HashMap::new();
    for (text, key_id, shown, made, until) in hashes {
        let mut hash = [0; 32];
        if hex::decode_to_slice(&text, &mut hash).is_ok() {
            let stored = StoredHash { hash, shown, made: time(made), until: until.map(time) };
            of.entry(key_id).or_default().push(stored);
        }
    }
    let stored = |(id, name, words, note, created, created_by, expires, revoked, deleted, version): KeyRow| StoredKey {
        hashes: of.remove(&id).unwrap_or_default(),
        id,
        name,
        words,
        note,
        created: time(created),
        created_by,
        expires: expires.map(time),
        revoked: revoked.map(time),
        deleted: deleted.is_some(),
        version,
    };
    keys.into_iter().map(stored).collect()
}
