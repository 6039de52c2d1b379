//! Providers' webhooks: verified by their provider's own rules over the raw body, then only a hint that it is time to poll.
//!
//! Invariant: nothing that a webhook says is believed but that there may be news, and which order it is about; and nothing of
//! one that cannot be verified goes any further.

use crate::clients::WorkClient;
use crate::error::Error;
use crate::model::{Hinted, NotVerified, Webhook};
use crate::providers::Registry;

/// Verifies webhooks and passes hints on; clones share everything.
#[derive(Clone)]
pub(crate) struct Webhooks {
    providers: Registry,
    work: WorkClient,
}

impl Webhooks {
    /// Verifies by the rules of `providers`, and passes hints on to `work`.
    #[must_use]
    pub(crate) fn new(providers: Registry, work: WorkClient) -> Self {
        Self { providers, work }
    }

    /// Takes a webhook that claims to be from `provider`.
    ///
    /// # Errors
    /// [`Error::NotVerified`]; or [`Error::Unavailable`], after which the provider sends it again.
    pub(crate) async fn receive(&self, provider: &str, webhook: &Webhook) -> Result<Hinted, Error> {
        let verifier = self.providers.named(provider).ok_or(NotVerified("no such provider here"))?;
        let event = verifier.verify(webhook)?;
        self.work.hint(provider, webhook.job, &event.id, event.reference.as_deref()).await
    }
}
