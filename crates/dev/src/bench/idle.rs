//! Services that nobody uses: what each replica costs, and how soon one is ready.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::process;
use super::progress::say;
use super::report::{Row, millis};
use super::services::{Service, USUAL};
use super::setup::Bench;

/// Megabytes of one service; pages of the program itself are included.
const MEMORY_GOAL: f64 = 50.0;
/// Megabytes of all of them.
const ALL_MEMORY_GOAL: f64 = 200.0;
/// Milliseconds of CPU in a second that all of them take: one percent of a core.
const CPU_GOAL: f64 = 10.0;
/// Milliseconds from the start of a process until it takes requests.
const READY_GOAL: f64 = 300.0;
/// How long the services are left alone before they are looked at, and in each round.
const IDLE: Duration = Duration::from_secs(3);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    say("idle services");
    // Only for these rows: it would take up the work that another one gives out.
    let worker = bench.services.another("generation-worker", &[]).await?;
    let services: Vec<&Service> = bench.services.all().chain([&worker]).collect();
    tokio::time::sleep(IDLE).await;
    let (mut memory, mut all) = (vec![Vec::new(); services.len()], Vec::new());
    let (mut cpu, mut all_cpu) = (vec![Vec::new(); services.len()], Vec::new());
    for _ in 0..bench.options.rounds {
        let used = || services.iter().map(|service| process::cpu(service.pid())).collect::<Result<Vec<_>>>();
        let (began, before) = (Instant::now(), used()?);
        tokio::time::sleep(IDLE).await;
        let (after, seconds) = (used()?, began.elapsed().as_secs_f64());
        let (mut resident, mut busy) = (0.0, 0.0);
        for (at, service) in services.iter().enumerate() {
            let megabytes = process::resident(service.pid())? as f64 / 1e6;
            let share = millis(after[at].saturating_sub(before[at])) / seconds;
            (resident, busy) = (resident + megabytes, busy + share);
            memory[at].push(megabytes);
            cpu[at].push(share);
        }
        all.push(resident);
        all_cpu.push(busy);
    }
    let figure = "the figure aimed at";
    let named = |what: &str, service: &Service| format!("{what}_{}", service.name().replace('-', "_"));
    let mut rows = Vec::new();
    for (service, memory) in services.iter().zip(&memory) {
        rows.push(Row::figure_goal(named("memory", service), "MB", MEMORY_GOAL, figure, memory));
    }
    rows.push(Row::figure_goal("memory_all", "MB", ALL_MEMORY_GOAL, figure, &all));
    // One that takes a part as large as the number of services leaves nothing to the others.
    for (service, cpu) in services.iter().zip(&cpu) {
        rows.push(Row::figure_goal(named("idle_cpu", service), "ms/s", CPU_GOAL / services.len() as f64, figure, cpu));
    }
    rows.push(Row::figure_goal("idle_cpu_all", "ms/s", CPU_GOAL, figure, &all_cpu));
    drop(worker);
    for name in USUAL.into_iter().chain(["generation-worker"]) {
        let mut took = Vec::new();
        for _ in 0..bench.options.rounds {
            let began = Instant::now();
            let _started = bench.services.another(name, &[]).await?;
            took.push(millis(began.elapsed()));
        }
        rows.push(Row::figure_goal(format!("ready_{}", name.replace('-', "_")), "ms", READY_GOAL, figure, &took));
    }
    Ok(rows)
}
