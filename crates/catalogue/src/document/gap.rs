//! What a document does not say of its model's input.

use std::fmt;

/// A place of the input about which the document does not say enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The place, with `*` for the items of a list: `/trajectories/*/x`.
    pub path: String,
    /// What is not said.
    pub open: Open,
}

/// What a document does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Open {
    /// A reference leads nowhere.
    Missing(String),
    /// A reference leads back to itself.
    Recursive(String),
    /// No type, no values, no fields.
    Anything,
    /// The default is not one of the values.
    Default,
}

impl Gap {
    /// The field of the input that it is in.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.path.strip_prefix('/')?.split('/').next()
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.open {
            Open::Missing(name) => write!(f, "{} refers to {name}, which the document does not have", self.path),
            Open::Recursive(name) => write!(f, "{} contains itself by {name}, and is cut off there", self.path),
            Open::Anything => write!(f, "{} takes anything, so that nothing in it can be checked", self.path),
            Open::Default => write!(f, "{} has a default that it does not take; left out", self.path),
        }
    }
}
