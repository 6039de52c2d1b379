//! Wrong requests about projects, scenes and pages: every wrong field is named at once, and nothing is stored.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use chassis::keyring::InternalKeys;
use proto::projects::v1::{CreateProjectRequest, CreateSceneRequest, Project, Scene};
use testkit::INTERNAL_KEYS;
use tonic::Code;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::uri::PathAndQuery;
use uuid::Uuid;

use crate::cluster::{Cluster, refused};

const WRONG: &str = "INPUT_SCHEMA_VIOLATION";

#[tokio::test(flavor = "multi_thread")]
async fn requests_about_projects_name_every_wrong_field() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let kept = user.project("Kept").await?;
    let state = cluster.state().await?;
    let write = |title: &str, description: &str| Project {
        title: title.to_owned(),
        description: description.to_owned(),
        ..Project::default()
    };
    let long = "x".repeat(2_001);
    for (project, request_id, wrong) in [
        (None, "", vec!["project.title"]),
        (Some(write("", "")), "", vec!["project.title"]),
        (Some(write(" \t ", "")), "", vec!["project.title"]),
        (Some(write("two\nlines", "")), "", vec!["project.title"]),
        (Some(write("two\u{2028}lines", "")), "", vec!["project.title"]),
        (Some(write("\u{202e}4pm.tohs", "")), "", vec!["project.title"]),
        (Some(write("\u{200b}\u{feff}\u{2800}", "")), "", vec!["project.title"]),
        (Some(write(&"é".repeat(201), "")), "", vec!["project.title"]),
        (Some(write("T", "a\0b")), "", vec!["project.description"]),
        (Some(write("T", "")), "7", vec!["request_id"]),
        (Some(write("T", "")), "00000000-0000-0000-0000-000000000000", vec!["request_id"]),
        (Some(write("", &long)), "x", vec!["project.title", "project.description", "request_id"]),
    ] {
        let request = CreateProjectRequest { project, request_id: request_id.to_owned() };
        let answer = user.projects().create_project(user.ask(request)).await;
        assert_eq!(refused(answer, Code::InvalidArgument, WRONG), wrong);
    }
    for name in ["", "projects/", "projects/1", &kept.name.to_uppercase(), &format!("{}/", kept.name)] {
        assert_eq!(refused(user.get_project(name).await, Code::InvalidArgument, WRONG), ["name"], "{name}");
        assert_eq!(refused(user.delete_project(name, "").await, Code::InvalidArgument, WRONG), ["name"], "{name}");
    }
    let bad = Project { name: "x".into(), description: long, ..kept };
    for (paths, wrong) in [
        (Some(&["title", "scene_count"][..]), vec!["project.name", "update_mask.paths[1]"]),
        (None, vec!["project.name", "project.description"]),
        (Some(&["Title"]), vec!["project.name", "update_mask.paths[0]"]),
        (Some(&["*", "title"]), vec!["project.name", "update_mask.paths[0]"]),
    ] {
        assert_eq!(refused(user.update_project(bad.clone(), paths).await, Code::InvalidArgument, WRONG), wrong);
    }
    assert_eq!(cluster.state().await?, state);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_about_scenes_name_every_wrong_field() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let kept = user.scene(&project.name, "Kept").await?;
    let state = cluster.state().await?;
    for (parent, scene, request_id, wrong) in [
        ("", None, "?", vec!["parent", "scene.title", "request_id"]),
        (
            project.name.as_str(),
            Some(Scene { title: "T".into(), script: "s".repeat(2_001), ..Scene::default() }),
            "",
            vec!["scene.script"],
        ),
    ] {
        let request = CreateSceneRequest { parent: parent.to_owned(), scene, request_id: request_id.to_owned() };
        let answer = user.projects().create_scene(user.ask(request)).await;
        assert_eq!(refused(answer, Code::InvalidArgument, WRONG), wrong);
    }
    for name in ["", &project.name, "projects/1/scenes/2", &kept.name.replace("scenes", "scene")] {
        assert_eq!(refused(user.get_scene(name).await, Code::InvalidArgument, WRONG), ["name"], "{name}");
        assert_eq!(refused(user.delete_scene(name, "").await, Code::InvalidArgument, WRONG), ["name"], "{name}");
    }
    let bad = Scene { name: "x".into(), title: String::new(), ..kept.clone() };
    let refusal = user.update_scene(bad, Some(&["position", "title"])).await;
    let wrong = ["scene.name", "update_mask.paths[0]", "scene.title"];
    assert_eq!(refused(refusal, Code::InvalidArgument, WRONG), wrong);

    // A scene is its project's: under another name it is not there.
    let other = user.project("Q").await?;
    let elsewhere = kept.name.replace(&project.name, &other.name);
    refused(user.get_scene(&elsewhere).await, Code::NotFound, "SCENE_NOT_FOUND");
    refused(
        user.update_scene(Scene { name: elsewhere.clone(), ..kept }, Some(&["title"])).await,
        Code::NotFound,
        "SCENE_NOT_FOUND",
    );
    refused(user.delete_scene(&elsewhere, "").await, Code::NotFound, "SCENE_NOT_FOUND");
    user.delete_project(&other.name, "").await?;
    let rest = cluster.state().await?;
    assert_eq!(rest.matches("Kept").count(), state.matches("Kept").count());
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn page_sizes_and_tokens_are_checked() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (user, other) = (cluster.account().await?, cluster.account().await?);
    for _ in 0..3 {
        user.project("P").await?;
    }
    let first = user.list_projects(1, "").await?;
    let token = first.next_page_token.as_str();
    let shown = user.dashboard_page(1, "").await?.next_page_token;
    let forged: String = token.chars().map(|char| if char == 'A' { 'B' } else { 'A' }).collect();
    // As tokens were before they had a MAC.
    let unkeyed = "00ff".repeat(14);
    for (size, token, reason, wrong) in [
        (-1, "", WRONG, vec!["page_size"]),
        (0, "token", "PAGE_TOKEN_INVALID", vec!["page_token"]),
        (0, &forged, "PAGE_TOKEN_INVALID", vec!["page_token"]),
        (0, &unkeyed, "PAGE_TOKEN_INVALID", vec!["page_token"]),
        (-1, "token", WRONG, vec!["page_size", "page_token"]),
    ] {
        assert_eq!(refused(user.list_projects(size, token).await, Code::InvalidArgument, reason), wrong);
        assert_eq!(refused(user.dashboard_page(size, token).await, Code::InvalidArgument, reason), wrong);
        let scenes = user.list_scenes(&first.projects[0].name, size, token).await;
        assert_eq!(refused(scenes, Code::InvalidArgument, reason), wrong);
    }
    refused(other.list_projects(1, token).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    refused(user.list_projects(1, &shown).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    refused(user.dashboard_page(1, token).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    assert_eq!(refused(user.list_scenes("x", -1, "").await, Code::InvalidArgument, WRONG), ["parent", "page_size"]);
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_an_account_or_of_an_unknown_one_is_refused() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let nobody = tonic::Request::new(proto::dashboard::v1::GetDashboardRequest::default());
    refused(user.dashboards().get_dashboard(nobody).await, Code::Unauthenticated, "KEY_MISSING");
    let unknown = cluster.user(Uuid::now_v7());
    refused(unknown.dashboard().await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    refused(unknown.dashboard_page(3, "").await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    refused(unknown.create_project("T", "").await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    let request = Uuid::now_v7().to_string();
    refused(unknown.create_project("T", &request).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_too_long_is_counted_and_not_read() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    let project = user.project("P").await?;
    let refusal = user.reorder_scenes(&project.name, &[""; 32_000]).await.unwrap_err();
    assert!(refusal.message().contains("at most 500; it holds 32000"), "{refusal:?}");
    assert_eq!(refused::<()>(Err(refusal), Code::InvalidArgument, WRONG), ["scenes"]);
    let names: Vec<_> = (0..500).map(|at| format!("{}/scenes/{at}", project.name)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let wrong = refused(user.reorder_scenes(&project.name, &names).await, Code::InvalidArgument, WRONG);
    assert!((20..=50).contains(&wrong.len()) && wrong[7] == "scenes[7]", "{wrong:?}");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_method_decompresses_more_than_its_row_allows() -> Result<()> {
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    for (path, max) in proto::message_limits("dashboard") {
        // A field that no message has, so many bytes long that only its size can be what is wrong with it.
        let mut message = vec![0x82, 0x7d, 0x80, 0x80, 0x04];
        message.resize(usize::try_from(max)? + 1, 0);
        let mut client = Grpc::new(user.channel()).send_compressed(CompressionEncoding::Gzip);
        client.ready().await?;
        let codec = chassis::encoded::Codec::<()>::default();
        let answer = client.unary(user.ask(Bytes::from(message)), PathAndQuery::from_static(path), codec).await;
        let fields = refused(answer, Code::InvalidArgument, "INPUT_TOO_LARGE");
        assert_eq!(fields, ["request"], "{path}");
    }
    cluster.stop().await
}

/// The keys of the services are changed in steps, in each of which processes with two lists of them serve the same clients.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_clients_hold_while_keys_change_and_no_longer() -> Result<()> {
    const NEW: &str = "new-new-new-new-new-new-new-new-new";
    let cluster = Cluster::start().await?;
    let user = cluster.account().await?;
    user.project("First").await?;
    user.project("Second").await?;
    let with = async |keys: &str| {
        let keys = InternalKeys::parse(keys).context("keys")?;
        cluster.changed_replica(&user, |config| config.internal_keys = keys).await
    };
    let behind = with(&format!("{INTERNAL_KEYS},{NEW}")).await?;
    let before = with(&format!("{NEW},{INTERNAL_KEYS}")).await?;
    for (made, taken) in [(&user, &behind), (&behind, &before), (&before, &behind)] {
        let first = made.list_projects(1, "").await?;
        let second = taken.list_projects(1, &first.next_page_token).await?;
        assert_ne!(second.projects[0].name, first.projects[0].name);
        let token = made.watch("").await?.message().await?.context("an event")?.resume_token;
        taken.watch(&token).await?;
    }
    let page = before.list_projects(1, "").await?.next_page_token;
    refused(user.list_projects(1, &page).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    let resume = before.watch("").await?.message().await?.context("an event")?.resume_token;
    refused(user.watch(&resume).await, Code::OutOfRange, "RESUME_TOKEN_EXPIRED");
    cluster.stop().await
}
