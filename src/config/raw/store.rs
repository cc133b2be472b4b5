//! `store` as typed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{At, Secret, Size, short_form};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = short_form)]
pub struct Store {
    /// Rows of all attempts: `sqlite:FILE`, `postgres://USER:PASSWORD@HOST/DATABASE`, or `off`. Default: `sqlite:tollgate.db`.
    pub ledger: Option<At<Secret>>,
    /// Counters of limits and budgets: `local` (in this process), or shared by replicas: `redis://..`, `rediss://..`,
    /// `redis+cluster://HOST:PORT,HOST:PORT`, `rediss+cluster://..`. Default: `local`.
    pub counters: Option<At<Secret>>,
    /// Folder of the journal, where everything stands before it is in the ledger. On a disk of this machine. Default: `tollgate.journal` beside the
    /// SQLite file; for PostgreSQL in systemd's state folder (`STATE_DIRECTORY`), else beside this file.
    pub journal: Option<At<String>>,
    /// Bytes the journal may grow to while the database is away; beyond that nothing can be reserved. Default: `1GB`.
    pub journal_limit: Option<At<Size>>,
    /// Default: `process`.
    pub durability: Option<StoreDurability>,
    /// Days for which rows are kept; then they become daily sums. Default: `30d`.
    pub keep: Option<At<String>>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreDurability {
    /// What is reserved survives the end of the process, however it comes.
    Process,
    /// And the loss of power: calls wait for the disk.
    Disk,
}
