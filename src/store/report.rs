//! Sums over periods: what was spent, and usage by whatever rows can be told apart by. Rows that were pruned count by their daily sums.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Postgres, Row as _, Sqlite};

use jiff::Timestamp;

use super::db::{Db, StoreError};
use super::query::{Condition, Dimension, Period, Spending, UsageQuery, UsageRow};
use super::rows::clip;
use crate::units::NanoUsd;

pub(super) const DAY: i64 = 86_400_000_000;
const HOUR: i64 = 3_600_000_000;

/// Columns that are summed, in the order of [`UsageRow`]'s members, and what a row adds to each.
pub(super) const SUMS: [(&str, &str); 17] = [
    ("calls", "CASE WHEN attempt = 1 THEN 1 ELSE 0 END"),
    ("attempts", "1"),
    ("failed", "CASE WHEN state <> 0 AND answered = 0 THEN 1 ELSE 0 END"),
    ("estimated", "estimated"),
    ("unpriced", "CASE WHEN state <> 0 AND cost IS NULL THEN 1 ELSE 0 END"),
    ("input_tokens", "COALESCE(input_tokens, 0)"),
    ("cache_read_tokens", "COALESCE(cache_read_tokens, 0)"),
    ("cache_write_5m_tokens", "COALESCE(cache_write_5m_tokens, 0)"),
    ("cache_write_1h_tokens", "COALESCE(cache_write_1h_tokens, 0)"),
    ("input_audio_tokens", "COALESCE(input_audio_tokens, 0)"),
    ("output_tokens", "COALESCE(output_tokens, 0)"),
    ("reasoning_tokens", "COALESCE(reasoning_tokens, 0)"),
    ("output_audio_tokens", "COALESCE(output_audio_tokens, 0)"),
    ("server_tool_calls", "COALESCE(server_tool_calls, 0)"),
    ("images", "COALESCE(images, 0)"),
    ("searches", "COALESCE(searches, 0)"),
    ("cost", "COALESCE(cost, 0)"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Database {
    Sqlite,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Entries,
    Daily,
}

/// A statement under construction. Only our own words get into its text; whatever comes from outside is bound.
pub(super) struct Sql {
    database: Database,
    pub text: String,
    bound: Vec<Bound>,
}

enum Bound {
    Number(i64),
    Text(String),
}

pub(super) async fn spent(db: &Db, period: &Period) -> Result<Spending, StoreError> {
    let mut sql = Sql::new(Database::of(db));
    sql.text.push_str(
        "SELECT CAST(COALESCE(SUM(cost), 0) AS BIGINT), CAST(COALESCE(SUM(n), 0) AS BIGINT), \
         CAST(COALESCE(SUM(held), 0) AS BIGINT) FROM (SELECT COALESCE(cost, 0) AS cost, \
         CASE WHEN state = 0 THEN 0 ELSE 1 END AS n, CASE WHEN state = 0 THEN COALESCE(hold, 0) ELSE 0 END AS held \
         FROM entries",
    );
    sql.entries_of(period);
    sql.text.push_str(" UNION ALL SELECT cost, attempts, 0 FROM usage_daily");
    sql.days_of(period);
    sql.text.push_str(") AS u");
    let (cost, count, held) = match db {
        Db::Sqlite { readers, .. } => {
            let row = sql.sqlite().fetch_one(readers).await?;
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)
        }
        Db::Postgres(pool) => {
            let row = sql.postgres().fetch_one(pool).await?;
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)
        }
    };
    Ok(Spending { cost: NanoUsd(cost), count: natural(count), held: NanoUsd(held) })
}

pub(super) async fn usage(db: &Db, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
    let sql = usage_statement(Database::of(db), query);
    let width = query.by.len();
    macro_rules! read {
        ($rows:expr) => {
            $rows
                .iter()
                .map(|row| {
                    let by =
                        (0..width).map(|index| row.try_get::<Option<String>, _>(index)).collect::<Result<_, _>>()?;
                    let mut sums = [0; SUMS.len()];
                    for (index, sum) in sums.iter_mut().enumerate() {
                        *sum = row.try_get::<i64, _>(width + index)?;
                    }
                    Ok((by, sums))
                })
                .collect::<Result<Vec<(Vec<Option<String>>, [i64; SUMS.len()])>, sqlx::Error>>()
        };
    }
    let rows = match db {
        Db::Sqlite { readers, .. } => read!(sql.sqlite().fetch_all(readers).await?),
        Db::Postgres(pool) => read!(sql.postgres().fetch_all(pool).await?),
    }?;
    Ok(rows.into_iter().map(|(by, sums)| usage_row(&query.by, by, sums)).collect())
}

fn usage_statement(database: Database, query: &UsageQuery) -> Sql {
    let mut sql = Sql::new(database);
    let names: Vec<String> = (0..query.by.len()).map(|index| format!("d{index}")).collect();
    let mut shown = names.clone();
    shown.extend(SUMS.map(|(name, _)| format!("CAST(COALESCE(SUM({name}), 0) AS BIGINT)")));
    sql.text.push_str(&format!("SELECT {} FROM (SELECT ", shown.join(", ")));
    // a row per attempt: its time and number tell it apart from others of the same call
    let apart = query.by.contains(&Dimension::Call);
    for (table, from) in [(Table::Entries, "entries"), (Table::Daily, "usage_daily")] {
        let mut columns: Vec<String> =
            query.by.iter().zip(&names).map(|(what, name)| format!("{} AS {name}", sql.column(what, table))).collect();
        if apart {
            columns.extend(match table {
                Table::Entries => ["at AS a0".to_owned(), "attempt AS a1".to_owned()],
                Table::Daily => ["day AS a0".to_owned(), "0 AS a1".to_owned()],
            });
        }
        columns.extend(SUMS.map(|(name, added)| match table {
            Table::Entries => format!("{added} AS {name}"),
            Table::Daily => name.to_owned(),
        }));
        sql.text.push_str(&format!("{} FROM {from}", columns.join(", ")));
        match table {
            Table::Entries => {
                sql.entries_of(&query.period);
                sql.text.push_str(" UNION ALL SELECT ");
            }
            Table::Daily => sql.days_of(&query.period),
        }
    }
    sql.text.push_str(") AS u");
    let mut groups = names;
    if apart {
        groups.extend(["a0".to_owned(), "a1".to_owned()]);
    }
    if !groups.is_empty() {
        sql.text.push_str(&format!(" GROUP BY {}", groups.join(", ")));
    }
    let order: Vec<String> = groups.iter().map(|name| format!(", {name}")).collect();
    let limit = sql.number(query.limit.into());
    sql.text.push_str(&format!(" ORDER BY SUM(cost) DESC, SUM(attempts) DESC{} LIMIT {limit}", order.concat()));
    sql
}

fn usage_row(what: &[Dimension], by: Vec<Option<String>>, sums: [i64; SUMS.len()]) -> UsageRow {
    let by = what.iter().zip(by).map(|(what, text)| text.map(|text| shown(what, text))).collect();
    let [
        calls,
        attempts,
        failed,
        estimated,
        unpriced,
        input_tokens,
        cache_read_tokens,
        cache_write_5m_tokens,
        cache_write_1h_tokens,
        input_audio_tokens,
        output_tokens,
        reasoning_tokens,
        output_audio_tokens,
        server_tool_calls,
        images,
        searches,
        _,
    ] = sums.map(natural);
    let [.., cost] = sums;
    UsageRow {
        by,
        calls,
        attempts,
        failed,
        estimated,
        unpriced,
        input_tokens,
        cache_read_tokens,
        cache_write_5m_tokens,
        cache_write_1h_tokens,
        input_audio_tokens,
        output_tokens,
        reasoning_tokens,
        output_audio_tokens,
        server_tool_calls,
        images,
        searches,
        cost: NanoUsd(cost),
    }
}

/// Days as `2026-11-20`, hours as `2026-11-20T15:00:00Z`.
fn shown(what: &Dimension, text: String) -> String {
    let unit = match what {
        Dimension::Day => DAY,
        Dimension::Hour => HOUR,
        _ => return text,
    };
    let begin = text.parse::<i64>().ok().and_then(|n| Timestamp::from_microsecond(n.saturating_mul(unit)).ok());
    match begin.map(|begin| begin.to_string()) {
        Some(time) if *what == Dimension::Day => time.split('T').next().unwrap_or_default().to_owned(),
        Some(time) => time,
        None => text,
    }
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

// === impl Database ===

impl Database {
    pub(super) fn of(db: &Db) -> Database {
        match db {
            Db::Sqlite { .. } => Database::Sqlite,
            Db::Postgres(_) => Database::Postgres,
        }
    }
}

// === impl Sql ===

impl Sql {
    pub(super) fn new(database: Database) -> Self {
        Sql { database, text: String::with_capacity(1024), bound: Vec::new() }
    }

    /// The parameter that stands for it.
    pub(super) fn number(&mut self, number: i64) -> String {
        self.bound.push(Bound::Number(number));
        format!("${}", self.bound.len())
    }

    pub(super) fn bound(&mut self, text: &str) -> String {
        self.bound.push(Bound::Text(text.to_owned()));
        format!("${}", self.bound.len())
    }

    /// ` WHERE ..` for `entries`.
    pub(super) fn entries_of(&mut self, period: &Period) {
        self.within("at", Table::Entries, period);
    }

    /// ` WHERE ..` for `usage_daily`: days that begin in the period.
    fn days_of(&mut self, period: &Period) {
        self.within("day", Table::Daily, period);
    }

    fn within(&mut self, time: &str, table: Table, period: &Period) {
        let Period { from, to, filter } = period;
        let [from, to] = [from, to].map(|time| self.number(time.as_microsecond()));
        self.text.push_str(&format!(" WHERE {time} >= {from} AND {time} < {to}"));
        for Condition { what, is } in filter {
            let column = self.plain_column(what, table);
            let value = match what {
                Dimension::Day | Dimension::Hour => self.bound(&beginning(what, is)),
                Dimension::Call | Dimension::Tag(_) => self.bound(is),
                _ => self.bound(clip(is)),
            };
            self.text.push_str(&format!(" AND {column} = {value}"));
        }
    }

    /// As a text; `NULL` for none.
    fn column(&mut self, what: &Dimension, table: Table) -> String {
        let column = self.plain_column(what, table);
        match (table, what) {
            (Table::Daily, Dimension::Call | Dimension::Day | Dimension::Hour | Dimension::Tag(_)) => column,
            (Table::Daily, _) => format!("NULLIF({column}, '')"),
            (Table::Entries, _) => column,
        }
    }

    /// To compare with: the column itself, so that its index is used.
    fn plain_column(&mut self, what: &Dimension, table: Table) -> String {
        let time = if table == Table::Entries { "at" } else { "day" };
        match (what, table) {
            (Dimension::Call, Table::Entries) => "call".to_owned(),
            (Dimension::Call, Table::Daily) => "CAST(NULL AS TEXT)".to_owned(),
            (Dimension::Model, _) => "model".to_owned(),
            (Dimension::Key, _) => "key_name".to_owned(),
            (Dimension::Team, _) => "team".to_owned(),
            (Dimension::Project, _) => "project".to_owned(),
            (Dimension::Agent, _) => "agent".to_owned(),
            (Dimension::User, _) => "user_name".to_owned(),
            (Dimension::Provider, _) => "provider".to_owned(),
            (Dimension::Day, _) => format!("CAST({time} / {DAY} AS TEXT)"),
            (Dimension::Hour, _) => format!("CAST({time} / {HOUR} AS TEXT)"),
            (Dimension::Tag(name), _) => {
                let name = self.bound(name);
                match self.database {
                    Database::Sqlite => format!("NULLIF(tags, '') ->> {name}"),
                    Database::Postgres => format!("CAST(NULLIF(tags, '') AS json) ->> {name}"),
                }
            }
        }
    }

    pub(super) fn sqlite(&self) -> Query<'_, Sqlite, SqliteArguments> {
        self.bound.iter().fold(sqlx::query(AssertSqlSafe(self.text.as_str())), |query, bound| match bound {
            Bound::Number(number) => query.bind(number),
            Bound::Text(text) => query.bind(text),
        })
    }

    pub(super) fn postgres(&self) -> Query<'_, Postgres, PgArguments> {
        self.bound.iter().fold(sqlx::query(AssertSqlSafe(self.text.as_str())), |query, bound| match bound {
            Bound::Number(number) => query.bind(number),
            Bound::Text(text) => query.bind(text),
        })
    }
}

/// The other way round than [`shown`]; no row has the text of what is no day.
fn beginning(what: &Dimension, text: &str) -> String {
    let day = format!("{text}T00:00:00Z");
    let (text, unit) = if *what == Dimension::Day { (day.as_str(), DAY) } else { (text, HOUR) };
    text.parse::<Timestamp>().map_or_else(|_| String::new(), |time| time.as_microsecond().div_euclid(unit).to_string())
}
