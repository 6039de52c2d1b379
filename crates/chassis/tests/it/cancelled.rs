//! Work on a pool that is dropped in the middle: at each point where it waits, one after another.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use chassis::postgres::{Error, Pool, PoolSettings, statement};
use sqlx::PgConnection;
use testkit::{Database, Proxy};

/// Polls `work` until it has waited `times`, then drops it; whether it had not come to its end by then.
async fn dropped_after(times: usize, work: impl Future) -> bool {
    let mut work = pin!(work);
    let mut waits = 0;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(false),
        Poll::Pending if waits == times => Poll::Ready(true),
        Poll::Pending => {
            waits += 1;
            Poll::Pending
        }
    })
    .await
}

async fn add(connection: &mut PgConnection, number: i32) -> Result<(), Error> {
    let insert = sqlx::query("insert into numbers (number) values ($1)").bind(number);
    statement("add_number", insert.execute(connection)).await?;
    Ok(())
}

#[test]
fn work_that_is_dropped_anywhere_leaves_nothing_to_whoever_comes_next() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lines = testkit::logged(|| runtime.block_on(drop_work_and_see_what_is_left()));
    let warned: Vec<_> =
        lines.iter().filter(|line| line.to_string().contains("already a transaction in progress")).collect();
    assert!(warned.is_empty(), "PostgreSQL warns of what is done on purpose: {warned:?}");
}

async fn drop_work_and_see_what_is_left() {
    let database = Database::fresh().await.unwrap();
    let mut beside = <PgConnection as sqlx::Connection>::connect(&database.url()).await.unwrap();
    sqlx::raw_sql("create table numbers (number integer not null)").execute(&mut beside).await.unwrap();
    // Slow enough that whoever asks has to wait for each answer.
    let proxy = Proxy::before_url(&database.url()).await.unwrap();
    proxy.latency(Duration::from_millis(2));
    // One connection, so that what comes next has the one that was left.
    let seconds = Duration::from_secs(5);
    let settings =
        PoolSettings { min: 0, max: 1, acquire: seconds, unresponsive_after: seconds, ..PoolSettings::default() };
    let pool = Pool::connect_lazy("test", &proxy.url(&database.url()).unwrap(), &settings).unwrap();
    // Two runs: in the first the connection is made and its statements are prepared meanwhile.
    let mut points = 0;
    for (round, times) in [0, 1].into_iter().flat_map(|round| (0..16).map(move |times| (round, times))) {
        let transaction = pool.transaction("add_numbers", async |connection: &mut PgConnection| {
            add(connection, -1).await?;
            add(connection, -1).await
        });
        points += usize::from(dropped_after(times, transaction).await);
        let number = round * 100 + i32::try_from(times).unwrap();
        pool.run("add_number", async |connection: &mut PgConnection| {
            let insert = sqlx::query("insert into numbers (number) values ($1)").bind(number);
            insert.execute(connection).await.map(drop)
        })
        .await
        .unwrap();
        // Seen by others: it was committed, and not into a transaction that somebody else left open.
        let seen: i64 = sqlx::query_scalar("select count(*) from numbers where number = $1")
            .bind(number)
            .fetch_one(&mut beside)
            .await
            .unwrap();
        assert_eq!(seen, 1, "a write after a transaction that was dropped after {times} waits is not committed");
        let halves: i64 = sqlx::query_scalar("select count(*) % 2 from numbers where number = -1")
            .fetch_one(&mut beside)
            .await
            .unwrap();
        assert_eq!(halves, 0, "half a transaction is committed after {times} waits");
    }
    assert!(points >= 8, "it was dropped at {points} points only");
}
