//! The database: SQLite or PostgreSQL behind one handle. Owns connections, migrations and what may be shown of a failure.
//!
//! Statements are written once for both: `$1` parameters, `ON CONFLICT`, `RETURNING`; integers are `BIGINT` (`i64`), truths 0 and 1, sums are
//! `CAST(SUM(..) AS BIGINT)`. What is in the tables is the business of those who ask ([`super::rows`], [`super::report`]).

use std::fmt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Executor, SqlSafeStr};

use crate::config::Secret;
use crate::config::store::{Durability, LedgerPlace};

/// Forward only, and only ever adding: an older program must go on with a newer database, or an update could not be taken back. A file that
/// was released is never changed.
const MIGRATIONS: [(i64, &str, &str); 2] =
    [(1, "ledger", include_str!("migrations/0001_ledger.sql")), (2, "keys", include_str!("migrations/0002_keys.sql"))];

/// How long a statement waits for another's lock on SQLite.
const BUSY: Duration = Duration::from_secs(5);
/// How long one waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(5);
const SQLITE_READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 6;
/// PostgreSQL ends what takes longer, also when nobody waits for it any more.
const LIMITS: &str = "SET statement_timeout = '60s'";

/// A database. Cheap to clone. It connects when it is first asked, and again after a loss.
#[derive(Clone)]
pub enum Db {
    Sqlite {
        /// One connection: SQLite has one writer, and waiting in line is cheaper than being refused.
        writer: SqlitePool,
        /// Cannot write.
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// The store cannot be used, or a question could not be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// There is no ledger (`store: off`).
    Off,
    /// For now. The text is for the log and for the operator, and holds no secret.
    Unavailable(String),
    /// As it is configured it cannot work: no such folder, no such database, a wrong password.
    Refused(String),
    /// No answer in time.
    Timeout,
}

/// The same code for the writing connections of either database: `on_writer!(db, pool => query(..).execute(pool).await)`.
macro_rules! on_writer {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::store::db::Db::Sqlite { writer: $pool, .. } => $body,
            $crate::store::db::Db::Postgres($pool) => $body,
        }
    };
}

/// The same for connections that only read.
macro_rules! on_reader {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::store::db::Db::Sqlite { readers: $pool, .. } => $body,
            $crate::store::db::Db::Postgres($pool) => $body,
        }
    };
}

// for whoever has tables here
pub(crate) use {on_reader, on_writer};

// === impl Db ===

impl Db {
    /// Nothing is connected yet; an error means that it never could be. `None`: there is no ledger.
    pub fn new(place: &LedgerPlace, durability: Durability) -> Result<Option<Db>, StoreError> {
        match place {
            LedgerPlace::Off => Ok(None),
            LedgerPlace::Sqlite(path) => Db::sqlite(path, durability).map(Some),
            LedgerPlace::Postgres(url) => Db::postgres(url).map(Some),
        }
    }

    /// To read what is there, beside whoever writes it or when nobody does.
    pub(super) fn to_read(place: &LedgerPlace) -> Result<Db, StoreError> {
        match place {
            LedgerPlace::Off => Err(StoreError::Off),
            LedgerPlace::Sqlite(path) => {
                if !path.exists() {
                    return Err(StoreError::Refused(format!(
                        "{} is not there: nothing was called yet",
                        path.display()
                    )));
                }
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .read_only(true)
                    .busy_timeout(BUSY)
                    .disable_statement_logging();
                let pool = SqlitePoolOptions::new().acquire_timeout(ACQUIRE).connect_lazy_with(options);
                Ok(Db::Sqlite { writer: pool.clone(), readers: pool })
            }
            LedgerPlace::Postgres(url) => Db::postgres(url),
        }
    }

    fn sqlite(path: &Path, durability: Durability) -> Result<Db, StoreError> {
        let shown = path.display();
        // Made by us, so that it is not for everybody to read; SQLite gives its other files the same rights.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(path)
            .map_err(|error| StoreError::Refused(format!("{shown} cannot be opened: {error}")))?;
        let synchronous = match durability {
            Durability::Process => SqliteSynchronous::Normal,
            Durability::Disk => SqliteSynchronous::Full,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .busy_timeout(BUSY)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            // 16 MB: each checkpoint waits for the disk, and under load four times as many are four times the waiting
            .pragma("wal_autocheckpoint", "4000")
            .pragma("journal_size_limit", "67108864")
            .pragma("cache_size", "-16000")
            .disable_statement_logging();
        let pool = || SqlitePoolOptions::new().acquire_timeout(ACQUIRE).max_lifetime(None).test_before_acquire(false);
        let writer = pool().max_connections(1).idle_timeout(None).connect_lazy_with(options.clone());
        let reading = options.pragma("query_only", "on").pragma("cache_size", "-4000");
        let readers = pool().max_connections(SQLITE_READERS).connect_lazy_with(reading);
        Ok(Db::Sqlite { writer, readers })
    }

    fn postgres(url: &Secret) -> Result<Db, StoreError> {
        let options = PgConnectOptions::from_str(url.expose())
            .map_err(|_| StoreError::Refused("the URL of the database cannot be read".to_owned()))?
            .application_name("tollgate")
            .disable_statement_logging();
        let pool = PgPoolOptions::new().max_connections(POSTGRES_CONNECTIONS).acquire_timeout(ACQUIRE);
        // not as an option of the connection: poolers refuse those
        let pool = pool.after_connect(|connection, _| Box::pin(async { connection.execute(LIMITS).await.map(drop) }));
        Ok(Db::Postgres(pool.connect_lazy_with(options)))
    }

    /// Connect, and bring the tables up to date. Two processes may do so at once.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut migrator = Migrator::with_migrations(
            MIGRATIONS
                .iter()
                .map(|(version, name, sql)| {
                    Migration::new(*version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
                })
                .collect(),
        );
        migrator.set_ignore_missing(true);
        let run = || async {
            let done = on_writer!(self, pool => {
                let mut connection = pool.acquire().await?;
                migrator.run_direct(None, &mut *connection, false).await
            });
            done.map_err(|error| match error {
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => StoreError::from(error),
                other => StoreError::Refused(plain(&other.to_string())),
            })
        };
        match run().await {
            Ok(()) => Ok(()),
            // On SQLite nothing keeps two from making the same table; the second finds it made when it looks again.
            Err(_) => run().await,
        }
    }

    pub async fn close(&self) {
        match self {
            Db::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Db::Postgres(pool) => pool.close().await,
        }
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Db::Sqlite { .. } => "Db::Sqlite",
            Db::Postgres(_) => "Db::Postgres",
        })
    }
}

// === impl StoreError ===

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let text = plain(&error.to_string());
        if is_away(&error) { StoreError::Unavailable(text) } else { StoreError::Refused(text) }
    }
}

/// Whether it may be otherwise a moment later.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            // SQLite's primary codes: busy, locked, no memory, an input or output that failed, full
            Some(code) if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() => {
                code.parse::<i64>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 7 | 10 | 13))
            }
            // PostgreSQL's classes: connection, transaction, resources, intervention of an operator (starting, stopping), system
            Some(code) => ["08", "25", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class)),
            None => false,
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        _ => false,
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Off => f.write_str("there is no ledger: write \"store: sqlite:tollgate.db\""),
            StoreError::Unavailable(why) => write!(f, "the ledger is not available: {why}"),
            StoreError::Refused(why) => write!(f, "the ledger cannot be used: {why}"),
            StoreError::Timeout => f.write_str("the ledger did not answer in time"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A database's words in one line of bounded length. They hold no credentials: sqlx does not put the URL into its errors.
fn plain(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tables_are_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = LedgerPlace::Sqlite(folder.path().join("a.db"));
        for _ in 0..2 {
            let (one, two) = (Db::new(&place, Durability::Process), Db::new(&place, Durability::Process));
            let (one, two) = (one.unwrap().unwrap(), two.unwrap().unwrap());
            let (first, second) = tokio::join!(one.migrate(), two.migrate());
            assert_eq!((first, second), (Ok(()), Ok(())));
            let count: i64 =
                on_reader!(&two, pool => sqlx::query_scalar("SELECT COUNT(*) FROM entries").fetch_one(pool).await)
                    .unwrap();
            assert_eq!(count, 0);
            one.close().await;
            two.close().await;
        }
    }

    #[tokio::test]
    async fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::new(&LedgerPlace::Sqlite(folder.path().join("a.db")), Durability::Process).unwrap().unwrap();
        db.migrate().await.unwrap();
        let done = on_reader!(&db, pool => sqlx::query("DELETE FROM entries").execute(pool).await.map(drop));
        assert!(done.unwrap_err().to_string().contains("readonly"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_by_its_path() {
        let place = LedgerPlace::Sqlite("/nowhere/at/all/a.db".into());
        let error = Db::new(&place, Durability::Process).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all/a.db"), "{error}");
    }
}
