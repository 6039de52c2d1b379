//! The relay changes hands, its numbers add up, and what it forgets costs a question, not a load.

use std::time::Duration;

use cache::Tier;

use crate::stand::{LONG, Stand};

#[tokio::test(flavor = "multi_thread")]
async fn another_process_takes_over_from_one_that_leaves() {
    let stand = Stand::new().await;
    let one = stand.ready().await;
    let two = stand.ready().await;
    one.cache.close().await;
    drop(one);
    two.change("a").await.unwrap();
    two.from(Tier::L1, "a").await;
    let changed = two.change("a").await.unwrap();
    two.sees("a", changed).await;
    two.from(Tier::L1, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_vanishes_is_replaced_when_its_lease_ends() {
    let stand = Stand::new().await;
    let two = stand.ready().await;
    // A leader that will never speak: its lease is what a killed process leaves behind.
    sqlx::query("update cache_clock set epoch = 1, owner = 'killed', lease_until = now() + interval '2 seconds'")
        .execute(two.data.sqlx())
        .await
        .unwrap();
    two.change("a").await.unwrap();
    let epoch = testkit::eventually("a new epoch", LONG, async || {
        let epoch: i64 = sqlx::query_scalar("select epoch from cache_clock").fetch_one(two.data.sqlx()).await.unwrap();
        (epoch != 1).then_some(epoch)
    })
    .await
    .unwrap();
    assert!(epoch > 0);
    two.from(Tier::L1, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folding_keeps_the_version_and_empties_the_outbox() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    let writers = (0..8).map(|writer| {
        let process = process.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                process.change(&format!("t{writer}")).await.unwrap();
            }
        })
    });
    let watching = process.clone();
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
        let left: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(process.data.sqlx()).await.unwrap();
        (left == 0).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(process.load_all().await.unwrap().version, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_changes_than_one_pass_takes_arrive_all() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    sqlx::query("insert into thing (account, id) select $1, 'n' || n from generate_series(1, 5000) n")
        .bind(process.account)
        .execute(process.data.sqlx())
        .await
        .unwrap();
    sqlx::query("insert into outbox (key) select 'all:' || $1 from generate_series(1, 5000)")
        .bind(process.account.to_string())
        .execute(process.data.sqlx())
        .await
        .unwrap();
    for id in ["n1", "n5000"] {
        process.from(Tier::L1, id).await;
    }
    testkit::eventually("the base of the aggregate", LONG, async || {
        let folded: Option<i64> = sqlx::query_scalar("select ver from cache_key where key = $1")
            .bind(process.all().as_str())
            .fetch_optional(process.data.sqlx())
            .await
            .unwrap();
        folded.filter(|folded| *folded == 5001)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_costs_an_aggregate_one_question_and_no_load() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    process.change("a").await.unwrap();
    testkit::eventually("the aggregate in L1", LONG, async || {
        (process.get_all().await.unwrap().tier == Tier::L1).then_some(())
    })
    .await
    .unwrap();
    stand.redis.stop().await.unwrap();
    let loads = process.loads();
    sqlx::query("update cache_clock set epoch = 1, owner = null, lease_until = null")
        .execute(process.data.sqlx())
        .await
        .unwrap();
    let mut validated = false;
    testkit::eventually("validated, then in L1 again", LONG, async || {
        let hit = process.get_all().await.unwrap();
        assert_ne!(hit.tier, Tier::Loaded);
        validated |= hit.tier == Tier::Validated;
        (validated && hit.tier == Tier::L1).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(process.loads(), loads);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_makes_every_aggregate_new() {
    let stand = Stand::new().await;
    let process = stand.ready().await;
    process.change("a").await.unwrap();
    let before = process.load_all().await.unwrap().version;
    // A truncation names no rows; its trigger calls this.
    let mut transaction = process.data.sqlx().begin().await.unwrap();
    sqlx::query("truncate thing").execute(&mut *transaction).await.unwrap();
    sqlx::query("select cache_reset()").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    testkit::eventually("an empty aggregate", Duration::from_secs(1), async || {
        let hit = process.get_all().await.unwrap();
        (hit.body == "0").then(|| assert!(hit.version > before))
    })
    .await
    .unwrap();
    process.sees("a", 0).await;
}
