//! The single statements that the transactions of [`super::work`] are made of.

use chassis::postgres::statement;
use domain::generation::State;
use jobs::{DeadLettered, Held, LeaseStatus, Leased};
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::change::{change, settle};
use super::deadlines::late;
use super::ledger_ids;
use super::row::columns;
use super::work::Claimed;
use crate::error::Error;
use crate::record::{Flaw, ProviderCharge, Record, Wait};

/// What a claim needs to know of a generation besides the generation itself: the order that is live, if there is one.
macro_rules! with_call {
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

/// Moves generations whose jobs were just leased on. A poll changes nothing of its generation.
pub(super) async fn claimed(tx: &mut PgConnection, leased: Vec<Leased>) -> Result<Vec<Claimed>, Error> {
    let attempts = leased.iter().filter(|job| !job.poll);
    let (accounts, ids): (Vec<Uuid>, Vec<Uuid>) = attempts.clone().map(|job| (job.account, job.lease.job)).unzip();
    let numbers: Vec<i32> = attempts.map(|job| job.attempt).collect();
    let polls = leased.iter().filter(|job| job.poll);
    let (accounts_looked, looked): (Vec<Uuid>, Vec<Uuid>) = polls.map(|job| (job.account, job.lease.job)).unzip();
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
            with_call!("changed g")
        ))
        .bind(accounts)
        .bind(ids)
        .bind(numbers);
        rows.extend(statement("claim_generations", query.fetch_all(&mut *tx)).await?);
    }
    if !looked.is_empty() {
        let query = sqlx::query(with_call!(
            "unnest($1::uuid[], $2::uuid[]) as claim (account_id, id)
             join generations g on g.account_id = claim.account_id and g.id = claim.id and g.state < 6"
        ))
        .bind(accounts_looked)
        .bind(looked);
        rows.extend(statement("look_at_generations", query.fetch_all(&mut *tx)).await?);
    }
    let mut found = std::collections::HashMap::with_capacity(rows.len());
    for row in rows {
        let read =
            || -> sqlx::Result<_> { Ok((Record::from_row(&row)?, row.try_get("reference")?, row.try_get("phase")?)) };
        let (record, reference, phase): (Record, Option<String>, Option<String>) =
            read().map_err(chassis::postgres::Error::from)?;
        found.insert(record.id.0, (record, reference, phase.as_deref() == Some("intent")));
    }
    let mut claimed = Vec::with_capacity(found.len());
    for leased in leased {
        match found.remove(&leased.lease.job) {
            Some((record, reference, in_doubt)) => claimed.push(Claimed { leased, record, reference, in_doubt }),
            None => {
                tracing::error!(job = %leased.lease.job, "a job without an open generation was taken out of the queue");
                jobs::cancel(tx, leased.lease).await?;
            }
        }
    }
    Ok(claimed)
}

/// Leaves the request to stop only with those whose generation waits for it: one that is being finalized is delivered.
pub(super) async fn still_to_stop(tx: &mut PgConnection, statuses: &mut [LeaseStatus]) -> Result<(), Error> {
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

/// The state of a generation, which then stands still until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, held: Held, id: Uuid) -> Result<i16, Error> {
    let query = sqlx::query_scalar("select state from generations where account_id = $1 and id = $2 for no key update")
        .bind(held.account)
        .bind(id);
    Ok(statement("lock_generation", query.fetch_one(&mut *tx)).await?)
}

/// How a generation ends that was to be stopped: as its user asked, or as its deadline says.
pub(super) async fn stopped_by(tx: &mut PgConnection, held: Held, id: Uuid) -> Result<(State, Option<Flaw>), Error> {
    let query = sqlx::query_scalar::<_, bool>(
        "select cancel_time is null and total_deadline <= now() from generations where account_id = $1 and id = $2",
    )
    .bind(held.account)
    .bind(id);
    let overdue = statement("why_generation_stops", query.fetch_optional(&mut *tx)).await?.unwrap_or_default();
    if !overdue {
        return Ok((State::Cancelled, None));
    }
    Ok((State::Failed, Some(late())))
}

/// Back to the queue: the order with the provider is over, the next attempt makes a new one.
pub(super) async fn requeue(tx: &mut PgConnection, held: Held, id: Uuid, wait: Wait) -> Result<Record, Error> {
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
    pub(super) flaw: Option<&'a Flaw>,
    /// Nothing: what was never ordered was not charged, of the rest it is not known.
    pub(super) provider_charge: Option<ProviderCharge>,
}

/// Ends a generation without a result; what was held goes back.
pub(super) async fn end(tx: &mut PgConnection, held: Held, id: Uuid, end: End<'_>) -> Result<Record, Error> {
    let End { state, flaw, provider_charge } = end;
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
    .bind(flaw.map(|flaw| flaw.code))
    .bind(flaw.map(|flaw| flaw.reason.as_str()))
    .bind(flaw.map(|flaw| flaw.message.as_str()))
    .bind(provider_charge.map(|provider_charge| provider_charge as i16));
    statement("end_generation", query.fetch_optional(&mut *tx)).await?.ok_or(Error::IllegalTransition { next: state })
}

/// Says of generations whose worker vanished that they wait for another.
pub(super) async fn stranded(tx: &mut PgConnection, jobs: Vec<Uuid>) -> Result<Vec<Record>, Error> {
    let query = sqlx::query_as(change!(
        "update generations g
         set wait_reason = $2, update_time = now(), version = g.version + 1
         from jobs j
         where j.id = any ($1) and j.state = 'queued' and g.account_id = j.account_id and g.id = j.id and g.state < 6"
    ))
    .bind(jobs)
    .bind(Wait::Capacity as i16);
    Ok(statement("strand_generations", query.fetch_all(&mut *tx)).await?)
}

/// Ends the generation of a job that was given up.
pub(super) async fn end_dead_letter(tx: &mut PgConnection, job: &DeadLettered) -> Result<Option<Record>, Error> {
    let held = Held { account: job.account, cancel_requested: false };
    let state = lock(tx, held, job.job).await?;
    let (state, flaw) = match State::from_number(state) {
        Some(State::Cancelling) => (State::Cancelled, None),
        Some(State::Queued) if job.cause == jobs::Cause::StartDeadline => (
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
    end(tx, held, job.job, End { state, flaw: flaw.as_ref(), provider_charge: None }).await.map(Some)
}
