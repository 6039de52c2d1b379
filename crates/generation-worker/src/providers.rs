//! The providers of this worker, each in a file below, and the registry of those that have a key or an address here.

mod api;
mod call;
pub mod cog;
mod excerpt;
pub mod fal;
mod key_set;
pub mod local;
mod moderation;
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
    /// Of each provider one for each key, in the order of the settings; at least one.
    by_name: BTreeMap<&'static str, Vec<Arc<dyn Provider>>>,
}

impl Registry {
    /// The built-in provider, and those elsewhere that the settings have a key or an address for.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let mut registry = Self::default().with(Arc::new(Local::new(config.local.pace, config.local.threads)));
        if let Some(config) = &config.replicate {
            registry = registry.with_each(Replicate::each(config)?);
        }
        if let Some(config) = &config.fal {
            registry = registry.with_each(Fal::each(config)?);
        }
        if let Some(config) = &config.openrouter {
            registry = registry.with_each(OpenRouter::each(config)?);
        }
        if !config.cog.is_empty() {
            registry = registry.with(Arc::new(Cog::new(&config.cog)?));
        }
        Ok(registry)
    }

    /// Adds a provider under its own name and that of its key; one of the same names is replaced.
    #[must_use]
    pub fn with(mut self, provider: Arc<dyn Provider>) -> Self {
        let keys = self.by_name.entry(provider.name()).or_default();
        keys.retain(|other| other.key() != provider.key());
        keys.push(provider);
        self
    }

    fn with_each(self, providers: Vec<impl Provider>) -> Self {
        providers.into_iter().fold(self, |registry, provider| registry.with(Arc::new(provider)))
    }

    /// The provider of a name, with the first of its keys: for what any of them will do.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Arc<dyn Provider>> {
        self.by_name.get(name)?.first().cloned()
    }

    /// The provider of a name with each of its keys, in the order of the settings.
    #[must_use]
    pub fn each_named(&self, name: &str) -> &[Arc<dyn Provider>] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The public names of all keys that have one.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let keys = self.by_name.values().flatten().map(|provider| provider.key());
        keys.filter(|key| !key.is_empty()).map(str::to_owned).collect()
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
