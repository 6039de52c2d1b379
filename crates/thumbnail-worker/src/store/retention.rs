//! Rows that are over: jobs of thumbnails, and assets that nothing uses.

use std::time::Duration;

use domain::id::AccountId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use super::payload::KIND;
use crate::error::Error;

/// Assets of one batch that no generation uses.
#[derive(Clone, Debug)]
pub(crate) struct Unused {
    pub(crate) unused: Vec<(AccountId, [u8; 32])>,
    /// Behind which the next batch begins; `None` when this was the last one.
    pub(crate) next: Option<(OffsetDateTime, Uuid)>,
}

impl Store {
    /// Deletes jobs that ended longer ago than `age`, of up to `limit` behind `after`; returns where the next batch begins.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn delete_ended_jobs(&self, age: Duration, after: Uuid, limit: u32) -> Result<Uuid, Error> {
        let work = async |tx: &mut PgConnection| {
            Ok::<_, Error>(jobs::delete_ended(tx, &[(KIND, age)], after, limit).await?.next)
        };
        self.pool.transaction("delete_ended_jobs", work).await
    }

    /// Of up to `limit` assets behind `after` that are older than `age`, those that nothing uses.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn unused_assets(
        &self,
        age: Duration,
        after: (OffsetDateTime, Uuid),
        limit: u32,
    ) -> Result<Unused, Error> {
        let query = sqlx::query_as::<_, (Uuid, Vec<u8>, OffsetDateTime, Uuid, bool)>(
            "select a.account_id, a.sha256, a.create_time, a.id,
                    exists (select from asset_uses u where u.account_id = a.account_id and u.sha256 = a.sha256)
             from assets a
             where a.create_time >= $2 and (a.create_time, a.id) > ($2, $3)
               and a.create_time < now() - make_interval(secs => $1)
             order by a.create_time, a.id limit $4",
        )
        .bind(age.as_secs_f64())
        .bind(after.0)
        .bind(after.1)
        .bind(i64::from(limit));
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pool.run("find_unused_assets", run).await?;
        let is_full = rows.len() as u64 == u64::from(limit);
        let next = rows.last().filter(|_| is_full).map(|(_, _, time, id, _)| (*time, *id));
        let unused = rows
            .into_iter()
            .filter(|(.., used)| !used)
            .filter_map(|(account, sha256, ..)| Some((AccountId(account), <[u8; 32]>::try_from(sha256).ok()?)));
        Ok(Unused { unused: unused.collect(), next })
    }
}
