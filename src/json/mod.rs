//! JSON as bytes: find the few members we read (`scan`), change some of them in place (`splice`), touch nothing else.

pub mod scan;
pub mod splice;

pub use scan::{Member, Object, ScanError, Span};
pub use splice::{Patch, Spliced};
