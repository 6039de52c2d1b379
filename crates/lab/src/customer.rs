//! A customer: an account with credits that orders through the gateways, with one request id for each order.
//!
//! Invariant: a request whose answer did not come is sent again under its id, so what the customer has ordered is known.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{UploadAssetRequest, UploadMetadata};
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::media::Role;
use proto::generations::v1::resolve_generation_request::Resolution;
use proto::generations::v1::{
    BatchGetGenerationsRequest, CancelGenerationRequest, Generation, Input, Media, ResolveGenerationRequest, Settings,
    StartGenerationRequest,
};
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{CreateProjectRequest, CreateSceneRequest, Project, Scene};
use proto::webhooks::v1::webhook_service_client::WebhookServiceClient;
use proto::webhooks::v1::{CreateEndpointRequest, Endpoint};
use provider_double::picture;
use testkit::Doors;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::calls::{CALL, TIMEOUT, timed, until_answered};
use crate::cluster::Cluster;

/// What is asked for beside a prompt.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) still: Still,
    /// How many videos; 0: it is not said.
    pub(crate) outputs: i32,
}

/// The picture that a video begins with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Still {
    #[default]
    None,
    /// One that goes into the provider's input.
    Small,
    /// One that has to be uploaded to the provider.
    Large,
}

impl Still {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Small, Self::Large];
}

/// One account.
pub(crate) struct Customer {
    pub(crate) account: String,
    key: String,
    scene: String,
    /// A small picture, and one that is larger than goes into an input.
    stills: [String; 2],
    gateways: Vec<Channel>,
    status: Doors,
    calls: AtomicUsize,
}

/// Uploads a picture, again where nobody answers; gives its name.
async fn upload(gateway: &Channel, key: &str, bytes: Vec<u8>) -> Result<String> {
    let metadata = UploadMetadata { file_name: "still.png".to_owned(), size_bytes: i64::try_from(bytes.len())? };
    let chunks = bytes.chunks(256 << 10).map(|chunk| Part::Chunk(chunk.to_vec().into())).collect::<Vec<_>>();
    let parts = std::iter::once(Part::Metadata(metadata)).chain(chunks);
    let parts = parts.map(|part| UploadAssetRequest { part: Some(part) }).collect::<Vec<_>>();
    let call = async || {
        let mut request = with(key, futures::stream::iter(parts.clone()));
        request.set_timeout(TIMEOUT);
        AssetServiceClient::new(gateway.clone()).upload_asset(request).await
    };
    Ok(until_answered("an upload", call).await?.into_inner().name)
}

impl Customer {
    pub(crate) async fn new(cluster: &Cluster, replicas: usize) -> Result<Self> {
        let gateways = (0..replicas).map(|replica| cluster.channel(replica, "gateway")).collect::<Result<Vec<_>>>()?;
        let (account, key) = cluster.account("A customer".into(), 1_000_000_000_000).await?;
        let status = cluster.doors(0, "generation-status");
        let client = || ProjectServiceClient::new(gateways[0].clone());
        let project = Project { title: "a project".into(), ..Project::default() };
        let request = CreateProjectRequest { project: Some(project), request_id: Uuid::now_v7().to_string() };
        let call = async || client().create_project(with(&key, request.clone())).await;
        let parent = until_answered("a project", call).await?.into_inner().name;
        let scene = Scene { title: "a scene".into(), ..Scene::default() };
        let request = CreateSceneRequest { parent, scene: Some(scene), request_id: Uuid::now_v7().to_string() };
        let call = async || client().create_scene(with(&key, request.clone())).await;
        let scene = until_answered("a scene", call).await?.into_inner().name;
        let small = Box::pin(upload(&gateways[0], &key, picture("small", 64))).await?;
        let large = Box::pin(upload(&gateways[0], &key, picture("large", 700))).await?;
        Ok(Self { account, key, scene, stills: [small, large], gateways, status, calls: AtomicUsize::new(0) })
    }

    /// Its API key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    fn client(&self) -> GenerationServiceClient<Channel> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        GenerationServiceClient::new(self.gateways[number % self.gateways.len()].clone())
    }

    /// Calls until there is an answer that is one.
    async fn until<T>(&self, what: &str, mut call: impl AsyncFnMut(&Self) -> Result<T, Status>) -> Result<T> {
        let bounded = async || match tokio::time::timeout(CALL, call(self)).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded("no answer")),
        };
        until_answered(what, bounded).await
    }

    /// Subscribes to what begins to be made and to every end; gives the secret that webhooks are signed with.
    pub(crate) async fn listen(&self, url: &str) -> Result<String> {
        let event_types = ["queued", "processing", "completed", "failed", "cancelled", "expired"];
        let event_types = event_types.map(|state| format!("generation.{state}")).to_vec();
        let endpoint = Endpoint { url: url.to_owned(), event_types, ..Endpoint::default() };
        let request = CreateEndpointRequest { endpoint: Some(endpoint), request_id: Uuid::now_v7().to_string() };
        let call = async |me: &Self| {
            WebhookServiceClient::new(me.gateways[0].clone()).create_endpoint(with(&me.key, request.clone())).await
        };
        Ok(self.until("an endpoint", call).await?.into_inner().secret)
    }

    /// Has videos made.
    pub(crate) async fn start(&self, model: &str, prompt: &str, ask: Ask) -> Result<String> {
        let still = match ask.still {
            Still::None => None,
            Still::Small => Some(&self.stills[0]),
            Still::Large => Some(&self.stills[1]),
        };
        let media = still.map(|asset| Media { role: Role::FirstFrame.into(), asset: asset.clone() });
        let outputs = Some(ask.outputs).filter(|outputs| *outputs > 0);
        let input = Input {
            prompt: prompt.to_owned(),
            media: media.into_iter().collect(),
            settings: outputs.map(|outputs| Settings { outputs: Some(outputs), ..Settings::default() }),
            ..Input::default()
        };
        let request = StartGenerationRequest {
            scene: self.scene.clone(),
            model: model.to_owned(),
            input: Some(input),
            request_id: Uuid::now_v7().to_string(),
            ..StartGenerationRequest::default()
        };
        let call = async |me: &Self| me.client().start_generation(with(&me.key, request.clone())).await;
        Ok(self.until("a start", call).await?.into_inner().name)
    }

    /// Has one stopped.
    pub(crate) async fn cancel(&self, name: &str) -> Result<()> {
        let request = CancelGenerationRequest { name: name.to_owned() };
        let call = async |me: &Self| me.client().cancel_generation(with(&me.key, request.clone())).await;
        self.until("a cancel", call).await.map(drop)
    }

    /// How generations stand, as the gateway says.
    pub(crate) async fn get(&self, names: &[String]) -> Result<Vec<Generation>> {
        let mut all = Vec::with_capacity(names.len());
        for names in names.chunks(100) {
            let request = BatchGetGenerationsRequest { names: names.to_vec() };
            let call = async |me: &Self| me.client().batch_get_generations(with(&me.key, request.clone())).await;
            all.extend(self.until("a read", call).await?.into_inner().generations);
        }
        Ok(all)
    }

    /// Settles an unconfirmed one as an operator does.
    pub(crate) async fn resolve(&self, name: &str, resolution: Resolution) -> Result<()> {
        let request = ResolveGenerationRequest {
            account: self.account.clone(),
            name: name.to_owned(),
            note: "the crash-point run: looked up on the provider's bill".to_owned(),
            resolution: Some(resolution),
        };
        let call = async |me: &Self| {
            match GenerationServiceClient::new(me.status.clone()).resolve_generation(timed(request.clone())).await {
                // The first try was committed and not answered.
                Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
                answer => answer.map(drop),
            }
        };
        self.until("a resolution", call).await.context("resolving")
    }
}

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = timed(message);
    if let Ok(value) = format!("Bearer {key}").parse() {
        request.metadata_mut().insert("authorization", value);
    }
    request
}
