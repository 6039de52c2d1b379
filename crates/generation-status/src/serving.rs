//! Which models the workers of this process's claim streams serve, said to the database at an interval.
//!
//! Invariant: a model is said to be served while a stream that names it is open, whether or not the worker has a slot free.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How often it is said.
const INTERVAL: Duration = Duration::from_secs(15);

/// The models of open claim streams; cheap to clone.
#[derive(Clone)]
pub(crate) struct Serving {
    store: Store,
    models: Arc<Mutex<HashMap<String, usize>>>,
    changed: Arc<Notify>,
}

/// One open stream; its models are let go of when it is dropped.
pub(crate) struct Served {
    serving: Serving,
    models: Vec<String>,
}

impl Serving {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, models: Arc::default(), changed: Arc::default() }
    }

    fn models(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker serves these models from now on.
    pub(crate) fn begin(&self, models: &[String]) -> Served {
        let mut known = self.models();
        for model in models {
            *known.entry(model.clone()).or_default() += 1;
        }
        self.changed.notify_one();
        Served { serving: self.clone(), models: models.to_vec() }
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
            let models: Vec<String> = self.models().keys().cloned().collect();
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
        let mut known = self.serving.models();
        for model in &self.models {
            if let Some(streams) = known.get_mut(model) {
                *streams -= 1;
                if *streams == 0 {
                    known.remove(model);
                }
            }
        }
    }
}
