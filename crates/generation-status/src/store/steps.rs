//! The single statements that the transactions of [`super::work`] are made of.

use chassis::postgres::statement;
use domain::generation::State;
use jobs::{Buried, Held, Leased, Status};
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::change::{change, settle};
use super::ledger_ids;
use super::row::columns;
use super::work::Claimed;
use crate::error::Error;
use crate::models;
use crate::record::{Flaw, Record, Wait};

/// Moves generations whose jobs were just leased on, with the intent of the order written before anyone is asked.
pub(super) async fn claimed(tx: &mut PgConnection, leased: Vec<Leased>) -> Result<Vec<Claimed>, Error> {
    let accounts: Vec<Uuid> = leased.iter().map(|job| job.account).collect();
    let ids: Vec<Uuid> = leased.iter().map(|job| job.lease.job).collect();
    let attempts: Vec<i32> = leased.iter().map(|job| job.attempt).collect();
    let providers: Vec<&str> = leased.iter().map(|job| models::provider(&job.queue)).collect();
    let query = sqlx::query(concat!(
        "with changed as (
             update generations g
             set state = case when g.state = 1 then 2 else g.state end, wait_reason = 0, attempt_count = claim.attempt,
                 submit_time = coalesce(g.submit_time, now()), update_time = now(), version = g.version + 1
             from unnest($1::uuid[], $2::uuid[], $3::int[]) as claim (account_id, id, attempt)
             where g.account_id = claim.account_id and g.id = claim.id and g.state < 6
             returning g.*
         ),
         intent as (
             insert into provider_calls (generation_id, account_id, provider, phase)
             select g.id, g.account_id, claim.provider, 'intent'
             from changed g join unnest($2::uuid[], $4::text[]) as claim (id, provider) on claim.id = g.id
             on conflict (generation_id) do nothing
         ),
         shown as (
             update scenes s
             set latest_version = g.version, latest_state = g.state, latest_percent = g.percent,
                 latest_stage = g.stage, latest_thumbnail = g.thumbnail
             from changed g
             where s.account_id = g.account_id and s.id = g.scene_id and s.latest_generation = g.id
         )
         select p.reference, ",
        columns!(),
        " from changed g left join provider_calls p on p.generation_id = g.id and p.phase = 'known'"
    ))
    .bind(accounts)
    .bind(ids)
    .bind(attempts)
    .bind(providers);
    let rows = statement("claim_generations", query.fetch_all(&mut *tx)).await?;
    let mut found = std::collections::HashMap::with_capacity(rows.len());
    for row in rows {
        let read = || -> sqlx::Result<_> { Ok((Record::from_row(&row)?, row.try_get("reference")?)) };
        let (record, reference): (Record, Option<String>) = read().map_err(chassis::postgres::Error::from)?;
        found.insert(record.id.0, (record, reference));
    }
    let mut claimed = Vec::with_capacity(found.len());
    for leased in leased {
        match found.remove(&leased.lease.job) {
            Some((record, reference)) => claimed.push(Claimed { leased, record, reference }),
            None => {
                tracing::error!(job = %leased.lease.job, "a job without an open generation was taken out of the queue");
                jobs::cancelled(tx, leased.lease).await?;
            }
        }
    }
    Ok(claimed)
}

/// Leaves the request to stop only with those whose generation waits for it: one that is being finalized is delivered.
pub(super) async fn still_to_stop(tx: &mut PgConnection, statuses: &mut [Status]) -> Result<(), Error> {
    let asked = |status: &Status| status.held.is_some_and(|held| held.cancel_requested);
    let (accounts, ids): (Vec<Uuid>, Vec<Uuid>) = statuses
        .iter()
        .filter(|status| asked(status))
        .filter_map(|status| status.held.map(|held| (held.account, status.lease.job)))
        .unzip();
    if ids.is_empty() {
        return Ok(());
    }
    let query = sqlx::query_scalar::<_, Uuid>(
        "select g.id from unnest($1::uuid[], $2::uuid[]) as asked (account_id, id)
         join generations g on g.account_id = asked.account_id and g.id = asked.id
         where g.state = $3",
    )
    .bind(accounts)
    .bind(ids)
    .bind(State::Cancelling.number());
    let cancelling = statement("find_cancelling", query.fetch_all(&mut *tx)).await?;
    for status in statuses {
        if let Some(held) = &mut status.held {
            held.cancel_requested &= cancelling.contains(&status.lease.job);
        }
    }
    Ok(())
}

/// The state of a generation, which then stands still until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, held: Held, id: Uuid) -> Result<i16, Error> {
    let query = sqlx::query_scalar("select state from generations where account_id = $1 and id = $2 for no key update")
        .bind(held.account)
        .bind(id);
    Ok(statement("lock_generation", query.fetch_one(&mut *tx)).await?)
}

/// Back to the queue: the order with the provider is over, the next attempt makes a new one.
pub(super) async fn requeue(tx: &mut PgConnection, held: Held, id: Uuid, wait: Wait) -> Result<Record, Error> {
    let query = sqlx::query_as(change!(
        "update generations g
         set state = 1, wait_reason = $4, stage = '', update_time = now(), version = g.version + 1
         where g.account_id = $1 and g.id = $2 and g.state = any ($3)",
        "over as (
             delete from provider_calls p using changed g where p.generation_id = g.id
         )"
    ))
    .bind(held.account)
    .bind(id)
    .bind(State::Queued.predecessors())
    .bind(wait as i16);
    statement("requeue_generation", query.fetch_optional(&mut *tx))
        .await?
        .ok_or(Error::IllegalTransition { next: State::Queued })
}

/// Ends a generation without a result; what was held goes back.
pub(super) async fn end(
    tx: &mut PgConnection,
    held: Held,
    id: Uuid,
    state: State,
    flaw: Option<&Flaw>,
) -> Result<Record, Error> {
    let query = sqlx::query_as(settle!(
        "update generations g
         set state = $4, wait_reason = 0, stage = '', released_micros = g.held_micros,
             error_code = $6, error_reason = $7, error_message = $8,
             end_time = now(), update_time = now(), version = g.version + 1
         where g.account_id = $2 and g.id = $3 and g.state = any ($5)"
    ))
    .bind(ledger_ids())
    .bind(held.account)
    .bind(id)
    .bind(state.number())
    .bind(state.predecessors())
    .bind(flaw.map(|flaw| flaw.code))
    .bind(flaw.map(|flaw| flaw.reason.as_str()))
    .bind(flaw.map(|flaw| flaw.message.as_str()));
    statement("end_generation", query.fetch_optional(&mut *tx)).await?.ok_or(Error::IllegalTransition { next: state })
}

/// Says of generations whose worker vanished that they wait for another.
pub(super) async fn stranded(tx: &mut PgConnection, jobs: Vec<Uuid>) -> Result<Vec<Record>, Error> {
    let query = sqlx::query_as(change!(
        "update generations g
         set wait_reason = $2, update_time = now(), version = g.version + 1
         from jobs j
         where j.id = any ($1) and g.account_id = j.account_id and g.id = j.id and g.state < 6"
    ))
    .bind(jobs)
    .bind(Wait::Capacity as i16);
    Ok(statement("strand_generations", query.fetch_all(&mut *tx)).await?)
}

/// Ends the generation of a job that was given up.
pub(super) async fn bury(tx: &mut PgConnection, job: &Buried) -> Result<Option<Record>, Error> {
    let held = Held { account: job.account, cancel_requested: false };
    let state = lock(tx, held, job.job).await?;
    let (state, flaw) = match State::from_number(state) {
        Some(State::Cancelling) => (State::Cancelled, None),
        Some(State::Queued) if job.cause == "START_DEADLINE" => (
            State::Expired,
            Some(Flaw {
                code: tonic::Code::DeadlineExceeded as i32,
                reason: "START_DEADLINE".to_owned(),
                message: "no worker was free in time; nothing was charged".to_owned(),
            }),
        ),
        Some(state) if state.is_terminal() => return Ok(None),
        _ => (
            State::Failed,
            Some(Flaw {
                code: tonic::Code::Unavailable as i32,
                reason: "ATTEMPTS_EXHAUSTED".to_owned(),
                message: format!("{} workers in a row did not come back; nothing was charged", job.attempts),
            }),
        ),
    };
    end(tx, held, job.job, state, flaw.as_ref()).await.map(Some)
}
