//! What a model's orders cost at its provider, beside what its entry says that they cost.

/// Sums over the orders of a model in a window of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelCost {
    /// Its id.
    pub(crate) model: String,
    /// What its entry says, in millionths of the provider's currency.
    pub(crate) expected_micros: i64,
    /// What the provider says.
    pub(crate) cost_micros: i64,
    /// How many outputs were made.
    pub(crate) outputs: i64,
}

impl ModelCost {
    /// By what part of the expected cost the provider's differs: 0.1 where it is a tenth more, -0.1 where it is a tenth less.
    pub(crate) fn drift(&self) -> f64 {
        match (self.expected_micros, self.cost_micros) {
            (0, 0) => 0.0,
            // Where nothing was expected, any cost is all too much.
            (0, _) => 1.0,
            (expected, cost) => cost as f64 / expected as f64 - 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drift_is_a_part_of_what_was_expected() {
        for (expected, seen, drift) in [(100, 100, 0.0), (100, 112, 0.12), (100, 50, -0.5), (0, 0, 0.0), (0, 3, 1.0)] {
            let cost = ModelCost { model: String::new(), expected_micros: expected, cost_micros: seen, outputs: 1 };
            assert!((cost.drift() - drift).abs() < 1e-9, "{cost:?}");
        }
    }
}
