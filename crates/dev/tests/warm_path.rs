//! What a warm read costs, counted where a busy machine changes nothing: allocations, system calls and instructions of client, gateway and
//! service together, which run on the one thread that is counted.
//!
//! System calls are counted by strace and instructions by callgrind, which run [`counted_reads`] in a process of its own; where one is not
//! installed its test says so and counts nothing.
//!
//! A bound is what is taken today and a little; who needs more says why in the change that raises it.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use allocation_counter::AllocationInfo;
use bytes::Bytes;
use chassis::drain::Drain;
use chassis::settings::Source;
use http::uri::PathAndQuery;
use prost::Message;
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::accounts::v1::{Account, CreateAccountRequest, CreateApiKeyRequest};
use proto::credits::v1::GrantCreditsRequest;
use proto::credits::v1::credit_service_client::CreditServiceClient;
use proto::dashboard::v1::GetDashboardRequest;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::{GetGenerationRequest, Input, StartGenerationRequest};
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{CreateProjectRequest, CreateSceneRequest, Project, Scene};
use testkit::{AsBytes, Database, Doors, INTERNAL_KEYS, Nats, Redis};
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::Channel;
use uuid::Uuid;

const DASHBOARD: &str = "/rushes.dashboard.v1.DashboardService/GetDashboard";
const GENERATION: &str = "/rushes.generations.v1.GenerationService/GetGeneration";
/// The most allocations of a warm dashboard, and of a warm status.
const MAX_DASHBOARD: u64 = 145;
const MAX_STATUS: u64 = 148;
/// The most system calls of each.
const MAX_SYSTEM_CALLS: [u64; 2] = [21, 21];
/// The most instructions of each in a development build, in thousands.
const MAX_KILO_INSTRUCTIONS: [u64; 2] = [11_200, 11_900];
/// Calls that strace counts one by one; the median is taken, since the cache's clock and its proofs fall into some of them.
const TRACED: usize = 60;
/// Calls that callgrind counts together, before which it makes everything many times as slow.
const SIMULATED: usize = 20;
/// How many [`counted_reads`] is to make of each.
const CALLS_SETTING: &str = "RUSHES_COUNTED_CALLS";
/// A file that is nowhere: to ask for it is a system call that is taken for no other.
const MARK: &str = "/rushes/one-more-call";
/// Calls that are counted together.
const CALLS: u64 = 200;
/// How often they are: the clock of the cache and the heartbeats of connections allocate beside some of them.
const ROUNDS: usize = 5;

/// The services in this process, on the thread of its runtime alone, and a caller with a key.
struct Cluster {
    runtime: Runtime,
    channel: Channel,
    key: String,
    generation: String,
    drain: Drain,
    _servers: (Database, Redis, Nats),
}

impl Cluster {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Self::open()).with(runtime)
    }

    async fn open() -> Opened {
        let servers = (Database::fresh().await.unwrap(), Redis::launch().await.unwrap(), Nats::launch().await.unwrap());
        let (database, redis, nats) = &servers;
        let drain = Drain::default().with_grace(Duration::from_secs(1));
        let source = |service| {
            Source::of(&[
                ("RUSHES_DATABASE_URL", &database.url_of(service)),
                ("RUSHES_REDIS_URL", &redis.url()),
                ("RUSHES_NATS_URL", &nats.url()),
                ("RUSHES_INTERNAL_KEYS", INTERNAL_KEYS),
                ("RUSHES_PUBLIC_URL", "https://rushes.test"),
                ("RUSHES_CACHE_OBSERVE", "0"),
                // Under strace everything takes longer, and no server is away for that.
                ("RUSHES_DATABASE_UNRESPONSIVE_AFTER", "2s"),
            ])
        };
        let config = dashboard::Config::read(&source(testkit::Service::Dashboard)).unwrap();
        let bound = dashboard::Service::open(&config).await.unwrap().bind().await.unwrap();
        let (dashboard, dashboard_internal) = (bound.addr(), bound.internal_addr());
        tokio::spawn(bound.serve(drain.clone()));
        let config = generation_status::Config::read(&source(testkit::Service::GenerationStatus)).unwrap();
        let bound = generation_status::Service::open(&config).await.unwrap().bind().await.unwrap();
        let (status, status_internal) = (bound.addr(), bound.internal_addr());
        tokio::spawn(bound.serve(drain.clone()));
        let config = gateway::Config::read(&Source::of(&[
            ("RUSHES_DASHBOARD_URL", &format!("http://{dashboard}")),
            ("RUSHES_DASHBOARD_INTERNAL_URL", &format!("http://{dashboard_internal}")),
            ("RUSHES_GENERATION_STATUS_URL", &format!("http://{status}")),
            ("RUSHES_THUMBNAIL_WORKER_URL", "http://127.0.0.1:1"),
            ("RUSHES_NATS_URL", &nats.url()),
            ("RUSHES_INTERNAL_KEYS", INTERNAL_KEYS),
            ("RUSHES_PUBLIC_URL", "https://rushes.test"),
            ("RUSHES_BLOBS_URL", &format!("file://{}", std::env::temp_dir().display())),
        ]));
        let bound = gateway::Service::open(&config.unwrap()).await.unwrap().bind().await.unwrap();
        let address = bound.addr();
        tokio::spawn(bound.serve(drain.clone()));

        let accounts = Doors::of("dashboard", dashboard, dashboard_internal);
        let credits = Doors::of("generation-status", status, status_internal);
        let (account, key) = account(accounts, credits).await;
        #[expect(clippy::disallowed_methods, reason = "a client of the outside has no chassis")]
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let generation = start_generation(channel.clone(), &key).await;
        assert!(account.starts_with("accounts/") && generation.starts_with("generations/"));
        Opened { channel, key, generation, drain, servers }
    }

    /// Asks once, and gives the answer's bytes.
    async fn ask(&self, path: &'static str, message: Bytes) -> usize {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let request = with(&self.key, message);
        let answer = client.unary(request, PathAndQuery::from_static(path), AsBytes).await.unwrap();
        answer.into_inner().len()
    }

    /// The two messages that are asked with.
    fn messages(&self) -> [(&'static str, Bytes); 2] {
        let generation = GetGenerationRequest { name: self.generation.clone(), min_version: 0 };
        [(DASHBOARD, GetDashboardRequest::default().encode_to_vec()), (GENERATION, generation.encode_to_vec())]
            .map(|(path, message)| (path, message.into()))
    }

    /// The allocations and allocated bytes of a call that is asked again and again, in the round that had fewest.
    fn cost(&self, path: &'static str, message: &Bytes) -> (u64, u64) {
        let calls = || {
            self.runtime.block_on(async {
                for _ in 0..CALLS {
                    self.ask(path, message.clone()).await;
                }
            });
        };
        // Connections, caches and buffers have what they need after it.
        calls();
        let rounds: Vec<AllocationInfo> = (0..ROUNDS).map(|_| allocation_counter::measure(calls)).collect();
        let min = rounds.iter().min_by_key(|round| round.count_total).unwrap();
        (min.count_total / CALLS, min.bytes_total / CALLS)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

/// What a cluster is made of, but for its runtime.
struct Opened {
    channel: Channel,
    key: String,
    generation: String,
    drain: Drain,
    servers: (Database, Redis, Nats),
}

impl Opened {
    fn with(self, runtime: Runtime) -> Cluster {
        let Self { channel, key, generation, drain, servers } = self;
        Cluster { runtime, channel, key, generation, drain, _servers: servers }
    }
}

/// A message with an API key.
fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    // As much as is let: under a tool everything takes longer.
    request.set_timeout(Duration::from_secs(10));
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

/// An account with credits, and a key of it.
async fn account(accounts: Doors, credits: Doors) -> (String, String) {
    let mut accounts = AccountServiceClient::new(accounts);
    let account = Account { display_name: "Ada".to_owned(), ..Account::default() };
    let made = accounts.create_account(CreateAccountRequest { account: Some(account) }).await.unwrap();
    let account = made.into_inner().name;
    let request = CreateApiKeyRequest { parent: account.clone(), ..CreateApiKeyRequest::default() };
    let key = accounts.create_api_key(request).await.unwrap().into_inner().secret;
    let request_id = Uuid::now_v7().to_string();
    let request = GrantCreditsRequest { account: account.clone(), amount_micros: 1_000_000_000, request_id };
    CreditServiceClient::new(credits).grant_credits(request).await.unwrap();
    (account, key)
}

/// A project with a scene, and a generation in it that waits for a worker.
async fn start_generation(channel: Channel, key: &str) -> String {
    let mut projects = ProjectServiceClient::new(channel.clone());
    let project = Project { title: "A project".to_owned(), ..Project::default() };
    let request = CreateProjectRequest { project: Some(project), request_id: Uuid::now_v7().to_string() };
    let parent = projects.create_project(with(key, request)).await.unwrap().into_inner().name;
    let scene = Scene { title: "A scene".to_owned(), ..Scene::default() };
    let request = CreateSceneRequest { parent, scene: Some(scene), request_id: Uuid::now_v7().to_string() };
    let scene = projects.create_scene(with(key, request)).await.unwrap().into_inner().name;
    let request = StartGenerationRequest {
        scene,
        model: "models/local-sketch".to_owned(),
        input: Some(Input { prompt: "a heron at dawn".to_owned(), ..Input::default() }),
        request_id: Uuid::now_v7().to_string(),
        ..StartGenerationRequest::default()
    };
    GenerationServiceClient::new(channel).start_generation(with(key, request)).await.unwrap().into_inner().name
}

#[test]
fn a_warm_read_allocates_no_more_than_it_did() {
    let cluster = Cluster::start();
    let [dashboard, status] = cluster.messages().map(|(path, message)| cluster.cost(path, &message));
    println!("allocations and bytes of a call, with its client: dashboard {dashboard:?}, status {status:?}");
    assert!(dashboard.0 <= MAX_DASHBOARD, "{dashboard:?}");
    assert!(status.0 <= MAX_STATUS, "{status:?}");
}

/// A folder that goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn make(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("rushes-{name}-{}", Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A folder with what `tool` wrote there while it ran [`counted_reads`]; nothing where it is not installed, or may not look.
fn observed_reads(tool: &str, calls: usize, trial: &[&str], arguments: &[&str]) -> Option<Folder> {
    let trial = Command::new(tool).args(trial).arg("true").output();
    if !trial.is_ok_and(|trial| trial.status.success()) {
        println!("skipped: there is no {tool} on this machine, or it may not look");
        return None;
    }
    let folder = Folder::make(tool);
    let mut command = Command::new(tool);
    command.args(arguments).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "counted_reads", "--ignored", "--nocapture"]).current_dir(&folder.0);
    command.env(CALLS_SETTING, calls.to_string());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    Some(folder)
}

#[test]
#[ignore = "run by the next tests, in a process of its own"]
fn counted_reads() {
    let calls: usize = Source::process().or(CALLS_SETTING, SIMULATED, "a number of calls").unwrap();
    let cluster = Cluster::start();
    let [dashboard, status] = cluster.messages();
    for (path, message) in [&dashboard, &status] {
        for _ in 0..calls {
            cluster.runtime.block_on(cluster.ask(path, message.clone()));
        }
    }
    for _ in 0..calls {
        one_dashboard(&cluster, &dashboard);
    }
    for _ in 0..calls {
        one_status(&cluster, &status);
    }
}

/// Callgrind counts while this function is under way, and the next.
#[inline(never)]
fn one_dashboard(cluster: &Cluster, message: &(&'static str, Bytes)) {
    one_call(cluster, message);
}

#[inline(never)]
fn one_status(cluster: &Cluster, message: &(&'static str, Bytes)) {
    one_call(cluster, message);
}

/// Strace counts from one mark to the next.
fn one_call(cluster: &Cluster, (path, message): &(&'static str, Bytes)) {
    assert!(!Path::new(MARK).exists());
    cluster.runtime.block_on(cluster.ask(path, message.clone()));
}

#[test]
fn a_warm_read_makes_no_more_system_calls_than_it_did() {
    let (trial, arguments) = (["-qq", "-o", "/dev/null"], ["-f", "-qq", "-o", "calls"]);
    let Some(folder) = observed_reads("strace", TRACED, &trial, &arguments) else { return };
    // A line each.
    let text = String::from_utf8_lossy(&std::fs::read(folder.0.join("calls")).unwrap()).into_owned();
    // Lines begin with the thread; one that is interrupted by another thread's goes on in a second, which says `resumed`.
    let thread = text.lines().find(|line| line.contains(MARK)).and_then(|line| line.split(' ').next());
    let of_thread = text.lines().filter(|line| line.split(' ').next() == thread && !line.contains(" resumed>"));
    let mut counts: Vec<u64> = Vec::new();
    for line in of_thread {
        if line.contains(MARK) {
            counts.push(0);
        } else if let Some(count) = counts.last_mut() {
            *count += 1;
        }
    }
    assert_eq!(counts.len(), 2 * TRACED);
    let (dashboards, statuses) = counts.split_at_mut(TRACED);
    let counts = [dashboards, statuses].map(|counts| {
        counts.sort_unstable();
        counts[TRACED / 2]
    });
    println!("system calls of a call, with its client: dashboard and status {counts:?}");
    assert!(counts.iter().zip(MAX_SYSTEM_CALLS).all(|(count, max)| *count <= max), "{counts:?}");
}

#[test]
fn a_warm_read_takes_no_more_instructions_than_it_did() {
    let arguments = [
        "--tool=callgrind",
        "--callgrind-out-file=calls",
        "--toggle-collect=*one_dashboard*",
        "--toggle-collect=*one_status*",
    ];
    let Some(folder) = observed_reads("valgrind", SIMULATED, &["--tool=none", "-q"], &arguments) else { return };
    let listed = Command::new("callgrind_annotate").args(["--inclusive=yes", "calls"]).current_dir(&folder.0).output();
    let listed = String::from_utf8_lossy(&listed.unwrap().stdout).into_owned();
    // "1,234,567 (12.3%)  file:function [program]"
    let of = |function: &str| -> u64 {
        let line = listed.lines().find(|line| line.contains(function)).unwrap();
        let count: String = line.trim_start().chars().take_while(|c| *c != ' ').filter(char::is_ascii_digit).collect();
        count.parse::<u64>().unwrap() / SIMULATED as u64 / 1_000
    };
    let counts = ["warm_path::one_dashboard", "warm_path::one_status"].map(of);
    println!("thousands of instructions of a call, with its client: dashboard and status {counts:?}");
    assert!(counts.iter().zip(MAX_KILO_INSTRUCTIONS).all(|(count, max)| *count <= max), "{counts:?}");
}
