//! Tollgate: one gate between applications and every model and tool they use.
//!
//! The modules, in the order in which a module may use those above it (`tests/house.rs` checks it).

pub mod call;
pub mod chat;
pub mod config;
pub mod dialect;
pub mod error;
pub mod filter;
pub mod gateway;
pub mod id;
pub mod json;
pub mod provider;
pub mod route;
pub mod simulator;
pub mod telemetry;
pub mod units;
pub mod upstream;
