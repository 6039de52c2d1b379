//! The invariants of the tables, each as a statement that finds violations, and the repairs.
//!
//! Invariant: every transaction keeps the rows that a statement compares consistent, and a statement reads one snapshot, so that
//! a finding is a violation and never a change in progress. Where time must pass first, the statement says how much.

use std::time::Duration;

use chassis::postgres::statement;
use domain::generation::State;
use domain::id::{AccountId, GenerationId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::transitions::{end_locked, lock_facts};
use crate::error::Error;
use crate::model::{Generation, Violation};
use crate::transitions::job_lost;

/// The repair of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Nothing here: the reaper repairs it, and that it was found means that the reaper is late.
    Reaper,
    /// Workers are notified.
    Notify,
    /// The generation ends and its hold is released.
    End,
    /// The generation is cancelled, as its user would cancel it.
    Cancel,
    /// A person must look: a repair would have to guess about money or history.
    None,
}

/// An invariant of the tables.
pub(crate) struct Invariant {
    /// Its name in metrics and logs.
    pub(crate) name: &'static str,
    pub(crate) repair: Repair,
    /// Returns account and id of each violation, at most 100.
    sql: &'static str,
}

/// Every invariant, in the order of the documentation.
pub(crate) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "lease_expired",
        repair: Repair::Reaper,
        sql: "select account_id, id from jobs
              where kind = 'generation' and state = 'leased' and lease_until < now() - interval '15 s' limit 100",
    },
    Invariant {
        name: "poll_overdue",
        repair: Repair::Notify,
        sql: "select account_id, id from jobs
              where kind = 'generation' and state = 'waiting' and run_at < now() - interval '1 min' limit 100",
    },
    Invariant {
        name: "unconfirmed_overdue",
        repair: Repair::Reaper,
        sql: "select account_id, id from generations
              where end_time is null and state in (2 /* SUBMITTING */, 5 /* CANCELLING */)
                and wait_reason = 7 /* SUBMISSION_UNCONFIRMED */ and total_deadline < now() - interval '1 min' limit 100",
    },
    Invariant {
        name: "open_without_job",
        repair: Repair::End,
        sql: "select g.account_id, g.id from generations g
              left join jobs j on j.id = g.id and j.state in ('queued', 'leased', 'waiting')
              where g.end_time is null and j.id is null limit 100",
    },
    Invariant {
        name: "job_without_generation",
        repair: Repair::Notify,
        sql: "select j.account_id, j.id from jobs j left join generations g on g.id = j.id and g.end_time is null
              where j.kind = 'generation' and j.state in ('leased', 'waiting') and g.id is null limit 100",
    },
    Invariant {
        name: "open_below_deleted",
        repair: Repair::Cancel,
        // What is being delivered or was asked to stop is left to its end. Another deletion of the account, still to be carried out, may
        // be of the same generation.
        sql: "select g.account_id, g.id
              from jobs d join generations g
                  on g.account_id = d.account_id and g.end_time is null and g.state in (1 /* QUEUED */, 2 /* SUBMITTING */, 3 /* PROCESSING */)
                     and d.payload in (convert_to('projects/' || g.project_id, 'UTF8'),
                                       convert_to('projects/' || g.project_id || '/scenes/' || g.scene_id, 'UTF8'))
              where d.kind = 'delete-generations' and d.state = 'dead'
                and not exists (
                    select from jobs l
                    where l.kind = d.kind and l.account_id = d.account_id and l.state in ('queued', 'leased', 'waiting'))
              limit 100",
    },
    Invariant {
        name: "terminal_unsettled",
        repair: Repair::None,
        sql: "select g.account_id, g.id from generations g
              where g.end_time > now() - interval '1 hour' and g.held_micros > 0
                and not exists (
                    select from ledger l
                    where l.generation_id = g.id and l.entry in ('capture', 'release') and l.book = 'held')
              limit 100",
    },
    Invariant {
        name: "hold_without_open",
        repair: Repair::None,
        sql: "select c.account_id, c.account_id from credit_accounts c
              left join (select account_id, sum(held_micros) as micros from generations where end_time is null group by account_id) g
                  on g.account_id = c.account_id
              where c.held_micros <> coalesce(g.micros, 0) limit 100",
    },
    Invariant {
        name: "ledger_unbalanced",
        repair: Repair::None,
        // The lines of the last hour, found by the times in their ids through the primary key, and their whole entries. Each kind of
        // entry is joined by itself, through the index of its own id: with both in one condition each line of an account would be
        // compared with each other one.
        sql: "with recent as materialized (
                  select account_id, generation_id, request_id from ledger
                  where id >= (lpad(to_hex((extract(epoch from now() - interval '1 hour') * 1000)::bigint), 12, '0')
                               || repeat('0', 20))::uuid
              ), entries as (
                  select l.account_id, l.generation_id, l.request_id, l.entry, l.amount_micros
                  from (select distinct account_id, generation_id from recent where generation_id is not null) r
                  join ledger l on l.generation_id = r.generation_id and l.account_id = r.account_id
                  union all
                  select l.account_id, l.generation_id, l.request_id, l.entry, l.amount_micros
                  from (select distinct account_id, request_id from recent where generation_id is null) r
                  join ledger l on l.account_id = r.account_id and l.request_id = r.request_id and l.generation_id is null
              )
              select account_id, coalesce(generation_id, request_id, account_id) from entries
              group by account_id, generation_id, request_id, entry having sum(amount_micros) <> 0 limit 100",
    },
];

impl Store {
    /// The violations of an invariant.
    pub(crate) async fn violations(&self, invariant: &Invariant) -> Result<Vec<Violation>, Error> {
        let query = sqlx::query_as::<_, (Uuid, Uuid)>(invariant.sql);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.reaper.run(invariant.name, run).await?;
        Ok(rows.into_iter().map(|(account, id)| Violation::new(account, id)).collect())
    }

    /// Ends a generation that has no live job. `None` when it has one after all.
    pub(crate) async fn end_without_job(
        &self,
        account: AccountId,
        id: GenerationId,
    ) -> Result<Option<Generation>, Error> {
        let run = async |tx: &mut PgConnection| end_jobless(tx, account.0, id.0).await;
        self.pools.reaper.transaction("end_without_job", run).await
    }

    /// Deletes jobs that ended long ago, of up to `limit` after `after`.
    pub(crate) async fn delete_ended_jobs(
        &self,
        kinds: &[(&str, Duration)],
        after: Uuid,
        limit: u32,
    ) -> Result<jobs::Retained, Error> {
        let run = async |tx: &mut PgConnection| Ok::<_, Error>(jobs::delete_ended(tx, kinds, after, limit).await?);
        self.pools.reaper.transaction("delete_ended_jobs", run).await
    }

    /// Measures how long each model's last generations took, and deletes old events of providers.
    pub(crate) async fn run_housekeeping(&self) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            // Without a fifth sample the percentiles would be one or two generations' luck.
            let query = sqlx::query(
                "insert into model_paces (model, p50, p80, samples)
                 select model, percentile_cont(0.5) within group (order by end_time - start_time),
                        percentile_cont(0.8) within group (order by end_time - start_time), count(*)
                 from (
                     select model, start_time, end_time from generations
                     where state = $1 and start_time < end_time
                     order by end_time desc limit 1000
                 ) last
                 group by model having count(*) >= 5
                 on conflict (model) do update
                     set p50 = excluded.p50, p80 = excluded.p80, samples = excluded.samples, update_time = now()",
            )
            .bind(State::Completed.number());
            statement("measure_paces", query.execute(&mut *tx)).await?;
            let query = sqlx::query("delete from provider_events where receive_time < now() - interval '1 hour'");
            statement("delete_provider_events", query.execute(&mut *tx)).await?;
            Ok(())
        };
        self.pools.reaper.transaction("housekeeping", run).await
    }
}

/// Ends a generation that no job will carry out.
pub(super) async fn end_jobless(tx: &mut PgConnection, account: Uuid, id: Uuid) -> Result<Option<Generation>, Error> {
    let query =
        sqlx::query_scalar::<_, String>("select state from jobs where id = $1 and account_id = $2 for no key update")
            .bind(id)
            .bind(account);
    let job = statement("lock_job", query.fetch_optional(&mut *tx)).await?;
    // A state that this build does not know is of a job that another build carries out.
    let Ok(job) = job.map(jobs::State::try_from).transpose() else { return Ok(None) };
    let facts = lock_facts(tx, account, id).await?;
    match job_lost(&facts, job) {
        Some(decided) => end_locked(tx, account, id, &decided).await.map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
