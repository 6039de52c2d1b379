//! What workers do to generations. Every write stands in one transaction with the job whose fence allows it.

use std::time::Duration;

use chassis::postgres::statement;
use domain::generation::State;
use domain::money::Micros;
use jobs::{ClaimRequest, Failure, Lease, LeaseStatus, Leased, Reaped, RetryDecision};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::change::{change, settle};
use super::row::StoredOutput;
use super::steps::{End, claimed, end, end_dead_letter, lock, requeue, still_to_stop, stopped_by, stranded};
use super::{KIND, Store, ledger_ids};
use crate::error::Error;
use crate::record::{Flaw, Output, ProviderCharge, Record, Wait};

/// How often a settlement is run when it gets into another's way: nothing was written then, and no worker need know.
const TRIES: usize = 3;

/// A generation with the lease that was given on it.
pub(crate) struct Claimed {
    pub(crate) leased: Leased,
    pub(crate) record: Record,
    /// The provider's reference of an order that is still good.
    pub(crate) reference: Option<String>,
    /// An intent was committed and no reference: the provider may have the order.
    pub(crate) in_doubt: bool,
}

/// How far a generation has come.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) lease: Lease,
    pub(crate) percent: i16,
    pub(crate) stage: String,
}

/// How a failed attempt is taken.
pub(crate) struct Stopped {
    /// For the job.
    pub(crate) failure: Failure,
    /// For the generation's user, should it have been the last attempt.
    pub(crate) flaw: Flaw,
    /// Why it waits, should there be another attempt.
    pub(crate) wait: Wait,
    /// What the worker knows of the provider's charge.
    pub(crate) provider_charge: Option<ProviderCharge>,
}

impl Store {
    /// Leases work to a worker: attempts, and polls that are due.
    pub(crate) async fn claim(&self, wanted: ClaimRequest<'_>) -> Result<Vec<Claimed>, Error> {
        let run = async |tx: &mut PgConnection| {
            let leased = jobs::claim(tx, wanted).await?;
            if leased.is_empty() { Ok(Vec::new()) } else { claimed(tx, leased).await }
        };
        self.pools.claim.transaction("claim_work", run).await
    }

    /// Prolongs leases; says of each whether it is still held, and whether its generation is to be stopped.
    pub(crate) async fn heartbeat(&self, leases: &[Lease], lease: Duration) -> Result<Vec<LeaseStatus>, Error> {
        let run = async |tx: &mut PgConnection| {
            let mut statuses = jobs::heartbeat(tx, leases, lease).await?;
            still_to_stop(tx, &mut statuses).await?;
            Ok(statuses)
        };
        self.pools.finalize.transaction("heartbeat", run).await
    }

    /// Writes how far several generations have come, in one statement; never backwards. One status for each step.
    pub(crate) async fn progress(&self, steps: &[Step]) -> Result<(Vec<LeaseStatus>, Vec<Record>), Error> {
        let leases: Vec<Lease> = steps.iter().map(|step| step.lease).collect();
        let run = async |tx: &mut PgConnection| {
            let mut statuses = jobs::lock_leases(tx, &leases).await?;
            let mut rows = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (step, status) in steps.iter().zip(&statuses) {
                if let Some(held) = status.held {
                    rows.0.push(held.account);
                    rows.1.push(step.lease.job);
                    rows.2.push(step.percent);
                    rows.3.push(step.stage.as_str());
                }
            }
            let query = sqlx::query_as(change!(
                "update generations g
                 set percent = step.percent, stage = step.stage, basis = 1, update_time = now(), version = g.version + 1
                 from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::text[]) as step (account_id, id, percent, stage)
                 where g.account_id = step.account_id and g.id = step.id and g.state between 2 and 5
                   and step.percent >= g.percent and (step.percent, step.stage) <> (g.percent, g.stage)"
            ))
            .bind(rows.0)
            .bind(rows.1)
            .bind(rows.2)
            .bind(rows.3);
            let records = statement("report_progress", query.fetch_all(&mut *tx)).await?;
            still_to_stop(tx, &mut statuses).await?;
            Ok((statuses, records))
        };
        self.pools.finalize.transaction("report_progress", run).await
    }

    /// The provider is done: from here on the work is delivered, cancelled or not.
    pub(crate) async fn finalizing(&self, step: &Step) -> Result<Record, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::lock_lease(tx, step.lease).await?;
            let query = sqlx::query_as(change!(
                "update generations g
                 set state = 4, wait_reason = 0, percent = greatest(g.percent, $3), stage = $4, basis = 1,
                     queue_position = 0, update_time = now(), version = g.version + 1
                 where g.account_id = $1 and g.id = $2 and g.state = any ($5)"
            ))
            .bind(held.account)
            .bind(step.lease.job)
            .bind(step.percent)
            .bind(&step.stage)
            .bind(State::Finalizing.predecessors());
            statement("begin_finalizing", query.fetch_optional(&mut *tx))
                .await?
                .ok_or(Error::IllegalTransition { next: State::Finalizing })
        };
        self.pools.finalize.transaction("begin_finalizing", run).await
    }

    /// The bytes are ours: the generation completes, its cost is charged, and the rest of the hold goes back.
    pub(crate) async fn complete(&self, lease: Lease, output: &Output, cost: Micros) -> Result<Record, Error> {
        for _ in 1..TRIES {
            match self.try_complete(lease, output, cost).await {
                Err(error) if error.is_conflict() => {}
                result => return result,
            }
        }
        self.try_complete(lease, output, cost).await
    }

    async fn try_complete(&self, lease: Lease, output: &Output, cost: Micros) -> Result<Record, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::complete(tx, lease).await?;
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
            .bind(output.poster_blob())
            .bind(cost.get())
            .bind(State::Completed.predecessors());
            statement("complete_generation", query.fetch_optional(&mut *tx))
                .await?
                .ok_or(Error::IllegalTransition { next: State::Completed })
        };
        self.pools.finalize.transaction("complete_work", run).await
    }

    /// An attempt failed: it waits for the next one, or it is over and the hold goes back. Says whether it goes on.
    pub(crate) async fn fail(&self, lease: Lease, stopped: &Stopped) -> Result<(Record, bool), Error> {
        for _ in 1..TRIES {
            match self.try_fail(lease, stopped).await {
                Err(error) if error.is_conflict() => {}
                result => return result,
            }
        }
        self.try_fail(lease, stopped).await
    }

    async fn try_fail(&self, lease: Lease, stopped: &Stopped) -> Result<(Record, bool), Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::lock_lease(tx, lease).await?;
            let state = lock(tx, held, lease.job).await?;
            let provider_charge = stopped.provider_charge;
            if state == State::Cancelling.number() {
                let (state, flaw) = stopped_by(tx, held, lease.job).await?;
                jobs::cancel(tx, lease).await?;
                return Ok((
                    end(tx, held, lease.job, End { state, flaw: flaw.as_ref(), provider_charge }).await?,
                    false,
                ));
            }
            let mut failure = stopped.failure.clone();
            if held.cancel_requested && state == State::Finalizing.number() {
                // It was to be stopped, and only goes on because it was done: no second try for what nobody wants.
                failure.retry = jobs::Retry::Never;
            }
            if stopped.wait == Wait::ProviderThrottled
                && let jobs::Retry::Uncounted { after } = failure.retry
            {
                jobs::throttle_pool(tx, lease, after).await?;
            }
            match jobs::fail(tx, lease, &failure).await? {
                RetryDecision::Retry(_) => Ok((requeue(tx, held, lease.job, stopped.wait).await?, true)),
                RetryDecision::Failed | RetryDecision::Dead => {
                    let over = End { state: State::Failed, flaw: Some(&stopped.flaw), provider_charge };
                    Ok((end(tx, held, lease.job, over).await?, false))
                }
            }
        };
        self.pools.finalize.transaction("fail_work", run).await
    }

    /// A lease is given back unused.
    pub(crate) async fn release(&self, lease: Lease) -> Result<Option<Record>, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::release(tx, lease).await?;
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
            .bind(Wait::Capacity as i16);
            Ok(statement("release_generation", query.fetch_optional(&mut *tx)).await?)
        };
        self.pools.finalize.transaction("release_work", run).await
    }

    /// Takes back leases that ran out and ends what is past saving; returns what changed, and whether work is ready.
    pub(crate) async fn sweep(&self) -> Result<(Vec<Record>, bool), Error> {
        let run = async |tx: &mut PgConnection| {
            let Reaped { requeued, dead_lettered } = jobs::reap(tx, KIND).await?;
            let ready = !requeued.is_empty();
            let mut changed = if ready { stranded(tx, requeued).await? } else { Vec::new() };
            for job in dead_lettered {
                changed.extend(end_dead_letter(tx, &job).await?);
            }
            Ok((changed, ready))
        };
        self.pools.rescue.transaction("sweep", run).await
    }

    /// Sets the gauges of the queue.
    pub(crate) async fn observe(&self) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| Ok(jobs::observe(tx, KIND).await?);
        self.pools.read.transaction("observe_jobs", run).await
    }
}
