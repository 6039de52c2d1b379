//! The catalogue: which models there are, what they take, what they cost, and how patient we are with them.
//!
//! It is data. A worker serves a model by asking for its name; a model without a worker queues until its start deadline.

use std::time::Duration;

use domain::money::Micros;

/// A model that can be asked for a video.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    /// The last part of `models/{model}`; also the queue of its jobs.
    pub(crate) id: &'static str,
    /// What one generation costs at most.
    pub(crate) price: Micros,
    /// How many reference pictures it takes.
    pub(crate) reference_assets: usize,
    /// How many attempts may fail.
    pub(crate) max_attempts: i32,
    /// How long a generation may wait for a worker before it expires.
    pub(crate) start_deadline: Duration,
    /// How long after its start a generation is stopped when it has not ended.
    pub(crate) total_deadline: Duration,
}

/// What is used when a request names no model.
pub(crate) const DEFAULT: &str = "local-sketch";

/// Every model.
pub(crate) static CATALOGUE: &[Model] = &[Model {
    id: "local-sketch",
    price: Micros::new(50_000),
    reference_assets: 4,
    max_attempts: 5,
    start_deadline: Duration::from_secs(24 * 3600),
    total_deadline: Duration::from_secs(25 * 3600),
}];

/// The model called `models/{model}`; the default one for an empty name.
pub(crate) fn find(name: &str) -> Option<&'static Model> {
    let id = if name.is_empty() { DEFAULT } else { name.strip_prefix("models/")? };
    CATALOGUE.iter().find(|model| model.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_their_names() {
        assert_eq!(find("").unwrap().id, DEFAULT);
        for model in CATALOGUE {
            assert_eq!(find(&format!("models/{}", model.id)).unwrap().id, model.id);
        }
        for unknown in ["local-sketch", "models/", "models/none", "Models/local-sketch"] {
            assert!(find(unknown).is_none(), "{unknown}");
        }
    }
}
