//! What goes wrong, and when: drawn from the seed, or a script with phases.
//!
//! Invariant: every fault has ended when [`play`] returns, some seconds before the clients do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sqlx::Connection as _;
use testkit::{Direction, Process};
use tokio::time::sleep;

use super::load::{Meter, Phase};
use super::workload::Workload;
use crate::cluster::{Backend, Cluster};

/// How often each kind of fault struck.
pub(super) type Counts = BTreeMap<&'static str, u64>;

/// After the last fault there is this much time left for the clients.
const QUIET: Duration = Duration::from_secs(6);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Script {
    /// Anything, drawn from the seed.
    Mixed,
    /// NATS falls silent for everyone for a third of the time, and comes back.
    NatsBlackhole,
    /// Redis and NATS are killed together at twice the usual load, for a third of the time.
    RedisNatsKilled,
    /// PostgreSQL falls silent for everyone for a third of the time, and comes back.
    PostgresSilent,
}

impl Script {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mixed => "everything goes wrong",
            Self::NatsBlackhole => "NATS falls silent",
            Self::RedisNatsKilled => "Redis and NATS are killed at twice the load",
            Self::PostgresSilent => "PostgreSQL falls silent",
        }
    }
}

/// Plays the script until shortly before `until`.
pub(super) async fn play(
    script: Script,
    workload: &Workload,
    meter: &Meter,
    seed: u64,
    until: Instant,
) -> (Counts, Vec<Phase>) {
    let mut counts = Counts::new();
    let mut phases = Vec::new();
    if script == Script::Mixed {
        mixed(workload, &mut Rng::with_seed(seed), until, &mut counts).await;
        healed(workload).await;
        sleep(until.saturating_duration_since(Instant::now())).await;
        return (counts, phases);
    }
    if script == Script::RedisNatsKilled {
        workload.haste.store(2, Ordering::Relaxed);
    }
    let third = until.saturating_duration_since(Instant::now()) / 3;
    for (name, fault) in [("steady", false), ("fault", true), ("after", false)] {
        let cluster = &workload.cluster;
        match (script, fault) {
            (Script::NatsBlackhole, true) => {
                black_hole(cluster, Backend::Nats);
                *counts.entry("NATS silent for all").or_default() += 1;
            }
            (Script::PostgresSilent, true) => {
                black_hole(cluster, Backend::Postgres);
                *counts.entry("PostgreSQL silent for all").or_default() += 1;
            }
            (Script::RedisNatsKilled, true) => {
                let _ = (cluster.redis.kill().await, cluster.nats.kill().await);
                *counts.entry("Redis and NATS killed").or_default() += 1;
            }
            (_, false) if name == "after" => healed(workload).await,
            _ => {}
        }
        let mark = meter.mark(name, workload).await;
        let at_work = watch(workload, third).await;
        phases.push(meter.phase(mark, workload, at_work).await);
    }
    (counts, phases)
}

fn black_hole(cluster: &Cluster, backend: Backend) {
    for node in &cluster.nodes {
        node.link(backend).black_hole(Direction::ToClient);
        node.link(backend).black_hole(Direction::ToServer);
    }
}

async fn healed(workload: &Workload) {
    if let Err(error) = workload.cluster.heal().await {
        cli::out::warn(format_args!("a fault could not be ended: {error:#}"));
    }
}

/// Waits, and tells how many backends of PostgreSQL were at work on average.
async fn watch(workload: &Workload, time: Duration) -> f64 {
    let until = Instant::now() + time;
    let (mut sum, mut samples) = (0, 0_u32);
    let mut connection = sqlx::PgConnection::connect(&workload.cluster.database_url()).await.ok();
    while Instant::now() < until {
        if let Some(connection) = &mut connection
            && let Ok(now) = workload.cluster.at_work(connection).await
        {
            sum += now;
            samples += 1;
        }
        sleep(Duration::from_millis(100)).await;
    }
    sum as f64 / f64::from(samples.max(1))
}

/// What can be ended again, and when.
enum Ending {
    Link(usize, Backend),
    AllLinks(Backend),
    Wake(usize),
    Launch(usize),
    Redis,
    Nats,
}

async fn mixed(workload: &Workload, rng: &mut Rng, until: Instant, counts: &mut Counts) {
    let mut endings: Vec<(Instant, Ending)> = Vec::new();
    let mut busy = BTreeSet::new();
    let last = until.checked_sub(QUIET + Duration::from_secs(5)).unwrap_or(until);
    while Instant::now() < last || !endings.is_empty() {
        let now = Instant::now();
        let (over, open): (Vec<_>, Vec<_>) = endings.into_iter().partition(|(at, _)| *at <= now);
        endings = open;
        for (_, ending) in over {
            end(workload, ending, &mut busy).await;
        }
        if now < last && endings.len() < 4 {
            let time = Duration::from_millis(rng.u64(200..4000));
            if let Some((kind, ending)) = strike(workload, rng, &mut busy).await {
                *counts.entry(kind).or_default() += 1;
                endings.extend(ending.map(|ending| (now + time, ending)));
            }
        }
        sleep(Duration::from_millis(rng.u64(100..900))).await;
    }
}

async fn end(workload: &Workload, ending: Ending, busy: &mut BTreeSet<usize>) {
    let cluster = &workload.cluster;
    let failed = match ending {
        Ending::Link(at, backend) => {
            cluster.nodes[at].link(backend).heal();
            cluster.nodes[at].link(backend).reset();
            busy.remove(&at);
            None
        }
        Ending::AllLinks(backend) => {
            for node in &cluster.nodes {
                node.link(backend).heal();
                node.link(backend).reset();
            }
            busy.clear();
            None
        }
        Ending::Wake(at) => {
            cluster.nodes[at].with(Process::resume);
            busy.remove(&at);
            None
        }
        Ending::Launch(at) => {
            busy.remove(&at);
            cluster.launch(at).err()
        }
        Ending::Redis => cluster.redis.start().await.err(),
        Ending::Nats => cluster.nats.start().await.err(),
    };
    if let Some(error) = failed {
        cli::out::warn(format_args!("a fault could not be ended: {error:#}"));
    }
}

async fn strike(
    workload: &Workload,
    rng: &mut Rng,
    busy: &mut BTreeSet<usize>,
) -> Option<(&'static str, Option<Ending>)> {
    let cluster = &workload.cluster;
    let at = rng.usize(0..cluster.nodes.len());
    let node = &cluster.nodes[at];
    match rng.u8(0..16) {
        0 => {
            cluster.redis.kill().await.ok()?;
            return Some(("Redis killed, and back empty", Some(Ending::Redis)));
        }
        1 => {
            cluster.nats.kill().await.ok()?;
            return Some(("NATS killed", Some(Ending::Nats)));
        }
        2 => {
            flush(workload).await?;
            return Some(("Redis flushed", None));
        }
        3 if busy.is_empty() => {
            busy.extend(0..cluster.nodes.len());
            let backend = if rng.bool() { Backend::Nats } else { Backend::Redis };
            cluster.nodes.iter().for_each(|node| node.link(backend).black_hole(Direction::ToClient));
            return Some(("black hole before everyone", Some(Ending::AllLinks(backend))));
        }
        _ => {}
    }
    if !busy.insert(at) {
        return None;
    }
    let backend = [Backend::Redis, Backend::Redis, Backend::Nats, Backend::Nats, Backend::Postgres][rng.usize(0..5)];
    let link = node.link(backend);
    let ending = Some(Ending::Link(at, backend));
    let kind = match rng.u8(0..11) {
        0 | 1 => {
            cluster.kill(at);
            return Some(("process killed", Some(Ending::Launch(at))));
        }
        2..=4 => {
            node.with(Process::pause);
            return Some(("process stopped for a while", Some(Ending::Wake(at))));
        }
        5 => {
            link.latency(Duration::from_millis(rng.u64(5..80)));
            "slow link"
        }
        6 => {
            link.black_hole(Direction::ToServer);
            "black hole towards the server"
        }
        7 => {
            link.black_hole(Direction::ToClient);
            "black hole towards the client"
        }
        8 => {
            link.cut_after(rng.usize(0..20_000));
            "connections cut after some bytes"
        }
        9 => {
            link.hang();
            "connections taken and never answered"
        }
        _ => {
            link.refuse();
            "connections reset and refused"
        }
    };
    Some((kind, ending))
}

async fn flush(workload: &Workload) -> Option<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(workload.cluster.redis.address()).await.ok()?;
    stream.write_all(b"*1\r\n$8\r\nFLUSHALL\r\n").await.ok()?;
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).await.ok()?;
    Some(())
}
