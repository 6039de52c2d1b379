//! Projects: what a user may write, and what each request does.
//!
//! Invariant: a project is seen only by its account and only until it is deleted; its scenes go with it.

use domain::id::{AccountId, ProjectId};
use domain::money::Micros;
use domain::page::Cursor;
use time::OffsetDateTime;

use crate::cache::Dashes;
use crate::error::{Error, Noun};
use crate::etag::Seen;
use crate::fields::Page;
use crate::once::Once;
use crate::store::Store;

/// A project as stored.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) scene_count: i32,
    pub(crate) completed_count: i64,
    pub(crate) completed_cost: Micros,
    pub(crate) version: i64,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) update_time: OffsetDateTime,
}

/// What a user writes of a new project.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) title: String,
    pub(crate) description: String,
}

/// What a user changes of a project; nothing where it stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
}

/// What can be done with projects.
#[derive(Clone)]
pub(crate) struct Projects {
    store: Store,
    dashes: Dashes,
}

impl Projects {
    pub(crate) fn new(store: Store, dashes: Dashes) -> Self {
        Self { store, dashes }
    }

    /// Creates a project, or returns the one that the same request made before.
    pub(crate) async fn create(
        &self,
        account: AccountId,
        draft: Draft,
        request: Option<Once>,
    ) -> Result<Project, Error> {
        let id = ProjectId::new();
        if let Some(project) = self.store.create_project(account, id, &draft, request).await? {
            self.dashes.wrote(account).await;
            return Ok(project);
        }
        let request = request.ok_or(Error::Missing(Noun::Account))?;
        match self.store.requested_project(account, request.id).await? {
            Some((project, sha256)) if sha256 == request.sha256 => {
                // Whoever repeats a write whose reply was lost must see it too, and another process may have made it.
                self.dashes.wrote(account).await;
                Ok(project)
            }
            Some(_) => Err(Error::RequestIdReused),
            None => Err(Error::Missing(Noun::Account)),
        }
    }

    pub(crate) async fn get(&self, account: AccountId, id: ProjectId) -> Result<Project, Error> {
        self.store.project(account, id).await
    }

    /// A page of projects from new to old, and where the next one begins.
    pub(crate) async fn list(&self, account: AccountId, page: Page) -> Result<(Vec<Project>, Option<Cursor>), Error> {
        let mut projects = self.store.projects(account, page).await?;
        let next = page.cut(&mut projects, |project| Cursor { position: 0, id: project.id.0 });
        Ok((projects, next))
    }

    pub(crate) async fn update(
        &self,
        account: AccountId,
        id: ProjectId,
        change: Change,
        seen: Seen,
    ) -> Result<Project, Error> {
        let project = self.store.update_project(account, id, &change, seen).await?;
        self.dashes.wrote(account).await;
        Ok(project)
    }

    pub(crate) async fn delete(&self, account: AccountId, id: ProjectId, seen: Seen) -> Result<(), Error> {
        self.store.delete_project(account, id, seen).await?;
        self.dashes.wrote(account).await;
        Ok(())
    }
}
