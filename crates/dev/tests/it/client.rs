//! A client of the gateway with one account's key, as any program outside would write it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::credits::v1::credit_service_client::CreditServiceClient;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::dashboard::v1::{Dashboard, GetDashboardRequest};
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{Generation, Input, StartGenerationRequest, State, WatchGenerationsRequest};
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{CreateProjectRequest, CreateSceneRequest, Project, Scene};
use proto::webhooks::v1::webhook_service_client::WebhookServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use uuid::Uuid;

/// Adds what a client sends with each call.
#[derive(Clone)]
pub(crate) struct Credential {
    authorization: Option<MetadataValue<Ascii>>,
    traceparent: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        if let Some(traceparent) = &self.traceparent {
            request.metadata_mut().insert("traceparent", traceparent.clone());
        }
        Ok(request)
    }
}

/// A channel that carries a credential.
pub(crate) type Signed = InterceptedService<Channel, Credential>;

/// One account's way into the gateway.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
    pub(crate) gateway: SocketAddr,
    credential: Credential,
}

impl Client {
    pub(crate) fn new(channel: Channel, gateway: SocketAddr, key: &str) -> Self {
        let authorization = Some(format!("Bearer {key}").parse().unwrap());
        Self { channel, gateway, credential: Credential { authorization, traceparent: None } }
    }

    /// The same client with another key, or none.
    pub(crate) fn with_key(&self, key: Option<&str>) -> Self {
        let authorization = key.map(|key| format!("Bearer {key}").parse().unwrap());
        Self { credential: Credential { authorization, ..self.credential.clone() }, ..self.clone() }
    }

    /// The same client whose calls belong to a trace.
    pub(crate) fn in_trace(&self, traceparent: &str) -> Self {
        let traceparent = Some(traceparent.parse().unwrap());
        Self { credential: Credential { traceparent, ..self.credential.clone() }, ..self.clone() }
    }

    /// The API key itself.
    pub(crate) fn key(&self) -> &str {
        let authorization = self.credential.authorization.as_ref().and_then(|value| value.to_str().ok());
        authorization.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
    }

    fn signed(&self) -> Signed {
        InterceptedService::new(self.channel.clone(), self.credential.clone())
    }

    pub(crate) fn projects(&self) -> ProjectServiceClient<Signed> {
        ProjectServiceClient::new(self.signed())
    }

    pub(crate) fn dashboards(&self) -> DashboardServiceClient<Signed> {
        DashboardServiceClient::new(self.signed())
    }

    pub(crate) fn generations(&self) -> GenerationServiceClient<Signed> {
        GenerationServiceClient::new(self.signed())
    }

    pub(crate) fn assets(&self) -> AssetServiceClient<Signed> {
        AssetServiceClient::new(self.signed())
    }

    pub(crate) fn credits(&self) -> CreditServiceClient<Signed> {
        CreditServiceClient::new(self.signed())
    }

    pub(crate) fn webhooks(&self) -> WebhookServiceClient<Signed> {
        WebhookServiceClient::new(self.signed())
    }

    pub(crate) async fn project(&self, title: &str) -> Result<Project> {
        let project = Some(Project { title: title.into(), ..Project::default() });
        let request = CreateProjectRequest { project, request_id: Uuid::now_v7().to_string() };
        Ok(self.projects().create_project(request).await?.into_inner())
    }

    pub(crate) async fn scene(&self, project: &Project, title: &str) -> Result<Scene> {
        let scene = Some(Scene { title: title.into(), ..Scene::default() });
        let request =
            CreateSceneRequest { parent: project.name.clone(), scene, request_id: Uuid::now_v7().to_string() };
        Ok(self.projects().create_scene(request).await?.into_inner())
    }

    pub(crate) async fn start(&self, scene: &Scene, prompt: &str) -> Result<Generation> {
        Ok(self.generations().start_generation(order(&scene.name, prompt)).await?.into_inner())
    }

    /// Everything that a watch of one generation tells until it ends, by version.
    pub(crate) async fn watch(&self, name: &str) -> Result<Vec<Generation>> {
        let request = WatchGenerationsRequest { names: vec![name.into()], until_terminal: true, ..Default::default() };
        let mut events = self.generations().watch_generations(request).await?.into_inner();
        let mut seen = Vec::new();
        let all = async {
            while let Some(event) = events.message().await? {
                match event.event.context("an event")? {
                    Event::Snapshot(snapshot) => seen.extend(snapshot.generations),
                    Event::Update(generation) => seen.push(generation),
                    Event::Gap(_) | Event::Heartbeat(_) | Event::Moved(_) => {}
                }
            }
            anyhow::Ok(())
        };
        if tokio::time::timeout(Duration::from_secs(90), all).await.is_err() {
            bail!("the watch of {name} did not end; last seen: {:?}", seen.last());
        }
        Ok(seen)
    }

    /// The last that a watch tells of a generation.
    pub(crate) async fn outcome(&self, name: &str) -> Result<Generation> {
        let last = self.watch(name).await?.pop().context("a watch tells something")?;
        if !matches!(last.state(), State::Completed | State::Failed | State::Cancelled | State::Expired) {
            bail!("the watch of {name} ended with {:?}", last.state());
        }
        Ok(last)
    }

    pub(crate) async fn dashboard(&self) -> Result<Dashboard> {
        Ok(self.dashboards().get_dashboard(GetDashboardRequest::default()).await?.into_inner())
    }

    /// Fetches a public URL from the gateway.
    pub(crate) async fn fetch(&self, url: &str, headers: &[(&str, &str)]) -> Result<crate::http::Reply> {
        let at = url.find("/assets/").with_context(|| format!("{url:?} is no asset's URL"))?;
        crate::http::get(self.gateway, &url[at..], headers).await
    }
}

/// A valid order of a generation.
pub(crate) fn order(scene: &str, prompt: &str) -> StartGenerationRequest {
    StartGenerationRequest {
        scene: scene.into(),
        input: Some(Input { prompt: prompt.into(), seed: Some(7), ..Input::default() }),
        request_id: Uuid::now_v7().to_string(),
        ..StartGenerationRequest::default()
    }
}
