//! Reads and cancels of generations.

use chassis::postgres;
use domain::id::{AccountId, GenerationId};
use domain::name::GenerationParent;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{FromRow, PgConnection, Postgres, Row};
use uuid::Uuid;

use super::Store;
use super::rows::columns;
use super::transitions::{StopBy, end, stop};
use crate::apart::apart;
use crate::error::{Error, Noun};
use crate::model::{Generation, Snapshot};
use crate::transitions::cancelled_in_queue;

impl Store {
    /// Generations of one account in any order, with the position of the snapshot for the cache.
    pub(crate) async fn load(&self, account: AccountId, ids: &[GenerationId]) -> Result<Snapshot, Error> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query(concat!(
            "select c.epoch, c.seq, ",
            columns!(),
            " from cache_clock c left join generations g
                 on g.account_id = $1 and g.id = any ($2) and g.delete_time is null
             where c.part = 0"
        ))
        .bind(account.0)
        .bind(ids);
        let run = async |connection: &mut PgConnection| {
            let rows = query.fetch_all(connection).await?;
            // The left join returns at least one row, without a generation where none was found.
            let clock = rows.first().ok_or(sqlx::Error::RowNotFound)?;
            let mut snapshot =
                Snapshot { epoch: clock.try_get("epoch")?, seq: clock.try_get("seq")?, generations: Vec::new() };
            for row in &rows {
                if row.try_get::<Option<Uuid>, _>("id")?.is_some() {
                    snapshot.generations.push(Generation::from_row(row)?);
                }
            }
            Ok(snapshot)
        };
        Ok(self.pools.read.run("load_generations", run).await?)
    }

    /// The generations of these ids that are the account's, in any order.
    pub(crate) async fn find(&self, account: AccountId, ids: &[GenerationId]) -> Result<Vec<Generation>, Error> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query(concat!(
            "select ",
            columns!(),
            " from generations g where g.account_id = $1 and g.id = any ($2) and g.delete_time is null"
        ))
        .bind(account.0)
        .bind(ids);
        self.read_generations("find_generations", query).await
    }

    /// The generations of these accounts and ids, in any order. For the hub, which reads for watchers of many accounts.
    pub(crate) async fn find_across_accounts(
        &self,
        wanted: &[(AccountId, GenerationId)],
    ) -> Result<Vec<Generation>, Error> {
        let (accounts, ids): (Vec<Uuid>, Vec<Uuid>) = wanted.iter().map(|(account, id)| (account.0, id.0)).unzip();
        let query = sqlx::query(concat!(
            "select ",
            columns!(),
            " from unnest($1::uuid[], $2::uuid[]) as wanted (account_id, id)
              join generations g on g.account_id = wanted.account_id and g.id = wanted.id and g.delete_time is null"
        ))
        .bind(accounts)
        .bind(ids);
        self.read_generations("find_generations_across_accounts", query).await
    }

    /// Up to `limit` generations of `parent` made before `before` and after `after`, newest first.
    pub(crate) async fn list(
        &self,
        account: AccountId,
        parent: GenerationParent,
        before: Option<GenerationId>,
        after: Option<GenerationId>,
        limit: i64,
    ) -> Result<Vec<Generation>, Error> {
        // Three statements instead of one with alternatives, so that each is read in the order of an index of its own.
        let (sql, of) = match parent {
            GenerationParent::Account => (
                concat!(
                    "select ",
                    columns!(),
                    " from generations g
                      where g.account_id = $1 and $2::uuid is null and g.id < $3 and g.id > $5
                        and g.delete_time is null
                      order by g.id desc limit $4"
                ),
                None,
            ),
            GenerationParent::Project(project) => (
                concat!(
                    "select ",
                    columns!(),
                    " from generations g
                      where g.account_id = $1 and g.project_id = $2 and g.id < $3 and g.id > $5
                        and g.delete_time is null
                      order by g.id desc limit $4"
                ),
                Some(project.0),
            ),
            GenerationParent::Scene(name) => (
                concat!(
                    "select ",
                    columns!(),
                    " from generations g
                      where g.account_id = $1 and g.scene_id = $2 and g.id < $3 and g.id > $5
                        and g.delete_time is null
                      order by g.id desc limit $4"
                ),
                Some(name.scene.0),
            ),
        };
        let query = sqlx::query(sql)
            .bind(account.0)
            .bind(of)
            .bind(before.map_or(Uuid::max(), |id| id.0))
            .bind(limit)
            .bind(after.map_or(Uuid::nil(), |id| id.0));
        let generations = self.read_generations("list_generations", query).await?;
        match (parent, generations.first()) {
            // A scene is in one project: a name that combines it with another project names nothing.
            (GenerationParent::Scene(name), Some(generation)) if generation.project != name.project => {
                Err(Error::NotFound(Noun::Scene))
            }
            _ => Ok(generations),
        }
    }

    /// Up to `limit` open generations of `parent`, newest first.
    pub(crate) async fn open(
        &self,
        account: AccountId,
        parent: GenerationParent,
        limit: i64,
    ) -> Result<Vec<Generation>, Error> {
        let (project, scene) = match parent {
            GenerationParent::Account => (None, None),
            GenerationParent::Project(project) => (Some(project.0), None),
            GenerationParent::Scene(name) => (Some(name.project.0), Some(name.scene.0)),
        };
        let query = sqlx::query(concat!(
            "select ",
            columns!(),
            " from generations g
              where g.account_id = $1 and g.end_time is null
                and ($2::uuid is null or g.project_id = $2) and ($3::uuid is null or g.scene_id = $3)
              order by g.id desc limit $4"
        ))
        .bind(account.0)
        .bind(project)
        .bind(scene)
        .bind(limit);
        self.read_generations("open_generations", query).await
    }

    /// The generations of a statement's rows.
    async fn read_generations(
        &self,
        statement: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<Generation>, Error> {
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.read.run(statement, run).await?;
        let made =
            apart(rows.len(), move || rows.iter().map(Generation::from_row).collect::<sqlx::Result<_>>()).await?;
        Ok(made.map_err(postgres::Error::from)?)
    }

    /// An error unless the account has, or had, this parent.
    pub(crate) async fn parent_exists(&self, account: AccountId, parent: GenerationParent) -> Result<(), Error> {
        let (query, noun) = match parent {
            GenerationParent::Account => return Ok(()),
            GenerationParent::Project(project) => (
                sqlx::query_scalar("select exists (select from projects where account_id = $1 and id = $2)")
                    .bind(account.0)
                    .bind(project.0),
                Noun::Project,
            ),
            GenerationParent::Scene(name) => (
                sqlx::query_scalar(
                    "select exists (select from scenes where account_id = $1 and id = $2 and project_id = $3)",
                )
                .bind(account.0)
                .bind(name.scene.0)
                .bind(name.project.0),
                Noun::Scene,
            ),
        };
        let run = async |connection: &mut PgConnection| query.fetch_one(connection).await;
        if self.pools.read.run("generation_parent_exists", run).await? { Ok(()) } else { Err(Error::NotFound(noun)) }
    }

    /// Cancels a queued generation and releases its hold. `None` when it is no longer queued in this version.
    pub(crate) async fn cancel_queued(&self, generation: &Generation) -> Result<Option<Generation>, Error> {
        let run = async |tx: &mut PgConnection| {
            if !jobs::cancel_queued(tx, generation.account.0, generation.id.0).await? {
                return Ok(None);
            }
            let version = Some(generation.version);
            let ended = end(tx, generation.account.0, generation.id.0, &cancelled_in_queue(), version).await?;
            // The job must not be cancelled without the generation, so the transaction is rolled back.
            ended.map(Some).ok_or(Rollback::Changed)
        };
        let account = generation.account.0;
        Rollback::into_option(self.pools.write.transaction_of(account, "cancel_queued", run).await)
    }

    /// Asks for a running generation to be stopped. `None` when it no longer runs in this version.
    pub(crate) async fn request_stop(&self, generation: &Generation) -> Result<Option<Generation>, Error> {
        let run = async |tx: &mut PgConnection| {
            if !jobs::request_cancel(tx, generation.account.0, generation.id.0).await? {
                return Ok(None);
            }
            let by = StopBy::User { version: generation.version };
            let asked = stop(tx, generation.account.0, generation.id.0, by).await?;
            asked.map(Some).ok_or(Rollback::Changed)
        };
        let account = generation.account.0;
        Rollback::into_option(self.pools.write.transaction_of(account, "cancel_running", run).await)
    }
}

/// Why a transaction is rolled back: the generation changed since it was read, or a statement failed.
enum Rollback {
    Changed,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Rollback {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Rollback {
    fn into_option<T>(result: Result<Option<T>, Self>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(value),
            Err(Self::Changed) => Ok(None),
            Err(Self::Failed(error)) => Err(error),
        }
    }
}
