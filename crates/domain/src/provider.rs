//! Who makes what a model makes.

use serde::{Deserialize, Serialize};

/// Whoever makes a model's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The worker itself.
    Local,
    /// <https://replicate.com>
    Replicate,
    /// <https://fal.ai>
    Fal,
    /// <https://openrouter.ai>
    OpenRouter,
    /// A box of one's own that speaks the predictions of Cog: <https://github.com/replicate/cog>.
    Cog,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 5] = [Self::Local, Self::Replicate, Self::Fal, Self::OpenRouter, Self::Cog];

    /// The name in the catalogue, in settings and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Replicate => "replicate",
            Self::Fal => "fal",
            Self::OpenRouter => "openrouter",
            Self::Cog => "cog",
        }
    }

    /// The provider of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == name)
    }
}
