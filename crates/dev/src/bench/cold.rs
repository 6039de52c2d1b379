//! A dashboard that no cache has: how long the user waits beside the bare statement, and what it costs PostgreSQL beside
//! three queries that read history.
//!
//! Every request is for an account that nobody has asked for before, so both cache tiers miss and are filled. All three
//! sides read the same accounts, whose pages were read once before the measuring, so that none pays for the disk.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proto::dashboard::v1::GetDashboardRequest;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use sqlx::{PgConnection, Row as _};
use tonic::transport::Channel;
use uuid::Uuid;

use super::backends::{self, Backends};
use super::progress::say;
use super::report::{Round, Row, median, millis};
use super::services::on_behalf;
use super::setup::Bench;
use super::statements;

/// Accounts in a round, at most.
const ACCOUNTS: usize = 100;
/// Accounts that only warm connections and prepared statements up.
const WARM_UP: usize = 40;
/// The backends that read dashboards. The relay has a pool of its own, which ticks alike whatever is read.
const OURS: &str = "rushes/read";

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let rounds = usize::try_from(bench.options.rounds)?;
    let accounts = bench.seeded.cold();
    let (warm_up, accounts) = accounts.split_at(WARM_UP.min(accounts.len() / 4));
    let each = (accounts.len() / rounds).min(ACCOUNTS);
    ensure!(each > 0, "too few generations for {rounds} rounds");
    say(&format!("cold dashboards, {rounds} rounds of {each} accounts"));
    let mut sides = Readers::open(bench).await?;
    for account in warm_up {
        sides.ours(*account).await?;
        sides.hand_written(*account).await?;
        sides.batched(*account).await?;
    }
    let (mut waits, mut costs, mut by_hand, mut again) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for accounts in accounts.chunks(each).take(rounds) {
        for account in accounts {
            sides.hand_written(*account).await?;
            sides.batched(*account).await?;
        }
        let found = sides.round(accounts).await?;
        waits.push(found.wait);
        costs.push(found.cpu);
        by_hand.push(found.by_hand);
        again.push(found.again);
    }
    say(&format!(
        "the hand-written statement costs PostgreSQL {:.3} ms; the same call from the cache takes {:.3} ms",
        median(by_hand.into_iter()),
        median(again.into_iter())
    ));
    Ok(vec![
        Row::new(
            "cold_dashboard",
            "ms",
            "one hand-written statement for the same content on one connection",
            1.5,
            &waits,
        ),
        Row::new(
            "cold_dashboard_postgres_cpu",
            "ms",
            "three batched queries that read history (sum over completed, distinct on latest), for less content",
            1.0 / 3.0,
            &costs,
        ),
    ])
}

/// The three ways to the same dashboard.
struct Readers {
    dashboard: DashboardServiceClient<Channel>,
    hand_written: PgConnection,
    batched: PgConnection,
    watcher: PgConnection,
}

/// What a round found, all in milliseconds.
struct Found {
    /// Medians of ours and of the hand-written statement.
    wait: Round,
    /// CPU time of PostgreSQL for one of ours and for one by three queries.
    cpu: Round,
    /// CPU time of PostgreSQL for one by the hand-written statement.
    by_hand: f64,
    /// Median of ours when asked for once more: what the way to the service and back takes.
    again: f64,
}

impl Readers {
    async fn open(bench: &Bench) -> Result<Self> {
        let dashboard = DashboardServiceClient::new(bench.services.service("dashboard")?.channel().await?);
        let connect = || bench.database.connect();
        Ok(Self { dashboard, hand_written: connect().await?, batched: connect().await?, watcher: connect().await? })
    }

    /// All ways in turns, account by account: none runs in a loop of its own, with the processor's caches to itself.
    async fn round(&mut self, accounts: &[Uuid]) -> Result<Found> {
        let ours = Backends::of(OURS, &mut self.watcher).await?;
        let by_hand = backends::own(&mut self.hand_written).await?;
        let batched = backends::own(&mut self.batched).await?;
        let (mut waits, mut baselines, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for (number, account) in accounts.iter().enumerate() {
            // Who goes first takes turns too.
            if number % 2 == 0 {
                waits.push(self.ours(*account).await?);
                baselines.push(self.hand_written(*account).await?);
            } else {
                baselines.push(self.hand_written(*account).await?);
                waits.push(self.ours(*account).await?);
            }
            self.batched(*account).await?;
            again.push(self.ours(*account).await?);
        }
        let part = |time: Duration| millis(time) / accounts.len() as f64;
        Ok(Found {
            wait: Round {
                ours: median(waits.into_iter().map(millis)),
                beside: median(baselines.into_iter().map(millis)),
            },
            cpu: Round {
                ours: part(ours.since(&mut self.watcher).await?),
                beside: part(backends::own(&mut self.batched).await? - batched),
            },
            by_hand: part(backends::own(&mut self.hand_written).await? - by_hand),
            again: median(again.into_iter().map(millis)),
        })
    }

    /// Through the service. The content is looked at, so that an empty answer is no fast one.
    async fn ours(&mut self, account: Uuid) -> Result<Duration> {
        let request = on_behalf("dashboard", account, GetDashboardRequest::default());
        let began = Instant::now();
        let answer = self.dashboard.get_dashboard(request).await?;
        let took = began.elapsed();
        let dashboard = answer.into_inner();
        let scenes: usize = dashboard.projects.iter().map(|project| project.scenes.len()).sum();
        ensure!(dashboard.unreachable.is_empty(), "a dashboard lacks {:?}", dashboard.unreachable);
        ensure!((dashboard.projects.len(), scenes) == (8, 48), "a dashboard has {scenes} scenes");
        Ok(took)
    }

    async fn hand_written(&mut self, account: Uuid) -> Result<Duration> {
        let began = Instant::now();
        let rows = statements::hand_written(&mut self.hand_written, account).await?;
        let took = began.elapsed();
        let scenes = rows.iter().filter(|row| row.try_get("section").is_ok_and(|section: i32| section == 3)).count();
        ensure!(scenes == 48, "the hand-written statement returns {scenes} scenes");
        Ok(took)
    }

    async fn batched(&mut self, account: Uuid) -> Result<()> {
        let latest = statements::batched(&mut self.batched, account).await?.latest.len();
        ensure!(latest == 48, "the batched queries return {latest} latest generations");
        Ok(())
    }
}
