//! Notices: the welcome, and how they are read.

use anyhow::Result;
use tonic::Code;
use uuid::Uuid;

use crate::stack::{Stack, User, refused};

async fn write(stack: &Stack, user: &User, count: i32) -> Result<()> {
    let insert = sqlx::query(
        "insert into notices (id, account_id, title)
         select gen_random_uuid(), $1, 'Notice ' || i from generate_series(1, $2) i",
    );
    insert.bind(user.id).bind(count).execute(&stack.pool).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn are_shown_until_they_are_acknowledged() -> Result<()> {
    let stack = Stack::start().await?;
    let user = stack.account().await?;
    let shown = user.dashboard().await?;
    assert_eq!((shown.notices.len(), shown.unread_notice_count), (1, 1));
    let welcome = &shown.notices[0];
    assert!(welcome.title.contains("Welcome") && !welcome.body.is_empty());

    assert_eq!(user.acknowledge(&[&welcome.name, &welcome.name]).await?, 0);
    let shown = user.dashboard().await?;
    assert_eq!((shown.notices.len(), shown.unread_notice_count), (0, 0));
    let state = stack.state().await?;
    assert_eq!(user.acknowledge(&[&welcome.name]).await?, 0, "what was read stays read");
    assert_eq!(stack.state().await?, state);
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_are_shown_and_a_thousand_counted() -> Result<()> {
    let stack = Stack::start().await?;
    let user = stack.account().await?;
    write(&stack, &user, 1_005).await?;
    let shown = user.dashboard_page(1, "").await?;
    assert_eq!((shown.notices.len(), shown.unread_notice_count), (10, 1_000));
    assert!(shown.notices.is_sorted_by(|one, next| one.name > next.name), "newest first");
    let names: Vec<&str> = shown.notices.iter().map(|notice| notice.name.as_str()).collect();
    assert_eq!(user.acknowledge(&names).await?, 996);
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_there_leaves_all_unread() -> Result<()> {
    let stack = Stack::start().await?;
    let user = stack.account().await?;
    let welcome = user.dashboard().await?.notices[0].name.clone();
    let state = stack.state().await?;
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
    assert_eq!(stack.state().await?, state);
    stack.stop().await
}
