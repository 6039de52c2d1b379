//! `cargo rushes torture`: two of each service on real servers behind fault proxies, clients that write and read through the
//! gateways while everything is cut, stopped and killed, and a check of all that was answered.
//!
//! Invariant: what is checked is what clients saw. Nothing inside of a service is asked whether it was right.

mod clients;
mod faults;
mod history;
mod load;
mod revocations;
mod watched;
mod watchers;
mod workload;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cli::failure::Exit;
use cli::out;
use serde_json::json;

use self::faults::{Counts, Script};
use self::history::Findings;
use self::revocations::Revocations;
use self::watched::WatchFindings;
use self::workload::Workload;
use crate::Progress;
use crate::cluster::{Cluster, Plan};

/// How long, with which faults.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long clients write and read.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The plan of faults and of calls is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What goes wrong.
    #[arg(long, value_enum, default_value_t = Script::Mixed)]
    scenario: Script,
    /// Where to keep the services' logs; else they go with the run.
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<std::path::PathBuf>,
}

/// Runs it; a promise that was broken is a failure.
pub async fn run(options: &Options, json: bool, say: Progress<'_>) -> Result<Exit> {
    say("starting two of each service, and a proxy before each of their servers");
    let cluster = Arc::new(Cluster::start(Plan { replicas: 2, logs: options.logs.clone(), more: Vec::new() }).await?);
    let workload = Arc::new(Workload::new(Arc::clone(&cluster), options.seed).await?);
    say(&format!("{} for {} minutes, seed {}", options.scenario.name(), options.minutes, options.seed));
    let until = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    // Before the others, which leave a new account no time.
    let revoking = revocations::begin(&workload).await?;
    let clients = clients::begin(&workload);
    let watchers = watchers::begin(&workload, options.seed);
    let loads = load::Meter::begin(Arc::clone(&cluster));
    let (counts, phases) = faults::play(options.scenario, &workload, &loads, options.seed, until).await;
    workload.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.context("a client panicked")?;
    }
    let mut revoked = revoking.await.context("a client panicked")??;
    say("all faults have ended: waiting for every generation to end");
    let unended = workload.settle(Duration::from_secs(120)).await?;
    revocations::finish(&workload, &mut revoked).await?;
    // Where nobody can be asked for long, news come late.
    let punctual = options.scenario != Script::PostgresSilent;
    let mut seen = Vec::new();
    let watches = workload.check_watches(watchers, punctual, &mut seen).await?;
    let mut findings = workload.history.check();
    findings.violations.extend(seen);
    findings.violations.extend(unended);
    findings.violations.append(&mut revoked.violations);
    findings.violations.extend(cluster.books().await?);
    let errors = workload.errors();
    if json {
        out::print(format_args!("{}\n", object(&findings, &watches, &revoked, &counts, errors)))?;
    } else {
        out::print(format_args!("{}", text(&findings, &watches, &revoked, &counts, errors, &workload, &phases)))?;
    }
    for violation in findings.violations.iter().take(20) {
        out::warn(violation);
    }
    Ok(if findings.violations.is_empty() { Exit::Done } else { Exit::Failed })
}

fn object(
    findings: &Findings,
    watches: &WatchFindings,
    revoked: &Revocations,
    faults: &Counts,
    errors: u64,
) -> serde_json::Value {
    json!({
        "reads": findings.reads,
        "writes": findings.writes,
        "faults": faults,
        "violations": findings.violations.len(),
        "worst_staleness_ms": findings.worst.as_millis(),
        "errors": errors,
        "watches": watches.object(),
        "revocations": revoked.object(),
    })
}

fn text(
    findings: &Findings,
    watches: &WatchFindings,
    revoked: &Revocations,
    faults: &Counts,
    errors: u64,
    workload: &Workload,
    phases: &[load::Phase],
) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{} reads, {} writes, {errors} refused; worst staleness {} ms; {} violations",
        findings.reads,
        findings.writes,
        findings.worst.as_millis(),
        findings.violations.len()
    );
    let _ = writeln!(text, "{watches}");
    let _ = writeln!(text, "{revoked}");
    for (kind, count) in faults {
        let _ = writeln!(text, "  {count:>5} {kind}");
    }
    for (code, count) in workload.refusals() {
        let _ = writeln!(text, "  {count:>5} calls ended with {code}");
    }
    for (code, count) in workload.broken() {
        let _ = writeln!(text, "  {count:>5} streams ended with {code}");
    }
    for phase in phases {
        let _ = writeln!(text, "  {phase}");
    }
    text
}
