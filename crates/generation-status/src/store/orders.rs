//! Orders as they were frozen at the start: what is charged by them, and what the provider says that they took.

use catalogue::Terms;
use chassis::postgres::statement;
use domain::id::{AccountId, GenerationId};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::Store;
use crate::error::Error;
use crate::model::Usage;

impl Store {
    /// The fields of a generation's order that no user asked for.
    pub(crate) async fn unasked(&self, account: AccountId, id: GenerationId) -> Result<Vec<String>, Error> {
        let query = sqlx::query_scalar::<_, Json<Vec<String>>>(
            "select coalesce(work_order -> 'unasked', '[]') from generation_orders
             where account_id = $1 and generation_id = $2",
        )
        .bind(account.0)
        .bind(id.0);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        let fields = self.pools.read.run("find_unasked_fields", run).await?;
        Ok(fields.map(|Json(fields)| fields).unwrap_or_default())
    }
}

/// Keeps what an order took at its provider, and returns the terms that it is charged by.
pub(super) async fn record_usage(
    tx: &mut PgConnection,
    account: Uuid,
    id: Uuid,
    usage: &Usage,
) -> Result<Terms, Error> {
    let query = sqlx::query_scalar::<_, Json<Terms>>(
        "update generation_orders
         set run_ms = $3, provider_cost_micros = $4, provider_units = $5
         where account_id = $1 and generation_id = $2
         returning terms",
    )
    .bind(account)
    .bind(id)
    .bind(usage.run_ms)
    .bind(usage.provider_cost_micros)
    .bind(&usage.provider_units);
    Ok(statement("record_usage", query.fetch_one(&mut *tx)).await?.0)
}
