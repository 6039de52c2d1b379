//! What a collector with bounded memory has of one trace.

use serde::{Deserialize, Serialize};

use crate::span::Span;

/// The spans of one trace, and how many more there were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Those that are kept, oldest first.
    pub spans: Vec<Span>,
    /// How many the collector had and dropped to make room for later ones.
    pub dropped: u64,
}
