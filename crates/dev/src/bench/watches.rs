//! Watches of dashboards by the thousand, through both hops: what each takes in the gateway and in the service while nothing
//! happens, and how a change reaches all who watch.
//!
//! The watchers are spread over as many accounts as there are to measure with. Their client is this process, so what is compared is memory and
//! CPU time of the two servers, and a time from the answer of a change until the last watcher of the account has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::dashboard::v1::{GetDashboardRequest, WatchDashboardRequest};
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{Project, UpdateProjectRequest};
use testkit::AsBytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tonic::Request;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::load::{Call, Target};
use super::plot::Plot;
use super::process;
use super::progress::say;
use super::report::{Findings, Round, Row, millis};
use super::services::Service;
use super::setup::Bench;
use super::warm;

const WATCH: &str = "/rushes.dashboard.v1.DashboardService/WatchDashboard";
/// How many are open at each step.
const COUNTS: [usize; 3] = [1_000, 10_000, 100_000];
/// In a quick look.
const QUICK_COUNTS: [usize; 2] = [200, 1_000];
/// Opened before anything is measured.
const FIRST: usize = 100;
/// Of one account, at most.
const MAX_OF_ACCOUNT: usize = 900;
/// On one connection of the client.
const ON_CONNECTION: usize = 500;
/// Watches that are being opened at a time.
const OPENING: usize = 64;
/// How long all watches of a step may take to open, and a change to arrive.
const LIMIT: Duration = Duration::from_secs(300);
/// How long nothing happens: two heartbeats of each watch.
const IDLE: Duration = Duration::from_secs(30);
/// How long they are left alone before that.
const SETTLED: Duration = Duration::from_secs(3);

/// The resident memory of one watch in one process.
const MEMORY_GOAL: f64 = 8.0;
/// What an idle watch may use of both processes' CPU, heartbeats included: a million of them on four cores.
const IDLE_GOAL: f64 = 4.0;
/// From the answer of a change until the last watcher of its account has it.
const ARRIVAL_GOAL: f64 = 100.0;

pub(super) async fn measure(bench: &Bench) -> Result<Findings> {
    let gateway = bench
        .services
        .another(
            "gateway",
            &[
                ("RUSHES_MAX_STREAMS_PER_CONNECTION", "4096"),
                ("RUSHES_MAX_CONNECTIONS_PER_ADDRESS", "1000"),
                ("RUSHES_MAX_REQUESTS_PER_ADDRESS", "1000000"),
            ],
        )
        .await?;
    let servers = [&gateway, bench.services.service("dashboard")?];
    let mut accounts = Vec::new();
    for account in bench.seeded.warm() {
        accounts.push(Account::open(bench, &gateway, *account).await?);
    }
    let max = accounts.len() * MAX_OF_ACCOUNT;
    let counts = if bench.options.is_quick() { &QUICK_COUNTS[..] } else { &COUNTS[..] };
    if let Some(left_out) = counts.iter().find(|count| **count > max) {
        say(&format!("{left_out} watches are left out: there are {} accounts, with at most {max}", accounts.len()));
    }
    // What the first watches bring with them, of connections and buffers, is no watch's.
    let mut watchers = Watchers::new(&gateway, accounts);
    watchers.open_until(FIRST).await?;
    let (mut rows, base) = (Vec::new(), idle_usage(&mut watchers, servers).await?);
    let mut curves = [Vec::new(), Vec::new(), Vec::new()];
    for count in counts.iter().copied().filter(|count| *count <= max) {
        say(&format!("{count} watches"));
        let began = Instant::now();
        watchers.open_until(count).await?;
        say(&format!("{count} watches open after {:.1?}", began.elapsed()));
        let idle = idle(&mut watchers, servers, base, count).await?;
        for (curve, row) in curves.iter_mut().zip(&idle) {
            // What cannot be told from nothing has no place on the axes.
            curve.extend(Some((count as f64, row.ours)).filter(|(_, ours)| *ours > 0.0));
        }
        rows.extend(idle);
        rows.extend(changes(bench, &mut watchers, servers, count).await?);
    }
    watchers.all_are_open()?;
    let [gateway, dashboard, cpu] = curves;
    let memory = Plot::new("Memory of one watch", "watches that are open", "KiB");
    let memory = memory.with("gateway", gateway).with("dashboard", dashboard);
    let cpu =
        Plot::new("CPU of one idle watch in both processes", "watches that are open", "us a second").with("both", cpu);
    Ok(Findings { rows, plots: vec![memory, cpu] })
}

/// What both processes take while nothing happens.
#[derive(Clone, Copy)]
struct Usage {
    resident: [u64; 2],
    descriptors: [usize; 2],
    /// CPU of both, in microseconds a second.
    cpu: f64,
}

async fn idle_usage(watchers: &mut Watchers, servers: [&Service; 2]) -> Result<Usage> {
    let [gateway, dashboard] = servers.map(Service::pid);
    // What opened the watches is over, and the relay has noticed that nothing changes.
    tokio::time::sleep(SETTLED).await;
    let before = cpu(servers)?;
    tokio::time::sleep(IDLE).await;
    let cpu = (cpu(servers)? - before).as_secs_f64() * 1e6 / IDLE.as_secs_f64();
    watchers.all_are_open()?;
    Ok(Usage {
        resident: [process::resident(gateway)?, process::resident(dashboard)?],
        descriptors: [process::descriptors(gateway)?, process::descriptors(dashboard)?],
        cpu,
    })
}

fn cpu(servers: [&Service; 2]) -> Result<Duration> {
    servers.into_iter().map(|server| process::cpu(server.pid())).sum()
}

/// What so many watches take while nothing happens.
async fn idle(watchers: &mut Watchers, servers: [&Service; 2], base: Usage, count: usize) -> Result<Vec<Row>> {
    let now = idle_usage(watchers, servers).await?;
    say(&format!(
        "{count} watches: descriptors of the gateway {}, of dashboard {}",
        now.descriptors[0], now.descriptors[1]
    ));
    let more = (count - FIRST) as f64;
    let mut rows = Vec::new();
    for (at, name) in ["gateway", "dashboard"].into_iter().enumerate() {
        let kib = now.resident[at].saturating_sub(base.resident[at]) as f64 / 1024.0 / more;
        let row = format!("watch_memory_{name}_{count}");
        rows.push(Row::figure_goal(row, "KiB", MEMORY_GOAL, "the figure aimed at, for one watch", &[kib]));
    }
    let what =
        "a million idle watches on four cores: CPU of both servers for one watch and second, heartbeats included";
    rows.push(Row::figure_goal(
        format!("watch_idle_cpu_{count}"),
        "us",
        IDLE_GOAL,
        what,
        // Of few watches it is less than what that of the services varies by.
        &[(now.cpu - base.cpu).max(0.0) / more],
    ));
    Ok(rows)
}

/// How a change reaches the watchers of its account, and what a delivery costs when every account changes at once.
async fn changes(bench: &Bench, watchers: &mut Watchers, servers: [&Service; 2], count: usize) -> Result<Vec<Row>> {
    let rounds = usize::try_from(bench.options.rounds)?;
    let mut arrivals = Vec::new();
    for round in 0..rounds {
        arrivals.push(millis(watchers.change(round % watchers.accounts.len()).await?));
    }
    // A poll of the same dashboard, answered from the same caches, is what a delivery saves.
    let poll = watchers.accounts.first().context("no account is left")?;
    let target = Target::connect(poll.gateway, servers.map(Service::pid).to_vec(), vec![poll.call()]).await?;
    let mut deliveries = Vec::new();
    for _ in 0..rounds {
        let (before, began) = (cpu(servers)?, Instant::now());
        let delivered = watchers.change_all().await?;
        let (used, took) = (cpu(servers)? - before, began.elapsed());
        say(&format!("{count} watches: {:.0} deliveries a second", delivered as f64 / took.as_secs_f64()));
        let poll = target.load(Duration::from_secs(1)).await?;
        deliveries.push(Round { ours: used.as_secs_f64() * 1e6 / delivered as f64, beside: poll.cpu });
    }
    let what = "the figure aimed at, from the answer of a change until the last watcher of the account has it";
    Ok(vec![
        Row::figure_goal(format!("watch_arrival_{count}"), "ms", ARRIVAL_GOAL, what, &arrivals),
        Row::new(
            format!("watch_delivery_cpu_{count}"),
            "us",
            "one poll of the same dashboard through the same two servers; CPU of both, the change of each account included",
            1.0,
            &deliveries,
        ),
    ])
}

/// An account with a project to change.
struct Account {
    gateway: std::net::SocketAddr,
    metadata: MetadataMap,
    project: String,
    projects: ProjectServiceClient<Channel>,
    /// A permit for each dashboard that a watcher of it was sent.
    events: Arc<Semaphore>,
    watchers: u32,
}

impl Account {
    async fn open(bench: &Bench, gateway: &Service, account: Uuid) -> Result<Self> {
        let metadata = warm::key(bench, account).await?;
        let channel = gateway.channel().await?;
        let request = with(&metadata, GetDashboardRequest::default());
        let dashboard = DashboardServiceClient::new(channel.clone()).get_dashboard(request).await?.into_inner();
        let project = dashboard.projects.first().context("an account without projects")?.name.clone();
        let projects = ProjectServiceClient::new(channel);
        let (events, watchers) = (Arc::new(Semaphore::new(0)), 0);
        Ok(Self { gateway: gateway.address(), metadata, project, projects, events, watchers })
    }

    /// A poll of its dashboard.
    fn call(&self) -> Call {
        warm::call(warm::DASHBOARD, &GetDashboardRequest::default(), &self.metadata)
    }

    /// Gives its project another title; the answer says that it is committed.
    fn rename(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        let project = Project { name: self.project.clone(), title: Uuid::now_v7().to_string(), ..Project::default() };
        let request = with(&self.metadata, UpdateProjectRequest { project: Some(project), update_mask: None });
        let mut projects = self.projects.clone();
        async move {
            projects.update_project(request).await.context("changing a watched account")?;
            Ok(())
        }
    }

    /// What its watchers were sent so far counts no more.
    fn forget(&self) {
        self.events.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Waits until each of its watchers was sent a dashboard since then.
    async fn arrived(&self) -> Result<()> {
        self.events.acquire_many(self.watchers).await?.forget();
        Ok(())
    }
}

/// Open watches.
struct Watchers {
    address: std::net::SocketAddr,
    accounts: Vec<Account>,
    connections: Vec<Channel>,
    open: usize,
    /// Each ends only with an error.
    watches: JoinSet<Result<()>>,
}

impl Watchers {
    fn new(gateway: &Service, accounts: Vec<Account>) -> Self {
        Self { address: gateway.address(), accounts, connections: Vec::new(), open: 0, watches: JoinSet::new() }
    }

    /// Opens more, in turns over the accounts, until there are `count`; each was sent its first dashboard then.
    async fn open_until(&mut self, count: usize) -> Result<()> {
        let opening = Arc::new(Semaphore::new(OPENING));
        let deadline = tokio::time::Instant::now() + LIMIT;
        while self.open < count {
            if self.open == self.connections.len() * ON_CONNECTION {
                let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?;
                self.connections.push(endpoint.connect().await.context("connecting to the gateway")?);
            }
            let accounts = self.accounts.len();
            let account = &mut self.accounts[self.open % accounts];
            account.watchers += 1;
            let client = Grpc::new(self.connections[self.open / ON_CONNECTION].clone());
            let permit = tokio::time::timeout_at(deadline, opening.clone().acquire_owned())
                .await
                .with_context(|| format!("{} watches were opened within {LIMIT:?}", self.open))??;
            self.watches.spawn(watch(client, account.metadata.clone(), account.events.clone(), permit));
            self.open += 1;
            self.all_are_open()?;
        }
        let all = opening.acquire_many(u32::try_from(OPENING)?);
        let _ = tokio::time::timeout_at(deadline, all).await.context("the last watches were not opened")??;
        self.all_are_open()
    }

    /// The first error of a watch that has ended.
    fn all_are_open(&mut self) -> Result<()> {
        match self.watches.try_join_next() {
            Some(ended) => ended?,
            None => Ok(()),
        }
    }

    /// Changes one account; how long after the answer its last watcher had the change.
    async fn change(&mut self, account: usize) -> Result<Duration> {
        let account = &self.accounts[account];
        account.forget();
        account.rename().await?;
        let began = Instant::now();
        tokio::time::timeout(LIMIT, account.arrived()).await.context("a change did not reach all watchers")??;
        Ok(began.elapsed())
    }

    /// Changes all accounts at once, waits until all watchers have it, and says how many these are.
    async fn change_all(&mut self) -> Result<usize> {
        let mut changes = JoinSet::new();
        for account in &self.accounts {
            account.forget();
            changes.spawn(account.rename());
        }
        while let Some(changed) = changes.join_next().await {
            changed??;
        }
        let all = async {
            for account in &self.accounts {
                account.arrived().await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LIMIT, all).await.context("changes did not reach all watchers")??;
        self.all_are_open()?;
        ensure!(self.open > 0, "nobody watches");
        Ok(self.open)
    }
}

/// Watches until the stream ends, and gives a permit for each dashboard that comes.
async fn watch(
    mut client: Grpc<Channel>,
    metadata: MetadataMap,
    events: Arc<Semaphore>,
    opening: OwnedSemaphorePermit,
) -> Result<()> {
    client.ready().await?;
    let request = with(&metadata, Bytes::from(WatchDashboardRequest::default().encode_to_vec()));
    let watched = client.server_streaming(request, PathAndQuery::from_static(WATCH), AsBytes).await;
    let mut stream = watched.context("opening a watch")?.into_inner();
    let mut opening = Some(opening);
    while let Some(event) = stream.message().await.context("a watch broke")? {
        // The key of the first field, which a dashboard is; a heartbeat and the end are others.
        if event.first() == Some(&0x0a) {
            events.add_permits(1);
            opening = None;
        }
    }
    drop(opening);
    bail!("a watch has ended")
}

fn with<T>(metadata: &MetadataMap, message: T) -> Request<T> {
    let mut request = Request::new(message);
    *request.metadata_mut() = metadata.clone();
    request
}
