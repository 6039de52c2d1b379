//! Usage by day, model and end user, summed from the rows that triggers keep.

use domain::id::AccountId;
use domain::money::Micros;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use super::Store;
use crate::error::Error;
use crate::model::{UsagePage, UsageQuery, UsageRow};

impl FromRow<'_, PgRow> for UsageRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            day: row.try_get("day")?,
            model: row.try_get("model")?,
            end_user: row.try_get("end_user")?,
            started: row.try_get("started")?,
            completed: row.try_get("completed")?,
            failed: row.try_get("failed")?,
            cancelled: row.try_get("cancelled")?,
            expired: row.try_get("expired")?,
            captured: Micros::new(row.try_get("captured_micros")?),
            provider_cost_micros: row.try_get("provider_cost_micros")?,
        })
    }
}

impl Store {
    /// A page of an account's usage, with the sum over all pages.
    pub(crate) async fn usage(&self, account: AccountId, asked: &UsageQuery) -> Result<UsagePage, Error> {
        // The last row is the sum.
        let query = sqlx::query(
            "with groups as (
                 select case when $4 then day end as day, case when $5 then model end as model,
                        case when $6 then end_user end as end_user,
                        sum(started)::bigint as started, sum(completed)::bigint as completed, sum(failed)::bigint as failed,
                        sum(cancelled)::bigint as cancelled, sum(expired)::bigint as expired,
                        sum(captured_micros)::bigint as captured_micros,
                        sum(provider_cost_micros)::bigint as provider_cost_micros
                 from usage_daily
                 where account_id = $1 and day between coalesce($2, utc_day(now()) - 29) and coalesce($3, utc_day(now()))
                   and ($7::text is null or model = $7) and ($8::text is null or end_user = $8)
                 group by 1, 2, 3
             ),
             page as (select * from groups order by day, model, end_user limit $9 offset $10)
             select false as is_total, * from page
             union all
             select true, null, null, null, coalesce(sum(started), 0)::bigint, coalesce(sum(completed), 0)::bigint,
                    coalesce(sum(failed), 0)::bigint, coalesce(sum(cancelled), 0)::bigint, coalesce(sum(expired), 0)::bigint,
                    coalesce(sum(captured_micros), 0)::bigint, coalesce(sum(provider_cost_micros), 0)::bigint
             from groups
             order by is_total, day, model, end_user",
        )
        .bind(account.0)
        .bind(asked.days.map(|(first, _)| first))
        .bind(asked.days.map(|(_, last)| last))
        .bind(asked.group_by.day)
        .bind(asked.group_by.model)
        .bind(asked.group_by.end_user)
        .bind(asked.model.as_deref())
        .bind(asked.end_user.as_deref())
        .bind(asked.limit + 1)
        .bind(asked.offset);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.read.run("get_usage", run).await?;
        let mut page = UsagePage::default();
        for row in &rows {
            let usage = UsageRow::from_row(row).map_err(chassis::postgres::Error::from)?;
            match row.try_get("is_total").map_err(chassis::postgres::Error::from)? {
                true => page.total = usage,
                false => page.rows.push(usage),
            }
        }
        let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
        page.more = page.rows.len() > limit;
        page.rows.truncate(limit);
        Ok(page)
    }
}
