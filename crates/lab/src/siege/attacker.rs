//! The attacker: an account of its own with all that a customer has, and the means to call, to open bare connections, and to do
//! either many times at once.
//!
//! Invariants: it comes from other addresses than the good client, as another machine would; each attack has an attacker of its own, with
//! another account and other addresses, and what it has ordered is not carried out after it, so that each attack is seen by itself; and it
//! notes what it was told.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{UploadAssetRequest, UploadMetadata};
use proto::queues::v1::SetAccountRunningLimitRequest;
use proto::queues::v1::queue_service_client::QueueServiceClient;
use proto::webhooks::v1::webhook_service_client::WebhookServiceClient;
use proto::webhooks::v1::{CreateEndpointRequest, Endpoint};
use testkit::{AsBytes, Doors};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tonic::client::GrpcService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::client::{authorize, project_and_scene, set_up};
use super::machine::Machine;
use crate::cluster::Cluster;

/// How many of the most frequent answers are told.
const FREQUENT: usize = 4;
/// How long one call of an attacker may take.
const CALL: Duration = Duration::from_secs(5);

/// One account, and what it was told.
pub(super) struct Attacker {
    /// Where its attacks run.
    pub(super) machine: Machine,
    pub(super) gateway: SocketAddr,
    account: String,
    queues: QueueServiceClient<Doors>,
    pub(super) key: String,
    pub(super) project: String,
    pub(super) scene: String,
    pub(super) asset: String,
    /// The path of the asset's bytes.
    pub(super) asset_path: String,
    pub(super) endpoint: String,
    answers: Mutex<BTreeMap<String, u64>>,
    next_address: AtomicU8,
    /// Its number, which its addresses have.
    number: u16,
}

impl Attacker {
    /// Makes its account, with a project, a scene, an asset and a webhook's endpoint.
    pub(super) async fn new(cluster: &Cluster, number: u16) -> Result<Self> {
        let (account, key) = cluster.account("An attacker".into(), 1_000_000_000).await?;
        let gateway = cluster.channel(0, "gateway")?;
        let (project, scene) = project_and_scene(&gateway, &key).await?;
        let picture = provider_double::picture("an attacker's", 700);
        let size_bytes = i64::try_from(picture.len())?;
        let parts = upload_parts(size_bytes, picture.chunks(256 << 10).map(Bytes::copy_from_slice));
        let upload = set_up(&key, futures::stream::iter(parts));
        let asset =
            AssetServiceClient::new(gateway.clone()).upload_asset(upload).await.context("uploading")?.into_inner();
        let path = asset.url.split_once("/assets/").context("an asset's address has no path")?.1;
        let endpoint = Endpoint { url: "https://hooks.example.com/attacker".into(), ..Endpoint::default() };
        let request = CreateEndpointRequest { endpoint: Some(endpoint), ..CreateEndpointRequest::default() };
        // Where no such address is allowed, nothing can be sent to it either.
        let endpoint = WebhookServiceClient::new(gateway).create_endpoint(set_up(&key, request)).await;
        Ok(Self {
            machine: Machine::new()?,
            gateway: cluster.node(0, "gateway").address(),
            account,
            queues: QueueServiceClient::new(cluster.doors(0, "generation-status")),
            key,
            project,
            scene,
            asset: asset.name,
            asset_path: format!("/assets/{path}"),
            endpoint: endpoint.map(|endpoint| endpoint.into_inner().name).unwrap_or_default(),
            answers: Mutex::default(),
            next_address: AtomicU8::new(0),
            number,
        })
    }

    /// Notes an answer.
    pub(super) fn hear(&self, answer: impl Into<String>) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(answer.into()).or_default() += 1;
    }

    /// Notes how a call ended, by its code and its reason.
    pub(super) fn hear_status(&self, status: &Status) {
        use tonic_types::StatusExt as _;
        let reason = status.get_details_error_info().map(|info| info.reason);
        self.hear(format!(
            "{:?} {}",
            status.code(),
            reason.unwrap_or_else(|| status.message().chars().take(60).collect())
        ));
    }

    /// Lets nothing of what it has ordered begin any more.
    pub(super) async fn end(&self) -> Result<()> {
        let request = SetAccountRunningLimitRequest { account: self.account.clone(), limit: Some(0) };
        self.queues.clone().set_account_running_limit(request).await.context("limiting the attacker's orders")?;
        Ok(())
    }

    /// The most frequent answers.
    pub(super) fn answers(&self) -> Vec<(String, u64)> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = answers.iter().map(|(answer, count)| (answer.clone(), *count)).collect::<Vec<_>>();
        answers.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        answers.truncate(FREQUENT);
        answers
    }

    /// A few addresses take turns, none of which another attacker has.
    fn address(&self) -> IpAddr {
        let turn = self.next_address.fetch_add(1, Ordering::Relaxed) % 4;
        let [high, low] = self.number.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(127, high, low, 66 + turn))
    }

    /// A bare connection to the gateway.
    pub(super) async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(self.address(), 0))?;
        tokio::time::timeout(CALL, socket.connect(self.gateway)).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }

    /// A channel of its own, with the window of a client that reads.
    pub(super) fn channel(&self) -> Result<Channel> {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", self.gateway))?;
        Ok(endpoint.local_address(Some(self.address())).connect_timeout(CALL).connect_lazy())
    }

    /// Calls a method with any bytes.
    pub(super) async fn call(&self, channel: &Channel, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
        self.call_as(channel, path, message, |request| authorize(request, &self.key)).await
    }

    /// Calls a method with a message that was compressed before, so that a bomb costs its sender no more than its bytes.
    pub(super) async fn call_compressed(&self, channel: &Channel, path: &'static str, gzip: &Bytes) {
        let mut channel = channel.clone();
        let length = u32::try_from(gzip.len()).unwrap_or(u32::MAX).to_be_bytes();
        let frame = Bytes::from([&[1], length.as_slice(), gzip].concat());
        let request = http::Request::post(format!("http://{}{path}", self.gateway))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-encoding", "gzip")
            .header("authorization", format!("Bearer {}", self.key))
            .body(tonic::body::Body::new(http_body_util::Full::new(frame)));
        let Ok(request) = request else { return self.hear("not sent") };
        let answered = async {
            poll_fn(|context| GrpcService::<tonic::body::Body>::poll_ready(&mut channel, context)).await.ok()?;
            let (head, body) = channel.call(request).await.ok()?.into_parts();
            // Refusals stand in the headers, whatever came of a message behind it.
            let trailers = body.collect().await.ok()?.trailers().cloned().unwrap_or_default();
            Some(Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers)))
        };
        match tokio::time::timeout(2 * CALL, answered).await {
            Ok(Some(Some(status))) if status.code() != tonic::Code::Ok => self.hear_status(&status),
            Ok(Some(_)) => self.hear("OK"),
            Ok(None) => self.hear("not answered"),
            Err(_) => self.hear("no answer"),
        }
    }

    /// Calls a method with metadata of the caller's own.
    pub(super) async fn call_as(
        &self,
        channel: &Channel,
        path: &'static str,
        message: Bytes,
        dress: impl FnOnce(&mut Request<Bytes>),
    ) -> Result<Bytes, Status> {
        let mut grpc = tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(64 << 20);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(message);
        request.set_timeout(CALL);
        dress(&mut request);
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
        let answer = tokio::time::timeout(2 * CALL, grpc.unary(request, path, AsBytes)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        match &answer {
            Ok(_) => self.hear("OK"),
            Err(status) => self.hear_status(status),
        }
        answer.map(tonic::Response::into_inner)
    }

    /// Uploads chunks as a client would.
    pub(super) async fn upload(&self, channel: &Channel, size_bytes: i64, chunks: Vec<Bytes>) {
        let mut request = Request::new(futures::stream::iter(upload_parts(size_bytes, chunks)));
        request.set_timeout(Duration::from_secs(60));
        authorize(&mut request, &self.key);
        match AssetServiceClient::new(channel.clone()).upload_asset(request).await {
            Ok(_) => self.hear("OK"),
            Err(status) => self.hear_status(&status),
        }
    }
}

/// The messages of an upload.
pub(super) fn upload_parts(size_bytes: i64, chunks: impl IntoIterator<Item = Bytes>) -> Vec<UploadAssetRequest> {
    let metadata = Part::Metadata(UploadMetadata { file_name: "a file".into(), size_bytes });
    let parts = std::iter::once(metadata).chain(chunks.into_iter().map(Part::Chunk));
    parts.map(|part| UploadAssetRequest { part: Some(part) }).collect()
}

/// Does the same in `count` tasks, again and again until the time has come; what is under way then is dropped.
pub(super) async fn many<F, W>(attacker: &Arc<Attacker>, count: usize, until: Instant, what: F)
where
    F: Fn(Arc<Attacker>, usize) -> W + Clone + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (what, attacker) = (what.clone(), Arc::clone(attacker));
        tasks.spawn(async move {
            while Instant::now() < until {
                what(Arc::clone(&attacker), number).await;
                tokio::task::yield_now().await;
            }
        });
    }
    tokio::time::sleep_until(until.into()).await;
    tasks.shutdown().await;
}
