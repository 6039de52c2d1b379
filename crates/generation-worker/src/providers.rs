//! The providers of this worker, each in a file below, and the registry of those that have a key or an address here.

mod api;
mod call;
pub mod cog;
mod excerpt;
pub mod fal;
mod key_set;
pub mod local;
pub mod openrouter;
mod outputs;
mod prices;
mod refusals;
pub mod replicate;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::cog::Cog;
use self::fal::Fal;
use self::local::Local;
use self::openrouter::OpenRouter;
use self::replicate::Replicate;
use crate::config::Config;
use crate::provider::Provider;

/// The providers of this worker, by their names; clones share them.
#[derive(Clone, Default)]
pub struct Registry {
    by_name: BTreeMap<&'static str, Arc<dyn Provider>>,
}

impl Registry {
    /// The built-in provider, and those elsewhere that the settings have a key or an address for.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let mut registry = Self::default().with(Arc::new(Local::new(config.local.pace, config.local.threads)));
        if let Some(config) = &config.replicate {
            registry = registry.with(Arc::new(Replicate::new(config)?));
        }
        if let Some(config) = &config.fal {
            registry = registry.with(Arc::new(Fal::new(config)?));
        }
        if let Some(config) = &config.openrouter {
            registry = registry.with(Arc::new(OpenRouter::new(config)?));
        }
        if !config.cog.is_empty() {
            registry = registry.with(Arc::new(Cog::new(&config.cog)?));
        }
        Ok(registry)
    }

    /// Adds a provider under its own name.
    #[must_use]
    pub fn with(mut self, provider: Arc<dyn Provider>) -> Self {
        self.by_name.insert(provider.name(), provider);
        self
    }

    /// The provider of a name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Arc<dyn Provider>> {
        self.by_name.get(name).cloned()
    }

    /// The names of all, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.by_name.keys().map(|name| (*name).to_owned()).collect()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.by_name.keys()).finish()
    }
}
