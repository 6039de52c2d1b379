//! `POST /hooks/{provider}/{job}`: where model providers send their webhooks. Each is forwarded as it came to a
//! generation-worker, which knows the providers' signatures.
//!
//! Invariants: the body is forwarded byte by byte, since it is signed; no more than 3 MiB of it is read; all that are being read hold
//! no more than a few MiB, since anybody may send one; and a webhook that cannot be verified is answered with 401 and leaves
//! nothing behind; and a body costs its sender's address by its bytes, over HTTP/2 too.

mod budget;

use std::time::Duration;

use chassis::{client::Channel, request::deadline, server::Client};
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use proto::work::v1::{ReceiveHookRequest, hook_service_client::HookServiceClient, receive_hook_request::Header};
use tokio::time::{Instant, timeout};
use tonic::{Code, body::Body};

use self::budget::{Budget, Place};
use crate::http_call;

const PREFIX: &str = "/hooks/";
/// The longest body: a prediction comes with its logs.
const MAX_BODY: usize = 3 << 20;
/// How much of a body may have come, or come yet, when nobody reads it: the window of a stream.
const WINDOW: usize = 1 << 20;
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
        let (parts, body) = request.into_parts();
        // From here on, so that a body which is refused unread costs its sender, too.
        let mut body = Paid::new(&parts, body);
        let (Some(mut worker), until) = (self.worker.clone(), Instant::now() + TIMEOUT) else {
            return StatusCode::NOT_FOUND;
        };
        if parts.method != Method::POST {
            return StatusCode::METHOD_NOT_ALLOWED;
        }
        let path = parts.uri.path().trim_start_matches(PREFIX);
        let Some((provider, job)) = path.split_once('/').map(|(provider, job)| (provider.to_owned(), job.to_owned()))
        else {
            return StatusCode::NOT_FOUND;
        };
        // On 503 the provider sends it again.
        let Some(mut place) = self.budget.enter(Client::address_of(&parts.extensions)) else {
            return StatusCode::SERVICE_UNAVAILABLE;
        };
        let body = match timeout(READ_TIMEOUT, body.read(&mut place)).await {
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

/// A body that its sender's address pays for, whoever it is and whatever becomes of it.
struct Paid<'a> {
    parts: &'a Parts,
    body: Body,
    /// Its length, as far as the sender says it.
    announced: Option<usize>,
    read: usize,
}

impl<'a> Paid<'a> {
    fn new(parts: &'a Parts, body: Body) -> Self {
        let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { parts, body, announced: length, read: 0 }
    }

    fn pay(&self, bytes: usize) {
        Client::pay_for_body(&self.parts.extensions, self.parts.version, bytes);
    }

    /// The whole body, each part of it only once there is room for it.
    async fn read(&mut self, place: &mut Place) -> Result<Vec<u8>, StatusCode> {
        if self.announced.is_some_and(|length| length > MAX_BODY) {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let mut bytes = Vec::new();
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
            let Ok(data) = frame.into_data() else { continue };
            self.read += data.len();
            self.pay(data.len());
            if self.read > MAX_BODY {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            if !place.grow(self.read) {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}

impl Drop for Paid<'_> {
    /// What nobody reads has come all the same, or may come yet.
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            let left = self.announced.map_or(usize::MAX, |length| length.saturating_sub(self.read));
            self.pay(left.min(WINDOW));
        }
    }
}
