//! `cargo rushes nemesis`: generations in all four protocols while a third of all orders' connections are cut after the provider took them,
//! the provider does wrong whatever it can and is away now and then, and processes and servers are killed, and workers stopped
//! beyond their leases, at random; then the provider's bill is joined with the books, and what the customers' receiver was notified
//! of with both.
//!
//! Invariant: leases, heartbeats and reapers are as in production, so that the times of rescues are.

mod faults;
mod scaled_time;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cli::failure::Exit;
use cli::out;
use fastrand::Rng;
use proto::generations::v1::State;
use provider_double::Receiver;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use testkit::Process;

use self::scaled_time::ScaledTime;
use crate::audit::{Audit, audit};
use crate::cluster::{Cluster, Plan, SERVICES};
use crate::customer::{Ask, Customer, Still};
use crate::folder::folder_of_run;
use crate::provider::{MODELS, Provider};
use crate::report::summary;
use crate::rescue::{Rescues, percentile};
use crate::{Progress, notifications};

/// Accounts that order.
const CUSTOMERS: usize = 4;
/// A generation is stopped so long after its start, and with it what stays unconfirmed.
const DEADLINE: Duration = Duration::from_secs(120);
/// Without an end for so long, none is waited for any more.
const TIMEOUT: Duration = Duration::from_secs(240);

/// The longest video that is taken; a file that is too long is twice as long.
const MAX_VIDEO_BYTES: u64 = 4 << 20;

/// How many, how wild.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many generations are ordered.
    #[arg(long, default_value_t = 500)]
    generations: usize,
    /// Faults, prompts and kills are drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many are under way at one time.
    #[arg(long, default_value_t = 60)]
    at_once: usize,
    /// Judge whether anything was lost, ordered or charged twice, and only tell what depends on time: how soon the jobs of dead workers
    /// are back, and what was not settled or delivered within deadlines of two minutes. For a machine that others use as well.
    #[arg(long)]
    untimed: bool,
    /// Where to keep the logs, the bill and the videos; else they go with the run.
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<std::path::PathBuf>,
}

/// Runs it; a promise that was broken is a failure.
pub async fn run(options: &Options, json: bool, say: Progress<'_>) -> Result<Exit> {
    let folder = folder_of_run(options.logs.as_deref())?;
    let provider = Provider::start(&folder.path, DEADLINE, |settings| {
        settings.seed = options.seed;
        (settings.waits, settings.renders) = ((0, 300), (100, 2_000));
        (settings.faults, settings.huge_bytes) = (faults::faults(), 2 * MAX_VIDEO_BYTES);
        settings.strict = true;
    })
    .await?;
    let mut more = provider.environment();
    more.push(("RUSHES_WORKER_SLOTS", "16".to_owned()));
    more.push(("RUSHES_WEBHOOK_REACH", "anywhere".to_owned()));
    more.push(("RUSHES_VIDEO_MAX_BYTES", MAX_VIDEO_BYTES.to_string()));
    // 8,000 bytes at one a second do not come in time; those that come at once do beside everything else.
    more.push(("RUSHES_DOWNLOAD_TIMEOUT", "15s".to_owned()));
    say("starting two of each service");
    let cluster = Cluster::start(Plan { replicas: 2, logs: Some(folder.path.clone()), more }).await?;
    let pool = PgPoolOptions::new().max_connections(9).connect(&cluster.database_url()).await?;
    let receiver = Receiver::start(options.seed).await?;
    let (mut customers, mut secrets) = (Vec::new(), Vec::new());
    for number in 0..CUSTOMERS {
        let customer = Customer::new(&cluster, 2).await.context("making an account")?;
        secrets.push(customer.listen(&receiver.url(number)).await.context("asking for webhooks")?);
        customers.push(customer);
    }
    say(&format!("{} generations, seed {}", options.generations, options.seed));
    let time = ScaledTime::begin(&pool);
    let (begun, rescues, done) = (Instant::now(), Rescues::default(), AtomicBool::new(false));
    let kills = Mutex::new(BTreeMap::new());
    let killing = kill(&cluster, &pool, &rescues, options.seed, &done, &kills);
    let stopping = stop(&cluster, &pool, &rescues, options.seed, &done);
    let leaving = faults::outages(&provider, options.seed, &done);
    let ordering = async {
        let accepted = order(&customers, options).await;
        done.store(true, Ordering::Relaxed);
        accepted
    };
    let (accepted, killed, stops, outages) = tokio::join!(ordering, killing, stopping, leaving);
    killed?;
    let accepted = accepted?;
    say("all were ordered and every server is up: waiting for what is open");
    cluster.heal().await?;
    settle(&pool).await?;
    time.end(&pool).await.context("making troubles older")?;
    let mut audit = audit(&pool, &provider.bill, &customers, &accepted).await?;
    let mut ended = Vec::new();
    for (customer, names) in customers.iter().zip(&accepted) {
        ended.push(customer.get(names).await?);
    }
    audit.notifications = notifications::check(&receiver.received(), &secrets, &ended);
    let rescued = rescues.all().await;
    pool.close().await;
    let harm = Harm { kills: kills.into_inner().unwrap_or_default(), stops, outages };
    report(options, &audit, &rescued, &harm, begun.elapsed(), json)
}

/// Orders everything; gives what was accepted, by customer.
async fn order(customers: &[Customer], options: &Options) -> Result<Vec<Vec<String>>> {
    let (next, slots) = (AtomicUsize::new(0), options.at_once.max(1));
    let accepted: Vec<Mutex<Vec<String>>> = customers.iter().map(|_| Mutex::default()).collect();
    let slot = async |slot: usize| -> Result<()> {
        let mut rng = Rng::with_seed(options.seed.wrapping_mul(10_007).wrapping_add(slot as u64));
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= options.generations {
                return Ok(());
            }
            let at = number % customers.len();
            let customer = &customers[at];
            let ask = Ask { still: Still::ALL[rng.usize(0..3)], outputs: rng.i32(1..=3) };
            let name = customer.start(MODELS[rng.usize(0..MODELS.len())], &format!("harbour {number}"), ask).await?;
            if let Ok(mut accepted) = accepted[at].lock() {
                accepted.push(name.clone());
            }
            if rng.u8(0..20) == 0 {
                tokio::time::sleep(Duration::from_millis(rng.u64(0..1_500))).await;
                customer.cancel(&name).await?;
            }
            // A slot goes on when its generation has ended, or has been under way for a while: unconfirmed ones are not waited for.
            let until = Instant::now() + Duration::from_secs(10);
            while Instant::now() < until {
                let seen = customer.get(std::slice::from_ref(&name)).await?;
                if seen.iter().all(|one| one.state() >= State::Completed) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    };
    futures::future::try_join_all((0..slots).map(slot)).await?;
    Ok(accepted.into_iter().map(|names| names.into_inner().unwrap_or_default()).collect())
}

/// Kills one thing after another, and starts it again a little later, until `done`.
async fn kill(
    cluster: &Cluster,
    pool: &PgPool,
    rescues: &Rescues,
    seed: u64,
    done: &AtomicBool,
    kills: &Mutex<BTreeMap<&'static str, u64>>,
) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    while !done.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(rng.u64(1_500..5_000))).await;
        let away = Duration::from_millis(rng.u64(200..2_500));
        let what = match rng.u8(0..13) {
            0 => {
                cluster.postgres.kill().await?;
                tokio::time::sleep(away).await;
                cluster.postgres.start().await?;
                "PostgreSQL"
            }
            1 => {
                cluster.redis.kill().await?;
                tokio::time::sleep(away).await;
                cluster.redis.start().await?;
                "Redis"
            }
            2 => {
                cluster.nats.kill().await?;
                tokio::time::sleep(away).await;
                cluster.nats.start().await?;
                "NATS"
            }
            dice => {
                let name = match dice {
                    3..=6 => "generation-worker",
                    7..=9 => "generation-status",
                    _ => SERVICES[rng.usize(0..SERVICES.len())],
                };
                let at = cluster.at(rng.usize(0..2), name);
                let id = cluster.nodes[at].with(Process::id);
                cluster.kill(at);
                if let Some(id) = id.filter(|_| name == "generation-worker") {
                    rescues.begin(pool, id);
                }
                tokio::time::sleep(away).await;
                cluster.launch(at)?;
                name
            }
        };
        if let Ok(mut kills) = kills.lock() {
            *kills.entry(what).or_default() += 1;
        }
    }
    Ok(())
}

/// Stops one worker after another (SIGSTOP) for up to a minute: longer than a lease. What it held is done elsewhere, and when it
/// goes on it still believes in its leases. One at a time, so that the other can take over. Gives how many.
async fn stop(cluster: &Cluster, pool: &PgPool, rescues: &Rescues, seed: u64, done: &AtomicBool) -> u64 {
    let mut rng = Rng::with_seed(seed.wrapping_add(1));
    let mut stops = 0;
    loop {
        let next = Instant::now() + Duration::from_millis(rng.u64(10_000..30_000));
        while Instant::now() < next {
            if done.load(Ordering::Relaxed) {
                return stops;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let node = &cluster.nodes[cluster.at(rng.usize(0..2), "generation-worker")];
        let life = node.life.load(Ordering::SeqCst);
        // Gone at the moment, if it has none.
        let Some(id) = node.with(|process| {
            process.pause();
            process.id()
        }) else {
            continue;
        };
        stops += 1;
        rescues.begin(pool, id);
        let until = Instant::now() + Duration::from_millis(rng.u64(35_000..60_000));
        while Instant::now() < until && !done.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if node.life.load(Ordering::SeqCst) == life {
            node.with(Process::resume);
        }
    }
}

/// What was done to the processes and servers.
struct Harm {
    kills: BTreeMap<&'static str, u64>,
    /// Workers that were stopped for a while.
    stops: u64,
    /// Outages of the provider, by kind.
    outages: BTreeMap<String, u64>,
}

/// Waits until nothing is open and everything was delivered, or nothing has ended for a long while.
async fn settle(pool: &PgPool) -> Result<()> {
    let (mut fewest, mut since) = (i64::MAX, Instant::now());
    while since.elapsed() < TIMEOUT {
        let open = sqlx::query_scalar(
            "select (select count(*) from generations where end_time is null)
                  + (select count(*) from webhook_deliveries where state = 1)",
        );
        let open: i64 = open.fetch_one(pool).await?;
        if open == 0 {
            break;
        }
        if open < fewest {
            (fewest, since) = (open, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

fn report(
    options: &Options,
    audit: &Audit,
    rescued: &[Duration],
    harm: &Harm,
    took: Duration,
    json: bool,
) -> Result<Exit> {
    let all: u64 = harm.kills.values().sum();
    let worst = rescued.last().copied().unwrap_or_default();
    if json {
        let object = json!({
            "generations": options.generations,
            "kills": all,
            "stops": harm.stops,
            "outages": harm.outages.values().sum::<u64>(),
            "webhooks": audit.notifications.webhooks,
            "webhooks_refused": audit.notifications.refused,
            "webhooks_doubled": audit.notifications.doubles,
            "webhooks_overtaken": audit.notifications.overtaken,
            "webhooks_wrong": audit.notifications.wrong.len(),
            "lost": audit.lost.len(),
            "double_submissions": audit.double_submissions.len(),
            "double_charges": audit.double_charges.len(),
            "paid_undelivered": audit.paid_undelivered.causes,
            "paid_undelivered_ours": audit.paid_undelivered.ours.len(),
            "ledger_sum": audit.ledger_sum,
            "unconfirmed": audit.unconfirmed,
            "unconfirmed_why": audit.explained,
            "ends": audit.ends,
            "rescues": rescued.len(),
            "p50_rescue_s": percentile(rescued, 0.5).as_secs_f64(),
            "p90_rescue_s": percentile(rescued, 0.9).as_secs_f64(),
            "worst_rescue_s": worst.as_secs_f64(),
        });
        out::print(format_args!("{object}\n"))?;
    } else {
        let what = format!("{} generations in {:.0} s, {all} kills", options.generations, took.as_secs_f64());
        out::print(format_args!("{}", summary(audit, &what, rescued)))?;
        let found = &audit.notifications;
        out::print(format_args!(
            "  {:>6} webhooks, {} of them refused, {} sent once more after they were taken, {} overtaken; {} wrong\n",
            found.webhooks,
            found.refused,
            found.doubles,
            found.overtaken,
            found.wrong.len()
        ))?;
        for (what, count) in &harm.kills {
            out::print(format_args!("  {count:>6} times {what} killed\n"))?;
        }
        out::print(format_args!("  {:>6} times generation-worker stopped beyond its leases\n", harm.stops))?;
        for (kind, count) in &harm.outages {
            out::print(format_args!("  {count:>6} outages of the provider: {kind}\n"))?;
        }
    }
    for wrong in audit.wrong().take(20) {
        out::warn(wrong);
    }
    // The promise of a dead worker's job.
    let late = worst > Duration::from_secs(45);
    if late {
        out::warn(format_args!("a dead worker's job was back after {:.1} s only", worst.as_secs_f64()));
    }
    let holds = if options.untimed { audit.is_safe() } else { audit.holds() && !late };
    Ok(if holds { Exit::Done } else { Exit::Failed })
}
