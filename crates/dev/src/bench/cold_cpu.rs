//! What a dashboard that no cache has costs all processes together, beside the batched design (see `batched`) on the same data.
//!
//! Before each time that an account is asked for, a change of it is committed and has reached the cache, so that neither tier answers; the
//! version of what is answered tells that it was read anew.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::dashboard::v1::GetDashboardRequest;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use sqlx::PgConnection;
use tonic::transport::Channel;
use uuid::Uuid;

use super::backends::Backends;
use super::batched::Batched;
use super::progress::say;
use super::report::{Round, Row, millis};
use super::services::on_behalf;
use super::setup::Bench;
use super::{process, statements};

/// Accounts of a shape, at most, and how often they are asked for in a round, at least.
const ACCOUNTS: usize = 60;
const REQUESTS: usize = 30;
/// How long a change may take to reach the cache, and how much longer it is waited.
const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// The backends that read dashboards.
const READERS: &str = "rushes/read";

/// What is asked for, and how it may cost beside the batched design.
struct Shape<'a> {
    accounts: &'a [Uuid],
    projects: usize,
    goal: f64,
}

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let studios = bench.seeded.cold();
    let shapes = [
        Shape { accounts: &studios[..studios.len().min(ACCOUNTS)], projects: 8, goal: 1.0 / 4.0 },
        Shape { accounts: &bench.seeded.wide[..bench.seeded.wide.len().min(ACCOUNTS)], projects: 30, goal: 1.0 / 8.0 },
    ];
    let service = bench.services.service("dashboard")?;
    let mut readers = Readers {
        dashboard: DashboardServiceClient::new(service.channel().await?),
        processes: [service.pid(), bench.database.redis.id().context("Redis is not running")?],
        database: bench.database.connect().await?,
        batched: Batched::start(bench.database.url())?,
        versions: HashMap::new(),
    };
    let mut rows = Vec::new();
    for shape in shapes {
        say(&format!("CPU of all processes for a cold dashboard of {} projects", shape.projects));
        let mut rounds = Vec::new();
        for number in 0..=bench.options.rounds {
            let round = readers.round(&shape, number % 2 == 0).await?;
            // The first round prepares statements.
            if number > 0 {
                rounds.push(round);
            }
        }
        let name = format!("cold_dashboard_cpu_{}_projects", shape.projects);
        let what = "three batched queries that read history, written down as JSON; CPU of PostgreSQL and of the thread";
        rows.push(Row::new(name, "ms", what, shape.goal, &rounds));
    }
    Ok(rows)
}

/// Both ways to the same dashboards.
struct Readers {
    dashboard: DashboardServiceClient<Channel>,
    /// The service and Redis.
    processes: [u32; 2],
    database: PgConnection,
    batched: Batched,
    /// The version last read, by account.
    versions: HashMap<Uuid, i64>,
}

impl Readers {
    /// One round, all in milliseconds of CPU for one dashboard.
    async fn round(&mut self, shape: &Shape<'_>, ours_first: bool) -> Result<Round> {
        let (mut ours, mut beside, mut asked) = (Duration::ZERO, Duration::ZERO, 0);
        while asked < REQUESTS {
            if ours_first {
                ours += self.ours(shape).await?;
                beside += self.batched(shape).await?;
            } else {
                beside += self.batched(shape).await?;
                ours += self.ours(shape).await?;
            }
            asked += shape.accounts.len();
        }
        Ok(Round { ours: millis(ours) / asked as f64, beside: millis(beside) / asked as f64 })
    }

    async fn ours(&mut self, shape: &Shape<'_>) -> Result<Duration> {
        statements::touch(&mut self.database, shape.accounts).await?;
        let database = &mut self.database;
        testkit::eventually("the change is published", LIMIT, async || {
            (statements::unpublished(database).await.ok()? == 0).then_some(())
        })
        .await?;
        tokio::time::sleep(PAUSE).await;
        let readers = Backends::of(READERS, &mut self.database).await?;
        let before = self.cpu()?;
        for account in shape.accounts {
            let request = GetDashboardRequest { page_size: i32::try_from(shape.projects)?, ..Default::default() };
            let dashboard = self.dashboard.get_dashboard(on_behalf("dashboard", *account, request)).await?.into_inner();
            ensure!(
                dashboard.projects.len() == shape.projects,
                "a dashboard has {} projects",
                dashboard.projects.len()
            );
            let known = self.versions.insert(*account, dashboard.version);
            ensure!(known.is_none_or(|known| known < dashboard.version), "a dashboard was not read anew");
        }
        Ok(self.cpu()? - before + readers.since(&mut self.database).await?)
    }

    fn cpu(&self) -> Result<Duration> {
        self.processes.iter().map(|pid| process::cpu(*pid)).sum()
    }

    async fn batched(&mut self, shape: &Shape<'_>) -> Result<Duration> {
        let before = self.batched.cpu().await?;
        for account in shape.accounts {
            let scenes = self.batched.dashboard(*account).await?;
            ensure!(scenes == 6 * shape.projects, "the batched design finds {scenes} scenes");
        }
        Ok(self.batched.cpu().await? - before)
    }
}
