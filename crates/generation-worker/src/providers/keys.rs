//! The public keys that a provider signs its webhooks with, fetched now and then.
//!
//! Invariant: keys are never older than a day while their source answers, as fal's documentation demands; while it does not, the
//! last ones stay, and it is asked no more than once a minute.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::http::Api;
use super::signatures;

/// How old keys may become.
const AGE: Duration = Duration::from_secs(24 * 3_600);
/// The least time between two tries.
const AGAIN: Duration = Duration::from_secs(60);

/// Keys from one address.
#[derive(Debug)]
pub(super) struct Keys {
    from: Url,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<Vec<u8>>,
    /// Not to be fetched before.
    next: Option<Instant>,
}

impl Keys {
    pub(super) fn new(from: Url) -> Self {
        Self { from, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is.
    pub(super) fn known(&self) -> Vec<Vec<u8>> {
        self.state().keys.clone()
    }

    /// A signature held by none of them: they may have been changed.
    pub(super) fn doubt(&self) {
        let soon = Instant::now() + AGAIN;
        let mut state = self.state();
        state.next = state.next.map(|next| next.min(soon));
    }

    /// Fetches them when it is time to.
    pub(super) async fn refresh(&self, api: &Api) {
        {
            let mut state = self.state();
            let now = Instant::now();
            if state.next.is_some_and(|next| now < next) {
                return;
            }
            // Whoever comes meanwhile does not ask as well.
            state.next = Some(now + AGAIN);
        }
        match api.public(self.from.clone()).await {
            Ok(answer) if answer.status.is_success() => {
                let keys = signatures::key_set(&answer.json());
                if keys.is_empty() {
                    tracing::warn!("the provider's key set has no key that can be used");
                    return;
                }
                let mut state = self.state();
                state.keys = keys;
                state.next = Some(Instant::now() + AGE);
            }
            Ok(answer) => tracing::warn!(status = answer.status.as_u16(), "the provider's keys cannot be had"),
            Err(trouble) => tracing::warn!(%trouble, "the provider's keys cannot be had"),
        }
    }
}
