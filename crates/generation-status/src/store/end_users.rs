//! End users: what they may spend, and what they have. What is held and spent is written by triggers alone.

use domain::id::{AccountId, EndUserId};
use domain::money::Micros;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};

use super::Store;
use crate::error::{Error, Noun};
use crate::model::{EndUser, Period};

/// The constraint by which a trigger refuses a start.
pub(super) const LIMIT: &str = "end_users_limit";

/// The columns that an [`EndUser`] is read from, of a table called `u`.
macro_rules! end_user_columns {
    () => {
        "u.id, u.end_user, u.limit_micros, u.period, u.held_micros, end_user_spent(u) as spent_micros, u.total_micros, u.create_time"
    };
}

impl FromRow<'_, PgRow> for EndUser {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: Some(EndUserId(row.try_get("id")?)),
            name: row.try_get("end_user")?,
            limit: row.try_get::<Option<i64>, _>("limit_micros")?.map(Micros::new),
            period: row.try_get("period")?,
            held: Micros::new(row.try_get("held_micros")?),
            spent: Micros::new(row.try_get("spent_micros")?),
            total: Micros::new(row.try_get("total_micros")?),
            create_time: row.try_get("create_time")?,
        })
    }
}

impl Store {
    /// An end user of an account; `None` for one who had no generation and no limit yet.
    pub(crate) async fn end_user(&self, account: AccountId, name: &str) -> Result<Option<EndUser>, Error> {
        let query = sqlx::query_as(concat!(
            "select ",
            end_user_columns!(),
            " from end_users u where u.account_id = $1 and u.end_user = $2"
        ))
        .bind(account.0)
        .bind(name);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        Ok(self.pools.read.run("get_end_user", run).await?)
    }

    /// Up to `limit` end users of an account that are older than `before`, the newest first.
    pub(crate) async fn end_users(
        &self,
        account: AccountId,
        before: EndUserId,
        limit: i64,
    ) -> Result<Vec<EndUser>, Error> {
        let query = sqlx::query_as(concat!(
            "select ",
            end_user_columns!(),
            " from end_users u where u.account_id = $1 and u.id < $2 order by u.id desc limit $3"
        ))
        .bind(account.0)
        .bind(before.0)
        .bind(limit);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        Ok(self.pools.read.run("list_end_users", run).await?)
    }

    /// Limits what an end user may spend; `None` removes the limit.
    pub(crate) async fn set_end_user_limit(
        &self,
        account: AccountId,
        name: &str,
        limit: Option<Micros>,
        period: Period,
    ) -> Result<EndUser, Error> {
        let query = sqlx::query_as(concat!(
            "insert into end_users as u (account_id, end_user, limit_micros, period, last_day)
             values ($1, $2, $3, $4, utc_day(now()))
             on conflict (account_id, end_user) do update
                 set limit_micros = excluded.limit_micros, period = excluded.period
             returning ",
            end_user_columns!()
        ))
        .bind(account.0)
        .bind(name)
        .bind(limit.map(Micros::get))
        .bind(period as i16);
        let run = async |connection: &mut PgConnection| query.fetch_one(connection).await;
        match self.pools.write.run("set_end_user_limit", run).await {
            Err(error) if error.constraint() == Some("end_users_account_id_fkey") => {
                Err(Error::NotFound(Noun::Account))
            }
            result => Ok(result?),
        }
    }

    /// Whether a start at this price would keep within the end user's limit now.
    pub(super) async fn check_end_user(&self, account: AccountId, name: &str, price: Micros) -> Result<(), Error> {
        let end_user = if name.is_empty() { None } else { self.end_user(account, name).await? };
        match end_user.as_ref().and_then(EndUser::limit_and_left) {
            Some((limit, left)) if left < price => Err(Error::EndUserLimit { price, left: Some((limit, left)) }),
            _ => Ok(()),
        }
    }

    /// Says what is left of the limit for which a start was refused; any other error as it is.
    pub(super) async fn explain_limit(&self, account: AccountId, name: &str, error: Error) -> Error {
        let Error::EndUserLimit { price, left: None } = error else { return error };
        let end_user = self.end_user(account, name).await.ok().flatten();
        Error::EndUserLimit { price, left: end_user.as_ref().and_then(EndUser::limit_and_left) }
    }
}
