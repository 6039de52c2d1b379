//! What stands before everything: CORS for browsers, gRPC and gRPC-Web to the calls, all other HTTP to the assets.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderName, Method, Request, Response,
    header::{ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE},
};
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer as _, Service};
use tower_http::cors::{AllowOrigin, Cors, CorsLayer};

use crate::{assets::Assets, config::Origins};

/// The public port's outermost service.
#[derive(Clone, Debug)]
pub(crate) struct Door<R> {
    calls: GrpcWebService<R>,
    assets: Assets,
}

impl<R> Door<R> {
    pub(crate) fn new(calls: R, assets: Assets) -> Self {
        Self { calls: GrpcWebLayer::new().layer(calls), assets }
    }
}

impl<R> Service<Request<Body>> for Door<R>
where
    R: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    R::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        <GrpcWebService<R> as Service<Request<Body>>>::poll_ready(&mut self.calls, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if grpc(&request) {
            return Box::pin(self.calls.call(request));
        }
        let assets = self.assets.clone();
        let request = request.map(drop);
        Box::pin(async move { Ok(assets.answer(request).await) })
    }
}

fn grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// `door` with the answers that browsers ask for before they let a page call.
pub(crate) fn cors<S>(origins: &Origins, door: S) -> Cors<S> {
    let origins = match origins {
        Origins::Any => AllowOrigin::any(),
        Origins::Only(list) => AllowOrigin::list(list.iter().cloned()),
    };
    let header = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([
            AUTHORIZATION,
            CONTENT_TYPE,
            RANGE,
            IF_NONE_MATCH,
            header("grpc-timeout"),
            header("traceparent"),
            header("tracestate"),
            header("x-api-key"),
            header("x-grpc-web"),
            header("x-request-id"),
            header("x-user-agent"),
        ])
        .expose_headers([
            header("grpc-status"),
            header("grpc-message"),
            header("grpc-status-details-bin"),
            header("grpc-encoding"),
            header("grpc-retry-pushback-ms"),
            ACCEPT_RANGES,
            CONTENT_LENGTH,
            CONTENT_RANGE,
            ETAG,
        ])
        .max_age(Duration::from_secs(86_400))
        .layer(door)
}
