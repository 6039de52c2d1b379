//! Calls of a provider: the intent before the call, the reference after it, and the wait for the order's outcome.
//!
//! Invariants: a reference is recorded only over an intent; of a generation's orders at most one is live; and only the end of
//! the attempt, under its fence, or an operator makes a live order `over`.

use chassis::postgres::statement;
use chassis::status::Failure;
use chassis::telemetry;
use domain::generation::State;
use jobs::{Breaker, Lease, Scope};
use sqlx::{FromRow as _, PgConnection, Row as _};
use uuid::Uuid;

use super::Store;
use super::change::{change, scene_copy};
use super::forgotten_orders::adopt_order;
use super::rows::columns;
use super::transitions::{by_number, lock_facts};
use crate::error::Error;
use crate::model::{Basis, Condition, Confirmation, GENERATION_JOBS, Generation, Hint, Hinted, Suspension};
use crate::transitions::suspensions::{Mark, SuspendedFacts, SuspensionOutcome, marks, suspended};
use crate::transitions::{submitted, symptom};

/// Moves the generation with this account and job whose live order gets the reference `$3`, as the rule `$4` has it by number, on the
/// basis `$5`.
macro_rules! referenced {
    ($account:literal, $job:literal, $from:literal) => {
        concat!(
            "update generations g
             set state = ($4::smallint[])[g.state], basis = $5, wait_reason = 0,
                 start_time = coalesce(g.start_time, now()),
                 eta_p50 = coalesce(g.start_time, now()) + pace.p50, eta_p80 = coalesce(g.start_time, now()) + pace.p80,
                 update_time = now(), version = g.version + 1
             from ",
            $from,
            "provider_calls p
             left join model_paces pace on pace.model = (select model from generations where id = p.generation_id)
             where g.account_id = ",
            $account,
            " and g.id = ",
            $job,
            " and ($4::smallint[])[g.state] is not null
               and p.generation_id = g.id and p.phase <> 'over' and (p.reference is null or p.reference = $3)"
        )
    };
}

/// Writes the reference `$3` of the live order of the generation that was changed.
macro_rules! known {
    () => {
        "update provider_calls p set phase = 'known', reference = $3, update_time = now()
         from changed g where p.generation_id = g.id and p.phase <> 'over'"
    };
}

impl Store {
    /// Commits that the provider is about to be called, and with which key: whoever takes the order over asks with the same. It is idempotent under one lease; under a later one it is refused while
    /// an order is live, and where what is left until the total deadline is less than half of the model's generations take.
    pub(crate) async fn record_intent(&self, lease: Lease, provider: &str, key: &str) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            let held = jobs::begin_elsewhere(tx, lease).await?;
            jobs::assign_pool(tx, lease, provider).await?;
            // The unique index on live orders turns a second intent into a conflict. It is the same intent only under the same
            // fence; under another one the update matches nothing, and the caller is refused.
            let query = sqlx::query_scalar::<_, i64>(
                "insert into provider_calls as p (generation_id, account_id, fence, attempt, provider, phase, key)
                 select g.id, g.account_id, $3, g.attempt_count, $4, 'intent', $6
                 from generations g left join model_paces pace on pace.model = g.model
                 where g.account_id = $1 and g.id = $2 and g.state = $5
                   and coalesce(g.total_deadline > now() + coalesce(pace.p50, '0'), true)
                 on conflict (generation_id) where phase <> 'over' do update set update_time = now(), key = excluded.key
                     where p.fence = excluded.fence and p.phase = 'intent'
                 returning p.fence",
            )
            .bind(held.account)
            .bind(lease.job)
            .bind(lease.fence)
            .bind(provider)
            .bind(State::Submitting.number())
            .bind(key);
            let written = statement("record_intent", query.fetch_optional(&mut *tx)).await?;
            if written.is_some() {
                return Ok(());
            }
            let facts = lock_facts(tx, held.account, lease.job).await?;
            Err(if facts.state == State::Submitting && facts.order.is_none() && (facts.no_time_left || facts.overdue) {
                Error::NoTimeLeft
            } else {
                Error::IllegalTransition { next: State::Submitting }
            })
        };
        self.pools.finalize.transaction("record_intent", run).await
    }

    /// Commits the reference under which the provider took the order.
    /// Returns the breakers that this closed, too: a provider that took one order takes others.
    ///
    /// One statement is the whole transaction, so it costs one round trip: the lease is locked by its first step. There is a second one
    /// only while there are breakers; were this process to die between the two, the next order that is taken closes them.
    pub(crate) async fn record_submission(
        &self,
        lease: Lease,
        reference: &str,
    ) -> Result<(Generation, Vec<Breaker>), Error> {
        let query = sqlx::query(concat!(
            "with held as materialized (",
            jobs::held_lease!(),
            "), changed as (",
            referenced!("held.account_id", "$1", "held, set_config('rushes.traceparent', $6, true), "),
            " returning g.*), known as (",
            known!(),
            "), shown as (",
            scene_copy!(changed, "changed g"),
            ") select ",
            jobs::any_breaker!("$7"),
            " as recovers, ",
            columns!(),
            " from held left join changed g on true"
        ))
        .bind(lease.job)
        .bind(lease.fence)
        .bind(reference)
        .bind(by_number(submitted))
        .bind(Basis::Provider as i16)
        .bind(telemetry::traceparent().unwrap_or_default())
        .bind(GENERATION_JOBS);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        let row = self.pools.finalize.run("record_submission", run).await?.ok_or(Error::StaleFence)?;
        let changed: Option<Uuid> = row.try_get("id").map_err(chassis::postgres::Error::from)?;
        changed.ok_or(Error::IllegalTransition { next: State::Processing })?;
        let generation = Generation::from_row(&row).map_err(chassis::postgres::Error::from)?;
        let recovers: bool = row.try_get("recovers").map_err(chassis::postgres::Error::from)?;
        let closed = if recovers { self.recover(lease, generation.account.0).await? } else { Vec::new() };
        Ok((generation, closed))
    }

    /// Closes the breakers that an order which was taken shows to be over.
    async fn recover(&self, lease: Lease, account: Uuid) -> Result<Vec<Breaker>, Error> {
        let run = async |tx: &mut PgConnection| {
            let mut closed = jobs::recover(tx, lease).await?;
            if let Some(key) = named_key(tx, account, lease.job).await? {
                closed.extend(jobs::recover_key(tx, GENERATION_JOBS, &key).await?);
            }
            Ok(closed)
        };
        self.pools.finalize.transaction("close_breakers", run).await
    }

    /// Ends a lease while the provider works, or while it is not known whether it does. Returns the generation if it changed, and
    /// the breakers that this opened.
    pub(crate) async fn suspend(&self, suspension: &Suspension) -> Result<(Option<Generation>, Vec<Breaker>), Error> {
        let Suspension { lease, condition, key, message, .. } = suspension;
        let run = async |tx: &mut PgConnection| {
            let opened = report_condition(tx, *lease, *condition, key, message).await?;
            Ok((suspend_attempt(tx, suspension).await?, opened))
        };
        self.pools.finalize.transaction("suspend_work", run).await
    }

    /// Takes a provider's webhook that names a job: makes the next poll due, and gives a submission in doubt its reference.
    /// Returns whether the job waited for it, and the generation if it changed; `None` for an event that came before. A reference
    /// that the provider has not confirmed is not recorded, and neither is its event.
    pub(crate) async fn hint(&self, hint: Hint<'_>) -> Result<Option<(Hinted, Option<Generation>)>, Error> {
        let Hint { provider, event, job, reference, confirmation } = hint;
        let run = async |tx: &mut PgConnection| {
            if reference.is_some() && submission_in_progress(tx, provider, job).await? {
                let message = "a worker may be about to hear the same from the provider itself";
                return Err(Failure::unavailable("SUBMISSION_UNDER_WAY", message).into());
            }
            if let Some(reference) = reference.filter(|_| confirmation != Confirmation::Confirmed)
                && let Some((model, key)) = unsettled_model(tx, provider, job, reference).await?
            {
                if confirmation == Confirmation::Impossible {
                    let message = "the provider is to be asked for the order first";
                    return Err(Failure::unavailable("REFERENCE_NOT_CONFIRMED", message).into());
                }
                return Ok(Some((Hinted { confirm_at_model: Some(model), key, ..Hinted::default() }, None)));
            }
            let forgotten = match reference {
                Some(reference) => adopt_order(tx, provider, job, reference).await?,
                None => false,
            };
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
                // Also where the worker that held it is gone: the next one is spared from finding out. A process of the version
                // before leaves such a job queued.
                Some(reference) if awaited || is_queued(tx, account, job).await? => {
                    set_reference(tx, account, job, reference).await?
                }
                _ => None,
            };
            Ok(Some((Hinted { awaited, forgotten, traceparent, ..Hinted::default() }, generation)))
        };
        self.pools.finalize.transaction("hint_work", run).await
    }
}

/// Whether a job waits for a worker.
async fn is_queued(tx: &mut PgConnection, account: Uuid, job: Uuid) -> Result<bool, Error> {
    let query = sqlx::query_scalar::<_, bool>(
        "select exists (select from jobs where id = $1 and account_id = $2 and state = 'queued')",
    )
    .bind(job)
    .bind(account);
    Ok(statement("find_queued_job", query.fetch_one(tx)).await?)
}

/// Ends the lease of an attempt that goes on at its provider, for the job and for its generation.
pub(super) async fn suspend_attempt(tx: &mut PgConnection, report: &Suspension) -> Result<Option<Generation>, Error> {
    let Suspension { lease, poll_after, .. } = *report;
    let cause = report.unconfirmed.then_some("SUBMISSION_UNCONFIRMED");
    let detail = Some(report.message.as_str()).filter(|message| !message.is_empty());
    let held = jobs::suspend(tx, lease, jobs::Suspension { poll_after, cause, detail }).await?;
    let marks = marks(report);
    // The select reads the clocks as they were before; most polls find an order well that was well, and write none.
    let query = sqlx::query_as::<_, SuspendedFacts>(
        "with call as (
             select p.generation_id, p.fence, p.phase, p.poll_trouble_time, p.order_trouble_time, p.output_trouble_time,
                    p.storage_trouble_time
             from provider_calls p where p.account_id = $1 and p.generation_id = $2 and p.phase <> 'over'
         ), marked as (
             update provider_calls p
             set poll_trouble_time = case when $3[1] then coalesce(p.poll_trouble_time, now())
                                          when not $4[1] then p.poll_trouble_time end,
                 order_trouble_time = case when $3[2] then coalesce(p.order_trouble_time, now())
                                           when not $4[2] then p.order_trouble_time end,
                 output_trouble_time = case when $3[3] then coalesce(p.output_trouble_time, now())
                                            when not $4[3] then p.output_trouble_time end,
                 storage_trouble_time = case when $3[4] then coalesce(p.storage_trouble_time, now())
                                             when not $4[4] then p.storage_trouble_time end
             from call
             where p.generation_id = call.generation_id and p.fence = call.fence
               and ((call.poll_trouble_time is null and $3[1]) or (call.poll_trouble_time is not null and $4[1])
                    or (call.order_trouble_time is null and $3[2]) or (call.order_trouble_time is not null and $4[2])
                    or (call.output_trouble_time is null and $3[3]) or (call.output_trouble_time is not null and $4[3])
                    or (call.storage_trouble_time is null and $3[4])
                    or (call.storage_trouble_time is not null and $4[4]))
         )
         select g.state, g.wait_reason, g.percent, g.basis, g.stage, g.queue_position,
                (extract(epoch from now() - g.start_time) * 1000000)::bigint as elapsed,
                (extract(epoch from g.eta_p50 - g.start_time) * 1000000)::bigint as usual,
                (select phase from call),
                (select (extract(epoch from now() - (array[poll_trouble_time, order_trouble_time, output_trouble_time,
                                                           storage_trouble_time])[$5]) * 1000000)::bigint
                 from call) as troubled
         from generations g where g.account_id = $1 and g.id = $2
         for no key update of g",
    )
    .bind(held.account)
    .bind(lease.job)
    .bind(marks.map(|mark| mark == Mark::Start))
    .bind(marks.map(|mark| mark == Mark::Clear))
    .bind(report.trouble.map(|trouble| trouble as i32 + 1));
    let facts = statement("lock_suspended_generation", query.fetch_one(&mut *tx)).await?;
    let shown = match suspended(&facts, report) {
        SuspensionOutcome::Refused => return Err(Error::IllegalTransition { next: State::Processing }),
        // Most polls find nothing new, and end here.
        SuspensionOutcome::Unchanged => return Ok(None),
        SuspensionOutcome::Changed(shown) => shown,
    };
    let query = sqlx::query_as(change!(
        "update generations g
         set wait_reason = $3, percent = $4, basis = $5, stage = $6, queue_position = $7, update_time = now(),
             version = g.version + 1
         where g.account_id = $1 and g.id = $2"
    ))
    .bind(held.account)
    .bind(lease.job)
    .bind(shown.wait_reason)
    .bind(shown.percent)
    .bind(shown.basis)
    .bind(shown.stage)
    .bind(shown.queue_position);
    Ok(statement("suspend_generation", query.fetch_optional(&mut *tx)).await?)
}

/// Counts what a call with this key says of its provider's health. Returns the breakers that this opened.
pub(super) async fn report_condition(
    tx: &mut PgConnection,
    lease: Lease,
    condition: Option<Condition>,
    key: &str,
    detail: &str,
) -> Result<Vec<Breaker>, Error> {
    let Some(condition) = condition else { return Ok(Vec::new()) };
    let symptom = symptom(condition, key, detail);
    if symptom.scope == Scope::Key {
        return Ok(jobs::trip_key(tx, lease, symptom).await?);
    }
    Ok(jobs::trip(tx, lease, symptom).await?.into_iter().collect())
}

/// The public name of the key that a job's live order was sent with, where its provider's have names.
async fn named_key(tx: &mut PgConnection, account: Uuid, job: Uuid) -> Result<Option<String>, Error> {
    let query = sqlx::query_scalar::<_, String>(
        "select key from provider_calls where account_id = $1 and generation_id = $2 and phase <> 'over' and key <> ''",
    )
    .bind(account)
    .bind(job);
    Ok(statement("find_order_key", query.fetch_optional(tx)).await?)
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

/// What the provider calls the model of a job's order, and the key that it was sent with, where `reference` would be recorded for
/// it: the order has none yet, or the job is queued and has no order.
async fn unsettled_model(
    tx: &mut PgConnection,
    provider: &str,
    job: Uuid,
    reference: &str,
) -> Result<Option<(String, String)>, Error> {
    let query = sqlx::query_as::<_, (String, String)>(
        "select coalesce(nullif(o.work_order->>'model', ''), $2),
                coalesce((select p.key from provider_calls p where p.generation_id = j.id and p.phase <> 'over'), '')
         from jobs j
         left join generation_orders o on o.account_id = j.account_id and o.generation_id = j.id
         where j.id = $1
           and (exists (select from provider_calls p
                        where p.generation_id = j.id and p.provider = $2 and p.phase <> 'over' and p.reference is null)
                or (j.state = 'queued'
                    and not exists (select from provider_calls p
                                    where p.generation_id = j.id and (p.phase <> 'over' or p.reference = $3))))",
    )
    .bind(job)
    .bind(provider)
    .bind(reference);
    Ok(statement("find_unsettled_order", query.fetch_optional(tx)).await?)
}

/// Writes the reference of the live order, and moves its generation as [`submitted`] says. `None` without an intent, or where
/// another reference is known.
pub(super) async fn set_reference(
    tx: &mut PgConnection,
    account: Uuid,
    job: Uuid,
    reference: &str,
) -> Result<Option<Generation>, Error> {
    let query = sqlx::query_as(concat!(
        "with changed as (",
        referenced!("$1", "$2", ""),
        " returning g.*), known as (",
        known!(),
        "), shown as (",
        scene_copy!(changed, "changed g"),
        ") select ",
        columns!(),
        " from changed g"
    ))
    .bind(account)
    .bind(job)
    .bind(reference)
    .bind(by_number(submitted))
    .bind(Basis::Provider as i16);
    Ok(statement("record_submission", query.fetch_optional(&mut *tx)).await?)
}
