//! Keys of one pool: the one that is refused is left out, and the pool pauses once none is left.

use std::time::Duration;

use jobs::{BlockReason, Breaker, Failure, Lease, Leased, Retry, Scope, Symptom};
use uuid::Uuid;

use crate::cluster::{Cluster, KIND};
use crate::limits::LIMITS;

const ONE: &str = "provider/1";
const TWO: &str = "provider/2";

impl Cluster {
    /// A cluster whose workers have these keys, with eight jobs in the queue `a` of the pool `provider`.
    async fn with_keys(keys: &[&str]) -> Self {
        let cluster = Self::new().await;
        for _ in 0..8 {
            cluster.enqueue_in(Uuid::now_v7(), "a").await;
        }
        let first = cluster.claim_from(&["a"], 1).await;
        jobs::assign_pool(&mut *cluster.connection().await, first[0].lease, "provider").await.unwrap();
        jobs::release(&mut *cluster.connection().await, first[0].lease).await.unwrap();
        cluster.mark(keys).await;
        cluster
    }

    async fn mark(&self, keys: &[&str]) {
        let keys: Vec<_> = keys.iter().map(|key| ("provider".to_owned(), (*key).to_owned())).collect();
        jobs::mark_keys(&mut *self.connection().await, KIND, &keys).await.unwrap();
    }

    /// Claims up to `limit` jobs, each with a key of a worker that has these.
    async fn claim_with(&self, keys: &[&str], limit: u32) -> Vec<(Leased, String)> {
        let leased = self.claim_from(&["a"], limit).await;
        let ids: Vec<_> = leased.iter().map(|job| job.lease.job).collect();
        let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        let connection = &mut *self.connection().await;
        let chosen = jobs::choose_keys(connection, KIND, "provider", &keys, &ids).await.unwrap();
        leased.into_iter().zip(chosen).collect()
    }

    /// Fails an attempt since its key is refused; the job is queued again, and due.
    async fn refuse_key(&self, lease: Lease, key: &str) -> Vec<Breaker> {
        let mut connection = self.connection().await;
        let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
        let opened = jobs::trip_key(&mut tx, lease, refused(key)).await.unwrap();
        let failure =
            Failure { retry: Retry::WhenAvailable, cause: "PROVIDER_QUOTA".to_owned(), detail: String::new() };
        jobs::fail(&mut tx, lease, &failure).await.unwrap();
        tx.commit().await.unwrap();
        sqlx::query("update jobs set run_at = now() where state = 'queued'").execute(&self.pool).await.unwrap();
        opened
    }

    /// Whether another key can be used while this one is left out.
    async fn throttle(&self, key: &str, seconds: u64) -> bool {
        let connection = &mut *self.connection().await;
        jobs::throttle_key(connection, KIND, key, Duration::from_secs(seconds)).await.unwrap()
    }

    async fn open(&self) -> Vec<String> {
        let open = jobs::open_breakers(&mut *self.connection().await, KIND).await.unwrap();
        open.into_iter().map(|breaker| format!("{} {}", breaker.scope.as_str(), breaker.target)).collect()
    }

    async fn blocked(&self) -> Option<BlockReason> {
        let status = jobs::queue_status(&mut *self.connection().await, KIND, LIMITS).await.unwrap();
        status.block_reason(Uuid::now_v7(), "a")
    }
}

fn refused(key: &str) -> Symptom<'_> {
    Symptom { scope: Scope::Key, key, cause: "ACCOUNT_REFUSED", detail: "user is locked", certain: true }
}

fn keys(claimed: &[(Leased, String)]) -> Vec<&str> {
    claimed.iter().map(|(_, key)| key.as_str()).collect()
}

#[tokio::test]
async fn a_key_that_comes_after_another_was_used_is_used_next() {
    let cluster = Cluster::with_keys(&[ONE]).await;
    assert_eq!(keys(&cluster.claim_with(&[ONE], 1).await), [ONE]);
    cluster.mark(&[ONE, TWO]).await;
    assert_eq!(keys(&cluster.claim_with(&[ONE, TWO], 1).await), [TWO]);
}

#[tokio::test]
async fn a_refused_key_is_left_out_and_the_pool_pauses_once_none_is_left() {
    let cluster = Cluster::with_keys(&[ONE, TWO]).await;
    let claimed = cluster.claim_with(&[ONE, TWO], 4).await;
    assert_eq!(keys(&claimed), [ONE, TWO, ONE, TWO], "in turn");
    let opened = cluster.refuse_key(claimed[0].0.lease, ONE).await;
    assert_eq!((opened.len(), opened[0].target.as_str()), (1, ONE));
    assert_eq!(cluster.blocked().await, None, "the other goes on");
    assert_eq!(keys(&cluster.claim_with(&[ONE, TWO], 2).await), [TWO, TWO]);

    // What was under way with the broken key says nothing new.
    assert!(cluster.refuse_key(claimed[2].0.lease, ONE).await.is_empty());
    cluster.refuse_key(claimed[1].0.lease, TWO).await;
    assert_eq!(cluster.open().await, ["key provider/1", "key provider/2", "pool provider"]);
    assert_eq!(cluster.blocked().await, Some(BlockReason::Unavailable));
    assert!(cluster.claim_with(&[ONE, TWO], 8).await.is_empty());

    sqlx::query("update job_breakers set probe_time = now()").execute(&cluster.pool).await.unwrap();
    let probe = cluster.claim_with(&[ONE, TWO], 8).await;
    assert_eq!(keys(&probe), [ONE], "one probe at a time");
    jobs::recover(&mut *cluster.connection().await, probe[0].0.lease).await.unwrap();
    let closed = jobs::recover_key(&mut *cluster.connection().await, KIND, ONE).await.unwrap().unwrap();
    assert_eq!((closed.scope, closed.target.as_str()), (Scope::Key, ONE));
    assert_eq!(cluster.open().await, ["key provider/2"]);
    assert_eq!(cluster.blocked().await, None);
}

#[tokio::test]
async fn the_probe_of_a_key_is_one_attempt_beside_those_of_the_others() {
    let cluster = Cluster::with_keys(&[ONE, TWO]).await;
    let first = cluster.claim_with(&[ONE], 1).await;
    cluster.refuse_key(first[0].0.lease, ONE).await;
    sqlx::query("update job_breakers set probe_time = now()").execute(&cluster.pool).await.unwrap();
    let claimed = cluster.claim_with(&[ONE, TWO], 3).await;
    assert_eq!(keys(&claimed), [ONE, TWO, TWO]);
    assert_eq!(
        keys(&cluster.claim_with(&[ONE, TWO], 2).await),
        [TWO, TWO],
        "while its probe is under way there is no other"
    );
    // The probe fails: the next one comes later, and no second alarm.
    assert!(cluster.refuse_key(claimed[0].0.lease, ONE).await.is_empty());
    let waits: f64 =
        sqlx::query_scalar("select extract(epoch from probe_time - now())::double precision from job_breakers")
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
    assert!((3.0..=4.0).contains(&waits), "{waits}");
}

/// Two transactions that refuse the last two keys at one moment used to see each other's key as well.
#[tokio::test]
async fn keys_that_are_refused_at_one_moment_pause_the_pool() {
    let cluster = Cluster::with_keys(&[ONE, TWO]).await;
    let claimed = cluster.claim_with(&[ONE, TWO], 2).await;
    let mut connection = cluster.connection().await;
    let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
    jobs::trip_key(&mut tx, claimed[0].0.lease, refused(ONE)).await.unwrap();
    let second = cluster.refuse_key(claimed[1].0.lease, TWO);
    // The second waits until the first has committed.
    let first = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        tx.commit().await.unwrap();
    };
    tokio::join!(first, second);
    assert_eq!(cluster.blocked().await, Some(BlockReason::Unavailable));
}

#[tokio::test]
async fn a_throttled_key_is_left_out_for_as_long_as_it_asks_and_the_last_one_is_the_pools_matter() {
    let cluster = Cluster::with_keys(&[ONE, TWO]).await;
    assert!(cluster.throttle(ONE, 30).await, "the other goes on");
    assert_eq!(keys(&cluster.claim_with(&[ONE, TWO], 2).await), [TWO, TWO]);
    assert!(!cluster.throttle(TWO, 30).await);
    sqlx::query("update job_keys set closed_until = now()").execute(&cluster.pool).await.unwrap();
    assert_eq!(cluster.claim_with(&[ONE, TWO], 2).await.iter().filter(|(_, key)| key == ONE).count(), 1);
}

#[tokio::test]
async fn a_key_that_no_worker_has_any_more_neither_keeps_the_pool_open_nor_is_shown() {
    let cluster = Cluster::with_keys(&[ONE, TWO]).await;
    sqlx::query("update job_keys set seen_time = now() - interval '2 minutes' where key = $1")
        .bind(TWO)
        .execute(&cluster.pool)
        .await
        .unwrap();
    let claimed = cluster.claim_with(&[ONE], 1).await;
    cluster.refuse_key(claimed[0].0.lease, ONE).await;
    assert_eq!(cluster.open().await, ["key provider/1", "pool provider"]);
    sqlx::query("update job_keys set seen_time = now() - interval '2 days'").execute(&cluster.pool).await.unwrap();
    assert_eq!(cluster.open().await, ["pool provider"]);
    cluster.mark(&[TWO]).await;
    let left: Vec<String> =
        sqlx::query_scalar("select key from job_keys union select target from job_breakers where scope = 'key'")
            .fetch_all(&cluster.pool)
            .await
            .unwrap();
    assert_eq!(left, [TWO], "its breaker is gone with it");
    // The new key is the next probe, which one that fails would not prolong.
    sqlx::query("update job_breakers set probe_time = now()").execute(&cluster.pool).await.unwrap();
    assert_eq!(keys(&cluster.claim_with(&[TWO], 8).await), [TWO]);
}

/// The pool of a key that was replaced used to go on for a minute as if the old one were there, though the new one was refused.
#[tokio::test]
async fn a_key_whose_last_worker_left_counts_only_until_another_process_would_have_said_that_it_has_it() {
    let cluster = Cluster::with_keys(&[ONE, TWO]).await;
    let age = async |seconds: f64| {
        sqlx::query("update job_keys set seen_time = seen_time - make_interval(secs => $1)")
            .bind(seconds)
            .execute(&cluster.pool)
            .await
            .unwrap();
    };
    let leave = async || {
        let left = [TWO.to_owned(), "provider/unknown".to_owned()];
        jobs::leave_keys(&mut *cluster.connection().await, KIND, &left).await.unwrap();
    };
    leave().await;
    assert!(cluster.throttle(ONE, 1).await, "another process may have it");
    age(16.0).await;
    leave().await;
    age(5.0).await;
    assert!(!cluster.throttle(ONE, 1).await, "said twice, it lasts no longer");
    cluster.mark(&[TWO]).await;
    age(16.0).await;
    assert!(cluster.throttle(ONE, 1).await, "another process has it");
    leave().await;
    age(21.0).await;
    assert!(!cluster.throttle(ONE, 1).await, "nobody has it");
    let claimed = cluster.claim_with(&[ONE], 1).await;
    cluster.refuse_key(claimed[0].0.lease, ONE).await;
    assert_eq!(cluster.open().await, ["key provider/1", "pool provider"]);
}

#[tokio::test]
async fn keys_of_another_pool_keep_no_pool_open() {
    let cluster = Cluster::with_keys(&[ONE]).await;
    let other = [("other".to_owned(), "other/1".to_owned())];
    jobs::mark_keys(&mut *cluster.connection().await, KIND, &other).await.unwrap();
    let claimed = cluster.claim_with(&[ONE], 1).await;
    assert!(!cluster.throttle(ONE, 1).await, "nobody takes over");
    cluster.refuse_key(claimed[0].0.lease, ONE).await;
    assert_eq!(cluster.open().await, ["key provider/1", "pool provider"]);
}

#[tokio::test]
async fn a_key_that_is_refused_or_gone_takes_over_from_none() {
    let cluster = Cluster::with_keys(&[ONE, TWO]).await;
    let claimed = cluster.claim_with(&[TWO], 1).await;
    cluster.refuse_key(claimed[0].0.lease, TWO).await;
    assert_eq!(cluster.open().await, ["key provider/2"]);
    assert!(!cluster.throttle(ONE, 1).await, "the other is refused");
    sqlx::query("delete from job_breakers").execute(&cluster.pool).await.unwrap();
    assert!(cluster.throttle(ONE, 1).await);
    let gone = "update job_keys set seen_time = now() - interval '2 minutes' where key = $1";
    sqlx::query(gone).bind(TWO).execute(&cluster.pool).await.unwrap();
    assert!(!cluster.throttle(ONE, 1).await, "no worker has the other any more");
    // Said again, it is there again.
    cluster.mark(&[TWO]).await;
    assert!(cluster.throttle(ONE, 1).await);
}

#[tokio::test]
async fn of_several_pauses_the_longest_counts_and_none_is_longer_than_two_minutes() {
    let cluster = Cluster::with_keys(&[ONE]).await;
    let waits = async || -> f64 {
        sqlx::query_scalar("select extract(epoch from closed_until - now())::double precision from job_keys")
            .fetch_one(&cluster.pool)
            .await
            .unwrap()
    };
    for (asked, min, max) in [(0, 0.1, 1.0), (30, 28.0, 30.0), (5, 28.0, 30.0), (3_600, 118.0, 120.0)] {
        cluster.throttle(ONE, asked).await;
        let waits = waits().await;
        assert!((min..=max).contains(&waits), "{asked}: {waits}");
    }
}

/// A key that was away for a while is refused still.
#[tokio::test]
async fn a_key_is_remembered_for_a_day() {
    let cluster = Cluster::with_keys(&[ONE, TWO]).await;
    let claimed = cluster.claim_with(&[ONE], 1).await;
    cluster.refuse_key(claimed[0].0.lease, ONE).await;
    for (age, left) in [("23 hours", vec![ONE, TWO]), ("25 hours", vec![TWO])] {
        sqlx::query("update job_keys set seen_time = now() - $1::text::interval where key = $2")
            .bind(age)
            .bind(ONE)
            .execute(&cluster.pool)
            .await
            .unwrap();
        cluster.mark(&[TWO]).await;
        let known: Vec<String> =
            sqlx::query_scalar("select key from job_keys order by key").fetch_all(&cluster.pool).await.unwrap();
        assert_eq!(known, left, "{age}");
    }
    // Nothing is left of it: it begins as a key that is well.
    cluster.mark(&[ONE, TWO]).await;
    assert!(cluster.open().await.is_empty());
}

/// The probe of a pool that was out of order meets a key that is refused: that says nothing of the pool, whose next probe is due at
/// once, with another key.
#[tokio::test]
async fn a_probe_of_the_pool_that_meets_a_refused_key_is_passed_on() {
    let cluster = Cluster::with_keys(&[ONE, TWO]).await;
    let outage = Symptom { scope: Scope::Pool, key: "", cause: "OUTAGE", detail: "503", certain: true };
    let first = cluster.claim_with(&[ONE, TWO], 1).await;
    cluster.trip(first[0].0.lease, outage).await.unwrap();
    cluster.probe_now().await;
    let probe = cluster.claim_with(&[ONE, TWO], 8).await;
    let [(job, key)] = &probe[..] else { panic!("one probe: {probe:?}") };
    let opened = cluster.refuse_key(job.lease, key).await;
    assert_eq!(opened.iter().map(|breaker| breaker.target.as_str()).collect::<Vec<_>>(), [key.as_str()]);
    let next = cluster.claim_with(&[ONE, TWO], 8).await;
    assert_eq!(next.len(), 1, "still one at a time");
    assert_ne!(&next[0].1, key);
}

#[tokio::test]
async fn one_claim_after_another_takes_the_keys_in_turn() {
    let cluster = Cluster::with_keys(&[ONE, TWO]).await;
    let mut given = Vec::new();
    for _ in 0..4 {
        given.extend(keys(&cluster.claim_with(&[ONE, TWO], 1).await).into_iter().map(str::to_owned));
    }
    assert_eq!(given, [ONE, TWO, ONE, TWO]);
}

/// It looked throttled to such a claim, whose orders then all went out with the other key.
#[tokio::test]
async fn a_key_that_is_announced_during_a_claim_takes_its_turn() {
    let cluster = Cluster::with_keys(&[]).await;
    let ids: Vec<_> = cluster.claim_from(&["a"], 2).await.iter().map(|job| job.lease.job).collect();
    let mut connection = cluster.connection().await;
    let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
    // The transaction's time is that of its first statement.
    sqlx::query("select now()").execute(&mut *tx).await.unwrap();
    cluster.mark(&[ONE, TWO]).await;
    let keys = [ONE.to_owned(), TWO.to_owned()];
    assert_eq!(jobs::choose_keys(&mut tx, KIND, "provider", &keys, &ids).await.unwrap(), keys);
}
