//! A cluster of two nodes: the worker as it ships, and the scripted one beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chassis::drain::Drain;
use chassis::keyring::InternalKeys;
use chassis::{blobs, server, telemetry};
use generation_worker::Service;
use generation_worker::config::{Config, Downloads, Local, Upstreams, Work};
use generation_worker::hook_addresses::HookAddresses;
use generation_worker::providers::Registry;
use proto::work::v1::hook_service_client::HookServiceClient;
use proto::work::v1::provider_service_client::ProviderServiceClient;
use testkit::{Doors, INTERNAL_KEYS};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::node::Node;

/// The running cluster; it ends when it is dropped.
pub(crate) struct Cluster {
    pub(crate) node: Node,
    pub(crate) blobs: blobs::Store,
    /// The worker's.
    pub(crate) drain: Drain,
    pub(crate) working: JoinHandle<()>,
    /// The worker's port for webhooks.
    pub(crate) webhooks: HookServiceClient<Doors>,
    /// The worker's port for operators.
    pub(crate) providers: ProviderServiceClient<Doors>,
    folder: PathBuf,
    nodes_drain: Drain,
}

/// Where the workers of these tests get webhooks.
pub(crate) fn hooks() -> HookAddresses {
    let keys = InternalKeys::parse(INTERNAL_KEYS).unwrap();
    HookAddresses::new("https://rushes.test/hooks".parse().unwrap(), &keys)
}

/// What follows the provider's name in the address of its webhooks of a job.
pub(crate) fn hook_path(provider: &str, job: uuid::Uuid) -> String {
    let address = hooks().address(provider, job).unwrap();
    address.path().strip_prefix(&format!("/hooks/{provider}/")).unwrap().to_owned()
}

/// A worker's settings beside a node at `uri`, with its objects in `folder`.
pub(crate) fn config(uri: &http::Uri, folder: &std::path::Path) -> Config {
    Config {
        telemetry: telemetry::Settings::default(),
        server: server::Settings::FREE,
        internal_keys: InternalKeys::parse(INTERNAL_KEYS).unwrap(),
        upstreams: Upstreams { generation_status: uri.clone(), thumbnail_worker: uri.clone() },
        blobs: blobs::Settings { url: format!("file://{}", folder.display()), options: Vec::new() },
        work: Work { slots: 2, heartbeat: Duration::from_millis(50), order_timeout: Duration::from_secs(60) },
        downloads: Downloads {
            slots: 4,
            timeout: Duration::from_secs(30),
            max_video_bytes: 8 << 20,
            memory_bytes: 32 << 20,
        },
        hooks: Some(hooks()),
        local: Local { pace: Duration::ZERO, threads: 2 },
        replicate: None,
        fal: None,
        openrouter: None,
        cog: BTreeMap::new(),
        links: None,
    }
}

impl Cluster {
    /// Starts a worker with these providers and with settings that `change` has changed.
    pub(crate) async fn start(providers: Registry, change: impl FnOnce(&mut Config)) -> Self {
        let (node, nodes_drain) = (Node::default(), Drain::default().with_grace(Duration::ZERO));
        let uri = node.serve(nodes_drain.clone()).await;
        let folder = std::env::temp_dir().join(format!("rushes-worker-{}", Uuid::now_v7().simple()));
        let mut config = config(&uri, &folder);
        change(&mut config);
        let blobs = blobs::Store::open(&config.blobs).unwrap();
        let bound = Service::with_providers(&config, providers).unwrap().bind().await.unwrap();
        let channel = Doors::of("generation-worker", bound.addr(), bound.internal_addr());
        let (webhooks, providers) = (HookServiceClient::new(channel.clone()), ProviderServiceClient::new(channel));
        let drain = Drain::default().with_grace(Duration::from_secs(2));
        let serving = bound.serve(drain.clone());
        let working = tokio::spawn(async move { serving.await.unwrap() });
        Self { node, blobs, drain, working, webhooks, providers, folder, nodes_drain }
    }

    /// How many files are in storage.
    pub(crate) fn stored(&self) -> usize {
        let (mut folders, mut files) = (vec![self.folder.clone()], 0);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files += 1 }
            }
        }
        files
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.working.abort();
        self.nodes_drain.begin();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
