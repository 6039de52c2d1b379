//! Deliveries at work: from the row that a trigger wrote to its end.
//!
//! Invariants: an event has no job while an earlier one of its generation and endpoint is pending; what an attempt came to is
//! committed with the end of its lease; and what one waits for, frees it when it ends. To that end whoever makes one wait holds
//! what it waits for, and whoever ends one polls for what waits after that. Rows are locked in one order: job, endpoint,
//! delivery.

use chassis::postgres::statement;
use domain::id::{WebhookDeliveryId, WebhookEndpointId};
use domain::name::DeliveryName;
use jobs::{ClaimRequest, Failure, Leased, NewJob, Retry};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::Store;
use super::row::columns;
use crate::error::Error;
use crate::record::Record;
use crate::webhooks::{ATTEMPTS, KEPT, KIND, Outcome, PATIENCE, Parcel, Secret, Settled};

/// How many are enqueued, given up or forgotten at once.
const BATCH: i64 = 200;

/// A row that has no job yet: id, account, and how often it was put to work.
type New = (Uuid, Uuid, i32);

impl Store {
    /// Gives jobs to what is new and may be sent, and has the rest wait; returns how many rows it saw to. One process at a
    /// time, so that each sees what the other has done.
    pub(crate) async fn enqueue_deliveries(&self) -> Result<usize, Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, New>(
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
            .bind(BATCH)
            .fetch_all(&mut *tx);
            let found = statement("new_deliveries", query).await?;
            if found.is_empty() {
                return Ok(0);
            }
            let behind = held_back(tx, &found).await?;
            for (id, account, round) in found.iter().filter(|(id, ..)| !behind.contains(id)) {
                let mut job = NewJob::new(*account, KIND, format!("{id}/{round}"));
                job.payload = id.as_bytes().to_vec();
                job.max_attempts = ATTEMPTS;
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
                statement("delivery_enqueued", query.execute(&mut *tx)).await?;
            }
            Ok(found.len())
        };
        self.pools.webhook.transaction("enqueue_deliveries", run).await
    }

    pub(crate) async fn claim_deliveries(&self, wanted: ClaimRequest<'_>) -> Result<Vec<Leased>, Error> {
        let run = async |tx: &mut PgConnection| Ok(jobs::claim(tx, wanted).await?);
        self.pools.webhook.transaction("claim_deliveries", run).await
    }

    /// What a job is to send. Nothing when that is over, was put to work anew, or has a disabled endpoint.
    pub(crate) async fn parcel(&self, leased: &Leased) -> Result<Option<Parcel>, Error> {
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
            row.map(|row| parcel(&row, leased)).transpose()
        };
        Ok(self.pools.webhook.run("load_delivery", run).await?)
    }

    /// Ends a job that has nothing to send.
    pub(crate) async fn let_go(&self, leased: &Leased) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| match jobs::cancel(tx, leased.lease).await {
            Ok(_) | Err(jobs::Error::StaleFence) => Ok(()),
            Err(error) => Err(error.into()),
        };
        self.pools.webhook.transaction("let_go_of_delivery", run).await
    }

    /// Commits what an attempt came to.
    pub(crate) async fn settle(&self, parcel: &Parcel, outcome: &Outcome) -> Result<Settled, Error> {
        let run = async |tx: &mut PgConnection| {
            let account = jobs::lock_lease(tx, parcel.lease).await?.account;
            let disabled = judge(tx, account, parcel, outcome).await?;
            let mut again = None;
            let settled = if outcome.is_delivered() {
                jobs::complete(tx, parcel.lease).await?;
                Settled::Delivered
            } else {
                let retry = if disabled { Retry::Never } else { Retry::Counted { after: Some(outcome.pause) } };
                let cause = if outcome.reason.is_empty() { "HTTP_STATUS" } else { outcome.reason };
                let detail = format!("HTTP {}", outcome.http_status);
                match jobs::fail(tx, parcel.lease, &Failure { retry, cause: cause.to_owned(), detail }).await? {
                    jobs::RetryDecision::Retry(time) => {
                        again = Some(time);
                        Settled::Again
                    }
                    jobs::RetryDecision::Failed | jobs::RetryDecision::Dead => Settled::GivenUp,
                }
            };
            let state: i16 = match settled {
                Settled::Again => 1,
                Settled::Delivered => 2,
                Settled::GivenUp => 3,
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
            .bind(parcel.name.delivery.0)
            .bind(state)
            .bind(again)
            .bind(i32::from(outcome.http_status))
            .bind(i32::try_from(outcome.latency.as_millis()).unwrap_or(i32::MAX))
            .bind(outcome.reason)
            .bind(&outcome.excerpt);
            statement("settle_delivery", query.execute(&mut *tx)).await?;
            if settled != Settled::Again {
                free(tx, &[parcel.name.delivery.0]).await?;
            }
            Ok(settled)
        };
        self.pools.webhook.transaction("settle_delivery", run).await
    }

    /// Takes back leases that ran out, gives up what cannot be sent, and forgets what is long over. Returns whether something
    /// may be sent now.
    pub(crate) async fn sweep_deliveries(&self) -> Result<bool, Error> {
        let run = async |tx: &mut PgConnection| {
            let reaped = jobs::reap(tx, KIND).await?;
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
            .bind(BATCH)
            .fetch_all(&mut *tx);
            let lost = statement("give_up_deliveries", query).await?;
            if !lost.is_empty() {
                free(tx, &lost).await?;
                metrics::counter!("rushes_webhook_deliveries_total", "outcome" => "given_up")
                    .increment(lost.len() as u64);
            }
            let query = sqlx::query(
                "delete from webhook_deliveries where id in (
                     select id from webhook_deliveries
                     where state > 1 and end_time < now() - make_interval(secs => $1) limit $2
                 )",
            )
            .bind(KEPT.as_secs_f64())
            .bind(BATCH);
            statement("forget_deliveries", query.execute(&mut *tx)).await?;
            Ok(!reaped.requeued.is_empty() || !lost.is_empty())
        };
        self.pools.rescue.transaction("sweep_deliveries", run).await
    }

    /// How many are pending, and for how many seconds the oldest of them is.
    pub(crate) async fn pending_deliveries(&self) -> Result<(i64, f64), Error> {
        let run = async |tx: &mut PgConnection| {
            jobs::observe(tx, KIND).await?;
            let query = sqlx::query_as(
                "select count(*), coalesce(extract(epoch from now() - min(create_time)), 0)::double precision
                 from webhook_deliveries where state = 1",
            );
            Ok(statement("pending_deliveries", query.fetch_one(tx)).await?)
        };
        self.pools.read.transaction("pending_deliveries", run).await
    }
}

/// Which of these have an earlier one before them; they wait from now on.
async fn held_back(tx: &mut PgConnection, found: &[New]) -> Result<Vec<Uuid>, Error> {
    let ids: Vec<Uuid> = found.iter().map(|(id, ..)| *id).collect();
    // What is waited for is held, so that it does not end unseen: whoever ends it finds what waits, or has ended it already.
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
    let behind = statement("deliveries_before", query).await?;
    if !behind.is_empty() {
        let query = sqlx::query("update webhook_deliveries set waits = true where id = any ($1)").bind(behind.clone());
        statement("deliveries_wait", query.execute(tx)).await?;
    }
    Ok(behind)
}

/// Lets go what waits for these, which have just ended. What still has one before it is made to wait again.
async fn free(tx: &mut PgConnection, ended: &[Uuid]) -> Result<(), Error> {
    let query = sqlx::query(
        "update webhook_deliveries d set waits = false
         from webhook_deliveries o
         where o.id = any ($1) and d.account_id = o.account_id and d.endpoint_id = o.endpoint_id
           and d.generation_id = o.generation_id and d.state = 1 and d.waits",
    )
    .bind(ended.to_vec());
    statement("free_deliveries", query.execute(tx)).await?;
    Ok(())
}

/// What an attempt says of its endpoint; returns whether nothing more is to be sent there. Written only when it changes
/// something, so that attempts at one endpoint do not wait for one another.
async fn judge(tx: &mut PgConnection, account: Uuid, parcel: &Parcel, outcome: &Outcome) -> Result<bool, Error> {
    let endpoint = parcel.name.endpoint.0;
    if outcome.is_delivered() {
        let query = sqlx::query(
            "update webhook_endpoints set failing_since = null
             where account_id = $1 and id = $2 and failing_since is not null",
        )
        .bind(account)
        .bind(endpoint);
        statement("endpoint_works", query.execute(tx)).await?;
        return Ok(false);
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
    .bind(outcome.is_gone())
    .bind(PATIENCE.as_secs_f64())
    .fetch_optional(&mut *tx);
    let Some(reason) = statement("endpoint_fails", query).await?.flatten() else { return Ok(false) };
    let why = if reason == "GONE" { "it answered 410 Gone" } else { "no attempt has succeeded for three days" };
    let query = sqlx::query(
        "insert into notices (id, account_id, title, body) values ($1, $2, 'A webhook endpoint was disabled', $3)",
    )
    .bind(domain::id::NoticeId::new().0)
    .bind(account)
    .bind(format!("{}: {why}. Nothing more is sent there until it is enabled again.", parcel.url));
    statement("notice_of_endpoint", query.execute(tx)).await?;
    tracing::info!(account = %account, endpoint = %endpoint, reason, "a webhook endpoint was disabled");
    Ok(true)
}

fn parcel(row: &PgRow, leased: &Leased) -> sqlx::Result<Parcel> {
    let secret = |bytes: Vec<u8>| {
        bytes.try_into().map(Secret).map_err(|_| sqlx::Error::ColumnNotFound("a secret of 32 bytes".to_owned()))
    };
    let previous: Option<Vec<u8>> = row.try_get("previous_secret")?;
    let secrets = std::iter::once(row.try_get("secret")?).chain(previous).map(secret).collect::<sqlx::Result<_>>()?;
    let generation: Option<Uuid> = row.try_get("generation_id")?;
    Ok(Parcel {
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
        record: generation.map(|_| Record::from_row(row).map(Box::new)).transpose()?,
    })
}
