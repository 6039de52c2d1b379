//! HookService: what the gateway passes on of what providers send; and ProviderService: what they say when they are asked.

use std::time::SystemTime;

use chassis::status::Failure;
use chassis::telemetry;
use http::{HeaderMap, HeaderName, HeaderValue};
use proto::work::v1::hook_service_server::HookService;
use proto::work::v1::provider_service_server::ProviderService;
use proto::work::v1::{CheckModelsRequest, CheckModelsResponse, ReceiveHookRequest, ReceiveHookResponse};
use tonic::{Request, Response, Status};
use tracing::Span;
use uuid::Uuid;

use crate::checks;
use crate::clients::WorkClient;
use crate::events;
use crate::model::{Finding, ModelCheck, NotVerified, Webhook};
use crate::providers::Registry;
use crate::webhooks::Webhooks;

/// The longest body that a provider may send, in bytes.
const MAX_BODY: usize = 3 << 20;

/// The gRPC side of the webhooks.
#[derive(Clone)]
pub(crate) struct Grpc {
    webhooks: Webhooks,
    providers: Registry,
    work: WorkClient,
}

impl Grpc {
    /// Answers with `webhooks`, and asks `providers` about the models that `work` knows.
    #[must_use]
    pub(crate) fn new(webhooks: Webhooks, providers: Registry, work: WorkClient) -> Self {
        Self { webhooks, providers, work }
    }

    fn parse_webhook(&self, request: ReceiveHookRequest) -> Result<Webhook, NotVerified> {
        let job = self.webhooks.job(&request.provider, &request.job)?;
        parse_webhook(job, request)
    }
}

#[tonic::async_trait]
impl HookService for Grpc {
    async fn receive_hook(
        &self,
        request: Request<ReceiveHookRequest>,
    ) -> Result<Response<ReceiveHookResponse>, Status> {
        let request = request.into_inner();
        let provider = request.provider.clone();
        let received = match self.parse_webhook(request) {
            Ok(webhook) => self.webhooks.receive(&provider, &webhook).await,
            Err(why) => Err(why.into()),
        };
        match received {
            Ok(hinted) => {
                events::webhook_accepted(hinted.awaited);
                if !hinted.traceparent.is_empty() {
                    // A link, not a parent: the provider's call began this trace, and knows nothing of the generation's.
                    telemetry::link(&Span::current(), &hinted.traceparent);
                }
                Ok(Response::new(ReceiveHookResponse {}))
            }
            Err(error) => {
                events::webhook_refused(&provider, &error);
                Err(Failure::from(error).into())
            }
        }
    }
}

#[tonic::async_trait]
impl ProviderService for Grpc {
    async fn check_models(&self, _: Request<CheckModelsRequest>) -> Result<Response<CheckModelsResponse>, Status> {
        let checks = checks::check_models(&self.providers, &self.work).await.map_err(Failure::from)?;
        checks.iter().for_each(events::model_checked);
        Ok(Response::new(CheckModelsResponse { checks: checks.into_iter().map(check_to_proto).collect() }))
    }
}

fn check_to_proto(check: ModelCheck) -> proto::work::v1::ModelCheck {
    use proto::work::v1::model_check;
    let finding = match check.finding {
        Finding::Served => model_check::Finding::Served,
        Finding::KeyMissing => model_check::Finding::KeyMissing,
        Finding::KeyRefused => model_check::Finding::KeyRefused,
        Finding::ModelUnknown => model_check::Finding::ModelUnknown,
        Finding::Unreachable => model_check::Finding::Unreachable,
    };
    proto::work::v1::ModelCheck {
        model: check.model,
        provider: check.provider,
        provider_key: check.key,
        finding: finding.into(),
        detail: check.detail,
        cost: check.cost.map(|cost| proto::work::v1::ModelCost {
            expected_micros: cost.expected_micros,
            cost_micros: cost.cost_micros,
            outputs: cost.outputs,
            drifted: cost.drifted,
        }),
    }
}

fn parse_webhook(job: Uuid, request: ReceiveHookRequest) -> Result<Webhook, NotVerified> {
    if request.body.len() > MAX_BODY {
        return Err(NotVerified("its body is too long"));
    }
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for header in request.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| NotVerified("a header has no name"))?;
        let value = HeaderValue::from_bytes(&header.value).map_err(|_| NotVerified("a header cannot be read"))?;
        headers.append(name, value);
    }
    // The clock of the day, since a signature's window is in that of its sender.
    Ok(Webhook { job, headers, body: request.body.into(), now: SystemTime::now() })
}
