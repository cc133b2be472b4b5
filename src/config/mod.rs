//! The configuration: what was typed (`raw`), checked once (`check`) into what the program uses (`snapshot`).

pub mod keys;
pub mod secret;
pub mod snapshot;

pub use secret::Secret;
pub use snapshot::Snapshot;
