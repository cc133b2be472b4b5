//! The parsers under test, by their own source files (so that nothing else has to be built), and the rules they must keep.

#[path = "../../../src/json/scan.rs"]
pub mod scan;
#[path = "../../../src/dialect/sse.rs"]
pub mod sse;

pub mod rules;
