//! Which part of the storage is looked through next for objects that no row names, and how young they may be.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Store;
use crate::error::Error;

/// A part of the storage that is to be looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The first byte of the names in it.
    pub(crate) first: u8,
    /// Only what was stored before this may be removed.
    pub(crate) before: OffsetDateTime,
}

impl Store {
    /// The next part, unless one was taken, by whichever process, within `pause`. What is younger than `min_age`, or than the oldest
    /// order whose output is being brought home, may not be removed: it can be stored and not registered yet.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn claim_part(&self, pause: Duration, min_age: Duration) -> Result<Option<Part>, Error> {
        let work = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, (i16, OffsetDateTime)>(
                "with claimed as (
                     update storage_scan set part = (part + 1) % 256, claim_time = now()
                     where claim_time <= now() - make_interval(secs => $1)
                     returning part
                 )
                 select part, least(now() - make_interval(secs => $2), (
                     select min(coalesce(start_time, create_time)) from generations
                     where end_time is null and state = 4 /* FINALIZING */
                 ))
                 from claimed",
            )
            .bind(pause.as_secs_f64())
            .bind(min_age.as_secs_f64());
            let claimed = statement("claim_storage_part", query.fetch_optional(tx)).await?;
            Ok::<_, Error>(claimed.map(|(part, before)| Part { first: part.to_le_bytes()[0], before }))
        };
        self.pool.transaction("claim_storage_part", work).await
    }
}
