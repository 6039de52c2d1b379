//! Statements on accounts and API keys. A key is stored as its SHA-256 only.

use cache::Asof;
use domain::id::{AccountId, ApiKeyId, NoticeId};
use domain::name::ApiKeyName;
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, trace};
use crate::error::{Error, Noun};
use crate::model::{Account, ApiKey, NewApiKey, Profile, RevokedKey, Secret};

#[derive(FromRow)]
struct KeyRow {
    id: Uuid,
    account_id: Uuid,
    prefix: String,
    scopes: Vec<String>,
    version: i64,
    expire_time: Option<OffsetDateTime>,
    revoke_time: Option<OffsetDateTime>,
}

impl From<KeyRow> for ApiKey {
    fn from(row: KeyRow) -> Self {
        Self {
            name: ApiKeyName { account: AccountId(row.account_id), key: ApiKeyId(row.id) },
            prefix: row.prefix,
            scopes: row.scopes,
            version: row.version,
            expire_time: row.expire_time,
            revoke_time: row.revoke_time,
        }
    }
}

#[derive(FromRow)]
struct RevokedRow {
    #[sqlx(flatten)]
    key: KeyRow,
    key_sha256: Vec<u8>,
    is_new: bool,
}

/// A key or none, and the position of the snapshot for the cache.
#[derive(FromRow)]
struct Lookup {
    epoch: i64,
    seq: i64,
    id: Option<Uuid>,
    account_id: Option<Uuid>,
    prefix: Option<String>,
    scopes: Option<Vec<String>>,
    version: Option<i64>,
    expire_time: Option<OffsetDateTime>,
    revoke_time: Option<OffsetDateTime>,
}

impl Lookup {
    fn key(self) -> Option<ApiKey> {
        let row = KeyRow {
            id: self.id?,
            account_id: self.account_id?,
            prefix: self.prefix?,
            scopes: self.scopes?,
            version: self.version?,
            expire_time: self.expire_time,
            revoke_time: self.revoke_time,
        };
        Some(row.into())
    }
}

impl Store {
    /// Inserts an account with its first notice.
    pub(crate) async fn create_account(
        &self,
        profile: Profile,
        notice: NoticeId,
        (title, body): (&str, &str),
    ) -> Result<Account, Error> {
        let id = AccountId::new();
        let create_time = self.write.run("create_account", async |connection| {
            sqlx::query_scalar::<_, OffsetDateTime>(
                "with made as (
                    insert into accounts (id, display_name, email)
                    select $1, $2, $3 from set_config('rushes.traceparent', $7, true)
                    returning id, create_time
                 ), welcomed as (
                    insert into notices (id, account_id, title, body) select $4, id, $5, $6 from made
                 )
                 select create_time from made",
            )
            .bind(id.0)
            .bind(&profile.display_name)
            .bind(&profile.email)
            .bind(notice.0)
            .bind(title)
            .bind(body)
            .bind(trace())
            .fetch_one(connection)
            .await
        });
        let create_time = create_time.await?;
        Ok(Account { id, profile, create_time })
    }

    /// Inserts a key of an account; `None` when its expiry is not in the future.
    pub(crate) async fn create_api_key(
        &self,
        account: AccountId,
        new: &NewApiKey,
        secret: &Secret,
    ) -> Result<Option<ApiKey>, Error> {
        let row = self.write.run("create_api_key", async |connection| {
            sqlx::query_as::<_, KeyRow>(
                "insert into api_keys (id, account_id, key_sha256, prefix, scopes, expire_time)
                 select $1, a.id, $3, $4, $5, $6
                   from accounts a, set_config('rushes.traceparent', $7, true)
                  where a.id = $2 and ($6::timestamptz is null or $6 > now())
                 returning id, account_id, prefix, scopes, version, expire_time, revoke_time",
            )
            .bind(ApiKeyId::new().0)
            .bind(account.0)
            .bind(secret.sha256().to_vec())
            .bind(secret.prefix())
            .bind(&new.scopes)
            .bind(new.expire_time)
            .bind(trace())
            .fetch_optional(connection)
            .await
        });
        if let Some(row) = row.await? {
            return Ok(Some(row.into()));
        }
        let account_exists = self.write.run("account_exists", async |connection| {
            sqlx::query_scalar::<_, bool>("select exists (select from accounts where id = $1)")
                .bind(account.0)
                .fetch_one(connection)
                .await
        });
        if account_exists.await? { Ok(None) } else { Err(Error::NotFound(Noun::Account)) }
    }

    /// Marks a key as revoked; one that was revoked before stays as it is.
    pub(crate) async fn revoke_api_key(&self, name: ApiKeyName) -> Result<RevokedKey, Error> {
        let row = self.write.run("revoke_api_key", async |connection| {
            sqlx::query_as::<_, RevokedRow>(
                "update api_keys
                    set version = version + (revoke_time is null)::integer, revoke_time = coalesce(revoke_time, now())
                   from set_config('rushes.traceparent', $3, true)
                  where account_id = $1 and id = $2
                 returning id, account_id, prefix, scopes, version, expire_time, revoke_time, key_sha256,
                           -- now() is the time of this transaction, so an earlier revocation has another time.
                           revoke_time = now() as is_new",
            )
            .bind(name.account.0)
            .bind(name.key.0)
            .bind(trace())
            .fetch_optional(connection)
            .await
        });
        let row = row.await?.ok_or(Error::NotFound(Noun::ApiKey))?;
        Ok(RevokedKey { key: row.key.into(), sha256: row.key_sha256, is_new: row.is_new })
    }

    /// The key with this hash, ended or not, and the position of the snapshot for the cache. The one query that names no
    /// account: it is the one that finds it.
    pub(crate) async fn api_key(&self, sha256: [u8; 32]) -> Result<(Asof, Option<ApiKey>), Error> {
        let row = self.read.run("get_api_key", async |connection| {
            sqlx::query_as::<_, Lookup>(
                "select c.epoch, c.seq, k.id, k.account_id, k.prefix, k.scopes, k.version, k.expire_time, k.revoke_time
                   from cache_clock c
                   left join api_keys k on k.key_sha256 = $1
                  where c.part = 0",
            )
            .bind(sha256.to_vec())
            .fetch_one(connection)
            .await
        });
        let row = row.await?;
        Ok((Asof { epoch: row.epoch, seq: row.seq }, row.key()))
    }
}
