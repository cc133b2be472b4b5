//! Tollgate: one gate between applications and every model and tool they use.
//!
//! The modules, in the order in which a module may use those above it (`tests/house.rs` checks it).

#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

// base: imports nothing of ours
pub mod balance;
pub mod error;
pub mod id;
pub mod json;
pub mod units;

// words
pub mod chat;

// wire formats
pub mod dialect;

// facts
pub mod config;

// organs
pub mod call;
pub mod event;
pub mod filter;
pub mod meter;
pub mod provider;
pub mod quota;
pub mod route;
pub mod store;
pub mod telemetry;
pub mod upstream;

// told of organs, to whoever asks at a door
pub mod report;

// doors
pub mod gateway;

pub mod admin;

pub mod app;

// stands alone: it plays the other side
pub mod simulator;

pub mod cli;
