//! How much may run at once: of an account, and in a pool that refuses.

use std::time::Duration;

use jobs::{BlockReason, Failure, Lease, Leased, Limits, NewJob, Retry, Wanted};
use testkit::eventually;
use uuid::Uuid;

use crate::stage::{KIND, LEASE, Stage, new_job};

pub(crate) const LIMITS: Limits = Limits { account: 3 };

impl Stage {
    /// Claims with limits.
    pub(crate) async fn claim_within(&self, limit: u32) -> Vec<Leased> {
        self.claim_of(&[""], limit).await
    }

    /// How PostgreSQL goes about a claim with limits.
    async fn plan_of_claim(&self) -> String {
        let queues = [String::new()];
        let limits = Some(LIMITS);
        let wanted = Wanted { kind: KIND, queues: &queues, worker: "worker", limit: 2, lease: LEASE, limits };
        let mut connection = self.connection().await;
        let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
        let plan = jobs::explain_claim(&mut tx, wanted).await.unwrap().join("\n");
        tx.rollback().await.unwrap();
        plan
    }

    async fn claim_of(&self, queues: &[&str], limit: u32) -> Vec<Leased> {
        let queues: Vec<String> = queues.iter().map(|queue| (*queue).to_owned()).collect();
        let wanted =
            Wanted { kind: KIND, queues: &queues, worker: "worker", limit, lease: LEASE, limits: Some(LIMITS) };
        let mut connection = self.connection().await;
        let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
        let leased = jobs::claim(&mut tx, wanted).await.unwrap();
        tx.commit().await.unwrap();
        leased
    }

    async fn job_in(&self, account: Uuid, queue: &str) -> Uuid {
        let job = NewJob { queue: queue.to_owned(), ..new_job(account) };
        self.enqueue(&job).await;
        job.id
    }

    async fn refuse(&self, lease: Lease, after: Option<Duration>) {
        let mut connection = self.connection().await;
        let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
        jobs::throttled(&mut tx, lease, after).await.unwrap();
        let retry = Retry::Uncounted { after: Some(Duration::from_secs(300)) };
        let failure = Failure { retry, cause: "BUSY".to_owned(), detail: "429".to_owned() };
        jobs::fail(&mut tx, lease, &failure).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Ends the pause of all pools, and lets so much time have passed since they refused; none goes by while it is negative.
    async fn pass(&self, seconds: f64) {
        sqlx::query("update job_pools set lower_time = now() - make_interval(secs => $1), closed_until = now()")
            .bind(seconds)
            .execute(&self.pool)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_account_has_no_more_running_than_it_may_and_the_next_go_on() {
    let stage = Stage::new().await;
    let (full, other) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..300 {
        stage.job(full).await;
    }
    let first = stage.claim_within(10).await;
    assert_eq!(first.len(), 3, "as many as it may, in one claim too");
    assert!(stage.claim_within(10).await.is_empty());
    // Behind more of the full account's than a claim polls at.
    for _ in 0..2 {
        stage.job(other).await;
    }
    sqlx::query("update jobs set vft = 1000 where account_id = $1").bind(other).execute(&stage.pool).await.unwrap();
    let next = stage.claim_within(10).await;
    assert_eq!(next.iter().map(|job| job.account).collect::<Vec<_>>(), [other, other]);
    // What waits elsewhere still runs; what has ended does not.
    let pause = jobs::Pause { poll_after: Some(Duration::from_secs(300)), cause: None, detail: None };
    jobs::suspend(&mut *stage.connection().await, first[0].lease, pause).await.unwrap();
    assert!(stage.claim_within(10).await.is_empty());
    jobs::complete(&mut *stage.connection().await, first[1].lease).await.unwrap();
    assert_eq!(stage.claim_within(10).await.len(), 1);
}

#[tokio::test]
async fn an_accounts_own_limit_goes_before_the_usual_one() {
    let stage = Stage::new().await;
    let (more, none) = (Uuid::now_v7(), Uuid::now_v7());
    let mut connection = stage.connection().await;
    jobs::set_running_limit(&mut connection, KIND, more, Some(5)).await.unwrap();
    jobs::set_running_limit(&mut connection, KIND, none, Some(0)).await.unwrap();
    for account in [more, none] {
        for _ in 0..8 {
            stage.job(account).await;
        }
    }
    let given = stage.claim_within(16).await;
    assert_eq!((given.len(), given.iter().all(|job| job.account == more)), (5, true));
    let queue_status = jobs::queue_status(&mut connection, KIND, LIMITS).await.unwrap();
    assert_eq!(queue_status.block_reason(more, ""), Some(BlockReason::Account));
    assert_eq!(queue_status.block_reason(none, ""), Some(BlockReason::Account));
    assert_eq!(queue_status.block_reason(Uuid::now_v7(), ""), None);
    jobs::set_running_limit(&mut connection, KIND, none, None).await.unwrap();
    assert_eq!(stage.claim_within(16).await.len(), 3, "as any other");
}

#[tokio::test]
async fn claims_at_once_do_not_exceed_together_what_each_keeps_to() {
    let stage = Stage::new().await;
    let account = Uuid::now_v7();
    for queue in ["left", "right"] {
        for _ in 0..5 {
            stage.job_in(account, queue).await;
        }
    }
    let queues = ["left".to_owned()];
    let wanted = Wanted { kind: KIND, queues: &queues, worker: "first", limit: 5, lease: LEASE, limits: Some(LIMITS) };
    let mut connection = stage.connection().await;
    let mut first = sqlx::Connection::begin(&mut *connection).await.unwrap();
    assert_eq!(jobs::claim(&mut first, wanted).await.unwrap().len(), 3);
    // The second comes while the first is not committed, and gives nothing out that it does not see running.
    let second = stage.claim_of(&["right"], 5);
    let waits = async {
        let waiting = async || {
            let query = "select exists (select from pg_locks
                         where locktype = 'advisory' and not granted
                           and database = (select oid from pg_database where datname = current_database()))";
            let waits: bool = sqlx::query_scalar(query).fetch_one(&stage.pool).await.unwrap();
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
    let stage = Stage::new().await;
    let mut connection = stage.connection().await;
    for _ in 0..60 {
        stage.job(Uuid::now_v7()).await;
    }
    let running = stage.claim_within(16).await;
    assert_eq!(running.len(), 16, "nothing is known of the pool yet");
    stage.refuse(running[0].lease, Some(Duration::from_secs(20))).await;
    let queue_status = jobs::queue_status(&mut connection, KIND, LIMITS).await.unwrap();
    assert_eq!(queue_status.block_reason(Uuid::now_v7(), ""), Some(BlockReason::Pool));
    // Calls that were made before it heard of the first refusal are refused too.
    stage.refuse(running[1].lease, None).await;
    for job in &running[2..] {
        jobs::complete(&mut connection, job.lease).await.unwrap();
    }
    assert!(stage.claim_within(10).await.is_empty(), "nothing runs, but it asked for a pause");
    let ceiling: f64 = sqlx::query_scalar("select ceiling from job_pools").fetch_one(&stage.pool).await.unwrap();
    assert!((ceiling - 8.0).abs() < f64::EPSILON, "half of 16, once: {ceiling}");
    // The pause is over, and no time goes by.
    stage.pass(-3600.0).await;
    assert_eq!(stage.claim_within(30).await.len(), 8);
    assert!(stage.claim_within(30).await.is_empty(), "it has as many as it takes");
    let queue_status = jobs::queue_status(&mut connection, KIND, LIMITS).await.unwrap();
    assert_eq!(queue_status.block_reason(Uuid::now_v7(), ""), Some(BlockReason::Pool));
    // It takes more with time; refusing again, half of what ran then.
    stage.pass(3600.0).await;
    let given = stage.claim_within(12).await;
    assert_eq!(given.len(), 12);
    stage.refuse(given[0].lease, None).await;
    let ceiling: f64 = sqlx::query_scalar("select ceiling from job_pools").fetch_one(&stage.pool).await.unwrap();
    assert!((ceiling - 10.0).abs() < f64::EPSILON, "half of 20: {ceiling}");
}

#[tokio::test]
async fn what_is_paused_is_given_to_no_claim_with_limits() {
    let stage = Stage::new().await;
    let mut connection = stage.connection().await;
    let (left, right) = (stage.job_in(Uuid::now_v7(), "left").await, stage.job_in(Uuid::now_v7(), "right").await);
    let given = async || {
        let jobs = stage.claim_of(&["left", "right"], 5).await;
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
async fn queues_that_one_provider_serves_share_what_it_takes() {
    let stage = Stage::new().await;
    for queue in ["left", "right", "elsewhere"] {
        for _ in 0..10 {
            stage.job_in(Uuid::now_v7(), queue).await;
        }
    }
    let mut connection = stage.connection().await;
    let running = [stage.claim_of(&["left"], 4).await, stage.claim_of(&["right"], 4).await].concat();
    for job in &running {
        jobs::served_by(&mut connection, job.lease, "provider").await.unwrap();
    }
    stage.refuse(running[0].lease, None).await;
    stage.pass(-3600.0).await;
    for job in &running[1..] {
        jobs::complete(&mut connection, job.lease).await.unwrap();
    }
    let given = stage.claim_of(&["left", "right"], 10).await;
    assert_eq!(given.len(), 4, "half of the eight of both");
    assert!(stage.claim_of(&["right"], 10).await.is_empty());
    assert_eq!(stage.claim_of(&["elsewhere"], 10).await.len(), 10, "another provider's");
    let queue_status = jobs::queue_status(&mut connection, KIND, LIMITS).await.unwrap();
    let hold = |queue| queue_status.block_reason(Uuid::now_v7(), queue);
    assert_eq!(
        (hold("left"), hold("right"), hold("elsewhere")),
        (Some(BlockReason::Pool), Some(BlockReason::Pool), None)
    );
}

#[tokio::test]
async fn what_goes_last_takes_no_turn_of_what_does_not() {
    let stage = Stage::new().await;
    let (patient, other) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..20 {
        stage.enqueue(&NewJob { priority: 200, ..new_job(patient) }).await;
        stage.job(other).await;
    }
    let first = stage.job(patient).await;
    let served = stage.claim("worker", 3).await;
    assert!(served.iter().any(|job| job.lease.job == first), "its ordinary job waits for none of its patient ones");
    let served = stage.claim("worker", 18).await;
    assert!(served.iter().all(|job| job.account == other), "patient ones go after all that is ordinary");
    assert_eq!(stage.claim("worker", 30).await.len(), 20, "and then they go");
}

/// The most rows that a step of a plan read in vain.
fn most_removed(plan: &str) -> u32 {
    let removed = plan.lines().filter_map(|line| line.split("Removed by Filter: ").nth(1)?.trim().parse().ok());
    removed.max().unwrap_or_default()
}

#[tokio::test]
async fn a_claim_reads_its_own_share_however_much_a_full_account_has_queued() {
    let stage = Stage::new().await;
    sqlx::query(
        "insert into jobs (id, account_id, kind, idem_key, request_hash, payload, vft, max_attempts)
         select gen_random_uuid(), md5((case when n > 20000 then n else 0 end)::text)::uuid, $1, n::text, '', '', n, 5
         from generate_series(1, 20050) n",
    )
    .bind(KIND)
    .execute(&stage.pool)
    .await
    .unwrap();
    sqlx::query("analyze jobs").execute(&stage.pool).await.unwrap();
    assert_eq!(stage.claim_within(3).await.len(), 3, "the account with the backlog is full now");
    let plan = stage.plan_of_claim().await;
    assert!(!plan.contains("Seq Scan"), "{plan}");
    let most = plan.split("rows=").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    let most = most.fold(0.0, f64::max);
    assert!(most <= 210.0, "no step reads more than the front and a row for each account: {most}\n{plan}");
    assert!(most_removed(&plan) <= 210, "{plan}");
}

#[tokio::test]
async fn a_claim_reads_nothing_of_what_is_to_be_tried_later() {
    let stage = Stage::new().await;
    sqlx::query(
        "insert into jobs (id, account_id, kind, idem_key, request_hash, payload, vft, max_attempts, run_at)
         select gen_random_uuid(), md5('down')::uuid, $1, n::text, '', '', n, 5, now() + interval '3 hours'
         from generate_series(1, 20000) n",
    )
    .bind(KIND)
    .execute(&stage.pool)
    .await
    .unwrap();
    sqlx::query("analyze jobs").execute(&stage.pool).await.unwrap();
    let ready = stage.job(Uuid::now_v7()).await;
    let plan = stage.plan_of_claim().await;
    assert!(!plan.contains("Seq Scan") && most_removed(&plan) < 10, "{plan}");
    let claimed = stage.claim_within(5).await;
    assert_eq!(claimed.iter().map(|job| job.lease.job).collect::<Vec<_>>(), [ready]);

    sqlx::query("update jobs set run_at = now() where idem_key = '7' and kind = $1")
        .bind(KIND)
        .execute(&stage.pool)
        .await
        .unwrap();
    assert_eq!(stage.claim_within(5).await.len(), 1, "what has come due is claimed");
}

#[tokio::test]
async fn what_comes_due_is_claimed_with_limits_and_without() {
    let stage = Stage::new().await;
    for limits in [None, Some(LIMITS)] {
        let mut later = new_job(Uuid::now_v7());
        later.delay = Duration::from_millis(700);
        stage.enqueue(&later).await;
        let claim = async || match limits {
            None => stage.claim("worker", 1).await,
            Some(_) => stage.claim_within(1).await,
        };
        assert!(claim().await.is_empty(), "its time has not come");
        let claimed = eventually("it is claimed when its time has come", Duration::from_secs(20), async || {
            let claimed = claim().await;
            (!claimed.is_empty()).then_some(claimed)
        });
        assert_eq!(claimed.await.unwrap()[0].lease.job, later.id);
    }
}
