//! The clients: writers and readers of a few accounts, through both gateways.
//!
//! Invariant: of one project's title there is one writer, who counts in it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use prost::Message as _;
use proto::dashboard::v1::GetDashboardRequest;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::{CancelGenerationRequest, GetGenerationRequest, Input, StartGenerationRequest, State};
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{GetProjectRequest, Project, UpdateProjectRequest};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::workload::{Owner, PROJECTS, TIMEOUT, Workload, dashboard_key, hash, with};

impl Workload {
    fn pause(&self, rng: &mut Rng, usual: u64) -> Duration {
        Duration::from_millis(rng.u64(0..=2 * usual) / u64::from(self.haste.load(Ordering::Relaxed).max(1)))
    }

    /// One writer of one project: a count in its title, guarded by the etag, so that a late commit cannot take it back.
    async fn write_titles(&self, owner: &Owner, project: usize, mut rng: Rng) {
        let name = &owner.projects[project];
        let (mut count, mut etag) = (0_i64, None);
        while !self.stop.load(Ordering::Relaxed) {
            let replica = rng.usize(0..2);
            let mut client = ProjectServiceClient::new(self.gateways[replica].clone());
            let Some(guard) = etag.take() else {
                let request = with(&owner.key, GetProjectRequest { name: name.clone() });
                let read = self.call(replica, "dashboard", false, client.get_project(request), |_| Vec::new()).await;
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
            etag = self.call(replica, "dashboard", true, call, tell).await.map(|project| project.etag);
            tokio::time::sleep(self.pause(&mut rng, 250)).await;
        }
    }

    /// Starts generations, and cancels some.
    async fn generate(&self, owner: &Owner, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            let replica = rng.usize(0..2);
            let mut client = GenerationServiceClient::new(self.gateways[replica].clone());
            let request = StartGenerationRequest {
                scene: owner.scenes[rng.usize(0..owner.scenes.len())].clone(),
                input: Some(Input { prompt: "a torture".into(), ..Input::default() }),
                request_id: Uuid::now_v7().to_string(),
                ..StartGenerationRequest::default()
            };
            let tell = |g: &proto::generations::v1::Generation| vec![(g.name.clone(), g.version, None)];
            let call = client.start_generation(with(&owner.key, request));
            if let Some(started) = self.call(replica, "generation-status", true, call, tell).await {
                let name = started.name.clone();
                owner.generations.lock().unwrap_or_else(PoisonError::into_inner).push(started.name);
                if rng.u8(0..4) == 0 {
                    tokio::time::sleep(Duration::from_millis(rng.u64(0..1500))).await;
                    let call = client.cancel_generation(with(&owner.key, CancelGenerationRequest { name }));
                    self.call(replica, "generation-status", true, call, tell).await;
                }
            }
            tokio::time::sleep(self.pause(&mut rng, 1500)).await;
        }
    }

    /// Reads dashboards, and the newest generations.
    async fn read(&self, replica: usize, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            let owner = &self.owners[rng.usize(0..self.owners.len())];
            let generation = owner.recent(&mut rng);
            match generation.filter(|_| rng.bool()) {
                Some(name) => self.read_generation(replica, owner, name).await.map(drop),
                None => self.read_dashboard(replica, owner).await.map(drop),
            };
            tokio::time::sleep(self.pause(&mut rng, 40)).await;
        }
    }

    async fn read_generation(&self, replica: usize, owner: &Owner, name: String) -> Option<State> {
        let mut client = GenerationServiceClient::new(self.gateways[replica].clone());
        let request = with(&owner.key, GetGenerationRequest { name, min_version: 0 });
        let tell =
            |g: &proto::generations::v1::Generation| vec![(g.name.clone(), g.version, Some(hash(&g.encode_to_vec())))];
        let read = self.call(replica, "generation-status", false, client.get_generation(request), tell).await?;
        Some(read.state())
    }

    /// Tells its version.
    pub(super) async fn read_dashboard(&self, replica: usize, owner: &Owner) -> Option<i64> {
        let mut client = DashboardServiceClient::new(self.gateways[replica].clone());
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
        self.call(replica, "dashboard", false, client.get_dashboard(request), tell)
            .await
            .map(|dashboard| dashboard.version)
    }

    /// Waits until every generation has ended, those too whose start was not answered; reports each that did not although
    /// none had for so long.
    pub(super) async fn settle(&self, timeout: Duration) -> Result<Vec<String>> {
        let unended = self.all_ended(timeout).await?;
        let mut until = Instant::now() + timeout;
        let mut open = HashMap::new();
        for owner in &self.owners {
            for name in owner.generations.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                open.insert(name.clone(), owner);
            }
        }
        while !open.is_empty() && unended.is_empty() && Instant::now() < until {
            for (name, owner) in open.clone() {
                let state = self.read_generation(0, owner, name.clone()).await;
                if state.is_some_and(|state| state as i32 >= State::Completed as i32) {
                    open.remove(&name);
                    until = Instant::now() + timeout;
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let shown = open.into_keys().map(|name| format!("{name} was accepted and is not shown as ended"));
        Ok(unended.into_iter().map(|name| format!("{name} has not ended")).chain(shown).collect())
    }

    /// Waits until the database has had no open generation for a while, and gives those that it has when none ended for so long.
    async fn all_ended(&self, timeout: Duration) -> Result<Vec<String>> {
        let (mut fewest, mut progress, mut quiet_since) = (usize::MAX, Instant::now(), Instant::now());
        loop {
            let rows = self.cluster.generations().await?;
            let open: Vec<_> = rows.into_iter().filter(|row| !row.ended).map(|row| row.name).collect();
            if !open.is_empty() {
                quiet_since = Instant::now();
            }
            // As long as one more ends, the others are only waiting for a worker.
            if open.len() < fewest {
                (fewest, progress) = (open.len(), Instant::now());
            }
            // A start whose caller gave up may still commit until its deadline has passed.
            if quiet_since.elapsed() > 2 * TIMEOUT || progress.elapsed() > timeout.max(3 * TIMEOUT) {
                return Ok(open);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Lets all clients go to work.
pub(super) fn begin(workload: &Arc<Workload>) -> Vec<JoinHandle<()>> {
    let mut clients = Vec::new();
    let mut number = 0;
    let mut rng = || {
        number += 1;
        Rng::with_seed(workload.seed.wrapping_mul(1000) + number)
    };
    for owner in 0..workload.owners.len() {
        for project in 0..PROJECTS {
            let (workload, rng) = (Arc::clone(workload), rng());
            clients
                .push(tokio::spawn(async move { workload.write_titles(&workload.owners[owner], project, rng).await }));
        }
        let (workload, rng) = (Arc::clone(workload), rng());
        clients.push(tokio::spawn(async move { workload.generate(&workload.owners[owner], rng).await }));
    }
    for replica in [0, 0, 0, 0, 1, 1, 1, 1] {
        let (workload, rng) = (Arc::clone(workload), rng());
        clients.push(tokio::spawn(async move { workload.read(replica, rng).await }));
    }
    clients
}
