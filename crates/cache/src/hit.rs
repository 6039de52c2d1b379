//! A value that was read through the cache, and one that a load returns.

use bytes::Bytes;

use coherence::read::Tier;

/// What a load returns; see [`crate::Cache::get`].
pub type Loaded = coherence::read::Loaded<Bytes>;

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The encoded body, as the load returned it; empty for what does not exist.
    pub body: Bytes,
    /// The version that determines the body; 0 for what does not exist.
    pub version: i64,
    /// The tier that it came from.
    pub tier: Tier,
}

impl Hit {
    /// Whether this says that the thing does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.version == 0 && self.body.is_empty()
    }
}
