//! What happened to a generation's job.

use domain::id::{AccountId, GenerationId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{KIND, Store};
use crate::error::Error;

/// One line of a job's history.
#[derive(sqlx::FromRow)]
pub(crate) struct Event {
    /// Rises with every line.
    pub(crate) id: i64,
    pub(crate) at: OffsetDateTime,
    pub(crate) from_state: String,
    pub(crate) to_state: String,
    pub(crate) attempt: i32,
    pub(crate) cause: String,
}

impl Store {
    /// Up to `limit` lines after the line `after`, oldest first. What is for operators only is left out.
    pub(crate) async fn history(
        &self,
        account: AccountId,
        id: GenerationId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Event>, Error> {
        let query = sqlx::query_as(
            "select e.id, e.at, coalesce(e.from_state, '') as from_state, e.to_state, e.attempt,
                    coalesce(e.cause, '') as cause
             from jobs j join job_events e on e.job_id = j.id
             where j.account_id = $1 and j.id = $2 and j.kind = $3 and e.id > $4
             order by e.id limit $5",
        )
        .bind(account.0)
        .bind(id.0)
        .bind(KIND)
        .bind(after)
        .bind(limit);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        Ok(self.pools.read.run("list_generation_events", run).await?)
    }
}
