//! Each server starts, stops, comes back at its address, freezes, and is gone when it should be.

use std::time::Duration;

use sqlx::Connection;
use testkit::{Database, Nats, Postgres, Redis};

async fn answers(url: &str) -> bool {
    let ask = async {
        let mut connection = sqlx::PgConnection::connect(url).await?;
        sqlx::query_scalar::<_, i32>("select 1").fetch_one(&mut connection).await
    };
    tokio::time::timeout(Duration::from_millis(500), ask).await.is_ok_and(|answer| answer.is_ok())
}

#[tokio::test]
async fn postgres_stops_starts_freezes_and_keeps_its_data() {
    let postgres = Postgres::launch().await.unwrap();
    let database = Database::on(&postgres).await.unwrap();
    assert!(answers(&database.url()).await);

    let mut connection = sqlx::PgConnection::connect(&database.url()).await.unwrap();
    sqlx::raw_sql("create table kept (n int); insert into kept values (7)").execute(&mut connection).await.unwrap();

    postgres.pause();
    let frozen = sqlx::query("select 1").execute(&mut connection);
    assert!(tokio::time::timeout(Duration::from_millis(200), frozen).await.is_err(), "a frozen backend answered");
    postgres.resume();
    assert!(answers(&database.url()).await);

    postgres.stop().await.unwrap();
    assert!(!answers(&database.url()).await);
    assert_eq!(postgres.trouble().unwrap(), "postgres is stopped");
    postgres.start().await.unwrap();
    let mut connection = sqlx::PgConnection::connect(&database.url()).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i32>("select n from kept").fetch_one(&mut connection).await.unwrap(), 7);

    postgres.kill().await.unwrap();
    postgres.start().await.unwrap();
    assert!(answers(&database.url()).await);
}

#[tokio::test]
async fn a_kept_postgres_wants_its_password_and_finds_its_data_again() {
    let folder = std::env::temp_dir().join(format!("rushes-kept-{:x}", fastrand::u64(..)));
    let first = Postgres::keep(&folder.join("postgres")).await.unwrap();
    let url = first.url();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("create table kept (n int)").execute(&mut connection).await.unwrap();
    let anyone = format!("postgres://rushes@{}/postgres", first.address());
    assert!(!answers(&anyone).await, "no password was asked for");
    drop(connection);
    drop(first);
    assert!(!answers(&url).await, "it still runs");

    let second = Postgres::keep(&folder.join("postgres")).await.unwrap();
    let mut connection = sqlx::PgConnection::connect(&second.url()).await.unwrap();
    sqlx::query("select n from kept").execute(&mut connection).await.unwrap();
    drop(second);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let (first, second) = (Database::fresh().await.unwrap(), Database::fresh().await.unwrap());
    let mut connection = sqlx::PgConnection::connect(&first.url()).await.unwrap();
    sqlx::raw_sql("create table mine (n int)").execute(&mut connection).await.unwrap();
    let mut other = sqlx::PgConnection::connect(&second.url()).await.unwrap();
    assert!(sqlx::query("select n from mine").execute(&mut other).await.is_err());
    let url = first.url();
    drop(first);
    assert!(!answers(&url).await, "a dropped database still takes connections");
    assert!(answers(&second.url()).await);
}

#[tokio::test]
async fn redis_stops_and_starts_at_its_address() {
    let folder = std::env::temp_dir().join(format!("rushes-kept-{:x}", fastrand::u64(..)));
    for redis in [Redis::launch().await.unwrap(), Redis::keep(&folder.join("redis")).await.unwrap()] {
        let client = redis::Client::open(redis.url()).unwrap();
        let ping = async || {
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            redis::cmd("PING").query_async::<String>(&mut connection).await.ok()
        };
        assert_eq!(ping().await.unwrap(), "PONG");
        redis.stop().await.unwrap();
        assert_eq!(ping().await, None);
        redis.start().await.unwrap();
        assert_eq!(ping().await.unwrap(), "PONG");
        redis.pause();
        assert_eq!(tokio::time::timeout(Duration::from_millis(200), ping()).await.ok().flatten(), None);
        redis.resume();
        assert_eq!(ping().await.unwrap(), "PONG");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn nats_delivers_and_comes_back() {
    let folder = std::env::temp_dir().join(format!("rushes-kept-{:x}", fastrand::u64(..)));
    for nats in [Nats::launch().await.unwrap(), Nats::keep(&folder.join("nats")).await.unwrap()] {
        async_nats::connect(nats.url()).await.unwrap().flush().await.unwrap();
        nats.stop().await.unwrap();
        assert!(async_nats::connect(nats.url()).await.is_err());
        nats.start().await.unwrap();
        async_nats::connect(nats.url()).await.unwrap().flush().await.unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
