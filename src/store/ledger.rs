//! The ledger's face: what the gateway reserves and settles, what reports read. Cheap to clone; every clone is the same ledger.
//!
//! A reservation or a settlement is one write to the journal ([`super::journal`]); one task ([`super::writer`]) carries what was written into
//! the database. So a call waits for neither.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::db::{Db, StoreError};
use super::entry::{Entry, Reservation, StoredEntry};
use super::query::{Period, Spending, UsageQuery, UsageRow};
use crate::config::store::StoreConfig;

#[derive(Clone)]
pub struct Ledger(Option<Arc<Inner>>);

struct Inner {
    db: Db,
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
    pub async fn open(_config: &StoreConfig) -> Result<Ledger, StoreError> {
        Err(StoreError::Off)
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
    pub fn reserve(&self, _reservation: &Reservation) -> Result<(), Unavailable> {
        Ok(())
    }

    /// The end of an attempt that was reserved. The same entry twice is one row. Cannot fail: what the journal does not take waits in memory.
    pub fn settle(&self, _entry: Entry) {}

    pub fn health(&self) -> Health {
        Health::default()
    }

    /// Wait until all that was settled so far is in the database. `false`: not within `deadline`.
    pub async fn flush(&self, _deadline: Duration) -> bool {
        true
    }

    pub async fn spent(&self, _period: &Period) -> Result<Spending, StoreError> {
        Err(StoreError::Off)
    }

    pub async fn usage(&self, _query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        Err(StoreError::Off)
    }

    /// All attempts of calls with this id, the oldest first, with the rates they were priced with.
    pub async fn call(&self, _id: &str) -> Result<Vec<StoredEntry>, StoreError> {
        Err(StoreError::Off)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_off() { "Ledger(off)" } else { "Ledger" })
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
