//! Reading a dashboard, and how much of it is shown when a part cannot be read.
//!
//! Invariant: an answer with a version is what had been committed up to that version, no less and no more. When the one
//! statement that reads all of it fails, each section is read alone; a section that cannot be read then is named, never shown
//! as empty, and such an answer has no version and is not cached.

use std::future::Future;
use std::time::Duration;

use chassis::postgres;
use chassis::request::deadline;
use domain::id::AccountId;
use domain::page::Page;
use tokio::time::Instant;

use crate::error::Error;
use crate::model::{Contents, Section};
use crate::store::Store;

/// Reads dashboards from the store.
#[derive(Clone)]
pub(crate) struct Dashboards {
    store: Store,
    /// How long one section may take when it is read alone.
    section_timeout: Duration,
}

impl Dashboards {
    pub(crate) fn new(store: Store, section_timeout: Duration) -> Self {
        Self { store, section_timeout }
    }

    /// A page of the dashboard, whole if it can be.
    pub(crate) async fn read(&self, account: AccountId, page: Page) -> Result<Contents, Error> {
        match self.store.dashboard(account, page).await {
            Ok(contents) => Ok(contents),
            // An overloaded pool is not helped by five more statements, and after the deadline nobody waits for them.
            Err(error @ (postgres::Error::Busy(_) | postgres::Error::Deadline)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, cause = error.sqlstate(), "the dashboard is read section by section");
                // Boxed: it is rare, and room for it would make every request's future larger.
                Box::pin(self.read_sections(account, page)).await
            }
        }
    }

    /// Reads each section alone. Together they are of no one snapshot, even when none is missing, and have no version.
    async fn read_sections(&self, account: AccountId, page: Page) -> Result<Contents, Error> {
        let read = Section::ALL.map(|section| self.bounded(self.store.section(account, section, page)));
        let mut contents = Contents::default();
        let mut last_error = None;
        for (section, read) in Section::ALL.into_iter().zip(futures::future::join_all(read).await) {
            match read {
                Ok(found) => contents.take_section(section, found),
                Err(error) => {
                    tracing::warn!(?section, %error, cause = error.sqlstate(), "a section cannot be read");
                    contents.unreachable.push(section);
                    last_error = Some(error);
                }
            }
        }
        match last_error {
            Some(error) if contents.unreachable.len() == Section::ALL.len() => Err(Error::Unreachable(error)),
            _ => Ok(contents),
        }
    }

    async fn bounded<T>(&self, read: impl Future<Output = Result<T, postgres::Error>>) -> Result<T, postgres::Error> {
        deadline::within(Instant::now() + self.section_timeout, Box::pin(read)).await
    }
}
