//! Finished spans and the tree that those of one trace make: what the collector of the local stack keeps and sends, and what
//! `rushes trace` reads and prints.
//!
//! Invariant: a span's JSON is read by the same type that writes it.

mod recorded;
mod span;
mod tree;

pub use recorded::Recorded;
pub use span::{Kind, Span};
pub use tree::Tree;
