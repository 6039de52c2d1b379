//! Who misses together loads once; who leaves takes nothing along; a failure is shared once, not spread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cache::{Asof, Lifetime, Loaded, Tier};
use futures::future::join_all;
use tokio::sync::Notify;

use crate::stand::{Process, Stand};

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_misses_load_once() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    process.change("a").await.unwrap();
    let hits = join_all((0..500).map(|_| {
        let process = process.clone();
        tokio::spawn(async move { process.get("a").await.unwrap() })
    }))
    .await;
    assert!(hits.into_iter().all(|hit| hit.unwrap().version == 1));
    assert_eq!(process.loads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_misses_in_two_processes_load_about_once() {
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(stand.ready(), stand.ready());
    one.change("a").await.unwrap();
    // Redis has a proof of its own by now.
    one.from(Tier::L1, "warm").await;
    let (before, warm) = (one.loads(), two.loads());
    join_all((0..500).map(|i| {
        let process = if i % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move { process.get("a").await.unwrap() })
    }))
    .await;
    let loads = one.loads() - before + two.loads() - warm;
    assert!(
        (1..=2).contains(&loads),
        "{loads} loads: the second process waits for the first one's lease, but not for long"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_loads_what_is_missing_in_one_go() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    for id in ["a", "b", "c"] {
        process.change(id).await.unwrap();
    }
    process.get("b").await.unwrap();
    let batches = Arc::new(AtomicUsize::new(0));
    let ids = ["a", "b", "c", "none", "a"];
    let wanted: Vec<_> = ids.iter().map(|id| (process.key(id), None)).collect();
    let load = {
        let (process, batches) = (process.clone(), Arc::clone(&batches));
        move |places: Vec<usize>| {
            let (process, batches) = (process.clone(), Arc::clone(&batches));
            async move {
                batches.fetch_add(1, Ordering::SeqCst);
                let mut loaded = Vec::new();
                for place in places {
                    loaded.push(process.load(ids[place]).await?);
                }
                Ok::<_, chassis::postgres::Error>(loaded)
            }
        }
    };
    let hits = process.cache.get_many(&wanted, load.clone()).await.unwrap();
    assert_eq!(hits.iter().map(|hit| hit.version).collect::<Vec<_>>(), [1, 1, 1, 0, 1]);
    assert!(hits[3].is_absent());
    assert_eq!(batches.load(Ordering::SeqCst), 1);
    assert_eq!(process.loads(), 4, "b was there, a was asked for twice");
    let again = process.cache.get_many(&wanted, load).await.unwrap();
    assert!(again.iter().all(|hit| hit.tier == Tier::L1), "{again:?}");
}

fn loaded(process: &Process) -> Loaded {
    assert_eq!(process.loads(), 0);
    Loaded { version: 7, asof: Asof { epoch: 0, seq: 0 }, body: "7".into(), lifetime: Lifetime::TERMINAL }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_leaves_and_the_others_are_answered() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let key = process.key("a");
    let leader = {
        let (process, started, go) = (process.clone(), Arc::clone(&started), Arc::clone(&go));
        let key = key.clone();
        tokio::spawn(async move {
            let value = loaded(&process);
            let load = move || async move {
                started.notify_one();
                go.notified().await;
                Ok::<_, String>(value)
            };
            process.cache.get(&key, None, load).await
        })
    };
    started.notified().await;
    let follower = process.cache.get(&key, None, || async { Err::<Loaded, String>("a second load".into()) });
    let mut follower = std::pin::pin!(follower);
    // Its first step takes it aboard; were it to come after the load's end, it would rightly load for itself.
    assert!(futures::poll!(&mut follower).is_pending());
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    go.notify_one();
    assert_eq!(follower.await.unwrap().version, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_is_tried_again_by_one_of_those_who_joined() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    let tried = Arc::new(AtomicUsize::new(0));
    let reads = (0..100).map(|_| {
        let (process, tried) = (process.clone(), Arc::clone(&tried));
        let key = process.key("a");
        tokio::spawn(async move {
            let value = loaded(&process);
            let load = move || async move {
                let first = tried.fetch_add(1, Ordering::SeqCst) == 0;
                tokio::task::yield_now().await;
                if first { Err("the first one fails".to_owned()) } else { Ok(value) }
            };
            process.cache.get(&key, None, load).await
        })
    });
    let results: Vec<_> = join_all(reads).await.into_iter().map(Result::unwrap).collect();
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(failed, 1, "only the reader whose load it was");
    assert!(tried.load(Ordering::SeqCst) <= 3, "{tried:?} loads");
}

async fn buggy() -> Result<Loaded, String> {
    tokio::task::yield_now().await;
    panic!("a bug in a load")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_panics_leaves_the_key_usable() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    process.change("a").await.unwrap();
    let panics = {
        let process = process.clone();
        tokio::spawn(async move {
            let key = process.key("a");
            process.cache.get(&key, None, buggy).await
        })
    };
    assert!(panics.await.unwrap_err().is_panic());
    assert_eq!(process.get("a").await.unwrap().version, 1);
}
