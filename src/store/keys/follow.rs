//! How keys come into memory: all of them at the start, then each change, by asking for the last number again and again. What this process
//! changes itself it applies at once; what another replica changes is here within [`POLL`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{KeyTable, StoredKey};
use crate::config::keyring::{Change, Keyring};
use crate::config::snapshot::Key;
use crate::config::stored_key;
use crate::store::StoreError;

/// Between two looks.
pub const POLL: Duration = Duration::from_secs(1);

/// Keep the keyring as the store is, until the process ends.
pub async fn follow(table: &KeyTable, keyring: &Keyring, poll: Duration) {
    let mut known = None;
    let mut failing = false;
    loop {
        match catch_up(table, keyring, &mut known).await {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("keys: the store answers again");
                }
            }
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!("keys: changes cannot be read: {error}; those known so far serve on");
            }
            Err(_) => {}
        }
        tokio::time::sleep(poll).await;
    }
}

/// Everything that is newer than `known`.
pub(super) async fn catch_up(table: &KeyTable, keyring: &Keyring, known: &mut Option<i64>) -> Result<(), StoreError> {
    let newest = table.version().await?;
    while known.is_none_or(|known| known < newest) {
        let from = known.unwrap_or(0);
        let page = table.since(from).await?;
        // what changes after `newest` was read may be here too
        let Some(last) = page.last().map(|key| key.version) else { break };
        for key in &page {
            keyring.apply(change(key));
        }
        *known = Some(last);
    }
    // also where there is no key yet, and where the last change is no key's
    *known = Some(known.map_or(newest, |known| known.max(newest)));
    keyring.heard();
    Ok(())
}

/// What a key means now. One that cannot be understood (a newer version may have written it) opens nothing.
pub fn change(stored: &StoredKey) -> Change {
    let gone = Change { id: stored.id.as_str().into(), version: stored.version, keys: Vec::new() };
    if stored.deleted {
        return gone;
    }
    let key = match stored_key(&stored.name, &stored.words) {
        Ok(key) => key,
        Err(errors) => {
            let why: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
            tracing::error!("key {}: it is not taken, since it cannot be read: {}", stored.name, why.join("; "));
            return gone;
        }
    };
    let base = Key { revoked: stored.revoked.is_some(), expires: stored.expires, ..key };
    let usual = Arc::new(base);
    let keys = stored.hashes.iter().map(|hash| {
        let key = match hash.until {
            None => Arc::clone(&usual),
            Some(until) => Arc::new(until_then(&usual, until)),
        };
        (hash.hash, key)
    });
    Change { keys: keys.collect(), ..gone }
}

/// The same key, as its value before a rotation.
fn until_then(key: &Key, until: Timestamp) -> Key {
    Key {
        name: key.name.clone(),
        models: key.models.clone(),
        opaque: key.opaque,
        weight: key.weight,
        revoked: key.revoked,
        expires: Some(key.expires.map_or(until, |end| end.min(until))),
        tags: key.tags.clone(),
        request_tags: key.request_tags.clone(),
        own: key.own.clone(),
    }
}
