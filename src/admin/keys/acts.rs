//! What can be done with keys that are made while the gateway runs, whoever asks in whatever words: judged as in the file, written down with who
//! did it, in force here when the answer is given. A key's value is told once, to whoever made it, and is nowhere afterwards.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use crate::config::snapshot::Snapshot;
use crate::config::{Secret, keys, stored_key};
use crate::gateway::Shared;
use crate::store::StoreError;
use crate::store::keys::{Act, Find, KeyTable, StoredHash, StoredKey, Write, WriteError, change};

/// What a key may do, as a key of the file says it.
pub const WORDS: [&str; 7] = ["models", "opaque", "weight", "tags", "limits", "budget", "caps"];

/// Of all that is written on one key; a list of 500 models has some 16 KB.
const LARGEST_WORDS: usize = 64 * 1024;
const LARGEST_NOTE: usize = 16 * 1024;
/// What is not worth an overlap, and what is no rotation any more.
const LONGEST_OVERLAP: Duration = Duration::from_secs(90 * 24 * 3600);

/// The keys, and who acts.
pub struct Keys<'a> {
    shared: &'a Shared,
    table: &'a KeyTable,
    actor: String,
}

/// What is wanted of a key.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    pub name: String,
    pub words: Map<String, Json>,
    pub note: Map<String, Json>,
    pub expires: Option<Timestamp>,
}

/// Why nothing was done.
#[derive(Debug)]
pub enum Problem {
    /// Keys cannot be made here: what is missing, and what to write.
    Off(&'static str),
    /// Each in a line.
    Bad(Vec<String>),
    NotFound,
    /// The name, or the value.
    Taken(&'static str),
    /// Somebody else changed it at the same moment.
    Conflict,
    Unavailable(String),
}

pub type Done<T> = Result<T, Problem>;

// === impl Keys ===

impl<'a> Keys<'a> {
    pub fn new(shared: &'a Shared, actor: String) -> Done<Keys<'a>> {
        if !shared.live.load().keys.lasting {
            return Err(Problem::Off(
                "keys cannot be made while running without a secret that their hashes are made with: write \"auth: {pepper: ..}\"",
            ));
        }
        let table = shared.key_table.get();
        let table = table.ok_or(Problem::Off(
            "keys cannot be made while running without a database to keep them in: write \"store: sqlite:tollgate.db\"",
        ))?;
        Ok(Keys { shared, table, actor })
    }

    pub async fn find(&self, find: Find<'_>) -> Done<StoredKey> {
        let found = self.table.find(find).await?.filter(|key| !key.deleted);
        found.ok_or(Problem::NotFound)
    }

    /// By name, or by id.
    pub async fn named(&self, name: &str) -> Done<StoredKey> {
        match self.find(Find::Name(name)).await {
            Err(Problem::NotFound) => self.find(Find::Id(name)).await,
            found => found,
        }
    }

    /// By its value, or by the hash of it in hexadecimal.
    pub async fn shown(&self, value: &str) -> Done<StoredKey> {
        let mut hash = [0; 32];
        if hex::decode_to_slice(value, &mut hash).is_err() {
            hash = self.hash(value);
        }
        self.find(Find::Hash(&hash)).await
    }

    pub async fn list(&self, after: &str, limit: u32) -> Done<Vec<StoredKey>> {
        Ok(self.table.list(after, limit).await?)
    }

    /// A new key, with this value or one made here. The value is told once.
    pub async fn create(&self, terms: Terms, value: Option<Secret>) -> Done<(Secret, StoredKey)> {
        let words = self.judge(&terms, None)?;
        let value = self.value(value)?;
        let (now, hash) = (Timestamp::now(), self.hash(value.expose()));
        let stored = StoredKey {
            id: id(now),
            name: terms.name,
            words,
            note: Json::Object(terms.note).to_string(),
            created: now,
            created_by: self.actor.clone(),
            expires: terms.expires,
            revoked: None,
            deleted: false,
            version: 0,
            hashes: vec![StoredHash { hash, shown: shown(value.expose()), made: now, until: None }],
        };
        let write = Write::Create {
            id: stored.id.clone(),
            name: stored.name.clone(),
            words: stored.words.clone(),
            note: stored.note.clone(),
            expires: stored.expires,
            hash,
            shown: shown(value.expose()),
        };
        let act = self.act(now, "key.create", &stored.name, None, Some(&stored));
        let version = self.write(act, write).await?;
        let stored = StoredKey { version, ..stored };
        self.shared.keyring.apply(change(&stored));
        Ok((value, stored))
    }

    /// `edit` has what is in force and leaves what shall be.
    pub async fn update(&self, key: StoredKey, edit: impl FnOnce(&mut Terms) -> Done<()>) -> Done<StoredKey> {
        let mut terms = terms(&key);
        edit(&mut terms)?;
        let words = self.judge(&terms, Some(&key.name))?;
        let after = StoredKey {
            name: terms.name,
            words,
            note: Json::Object(terms.note).to_string(),
            expires: terms.expires,
            ..key.clone()
        };
        let write = Write::Update {
            id: key.id.clone(),
            version: key.version,
            name: after.name.clone(),
            words: after.words.clone(),
            note: after.note.clone(),
            expires: after.expires,
        };
        self.done("key.update", key, Some(after), write).await
    }

    /// A new value; the ones there are go on for `overlap`.
    pub async fn rotate(&self, key: StoredKey, overlap: Duration, value: Option<Secret>) -> Done<(Secret, StoredKey)> {
        if overlap > LONGEST_OVERLAP {
            return Err(Problem::bad("overlap: use 0s to 90d"));
        }
        let value = self.value(value)?;
        let now = Timestamp::now();
        let until = now.checked_add(overlap).map_err(|_| Problem::bad("overlap: use 0s to 90d"))?;
        let write = Write::Rotate {
            id: key.id.clone(),
            version: key.version,
            hash: self.hash(value.expose()),
            shown: shown(value.expose()),
            until,
        };
        let after = StoredKey {
            hashes: vec![StoredHash { hash: [0; 32], shown: shown(value.expose()), made: now, until: None }],
            ..key.clone()
        };
        let stored = self.done("key.rotate", key, Some(after), write).await?;
        Ok((value, stored))
    }

    pub async fn revoke(&self, key: StoredKey) -> Done<StoredKey> {
        if key.revoked.is_some() {
            return Ok(key);
        }
        let write = Write::Revoke { id: key.id.clone(), version: key.version };
        let after = StoredKey { revoked: Some(Timestamp::now()), ..key.clone() };
        self.done("key.revoke", key, Some(after), write).await
    }

    pub async fn restore(&self, key: StoredKey) -> Done<StoredKey> {
        if key.revoked.is_none() {
            return Ok(key);
        }
        let write = Write::Restore { id: key.id.clone(), version: key.version };
        let after = StoredKey { revoked: None, ..key.clone() };
        self.done("key.restore", key, Some(after), write).await
    }

    pub async fn delete(&self, key: StoredKey) -> Done<StoredKey> {
        let write = Write::Delete { id: key.id.clone(), version: key.version };
        self.done("key.delete", key, None, write).await
    }

    async fn done(
        &self,
        act: &'static str,
        before: StoredKey,
        after: Option<StoredKey>,
        write: Write,
    ) -> Done<StoredKey> {
        let name = after.as_ref().map_or(&before.name, |after| &after.name);
        let act = self.act(Timestamp::now(), act, name, Some(&before), after.as_ref());
        let version = self.write(act, write).await?;
        // as it is now; until then nobody may be let in by what it was
        let now = self.table.find(Find::Id(&before.id)).await;
        let stored = match now {
            Ok(Some(stored)) => stored,
            Ok(None) | Err(_) => StoredKey { version, hashes: Vec::new(), ..before },
        };
        self.shared.keyring.apply(change(&stored));
        Ok(stored)
    }

    async fn write(&self, act: Act, write: Write) -> Done<i64> {
        self.table.write(act, write).await.map_err(|error| match error {
            WriteError::Taken => Problem::Taken("another key has this name or this value"),
            WriteError::Conflict => Problem::Conflict,
            WriteError::Store(error) => error.into(),
        })
    }

    /// The words as they are kept, when the file would take them. `now`: the name of the key that is changed.
    fn judge(&self, terms: &Terms, now: Option<&str>) -> Done<String> {
        let words = Json::Object(terms.words.clone()).to_string();
        let mut wrong = Vec::new();
        if words.len() > LARGEST_WORDS {
            return Err(Problem::bad("more is written on the key than 64 KB"));
        }
        if Json::Object(terms.note.clone()).to_string().len() > LARGEST_NOTE {
            wrong.push("metadata: longer than 16 KB".to_owned());
        }
        if let Err(errors) = stored_key(&terms.name, &words) {
            wrong.extend(errors.into_iter().map(|error| error.message));
        }
        if !wrong.is_empty() {
            return Err(Problem::Bad(wrong));
        }
        if now != Some(terms.name.as_str()) && is_reserved(&self.shared.live.load(), &terms.name) {
            return Err(Problem::Taken("a key of the configuration, or a caller of an issuer, has this name"));
        }
        Ok(words)
    }

    fn value(&self, wanted: Option<Secret>) -> Done<Secret> {
        let Some(value) = wanted else { return Ok(keys::generate()) };
        let text = value.expose();
        let fit = (16..=1024).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !fit || keys::checksum_ok(text) == Some(false) {
            return Err(Problem::bad("key: use 16 to 1024 printable ASCII characters without spaces, or leave it out"));
        }
        if self.shared.live.load().keys.by_hash.contains_key(&self.hash(text)) {
            return Err(Problem::Taken("a key of the configuration has this value"));
        }
        Ok(value)
    }

    fn hash(&self, value: &str) -> [u8; 32] {
        keys::hash(&self.shared.live.load().keys.pepper, value)
    }

    fn act(
        &self,
        at: Timestamp,
        act: &'static str,
        subject: &str,
        was: Option<&StoredKey>,
        became: Option<&StoredKey>,
    ) -> Act {
        let text = |key: &StoredKey| audited(key).to_string();
        Act {
            at,
            actor: self.actor.clone(),
            act,
            subject: subject.to_owned(),
            was: was.map(text),
            became: became.map(text),
        }
    }
}

// === impl Problem ===

impl Problem {
    pub fn bad(why: impl Into<String>) -> Self {
        Problem::Bad(vec![why.into()])
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Problem::Unavailable(error.to_string())
    }
}

// === keys as people see them ===

/// What can be edited of a key.
fn terms(key: &StoredKey) -> Terms {
    let map = |text: &str| serde_json::from_str(text).unwrap_or_default();
    Terms { name: key.name.clone(), words: map(&key.words), note: map(&key.note), expires: key.expires }
}

/// All of a key but what it is kept by.
pub fn view(key: &StoredKey, now: Timestamp) -> Json {
    let Terms { name, words, note, expires } = terms(key);
    let state = match (key.deleted, key.revoked, expires) {
        (true, _, _) => "deleted",
        (_, Some(_), _) => "revoked",
        (_, _, Some(end)) if end <= now => "expired",
        _ => "active",
    };
    let values = key.hashes.iter().filter(|hash| hash.until.is_none_or(|until| until > now));
    let values: Vec<Json> = values
        .map(|hash| json!({"shown": hash.shown, "made": second(hash.made), "until": hash.until.map(second)}))
        .collect();
    let mut view = json!({
        "id": key.id,
        "name": name,
        "state": state,
        "values": values,
        "created": second(key.created),
        "created_by": key.created_by,
        "expires": expires.map(second),
        "revoked": key.revoked.map(second),
        "metadata": note,
    });
    if let Json::Object(members) = &mut view {
        members.extend(words);
    }
    view
}

/// What the audit keeps of it.
fn audited(key: &StoredKey) -> Json {
    let Terms { name, words, note, expires } = terms(key);
    let shown: Vec<&str> = key.hashes.iter().map(|hash| hash.shown.as_str()).collect();
    json!({
        "id": key.id, "name": name, "may": words, "metadata": note, "expires": expires.map(second),
        "revoked": key.revoked.map(second), "values": shown,
    })
}

/// Times as the API tells them: nobody needs the microseconds.
pub fn second(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Enough of a value to know it again.
fn shown(value: &str) -> String {
    let first = if value.starts_with(keys::PREFIX) { keys::PREFIX } else { "" };
    let last = value.get(value.len().saturating_sub(4)..).unwrap_or_default();
    format!("{first}...{last}")
}

/// Names that stand for somebody else.
fn is_reserved(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.keys.by_hash.values().any(|key| key.name.as_str() == name)
        || snapshot.keys.issuers.iter().any(|issuer| issuer.is_name_of_caller(name))
}

/// UUID version 7 (RFC 9562).
fn id(now: Timestamp) -> String {
    let mut random = [0u8; 10];
    // ids must differ, not surprise; without chance the database refuses the second one
    let _ = getrandom::fill(&mut random);
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

/// `30d`, `24h`, `1h30m`; `mo` is 30 days, as LiteLLM has it.
pub fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            "mo" => 30 * 86_400,
            _ => return None,
        };
        let number: u64 = number.parse().ok()?;
        sum = sum.checked_add(Duration::from_secs(number.checked_mul(seconds)?))?;
        rest = tail;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_again_by_its_end_and_no_more() {
        let value = keys::generate();
        let end = &value.expose()[value.expose().len() - 4..];
        assert_eq!(shown(value.expose()), format!("sk-tg-...{end}"));
        assert_eq!(shown("0123456789abcdef"), "...cdef");
    }

    #[test]
    fn spans_are_read_as_people_type_them() {
        for (text, seconds) in [("30d", 30 * 86_400), ("24h", 86_400), ("1h30m", 5_400), ("1mo", 2_592_000), ("0s", 0)]
        {
            assert_eq!(span(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "30", "d", "30x", "-1d", "1.5h", "99999999999999999999d", "999999999999999d", "1d 2", "é"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn ids_are_made_from_time_and_chance() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (one, two) = (id(now), id(now));
        assert!(one != two && one[..8] == two[..8], "{one} {two}");
        assert_eq!(uuid::Uuid::parse_str(&one).unwrap().get_version_num(), 7);
    }
}
