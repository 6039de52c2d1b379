//! What row-level security on reads would cost: a dashboard's rows, read as dashboard's role, in the database as it is and in one where
//! the policies on reading name the account too.
//!
//! `cargo run -p rushes-testkit --example row-security` prints the processor time of the server for one read, by rounds in turns.

use anyhow::{Context, Result};
use sqlx::types::Uuid;
use sqlx::{Connection as _, PgConnection};
use testkit::{Database, Service};

const ROUNDS: usize = 31;

/// Two hundred accounts with what a dashboard shows: 8 projects of 6 scenes with 5 generations each, and 12 notices.
const SEED: &str = "
set session_replication_role = replica;
insert into accounts (id, display_name) select md5(n::text)::uuid, 'Ada' from generate_series(1, 200) n;
insert into projects (id, account_id, title) select rushes_uuid_v7(), a.id, 'P' from accounts a, generate_series(1, 8);
insert into scenes (id, account_id, project_id, title, position)
    select rushes_uuid_v7(), account_id, id, 'S', n from projects, generate_series(1, 6) n;
insert into generations (id, account_id, project_id, scene_id, model, prompt, held_micros, released_micros, request_id, request_sha256,
                         state, end_time)
    select rushes_uuid_v7(), account_id, project_id, id, 'models/m', 'a harbour', 5, 5, gen_random_uuid(), '', 7, now()
    from scenes, generate_series(1, 5);
insert into notices (id, account_id, title) select rushes_uuid_v7(), a.id, 'N' from accounts a, generate_series(1, 12);
set session_replication_role = origin;";

const READ: &str = "
(with page as materialized (
    select id, title, scene_count from projects
     where account_id = $1 and delete_time is null order by id desc limit 21)
 select id, title, scene_count as number from page
  union all
 select s.id, s.title, s.position from page p
  cross join lateral (select * from scenes where project_id = p.id and delete_time is null order by position, id limit 12) s)
 union all
(select id, left(prompt, 120), percent from generations where account_id = $1 order by id desc limit 10)
 union all
(select id, title, 0 from notices where account_id = $1 and read_time is null order by id desc limit 10)
 union all
(select id, display_name, 0 from accounts where id = $1)";

/// Reads as writes are.
const GUARD: &str = "
do $$ declare guarded record; begin
    for guarded in select tablename, qual from pg_policies where policyname = 'own_updates' loop
        execute format('drop policy everybody_reads on %I', guarded.tablename);
        execute format('create policy own_reads on %I for select using (%s)', guarded.tablename, guarded.qual);
    end loop;
end $$;";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (as_is, guarded) = (Database::fresh().await?, Database::fresh().await?);
    for (database, more) in [(&as_is, ""), (&guarded, GUARD)] {
        let mut owner = PgConnection::connect(&database.url()).await?;
        for statements in [SEED, "vacuum analyze", more] {
            sqlx::raw_sql(statements).execute(&mut owner).await?;
        }
    }
    let mut sides = Vec::new();
    for database in [&as_is, &guarded] {
        let url = database.url_of(Service::Dashboard);
        let settings = ["plan_cache_mode]=force_generic_plan", "enable_seqscan]=off", "enable_bitmapscan]=off"];
        let url = settings.iter().fold(url, |url, setting| format!("{url}&options[{setting}"));
        sides.push(PgConnection::connect(&format!("{url}&options[rushes.account]=any")).await?);
    }
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let (first, second) = (round % 2, 1 - round % 2);
        let mut cost = [0.0; 2];
        for side in [first, second] {
            cost[side] = read(&mut sides[side]).await?;
        }
        // The first round prepares.
        if round > 0 {
            println!("{:.0} us as it is, {:.0} us with reads guarded", cost[0], cost[1]);
            ratios.push(cost[1] / cost[0]);
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "the median of {ROUNDS} ratios is {:.2}, the quartiles {:.2} and {:.2}",
        ratios[ROUNDS / 2],
        ratios[ROUNDS / 4],
        ratios[ROUNDS * 3 / 4]
    );
    Ok(())
}

/// Reads some dashboards; gives the server's processor time for one, in microseconds.
async fn read(connection: &mut PgConnection) -> Result<f64> {
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *connection).await?;
    let accounts: Vec<Uuid> =
        sqlx::query_scalar("select id from accounts order by id").fetch_all(&mut *connection).await?;
    let before = processor_time(pid)?;
    for account in &accounts {
        let rows = sqlx::query(READ).bind(account).fetch_all(&mut *connection).await?;
        anyhow::ensure!(rows.len() == 77, "a dashboard has {} rows", rows.len());
    }
    Ok((processor_time(pid)? - before) / 1_000.0 / accounts.len() as f64)
}

/// For how long a process has run, in nanoseconds.
fn processor_time(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/schedstat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(text.split_whitespace().next().context("no time")?.parse()?)
}
