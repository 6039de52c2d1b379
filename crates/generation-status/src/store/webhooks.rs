//! Endpoints of webhooks. A deleted endpoint stays as long as its deliveries, with `disable_reason` DELETED, and no read here
//! returns it.
//!
//! Invariant: a secret is written here, sealed if there is a key (`secrets.rs`), and read only for signing (`delivery_jobs.rs`).

use std::time::Duration;

use chassis::postgres::statement;
use domain::id::{AccountId, WebhookEndpointId};
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use crate::error::{Error, Noun};
use crate::model::{CreatedEndpoint, Endpoint, EndpointChange, MAX_ENDPOINTS, NewEndpoint, Secret};

/// The columns that an [`Endpoint`] is read from.
macro_rules! endpoint {
    () => {
        "id, url, description, event_types, disable_reason, disable_time, failing_since,
         case when previous_until > now() then previous_until end as previous_until, version, create_time, update_time"
    };
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    url: String,
    description: String,
    event_types: Vec<String>,
    disable_reason: Option<String>,
    disable_time: Option<OffsetDateTime>,
    failing_since: Option<OffsetDateTime>,
    previous_until: Option<OffsetDateTime>,
    version: i64,
    create_time: OffsetDateTime,
    update_time: OffsetDateTime,
}

impl From<Row> for Endpoint {
    fn from(row: Row) -> Self {
        Self {
            id: WebhookEndpointId(row.id),
            url: row.url,
            description: row.description,
            event_types: row.event_types,
            disabled: row.disable_reason.zip(row.disable_time),
            failing_since: row.failing_since,
            previous_until: row.previous_until,
            version: row.version,
            create_time: row.create_time,
            update_time: row.update_time,
        }
    }
}

impl Store {
    /// Creates an endpoint, or finds the one that the same request id created.
    pub(crate) async fn create_endpoint(
        &self,
        account: AccountId,
        new: &NewEndpoint,
        secret: Secret,
    ) -> Result<CreatedEndpoint, Error> {
        let id = WebhookEndpointId::new();
        let sealed = self.seal(account, id.0, secret)?;
        let run = async |tx: &mut PgConnection| {
            // Creations of one account run one at a time, so that the count below holds.
            // The account's row is another service's, which alone may lock it: the lock is on the account's id.
            let query = sqlx::query(
                "select pg_advisory_xact_lock(hashtextextended('endpoints:' || $1::text, 0))
                 from accounts where id = $1",
            )
            .bind(account.0);
            if statement("lock_account", query.fetch_optional(&mut *tx)).await?.is_none() {
                return Err(Error::NotFound(Noun::Account));
            }
            if let Some((request, _)) = new.request
                && let Some(created) = find_requested(tx, account, request).await?
            {
                return Ok(created);
            }
            let query = sqlx::query_as::<_, Row>(concat!(
                "insert into webhook_endpoints (id, account_id, url, description, event_types, secret, request_id,
                                                request_sha256)
                 select $2, $1, $3, $4, $5, $6, $7, $8
                 where (select count(*) from webhook_endpoints
                        where account_id = $1 and disable_reason is distinct from 'DELETED') < $9
                 returning ",
                endpoint!()
            ))
            .bind(account.0)
            .bind(id.0)
            .bind(&new.url)
            .bind(&new.description)
            .bind(&new.event_types)
            .bind(&sealed)
            .bind(new.request.map(|(id, _)| id))
            .bind(new.request.map(|(_, sha256)| sha256.to_vec()))
            .bind(MAX_ENDPOINTS)
            .fetch_optional(tx);
            let row = statement("create_endpoint", query).await?.ok_or(Error::TooManyEndpoints)?;
            Ok(CreatedEndpoint { endpoint: row.into(), fresh: true, request_sha256: None })
        };
        self.pools.write.transaction_of(account.0, "create_endpoint", run).await
    }

    pub(crate) async fn endpoint(&self, account: AccountId, id: WebhookEndpointId) -> Result<Option<Endpoint>, Error> {
        let query = sqlx::query_as::<_, Row>(concat!(
            "select ",
            endpoint!(),
            " from webhook_endpoints where account_id = $1 and id = $2 and disable_reason is distinct from 'DELETED'"
        ))
        .bind(account.0)
        .bind(id.0);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        Ok(self.pools.read.run("get_endpoint", run).await?.map(Endpoint::from))
    }

    /// Up to `limit` endpoints made before `before`, newest first.
    pub(crate) async fn endpoints(
        &self,
        account: AccountId,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Endpoint>, Error> {
        let query = sqlx::query_as::<_, Row>(concat!(
            "select ",
            endpoint!(),
            " from webhook_endpoints
              where account_id = $1 and id < $2 and disable_reason is distinct from 'DELETED'
              order by id desc limit $3"
        ))
        .bind(account.0)
        .bind(before.unwrap_or(Uuid::max()))
        .bind(limit);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.read.run("list_endpoints", run).await?;
        Ok(rows.into_iter().map(Endpoint::from).collect())
    }

    /// Changes an endpoint. `None` when there is none, or not in the expected version.
    pub(crate) async fn update_endpoint(
        &self,
        account: AccountId,
        id: WebhookEndpointId,
        change: &EndpointChange,
    ) -> Result<Option<Endpoint>, Error> {
        let query = sqlx::query_as::<_, Row>(concat!(
            "update webhook_endpoints
             set url = coalesce($3, url), description = coalesce($4, description),
                 event_types = coalesce($5, event_types),
                 disable_reason = case when $6 then coalesce(disable_reason, 'USER')
                                       when not $6 then null else disable_reason end,
                 disable_time = case when $6 then coalesce(disable_time, now())
                                     when not $6 then null else disable_time end,
                 failing_since = case when not $6 or $3 <> url then null else failing_since end,
                 version = version + 1, update_time = now()
             where account_id = $1 and id = $2 and disable_reason is distinct from 'DELETED'
               and ($7::bigint is null or version = $7)
             returning ",
            endpoint!()
        ))
        .bind(account.0)
        .bind(id.0)
        .bind(change.url.clone())
        .bind(change.description.clone())
        .bind(change.event_types.clone())
        .bind(change.disabled)
        .bind(change.expected_version);
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        Ok(self.pools.write.run("update_endpoint", run).await?.map(Endpoint::from))
    }

    /// Deletes an endpoint; returns whether there was one.
    pub(crate) async fn delete_endpoint(&self, account: AccountId, id: WebhookEndpointId) -> Result<bool, Error> {
        let query = sqlx::query(
            "update webhook_endpoints
             set disable_reason = 'DELETED', disable_time = now(), version = version + 1, update_time = now(),
                 previous_secret = null, previous_until = null
             where account_id = $1 and id = $2 and disable_reason is distinct from 'DELETED'",
        )
        .bind(account.0)
        .bind(id.0);
        let run = async |connection: &mut PgConnection| query.execute(connection).await;
        Ok(self.pools.write.run("delete_endpoint", run).await?.rows_affected() == 1)
    }

    /// Replaces the secret; the old one signs beside it for `overlap`.
    pub(crate) async fn rotate_secret(
        &self,
        account: AccountId,
        id: WebhookEndpointId,
        secret: Secret,
        overlap: Duration,
    ) -> Result<Option<Endpoint>, Error> {
        let query = sqlx::query_as::<_, Row>(concat!(
            "update webhook_endpoints
             set previous_secret = case when $4 > 0 then secret end,
                 previous_until = case when $4 > 0 then now() + make_interval(secs => $4) end,
                 secret = $3, version = version + 1, update_time = now()
             where account_id = $1 and id = $2 and disable_reason is distinct from 'DELETED'
             returning ",
            endpoint!()
        ))
        .bind(account.0)
        .bind(id.0)
        .bind(self.seal(account, id.0, secret)?)
        .bind(overlap.as_secs_f64());
        let run = async |connection: &mut PgConnection| query.fetch_optional(connection).await;
        Ok(self.pools.write.run("rotate_secret", run).await?.map(Endpoint::from))
    }
}

/// The endpoint that a request with this id created.
async fn find_requested(
    tx: &mut PgConnection,
    account: AccountId,
    request: Uuid,
) -> Result<Option<CreatedEndpoint>, Error> {
    #[derive(FromRow)]
    struct Requested {
        #[sqlx(flatten)]
        endpoint: Row,
        request_sha256: Option<Vec<u8>>,
    }
    let query = sqlx::query_as::<_, Requested>(concat!(
        "select request_sha256, ",
        endpoint!(),
        " from webhook_endpoints where account_id = $1 and request_id = $2"
    ))
    .bind(account.0)
    .bind(request)
    .fetch_optional(tx);
    let found = statement("find_requested_endpoint", query).await?;
    Ok(found.map(|found| CreatedEndpoint {
        endpoint: found.endpoint.into(),
        fresh: false,
        request_sha256: found.request_sha256,
    }))
}
