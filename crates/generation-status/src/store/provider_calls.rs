//! Calls of a provider: the intent before the call, the reference after it, and the wait for the order's outcome.
//!
//! Invariants: a reference is recorded only over an intent; of a generation's orders at most one is live; and only the end of
//! the attempt, under its fence, or an operator makes a live order `over`.

use chassis::postgres::statement;
use chassis::status::Failure;
use domain::generation::State;
use jobs::Lease;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::change::change;
use crate::error::Error;
use crate::model::{Generation, Hinted, Suspension, WaitReason};

impl Store {
    /// Commits that the provider is about to be called. It is idempotent under one lease; under a later one it is refused while
    /// an order is live.
    pub(crate) async fn record_intent(&self, lease: Lease, provider: &str) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::lock_lease(tx, lease).await?;
            jobs::assign_pool(tx, lease, provider).await?;
            // The unique index on live orders turns a second intent into a conflict. It is the same intent only under the same
            // fence; under another one the update matches nothing, and the caller is refused.
            let query = sqlx::query_scalar::<_, i64>(
                "insert into provider_calls as p (generation_id, account_id, fence, attempt, provider, phase)
                 select g.id, g.account_id, $3, g.attempt_count, $4, 'intent'
                 from generations g where g.account_id = $1 and g.id = $2 and g.state = $5
                 on conflict (generation_id) where phase <> 'over' do update set update_time = now()
                     where p.fence = excluded.fence and p.phase = 'intent'
                 returning p.fence",
            )
            .bind(held.account)
            .bind(lease.job)
            .bind(lease.fence)
            .bind(provider)
            .bind(State::Submitting.number());
            let written = statement("record_intent", query.fetch_optional(&mut *tx)).await?;
            written.map(drop).ok_or(Error::IllegalTransition { next: State::Submitting })
        };
        self.pools.finalize.transaction("record_intent", run).await
    }

    /// Commits the reference under which the provider took the order.
    pub(crate) async fn record_submission(&self, lease: Lease, reference: &str) -> Result<Generation, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::lock_lease(tx, lease).await?;
            set_reference(tx, held.account, lease.job, reference)
                .await?
                .ok_or(Error::IllegalTransition { next: State::Processing })
        };
        self.pools.finalize.transaction("record_submission", run).await
    }

    /// Ends a lease while the provider works, or while it is not known whether it does. Returns the generation if it changed.
    pub(crate) async fn suspend(&self, suspension: &Suspension) -> Result<Option<Generation>, Error> {
        let run = async |tx: &mut PgConnection| {
            let Suspension { lease, poll_after, .. } = *suspension;
            let cause = suspension.unconfirmed.then_some("SUBMISSION_UNCONFIRMED");
            let detail = Some(suspension.message.as_str()).filter(|message| !message.is_empty());
            let held = jobs::suspend(tx, lease, jobs::Suspension { poll_after, cause, detail }).await?;
            let wait = match (suspension.unconfirmed, suspension.queue_position) {
                (true, _) => WaitReason::SubmissionUnconfirmed as i16,
                (false, 1..) => WaitReason::ProviderQueue as i16,
                (false, _) => 0,
            };
            // Where the provider does not report progress, it is estimated as the share of the usual time that has passed, at most
            // 95. A poll that finds nothing new changes no row, hence the comparison at the end.
            let query = sqlx::query_as(change!(
                "update generations g
                 set wait_reason = next.wait, percent = next.percent, basis = next.basis, stage = next.stage,
                     queue_position = next.position, update_time = now(), version = g.version + 1
                 from (
                     select o.id, $3::smallint as wait, $6::integer as position,
                            case when $4::smallint is not null then greatest(o.percent, $4)
                                 when estimate.percent is not null then greatest(o.percent, estimate.percent)
                                 else o.percent end as percent,
                            case when $4 is not null then 1 when estimate.percent is not null then 2 else o.basis end::smallint as basis,
                            case when $5 <> '' then $5 else o.stage end as stage
                     from generations o
                     cross join lateral (select least(95, floor(
                         95 * extract(epoch from now() - o.start_time)
                         / nullif(extract(epoch from o.eta_p50 - o.start_time), 0)
                     ))::smallint as percent) estimate
                     where o.account_id = $1 and o.id = $2
                 ) next
                 where g.account_id = $1 and g.id = next.id and g.state = any ($7)
                   and (g.wait_reason, g.percent, g.basis, g.stage, g.queue_position)
                       is distinct from (next.wait, next.percent, next.basis, next.stage, next.position)"
            ))
            .bind(held.account)
            .bind(lease.job)
            .bind(wait)
            .bind(suspension.percent)
            .bind(&suspension.stage)
            .bind(suspension.queue_position)
            .bind([State::Submitting.number(), State::Processing.number(), State::Cancelling.number()]);
            let changed: Option<Generation> = statement("suspend_generation", query.fetch_optional(&mut *tx)).await?;
            // Without a reference there is nothing to poll; with one the submission is not in doubt.
            let query = sqlx::query_scalar::<_, String>(
                "select phase from provider_calls where account_id = $1 and generation_id = $2 and phase <> 'over'",
            )
            .bind(held.account)
            .bind(lease.job);
            let phase = statement("find_call", query.fetch_optional(&mut *tx)).await?;
            if phase.as_deref() == Some(if suspension.unconfirmed { "intent" } else { "known" }) {
                Ok(changed)
            } else {
                Err(Error::IllegalTransition { next: State::Processing })
            }
        };
        self.pools.finalize.transaction("suspend_work", run).await
    }

    /// Takes a provider's webhook that names a job: makes the next poll due, and gives a submission in doubt its reference.
    /// Returns whether the job waited for it, and the generation if it changed; `None` for an event that came before.
    pub(crate) async fn hint(
        &self,
        (provider, event): (&str, &str),
        job: Uuid,
        reference: Option<&str>,
    ) -> Result<Option<(Hinted, Option<Generation>)>, Error> {
        let run = async |tx: &mut PgConnection| {
            if reference.is_some() && submission_in_progress(tx, provider, job).await? {
                let message = "a worker may be about to hear the same from the provider itself";
                return Err(Failure::unavailable("SUBMISSION_UNDER_WAY", message).into());
            }
            // The event's id makes it count once. The order must be live, and the event's reference, where both have one, must be
            // the order's own: an order of an earlier attempt, which is over, still sends events.
            let query = sqlx::query_as::<_, (Uuid, String)>(
                "insert into provider_events (provider, event, job_id)
                 select $1, $2, p.generation_id from provider_calls p
                 where p.generation_id = $3 and p.provider = $1 and p.phase <> 'over'
                   and (p.reference is null or $4::text is null or p.reference = $4)
                   and not exists (
                       select from provider_calls o
                       where o.generation_id = p.generation_id and o.phase = 'over' and o.reference = $4
                   )
                 on conflict do nothing
                 returning (select account_id from provider_calls where generation_id = $3 and phase <> 'over'),
                           (select g.traceparent from provider_calls p
                            join generations g on g.account_id = p.account_id and g.id = p.generation_id
                            where p.generation_id = $3 and p.phase <> 'over')",
            )
            .bind(provider)
            .bind(event)
            .bind(job)
            .bind(reference);
            let Some((account, traceparent)) =
                statement("insert_provider_event", query.fetch_optional(&mut *tx)).await?
            else {
                return Ok(None);
            };
            let awaited = jobs::poll_now(tx, job).await?;
            // A worker that holds the lease is finding out itself, and may be about to record something else.
            let generation = match reference {
                Some(reference) if awaited => set_reference(tx, account, job, reference).await?,
                _ => None,
            };
            Ok(Some((Hinted { awaited, traceparent }, generation)))
        };
        self.pools.finalize.transaction("hint_work", run).await
    }
}

/// Whether a worker, alive or dead, holds the lease of a job whose order has no reference. An event accepted then would be lost:
/// it comes once, and the worker may die before it finds out the same. A refused event comes again.
async fn submission_in_progress(tx: &mut PgConnection, provider: &str, job: Uuid) -> Result<bool, Error> {
    let query = sqlx::query_scalar::<_, bool>(
        "select exists (
             select from jobs j join provider_calls p on p.generation_id = j.id and p.account_id = j.account_id
             where j.id = $1 and j.state = 'leased' and p.provider = $2 and p.phase = 'intent'
         )",
    )
    .bind(job)
    .bind(provider);
    Ok(statement("find_submission", query.fetch_one(tx)).await?)
}

/// Writes the reference of the live order: SUBMITTING becomes PROCESSING. `None` without an intent, or where another reference
/// is known.
pub(super) async fn set_reference(
    tx: &mut PgConnection,
    account: Uuid,
    job: Uuid,
    reference: &str,
) -> Result<Option<Generation>, Error> {
    let query = sqlx::query_as(change!(
        "update generations g
         set state = case when g.state = 2 then 3 else g.state end, basis = 1, wait_reason = 0,
             start_time = coalesce(g.start_time, now()),
             eta_p50 = coalesce(g.start_time, now()) + pace.p50, eta_p80 = coalesce(g.start_time, now()) + pace.p80,
             update_time = now(), version = g.version + 1
         from provider_calls p
         left join model_paces pace on pace.model = (select model from generations where id = p.generation_id)
         where g.account_id = $1 and g.id = $2 and g.state between 2 and 5
           and p.generation_id = g.id and p.phase <> 'over' and (p.reference is null or p.reference = $3)",
        "known as (
             update provider_calls p set phase = 'known', reference = $3, update_time = now()
             from changed g where p.generation_id = g.id and p.phase <> 'over'
         )"
    ))
    .bind(account)
    .bind(job)
    .bind(reference);
    Ok(statement("record_submission", query.fetch_optional(&mut *tx)).await?)
}
