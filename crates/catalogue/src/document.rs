//! A provider's published document of a model, as one closed JSON Schema of what the model takes.
//!
//! Invariant: whatever the schema takes, the document's own schema takes too, and every key that the document does not name is
//! refused. What a document leaves out or leaves open is a [`Gap`], never a guess. Documents are foreign data: their size and
//! depth are bounded, and none makes the reader panic or run on.

mod cog;
mod fal;
mod merge;
mod node;
mod normalise;
mod openrouter;

use std::fmt;

use domain::provider::Provider;
use serde_json::{Map, Value};

use crate::Rule;
pub use normalise::{Gap, Open};

/// The dialect of the schemas that are written.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What a provider publishes of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Who publishes it.
    pub provider: Provider,
    /// What the provider calls the model.
    pub model: String,
    /// What the provider says the model does: `image-to-video`; not every provider does.
    pub category: Option<String>,
    /// What it takes: one closed schema without references.
    pub input: Map<String, Value>,
    /// What the result looks like, in the same form; open, since results may have more.
    pub output: Option<Value>,
    /// What the document does not say about the input.
    pub gaps: Vec<Gap>,
    /// The price, as far as the document has it.
    pub prices: Vec<Rule>,
    /// What the provider says one of its units costs, as `0.14 USD for a second`, where it was asked; not every unit is what it is
    /// called, so that no price is made of it.
    pub unit_price: Option<String>,
    /// What else somebody who offers the model should know, a sentence each.
    pub notes: Vec<String>,
}

/// Why a document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has not the form of the provider's documents.
    #[error("this is not {expected}: {missing} is missing")]
    Form {
        /// What was to be read.
        expected: &'static str,
        /// The place that is not there.
        missing: String,
    },
    /// It tells of several models.
    #[error("this tells of several models; say which: {0}")]
    Several(String),
    /// It does not tell of the model.
    #[error("this does not tell of {0}")]
    Other(String),
    /// The provider has an error in its place.
    #[error("the provider has no document of this model: {0}")]
    Absent(String),
    /// Its schemas nest too far.
    #[error("its schema is nested deeper than {} levels", normalise::MAX_DEPTH)]
    TooDeep,
    /// With its references resolved it is too large.
    #[error("its schema has more than {} parts once its references are resolved", normalise::MAX_NODES)]
    TooLarge,
    /// It refers to another document.
    #[error("it refers to {0}, which lies outside of it")]
    Foreign(String),
    /// What it takes is not an object with fields.
    #[error("its input is not an object with fields")]
    NoFields,
    /// No provider publishes such documents.
    #[error("{0} publishes no documents of models")]
    NoDocuments(&'static str),
}

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

    /// The gaps of one field of the input.
    pub fn gaps_of<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a Gap> {
        self.gaps.iter().filter(move |gap| gap.field() == Some(field))
    }

    /// The input's schema as the file that the catalogue reads: sorted, so that equal documents make equal files.
    #[must_use]
    pub fn schema(&self) -> Value {
        let mut schema = self.input.clone();
        schema.insert("$schema".to_owned(), DIALECT.into());
        node::sorted(&Value::Object(schema))
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.open {
            Open::Missing(name) => write!(f, "{} refers to {name}, which the document does not have", self.path),
            Open::Recursive(name) => write!(f, "{} contains itself by {name}, and is cut off there", self.path),
            Open::Anything => write!(f, "{} takes anything, so that nothing in it can be checked", self.path),
            Open::Default => write!(f, "{} has a default that it does not take; left out", self.path),
        }
    }
}

/// The place at a path of keys, or which was missing.
fn at<'a>(value: &'a Value, path: &[&str], expected: &'static str) -> Result<&'a Value, Error> {
    let mut place = value;
    for (depth, key) in path.iter().enumerate() {
        let missing = || Error::Form { expected, missing: path[..=depth].join(".") };
        place = place.get(key).ok_or_else(missing)?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests;
