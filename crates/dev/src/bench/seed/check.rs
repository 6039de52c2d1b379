//! Whether the seeded copies and rollups say what the seeded history says, and whether the data has the promised shape.

use anyhow::{Result, ensure};
use sqlx::PgConnection;

use super::Plan;

/// What must not be found, each with the statement that counts it.
const WRONG: [(&str, &str); 5] = [
    (
        "scenes whose copy is not of their latest generation",
        "select count(*)
           from scenes s
           left join (
                select distinct on (scene_id) * from generations order by scene_id, id desc) g on g.scene_id = s.id
          where (s.latest_generation, s.latest_version, s.latest_state, s.latest_percent, s.latest_stage, s.latest_thumbnail)
                is distinct from (g.id, g.version, g.state, g.percent, g.stage, g.thumbnail)",
    ),
    (
        "projects whose count of scenes is wrong",
        "select count(*)
           from projects p
           left join (select project_id, count(*) as number from scenes group by project_id) s on s.project_id = p.id
          where p.scene_count <> coalesce(s.number, 0)",
    ),
    (
        "projects whose completed count or cost is wrong",
        "select count(*)
           from projects p
           left join (
                select project_id, count(*) as number, sum(captured_micros) as cost
                  from generations where state = 6 group by project_id) g on g.project_id = p.id
          where (p.completed_count, p.completed_cost_micros) <> (coalesce(g.number, 0), coalesce(g.cost, 0))",
    ),
    (
        "credit accounts that do not agree with what was spent",
        "select count(*)
           from accounts a
           left join credit_accounts c on c.account_id = a.id
           left join (select account_id, sum(captured_micros) as cost from generations group by account_id) g
             on g.account_id = a.id
          where c.account_id is null or c.held_micros <> 0 or c.spent_micros <> coalesce(g.cost, 0)",
    ),
    (
        "rows that refer to none",
        "select (select count(*) from generations g
                  where not exists (
                    select from scenes s
                     where (s.id, s.account_id, s.project_id) = (g.scene_id, g.account_id, g.project_id)))
              + (select count(*) from scenes s
                  where not exists (select from projects p where (p.id, p.account_id) = (s.project_id, s.account_id)))
              + (select count(*) from projects p where not exists (select from accounts a where a.id = p.account_id))",
    ),
];

/// Fails when the data is not what was planned, or not in itself consistent.
pub(super) async fn consistent(connection: &mut PgConnection, plan: &Plan) -> Result<()> {
    for (what, statement) in WRONG {
        let wrong: i64 = sqlx::query_scalar(statement).fetch_one(&mut *connection).await?;
        ensure!(wrong == 0, "the seeded data has {wrong} {what}");
    }
    let (takes, projects): (i64, i64) = sqlx::query_as(
        "select (select max(number) from (select count(*) as number from generations group by scene_id) of_a_scene),
                (select max(number) from (select count(*) as number from projects group by account_id) of_an_account)",
    )
    .fetch_one(connection)
    .await?;
    ensure!(usize::try_from(takes)? >= plan.takes(), "no scene has {} generations", plan.takes());
    ensure!(usize::try_from(projects)? == Plan::max_projects(), "no account has {} projects", Plan::max_projects());
    Ok(())
}
