//! Notices: messages to an account, shown until they are acknowledged.

use domain::id::{AccountId, NoticeId};

use crate::cache::CachedDashboards;
use crate::error::Error;
use crate::store::Store;

/// How many notices one request may acknowledge.
pub(crate) const MAX_ACKNOWLEDGED: usize = 100;
/// The first notice of every account: its title and its body.
pub(crate) const WELCOME: (&str, &str) = (
    "Welcome to Rushes",
    "Create a project, add a scene, and start a generation: its status, poster and cost appear here as they come.",
);

/// The rules of notices.
#[derive(Clone)]
pub(crate) struct Notices {
    store: Store,
    dashboards: CachedDashboards,
}

impl Notices {
    pub(crate) fn new(store: Store, dashboards: CachedDashboards) -> Self {
        Self { store, dashboards }
    }

    /// Marks notices as read; returns how many are left unread, counted up to 1,000.
    pub(crate) async fn acknowledge(&self, account: AccountId, mut notices: Vec<NoticeId>) -> Result<i64, Error> {
        notices.sort_unstable();
        notices.dedup();
        let unread = self.store.acknowledge_notices(account, &notices).await?;
        self.dashboards.wrote(account).await;
        Ok(unread)
    }
}
