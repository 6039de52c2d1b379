//! What happens when something dies in the middle: the work is done all the same, once, and reads and writes go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use proto::dashboard::v1::GetDashboardRequest;
use proto::generations::v1::{Generation, GetGenerationRequest, State};
use proto::projects::v1::{GetProjectRequest, Project, UpdateProjectRequest};

use testkit::Direction;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::client::Client;
use crate::cluster::{Cluster, Options};
use crate::commands::rushes;

async fn get(client: &Client, name: &str) -> Result<Generation> {
    let request = GetGenerationRequest { name: name.into(), ..GetGenerationRequest::default() };
    Ok(client.generations().get_generation(request).await?.into_inner())
}

/// Asks until a generation is as wanted.
async fn until(
    client: &Client,
    name: &str,
    limit: Duration,
    wanted: impl Fn(&Generation) -> bool,
) -> Result<Generation> {
    testkit::eventually(name, limit, async || get(client, name).await.ok().filter(&wanted)).await
}

fn percent(generation: &Generation) -> i32 {
    generation.progress.as_ref().map_or(0, |p| p.percent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_survives_its_worker_and_its_status_service() -> Result<()> {
    let mut cluster = Cluster::start(Options { pace: "4", ..Options::default() }).await?;
    let client = cluster.client(10).await?;
    let project = client.project("Interrupted").await?;
    let scene = client.scene(&project, "One").await?;
    let started = client.start(&scene, "a ship that goes down").await?;
    until(&client, &started.name, Duration::from_secs(20), |g| percent(g) > 0).await?;

    cluster.kill("generation-worker");
    cluster.kill("generation-status");
    let killed = Instant::now();
    cluster.run("generation-status")?;
    cluster.run("generation-worker")?;
    cluster.ready("generation-status").await?;

    let runs = async || cluster.metric("generation-worker", "rushes_work_running").await.filter(|count| *count > 0.0);
    testkit::eventually("the new worker has it", Duration::from_secs(45), runs).await?;
    let again = killed.elapsed();
    ensure!(again < Duration::from_secs(45), "the job ran again only after {again:?}");
    let done = client.outcome(&started.name).await?;
    assert_eq!(done.state(), State::Completed, "{:?}", done.error);
    assert_eq!(done.charge.context("a charge")?.captured_micros, started.charge.context("a charge")?.held_micros);
    let dashboard = client.dashboard().await?;
    assert_eq!(dashboard.projects[0].completed_count, 1);
    cluster.end().await
}

/// A worker that is stopped for longer than its lease wakes and changes nothing; its work was done once elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_through_its_lease_changes_nothing() -> Result<()> {
    let mut cluster =
        Cluster::start(Options { pace: "3", lease: "4s", heartbeat: "500ms", ..Options::default() }).await?;
    let client = cluster.client(10).await?;
    let project = client.project("Asleep").await?;
    let scene = client.scene(&project, "One").await?;
    let started = client.start(&scene, "a fox that sleeps").await?;
    until(&client, &started.name, Duration::from_secs(20), |g| percent(g) > 0).await?;

    let sleeper = cluster.stop("generation-worker");
    cluster.relocate("generation-worker");
    cluster.run("generation-worker")?;
    // The sleeper is stopped, so that another did it.
    let done = until(&client, &started.name, Duration::from_secs(60), |g| g.state() == State::Completed).await?;

    sleeper.resume();
    // It knows again how things stand once it has said something about its lease; only then is nothing proof.
    testkit::eventually("the sleeper lets go", Duration::from_secs(30), async || {
        sleeper.tail(200).contains("lease lost").then_some(())
    })
    .await?;
    assert_eq!(get(&client, &started.name).await?, done, "not even its version");
    let next = client.start(&scene, "a fox that wakes").await?;
    assert_eq!(client.outcome(&next.name).await?.state(), State::Completed);
    assert_eq!(client.dashboard().await?.projects[0].completed_count, 2);
    drop(sleeper);
    cluster.end().await
}

/// Changes a project and reads it back until the change shows, which must be within a second.
async fn write_and_read(client: &Client, project: &Project, title: &str) -> Result<()> {
    let changed = Project { title: title.into(), etag: String::new(), ..project.clone() };
    let request = UpdateProjectRequest { project: Some(changed), update_mask: None };
    client.projects().update_project(request).await.with_context(|| format!("the write of {title:?}"))?;
    // Every answer counts, also those before the change shows.
    let mut refused = None;
    let shown = testkit::eventually(title, Duration::from_secs(1), async || match client.dashboard().await {
        Ok(dashboard) => (dashboard.projects[0].title == title && dashboard.unreachable.is_empty()).then_some(()),
        Err(error) => {
            refused = Some(error);
            Some(())
        }
    });
    shown.await?;
    if let Some(error) = refused {
        return Err(error.context(format!("the dashboard after {title:?}")));
    }
    let request = GetProjectRequest { name: project.name.clone() };
    assert_eq!(client.projects().get_project(request).await?.into_inner().title, title);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_writes_go_on_without_redis_and_nats() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let client = cluster.client(10).await?;
    let project = client.project("All there").await?;
    let scene = client.scene(&project, "One").await?;
    write_and_read(&client, &project, "Warm").await?;

    cluster.redis.stop().await?;
    write_and_read(&client, &project, "No Redis").await?;
    let without = client.start(&scene, "made without Redis").await?;
    assert_eq!(client.outcome(&without.name).await?.state(), State::Completed);

    cluster.nats.stop().await?;
    write_and_read(&client, &project, "No Redis, no NATS").await?;
    let without = client.start(&scene, "made without Redis and NATS").await?;
    assert_eq!(client.outcome(&without.name).await?.state(), State::Completed);

    cluster.redis.start().await?;
    write_and_read(&client, &project, "No NATS").await?;
    cluster.nats.start().await?;
    for round in 0..20 {
        write_and_read(&client, &project, &format!("Both are back {round}")).await?;
    }
    let after = client.start(&scene, "made with both again").await?;
    assert_eq!(client.outcome(&after.name).await?.state(), State::Completed);
    cluster.end().await
}

/// Its process dies between the commit and everything that it would have told: the caller, the caches, the workers.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_committed_before_it_was_killed_is_seen_within_the_bound() -> Result<()> {
    let mut cluster = Cluster::start(Options { crash: Some("status.start"), ..Options::default() }).await?;
    let client = cluster.client(10).await?;
    let project = client.project("Cut off").await?;
    let scene = client.scene(&project, "One").await?;
    testkit::eventually("a dashboard from memory", Duration::from_secs(10), async || {
        let (one, two) = (client.dashboard().await.ok()?, client.dashboard().await.ok()?);
        (one == two && one.recent_generations.is_empty()).then_some(())
    })
    .await?;
    client.start(&scene, "committed, and nobody was told").await.expect_err("it is killed before it replies");
    let dead = Instant::now();
    testkit::eventually("its end", Duration::from_secs(10), async || cluster.ended("generation-status").then_some(()))
        .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let shown = client.dashboard().await?;
    assert_eq!(shown.recent_generations.len(), 1, "{:?} after its death", dead.elapsed());
    assert!(shown.credits.is_some_and(|credits| credits.held_micros > 0));
    // The work is done all the same.
    cluster.forget_crash();
    cluster.kill("generation-status");
    cluster.run("generation-status")?;
    cluster.ready("generation-status").await?;
    let done = client.outcome(&shown.recent_generations[0].name).await?;
    assert_eq!(done.state(), State::Completed, "{:?}", done.error);
    cluster.end().await
}

/// Whoever leads the relay stands still past its lease; another leads; then both speak.
#[tokio::test(flavor = "multi_thread")]
async fn the_relay_stands_still_and_two_of_them_speak() -> Result<()> {
    const LEADS: &str = "rushes_cache_relay_leads";
    let cluster = Cluster::start(Options::default()).await?;
    let client = cluster.client(10).await?;
    let project = client.project("All there").await?;
    write_and_read(&client, &project, "Warm").await?;
    let leads = async |name: &'static str| {
        let what = format!("{name} leads");
        testkit::eventually(&what, Duration::from_secs(20), async || {
            cluster.metric(name, LEADS).await.filter(|leads| *leads == 1.0).map(drop)
        })
        .await
    };
    // The readers and writers here come through dashboard: the leader that stands still must be another.
    if cluster.metric("dashboard", LEADS).await == Some(1.0) {
        cluster.pause("dashboard");
        let other = leads("generation-status").await;
        cluster.resume("dashboard");
        other?;
    }
    for round in 0..3 {
        leads("generation-status").await?;
        cluster.pause("generation-status");
        let stopped = Instant::now();
        let mut writes = 0;
        while stopped.elapsed() < Duration::from_secs(3) || cluster.metric("dashboard", LEADS).await != Some(1.0) {
            ensure!(stopped.elapsed() < Duration::from_secs(30), "nobody took over");
            write_and_read(&client, &project, &format!("Still {round}-{writes}")).await?;
            writes += 1;
        }
        cluster.resume("generation-status");
        for writes in 0..20 {
            write_and_read(&client, &project, &format!("Both {round}-{writes}")).await?;
        }
        // So that the other leads again.
        cluster.pause("dashboard");
        let other = leads("generation-status").await;
        cluster.resume("dashboard");
        other?;
    }
    cluster.end().await
}

/// A write that ends with `UNAVAILABLE`, `DEPENDENCY_DOWN`.
async fn refused_write(client: &Client, project: &Project) -> Result<Duration> {
    let changed = Project { title: "not written".into(), etag: String::new(), ..project.clone() };
    let request = UpdateProjectRequest { project: Some(changed), update_mask: None };
    let asked = Instant::now();
    let status = client.projects().update_project(request).await.map(drop).expect_err("PostgreSQL does not answer");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    Ok(asked.elapsed())
}

/// A call that takes what is a minute old.
fn lenient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("rushes-max-stale", MetadataValue::from_static("60"));
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_postgresql_refuses_writes_at_once_and_reads_unless_a_stale_answer_will_do() -> Result<()> {
    let cluster = Cluster::start(Options { unresponsive_after: "80ms", ..Options::default() }).await?;
    let client = cluster.client(10).await?;
    let project = client.project("Remembered").await?;
    let scene = client.scene(&project, "One").await?;
    let started = client.start(&scene, "made while PostgreSQL answered").await?;
    let generation = client.outcome(&started.name).await?;
    // Once more than its last change, so that L1 holds it under a proof.
    let dashboard = testkit::eventually("a dashboard from memory", Duration::from_secs(10), async || {
        let (one, two) = (client.dashboard().await.ok()?, client.dashboard().await.ok()?);
        let read = client.generations().get_generation(lenient(ask(&generation.name))).await.ok()?;
        assert!(!read.metadata().contains_key("rushes-stale-age"), "what is fresh says nothing of an age");
        (one == two).then_some(one)
    })
    .await?;

    cluster.postgres.black_hole(Direction::ToClient);
    let mut waited = Vec::new();
    for _ in 0..20 {
        waited.push(refused_write(&client, &project).await?);
    }
    waited.sort_unstable();
    println!("20 writes were refused, the median after {:.0?}, the last after {:.0?}", waited[10], waited[19]);
    // The last proof is good for a second.
    let refused = testkit::eventually("reads are refused", Duration::from_secs(10), async || {
        client.dashboard().await.err()?;
        client.generations().get_generation(ask(&generation.name)).await.err()
    });
    assert_eq!(refused.await?.code(), Code::Unavailable);

    let stale = client.dashboards().get_dashboard(lenient(GetDashboardRequest::default())).await?;
    let age: u64 = stale.metadata().get("rushes-stale-age").context("an age")?.to_str()?.parse()?;
    assert!((1..=60).contains(&age), "{age} s");
    assert_eq!(stale.into_inner(), dashboard);
    let stale = client.generations().get_generation(lenient(ask(&generation.name))).await?;
    assert!(stale.metadata().contains_key("rushes-stale-age"));
    assert_eq!(stale.into_inner(), generation);

    let said = rushes(&client, &std::env::temp_dir(), &["dashboard", "--allow-stale"]).await?;
    assert!(
        said.out.contains("Remembered") && said.err.contains("stale: how it was at most"),
        "{}{}",
        said.out,
        said.err
    );

    cluster.postgres.heal();
    testkit::eventually("writes are taken again", Duration::from_secs(30), async || {
        write_and_read(&client, &project, "Spoken again").await.ok()
    })
    .await?;
    let fresh = client.dashboards().get_dashboard(lenient(GetDashboardRequest::default())).await?;
    assert!(!fresh.metadata().contains_key("rushes-stale-age"));
    cluster.end().await
}

fn ask(name: &str) -> GetGenerationRequest {
    GetGenerationRequest { name: name.into(), ..GetGenerationRequest::default() }
}
