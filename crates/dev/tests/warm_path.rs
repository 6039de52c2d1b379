//! What a warm read costs, counted where a busy machine changes nothing: allocations and system calls of client, gateway and service
//! together, which run on the one thread that is counted.
//!
//! System calls are counted by strace, which runs [`counted_reads`] in a process of its own; where it is not installed its test says so
//! and counts nothing.
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
/// Calls that are counted one by one; the median is taken, since the cache's clock and its proofs fall into some of them.
const COUNTED: usize = 60;
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

/// The system calls of [`counted_reads`], a line each as strace writes it; nothing where it is not installed, or may not trace.
fn traced_reads() -> Option<String> {
    let trial = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !trial.is_ok_and(|trial| trial.status.success()) {
        println!("skipped: there is no strace on this machine, or it may not trace");
        return None;
    }
    let folder = Folder::make("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "calls"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "counted_reads", "--ignored", "--nocapture"]).current_dir(&folder.0);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    Some(String::from_utf8_lossy(&std::fs::read(folder.0.join("calls")).unwrap()).into_owned())
}

/// What a dashboard and a status take by what was counted of each call, in their order.
fn medians(counts: &[u64]) -> [u64; 2] {
    assert_eq!(counts.len(), 2 * COUNTED);
    let (dashboards, statuses) = counts.split_at(COUNTED);
    [dashboards, statuses].map(|counts| {
        let mut counts = counts.to_vec();
        counts.sort_unstable();
        counts[counts.len() / 2]
    })
}

#[test]
#[ignore = "run by the next test, in a process of its own"]
fn counted_reads() {
    let cluster = Cluster::start();
    for (path, message) in cluster.messages() {
        for _ in 0..CALLS {
            cluster.runtime.block_on(cluster.ask(path, message.clone()));
        }
        for _ in 0..COUNTED {
            one_call(&cluster, path, &message);
        }
    }
}

/// One call; the mark before it ends the count of the one before.
fn one_call(cluster: &Cluster, path: &'static str, message: &Bytes) {
    assert!(!Path::new(MARK).exists());
    cluster.runtime.block_on(cluster.ask(path, message.clone()));
}

#[test]
fn a_warm_read_makes_no_more_system_calls_than_it_did() {
    let Some(text) = traced_reads() else { return };
    // Lines begin with the thread; one that is interrupted by another thread's goes on in a second, which says `resumed`.
    let thread = text.lines().find(|line| line.contains(MARK)).and_then(|line| line.split(' ').next());
    let of_thread = text.lines().filter(|line| line.split(' ').next() == thread && !line.contains(" resumed>"));
    let mut counts = Vec::new();
    for line in of_thread {
        if line.contains(MARK) {
            counts.push(0);
        } else if let Some(count) = counts.last_mut() {
            *count += 1;
        }
    }
    let counts = medians(&counts);
    println!("system calls of a call, with its client: dashboard and status {counts:?}");
    assert!(counts.iter().zip(MAX_SYSTEM_CALLS).all(|(count, max)| *count <= max), "{counts:?}");
}
