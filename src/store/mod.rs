//! What calls cost, written down: the database and the files beside it. Knows SQL and files; knows nothing of HTTP or of the gateway.

pub mod db;

pub use db::{Db, StoreError};
