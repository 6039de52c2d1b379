//! The counter against statements whose round trips are known.

use sqlx::{Connection, Executor, PgConnection};
use testkit::{Database, RoundTrips};

#[tokio::test]
async fn each_wait_of_the_client_is_counted_once() {
    let database = Database::fresh().await.unwrap();
    let counter = RoundTrips::before(&database.url()).await.unwrap();
    let mut connection = PgConnection::connect(&counter.url()).await.unwrap();
    let _ = counter.take();

    // Unprepared: one trip to prepare, one to run.
    let ask = sqlx::query_scalar::<_, i32>("select 40 + $1").bind(2);
    assert_eq!(ask.fetch_one(&mut connection).await.unwrap(), 42);
    assert_eq!(counter.take(), ["prepare: select 40 + $1", "select 40 + $1"]);

    // Prepared: one.
    let ask = sqlx::query_scalar::<_, i32>("select 40 + $1").bind(3);
    assert_eq!(ask.fetch_one(&mut connection).await.unwrap(), 43);
    assert_eq!(counter.take(), ["select 40 + $1"]);

    // A transaction costs its begin and its commit.
    let mut transaction = connection.begin().await.unwrap();
    transaction.execute(sqlx::query("select 40 + $1").bind(4)).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(counter.take(), ["BEGIN", "select 40 + $1", "COMMIT"]);

    // Simple queries, however many statements, are one.
    connection.execute(sqlx::raw_sql("select 1; select 2")).await.unwrap();
    assert_eq!(counter.count(), 1);
}

#[tokio::test]
async fn a_large_value_is_one_message() {
    let database = Database::fresh().await.unwrap();
    let counter = RoundTrips::before(&database.url()).await.unwrap();
    let mut connection = PgConnection::connect(&counter.url()).await.unwrap();
    let _ = counter.take();
    // Holds what would be whole messages, were it read as such.
    let text = "S\u{4}".repeat(500_000);
    let ask = sqlx::query_scalar::<_, i32>("select length($1)").bind(&text);
    assert_eq!(ask.fetch_one(&mut connection).await.unwrap(), 1_000_000);
    assert_eq!(counter.take(), ["prepare: select length($1)", "select length($1)"]);
}
