//! Several keys of one provider: the one that is refused is left out, an order keeps its own, and the provider pauses once none is left.

use std::time::Duration;

use proto::generations::v1::charge::ProviderCharge;
use proto::generations::v1::{State, WaitReason};
use proto::models::v1::model;
use proto::work::v1::{FailWorkRequest, FailureClass, ProviderCondition, Work};
use testkit::eventually;

use tonic::Code;

use crate::cluster::{Cluster, PRICE, User, refusal};
use crate::provider_health::{hasten, named, refused};
use crate::worker::Worker;

const ONE: &str = "local/0000000a";
const TWO: &str = "local/0000000b";
const WAIT: Duration = Duration::from_secs(20);

async fn started(cluster: &Cluster, user: &User, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(cluster.started(user).await.name);
    }
    names
}

/// The next work, once whatever waits is due.
async fn next(cluster: &Cluster, worker: &mut Worker) -> Work {
    sqlx::query("update jobs set run_at = now() where state = 'queued'").execute(&cluster.pool).await.unwrap();
    worker.free(1).await;
    worker.next().await
}

async fn shows(cluster: &Cluster, user: &User, state: model::State) {
    let shown = async || (named(cluster, user, "models/local-sketch").await.state() == state).then_some(());
    eventually(state.as_str_name(), WAIT, shown).await.unwrap();
}

async fn all_completed(cluster: &Cluster, user: &User, names: &[String]) {
    for name in names {
        let done = cluster.get(user, name).await.unwrap();
        assert_eq!((done.state(), done.attempt_count), (State::Completed, 1), "no refusal counts");
    }
    assert_eq!(cluster.credit(user).await.spent_micros, i64::try_from(names.len()).unwrap() * PRICE);
}

#[tokio::test]
async fn one_key_of_two_is_refused_and_every_generation_is_made_with_the_other() {
    let cluster = Cluster::new().await;
    let user = cluster.user(6).await;
    let names = started(&cluster, &user, 6).await;
    let mut worker = Worker::with_keys(&cluster, &[ONE, TWO], 2).await;
    let (first, second) = (worker.next().await, worker.next().await);
    assert_eq!((first.provider_key.as_str(), second.provider_key.as_str()), (ONE, TWO), "in turn");
    worker.carry_out(&second).await;
    assert!(refused(&worker, &first, ProviderCondition::AccountRefused).await, "it waits");
    // On a slow machine the first probe would be due before all of them are made.
    let later = "update job_breakers set probe_time = now() + interval '1 hour'";
    sqlx::query(later).execute(&cluster.pool).await.unwrap();
    for _ in 0..5 {
        let work = next(&cluster, &mut worker).await;
        assert_eq!(work.provider_key, TWO);
        worker.carry_out(&work).await;
    }
    all_completed(&cluster, &user, &names).await;
    shows(&cluster, &user, model::State::Available).await;
    let keys: Vec<(String, String)> =
        sqlx::query_as("select key, phase from provider_calls order by key").fetch_all(&cluster.pool).await.unwrap();
    assert_eq!(keys.iter().filter(|(key, _)| key == TWO).count(), 6, "{keys:?}");
    assert_eq!(keys.iter().filter(|(key, phase)| key == ONE && phase == "over").count(), 1, "{keys:?}");
    let open: Vec<(String, String)> =
        sqlx::query_as("select scope, target from job_breakers").fetch_all(&cluster.pool).await.unwrap();
    assert_eq!(open, [("key".to_owned(), ONE.to_owned())]);

    // Its probe is one order; the one that is taken closes its breaker.
    let name = started(&cluster, &user_with_more(&cluster, user).await, 1).await;
    hasten(&cluster).await;
    let probe = next(&cluster, &mut worker).await;
    assert_eq!((probe.provider_key.as_str(), probe.generation.as_str()), (ONE, name[0].as_str()));
    worker.carry_out(&probe).await;
    let open: i64 = sqlx::query_scalar("select count(*) from job_breakers").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(open, 0);
}

/// The same user, who can pay for one more.
async fn user_with_more(cluster: &Cluster, user: User) -> User {
    cluster.grant(&user, PRICE, uuid::Uuid::now_v7()).await.unwrap();
    user
}

#[tokio::test]
async fn both_keys_are_refused_and_the_provider_pauses_visibly() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    let names = started(&cluster, &user, 3).await;
    let mut worker = Worker::with_keys(&cluster, &[ONE, TWO], 2).await;
    let both = [worker.next().await, worker.next().await];
    shows(&cluster, &user, model::State::Available).await;
    for work in &both {
        assert!(refused(&worker, work, ProviderCondition::AccountRefused).await, "it waits");
    }
    shows(&cluster, &user, model::State::Unavailable).await;
    for name in &names {
        let shown = async || {
            let shown = cluster.get(&user, name).await.unwrap();
            (shown.state() == State::Queued && shown.wait_reason() == WaitReason::ProviderUnavailable).then_some(())
        };
        eventually("all wait visibly", WAIT, shown).await.unwrap();
    }
    // One probe at a time, with one key and then the other, until one is taken.
    let mut probed = Vec::new();
    for _ in 0..3 {
        hasten(&cluster).await;
        let probe = next(&cluster, &mut worker).await;
        probed.push(probe.provider_key.clone());
        if probed.len() < 3 {
            assert!(refused(&worker, &probe, ProviderCondition::AccountRefused).await);
        } else {
            worker.carry_out(&probe).await;
        }
    }
    assert!(probed.iter().any(|key| key == ONE), "{probed:?}");
    shows(&cluster, &user, model::State::Available).await;
    for _ in 0..2 {
        hasten(&cluster).await;
        let work = next(&cluster, &mut worker).await;
        worker.carry_out(&work).await;
    }
    all_completed(&cluster, &user, &names).await;
}

/// With the old key counted for a minute, a new one that is refused used to leave the provider open, and its models for available.
#[tokio::test]
async fn a_key_that_left_with_its_last_worker_soon_keeps_no_provider_open() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let seen = async |key: &str| -> Option<f64> {
        sqlx::query_scalar(
            "select extract(epoch from now() - seen_time)::double precision from job_keys where key = $1",
        )
        .bind(key)
        .fetch_optional(&cluster.pool)
        .await
        .unwrap()
    };
    let beside = Worker::with_keys(&cluster, &[ONE, TWO], 1).await;
    let old = Worker::with_keys(&cluster, &[TWO], 1).await;
    let known = async || (seen(ONE).await.is_some() && seen(TWO).await.is_some()).then_some(());
    eventually("both keys are known", WAIT, known).await.unwrap();
    drop(old);
    let mut new = Worker::with_keys(&cluster, &[ONE], 1).await;
    assert!(seen(TWO).await.is_some_and(|age| age < 30.0), "a worker has it still");
    drop(beside);
    let left = async || seen(TWO).await.filter(|age| *age >= 40.0).map(drop);
    eventually("the old key is nobody's in 20 s", WAIT, left).await.unwrap();
    assert!(seen(ONE).await.is_some_and(|age| age < 30.0), "the new one is there");
    sqlx::query("update job_keys set seen_time = seen_time - interval '20 s'").execute(&cluster.pool).await.unwrap();
    started(&cluster, &user, 1).await;
    let work = new.next().await;
    assert!(refused(&new, &work, ProviderCondition::AccountRefused).await, "it waits");
    shows(&cluster, &user, model::State::Unavailable).await;
}

/// A worker that has the order in doubt must ask the account that may have it.
#[tokio::test]
async fn a_crash_between_the_intent_and_its_answer_keeps_the_key() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    started(&cluster, &user, 1).await;
    let mut dead = Worker::with_keys(&cluster, &[TWO], 1).await;
    let work = dead.next().await;
    dead.intended(&work).await.unwrap();
    cluster.expire_leases().await;
    let mut next = Worker::with_keys(&cluster, &[ONE, TWO], 1).await;
    let again = next.next().await;
    assert!(again.in_doubt, "{again:?}");
    assert_eq!(again.provider_key, TWO);
    next.suspend_unconfirmed(&again).await.unwrap();
    // Whoever polls it later is told, too, whether or not it has that key.
    next.referred(&again, "order-1").await.unwrap_err();
    let job = &again.lease.as_ref().unwrap().job;
    crate::submissions::hinted(&cluster, job, "event-1", "order-1").await;
    let mut other = Worker::with_keys(&cluster, &[ONE], 1).await;
    let poll = other.next().await;
    assert!(poll.poll);
    assert_eq!((poll.provider_reference.as_str(), poll.provider_key.as_str()), ("order-1", TWO));
}

#[tokio::test]
async fn a_throttled_key_pauses_alone_and_the_last_one_pauses_the_provider() {
    let cluster = Cluster::new().await;
    let user = cluster.user(4).await;
    started(&cluster, &user, 4).await;
    let mut worker = Worker::with_keys(&cluster, &[ONE, TWO], 2).await;
    let (first, second) = (worker.next().await, worker.next().await);
    assert_eq!((first.provider_key.as_str(), second.provider_key.as_str()), (ONE, TWO));
    let throttled = |request: &mut FailWorkRequest| {
        request.set_provider_charge(ProviderCharge::NotCharged);
        request.retry_after = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    };
    worker.intended(&first).await.unwrap();
    assert!(worker.fail_with(&first, FailureClass::Throttled, throttled).await.unwrap());
    let waits: f64 = sqlx::query_scalar(
        "select extract(epoch from run_at - now())::double precision from jobs where id = $1::text::uuid",
    )
    .bind(&first.lease.as_ref().unwrap().job)
    .fetch_one(&cluster.pool)
    .await
    .unwrap();
    assert!(waits < 5.0, "another key takes it: it does not wait for {waits} s");
    let pools: i64 = sqlx::query_scalar("select count(*) from job_pools").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(pools, 0, "the provider is not throttled");
    let work = next(&cluster, &mut worker).await;
    assert_eq!(work.provider_key, TWO);
    worker.intended(&second).await.unwrap();
    assert!(worker.fail_with(&second, FailureClass::Throttled, throttled).await.unwrap());
    let closed: bool = sqlx::query_scalar("select closed_until > now() + interval '50 s' from job_pools")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert!(closed);
}

/// A worker whose only key is refused used to take orders that another worker's key would carry out, again and again.
#[tokio::test]
async fn a_worker_with_nothing_but_refused_keys_gets_no_work_while_another_has_a_good_one() {
    let cluster = Cluster::new().await;
    let user = cluster.user(2).await;
    let names = started(&cluster, &user, 1).await;
    let mut bad = Worker::with_keys(&cluster, &[ONE], 1).await;
    let work = bad.next().await;
    let mut good = Worker::with_keys(&cluster, &[TWO], 1).await;
    let seen = async || {
        let seen: i64 = sqlx::query_scalar("select count(*) from job_keys").fetch_one(&cluster.pool).await.unwrap();
        (seen == 2).then_some(())
    };
    eventually("both keys are known", WAIT, seen).await.unwrap();
    assert!(refused(&bad, &work, ProviderCondition::AccountRefused).await);
    sqlx::query("update job_breakers set probe_time = now() + interval '1 minute'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    sqlx::query("update jobs set run_at = now() where state = 'queued'").execute(&cluster.pool).await.unwrap();
    let again = good.next().await;
    assert_eq!((again.generation.as_str(), again.provider_key.as_str()), (names[0].as_str(), TWO));
    // Its status is read every second; from then on nothing is offered to the other.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    bad.free(1).await;
    cluster.started(&user).await;
    let offered = tokio::time::timeout(Duration::from_millis(1_500), bad.next()).await;
    assert!(offered.is_err(), "{offered:?}");
    good.free(1).await;
    assert_eq!(good.next().await.provider_key, TWO);
}

#[tokio::test]
async fn an_order_gets_a_key_of_its_own_provider_or_none() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    started(&cluster, &user, 3).await;
    let mut both = Worker::with_keys(&cluster, &["fal/0000000a", ONE], 2).await;
    for _ in 0..2 {
        assert_eq!(both.next().await.provider_key, ONE);
    }
    let mut fals = Worker::with_keys(&cluster, &["fal/0000000a"], 1).await;
    assert_eq!(fals.next().await.provider_key, "");
}

#[tokio::test]
async fn a_name_that_is_no_keys_is_refused() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    started(&cluster, &user, 1).await;
    let mut worker = Worker::with_keys(&cluster, &[ONE], 1).await;
    let mut work = worker.next().await;
    for wrong in ["local", "local/", "/a", "local/A", &format!("local/{}", "a".repeat(100))] {
        wrong.clone_into(&mut work.provider_key);
        assert_eq!(refusal(worker.intended(&work).await).0, Code::InvalidArgument, "{wrong}");
    }
}
