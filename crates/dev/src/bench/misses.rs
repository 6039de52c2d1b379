//! Five hundred callers at once for one dashboard that no cache has: how often the database is asked for it.
//!
//! Counted on the wire, between dashboard processes of its own and PostgreSQL, and not by what a process says of itself. First all
//! callers ask one process, and then two, each half of them: those share Redis alone.

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
    let url = counter.url();
    let another = async || bench.services.another("dashboard", &[("RUSHES_DATABASE_URL", &url)]).await;
    let replicas = [another().await?, another().await?];
    let mut connections = [Vec::new(), Vec::new()];
    for (connections, replica) in connections.iter_mut().zip(&replicas) {
        for _ in 0..CONNECTIONS {
            connections.push(replica.channel().await?);
        }
    }
    let [one, other] = connections;
    let both: Vec<Channel> = one.iter().zip(&other).flat_map(|(one, other)| [one.clone(), other.clone()]).collect();
    let rounds = usize::try_from(bench.options.rounds)?;
    let accounts = bench.seeded.missed();
    ensure!(accounts.len() >= 2 * (rounds + 1), "too few generations for {rounds} rounds");
    let (for_one, for_both) = accounts.split_at(rounds + 1);
    let mut rows = Vec::new();
    for (name, connections, accounts, what) in [
        ("misses_of_one_key", &one, for_one, "the one load that 500 callers need"),
        ("misses_of_one_key_two_replicas", &both, for_both, "the one load that 500 callers need of two replicas"),
    ] {
        let (first, accounts) = accounts.split_first().context("no account is left")?;
        all_at_once(connections, *first).await?;
        let mut found = Vec::new();
        for account in &accounts[..rounds] {
            drop(counter.take());
            all_at_once(connections, *account).await?;
            let loads = counter.take().iter().filter(|statement| reads_dashboard(statement)).count();
            found.push(Round { ours: f64::from(u32::try_from(loads)?), beside: 1.0 });
        }
        rows.push(Row::new(name, "loads", what, 1.0, &found));
    }
    Ok(rows)
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
