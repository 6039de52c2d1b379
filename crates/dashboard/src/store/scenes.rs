//! Statements on scenes. The `latest_*` and `take_*` columns belong to generation-status: read here and never written.
//!
//! Invariant: `projects.scene_count` changes in the transaction that adds or deletes a scene. A project is locked before its
//! scenes, as generation-status does, and scenes in the order of their ids, so that no two wait for each other.

use std::collections::BTreeMap;

use chassis::postgres::statement;
use domain::id::{AccountId, GenerationId, ProjectId, SceneId};
use domain::name::SceneName;
use domain::page::Page;
use sqlx::FromRow;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::deletion::end_generations;
use super::{Store, trace};
use crate::error::{Error, Noun};
use crate::etag::IfMatch;
use crate::idempotency::IdempotencyKey;
use crate::model::{CreatedScene, MAX_SCENES, NewScene, Scene, SceneChange};

/// The columns that a [`Row`] is read from, besides its project, of a table or subquery called `s`.
macro_rules! columns {
    () => {
        "s.id, s.title, s.script, s.labels, s.position, s.version, s.latest_generation, s.take_generation, s.create_time, s.update_time"
    };
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    project_id: Uuid,
    title: String,
    script: String,
    labels: Json<BTreeMap<String, String>>,
    position: i32,
    version: i64,
    latest_generation: Option<Uuid>,
    take_generation: Option<Uuid>,
    create_time: OffsetDateTime,
    update_time: OffsetDateTime,
}

impl From<Row> for Scene {
    fn from(row: Row) -> Self {
        Self {
            name: SceneName { project: ProjectId(row.project_id), scene: SceneId(row.id) },
            title: row.title,
            script: row.script,
            labels: row.labels.0,
            position: row.position,
            version: row.version,
            latest_generation: row.latest_generation.map(GenerationId),
            take: row.take_generation.map(GenerationId),
            create_time: row.create_time,
            update_time: row.update_time,
        }
    }
}

#[derive(FromRow)]
struct Requested {
    #[sqlx(flatten)]
    scene: Row,
    request_sha256: Vec<u8>,
}

/// A scene of a project, or a row without one, which says that the project is there and has none.
#[derive(FromRow)]
struct ListRow {
    id: Option<Uuid>,
    project_id: Uuid,
    title: Option<String>,
    script: Option<String>,
    labels: Option<Json<BTreeMap<String, String>>>,
    position: Option<i32>,
    version: Option<i64>,
    latest_generation: Option<Uuid>,
    take_generation: Option<Uuid>,
    create_time: Option<OffsetDateTime>,
    update_time: Option<OffsetDateTime>,
}

impl ListRow {
    fn scene(self) -> Option<Scene> {
        let row = Row {
            id: self.id?,
            project_id: self.project_id,
            title: self.title?,
            script: self.script?,
            labels: self.labels?,
            position: self.position?,
            version: self.version?,
            latest_generation: self.latest_generation,
            take_generation: self.take_generation,
            create_time: self.create_time?,
            update_time: self.update_time?,
        };
        Some(row.into())
    }
}

/// A scene after a reorder, or a row without one, which says whether the ids given were the project's scenes.
#[derive(FromRow)]
struct ReorderRow {
    fits: bool,
    #[sqlx(flatten)]
    scene: ListRow,
}

impl Store {
    /// Adds a scene at the end of its project, or finds the one that the same request created.
    pub(crate) async fn create_scene(
        &self,
        account: AccountId,
        name: SceneName,
        new: &NewScene,
        key: Option<IdempotencyKey>,
    ) -> Result<CreatedScene, Error> {
        self.write
            .transaction_of(account.0, "create_scene", async |tx| {
                // Without the lock two scenes that are added at once would get one position.
                let count = lock_project(tx, account, name.project).await?.ok_or(Error::NotFound(Noun::Project))?;
                let inserted = match count {
                    MAX_SCENES.. => None,
                    _ => insert(tx, account, name, new, key).await?,
                };
                match (inserted, key) {
                    (Some(scene), _) => Ok(CreatedScene::New(scene)),
                    (None, Some(key)) => match scene_by_request(tx, account, key.request_id).await? {
                        Some((scene, body_sha256)) => Ok(CreatedScene::Existing { scene, body_sha256 }),
                        None => Err(Error::ProjectFull),
                    },
                    (None, None) => Err(Error::ProjectFull),
                }
            })
            .await
    }

    /// One scene of a project that is not deleted.
    pub(crate) async fn scene(&self, account: AccountId, name: SceneName) -> Result<Scene, Error> {
        let row = self.read.run("get_scene", async |connection| {
            sqlx::query_as::<_, Row>(concat!(
                "select s.project_id, ",
                columns!(),
                " from scenes s
                   join projects p on p.account_id = s.account_id and p.id = s.project_id and p.delete_time is null
                  where s.account_id = $1 and s.project_id = $2 and s.id = $3 and s.delete_time is null",
            ))
            .bind(account.0)
            .bind(name.project.0)
            .bind(name.scene.0)
            .fetch_optional(connection)
            .await
        });
        row.await?.map(Scene::from).ok_or(Error::NotFound(Noun::Scene))
    }

    /// The scenes of a page and one more, by position. They are the account's because their project is: `scenes_project`
    /// holds that.
    pub(crate) async fn scenes(&self, account: AccountId, project: ProjectId, page: Page) -> Result<Vec<Scene>, Error> {
        let (position, id) = page.start();
        let rows = self.read.run("list_scenes", async |connection| {
            sqlx::query_as::<_, ListRow>(concat!(
                "select p.id as project_id, ",
                columns!(),
                " from projects p
                   left join lateral (
                        select * from scenes s
                         where s.project_id = p.id and s.delete_time is null
                           and (s.position, s.id) > ($3, $4)
                         order by s.position, s.id
                         limit $5) s on true
                  where p.account_id = $1 and p.id = $2 and p.delete_time is null
                  order by s.position, s.id",
            ))
            .bind(account.0)
            .bind(project.0)
            .bind(position)
            .bind(id)
            .bind(page.rows())
            .fetch_all(connection)
            .await
        });
        page_of_scenes(rows.await?)
    }

    /// Changes the title, the script and the labels of a scene, where `change` has them.
    pub(crate) async fn update_scene(
        &self,
        account: AccountId,
        name: SceneName,
        change: &SceneChange,
        if_match: IfMatch,
    ) -> Result<Scene, Error> {
        let row = self.write.run("update_scene", async |connection| {
            sqlx::query_as::<_, Row>(concat!(
                "update scenes s
                    set title = coalesce($4, s.title), script = coalesce($5, s.script), labels = coalesce($8, s.labels),
                        version = s.version + 1, update_time = now()
                   from projects p, set_config('rushes.traceparent', $7, true)
                  where s.account_id = $1 and s.project_id = $2 and s.id = $3 and s.delete_time is null
                    and p.account_id = $1 and p.id = $2 and p.delete_time is null
                    and ($6::bigint is null or s.version = $6)
                 returning s.project_id, ",
                columns!(),
            ))
            .bind(account.0)
            .bind(name.project.0)
            .bind(name.scene.0)
            .bind(change.title.as_deref())
            .bind(change.script.as_deref())
            .bind(if_match.version())
            .bind(trace())
            .bind(change.labels.as_ref().map(Json))
            .fetch_optional(connection)
            .await
        });
        match row.await? {
            Some(row) => Ok(row.into()),
            None => Err(self.explain_unchanged_scene(account, name).await),
        }
    }

    /// Marks a scene as deleted, takes it off its project's count and enqueues the end of its generations.
    pub(crate) async fn delete_scene(
        &self,
        account: AccountId,
        name: SceneName,
        if_match: IfMatch,
    ) -> Result<(), Error> {
        let deleted = self.write.transaction_of(account.0, "delete_scene", async |tx| {
            lock_project(tx, account, name.project).await?.ok_or(Error::NotFound(Noun::Scene))?;
            let lock = sqlx::query(
                "select from scenes
                  where account_id = $1 and project_id = $2 and id = $3 and delete_time is null
                    -- Not weaker: a start holds the row for key share while it checks that the scene is not deleted, and
                    -- only this lock waits for it. The job then finds the generation.
                    for update",
            )
            .bind(account.0)
            .bind(name.project.0)
            .bind(name.scene.0)
            .execute(&mut *tx);
            statement("lock_scene", lock).await?;
            let mark = sqlx::query_scalar::<_, i64>(
                "with marked as (
                    update scenes s
                       set delete_time = now(), update_time = now(), version = s.version + 1
                      from set_config('rushes.traceparent', $5, true)
                     where s.account_id = $1 and s.project_id = $2 and s.id = $3 and s.delete_time is null
                       and ($4::bigint is null or s.version = $4)
                    returning s.version
                 )
                 update projects p set scene_count = p.scene_count - 1
                   from marked
                  where p.account_id = $1 and p.id = $2
                 returning marked.version",
            )
            .bind(account.0)
            .bind(name.project.0)
            .bind(name.scene.0)
            .bind(if_match.version())
            .bind(trace())
            .fetch_optional(&mut *tx);
            let version = statement("mark_scene", mark).await?;
            if let Some(version) = version {
                end_generations(tx, account, &name.to_string(), version).await?;
            }
            Ok::<_, Error>(version.is_some())
        });
        match deleted.await? {
            true => Ok(()),
            false => Err(self.explain_unchanged_scene(account, name).await),
        }
    }

    /// Puts the scenes of a project into the order of `ids`, which must not repeat one; `None`, with nothing changed, when
    /// they are not exactly the project's scenes.
    pub(crate) async fn reorder_scenes(
        &self,
        account: AccountId,
        project: ProjectId,
        ids: &[Uuid],
    ) -> Result<Option<Vec<Scene>>, Error> {
        let rows = self.write.run("reorder_scenes", async |connection| {
            sqlx::query_as::<_, ReorderRow>(concat!(
                "with project as (
                    select p.id from projects p, set_config('rushes.traceparent', $4, true)
                     where p.account_id = $1 and p.id = $2 and p.delete_time is null
                 ), present as materialized (
                    -- Locked in one order, so that two reorders wait for each other instead of deadlocking.
                    select s.id from scenes s
                     where s.account_id = $1 and s.project_id in (select id from project) and s.delete_time is null
                     order by s.id
                       for no key update
                 ), named as (
                    select id, (place - 1)::integer as position from unnest($3::uuid[]) with ordinality as t (id, place)
                 ), compared as (
                    select coalesce(bool_and(present.id is not null and named.id is not null), true) as fits
                      from present full join named on named.id = present.id
                 ), moved as (
                    update scenes s
                       set position = named.position,
                           version = s.version + (s.position <> named.position)::integer,
                           update_time = case when s.position <> named.position then now() else s.update_time end
                      from named, compared
                     where s.account_id = $1 and s.project_id = $2 and s.id = named.id and compared.fits
                    returning ",
                columns!(),
                ")
                 select compared.fits, project.id as project_id, ",
                columns!(),
                " from project cross join compared left join moved s on true
                  order by s.position",
            ))
            .bind(account.0)
            .bind(project.0)
            .bind(ids)
            .bind(trace())
            .fetch_all(connection)
            .await
        });
        let rows = rows.await?;
        let fits = rows.first().ok_or(Error::NotFound(Noun::Project))?.fits;
        Ok(fits.then(|| rows.into_iter().filter_map(|row| row.scene.scene()).collect()))
    }

    /// Why a conditional write changed nothing: the scene is not there, or it is there in another version.
    async fn explain_unchanged_scene(&self, account: AccountId, name: SceneName) -> Error {
        match self.scene(account, name).await {
            Ok(_) => Error::EtagMismatch,
            Err(error) => error,
        }
    }
}

/// The scenes of a listing. No row at all says that the project is not there; a row without a scene, that the page is empty.
fn page_of_scenes(rows: Vec<ListRow>) -> Result<Vec<Scene>, Error> {
    if rows.is_empty() {
        return Err(Error::NotFound(Noun::Project));
    }
    Ok(rows.into_iter().filter_map(ListRow::scene).collect())
}

/// Locks a project against changes of its set of scenes and returns their number; `None` when it is not there.
async fn lock_project(
    tx: &mut sqlx::PgConnection,
    account: AccountId,
    project: ProjectId,
) -> Result<Option<i32>, Error> {
    let lock = sqlx::query_scalar::<_, i32>(
        "select scene_count from projects
          where account_id = $1 and id = $2 and delete_time is null
            for no key update",
    )
    .bind(account.0)
    .bind(project.0)
    .fetch_optional(tx);
    Ok(statement("lock_project", lock).await?)
}

/// Inserts a scene after the last one and counts it; `None` when the request created one before.
async fn insert(
    tx: &mut sqlx::PgConnection,
    account: AccountId,
    name: SceneName,
    new: &NewScene,
    key: Option<IdempotencyKey>,
) -> Result<Option<Scene>, Error> {
    let insert = sqlx::query_as::<_, Row>(concat!(
        "with made as (
            insert into scenes as s (id, account_id, project_id, title, script, labels, position, request_id, request_sha256)
            select $1, $2, $3, $4, $5, $9, coalesce(last.position + 1, 0), $6, $7
              from set_config('rushes.traceparent', $8, true), (
                    select max(others.position) as position from scenes others
                     where others.project_id = $3 and others.delete_time is null) last
            on conflict on constraint scenes_request do nothing
            returning s.project_id, ",
        columns!(),
        "), counted as (
            update projects p set scene_count = p.scene_count + 1
              from made
             where p.account_id = $2 and p.id = made.project_id
         )
         select * from made",
    ))
    .bind(name.scene.0)
    .bind(account.0)
    .bind(name.project.0)
    .bind(&new.title)
    .bind(&new.script)
    .bind(key.map(|key| key.request_id))
    .bind(key.map(|key| key.body_sha256.to_vec()))
    .bind(trace())
    .bind(Json(&new.labels))
    .fetch_optional(tx);
    Ok(statement("insert_scene", insert).await?.map(Scene::from))
}

/// The scene that a request created, deleted or not, with the hash of that request's body.
async fn scene_by_request(
    tx: &mut sqlx::PgConnection,
    account: AccountId,
    request: Uuid,
) -> Result<Option<(Scene, Vec<u8>)>, Error> {
    let found = sqlx::query_as::<_, Requested>(concat!(
        "select s.request_sha256, s.project_id, ",
        columns!(),
        " from scenes s
          where s.account_id = $1 and s.request_id = $2",
    ))
    .bind(account.0)
    .bind(request)
    .fetch_optional(tx);
    Ok(statement("scene_by_request", found).await?.map(|row| (row.scene.into(), row.request_sha256)))
}
