//! How long each model's generations take. These figures are the installation's and of no account.

use std::time::Duration;

use super::Store;
use crate::error::Error;
use crate::model::Pace;

impl Store {
    /// The paces of those of these models that have one.
    pub(crate) async fn paces(&self, models: &[&str]) -> Result<Vec<(String, Pace)>, Error> {
        let query = sqlx::query_as::<_, (String, f64, f64, i32)>(
            "select model, extract(epoch from p50)::double precision, extract(epoch from p80)::double precision, samples
             from model_paces where model = any ($1)",
        )
        .bind(models);
        let run = async |connection: &mut sqlx::PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.read.run("model_paces", run).await?;
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let pace = |(model, p50, p80, samples)| (model, Pace { p50: time(p50), p80: time(p80), samples });
        Ok(rows.into_iter().map(pace).collect())
    }
}
