//! Scenes: what each request does.
//!
//! Invariant: a project's scenes have positions that order them; a new one comes last, and only a reorder, which names
//! each of them once, moves them.

use chassis::fields::{Invalid, SCHEMA};
use domain::id::{AccountId, ProjectId, SceneId};
use domain::name::SceneName;
use domain::page::{Cursor, Page};
use uuid::Uuid;

use crate::cache::CachedDashboards;
use crate::error::Error;
use crate::etag::IfMatch;
use crate::events;
use crate::idempotency::IdempotencyKey;
use crate::model::{CreatedScene, NewScene, Scene, SceneChange};
use crate::store::Store;

/// The rules of scenes.
#[derive(Clone)]
pub(crate) struct Scenes {
    store: Store,
    dashboards: CachedDashboards,
}

impl Scenes {
    pub(crate) fn new(store: Store, dashboards: CachedDashboards) -> Self {
        Self { store, dashboards }
    }

    /// Creates a scene at the end of its project, or returns the one that the same request created before.
    pub(crate) async fn create(
        &self,
        account: AccountId,
        project: ProjectId,
        new: NewScene,
        key: Option<IdempotencyKey>,
    ) -> Result<Scene, Error> {
        let name = SceneName { project, scene: SceneId::new() };
        let scene = match self.store.create_scene(account, name, &new, key).await? {
            CreatedScene::New(scene) => scene,
            CreatedScene::Existing { scene, body_sha256 } if key.is_some_and(|key| body_sha256 == key.body_sha256) => {
                scene
            }
            CreatedScene::Existing { .. } => return Err(Error::RequestIdReused),
        };
        // Also for a repetition, whose client may never have got the first reply.
        self.dashboards.wrote(account).await;
        Ok(scene)
    }

    pub(crate) async fn get(&self, account: AccountId, name: SceneName) -> Result<Scene, Error> {
        self.store.scene(account, name).await
    }

    /// A page of a project's scenes by position, and the cursor of the next one.
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
        change: SceneChange,
        if_match: IfMatch,
    ) -> Result<Scene, Error> {
        let scene = self.store.update_scene(account, name, &change, if_match).await?;
        self.dashboards.wrote(account).await;
        Ok(scene)
    }

    pub(crate) async fn delete(&self, account: AccountId, name: SceneName, if_match: IfMatch) -> Result<(), Error> {
        self.store.delete_scene(account, name, if_match).await?;
        events::scene_deleted(account, name);
        self.dashboards.wrote(account).await;
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
            let should = "must name each scene of the project once, and no other";
            return Err(Invalid::field("scenes", SCHEMA, should).into());
        };
        self.dashboards.wrote(account).await;
        Ok(scenes)
    }
}
