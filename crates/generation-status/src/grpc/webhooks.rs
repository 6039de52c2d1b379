//! WebhookService.

use domain::id::{GenerationId, WebhookEndpointId};
use domain::name::DeliveryName;
use domain::page;
use proto::webhooks::v1 as api;
use proto::webhooks::v1::webhook_service_server::WebhookService;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::split;
use crate::error::Error;
use crate::fields::Fields;
use crate::webhooks::{Attempt, Change, Delivery, Draft, Endpoint, Secret, Webhooks, event_types, token};
use crate::wire::timestamp;

/// What page tokens of endpoints are for.
const ENDPOINTS: &str = "webhookEndpoints";
/// The most characters of a description.
const DESCRIPTION: usize = 200;
/// What an update may change.
const CHANGEABLE: [&str; 4] = ["url", "description", "event_types", "disabled"];

/// The service over its rules.
#[derive(Clone)]
pub(crate) struct WebhooksApi {
    pub(crate) webhooks: Webhooks,
}

#[tonic::async_trait]
impl WebhookService for WebhooksApi {
    async fn create_endpoint(
        &self,
        request: Request<api::CreateEndpointRequest>,
    ) -> Result<Response<api::Endpoint>, Status> {
        let (account, request) = split(request)?;
        let draft = self.draft(request)?;
        let (endpoint, secret) = self.webhooks.create(account, &draft).await?;
        Ok(Response::new(shown(endpoint, secret)))
    }

    async fn get_endpoint(&self, request: Request<api::GetEndpointRequest>) -> Result<Response<api::Endpoint>, Status> {
        let (account, request) = split(request)?;
        let endpoint = self.webhooks.get(account, named("name", &request.name)?).await?;
        Ok(Response::new(shown(endpoint, None)))
    }

    async fn list_endpoints(
        &self,
        request: Request<api::ListEndpointsRequest>,
    ) -> Result<Response<api::ListEndpointsResponse>, Status> {
        let (account, request) = split(request)?;
        let mut fields = Fields::default();
        let page = fields.page(account, ENDPOINTS, request.page_size, &request.page_token);
        let (endpoints, next) = self.webhooks.list(account, fields.done(page)?).await?;
        Ok(Response::new(api::ListEndpointsResponse {
            endpoints: endpoints.into_iter().map(|endpoint| shown(endpoint, None)).collect(),
            next_page_token: next.map(|cursor| page::token(account, ENDPOINTS, cursor)).unwrap_or_default(),
        }))
    }

    async fn update_endpoint(
        &self,
        request: Request<api::UpdateEndpointRequest>,
    ) -> Result<Response<api::Endpoint>, Status> {
        let (account, request) = split(request)?;
        let (id, change) = self.change(request)?;
        Ok(Response::new(shown(self.webhooks.update(account, id, &change).await?, None)))
    }

    async fn delete_endpoint(&self, request: Request<api::DeleteEndpointRequest>) -> Result<Response<()>, Status> {
        let (account, request) = split(request)?;
        self.webhooks.delete(account, named("name", &request.name)?).await?;
        Ok(Response::new(()))
    }

    async fn rotate_secret(
        &self,
        request: Request<api::RotateSecretRequest>,
    ) -> Result<Response<api::Endpoint>, Status> {
        let (account, request) = split(request)?;
        let id = named("name", &request.name)?;
        let (endpoint, secret) = self.webhooks.rotate(account, id, request.expire_previous).await?;
        Ok(Response::new(shown(endpoint, Some(secret))))
    }

    async fn test_endpoint(
        &self,
        request: Request<api::TestEndpointRequest>,
    ) -> Result<Response<api::Delivery>, Status> {
        let (account, request) = split(request)?;
        let delivery = self.webhooks.test(account, named("name", &request.name)?).await?;
        Ok(Response::new(logged(delivery)))
    }

    async fn list_deliveries(
        &self,
        request: Request<api::ListDeliveriesRequest>,
    ) -> Result<Response<api::ListDeliveriesResponse>, Status> {
        let (account, request) = split(request)?;
        let mut fields = Fields::default();
        let id = fields.take("parent", WebhookEndpointId::from_name(&request.parent));
        let listing = format!("{}/deliveries", request.parent);
        let page = fields.page(account, &listing, request.page_size, &request.page_token);
        let (id, page) = fields.done(id.zip(page))?;
        let (deliveries, next) = self.webhooks.deliveries(account, id, page).await?;
        Ok(Response::new(api::ListDeliveriesResponse {
            deliveries: deliveries.into_iter().map(logged).collect(),
            next_page_token: next.map(|cursor| page::token(account, &listing, cursor)).unwrap_or_default(),
        }))
    }

    async fn redeliver_delivery(
        &self,
        request: Request<api::RedeliverDeliveryRequest>,
    ) -> Result<Response<api::Delivery>, Status> {
        let (account, request) = split(request)?;
        let mut fields = Fields::default();
        let name = fields.take("name", DeliveryName::parse(&request.name));
        let delivery = self.webhooks.redeliver(account, fields.done(name)?).await?;
        Ok(Response::new(logged(delivery)))
    }
}

impl WebhooksApi {
    fn draft(&self, request: api::CreateEndpointRequest) -> Result<Draft, Error> {
        let api::Endpoint { url, description, event_types, .. } = request.endpoint.unwrap_or_default();
        let mut fields = Fields::default();
        let id = match request.request_id.as_str() {
            "" => Some(Uuid::nil()),
            id => fields.request_id(id),
        };
        let url = fields.take("endpoint.url", self.webhooks.check(&url));
        let written = url.zip(line(&mut fields, &description)).zip(events(&mut fields, &event_types));
        let (((url, description), event_types), id) = fields.done(written.zip(id))?;
        let mut digest = Sha256::new();
        for part in [&url, &description].into_iter().chain(&event_types) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let request = (!id.is_nil()).then(|| (id, digest.finalize().into()));
        Ok(Draft { url, description, event_types, request })
    }

    fn change(&self, request: api::UpdateEndpointRequest) -> Result<(WebhookEndpointId, Change), Error> {
        let endpoint = request.endpoint.unwrap_or_default();
        let mut fields = Fields::default();
        let id = fields.take("endpoint.name", WebhookEndpointId::from_name(&endpoint.name));
        let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        for (at, path) in paths.iter().enumerate() {
            if !CHANGEABLE.contains(&path.as_str()) {
                let should = format_args!("must be one of {}", CHANGEABLE.join(", ")).to_string();
                fields.wrong(format!("update_mask.paths[{at}]"), should);
            }
        }
        let named = |field: &str| paths.is_empty() || paths.iter().any(|path| path == field);
        let mut change = Change { seen: seen(&endpoint.etag), ..Change::default() };
        if named("url") {
            change.url = fields.take("endpoint.url", self.webhooks.check(&endpoint.url));
        }
        if named("description") {
            change.description = line(&mut fields, &endpoint.description);
        }
        if named("event_types") {
            change.event_types = events(&mut fields, &endpoint.event_types);
        }
        change.disabled = named("disabled").then_some(endpoint.disabled);
        Ok((fields.done(id)?, change))
    }
}

fn named(field: &str, name: &str) -> Result<WebhookEndpointId, Error> {
    let mut fields = Fields::default();
    let id = fields.take(field, WebhookEndpointId::from_name(name));
    fields.done(id)
}

fn line(fields: &mut Fields, description: &str) -> Option<String> {
    if description.chars().count() > DESCRIPTION || description.chars().any(char::is_control) {
        fields.wrong("endpoint.description", format_args!("must be one line of at most {DESCRIPTION} characters"));
        return None;
    }
    Some(description.to_owned())
}

fn events(fields: &mut Fields, asked: &[String]) -> Option<Vec<String>> {
    let known = event_types(asked);
    if known.is_none() {
        fields.wrong("endpoint.event_types", "must be generation. and the name of a state, as generation.completed");
    }
    known
}

/// The version of an etag; no version for what is none, and nothing when any will do.
fn seen(etag: &str) -> Option<i64> {
    let version = |etag: &str| etag.strip_prefix('v').and_then(|digits| digits.parse().ok());
    (!etag.is_empty()).then(|| version(etag).unwrap_or(i64::MIN))
}

fn shown(endpoint: Endpoint, secret: Option<Secret>) -> api::Endpoint {
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
        secret: secret.map(token).unwrap_or_default(),
        previous_secret_expire_time: endpoint.previous_until.map(timestamp),
        create_time: Some(timestamp(endpoint.create_time)),
        update_time: Some(timestamp(endpoint.update_time)),
    }
}

fn logged(delivery: Delivery) -> api::Delivery {
    let (generation, version) = delivery.generation.unzip();
    api::Delivery {
        name: delivery.name.to_string(),
        event_type: delivery.event_type,
        generation: generation.map(GenerationId::name).unwrap_or_default(),
        generation_version: version.unwrap_or_default(),
        state: delivery.state.into(),
        attempt_count: delivery.attempt_count,
        next_attempt_time: delivery.next_attempt_time.map(timestamp),
        attempts: delivery.attempts.into_iter().map(attempt).collect(),
        create_time: Some(timestamp(delivery.create_time)),
        end_time: delivery.end_time.map(timestamp),
    }
}

fn attempt(attempt: Attempt) -> api::Attempt {
    api::Attempt {
        number: attempt.number,
        time: Some(timestamp(attempt.time)),
        http_status: attempt.http_status,
        latency: prost_types::Duration::try_from(attempt.latency).ok(),
        reason: attempt.reason,
        response_excerpt: attempt.excerpt,
    }
}
