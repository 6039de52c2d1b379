//! Balances, and grants into them.

use domain::id::{AccountId, LedgerId};
use domain::money::Micros;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use crate::credits::Balance;
use crate::error::{Error, Noun};

/// What came of a grant.
pub(crate) enum Granted {
    /// The balance with it.
    New(Balance),
    /// The same request granted this much before.
    Before(Micros),
}

#[derive(sqlx::FromRow)]
struct Row {
    available_micros: i64,
    held_micros: i64,
    spent_micros: i64,
}

impl From<Row> for Balance {
    fn from(row: Row) -> Self {
        Self {
            available: Micros::new(row.available_micros),
            held: Micros::new(row.held_micros),
            spent: Micros::new(row.spent_micros),
        }
    }
}

impl Store {
    /// An account's balance; nothing while it was never given credits.
    pub(crate) async fn balance(&self, account: AccountId) -> Result<Option<Balance>, Error> {
        let query = sqlx::query_as::<_, Row>(
            "select available_micros, held_micros, spent_micros from credit_accounts where account_id = $1",
        )
        .bind(account.0);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        Ok(self.lanes.read.run("get_credit_account", run).await?.map(Balance::from))
    }

    /// Gives an account credits, once for each request.
    pub(crate) async fn grant(&self, account: AccountId, amount: Micros, request: Uuid) -> Result<Granted, Error> {
        let query = sqlx::query_as::<_, Row>(
            "with entered as (
                 insert into ledger (id, account_id, entry, book, amount_micros, request_id)
                 values ($1, $3, 'grant', 'issued', -$4, $5), ($2, $3, 'grant', 'available', $4, $5)
                 on conflict on constraint ledger_grant_once do nothing
                 returning book, amount_micros
             )
             insert into credit_accounts as c (account_id, available_micros)
             select $3, amount_micros from entered where book = 'available'
             on conflict (account_id) do update set available_micros = c.available_micros + excluded.available_micros
             returning c.available_micros, c.held_micros, c.spent_micros",
        )
        .bind(LedgerId::new().0)
        .bind(LedgerId::new().0)
        .bind(account.0)
        .bind(amount.get())
        .bind(request);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        match self.lanes.write.run("grant_credits", run).await {
            Ok(Some(row)) => Ok(Granted::New(row.into())),
            Ok(None) => self.granted(account, request).await.map(Granted::Before),
            Err(error) if error.constraint() == Some("ledger_account_id_fkey") => Err(Error::Missing(Noun::Account)),
            Err(error) => Err(error.into()),
        }
    }

    async fn granted(&self, account: AccountId, request: Uuid) -> Result<Micros, Error> {
        let query = sqlx::query_scalar(
            "select amount_micros from ledger where account_id = $1 and request_id = $2 and book = 'available'",
        )
        .bind(account.0)
        .bind(request);
        let run = async |connection: &mut PgConnection| query.fetch_one(connection).await;
        Ok(Micros::new(self.lanes.write.run("find_grant", run).await?))
    }
}
