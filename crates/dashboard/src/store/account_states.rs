//! Statements on what operators set for an account: its suspension, its limits, and that it is erased.
//!
//! Invariant: a change renews every key of the account that has not ended, by a trigger in the same transaction, so that it reaches the
//! gateways as a change of the key does.

use chassis::postgres::statement;
use chassis::request::actor::Actor;
use domain::id::AccountId;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryScalar;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, trace};
use crate::error::{Error, Noun};
use crate::model::{Account, ChangedAccount, Erasure, Limits, Profile, Rate, Suspension};

/// Limits of gateways as they are stored.
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
            ..Self::default()
        }
    }
}

/// An account with what other tables have of it.
const ACCOUNT: &str = "
    select a.id, a.display_name, a.email, a.create_time, a.suspend_time, a.suspend_note, a.limits, a.erase_time,
           q.max_bytes, q.max_objects,
           case when e.generations_time is not null and e.assets_time is not null and e.projects_time is not null
                then greatest(e.generations_time, e.assets_time, e.projects_time) end as erase_end_time
      from accounts a
      left join storage_quotas q on q.account_id = a.id
      left join account_erasures e on e.account_id = a.id
     where a.id = $1";

#[derive(FromRow)]
struct Row {
    id: Uuid,
    display_name: String,
    email: String,
    create_time: OffsetDateTime,
    suspend_time: Option<OffsetDateTime>,
    suspend_note: String,
    limits: Option<Json<StoredLimits>>,
    max_bytes: Option<i64>,
    max_objects: Option<i64>,
    erase_time: Option<OffsetDateTime>,
    erase_end_time: Option<OffsetDateTime>,
}

impl From<Row> for Account {
    fn from(row: Row) -> Self {
        let limits = Limits {
            storage_bytes: row.max_bytes.map(i64::unsigned_abs),
            assets: row.max_objects.map(i64::unsigned_abs),
            ..row.limits.map(|Json(limits)| limits.into()).unwrap_or_default()
        };
        Self {
            id: AccountId(row.id),
            profile: Profile { display_name: row.display_name, email: row.email },
            create_time: row.create_time,
            suspension: row.suspend_time.map(|since| Suspension { since, note: row.suspend_note }),
            limits: (limits != Limits::default()).then_some(limits),
            erasure: row.erase_time.map(|since| Erasure { since, end: row.erase_end_time }),
        }
    }
}

impl Store {
    /// One account.
    pub(crate) async fn account(&self, id: AccountId) -> Result<Account, Error> {
        let query = sqlx::query_as::<_, Row>(ACCOUNT).bind(id.0);
        let row = self.read.run("get_account", async |connection| query.fetch_optional(connection).await).await?;
        row.map(Account::from).ok_or(Error::NotFound(Noun::Account))
    }

    /// Suspends an account; of one that is suspended only the note changes.
    pub(crate) async fn suspend_account(
        &self,
        id: AccountId,
        note: &str,
        actor: &Actor,
    ) -> Result<ChangedAccount, Error> {
        let query = sqlx::query_scalar::<_, bool>(
            "update accounts
                set suspend_time = coalesce(suspend_time, now()), suspend_note = $4, version = version + 1
               from set_config('rushes.traceparent', $2, true), set_config('rushes.actor', $3, true) as acting
              where id = $1 and erase_time is null
                    -- now() is the time of this transaction, so an earlier suspension has another time.
             returning suspend_time = now()",
        )
        .bind(id.0)
        .bind(trace())
        .bind(actor.as_str())
        .bind(note);
        self.change_account("suspend_account", id, query, None).await
    }

    /// Ends a suspension.
    pub(crate) async fn reactivate_account(&self, id: AccountId, actor: &Actor) -> Result<ChangedAccount, Error> {
        let query = sqlx::query_scalar::<_, bool>(
            "with before as (select id, suspend_time from accounts where id = $1 and erase_time is null for no key update)
             update accounts a
                set suspend_time = null, suspend_note = '',
                    version = a.version + (before.suspend_time is not null)::integer
               from before, set_config('rushes.traceparent', $2, true), set_config('rushes.actor', $3, true) as acting
              where a.id = before.id
             returning before.suspend_time is not null",
        )
        .bind(id.0)
        .bind(trace())
        .bind(actor.as_str());
        self.change_account("reactivate_account", id, query, None).await
    }

    /// Sets what an account may ask of the gateways, and what it may have in storage.
    pub(crate) async fn set_account_limits(
        &self,
        id: AccountId,
        limits: Limits,
        actor: &Actor,
    ) -> Result<ChangedAccount, Error> {
        let asked = (limits.of_gateways() != Limits::default()).then(|| Json(StoredLimits::from(limits)));
        let query = sqlx::query_scalar::<_, bool>(
            "with before as (select id, limits from accounts where id = $1 and erase_time is null for no key update)
             update accounts a
                set limits = $4, version = a.version + (before.limits is distinct from $4)::integer
               from before, set_config('rushes.traceparent', $2, true), set_config('rushes.actor', $3, true) as acting
              where a.id = before.id
             returning before.limits is distinct from $4",
        )
        .bind(id.0)
        .bind(trace())
        .bind(actor.as_str())
        .bind(asked);
        self.change_account("set_account_limits", id, query, Some(limits)).await
    }

    /// Changes an account by one statement, with its quota where `quota` has one or takes it back, and reads which keys that has renewed.
    async fn change_account(
        &self,
        name: &'static str,
        id: AccountId,
        query: QueryScalar<'_, Postgres, bool, PgArguments>,
        quota: Option<Limits>,
    ) -> Result<ChangedAccount, Error> {
        let run = async |tx: &mut PgConnection| {
            let Some(mut is_new) = statement("change_account", query.fetch_optional(&mut *tx)).await? else {
                return Err(not_changed(tx, id).await?);
            };
            if let Some(limits) = quota {
                is_new |= set_quota(tx, id, limits).await?;
            }
            let row = sqlx::query_as::<_, Row>(ACCOUNT).bind(id.0).fetch_one(&mut *tx);
            let account = statement("changed_account", row).await?.into();
            let keys = sqlx::query_as::<_, (Vec<u8>, i64)>(
                "select key_sha256, version from api_keys where account_id = $1 and revoke_time is null",
            )
            .bind(id.0)
            .fetch_all(tx);
            let keys = statement("renewed_keys", keys).await?;
            Ok::<_, Error>(ChangedAccount { account, keys, is_new })
        };
        self.write.transaction(name, run).await
    }

    /// Begins to erase an account that is suspended: its profile and its keys are gone, and the services find what is left to them.
    pub(crate) async fn erase_account(&self, id: AccountId, actor: &Actor) -> Result<ChangedAccount, Error> {
        let run = async |tx: &mut PgConnection| {
            let erase = sqlx::query(
                "update accounts
                    set erase_time = now(), display_name = 'erased', email = '', limits = null, version = version + 1
                   from set_config('rushes.traceparent', $2, true), set_config('rushes.actor', $3, true) as acting
                  where id = $1 and suspend_time is not null and erase_time is null",
            )
            .bind(id.0)
            .bind(trace())
            .bind(actor.as_str());
            let is_new = statement("change_account", erase.execute(&mut *tx)).await?.rows_affected() > 0;
            let row = sqlx::query_as::<_, Row>(ACCOUNT).bind(id.0).fetch_optional(&mut *tx);
            let row = statement("changed_account", row).await?.ok_or(Error::NotFound(Noun::Account))?;
            if row.erase_time.is_none() {
                return Err(Error::NotSuspended);
            }
            let mut keys = Vec::new();
            if is_new {
                // One version later than the last, as the trigger tells the caches.
                let gone = sqlx::query_as::<_, (Vec<u8>, i64)>(
                    "delete from api_keys where account_id = $1 returning key_sha256, version + 1",
                )
                .bind(id.0);
                keys = statement("delete_keys", gone.fetch_all(&mut *tx)).await?;
                let begun = sqlx::query("insert into account_erasures (account_id) values ($1)").bind(id.0);
                statement("begin_erasure", begun.execute(tx)).await?;
            }
            Ok(ChangedAccount { account: row.into(), keys, is_new })
        };
        self.write.transaction_of(id.0, "erase_account", run).await
    }
}

/// Why an account was not changed.
async fn not_changed(tx: &mut PgConnection, id: AccountId) -> Result<Error, Error> {
    let query = sqlx::query_scalar::<_, bool>("select exists (select from accounts where id = $1)").bind(id.0);
    let exists = statement("account_exists", query.fetch_one(tx)).await?;
    Ok(if exists { Error::AccountErased } else { Error::NotFound(Noun::Account) })
}

/// Sets an account's quota, or takes it back; says whether that changed something.
async fn set_quota(tx: &mut PgConnection, id: AccountId, limits: Limits) -> Result<bool, Error> {
    let Limits { storage_bytes, assets, .. } = limits;
    if (storage_bytes, assets) == (None, None) {
        let query = sqlx::query("delete from storage_quotas where account_id = $1").bind(id.0);
        return Ok(statement("delete_quota", query.execute(tx)).await?.rows_affected() > 0);
    }
    let query = sqlx::query(
        "insert into storage_quotas as q (account_id, max_bytes, max_objects) values ($1, $2, $3)
         on conflict (account_id) do update
            set max_bytes = excluded.max_bytes, max_objects = excluded.max_objects, update_time = now()
          where (q.max_bytes, q.max_objects) is distinct from (excluded.max_bytes, excluded.max_objects)",
    )
    .bind(id.0)
    .bind(storage_bytes.map(u64::cast_signed))
    .bind(assets.map(u64::cast_signed));
    Ok(statement("set_quota", query.execute(tx)).await?.rows_affected() > 0)
}
