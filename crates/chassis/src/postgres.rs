//! Pools to PostgreSQL: named pools with their own sizes and time-outs, so that one kind of work cannot starve another.
//!
//! Invariant: every statement that goes through here has a name, a span and a duration, and is counted to the request
//! that made it. A transaction counts its `begin` and `commit` too, because each is a round trip.

mod error;
mod pulse;

use std::{
    future::Future,
    pin::Pin,
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    request::{self, deadline},
    settings::{self, Source},
    telemetry,
};

pub use error::Error;
use pulse::{Pulse, Silent};

/// A statement slower than this is logged.
const SLOW: Duration = Duration::from_millis(200);

/// A connection that was idle this long is tried before it is used; a busier one is trusted.
const TRUSTED: Duration = Duration::from_secs(2);

/// The size and the patience of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Connections kept open even when idle.
    pub min: u32,
    /// Connections at most.
    pub max: u32,
    /// How long to wait for a free connection before failing with `OVERLOADED`.
    pub acquire: Duration,
    /// After which an idle connection beyond `min` is closed.
    pub idle: Duration,
    /// How long PostgreSQL lets one statement run.
    pub statement: Duration,
    /// How long PostgreSQL may say nothing at all before calls that need it are refused. Pools to one database that agree
    /// in it listen together.
    pub silence: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            min: 2,
            max: 20,
            acquire: Duration::from_secs(1),
            idle: Duration::from_secs(30),
            statement: Duration::from_secs(10),
            silence: Duration::from_millis(80),
        }
    }
}

impl PoolSettings {
    /// Reads `RUSHES_DATABASE_UNRESPONSIVE_AFTER`, which is every pool's, and `{prefix}_MIN`, `_MAX`, `_ACQUIRE`, `_IDLE` and `_STATEMENT`, such as `RUSHES_POOL_READ_MAX`; what is
    /// unset keeps its value from `default`.
    ///
    /// # Errors
    /// When one cannot be read, or when the minimum is above the maximum.
    pub fn read(source: &Source, prefix: &str, default: Self) -> Result<Self, settings::Error> {
        let name = |end: &str| format!("{prefix}_{end}");
        let pool = Self {
            min: source.or(&name("MIN"), default.min, "a count of connections")?,
            max: source.or(&name("MAX"), default.max, "a count of connections")?,
            acquire: source.duration(&name("ACQUIRE"), default.acquire, "a wait")?,
            idle: source.duration(&name("IDLE"), default.idle, "a time")?,
            statement: source.duration(&name("STATEMENT"), default.statement, "a time")?,
            silence: source.duration("RUSHES_DATABASE_UNRESPONSIVE_AFTER", default.silence, "a time")?,
        };
        if pool.max == 0 || pool.min > pool.max {
            let what = format!("at least 1 and not below {}", name("MIN"));
            return Err(settings::Error::wrong(&name("MAX"), &what));
        }
        Ok(pool)
    }
}

/// One pool of connections with a name; cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool {
    name: &'static str,
    pool: PgPool,
    load: Arc<Load>,
    pulse: Arc<Pulse>,
    statement: Duration,
}

/// How many want a connection of a pool, and how many have one.
#[derive(Debug, Default)]
struct Load {
    waiting: AtomicUsize,
    held: AtomicUsize,
}

impl Pool {
    /// A pool that connects when it is first used, so that a service starts while PostgreSQL is away.
    ///
    /// # Errors
    /// When the URL cannot be parsed.
    pub fn connect_lazy(name: &'static str, url: &str, settings: &PoolSettings) -> Result<Self, Error> {
        let statement = settings.statement.as_millis().to_string();
        let options = PgConnectOptions::from_str(url)
            .map_err(Error::url)?
            .application_name(&format!("rushes/{name}"))
            .options([
                ("statement_timeout", statement.as_str()),
                ("idle_in_transaction_session_timeout", statement.as_str()),
            ])
            .disable_statement_logging();
        let pulse = Pulse::of(url, &options, settings.silence);
        let pool = PgPoolOptions::new()
            .min_connections(settings.min)
            .max_connections(settings.max)
            .acquire_timeout(settings.acquire)
            .idle_timeout(settings.idle)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > TRUSTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        let pool = Self { name, pool, load: Arc::default(), pulse, statement: settings.statement };
        pool.show();
        Ok(pool)
    }

    /// The pool itself, for migrations and tests; statements through it are neither named nor counted.
    #[must_use]
    pub fn sqlx(&self) -> &PgPool {
        &self.pool
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs one statement, named for its span and metrics, within the request's deadline.
    ///
    /// # Errors
    /// What PostgreSQL or the pool answered, see [`Error`].
    pub async fn run<T, F>(&self, statement: &'static str, work: F) -> Result<T, Error>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    {
        let span = span(statement, self.name);
        let run = self.on(async |connection: &mut PgConnection| {
            request::count_query();
            let began = Instant::now();
            let result = bounded(Box::pin(work(connection))).await;
            record(statement, began, result)
        });
        finish(run.instrument(span.clone()).await, &span)
    }

    /// Runs one statement that belongs to no request and comes too often to be traced.
    ///
    /// # Errors
    /// What PostgreSQL or the pool answered, see [`Error`].
    pub async fn quietly<T, F>(&self, work: F) -> Result<T, Error>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    {
        self.on(async |connection: &mut PgConnection| Ok(Box::pin(work(connection)).await?)).await
    }

    /// Runs `work` between `begin` and `commit`; an error rolls back. Name each statement inside with [`statement`].
    ///
    /// # Errors
    /// What `work` returned, or why the transaction could not begin or commit.
    pub async fn transaction<T, E, F>(&self, name: &'static str, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<Error>,
    {
        let span = span(name, self.name);
        let run = self.on(async |connection: &mut PgConnection| {
            let mut transaction = statement("begin", connection.begin_with(begin())).await?;
            // Dropped on an error of `work`, the transaction rolls back.
            let value = Box::pin(work(&mut transaction)).await?;
            statement("commit", transaction.commit()).await?;
            Ok(value)
        });
        run.instrument(span).await
    }

    /// Closes every connection of the pool once it is free.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Gives `work` a connection, for as long as PostgreSQL answers.
    async fn on<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<Error>,
    {
        let (mut loan, _held) = self.acquire().await?;
        let done =
            self.pulse.during(Box::pin(work(&mut loan.connection))).await.map_err(|silent| self.silent(silent))?;
        if done.is_ok() {
            self.pulse.heard();
        }
        done
    }

    async fn acquire(&self) -> Result<(Loan, Count<'_>), Error> {
        let began = Instant::now();
        let waiting = Count::one(&self.load.waiting);
        let acquired = self.pulse.during(deadline::bound(Box::pin(self.pool.acquire()))).await;
        drop(waiting);
        metrics::histogram!("rushes_postgres_pool_acquire_seconds", "pool" => self.name).record(began.elapsed());
        match acquired.map_err(|silent| self.silent(silent))? {
            Ok(Ok(connection)) => Ok((self.lend(connection), Count::one(&self.load.held))),
            Ok(Err(sqlx::Error::PoolTimedOut)) if self.full() => Err(Error::Busy(self.name)),
            // The pool tries to connect until its patience ends, and then says no more than that it ended.
            Ok(Err(error @ sqlx::Error::PoolTimedOut)) => Err(Error::Unreachable(Arc::new(error))),
            Ok(Err(error)) => Err(error.into()),
            Err(deadline::Expired) => Err(Error::Deadline),
        }
    }

    fn silent(&self, silent: Silent) -> Error {
        metrics::counter!("rushes_postgres_pool_unresponsive_total", "pool" => self.name).increment(1);
        silent.into()
    }

    fn lend(&self, connection: PoolConnection<sqlx::Postgres>) -> Loan {
        Loan { connection, pulse: Arc::clone(&self.pulse), statement: self.statement }
    }

    fn full(&self) -> bool {
        self.load.held.load(Ordering::Relaxed) >= self.pool.options().get_max_connections() as usize
    }

    /// Keeps the pool's gauges current for as long as the pool is open.
    fn show(&self) {
        let pool = self.clone();
        telemetry::on_scrape(move || {
            let open = !pool.pool.is_closed();
            let gauge = |name: &'static str, value: f64| {
                metrics::gauge!(name, "pool" => pool.name).set(if open { value } else { 0.0 });
            };
            gauge("rushes_postgres_pool_size", f64::from(pool.pool.size()));
            gauge("rushes_postgres_pool_idle", pool.pool.num_idle() as f64);
            let waiting = pool.load.waiting.load(Ordering::Relaxed);
            gauge("rushes_postgres_pool_waiting", waiting as f64);
            let max = pool.pool.options().get_max_connections();
            gauge("rushes_postgres_pool_max", f64::from(max));
            open
        });
    }
}

/// Runs one named statement inside a transaction, within the request's deadline.
///
/// # Errors
/// What PostgreSQL answered, see [`Error`].
pub async fn statement<T>(name: &'static str, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    let span = span(name, "");
    let run = async {
        request::count_query();
        let began = Instant::now();
        let result = bounded(Box::pin(work)).await;
        record(name, began, result)
    };
    finish(run.instrument(span.clone()).await, &span)
}

/// Begins a transaction and, in the same round trip, tells it whose trace it belongs to, for the rows that triggers write.
fn begin() -> AssertSqlSafe<String> {
    // A traceparent is hexadecimal digits and dashes, made here.
    let traceparent = telemetry::traceparent().unwrap_or_default();
    AssertSqlSafe(format!("begin; set local rushes.traceparent = '{traceparent}'"))
}

fn span(statement: &'static str, pool: &'static str) -> Span {
    tracing::info_span!(
        "postgres",
        otel.name = statement,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "postgresql",
        db.query.summary = statement,
        rushes.pool = (!pool.is_empty()).then_some(pool),
        error.type = Empty,
    )
}

/// The work comes boxed: each layer that holds a future by value holds it twice, and sqlx's are kilobytes.
async fn bounded<T, F>(work: Pin<Box<F>>) -> Result<T, Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    match deadline::bound(work).await {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::Deadline),
    }
}

fn record<T>(statement: &'static str, began: Instant, result: Result<T, Error>) -> Result<T, Error> {
    let elapsed = began.elapsed();
    let outcome = result.as_ref().map_or_else(Error::kind, |_| "ok");
    metrics::histogram!("rushes_postgres_statement_seconds", "statement" => statement, "outcome" => outcome)
        .record(elapsed);
    if elapsed > SLOW {
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(statement, milliseconds, "slow statement");
    }
    result
}

fn finish<T>(result: Result<T, Error>, span: &Span) -> Result<T, Error> {
    if let Err(error) = &result {
        span.record("error.type", error.kind());
        span.record("otel.status_code", "ERROR");
    }
    result
}

/// A connection on loan from the pool.
///
/// The pool tries each one as it comes back, for as long as that takes, and keeps its place taken; here that ends with the
/// signs of life, so that a server that is gone without a word does not take every place with it.
struct Loan {
    connection: PoolConnection<sqlx::Postgres>,
    pulse: Arc<Pulse>,
    statement: Duration,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let back = self.connection.return_to_pool();
        let (pulse, limit) = (Arc::clone(&self.pulse), self.statement);
        // Without a runtime the future is dropped here, and the connection closed.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { pulse.during(tokio::time::timeout(limit, back)).await });
        }
    }
}

/// One more, for as long as it lives.
struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn one(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
