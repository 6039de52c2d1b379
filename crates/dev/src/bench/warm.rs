//! Dashboard and status as most requests find them: cached, through both hops, gateway and service, as public clients ask
//! with their keys; beside a bare chain of two tonic processes with bodies of the same size.
//!
//! What is compared is the CPU time of both server processes for one request. The client runs on the same cores, so a
//! throughput would be as much its as theirs; it is told on standard error.

use std::time::Duration;

use anyhow::{Context, Result};
use http::uri::PathAndQuery;
use prost::Message;
use proto::accounts::v1::CreateApiKeyRequest;
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::dashboard::v1::GetDashboardRequest;
use proto::generations::v1::GetGenerationRequest;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::baseline::Baseline;
use super::load::{Call, Measured, STREAMS_IN_ALL, Target};
use super::node::Node;
use super::plot::Plot;
use super::progress::say;
use super::report::{Findings, Round, Row};
use super::setup::Bench;
use super::statements;

pub(super) const DASHBOARD: &str = "/rushes.dashboard.v1.DashboardService/GetDashboard";
pub(super) const GENERATION: &str = "/rushes.generations.v1.GenerationService/GetGeneration";
/// Beside the bare chain through two hops.
const GOAL: f64 = 1.3;
/// For a client that takes compressed answers, beside the same for one that does not.
const GZIP_GOAL: f64 = 1.1;
/// Of what a gateway keeps, beside one bare hop.
const KEPT_GOAL: f64 = 1.25;
/// Beside what one would write instead.
const PEER_GOAL: f64 = 1.0;
/// Accounts that the streams are spread over.
const ACCOUNTS: usize = 16;
/// How long each side is loaded in a round.
const TIME: Duration = Duration::from_secs(2);
/// How long for each point of a curve.
const CURVE_TIME: Duration = Duration::from_secs(1);

pub(super) async fn measure(bench: &Bench) -> Result<Findings> {
    let accounts: Vec<Uuid> = bench.seeded.warm().iter().take(ACCOUNTS).copied().collect();
    let (mut dashboards, mut statuses) = (Vec::new(), Vec::new());
    let mut database = bench.database.connect().await?;
    for account in accounts {
        let metadata = key(bench, account).await?;
        let generation = statements::completed(&mut database, account).await?;
        let generation = GetGenerationRequest { name: format!("generations/{generation}"), min_version: 0 };
        dashboards.push(call(DASHBOARD, &GetDashboardRequest::default(), &metadata));
        statuses.push(call(GENERATION, &generation, &metadata));
    }
    let mut found = compare(bench, "warm_dashboard", "dashboard", dashboards).await?;
    let statuses = compare(bench, "warm_status", "generation-status", statuses).await?;
    found.rows.extend(statuses.rows);
    found.plots.extend(statuses.plots);
    Ok(found)
}

async fn compare(bench: &Bench, row: &str, service: &str, calls: Vec<Call>) -> Result<Findings> {
    let gateway = bench.services.service("gateway")?;
    let request = calls.first().map_or(0, |call| call.message.len());
    let processes = vec![gateway.pid(), bench.services.service(service)?.pid()];
    let ours = Target::connect(gateway.address(), processes.clone(), calls.clone()).await?;
    let compressed = Target::connect(gateway.address(), processes, calls.clone()).await?.taking_gzip();
    let size = ours.once().await.with_context(|| format!("asking once for {row}"))?.len();
    say(&format!("{row}: {size} bytes through both hops"));
    // The same through a gateway that keeps answers: one hop, unless it must ask.
    let keeper = bench.services.another("gateway", &[("RUSHES_CACHE_ANSWERS", "true")]).await?;
    let kept =
        Target::connect(keeper.address(), vec![keeper.pid(), bench.services.service(service)?.pid()], calls).await?;
    let chain = Baseline::start(bench.database.folder(), size).await?;
    let (two_hops, one_hop) = (chain.target(request).await?, chain.one_hop(request).await?);
    let peer = Node::start(bench.database.folder(), size).await?;
    if peer.is_none() {
        say(&format!("{row}: there is no node on this machine, so the rows of that peer are left out"));
    }
    let (mut through, mut keeping, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let (mut through_node, mut keeping_node, mut compressing) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..=bench.options.rounds {
        let (ours, bare) = (ours.load(TIME).await?, two_hops.load(TIME).await?);
        let gzip = compressed.load(TIME).await?;
        let (kept, hop) = (kept.load(TIME).await?, one_hop.load(TIME).await?);
        let peer = match &peer {
            Some(peer) => Some(peer.load(TIME).await?),
            None => None,
        };
        // The first round fills caches and connections.
        if number > 0 {
            let cpu = |ours: Measured, beside: Measured| Round { ours: ours.cpu, beside: beside.cpu };
            through.push(cpu(ours, bare));
            compressing.push(cpu(gzip, ours));
            keeping.push(cpu(kept, hop));
            rates.push([ours.rate, bare.rate, kept.rate, hop.rate]);
            through_node.extend(peer.map(|peer| cpu(ours, peer)));
            keeping_node.extend(peer.map(|peer| cpu(kept, peer)));
        }
    }
    let rate = |side: usize| super::report::median(rates.iter().map(|rates| rates[side]));
    say(&format!(
        "{row}: {:.0} requests a second through both hops, the bare chain {:.0}; kept {:.0}, one bare hop {:.0}",
        rate(0),
        rate(1),
        rate(2),
        rate(3)
    ));
    let plot = Plot::new(format!("Throughput: {row}, {size} bytes"), "calls under way at a time", "answers a second")
        .with("through both hops", throughput(&ours).await?)
        .with("kept at the gateway", throughput(&kept).await?)
        .with("a bare two-hop tonic chain", throughput(&two_hops).await?);
    let load = format!("{size} bytes, 64 streams on 4 connections");
    let mut rows = vec![
        Row::new(row, "us", format!("a bare two-hop tonic chain, {load}; CPU of both servers"), GOAL, &through),
        Row::new(
            format!("{row}_kept"),
            "us",
            format!("one bare tonic hop, {load}; CPU of all servers"),
            KEPT_GOAL,
            &keeping,
        ),
        Row::new(
            format!("{row}_gzip"),
            "us",
            "the same for a client that does not take gzip; CPU of both servers",
            GZIP_GOAL,
            &compressing,
        ),
    ];
    for (name, rounds) in [(format!("{row}_node"), through_node), (format!("{row}_kept_node"), keeping_node)] {
        if !rounds.is_empty() {
            let what = format!(
                "one Node process with the answer in memory, {size} bytes, {STREAMS_IN_ALL} connections; its CPU"
            );
            rows.push(Row::new(name, "us", what, PEER_GOAL, &rounds));
        }
    }
    Ok(Findings { rows, plots: vec![plot] })
}

/// Answers a second by how many calls are under way. Its client is on the same cores.
async fn throughput(target: &Target) -> Result<Vec<(f64, f64)>> {
    let mut points = Vec::new();
    for streams in [1, 4, 16, 64, 256] {
        points.push((streams as f64, target.load_with(streams, CURVE_TIME).await?.rate));
    }
    Ok(points)
}

/// The metadata of a call with a new key of `account`.
pub(super) async fn key(bench: &Bench, account: Uuid) -> Result<MetadataMap> {
    let mut accounts = AccountServiceClient::new(bench.services.service("dashboard")?.doors()?);
    let request = CreateApiKeyRequest { parent: format!("accounts/{account}"), ..CreateApiKeyRequest::default() };
    let secret = accounts.create_api_key(request).await.context("creating an API key")?.into_inner().secret;
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {secret}").parse()?);
    Ok(metadata)
}

pub(super) fn call(path: &'static str, message: &impl Message, metadata: &MetadataMap) -> Call {
    Call { path: PathAndQuery::from_static(path), message: message.encode_to_vec().into(), metadata: metadata.clone() }
}
