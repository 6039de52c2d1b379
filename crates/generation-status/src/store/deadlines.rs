//! Generations that did not end by their total deadline, and unconfirmed ones that an operator settles.
//!
//! Invariant: an order that may exist is never forgotten before its provider was asked to stop it, or the grace for its answer
//! has passed; whatever the provider charged, the user's hold goes back whole.

use chassis::postgres::statement;
use domain::generation::State;
use domain::id::{AccountId, GenerationId};
use jobs::Held;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::calls::known;
use super::change::change;
use super::steps::{End, end, requeue};
use crate::error::{Error, Noun};
use crate::record::{Flaw, ProviderCharge, Record, Wait};

/// How long a provider may take to answer a request to stop, once the deadline has passed.
const GRACE_SECONDS: f64 = 600.0;

/// What an operator found out about a unconfirmed submission.
#[derive(Clone, Debug)]
pub(crate) enum Resolution {
    /// The provider has it under this reference.
    Reference(String),
    /// It is not to be gone on with.
    Failed(ProviderCharge),
    /// The provider does not have it.
    Requeue,
}

/// A generation with its job, both standing still until the transaction ends.
#[derive(sqlx::FromRow)]
struct Standing {
    state: i16,
    late: bool,
    cancelled: bool,
    job_state: String,
    /// It was asked to stop longer ago than the grace.
    ignored: bool,
    phase: Option<String>,
}

async fn standing(tx: &mut PgConnection, account: Uuid, id: Uuid) -> Result<Option<Standing>, Error> {
    // The job first, as everywhere.
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
    Ok(statement("stand_still", query.fetch_optional(&mut *tx)).await?)
}

impl Store {
    /// Generations that are past their total deadline and have not been dealt with.
    pub(crate) async fn overdue(&self) -> Result<Vec<(AccountId, GenerationId)>, Error> {
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
        let rows = self.pools.rescue.run("find_overdue", run).await?;
        Ok(rows.into_iter().map(|(account, id)| (AccountId(account), GenerationId(id))).collect())
    }

    /// Stops or ends a generation that is past its total deadline. Nothing when it need not, or not yet.
    pub(crate) async fn enforce(&self, account: AccountId, id: GenerationId) -> Result<Option<Record>, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = Held { account: account.0, cancel_requested: false };
            let Some(found) = standing(tx, account.0, id.0).await?.filter(|found| found.late) else { return Ok(None) };
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
            let (state, flaw) = match (found.cancelled, unconfirmed) {
                (true, _) => (State::Cancelled, None),
                (false, true) => (State::Failed, Some(outcome_unknown())),
                (false, false) => (State::Failed, Some(late())),
            };
            let decision = if found.cancelled { jobs::Resolution::Cancel } else { jobs::Resolution::Fail };
            let why = flaw.as_ref().map_or(("CANCELLED", ""), |flaw| (flaw.reason.as_str(), flaw.message.as_str()));
            if !jobs::resolve(tx, account.0, id.0, decision, why).await? {
                return Ok(None);
            }
            end(tx, held, id.0, End { state, flaw: flaw.as_ref(), provider_charge: None }).await.map(Some)
        };
        self.pools.rescue.transaction("enforce_deadline", run).await
    }

    /// Settles a unconfirmed submission as an operator says; `note` stays in its history.
    pub(crate) async fn resolve(
        &self,
        account: AccountId,
        id: GenerationId,
        resolution: &Resolution,
        note: &str,
    ) -> Result<Record, Error> {
        let run = async |tx: &mut PgConnection| {
            let held = Held { account: account.0, cancel_requested: false };
            let found = standing(tx, account.0, id.0).await?.ok_or(Error::Missing(Noun::Generation))?;
            if found.job_state != "waiting" || found.phase.as_deref() != Some("intent") {
                return Err(Error::NotParked);
            }
            match resolution {
                Resolution::Reference(reference) => {
                    jobs::append_event(tx, account.0, id.0, "RESOLVED", note).await?;
                    jobs::poll_now(tx, id.0).await?;
                    known(tx, account.0, id.0, reference).await?.ok_or(Error::NotParked)
                }
                Resolution::Failed(provider_charge) => {
                    jobs::resolve(tx, account.0, id.0, jobs::Resolution::Fail, ("RESOLVED", note)).await?;
                    let flaw = outcome_unknown();
                    let over = End { state: State::Failed, flaw: Some(&flaw), provider_charge: Some(*provider_charge) };
                    end(tx, held, id.0, over).await
                }
                Resolution::Requeue => {
                    jobs::resolve(tx, account.0, id.0, jobs::Resolution::Requeue, ("RESOLVED", note)).await?;
                    requeue(tx, held, id.0, Wait::Capacity).await
                }
            }
        };
        self.pools.write.transaction("resolve_generation", run).await
    }
}

/// Asks for an order to be stopped because its time is over.
async fn stop(tx: &mut PgConnection, account: Uuid, id: Uuid) -> Result<Record, Error> {
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

fn outcome_unknown() -> Flaw {
    Flaw {
        code: tonic::Code::Unknown as i32,
        reason: "SUBMISSION_OUTCOME_UNKNOWN".to_owned(),
        message: "it could not be found out whether the provider took the order; nothing was charged".to_owned(),
    }
}

pub(super) fn late() -> Flaw {
    Flaw {
        code: tonic::Code::DeadlineExceeded as i32,
        reason: "TOTAL_DEADLINE".to_owned(),
        message: "it did not end by its deadline; nothing was charged".to_owned(),
    }
}
