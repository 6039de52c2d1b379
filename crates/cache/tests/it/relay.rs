//! The relay's lease changes owners, its numbers add up, and a new epoch costs a validation, not a load.

use std::time::Duration;

use cache::Tier;

use crate::cluster::{Cluster, LONG};

#[tokio::test(flavor = "multi_thread")]
async fn another_node_leads_after_one_that_closes() {
    let cluster = Cluster::new().await;
    let one = cluster.ready_node().await;
    let two = cluster.ready_node().await;
    one.cache.close().await;
    drop(one);
    two.change("a").await.unwrap();
    two.from(Tier::L1, "a").await;
    let changed = two.change("a").await.unwrap();
    two.sees("a", changed).await;
    two.from(Tier::L1, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_leads_when_the_lease_of_a_dead_leader_ends() {
    let cluster = Cluster::new().await;
    let two = cluster.ready_node().await;
    // The lease that a killed leader leaves behind.
    sqlx::query("update cache_clock set epoch = 1, owner = 'killed', lease_until = now() + interval '2 seconds'")
        .execute(&mut two.data.connect().await.unwrap())
        .await
        .unwrap();
    two.change("a").await.unwrap();
    let epoch = testkit::eventually("a new epoch", LONG, async || {
        let epoch: i64 = sqlx::query_scalar("select epoch from cache_clock")
            .fetch_one(&mut two.data.connect().await.unwrap())
            .await
            .unwrap();
        (epoch != 1).then_some(epoch)
    })
    .await
    .unwrap();
    assert!(epoch > 0);
    two.from(Tier::L1, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_keeps_the_version_and_empties_the_outbox() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    let writers = (0..8).map(|writer| {
        let node = node.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                node.change(&format!("t{writer}")).await.unwrap();
            }
        })
    });
    let watching = node.clone();
    let watch = tokio::spawn(async move {
        let mut last = 0;
        while last < 400 {
            let loaded = watching.load_all().await.unwrap();
            assert!(loaded.version >= last, "{} after {last}", loaded.version);
            assert_eq!(loaded.body, loaded.version.to_string(), "one bump for each change, in every snapshot");
            last = loaded.version;
        }
    });
    futures::future::join_all(writers).await.into_iter().for_each(|writer| writer.unwrap());
    tokio::time::timeout(LONG, watch).await.unwrap().unwrap();
    testkit::eventually("an empty outbox", LONG, async || {
        let left: i64 = sqlx::query_scalar("select count(*) from outbox")
            .fetch_one(&mut node.data.connect().await.unwrap())
            .await
            .unwrap();
        (left == 0).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(node.load_all().await.unwrap().version, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_changes_than_one_pass_takes_all_arrive() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    sqlx::query("insert into thing (account, id) select $1, 'n' || n from generate_series(1, 5000) n")
        .bind(node.account)
        .execute(&mut node.data.connect().await.unwrap())
        .await
        .unwrap();
    sqlx::query("insert into outbox (key) select 'all:' || $1 from generate_series(1, 5000)")
        .bind(node.account.to_string())
        .execute(&mut node.data.connect().await.unwrap())
        .await
        .unwrap();
    for id in ["n1", "n5000"] {
        node.from(Tier::L1, id).await;
    }
    testkit::eventually("the base of the aggregate", LONG, async || {
        let compacted: Option<i64> = sqlx::query_scalar("select ver from cache_key where key = $1")
            .bind(node.all().as_str())
            .fetch_optional(&mut node.data.connect().await.unwrap())
            .await
            .unwrap();
        compacted.filter(|compacted| *compacted == 5001)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_costs_an_aggregate_one_validation_and_no_load() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    node.change("a").await.unwrap();
    testkit::eventually("the aggregate in L1", LONG, async || {
        (node.get_all().await.unwrap().tier == Tier::L1).then_some(())
    })
    .await
    .unwrap();
    cluster.redis.stop().await.unwrap();
    let loads = node.loads();
    sqlx::query("update cache_clock set epoch = 1, owner = null, lease_until = null")
        .execute(&mut node.data.connect().await.unwrap())
        .await
        .unwrap();
    let mut validated = false;
    testkit::eventually("validated, then in L1 again", LONG, async || {
        let hit = node.get_all().await.unwrap();
        assert_ne!(hit.tier, Tier::Loaded);
        validated |= hit.tier == Tier::Validated;
        (validated && hit.tier == Tier::L1).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(node.loads(), loads);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_raises_every_aggregate() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    node.change("a").await.unwrap();
    let before = node.load_all().await.unwrap().version;
    // A truncation names no rows; its trigger calls this.
    let mut connection = node.data.connect().await.unwrap();
    let mut transaction = sqlx::Connection::begin(&mut connection).await.unwrap();
    sqlx::query("truncate thing").execute(&mut *transaction).await.unwrap();
    sqlx::query("select cache_reset()").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    testkit::eventually("an empty aggregate", Duration::from_secs(1), async || {
        let hit = node.get_all().await.unwrap();
        (hit.body == "0").then(|| assert!(hit.version > before))
    })
    .await
    .unwrap();
    node.sees("a", 0).await;
}
