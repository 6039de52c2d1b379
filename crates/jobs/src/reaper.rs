//! The reaper: takes back leases that ran out, and ends jobs that nobody claimed in time.
//!
//! Every process of a service reaps every five seconds, and skips the rows that another is reaping. With leases of 30 s a killed
//! worker's job is claimable again within 36 s. Each job found is counted.

use chassis::postgres::statement;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Error, metrics};

/// So many leases that ran out one after another make a dead letter: the job kills its workers.
pub const MAX_EXPIRED_IN_ROW: i32 = 3;

/// At most this many jobs of each sort in one reap, so that its transaction stays short.
const BATCH: i64 = 500;

/// A job that a reap ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettered {
    /// The job.
    pub job: Uuid,
    /// Its account.
    pub account: Uuid,
    /// `LEASE_EXPIRED`, `ATTEMPTS_EXHAUSTED` or `START_DEADLINE`.
    pub cause: String,
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

/// Takes back the leases of a kind that ran out, and ends what nobody claimed by its start deadline.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn reap(tx: &mut PgConnection, kind: &'static str) -> Result<Reaped, Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        id: Uuid,
        account_id: Uuid,
        state: String,
        cause: String,
        attempt: i32,
    }
    let query = sqlx::query_as::<_, Row>(
        "with expired as materialized (
             select id from jobs
             where kind = $1 and state = 'leased' and lease_until < now()
             limit $3
             for update skip locked
         ), overdue as materialized (
             select id from jobs
             where kind = $1 and state = 'queued' and deadline_at <= now()
             limit $3
             for update skip locked
         )
         update jobs
         set state = case when jobs.state = 'queued' then 'dead'
                          when jobs.expired_in_row + 1 >= $2 then 'dead'
                          when jobs.polling then 'waiting'
                          when jobs.attempt >= jobs.max_attempts then 'dead'
                          else 'queued' end,
             cause = case when jobs.state = 'queued' then 'START_DEADLINE'
                          when jobs.expired_in_row + 1 >= $2 or jobs.polling then 'LEASE_EXPIRED'
                          when jobs.attempt >= jobs.max_attempts then 'ATTEMPTS_EXHAUSTED'
                          else 'LEASE_EXPIRED' end,
             last_error = case when jobs.state = 'leased' then 'the lease of ' || coalesce(jobs.worker, '?') || ' ran out' end,
             finished_at = case when jobs.state = 'queued' or jobs.expired_in_row + 1 >= $2
                                     or (jobs.attempt >= jobs.max_attempts and not jobs.polling) then now() end,
             run_at = case when jobs.state = 'leased' then now() else jobs.run_at end,
             expired_in_row = case when jobs.state = 'leased' then jobs.expired_in_row + 1 else jobs.expired_in_row end,
             lease_until = null, polling = false
         from (select id from expired union all select id from overdue) found
         where jobs.id = found.id
         returning jobs.id, jobs.account_id, jobs.state, jobs.cause, jobs.attempt",
    )
    .bind(kind)
    .bind(MAX_EXPIRED_IN_ROW)
    .bind(BATCH)
    .fetch_all(tx);
    let mut reaped = Reaped::default();
    for row in statement("reap_jobs", query).await? {
        let alive = matches!(row.state.as_str(), "queued" | "waiting");
        let outcome = if alive { "requeued" } else { "dead_lettered" };
        tracing::warn!(job = %row.id, kind, cause = row.cause, attempt = row.attempt, outcome, "reaped a job");
        metrics::job_reaped(kind, outcome, row.cause.clone());
        if alive {
            reaped.requeued.push(row.id);
        } else {
            reaped.dead_lettered.push(DeadLettered {
                job: row.id,
                account: row.account_id,
                cause: row.cause,
                attempts: row.attempt,
            });
        }
    }
    Ok(reaped)
}
