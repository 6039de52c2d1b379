//! A change made anywhere is seen everywhere, in any order of what happens around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache::{Cause, Signal, Tier};
use tokio::sync::Notify;

use crate::cluster::{Cluster, LONG};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_one_node_reaches_the_l1_of_another() {
    let cluster = Cluster::new().await;
    let (writer, reader) = tokio::join!(cluster.ready_node(), cluster.ready_node());
    writer.write("a").await.unwrap();
    reader.from(Tier::L1, "a").await;
    let wrote = writer.write("a").await.unwrap();
    let began = Instant::now();
    reader.sees("a", wrote).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    reader.from(Tier::L1, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_only_the_outbox_has_is_seen_within_the_bound() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(cluster.ready_node(), cluster.ready_node());
    one.change("a").await.unwrap();
    for node in [&one, &two] {
        node.from(Tier::L1, "a").await;
    }
    let changed = one.change("a").await.unwrap();
    let committed = Instant::now();
    loop {
        let begun = Instant::now();
        let seen = [one.get("a").await.unwrap().version, two.get("a").await.unwrap().version];
        if seen == [changed, changed] {
            break;
        }
        assert!(begun - committed < Duration::from_secs(1), "{seen:?} a second after {changed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_follows_its_parts() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(cluster.ready_node(), cluster.ready_node());
    for round in 1..=20 {
        one.change(&format!("t{}", round % 3)).await.unwrap();
        let what = format!("sum {round}");
        testkit::eventually(&what, LONG, async || (two.get_all().await.ok()?.body == round.to_string()).then_some(()))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_node_reads_from_redis_what_the_first_loaded() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(cluster.ready_node(), cluster.ready_node());
    // Each change is one try: on a crowded machine the second node may come before Redis is filled or proven, and
    // then loads for itself.
    let read = testkit::eventually("a read from Redis", LONG, async || {
        one.change("a").await.ok()?;
        one.from(Tier::L1, "a").await;
        two.get("a").await.ok().filter(|hit| hit.tier == Tier::L2)
    });
    read.await.unwrap();
    two.from(Tier::L1, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absence_is_cached_until_the_row_is_created() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(cluster.ready_node(), cluster.ready_node());
    assert!(one.get("a").await.unwrap().is_absent());
    assert!(one.from(Tier::L1, "a").await.is_absent());
    two.sees("a", 0).await;
    two.change("a").await.unwrap();
    one.sees("a", 1).await;
    two.sees("a", 1).await;
    two.delete("a").await.unwrap();
    one.sees("a", 0).await;
    two.sees("a", 0).await;
}

/// The history that a lifetime alone gets wrong: a load reads, is paused, the row changes, everyone is notified, and the load
/// resumes.
#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_comes_late_is_refused_by_both_tiers() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(cluster.ready_node(), cluster.ready_node());
    one.change("a").await.unwrap();
    one.from(Tier::L1, "warm").await;
    let (read, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let late = {
        let (node, read, go) = (one.clone(), Arc::clone(&read), Arc::clone(&go));
        tokio::spawn(async move {
            let key = node.key("a");
            let loads = node.clone();
            let load = move || async move {
                let old = loads.load("a").await?;
                read.notify_one();
                go.notified().await;
                Ok::<_, chassis::postgres::Error>(old)
            };
            node.cache.get(&key, None, load).await
        })
    };
    read.notified().await;
    let mut changes = one.cache.changes();
    let changed = two.change("a").await.unwrap();
    // Both tiers have applied the change when this node receives it from the relay.
    tokio::time::timeout(LONG, async {
        loop {
            if let Some(Signal::Changed(change)) = changes.next().await
                && *change.key == *one.key("a").as_str()
                && change.version == changed
            {
                break;
            }
        }
    })
    .await
    .unwrap();
    go.notify_one();
    assert_eq!(late.await.unwrap().unwrap().version, changed - 1, "it began before the change");
    for _ in 0..50 {
        assert_eq!(one.get("a").await.unwrap().version, changed);
        assert_eq!(two.get("a").await.unwrap().version, changed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_receive_changes_and_gaps() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(cluster.ready_node(), cluster.ready_node());
    let mut changes = two.cache.changes();
    let wrote = one.write("a").await.unwrap();
    let next = async |changes: &mut cache::Changes| tokio::time::timeout(LONG, changes.next()).await.unwrap().unwrap();
    loop {
        if let Signal::Changed(change) = next(&mut changes).await
            && change.kind() == "thing"
        {
            assert_eq!((change.account(), change.id(), change.version), (Some(one.account), Some("a"), wrote));
            break;
        }
    }
    cluster.nats.stop().await.unwrap();
    // The node that does not lead is cut off; the other still receives its own messages.
    let mut other = one.cache.changes();
    loop {
        let signal = tokio::select! {
            signal = next(&mut changes) => signal,
            signal = next(&mut other) => signal,
        };
        if let Signal::Gap(cause) = signal {
            assert!(matches!(cause, Cause::Disconnect | Cause::Unresponsive), "{cause:?}");
            break;
        }
    }
}
