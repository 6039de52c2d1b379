//! The catalogue: the built-in model, and the models that the file in `RUSHES_MODELS` adds.
//!
//! A worker serves a model by asking for its name; a model without a worker queues until its start deadline. Invariant: what
//! [`Catalogue::read`] returns has been checked whole, by the parser that the workers use too.

use std::sync::Arc;

use domain::catalogue;

use crate::model::Model;

/// Every model; the first is the one of requests that name none. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalogue(Arc<[Arc<Model>]>);

impl Catalogue {
    /// The model that needs no key and no network.
    #[must_use]
    pub fn built_in() -> Self {
        Self(Arc::new([Arc::new(Model::built_in())]))
    }

    /// The built-in model and those of a file; the crate's README describes it. A model with the built-in model's id replaces it.
    ///
    /// # Errors
    /// The model and the field that are wrong, and what the field should be.
    pub fn read(json: &str) -> Result<Self, String> {
        let mut models = Self::built_in().0.to_vec();
        for model in catalogue::parse(json)?.into_iter().map(Arc::new) {
            match models.iter_mut().find(|other| other.id == model.id) {
                Some(other) => *other = model,
                None => models.push(model),
            }
        }
        Ok(Self(models.into()))
    }

    /// The model with the name `models/{model}`; the first one for an empty name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Model>> {
        if name.is_empty() {
            return self.0.first();
        }
        let id = name.strip_prefix("models/")?;
        self.0.iter().find(|model| model.id == id)
    }

    /// Every model.
    pub(crate) fn all(&self) -> &[Arc<Model>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use domain::money::Micros;

    use super::*;

    #[test]
    fn models_are_found_by_name() {
        let json = r#"{"models": [{"id": "one", "provider": "fal", "model": "a/b", "price_micros": 1}]}"#;
        let catalogue = Catalogue::read(json).unwrap();
        assert_eq!(catalogue.find("").unwrap().id, "local-sketch");
        assert_eq!(catalogue.all().len(), 2);
        for model in catalogue.all() {
            assert_eq!(catalogue.find(&format!("models/{}", model.id)).unwrap().id, model.id);
        }
        for unknown in ["local-sketch", "models/", "models/none", "Models/local-sketch"] {
            assert!(catalogue.find(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn a_file_can_replace_the_built_in_model() {
        let json =
            r#"{"models": [{"id": "local-sketch", "provider": "local", "price_micros": 7, "reference_assets": 4}]}"#;
        let catalogue = Catalogue::read(json).unwrap();
        assert_eq!(catalogue.all().len(), 1);
        assert_eq!(catalogue.find("").unwrap().price, Micros::new(7));
    }
}
