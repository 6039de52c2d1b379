//! Providers' webhooks: verified by their provider's own rules over the raw body, then only a word that it is time to poll.
//!
//! Invariant: nothing that a webhook says is believed but that there may be news, and which order it is about; and nothing of
//! one that cannot be verified goes any further.

use std::time::SystemTime;

use bytes::Bytes;
use chassis::status::Failure;
use http::{HeaderMap, HeaderName, HeaderValue};
use proto::work::v1::hook_service_server::HookService;
use proto::work::v1::{ReceiveHookRequest, ReceiveHookResponse};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::providers::Registry;
use crate::status::Client;

/// The longest body that a provider may send, in bytes.
const BODY: usize = 1 << 20;

/// A webhook as it came.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The job that its address names.
    pub job: Uuid,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, byte by byte what was signed.
    pub body: Bytes,
    /// When it came, for the window of its signature.
    pub now: SystemTime,
}

/// What a verified webhook says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The provider's own name of the event, which a repetition has too.
    pub event: String,
    /// The order that it is about, where it says so.
    pub reference: Option<String>,
}

/// Why a webhook is not believed, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotVerified(pub &'static str);

/// The service that the gateway passes webhooks on to.
#[derive(Clone)]
pub struct Hooks {
    providers: Registry,
    status: Client,
}

impl Hooks {
    /// Hears for `providers`, and tells `status`.
    #[must_use]
    pub fn new(providers: Registry, status: Client) -> Self {
        Self { providers, status }
    }
}

#[tonic::async_trait]
impl HookService for Hooks {
    async fn receive_hook(
        &self,
        request: Request<ReceiveHookRequest>,
    ) -> Result<Response<ReceiveHookResponse>, Status> {
        let request = request.into_inner();
        let provider = request.provider.clone();
        let heard = read(request).and_then(|hook| {
            let provider = self.providers.called(&provider).ok_or(NotVerified("no such provider here"))?;
            Ok((hook.job, provider.hear(&hook)?))
        });
        let (job, heard) = match heard {
            Ok(heard) => heard,
            Err(why) => {
                // The name is the sender's own word, so it is no label.
                metrics::counter!("rushes_provider_webhooks_total", "outcome" => "refused").increment(1);
                tracing::warn!(%why, "a webhook is not believed");
                let refusal = Failure::unauthenticated("HOOK_NOT_VERIFIED", "the webhook cannot be verified");
                return Err(refusal.into());
            }
        };
        let awaited = match self.status.hint(&provider, &heard, job).await {
            Ok(awaited) => awaited,
            // The provider sends it again.
            Err(error) => {
                metrics::counter!("rushes_provider_webhooks_total", "outcome" => "undelivered").increment(1);
                tracing::warn!(%error, "a webhook could not be passed on");
                return Err(Failure::unavailable("DEPENDENCY_DOWN", "generation-status does not answer").into());
            }
        };
        let outcome = if awaited { "awaited" } else { "idle" };
        metrics::counter!("rushes_provider_webhooks_total", "outcome" => outcome).increment(1);
        Ok(Response::new(ReceiveHookResponse {}))
    }
}

fn read(request: ReceiveHookRequest) -> Result<Hook, NotVerified> {
    let job = Uuid::try_parse(&request.job).map_err(|_| NotVerified("its address names no job"))?;
    if request.body.len() > BODY {
        return Err(NotVerified("its body is too long"));
    }
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for header in request.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| NotVerified("a header has no name"))?;
        let value = HeaderValue::from_bytes(&header.value).map_err(|_| NotVerified("a header cannot be read"))?;
        headers.append(name, value);
    }
    Ok(Hook { job, headers, body: request.body.into(), now: now() })
}

/// A signature's window is in the wall clock of its sender, and in no other.
fn now() -> SystemTime {
    SystemTime::now()
}
