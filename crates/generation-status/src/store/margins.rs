//! What prices are multiplied by for one account; written here, read again under the lock of every start.

use catalogue::Decimal;
use chassis::postgres;
use chassis::request::actor::Actor;
use domain::id::AccountId;
use sqlx::PgConnection;

use super::Store;
use super::audit::trace;
use crate::error::{Error, Noun};

impl Store {
    /// An account's margin; 1 for one that has none, or that does not exist.
    pub(crate) async fn margin(&self, account: AccountId) -> Result<Decimal, Error> {
        let query = sqlx::query_scalar::<_, String>(
            "select trim_scale(margin)::text from credit_accounts where account_id = $1",
        )
        .bind(account.0);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        match self.pools.read.run("get_margin", run).await? {
            Some(text) => parse(&text),
            None => Ok(Decimal::ONE),
        }
    }

    /// Sets an account's margin.
    pub(crate) async fn set_margin(&self, account: AccountId, margin: Decimal, actor: &Actor) -> Result<(), Error> {
        let query = sqlx::query(
            "insert into credit_accounts as c (account_id, margin)
             select $1, $2::numeric
             from set_config('rushes.traceparent', $3, true), set_config('rushes.actor', $4, true) as acting
             on conflict (account_id) do update set margin = excluded.margin where c.margin <> excluded.margin",
        )
        .bind(account.0)
        .bind(margin.to_string())
        .bind(trace())
        .bind(actor.as_str());
        let run = async |connection: &mut PgConnection| query.execute(connection).await;
        match self.pools.write.run("set_margin", run).await {
            Err(error) if error.constraint() == Some("credit_accounts_account_id_fkey") => {
                Err(Error::NotFound(Noun::Account))
            }
            result => Ok(result.map(drop)?),
        }
    }
}

fn parse(text: &str) -> Result<Decimal, Error> {
    text.parse()
        .map_err(|error: catalogue::NotDecimal| postgres::Error::from(sqlx::Error::Decode(Box::new(error))).into())
}
