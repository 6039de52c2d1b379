//! A change made anywhere is seen everywhere, in any order of what happens around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache::{Cause, Signal, Tier};
use tokio::sync::Notify;

use crate::stand::{LONG, Stand};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_one_process_reaches_the_other_ones_l1() {
    let stand = Stand::new().await;
    let (writer, reader) = tokio::join!(stand.ready(), stand.ready());
    writer.write("a").await.unwrap();
    reader.from(Tier::L1, "a").await;
    let wrote = writer.write("a").await.unwrap();
    let began = Instant::now();
    reader.sees("a", wrote).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    reader.from(Tier::L1, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_hand_is_seen_within_the_bound() {
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(stand.ready(), stand.ready());
    one.change("a").await.unwrap();
    for process in [&one, &two] {
        process.from(Tier::L1, "a").await;
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
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(stand.ready(), stand.ready());
    for round in 1..=20 {
        one.change(&format!("t{}", round % 3)).await.unwrap();
        let what = format!("sum {round}");
        testkit::eventually(&what, LONG, async || (two.get_all().await.ok()?.body == round.to_string()).then_some(()))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_process_reads_from_redis_what_the_first_loaded() {
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(stand.ready(), stand.ready());
    // Each change is one try: on a crowded machine the second process may come before Redis is filled or proven, and
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
async fn what_does_not_exist_is_remembered_until_it_does() {
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(stand.ready(), stand.ready());
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

/// The history that a time-out alone loses: a load reads, sleeps, the row changes, everyone is told, and the load comes
/// back.
#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_comes_late_is_refused_by_both_tiers() {
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(stand.ready(), stand.ready());
    one.change("a").await.unwrap();
    one.from(Tier::L1, "warm").await;
    let (read, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let late = {
        let (process, read, go) = (one.clone(), Arc::clone(&read), Arc::clone(&go));
        tokio::spawn(async move {
            let key = process.key("a");
            let loads = process.clone();
            let load = move || async move {
                let old = loads.load("a").await?;
                read.notify_one();
                go.notified().await;
                Ok::<_, chassis::postgres::Error>(old)
            };
            process.cache.get(&key, None, load).await
        })
    };
    read.notified().await;
    let mut heard = one.cache.changes();
    let changed = two.change("a").await.unwrap();
    // Both tiers have been told when this process hears of it from the relay.
    tokio::time::timeout(LONG, async {
        loop {
            if let Some(Signal::Changed(change)) = heard.next().await
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
async fn listeners_hear_of_changes_and_of_gaps() {
    let stand = Stand::new().await;
    let (one, two) = tokio::join!(stand.ready(), stand.ready());
    let mut heard = two.cache.changes();
    let wrote = one.write("a").await.unwrap();
    let next = async |heard: &mut cache::Changes| tokio::time::timeout(LONG, heard.next()).await.unwrap().unwrap();
    loop {
        if let Signal::Changed(change) = next(&mut heard).await
            && change.kind() == "thing"
        {
            assert_eq!((change.account(), change.id(), change.version), (Some(one.account), Some("a"), wrote));
            break;
        }
    }
    stand.nats.stop().await.unwrap();
    // Whichever of the two does not lead is cut off; the other still hears itself.
    let mut other = one.cache.changes();
    loop {
        let signal = tokio::select! {
            signal = next(&mut heard) => signal,
            signal = next(&mut other) => signal,
        };
        if let Signal::Gap(cause) = signal {
            assert!(matches!(cause, Cause::Disconnect | Cause::Silence), "{cause:?}");
            break;
        }
    }
}
