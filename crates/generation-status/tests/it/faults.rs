//! Servers and processes that go away: writes and reads go on, and nothing is lost.

use std::time::Duration;

use proto::generations::v1::State;
use testkit::{Nats, Redis};

use crate::cluster::{Cluster, Node, PRICE};
use crate::worker::Worker;

#[tokio::test]
async fn redis_and_nats_may_go_and_come_back() {
    let (nats, redis) = (Nats::launch().await.unwrap(), Redis::launch().await.unwrap());
    let cluster = Cluster::with(|config| {
        config.nats_url = Some(nats.url());
        config.cache.redis_url = Some(redis.url());
    })
    .await;
    let user = cluster.user(3).await;
    let mut worker = Worker::new(&cluster, 3).await;
    let once = async |worker: &mut Worker| {
        let name = cluster.started(&user).await.name;
        let work = worker.next().await;
        worker.carry_out(&work).await;
        assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Completed);
    };
    once(&mut worker).await;
    nats.kill().await.unwrap();
    redis.kill().await.unwrap();
    once(&mut worker).await;
    nats.start().await.unwrap();
    redis.start().await.unwrap();
    once(&mut worker).await;
    assert_eq!(cluster.credit(&user).await.spent_micros, 3 * PRICE);
}

#[tokio::test]
async fn a_node_that_dies_loses_nothing() {
    let cluster = Cluster::with(|config| {
        config.work.lease = Duration::from_secs(3);
        config.work.reap_interval = Duration::from_millis(50);
    })
    .await;
    let user = cluster.user(1).await;
    let first = Node::start(&cluster.config).await;
    let name = cluster.started(&user).await.name;
    let mut worker = Worker::at(&cluster, &first, 1).await;
    let work = worker.next().await;
    worker.submitted(&work).await.unwrap();
    drop(worker);
    drop(first);
    let mut worker = Worker::new(&cluster, 1).await;
    let work = worker.next().await;
    assert_eq!((work.attempt, work.provider_reference.as_str()), (2, "order-1"));
    worker.carry_out(&work).await;
    assert_eq!(cluster.get(&user, &name).await.unwrap().state(), State::Completed);
}

#[tokio::test]
async fn work_that_kills_its_workers_fails_and_costs_nothing() {
    let cluster = Cluster::with(|config| {
        config.work.lease = Duration::from_millis(100);
        config.work.reap_interval = Duration::from_millis(20);
    })
    .await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    for attempt in 1..=3 {
        let mut worker = Worker::new(&cluster, 1).await;
        assert_eq!(worker.next().await.attempt, attempt);
    }
    let failed = testkit::eventually("the generation is FAILED", Duration::from_secs(10), async || {
        Some(cluster.get(&user, &name).await.unwrap()).filter(|generation| generation.state() == State::Failed)
    });
    let failed = failed.await.unwrap();
    assert!(String::from_utf8_lossy(&failed.error.unwrap().details[0].value).contains("ATTEMPTS_EXHAUSTED"));
    assert_eq!(cluster.credit(&user).await.available_micros, PRICE);
}

#[tokio::test]
async fn a_generation_that_no_worker_claims_expires() {
    let cluster = Cluster::with(|config| config.work.reap_interval = Duration::from_millis(20)).await;
    let user = cluster.user(1).await;
    let name = cluster.started(&user).await.name;
    sqlx::query("update jobs set deadline_at = now()").execute(&cluster.pool).await.unwrap();
    let expired = testkit::eventually("the generation is EXPIRED", Duration::from_secs(10), async || {
        Some(cluster.get(&user, &name).await.unwrap()).filter(|generation| generation.state() == State::Expired)
    });
    assert!(
        String::from_utf8_lossy(&expired.await.unwrap().error.unwrap().details[0].value).contains("START_DEADLINE")
    );
    assert_eq!(cluster.credit(&user).await.available_micros, PRICE);
}
