//! The dashboard's plan: its cost does not grow with how many generations a scene has had.

use anyhow::{Context, Result};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::stack::{Stack, User};

/// An account with four projects of four scenes with this many generations each.
async fn with_history(stack: &Stack, generations: i32) -> Result<User> {
    let user = stack.account().await?;
    let ids: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
    sqlx::query("insert into projects (id, account_id, title, scene_count) select unnest($1::uuid[]), $2, 'P', 4")
        .bind(&ids)
        .bind(user.id)
        .execute(&stack.pool)
        .await?;
    sqlx::query(
        "insert into scenes (id, account_id, project_id, title, position)
         select gen_random_uuid(), account_id, id, 'S', place from projects, generate_series(0, 3) place
          where account_id = $1",
    )
    .bind(user.id)
    .execute(&stack.pool)
    .await?;
    sqlx::query(
        "insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, held_micros, request_id,
                                  request_sha256)
         select gen_random_uuid(), account_id, project_id, id, 'local', 'a prompt', 1, 0, gen_random_uuid(), ''
           from scenes, generate_series(1, $2) where account_id = $1",
    )
    .bind(user.id)
    .bind(generations)
    .execute(&stack.pool)
    .await?;
    Ok(user)
}

/// Five thousand accounts with one generation each: they are the average that a plan for all accounts goes by.
async fn many_with_little(stack: &Stack) -> Result<()> {
    sqlx::raw_sql(
        "insert into accounts (id, display_name) select gen_random_uuid(), 'Little' from generate_series(1, 5000);
         insert into projects (id, account_id, title)
         select gen_random_uuid(), id, 'P' from accounts where display_name = 'Little';
         insert into scenes (id, account_id, project_id, title, position)
         select gen_random_uuid(), p.account_id, p.id, 'S', 0
           from projects p join accounts a on a.id = p.account_id and a.display_name = 'Little';
         insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, held_micros, request_id,
                                  request_sha256)
         select gen_random_uuid(), s.account_id, s.project_id, s.id, 'local', 'a prompt', 1, 0, gen_random_uuid(), ''
           from scenes s join accounts a on a.id = s.account_id and a.display_name = 'Little'",
    )
    .execute(&stack.pool)
    .await?;
    Ok(())
}

/// The pages that the dashboard's statement touches for `user`, and its plan.
async fn pages(stack: &Stack, sql: &str, user: &User) -> Result<(i64, String)> {
    let mut connection = PgConnection::connect(stack.reads.as_str()).await?;
    let prepare = format!("prepare dashboard(uuid, uuid, bigint) as {sql}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut connection).await?;
    let explain = format!(
        "explain (analyze, buffers, format json) execute dashboard('{}', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 20)",
        user.id
    );
    let mut plan = Value::Null;
    for _ in 0..2 {
        // The second time, the visibility of the rows is settled and costs no page any more.
        plan = sqlx::query_scalar(AssertSqlSafe(explain.clone())).fetch_one(&mut connection).await?;
    }
    connection.close().await?;
    let top = &plan[0]["Plan"];
    let count = |what: &str| top[what].as_i64().with_context(|| format!("{what} in {top}"));
    Ok((count("Shared Hit Blocks")? + count("Shared Read Blocks")?, plan.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_generations_a_scene_cost_what_ten_do() -> Result<()> {
    let stack = Stack::start().await?;
    // The stack's relay has no use for a row of the outbox for each of these.
    for table in ["accounts", "projects", "scenes", "generations"] {
        let silence = format!("alter table {table} disable trigger emit_insert");
        sqlx::raw_sql(AssertSqlSafe(silence)).execute(&stack.pool).await?;
    }
    let (few, many) = (with_history(&stack, 10).await?, with_history(&stack, 2_000).await?);
    many_with_little(&stack).await?;
    sqlx::raw_sql("vacuum analyze").execute(&stack.pool).await?;
    stack.queries();
    few.dashboard_page(19, "").await?;
    let trips = stack.queries();
    // The statement as it crossed the wire.
    let sql = trips.first().context("a statement")?.trim_start_matches("prepare: ");
    let ((few, _), (many, plan)) = (pages(&stack, sql, &few).await?, pages(&stack, sql, &many).await?);
    assert!(many <= few + 4, "{many} pages instead of {few}: {plan}");
    assert!(plan.contains("generations_by_account"), "the ten latest, by their index: {plan}");
    for index in ["generations_by_scene", "generations_by_project"] {
        assert!(!plan.contains(index), "history is read by {index}: {plan}");
    }
    stack.stop().await
}
