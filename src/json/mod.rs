//! JSON as bytes: find the few members we read (`scan`), change some of them in place (`splice`), touch nothing else. And where a text
//! must be read whole: a borrowing tree (`tree`), a walk through one too large for a tree (`walk`), and a writer for the new text (`write`).

pub mod scan;
pub mod splice;
pub mod tree;
pub mod walk;
pub mod write;

pub use scan::{Member, Object, ScanError, Span};
pub use splice::{Patch, Spliced};
pub use tree::{At, Members, Node, Paths, Value, Wrong};
pub use walk::{Numbers, Walk};
pub use write::Writer;
