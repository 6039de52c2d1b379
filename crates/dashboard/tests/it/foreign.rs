//! Another account's things: no method of the service finds, shows or changes them.
//!
//! The methods come from the descriptor set, so one that is added without a case here fails this test.

use anyhow::Result;
use proto::accounts::v1::{CreateApiKeyRequest, RevokeApiKeyRequest, UpdateApiKeyRequest};
use proto::projects::v1::{Project, Scene};
use tonic::Code;

use crate::cluster::{Answer, Cluster, User, id, refused};

/// What the owner has.
struct Owned {
    user: User,
    project: Project,
    scene: Scene,
    notice: String,
    key: String,
    request_id: String,
    next_page: String,
    next_scenes: String,
    next_dashboard: String,
    next_keys: String,
}

async fn owned(cluster: &Cluster) -> Result<Owned> {
    let user = cluster.account().await?;
    let request_id = "0198f2a4-0000-7000-8000-000000000001".to_owned();
    let project = user.create_project("Owner's", &request_id).await?;
    let scene = user.scene(&project.name, "Owner's").await?;
    user.scene(&project.name, "Owner's").await?;
    user.project("Owner's").await?;
    let key = CreateApiKeyRequest { parent: format!("accounts/{}", user.id), ..CreateApiKeyRequest::default() };
    cluster.accounts().create_api_key(key.clone()).await?;
    let key = cluster.accounts().create_api_key(key).await?.into_inner().api_key.map(|key| key.name);
    Ok(Owned {
        notice: user.dashboard().await?.notices[0].name.clone(),
        next_page: user.list_projects(1, "").await?.next_page_token,
        next_scenes: user.list_scenes(&project.name, 1, "").await?.next_page_token,
        next_dashboard: user.dashboard_page(1, "").await?.next_page_token,
        next_keys: user.own_account(1, "").await?.next_page_token,
        key: key.unwrap_or_default(),
        project,
        scene,
        request_id,
        user,
    })
}

fn assert_hides<T: std::fmt::Debug>(what: &T) {
    assert!(!format!("{what:?}").contains("Owner's"), "{what:?}");
}

/// Calls one method as an intruder with what the owner has.
async fn intrude(cluster: &Cluster, method: &str, owned: &Owned, intruder: &User) -> Result<()> {
    let Owned { project, scene, .. } = owned;
    let no_project = |answer: Answer<()>| drop(refused(answer, Code::NotFound, "PROJECT_NOT_FOUND"));
    let no_scene = |answer: Answer<()>| drop(refused(answer, Code::NotFound, "SCENE_NOT_FOUND"));
    match method {
        "GetProject" => no_project(intruder.get_project(&project.name).await.map(drop)),
        "UpdateProject" => no_project(intruder.update_project(project.clone(), None).await.map(drop)),
        "DeleteProject" => no_project(intruder.delete_project(&project.name, "").await),
        "CreateScene" => no_project(intruder.create_scene(&project.name, "S", "").await.map(drop)),
        "ListScenes" => {
            no_project(intruder.list_scenes(&project.name, 0, "").await.map(drop));
            let stolen = intruder.list_scenes(&project.name, 1, &owned.next_scenes).await;
            refused(stolen, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        }
        "ReorderScenes" => no_project(intruder.reorder_scenes(&project.name, &[&scene.name]).await.map(drop)),
        "GetScene" => no_scene(intruder.get_scene(&scene.name).await.map(drop)),
        "UpdateScene" => no_scene(intruder.update_scene(scene.clone(), None).await.map(drop)),
        "DeleteScene" => no_scene(intruder.delete_scene(&scene.name, "").await),
        // These name nothing that could be another's, so they must not show or meet what is.
        "CreateProject" => assert_hides(&intruder.create_project("Mine", &owned.request_id).await?),
        "ListProjects" => {
            assert_hides(&intruder.list_projects(100, "").await?);
            let stolen = intruder.list_projects(1, &owned.next_page).await;
            refused(stolen, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        }
        "GetDashboard" => {
            owned.user.dashboard().await?;
            assert_hides(&intruder.dashboard().await?);
            assert_hides(&intruder.dashboard_page(50, "").await?);
            let stolen = intruder.dashboard_page(1, &owned.next_dashboard).await;
            refused(stolen, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        }
        "WatchDashboard" => {
            let mut shown = owned.user.watch("").await?;
            let token = shown.message().await?.unwrap_or_default().resume_token;
            assert_hides(&intruder.watch("").await?.message().await?);
            refused(intruder.watch(&token).await, Code::OutOfRange, "RESUME_TOKEN_EXPIRED");
        }
        "AcknowledgeNotices" => {
            drop(refused(intruder.acknowledge(&[&owned.notice]).await, Code::NotFound, "NOTICE_NOT_FOUND"));
        }
        // An internal method: an operator names the account, and a key is found under its own account only.
        "RevokeApiKey" => {
            let name = format!("accounts/{}/apiKeys/{}", intruder.id, id(&owned.key));
            let answer = cluster.accounts().revoke_api_key(RevokeApiKeyRequest { name }).await;
            refused(answer, Code::NotFound, "API_KEY_NOT_FOUND");
        }
        "UpdateApiKey" => {
            let name = format!("accounts/{}/apiKeys/{}", intruder.id, id(&owned.key));
            let request = UpdateApiKeyRequest { name, allowed_networks: vec![] };
            refused(cluster.accounts().update_api_key(request).await, Code::NotFound, "API_KEY_NOT_FOUND");
        }
        "GetOwnAccount" => {
            let own = intruder.own_account(1, "").await?;
            assert_eq!(own.account.map(|of| of.name), Some(format!("accounts/{}", intruder.id)));
            assert_eq!(own.api_keys, []);
            let stolen = intruder.own_account(1, &owned.next_keys).await;
            refused(stolen, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        }
        // Operators' methods reach across accounts by their scope, which the gateway demands.
        "GetAccount" | "SuspendAccount" | "ReactivateAccount" | "SetAccountLimits" | "EraseAccount"
        | "ListAuditEntries" => {
            let path = proto::METHODS.iter().find(|of| of.path.ends_with(&format!("/{method}")));
            assert_eq!(path.and_then(|of| of.scope), Some(proto::Scope::Operate), "{method}");
        }
        // They have no caller, and name no thing that has an owner: a key's hash is what proves whose it is.
        "CreateAccount" | "CreateApiKey" | "AuthenticateApiKey" => {}
        other => panic!("{other} has no case for another account's things; write one"),
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_method_reaches_the_things_of_another_account() -> Result<()> {
    let cluster = Cluster::start().await?;
    let owned = owned(&cluster).await?;
    let intruder = cluster.account().await?;
    let owners = async || -> Result<String> {
        let state = cluster.state().await?;
        // The intruder's own rows may change.
        let rows = state.lines().filter(|row| row.contains(&owned.user.id.to_string())).collect::<Vec<_>>();
        Ok(rows.join("\n"))
    };
    let before = owners().await?;
    assert!(before.contains("Owner's"));
    let methods: Vec<_> = proto::METHODS.iter().filter(|method| method.upstream == "dashboard").collect();
    assert!(methods.len() >= 17, "{}", methods.len());
    for method in methods {
        let name = method.path.rsplit('/').next().unwrap_or_default();
        intrude(&cluster, name, &owned, &intruder).await?;
        assert_eq!(owners().await?, before, "after {name}");
    }
    cluster.stop().await
}
