//! Providers' webhooks: verified by their address and by their provider's own rules over the raw body, then only a hint that it is
//! time to poll.
//!
//! Invariants: nothing that a webhook says is believed but that there may be news; which order it is about is believed only once the
//! provider, asked by our own key, knows that order, where it would settle a submission of which nothing is known; and nothing of a
//! webhook that cannot be verified goes any further.

use std::time::Duration;

use serde_json::Map;
use tokio::time::timeout;
use uuid::Uuid;

use crate::clients::WorkClient;
use crate::error::Error;
use crate::hook_addresses::HookAddresses;
use crate::model::{CallOutcome, Confirmation, Hinted, NotVerified, Order, Reference, Webhook};
use crate::order_keys::OrderKeys;
use crate::providers::Registry;

/// How long the provider may take to say whether it knows an order: the webhook's sender waits meanwhile.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(3);

/// Verifies webhooks and passes hints on; clones share everything.
#[derive(Clone)]
pub(crate) struct Webhooks {
    providers: Registry,
    work: WorkClient,
    addresses: Option<HookAddresses>,
}

impl Webhooks {
    /// Verifies by `addresses` and by the rules of `providers`, and passes hints on to `work`.
    #[must_use]
    pub(crate) fn new(providers: Registry, work: WorkClient, addresses: Option<HookAddresses>) -> Self {
        Self { providers, work, addresses }
    }

    /// The job of an address, by what follows the provider's name in it.
    ///
    /// # Errors
    /// [`NotVerified`] where it is none that was given to `provider`.
    pub(crate) fn job(&self, provider: &str, path: &str) -> Result<Uuid, NotVerified> {
        let addresses = self.addresses.as_ref().ok_or(NotVerified("no webhooks are asked for here"))?;
        addresses.job(provider, path).ok_or(NotVerified("its address was given to nobody"))
    }

    /// Takes a webhook that claims to be from `provider`.
    ///
    /// # Errors
    /// [`Error::NotVerified`]; or [`Error::Unavailable`], after which the provider sends it again.
    pub(crate) async fn receive(&self, provider: &str, webhook: &Webhook) -> Result<Hinted, Error> {
        let verifier = self.providers.named(provider).ok_or(NotVerified("no such provider here"))?;
        let event = verifier.verify(webhook)?;
        let hint =
            |confirmation| self.work.hint(provider, webhook.job, &event.id, event.reference.as_deref(), confirmation);
        let hinted = hint(Confirmation::NotAsked).await?;
        let Hinted { confirm_at_model: Some(model), key, .. } = &hinted else { return Ok(hinted) };
        let Some(reference) = &event.reference else { return Ok(hinted) };
        let keys = OrderKeys::find(&self.providers, provider, key).ok_or(NotVerified("no such provider here"))?;
        confirm(&keys, order_at(provider, model, webhook.job), reference).await?;
        hint(Confirmation::Confirmed).await
    }
}

/// Asks the provider whether it knows an order of ours under this reference.
async fn confirm(keys: &OrderKeys, order: Order, reference: &str) -> Result<(), Error> {
    let reference = Reference(reference.to_owned());
    let unknown = |message: String| Error::Unavailable { service: "the provider", code: "poll".to_owned(), message };
    let answer = timeout(CONFIRM_TIMEOUT, keys.poll(&order, &reference)).await.map(|(_, answer)| answer);
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(trouble)) if trouble.outcome.shows_order() => Ok(()),
        Ok(Err(trouble)) if trouble.outcome == CallOutcome::NotFound => {
            Err(NotVerified("its provider does not know the order that it names").into())
        }
        Ok(Err(trouble)) => Err(unknown(trouble.to_string())),
        Err(_) => Err(unknown("it does not say whether it knows the order".to_owned())),
    }
}

/// As much of an order as a poll reads.
fn order_at(provider: &str, model: &str, job: Uuid) -> Order {
    Order {
        key: job,
        provider: provider.to_owned(),
        model: model.to_owned(),
        input: Map::new(),
        files: Vec::new(),
        output: None,
        refusals: Vec::new(),
        moderation: Vec::new(),
        unasked: Vec::new(),
        output_kinds: Vec::new(),
        max_outputs: 1,
        max_run_time: None,
    }
}
