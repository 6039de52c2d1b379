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
use super::report::{Round, Row, median, millis};
use super::services::on_behalf;
use super::{Bench, say, statements};

/// Accounts in a round, at most.
const ACCOUNTS: usize = 100;
/// Accounts that only warm connections and prepared statements up.
const WARM_UP: usize = 40;
/// The backends that read dashboards. The relay has a lane of its own, which ticks alike whatever is read.
const OURS: &str = "rushes/read";

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let rounds = usize::try_from(bench.options.rounds)?;
    let accounts = bench.seeded.cold();
    let (warm_up, accounts) = accounts.split_at(WARM_UP.min(accounts.len() / 4));
    let each = (accounts.len() / rounds).min(ACCOUNTS);
    ensure!(each > 0, "too few generations for {rounds} rounds");
    say(&format!("cold dashboards, {rounds} rounds of {each} accounts"));
    let mut sides = Sides::open(bench).await?;
    for account in warm_up {
        sides.ours(*account).await?;
        sides.hand_written(*account).await?;
        sides.batched(*account).await?;
    }
    let (mut waits, mut costs, mut by_hand) = (Vec::new(), Vec::new(), Vec::new());
    for (number, accounts) in accounts.chunks(each).take(rounds).enumerate() {
        for account in accounts {
            sides.hand_written(*account).await?;
            sides.batched(*account).await?;
        }
        // Who goes first takes turns too.
        let (ours, hand_written) = if number % 2 == 0 {
            let ours = sides.all_of_ours(accounts).await?;
            (ours, sides.all_by_hand(accounts).await?)
        } else {
            let hand_written = sides.all_by_hand(accounts).await?;
            (sides.all_of_ours(accounts).await?, hand_written)
        };
        let batched = sides.all_batched(accounts).await?;
        waits.push(Round { ours: ours.wait, beside: hand_written.wait });
        costs.push(Round { ours: ours.cpu, beside: batched });
        by_hand.push(hand_written.cpu);
    }
    say(&format!("PostgreSQL spends {:.3} ms on the hand-written statement", median(by_hand.into_iter())));
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
struct Sides {
    dashboard: DashboardServiceClient<Channel>,
    floor: PgConnection,
    watcher: PgConnection,
}

/// What one side of a round found.
struct Found {
    /// Median, in milliseconds.
    wait: f64,
    /// CPU time of PostgreSQL for each, in milliseconds.
    cpu: f64,
}

impl Sides {
    async fn open(bench: &Bench) -> Result<Self> {
        let dashboard = DashboardServiceClient::new(bench.services.service("dashboard")?.channel().await?);
        let (floor, watcher) = (bench.database.connect().await?, bench.database.connect().await?);
        Ok(Self { dashboard, floor, watcher })
    }

    async fn all_of_ours(&mut self, accounts: &[Uuid]) -> Result<Found> {
        let backends = Backends::of(OURS, &mut self.watcher).await?;
        let mut waits = Vec::with_capacity(accounts.len());
        for account in accounts {
            waits.push(self.ours(*account).await?);
        }
        let used = backends.since(&mut self.watcher).await?;
        Ok(Found { wait: median(waits.into_iter().map(millis)), cpu: part(used, accounts) })
    }

    async fn all_by_hand(&mut self, accounts: &[Uuid]) -> Result<Found> {
        let before = backends::own(&mut self.floor).await?;
        let mut waits = Vec::with_capacity(accounts.len());
        for account in accounts {
            waits.push(self.hand_written(*account).await?);
        }
        let used = backends::own(&mut self.floor).await? - before;
        Ok(Found { wait: median(waits.into_iter().map(millis)), cpu: part(used, accounts) })
    }

    async fn all_batched(&mut self, accounts: &[Uuid]) -> Result<f64> {
        let before = backends::own(&mut self.floor).await?;
        for account in accounts {
            self.batched(*account).await?;
        }
        Ok(part(backends::own(&mut self.floor).await? - before, accounts))
    }

    /// Through the service. The content is looked at, so that an empty answer is no fast one.
    async fn ours(&mut self, account: Uuid) -> Result<Duration> {
        let request = on_behalf(account, GetDashboardRequest::default());
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
        let rows = statements::hand_written(&mut self.floor, account).await?;
        let took = began.elapsed();
        let scenes = rows.iter().filter(|row| row.try_get("section").is_ok_and(|section: i32| section == 3)).count();
        ensure!(scenes == 48, "the hand-written statement returns {scenes} scenes");
        Ok(took)
    }

    async fn batched(&mut self, account: Uuid) -> Result<()> {
        let latest = statements::batched(&mut self.floor, account).await?;
        ensure!(latest == 48, "the batched queries return {latest} latest generations");
        Ok(())
    }
}

/// What falls to each account, in milliseconds.
fn part(time: Duration, accounts: &[Uuid]) -> f64 {
    millis(time) / accounts.len() as f64
}
