//! Rows into the database, many in one statement: what a column holds, and the upserts of both databases.
//!
//! SQLite gets `VALUES` of a few fixed sizes, so that each is prepared once; PostgreSQL one statement with an array per column. A row that is
//! there is replaced by a later state only ([`State`]), so writing the same again changes nothing.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe};

use super::codec::{self, Row, counts};
use super::db::Db;
use super::entry::State;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Rows of one SQLite statement; the largest keeps below the 32,766 parameters a statement may have.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];
/// Rows of one PostgreSQL statement.
const POSTGRES_ROWS: usize = 2000;
/// Texts that are remembered because most rows share them.
const REMEMBERED: usize = 4096;
/// Bytes of a text in a column that is in an index. PostgreSQL has no room for more (a third of a page for all of them).
const INDEXED: usize = 200;
/// A quadrillion tokens, or ten million dollars, in one attempt are a mistake. They must not make sums overflow for ever after.
const MOST_TOKENS: i64 = 1_000_000_000_000;
const MOST_MONEY: i64 = 10_000_000_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Text,
}

use Kind::{Number, Text};

/// In the order of [`values`].
pub(super) const COLUMNS: [(&str, Kind); 38] = [
    ("at", Number),
    ("call", Text),
    ("attempt", Number),
    ("state", Number),
    ("key_name", Text),
    ("team", Text),
    ("project", Text),
    ("agent", Text),
    ("user_name", Text),
    ("tags", Text),
    ("model", Text),
    ("provider", Text),
    ("upstream_model", Text),
    ("operation", Text),
    ("stream", Number),
    ("hold", Number),
    ("price_version", Text),
    ("ended", Number),
    ("status", Number),
    ("outcome", Text),
    ("answered", Number),
    ("input_tokens", Number),
    ("cache_read_tokens", Number),
    ("cache_write_5m_tokens", Number),
    ("cache_write_1h_tokens", Number),
    ("input_audio_tokens", Number),
    ("output_tokens", Number),
    ("reasoning_tokens", Number),
    ("output_audio_tokens", Number),
    ("server_tool_calls", Number),
    ("images", Number),
    ("searches", Number),
    ("service_tier", Text),
    ("cost", Number),
    ("estimated", Number),
    ("tariff", Number),
    ("first_token_ms", Number),
    ("duration_ms", Number),
];
/// The first of them are the row's name.
const NAME: usize = 3;

/// Writes rows. Keeps the statements and the texts that come again.
pub(super) struct Upserts {
    sqlite: [Arc<str>; SIZES.len()],
    postgres: Arc<str>,
    words: HashMap<Box<str>, Arc<str>, ahash::RandomState>,
    tags: HashMap<Box<[u8]>, Arc<TagColumns>, ahash::RandomState>,
    /// In the database already.
    tariffs: HashSet<i64>,
}

/// Rows of one transaction.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Batch<'b, 'a> {
    pub rows: &'b [Row<'a>],
    /// Written one by one: the same row may be in it twice.
    pub again: &'b [Row<'a>],
    pub tariffs: &'b [(i64, &'a str)],
}

#[derive(Debug, Default)]
struct TagColumns {
    team: Option<Arc<str>>,
    project: Option<Arc<str>>,
    agent: Option<Arc<str>>,
    user: Option<Arc<str>>,
    json: Option<Arc<str>>,
}

/// Takes the values of a row, column by column.
trait Sink<'a> {
    fn number(&mut self, value: Option<i64>) -> Result<(), BoxError>;
    fn text(&mut self, value: Option<&'a str>) -> Result<(), BoxError>;
    /// A text that many rows share.
    fn word(&mut self, value: Option<&'a str>) -> Result<(), BoxError>;
    fn shared(&mut self, value: Option<&'a Arc<str>>) -> Result<(), BoxError>;
}

/// Whether another try, as it is, must fail as well: the row is at fault, not the database.
pub(super) fn is_at_fault(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Encode(_) => true,
        sqlx::Error::Database(error) => {
            match (error.code().as_deref(), error.code().and_then(|c| c.parse::<i64>().ok())) {
                // SQLite's primary codes: too big, constraint, mismatch
                (_, Some(code)) if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() => {
                    matches!(code & 0xff, 18..=20)
                }
                // PostgreSQL's classes: cardinality, data exception, integrity constraint, program limit
                (Some(code), _) => ["21", "22", "23", "54"].iter().any(|class| code.starts_with(class)),
                (None, _) => false,
            }
        }
        _ => false,
    }
}

// === impl Upserts ===

impl Upserts {
    pub(super) fn new() -> Self {
        Upserts {
            sqlite: SIZES.map(sqlite_statement),
            postgres: postgres_statement(),
            words: HashMap::default(),
            tags: HashMap::default(),
            tariffs: HashSet::new(),
        }
    }

    /// All of it or nothing; how many rows are new or changed. `state`: that of rows that are not settled.
    pub(super) async fn write(&mut self, db: &Db, batch: Batch<'_, '_>, state: State) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        let new: Vec<(i64, &str)> =
            batch.tariffs.iter().filter(|(id, _)| !self.tariffs.contains(id)).copied().collect();
        match db {
            Db::Sqlite { writer, .. } => {
                let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
                for (id, rates) in &new {
                    sqlx::query(TARIFF).bind(id).bind(*rates).execute(&mut *transaction).await?;
                }
                changed += self.write_sqlite(&mut transaction, batch.rows, state).await?;
                for row in batch.again {
                    changed += self.write_sqlite(&mut transaction, std::slice::from_ref(row), state).await?;
                }
                transaction.commit().await?;
            }
            Db::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                for (id, rates) in &new {
                    sqlx::query(TARIFF).bind(id).bind(without_nul(rates)).execute(&mut *transaction).await?;
                }
                for rows in batch.rows.chunks(POSTGRES_ROWS).chain(batch.again.chunks(1)) {
                    changed += self.write_postgres(&mut transaction, rows, state).await?;
                }
                transaction.commit().await?;
            }
        }
        if self.tariffs.len() >= REMEMBERED {
            self.tariffs.clear();
        }
        self.tariffs.extend(new.iter().map(|(id, _)| id));
        Ok(changed)
    }

    /// That tariffs are in the database.
    pub(super) fn forget(&mut self) {
        self.tariffs.clear();
    }

    async fn write_sqlite(
        &mut self,
        connection: &mut SqliteConnection,
        mut rows: &[Row<'_>],
        state: State,
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for (size, statement) in SIZES.into_iter().zip(self.sqlite.clone()) {
            while let Some((some, rest)) = rows.split_at_checked(size) {
                let arguments = self.sqlite_arguments(some, state).map_err(sqlx::Error::Encode)?;
                let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&statement)), arguments);
                changed += query.execute(&mut *connection).await?.rows_affected();
                rows = rest;
            }
        }
        Ok(changed)
    }

    async fn write_postgres(
        &mut self,
        connection: &mut PgConnection,
        rows: &[Row<'_>],
        state: State,
    ) -> Result<u64, sqlx::Error> {
        let arguments = self.postgres_arguments(rows, state).map_err(sqlx::Error::Encode)?;
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&self.postgres)), arguments);
        Ok(query.execute(connection).await?.rows_affected())
    }

    fn sqlite_arguments(&mut self, rows: &[Row<'_>], state: State) -> Result<SqliteArguments, BoxError> {
        let tags: Vec<Arc<TagColumns>> = rows.iter().map(|row| self.tag_columns(row.tags)).collect();
        let mut arguments = SqliteArguments::default();
        arguments.reserve(rows.len() * COLUMNS.len(), 0);
        let mut sink = ForSqlite { arguments, words: &mut self.words };
        for (row, tags) in rows.iter().zip(&tags) {
            values(row, state, tags, &mut sink)?;
        }
        Ok(sink.arguments)
    }

    fn postgres_arguments(&mut self, rows: &[Row<'_>], state: State) -> Result<PgArguments, BoxError> {
        let tags: Vec<Arc<TagColumns>> = rows.iter().map(|row| self.tag_columns(row.tags)).collect();
        let mut sink = ForPostgres {
            columns: COLUMNS.map(|(_, kind)| match kind {
                Number => Column::Numbers(Vec::with_capacity(rows.len())),
                Text => Column::Texts(Vec::with_capacity(rows.len())),
            }),
            next: 0,
        };
        for (row, tags) in rows.iter().zip(&tags) {
            sink.next = 0;
            values(row, state, tags, &mut sink)?;
        }
        let mut arguments = PgArguments::default();
        for column in sink.columns {
            match column {
                Column::Numbers(numbers) => arguments.add(numbers)?,
                Column::Texts(texts) => arguments.add(texts)?,
            }
        }
        Ok(arguments)
    }

    fn tag_columns(&mut self, bytes: &[u8]) -> Arc<TagColumns> {
        if let Some(known) = self.tags.get(bytes) {
            return Arc::clone(known);
        }
        if self.tags.len() >= REMEMBERED {
            self.tags.clear();
        }
        let columns = Arc::new(TagColumns::of(bytes));
        self.tags.insert(bytes.into(), Arc::clone(&columns));
        columns
    }
}

impl TagColumns {
    fn of(bytes: &[u8]) -> TagColumns {
        let tags = codec::tags(bytes);
        let column = |name: &str| tags.iter().find(|(tag, _)| *tag == name).map(|(_, value)| Arc::from(clip(value)));
        TagColumns {
            team: column("team"),
            project: column("project"),
            agent: column("agent"),
            user: column("user"),
            json: Some(&tags).filter(|tags| !tags.is_empty()).map(|tags| Arc::from(json(tags))),
        }
    }
}

/// An object. NUL, which PostgreSQL cannot keep in a text, becomes an escape here, and one that it cannot read back as JSON: it is left out.
fn json(tags: &[(&str, &str)]) -> String {
    let members = tags.iter().map(|(name, value)| (without_nul(name), without_nul(value)));
    let map: std::collections::BTreeMap<_, _> = members.collect();
    serde_json::to_string(&map).unwrap_or_else(|_| "{}".to_owned())
}

fn values<'a>(row: &Row<'a>, state: State, tags: &'a TagColumns, sink: &mut impl Sink<'a>) -> Result<(), BoxError> {
    let s = row.settled.as_ref();
    let orphan = s.is_none() && state == State::Orphaned;
    let state = if s.is_some() { State::Settled } else { state };
    sink.number(Some(row.at))?;
    sink.text(Some(row.call))?;
    sink.number(Some(row.attempt.into()))?;
    sink.number(Some(state.number()))?;
    sink.word(row.key.map(clip))?;
    sink.shared(tags.team.as_ref())?;
    sink.shared(tags.project.as_ref())?;
    sink.shared(tags.agent.as_ref())?;
    sink.shared(tags.user.as_ref())?;
    sink.shared(tags.json.as_ref())?;
    sink.word(row.model.map(clip))?;
    sink.word(Some(clip(row.provider)))?;
    sink.word(row.upstream_model)?;
    sink.word(Some(row.operation))?;
    sink.number(Some(row.stream.into()))?;
    sink.number(row.hold.map(money))?;
    sink.word(row.price_version)?;
    sink.number(s.map(|s| s.ended))?;
    sink.number(s.map(|s| s.status.into()))?;
    sink.word(s.map(|s| s.outcome).or(orphan.then_some("orphaned")))?;
    sink.number(Some(s.is_some_and(|s| s.answered).into()))?;
    match s.and_then(|s| s.usage) {
        Some(usage) => {
            for count in counts(&usage) {
                sink.number(Some(i64::try_from(count).map_or(MOST_TOKENS, |count| count.min(MOST_TOKENS))))?;
            }
        }
        None => {
            for _ in 0..9 {
                sink.number(None)?;
            }
        }
    }
    sink.number(s.map(|s| s.images.into()))?;
    sink.number(s.map(|s| s.searches.into()))?;
    sink.word(s.and_then(|s| s.service_tier))?;
    sink.number(s.map_or(row.hold.filter(|_| orphan), |s| s.cost).map(money))?;
    sink.number(Some(s.map_or(orphan, |s| s.estimated).into()))?;
    sink.number(s.and_then(|s| s.tariff))?;
    sink.number(s.and_then(|s| s.first_token_ms).map(i64::from))?;
    sink.number(s.map(|s| s.duration_ms.into()))
}

fn money(nano: i64) -> i64 {
    nano.clamp(-MOST_MONEY, MOST_MONEY)
}

/// Whole characters of a text, as far as there is room for it in an index.
pub(super) fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(INDEXED)).unwrap_or(text)
}

fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "")) } else { Cow::Borrowed(text) }
}

// === statements ===

const TARIFF: &str = "INSERT INTO tariffs (id, rates) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";

fn sqlite_statement(rows: usize) -> Arc<str> {
    let row = format!("({})", vec!["?"; COLUMNS.len()].join(","));
    format!("{} VALUES {} {}", into(), vec![row; rows].join(","), on_conflict()).into()
}

fn postgres_statement() -> Arc<str> {
    let array = |(index, (_, kind)): (usize, &(&str, Kind))| {
        format!("${}::{}[]", index + 1, if *kind == Number { "bigint" } else { "text" })
    };
    let arrays: Vec<String> = COLUMNS.iter().enumerate().map(array).collect();
    format!("{} SELECT * FROM UNNEST({}) {}", into(), arrays.join(","), on_conflict()).into()
}

fn into() -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    format!("INSERT INTO entries ({})", names.join(","))
}

fn on_conflict() -> String {
    let set: Vec<String> = COLUMNS.iter().skip(NAME).map(|(name, _)| format!("{name} = excluded.{name}")).collect();
    format!("ON CONFLICT (at, call, attempt) DO UPDATE SET {} WHERE excluded.state > entries.state", set.join(","))
}

// === sinks ===

struct ForSqlite<'w> {
    arguments: SqliteArguments,
    words: &'w mut HashMap<Box<str>, Arc<str>, ahash::RandomState>,
}

impl<'a> Sink<'a> for ForSqlite<'_> {
    fn number(&mut self, value: Option<i64>) -> Result<(), BoxError> {
        self.arguments.add(value)
    }

    fn text(&mut self, value: Option<&'a str>) -> Result<(), BoxError> {
        self.arguments.add(value.map(Arc::<str>::from))
    }

    fn word(&mut self, value: Option<&'a str>) -> Result<(), BoxError> {
        let Some(text) = value else { return self.number(None) };
        if let Some(known) = self.words.get(text) {
            return self.arguments.add(Arc::clone(known));
        }
        if self.words.len() >= REMEMBERED {
            self.words.clear();
        }
        let word: Arc<str> = text.into();
        self.words.insert(text.into(), Arc::clone(&word));
        self.arguments.add(word)
    }

    fn shared(&mut self, value: Option<&'a Arc<str>>) -> Result<(), BoxError> {
        self.arguments.add(value.cloned())
    }
}

enum Column<'a> {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<Cow<'a, str>>>),
}

struct ForPostgres<'a> {
    columns: [Column<'a>; COLUMNS.len()],
    next: usize,
}

impl<'a> Sink<'a> for ForPostgres<'a> {
    fn number(&mut self, value: Option<i64>) -> Result<(), BoxError> {
        let column = self.columns.get_mut(self.next);
        self.next += 1;
        match column {
            Some(Column::Numbers(numbers)) => numbers.push(value),
            Some(Column::Texts(_)) | None => return Err("a number in a column of texts".into()),
        }
        Ok(())
    }

    fn text(&mut self, value: Option<&'a str>) -> Result<(), BoxError> {
        let column = self.columns.get_mut(self.next);
        self.next += 1;
        match column {
            Some(Column::Texts(texts)) => texts.push(value.map(without_nul)),
            Some(Column::Numbers(_)) | None => return Err("a text in a column of numbers".into()),
        }
        Ok(())
    }

    fn word(&mut self, value: Option<&'a str>) -> Result<(), BoxError> {
        self.text(value)
    }

    fn shared(&mut self, value: Option<&'a Arc<str>>) -> Result<(), BoxError> {
        self.text(value.map(|text| &**text))
    }
}
