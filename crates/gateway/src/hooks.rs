//! `POST /hooks/{provider}/{job}`: where model providers send their webhooks. Each is forwarded as it came to a
//! generation-worker, which knows the providers' signatures.
//!
//! Invariants: the body is forwarded byte by byte, since it is signed; no more than 3 MiB of it is read; all that are being read hold
//! no more than a few MiB, since anybody may send one; and a webhook that cannot be verified is answered with 401 and leaves
//! nothing behind.

mod budget;

use std::time::Duration;

use chassis::{client::Channel, request::deadline, server::Client};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use proto::work::v1::{ReceiveHookRequest, hook_service_client::HookServiceClient, receive_hook_request::Header};
use tokio::time::{Instant, timeout};
use tonic::{Code, body::Body};

use self::budget::{Budget, Place};
use crate::http_call;

const PREFIX: &str = "/hooks/";
/// The longest body: a prediction comes with its logs.
const MAX_BODY: usize = 3 << 20;
/// How long a webhook may take, its body included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long its body may take to come. A provider sends it in one go.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Forwards webhooks; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Hooks {
    worker: Option<HookServiceClient<Channel>>,
    budget: Budget,
}

impl Hooks {
    /// Forwards webhooks to a worker; without one there is no such route.
    pub(crate) fn new(worker: Option<Channel>) -> Self {
        Self { worker: worker.map(HookServiceClient::new), budget: Budget::new() }
    }

    /// Whether a path is that of a webhook.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.worker.is_some() && path.starts_with(PREFIX)
    }

    /// Answers a request whose path [matches](Hooks::matches).
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        http_call::traced(request, "/hooks/{provider}/{job}", async |request| {
            let status = self.forward(request).await;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            if status == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
            }
            response
        })
        .await
    }

    async fn forward(&self, request: Request<Body>) -> StatusCode {
        let (Some(mut worker), until) = (self.worker.clone(), Instant::now() + TIMEOUT) else {
            return StatusCode::NOT_FOUND;
        };
        if request.method() != Method::POST {
            return StatusCode::METHOD_NOT_ALLOWED;
        }
        let path = request.uri().path().trim_start_matches(PREFIX);
        let Some((provider, job)) = path.split_once('/').map(|(provider, job)| (provider.to_owned(), job.to_owned()))
        else {
            return StatusCode::NOT_FOUND;
        };
        let (parts, body) = request.into_parts();
        // On 503 the provider sends it again.
        let Some(mut place) = self.budget.enter(Client::address_of(&parts.extensions)) else {
            return StatusCode::SERVICE_UNAVAILABLE;
        };
        let body = match timeout(READ_TIMEOUT, read(&parts.headers, body, &mut place)).await {
            Ok(Ok(body)) => body,
            Ok(Err(status)) => return status,
            Err(_) => return StatusCode::REQUEST_TIMEOUT,
        };
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| Header { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() });
        let hook = ReceiveHookRequest { provider, job, headers: headers.collect(), body };
        match deadline::within(until, worker.receive_hook(hook)).await {
            Ok(_) => StatusCode::NO_CONTENT,
            Err(status) if status.code() == Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            // The fault is ours, and on 503 the provider sends the webhook again.
            Err(status) => {
                tracing::warn!(code = ?status.code(), message = status.message(), "a provider's webhook could not be forwarded");
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

/// The whole body, each part of it only once there is room for it.
async fn read(headers: &HeaderMap, mut body: Body, place: &mut Place) -> Result<Vec<u8>, StatusCode> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        let Ok(data) = frame.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > MAX_BODY {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if !place.grow(length) {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
