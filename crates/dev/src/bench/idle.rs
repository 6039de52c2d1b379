//! Resident memory of each service, ready and idle: what a replica costs that nobody uses.

use std::time::Duration;

use anyhow::Result;

use super::process;
use super::progress::say;
use super::report::Row;
use super::services::Service;
use super::setup::Bench;

/// In megabytes; pages of the program itself are included.
const GOAL: f64 = 50.0;
/// How long a service is left alone before it is looked at.
const IDLE: Duration = Duration::from_secs(3);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    say("resident memory, idle");
    // Only for this row: it would take up the work that another one hands out.
    let worker = bench.services.another("generation-worker", &[]).await?;
    let services: Vec<&Service> = bench.services.all().chain([&worker]).collect();
    let mut found = vec![Vec::new(); services.len()];
    for _ in 0..bench.options.rounds {
        tokio::time::sleep(IDLE / bench.options.rounds).await;
        for (found, service) in found.iter_mut().zip(&services) {
            found.push(process::resident(service.pid())? as f64 / 1e6);
        }
    }
    let rows = services.iter().zip(found).map(|(service, found)| {
        let name = format!("memory_{}", service.name().replace('-', "_"));
        Row::figure_goal(name, "MB", GOAL, "the figure aimed at", &found)
    });
    Ok(rows.collect())
}
