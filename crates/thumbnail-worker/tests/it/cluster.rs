//! A cluster for one test: the service as its one node, a database of its own, a directory of its own as object storage, and a
//! client of its gRPC port.

use std::path::PathBuf;
use std::time::Duration;

use chassis::drain::Drain;
use chassis::keyring::InternalKeys;
use chassis::links::AssetUrls;
use chassis::postgres::PoolSettings;
use chassis::request::caller::Caller;
use chassis::{blobs, server, telemetry};
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{
    Asset, DeleteAssetRequest, GetAssetRequest, ListAssetsRequest, ListAssetsResponse, RegisterOutputRequest,
    RegisterOutputResponse, RenderThumbnailRequest, Thumbnail, ThumbnailSpec, UploadAssetRequest, UploadMetadata,
};
use sqlx::PgPool;
use testkit::{Database, Doors, INTERNAL_KEYS};
use thumbnail_worker::config::{Database as DatabaseConfig, Runner, Uploads};
use thumbnail_worker::model::Quota;
use thumbnail_worker::orphans::{self, Mode};
use thumbnail_worker::{Config, Service, decode_pool, erasures, ffmpeg, media, pictures, retention, videos};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};
use uuid::Uuid;

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const PUBLIC: &str = "http://public.example";

/// A running service, its database and its storage.
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) pool: PgPool,
    pub(crate) blobs: blobs::Store,
    pub(crate) folder: PathBuf,
    drain: Drain,
    serving: JoinHandle<()>,
    client: AssetServiceClient<Doors>,
    _database: Database,
}

/// An account's own client.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: Uuid,
    client: AssetServiceClient<Doors>,
}

/// The service's program, which decoders are started from: this process is a test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_thumbnail-worker");

/// A decode pool as a service of two cores and plenty of memory has it.
pub(crate) fn decoders() -> decode_pool::Settings {
    decode_pool::Settings {
        program: PROGRAM.into(),
        processes: 2,
        bytes: 512 << 20,
        waiting: 64,
        timeout: Duration::from_secs(20),
        pictures: pictures::Limits::default(),
        videos: videos::Limits::default(),
    }
}

/// The poster frame that an ffmpeg finds.
pub(crate) async fn by_ffmpeg(
    program: Option<std::path::PathBuf>,
    bytes: &[u8],
    because: videos::Missing,
) -> Result<pictures::Pixels, videos::Missing> {
    let settings =
        ffmpeg::Settings { program, launcher: PROGRAM.into(), memory: 512 << 20, timeout: Duration::from_secs(30) };
    let pool = decode_pool::DecodePool::new(decoders());
    ffmpeg::Ffmpeg::new(settings).poster(&pool, &on_disk(bytes), because).await.unwrap()
}

/// Bytes in a file without a name.
pub(crate) fn on_disk(bytes: &[u8]) -> decode_pool::Input {
    let path = std::env::temp_dir().join(format!("rushes-test-{}", Uuid::now_v7().simple()));
    std::fs::write(&path, bytes).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    decode_pool::Input::File(std::sync::Arc::new(file), bytes.len() as u64)
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A cluster whose configuration `change` has changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let database = Database::fresh().await.unwrap();
        let folder = std::env::temp_dir().join(format!("rushes-assets-{}", Uuid::now_v7().simple()));
        let url = url(&folder);
        let pool = PoolSettings { min: 0, unresponsive_after: Duration::from_secs(1), ..PoolSettings::default() };
        let mut config = Config {
            telemetry: telemetry::Settings::default(),
            server: server::Settings::FREE,
            internal_keys: InternalKeys::parse(INTERNAL_KEYS).unwrap(),
            database: DatabaseConfig { url: database.url_of(testkit::Service::ThumbnailWorker), pool },
            nats_url: None,
            blobs: blobs::Settings { url, options: Vec::new() },
            assets: AssetUrls::public(PUBLIC),
            max_output_bytes: 64 << 20,
            uploads: Uploads {
                limits: media::Limits::default(),
                scratch: std::env::temp_dir(),
                scratch_budget: 1 << 30,
                idle_timeout: Duration::from_secs(10),
            },
            decode_pool: decoders(),
            ffmpeg: ffmpeg::Settings {
                program: None,
                launcher: PROGRAM.into(),
                memory: 256 << 20,
                timeout: Duration::from_secs(8),
            },
            runner: Runner { slots: 2 },
            quota: Quota { bytes: 1 << 40, objects: 1_000_000 },
            retention: retention::Settings { jobs: None, unused_assets: None, interval: HOUR },
            erasures: erasures::Settings { interval: HOUR, batch: 500 },
            orphans: orphans::Settings { mode: Mode::Off, min_age: HOUR, period: HOUR },
        };
        change(&mut config);
        let blobs = blobs::Store::open(&config.blobs).unwrap();
        let pool = PgPool::connect(&database.url()).await.unwrap();
        let (drain, serving, client) = serve(&config).await;
        Self { config, pool, blobs, folder, drain, serving, client, _database: database }
    }

    /// Ends the service as a signal does, and starts another on the same data.
    pub(crate) async fn restart(&mut self, change: impl FnOnce(&mut Config)) {
        self.stop().await;
        change(&mut self.config);
        (self.drain, self.serving, self.client) = serve(&self.config).await;
    }

    pub(crate) async fn stop(&mut self) {
        self.drain.begin();
        if !self.serving.is_finished() {
            (&mut self.serving).await.unwrap();
        }
    }

    pub(crate) async fn account(&self) -> Account {
        let id = Uuid::now_v7();
        let query = "insert into accounts (id, display_name, email) values ($1, 'Ada', $2)";
        sqlx::query(query).bind(id).bind(format!("{id}@example.com")).execute(&self.pool).await.unwrap();
        self.client_of(id)
    }

    /// A client of an account that there is already, for the service as it runs now.
    pub(crate) fn client_of(&self, id: Uuid) -> Account {
        Account { id, client: self.client.clone() }
    }

    /// Rows of assets, thumbnails and jobs, and objects in storage.
    pub(crate) async fn traces(&self) -> (i64, usize) {
        let query =
            "select (select count(*) from assets) + (select count(*) from thumbnails) + (select count(*) from jobs)";
        let rows = sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap();
        let mut files = 0;
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files += 1 }
            }
        }
        (rows, files)
    }

    /// Waits until the whole storage was looked through so many times.
    pub(crate) async fn scans(&self, rounds: u32) {
        for wanted in (0..=rounds).flat_map(|_| [128_i16, 255]) {
            let reached = async || {
                let part = sqlx::query_scalar("select part from storage_scan").fetch_one(&self.pool).await.unwrap();
                (i16::abs_diff(part, wanted) < 32).then_some(())
            };
            testkit::eventually("a part is looked through", Duration::from_secs(60), reached).await.unwrap();
        }
    }

    /// The bytes behind one of our URLs.
    pub(crate) async fn fetch(&self, url: &str) -> Vec<u8> {
        let name = url.strip_prefix(&format!("{PUBLIC}/assets/")).unwrap_or_else(|| panic!("{url:?} is ours"));
        self.blobs.get(&name.parse().unwrap()).await.unwrap().to_vec()
    }

    /// Waits for an asset's default thumbnail to be made or given up.
    pub(crate) async fn settled(&self, account: &Account, asset: &str) -> Thumbnail {
        let wait = testkit::eventually("the thumbnail comes to an end", Duration::from_secs(30), async || {
            let found = account.get(asset).await.unwrap().into_inner();
            found.thumbnail.filter(|thumbnail| thumbnail.state > 1)
        });
        wait.await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn serve(config: &Config) -> (Drain, JoinHandle<()>, AssetServiceClient<Doors>) {
    let bound = Service::open(config).await.unwrap().bind().await.unwrap();
    let doors = Doors::of("thumbnail-worker", bound.addr(), bound.internal_addr());
    let drain = Drain::default().with_grace(Duration::from_secs(2));
    let serving = tokio::spawn({
        let drain = drain.clone();
        async move { bound.serve(drain).await.unwrap() }
    });
    let client = AssetServiceClient::new(doors);
    (drain, serving, client)
}

fn url(folder: &std::path::Path) -> String {
    format!("file://{}", folder.display())
}

impl Account {
    /// The same account at another service.
    pub(crate) fn of(account: &Self, client: AssetServiceClient<Doors>) -> Self {
        Self { id: account.id, client }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        Caller::account(self.id).attach(&mut request);
        request
    }

    /// Uploads `bytes` in chunks of 64 KiB.
    pub(crate) async fn upload(&self, bytes: &[u8]) -> Result<Response<Asset>, Status> {
        self.upload_as(UploadMetadata { file_name: "picture.jpg".into(), size_bytes: 0 }, bytes).await
    }

    pub(crate) async fn upload_as(&self, metadata: UploadMetadata, bytes: &[u8]) -> Result<Response<Asset>, Status> {
        let chunks = bytes.chunks(64 << 10).map(|chunk| Part::Chunk(chunk.to_vec().into()));
        self.upload_parts(std::iter::once(Part::Metadata(metadata)).chain(chunks).collect()).await
    }

    pub(crate) async fn upload_parts(&self, parts: Vec<Part>) -> Result<Response<Asset>, Status> {
        let messages = parts.into_iter().map(|part| UploadAssetRequest { part: Some(part) });
        self.client.clone().upload_asset(self.request(tokio_stream::iter(messages.collect::<Vec<_>>()))).await
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Response<Asset>, Status> {
        self.client.clone().get_asset(self.request(GetAssetRequest { name: name.into() })).await
    }

    pub(crate) async fn list(&self, request: ListAssetsRequest) -> Result<Response<ListAssetsResponse>, Status> {
        self.client.clone().list_assets(self.request(request)).await
    }

    pub(crate) async fn delete(&self, name: &str, allow_missing: bool) -> Result<Response<()>, Status> {
        self.client.clone().delete_asset(self.request(DeleteAssetRequest { name: name.into(), allow_missing })).await
    }

    pub(crate) async fn render(
        &self,
        asset: &str,
        spec: (i32, i32, i32),
        later: bool,
    ) -> Result<Response<Thumbnail>, Status> {
        let (width, height, quality) = spec;
        let spec = Some(ThumbnailSpec { width, height, quality });
        let request = RenderThumbnailRequest { asset: asset.into(), spec, later };
        self.client.clone().render_thumbnail(self.request(request)).await
    }

    pub(crate) async fn register(
        &self,
        asset: &str,
        extension: &str,
    ) -> Result<Response<RegisterOutputResponse>, Status> {
        let request = RegisterOutputRequest { asset: asset.into(), extension: extension.into() };
        self.client.clone().register_output(self.request(request)).await
    }
}

impl Account {
    /// Uploads what comes through `parts`, for as long as it is open.
    pub(crate) async fn upload_slowly(
        &self,
        parts: tokio::sync::mpsc::Receiver<Part>,
    ) -> Result<Response<Asset>, Status> {
        use tokio_stream::StreamExt as _;
        let messages =
            tokio_stream::wrappers::ReceiverStream::new(parts).map(|part| UploadAssetRequest { part: Some(part) });
        self.client.clone().upload_asset(self.request(messages)).await
    }
}
