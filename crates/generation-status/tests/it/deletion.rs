//! The end of the generations of a deleted project or scene, from the job that dashboard leaves, and the race of a deletion with
//! a start.

use std::time::Duration;

use domain::generation::DELETION_JOBS;
use jobs::NewJob;
use proto::generations::v1::State;
use proto::work::v1::FailureClass;
use sqlx::{AssertSqlSafe, PgConnection};
use testkit::eventually;
use tonic::Code;
use uuid::Uuid;

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::worker::Worker;

/// The longest that a crowded machine may take.
const LONG: Duration = Duration::from_secs(30);

/// Which row a name is of.
fn row(user: &User, name: &str) -> (&'static str, Uuid) {
    if name.contains("/scenes/") { ("scenes", user.scene) } else { ("projects", user.project) }
}

/// Locks the row of `name` as a deletion does; returns whether it was free, where `wait` is `skip locked`.
async fn lock(tx: &mut PgConnection, user: &User, name: &str, wait: &str) -> bool {
    let (table, id) = row(user, name);
    let sql = format!("select from {table} where account_id = $1 and id = $2 for update {wait}");
    let locked = sqlx::query(AssertSqlSafe(sql)).bind(user.account).bind(id).fetch_optional(tx).await.unwrap();
    locked.is_some()
}

/// Marks the row of `name` as deleted and enqueues its job, as dashboard does.
async fn mark(tx: &mut PgConnection, user: &User, name: &str) -> Uuid {
    let (table, id) = row(user, name);
    let sql = format!(
        "update {table} set delete_time = now(), version = version + 1 where account_id = $1 and id = $2 returning version"
    );
    let version: i64 =
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(user.account).bind(id).fetch_one(&mut *tx).await.unwrap();
    enqueue(tx, user.account, name, &format!("{name}@{version}")).await
}

async fn enqueue(tx: &mut PgConnection, account: Uuid, payload: &str, key: &str) -> Uuid {
    let job = NewJob {
        payload: payload.as_bytes().to_vec(),
        max_attempts: 1_000,
        ..NewJob::new(account, DELETION_JOBS, key)
    };
    jobs::enqueue(tx, &job).await.unwrap();
    job.id
}

impl Cluster {
    /// Deletes a project or a scene and returns the id of the job.
    async fn delete(&self, user: &User, name: &str) -> Uuid {
        let mut tx = self.pool.begin().await.unwrap();
        lock(&mut tx, user, name, "").await;
        let job = mark(&mut tx, user, name).await;
        tx.commit().await.unwrap();
        job
    }

    /// Enqueues a job of a deletion by itself and returns its id.
    async fn enqueue_deletion(&self, account: Uuid, payload: &str) -> Uuid {
        let mut connection = self.pool.acquire().await.unwrap();
        enqueue(&mut connection, account, payload, &Uuid::now_v7().to_string()).await
    }

    /// The state of a job, once it has ended.
    async fn ended(&self, job: Uuid) -> String {
        let ended = async || {
            let query = "select state from jobs where id = $1 and state not in ('queued', 'leased')";
            sqlx::query_scalar(query).bind(job).fetch_optional(&self.pool).await.unwrap()
        };
        eventually("the end of the deletion's job", LONG, ended).await.unwrap()
    }

    async fn states(&self, user: &User, names: &[&String]) -> Vec<(State, i64)> {
        let mut states = Vec::new();
        for name in names {
            let generation = self.get(user, name).await.unwrap();
            states.push((generation.state(), generation.version));
        }
        states
    }

    async fn available_and_held(&self, user: &User) -> (i64, i64) {
        let credit = self.credit(user).await;
        (credit.available_micros / PRICE, credit.held_micros / PRICE)
    }

    /// Waits until so many connections wait for another one's lock.
    async fn until_waiting(&self, count: i64) {
        let waiting = async || {
            let query = "select count(*) from pg_stat_activity
                          where datname = current_database() and wait_event_type = 'Lock'";
            let found: i64 = sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap();
            (found == count).then_some(())
        };
        eventually("a connection that waits for a lock", LONG, waiting).await.unwrap();
    }
}

#[tokio::test]
async fn a_deletion_cancels_what_is_open_below_it() {
    let cluster = Cluster::new().await;
    let user = cluster.user(6).await;
    let beside = cluster.scene(&user).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let finished = cluster.started(&user).await.name;
    let finished_work = worker.next().await;
    worker.submitted(&finished_work).await.unwrap();
    worker.finalizing(&finished_work).await.unwrap();
    worker.free(1).await;
    let running = cluster.started(&user).await.name;
    let running_work = worker.next().await;
    worker.submitted(&running_work).await.unwrap();
    let (queued, queued_too) = (cluster.started(&user).await.name, cluster.started(&user).await.name);
    let other = cluster.started(&beside).await.name;
    let all = [&finished, &running, &queued, &queued_too, &other];
    let states = async || cluster.states(&user, &all).await.into_iter().map(|(state, _)| state).collect::<Vec<_>>();
    assert_eq!(cluster.available_and_held(&user).await, (1, 5));

    let scene = cluster.delete(&user, &user.scene()).await;
    assert_eq!(cluster.ended(scene).await, "done");
    let cancelled = State::Cancelled;
    assert_eq!(states().await, [State::Finalizing, State::Cancelling, cancelled, cancelled, State::Queued]);
    assert_eq!(cluster.available_and_held(&user).await, (3, 3), "what was queued is released");
    let refused = cluster.start(&user, user.start_request()).await;
    assert_eq!(refusal(refused), (Code::NotFound, "SCENE_NOT_FOUND".to_owned()));

    let project = cluster.delete(&user, &user.project()).await;
    assert_eq!(cluster.ended(project).await, "done");
    assert_eq!(states().await, [State::Finalizing, State::Cancelling, cancelled, cancelled, cancelled]);
    let refused = cluster.start(&beside, beside.start_request()).await;
    assert_eq!(refusal(refused), (Code::NotFound, "SCENE_NOT_FOUND".to_owned()));

    // Once more changes nothing, not even a version.
    let before = cluster.states(&user, &all).await;
    let again = cluster.enqueue_deletion(user.account, &user.project()).await;
    assert_eq!(cluster.ended(again).await, "done");
    assert_eq!(cluster.states(&user, &all).await, before);

    // The provider's answers count.
    assert_eq!(worker.heartbeat(&running_work).await, (true, true), "the worker is asked to stop");
    assert!(!worker.fail(&running_work, FailureClass::Cancelled).await.unwrap());
    worker.complete(&finished_work).await.unwrap();
    assert_eq!(states().await, [State::Completed, cancelled, cancelled, cancelled, cancelled]);
    assert_eq!(cluster.available_and_held(&user).await, (5, 0));
}

#[tokio::test]
async fn a_deletion_goes_on_until_nothing_is_left_to_cancel() {
    let cluster = Cluster::new().await;
    let user = cluster.user(105).await;
    cluster.started_many(&user, &user.start_request(), 105).await;
    let job = cluster.delete(&user, &user.project()).await;
    assert_eq!(cluster.ended(job).await, "done");
    assert_eq!(cluster.available_and_held(&user).await, (105, 0));
}

#[tokio::test]
async fn a_deletion_reaches_only_its_own_account_and_name() {
    let cluster = Cluster::new().await;
    let (user, stranger) = (cluster.user(1).await, cluster.user(1).await);
    let started = cluster.started(&user).await;
    let theirs = cluster.started(&stranger).await;
    for (account, payload, ends) in [
        (stranger.account, user.project(), "done"),
        (stranger.account, user.scene(), "done"),
        (user.account, format!("projects/{}/scenes/{}", user.project, stranger.scene), "done"),
        // An empty name is the whole account's in a listing.
        (user.account, String::new(), "failed"),
        (user.account, started.name.clone(), "failed"),
    ] {
        let job = cluster.enqueue_deletion(account, &payload).await;
        assert_eq!(cluster.ended(job).await, ends, "{payload:?}");
        assert_eq!(cluster.states(&user, &[&started.name]).await, [(State::Queued, 1)], "{payload:?}");
        assert_eq!(cluster.states(&stranger, &[&theirs.name]).await, [(State::Queued, 1)], "{payload:?}");
    }
}

#[tokio::test]
async fn a_deletion_outlives_the_process_that_carries_it_out() {
    let cluster = Cluster::with(|config| config.work.reap_interval = Duration::from_millis(50)).await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    let mut tx = cluster.pool.begin().await.unwrap();
    let job = mark(&mut tx, &user, &user.scene()).await;
    let leased = "update jobs set state = 'leased', worker = 'gone', fence = fence + 1, claims = 1, attempt = 1,
                         lease_until = now() - interval '1 ms' where id = $1";
    sqlx::query(leased).bind(job).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(cluster.ended(job).await, "done");
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Cancelled);
}

#[tokio::test]
async fn the_reconciler_cancels_what_a_deletion_that_was_given_up_left() {
    let cluster = Cluster::with(|config| config.work.reconcile_interval = Duration::from_millis(50)).await;
    let user = cluster.user(3).await;
    let beside = cluster.scene(&user).await;
    let mut worker = Worker::new(&cluster, 1).await;
    let running = cluster.started(&user).await.name;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    let queued = cluster.started(&user).await.name;
    let other = cluster.start(&user, beside.start_request()).await.unwrap().name;
    let mut tx = cluster.pool.begin().await.unwrap();
    let job = mark(&mut tx, &user, &user.scene()).await;
    let give_up = "update jobs set state = 'dead', finished_at = now(), cause = 'ATTEMPTS_EXHAUSTED' where id = $1";
    sqlx::query(give_up).bind(job).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let cancelled = async || {
        let states = cluster.states(&user, &[&running, &queued]).await;
        (states.iter().map(|(state, _)| *state).eq([State::Cancelling, State::Cancelled])).then_some(())
    };
    eventually("the reconciler cancels both", LONG, cancelled).await.unwrap();
    assert_eq!(cluster.states(&user, &[&other]).await[0].0, State::Queued, "of another scene");
    worker.fail(&work, FailureClass::Cancelled).await.unwrap();
    assert_eq!(cluster.available_and_held(&user).await, (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_comes_after_a_deletion_waits_for_it_and_is_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let rows = cluster.rows().await;
    for name in [user.scene(), user.project()] {
        let mut deletion = cluster.pool.begin().await.unwrap();
        lock(&mut deletion, &user, &name, "").await;
        mark(&mut deletion, &user, &name).await;
        let start = async {
            // The mark is not committed, so that the start's snapshot does not have it.
            let (refused, ()) = tokio::join!(cluster.start(&user, user.start_request()), async {
                cluster.until_waiting(1).await;
                deletion.commit().await.unwrap();
            });
            refused
        };
        assert_eq!(refusal(start.await), (Code::NotFound, "SCENE_NOT_FOUND".to_owned()), "{name}");
        let (table, id) = row(&user, &name);
        let restore = format!("update {table} set delete_time = null where id = $1");
        sqlx::query(AssertSqlSafe(restore)).bind(id).execute(&cluster.pool).await.unwrap();
    }
    sqlx::query("delete from jobs where kind = $1").bind(DELETION_JOBS).execute(&cluster.pool).await.unwrap();
    assert_eq!(cluster.rows().await, rows, "nothing is held, and nothing is queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_holds_what_a_deletion_locks_until_it_has_committed() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    // The start is held up where it enqueues its job, which it does last.
    let mut lock_of_queue = cluster.pool.begin().await.unwrap();
    sqlx::query(
        "insert into job_turns (kind, queue, account_id, last_vft) values ('generation', 'local-sketch', $1, 0)",
    )
    .bind(user.account)
    .execute(&mut *lock_of_queue)
    .await
    .unwrap();
    let (started, ()) = tokio::join!(cluster.start(&user, user.start_request()), async {
        cluster.until_waiting(1).await;
        let mut deletion = cluster.pool.begin().await.unwrap();
        for name in [user.scene(), user.project()] {
            assert!(!lock(&mut deletion, &user, &name, "skip locked").await, "{name} is free while a start goes on");
        }
        deletion.rollback().await.unwrap();
        lock_of_queue.commit().await.unwrap();
    });
    let started = started.unwrap();
    let job = cluster.delete(&user, &user.scene()).await;
    assert_eq!(cluster.ended(job).await, "done");
    assert_eq!(cluster.get(&user, &started.name).await.unwrap().state(), State::Cancelled);
}
