//! The rules of usage: what an account and its end users used, and what an end user may spend.

use domain::id::{AccountId, EndUserId};
use domain::money::Micros;
use domain::page::{Cursor, Page};

use crate::error::Error;
use crate::model::{EndUser, Period, UsagePage, UsageQuery};
use crate::store::Store;

/// Reads usage and limits end users; cheap to clone.
#[derive(Clone)]
pub(crate) struct Usages {
    store: Store,
}

impl Usages {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// A page of an account's usage.
    pub(crate) async fn usage(&self, account: AccountId, asked: &UsageQuery) -> Result<UsagePage, Error> {
        self.store.usage(account, asked).await
    }

    /// An end user; one who had no generation and no limit yet has spent nothing.
    pub(crate) async fn end_user(&self, account: AccountId, name: String) -> Result<EndUser, Error> {
        let found = self.store.end_user(account, &name).await?;
        Ok(found.unwrap_or(EndUser {
            id: None,
            name,
            limit: None,
            period: Period::Total as i16,
            held: Micros::ZERO,
            spent: Micros::ZERO,
            total: Micros::ZERO,
            create_time: None,
        }))
    }

    /// A page of an account's end users, the newest first, and the cursor of the next.
    pub(crate) async fn end_users(
        &self,
        account: AccountId,
        page: Page,
    ) -> Result<(Vec<EndUser>, Option<Cursor>), Error> {
        let mut end_users = self.store.end_users(account, EndUserId(page.below()), page.rows()).await?;
        let key = |end_user: &EndUser| Cursor { position: 0, id: end_user.id.map(|id| id.0).unwrap_or_default() };
        let next = page.cut(&mut end_users, key);
        Ok((end_users, next))
    }

    /// Limits what an end user may spend from now on; `None` removes the limit.
    pub(crate) async fn set_limit(
        &self,
        account: AccountId,
        name: &str,
        limit: Option<Micros>,
        period: Period,
    ) -> Result<EndUser, Error> {
        self.store.set_end_user_limit(account, name, limit, period).await
    }
}
