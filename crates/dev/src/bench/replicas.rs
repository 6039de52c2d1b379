//! Four replicas of dashboard behind one name, as a headless service has it: how evenly a gateway's calls reach them, after the last has
//! come and after one is gone.
//!
//! What each has answered is what its own metrics say.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::dashboard::v1::GetDashboardRequest;

use super::hosts::Hosts;
use super::load::Target;
use super::progress::say;
use super::report::{Round, Row};
use super::services::Service;
use super::setup::Bench;
use super::warm;

const NAME: &str = "replicas.test";
const REPLICAS: u8 = 4;
/// How long after a change of the name its addresses have to be used evenly.
const SETTLED: Duration = Duration::from_secs(10);
/// How long they are loaded.
const TIME: Duration = Duration::from_secs(3);
/// What a service counts of its calls, by method.
const ANSWERED: &str = "rushes_rpc_server_duration_seconds_count{";
/// The busiest beside the mean.
const GOAL: f64 = 1.3;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    if !Hosts::are_supported() {
        say("replicas: a process cannot be told hosts of its own here (unshare --mount), so the rows are left out");
        return Ok(Vec::new());
    }
    say("four replicas behind one name");
    // The one that runs already is the first, on 127.0.0.1.
    let first = bench.services.service("dashboard")?;
    let (public, internal) = (first.address().port(), first.internal_address().port());
    let mut others = Vec::new();
    for last in 2..REPLICAS {
        others.push(bench.services.replica("dashboard", last).await?);
    }
    let hosts = Hosts::write(bench.database.folder(), &list(1..REPLICAS))?;
    let gateway = bench
        .services
        .another_that_knows(
            &hosts,
            "gateway",
            &[
                ("RUSHES_DASHBOARD_URL", &format!("http://{NAME}:{public}")),
                ("RUSHES_DASHBOARD_INTERNAL_URL", &format!("http://{NAME}:{internal}")),
            ],
        )
        .await?;
    let mut calls = Vec::new();
    for account in bench.seeded.warm().iter().take(16) {
        let metadata = warm::key(bench, *account).await?;
        calls.push(warm::call(warm::DASHBOARD, &GetDashboardRequest::default(), &metadata));
    }
    let target = Target::connect(gateway.address(), vec![gateway.pid()], calls).await?;
    target.load(TIME).await?;

    others.push(bench.services.replica("dashboard", REPLICAS).await?);
    hosts.change(&list(1..=REPLICAS))?;
    tokio::time::sleep(SETTLED).await;
    let all: Vec<&Service> = [first].into_iter().chain(&others).collect();
    let come = busiest(&target, &all).await?;

    hosts.change(&list([1, 3, 4]))?;
    let gone = others.remove(0);
    tokio::task::spawn_blocking(move || drop(gone)).await?;
    tokio::time::sleep(SETTLED).await;
    let left: Vec<&Service> = [first].into_iter().chain(&others).collect();
    let went = busiest(&target, &left).await?;
    let what = "the mean of all replicas, ten seconds after";
    Ok(vec![
        Row::new("replicas_one_came", "calls", format!("{what} the fourth has come"), GOAL, &[come]),
        Row::new("replicas_one_went", "calls", format!("{what} one of four is gone"), GOAL, &[went]),
    ])
}

/// The calls that the busiest answers while they are loaded, beside the mean.
async fn busiest(target: &Target, replicas: &[&Service]) -> Result<Round> {
    let before = answered(replicas).await?;
    target.load(TIME).await?;
    let after = answered(replicas).await?;
    let each: Vec<f64> = after.into_iter().zip(before).map(|(after, before)| after - before).collect();
    let (max, sum) = (each.iter().copied().fold(0.0, f64::max), each.iter().sum::<f64>());
    ensure!(sum > 0.0, "no replica has answered");
    say(&format!("calls of each: {each:.0?}"));
    Ok(Round { ours: max, beside: sum / replicas.len() as f64 })
}

/// The dashboards that each has answered so far.
async fn answered(replicas: &[&Service]) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for replica in replicas {
        let metrics = replica.metrics().await?;
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with(ANSWERED) && line.contains("DashboardService/GetDashboard\""));
        let counts: Option<Vec<f64>> = lines.map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
        all.push(counts.context("a metric without a number")?.into_iter().sum());
    }
    Ok(all)
}

fn list(last: impl IntoIterator<Item = u8>) -> String {
    let lines = last.into_iter().map(|last| format!("127.0.0.{last} {NAME}\n"));
    ["127.0.0.1 localhost\n".to_owned()].into_iter().chain(lines).collect()
}
