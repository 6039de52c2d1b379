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
use super::load::{Call, STREAMS_IN_ALL, Target};
use super::node::Node;
use super::progress::say;
use super::report::{Round, Row};
use super::setup::Bench;
use super::statements;

const DASHBOARD: &str = "/rushes.dashboard.v1.DashboardService/GetDashboard";
const GENERATION: &str = "/rushes.generations.v1.GenerationService/GetGeneration";
/// Beside the bare chain through two hops.
const GOAL: f64 = 1.3;
/// Beside what one would write instead.
const PEER_GOAL: f64 = 1.0;
/// Accounts that the streams are spread over.
const ACCOUNTS: usize = 16;
/// How long each side is loaded in a round.
const TIME: Duration = Duration::from_secs(2);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
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
    let mut rows = compare(bench, "warm_dashboard", "dashboard", dashboards).await?;
    rows.extend(compare(bench, "warm_status", "generation-status", statuses).await?);
    Ok(rows)
}

async fn compare(bench: &Bench, row: &str, service: &str, calls: Vec<Call>) -> Result<Vec<Row>> {
    let gateway = bench.services.service("gateway")?;
    let request = calls.first().map_or(0, |call| call.message.len());
    let processes = vec![gateway.pid(), bench.services.service(service)?.pid()];
    let ours = Target::connect(gateway.address(), processes, calls).await?;
    let size = ours.once().await.with_context(|| format!("asking once for {row}"))?.len();
    say(&format!("{row}: {size} bytes through both hops"));
    let chain = Baseline::start(bench.database.folder(), size).await?;
    let baseline = chain.target(request).await?;
    let peer = Node::start(bench.database.folder(), size).await?;
    if peer.is_none() {
        say(&format!("{row}: there is no node on this machine, so the row of that peer is left out"));
    }
    let (mut rounds, mut rates, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..=bench.options.rounds {
        let (ours, beside) = (ours.load(TIME).await?, baseline.load(TIME).await?);
        let peer = match &peer {
            Some(peer) => Some(peer.load(TIME).await?),
            None => None,
        };
        // The first round fills caches and connections.
        if number > 0 {
            rounds.push(Round { ours: ours.cpu, beside: beside.cpu });
            rates.push(Round { ours: ours.rate, beside: beside.rate });
            peers.extend(peer.map(|peer| Round { ours: ours.cpu, beside: peer.cpu }));
        }
    }
    let rate = |of: fn(&Round) -> f64| super::report::median(rates.iter().map(of));
    say(&format!(
        "{row}: {:.0} requests a second, the bare chain {:.0}",
        rate(|round| round.ours),
        rate(|round| round.beside)
    ));
    let what = format!("a bare two-hop tonic chain, {size} bytes, 64 streams on 4 connections; CPU of both servers");
    let mut rows = vec![Row::new(row, "us", what, GOAL, &rounds)];
    if !peers.is_empty() {
        let what =
            format!("one Node process with the answer in memory, {size} bytes, {STREAMS_IN_ALL} connections; its CPU");
        rows.push(Row::new(format!("{row}_node"), "us", what, PEER_GOAL, &peers));
    }
    Ok(rows)
}

/// The metadata of a client that has a key of the account.
async fn key(bench: &Bench, account: Uuid) -> Result<MetadataMap> {
    let mut accounts = AccountServiceClient::new(bench.services.service("dashboard")?.doors()?);
    let request = CreateApiKeyRequest { parent: format!("accounts/{account}"), ..CreateApiKeyRequest::default() };
    let secret = accounts.create_api_key(request).await.context("creating an API key")?.into_inner().secret;
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {secret}").parse()?);
    Ok(metadata)
}

fn call(path: &'static str, message: &impl Message, metadata: &MetadataMap) -> Call {
    Call { path: PathAndQuery::from_static(path), message: message.encode_to_vec().into(), metadata: metadata.clone() }
}
