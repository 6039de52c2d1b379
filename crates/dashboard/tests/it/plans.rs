//! The dashboard's plan: its cost does not grow with the number of a scene's generations.

use anyhow::{Context, Result};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::cluster::{Cluster, User};

/// Gives two accounts two scenes each, of 10 and of 2,000 generations, among 3,000 accounts whose scenes have two. A plan
/// that is made for all accounts goes by these: for them, fetching all generations and sorting is the cheaper way.
async fn with_history(cluster: &Cluster) -> Result<(User, User)> {
    let (few, many) = (cluster.account().await?, cluster.account().await?);
    // The relay has no use for a row of the outbox for each of these.
    for table in ["accounts", "projects", "scenes", "generations"] {
        let disable = format!("alter table {table} disable trigger emit_insert");
        sqlx::raw_sql(AssertSqlSafe(disable)).execute(&cluster.pool).await?;
    }
    sqlx::raw_sql(
        "insert into accounts (id, display_name) select gen_random_uuid(), 'Little' from generate_series(1, 3000);
         insert into projects (id, account_id, title, scene_count) select gen_random_uuid(), id, 'P', 2 from accounts;
         insert into scenes (id, account_id, project_id, title, position)
         select gen_random_uuid(), account_id, id, 'S', place from projects, generate_series(0, 1) place",
    )
    .execute(&cluster.pool)
    .await?;
    // In no order, as they come in life: an account's generations are spread over the table.
    sqlx::query(
        "insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, held_micros, request_id,
                                  request_sha256)
         select gen_random_uuid(), s.account_id, s.project_id, s.id, 'local', 'a prompt', 1, 0, gen_random_uuid(), ''
           from scenes s, generate_series(1, 2000) i
          where i <= case s.account_id when $1 then 10 when $2 then 2000 else 2 end
          order by random()",
    )
    .bind(few.id)
    .bind(many.id)
    .execute(&cluster.pool)
    .await?;
    sqlx::raw_sql("vacuum analyze").execute(&cluster.pool).await?;
    Ok((few, many))
}

/// The pages that the dashboard's statement touches for `user`, and its plan.
async fn pages(cluster: &Cluster, sql: &str, user: &User) -> Result<(i64, String)> {
    let mut connection = PgConnection::connect(cluster.reads.as_str()).await?;
    let prepare = format!("prepare dashboard(uuid, uuid, bigint) as {sql}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut connection).await?;
    let explain = format!(
        "explain (analyze, buffers, format json) execute dashboard('{}', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 20)",
        user.id
    );
    let mut plan = Value::Null;
    for _ in 0..2 {
        // The second time, what the catalogues cost is paid.
        plan = sqlx::query_scalar(AssertSqlSafe(explain.clone())).fetch_one(&mut connection).await?;
    }
    connection.close().await?;
    let top = &plan[0]["Plan"];
    let count = |what: &str| top[what].as_i64().with_context(|| format!("{what} in {top}"));
    Ok((count("Shared Hit Blocks")? + count("Shared Read Blocks")?, plan.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scene_with_two_thousand_generations_costs_the_pages_of_one_with_ten() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (few, many) = with_history(&cluster).await?;
    cluster.queries();
    let shown = few.dashboard_page(19, "").await?;
    assert_eq!((shown.projects[0].scenes.len(), shown.recent_generations.len()), (2, 10));
    let trips = cluster.queries();
    // The statement as it crossed the wire.
    let sql = trips.first().context("a statement")?.trim_start_matches("prepare: ");
    let ((few, _), (many, plan)) = (pages(&cluster, sql, &few).await?, pages(&cluster, sql, &many).await?);
    assert!(many <= few + 4, "{many} pages instead of {few}: {plan}");
    assert!(plan.contains("generations_by_account"), "the ten latest, by their index: {plan}");
    for index in ["generations_by_scene", "generations_by_project"] {
        assert!(!plan.contains(index), "history is read by {index}: {plan}");
    }
    cluster.stop().await
}
