//! Breakers: what fails for everybody is given out one at a time, and comes back by itself.

use jobs::{BlockReason, Breaker, Failure, Lease, MAX_FAILURES_IN_ROW, Retry, Scope, Symptom};
use uuid::Uuid;

use crate::cluster::{Cluster, KIND};
use crate::limits::LIMITS;

const REFUSED: Symptom<'static> =
    Symptom { scope: Scope::Pool, key: "", cause: "ACCOUNT_REFUSED", detail: "user is locked", certain: true };
const OUTAGE: Symptom<'static> =
    Symptom { scope: Scope::Pool, key: "", cause: "OUTAGE", detail: "503", certain: false };

impl Cluster {
    /// Fails an attempt with a symptom; the job is queued again, and due.
    pub(crate) async fn trip(&self, lease: Lease, symptom: Symptom<'_>) -> Option<Breaker> {
        let mut connection = self.connection().await;
        let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
        let opened = jobs::trip(&mut tx, lease, symptom).await.unwrap();
        let retry = Retry::WhenAvailable;
        let failure = Failure { retry, cause: symptom.cause.to_owned(), detail: symptom.detail.to_owned() };
        jobs::fail(&mut tx, lease, &failure).await.unwrap();
        tx.commit().await.unwrap();
        sqlx::query("update jobs set run_at = now() where state = 'queued'").execute(&self.pool).await.unwrap();
        opened
    }

    async fn recover(&self, lease: Lease) -> Vec<Breaker> {
        jobs::recover(&mut *self.connection().await, lease).await.unwrap()
    }

    /// Makes the next probe of every open breaker due.
    pub(crate) async fn probe_now(&self) {
        sqlx::query("update job_breakers set probe_time = now()").execute(&self.pool).await.unwrap();
    }

    async fn block_reason(&self, queue: &str) -> Option<BlockReason> {
        let status = jobs::queue_status(&mut *self.connection().await, KIND, LIMITS).await.unwrap();
        status.block_reason(Uuid::now_v7(), queue)
    }
}

/// A cluster with eight jobs of as many accounts in each of these queues.
async fn queued(queues: &[&str]) -> Cluster {
    let cluster = Cluster::new().await;
    for queue in queues {
        for _ in 0..8 {
            cluster.enqueue_in(Uuid::now_v7(), queue).await;
        }
    }
    cluster
}

#[tokio::test]
async fn one_refusal_of_the_account_holds_everything_back_but_a_probe() {
    let cluster = queued(&["a", "b"]).await;
    let first = cluster.claim_from(&["a", "b"], 1).await;
    jobs::assign_pool(&mut *cluster.connection().await, first[0].lease, "provider").await.unwrap();
    let opened = cluster.trip(first[0].lease, REFUSED).await.unwrap();
    assert_eq!((opened.target.as_str(), opened.detail.as_str()), ("provider", "user is locked"));
    assert!(cluster.claim_from(&["a"], 8).await.is_empty());
    assert_eq!(cluster.block_reason("a").await, Some(BlockReason::Unavailable));
    assert_eq!(cluster.claim_from(&["b"], 1).await.len(), 1, "a queue of another pool goes on");

    cluster.probe_now().await;
    let probe = cluster.claim_from(&["a"], 8).await;
    assert_eq!(probe.len(), 1, "one at a time");
    assert_eq!(probe[0].attempt, 1, "an attempt that nobody took does not count");
    assert!(cluster.claim_from(&["a"], 8).await.is_empty(), "while a probe is under way there is no other");
    // The probe fails: the next one comes later, and the breaker is not opened anew.
    assert_eq!(cluster.trip(probe[0].lease, REFUSED).await, None);
    assert!(cluster.claim_from(&["a"], 8).await.is_empty());
    let waits: f64 = sqlx::query_scalar(
        "select extract(epoch from probe_time - now())::double precision from job_breakers where target = 'provider'",
    )
    .fetch_one(&cluster.pool)
    .await
    .unwrap();
    assert!((3.0..=4.0).contains(&waits), "{waits}");

    cluster.probe_now().await;
    let probe = cluster.claim_from(&["a"], 8).await;
    let closed = cluster.recover(probe[0].lease).await;
    assert_eq!(closed.iter().map(|breaker| breaker.target.as_str()).collect::<Vec<_>>(), ["provider"]);
    assert_eq!(cluster.block_reason("a").await, None);
    let next = cluster.claim_from(&["a"], 8).await.len();
    assert!((1..=3).contains(&next), "what waited comes little by little: {next}");
}

#[tokio::test]
async fn an_outage_is_several_failures_in_a_row_and_a_success_between_starts_again() {
    let cluster = queued(&["a"]).await;
    let leased = cluster.claim_from(&["a"], 8).await;
    let mut leases = leased.iter().map(|job| job.lease);
    for _ in 0..MAX_FAILURES_IN_ROW - 1 {
        assert_eq!(cluster.trip(leases.next().unwrap(), OUTAGE).await, None);
    }
    assert_eq!(cluster.block_reason("a").await, None);
    assert!(cluster.recover(leases.next().unwrap()).await.is_empty(), "it was not open");
    let mut opened = Vec::new();
    for _ in 0..MAX_FAILURES_IN_ROW {
        let lease = match leases.next() {
            Some(lease) => lease,
            None => cluster.claim_from(&["a"], 1).await[0].lease,
        };
        opened.extend(cluster.trip(lease, OUTAGE).await);
    }
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].target, "a", "a queue without a pool is one by itself");
    assert_eq!(cluster.block_reason("a").await, Some(BlockReason::Unavailable));
}

#[tokio::test]
async fn what_was_under_way_when_it_opened_prolongs_nothing() {
    let cluster = queued(&["a"]).await;
    let leased = cluster.claim_from(&["a"], 3).await;
    assert!(cluster.trip(leased[0].lease, REFUSED).await.is_some());
    for job in &leased[1..] {
        assert_eq!(cluster.trip(job.lease, REFUSED).await, None);
    }
    let failures: i32 = sqlx::query_scalar("select failures from job_breakers").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(failures, 1);
}

#[tokio::test]
async fn a_probe_that_never_ends_is_replaced() {
    let cluster = queued(&["a"]).await;
    let first = cluster.claim_from(&["a"], 1).await;
    cluster.trip(first[0].lease, REFUSED).await;
    cluster.probe_now().await;
    assert_eq!(cluster.claim_from(&["a"], 8).await.len(), 1);
    assert!(cluster.claim_from(&["a"], 8).await.is_empty());
    // Its worker is gone, and its time as a probe is over.
    cluster.probe_now().await;
    assert_eq!(cluster.claim_from(&["a"], 8).await.len(), 1);
}

#[tokio::test]
async fn a_probe_that_says_nothing_is_followed_by_another_at_once() {
    let cluster = queued(&["a"]).await;
    let first = cluster.claim_from(&["a"], 2).await;
    cluster.trip(first[0].lease, REFUSED).await;
    cluster.probe_now().await;
    let probe = cluster.claim_from(&["a"], 8).await;
    assert_eq!(probe.len(), 1);
    // What was under way when it opened is no probe, and gives none back.
    jobs::pass_probe(&mut *cluster.connection().await, first[1].lease, &[Scope::Pool]).await.unwrap();
    assert!(cluster.claim_from(&["a"], 8).await.is_empty());
    jobs::pass_probe(&mut *cluster.connection().await, probe[0].lease, &[Scope::Pool]).await.unwrap();
    assert_eq!(cluster.claim_from(&["a"], 8).await.len(), 1, "still one at a time");
    assert_eq!(cluster.block_reason("a").await, Some(BlockReason::Unavailable), "it stays open");
}

#[tokio::test]
async fn a_broken_queue_leaves_the_others_of_its_pool_alone() {
    let cluster = queued(&["a", "b"]).await;
    let first = cluster.claim_from(&["a"], 1).await;
    for queue in ["a", "b"] {
        let leased = cluster.claim_from(&[queue], 1).await;
        jobs::assign_pool(&mut *cluster.connection().await, leased[0].lease, "provider").await.unwrap();
    }
    let symptom =
        Symptom { scope: Scope::Queue, key: "", cause: "MISCONFIGURED", detail: "no such model", certain: true };
    assert_eq!(cluster.trip(first[0].lease, symptom).await.unwrap().target, "a");
    assert!(cluster.claim_from(&["a"], 8).await.is_empty());
    assert!(!cluster.claim_from(&["b"], 2).await.is_empty());
    let reset = async || {
        let targets = ["a".to_owned()];
        jobs::reset_breakers(&mut *cluster.connection().await, KIND, Scope::Queue, &targets).await.unwrap()
    };
    assert_eq!(reset().await.iter().map(|breaker| breaker.target.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(reset().await, []);
    assert!(!cluster.claim_from(&["a"], 2).await.is_empty());
}

/// A model may be called as a provider is.
#[tokio::test]
async fn a_queue_and_a_pool_of_one_name_have_breakers_of_their_own() {
    let cluster = queued(&["fal", "b"]).await;
    // The queue `fal` is replicate's, and `b` is fal's.
    let mut leases = Vec::new();
    for (queue, pool) in [("fal", "replicate"), ("b", "fal")] {
        let leased = cluster.claim_from(&[queue], 2).await;
        jobs::assign_pool(&mut *cluster.connection().await, leased[0].lease, pool).await.unwrap();
        leases.push(leased.into_iter().map(|job| job.lease).collect::<Vec<_>>());
    }
    let misconfigured =
        Symptom { scope: Scope::Queue, key: "", cause: "MISCONFIGURED", detail: "no such model", certain: true };
    let opened = cluster.trip(leases[0][0], misconfigured).await.unwrap();
    assert_eq!((opened.scope, opened.target.as_str()), (Scope::Queue, "fal"));
    assert_eq!(cluster.block_reason("fal").await, Some(BlockReason::Unavailable));
    assert_eq!(cluster.block_reason("b").await, None, "another queue, and no pool");
    let claimed = cluster.claim_from(&["b"], 1).await;
    assert_eq!(claimed.len(), 1);
    // What fal takes says nothing of the queue that is called as it is.
    assert!(cluster.recover(claimed[0].lease).await.is_empty());
    assert!(cluster.claim_from(&["fal"], 8).await.is_empty());

    let opened = cluster.trip(leases[1][0], REFUSED).await.unwrap();
    assert_eq!((opened.scope, opened.target.as_str()), (Scope::Pool, "fal"));
    cluster.probe_now().await;
    let probe = cluster.claim_from(&["fal"], 8).await;
    assert_eq!(probe.len(), 1);
    let closed = cluster.recover(probe[0].lease).await;
    assert_eq!(closed.iter().map(|breaker| breaker.scope).collect::<Vec<_>>(), [Scope::Queue]);
    assert_eq!(cluster.block_reason("b").await, Some(BlockReason::Unavailable), "its pool is refused still");
    assert_eq!(cluster.block_reason("fal").await, None);
}

/// What a worker says of a lease that another has by now opens nothing, closes nothing, and gives no probe back.
#[tokio::test]
async fn a_zombie_neither_opens_nor_closes_a_breaker() {
    let cluster = queued(&["a"]).await;
    let first = cluster.claim_from(&["a"], 1).await;
    let zombie = Lease { fence: first[0].lease.fence - 1, ..first[0].lease };
    let connection = &mut *cluster.connection().await;
    assert!(matches!(jobs::trip(connection, zombie, REFUSED).await, Err(jobs::Error::StaleFence)));
    assert_eq!(cluster.block_reason("a").await, None);
    cluster.trip(first[0].lease, REFUSED).await.unwrap();
    cluster.probe_now().await;
    let probe = cluster.claim_from(&["a"], 8).await;
    let zombie = Lease { fence: probe[0].lease.fence - 1, ..probe[0].lease };
    assert!(cluster.recover(zombie).await.is_empty());
    jobs::pass_probe(connection, zombie, &[Scope::Pool]).await.unwrap();
    assert!(cluster.claim_from(&["a"], 8).await.is_empty(), "the probe is under way still");
    assert_eq!(cluster.recover(probe[0].lease).await.len(), 1);
}

#[tokio::test]
async fn a_probe_is_passed_on_and_a_breaker_reset_in_its_own_scope_alone() {
    let cluster = queued(&["a"]).await;
    let first = cluster.claim_from(&["a"], 2).await;
    // A queue without a pool is one by itself, so that both breakers have its name.
    let queue = Symptom { scope: Scope::Queue, ..REFUSED };
    cluster.trip(first[0].lease, REFUSED).await.unwrap();
    cluster.trip(first[1].lease, queue).await.unwrap();
    cluster.probe_now().await;
    let probe = cluster.claim_from(&["a"], 8).await;
    let probed = async || -> Vec<String> {
        sqlx::query_scalar("select scope from job_breakers where probe_job is not null order by scope")
            .fetch_all(&cluster.pool)
            .await
            .unwrap()
    };
    assert_eq!(probed().await, ["pool", "queue"], "the probe of both");
    let connection = &mut *cluster.connection().await;
    jobs::pass_probe(connection, probe[0].lease, &[Scope::Pool]).await.unwrap();
    assert_eq!(probed().await, ["queue"]);
    let reset = jobs::reset_breakers(connection, KIND, Scope::Pool, &["a".to_owned()]).await.unwrap();
    assert_eq!(reset.iter().map(|breaker| breaker.scope).collect::<Vec<_>>(), [Scope::Pool]);
    assert_eq!(cluster.block_reason("a").await, Some(BlockReason::Unavailable), "the queue's is open still");
}
