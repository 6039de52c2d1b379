//! `rushes webhooks …`: where an account's events are sent, and what became of them.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Subcommand;
use proto::webhooks::v1::webhook_service_client::WebhookServiceClient;
use proto::webhooks::v1::{
    CreateEndpointRequest, DeleteEndpointRequest, Delivery, Endpoint, ListDeliveriesRequest, ListEndpointsRequest,
    RedeliverDeliveryRequest, RotateSecretRequest, TestEndpointRequest, UpdateEndpointRequest, delivery,
};
use uuid::Uuid;

use crate::client::projects::deleted;
use crate::client::session::Session;
use crate::failure::Exit;
use crate::show;

const ENDPOINT: &str = "rushes.webhooks.v1.Endpoint";
const DELIVERY: &str = "rushes.webhooks.v1.Delivery";

/// What can be done with webhooks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create an endpoint; its secret is shown this once.
    Create {
        /// Where events are sent.
        url: String,
        /// generation.completed and the like; may be given several times. Without any, the four that end a generation.
        #[arg(long = "event", value_name = "TYPE")]
        event_types: Vec<String>,
        /// At most 200 characters.
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
    /// List endpoints, newest first.
    List {
        /// How many, at most 100.
        #[arg(long, default_value_t = 20)]
        page_size: i32,
        /// Where the page before ended.
        #[arg(long, default_value = "")]
        page_token: String,
    },
    /// Send a test to an endpoint.
    Test {
        /// webhookEndpoints/….
        name: String,
    },
    /// List what was sent to an endpoint, newest first, and why it was not taken.
    Deliveries {
        /// webhookEndpoints/….
        name: String,
        /// How many, at most 100.
        #[arg(long, default_value_t = 20)]
        page_size: i32,
        /// Where the page before ended.
        #[arg(long, default_value = "")]
        page_token: String,
    },
    /// Send an event again.
    Redeliver {
        /// webhookEndpoints/…/deliveries/….
        name: String,
    },
    /// Give an endpoint a new secret and show it; the old one signs beside it for a day.
    Rotate {
        /// webhookEndpoints/….
        name: String,
        /// Stop signing with the old one at once.
        #[arg(long)]
        expire_previous: bool,
    },
    /// Send to an endpoint again that is disabled.
    Enable {
        /// webhookEndpoints/….
        name: String,
    },
    /// Send nothing to an endpoint.
    Disable {
        /// webhookEndpoints/….
        name: String,
    },
    /// Delete an endpoint; what was to be sent to it fails.
    Delete {
        /// webhookEndpoints/….
        name: String,
    },
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let mut client = WebhookServiceClient::new(session.gateway()?);
        let failed = |status: tonic::Status| session.failed(&status);
        match self {
            Self::Create { url, event_types, description } => {
                let endpoint = Endpoint { url, event_types, description, ..Endpoint::default() };
                let request_id = Uuid::now_v7().to_string();
                let request = session.request(CreateEndpointRequest { endpoint: Some(endpoint), request_id })?;
                let made = client.create_endpoint(request).await.map_err(failed)?;
                session.show(ENDPOINT, made.get_ref(), text)
            }
            Self::List { page_size, page_token } => {
                let request = session.request(ListEndpointsRequest { page_size, page_token })?;
                let page = client.list_endpoints(request).await.map_err(failed)?;
                session.show("rushes.webhooks.v1.ListEndpointsResponse", page.get_ref(), |page| {
                    let lines = page.endpoints.iter().map(text);
                    lines.chain([more("list", &page.next_page_token)]).collect()
                })
            }
            Self::Test { name } => {
                let request = session.request(TestEndpointRequest { name })?;
                let sent = client.test_endpoint(request).await.map_err(failed)?;
                session.show(DELIVERY, sent.get_ref(), delivery_text)
            }
            Self::Deliveries { name, page_size, page_token } => {
                let request = session.request(ListDeliveriesRequest { parent: name.clone(), page_size, page_token })?;
                let page = client.list_deliveries(request).await.map_err(failed)?;
                session.show("rushes.webhooks.v1.ListDeliveriesResponse", page.get_ref(), |page| {
                    let lines = page.deliveries.iter().map(delivery_text);
                    lines.chain([more(&format!("deliveries {name}"), &page.next_page_token)]).collect()
                })
            }
            Self::Redeliver { name } => {
                let request = session.request(RedeliverDeliveryRequest { name })?;
                let sent = client.redeliver_delivery(request).await.map_err(failed)?;
                session.show(DELIVERY, sent.get_ref(), delivery_text)
            }
            Self::Rotate { name, expire_previous } => {
                let request = session.request(RotateSecretRequest { name, expire_previous })?;
                let rotated = client.rotate_secret(request).await.map_err(failed)?;
                session.show(ENDPOINT, rotated.get_ref(), text)
            }
            Self::Enable { name } => set_disabled(session, name, false).await,
            Self::Disable { name } => set_disabled(session, name, true).await,
            Self::Delete { name } => {
                let request = session.request(DeleteEndpointRequest { name: name.clone() })?;
                client.delete_endpoint(request).await.map_err(failed)?;
                deleted(session, &name)
            }
        }
    }
}

async fn set_disabled(session: &Session, name: String, disabled: bool) -> Result<Exit> {
    let request = UpdateEndpointRequest {
        endpoint: Some(Endpoint { name, disabled, ..Endpoint::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["disabled".to_owned()] }),
    };
    let mut client = WebhookServiceClient::new(session.gateway()?);
    let changed = client.update_endpoint(session.request(request)?).await.map_err(|status| session.failed(&status))?;
    session.show(ENDPOINT, changed.get_ref(), text)
}

/// How to list what follows.
fn more(command: &str, token: &str) -> String {
    if token.is_empty() { String::new() } else { format!("more: rushes webhooks {command} --page-token {token}\n") }
}

fn text(endpoint: &Endpoint) -> String {
    let Endpoint { name, url, event_types, disabled, disable_reason, secret, .. } = endpoint;
    let mut out = format!("{name}  {url}  {}", event_types.join(", "));
    if *disabled {
        let _ = write!(out, "  DISABLED: {disable_reason}");
    }
    out.push('\n');
    if !secret.is_empty() {
        let _ = writeln!(out, "  secret   {secret}  (shown this once)");
    }
    out
}

fn delivery_text(delivery: &Delivery) -> String {
    let Delivery { name, event_type, generation, attempt_count, attempts, .. } = delivery;
    let state = delivery::State::as_str_name(&delivery.state());
    let mut out = format!("{state:<9} {event_type:<22} {name}  {generation}\n");
    if let Some(last) = attempts.first() {
        let answer = match (last.http_status, last.reason.as_str()) {
            (0, reason) => reason.to_owned(),
            (status, _) => format!("{status} {}", show::short(&last.response_excerpt, 80)),
        };
        let _ = writeln!(out, "  {attempt_count} attempts, the last: {}", answer.trim_end());
    }
    out
}
