//! The public port's dispatch by protocol: gRPC and gRPC-Web to the calls, providers' webhooks to their verifier, all other
//! HTTP to the assets, and CORS around everything that a browser may send.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use chassis::request::{staleness, token};
use chassis::telemetry::TRACE_ID_HEADER;
use http::{
    HeaderName, HeaderValue, Method, Request, Response,
    header::{
        ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, ORIGIN, RANGE,
    },
};
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer as _, Service, ServiceExt as _};
use tower_http::cors::{AllowOrigin, Cors, CorsLayer};

use crate::{assets::Assets, config::Origins, forward, hooks::Hooks, model};

/// The public port's outermost service. Native gRPC goes straight to the calls, past the layers that only browsers need.
#[derive(Clone, Debug)]
pub(crate) struct Ingress<R> {
    calls: R,
    /// Shared, since every call clones what it goes through.
    web: Arc<Cors<Web<R>>>,
}

/// gRPC-Web and plain HTTP.
#[derive(Clone, Debug)]
struct Web<R> {
    calls: GrpcWebService<R>,
    assets: Assets,
    hooks: Hooks,
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<R: Clone> Ingress<R> {
    pub(crate) fn new(calls: R, assets: Assets, hooks: Hooks, origins: &Origins) -> Self {
        let web = Web { calls: GrpcWebLayer::new().layer(calls.clone()), assets, hooks };
        Self { calls, web: Arc::new(cors(origins, web)) }
    }
}

impl<R> Service<Request<Body>> for Ingress<R>
where
    R: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    R::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.calls.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        match protocol(&request) {
            // With an origin it comes from a page, whose browser needs the headers of CORS.
            Protocol::Grpc if !request.headers().contains_key(ORIGIN) => Box::pin(self.calls.call(request)),
            _ => Box::pin(Cors::clone(&self.web).oneshot(request)),
        }
    }
}

impl<R> Service<Request<Body>> for Web<R>
where
    R: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    R::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        <GrpcWebService<R> as Service<Request<Body>>>::poll_ready(&mut self.calls, context)
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        if protocol(&request) != Protocol::Other {
            return Box::pin(self.calls.call(request));
        }
        if self.hooks.matches(request.uri().path()) {
            let hooks = self.hooks.clone();
            return Box::pin(async move { Ok(hooks.answer(request).await) });
        }
        let assets = self.assets.clone();
        let request = request.map(drop);
        Box::pin(async move { Ok(assets.answer(request).await) })
    }
}

/// The protocol of a request, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Grpc,
    GrpcWeb,
    Other,
}

fn protocol<B>(request: &Request<B>) -> Protocol {
    match request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes) {
        Some(kind) if kind.starts_with(b"application/grpc-web") => Protocol::GrpcWeb,
        Some(kind) if kind.starts_with(b"application/grpc") => Protocol::Grpc,
        _ => Protocol::Other,
    }
}

/// `web` with CORS: the answers that a browser asks for before it lets a page call.
fn cors<S>(origins: &Origins, web: S) -> Cors<S> {
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
            header(forward::SESSION_HEADER),
            header(staleness::MAX_STALE_HEADER),
            header(token::HEADER),
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
            header(TRACE_ID_HEADER),
            header(staleness::AGE_HEADER),
            model::REMAINING_HEADER,
            model::POLICY_HEADER,
            header(token::HEADER),
            ACCEPT_RANGES,
            CONTENT_LENGTH,
            CONTENT_RANGE,
            ETAG,
        ])
        .max_age(Duration::from_secs(86_400))
        .layer(web)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::Way;

    /// Every request clones all that it goes through into a task of its own, and the task is moved several times: what is large in there
    /// is copied with each call.
    #[test]
    fn what_each_call_clones_is_a_few_pointers() {
        assert_eq!(size_of::<Way>(), size_of::<usize>());
        assert!(size_of::<Ingress<Way>>() <= 4 * size_of::<usize>(), "{}", size_of::<Ingress<Way>>());
    }
}
