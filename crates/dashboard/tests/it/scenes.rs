//! Scenes: create, read, change, list, delete and reorder.

use std::collections::BTreeSet;

use anyhow::Result;
use proto::projects::v1::{Project, Scene};
use tonic::Code;
use uuid::Uuid;

use crate::cluster::{Cluster, User, id, refused};

async fn order(user: &User, project: &Project) -> Result<Vec<String>> {
    let page = user.list_scenes(&project.name, 100, "").await?;
    assert!(page.next_page_token.is_empty());
    Ok(page.scenes.into_iter().map(|scene| scene.title).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scene_lives_from_create_to_delete() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let made = user.scene(&project.name, "One").await?;
    assert!(made.name.starts_with(&format!("{}/scenes/", project.name)));
    assert_eq!((made.position, made.latest_generation.as_str()), (0, ""));
    assert_eq!(user.get_scene(&made.name).await?, made);
    let second = user.scene(&project.name, "Two").await?;
    assert_eq!(second.position, 1);
    assert_eq!(user.get_project(&project.name).await?.scene_count, 2);

    let change = Scene { script: "A gull over the pier".into(), ..made.clone() };
    let changed = user.update_scene(change.clone(), Some(&["script"])).await?;
    assert_eq!((changed.title.as_str(), changed.script.as_str()), ("One", "A gull over the pier"));
    refused(user.update_scene(change, Some(&["script"])).await, Code::Aborted, "ETAG_MISMATCH");
    refused(user.delete_scene(&made.name, &made.etag).await, Code::Aborted, "ETAG_MISMATCH");

    user.delete_scene(&made.name, &changed.etag).await?;
    refused(user.get_scene(&made.name).await, Code::NotFound, "SCENE_NOT_FOUND");
    refused(user.delete_scene(&made.name, "").await, Code::NotFound, "SCENE_NOT_FOUND");
    assert_eq!(user.get_project(&project.name).await?.scene_count, 1);
    assert_eq!(user.scene(&project.name, "Three").await?.position, 2);
    assert_eq!(order(&user, &project).await?, ["Two", "Three"]);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_without_a_mask_changes_the_filled_fields_only() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let made = user.scene(&project.name, "One").await?;
    let write = |title: &str, script: &str| Scene {
        name: made.name.clone(),
        title: title.into(),
        script: script.into(),
        ..Scene::default()
    };
    for (sent, paths, title, script) in [
        (write("", "A gull"), None, "One", "A gull"),
        (write("Two", ""), None, "Two", "A gull"),
        (write("Two", ""), Some(&["script"][..]), "Two", ""),
        (write("Three", "A pier"), Some(&[]), "Three", "A pier"),
    ] {
        let changed = user.update_scene(sent, paths).await?;
        assert_eq!((changed.title.as_str(), changed.script.as_str()), (title, script), "{paths:?}");
    }
    let state = cluster.state().await?;
    let nothing = user.update_scene(write("", ""), None).await;
    assert_eq!(refused(nothing, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION"), ["update_mask"]);
    assert_eq!(cluster.state().await?, state, "an update of nothing raises no version");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_does_not_change_the_etag() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let seen = user.scene(&project.name, "One").await?;
    let generation = Uuid::now_v7();
    sqlx::query("update scenes set latest_generation = $2, latest_version = 4, latest_state = 3 where id = $1")
        .bind(id(&seen.name))
        .bind(generation)
        .execute(&cluster.pool)
        .await?;
    let now = user.get_scene(&seen.name).await?;
    assert_eq!(now.latest_generation, format!("generations/{generation}"));
    assert_eq!(now.etag, seen.etag);
    user.update_scene(Scene { title: "Two".into(), ..seen }, Some(&["title"])).await?;
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_returns_the_first_scene() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let (project, other) = (user.project("P").await?, user.project("Q").await?);
    let request = Uuid::now_v7().to_string();
    let at_once = (0..8).map(|_| user.create_scene(&project.name, "Once", &request));
    let made = futures::future::try_join_all(at_once).await?;
    assert_eq!(made.iter().map(|scene| scene.name.as_str()).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(user.get_project(&project.name).await?.scene_count, 1, "counted once");
    for (parent, title) in [(&project, "Twice"), (&other, "Once")] {
        let again = user.create_scene(&parent.name, title, &request).await;
        refused(again, Code::AlreadyExists, "REQUEST_ID_REUSED");
    }
    assert_eq!(user.get_project(&other.name).await?.scene_count, 0);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_creates_get_consecutive_positions() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let made = futures::future::try_join_all((0..12).map(|_| user.create_scene(&project.name, "S", ""))).await?;
    let positions: BTreeSet<i32> = made.iter().map(|scene| scene.position).collect();
    assert_eq!(positions, (0..12).collect());
    assert_eq!(user.get_project(&project.name).await?.scene_count, 12);
    let names: Vec<&str> = made.iter().map(|scene| scene.name.as_str()).collect();
    futures::future::try_join_all(names.iter().take(6).map(|name| user.delete_scene(name, ""))).await?;
    assert_eq!(user.get_project(&project.name).await?.scene_count, 6);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_the_order_of_positions() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    // Scenes that share a position, which never should be, still have one order.
    sqlx::query(
        "insert into scenes (id, account_id, project_id, title, position)
         select gen_random_uuid(), $1, $2, 'S', i / 3 from generate_series(0, 99) i",
    )
    .bind(user.id)
    .bind(id(&project.name))
    .execute(&cluster.pool)
    .await?;
    for size in [0, 1, 7, 100] {
        let (mut walked, mut token) = (Vec::new(), String::new());
        loop {
            let page = user.list_scenes(&project.name, size, &token).await?;
            walked.extend(page.scenes.into_iter().map(|scene| (scene.position, scene.name)));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(walked.len(), 100, "pages of {size}");
        assert!(walked.is_sorted() && walked.iter().collect::<BTreeSet<_>>().len() == 100, "pages of {size}");
    }
    let other = user.project("Q").await?;
    assert!(user.list_scenes(&other.name, 0, "").await?.scenes.is_empty());
    let token = user.list_scenes(&project.name, 3, "").await?.next_page_token;
    refused(user.list_scenes(&other.name, 3, &token).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorder_names_each_scene_once() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let (project, other) = (user.project("P").await?, user.project("Q").await?);
    let mut scenes = Vec::new();
    for title in ["A", "B", "C", "D"] {
        scenes.push(user.scene(&project.name, title).await?);
    }
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| scenes[at].name.as_str());
    let stranger = user.scene(&other.name, "X").await?;

    let scripted = Scene { name: a.to_owned(), script: "At dawn.".to_owned(), ..Scene::default() };
    user.update_scene(scripted, Some(&["script"])).await?;
    let moved = user.reorder_scenes(&project.name, &[d, b, a, c]).await?;
    let shown: Vec<_> = moved.iter().map(|scene| (scene.title.as_str(), scene.position)).collect();
    assert_eq!(shown, [("D", 0), ("B", 1), ("A", 2), ("C", 3)]);
    assert_eq!(order(&user, &project).await?, ["D", "B", "A", "C"]);
    assert!(moved.iter().all(|scene| scene.script.is_empty()), "five hundred scripts are more than one message");
    assert_eq!(moved[1].etag, scenes[1].etag, "it stayed where it was");
    assert_ne!(moved[0].etag, scenes[3].etag, "it was moved");
    assert_eq!(
        user.dashboard().await?.projects[1].scenes.iter().map(|s| s.title.as_str()).collect::<Vec<_>>(),
        ["D", "B", "A", "C"]
    );

    let state = cluster.state().await?;
    let unknown = format!("{}/scenes/{}", project.name, Uuid::now_v7());
    for (names, field) in [
        (vec![a, b, c], "scenes"),
        (vec![], "scenes"),
        (vec![a, b, c, d, &unknown], "scenes"),
        (vec![a, b, c, &unknown], "scenes"),
        (vec![a, b, c, c], "scenes[3]"),
        (vec![a, b, c, &stranger.name], "scenes[3]"),
        (vec![a, b, c, "D"], "scenes[3]"),
    ] {
        let refusal = user.reorder_scenes(&project.name, &names).await;
        assert_eq!(refused(refusal, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION"), [field], "{names:?}");
    }
    assert_eq!(cluster.state().await?, state, "a refusal changes nothing");
    user.delete_scene(b, "").await?;
    assert_eq!(user.reorder_scenes(&project.name, &[a, c, d]).await?.len(), 3);
    let empty = user.project("E").await?;
    assert!(user.reorder_scenes(&empty.name, &[]).await?.is_empty());
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_reorders_leave_one_of_their_orders() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let made = futures::future::try_join_all((0..10).map(|_| user.create_scene(&project.name, "S", ""))).await?;
    let names: Vec<&str> = made.iter().map(|scene| scene.name.as_str()).collect();
    let orders: Vec<Vec<&str>> = (0..10).map(|by| [&names[by..], &names[..by]].concat()).collect();
    futures::future::try_join_all(orders.iter().map(|order| user.reorder_scenes(&project.name, order))).await?;
    let listed = user.list_scenes(&project.name, 100, "").await?.scenes;
    let left: Vec<&str> = listed.iter().map(|scene| scene.name.as_str()).collect();
    assert!(orders.contains(&left), "{left:?}");
    assert_eq!(listed.iter().map(|scene| scene.position).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_has_up_to_five_hundred_scenes() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    sqlx::query("update projects set scene_count = 499 where id = $1")
        .bind(id(&project.name))
        .execute(&cluster.pool)
        .await?;
    let request = Uuid::now_v7().to_string();
    let last = user.create_scene(&project.name, "500", &request).await?;
    refused(user.create_scene(&project.name, "501", "").await, Code::FailedPrecondition, "PROJECT_FULL");
    assert_eq!(user.create_scene(&project.name, "500", &request).await?, last, "a repetition is no new scene");
    cluster.stop().await
}
