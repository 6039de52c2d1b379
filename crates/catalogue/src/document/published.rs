//! What is read of a provider's document.

use domain::provider::Provider;
use serde_json::{Map, Value};

use super::error::Error;
use super::gap::Gap;
use super::node;
use crate::Rule;

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

impl Document {
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

/// The place at a path of keys, or which was missing.
pub(super) fn at<'a>(value: &'a Value, path: &[&str], expected: &'static str) -> Result<&'a Value, Error> {
    let mut place = value;
    for (depth, key) in path.iter().enumerate() {
        let missing = || Error::Form { expected, missing: path[..=depth].join(".") };
        place = place.get(key).ok_or_else(missing)?;
    }
    Ok(place)
}
