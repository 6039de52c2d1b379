//! What puts right what workers left behind: leases that ran out, and jobs that nobody took in time.
//!
//! Every process of a service sweeps every five seconds; sweepers skip each other's rows. With leases of 30 s that brings
//! a killed worker's job back within 36 s. Each finding is counted.

use chassis::postgres::statement;
use metrics::counter;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Error;

/// So many leases that ran out one after another make a dead letter: the job kills its workers.
pub const LEASES_IN_ROW: i32 = 3;

/// At most this many jobs in one reap, so that its transaction stays short.
const BATCH: i64 = 500;

/// A job that a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettered {
    /// The job.
    pub job: Uuid,
    /// Whose it was.
    pub account: Uuid,
    /// `LEASE_EXPIRED`, `ATTEMPTS_EXHAUSTED` or `START_DEADLINE`.
    pub cause: String,
    /// How many attempts there were.
    pub attempts: i32,
}

/// A sweep's findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Jobs that are in the queue again, or due for another poll: their workers are gone.
    pub requeued: Vec<Uuid>,
    /// Jobs that ended. What they were about is to be ended in the same transaction.
    pub dead_lettered: Vec<DeadLettered>,
}

/// Takes back the leases of a kind that ran out, and ends what nobody took by its deadline.
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
    .bind(LEASES_IN_ROW)
    .bind(BATCH)
    .fetch_all(tx);
    let mut reaped = Reaped::default();
    for row in statement("reap_jobs", query).await? {
        let alive = matches!(row.state.as_str(), "queued" | "waiting");
        let outcome = if alive { "requeued" } else { "dead_lettered" };
        tracing::warn!(job = %row.id, kind, cause = row.cause, attempt = row.attempt, outcome, "reaped a job");
        counter!("rushes_jobs_reaped_total", "kind" => kind, "outcome" => outcome, "cause" => row.cause.clone())
            .increment(1);
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
