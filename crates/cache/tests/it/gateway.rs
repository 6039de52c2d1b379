//! A node without a database: its proof is the relay's, its clock is another node's, its loads are calls.

use std::time::{Duration, Instant};

use cache::{Settings, Tier};

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_database_answers_from_l1_and_follows_changes() {
    let cluster = Cluster::new().await;
    let service = cluster.ready_node().await;
    let gateway = cluster.node_with(cluster.settings(), false).await;
    service.change("a").await.unwrap();
    gateway.proven().await;
    gateway.from(Tier::L1, "a").await;
    let changed = service.change("a").await.unwrap();
    let committed = Instant::now();
    gateway.sees("a", changed).await;
    assert!(committed.elapsed() < Duration::from_secs(1));
    gateway.from(Tier::L1, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anyone_to_ask_for_the_clock_every_read_loads() {
    let cluster = Cluster::new().await;
    let gateway = cluster.node_with(Settings { redis_url: None, ..cluster.settings() }, false).await;
    for _ in 0..20 {
        assert_eq!(gateway.get("a").await.unwrap().tier, Tier::Loaded);
    }
    assert_eq!(gateway.cache.proof_age(), None);
}
