//! Queued thumbnails survive what happens to workers: a lease that ran out, a lost job, an object that is gone.

use std::time::Duration;

use proto::assets::v1::thumbnail::State;

use crate::cluster::{Account, Cluster};
use crate::paint::fixture;

/// An account whose service has been stopped after one upload, with the thumbnail as if it had never been made.
async fn unmade(cluster: &mut Cluster) -> (Account, String) {
    let account = cluster.account().await;
    let asset = account.upload(&fixture("baseline.jpg")).await.unwrap().into_inner();
    cluster.settled(&account, &asset.name).await;
    cluster.stop().await;
    sqlx::query("update thumbnails set state = 1, blob = null").execute(&cluster.pool).await.unwrap();
    (account, asset.name)
}

async fn again(cluster: &mut Cluster, account: &Account) -> Account {
    cluster.restart(|_| {}).await;
    cluster.client_of(account.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_of_a_worker_that_died_is_done_by_another() {
    let mut cluster = Cluster::start().await;
    let (account, asset) = unmade(&mut cluster).await;
    // As a worker leaves it that was killed half a minute ago.
    sqlx::query(
        "update jobs set state = 'leased', worker = 'gone', lease_until = now() - interval '1 second', finished_at = null",
    )
    .execute(&cluster.pool)
    .await
    .unwrap();
    let account = again(&mut cluster, &account).await;
    let thumbnail = cluster.settled(&account, &asset).await;
    assert_eq!(thumbnail.state(), State::Ready);
    let (claims, state): (i32, String) =
        sqlx::query_as("select claims, state from jobs").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!((claims, state.as_str()), (2, "done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thumbnail_without_a_job_is_found_and_made() {
    let mut cluster = Cluster::start().await;
    let (account, asset) = unmade(&mut cluster).await;
    sqlx::query("delete from jobs").execute(&cluster.pool).await.unwrap();
    sqlx::query("update thumbnails set update_time = now() - interval '2 minutes'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let account = again(&mut cluster, &account).await;
    assert_eq!(cluster.settled(&account, &asset).await.state(), State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_that_nothing_was_queued_of_is_found_and_its_thumbnail_made() {
    let mut cluster = Cluster::start().await;
    let (account, asset) = unmade(&mut cluster).await;
    for forget in
        ["delete from jobs", "delete from thumbnails", "update assets set create_time = now() - interval '2 minutes'"]
    {
        sqlx::query(forget).execute(&cluster.pool).await.unwrap();
    }
    let account = again(&mut cluster, &account).await;
    assert_eq!(cluster.settled(&account, &asset).await.state(), State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_workers_is_given_up() {
    let mut cluster = Cluster::start().await;
    let (account, asset) = unmade(&mut cluster).await;
    sqlx::query(
        "update jobs set state = 'leased', worker = 'gone', lease_until = now() - interval '1 second', finished_at = null,
                expired_in_row = 2",
    )
    .execute(&cluster.pool)
    .await
    .unwrap();
    let account = again(&mut cluster, &account).await;
    let thumbnail = cluster.settled(&account, &asset).await;
    assert_eq!(thumbnail.state(), State::Failed);
    assert_eq!(thumbnail.failure_reason, "every worker that tried to make it stopped working");
    let state: String = sqlx::query_scalar("select state from jobs").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(state, "dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_gone_ends_its_job() {
    let mut cluster = Cluster::start().await;
    let (account, asset) = unmade(&mut cluster).await;
    sqlx::query("update jobs set state = 'queued', finished_at = null").execute(&cluster.pool).await.unwrap();
    std::fs::remove_dir_all(&cluster.folder).unwrap();
    let account = again(&mut cluster, &account).await;
    let thumbnail = cluster.settled(&account, &asset).await;
    assert_eq!(thumbnail.state(), State::Failed);
    assert_eq!(thumbnail.failure_reason, "its file is no longer in storage");
    let (state, cause): (String, String) =
        sqlx::query_as("select state, cause from jobs").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!((state.as_str(), cause.as_str()), ("failed", "ASSET_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_uploads_are_all_made_and_each_by_one_claim() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let mut assets = Vec::new();
    for n in 0..24_u32 {
        let file = crate::paint::png(40 + n, 40, &crate::paint::quarters(40 + n, 40));
        assets.push(account.upload(&file).await.unwrap().into_inner().name);
    }
    for asset in &assets {
        assert_eq!(cluster.settled(&account, asset).await.state(), State::Ready);
    }
    let left = testkit::eventually("no job is left", Duration::from_secs(10), async || {
        let query = "select count(*) from jobs where state <> 'done' or claims <> 1";
        let left: i64 = sqlx::query_scalar(query).fetch_one(&cluster.pool).await.unwrap();
        (left == 0).then_some(())
    });
    left.await.unwrap();
}
