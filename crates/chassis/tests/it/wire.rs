//! gRPC by hand, one level below generated code: what a test sends and sees is what is on the wire.

use std::{convert::Infallible, future::Future, net::SocketAddr};

use bytes::Bytes;
use chassis::{drain::Drain, server, server::Server};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinHandle};
use tonic::body::Body;

/// Free ports.
pub(crate) fn free() -> server::Settings {
    server::Settings::FREE
}

/// A running server and what ends it.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) task: JoinHandle<Result<(), server::Error>>,
}

/// Serves `handler` for every path.
pub(crate) async fn serve<F>(server: Server, handler: impl Fn(String) -> F + Clone + Send + 'static) -> Running
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let bound = server.bind().await.unwrap();
    let (addr, admin) = (bound.addr(), bound.admin_addr());
    let drain = Drain::default();
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = handler(request.uri().path().to_owned());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let task = tokio::spawn(bound.serve_around(service, |rpc| rpc, drain.clone()));
    Running { addr, admin, drain, task }
}

/// A good reply without a message.
pub(crate) fn ok() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    stream(futures::stream::iter([Ok(Frame::trailers(trailers))]))
}

/// A reply of these frames.
pub(crate) fn stream(
    frames: impl futures::Stream<Item = Result<Frame<Bytes>, tonic::Status>> + Send + 'static,
) -> Response<Body> {
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

/// Calls `path` over a connection of its own and gives the headers, and the trailers or, without any, the headers again.
pub(crate) async fn call(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (HeaderMap, HeaderMap) {
    let io = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{addr}{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned();
    (parts.headers.clone(), trailers.unwrap_or(parts.headers))
}

/// The status of a call: code, and reason where there is one.
pub(crate) fn status(trailers: &HeaderMap) -> (tonic::Code, String) {
    use tonic_types::StatusExt as _;
    let status = tonic::Status::from_header_map(trailers).expect("a status");
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    (status.code(), reason.unwrap_or_default())
}

/// Asks the admin port.
pub(crate) async fn admin(addr: SocketAddr, path: &str) -> (http::StatusCode, String) {
    let io = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "admin").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
