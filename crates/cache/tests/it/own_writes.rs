//! A writer reads what it wrote: at once in its own process, and with its version anywhere.

use cache::Tier;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_its_row_at_once() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    for _ in 0..100 {
        let wrote = node.write("a").await.unwrap();
        let hit = node.get("a").await.unwrap();
        assert!(hit.version >= wrote, "wrote {wrote}, read {} from {:?}", hit.version, hit.tier);
        node.get("a").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_its_aggregate_at_once() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    for round in 1..=100 {
        node.write("a").await.unwrap();
        let hit = node.get_all().await.unwrap();
        assert_eq!(hit.body, round.to_string(), "read from {:?}", hit.tier);
        node.get_all().await.unwrap();
    }
    assert!(node.loads() < 150, "{} loads: one for each write, not for each read", node.loads());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_given_the_version_answers_with_it() {
    let cluster = Cluster::new().await;
    let (writer, reader) = tokio::join!(cluster.ready_node(), cluster.ready_node());
    for _ in 0..50 {
        reader.get("a").await.unwrap();
        // Nobody is notified: neither Redis nor the other node can know of it yet.
        let wrote = writer.change("a").await.unwrap();
        assert!(reader.get_at_min_version("a", Some(wrote)).await.unwrap().version >= wrote);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_a_key_never_go_back() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    let mut last = 0;
    for round in 0..300 {
        if round % 3 == 0 {
            node.change("a").await.unwrap();
        }
        // Redis and L1 are behind now; the load that a min_version forces is ahead of both.
        let min_version = (round % 5 == 0).then_some(last + 1);
        let hit = node.get_at_min_version("a", min_version).await.unwrap();
        assert!(hit.version >= last, "{} after {last}, from {:?}", hit.version, hit.tier);
        last = hit.version;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_of_an_aggregate_is_exact() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    for _ in 0..20 {
        node.change("a").await.unwrap();
        let version = node.cache.version(&node.all()).await.unwrap().unwrap();
        let loaded = node.load_all().await.unwrap();
        assert_eq!((loaded.version, loaded.body.as_ref()), (version, version.to_string().as_bytes()));
    }
    assert_eq!(node.get_all().await.unwrap().tier, Tier::Loaded);
}
