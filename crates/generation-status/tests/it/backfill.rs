//! What was there before usage was counted: the migration that begins to count it sums what it finds, by the same rules.

use chassis::links::AssetUrls;
use generation_status::Config;
use proto::credits::v1::usage_query::Dimension;
use proto::credits::v1::{EndUser, GetAccountUsageRequest, GetEndUserRequest, UsageQuery};
use proto::generations::v1::ListGenerationsRequest;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testkit::Database;
use time::{Duration, OffsetDateTime};
use url::Url;
use uuid::Uuid;

use crate::cluster::{Node, User, internal_keys};

/// The migration that begins to count.
const COUNTS: i64 = 20_261_128_090_001;

/// Runs the migrations of these versions.
async fn migrate(connection: &mut PgConnection, versions: impl Fn(i64) -> bool) {
    let all = testkit::MIGRATOR.iter().filter(|migration| versions(migration.version));
    for migration in all {
        sqlx::raw_sql(migration.sql.clone()).execute(&mut *connection).await.unwrap();
    }
}

/// A generation as it was before: its state, its end user, what it held and cost, when it began and ended, in days before today, and
/// what its provider asked.
type Before = (i16, &'static str, i64, i64, i64, Option<i64>, Option<i64>);

const BEFORE: [Before; 7] = [
    // Completed today, for less than was held.
    (6, "ada", 100, 70, 0, Some(0), Some(40)),
    // Begun on one day and completed on a later one.
    (6, "ada", 100, 100, 40, Some(39), Some(60)),
    (6, "", 50, 50, 39, Some(39), None),
    (7, "ada", 100, 0, 39, Some(39), Some(30)),
    (8, "brahe", 100, 0, 1, Some(1), None),
    (9, "", 100, 0, 3, Some(2), None),
    // Open.
    (3, "ada", 25, 0, 0, None, None),
];

async fn insert(connection: &mut PgConnection, user: &User, noon: OffsetDateTime, before: Before) {
    let (state, end_user, held, captured, begun, ended, cost) = before;
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into generations (id, account_id, project_id, scene_id, state, model, prompt, held_micros, captured_micros,
                                  released_micros, request_id, request_sha256, create_time, end_time, labels, end_user)
         values ($1, $2, $3, $4, $5, 'clip', 'a harbour', $6, $7, case when $5 >= 6 then $6 - $7 else 0 end, $1, '\\x00',
                 $8, $9, '{\"cut\": \"a\"}', $10)",
    )
    .bind(id)
    .bind(user.account)
    .bind(user.project)
    .bind(user.scene)
    .bind(state)
    .bind(held)
    .bind(captured)
    .bind(noon - Duration::days(begun))
    .bind(ended.map(|ended| noon - Duration::days(ended)))
    .bind(end_user)
    .execute(&mut *connection)
    .await
    .unwrap();
    let order = "insert into generation_orders (generation_id, account_id, work_order, terms, provider_cost_micros) values ($1, $2, '{}', '{}', $3)";
    sqlx::query(order).bind(id).bind(user.account).bind(cost).execute(connection).await.unwrap();
}

async fn end_user(node: &Node, user: &User, name: &str) -> EndUser {
    let request = user.asks(GetEndUserRequest { end_user: name.to_owned() });
    node.usage.clone().get_end_user(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_ended_before_it_was_counted_is_counted() {
    // A database beside the migrated one, on the same server.
    let database = Database::fresh().await.unwrap();
    let mut url = Url::parse(&database.url()).unwrap();
    let name = format!("before_{}", Uuid::now_v7().simple());
    let mut server = PgConnection::connect(&database.url()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut server).await.unwrap();
    url.set_path(&name);
    let mut connection = PgConnection::connect(url.as_str()).await.unwrap();
    migrate(&mut connection, |version| version < COUNTS).await;
    let user = User { account: Uuid::now_v7(), project: Uuid::now_v7(), scene: Uuid::now_v7() };
    for statement in [
        "insert into accounts (id, display_name) values ($1, 'A user')",
        "insert into projects (id, account_id, title, scene_count) select $2, $1, 'A project', 1 where $3::uuid is not null",
        "insert into scenes (id, account_id, project_id, title, position) values ($3, $1, $2, 'A scene', 0)",
    ] {
        let query = sqlx::query(statement).bind(user.account);
        let query = if statement.contains("$2") { query.bind(user.project).bind(user.scene) } else { query };
        query.execute(&mut connection).await.unwrap();
    }
    // A day that ends while this runs is still this one.
    let noon = OffsetDateTime::now_utc().replace_time(time::macros::time!(12:00));
    let day = |before: i64| (noon - Duration::days(before)).date().to_string();
    for before in BEFORE {
        insert(&mut connection, &user, noon, before).await;
    }
    migrate(&mut connection, |version| version >= COUNTS).await;
    connection.close().await.unwrap();

    let config = Config::new(url.to_string(), AssetUrls::public("http://assets.test"), internal_keys());
    let node = Node::start(&config).await;
    let query = UsageQuery {
        group_by: vec![Dimension::Day.into(), Dimension::EndUser.into()],
        first_day: day(60),
        last_day: day(0),
        ..UsageQuery::default()
    };
    let request = GetAccountUsageRequest { account: format!("accounts/{}", user.account), query: Some(query) };
    let usage = node.usage.clone().get_account_usage(request).await.unwrap().into_inner();
    let row = |row: &proto::credits::v1::AccountUsage| {
        let usage = row.usage.clone().unwrap();
        let ended = [usage.completed_count, usage.failed_count, usage.cancelled_count, usage.expired_count];
        (usage.day, usage.end_user, usage.started_count, ended, usage.captured_micros, row.provider_cost_micros)
    };
    let mut rows: Vec<_> = usage.rows.iter().map(row).collect();
    rows.sort();
    let mut expected = vec![
        (day(40), "ada".to_owned(), 1, [0, 0, 0, 0], 0, 0),
        (day(39), String::new(), 1, [1, 0, 0, 0], 50, 0),
        (day(39), "ada".to_owned(), 1, [1, 1, 0, 0], 100, 90),
        (day(3), String::new(), 1, [0, 0, 0, 0], 0, 0),
        (day(2), String::new(), 0, [0, 0, 0, 1], 0, 0),
        (day(1), "brahe".to_owned(), 1, [0, 0, 1, 0], 0, 0),
        (day(0), "ada".to_owned(), 2, [1, 0, 0, 0], 70, 40),
    ];
    expected.sort();
    assert_eq!(rows, expected);

    let ada = end_user(&node, &user, "ada").await;
    assert_eq!((ada.held_micros, ada.total_micros), (25, 170));
    let brahe = end_user(&node, &user, "brahe").await;
    assert_eq!((brahe.held_micros, brahe.total_micros), (0, 0));
    let labelled = ListGenerationsRequest {
        parent: user.project(),
        labels: [("cut".to_owned(), "a".to_owned())].into(),
        page_size: 100,
        ..ListGenerationsRequest::default()
    };
    let listed = node.generations.clone().list_generations(user.asks(labelled)).await.unwrap().into_inner();
    assert_eq!(listed.generations.len(), BEFORE.len());

    node.drain();
    drop(node);
    sqlx::raw_sql(AssertSqlSafe(format!("drop database {name} with (force)"))).execute(&mut server).await.unwrap();
}
