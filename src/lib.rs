//! Tollgate: one gate between applications and every model and tool they use.
//!
//! The modules, in the order in which a module may use those above it (`tests/house.rs` checks it).

pub mod config;
pub mod dialect;
pub mod error;
pub mod id;
pub mod simulator;
