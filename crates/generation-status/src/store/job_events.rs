//! The history of a generation's job.

use domain::id::{AccountId, GenerationId};
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;

use super::Store;
use crate::error::Error;
use crate::model::{GENERATION_JOBS, JobEvent};

#[derive(FromRow)]
struct Row {
    id: i64,
    at: OffsetDateTime,
    from_state: String,
    to_state: String,
    attempt: i32,
    cause: String,
}

impl From<Row> for JobEvent {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            time: row.at,
            from_state: row.from_state,
            to_state: row.to_state,
            attempt: row.attempt,
            cause: row.cause,
        }
    }
}

impl Store {
    /// Up to `limit` lines after the line `after`, oldest first, without the details that are for operators.
    pub(crate) async fn job_events(
        &self,
        account: AccountId,
        id: GenerationId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<JobEvent>, Error> {
        let query = sqlx::query_as::<_, Row>(
            "select e.id, e.at, coalesce(e.from_state, '') as from_state, e.to_state, e.attempt,
                    coalesce(e.cause, '') as cause
             from jobs j
             join generations g on g.account_id = j.account_id and g.id = j.id and g.delete_time is null
             join job_events e on e.job_id = j.id
             where j.account_id = $1 and j.id = $2 and j.kind = $3 and e.id > $4
             order by e.id limit $5",
        )
        .bind(account.0)
        .bind(id.0)
        .bind(GENERATION_JOBS)
        .bind(after)
        .bind(limit);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.read.run("list_generation_events", run).await?;
        Ok(rows.into_iter().map(JobEvent::from).collect())
    }
}
