//! Limits: how much runs at once, of an account and in a pool that refuses.

use std::time::Duration;

use jobs::{BlockReason, ClaimRequest, Failure, Lease, Leased, Limits, NewJob, Retry};
use testkit::eventually;
use uuid::Uuid;

use crate::cluster::{Cluster, KIND, LEASE, new_job, where_due};

pub(crate) const LIMITS: Limits = Limits { account: 3 };

impl Cluster {
    /// Claims with limits from the queue without a name.
    pub(crate) async fn claim_within_limits(&self, limit: u32) -> Vec<Leased> {
        self.claim_from(&[""], limit).await
    }

    /// The plan of a claim with limits.
    async fn claim_plan(&self) -> String {
        let queues = [String::new()];
        let limits = Some(LIMITS);
        let request = ClaimRequest { kind: KIND, queues: &queues, worker: "worker", limit: 2, lease: LEASE, limits };
        let mut connection = self.connection().await;
        let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
        let plan = jobs::explain_claim(&mut tx, request).await.unwrap().join("\n");
        tx.rollback().await.unwrap();
        plan
    }

    pub(crate) async fn claim_from(&self, queues: &[&str], limit: u32) -> Vec<Leased> {
        let queues: Vec<String> = queues.iter().map(|queue| (*queue).to_owned()).collect();
        let request =
            ClaimRequest { kind: KIND, queues: &queues, worker: "worker", limit, lease: LEASE, limits: Some(LIMITS) };
        let mut connection = self.connection().await;
        let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
        let leased = where_due(&mut tx, async |tx| jobs::claim(tx, request).await.unwrap()).await;
        tx.commit().await.unwrap();
        leased
    }

    /// Enqueues a job of an account in a queue.
    pub(crate) async fn enqueue_in(&self, account: Uuid, queue: &str) -> Uuid {
        let job = NewJob { queue: queue.to_owned(), ..new_job(account) };
        self.enqueue(&job).await;
        job.id
    }

    /// Fails an attempt because its pool is busy.
    async fn refuse(&self, lease: Lease, after: Option<Duration>) {
        let mut connection = self.connection().await;
        let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
        jobs::throttle_pool(&mut tx, lease, after).await.unwrap();
        let retry = Retry::Uncounted { after: Some(Duration::from_secs(300)) };
        let failure = Failure { retry, cause: "BUSY".to_owned(), detail: "429".to_owned() };
        jobs::fail(&mut tx, lease, &failure).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Opens all pools, and sets how long ago they refused. With a negative time their ceilings do not grow.
    async fn age_refusals(&self, seconds: f64) {
        sqlx::query("update job_pools set lower_time = now() - make_interval(secs => $1), closed_until = now()")
            .bind(seconds)
            .execute(&self.pool)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_account_runs_no_more_than_its_limit_and_others_go_on() {
    let cluster = Cluster::new().await;
    let (full, other) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..300 {
        cluster.enqueue_for(full).await;
    }
    let first = cluster.claim_within_limits(10).await;
    assert_eq!(first.len(), 3, "as many as it may, in one claim too");
    assert!(cluster.claim_within_limits(10).await.is_empty());
    // Behind more of the full account's jobs than the front that a claim reads.
    for _ in 0..2 {
        cluster.enqueue_for(other).await;
    }
    sqlx::query("update jobs set vft = 1000 where account_id = $1").bind(other).execute(&cluster.pool).await.unwrap();
    let next = cluster.claim_within_limits(10).await;
    assert_eq!(next.iter().map(|job| job.account).collect::<Vec<_>>(), [other, other]);
    // What waits elsewhere still runs; what has ended does not.
    let suspension = jobs::Suspension { poll_after: Some(Duration::from_secs(300)), cause: None, detail: None };
    jobs::suspend(&mut *cluster.connection().await, first[0].lease, suspension).await.unwrap();
    assert!(cluster.claim_within_limits(10).await.is_empty());
    jobs::complete(&mut *cluster.connection().await, first[1].lease).await.unwrap();
    assert_eq!(cluster.claim_within_limits(10).await.len(), 1);
}

#[tokio::test]
async fn an_accounts_own_limit_replaces_the_usual_one() {
    let cluster = Cluster::new().await;
    let (more, none) = (Uuid::now_v7(), Uuid::now_v7());
    let mut connection = cluster.connection().await;
    jobs::set_running_limit(&mut connection, KIND, more, Some(5)).await.unwrap();
    jobs::set_running_limit(&mut connection, KIND, none, Some(0)).await.unwrap();
    for account in [more, none] {
        for _ in 0..8 {
            cluster.enqueue_for(account).await;
        }
    }
    let given = cluster.claim_within_limits(16).await;
    assert_eq!((given.len(), given.iter().all(|job| job.account == more)), (5, true));
    let queue_status = jobs::queue_status(&mut connection, KIND, LIMITS).await.unwrap();
    assert_eq!(queue_status.block_reason(more, ""), Some(BlockReason::Account));
    assert_eq!(queue_status.block_reason(none, ""), Some(BlockReason::Account));
    assert_eq!(queue_status.block_reason(Uuid::now_v7(), ""), None);
    jobs::set_running_limit(&mut connection, KIND, none, None).await.unwrap();
    assert_eq!(cluster.claim_within_limits(16).await.len(), 3, "as any other");
}

#[tokio::test]
async fn concurrent_claims_do_not_exceed_a_limit_together() {
    let cluster = Cluster::new().await;
    let account = Uuid::now_v7();
    for queue in ["left", "right"] {
        for _ in 0..5 {
            cluster.enqueue_in(account, queue).await;
        }
    }
    let queues = ["left".to_owned()];
    let request =
        ClaimRequest { kind: KIND, queues: &queues, worker: "first", limit: 5, lease: LEASE, limits: Some(LIMITS) };
    let mut connection = cluster.connection().await;
    let mut first = sqlx::Connection::begin(&mut *connection).await.unwrap();
    assert_eq!(jobs::claim(&mut first, request).await.unwrap().len(), 3);
    // The second comes while the first is not committed, and gives nothing out that it does not see running.
    let second = cluster.claim_from(&["right"], 5);
    let waits = async {
        let waiting = async || {
            let query = "select exists (select from pg_locks
                         where locktype = 'advisory' and not granted
                           and database = (select oid from pg_database where datname = current_database()))";
            let waits: bool = sqlx::query_scalar(query).fetch_one(&cluster.pool).await.unwrap();
            waits.then_some(())
        };
        eventually("the second waits", Duration::from_secs(20), waiting).await.unwrap();
        first.commit().await.unwrap();
    };
    let (second, ()) = tokio::join!(second, waits);
    assert!(second.is_empty(), "{} more than it may", second.len());
}

#[tokio::test]
async fn a_pool_that_refuses_gets_half_and_more_with_time() {
    let cluster = Cluster::new().await;
    let mut connection = cluster.connection().await;
    for _ in 0..60 {
        cluster.enqueue_for(Uuid::now_v7()).await;
    }
    let running = cluster.claim_within_limits(16).await;
    assert_eq!(running.len(), 16, "nothing is known of the pool yet");
    cluster.refuse(running[0].lease, Some(Duration::from_secs(20))).await;
    let queue_status = jobs::queue_status(&mut connection, KIND, LIMITS).await.unwrap();
    assert_eq!(queue_status.block_reason(Uuid::now_v7(), ""), Some(BlockReason::Pool));
    // Calls that were made before it heard of the first refusal are refused too.
    cluster.refuse(running[1].lease, None).await;
    for job in &running[2..] {
        jobs::complete(&mut connection, job.lease).await.unwrap();
    }
    assert!(cluster.claim_within_limits(10).await.is_empty(), "nothing runs, but it asked for a pause");
    let ceiling: f64 = sqlx::query_scalar("select ceiling from job_pools").fetch_one(&cluster.pool).await.unwrap();
    assert!((ceiling - 8.0).abs() < f64::EPSILON, "half of 16, once: {ceiling}");
    // The pause is over, and no time goes by.
    cluster.age_refusals(-3600.0).await;
    assert_eq!(cluster.claim_within_limits(30).await.len(), 8);
    assert!(cluster.claim_within_limits(30).await.is_empty(), "it has as many as it takes");
    let queue_status = jobs::queue_status(&mut connection, KIND, LIMITS).await.unwrap();
    assert_eq!(queue_status.block_reason(Uuid::now_v7(), ""), Some(BlockReason::Pool));
    // It takes more with time; refusing again, half of what ran then.
    cluster.age_refusals(3600.0).await;
    let given = cluster.claim_within_limits(12).await;
    assert_eq!(given.len(), 12);
    cluster.refuse(given[0].lease, None).await;
    let ceiling: f64 = sqlx::query_scalar("select ceiling from job_pools").fetch_one(&cluster.pool).await.unwrap();
    assert!((ceiling - 10.0).abs() < f64::EPSILON, "half of 20: {ceiling}");
}

#[tokio::test]
async fn a_claim_with_limits_leases_nothing_that_is_paused() {
    let cluster = Cluster::new().await;
    let mut connection = cluster.connection().await;
    let (left, right) =
        (cluster.enqueue_in(Uuid::now_v7(), "left").await, cluster.enqueue_in(Uuid::now_v7(), "right").await);
    let given = async || {
        let jobs = cluster.claim_from(&["left", "right"], 5).await;
        jobs.iter().map(|job| job.lease.job).collect::<Vec<_>>()
    };
    jobs::pause(&mut connection, KIND, "", "all of it").await.unwrap();
    assert!(given().await.is_empty());
    jobs::pause(&mut connection, KIND, "left", "one part").await.unwrap();
    jobs::resume(&mut connection, KIND, "").await.unwrap();
    assert_eq!(given().await, [right]);
    jobs::resume(&mut connection, KIND, "left").await.unwrap();
    assert_eq!(given().await, [left]);
}

#[tokio::test]
async fn queues_of_one_pool_share_its_ceiling() {
    let cluster = Cluster::new().await;
    for queue in ["left", "right", "elsewhere"] {
        for _ in 0..10 {
            cluster.enqueue_in(Uuid::now_v7(), queue).await;
        }
    }
    let mut connection = cluster.connection().await;
    let running = [cluster.claim_from(&["left"], 4).await, cluster.claim_from(&["right"], 4).await].concat();
    for job in &running {
        jobs::assign_pool(&mut connection, job.lease, "provider").await.unwrap();
    }
    cluster.refuse(running[0].lease, None).await;
    cluster.age_refusals(-3600.0).await;
    for job in &running[1..] {
        jobs::complete(&mut connection, job.lease).await.unwrap();
    }
    let given = cluster.claim_from(&["left", "right"], 10).await;
    assert_eq!(given.len(), 4, "half of the eight of both");
    assert!(cluster.claim_from(&["right"], 10).await.is_empty());
    assert_eq!(cluster.claim_from(&["elsewhere"], 10).await.len(), 10, "another provider's");
    let queue_status = jobs::queue_status(&mut connection, KIND, LIMITS).await.unwrap();
    let hold = |queue| queue_status.block_reason(Uuid::now_v7(), queue);
    assert_eq!(
        (hold("left"), hold("right"), hold("elsewhere")),
        (Some(BlockReason::Pool), Some(BlockReason::Pool), None)
    );
}

#[tokio::test]
async fn background_jobs_take_no_turn_of_ordinary_ones() {
    let cluster = Cluster::new().await;
    let (background, other) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..20 {
        cluster.enqueue(&NewJob { priority: 200, ..new_job(background) }).await;
        cluster.enqueue_for(other).await;
    }
    let first = cluster.enqueue_for(background).await;
    let served = cluster.claim("worker", 3).await;
    assert!(served.iter().any(|job| job.lease.job == first), "its ordinary job waits for none of its background ones");
    let served = cluster.claim("worker", 18).await;
    assert!(served.iter().all(|job| job.account == other), "background jobs go after all ordinary ones");
    assert_eq!(cluster.claim("worker", 30).await.len(), 20, "and then they go");
}

/// The most rows that a step of a plan read and filtered out.
fn max_removed(plan: &str) -> u32 {
    let removed = plan.lines().filter_map(|line| line.split("Removed by Filter: ").nth(1)?.trim().parse().ok());
    removed.max().unwrap_or_default()
}

#[tokio::test]
async fn a_claim_reads_few_rows_however_much_a_full_account_has_queued() {
    let cluster = Cluster::new().await;
    sqlx::query(
        "insert into jobs (id, account_id, kind, idem_key, request_hash, payload, vft, max_attempts)
         select gen_random_uuid(), md5((case when n > 20000 then n else 0 end)::text)::uuid, $1, n::text, '', '', n, 5
         from generate_series(1, 20050) n",
    )
    .bind(KIND)
    .execute(&cluster.pool)
    .await
    .unwrap();
    cluster.analyze().await;
    assert_eq!(cluster.claim_within_limits(3).await.len(), 3, "the account with the backlog is full now");
    let plan = cluster.claim_plan().await;
    assert!(!plan.contains("Seq Scan"), "{plan}");
    let rows = plan.split("rows=").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    let max_rows = rows.fold(0.0, f64::max);
    assert!(max_rows <= 210.0, "no step reads more than the front and a row for each account: {max_rows}\n{plan}");
    assert!(max_removed(&plan) <= 210, "{plan}");
}

#[tokio::test]
async fn a_claim_reads_no_delayed_job() {
    let cluster = Cluster::new().await;
    sqlx::query(
        "insert into jobs (id, account_id, kind, idem_key, request_hash, payload, vft, max_attempts, run_at)
         select gen_random_uuid(), md5('down')::uuid, $1, n::text, '', '', n, 5, now() + interval '3 hours'
         from generate_series(1, 20000) n",
    )
    .bind(KIND)
    .execute(&cluster.pool)
    .await
    .unwrap();
    cluster.analyze().await;
    let ready = cluster.enqueue_for(Uuid::now_v7()).await;
    let plan = cluster.claim_plan().await;
    assert!(!plan.contains("Seq Scan") && max_removed(&plan) < 10, "{plan}");
    let claimed = cluster.claim_within_limits(5).await;
    assert_eq!(claimed.iter().map(|job| job.lease.job).collect::<Vec<_>>(), [ready]);

    sqlx::query("update jobs set run_at = now() where idem_key = '7' and kind = $1")
        .bind(KIND)
        .execute(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(cluster.claim_within_limits(5).await.len(), 1, "what has come due is claimed");
}

#[tokio::test]
async fn what_has_come_due_is_claimed_with_limits_and_without() {
    let cluster = Cluster::new().await;
    for limits in [None, Some(LIMITS)] {
        let mut later = new_job(Uuid::now_v7());
        later.delay = Duration::from_millis(700);
        cluster.enqueue(&later).await;
        let claim = async || match limits {
            None => cluster.claim("worker", 1).await,
            Some(_) => cluster.claim_within_limits(1).await,
        };
        assert!(claim().await.is_empty(), "its time has not come");
        let claimed = eventually("it is claimed when its time has come", Duration::from_secs(20), async || {
            let claimed = claim().await;
            (!claimed.is_empty()).then_some(claimed)
        });
        assert_eq!(claimed.await.unwrap()[0].lease.job, later.id);
    }
}
