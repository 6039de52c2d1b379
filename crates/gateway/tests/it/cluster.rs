//! A gateway on a free port with the services behind it, for one test.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, atomic::Ordering},
    time::Duration,
};

use chassis::keyring::InternalKeys;
use chassis::links::AssetAccess;
use chassis::{
    blobs::{self, Store},
    client::{self, Channel},
    drain::Drain,
    server, telemetry,
    telemetry::Telemetry,
};
use gateway::{Config, Origins, Service, Upstreams};
use proto::{
    accounts::v1::ApiKey,
    assets::v1::{Asset, GetAssetRequest, asset_service_client::AssetServiceClient},
};
use sha2::{Digest as _, Sha256};
use testkit::{INTERNAL_KEYS, Proxy, Spans};
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, transport};
use uuid::Uuid;

use crate::upstream::{Services, Upstream};

/// The spans of the whole test process. Telemetry is the process's, so its collector has a runtime that outlives every test.
pub(crate) static SPANS: LazyLock<Spans> = LazyLock::new(|| {
    std::thread::spawn(|| {
        let runtime: &'static Runtime = Box::leak(Box::new(Runtime::new().unwrap()));
        let _entered = runtime.enter();
        let spans = runtime.block_on(Spans::collect()).unwrap();
        let settings = telemetry::Settings {
            filter: "off".to_owned(),
            endpoint: Some(spans.endpoint()),
            ..telemetry::Settings::default()
        };
        std::mem::forget(Telemetry::start("gateway", &settings));
        spans
    })
    .join()
    .unwrap()
});

pub(crate) struct Cluster {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) store: Store,
    /// The connections to generation-status.
    pub(crate) generations: Proxy,
    /// Ends dashboard alone.
    pub(crate) dashboard: Drain,
    /// Ends the gateway alone, within 4 s.
    pub(crate) gateway: Drain,
    drain: Drain,
    directory: Directory,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        LazyLock::force(&SPANS);
        let upstream = Arc::new(Upstream::default());
        let services = Services(upstream.clone());
        let (drain, dashboard) = (short_drain(), short_drain());
        let others = services.serve(drain.clone()).await;
        let generations = Proxy::before(others.authority().unwrap().as_str()).await.unwrap();
        let directory = Directory::new();
        let keys = services.serve(dashboard.clone()).await;
        let mut config = Config {
            telemetry: telemetry::Settings::default(),
            server: server::Settings::FREE,
            upstreams: Upstreams {
                dashboard: keys.clone(),
                dashboard_internal: keys,
                generation_status: format!("http://{}", generations.address()).parse().unwrap(),
                thumbnail_worker: others.clone(),
                generation_worker_internal: Some(others),
            },
            blobs: blobs::Settings { url: format!("file://{}", directory.0.display()), options: Vec::new() },
            origins: Origins::Any,
            key_lifetime: Duration::from_secs(1),
            max_watches: 400,
            limits: gateway::Limits::default(),
            nats_url: None,
            cache_answers: false,
            assets: AssetAccess::Public,
            internal_keys: InternalKeys::parse(INTERNAL_KEYS).unwrap(),
            door: server::Door { reflection: true, ..server::Door::default() },
            max_asset_answers: 512,
            max_asset_answers_per_address: 128,
            cache: cache::Settings::default(),
        };
        change(&mut config);
        let store = Store::open(&config.blobs).unwrap();
        let bound = Service::open(&config).await.unwrap().bind().await.unwrap();
        let (addr, admin) = (bound.addr(), bound.admin_addr());
        let gateway = Drain::default().with_grace(Duration::from_secs(4));
        let ending = gateway.clone();
        tokio::spawn(async move { bound.serve(ending).await.unwrap() });
        Self { addr, admin, upstream, store, generations, dashboard, gateway, drain, directory }
    }

    /// A new key of `account`, changed by `change`.
    pub(crate) fn key_with(&self, account: Uuid, change: impl FnOnce(&mut ApiKey)) -> String {
        let secret = random_key();
        let mut key = ApiKey {
            name: format!("accounts/{account}/apiKeys/{}", Uuid::now_v7()),
            account: format!("accounts/{account}"),
            scopes: ["read", "write", "generate"].map(str::to_owned).into(),
            version: 1,
            ..ApiKey::default()
        };
        change(&mut key);
        self.upstream.keys.lock().unwrap().insert(Sha256::digest(&secret).to_vec(), key);
        secret
    }

    pub(crate) fn key(&self, account: Uuid) -> String {
        self.key_with(account, |_| {})
    }

    /// A plain channel, as any gRPC client has.
    #[expect(clippy::disallowed_methods, reason = "a client of the outside has no chassis")]
    pub(crate) async fn channel(&self) -> transport::Channel {
        let endpoint = transport::Channel::from_shared(format!("http://{}", self.addr)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// The same from `127.0.0.{last}`.
    #[expect(clippy::disallowed_methods, reason = "a client of the outside has no chassis")]
    pub(crate) async fn channel_from(&self, last: u8) -> transport::Channel {
        let endpoint = transport::Channel::from_shared(format!("http://{}", self.addr)).unwrap();
        endpoint.local_address(Some([127, 0, 0, last].into())).connect().await.unwrap()
    }

    /// The same, which takes no more than so many bytes of an answer before they are read.
    #[expect(clippy::disallowed_methods, reason = "a client of the outside has no chassis")]
    pub(crate) async fn channel_with_window(&self, bytes: u32) -> transport::Channel {
        let endpoint = transport::Channel::from_shared(format!("http://{}", self.addr)).unwrap();
        endpoint.initial_stream_window_size(bytes).connect().await.unwrap()
    }

    /// A channel that sends the context of the current span.
    pub(crate) fn traced(&self) -> Channel {
        client::connect("gateway", &format!("http://{}", self.addr).parse().unwrap())
    }

    pub(crate) async fn assets(&self) -> AssetServiceClient<transport::Channel> {
        AssetServiceClient::new(self.channel().await)
    }

    /// Calls `GetAsset` with `key`.
    pub(crate) async fn get(&self, key: &str, name: &str) -> Result<Response<Asset>, Status> {
        let request = GetAssetRequest { name: name.to_owned() };
        self.assets().await.get_asset(authorized(request, key)).await
    }

    /// The same with all the time that the method has, for tests whose machine has much to do.
    pub(crate) async fn get_slowly(&self, key: &str, name: &str) -> Result<Response<Asset>, Status> {
        let mut request = authorized(GetAssetRequest { name: name.to_owned() }, key);
        request.set_timeout(Duration::from_secs(10));
        self.assets().await.get_asset(request).await
    }

    pub(crate) fn authentications(&self) -> usize {
        self.upstream.authentications.load(Ordering::SeqCst)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory.0
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.gateway.begin();
        self.drain.begin();
        self.dashboard.begin();
    }
}

/// A key that nobody has, and that has a key's form.
pub(crate) fn random_key() -> String {
    let random = [Uuid::now_v7(), Uuid::now_v7()].map(Uuid::into_bytes);
    domain::api_key::from_random(*random.as_flattened().first_chunk().unwrap())
}

pub(crate) fn authorized<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

fn short_drain() -> Drain {
    Drain::default().with_grace(Duration::from_millis(100))
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("rushes-gateway-{}", Uuid::now_v7()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asserts that `status` has `code` and `reason`, in `ErrorInfo` of our domain.
#[track_caller]
pub(crate) fn check(status: &Status, code: tonic::Code, reason: &str) {
    use tonic_types::StatusExt as _;
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "rushes.dev"), "{status:?}");
}
