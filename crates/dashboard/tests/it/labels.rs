//! Labels of projects and scenes: given, changed as a whole, and shown by every read.

use std::collections::HashMap;

use anyhow::Result;
use proto::projects::v1::{CreateProjectRequest, CreateSceneRequest, Project, Scene};
use tonic::Code;
use uuid::Uuid;

use crate::cluster::{Answer, Cluster, User, refused};

type Labels = HashMap<String, String>;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// So many labels, as long as they may be.
fn long(count: usize) -> Labels {
    (0..count).map(|at| (format!("{at:063}"), "é".repeat(200))).collect()
}

async fn project(user: &User, labels: Labels, request_id: &str) -> Answer<Project> {
    let project = Project { title: "P".to_owned(), labels, ..Project::default() };
    let request = CreateProjectRequest { project: Some(project), request_id: request_id.to_owned() };
    user.projects().create_project(user.ask(request)).await.map(tonic::Response::into_inner)
}

async fn scene(user: &User, parent: &str, labels: Labels, request_id: &str) -> Answer<Scene> {
    let scene = Scene { title: "S".to_owned(), labels, ..Scene::default() };
    let request =
        CreateSceneRequest { parent: parent.to_owned(), scene: Some(scene), request_id: request_id.to_owned() };
    user.projects().create_scene(user.ask(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_shown_by_every_read() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.warm_up().await?;
    let user = cluster.account().await?;
    let (reel, cut) = (labels(&[("reel", "7"), ("act", "")]), labels(&[("cut", "b")]));
    let made = project(&user, reel.clone(), "").await?;
    assert_eq!(made.labels, reel);
    let shot = scene(&user, &made.name, cut.clone(), "").await?;
    let plain = user.scene(&made.name, "plain").await?;
    assert_eq!((&shot.labels, plain.labels.len()), (&cut, 0));
    assert_eq!(user.get_project(&made.name).await?.labels, reel);
    assert_eq!(user.list_projects(0, "").await?.projects[0].labels, reel);
    assert_eq!(user.get_scene(&shot.name).await?, shot);
    let listed = user.list_scenes(&made.name, 0, "").await?.scenes;
    assert_eq!((&listed[0].labels, listed[1].labels.len()), (&cut, 0));
    let shown = user.dashboard().await?;
    let card = &shown.projects[0];
    assert_eq!((&card.labels, card.labels_omitted), (&reel, false));
    assert_eq!((&card.scenes[0].labels, card.scenes[0].labels_omitted), (&cut, false));
    assert_eq!((card.scenes[1].labels.len(), card.scenes[1].labels_omitted), (0, false));

    // A change shows at once, and is one of the user's own fields.
    let change = Scene { name: plain.name.clone(), labels: cut.clone(), ..Scene::default() };
    let changed = user.update_scene(change, None).await?;
    assert_eq!((&changed.labels, changed.title.as_str()), (&cut, "plain"));
    assert_ne!(changed.etag, plain.etag);
    let after = user.dashboard().await?;
    assert!(after.version > shown.version);
    assert_eq!(after.projects[0].scenes[1].labels, cut);
    assert_eq!(after, user.dashboard_page(19, "").await?, "cached or not, it is the same");
    let moved = user.reorder_scenes(&made.name, &[&plain.name, &shot.name]).await?;
    assert!(moved.iter().all(|scene| scene.labels.is_empty()), "those of five hundred are more than one message");
    assert_eq!(user.get_scene(&shot.name).await?.labels, cut, "and it changes none");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_replaces_labels_as_a_whole() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let (one, two, none) = (labels(&[("a", "1"), ("b", "2")]), labels(&[("c", "3")]), Labels::new());
    let project = project(&user, one.clone(), "").await?;
    let scene = scene(&user, &project.name, one.clone(), "").await?;
    // What is sent with the title "T", its mask, and the labels afterwards.
    for (sent, paths, after) in [
        (&two, Some(&["title"][..]), &one),
        (&none, None, &one),
        (&two, None, &two),
        (&one, Some(&["labels"]), &one),
        (&none, Some(&["labels"]), &none),
        (&one, Some(&["*"]), &one),
        (&none, Some(&["*"]), &none),
    ] {
        let (title, labels) = ("T".to_owned(), sent.clone());
        let name = project.name.clone();
        let changed = Project { name, title: title.clone(), labels: labels.clone(), ..Project::default() };
        assert_eq!(user.update_project(changed, paths).await?.labels, *after, "{sent:?} {paths:?}");
        assert_eq!(user.get_project(&project.name).await?.labels, *after, "{sent:?} {paths:?}");
        let changed = Scene { name: scene.name.clone(), title, labels, ..Scene::default() };
        assert_eq!(user.update_scene(changed, paths).await?.labels, *after, "{sent:?} {paths:?}");
    }
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_belong_to_the_body_of_a_create() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let (one, other) = (labels(&[("a", "1")]), labels(&[("a", "2")]));
    let [plain, labelled, of_scene] = [0; 3].map(|_| Uuid::now_v7().to_string());
    let made = project(&user, one.clone(), &labelled).await?;
    assert_eq!(project(&user, one.clone(), &labelled).await?, made);
    let shot = scene(&user, &made.name, one.clone(), &of_scene).await?;
    assert_eq!(scene(&user, &made.name, one.clone(), &of_scene).await?, shot);
    for labels in [other, Labels::new()] {
        refused(project(&user, labels.clone(), &labelled).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
        refused(scene(&user, &made.name, labels, &of_scene).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
    }
    project(&user, Labels::new(), &plain).await?;
    refused(project(&user, one, &plain).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_labels_are_named_and_nothing_is_stored() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let made = user.project("Kept").await?;
    let shot = user.scene(&made.name, "Kept").await?;
    let state = cluster.state().await?;
    for wrong in [labels(&[("Cut", "b")]), labels(&[("cut", "two\nlines")]), labels(&[("", "b")]), long(33)] {
        let answers = [
            project(&user, wrong.clone(), "").await.map(drop),
            user.update_project(Project { labels: wrong.clone(), ..made.clone() }, Some(&["labels"])).await.map(drop),
        ];
        for answer in answers {
            assert_eq!(refused(answer, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION"), ["project.labels"]);
        }
        let answers = [
            scene(&user, &made.name, wrong.clone(), "").await.map(drop),
            user.update_scene(Scene { labels: wrong.clone(), ..shot.clone() }, None).await.map(drop),
        ];
        for answer in answers {
            assert_eq!(refused(answer, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION"), ["scene.labels"]);
        }
    }
    assert_eq!(cluster.state().await?, state);
    cluster.stop().await
}

/// A dashboard with the most that labels may be on every card would be more than a client takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_card_leaves_out_labels_that_are_more_than_it_takes() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let longest = long(32);
    let made = project(&user, longest.clone(), "").await?;
    let shot = scene(&user, &made.name, longest.clone(), "").await?;
    let fitting = labels(&[("note", &"x".repeat(200))]);
    scene(&user, &made.name, fitting.clone(), "").await?;
    let shown = user.dashboard().await?;
    let card = &shown.projects[0];
    assert_eq!((card.labels.len(), card.labels_omitted), (0, true));
    assert_eq!((card.scenes[0].labels.len(), card.scenes[0].labels_omitted), (0, true));
    assert_eq!((&card.scenes[1].labels, card.scenes[1].labels_omitted), (&fitting, false));
    assert_eq!(
        (user.get_project(&made.name).await?.labels, user.get_scene(&shot.name).await?.labels),
        (longest.clone(), longest)
    );
    cluster.stop().await
}
