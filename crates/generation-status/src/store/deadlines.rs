//! Total deadlines, and operators' decisions on unconfirmed submissions. What they mean is decided by
//! [`crate::transitions::deadlines`]; here it is carried out.
//!
//! Invariant: the job is locked before its generation, and both until what was decided on them is written.

use chassis::request::actor::Actor;
use domain::generation::State;
use domain::id::{AccountId, GenerationId};
use jobs::Cause;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::audit::enter;
use super::bulk::locked_version;
use super::provider_calls::set_reference;
use super::transitions::{StopBy, end_locked, lock_both_facts, requeue, stop};
use crate::error::{Error, Noun};
use crate::model::{Generation, Resolution, WaitReason};
use crate::transitions::deadlines::{DeadlineAction, Settlement, enforce, settle};

/// The cause of an operator's decision in the job's history.
const RESOLVED: &str = "RESOLVED";

/// How long a provider may take to answer a request to stop, once the deadline has passed.
const GRACE_SECONDS: f64 = 600.0;

impl Store {
    /// Generations that are past their total deadline and that [`Store::enforce_deadline`] may move on.
    pub(crate) async fn overdue(&self) -> Result<Vec<(AccountId, GenerationId)>, Error> {
        // What the rule would keep is left out, so that the limit is spent on what is done something about: FINALIZING, and
        // CANCELLING unless its provider has ignored the request, or nobody can be asked.
        let query = sqlx::query_as::<_, (Uuid, Uuid)>(
            "select g.account_id, g.id from generations g join jobs j on j.id = g.id
             where g.end_time is null and g.state <> $2 and g.total_deadline <= now()
               and (g.state <> $3 or j.cancel_at <= now() - make_interval(secs => $1)
                    or (g.wait_reason = $4 and j.state = 'waiting'))
             order by g.total_deadline
             limit 100",
        )
        .bind(GRACE_SECONDS)
        .bind(State::Finalizing.number())
        .bind(State::Cancelling.number())
        .bind(WaitReason::SubmissionUnconfirmed as i16);
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
        let run = async |tx: &mut PgConnection| enforce_on(tx, account.0, id.0).await;
        self.pools.reaper.transaction("enforce_deadline", run).await
    }

    /// Settles an unconfirmed submission as an operator decided; `note` stays in the job's history. With a version: only in that.
    pub(crate) async fn resolve(
        &self,
        account: AccountId,
        id: GenerationId,
        resolution: &Resolution,
        note: &str,
        version: Option<i64>,
        actor: &Actor,
    ) -> Result<Generation, Error> {
        let run = async |tx: &mut PgConnection| {
            let generation = settle_as(tx, account.0, id.0, resolution, note, version).await?;
            enter(tx, actor, "generation.resolve", account, id, note).await?;
            Ok(generation)
        };
        self.pools.write.transaction_of(account.0, "resolve_generation", run).await
    }
}

/// Carries out what a total deadline means for a generation.
pub(super) async fn enforce_on(tx: &mut PgConnection, account: Uuid, id: Uuid) -> Result<Option<Generation>, Error> {
    let Some((facts, job)) = lock_both_facts(tx, account, id, GRACE_SECONDS).await? else { return Ok(None) };
    match enforce(&facts, &job) {
        DeadlineAction::Keep => Ok(None),
        DeadlineAction::Stop => {
            jobs::request_cancel(tx, account, id).await?;
            let stopped = stop(tx, account, id, StopBy::Deadline).await?;
            stopped.map(Some).ok_or(Error::IllegalTransition { next: State::Cancelling })
        }
        DeadlineAction::End(decided, resolution) => {
            let why = decided
                .failure
                .as_ref()
                .map_or((Cause::Cancelled.as_str(), ""), |failure| (failure.reason.as_str(), failure.message.as_str()));
            // A worker that has the lease finds out first what becomes of its order.
            if !jobs::resolve(tx, account, id, resolution, why).await? {
                return Ok(None);
            }
            end_locked(tx, account, id, &decided).await.map(Some)
        }
    }
}

/// Carries out what an operator's finding means for a generation.
pub(super) async fn settle_as(
    tx: &mut PgConnection,
    account: Uuid,
    id: Uuid,
    resolution: &Resolution,
    note: &str,
    version: Option<i64>,
) -> Result<Generation, Error> {
    let found = lock_both_facts(tx, account, id, GRACE_SECONDS).await?;
    let (facts, job) = found.ok_or(Error::NotFound(Noun::Generation))?;
    if version.is_some() && locked_version(tx, account, id).await? != version {
        return Err(Error::ChangedSince);
    }
    let why = (RESOLVED, note);
    match settle(&facts, &job, resolution).ok_or(Error::NotUnconfirmed)? {
        Settlement::Poll(reference) => {
            jobs::append_event(tx, account, id, RESOLVED, note).await?;
            jobs::poll_now(tx, id).await?;
            set_reference(tx, account, id, &reference).await?.ok_or(Error::NotUnconfirmed)
        }
        Settlement::End(decided) => {
            jobs::resolve(tx, account, id, jobs::Resolution::Fail, why).await?;
            end_locked(tx, account, id, &decided).await
        }
        Settlement::Requeue(wait) => {
            jobs::resolve(tx, account, id, jobs::Resolution::Requeue, why).await?;
            requeue(tx, account, id, wait).await
        }
    }
}
