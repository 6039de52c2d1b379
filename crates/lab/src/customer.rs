//! A customer: an account with credits that orders through the gateways, with one request id for each order.
//!
//! Invariant: a request whose answer did not come is sent again under its id, so what the customer has ordered is known.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::resolve_generation_request::Resolution;
use proto::generations::v1::{
    BatchGetGenerationsRequest, CancelGenerationRequest, Generation, Input, ResolveGenerationRequest,
    StartGenerationRequest,
};
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{CreateProjectRequest, CreateSceneRequest, Project, Scene};
use proto::webhooks::v1::webhook_service_client::WebhookServiceClient;
use proto::webhooks::v1::{CreateEndpointRequest, Endpoint};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::cluster::Cluster;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(5);
/// How long a request is sent again.
const TIMEOUT: Duration = Duration::from_secs(90);

/// One account.
pub(crate) struct Customer {
    pub(crate) account: String,
    key: String,
    scene: String,
    gateways: Vec<Channel>,
    status: Channel,
    calls: AtomicUsize,
}

impl Customer {
    pub(crate) async fn new(cluster: &Cluster, replicas: usize) -> Result<Self> {
        let gateways = (0..replicas).map(|replica| cluster.channel(replica, "gateway")).collect::<Result<Vec<_>>>()?;
        let (account, key) = cluster.account("A customer".into(), 1_000_000_000_000).await?;
        let status = cluster.channel(0, "generation-status")?;
        let mut client = ProjectServiceClient::new(gateways[0].clone());
        let project = Project { title: "a project".into(), ..Project::default() };
        let request = CreateProjectRequest { project: Some(project), request_id: String::new() };
        let project = client.create_project(with(&key, request)).await?.into_inner().name;
        let scene = Scene { title: "a scene".into(), ..Scene::default() };
        let request = CreateSceneRequest { parent: project, scene: Some(scene), request_id: String::new() };
        let scene = client.create_scene(with(&key, request)).await?.into_inner().name;
        Ok(Self { account, key, scene, gateways, status, calls: AtomicUsize::new(0) })
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
        let until = Instant::now() + TIMEOUT;
        loop {
            let answer = match tokio::time::timeout(CALL, call(self)).await {
                Ok(answer) => answer,
                Err(_) => Err(Status::deadline_exceeded("no answer")),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(status) if refused(&status) => bail!("{what} was refused: {status}"),
                Err(status) if Instant::now() >= until => bail!("{what} was not answered in {TIMEOUT:?}: {status}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Subscribes to what begins to be made and to every end; gives the secret that webhooks are signed with.
    pub(crate) async fn listen(&self, url: &str) -> Result<String> {
        let event_types = ["queued", "processing", "completed", "failed", "cancelled", "expired"];
        let event_types = event_types.map(|state| format!("generation.{state}")).to_vec();
        let endpoint = Endpoint { url: url.to_owned(), event_types, ..Endpoint::default() };
        let request = CreateEndpointRequest { endpoint: Some(endpoint), request_id: String::new() };
        let mut client = WebhookServiceClient::new(self.gateways[0].clone());
        Ok(client.create_endpoint(with(&self.key, request)).await?.into_inner().secret)
    }

    /// Has a video made.
    pub(crate) async fn start(&self, model: &str, prompt: &str) -> Result<String> {
        let request = StartGenerationRequest {
            scene: self.scene.clone(),
            model: model.to_owned(),
            input: Some(Input { prompt: prompt.to_owned(), ..Input::default() }),
            request_id: Uuid::now_v7().to_string(),
            validate_only: false,
            priority: 0,
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
            let mut request = Request::new(request.clone());
            request.set_timeout(CALL);
            match GenerationServiceClient::new(me.status.clone()).resolve_generation(request).await {
                // The first try was committed and not answered.
                Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
                answer => answer.map(drop),
            }
        };
        self.until("a resolution", call).await.context("resolving")
    }
}

/// Whether asking again would not help.
fn refused(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::NotFound
    )
}

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    if let Ok(value) = format!("Bearer {key}").parse() {
        request.metadata_mut().insert("authorization", value);
    }
    request
}
