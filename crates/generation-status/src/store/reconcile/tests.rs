//! What the checks cost: the rows that their plans read, of one large account.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testkit::Database;

use super::INVARIANTS;

/// So many generations of one account, each with its job and its hold.
const GENERATIONS: u64 = 2_000;
/// So many rows there are of all that the invariants read: generations, jobs, and two lines of the ledger each.
const ROWS: u64 = 4 * GENERATIONS;
/// How often a check may read a row, on average.
const MAX_READS: u64 = 20;

const SEED: &str = "
    insert into accounts (id, display_name) values ('00000000-0000-7000-8000-000000000001', 'Large');
    insert into credit_accounts (account_id, held_micros, available_micros)
    values ('00000000-0000-7000-8000-000000000001', 2000, 0);
    insert into projects (id, account_id, title)
    values ('00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000001', 'P');
    insert into scenes (id, account_id, project_id, title, position)
    values ('00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000001',
            '00000000-0000-7000-8000-000000000002', 'S', 0);
    insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, held_micros, request_id, request_sha256)
    select rushes_uuid_v7(), '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002',
           '00000000-0000-7000-8000-000000000003', 'm', 'p', 1, 1, rushes_uuid_v7(), ''
    from generate_series(1, 2000);
    insert into jobs (id, kind, queue, account_id, payload, max_attempts, vft, idem_key, request_hash)
    select id, 'generation', 'm', account_id, '', 1, 1, id::text, '' from generations;
    insert into ledger (id, account_id, generation_id, entry, book, amount_micros)
    select rushes_uuid_v7(), account_id, id, 'hold', book, micros
    from generations, (values ('available', -1), ('held', 1)) as line (book, micros);
    analyze";

/// How many rows the nodes of a plan read: those that they gave, and those that they left out.
fn rows_read(node: &Value) -> u64 {
    let count = |name: &str| node[name].as_f64().unwrap_or_default();
    let own = count("Actual Rows") + count("Rows Removed by Filter") + count("Rows Removed by Join Filter");
    let below = node["Plans"].as_array().map(Vec::as_slice).unwrap_or_default();
    (own * count("Actual Loops")) as u64 + below.iter().map(rows_read).sum::<u64>()
}

/// The check of the ledger once compared each line of an account with each other one, for minutes and on a connection of the reaper's.
#[tokio::test]
async fn no_check_reads_a_row_more_than_a_few_times() {
    let database = Database::fresh().await.unwrap();
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    sqlx::raw_sql(SEED).execute(&mut connection).await.unwrap();
    for invariant in INVARIANTS {
        let explain = format!("explain (analyze, timing off, format json) {}", invariant.sql);
        let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&mut connection).await.unwrap();
        let read = rows_read(&plan[0]["Plan"]);
        assert!(read <= MAX_READS * ROWS, "{}: {read} rows read, of {ROWS}", invariant.name);
    }
}
