//! A running service on a database of its own, users with projects and scenes, and the invariants that must hold after every
//! test: they are asserted when the cluster is dropped.

use std::net::SocketAddr;
use std::time::Duration;

use chassis::drain::Drain;
use chassis::keyring::InternalKeys;
use chassis::links::AssetUrls;
use chassis::request::caller::Caller;
use futures::StreamExt as _;
use generation_status::config::Database as Pools;
use generation_status::{Config, Service};
use proto::credits::v1::credit_service_client::CreditServiceClient;
use proto::credits::v1::usage_service_client::UsageServiceClient;
use proto::credits::v1::{
    AdjustCreditsRequest, CreditAccount, CreditEntry, GetCreditAccountRequest, GrantCreditsRequest,
    ListCreditEntriesRequest, ListCreditEntriesResponse,
};
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::{
    CancelGenerationRequest, Generation, GetGenerationRequest, Input, StartGenerationRequest,
};
use proto::queues::v1::queue_service_client::QueueServiceClient;
use proto::webhooks::v1::webhook_service_client::WebhookServiceClient;
use proto::work::v1::work_service_client::WorkServiceClient;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use testkit::{Database, Doors};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// How many calls a test makes at once where it makes many.
const CONCURRENT_CALLS: usize = 4;

/// What `models/local-sketch` costs.
pub(crate) const PRICE: i64 = 50_000;

pub(crate) type Generations = GenerationServiceClient<Doors>;
pub(crate) type Works = WorkServiceClient<Doors>;

/// One process of the service.
pub(crate) struct Node {
    pub(crate) usage: UsageServiceClient<Doors>,
    pub(crate) generations: Generations,
    pub(crate) works: Works,
    pub(crate) credits: CreditServiceClient<Doors>,
    pub(crate) queues: QueueServiceClient<Doors>,
    pub(crate) webhooks: WebhookServiceClient<Doors>,
    /// Where it listens for public calls.
    pub(crate) address: SocketAddr,
    /// Where it listens for internal ones.
    pub(crate) internal: SocketAddr,
    drain: Drain,
}

impl Node {
    pub(crate) async fn start(config: &Config) -> Self {
        let bound = Service::open(config).await.unwrap().bind().await.unwrap();
        let (address, internal) = (bound.addr(), bound.internal_addr());
        let drain = Drain::default();
        tokio::spawn(bound.serve(drain.clone()));
        Self::connect(address, internal, drain)
    }

    /// Clients of the node at these addresses.
    pub(crate) fn connect(address: SocketAddr, internal: SocketAddr, drain: Drain) -> Self {
        let channel = Doors::of("generation-status", address, internal);
        Self {
            generations: GenerationServiceClient::new(channel.clone()),
            works: WorkServiceClient::new(channel.clone()),
            credits: CreditServiceClient::new(channel.clone()),
            usage: UsageServiceClient::new(channel.clone()),
            queues: QueueServiceClient::new(channel.clone()),
            webhooks: WebhookServiceClient::new(channel),
            address,
            internal,
            drain,
        }
    }

    /// A channel to the node.
    pub(crate) fn doors(&self) -> Doors {
        Doors::of("generation-status", self.address, self.internal)
    }

    /// Begins the node's drain.
    pub(crate) fn drain(&self) {
        self.drain.begin();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

/// A service with its database.
pub(crate) struct Cluster {
    pub(crate) node: Node,
    pub(crate) pool: PgPool,
    pub(crate) config: Config,
    database: Database,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A cluster whose configuration differs from the usual one.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Database::fresh().await.unwrap(), change).await
    }

    /// A cluster on this database.
    pub(crate) async fn on(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        let url = database.url_of(testkit::Service::GenerationStatus);
        let mut config = Config::new(url, AssetUrls::public("http://assets.test"), internal_keys());
        let Pools { read, write, claim, finalize, reaper, webhook, .. } = &mut config.database;
        for pool in [read, write, claim, finalize, reaper, webhook] {
            // Tests crowd the machine.
            pool.unresponsive_after = Duration::from_secs(1);
        }
        change(&mut config);
        let pool = PgPoolOptions::new().max_connections(4).connect(&database.url()).await.unwrap();
        let node = Node::start(&config).await;
        Self { node, pool, config, database }
    }

    /// A user with a project, a scene in it, and credits for so many generations.
    pub(crate) async fn user(&self, generations: i64) -> User {
        let user = User { account: Uuid::now_v7(), project: Uuid::now_v7(), scene: Uuid::now_v7() };
        sqlx::query(
            "with account as (insert into accounts (id, display_name) values ($1, 'A user') returning id),
                  project as (insert into projects (id, account_id, title, scene_count)
                              select $2, id, 'A project', 1 from account returning id, account_id)
             insert into scenes (id, account_id, project_id, title, position)
             select $3, account_id, id, 'A scene', 0 from project",
        )
        .bind(user.account)
        .bind(user.project)
        .bind(user.scene)
        .execute(&self.pool)
        .await
        .unwrap();
        if generations > 0 {
            self.grant(&user, generations * PRICE, Uuid::now_v7()).await.unwrap();
        }
        user
    }

    /// One more scene in the user's project.
    pub(crate) async fn scene(&self, user: &User) -> User {
        let scene = Uuid::now_v7();
        sqlx::query(
            "insert into scenes (id, account_id, project_id, title, position) values ($1, $2, $3, 'Another', 1)",
        )
        .bind(scene)
        .bind(user.account)
        .bind(user.project)
        .execute(&self.pool)
        .await
        .unwrap();
        User { scene, ..*user }
    }

    pub(crate) async fn grant(&self, user: &User, micros: i64, request: Uuid) -> Result<CreditAccount, Status> {
        let request = GrantCreditsRequest {
            account: format!("accounts/{}", user.account),
            amount_micros: micros,
            request_id: request.to_string(),
        };
        Ok(self.node.credits.clone().grant_credits(request).await?.into_inner())
    }

    pub(crate) async fn adjust(
        &self,
        user: &User,
        micros: i64,
        reason: &str,
        request: Uuid,
    ) -> Result<CreditAccount, Status> {
        let request = AdjustCreditsRequest {
            account: format!("accounts/{}", user.account),
            amount_micros: micros,
            reason: reason.to_owned(),
            request_id: request.to_string(),
        };
        Ok(self.node.credits.clone().adjust_credits(request).await?.into_inner())
    }

    pub(crate) async fn entries(
        &self,
        user: &User,
        page_size: i32,
        token: &str,
    ) -> Result<ListCreditEntriesResponse, Status> {
        let request = user.asks(ListCreditEntriesRequest { page_size, page_token: token.to_owned() });
        Ok(self.node.credits.clone().list_credit_entries(request).await?.into_inner())
    }

    /// Everything that was booked for a user, newest first, by pages of so many.
    pub(crate) async fn all_entries(&self, user: &User, page_size: i32) -> Vec<CreditEntry> {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = self.entries(user, page_size, &token).await.unwrap();
            assert!(page.entries.len() <= usize::try_from(page_size).unwrap());
            seen.extend(page.entries);
            token = page.next_page_token;
            if token.is_empty() {
                return seen;
            }
        }
    }

    pub(crate) async fn credit(&self, user: &User) -> CreditAccount {
        self.try_credit(user).await.unwrap()
    }

    pub(crate) async fn try_credit(&self, user: &User) -> Result<CreditAccount, Status> {
        let request = user.asks(GetCreditAccountRequest {});
        Ok(self.node.credits.clone().get_credit_account(request).await?.into_inner())
    }

    pub(crate) async fn start(&self, user: &User, request: StartGenerationRequest) -> Result<Generation, Status> {
        Ok(self.node.generations.clone().start_generation(user.asks(request)).await?.into_inner())
    }

    /// Starts an ordinary generation.
    pub(crate) async fn started(&self, user: &User) -> Generation {
        self.start(user, user.start_request()).await.unwrap()
    }

    /// Starts many at once; returns their names.
    pub(crate) async fn started_many(
        &self,
        user: &User,
        start_request: &StartGenerationRequest,
        count: usize,
    ) -> Vec<String> {
        let start = async |_| {
            let start_request =
                StartGenerationRequest { request_id: Uuid::now_v7().to_string(), ..start_request.clone() };
            retry_while_busy(async || self.start(user, start_request.clone()).await).await.name
        };
        futures::stream::iter(0..count).map(start).buffer_unordered(CONCURRENT_CALLS).collect().await
    }

    /// Cancels many at once, through this cluster's node.
    pub(crate) async fn cancel_many(&self, user: &User, names: &[&str]) {
        let cancel = async |name: &&str| {
            let request = || user.asks(CancelGenerationRequest { name: (*name).to_owned() });
            retry_while_busy(async || self.node.generations.clone().cancel_generation(request()).await).await;
        };
        futures::stream::iter(names).map(cancel).buffer_unordered(CONCURRENT_CALLS).collect::<Vec<_>>().await;
    }

    /// Sets the progress of all open generations with SQL, as no process of ours does.
    pub(crate) async fn set_progress(&self, percent: i32) {
        sqlx::query(
            "with moved as (
                 update generations set percent = $1, version = version + 1, update_time = now()
                 where end_time is null returning *
             )
             update scenes s set latest_version = g.version, latest_percent = g.percent
             from moved g where s.latest_generation = g.id",
        )
        .bind(i16::try_from(percent).unwrap())
        .execute(&self.pool)
        .await
        .unwrap();
    }

    pub(crate) async fn get(&self, user: &User, name: &str) -> Result<Generation, Status> {
        self.get_from(user, name, 0).await
    }

    pub(crate) async fn get_from(&self, user: &User, name: &str, min_version: i64) -> Result<Generation, Status> {
        let request = user.asks(GetGenerationRequest { name: name.to_owned(), min_version });
        Ok(self.node.generations.clone().get_generation(request).await?.into_inner())
    }

    /// Lets every lease run out, as time would.
    pub(crate) async fn expire_leases(&self) {
        sqlx::query("update jobs set lease_until = now() - interval '1 ms' where state = 'leased'")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// How many rows of a table there are that a refused request could have left behind.
    pub(crate) async fn rows(&self) -> i64 {
        sqlx::query_scalar(
            "select (select count(*) from generations) + (select count(*) from jobs)
                  + (select count(*) from ledger where entry <> 'grant') + (select sum(held_micros)::bigint from credit_accounts)",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }
}

/// What callers' tokens are signed with.
pub(crate) fn internal_keys() -> InternalKeys {
    InternalKeys::parse(testkit::INTERNAL_KEYS).unwrap()
}

/// A user with one scene.
#[derive(Clone, Copy)]
pub(crate) struct User {
    pub(crate) account: Uuid,
    pub(crate) project: Uuid,
    pub(crate) scene: Uuid,
}

impl User {
    /// A request of this user, as the gateway passes it on.
    pub(crate) fn asks<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        Caller::account(self.account).attach(&mut request);
        request
    }

    pub(crate) fn project(&self) -> String {
        format!("projects/{}", self.project)
    }

    pub(crate) fn scene(&self) -> String {
        format!("projects/{}/scenes/{}", self.project, self.scene)
    }

    /// An ordinary request to start a generation of this user's scene.
    pub(crate) fn start_request(&self) -> StartGenerationRequest {
        StartGenerationRequest {
            scene: self.scene(),
            model: String::new(),
            input: Some(Input { prompt: "A lighthouse at dawn".to_owned(), seed: Some(7), ..Input::default() }),
            request_id: Uuid::now_v7().to_string(),
            ..StartGenerationRequest::default()
        }
    }
}

/// Calls again while the answer is that a crowded machine has no time, as any client does.
async fn retry_while_busy<T>(mut call: impl AsyncFnMut() -> Result<T, Status>) -> T {
    for _ in 0..20 {
        match call().await {
            Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {}
            answer => return answer.unwrap(),
        }
    }
    call().await.unwrap()
}

/// The code and the reason of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default();
    (status.code(), reason)
}

/// What must be true of every database at any time.
const INVARIANTS: &[(&str, &str)] = &[
    (
        "every entry sums to zero",
        "select 1 from ledger group by account_id, generation_id, entry, request_id having sum(amount_micros) <> 0",
    ),
    (
        "balances are what the ledger says",
        "select 1 from credit_accounts c cross join lateral (
             select coalesce(sum(amount_micros) filter (where book = 'available'), 0) as available,
                    coalesce(sum(amount_micros) filter (where book = 'held'), 0) as held,
                    coalesce(sum(amount_micros) filter (where book = 'spent'), 0) as spent
             from ledger where account_id = c.account_id) l
         where (available_micros, held_micros, spent_micros) <> (l.available, l.held, l.spent)",
    ),
    (
        "a terminal generation holds nothing, an open one its price",
        "select 1 from generations g where case when state >= 6 then 0 else held_micros end <> (
             select coalesce(sum(amount_micros), 0) from ledger where generation_id = g.id and book = 'held')",
    ),
    (
        "only completed generations were charged",
        "select 1 from generations g where case when state = 6 then captured_micros else 0 end <> (
             select coalesce(sum(amount_micros), 0) from ledger where generation_id = g.id and book = 'spent')",
    ),
    (
        "open generations are counted",
        "select 1 from credit_accounts c where open_count <> (
             select count(*) from generations g where g.account_id = c.account_id and g.end_time is null)",
    ),
    (
        "an open generation has a live job, a terminal one has none",
        "select 1 from generations g left join jobs j on j.id = g.id
         where (g.state < 6) is distinct from coalesce(j.state in ('queued', 'leased', 'waiting'), false)",
    ),
    (
        "a terminal generation has a provider charge, and a completed one was charged",
        "select 1 from generations where (state >= 6) <> (provider_charge > 0) or (state = 6 and provider_charge <> 2)",
    ),
    (
        "a scene shows its latest generation as it is",
        "select 1 from scenes s join generations g on g.id = s.latest_generation
         where (s.latest_version, s.latest_state, s.latest_percent, s.latest_stage, s.latest_thumbnail, s.latest_thumbhash)
            is distinct from (g.version, g.state, g.percent, g.stage, g.thumbnail, g.thumbhash)",
    ),
    (
        "a scene's take is a completed generation of it, as it is",
        "select 1 from scenes s left join generations g on g.id = s.take_generation and g.scene_id = s.id
             and g.account_id = s.account_id and g.state = 6 and g.delete_time is null
         where s.take_generation is distinct from g.id 
             or (s.take_thumbnail, s.take_thumbhash) is distinct from (g.thumbnail, g.thumbhash)",
    ),
    (
        "usage is what generations came to",
        "select 1 from (
             select account_id, day, model, end_user, started, completed, failed, cancelled, expired, captured_micros from usage_daily
             union all
             select account_id, utc_day(create_time), model, end_user, -1, 0, 0, 0, 0, 0 from generations
             union all
             select account_id, utc_day(end_time), model, end_user, 0, -(state = 6)::int, -(state = 7)::int, -(state = 8)::int,
                    -(state = 9)::int, -captured_micros
             from generations where end_time is not null) both_sides
         -- Of an account that is erased the sums alone are left.
         where account_id not in (select account_id from account_erasures)
         group by account_id, day, model, end_user
         having (sum(started), sum(completed), sum(failed), sum(cancelled), sum(expired), sum(captured_micros)) <> (0, 0, 0, 0, 0, 0)",
    ),
    (
        "an end user holds and has spent what their generations do",
        "select 1 from generations g full join end_users u on u.account_id = g.account_id and u.end_user = g.end_user
         where coalesce(g.end_user, '') <> '' or u.id is not null
         group by u.id, u.held_micros, u.total_micros
         having u.id is null or u.held_micros <> coalesce(sum(g.held_micros) filter (where g.end_time is null), 0)
             or u.total_micros <> coalesce(sum(g.captured_micros), 0)",
    ),
    (
        "a project costs what its completed generations cost",
        "select 1 from projects p cross join lateral (
             select count(*) as count, coalesce(sum(captured_micros), 0) as cost from generations
             where project_id = p.id and state = 6 and delete_time is null) g
         where (completed_count, completed_cost_micros) <> (g.count, g.cost)
           and account_id not in (select account_id from account_erasures)",
    ),
];

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let url = self.database.url();
        let check = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
                for (what, broken) in INVARIANTS {
                    let rows = sqlx::query(*broken).fetch_all(&pool).await.unwrap();
                    assert!(rows.is_empty(), "{what}: broken in {} rows", rows.len());
                }
            });
        };
        std::thread::spawn(check).join().expect("the invariants hold");
    }
}
