//! The clients: writers and readers of a few accounts, through both gateways, each call timed and remembered.
//!
//! Invariant: a call whose answer did not come proves nothing and is counted as refused.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use prost::Message as _;
use proto::dashboard::v1::GetDashboardRequest;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::{CancelGenerationRequest, GetGenerationRequest, Input, StartGenerationRequest, State};
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{
    CreateProjectRequest, CreateSceneRequest, GetProjectRequest, Project, Scene, UpdateProjectRequest,
};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Request, Status};
use uuid::Uuid;

use super::history::{History, Kind, Seen};
use super::watchers::Held;
use crate::stage::Stage;

/// How many accounts are used.
const ACCOUNTS: usize = 4;
/// Projects of each, each with one writer.
const PROJECTS: usize = 2;
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// One account.
pub(super) struct Owner {
    pub(super) number: usize,
    pub(super) account: String,
    pub(super) key: String,
    projects: Vec<String>,
    scenes: Vec<String>,
    pub(super) generations: Mutex<Vec<String>>,
}

impl Owner {
    /// One of its latest generations, if it has any.
    fn recent(&self, rng: &mut Rng) -> Option<String> {
        let known = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let back = rng.usize(0..20).min(known.len().saturating_sub(1));
        known.len().checked_sub(back + 1).and_then(|at| known.get(at).cloned())
    }
}

/// What all clients share.
pub(super) struct World {
    pub(super) stage: Arc<Stage>,
    pub(super) history: History,
    pub(super) stop: AtomicBool,
    /// How much more often clients call than usual.
    pub(super) haste: AtomicU32,
    pub(super) owners: Vec<Owner>,
    pub(super) gateways: [Channel; 2],
    pub(super) watches: Mutex<Vec<Held>>,
    /// Set when watches need not be held open any more.
    pub(super) watched: AtomicBool,
    /// How streams broke that were not left.
    broken: Mutex<BTreeMap<String, u64>>,
    answers: AtomicU64,
    refused: Mutex<BTreeMap<String, u64>>,
    /// How long each write that was refused waited for that.
    waited: Mutex<Vec<Duration>>,
    seed: u64,
}

impl World {
    pub(super) async fn new(stage: Arc<Stage>, seed: u64) -> Result<Self> {
        let gateways = [stage.channel(0, "gateway")?, stage.channel(1, "gateway")?];
        let mut world = Self {
            stage,
            history: History::new(),
            stop: AtomicBool::new(false),
            haste: AtomicU32::new(1),
            owners: Vec::new(),
            gateways,
            watches: Mutex::default(),
            watched: AtomicBool::new(false),
            broken: Mutex::default(),
            answers: AtomicU64::new(0),
            refused: Mutex::default(),
            waited: Mutex::default(),
            seed,
        };
        for number in 0..ACCOUNTS {
            let owner = world.owner(number).await.context("making an account")?;
            world.owners.push(owner);
        }
        Ok(world)
    }

    async fn owner(&self, number: usize) -> Result<Owner> {
        let (account, key) = self.stage.account(format!("Owner {number}"), 1_000_000_000).await?;
        let (mut projects, mut scenes) = (Vec::new(), Vec::new());
        let mut client = ProjectServiceClient::new(self.gateways[0].clone());
        for _ in 0..PROJECTS {
            let project = Project { title: "0".into(), ..Project::default() };
            let request = CreateProjectRequest { project: Some(project), request_id: String::new() };
            let project = client.create_project(with(&key, request)).await?.into_inner().name;
            let scene = Scene { title: "a scene".into(), ..Scene::default() };
            let request = CreateSceneRequest { parent: project.clone(), scene: Some(scene), request_id: String::new() };
            scenes.push(client.create_scene(with(&key, request)).await?.into_inner().name);
            projects.push(project);
        }
        Ok(Owner { number, account, key, projects, scenes, generations: Mutex::default() })
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    pub(super) fn errors(&self) -> u64 {
        self.refusals().values().sum()
    }

    /// How many calls ended with which code.
    pub(super) fn refusals(&self) -> BTreeMap<String, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long the writes waited that were refused since this was last asked.
    pub(super) fn waited(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.waited.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn refused(&self, status: &Status) {
        *self
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(format!("{:?}", status.code()))
            .or_default() += 1;
    }

    /// A stream that broke is no call that was refused: it goes on elsewhere.
    pub(super) fn broke(&self, status: &Status) {
        *self
            .broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(format!("{:?}", status.code()))
            .or_default() += 1;
    }

    pub(super) fn broken(&self) -> BTreeMap<String, u64> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process of a side that answers for `service`, and its life.
    fn process(&self, side: usize, service: &str) -> (usize, u32) {
        let at = self.stage.at(side, service);
        (at, self.stage.actors[at].life.load(Ordering::SeqCst))
    }

    /// Makes a call and remembers what `tell` makes of its answer: keys with versions and contents.
    async fn call<T>(
        &self,
        side: usize,
        service: &'static str,
        write: bool,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
        tell: impl FnOnce(&T) -> Vec<(String, i64, Option<u64>)>,
    ) -> Option<T> {
        let before = self.process(side, service);
        let begun = Instant::now();
        let answer = tokio::time::timeout(PATIENCE * 2, call).await;
        let replied = Instant::now();
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        match answer {
            Ok(answer) => {
                self.answers.fetch_add(1, Ordering::Relaxed);
                let answer = answer.into_inner();
                let kind = if write { Kind::Write } else { Kind::Read };
                let by = Some(before).filter(|before| *before == self.process(side, service));
                for (key, version, content) in tell(&answer) {
                    self.history.add(Seen { key, version, content, begun, replied, by, kind });
                }
                Some(answer)
            }
            Err(status) => {
                self.refused(&status);
                if write {
                    self.waited.lock().unwrap_or_else(PoisonError::into_inner).push(replied - begun);
                }
                None
            }
        }
    }

    fn pause(&self, rng: &mut Rng, usual: u64) -> Duration {
        Duration::from_millis(rng.u64(0..=2 * usual) / u64::from(self.haste.load(Ordering::Relaxed).max(1)))
    }

    /// One writer of one project: a count in its title, guarded by the etag, so that a late commit cannot take it back.
    async fn write_titles(&self, owner: &Owner, project: usize, mut rng: Rng) {
        let name = &owner.projects[project];
        let (mut count, mut etag) = (0_i64, None);
        while !self.stop.load(Ordering::Relaxed) {
            let side = rng.usize(0..2);
            let mut client = ProjectServiceClient::new(self.gateways[side].clone());
            let Some(guard) = etag.take() else {
                let request = with(&owner.key, GetProjectRequest { name: name.clone() });
                let read = self.call(side, "dashboard", false, client.get_project(request), |_| Vec::new()).await;
                etag = read.map(|project| project.etag);
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            count += 1;
            let changed = Project { name: name.clone(), etag: guard, title: count.to_string(), ..Project::default() };
            let mask = prost_types::FieldMask { paths: vec!["title".into()] };
            let request = UpdateProjectRequest { project: Some(changed), update_mask: Some(mask) };
            let call = client.update_project(with(&owner.key, request));
            let tell = |_: &Project| vec![(name.clone(), count, None)];
            etag = self.call(side, "dashboard", true, call, tell).await.map(|project| project.etag);
            tokio::time::sleep(self.pause(&mut rng, 250)).await;
        }
    }

    /// Starts generations, and cancels some.
    async fn generate(&self, owner: &Owner, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            let side = rng.usize(0..2);
            let mut client = GenerationServiceClient::new(self.gateways[side].clone());
            let request = StartGenerationRequest {
                scene: owner.scenes[rng.usize(0..owner.scenes.len())].clone(),
                input: Some(Input { prompt: "a torture".into(), ..Input::default() }),
                request_id: Uuid::now_v7().to_string(),
                ..StartGenerationRequest::default()
            };
            let tell = |g: &proto::generations::v1::Generation| vec![(g.name.clone(), g.version, None)];
            let call = client.start_generation(with(&owner.key, request));
            if let Some(started) = self.call(side, "generation-status", true, call, tell).await {
                let name = started.name.clone();
                owner.generations.lock().unwrap_or_else(PoisonError::into_inner).push(started.name);
                if rng.u8(0..4) == 0 {
                    tokio::time::sleep(Duration::from_millis(rng.u64(0..1500))).await;
                    let call = client.cancel_generation(with(&owner.key, CancelGenerationRequest { name }));
                    self.call(side, "generation-status", true, call, tell).await;
                }
            }
            tokio::time::sleep(self.pause(&mut rng, 1500)).await;
        }
    }

    /// Reads dashboards, and the newest generations.
    async fn read(&self, side: usize, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            let owner = &self.owners[rng.usize(0..self.owners.len())];
            let generation = owner.recent(&mut rng);
            match generation.filter(|_| rng.bool()) {
                Some(name) => self.read_generation(side, owner, name).await.map(drop),
                None => self.read_dashboard(side, owner).await.map(drop),
            };
            tokio::time::sleep(self.pause(&mut rng, 40)).await;
        }
    }

    async fn read_generation(&self, side: usize, owner: &Owner, name: String) -> Option<State> {
        let mut client = GenerationServiceClient::new(self.gateways[side].clone());
        let request = with(&owner.key, GetGenerationRequest { name, min_version: 0 });
        let tell =
            |g: &proto::generations::v1::Generation| vec![(g.name.clone(), g.version, Some(hash(&g.encode_to_vec())))];
        let read = self.call(side, "generation-status", false, client.get_generation(request), tell).await?;
        Some(read.state())
    }

    /// Tells its version.
    pub(super) async fn read_dashboard(&self, side: usize, owner: &Owner) -> Option<i64> {
        let mut client = DashboardServiceClient::new(self.gateways[side].clone());
        let request = with(&owner.key, GetDashboardRequest::default());
        let number = owner.number;
        let tell = |dashboard: &proto::dashboard::v1::Dashboard| {
            let mut seen = Vec::new();
            // One whose sections were read one by one, or are missing, is of no one snapshot and has no version.
            if dashboard.unreachable.is_empty() && dashboard.version > 0 {
                let content = hash(&dashboard.encode_to_vec());
                seen.push((dashboard_key(number), dashboard.version, Some(content)));
            }
            for card in &dashboard.projects {
                seen.extend(card.title.parse().ok().map(|count| (card.name.clone(), count, None)));
            }
            seen
        };
        self.call(side, "dashboard", false, client.get_dashboard(request), tell)
            .await
            .map(|dashboard| dashboard.version)
    }

    /// Waits until every generation that was accepted has ended; tells of those that did not although none had for so long.
    pub(super) async fn settle(&self, patience: Duration) -> Result<Vec<String>> {
        let mut until = Instant::now() + patience;
        let mut open = HashMap::new();
        for owner in &self.owners {
            for name in owner.generations.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                open.insert(name.clone(), owner);
            }
        }
        while !open.is_empty() && Instant::now() < until {
            for (name, owner) in open.clone() {
                let state = self.read_generation(0, owner, name.clone()).await;
                if state.is_some_and(|state| state as i32 >= State::Completed as i32) {
                    open.remove(&name);
                    // As long as one more ends, the others are only waiting their turn.
                    until = Instant::now() + patience;
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(open.into_keys().map(|name| format!("{name} was accepted and has not ended")).collect())
    }
}

/// Lets all clients go to work.
pub(super) fn begin(world: &Arc<World>) -> Vec<JoinHandle<()>> {
    let mut clients = Vec::new();
    let mut number = 0;
    let mut rng = || {
        number += 1;
        Rng::with_seed(world.seed.wrapping_mul(1000) + number)
    };
    for owner in 0..world.owners.len() {
        for project in 0..PROJECTS {
            let (world, rng) = (Arc::clone(world), rng());
            clients.push(tokio::spawn(async move { world.write_titles(&world.owners[owner], project, rng).await }));
        }
        let (world, rng) = (Arc::clone(world), rng());
        clients.push(tokio::spawn(async move { world.generate(&world.owners[owner], rng).await }));
    }
    for side in [0, 0, 0, 0, 1, 1, 1, 1] {
        let (world, rng) = (Arc::clone(world), rng());
        clients.push(tokio::spawn(async move { world.read(side, rng).await }));
    }
    clients
}

/// What the history calls a dashboard.
pub(super) fn dashboard_key(owner: usize) -> String {
    format!("dashboard of owner {owner}")
}

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    bearer(key, request)
}

pub(super) fn bearer<T>(key: &str, mut request: Request<T>) -> Request<T> {
    if let Ok(bearer) = format!("Bearer {key}").parse() {
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
