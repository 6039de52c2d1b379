//! The sending of deliveries: from the row that a trigger wrote to its end.
//!
//! Invariants: a delivery has no job while an earlier one of its generation and endpoint is pending; an attempt's result is
//! committed with the end of its lease; and finishing a delivery unblocks its successor. For that, whoever makes a delivery wait
//! share-locks its predecessor, and whoever finishes one unblocks in a later statement, so that no wake-up is lost. Rows are
//! locked in one order: job, endpoint, delivery.

use chassis::postgres::statement;
use domain::id::{WebhookDeliveryId, WebhookEndpointId};
use domain::name::DeliveryName;
use jobs::{ClaimRequest, Failure, Leased, NewJob, Retry};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::Store;
use super::rows::columns;
use crate::error::Error;
use crate::model::{
    AttemptResult, ClaimedDelivery, DELIVERY_JOBS, DELIVERY_RETENTION, DISABLE_AFTER, DeliveryOutcome, Generation,
    MAX_DELIVERY_ATTEMPTS, ReapedDeliveries, Secret, Settlement,
};

/// How many are enqueued, failed or deleted at once.
const MAX_BATCH: i64 = 200;

/// A row that has no job yet: id, account, and how many rounds of attempts it had.
type Unqueued = (Uuid, Uuid, i32);

impl Store {
    /// Enqueues new deliveries and makes those wait that have a predecessor; returns how many rows were handled. An advisory lock
    /// lets one process do so at a time: two could enqueue two events of one generation, neither seeing the other's.
    pub(crate) async fn enqueue_deliveries(&self) -> Result<usize, Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, Unqueued>(
                "with turn as materialized (
                     select pg_try_advisory_xact_lock(hashtextextended('webhooks to be enqueued', 0)) as ours
                 )
                 select d.id, d.account_id, d.round from webhook_deliveries d
                 join webhook_endpoints e on e.account_id = d.account_id and e.id = d.endpoint_id
                 where d.state = 1 and d.job_id is null and not d.waits and e.disable_time is null
                   and (select ours from turn)
                 order by d.id limit $1
                 for update of d skip locked",
            )
            .bind(MAX_BATCH)
            .fetch_all(&mut *tx);
            let found = statement("find_unqueued_deliveries", query).await?;
            if found.is_empty() {
                return Ok(0);
            }
            let blocked = block_successors(tx, &found).await?;
            for (id, account, round) in found.iter().filter(|(id, ..)| !blocked.contains(id)) {
                let mut job = NewJob::new(*account, DELIVERY_JOBS, format!("{id}/{round}"));
                job.payload = id.as_bytes().to_vec();
                job.max_attempts = MAX_DELIVERY_ATTEMPTS;
                let enqueued = jobs::enqueue(tx, &job).await?;
                let (jobs::Enqueued::Created(job) | jobs::Enqueued::Duplicate(job) | jobs::Enqueued::Conflict(job)) =
                    enqueued;
                let query = sqlx::query(
                    "update webhook_deliveries set job_id = $3, round = round + 1, next_attempt_time = now()
                     where account_id = $1 and id = $2",
                )
                .bind(account)
                .bind(id)
                .bind(job);
                statement("set_delivery_job", query.execute(&mut *tx)).await?;
            }
            Ok(found.len())
        };
        self.pools.webhook.transaction("enqueue_deliveries", run).await
    }

    /// Leases jobs of deliveries.
    pub(crate) async fn claim_deliveries(&self, wanted: ClaimRequest<'_>) -> Result<Vec<Leased>, Error> {
        let run = async |tx: &mut PgConnection| Ok(jobs::claim(tx, wanted).await?);
        self.pools.webhook.transaction("claim_deliveries", run).await
    }

    /// The delivery of a claimed job. `None` when it has ended, has another job by now, or has a disabled endpoint.
    pub(crate) async fn load_delivery(&self, leased: &Leased) -> Result<Option<ClaimedDelivery>, Error> {
        let Ok(id) = Uuid::from_slice(&leased.payload) else { return Ok(None) };
        let query = sqlx::query(concat!(
            "select d.id as delivery_id, d.endpoint_id, d.event_type, d.create_time as event_time, now() as asked_time,
                    e.url, e.secret, case when e.previous_until > now() then e.previous_secret end as previous_secret,
                    d.generation_id, ",
            columns!(),
            " from webhook_deliveries d
              join webhook_endpoints e on e.account_id = d.account_id and e.id = d.endpoint_id
              left join generations latest on latest.account_id = d.account_id and latest.id = d.generation_id
              left join lateral jsonb_populate_record(latest, d.generation) g on latest.id is not null
              where d.account_id = $1 and d.id = $2 and d.job_id = $3 and d.state = 1 and e.disable_time is null"
        ))
        .bind(leased.account)
        .bind(id)
        .bind(leased.lease.job);
        let run = async |connection: &mut PgConnection| {
            let row = query.fetch_optional(connection).await?;
            row.map(|row| claimed_delivery(&row, leased)).transpose()
        };
        Ok(self.pools.webhook.run("load_delivery", run).await?)
    }

    /// Ends a job that has nothing to send.
    pub(crate) async fn drop_delivery_job(&self, leased: &Leased) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| match jobs::cancel(tx, leased.lease).await {
            Ok(_) | Err(jobs::Error::StaleFence) => Ok(()),
            Err(error) => Err(error.into()),
        };
        self.pools.webhook.transaction("drop_delivery_job", run).await
    }

    /// Commits the result of an attempt with the end of its lease.
    pub(crate) async fn settle_delivery(
        &self,
        delivery: &ClaimedDelivery,
        result: &AttemptResult,
    ) -> Result<Settlement, Error> {
        let run = async |tx: &mut PgConnection| {
            let account = jobs::lock_lease(tx, delivery.lease).await?.account;
            let disabled = update_endpoint_health(tx, account, delivery, result).await?;
            let mut again = None;
            let outcome = if result.is_delivered() {
                jobs::complete(tx, delivery.lease).await?;
                DeliveryOutcome::Delivered
            } else {
                let retry =
                    if disabled.is_some() { Retry::Never } else { Retry::Counted { after: Some(result.pause) } };
                let cause = if result.reason.is_empty() { "HTTP_STATUS" } else { result.reason };
                let detail = format!("HTTP {}", result.http_status);
                match jobs::fail(tx, delivery.lease, &Failure { retry, cause: cause.to_owned(), detail }).await? {
                    jobs::RetryDecision::Retry(time) => {
                        again = Some(time);
                        DeliveryOutcome::Retried
                    }
                    jobs::RetryDecision::Failed | jobs::RetryDecision::Dead => DeliveryOutcome::Failed,
                }
            };
            let state: i16 = match outcome {
                DeliveryOutcome::Retried => 1,
                DeliveryOutcome::Delivered => 2,
                DeliveryOutcome::Failed => 3,
            };
            let query = sqlx::query(
                "with sent as (
                     update webhook_deliveries
                     set attempt_count = attempt_count + 1, state = $3, next_attempt_time = $4,
                         end_time = case when $3 > 1 then now() end
                     where account_id = $1 and id = $2
                     returning id, account_id, attempt_count
                 )
                 insert into webhook_attempts (delivery_id, number, account_id, http_status, latency_ms, reason, excerpt)
                 select id, attempt_count, account_id, $5, $6, $7, $8 from sent",
            )
            .bind(account)
            .bind(delivery.name.delivery.0)
            .bind(state)
            .bind(again)
            .bind(i32::from(result.http_status))
            .bind(i32::try_from(result.latency.as_millis()).unwrap_or(i32::MAX))
            .bind(result.reason)
            .bind(&result.excerpt);
            statement("settle_delivery", query.execute(&mut *tx)).await?;
            if outcome != DeliveryOutcome::Retried {
                unblock_successors(tx, &[delivery.name.delivery.0]).await?;
            }
            Ok(Settlement { outcome, disabled })
        };
        self.pools.webhook.transaction("settle_delivery", run).await
    }

    /// Takes expired leases back, fails what cannot be sent, and deletes what ended long ago. Returns whether something may be
    /// sent now.
    pub(crate) async fn reap_deliveries(&self) -> Result<ReapedDeliveries, Error> {
        let run = async |tx: &mut PgConnection| {
            let reaped = jobs::reap(tx, DELIVERY_JOBS).await?;
            let dead_lettered: Vec<Uuid> = reaped.dead_lettered.iter().map(|dead_lettered| dead_lettered.job).collect();
            let query = sqlx::query_scalar::<_, Uuid>(
                "update webhook_deliveries d set state = 3, end_time = now(), next_attempt_time = null
                 where d.state = 1 and d.id in (
                     select id from (
                         select b.id from webhook_deliveries b join jobs j on j.account_id = b.account_id and j.id = b.job_id
                         where j.id = any ($1) and b.state = 1
                         union all
                         (select o.id from webhook_endpoints e
                          join webhook_deliveries o on o.account_id = e.account_id and o.endpoint_id = e.id
                          where e.disable_time is not null and o.state = 1 limit $2)
                     ) lost
                 )
                 returning d.id",
            )
            .bind(dead_lettered)
            .bind(MAX_BATCH)
            .fetch_all(&mut *tx);
            let lost = statement("fail_deliveries", query).await?;
            if !lost.is_empty() {
                unblock_successors(tx, &lost).await?;
            }
            let query = sqlx::query(
                "delete from webhook_deliveries where id in (
                     select id from webhook_deliveries
                     where state > 1 and end_time < now() - make_interval(secs => $1) limit $2
                 )",
            )
            .bind(DELIVERY_RETENTION.as_secs_f64())
            .bind(MAX_BATCH);
            statement("delete_deliveries", query.execute(&mut *tx)).await?;
            Ok(ReapedDeliveries { ready: !reaped.requeued.is_empty() || !lost.is_empty(), failed: lost.len() })
        };
        self.pools.reaper.transaction("reap_deliveries", run).await
    }

    /// How many are pending, and the age of the oldest in seconds. Sets the gauges of the jobs, too.
    pub(crate) async fn pending_deliveries(&self) -> Result<(i64, f64), Error> {
        let run = async |tx: &mut PgConnection| {
            jobs::observe(tx, DELIVERY_JOBS).await?;
            let query = sqlx::query_as(
                "select count(*), coalesce(extract(epoch from now() - min(create_time)), 0)::double precision
                 from webhook_deliveries where state = 1",
            );
            Ok(statement("pending_deliveries", query.fetch_one(tx)).await?)
        };
        self.pools.read.transaction("pending_deliveries", run).await
    }
}

/// Makes those of these wait that have a pending predecessor, and returns them.
async fn block_successors(tx: &mut PgConnection, found: &[Unqueued]) -> Result<Vec<Uuid>, Error> {
    let ids: Vec<Uuid> = found.iter().map(|(id, ..)| *id).collect();
    // The share lock on the predecessor prevents a lost wake-up: its end either waits for this transaction and then finds the
    // successor waiting, or has committed, and then the predecessor is no longer pending here.
    let query = sqlx::query_scalar::<_, Uuid>(
        "select d.id from unnest($1::uuid[]) as wanted (id)
         join webhook_deliveries d on d.id = wanted.id
         cross join lateral (
             select id from webhook_deliveries b
             where b.account_id = d.account_id and b.endpoint_id = d.endpoint_id and b.generation_id = d.generation_id
               and b.generation_version < d.generation_version and b.state = 1
             order by b.generation_version limit 1
             for share
         ) before",
    )
    .bind(ids)
    .fetch_all(&mut *tx);
    let blocked = statement("lock_predecessors", query).await?;
    if !blocked.is_empty() {
        let query = sqlx::query("update webhook_deliveries set waits = true where id = any ($1)").bind(blocked.clone());
        statement("block_deliveries", query.execute(tx)).await?;
    }
    Ok(blocked)
}

/// Unblocks the successors of these, which have just ended. One that has another predecessor is blocked again when it is
/// enqueued.
async fn unblock_successors(tx: &mut PgConnection, ended: &[Uuid]) -> Result<(), Error> {
    let query = sqlx::query(
        "update webhook_deliveries d set waits = false
         from webhook_deliveries o
         where o.id = any ($1) and d.account_id = o.account_id and d.endpoint_id = o.endpoint_id
           and d.generation_id = o.generation_id and d.state = 1 and d.waits",
    )
    .bind(ended.to_vec());
    statement("unblock_deliveries", query.execute(tx)).await?;
    Ok(())
}

/// Updates the endpoint's health after an attempt; returns the reason when this attempt disables it. It writes only a change, so
/// that attempts at one endpoint do not wait for one another's row lock.
async fn update_endpoint_health(
    tx: &mut PgConnection,
    account: Uuid,
    delivery: &ClaimedDelivery,
    result: &AttemptResult,
) -> Result<Option<&'static str>, Error> {
    let endpoint = delivery.name.endpoint.0;
    if result.is_delivered() {
        let query = sqlx::query(
            "update webhook_endpoints set failing_since = null
             where account_id = $1 and id = $2 and failing_since is not null",
        )
        .bind(account)
        .bind(endpoint);
        statement("clear_endpoint_failure", query.execute(tx)).await?;
        return Ok(None);
    }
    let query = sqlx::query_scalar::<_, Option<String>>(
        "update webhook_endpoints
         set failing_since = coalesce(failing_since, now()),
             disable_reason = case when $3 then 'GONE'
                                   when failing_since < now() - make_interval(secs => $4) then 'FAILING' end,
             disable_time = case when $3 or failing_since < now() - make_interval(secs => $4) then now() end,
             version = version + ($3 or coalesce(failing_since < now() - make_interval(secs => $4), false))::int
         where account_id = $1 and id = $2 and disable_time is null
           and ($3 or failing_since is null or failing_since < now() - make_interval(secs => $4))
         returning disable_reason",
    )
    .bind(account)
    .bind(endpoint)
    .bind(result.is_gone())
    .bind(DISABLE_AFTER.as_secs_f64())
    .fetch_optional(&mut *tx);
    let Some(reason) = statement("note_endpoint_failure", query).await?.flatten() else { return Ok(None) };
    let (reason, why) = match reason.as_str() {
        "GONE" => ("GONE", "it answered 410 Gone"),
        _ => ("FAILING", "no attempt has succeeded for three days"),
    };
    let query = sqlx::query(
        "insert into notices (id, account_id, title, body) values ($1, $2, 'A webhook endpoint was disabled', $3)",
    )
    .bind(domain::id::NoticeId::new().0)
    .bind(account)
    .bind(format!("{}: {why}. Nothing more is sent there until it is enabled again.", delivery.url));
    statement("insert_endpoint_notice", query.execute(tx)).await?;
    Ok(Some(reason))
}

fn claimed_delivery(row: &PgRow, leased: &Leased) -> sqlx::Result<ClaimedDelivery> {
    let secret = |bytes: Vec<u8>| {
        bytes.try_into().map(Secret).map_err(|_| sqlx::Error::ColumnNotFound("a secret of 32 bytes".to_owned()))
    };
    let previous: Option<Vec<u8>> = row.try_get("previous_secret")?;
    let secrets = std::iter::once(row.try_get("secret")?).chain(previous).map(secret).collect::<sqlx::Result<_>>()?;
    let generation: Option<Uuid> = row.try_get("generation_id")?;
    Ok(ClaimedDelivery {
        lease: leased.lease,
        name: DeliveryName {
            endpoint: WebhookEndpointId(row.try_get("endpoint_id")?),
            delivery: WebhookDeliveryId(row.try_get("delivery_id")?),
        },
        url: row.try_get("url")?,
        secrets,
        event_type: row.try_get("event_type")?,
        create_time: row.try_get("event_time")?,
        now: row.try_get("asked_time")?,
        attempt: leased.attempt,
        generation: generation.map(|_| Generation::from_row(row).map(Box::new)).transpose()?,
    })
}
