//! Video models, as the catalogue has them, and how long each takes.

use std::time::Duration;

pub(crate) use domain::catalogue::{MAX_PROMPT_CHARACTERS, Model};

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
