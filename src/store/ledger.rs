//! The ledger's face: what the gateway reserves and settles, what reports read. Cheap to clone; every clone is the same ledger.
//!
//! A reservation or a settlement is one write to the journal ([`super::journal`]); one task ([`super::writer`]) carries what was written into
//! the database. So a call waits for neither.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;

use super::db::{Db, StoreError};
use super::entry::{Entry, Reservation, StoredEntry};
use super::journal::Journal;
use super::query::{Format, Period, Spending, UsageQuery, UsageRow};
use super::reader::Reader;
use super::stored::Pages;
use super::writer::{Shared, Trouble, Tuning, Writer};
use crate::config::store::StoreConfig;

#[derive(Clone)]
pub struct Ledger(Option<Arc<Inner>>);

struct Inner {
    db: Db,
    journal: Arc<Journal>,
    shared: Arc<Shared>,
}

/// Nothing could be written down. What follows is the gateway's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// The journal has its largest size: the database has been away for long.
    Full,
    /// The journal cannot be written (disk full, read-only, broken).
    Disk,
    /// The attempt holds more than a record may.
    TooLarge,
}

/// How the ledger is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Settled, and not in the database yet.
    pub behind: u64,
    /// How long the oldest of these has been waiting.
    pub oldest: Option<Duration>,
    /// Reserved, and not settled yet.
    pub open: u64,
    /// Bytes of the journal on disk.
    pub journal_bytes: u64,
    /// Settlements the journal did not take; they are in memory until the database has them.
    pub in_memory: u64,
    /// Settlements that were lost, because memory for them was used up too. Their reservations become orphans.
    pub lost: u64,
    /// Orphans found since the start.
    pub orphans: u64,
    /// Why the database or the journal failed last; `None` once it works again. Holds no secret.
    pub error: Option<String>,
}

// === impl Ledger ===

impl Ledger {
    /// A ledger that keeps nothing: every reservation is granted.
    pub fn off() -> Self {
        Ledger(None)
    }

    /// Opens the journal, recovers what dead processes left, and starts the writer on this runtime. An error means that nothing could be kept.
    /// A database that is only away for now is none: the journal takes everything until it is back.
    pub async fn open(config: &StoreConfig) -> Result<Ledger, StoreError> {
        Ledger::open_tuned(config, Tuning::default()).await
    }

    pub(super) async fn open_tuned(config: &StoreConfig, tuning: Tuning) -> Result<Ledger, StoreError> {
        let Some(db) = Db::new(&config.ledger, config.durability)? else { return Ok(Ledger::off()) };
        let journal = Journal::open(&config.journal, config.journal_limit, tuning.segment_size, config.durability);
        let journal = Arc::new(journal.map_err(|error| {
            StoreError::Refused(format!("the journal {} cannot be written: {error}", config.journal.display()))
        })?);
        let shared = Arc::new(Shared::new());
        let mut writer = Writer::new(db.clone(), Arc::clone(&journal), Arc::clone(&shared), config.keep, tuning);
        writer.prepare().await?;
        tokio::spawn(writer.run());
        Ok(Ledger(Some(Arc::new(Inner { db, journal, shared }))))
    }

    #[cfg(test)]
    pub(super) fn journal(&self) -> std::sync::Weak<Journal> {
        self.0.as_ref().map(|inner| Arc::downgrade(&inner.journal)).unwrap_or_default()
    }

    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// For other tables in the same database.
    pub fn db(&self) -> Option<&Db> {
        self.0.as_ref().map(|inner| &inner.db)
    }

    /// Once this returns, the attempt is in the ledger, whatever becomes of this process. Blocks for one write (some microseconds); with
    /// `durability: disk` for the disk.
    pub fn reserve(&self, reservation: &Reservation) -> Result<(), Unavailable> {
        self.0.as_ref().map_or(Ok(()), |inner| inner.journal.reserve(reservation))
    }

    /// The end of an attempt that was reserved. The same entry twice is one row. Cannot fail: what the journal does not take waits in memory.
    pub fn settle(&self, entry: Entry) {
        let Some(Inner { journal, shared, .. }) = self.0.as_deref() else { return };
        match journal.settle(&entry) {
            Ok(()) => shared.appended(),
            Err(_) => shared.spill(entry),
        }
    }

    pub fn health(&self) -> Health {
        let Some(Inner { journal, shared, .. }) = self.0.as_deref() else { return Health::default() };
        let Trouble { error, since } = shared.trouble();
        let broken = journal.is_broken().then(|| Unavailable::Disk.to_string());
        Health {
            behind: shared.behind(),
            oldest: since.map(|since| since.elapsed()),
            open: shared.open(),
            journal_bytes: journal.bytes(),
            in_memory: shared.in_memory(),
            lost: shared.lost(),
            orphans: shared.orphans(),
            error: broken.or(error),
        }
    }

    /// Wait until all that was settled so far is in the database. `false`: not within `deadline`.
    pub async fn flush(&self, deadline: Duration) -> bool {
        let Some(Inner { journal, shared, .. }) = self.0.as_deref() else { return true };
        let all = journal.written();
        let mut progress = shared.hurry();
        let written = progress.wait_for(|reached| *reached >= all);
        matches!(tokio::time::timeout(deadline, written).await, Ok(Ok(_))) && shared.in_memory() == 0
    }

    /// What reports ask.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        self.db().map(|db| Reader::new(db.clone())).ok_or(StoreError::Off)
    }

    pub async fn spent(&self, period: &Period) -> Result<Spending, StoreError> {
        self.reader()?.spent(period).await
    }

    pub async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        self.reader()?.usage(query).await
    }

    /// See [`Reader::call`].
    pub async fn call(&self, id: &str) -> Result<Vec<StoredEntry>, StoreError> {
        self.reader()?.call(id).await
    }

    /// See [`Reader::pages`].
    pub fn pages(&self, period: Period) -> Result<Pages, StoreError> {
        Ok(self.reader()?.pages(period))
    }

    /// See [`Reader::export`].
    pub fn export(
        &self,
        period: Period,
        format: Format,
    ) -> Result<impl Stream<Item = Result<String, StoreError>> + Send + use<>, StoreError> {
        Ok(self.reader()?.export(period, format))
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_off() { "Ledger(off)" } else { "Ledger" })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

// === impl Unavailable ===

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unavailable::Full => "the ledger's journal is full",
            Unavailable::Disk => "the ledger's journal cannot be written",
            Unavailable::TooLarge => "the attempt is too large for the ledger's journal",
        })
    }
}

impl std::error::Error for Unavailable {}
