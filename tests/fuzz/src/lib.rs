//! The pure modules under test, by their own source files (so that the proxy need not be built), and the rules they must keep.

#[path = "../../../src/chat/mod.rs"]
pub mod chat;
#[path = "../../../src/dialect/mod.rs"]
pub mod dialect;
#[path = "../../../src/error.rs"]
pub mod error;
#[path = "../../../src/json/mod.rs"]
pub mod json;
#[path = "../../../src/units.rs"]
pub mod units;

pub mod mutate;
pub mod rules;
