//! Pools on a real PostgreSQL, with round trips counted on the wire.

use std::time::{Duration, Instant};

use chassis::{
    postgres::{Error, Pool, PoolSettings, statement},
    request::{self, deadline},
    status::Failure,
};
use sqlx::{Connection as _, PgConnection};
use testkit::{Database, Direction, Postgres, Proxy, RoundTrips};
use tonic::Code;
use uuid::Uuid;

const TABLE: &str = "create table chassis_things (name text constraint thing_once primary key)";

fn pool(url: &str, settings: PoolSettings) -> Pool {
    Pool::connect_lazy("test", url, &settings).unwrap()
}

fn one() -> PoolSettings {
    PoolSettings { min: 0, max: 1, ..PoolSettings::default() }
}

async fn insert(connection: &mut PgConnection, name: &str) -> Result<(), Error> {
    let insert = sqlx::query("insert into chassis_things (name) values ($1)").bind(name);
    statement("insert_thing", insert.execute(connection)).await?;
    Ok(())
}

async fn count(pool: &Pool) -> Result<i64, Error> {
    pool.run("count_things", async |connection: &mut PgConnection| {
        sqlx::query_scalar("select count(*) from chassis_things").fetch_one(connection).await
    })
    .await
}

async fn add(pool: &Pool, names: &[&str]) -> Result<(), Error> {
    pool.transaction("add_things", async |transaction: &mut PgConnection| {
        for name in names {
            insert(transaction, name).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_counted_is_what_is_on_the_wire() {
    let database = Database::fresh().await.unwrap();
    let wire = RoundTrips::before(&database.url()).await.unwrap();
    let pool = pool(&wire.url(), one());
    sqlx::query(TABLE).execute(&mut pool.connect().await.unwrap()).await.unwrap();
    // Once to prepare what the connection will then know.
    add(&pool, &["a", "b"]).await.unwrap();
    count(&pool).await.unwrap();
    drop(wire.take());

    let (things, counted) = request::count_queries(count(&pool)).await;
    assert_eq!((things.unwrap(), counted), (2, 1));
    let (added, counted) = request::count_queries(add(&pool, &["c", "d"])).await;
    added.unwrap();
    assert_eq!(counted, 4, "begin, two statements, commit");
    // Nor is anything asked of a connection that comes back; the liveness probe has one of its own.
    let trips: Vec<_> = wire.take().into_iter().filter(|trip| trip != "a probe").collect();
    assert_eq!(trips.len(), 5, "{trips:?}");
}

#[tokio::test]
async fn an_error_rolls_everything_back_and_names_its_constraint() {
    let database = Database::fresh().await.unwrap();
    let pool = pool(&database.url(), one());
    sqlx::query(TABLE).execute(&mut pool.connect().await.unwrap()).await.unwrap();
    let error = add(&pool, &["a", "b", "a"]).await.unwrap_err();
    assert_eq!(error.constraint(), Some("thing_once"));
    assert_eq!(error.sqlstate().as_deref(), Some("23505"));
    assert_eq!(count(&pool).await.unwrap(), 0);
}

#[tokio::test]
async fn a_full_pool_fails_fast_and_is_overload() {
    let database = Database::fresh().await.unwrap();
    let pool = pool(&database.url(), PoolSettings { acquire: Duration::from_millis(500), ..one() });
    let holder = pool.clone();
    let (held, is_held) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let hold = async |_: &mut PgConnection| {
            held.send(()).unwrap();
            std::future::pending::<Result<(), sqlx::Error>>().await
        };
        holder.run("hold", hold).await
    });
    is_held.await.unwrap();
    let began = Instant::now();
    let error = count(&pool).await.unwrap_err();
    assert!(matches!(error, Error::Busy("test")), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
    let failure = Failure::from(error);
    assert_eq!((failure.code(), failure.reason()), (Code::ResourceExhausted, "OVERLOADED"));
}

/// Transactions of one account wait for one another in the database, and would take others' connections meanwhile.
#[tokio::test]
async fn one_account_leaves_connections_to_the_others() {
    let database = Database::fresh().await.unwrap();
    // Two, of five.
    let settings = PoolSettings { min: 1, max: 5, acquire: Duration::from_millis(500), account_percent: 25, ..one() };
    let pool = pool(&database.url(), settings);
    let [busy, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
    let (held, mut is_held) = tokio::sync::mpsc::unbounded_channel();
    let holders: Vec<_> = (0..8)
        .map(|_| {
            let (pool, held) = (pool.clone(), held.clone());
            tokio::spawn(async move {
                let hold = async |_: &mut PgConnection| {
                    held.send(()).unwrap();
                    std::future::pending::<Result<(), Error>>().await
                };
                pool.transaction_of(busy, "hold", hold).await
            })
        })
        .collect();
    for _ in 0..2 {
        is_held.recv().await.unwrap();
    }
    let nothing = async |_: &mut PgConnection| Ok::<_, Error>(());
    for account in [other, Uuid::from_u128(3)] {
        pool.transaction_of(account, "another", nothing).await.unwrap();
    }
    let ping = async |connection: &mut PgConnection| sqlx::query("select 1").execute(connection).await;
    pool.run("ping", ping).await.unwrap();
    let error = pool.transaction_of(busy, "more", nothing).await.unwrap_err();
    assert!(matches!(error, Error::Busy("test")), "{error:?}");
    assert!(is_held.try_recv().is_err(), "an account has two connections of five at most");
    holders.iter().for_each(tokio::task::JoinHandle::abort);
    // What they waited for is theirs again, though none came to its end.
    let again = async || pool.transaction_of(busy, "again", nothing).await.ok();
    testkit::eventually("its share", Duration::from_secs(5), again).await.unwrap();
}

async fn sleep(pool: &Pool, seconds: f64) -> Result<(), Error> {
    pool.run("sleep", async |connection: &mut PgConnection| {
        sqlx::query("select pg_sleep($1)").bind(seconds).execute(connection).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_statement_ends_at_its_limit_or_at_the_requests_deadline() {
    let database = Database::fresh().await.unwrap();
    let pool = pool(&database.url(), PoolSettings { statement: Duration::from_millis(200), ..one() });
    let began = Instant::now();
    let error = sleep(&pool, 5.0).await.unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    assert_eq!(Failure::from(error).code(), Code::Unavailable);

    let limit = Instant::now() + Duration::from_millis(100);
    let error = deadline::within(limit, sleep(&pool, 5.0)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline), "{error:?}");
    assert_eq!(Failure::from(error).code(), Code::DeadlineExceeded);
    sleep(&pool, 0.0).await.expect("the connection is good again");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_a_bad_url_does_not_repeat_its_password() {
    let url = format!("postgres://rushes@127.0.0.1:{}/rushes", testkit::free_port());
    let error = count(&pool(&url, one())).await.unwrap_err();
    assert_eq!(Failure::from(error).code(), Code::Unavailable);
    let error = Pool::connect_lazy("test", "postgres//u:hunter2@h", &one()).unwrap_err();
    assert!(error.to_string().starts_with("RUSHES_DATABASE_URL") && !format!("{error:?}").contains("hunter2"));
}

/// A pool that waits for a connection and for a statement far longer than for PostgreSQL to answer anything.
fn slow() -> PoolSettings {
    const LONG: Duration = Duration::from_secs(60);
    let (acquire, unresponsive_after) = (Duration::from_secs(10), Duration::from_millis(400));
    PoolSettings { min: 1, max: 2, acquire, statement: LONG, unresponsive_after, ..one() }
}

/// What is done to the way to PostgreSQL.
type Fault = fn(&Proxy);

/// Whether it was refused because PostgreSQL is unresponsive, not for a wait of another kind that ended.
fn is_unresponsive(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.to_string().contains("did not answer"))
}

#[tokio::test]
async fn an_unresponsive_postgresql_is_noticed_in_the_middle_of_work_and_work_goes_on_when_it_answers() {
    let database = Database::fresh().await.unwrap();
    let proxy = Proxy::before_url(&database.url()).await.unwrap();
    let pool = pool(&proxy.url(&database.url()).unwrap(), slow());
    sqlx::query(TABLE).execute(&mut pool.connect().await.unwrap()).await.unwrap();
    let faults: [(&str, Fault); 3] = [
        ("answers do not come", |proxy| proxy.black_hole(Direction::ToClient)),
        ("questions do not arrive", |proxy| proxy.black_hole(Direction::ToServer)),
        ("nobody is there", |proxy| {
            proxy.refuse();
            proxy.reset();
        }),
    ];
    for (name, fault) in faults {
        add(&pool, &[name]).await.unwrap();
        fault(&proxy);
        let (read, write) = tokio::join!(count(&pool), add(&pool, &["not added"]));
        for refused in [read.map(drop), write, count(&pool).await.map(drop)] {
            let refused = refused.unwrap_err();
            assert!(is_unresponsive(&refused) || name == "nobody is there", "{name}: {refused:?}");
            assert_eq!(Failure::from(refused).code(), Code::Unavailable, "{name}");
        }
        proxy.heal();
        testkit::eventually(name, Duration::from_secs(30), async || count(&pool).await.ok()).await.unwrap();
    }
    // Neither place in the pool was lost.
    let held = tokio::join!(pause(&pool), pause(&pool));
    assert!(held.0.is_ok() && held.1.is_ok(), "{held:?}");
}

async fn pause(pool: &Pool) -> Result<(), Error> {
    pool.run("pause", async |connection: &mut PgConnection| {
        sqlx::query("select pg_sleep(1.5)").execute(connection).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn what_takes_long_is_waited_for_while_postgresql_answers() {
    let database = Database::fresh().await.unwrap();
    let pool = pool(&database.url(), PoolSettings { max: 1, ..slow() });
    // The second waits for the one connection all the time, and PostgreSQL answers all the same.
    let (first, second) = tokio::join!(pause(&pool), pause(&pool));
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
}

/// A pool as a service has it, that keeps what it made.
fn kept() -> PoolSettings {
    let unresponsive_after = Duration::from_secs(1);
    PoolSettings { min: 2, max: 2, acquire: Duration::from_secs(5), unresponsive_after, ..one() }
}

async fn execute(url: &str, statements: &[&str]) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for statement in statements {
        sqlx::raw_sql(sqlx::AssertSqlSafe((*statement).to_owned())).execute(&mut connection).await.unwrap();
    }
}

/// A failover as a name or a balancer carries it out: new connections reach the new server, and those to the old one, which takes
/// no writes any more, stay up.
#[tokio::test]
async fn after_a_failover_no_connection_to_the_old_server_is_used_again() {
    let (old, new) = (Postgres::launch().await.unwrap(), Postgres::launch().await.unwrap());
    for server in [&old, &new] {
        execute(&server.url(), &[TABLE]).await;
    }
    let proxy = Proxy::before_url(&old.url()).await.unwrap();
    let pool = pool(&proxy.url(&old.url()).unwrap(), kept());
    let both = tokio::join!(add(&pool, &["a"]), add(&pool, &["b"]));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");

    execute(&old.url(), &["alter system set default_transaction_read_only = on", "select pg_reload_conf()"]).await;
    let refused =
        testkit::eventually("writes are refused", Duration::from_secs(10), async || add(&pool, &["c"]).await.err());
    let refused = refused.await.unwrap();
    assert!(matches!(refused, Error::ReadOnly(_)), "{refused:?}");
    let failure = Failure::from(refused);
    assert_eq!((failure.code(), failure.reason()), (Code::Unavailable, "DEPENDENCY_DOWN"));

    proxy.divert(new.address().to_string());
    let began = Instant::now();
    let added = testkit::eventually("work goes on", Duration::from_secs(10), async || add(&pool, &["d"]).await.ok());
    added.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // The other connection led to the old server as well.
    let both = tokio::join!(add(&pool, &["e"]), add(&pool, &["f"]));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
}

#[tokio::test]
async fn a_standby_answers_no_reads() {
    let database = Database::fresh().await.unwrap();
    let pool = pool(&database.url(), kept());
    sqlx::query(TABLE).execute(&mut pool.connect().await.unwrap()).await.unwrap();
    count(&pool).await.unwrap();
    // A server that says that it follows another one.
    let path = format!("alter database {} set search_path = public, pg_catalog", database.name());
    let follows = "create function public.pg_is_in_recovery() returns boolean language sql as 'select true'";
    execute(&database.url(), &[follows, &path]).await;
    // The probe asks on a connection of its own, which must be made anew to see it.
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    execute(&database.url(), &[end]).await;
    let refused = testkit::eventually("reads are refused", Duration::from_secs(10), async || {
        count(&pool).await.err().filter(is_unresponsive)
    });
    assert_eq!(Failure::from(refused.await.unwrap()).reason(), "DEPENDENCY_DOWN");
    execute(&database.url(), &["drop function public.pg_is_in_recovery()"]).await;
    testkit::eventually("it is promoted", Duration::from_secs(10), async || count(&pool).await.ok()).await.unwrap();
}

#[tokio::test]
async fn a_session_has_its_limits_whatever_a_pooler_drops() {
    let database = Database::fresh().await.unwrap();
    let pool = pool(&database.url(), PoolSettings { statement: Duration::from_millis(1_234), ..one() });
    let read = async |connection: &mut PgConnection| {
        let settings =
            "select current_setting('statement_timeout') || current_setting('idle_in_transaction_session_timeout')";
        sqlx::query_scalar::<_, String>(settings).fetch_one(connection).await
    };
    assert_eq!(pool.run("read", read).await.unwrap(), "1234ms1234ms");
}

/// What lies between may forget a connection that nobody used for a while, and tell neither end.
#[tokio::test]
async fn idle_connections_that_vanished_are_replaced_in_time() {
    let database = Database::fresh().await.unwrap();
    let proxy = Proxy::before_url(&database.url()).await.unwrap();
    let url = proxy.url(&database.url()).unwrap();
    let settings = PoolSettings { acquire: Duration::from_secs(1), ..kept() };
    let pool = pool(&url, settings);
    sqlx::query(TABLE).execute(&mut pool.connect().await.unwrap()).await.unwrap();
    let both = tokio::join!(count(&pool), count(&pool));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    // The connections that are idle now are forgotten; the probe's is not, since it is never idle.
    proxy.forget_idle(Duration::from_millis(1_500));
    tokio::time::sleep(Duration::from_millis(2_600)).await;
    let all = async { (count(&pool).await, tokio::join!(count(&pool), count(&pool))) };
    let (first, both) = tokio::time::timeout(Duration::from_secs(10), all).await.expect("nothing waits for ever");
    assert!(first.is_ok() && both.0.is_ok() && both.1.is_ok(), "{first:?} {both:?}");
}

/// A server that ends sessions which are idle for too long.
#[tokio::test]
async fn sessions_that_the_server_ended_while_idle_are_replaced() {
    let database = Database::fresh().await.unwrap();
    let limit = format!("alter database {} set idle_session_timeout = '1500ms'", database.name());
    execute(&database.url(), &[&limit]).await;
    let pool = pool(&database.url(), kept());
    sqlx::query(TABLE).execute(&mut pool.connect().await.unwrap()).await.unwrap();
    let both = tokio::join!(count(&pool), count(&pool));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    tokio::time::sleep(Duration::from_millis(2_600)).await;
    let both = tokio::join!(count(&pool), add(&pool, &["a"]));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
}

/// Handlers are sent between threads; a pool's futures must be too, with what they borrow.
#[tokio::test]
async fn work_on_a_pool_can_be_spawned() {
    let database = Database::fresh().await.unwrap();
    let pool = pool(&database.url(), one());
    let name = "a".to_owned();
    let spawned = tokio::spawn(async move {
        let name = name.as_str();
        pool.run("echo", async |connection: &mut PgConnection| {
            sqlx::query_scalar::<_, String>("select $1").bind(name).fetch_one(connection).await
        })
        .await
    });
    assert_eq!(spawned.await.unwrap().unwrap(), "a");
}

#[tokio::test]
async fn a_requests_transaction_writes_its_accounts_rows_alone() {
    let database = Database::fresh().await.unwrap();
    let accounts = [Uuid::from_u128(1), Uuid::from_u128(2)];
    for account in accounts {
        execute(&database.url(), &[&format!("insert into accounts (id, display_name) values ('{account}', 'Ada')")])
            .await;
    }
    let wire = RoundTrips::before(&database.url_of(testkit::Service::Dashboard)).await.unwrap();
    let pool = pool(&wire.url(), one());
    // The account is left out on purpose.
    let rename = async |connection: &mut PgConnection| {
        let renamed = sqlx::query("update accounts set display_name = 'Bob'").execute(connection);
        Ok::<_, Error>(statement("rename_accounts", renamed).await?.rows_affected())
    };
    assert_eq!(pool.transaction_of(accounts[0], "rename", rename).await.unwrap(), 1);
    drop(wire.take());
    assert_eq!(pool.transaction_of(accounts[1], "rename", rename).await.unwrap(), 1);
    // The pool asks that of its own accord, once.
    let is_own = |sql: &String| sql != "a probe" && !sql.contains("max_connections");
    let asked: Vec<_> = wire.take().into_iter().filter(is_own).collect();
    assert_eq!(asked.len(), 3, "begin, the update, commit: the account costs no round trip: {asked:?}");
    // What works for all accounts does so on the same connection.
    assert_eq!(pool.transaction("rename_all", rename).await.unwrap(), 2);
    let foreign = async |connection: &mut PgConnection| {
        let added = sqlx::query("insert into accounts (id, display_name) values ($1, 'Eve')").bind(Uuid::from_u128(3));
        statement("add_account", added.execute(connection)).await
    };
    assert!(pool.transaction_of(accounts[0], "add_foreign", foreign).await.is_err());
}
