//! The rules of what operators do about many generations at once: dead letters that are started anew, and generations in trouble at
//! their provider that are settled.
//!
//! Invariants: each generation is done by the rule for a single one, in a transaction of its own; one that changed since it was
//! chosen is left alone; and a repetition does nothing twice.

use chassis::request::actor::Actor;
use domain::page::{Cursor, Page};
use domain::provider::Provider;
use jobs::LetterFilter;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Error;
use crate::generations::Generations;
use crate::live_catalogue::LiveCatalogue;
use crate::model::{BulkFilter, BulkOutcome, Chosen, Resolution, Stuck};
use crate::store::Store;

/// Does what a single generation has a method for to many; cheap to clone.
#[derive(Clone)]
pub(crate) struct Bulk {
    catalogue: LiveCatalogue,
    store: Store,
    generations: Generations,
}

/// A page of what was chosen, and what became of each.
pub(crate) struct BulkPage {
    pub(crate) results: Vec<(Chosen, BulkOutcome<Error>)>,
    pub(crate) next: Option<Cursor>,
    /// What is newer was not chosen.
    pub(crate) before: OffsetDateTime,
}

impl Bulk {
    pub(crate) fn new(catalogue: LiveCatalogue, store: Store, generations: Generations) -> Self {
        Self { catalogue, store, generations }
    }

    /// Starts new generations in place of a page of dead letters, newest first. Without a note: says which.
    pub(crate) async fn requeue(
        &self,
        filter: &BulkFilter,
        note: Option<&str>,
        page: Page,
        actor: &Actor,
    ) -> Result<BulkPage, Error> {
        let before = self.before(filter).await?;
        let letters = LetterFilter {
            queues: self.models_of(filter),
            account: filter.account.map(|account| account.0),
            cause: filter.reason.clone(),
            before: Some(before),
            older_than: page.after.map(|cursor| cursor.id),
        };
        let mut chosen = self.store.choose_dead_letters(&letters, page.rows()).await?;
        for letter in &mut chosen {
            letter.provider = self.provider_of(&letter.model);
        }
        let next = page.cut(&mut chosen, cursor);
        let mut results = Vec::with_capacity(chosen.len());
        for letter in chosen {
            let outcome = match note {
                Some(note) => {
                    let request = request_of(letter.id.0);
                    Some(self.generations.requeue_dead_letter(letter.id, request, note, actor).await)
                }
                None => None,
            };
            results.push((letter, outcome));
        }
        Ok(BulkPage { results, next, before })
    }

    /// Settles a page of generations that wait at their provider for `stuck`, oldest first. Without a resolution and a note: says
    /// which.
    pub(crate) async fn resolve(
        &self,
        filter: &BulkFilter,
        stuck: Stuck,
        resolution: Option<(&Resolution, &str)>,
        page: Page,
        actor: &Actor,
    ) -> Result<BulkPage, Error> {
        let before = self.before(filter).await?;
        let after = page.after.map(|cursor| cursor.id);
        let mut chosen = self.store.choose_stuck(filter, stuck, before, after, page.rows()).await?;
        let next = page.cut(&mut chosen, cursor);
        let mut results = Vec::with_capacity(chosen.len());
        for one in chosen {
            let outcome = match resolution {
                Some((resolution, note)) => {
                    let version = Some(one.version);
                    Some(self.generations.resolve(one.account, one.id, resolution, note, version, actor).await)
                }
                None => None,
            };
            results.push((one, outcome));
        }
        Ok(BulkPage { results, next, before })
    }

    /// What is newer is not chosen: the filter's own time, or the database's.
    async fn before(&self, filter: &BulkFilter) -> Result<OffsetDateTime, Error> {
        match filter.before {
            Some(before) => Ok(before),
            None => self.store.time_ago(filter.min_age.unwrap_or_default()).await,
        }
    }

    /// The ids of the models whose dead letters a filter is about; `None`: of all.
    fn models_of(&self, filter: &BulkFilter) -> Option<Vec<String>> {
        let Some(provider) = &filter.provider else { return filter.model.clone().map(|model| vec![model]) };
        let of_provider = Provider::parse(provider).map(|provider| self.catalogue.models_at(&[provider]));
        let wanted = |id: &String| filter.model.as_ref().is_none_or(|model| model == id);
        Some(of_provider.into_iter().flatten().filter(wanted).collect())
    }

    fn provider_of(&self, model: &str) -> String {
        self.catalogue.provider_of(model).map(|provider| provider.as_str().to_owned()).unwrap_or_default()
    }
}

fn cursor(chosen: &Chosen) -> Cursor {
    Cursor { position: 0, id: chosen.id.0 }
}

/// The request id under which a letter is replaced: of the letter alone, so that however often it is asked for there is one
/// replacement.
fn request_of(letter: Uuid) -> Uuid {
    let digest = Sha256::new().chain_update(b"bulk requeue").chain_update(letter.as_bytes()).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
