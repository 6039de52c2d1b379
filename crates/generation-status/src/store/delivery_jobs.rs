//! The sending of deliveries: from the row that a trigger wrote to a leased job. What becomes of an attempt is in
//! `delivery_results.rs`.
//!
//! Invariants: a job is one attempt, and an endpoint has at most a few at a time, so that neither a backlog nor a slow endpoint
//! is in the way of others; a delivery has no job while an earlier one of its generation and endpoint is pending, unless that one
//! is refused for good; and finishing a delivery unblocks its successor. For that, whoever makes a delivery wait locks its
//! predecessor, and whoever finishes one unblocks in a later statement, so that no wake-up is lost. Rows are locked in one order:
//! job, endpoint, delivery.

use std::time::Duration;

use chassis::postgres::statement;
use domain::id::{WebhookDeliveryId, WebhookEndpointId};
use domain::name::DeliveryName;
use jobs::{ClaimRequest, Leased, Limits, NewJob};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use super::delivery_results::unblock_successors;
use super::rows::columns;
use crate::error::Error;
use crate::model::{
    AnswerSpeed, ClaimedDelivery, DELIVERY_JOBS, DELIVERY_RETENTION, DeliveryState, Failures, FreeSlots, Generation,
    MAX_DELIVERY_ATTEMPTS, PROMPT_QUEUE, ReapedDeliveries, SLOW_QUEUE, Unqueued,
};

/// How many are enqueued, failed or deleted at once.
const MAX_BATCH: i64 = 200;

/// How many deliveries of one account may be on their way, over all processes: its slow endpoints, one each, and some more.
const MAX_SENDING_PER_ACCOUNT: i32 = 24;

/// A delivery that is due.
#[derive(FromRow)]
struct Due {
    id: Uuid,
    account_id: Uuid,
    /// How many jobs it has had.
    round: i32,
    answer_speed: String,
}

impl Store {
    /// Whether there may be something to enqueue or to send.
    pub(crate) async fn any_delivery_due(&self) -> Result<bool, Error> {
        let query = sqlx::query_scalar(concat!(
            "select exists (select from webhook_deliveries where state = 1 /* PENDING */ and job_id is null and not waits)
                 or ",
            jobs::any_due!("$1")
        ))
        .bind(DELIVERY_JOBS);
        let run = async |connection: &mut PgConnection| query.fetch_one(connection).await;
        Ok(self.pools.webhook.run("any_delivery_due", run).await?)
    }

    /// Enqueues what is due, of each endpoint only as many as may be on their way to it, and makes those wait that have a
    /// predecessor. An advisory lock lets one process do so at a time: two could enqueue two events of one generation, neither
    /// seeing the other's.
    pub(crate) async fn enqueue_deliveries(&self) -> Result<Unqueued, Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, Due>(
                "with recursive turn as materialized (
                     select pg_try_advisory_xact_lock(hashtextextended('webhooks to be enqueued', 0)) as ours
                 ), endpoints (id) as (
                     -- A loose index scan: one step for each endpoint with something that is not on its way, however much it is.
                     (select endpoint_id from webhook_deliveries
                      where state = 1 /* PENDING */ and job_id is null and not waits and (select ours from turn)
                      order by endpoint_id limit 1)
                     union all
                     select (select d.endpoint_id from webhook_deliveries d
                             where d.state = 1 /* PENDING */ and d.job_id is null and not d.waits and d.endpoint_id > endpoints.id
                             order by d.endpoint_id limit 1)
                     from endpoints where endpoints.id is not null
                 ), ready as (
                     select e.id, e.account_id, e.answer_speed, room.free,
                            row_number() over (partition by e.account_id order by e.id) as place
                     from endpoints
                     join webhook_endpoints e on e.id = endpoints.id and e.disable_time is null
                     cross join lateral (
                         select case e.answer_speed when 'prompt' then $2 else $3 end - (
                             select count(*) from webhook_deliveries s
                             where s.endpoint_id = e.id and s.state = 1 /* PENDING */ and s.job_id is not null
                         ) as free
                     ) room
                     where room.free > 0
                       and exists (select from webhook_deliveries d
                                   where d.account_id = e.account_id and d.endpoint_id = e.id and d.state = 1 /* PENDING */
                                     and d.job_id is null and not d.waits and d.due_time <= now())
                 ), chosen as materialized (
                     -- Each account's first endpoint, then each account's second: whose ids are old, or who has many endpoints with
                     -- something due, is not before the others.
                     select * from ready order by place, id limit $1
                 )
                 select due.id, chosen.account_id, due.round, chosen.answer_speed
                 from chosen
                 cross join lateral (
                     select d.id, d.round, d.due_time from webhook_deliveries d
                     where d.account_id = chosen.account_id and d.endpoint_id = chosen.id
                       and d.state = 1 /* PENDING */ and d.job_id is null and not d.waits and d.due_time <= now()
                     order by d.due_time, d.id limit chosen.free
                     for update skip locked
                 ) due
                 order by chosen.place, due.due_time, due.id
                 limit $1",
            )
            .bind(MAX_BATCH)
            .bind(AnswerSpeed::Prompt.max_sending())
            .bind(AnswerSpeed::Slow.max_sending())
            .fetch_all(&mut *tx);
            let found = statement("find_due_deliveries", query).await?;
            if found.is_empty() {
                return Ok(Unqueued::default());
            }
            let (blocked, overtaken) = block_successors(tx, &found).await?;
            for due in found.iter().filter(|due| !blocked.contains(&due.id)) {
                let mut job = NewJob::new(due.account_id, DELIVERY_JOBS, format!("{}/{}", due.id, due.round));
                job.payload = due.id.as_bytes().to_vec();
                job.queue = AnswerSpeed::parse(&due.answer_speed).queue().to_owned();
                job.max_attempts = MAX_DELIVERY_ATTEMPTS;
                let enqueued = jobs::enqueue(tx, &job).await?;
                let (jobs::Enqueued::Created(job) | jobs::Enqueued::Duplicate(job) | jobs::Enqueued::Conflict(job)) =
                    enqueued;
                let query = sqlx::query(
                    "update webhook_deliveries set job_id = $3, round = round + 1, next_attempt_time = now()
                     where account_id = $1 and id = $2",
                )
                .bind(due.account_id)
                .bind(due.id)
                .bind(job);
                statement("set_delivery_job", query.execute(&mut *tx)).await?;
            }
            Ok(Unqueued { handled: found.len(), overtaken })
        };
        self.pools.webhook.transaction("enqueue_deliveries", run).await
    }

    /// Leases as many jobs of deliveries as there are slots for, of prompt endpoints and of slow ones.
    pub(crate) async fn claim_deliveries(
        &self,
        worker: &str,
        free: FreeSlots,
        lease: Duration,
    ) -> Result<Vec<Leased>, Error> {
        let run = async |tx: &mut PgConnection| {
            let mut leased = Vec::new();
            for (queue, limit) in [(PROMPT_QUEUE, free.prompt), (SLOW_QUEUE, free.slow)] {
                if limit > 0 {
                    let (queues, limits) = ([queue.to_owned()], Some(Limits { account: MAX_SENDING_PER_ACCOUNT }));
                    let wanted = ClaimRequest { kind: DELIVERY_JOBS, queues: &queues, worker, limit, lease, limits };
                    leased.extend(jobs::claim(tx, wanted).await?);
                }
            }
            Ok(leased)
        };
        self.pools.webhook.transaction("claim_deliveries", run).await
    }

    /// Ends a job that is not carried out, and puts its delivery, unless that has ended, back to those that are to be enqueued: its
    /// endpoint was disabled, or has turned out to be slow.
    pub(crate) async fn put_delivery_back(&self, leased: &Leased, delay: Duration) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            match jobs::cancel(tx, leased.lease).await {
                Ok(_) => {}
                Err(jobs::Error::StaleFence) => return Ok(()),
                Err(error) => return Err(Error::from(error)),
            }
            let query = sqlx::query(
                "update webhook_deliveries
                 set job_id = null, due_time = greatest(due_time, now() + make_interval(secs => $3))
                 where account_id = $1 and job_id = $2 and state = 1 /* PENDING */",
            )
            .bind(leased.account)
            .bind(leased.lease.job)
            .bind(delay.as_secs_f64());
            statement("put_delivery_back", query.execute(tx)).await?;
            Ok(())
        };
        self.pools.webhook.transaction("put_delivery_back", run).await
    }

    /// The delivery of a claimed job. `None` when it has ended, has another job by now, or has a disabled endpoint;
    /// [`Error::SecretUnreadable`] when none of our keys opens its endpoint's secret.
    pub(crate) async fn load_delivery(&self, leased: &Leased) -> Result<Option<ClaimedDelivery>, Error> {
        let Ok(id) = Uuid::from_slice(&leased.payload) else { return Ok(None) };
        let query = sqlx::query(concat!(
            "select d.id as delivery_id, d.endpoint_id, d.event_type, d.create_time as event_time, now() as asked_time,
                    d.attempt_count + 1 as attempt, e.answer_speed, e.url, e.secret, case when e.previous_until > now() then e.previous_secret end as previous_secret,
                    d.generation_id, ",
            columns!(),
            " from webhook_deliveries d
              join webhook_endpoints e on e.account_id = d.account_id and e.id = d.endpoint_id
              left join generations latest on latest.account_id = d.account_id and latest.id = d.generation_id
              left join lateral jsonb_populate_record(latest, d.generation) g on latest.id is not null
              where d.account_id = $1 and d.id = $2 and d.job_id = $3 and d.state = 1 /* PENDING */ and e.disable_time is null"
        ))
        .bind(leased.account)
        .bind(id)
        .bind(leased.lease.job);
        let run = async |connection: &mut PgConnection| {
            let row = query.fetch_optional(connection).await?;
            row.map(|row| claimed_delivery(&row, leased)).transpose()
        };
        let Some((mut delivery, stored)) = self.pools.webhook.run("load_delivery", run).await? else { return Ok(None) };
        let open = |stored: &Vec<u8>| self.secrets.open(leased.account, delivery.name.endpoint.0, stored);
        delivery.secrets = stored.iter().map(open).collect::<Option<_>>().ok_or(Error::SecretUnreadable)?;
        Ok(Some(delivery))
    }

    /// Takes expired leases back, fails what cannot be sent, and deletes what ended long ago. Returns whether something may be
    /// sent now.
    pub(crate) async fn reap_deliveries(&self) -> Result<ReapedDeliveries, Error> {
        let run = async |tx: &mut PgConnection| {
            let reaped = jobs::reap(tx, DELIVERY_JOBS).await?;
            let dead_lettered: Vec<Uuid> = reaped.dead_lettered.iter().map(|dead_lettered| dead_lettered.job).collect();
            let query = sqlx::query_scalar::<_, Uuid>(
                "update webhook_deliveries d set state = $3, end_time = now(), next_attempt_time = null
                 where d.state = 1 /* PENDING */ and d.id in (
                     select id from (
                         select b.id from webhook_deliveries b join jobs j on j.account_id = b.account_id and j.id = b.job_id
                         where j.id = any ($1) and b.state = 1 /* PENDING */
                         union all
                         (select o.id from webhook_endpoints e
                          join webhook_deliveries o on o.account_id = e.account_id and o.endpoint_id = e.id
                          where e.disable_time is not null and o.state = 1 /* PENDING */ limit $2)
                     ) lost
                 )
                 returning d.id",
            )
            .bind(dead_lettered)
            .bind(MAX_BATCH)
            .bind(DeliveryState::Failed as i16)
            .fetch_all(&mut *tx);
            let lost = statement("fail_deliveries", query).await?;
            if !lost.is_empty() {
                unblock_successors(tx, &lost).await?;
            }
            let query = sqlx::query(
                "delete from webhook_deliveries where id in (
                     select id from webhook_deliveries
                     where state > 1 /* PENDING */ and end_time < now() - make_interval(secs => $1) limit $2
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
                 from webhook_deliveries where state = 1 /* PENDING */",
            );
            Ok(statement("pending_deliveries", query.fetch_one(tx)).await?)
        };
        self.pools.read.without_transaction("pending_deliveries", run).await
    }
}

/// The predecessor of a due delivery, locked.
#[derive(FromRow)]
struct Predecessor {
    successor: Uuid,
    id: Uuid,
    sending: bool,
    failures: i32,
    refusals: i32,
    failing_since: Option<OffsetDateTime>,
    endpoint_failing_since: Option<OffsetDateTime>,
}

impl Predecessor {
    /// Whether it is given up, since there is a newer one. One that is on its way is waited for.
    fn is_overtaken(&self) -> bool {
        let failures = Failures { count: self.failures, refusals: self.refusals, since: self.failing_since };
        !self.sending && failures.are_for_good(self.endpoint_failing_since)
    }
}

/// Makes those of these wait that have a pending predecessor, and returns them. A predecessor that is refused for good is
/// overtaken and ends; returns how many did.
async fn block_successors(tx: &mut PgConnection, found: &[Due]) -> Result<(Vec<Uuid>, usize), Error> {
    let mut overtaken = 0;
    let blocked = loop {
        let predecessors = lock_predecessors(tx, found).await?;
        let (ended, pending): (Vec<_>, Vec<_>) = predecessors.into_iter().partition(Predecessor::is_overtaken);
        if ended.is_empty() {
            break pending.into_iter().map(|predecessor| predecessor.successor).collect::<Vec<_>>();
        }
        let mut ended: Vec<Uuid> = ended.into_iter().map(|predecessor| predecessor.id).collect();
        ended.sort_unstable();
        ended.dedup();
        overtaken += ended.len();
        let query = sqlx::query(
            "update webhook_deliveries set state = $2, end_time = now(), next_attempt_time = null
             where id = any ($1)",
        )
        .bind(ended.clone())
        .bind(DeliveryState::Failed as i16);
        statement("overtake_deliveries", query.execute(&mut *tx)).await?;
        unblock_successors(tx, &ended).await?;
    };
    if !blocked.is_empty() {
        let query = sqlx::query("update webhook_deliveries set waits = true where id = any ($1)").bind(blocked.clone());
        statement("block_deliveries", query.execute(tx)).await?;
    }
    Ok((blocked, overtaken))
}

/// Of each of these the earliest that is pending before it, locked.
async fn lock_predecessors(tx: &mut PgConnection, found: &[Due]) -> Result<Vec<Predecessor>, Error> {
    let ids: Vec<Uuid> = found.iter().map(|due| due.id).collect();
    // The lock on the predecessor prevents a lost wake-up: its end either waits for this transaction and then finds the
    // successor waiting, or has committed, and then the predecessor is no longer pending here.
    let query = sqlx::query_as::<_, Predecessor>(
        "select d.id as successor, before.id, before.job_id is not null as sending, before.failures, before.refusals,
                before.failing_since, e.failing_since as endpoint_failing_since
         from unnest($1::uuid[]) as wanted (id)
         join webhook_deliveries d on d.id = wanted.id
         join webhook_endpoints e on e.account_id = d.account_id and e.id = d.endpoint_id
         cross join lateral (
             select b.id, b.job_id, b.failures, b.refusals, b.failing_since from webhook_deliveries b
             where b.account_id = d.account_id and b.endpoint_id = d.endpoint_id and b.generation_id = d.generation_id
               and b.generation_version < d.generation_version and b.state = 1 /* PENDING */ and not d.expedited
             order by b.generation_version limit 1
             for update
         ) before",
    )
    .bind(ids)
    .fetch_all(tx);
    Ok(statement("lock_predecessors", query).await?)
}

/// A delivery without its secrets, and these as they are stored.
fn claimed_delivery(row: &PgRow, leased: &Leased) -> sqlx::Result<(ClaimedDelivery, Vec<Vec<u8>>)> {
    let previous: Option<Vec<u8>> = row.try_get("previous_secret")?;
    let stored = std::iter::once(row.try_get("secret")?).chain(previous).collect();
    let generation: Option<Uuid> = row.try_get("generation_id")?;
    let delivery = ClaimedDelivery {
        lease: leased.lease,
        name: DeliveryName {
            endpoint: WebhookEndpointId(row.try_get("endpoint_id")?),
            delivery: WebhookDeliveryId(row.try_get("delivery_id")?),
        },
        url: row.try_get("url")?,
        secrets: Vec::new(),
        event_type: row.try_get("event_type")?,
        create_time: row.try_get("event_time")?,
        now: row.try_get("asked_time")?,
        attempt: row.try_get("attempt")?,
        speed: AnswerSpeed::parse(row.try_get("answer_speed")?),
        generation: generation.map(|_| Generation::from_row(row).map(Box::new)).transpose()?,
    };
    Ok((delivery, stored))
}
