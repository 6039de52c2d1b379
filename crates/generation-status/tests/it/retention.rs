//! What ended long ago is deleted with its history, in batches, and nothing else is.

use std::time::{Duration, SystemTime};

use generation_status::retention::Settings;
use jobs::NewJob;
use testkit::eventually;
use uuid::Uuid;

use crate::cluster::Cluster;

const DAY: u64 = 86_400;
const KINDS: [&str; 4] = ["generation", "webhook", "delete-generations", "thumbnail"];

/// A job that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    id: Uuid,
    kind: &'static str,
    state: &'static str,
    /// Since its end.
    days: u64,
}

impl Cluster {
    /// A job that began so many days ago, and came to its end so many.
    async fn ended_job(
        &self,
        account: Uuid,
        kind: &'static str,
        state: &'static str,
        [began, days]: [u64; 2],
    ) -> Ended {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, now - began * DAY, 0));
        let job = NewJob { id, ..NewJob::new(account, kind, id.to_string()) };
        let mut tx = self.pool.begin().await.unwrap();
        jobs::enqueue(&mut tx, &job).await.unwrap();
        let query = "update jobs set state = $2, finished_at = now() - make_interval(days => $3) where id = $1";
        sqlx::query(query).bind(id).bind(state).bind(i32::try_from(days).unwrap()).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        Ended { id, kind, state, days }
    }

    async fn is_kept(&self, job: Ended) -> bool {
        let (kept, events): (bool, i64) = sqlx::query_as(
            "select exists (select from jobs where id = $1), (select count(*) from job_events where job_id = $1)",
        )
        .bind(job.id)
        .fetch_one(&self.pool)
        .await
        .unwrap();
        assert_eq!(kept, events > 0, "a job and its history go together: {job:?}");
        kept
    }
}

/// Which jobs are left once those that `is_over` chooses are gone.
async fn check(change: impl Fn(&mut Settings), is_over: impl Fn(Ended) -> bool) {
    let cluster = Cluster::with(|config| {
        config.retention.interval = Duration::from_millis(50);
        change(&mut config.retention);
    })
    .await;
    let account = cluster.user(0).await.account;
    let mut planted = Vec::new();
    for kind in KINDS {
        for state in ["done", "failed", "cancelled", "dead"] {
            // The last was under way for long: what counts is its end.
            for days in [[5, 5], [40, 40], [40, 5]] {
                planted.push(cluster.ended_job(account, kind, state, days).await);
            }
        }
    }
    // The last in order, so that a round that has deleted it has seen all others.
    let last = cluster.ended_job(account, "webhook", "done", [31, 31]).await;
    for _ in 0..2 {
        let gone = async || (!cluster.is_kept(last).await).then_some(());
        eventually("the last one is gone", Duration::from_secs(30), gone).await.unwrap();
    }
    let all_over = async || {
        for job in planted.iter().filter(|job| is_over(**job)) {
            if cluster.is_kept(*job).await {
                return None;
            }
        }
        Some(())
    };
    eventually("what is over is gone", Duration::from_secs(30), all_over).await.unwrap();
    for job in planted.into_iter().filter(|job| !is_over(*job)) {
        assert!(cluster.is_kept(job).await, "{job:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_only_what_nothing_shows_is_deleted() {
    let internal = |job: Ended| ["webhook", "delete-generations"].contains(&job.kind);
    check(|_| {}, |job| job.days == 40 && job.state != "dead" && internal(job)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_generations_are_deleted_where_that_is_asked_for() {
    let all = |retention: &mut Settings| retention.generation_jobs = Some(Duration::from_secs(20 * DAY));
    check(all, |job| job.days == 40 && job.state != "dead" && job.kind != "thumbnail").await;
}

#[tokio::test]
async fn deliveries_are_kept_for_thirty_days_after_their_end() {
    let cluster = crate::webhooks::cluster().await;
    let user = cluster.user(0).await;
    let endpoint = cluster.endpoint(&user, "http://127.0.0.1:9/", crate::webhooks::all_events()).await.unwrap().name;
    let endpoint: Uuid = endpoint.rsplit('/').next().unwrap().parse().unwrap();
    let mut planted = Vec::new();
    // Both ways to end: delivered and failed.
    for (state, days) in [(2_i16, 31), (3, 31), (2, 29), (3, 29)] {
        let query =
            "insert into webhook_deliveries (id, account_id, endpoint_id, event_type, state, create_time, end_time)
                     values (rushes_uuid_v7(), $1, $2, 'generation.queued', $3, now() - interval '40 days',
                             now() - make_interval(days => $4)) returning id";
        let id: Uuid = sqlx::query_scalar(query)
            .bind(user.account)
            .bind(endpoint)
            .bind(state)
            .bind(days)
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
        planted.push((id, days));
    }
    let kept = async |id: Uuid| {
        let query = "select exists (select from webhook_deliveries where id = $1)";
        sqlx::query_scalar::<_, bool>(query).bind(id).fetch_one(&cluster.pool).await.unwrap()
    };
    for (id, _) in planted.iter().filter(|(_, days)| *days > 30) {
        let gone = async || (!kept(*id).await).then_some(());
        eventually("one that ended long ago is gone", Duration::from_secs(30), gone).await.unwrap();
    }
    for (id, days) in planted.into_iter().filter(|(_, days)| *days <= 30) {
        assert!(kept(id).await, "one that ended {days} days ago is kept");
    }
}
