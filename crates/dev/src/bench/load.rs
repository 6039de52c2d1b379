//! A steady load on one address: 64 streams on 4 connections, each asking again as soon as it is answered.
//!
//! Invariant: every answer is counted and every error ends the measuring; a refused call is never a fast one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::uri::PathAndQuery;
use testkit::AsBytes;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use super::process;

/// HTTP/2 connections of the client.
const CONNECTIONS: usize = 4;
/// Calls under way at any time on each connection.
const STREAMS: usize = 16;
/// Calls under way at any time.
pub(super) const STREAMS_IN_ALL: usize = CONNECTIONS * STREAMS;

/// One request, encoded.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) path: PathAndQuery,
    pub(super) message: Bytes,
    pub(super) metadata: MetadataMap,
}

/// Where calls go, and the processes that answer them.
pub(super) struct Target {
    connections: Vec<Channel>,
    processes: Vec<u32>,
    calls: Vec<Call>,
    takes_gzip: bool,
}

/// What a load found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// CPU time of all processes for one request, in microseconds.
    pub(super) cpu: f64,
    /// Requests a second.
    pub(super) rate: f64,
}

impl Target {
    /// Connects to `address`; the streams take turns with `calls`.
    pub(super) async fn connect(address: SocketAddr, processes: Vec<u32>, calls: Vec<Call>) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            connections.push(endpoint.connect().await.with_context(|| format!("connecting to {address}"))?);
        }
        Ok(Self { connections, processes, calls, takes_gzip: false })
    }

    /// The same from a client that takes compressed answers, as most do.
    pub(super) fn taking_gzip(self) -> Self {
        Self { takes_gzip: true, ..self }
    }

    fn client(&self, number: usize) -> Grpc<Channel> {
        let client = Grpc::new(self.connections[number % CONNECTIONS].clone());
        if self.takes_gzip { client.accept_compressed(CompressionEncoding::Gzip) } else { client }
    }

    /// Makes the first call once and returns the answer.
    pub(super) async fn once(&self) -> Result<Bytes> {
        let call = self.calls.first().context("a load without calls")?;
        ask(&mut self.client(0), call).await
    }

    /// Loads the target for `time`.
    pub(super) async fn load(&self, time: Duration) -> Result<Measured> {
        self.load_with(STREAMS_IN_ALL, time).await
    }

    /// The same with so many calls under way at any time.
    pub(super) async fn load_with(&self, streams_in_all: usize, time: Duration) -> Result<Measured> {
        let before = self.cpu()?;
        let began = Instant::now();
        let until = began + time;
        let mut streams = tokio::task::JoinSet::new();
        for number in 0..streams_in_all {
            let mut client = self.client(number);
            let call = self.calls[number % self.calls.len()].clone();
            streams.spawn(async move {
                let mut answered = 0_u32;
                while Instant::now() < until {
                    ask(&mut client, &call).await?;
                    answered += 1;
                }
                anyhow::Ok(answered)
            });
        }
        let mut answered = 0;
        while let Some(stream) = streams.join_next().await {
            answered += stream??;
        }
        let (took, used) = (began.elapsed(), self.cpu()? - before);
        ensure!(answered > 0, "nothing was answered within {time:?}");
        let answered = f64::from(answered);
        Ok(Measured { cpu: used.as_secs_f64() * 1e6 / answered, rate: answered / took.as_secs_f64() })
    }

    fn cpu(&self) -> Result<Duration> {
        self.processes.iter().map(|pid| process::cpu(*pid)).sum()
    }
}

/// Makes a call, and gives its answer.
pub(super) async fn ask(client: &mut Grpc<Channel>, call: &Call) -> Result<Bytes> {
    client.ready().await?;
    let mut request = tonic::Request::new(call.message.clone());
    *request.metadata_mut() = call.metadata.clone();
    Ok(client.unary(request, call.path.clone(), AsBytes).await?.into_inner())
}
