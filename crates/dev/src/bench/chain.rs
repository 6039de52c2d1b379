//! The baseline of a request through two hops: a bare tonic server that answers ready bytes, and a bare tonic gateway that
//! forwards them; each as a process of its own, as our gateway and services are.
//!
//! Deliberately absent: routing, authentication, deadlines, spans, metrics, caches, limits. Deliberately the same as ours:
//! the allocator, the runtime, TCP_NODELAY, four connections between the two, and the size of the body.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Task, Poll};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response};
use testkit::AsBytes;
use tonic::body::Body;
use tonic::server::UnaryService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Status, client, server};
use tower::Service;

/// The method that the chain answers.
pub(super) const PATH: &str = "/bench.Baseline/Get";
/// Connections from the gateway to the server, as many as ours has.
const CONNECTIONS: usize = 4;

/// Which end of the chain a process is.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub(super) enum Role {
    /// Answers every call with as many bytes.
    #[command(hide = true)]
    BaselineServer {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        size: usize,
    },
    /// Passes every call on.
    #[command(hide = true)]
    BaselineGateway {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
    },
}

/// Serves one end of the chain until the process is ended.
pub(super) async fn serve(role: Role) -> Result<()> {
    // On a runtime like the services' own, not on the command line's small one.
    let serve = move || tokio::runtime::Runtime::new()?.block_on(listen(role));
    tokio::task::spawn_blocking(serve).await.context("the baseline panicked")?
}

async fn listen(role: Role) -> Result<()> {
    match role {
        Role::BaselineServer { listen, size } => {
            // Not zeroes: nothing on the way may find them easier than a real body.
            let body: Bytes = (0..size).map(|_| fastrand::u8(..)).collect();
            answer(listen, Bare(Answer(body))).await
        }
        Role::BaselineGateway { listen, upstream } => {
            let endpoint = Endpoint::from_shared(format!("http://{upstream}"))?;
            let connections = (0..CONNECTIONS).map(|_| endpoint.connect_lazy()).collect();
            answer(listen, Bare(Forward { connections, next: Arc::default() })).await
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the baseline is what a server costs without anything of ours")]
async fn answer<S>(listen: SocketAddr, bare: Bare<S>) -> Result<()>
where
    S: UnaryService<Bytes, Response = Bytes, Future: Send> + Clone + Send + Sync + 'static,
{
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("binding {listen}"))?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder().serve_with_incoming(bare, incoming).await.context("serving the baseline")
}

/// A gRPC service with one method, whatever the path.
#[derive(Clone)]
struct Bare<S>(S);

impl<S> Service<Request<Body>> for Bare<S>
where
    S: UnaryService<Bytes, Response = Bytes, Future: Send> + Clone + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = self.0.clone();
        Box::pin(async move { Ok(server::Grpc::new(AsBytes).unary(method, request).await) })
    }
}

/// Answers ready bytes.
#[derive(Clone)]
struct Answer(Bytes);

impl UnaryService<Bytes> for Answer {
    type Response = Bytes;
    type Future = Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, _: tonic::Request<Bytes>) -> Self::Future {
        ready(Ok(tonic::Response::new(self.0.clone())))
    }
}

/// Passes the bytes on and back.
#[derive(Clone)]
struct Forward {
    connections: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
}

impl UnaryService<Bytes> for Forward {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let mut client = client::Grpc::new(self.connections[next].clone());
        Box::pin(async move {
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            client.unary(tonic::Request::new(request.into_inner()), PathAndQuery::from_static(PATH), AsBytes).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::{Call, Target};

    #[tokio::test]
    async fn the_chain_answers_as_many_bytes_as_asked_for() {
        let (upstream, listen) = (local(), local());
        tokio::spawn(super::listen(Role::BaselineServer { listen: upstream, size: 8_200 }));
        tokio::spawn(super::listen(Role::BaselineGateway { listen, upstream }));
        for address in [upstream, listen] {
            let call = Call {
                path: PathAndQuery::from_static(PATH),
                message: Bytes::from_static(b"ask"),
                metadata: tonic::metadata::MetadataMap::new(),
            };
            let up = async || Target::connect(address, Vec::new(), vec![call.clone()]).await.ok();
            let target =
                testkit::eventually("the chain listens", std::time::Duration::from_secs(10), up).await.unwrap();
            assert_eq!(target.once().await.unwrap().len(), 8_200);
        }
    }

    fn local() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], testkit::free_port()))
    }
}
