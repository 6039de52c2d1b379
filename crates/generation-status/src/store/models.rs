//! The providers of models, kept so that what was ordered of a model outlives its entry in the catalogue.

use std::collections::HashMap;

use domain::provider::Provider;
use sqlx::PgConnection;

use super::Store;
use crate::error::Error;

impl Store {
    /// The provider of every model that there ever was. A provider that this build does not know is left out.
    pub(crate) async fn model_providers(&self) -> Result<HashMap<String, Provider>, Error> {
        let query = sqlx::query_as::<_, (String, String)>("select model, provider from model_providers");
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        Ok(parse(self.pools.read.run("model_providers", run).await?))
    }

    /// Keeps the providers of models that are new, and returns those of all, as they were first kept.
    pub(crate) async fn keep_model_providers(
        &self,
        current: &HashMap<String, Provider>,
    ) -> Result<HashMap<String, Provider>, Error> {
        let (models, providers): (Vec<&str>, Vec<&str>) =
            current.iter().map(|(model, provider)| (model.as_str(), provider.as_str())).unzip();
        let query = sqlx::query_as::<_, (String, String)>(
            "with kept as (
                 insert into model_providers (model, provider)
                 select model, provider from unnest($1::text[], $2::text[]) as new (model, provider)
                 order by model
                 on conflict (model) do nothing
                 returning model, provider
             )
             select model, provider from kept union all select model, provider from model_providers",
        )
        .bind(models)
        .bind(providers);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        Ok(parse(self.pools.write.run("keep_model_providers", run).await?))
    }
}

fn parse(rows: Vec<(String, String)>) -> HashMap<String, Provider> {
    rows.into_iter().filter_map(|(model, provider)| Some((model, Provider::parse(&provider)?))).collect()
}
