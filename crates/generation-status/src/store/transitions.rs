//! The statements that move a generation from state to state, each once. What moves where is decided by
//! [`crate::transitions`]; here are the facts it is decided on, read under a lock, and the writes.

use std::time::Duration;

use catalogue::Order;
use chassis::postgres::statement;
use domain::generation::State;
use domain::id::LedgerId;
use jobs::{DeadLettered, LeaseStatus, Leased};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::change::{change, scene_copy};
use super::rows::{StoredOutput, columns, facts_columns};
use crate::error::Error;
use crate::model::{ClaimedWork, Generation, OrderPhase, Output, Trouble, WaitReason};
use crate::transitions::deadlines::JobFacts;
use crate::transitions::{End, Facts, claimed, dead_lettered};

/// Generations with their live order, if there is one.
macro_rules! with_provider_call {
    ($from:literal) => {
        concat!(
            "select p.reference, p.phase, p.key, o.work_order,
                    -- It is the probe of a provider that was out of order. Every eighth is sent without a question, since a provider
                    -- may take orders and answer no questions.
                    exists (select from job_breakers b
                            where b.kind = 'generation' and b.scope = 'pool' and b.probe_job = g.id
                              and b.cause = 'OUTAGE' and b.failures % 8 <> 0) as ask_first,
                    array[extract(epoch from now() - p.poll_trouble_time)::double precision,
                          extract(epoch from now() - p.order_trouble_time)::double precision,
                          extract(epoch from now() - p.output_trouble_time)::double precision,
                          extract(epoch from now() - p.storage_trouble_time)::double precision] as troubled, ",
            columns!(),
            " from ",
            $from,
            " left join generation_orders o on o.account_id = g.account_id and o.generation_id = g.id
              left join provider_calls p on p.generation_id = g.id and p.phase <> 'over'"
        )
    };
}

/// What [`with_provider_call`] reads beside the generation.
#[derive(FromRow)]
struct ProviderCall {
    reference: Option<String>,
    phase: Option<String>,
    key: Option<String>,
    work_order: Option<Json<Order>>,
    /// It is the probe of a provider that was out of order.
    ask_first: bool,
    /// For how many seconds the order has been in each trouble, in the order of [`Trouble::ALL`].
    troubled: Vec<Option<f64>>,
}

fn read_troubles(troubled: &[Option<f64>]) -> Vec<(Trouble, Duration)> {
    let all = Trouble::ALL.into_iter().zip(troubled);
    let elapsed =
        |seconds: &Option<f64>| seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
    all.filter_map(|(trouble, seconds)| Some((trouble, elapsed(seconds)?))).collect()
}

/// A rule as a statement takes it, so that a change needs no read before it: an array that has, at the number of each state, the
/// number of the next one, and null where the rule has none. `array[g.state]` then is the rule's answer.
pub(super) fn by_number(rule: impl Fn(State) -> Option<State>) -> Vec<Option<i16>> {
    State::ALL.map(|state| rule(state).map(State::number)).to_vec()
}

/// Moves generations whose jobs were just leased, each as [`claimed`] says. A poll changes nothing of its generation.
pub(super) async fn begin_attempts(tx: &mut PgConnection, leased: Vec<Leased>) -> Result<Vec<ClaimedWork>, Error> {
    let attempts = leased.iter().filter(|job| !job.poll);
    let (accounts, ids): (Vec<Uuid>, Vec<Uuid>) = attempts.clone().map(|job| (job.account, job.lease.job)).unzip();
    let numbers: Vec<i32> = attempts.map(|job| job.attempt).collect();
    let polls = leased.iter().filter(|job| job.poll);
    let (poll_accounts, poll_ids): (Vec<Uuid>, Vec<Uuid>) = polls.map(|job| (job.account, job.lease.job)).unzip();
    let mut rows = Vec::new();
    if !ids.is_empty() {
        let query = sqlx::query(concat!(
            "with changed as (
                 update generations g
                 set state = ($4::smallint[])[g.state], wait_reason = 0, attempt_count = claim.attempt,
                     submit_time = coalesce(g.submit_time, now()), update_time = now(), version = g.version + 1
                 from unnest($1::uuid[], $2::uuid[], $3::int[]) as claim (account_id, id, attempt)
                 where g.account_id = claim.account_id and g.id = claim.id and ($4::smallint[])[g.state] is not null
                 returning g.*
             ),
             shown as (",
            scene_copy!(changed, "changed g"),
            ") ",
            with_provider_call!("changed g")
        ))
        .bind(accounts)
        .bind(ids)
        .bind(numbers)
        .bind(by_number(claimed));
        rows.extend(statement("begin_attempts", query.fetch_all(&mut *tx)).await?);
    }
    if !poll_ids.is_empty() {
        let query = sqlx::query(with_provider_call!(
            "unnest($1::uuid[], $2::uuid[]) as claim (account_id, id)
             join generations g on g.account_id = claim.account_id and g.id = claim.id and g.end_time is null"
        ))
        .bind(poll_accounts)
        .bind(poll_ids);
        rows.extend(statement("find_polled_generations", query.fetch_all(&mut *tx)).await?);
    }
    let mut found = std::collections::HashMap::with_capacity(rows.len());
    for row in rows {
        let call = ProviderCall::from_row(&row).map_err(chassis::postgres::Error::from)?;
        let generation = Generation::from_row(&row).map_err(chassis::postgres::Error::from)?;
        found.insert(generation.id.0, (generation, call));
    }
    let mut claimed = Vec::with_capacity(found.len());
    for leased in leased {
        match found.remove(&leased.lease.job) {
            Some((
                generation,
                ProviderCall { work_order: Some(Json(order)), reference, phase, key, ask_first, troubled },
            )) => {
                let in_doubt = phase.as_deref() == Some(OrderPhase::Intent.as_str());
                let troubles = read_troubles(&troubled);
                let key = key.unwrap_or_default();
                claimed.push(ClaimedWork { leased, generation, order, reference, in_doubt, troubles, key, ask_first });
            }
            _ => {
                tracing::error!(job = %leased.lease.job, "a claimed job has no open generation with an order and was ended");
                jobs::cancel(tx, leased.lease).await?;
            }
        }
    }
    Ok(claimed)
}

/// Clears the request to stop where the generation does not wait for it: one that is being finalized is delivered.
pub(super) async fn clear_late_cancels(tx: &mut PgConnection, statuses: &mut [LeaseStatus]) -> Result<(), Error> {
    let asked = |status: &LeaseStatus| status.held.is_some_and(|held| held.cancel_requested);
    let (accounts, ids): (Vec<Uuid>, Vec<Uuid>) = statuses
        .iter()
        .filter(|status| asked(status))
        .filter_map(|status| status.held.map(|held| (held.account, status.lease.job)))
        .unzip();
    if ids.is_empty() {
        return Ok(());
    }
    let query = sqlx::query_scalar::<_, Uuid>(
        "select g.id from unnest($1::uuid[], $2::uuid[]) as asked (account_id, id)
         join generations g on g.account_id = asked.account_id and g.id = asked.id
         where g.state = $3",
    )
    .bind(accounts)
    .bind(ids)
    .bind(State::Cancelling.number());
    let cancelling = statement("find_cancelling", query.fetch_all(&mut *tx)).await?;
    for status in statuses {
        if let Some(held) = &mut status.held {
            held.cancel_requested &= cancelling.contains(&status.lease.job);
        }
    }
    Ok(())
}

/// Locks a generation until the transaction ends, and reads what its rules ask. The caller has its job's lock, under which alone an
/// order changes its phase.
pub(super) async fn lock_facts(tx: &mut PgConnection, account: Uuid, id: Uuid) -> Result<Facts, Error> {
    let query = sqlx::query_as(concat!(
        "select ",
        facts_columns!(),
        " from generations g where g.account_id = $1 and g.id = $2 for no key update"
    ))
    .bind(account)
    .bind(id);
    Ok(statement("lock_generation", query.fetch_one(&mut *tx)).await?)
}

/// Locks a job and its generation until the transaction ends, and reads what their rules ask. `None` where one of them is not there.
/// A provider that was asked to stop longer ago than `grace_seconds` has ignored it.
pub(super) async fn lock_both_facts(
    tx: &mut PgConnection,
    account: Uuid,
    id: Uuid,
    grace_seconds: f64,
) -> Result<Option<(Facts, JobFacts)>, Error> {
    #[derive(FromRow)]
    struct Row {
        #[sqlx(flatten)]
        facts: Facts,
        #[sqlx(flatten)]
        job: JobFacts,
    }
    // The job first, as in every transaction, so that two never deadlock.
    let query =
        sqlx::query("select from jobs where id = $1 and account_id = $2 for no key update").bind(id).bind(account);
    statement("lock_job", query.execute(&mut *tx)).await?;
    let query = sqlx::query_as::<_, Row>(concat!(
        "select ",
        facts_columns!(),
        ", j.state as job_state, coalesce(j.cancel_at <= now() - make_interval(secs => $3), false) as stop_ignored,
         g.wait_reason = $4 as unconfirmed
         from generations g join jobs j on j.id = g.id
         where g.account_id = $1 and g.id = $2
         for no key update of g"
    ))
    .bind(account)
    .bind(id)
    .bind(grace_seconds)
    .bind(WaitReason::SubmissionUnconfirmed as i16);
    let row = statement("lock_generation_and_job", query.fetch_optional(&mut *tx)).await?;
    Ok(row.map(|row| (row.facts, row.job)))
}

/// Puts a generation back into the queue. Its order at the provider is over; the next attempt makes a new one.
pub(super) async fn requeue(
    tx: &mut PgConnection,
    account: Uuid,
    id: Uuid,
    wait: WaitReason,
) -> Result<Generation, Error> {
    let query = sqlx::query_as(change!(
        "update generations g
         set state = $5, wait_reason = $4, stage = '', queue_position = 0, eta_p50 = null, eta_p80 = null,
             update_time = now(), version = g.version + 1
         where g.account_id = $1 and g.id = $2 and g.state = any ($3)",
        "over as (
             update provider_calls p set phase = 'over', update_time = now()
             from changed g where p.generation_id = g.id and p.phase <> 'over'
         )"
    ))
    .bind(account)
    .bind(id)
    .bind(State::Queued.predecessors())
    .bind(wait as i16)
    .bind(State::Queued.number());
    statement("requeue_generation", query.fetch_optional(&mut *tx))
        .await?
        .ok_or(Error::IllegalTransition { next: State::Queued })
}

/// Who asks for a generation to be stopped.
#[derive(Clone, Copy, Debug)]
pub(super) enum StopBy {
    /// Its user, who saw it in this version; in another one nothing is stopped.
    User { version: i64 },
    /// Its total deadline.
    Deadline,
}

/// Moves a generation to CANCELLING. `None` where it is in no state that may be stopped, or no longer in the version.
pub(super) async fn stop(
    tx: &mut PgConnection,
    account: Uuid,
    id: Uuid,
    by: StopBy,
) -> Result<Option<Generation>, Error> {
    let version = match by {
        StopBy::User { version } => Some(version),
        StopBy::Deadline => None,
    };
    // The user's request keeps the reason of the wait: the submission may still be unconfirmed, which the deadline's candidates
    // ask for. The deadline stops only what is not.
    let query = sqlx::query_as(change!(
        "update generations g
         set state = $3, update_time = now(), version = g.version + 1,
             cancel_time = case when $5::bigint is null then g.cancel_time else now() end,
             wait_reason = case when $5::bigint is null then 0 else g.wait_reason end
         where g.account_id = $1 and g.id = $2 and g.state = any ($4) and g.version = coalesce($5, g.version)"
    ))
    .bind(account)
    .bind(id)
    .bind(State::Cancelling.number())
    .bind(State::Cancelling.predecessors())
    .bind(version);
    Ok(statement("stop_generation", query.fetch_optional(&mut *tx)).await?)
}

/// The statement that ends a generation and settles its hold, by entries that sum to zero. `(select count(*) from …) as first` makes
/// a step wait for the one before: PostgreSQL runs data-modifying steps in no order of its own, and the lock order needs one.
const END: &str = concat!(
    "with changed as (
         update generations g
         set state = $4, wait_reason = 0, stage = '', queue_position = 0,
             percent = case when $13 then 100 else g.percent end, outputs = $11, thumbnail = $12,
             thumbhash = (select a.thumbhash from assets a where a.account_id = g.account_id and a.sha256 = $17),
             lines = coalesce($16, g.lines),
             provider_charge = $7, captured_micros = $6, released_micros = g.held_micros - $6,
             error_code = $8, error_reason = $9, error_message = $10,
             cancel_time = case when $15::bigint is null then g.cancel_time else now() end,
             end_time = now(), update_time = now(), version = g.version + 1
         where g.account_id = $2 and g.id = $3 and g.state = any ($5)
           -- A cost above the hold ends nothing: a user is never charged more than was held.
           and g.held_micros >= $6 and g.version = coalesce($15, g.version)
         returning g.*
     ),
     credited as (
         update credit_accounts c
         set held_micros = c.held_micros - g.held_micros,
             available_micros = c.available_micros + g.released_micros,
             spent_micros = c.spent_micros + g.captured_micros
         from changed g
         where c.account_id = g.account_id
         returning c.account_id
     ),
     entered as (
         insert into ledger (id, account_id, generation_id, entry, book, amount_micros, lines)
         select line.id, g.account_id, g.id, $14, line.book, line.amount, case when line.book = 'held' then $16 end
         from changed g
         cross join lateral (values
             (($1::uuid[])[1], 'held', -g.held_micros),
             (($1::uuid[])[2], 'spent', g.captured_micros),
             (($1::uuid[])[3], 'available', g.released_micros)
         ) as line (id, book, amount)
         where line.book = 'held' or line.amount <> 0
     ),
     costed as (
         update projects p
         set completed_count = p.completed_count + 1,
             completed_cost_micros = p.completed_cost_micros + g.captured_micros
         from changed g cross join (select count(*) from credited) as first
         where $13 and p.account_id = g.account_id and p.id = g.project_id
         returning p.id
     ),
     shown as (",
    scene_copy!(changed, "changed g cross join (select count(*) from costed) as first"),
    ")
     select ",
    columns!(),
    " from changed g"
);

/// Ends a generation as a rule decided, charges what is captured and releases the rest of the hold. `None` where it is in no state
/// that may end so. With `cancelled_in`, its user cancels it in that version, and in another one it does not end.
pub(super) async fn end(
    tx: &mut PgConnection,
    account: Uuid,
    id: Uuid,
    end: &End,
    cancelled_in: Option<i64>,
) -> Result<Option<Generation>, Error> {
    let failure = end.failure.as_ref();
    // Its poster stands for all of them.
    let shown = end.outputs.iter().find(|output| output.poster.is_some());
    let ledger_ids: Vec<Uuid> = (0..3).map(|_| LedgerId::new().0).collect();
    let query = sqlx::query_as(END)
        .bind(ledger_ids)
        .bind(account)
        .bind(id)
        .bind(end.state.number())
        .bind(end.state.predecessors())
        .bind(end.captured.get())
        .bind(end.provider_charge as i16)
        .bind(failure.map(|failure| failure.code))
        .bind(failure.map(|failure| failure.reason.as_str()))
        .bind(failure.map(|failure| failure.message.as_str()))
        .bind((!end.outputs.is_empty()).then(|| Json(end.outputs.iter().map(StoredOutput::from).collect::<Vec<_>>())))
        .bind(shown.and_then(Output::poster_key))
        .bind(end.state == State::Completed)
        .bind(end.entry().as_str())
        .bind(cancelled_in)
        .bind(end.lines.as_deref().map(Json))
        .bind(shown.map(|output| output.sha256.to_vec()));
    Ok(statement("end_generation", query.fetch_optional(&mut *tx)).await?)
}

/// As [`end`], for a generation that the rule found in a state that may end so.
pub(super) async fn end_locked(
    tx: &mut PgConnection,
    account: Uuid,
    id: Uuid,
    decided: &End,
) -> Result<Generation, Error> {
    end(tx, account, id, decided, None).await?.ok_or(Error::IllegalTransition { next: decided.state })
}

/// Marks generations whose lease expired as waiting for a worker.
pub(super) async fn mark_requeued(tx: &mut PgConnection, jobs: Vec<Uuid>) -> Result<Vec<Generation>, Error> {
    // Whose attempt goes on at a provider has a job that waits: the join leaves that one alone, since nothing of it changed.
    let query = sqlx::query_as(change!(
        "update generations g
         set wait_reason = $2, update_time = now(), version = g.version + 1
         from jobs j
         where j.id = any ($1) and j.state = 'queued' and g.account_id = j.account_id and g.id = j.id
           and g.end_time is null"
    ))
    .bind(jobs)
    .bind(WaitReason::Capacity as i16);
    Ok(statement("mark_requeued", query.fetch_all(&mut *tx)).await?)
}

/// Generations whose lease expired and whose attempt goes on at their provider.
pub(super) async fn find_waiting(tx: &mut PgConnection, jobs: &[Uuid]) -> Result<Vec<Generation>, Error> {
    let query = sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from jobs j join generations g on g.account_id = j.account_id and g.id = j.id
         where j.id = any ($1) and j.state = 'waiting' and g.end_time is null"
    ))
    .bind(jobs);
    Ok(statement("find_waiting_generations", query.fetch_all(&mut *tx)).await?)
}

/// Ends the generation of a dead-lettered job.
pub(super) async fn end_dead_letter(tx: &mut PgConnection, job: &DeadLettered) -> Result<Option<Generation>, Error> {
    let facts = lock_facts(tx, job.account, job.job).await?;
    match dead_lettered(&facts, job.cause, job.attempts) {
        Some(decided) => end_locked(tx, job.account, job.job, &decided).await.map(Some),
        None => Ok(None),
    }
}
