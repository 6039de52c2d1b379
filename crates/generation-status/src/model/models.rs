//! How long models take.

use std::time::Duration;

/// How long the last completed generations of a model took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    /// Half of them took no longer.
    pub(crate) p50: Duration,
    /// Four in five took no longer.
    pub(crate) p80: Duration,
    /// How many were measured.
    pub(crate) samples: i32,
}
