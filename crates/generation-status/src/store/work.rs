//! Workers' claims and reports. Every write is in one transaction with the job whose fence allows it.

use std::time::Duration;

use chassis::postgres::statement;
use domain::generation::State;
use domain::money::Micros;
use jobs::{ClaimRequest, Lease, LeaseStatus, Reaped, RetryDecision};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::change::{change, settle};
use super::outputs::require_output;
use super::rows::StoredOutput;
use super::transitions::{
    End, begin_attempts, clear_late_cancels, end, end_dead_letter, end_of_stopped, lock, mark_requeued, requeue,
};
use super::{Store, ledger_ids};
use crate::error::Error;
use crate::model::{ClaimedWork, FailedAttempt, GENERATION_JOBS, Generation, Output, ProgressReport, WaitReason};

/// How often a settlement is run when it conflicts with another transaction: a conflict has written nothing.
const MAX_TRIES: usize = 3;

impl Store {
    /// Leases work to a worker: attempts, and polls that are due.
    pub(crate) async fn claim(&self, wanted: ClaimRequest<'_>) -> Result<Vec<ClaimedWork>, Error> {
        let run = async |tx: &mut PgConnection| {
            let leased = jobs::claim(tx, wanted).await?;
            if leased.is_empty() { Ok(Vec::new()) } else { begin_attempts(tx, leased).await }
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
                 set percent = report.percent, stage = report.stage, basis = 1, update_time = now(), version = g.version + 1
                 from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::text[]) as report (account_id, id, percent, stage)
                 where g.account_id = report.account_id and g.id = report.id and g.state between 2 and 5
                   and report.percent >= g.percent and (report.percent, report.stage) <> (g.percent, g.stage)"
            ))
            .bind(rows.0)
            .bind(rows.1)
            .bind(rows.2)
            .bind(rows.3);
            let generations = statement("report_progress", query.fetch_all(&mut *tx)).await?;
            clear_late_cancels(tx, &mut statuses).await?;
            Ok((statuses, generations))
        };
        self.pools.finalize.transaction("report_progress", run).await
    }

    /// Moves a generation to FINALIZING: from here on its work is delivered, cancelled or not.
    pub(crate) async fn begin_finalizing(&self, report: &ProgressReport) -> Result<Generation, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::lock_lease(tx, report.lease).await?;
            let query = sqlx::query_as(change!(
                "update generations g
                 set state = 4, wait_reason = 0, percent = greatest(g.percent, $3), stage = $4, basis = 1,
                     queue_position = 0, update_time = now(), version = g.version + 1
                 where g.account_id = $1 and g.id = $2 and g.state = any ($5)"
            ))
            .bind(held.account)
            .bind(report.lease.job)
            .bind(report.percent)
            .bind(&report.stage)
            .bind(State::Finalizing.predecessors());
            statement("begin_finalizing", query.fetch_optional(&mut *tx))
                .await?
                .ok_or(Error::IllegalTransition { next: State::Finalizing })
        };
        self.pools.finalize.transaction("begin_finalizing", run).await
    }

    /// Completes a generation, charges its cost, and releases the rest of the hold.
    pub(crate) async fn complete(&self, lease: Lease, output: &Output, cost: Micros) -> Result<Generation, Error> {
        for _ in 1..MAX_TRIES {
            match self.try_complete(lease, output, cost).await {
                Err(error) if error.is_conflict() => {}
                result => return result,
            }
        }
        self.try_complete(lease, output, cost).await
    }

    async fn try_complete(&self, lease: Lease, output: &Output, cost: Micros) -> Result<Generation, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::complete(tx, lease).await?;
            require_output(tx, held.account, output).await?;
            let query = sqlx::query_as(settle!(
                "update generations g
                     set state = 6, wait_reason = 0, percent = 100, stage = '', queue_position = 0, provider_charge = 2, output = $4, thumbnail = $5,
                         captured_micros = $6, released_micros = g.held_micros - $6,
                         end_time = now(), update_time = now(), version = g.version + 1
                     where g.account_id = $2 and g.id = $3 and g.state = any ($7) and g.held_micros >= $6"
            ))
            .bind(ledger_ids())
            .bind(held.account)
            .bind(lease.job)
            .bind(Json(StoredOutput::from(output)))
            .bind(output.poster_key())
            .bind(cost.get())
            .bind(State::Completed.predecessors());
            statement("complete_generation", query.fetch_optional(&mut *tx))
                .await?
                .ok_or(Error::IllegalTransition { next: State::Completed })
        };
        self.pools.finalize.transaction("complete_work", run).await
    }

    /// Ends a failed attempt: the generation waits for the next one, or it ends and its hold is released. Returns whether there
    /// is another attempt.
    pub(crate) async fn fail(&self, lease: Lease, failed: &FailedAttempt) -> Result<(Generation, bool), Error> {
        for _ in 1..MAX_TRIES {
            match self.try_fail(lease, failed).await {
                Err(error) if error.is_conflict() => {}
                result => return result,
            }
        }
        self.try_fail(lease, failed).await
    }

    async fn try_fail(&self, lease: Lease, failed: &FailedAttempt) -> Result<(Generation, bool), Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::lock_lease(tx, lease).await?;
            let state = lock(tx, held, lease.job).await?;
            let provider_charge = failed.provider_charge;
            if state == State::Cancelling.number() {
                let (state, failure) = end_of_stopped(tx, held, lease.job).await?;
                jobs::cancel(tx, lease).await?;
                return Ok((
                    end(tx, held, lease.job, End { state, failure: failure.as_ref(), provider_charge }).await?,
                    false,
                ));
            }
            let mut job_failure = failed.job.clone();
            if held.cancel_requested && state == State::Finalizing.number() {
                // It was to be stopped and went on only because its output was done: there is no retry of what nobody wants.
                job_failure.retry = jobs::Retry::Never;
            }
            if failed.wait_reason == WaitReason::ProviderThrottled
                && let jobs::Retry::Uncounted { after } = job_failure.retry
            {
                jobs::throttle_pool(tx, lease, after).await?;
            }
            match jobs::fail(tx, lease, &job_failure).await? {
                RetryDecision::Retry(_) => Ok((requeue(tx, held, lease.job, failed.wait_reason).await?, true)),
                RetryDecision::Failed | RetryDecision::Dead => {
                    let over = End { state: State::Failed, failure: Some(&failed.failure), provider_charge };
                    Ok((end(tx, held, lease.job, over).await?, false))
                }
            }
        };
        self.pools.finalize.transaction("fail_work", run).await
    }

    /// Takes a lease back that was not used.
    pub(crate) async fn release(&self, lease: Lease) -> Result<Option<Generation>, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::release(tx, lease).await?;
            // Without an order SUBMITTING goes back to QUEUED; with one the state says truthfully that the provider has it. The
            // join leaves a job alone that the release did not put back into the queue.
            let query = sqlx::query_as(change!(
                "update generations g
                 set state = case when g.state = 2 and not exists (
                         select from provider_calls p where p.generation_id = g.id and p.phase <> 'over'
                     ) then 1 else g.state end,
                     wait_reason = $3, update_time = now(), version = g.version + 1
                 from jobs j
                 where g.account_id = $1 and g.id = $2 and g.state between 2 and 5 and j.id = g.id and j.state = 'queued'"
            ))
            .bind(held.account)
            .bind(lease.job)
            .bind(WaitReason::Capacity as i16);
            Ok(statement("release_generation", query.fetch_optional(&mut *tx)).await?)
        };
        self.pools.finalize.transaction("release_work", run).await
    }

    /// Takes expired leases back and ends dead-lettered generations; returns what changed, and whether work is ready.
    pub(crate) async fn reap(&self) -> Result<(Vec<Generation>, bool), Error> {
        let run = async |tx: &mut PgConnection| {
            let Reaped { requeued, dead_lettered } = jobs::reap(tx, GENERATION_JOBS).await?;
            let ready = !requeued.is_empty();
            let mut changed = if ready { mark_requeued(tx, requeued).await? } else { Vec::new() };
            for job in dead_lettered {
                changed.extend(end_dead_letter(tx, &job).await?);
            }
            Ok((changed, ready))
        };
        self.pools.reaper.transaction("reap_work", run).await
    }

    /// Sets the gauges of the queue.
    pub(crate) async fn observe_queue(&self) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| Ok(jobs::observe(tx, GENERATION_JOBS).await?);
        self.pools.read.transaction("observe_jobs", run).await
    }
}
