//! What becomes of an attempt at a delivery, and of its endpoint.
//!
//! Invariants: an attempt's result is committed with the end of its lease, and whoever finishes a delivery unblocks its successor
//! in a later statement (`delivery_jobs.rs`). What is decided here is decided by `model/delivery_rules.rs`. Rows are locked in one
//! order: job, endpoint, delivery.

use chassis::postgres::statement;
use jobs::{Failure, Retry};
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use crate::error::Error;
use crate::model::{
    Answer, AnswerSpeed, AttemptResult, ClaimedDelivery, DeliveryOutcome, DisableReason, Failures, Health, Settlement,
};

/// What a result is judged by: how the delivery and its endpoint fared so far.
#[derive(FromRow)]
struct Facts {
    failures: i32,
    refusals: i32,
    failing_since: Option<OffsetDateTime>,
    endpoint_failing_since: Option<OffsetDateTime>,
    endpoint_disabled: bool,
    answer_speed: String,
    now: OffsetDateTime,
}

impl Facts {
    fn failures(&self) -> Failures {
        Failures { count: self.failures, refusals: self.refusals, since: self.failing_since }
    }

    fn health(&self) -> Health {
        Health { failing_since: self.endpoint_failing_since, speed: AnswerSpeed::parse(&self.answer_speed) }
    }
}

impl Store {
    /// Commits the result of an attempt with the end of its lease.
    pub(crate) async fn settle_delivery(
        &self,
        delivery: &ClaimedDelivery,
        result: &AttemptResult,
    ) -> Result<Settlement, Error> {
        let run = async |tx: &mut PgConnection| {
            let account = jobs::lock_lease(tx, delivery.lease).await?.account;
            let facts = facts(tx, account, delivery).await?;
            let answer = result.answer();
            let (health, disabled) = facts.health().after(answer, result.speed(), facts.now);
            update_health(tx, account, delivery, &facts, health, disabled).await?;
            if answer == Answer::Accepted {
                jobs::complete(tx, delivery.lease).await?;
                write_result(tx, account, delivery, result, DeliveryOutcome::Delivered, Failures::default(), None)
                    .await?;
                unblock_successors(tx, &[delivery.name.delivery.0]).await?;
                return Ok(Settlement { outcome: DeliveryOutcome::Delivered, disabled });
            }
            let cause = if result.reason.is_empty() { "HTTP_STATUS" } else { result.reason };
            let detail = format!("HTTP {}", result.http_status);
            jobs::fail(tx, delivery.lease, &Failure { retry: Retry::Never, cause: cause.to_owned(), detail }).await?;
            let failures = facts.failures().and(answer, facts.now);
            let (outcome, pause) = match failures.pause() {
                _ if disabled.is_some() => (DeliveryOutcome::Failed, None),
                _ if failures.are_for_good(health.failing_since) && has_successor(tx, account, delivery).await? => {
                    (DeliveryOutcome::Overtaken, None)
                }
                Some(pause) => (DeliveryOutcome::Retried, Some(result.pause(pause))),
                None => (DeliveryOutcome::Failed, None),
            };
            let pause = pause.map(|pause| pause.as_secs_f64());
            write_result(tx, account, delivery, result, outcome, failures, pause).await?;
            if outcome != DeliveryOutcome::Retried {
                unblock_successors(tx, &[delivery.name.delivery.0]).await?;
            }
            Ok(Settlement { outcome, disabled })
        };
        self.pools.webhook.transaction("settle_delivery", run).await
    }

    /// Notes that an endpoint keeps an attempt waiting; returns whether that is news.
    pub(crate) async fn mark_endpoint_slow(&self, account: Uuid, endpoint: Uuid) -> Result<bool, Error> {
        let query = sqlx::query(
            "update webhook_endpoints set answer_speed = $3 where account_id = $1 and id = $2 and answer_speed <> $3",
        )
        .bind(account)
        .bind(endpoint)
        .bind(AnswerSpeed::Slow.as_str());
        let run = async |connection: &mut PgConnection| query.execute(connection).await;
        Ok(self.pools.webhook.run("mark_endpoint_slow", run).await?.rows_affected() == 1)
    }
}

async fn facts(tx: &mut PgConnection, account: Uuid, delivery: &ClaimedDelivery) -> Result<Facts, Error> {
    let query = sqlx::query_as::<_, Facts>(
        "select d.failures, d.refusals, d.failing_since, e.failing_since as endpoint_failing_since,
                e.disable_time is not null as endpoint_disabled, e.answer_speed, now() as now
         from webhook_deliveries d
         join webhook_endpoints e on e.account_id = d.account_id and e.id = d.endpoint_id
         where d.account_id = $1 and d.id = $2",
    )
    .bind(account)
    .bind(delivery.name.delivery.0)
    .fetch_one(tx);
    Ok(statement("read_delivery_facts", query).await?)
}

/// Writes how the endpoint fares, where that has changed, so that attempts at one endpoint do not wait for one another's row lock;
/// and tells the account when this attempt disables it.
async fn update_health(
    tx: &mut PgConnection,
    account: Uuid,
    delivery: &ClaimedDelivery,
    facts: &Facts,
    health: Health,
    disabled: Option<DisableReason>,
) -> Result<(), Error> {
    if facts.endpoint_disabled || (facts.health() == health && disabled.is_none()) {
        return Ok(());
    }
    let query = sqlx::query(
        "update webhook_endpoints
         -- A success of another attempt that ended meanwhile is kept.
         set failing_since = case when failing_since is not distinct from $3 then $4 else failing_since end,
             answer_speed = $5, disable_reason = $6, disable_time = case when $6 is not null then now() end,
             version = version + ($6 is not null)::int
         where account_id = $1 and id = $2 and disable_time is null",
    )
    .bind(account)
    .bind(delivery.name.endpoint.0)
    .bind(facts.endpoint_failing_since)
    .bind(health.failing_since)
    .bind(health.speed.as_str())
    .bind(disabled.map(DisableReason::as_str));
    let changed = statement("update_endpoint_health", query.execute(&mut *tx)).await?.rows_affected() == 1;
    let Some(reason) = disabled.filter(|_| changed) else { return Ok(()) };
    let query = sqlx::query(
        "insert into notices (id, account_id, title, body) values ($1, $2, 'A webhook endpoint was disabled', $3)",
    )
    .bind(domain::id::NoticeId::new().0)
    .bind(account)
    .bind(format!(
        "{}: {}. Nothing more is sent there until it is enabled again.",
        delivery.url,
        reason.sentence()
    ));
    statement("insert_endpoint_notice", query.execute(tx)).await?;
    Ok(())
}

/// Whether a newer event of its generation waits for this one. It is locked first, in a statement of its own: a successor that is
/// being enqueued has committed by then, and is seen.
async fn has_successor(tx: &mut PgConnection, account: Uuid, delivery: &ClaimedDelivery) -> Result<bool, Error> {
    let query = sqlx::query("select from webhook_deliveries where account_id = $1 and id = $2 for update")
        .bind(account)
        .bind(delivery.name.delivery.0);
    statement("lock_delivery", query.execute(&mut *tx)).await?;
    let query = sqlx::query_scalar(
        "select exists (
             select from webhook_deliveries d
             join webhook_deliveries n on n.account_id = d.account_id and n.endpoint_id = d.endpoint_id
               and n.generation_id = d.generation_id and n.generation_version > d.generation_version and n.state = 1 /* PENDING */
             where d.account_id = $1 and d.id = $2
         )",
    )
    .bind(account)
    .bind(delivery.name.delivery.0)
    .fetch_one(tx);
    Ok(statement("find_successor", query).await?)
}

/// Writes the state that an attempt leads to, and its line in the log; `pause` is in seconds, until the next attempt.
async fn write_result(
    tx: &mut PgConnection,
    account: Uuid,
    delivery: &ClaimedDelivery,
    result: &AttemptResult,
    outcome: DeliveryOutcome,
    failures: Failures,
    pause: Option<f64>,
) -> Result<(), Error> {
    let query = sqlx::query(
        "with sent as (
             update webhook_deliveries
             set attempt_count = attempt_count + 1, state = $3, end_time = case when $3 > 1 /* PENDING */ then now() end,
                 failures = $4, refusals = $5, failing_since = $6, expedited = expedited and $3 > 1 /* PENDING */,
                 next_attempt_time = now() + make_interval(secs => $7),
                 due_time = coalesce(now() + make_interval(secs => $7), due_time),
                 -- The next attempt is another job; of one that has ended, the last stays.
                 job_id = case when $3 > 1 /* PENDING */ then job_id end
             where account_id = $1 and id = $2
             returning id, account_id, attempt_count
         )
         insert into webhook_attempts (delivery_id, number, account_id, http_status, latency_ms, reason, excerpt)
         select id, attempt_count, account_id, $8, $9, $10, $11 from sent",
    )
    .bind(account)
    .bind(delivery.name.delivery.0)
    .bind(outcome.state() as i16)
    .bind(failures.count)
    .bind(failures.refusals)
    .bind(failures.since)
    .bind(pause)
    .bind(i32::from(result.http_status))
    .bind(i32::try_from(result.latency.as_millis()).unwrap_or(i32::MAX))
    .bind(result.reason)
    .bind(&result.excerpt);
    statement("settle_delivery", query.execute(tx)).await?;
    Ok(())
}

/// Unblocks the successors of these, which have just ended. One that has another predecessor is blocked again when it is
/// enqueued.
pub(super) async fn unblock_successors(tx: &mut PgConnection, ended: &[Uuid]) -> Result<(), Error> {
    let query = sqlx::query(
        "update webhook_deliveries d set waits = false
         from webhook_deliveries o
         where o.id = any ($1) and d.account_id = o.account_id and d.endpoint_id = o.endpoint_id
           and d.generation_id = o.generation_id and d.state = 1 /* PENDING */ and d.waits",
    )
    .bind(ended.to_vec());
    statement("unblock_deliveries", query.execute(tx)).await?;
    Ok(())
}
