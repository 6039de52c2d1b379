//! The handlers of WebhookService.

use chassis::fields::Fields;
use chassis::text::is_one_line;
use domain::id::{GenerationId, WebhookEndpointId};
use domain::name::DeliveryName;
use proto::webhooks::v1 as api;
use proto::webhooks::v1::webhook_service_server::WebhookService;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use super::request::authenticated;
use crate::error::Error;
use domain::generation::State;

use crate::model::{Attempt, Delivery, Endpoint, EndpointChange, NewEndpoint, Secret, event_types};
use crate::pages::Pages;
use crate::presenter::timestamp;
use crate::webhooks::{Webhooks, encode_secret};

/// The listing that page tokens of endpoints belong to.
const ENDPOINTS: &str = "webhookEndpoints";
const MAX_DESCRIPTION_CHARACTERS: usize = 200;

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct WebhooksApi {
    pub(crate) webhooks: Webhooks,
    pub(crate) pages: Pages,
}

#[tonic::async_trait]
impl WebhookService for WebhooksApi {
    async fn create_endpoint(
        &self,
        request: Request<api::CreateEndpointRequest>,
    ) -> Result<Response<api::Endpoint>, Status> {
        let (account, request) = authenticated(request)?;
        let new = self.parse_create(request)?;
        let (endpoint, secret) = self.webhooks.create(account, &new).await?;
        Ok(Response::new(to_proto(endpoint, secret)))
    }

    async fn get_endpoint(&self, request: Request<api::GetEndpointRequest>) -> Result<Response<api::Endpoint>, Status> {
        let (account, request) = authenticated(request)?;
        let endpoint = self.webhooks.get(account, parse_name("name", &request.name)?).await?;
        Ok(Response::new(to_proto(endpoint, None)))
    }

    async fn list_endpoints(
        &self,
        request: Request<api::ListEndpointsRequest>,
    ) -> Result<Response<api::ListEndpointsResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let page = self.pages.parse(&mut fields, account, ENDPOINTS, request.page_size, &request.page_token);
        let (endpoints, next) = self.webhooks.list(account, fields.done(page)?).await?;
        Ok(Response::new(api::ListEndpointsResponse {
            endpoints: endpoints.into_iter().map(|endpoint| to_proto(endpoint, None)).collect(),
            next_page_token: self.pages.token(account, ENDPOINTS, next),
        }))
    }

    async fn update_endpoint(
        &self,
        request: Request<api::UpdateEndpointRequest>,
    ) -> Result<Response<api::Endpoint>, Status> {
        let (account, request) = authenticated(request)?;
        let (id, change) = self.parse_update(request)?;
        Ok(Response::new(to_proto(self.webhooks.update(account, id, &change).await?, None)))
    }

    async fn delete_endpoint(&self, request: Request<api::DeleteEndpointRequest>) -> Result<Response<()>, Status> {
        let (account, request) = authenticated(request)?;
        self.webhooks.delete(account, parse_name("name", &request.name)?).await?;
        Ok(Response::new(()))
    }

    async fn rotate_secret(
        &self,
        request: Request<api::RotateSecretRequest>,
    ) -> Result<Response<api::Endpoint>, Status> {
        let (account, request) = authenticated(request)?;
        let id = parse_name("name", &request.name)?;
        let (endpoint, secret) = self.webhooks.rotate(account, id, request.expire_previous).await?;
        Ok(Response::new(to_proto(endpoint, Some(secret))))
    }

    async fn test_endpoint(
        &self,
        request: Request<api::TestEndpointRequest>,
    ) -> Result<Response<api::Delivery>, Status> {
        let (account, request) = authenticated(request)?;
        let delivery = self.webhooks.test(account, parse_name("name", &request.name)?).await?;
        Ok(Response::new(delivery_to_proto(delivery)))
    }

    async fn list_deliveries(
        &self,
        request: Request<api::ListDeliveriesRequest>,
    ) -> Result<Response<api::ListDeliveriesResponse>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let id = fields.take("parent", WebhookEndpointId::from_name(&request.parent));
        let listing = format!("{}/deliveries", request.parent);
        let page = self.pages.parse(&mut fields, account, &listing, request.page_size, &request.page_token);
        let (id, page) = fields.done(id.zip(page))?;
        let (deliveries, next) = self.webhooks.deliveries(account, id, page).await?;
        Ok(Response::new(api::ListDeliveriesResponse {
            deliveries: deliveries.into_iter().map(delivery_to_proto).collect(),
            next_page_token: self.pages.token(account, &listing, next),
        }))
    }

    async fn redeliver_delivery(
        &self,
        request: Request<api::RedeliverDeliveryRequest>,
    ) -> Result<Response<api::Delivery>, Status> {
        let (account, request) = authenticated(request)?;
        let mut fields = Fields::default();
        let name = fields.take("name", DeliveryName::parse(&request.name));
        let delivery = self.webhooks.redeliver(account, fields.done(name)?).await?;
        Ok(Response::new(delivery_to_proto(delivery)))
    }
}

impl WebhooksApi {
    fn parse_create(&self, request: api::CreateEndpointRequest) -> Result<NewEndpoint, Error> {
        let api::Endpoint { url, description, event_types, .. } = request.endpoint.unwrap_or_default();
        let mut fields = Fields::default();
        let id = fields.request_id(&request.request_id);
        let url = fields.take("endpoint.url", self.webhooks.check_url(&url));
        let written =
            url.zip(parse_description(&mut fields, &description)).zip(parse_event_types(&mut fields, &event_types));
        let (((url, description), event_types), id) = fields.done(written.zip(id))?;
        let mut digest = Sha256::new();
        for part in [&url, &description].into_iter().chain(&event_types) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let request = id.map(|id| (id, digest.finalize().into()));
        Ok(NewEndpoint { url, description, event_types, request })
    }

    fn parse_update(&self, request: api::UpdateEndpointRequest) -> Result<(WebhookEndpointId, EndpointChange), Error> {
        let endpoint = request.endpoint.unwrap_or_default();
        let mut fields = Fields::default();
        let id = fields.take("endpoint.name", WebhookEndpointId::from_name(&endpoint.name));
        let mask = request.update_mask.map(|mask| mask.paths);
        // Without a mask an update changes the fields that are set (AIP-134), so a client that knows fewer fields keeps the rest.
        let populated = [
            ("url", !endpoint.url.is_empty()),
            ("description", !endpoint.description.is_empty()),
            ("event_types", !endpoint.event_types.is_empty()),
            ("disabled", endpoint.disabled),
        ];
        let mut change = EndpointChange { expected_version: parse_etag(&endpoint.etag), ..EndpointChange::default() };
        for path in fields.update_mask(mask.as_deref(), &populated) {
            match path {
                "url" => change.url = fields.take("endpoint.url", self.webhooks.check_url(&endpoint.url)),
                "description" => change.description = parse_description(&mut fields, &endpoint.description),
                "event_types" => change.event_types = parse_event_types(&mut fields, &endpoint.event_types),
                _ => change.disabled = Some(endpoint.disabled),
            }
        }
        Ok((fields.done(id)?, change))
    }
}

fn parse_name(field: &str, name: &str) -> Result<WebhookEndpointId, Error> {
    let mut fields = Fields::default();
    let id = fields.take(field, WebhookEndpointId::from_name(name));
    Ok(fields.done(id)?)
}

fn parse_description(fields: &mut Fields, description: &str) -> Option<String> {
    if description.chars().count() > MAX_DESCRIPTION_CHARACTERS || !is_one_line(description) {
        fields.wrong(
            "endpoint.description",
            format_args!("must be one line of at most {MAX_DESCRIPTION_CHARACTERS} characters"),
        );
        return None;
    }
    Some(description.to_owned())
}

fn parse_event_types(fields: &mut Fields, asked: &[String]) -> Option<Vec<String>> {
    let known = event_types(fields.bounded("endpoint.event_types", asked, State::ALL.len()));
    if known.is_none() {
        fields.wrong("endpoint.event_types", "must be generation. and the name of a state, as generation.completed");
    }
    known
}

/// The version of an etag; one that never matches for a malformed etag, and `None` for an empty one.
fn parse_etag(etag: &str) -> Option<i64> {
    let version = |etag: &str| etag.strip_prefix('v').and_then(|digits| digits.parse().ok());
    (!etag.is_empty()).then(|| version(etag).unwrap_or(i64::MIN))
}

fn to_proto(endpoint: Endpoint, secret: Option<Secret>) -> api::Endpoint {
    let disabled = endpoint.disabled.is_some();
    let (disable_reason, disable_time) = endpoint.disabled.unzip();
    api::Endpoint {
        name: endpoint.id.name(),
        etag: format!("v{}", endpoint.version),
        url: endpoint.url,
        description: endpoint.description,
        event_types: endpoint.event_types,
        disabled,
        disable_reason: disable_reason.unwrap_or_default(),
        disable_time: disable_time.map(timestamp),
        failing_since: endpoint.failing_since.map(timestamp),
        secret: secret.map(encode_secret).unwrap_or_default(),
        previous_secret_expire_time: endpoint.previous_until.map(timestamp),
        create_time: Some(timestamp(endpoint.create_time)),
        update_time: Some(timestamp(endpoint.update_time)),
    }
}

fn delivery_to_proto(delivery: Delivery) -> api::Delivery {
    let (generation, version) = delivery.generation.unzip();
    api::Delivery {
        name: delivery.name.to_string(),
        event_type: delivery.event_type,
        generation: generation.map(GenerationId::name).unwrap_or_default(),
        generation_version: version.unwrap_or_default(),
        state: delivery.state.into(),
        attempt_count: delivery.attempt_count,
        next_attempt_time: delivery.next_attempt_time.map(timestamp),
        attempts: delivery.attempts.into_iter().map(attempt_to_proto).collect(),
        create_time: Some(timestamp(delivery.create_time)),
        end_time: delivery.end_time.map(timestamp),
    }
}

fn attempt_to_proto(attempt: Attempt) -> api::Attempt {
    api::Attempt {
        number: attempt.number,
        time: Some(timestamp(attempt.time)),
        http_status: attempt.http_status,
        latency: prost_types::Duration::try_from(attempt.latency).ok(),
        reason: attempt.reason,
        response_excerpt: attempt.excerpt,
    }
}
