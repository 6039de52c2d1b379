//! What is wrong with a request.

use std::fmt;

/// One thing that is wrong with a request, for its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path in the request: `input.settings.duration`.
    pub field: String,
    /// What it must be: `one of 4, 6, 8 seconds`.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.message)
    }
}
