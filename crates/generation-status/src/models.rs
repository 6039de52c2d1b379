//! The catalogue: which models there are, what they take, what they cost, and how patient we are with them.
//!
//! It is data: the built-in model, and what the file in `RUSHES_MODELS` adds. A worker serves a model by asking for its name; a
//! model without a worker queues until its start deadline. Invariant: what [`Catalogue::read`] gives has been checked whole.

mod file;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::money::Micros;
use domain::page::Cursor;
use uuid::Uuid;

use crate::error::{Error, Noun};
use crate::fields::{PROMPT, Page};
use crate::store::{Pace, Store};

/// The model that every installation has.
const BUILT_IN: &str = "local-sketch";
/// The most reference pictures that any model takes.
const PICTURES: usize = 4;

/// A model that can be asked for a video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// The last part of `models/{model}`; also the queue of its jobs.
    pub(crate) id: String,
    /// Who makes its videos.
    pub(crate) provider: String,
    /// What one generation costs at most.
    pub(crate) price: Micros,
    /// How long a prompt it takes.
    pub(crate) prompt_characters: usize,
    /// How many reference pictures it takes.
    pub(crate) reference_assets: usize,
    /// How many attempts may fail.
    pub(crate) max_attempts: i32,
    /// How long a generation may wait for a worker before it expires.
    pub(crate) start_deadline: Duration,
    /// How long after its start a generation is stopped when it has not ended.
    pub(crate) total_deadline: Duration,
}

/// Every model, the one that is used when a request names none first; cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalogue(Arc<[Arc<Model>]>);

impl Catalogue {
    /// The model that needs no key and no network.
    #[must_use]
    pub fn built_in() -> Self {
        Self(Arc::new([Arc::new(Model {
            id: BUILT_IN.to_owned(),
            provider: "local".to_owned(),
            price: Micros::new(50_000),
            prompt_characters: PROMPT,
            reference_assets: PICTURES,
            max_attempts: 5,
            start_deadline: Duration::from_secs(24 * 3600),
            total_deadline: Duration::from_secs(25 * 3600),
        })]))
    }

    /// The built-in model and those of a file; the crate's README describes it. One that is called like the built-in model takes
    /// its place.
    ///
    /// # Errors
    /// Which model's which field is wrong, and what it should be.
    pub fn read(json: &str) -> Result<Self, String> {
        let mut models = Self::built_in().0.to_vec();
        for model in file::models(json)?.into_iter().map(Arc::new) {
            match models.iter_mut().find(|other| other.id == model.id) {
                Some(other) => *other = model,
                None => models.push(model),
            }
        }
        Ok(Self(models.into()))
    }

    /// The model called `models/{model}`; the first one for an empty name.
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

/// What can be asked about models; cheap to clone.
#[derive(Clone)]
pub(crate) struct Models {
    catalogue: Catalogue,
    store: Store,
}

/// A model, and how long its last generations took where that is known.
pub(crate) type Measured = (Arc<Model>, Option<Pace>);

impl Models {
    pub(crate) fn new(catalogue: Catalogue, store: Store) -> Self {
        Self { catalogue, store }
    }

    /// One model.
    pub(crate) async fn get(&self, name: &str) -> Result<Measured, Error> {
        let model = self.catalogue.find(name).filter(|_| !name.is_empty()).ok_or(Error::Missing(Noun::Model))?;
        let mut measured = self.measured(std::slice::from_ref(model)).await?;
        measured.pop().ok_or(Error::Missing(Noun::Model))
    }

    /// A page of models, and where the next one begins: by place, since the catalogue stands still while a process lives.
    pub(crate) async fn list(&self, page: Page) -> Result<(Vec<Measured>, Option<Cursor>), Error> {
        let first = page.after.map_or(0, |cursor| usize::try_from(cursor.position).unwrap_or(usize::MAX));
        let rest = self.catalogue.all().get(first..).unwrap_or_default();
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let shown = &rest[..size.min(rest.len())];
        let next = i32::try_from(first + shown.len()).ok().filter(|_| shown.len() < rest.len());
        let next = next.map(|position| Cursor { position, id: Uuid::nil() });
        Ok((self.measured(shown).await?, next))
    }

    async fn measured(&self, models: &[Arc<Model>]) -> Result<Vec<Measured>, Error> {
        let ids: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
        let paces: HashMap<String, Pace> = self.store.paces(&ids).await?.into_iter().collect();
        Ok(models.iter().map(|model| (Arc::clone(model), paces.get(&model.id).copied())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_their_names() {
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
    fn the_built_in_model_can_be_given_another_price() {
        let json =
            r#"{"models": [{"id": "local-sketch", "provider": "local", "price_micros": 7, "reference_assets": 4}]}"#;
        let catalogue = Catalogue::read(json).unwrap();
        assert_eq!(catalogue.all().len(), 1);
        assert_eq!(catalogue.find("").unwrap().price, Micros::new(7));
    }
}
