//! The statements that move a generation from state to state, of which the transactions of [`super::work`] and
//! [`super::deadlines`] are made.

use chassis::postgres::statement;
use domain::generation::State;
use jobs::{DeadLettered, Held, LeaseStatus, Leased};
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::change::{change, settle};
use super::ledger_ids;
use super::rows::columns;
use crate::error::Error;
use crate::model::{ClaimedWork, Failure, Generation, ProviderCharge, WaitReason};

/// Generations with their live order, if there is one.
macro_rules! with_provider_call {
    ($from:literal) => {
        concat!(
            "select p.reference, p.phase, ",
            columns!(),
            " from ",
            $from,
            " left join provider_calls p on p.generation_id = g.id and p.phase <> 'over'"
        )
    };
}

/// Moves generations whose jobs were just leased to SUBMITTING. A poll changes nothing of its generation.
pub(super) async fn begin_attempts(tx: &mut PgConnection, leased: Vec<Leased>) -> Result<Vec<ClaimedWork>, Error> {
    let attempts = leased.iter().filter(|job| !job.poll);
    let (accounts, ids): (Vec<Uuid>, Vec<Uuid>) = attempts.clone().map(|job| (job.account, job.lease.job)).unzip();
    let numbers: Vec<i32> = attempts.map(|job| job.attempt).collect();
    let polls = leased.iter().filter(|job| job.poll);
    let (poll_accounts, poll_ids): (Vec<Uuid>, Vec<Uuid>) = polls.map(|job| (job.account, job.lease.job)).unzip();
    let mut rows = Vec::new();
    if !ids.is_empty() {
        let query = sqlx::query(concat!(
            "with changed as (
                 update generations g
                 set state = case when g.state = 1 then 2 else g.state end, wait_reason = 0, attempt_count = claim.attempt,
                     submit_time = coalesce(g.submit_time, now()), update_time = now(), version = g.version + 1
                 from unnest($1::uuid[], $2::uuid[], $3::int[]) as claim (account_id, id, attempt)
                 where g.account_id = claim.account_id and g.id = claim.id and g.state < 6
                 returning g.*
             ),
             shown as (
                 update scenes s
                 set latest_version = g.version, latest_state = g.state, latest_percent = g.percent,
                     latest_stage = g.stage, latest_thumbnail = g.thumbnail
                 from changed g
                 where s.account_id = g.account_id and s.id = g.scene_id and s.latest_generation = g.id
             ) ",
            with_provider_call!("changed g")
        ))
        .bind(accounts)
        .bind(ids)
        .bind(numbers);
        rows.extend(statement("begin_attempts", query.fetch_all(&mut *tx)).await?);
    }
    if !poll_ids.is_empty() {
        let query = sqlx::query(with_provider_call!(
            "unnest($1::uuid[], $2::uuid[]) as claim (account_id, id)
             join generations g on g.account_id = claim.account_id and g.id = claim.id and g.state < 6"
        ))
        .bind(poll_accounts)
        .bind(poll_ids);
        rows.extend(statement("find_polled_generations", query.fetch_all(&mut *tx)).await?);
    }
    let mut found = std::collections::HashMap::with_capacity(rows.len());
    for row in rows {
        let read = || -> sqlx::Result<_> {
            Ok((Generation::from_row(&row)?, row.try_get("reference")?, row.try_get("phase")?))
        };
        let (generation, reference, phase): (Generation, Option<String>, Option<String>) =
            read().map_err(chassis::postgres::Error::from)?;
        found.insert(generation.id.0, (generation, reference, phase.as_deref() == Some("intent")));
    }
    let mut claimed = Vec::with_capacity(found.len());
    for leased in leased {
        match found.remove(&leased.lease.job) {
            Some((generation, reference, in_doubt)) => {
                claimed.push(ClaimedWork { leased, generation, reference, in_doubt });
            }
            None => {
                tracing::error!(job = %leased.lease.job, "a claimed job has no open generation and was ended");
                jobs::cancel(tx, leased.lease).await?;
            }
        }
    }
    Ok(claimed)
}

/// Clears the request to stop where the generation does not wait for it: one that is being finalized is delivered.
pub(super) async fn clear_late_cancels(tx: &mut PgConnection, statuses: &mut [LeaseStatus]) -> Result<(), Error> {
    let asked = |status: &LeaseStatus| status.held.is_some_and(|held| held.cancel_requested);
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

/// The state of a generation, locked until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, held: Held, id: Uuid) -> Result<i16, Error> {
    let query = sqlx::query_scalar("select state from generations where account_id = $1 and id = $2 for no key update")
        .bind(held.account)
        .bind(id);
    Ok(statement("lock_generation", query.fetch_one(&mut *tx)).await?)
}

/// How a generation that was to be stopped ends: CANCELLED by its user, or FAILED by its deadline.
pub(super) async fn end_of_stopped(
    tx: &mut PgConnection,
    held: Held,
    id: Uuid,
) -> Result<(State, Option<Failure>), Error> {
    let query = sqlx::query_scalar::<_, bool>(
        "select cancel_time is null and total_deadline <= now() from generations where account_id = $1 and id = $2",
    )
    .bind(held.account)
    .bind(id);
    let overdue = statement("find_stop_cause", query.fetch_optional(&mut *tx)).await?.unwrap_or_default();
    if !overdue {
        return Ok((State::Cancelled, None));
    }
    Ok((State::Failed, Some(Failure::total_deadline())))
}

/// Puts a generation back into the queue. Its order at the provider is over; the next attempt makes a new one.
pub(super) async fn requeue(
    tx: &mut PgConnection,
    held: Held,
    id: Uuid,
    wait: WaitReason,
) -> Result<Generation, Error> {
    let query = sqlx::query_as(change!(
        "update generations g
         set state = 1, wait_reason = $4, stage = '', queue_position = 0, eta_p50 = null, eta_p80 = null,
             update_time = now(), version = g.version + 1
         where g.account_id = $1 and g.id = $2 and g.state = any ($3)",
        "over as (
             update provider_calls p set phase = 'over', update_time = now()
             from changed g where p.generation_id = g.id and p.phase <> 'over'
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

/// How a generation ends without a result.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) state: State,
    pub(super) failure: Option<&'a Failure>,
    /// `None`: NOT_CHARGED where nothing was ordered, else UNKNOWN.
    pub(super) provider_charge: Option<ProviderCharge>,
}

/// Ends a generation without a result and releases its whole hold.
pub(super) async fn end(tx: &mut PgConnection, held: Held, id: Uuid, end: End<'_>) -> Result<Generation, Error> {
    let End { state, failure, provider_charge } = end;
    // A live order that nobody reports on may have been charged, hence UNKNOWN (3); without one nothing was ordered (1).
    let query = sqlx::query_as(settle!(
        "update generations g
         set state = $4, wait_reason = 0, stage = '', queue_position = 0, released_micros = g.held_micros,
             provider_charge = coalesce($9, case when exists (
                 select from provider_calls p where p.generation_id = g.id and p.phase <> 'over'
             ) then 3 else 1 end),
             error_code = $6, error_reason = $7, error_message = $8,
             end_time = now(), update_time = now(), version = g.version + 1
         where g.account_id = $2 and g.id = $3 and g.state = any ($5)"
    ))
    .bind(ledger_ids())
    .bind(held.account)
    .bind(id)
    .bind(state.number())
    .bind(state.predecessors())
    .bind(failure.map(|failure| failure.code))
    .bind(failure.map(|failure| failure.reason.as_str()))
    .bind(failure.map(|failure| failure.message.as_str()))
    .bind(provider_charge.map(|provider_charge| provider_charge as i16));
    statement("end_generation", query.fetch_optional(&mut *tx)).await?.ok_or(Error::IllegalTransition { next: state })
}

/// Marks generations whose lease expired as waiting for a worker.
pub(super) async fn mark_requeued(tx: &mut PgConnection, jobs: Vec<Uuid>) -> Result<Vec<Generation>, Error> {
    let query = sqlx::query_as(change!(
        "update generations g
         set wait_reason = $2, update_time = now(), version = g.version + 1
         from jobs j
         where j.id = any ($1) and j.state = 'queued' and g.account_id = j.account_id and g.id = j.id and g.state < 6"
    ))
    .bind(jobs)
    .bind(WaitReason::Capacity as i16);
    Ok(statement("mark_requeued", query.fetch_all(&mut *tx)).await?)
}

/// Ends the generation of a dead-lettered job.
pub(super) async fn end_dead_letter(tx: &mut PgConnection, job: &DeadLettered) -> Result<Option<Generation>, Error> {
    let held = Held { account: job.account, cancel_requested: false };
    let state = lock(tx, held, job.job).await?;
    let (state, failure) = match State::from_number(state) {
        Some(State::Cancelling) => (State::Cancelled, None),
        Some(State::Queued) if job.cause == jobs::Cause::StartDeadline => {
            (State::Expired, Some(Failure::start_deadline()))
        }
        Some(state) if state.is_terminal() => return Ok(None),
        _ => (State::Failed, Some(Failure::workers_lost(job.attempts))),
    };
    end(tx, held, job.job, End { state, failure: failure.as_ref(), provider_charge: None }).await.map(Some)
}
