//! Projects: create, read, change, list, delete.

use std::collections::BTreeSet;

use anyhow::Result;
use proto::projects::v1::Project;
use tonic::Code;
use uuid::Uuid;

use crate::cluster::{Cluster, id, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_project_lives_from_create_to_delete() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let made = user.project("Dunes").await?;
    assert!(made.name.starts_with("projects/") && !made.etag.is_empty());
    assert_eq!((made.title.as_str(), made.scene_count, made.completed_cost_micros), ("Dunes", 0, 0));
    assert!(made.create_time.is_some() && made.create_time == made.update_time);
    assert_eq!(user.get_project(&made.name).await?, made);
    assert_eq!(user.list_projects(0, "").await?.projects, std::slice::from_ref(&made));

    let change = Project { name: made.name.clone(), title: "Dune seas".into(), ..made.clone() };
    let changed = user.update_project(change, Some(&["title"])).await?;
    assert_eq!((changed.title.as_str(), changed.description.as_str()), ("Dune seas", ""));
    assert_ne!(changed.etag, made.etag);
    assert_eq!(user.get_project(&made.name).await?, changed);

    let scene = user.scene(&made.name, "One").await?;
    user.delete_project(&made.name, "").await?;
    for refusal in [
        user.get_project(&made.name).await.map(drop),
        user.update_project(changed, Some(&["title"])).await.map(drop),
        user.delete_project(&made.name, "").await,
        user.list_scenes(&made.name, 0, "").await.map(drop),
        user.create_scene(&made.name, "Two", "").await.map(drop),
        user.reorder_scenes(&made.name, &[&scene.name]).await.map(drop),
    ] {
        refused(refusal, Code::NotFound, "PROJECT_NOT_FOUND");
    }
    for refusal in [
        user.get_scene(&scene.name).await.map(drop),
        user.update_scene(scene.clone(), None).await.map(drop),
        user.delete_scene(&scene.name, "").await,
    ] {
        refused(refusal, Code::NotFound, "SCENE_NOT_FOUND");
    }
    assert!(user.list_projects(0, "").await?.projects.is_empty());
    assert!(user.dashboard().await?.projects.is_empty());
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_returns_the_first_project() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (user, other) = (cluster.account().await?, cluster.account().await?);
    let request = Uuid::now_v7().to_string();

    let at_once = (0..8).map(|_| user.create_project("Once", &request));
    let made = futures::future::try_join_all(at_once).await?;
    let names: BTreeSet<_> = made.iter().map(|project| project.name.as_str()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let again = user.create_project("Once", &request.to_uppercase()).await?;
    assert_eq!(again, made[0], "a UUID is one however it is spelt");

    refused(user.create_project("Twice", &request).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
    assert_eq!(user.list_projects(0, "").await?.projects, made[..1]);
    let others = other.create_project("Twice", &request).await?;
    assert_ne!(others.name, made[0].name, "a request id is its account's");

    user.delete_project(&made[0].name, "").await?;
    assert_eq!(
        user.create_project("Once", &request).await?.name,
        made[0].name,
        "the request made this project, though it was deleted"
    );
    assert!(user.list_projects(0, "").await?.projects.is_empty());
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etag_guards_what_the_user_wrote_and_nothing_else() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let seen = user.project("One").await?;
    // What generation-status writes beside the user's own fields.
    sqlx::query("update projects set completed_count = 3, completed_cost_micros = 150000 where id = $1")
        .bind(id(&seen.name))
        .execute(&cluster.pool)
        .await?;
    let scene = user.scene(&seen.name, "A scene counts, and is no change of the project's own").await?;
    let first = user.update_project(Project { title: "Two".into(), ..seen.clone() }, Some(&["title"])).await?;
    assert_eq!((first.completed_count, first.completed_cost_micros, first.scene_count), (3, 150_000, 1));

    let state = cluster.state().await?;
    for etag in [seen.etag.as_str(), "v0", "nonsense", "v999999999999999999999"] {
        let late = Project { title: "Three".into(), etag: etag.into(), ..seen.clone() };
        refused(user.update_project(late, Some(&["title"])).await, Code::Aborted, "ETAG_MISMATCH");
        refused(user.delete_project(&seen.name, etag).await, Code::Aborted, "ETAG_MISMATCH");
    }
    assert_eq!(cluster.state().await?, state, "a refusal changes nothing");

    user.delete_scene(&scene.name, &scene.etag).await?;
    assert_eq!(user.get_project(&seen.name).await?.etag, first.etag);
    user.delete_project(&seen.name, &first.etag).await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_the_fields_of_its_mask_or_else_the_filled_ones() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let made = user.project("Title").await?;
    let write = |title: &str, description: &str| Project {
        name: made.name.clone(),
        title: title.into(),
        description: description.into(),
        ..Project::default()
    };
    // What the request holds, its mask, and what the project holds afterwards.
    for (sent, paths, title, description) in [
        (("ignored", "D1"), Some(&["description"][..]), "Title", "D1"),
        (("T2", "ignored"), Some(&["title"]), "T2", "D1"),
        (("T3", ""), None, "T3", "D1"),
        (("", "D4"), None, "T3", "D4"),
        (("T5", "D5"), None, "T5", "D5"),
        (("T6", ""), Some(&[]), "T6", "D5"),
        (("T7", ""), Some(&["*"]), "T7", ""),
        (("T8", "D8"), Some(&["title", "description"]), "T8", "D8"),
        (("T9", ""), Some(&["description"]), "T8", ""),
    ] {
        let changed = user.update_project(write(sent.0, sent.1), paths).await?;
        assert_eq!((changed.title.as_str(), changed.description.as_str()), (title, description), "{sent:?} {paths:?}");
        assert_eq!(user.get_project(&made.name).await?, changed, "{sent:?} {paths:?}");
    }
    let state = cluster.state().await?;
    for paths in [None, Some(&[][..])] {
        let nothing = user.update_project(write("", ""), paths).await.expect_err("it changes nothing");
        assert!(
            nothing.message().contains("must name the fields to change (title, description, labels)"),
            "{nothing:?}"
        );
        assert_eq!(refused::<()>(Err(nothing), Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION"), ["update_mask"]);
    }
    assert_eq!(cluster.state().await?, state, "an update of nothing raises no version");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_walk_three_hundred_projects_without_gap_or_repetition() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let mut expected: Vec<Uuid> = (0..300).map(|_| Uuid::now_v7()).collect();
    sqlx::query("insert into projects (id, account_id, title) select unnest($1::uuid[]), $2, 'P'")
        .bind(&expected)
        .bind(user.id)
        .execute(&cluster.pool)
        .await?;
    expected.reverse();
    for size in [0, 7, 100, 1000] {
        let (mut walked, mut token) = (Vec::new(), String::new());
        loop {
            let page = user.list_projects(size, &token).await?;
            assert!(page.projects.len() <= 100);
            walked.extend(page.projects.iter().map(|project| id(&project.name)));
            if size == 7 && walked.len() == 7 {
                user.project("New ones come first, so a walk that is under way does not see them").await?;
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let old: Vec<Uuid> = walked.iter().copied().filter(|id| expected.contains(id)).collect();
        assert_eq!(old, expected, "pages of {size}");
        assert_eq!(walked.iter().collect::<BTreeSet<_>>().len(), walked.len(), "no double");
    }
    cluster.stop().await
}
