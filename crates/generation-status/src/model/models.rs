//! Video models: what each takes, what it costs, how long it may take.

use std::time::Duration;

use domain::money::Micros;

/// The id of the model that every installation has.
pub(crate) const BUILT_IN_MODEL: &str = "local-sketch";
/// No model takes a longer prompt.
pub(crate) const MAX_PROMPT_CHARACTERS: usize = 2_000;
/// No model takes more reference pictures.
pub(crate) const MAX_REFERENCE_ASSETS: usize = 4;

/// A video model of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// The last part of `models/{model}`; also the queue of its jobs.
    pub(crate) id: String,
    /// `local`, `replicate` or `fal`.
    pub(crate) provider: String,
    /// The price of one generation: held at its start, and its cost at most.
    pub(crate) price: Micros,
    /// The longest prompt, in characters.
    pub(crate) prompt_characters: usize,
    /// The maximum number of reference pictures.
    pub(crate) reference_assets: usize,
    /// How many attempts may fail.
    pub(crate) max_attempts: i32,
    /// How long a generation may wait for a worker before it expires.
    pub(crate) start_deadline: Duration,
    /// How long after its start a generation that has not ended is stopped.
    pub(crate) total_deadline: Duration,
}

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
