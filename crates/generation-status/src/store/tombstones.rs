//! Deletions of generations that have ended.
//!
//! Invariant: a tombstone keeps what the ledger and the usage are counted by; its project's counters, its scene's copy and its scene's take
//! leave it out in the transaction that makes it one.

use chassis::postgres::statement;
use domain::id::{AccountId, GenerationId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::takes::clear_take;
use crate::error::{Error, Noun};

/// Makes a tombstone; its version. None where there is none to make.
const DELETE: &str = "
    with gone as (
        update generations g
        set delete_time = now(), update_time = now(), version = g.version + 1, prompt = '', input = '{}', labels = '{}',
            outputs = null, thumbnail = null, thumbhash = null, error_message = case when g.error_reason is not null then '' end, traceparent = ''
        where g.account_id = $1 and g.id = $2 and g.end_time is not null and g.delete_time is null
        returning g.*
    ),
    costed as (
        update projects p
        set completed_count = p.completed_count - 1, completed_cost_micros = p.completed_cost_micros - g.captured_micros
        from gone g
        where g.state = 6 /* COMPLETED */ and p.account_id = g.account_id and p.id = g.project_id
    ),
    shown as (
        update scenes s
        set latest_generation = l.id, latest_version = l.version, latest_state = l.state, latest_percent = l.percent,
            latest_stage = l.stage, latest_thumbnail = l.thumbnail, latest_thumbhash = l.thumbhash
        from gone g
        left join lateral (
            select * from generations
            where account_id = g.account_id and scene_id = g.scene_id and id <> g.id and delete_time is null
            order by id desc limit 1
        ) l on true
        where s.account_id = g.account_id and s.id = g.scene_id and s.latest_generation = g.id
    )
    select version from gone";

impl Store {
    /// Deletes a generation that has ended; returns the version of its tombstone.
    pub(crate) async fn delete(&self, account: AccountId, id: GenerationId) -> Result<i64, Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, (Uuid, Uuid, bool)>(
                "select project_id, scene_id, end_time is not null from generations
                 where account_id = $1 and id = $2 and delete_time is null",
            )
            .bind(account.0)
            .bind(id.0);
            let found = statement("find_generation", query.fetch_optional(&mut *tx)).await?;
            let (project, scene, ended) = found.ok_or(Error::NotFound(Noun::Generation))?;
            if !ended {
                return Err(Error::NotTerminal);
            }
            // Project and scene before the generation, against the order of all others: nobody else locks one that has ended. Two
            // deletions in one scene run one after the other, so that neither shows what the other deletes.
            let lock = sqlx::query("select from projects where account_id = $1 and id = $2 for no key update");
            statement("lock_project", lock.bind(account.0).bind(project).execute(&mut *tx)).await?;
            let lock = sqlx::query_scalar(
                "select take_generation is not distinct from $3 from scenes
                 where account_id = $1 and id = $2 for no key update",
            )
            .bind(account.0)
            .bind(scene)
            .bind(id.0);
            if statement("lock_scene", lock.fetch_one(&mut *tx)).await? {
                clear_take(tx, account, scene).await?;
            }
            let query = sqlx::query_scalar(DELETE).bind(account.0).bind(id.0);
            let version = statement("delete_generation", query.fetch_optional(&mut *tx)).await?;
            version.ok_or(Error::NotFound(Noun::Generation))
        };
        self.pools.write.transaction_of(account.0, "delete_generation", run).await
    }
}
