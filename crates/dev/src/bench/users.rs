//! Five hundred people at once, while replicas restart: what they wait for their dashboards and statuses.
//!
//! Load comes at a fixed rate, 40 % of the most that the same people get answered, since their client shares the cores. Each request has its time,
//! whatever became of the one before, and what counts is how long after that time its answer was there: who waits behind a server that
//! stands still is counted for as long as that lasts. A read that fails is never a fast one: it is a row of its own.
//!
//! Dashboard and generation-status have two replicas each behind one name, which the gateway finds in a list of hosts of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use http::uri::PathAndQuery;
use prost::Message;
use proto::accounts::v1::CreateApiKeyRequest;
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::dashboard::v1::GetDashboardRequest;
use proto::generations::v1::GetGenerationRequest;
use proto::projects::v1::{Project, UpdateProjectRequest};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::hosts::Hosts;
use super::load::{self, Call};
use super::plot::Plot;
use super::progress::say;
use super::report::{Findings, Row, millis, percentile};
use super::services::Service;
use super::setup::Bench;
use super::{statements, warm};

const UPDATE: &str = "/rushes.projects.v1.ProjectService/UpdateProject";
/// People, each with a connection.
const USERS: usize = 500;
/// Accounts, of which the n-th is asked for 1/n as often.
const ACCOUNTS: usize = 20_000;
/// Keys that are made at a time.
const MAKING: usize = 32;
/// Of a hundred requests so many change a project, and so many of the others ask for a status.
const WRITES: usize = 5;
const STATUSES: usize = 20;
/// How much of the most that is answered is asked for.
const SHARE: f64 = 0.4;
/// What is told of as slow.
const SLOW: Duration = Duration::from_millis(100);
/// How long the most is looked for.
const PEAK_TIME: Duration = Duration::from_secs(5);
/// How long a run lasts, in full and in a quick look.
const TIME: Duration = Duration::from_secs(40);
const QUICK_TIME: Duration = Duration::from_secs(12);

/// The goals, in milliseconds: of the median, the 99th and the 99.9th percentile.
const GOALS: [(&str, f64, f64); 3] = [("p50", 0.5, 5.0), ("p99", 0.99, 20.0), ("p999", 0.999, 200.0)];

/// What the gateway calls the services, and where their replicas are.
const HOSTS: &str = "127.0.0.1 localhost\n127.0.0.1 replicas.test\n127.0.0.2 replicas.test\n";

pub(super) async fn measure(bench: &Bench) -> Result<Findings> {
    if !Hosts::are_supported() {
        say("users: a process cannot be told hosts of its own here (unshare --mount), so the row is left out");
        return Ok(Findings::default());
    }
    let people = Arc::new(People::of(bench).await?);
    let mut replicas = Replicas::start(bench).await?;
    let address = replicas.gateway.address();
    // A first time fills caches and connections.
    peak(&people, address).await?;
    let peak = peak(&people, address).await?;
    let rate = peak * SHARE;
    say(&format!("{USERS} people: {rate:.0} requests a second, of at most {peak:.0}"));
    let time = if bench.options.is_quick() { QUICK_TIME } else { TIME };
    let (mut failed, mut waits) = (0, Vec::new());
    let mut rounds = vec![Vec::new(); GOALS.len()];
    for round in 0..=bench.options.rounds {
        let (found, restarted) = tokio::join!(ask(&people, address, rate, time), replicas.restart_each(bench, time));
        restarted?;
        let mut found = found?;
        // The first round fills caches and connections.
        if round == 0 {
            continue;
        }
        if let Some(first) = &found.first_failure {
            say(&format!("{} reads failed; {first}", found.failed));
        }
        failed += found.failed;
        found.waits.sort_unstable();
        if let (Some(first), Some(last)) = (found.slow.iter().min(), found.slow.iter().max()) {
            let count = found.slow.len();
            say(&format!(
                "{count} reads took longer than {SLOW:?}, due from {first:.1?} to {last:.1?} after the start"
            ));
        }
        say(&format!(
            "{} reads, {} changes, of which {} were refused; the longest wait {:.0?}",
            found.waits.len(),
            found.writes,
            found.refused_writes,
            found.waits.last().copied().unwrap_or_default()
        ));
        for (rounds, (_, share, _)) in rounds.iter_mut().zip(GOALS) {
            rounds.push(millis(percentile(&found.waits, share)));
        }
        waits.extend(found.waits);
    }
    let what = "the figure aimed at, of reads while a dashboard, a generation-status and a worker restart";
    let row = |((name, _, goal), ours): (&(&str, f64, f64), Vec<f64>)| {
        Row::figure_goal(format!("users_{name}"), "ms", *goal, what, &ours)
    };
    let mut rows: Vec<Row> = GOALS.iter().zip(rounds).map(row).collect();
    // Half a read, since a row holds up to its figure.
    rows.push(Row::figure_goal("users_failed", "reads", 0.5, "none, in all rounds", &[failed as f64]));
    Ok(Findings { rows, plots: vec![distribution(waits)] })
}

/// What the slowest of so many reads took at least.
fn distribution(mut waits: Vec<Duration>) -> Plot {
    waits.sort_unstable();
    let parts = (0..=6).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
    let parts = parts.filter(|part| (2.0..=waits.len() as f64).contains(part));
    let points = parts.map(|part| (part, millis(percentile(&waits, 1.0 - 1.0 / part)))).collect();
    let title = format!("Reads of {USERS} people while a dashboard, a generation-status and a worker restart");
    Plot::new(title, "one read of so many takes this long or longer", "ms").with("ours", points)
}

/// What the people have asked for.
#[derive(Default)]
struct Found {
    /// How long each read took, from when it was due.
    waits: Vec<Duration>,
    /// When those were due that took longer than [`SLOW`].
    slow: Vec<Duration>,
    /// Reads that failed, which are among the waits as well; and what the first of them said, and when.
    failed: usize,
    first_failure: Option<String>,
    writes: usize,
    refused_writes: usize,
}

/// A connection for each of them, from an address of their own: what one address may do is limited.
async fn connect(address: SocketAddr) -> Result<Vec<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let connections = (1_u8..=250).flat_map(|last| [Ipv4Addr::new(127, 1, 0, last), Ipv4Addr::new(127, 1, 1, last)]);
    let connections = futures::stream::iter(connections.take(USERS))
        .map(|from| {
            let endpoint = endpoint.clone().local_address(Some(from.into()));
            async move { endpoint.connect().await }
        })
        .buffered(MAKING);
    connections.try_collect().await.context("connecting to the gateway")
}

/// How many requests a second are answered to people who ask again as soon as they have an answer.
async fn peak(people: &Arc<People>, address: SocketAddr) -> Result<f64> {
    let mut users = JoinSet::new();
    let (connections, start) = (connect(address).await?, Instant::now());
    for connection in connections {
        let people = people.clone();
        users.spawn(async move {
            let mut client = Grpc::new(connection);
            let mut answered = 0_u32;
            while start.elapsed() < PEAK_TIME {
                let (_, call) = people.next();
                // At first many keys are looked up at once, of which some are refused.
                answered += u32::from(load::ask(&mut client, &call).await.is_ok());
            }
            anyhow::Ok(answered)
        });
    }
    let mut answered = 0;
    while let Some(user) = users.join_next().await {
        answered += user??;
    }
    Ok(f64::from(answered) / start.elapsed().as_secs_f64())
}

/// Has people ask at this rate for this time.
async fn ask(people: &Arc<People>, address: SocketAddr, rate: f64, time: Duration) -> Result<Found> {
    let connections = connect(address).await?;
    let pause = Duration::from_secs_f64(USERS as f64 / rate);
    let start = Instant::now();
    let mut users = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        let first = start + pause.mul_f64(number as f64 / USERS as f64);
        users.spawn(one(people.clone(), connection, first, pause, start..start + time));
    }
    let mut all = Found::default();
    while let Some(found) = users.join_next().await {
        let found = found??;
        all.waits.extend(found.waits);
        all.slow.extend(found.slow);
        all.failed += found.failed;
        all.first_failure = all.first_failure.or(found.first_failure);
        all.writes += found.writes;
        all.refused_writes += found.refused_writes;
    }
    ensure!(!all.waits.is_empty(), "nobody asked");
    Ok(all)
}

/// One of them: asks every `pause` from `due` on, until the time is over.
async fn one(
    people: Arc<People>,
    connection: Channel,
    mut due: Instant,
    pause: Duration,
    time: Range<Instant>,
) -> Result<Found> {
    let mut asked = JoinSet::new();
    while due < time.end {
        sleep_until(due).await;
        let (is_write, call) = people.next();
        let mut client = Grpc::new(connection.clone());
        let at = due;
        asked.spawn(async move { (is_write, load::ask(&mut client, &call).await, at, at.elapsed()) });
        due += pause;
    }
    let mut found = Found::default();
    while let Some(answered) = asked.join_next().await {
        let (is_write, answer, at, wait) = answered?;
        let due = at - time.start;
        if !is_write && wait > SLOW {
            found.slow.push(due);
        }
        match (is_write, answer) {
            (false, Ok(_)) => found.waits.push(wait),
            (false, Err(error)) => {
                found.failed += 1;
                found.first_failure =
                    Some(format!("one that was due after {due:.1?} failed {wait:.1?} later: {error:#}"));
                found.waits.push(wait);
            }
            (true, answer) => {
                found.writes += 1;
                found.refused_writes += usize::from(answer.is_err());
            }
        }
    }
    Ok(found)
}

/// The accounts that are asked for.
struct People {
    accounts: Vec<Account>,
    /// What the first n are asked for together, of 1.
    shares: Vec<f64>,
}

struct Account {
    metadata: MetadataMap,
    generation: Uuid,
    project: Uuid,
}

impl People {
    async fn of(bench: &Bench) -> Result<Self> {
        let mut all = bench.seeded.all.clone();
        fastrand::Rng::with_seed(bench.options.seed).shuffle(&mut all);
        all.truncate(ACCOUNTS);
        say(&format!("{} accounts with a key each", all.len()));
        let mut database = bench.database.connect().await?;
        let shown = statements::shown(&mut database, &all).await?;
        let client = AccountServiceClient::new(bench.services.service("dashboard")?.doors()?);
        let keys = futures::stream::iter(shown).map(|(account, project, generation)| {
            let mut client = client.clone();
            async move {
                let parent = format!("accounts/{account}");
                let request = CreateApiKeyRequest { parent, ..CreateApiKeyRequest::default() };
                let secret = client.create_api_key(request).await.context("creating an API key")?.into_inner().secret;
                let mut metadata = MetadataMap::new();
                metadata.insert("authorization", format!("Bearer {secret}").parse()?);
                anyhow::Ok(Account { metadata, generation, project })
            }
        });
        let accounts: Vec<Account> = keys.buffer_unordered(MAKING).try_collect().await?;
        let weights = (1..=accounts.len()).map(|rank| 1.0 / rank as f64);
        let all: f64 = weights.clone().sum();
        let shares = weights.scan(0.0, |sum, weight| {
            *sum += weight / all;
            Some(*sum)
        });
        Ok(Self { shares: shares.collect(), accounts })
    }

    fn account(&self) -> &Account {
        let at = fastrand::f64();
        let rank = self.shares.partition_point(|share| *share < at);
        &self.accounts[rank.min(self.accounts.len() - 1)]
    }

    /// What one of them asks next, and whether it changes something.
    fn next(&self) -> (bool, Call) {
        let is_write = fastrand::usize(..100) < WRITES;
        (is_write, if is_write { self.write() } else { self.read() })
    }

    fn read(&self) -> Call {
        let account = self.account();
        if fastrand::usize(..100) < STATUSES {
            let name = format!("generations/{}", account.generation);
            return warm::call(warm::GENERATION, &GetGenerationRequest { name, min_version: 0 }, &account.metadata);
        }
        warm::call(warm::DASHBOARD, &GetDashboardRequest::default(), &account.metadata)
    }

    fn write(&self) -> Call {
        let account = self.account();
        let (name, title) = (format!("projects/{}", account.project), Uuid::now_v7().to_string());
        let project = Some(Project { name, title, ..Project::default() });
        let message = UpdateProjectRequest { project, update_mask: None }.encode_to_vec().into();
        Call { path: PathAndQuery::from_static(UPDATE), message, metadata: account.metadata.clone() }
    }
}

/// A gateway, and second replicas of the services behind it.
struct Replicas {
    gateway: Service,
    dashboard: Option<Service>,
    status: Option<Service>,
    worker: Option<Service>,
}

impl Replicas {
    async fn start(bench: &Bench) -> Result<Self> {
        let named = |address: SocketAddr| format!("http://replicas.test:{}", address.port());
        let (dashboard, status) = (bench.services.service("dashboard")?, bench.services.service("generation-status")?);
        Ok(Self {
            dashboard: Some(bench.services.replica("dashboard", 2).await?),
            status: Some(bench.services.replica("generation-status", 2).await?),
            worker: Some(bench.services.another("generation-worker", &[]).await?),
            gateway: bench
                .services
                .another_that_knows(
                    &Hosts::write(bench.database.folder(), HOSTS)?,
                    "gateway",
                    &[
                        ("RUSHES_DASHBOARD_URL", &named(dashboard.address())),
                        ("RUSHES_DASHBOARD_INTERNAL_URL", &named(dashboard.internal_address())),
                        ("RUSHES_GENERATION_STATUS_URL", &named(status.address())),
                    ],
                )
                .await?,
        })
    }

    /// Ends one of each and starts it again, at the first, second and third quarter of this time.
    async fn restart_each(&mut self, bench: &Bench, time: Duration) -> Result<()> {
        let start = Instant::now();
        sleep_until(start + time / 4).await;
        end(self.dashboard.take()).await?;
        self.dashboard = Some(bench.services.replica("dashboard", 2).await?);
        sleep_until(start + time / 2).await;
        end(self.status.take()).await?;
        self.status = Some(bench.services.replica("generation-status", 2).await?);
        sleep_until(start + time * 3 / 4).await;
        end(self.worker.take()).await?;
        self.worker = Some(bench.services.another("generation-worker", &[]).await?);
        Ok(())
    }
}

/// Ends a process in an orderly way, which blocks a thread.
async fn end(service: Option<Service>) -> Result<()> {
    tokio::task::spawn_blocking(move || drop(service)).await.context("a service could not be ended")
}
