//! What calls cost, written down: the database and the files beside it. Knows SQL and files; knows nothing of HTTP or of the gateway.

mod codec;
pub mod db;
pub mod entry;
mod export;
mod journal;
pub mod keys;
mod ledger;
mod prune;
pub mod query;
mod reader;
mod recover;
mod report;
mod rows;
mod stored;
mod tail;
mod writer;

pub use db::{Db, StoreError};
pub use entry::{Entry, Reservation, State, StoredEntry};
pub use export::quoted;
pub use ledger::{Health, Ledger, Unavailable};
pub use reader::Reader;
pub use stored::Pages;

#[cfg(test)]
mod tests;
