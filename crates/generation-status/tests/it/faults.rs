//! Servers and processes that go away: writes and reads go on, and nothing is lost.

use std::time::{Duration, Instant};

use proto::generations::v1::State;
use sqlx::{AssertSqlSafe, PgConnection};
use testkit::{Nats, Redis, eventually};
use tonic::Code;

use crate::binary::Binary;
use crate::cluster::{Cluster, Node, PRICE, refusal};
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
    assert_eq!((work.attempt, work.provider_reference.as_str()), (1, "order-1"));
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

/// Closes every other connection to the cluster's database, as a failover does.
async fn disconnect_all(connection: &mut sqlx::PgConnection) {
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()",
    )
    .execute(connection)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_unavailable_until_it_does() {
    let cluster = Cluster::new().await;
    let user = cluster.user(3).await;
    let first = cluster.started(&user).await.name;
    let mut operator = cluster.pool.acquire().await.unwrap().detach();
    let set = async |operator: &mut PgConnection, mode: &str| {
        let database: String = sqlx::query_scalar("select current_database()").fetch_one(&mut *operator).await.unwrap();
        let sql = format!("alter database \"{database}\" set default_transaction_read_only = {mode}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *operator).await.unwrap();
        disconnect_all(operator).await;
    };
    set(&mut operator, "on").await;
    // From a standby it can be read, and whatever is asked of it is refused as an outage, never as a fault of ours.
    let mut refused = 0;
    let until = Instant::now() + Duration::from_secs(3);
    while refused < 5 || Instant::now() < until {
        let (code, reason) = refusal(cluster.start(&user, user.start_request()).await);
        assert_eq!((code, reason.as_str()), (Code::Unavailable, "DEPENDENCY_DOWN"));
        refused += 1;
    }
    let read = async || cluster.get(&user, &first).await.ok();
    eventually("reads go on", Duration::from_secs(20), read).await.unwrap();

    set(&mut operator, "off").await;
    let write = async || cluster.start(&user, user.start_request()).await.ok();
    let second = eventually("writes go on", Duration::from_secs(20), write).await.unwrap().name;
    let mut worker = Worker::new(&cluster, 2).await;
    for name in [first, second] {
        let work = worker.next().await;
        assert_eq!(work.generation, name);
        worker.carry_out(&work).await;
    }
    // A pooled connection that was cut is noticed when it is used next.
    let spent = async || Some(cluster.try_credit(&user).await.ok()?.spent_micros);
    let spent = eventually("credits are read", Duration::from_secs(20), spent).await.unwrap();
    assert_eq!(spent, 2 * PRICE, "what was refused left nothing behind");
}

#[tokio::test]
async fn a_process_whose_database_takes_no_writes_is_not_ready() {
    let cluster = Cluster::new().await;
    let user = cluster.user(1).await;
    let program = Binary::start(&cluster, &[]).await;
    let node = program.node();
    let start = async || node.generations.clone().start_generation(user.asks(user.start_request())).await;
    let says = async |text: &str| Some(program.admin("/readyz").await).filter(|page| page.contains(text));
    assert!(says("200 OK").await.is_some());

    let mut operator = cluster.pool.acquire().await.unwrap().detach();
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&mut operator).await.unwrap();
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    let set = format!("alter database {name} set default_transaction_read_only = on");
    for statement in [set.as_str(), end] {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut operator).await.unwrap();
    }
    eventually("the process is not ready", Duration::from_secs(30), async || says("takes no writes").await)
        .await
        .unwrap();
    let refused = refusal(start().await);
    assert_eq!(refused, (Code::Unavailable, "DEPENDENCY_DOWN".to_owned()));

    let reset = format!("alter database {name} reset default_transaction_read_only");
    sqlx::raw_sql(AssertSqlSafe(reset)).execute(&mut operator).await.unwrap();
    eventually("the process is ready", Duration::from_secs(10), async || says("200 OK").await).await.unwrap();
    eventually("work is accepted", Duration::from_secs(10), async || start().await.ok()).await.unwrap();
}
