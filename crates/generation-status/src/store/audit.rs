//! Who acts, for the audit log. Triggers write its entries in the transaction of the act, by these settings of the transaction; what no
//! row tells as an operator's act is entered here.

use chassis::postgres::statement;
use chassis::request::actor::Actor;
use chassis::telemetry;
use domain::id::{AccountId, GenerationId};
use serde_json::json;
use sqlx::PgConnection;

use crate::error::Error;

/// The trace of the running request; empty outside of one.
pub(super) fn trace() -> String {
    telemetry::traceparent().unwrap_or_default()
}

/// Names who acts in the rest of a transaction.
pub(super) async fn act_as(tx: &mut PgConnection, actor: &Actor) -> Result<(), Error> {
    let query = sqlx::query(
        "select from set_config('rushes.traceparent', $1, true), set_config('rushes.actor', $2, true) as acting",
    )
    .bind(trace())
    .bind(actor.as_str());
    statement("name_actor", query.execute(tx)).await?;
    Ok(())
}

/// Enters what an operator does to a generation.
pub(super) async fn enter(
    tx: &mut PgConnection,
    actor: &Actor,
    act: &'static str,
    account: AccountId,
    generation: GenerationId,
    note: &str,
) -> Result<(), Error> {
    let query = sqlx::query(
        "select rushes_audit($3, $4, $5, $6)
           from set_config('rushes.traceparent', $1, true), set_config('rushes.actor', $2, true) as acting",
    )
    .bind(trace())
    .bind(actor.as_str())
    .bind(act)
    .bind(account.0)
    .bind(generation.name())
    .bind(json!({"note": note}));
    statement("enter_audit", query.execute(tx)).await?;
    Ok(())
}
