//! The same account with few and with many generations a scene: what a dashboard costs must not grow with history.
//!
//! These accounts are few, so each is asked for again and again; before each request a change is committed that makes the
//! cached answer old. The answer's version tells that it was read anew: it is larger than that of the answer before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use proto::dashboard::v1::GetDashboardRequest;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use sqlx::PgConnection;
use tonic::transport::Channel;
use uuid::Uuid;

use super::plot::Plot;
use super::progress::say;
use super::report::{Findings, Round, Row, median, millis};
use super::services::on_behalf;
use super::setup::Bench;
use super::statements;

/// Requests for each account in a round.
const REQUESTS: usize = 10;
/// Generations of each scene of an account with a short history.
const FEW: f64 = 10.0;
/// How long a change may take to reach the cache.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn measure(bench: &Bench) -> Result<Findings> {
    say("dashboards of accounts with few and with many generations a scene");
    let dashboard = DashboardServiceClient::new(bench.services.service("dashboard")?.channel().await?);
    let mut readers =
        Readers { dashboard, database: bench.database.connect().await?, versions: HashMap::new(), deep_first: false };
    let pairs: Vec<(Uuid, Uuid)> =
        bench.seeded.deep.iter().copied().zip(bench.seeded.shallow.iter().copied()).collect();
    readers.pair(&pairs, &mut Vec::new(), &mut Vec::new()).await?;
    let mut rounds = Vec::new();
    for _ in 0..bench.options.rounds {
        let (mut deep, mut shallow) = (Vec::new(), Vec::new());
        for _ in 0..REQUESTS {
            readers.pair(&pairs, &mut deep, &mut shallow).await?;
        }
        rounds.push(Round { ours: median(deep.into_iter()), beside: median(shallow.into_iter()) });
    }
    let takes = bench.plan.takes();
    let what = format!("the same shape with {FEW} generations a scene instead of {takes}");
    let ours = [median(rounds.iter().map(|round| round.beside)), median(rounds.iter().map(|round| round.ours))];
    let queried = readers.queried(&pairs).await?;
    let curve = |[few, many]: [f64; 2]| vec![(FEW, few), (takes as f64, many)];
    let plot = Plot::new("A dashboard that is read anew", "generations in the history of a scene", "ms")
        .with("ours", curve(ours))
        .with("three batched queries over history", curve(queried));
    let rows = vec![Row::new("cold_dashboard_long_history", "ms", what, 1.2, &rounds)];
    Ok(Findings { rows, plots: vec![plot] })
}

struct Readers {
    dashboard: DashboardServiceClient<Channel>,
    database: PgConnection,
    /// The version last read, by account.
    versions: HashMap<Uuid, i64>,
    /// Whether the account with many generations was asked for first.
    deep_first: bool,
}

impl Readers {
    /// One request for each account of each pair, deep and shallow in turns.
    async fn pair(&mut self, pairs: &[(Uuid, Uuid)], deep: &mut Vec<f64>, shallow: &mut Vec<f64>) -> Result<()> {
        let all: Vec<Uuid> = pairs.iter().flat_map(|(deep, shallow)| [*deep, *shallow]).collect();
        statements::touch(&mut self.database, &all).await?;
        let database = &mut self.database;
        testkit::eventually("the change is published", LIMIT, async || {
            (statements::unpublished(database).await.ok()? == 0).then_some(())
        })
        .await?;
        self.deep_first = !self.deep_first;
        for (number, (many, few)) in pairs.iter().enumerate() {
            // Who goes first takes turns: the first request after a pause finds colder processors.
            if self.deep_first == (number % 2 == 0) {
                deep.push(millis(self.anew(*many).await?));
                shallow.push(millis(self.anew(*few).await?));
            } else {
                shallow.push(millis(self.anew(*few).await?));
                deep.push(millis(self.anew(*many).await?));
            }
        }
        Ok(())
    }

    /// What three queries over history take for each account, with a short one and with a long one.
    async fn queried(&mut self, pairs: &[(Uuid, Uuid)]) -> Result<[f64; 2]> {
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..REQUESTS {
            for (deep, shallow) in pairs {
                for (took, account) in took.iter_mut().zip([shallow, deep]) {
                    let began = Instant::now();
                    statements::batched(&mut self.database, *account).await?;
                    took.push(millis(began.elapsed()));
                }
            }
        }
        Ok(took.map(|took| median(took.into_iter())))
    }

    /// How long a dashboard takes that is read anew; an answer that is still allowed to be the old one does not count.
    async fn anew(&mut self, account: Uuid) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let request = on_behalf("dashboard", account, GetDashboardRequest::default());
            let asked = Instant::now();
            let answer = self.dashboard.get_dashboard(request).await?;
            let took = asked.elapsed();
            let version = answer.into_inner().version;
            if self.versions.insert(account, version).is_none_or(|before| before < version) {
                return Ok(took);
            }
            (began.elapsed() < LIMIT).then_some(()).context("a dashboard's change does not show")?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
