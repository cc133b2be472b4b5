//! The keys that are made while the gateway runs, and the audit of what was done: their tables, and how they come into memory.
//!
//! A key is a name, what it may do (`words`, as it would stand in the file), times, and the hashes it can be shown as; never a key itself. Every
//! change takes the next number of one counter in the same transaction, so that numbers are in the order of commits: whoever knows all
//! changes up to a number finds the rest by asking for larger ones ([`follow`]). Each change is a row of the audit, which is only ever added to.

mod follow;
mod rows;

use jiff::Timestamp;
use sqlx::Row;

use super::db::{Db, StoreError, on_reader, on_writer};
use crate::config::keyring::Hash;
use rows::{HashRow, KeyRow};

pub use follow::{POLL, change, follow};

/// The tables. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeyTable {
    db: Db,
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    pub id: String,
    pub name: String,
    /// JSON: what a key of the file would have written on it.
    pub words: String,
    /// JSON: what its maker wants to remember. Means nothing here.
    pub note: String,
    pub created: Timestamp,
    pub created_by: String,
    pub expires: Option<Timestamp>,
    pub revoked: Option<Timestamp>,
    pub deleted: bool,
    /// Of its last change.
    pub version: i64,
    /// The newest first.
    pub hashes: Vec<StoredHash>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHash {
    pub hash: Hash,
    /// Its beginning and its end, for people: `sk-tg-...wxyz`.
    pub shown: String,
    pub made: Timestamp,
    /// `None`: as long as the key.
    pub until: Option<Timestamp>,
}

/// How a key is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Find<'a> {
    Id(&'a str),
    /// Of those that are not deleted.
    Name(&'a str),
    Hash(&'a Hash),
}

/// Who does what. Without any secret.
#[derive(Debug, Clone)]
pub struct Act {
    pub at: Timestamp,
    pub actor: String,
    /// `key.create`.
    pub act: &'static str,
    pub subject: String,
    /// JSON.
    pub was: Option<String>,
    pub became: Option<String>,
}

/// What is done. `version`: what the key had when it was looked at; when it has another by now, nothing is done.
#[derive(Debug, Clone)]
pub enum Write {
    Create {
        id: String,
        name: String,
        words: String,
        note: String,
        expires: Option<Timestamp>,
        hash: Hash,
        shown: String,
    },
    Update {
        id: String,
        version: i64,
        name: String,
        words: String,
        note: String,
        expires: Option<Timestamp>,
    },
    /// The hashes there are end at `until` at the latest.
    Rotate {
        id: String,
        version: i64,
        hash: Hash,
        shown: String,
        until: Timestamp,
    },
    Revoke {
        id: String,
        version: i64,
    },
    Restore {
        id: String,
        version: i64,
    },
    Delete {
        id: String,
        version: i64,
    },
    /// Only the audit.
    Note,
}

/// A row of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    pub id: i64,
    pub at: Timestamp,
    pub actor: String,
    pub act: String,
    pub subject: String,
    pub was: Option<String>,
    pub became: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// Another key has this name, or this value.
    Taken,
    /// Somebody else changed it meanwhile, or it is gone.
    Conflict,
    Store(StoreError),
}

/// Rows of one question.
const PAGE: i64 = 1_000;

/// A value of a statement.
#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Number(i64),
    Maybe(Option<i64>),
    /// The change's own number.
    Version,
}

/// A statement, and whether it must meet a row.
type Statement = (&'static str, Vec<Value>, bool);

// === impl KeyTable ===

impl KeyTable {
    pub fn new(db: Db) -> Self {
        KeyTable { db }
    }

    /// The number of the last change.
    pub async fn version(&self) -> Result<i64, StoreError> {
        Ok(on_reader!(&self.db, pool => {
            sqlx::query_scalar("SELECT version FROM key_changes WHERE one = 1").fetch_one(pool).await
        })?)
    }

    /// Those that changed after this number, oldest change first; at most a page. Deleted ones too.
    pub async fn since(&self, version: i64) -> Result<Vec<StoredKey>, StoreError> {
        let keys: Vec<KeyRow> = on_reader!(&self.db, pool => {
            sqlx::query_as(rows::SINCE).bind(version).bind(PAGE).fetch_all(pool).await
        })?;
        let Some(last) = keys.last().map(|row| row.9) else { return Ok(Vec::new()) };
        let hashes: Vec<HashRow> = on_reader!(&self.db, pool => {
            sqlx::query_as(rows::HASHES_SINCE).bind(version).bind(last).fetch_all(pool).await
        })?;
        Ok(rows::join(keys, hashes))
    }

    /// Those that are not deleted, by name, behind `after`; at most `limit`.
    pub async fn list(&self, after: &str, limit: u32) -> Result<Vec<StoredKey>, StoreError> {
        let keys: Vec<KeyRow> = on_reader!(&self.db, pool => {
            sqlx::query_as(rows::LIST).bind(after).bind(i64::from(limit)).fetch_all(pool).await
        })?;
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(Vec::new()) };
        let (first, last) = (first.1.clone(), last.1.clone());
        let hashes: Vec<HashRow> = on_reader!(&self.db, pool => {
            sqlx::query_as(rows::HASHES_LIST).bind(first).bind(last).fetch_all(pool).await
        })?;
        Ok(rows::join(keys, hashes))
    }

    pub async fn find(&self, find: Find<'_>) -> Result<Option<StoredKey>, StoreError> {
        let (sql, value) = match find {
            Find::Id(id) => (rows::BY_ID, id.to_owned()),
            Find::Name(name) => (rows::BY_NAME, name.to_owned()),
            Find::Hash(hash) => (rows::BY_HASH, hex::encode(hash)),
        };
        let keys: Vec<KeyRow> = on_reader!(&self.db, pool => sqlx::query_as(sql).bind(value).fetch_all(pool).await)?;
        let Some(id) = keys.first().map(|row| row.0.clone()) else { return Ok(None) };
        let hashes: Vec<HashRow> =
            on_reader!(&self.db, pool => sqlx::query_as(rows::HASHES_OF).bind(id).fetch_all(pool).await)?;
        Ok(rows::join(keys, hashes).pop())
    }

    /// The newest first, before `id`.
    pub async fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<Audited>, StoreError> {
        type Found = (i64, i64, String, String, String, Option<String>, Option<String>);
        let before = before.unwrap_or(i64::MAX);
        let found: Vec<Found> = on_reader!(&self.db, pool => {
            sqlx::query_as(
                "SELECT id, at, actor, act, subject, was, became FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2",
            )
            .bind(before)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await
        })?;
        let audited = |(id, at, actor, act, subject, was, became)| Audited {
            id,
            at: rows::time(at),
            actor,
            act,
            subject,
            was,
            became,
        };
        Ok(found.into_iter().map(audited).collect())
    }

    /// Do it, and write down who did, in one transaction. The number of the change.
    pub async fn write(&self, act: Act, write: Write) -> Result<i64, WriteError> {
        let mut statements = write.statements(&act);
        statements.push(act.statement());
        on_writer!(&self.db, pool => {
            let mut transaction = pool.begin().await?;
            // first, so that the lock is held from the beginning and numbers are in the order of commits
            let row = sqlx::query("UPDATE key_changes SET version = version + 1 WHERE one = 1 RETURNING version")
                .fetch_one(&mut *transaction)
                .await?;
            let version: i64 = row.try_get(0)?;
            for (sql, values, must_meet) in &statements {
                let mut query = sqlx::query(*sql);
                for value in values {
                    query = match value {
                        Value::Text(text) => query.bind(text.clone()),
                        Value::Number(number) => query.bind(*number),
                        Value::Maybe(number) => query.bind(*number),
                        Value::Version => query.bind(version),
                    };
                }
                let met = query.execute(&mut *transaction).await?.rows_affected();
                if *must_meet && met == 0 {
                    transaction.rollback().await?;
                    return Err(WriteError::Conflict);
                }
            }
            transaction.commit().await?;
            Ok(version)
        })
    }
}

// === impl Act, Write ===

impl Act {
    fn statement(self) -> Statement {
        let Act { at, actor, act, subject, was, became } = self;
        let text = |text: Option<String>| Value::Text(text.unwrap_or_default());
        let values = vec![
            Value::Version,
            Value::Number(at.as_microsecond()),
            Value::Text(actor),
            Value::Text(act.to_owned()),
            Value::Text(subject),
            text(was),
            text(became),
        ];
        let sql = "INSERT INTO audit (id, at, actor, act, subject, was, became) \
                   VALUES ($1, $2, $3, $4, $5, NULLIF($6, ''), NULLIF($7, ''))";
        (sql, values, true)
    }
}

impl Write {
    fn statements(self, act: &Act) -> Vec<Statement> {
        let now = act.at.as_microsecond();
        let expiry = |time: Option<Timestamp>| Value::Maybe(time.map(Timestamp::as_microsecond));
        match self {
            Write::Create { id, name, words, note, expires, hash, shown } => {
                let key = vec![
                    Value::Text(id.clone()),
                    Value::Text(name),
                    Value::Text(words),
                    Value::Text(note),
                    Value::Number(now),
                    Value::Text(act.actor.clone()),
                    expiry(expires),
                    Value::Version,
                ];
                vec![(rows::INSERT, key, true), hash_statement(&id, &hash, shown, now)]
            }
            Write::Update { id, version, name, words, note, expires } => {
                let values = vec![
                    Value::Text(name),
                    Value::Text(words),
                    Value::Text(note),
                    expiry(expires),
                    Value::Version,
                    Value::Text(id),
                    Value::Number(version),
                ];
                vec![(rows::UPDATE, values, true)]
            }
            Write::Rotate { id, version, hash, shown, until } => {
                let end = vec![Value::Text(id.clone()), Value::Number(until.as_microsecond())];
                let gone = vec![Value::Text(id.clone()), Value::Number(now)];
                vec![
                    touch(rows::TOUCH, &id, version),
                    (rows::END_HASHES, end, false),
                    (rows::DROP_ENDED, gone, false),
                    hash_statement(&id, &hash, shown, now),
                ]
            }
            Write::Revoke { id, version } => {
                let values = vec![Value::Number(now), Value::Version, Value::Text(id), Value::Number(version)];
                vec![(rows::REVOKE, values, true)]
            }
            Write::Restore { id, version } => vec![touch(rows::RESTORE, &id, version)],
            Write::Delete { id, version } => {
                let values = vec![Value::Number(now), Value::Version, Value::Text(id.clone()), Value::Number(version)];
                vec![(rows::DELETE, values, true), (rows::DROP_HASHES, vec![Value::Text(id)], false)]
            }
            Write::Note => Vec::new(),
        }
    }
}

fn touch(sql: &'static str, id: &str, version: i64) -> Statement {
    (sql, vec![Value::Version, Value::Text(id.to_owned()), Value::Number(version)], true)
}

fn hash_statement(id: &str, hash: &Hash, shown: String, now: i64) -> Statement {
    let values =
        vec![Value::Text(hex::encode(hash)), Value::Text(id.to_owned()), Value::Text(shown), Value::Number(now)];
    (rows::INSERT_HASH, values, true)
}

// === impl WriteError ===

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        let taken = error.as_database_error().is_some_and(|error| error.is_unique_violation());
        if taken { WriteError::Taken } else { WriteError::Store(error.into()) }
    }
}

#[cfg(test)]
mod tests;
