//! Which models the workers of this process's claim streams can serve, said to the database at an interval: those at the providers
//! that the workers name.
//!
//! Invariant: a model is said to be served while a stream that names its provider is open, whether or not the worker has a slot free.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::provider::Provider;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::live_catalogue::LiveCatalogue;
use crate::store::Store;

/// How often it is said.
const INTERVAL: Duration = Duration::from_secs(15);

/// The providers of open claim streams; cheap to clone.
#[derive(Clone)]
pub(crate) struct Serving {
    store: Store,
    catalogue: LiveCatalogue,
    providers: Arc<Mutex<HashMap<Provider, usize>>>,
    changed: Arc<Notify>,
}

/// One open stream; its providers are let go of when it is dropped.
pub(crate) struct Served {
    serving: Serving,
    providers: Vec<Provider>,
}

impl Serving {
    pub(crate) fn new(store: Store, catalogue: LiveCatalogue) -> Self {
        Self { store, catalogue, providers: Arc::default(), changed: Arc::default() }
    }

    fn providers(&self) -> MutexGuard<'_, HashMap<Provider, usize>> {
        self.providers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of the models at these providers.
    pub(crate) fn models_at(&self, providers: &[Provider]) -> Vec<String> {
        self.catalogue.models_at(providers)
    }

    /// A worker serves these providers' models from now on.
    pub(crate) fn begin(&self, providers: &[Provider]) -> Served {
        let mut known = self.providers();
        for provider in providers {
            *known.entry(*provider).or_default() += 1;
        }
        self.changed.notify_one();
        Served { serving: self.clone(), providers: providers.to_vec() }
    }

    /// Says so at an interval, and soon after a stream was opened, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.changed.notified() => {}
            }
            let providers: Vec<Provider> = self.providers().keys().copied().collect();
            let models = self.models_at(&providers);
            if models.is_empty() {
                continue;
            }
            if let Err(error) = self.store.mark_served(&models).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "served models could not be recorded");
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut known = self.serving.providers();
        for provider in &self.providers {
            if let Some(streams) = known.get_mut(provider) {
                *streams -= 1;
                if *streams == 0 {
                    known.remove(provider);
                }
            }
        }
    }
}
