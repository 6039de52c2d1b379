//! Deletion of projects and scenes: the durable job that ends their generations, and the race with a start.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::FromRow;
use testkit::eventually;
use tonic::Code;
use uuid::Uuid;

use crate::cluster::{Answer, Cluster, TIMEOUT, User, id, refused};

/// A job that a deletion enqueued.
#[derive(Debug, FromRow)]
struct Job {
    account_id: Uuid,
    queue: String,
    state: String,
    payload: Vec<u8>,
}

async fn jobs(cluster: &Cluster) -> Result<Vec<Job>> {
    let query = "select account_id, queue, state, payload from jobs where kind = 'delete-generations'
                  order by id";
    Ok(sqlx::query_as(query).fetch_all(&cluster.pool).await?)
}

/// Deletes a project or a scene, whichever has this name.
async fn delete(user: &User, name: &str) -> Answer<()> {
    if name.contains("/scenes/") { user.delete_scene(name, "").await } else { user.delete_project(name, "").await }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_commits_a_job_that_names_what_was_deleted() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (user, other) = (cluster.account().await?, cluster.account().await?);
    let project = user.project("P").await?;
    let scene = user.scene(&project.name, "S").await?;
    for refusal in [
        user.delete_scene(&scene.name, "v9").await,
        user.delete_project(&project.name, "v9").await,
        other.delete_scene(&scene.name, "").await,
        other.delete_project(&project.name, "").await,
    ] {
        refusal.expect_err("another version, or another account");
        assert!(jobs(&cluster).await?.is_empty(), "a refused deletion leaves no job");
    }
    for name in [&scene.name, &project.name] {
        delete(&user, name).await?;
        let job = jobs(&cluster).await?.pop().context("a job")?;
        assert_eq!((job.account_id, job.queue.as_str(), job.state.as_str()), (user.id, "", "queued"), "{name}");
        assert_eq!(String::from_utf8(job.payload)?, *name);
    }
    refused(user.delete_scene(&scene.name, "").await, Code::NotFound, "SCENE_NOT_FOUND");
    refused(user.delete_project(&project.name, "").await, Code::NotFound, "PROJECT_NOT_FOUND");
    assert_eq!(jobs(&cluster).await?.len(), 2, "a second deletion leaves no second job");

    // Somebody restores the project by hand, and its owner deletes it again.
    sqlx::query("update projects set delete_time = null where id = $1")
        .bind(id(&project.name))
        .execute(&cluster.pool)
        .await?;
    user.delete_project(&project.name, "").await?;
    assert_eq!(jobs(&cluster).await?.len(), 3);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_and_its_job_commit_together_or_not_at_all() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let scene = user.scene(&project.name, "S").await?;
    sqlx::raw_sql("alter table jobs rename to hidden").execute(&cluster.pool).await?;
    user.delete_scene(&scene.name, "").await.expect_err("no job can be written");
    user.delete_project(&project.name, "").await.expect_err("no job can be written");
    sqlx::raw_sql("alter table hidden rename to jobs").execute(&cluster.pool).await?;
    assert_eq!(user.get_scene(&scene.name).await?, scene);
    assert_eq!(user.get_project(&project.name).await?.scene_count, 1);
    cluster.stop().await
}

/// Deletes `name` while a start holds its rows, and returns whether the deletion had ended before the start did.
async fn race(cluster: &Cluster, user: &User, scene: &str, name: &str) -> Result<bool> {
    let mut start = cluster.pool.begin().await?;
    // What a start does first, see the invariant of the store's deletion.
    sqlx::query(
        "select from scenes s join projects p on p.account_id = s.account_id and p.id = s.project_id
          where s.account_id = $1 and s.id = $2 and s.delete_time is null and p.delete_time is null
            for key share of s, p",
    )
    .bind(user.id)
    .bind(id(scene))
    .fetch_one(&mut *start)
    .await?;
    let deletion = tokio::spawn({
        let (user, name) = (user.clone(), name.to_owned());
        async move { delete(&user, &name).await }
    });
    let waits = "select pid from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock' and query like '%for update%'";
    let waiting = eventually("the deletion waits for the start", Duration::from_secs(2), async || {
        sqlx::query_scalar::<_, i32>(waits).fetch_optional(&cluster.pool).await.ok().flatten()
    });
    let ended_first = waiting.await.is_err();
    start.commit().await?;
    tokio::time::timeout(TIMEOUT, deletion).await???;
    Ok(ended_first)
}

/// If it did not wait, its job could run before the start has committed, and miss the generation.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_a_start_that_has_checked_the_scene() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let (one, two) = (user.scene(&project.name, "One").await?, user.scene(&project.name, "Two").await?);
    assert!(!race(&cluster, &user, &one.name, &one.name).await?, "the scene's deletion did not wait");
    assert!(!race(&cluster, &user, &two.name, &project.name).await?, "the project's deletion did not wait");
    cluster.stop().await
}
