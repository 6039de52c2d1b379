//! Scenes: what a user may write, and what each request does.
//!
//! Invariant: a project's scenes have positions that order them; a new one comes last, and only a reorder, which names
//! each of them once, moves them.

use domain::id::{AccountId, GenerationId, ProjectId, SceneId};
use domain::name::SceneName;
use domain::page::Cursor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::cache::Dashes;
use crate::error::{Error, Violation};
use crate::etag::Seen;
use crate::fields::Page;
use crate::once::Once;
use crate::store::Store;

/// The most scenes of a project: a reorder names them all in one message of 64 KiB.
pub(crate) const MOST: i32 = 500;

/// A scene as stored.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) name: SceneName,
    pub(crate) title: String,
    pub(crate) script: String,
    pub(crate) position: i32,
    pub(crate) version: i64,
    pub(crate) latest: Option<GenerationId>,
    pub(crate) create_time: OffsetDateTime,
    pub(crate) update_time: OffsetDateTime,
}

/// What a user writes of a new scene.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) title: String,
    pub(crate) script: String,
}

/// What a user changes of a scene; nothing where it stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) title: Option<String>,
    pub(crate) script: Option<String>,
}

/// What became of a request for a new scene.
#[derive(Debug)]
pub(crate) enum Created {
    /// It was made by this request.
    Now(Scene),
    /// An earlier request with the same id made this one, and had a body with this hash.
    Before(Scene, Vec<u8>),
}

/// What can be done with scenes.
#[derive(Clone)]
pub(crate) struct Scenes {
    store: Store,
    dashes: Dashes,
}

impl Scenes {
    pub(crate) fn new(store: Store, dashes: Dashes) -> Self {
        Self { store, dashes }
    }

    /// Creates a scene at the end of its project, or returns the one that the same request made before.
    pub(crate) async fn create(
        &self,
        account: AccountId,
        project: ProjectId,
        draft: Draft,
        request: Option<Once>,
    ) -> Result<Scene, Error> {
        let name = SceneName { project, scene: SceneId::new() };
        match self.store.create_scene(account, name, &draft, request).await? {
            Created::Now(scene) => {
                self.dashes.wrote(account).await;
                Ok(scene)
            }
            Created::Before(scene, sha256) if request.is_some_and(|once| sha256 == once.sha256) => {
                // As for a project: it is told again to whoever repeats it.
                self.dashes.wrote(account).await;
                Ok(scene)
            }
            Created::Before(..) => Err(Error::RequestIdReused),
        }
    }

    pub(crate) async fn get(&self, account: AccountId, name: SceneName) -> Result<Scene, Error> {
        self.store.scene(account, name).await
    }

    /// A page of a project's scenes by position, and where the next one begins.
    pub(crate) async fn list(
        &self,
        account: AccountId,
        project: ProjectId,
        page: Page,
    ) -> Result<(Vec<Scene>, Option<Cursor>), Error> {
        let mut scenes = self.store.scenes(account, project, page).await?;
        let next = page.cut(&mut scenes, |scene| Cursor { position: scene.position, id: scene.name.scene.0 });
        Ok((scenes, next))
    }

    pub(crate) async fn update(
        &self,
        account: AccountId,
        name: SceneName,
        change: Change,
        seen: Seen,
    ) -> Result<Scene, Error> {
        let scene = self.store.update_scene(account, name, &change, seen).await?;
        self.dashes.wrote(account).await;
        Ok(scene)
    }

    pub(crate) async fn delete(&self, account: AccountId, name: SceneName, seen: Seen) -> Result<(), Error> {
        self.store.delete_scene(account, name, seen).await?;
        self.dashes.wrote(account).await;
        Ok(())
    }

    /// Puts all scenes of a project into the order given, in which none is named twice.
    pub(crate) async fn reorder(
        &self,
        account: AccountId,
        project: ProjectId,
        order: &[SceneId],
    ) -> Result<Vec<Scene>, Error> {
        let ids: Vec<Uuid> = order.iter().map(|scene| scene.0).collect();
        let Some(scenes) = self.store.reorder_scenes(account, project, &ids).await? else {
            return Err(Error::Invalid(vec![Violation {
                field: "scenes".to_owned(),
                reason: "INPUT_SCHEMA_VIOLATION",
                should: "must name each scene of the project once, and no other".to_owned(),
            }]));
        };
        self.dashes.wrote(account).await;
        Ok(scenes)
    }
}
