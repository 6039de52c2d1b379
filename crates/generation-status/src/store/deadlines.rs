//! Total deadlines, and operators' decisions on unconfirmed submissions.
//!
//! Invariant: an order that may exist is not given up before its provider was asked to stop it, or the grace for its answer has
//! passed; whatever the provider charged, the user's hold is released whole.

use chassis::postgres::statement;
use domain::generation::State;
use domain::id::{AccountId, GenerationId};
use jobs::Held;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::change::change;
use super::provider_calls::set_reference;
use super::transitions::{End, end, requeue};
use crate::error::{Error, Noun};
use crate::model::{Failure, Generation, Resolution, WaitReason};

/// How long a provider may take to answer a request to stop, once the deadline has passed.
const GRACE_SECONDS: f64 = 600.0;

/// What a deadline or an operator decides on, read under the locks of job and generation.
#[derive(sqlx::FromRow)]
struct Facts {
    state: i16,
    late: bool,
    cancelled: bool,
    job_state: String,
    /// Its provider was asked to stop longer ago than the grace.
    ignored: bool,
    phase: Option<String>,
}

/// Locks a job and its generation until the transaction ends, and reads both.
async fn lock_facts(tx: &mut PgConnection, account: Uuid, id: Uuid) -> Result<Option<Facts>, Error> {
    // The job first, as in every transaction, so that two never deadlock.
    let query =
        sqlx::query("select from jobs where id = $1 and account_id = $2 for no key update").bind(id).bind(account);
    statement("lock_job", query.execute(&mut *tx)).await?;
    let query = sqlx::query_as(
        "select g.state, coalesce(g.total_deadline <= now(), false) as late, g.cancel_time is not null as cancelled,
                j.state as job_state, coalesce(j.cancel_at <= now() - make_interval(secs => $3), false) as ignored,
                (select phase from provider_calls p where p.generation_id = g.id and p.phase <> 'over') as phase
         from generations g join jobs j on j.id = g.id
         where g.account_id = $1 and g.id = $2
         for no key update of g",
    )
    .bind(account)
    .bind(id)
    .bind(GRACE_SECONDS);
    Ok(statement("lock_generation_and_job", query.fetch_optional(&mut *tx)).await?)
}

impl Store {
    /// Generations that are past their total deadline and that [`Store::enforce_deadline`] may move on.
    pub(crate) async fn overdue(&self) -> Result<Vec<(AccountId, GenerationId)>, Error> {
        // FINALIZING (4) is never stopped. CANCELLING (5) has been dealt with, unless its provider has ignored the request for the
        // grace, or its submission is unconfirmed (7) and nobody can be asked.
        let query = sqlx::query_as::<_, (Uuid, Uuid)>(
            "select g.account_id, g.id from generations g join jobs j on j.id = g.id
             where g.end_time is null and g.state <> 4 and g.total_deadline <= now()
               and (g.state <> 5 or j.cancel_at <= now() - make_interval(secs => $1)
                    or (g.wait_reason = 7 and j.state = 'waiting'))
             order by g.total_deadline
             limit 100",
        )
        .bind(GRACE_SECONDS);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.reaper.run("find_overdue", run).await?;
        Ok(rows.into_iter().map(|(account, id)| (AccountId(account), GenerationId(id))).collect())
    }

    /// Stops or ends a generation that is past its total deadline. `None` when there is nothing to do, or not yet.
    pub(crate) async fn enforce_deadline(
        &self,
        account: AccountId,
        id: GenerationId,
    ) -> Result<Option<Generation>, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = Held { account: account.0, cancel_requested: false };
            let Some(found) = lock_facts(tx, account.0, id.0).await?.filter(|found| found.late) else {
                return Ok(None);
            };
            let idle = found.job_state != "leased";
            let unconfirmed = found.job_state == "waiting" && found.phase.as_deref() == Some("intent");
            let ordered = found.phase.is_some();
            match State::from_number(found.state) {
                Some(state) if state.is_terminal() || state == State::Finalizing => return Ok(None),
                Some(State::Cancelling) if !(idle && (unconfirmed || found.ignored)) => return Ok(None),
                Some(State::Submitting | State::Processing) if !unconfirmed && (ordered || !idle) => {
                    return stop(tx, account.0, id.0).await.map(Some);
                }
                _ => {}
            }
            let (state, failure) = match (found.cancelled, unconfirmed) {
                (true, _) => (State::Cancelled, None),
                (false, true) => (State::Failed, Some(Failure::outcome_unknown())),
                (false, false) => (State::Failed, Some(Failure::total_deadline())),
            };
            let decision = if found.cancelled { jobs::Resolution::Cancel } else { jobs::Resolution::Fail };
            let why = failure
                .as_ref()
                .map_or(("CANCELLED", ""), |failure| (failure.reason.as_str(), failure.message.as_str()));
            if !jobs::resolve(tx, account.0, id.0, decision, why).await? {
                return Ok(None);
            }
            end(tx, held, id.0, End { state, failure: failure.as_ref(), provider_charge: None }).await.map(Some)
        };
        self.pools.reaper.transaction("enforce_deadline", run).await
    }

    /// Settles an unconfirmed submission as an operator decided; `note` stays in the job's history.
    pub(crate) async fn resolve(
        &self,
        account: AccountId,
        id: GenerationId,
        resolution: &Resolution,
        note: &str,
    ) -> Result<Generation, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = Held { account: account.0, cancel_requested: false };
            let found = lock_facts(tx, account.0, id.0).await?.ok_or(Error::NotFound(Noun::Generation))?;
            if found.job_state != "waiting" || found.phase.as_deref() != Some("intent") {
                return Err(Error::NotUnconfirmed);
            }
            match resolution {
                Resolution::Reference(reference) => {
                    jobs::append_event(tx, account.0, id.0, "RESOLVED", note).await?;
                    jobs::poll_now(tx, id.0).await?;
                    set_reference(tx, account.0, id.0, reference).await?.ok_or(Error::NotUnconfirmed)
                }
                Resolution::Failed(provider_charge) => {
                    jobs::resolve(tx, account.0, id.0, jobs::Resolution::Fail, ("RESOLVED", note)).await?;
                    let failure = Failure::outcome_unknown();
                    let over =
                        End { state: State::Failed, failure: Some(&failure), provider_charge: Some(*provider_charge) };
                    end(tx, held, id.0, over).await
                }
                Resolution::Requeue => {
                    jobs::resolve(tx, account.0, id.0, jobs::Resolution::Requeue, ("RESOLVED", note)).await?;
                    requeue(tx, held, id.0, WaitReason::Capacity).await
                }
            }
        };
        self.pools.write.transaction("resolve_generation", run).await
    }
}

/// Asks for an order to be stopped because the total deadline has passed.
async fn stop(tx: &mut PgConnection, account: Uuid, id: Uuid) -> Result<Generation, Error> {
    jobs::request_cancel(tx, account, id).await?;
    let query = sqlx::query_as(change!(
        "update generations g
         set state = 5, wait_reason = 0, update_time = now(), version = g.version + 1
         where g.account_id = $1 and g.id = $2 and g.state = any ($3)"
    ))
    .bind(account)
    .bind(id)
    .bind(State::Cancelling.predecessors());
    statement("stop_overdue", query.fetch_optional(&mut *tx))
        .await?
        .ok_or(Error::IllegalTransition { next: State::Cancelling })
}
