//! The plans of what is read: a page costs what is on it, and a row that is asked for by its key itself, however long the history is
//! that it is taken from.

use chassis::links::AssetUrls;
use std::time::Duration;

use generation_status::Config;
use proto::credits::v1::usage_query::Dimension;
use proto::credits::v1::{GetUsageRequest, ListCreditEntriesRequest, UsageQuery};
use proto::generations::v1::{BatchGetGenerationsRequest, ListGenerationsRequest, State};
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{Database, Service, eventually};
use uuid::Uuid;

use crate::cluster::{Node, PRICE, User, internal_keys};

/// Rows on a page.
const PAGE: i32 = 10;

/// A user with a scene of 2,000 generations, among 3,000 accounts whose two scenes have two: a plan that is made for all
/// accounts goes by those, which would fetch all generations and sort them at no great cost.
async fn with_history(pool: &PgPool) -> User {
    // The relay has no use for a row of the outbox for each of these.
    for table in ["accounts", "projects", "scenes", "generations"] {
        let disable_trigger = format!("alter table {table} disable trigger emit_insert");
        sqlx::raw_sql(AssertSqlSafe(disable_trigger)).execute(pool).await.unwrap();
    }
    sqlx::raw_sql(
        "insert into accounts (id, display_name) select gen_random_uuid(), 'Little' from generate_series(1, 3000);
         insert into projects (id, account_id, title, scene_count) select gen_random_uuid(), id, 'P', 2 from accounts;
         insert into scenes (id, account_id, project_id, title, position)
         select gen_random_uuid(), account_id, id, 'S', place from projects, generate_series(0, 1) place",
    )
    .execute(pool)
    .await
    .unwrap();
    let (account, project, scene): (Uuid, Uuid, Uuid) =
        sqlx::query_as("select account_id, project_id, id from scenes limit 1").fetch_one(pool).await.unwrap();
    // In no order, as they come in life: an account's generations are spread over the table.
    sqlx::query(
        "insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, held_micros, request_id,
                                  request_sha256)
         select gen_random_uuid(), s.account_id, s.project_id, s.id, 'local', 'a prompt', 1, 0, gen_random_uuid(), ''
           from scenes s, generate_series(1, 2000) i
          where i <= case s.id when $1 then 2000 else 2 end
          order by random()",
    )
    .bind(scene)
    .execute(pool)
    .await
    .unwrap();
    sqlx::raw_sql("vacuum analyze").execute(pool).await.unwrap();
    User { account, project, scene }
}

/// Every generation was held for, and paid.
async fn with_entries(pool: &PgPool) -> User {
    let user = with_history(pool).await;
    sqlx::raw_sql(
        "insert into ledger (id, account_id, generation_id, entry, book, amount_micros)
         select gen_random_uuid(), account_id, id, entry, book, amount
           from generations, (values ('hold', 'available', -5), ('hold', 'held', 5),
                                     ('capture', 'held', -5), ('capture', 'spent', 5)) line (entry, book, amount)
          order by random()",
    )
    .execute(pool)
    .await
    .unwrap();
    sqlx::raw_sql("vacuum analyze ledger").execute(pool).await.unwrap();
    user
}

/// Of a process whose statements are run often enough for their plans to be those for all accounts, since there is one connection.
fn config(database: &Database) -> Config {
    let url = database.url_of(Service::GenerationStatus);
    let mut config = Config::new(url, AssetUrls::public("http://assets.test"), internal_keys());
    config.database.read.max = 1;
    // The reconciler reads the same tables.
    config.work.reconcile_interval = Duration::from_secs(3_600);
    config
}

/// The rows of a table that were fetched so far, by any way.
async fn fetched(pool: &PgPool, table: &str) -> i64 {
    let fetched = "select coalesce(idx_tup_fetch, 0) + seq_tup_read from pg_stat_user_tables where relname = $1";
    sqlx::query_scalar(fetched).bind(table).fetch_one(pool).await.unwrap()
}

/// Reads a page again and again, and returns how many rows of the table that fetched, and how many pages it was.
async fn read(pool: &PgPool, table: &str, page: impl AsyncFn() -> usize) -> (i64, i64) {
    let (before, mut pages) = (fetched(pool, table).await, 0);
    // A connection makes known what it fetched about once a second, when it is used.
    let fetched = eventually("what was fetched is known", Duration::from_secs(20), async || {
        for _ in 0..10 {
            assert_eq!(page().await, 10);
            pages += 1;
        }
        let fetched = fetched(pool, table).await - before;
        (pages >= 100 && fetched >= pages * i64::from(PAGE) / 2).then_some(fetched)
    });
    let fetched = fetched.await.unwrap();
    (fetched, pages)
}

#[tokio::test]
async fn a_page_of_two_thousand_costs_a_page() {
    let database = Database::fresh().await.unwrap();
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let user = with_history(&pool).await;
    let config = config(&database);
    let node = Node::start(&config).await;
    for parent in [user.scene(), user.project(), String::new()] {
        let (fetched, pages) = read(&pool, "generations", async || {
            let request =
                ListGenerationsRequest { parent: parent.clone(), page_size: PAGE, ..ListGenerationsRequest::default() };
            let page = node.generations.clone().list_generations(user.asks(request)).await.unwrap();
            page.into_inner().generations.len()
        })
        .await;
        // What the listing before fetched last may have become known only now: hence twice.
        assert!(fetched <= 2 * pages * i64::from(PAGE + 1), "{parent}: {fetched} rows fetched for {pages} pages");
    }
}

#[tokio::test]
async fn a_page_of_four_thousand_entries_costs_a_page() {
    let database = Database::fresh().await.unwrap();
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let user = with_entries(&pool).await;
    let config = config(&database);
    let node = Node::start(&config).await;
    let (fetched, pages) = read(&pool, "ledger", async || {
        let request = user.asks(ListCreditEntriesRequest { page_size: PAGE, page_token: String::new() });
        node.credits.clone().list_credit_entries(request).await.unwrap().into_inner().entries.len()
    })
    .await;
    // An entry and, where it was paid, the line that says how much.
    assert!(fetched <= 2 * pages * i64::from(PAGE + 1), "{fetched} rows fetched for {pages} pages");
}

/// The generations of all are over but ten of the user's, which are of an end user and have a label.
async fn with_ends(pool: &PgPool) -> User {
    let user = with_history(pool).await;
    sqlx::raw_sql("alter table generations disable trigger user").execute(pool).await.unwrap();
    sqlx::query(
        "with open as (select id from generations where account_id = $1 limit 10)
         update generations
         set end_user = case account_id when $1 then 'ada' else '' end, labels = '{\"shot\": \"1\"}',
             state = case when id in (select id from open) then 1 else 7 end,
             end_time = case when id in (select id from open) then null else now() end",
    )
    .bind(user.account)
    .execute(pool)
    .await
    .unwrap();
    sqlx::raw_sql(
        "alter table generations enable trigger user;
         insert into generation_labels select account_id, 'shot', '1', id from generations",
    )
    .execute(pool)
    .await
    .unwrap();
    sqlx::raw_sql("vacuum analyze").execute(pool).await.unwrap();
    user
}

#[tokio::test]
async fn a_restricted_page_of_two_thousand_costs_a_page() {
    let database = Database::fresh().await.unwrap();
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let user = with_ends(&pool).await;
    let config = config(&database);
    let node = Node::start(&config).await;
    let asked = || ListGenerationsRequest { page_size: PAGE, ..ListGenerationsRequest::default() };
    let in_state = |state: State| ListGenerationsRequest { states: vec![state.into()], ..asked() };
    let of_ada = |request| ListGenerationsRequest { end_user: "ada".to_owned(), ..request };
    // What is restricted by one index alone costs a page; several restrictions at once cost 500 rows at most.
    for (request, rows) in [
        (in_state(State::Failed), PAGE + 1),
        (in_state(State::Queued), PAGE + 1),
        (ListGenerationsRequest { model: "models/local".to_owned(), ..asked() }, PAGE + 1),
        (of_ada(asked()), PAGE + 1),
        (ListGenerationsRequest { labels: [("shot".to_owned(), "1".to_owned())].into(), ..asked() }, PAGE + 1),
        (of_ada(in_state(State::Failed)), 500),
        (ListGenerationsRequest { parent: user.project(), ..in_state(State::Failed) }, 500),
    ] {
        let measure = async || {
            read(&pool, "generations", async || {
                let page = node.generations.clone().list_generations(user.asks(request.clone())).await.unwrap();
                page.into_inner().generations.len()
            })
            .await
        };
        // What the listing before fetched last may have become known only now: hence twice. And what the service reads by itself
        // when it begins counts as well: hence again where it is more.
        let is_over = |(fetched, pages): (i64, i64)| fetched > 2 * pages * i64::from(rows);
        let mut measured = measure().await;
        for _ in 0..2 {
            if is_over(measured) {
                measured = measure().await;
            }
        }
        assert!(!is_over(measured), "{request:?}: rows fetched, and pages: {measured:?}");
    }
}

#[tokio::test]
async fn usage_of_ten_days_costs_ten_days_however_long_the_history_is() {
    let database = Database::fresh().await.unwrap();
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let user = with_history(&pool).await;
    sqlx::raw_sql(
        "delete from usage_daily;
         insert into usage_daily (account_id, day, model, end_user, started)
         select id, '2026-01-01'::date + past, 'local', '', 1 from accounts, generate_series(0, 99) past",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::raw_sql("vacuum analyze usage_daily").execute(&pool).await.unwrap();
    let config = config(&database);
    let node = Node::start(&config).await;
    let query = UsageQuery {
        first_day: "2026-02-01".to_owned(),
        last_day: "2026-02-10".to_owned(),
        group_by: vec![Dimension::Day.into()],
        ..UsageQuery::default()
    };
    let before = fetched(&pool, "generations").await;
    let (fetched_days, pages) = read(&pool, "usage_daily", async || {
        let request = user.asks(GetUsageRequest { query: Some(query.clone()) });
        node.usage.clone().get_usage(request).await.unwrap().into_inner().rows.len()
    })
    .await;
    assert!(fetched_days <= 2 * pages * i64::from(PAGE), "{fetched_days} rows fetched for {pages} pages");
    assert_eq!(fetched(&pool, "generations").await, before, "no generation is read");
}

/// A user with 500 generations among ten thousand accounts with one, for which any index that begins with the account would do.
async fn with_little_accounts(pool: &PgPool) -> User {
    sqlx::raw_sql(
        "alter table accounts disable trigger emit_insert;
         alter table projects disable trigger emit_insert;
         alter table scenes disable trigger emit_insert;
         alter table generations disable trigger emit_insert;
         insert into accounts (id, display_name)
         select gen_random_uuid(), case i when 0 then 'Large' else 'Little' end from generate_series(0, 10000) i;
         insert into projects (id, account_id, title, scene_count) select gen_random_uuid(), id, display_name, 1 from accounts;
         insert into scenes (id, account_id, project_id, title, position)
         select gen_random_uuid(), account_id, id, title, 0 from projects;
         insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, held_micros, request_id,
                                  request_sha256)
         select gen_random_uuid(), account_id, project_id, id, 'local', 'a prompt', 1, 0, gen_random_uuid(), ''
           from scenes, generate_series(1, 500) i
          where i <= case title when 'Large' then 500 else 1 end
          order by random();
         analyze",
    )
    .execute(pool)
    .await
    .unwrap();
    let of_the_user = "select account_id, project_id, id from scenes where title = 'Large'";
    let (account, project, scene) = sqlx::query_as(of_the_user).fetch_one(pool).await.unwrap();
    User { account, project, scene }
}

#[tokio::test]
async fn what_is_asked_by_its_key_costs_itself() {
    let database = Database::fresh().await.unwrap();
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let user = with_little_accounts(&pool).await;
    let mut config = config(&database);
    config.database.write.max = 1;
    // Nobody proves that what is cached is fresh, so that each batch is read.
    config.cache.relay = false;
    let node = Node::start(&config).await;
    sqlx::query("insert into credit_accounts (account_id, available_micros) values ($1, $2)")
        .bind(user.account)
        .bind(PRICE)
        .execute(&pool)
        .await
        .unwrap();
    let request = user.start_request();
    let start =
        async || node.generations.clone().start_generation(user.asks(request.clone())).await.unwrap().into_inner();
    let started = start().await.name;
    let others = "select 'generations/' || id from generations where account_id = $1 and model = 'local' limit 9";
    let mut names: Vec<String> = sqlx::query_scalar(others).bind(user.account).fetch_all(&pool).await.unwrap();
    names.push(started.clone());
    let (fetched, calls) = read(&pool, "generations", async || {
        assert_eq!(start().await.name, started, "the same request starts nothing");
        let batch = user.asks(BatchGetGenerationsRequest { names: names.clone() });
        node.generations.clone().batch_get_generations(batch).await.unwrap().into_inner().generations.len()
    })
    .await;
    // What the service reads by itself when it begins counts as well.
    assert!(
        fetched <= 2 * calls * i64::from(PAGE + 1),
        "{fetched} rows fetched for {calls} batches and repeated starts"
    );
}
