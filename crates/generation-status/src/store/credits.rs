//! Balances, entries, grants and adjustments.
//!
//! Invariant: the lines of an entry sum to zero, and the table refuses a balance that would become negative.

use catalogue::Line;
use chassis::request::actor::Actor;
use domain::id::{AccountId, GenerationId, LedgerId};
use domain::money::Micros;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use super::audit::trace;
use crate::error::{Error, Noun};
use crate::model::{Balance, Entry, EntryKind, Issue, Issued};

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

impl FromRow<'_, sqlx::postgres::PgRow> for Entry {
    fn from_row(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        let name: &str = row.try_get("entry")?;
        let kind = EntryKind::ALL.into_iter().find(|kind| kind.as_str() == name);
        Ok(Self {
            id: LedgerId(row.try_get("id")?),
            kind: kind.ok_or_else(|| sqlx::Error::Decode(format!("{name} is no entry").into()))?,
            generation: row.try_get::<Option<Uuid>, _>("generation_id")?.map(GenerationId),
            spent: Micros::new(row.try_get("spent_micros")?),
            available: Micros::new(row.try_get("available_micros")?),
            reason: row.try_get("reason")?,
            lines: row.try_get::<Option<Json<Vec<Line>>>, _>("lines")?.map(|Json(lines)| lines).unwrap_or_default(),
            create_time: row.try_get::<OffsetDateTime, _>("create_time")?,
        })
    }
}

impl Store {
    /// An account's balance; `None` for one that was never given credits.
    pub(crate) async fn balance(&self, account: AccountId) -> Result<Option<Balance>, Error> {
        let query = sqlx::query_as::<_, Row>(
            "select available_micros, held_micros, spent_micros from credit_accounts where account_id = $1",
        )
        .bind(account.0);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        Ok(self.pools.read.run("get_credit_account", run).await?.map(Balance::from))
    }

    /// Up to `limit` entries of an account booked before `before`, newest first.
    pub(crate) async fn credit_entries(
        &self,
        account: AccountId,
        before: Option<LedgerId>,
        limit: i64,
    ) -> Result<Vec<Entry>, Error> {
        // Every entry has exactly one line in the book `held` or `issued`, which stands for the entry. Its opposite is in `spent`
        // and `available`, so the available change follows from the two lines without reading a third.
        let query = sqlx::query_as(
            "select id, entry, generation_id, spent_micros, -amount_micros - spent_micros as available_micros, reason, lines, create_time
             from (
                 select l.*, coalesce((
                     -- For each entry of the page by itself: where accounts have a hundred lines, a join reads all of the account's.
                     select s.amount_micros from ledger s
                     where s.account_id = l.account_id and s.generation_id = l.generation_id and s.entry = l.entry
                       and s.book = 'spent'
                 ), 0) as spent_micros
                 from ledger l
                 where l.account_id = $1 and l.book in ('held', 'issued') and l.id < $2
                 order by l.id desc limit $3
             ) page
             order by id desc",
        )
        .bind(account.0)
        .bind(before.map_or(Uuid::max(), |id| id.0))
        .bind(limit);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        Ok(self.pools.read.run("list_credit_entries", run).await?)
    }

    /// Grants or adjusts credits, once for each request id.
    pub(crate) async fn issue(
        &self,
        account: AccountId,
        issue: &Issue,
        request: Uuid,
        actor: &Actor,
    ) -> Result<Issued, Error> {
        // PostgreSQL checks the row to be inserted before it finds the conflict, so a negative amount would fail for an account
        // that could pay it: where a row exists already, zero is proposed.
        let query = sqlx::query_as::<_, Row>(
            "with entered as (
                 insert into ledger (id, account_id, entry, book, amount_micros, request_id, reason)
                 values ($1, $3, $6, 'issued', -$4, $5, $7), ($2, $3, $6, 'available', $4, $5, $7)
                 on conflict on constraint ledger_grant_once do nothing
                 returning book, amount_micros
             )
             insert into credit_accounts as c (account_id, available_micros)
             select $3, case when exists (select from credit_accounts where account_id = $3) then 0 else $4 end
             from entered, set_config('rushes.traceparent', $8, true), set_config('rushes.actor', $9, true) as acting
             where book = 'available'
             on conflict (account_id) do update set available_micros = c.available_micros + $4
             returning c.available_micros, c.held_micros, c.spent_micros",
        )
        .bind(LedgerId::new().0)
        .bind(LedgerId::new().0)
        .bind(account.0)
        .bind(issue.amount.get())
        .bind(request)
        .bind(if issue.reason.is_some() { EntryKind::Adjust } else { EntryKind::Grant }.as_str())
        .bind(&issue.reason)
        .bind(trace())
        .bind(actor.as_str());
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        match self.pools.write.run("issue_credits", run).await {
            Ok(Some(row)) => Ok(Issued::New(row.into())),
            Ok(None) => self.find_issue(account, request).await.map(Issued::Existing),
            Err(error) => Err(match error.constraint() {
                Some("ledger_account_id_fkey") => Error::NotFound(Noun::Account),
                Some("credit_accounts_available_micros_check") => Error::NegativeBalance,
                _ => error.into(),
            }),
        }
    }

    async fn find_issue(&self, account: AccountId, request: Uuid) -> Result<Issue, Error> {
        let query = sqlx::query_as::<_, (i64, Option<String>)>(
            "select amount_micros, reason from ledger where account_id = $1 and request_id = $2 and book = 'available'",
        )
        .bind(account.0)
        .bind(request);
        let run = async |connection: &mut PgConnection| query.fetch_one(connection).await;
        let (amount, reason) = self.pools.write.run("find_issued_credits", run).await?;
        Ok(Issue { amount: Micros::new(amount), reason })
    }
}
