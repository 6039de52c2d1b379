//! Copies and sums that transactions keep beside what they are made of: balances, completed costs, and the scenes' copies of their
//! latest generations.
//!
//! They are checked in rounds, each over a range of rows, so that a round costs the same however large the installation is. A
//! violation in a round is one at that moment: the statement reads one snapshot, and every transaction writes both sides.

use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use crate::error::Error;
use crate::model::{CheckedRange, Violation};

/// A copy that must agree with its source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckedCopy {
    /// The invariant's name in metrics and logs.
    pub(crate) name: &'static str,
    /// How many rows one round checks.
    rows: i64,
    /// Takes the id that the range begins after, and the number of rows; returns account, id, and whether the row differs from its
    /// source, in the order of the ids.
    sql: &'static str,
}

/// Every copy. An account or project with more than 20,000 rows to be summed is passed over: it would take the round's time.
pub(crate) const COPIES: &[CheckedCopy] = &[
    CheckedCopy {
        name: "balance_off_ledger",
        rows: 20,
        sql: "select c.account_id, c.account_id,
                     ledger.lines <= 20000 and (c.available_micros, c.held_micros, c.spent_micros)
                                         <> (ledger.available, ledger.held, ledger.spent)
              from (select * from credit_accounts where account_id > $1 order by account_id limit $2) c
              cross join lateral (
                  select count(*) as lines,
                         coalesce(sum(amount_micros) filter (where book = 'available'), 0) as available,
                         coalesce(sum(amount_micros) filter (where book = 'held'), 0) as held,
                         coalesce(sum(amount_micros) filter (where book = 'spent'), 0) as spent
                  from (select book, amount_micros from ledger where account_id = c.account_id limit 20001) l
              ) ledger
              order by c.account_id",
    },
    CheckedCopy {
        name: "project_cost_off",
        rows: 20,
        sql: "select p.account_id, p.id,
                     done.generations <= 20000 and (p.completed_count, p.completed_cost_micros) <> (done.completed, done.cost)
              from (select * from projects where id > $1 order by id limit $2) p
              cross join lateral (
                  select count(*) as generations, count(*) filter (where state = 6 /* COMPLETED */) as completed,
                         coalesce(sum(captured_micros) filter (where state = 6 /* COMPLETED */), 0) as cost
                  from (
                      select state, captured_micros from generations
                      where account_id = p.account_id and project_id = p.id and delete_time is null limit 20001
                  ) g
              ) done
              order by p.id",
    },
    CheckedCopy {
        name: "scene_copy_off",
        rows: 500,
        // A scene without a latest generation must have none at all.
        sql: "select s.account_id, s.id,
                     case when s.latest_generation is null then exists (
                              select from generations where account_id = s.account_id and scene_id = s.id and delete_time is null
                          )
                          else (s.latest_version, s.latest_state, s.latest_percent, s.latest_stage, s.latest_thumbnail,
                                s.latest_thumbhash)
                               is distinct from (g.version, g.state, g.percent, g.stage, g.thumbnail, g.thumbhash)
                               or g.delete_time is not null
                     end
                     or (s.take_generation is not null and not exists (
                         select from generations t
                         where t.account_id = s.account_id and t.id = s.take_generation and t.scene_id = s.id
                           and t.state = 6 /* COMPLETED */ and t.delete_time is null
                           and (t.thumbnail, t.thumbhash) is not distinct from (s.take_thumbnail, s.take_thumbhash)
                     ))
              from (select * from scenes where id > $1 order by id limit $2) s
              left join generations g on g.account_id = s.account_id and g.id = s.latest_generation
              order by s.id",
    },
    CheckedCopy {
        name: "usage_off_balance",
        rows: 20,
        // All that was ever spent is in the days, whose rows are far fewer than generations.
        sql: "select c.account_id, c.account_id, used.rows <= 20000 and c.spent_micros <> used.micros
              from (select * from credit_accounts where account_id > $1 order by account_id limit $2) c
              cross join lateral (
                  select count(*) as rows, coalesce(sum(captured_micros), 0) as micros
                  from (select captured_micros from usage_daily where account_id = c.account_id limit 20001) u
              ) used
              order by c.account_id",
    },
    CheckedCopy {
        name: "usage_off_generations",
        rows: 20,
        // Of yesterday and today: a day that is over never changes again. The ids bound what is read of the starts, with ten minutes
        // for the clocks' difference. An account with more than 20,000 starts or ends in that time is passed over.
        sql: "with since as (
                  select utc_day(now()) - 1 as day, (utc_day(now()) - 1)::timestamp at time zone 'utc' as time
              )
              select c.account_id, c.account_id,
                     started.many <= 20000 and ended.many <= 20000 and exists (
                         select from (
                             select day, model, end_user, started, completed, failed, cancelled, expired, captured_micros,
                                    provider_cost_micros
                             from usage_daily where account_id = c.account_id and day >= since.day
                             union all
                             select utc_day(create_time), model, end_user, -1, 0, 0, 0, 0, 0, 0
                             from generations
                             where account_id = c.account_id and create_time >= since.time and id >= least_id.id
                             union all
                             select utc_day(g.end_time), g.model, g.end_user, 0, -(g.state = 6 /* COMPLETED */)::int,
                                    -(g.state = 7 /* FAILED */)::int, -(g.state = 8 /* CANCELLED */)::int,
                                    -(g.state = 9 /* EXPIRED */)::int, -g.captured_micros, -coalesce(o.provider_cost_micros, 0)
                             from generations g left join generation_orders o on o.generation_id = g.id
                             where g.account_id = c.account_id and g.end_time >= since.time
                         ) both_sides
                         group by day, model, end_user
                         having (sum(started), sum(completed), sum(failed), sum(cancelled), sum(expired), sum(captured_micros),
                                 sum(provider_cost_micros)) <> (0, 0, 0, 0, 0, 0, 0)
                     )
              from since
              cross join lateral (
                  select (lpad(to_hex((extract(epoch from since.time - interval '10 min') * 1000)::bigint), 12, '0')
                          || repeat('0', 20))::uuid as id
              ) least_id
              cross join (select account_id from credit_accounts where account_id > $1 order by account_id limit $2) c
              cross join lateral (
                  select count(*) as many
                  from (select from generations where account_id = c.account_id and id >= least_id.id limit 20001) g
              ) started
              cross join lateral (
                  select count(*) as many
                  from (select from generations where account_id = c.account_id and end_time >= since.time limit 20001) g
              ) ended
              order by c.account_id",
    },
    CheckedCopy {
        name: "end_user_off",
        rows: 20,
        sql: "select u.account_id, u.id,
                     u.held_micros <> open.micros or (used.rows <= 20000 and u.total_micros <> used.micros)
              from (select * from end_users where id > $1 order by id limit $2) u
              cross join lateral (
                  select coalesce(sum(held_micros), 0) as micros from generations
                  where account_id = u.account_id and end_time is null and end_user = u.end_user
              ) open
              cross join lateral (
                  select count(*) as rows, coalesce(sum(captured_micros), 0) as micros
                  from (
                      select captured_micros from usage_daily
                      where account_id = u.account_id and end_user = u.end_user and end_user <> '' limit 20001
                  ) d
              ) used
              order by u.id",
    },
];

impl Store {
    /// Checks the next range of a copy: the rows after `after`.
    pub(crate) async fn check_copies(&self, copy: CheckedCopy, after: Uuid) -> Result<CheckedRange, Error> {
        let query = sqlx::query_as::<_, (Uuid, Uuid, bool)>(copy.sql).bind(after).bind(copy.rows);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let rows = self.pools.reaper.run(copy.name, run).await?;
        // A range that is not full was the last: the next one begins at the start.
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == copy.rows);
        let next = rows.last().filter(|_| is_full).map_or(Uuid::nil(), |(_, id, _)| *id);
        let differs = rows.into_iter().filter(|(_, _, differs)| *differs);
        Ok(CheckedRange { violations: differs.map(|(account, id, _)| Violation::new(account, id)).collect(), next })
    }
}
