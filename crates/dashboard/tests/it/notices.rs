//! Notices: the welcome, and how notices are acknowledged.

use anyhow::Result;
use tonic::Code;
use uuid::Uuid;

use crate::cluster::{Cluster, User, refused};

async fn write(cluster: &Cluster, user: &User, count: i32) -> Result<()> {
    let insert = sqlx::query(
        "insert into notices (id, account_id, title)
         select gen_random_uuid(), $1, 'Notice ' || i from generate_series(1, $2) i",
    );
    insert.bind(user.id).bind(count).execute(&cluster.pool).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_are_shown_until_they_are_acknowledged() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let shown = user.dashboard().await?;
    assert_eq!((shown.notices.len(), shown.unread_notice_count), (1, 1));
    let welcome = &shown.notices[0];
    assert!(welcome.title.contains("Welcome") && !welcome.body.is_empty());

    assert_eq!(user.acknowledge(&[&welcome.name, &welcome.name]).await?, 0);
    let shown = user.dashboard().await?;
    assert_eq!((shown.notices.len(), shown.unread_notice_count), (0, 0));
    let state = cluster.state().await?;
    assert_eq!(user.acknowledge(&[&welcome.name]).await?, 0, "a notice that was read stays read");
    assert_eq!(cluster.state().await?, state);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_notices_are_shown_and_a_thousand_counted() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    write(&cluster, &user, 1_005).await?;
    let shown = user.dashboard_page(1, "").await?;
    assert_eq!((shown.notices.len(), shown.unread_notice_count), (10, 1_000));
    assert!(shown.notices.is_sorted_by(|one, next| one.name > next.name), "newest first");
    let names: Vec<&str> = shown.notices.iter().map(|notice| notice.name.as_str()).collect();
    assert_eq!(user.acknowledge(&names).await?, 996);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_does_not_exist_leaves_all_unread() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let welcome = user.dashboard().await?.notices[0].name.clone();
    let state = cluster.state().await?;
    let unknown = format!("notices/{}", Uuid::now_v7());
    refused(user.acknowledge(&[&welcome, &unknown]).await, Code::NotFound, "NOTICE_NOT_FOUND");
    for (names, wrong) in [
        (vec![], vec!["names"]),
        (vec![welcome.as_str(); 101], vec!["names"]),
        (vec!["x", &welcome, "notices/1"], vec!["names[0]", "names[2]"]),
    ] {
        let refusal = user.acknowledge(&names).await;
        assert_eq!(refused(refusal, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION"), wrong);
    }
    assert_eq!(cluster.state().await?, state);
    cluster.stop().await
}
