//! A provider's published document of a model, as one closed JSON Schema of what the model takes.
//!
//! Invariant: whatever the schema takes, the document's own schema takes too, and every key that the document does not name is
//! refused. What a document leaves out or leaves open is a [`Gap`], never a guess. Documents are foreign data: their size and
//! depth are bounded, and none makes the reader panic or run on.

mod cog;
mod error;
mod fal;
mod gap;
mod merge;
mod node;
mod normalise;
mod openrouter;
mod published;

use domain::provider::Provider;
use serde_json::Value;

pub use error::Error;
pub use gap::{Gap, Open};
pub use published::{DIALECT, Document};

impl Document {
    /// Reads what a provider publishes; `model` says which is meant, where the document does not say it or tells of several.
    ///
    /// # Errors
    /// Where it has not the provider's form, tells of another model, or is larger or deeper than any real one.
    pub fn read(provider: Provider, published: &Value, model: Option<&str>) -> Result<Self, Error> {
        match provider {
            Provider::Fal => fal::read(published, model),
            Provider::Replicate => cog::read_replicate(published, model),
            Provider::Cog => cog::read_cog(published, model),
            Provider::OpenRouter => openrouter::read(published, model),
            Provider::Local => Err(Error::NoDocuments(provider.as_str())),
        }
    }
}

#[cfg(test)]
mod tests;
