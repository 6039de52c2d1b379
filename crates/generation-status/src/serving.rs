//! Which models the workers of this process's claim streams can serve, said to the database at an interval: those at the providers
//! that the workers name; and which keys of providers they have.
//!
//! Invariant: a model is said to be served while a stream that names its provider is open, whether or not the worker has a slot free.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::provider::Provider;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::block_reasons::BlockReasons;
use crate::live_catalogue::LiveCatalogue;
use crate::model::provider_of;
use crate::store::Store;

/// How often it is said: more often than jobs take for gone what another process said a worker left with.
const INTERVAL: Duration = Duration::from_secs(15);

/// The providers of open claim streams; cheap to clone.
#[derive(Clone)]
pub(crate) struct Serving {
    store: Store,
    catalogue: LiveCatalogue,
    block_reasons: BlockReasons,
    open: Arc<Mutex<Open>>,
    changed: Arc<Notify>,
}

/// How many open streams name each provider and each key.
#[derive(Default)]
struct Open {
    providers: HashMap<Provider, usize>,
    keys: HashMap<String, usize>,
    /// Keys that no open stream names any more, until that is said.
    left: BTreeSet<String>,
}

/// One open stream; its providers and keys are let go of when it is dropped.
pub(crate) struct Served {
    serving: Serving,
    providers: Vec<Provider>,
    keys: Vec<String>,
}

impl Serving {
    pub(crate) fn new(store: Store, catalogue: LiveCatalogue, block_reasons: BlockReasons) -> Self {
        Self { store, catalogue, block_reasons, open: Arc::default(), changed: Arc::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of the models at these providers.
    pub(crate) fn models_at(&self, providers: &[Provider]) -> Vec<String> {
        self.catalogue.models_at(providers)
    }

    /// The ids of the models that a worker with these providers and keys can be given work on: not those at a provider where all of
    /// its keys are refused while those of other workers are not.
    pub(crate) fn models_for(&self, providers: &[Provider], keys: &[String]) -> Vec<String> {
        let useful = providers.iter().copied().filter(|provider| !self.block_reasons.rests(*provider, keys));
        self.models_at(&useful.collect::<Vec<_>>())
    }

    /// A worker serves these providers' models from now on, with these keys.
    pub(crate) fn begin(&self, providers: &[Provider], keys: &[String]) -> Served {
        let mut open = self.open();
        for provider in providers {
            *open.providers.entry(*provider).or_default() += 1;
        }
        for key in keys {
            *open.keys.entry(key.clone()).or_default() += 1;
            open.left.remove(key);
        }
        self.changed.notify_one();
        Served { serving: self.clone(), providers: providers.to_vec(), keys: keys.to_vec() }
    }

    /// Says so at an interval, and soon after a stream was opened or a key left, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.changed.notified() => {}
            }
            let (providers, keys, left) = {
                let mut open = self.open();
                let keys = open.keys.keys().map(|key| (provider_of(key).to_owned(), key.clone())).collect::<Vec<_>>();
                let left: Vec<_> = std::mem::take(&mut open.left).into_iter().collect();
                (open.providers.keys().copied().collect::<Vec<_>>(), keys, left)
            };
            let models = self.models_at(&providers);
            if models.is_empty() && left.is_empty() {
                continue;
            }
            if let Err(error) = self.store.mark_served(&models, &keys, &left).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "served models could not be recorded");
                let mut open = self.open();
                let gone = left.into_iter().filter(|key| !open.keys.contains_key(key)).collect::<Vec<_>>();
                open.left.extend(gone);
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut open = self.serving.open();
        for provider in &self.providers {
            release(&mut open.providers, provider);
        }
        let open = &mut *open;
        let left = self.keys.iter().filter(|key| release(&mut open.keys, key)).cloned();
        open.left.extend(left);
        if !open.left.is_empty() {
            self.serving.changed.notify_one();
        }
    }
}

/// One stream fewer names it; whether it was the last.
fn release<K: Eq + Hash>(streams: &mut HashMap<K, usize>, key: &K) -> bool {
    let Some(count) = streams.get_mut(key) else { return false };
    *count -= 1;
    let last = *count == 0;
    if last {
        streams.remove(key);
    }
    last
}
