//! The public keys that a provider signs its webhooks with, fetched now and then.
//!
//! Invariant: keys are never older than a day while their source answers, as fal's documentation demands; while it does not, the
//! last ones stay, and it is asked no more than once a minute.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::api::{Api, Operation};
use crate::signatures;

/// How old keys may become.
const MAX_AGE: Duration = Duration::from_secs(24 * 3_600);
/// The shortest time between two tries.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Keys from one address.
#[derive(Debug)]
pub(super) struct KeySet {
    url: Url,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<Vec<u8>>,
    /// Not to be fetched before.
    next: Option<Instant>,
}

impl KeySet {
    pub(super) fn new(url: Url) -> Self {
        Self { url, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that are known now.
    pub(super) fn known(&self) -> Vec<Vec<u8>> {
        self.state().keys.clone()
    }

    /// Has the keys fetched soon: none of them fits a signature, so they may have been changed.
    pub(super) fn expire_soon(&self) {
        let soon = Instant::now() + RETRY_INTERVAL;
        let mut state = self.state();
        state.next = state.next.map(|next| next.min(soon));
    }

    /// Fetches the keys when it is time to.
    pub(super) async fn refresh(&self, api: &Api) {
        {
            let mut state = self.state();
            let now = Instant::now();
            if state.next.is_some_and(|next| now < next) {
                return;
            }
            // Set before the call, so that whoever comes meanwhile does not ask as well.
            state.next = Some(now + RETRY_INTERVAL);
        }
        match api.get_public(Operation::FetchKeys, self.url.clone()).await {
            Ok(answer) if answer.status.is_success() => {
                let keys = signatures::parse_key_set(&answer.json());
                if keys.is_empty() {
                    tracing::warn!(provider = api.provider(), "the provider's key set has no key that can be used");
                    return;
                }
                let mut state = self.state();
                state.keys = keys;
                state.next = Some(Instant::now() + MAX_AGE);
            }
            Ok(answer) => {
                let status = answer.status.as_u16();
                tracing::warn!(
                    provider = api.provider(),
                    http_status = status,
                    "the provider's keys cannot be fetched"
                );
            }
            Err(error) => tracing::warn!(provider = api.provider(), %error, "the provider's keys cannot be fetched"),
        }
    }
}
