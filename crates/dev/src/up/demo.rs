//! The demo account: made once through the internal RPCs, filled through the gateway like any client would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use chassis::identity::OPERATOR;
use chassis::keyring::InternalKeys;
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::accounts::v1::{self as accounts, CreateAccountRequest, CreateApiKeyRequest};
use proto::credits::v1::GrantCreditsRequest;
use proto::credits::v1::credit_service_client::CreditServiceClient;
use proto::dashboard::v1::GetDashboardRequest;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{Generation, Input, StartGenerationRequest, State, WatchGenerationsRequest};
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{CreateProjectRequest, CreateSceneRequest, Project, Scene};
use serde::{Deserialize, Serialize};
use tonic::{Code, Request};
use uuid::Uuid;

use crate::up::published::write_private;
use crate::up::say::Say;
use crate::up::services::Services;
use cli::failure::Failure;
use cli::show;

/// What the account may spend: 100 credits.
const GRANT: i64 = 100_000_000;
/// How long the demo's generations may take in all.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Projects with their scenes: a title, and a script that is also the prompt. The first scene of each is generated.
const PROJECTS: [(&str, &[(&str, &str)]); 2] = [
    (
        "The Lighthouse",
        &[
            ("Arrival", "A lighthouse on a cliff at dusk, waves below, slow push in"),
            ("The keeper", "An old keeper climbs the stairs with a lamp in his hand"),
            ("Storm", "The beam cuts through rain and spray, seen from a small boat"),
        ],
    ),
    (
        "City at Night",
        &[
            ("Crossing", "Neon reflections on a wet crossing, umbrellas from above"),
            ("Last train", "An empty platform, the last train leaves, lights go out one by one"),
        ],
    ),
];

/// The demo account, as kept in `.rushes/demo.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    name: String,
    /// Its API key.
    pub(crate) api_key: String,
    /// Its scenes by name, in the order of [`PROJECTS`].
    pub(crate) scenes: Vec<String>,
    /// Its first generations by name.
    pub(crate) generations: Vec<String>,
    #[serde(skip)]
    file: PathBuf,
}

/// Forgets the account of earlier runs, whose data is gone.
pub(crate) fn forget(home: &Path) -> Result<()> {
    match std::fs::remove_file(path(home)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("removing the demo account's key")
        }
        _ => Ok(()),
    }
}

/// The account of an earlier run when its key still holds, else a new one with credits.
pub(crate) async fn account(home: &Path, services: &Services) -> Result<Account> {
    let file = path(home);
    if let Ok(text) = std::fs::read_to_string(&file)
        && let Ok(account) = serde_json::from_str::<Account>(&text)
    {
        let account = Account { file: file.clone(), ..account };
        let mut client = DashboardServiceClient::new(channel("gateway", &services.gateway())?);
        match client.get_dashboard(account.request(GetDashboardRequest::default())?).await {
            Ok(_) => return Ok(account),
            // Another database than the one that it was made in.
            Err(status) if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => {}
            Err(status) => return Err(Failure::of(&status, "").into()),
        }
    }
    let keys = InternalKeys::parse(&services.internal_keys).context("the services' keys are too short")?;
    let inside = services.internal_addresses();
    let operator = |name| {
        let address = inside.get(name).with_context(|| format!("{name} does not run"))?;
        anyhow::Ok(channel(name, address)?.as_service(OPERATOR, &keys))
    };
    let mut accounts = AccountServiceClient::new(operator("dashboard")?);
    let account = accounts::Account {
        display_name: "Ada Lens".to_owned(),
        email: "ada@example.com".to_owned(),
        ..accounts::Account::default()
    };
    let made = accounts.create_account(CreateAccountRequest { account: Some(account) }).await;
    let name = made.map_err(|status| explain("creating the demo account", &status))?.into_inner().name;
    let request = CreateApiKeyRequest { parent: name.clone(), ..CreateApiKeyRequest::default() };
    let made = accounts.create_api_key(request).await;
    let api_key = made.map_err(|status| explain("creating its API key", &status))?.into_inner().secret;
    let mut credits = CreditServiceClient::new(operator("generation-status")?);
    let request_id = Uuid::now_v7().to_string();
    let grant = GrantCreditsRequest { account: name.clone(), amount_micros: GRANT, request_id };
    credits.grant_credits(grant).await.map_err(|status| explain("granting it credits", &status))?;
    let account = Account { name, api_key, file, ..Account::default() };
    account.keep()?;
    Ok(account)
}

/// Makes the projects and runs the generations that earlier runs did not.
pub(crate) async fn generations(account: &Account, gateway: &str, say: &Say) -> Result<()> {
    let mut account = account.clone();
    if account.scenes.is_empty() {
        say.step(format!("loading a demo account: {} projects with their scenes", PROJECTS.len()));
        account.scenes = projects(&account, gateway).await?;
        account.keep()?;
    }
    if account.generations.is_empty() {
        say.step("generating a video for the first scene of each project, through the gateway");
        let started = start(&account, gateway).await?;
        tokio::time::timeout(TIMEOUT, watch(&account, gateway, &started, say))
            .await
            .with_context(|| format!("the demo's generations did not end within {TIMEOUT:?}"))??;
        account.generations = started.into_iter().map(|(name, _)| name).collect();
        account.keep()?;
    }
    Ok(())
}

impl Account {
    fn keep(&self) -> Result<()> {
        write_private(&self.file, &serde_json::to_string_pretty(self)?)
    }

    /// As it is on disk now, after [`generations`].
    pub(crate) fn again(&self) -> Result<Self> {
        let text = std::fs::read_to_string(&self.file).with_context(|| format!("reading {}", self.file.display()))?;
        Ok(Self { file: self.file.clone(), ..serde_json::from_str(&text)? })
    }

    fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.api_key).parse()?);
        Ok(request)
    }
}

async fn projects(account: &Account, gateway: &str) -> Result<Vec<String>> {
    let mut client = ProjectServiceClient::new(channel("gateway", gateway)?);
    let mut names = Vec::new();
    for (title, scenes) in PROJECTS {
        let project = Project { title: title.to_owned(), ..Project::default() };
        let request = CreateProjectRequest { project: Some(project), request_id: Uuid::now_v7().to_string() };
        let made = client.create_project(account.request(request)?).await;
        let parent = made.map_err(|status| explain("creating a project", &status))?.into_inner().name;
        for (title, script) in scenes {
            let request = CreateSceneRequest {
                parent: parent.clone(),
                scene: Some(Scene { title: (*title).to_owned(), script: (*script).to_owned(), ..Scene::default() }),
                request_id: Uuid::now_v7().to_string(),
            };
            let made = client.create_scene(account.request(request)?).await;
            names.push(made.map_err(|status| explain("creating a scene", &status))?.into_inner().name);
        }
    }
    Ok(names)
}

/// Starts one generation a project and gives their names, each with its scene's title.
async fn start(account: &Account, gateway: &str) -> Result<Vec<(String, &'static str)>> {
    let mut client = GenerationServiceClient::new(channel("gateway", gateway)?);
    let mut names = Vec::new();
    let mut first = 0;
    for (seed, (_, scenes)) in (1..).zip(PROJECTS) {
        let here = account.scenes.get(first).zip(scenes.first());
        let (scene, (title, script)) = here.context("the demo's scenes are not all there")?;
        let request = StartGenerationRequest {
            scene: scene.clone(),
            input: Some(Input { prompt: (*script).to_owned(), seed: Some(seed), ..Input::default() }),
            request_id: Uuid::now_v7().to_string(),
            ..StartGenerationRequest::default()
        };
        let started = client.start_generation(account.request(request)?).await;
        let started = started.map_err(|status| explain("starting a generation", &status))?.into_inner();
        names.push((started.name, *title));
        first += scenes.len();
    }
    Ok(names)
}

/// Follows generations to their end, a line for each stage.
async fn watch(account: &Account, gateway: &str, started: &[(String, &str)], say: &Say) -> Result<()> {
    let mut client = GenerationServiceClient::new(channel("gateway", gateway)?);
    let names = started.iter().map(|(name, _)| name.clone()).collect();
    let request = WatchGenerationsRequest { names, until_terminal: true, ..WatchGenerationsRequest::default() };
    let watched = client.watch_generations(account.request(request)?).await;
    let mut events = watched.map_err(|status| explain("watching the generations", &status))?.into_inner();
    let (mut told, mut ended) = (std::collections::BTreeMap::new(), std::collections::BTreeSet::new());
    while ended.len() < started.len() {
        let event = events.message().await.map_err(|status| explain("watching the generations", &status))?;
        let event = event.context("the watch ended before the generations did")?;
        let generations = match event.event {
            Some(Event::Snapshot(snapshot)) => snapshot.generations,
            Some(Event::Update(generation)) => vec![generation],
            Some(Event::Gap(_) | Event::Heartbeat(_) | Event::Moved(_)) | None => Vec::new(),
        };
        for generation in generations {
            let title = started.iter().find(|(name, _)| *name == generation.name).map_or("", |(_, title)| title);
            let line = line(title, &generation);
            if told.insert(generation.name.clone(), line.clone()) != Some(line.clone()) {
                say.step(format!("  {line}"));
            }
            if show::is_terminal(generation.state) {
                if generation.state != State::Completed as i32 {
                    let why = generation.error.map(|error| error.message).unwrap_or_default();
                    return Err(Failure::new(format!("the demo's {} did not complete: {why}", generation.name)).into());
                }
                ended.insert(generation.name);
            }
        }
    }
    Ok(())
}

fn line(title: &str, generation: &Generation) -> String {
    let state = show::state(generation.state);
    let step = generation.progress.as_ref().map_or("", |progress| progress.stage.as_str());
    let step = if show::is_terminal(generation.state) { "" } else { step };
    format!("{title}: {state} {step}").trim_end().to_owned()
}

fn channel(name: &'static str, address: &str) -> Result<chassis::client::Channel> {
    Ok(chassis::client::connect(name, &address.parse()?))
}

fn explain(doing: &str, status: &tonic::Status) -> anyhow::Error {
    Failure::new(format!("{doing} failed: {} ({:?})", status.message(), status.code()))
        .todo("read the services' logs in .rushes/logs")
        .into()
}

fn path(home: &Path) -> PathBuf {
    home.join("demo.json")
}
