//! The log of deliveries as users see it, tests, and redelivery. How deliveries are sent is in `delivery_jobs.rs`.
//!
//! Invariant: every statement names the account. Rows are locked in one order: job, endpoint, delivery.

use std::time::Duration;

use chassis::postgres::statement;
use domain::id::{AccountId, GenerationId, WebhookDeliveryId, WebhookEndpointId};
use domain::name::DeliveryName;
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use crate::error::{Error, Noun};
use crate::model::{Attempt, Delivery, DeliveryState, TEST_EVENT};

/// How many of a delivery's attempts are shown.
const MAX_ATTEMPTS_SHOWN: i64 = 20;

/// The columns that a [`Delivery`] is read from.
macro_rules! delivery {
    () => {
        "id, endpoint_id, event_type, generation_id, generation_version, state, attempt_count, next_attempt_time,
         create_time, end_time"
    };
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    endpoint_id: Uuid,
    event_type: String,
    generation_id: Option<Uuid>,
    generation_version: Option<i64>,
    state: i16,
    attempt_count: i32,
    next_attempt_time: Option<OffsetDateTime>,
    create_time: OffsetDateTime,
    end_time: Option<OffsetDateTime>,
}

#[derive(FromRow)]
struct AttemptRow {
    delivery_id: Uuid,
    number: i32,
    attempt_time: OffsetDateTime,
    http_status: i32,
    latency_ms: i32,
    reason: String,
    excerpt: String,
}

impl Store {
    /// Up to `limit` deliveries of an endpoint made before `before`, newest first.
    pub(crate) async fn deliveries(
        &self,
        account: AccountId,
        endpoint: WebhookEndpointId,
        before: Option<WebhookDeliveryId>,
        limit: i64,
    ) -> Result<Vec<Delivery>, Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, Row>(concat!(
                "select ",
                delivery!(),
                " from webhook_deliveries where account_id = $1 and endpoint_id = $2 and id < $3
                  order by id desc limit $4"
            ))
            .bind(account.0)
            .bind(endpoint.0)
            .bind(before.map_or(Uuid::max(), |id| id.0))
            .bind(limit)
            .fetch_all(&mut *tx);
            let rows = statement("list_deliveries", query).await?;
            with_attempts(tx, account, rows).await
        };
        self.pools.read.without_transaction("list_deliveries", run).await
    }

    pub(crate) async fn delivery(&self, account: AccountId, name: DeliveryName) -> Result<Option<Delivery>, Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, Row>(concat!(
                "select ",
                delivery!(),
                " from webhook_deliveries where account_id = $1 and endpoint_id = $2 and id = $3"
            ))
            .bind(account.0)
            .bind(name.endpoint.0)
            .bind(name.delivery.0)
            .fetch_all(&mut *tx);
            let rows = statement("get_delivery", query).await?;
            Ok(with_attempts(tx, account, rows).await?.pop())
        };
        self.pools.read.without_transaction("get_delivery", run).await
    }

    /// Writes a test event to be sent, unless the endpoint got as many within `window` as `max`; `None` when the endpoint is disabled
    /// by now.
    pub(crate) async fn create_test_delivery(
        &self,
        account: AccountId,
        endpoint: WebhookEndpointId,
        (max, window): (i64, Duration),
    ) -> Result<Option<WebhookDeliveryId>, Error> {
        let run = async |tx: &mut PgConnection| {
            // Tests of one endpoint are written one at a time, so that the count holds.
            let query = sqlx::query(
                "select from webhook_endpoints where account_id = $1 and id = $2 and disable_time is null
                 for no key update",
            )
            .bind(account.0)
            .bind(endpoint.0);
            if statement("lock_endpoint", query.fetch_optional(&mut *tx)).await?.is_none() {
                return Ok(None);
            }
            let query = sqlx::query_scalar(
                "insert into webhook_deliveries (id, account_id, endpoint_id, event_type)
                 select rushes_uuid_v7(), $1, $2, $3
                 where (select count(*) from webhook_deliveries
                        where account_id = $1 and endpoint_id = $2 and event_type = 'webhook.test'
                          and create_time > now() - make_interval(secs => $4)) < $5
                 returning id",
            )
            .bind(account.0)
            .bind(endpoint.0)
            .bind(TEST_EVENT)
            .bind(window.as_secs_f64())
            .bind(max)
            .fetch_optional(tx);
            let created = statement("create_test_delivery", query).await?;
            created.map(WebhookDeliveryId).map(Some).ok_or(Error::TooManyTests)
        };
        self.pools.write.transaction_of(account.0, "create_test_delivery", run).await
    }

    /// Has a delivery sent now, with all its attempts, before all else that waits for its endpoint, and although an earlier event of
    /// its generation is pending. One that is on its way is left alone.
    pub(crate) async fn redeliver(&self, account: AccountId, name: DeliveryName) -> Result<(), Error> {
        let query = sqlx::query_scalar::<_, bool>(
            "with found as materialized (
                 select id from webhook_deliveries where account_id = $1 and endpoint_id = $2 and id = $3
             ), again as (
                 update webhook_deliveries d
                 set state = $4, job_id = null, waits = false, expedited = true, due_time = to_timestamp(0),
                     next_attempt_time = now(), end_time = null, failures = 0, refusals = 0, failing_since = null
                 from found
                 where d.account_id = $1 and d.id = found.id and (d.state > 1 /* PENDING */ or d.job_id is null)
             )
             select exists (select from found)",
        )
        .bind(account.0)
        .bind(name.endpoint.0)
        .bind(name.delivery.0)
        .bind(DeliveryState::Pending as i16);
        let run = async |connection: &mut PgConnection| query.fetch_one(connection).await;
        let found = self.pools.write.run("redeliver", run).await?;
        if found { Ok(()) } else { Err(Error::NotFound(Noun::WebhookDelivery)) }
    }
}

async fn with_attempts(tx: &mut PgConnection, account: AccountId, rows: Vec<Row>) -> Result<Vec<Delivery>, Error> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let query = sqlx::query_as::<_, AttemptRow>(
        "select a.delivery_id, a.number, a.attempt_time, a.http_status, a.latency_ms, a.reason, a.excerpt
         from unnest($2::uuid[]) as wanted (id)
         cross join lateral (
             select * from webhook_attempts where delivery_id = wanted.id and account_id = $1
             order by number desc limit $3
         ) a
         order by a.number desc",
    )
    .bind(account.0)
    .bind(ids)
    .bind(MAX_ATTEMPTS_SHOWN)
    .fetch_all(tx);
    let attempts = statement("list_attempts", query).await?;
    Ok(rows.into_iter().map(|row| to_delivery(row, &attempts)).collect())
}

fn to_delivery(row: Row, attempts: &[AttemptRow]) -> Delivery {
    let to_attempt = |row: &AttemptRow| Attempt {
        number: row.number,
        time: row.attempt_time,
        http_status: row.http_status,
        latency: Duration::from_millis(row.latency_ms.unsigned_abs().into()),
        reason: row.reason.clone(),
        excerpt: row.excerpt.clone(),
    };
    Delivery {
        name: DeliveryName { endpoint: WebhookEndpointId(row.endpoint_id), delivery: WebhookDeliveryId(row.id) },
        event_type: row.event_type,
        generation: row.generation_id.map(GenerationId).zip(row.generation_version),
        state: row.state,
        attempt_count: row.attempt_count,
        next_attempt_time: row.next_attempt_time,
        attempts: attempts.iter().filter(|attempt| attempt.delivery_id == row.id).map(to_attempt).collect(),
        create_time: row.create_time,
        end_time: row.end_time,
    }
}
