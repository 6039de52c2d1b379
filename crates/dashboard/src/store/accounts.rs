//! Statements on accounts and API keys. A key is stored as its SHA-256 only.

use cache::Asof;
use chassis::request::actor::Actor;
use domain::id::{AccountId, ApiKeyId, NoticeId};
use domain::name::ApiKeyName;
use domain::network::Network;
use domain::page::Page;
use sqlx::FromRow;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::account_states::StoredLimits;
use super::{Store, trace};
use crate::error::{Error, Noun};
use crate::model::{Account, ApiKey, ChangedKey, KeyWithAccount, NewApiKey, Profile, Secret};

#[derive(FromRow)]
struct KeyRow {
    id: Uuid,
    account_id: Uuid,
    prefix: String,
    scopes: Vec<String>,
    version: i64,
    expire_time: Option<OffsetDateTime>,
    revoke_time: Option<OffsetDateTime>,
    allowed_networks: Vec<String>,
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
            networks: parse_networks(&row.allowed_networks),
        }
    }
}

/// The networks of a row. One that was written by hand and is none lets nobody in: a key must not become open by a typing error.
fn parse_networks(texts: &[String]) -> Vec<Network> {
    let nobody = || "0.0.0.0/32".parse().ok();
    texts.iter().filter_map(|text| text.parse().ok().or_else(nobody)).collect()
}

fn write_networks(networks: &[Network]) -> Vec<String> {
    networks.iter().map(Network::to_string).collect()
}

#[derive(FromRow)]
struct ChangedRow {
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
    allowed_networks: Option<Vec<String>>,
    suspend_time: Option<OffsetDateTime>,
    limits: Option<Json<StoredLimits>>,
    account_version: Option<i64>,
}

impl Lookup {
    fn key(self) -> Option<KeyWithAccount> {
        let row = KeyRow {
            id: self.id?,
            account_id: self.account_id?,
            prefix: self.prefix?,
            scopes: self.scopes?,
            version: self.version?,
            expire_time: self.expire_time,
            revoke_time: self.revoke_time,
            allowed_networks: self.allowed_networks?,
        };
        Some(KeyWithAccount {
            key: row.into(),
            suspend_time: self.suspend_time,
            limits: self.limits.map(|Json(limits)| limits.into()),
            account_version: self.account_version?,
        })
    }
}

impl Store {
    /// Inserts an account with its first notice.
    pub(crate) async fn create_account(
        &self,
        profile: Profile,
        notice: NoticeId,
        (title, body): (&str, &str),
        actor: &Actor,
    ) -> Result<Account, Error> {
        let id = AccountId::new();
        let create_time = self.write.run("create_account", async |connection| {
            sqlx::query_scalar::<_, OffsetDateTime>(
                "with made as (
                    insert into accounts (id, display_name, email)
                    select $1, $2, $3
                      from set_config('rushes.traceparent', $7, true), set_config('rushes.actor', $8, true) as acting
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
            .bind(actor.as_str())
            .fetch_one(connection)
            .await
        });
        let create_time = create_time.await?;
        Ok(Account { id, profile, create_time, suspension: None, limits: None, erasure: None })
    }

    /// Inserts a key of an account; `None` when its expiry is not in the future.
    pub(crate) async fn create_api_key(
        &self,
        account: AccountId,
        new: &NewApiKey,
        secret: &Secret,
        actor: &Actor,
    ) -> Result<Option<ApiKey>, Error> {
        let row = self.write.run("create_api_key", async |connection| {
            sqlx::query_as::<_, KeyRow>(
                "insert into api_keys (id, account_id, key_sha256, prefix, scopes, expire_time, allowed_networks)
                 select $1, a.id, $3, $4, $5, $6, $9
                   from accounts a, set_config('rushes.traceparent', $7, true), set_config('rushes.actor', $8, true) as acting
                  where a.id = $2 and a.erase_time is null and ($6::timestamptz is null or $6 > now())
                 returning id, account_id, prefix, scopes, version, expire_time, revoke_time, allowed_networks",
            )
            .bind(ApiKeyId::new().0)
            .bind(account.0)
            .bind(secret.sha256().to_vec())
            .bind(secret.prefix())
            .bind(&new.scopes)
            .bind(new.expire_time)
            .bind(trace())
            .bind(actor.as_str())
            .bind(write_networks(&new.networks))
            .fetch_optional(connection)
            .await
        });
        if let Some(row) = row.await? {
            return Ok(Some(row.into()));
        }
        let erased = self.write.run("account_exists", async |connection| {
            sqlx::query_scalar::<_, bool>("select erase_time is not null from accounts where id = $1")
                .bind(account.0)
                .fetch_optional(connection)
                .await
        });
        match erased.await? {
            Some(false) => Ok(None),
            Some(true) => Err(Error::AccountErased),
            None => Err(Error::NotFound(Noun::Account)),
        }
    }

    /// A page of an account's keys from new to old, those that have ended too.
    pub(crate) async fn api_keys(&self, account: AccountId, page: Page) -> Result<Vec<ApiKey>, Error> {
        let rows = self.read.run("list_api_keys", async |connection| {
            sqlx::query_as::<_, KeyRow>(
                "select id, account_id, prefix, scopes, version, expire_time, revoke_time, allowed_networks
                   from api_keys
                  where account_id = $1 and id < $2
                  order by id desc
                  limit $3",
            )
            .bind(account.0)
            .bind(page.below())
            .bind(page.rows())
            .fetch_all(connection)
            .await
        });
        Ok(rows.await?.into_iter().map(ApiKey::from).collect())
    }

    /// Marks a key as revoked; one that was revoked before stays as it is.
    pub(crate) async fn revoke_api_key(&self, name: ApiKeyName, actor: &Actor) -> Result<ChangedKey, Error> {
        let row = self.write.run("revoke_api_key", async |connection| {
            sqlx::query_as::<_, ChangedRow>(
                "update api_keys
                    set version = version + (revoke_time is null)::integer, revoke_time = coalesce(revoke_time, now())
                   from set_config('rushes.traceparent', $3, true), set_config('rushes.actor', $4, true) as acting
                  where account_id = $1 and id = $2
                 returning id, account_id, prefix, scopes, version, expire_time, revoke_time, allowed_networks, key_sha256,
                           -- now() is the time of this transaction, so an earlier revocation has another time.
                           revoke_time = now() as is_new",
            )
            .bind(name.account.0)
            .bind(name.key.0)
            .bind(trace())
            .bind(actor.as_str())
            .fetch_optional(connection)
            .await
        });
        let row = row.await?.ok_or(Error::NotFound(Noun::ApiKey))?;
        Ok(ChangedKey { key: row.key.into(), sha256: row.key_sha256, is_new: row.is_new })
    }

    /// Binds a key to these networks and no others.
    pub(crate) async fn bind_api_key(
        &self,
        name: ApiKeyName,
        networks: &[Network],
        actor: &Actor,
    ) -> Result<ChangedKey, Error> {
        let row = self.write.run("bind_api_key", async |connection| {
            sqlx::query_as::<_, ChangedRow>(
                "update api_keys
                    set version = version + 1, allowed_networks = $5
                   from set_config('rushes.traceparent', $3, true), set_config('rushes.actor', $4, true) as acting
                  where account_id = $1 and id = $2
                 returning id, account_id, prefix, scopes, version, expire_time, revoke_time, allowed_networks, key_sha256,
                           true as is_new",
            )
            .bind(name.account.0)
            .bind(name.key.0)
            .bind(trace())
            .bind(actor.as_str())
            .bind(write_networks(networks))
            .fetch_optional(connection)
            .await
        });
        let row = row.await?.ok_or(Error::NotFound(Noun::ApiKey))?;
        Ok(ChangedKey { key: row.key.into(), sha256: row.key_sha256, is_new: row.is_new })
    }

    /// The key with this hash, ended or not, with what is set for its account, and the position of the snapshot for the cache. The one query that names no
    /// account: it is the one that finds it.
    pub(crate) async fn api_key(&self, sha256: [u8; 32]) -> Result<(Asof, Option<KeyWithAccount>), Error> {
        let row = self.read.run("get_api_key", async |connection| {
            sqlx::query_as::<_, Lookup>(
                "select c.epoch, c.seq, k.id, k.account_id, k.prefix, k.scopes, k.version, k.expire_time, k.revoke_time,
                        k.allowed_networks, a.suspend_time, a.limits, a.version as account_version
                   from cache_clock c
                   left join api_keys k on k.key_sha256 = $1
                   left join accounts a on a.id = k.account_id
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
