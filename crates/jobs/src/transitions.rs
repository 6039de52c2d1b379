//! Carries out what [`crate::rules`] decides: reads the facts under a lock, and writes the transition.
//!
//! Invariant: a row is locked from its facts to its transition, and the write names the fence and the state that were read: even
//! for a caller without a transaction, whose lock ends with its statement, a decision on old facts changes nothing.

use std::collections::HashMap;

use chassis::postgres::statement;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::rules::{Facts, RunAt, Transition};
use crate::{Error, Lease};

/// A leased job whose row is locked until the transaction ends.
pub(crate) struct Locked {
    pub(crate) kind: String,
    pub(crate) account: Uuid,
    pub(crate) cancel_requested: bool,
    pub(crate) facts: Facts,
}

/// The columns that [`Facts`] are read from.
#[derive(sqlx::FromRow)]
pub(crate) struct FactsRow {
    polling: bool,
    elsewhere: bool,
    attempt: i32,
    max_attempts: i32,
    claims: i32,
    expired_in_row: i32,
    worker: Option<String>,
    cause: Option<String>,
    last_error: Option<String>,
}

impl From<FactsRow> for Facts {
    fn from(row: FactsRow) -> Self {
        Self {
            polling: row.polling,
            elsewhere: row.elsewhere,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            claims: row.claims,
            expired_in_row: row.expired_in_row,
            worker: row.worker,
            cause: row.cause,
            detail: row.last_error,
        }
    }
}

/// Locks the job of a lease and reads its facts.
pub(crate) async fn lock(tx: &mut PgConnection, lease: Lease) -> Result<Locked, Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        kind: String,
        account_id: Uuid,
        cancel_requested: bool,
        #[sqlx(flatten)]
        facts: FactsRow,
    }
    let query = sqlx::query_as::<_, Row>(
        "select kind, account_id, cancel_at is not null as cancel_requested,
                polling, elsewhere, attempt, max_attempts, claims, expired_in_row, worker, cause, last_error
         from jobs where id = $1 and fence = $2 and state = 'leased'
         for no key update",
    )
    .bind(lease.job)
    .bind(lease.fence)
    .fetch_optional(tx);
    let row = statement("lock_job", query).await?.ok_or(Error::StaleFence)?;
    Ok(Locked {
        kind: row.kind,
        account: row.account_id,
        cancel_requested: row.cancel_requested,
        facts: row.facts.into(),
    })
}

/// Writes transitions, all in one statement. Returns the jobs that it moved, each with the time when it may next be claimed.
pub(crate) async fn apply(
    tx: &mut PgConnection,
    transitions: &[(Lease, Transition)],
) -> Result<HashMap<Uuid, OffsetDateTime>, Error> {
    let column = |of: fn(&Transition) -> Option<f64>| transitions.iter().map(|(_, next)| of(next)).collect::<Vec<_>>();
    let query = sqlx::query_as::<_, (Uuid, OffsetDateTime)>(
        "update jobs
         set state = next.to_state, attempt = next.attempt, expired_in_row = next.expired_in_row,
             lease_until = null, polling = false, polls = case when next.reset_polls then 0 else jobs.polls end,
             -- Here and not in the rule, since the clock is PostgreSQL's. Null, and so unchanged, where the rule names no time.
             run_at = coalesce(now() + make_interval(secs => next.after + random() * next.jitter), jobs.run_at),
             finished_at = case when next.finished then now() end,
             cause = next.cause, last_error = next.detail
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::integer[], $5::integer[], $6::boolean[], $7::float8[],
                     $8::float8[], $9::boolean[], $10::text[], $11::text[], $12::text[])
             as next (id, fence, to_state, attempt, expired_in_row, reset_polls, after, jitter, finished, cause, detail, from_state)
         where jobs.id = next.id and jobs.fence = next.fence and jobs.state = next.from_state
         returning jobs.id, jobs.run_at",
    )
    .bind(transitions.iter().map(|(lease, _)| lease.job).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(lease, _)| lease.fence).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(_, next)| next.to.as_str()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(_, next)| next.attempt).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(_, next)| next.expired_in_row).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(_, next)| next.reset_polls).collect::<Vec<_>>())
    .bind(column(|next| match next.run_at {
        RunAt::Unchanged => None,
        RunAt::In { after, .. } => Some(after.as_secs_f64()),
    }))
    .bind(column(|next| match next.run_at {
        RunAt::Unchanged => None,
        RunAt::In { jitter, .. } => Some(jitter.as_secs_f64()),
    }))
    .bind(transitions.iter().map(|(_, next)| next.to.is_finished()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(_, next)| next.cause.as_deref()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(_, next)| next.detail.as_deref()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(_, next)| next.from.as_str()).collect::<Vec<_>>())
    .fetch_all(tx);
    Ok(statement("move_jobs", query).await?.into_iter().collect())
}
