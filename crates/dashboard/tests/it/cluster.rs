//! The service under test with its servers, and the clients of the tests.
//!
//! Each cluster has a database of its own, and a key space of its own on a Redis and a NATS that the test process shares. The
//! relay runs beside the service on connections of its own, as in another process, so that the round trips counted before
//! PostgreSQL are the service's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cache::Cache;
use chassis::drain::Drain;
use chassis::postgres::{Pool, PoolSettings};
use chassis::request::caller::Caller;
use chassis::settings::Source;
use dashboard::{Config, Service};
use proto::accounts::v1 as accounts;
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::audit::v1::audit_service_client::AuditServiceClient;
use proto::dashboard::v1 as api;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::projects::v1 as projects;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use sqlx::PgPool;
use testkit::{Database, Direction, Doors, INTERNAL_KEYS, Nats, Proxy, Redis, RoundTrips, eventually};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;
use url::Url;
use uuid::Uuid;

/// The gateway's address as clients see it, in tests.
pub(crate) const PUBLIC_URL: &str = "https://rushes.test";
/// How long a test waits for an effect that takes milliseconds.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of both pools in tests: one connection, so that a statement is prepared once.
pub(crate) const POOL: PoolSettings = PoolSettings {
    min: 1,
    max: 1,
    acquire: Duration::from_secs(5),
    idle: Duration::from_secs(600),
    statement: Duration::from_secs(5),
    unresponsive_after: Duration::from_secs(1),
    account_percent: 25,
};

struct Servers {
    redis: Redis,
    nats: Nats,
}

/// Redis and NATS for the whole test process; they end with it.
async fn servers() -> Result<&'static Servers> {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    SERVERS.get_or_try_init(async || Ok(Servers { redis: Redis::launch().await?, nats: Nats::launch().await? })).await
}

type Serving = JoinHandle<Result<(), chassis::server::Error>>;

/// Starts one process of the service.
async fn serve(config: &Config, drain: &Drain) -> Result<(Doors, Serving)> {
    let bound = Service::open(config).await?.bind().await?;
    let channel = Doors::of("dashboard", bound.addr(), bound.internal_addr());
    Ok((channel, tokio::spawn(bound.serve(drain.clone()))))
}

/// The service with its database.
pub(crate) struct Cluster {
    pub(crate) pool: PgPool,
    /// The database as the service's reads connect to it.
    pub(crate) reads: Url,
    pub(crate) trips: RoundTrips,
    config: Config,
    channel: Doors,
    relay: Cache,
    drain: Drain,
    serving: Option<Serving>,
    database: Arc<Database>,
}

impl Cluster {
    /// The service with one connection for reads and one for writes.
    pub(crate) async fn start() -> Result<Self> {
        Self::with(POOL).await
    }

    /// The service with these pools.
    pub(crate) async fn with(pool: PoolSettings) -> Result<Self> {
        Self::configured(pool, |_| {}).await
    }

    /// The service with these pools and what else `change` sets.
    pub(crate) async fn configured(pool: PoolSettings, change: impl FnOnce(&mut Config)) -> Result<Self> {
        let servers = servers().await?;
        let database = Arc::new(Database::fresh().await?);
        let trips = RoundTrips::before(&database.url_of(testkit::Service::Dashboard)).await?;
        let source = Source::of(&[
            ("RUSHES_DATABASE_URL", &trips.url()),
            ("RUSHES_REDIS_URL", &servers.redis.url()),
            ("RUSHES_NATS_URL", &servers.nats.url()),
            ("RUSHES_INTERNAL_KEYS", INTERNAL_KEYS),
            ("RUSHES_PUBLIC_URL", PUBLIC_URL),
            ("RUSHES_ASSET_URLS", "public"),
            ("RUSHES_CACHE_SPACE", database.name()),
            // Shadow reads would count as reads of the test.
            ("RUSHES_CACHE_OBSERVE", "0"),
            ("RUSHES_CACHE_RELAY", "false"),
        ]);
        let mut config = Config::read(&source)?;
        // Nothing but what a test asks is to be counted.
        config.erasures.interval = Duration::from_secs(3_600);
        (config.database.read, config.database.write) = (pool, PoolSettings { max: 4, ..pool });
        change(&mut config);
        let drain = Drain::default().with_grace(Duration::from_secs(1));
        let (channel, serving) = serve(&config, &drain).await?;
        let serving = Some(serving);

        let relay = cache::Settings { relay: true, ..config.cache.clone() };
        let pool =
            Pool::connect_lazy("cache", &database.url_of(testkit::Service::Dashboard), &cache::Settings::pool())?;
        let nats = chassis::nats::connect(&servers.nats.url()).await?;
        let relay = Cache::start(relay, Some(pool), Some(nats))?;
        let pool = PgPool::connect(&database.url()).await?;
        let reads = dashboard::read_pool_url(&database.url_of(testkit::Service::Dashboard).parse()?);
        Ok(Self { pool, reads, trips, config, channel, relay, drain, serving, database })
    }

    /// Another process of the service on the same servers, as this user reaches it.
    pub(crate) async fn replica(&self, user: &User) -> Result<User> {
        let (channel, _) = serve(&self.config, &self.drain).await?;
        Ok(User { channel, ..user.clone() })
    }

    /// Another process of the service whose settings `change` has changed, as this user reaches it.
    pub(crate) async fn changed_replica(&self, user: &User, change: impl FnOnce(&mut Config)) -> Result<User> {
        let mut config = self.config.clone();
        change(&mut config);
        let (channel, _) = serve(&config, &self.drain).await?;
        Ok(User { channel, ..user.clone() })
    }

    /// Begins to end the service in an orderly way.
    pub(crate) fn drain(&self) {
        self.drain.begin();
    }

    /// A new account, with its welcome notice.
    pub(crate) async fn account(&self) -> Result<User> {
        let account = accounts::Account {
            display_name: "Ada".to_owned(),
            email: "ada@rushes.test".to_owned(),
            ..accounts::Account::default()
        };
        let made = self.accounts().create_account(accounts::CreateAccountRequest { account: Some(account) }).await?;
        let name = made.into_inner().name;
        let id = name.strip_prefix("accounts/").context("an account's name")?.parse()?;
        Ok(self.user(id))
    }

    /// A client that the gateway has authenticated as this account.
    pub(crate) fn user(&self, id: Uuid) -> User {
        User { id, caller: Caller::account(id), channel: self.channel.clone() }
    }

    /// A client of the internal AccountService.
    pub(crate) fn accounts(&self) -> AccountServiceClient<Doors> {
        AccountServiceClient::new(self.channel.clone())
    }

    /// A client of the AccountService of another process on the same servers.
    pub(crate) async fn another(&self) -> Result<AccountServiceClient<Doors>> {
        let (channel, _) = serve(&self.config, &self.drain).await?;
        Ok(AccountServiceClient::new(channel))
    }

    /// The Redis that the service uses.
    pub(crate) async fn redis(&self) -> Result<redis::aio::MultiplexedConnection> {
        Ok(redis::Client::open(servers().await?.redis.url())?.get_multiplexed_async_connection().await?)
    }

    /// Waits until the service's cache answers without PostgreSQL, and its read connection has prepared what it needs.
    pub(crate) async fn warm_up(&self) -> Result<()> {
        let user = self.account().await?;
        eventually("the cache answers without PostgreSQL", TIMEOUT, async || {
            self.queries();
            user.dashboard().await.ok()?;
            self.queries().is_empty().then_some(())
        })
        .await
    }

    /// The audit log.
    pub(crate) fn audit(&self) -> AuditServiceClient<Doors> {
        AuditServiceClient::new(self.channel.clone())
    }

    /// The service's round trips since the last call, without those that nobody waits for: the reading of the clock every
    /// few seconds, the ping of a connection that was idle for long, and what the liveness probe asks.
    pub(crate) fn queries(&self) -> Vec<String> {
        let background = |sql: &String| {
            ["a ping", "a probe"].contains(&sql.as_str())
                || ["clock_timestamp()", "current_setting('max_connections')"].iter().any(|of| sql.contains(of))
        };
        self.trips.take().into_iter().filter(|sql| !background(sql)).collect()
    }

    /// Every row that the service may write, a line each: two equal ones are one state.
    pub(crate) async fn state(&self) -> Result<String> {
        let state = sqlx::query_scalar::<_, String>(
            "select concat_ws(e'\\n',
                (select string_agg(t::text, e'\\n' order by t.id) from accounts t),
                (select string_agg(t::text, e'\\n' order by t.id) from api_keys t),
                (select string_agg(t::text, e'\\n' order by t.id) from projects t),
                (select string_agg(t::text, e'\\n' order by t.id) from scenes t),
                (select string_agg(t::text, e'\\n' order by t.id) from notices t))",
        );
        Ok(state.fetch_one(&self.pool).await?)
    }

    /// Ends the service, without an error.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.drain.begin();
        if let Some(serving) = self.serving.take() {
            serving.await??;
        }
        self.relay.close().await;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

/// A second process of a cluster's service, whose Redis and NATS can be cut off.
pub(crate) struct Replica {
    redis: Proxy,
    nats: Proxy,
    channel: Doors,
    trips: RoundTrips,
    drain: Drain,
}

impl Replica {
    pub(crate) async fn of(cluster: &Cluster) -> Result<Self> {
        let servers = servers().await?;
        let database = &cluster.database;
        let trips = RoundTrips::before(&database.url_of(testkit::Service::Dashboard)).await?;
        let redis = before(&servers.redis.url()).await?;
        let nats = before(&servers.nats.url()).await?;
        let source = Source::of(&[
            ("RUSHES_DATABASE_URL", &trips.url()),
            ("RUSHES_REDIS_URL", &redis.url(&servers.redis.url())?),
            ("RUSHES_NATS_URL", &nats.url(&servers.nats.url())?),
            ("RUSHES_INTERNAL_KEYS", INTERNAL_KEYS),
            ("RUSHES_PUBLIC_URL", PUBLIC_URL),
            ("RUSHES_ASSET_URLS", "public"),
            ("RUSHES_CACHE_SPACE", database.name()),
            ("RUSHES_CACHE_RELAY", "false"),
        ]);
        let bound = Service::open(&Config::read(&source)?).await?.bind().await?;
        let channel = Doors::of("dashboard", bound.addr(), bound.internal_addr());
        let drain = Drain::default().with_grace(Duration::from_secs(1));
        tokio::spawn(bound.serve(drain.clone()));
        Ok(Self { redis, nats, channel, trips, drain })
    }

    pub(crate) fn user(&self, id: Uuid) -> User {
        User { id, caller: Caller::account(id), channel: self.channel.clone() }
    }

    /// Nothing comes from Redis any more.
    pub(crate) fn cut_off_from_redis(&self) {
        self.redis.black_hole(Direction::ToClient);
    }

    /// Nothing comes from Redis or NATS any more.
    pub(crate) fn cut_off(&self) {
        self.cut_off_from_redis();
        self.nats.black_hole(Direction::ToClient);
    }

    /// Redis and NATS answer again, on new connections: messages of the meantime are lost.
    pub(crate) fn reconnect(&self) {
        for proxy in [&self.redis, &self.nats] {
            proxy.heal();
            proxy.reset();
        }
    }

    /// Waits until it answers without PostgreSQL.
    pub(crate) async fn is_warm(&self, user: &User) -> Result<()> {
        eventually("the replica answers without PostgreSQL", TIMEOUT, async || {
            let _ = self.trips.take();
            user.dashboard().await.ok()?;
            let quiet =
                |sql: &String| sql.contains("clock_timestamp()") || ["a ping", "a probe"].contains(&sql.as_str());
            self.trips.take().iter().all(quiet).then_some(())
        })
        .await
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

async fn before(url: &str) -> Result<Proxy> {
    let url: Url = url.parse()?;
    Proxy::before(format!("{}:{}", url.host_str().context("a host")?, url.port().context("a port")?)).await
}

/// A client of one account.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) id: Uuid,
    caller: Caller,
    channel: Doors,
}

/// The result of a call.
pub(crate) type Answer<T> = Result<T, Status>;

impl User {
    /// A request as the gateway passes it on.
    pub(crate) fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.caller.attach(&mut request);
        request
    }

    pub(crate) fn channel(&self) -> Doors {
        self.channel.clone()
    }

    pub(crate) fn projects(&self) -> ProjectServiceClient<Doors> {
        ProjectServiceClient::new(self.channel.clone())
    }

    pub(crate) fn dashboards(&self) -> DashboardServiceClient<Doors> {
        DashboardServiceClient::new(self.channel.clone())
    }

    /// The first page of the dashboard.
    pub(crate) async fn dashboard(&self) -> Answer<api::Dashboard> {
        self.dashboard_page(0, "").await
    }

    pub(crate) async fn dashboard_page(&self, page_size: i32, page_token: &str) -> Answer<api::Dashboard> {
        let request = api::GetDashboardRequest { page_size, page_token: page_token.to_owned() };
        self.dashboards().get_dashboard(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn watch(&self, resume_token: &str) -> Answer<Streaming<api::WatchDashboardResponse>> {
        let request = api::WatchDashboardRequest { resume_token: resume_token.to_owned() };
        self.dashboards().watch_dashboard(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    /// The account itself, with a page of its keys.
    pub(crate) async fn own_account(
        &self,
        page_size: i32,
        page_token: &str,
    ) -> Answer<accounts::GetOwnAccountResponse> {
        let request = accounts::GetOwnAccountRequest { page_size, page_token: page_token.to_owned() };
        let mut client = AccountServiceClient::new(self.channel.clone());
        client.get_own_account(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn create_project(&self, title: &str, request_id: &str) -> Answer<projects::Project> {
        let project = projects::Project { title: title.to_owned(), ..projects::Project::default() };
        let request = projects::CreateProjectRequest { project: Some(project), request_id: request_id.to_owned() };
        self.projects().create_project(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn project(&self, title: &str) -> Result<projects::Project> {
        Ok(self.create_project(title, "").await?)
    }

    pub(crate) async fn get_project(&self, name: &str) -> Answer<projects::Project> {
        let request = projects::GetProjectRequest { name: name.to_owned() };
        self.projects().get_project(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn list_projects(
        &self,
        page_size: i32,
        page_token: &str,
    ) -> Answer<projects::ListProjectsResponse> {
        let request = projects::ListProjectsRequest { page_size, page_token: page_token.to_owned() };
        self.projects().list_projects(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn update_project(
        &self,
        project: projects::Project,
        paths: Option<&[&str]>,
    ) -> Answer<projects::Project> {
        let request = projects::UpdateProjectRequest { project: Some(project), update_mask: paths.map(mask) };
        self.projects().update_project(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn delete_project(&self, name: &str, etag: &str) -> Answer<()> {
        let request = projects::DeleteProjectRequest { name: name.to_owned(), etag: etag.to_owned() };
        self.projects().delete_project(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn create_scene(&self, parent: &str, title: &str, request_id: &str) -> Answer<projects::Scene> {
        let scene = projects::Scene { title: title.to_owned(), ..projects::Scene::default() };
        let request = projects::CreateSceneRequest {
            parent: parent.to_owned(),
            scene: Some(scene),
            request_id: request_id.to_owned(),
        };
        self.projects().create_scene(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn scene(&self, parent: &str, title: &str) -> Result<projects::Scene> {
        Ok(self.create_scene(parent, title, "").await?)
    }

    pub(crate) async fn get_scene(&self, name: &str) -> Answer<projects::Scene> {
        let request = projects::GetSceneRequest { name: name.to_owned() };
        self.projects().get_scene(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn list_scenes(
        &self,
        parent: &str,
        page_size: i32,
        token: &str,
    ) -> Answer<projects::ListScenesResponse> {
        let request =
            projects::ListScenesRequest { parent: parent.to_owned(), page_size, page_token: token.to_owned() };
        self.projects().list_scenes(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn update_scene(&self, scene: projects::Scene, paths: Option<&[&str]>) -> Answer<projects::Scene> {
        let request = projects::UpdateSceneRequest { scene: Some(scene), update_mask: paths.map(mask) };
        self.projects().update_scene(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn delete_scene(&self, name: &str, etag: &str) -> Answer<()> {
        let request = projects::DeleteSceneRequest { name: name.to_owned(), etag: etag.to_owned() };
        self.projects().delete_scene(self.ask(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn reorder_scenes(&self, parent: &str, scenes: &[&str]) -> Answer<Vec<projects::Scene>> {
        let scenes = scenes.iter().map(|name| (*name).to_owned()).collect();
        let request = projects::ReorderScenesRequest { parent: parent.to_owned(), scenes };
        self.projects().reorder_scenes(self.ask(request)).await.map(|reply| reply.into_inner().scenes)
    }

    pub(crate) async fn acknowledge(&self, names: &[&str]) -> Answer<i32> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = api::AcknowledgeNoticesRequest { names };
        let reply = self.dashboards().acknowledge_notices(self.ask(request)).await;
        reply.map(|reply| reply.into_inner().unread_notice_count)
    }
}

fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
}

/// The id in the last part of a name.
pub(crate) fn id(name: &str) -> Uuid {
    name.rsplit('/').next().and_then(|id| id.parse().ok()).expect("a name that ends in an id")
}

/// Asserts that a call was refused with this code and reason; returns the fields that it named.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(answer: Answer<T>, code: Code, reason: &str) -> Vec<String> {
    let status = answer.expect_err("it must be refused");
    let details = status.get_error_details();
    let got = details.error_info().map_or("", |info| info.reason.as_str());
    assert_eq!((status.code(), got), (code, reason), "{status:?}");
    let fields = details.bad_request().map(|bad| bad.field_violations.iter().map(|v| v.field.clone()).collect());
    fields.unwrap_or_default()
}
