//! Orders that their provider has and we forgot: the database was restored to a time before they were recorded.
//!
//! Invariant: a verified webhook whose reference was never recorded, for a queued job without a live order, is the news of such an
//! order. It is recorded as known before any worker can have the job, which then waits for it like for any other order, so that no
//! worker makes another.

use chassis::postgres::statement;
use domain::generation::State;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::change::change;
use super::transitions::by_number;
use crate::error::Error;
use crate::model::Generation;
use crate::transitions::claimed;

/// The cause of the line in the job's history.
const CAUSE: &str = "FORGOTTEN_ORDER_FOUND";

/// Records the order that a provider's webhook names, if its job is queued and the order was never recorded. Returns whether it was
/// forgotten.
pub(super) async fn adopt_order(
    tx: &mut PgConnection,
    provider: &str,
    job: Uuid,
    reference: &str,
) -> Result<bool, Error> {
    // Locked: a claim passes over the row until this has committed, and then finds the order.
    let query = sqlx::query_scalar::<_, Uuid>(
        "select account_id from jobs j
         where id = $1 and state = 'queued'
           and not exists (select from provider_calls p
                           where p.generation_id = j.id and (p.phase <> 'over' or p.reference = $2))
         for update",
    )
    .bind(job)
    .bind(reference);
    let Some(account) = statement("lock_queued_job", query.fetch_optional(&mut *tx)).await? else { return Ok(false) };
    let query = sqlx::query(
        "insert into provider_calls (generation_id, account_id, fence, attempt, provider, phase, reference)
         -- As if the next lease had made it: the last one may have had an order of its own, which is over.
         select g.id, g.account_id, j.fence + 1, j.attempt + 1, $3, 'known', $4
         from generations g join jobs j on j.account_id = g.account_id and j.id = g.id
         where g.account_id = $1 and g.id = $2 and g.state = $5
         on conflict do nothing",
    )
    .bind(account)
    .bind(job)
    .bind(provider)
    .bind(reference)
    .bind(State::Queued.number());
    if statement("adopt_order", query.execute(&mut *tx)).await?.rows_affected() == 0 {
        return Ok(false);
    }
    let detail = format!("{provider} has the order {reference}, of which nothing was recorded here");
    jobs::await_elsewhere(tx, account, job, (CAUSE, &detail)).await?;
    // As a claim would have begun the attempt; the reference then moves it on.
    let query = sqlx::query_as::<_, Generation>(change!(
        "update generations g
         set state = ($3::smallint[])[g.state], wait_reason = 0, attempt_count = j.attempt,
             submit_time = coalesce(g.submit_time, now()), update_time = now(), version = g.version + 1
         from jobs j
         where g.account_id = $1 and g.id = $2 and j.account_id = g.account_id and j.id = g.id"
    ))
    .bind(account)
    .bind(job)
    .bind(by_number(claimed));
    statement("begin_adopted_attempt", query.fetch_one(&mut *tx)).await?;
    Ok(true)
}

impl Store {
    /// Whether there is a generation of this id.
    pub(crate) async fn has_generation(&self, job: Uuid) -> Result<bool, Error> {
        let query = sqlx::query_scalar("select exists (select from generations where id = $1)").bind(job);
        let run = async |connection: &mut PgConnection| query.fetch_one(connection).await;
        Ok(self.pools.finalize.run("find_generation", run).await?)
    }
}
