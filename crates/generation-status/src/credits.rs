//! Credits: what an account has, what was booked for it, grants and corrections. Everything else that happens to credits
//! follows from generations.

use domain::id::{AccountId, GenerationId, LedgerId};
use domain::money::Micros;
use domain::page::Cursor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::cache;
use crate::error::Error;
use crate::fields::Page;
use crate::store::{Issued, Store};

/// What an account has; none of it is ever negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) available: Micros,
    pub(crate) held: Micros,
    pub(crate) spent: Micros,
}

/// What happened to an account's credits, by the name that the ledger has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hold,
    Capture,
    Release,
    Grant,
    Adjust,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Hold, Self::Capture, Self::Release, Self::Grant, Self::Adjust];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Capture => "capture",
            Self::Release => "release",
            Self::Grant => "grant",
            Self::Adjust => "adjust",
        }
    }
}

/// One thing that was booked, as the account sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: LedgerId,
    pub(crate) kind: Kind,
    pub(crate) generation: Option<GenerationId>,
    /// What the generation was charged; zero unless it was.
    pub(crate) spent: Micros,
    /// What it did to what is free to be spent.
    pub(crate) available: Micros,
    pub(crate) reason: Option<String>,
    pub(crate) create_time: OffsetDateTime,
}

/// Credits that come from nowhere, or go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    /// Less than zero takes them away.
    pub(crate) amount: Micros,
    /// Why, when it is a correction; nothing for a grant.
    pub(crate) reason: Option<String>,
}

/// What can be done with credits; cheap to clone.
#[derive(Clone)]
pub(crate) struct Credits {
    store: Store,
    cached: cache::Generations,
}

impl Credits {
    pub(crate) fn new(store: Store, cached: cache::Generations) -> Self {
        Self { store, cached }
    }

    /// An account's balance; zero for one that was never given credits.
    pub(crate) async fn get(&self, account: AccountId) -> Result<Balance, Error> {
        Ok(self.store.balance(account).await?.unwrap_or_default())
    }

    /// A page of what was booked for an account, newest first, and where the next one begins.
    pub(crate) async fn entries(&self, account: AccountId, page: Page) -> Result<(Vec<Entry>, Option<Cursor>), Error> {
        let before = page.after.map(|cursor| LedgerId(cursor.id));
        let mut entries = self.store.credit_entries(account, before, page.size + 1).await?;
        let next = page.cut(&mut entries, |entry| entry.id.0);
        Ok((entries, next))
    }

    /// Gives an account credits or corrects what it has; the same request does so once.
    pub(crate) async fn issue(&self, account: AccountId, issue: Issue, request: Uuid) -> Result<Balance, Error> {
        match self.store.issue(account, &issue, request).await? {
            Issued::New(balance) => {
                self.cached.touched_dashboard(account).await;
                Ok(balance)
            }
            Issued::Before(before) if before == issue => self.get(account).await,
            Issued::Before(_) => Err(Error::RequestIdReused),
        }
    }
}
