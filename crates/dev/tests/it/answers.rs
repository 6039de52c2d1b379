//! A gateway that keeps answers: what a client reads there is what it would read without, and costs the services nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proto::dashboard::v1::GetDashboardRequest;
use proto::generations::v1::{BatchGetGenerationsRequest, GetGenerationRequest, State};
use tonic::Code;
use tonic::codec::CompressionEncoding;
use uuid::Uuid;

use crate::client::Client;
use crate::cluster::{Cluster, Options};

async fn keeping() -> Result<Cluster> {
    let more = vec![("RUSHES_CACHE_ANSWERS", "true".to_owned())];
    let cluster = Cluster::start(Options { more, ..Options::default() }).await?;
    // A gateway has its first proof some heartbeats after its start.
    let proven = async || cluster.metric("gateway", "rushes_cache_proof_age_seconds").await.filter(|age| *age < 0.5);
    testkit::eventually("the gateway has a proof", Duration::from_secs(20), proven).await?;
    Ok(cluster)
}

/// How many reads of this kind the gateway has answered by itself.
async fn hits(cluster: &Cluster, kind: &str) -> Result<f64> {
    let series = format!("rushes_cache_hits_total{{kind=\"{kind}\",tier=\"l1\"}}");
    let other = format!("rushes_cache_hits_total{{tier=\"l1\",kind=\"{kind}\"}}");
    match cluster.metric("gateway", &series).await {
        Some(hits) => Ok(hits),
        None => Ok(cluster.metric("gateway", &other).await.unwrap_or(0.0)),
    }
}

async fn generation(client: &Client, name: &str) -> Result<proto::generations::v1::Generation, tonic::Status> {
    let request = GetGenerationRequest { name: name.to_owned(), min_version: 0 };
    client.generations().get_generation(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_reads_are_answered_by_the_gateway_and_show_every_change() -> Result<()> {
    let cluster = keeping().await?;
    let client = cluster.client(10).await?;
    let project = client.project("Kept").await?;
    let scene = client.scene(&project, "One").await?;
    let started = client.start(&scene, "a lighthouse at dusk").await?;
    let done = client.outcome(&started.name).await?;
    assert_eq!(done.state(), State::Completed, "{:?}", done.error);

    // What the worker did, no reply through this gateway said; a second binds it all the same.
    let completed =
        async || client.dashboard().await.ok().filter(|dashboard| dashboard.projects[0].completed_count == 1);
    testkit::eventually("the dashboard has it", Duration::from_secs(2), completed).await?;
    assert_eq!(generation(&client, &started.name).await?, done);
    let before = (hits(&cluster, "dash").await?, hits(&cluster, "gen").await?);
    for _ in 0..50 {
        client.dashboard().await?;
        assert_eq!(generation(&client, &started.name).await?, done);
    }
    let after = (hits(&cluster, "dash").await?, hits(&cluster, "gen").await?);
    ensure!(after.0 - before.0 > 40.0 && after.1 - before.1 > 40.0, "{before:?} {after:?}");
    cluster.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_through_the_gateway_reads_it_there_at_once() -> Result<()> {
    let cluster = keeping().await?;
    let client = cluster.client(0).await?;
    // No token is brought: a client that keeps none.
    for number in 1..=40 {
        let title = format!("Number {number}");
        client.project(&title).await?;
        let dashboard = client.dashboard().await?;
        ensure!(dashboard.projects.iter().any(|project| project.title == title), "{title} is missing");
        client.dashboard().await?;
    }
    ensure!(hits(&cluster, "dash").await? > 20.0, "the gateway answered some of them by itself");
    cluster.end().await
}

/// Whoever asks first decides nothing for the others: most clients take gzip, and some do not.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_compressed_answers_and_who_does_not_read_the_same() -> Result<()> {
    let cluster = keeping().await?;
    let client = cluster.client(0).await?;
    for number in 0..20 {
        client.project(&format!("{number}: a project with a title that is long enough for a large answer")).await?;
    }
    for round in 0..3 {
        // Every other round the first to ask after the change is the other one.
        client.project(&format!("Round {round}")).await?;
        let mut shown = Vec::new();
        for compressed in [round % 2 == 0, round % 2 == 1, true, false] {
            let mut asking = client.dashboards();
            if compressed {
                asking = asking.accept_compressed(CompressionEncoding::Gzip);
            }
            let answer = asking.get_dashboard(GetDashboardRequest::default()).await.context("a dashboard")?;
            let encoding = answer.metadata().get("grpc-encoding").map(|encoding| encoding.to_str().unwrap().to_owned());
            assert_eq!(encoding.as_deref(), compressed.then_some("gzip"), "round {round}");
            shown.push(answer.into_inner());
        }
        assert!(shown.iter().all(|one| one.projects == shown[0].projects), "round {round}");
        assert_eq!(shown[0].projects[0].title, format!("Round {round}"));
    }
    cluster.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_refused_as_its_service_refuses_it() -> Result<()> {
    let cluster = keeping().await?;
    let client = cluster.client(10).await?;
    let name = format!("generations/{}", Uuid::now_v7());
    let request = BatchGetGenerationsRequest { names: vec![name.clone()] };
    let told = client.generations().batch_get_generations(request).await.unwrap_err();
    for _ in 0..3 {
        let status = generation(&client, &name).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (told.code(), told.message()));
        assert_eq!(status.code(), Code::NotFound);
    }
    let project = client.project("Ahead").await?;
    let scene = client.scene(&project, "One").await?;
    let started = client.start(&scene, "a harbour").await?;
    let ahead = GetGenerationRequest { name: started.name.clone(), min_version: 1_000 };
    let status = client.generations().get_generation(ahead).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    // Another account's is not there either, kept or not.
    let other = cluster.client(0).await?;
    generation(&client, &started.name).await?;
    assert_eq!(generation(&other, &started.name).await.unwrap_err().code(), Code::NotFound);
    cluster.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_messages_of_changes_the_services_answer() -> Result<()> {
    let cluster = keeping().await?;
    let client = cluster.client(0).await?;
    client.project("Before").await?;
    client.dashboard().await?;
    cluster.nats.pause();
    let unproven = async || cluster.metric("gateway", "rushes_cache_proof_age_seconds").await.filter(|age| *age > 1.0);
    testkit::eventually("nothing is proven any more", Duration::from_secs(10), unproven).await?;
    let before = hits(&cluster, "dash").await?;
    for number in 1..=5 {
        let title = format!("Without {number}");
        client.project(&title).await?;
        let dashboard = client.dashboard().await?;
        ensure!(dashboard.projects.iter().any(|project| project.title == title), "{title} is missing");
    }
    assert_eq!(hits(&cluster, "dash").await?, before, "nothing was answered without a proof");
    cluster.nats.resume();
    let again = async || {
        client.dashboard().await.ok()?;
        (hits(&cluster, "dash").await.ok()? > before).then_some(())
    };
    testkit::eventually("the gateway answers by itself again", Duration::from_secs(20), again)
        .await
        .context("resumed")?;
    cluster.end().await
}
