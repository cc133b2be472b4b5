//! Old rows become daily sums: some thousands in one transaction, so that nobody waits long for the database.
//!
//! A row is counted and taken away in the same transaction, and only one process does it at a time: nothing is counted twice.

use sqlx::AssertSqlSafe;

use super::db::{Db, StoreError};
use super::report::{DAY, SUMS};

/// Rows of one transaction.
const ROWS: i64 = 2000;
/// Bytes of tags beyond which a daily sum does without those that have no column: they are part of its key.
const LONGEST_TAGS: usize = 1200;
/// Names the lock among those of the database; the number means nothing.
const LOCK: i64 = 0x0074_6f6c_6c67_6174;

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pruned {
    /// There may be more.
    Some,
    All,
}

/// The oldest rows from before `before` (microseconds since 1970 UTC).
pub(super) async fn prune(db: &Db, before: i64) -> Result<Pruned, StoreError> {
    let removed = match db {
        Db::Sqlite { writer, .. } => {
            let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query(AssertSqlSafe(add())).bind(before).bind(ROWS).execute(&mut *transaction).await?;
            let done = sqlx::query(AssertSqlSafe(delete())).bind(before).bind(ROWS).execute(&mut *transaction).await?;
            transaction.commit().await?;
            done.rows_affected()
        }
        Db::Postgres(pool) => {
            // One view for both statements: what is counted must be what is taken away. Where another changes these rows meanwhile, it fails
            // and is tried again.
            let mut transaction = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
            let lock = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(LOCK);
            if !lock.fetch_one(&mut *transaction).await? {
                // another replica is at it
                return Ok(Pruned::All);
            }
            sqlx::query(AssertSqlSafe(add())).bind(before).bind(ROWS).execute(&mut *transaction).await?;
            let done = sqlx::query(AssertSqlSafe(delete())).bind(before).bind(ROWS).execute(&mut *transaction).await?;
            transaction.commit().await?;
            done.rows_affected()
        }
    };
    Ok(if removed == 0 { Pruned::All } else { Pruned::Some })
}

const OLDEST: &str = "FROM entries WHERE at < $1 ORDER BY at, call, attempt LIMIT $2";

fn delete() -> String {
    format!("DELETE FROM entries WHERE (at, call, attempt) IN (SELECT at, call, attempt {OLDEST})")
}

/// Both databases know `octet_length`.
fn add() -> String {
    let text = |name: &str| format!("COALESCE({name}, '')");
    let mut keys = vec![format!("at / {DAY} * {DAY}")];
    keys.extend(["key_name", "team", "project", "agent", "user_name"].map(text));
    keys.push(format!("CASE WHEN OCTET_LENGTH(tags) <= {LONGEST_TAGS} THEN tags ELSE '' END"));
    keys.extend(["model", "provider"].map(text));
    let groups: Vec<String> = (1..=keys.len()).map(|number| number.to_string()).collect();
    let names = SUMS.map(|(name, _)| name).join(", ");
    let sums = SUMS.map(|(_, added)| format!("CAST(SUM({added}) AS BIGINT)")).join(", ");
    let set = SUMS.map(|(name, _)| format!("{name} = usage_daily.{name} + excluded.{name}")).join(", ");
    // `WHERE true`: without it SQLite takes ON CONFLICT for a join's
    format!(
        "INSERT INTO usage_daily (day, key_name, team, project, agent, user_name, tags, model, provider, {names}) \
         SELECT {}, {sums} FROM (SELECT * {OLDEST}) AS old WHERE true GROUP BY {} \
         ON CONFLICT (day, key_name, team, project, agent, user_name, tags, model, provider) DO UPDATE SET {set}",
        keys.join(", "),
        groups.join(", ")
    )
}
