//! Watches what models cost at their providers against what their entries say.
//!
//! Invariant: nothing here is ever charged. A model without a `cost` in its entry, or whose provider tells none, is not compared.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::model::ModelCost;
use crate::store::Store;
use crate::{events, metrics};

/// Over what time costs are compared.
pub(crate) const WINDOW: Duration = Duration::from_secs(24 * 3_600);
/// How long an order's cost is kept.
const KEPT: Duration = Duration::from_secs(48 * 3_600);
/// The provider's cost may differ by one in so many parts of the expected one: real bills are up to two in a hundred off the nominal
/// length.
const ALLOWED_DRIFT: u128 = 20;
/// Fewer outputs than these say nothing.
const MIN_OUTPUTS: i64 = 5;

/// Whether a model's cost is another than its entry says.
pub(crate) fn has_drifted(cost: &ModelCost) -> bool {
    let difference = cost.expected_micros.abs_diff(cost.cost_micros);
    // A millionth of the currency is what rounding up may add to each order.
    let rounded = difference <= cost.outputs.unsigned_abs();
    let allowed = u128::from(difference) * ALLOWED_DRIFT <= u128::from(cost.expected_micros.unsigned_abs());
    cost.outputs >= MIN_OUTPUTS && !rounded && !allowed
}

/// Compares at an interval, until `stop`. Every process does; the one that notes a change says it.
pub(crate) async fn run(store: Store, interval: Duration, stop: CancellationToken) {
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shown: Vec<ModelCost> = Vec::new();
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match compare(&store, &mut shown).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "providers' costs could not be compared");
            }
        }
    }
}

async fn compare(store: &Store, shown: &mut Vec<ModelCost>) -> Result<(), Error> {
    let costs = store.provider_costs(WINDOW).await?;
    metrics::provider_costs_compared(shown, &costs);
    let drifted: Vec<&ModelCost> = costs.iter().filter(|cost| has_drifted(cost)).collect();
    let ids: Vec<&str> = drifted.iter().map(|cost| cost.model.as_str()).collect();
    let (begun, ended) = store.note_drifted(&ids, KEPT).await?;
    for cost in drifted.iter().filter(|cost| begun.contains(&cost.model)) {
        events::provider_cost_drifted(cost);
    }
    ended.iter().for_each(|model| events::provider_cost_as_expected(model));
    *shown = costs;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_twentieth_over_a_few_outputs_is_a_drift() {
        let cost = |expected_micros, cost_micros, outputs| ModelCost {
            model: "clip".to_owned(),
            expected_micros,
            cost_micros,
            outputs,
        };
        for (cost, drifted) in [
            (cost(1_000_000, 1_050_000, 5), false),
            (cost(1_000_000, 1_050_001, 5), true),
            (cost(1_000_000, 949_999, 5), true),
            (cost(1_000_000, 2_000_000, 4), false),
            (cost(0, 0, 10), false),
            (cost(0, 100, 10), true),
            // What rounding alone adds.
            (cost(10, 19, 10), false),
        ] {
            assert_eq!(has_drifted(&cost), drifted, "{cost:?}");
        }
    }
}
