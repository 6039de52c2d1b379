//! Statements on what operators set for an account: its suspension and its limits.
//!
//! Invariant: a change renews every key of the account that has not ended, by a trigger in the same transaction, so that it reaches the
//! gateways as a change of the key does.

use chassis::postgres::statement;
use chassis::request::actor::Actor;
use domain::id::AccountId;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, trace};
use crate::error::{Error, Noun};
use crate::model::{Account, ChangedAccount, Limits, Profile, Rate, Suspension};

/// Limits as they are stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    people: Option<StoredRate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    polls: Option<StoredRate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    background: Option<StoredRate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_tests: Option<StoredRate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uploads: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watches: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredRate {
    per_second: u32,
    burst: u32,
}

impl From<Rate> for StoredRate {
    fn from(Rate { per_second, burst }: Rate) -> Self {
        Self { per_second, burst }
    }
}

impl From<StoredRate> for Rate {
    fn from(StoredRate { per_second, burst }: StoredRate) -> Self {
        Self { per_second, burst }
    }
}

impl From<Limits> for StoredLimits {
    fn from(limits: Limits) -> Self {
        Self {
            people: limits.people.map(Into::into),
            polls: limits.polls.map(Into::into),
            background: limits.background.map(Into::into),
            endpoint_tests: limits.endpoint_tests.map(Into::into),
            calls: limits.calls,
            uploads: limits.uploads,
            watches: limits.watches,
        }
    }
}

impl From<StoredLimits> for Limits {
    fn from(limits: StoredLimits) -> Self {
        Self {
            people: limits.people.map(Into::into),
            polls: limits.polls.map(Into::into),
            background: limits.background.map(Into::into),
            endpoint_tests: limits.endpoint_tests.map(Into::into),
            calls: limits.calls,
            uploads: limits.uploads,
            watches: limits.watches,
        }
    }
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    display_name: String,
    email: String,
    create_time: OffsetDateTime,
    suspend_time: Option<OffsetDateTime>,
    suspend_note: String,
    limits: Option<Json<StoredLimits>>,
    is_new: bool,
}

impl From<Row> for Account {
    fn from(row: Row) -> Self {
        Self {
            id: AccountId(row.id),
            profile: Profile { display_name: row.display_name, email: row.email },
            create_time: row.create_time,
            suspension: row.suspend_time.map(|since| Suspension { since, note: row.suspend_note }),
            limits: row.limits.map(|Json(limits)| limits.into()),
        }
    }
}

impl Store {
    /// One account.
    pub(crate) async fn account(&self, id: AccountId) -> Result<Account, Error> {
        let row = self.read.run("get_account", async |connection| {
            sqlx::query_as::<_, Row>(
                "select id, display_name, email, create_time, suspend_time, suspend_note, limits, false as is_new
                   from accounts
                  where id = $1",
            )
            .bind(id.0)
            .fetch_optional(connection)
            .await
        });
        row.await?.map(Account::from).ok_or(Error::NotFound(Noun::Account))
    }

    /// Suspends an account; of one that is suspended only the note changes.
    pub(crate) async fn suspend_account(
        &self,
        id: AccountId,
        note: &str,
        actor: &Actor,
    ) -> Result<ChangedAccount, Error> {
        let query = sqlx::query_as::<_, Row>(
            "update accounts
                set suspend_time = coalesce(suspend_time, now()), suspend_note = $4, version = version + 1
               from set_config('rushes.traceparent', $2, true), set_config('rushes.actor', $3, true) as acting
              where id = $1
             returning id, display_name, email, create_time, suspend_time, suspend_note, limits,
                       -- now() is the time of this transaction, so an earlier suspension has another time.
                       suspend_time = now() as is_new",
        )
        .bind(id.0)
        .bind(trace())
        .bind(actor.as_str())
        .bind(note);
        self.change_account("suspend_account", id, query).await
    }

    /// Ends a suspension.
    pub(crate) async fn reactivate_account(&self, id: AccountId, actor: &Actor) -> Result<ChangedAccount, Error> {
        let query = sqlx::query_as::<_, Row>(
            "with before as (select id, suspend_time from accounts where id = $1 for no key update)
             update accounts a
                set suspend_time = null, suspend_note = '',
                    version = a.version + (before.suspend_time is not null)::integer
               from before, set_config('rushes.traceparent', $2, true), set_config('rushes.actor', $3, true) as acting
              where a.id = before.id
             returning a.id, a.display_name, a.email, a.create_time, a.suspend_time, a.suspend_note, a.limits,
                       before.suspend_time is not null as is_new",
        )
        .bind(id.0)
        .bind(trace())
        .bind(actor.as_str());
        self.change_account("reactivate_account", id, query).await
    }

    /// Sets what an account may ask of the gateways.
    pub(crate) async fn set_account_limits(
        &self,
        id: AccountId,
        limits: Option<Limits>,
        actor: &Actor,
    ) -> Result<ChangedAccount, Error> {
        let query = sqlx::query_as::<_, Row>(
            "with before as (select id, limits from accounts where id = $1 for no key update)
             update accounts a
                set limits = $4, version = a.version + (before.limits is distinct from $4)::integer
               from before, set_config('rushes.traceparent', $2, true), set_config('rushes.actor', $3, true) as acting
              where a.id = before.id
             returning a.id, a.display_name, a.email, a.create_time, a.suspend_time, a.suspend_note, a.limits,
                       before.limits is distinct from $4 as is_new",
        )
        .bind(id.0)
        .bind(trace())
        .bind(actor.as_str())
        .bind(limits.map(|limits| Json(StoredLimits::from(limits))));
        self.change_account("set_account_limits", id, query).await
    }

    /// Changes an account by one statement, and reads which keys that has renewed.
    async fn change_account(
        &self,
        name: &'static str,
        id: AccountId,
        query: QueryAs<'_, Postgres, Row, PgArguments>,
    ) -> Result<ChangedAccount, Error> {
        let run = async |tx: &mut PgConnection| {
            let row = statement("change_account", query.fetch_optional(&mut *tx)).await?;
            let row = row.ok_or(Error::NotFound(Noun::Account))?;
            let is_new = row.is_new;
            let keys = sqlx::query_as::<_, (Vec<u8>, i64)>(
                "select key_sha256, version from api_keys where account_id = $1 and revoke_time is null",
            )
            .bind(id.0)
            .fetch_all(tx);
            let keys = statement("renewed_keys", keys).await?;
            Ok::<_, Error>(ChangedAccount { account: row.into(), keys, is_new })
        };
        self.write.transaction(name, run).await
    }
}
