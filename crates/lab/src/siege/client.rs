//! The good client: one account that looks at its dashboard, polls its generations, starts one every few seconds and watches all,
//! at a fixed rate whatever the answers do.
//!
//! Invariant: a call is begun when it is due, not when the one before was answered, so that a stall is felt by all that were due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use proto::dashboard::v1::GetDashboardRequest;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::settings::Length;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{
    GetGenerationRequest, Input, Settings, StartGenerationRequest, State, WatchGenerationsRequest,
};
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{CreateProjectRequest, CreateSceneRequest, Project, Scene};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Request, Status};
use uuid::Uuid;

use crate::cluster::Cluster;

/// How often a call is due.
const EVERY: Duration = Duration::from_millis(25);
/// Every how many of these a generation is started.
const START_EVERY: u64 = 120;
/// How long a call may take before it is an error.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a call may take with which an account is set up.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// What the good client felt for a while.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) calls: usize,
    pub(super) p99: Duration,
    /// Of what took that long or longer, how many calls there were of each kind.
    pub(super) slowest: BTreeMap<&'static str, u64>,
    pub(super) errors: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Felt {
    due: Instant,
    took: Duration,
    what: &'static str,
    error: Option<String>,
}

#[derive(Debug, Default)]
struct Noted {
    felt: Vec<Felt>,
    /// The calls that are being answered, by their numbers, and the number of the next.
    open: BTreeSet<u64>,
    next: u64,
    /// The generations that were started, and whether each has ended well.
    started: HashMap<String, bool>,
    /// The latest that was started.
    latest: Option<String>,
}

/// The good client at work.
pub(super) struct GoodClient {
    noted: Arc<Mutex<Noted>>,
    tasks: [JoinHandle<()>; 2],
}

/// What its calls need.
#[derive(Clone)]
struct Caller {
    gateway: Channel,
    key: String,
    scene: String,
    noted: Arc<Mutex<Noted>>,
}

impl GoodClient {
    /// Makes its account and begins.
    pub(super) async fn begin(cluster: &Cluster) -> Result<Self> {
        let (_, key) = cluster.account("A good client".into(), 1_000_000_000_000).await?;
        let gateway = cluster.channel(0, "gateway")?;
        let (_, scene) = project_and_scene(&gateway, &key).await?;
        let noted = Arc::<Mutex<Noted>>::default();
        let caller = Caller { gateway, key, scene, noted: Arc::clone(&noted) };
        // One to poll from the first moment on.
        caller.start(SET_UP_TIMEOUT).await?;
        let tasks = [tokio::spawn(caller.clone().live()), tokio::spawn(caller.watch())];
        Ok(Self { noted, tasks })
    }

    /// What it feels while `meanwhile` goes on.
    pub(super) async fn window(&self, meanwhile: impl Future<Output = ()>) -> Window {
        let from = Instant::now();
        meanwhile.await;
        let to = Instant::now();
        self.answered().await;
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let felt = noted.felt.iter().filter(|felt| (from..to).contains(&felt.due)).collect::<Vec<_>>();
        let mut took = felt.iter().map(|felt| felt.took).collect::<Vec<_>>();
        took.sort_unstable();
        let mut errors = BTreeMap::new();
        for error in felt.iter().filter_map(|felt| felt.error.clone()) {
            *errors.entry(error).or_default() += 1;
        }
        let p99 = took.get((took.len() * 99 / 100).min(took.len().saturating_sub(1))).copied().unwrap_or_default();
        let mut slowest = BTreeMap::new();
        for felt in felt.iter().filter(|felt| felt.took >= p99) {
            *slowest.entry(felt.what).or_default() += 1;
        }
        Window { calls: took.len(), p99, slowest, errors }
    }

    /// Waits until all calls that were due so far have been answered, or have had their time.
    async fn answered(&self) {
        let last = self.noted.lock().unwrap_or_else(PoisonError::into_inner).next;
        let until = Instant::now() + TIMEOUT + Duration::from_secs(1);
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.open.first().is_none_or(|first| *first >= last) {
                return;
            }
        }
    }

    /// Waits until all that it has started so far has ended well; tells what has not.
    pub(super) async fn delivered(&self, timeout: Duration) -> Vec<String> {
        let until = Instant::now() + timeout;
        let wanted = {
            let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.started.keys().cloned().collect::<Vec<_>>()
        };
        loop {
            let missing = {
                let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
                let missing = wanted.iter().filter(|name| noted.started.get(*name) == Some(&false)).cloned();
                let missing = missing.collect::<Vec<_>>();
                if missing.is_empty() || Instant::now() >= until {
                    // Each is told once.
                    noted.started.retain(|name, _| !wanted.contains(name));
                }
                missing
            };
            if missing.is_empty() || Instant::now() >= until {
                return missing;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it.
    pub(super) async fn end(self) {
        for task in self.tasks {
            task.abort();
            // It was aborted.
            let _ = task.await;
        }
    }
}

impl Caller {
    /// One call whenever it is due.
    async fn live(self) {
        let mut due = tokio::time::interval(EVERY);
        for turn in 1_u64.. {
            due.tick().await;
            let me = self.clone();
            let number = me.open();
            tokio::spawn(async move {
                let begun = Instant::now();
                let call = me.call(turn);
                let (what, answer) = match tokio::time::timeout(TIMEOUT, call).await {
                    Ok(answer) => answer,
                    Err(_) => ("a call", Err(Status::deadline_exceeded("no answer"))),
                };
                let error = answer.err().map(|status| format!("{what}: {:?} {}", status.code(), status.message()));
                me.note(Felt { due: begun, took: begun.elapsed(), what, error });
                me.noted.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&number);
            });
        }
    }

    async fn call(&self, turn: u64) -> (&'static str, Result<(), Status>) {
        if turn.is_multiple_of(START_EVERY) {
            return ("a start", self.start(TIMEOUT).await);
        }
        if turn.is_multiple_of(2) {
            let mut client = DashboardServiceClient::new(self.gateway.clone());
            let answer = client.get_dashboard(with(&self.key, GetDashboardRequest::default())).await;
            return ("a dashboard", answer.map(drop));
        }
        let latest = self.noted.lock().unwrap_or_else(PoisonError::into_inner).latest.clone().unwrap_or_default();
        let mut client = GenerationServiceClient::new(self.gateway.clone());
        let request = with(&self.key, GetGenerationRequest { name: latest, min_version: 0 });
        ("a poll", client.get_generation(request).await.map(drop))
    }

    async fn start(&self, timeout: Duration) -> Result<(), Status> {
        // As small as it can be: what counts is its way home, and a machine that draws is busy with nothing that is looked at.
        let settings = Settings {
            length: Some(Length::Duration(prost_types::Duration { seconds: 1, nanos: 0 })),
            resolution: "144p".into(),
            fps: Some(6.0),
            ..Settings::default()
        };
        let request = StartGenerationRequest {
            scene: self.scene.clone(),
            input: Some(Input { prompt: "a siege".into(), settings: Some(settings), ..Input::default() }),
            request_id: Uuid::now_v7().to_string(),
            ..StartGenerationRequest::default()
        };
        let mut client = GenerationServiceClient::new(self.gateway.clone());
        let mut request = with(&self.key, request);
        request.set_timeout(timeout);
        let name = client.start_generation(request).await?.into_inner().name;
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        // The watch may have told of its end already.
        noted.started.entry(name.clone()).or_insert(false);
        noted.latest = Some(name);
        Ok(())
    }

    /// Watches all; a stream that ends is an error, and another is opened.
    async fn watch(self) {
        loop {
            let ended = self.watch_once().await;
            self.note(Felt {
                due: Instant::now(),
                took: Duration::ZERO,
                what: "the watch",
                error: Some(format!("the watch ended: {:?} {}", ended.code(), ended.message())),
            });
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn watch_once(&self) -> Status {
        let mut request = Request::new(WatchGenerationsRequest::default());
        authorize(&mut request, &self.key);
        let mut stream = match GenerationServiceClient::new(self.gateway.clone()).watch_generations(request).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return status,
        };
        loop {
            let generations = match stream.message().await {
                Ok(Some(message)) => match message.event {
                    Some(Event::Snapshot(snapshot)) => snapshot.generations,
                    Some(Event::Update(generation)) => vec![generation],
                    _ => Vec::new(),
                },
                Ok(None) => return Status::unavailable("the stream is over"),
                Err(status) => return status,
            };
            let completed = generations.into_iter().filter(|generation| generation.state() == State::Completed);
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.started.extend(completed.map(|generation| (generation.name, true)));
        }
    }

    /// Notes that a call begins; gives its number.
    fn open(&self) -> u64 {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let number = noted.next;
        noted.next += 1;
        noted.open.insert(number);
        number
    }

    fn note(&self, felt: Felt) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).felt.push(felt);
    }
}

/// Makes a project with a scene; gives the names of both.
pub(super) async fn project_and_scene(gateway: &Channel, key: &str) -> Result<(String, String)> {
    let mut projects = ProjectServiceClient::new(gateway.clone());
    let project = Project { title: "a project".into(), ..Project::default() };
    let request = CreateProjectRequest { project: Some(project), request_id: String::new() };
    let project = projects.create_project(set_up(key, request)).await?.into_inner().name;
    let scene = Scene { title: "a scene".into(), ..Scene::default() };
    let request = CreateSceneRequest { parent: project.clone(), scene: Some(scene), request_id: String::new() };
    let scene = projects.create_scene(set_up(key, request)).await?.into_inner().name;
    Ok((project, scene))
}

/// A request before anything is measured, for which a busy machine may take its time.
pub(super) fn set_up<T>(key: &str, message: T) -> Request<T> {
    let mut request = with(key, message);
    request.set_timeout(SET_UP_TIMEOUT);
    request
}

/// A request with a key.
fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    authorize(&mut request, key);
    request
}

pub(super) fn authorize<T>(request: &mut Request<T>, key: &str) {
    if let Ok(value) = format!("Bearer {key}").parse() {
        request.metadata_mut().insert("authorization", value);
    }
}
