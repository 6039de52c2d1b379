//! Workers' claims and reports. Every write is in one transaction with the job whose fence allows it.

use std::time::Duration;

use chassis::postgres::statement;
use chassis::telemetry;
use domain::generation::State;
use jobs::{Breaker, ClaimRequest, Lease, LeaseStatus, Reaped, Retry, Scope};
use sqlx::{FromRow as _, PgConnection, Row as _};
use uuid::Uuid;

use super::Store;
use super::change::{change, scene_copy};
use super::costs::record_cost;
use super::order_keys::give_keys;
use super::orders::record_usage;
use super::outputs::require_outputs;
use super::provider_calls::report_condition;
use super::rows::columns;
use super::transitions::{
    begin_attempts, by_number, clear_late_cancels, end_dead_letter, end_locked, find_waiting, lock_facts,
    mark_requeued, requeue,
};
use crate::error::Error;
use crate::model::{
    Basis, ClaimedWork, FailedAttempt, GENERATION_JOBS, Generation, OrderPhase, Output, ProgressReport, ReapedWork,
    Usage, WaitReason,
};
use crate::transitions::{
    AttemptEnd, AttemptOutcome, attempt_decided, attempt_failed, completed, cost_of, released, reportable,
};

/// How often a settlement is run when it conflicts with another transaction: a conflict has written nothing.
const MAX_TRIES: usize = 3;

impl Store {
    /// Whether a claim may find something.
    pub(crate) async fn any_work_due(&self) -> Result<bool, Error> {
        let run = async |connection: &mut PgConnection| jobs::any_due(connection, GENERATION_JOBS).await;
        Ok(self.pools.claim.run("any_work_due", run).await?)
    }

    /// Leases work to a worker: attempts, each with one of the worker's keys where its provider's have names, and polls that are due.
    pub(crate) async fn claim(&self, wanted: ClaimRequest<'_>, keys: &[String]) -> Result<Vec<ClaimedWork>, Error> {
        let run = async |tx: &mut PgConnection| {
            let leased = jobs::claim(tx, wanted).await?;
            if leased.is_empty() {
                return Ok(Vec::new());
            }
            let mut claimed = begin_attempts(tx, leased).await?;
            give_keys(tx, &mut claimed, keys).await?;
            Ok(claimed)
        };
        self.pools.claim.transaction("claim_work", run).await
    }

    /// Prolongs leases; says of each whether it is still held, and whether its generation is to be stopped.
    pub(crate) async fn heartbeat(&self, leases: &[Lease], lease: Duration) -> Result<Vec<LeaseStatus>, Error> {
        let run = async |tx: &mut PgConnection| {
            let mut statuses = jobs::heartbeat(tx, leases, lease).await?;
            clear_late_cancels(tx, &mut statuses).await?;
            Ok(statuses)
        };
        self.pools.finalize.transaction("heartbeat", run).await
    }

    /// Writes the progress of several generations in one statement; progress never falls. One status for each report.
    pub(crate) async fn write_progress(
        &self,
        reports: &[ProgressReport],
    ) -> Result<(Vec<LeaseStatus>, Vec<Generation>), Error> {
        let leases: Vec<Lease> = reports.iter().map(|report| report.lease).collect();
        let run = async |tx: &mut PgConnection| {
            let mut statuses = jobs::lock_leases(tx, &leases).await?;
            let mut rows = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (report, status) in reports.iter().zip(&statuses) {
                if let Some(held) = status.held {
                    rows.0.push(held.account);
                    rows.1.push(report.lease.job);
                    rows.2.push(report.percent);
                    rows.3.push(report.stage.as_str());
                }
            }
            // A report that changes nothing writes nothing: no version, no message, no row version for vacuum to collect.
            let query = sqlx::query_as(change!(
                "update generations g
                 set percent = report.percent, stage = report.stage, basis = $5, update_time = now(), version = g.version + 1
                 from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::text[]) as report (account_id, id, percent, stage)
                 where g.account_id = report.account_id and g.id = report.id and ($6::smallint[])[g.state] is not null
                   and report.percent >= g.percent and (report.percent, report.stage) <> (g.percent, g.stage)"
            ))
            .bind(rows.0)
            .bind(rows.1)
            .bind(rows.2)
            .bind(rows.3)
            .bind(Basis::Provider as i16)
            .bind(by_number(reportable));
            let generations = statement("report_progress", query.fetch_all(&mut *tx)).await?;
            clear_late_cancels(tx, &mut statuses).await?;
            Ok((statuses, generations))
        };
        self.pools.finalize.transaction("report_progress", run).await
    }

    /// Moves a generation to FINALIZING: from here on its work is delivered, cancelled or not.
    ///
    /// One statement is the whole transaction, so it costs one round trip: the lease is locked by its first step, before the generation.
    pub(crate) async fn begin_finalizing(&self, report: &ProgressReport) -> Result<Generation, Error> {
        let query = sqlx::query(concat!(
            "with held as materialized (",
            jobs::held_lease!(),
            "), changed as (
                 update generations g
                 set state = $6, wait_reason = 0, percent = greatest(g.percent, $3), stage = $4, basis = $7,
                     queue_position = 0, update_time = now(), version = g.version + 1
                 from held, set_config('rushes.traceparent', $8, true)
                 where g.account_id = held.account_id and g.id = $1 and g.state = any ($5)
                 returning g.*
             ), shown as (",
            scene_copy!(changed, "changed g"),
            ")
             select ",
            columns!(),
            " from held left join changed g on true"
        ))
        .bind(report.lease.job)
        .bind(report.lease.fence)
        .bind(report.percent)
        .bind(&report.stage)
        .bind(State::Finalizing.predecessors())
        .bind(State::Finalizing.number())
        .bind(Basis::Provider as i16)
        .bind(telemetry::traceparent().unwrap_or_default());
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        let row = self.pools.finalize.run("begin_finalizing", run).await?.ok_or(Error::StaleFence)?;
        let changed: Option<Uuid> = row.try_get("id").map_err(chassis::postgres::Error::from)?;
        changed.ok_or(Error::IllegalTransition { next: State::Finalizing })?;
        Ok(Generation::from_row(&row).map_err(chassis::postgres::Error::from)?)
    }

    /// Completes a generation, charges what was made, and releases the rest of the hold.
    pub(crate) async fn complete(&self, lease: Lease, outputs: &[Output], usage: &Usage) -> Result<Generation, Error> {
        for _ in 1..MAX_TRIES {
            match self.try_complete(lease, outputs, usage).await {
                Err(error) if error.is_conflict() => {}
                result => return result,
            }
        }
        self.try_complete(lease, outputs, usage).await
    }

    async fn try_complete(&self, lease: Lease, outputs: &[Output], usage: &Usage) -> Result<Generation, Error> {
        let run = async |tx: &mut PgConnection| complete_attempt(tx, lease, outputs, usage).await;
        self.pools.finalize.transaction("complete_work", run).await
    }

    /// Ends a failed attempt: the generation waits for the next one, or it ends and its hold is released. Returns whether there
    /// is another attempt.
    pub(crate) async fn fail(
        &self,
        lease: Lease,
        failed: &FailedAttempt,
    ) -> Result<(Generation, bool, Vec<Breaker>), Error> {
        for _ in 1..MAX_TRIES {
            match self.try_fail(lease, failed).await {
                Err(error) if error.is_conflict() => {}
                result => return result,
            }
        }
        self.try_fail(lease, failed).await
    }

    async fn try_fail(&self, lease: Lease, failed: &FailedAttempt) -> Result<(Generation, bool, Vec<Breaker>), Error> {
        let run = async |tx: &mut PgConnection| {
            let opened = if failed.outdated {
                jobs::pass_probe(tx, lease, &[Scope::Pool, Scope::Key, Scope::Queue]).await?;
                Vec::new()
            } else {
                report_condition(tx, lease, failed.condition, &failed.key, &failed.job.detail).await?
            };
            let (generation, again) = fail_attempt(tx, lease, failed).await?;
            Ok((generation, again, opened))
        };
        self.pools.finalize.transaction("fail_work", run).await
    }

    /// Takes a lease back that was not used.
    pub(crate) async fn release(&self, lease: Lease) -> Result<Option<Generation>, Error> {
        let run = async |tx: &mut PgConnection| release_attempt(tx, lease).await;
        self.pools.finalize.transaction("release_work", run).await
    }

    /// Takes expired leases back and ends dead-lettered generations.
    pub(crate) async fn reap(&self) -> Result<ReapedWork, Error> {
        let run = async |tx: &mut PgConnection| {
            let Reaped { requeued, dead_lettered } = jobs::reap(tx, GENERATION_JOBS).await?;
            let mut reaped = ReapedWork { ready: !requeued.is_empty(), ..ReapedWork::default() };
            if reaped.ready {
                reaped.waiting = find_waiting(tx, &requeued).await?;
                reaped.changed = mark_requeued(tx, requeued).await?;
            }
            for job in dead_lettered {
                reaped.changed.extend(end_dead_letter(tx, &job).await?);
            }
            Ok(reaped)
        };
        self.pools.reaper.transaction("reap_work", run).await
    }

    /// Sets the gauges of the queue.
    pub(crate) async fn observe_queue(&self) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| Ok(jobs::observe(tx, GENERATION_JOBS).await?);
        self.pools.read.without_transaction("observe_jobs", run).await
    }
}

/// Ends a generation and its job well.
pub(super) async fn complete_attempt(
    tx: &mut PgConnection,
    lease: Lease,
    outputs: &[Output],
    usage: &Usage,
) -> Result<Generation, Error> {
    let held = jobs::complete(tx, lease).await?;
    let outputs = require_outputs(tx, held.account, outputs).await?;
    let terms = record_usage(tx, held.account, lease.job, usage).await?;
    let generation = end_locked(tx, held.account, lease.job, &completed(&outputs, &terms, usage.run_ms)).await?;
    if let Some(cost) = cost_of(&generation.model, &outputs, &terms, usage) {
        record_cost(tx, &cost).await?;
    }
    Ok(generation)
}

/// Ends a failed attempt, for the job and for its generation.
pub(super) async fn fail_attempt(
    tx: &mut PgConnection,
    lease: Lease,
    failed: &FailedAttempt,
) -> Result<(Generation, bool), Error> {
    let held = jobs::lock_lease(tx, lease).await?;
    let (account, id) = (held.account, lease.job);
    let facts = lock_facts(tx, account, id).await?;
    let (mut failure, throttle) = match attempt_failed(&facts, held.cancel_requested, failed) {
        AttemptOutcome::Stopped(stopped) => {
            jobs::cancel(tx, lease).await?;
            return Ok((end_locked(tx, account, id, &stopped).await?, false));
        }
        AttemptOutcome::Failed { job, throttle } => (job, throttle),
    };
    if let Some(after) = throttle {
        if !failed.key.is_empty() && jobs::throttle_key(tx, GENERATION_JOBS, &failed.key, after).await? {
            // Another key takes it now: the pause is that key's alone.
            failure.retry = Retry::Uncounted { after: None };
        } else {
            // Before the job's attempt ends: it still counts as running in its pool.
            jobs::throttle_pool(tx, lease, Some(after)).await?;
        }
    }
    let decision = jobs::fail(tx, lease, &failure).await?;
    match attempt_decided(decision, &facts, failed) {
        AttemptEnd::Requeue(wait) => Ok((requeue(tx, account, id, wait).await?, true)),
        AttemptEnd::End(decided) => Ok((end_locked(tx, account, id, &decided).await?, false)),
    }
}

/// Gives a lease back, for the job and for its generation.
pub(super) async fn release_attempt(tx: &mut PgConnection, lease: Lease) -> Result<Option<Generation>, Error> {
    let held = jobs::release(tx, lease).await?;
    // The join leaves a job alone that the release did not put back into the queue: a poll's, which waits again.
    let query = sqlx::query_as(change!(
        "update generations g
         set state = case when exists (
                 select from provider_calls p where p.generation_id = g.id and p.phase <> 'over'
             ) then ($5::smallint[])[g.state] else ($4::smallint[])[g.state] end,
             wait_reason = $3, update_time = now(), version = g.version + 1
         from jobs j
         where g.account_id = $1 and g.id = $2 and j.id = g.id and j.state = 'queued'
           and ($4::smallint[])[g.state] is not null"
    ))
    .bind(held.account)
    .bind(lease.job)
    .bind(WaitReason::Capacity as i16)
    .bind(by_number(|state| released(state, None)))
    .bind(by_number(|state| released(state, Some(OrderPhase::Known))));
    Ok(statement("release_generation", query.fetch_optional(&mut *tx)).await?)
}
