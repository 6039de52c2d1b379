//! Clients that hold watches open through everything: each goes on with its token, at one gateway after the other.
//!
//! Invariant: whatever a stream brought is written down before the next event is asked for, and the token with it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use prost::Message as _;
use proto::dashboard::v1::WatchDashboardRequest;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::dashboard::v1::watch_dashboard_response::Event as DashboardEvent;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::watch_generations_response::Event as GenerationEvent;
use proto::generations::v1::{Generation, WatchGenerationsRequest};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status, Streaming};

use super::history::{Kind, Seen};
use super::watched::{Event, Held, State, Subject, Watch, WatchFindings};
use super::workload::{Owner, Workload, bearer, dashboard_key, hash};

/// Services say that a stream stands once a second here: a client that hears nothing for this long goes elsewhere.
const QUIET: Duration = Duration::from_secs(5);
/// Between two streams.
const PAUSE: Duration = Duration::from_millis(100);
/// How many generations one watch names at most.
const NAMED: usize = 5;
/// How long watches may take to know the end, after everything has ended.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A stream of either service.
enum Stream {
    Dashboard(Streaming<proto::dashboard::v1::WatchDashboardResponse>),
    Generations(Streaming<proto::generations::v1::WatchGenerationsResponse>),
}

impl Workload {
    fn hold(&self, owner: usize, subject: Subject, name: String) -> Held {
        let watch = Arc::new(Watch::new(name, matches!(subject, Subject::Named(_))));
        let held = Held { owner, subject, watch };
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).push(held.clone());
        held
    }

    async fn open(&self, held: &Held, replica: usize, resume_token: String) -> Result<Stream, Status> {
        let (key, gateway) = (&self.owners[held.owner].key, self.gateways[replica].clone());
        let names = match &held.subject {
            Subject::Dashboard => {
                let request = bearer(key, Request::new(WatchDashboardRequest { resume_token }));
                let opened = DashboardServiceClient::new(gateway).watch_dashboard(request).await?;
                return Ok(Stream::Dashboard(opened.into_inner()));
            }
            Subject::Account => Vec::new(),
            Subject::Named(names) => names.clone(),
        };
        let until_terminal = !names.is_empty();
        let request = WatchGenerationsRequest { names, until_terminal, resume_token, ..Default::default() };
        let opened =
            GenerationServiceClient::new(gateway).watch_generations(bearer(key, Request::new(request))).await?;
        Ok(Stream::Generations(opened.into_inner()))
    }

    /// Holds one watch open until the run is over, or the watch. One that is restless leaves its streams by itself, too.
    async fn keep(&self, held: Held, mut replica: usize, restless: bool, mut rng: Rng) {
        let mut token = String::new();
        while !self.watched.load(Ordering::Relaxed) {
            replica = 1 - replica;
            let opened = timeout(QUIET, self.open(&held, replica, token.clone())).await;
            match opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("no stream"))) {
                Ok(stream) => {
                    held.watch.add(Event::Opened { resumed: !token.is_empty() });
                    let leaves = restless.then(|| Instant::now() + Duration::from_millis(rng.u64(500..10_000)));
                    if self.follow(&held, stream, &mut token, leaves).await {
                        return;
                    }
                }
                Err(status) => {
                    self.broke(&status);
                    if status.code() == Code::OutOfRange {
                        held.watch.add(Event::Refused);
                        token.clear();
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Writes down what one stream brings, until it ends; says whether the watch is over with it.
    async fn follow(&self, held: &Held, mut stream: Stream, token: &mut String, leaves: Option<Instant>) -> bool {
        while !self.watched.load(Ordering::Relaxed) && leaves.is_none_or(|leaves| Instant::now() < leaves) {
            let event = match timeout(QUIET, self.next(held, &mut stream, token)).await {
                Ok(Ok(Some(event))) => event,
                Ok(Ok(None)) => {
                    held.watch.add(Event::Ended);
                    return held.watch.is_over();
                }
                Ok(Err(status)) => {
                    self.broke(&status);
                    break;
                }
                Err(_) => break,
            };
            held.watch.add(event);
        }
        held.watch.add(Event::Broken);
        false
    }

    async fn next(&self, held: &Held, stream: &mut Stream, token: &mut String) -> Result<Option<Event>, Status> {
        let generation = |generation: Generation| {
            let content = hash(&generation.encode_to_vec());
            self.showed(&generation.name, generation.version, content);
            State { key: generation.name, version: generation.version, over: generation.end_time.is_some() }
        };
        let (event, resume) = match stream {
            Stream::Generations(stream) => {
                let Some(sent) = stream.message().await? else { return Ok(None) };
                let event = match sent.event {
                    Some(GenerationEvent::Snapshot(all)) => {
                        Event::Snapshot(all.generations.into_iter().map(generation).collect())
                    }
                    Some(GenerationEvent::Update(one)) => Event::Update(generation(one)),
                    Some(GenerationEvent::Gap(_)) => Event::Gap,
                    Some(GenerationEvent::Moved(_)) => Event::Moved,
                    Some(GenerationEvent::Heartbeat(_)) | None => Event::Alive,
                };
                (event, sent.resume_token)
            }
            Stream::Dashboard(stream) => {
                let Some(sent) = stream.message().await? else { return Ok(None) };
                let event = match sent.event {
                    Some(DashboardEvent::Dashboard(whole)) if whole.version > 0 && whole.unreachable.is_empty() => {
                        let key = dashboard_key(self.owners[held.owner].number);
                        self.showed(&key, whole.version, hash(&whole.encode_to_vec()));
                        let state = State { key, version: whole.version, over: false };
                        // A fresh stream begins with all that there is. Where that lacked a part, the whole follows as a change.
                        if held.watch.is_fresh() { Event::Snapshot(vec![state]) } else { Event::Update(state) }
                    }
                    Some(DashboardEvent::Moved(_)) => Event::Moved,
                    Some(DashboardEvent::Dashboard(_) | DashboardEvent::Heartbeat(_)) | None => Event::Alive,
                };
                (event, sent.resume_token)
            }
        };
        *token = resume;
        Ok(Some(event))
    }

    /// What a watch shows binds whoever reads a second later, and its content is the one of its version.
    fn showed(&self, key: &str, version: i64, content: u64) {
        let now = Instant::now();
        let key = key.to_owned();
        let content = Some(content);
        self.history.add(Seen { key, version, content, begun: now, replied: now, by: None, kind: Kind::Watch });
    }

    /// Watches a few generations that began lately until they have ended, and then the next.
    async fn name_some(&self, owner: usize, mut rng: Rng) {
        let mut past = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let names = {
                let known = self.owners[owner].generations.lock().unwrap_or_else(PoisonError::into_inner);
                let names: Vec<_> = known.iter().skip(past.max(known.len().saturating_sub(NAMED))).cloned().collect();
                past = known.len();
                names
            };
            if names.is_empty() {
                sleep(PAUSE).await;
                continue;
            }
            let name = format!("{} generations of owner {owner}, before his {past}.", names.len());
            let held = self.hold(owner, Subject::Named(names), name);
            let rng = rng.fork();
            self.keep(held, owner % 2, owner < 2, rng).await;
        }
    }

    /// What each watch must know in the end.
    fn truths(&self, ends: &[(usize, String, i64)]) -> Vec<(Held, HashMap<String, i64>)> {
        let held = self.watches.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = held.into_iter().map(|held| {
            let of = |key: &String| match &held.subject {
                Subject::Dashboard => *key == dashboard_key(held.owner),
                Subject::Account => key.starts_with("generations/"),
                Subject::Named(names) => names.contains(key),
            };
            let its = ends.iter().filter(|(owner, key, _)| *owner == held.owner && of(key));
            let truth = its.map(|(_, key, version)| (key.clone(), *version)).collect();
            (held, truth)
        });
        all.collect()
    }

    /// Waits until all watches know how everything ended, lets them go, and checks all that they saw.
    pub(super) async fn check_watches(
        &self,
        watchers: Vec<JoinHandle<()>>,
        punctual: bool,
        violations: &mut Vec<String>,
    ) -> Result<WatchFindings> {
        let until = Instant::now() + TIMEOUT;
        let truths = loop {
            let truths = self.truths(&self.ends().await?);
            let behind = truths.iter().any(|(held, truth)| !held.watch.lacks(truth).is_empty());
            if !behind || Instant::now() > until {
                break truths;
            }
            sleep(PAUSE).await;
        };
        self.watched.store(true, Ordering::Relaxed);
        for watcher in watchers {
            watcher.await?;
        }
        // A dashboard is read through a gateway, so the version read may be a second old: a watch that knows a later one
        // is wrong only if no read ever finds it.
        let until = Instant::now() + TIMEOUT;
        let latest = loop {
            let latest = self.truths(&self.ends().await?);
            let ahead = latest.iter().any(|(held, truth)| !held.watch.exceeds(truth).is_empty());
            if !ahead || Instant::now() > until {
                break latest;
            }
            sleep(PAUSE).await;
        };
        let mut findings = WatchFindings::default();
        for ((held, truth), (_, latest)) in truths.iter().zip(&latest) {
            let known = self.history.known(truth.keys());
            held.watch.check(&known, truth, latest, punctual, &mut findings);
        }
        violations.append(&mut findings.violations);
        Ok(findings)
    }

    /// How everything ended: owners, keys, and the versions that there are.
    async fn ends(&self) -> Result<Vec<(usize, String, i64)>> {
        let owner = |account: &String| self.owners.iter().position(|owner: &Owner| owner.account == *account);
        let rows = self.cluster.generations().await?;
        let mut ends: Vec<_> =
            rows.into_iter().filter_map(|row| Some((owner(&row.account)?, row.name, row.version))).collect();
        for owner in &self.owners {
            // One that cannot be read now is read the next time round.
            if let Some(version) = self.read_dashboard(0, owner).await.filter(|version| *version > 0) {
                ends.push((owner.number, dashboard_key(owner.number), version));
            }
        }
        Ok(ends)
    }
}

/// Opens all watches.
pub(super) fn begin(workload: &Arc<Workload>, seed: u64) -> Vec<JoinHandle<()>> {
    let mut rng = Rng::with_seed(seed.wrapping_mul(7919));
    let mut watchers = Vec::new();
    for owner in 0..workload.owners.len() {
        for (replica, restless) in [(0, false), (1, true)] {
            for (subject, of) in [(Subject::Account, "generations"), (Subject::Dashboard, "the dashboard")] {
                let manner = if restless { "restless" } else { "steady" };
                let held = workload.hold(owner, subject, format!("a {manner} watch of {of} of owner {owner}"));
                let (workload, rng) = (Arc::clone(workload), rng.fork());
                watchers.push(tokio::spawn(async move { workload.keep(held, replica, restless, rng).await }));
            }
        }
        let (workload, rng) = (Arc::clone(workload), rng.fork());
        watchers.push(tokio::spawn(async move { workload.name_some(owner, rng).await }));
    }
    watchers
}
