//! Where what calls cost is kept: the checked form of `store`. Owns no connection; `crate::store` opens what stands here.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;

/// The ledger and its journal, and the counters that replicas share. Read once, at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    pub ledger: LedgerPlace,
    pub counters: Counters,
    /// Folder of the journal; unused when the ledger is off.
    pub journal: PathBuf,
    /// Bytes of the journal beyond which reservations are refused.
    pub journal_limit: u64,
    pub durability: Durability,
    /// Rows older than this become daily sums.
    pub keep: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerPlace {
    Off,
    Sqlite(PathBuf),
    /// `postgres://USER:PASSWORD@HOST/DATABASE`.
    Postgres(Secret),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counters {
    /// In this process.
    Local,
    /// `redis://..` or `rediss://..`.
    Redis(Secret),
    /// URLs of some nodes, all with the same credentials; `redis://` or `rediss://`.
    RedisCluster(Vec<Secret>),
}

/// What a reservation survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The end of the process, however it comes. When the machine loses power, the last moments may be lost.
    #[default]
    Process,
    /// The loss of power too: calls wait for the disk, together.
    Disk,
}

/// A month of rows.
pub const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// A gigabyte of journal: hours of a busy gateway whose database is down.
pub const JOURNAL_LIMIT: u64 = 1_000_000_000;

// === impl StoreConfig ===

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig {
            ledger: LedgerPlace::Off,
            counters: Counters::Local,
            journal: PathBuf::from("tollgate.journal"),
            journal_limit: JOURNAL_LIMIT,
            durability: Durability::Process,
            keep: KEEP,
        }
    }
}
