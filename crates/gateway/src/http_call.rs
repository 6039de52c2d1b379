//! The frame of every plain HTTP request: its span, its duration, and the trace id that its response carries.

use std::{future::Future, time::Instant};

use chassis::server::Client;
use chassis::telemetry::metric::Value;
use chassis::telemetry::{self, TRACE_ID_HEADER, attributes};
use http::{HeaderValue, Method, Request, Response};
use tonic::body::Body;
use tracing::{Instrument as _, field::Empty};

use crate::metrics;

/// Runs `respond` on a request inside its span; `route` is the pattern of its path, and all that is shown of one that is a secret.
pub(crate) async fn traced<B, F: Future<Output = Response<Body>>>(
    request: Request<B>,
    route: &'static str,
    respond: impl FnOnce(Request<B>) -> F,
) -> Response<Body> {
    let start = Instant::now();
    let method = known(request.method());
    let span = tracing::info_span!(
        "http",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        { attributes::HTTP_REQUEST_METHOD } = %method,
        { attributes::HTTP_ROUTE } = route,
        { attributes::URL_PATH } = if route.contains("{mac}") { route } else { request.uri().path() },
        { attributes::HTTP_RESPONSE_STATUS_CODE } = Empty,
    );
    telemetry::follow(&span, request.headers(), Client::is_trusted_to_trace(request.extensions()));
    let mut response = respond(request).instrument(span.clone()).await;
    let status = response.status();
    span.record(attributes::HTTP_RESPONSE_STATUS_CODE, status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    let trace = span.in_scope(telemetry::trace_id);
    if let Some(trace) = trace.and_then(|id| HeaderValue::try_from(id).ok()) {
        response.headers_mut().insert(TRACE_ID_HEADER, trace);
    }
    let labels = [Value::const_str(route), Value::from(status.as_str().to_owned())];
    metrics::HTTP_DURATION.with(labels).record(start.elapsed());
    response
}

/// A method's name; that of one that is not HTTP's own is what OpenTelemetry calls it, since anybody may make one up.
fn known(method: &Method) -> &str {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
        Method::TRACE,
        Method::CONNECT,
    ];
    if known.contains(method) { method.as_str() } else { "_OTHER" }
}
