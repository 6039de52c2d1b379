//! The providers and entries of models, kept so that what was ordered of a model outlives its entry in the catalogue.

use std::collections::HashMap;

use chassis::postgres::statement;
use domain::provider::Provider;
use jobs::{Breaker, Lease, Scope};
use sqlx::PgConnection;

use super::Store;
use crate::error::Error;
use crate::model::{FrozenEntry, GENERATION_JOBS};

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

    /// Keeps the entries of the current models, each a hash. Where one has changed, the breaker of its model closes, since it was
    /// opened by orders of the entry before. Returns those that were open.
    pub(crate) async fn keep_entries(&self, current: &[(String, [u8; 32])]) -> Result<Vec<Breaker>, Error> {
        let models: Vec<&str> = current.iter().map(|(model, _)| model.as_str()).collect();
        let entries: Vec<&[u8]> = current.iter().map(|(_, entry)| entry.as_slice()).collect();
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_scalar::<_, String>(
                "update model_providers p set entry_sha256 = new.entry_sha256, update_time = now()
                 from unnest($1::text[], $2::bytea[]) as new (model, entry_sha256)
                 where p.model = new.model and p.entry_sha256 is distinct from new.entry_sha256
                 returning p.model",
            )
            .bind(&models)
            .bind(&entries);
            let changed = statement("keep_entries", query.fetch_all(&mut *tx)).await?;
            Ok(match changed.as_slice() {
                [] => Vec::new(),
                changed => jobs::reset_breakers(tx, GENERATION_JOBS, Scope::Queue, changed).await?,
            })
        };
        self.pools.write.transaction("keep_entries", run).await
    }

    /// The entry of a leased order's model as it was frozen with it.
    pub(crate) async fn frozen_entry(&self, lease: Lease) -> Result<FrozenEntry, Error> {
        let query = sqlx::query_as::<_, (String, Option<Vec<u8>>, String)>(
            "select g.model, o.entry_sha256, o.work_order ->> 'model'
             from jobs j
             join generations g on g.account_id = j.account_id and g.id = j.id
             join generation_orders o on o.account_id = j.account_id and o.generation_id = j.id
             where j.id = $1 and j.fence = $2",
        )
        .bind(lease.job)
        .bind(lease.fence);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        let row = self.pools.finalize.run("frozen_entry", run).await?;
        let (model, entry_sha256, remote_name) = row.ok_or(jobs::Error::StaleFence)?;
        Ok(FrozenEntry { model, entry_sha256, remote_name })
    }
}

fn parse(rows: Vec<(String, String)>) -> HashMap<String, Provider> {
    rows.into_iter().filter_map(|(model, provider)| Some((model, Provider::parse(&provider)?))).collect()
}
