//! The set-up of each test: a database of its own, and short ways to move jobs.

use std::time::Duration;

use jobs::{ClaimRequest, Enqueued, Lease, Leased, NewJob};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool};
use testkit::{Database, Service};
use uuid::Uuid;

pub(crate) const KIND: &str = "test";
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// A migrated database and connections to it, as the service that uses most of the queue. Dropping it drops the database.
pub(crate) struct Cluster {
    pub(crate) pool: PgPool,
    database: Database,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        let database = Database::fresh().await.unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(12)
            .connect(&database.url_of(Service::GenerationStatus))
            .await
            .unwrap();
        Self { pool, database }
    }

    /// A connection that may do everything.
    pub(crate) async fn owner(&self) -> PgConnection {
        PgConnection::connect(&self.database.url()).await.unwrap()
    }

    /// Brings the planner's statistics of the jobs up to date.
    pub(crate) async fn analyze(&self) {
        sqlx::query("analyze jobs").execute(&mut self.owner().await).await.unwrap();
    }

    pub(crate) async fn connection(&self) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
        self.pool.acquire().await.unwrap()
    }

    /// Enqueues a job.
    pub(crate) async fn enqueue(&self, job: &NewJob) -> Enqueued {
        jobs::enqueue(&mut *self.connection().await, job).await.unwrap()
    }

    /// Enqueues an ordinary job of an account.
    pub(crate) async fn enqueue_for(&self, account: Uuid) -> Uuid {
        let job = new_job(account);
        assert_eq!(self.enqueue(&job).await, Enqueued::Created(job.id));
        job.id
    }

    /// Claims up to `limit` jobs for `worker`.
    pub(crate) async fn claim(&self, worker: &str, limit: u32) -> Vec<Leased> {
        let mut connection = self.connection().await;
        let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
        let leased = where_due(&mut tx, async |tx| claim(tx, worker, limit, LEASE).await).await;
        tx.commit().await.unwrap();
        leased
    }

    /// Whether a claim may find something.
    pub(crate) async fn any_due(&self) -> bool {
        jobs::any_due(&mut *self.connection().await, KIND).await.unwrap()
    }

    /// Claims the only claimable job, as a worker that never had one.
    pub(crate) async fn claim_only(&self) -> Leased {
        let mut leased = self.claim(&format!("worker-{}", Uuid::now_v7()), 10).await;
        assert_eq!(leased.len(), 1, "one job should be ready");
        leased.pop().unwrap()
    }

    /// Makes a lease run out, as time would.
    pub(crate) async fn expire(&self, lease: Lease) {
        sqlx::query("update jobs set lease_until = now() - interval '1 ms' where id = $1 and fence = $2")
            .bind(lease.job)
            .bind(lease.fence)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Makes a delayed job or a poll due, as time would.
    pub(crate) async fn make_due(&self, job: Uuid) {
        sqlx::query("update jobs set run_at = now() where id = $1").bind(job).execute(&self.pool).await.unwrap();
    }

    /// The state of a job.
    pub(crate) async fn state(&self, job: Uuid) -> String {
        sqlx::query_scalar("select state from jobs where id = $1").bind(job).fetch_one(&self.pool).await.unwrap()
    }

    /// The states that a job went through, in order.
    pub(crate) async fn history(&self, job: Uuid) -> Vec<String> {
        sqlx::query_scalar("select to_state from job_events where job_id = $1 order by id")
            .bind(job)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}

/// What this claims in a transaction, which is nothing where nothing was due at its time.
pub(crate) async fn where_due(
    tx: &mut PgConnection,
    claim: impl AsyncFnOnce(&mut PgConnection) -> Vec<Leased>,
) -> Vec<Leased> {
    let was_due = jobs::any_due(tx, KIND).await.unwrap();
    let leased = claim(tx).await;
    assert!(was_due || leased.is_empty(), "nothing was due, and {leased:?} was claimed");
    leased
}

/// An ordinary job of an account, not yet enqueued.
pub(crate) fn new_job(account: Uuid) -> NewJob {
    NewJob::new(account, KIND, Uuid::now_v7().to_string())
}

pub(crate) async fn claim(connection: &mut PgConnection, worker: &str, limit: u32, lease: Duration) -> Vec<Leased> {
    let request = ClaimRequest { kind: KIND, queues: &[String::new()], worker, limit, lease, limits: None };
    jobs::claim(connection, request).await.unwrap()
}
