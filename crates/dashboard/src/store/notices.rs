//! Statements on notices.

use domain::id::{AccountId, NoticeId};
use sqlx::FromRow;
use uuid::Uuid;

use super::{Store, trace};
use crate::error::{Error, Noun};

#[derive(FromRow)]
struct Acknowledged {
    all_known: bool,
    unread: i64,
}

impl Store {
    /// Marks notices, none named twice, as read and counts the unread ones that are left, up to 1,000. A notice that the
    /// account does not have leaves all as they were.
    pub(crate) async fn acknowledge_notices(&self, account: AccountId, notices: &[NoticeId]) -> Result<i64, Error> {
        let ids: Vec<Uuid> = notices.iter().map(|notice| notice.0).collect();
        let row = self.write.run("acknowledge_notices", async |connection| {
            sqlx::query_as::<_, Acknowledged>(
                "with known as (
                    select count(*) = cardinality($2::uuid[]) as are_all
                      from notices n, set_config('rushes.traceparent', $3, true)
                     where n.account_id = $1 and n.id = any ($2)
                 ), marked as (
                    update notices n set read_time = now()
                      from known
                     where n.account_id = $1 and n.id = any ($2) and n.read_time is null and known.are_all
                    returning n.id
                 ), unread as (
                    select n.id from notices n
                     where n.account_id = $1 and n.read_time is null
                     limit 1000 + cardinality($2)
                 )
                 select known.are_all as all_known,
                        least(1000, (select count(*) from unread) - (select count(*) from marked)) as unread
                   from known",
            )
            .bind(account.0)
            .bind(&ids)
            .bind(trace())
            .fetch_one(connection)
            .await
        });
        let acknowledged = row.await?;
        if acknowledged.all_known { Ok(acknowledged.unread) } else { Err(Error::NotFound(Noun::Notice)) }
    }
}
