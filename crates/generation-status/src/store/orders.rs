//! Orders as they were frozen at the start: what is charged by them, and what the provider says that they took.

use catalogue::Terms;
use chassis::postgres::statement;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::error::Error;
use crate::model::Usage;

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
