//! The rules of models: one or a page of the catalogue, each with how long its last generations took.

use std::collections::HashMap;
use std::sync::Arc;

use catalogue::{Decimal, Model};
use domain::id::AccountId;
use domain::page::{Cursor, Page};
use jobs::Breaker;
use uuid::Uuid;

use crate::block_reasons::BlockReasons;
use crate::error::{Error, Noun};
use crate::live_catalogue::LiveCatalogue;
use crate::margins::Margins;
use crate::model::Pace;
use crate::store::Store;

/// Reads models; cheap to clone.
#[derive(Clone)]
pub(crate) struct Models {
    catalogue: LiveCatalogue,
    margins: Margins,
    store: Store,
    block_reasons: BlockReasons,
}

/// A model as it is now.
pub(crate) struct MeasuredModel {
    pub(crate) model: Arc<Model>,
    /// What its price is multiplied by for whoever asks.
    pub(crate) margin: Decimal,
    /// How long its last generations took, where that is known.
    pub(crate) pace: Option<Pace>,
    /// Why its orders wait.
    pub(crate) breaker: Option<Breaker>,
    /// Whether a worker serves it.
    pub(crate) served: bool,
}

impl Models {
    pub(crate) fn new(catalogue: LiveCatalogue, margins: Margins, store: Store, block_reasons: BlockReasons) -> Self {
        Self { catalogue, margins, store, block_reasons }
    }

    /// One model.
    pub(crate) async fn get(&self, account: AccountId, name: &str) -> Result<MeasuredModel, Error> {
        let catalogue = self.catalogue.current();
        let model = catalogue.find(name).filter(|_| !name.is_empty()).ok_or(Error::NotFound(Noun::Model))?;
        let mut measured = self.measured(account, std::slice::from_ref(model)).await?;
        measured.pop().ok_or(Error::NotFound(Noun::Model))
    }

    /// A page of models and the cursor of the next. The cursor is a position: a catalogue that changes between two pages may show a
    /// model twice or not at all.
    pub(crate) async fn list(
        &self,
        account: AccountId,
        page: Page,
    ) -> Result<(Vec<MeasuredModel>, Option<Cursor>), Error> {
        let first = page.after.map_or(0, |cursor| usize::try_from(cursor.position).unwrap_or(usize::MAX));
        let catalogue = self.catalogue.current();
        let rest = catalogue.all().get(first..).unwrap_or_default();
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let shown = &rest[..size.min(rest.len())];
        let next = Self::position_after(page, shown.len()).filter(|_| shown.len() < rest.len());
        Ok((self.measured(account, shown).await?, next))
    }

    /// Where the page goes on that follows so many models of this one.
    pub(crate) fn position_after(page: Page, models: usize) -> Option<Cursor> {
        let first = page.after.map_or(0, |cursor| cursor.position);
        let position = first.checked_add(i32::try_from(models).ok()?)?;
        Some(Cursor { position, id: Uuid::nil() })
    }

    async fn measured(&self, account: AccountId, models: &[Arc<Model>]) -> Result<Vec<MeasuredModel>, Error> {
        let ids: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
        let (paces, margin) = tokio::try_join!(self.store.paces(&ids), self.margins.get(account))?;
        let paces: HashMap<String, Pace> = paces.into_iter().collect();
        let measured = models.iter().map(|model| MeasuredModel {
            model: Arc::clone(model),
            margin,
            pace: paces.get(&model.id).copied(),
            breaker: self.block_reasons.breaker(model),
            served: self.block_reasons.is_served(model),
        });
        Ok(measured.collect())
    }
}
