//! Notices: what an account should know, shown until it is acknowledged.

use domain::id::{AccountId, NoticeId};

use crate::cache::Dashes;
use crate::error::Error;
use crate::store::Store;

/// The most notices that one request acknowledges.
pub(crate) const MOST: usize = 100;
/// The first notice of every account: its title and its body.
pub(crate) const WELCOME: (&str, &str) = (
    "Welcome to Rushes",
    "Create a project, add a scene, and start a generation: its status, poster and cost appear here as they come.",
);

/// What can be done with notices.
#[derive(Clone)]
pub(crate) struct Notices {
    store: Store,
    dashes: Dashes,
}

impl Notices {
    pub(crate) fn new(store: Store, dashes: Dashes) -> Self {
        Self { store, dashes }
    }

    /// Marks notices as read; returns how many are left unread, 1,000 at most.
    pub(crate) async fn acknowledge(&self, account: AccountId, mut notices: Vec<NoticeId>) -> Result<i64, Error> {
        notices.sort_unstable();
        notices.dedup();
        let unread = self.store.read_notices(account, &notices).await?;
        self.dashes.wrote(account).await;
        Ok(unread)
    }
}
