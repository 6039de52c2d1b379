//! Takes: which generation of a scene was chosen to stand for it.
//!
//! Invariant: a scene's take is a COMPLETED generation of it that is not deleted. A choice locks the scene before it looks at the
//! generation, and a deletion before it makes a tombstone, so that whichever comes second sees the other.

use chassis::postgres::statement;
use domain::generation::State;
use domain::id::{AccountId, GenerationId};
use domain::name::SceneName;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use crate::error::{Error, Noun};

impl Store {
    /// Makes a generation the take of a scene, or leaves the scene without one. Nothing is written where it is so already.
    pub(crate) async fn set_take(
        &self,
        account: AccountId,
        scene: SceneName,
        chosen: Option<GenerationId>,
    ) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_scalar::<_, Option<Uuid>>(
                "select s.take_generation
                 from scenes s join projects p on p.account_id = s.account_id and p.id = s.project_id
                 where s.account_id = $1 and s.project_id = $2 and s.id = $3
                   and s.delete_time is null and p.delete_time is null
                 for no key update of s",
            )
            .bind(account.0)
            .bind(scene.project.0)
            .bind(scene.scene.0);
            let take = statement("lock_scene", query.fetch_optional(&mut *tx)).await?;
            if take.ok_or(Error::NotFound(Noun::Scene))? == chosen.map(|id| id.0) {
                return Ok(());
            }
            match chosen {
                Some(id) => choose(tx, account, scene, id).await,
                None => clear_take(tx, account, scene.scene.0).await,
            }
        };
        self.pools.write.transaction_of(account.0, "set_take", run).await
    }
}

/// Makes a generation the take of its scene, which is locked.
async fn choose(tx: &mut PgConnection, account: AccountId, scene: SceneName, id: GenerationId) -> Result<(), Error> {
    let query = sqlx::query(
        "update scenes s set take_generation = g.id, take_thumbnail = g.thumbnail, take_thumbhash = g.thumbhash
         from generations g
         where g.account_id = $1 and g.id = $3 and g.scene_id = $2 and g.state = $4 and g.delete_time is null
           and s.account_id = g.account_id and s.id = g.scene_id",
    )
    .bind(account.0)
    .bind(scene.scene.0)
    .bind(id.0)
    .bind(State::Completed.number());
    if statement("choose_take", query.execute(&mut *tx)).await?.rows_affected() > 0 {
        return Ok(());
    }
    let query = sqlx::query_scalar(
        "select exists (select from generations where account_id = $1 and id = $2 and delete_time is null)",
    )
    .bind(account.0)
    .bind(id.0);
    match statement("find_generation", query.fetch_one(&mut *tx)).await? {
        true => Err(Error::NotATake),
        false => Err(Error::NotFound(Noun::Generation)),
    }
}

/// Leaves a scene without a take.
pub(super) async fn clear_take(tx: &mut PgConnection, account: AccountId, scene: Uuid) -> Result<(), Error> {
    let query = sqlx::query(
        "update scenes set take_generation = null, take_thumbnail = null, take_thumbhash = null where account_id = $1 and id = $2",
    )
    .bind(account.0)
    .bind(scene);
    statement("clear_take", query.execute(&mut *tx)).await?;
    Ok(())
}
