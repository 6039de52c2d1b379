//! What all clients of a run share: the accounts, the gateways, what was answered, and what was refused.
//!
//! Invariant: a call whose answer did not come proves nothing and is counted as refused.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{CreateProjectRequest, CreateSceneRequest, Project, Scene};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::history::{History, Kind, Seen};
use super::watched::Held;
use crate::cluster::Cluster;

/// How many accounts are used.
const ACCOUNTS: usize = 4;
/// Projects of each, each with one writer.
pub(super) const PROJECTS: usize = 2;
/// How long a call may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// One account.
pub(super) struct Owner {
    pub(super) number: usize,
    pub(super) account: String,
    pub(super) key: String,
    pub(super) projects: Vec<String>,
    pub(super) scenes: Vec<String>,
    pub(super) generations: Mutex<Vec<String>>,
}

impl Owner {
    /// One of its latest generations, if it has any.
    pub(super) fn recent(&self, rng: &mut Rng) -> Option<String> {
        let known = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let back = rng.usize(0..20).min(known.len().saturating_sub(1));
        known.len().checked_sub(back + 1).and_then(|at| known.get(at).cloned())
    }
}

/// What all clients share.
pub(super) struct Workload {
    pub(super) cluster: Arc<Cluster>,
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
    pub(super) seed: u64,
}

impl Workload {
    pub(super) async fn new(cluster: Arc<Cluster>, seed: u64) -> Result<Self> {
        let gateways = [cluster.channel(0, "gateway")?, cluster.channel(1, "gateway")?];
        let mut workload = Self {
            cluster,
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
            let owner = workload.owner(number).await.context("making an account")?;
            workload.owners.push(owner);
        }
        Ok(workload)
    }

    async fn owner(&self, number: usize) -> Result<Owner> {
        let (account, key) = self.cluster.account(format!("Owner {number}"), 1_000_000_000).await?;
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

    /// The process of a replica that answers for `service`, and its life.
    fn process(&self, replica: usize, service: &str) -> (usize, u32) {
        let at = self.cluster.at(replica, service);
        (at, self.cluster.nodes[at].life.load(Ordering::SeqCst))
    }

    /// Makes a call and remembers what `tell` makes of its answer: keys with versions and contents.
    pub(super) async fn call<T>(
        &self,
        replica: usize,
        service: &'static str,
        write: bool,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
        tell: impl FnOnce(&T) -> Vec<(String, i64, Option<u64>)>,
    ) -> Option<T> {
        let before = self.process(replica, service);
        let begun = Instant::now();
        let answer = tokio::time::timeout(TIMEOUT * 2, call).await;
        let replied = Instant::now();
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        match answer {
            Ok(answer) => {
                self.answers.fetch_add(1, Ordering::Relaxed);
                let answer = answer.into_inner();
                let kind = if write { Kind::Write } else { Kind::Read };
                let by = Some(before).filter(|before| *before == self.process(replica, service));
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
}

/// What the history calls a dashboard.
pub(super) fn dashboard_key(owner: usize) -> String {
    format!("dashboard of owner {owner}")
}

pub(super) fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
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
