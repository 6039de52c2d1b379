//! Projects: what each request does.
//!
//! Invariant: a project is seen only by its account and only until it is deleted; its scenes are deleted with it.

use domain::id::{AccountId, ProjectId};
use domain::page::{Cursor, Page};

use crate::cache::CachedDashboards;
use crate::error::{Error, Noun};
use crate::etag::IfMatch;
use crate::events;
use crate::idempotency::IdempotencyKey;
use crate::model::{NewProject, Project, ProjectChange};
use crate::store::Store;

/// The rules of projects.
#[derive(Clone)]
pub(crate) struct Projects {
    store: Store,
    dashboards: CachedDashboards,
}

impl Projects {
    pub(crate) fn new(store: Store, dashboards: CachedDashboards) -> Self {
        Self { store, dashboards }
    }

    /// Creates a project, or returns the one that the same request created before.
    pub(crate) async fn create(
        &self,
        account: AccountId,
        new: NewProject,
        key: Option<IdempotencyKey>,
    ) -> Result<Project, Error> {
        let id = ProjectId::new();
        if let Some(project) = self.store.create_project(account, id, &new, key).await? {
            self.dashboards.wrote(account).await;
            return Ok(project);
        }
        // The insert does nothing when the request id was used before, or when there is no such account.
        let key = key.ok_or(Error::NotFound(Noun::Account))?;
        match self.store.project_by_request(account, key.request_id).await? {
            Some((project, sha256)) if sha256 == key.body_sha256 => {
                // A client that repeats a write because the reply was lost must see the write, and another process may
                // have made it.
                self.dashboards.wrote(account).await;
                Ok(project)
            }
            Some(_) => Err(Error::RequestIdReused),
            None => Err(Error::NotFound(Noun::Account)),
        }
    }

    pub(crate) async fn get(&self, account: AccountId, id: ProjectId) -> Result<Project, Error> {
        self.store.project(account, id).await
    }

    /// A page of projects from new to old, and the cursor of the next one.
    pub(crate) async fn list(&self, account: AccountId, page: Page) -> Result<(Vec<Project>, Option<Cursor>), Error> {
        let mut projects = self.store.projects(account, page).await?;
        let next = page.cut(&mut projects, |project| Cursor { position: 0, id: project.id.0 });
        Ok((projects, next))
    }

    pub(crate) async fn update(
        &self,
        account: AccountId,
        id: ProjectId,
        change: ProjectChange,
        if_match: IfMatch,
    ) -> Result<Project, Error> {
        let project = self.store.update_project(account, id, &change, if_match).await?;
        self.dashboards.wrote(account).await;
        Ok(project)
    }

    pub(crate) async fn delete(&self, account: AccountId, id: ProjectId, if_match: IfMatch) -> Result<(), Error> {
        self.store.delete_project(account, id, if_match).await?;
        events::project_deleted(account, id);
        self.dashboards.wrote(account).await;
        Ok(())
    }
}
