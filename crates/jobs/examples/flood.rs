//! What a flood costs others, and what a claim costs with a million jobs queued: prints both beside what they are without.
//!
//! `cargo run --release -p rushes-jobs --example flood`, on the server of `RUSHES_DATABASE_URL` or on one of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jobs::{ClaimRequest, Leased, Limits, NewJob};
use rushes_jobs as jobs;
use sqlx::{Connection, PgConnection};
use testkit::Database;
use uuid::Uuid;

const KIND: &str = "flood";
/// Jobs that run at once.
const SLOTS: usize = 16;
/// How many of them one account may have.
const LIMIT: i32 = 6;
/// How long each takes.
const WORK: Duration = Duration::from_millis(50);
/// The modest account's jobs.
const MODEST: usize = 100;
/// The other's.
const FLOOD: usize = 100_000;
/// Claims that are timed.
const CLAIMS: usize = 500;

type Failed = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let alone = waits(0, Some(Limits { account: LIMIT })).await?;
    let capped = waits(FLOOD, Some(Limits { account: LIMIT })).await?;
    let alone_free = waits(0, None).await?;
    let shared = waits(FLOOD, None).await?;
    println!("{MODEST} jobs of {WORK:?} beside {FLOOD} of another account, {SLOTS} at once; wait p50, p99");
    println!(
        "  {LIMIT} of an account at once: {} alone, {} beside the flood: p99 x {:.2}",
        show(&alone),
        show(&capped),
        ratio(&capped, &alone)
    );
    println!(
        "  no limit: {} alone, {} beside the flood: p99 x {:.2}",
        show(&alone_free),
        show(&shared),
        ratio(&shared, &alone_free)
    );
    million().await
}

fn ratio(one: &[Duration], other: &[Duration]) -> f64 {
    at(one, 99).as_secs_f64() / at(other, 99).as_secs_f64()
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

fn show(sorted: &[Duration]) -> String {
    format!("{:.2?}, {:.2?}", at(sorted, 50), at(sorted, 99))
}

async fn connect(database: &Database) -> Result<PgConnection, Failed> {
    Ok(PgConnection::connect(&database.url()).await?)
}

async fn claim(connection: &mut PgConnection, limit: usize, limits: Option<Limits>) -> Result<Vec<Leased>, Failed> {
    let queues = [String::new()];
    let limit = u32::try_from(limit)?;
    let request =
        ClaimRequest { kind: KIND, queues: &queues, worker: "flood", limit, lease: Duration::from_secs(3600), limits };
    let mut tx = connection.begin().await?;
    let leased = jobs::claim(&mut tx, request).await?;
    tx.commit().await?;
    Ok(leased)
}

/// How long each of the modest account's jobs waits, sorted, when `flood` of another account's were queued before.
async fn waits(flood: usize, limits: Option<Limits>) -> Result<Vec<Duration>, Failed> {
    let database = Database::fresh().await?;
    let mut connection = connect(&database).await?;
    let (many, modest) = (Uuid::now_v7(), Uuid::now_v7());
    enqueue(&mut connection, many, flood).await?;
    sqlx::query("analyze jobs").execute(&mut connection).await?;
    let mut running: Vec<(Instant, Leased)> = Vec::new();
    let mut waits = Vec::new();
    let mut began: Option<Instant> = None;
    while waits.len() < MODEST {
        if began.is_none() && (flood == 0 || running.len() >= SLOTS.min(usize::try_from(LIMIT)?)) {
            // All slots are taken by the flood by now.
            enqueue(&mut connection, modest, MODEST).await?;
            began = Some(Instant::now());
        }
        let now = Instant::now();
        let (over, on): (Vec<_>, Vec<_>) = running.into_iter().partition(|(end, _)| *end <= now);
        running = on;
        for (_, job) in over {
            jobs::complete(&mut connection, job.lease).await?;
        }
        if running.len() < SLOTS {
            for job in claim(&mut connection, SLOTS - running.len(), limits).await? {
                if let (true, Some(began)) = (job.account == modest, began) {
                    waits.push(began.elapsed());
                }
                running.push((Instant::now() + WORK, job));
            }
        }
        if let Some(next) = running.iter().map(|(end, _)| *end).min() {
            tokio::time::sleep_until(next.into()).await;
        }
    }
    waits.sort_unstable();
    Ok(waits)
}

async fn enqueue(connection: &mut PgConnection, account: Uuid, count: usize) -> Result<(), Failed> {
    // In small transactions, as starts are: PostgreSQL walks all versions that one transaction has made of an account's turn.
    for first in (0..count).step_by(100) {
        let mut tx = connection.begin().await?;
        for n in first..count.min(first + 100) {
            jobs::enqueue(&mut tx, &NewJob::new(account, KIND, n.to_string())).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// What a claim costs with a million jobs queued, nine in ten of one account, the rest of `others`.
async fn million() -> Result<(), Failed> {
    let database = Database::fresh().await?;
    let mut connection = connect(&database).await?;
    sqlx::query("alter table jobs disable trigger user").execute(&mut connection).await?;
    sqlx::query(
        "insert into jobs (id, account_id, kind, idem_key, request_hash, payload, vft, max_attempts, deadline_at)
         select gen_random_uuid(), md5((case when n % 10 = 0 then n % 1000 else 1 end)::text)::uuid, 'flood', n::text, '',
                '', case when n % 10 = 0 then n / 10 else n end, 5, now() + interval '1 day'
         from generate_series(1, 1000000) n",
    )
    .execute(&mut connection)
    .await?;
    sqlx::query("alter table jobs enable trigger user").execute(&mut connection).await?;
    sqlx::query("vacuum analyze jobs").execute(&mut connection).await?;
    let large: Uuid = sqlx::query_scalar("select md5('1')::uuid").fetch_one(&mut connection).await?;
    println!(
        "a claim of one job, committed, with 1,000,000 queued, 900,000 of them of one account and 1,000 each of 100; p50, p99"
    );
    for (what, limits) in [
        ("without limits", None),
        ("with limits, none reached", Some(Limits { account: 1_000_000 })),
        ("with limits, the large account full and all of the front its own", Some(Limits { account: 1 })),
    ] {
        let full = limits == Some(Limits { account: 1 });
        if full {
            sqlx::query(
                "update jobs set vft = vft - 1000000 where account_id = $1 and state = 'queued' and vft < 5000",
            )
            .bind(large)
            .execute(&mut connection)
            .await?;
        }
        let mut times = Vec::new();
        let mut of: HashMap<Uuid, usize> = HashMap::new();
        for _ in 0..CLAIMS {
            let began = Instant::now();
            let given = claim(&mut connection, 1, limits).await?;
            times.push(began.elapsed());
            for job in given {
                *of.entry(job.account).or_default() += 1;
                // The large account's job stays, where one is as many as it may have.
                if !(full && job.account == large) {
                    jobs::complete(&mut connection, job.lease).await?;
                }
            }
        }
        times.sort_unstable();
        println!("  {what}: {} ({} accounts served)", show(&times), of.len());
    }
    println!("the plan of a claim with limits, none reached:");
    let queues = [String::new()];
    let limits = Some(Limits { account: 1_000_000 });
    let request = ClaimRequest {
        kind: KIND,
        queues: &queues,
        worker: "flood",
        limit: 1,
        lease: Duration::from_secs(3600),
        limits,
    };
    let mut tx = connection.begin().await?;
    for line in jobs::explain_claim(&mut tx, request).await? {
        println!("{line}");
    }
    tx.rollback().await?;
    Ok(())
}
