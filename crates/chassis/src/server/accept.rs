//! Connections: accepting them, serving each in a task of its own, and letting them end.
//!
//! tonic's own server is not used because it looks at `grpc-timeout` before anything of ours can, and answers an expired
//! one with CANCELLED.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;
use tower::{Service, ServiceExt as _};

use super::connection::Connections;
use crate::client::{CONNECTION_WINDOW, MAX_HEADERS, STREAM_WINDOW};

/// How long to wait when the operating system gives no more connections (out of file descriptors, usually).
const REST: Duration = Duration::from_millis(50);

/// How many calls of one of our own processes may be cancelled before they are accepted.
const MAX_PENDING_RESETS: usize = 100_000;

/// Serves `service` on `listener` until `end`, and then until every connection has finished what it was doing. What comes from
/// outside goes through `public`.
pub(super) async fn serve<S>(
    listener: TcpListener,
    service: S,
    public: Option<Arc<Connections>>,
    end: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let builder = builder();
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = end.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match &public {
                Some(public) => public.spawn(stream, peer.ip(), service.clone(), &end, &connections),
                None => drop(connections.spawn(connection(builder.clone(), stream, service.clone(), end.clone()))),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
    // Closed now and not when the last connection has ended: who connects must be refused, not left waiting.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// For connections of our own processes.
fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        // All watches share a few connections.
        .max_concurrent_streams(None)
        // The connection of a process of ours carries everybody's calls: a burst of cancelled ones, or calls whose bodies nobody
        // reads, must not end or fill it. Against strangers the limits of the library stay.
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(None);
    builder.http2_only()
}

async fn connection<S>(builder: Builder<TokioExecutor>, stream: TcpStream, service: S, end: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // Without it small frames wait for each other: a tenth of the throughput, and 48 ms more at the 99th percentile.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    // On the heap: the task of a stream is moved several times, with all that is in it.
    let answer =
        service_fn(move |request: Request<Incoming>| Box::pin(service.clone().oneshot(request.map(Body::new))));
    let mut running = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let result = tokio::select! {
        result = running.as_mut() => result,
        () = end.cancelled() => {
            running.as_mut().graceful_shutdown();
            running.await
        }
    };
    if let Err(error) = result {
        // Peers that go away in the middle of something are everyday.
        tracing::debug!(%error, "a connection broke");
    }
}
