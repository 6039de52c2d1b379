//! The rules of webhooks to users: endpoints, their secrets, and the log of deliveries.
//!
//! Invariants: an endpoint is seen only by its account; a secret is shown when it is made and never again; and a trigger commits
//! each delivery with the change that it reports, so that a delivery may be late and is never lost.

mod attempt;
mod message;
mod secrets;
mod sender;
mod slots;

use std::time::Duration;

use chassis::egress::Egress;
use domain::id::{AccountId, WebhookDeliveryId, WebhookEndpointId};
use domain::name::DeliveryName;
use domain::page::{Cursor, Page};
use jobs::Notifier;
use url::Url;

use crate::error::{Error, Noun};
use crate::model::{Delivery, Endpoint, EndpointChange, MAX_TESTS, NewEndpoint, Secret, TEST_WINDOW};
use crate::pages::{MAX_PAGE_BYTES, fitting};
use crate::store::Store;

pub(crate) use message::{EventEncoder, encode_secret};
pub(crate) use secrets::reseal;
pub(crate) use sender::Sender;

/// How long a secret signs beside the one that replaced it.
const ROTATION_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_URL_CHARACTERS: usize = 2_000;

/// Manages endpoints and reads deliveries; cheap to clone.
#[derive(Clone)]
pub(crate) struct Webhooks {
    store: Store,
    egress: Egress,
    notifier: Notifier,
}

impl Webhooks {
    pub(crate) fn new(store: Store, egress: Egress, notifier: Notifier) -> Self {
        Self { store, egress, notifier }
    }

    /// The normalized URL of an endpoint, or why it cannot be one.
    pub(crate) fn check_url(&self, url: &str) -> Result<String, String> {
        let url = Url::parse(url).map_err(|_| "must be a URL such as https://example.com/hooks".to_owned())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user's name or password, which listings would show".to_owned());
        }
        self.egress.check(&url).map_err(|refused| refused.to_string())?;
        let text = String::from(url);
        if text.chars().count() > MAX_URL_CHARACTERS {
            return Err(format!("must have at most {MAX_URL_CHARACTERS} characters"));
        }
        Ok(text)
    }

    /// Creates an endpoint and returns its secret; a repeated request id finds the first endpoint and returns no secret.
    pub(crate) async fn create(
        &self,
        account: AccountId,
        new: &NewEndpoint,
    ) -> Result<(Endpoint, Option<Secret>), Error> {
        let secret = message::generate_secret()?;
        let created = self.store.create_endpoint(account, new, secret).await?;
        let secret = created.fresh.then_some(secret);
        if secret.is_some() || new.request.map(|(_, sha256)| sha256.to_vec()) == created.request_sha256 {
            Ok((created.endpoint, secret))
        } else {
            Err(Error::RequestIdReused)
        }
    }

    pub(crate) async fn get(&self, account: AccountId, id: WebhookEndpointId) -> Result<Endpoint, Error> {
        self.store.endpoint(account, id).await?.ok_or(Error::NotFound(Noun::WebhookEndpoint))
    }

    /// A page of endpoints, newest first, and the cursor of the next.
    pub(crate) async fn list(&self, account: AccountId, page: Page) -> Result<(Vec<Endpoint>, Option<Cursor>), Error> {
        let before = page.after.map(|cursor| cursor.id);
        let mut endpoints = self.store.endpoints(account, before, page.rows()).await?;
        let next = page.cut(&mut endpoints, |endpoint| Cursor { position: 0, id: endpoint.id.0 });
        Ok((endpoints, next))
    }

    pub(crate) async fn update(
        &self,
        account: AccountId,
        id: WebhookEndpointId,
        change: &EndpointChange,
    ) -> Result<Endpoint, Error> {
        if let Some(endpoint) = self.store.update_endpoint(account, id, change).await? {
            return Ok(endpoint);
        }
        // Nothing matched: either there is no endpoint, or its version is not the expected one.
        self.get(account, id).await?;
        Err(Error::EtagMismatch)
    }

    pub(crate) async fn delete(&self, account: AccountId, id: WebhookEndpointId) -> Result<(), Error> {
        let deleted = self.store.delete_endpoint(account, id).await?;
        if deleted { Ok(()) } else { Err(Error::NotFound(Noun::WebhookEndpoint)) }
    }

    /// Gives an endpoint a new secret.
    pub(crate) async fn rotate(
        &self,
        account: AccountId,
        id: WebhookEndpointId,
        expire_previous: bool,
    ) -> Result<(Endpoint, Secret), Error> {
        let secret = message::generate_secret()?;
        let overlap = if expire_previous { Duration::ZERO } else { ROTATION_OVERLAP };
        let rotated = self.store.rotate_secret(account, id, secret, overlap).await?;
        Ok((rotated.ok_or(Error::NotFound(Noun::WebhookEndpoint))?, secret))
    }

    /// Queues a test event; an endpoint gets a few a minute, since they go through the same queue as all else.
    pub(crate) async fn test(&self, account: AccountId, id: WebhookEndpointId) -> Result<Delivery, Error> {
        self.require_enabled(account, id).await?;
        let delivery = self.store.create_test_delivery(account, id, (MAX_TESTS, TEST_WINDOW)).await?;
        self.notifier.notify().await;
        self.delivery(account, DeliveryName { endpoint: id, delivery: delivery.ok_or(Error::EndpointDisabled)? }).await
    }

    /// A page of deliveries, newest first, and the cursor of the next.
    pub(crate) async fn deliveries(
        &self,
        account: AccountId,
        id: WebhookEndpointId,
        page: Page,
    ) -> Result<(Vec<Delivery>, Option<Cursor>), Error> {
        self.get(account, id).await?;
        let before = page.after.map(|cursor| WebhookDeliveryId(cursor.id));
        let mut deliveries = self.store.deliveries(account, id, before, page.rows()).await?;
        // What receivers answered is in them, and long answers make a page shorter.
        let fits = fitting(deliveries.iter().map(Delivery::max_bytes), MAX_PAGE_BYTES);
        let page = Page { size: page.size.min(u32::try_from(fits).unwrap_or(u32::MAX)).max(1), ..page };
        let next = page.cut(&mut deliveries, |delivery| Cursor { position: 0, id: delivery.name.delivery.0 });
        Ok((deliveries, next))
    }

    /// Has an event sent now, with all its attempts.
    pub(crate) async fn redeliver(&self, account: AccountId, name: DeliveryName) -> Result<Delivery, Error> {
        self.require_enabled(account, name.endpoint).await?;
        self.store.redeliver(account, name).await?;
        self.notifier.notify().await;
        self.delivery(account, name).await
    }

    async fn require_enabled(&self, account: AccountId, id: WebhookEndpointId) -> Result<(), Error> {
        let endpoint = self.get(account, id).await?;
        if endpoint.disabled.is_some() { Err(Error::EndpointDisabled) } else { Ok(()) }
    }

    async fn delivery(&self, account: AccountId, name: DeliveryName) -> Result<Delivery, Error> {
        self.store.delivery(account, name).await?.ok_or(Error::NotFound(Noun::WebhookDelivery))
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;
    use crate::model::Attempt;

    #[test]
    fn a_page_of_long_answers_is_shorter() {
        let time = OffsetDateTime::now_utc();
        let delivery = |excerpt: &str| Delivery {
            name: DeliveryName { endpoint: WebhookEndpointId(Uuid::max()), delivery: WebhookDeliveryId(Uuid::max()) },
            event_type: "generation.completed".to_owned(),
            generation: None,
            state: 1,
            attempt_count: i32::MAX,
            next_attempt_time: Some(time),
            attempts: vec![
                Attempt {
                    number: i32::MAX,
                    time,
                    http_status: 500,
                    latency: Duration::from_millis(1_234),
                    reason: String::new(),
                    excerpt: excerpt.repeat(1_024),
                };
                20
            ],
            create_time: time,
            end_time: Some(time),
        };
        let fitting = |delivery: Delivery| fitting(vec![delivery.max_bytes(); 101], MAX_PAGE_BYTES);
        assert_eq!(fitting(delivery("")), 101, "all of them");
        let long = fitting(delivery("🎬"));
        assert!((10..=12).contains(&long), "{long} of 84 kB each");
    }
}
