//! What a request became.

use crate::{Input, Order, Terms};

/// A request that a model takes: everything about it that must not change any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The input with the defaults that the price depends on.
    pub input: Input,
    /// What the provider is sent.
    pub order: Order,
    /// What it costs.
    pub terms: Terms,
}
