//! What stands before everything: CORS for browsers, gRPC and gRPC-Web to the calls, providers' webhooks to their
//! verifier, all other HTTP to the assets.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use chassis::{stale, token};
use http::{
    HeaderName, HeaderValue, Method, Request, Response,
    header::{
        ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, ORIGIN, RANGE,
    },
};
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer as _, Service};
use tower_http::cors::{AllowOrigin, Cors, CorsLayer};

use crate::{assets::Assets, config::Origins, forward, hooks::Hooks};

/// The public port's outermost service: native gRPC goes straight in, browsers through what they need.
#[derive(Clone, Debug)]
pub(crate) struct Door<R> {
    calls: R,
    browsers: Cors<Web<R>>,
}

/// What browsers and players speak.
#[derive(Clone, Debug)]
struct Web<R> {
    calls: GrpcWebService<R>,
    assets: Assets,
    hooks: Hooks,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<R: Clone> Door<R> {
    pub(crate) fn new(calls: R, assets: Assets, hooks: Hooks, origins: &Origins) -> Self {
        let web = Web { calls: GrpcWebLayer::new().layer(calls.clone()), assets, hooks };
        Self { calls, browsers: cors(origins, web) }
    }
}

impl<R> Service<Request<Body>> for Door<R>
where
    R: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    R::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.calls.poll_ready(context)?.is_pending() {
            return Poll::Pending;
        }
        self.browsers.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        match kind(&request) {
            // A page that speaks native gRPC is still a page.
            Kind::Grpc if !request.headers().contains_key(ORIGIN) => Box::pin(self.calls.call(request)),
            _ => Box::pin(self.browsers.call(request)),
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
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        <GrpcWebService<R> as Service<Request<Body>>>::poll_ready(&mut self.calls, context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        if kind(&request) != Kind::Other {
            return Box::pin(self.calls.call(request));
        }
        if self.hooks.wants(request.uri().path()) {
            let hooks = self.hooks.clone();
            return Box::pin(async move { Ok(hooks.answer(request).await) });
        }
        let assets = self.assets.clone();
        let request = request.map(drop);
        Box::pin(async move { Ok(assets.answer(request).await) })
    }
}

/// What a request speaks, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grpc,
    GrpcWeb,
    Other,
}

fn kind<B>(request: &Request<B>) -> Kind {
    match request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes) {
        Some(kind) if kind.starts_with(b"application/grpc-web") => Kind::GrpcWeb,
        Some(kind) if kind.starts_with(b"application/grpc") => Kind::Grpc,
        _ => Kind::Other,
    }
}

/// `web` with the answers that browsers ask for before they let a page call.
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
            header(forward::SESSION),
            header(stale::ASKED),
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
            header(stale::TOLD),
            header(token::HEADER),
            ACCEPT_RANGES,
            CONTENT_LENGTH,
            CONTENT_RANGE,
            ETAG,
        ])
        .max_age(Duration::from_secs(86_400))
        .layer(web)
}
