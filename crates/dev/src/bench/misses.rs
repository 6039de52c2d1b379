//! Five hundred callers at once for one dashboard that no cache has: how often the database is asked for it.
//!
//! Counted on the wire, between a dashboard process of its own and PostgreSQL, and not by what the process says of itself.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use proto::dashboard::v1::GetDashboardRequest;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use testkit::{Database, RoundTrips};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use uuid::Uuid;

use super::progress::say;
use super::report::{Round, Row};
use super::services::on_behalf;
use super::setup::Bench;

const CALLERS: usize = 500;
const CONNECTIONS: usize = 4;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    say("500 callers of one dashboard that is not cached");
    let url = Database::url_for(bench.database.url(), "dashboard")?.context("dashboard uses the database")?;
    let counter = RoundTrips::before(&url).await?;
    let service = bench.services.another("dashboard", &[("RUSHES_DATABASE_URL", &counter.url())]).await?;
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(service.channel().await?);
    }
    let rounds = usize::try_from(bench.options.rounds)?;
    let (first, accounts) = bench.seeded.missed().split_first().context("no account is left")?;
    ensure!(accounts.len() >= rounds, "too few generations for {rounds} rounds");
    all_at_once(&connections, *first).await?;
    let mut found = Vec::new();
    for account in &accounts[..rounds] {
        drop(counter.take());
        all_at_once(&connections, *account).await?;
        let loads = counter.take().iter().filter(|statement| reads_dashboard(statement)).count();
        found.push(Round { ours: f64::from(u32::try_from(loads)?), beside: 1.0 });
    }
    Ok(vec![Row::new("misses_of_one_key", "loads", "the one load that 500 callers need", 1.0, &found)])
}

async fn all_at_once(connections: &[Channel], account: Uuid) -> Result<()> {
    let start = Arc::new(Barrier::new(CALLERS));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let mut client = DashboardServiceClient::new(connections[number % connections.len()].clone());
        let start = start.clone();
        callers.spawn(async move {
            start.wait().await;
            client.get_dashboard(on_behalf("dashboard", account, GetDashboardRequest::default())).await
        });
    }
    while let Some(caller) = callers.join_next().await {
        let dashboard = caller?.context("one of 500 callers was refused")?.into_inner();
        ensure!(!dashboard.projects.is_empty(), "one of 500 callers got an empty dashboard");
    }
    Ok(())
}

/// Whether a round trip carried a dashboard's content: only that reads scenes. Preparing it returns nothing.
fn reads_dashboard(statement: &str) -> bool {
    statement.contains("from scenes") && !statement.starts_with("prepare: ")
}
