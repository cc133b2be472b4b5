//! What calls cost, written down: the database and the files beside it. Knows SQL and files; knows nothing of HTTP or of the gateway.

pub mod db;
pub mod entry;
pub mod keys;
mod ledger;
pub mod query;

pub use db::{Db, StoreError};
pub use entry::{Entry, Reservation, State, StoredEntry};
pub use ledger::{Health, Ledger, Unavailable};
