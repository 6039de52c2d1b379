//! The baselines in SQL: the dashboard's content by a statement written by hand, the same dashboard by three queries that read
//! history, and a plain update.

use anyhow::Result;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// Everything that a dashboard's first page shows, in one round trip: profile, credits, twenty projects with twelve scenes
/// each, ten recent generations, ten unread notices and how many there are. Without the version that a cache needs.
pub(super) async fn hand_written(connection: &mut PgConnection, account: Uuid) -> Result<Vec<PgRow>> {
    let rows = sqlx::query(
        "with page as materialized (
            select id, title, labels, scene_count, completed_count, completed_cost_micros, create_time
              from projects
             where account_id = $1 and delete_time is null
             order by id desc
             limit 21
         )
         select 1 as section, null::uuid as id, null::uuid as parent, null::uuid as latest,
                a.display_name as title, a.email as body, null::text as thumbnail, null::bytea as thumbhash,
                null::uuid as take, null::text as take_thumbnail, null::bytea as take_thumbhash, null::jsonb as labels,
                null::smallint as state,
                null::smallint as percent, null::integer as place, c.available_micros as some, c.held_micros as other,
                null::timestamptz as at
           from accounts a
           left join credit_accounts c on c.account_id = a.id
          where a.id = $1
          union all
         select 2, id, null, null, title, null, null, null, null, null, null, labels, null, null, scene_count,
                completed_count, completed_cost_micros,
                create_time
           from page
          union all
         select 3, s.id, s.project_id, s.latest_generation, s.title, s.latest_stage, s.latest_thumbnail, s.latest_thumbhash,
                s.take_generation, s.take_thumbnail, s.take_thumbhash, s.labels, s.latest_state,
                s.latest_percent, s.position, s.latest_version, null, null
           from (select id from page order by id desc limit 20) p
          cross join lateral (
                select * from scenes
                 where project_id = p.id and delete_time is null
                 order by position, id
                 limit 12) s
          union all
        (select 4, id, project_id, scene_id, left(prompt, 120), stage, thumbnail, thumbhash, null, null, null, null, state,
               percent, null, null,
                captured_micros, create_time
           from generations
          where account_id = $1
          order by id desc
          limit 10)
          union all
        (select 5, id, null, null, title, body, null, null, null, null, null, null, null, null, null, null, null, create_time
           from notices
          where account_id = $1 and read_time is null
          order by id desc
          limit 10)
          union all
         select 6, null, null, null, null, null, null, null, null, null, null, null, null, null, null, count(*), null, null
           from (select from notices where account_id = $1 and read_time is null limit 1000) unread",
    )
    .bind(account)
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Projects with scenes and their latest generations in three batched queries, as they are written where nothing is copied:
/// costs are summed over history and the latest is looked for in it. They return less than a dashboard: no profile, credits,
/// recent generations or notices. They name the account, so that the same indexes serve them.
pub(super) async fn batched(connection: &mut PgConnection, account: Uuid) -> Result<Batched> {
    let projects = sqlx::query(
        "select p.id, p.title, p.update_time, count(distinct s.id) as scene_count,
                coalesce(sum(case when g.state = 6 then g.captured_micros else 0 end), 0)::bigint as total_cost
           from projects p
           left join scenes s on s.project_id = p.id and s.delete_time is null
           left join generations g on g.account_id = p.account_id and g.scene_id = s.id
          where p.account_id = $1 and p.delete_time is null
          group by p.id
          order by p.update_time desc",
    )
    .bind(account)
    .fetch_all(&mut *connection)
    .await?;
    let scenes = sqlx::query(
        "select * from scenes
          where project_id = any($1) and delete_time is null
          order by project_id, position",
    )
    .bind(ids(&projects)?)
    .fetch_all(&mut *connection)
    .await?;
    let latest = sqlx::query(
        "select distinct on (scene_id) *
           from generations
          where account_id = $1 and scene_id = any($2)
          order by scene_id, id desc",
    )
    .bind(account)
    .bind(ids(&scenes)?)
    .fetch_all(connection)
    .await?;
    Ok(Batched { projects, scenes, latest })
}

/// The rows of the three queries.
pub(super) struct Batched {
    pub(super) projects: Vec<PgRow>,
    pub(super) scenes: Vec<PgRow>,
    pub(super) latest: Vec<PgRow>,
}

fn ids(rows: &[PgRow]) -> Result<Vec<Uuid>> {
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// A table with the columns, indexes and some of the rows of `generations`, and without its triggers. Returns its ids.
pub(super) async fn plain_table(connection: &mut PgConnection) -> Result<Vec<Uuid>> {
    sqlx::query(
        "create table plain_generations (like generations including all excluding generated) with (fillfactor = 70)",
    )
    .execute(&mut *connection)
    .await?;
    let ids = sqlx::query_scalar(
        "insert into plain_generations select * from generations order by id limit 1000 returning id",
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query("vacuum (analyze) plain_generations").execute(connection).await?;
    Ok(ids)
}

/// Changes one row of the plain table and commits.
pub(super) async fn plain_update(connection: &mut PgConnection, id: Uuid, step: &str) -> Result<()> {
    sqlx::query(
        "update plain_generations
            set version = version + 1, wait_reason = 0, stage = $2, update_time = now()
          where id = $1",
    )
    .bind(id)
    .bind(step)
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts so many jobs of `accounts` behind all others in the queue of `job`; they are of nothing, and not to be claimed.
pub(super) async fn queue_more(connection: &mut PgConnection, job: &str, accounts: &[Uuid], count: i32) -> Result<()> {
    sqlx::query(
        "insert into jobs (id, account_id, kind, queue, priority, vft, max_attempts, idem_key, request_hash, payload)
         select gen_random_uuid(), ($2::uuid[])[n % cardinality($2::uuid[]) + 1], j.kind, j.queue, j.priority, 1e15 + n, 1,
                'bench ' || n, ''::bytea, ''::bytea
           from jobs j, generate_series(1, $3::int) as n
          where j.id = $1",
    )
    .bind(Uuid::try_parse(job)?)
    .bind(accounts)
    .bind(count)
    .execute(&mut *connection)
    .await?;
    sqlx::query("vacuum (analyze) jobs").execute(connection).await?;
    Ok(())
}

/// Takes them away.
pub(super) async fn unqueue(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("delete from jobs where idem_key like 'bench %' and vft >= 1e15").execute(&mut *connection).await?;
    sqlx::query("vacuum (analyze) jobs").execute(connection).await?;
    Ok(())
}

/// Says by the triggers that the dashboards of `accounts` have changed, without changing them.
pub(super) async fn touch(connection: &mut PgConnection, accounts: &[Uuid]) -> Result<()> {
    sqlx::query("update accounts set email = email where id = any($1)").bind(accounts).execute(connection).await?;
    Ok(())
}

/// How many changes the relay has still to publish.
pub(super) async fn unpublished(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from outbox").fetch_one(connection).await?)
}

/// The latest completed generation of an account.
pub(super) async fn completed(connection: &mut PgConnection, account: Uuid) -> Result<Uuid> {
    let id =
        sqlx::query_scalar("select id from generations where account_id = $1 and state = 6 order by id desc limit 1")
            .bind(account)
            .fetch_one(connection)
            .await?;
    Ok(id)
}

/// Of each of these accounts a project and a generation, both its latest.
pub(super) async fn shown(connection: &mut PgConnection, accounts: &[Uuid]) -> Result<Vec<(Uuid, Uuid, Uuid)>> {
    let shown = sqlx::query_as(
        "select a.id, p.id, g.id
         from unnest($1::uuid[]) a (id)
         cross join lateral (select id from projects where account_id = a.id and delete_time is null
                             order by id desc limit 1) p
         cross join lateral (select id from generations where account_id = a.id order by id desc limit 1) g",
    )
    .bind(accounts)
    .fetch_all(connection)
    .await?;
    Ok(shown)
}

/// Some scenes of an account, as `projects/{project}/scenes/{scene}`.
pub(super) async fn scenes(connection: &mut PgConnection, account: Uuid) -> Result<Vec<String>> {
    let names = sqlx::query_scalar(
        "select 'projects/' || project_id || '/scenes/' || id from scenes where account_id = $1 order by id limit 100",
    )
    .bind(account)
    .fetch_all(connection)
    .await?;
    Ok(names)
}

/// Forgets the thumbnails of an account, so that the next one asked for is rendered.
pub(super) async fn forget_thumbnails(connection: &mut PgConnection, account: Uuid) -> Result<()> {
    sqlx::query("delete from thumbnails where account_id = $1").bind(account).execute(connection).await?;
    Ok(())
}
