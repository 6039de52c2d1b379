//! What orders cost at their providers. These rows are the installation's and of no account.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;

use super::Store;
use crate::error::Error;
use crate::model::ModelCost;

impl Store {
    /// The sums of each model's orders that were settled in the last `window`.
    pub(crate) async fn provider_costs(&self, window: Duration) -> Result<Vec<ModelCost>, Error> {
        let query = sqlx::query_as::<_, (String, i64, i64, i64)>(
            "select model, least(sum(expected_micros), 9e18)::bigint, least(sum(cost_micros), 9e18)::bigint, sum(outputs)::bigint
             from provider_costs where create_time > now() - make_interval(secs => $1)
             group by model order by model",
        )
        .bind(window.as_secs_f64());
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.read.run("provider_costs", run).await?;
        let sums =
            |(model, expected_micros, cost_micros, outputs)| ModelCost { model, expected_micros, cost_micros, outputs };
        Ok(rows.into_iter().map(sums).collect())
    }

    /// Notes which models' costs have drifted, and forgets rows that are older than `kept`. Returns the models of which that was not
    /// noted before, and those that were noted and have not drifted any more.
    pub(crate) async fn note_drifted(
        &self,
        drifted: &[&str],
        kept: Duration,
    ) -> Result<(Vec<String>, Vec<String>), Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_scalar::<_, String>(
                "insert into provider_cost_alarms (model) select unnest($1::text[]) on conflict do nothing returning model",
            );
            let begun = statement("note_drifted", query.bind(drifted).fetch_all(&mut *tx)).await?;
            let query = sqlx::query_scalar::<_, String>(
                "delete from provider_cost_alarms where model <> all ($1::text[]) returning model",
            );
            let ended = statement("note_as_expected", query.bind(drifted).fetch_all(&mut *tx)).await?;
            let query = sqlx::query("delete from provider_costs where create_time < now() - make_interval(secs => $1)");
            statement("forget_costs", query.bind(kept.as_secs_f64()).execute(&mut *tx)).await?;
            Ok((begun, ended))
        };
        self.pools.reaper.transaction("note_drifted", run).await
    }
}

/// Keeps what an order cost beside what was expected.
pub(super) async fn record_cost(tx: &mut PgConnection, cost: &ModelCost) -> Result<(), Error> {
    let query = sqlx::query(
        "insert into provider_costs (model, expected_micros, cost_micros, outputs) values ($1, $2, $3, $4::bigint::integer)",
    )
    .bind(&cost.model)
    .bind(cost.expected_micros)
    .bind(cost.cost_micros)
    .bind(cost.outputs);
    statement("record_cost", query.execute(tx)).await?;
    Ok(())
}
