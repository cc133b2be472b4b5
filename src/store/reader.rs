//! What reports read: the database alone, without its journal. Of a gateway that runs it is the same database; where none runs, whoever asks opens
//! it here, and writes nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use sqlx::Row as _;

use super::db::{Db, StoreError, on_reader};
use super::entry::StoredEntry;
use super::query::{Format, Period, Spending, UsageQuery, UsageRow};
use super::stored::{self, Pages};
use super::{export, report};
use crate::config::store::StoreConfig;

/// A question waits no longer for its answer.
const READ: Duration = Duration::from_secs(30);
/// Rows read at once.
const PAGE: u32 = 1000;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader(Db);

// === impl Reader ===

impl Reader {
    /// Nothing is made, brought up to date or recovered: what is not there is an error.
    pub fn open(config: &StoreConfig) -> Result<Reader, StoreError> {
        Db::to_read(&config.ledger).map(Reader)
    }

    pub(super) fn new(db: Db) -> Reader {
        Reader(db)
    }

    pub async fn spent(&self, period: &Period) -> Result<Spending, StoreError> {
        in_time(report::spent(&self.0, period)).await
    }

    pub async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        in_time(report::usage(&self.0, query)).await
    }

    /// All attempts of calls with this id, the oldest first, with the rates they were priced with.
    pub async fn call(&self, id: &str) -> Result<Vec<StoredEntry>, StoreError> {
        in_time(stored::call(&self.0, id)).await
    }

    /// The rates that go by this name: see [`StoredEntry::tariff`].
    pub async fn rates(&self, tariff: i64) -> Result<Option<Arc<str>>, StoreError> {
        let read = async {
            let text: Option<String> = on_reader!(&self.0, pool => {
                let found = sqlx::query("SELECT rates FROM tariffs WHERE id = $1").bind(tariff).fetch_optional(pool);
                found.await?.map(|row| row.try_get(0)).transpose()?
            });
            Ok(text.map(Arc::from))
        };
        in_time(read).await
    }

    /// All rows of a period, a page at a time: to be priced again, or to be looked through.
    pub fn pages(&self, period: Period) -> Pages {
        Pages::new(self.0.clone(), period, PAGE)
    }

    /// The same as text, a piece per page. What it holds in memory does not grow with the period.
    pub fn export(
        &self,
        period: Period,
        format: Format,
    ) -> impl Stream<Item = Result<String, StoreError>> + Send + use<> {
        export::export(self.pages(period), format)
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(READ, asked).await.unwrap_or(Err(StoreError::Timeout))
}
