//! Webhooks to users: endpoints, and what is delivered to them.
//!
//! Invariants: an endpoint is seen only by its account; a secret is told when it is made and never again; and what an account
//! wants told is committed with the change that it tells of (by trigger), so that sending it is only ever late.

mod message;
mod sender;

use std::fmt;
use std::time::Duration;

use chassis::egress::{Egress, Reach};
use domain::generation::State;
use domain::id::{AccountId, GenerationId, WebhookDeliveryId, WebhookEndpointId};
use domain::name::DeliveryName;
use domain::page::Cursor;
use jobs::Notifier;
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use crate::error::{Error, Noun};
use crate::fields::Page;
use crate::store::Store;

pub(crate) use message::{Messages, token};
pub(crate) use sender::{ATTEMPTS, Outcome, Parcel, Sender, Settled};

/// The kind of the jobs that deliver.
pub(crate) const KIND: &str = "webhook";
/// How many endpoints an account may have.
pub(crate) const ENDPOINTS: i64 = 20;
/// The event that a test sends.
pub(crate) const TEST: &str = "webhook.test";
/// How long a secret signs beside the one that took its place.
pub(crate) const ROTATION: Duration = Duration::from_secs(24 * 60 * 60);
/// An endpoint without a success for this long is disabled when it fails again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How long deliveries that are over are kept.
pub(crate) const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How webhooks are sent.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What endpoints may be: addresses of the public internet, or any, for local stacks and tests.
    pub reach: Reach,
    /// How long an endpoint may take to answer; under the half minute that a delivery's lease lasts.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reach: Reach::Public, timeout: Duration::from_secs(15) }
    }
}

/// What a webhook is signed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An endpoint as stored, without its secrets.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: WebhookEndpointId,
    pub(crate) url: String,
    pub(crate) description: String,
    pub(crate) event_types: Vec<String>,
    /// Nothing while it is enabled.
    pub(crate) disabled: Option<(String, OffsetDateTime)>,
    pub(crate) failing_since: Option<OffsetDateTime>,
    pub(crate) previous_until: Option<OffsetDateTime>,
    pub(crate) version: i64,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) update_time: OffsetDateTime,
}

/// What a user writes of a new endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) url: String,
    pub(crate) description: String,
    pub(crate) event_types: Vec<String>,
    /// The client's id of the request, and the hash of its body.
    pub(crate) request: Option<(Uuid, [u8; 32])>,
}

/// What a user changes of an endpoint; nothing where it stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) url: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) event_types: Option<Vec<String>>,
    pub(crate) disabled: Option<bool>,
    /// The version that the caller has seen; nothing: any.
    pub(crate) seen: Option<i64>,
}

/// One event for one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) name: DeliveryName,
    pub(crate) event_type: String,
    /// The generation and the version that it tells of; nothing for a test.
    pub(crate) generation: Option<(GenerationId, i64)>,
    /// The number of `rushes.webhooks.v1.Delivery.State`.
    pub(crate) state: i16,
    pub(crate) attempt_count: i32,
    pub(crate) next_attempt_time: Option<OffsetDateTime>,
    /// Newest first.
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) end_time: Option<OffsetDateTime>,
}

/// One line of a delivery's log.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) number: i32,
    pub(crate) time: OffsetDateTime,
    pub(crate) http_status: i32,
    pub(crate) latency: Duration,
    pub(crate) reason: String,
    pub(crate) excerpt: String,
}

/// What users can do with endpoints; cheap to clone.
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

    /// Why an address cannot be an endpoint's.
    pub(crate) fn check(&self, url: &str) -> Result<String, String> {
        let url = Url::parse(url).map_err(|_| "must be a URL such as https://example.com/hooks".to_owned())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user's name or password, which listings would show".to_owned());
        }
        self.egress.check(&url).map_err(|refused| refused.to_string())?;
        let text = String::from(url);
        if text.chars().count() > 2_000 { Err("must have at most 2000 characters".to_owned()) } else { Ok(text) }
    }

    /// Creates an endpoint with its secret, or finds the one that the same request made before, without.
    pub(crate) async fn create(&self, account: AccountId, draft: &Draft) -> Result<(Endpoint, Option<Secret>), Error> {
        let secret = message::secret()?;
        let made = self.store.create_endpoint(account, draft, secret).await?;
        let secret = made.fresh.then_some(secret);
        if secret.is_some() || draft.request.map(|(_, sha256)| sha256.to_vec()) == made.sha256 {
            Ok((made.endpoint, secret))
        } else {
            Err(Error::RequestIdReused)
        }
    }

    pub(crate) async fn get(&self, account: AccountId, id: WebhookEndpointId) -> Result<Endpoint, Error> {
        self.store.endpoint(account, id).await?.ok_or(Error::Missing(Noun::WebhookEndpoint))
    }

    /// A page of endpoints from new to old, and where the next one begins.
    pub(crate) async fn list(&self, account: AccountId, page: Page) -> Result<(Vec<Endpoint>, Option<Cursor>), Error> {
        let before = page.after.map(|cursor| cursor.id);
        let mut endpoints = self.store.endpoints(account, before, page.size + 1).await?;
        let next = page.cut(&mut endpoints, |endpoint| endpoint.id.0);
        Ok((endpoints, next))
    }

    pub(crate) async fn update(
        &self,
        account: AccountId,
        id: WebhookEndpointId,
        change: &Change,
    ) -> Result<Endpoint, Error> {
        if let Some(endpoint) = self.store.update_endpoint(account, id, change).await? {
            return Ok(endpoint);
        }
        // Either there is none, or it is another version than the caller has seen.
        self.get(account, id).await?;
        Err(Error::EtagMismatch)
    }

    pub(crate) async fn delete(&self, account: AccountId, id: WebhookEndpointId) -> Result<(), Error> {
        let deleted = self.store.delete_endpoint(account, id).await?;
        if deleted { Ok(()) } else { Err(Error::Missing(Noun::WebhookEndpoint)) }
    }

    /// Gives an endpoint a new secret.
    pub(crate) async fn rotate(
        &self,
        account: AccountId,
        id: WebhookEndpointId,
        expire_previous: bool,
    ) -> Result<(Endpoint, Secret), Error> {
        let secret = message::secret()?;
        let kept = if expire_previous { Duration::ZERO } else { ROTATION };
        let rotated = self.store.rotate_secret(account, id, secret, kept).await?;
        Ok((rotated.ok_or(Error::Missing(Noun::WebhookEndpoint))?, secret))
    }

    /// Puts a test on its way.
    pub(crate) async fn test(&self, account: AccountId, id: WebhookEndpointId) -> Result<Delivery, Error> {
        self.enabled(account, id).await?;
        let tested = self.store.create_test(account, id).await?;
        self.notifier.notify().await;
        self.delivery(account, DeliveryName { endpoint: id, delivery: tested.ok_or(Error::EndpointDisabled)? }).await
    }

    /// A page of deliveries from new to old, and where the next one begins.
    pub(crate) async fn deliveries(
        &self,
        account: AccountId,
        id: WebhookEndpointId,
        page: Page,
    ) -> Result<(Vec<Delivery>, Option<Cursor>), Error> {
        self.get(account, id).await?;
        let before = page.after.map(|cursor| WebhookDeliveryId(cursor.id));
        let mut deliveries = self.store.deliveries(account, id, before, page.size + 1).await?;
        let next = page.cut(&mut deliveries, |delivery| delivery.name.delivery.0);
        Ok((deliveries, next))
    }

    /// Sends an event again.
    pub(crate) async fn redeliver(&self, account: AccountId, name: DeliveryName) -> Result<Delivery, Error> {
        self.enabled(account, name.endpoint).await?;
        self.store.redeliver(account, name).await?;
        self.notifier.notify().await;
        self.delivery(account, name).await
    }

    async fn enabled(&self, account: AccountId, id: WebhookEndpointId) -> Result<(), Error> {
        let endpoint = self.get(account, id).await?;
        if endpoint.disabled.is_some() { Err(Error::EndpointDisabled) } else { Ok(()) }
    }

    async fn delivery(&self, account: AccountId, name: DeliveryName) -> Result<Delivery, Error> {
        self.store.delivery(account, name).await?.ok_or(Error::Missing(Noun::WebhookDelivery))
    }
}

/// The event of a state, as the trigger on `generations` has it.
pub(crate) fn event_type(state: State) -> String {
    format!("generation.{}", state.as_str().to_ascii_lowercase())
}

/// The events of these that there are, each once, in the order of the states; nothing when one is unknown. None means those
/// that end a generation.
pub(crate) fn event_types(asked: &[String]) -> Option<Vec<String>> {
    let known = State::ALL.map(|state| (state, event_type(state)));
    if !asked.iter().all(|asked| known.iter().any(|(_, event)| event == asked)) {
        return None;
    }
    let wanted =
        |state: State, event: &String| if asked.is_empty() { state.is_terminal() } else { asked.contains(event) };
    Some(known.into_iter().filter(|(state, event)| wanted(*state, event)).map(|(_, event)| event).collect())
}
