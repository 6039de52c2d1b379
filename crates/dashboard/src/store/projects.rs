//! Statements on projects. `completed_count` and `completed_cost_micros` are read here and never written.

use std::collections::BTreeMap;

use chassis::postgres::statement;
use domain::id::{AccountId, ProjectId};
use domain::money::Micros;
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
use crate::model::{NewProject, Project, ProjectChange};

/// The columns that a [`Row`] is read from.
macro_rules! columns {
    () => {
        "id, title, description, labels, scene_count, completed_count, completed_cost_micros, version, create_time, update_time"
    };
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    title: String,
    description: String,
    labels: Json<BTreeMap<String, String>>,
    scene_count: i32,
    completed_count: i64,
    completed_cost_micros: i64,
    version: i64,
    create_time: OffsetDateTime,
    update_time: OffsetDateTime,
}

impl From<Row> for Project {
    fn from(row: Row) -> Self {
        Self {
            id: ProjectId(row.id),
            title: row.title,
            description: row.description,
            labels: row.labels.0,
            scene_count: row.scene_count,
            completed_count: row.completed_count,
            completed_cost: Micros::new(row.completed_cost_micros),
            version: row.version,
            create_time: row.create_time,
            update_time: row.update_time,
        }
    }
}

#[derive(FromRow)]
struct Requested {
    #[sqlx(flatten)]
    project: Row,
    request_sha256: Vec<u8>,
}

impl Store {
    /// Inserts a project; `None` when the request created one before, or when there is no such account.
    pub(crate) async fn create_project(
        &self,
        account: AccountId,
        id: ProjectId,
        new: &NewProject,
        key: Option<IdempotencyKey>,
    ) -> Result<Option<Project>, Error> {
        let row = self.write.run("create_project", async |connection| {
            sqlx::query_as::<_, Row>(concat!(
                "insert into projects (id, account_id, title, description, labels, request_id, request_sha256)
                 select $1, a.id, $3, $4, $8, $5, $6
                   from accounts a, set_config('rushes.traceparent', $7, true)
                  where a.id = $2
                 on conflict on constraint projects_request do nothing
                 returning ",
                columns!(),
            ))
            .bind(id.0)
            .bind(account.0)
            .bind(&new.title)
            .bind(&new.description)
            .bind(key.map(|key| key.request_id))
            .bind(key.map(|key| key.body_sha256.to_vec()))
            .bind(trace())
            .bind(Json(&new.labels))
            .fetch_optional(connection)
            .await
        });
        Ok(row.await?.map(Project::from))
    }

    /// The project that a request created, deleted or not, with the hash of that request's body.
    pub(crate) async fn project_by_request(
        &self,
        account: AccountId,
        request: Uuid,
    ) -> Result<Option<(Project, Vec<u8>)>, Error> {
        let row = self.write.run("project_by_request", async |connection| {
            sqlx::query_as::<_, Requested>(concat!(
                "select request_sha256, ",
                columns!(),
                " from projects
                  where account_id = $1 and request_id = $2",
            ))
            .bind(account.0)
            .bind(request)
            .fetch_optional(connection)
            .await
        });
        Ok(row.await?.map(|found| (found.project.into(), found.request_sha256)))
    }

    /// One project.
    pub(crate) async fn project(&self, account: AccountId, id: ProjectId) -> Result<Project, Error> {
        let row = self.read.run("get_project", async |connection| {
            sqlx::query_as::<_, Row>(concat!(
                "select ",
                columns!(),
                " from projects
                  where account_id = $1 and id = $2 and delete_time is null",
            ))
            .bind(account.0)
            .bind(id.0)
            .fetch_optional(connection)
            .await
        });
        row.await?.map(Project::from).ok_or(Error::NotFound(Noun::Project))
    }

    /// The projects of a page and one more, from new to old.
    pub(crate) async fn projects(&self, account: AccountId, page: Page) -> Result<Vec<Project>, Error> {
        let rows = self.read.run("list_projects", async |connection| {
            sqlx::query_as::<_, Row>(concat!(
                "select ",
                columns!(),
                " from projects
                  where account_id = $1 and delete_time is null and id < $2
                  order by id desc
                  limit $3",
            ))
            .bind(account.0)
            .bind(page.below())
            .bind(page.rows())
            .fetch_all(connection)
            .await
        });
        Ok(rows.await?.into_iter().map(Project::from).collect())
    }

    /// Changes the title, the description and the labels of a project, where `change` has them.
    pub(crate) async fn update_project(
        &self,
        account: AccountId,
        id: ProjectId,
        change: &ProjectChange,
        if_match: IfMatch,
    ) -> Result<Project, Error> {
        let row = self.write.run("update_project", async |connection| {
            sqlx::query_as::<_, Row>(concat!(
                "update projects
                    set title = coalesce($3, title), description = coalesce($4, description), labels = coalesce($7, labels),
                        version = version + 1, update_time = now()
                   from set_config('rushes.traceparent', $6, true)
                  where account_id = $1 and id = $2 and delete_time is null and ($5::bigint is null or version = $5)
                 returning ",
                columns!(),
            ))
            .bind(account.0)
            .bind(id.0)
            .bind(change.title.as_deref())
            .bind(change.description.as_deref())
            .bind(if_match.version())
            .bind(trace())
            .bind(change.labels.as_ref().map(Json))
            .fetch_optional(connection)
            .await
        });
        match row.await? {
            Some(row) => Ok(row.into()),
            None => Err(self.explain_unchanged_project(account, id).await),
        }
    }

    /// Marks a project as deleted and enqueues the end of its generations. The mark hides its scenes too: every read of a scene
    /// also reads its project.
    pub(crate) async fn delete_project(
        &self,
        account: AccountId,
        id: ProjectId,
        if_match: IfMatch,
    ) -> Result<(), Error> {
        let deleted = self.write.transaction_of(account.0, "delete_project", async |tx| {
            let lock = sqlx::query(
                "select from projects
                  where account_id = $1 and id = $2 and delete_time is null
                    -- Not weaker: a start holds the row for key share while it checks that the project is not deleted, and
                    -- only this lock waits for it. The job then finds the generation.
                    for update",
            )
            .bind(account.0)
            .bind(id.0)
            .execute(&mut *tx);
            statement("lock_project", lock).await?;
            let mark = sqlx::query_scalar::<_, i64>(
                "update projects
                    set delete_time = now(), update_time = now(), version = version + 1
                   from set_config('rushes.traceparent', $4, true)
                  where account_id = $1 and id = $2 and delete_time is null and ($3::bigint is null or version = $3)
                 returning version",
            )
            .bind(account.0)
            .bind(id.0)
            .bind(if_match.version())
            .bind(trace())
            .fetch_optional(&mut *tx);
            let version = statement("mark_project", mark).await?;
            if let Some(version) = version {
                end_generations(tx, account, &id.name(), version).await?;
            }
            Ok::<_, Error>(version.is_some())
        });
        match deleted.await? {
            true => Ok(()),
            false => Err(self.explain_unchanged_project(account, id).await),
        }
    }

    /// Why a conditional write changed nothing: the project is not there, or it is there in another version.
    async fn explain_unchanged_project(&self, account: AccountId, id: ProjectId) -> Error {
        let exists = self.write.run("project_exists", async |connection| {
            sqlx::query_scalar::<_, bool>(
                "select exists (select from projects where account_id = $1 and id = $2 and delete_time is null)",
            )
            .bind(account.0)
            .bind(id.0)
            .fetch_one(connection)
            .await
        });
        match exists.await {
            Ok(true) => Error::EtagMismatch,
            Ok(false) => Error::NotFound(Noun::Project),
            Err(error) => error.into(),
        }
    }
}
