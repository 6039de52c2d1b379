//! What operators do about the queue of generations.
//!
//! Invariant: a dead letter is done with in the transaction that holds the price of what takes its place, or stays.

use domain::id::{AccountId, GenerationId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::row::columns;
use super::start::begin;
use super::{Draft, KIND, Started, Store};
use crate::error::{Error, Noun};
use crate::queues::Stats;
use crate::record::Record;

impl Store {
    /// The numbers of the queue.
    pub(crate) async fn queue_stats(&self, accounts: i64) -> Result<Stats, Error> {
        let run = async |tx: &mut PgConnection| {
            let depths = jobs::depths(tx, KIND).await?;
            let shares = jobs::shares(tx, KIND, accounts).await?;
            Ok(Stats { depths, shares, paused: jobs::paused_queues(tx, KIND).await? })
        };
        self.pools.read.transaction("queue_stats", run).await
    }

    /// Pauses a model, or with an empty name all.
    pub(crate) async fn pause(&self, model: &str, note: &str) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| Ok(jobs::pause(tx, KIND, model, note).await?);
        self.pools.write.transaction("pause_queue", run).await
    }

    /// Ends a pause; returns whether there was one.
    pub(crate) async fn resume(&self, model: &str) -> Result<bool, Error> {
        let run = async |tx: &mut PgConnection| Ok(jobs::resume(tx, KIND, model).await?);
        self.pools.write.transaction("resume_queue", run).await
    }

    /// Sets an account's share of the turns.
    pub(crate) async fn set_weight(&self, account: AccountId, weight: f64) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            known(tx, account).await?;
            Ok(jobs::set_weight(tx, KIND, account.0, weight).await?)
        };
        self.pools.write.transaction("set_account_weight", run).await
    }

    /// Sets how many generations of an account may run at once; nothing: as many as of any other.
    pub(crate) async fn set_running_limit(&self, account: AccountId, limit: Option<i32>) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            known(tx, account).await?;
            Ok(jobs::set_running_limit(tx, KIND, account.0, limit).await?)
        };
        self.pools.write.transaction("set_running_limit", run).await
    }

    /// What is held back now.
    pub(crate) async fn standing(&self) -> Result<jobs::QueueStatus, Error> {
        let run = async |tx: &mut PgConnection| Ok(jobs::queue_status(tx, KIND, self.limits()).await?);
        self.pools.read.transaction("standing_of_queue", run).await
    }

    /// Up to `limit` dead letters enqueued before `before`, newest first.
    pub(crate) async fn dead_letters(&self, before: Option<Uuid>, limit: i64) -> Result<Vec<jobs::DeadLetter>, Error> {
        let run = async |tx: &mut PgConnection| Ok(jobs::dead_letters(tx, KIND, before, limit).await?);
        self.pools.read.transaction("list_dead_letters", run).await
    }

    /// The generation of a job that was given up at some time, whosever it is; whether the letter still lies there is seen
    /// when it is taken.
    pub(crate) async fn dead_letter(&self, id: GenerationId) -> Result<Option<Record>, Error> {
        let query = sqlx::query_as(concat!(
            "select ",
            columns!(),
            " from generations g join jobs j on j.account_id = g.account_id and j.id = g.id
              where g.id = $1 and g.end_time is not null and (j.state = 'dead' or j.cause = 'REQUEUED')"
        ))
        .bind(id.0);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        Ok(self.pools.read.run("find_dead_letter", run).await?)
    }

    /// Starts what takes the place of a dead letter, and is done with that. The same request finds what it started before.
    pub(crate) async fn requeue_dead(&self, draft: &Draft, id: GenerationId, note: &str) -> Result<Started, Error> {
        let account = draft.account.0;
        let run = async |tx: &mut PgConnection| {
            // First, so that of two at once the second sees what the first has done.
            let taken = jobs::close_dead_letter(tx, account, id.0, note).await?;
            let started = match begin(tx, GenerationId::new(), draft, self.account.open).await {
                Ok(Started::New(_)) | Err(Error::InsufficientCredit { .. }) if !taken => {
                    return Err(Error::Missing(Noun::DeadLetter));
                }
                started => started?,
            };
            if let Started::New(record) = &started {
                jobs::append_event(tx, account, record.id.0, "REQUEUED", note).await?;
            }
            Ok(started)
        };
        self.pools.write.transaction("requeue_dead_letter", run).await
    }
}

async fn known(tx: &mut PgConnection, account: AccountId) -> Result<(), Error> {
    let query = sqlx::query_scalar("select exists (select from accounts where id = $1)").bind(account.0);
    let known: bool = chassis::postgres::statement("account_exists", query.fetch_one(tx)).await?;
    if known { Ok(()) } else { Err(Error::Missing(Noun::Account)) }
}
