//! Readers that miss together load once; one that leaves takes nothing along; a failure reaches one reader, not all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache::{Asof, Lifetime, Loaded, Tier};
use futures::future::join_all;
use tokio::sync::Notify;

use crate::cluster::{Cluster, Node};

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_misses_load_once() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    node.change("a").await.unwrap();
    let hits = join_all((0..500).map(|_| {
        let node = node.clone();
        tokio::spawn(async move { node.get("a").await.unwrap() })
    }))
    .await;
    assert!(hits.into_iter().all(|hit| hit.unwrap().version == 1));
    assert_eq!(node.loads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_misses_in_two_nodes_load_once_or_twice() {
    let cluster = Cluster::new().await;
    let (one, two) = tokio::join!(cluster.ready_node(), cluster.ready_node());
    one.change("a").await.unwrap();
    // Redis has a proof of its own by now.
    one.from(Tier::L1, "warm").await;
    let (before, warm) = (one.loads(), two.loads());
    join_all((0..500).map(|i| {
        let node = if i % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move { node.get("a").await.unwrap() })
    }))
    .await;
    let loads = one.loads() - before + two.loads() - warm;
    assert!(
        (1..=2).contains(&loads),
        "{loads} loads: the second node waits for the first one's lease, but not for long"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_loads_what_is_missing_in_one_call() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    for id in ["a", "b", "c"] {
        node.change(id).await.unwrap();
    }
    node.get("b").await.unwrap();
    let batches = Arc::new(AtomicUsize::new(0));
    let ids = ["a", "b", "c", "none", "a"];
    let wanted: Vec<_> = ids.iter().map(|id| (node.key(id), None)).collect();
    let load = {
        let (node, batches) = (node.clone(), Arc::clone(&batches));
        move |places: Vec<usize>| {
            let (node, batches) = (node.clone(), Arc::clone(&batches));
            async move {
                batches.fetch_add(1, Ordering::SeqCst);
                let mut loaded = Vec::new();
                for place in places {
                    loaded.push(node.load(ids[place]).await?);
                }
                Ok::<_, chassis::postgres::Error>(loaded)
            }
        }
    };
    let hits = node.cache.get_many(&wanted, load.clone()).await.unwrap();
    assert_eq!(hits.iter().map(|hit| hit.version).collect::<Vec<_>>(), [1, 1, 1, 0, 1]);
    assert!(hits[3].is_absent());
    assert_eq!(batches.load(Ordering::SeqCst), 1);
    assert_eq!(node.loads(), 4, "b was there, a was asked for twice");
    let again = node.cache.get_many(&wanted, load).await.unwrap();
    assert!(again.iter().all(|hit| hit.tier == Tier::L1), "{again:?}");
}

fn loaded(node: &Node) -> Loaded {
    assert_eq!(node.loads(), 0);
    Loaded { version: 7, asof: Asof { epoch: 0, seq: 0 }, body: "7".into(), lifetime: Lifetime::TERMINAL }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_that_started_the_load_leaves_and_the_others_are_answered() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let key = node.key("a");
    let starter = {
        let (node, started, go) = (node.clone(), Arc::clone(&started), Arc::clone(&go));
        let key = key.clone();
        tokio::spawn(async move {
            let value = loaded(&node);
            let load = move || async move {
                started.notify_one();
                go.notified().await;
                Ok::<_, String>(value)
            };
            node.cache.get(&key, None, load).await
        })
    };
    started.notified().await;
    let joiner = node.cache.get(&key, None, || async { Err::<Loaded, String>("a second load".into()) });
    let mut joiner = std::pin::pin!(joiner);
    // Polled now, it joins; after the end of the load it would rightly start its own.
    assert!(futures::poll!(&mut joiner).is_pending());
    starter.abort();
    assert!(starter.await.unwrap_err().is_cancelled());
    go.notify_one();
    assert_eq!(joiner.await.unwrap().version, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_is_tried_again_by_one_of_those_that_joined() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    let tried = Arc::new(AtomicUsize::new(0));
    let reads = (0..100).map(|_| {
        let (node, tried) = (node.clone(), Arc::clone(&tried));
        let key = node.key("a");
        tokio::spawn(async move {
            let value = loaded(&node);
            let load = move || async move {
                let first = tried.fetch_add(1, Ordering::SeqCst) == 0;
                // Until all have joined: what is loaded here stands under no proof, so who came later would load again.
                tokio::time::sleep(Duration::from_millis(300)).await;
                if first { Err("the first one fails".to_owned()) } else { Ok(value) }
            };
            node.cache.get(&key, None, load).await
        })
    });
    let results: Vec<_> = join_all(reads).await.into_iter().map(Result::unwrap).collect();
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(failed, 1, "only the reader whose load it was");
    assert_eq!(tried.load(Ordering::SeqCst), 2, "one more, which the others join");
}

async fn buggy() -> Result<Loaded, String> {
    tokio::task::yield_now().await;
    panic!("a bug in a load")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_panics_leaves_the_key_usable() {
    let cluster = Cluster::new().await;
    let node = cluster.ready_node().await;
    node.change("a").await.unwrap();
    let panics = {
        let node = node.clone();
        tokio::spawn(async move {
            let key = node.key("a");
            node.cache.get(&key, None, buggy).await
        })
    };
    assert!(panics.await.unwrap_err().is_panic());
    assert_eq!(node.get("a").await.unwrap().version, 1);
}
