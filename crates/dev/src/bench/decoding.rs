//! Reads of a status while the same machine decodes large pictures, beside the same reads while it does not.
//!
//! Reads come at a fixed rate, each at its time whatever became of the one before, and count from when they were due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::generations::v1::GetGenerationRequest;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::load::{self, Call};
use super::progress::say;
use super::report::{Round, Row, millis, percentile};
use super::setup::Bench;
use super::{picture, statements, thumbnail, warm};

const GOAL: f64 = 1.5;
/// Accounts whose pictures are decoded, one after the other for each, and whose statuses are read.
const ACCOUNTS: usize = 4;
/// Reads a second, and how long they last.
const RATE: u32 = 200;
const TIME: Duration = Duration::from_secs(4);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    say("reads of a status while pictures are decoded");
    let mut database = bench.database.connect().await?;
    let accounts: Vec<Uuid> = bench.seeded.warm().iter().take(ACCOUNTS).copied().collect();
    let service = bench.services.service("thumbnail-worker")?.channel().await?;
    let picture = tokio::task::spawn_blocking(|| picture::jpeg(2)).await.context("drawing the picture")??;
    let (mut calls, mut assets) = (Vec::new(), Vec::new());
    for account in accounts {
        let generation = statements::completed(&mut database, account).await?;
        let request = GetGenerationRequest { name: format!("generations/{generation}"), min_version: 0 };
        calls.push(warm::call(warm::GENERATION, &request, &warm::key(bench, account).await?));
        let asset = thumbnail::upload(&mut AssetServiceClient::new(service.clone()), account, &picture).await?;
        assets.push((account, asset));
    }
    let address = format!("http://{}", bench.services.service("gateway")?.address());
    let gateway = Endpoint::from_shared(address)?.connect().await?;
    let calls = Arc::new(calls);
    let mut rounds = Vec::new();
    for number in 0..=bench.options.rounds {
        let alone = p99(&gateway, &calls).await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut decoding = JoinSet::new();
        for (account, asset) in &assets {
            let database = bench.database.connect().await?;
            let client = AssetServiceClient::new(service.clone());
            decoding.spawn(decode(client, database, *account, asset.clone(), Arc::clone(&is_over)));
        }
        let beside = p99(&gateway, &calls).await?;
        is_over.store(true, Ordering::Relaxed);
        let mut decoded = 0;
        while let Some(one) = decoding.join_next().await {
            decoded += one??;
        }
        ensure!(decoded > 0, "no picture was decoded within {TIME:?}");
        // The first round fills caches and connections.
        if number > 0 {
            say(&format!("{decoded} pictures of 12 megapixels were decoded meanwhile"));
            rounds.push(Round { ours: beside, beside: alone });
        }
    }
    let what = format!("the same {RATE} reads a second while nothing is decoded");
    Ok(vec![Row::new("status_beside_decoding_p99", "ms", what, GOAL, &rounds)])
}

/// Renders one thumbnail again and again; how often.
async fn decode(
    mut assets: AssetServiceClient<Channel>,
    mut database: sqlx::PgConnection,
    account: Uuid,
    asset: String,
    is_over: Arc<AtomicBool>,
) -> Result<u32> {
    let mut rendered = 0;
    while !is_over.load(Ordering::Relaxed) {
        statements::forget_thumbnails(&mut database, account).await?;
        thumbnail::render(&mut assets, account, &asset).await?;
        rendered += 1;
    }
    Ok(rendered)
}

/// What 99 of a hundred reads take at most, in milliseconds.
async fn p99(gateway: &Channel, calls: &Arc<Vec<Call>>) -> Result<f64> {
    let start = Instant::now();
    let mut asked = JoinSet::new();
    for number in 0..RATE * u32::try_from(TIME.as_secs())? {
        let due = start + Duration::from_secs(1) * number / RATE;
        sleep_until(due).await;
        let (mut client, calls) = (Grpc::new(gateway.clone()), Arc::clone(calls));
        asked.spawn(async move {
            load::ask(&mut client, &calls[number as usize % calls.len()]).await?;
            anyhow::Ok(due.elapsed())
        });
    }
    let mut waits = Vec::new();
    while let Some(wait) = asked.join_next().await {
        waits.push(wait??);
    }
    waits.sort_unstable();
    Ok(millis(percentile(&waits, 0.99)))
}
