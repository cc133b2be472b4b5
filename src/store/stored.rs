//! Rows as they come back from the database: one by one, by call, and a period page by page.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row as _};

use super::codec::usage_of;
use super::db::{Db, StoreError, on_reader};
use super::entry::{Reservation, State, StoredEntry};
use super::query::Period;
use super::report::{Database, Sql};
use super::rows::{COLUMNS, Kind};
use crate::id::RequestId;
use crate::units::NanoUsd;

/// Attempts of one call that are read at most: a client may give thousands of calls the same id.
const OF_A_CALL: i64 = 1000;

/// A period's rows, oldest first, in pages. Holds no transaction: rows that are written meanwhile may or may not be among them.
#[derive(Debug, Clone)]
pub struct Pages {
    db: Db,
    period: Period,
    size: u32,
    after: Option<(i64, String, i64)>,
    done: bool,
}

enum Cell {
    Number(Option<i64>),
    Text(Option<String>),
}

/// Values in the order of [`COLUMNS`].
struct Cells(std::vec::IntoIter<Cell>);

/// All of a row's columns, of either database.
macro_rules! cells {
    ($row:expr) => {{
        let row = $row;
        let read = |(index, (_, kind)): (usize, &(&str, Kind))| match kind {
            Kind::Number => row.try_get::<Option<i64>, _>(index).map(Cell::Number),
            Kind::Text => row.try_get::<Option<String>, _>(index).map(Cell::Text),
        };
        COLUMNS
            .iter()
            .enumerate()
            .map(read)
            .collect::<Result<Vec<Cell>, sqlx::Error>>()
            .map(|cells| Cells(cells.into_iter()))
    }};
}

/// All attempts of calls with this id, oldest first, with their rates.
pub(super) async fn call(db: &Db, id: &str) -> Result<Vec<StoredEntry>, StoreError> {
    let sql = format!(
        "SELECT {}, t.rates FROM entries e LEFT JOIN tariffs t ON t.id = e.tariff WHERE e.call = $1 \
         ORDER BY e.at, e.attempt LIMIT {OF_A_CALL}",
        names("e.")
    );
    let read: Result<Vec<(Cells, Option<String>)>, sqlx::Error> = on_reader!(db, pool => {
        sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .fetch_all(pool)
            .await?
            .iter()
            .map(|row| Ok((cells!(row)?, row.try_get(COLUMNS.len())?)))
            .collect()
    });
    let with_rates = |(cells, rates): (Cells, Option<String>)| {
        cells.entry().map(|entry| StoredEntry { rates: rates.map(Arc::from), ..entry })
    };
    read?.into_iter().map(with_rates).collect()
}

fn names(of: &str) -> String {
    COLUMNS.iter().map(|(name, _)| format!("{of}{name}")).collect::<Vec<_>>().join(", ")
}

// === impl Pages ===

impl Pages {
    pub(super) fn new(db: Db, period: Period, size: u32) -> Self {
        Pages { db, period, size: size.max(1), after: None, done: false }
    }

    /// `None`: that was all.
    pub async fn next(&mut self) -> Result<Option<Vec<StoredEntry>>, StoreError> {
        if self.done {
            return Ok(None);
        }
        let mut sql = Sql::new(Database::of(&self.db));
        sql.text.push_str(&format!("SELECT {} FROM entries", names("")));
        sql.entries_of(&self.period);
        if let Some((at, call, attempt)) = &self.after {
            let [at, attempt] = [sql.number(*at), sql.number(*attempt)];
            let call = sql.bound(call);
            sql.text.push_str(&format!(" AND (at, call, attempt) > ({at}, {call}, {attempt})"));
        }
        let size = sql.number(self.size.into());
        sql.text.push_str(&format!(" ORDER BY at, call, attempt LIMIT {size}"));
        let read: Result<Vec<Cells>, sqlx::Error> = match &self.db {
            Db::Sqlite { readers, .. } => {
                let rows = sql.sqlite().fetch_all(readers).await?;
                rows.iter().map(|row| cells!(row)).collect()
            }
            Db::Postgres(pool) => {
                let rows = sql.postgres().fetch_all(pool).await?;
                rows.iter().map(|row| cells!(row)).collect()
            }
        };
        let page = read?.into_iter().map(Cells::entry).collect::<Result<Vec<StoredEntry>, StoreError>>()?;
        self.done = page.len() < usize::try_from(self.size).unwrap_or(usize::MAX);
        if let Some(last) = page.last() {
            let r = &last.reservation;
            self.after = Some((r.at.as_microsecond(), r.call.as_str().to_owned(), r.attempt.into()));
        }
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}

// === impl Cells ===

impl Cells {
    fn number(&mut self) -> Option<i64> {
        match self.0.next() {
            Some(Cell::Number(number)) => number,
            Some(Cell::Text(_)) | None => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        match self.0.next() {
            Some(Cell::Text(text)) => text,
            Some(Cell::Number(_)) | None => None,
        }
    }

    fn is_true(&mut self) -> bool {
        self.number() == Some(1)
    }

    fn small<T: TryFrom<i64>>(&mut self) -> Option<T> {
        self.number().and_then(|number| T::try_from(number).ok())
    }

    fn moment(&mut self) -> Option<Timestamp> {
        self.number().and_then(|micros| Timestamp::from_microsecond(micros).ok())
    }

    fn shared(&mut self) -> Option<Arc<str>> {
        self.text().map(Arc::from)
    }

    /// In the order of the columns.
    fn entry(mut self) -> Result<StoredEntry, StoreError> {
        let spoiled = || StoreError::Unavailable("a row of the ledger cannot be read".to_owned());
        let at = self.moment().ok_or_else(spoiled)?;
        let call = self.text().and_then(|call| RequestId::from_client(call.as_bytes())).ok_or_else(spoiled)?;
        let attempt = self.small().ok_or_else(spoiled)?;
        let state = State::of(self.number().unwrap_or(0));
        let key = self.shared();
        // the well-known tags are among all of them
        let [_, _, _, _] = [self.text(), self.text(), self.text(), self.text()];
        let tags = self.text().map(|json| tags(&json)).unwrap_or_default();
        let reservation = Reservation {
            call,
            attempt,
            at,
            key,
            tags,
            model: self.shared(),
            provider: self.shared().ok_or_else(spoiled)?,
            upstream_model: self.shared(),
            operation: self.text().ok_or_else(spoiled)?.into(),
            stream: self.is_true(),
            hold: self.number().map(NanoUsd),
            price_version: self.shared(),
        };
        let (ended, status, outcome, answered) = (self.moment(), self.small(), self.text(), self.is_true());
        let mut counts = [None; 9];
        counts.iter_mut().for_each(|count| *count = self.small());
        Ok(StoredEntry {
            state,
            reservation,
            ended,
            status,
            outcome,
            answered,
            usage: counts.iter().any(Option::is_some).then(|| usage_of(counts.map(Option::unwrap_or_default))),
            images: self.small().unwrap_or(0),
            searches: self.small().unwrap_or(0),
            service_tier: self.text(),
            cost: self.number().map(NanoUsd),
            estimated: self.is_true(),
            rates: None,
            tariff: self.number(),
            first_token_ms: self.small(),
            duration_ms: self.small(),
        })
    }
}

fn tags(json: &str) -> Vec<(Arc<str>, Arc<str>)> {
    let map: BTreeMap<String, String> = serde_json::from_str(json).unwrap_or_default();
    map.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}
