//! The reaper: takes back leases that ran out, and ends jobs that nobody claimed in time.
//!
//! Every process of a service reaps every five seconds, and skips the rows that another is reaping. With leases of 30 s a killed
//! worker's job is claimable again within 36 s. Each job found is counted.

use chassis::postgres::statement;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::state::{Cause, State};
use crate::transitions::{FactsRow, apply};
use crate::{Error, Lease, metrics, rules};

/// At most this many jobs of each sort in one reap, so that its transaction stays short.
const BATCH: i64 = 500;

/// A job that a reap made a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettered {
    /// The job.
    pub job: Uuid,
    /// Its account.
    pub account: Uuid,
    /// [`Cause::LeaseExpired`], [`Cause::AttemptsExhausted`] or [`Cause::StartDeadline`].
    pub cause: Cause,
    /// How many attempts there were.
    pub attempts: i32,
}

/// What a reap did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Jobs that are queued again, or due for another poll: their workers are gone.
    pub requeued: Vec<Uuid>,
    /// Jobs that became dead letters. Their caller ends what they were about in the same transaction.
    pub dead_lettered: Vec<DeadLettered>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    fence: i64,
    account_id: Uuid,
    leased: bool,
    #[sqlx(flatten)]
    facts: FactsRow,
}

/// Takes back the leases of a kind that ran out, and ends what nobody claimed by its start deadline.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn reap(tx: &mut PgConnection, kind: &'static str) -> Result<Reaped, Error> {
    let query = sqlx::query_as::<_, Row>(
        "with expired as materialized (
             -- Leases are few, as many as workers have slots, so that all of them are read.
             select * from jobs
             where kind = $1 and state = 'leased' and lease_until < now()
             limit $2
             for update skip locked
         ), overdue as materialized (
             select * from jobs
             where kind = $1 and state = 'queued' and deadline_at <= now()
             limit $2
             for update skip locked
         )
         select id, fence, account_id, state = 'leased' as leased,
                polling, elsewhere, attempt, max_attempts, claims, expired_in_row, worker, cause, last_error
         from (select * from expired union all select * from overdue) found",
    )
    .bind(kind)
    .bind(BATCH)
    .fetch_all(&mut *tx);
    let mut decided = Vec::new();
    let mut transitions = Vec::new();
    for row in statement("find_reapable_jobs", query).await? {
        let facts = row.facts.into();
        let (next, cause) =
            if row.leased { rules::lease_expired(&facts) } else { rules::start_deadline_passed(&facts) };
        decided.push((next.to, DeadLettered { job: row.id, account: row.account_id, cause, attempts: next.attempt }));
        transitions.push((Lease { job: row.id, fence: row.fence }, next));
    }
    // Most reaps find nothing, and end here with one statement.
    if transitions.is_empty() {
        return Ok(Reaped::default());
    }
    let moved = apply(tx, &transitions).await?;
    let mut reaped = Reaped::default();
    for (to, job) in decided.into_iter().filter(|(_, job)| moved.contains_key(&job.job)) {
        let outcome = if to == State::Dead { "dead_lettered" } else { "requeued" };
        let (cause, attempt) = (job.cause.as_str(), job.attempts);
        // What it means, and whether somebody should look into it, is the event of whoever owns the job, after the commit.
        tracing::debug!(job = %job.job, kind, cause, attempt, outcome, "reaped a job");
        metrics::job_reaped(kind, outcome, cause);
        match to {
            State::Dead => reaped.dead_lettered.push(job),
            _ => reaped.requeued.push(job.job),
        }
    }
    Ok(reaped)
}
