//! The queue of generations, for operators.
//!
//! Invariant: a dead letter is closed in the transaction that holds the price of the generation in its place, or stays.

use chassis::request::actor::Actor;
use domain::id::{AccountId, GenerationId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::audit::{act_as, enter};
use super::rows::columns;
use super::start::begin;
use crate::error::{Error, Noun};
use crate::model::{GENERATION_JOBS, Generation, NewGeneration, QueueStats, Started};

impl Store {
    /// The statistics of the queue.
    pub(crate) async fn queue_stats(&self, accounts: i64) -> Result<QueueStats, Error> {
        let run = async |tx: &mut PgConnection| {
            let depths = jobs::depths(tx, GENERATION_JOBS).await?;
            let shares = jobs::shares(tx, GENERATION_JOBS, accounts).await?;
            Ok(QueueStats { depths, shares, paused: jobs::paused_queues(tx, GENERATION_JOBS).await? })
        };
        self.pools.read.without_transaction("queue_stats", run).await
    }

    /// Pauses a model, or with an empty name all.
    pub(crate) async fn pause(&self, model: &str, note: &str, actor: &Actor) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            act_as(tx, actor).await?;
            Ok(jobs::pause(tx, GENERATION_JOBS, model, note).await?)
        };
        self.pools.write.transaction("pause_queue", run).await
    }

    /// Ends a pause; returns whether there was one.
    pub(crate) async fn resume(&self, model: &str, actor: &Actor) -> Result<bool, Error> {
        let run = async |tx: &mut PgConnection| {
            act_as(tx, actor).await?;
            Ok(jobs::resume(tx, GENERATION_JOBS, model).await?)
        };
        self.pools.write.transaction("resume_queue", run).await
    }

    /// Sets an account's share of the turns.
    pub(crate) async fn set_weight(&self, account: AccountId, weight: f64, actor: &Actor) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            act_as(tx, actor).await?;
            require_account(tx, account).await?;
            Ok(jobs::set_weight(tx, GENERATION_JOBS, account.0, weight).await?)
        };
        self.pools.write.transaction("set_account_weight", run).await
    }

    /// Sets how many generations of an account may run at once; `None`: the service's default.
    pub(crate) async fn set_running_limit(
        &self,
        account: AccountId,
        limit: Option<i32>,
        actor: &Actor,
    ) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            act_as(tx, actor).await?;
            require_account(tx, account).await?;
            Ok(jobs::set_running_limit(tx, GENERATION_JOBS, account.0, limit).await?)
        };
        self.pools.write.transaction("set_running_limit", run).await
    }

    /// Records that workers serve these models now, and have these keys of providers, each with its provider; and that the last of them
    /// `left` that had some others.
    pub(crate) async fn mark_served(
        &self,
        models: &[String],
        keys: &[(String, String)],
        left: &[String],
    ) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            jobs::mark_served(tx, GENERATION_JOBS, models).await?;
            if !keys.is_empty() {
                jobs::mark_keys(tx, GENERATION_JOBS, keys).await?;
            }
            if !left.is_empty() {
                jobs::leave_keys(tx, GENERATION_JOBS, left).await?;
            }
            Ok(())
        };
        self.pools.write.transaction("mark_served", run).await
    }

    /// The queues and accounts whose jobs are not given out now, and why.
    pub(crate) async fn queue_status(&self) -> Result<jobs::QueueStatus, Error> {
        let run = async |tx: &mut PgConnection| Ok(jobs::queue_status(tx, GENERATION_JOBS, self.limits()).await?);
        self.pools.read.without_transaction("queue_status", run).await
    }

    /// Up to `limit` dead letters enqueued before `before`, newest first.
    pub(crate) async fn dead_letters(&self, before: Option<Uuid>, limit: i64) -> Result<Vec<jobs::DeadLetter>, Error> {
        let filter = jobs::LetterFilter { older_than: before, ..jobs::LetterFilter::default() };
        let run = async |tx: &mut PgConnection| Ok(jobs::dead_letters(tx, GENERATION_JOBS, &filter, limit).await?);
        self.pools.read.without_transaction("list_dead_letters", run).await
    }

    /// The generation of a job that was dead-lettered at some time, of any account. [`Store::requeue_dead_letter`] finds out
    /// whether the letter is still open.
    pub(crate) async fn dead_letter(&self, id: GenerationId) -> Result<Option<Generation>, Error> {
        let query = sqlx::query_as(concat!(
            "select ",
            columns!(),
            " from generations g join jobs j on j.account_id = g.account_id and j.id = g.id
              where g.id = $1 and g.end_time is not null and g.delete_time is null and (j.state = 'dead' or j.cause = 'REQUEUED')"
        ))
        .bind(id.0);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        Ok(self.pools.read.run("find_dead_letter", run).await?)
    }

    /// Closes a dead letter and starts the generation in its place. The same request id finds the one that it started before.
    pub(crate) async fn requeue_dead_letter(
        &self,
        new: &NewGeneration,
        id: GenerationId,
        note: &str,
        actor: &Actor,
    ) -> Result<Started, Error> {
        let account = new.account.0;
        let run = async |tx: &mut PgConnection| {
            // The letter first: of two concurrent calls the second waits here and then finds it closed.
            let taken = jobs::close_dead_letter(tx, account, id.0, note).await?;
            let started = match begin(tx, GenerationId::new(), new, self.limits.open).await {
                Ok(Started::New(_)) | Err(Error::InsufficientCredit { .. } | Error::OtherMargin { .. }) if !taken => {
                    return Err(Error::NotFound(Noun::DeadLetter));
                }
                started => started?,
            };
            if let Started::New(generation) = &started {
                jobs::append_event(tx, account, generation.id.0, "REQUEUED", note).await?;
                enter(tx, actor, "generation.requeue", new.account, id, note).await?;
            }
            Ok(started)
        };
        match self.pools.write.transaction("requeue_dead_letter", run).await {
            Err(error) => Err(self.explain_limit(new.account, &new.end_user, error).await),
            started => started,
        }
    }
}

async fn require_account(tx: &mut PgConnection, account: AccountId) -> Result<(), Error> {
    let query = sqlx::query_scalar("select exists (select from accounts where id = $1)").bind(account.0);
    let exists: bool = chassis::postgres::statement("account_exists", query.fetch_one(tx)).await?;
    if exists { Ok(()) } else { Err(Error::NotFound(Noun::Account)) }
}
