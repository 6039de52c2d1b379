//! Every invariant that the reconciler looks after, broken by hand in the tables of a running product, is found under its name.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::generations::v1::State;
use proto::projects::v1::Scene;
use sqlx::PgPool;
use uuid::Uuid;

use crate::client::Client;
use crate::cluster::{Cluster, Options};

/// How often something was found, by the metric that people alert on.
async fn found(cluster: &Cluster, invariant: &str) -> Result<u64> {
    let reply = crate::http::get(cluster.admin("generation-status"), "/metrics", &[]).await?;
    let text = String::from_utf8(reply.body)?;
    let series = format!("rushes_reconciler_findings_total{{invariant=\"{invariant}\"");
    let line = text.lines().find(|line| line.starts_with(&series)).with_context(|| format!("no series {series}"))?;
    Ok(line.rsplit(' ').next().context("a value")?.parse::<f64>()? as u64)
}

async fn start(client: &Client, scene: &Scene) -> Result<Uuid> {
    let started = client.start(scene, "something that will be broken").await?;
    Ok(Uuid::try_parse(started.name.trim_start_matches("generations/"))?)
}

/// Breaks something and waits until it is found. It is broken again and again, since the reconciler may repair it before the test reads.
async fn breaks(cluster: &Cluster, pool: &PgPool, invariant: &str, sql: &'static str, id: Uuid) -> Result<()> {
    let before = found(cluster, invariant).await?;
    let mut last = String::new();
    let seen = testkit::eventually(invariant, Duration::from_secs(30), async || {
        if let Err(error) = sqlx::query(sql).bind(id).execute(pool).await {
            last = error.to_string();
        }
        found(cluster, invariant).await.ok().filter(|now| *now > before)
    })
    .await;
    seen.map(drop).with_context(|| format!("the last error: {last:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_invariant_that_is_broken_is_found_under_its_name() -> Result<()> {
    let mut cluster = Cluster::start(Options::default()).await?;
    let client = cluster.client(10).await?;
    let scene = client.scene(&client.project("Broken").await?, "One").await?;
    let done = client.start(&scene, "a ship in a bottle").await?;
    ensure!(client.outcome(&done.name).await?.state() == State::Completed);
    let done = Uuid::try_parse(done.name.trim_start_matches("generations/"))?;
    let pool = PgPool::connect(&cluster.database.url()).await?;
    const INVARIANTS: [&str; 9] = [
        "lease_expired",
        "poll_overdue",
        "unconfirmed_overdue",
        "open_without_job",
        "job_without_generation",
        "open_below_deleted",
        "terminal_unsettled",
        "hold_without_open",
        "ledger_unbalanced",
    ];
    testkit::eventually("a first look", Duration::from_secs(20), async || found(&cluster, INVARIANTS[0]).await.ok())
        .await?;
    for invariant in INVARIANTS {
        assert_eq!(found(&cluster, invariant).await?, 0, "{invariant}: nothing is broken yet");
    }

    // From here on nothing is carried out, so that what is broken stays so.
    cluster.kill("generation-worker");
    breaks(
        &cluster,
        &pool,
        "lease_expired",
        "update jobs set state = 'leased', lease_until = now() - interval '1 min', fence = fence + 1
          where id = $1 and state = 'queued'",
        start(&client, &scene).await?,
    )
    .await?;
    breaks(
        &cluster,
        &pool,
        "poll_overdue",
        "update jobs set state = 'waiting', run_at = now() - interval '2 min' where id = $1 and state = 'queued'",
        start(&client, &scene).await?,
    )
    .await?;
    breaks(
        &cluster,
        &pool,
        "unconfirmed_overdue",
        "update generations set state = 2, wait_reason = 7, total_deadline = now() - interval '2 min'
          where id = $1 and end_time is null",
        start(&client, &scene).await?,
    )
    .await?;
    breaks(&cluster, &pool, "open_without_job", "delete from jobs where id = $1", start(&client, &scene).await?)
        .await?;
    breaks(
        &cluster,
        &pool,
        "job_without_generation",
        "update jobs set state = 'leased', lease_until = now() + interval '1 h', finished_at = null where id = $1",
        done,
    )
    .await?;
    breaks(
        &cluster,
        &pool,
        "open_below_deleted",
        "insert into jobs (id, account_id, kind, vft, max_attempts, idem_key, request_hash, payload, state, finished_at)
         select gen_random_uuid(), account_id, 'delete-generations', 0, 1, 'given up', '',
                convert_to('projects/' || project_id, 'UTF8'), 'dead', now()
           from generations where id = $1 on conflict do nothing",
        start(&client, &scene).await?,
    )
    .await?;
    breaks(
        &cluster,
        &pool,
        "hold_without_open",
        "update credit_accounts set held_micros = held_micros + 1
          where account_id = (select account_id from generations where id = $1)",
        done,
    )
    .await?;
    breaks(
        &cluster,
        &pool,
        "ledger_unbalanced",
        "insert into ledger (id, account_id, entry, book, amount_micros, request_id)
         select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7000800000000000' || '0001')::uuid,
                account_id, 'grant', 'available', 1, gen_random_uuid()
           from generations where id = $1 on conflict do nothing",
        done,
    )
    .await?;

    // What was booked cannot be taken away, unless somebody turns the triggers off.
    let taken = "delete from ledger where generation_id = $1 and entry in ('capture', 'release')";
    let refused = sqlx::query(taken).bind(done).execute(&pool).await.expect_err("the ledger is append only");
    ensure!(refused.to_string().contains("append only"), "{refused}");
    let mut tx = pool.begin().await?;
    sqlx::query("set local session_replication_role = replica").execute(&mut *tx).await?;
    sqlx::query(taken).bind(done).execute(&mut *tx).await?;
    tx.commit().await?;
    breaks(&cluster, &pool, "terminal_unsettled", "select $1", done).await?;
    pool.close().await;
    // Not `end`, which would check what was broken here.
    drop(cluster);
    Ok(())
}
