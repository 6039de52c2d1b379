//! What must hold of the tables at any time, as statements that find what breaks it.
//!
//! Invariant: a statement here reads one snapshot of transactions that keep what it asks about together, so that whatever it
//! finds is broken and not only under way. Where time must pass first, the statement says how much.

use chassis::postgres::statement;
use domain::generation::State;
use domain::id::{AccountId, GenerationId};
use jobs::Held;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::steps::{End, end, lock};
use crate::error::Error;
use crate::record::{Flaw, Record};

/// What can be done about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// The sweep does it; that it is found here says that the sweep is behind.
    Sweep,
    /// Workers are woken.
    Wake,
    /// The generation ends, and its hold goes back.
    End,
    /// A person must poll: money or history would have to be guessed.
    None,
}

/// Something that must hold.
pub(crate) struct Invariant {
    /// For metrics and logs.
    pub(crate) name: &'static str,
    pub(crate) repair: Repair,
    /// Returns account and id of what breaks it.
    sql: &'static str,
}

/// All that is looked at. The order is that of the documentation.
pub(crate) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "lease_expired",
        repair: Repair::Sweep,
        sql: "select account_id, id from jobs
              where kind = 'generation' and state = 'leased' and lease_until < now() - interval '15 s' limit 100",
    },
    Invariant {
        name: "look_overdue",
        repair: Repair::Wake,
        sql: "select account_id, id from jobs
              where kind = 'generation' and state = 'waiting' and run_at < now() - interval '1 min' limit 100",
    },
    Invariant {
        name: "parked_overdue",
        repair: Repair::Sweep,
        sql: "select account_id, id from generations
              where end_time is null and state in (2, 5) and wait_reason = 7 and total_deadline < now() - interval '1 min' limit 100",
    },
    Invariant {
        name: "open_without_job",
        repair: Repair::End,
        sql: "select g.account_id, g.id from generations g
              left join jobs j on j.id = g.id and j.state in ('queued', 'leased', 'waiting')
              where g.end_time is null and j.id is null limit 100",
    },
    Invariant {
        name: "job_without_generation",
        repair: Repair::Wake,
        sql: "select j.account_id, j.id from jobs j left join generations g on g.id = j.id and g.state < 6
              where j.kind = 'generation' and j.state in ('leased', 'waiting') and g.id is null limit 100",
    },
    Invariant {
        name: "terminal_unsettled",
        repair: Repair::None,
        sql: "select g.account_id, g.id from generations g
              where g.state >= 6 and g.end_time > now() - interval '1 hour' and g.held_micros > 0
                and not exists (
                    select from ledger l
                    where l.generation_id = g.id and l.entry in ('capture', 'release') and l.book = 'held')
              limit 100",
    },
    Invariant {
        name: "hold_without_open",
        repair: Repair::None,
        sql: "select c.account_id, c.account_id from credit_accounts c
              left join (select account_id, sum(held_micros) as micros from generations where end_time is null group by account_id) g
                  on g.account_id = c.account_id
              where c.held_micros <> coalesce(g.micros, 0) limit 100",
    },
    Invariant {
        name: "ledger_unbalanced",
        repair: Repair::None,
        // The lines of the last hour, by the times in their ids, and the whole entries that they belong to.
        sql: "with recent as (
                  select distinct account_id, generation_id, request_id from ledger
                  where id >= (lpad(to_hex((extract(epoch from now() - interval '1 hour') * 1000)::bigint), 12, '0')
                               || repeat('0', 20))::uuid
              )
              select l.account_id, coalesce(l.generation_id, l.request_id, l.account_id)
              from recent r join ledger l
                  on l.account_id = r.account_id
                     and (l.generation_id = r.generation_id
                          or (l.generation_id is null and l.request_id = r.request_id))
              group by l.account_id, l.generation_id, l.request_id, l.entry having sum(l.amount_micros) <> 0 limit 100",
    },
];

impl Store {
    /// What breaks an invariant.
    pub(crate) async fn broken(&self, invariant: &Invariant) -> Result<Vec<(AccountId, Uuid)>, Error> {
        let query = sqlx::query_as::<_, (Uuid, Uuid)>(invariant.sql);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.rescue.run(invariant.name, run).await?;
        Ok(rows.into_iter().map(|(account, id)| (AccountId(account), id)).collect())
    }

    /// Ends a generation that nobody will ever carry out. Nothing when it has a job after all.
    pub(crate) async fn end_jobless(&self, account: AccountId, id: GenerationId) -> Result<Option<Record>, Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query_scalar::<_, String>(
                "select state from jobs where id = $1 and account_id = $2 for no key update",
            )
            .bind(id.0)
            .bind(account.0);
            let job = statement("lock_job", query.fetch_optional(&mut *tx)).await?;
            if matches!(job.as_deref(), Some("queued" | "leased" | "waiting")) {
                return Ok(None);
            }
            let held = Held { account: account.0, cancel_requested: false };
            let state = match State::from_number(lock(tx, held, id.0).await?) {
                Some(State::Cancelling) => State::Cancelled,
                Some(state) if state.is_terminal() => return Ok(None),
                _ => State::Failed,
            };
            let flaw = Flaw {
                code: tonic::Code::Internal as i32,
                reason: "ATTEMPTS_EXHAUSTED".to_owned(),
                message: "its work was lost on our side; nothing was charged".to_owned(),
            };
            let flaw = Some(&flaw).filter(|_| state == State::Failed);
            end(tx, held, id.0, End { state, flaw, provider_charge: None }).await.map(Some)
        };
        self.pools.rescue.transaction("end_jobless", run).await
    }

    /// Measures how long each model's last generations took, and forgets webhooks that cannot come again.
    pub(crate) async fn keep_house(&self) -> Result<(), Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query(
                "insert into model_paces (model, p50, p80, samples)
                 select model, percentile_cont(0.5) within group (order by end_time - start_time),
                        percentile_cont(0.8) within group (order by end_time - start_time), count(*)
                 from (
                     select model, start_time, end_time from generations
                     where state = 6 and start_time < end_time
                     order by end_time desc limit 1000
                 ) last
                 group by model having count(*) >= 5
                 on conflict (model) do update
                     set p50 = excluded.p50, p80 = excluded.p80, samples = excluded.samples, update_time = now()",
            );
            statement("measure_paces", query.execute(&mut *tx)).await?;
            let query = sqlx::query("delete from provider_events where receive_time < now() - interval '1 hour'");
            statement("forget_events", query.execute(&mut *tx)).await?;
            Ok(())
        };
        self.pools.rescue.transaction("keep_house", run).await
    }
}
