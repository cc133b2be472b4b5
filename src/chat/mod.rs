//! The words in which every dialect's calls are counted and compared. Types only.

mod usage;

pub use usage::Usage;
