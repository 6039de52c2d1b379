//! The jobs of deletions, and the generations that are left to cancel below what was deleted.

use std::time::Duration;

use domain::generation::{DELETION_JOBS, State};
use domain::id::{AccountId, GenerationId};
use jobs::{ClaimRequest, Failure, Lease, Leased, Reaped, RetryDecision};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use crate::error::Error;
use crate::model::DeletedName;

impl Store {
    /// Leases the job of one deletion.
    pub(crate) async fn claim_deletion(&self, worker: &str, lease: Duration) -> Result<Option<Leased>, Error> {
        let any_due = async |connection: &mut PgConnection| jobs::any_due(connection, DELETION_JOBS).await;
        if !self.pools.reaper.run("any_deletion_due", any_due).await? {
            return Ok(None);
        }
        let queues = [String::new()];
        let wanted = ClaimRequest { kind: DELETION_JOBS, queues: &queues, worker, limit: 1, lease, limits: None };
        let run = async |tx: &mut PgConnection| Ok::<_, Error>(jobs::claim(tx, wanted).await?.pop());
        self.pools.reaper.transaction("claim_deletion", run).await
    }

    /// Up to `limit` generations below `name` that can be cancelled, oldest first. Those that were asked to stop, or are being
    /// delivered, are not among them.
    pub(crate) async fn cancellable(
        &self,
        account: AccountId,
        name: DeletedName,
        limit: i64,
    ) -> Result<Vec<GenerationId>, Error> {
        let (project, scene) = match name {
            DeletedName::Project(project) => (project, None),
            DeletedName::Scene(name) => (name.project, Some(name.scene.0)),
        };
        let query = sqlx::query_scalar::<_, Uuid>(
            "select id from generations
             where account_id = $1 and end_time is null and project_id = $2 and ($3::uuid is null or scene_id = $3)
               and state = any ($4)
             order by id limit $5",
        )
        .bind(account.0)
        .bind(project.0)
        .bind(scene)
        .bind([State::Queued, State::Submitting, State::Processing].map(State::number))
        .bind(limit);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let ids = self.pools.read.run("find_cancellable", run).await?;
        Ok(ids.into_iter().map(GenerationId).collect())
    }

    /// Prolongs the lease of a deletion's job, or says that it is lost.
    pub(crate) async fn prolong_deletion(&self, held: Lease, lease: Duration) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            let statuses = jobs::heartbeat(tx, &[held], lease).await?;
            if statuses.iter().all(|status| status.held.is_some()) { Ok(()) } else { Err(Error::StaleFence) }
        };
        self.pools.reaper.transaction("prolong_deletion", run).await
    }

    /// Ends the job of a deletion that is carried out.
    pub(crate) async fn complete_deletion(&self, lease: Lease) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| Ok::<_, Error>(jobs::complete(tx, lease).await.map(drop)?);
        self.pools.reaper.transaction("complete_deletion", run).await
    }

    /// Ends a failed attempt at a deletion.
    pub(crate) async fn fail_deletion(&self, lease: Lease, failure: &Failure) -> Result<RetryDecision, Error> {
        let run = async |tx: &mut PgConnection| Ok::<_, Error>(jobs::fail(tx, lease, failure).await?);
        self.pools.reaper.transaction("fail_deletion", run).await
    }

    /// Gives the job of a deletion back.
    pub(crate) async fn release_deletion(&self, lease: Lease) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| Ok::<_, Error>(jobs::release(tx, lease).await.map(drop)?);
        self.pools.reaper.transaction("release_deletion", run).await
    }

    /// Takes back the expired leases of deletions' jobs, and sets the gauges of these jobs.
    pub(crate) async fn reap_deletions(&self) -> Result<Reaped, Error> {
        let run = async |tx: &mut PgConnection| {
            let reaped = jobs::reap(tx, DELETION_JOBS).await?;
            jobs::observe(tx, DELETION_JOBS).await?;
            Ok::<_, Error>(reaped)
        };
        self.pools.reaper.transaction("reap_deletions", run).await
    }
}
