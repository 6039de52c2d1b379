//! The rules of credits: balances, entries, grants and adjustments. Holds, captures and releases follow from generations.

use chassis::request::actor::Actor;
use domain::id::{AccountId, LedgerId};
use domain::page::{Cursor, Page};
use uuid::Uuid;

use crate::cache::CachedGenerations;
use crate::error::Error;
use crate::events;
use crate::model::{Balance, Entry, Issue, Issued};
use crate::store::Store;

/// Reads and issues credits; cheap to clone.
#[derive(Clone)]
pub(crate) struct Credits {
    store: Store,
    cached: CachedGenerations,
}

impl Credits {
    pub(crate) fn new(store: Store, cached: CachedGenerations) -> Self {
        Self { store, cached }
    }

    /// An account's balance; zero for one that was never given credits.
    pub(crate) async fn get(&self, account: AccountId) -> Result<Balance, Error> {
        Ok(self.store.balance(account).await?.unwrap_or_default())
    }

    /// A page of an account's entries, newest first, and the cursor of the next.
    pub(crate) async fn entries(&self, account: AccountId, page: Page) -> Result<(Vec<Entry>, Option<Cursor>), Error> {
        let before = page.after.map(|cursor| LedgerId(cursor.id));
        let mut entries = self.store.credit_entries(account, before, page.rows()).await?;
        let next = page.cut(&mut entries, |entry| Cursor { position: 0, id: entry.id.0 });
        Ok((entries, next))
    }

    /// Grants or adjusts credits; the same request id does so once.
    pub(crate) async fn issue(
        &self,
        account: AccountId,
        issue: Issue,
        request: Uuid,
        actor: &Actor,
    ) -> Result<Balance, Error> {
        match self.store.issue(account, &issue, request, actor).await? {
            Issued::New(balance) => {
                events::credits_issued(account, &issue, &balance);
                self.cached.invalidate_dashboard(account).await;
                Ok(balance)
            }
            Issued::Existing(existing) if existing == issue => self.get(account).await,
            Issued::Existing(_) => Err(Error::RequestIdReused),
        }
    }
}
