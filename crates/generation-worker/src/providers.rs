//! The providers of this worker, each in a file below, and the registry that says who serves which model.

mod api;
mod call;
mod excerpt;
pub mod fal;
mod key_set;
pub mod local;
mod outputs;
mod refusals;
pub mod replicate;
mod webhook_url;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::fal::Fal;
use self::local::Local;
use self::replicate::Replicate;
use crate::config::Config;
use crate::model::{RemoteModel, RemoteProvider};
use crate::provider::Provider;

/// The providers of this worker, by the model that each serves; clones share them.
#[derive(Clone, Default)]
pub struct Registry {
    by_model: BTreeMap<String, Arc<dyn Provider>>,
    /// Models of the catalogue whose provider has no key here, each with its provider.
    unserved: BTreeMap<String, &'static str>,
}

impl Registry {
    /// The built-in provider, and those elsewhere that have a key and a model.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let local = Local::new(config.local.pace, config.local.threads);
        let mut registry = Self::default().with(local::MODEL, Arc::new(local));
        let (mut replicate, mut fal): (Option<Replicate>, Option<Fal>) = (None, None);
        for model in &config.models {
            let RemoteModel { name, provider, .. } = model;
            if let (None, Some(config)) = (&replicate, &config.replicate) {
                replicate = Some(Replicate::new(config, model)?);
            }
            if let (None, Some(config)) = (&fal, &config.fal) {
                fal = Some(Fal::new(config, model)?);
            }
            registry = match (provider, &replicate, &fal) {
                (RemoteProvider::Replicate, Some(replicate), _) => {
                    registry.with(name, Arc::new(replicate.another(model)))
                }
                (RemoteProvider::Fal, _, Some(fal)) => registry.with(name, Arc::new(fal.another(model))),
                _ => {
                    registry.unserved.insert(name.clone(), provider.as_str());
                    registry
                }
            };
        }
        Ok(registry)
    }

    /// Adds a provider for `models/{model}`.
    #[must_use]
    pub fn with(mut self, model: &str, provider: Arc<dyn Provider>) -> Self {
        self.by_model.insert(model.to_owned(), provider);
        self
    }

    /// The provider of a model.
    #[must_use]
    pub fn of_model(&self, model: &str) -> Option<Arc<dyn Provider>> {
        self.by_model.get(model).cloned()
    }

    /// The provider of a name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Arc<dyn Provider>> {
        self.by_model.values().find(|provider| provider.name() == name).cloned()
    }

    /// Models of the catalogue whose provider has no key here, each with its provider.
    pub(crate) fn unserved(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.unserved.iter().map(|(model, provider)| (model.as_str(), *provider))
    }

    /// Every model served, in order.
    #[must_use]
    pub fn models(&self) -> Vec<String> {
        self.by_model.keys().cloned().collect()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.by_model.keys()).finish()
    }
}
